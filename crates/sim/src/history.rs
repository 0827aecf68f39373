//! What the applications of a run saw, and nothing of what went on below them.
//!
//! The checker knows only this list. Its order is the order in which things happened; times are for the reader.

use outlast_session::{Instant, LossReason};
use std::fmt;

/// One session of one life of one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Party {
    /// The process.
    pub process: usize,
    /// Which of its lives: 0, and one more after each restart.
    pub incarnation: u32,
    /// The session, by its number in that life.
    pub session: u64,
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}.{}/s{}", self.process, self.incarnation, self.session)
    }
}

/// A message, by who sent it. It travels with the message, as its transaction id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Whose it is.
    pub from: Party,
    /// Its place among the messages of this party, in order of sending, from 0.
    pub serial: u32,
}

impl Name {
    /// As a transaction id: 8 bits of process, 8 of incarnation, 16 of session, 32 of serial.
    #[must_use]
    pub fn to_tid(self) -> u64 {
        let Party { process, incarnation, session } = self.from;
        ((process as u64 & 0xff) << 56)
            | (u64::from(incarnation & 0xff) << 48)
            | ((session & 0xffff) << 32)
            | u64::from(self.serial)
    }

    /// From a transaction id.
    #[must_use]
    pub const fn from_tid(tid: u64) -> Self {
        let from = Party {
            process: (tid >> 56) as usize,
            incarnation: (tid >> 48) as u32 & 0xff,
            session: (tid >> 32) & 0xffff,
        };
        Self { from, serial: tid as u32 }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.from, self.serial)
    }
}

/// How a receipt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The peer holds it.
    Acknowledged,
    /// It was taken back.
    Revoked,
    /// It went with its session.
    Lost(LossReason),
    /// There are no receipts.
    NotTracked,
    /// The session does not know the message.
    Unknown,
}

/// Bounds on what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Messages.
    pub messages_max: usize,
    /// Bytes; one message that is larger may be held alone.
    pub bytes_max: usize,
}

/// Something that an application saw or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session began, by the wish of this end or of the other.
    Opened {
        /// Which.
        at: Party,
        /// What it promises: false means that nothing is lost.
        lossy: bool,
        /// What was not acknowledged goes on to a new session of the same peer, who may have had it in the old one.
        carries_over: bool,
        /// What it may keep of what was sent.
        outbox: Bounds,
        /// What may wait for its application.
        inbound: Bounds,
    },
    /// A message was handed in.
    Sent {
        /// Which.
        message: Name,
        /// Its class.
        priority: u8,
        /// What it counts against the bounds of the sender, in bytes.
        cost: usize,
        /// Its payload, in bytes.
        payload: usize,
        /// What its payload adds up to.
        digest: u64,
    },
    /// It waits for the application of the other end. `message` is found out when it is taken.
    Queued {
        /// Where.
        at: Party,
        /// Which; None: nobody ever looked.
        message: Option<Name>,
    },
    /// The application of the other end took it.
    Delivered {
        /// Where.
        at: Party,
        /// Which.
        message: Name,
        /// What its payload adds up to.
        digest: u64,
    },
    /// A receipt ended.
    Receipt {
        /// Whose.
        message: Name,
        /// How.
        outcome: Outcome,
    },
    /// A message was to be taken back.
    RevokeAsked {
        /// Which.
        message: Name,
    },
    /// It was, or not.
    RevokeAnswered {
        /// Which.
        message: Name,
        /// Whether.
        taken: bool,
    },
    /// The session said that the peer has forgotten it.
    Reset {
        /// Which.
        at: Party,
        /// Messages lost with it.
        lost: usize,
    },
    /// The session said that it is over.
    Ended {
        /// Which.
        at: Party,
    },
    /// A process died.
    Died {
        /// Which.
        process: usize,
        /// Which of its lives.
        incarnation: u32,
    },
    /// A connection holds more unwritten bytes than any before it.
    Unwritten {
        /// Whose.
        process: usize,
        /// Bytes.
        held: usize,
        /// What it may hold.
        limit: usize,
    },
    /// The faults have stopped and all the time that it may take has passed.
    Settled,
    /// How many sessions two equals have with each other then.
    Between {
        /// One end.
        process: usize,
        /// The other.
        peer: usize,
        /// Sessions of the one with the other that are not over.
        live: usize,
    },
}

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// World time.
    pub at: Instant,
    /// What.
    pub event: Event,
}

/// A quick sum over a payload: not against an adversary, only against mixing things up.
#[must_use]
pub fn digest(parts: [&[u8]; 3]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |word: u64| sum = (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    for part in parts {
        add(part.len() as u64);
        let mut words = part.chunks_exact(8);
        for word in &mut words {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            add(u64::from_le_bytes(bytes));
        }
        for byte in words.remainder() {
            add(u64::from(*byte));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_travels_as_a_transaction_id() {
        let from = Party { process: 3, incarnation: 2, session: 517 };
        let name = Name { from, serial: 70_000 };
        assert_eq!(Name::from_tid(name.to_tid()), name);
    }

    #[test]
    fn a_digest_tells_order_length_and_place_apart() {
        let one = digest([b"abcdefgh12345678", b"", b""]);
        assert_ne!(one, digest([b"12345678abcdefgh", b"", b""]));
        assert_ne!(one, digest([b"", b"abcdefgh12345678", b""]));
        assert_ne!(digest([b"a", b"", b""]), digest([b"a\0", b"", b""]));
    }
}
