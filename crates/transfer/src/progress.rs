//! How far a copy is: counters for a display, and the account that stands at its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Failure, FileError, FileErrorKind, Side};
use crate::limits::FAILURES_KEPT_MAX;

/// Names of files under way that are kept for the display.
const CURRENT_MAX: usize = 16;

/// How far one or several copies are, cheap to write and to read: a display on another thread looks at it when it
/// likes.
#[derive(Debug, Default)]
pub struct Progress {
    files_total: AtomicU64,
    files_done: AtomicU64,
    files_unchanged: AtomicU64,
    files_resumed: AtomicU64,
    files_failed: AtomicU64,
    directories: AtomicU64,
    links: AtomicU64,
    skipped: AtomicU64,
    bytes_total: AtomicU64,
    bytes_moved: AtomicU64,
    bytes_resumed: AtomicU64,
    bytes_unchanged: AtomicU64,
    totals_complete: AtomicBool,
    current: Mutex<BTreeMap<u64, String>>,
}

/// The values of a [`Progress`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Files that there are to copy, as far as it is known.
    pub files_total: u64,
    /// Files that are in place at the sink, unchanged ones included.
    pub files_done: u64,
    /// Of these, files that were there already.
    pub files_unchanged: u64,
    /// Files that went on from what an earlier copy left.
    pub files_resumed: u64,
    /// Files (and links and directories) that failed.
    pub files_failed: u64,
    /// Directories done.
    pub directories: u64,
    /// Symbolic links done.
    pub links: u64,
    /// Things left out by rule: special files, unwanted links.
    pub skipped: u64,
    /// Sizes of all files, as far as it is known.
    pub bytes_total: u64,
    /// What of these is dealt with: moved, resumed or unchanged. It can exceed `bytes_total` a little, if files
    /// changed and were sent again.
    pub bytes_done: u64,
    /// Content that crossed the session (at the source: that was given to it). Its growth is the rate.
    pub bytes_moved: u64,
    /// Content that was not sent because an earlier copy had brought it.
    pub bytes_resumed: u64,
    /// Sizes of the files that were there already.
    pub bytes_unchanged: u64,
    /// The totals will not grow any more.
    pub totals_complete: bool,
    /// Larger files that are under way, control characters escaped.
    pub current: Vec<String>,
}

fn load(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

/// What a panicking thread left behind is only a display's text.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The values now. They are read one after the other, so they may be a file apart.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (bytes_moved, bytes_resumed, bytes_unchanged) =
            (load(&self.bytes_moved), load(&self.bytes_resumed), load(&self.bytes_unchanged));
        Snapshot {
            files_total: load(&self.files_total),
            files_done: load(&self.files_done),
            files_unchanged: load(&self.files_unchanged),
            files_resumed: load(&self.files_resumed),
            files_failed: load(&self.files_failed),
            directories: load(&self.directories),
            links: load(&self.links),
            skipped: load(&self.skipped),
            bytes_total: load(&self.bytes_total),
            bytes_done: bytes_moved + bytes_resumed + bytes_unchanged,
            bytes_moved,
            bytes_resumed,
            bytes_unchanged,
            totals_complete: self.totals_complete.load(Ordering::Relaxed),
            current: unpoisoned(&self.current).values().cloned().collect(),
        }
    }
}

/// The account of a copy that came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Files that were sent and are in place, verified and durable (unless that was not wanted).
    pub files_copied: u64,
    /// Files that were there already.
    pub files_unchanged: u64,
    /// Files, of those copied, that went on from what an earlier copy left.
    pub files_resumed: u64,
    /// Files, links and directories that failed; [`failures`](Self::failures) says why.
    pub files_failed: u64,
    /// Directories done.
    pub directories: u64,
    /// Symbolic links done.
    pub links: u64,
    /// Things left out by rule; [`skips`](Self::skips) says why.
    pub skipped: u64,
    /// Content that crossed the session, in bytes.
    pub bytes_copied: u64,
    /// Content that did not have to, because an earlier copy had brought it, in bytes.
    pub bytes_resumed: u64,
    /// Sizes of the files that were there already, in bytes.
    pub bytes_unchanged: u64,
    /// The first [`FAILURES_KEPT_MAX`] failures.
    pub failures: Vec<Failure>,
    /// The first [`FAILURES_KEPT_MAX`] things left out by rule.
    pub skips: Vec<Failure>,
}

impl Summary {
    /// Whether everything that was to be copied is there. What is left out by rule does not count.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.files_failed == 0
    }
}

/// What the parts of one copy count into: its own account, and the display's.
#[derive(Debug)]
pub(crate) struct Tally {
    own: Progress,
    shown: Arc<Progress>,
    failures: Mutex<(Vec<Failure>, Vec<Failure>)>,
    /// The copy is over; what its threads still finish is not shown.
    over: AtomicBool,
}

impl Tally {
    pub(crate) fn new(shown: Arc<Progress>) -> Arc<Self> {
        Arc::new(Self {
            own: Progress::default(),
            shown,
            failures: Mutex::default(),
            over: AtomicBool::new(false),
        })
    }

    fn add(&self, which: impl Fn(&Progress) -> &AtomicU64, n: u64) {
        which(&self.own).fetch_add(n, Ordering::Relaxed);
        which(&self.shown).fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn file_done(&self, resumed: bool) {
        self.add(|p| &p.files_done, 1);
        if resumed {
            self.add(|p| &p.files_resumed, 1);
        }
    }

    pub(crate) fn file_unchanged(&self, size: u64) {
        self.add(|p| &p.files_done, 1);
        self.add(|p| &p.files_unchanged, 1);
        self.add(|p| &p.bytes_unchanged, size);
    }

    pub(crate) fn directory_done(&self) {
        self.add(|p| &p.directories, 1);
    }

    pub(crate) fn link_done(&self) {
        self.add(|p| &p.links, 1);
    }

    pub(crate) fn moved(&self, bytes: u64) {
        self.add(|p| &p.bytes_moved, bytes);
    }

    pub(crate) fn resumed(&self, bytes: u64) {
        self.add(|p| &p.bytes_resumed, bytes);
    }

    /// The totals so far, as one who only goes up.
    pub(crate) fn totals(&self, files: u64, bytes: u64, complete: bool) {
        let more_files = files.saturating_sub(load(&self.own.files_total));
        let more_bytes = bytes.saturating_sub(load(&self.own.bytes_total));
        self.add(|p| &p.files_total, more_files);
        self.add(|p| &p.bytes_total, more_bytes);
        self.shown.totals_complete.store(complete, Ordering::Relaxed);
    }

    /// Something failed or was left out. What failed only because its directory did is told with the directory.
    pub(crate) fn failed(&self, path: PathBuf, side: Side, error: FileError) {
        if error.kind == FileErrorKind::ParentFailed {
            return;
        }
        tracing::debug!(?path, ?side, %error, "left out");
        let mut kept = unpoisoned(&self.failures);
        let list = if error.kind.is_skip() {
            self.add(|p| &p.skipped, 1);
            &mut kept.1
        } else {
            self.add(|p| &p.files_failed, 1);
            &mut kept.0
        };
        if list.len() < FAILURES_KEPT_MAX {
            list.push(Failure { path, side, error });
        }
    }

    /// A larger file is under way.
    pub(crate) fn begins(&self, id: u64, name: &[u8]) {
        let mut current = unpoisoned(&self.shown.current);
        if current.len() < CURRENT_MAX && !self.over.load(Ordering::Relaxed) {
            current.insert(id, String::from_utf8_lossy(name).escape_debug().to_string());
        }
    }

    /// A larger file is under way no more.
    pub(crate) fn ends(&self, id: u64) {
        unpoisoned(&self.shown.current).remove(&id);
    }

    pub(crate) fn summary(&self) -> Summary {
        let counts = self.own.snapshot();
        let kept = unpoisoned(&self.failures).clone();
        Summary {
            files_copied: counts.files_done - counts.files_unchanged,
            files_unchanged: counts.files_unchanged,
            files_resumed: counts.files_resumed,
            files_failed: counts.files_failed,
            directories: counts.directories,
            links: counts.links,
            skipped: counts.skipped,
            bytes_copied: counts.bytes_moved,
            bytes_resumed: counts.bytes_resumed,
            bytes_unchanged: counts.bytes_unchanged,
            failures: kept.0,
            skips: kept.1,
        }
    }
}

/// A copy that ends, however it ends, leaves no names on the display.
pub(crate) struct Shown<'a>(pub(crate) &'a Tally);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let mut current = unpoisoned(&self.0.shown.current);
        self.0.over.store(true, Ordering::Relaxed);
        current.clear();
    }
}
