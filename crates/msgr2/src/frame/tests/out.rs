//! The bytes that wait, and taking frames back.

use super::*;

fn large(seq: u64) -> MessageFrame {
    message(seq, 20, REFERENCE_BYTES_MIN, 600_000)
}

#[test]
fn large_segments_are_not_copied_in_crc_mode() {
    for mode in [CRC_V0, CRC_V1] {
        let message = message(1, 10, 0, REFERENCE_BYTES_MIN);
        let mut out = OutBuf::new();
        encode(&mut mode.encoder(), &message, &mut out);
        let mut slices = [std::io::IoSlice::new(&[]); 5];
        assert_eq!(out.slices(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), message.data.as_ptr());
    }
}

#[test]
fn a_frame_of_which_nothing_was_written_is_taken_back_without_a_trace() {
    for mode in [CRC_V0, CRC_V1] {
        let mut encoder = mode.encoder();
        let mut out = OutBuf::new();
        let small = message(1, 1, 2, 3);
        encode(&mut encoder, &small, &mut out);
        let mark = encode(&mut encoder, &large(2), &mut out);
        encode(&mut encoder, &large(3), &mut out);
        // Lending is not writing.
        let mut slices = [std::io::IoSlice::new(&[]); 2];
        assert_eq!(out.slices(&mut slices), 2);
        out.advance(5);
        assert_eq!(out.abort(mark), Abort::Removed);
        assert_eq!(out.abort(mark), Abort::TooLate, "it is not there any more");
        let rest = drain(&mut out, 1000);
        let bytes = [&encoded(mode, &small)[..5], &rest].concat();
        let frames = feed_all(&mut mode.decoder(), &bytes).unwrap();
        assert_eq!(frames, [Incoming::Message(small), Incoming::Message(large(3))]);
    }
}

#[test]
fn the_only_frame_taken_back_leaves_nothing() {
    let mut out = OutBuf::new();
    let mark = encode(&mut CRC_V1.encoder(), &large(1), &mut out);
    assert_eq!(out.abort(mark), Abort::Removed);
    assert!(out.is_empty());
    let mut slices = [std::io::IoSlice::new(&[]); 2];
    assert_eq!(out.slices(&mut slices), 0);
    assert_eq!(out.queued_total(), 0);
}

#[test]
fn a_frame_that_was_begun_is_aborted_and_the_next_one_arrives() {
    for mode in [CRC_V0, CRC_V1] {
        let whole = encoded(mode, &large(1)).len();
        let mut outcomes = Vec::new();
        for written in [1, 40, 200, 9000, 100_000, whole - 30, whole - 14, whole - 1, whole] {
            let mut encoder = mode.encoder();
            let mut out = OutBuf::new();
            let message = large(1);
            let unique = message.data.clone();
            let mark = encode(&mut encoder, &message, &mut out);
            encode(&mut encoder, &self::message(2, 5, 5, 5), &mut out);
            drop(message);
            let mut bytes = Vec::new();
            while bytes.len() < written {
                let mut slices = [std::io::IoSlice::new(&[]); 4];
                assert!(out.slices(&mut slices) > 0);
                let len = slices[0].len().min(written - bytes.len());
                bytes.extend_from_slice(&slices[0][..len]);
                out.advance(len);
            }
            let outcome = out.abort(mark);
            if outcome == Abort::Aborted {
                assert!(unique.is_unique(), "the payload is let go");
            }
            outcomes.push(outcome);
            bytes.extend(drain(&mut out, 5000));
            for landing in [&mut OddLands::default() as &mut dyn Landing, &mut AdmitAll] {
                let frames = feed(&mut mode.decoder(), &bytes, 10_000, landing).unwrap();
                let lengths = large(1).admitted;
                let first = match outcome {
                    Abort::Aborted => Incoming::Aborted { lengths },
                    Abort::TooLate | Abort::Removed => Incoming::Message(large(1)),
                };
                assert_eq!(frames, [first, Incoming::Message(self::message(2, 5, 5, 5))], "{written}");
            }
        }
        assert_eq!(outcomes[..6], [Abort::Aborted; 6]);
        assert_eq!(outcomes[7..], [Abort::TooLate; 2]);
    }
}

#[test]
fn the_checksums_of_an_aborted_frame_match_its_zeros() {
    let mut out = OutBuf::new();
    let mark = encode(&mut CRC_V1.encoder(), &message(1, 0, 0, 50_000), &mut out);
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    assert_eq!(out.slices(&mut slices), 3);
    let mut bytes = slices[0].to_vec();
    bytes.extend_from_slice(&slices[1][..100]);
    out.advance(bytes.len());
    assert_eq!(out.abort(mark), Abort::Aborted);
    bytes.extend(drain(&mut out, 999));
    let epilogue = bytes.split_off(bytes.len() - 13);
    assert_eq!(epilogue[0], 0x01);
    let data = &bytes[77..];
    assert_eq!(data[..100], payload(50_000, 33)[..100]);
    assert!(data[100..].iter().all(|&byte| byte == 0));
    assert_eq!(epilogue[9..], (!crc_fast::crc32_iscsi(data)).to_le_bytes());
}

#[test]
fn small_and_sealed_frames_go_out_as_they_are() {
    let mut out = OutBuf::new();
    let small = encode(&mut CRC_V1.encoder(), &message(1, 5, 5, 5), &mut out);
    let sealed = encode(&mut SECURE_V1.encoder(), &large(1), &mut out);
    assert_eq!(out.abort(small), Abort::TooLate);
    assert_eq!(out.abort(sealed), Abort::TooLate);
}

#[test]
fn a_transcript_has_copied_and_referenced_bytes_in_order() {
    let mut out = OutBuf::new();
    out.start_recording();
    out.push_raw(b"banner");
    encode(&mut CRC_V1.encoder(), &message(1, 5, REFERENCE_BYTES_MIN, 5), &mut out);
    let transcript = out.take_transcript().unwrap();
    let mut bytes = drain(&mut out, 100);
    // Checksums of referenced segments are filled in later; the handshake has no such.
    let crc = bytes.len() - 8..bytes.len() - 4;
    bytes[crc.clone()].fill(0);
    let mut expected = transcript;
    expected[crc].fill(0);
    assert_eq!(bytes, expected);
    encode(&mut CRC_V1.encoder(), &message(1, 5, 0, 5), &mut out);
    assert_eq!(out.take_transcript(), Ok(Vec::new()), "recording ended");
}

#[test]
fn a_transcript_is_bounded() {
    let mut out = OutBuf::new();
    out.start_recording();
    out.push_raw(&vec![0; TRANSCRIPT_BYTES_MAX]);
    out.push_raw(&[0]);
    assert_eq!(out.take_transcript(), Err(TranscriptOverflow { limit: TRANSCRIPT_BYTES_MAX }));
}

#[test]
fn the_scratch_keeps_its_order_when_it_is_moved_and_grown() {
    let mut out = OutBuf::new();
    let mut pushed = Vec::new();
    let mut written = Vec::new();
    for round in 0..3000usize {
        let bytes = payload(round * 37 % 500, round as u32);
        out.push_raw(&bytes);
        pushed.extend_from_slice(&bytes);
        if round % 3 != 0 {
            let mut slices = [std::io::IoSlice::new(&[]); 2];
            if out.slices(&mut slices) > 0 {
                let len = slices[0].len().min(round * 91 % 700);
                written.extend_from_slice(&slices[0][..len]);
                out.advance(len);
            }
        }
        assert_eq!(out.len(), pushed.len() - written.len());
    }
    written.extend(drain(&mut out, 100));
    assert_eq!(written, pushed);
    out.push_raw(&[]);
    assert_eq!(out.slices(&mut [std::io::IoSlice::new(&[])]), 0);
}
