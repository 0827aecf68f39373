//! Memory and pauses.

use super::faults::preamble;
use super::*;

#[test]
fn a_stranger_gets_a_few_kib_and_no_more_than_twice_what_came() {
    let mut decoder = FrameDecoder::new(Limits::BEFORE_AUTHENTICATION);
    decoder.set_revision(Revision::V1);
    assert_eq!(decoder.poll_read().len(), 2048);
    let mut out = OutBuf::new();
    let more = crate::wire::AuthReplyMore { payload: payload(16 * 1024 - 4, 3) };
    CRC_V1.encoder().encode_payload(&more, &mut out).unwrap();
    let bytes = drain(&mut out, usize::MAX);
    let mut frames = Vec::new();
    for (came, byte) in (1..).zip(&bytes) {
        let room = decoder.poll_read();
        room[0] = *byte;
        let claimed = came - 1 + room.len();
        assert!(claimed <= 2048usize.max(2 * came) + 256, "{claimed} claimed for {came}");
        decoder.handle_read(1);
        frames.extend(decoder.next(&mut AdmitAll).unwrap());
    }
    assert_eq!(frames.len(), 1);
}

#[test]
fn a_stranger_sends_no_long_payloads_and_no_messages() {
    for (limits, tag, lens, segment, limit) in [
        (Limits::BEFORE_AUTHENTICATION, Tag::AuthDone, [16 * 1024 + 1, 0], 0u8, 16 * 1024),
        (Limits::BEFORE_AUTHENTICATION, Tag::Message, [41, 1], 1, 0),
        (Limits::ACCEPTING, Tag::AuthRequest, [8 * 1024 + 1, 0], 0, 8 * 1024),
        (Limits::ACCEPTING, Tag::Message, [41, 1], 1, 0),
    ] {
        let mut decoder = FrameDecoder::new(limits);
        let len = lens[usize::from(segment)];
        let error = FrameError::SegmentTooLong { tag, segment, len, limit };
        assert_eq!(
            feed_all(&mut decoder, &preamble(tag.code(), segment + 1, [lens[0], lens[1], 0, 0], 0)),
            Err(error)
        );
    }
}

#[test]
fn a_peer_with_a_session_sends_no_control_frame_beyond_64_kib() {
    let limit = 64 * 1024;
    let tag = Tag::Keepalive2;
    let mut decoder = FrameDecoder::new(Limits::READY);
    assert_eq!(
        feed_all(&mut decoder, &preamble(tag.code(), 1, [limit, 0, 0, 0], 0)),
        Ok(Vec::new()),
        "it waits"
    );
    let mut decoder = FrameDecoder::new(Limits::READY);
    let error = FrameError::SegmentTooLong { tag, segment: 0, len: limit + 1, limit };
    assert_eq!(feed_all(&mut decoder, &preamble(tag.code(), 1, [limit + 1, 0, 0, 0], 0)), Err(error));
}

#[test]
fn a_control_frame_decompresses_to_no_more_than_64_kib() {
    for algorithm in crate::compress::Algorithm::ALL {
        for (len, too_long) in [(64 * 1024, false), (64 * 1024 + 1, true)] {
            let mut encoder = CRC_V1.encoder();
            encoder.set_compression(Some(Compressor::new(algorithm, 0)));
            let mut out = OutBuf::new();
            let payload = Bytes::from(vec![0; len - 4]);
            encoder.encode_payload(&crate::wire::AuthReplyMore { payload }, &mut out).unwrap();
            let bytes = drain(&mut out, usize::MAX);
            assert!(bytes.len() < len / 2, "compressed");
            let mut decoder = FrameDecoder::new(Limits::READY);
            decoder.set_revision(Revision::V1);
            decoder.set_decompression(Some(Decompressor::new(algorithm)));
            let result = feed_all(&mut decoder, &bytes).map(|frames| frames.len());
            if too_long {
                let tag = Tag::AuthReplyMore;
                let error = crate::compress::DecompressError::TooLong { limit: 64 * 1024 };
                assert_eq!(result, Err(FrameError::Decompress { tag, segment: 0, error }));
            } else {
                assert_eq!(result, Ok(1));
            }
        }
    }
}

/// Admits as many messages as it is told to.
struct Budget(usize, Vec<Lengths>);

impl Landing for Budget {
    fn admit(&mut self, lengths: Lengths) -> bool {
        self.1.push(lengths);
        let admitted = self.0 > 0;
        self.0 -= usize::from(admitted);
        admitted
    }
}

#[test]
fn a_message_that_is_not_admitted_stops_the_decoder_until_it_is() {
    for mode in MODES {
        let mut encoder = mode.encoder();
        let mut out = OutBuf::new();
        let messages = [message(1, 3, 0, 5), message(2, 0, 0, 200_000), message(3, 1, 1, 0)];
        for message in &messages {
            encode(&mut encoder, message, &mut out);
        }
        let bytes = drain(&mut out, usize::MAX);
        let mut decoder = mode.decoder();
        let mut budget = Budget(1, Vec::new());
        let mut arrived = Vec::new();
        let mut left = &bytes[..];
        let mut pauses = 0;
        while arrived.len() < 3 {
            let room = decoder.poll_read();
            if room.is_empty() {
                assert!(decoder.is_paused());
                assert!(decoder.buffered() <= Limits::READY.read_buffer_bytes);
                assert_eq!(decoder.next(&mut budget), Ok(None), "asked again, refused again");
                pauses += 1;
                budget.0 = 1;
            } else {
                assert!(!left.is_empty(), "the bytes are all there, the messages are not");
                let len = room.len().min(left.len());
                room[..len].copy_from_slice(&left[..len]);
                left = &left[len..];
                decoder.handle_read(len);
            }
            while let Some(frame) = decoder.next(&mut budget).unwrap() {
                arrived.push(frame);
            }
        }
        assert_eq!(pauses, 2, "{mode:?}");
        assert!(!decoder.is_paused());
        assert_eq!(arrived, messages.clone().map(Incoming::Message));
        assert!(budget.1.iter().all(|lengths| messages.iter().any(|message| message.admitted == *lengths)));
    }
}

#[test]
fn a_large_body_gets_its_memory_only_once_it_is_admitted() {
    let bytes = encoded(CRC_V1, &message(1, 0, 0, 10 << 20));
    let mut decoder = CRC_V1.decoder();
    let mut budget = Budget(0, Vec::new());
    feed(&mut decoder, &bytes[..100], 100, &mut budget).unwrap();
    assert!(decoder.poll_read().is_empty());
    budget.0 = 1;
    assert_eq!(decoder.next(&mut budget), Ok(None));
    assert_eq!(decoder.poll_read().len(), (10 << 20) + 13 - (100 - 77));
}
