//! What the user's messages must say about themselves, and how they are named and end.

use core::fmt;

/// The class of a message. A higher one is numbered before a lower one (strictly, so a busy class can starve those
/// below it); within one class the order of pushing is kept.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Priority(pub u8);

/// What an outbox must know about a message.
pub trait Payload {
    /// How many bytes this message counts against [`crate::OutboxLimits::bytes_max`]: what it keeps in memory
    /// until it is acknowledged. Asked once, when the message is pushed.
    fn cost(&self) -> usize;

    /// The class of this message. Asked once, when the message is pushed.
    fn priority(&self) -> Priority;
}

/// Names a message towards its sender, before it has a number and after.
///
/// A number cannot do that: it is given only when the message is written, so that what is more urgent can overtake
/// and what is revoked leaves no gap. An id from another outbox means nothing here.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageId {
    /// Counts the times that everything outstanding was lost ([`crate::Outbox::lose_all`]).
    pub(crate) generation: u32,
    pub(crate) priority: Priority,
    /// Counts the messages of one class within one generation, from 0.
    pub(crate) index: u64,
}

impl MessageId {
    /// The class of the message.
    pub const fn priority(self) -> Priority {
        self.priority
    }

    /// How often the outbox had lost everything when the message was pushed.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.generation, self.priority.0, self.index)
    }
}

/// What a session promises about a message once its connection is lost.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Delivery {
    /// Kept until the peer acknowledges it, sent again after a lost connection, delivered exactly once and in order.
    Lossless,
    /// At most once: nothing is kept once it was pulled for writing, and there are no receipts
    /// ([`ReceiptStatus::NotTracked`]).
    Lossy,
}

/// Why messages without an acknowledgement were given up.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum LossReason {
    /// The peer no longer knows the session: it restarted, or threw the session away.
    Reset,
    /// The session was without a connection for longer than its lifetime.
    Expired,
    /// The session was closed at this end.
    Closed,
    /// The session was closed by the peer.
    PeerClosed,
    /// The peer does not let us in: identity, key or features.
    Refused,
    /// The peer broke the protocol in a way that no new connection can cure.
    PeerFault,
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "the peer no longer knows the session",
            Self::Expired => "the session expired without a connection",
            Self::Closed => "the session was closed at this end",
            Self::PeerClosed => "the session was closed by the peer",
            Self::Refused => "the peer refused the session",
            Self::PeerFault => "the peer broke the protocol",
        })
    }
}

/// Where a message is on its way to its one end.
///
/// ```text
///            push               the peer holds it
///   (user) -------> Pending ------------------------> Acknowledged
///                      |  \
///              revoke  |   \  lose_all
///                      v    v
///                 Revoked   Lost(reason)
/// ```
///
/// The three ends are final. `Acknowledged` means that the message is queued at the receiver, not that it was
/// processed there. `Lost` means that nobody knows: the peer may hold it and its acknowledgement died on the way.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum ReceiptStatus {
    /// Waiting to be written, or written and not acknowledged yet.
    Pending,
    /// The peer holds it.
    Acknowledged,
    /// Taken back by the sender; the peer never gets it.
    Revoked,
    /// Given up together with the session's other outstanding messages.
    Lost(LossReason),
    /// Lossy delivery ([`Delivery::Lossy`]) has no receipts: this message ends without a word.
    NotTracked,
    /// Not an id of this outbox, or one that ended so long ago that how is no longer remembered
    /// ([`crate::PAST_GENERATIONS_MAX`], [`crate::REVOCATIONS_REMEMBERED_MAX`]).
    Unknown,
}

impl ReceiptStatus {
    /// Whether this answer will never change.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending => false,
            Self::Acknowledged | Self::Revoked | Self::Lost(_) | Self::NotTracked | Self::Unknown => true,
        }
    }
}
