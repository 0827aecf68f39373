//! What is on the wire, byte for byte (Linux, `fs/dlm/dlm_internal.h`).
//!
//! A [`Frame`] is what a header with its length delimits. It is a message or a recovery message as it is, the same
//! with a number in an OPTS envelope, or an acknowledgement:
//!
//! ```text
//!  header 16:  version u32 | lockspace or number u32 | node u32 | length u16 | command u8 | pad u8
//!
//!  MSG    header | 18 words, 72 bytes | name or value block
//!  RCOM   header | type, result u32 | id, seq, seq of the answered u64 | body
//!  OPTS   header | next command u8, pad, length of the options u16, pad u32 | options | a whole MSG, RCOM or FIN
//!  ACK    header, with the number that is expected next
//! ```
//!
//! All integers are little-endian, but for the lengths of names in a list of them. A decoder never reads past what it
//! was given, never allocates for a count before the bytes for so many are there, and never panics.

mod error;
mod flags;
mod frame;
mod header;
mod ids;
mod message;
mod mode;
mod name;
mod rcom;
mod reader;
#[cfg(test)]
mod tests;

pub use error::DecodeError;
pub use flags::{CallbackFlags, DistributedFlags, LockFlags, RecoveryStatus, StatusFlags};
pub use frame::{Body, Frame, Inner, OPTS_BYTES, Options};
pub use header::{Command, FRAME_BYTES_MAX, HEADER_BYTES, Header, INNER_BYTES_MAX, Version};
pub use ids::{LockId, LockspaceId, NodeId};
pub use message::{MESSAGE_BYTES, Message, MessageKind};
pub use mode::{Mode, Queue};
pub use name::{NAME_BYTES_MAX, Name, NameError};
pub use rcom::{
    NAMES_BYTES_MAX, RCOM_BYTES, RCOM_LOCK_BYTES, Rcom, RcomBody, RcomKind, RcomLock, SLOTS_MAX, Slot,
    StatusReply,
};
