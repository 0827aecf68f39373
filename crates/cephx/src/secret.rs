//! The secret of a connection, and the numbers that are drawn for one login.

use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

/// The longest connection secret, and the length of those made here, in bytes (`get_connection_secret_length` in
/// `src/auth/Auth.h`; Linux refuses longer ones).
pub const CONNECTION_SECRET_BYTES_MAX: usize = 64;

/// The shortest secret that can key a secure connection: an AES-128-GCM key of 16 bytes and two nonces of 12
/// (`src/msg/async/crypto_onwire.cc`, where a shorter one kills the process).
pub const CONNECTION_SECRET_BYTES_MIN: usize = 40;

/// Fresh secret bytes for one connection, from which msgr2's secure mode takes its key (bytes 0 to 15), the nonce from
/// server to client (16 to 27) and the nonce from client to server (28 to 39). It has 40 to 64 bytes; those behind the
/// 40th are not used. Wiped when dropped.
#[derive(Clone)]
pub struct ConnectionSecret {
    bytes: [u8; CONNECTION_SECRET_BYTES_MAX],
    len: usize,
}

impl ConnectionSecret {
    /// 64 fresh bytes.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut secret =
            ConnectionSecret { bytes: [0; CONNECTION_SECRET_BYTES_MAX], len: CONNECTION_SECRET_BYTES_MAX };
        rng.fill_bytes(&mut secret.bytes);
        secret
    }

    /// The secret with these bytes, when there are [`CONNECTION_SECRET_BYTES_MIN`] to [`CONNECTION_SECRET_BYTES_MAX`].
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        if !(CONNECTION_SECRET_BYTES_MIN..=CONNECTION_SECRET_BYTES_MAX).contains(&bytes.len()) {
            return None;
        }
        let mut secret = ConnectionSecret { bytes: [0; CONNECTION_SECRET_BYTES_MAX], len: bytes.len() };
        secret.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(secret)
    }

    /// The bytes: 40 to 64.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl PartialEq for ConnectionSecret {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.as_bytes().ct_eq(other.as_bytes()))
    }
}

impl Eq for ConnectionSecret {}

impl Drop for ConnectionSecret {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl ZeroizeOnDrop for ConnectionSecret {}

/// A number drawn for one login that travels sealed: whoever reads it back has the key. Wiped when dropped, never shown.
pub(crate) struct SealedNumber(u64);

impl SealedNumber {
    pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
        SealedNumber(rng.next_u64())
    }

    pub(crate) fn get(&self) -> u64 {
        self.0
    }

    /// Whether this is the answer to it: one more.
    pub(crate) fn is_answered_by(&self, answer: u64) -> bool {
        bool::from(answer.ct_eq(&self.0.wrapping_add(1)))
    }
}

impl Drop for SealedNumber {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for SealedNumber {}

impl fmt::Debug for SealedNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedNumber(redacted)")
    }
}

impl fmt::Debug for ConnectionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionSecret({} bytes, redacted)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_travels_sealed_is_answered_by_the_next_and_not_shown() {
        let number = SealedNumber(u64::MAX);
        assert!(number.is_answered_by(0));
        assert!(!number.is_answered_by(u64::MAX));
        let number = SealedNumber(41);
        assert!(number.is_answered_by(42) && !number.is_answered_by(41));
        assert_eq!(format!("{number:?}"), "SealedNumber(redacted)");
    }
}
