//! A place for a demo's files: one with room, which is gone afterwards.

use crate::exit::{Context as _, Exit, Failure, Outcome};
use crate::{random, units};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Room that is left over for everybody else, in bytes.
const SPARE_BYTES: u64 = 256 * 1024 * 1024;
/// Files are kept in memory if they take no more than this part of what is available: nothing wears, and a slow disk does not
/// hide what the demo is about.
const MEMORY_PART: u64 = 3;
/// Attempts to remove what others may still be writing to.
const REMOVALS_MAX: u32 = 40;
/// The pause between them.
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// A directory of our own. Dropped, it is removed, unless it shall stay.
#[derive(Debug)]
pub(super) struct WorkDir {
    path: PathBuf,
    keep: bool,
}

/// Free bytes of the file system where `path` is.
fn free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Memory that can be used without anybody else having to give up theirs, in bytes.
fn available_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Refuses to begin what cannot end well.
pub(super) fn check_room(path: &Path, bytes: u64) -> Outcome<()> {
    match free(path) {
        Some(free) if free < bytes.saturating_add(SPARE_BYTES) => Err(no_room(path, bytes, free)),
        Some(_) | None => Ok(()),
    }
}

fn no_room(path: &Path, bytes: u64, free: u64) -> Failure {
    let (needed, free) = (units::bytes(bytes.saturating_add(SPARE_BYTES)), units::bytes(free));
    Failure::new(Exit::Failed, format!("{} has {free} free, and {needed} are needed", path.display()))
}

impl WorkDir {
    /// Makes one in the first usual place with room for `bytes`: `$TMPDIR`, `/dev/shm` if memory is plentiful, `/tmp`,
    /// `/var/tmp`, here.
    pub(super) fn make(bytes: u64, keep: bool) -> Outcome<Self> {
        let mut places: Vec<_> = std::env::var_os("TMPDIR").map(PathBuf::from).into_iter().collect();
        if available_memory().is_some_and(|memory| memory / MEMORY_PART >= bytes) {
            places.push(PathBuf::from("/dev/shm"));
        }
        places.extend(["/tmp", "/var/tmp"].map(PathBuf::from));
        places.extend(std::env::current_dir());
        let mut most = None;
        for place in &places {
            let Some(free) = free(place) else { continue };
            if free < bytes.saturating_add(SPARE_BYTES) {
                most = most.max(Some((free, place)));
                continue;
            }
            let path = place.join(format!("outlast-demo-{:016x}", random::number()));
            if fs::DirBuilder::new().mode(0o700).create(&path).is_ok() {
                return Ok(Self { path, keep });
            }
        }
        Err(match most {
            Some((free, place)) => no_room(place, bytes, free)
                .hint("set TMPDIR to a place with room, or take a smaller tree: --size 256M"),
            None => Failure::failed("no place for temporary files").hint("set TMPDIR to one"),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now, and says if that failed.
    pub(super) fn remove(mut self) -> Outcome<()> {
        if self.keep {
            return Ok(());
        }
        self.keep = true;
        remove(&self.path).context(format!("cannot remove {}", self.path.display()))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if !self.keep {
            let _ = remove(&self.path);
        }
    }
}

/// Whoever still makes files in there finds the directories gone, and ends.
fn remove(path: &Path) -> std::io::Result<()> {
    let mut last = Ok(());
    for _ in 0..REMOVALS_MAX {
        last = fs::remove_dir_all(path);
        if !path.exists() {
            return Ok(());
        }
        std::thread::sleep(REMOVAL_PAUSE);
    }
    last
}
