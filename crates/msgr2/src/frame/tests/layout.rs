//! The example frames of the specification, byte by byte.

use super::*;

/// Encodes segments of these lengths, filled with 0xa1, 0xa2 and so on.
fn example(mode: Mode, lens: &[usize]) -> Vec<u8> {
    let segments: Vec<Bytes> =
        lens.iter().zip(0xa1u8..).map(|(&len, fill)| Bytes::from(vec![fill; len])).collect();
    let segments: Vec<_> = segments.iter().map(|bytes| Segment { bytes, alignment: 8 }).collect();
    let mut out = OutBuf::new();
    mode.encoder().encode(Tag::Message, &segments, &mut out).unwrap();
    drain(&mut out, usize::MAX)
}

/// A preamble as the specification draws it.
fn preamble(lens: &[u32]) -> Vec<u8> {
    let mut bytes = vec![17, lens.len() as u8];
    for at in 0..4 {
        bytes.extend_from_slice(&lens.get(at).copied().unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&if at < lens.len() { 8u16 } else { 0 }.to_le_bytes());
    }
    bytes.extend_from_slice(&[0, 0]);
    let crc = crc_zero_seed(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// raw(0) = !std_append(all ones), bit by bit.
fn crc_zero_seed(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    (!crc_fast::crc32_iscsi(bytes)).to_le_bytes()
}

const UNUSED: [u8; 4] = [0; 4];
const EMPTY: [u8; 4] = [0xff; 4];

fn seg(fill: u8, len: usize) -> Vec<u8> {
    vec![fill; len]
}

#[test]
fn the_examples_of_msgr2_1_crc() {
    let (s1, s2, s4) = (seg(0xa1, 20), seg(0xa2, 70), seg(0xa4, 350));
    assert_eq!(example(CRC_V1, &[0, 0, 0, 0]), preamble(&[0]));
    assert_eq!(example(CRC_V1, &[20, 0, 0, 0]), [preamble(&[20]), s1.clone(), crc(&s1).to_vec()].concat());
    let one = [&preamble(&[0, 70])[..], &s2, &[0x0e], &crc(&s2), &UNUSED, &UNUSED].concat();
    assert_eq!(example(CRC_V1, &[0, 70, 0, 0]), one);
    let epilogue = [&[0x0e], &crc(&s2)[..], &EMPTY, &crc(&s4)].concat();
    let all = [&preamble(&[20, 70, 0, 350])[..], &s1, &crc(&s1), &s2, &s4, &epilogue].concat();
    assert_eq!(example(CRC_V1, &[20, 70, 0, 350]), all);
}

#[test]
fn the_examples_of_msgr2_0_crc() {
    let (s1, s2, s4) = (seg(0xa1, 20), seg(0xa2, 70), seg(0xa4, 350));
    let none = [&preamble(&[0])[..], &[0], &EMPTY, &UNUSED, &UNUSED, &UNUSED].concat();
    assert_eq!(example(CRC_V0, &[0]), none);
    let one = [&preamble(&[20])[..], &s1, &[0], &crc(&s1), &UNUSED, &UNUSED, &UNUSED].concat();
    assert_eq!(example(CRC_V0, &[20, 0, 0, 0]), one);
    let epilogue = [&[0], &crc(&s1)[..], &crc(&s2), &EMPTY, &crc(&s4)].concat();
    let all = [&preamble(&[20, 70, 0, 350])[..], &s1, &s2, &s4, &epilogue].concat();
    assert_eq!(example(CRC_V0, &[20, 70, 0, 350]), all);
}

/// Opens the messages of a frame, whose lengths with tags are given, and returns the plain text of each.
fn opened(mode: Mode, frame: &[u8], lens: &[usize]) -> Vec<Vec<u8>> {
    assert_eq!(frame.len(), lens.iter().sum::<usize>());
    let (_, mut opener) = secure_pair(&secret(), Side::Server, mode.revision).unwrap();
    let mut at = 0;
    lens.iter()
        .map(|len| {
            let mut message = frame[at..at + len].to_vec();
            at += len;
            opener.open_in_place(&mut message).unwrap();
            message.truncate(len - 16);
            message
        })
        .collect()
}

fn padding(len: usize) -> Vec<u8> {
    vec![0; len]
}

fn epilogue(status: u8) -> Vec<u8> {
    [&[status][..], &[0; 15]].concat()
}

#[test]
fn the_examples_of_msgr2_1_secure() {
    let end = epilogue(0x0e);
    // Segments, the sealed messages they make, and what those say.
    type Example = (&'static [usize], &'static [usize], Vec<Vec<u8>>);
    let frames: [Example; 6] = [
        (&[0, 0, 0, 0], &[96], vec![[preamble(&[0]), padding(48)].concat()]),
        (&[20, 0, 0, 0], &[96], vec![[preamble(&[20]), seg(0xa1, 20), padding(28)].concat()]),
        (
            &[0, 70, 0, 0],
            &[96, 112],
            vec![
                [preamble(&[0, 70]), padding(48)].concat(),
                [seg(0xa2, 70), padding(10), end.clone()].concat(),
            ],
        ),
        (
            &[20, 70, 0, 350],
            &[96, 464],
            vec![
                [preamble(&[20, 70, 0, 350]), seg(0xa1, 20), padding(28)].concat(),
                [seg(0xa2, 70), padding(10), seg(0xa4, 350), padding(2), end.clone()].concat(),
            ],
        ),
        (
            &[105, 0, 0, 0],
            &[96, 80],
            vec![[preamble(&[105]), seg(0xa1, 48)].concat(), [seg(0xa1, 57), padding(7)].concat()],
        ),
        (
            &[105, 70, 0, 350],
            &[96, 80, 464],
            vec![
                [preamble(&[105, 70, 0, 350]), seg(0xa1, 48)].concat(),
                [seg(0xa1, 57), padding(7)].concat(),
                [seg(0xa2, 70), padding(10), seg(0xa4, 350), padding(2), end].concat(),
            ],
        ),
    ];
    for (segments, messages, text) in frames {
        let frame = example(SECURE_V1, segments);
        assert_eq!(opened(SECURE_V1, &frame, messages), text, "{segments:?}");
    }
}

#[test]
fn the_frame_of_msgr2_0_secure_is_one_message() {
    let frame = example(SECURE_V0, &[20, 70, 0, 350]);
    let text = [
        preamble(&[20, 70, 0, 350]),
        seg(0xa1, 20),
        padding(12),
        seg(0xa2, 70),
        padding(10),
        seg(0xa4, 350),
        padding(2),
        epilogue(0),
    ];
    assert_eq!(opened(SECURE_V0, &frame, &[frame.len()]), [text.concat()]);
    assert_eq!(example(SECURE_V0, &[0]).len(), 32 + 16 + 16);
}

#[test]
fn the_sizes_of_frames() {
    // Segments, crc bytes, secure bytes, all of msgr2.1.
    let table: [(&[usize], usize, usize); 6] = [
        (&[0], 32, 96),
        (&[20], 56, 96),
        (&[48], 84, 96),
        (&[49], 85, 128),
        (&[41, 70], 160, 208),
        (&[41, 70, 0, 350], 510, 560),
    ];
    for (segments, crc, secure) in table {
        assert_eq!(example(CRC_V1, segments).len(), crc, "{segments:?}");
        assert_eq!(example(SECURE_V1, segments).len(), secure, "{segments:?}");
    }
}

#[test]
fn each_message_of_the_cipher_takes_one_nonce() {
    for (lens, taken) in [(&[0][..], 1), (&[48], 1), (&[49], 2), (&[41, 1], 2), (&[49, 1], 3)] {
        let segments: Vec<Bytes> = lens.iter().map(|&len| payload(len, 1)).collect();
        let segments: Vec<_> = segments.iter().map(|bytes| Segment { bytes, alignment: 8 }).collect();
        for (mode, taken) in [(SECURE_V0, 1), (SECURE_V1, taken)] {
            let mut encoder = mode.encoder();
            let mut out = OutBuf::new();
            // The whole round of msgr2.1 does not fit into the number.
            encoder.encode(Tag::Message, &segments, &mut out).unwrap();
            let before = encoder.nonces_remaining().unwrap();
            encoder.encode(Tag::Message, &segments, &mut out).unwrap();
            assert_eq!(before - encoder.nonces_remaining().unwrap(), taken, "{mode:?} {lens:?}");
        }
    }
}

#[test]
fn messages_say_that_their_data_want_a_page() {
    let frame = encoded(CRC_V1, &message(1, 5, 6, 7));
    let alignments: Vec<u16> =
        (0..4).map(|at| u16::from_le_bytes([frame[6 + 6 * at], frame[7 + 6 * at]])).collect();
    assert_eq!(alignments, [8, 8, 8, 4096]);
}
