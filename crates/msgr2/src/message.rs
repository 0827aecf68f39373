//! Messages: what the user hands in, and what comes out at the other end.

use bytes::Bytes;
use outlast_session::{Payload, Priority};
use std::fmt;

/// Ceph's priorities (`src/include/msgr.h`): a strictly higher one is sent first, order is kept within one.
pub mod priority {
    /// Background work.
    pub const LOW: u8 = 64;
    /// What a message has unless told otherwise.
    pub const DEFAULT: u8 = 127;
    /// Ahead of ordinary messages.
    pub const HIGH: u8 = 196;
    /// Ahead of everything.
    pub const HIGHEST: u8 = 255;
}

/// What a message costs beside its payload when the bounds of a queue are counted, in bytes.
pub const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// A message to send. Cloning is cheap: the three parts are shared, never copied, and never change once handed in.
///
/// Of the header fields of msgr2 (spec, "Message exchange"), number and acknowledgement are the session's business and
/// are not here; `data_off` only tells the receiver how to align its buffer.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// What the message is: the application's own numbering (`CEPH_MSG_*` or `MSG_*` towards Ceph).
    pub kind: u16,
    /// Transaction: the reply to a request carries the request's.
    pub tid: u64,
    /// Higher is sent first; see [`priority`].
    pub priority: u8,
    /// Version of the payload's encoding.
    pub version: u16,
    /// Oldest version whose decoder can read this payload; 0: unknown.
    pub compat_version: u16,
    /// Offset of `data` in the sender's file or device, for the alignment of the receiver's buffer.
    pub data_off: u16,
    /// First part, up to 16 MiB.
    pub front: Bytes,
    /// Second part, up to 16 MiB; rarely used.
    pub middle: Bytes,
    /// Bulk part, up to 64 MiB: can land in a buffer that its receiver chose.
    pub data: Bytes,
}

impl Message {
    /// An empty message of this kind with default priority.
    #[must_use]
    pub fn new(kind: u16) -> Self {
        Self { kind, priority: priority::DEFAULT, version: 1, compat_version: 1, ..Self::default() }
    }

    /// Sets the first part.
    #[must_use]
    pub fn front(mut self, front: impl Into<Bytes>) -> Self {
        self.front = front.into();
        self
    }

    /// Sets the second part.
    #[must_use]
    pub fn middle(mut self, middle: impl Into<Bytes>) -> Self {
        self.middle = middle.into();
        self
    }

    /// Sets the bulk part.
    #[must_use]
    pub fn data(mut self, data: impl Into<Bytes>) -> Self {
        self.data = data.into();
        self
    }

    /// Sets the transaction id.
    #[must_use]
    pub fn tid(mut self, tid: u64) -> Self {
        self.tid = tid;
        self
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Bytes of payload in all three parts.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.front.len() + self.middle.len() + self.data.len()
    }
}

/// Lengths alone: what a message says is nobody's business who reads a log, and can be 96 MiB.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("tid", &self.tid)
            .field("priority", &self.priority)
            .field("front_bytes", &self.front.len())
            .field("middle_bytes", &self.middle.len())
            .field("data_bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

impl Payload for Message {
    fn cost(&self) -> usize {
        self.payload_len() + MESSAGE_OVERHEAD_BYTES
    }

    fn priority(&self) -> Priority {
        Priority(self.priority)
    }
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Its number on the wire, from 1.
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_a_log_does_not_show_what_it_says() {
        let message = Message::new(7).front(&b"secret"[..]).middle(&b"secret"[..]).data(vec![b'x'; 1 << 20]);
        let shown = format!("{:?}", Received { message, seq: 1 });
        assert!(!shown.contains("secret") && shown.len() < 200, "{shown}");
        assert!(shown.contains("1048576"), "{shown}");
    }
}
