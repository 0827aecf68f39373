//! AES-128-GCM with the keys and nonces of a connection secret (Ceph `src/msg/async/crypto_onwire.cc`).
//!
//! Bytes 0 to 15 of the secret are the key of both directions, 16 to 27 the first nonce of what the server sends,
//! 28 to 39 that of what the client sends. A nonce has a fixed part and a little-endian counter: in msgr2.1 bytes
//! 4 to 11 count, in msgr2.0 bytes 0 to 3. The first message uses the first nonce as it is.

use core::fmt;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::{Zeroize, Zeroizing};

use super::error::{EncodeError, FrameError, SecretTooShort};
use super::preamble::{PREAMBLE_BYTES, Revision};

/// The length of an authentication tag.
pub(super) const TAG_BYTES: usize = 16;

const KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const SECRET_BYTES_MIN: usize = KEY_BYTES + 2 * NONCE_BYTES;

/// Who opened the connection. Decides which nonce is whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The end that connected.
    Client,
    /// The end that accepted.
    Server,
}

/// No nonce is left that was not used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

/// The nonces of one direction: each is given out once.
struct Nonces {
    /// The next one; the counter's bytes are kept in `next`.
    bytes: [u8; NONCE_BYTES],
    next: u64,
    first: u64,
    revision: Revision,
    exhausted: bool,
}

impl Nonces {
    fn new(bytes: [u8; NONCE_BYTES], revision: Revision) -> Self {
        let first = match revision {
            Revision::V0 => u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            Revision::V1 => {
                let mut counter = [0; 8];
                counter.copy_from_slice(&bytes[4..]);
                u64::from_le_bytes(counter)
            }
        };
        Self { bytes, next: first, first, revision, exhausted: false }
    }

    /// The largest value of the counter.
    fn mask(&self) -> u64 {
        match self.revision {
            Revision::V0 => u64::from(u32::MAX),
            Revision::V1 => u64::MAX,
        }
    }

    /// How many are left. The whole round of msgr2.1, one more than fits, counts as `u64::MAX`.
    fn remaining(&self) -> u64 {
        if self.exhausted {
            return 0;
        }
        let used = self.next.wrapping_sub(self.first) & self.mask();
        (self.mask() - used).saturating_add(1)
    }

    /// The bytes of the next one, which stays the next one.
    fn peek(&self) -> [u8; NONCE_BYTES] {
        let mut bytes = self.bytes;
        match self.revision {
            Revision::V0 => bytes[..4].copy_from_slice(&self.next.to_le_bytes()[..4]),
            Revision::V1 => bytes[4..].copy_from_slice(&self.next.to_le_bytes()),
        }
        bytes
    }

    #[inline]
    fn take(&mut self) -> Result<Nonce, Exhausted> {
        if self.exhausted {
            return Err(Exhausted);
        }
        let nonce = Nonce::assume_unique_for_key(self.peek());
        self.next = self.next.wrapping_add(1) & self.mask();
        self.exhausted = self.next == self.first;
        Ok(nonce)
    }
}

impl Drop for Nonces {
    fn drop(&mut self) {
        self.bytes.zeroize();
        self.next.zeroize();
        self.first.zeroize();
    }
}

/// Seals what this end sends. The key is wiped when it goes.
pub struct Sealer {
    key: LessSafeKey,
    nonces: Nonces,
}

impl Sealer {
    /// How many times it can still seal; a frame takes one to three. Replace the connection long before it is
    /// none: msgr2.0 has 2^32 in all.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.nonces.remaining()
    }

    /// Uses up all but the last `nonces`.
    #[cfg(test)]
    pub(super) fn leave(&mut self, nonces: u64) {
        self.nonces.next = self.nonces.first.wrapping_sub(nonces) & self.nonces.mask();
    }

    /// The last `TAG_BYTES` of `message` are room for the tag, the rest is sealed in place.
    #[inline]
    pub(super) fn seal_in_place(&mut self, message: &mut [u8]) -> Result<(), EncodeError> {
        let nonce = self.nonces.take().map_err(|Exhausted| EncodeError::NoncesExhausted)?;
        let (text, room) = message.split_last_chunk_mut::<TAG_BYTES>().ok_or(EncodeError::Cipher)?;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), text)
            .map_err(|_| EncodeError::Cipher)?;
        room.copy_from_slice(tag.as_ref());
        Ok(())
    }

    /// Seals `text` followed by `tail` into `out`, which has room for both and the tag.
    pub(super) fn seal_into(&mut self, text: &[u8], tail: &[u8], out: &mut [u8]) -> Result<(), EncodeError> {
        let nonce = self.nonces.take().map_err(|Exhausted| EncodeError::NoncesExhausted)?;
        let (sealed, rest) = out.split_at_mut_checked(text.len()).ok_or(EncodeError::Cipher)?;
        self.key
            .seal_out_of_place_scatter(nonce, Aad::empty(), text, sealed, tail, rest)
            .map_err(|_| EncodeError::Cipher)
    }
}

/// Opens what the peer sends. The key is wiped when it goes.
pub struct Opener {
    key: LessSafeKey,
    nonces: Nonces,
    /// msgr2.0 has to look into a message before its tag is there.
    peek: Option<Box<Aes128>>,
}

impl Opener {
    /// The last `TAG_BYTES` of `message` are its tag, the rest is opened in place.
    #[inline]
    pub(super) fn open_in_place(&mut self, message: &mut [u8]) -> Result<(), FrameError> {
        let nonce = self.nonces.take().map_err(|Exhausted| FrameError::NoncesExhausted)?;
        let (text, tag) = message.split_last_chunk_mut::<TAG_BYTES>().ok_or(FrameError::Authentication)?;
        self.key
            .open_in_place_separate_tag(nonce, Aad::empty(), tag, text)
            .map(|_| ())
            .map_err(|_| FrameError::Authentication)
    }

    /// What the first bytes of the next message decrypt to, **unauthenticated**: whoever sits between may have
    /// changed any bit. Good for nothing but learning, within limits, how long the message is.
    pub(super) fn peek(&self, sealed: &[u8; PREAMBLE_BYTES]) -> [u8; PREAMBLE_BYTES] {
        let mut out = *sealed;
        let Some(cipher) = &self.peek else {
            return out;
        };
        // GCM encrypts its first block with the counter at 2; 1 is for the tag.
        for (counter, block) in (2u32..).zip(out.chunks_exact_mut(16)) {
            let mut stream = [0; 16];
            stream[..NONCE_BYTES].copy_from_slice(&self.nonces.peek());
            stream[NONCE_BYTES..].copy_from_slice(&counter.to_be_bytes());
            let mut stream = stream.into();
            cipher.encrypt_block(&mut stream);
            block.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
        }
        out
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("remaining", &self.nonces.remaining()).finish_non_exhaustive()
    }
}

/// The ciphers of both directions from a connection secret.
///
/// # Errors
/// [`SecretTooShort`] for less than 40 bytes. (A peer that agrees on the secure mode and hands out less kills
/// some implementations.)
pub fn secure_pair(
    secret: &[u8],
    side: Side,
    revision: Revision,
) -> Result<(Sealer, Opener), SecretTooShort> {
    let too_short = || SecretTooShort { len: secret.len() };
    let secret: &[u8; SECRET_BYTES_MIN] = secret.first_chunk().ok_or_else(too_short)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    key.copy_from_slice(&secret[..KEY_BYTES]);
    let mut from_server = Zeroizing::new([0; NONCE_BYTES]);
    from_server.copy_from_slice(&secret[16..28]);
    let mut from_client = Zeroizing::new([0; NONCE_BYTES]);
    from_client.copy_from_slice(&secret[28..40]);
    let (ours, theirs) = match side {
        Side::Client => (from_client, from_server),
        Side::Server => (from_server, from_client),
    };
    let cipher = || {
        UnboundKey::new(&AES_128_GCM, &*key)
            .map(LessSafeKey::new)
            .map_err(|_| SecretTooShort { len: KEY_BYTES })
    };
    let peek = match revision {
        Revision::V0 => Some(Box::new(Aes128::new((&*key).into()))),
        Revision::V1 => None,
    };
    Ok((
        Sealer { key: cipher()?, nonces: Nonces::new(*ours, revision) },
        Opener { key: cipher()?, nonces: Nonces::new(*theirs, revision), peek },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonces(bytes: [u8; 12], revision: Revision) -> Nonces {
        Nonces::new(bytes, revision)
    }

    #[test]
    fn a_nonce_of_revision_1_counts_its_last_eight_bytes() {
        let mut nonces = nonces([1, 2, 3, 4, 0xff, 0xff, 0, 0, 0, 0, 0, 9], Revision::V1);
        assert_eq!(nonces.remaining(), u64::MAX);
        assert_eq!(nonces.peek(), [1, 2, 3, 4, 0xff, 0xff, 0, 0, 0, 0, 0, 9]);
        nonces.take().unwrap();
        assert_eq!(nonces.peek(), [1, 2, 3, 4, 0, 0, 1, 0, 0, 0, 0, 9]);
        assert_eq!(nonces.remaining(), u64::MAX);
        nonces.take().unwrap();
        assert_eq!(nonces.remaining(), u64::MAX - 1);
    }

    #[test]
    fn a_nonce_of_revision_0_counts_its_first_four_bytes() {
        let mut nonces = nonces([0xff, 0xff, 0xff, 0xff, 5, 6, 7, 8, 9, 10, 11, 12], Revision::V0);
        assert_eq!(nonces.remaining(), 1 << 32);
        nonces.take().unwrap();
        assert_eq!(nonces.peek(), [0, 0, 0, 0, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(nonces.remaining(), (1 << 32) - 1);
    }

    #[test]
    fn the_first_nonce_is_never_used_again() {
        for revision in [Revision::V0, Revision::V1] {
            let mut nonces = nonces([7; 12], revision);
            nonces.next = nonces.first.wrapping_sub(1) & nonces.mask();
            assert_eq!(nonces.remaining(), 1, "{revision:?}");
            nonces.take().unwrap();
            assert_eq!(nonces.remaining(), 0);
            assert_eq!(nonces.take().err(), Some(Exhausted));
            assert_eq!(nonces.take().err(), Some(Exhausted));
        }
    }

    #[test]
    fn each_end_opens_what_the_other_seals() {
        let secret: Vec<u8> = (0..64).collect();
        for revision in [Revision::V0, Revision::V1] {
            let (mut c_seal, mut c_open) = secure_pair(&secret, Side::Client, revision).unwrap();
            let (mut s_seal, mut s_open) = secure_pair(&secret, Side::Server, revision).unwrap();
            for round in 0..5u8 {
                let mut message = [round; 48];
                c_seal.seal_in_place(&mut message).unwrap();
                assert_ne!(message[..32], [round; 32]);
                s_open.open_in_place(&mut message).unwrap();
                assert_eq!(message[..32], [round; 32]);
                let mut message = [0; 56];
                s_seal.seal_into(&[round; 33], &[0xaa; 7], &mut message).unwrap();
                c_open.open_in_place(&mut message).unwrap();
                assert_eq!(message[..33], [round; 33]);
                assert_eq!(message[33..40], [0xaa; 7]);
            }
        }
    }

    #[test]
    fn the_first_block_can_be_looked_at_before_the_tag_is_there() {
        let secret: Vec<u8> = (7..71).collect();
        let (mut seal, _) = secure_pair(&secret, Side::Client, Revision::V0).unwrap();
        let (_, mut open) = secure_pair(&secret, Side::Server, Revision::V0).unwrap();
        for round in 0..3u8 {
            let text: [u8; 32] = core::array::from_fn(|at| at as u8 ^ round);
            let mut message = [0; 48];
            message[..32].copy_from_slice(&text);
            seal.seal_in_place(&mut message).unwrap();
            assert_eq!(open.peek(message.first_chunk().unwrap()), text);
            open.open_in_place(&mut message).unwrap();
        }
    }

    #[test]
    fn a_changed_bit_does_not_open() {
        let secret = [3; 40];
        for bit in 0..48 * 8 {
            let (mut seal, _) = secure_pair(&secret, Side::Client, Revision::V1).unwrap();
            let (_, mut open) = secure_pair(&secret, Side::Server, Revision::V1).unwrap();
            let mut message = [1; 48];
            seal.seal_in_place(&mut message).unwrap();
            message[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open.open_in_place(&mut message), Err(FrameError::Authentication));
        }
    }

    #[test]
    fn a_short_secret_is_an_error() {
        for len in 0..40 {
            let result = secure_pair(&vec![0; len], Side::Client, Revision::V1).map(|_| ());
            assert_eq!(result, Err(SecretTooShort { len }));
        }
    }

    #[test]
    fn no_key_is_printed() {
        let (seal, open) = secure_pair(&[0xab; 64], Side::Client, Revision::V1).unwrap();
        let text = format!("{seal:?} {open:?}").to_lowercase();
        assert!(!text.contains("ab") && !text.contains("171"), "{text}");
    }
}
