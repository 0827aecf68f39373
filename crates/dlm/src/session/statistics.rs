//! What happened, in numbers.

/// A copy of a session's counters. Those that count only grow, over resets of the session too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// The number that the next new message gets.
    pub sent_number: u32,
    /// Everything before this number is acknowledged by the peer.
    pub acked_number: u32,
    /// The number that is expected from the peer.
    pub expected_number: u32,
    /// Messages sent and not acknowledged.
    pub unacknowledged: usize,
    /// Messages that wait for a connection.
    pub waiting: usize,
    /// Connections that carry the session now.
    pub channels: usize,
    /// Messages written for the first time.
    pub messages_sent: u64,
    /// Messages written again after a lost connection.
    pub replayed: u64,
    /// What was written without a number.
    pub unnumbered_sent: u64,
    /// Acknowledgements written.
    pub acks_sent: u64,
    /// Frames that came, of all kinds.
    pub frames_received: u64,
    /// Messages with a number that were delivered.
    pub messages_received: u64,
    /// Messages that had been delivered before, dropped.
    pub duplicates_dropped: u64,
    /// Messages that came before those they follow, dropped; they come again.
    pub early_dropped: u64,
    /// Acknowledgements that came.
    pub acks_received: u64,
    /// Messages that the peer acknowledged.
    pub messages_acked: u64,
    /// Connections that carried the session.
    pub connections: u64,
    /// Connections that came to carry the session beside another.
    pub crossings: u64,
    /// Connections lost.
    pub connections_lost: u64,
    /// Times that the session ended.
    pub ends: u64,
    /// Messages lost with the session.
    pub lost: u64,
}
