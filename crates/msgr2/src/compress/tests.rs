use super::*;
use proptest::prelude::*;

fn compressed(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    Compressor::new(algorithm, 0).segment(bytes).unwrap()
}

fn decompressed(algorithm: Algorithm, bytes: &[u8], limit: usize) -> Result<Bytes, DecompressError> {
    Decompressor::new(algorithm).segment(bytes, limit)
}

fn text(len: usize) -> Vec<u8> {
    b"every message arrives once and in order; ".iter().copied().cycle().take(len).collect()
}

#[test]
fn what_is_compressed_decompresses_at_exactly_its_length_and_not_below() {
    for algorithm in Algorithm::ALL {
        let mut compressor = Compressor::new(algorithm, 0);
        let mut decompressor = Decompressor::new(algorithm);
        for len in [1, 8, 41, 4096, 70_000, 1_000_000] {
            let bytes = text(len);
            let packed = compressor.segment(&bytes).unwrap();
            assert_eq!(decompressor.segment(&packed, len).unwrap(), bytes, "{algorithm:?} {len}");
            let limit = len - 1;
            assert_eq!(decompressor.segment(&packed, limit), Err(DecompressError::TooLong { limit }));
        }
    }
}

#[test]
fn the_containers_are_those_of_ceph() {
    let bytes = text(5000);
    let zlib = compressed(Algorithm::Zlib, &bytes);
    assert_eq!(zlib[0], 0);
    let mut raw = flate2::Decompress::new(false);
    let mut out = Vec::with_capacity(6000);
    let status = raw.decompress_vec(&zlib[1..], &mut out, FlushDecompress::Finish).unwrap();
    assert_eq!((status, out), (Status::StreamEnd, bytes.clone()));

    let zstd = compressed(Algorithm::Zstd, &bytes);
    assert_eq!(zstd[..4], 5000u32.to_le_bytes());
    assert_eq!(zstd[4..8], [0x28, 0xb5, 0x2f, 0xfd], "the magic number of RFC 8878");

    let lz4 = compressed(Algorithm::Lz4, &bytes);
    assert_eq!(lz4[..4], 1u32.to_le_bytes());
    assert_eq!(lz4[4..8], 5000u32.to_le_bytes());
    assert_eq!(lz4[8..12], u32::try_from(lz4.len() - 12).unwrap().to_le_bytes());

    let snappy = compressed(Algorithm::Snappy, &bytes);
    assert_eq!(snappy[..2], [0x88, 0x27], "5000 as a varint");
}

#[test]
fn the_pieces_of_lz4_share_a_window() {
    // By hand (lz4 block format): piece 1 is 8 literals; piece 2 is a match of 12 at distance 8, then 5 literals.
    let piece1 = [&[0x80][..], b"abcdefgh"].concat();
    let piece2 = [&[0x08, 8, 0][..], &[0x50], b"12345"].concat();
    let mut container = 2u32.to_le_bytes().to_vec();
    for (original, block) in [(8u32, &piece1), (17, &piece2)] {
        container.extend_from_slice(&original.to_le_bytes());
        container.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
    }
    container.extend_from_slice(&piece1);
    container.extend_from_slice(&piece2);
    assert_eq!(decompressed(Algorithm::Lz4, &container, 25).unwrap(), &b"abcdefghabcdefghabcd12345"[..]);
    assert_eq!(decompressed(Algorithm::Lz4, &container, 24), Err(DecompressError::TooLong { limit: 24 }));
}

#[test]
fn a_claim_of_gigabytes_is_refused_before_memory_is_taken() {
    let huge = u32::MAX.to_le_bytes();
    let limit = 1 << 20;
    let too_long = Err(DecompressError::TooLong { limit });
    assert_eq!(decompressed(Algorithm::Zstd, &huge, limit), too_long);
    let lz4 = [&1u32.to_le_bytes()[..], &huge, &1u32.to_le_bytes(), &[0]].concat();
    assert_eq!(decompressed(Algorithm::Lz4, &lz4, limit), too_long);
    let corrupt = Err(DecompressError::Corrupt { algorithm: Algorithm::Lz4 });
    assert_eq!(decompressed(Algorithm::Lz4, &[&huge[..], &[0; 64]].concat(), limit), corrupt);
    assert_eq!(decompressed(Algorithm::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f], limit), too_long);
}

#[test]
fn lz4_comes_in_no_more_than_65536_pieces() {
    // Pieces of nothing: one token each that says so.
    let pieces = |count: u32| {
        let mut container = count.to_le_bytes().to_vec();
        for _ in 0..count {
            container.extend_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
        }
        container.resize(container.len() + count as usize, 0);
        container
    };
    assert_eq!(decompressed(Algorithm::Lz4, &pieces(65_536), 0), Ok(Bytes::new()));
    let error = DecompressError::TooManyPieces { count: 65_537, limit: 65_536 };
    assert_eq!(decompressed(Algorithm::Lz4, &pieces(65_537), 0), Err(error));
}

#[test]
fn a_frame_below_the_threshold_or_that_does_not_shrink_stays_as_it_is() {
    for algorithm in Algorithm::ALL {
        let mut compressor = Compressor::new(algorithm, 1024);
        assert!(compressor.frame([&text(500), &text(500), b"", &text(23)]).is_none());
        let shrunk = compressor.frame([&text(500), &text(500), b"", &text(24)]).unwrap();
        assert!(shrunk[2].is_empty());
        let noise: Vec<u8> = (0..2000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let snappy_noise = compressor.frame([b"", b"", b"", &noise]);
        if let Some(out) = snappy_noise {
            assert!(out[3].len() < noise.len());
        }
    }
}

#[test]
fn a_cut_stream_is_corrupt() {
    for algorithm in Algorithm::ALL {
        let packed = compressed(algorithm, &text(3000));
        for len in 1..packed.len() {
            let result = decompressed(algorithm, &packed[..len], 3000);
            assert!(result.is_err(), "{algorithm:?} cut at {len}: {result:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_come_back(bytes in prop::collection::vec(0u8..4, 1..3000), which in 0usize..4) {
        let algorithm = Algorithm::ALL[which];
        let packed = compressed(algorithm, &bytes);
        prop_assert_eq!(&decompressed(algorithm, &packed, bytes.len()).unwrap()[..], &bytes[..]);
    }

    #[test]
    fn arbitrary_input_is_an_error_or_within_the_limit(
        bytes in prop::collection::vec(any::<u8>(), 0..300), which in 0usize..4,
    ) {
        if let Ok(out) = decompressed(Algorithm::ALL[which], &bytes, 10_000) {
            prop_assert!(out.len() <= 10_000);
        }
    }
}
