//! Ceph's plain encoding, as far as cephx uses it: little-endian integers and length-prefixed bytes.
//!
//! cephx's structures have no versioned envelope, only a lone version byte (`src/auth/cephx/CephxProtocol.h`).
//! Every read is checked against the bytes that are left and hands out slices of the input, so a count or a length
//! that lies costs no memory.

use zeroize::Zeroizing;

/// A peer's bytes do not hold what they must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("the bytes end inside: {field}")]
    Truncated {
        /// The field that was being read.
        field: &'static str,
    },
    /// A structure has a version this crate does not know.
    #[error("{field} has version {version}, which is not known")]
    Version {
        /// The structure.
        field: &'static str,
        /// The version it claims.
        version: u8,
    },
    /// A field is longer, or has more items, than its limit.
    #[error("{field} counts {count}, more than {max}")]
    TooMany {
        /// The field.
        field: &'static str,
        /// What it claims.
        count: usize,
        /// The limit, in the field's unit (bytes or items).
        max: usize,
    },
    /// A number has no meaning where it stands.
    #[error("{field} cannot be {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// What was found.
        value: u64,
    },
    /// A name is not UTF-8.
    #[error("{field} is not UTF-8")]
    Text {
        /// The field.
        field: &'static str,
    },
}

/// Reads fields in order and never past the end.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Ceph's bufferlist and string: a u32 length, then that many bytes.
    pub(crate) fn prefixed(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.u32(field)?;
        let len = usize::try_from(len).map_err(|_| DecodeError::Truncated { field })?;
        self.bytes(len, field)
    }

    /// The lone version byte in front of a structure. A higher one than is known is taken, see the `message` module.
    pub(crate) fn version(&mut self, least: u8, field: &'static str) -> Result<u8, DecodeError> {
        let version = self.u8(field)?;
        if version >= least { Ok(version) } else { Err(DecodeError::Version { field, version }) }
    }
}

/// Collects fields in order. What it holds may be secret, so its memory is wiped when it is dropped.
#[derive(Default)]
pub(crate) struct Writer {
    out: Zeroizing<Vec<u8>>,
}

/// What a structure of cephx takes at most, so that growing does not leave copies of secrets behind. The largest is
/// a service ticket's inside, whose capabilities are of any length; it then grows.
const WRITER_BYTES: usize = 512;

impl Writer {
    pub(crate) fn new() -> Self {
        Writer { out: Zeroizing::new(Vec::with_capacity(WRITER_BYTES)) }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// # Panics
    ///
    /// When `bytes` is longer than 4 GiB, which nothing in this crate builds.
    pub(crate) fn prefixed(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).expect("a field of cephx is far shorter than 4 GiB");
        self.u32(len);
        self.bytes(bytes);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// The bytes, for sending. They are copied out, and the writer's own are wiped.
    pub(crate) fn into_bytes(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.out)
    }
}
