//! Frames in the four modes, in any pieces.

use crate::input::{Input, Pieces};
use crate::layout::{self, Hand, PREAMBLE, Shape};
use bytes::{Bytes, BytesMut};
use outlast_msgr2::compress::{Algorithm, Compressor, Decompressor};
use outlast_msgr2::frame::{
    Abort, FrameDecoder, FrameEncoder, FrameError, FrameMark, Incoming, Landing, Lengths, Limits, OutBuf,
    Revision, Segment, Side, Tag, secure_pair,
};
use outlast_msgr2::wire::{MESSAGE_HEADER_BYTES, MessageHeader};
use std::io::IoSlice;

/// What the decoders of these targets take: small, so that memory beyond it is seen.
pub const LIMITS: Limits = Limits {
    control_bytes_max: 16 << 10,
    front_bytes_max: 16 << 10,
    middle_bytes_max: 8 << 10,
    data_bytes_max: 128 << 10,
    read_buffer_bytes: 4 << 10,
};
/// The secret of the secure modes: its first counter is about to carry into the next byte.
const SECRET: [u8; 40] = {
    let mut secret = [7; 40];
    secret[28] = 0xfe;
    secret[29] = 0xff;
    secret[32] = 0xfe;
    secret
};
/// More calls than this without an end are a loop.
const STEPS_MAX: usize = 1 << 20;

const fn revision_of(choice: u8) -> Revision {
    if choice & 1 == 0 { Revision::V1 } else { Revision::V0 }
}

/// None for 0, else one of the four.
fn algorithm_of(choice: u8) -> Option<Algorithm> {
    Algorithm::ALL.get(usize::from(choice % 5).wrapping_sub(1)).copied()
}

/// Hesitates and has places for data, as the fuzzer says.
struct Host {
    refuses: u8,
    asked: u8,
    lands: bool,
}

impl Landing for Host {
    fn admit(&mut self, _lengths: Lengths) -> bool {
        self.asked += 1;
        let admitted = self.asked > self.refuses;
        if admitted {
            self.asked = 0;
        }
        admitted
    }

    fn buffer(&mut self, header: &MessageHeader, data_len: usize) -> Option<BytesMut> {
        // Too short ones, too.
        let len = data_len.saturating_add(usize::from(header.kind & 3)).saturating_sub(1);
        self.lands.then(|| BytesMut::zeroed(len))
    }
}

/// Runs a stream through a decoder in pieces. What comes out, what it ends with, and whether it is left in the middle.
fn decode(
    mut decoder: FrameDecoder,
    stream: &[u8],
    mut pieces: Pieces,
    mut host: Host,
) -> (Vec<Incoming>, Result<(), FrameError>) {
    let mut frames = Vec::new();
    let mut left = stream;
    for _ in 0..STEPS_MAX {
        let room = decoder.poll_read();
        let len = room.len().min(left.len()).min(pieces.next_len());
        room[..len].copy_from_slice(&left[..len]);
        decoder.handle_read(len);
        left = &left[len..];
        loop {
            match decoder.next(&mut host) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) if decoder.is_paused() => {}
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next(&mut host).as_ref(), Err(&error), "said again");
                    assert!(decoder.poll_read().is_empty(), "nothing more is read");
                    return (frames, Err(error));
                }
            }
        }
        if left.is_empty() {
            return (frames, Ok(()));
        }
    }
    panic!("no end");
}

/// Frames of crc mode. Options: revision (bit 0), repair the checksums (bit 1), compression (bits 2 to 4), places for
/// data (bit 5); pieces; how often a message is refused first.
pub fn frames(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let pieces = Pieces::new(input.u8());
    let refuses = input.u8() & 3;
    let revision = revision_of(options);
    let mut stream = input.rest().to_vec();
    if options & 2 != 0 {
        layout::repair(&mut stream, revision);
    }
    let decoder = || {
        let mut decoder = FrameDecoder::new(LIMITS);
        decoder.set_revision(revision);
        decoder.set_decompression(algorithm_of(options >> 2).map(Decompressor::new));
        decoder
    };
    let whole = decode(decoder(), &stream, Pieces::new(0), Host { refuses: 0, asked: 0, lands: false });
    let host = Host { refuses, asked: 0, lands: options & 0x20 != 0 };
    let pieced = decode(decoder(), &stream, pieces, host);
    assert_eq!(whole, pieced, "in one piece and in several");

    let mut left = &stream[..];
    for frame in &whole.0 {
        let shape = Shape::read(left);
        let len = usize::try_from(shape.crc_len(revision)).expect("it was decoded");
        let raw = &left[..len];
        left = &left[len..];
        check_lengths(frame, &shape, raw[26] & 1 != 0);
        if is_canonical(raw, &shape, revision) {
            assert_eq!(encode_again(frame, &shape, revision), raw, "encoded again");
        }
    }
}

/// What came out is what the preamble said.
fn check_lengths(frame: &Incoming, shape: &Shape, compressed: bool) {
    let lens = match frame {
        Incoming::Control { tag, payload } => {
            assert_eq!(tag.code(), shape.tag);
            [payload.len(), 0, 0, 0]
        }
        Incoming::Message(message) => {
            [MESSAGE_HEADER_BYTES, message.front.len(), message.middle.len(), message.data.len()]
        }
        Incoming::Aborted { .. } => return,
    };
    if compressed {
        assert!(lens[0] <= LIMITS.control_bytes_max as usize);
        assert!(lens[1] <= LIMITS.front_bytes_max as usize);
        assert!(lens[2] <= LIMITS.middle_bytes_max as usize);
        assert!(lens[3] <= LIMITS.data_bytes_max as usize);
    } else {
        assert_eq!(lens.map(|len| len as u64), shape.lens);
    }
}

/// Nothing in it is ignored by receivers: flags, reserved bits, unused fields, what else a status byte says.
fn is_canonical(raw: &[u8], shape: &Shape, revision: Revision) -> bool {
    let unused = raw[2 + 6 * shape.count..26].iter().all(|byte| *byte == 0);
    let flags = raw[26..28] == [0, 0];
    let status = match revision {
        Revision::V0 => raw[raw.len() - 17] == 0,
        Revision::V1 => shape.count == 1 || raw[raw.len() - 13] == 0x0e,
    };
    // The checksums of segments that are not there.
    let slots = 4 * (4 - shape.count);
    let epilogue = match revision {
        Revision::V1 if shape.count == 1 => true,
        Revision::V0 | Revision::V1 => raw[raw.len() - slots..].iter().all(|byte| *byte == 0),
    };
    unused && flags && status && epilogue
}

fn encode_again(frame: &Incoming, shape: &Shape, revision: Revision) -> Vec<u8> {
    let (tag, parts) = match frame {
        Incoming::Control { tag, payload } => {
            (*tag, [payload.clone(), Bytes::new(), Bytes::new(), Bytes::new()])
        }
        Incoming::Message(message) => {
            let header = Bytes::copy_from_slice(&message.header.encode());
            (Tag::Message, [header, message.front.clone(), message.middle.clone(), message.data.clone()])
        }
        Incoming::Aborted { .. } => panic!("an aborted frame is not canonical"),
    };
    let segments: Vec<_> = parts
        .iter()
        .zip(shape.alignments)
        .take(shape.count)
        .map(|(bytes, alignment)| Segment { bytes, alignment })
        .collect();
    let mut encoder = FrameEncoder::new();
    encoder.set_revision(revision);
    let mut out = OutBuf::new();
    encoder.encode(tag, &segments, &mut out).expect("it was within smaller limits");
    drain(&mut out, usize::MAX)
}

/// Takes up to `len` bytes, as a socket does.
pub(crate) fn drain(out: &mut OutBuf, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..STEPS_MAX {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = out.slices(&mut slices);
        let before = bytes.len();
        for slice in &slices[..filled] {
            let room = len - bytes.len();
            bytes.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let taken = bytes.len() - before;
        if taken == 0 {
            return bytes;
        }
        out.advance(taken);
    }
    panic!("no end");
}

/// Frames of the secure modes, sealed by somebody who knows the key and means harm. Options: revision (bit 0),
/// compression (bits 2 to 4); pieces; then frames: 28 bytes of preamble, a length, that much of a body.
pub fn sealed(data: &[u8]) {
    const FRAMES_MAX: usize = 32;
    let mut input = Input::new(data);
    let options = input.u8();
    let pieces = Pieces::new(input.u8());
    let revision = revision_of(options);
    let mut hand = Hand::client(&SECRET, revision);
    let mut stream = Vec::new();
    let mut shapes = Vec::new();
    let claim_max = 2 * u64::from(LIMITS.data_bytes_max);
    while !input.is_empty() && shapes.len() < FRAMES_MAX {
        let mut preamble = [0; PREAMBLE];
        preamble[..28].copy_from_slice(&input.array::<28>());
        let body = input.long();
        stream.extend(hand.frame(&preamble, body, claim_max));
        shapes.push((Shape::read(&preamble), preamble[26] & 1 != 0));
    }
    let decoder = || {
        let (_, opener) = secure_pair(&SECRET, Side::Server, revision).expect("40 bytes");
        let mut decoder = FrameDecoder::new(LIMITS);
        decoder.set_revision(revision);
        decoder.set_opener(opener);
        decoder.set_decompression(algorithm_of(options >> 2).map(Decompressor::new));
        decoder
    };
    let whole = decode(decoder(), &stream, Pieces::new(0), Host { refuses: 0, asked: 0, lands: false });
    let host = Host { refuses: 1, asked: 0, lands: options & 0x20 != 0 };
    let pieced = decode(decoder(), &stream, pieces, host);
    assert_eq!(whole, pieced, "in one piece and in several");
    for (frame, (shape, compressed)) in whole.0.iter().zip(&shapes) {
        check_lengths(frame, shape, *compressed);
    }
}

/// One frame to be sent, and what shall become of it.
struct Sent {
    tag: Tag,
    parts: [Bytes; 4],
    mark: FrameMark,
    /// Where it ends in the stream.
    end: usize,
    taken_back: bool,
}

/// Frames that we encode, with one bit changed on the way or none: what comes out is what went in, or nothing.
/// Options: revision (bit 0), secure (bit 1), compression (bits 2 to 4), flip a bit (bit 5); pieces; which bit; then
/// frames: tag, lengths and bytes, whether it is aborted after how many bytes.
pub fn round_trip(data: &[u8]) {
    const FRAMES_MAX: usize = 24;
    let mut input = Input::new(data);
    let options = input.u8();
    let pieces = Pieces::new(input.u8());
    let flip = (options & 0x20 != 0).then(|| input.u32());
    let revision = revision_of(options);
    let secure = options & 2 != 0;
    let algorithm = algorithm_of(options >> 2);
    let mut encoder = FrameEncoder::new();
    encoder.set_revision(revision);
    encoder.set_compression(algorithm.map(|algorithm| Compressor::new(algorithm, 64)));
    let mut decoder = FrameDecoder::new(LIMITS);
    decoder.set_revision(revision);
    decoder.set_decompression(algorithm.map(Decompressor::new));
    if secure {
        let (sealer, _) = secure_pair(&SECRET, Side::Client, revision).expect("40 bytes");
        let (_, opener) = secure_pair(&SECRET, Side::Server, revision).expect("40 bytes");
        encoder.set_sealer(sealer);
        decoder.set_opener(opener);
    }
    let mut out = OutBuf::new();
    let mut stream = Vec::new();
    let mut sent: Vec<Sent> = Vec::new();
    while !input.is_empty() && sent.len() < FRAMES_MAX {
        let (tag, parts) = frame_to_send(&mut input);
        let mark = if tag == Tag::Message {
            let header = MessageHeader::decode(parts[0].first_chunk().expect("made so"));
            encoder.encode_message(&header, &parts[1], &parts[2], &parts[3], &mut out)
        } else {
            encoder.encode(tag, &[Segment { bytes: &parts[0], alignment: 8 }], &mut out)
        };
        let mark = mark.expect("it is within the limits");
        let end = usize::try_from(out.queued_total()).expect("a small stream");
        sent.push(Sent { tag, parts, mark, end, taken_back: false });
        match input.u8() {
            0 => {}
            choice => {
                let written = drain(&mut out, usize::from(choice) * 16);
                stream.extend(written);
                let victim = sent.len() - 1 - usize::from(choice & 1).min(sent.len() - 1);
                let queued = out.queued_total();
                let fate = out.abort(sent[victim].mark);
                if fate != Abort::TooLate {
                    assert_eq!(sent[victim].tag, Tag::Message, "only messages can be taken back");
                    assert!(!secure, "what is sealed cannot be taken back");
                    sent[victim].taken_back = true;
                }
                // Nobody's place in the stream is known any more once one of them is gone.
                let gone = usize::try_from(queued - out.queued_total()).expect("less than before");
                for later in &mut sent[victim..] {
                    later.end = later.end.saturating_sub(gone);
                }
            }
        }
    }
    stream.extend(drain(&mut out, usize::MAX));
    let flipped = flip.filter(|_| !stream.is_empty()).map(|bit| {
        let bit = bit as usize % (8 * stream.len());
        stream[bit / 8] ^= 1 << (bit % 8);
        bit / 8
    });
    let host = Host { refuses: 0, asked: 0, lands: options & 0x40 != 0 };
    let (received, end) = decode(decoder, &stream, pieces, host);
    let received: Vec<_> = received.iter().filter_map(parts_of).collect();
    let expected: Vec<_> = sent.iter().filter(|s| !s.taken_back).map(|s| (s.tag, s.parts.clone())).collect();
    match flipped {
        None => {
            assert_eq!(end, Ok(()));
            assert_eq!(received, expected);
        }
        Some(at) => {
            let taken_back = sent.iter().any(|s| s.taken_back);
            let sound = sent.iter().filter(|s| s.end <= at).count();
            assert!(taken_back || received.len() >= sound, "what came before the changed bit is there");
            // A frame of msgr2.0's crc mode is aborted by a single bit that no checksum covers.
            let abortable = revision == Revision::V0 && !secure;
            if abortable {
                assert!(is_subsequence(&received, &expected), "nothing is changed unseen");
            } else {
                assert!(expected.starts_with(&received), "nothing is changed or lost unseen");
            }
            if secure {
                assert!(received.len() <= sound, "a changed bit is always seen");
            }
        }
    }
}

fn frame_to_send(input: &mut Input<'_>) -> (Tag, [Bytes; 4]) {
    let tag = Tag::from_wire(input.u8() % 24).unwrap_or(Tag::Message);
    if tag != Tag::Message {
        return (tag, [Bytes::copy_from_slice(input.short()), Bytes::new(), Bytes::new(), Bytes::new()]);
    }
    let header = Bytes::copy_from_slice(&input.array::<MESSAGE_HEADER_BYTES>());
    let front = Bytes::copy_from_slice(input.short());
    let middle = Bytes::copy_from_slice(input.short());
    // Long enough to be kept by reference, and to go beyond the read buffer.
    let data_len = usize::from(input.u16()) % (40 << 10);
    let pattern = input.short();
    let data: Vec<u8> = (0..data_len)
        .map(|at| pattern.get(at % pattern.len().max(1)).map_or(0, |b| b ^ (at >> 8) as u8))
        .collect();
    (tag, [header, front, middle, data.into()])
}

fn parts_of(frame: &Incoming) -> Option<(Tag, [Bytes; 4])> {
    match frame {
        Incoming::Control { tag, payload } => {
            Some((*tag, [payload.clone(), Bytes::new(), Bytes::new(), Bytes::new()]))
        }
        Incoming::Message(message) => {
            let header = Bytes::copy_from_slice(&message.header.encode());
            Some((
                Tag::Message,
                [header, message.front.clone(), message.middle.clone(), message.data.clone()],
            ))
        }
        Incoming::Aborted { .. } => None,
    }
}

fn is_subsequence<T: PartialEq>(part: &[T], whole: &[T]) -> bool {
    let mut left = whole.iter();
    part.iter().all(|item| left.any(|other| other == item))
}

/// One segment for a decompressor, in a frame made by hand. Options: algorithm (bits 0 and 1), the other way round
/// (bit 2).
pub fn decompress(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let algorithm = Algorithm::ALL[usize::from(options & 3)];
    let segment = input.rest();
    if segment.len() > LIMITS.control_bytes_max as usize {
        return;
    }
    let mut decoder = FrameDecoder::new(LIMITS);
    decoder.set_revision(Revision::V1);
    decoder.set_decompression(Some(Decompressor::new(algorithm)));
    if options & 4 != 0 {
        let mut encoder = FrameEncoder::new();
        encoder.set_revision(Revision::V1);
        encoder.set_compression(Some(Compressor::new(algorithm, 1)));
        let mut out = OutBuf::new();
        let front = Bytes::copy_from_slice(segment);
        let header = MessageHeader::default();
        encoder.encode_message(&header, &front, &Bytes::new(), &Bytes::new(), &mut out).expect("it fits");
        let stream = drain(&mut out, usize::MAX);
        let (frames, end) =
            decode(decoder, &stream, Pieces::new(0), Host { refuses: 0, asked: 0, lands: false });
        assert_eq!(end, Ok(()));
        let [Incoming::Message(message)] = &frames[..] else { panic!("one message went in: {frames:?}") };
        assert_eq!(message.front, front, "compressed and back");
        return;
    }
    let mut stream = vec![0; PREAMBLE];
    stream[0] = Tag::AuthReplyMore.code();
    stream[1] = 1;
    stream[2..6].copy_from_slice(&u32::try_from(segment.len()).expect("checked").to_le_bytes());
    stream[26] = 1;
    stream.extend_from_slice(segment);
    stream.extend_from_slice(&[0; 4][..if segment.is_empty() { 0 } else { 4 }]);
    layout::repair(&mut stream, Revision::V1);
    let (frames, _) = decode(decoder, &stream, Pieces::new(0), Host { refuses: 0, asked: 0, lands: false });
    if let [Incoming::Control { payload, .. }] = &frames[..] {
        assert!(payload.len() <= LIMITS.control_bytes_max as usize, "bounded");
    }
}
