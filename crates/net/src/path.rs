//! Whether this machine has moved away from the path that a connection runs over.
//!
//! A laptop that changes from one network to another has another address afterwards. Its TCP connections keep the old
//! one, and no answer finds the way to it any more; nobody tells them. Asking the peer and waiting for it takes long,
//! and has to: a link may be slow, a disk of the peer busy. But this end can see for itself that it has moved: the
//! system's routes give a new connection to the same peer another local address than this one has.

use socket2::{Domain, Socket, Type};
use std::future::Future as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How often a dialled connection looks whether it has been left, as long as something is to be expected of the peer.
pub const PATH_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// So many intervals without a byte come before that. A connection over which something comes is in use, whatever
/// the routes are for new ones: a VPN came up, or an IPv6 privacy address had its day.
const SILENT_INTERVALS: u8 = 2;

/// An interval with at least so many bytes belongs to a stream, whose end is worth a look even if nothing was asked for
/// it. Much more than the answer to a keepalive.
const STREAM_BYTES_MIN: usize = 4 << 10;

/// The local address that a new connection to `peer` would have; an error if there is no way to it. Nothing is sent.
pub(crate) fn source_towards(peer: SocketAddr) -> io::Result<IpAddr> {
    let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, None)?;
    socket.connect(&peer.into())?;
    let local = socket.local_addr()?.as_socket();
    local.map(|address| address.ip()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// This machine has moved to another network: a new connection to the same peer would come from another address. What
/// the connection's socket fails with then, as the inner error of an [`io::ErrorKind::AddrNotAvailable`]. Nobody's fault
/// but the environment's; the connection dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this machine has moved from {from} to {to}")]
pub struct Moved {
    /// The connection's local address.
    pub from: IpAddr,
    /// What it would be now.
    pub to: IpAddr,
}

impl Moved {
    /// What `error` says about that, if it does.
    #[must_use]
    pub fn in_error(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// Says that this machine has moved. Not when there is no way at all: the old address may come back with the network,
/// and nothing better can be had before that.
fn moved(local: IpAddr, peer: SocketAddr) -> Option<io::Error> {
    let to = source_towards(peer).ok().filter(|now| *now != local)?;
    Some(io::Error::new(io::ErrorKind::AddrNotAvailable, Moved { from: local, to }))
}

/// Waits until this machine has another address towards `peer` than it has now. For ever, if it has none now.
pub(crate) async fn departure(peer: SocketAddr) -> io::Error {
    let Ok(local) = source_towards(peer) else { return std::future::pending().await };
    loop {
        tokio::time::sleep(PATH_CHECK_INTERVAL).await;
        if let Some(error) = moved(local, peer) {
            return error;
        }
    }
}

/// What was heard, in intervals of the timer, so that no clock is read for it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Silence {
    /// Something was written after the last byte that came, or waits to be.
    waiting: bool,
    /// Bytes that came in this interval.
    heard: usize,
    /// The last interval in which something came belonged to a stream: it has stopped since, or come to its end.
    streaming: bool,
    /// Intervals without a byte.
    intervals: u8,
}

/// What an interval's end asks for.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Nothing is expected of the peer: look again after the next write.
    Rest,
    /// Look after another interval.
    Later,
    /// See whether this machine has moved.
    Now,
}

impl Silence {
    fn handle_read(&mut self, bytes: usize) {
        self.waiting = false;
        self.heard = self.heard.saturating_add(bytes);
    }

    fn handle_interval(&mut self) -> Look {
        let heard = std::mem::take(&mut self.heard);
        if heard > 0 {
            self.streaming = heard >= STREAM_BYTES_MIN;
            self.intervals = 0;
            return Look::Later;
        }
        if !self.waiting && !self.streaming {
            *self = Self::default();
            return Look::Rest;
        }
        self.intervals = self.intervals.saturating_add(1);
        if self.intervals < SILENT_INTERVALS { Look::Later } else { Look::Now }
    }
}

/// Watches over one connection that this end has dialled. Not over one that came in: it cannot be dialled again from
/// here, and its local address was the peer's choice.
#[derive(Debug)]
pub(crate) struct PathWatch {
    local: IpAddr,
    peer: SocketAddr,
    silence: Silence,
    timer: Pin<Box<Sleep>>,
    armed: bool,
}

impl PathWatch {
    pub(crate) fn new(local: IpAddr, peer: SocketAddr) -> Self {
        let timer = Box::pin(tokio::time::sleep(PATH_CHECK_INTERVAL));
        Self { local, peer, silence: Silence::default(), timer, armed: false }
    }

    pub(crate) fn handle_read(&mut self, bytes: usize) {
        self.silence.handle_read(bytes);
    }

    /// Something was written, or the socket is full: an answer is due, or that it empties.
    pub(crate) fn handle_write(&mut self, cx: &mut Context<'_>) {
        self.silence.waiting = true;
        if !self.armed {
            self.arm(cx);
        }
    }

    fn arm(&mut self, cx: &mut Context<'_>) {
        self.timer.as_mut().reset(Instant::now() + PATH_CHECK_INTERVAL);
        // Pending, as its time lies ahead: it wakes the task that drives the connection, which then tries to read.
        self.armed = self.timer.as_mut().poll(cx).is_pending();
    }

    /// Nothing can be read now: ready when that will stay so.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.armed || self.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.armed = false;
        match self.silence.handle_interval() {
            Look::Rest => return Poll::Pending,
            Look::Later => {}
            Look::Now => {
                if let Some(error) = moved(self.local, self.peer) {
                    return Poll::Ready(error);
                }
            }
        }
        self.arm(cx);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_this_machine_begins_where_it_ends() {
        for peer in ["127.0.0.1:9", "[::1]:9"] {
            let peer: SocketAddr = peer.parse().expect("an address");
            // A machine may have no IPv6.
            if let Ok(source) = source_towards(peer) {
                assert_eq!(source, peer.ip());
                assert!(moved(source, peer).is_none());
            }
        }
        let (peer, elsewhere) = ("127.0.0.1:9".parse().expect("an address"), IpAddr::from([192, 0, 2, 1]));
        let error = moved(elsewhere, peer).expect("another address");
        assert_eq!(error.to_string(), "this machine has moved from 192.0.2.1 to 127.0.0.1");
        let to = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(Moved::in_error(&error), Some(Moved { from: elsewhere, to }));
        assert_eq!(Moved::in_error(&io::ErrorKind::AddrNotAvailable.into()), None);
    }

    #[test]
    fn only_a_silence_in_which_an_answer_is_due_is_looked_into() {
        let mut silence = Silence::default();
        assert_eq!(silence.handle_interval(), Look::Rest, "nothing was said");

        silence.waiting = true;
        let looks = [(); 4].map(|()| silence.handle_interval());
        assert_eq!(looks, [Look::Later, Look::Now, Look::Now, Look::Now]);

        silence.handle_read(1);
        silence.waiting = true;
        let looks = [(); 3].map(|()| silence.handle_interval());
        assert_eq!(looks, [Look::Later, Look::Later, Look::Now], "it is counted from the last byte");

        silence.handle_read(1);
        let looks = [(); 2].map(|()| silence.handle_interval());
        assert_eq!(looks, [Look::Later, Look::Rest], "that was the answer");
    }

    #[test]
    fn a_stream_that_stops_is_looked_into() {
        let mut silence = Silence { waiting: true, ..Silence::default() };
        silence.handle_read(STREAM_BYTES_MIN);
        let looks = [(); 4].map(|()| silence.handle_interval());
        assert_eq!(looks, [Look::Later, Look::Later, Look::Now, Look::Now]);

        silence.waiting = true;
        silence.handle_interval();
        silence.handle_read(1);
        let looks = [(); 2].map(|()| silence.handle_interval());
        assert_eq!(looks, [Look::Later, Look::Rest], "it had come to its end: the peer is there");
    }
}
