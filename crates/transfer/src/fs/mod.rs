//! The file system, seen from one directory down.
//!
//! # What keeps everything inside
//!
//! - A served [`Folder`] is opened once; from then on it is a descriptor, and what becomes of its name is no matter.
//! - A path below it that comes from a peer is a [`RelativePath`](crate::name::RelativePath), which cannot say `..`, `/`
//!   or NUL, and is opened by `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`
//!   (openat2(2), Linux 5.6), so that the kernel itself refuses to leave or to follow a link, at the moment of opening.
//!   Where there is no `openat2` (an older kernel, a sandbox that forbids it) each component is opened by itself with
//!   `O_NOFOLLOW | O_DIRECTORY` relative to the one before, which has the same effect for a path without `..`.
//! - Within a tree nothing is done by path at all: every operation names one [`Name`](crate::name::Name) relative to
//!   the descriptor of its directory. A directory that somebody replaces by a link between two operations is still the
//!   directory that was opened.
//! - No operation follows a link: opening is with `O_NOFOLLOW`, times are set through the descriptor or with
//!   `AT_SYMLINK_NOFOLLOW`, and `rename` and `unlink` act on a link itself.
//!
//! What remains is a person with rights on the server's own file system who *moves* a directory that is being
//! written to elsewhere: then its files are written where it went. That person could have moved them afterwards.

mod directory;
mod folder;
mod part;

pub(crate) use directory::{Directory, Kind, Metadata, set_attributes};
pub use folder::Folder;
pub(crate) use folder::open_local;
pub(crate) use part::{Locker, Part, is_part_name, part_name, put_link, sweep};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the number of files that this process may have open to what it is allowed to raise it to, and says how
/// many that are. A copy holds some five hundred descriptors at most, so one fits the usual limit of 1024 and a server
/// of several does not.
pub fn raise_open_files_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || (limit.maximum.is_none() && limit.current.is_some()) {
        limit.current = limit.maximum;
        // Not being allowed to is no error: the limit stays what it was.
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    limit.current.unwrap_or(u64::MAX)
}
