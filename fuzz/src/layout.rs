//! Frames made by hand, after the specification and not after our encoder: what the fuzzer wrote, with the checksums
//! and tags that let it past the door.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use outlast_msgr2::frame::Revision;

/// The length of a preamble.
pub const PREAMBLE: usize = 32;

/// CRC-32C without final inversion, bit by bit.
fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1)))
    })
}

/// The checksum of the first 28 bytes of a preamble.
#[must_use]
pub fn preamble_crc(covered: &[u8]) -> u32 {
    crc32c(0, covered)
}

/// The checksum of a segment.
#[must_use]
pub fn segment_crc(segment: &[u8]) -> u32 {
    crc32c(u32::MAX, segment)
}

/// What a preamble says of its frame.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Its tag.
    pub tag: u8,
    /// Its segments, 4 at most.
    pub count: usize,
    /// Their lengths.
    pub lens: [u64; 4],
    /// Their alignments.
    pub alignments: [u16; 4],
}

impl Shape {
    /// Of the preamble that bytes begin with.
    #[must_use]
    pub fn read(preamble: &[u8]) -> Self {
        let count = usize::from(preamble[1]).min(4);
        let mut shape = Self { tag: preamble[0], count, lens: [0; 4], alignments: [0; 4] };
        for index in 0..count {
            let at = 2 + 6 * index;
            let len = [preamble[at], preamble[at + 1], preamble[at + 2], preamble[at + 3]];
            shape.lens[index] = u64::from(u32::from_le_bytes(len));
            shape.alignments[index] = u16::from_le_bytes([preamble[at + 4], preamble[at + 5]]);
        }
        shape
    }

    /// The length of the whole frame in crc mode.
    #[must_use]
    pub fn crc_len(&self, revision: Revision) -> u64 {
        let all: u64 = self.lens.iter().sum();
        let preamble = PREAMBLE as u64;
        match revision {
            Revision::V0 => preamble + all + 17,
            Revision::V1 => {
                preamble + all + if self.lens[0] > 0 { 4 } else { 0 } + if self.count > 1 { 13 } else { 0 }
            }
        }
    }

    /// Each segment rounded up to whole blocks of the cipher.
    #[must_use]
    pub fn padded(&self) -> [u64; 4] {
        self.lens.map(|len| len.next_multiple_of(16))
    }
}

/// Puts the right checksums into every frame of crc mode that is there as a whole. Where a status byte is neither
/// complete nor aborted nor nonsense on purpose (its upper bit), it is made complete.
pub fn repair(stream: &mut [u8], revision: Revision) {
    let mut at = 0;
    while stream.len() - at >= PREAMBLE {
        let frame = &mut stream[at..];
        let crc = preamble_crc(&frame[..28]);
        frame[28..32].copy_from_slice(&crc.to_le_bytes());
        let shape = Shape::read(frame);
        let Some(len) = usize::try_from(shape.crc_len(revision)).ok().filter(|len| *len <= frame.len())
        else {
            return;
        };
        repair_body(&mut frame[..len], &shape, revision);
        at += len;
    }
}

fn repair_body(frame: &mut [u8], shape: &Shape, revision: Revision) {
    let len = frame.len();
    // They fit into the frame, which fits into memory.
    let lens = shape.lens.map(|len| usize::try_from(len).unwrap_or(0));
    let mut at = PREAMBLE;
    let mut crcs = [0_u32; 4];
    let first = match revision {
        Revision::V0 => 0,
        Revision::V1 => {
            if lens[0] > 0 {
                let crc = segment_crc(&frame[at..at + lens[0]]);
                at += lens[0];
                frame[at..at + 4].copy_from_slice(&crc.to_le_bytes());
                at += 4;
            }
            if shape.count < 2 {
                return;
            }
            1
        }
    };
    for index in first..shape.count {
        crcs[index] = segment_crc(&frame[at..at + lens[index]]);
        at += lens[index];
    }
    if revision == Revision::V1 && frame[at] & 0x80 == 0 && frame[at] & 0xf != 1 {
        frame[at] = 0x0e;
    }
    at += 1;
    for crc in &crcs[first..] {
        frame[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += 4;
    }
    debug_assert_eq!(at, len, "the epilogue ends the frame");
}

/// A sender of the secure modes who keeps to the cipher and to nothing else.
#[derive(Debug)]
pub struct Hand {
    key: LessSafeKey,
    nonce: [u8; 12],
    revision: Revision,
}

impl Hand {
    /// Seals what the client sends under a connection secret: bytes 0..16 are the key, 28..40 the first nonce.
    #[must_use]
    pub fn client(secret: &[u8; 40], revision: Revision) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, &secret[..16]).map(LessSafeKey::new).expect("16 bytes");
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&secret[28..]);
        Self { key, nonce, revision }
    }

    fn seal(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut out).expect("there is room for a tag");
        let counter = match self.revision {
            Revision::V0 => 0..4,
            Revision::V1 => 4..12,
        };
        for byte in &mut self.nonce[counter] {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        out
    }

    /// A frame with this preamble, whose checksum is made right. `body` is the plaintext of what the preamble claims,
    /// padding and epilogue included, filled up with zeros; if the claim is longer than `claim_max`, `body` goes as
    /// it is, for nobody is to read it.
    pub fn frame(&mut self, preamble: &[u8; PREAMBLE], body: &[u8], claim_max: u64) -> Vec<u8> {
        let mut preamble = *preamble;
        let crc = preamble_crc(&preamble[..28]);
        preamble[28..].copy_from_slice(&crc.to_le_bytes());
        let shape = Shape::read(&preamble);
        let padded = shape.padded();
        let claimed: u64 = padded.iter().sum();
        let part = |from: u64, len: u64| -> Vec<u8> {
            (from..from + len)
                .map(|at| usize::try_from(at).ok().and_then(|at| body.get(at)).copied().unwrap_or(0))
                .collect()
        };
        if claimed > claim_max {
            let mut out = self.seal(&[&preamble[..], &part(0, 48)].concat());
            out.extend_from_slice(body);
            return out;
        }
        match self.revision {
            Revision::V0 => self.seal(&[&preamble[..], &part(0, claimed + 16)].concat()),
            Revision::V1 => {
                let mut inline = part(0, padded[0].min(48));
                inline.resize(48, 0);
                let mut out = self.seal(&[&preamble[..], &inline].concat());
                if padded[0] > 48 {
                    out.extend(self.seal(&part(48, padded[0] - 48)));
                }
                if shape.count > 1 {
                    out.extend(self.seal(&part(padded[0], claimed - padded[0] + 16)));
                }
                out
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use outlast_msgr2::frame::{FrameEncoder, OutBuf, Segment, Tag};
    use std::io::IoSlice;

    #[test]
    fn the_checksums_are_those_of_the_books() {
        assert_eq!(crc32c(0, b"123456789"), 0x58e3_fa20);
        assert_eq!(crc32c(u32::MAX, b"123456789"), 0x1cf9_6d7c);
    }

    #[test]
    fn what_the_encoder_writes_needs_no_repair_and_what_was_destroyed_is_repaired() {
        for revision in [Revision::V0, Revision::V1] {
            let mut encoder = FrameEncoder::new();
            encoder.set_revision(revision);
            let mut out = OutBuf::new();
            let parts =
                [Bytes::from(vec![1; 41]), Bytes::from(vec![2; 70]), Bytes::new(), Bytes::from(vec![3; 9])];
            let segments: Vec<_> = parts.iter().map(|bytes| Segment { bytes, alignment: 8 }).collect();
            encoder.encode(Tag::Message, &segments, &mut out).unwrap();
            encoder.encode(Tag::Ack, &segments[1..2], &mut out).unwrap();
            encoder.encode(Tag::Wait, &segments[2..3], &mut out).unwrap();
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = out.slices(&mut slices);
            let good: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            let mut bad = good.clone();
            repair(&mut bad, revision);
            assert_eq!(bad, good);
            let first = usize::try_from(Shape::read(&good).crc_len(revision)).unwrap();
            bad[28..32].fill(7);
            bad[first - 4..first].fill(7);
            assert_ne!(bad, good);
            repair(&mut bad, revision);
            assert_eq!(bad, good);
        }
    }
}
