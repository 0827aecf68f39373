//! The short way for the most common case: a message in msgr2.1, not compressed, all of which is in the read buffer.
//! It does what the steps in the other files do, without keeping anything between them.

use bytes::{Buf, Bytes, BytesMut};

use super::body::check_crc;
use super::incoming::{Incoming, Landing, MessageFrame};
use super::{FrameDecoder, header_at};
use crate::frame::cipher::TAG_BYTES;
use crate::frame::crc;
use crate::frame::error::FrameError;
use crate::frame::preamble::{
    CRC_BYTES, EPILOGUE_CRC_V1_BYTES, EPILOGUE_SECURE_BYTES, FIRST_BLOCK_BYTES, PREAMBLE_BYTES, Preamble,
    Revision, SEGMENTS_MAX, padded,
};
use crate::wire::MessageHeader;

impl FrameDecoder {
    /// The bytes of the whole message, if it is one for the short way. Its header is inlined in secure mode: it is
    /// shorter than that area.
    #[inline]
    pub(super) fn short_way(&self, preamble: &Preamble) -> Option<usize> {
        if self.revision != Revision::V1 || preamble.compressed || preamble.count == 1 {
            return None;
        }
        let total = match &self.opener {
            None => preamble.head_crc_v1() + preamble.rest_crc_v1(),
            Some(_) => FIRST_BLOCK_BYTES + preamble.rest_secure_v1(),
        };
        (self.filled >= total).then_some(total)
    }

    /// Verifies a message of `total` bytes and takes it apart.
    // Not inlined, so that the message is put where the caller's caller wants it, without being moved there.
    #[inline(never)]
    pub(super) fn take_short_way(
        &mut self,
        preamble: &Preamble,
        total: usize,
        landing: &mut dyn Landing,
    ) -> Result<Option<Incoming>, FrameError> {
        let header_len = preamble.len(0);
        let head = PREAMBLE_BYTES + header_len + CRC_BYTES;
        let frame = &self.buf[..total];
        let actual = crc::segment(&frame[PREAMBLE_BYTES..head - CRC_BYTES]);
        check_crc(preamble, 0, &frame[head - CRC_BYTES..], actual)?;
        let header = header_at(frame, PREAMBLE_BYTES)?;
        let place = ask(landing, &header, preamble.len(3));

        let epilogue = &frame[total - EPILOGUE_CRC_V1_BYTES..];
        let complete = preamble.check_late_status(Revision::V1, epilogue[0])?;
        if complete {
            let mut at = head;
            for index in 1..usize::from(preamble.count).min(SEGMENTS_MAX) {
                let len = preamble.len(index);
                let actual = if len == 0 { crc::SEGMENT_SEED } else { crc::segment(&frame[at..at + len]) };
                check_crc(preamble, index, &epilogue[1 + CRC_BYTES * (index - 1)..], actual)?;
                at += len;
            }
        }
        self.record(total);
        Ok(Some(self.cut_message::<false>(preamble, header, complete, head, total, place)))
    }

    /// The same in secure mode.
    #[inline(never)]
    pub(super) fn take_short_way_sealed(
        &mut self,
        preamble: &Preamble,
        total: usize,
        landing: &mut dyn Landing,
    ) -> Result<Option<Incoming>, FrameError> {
        let header = header_at(&self.buf, PREAMBLE_BYTES)?;
        let place = ask(landing, &header, preamble.len(3));
        if let Some(opener) = &mut self.opener {
            opener.open_in_place(&mut self.buf[FIRST_BLOCK_BYTES..total])?;
        }
        let status = self.buf[total - TAG_BYTES - EPILOGUE_SECURE_BYTES];
        let complete = preamble.check_late_status(Revision::V1, status)?;
        Ok(Some(self.cut_message::<true>(preamble, header, complete, FIRST_BLOCK_BYTES, total, place)))
    }

    /// Takes a verified message from the read buffer; its segments begin at `head`.
    #[inline(always)]
    fn cut_message<const SEALED: bool>(
        &mut self,
        preamble: &Preamble,
        header: MessageHeader,
        complete: bool,
        head: usize,
        total: usize,
        place: Option<BytesMut>,
    ) -> Incoming {
        self.expect_large = false;
        self.filled -= total;
        self.need = 0;
        let admitted = preamble.lengths();
        if !complete {
            self.buf.advance(total);
            return Incoming::Aborted { lengths: admitted };
        }
        let after = self.buf.len() - total;
        self.buf.advance(head);
        let front = self.cut::<SEALED>(preamble.len(1));
        let middle = self.cut::<SEALED>(preamble.len(2));
        let data = match place {
            Some(place) => self.copy_to(place, preamble.len(3)),
            None => self.cut::<SEALED>(preamble.len(3)),
        };
        self.buf.advance(self.buf.len() - after);
        Incoming::Message(MessageFrame { header, front, middle, data, admitted })
    }

    /// The next bytes of the read buffer, as a view of it; their padding is skipped.
    #[inline(always)]
    fn cut<const SEALED: bool>(&mut self, len: usize) -> Bytes {
        if len == 0 {
            return Bytes::new();
        }
        let bytes = self.buf.split_to(len).freeze();
        if SEALED {
            self.buf.advance(padded(len) - len);
        }
        bytes
    }

    fn copy_to(&mut self, mut place: BytesMut, len: usize) -> Bytes {
        place[..len].copy_from_slice(&self.buf[..len]);
        place.truncate(len);
        place.freeze()
    }
}

/// Where the data shall land, if they have a place that is large enough.
#[inline]
pub(super) fn ask(landing: &mut dyn Landing, header: &MessageHeader, data_len: usize) -> Option<BytesMut> {
    if data_len == 0 {
        return None;
    }
    landing.buffer(header, data_len).filter(|buffer| buffer.len() >= data_len)
}
