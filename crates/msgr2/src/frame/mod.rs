//! Frames: the unit on the wire (msgr2 specification, "Frame format").
//!
//! A frame is a preamble of 32 bytes (tag, number and lengths of its segments, flags, checksum), one to four segments,
//! and in most cases an epilogue with a status and checksums. Control frames have one segment; messages have up to
//! four: header, front, middle and data, of which trailing empty ones are left out. There are four modes, from the
//! revision (by the banners) and the mode that the server chose (in AUTH_DONE):
//!
//! | | msgr2.0 ([`Revision::V0`]) | msgr2.1 ([`Revision::V1`]) |
//! | --- | --- | --- |
//! | crc | preamble, segments, epilogue of 17 bytes (status, four checksums) | preamble; first segment and its checksum, unless it is empty; if there are more: those, epilogue of 13 bytes (status, three checksums) |
//! | secure | one AES-128-GCM message: preamble, segments and epilogue padded to 16 bytes | up to three: preamble with the first 48 bytes of the first segment; the rest of that; the other segments and the epilogue |
//!
//! Segment checksums begin with all ones, that of the preamble with 0; neither is inverted. msgr2.0 has two weaknesses
//! that no receiver can repair: in crc mode no checksum covers the status that says whether a frame was aborted, and in
//! secure mode the lengths must be believed before they are authentic. Here they are believed within [`Limits`], and
//! nothing else of such a frame is looked at before all of it is authentic.

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
pub use transcript::{TRANSCRIPT_ACCEPTED_BYTES_MAX, TRANSCRIPT_BYTES_MAX};
