//! Keys of type `aes256k`: AES-256 with ciphertext stealing and a truncated HMAC-SHA384, after RFC 8009.
//!
//! The ciphertext is that of 16 random bytes (the confounder) and the plaintext, in CBC with ciphertext stealing
//! (variant CS3) and an initialisation vector of zeros, so it is as long as both; 24 bytes of HMAC follow. Keys for
//! encryption and integrity are derived from the secret and the usage (RFC 8009, sections 3 and 5;
//! `aes256-cts-hmac-sha384-192`).

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use hmac::{Hmac, Mac as _};
use sha2::Sha384;
use zeroize::Zeroizing;

use super::Undecipherable;

/// The random bytes in front of the plaintext.
pub(super) const CONFOUNDER_BYTES: usize = 16;
/// What is kept of the HMAC.
const MAC_BYTES: usize = 24;
const BLOCK_BYTES: usize = 16;
type Block = [u8; BLOCK_BYTES];

/// The last byte of RFC 8009's constant, for the key that encrypts and the one for integrity.
const FOR_ENCRYPTION: u8 = 0xaa;
const FOR_INTEGRITY: u8 = 0x55;

/// `N` bytes of the key derivation KDF-HMAC-SHA2 of RFC 8009, section 3. `N` is at most 48, one output of the HMAC.
fn derive<const N: usize>(secret: &[u8], usage: u32, purpose: u8) -> Zeroizing<[u8; N]> {
    let bits = (N * 8) as u32;
    let mut mac = hmac_sha384(secret);
    mac.update(&1_u32.to_be_bytes());
    mac.update(&usage.to_be_bytes());
    mac.update(&[purpose, 0]);
    mac.update(&bits.to_be_bytes());
    let mut key = Zeroizing::new([0; N]);
    key.copy_from_slice(&mac.finalize().into_bytes()[..N]);
    key
}

fn hmac_sha384(key: &[u8]) -> Hmac<Sha384> {
    hmac::KeyInit::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn mac(secret: &[u8], usage: u32, ciphertext: &[u8]) -> Hmac<Sha384> {
    let key = derive::<MAC_BYTES>(secret, usage, FOR_INTEGRITY);
    let mut mac = hmac_sha384(&*key);
    // The cipher state in front, which is the initialisation vector.
    mac.update(&[0; BLOCK_BYTES]);
    mac.update(ciphertext);
    mac
}

fn cipher(secret: &[u8], usage: u32) -> Aes256 {
    let key = derive::<32>(secret, usage, FOR_ENCRYPTION);
    Aes256::new(&Array::from(*key))
}

pub(super) fn encrypt(
    secret: &[u8],
    usage: u32,
    confounder: &[u8; CONFOUNDER_BYTES],
    plaintext: &[u8],
) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(CONFOUNDER_BYTES + plaintext.len() + BLOCK_BYTES + MAC_BYTES);
    buffer.extend_from_slice(confounder);
    buffer.extend_from_slice(plaintext);
    cts_encrypt(&cipher(secret, usage), &mut buffer);
    let mac = mac(secret, usage, &buffer).finalize().into_bytes();
    buffer.extend_from_slice(&mac[..MAC_BYTES]);
    buffer
}

pub(super) fn decrypt(
    secret: &[u8],
    usage: u32,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Undecipherable> {
    let len = sealed.len().checked_sub(MAC_BYTES).ok_or(Undecipherable)?;
    if len < CONFOUNDER_BYTES {
        return Err(Undecipherable);
    }
    let (ciphertext, expected) = sealed.split_at(len);
    // Before anything is decrypted, and in constant time.
    mac(secret, usage, ciphertext).verify_truncated_left(expected).map_err(|_| Undecipherable)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    cts_decrypt(&cipher(secret, usage), &mut buffer);
    buffer.drain(..CONFOUNDER_BYTES);
    Ok(buffer)
}

fn xor(block: &mut Block, with: &Block) {
    for (byte, other) in block.iter_mut().zip(with) {
        *byte ^= other;
    }
}

/// CBC over `buffer` (at least one block), padded with zeros; then the last two blocks change places and what is over
/// the length of the plaintext is cut off the one that is now last.
fn cts_encrypt(cipher: &Aes256, buffer: &mut Vec<u8>) {
    let len = buffer.len();
    buffer.resize(len.next_multiple_of(BLOCK_BYTES), 0);
    let blocks = buffer.as_chunks_mut::<BLOCK_BYTES>().0;
    let mut previous = [0; BLOCK_BYTES];
    for block in blocks.iter_mut() {
        xor(block, &previous);
        cipher.encrypt_block((&mut *block).into());
        previous = *block;
    }
    if let [.., last_but_one, last] = blocks {
        std::mem::swap(last_but_one, last);
    }
    buffer.truncate(len);
}

/// The reverse of [`cts_encrypt`], in place.
fn cts_decrypt(cipher: &Aes256, buffer: &mut [u8]) {
    let len = buffer.len();
    let mut previous = [0; BLOCK_BYTES];
    let mut decrypt_block = |block: &mut Block| {
        let ciphertext = *block;
        cipher.decrypt_block(block.into());
        xor(block, &previous);
        previous = ciphertext;
    };
    // All but the last two blocks, the last of which may be cut short.
    let stolen_from = len.next_multiple_of(BLOCK_BYTES).saturating_sub(2 * BLOCK_BYTES);
    let (head, tail) = buffer.split_at_mut(stolen_from);
    for block in head.as_chunks_mut::<BLOCK_BYTES>().0 {
        decrypt_block(block);
    }
    let Some((swapped, short)) = tail.split_first_chunk_mut::<BLOCK_BYTES>() else { return };
    if short.is_empty() {
        decrypt_block(swapped);
        return;
    }
    // The first of the two was the last of CBC. Decrypted, it is the last plaintext, zero-padded, under the block
    // before it, so where there is no plaintext it gives away the part of that block that was cut off.
    let mut last_plaintext = *swapped;
    cipher.decrypt_block((&mut last_plaintext).into());
    let mut last_but_one = last_plaintext;
    last_but_one[..short.len()].copy_from_slice(short);
    xor(&mut last_plaintext, &last_but_one);
    decrypt_block(&mut last_but_one);
    *swapped = last_but_one;
    short.copy_from_slice(&last_plaintext[..short.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
        digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
    }

    /// RFC 8009, appendix A, for aes256-cts-hmac-sha384-192: the base key and the usage of all its examples.
    const BASE_KEY: &str = "6D404D37FAF79F9DF0D33568D320669800EB4836472EA8A026D16B7182460C52";
    const USAGE: u32 = 2;

    #[test]
    fn rfc_8009_key_derivation() {
        let secret = hex(BASE_KEY);
        assert_eq!(
            *derive::<32>(&secret, USAGE, FOR_ENCRYPTION),
            *hex("56AB22BEE63D82D7BC5227F6773F8EA7A5EB1C825160C38312980C442E5C7E49")
        );
        assert_eq!(
            *derive::<24>(&secret, USAGE, FOR_INTEGRITY),
            *hex("69B16514E3CD8E56B82010D5C73012B622C4D00FFC23ED1F")
        );
    }

    #[test]
    fn rfc_8009_encryption() {
        let secret = hex(BASE_KEY);
        for (plaintext, confounder, sealed) in [
            (
                "",
                "F764E9FA15C276478B2C7D0C4E5F58E4",
                "41F53FA5BFE7026D91FAF9BE959195A058707273A96A40F0A01960621AC612748B9BBFBE7EB4CE3C",
            ),
            (
                "000102030405",
                "B80D3251C1F6471494256FFE712D0B9A",
                "4ED7B37C2BCAC8F74F23C1CF07E62BC7B75FB3F637B9F559C7F664F69EAB7B6092237526EA0D1F61CB20D69D10F2",
            ),
            (
                "000102030405060708090A0B0C0D0E0F",
                "53BF8A0D105265D4E276428624CE5E63",
                "BC47FFEC7998EB91E8115CF8D19DAC4BBBE2E163E87DD37F49BECA92027764F6\
                 8CF51F14D798C2273F35DF574D1F932E40C4FF255B36A266",
            ),
            (
                "000102030405060708090A0B0C0D0E0F1011121314",
                "763E65367E864F02F55153C7E3B58AF1",
                "40013E2DF58E8751957D2878BCD2D6FE101CCFD556CB1EAE79DB3C3EE86429F2\
                 B2A602AC86FEF6ECB647D6295FAE077A1FEB517508D2C16B4192E01F62",
            ),
        ] {
            let (plaintext, sealed) = (hex(plaintext), hex(sealed));
            let confounder: [u8; CONFOUNDER_BYTES] = hex(confounder).try_into().unwrap();
            assert_eq!(encrypt(&secret, USAGE, &confounder, &plaintext), sealed);
            assert_eq!(*decrypt(&secret, USAGE, &sealed).unwrap(), plaintext);
        }
    }

    #[test]
    fn every_length_decrypts() {
        for len in 0..=80 {
            let plaintext: Vec<u8> = (0..len).collect();
            let sealed = encrypt(&[9; 32], 4, &[3; 16], &plaintext);
            assert_eq!(sealed.len(), plaintext.len() + 40);
            assert_eq!(*decrypt(&[9; 32], 4, &sealed).unwrap(), plaintext, "{len} bytes");
        }
    }
}
