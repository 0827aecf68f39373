//! From messages to bytes.

use bytes::Bytes;

use super::cipher::{Sealer, TAG_BYTES};
use super::crc;
use super::error::EncodeError;
use super::out::{FrameMark, OutBuf, REFERENCE_BYTES_MIN};
use super::preamble::{
    ALIGNMENT_DATA, ALIGNMENT_DEFAULT, CRC_BYTES, DATA_BYTES_MAX, EPILOGUE_CRC_V0_BYTES,
    EPILOGUE_CRC_V1_BYTES, EPILOGUE_SECURE_BYTES, FIRST_BLOCK_BYTES, INLINE_BYTES, LATE_STATUS_COMPLETE_V1,
    PREAMBLE_BYTES, Preamble, Revision, SEGMENT_BYTES_MAX, SEGMENTS_MAX, padded,
};
use super::tag::Tag;
use crate::compress::Compressor;
use crate::wire::{Control, MessageHeader, Payload};

/// The alignments that every frame of ours carries.
const ALIGNMENTS: [u16; SEGMENTS_MAX] =
    [ALIGNMENT_DEFAULT, ALIGNMENT_DEFAULT, ALIGNMENT_DEFAULT, ALIGNMENT_DATA];

/// The longest segments that peers take.
const LENS_MAX: [usize; SEGMENTS_MAX] = [
    SEGMENT_BYTES_MAX as usize,
    SEGMENT_BYTES_MAX as usize,
    SEGMENT_BYTES_MAX as usize,
    DATA_BYTES_MAX as usize,
];

/// One segment of a frame in its general form.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Its bytes.
    pub bytes: &'a Bytes,
    /// How the receiver's buffer should be aligned; a hint.
    pub alignment: u16,
}

/// Encodes frames in one of the four modes (two revisions, crc or secure). Begins with msgr2.0's crc mode, which
/// holds until the banners were exchanged.
#[derive(Debug)]
pub struct FrameEncoder {
    revision: Revision,
    sealer: Option<Sealer>,
    compression: Option<Compressor>,
    /// The payload of the control frame being encoded.
    payload: Vec<u8>,
}

impl Default for FrameEncoder {
    fn default() -> Self {
        Self::new()
    }
}

/// The parts of a frame: the first segment is always copied, the others may be kept by reference.
struct Parts<'a> {
    preamble: Preamble,
    alignments: [u16; SEGMENTS_MAX],
    first: &'a [u8],
    rest: [&'a Bytes; SEGMENTS_MAX - 1],
}

impl<'a> Parts<'a> {
    #[inline]
    fn new(
        tag: Tag,
        compressed: bool,
        first: &'a [u8],
        rest: [&'a Bytes; SEGMENTS_MAX - 1],
    ) -> Result<Self, EncodeError> {
        let sizes = [first.len(), rest[0].len(), rest[1].len(), rest[2].len()];
        let mut lens = [0; SEGMENTS_MAX];
        let mut count = 1;
        for (index, (&len, limit)) in sizes.iter().zip(LENS_MAX).enumerate() {
            let segment = index as u8;
            if len > limit {
                return Err(EncodeError::SegmentTooLong { segment, len, limit });
            }
            lens[index] = len as u32;
            if len > 0 {
                count = segment + 1;
            }
        }
        let preamble = Preamble { tag, count, compressed, lens };
        Ok(Self { preamble, alignments: ALIGNMENTS, first, rest })
    }

    /// The segments behind the first that are there.
    #[inline]
    fn used(&self) -> &[&'a Bytes] {
        &self.rest[..usize::from(self.preamble.count) - 1]
    }
}

impl FrameEncoder {
    /// An encoder in msgr2.0's crc mode.
    #[must_use]
    pub fn new() -> Self {
        Self { revision: Revision::V0, sealer: None, compression: None, payload: Vec::new() }
    }

    /// From the next frame on, this revision.
    pub fn set_revision(&mut self, revision: Revision) {
        self.revision = revision;
    }

    /// The revision in use.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// From the next frame on, everything is sealed. The sealer must be of the revision in use.
    pub fn set_sealer(&mut self, sealer: Sealer) {
        self.sealer = Some(sealer);
    }

    /// How many times it can still seal; `None` in crc mode. See [`Sealer::remaining`].
    #[must_use]
    pub fn nonces_remaining(&self) -> Option<u64> {
        self.sealer.as_ref().map(Sealer::remaining)
    }

    /// From the next frame on, frames that are worth it are compressed, or none are.
    pub fn set_compression(&mut self, compression: Option<Compressor>) {
        self.compression = compression;
    }

    /// Queues a control frame.
    ///
    /// # Errors
    /// [`EncodeError`]; nothing was queued.
    pub fn encode_control(&mut self, control: &Control, out: &mut OutBuf) -> Result<FrameMark, EncodeError> {
        self.encode_with(control.tag(), |payload| control.encode(payload), out)
    }

    /// Queues a control frame of a kind known beforehand.
    ///
    /// # Errors
    /// [`EncodeError`]; nothing was queued.
    pub fn encode_payload<P: Payload>(
        &mut self,
        control: &P,
        out: &mut OutBuf,
    ) -> Result<FrameMark, EncodeError> {
        self.encode_with(P::TAG, |payload| control.encode(payload), out)
    }

    fn encode_with(
        &mut self,
        tag: Tag,
        write: impl FnOnce(&mut Vec<u8>),
        out: &mut OutBuf,
    ) -> Result<FrameMark, EncodeError> {
        let mut payload = core::mem::take(&mut self.payload);
        payload.clear();
        write(&mut payload);
        let none = Bytes::new();
        let result = self.compress_and_frame(tag, &payload, [&none; 3], out);
        self.payload = payload;
        result
    }

    /// Queues a message.
    ///
    /// Segments of [`REFERENCE_BYTES_MIN`] bytes or more are kept by reference in crc mode; everything else is
    /// copied once.
    ///
    /// # Errors
    /// [`EncodeError`]; nothing was queued.
    #[inline]
    pub fn encode_message(
        &mut self,
        header: &MessageHeader,
        front: &Bytes,
        middle: &Bytes,
        data: &Bytes,
        out: &mut OutBuf,
    ) -> Result<FrameMark, EncodeError> {
        self.compress_and_frame(Tag::Message, &header.encode(), [front, middle, data], out)
    }

    /// Queues a frame of any segments, uncompressed. Trailing empty ones are dropped.
    ///
    /// # Errors
    /// [`EncodeError`]; nothing was queued.
    pub fn encode(
        &mut self,
        tag: Tag,
        segments: &[Segment<'_>],
        out: &mut OutBuf,
    ) -> Result<FrameMark, EncodeError> {
        let none = Bytes::new();
        if segments.is_empty() || segments.len() > SEGMENTS_MAX {
            return Err(EncodeError::SegmentCount { count: segments.len() });
        }
        let bytes = |index: usize| segments.get(index).map_or(&none, |segment| segment.bytes);
        let mut parts = Parts::new(tag, false, bytes(0), [bytes(1), bytes(2), bytes(3)])?;
        for (alignment, segment) in parts.alignments.iter_mut().zip(segments) {
            *alignment = segment.alignment;
        }
        self.frame(&parts, out)
    }

    #[inline]
    fn compress_and_frame(
        &mut self,
        tag: Tag,
        first: &[u8],
        rest: [&Bytes; SEGMENTS_MAX - 1],
        out: &mut OutBuf,
    ) -> Result<FrameMark, EncodeError> {
        // The limits are those of what the peer has to hold: they count before compression.
        let parts = Parts::new(tag, false, first, rest)?;
        if let Some(compression) = &mut self.compression
            && let Some(packed) = compression.frame([first, rest[0], rest[1], rest[2]])
        {
            let [first, front, middle, data] = &packed;
            return self.frame(&Parts::new(tag, true, first, [front, middle, data])?, out);
        }
        self.frame(&parts, out)
    }

    #[inline]
    fn frame(&mut self, parts: &Parts<'_>, out: &mut OutBuf) -> Result<FrameMark, EncodeError> {
        match (&mut self.sealer, self.revision) {
            (None, revision) if parts.rest.iter().any(|bytes| bytes.len() >= REFERENCE_BYTES_MIN) => {
                Ok(mixed_crc(parts, revision, out))
            }
            (None, Revision::V1) => Ok(crc_v1(parts, out)),
            (None, Revision::V0) => Ok(crc_v0(parts, out)),
            (Some(sealer), Revision::V1) => secure_v1(parts, sealer, out),
            (Some(sealer), Revision::V0) => secure_v0(parts, sealer, out),
        }
    }
}

/// Writes fields one behind the other.
struct Cursor<'a> {
    left: &'a mut [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    fn preamble(&mut self, parts: &Parts<'_>) {
        let mut bytes = [0; PREAMBLE_BYTES];
        parts.preamble.encode(&parts.alignments, &mut bytes);
        self.put(&bytes);
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.take(bytes.len()).copy_from_slice(bytes);
    }

    /// Puts bytes and returns their checksum. The copy is summed: it has just been touched.
    #[inline]
    fn put_summed(&mut self, bytes: &[u8]) -> u32 {
        let copy = self.take(bytes.len());
        copy.copy_from_slice(bytes);
        crc::segment(copy)
    }

    /// Puts bytes and zeros up to a whole block.
    #[inline]
    fn put_padded(&mut self, bytes: &[u8]) {
        self.put(bytes);
        self.take(padded(bytes.len()) - bytes.len()).fill(0);
    }

    #[inline]
    fn take(&mut self, len: usize) -> &'a mut [u8] {
        let (taken, left) = core::mem::take(&mut self.left).split_at_mut(len);
        self.left = left;
        taken
    }
}

fn epilogue_crc_v0(crcs: [u32; SEGMENTS_MAX]) -> [u8; EPILOGUE_CRC_V0_BYTES] {
    let mut out = [0; EPILOGUE_CRC_V0_BYTES];
    for (field, crc) in out[1..].chunks_exact_mut(CRC_BYTES).zip(crcs) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
    out
}

#[inline]
fn epilogue_crc_v1(crcs: [u32; SEGMENTS_MAX - 1]) -> [u8; EPILOGUE_CRC_V1_BYTES] {
    let mut out = [0; EPILOGUE_CRC_V1_BYTES];
    out[0] = LATE_STATUS_COMPLETE_V1;
    for (field, crc) in out[1..].chunks_exact_mut(CRC_BYTES).zip(crcs) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
    out
}

fn epilogue_secure(revision: Revision) -> [u8; EPILOGUE_SECURE_BYTES] {
    let mut out = [0; EPILOGUE_SECURE_BYTES];
    out[0] = match revision {
        Revision::V0 => 0,
        Revision::V1 => LATE_STATUS_COMPLETE_V1,
    };
    out
}

#[inline]
fn crc_v1(parts: &Parts<'_>, out: &mut OutBuf) -> FrameMark {
    let total = parts.preamble.head_crc_v1() + parts.preamble.rest_crc_v1();
    let mut to = Cursor { left: out.room(total) };
    to.preamble(parts);
    if !parts.first.is_empty() {
        let crc = to.put_summed(parts.first);
        to.put(&crc.to_le_bytes());
    }
    if parts.preamble.count > 1 {
        let mut crcs = [0; SEGMENTS_MAX - 1];
        for (segment, crc) in parts.used().iter().zip(&mut crcs) {
            *crc = if segment.is_empty() { crc::SEGMENT_SEED } else { to.put_summed(segment) };
        }
        to.put(&epilogue_crc_v1(crcs));
    }
    out.commit(total)
}

fn crc_v0(parts: &Parts<'_>, out: &mut OutBuf) -> FrameMark {
    let total = PREAMBLE_BYTES + parts.preamble.rest_crc_v0();
    let mut to = Cursor { left: out.room(total) };
    to.preamble(parts);
    let mut crcs = [0; SEGMENTS_MAX];
    crcs[0] = to.put_summed(parts.first);
    for (segment, crc) in parts.used().iter().zip(&mut crcs[1..]) {
        *crc = to.put_summed(segment);
    }
    to.put(&epilogue_crc_v0(crcs));
    out.commit(total)
}

/// A frame of crc mode with segments that are kept by reference.
#[cold]
fn mixed_crc(parts: &Parts<'_>, revision: Revision, out: &mut OutBuf) -> FrameMark {
    let preamble = &parts.preamble;
    let shared = |bytes: &Bytes| bytes.len() >= REFERENCE_BYTES_MIN;
    let whole = match revision {
        Revision::V0 => PREAMBLE_BYTES + preamble.rest_crc_v0(),
        Revision::V1 => preamble.head_crc_v1() + preamble.rest_crc_v1(),
    };
    let by_reference: usize = parts.rest.iter().filter(|bytes| shared(bytes)).map(|bytes| bytes.len()).sum();
    let scratch = whole - by_reference;
    // The checksum of segment 1 stands behind the status in msgr2.1, behind another one in msgr2.0.
    let (status_at, crcs_at) = match revision {
        Revision::V0 => (scratch - EPILOGUE_CRC_V0_BYTES, scratch - 3 * CRC_BYTES),
        Revision::V1 => (scratch - EPILOGUE_CRC_V1_BYTES, scratch - 3 * CRC_BYTES),
    };
    let mut to = out.begin_mixed(scratch);
    let mut bytes = [0; PREAMBLE_BYTES];
    preamble.encode(&parts.alignments, &mut bytes);
    to.put(&bytes);
    to.put(parts.first);
    let mut crcs = [0; SEGMENTS_MAX];
    crcs[0] = crc::segment(parts.first);
    if revision == Revision::V1 && !parts.first.is_empty() {
        to.put(&crcs[0].to_le_bytes());
    }
    for (index, &segment) in parts.used().iter().enumerate() {
        if shared(segment) {
            to.share(segment.clone(), crcs_at + index * CRC_BYTES, status_at, revision);
        } else {
            to.put(segment);
            crcs[1 + index] = crc::segment(segment);
        }
    }
    match revision {
        Revision::V0 => to.put(&epilogue_crc_v0(crcs)),
        Revision::V1 => to.put(&epilogue_crc_v1([crcs[1], crcs[2], crcs[3]])),
    }
    to.finish()
}

fn secure_v1(parts: &Parts<'_>, sealer: &mut Sealer, out: &mut OutBuf) -> Result<FrameMark, EncodeError> {
    let preamble = &parts.preamble;
    let inlined = parts.first.len().min(INLINE_BYTES);
    let partial = padded(parts.first.len()) > INLINE_BYTES;
    // All or nothing: a frame must not stop between two of its nonces.
    let needed = 1 + u64::from(partial) + u64::from(preamble.count > 1);
    if sealer.remaining() < needed {
        return Err(EncodeError::NoncesExhausted);
    }
    let head = preamble.head_secure_v1();
    let total = head + preamble.rest_secure_v1();
    let (head, rest) = out.room(total).split_at_mut(head);
    let (block, remainder) = head.split_at_mut(FIRST_BLOCK_BYTES);
    let mut to = Cursor { left: &mut *block };
    to.preamble(parts);
    to.put(&parts.first[..inlined]);
    to.take(INLINE_BYTES - inlined).fill(0);
    sealer.seal_in_place(block)?;
    if partial {
        let mut to = Cursor { left: &mut *remainder };
        to.put_padded(&parts.first[INLINE_BYTES..]);
        sealer.seal_in_place(remainder)?;
    }
    if preamble.count > 1 {
        let epilogue = epilogue_secure(Revision::V1);
        let mut filled = parts.used().iter().filter(|segment| !segment.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            // Sealed from where it is: no copy at all. The padding goes in front of the epilogue.
            let mut tail = [0; 15 + EPILOGUE_SECURE_BYTES];
            let padding = padded(only.len()) - only.len();
            let tail = &mut tail[..padding + EPILOGUE_SECURE_BYTES];
            tail[padding..].copy_from_slice(&epilogue);
            sealer.seal_into(only, tail, rest)?;
        } else {
            let mut to = Cursor { left: &mut *rest };
            parts.used().iter().for_each(|segment| to.put_padded(segment));
            to.put(&epilogue);
            sealer.seal_in_place(rest)?;
        }
    }
    Ok(out.commit(total))
}

fn secure_v0(parts: &Parts<'_>, sealer: &mut Sealer, out: &mut OutBuf) -> Result<FrameMark, EncodeError> {
    if sealer.remaining() == 0 {
        return Err(EncodeError::NoncesExhausted);
    }
    let total = parts.preamble.whole_secure_v0();
    let message = out.room(total);
    let mut to = Cursor { left: &mut *message };
    to.preamble(parts);
    to.put_padded(parts.first);
    parts.used().iter().for_each(|segment| to.put_padded(segment));
    to.put(&epilogue_secure(Revision::V0));
    debug_assert_eq!(to.left.len(), TAG_BYTES);
    sealer.seal_in_place(message)?;
    Ok(out.commit(total))
}
