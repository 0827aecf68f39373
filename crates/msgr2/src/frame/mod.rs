//! Frames: the unit on the wire.

mod cipher;
mod crc;
mod decoder;
mod encoder;
mod error;
mod out;
mod preamble;
mod tag;
mod transcript;

#[cfg(test)]
mod tests;

pub use cipher::{Opener, Sealer, Side, secure_pair};
pub use decoder::{AdmitAll, FrameDecoder, Incoming, Landing, MessageFrame};
pub use encoder::{FrameEncoder, Segment};
pub use error::{EncodeError, FrameError, SecretTooShort, TranscriptOverflow};
pub use out::{Abort, FrameMark, OutBuf, REFERENCE_BYTES_MIN};
pub use preamble::{Lengths, Limits, Revision};
pub use tag::Tag;
pub use transcript::TRANSCRIPT_BYTES_MAX;
