//! From the bytes of a complete frame to what it carries.

use bytes::{Buf, Bytes, BytesMut};

use super::FrameDecoder;
use super::incoming::{Incoming, MessageFrame};
use crate::frame::crc;
use crate::frame::error::FrameError;
use crate::frame::preamble::{
    CRC_BYTES, LATE_FLAG_ABORTED_V0, PREAMBLE_BYTES, Preamble, Revision, SEGMENTS_MAX, padded,
};
use crate::frame::tag::Tag;
use crate::wire::{MESSAGE_HEADER_BYTES, MessageHeader};

/// The rest of a frame, all of which has come.
pub(super) struct Body {
    pub(super) preamble: Preamble,
    /// Of a message in msgr2.1, whose header comes before the rest.
    pub(super) header: Option<MessageHeader>,
    pub(super) landing: Option<BytesMut>,
    /// Everything behind the head, and possibly more room behind it.
    pub(super) bytes: BytesMut,
    /// The checksums, if they are known already.
    pub(super) sums: Option<[u32; SEGMENTS_MAX]>,
    /// Whether `bytes` is a buffer that can be used again.
    pub(super) recycle: bool,
}

impl FrameDecoder {
    /// Verifies a body and takes it apart.
    #[inline]
    pub(super) fn complete(&mut self, mut body: Body) -> Result<Incoming, FrameError> {
        let preamble = body.preamble;
        let first = match self.revision {
            Revision::V0 => 0,
            Revision::V1 => 1,
        };
        let sealed = self.opener.is_some();
        // Where the first segment in here begins.
        let mut at = 0;
        let complete = match &mut self.opener {
            None => {
                let epilogue = preamble.sum_from(first);
                check_crcs(&preamble, self.revision, &body.bytes, epilogue, body.sums)?
            }
            Some(opener) => {
                let rest = match self.revision {
                    Revision::V0 => preamble.whole_secure_v0(),
                    Revision::V1 => preamble.rest_secure_v1(),
                };
                opener.open_in_place(&mut body.bytes[..rest])?;
                if self.revision == Revision::V0 {
                    // What was only peeked at before is authentic from here on.
                    let bytes =
                        body.bytes.first_chunk::<PREAMBLE_BYTES>().ok_or(FrameError::Authentication)?;
                    Preamble::check_crc(bytes)?;
                    at = PREAMBLE_BYTES;
                }
                let status = body.bytes[at + preamble.padded_sum_from(first)];
                preamble.check_late_status(self.revision, status)?
            }
        };
        if !complete {
            if preamble.tag == Tag::Message {
                return Ok(Incoming::Aborted { lengths: preamble.lengths() });
            }
            // Only msgr2.0 has an epilogue, and so a status, behind a control frame; nobody takes one back.
            return Err(FrameError::LateStatus { tag: preamble.tag, status: LATE_FLAG_ABORTED_V0 });
        }

        let mut segments = [const { Bytes::new() }; SEGMENTS_MAX];
        let mut whole = body.bytes.freeze();
        if body.recycle {
            self.spares.put(&whole);
        }
        let last = usize::from(preamble.count) - 1;
        for (index, segment) in segments.iter_mut().enumerate().take(last + 1).skip(first) {
            let len = preamble.len(index);
            if len == 0 {
                continue;
            }
            *segment = match &mut body.landing {
                Some(landing) if index == SEGMENTS_MAX - 1 => {
                    let mut landing = core::mem::take(landing);
                    landing[..len].copy_from_slice(&whole[at..at + len]);
                    landing.truncate(len);
                    landing.freeze()
                }
                _ if index == last => {
                    let mut whole = core::mem::take(&mut whole);
                    whole.advance(at);
                    whole.truncate(len);
                    whole
                }
                _ => whole.slice(at..at + len),
            };
            at += if sealed { padded(len) } else { len };
        }
        self.deliver(&preamble, body.header, segments)
    }

    /// Decompresses the segments if need be and gives them their names.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        preamble: &Preamble,
        header: Option<MessageHeader>,
        mut segments: [Bytes; SEGMENTS_MAX],
    ) -> Result<Incoming, FrameError> {
        if preamble.compressed {
            self.decompress(preamble, &mut segments)?;
        }
        let [first, front, middle, data] = segments;
        if preamble.tag != Tag::Message {
            return Ok(Incoming::Control { tag: preamble.tag, payload: first });
        }
        let header = match header {
            Some(header) => header,
            None => MessageHeader::decode(header_bytes(&first)?),
        };
        let admitted = preamble.lengths();
        Ok(Incoming::Message(MessageFrame { header, front, middle, data, admitted }))
    }

    /// The header of a message from its first segment.
    #[inline]
    pub(super) fn header(
        &mut self,
        preamble: &Preamble,
        segment: &[u8],
    ) -> Result<MessageHeader, FrameError> {
        if preamble.compressed {
            let mut segments = [const { Bytes::new() }; SEGMENTS_MAX];
            segments[0] = Bytes::copy_from_slice(segment);
            self.decompress(preamble, &mut segments)?;
            return header_bytes(&segments[0]).map(MessageHeader::decode);
        }
        header_bytes(segment).map(MessageHeader::decode)
    }

    fn decompress(
        &mut self,
        preamble: &Preamble,
        segments: &mut [Bytes; SEGMENTS_MAX],
    ) -> Result<(), FrameError> {
        let tag = preamble.tag;
        let decompressor = self.decompressor.as_mut().ok_or(FrameError::CompressedUnasked { tag })?;
        let limits = if tag == Tag::Message {
            let header = MESSAGE_HEADER_BYTES as u32;
            let limits = &self.limits;
            [header, limits.front_bytes_max, limits.middle_bytes_max, limits.data_bytes_max]
        } else {
            [self.limits.control_bytes_max, 0, 0, 0]
        };
        for ((segment, bytes), limit) in (0u8..).zip(segments).zip(limits) {
            *bytes = decompressor.segment(bytes, limit as usize).map_err(|error| FrameError::Decompress {
                tag,
                segment,
                error,
            })?;
        }
        Ok(())
    }
}

fn header_bytes(segment: &[u8]) -> Result<&[u8; MESSAGE_HEADER_BYTES], FrameError> {
    segment.try_into().map_err(|_| FrameError::HeaderLength { len: segment.len() as u32 })
}

/// Looks at the epilogue of crc mode: whether the frame is complete, and then whether its checksums are right. Those
/// of an aborted frame are of no interest.
#[inline]
fn check_crcs(
    preamble: &Preamble,
    revision: Revision,
    bytes: &[u8],
    epilogue: usize,
    sums: Option<[u32; SEGMENTS_MAX]>,
) -> Result<bool, FrameError> {
    let status = bytes[epilogue];
    if !preamble.check_late_status(revision, status)? {
        return Ok(false);
    }
    let first = match revision {
        Revision::V0 => 0,
        Revision::V1 => 1,
    };
    let mut at = 0;
    for index in first..usize::from(preamble.count) {
        let len = preamble.len(index);
        let actual = match sums {
            Some(sums) => sums[index],
            None => crc::segment(&bytes[at..at + len]),
        };
        at += len;
        check_crc(preamble, index, &bytes[epilogue + 1 + CRC_BYTES * (index - first)..], actual)?;
    }
    Ok(true)
}

/// Compares a checksum with the one that `stated` begins with.
#[inline]
pub(super) fn check_crc(
    preamble: &Preamble,
    segment: usize,
    stated: &[u8],
    actual: u32,
) -> Result<(), FrameError> {
    let stated = u32::from_le_bytes([stated[0], stated[1], stated[2], stated[3]]);
    if stated == actual {
        return Ok(());
    }
    Err(FrameError::SegmentCrc { tag: preamble.tag, segment: segment as u8, stated, actual })
}

/// The end of a frame whose data went straight to where they were wanted: the checksums from the epilogue.
pub(super) fn check_data_landed(
    preamble: &Preamble,
    front_middle: &[u8],
    data_crc: u32,
    epilogue: &[u8],
) -> Result<bool, FrameError> {
    if !preamble.check_late_status(Revision::V1, epilogue[0])? {
        return Ok(false);
    }
    let (front, middle) = front_middle.split_at(preamble.len(1));
    let actual = [crc::segment(front), crc::segment(middle), data_crc];
    for (index, actual) in (1..).zip(actual) {
        check_crc(preamble, index, &epilogue[1 + CRC_BYTES * (index - 1)..], actual)?;
    }
    Ok(true)
}
