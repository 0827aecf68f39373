//! As much of msgr2 as it takes to see that a capture holds whole frames, and which.
//!
//! Deliberately not the decoder of `outlast-msgr2`: the captures judge that one.
//! Layout: Ceph's `doc/dev/msgr2.rst` and `src/msg/async/frames_v2.h`.

/// What both ends send first: the prefix, the length of the rest, and the features they support and require.
const BANNER_PREFIX: &[u8] = b"ceph v2\n";
const BANNER_BYTES: usize = 26;
const PREAMBLE_BYTES: usize = 32;
/// Revision 1: a status and three checksums, when there is more than one segment.
const EPILOGUE_BYTES: usize = 13;
/// Revision 0: a status and four checksums, always.
const EPILOGUE_BYTES_REVISION_0: usize = 17;
const FLAG_COMPRESSED: u8 = 1;
/// Where the banner says what its sender supports, and the bit there of revision 1.
const SUPPORTED_AT: usize = 10;
const SUPPORTS_REVISION_1: u8 = 1;

/// The later revision that both ends of a connection support: msgr2.0 or msgr2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revision {
    V0,
    V1,
}

impl Revision {
    pub(crate) fn of(client: &[u8], server: &[u8]) -> Revision {
        let supports =
            |stream: &[u8]| stream.get(SUPPORTED_AT).is_some_and(|bits| bits & SUPPORTS_REVISION_1 != 0);
        if supports(client) && supports(server) { Revision::V1 } else { Revision::V0 }
    }
}

/// A frame in crc mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameSeen {
    pub(crate) tag: u8,
    pub(crate) compressed: bool,
    /// Where it ends in the stream.
    pub(crate) end: usize,
}

/// The frames of a stream, up to the first that is not complete, or not readable because it is encrypted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) frames: Vec<FrameSeen>,
    pub(crate) rest: Rest,
}

/// What follows the last readable frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    HalfAFrame,
    /// Bytes that are no preamble: everything that a secure connection sends after AUTH_DONE.
    NoPreamble,
}

/// Reads the banner and the frames that follow it; `None` if the stream does not begin with a banner.
pub(crate) fn read(stream: &[u8], revision: Revision) -> Option<Stream> {
    if !stream.starts_with(BANNER_PREFIX) || stream.get(8..10)? != [16, 0] || stream.len() < BANNER_BYTES {
        return None;
    }
    let mut frames = Vec::new();
    let mut at = BANNER_BYTES;
    loop {
        if at == stream.len() {
            return Some(Stream { frames, rest: Rest::Nothing });
        }
        let Some(preamble) = stream.get(at..at + PREAMBLE_BYTES) else {
            return Some(Stream { frames, rest: Rest::HalfAFrame });
        };
        let Some((frame_bytes, compressed)) = frame_bytes(preamble, revision) else {
            return Some(Stream { frames, rest: Rest::NoPreamble });
        };
        at += frame_bytes;
        if at > stream.len() {
            return Some(Stream { frames, rest: Rest::HalfAFrame });
        }
        frames.push(FrameSeen { tag: preamble[0], compressed, end: at });
    }
}

/// The length of the frame on the wire, and whether it is compressed; `None` if this is no preamble.
fn frame_bytes(preamble: &[u8], revision: Revision) -> Option<(usize, bool)> {
    let crc = u32::from_le_bytes(preamble[28..].try_into().ok()?);
    let segments = usize::from(preamble[1]);
    if crc != crc32c(0, &preamble[..28]) || !(1..=4).contains(&segments) {
        return None;
    }
    let length = |index: usize| {
        let at = 2 + 6 * index;
        preamble[at..at + 4].try_into().map(u32::from_le_bytes).ok().map(|length| length as usize)
    };
    let first = length(0)?;
    let mut bytes = PREAMBLE_BYTES + first;
    for index in 1..segments {
        bytes += length(index)?;
    }
    bytes += match revision {
        Revision::V0 => EPILOGUE_BYTES_REVISION_0,
        Revision::V1 => 4 * usize::from(first > 0) + EPILOGUE_BYTES * usize::from(segments > 1),
    };
    Some((bytes, preamble[26] & FLAG_COMPRESSED != 0))
}

/// CRC-32C without the final inversion, bit by bit: a few thousand preambles do not need a table.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82F6_3B78;
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (REVERSED_POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis_without_inversion() {
        // The check value of CRC-32C is 0xE3069283, with inversion before and after.
        assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn another_banner_is_no_stream() {
        assert_eq!(read(b"ceph v027 and then some more of the older protocol", Revision::V1), None);
    }
}
