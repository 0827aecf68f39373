//! Frames that must not be taken.

use super::*;
use crate::wire::{Ack, Wait};

/// A preamble with a right checksum.
pub(super) fn preamble(tag: u8, count: u8, lens: [u32; 4], flags: u8) -> Vec<u8> {
    let mut bytes = vec![tag, count];
    for len in lens {
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&[8, 0]);
    }
    bytes.extend_from_slice(&[flags, 0]);
    let crc = crate::frame::crc::preamble(bytes[..].try_into().unwrap());
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn fault(decoder: &mut FrameDecoder, bytes: &[u8]) -> FrameError {
    let error = feed_all(decoder, bytes).expect_err("a bad frame was taken");
    assert_eq!(decoder.next(&mut AdmitAll), Err(error), "nothing comes behind a bad frame");
    assert!(decoder.poll_read().is_empty());
    error
}

#[test]
fn preambles_that_make_no_sense_are_refused_before_anything_else_comes() {
    let message = Tag::Message;
    for mode in [CRC_V0, CRC_V1] {
        let cases = [
            (preamble(0, 1, [8, 0, 0, 0], 0), FrameError::UnknownTag(0)),
            (preamble(23, 1, [8, 0, 0, 0], 0), FrameError::UnknownTag(23)),
            (preamble(255, 1, [8, 0, 0, 0], 0), FrameError::UnknownTag(255)),
            (preamble(17, 0, [41, 0, 0, 0], 0), FrameError::SegmentCount { tag: message, count: 0 }),
            (preamble(17, 5, [41, 1, 1, 1], 0), FrameError::SegmentCount { tag: message, count: 5 }),
            (preamble(1, 4, [41, 1, 1, 1], 0), FrameError::SegmentCount { tag: Tag::Hello, count: 4 }),
            (preamble(17, 2, [41, 0, 0, 0], 0), FrameError::EmptyLastSegment { tag: message, count: 2 }),
            (preamble(17, 4, [41, 9, 9, 0], 0), FrameError::EmptyLastSegment { tag: message, count: 4 }),
            (preamble(17, 1, [0, 0, 0, 0], 0), FrameError::HeaderLength { len: 0 }),
            (preamble(17, 1, [40, 0, 0, 0], 0), FrameError::HeaderLength { len: 40 }),
            (preamble(17, 2, [u32::MAX, 1, 0, 0], 0), FrameError::HeaderLength { len: u32::MAX }),
            (preamble(20, 1, [8, 0, 0, 0], 1), FrameError::CompressedUnasked { tag: Tag::Ack }),
            (preamble(17, 1, [41, 0, 0, 0], 1), FrameError::CompressedUnasked { tag: message }),
        ];
        for (bytes, error) in cases {
            assert_eq!(fault(&mut mode.decoder(), &bytes), error, "{mode:?}");
        }
        for segment in 0..4u8 {
            let (tag, limit) = if segment == 0 {
                (20, 64 << 10)
            } else {
                (17, if segment == 3 { 64 << 20 } else { 16 << 20 })
            };
            for len in [limit + 1, u32::MAX] {
                let mut lens = [41, 0, 0, 0];
                lens[usize::from(segment)] = len;
                let tag = Tag::from_wire(tag).unwrap();
                let error = fault(&mut mode.decoder(), &preamble(tag.code(), segment + 1, lens, 0));
                assert_eq!(error, FrameError::SegmentTooLong { tag, segment, len, limit });
            }
        }
    }
}

#[test]
fn every_bit_of_a_crc_frame_is_watched_but_for_what_no_checksum_covers() {
    let message = message(3, 20, 0, 30);
    for mode in [CRC_V0, CRC_V1] {
        let bytes = encoded(mode, &message);
        let epilogue = if mode == CRC_V0 { 17 } else { 13 };
        let status = bytes.len() - epilogue;
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let result = feed_all(&mut mode.decoder(), &bytes);
            if bit / 8 != status {
                let refused =
                    matches!(result, Err(FrameError::PreambleCrc { .. } | FrameError::SegmentCrc { .. }));
                assert!(refused, "{mode:?} bit {bit}: {result:?}");
                continue;
            }
            let arrived = vec![Incoming::Message(message.clone())];
            let aborted = vec![Incoming::Aborted { lengths: message.admitted }];
            let expected = match (mode.revision, bit % 8) {
                (Revision::V0, 0) => Ok(aborted),
                (Revision::V0, _) => Ok(arrived),
                // The reserved half of msgr2.1's status.
                (Revision::V1, 4..) => Ok(arrived),
                (Revision::V1, _) => Err(FrameError::LateStatus { tag: Tag::Message, status: bytes[status] }),
            };
            assert_eq!(result, expected, "{mode:?} bit {bit}");
        }
    }
}

#[test]
fn every_bit_of_a_secure_frame_is_watched() {
    let message = message(3, 20, 0, 30);
    for mode in [SECURE_V0, SECURE_V1] {
        let bytes = encoded(mode, &message);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Behind it so much that even a longer frame would be complete.
            bytes.resize(bytes.len() + 600, 0);
            let result = feed_all(&mut mode.decoder(), &bytes);
            match mode.revision {
                Revision::V1 => assert_eq!(result, Err(FrameError::Authentication), "bit {bit}"),
                // The lengths of msgr2.0 are believed, within limits, before they are known to be authentic: the
                // frame is refused for them or waited for. It is never taken.
                Revision::V0 => {
                    assert!(!matches!(&result, Ok(frames) if !frames.is_empty()), "bit {bit}: {result:?}")
                }
            }
        }
    }
}

#[test]
fn a_frame_sealed_again_does_not_open() {
    for mode in [SECURE_V0, SECURE_V1] {
        let bytes = encoded(mode, &message(1, 9, 0, 0));
        let mut decoder = mode.decoder();
        assert_eq!(feed_all(&mut decoder, &bytes).unwrap().len(), 1);
        let again = feed_all(&mut decoder, &bytes);
        assert!(!matches!(&again, Ok(frames) if !frames.is_empty()), "{again:?}");
        if mode == SECURE_V1 {
            assert_eq!(again, Err(FrameError::Authentication));
        }
    }
}

#[test]
fn an_aborted_control_frame_is_refused() {
    let mut out = OutBuf::new();
    CRC_V0.encoder().encode_payload(&Ack { seq: 1 }, &mut out).unwrap();
    let mut bytes = drain(&mut out, usize::MAX);
    let status = bytes.len() - 17;
    bytes[status] = 1;
    let error = fault(&mut CRC_V0.decoder(), &bytes);
    assert_eq!(error, FrameError::LateStatus { tag: Tag::Ack, status: 1 });
}

#[test]
fn in_msgr2_1_a_header_is_verified_before_the_rest_comes() {
    struct Asked(Option<(MessageHeader, usize)>);
    impl Landing for Asked {
        fn admit(&mut self, _lengths: Lengths) -> bool {
            true
        }
        fn buffer(&mut self, header: &MessageHeader, data_len: usize) -> Option<BytesMut> {
            self.0 = Some((*header, data_len));
            None
        }
    }
    let bytes = encoded(CRC_V1, &message(7, 5, 0, 99));
    let mut asked = Asked(None);
    let mut decoder = CRC_V1.decoder();
    feed(&mut decoder, &bytes[..32 + 44], 1, &mut asked).unwrap();
    assert_eq!(asked.0, None);
    feed(&mut decoder, &bytes[32 + 44..32 + 45], 1, &mut asked).unwrap();
    assert_eq!(asked.0, Some((header(7), 99)));

    let mut torn = bytes;
    torn[40] ^= 1;
    torn.truncate(32 + 45);
    let mut asked = Asked(None);
    let result = feed(&mut CRC_V1.decoder(), &torn, 1, &mut asked);
    assert!(matches!(result, Err(FrameError::SegmentCrc { segment: 0, .. })), "{result:?}");
    assert_eq!(asked.0, None);
}

#[test]
fn out_of_nonces_nothing_is_queued() {
    let mut encoder = SECURE_V0.encoder();
    let mut out = OutBuf::new();
    let (mut sealer, _) = secure_pair(&secret(), Side::Client, Revision::V1).unwrap();
    sealer.leave(1);
    encoder.set_revision(Revision::V1);
    encoder.set_sealer(sealer);
    let data = payload(10, 1);
    let none = Bytes::new();
    let result = encoder.encode_message(&header(1), &none, &none, &data, &mut out);
    assert_eq!(result, Err(EncodeError::NoncesExhausted), "a message takes two");
    assert!(out.is_empty());
    encoder.encode_payload(&Wait, &mut out).unwrap();
    assert_eq!(encoder.nonces_remaining(), Some(0));
    let len = out.len();
    assert_eq!(encoder.encode_payload(&Wait, &mut out), Err(EncodeError::NoncesExhausted));
    assert_eq!(out.len(), len);
}

#[test]
fn a_segment_longer_than_peers_take_is_not_encoded() {
    let mut out = OutBuf::new();
    let none = Bytes::new();
    let long = Bytes::from(vec![0; (16 << 20) + 1]);
    for mode in MODES {
        let result = mode.encoder().encode_message(&header(1), &long, &none, &none, &mut out);
        let (len, limit) = ((16 << 20) + 1, 16 << 20);
        assert_eq!(result, Err(EncodeError::SegmentTooLong { segment: 1, len, limit }));
        assert!(out.is_empty());
    }
}

#[test]
fn a_compressed_segment_does_not_expand_beyond_its_limit() {
    let (mut encoder, mut decoder) = CRC_V1.compressing(Algorithm::Snappy);
    let mut limits = Limits::READY;
    limits.data_bytes_max = 10_000;
    decoder.set_limits(limits);
    let mut out = OutBuf::new();
    let none = Bytes::new();
    let zeros = Bytes::from(vec![0; 10_001]);
    encoder.encode_message(&header(1), &none, &none, &zeros, &mut out).unwrap();
    let error = fault(&mut decoder, &drain(&mut out, usize::MAX));
    let limit = crate::compress::DecompressError::TooLong { limit: 10_000 };
    assert_eq!(error, FrameError::Decompress { tag: Tag::Message, segment: 3, error: limit });
}

#[test]
fn a_compressed_header_has_to_be_a_header() {
    let (_, mut decoder) = CRC_V1.compressing(Algorithm::Snappy);
    let packed = snap::raw::Encoder::new().compress_vec(&[0; 40]).unwrap();
    let mut bytes = preamble(17, 1, [packed.len() as u32, 0, 0, 0], 1);
    bytes.extend_from_slice(&packed);
    bytes.extend_from_slice(&(!crc_fast::crc32_iscsi(&packed)).to_le_bytes());
    assert_eq!(fault(&mut decoder, &bytes), FrameError::HeaderLength { len: 40 });
}
