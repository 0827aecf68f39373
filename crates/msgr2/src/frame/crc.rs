//! CRC-32C as msgr2 uses it: without the final inversion, and with two different seeds.
//!
//! With `std` the usual routine, which inverts before and after, `raw(seed) = !std_from(!seed)`. Segments begin
//! with all ones, so their checksum is `!std`. The preamble begins with 0; as the checksum is linear,
//! `raw(0, x) = raw(ones, x) ^ raw(ones, zeros of the same length)`, and the length is always the same.

use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};

/// The bytes of a preamble before its checksum.
pub(super) const PREAMBLE_COVERED_BYTES: usize = 28;

/// What a segment's checksum begins with, and so the checksum of an empty one.
pub(super) const SEGMENT_SEED: u32 = u32::MAX;

/// What the seed of all ones contributes to the checksum of a preamble.
const PREAMBLE_SEED_SHIFT: u32 = raw_slow(SEGMENT_SEED, &[0; PREAMBLE_COVERED_BYTES]);

/// The reversed polynomial of CRC-32C.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The definition, bit by bit, for the compiler to work out a constant.
const fn raw_slow(seed: u32, bytes: &[u8]) -> u32 {
    let mut crc = seed;
    let mut at = 0;
    while at < bytes.len() {
        crc ^= bytes[at] as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        at += 1;
    }
    crc
}

/// The checksum of a whole segment.
#[inline]
pub(super) fn segment(bytes: &[u8]) -> u32 {
    !crc32_iscsi(bytes)
}

/// The checksum of the first 28 bytes of a preamble.
#[inline]
pub(super) fn preamble(bytes: &[u8; PREAMBLE_COVERED_BYTES]) -> u32 {
    !crc32_iscsi(bytes) ^ PREAMBLE_SEED_SHIFT
}

/// Goes on with a segment's checksum; the first call gives [`SEGMENT_SEED`].
pub(super) fn segment_continued(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(crc));
    digest.update(bytes);
    digest.get_state() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: &[u8] = b"123456789";

    #[test]
    fn the_check_values_of_both_seeds_hold() {
        assert_eq!(crc32_iscsi(CHECK), 0xe306_9283);
        assert_eq!(raw_slow(0, CHECK), 0x58e3_fa20);
        assert_eq!(segment(CHECK), 0x1cf9_6d7c);
        assert_eq!(segment(b""), SEGMENT_SEED);
    }

    #[test]
    fn a_preamble_begins_with_zero() {
        for fill in 0..=255 {
            let bytes: [u8; 28] = core::array::from_fn(|at| (at as u8).wrapping_mul(37) ^ fill);
            assert_eq!(preamble(&bytes), raw_slow(0, &bytes));
        }
        assert_eq!(preamble(&[0; 28]), 0);
    }

    #[test]
    fn pieces_add_up_to_the_whole_at_every_split() {
        let bytes: Vec<u8> = (0..1500u32).map(|at| ((at * at) >> 3) as u8).collect();
        for len in [0, 1, 7, 8, 41, 64, 143, 144, 255, 1024, 1500] {
            let bytes = &bytes[..len];
            assert_eq!(segment(bytes), raw_slow(SEGMENT_SEED, bytes), "{len}");
            for split in 0..=len {
                let (front, back) = bytes.split_at(split);
                let crc = segment_continued(segment_continued(SEGMENT_SEED, front), back);
                assert_eq!(crc, segment(bytes), "{split} of {len}");
            }
        }
    }
}
