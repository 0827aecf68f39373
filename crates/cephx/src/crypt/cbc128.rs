//! Keys of type `aes`: AES-128-CBC, PKCS#7 padding, and one initialisation vector for everything.
//!
//! Source: `src/auth/Crypto.cc` (`CryptoAESKeyHandler`), `CEPH_AES_IV` in `src/include/ceph_fs.h`.

use aes::Aes128;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use zeroize::Zeroizing;

use super::Undecipherable;

const IV: &[u8; 16] = b"cephsageyudagreg";

/// `secret` has 16 bytes, as `Key` guarantees.
pub(super) fn encrypt(secret: &[u8], plaintext: &[u8]) -> Vec<u8> {
    cbc::Encryptor::<Aes128>::new_from_slices(secret, IV)
        .expect("a key of this type has 16 bytes")
        .encrypt_padded_vec::<Pkcs7>(plaintext)
}

pub(super) fn decrypt(secret: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Undecipherable> {
    if ciphertext.is_empty() {
        return Err(Undecipherable);
    }
    cbc::Decryptor::<Aes128>::new_from_slices(secret, IV)
        .expect("a key of this type has 16 bytes")
        .decrypt_padded_vec::<Pkcs7>(ciphertext)
        .map(Zeroizing::new)
        .map_err(|_| Undecipherable)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abc | openssl enc -aes-128-cbc -K 31..36 -iv (the text above)`.
    #[test]
    fn openssl_gives_the_same() {
        let expected = 0x0ba3_d129_0cc4_7bb3_70aa_355b_24a7_d152_u128.to_be_bytes();
        assert_eq!(encrypt(b"1234567890123456", b"abc"), expected);
        assert_eq!(**decrypt(b"1234567890123456", &expected).unwrap(), *b"abc");
    }

    #[test]
    fn padding_is_always_there() {
        assert_eq!(encrypt(&[0; 16], &[0; 16]).len(), 32);
        assert_eq!(decrypt(&[0; 16], &[]), Err(Undecipherable));
        assert_eq!(decrypt(&[0; 16], &[0; 15]), Err(Undecipherable));
    }
}
