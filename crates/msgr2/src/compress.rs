//! Compression of frames, in Ceph's own containers (Ceph `src/compressor/`, `src/msg/async/compression_onwire.cc`).
//!
//! Each segment that is not empty is compressed by itself, all of a frame or none; the flag in the preamble tells.
//! Which frames are compressed is the sender's choice.
//!
//! | method | container |
//! | --- | --- |
//! | snappy | raw snappy, not its framing format |
//! | zlib | one byte that readers ignore, then raw deflate |
//! | zstd | the original length in 32 bits, then a zstd stream |
//! | lz4 | a 32-bit count of pieces; per piece its original and its compressed length, 32 bits each; then one raw block per piece. Matches may point into the output of earlier pieces |

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use thiserror::Error;

use crate::wire::{CompressionMethod, Reader};

/// Frames of fewer bytes than this are not worth compressing. Ceph's default (`ms_osd_compress_min_size`).
pub const COMPRESS_THRESHOLD_BYTES: usize = 1024;

/// Ceph's default for zlib (`compressor_zlib_level`).
const ZLIB_LEVEL: u32 = 5;
/// Ceph's default for zstd (`compressor_zstd_level`).
const ZSTD_LEVEL: i32 = 1;
/// How far back a match of lz4 may point.
const LZ4_WINDOW_BYTES: usize = 64 * 1024;
/// The most pieces of a segment. Ceph makes one of each buffer that a segment lies in: 64 MiB of data in pages have a
/// quarter of this.
const LZ4_PIECES_MAX: usize = 65_536;
/// Original and compressed length of a piece.
const LZ4_TABLE_ENTRY_BYTES: usize = 8;
/// The first step of an output whose length nobody stated.
const OUTPUT_STEP_BYTES: usize = 16 * 1024;

/// A method that is implemented here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Snappy.
    Snappy,
    /// Deflate.
    Zlib,
    /// Zstandard.
    Zstd,
    /// LZ4.
    Lz4,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Snappy, Self::Zlib, Self::Zstd, Self::Lz4];

    /// The algorithm of a method, if it is one of the four.
    #[must_use]
    pub fn from_method(method: CompressionMethod) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.method() == method)
    }

    /// Its number on the wire.
    #[must_use]
    pub fn method(self) -> CompressionMethod {
        match self {
            Self::Snappy => CompressionMethod::SNAPPY,
            Self::Zlib => CompressionMethod::ZLIB,
            Self::Zstd => CompressionMethod::ZSTD,
            Self::Lz4 => CompressionMethod::LZ4,
        }
    }
}

/// A segment that does not decompress. The peer's fault; the connection dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// The bytes are not what the method writes.
    #[error("no {} stream", algorithm.method())]
    Corrupt {
        /// The method agreed on.
        algorithm: Algorithm,
    },
    /// It would become longer than is taken. Nothing beyond the limit was allocated.
    #[error("decompresses to more than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// It comes in more pieces than anybody would make of it.
    #[error("comes in {count} pieces, more than {limit}")]
    TooManyPieces {
        /// How many it says there are.
        count: usize,
        /// The limit.
        limit: usize,
    },
}

/// The state for compressing; belongs to one direction of one connection.
pub struct Compressor {
    algorithm: Algorithm,
    threshold_bytes: usize,
    engine: CompressEngine,
}

enum CompressEngine {
    Snappy(Box<snap::raw::Encoder>),
    Zlib(Compress),
    Zstd(Option<zstd::bulk::Compressor<'static>>),
    Lz4,
}

impl Compressor {
    /// Compresses frames whose segments have `threshold_bytes` or more together.
    #[must_use]
    pub fn new(algorithm: Algorithm, threshold_bytes: usize) -> Self {
        let engine = match algorithm {
            Algorithm::Snappy => CompressEngine::Snappy(Box::new(snap::raw::Encoder::new())),
            Algorithm::Zlib => CompressEngine::Zlib(Compress::new(Compression::new(ZLIB_LEVEL), false)),
            // Without memory for it, frames go as they are.
            Algorithm::Zstd => CompressEngine::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()),
            Algorithm::Lz4 => CompressEngine::Lz4,
        };
        Self { algorithm, threshold_bytes, engine }
    }

    /// Which algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Compresses all segments of a frame; `None` when it is below the threshold, when one cannot be compressed,
    /// or when they do not get shorter together.
    pub(crate) fn frame(&mut self, segments: [&[u8]; 4]) -> Option<[Bytes; 4]> {
        let total: usize = segments.iter().map(|segment| segment.len()).sum();
        if total < self.threshold_bytes {
            return None;
        }
        let mut out = [const { Bytes::new() }; 4];
        let mut compressed = 0;
        for (segment, out) in segments.iter().zip(&mut out) {
            if !segment.is_empty() {
                *out = Bytes::from(self.segment(segment)?);
                compressed += out.len();
            }
        }
        (compressed < total).then_some(out)
    }

    /// Compresses a segment that is not empty.
    fn segment(&mut self, segment: &[u8]) -> Option<Vec<u8>> {
        let len = u32::try_from(segment.len()).ok()?;
        match &mut self.engine {
            CompressEngine::Snappy(encoder) => encoder.compress_vec(segment).ok(),
            CompressEngine::Zlib(compress) => {
                compress.reset();
                let mut out = vec![0];
                loop {
                    out.reserve(OUTPUT_STEP_BYTES.max(segment.len() / 2));
                    let taken = usize::try_from(compress.total_in()).ok()?;
                    match compress.compress_vec(&segment[taken..], &mut out, FlushCompress::Finish) {
                        Ok(Status::StreamEnd) => return Some(out),
                        Ok(Status::Ok | Status::BufError) => {}
                        Err(_) => return None,
                    }
                }
            }
            CompressEngine::Zstd(compressor) => {
                let stream = compressor.as_mut()?.compress(segment).ok()?;
                let mut out = Vec::with_capacity(4 + stream.len());
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&stream);
                Some(out)
            }
            CompressEngine::Lz4 => {
                let mut out = vec![0; 12 + lz4_flex::block::get_maximum_output_size(segment.len())];
                let block = lz4_flex::block::compress_into(segment, &mut out[12..]).ok()?;
                out.truncate(12 + block);
                out[..4].copy_from_slice(&1u32.to_le_bytes());
                out[4..8].copy_from_slice(&len.to_le_bytes());
                out[8..12].copy_from_slice(&u32::try_from(block).ok()?.to_le_bytes());
                Some(out)
            }
        }
    }
}

impl core::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Compressor")
            .field("algorithm", &self.algorithm)
            .field("threshold_bytes", &self.threshold_bytes)
            .finish_non_exhaustive()
    }
}

/// The state for decompressing; belongs to one direction of one connection.
pub struct Decompressor {
    algorithm: Algorithm,
    engine: DecompressEngine,
}

enum DecompressEngine {
    Snappy(snap::raw::Decoder),
    Zlib(Decompress),
    Zstd(Option<zstd::bulk::Decompressor<'static>>),
    Lz4,
}

impl Decompressor {
    /// Decompresses what was compressed with `algorithm`.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        let engine = match algorithm {
            Algorithm::Snappy => DecompressEngine::Snappy(snap::raw::Decoder::new()),
            Algorithm::Zlib => DecompressEngine::Zlib(Decompress::new(false)),
            Algorithm::Zstd => DecompressEngine::Zstd(zstd::bulk::Decompressor::new().ok()),
            Algorithm::Lz4 => DecompressEngine::Lz4,
        };
        Self { algorithm, engine }
    }

    /// Which algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Decompresses a segment to at most `limit` bytes. An empty one is an empty one.
    pub(crate) fn segment(&mut self, segment: &[u8], limit: usize) -> Result<Bytes, DecompressError> {
        if segment.is_empty() {
            return Ok(Bytes::new());
        }
        let corrupt = DecompressError::Corrupt { algorithm: self.algorithm };
        let out = match &mut self.engine {
            DecompressEngine::Snappy(decoder) => {
                let len = snap::raw::decompress_len(segment).map_err(|_| corrupt)?;
                check_len(len, limit)?;
                decoder.decompress_vec(segment).map_err(|_| corrupt)?
            }
            DecompressEngine::Zlib(decompress) => inflate(decompress, &segment[1..], limit, corrupt)?,
            DecompressEngine::Zstd(decompressor) => {
                let mut reader = Reader::new(segment);
                let len = reader.u32("length").map_err(|_| corrupt)? as usize;
                check_len(len, limit)?;
                let stream = reader.take("stream", reader.remaining()).map_err(|_| corrupt)?;
                let decompressor = decompressor.as_mut().ok_or(corrupt)?;
                let out = decompressor.decompress(stream, len).map_err(|_| corrupt)?;
                if out.len() != len {
                    return Err(corrupt);
                }
                out
            }
            DecompressEngine::Lz4 => lz4(segment, limit, corrupt)?,
        };
        Ok(Bytes::from(out))
    }
}

impl core::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Decompressor").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn check_len(len: usize, limit: usize) -> Result<(), DecompressError> {
    if len > limit { Err(DecompressError::TooLong { limit }) } else { Ok(()) }
}

/// Raw deflate, whose output says nowhere how long it is: the buffer grows with it.
fn inflate(
    decompress: &mut Decompress,
    stream: &[u8],
    limit: usize,
    corrupt: DecompressError,
) -> Result<Vec<u8>, DecompressError> {
    decompress.reset(false);
    let mut out = Vec::new();
    loop {
        let taken = usize::try_from(decompress.total_in()).map_err(|_| corrupt)?;
        // One byte beyond the limit tells an output that ends there from one that goes on.
        let room = out.len().max(OUTPUT_STEP_BYTES).min(limit + 1 - out.len());
        out.reserve_exact(room);
        let before = out.len();
        let input = stream.get(taken..).ok_or(corrupt)?;
        let status =
            decompress.decompress_vec(input, &mut out, FlushDecompress::None).map_err(|_| corrupt)?;
        check_len(out.len(), limit)?;
        let stuck = out.len() == before && decompress.total_in() == taken as u64;
        match status {
            Status::StreamEnd => return Ok(out),
            Status::Ok | Status::BufError if !stuck => {}
            Status::Ok | Status::BufError => return Err(corrupt),
        }
    }
}

/// Pieces that share a window. Their table is read twice, and nothing is allocated before all of it is known to make
/// sense.
fn lz4(segment: &[u8], limit: usize, corrupt: DecompressError) -> Result<Vec<u8>, DecompressError> {
    let mut reader = Reader::new(segment);
    let count = reader.count("pieces", LZ4_TABLE_ENTRY_BYTES).map_err(|_| corrupt)?;
    if count > LZ4_PIECES_MAX {
        return Err(DecompressError::TooManyPieces { count, limit: LZ4_PIECES_MAX });
    }
    let table = reader.take("pieces", LZ4_TABLE_ENTRY_BYTES * count).map_err(|_| corrupt)?;
    let piece = |table: &mut Reader<'_>| {
        let original = table.u32("original length").map_err(|_| corrupt)?;
        let compressed = table.u32("compressed length").map_err(|_| corrupt)?;
        Ok((original as usize, compressed as usize))
    };
    let (mut total, mut entries) = (0usize, Reader::new(table));
    while !entries.is_empty() {
        let (original, _) = piece(&mut entries)?;
        total = total.saturating_add(original);
        check_len(total, limit)?;
    }
    let mut out = vec![0; total];
    let (mut at, mut entries) = (0, Reader::new(table));
    while !entries.is_empty() {
        let (original, compressed) = piece(&mut entries)?;
        let block = reader.take("block", compressed).map_err(|_| corrupt)?;
        let (done, rest) = out.split_at_mut(at);
        let window = &done[at.saturating_sub(LZ4_WINDOW_BYTES)..];
        let written = lz4_flex::block::decompress_into_with_dict(block, &mut rest[..original], window)
            .map_err(|_| corrupt)?;
        if written != original {
            return Err(corrupt);
        }
        at += original;
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
