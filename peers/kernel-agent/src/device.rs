//! The structures that are written to and read from the DLM's devices, on a 64-bit little-endian machine.
//!
//! Source: `include/uapi/linux/dlm_device.h`, version 6.0.2 of the interface.

use crate::protocol::Mode;

/// Of a value block of a lockspace that user space made.
pub const VALUE_BYTES: usize = 32;
/// Of the name of a resource.
pub const NAME_BYTES_MAX: usize = 64;
/// What one read may bring: a result and a value block. Any length but 12, which asks for the version.
pub const RESULT_BYTES_MAX: usize = RESULT_BYTES + VALUE_BYTES;

const VERSION: [u32; 3] = [6, 0, 2];
/// Version, command, a mark for 64-bit callers, padding.
const HEADER_BYTES: usize = 16;
/// The largest member of the union behind the header, without a name.
const REQUEST_BYTES: usize = HEADER_BYTES + 104;
const RESULT_BYTES: usize = 72;

const COMMAND_LOCK: u8 = 1;
const COMMAND_UNLOCK: u8 = 2;
const COMMAND_CREATE: u8 = 4;
const COMMAND_REMOVE: u8 = 5;
const COMMAND_PURGE: u8 = 6;

/// `DLM_LKF_CANCEL` and `DLM_LKF_CONVERT`.
const FLAG_CANCEL: u32 = 0x2;
const FLAG_CONVERT: u32 = 0x4;
/// `DLM_USER_LSFLG_FORCEFREE`.
const FLAG_FORCE: u32 = 2;

/// The kernel hands back what it took for addresses of functions: so a callback is told from a completion.
const COMPLETION: u64 = 1;
const BLOCKING: u64 = 2;
/// Nor does it look at the status block's address, but there must be one.
const STATUS_BLOCK: u64 = 1;

/// What a request says about a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Params<'a> {
    mode: u8,
    flags: u32,
    lkid: u32,
    tag: u64,
    value: &'a [u8],
    name: &'a [u8],
}

/// A request of a new lock. `name` has 1 to [`NAME_BYTES_MAX`] bytes; the kernel refuses others.
pub fn lock(tag: u64, name: &[u8], mode: Mode, flags: u32) -> Vec<u8> {
    encode(COMMAND_LOCK, Params { mode: mode as u8, flags, tag, name, ..Params::default() })
}

/// A request of another mode; `value` beyond [`VALUE_BYTES`] is not sent.
pub fn convert(tag: u64, lkid: u32, mode: Mode, flags: u32, value: &[u8]) -> Vec<u8> {
    let flags = flags | FLAG_CONVERT;
    encode(COMMAND_LOCK, Params { mode: mode as u8, flags, lkid, tag, value, name: &[] })
}

/// The end of a lock; `value` beyond [`VALUE_BYTES`] is not sent.
pub fn unlock(tag: u64, lkid: u32, flags: u32, value: &[u8]) -> Vec<u8> {
    encode(COMMAND_UNLOCK, Params { flags, lkid, tag, value, ..Params::default() })
}

/// Takes a waiting request back.
pub fn cancel(tag: u64, lkid: u32) -> Vec<u8> {
    encode(COMMAND_UNLOCK, Params { flags: FLAG_CANCEL, lkid, tag, ..Params::default() })
}

fn encode(command: u8, params: Params<'_>) -> Vec<u8> {
    let mut bytes = header(command);
    // A longer name is cut by the count, not by this: the kernel compares both.
    bytes.extend([params.mode, u8::try_from(params.name.len()).unwrap_or(u8::MAX), 0, 0]);
    bytes.extend(params.flags.to_le_bytes());
    bytes.extend(params.lkid.to_le_bytes());
    // The parent, which the kernel has no use for; then an identity and a time limit that we do not set.
    bytes.extend([0; 4 + 8 + 8]);
    for pointer in [params.tag, COMPLETION, params.tag, BLOCKING, STATUS_BLOCK] {
        bytes.extend(pointer.to_le_bytes());
    }
    let mut value = [0; VALUE_BYTES];
    for (to, from) in value.iter_mut().zip(params.value) {
        *to = *from;
    }
    bytes.extend(value);
    bytes.extend(params.name);
    bytes
}

/// For the control device: makes a lockspace and joins it. The write ends when that is done.
pub fn create_lockspace(name: &str) -> Vec<u8> {
    lockspace(COMMAND_CREATE, 0, 0, name)
}

/// For the control device: leaves the lockspace whose device has this minor number.
pub fn remove_lockspace(minor: u32, force: bool) -> Vec<u8> {
    lockspace(COMMAND_REMOVE, if force { FLAG_FORCE } else { 0 }, minor, "")
}

fn lockspace(command: u8, flags: u32, minor: u32, name: &str) -> Vec<u8> {
    let mut bytes = header(command);
    bytes.extend(flags.to_le_bytes());
    bytes.extend(minor.to_le_bytes());
    bytes.extend(name.as_bytes());
    // The kernel reads the name up to a zero byte, and takes no request shorter than its structure.
    bytes.resize((bytes.len() + 1).max(REQUEST_BYTES), 0);
    bytes
}

/// Ends the locks that a process of a node left behind.
pub fn purge(node: u32, pid: u32) -> Vec<u8> {
    let mut bytes = header(COMMAND_PURGE);
    bytes.extend(node.to_le_bytes());
    bytes.extend(pid.to_le_bytes());
    bytes.resize(REQUEST_BYTES, 0);
    bytes
}

fn header(command: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(REQUEST_BYTES + NAME_BYTES_MAX);
    bytes.extend(VERSION.iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend([command, 1, 0, 0]);
    bytes
}

/// What a read from a lockspace's device brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A request has ended.
    Completion {
        /// The lock's.
        tag: u64,
        /// 0, or a negative number.
        status: i32,
        /// The kernel's number of the lock.
        lkid: u32,
        /// `DLM_SBF_*`.
        sbflags: u8,
        /// The value block, if one came.
        value: Option<[u8; VALUE_BYTES]>,
    },
    /// Somebody wants an incompatible mode.
    Blocking {
        /// The lock's.
        tag: u64,
        /// The mode that is wanted.
        mode: u8,
    },
}

/// The kernel speaks another version of the interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel gave a result of {bytes} bytes that is not of version 6 of the interface")]
pub struct ResultError {
    /// How long it was.
    pub bytes: usize,
}

/// Reads what one read brought.
///
/// # Errors
///
/// It is too short, or says that it is of another version.
pub fn outcome(bytes: &[u8]) -> Result<Outcome, ResultError> {
    let bad = ResultError { bytes: bytes.len() };
    let read = || {
        if u32_at(bytes, 0)? != VERSION[0] {
            return None;
        }
        let (callback, tag) = (u64_at(bytes, 16)?, u64_at(bytes, 24)?);
        if callback == BLOCKING {
            return Some(Outcome::Blocking { tag, mode: *bytes.get(64)? });
        }
        let value = match u32_at(bytes, 68)? {
            0 => None,
            at => Some(array_at(bytes, at as usize)?),
        };
        let status = i32::from_le_bytes(array_at(bytes, 40)?);
        Some(Outcome::Completion { tag, status, lkid: u32_at(bytes, 44)?, sbflags: *bytes.get(48)?, value })
    };
    read().ok_or(bad)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::flags;

    #[test]
    fn a_lock_request_is_the_structure_and_the_name() {
        let bytes = lock(0x1122, b"r1", Mode::EX, flags::NOQUEUE | flags::VALBLK);
        assert_eq!(bytes.len(), 122);
        assert_eq!(bytes[..16], [6, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 1, 0, 0]);
        assert_eq!(bytes[16..24], [5, 2, 0, 0, 9, 0, 0, 0]);
        // castparam and castaddr, bastparam and bastaddr.
        assert_eq!(u64_at(&bytes, 48), Some(0x1122));
        assert_eq!(u64_at(&bytes, 56), Some(COMPLETION));
        assert_eq!(u64_at(&bytes, 64), Some(0x1122));
        assert_eq!(u64_at(&bytes, 72), Some(BLOCKING));
        assert_eq!(bytes[88..120], [0; 32]);
        assert_eq!(bytes[120..], *b"r1");
    }

    #[test]
    fn a_conversion_names_the_lock_and_brings_a_value() {
        let bytes = convert(3, 0x0203, Mode::CR, flags::VALBLK, b"value");
        assert_eq!(bytes.len(), 120);
        assert_eq!(bytes[12], COMMAND_LOCK);
        assert_eq!(bytes[16..28], [1, 0, 0, 0, 0x0c, 0, 0, 0, 3, 2, 0, 0]);
        assert_eq!(bytes[88..94], *b"value\0");
    }

    #[test]
    fn a_value_that_is_too_long_leaves_the_structure_whole() {
        assert_eq!(unlock(3, 1, 0, &[7; 40]).len(), 120);
        assert_eq!(cancel(3, 1)[20], 2);
    }

    #[test]
    fn requests_to_the_control_device_are_as_long_as_the_structure() {
        let bytes = create_lockspace("ls");
        assert_eq!((bytes.len(), bytes[12]), (120, COMMAND_CREATE));
        assert_eq!(bytes[24..27], *b"ls\0");
        let bytes = remove_lockspace(0x7a, true);
        assert_eq!((bytes.len(), bytes[12]), (120, COMMAND_REMOVE));
        assert_eq!(bytes[16..24], [2, 0, 0, 0, 0x7a, 0, 0, 0]);
        assert_eq!(create_lockspace(&"n".repeat(100)).last(), Some(&0));
        assert_eq!(purge(2, 9)[16..24], [2, 0, 0, 0, 9, 0, 0, 0]);
    }

    /// A result as the kernel lays it out.
    fn result(callback: u64, value: bool) -> Vec<u8> {
        let mut bytes = vec![0; RESULT_BYTES];
        for (at, number) in VERSION.iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
        }
        bytes[16] = callback as u8;
        bytes[24] = 9;
        bytes[40..44].copy_from_slice(&(-11i32).to_le_bytes());
        bytes[44] = 4;
        bytes[48] = 2;
        bytes[64] = 5;
        if value {
            bytes[68] = RESULT_BYTES as u8;
            bytes.extend([7; VALUE_BYTES]);
        }
        bytes
    }

    #[test]
    fn a_result_tells_completions_from_callbacks() {
        let completion = |value| Outcome::Completion { tag: 9, status: -11, lkid: 4, sbflags: 2, value };
        assert_eq!(outcome(&result(COMPLETION, false)), Ok(completion(None)));
        assert_eq!(outcome(&result(COMPLETION, true)), Ok(completion(Some([7; 32]))));
        assert_eq!(outcome(&result(BLOCKING, false)), Ok(Outcome::Blocking { tag: 9, mode: 5 }));
    }

    #[test]
    fn a_result_that_is_short_or_of_another_version_is_refused() {
        let whole = result(COMPLETION, true);
        for length in 0..whole.len() {
            assert_eq!(outcome(&whole[..length]), Err(ResultError { bytes: length }));
        }
        let mut other = whole;
        other[0] = 5;
        assert_eq!(outcome(&other), Err(ResultError { bytes: 104 }));
    }
}
