//! Memory and pauses.

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
    for (tag, lens, segment, limit) in [(2, [16 * 1024 + 1, 0], 0u8, 16 * 1024), (17, [41, 1], 1, 0)] {
        let mut bytes = vec![tag, segment + 1];
        for len in [lens[0], lens[1], 0, 0u32] {
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&[8, 0]);
        }
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&super::super::crc::preamble(bytes[..].try_into().unwrap()).to_le_bytes());
        let mut decoder = FrameDecoder::new(Limits::BEFORE_AUTHENTICATION);
        let tag = Tag::from_wire(tag).unwrap();
        let len = lens[usize::from(segment)];
        let error = FrameError::SegmentTooLong { tag, segment, len, limit };
        assert_eq!(feed_all(&mut decoder, &bytes), Err(error));
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
