//! Little-endian numbers and counted bytes: what every message is made of.

use super::{Attributes, Hash, Timestamp, WireError};
use crate::error::{FileError, FileErrorKind};

/// Numbers of [`FileErrorKind`] on the wire. A value is never given to something else.
const FILE_ERRORS: [(u16, FileErrorKind); 23] = [
    (1, FileErrorKind::NotFound),
    (2, FileErrorKind::PermissionDenied),
    (3, FileErrorKind::NoSpace),
    (4, FileErrorKind::QuotaExceeded),
    (5, FileErrorKind::ReadOnlyFileSystem),
    (6, FileErrorKind::NotADirectory),
    (7, FileErrorKind::IsADirectory),
    (8, FileErrorKind::SymbolicLink),
    (9, FileErrorKind::OutsideRoot),
    (10, FileErrorKind::NameTooLong),
    (11, FileErrorKind::TooDeep),
    (12, FileErrorKind::InvalidName),
    (13, FileErrorKind::Special),
    (14, FileErrorKind::LinkSkipped),
    (15, FileErrorKind::Changed),
    (16, FileErrorKind::HashMismatch),
    (17, FileErrorKind::Busy),
    (18, FileErrorKind::ParentFailed),
    (19, FileErrorKind::TooManyOpenFiles),
    (20, FileErrorKind::FileTooLarge),
    (21, FileErrorKind::Misbehaved),
    (22, FileErrorKind::Unknown),
    (23, FileErrorKind::Io),
];

/// Nanoseconds in a second.
const NANOSECONDS: u32 = 1_000_000_000;

/// Highest permission bits that travel.
const MODE_MAX: u16 = 0o777;

pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    pub(super) fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    pub(super) fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    pub(super) fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    pub(super) fn bytes(&mut self, v: &[u8]) {
        self.0.extend_from_slice(v);
    }
    /// A count as u32; what is counted here is bounded far below.
    pub(super) fn count(&mut self, n: usize) {
        self.u32(u32::try_from(n).unwrap_or(u32::MAX));
    }
    pub(super) fn counted(&mut self, v: &[u8]) {
        self.count(v.len());
        self.bytes(v);
    }
    pub(super) fn timestamp(&mut self, t: Timestamp) {
        self.bytes(&t.seconds.to_le_bytes());
        self.u32(t.nanoseconds);
    }
    pub(super) fn attributes(&mut self, a: Attributes) {
        self.u16(a.mode);
        self.timestamp(a.modified);
    }
    pub(super) fn file_error(&mut self, e: FileError) {
        let number = FILE_ERRORS.iter().find(|(_, kind)| *kind == e.kind).map_or(0, |(n, _)| *n);
        self.u16(number);
        self.bytes(&e.errno.to_le_bytes());
    }
}

/// Reads a front from its beginning to its end; every read says what it is after.
pub(super) struct Reader<'a> {
    kind: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(kind: &'static str, front: &'a [u8]) -> Self {
        Self { kind, rest: front }
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (head, rest) =
            self.rest.split_at_checked(len).ok_or(WireError::Truncated { kind: self.kind, what })?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }
    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }
    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }
    pub(super) fn hash(&mut self) -> Result<Hash, WireError> {
        self.array("hash")
    }

    pub(super) fn bad<T>(&self, what: &'static str, value: u64) -> Result<T, WireError> {
        Err(WireError::BadValue { kind: self.kind, what, value })
    }

    pub(super) fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => self.bad(what, other.into()),
        }
    }

    /// A count of things that take at least `each_min` bytes: refused before anything is allocated if it is beyond `max`
    /// or if the rest of the front cannot hold so many.
    pub(super) fn count(
        &mut self,
        what: &'static str,
        max: usize,
        each_min: usize,
    ) -> Result<usize, WireError> {
        let n = self.u32(what)?;
        let count = usize::try_from(n).unwrap_or(usize::MAX);
        if count > max {
            return Err(WireError::TooLong { kind: self.kind, what, len: n.into(), max: max as u64 });
        }
        if count.saturating_mul(each_min) > self.rest.len() {
            return Err(WireError::Truncated { kind: self.kind, what });
        }
        Ok(count)
    }

    pub(super) fn counted(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], WireError> {
        let len = self.count(what, max, 1)?;
        self.take(len, what)
    }

    pub(super) fn timestamp(&mut self) -> Result<Timestamp, WireError> {
        let seconds = i64::from_le_bytes(self.array("time")?);
        let nanoseconds = self.u32("time")?;
        if nanoseconds >= NANOSECONDS {
            return self.bad("nanoseconds", nanoseconds.into());
        }
        Ok(Timestamp { seconds, nanoseconds })
    }

    pub(super) fn attributes(&mut self) -> Result<Attributes, WireError> {
        let mode = self.u16("mode")?;
        if mode > MODE_MAX {
            return self.bad("mode", mode.into());
        }
        Ok(Attributes { mode, modified: self.timestamp()? })
    }

    /// An error of a newer version is [`FileErrorKind::Unknown`] and still an error.
    pub(super) fn file_error(&mut self) -> Result<FileError, WireError> {
        let number = self.u16("error")?;
        let errno = i32::from_le_bytes(self.array("errno")?);
        let kind =
            FILE_ERRORS.iter().find(|(n, _)| *n == number).map_or(FileErrorKind::Unknown, |(_, kind)| *kind);
        Ok(FileError { kind, errno })
    }

    pub(super) fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing { kind: self.kind, len: self.rest.len() })
        }
    }
}
