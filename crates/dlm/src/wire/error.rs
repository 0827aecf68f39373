//! Why bytes are no frame.

use thiserror::Error;

/// What a peer sent is no frame of this protocol. The peer's fault; the connection dies, and with its replay the
/// session may go on over the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A header names a length that no frame has.
    #[error("a frame of {length} bytes: it must have {min} to {max}")]
    Length {
        /// What the header says, in bytes.
        length: usize,
        /// The least for this kind of frame.
        min: usize,
        /// [`super::FRAME_BYTES_MAX`], or what the envelope leaves.
        max: usize,
    },
    /// The bytes end before the fields that belong there.
    #[error("{what} needs {needed} bytes and {left} are left")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Its size in bytes.
        needed: usize,
        /// What there is.
        left: usize,
    },
    /// Another protocol, or a version that nobody speaks today.
    #[error("version {0:#010x} is neither 3.1 nor 3.2")]
    Version(u32),
    /// No such command, or not one that can be here.
    #[error("command {0} does not belong here")]
    Command(u8),
    /// An envelope announces another command than its content has.
    #[error("the envelope announces command {announced} and holds {found}")]
    NextCommand {
        /// In the envelope.
        announced: u8,
        /// In the header inside.
        found: u8,
    },
    /// The frame inside an envelope has another sender than the envelope.
    #[error("the envelope comes from node {outer} and its content from node {inner}")]
    Sender {
        /// In the envelope.
        outer: u32,
        /// In the header inside.
        inner: u32,
    },
    /// No such kind of message.
    #[error("there is no message of type {0}")]
    MessageKind(u32),
    /// No such kind of recovery message.
    #[error("there is no recovery message of type {0}")]
    RcomKind(u32),
    /// No lock mode.
    #[error("{0} is no lock mode")]
    Mode(i32),
    /// No queue of a resource.
    #[error("{0} is no state of a lock")]
    Queue(u32),
    /// The name of a resource is empty or longer than [`super::NAME_BYTES_MAX`].
    #[error("a resource name of {0} bytes")]
    NameLength(usize),
    /// A list of names without its end.
    #[error("a list of names has no end")]
    NamesUnterminated,
}
