//! Frames: the unit on the wire.

mod cipher;
mod crc;
mod encoder;
mod error;
mod out;
mod preamble;
mod tag;
mod transcript;

pub use cipher::{Opener, Sealer, Side, secure_pair};
pub use encoder::{FrameEncoder, Segment};
pub use error::{EncodeError, FrameError, SecretTooShort, TranscriptOverflow};
pub use out::{Abort, FrameMark, OutBuf, REFERENCE_BYTES_MIN};
pub use preamble::{Lengths, Limits, Revision};
pub use tag::Tag;
pub use transcript::TRANSCRIPT_BYTES_MAX;
