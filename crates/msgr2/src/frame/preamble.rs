//! The first 32 bytes of every frame, and the arithmetic of what follows them.

use super::crc;
use super::error::FrameError;
use super::tag::Tag;
use crate::wire::MESSAGE_HEADER_BYTES;

/// The length of a preamble.
pub(super) const PREAMBLE_BYTES: usize = 32;
/// The most segments of a frame.
pub(super) const SEGMENTS_MAX: usize = 4;
/// In msgr2.1's secure mode, the room behind the preamble for the beginning of the first segment.
pub(super) const INLINE_BYTES: usize = 48;
/// Preamble, inline area and tag: the first message of msgr2.1's secure mode.
pub(super) const FIRST_BLOCK_BYTES: usize = PREAMBLE_BYTES + INLINE_BYTES + super::cipher::TAG_BYTES;
/// Status and four checksums.
pub(super) const EPILOGUE_CRC_V0_BYTES: usize = 17;
/// Status and three checksums.
pub(super) const EPILOGUE_CRC_V1_BYTES: usize = 13;
/// Status and padding.
pub(super) const EPILOGUE_SECURE_BYTES: usize = 16;
/// The checksum behind the first segment.
pub(super) const CRC_BYTES: usize = 4;

/// The alignment that headers, fronts, middles and control payloads carry: a hint for receive buffers, no padding.
pub(super) const ALIGNMENT_DEFAULT: u16 = 8;
/// The alignment that data carry.
pub(super) const ALIGNMENT_DATA: u16 = 4096;

/// In the flags: the segments are compressed.
const FLAG_COMPRESSED: u8 = 1;

/// msgr2.0's status: the frame was aborted. No checksum covers it.
pub(super) const LATE_FLAG_ABORTED_V0: u8 = 1;
/// The bits of msgr2.1's status that say whether the frame is complete; the others are reserved.
const LATE_STATUS_MASK_V1: u8 = 0x0f;
/// msgr2.1's status of an aborted frame.
pub(super) const LATE_STATUS_ABORTED_V1: u8 = 0x01;
/// msgr2.1's status of a complete frame.
pub(super) const LATE_STATUS_COMPLETE_V1: u8 = 0x0e;

/// The longest compressed message header taken. It has 41 bytes of its own and each method adds less than 32.
const HEADER_COMPRESSED_BYTES_MAX: u32 = 128;

/// Which of the two framings both sides use; both begin with the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// msgr2.0.
    V0,
    /// msgr2.1: both banners had the bit.
    V1,
}

/// What is taken from the peer, and how much memory a connection claims for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest payload of a control frame in bytes.
    pub control_bytes_max: u32,
    /// The longest front of a message in bytes.
    pub front_bytes_max: u32,
    /// The longest middle of a message in bytes.
    pub middle_bytes_max: u32,
    /// The longest data of a message in bytes.
    pub data_bytes_max: u32,
    /// The size of the read buffer. Frames larger than it get a buffer of their own.
    pub read_buffer_bytes: usize,
}

/// Of a front and a middle, and of a control payload that is encoded: what the Linux client takes
/// (`net/ceph/messenger_v2.c`).
pub(super) const SEGMENT_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Of data: what the Linux client takes.
pub(super) const DATA_BYTES_MAX: u32 = 64 * 1024 * 1024;

impl Limits {
    /// For the peer that was dialled. The payloads of an honest handshake have a few hundred bytes; a monitor's answer
    /// holds a ticket for each service, with the client's capabilities in each: a few KiB. The buffer begins at 2 KiB
    /// and grows with what really came.
    pub const BEFORE_AUTHENTICATION: Self = Self {
        control_bytes_max: 16 * 1024,
        front_bytes_max: 0,
        middle_bytes_max: 0,
        data_bytes_max: 0,
        read_buffer_bytes: 2 * 1024,
    };

    /// For a stranger who dialled us, as long as it has no session. The longest payload of an honest one is an
    /// AUTH_REQUEST with one ticket: up to 274 bytes from clients of Ceph 16 to 20 whose capabilities are short, and as
    /// much more as they are longer.
    pub const ACCEPTING: Self = Self { control_bytes_max: 8 * 1024, ..Self::BEFORE_AUTHENTICATION };

    /// For an authenticated peer with a session. Of messages what the Linux client takes; of control frames 64 KiB, where
    /// none that may come now (keepalives, acknowledgements, the end) has more than 8 bytes. The buffer holds many small messages at each read
    /// and stays in a core's second-level cache.
    pub const READY: Self = Self {
        control_bytes_max: 64 * 1024,
        front_bytes_max: SEGMENT_BYTES_MAX,
        middle_bytes_max: SEGMENT_BYTES_MAX,
        data_bytes_max: DATA_BYTES_MAX,
        read_buffer_bytes: 128 * 1024,
    };
}

/// The lengths of the parts of a message on the wire: padding apart, but after compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lengths {
    /// Bytes of the front.
    pub front: u32,
    /// Bytes of the middle.
    pub middle: u32,
    /// Bytes of the data.
    pub data: u32,
}

impl Lengths {
    /// All together, in bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::from(self.front) + u64::from(self.middle) + u64::from(self.data)
    }
}

/// `len` rounded up to whole blocks of the cipher. Lengths are checked against limits first.
#[inline]
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(16)
}

/// A preamble that makes sense. Lengths from the wire are within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preamble {
    pub(super) tag: Tag,
    /// 1 to 4.
    pub(super) count: u8,
    pub(super) compressed: bool,
    /// 0 behind the last one.
    pub(super) lens: [u32; SEGMENTS_MAX],
}

impl Preamble {
    #[inline]
    pub(super) fn encode(&self, alignments: &[u16; SEGMENTS_MAX], out: &mut [u8; PREAMBLE_BYTES]) {
        let mut bytes = [0; crc::PREAMBLE_COVERED_BYTES];
        bytes[0] = self.tag.code();
        bytes[1] = self.count;
        for index in 0..usize::from(self.count).min(SEGMENTS_MAX) {
            bytes[2 + 6 * index..6 + 6 * index].copy_from_slice(&self.lens[index].to_le_bytes());
            bytes[6 + 6 * index..8 + 6 * index].copy_from_slice(&alignments[index].to_le_bytes());
        }
        bytes[26] = if self.compressed { FLAG_COMPRESSED } else { 0 };
        out[..28].copy_from_slice(&bytes);
        out[28..].copy_from_slice(&crc::preamble(&bytes).to_le_bytes());
    }

    /// Checks the checksum of a preamble.
    #[inline]
    pub(super) fn check_crc(bytes: &[u8; PREAMBLE_BYTES]) -> Result<(), FrameError> {
        let (covered, stated) = bytes.split_at(crc::PREAMBLE_COVERED_BYTES);
        let mut array = [0; crc::PREAMBLE_COVERED_BYTES];
        array.copy_from_slice(covered);
        let actual = crc::preamble(&array);
        let stated = u32::from_le_bytes([stated[0], stated[1], stated[2], stated[3]]);
        if stated == actual { Ok(()) } else { Err(FrameError::PreambleCrc { stated, actual }) }
    }

    /// Reads a preamble without looking at its checksum. Reserved bits, alignments and the fields of segments that
    /// are not there are ignored.
    #[inline]
    pub(super) fn decode(bytes: &[u8; PREAMBLE_BYTES], limits: &Limits) -> Result<Self, FrameError> {
        let tag = Tag::from_wire(bytes[0]).ok_or(FrameError::UnknownTag(bytes[0]))?;
        let count = bytes[1];
        if count == 0 || usize::from(count) > SEGMENTS_MAX || (count > 1 && tag != Tag::Message) {
            return Err(FrameError::SegmentCount { tag, count });
        }
        let compressed = bytes[26] & FLAG_COMPRESSED != 0;
        let mut lens = [0; SEGMENTS_MAX];
        for (index, len) in lens.iter_mut().enumerate().take(usize::from(count)) {
            let at = 2 + 6 * index;
            *len = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        }
        if count > 1 && lens[usize::from(count) - 1] == 0 {
            return Err(FrameError::EmptyLastSegment { tag, count });
        }
        let limits = if tag == Tag::Message {
            const HEADER: u32 = MESSAGE_HEADER_BYTES as u32;
            let header_max = if compressed { HEADER_COMPRESSED_BYTES_MAX } else { HEADER };
            if lens[0] == 0 || lens[0] > header_max || (!compressed && lens[0] != HEADER) {
                return Err(FrameError::HeaderLength { len: lens[0] });
            }
            [header_max, limits.front_bytes_max, limits.middle_bytes_max, limits.data_bytes_max]
        } else {
            [limits.control_bytes_max, 0, 0, 0]
        };
        for (segment, (&len, limit)) in (0u8..).zip(lens.iter().zip(limits)) {
            if len > limit {
                return Err(FrameError::SegmentTooLong { tag, segment, len, limit });
            }
        }
        Ok(Self { tag, count, compressed, lens })
    }

    #[inline]
    pub(super) fn len(&self, segment: usize) -> usize {
        self.lens[segment] as usize
    }

    pub(super) fn lengths(&self) -> Lengths {
        Lengths { front: self.lens[1], middle: self.lens[2], data: self.lens[3] }
    }

    /// The sum of the segments from `first` on.
    #[inline]
    pub(super) fn sum_from(&self, first: usize) -> usize {
        self.lens[first..].iter().map(|&len| len as usize).sum()
    }

    /// The same with each segment padded.
    #[inline]
    pub(super) fn padded_sum_from(&self, first: usize) -> usize {
        self.lens[first..].iter().map(|&len| padded(len as usize)).sum()
    }

    /// In msgr2.1's crc mode, the bytes from the beginning to the end of the first segment's checksum.
    #[inline]
    pub(super) fn head_crc_v1(&self) -> usize {
        match self.len(0) {
            0 => PREAMBLE_BYTES,
            len => PREAMBLE_BYTES + len + CRC_BYTES,
        }
    }

    /// In msgr2.1's secure mode, the bytes from the beginning to the end of the first segment's remainder.
    #[inline]
    pub(super) fn head_secure_v1(&self) -> usize {
        match padded(self.len(0)) {
            len if len <= INLINE_BYTES => FIRST_BLOCK_BYTES,
            len => FIRST_BLOCK_BYTES + len - INLINE_BYTES + super::cipher::TAG_BYTES,
        }
    }

    /// In msgr2.1's crc mode, the bytes behind the head.
    #[inline]
    pub(super) fn rest_crc_v1(&self) -> usize {
        if self.count > 1 { self.sum_from(1) + EPILOGUE_CRC_V1_BYTES } else { 0 }
    }

    /// In msgr2.1's secure mode, the bytes behind the head.
    #[inline]
    pub(super) fn rest_secure_v1(&self) -> usize {
        if self.count > 1 {
            self.padded_sum_from(1) + EPILOGUE_SECURE_BYTES + super::cipher::TAG_BYTES
        } else {
            0
        }
    }

    /// In msgr2.0's crc mode, the bytes behind the preamble.
    pub(super) fn rest_crc_v0(&self) -> usize {
        self.sum_from(0) + EPILOGUE_CRC_V0_BYTES
    }

    /// In msgr2.0's secure mode, the bytes of the whole frame.
    pub(super) fn whole_secure_v0(&self) -> usize {
        PREAMBLE_BYTES + self.padded_sum_from(0) + EPILOGUE_SECURE_BYTES + super::cipher::TAG_BYTES
    }

    /// Whether the frame is complete (true) or was aborted.
    #[inline]
    pub(super) fn check_late_status(&self, revision: Revision, status: u8) -> Result<bool, FrameError> {
        match revision {
            Revision::V0 => Ok(status & LATE_FLAG_ABORTED_V0 == 0),
            Revision::V1 => match status & LATE_STATUS_MASK_V1 {
                LATE_STATUS_COMPLETE_V1 => Ok(true),
                LATE_STATUS_ABORTED_V1 => Ok(false),
                _ => Err(FrameError::LateStatus { tag: self.tag, status }),
            },
        }
    }
}
