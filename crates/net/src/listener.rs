//! Taking connections in.

use crate::Address;
use crate::socket::{Socket, avoid_pacing, canonical};
use socket2::SockRef;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

/// Connections that the kernel completes before they are taken in; it cuts this down to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;
/// Pause after the system had no descriptor or memory for a newcomer: it stays in the kernel's queue meanwhile.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The name could not be looked up, or has no address.
    #[error("cannot look up {address}: {source}")]
    Resolve {
        /// What was looked up.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The address is taken or not ours, or the port needs a privilege.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
}

/// A listening socket. Dropping it stops listening; a Unix socket's file goes with it.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    address: Address,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: OwnFile },
}

/// The file of a Unix socket, removed with its listener unless another has taken its place.
#[derive(Debug)]
struct OwnFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Listener {
    /// Listens on `address`. Port 0 takes any free one: [`Listener::address`] tells which.
    ///
    /// The file that a dead process left of a Unix socket is taken over.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(address: &Address) -> Result<Self, BindError> {
        let failed = |source| BindError::Bind { address: address.clone(), source };
        match address {
            Address::Ip(at) => Self::tcp(*at).map_err(failed),
            Address::Unix(path) => Self::unix(path).await.map_err(failed),
            Address::Name { host, port } => {
                let resolve = |source| BindError::Resolve { address: address.clone(), source };
                let mut found = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(resolve)?;
                let first = found.next().ok_or_else(|| resolve(io::Error::other("it has no address")))?;
                Self::tcp(first).map_err(failed)
            }
        }
    }

    fn tcp(at: std::net::SocketAddr) -> io::Result<Self> {
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A server that is restarted must not wait for the old connections' last packets.
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        if at.ip().to_canonical().is_loopback() {
            // Those that are accepted inherit it.
            avoid_pacing(&SockRef::from(&socket));
        }
        let listener = socket.listen(BACKLOG)?;
        let address = Address::Ip(listener.local_addr()?);
        Ok(Self { kind: Kind::Tcp(listener), address })
    }

    async fn unix(path: &Path) -> io::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(taken) if taken.kind() == io::ErrorKind::AddrInUse => {
                if !is_abandoned(path).await {
                    return Err(taken);
                }
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            other => other?,
        };
        let file = OwnFile { path: path.to_owned(), identity: identity(path) };
        Ok(Self { kind: Kind::Unix { listener, _file: file }, address: Address::Unix(path.to_owned()) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection, and where it comes from. Cancel-safe.
    ///
    /// Never fails: a newcomer that is gone before it is taken in is skipped, and when the system is out of
    /// descriptors or memory the next one is waited for a little later.
    pub async fn accept(&self) -> (Socket, Address) {
        loop {
            match self.accept_once().await {
                Ok(accepted) => return accepted,
                Err(error) if is_newcomers(&error) => {
                    tracing::debug!(address = %self.address, %error, "a newcomer left");
                }
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "cannot take a connection in");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    async fn accept_once(&self) -> io::Result<(Socket, Address)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((Socket::tcp(stream)?, Address::Ip(canonical(from))))
            }
            Kind::Unix { listener, .. } => {
                let (stream, from) = listener.accept().await?;
                let from = Address::Unix(from.as_pathname().map(Into::into).unwrap_or_default());
                Ok((Socket::unix(stream)?, from))
            }
        }
    }
}

/// The newcomer is gone; nothing is wrong at this end.
fn is_newcomers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
    [ConnectionAborted, ConnectionReset, InvalidInput, NotConnected].contains(&error.kind())
}

/// A socket's file that nobody listens on.
async fn is_abandoned(path: &Path) -> bool {
    let socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    socket && UnixStream::connect(path).await.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if self.identity.is_some()
            && identity(&self.path) == self.identity
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "the socket's file stays");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Else BBR, where it is the system's choice, has set its pacing up before this crate sees the connection.
    #[tokio::test]
    async fn what_a_listener_within_this_machine_accepts_was_never_paced() {
        let listener = Listener::bind(&Address::Ip("127.0.0.1:0".parse().expect("an address"))).await;
        let Kind::Tcp(listener) = listener.expect("a port").kind else { panic!("a TCP address") };
        let _dialled =
            std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (accepted, _) = listener.accept().await.expect("dialled");
        assert_eq!(SockRef::from(&accepted).tcp_congestion().expect("TCP")[..4], *b"reno");
    }
}
