//! A cursor over received bytes that cannot be made to read or allocate more than there is.

use thiserror::Error;

/// A payload that does not say what it should. The peer's fault; the connection dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the field does.
    #[error("{what} needs {needed} bytes, {left} are left")]
    Truncated {
        /// The field.
        what: &'static str,
        /// How many bytes it takes.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// A count that the bytes left could not hold, whatever the items are.
    #[error("{count} items of {what} cannot be in the {left} bytes left")]
    CountTooLarge {
        /// The list.
        what: &'static str,
        /// How many items the peer claims.
        count: u32,
        /// How many bytes are left for them.
        left: usize,
    },
    /// A list that is longer than anybody's.
    #[error("{count} items of {what}, more than {limit}")]
    TooMany {
        /// The list.
        what: &'static str,
        /// How many items there are.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A structure that only newer programs may read.
    #[error("{what} may only be read by who knows version {compat}, this is version {known}")]
    Incompatible {
        /// The structure.
        what: &'static str,
        /// The version its writer demands.
        compat: u8,
        /// The version known here.
        known: u8,
    },
    /// An address or a list of addresses begins with a byte that names no known encoding.
    #[error("{what} begins with the unknown marker {marker}")]
    Marker {
        /// The structure.
        what: &'static str,
        /// The byte.
        marker: u8,
    },
    /// A socket address longer than any, or too short for its family.
    #[error("a socket address of {len} bytes")]
    SockaddrLength {
        /// The length the peer gave.
        len: u32,
    },
    /// A MESSAGE frame is no control frame.
    #[error("a message is no control frame")]
    NotControl,
}

/// Reads fields in order from a payload. Bytes that nobody reads are ignored, as Ceph does: a newer peer may
/// append fields.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes nobody has read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when there are fewer.
    pub fn take(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(DecodeError::Truncated {
            what,
            needed: len,
            left: self.bytes.len(),
        })?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when there are fewer.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated {
            what,
            needed: N,
            left: self.bytes.len(),
        })?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// One byte that is false when it is zero.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        self.u8(what).map(|byte| byte != 0)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when there are fewer.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when there are fewer.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Four bytes with a sign.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when there are fewer.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        self.array(what).map(i32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when there are fewer.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Eight bytes with a sign.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when there are fewer.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_le_bytes)
    }

    /// A 32-bit length and that many bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when they are not all there.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.u32(what)?;
        // Where usize is narrower than the length, there cannot be so many bytes.
        self.take(what, usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// The count of a list whose items take at least `item_bytes_min` bytes each. The count that comes back
    /// may be allocated for: it is no larger than the bytes left.
    ///
    /// # Errors
    /// [`DecodeError::CountTooLarge`] for more items than the bytes left can hold.
    pub fn count(&mut self, what: &'static str, item_bytes_min: usize) -> Result<usize, DecodeError> {
        let count = self.u32(what)?;
        let left = self.bytes.len();
        match usize::try_from(count) {
            Ok(fits) if fits <= left / item_bytes_min.max(1) => Ok(fits),
            _ => Err(DecodeError::CountTooLarge { what, count, left }),
        }
    }

    /// A list of 32-bit numbers.
    ///
    /// # Errors
    /// See [`Reader::count`].
    pub(crate) fn u32_list<T>(
        &mut self,
        what: &'static str,
        make: impl Fn(u32) -> T,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(what, 4)?;
        (0..count).map(|_| self.u32(what).map(&make)).collect()
    }
}

/// Appends a list of 32-bit numbers with its count.
pub(crate) fn put_u32_list(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = u32>) {
    put_len(out, items.len());
    items.for_each(|item| out.extend_from_slice(&item.to_le_bytes()));
}

/// Appends a 32-bit length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a length or count as 32 bits. One beyond them belongs to a payload far above the limit of a control
/// frame, which the frame encoder refuses.
pub(crate) fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}
