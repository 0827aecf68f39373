//! Lock modes and the queues of a resource.

use core::fmt;

use super::error::DecodeError;

/// How a lock may be held. From VMS; the numbers are those of Linux's `dlmconstants.h`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(i8)]
pub enum Mode {
    /// Null: holds a place and nothing else.
    Null = 0,
    /// Concurrent read: others may do anything but hold [`Mode::Exclusive`].
    ConcurrentRead = 1,
    /// Concurrent write: read and write beside others who do.
    ConcurrentWrite = 2,
    /// Protected read: shared; nobody may write.
    ProtectedRead = 3,
    /// Protected write: one may write, others may read unprotected.
    ProtectedWrite = 4,
    /// Exclusive.
    Exclusive = 5,
}

impl Mode {
    /// All, from the weakest.
    pub const ALL: [Self; 6] = [
        Self::Null,
        Self::ConcurrentRead,
        Self::ConcurrentWrite,
        Self::ProtectedRead,
        Self::ProtectedWrite,
        Self::Exclusive,
    ];

    /// Whether two locks of one resource may be held in these modes at once. Symmetric.
    pub const fn is_compatible_with(self, other: Self) -> bool {
        use Mode::{ConcurrentRead, ConcurrentWrite, Exclusive, Null, ProtectedRead, ProtectedWrite};
        match (self, other) {
            (Null, _) | (_, Null) => true,
            (Exclusive, _) | (_, Exclusive) => false,
            (ConcurrentRead, _) | (_, ConcurrentRead) => true,
            (ConcurrentWrite, ConcurrentWrite) | (ProtectedRead, ProtectedRead) => true,
            (ConcurrentWrite | ProtectedRead | ProtectedWrite, ProtectedWrite)
            | (ProtectedWrite, ConcurrentWrite | ProtectedRead)
            | (ConcurrentWrite, ProtectedRead)
            | (ProtectedRead, ConcurrentWrite) => false,
        }
    }

    /// The two letters that people who run clusters use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "NL",
            Self::ConcurrentRead => "CR",
            Self::ConcurrentWrite => "CW",
            Self::ProtectedRead => "PR",
            Self::ProtectedWrite => "PW",
            Self::Exclusive => "EX",
        }
    }

    /// The mode of these two letters, in either case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(name))
    }

    /// A mode as messages carry it, where -1 is none.
    pub(super) fn from_wire(raw: i32) -> Result<Option<Self>, DecodeError> {
        if raw == NO_MODE {
            return Ok(None);
        }
        let index = usize::try_from(raw).map_err(|_| DecodeError::Mode(raw))?;
        Self::ALL.get(index).copied().map(Some).ok_or(DecodeError::Mode(raw))
    }

    pub(super) fn to_wire(mode: Option<Self>) -> i32 {
        mode.map_or(NO_MODE, |mode| mode as i32)
    }
}

/// `DLM_LOCK_IV`.
const NO_MODE: i32 = -1;

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which queue of its resource a lock is in.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Queue {
    /// Asked for and held in no mode yet.
    Waiting,
    /// Held.
    Granted,
    /// Held in one mode and waiting for another.
    Converting,
}

impl Queue {
    pub(super) const fn from_wire(raw: u32) -> Result<Option<Self>, DecodeError> {
        match raw {
            0 => Ok(None),
            1 => Ok(Some(Self::Waiting)),
            2 => Ok(Some(Self::Granted)),
            3 => Ok(Some(Self::Converting)),
            _ => Err(DecodeError::Queue(raw)),
        }
    }

    pub(super) const fn to_wire(queue: Option<Self>) -> u8 {
        match queue {
            None => 0,
            Some(Self::Waiting) => 1,
            Some(Self::Granted) => 2,
            Some(Self::Converting) => 3,
        }
    }
}
