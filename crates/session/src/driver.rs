//! What drivers run: the trait between a transport and a dialect.
//!
//! There is one trait a kind of transport, and today one kind: a stream of bytes. Datagrams and RDMA work requests
//! will have their own, since neither has "the next bytes".

use std::io::IoSlice;

use crate::time::Instant;

/// One connection of a stream dialect, as the driver of its socket sees it.
///
/// A driver repeats, whatever woke it:
///
/// ```text
///  socket readable:  buffer = poll_read(); read; handle_read(n)      the session is not touched, nothing is locked
///  in any case:      sync(session)                                   short: the only time the session is held
///  socket writable:  n = poll_write(slices); write; handle_written(n)   again without the session
///  timer:            poll_timeout() passed: handle_timeout, then sync and write
/// ```
///
/// Every `handle_*` that returns an error ends the connection: what is still in [`StreamChannel::poll_write`] (a word
/// of farewell to the peer) should be written if the socket takes it at once, then the socket is closed. What that
/// means for the session is decided by its owner, not by the driver.
///
/// After `handle_*` or `sync`, ask `poll_write` and `poll_timeout` again: earlier answers no longer hold.
pub trait StreamChannel {
    /// What outlives this connection.
    type Session: ?Sized;

    /// Why this connection ended; it says whose fault it is and what dies.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Where the next bytes from the socket go: a buffer of bounded size. Empty: reading is paused, because the user
    /// is behind or because this connection is about to end; ask again after the next `sync`.
    fn poll_read(&mut self) -> &mut [u8];

    /// `len` bytes were put at the start of the buffer that `poll_read` returned last.
    ///
    /// # Errors
    ///
    /// The bytes are not what the dialect allows here.
    fn handle_read(&mut self, len: usize, now: Instant) -> Result<(), Self::Error>;

    /// The peer closed its direction of the stream. No stream dialect goes on after that, so there is always an error.
    fn handle_eof(&mut self, now: Instant) -> Self::Error;

    /// Exchanges with the session: delivers what was decoded, takes acknowledgements, pulls messages for writing.
    /// The only method that sees the session, so that a driver can share sessions between threads and hold one briefly.
    ///
    /// # Errors
    ///
    /// What was decoded does not fit the session, or the session is no longer this connection's.
    fn sync(&mut self, session: &mut Self::Session, now: Instant) -> Result<(), Self::Error>;

    /// Fills `slices` from the front with what is to be written next and returns how many it filled; 0 means that
    /// there is nothing to write. None of them is empty.
    fn poll_write<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize;

    /// The socket took the first `len` bytes of what `poll_write` showed last.
    fn handle_written(&mut self, len: usize, now: Instant);

    /// When to call [`StreamChannel::handle_timeout`], should nothing happen before. `None`: nothing waits for time,
    /// which no state may say that waits for the peer.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The time of [`StreamChannel::poll_timeout`] came; call `sync` next. Too early a call does nothing.
    ///
    /// # Errors
    ///
    /// A deadline passed: the peer is gone or too slow.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::Error>;
}
