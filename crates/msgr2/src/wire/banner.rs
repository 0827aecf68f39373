//! What both sides send first, before any frame (msgr2 specification, "Banner").

use thiserror::Error;

use super::reader::Reader;

/// How a banner begins.
pub const BANNER_PREFIX: &[u8; 8] = b"ceph v2\n";

/// The prefix and the 16-bit length of the payload.
pub const BANNER_PREFIX_BYTES: usize = 10;

/// The longest payload taken. Today's has 16 bytes and bytes behind them are to be ignored; this leaves room for
/// 30 more words and keeps a stranger from making us wait for 64 KiB.
pub const BANNER_PAYLOAD_BYTES_MAX: usize = 256;

/// The two feature words.
const PAYLOAD_BYTES: usize = 16;

/// How the banner of the protocol before msgr2 begins.
const MSGR1_PREFIX: &[u8] = b"ceph v0";

/// Feature bit: frames are those of msgr2.1. Holds when both sides set it; nothing confirms it.
pub const FEATURE_REVISION_1: u64 = 1;

/// Feature bit: compression can be negotiated. When both sides set it the negotiation takes place even if
/// neither wants it.
pub const FEATURE_COMPRESSION: u64 = 2;

/// Why the peer's first bytes are no banner that can be talked to. The peer's fault (or the user's, who dialled
/// something else); the connection dies and another attempt would meet the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BannerError {
    /// The peer speaks the old protocol on this port.
    #[error("the peer speaks msgr1")]
    Msgr1,
    /// The peer is no Ceph messenger.
    #[error("the peer does not begin with a msgr2 banner")]
    NotCeph,
    /// The payload cannot hold the two feature words.
    #[error("a banner payload of {len} bytes is too short")]
    PayloadTooShort {
        /// Its length in bytes.
        len: usize,
    },
    /// The payload is longer than [`BANNER_PAYLOAD_BYTES_MAX`].
    #[error("a banner payload of {len} bytes is too long")]
    PayloadTooLong {
        /// Its length in bytes.
        len: usize,
    },
}

/// The features of msgr2 itself; a namespace apart from the feature bits in the ident frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Banner {
    /// What the sender can do.
    pub supported: u64,
    /// What it insists on.
    pub required: u64,
}

impl Banner {
    /// The whole banner.
    #[must_use]
    pub fn encode(&self) -> [u8; BANNER_PREFIX_BYTES + PAYLOAD_BYTES] {
        let mut out = [0; BANNER_PREFIX_BYTES + PAYLOAD_BYTES];
        out[..8].copy_from_slice(BANNER_PREFIX);
        out[8] = PAYLOAD_BYTES as u8;
        out[10..18].copy_from_slice(&self.supported.to_le_bytes());
        out[18..26].copy_from_slice(&self.required.to_le_bytes());
        out
    }

    /// From the first ten bytes: how long the payload is.
    ///
    /// # Errors
    /// Every [`BannerError`].
    pub fn payload_len(prefix: &[u8; BANNER_PREFIX_BYTES]) -> Result<usize, BannerError> {
        if !prefix.starts_with(BANNER_PREFIX) {
            let old = prefix.starts_with(MSGR1_PREFIX);
            return Err(if old { BannerError::Msgr1 } else { BannerError::NotCeph });
        }
        let len = usize::from(u16::from_le_bytes([prefix[8], prefix[9]]));
        if len < PAYLOAD_BYTES {
            Err(BannerError::PayloadTooShort { len })
        } else if len > BANNER_PAYLOAD_BYTES_MAX {
            Err(BannerError::PayloadTooLong { len })
        } else {
            Ok(len)
        }
    }

    /// Reads the payload. Bytes behind the two words are ignored.
    ///
    /// # Errors
    /// [`BannerError::PayloadTooShort`].
    pub fn decode_payload(payload: &[u8]) -> Result<Self, BannerError> {
        let too_short = |_| BannerError::PayloadTooShort { len: payload.len() };
        let mut reader = Reader::new(payload);
        let supported = reader.u64("supported features").map_err(too_short)?;
        let required = reader.u64("required features").map_err(too_short)?;
        Ok(Self { supported, required })
    }
}
