//! What real Ceph daemons and clients said, decoded and encoded again to the very bytes (`golden/README.md`).

#![allow(clippy::unwrap_used, reason = "a test that cannot read its captures has failed")]

mod capture;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use capture::{bytes_of, cases};
use outlast_msgr2::compress::{Algorithm, Compressor, Decompressor};
use outlast_msgr2::frame::{
    AdmitAll, FrameDecoder, FrameEncoder, Incoming, Limits, OutBuf, Revision, TRANSCRIPT_ACCEPTED_BYTES_MAX,
    Tag,
};
use outlast_msgr2::wire::{
    BANNER_PREFIX_BYTES, Banner, ConnectionMode, Control, FEATURE_COMPRESSION, FEATURE_REVISION_1,
};

/// The directories of all captured connections of msgr2.1.
fn connections() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let of_revision_0 = cases("rev0-");
    for case in cases("").into_iter().filter(|path| path.is_dir() && !of_revision_0.contains(path)) {
        let inner = fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path());
        found.extend(inner.filter(|path| path.join("client.bin").exists()));
    }
    found.sort();
    assert!(found.len() >= 16, "captures are missing: {found:?}");
    found
}

/// One direction of a connection, taken apart as far as it is readable without keys.
#[derive(Debug, Default)]
struct Spoken {
    frames: Vec<(Incoming, Vec<u8>)>,
    /// Bytes behind the last readable frame.
    sealed: usize,
    /// Bytes of a frame that the capture cuts.
    torn: usize,
}

/// The length of a frame of msgr2.1's crc mode, from its preamble by the specification.
fn frame_len(bytes: &[u8]) -> usize {
    let len = |at: usize| u32::from_le_bytes(bytes[2 + 6 * at..6 + 6 * at].try_into().unwrap()) as usize;
    let count = usize::from(bytes[1]);
    let first = if len(0) > 0 { len(0) + 4 } else { 0 };
    let rest = if count > 1 { (1..count).map(len).sum::<usize>() + 13 } else { 0 };
    32 + first + rest
}

/// Whether a frame has the flag for compression.
fn is_compressed(raw: &[u8]) -> bool {
    raw[26] & 1 != 0
}

/// Takes a direction apart. `sealed_after`: the last frame in the clear.
fn spoken(path: &Path, algorithm: Option<Algorithm>, sealed_after: Option<usize>) -> Spoken {
    let bytes = fs::read(path).unwrap();
    let mut decoder = FrameDecoder::new(Limits::READY);
    let mut left = &bytes[..];
    let mut consumed = 0;
    let mut spoken = Spoken::default();
    let mut banner_seen = false;
    loop {
        let room = decoder.poll_read();
        let len = room.len().min(left.len());
        room[..len].copy_from_slice(&left[..len]);
        decoder.handle_read(len);
        left = &left[len..];
        if !banner_seen {
            let prefix = decoder.take_raw(BANNER_PREFIX_BYTES).unwrap();
            let len = Banner::payload_len(prefix[..].try_into().unwrap()).unwrap();
            let payload = decoder.take_raw(len).unwrap();
            let banner = Banner::decode_payload(&payload).unwrap();
            assert_eq!(banner.encode(), bytes[..26]);
            assert_ne!(banner.supported & FEATURE_REVISION_1, 0);
            assert_eq!(banner.supported & !(FEATURE_REVISION_1 | FEATURE_COMPRESSION), 0);
            consumed = 26;
            banner_seen = true;
            decoder.set_revision(Revision::V1);
        }
        loop {
            if sealed_after.is_some_and(|frames| spoken.frames.len() == frames) {
                spoken.sealed = bytes.len() - consumed;
                return spoken;
            }
            let Some(frame) =
                decoder.next(&mut AdmitAll).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            else {
                break;
            };
            let raw = &bytes[consumed..consumed + frame_len(&bytes[consumed..])];
            consumed += raw.len();
            let done = matches!(frame, Incoming::Control { tag: Tag::CompressionDone, .. });
            let request = matches!(frame, Incoming::Control { tag: Tag::CompressionRequest, .. });
            spoken.frames.push((frame, raw.to_vec()));
            if done || request {
                decoder.set_decompression(algorithm.map(Decompressor::new));
            }
        }
        if left.is_empty() {
            spoken.torn = bytes.len() - consumed;
            return spoken;
        }
    }
}

/// How many frames of each direction are in the clear, and what compresses the others.
fn agreed(connection: &Path) -> (Option<Algorithm>, Option<(usize, usize)>) {
    let mut decoder = FrameDecoder::new(Limits::READY);
    let server = fs::read(connection.join("server.bin")).unwrap();
    let mut at = 26;
    decoder.set_revision(Revision::V1);
    let mut algorithm = None;
    let mut before = 0;
    while at + 32 <= server.len() {
        let frame = &server[at..server.len().min(at + frame_len(&server[at..]))];
        at += frame.len();
        before += 1;
        if frame[0] == Tag::AuthDone.code() {
            let Control::AuthDone(done) = Control::decode(Tag::AuthDone, &frame[32..]).unwrap() else {
                panic!("the tag says AUTH_DONE")
            };
            if done.mode == ConnectionMode::SECURE {
                // The client speaks in the clear as long as it says HELLO and proves itself.
                let client = fs::read(connection.join("client.bin")).unwrap();
                let (mut at, mut frames) = (26, 0);
                while matches!(
                    Tag::from_wire(client[at]),
                    Some(Tag::Hello | Tag::AuthRequest | Tag::AuthRequestMore)
                ) && client[at + 1] == 1
                    && client.len() > at + 32
                    && client[at + 27] == 0
                {
                    at += frame_len(&client[at..]);
                    frames += 1;
                }
                return (None, Some((frames, before)));
            }
            assert_eq!(done.mode, ConnectionMode::CRC);
        }
        if frame[0] == Tag::CompressionDone.code() {
            let Control::CompressionDone(done) = Control::decode(Tag::CompressionDone, &frame[32..]).unwrap()
            else {
                panic!("the tag says COMPRESSION_DONE")
            };
            algorithm = Algorithm::from_method(done.method);
            assert_eq!(algorithm.is_some(), done.granted);
            break;
        }
    }
    (algorithm, None)
}

fn encode(frame: &Incoming, encoder: &mut FrameEncoder) -> Vec<u8> {
    let mut out = OutBuf::new();
    match frame {
        Incoming::Control { tag, payload } => {
            let control = Control::decode(*tag, payload).unwrap();
            encoder.encode_control(&control, &mut out).unwrap();
        }
        Incoming::Message(message) => {
            let (front, middle, data) = (&message.front, &message.middle, &message.data);
            encoder.encode_message(&message.header, front, middle, data, &mut out).unwrap();
        }
        Incoming::Aborted { .. } => panic!("Ceph aborts no frames"),
    }
    bytes_of(&mut out)
}

#[test]
fn every_readable_frame_is_encoded_again_to_the_same_bytes() {
    let mut tags: BTreeMap<Tag, usize> = BTreeMap::new();
    let mut sealed = 0;
    for connection in connections() {
        let (algorithm, clear) = agreed(&connection);
        for (side, clear) in [("client.bin", clear.map(|c| c.0)), ("server.bin", clear.map(|c| c.1))] {
            let path = connection.join(side);
            let spoken = spoken(&path, algorithm, clear);
            sealed += usize::from(spoken.sealed > 0);
            assert!(!spoken.frames.is_empty(), "{}", path.display());
            let mut encoder = FrameEncoder::new();
            encoder.set_revision(Revision::V1);
            for (frame, raw) in &spoken.frames {
                let tag = match frame {
                    Incoming::Control { tag, .. } => *tag,
                    Incoming::Message(_) | Incoming::Aborted { .. } => Tag::Message,
                };
                *tags.entry(tag).or_default() += 1;
                if !is_compressed(raw) {
                    assert_eq!(encode(frame, &mut encoder), *raw, "{tag} in {}", path.display());
                }
            }
        }
    }
    // All that the captures can show without keys.
    let expected = [
        Tag::Hello,
        Tag::AuthRequest,
        Tag::AuthReplyMore,
        Tag::AuthRequestMore,
        Tag::AuthDone,
        Tag::AuthSignature,
        Tag::ClientIdent,
        Tag::ServerIdent,
        Tag::SessionReconnect,
        Tag::SessionRetry,
        Tag::SessionReconnectOk,
        Tag::Wait,
        Tag::Message,
        Tag::Ack,
        Tag::CompressionRequest,
        Tag::CompressionDone,
    ];
    for tag in expected {
        assert!(tags.contains_key(&tag), "no {tag} in {tags:?}");
    }
    assert!(tags[&Tag::Message] > 100, "{tags:?}");
    assert!(sealed >= 8, "{sealed} directions are sealed");
}

#[test]
fn what_real_clients_say_before_authentication_is_far_below_what_is_taken() {
    let (mut longest, mut most) = (0, 0);
    for connection in connections() {
        let bytes = fs::read(connection.join("client.bin")).unwrap();
        let mut at = 26;
        while let Some(Tag::Hello | Tag::AuthRequest | Tag::AuthRequestMore) = Tag::from_wire(bytes[at]) {
            longest = longest.max(u32::from_le_bytes(bytes[at + 2..at + 6].try_into().unwrap()));
            at += frame_len(&bytes[at..]);
            most = most.max(at);
        }
    }
    // With a ticket of Ceph 20, whose keys are the longest.
    assert_eq!((longest, most), (274, 706));
    assert!(longest * 16 < Limits::ACCEPTING.control_bytes_max, "{longest}");
    assert!(most * 16 < TRANSCRIPT_ACCEPTED_BYTES_MAX, "{most}");
}

#[test]
fn what_ceph_compressed_decompresses_and_comes_through_our_own_compression() {
    for algorithm in Algorithm::ALL {
        let name = algorithm.method().to_string();
        let mut met = 0;
        for connection in connections().into_iter().filter(|path| path.to_string_lossy().contains(&name)) {
            let (agreed, _) = agreed(&connection);
            assert_eq!(agreed, Some(algorithm));
            for side in ["client.bin", "server.bin"] {
                let spoken = spoken(&connection.join(side), agreed, None);
                for (frame, raw) in spoken.frames.iter().filter(|(_, raw)| is_compressed(raw)) {
                    met += 1;
                    let Incoming::Message(message) = frame else { continue };
                    assert!(message.admitted.total() < raw.len() as u64);
                    let mut encoder = FrameEncoder::new();
                    encoder.set_revision(Revision::V1);
                    encoder.set_compression(Some(Compressor::new(algorithm, 0)));
                    let ours = encode(frame, &mut encoder);
                    let mut decoder = FrameDecoder::new(Limits::READY);
                    decoder.set_revision(Revision::V1);
                    decoder.set_decompression(Some(Decompressor::new(algorithm)));
                    let mut left = &ours[..];
                    let mut again = None;
                    while again.is_none() && !left.is_empty() {
                        let room = decoder.poll_read();
                        let len = room.len().min(left.len());
                        room[..len].copy_from_slice(&left[..len]);
                        decoder.handle_read(len);
                        left = &left[len..];
                        again = decoder.next(&mut AdmitAll).unwrap();
                    }
                    let Some(Incoming::Message(again)) = again else { panic!("{again:?}") };
                    assert_eq!(
                        (again.header, &again.front, &again.middle, &again.data),
                        (message.header, &message.front, &message.middle, &message.data)
                    );
                }
            }
        }
        assert!(met > 0, "no frame compressed with {name}");
    }
}
