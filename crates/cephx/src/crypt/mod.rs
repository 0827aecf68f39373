//! The envelopes in which cephx encrypts: one for each type of key.
//!
//! [`encrypt`] and [`decrypt`] are the bare envelopes (`src/auth/Crypto.cc`). Around its structures cephx puts nine
//! more bytes before encrypting, a version and a magic number ([`seal`], [`open`]; `encode_encrypt_enc_bl` in
//! `src/auth/cephx/CephxProtocol.h`): with a key of type [`KeyType::Aes`] that magic number is all that tells a right
//! key from a wrong one. In most places a length stands in front of the result ([`seal_prefixed`]; `encode_encrypt`).

mod cbc128;
mod cts256;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::key::{Key, KeyType};

/// What a ciphertext is for. Keys of type [`KeyType::Aes256k`] derive other keys for each usage, so that a ciphertext
/// cannot be presented in another's place; type [`KeyType::Aes`] knows no such thing.
///
/// Source: `src/auth/cephx/CephxProtocol.h`, Linux `net/ceph/auth_x_protocol.h` (`CEPHX_KEY_USAGE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Usage {
    /// The connection secret from a monitor, under the session key of the auth ticket.
    AuthConnectionSecret = 0x03,
    /// A ticket's part for the client, with the session key, under the client's key or that session key.
    TicketSessionKey = 0x04,
    /// A renewed auth ticket, under the session key of the old one.
    TicketBlob = 0x05,
    /// The client's authorization, under the session key of the service's ticket.
    Authorize = 0x10,
    /// The service's challenge, under the same.
    AuthorizeChallenge = 0x11,
    /// The service's reply, under the same.
    AuthorizeReply = 0x12,
    /// Rotating secrets on their way to a service, under the service's own key.
    RotatingSecret = 0x20,
    /// A ticket's part for the service, under a rotating secret.
    TicketInfo = 0x30,
}

/// A ciphertext could not be opened: it was made with another key or for another usage, or it was changed on the way.
/// Which of these is not told, lest a peer learn from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not decrypt: another key, or changed bytes")]
pub struct Undecipherable;

/// The version in front of everything [`seal`] encrypts.
const SEALED_VERSION: u8 = 1;
/// The magic number behind it (`AUTH_ENC_MAGIC`).
const SEALED_MAGIC: u64 = 0xff00_9cad_8826_aa55;
/// Both, as they stand in front of the plaintext.
const SEALED_HEADER: [u8; 9] = {
    let magic = SEALED_MAGIC.to_le_bytes();
    [SEALED_VERSION, magic[0], magic[1], magic[2], magic[3], magic[4], magic[5], magic[6], magic[7]]
};

/// Encrypts `plaintext`. The result is 1 to 16 bytes longer for [`KeyType::Aes`], 40 for [`KeyType::Aes256k`], which is
/// also the only one to take bytes from `rng`.
pub fn encrypt(key: &Key, usage: Usage, plaintext: &[u8], rng: &mut dyn CryptoRng) -> Vec<u8> {
    match key.key_type() {
        KeyType::Aes => cbc128::encrypt(key.secret(), plaintext),
        KeyType::Aes256k => {
            let mut confounder = [0; cts256::CONFOUNDER_BYTES];
            rng.fill_bytes(&mut confounder);
            cts256::encrypt(key.secret(), usage as u32, &confounder, plaintext)
        }
    }
}

/// Decrypts what [`encrypt`] made.
///
/// # Errors
///
/// Another key, another usage, or other bytes. A key of type [`KeyType::Aes`] notices by chance only.
pub fn decrypt(key: &Key, usage: Usage, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Undecipherable> {
    match key.key_type() {
        KeyType::Aes => cbc128::decrypt(key.secret(), ciphertext),
        KeyType::Aes256k => cts256::decrypt(key.secret(), usage as u32, ciphertext),
    }
}

/// Encrypts a structure of cephx, with the magic number in front.
pub fn seal(key: &Key, usage: Usage, structure: &[u8], rng: &mut dyn CryptoRng) -> Vec<u8> {
    let mut plaintext = Zeroizing::new(Vec::with_capacity(SEALED_HEADER.len() + structure.len()));
    plaintext.extend_from_slice(&SEALED_HEADER);
    plaintext.extend_from_slice(structure);
    encrypt(key, usage, &plaintext, rng)
}

/// [`seal`] with the length of the result, as LE u32, in front.
///
/// # Panics
///
/// When `structure` has almost 4 GiB or more.
pub fn seal_prefixed(key: &Key, usage: Usage, structure: &[u8], rng: &mut dyn CryptoRng) -> Vec<u8> {
    let sealed = seal(key, usage, structure, rng);
    let len = u32::try_from(sealed.len()).expect("a structure of cephx is far shorter than 4 GiB");
    let mut prefixed = len.to_le_bytes().to_vec();
    prefixed.extend_from_slice(&sealed);
    prefixed
}

/// Decrypts what [`seal`] made, without its length prefix, and checks the magic number.
///
/// # Errors
///
/// Another key, another usage, or other bytes.
pub fn open(key: &Key, usage: Usage, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Undecipherable> {
    let mut plaintext = decrypt(key, usage, ciphertext)?;
    let header = plaintext.get(..SEALED_HEADER.len()).ok_or(Undecipherable)?;
    if !bool::from(header.ct_eq(&SEALED_HEADER)) {
        return Err(Undecipherable);
    }
    plaintext.drain(..SEALED_HEADER.len());
    Ok(plaintext)
}

/// The client's proof that it knows `key`: the answer to both challenges (`cephx_calc_client_server_challenge`).
///
/// With [`KeyType::Aes`] the challenges are sealed, and all complete 64-bit words of the result, whose first four bytes
/// are the length prefix, are folded by exclusive or. That makes 36 bytes, and the last four are left over. With
/// [`KeyType::Aes256k`] it is the four words of an HMAC-SHA256.
pub(crate) fn proof(key: &Key, server_challenge: u64, client_challenge: u64) -> u64 {
    let mut challenges = [0; 16];
    challenges[..8].copy_from_slice(&server_challenge.to_le_bytes());
    challenges[8..].copy_from_slice(&client_challenge.to_le_bytes());
    match key.key_type() {
        KeyType::Aes => {
            let mut plaintext = [0; SEALED_HEADER.len() + 16];
            plaintext[..SEALED_HEADER.len()].copy_from_slice(&SEALED_HEADER);
            plaintext[SEALED_HEADER.len()..].copy_from_slice(&challenges);
            let sealed = cbc128::encrypt(key.secret(), &plaintext);
            // 25 bytes pad to 32.
            let mut prefixed = (sealed.len() as u32).to_le_bytes().to_vec();
            prefixed.extend_from_slice(&sealed);
            fold(&prefixed)
        }
        KeyType::Aes256k => fold(&key.hmac_sha256(&[&challenges])),
    }
}

fn fold(bytes: &[u8]) -> u64 {
    bytes.as_chunks::<8>().0.iter().fold(0, |folded, word| folded ^ u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::Timestamp;

    fn key(key_type: KeyType, byte: u8) -> Key {
        Key::new(key_type, Timestamp::default(), &vec![byte; key_type.secret_bytes()]).unwrap()
    }

    /// Computed with Python's `hmac` and with `openssl enc -aes-128-cbc`.
    #[test]
    fn proofs_are_those_of_other_implementations() {
        let secret: Vec<u8> = (0..32).collect();
        let (server, client) = (0x1122_3344_5566_7788, 0x0102_0304_0506_0708);
        let new = Key::new(KeyType::Aes256k, Timestamp::default(), &secret).unwrap();
        assert_eq!(proof(&new, server, client), 0xff60_3040_e5eb_4b04);
        let old = Key::new(KeyType::Aes, Timestamp::default(), &secret[..16]).unwrap();
        assert_eq!(proof(&old, server, client), 0x28c_4a6c_fc16_576e);
    }

    #[test]
    fn what_is_sealed_opens_at_every_length_with_both_types() {
        let mut rng = StdRng::seed_from_u64(1);
        for key_type in [KeyType::Aes, KeyType::Aes256k] {
            for len in 0..100_u8 {
                let structure: Vec<u8> = (0..len).collect();
                let sealed = seal(&key(key_type, 7), Usage::Authorize, &structure, &mut rng);
                let expected = match key_type {
                    KeyType::Aes => (structure.len() + 9) / 16 * 16 + 16,
                    KeyType::Aes256k => structure.len() + 9 + 40,
                };
                assert_eq!(sealed.len(), expected);
                assert_eq!(*open(&key(key_type, 7), Usage::Authorize, &sealed).unwrap(), structure);
                assert_eq!(open(&key(key_type, 8), Usage::Authorize, &sealed), Err(Undecipherable));
            }
        }
    }

    #[test]
    fn a_length_prefix_stands_in_front_of_the_sealed_bytes() {
        let mut rng = StdRng::seed_from_u64(2);
        let prefixed = seal_prefixed(&key(KeyType::Aes, 1), Usage::Authorize, b"", &mut rng);
        assert_eq!(prefixed[..4], [16, 0, 0, 0]);
        assert_eq!(prefixed[4..], seal(&key(KeyType::Aes, 1), Usage::Authorize, b"", &mut rng));
    }

    #[test]
    fn only_the_newer_type_tells_usages_apart() {
        let mut rng = StdRng::seed_from_u64(3);
        let old = seal(&key(KeyType::Aes, 1), Usage::Authorize, b"x", &mut rng);
        assert_eq!(**open(&key(KeyType::Aes, 1), Usage::AuthorizeReply, &old).unwrap(), *b"x");
        let new = seal(&key(KeyType::Aes256k, 1), Usage::Authorize, b"x", &mut rng);
        assert_eq!(open(&key(KeyType::Aes256k, 1), Usage::AuthorizeReply, &new), Err(Undecipherable));
    }

    #[test]
    fn with_the_newer_type_every_changed_or_missing_bit_is_noticed() {
        let mut rng = StdRng::seed_from_u64(4);
        let key = key(KeyType::Aes256k, 1);
        let sealed = seal(&key, Usage::Authorize, b"some bytes", &mut rng);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key, Usage::Authorize, &changed), Err(Undecipherable), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert_eq!(open(&key, Usage::Authorize, &sealed[..len]), Err(Undecipherable), "{len} bytes");
        }
    }

    #[test]
    fn with_the_older_type_a_changed_header_or_length_is_noticed() {
        let mut rng = StdRng::seed_from_u64(5);
        let key = key(KeyType::Aes, 1);
        let sealed = seal(&key, Usage::Authorize, b"some bytes", &mut rng);
        for bit in 0..16 * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key, Usage::Authorize, &changed), Err(Undecipherable), "bit {bit}");
        }
        for len in (0..sealed.len()).filter(|len| len % 16 != 0 || *len == 0) {
            assert_eq!(open(&key, Usage::Authorize, &sealed[..len]), Err(Undecipherable), "{len} bytes");
        }
    }
}
