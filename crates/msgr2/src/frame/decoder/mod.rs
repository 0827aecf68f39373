//! From bytes to frames.

mod body;
mod direct;
mod fast;
mod incoming;

use bytes::{Buf, Bytes, BytesMut};

use self::body::{Body, check_crc, check_data_landed};
use self::direct::{Direct, Kind, Spares, Sums};
pub use self::incoming::{AdmitAll, Incoming, Landing, MessageFrame};
use super::cipher::Opener;
use super::crc;
use super::error::{FrameError, TranscriptOverflow};
use super::preamble::{
    EPILOGUE_CRC_V1_BYTES, FIRST_BLOCK_BYTES, INLINE_BYTES, Limits, PREAMBLE_BYTES, Preamble, Revision,
    SEGMENTS_MAX, padded,
};
use super::tag::Tag;
use super::transcript::Transcript;
use crate::compress::Decompressor;
use crate::wire::MessageHeader;

/// A body of at least this many bytes that does not fit into what is left of the read buffer gets a buffer of its
/// own; a smaller one is cheaper to move to the beginning of the next read buffer. Above the longest frame of an
/// unauthenticated peer.
const DIRECT_BYTES_MIN: usize = 32 * 1024;

/// When this many bytes of data or more are missing, they are read straight to where the application wants them.
const LANDING_BYTES_MIN: usize = 4 * 1024;
/// The longest front and middle that are waited for in the read buffer before data land elsewhere.
const LANDING_FRONT_BYTES_MAX: usize = 16 * 1024;

/// The first read buffer for an authenticated peer. It doubles, up to the limit, each time a read fills it.
const READ_BUFFER_BYTES_FIRST: usize = 16 * 1024;

/// Behind a large body, the next read asks for no more than this: the head of the next frame. If that one is large
/// too, the rest can be read to where it belongs.
const HEAD_READ_BYTES: usize = 1024;

/// How far the frame at the beginning of the read buffer is understood.
#[derive(Debug)]
enum Stage {
    /// Not at all.
    Start,
    /// Its preamble is; the message is not admitted yet.
    Admit(Preamble),
    /// Its preamble is, and it may come.
    Head(Preamble),
    /// Its first segment is (msgr2.1), or nothing more can be before all of it is there (msgr2.0).
    Rest(Box<Rest>),
    /// It left the read buffer for one of its own.
    Direct(Box<Direct>),
    /// Its data have landed, the epilogue is to come in the read buffer.
    Epilogue(Box<Direct>),
    /// It is bad, and so is all that follows.
    Failed(FrameError),
}

#[derive(Debug)]
struct Rest {
    preamble: Preamble,
    header: Option<MessageHeader>,
    landing: Option<BytesMut>,
    /// The bytes up to the end of the first segment.
    head: usize,
    /// The bytes behind them.
    rest: usize,
}

/// Decodes frames in one of the four modes (two revisions, crc or secure). Begins with msgr2.0's crc mode.
///
/// Read into [`poll_read`](Self::poll_read), say how much with [`handle_read`](Self::handle_read), then call
/// [`next`](Self::next) until it gives nothing. Frames are looked at one at a time, so a change of mode holds for
/// everything behind the frame that was given out last, even if it has been read already.
///
/// Small frames are views of the read buffer; large ones are read into buffers of their own, or to where
/// [`Landing::buffer`] says. Only lengths that were checked against the [`Limits`], and for messages were admitted,
/// are allocated for before the bytes come; a control frame's buffer grows with what did come.
#[derive(Debug)]
pub struct FrameDecoder {
    limits: Limits,
    revision: Revision,
    opener: Option<Opener>,
    decompressor: Option<Decompressor>,
    stage: Stage,
    /// The read buffer. All of it is initialised, `..filled` was read; it begins with the frame at hand.
    buf: BytesMut,
    filled: usize,
    /// How many bytes from its beginning are needed to go on.
    need: usize,
    /// How large the next read buffer will be.
    buffer_bytes: usize,
    /// The last frame was large.
    expect_large: bool,
    paused: bool,
    spares: Spares,
    recording: Option<Transcript>,
}

impl FrameDecoder {
    /// A decoder in msgr2.0's crc mode.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            revision: Revision::V0,
            opener: None,
            decompressor: None,
            stage: Stage::Start,
            buf: BytesMut::new(),
            filled: 0,
            need: 0,
            buffer_bytes: limits.read_buffer_bytes.min(READ_BUFFER_BYTES_FIRST),
            expect_large: false,
            paused: false,
            spares: Spares::default(),
            recording: None,
        }
    }

    /// What follows is of this revision.
    pub fn set_revision(&mut self, revision: Revision) {
        debug_assert!(matches!(self.stage, Stage::Start), "changed in the middle of a frame");
        self.revision = revision;
    }

    /// What follows is sealed. The opener must be of the revision in use.
    pub fn set_opener(&mut self, opener: Opener) {
        debug_assert!(matches!(self.stage, Stage::Start), "changed in the middle of a frame");
        self.opener = Some(opener);
    }

    /// What follows may be compressed, or must not be.
    pub fn set_decompression(&mut self, decompressor: Option<Decompressor>) {
        self.decompressor = decompressor;
    }

    /// What follows is held to these limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.buffer_bytes = limits.read_buffer_bytes.min(READ_BUFFER_BYTES_FIRST);
    }

    /// Keeps a copy of every byte that is taken from here on, as long as they are no more than `bytes_max`. For crc
    /// mode only.
    pub fn start_recording(&mut self, bytes_max: usize) {
        self.recording = Some(Transcript::new(bytes_max));
    }

    /// Whether [`Self::take_transcript`] can still succeed.
    ///
    /// # Errors
    /// [`TranscriptOverflow`] when it cannot.
    pub fn check_transcript(&self) -> Result<(), TranscriptOverflow> {
        self.recording.as_ref().map_or(Ok(()), Transcript::check)
    }

    /// The raw bytes taken since (banner and frames given out; not what was read beyond them), and keeps no more.
    /// Empty when nothing was recorded.
    ///
    /// # Errors
    /// [`TranscriptOverflow`] when they were more than [`Self::start_recording`] allowed.
    pub fn take_transcript(&mut self) -> Result<Vec<u8>, TranscriptOverflow> {
        self.recording.take().unwrap_or_default().finish()
    }

    /// Whether [`Landing::admit`] stopped it.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether a part of a frame has been read: an end of the stream here tears a frame.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        self.filled > 0 || !matches!(self.stage, Stage::Start)
    }

    /// How many bytes are in the read buffer.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.filled
    }

    /// Where the next bytes go. Empty when it is paused, or failed.
    pub fn poll_read(&mut self) -> &mut [u8] {
        let room_max = match &self.stage {
            Stage::Failed(_) | Stage::Direct(_) => 0,
            Stage::Start if self.expect_large => HEAD_READ_BYTES,
            Stage::Start | Stage::Head(_) | Stage::Rest(_) | Stage::Epilogue(_) => usize::MAX,
            // Asked before: a new answer comes from `next`.
            Stage::Admit(_) => 0,
        };
        if room_max > 0 {
            self.make_room();
        }
        if let Stage::Direct(direct) = &mut self.stage {
            return &mut direct.buf[direct.filled..direct.end];
        }
        let end = self.buf.len().min(self.filled.saturating_add(room_max));
        &mut self.buf[self.filled..end]
    }

    /// That many bytes have been put there.
    pub fn handle_read(&mut self, len: usize) {
        if let Stage::Direct(direct) = &mut self.stage {
            direct.handle_read(len);
            return;
        }
        debug_assert!(len <= self.buf.len() - self.filled, "more read than there was room for");
        self.filled = self.buf.len().min(self.filled + len);
        if self.filled == self.buf.len() {
            self.buffer_bytes = self.limits.read_buffer_bytes.min(2 * self.buffer_bytes);
        }
    }

    /// Makes sure that there is room behind what was read.
    fn make_room(&mut self) {
        let area = self.buf.len();
        let usual = self.buffer_bytes;
        // What the frame at hand wants, but no more than twice what has come of it.
        let wanted = self.need.min(usual.max(2 * self.filled));
        let room_min = usual / 8;
        if area >= wanted && area - self.filled >= room_min {
            return;
        }
        let size = usual.max(wanted).max(self.filled + room_min);
        self.buf.truncate(self.filled);
        if !self.buf.try_reclaim(size - self.filled) {
            let mut fresh = BytesMut::with_capacity(size);
            fresh.extend_from_slice(&self.buf);
            self.buf = fresh;
        }
        self.buf.resize(size, 0);
    }

    /// Takes `len` bytes that are no frame: the banner. `None` as long as they have not all come.
    pub fn take_raw(&mut self, len: usize) -> Option<Bytes> {
        if self.filled < len {
            self.need = len;
            return None;
        }
        self.record(len);
        Some(self.take(len).freeze())
    }

    /// Takes bytes from the beginning of the read buffer.
    #[inline]
    fn take(&mut self, len: usize) -> BytesMut {
        self.filled -= len;
        self.need = 0;
        self.buf.split_to(len)
    }

    #[inline]
    fn record(&mut self, len: usize) {
        if let Some(transcript) = &mut self.recording {
            transcript.push(&self.buf[..len]);
        }
    }

    /// The next frame. `None` when more bytes are needed for it, or when it is a message that is not admitted.
    ///
    /// # Errors
    /// [`FrameError`], again at each further call.
    pub fn next(&mut self, landing: &mut dyn Landing) -> Result<Option<Incoming>, FrameError> {
        let result = self.advance(landing);
        if let Err(error) = result {
            self.stage = Stage::Failed(error);
        }
        result
    }

    #[inline]
    fn advance(&mut self, landing: &mut dyn Landing) -> Result<Option<Incoming>, FrameError> {
        let preamble = match core::mem::replace(&mut self.stage, Stage::Start) {
            Stage::Start => match self.preamble()? {
                Some(preamble) => preamble,
                None => return Ok(None),
            },
            Stage::Admit(preamble) => preamble,
            Stage::Head(preamble) => return self.head(preamble, landing),
            Stage::Rest(rest) => return self.rest(*rest),
            Stage::Direct(direct) => return self.direct(direct),
            Stage::Epilogue(direct) => return self.epilogue(direct),
            Stage::Failed(error) => return Err(error),
        };
        if preamble.tag == Tag::Message {
            self.paused = !landing.admit(preamble.lengths());
            if self.paused {
                self.stage = Stage::Admit(preamble);
                return Ok(None);
            }
            if let Some(total) = self.short_way(&preamble) {
                return match self.opener {
                    None => self.take_short_way(&preamble, total, landing),
                    Some(_) => self.take_short_way_sealed(&preamble, total, landing),
                };
            }
        }
        self.head(preamble, landing)
    }

    /// Not before `need` bytes are there.
    fn wait(&mut self, need: usize, stage: Stage) -> Result<Option<Incoming>, FrameError> {
        self.need = need;
        self.stage = stage;
        Ok(None)
    }

    #[inline]
    fn preamble(&mut self) -> Result<Option<Preamble>, FrameError> {
        let sealed = self.opener.is_some() && self.revision == Revision::V1;
        let need = if sealed { FIRST_BLOCK_BYTES } else { PREAMBLE_BYTES };
        if self.filled < need {
            self.need = need;
            return Ok(None);
        }
        let peeked;
        let bytes = match (&mut self.opener, self.revision) {
            (None, _) => {
                let Some(bytes) = self.buf.first_chunk() else { return Ok(None) };
                Preamble::check_crc(bytes)?;
                bytes
            }
            (Some(opener), Revision::V1) => {
                opener.open_in_place(&mut self.buf[..FIRST_BLOCK_BYTES])?;
                let Some(bytes) = self.buf.first_chunk() else { return Ok(None) };
                Preamble::check_crc(bytes)?;
                bytes
            }
            (Some(opener), Revision::V0) => {
                // Its checksum is looked at when the whole frame is authentic: until then it proves nothing.
                let Some(bytes) = self.buf.first_chunk() else { return Ok(None) };
                peeked = opener.peek(bytes);
                &peeked
            }
        };
        let preamble = Preamble::decode(bytes, &self.limits)?;
        if preamble.compressed && self.decompressor.is_none() {
            return Err(FrameError::CompressedUnasked { tag: preamble.tag });
        }
        Ok(Some(preamble))
    }

    /// Verifies the first segment, where that can be done.
    #[inline]
    fn head(
        &mut self,
        preamble: Preamble,
        landing: &mut dyn Landing,
    ) -> Result<Option<Incoming>, FrameError> {
        if self.revision == Revision::V0 {
            let (head, rest) = match &self.opener {
                None => (PREAMBLE_BYTES, preamble.rest_crc_v0()),
                Some(_) => (0, preamble.whole_secure_v0()),
            };
            return self.rest(Rest { preamble, header: None, landing: None, head, rest });
        }
        let sealed = self.opener.is_some();
        let head = if sealed { preamble.head_secure_v1() } else { preamble.head_crc_v1() };
        if self.filled < head {
            return self.wait(head, Stage::Head(preamble));
        }
        let len = preamble.len(0);
        let mut at = PREAMBLE_BYTES;
        match &mut self.opener {
            None if len > 0 => {
                let actual = crc::segment(&self.buf[at..at + len]);
                check_crc(&preamble, 0, &self.buf[at + len..head], actual)?;
            }
            Some(opener) if padded(len) > INLINE_BYTES => {
                opener.open_in_place(&mut self.buf[FIRST_BLOCK_BYTES..head])?;
                // Over the tag, so that both parts are one.
                let tag = FIRST_BLOCK_BYTES - PREAMBLE_BYTES - INLINE_BYTES;
                self.buf.copy_within(at..at + INLINE_BYTES, at + tag);
                at += tag;
            }
            None | Some(_) => {}
        }
        if preamble.tag != Tag::Message {
            self.record(head);
            let mut bytes = self.take(head);
            bytes.advance(at);
            bytes.truncate(len);
            let mut segments = [const { Bytes::new() }; SEGMENTS_MAX];
            if len > 0 {
                segments[0] = bytes.freeze();
            }
            return self.deliver(&preamble, None, segments).map(Some);
        }
        let segment;
        let header = if preamble.compressed {
            segment = self.buf[at..at + len].to_vec();
            self.header(&preamble, &segment)?
        } else {
            header_at(&self.buf, at)?
        };
        if preamble.count == 1 {
            self.record(head);
            self.buf.advance(head);
            self.filled -= head;
            self.need = 0;
            let mut plain = preamble;
            plain.compressed = false;
            return self.deliver(&plain, Some(header), [const { Bytes::new() }; SEGMENTS_MAX]).map(Some);
        }
        let landing = if preamble.compressed { None } else { fast::ask(landing, &header, preamble.len(3)) };
        let rest = if sealed { preamble.rest_secure_v1() } else { preamble.rest_crc_v1() };
        self.rest(Rest { preamble, header: Some(header), landing, head, rest })
    }

    /// Takes the rest from the read buffer, or begins to read it elsewhere.
    #[inline]
    fn rest(&mut self, rest: Rest) -> Result<Option<Incoming>, FrameError> {
        let total = rest.head + rest.rest;
        if self.filled < total {
            return self.rest_missing(rest, total);
        }
        self.expect_large = false;
        self.record(total);
        let mut bytes = self.take(total);
        bytes.advance(rest.head);
        let Rest { preamble, header, landing, head: _, rest: _ } = rest;
        self.complete(Body { preamble, header, landing, bytes, sums: None, recycle: false }).map(Some)
    }

    #[cold]
    fn rest_missing(&mut self, mut rest: Rest, total: usize) -> Result<Option<Incoming>, FrameError> {
        let preamble = rest.preamble;
        if self.recording.is_some() {
            return self.wait(total, Stage::Rest(Box::new(rest)));
        }
        let sealed = self.opener.is_some();
        let front_middle = preamble.len(1) + preamble.len(2);
        let lands = !sealed
            && rest.landing.is_some()
            && total - self.filled >= LANDING_BYTES_MIN
            && front_middle <= LANDING_FRONT_BYTES_MAX;
        if lands && self.filled < rest.head + front_middle {
            return self.wait(rest.head + front_middle, Stage::Rest(Box::new(rest)));
        }
        if !lands && (total <= self.buf.len() || rest.rest < DIRECT_BYTES_MIN) {
            return self.wait(total, Stage::Rest(Box::new(rest)));
        }
        self.expect_large = true;
        self.need = 0;
        let first = match (lands, self.revision) {
            (true, _) => 3,
            (false, Revision::V1) => 1,
            (false, Revision::V0) => 0,
        };
        let sums = (!sealed).then(|| Sums::new(first));
        let lands = if lands { rest.landing.take() } else { None };
        let mut direct = if let Some(landing) = lands {
            let mut front_middle = self.take(rest.head + front_middle);
            front_middle.advance(rest.head);
            Box::new(Direct {
                preamble,
                header: rest.header,
                landing: None,
                kind: Kind::Data { front_middle },
                buf: landing,
                filled: 0,
                end: preamble.len(3),
                sums,
            })
        } else {
            self.buf.advance(rest.head);
            self.filled -= rest.head;
            Box::new(Direct {
                preamble,
                header: rest.header,
                landing: rest.landing,
                kind: Kind::Whole,
                buf: self.spares.take(rest.rest),
                filled: 0,
                end: rest.rest,
                sums,
            })
        };
        let there = self.filled.min(direct.end);
        direct.copy(&self.buf[..there]);
        self.buf.advance(there);
        self.filled -= there;
        self.direct(direct)
    }

    fn direct(&mut self, direct: Box<Direct>) -> Result<Option<Incoming>, FrameError> {
        if !direct.is_full() {
            self.stage = Stage::Direct(direct);
            return Ok(None);
        }
        match &direct.kind {
            Kind::Data { .. } => self.epilogue(direct),
            Kind::Whole => {
                let Direct { preamble, header, landing, buf, sums, .. } = *direct;
                let sums = sums.map(|sums| sums.crcs);
                self.complete(Body { preamble, header, landing, bytes: buf, sums, recycle: true }).map(Some)
            }
        }
    }

    fn epilogue(&mut self, direct: Box<Direct>) -> Result<Option<Incoming>, FrameError> {
        if self.filled < EPILOGUE_CRC_V1_BYTES {
            return self.wait(EPILOGUE_CRC_V1_BYTES, Stage::Epilogue(direct));
        }
        let epilogue = self.take(EPILOGUE_CRC_V1_BYTES);
        let Direct { preamble, header, kind, mut buf, sums, .. } = *direct;
        let Kind::Data { mut front_middle } = kind else {
            return Err(FrameError::Authentication);
        };
        let data_crc = sums.map_or(crc::SEGMENT_SEED, |sums| sums.crcs[3]);
        if !check_data_landed(&preamble, &front_middle, data_crc, &epilogue)? {
            return Ok(Some(Incoming::Aborted { lengths: preamble.lengths() }));
        }
        let front = front_middle.split_to(preamble.len(1)).freeze();
        buf.truncate(preamble.len(3));
        let segments = [Bytes::new(), front, front_middle.freeze(), buf.freeze()];
        self.deliver(&preamble, header, segments).map(Some)
    }
}

/// The header of a message that is not compressed; its length was checked with the preamble.
#[inline]
fn header_at(buf: &[u8], at: usize) -> Result<MessageHeader, FrameError> {
    match buf.get(at..).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => Ok(MessageHeader::decode(bytes)),
        None => Err(FrameError::HeaderLength { len: 0 }),
    }
}
