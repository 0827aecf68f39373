//! The secret of a connection.

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

impl fmt::Debug for ConnectionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionSecret({} bytes, redacted)", self.len)
    }
}
