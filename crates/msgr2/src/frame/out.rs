//! Bytes that wait to be written.
//!
//! Small things are copied one behind the other into one scratch buffer. A large segment is kept by reference,
//! and its checksum is worked out piece by piece as the pieces are handed to the transport: the bytes are then in
//! the cache when the transport copies them. Its epilogue stands in the scratch behind it and is filled in when
//! the last piece is handed out. That also makes it possible to abort such a frame half-way.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use super::crc;
use super::error::TranscriptOverflow;
use super::preamble::{LATE_FLAG_ABORTED_V0, LATE_STATUS_ABORTED_V1, Revision};
use super::transcript::Transcript;

/// Segments of at least this many bytes are kept by reference in crc mode; below, the copy costs less than the
/// bookkeeping and the additional slices for the kernel.
pub const REFERENCE_BYTES_MIN: usize = 8 * 1024;

/// How much of referenced segments is handed out at a time: all that a socket within one machine takes, since each write
/// that could have been part of the one before wakes the peer once more, and little enough to stay in a core's
/// second-level cache between the checksum and the copy.
const WINDOW_BYTES: usize = 512 * 1024;

/// The first scratch: what either end says in a handshake fits, and a stranger may not cost much.
const SCRATCH_BYTES_FIRST: usize = 512;
/// A larger one is a multiple of this.
const SCRATCH_BYTES_STEP: usize = 4 * 1024;
/// A scratch larger than this is given back once it is empty. It grows that far only in secure mode, where a
/// frame is sealed as a whole.
const SCRATCH_KEPT_BYTES_MAX: usize = 1280 * 1024;

/// What stands for the rest of a segment that was aborted.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// The place of a frame in the stream, for [`OutBuf::abort`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameMark(u64);

/// What became of the wish to abort a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// Nothing of it had been written: it is gone without a trace.
    Removed,
    /// It had been begun: the rest is zeros and its status tells the peer to drop it.
    Aborted,
    /// It is written, or was copied or sealed as a whole and goes out as it is.
    TooLate,
}

/// A segment kept by reference.
#[derive(Debug)]
struct Shared {
    bytes: Bytes,
    /// How much of it has been written.
    written: usize,
    /// How much of it is in `crc`.
    summed: usize,
    crc: u32,
    /// Where in the scratch (counted from the beginning of the stream) its checksum goes.
    crc_at: u64,
    /// Where the status of its frame is.
    status_at: u64,
    revision: Revision,
    frame: u64,
}

#[derive(Debug)]
enum Chunk {
    /// Bytes of the scratch. `frame` is the frame with referenced segments that they belong to, `begun` whether
    /// some of them have been written.
    Scratch {
        len: usize,
        frame: Option<u64>,
        begun: bool,
    },
    /// Bytes of the scratch that are not to be written.
    Dead {
        len: usize,
    },
    Shared(Box<Shared>),
    /// The rest of an aborted segment.
    Zeros {
        len: usize,
    },
}

/// Bytes to write, in order.
#[derive(Debug, Default)]
pub struct OutBuf {
    /// All of it is initialised; `head..tail` waits.
    scratch: Vec<u8>,
    head: usize,
    tail: usize,
    /// How many bytes of scratch there were before `scratch[0]`.
    base: u64,
    chunks: VecDeque<Chunk>,
    len: usize,
    written_total: u64,
    frames: u64,
    recording: Option<Transcript>,
}

impl OutBuf {
    /// An empty one, without memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes wait.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none do.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes were ever written.
    #[must_use]
    pub fn written_total(&self) -> u64 {
        self.written_total
    }

    /// How many bytes were ever queued, less those removed by aborts.
    #[must_use]
    pub fn queued_total(&self) -> u64 {
        self.written_total + self.len as u64
    }

    /// Queues bytes that are no frame: the banner.
    pub fn push_raw(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.room(bytes.len()).copy_from_slice(bytes);
            self.commit(bytes.len());
        }
    }

    /// Keeps a copy of everything that is queued from here on.
    pub fn start_recording(&mut self) {
        self.recording = Some(Transcript::default());
    }

    /// What was queued since, and keeps no more. Empty when nothing was recorded.
    ///
    /// # Errors
    /// [`TranscriptOverflow`] when it was more than [`super::TRANSCRIPT_BYTES_MAX`].
    pub fn take_transcript(&mut self) -> Result<Vec<u8>, TranscriptOverflow> {
        self.recording.take().unwrap_or_default().finish()
    }

    /// Lends what is to be written next, as many slices as there is room for; returns how many there are. 0 means
    /// there is nothing.
    pub fn slices<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.sum_window();
        let mut at = self.head;
        let mut count = 0;
        for chunk in &self.chunks {
            if count == slices.len() {
                break;
            }
            match chunk {
                Chunk::Scratch { len, .. } => {
                    slices[count] = IoSlice::new(&self.scratch[at..at + len]);
                    count += 1;
                    at += len;
                }
                Chunk::Dead { len } => at += len,
                Chunk::Shared(shared) => {
                    if shared.summed > shared.written {
                        slices[count] = IoSlice::new(&shared.bytes[shared.written..shared.summed]);
                        count += 1;
                    }
                    if shared.summed < shared.bytes.len() {
                        break;
                    }
                }
                Chunk::Zeros { len } => {
                    let lent = (*len).min(ZEROS.len());
                    slices[count] = IoSlice::new(&ZEROS[..lent]);
                    count += 1;
                    if lent < *len {
                        break;
                    }
                }
            }
        }
        count
    }

    /// The first `len` bytes of what was lent have been written.
    ///
    /// More than was lent is a mistake of the caller; what is beyond the end is ignored.
    pub fn advance(&mut self, len: usize) {
        debug_assert!(len <= self.len, "{len} of {} bytes written", self.len);
        let mut left = len.min(self.len);
        self.len -= left;
        self.written_total += left as u64;
        loop {
            match self.chunks.front_mut() {
                Some(Chunk::Scratch { len, .. }) if left >= *len => {
                    left -= *len;
                    self.head += *len;
                }
                Some(Chunk::Scratch { len, begun, .. }) => {
                    *len -= left;
                    self.head += left;
                    *begun |= left > 0;
                    break;
                }
                Some(Chunk::Dead { len }) => self.head += *len,
                Some(Chunk::Shared(shared)) => {
                    let step = left.min(shared.bytes.len() - shared.written);
                    shared.written += step;
                    left -= step;
                    if shared.written < shared.bytes.len() {
                        break;
                    }
                }
                Some(Chunk::Zeros { len }) if left >= *len => left -= *len,
                Some(Chunk::Zeros { len }) => {
                    *len -= left;
                    break;
                }
                None => break,
            }
            self.chunks.pop_front();
        }
        if self.chunks.is_empty() {
            self.base += self.tail as u64;
            self.head = 0;
            self.tail = 0;
            if self.scratch.len() > SCRATCH_KEPT_BYTES_MAX {
                self.scratch = Vec::new();
            }
        }
    }

    /// Takes back a frame that its sender no longer wants to go out, so that its payload can be let go.
    ///
    /// Works for frames of crc mode with a segment kept by reference (one of [`REFERENCE_BYTES_MIN`] or more).
    /// A frame sealed already cannot be changed, and a small one is gone sooner than it is taken back.
    pub fn abort(&mut self, mark: FrameMark) -> Abort {
        let FrameMark(id) = mark;
        // A chunk that is written is gone. So if no segment is left there is nothing to let go, and if the first
        // chunk that is left is not the preamble's, or that has been begun, the frame has been.
        let mut begun = None;
        let mut unwritten = false;
        for chunk in &self.chunks {
            match chunk {
                Chunk::Scratch { frame: Some(frame), begun: chunk_begun, .. } if *frame == id => {
                    begun = begun.or(Some(*chunk_begun));
                }
                Chunk::Shared(shared) if shared.frame == id => {
                    begun = begun.or(Some(true));
                    unwritten = true;
                }
                Chunk::Scratch { .. } | Chunk::Dead { .. } | Chunk::Shared(_) | Chunk::Zeros { .. } => {}
            }
        }
        if !unwritten {
            return Abort::TooLate;
        }
        if begun == Some(true) {
            self.zero(id);
            Abort::Aborted
        } else {
            self.remove(id);
            Abort::Removed
        }
    }

    /// Takes out a frame of which nothing was written.
    fn remove(&mut self, id: u64) {
        for chunk in &mut self.chunks {
            match chunk {
                Chunk::Scratch { len, frame: Some(frame), .. } if *frame == id => {
                    self.len -= *len;
                    *chunk = Chunk::Dead { len: *len };
                }
                Chunk::Shared(shared) if shared.frame == id => {
                    self.len -= shared.bytes.len();
                    *chunk = Chunk::Dead { len: 0 };
                }
                Chunk::Scratch { .. } | Chunk::Dead { .. } | Chunk::Shared(_) | Chunk::Zeros { .. } => {}
            }
        }
        // Lets go of what has nothing left to write.
        self.advance(0);
    }

    /// Puts zeros in the place of what was not written of a frame's referenced segments, with checksums to match:
    /// some receivers look at them before they look at the status.
    fn zero(&mut self, id: u64) {
        for chunk in &mut self.chunks {
            let Chunk::Shared(shared) = chunk else { continue };
            if shared.frame != id {
                continue;
            }
            let left = shared.bytes.len() - shared.written;
            let mut sum = crc::segment(&shared.bytes[..shared.written]);
            for start in (0..left).step_by(ZEROS.len()) {
                sum = crc::segment_continued(sum, &ZEROS[..ZEROS.len().min(left - start)]);
            }
            let status = match shared.revision {
                Revision::V0 => LATE_FLAG_ABORTED_V0,
                Revision::V1 => LATE_STATUS_ABORTED_V1,
            };
            patch(&mut self.scratch, self.base, shared.crc_at, &sum.to_le_bytes());
            patch(&mut self.scratch, self.base, shared.status_at, &[status]);
            *chunk = Chunk::Zeros { len: left };
        }
    }

    /// Works out the checksums of the next window of referenced bytes.
    fn sum_window(&mut self) {
        let mut window = WINDOW_BYTES;
        for chunk in &mut self.chunks {
            let Chunk::Shared(shared) = chunk else { continue };
            let end = shared.bytes.len().min(shared.written.saturating_add(window));
            if end > shared.summed {
                shared.crc = crc::segment_continued(shared.crc, &shared.bytes[shared.summed..end]);
                shared.summed = end;
                if end == shared.bytes.len() {
                    patch(&mut self.scratch, self.base, shared.crc_at, &shared.crc.to_le_bytes());
                }
            }
            window = window.saturating_sub(shared.summed - shared.written);
            if window == 0 || shared.summed < shared.bytes.len() {
                break;
            }
        }
    }

    /// `len` bytes at the end of the scratch to be written into. They count when they are committed.
    #[inline]
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.scratch.len() - self.tail < len {
            self.make_room(len);
        }
        &mut self.scratch[self.tail..self.tail + len]
    }

    #[cold]
    fn make_room(&mut self, len: usize) {
        let waiting = self.tail - self.head;
        // Grown before it is half full of what waits: what is moved to its beginning is less than what is appended
        // before that happens again.
        let roomy = 2 * waiting + len <= self.scratch.len();
        self.scratch.copy_within(self.head..self.tail, 0);
        self.base += self.head as u64;
        self.head = 0;
        self.tail = waiting;
        if !roomy {
            let wanted = 2 * waiting + len;
            let step = if wanted <= SCRATCH_BYTES_FIRST { SCRATCH_BYTES_FIRST } else { SCRATCH_BYTES_STEP };
            self.scratch.resize(wanted.next_multiple_of(step), 0);
        }
    }

    /// The next `len` bytes of room are a frame, or raw bytes.
    #[inline]
    pub(super) fn commit(&mut self, len: usize) -> FrameMark {
        if let Some(transcript) = &mut self.recording {
            transcript.push(&self.scratch[self.tail..self.tail + len]);
        }
        match self.chunks.back_mut() {
            Some(Chunk::Scratch { len: last, frame: None, .. }) => *last += len,
            _ => self.chunks.push_back(Chunk::Scratch { len, frame: None, begun: false }),
        }
        self.tail += len;
        self.len += len;
        self.next_mark()
    }

    #[inline]
    fn next_mark(&mut self) -> FrameMark {
        self.frames += 1;
        FrameMark(self.frames)
    }

    /// Begins a frame with segments kept by reference; its parts in the scratch take `len` bytes in all.
    pub(super) fn begin_mixed(&mut self, len: usize) -> Mixed<'_> {
        self.room(len);
        let FrameMark(frame) = self.next_mark();
        let start = self.base + self.tail as u64;
        Mixed { at: self.tail, out: self, frame, start }
    }
}

/// A frame with referenced segments that is being queued.
pub(super) struct Mixed<'a> {
    out: &'a mut OutBuf,
    frame: u64,
    /// Where its first byte is, counted from the beginning of the stream of scratch bytes.
    start: u64,
    /// The end of what was put in the scratch. What is behind the scratch's tail is not yet a chunk.
    at: usize,
}

impl Mixed<'_> {
    /// Appends bytes to the scratch.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.out.scratch[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Queues a segment by reference. Its checksum and the status of its frame stand that many scratch bytes
    /// from the beginning of the frame.
    pub(super) fn share(&mut self, bytes: Bytes, crc_at: usize, status_at: usize, revision: Revision) {
        self.end_run();
        if let Some(transcript) = &mut self.out.recording {
            transcript.push(&bytes);
        }
        self.out.len += bytes.len();
        self.out.chunks.push_back(Chunk::Shared(Box::new(Shared {
            bytes,
            written: 0,
            summed: 0,
            crc: crc::SEGMENT_SEED,
            crc_at: self.start + crc_at as u64,
            status_at: self.start + status_at as u64,
            revision,
            frame: self.frame,
        })));
    }

    pub(super) fn finish(mut self) -> FrameMark {
        self.end_run();
        FrameMark(self.frame)
    }

    fn end_run(&mut self) {
        let out = &mut *self.out;
        let len = self.at - out.tail;
        if len > 0 {
            if let Some(transcript) = &mut out.recording {
                transcript.push(&out.scratch[out.tail..self.at]);
            }
            out.chunks.push_back(Chunk::Scratch { len, frame: Some(self.frame), begun: false });
            out.tail = self.at;
            out.len += len;
        }
    }
}

/// Writes into the scratch at a place counted from the beginning of the stream.
fn patch(scratch: &mut [u8], base: u64, at: u64, bytes: &[u8]) {
    let at = (at - base) as usize;
    scratch[at..at + bytes.len()].copy_from_slice(bytes);
}
