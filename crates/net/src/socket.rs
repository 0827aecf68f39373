//! A connected socket of either kind, and how its buffers are set.

use crate::Address;
use crate::path::PathWatch;
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What the kernel may hold for sending of a connection that stays on this machine, in bytes (Linux doubles the number
/// for its own bookkeeping): both ends then work in the cache. The receiving side is the system's to tune: it can grow
/// no larger than what is sent into it, and bounded to the same size it is full most of the time, which costs up to
/// half of the CPU in windows that close and open. Connections to other machines keep the system's own tuning
/// altogether, because their buffers must hold what is under way.
pub const LOCAL_SEND_BUFFER_BYTES: usize = 256 << 10;
/// Within this machine there is no congestion, and what paces itself by the time that packets take (BBR) mistakes a
/// busy processor for a slow line. Every Linux has this one and lets everybody use it.
const LOCAL_CONGESTION_CONTROL: &[u8] = b"reno";
/// Bytes that the kernel may hold of a connection to another machine without having sent them once. What waits longer
/// waits in the session, where it can still be revoked and is counted.
pub const NOT_SENT_BYTES_MAX: u32 = 256 << 10;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP over IPv4 or IPv6.
    Tcp(Tcp),
    /// A Unix socket.
    Unix(UnixStream),
}

/// A TCP connection: a [`TcpStream`], and, if this end has dialled it, what it takes to notice that this machine has
/// moved to another network since. Reading then fails with [`io::ErrorKind::AddrNotAvailable`] and [`crate::Moved`].
#[derive(Debug)]
pub struct Tcp {
    stream: TcpStream,
    watch: Option<PathWatch>,
}

impl Deref for Tcp {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

impl DerefMut for Tcp {
    fn deref_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

impl Tcp {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match (&mut self.watch, read.is_pending()) {
            (Some(watch), true) => Poll::Ready(Err(ready!(watch.poll(cx)))),
            (Some(watch), false) => {
                watch.handle_read(buffer.filled().len() - before);
                read
            }
            (None, _) => read,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(watch) = &mut self.watch {
            watch.handle_write(cx);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

impl Socket {
    /// A TCP connection that came in, set up for messages: no delay, buffers as the constants of this crate say.
    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        if is_local(&stream)? {
            socket.set_send_buffer_size(LOCAL_SEND_BUFFER_BYTES)?;
            avoid_pacing(&socket);
        } else {
            limit_unsent(&socket);
        }
        Ok(Self::Tcp(Tcp { stream, watch: None }))
    }

    /// One that this end has dialled.
    pub(crate) fn dialled(stream: TcpStream) -> io::Result<Self> {
        // What stays on this machine is not left by moving it.
        let watch = if is_local(&stream)? {
            None
        } else {
            Some(PathWatch::new(stream.local_addr()?.ip(), stream.peer_addr()?))
        };
        let mut socket = Self::tcp(stream)?;
        if let Self::Tcp(tcp) = &mut socket {
            tcp.watch = watch;
        }
        Ok(socket)
    }

    pub(crate) fn unix(stream: UnixStream) -> io::Result<Self> {
        SockRef::from(&stream).set_send_buffer_size(LOCAL_SEND_BUFFER_BYTES)?;
        Ok(Self::Unix(stream))
    }

    /// The other end; an empty Unix path for one without a name.
    ///
    /// # Errors
    /// The connection is gone already.
    pub fn peer_address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(stream) => Ok(Address::Ip(canonical(stream.peer_addr()?))),
            Self::Unix(stream) => {
                let address = stream.peer_addr()?;
                Ok(Address::Unix(address.as_pathname().map(Into::into).unwrap_or_default()))
            }
        }
    }

    /// From now on this end's closing of the connection is a reset, and the peer is told that something was lost: for
    /// peers that repeat what was under way only then (Linux's DLM). What is unsent is thrown away. Says nothing on a
    /// Unix socket, which has no such thing.
    ///
    /// # Errors
    /// The connection is gone already.
    pub fn reset_on_drop(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => SockRef::from(&stream.stream).set_linger(Some(Duration::ZERO)),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Lets the system end the connection when the peer has not taken any bytes for `silence`, or does not answer when it
    /// is asked at about half that time: for dialects that have no heartbeat of their own, and replay what was wrongly
    /// given up. Says nothing on a Unix socket, whose peer cannot vanish without a word.
    ///
    /// # Errors
    /// The connection is gone already.
    pub fn give_up_after(&self, silence: Duration) -> io::Result<()> {
        let Self::Tcp(stream) = self else { return Ok(()) };
        let socket = SockRef::from(&stream.stream);
        let probe = silence / 4;
        let keepalive = TcpKeepalive::new().with_time(silence / 2).with_interval(probe);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            socket.set_tcp_user_timeout(Some(silence))?;
            socket.set_tcp_keepalive(&keepalive.with_retries(2))
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        socket.set_tcp_keepalive(&keepalive)
    }

    /// Reads what is there into `buffer`: as much as one system call gives.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = match self {
            Self::Tcp(tcp) => tcp.poll_read(cx, &mut buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
    }

    /// Writes what one system call takes.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_write(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => Pin::new(&mut tcp.stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A listener of both families sees IPv4 peers under IPv6 addresses; people and rules know them by the others.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    // An address without a mapping stays as it is, with its scope.
    let ip = address.ip().to_canonical();
    if ip == address.ip() { address } else { SocketAddr::new(ip, address.port()) }
}

/// Both ends are on this machine.
fn is_local(stream: &TcpStream) -> io::Result<bool> {
    let (ours, theirs) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(ours.ip() == theirs.ip() || theirs.ip().to_canonical().is_loopback())
}

/// A help, not a need. To be asked for before the socket is connected or listens, where it is known by then that the peer
/// will be on this machine: a socket that BBR has once had goes on pacing under whatever follows it, with a timer for
/// every few segments.
pub(crate) fn avoid_pacing(socket: &SockRef<'_>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket.set_tcp_congestion(LOCAL_CONGESTION_CONTROL) {
        tracing::debug!(%error, "the system's congestion control stays");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (socket, LOCAL_CONGESTION_CONTROL);
}

/// A help, not a need: where the system does not know the option, the kernel's buffers are larger.
fn limit_unsent(socket: &SockRef<'_>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX) {
        tracing::debug!(%error, "unsent bytes stay unlimited");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
}

#[cfg(test)]
mod ending {
    use super::*;
    use crate::{Listener, connect};
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_connection_that_shall_be_reset_is_reset_and_another_ends_in_order() {
        for resets in [true, false] {
            let listener = Listener::bind(&Address::Ip("127.0.0.1:0".parse().expect("an address"))).await;
            let listener = listener.expect("a port");
            let dialled = connect(listener.address(), Duration::from_secs(5));
            let (dialled, (accepted, _)) = tokio::join!(dialled, listener.accept());
            let (dialled, _) = dialled.expect("a connection");
            dialled.give_up_after(Duration::from_secs(8)).expect("a connection");
            if resets {
                dialled.reset_on_drop().expect("a connection");
            }
            drop(dialled);
            let Socket::Tcp(mut accepted) = accepted else { panic!("TCP was dialled") };
            let end = accepted.read(&mut [0; 1]).await;
            match end {
                Ok(0) => assert!(!resets),
                Err(error) => assert!(resets && error.kind() == io::ErrorKind::ConnectionReset, "{error}"),
                Ok(other) => panic!("{other} bytes out of nothing"),
            }
        }
    }
}
