//! Frames as bytes, from the specification and from this side to that.

mod faults;
mod layout;
mod limits;
mod out;
mod streams;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::compress::{Algorithm, Compressor, Decompressor};
use crate::wire::MessageHeader;

/// A connection secret.
fn secret() -> Vec<u8> {
    (0..64u8).map(|at| at.wrapping_mul(29).wrapping_add(3)).collect()
}

/// One of the four modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    revision: Revision,
    secure: bool,
}

const CRC_V0: Mode = Mode { revision: Revision::V0, secure: false };
const CRC_V1: Mode = Mode { revision: Revision::V1, secure: false };
const SECURE_V0: Mode = Mode { revision: Revision::V0, secure: true };
const SECURE_V1: Mode = Mode { revision: Revision::V1, secure: true };
const MODES: [Mode; 4] = [CRC_V0, CRC_V1, SECURE_V0, SECURE_V1];

impl Mode {
    fn encoder(self) -> FrameEncoder {
        let mut encoder = FrameEncoder::new();
        encoder.set_revision(self.revision);
        if self.secure {
            encoder.set_sealer(secure_pair(&secret(), Side::Client, self.revision).unwrap().0);
        }
        encoder
    }

    fn decoder(self) -> FrameDecoder {
        let mut decoder = FrameDecoder::new(Limits::READY);
        decoder.set_revision(self.revision);
        if self.secure {
            decoder.set_opener(secure_pair(&secret(), Side::Server, self.revision).unwrap().1);
        }
        decoder
    }

    fn compressing(self, algorithm: Algorithm) -> (FrameEncoder, FrameDecoder) {
        let (mut encoder, mut decoder) = (self.encoder(), self.decoder());
        encoder.set_compression(Some(Compressor::new(algorithm, 0)));
        decoder.set_decompression(Some(Decompressor::new(algorithm)));
        (encoder, decoder)
    }
}

/// Everything that waits, taken in steps of at most `step` bytes.
fn drain(out: &mut OutBuf, step: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 5];
        let count = out.slices(&mut slices);
        assert!(count > 0, "something waits but nothing is lent");
        let mut taken = 0;
        for slice in &slices[..count] {
            assert!(!slice.is_empty());
            let part = slice.len().min(step - taken);
            bytes.extend_from_slice(&slice[..part]);
            taken += part;
        }
        out.advance(taken);
    }
    bytes
}

/// Puts bytes into a decoder in steps of at most `step`, and takes out what comes.
fn feed(
    decoder: &mut FrameDecoder,
    mut bytes: &[u8],
    step: usize,
    landing: &mut dyn Landing,
) -> Result<Vec<Incoming>, FrameError> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let room = decoder.poll_read();
        assert!(!room.is_empty(), "nowhere to read to");
        let len = room.len().min(step).min(bytes.len());
        room[..len].copy_from_slice(&bytes[..len]);
        decoder.handle_read(len);
        bytes = &bytes[len..];
        while let Some(frame) = decoder.next(landing)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn feed_all(decoder: &mut FrameDecoder, bytes: &[u8]) -> Result<Vec<Incoming>, FrameError> {
    feed(decoder, bytes, usize::MAX, &mut AdmitAll)
}

/// Bytes that do not repeat soon.
fn payload(len: usize, seed: u32) -> Bytes {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect()
}

fn header(seq: u64) -> MessageHeader {
    MessageHeader {
        seq,
        tid: 1000 + seq,
        kind: 42,
        priority: 127,
        version: 1,
        ack_seq: seq / 2,
        flags: crate::wire::MESSAGE_FLAGS,
        compat_version: 1,
        ..MessageHeader::default()
    }
}

fn message(seq: u64, front: usize, middle: usize, data: usize) -> MessageFrame {
    MessageFrame {
        header: header(seq),
        front: payload(front, 11),
        middle: payload(middle, 22),
        data: payload(data, 33),
        admitted: Lengths { front: front as u32, middle: middle as u32, data: data as u32 },
    }
}

fn encode(encoder: &mut FrameEncoder, message: &MessageFrame, out: &mut OutBuf) -> FrameMark {
    let MessageFrame { header, front, middle, data, .. } = message;
    encoder.encode_message(header, front, middle, data, out).unwrap()
}

/// The bytes of one message by itself.
fn encoded(mode: Mode, message: &MessageFrame) -> Vec<u8> {
    let mut out = OutBuf::new();
    encode(&mut mode.encoder(), message, &mut out);
    drain(&mut out, usize::MAX)
}

/// Gives a buffer to every message whose transaction is odd.
#[derive(Default)]
struct OddLands {
    asked: usize,
    places: Vec<(usize, usize)>,
}

impl Landing for OddLands {
    fn admit(&mut self, _lengths: Lengths) -> bool {
        true
    }

    fn buffer(&mut self, header: &MessageHeader, data_len: usize) -> Option<BytesMut> {
        self.asked += 1;
        (header.tid % 2 == 1).then(|| {
            let buffer = BytesMut::zeroed(data_len + 7);
            self.places.push((buffer.as_ptr() as usize, data_len));
            buffer
        })
    }
}
