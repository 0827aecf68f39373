//! Opening a connection.

use crate::Address;
use crate::path::departure;
use crate::socket::{Socket, avoid_pacing};
use socket2::SockRef;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, UnixStream};
use tokio::task::JoinSet;

/// A name with several addresses: the next one is tried after this long without an answer, or as soon as the one
/// before has failed; the first that answers is taken (RFC 8305, which recommends this time).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried; a name with more is a mistake or an attack.
const ADDRESSES_PER_NAME_MAX: usize = 16;

/// Why no connection could be opened. The environment's fault, or that of whoever wrote the address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name could not be looked up.
    #[error("cannot look up {address}: {source}")]
    Resolve {
        /// What was looked up.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The name has no address.
    #[error("{address} has no address")]
    NoAddress {
        /// What was looked up.
        address: Address,
    },
    /// Nobody answered there.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address that failed last.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// Neither an answer nor an error came in time.
    #[error("no answer from {address} within {within:?}")]
    TimedOut {
        /// What was dialled.
        address: Address,
        /// How long it was tried.
        within: Duration,
    },
}

/// Opens a connection to `address`, within `within` in all. Returns the socket and the address that answered.
///
/// Cancel-safe: dropping the future closes whatever was being opened.
///
/// # Errors
/// The last thing that failed.
pub async fn connect(address: &Address, within: Duration) -> Result<(Socket, Address), ConnectError> {
    match tokio::time::timeout(within, open(address)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut { address: address.clone(), within }),
    }
}

/// As [`connect`], from this address of the machine: for peers that know each other by address.
///
/// Cancel-safe: dropping the future closes what was being opened.
///
/// # Errors
/// As [`connect`]; also if the machine does not have the address.
pub async fn connect_from(from: IpAddr, to: SocketAddr, within: Duration) -> Result<Socket, ConnectError> {
    let address = Address::Ip(to);
    match tokio::time::timeout(within, open_tcp(Some(from), to)).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(source)) => Err(ConnectError::Connect { address, source }),
        Err(_) => Err(ConnectError::TimedOut { address, within }),
    }
}

async fn open(address: &Address) -> Result<(Socket, Address), ConnectError> {
    let failed = |address: &Address| {
        let address = address.clone();
        move |source| ConnectError::Connect { address, source }
    };
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(failed(address))?;
            Ok((Socket::unix(stream).map_err(failed(address))?, address.clone()))
        }
        Address::Ip(to) => Ok((open_tcp(None, *to).await.map_err(failed(address))?, address.clone())),
        Address::Name { host, port } => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await;
            let found = found.map_err(|source| ConnectError::Resolve { address: address.clone(), source })?;
            race(address, interleave(found)).await
        }
    }
}

/// IPv6 and IPv4 in turn, beginning with what the system put first.
fn interleave(found: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let all: Vec<_> = found.take(ADDRESSES_PER_NAME_MAX).collect();
    let v6_first = all.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        all.into_iter().partition(|a| a.is_ipv6() == v6_first);
    let mut order = VecDeque::with_capacity(first.len() + second.len());
    while !(first.is_empty() && second.is_empty()) {
        order.extend(first.pop_front());
        order.extend(second.pop_front());
    }
    order
}

async fn race(name: &Address, mut waiting: VecDeque<SocketAddr>) -> Result<(Socket, Address), ConnectError> {
    let mut attempts = JoinSet::new();
    let mut last = ConnectError::NoAddress { address: name.clone() };
    loop {
        match waiting.pop_front() {
            Some(to) => {
                attempts.spawn(async move { (to, open_tcp(None, to).await) });
            }
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        // With nothing left to start there is nothing to hurry for.
        let answer = if waiting.is_empty() {
            attempts.join_next().await
        } else {
            tokio::time::timeout(ATTEMPT_DELAY, attempts.join_next()).await.unwrap_or(None)
        };
        match answer {
            Some(Ok((to, Ok(socket)))) => return Ok((socket, Address::Ip(to))),
            Some(Ok((to, Err(source)))) => last = ConnectError::Connect { address: Address::Ip(to), source },
            Some(Err(broken)) => {
                last = ConnectError::Connect { address: name.clone(), source: io::Error::other(broken) };
            }
            None => {}
        }
    }
}

/// A socket that is about to be connected.
fn prepared(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    if to.ip().to_canonical().is_loopback() {
        avoid_pacing(&SockRef::from(&socket));
    }
    Ok(socket)
}

async fn open_tcp(from: Option<IpAddr>, to: SocketAddr) -> io::Result<Socket> {
    let socket = prepared(from, to)?;
    let stream = tokio::select! {
        stream = socket.connect(to) => stream?,
        // Whatever was answered would be answered to an address that is gone.
        error = departure(to) => return Err(error),
    };
    Socket::dialled(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_what_stays_within_this_machine_is_taken_off_the_systems_congestion_control() {
        let of = |to: &str| {
            let socket = prepared(None, to.parse().expect("an address")).expect("a socket");
            SockRef::from(&socket).tcp_congestion().expect("TCP")
        };
        let usual = SockRef::from(&TcpSocket::new_v4().expect("a socket")).tcp_congestion().expect("TCP");
        for here in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(of(here)[..4], *b"reno", "{here}");
        }
        // An address for documentation (RFC 5737).
        assert_eq!(of("192.0.2.1:1"), usual);
    }

    #[test]
    fn families_take_turns() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let found = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"].map(parse);
        let order = interleave(found.into_iter());
        assert_eq!(order, ["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"].map(parse));
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_says_so() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = Address::Ip(listener.local_addr().expect("its address"));
        drop(listener);
        let error = connect(&address, Duration::from_secs(5)).await.expect_err("nobody is there");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(matches!(error, ConnectError::Connect { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_peer_sees_the_address_that_was_dialled_from() {
        let listener = crate::Listener::bind(&Address::Ip("127.0.0.1:0".parse().expect("an address"))).await;
        let listener = listener.expect("a port");
        let to = listener.address().ip().expect("an address");
        let from = "127.0.0.77".parse().expect("an address");
        let dialled = connect_from(from, to, Duration::from_secs(5));
        let (socket, (_, seen)) = tokio::join!(dialled, listener.accept());
        assert!(socket.is_ok());
        assert_eq!(seen.ip().map(|seen| seen.ip()), Some(from));
        // An address for documentation (RFC 5737).
        let foreign =
            connect_from("192.0.2.1".parse().expect("an address"), to, Duration::from_secs(5)).await;
        assert!(matches!(foreign, Err(ConnectError::Connect { .. })), "{foreign:?}");
    }

    #[tokio::test]
    async fn the_address_of_a_name_that_answers_is_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let name = Address::Name { host: "localhost".into(), port };
        let (_socket, to) = connect(&name, Duration::from_secs(5)).await.expect("localhost answers");
        assert_eq!(to.ip().map(|a| a.port()), Some(port));
    }
}
