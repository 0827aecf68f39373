//! Secret keys: their two types, their encoding, and what is signed with them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand_core::CryptoRng;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::Timestamp;
use crate::wire::{DecodeError, Reader, Writer};

/// The longest secret of a key, in bytes. Linux refuses a longer one too (`net/ceph/auth_x.c`).
pub const KEY_BYTES_MAX: usize = 32;

/// The two types of keys (`src/include/ceph_fs.h`: `CEPH_CRYPTO_AES`, `CEPH_CRYPTO_AES256KRB5`), weaker first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// AES-128-CBC under a fixed initialisation vector: the only type up to Ceph 19 and Linux 6. It protects secrecy
    /// but not integrity (CVE-2025-30156), and clusters since 19.2.6 and 20.2.4 warn of it.
    Aes,
    /// AES-256-CTS with HMAC-SHA384-192 after RFC 8009. What this crate makes unless told otherwise.
    #[default]
    Aes256k,
}

impl KeyType {
    /// The number on the wire and in keyrings.
    pub const fn number(self) -> u16 {
        match self {
            KeyType::Aes => 1,
            KeyType::Aes256k => 2,
        }
    }

    /// The type with this number.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(KeyType::Aes),
            2 => Some(KeyType::Aes256k),
            _ => None,
        }
    }

    /// Ceph's name: `aes` or `aes256k`.
    pub const fn name(self) -> &'static str {
        match self {
            KeyType::Aes => "aes",
            KeyType::Aes256k => "aes256k",
        }
    }

    /// How many bytes a secret of this type has.
    pub const fn secret_bytes(self) -> usize {
        match self {
            KeyType::Aes => 16,
            KeyType::Aes256k => 32,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyType {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "aes" => Ok(KeyType::Aes),
            "aes256k" => Ok(KeyType::Aes256k),
            _ => Err(KeyError::TypeName),
        }
    }
}

/// A text or bytes are not a key. The fault of whoever wrote them: the user for a keyring, else the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not base64.
    #[error("a key is written in base64")]
    Base64,
    /// The name of a type is neither `aes` nor `aes256k`.
    #[error("the type of a key is aes or aes256k")]
    TypeName,
    /// The secret has not the length of its type.
    #[error("a secret of type {key_type} has {} bytes, not {len}", key_type.secret_bytes())]
    Length {
        /// The key's type.
        key_type: KeyType,
        /// What was given, in bytes.
        len: usize,
    },
    /// There are bytes behind the key.
    #[error("there are {count} bytes behind the key")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// The bytes do not hold a key.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A secret key of an entity, of a service, or of a session.
///
/// On the wire and, in base64, in a keyring: type u16, creation time, length u16, secret (`src/auth/Crypto.cc`,
/// `CryptoKey::encode`). The secret is wiped from memory when the key is dropped, never shown by `Debug`, and compared
/// in constant time. Two keys are equal when type and secret are; the time of creation does not matter.
#[derive(Clone)]
pub struct Key {
    key_type: KeyType,
    created: Timestamp,
    /// As many of these count as the type says; the rest is zero.
    secret: [u8; KEY_BYTES_MAX],
}

impl Key {
    /// A key with this secret.
    ///
    /// # Errors
    ///
    /// The secret's length is not that of the type.
    pub fn new(key_type: KeyType, created: Timestamp, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() != key_type.secret_bytes() {
            return Err(KeyError::Length { key_type, len: secret.len() });
        }
        let mut key = Key { key_type, created, secret: [0; KEY_BYTES_MAX] };
        key.secret[..secret.len()].copy_from_slice(secret);
        Ok(key)
    }

    /// A fresh key.
    pub fn generate(key_type: KeyType, created: Timestamp, rng: &mut dyn CryptoRng) -> Self {
        let mut key = Key { key_type, created, secret: [0; KEY_BYTES_MAX] };
        rng.fill_bytes(&mut key.secret[..key_type.secret_bytes()]);
        key
    }

    /// Reads a key as a keyring has it, in base64. White space around it is ignored.
    ///
    /// # Errors
    ///
    /// The text is not base64, or its bytes are not exactly one key.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| KeyError::Base64)?);
        let mut input = Reader::new(&bytes);
        let key = Self::decode(&mut input)?;
        if input.is_empty() {
            Ok(key)
        } else {
            Err(KeyError::Trailing { count: bytes.len() - key.encoded_len() })
        }
    }

    /// The key as a keyring has it, in base64.
    pub fn to_base64(&self) -> Zeroizing<String> {
        let mut out = Writer::new();
        self.encode(&mut out);
        Zeroizing::new(STANDARD.encode(out.as_slice()))
    }

    /// The type.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// When the key was made, by its maker's clock.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// The bare secret, 16 or 32 bytes.
    pub fn secret(&self) -> &[u8] {
        &self.secret[..self.key_type.secret_bytes()]
    }

    /// HMAC-SHA256 under the bare secret of all `parts` in order. With the session key this is the signature over a
    /// handshake that msgr2 exchanges (`AUTH_SIGNATURE`; `CryptoKeyHandler::hmac_sha256`).
    pub fn hmac_sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret()).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Whether `signature` is [`Key::hmac_sha256`] of all `parts`, in constant time.
    pub fn verify_hmac_sha256(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        bool::from(self.hmac_sha256(parts).as_slice().ct_eq(signature))
    }

    fn encoded_len(&self) -> usize {
        2 + 8 + 2 + self.key_type.secret_bytes()
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u16(self.key_type.number());
        self.created.encode(out);
        // A secret's length is 16 or 32.
        out.u16(self.key_type.secret_bytes() as u16);
        out.bytes(self.secret());
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = input.u16("a key's type")?;
        let key_type = KeyType::from_number(number)
            .ok_or(DecodeError::Value { field: "a key's type", value: u64::from(number) })?;
        let created = Timestamp::decode(input)?;
        let len = input.u16("a key's length")?;
        if usize::from(len) != key_type.secret_bytes() {
            return Err(DecodeError::Value { field: "a key's length", value: u64::from(len) });
        }
        let secret = input.bytes(usize::from(len), "a key's secret")?;
        let mut key = Key { key_type, created, secret: [0; KEY_BYTES_MAX] };
        key.secret[..secret.len()].copy_from_slice(secret);
        Ok(key)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        // The type is no secret; the padding behind a shorter secret is zero in both.
        self.key_type == other.key_type && bool::from(self.secret.ct_eq(&other.secret))
    }
}

impl Eq for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl ZeroizeOnDrop for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("key_type", &self.key_type)
            .field("created", &self.created)
            .field("secret", &format_args!("(redacted)"))
            .finish()
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_base64(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_type_time_length_secret() {
        let key = Key::new(KeyType::Aes, Timestamp::new(0x0102_0304, 5), b"1234567890123456").unwrap();
        let mut out = Writer::new();
        key.encode(&mut out);
        assert_eq!(out.as_slice(), b"\x01\x00\x04\x03\x02\x01\x05\x00\x00\x00\x10\x001234567890123456");
        assert_eq!(Key::from_base64(&key.to_base64()).unwrap().created(), key.created());
    }

    #[test]
    fn lengths_and_types_that_do_not_fit_are_refused() {
        assert_eq!(
            Key::new(KeyType::Aes256k, Timestamp::default(), &[0; 16]),
            Err(KeyError::Length { key_type: KeyType::Aes256k, len: 16 })
        );
        assert_eq!(Key::from_base64("!"), Err(KeyError::Base64));
        let mut bytes = vec![3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0];
        bytes.extend_from_slice(&[7; 16]);
        let text = STANDARD.encode(&bytes);
        assert_eq!(
            Key::from_base64(&text),
            Err(KeyError::Decode(DecodeError::Value { field: "a key's type", value: 3 }))
        );
        bytes[0] = 1;
        bytes.push(0);
        assert_eq!(Key::from_base64(&STANDARD.encode(&bytes)), Err(KeyError::Trailing { count: 1 }));
        bytes.truncate(20);
        assert_eq!(
            Key::from_base64(&STANDARD.encode(&bytes)),
            Err(KeyError::Decode(DecodeError::Truncated { field: "a key's secret" }))
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = Key::new(KeyType::Aes, Timestamp::default(), &[0xab; 16]).unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains("redacted") && !shown.contains("171"), "{shown}");
    }

    #[test]
    fn keys_are_equal_by_type_and_secret() {
        let a = Key::new(KeyType::Aes, Timestamp::new(1, 0), &[1; 16]).unwrap();
        let b = Key::new(KeyType::Aes, Timestamp::new(2, 0), &[1; 16]).unwrap();
        let c = Key::new(KeyType::Aes, Timestamp::new(1, 0), &[2; 16]).unwrap();
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
