//! What can be wrong with frames.

use thiserror::Error;

use super::tag::Tag;
use crate::compress::DecompressError;

/// A frame that cannot be taken. The fault of the peer or of the network between; the connection dies (nothing
/// behind a bad frame can be found), the session survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The checksum of a preamble is wrong.
    #[error("a preamble says its checksum is {stated:#010x}, it is {actual:#010x}")]
    PreambleCrc {
        /// What the preamble says.
        stated: u32,
        /// What its bytes give.
        actual: u32,
    },
    /// There is no such tag.
    #[error("a frame with the unknown tag {0}")]
    UnknownTag(u8),
    /// A frame has 1 to 4 segments.
    #[error("a {tag} frame of {count} segments")]
    SegmentCount {
        /// The frame.
        tag: Tag,
        /// How many it says it has.
        count: u8,
    },
    /// Trailing empty segments are not counted, so the last of several is never empty.
    #[error("the last of {count} segments of a {tag} frame is empty")]
    EmptyLastSegment {
        /// The frame.
        tag: Tag,
        /// How many it says it has.
        count: u8,
    },
    /// A segment is longer than is taken at this point of the connection.
    #[error("segment {segment} of a {tag} frame has {len} bytes, at most {limit} are taken here")]
    SegmentTooLong {
        /// The frame.
        tag: Tag,
        /// Which segment, from 0.
        segment: u8,
        /// Its length in bytes.
        len: u32,
        /// The limit in bytes.
        limit: u32,
    },
    /// A message header is not 41 bytes long.
    #[error("a message header of {len} bytes")]
    HeaderLength {
        /// Its length, decompressed if it was compressed.
        len: u32,
    },
    /// The checksum of a segment is wrong.
    #[error("segment {segment} of a {tag} frame says its checksum is {stated:#010x}, it is {actual:#010x}")]
    SegmentCrc {
        /// The frame.
        tag: Tag,
        /// Which segment, from 0.
        segment: u8,
        /// What the frame says.
        stated: u32,
        /// What the bytes give.
        actual: u32,
    },
    /// Neither of the two words that say whether a frame is complete.
    #[error("a {tag} frame ends with the status {status:#04x}")]
    LateStatus {
        /// The frame.
        tag: Tag,
        /// The byte.
        status: u8,
    },
    /// AES-GCM says the bytes are not the peer's.
    #[error("a frame does not authenticate")]
    Authentication,
    /// The peer went on after its nonces ran out.
    #[error("the peer ran out of nonces")]
    NoncesExhausted,
    /// A compressed frame although nobody agreed on compression.
    #[error("a compressed {tag} frame on a connection without compression")]
    CompressedUnasked {
        /// The frame.
        tag: Tag,
    },
    /// A segment does not decompress.
    #[error("segment {segment} of a {tag} frame: {error}")]
    Decompress {
        /// The frame.
        tag: Tag,
        /// Which segment, from 0.
        segment: u8,
        /// Why.
        error: DecompressError,
    },
}

/// A frame that cannot be sent. Nothing of it was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The counter of the nonces came round to where it began: the key must not be used again. The connection
    /// must be replaced; nobody's fault.
    #[error("out of nonces")]
    NoncesExhausted,
    /// A segment is longer than peers take. The user's fault; the connection lives.
    #[error("segment {segment} has {len} bytes, peers take at most {limit}")]
    SegmentTooLong {
        /// Which segment, from 0.
        segment: u8,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// No segments or more than four.
    #[error("a frame of {count} segments")]
    SegmentCount {
        /// How many were given.
        count: usize,
    },
    /// The cipher refused, which it does for lengths that cannot occur. The environment's fault; the connection
    /// dies.
    #[error("the cipher failed")]
    Cipher,
}

/// The connection secret is too short to take keys from. The peer's fault (it agreed on the secure mode); the
/// connection dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a connection secret of {len} bytes; the secure mode needs 40")]
pub struct SecretTooShort {
    /// Its length in bytes.
    pub len: usize,
}

/// More bytes before the signature than are kept for it. The peer's fault; the connection dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the handshake took more than {limit} bytes")]
pub struct TranscriptOverflow {
    /// The limit in bytes.
    pub limit: usize,
}
