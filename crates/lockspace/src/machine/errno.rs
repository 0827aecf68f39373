//! Error numbers of Linux on x86, as they go over the wire (negative; `util.c` translates on other machines).

/// No such thing.
pub(crate) const ENOENT: i32 = 2;
/// No such process: the lockspace is not there.
pub(crate) const ESRCH: i32 = 3;
/// Not now.
pub(crate) const EAGAIN: i32 = 11;
/// No memory.
pub(crate) const ENOMEM: i32 = 12;
/// In the directory's way: ask for the master again.
pub(crate) const ENOTBLK: i32 = 15;
/// An operation is under way.
pub(crate) const EBUSY: i32 = 16;
/// There is one.
pub(crate) const EEXIST: i32 = 17;
/// Wrong.
pub(crate) const EINVAL: i32 = 22;
/// A deadlock.
pub(crate) const EDEADLK: i32 = 35;
/// Not the master.
pub(crate) const EBADR: i32 = 53;
/// Not done by this lock manager.
pub(crate) const EOPNOTSUPP: i32 = 95;
/// It will be answered.
pub(crate) const EINPROGRESS: i32 = 115;
/// Canceled (`dlmconstants.h`).
pub(crate) const ECANCEL: i32 = 0x1_0001;
/// Unlocked (`dlmconstants.h`).
pub(crate) const EUNLOCK: i32 = 0x1_0002;
