//! What one side encodes the other decodes, however the stream is cut.

use super::*;
use crate::wire::{Ack, AuthReplyMore, Control, Hello, Keepalive2, Stamp, Wait};
use proptest::prelude::*;

fn controls() -> Vec<Control> {
    vec![
        Hello { entity_type: 8, peer_address: "v2:127.0.0.1:3300/7".parse().unwrap() }.into(),
        AuthReplyMore { payload: payload(300, 5) }.into(),
        AuthReplyMore { payload: payload(44, 5) }.into(),
        AuthReplyMore { payload: payload(45, 5) }.into(),
        Wait.into(),
        Keepalive2 { stamp: Stamp { seconds: 1, nanoseconds: 2 } }.into(),
        Ack { seq: u64::MAX }.into(),
    ]
}

#[test]
fn control_frames_arrive_in_every_mode_at_every_step() {
    for mode in MODES {
        let mut out = OutBuf::new();
        let mut encoder = mode.encoder();
        for control in controls() {
            encoder.encode_control(&control, &mut out).unwrap();
        }
        let bytes = drain(&mut out, usize::MAX);
        for step in [1, 2, 31, 32, 33, 96, 97, usize::MAX] {
            let frames = feed(&mut mode.decoder(), &bytes, step, &mut AdmitAll).unwrap();
            let frames: Vec<Control> = frames
                .into_iter()
                .map(|frame| match frame {
                    Incoming::Control { tag, payload } => Control::decode(tag, &payload).unwrap(),
                    other @ (Incoming::Message(_) | Incoming::Aborted { .. }) => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(frames, controls(), "{mode:?} {step}");
        }
    }
}

/// Lengths around everything that is treated apart.
const SIZES: [(usize, usize, usize); 14] = [
    (0, 0, 0),
    (1, 0, 0),
    (0, 1, 0),
    (0, 0, 1),
    (15, 16, 17),
    (100, 0, 4096),
    (REFERENCE_BYTES_MIN, 0, 0),
    (0, REFERENCE_BYTES_MIN, 3),
    (20_000, 20_000, 20_000),
    (10, 0, 40_000),
    (17_000, 0, 40_000),
    (0, 0, 200_000),
    (3, 5, 1_048_576),
    (50_000, 0, 0),
];

#[test]
fn messages_of_all_sizes_arrive_in_every_mode_at_every_step() {
    let messages: Vec<_> =
        (1..).zip(SIZES).map(|(seq, (front, middle, data))| message(seq, front, middle, data)).collect();
    for mode in MODES {
        let mut out = OutBuf::new();
        let mut encoder = mode.encoder();
        for message in &messages {
            encode(&mut encoder, message, &mut out);
        }
        assert_eq!(out.queued_total(), out.len() as u64);
        let bytes = drain(&mut out, 50_000);
        assert_eq!(out.written_total(), bytes.len() as u64);
        for step in [7, 100, 4096, 65_536, usize::MAX] {
            let mut decoder = mode.decoder();
            let mut landing = OddLands::default();
            let frames = feed(&mut decoder, &bytes, step, &mut landing).unwrap();
            assert_eq!(frames.len(), messages.len());
            for (frame, message) in frames.iter().zip(&messages) {
                assert_eq!(frame, &Incoming::Message(message.clone()), "{mode:?} {step}");
            }
            assert!(!decoder.is_mid_frame());
            let with_data = messages.iter().filter(|message| !message.data.is_empty()).count();
            let asked = if mode.revision == Revision::V1 { with_data } else { 0 };
            assert_eq!(landing.asked, asked);
        }
    }
}

#[test]
fn data_land_where_the_application_wants_them() {
    for mode in [CRC_V1, SECURE_V1] {
        for (front, data) in [(0, 1), (0, 5000), (100, 70_000), (0, 1 << 20), (30_000, 70_000)] {
            for step in [1000, usize::MAX] {
                let message = message(1, front, 0, data);
                let bytes = encoded(mode, &message);
                let mut landing = OddLands::default();
                let frames = feed(&mut mode.decoder(), &bytes, step, &mut landing).unwrap();
                let [Incoming::Message(arrived)] = &frames[..] else { panic!("{frames:?}") };
                assert_eq!(arrived, &message);
                assert_eq!(
                    landing.places,
                    [(arrived.data.as_ptr() as usize, data)],
                    "{mode:?} {front} {data}"
                );
            }
        }
    }
}

#[test]
fn a_place_that_is_too_small_is_not_used() {
    struct Small;
    impl Landing for Small {
        fn admit(&mut self, _lengths: Lengths) -> bool {
            true
        }
        fn buffer(&mut self, _header: &MessageHeader, data_len: usize) -> Option<BytesMut> {
            Some(BytesMut::zeroed(data_len - 1))
        }
    }
    let message = message(1, 1, 0, 9000);
    let frames = feed(&mut CRC_V1.decoder(), &encoded(CRC_V1, &message), 100, &mut Small).unwrap();
    assert_eq!(frames, [Incoming::Message(message)]);
}

#[test]
fn compressed_frames_arrive_with_every_algorithm_in_every_mode() {
    for mode in MODES {
        for algorithm in Algorithm::ALL {
            let (mut encoder, mut decoder) = mode.compressing(algorithm);
            let text = Bytes::from(b"once and in order ".repeat(5000));
            let mut out = OutBuf::new();
            let parts = [text.slice(..300), text.slice(..8), text.clone()];
            encoder.encode_message(&header(1), &parts[0], &parts[1], &parts[2], &mut out).unwrap();
            encoder.encode_message(&header(2), &text, &Bytes::new(), &Bytes::new(), &mut out).unwrap();
            encoder.encode_payload(&AuthReplyMore { payload: text.slice(..9000) }, &mut out).unwrap();
            // This one does not shrink.
            encoder.encode_payload(&Ack { seq: 5 }, &mut out).unwrap();
            let bytes = drain(&mut out, usize::MAX);
            assert!(bytes.len() < text.len() / 2);
            let frames = feed(&mut decoder, &bytes, 999, &mut AdmitAll).unwrap();
            let [Incoming::Message(one), Incoming::Message(two), Incoming::Control { tag, payload }, ack] =
                &frames[..]
            else {
                panic!("{frames:?}")
            };
            assert_eq!((one.header, [&one.front, &one.middle, &one.data]), (header(1), parts.each_ref()));
            assert!(one.admitted.total() < 20_000, "the lengths on the wire");
            assert_eq!((two.header, &two.front, two.data.len()), (header(2), &text, 0));
            let more = AuthReplyMore { payload: text.slice(..9000) };
            assert_eq!(Control::decode(*tag, payload), Ok(more.into()));
            assert_eq!(
                ack,
                &Incoming::Control { tag: Tag::Ack, payload: Bytes::from_static(&[5, 0, 0, 0, 0, 0, 0, 0]) }
            );
        }
    }
}

#[test]
fn a_change_of_mode_holds_for_what_was_read_already() {
    let mut out = OutBuf::new();
    let mut encoder = FrameEncoder::new();
    out.push_raw(b"banner");
    encoder.set_revision(Revision::V1);
    out.start_recording();
    encoder.encode_payload(&Wait, &mut out).unwrap();
    let sent = out.take_transcript().unwrap();
    encoder.set_sealer(secure_pair(&secret(), Side::Client, Revision::V1).unwrap().0);
    encoder.encode_payload(&Ack { seq: 9 }, &mut out).unwrap();
    let bytes = drain(&mut out, usize::MAX);

    for step in [1, usize::MAX] {
        let mut decoder = FrameDecoder::new(Limits::BEFORE_AUTHENTICATION);
        let mut bytes = &bytes[..];
        let mut log = Vec::new();
        decoder.start_recording(usize::MAX);
        while !bytes.is_empty() {
            let room = decoder.poll_read();
            let len = room.len().min(step).min(bytes.len());
            room[..len].copy_from_slice(&bytes[..len]);
            decoder.handle_read(len);
            bytes = &bytes[len..];
            if log.is_empty() {
                let Some(banner) = decoder.take_raw(6) else { continue };
                log.push(banner);
                decoder.set_revision(Revision::V1);
            }
            while let Some(Incoming::Control { tag, payload }) = decoder.next(&mut AdmitAll).unwrap() {
                log.push(payload);
                if tag == Tag::Wait {
                    let transcript = decoder.take_transcript().unwrap();
                    assert_eq!(transcript, [b"banner", &sent[..]].concat());
                    decoder.set_opener(secure_pair(&secret(), Side::Server, Revision::V1).unwrap().1);
                    decoder.set_limits(Limits::READY);
                }
            }
        }
        assert_eq!(log, [&b"banner"[..], &[], &[9, 0, 0, 0, 0, 0, 0, 0]]);
    }
}

#[test]
fn buffers_of_large_messages_are_used_again_when_they_were_let_go() {
    let mut decoder = CRC_V1.decoder();
    let mut places = Vec::new();
    for _ in 0..3 {
        let bytes = encoded(CRC_V1, &message(1, 0, 0, 300_000));
        let frames = feed_all(&mut decoder, &bytes).unwrap();
        let [Incoming::Message(arrived)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(arrived.data, payload(300_000, 33));
        places.push(arrived.data.as_ptr());
    }
    assert_eq!(places[0], places[1]);
    assert_eq!(places[1], places[2]);
}

#[test]
fn a_message_that_is_kept_is_not_written_over() {
    for mode in MODES {
        let (mut encoder, mut decoder) = (mode.encoder(), mode.decoder());
        let mut kept = Vec::new();
        for seq in 1..60u32 {
            let len = [100, 30_000, 90_000, 300_000][seq as usize % 4];
            let data = payload(len, seq);
            let mut out = OutBuf::new();
            encoder.encode_message(&header(1), &Bytes::new(), &Bytes::new(), &data, &mut out).unwrap();
            for frame in feed_all(&mut decoder, &drain(&mut out, usize::MAX)).unwrap() {
                let Incoming::Message(message) = frame else { panic!("{frame:?}") };
                kept.push((message.data, data.clone()));
            }
        }
        assert_eq!(kept.len(), 59);
        assert!(kept.iter().all(|(arrived, sent)| arrived == sent), "{mode:?}");
    }
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 0usize..300,
        2 => 0usize..20_000,
        1 => 30_000usize..150_000,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_messages_arrive_through_any_cuts(
        which in 0usize..4,
        sizes in prop::collection::vec((sizes(), sizes(), sizes()), 1..12),
        cuts in prop::collection::vec(prop_oneof![1usize..40, 40usize..70_000], 1..20),
        steps in prop_oneof![1usize..100, 100usize..300_000],
    ) {
        let mode = MODES[which];
        let messages: Vec<_> = (1..)
            .zip(&sizes)
            .map(|(seq, &(front, middle, data))| message(seq, front, middle, data))
            .collect();
        let mut out = OutBuf::new();
        let mut encoder = mode.encoder();
        let mut bytes = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            encode(&mut encoder, message, &mut out);
            if index % 3 == 2 {
                bytes.extend(drain(&mut out, steps));
            }
        }
        bytes.extend(drain(&mut out, steps));

        let mut decoder = mode.decoder();
        let mut landing = OddLands::default();
        let mut arrived = Vec::new();
        let mut left = &bytes[..];
        for cut in cuts.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (now, later) = left.split_at(left.len().min(*cut));
            left = later;
            arrived.extend(feed(&mut decoder, now, usize::MAX, &mut landing).unwrap());
        }
        let sent: Vec<_> = messages.into_iter().map(Incoming::Message).collect();
        prop_assert_eq!(arrived, sent);
        prop_assert!(!decoder.is_mid_frame());
    }

    #[test]
    fn arbitrary_bytes_never_panic(which in 0usize..4, bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mode = MODES[which];
        let _ = feed(&mut mode.decoder(), &bytes, 100, &mut AdmitAll);
    }

    /// A preamble with a right checksum and arbitrary fields, followed by arbitrary bytes.
    #[test]
    fn arbitrary_preambles_never_panic(
        revision in 0usize..2,
        tag in 0u8..26,
        count in 0u8..6,
        lens in prop::array::uniform4(prop_oneof![0u32..100, any::<u32>()]),
        flags in any::<u8>(),
        rest in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = vec![tag, count];
        for len in lens {
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&[8, 0]);
        }
        bytes.extend_from_slice(&[flags, 0]);
        let crc = super::super::crc::preamble(bytes[..].try_into().unwrap());
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&rest);
        let mut decoder = [CRC_V0, CRC_V1][revision].decoder();
        decoder.set_decompression(Some(Decompressor::new(Algorithm::Lz4)));
        let result = feed(&mut decoder, &bytes, 64, &mut AdmitAll);
        if let Err(error) = result {
            prop_assert_eq!(decoder.next(&mut AdmitAll), Err(error));
            prop_assert!(decoder.poll_read().is_empty());
        }
    }
}
