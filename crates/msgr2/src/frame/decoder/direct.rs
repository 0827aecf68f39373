//! Large bodies, read into buffers of their own.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::frame::crc;
use crate::frame::preamble::{Preamble, SEGMENTS_MAX};
use crate::wire::MessageHeader;

/// How many buffers are remembered for use again, and how large they are together at most. They are used again
/// when their last message was let go of; a page of fresh memory costs more than reading into it. Two of 1 MiB with
/// what a frame adds: one is read into while the other is dealt with.
const SPARES_MAX: usize = 4;
const SPARE_BYTES_MAX: usize = 2 * (1024 + 32) * 1024;

/// The checksums of segments whose bytes come in pieces.
#[derive(Debug)]
pub(super) struct Sums {
    /// The segment being summed.
    segment: usize,
    /// How much of it is summed.
    within: usize,
    /// How much of everything is summed.
    done: usize,
    pub(super) crcs: [u32; SEGMENTS_MAX],
}

impl Sums {
    /// Begins with the segment `first`.
    pub(super) fn new(first: usize) -> Self {
        Self { segment: first, within: 0, done: 0, crcs: [crc::SEGMENT_SEED; SEGMENTS_MAX] }
    }

    /// Goes on with what is new in `bytes`, which begin with the first segment.
    pub(super) fn update(&mut self, preamble: &Preamble, bytes: &[u8]) {
        while self.segment < SEGMENTS_MAX {
            let left = preamble.len(self.segment) - self.within;
            let step = left.min(bytes.len() - self.done);
            let crc = &mut self.crcs[self.segment];
            *crc = crc::segment_continued(*crc, &bytes[self.done..self.done + step]);
            self.done += step;
            self.within += step;
            if step < left {
                break;
            }
            self.segment += 1;
            self.within = 0;
        }
    }
}

/// What goes into the buffer of a [`Direct`].
#[derive(Debug)]
pub(super) enum Kind {
    /// All of the frame that had not been taken from the read buffer.
    Whole,
    /// The data alone; front and middle are here. The epilogue comes behind, in the read buffer.
    Data { front_middle: BytesMut },
}

/// A body under way into a buffer of its own.
#[derive(Debug)]
pub(super) struct Direct {
    pub(super) preamble: Preamble,
    pub(super) header: Option<MessageHeader>,
    pub(super) landing: Option<BytesMut>,
    pub(super) kind: Kind,
    pub(super) buf: BytesMut,
    pub(super) filled: usize,
    /// How much of the buffer is to be filled.
    pub(super) end: usize,
    /// In crc mode.
    pub(super) sums: Option<Sums>,
}

impl Direct {
    pub(super) fn is_full(&self) -> bool {
        self.filled == self.end
    }

    /// Takes what was in the read buffer already.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        self.buf[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.handle_read(bytes.len());
    }

    /// That many bytes have been put into the buffer.
    pub(super) fn handle_read(&mut self, len: usize) {
        debug_assert!(len <= self.end - self.filled, "more read than there was room for");
        self.filled = self.end.min(self.filled + len);
        if let Some(sums) = &mut self.sums {
            sums.update(&self.preamble, &self.buf[..self.filled]);
        }
    }
}

/// Buffers to be used again.
#[derive(Debug, Default)]
pub(super) struct Spares {
    buffers: VecDeque<Bytes>,
    bytes: usize,
}

impl Spares {
    /// An initialised buffer of at least `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> BytesMut {
        for _ in 0..self.buffers.len() {
            let Some(buffer) = self.buffers.pop_front() else { break };
            // One that is far larger than needed would be kept alive by a message that is not.
            if buffer.len() < len || buffer.len() > 2 * len {
                self.buffers.push_back(buffer);
                continue;
            }
            let size = buffer.len();
            match buffer.try_into_mut() {
                Ok(buffer) => {
                    self.bytes -= size;
                    return buffer;
                }
                Err(in_use) => self.buffers.push_back(in_use),
            }
        }
        BytesMut::zeroed(len)
    }

    /// Remembers a buffer in its full length.
    pub(super) fn put(&mut self, buffer: &Bytes) {
        if buffer.len() > SPARE_BYTES_MAX {
            return;
        }
        self.buffers.push_back(buffer.clone());
        self.bytes += buffer.len();
        while self.buffers.len() > SPARES_MAX || self.bytes > SPARE_BYTES_MAX {
            if let Some(oldest) = self.buffers.pop_front() {
                self.bytes -= oldest.len();
            }
        }
    }
}
