//! Are two trees the same? Every byte, mode, time and link target.
//!
//! For two local trees whose owner runs this: nothing here is meant for trees that somebody changes meanwhile.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use crate::error::{FileError, FileErrorKind};
use crate::fs::{Directory, Kind, Metadata, is_part_name, open_local};
use crate::limits::DEPTH_MAX;
use crate::name::Name;
use crate::source::{join, read_full};
use crate::wire::Hash;

/// Threads that read and hash.
const THREADS: usize = 2;
/// Bytes read and hashed at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Pairs of files that may wait to be read.
const PAIRS_WAITING_MAX: usize = 64;
/// Differences of which the text is kept; all are counted.
const DIFFERENCES_KEPT_MAX: usize = 1000;

/// In what a name differs between the two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Differs {
    /// It is in the first tree only.
    OnlyInFirst,
    /// It is in the second tree only.
    OnlyInSecond,
    /// A file here, a directory or link there.
    Kind,
    /// Files of different sizes.
    Size,
    /// Files of the same size and different BLAKE3 hashes.
    Content,
    /// Different permission bits.
    Mode,
    /// Different times of last modification.
    Modified,
    /// Links that say different things.
    LinkTarget,
    /// A partial file that a copy left.
    Leftover,
    /// It could not be read, in one of the trees.
    Unreadable(FileError),
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyInFirst => f.write_str("only in the first tree"),
            Self::OnlyInSecond => f.write_str("only in the second tree"),
            Self::Kind => f.write_str("different kinds of things"),
            Self::Size => f.write_str("different sizes"),
            Self::Content => f.write_str("different contents"),
            Self::Mode => f.write_str("different permissions"),
            Self::Modified => f.write_str("different times"),
            Self::LinkTarget => f.write_str("links to different places"),
            Self::Leftover => f.write_str("a partial file left over"),
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

/// One difference between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, below both trees; empty for the trees' own directories.
    pub path: PathBuf,
    /// In what.
    pub what: Differs,
}

/// The outcome of [`compare`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Comparison {
    /// Files compared.
    pub files: u64,
    /// Directories compared, those at the top not counted.
    pub directories: u64,
    /// Symbolic links compared.
    pub links: u64,
    /// Content of the files of the first tree that was read, in bytes.
    pub bytes: u64,
    /// The first thousand differences, by path.
    pub differences: Vec<Difference>,
    /// How many there are.
    pub differences_total: u64,
}

impl Comparison {
    /// Whether the trees are the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.differences_total == 0
    }

    /// Both together, by path.
    fn merge(mut self, other: Self) -> Self {
        self.bytes += other.bytes;
        self.differences_total += other.differences_total;
        self.differences.extend(other.differences);
        self.differences.sort_by(|a, b| a.path.cmp(&b.path));
        self.differences.truncate(DIFFERENCES_KEPT_MAX);
        self
    }
}

/// Two files of the same size, to be read.
struct Pair {
    first: Arc<Directory>,
    second: Arc<Directory>,
    name: Name,
    path: Vec<u8>,
}

impl Comparison {
    fn differs(&mut self, path: &[u8], what: Differs) {
        self.differences_total += 1;
        if self.differences.len() < DIFFERENCES_KEPT_MAX {
            let path = PathBuf::from(OsStr::from_bytes(path));
            self.differences.push(Difference { path, what });
        }
    }
}

/// Compares the trees at `first` and `second`: names, kinds, contents (by BLAKE3, read by two threads), permission bits,
/// times of last modification and link targets; the directories themselves as well. Blocks. `progress`, if given, counts the
/// bytes of the first tree as they are read.
///
/// # Errors
///
/// If one of the two directories cannot be opened. Anything below that cannot be read is a difference.
pub fn compare(first: &Path, second: &Path, progress: Option<&AtomicU64>) -> Result<Comparison, FileError> {
    let (first, second) = (Arc::new(open_local(first)?), Arc::new(open_local(second)?));
    // Few wait, because each holds two directories open.
    let (pairs, queue) = mpsc::sync_channel(PAIRS_WAITING_MAX);
    let queue = Mutex::new(queue);
    let read = Mutex::new(Comparison::default());
    let mut listed = Lister { comparison: Comparison::default(), pairs };
    let (a, b) = (first.metadata()?, second.metadata()?);
    Ok(thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| read_pairs(&queue, &read, progress));
        }
        listed.compare_attributes(b"", &a, &b);
        listed.list(&first, &second, b"", 0);
        // The readers end when they have read what waits.
        listed.comparison
    })
    .merge(read.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// Reads pairs of files until there are no more.
fn read_pairs(queue: &Mutex<mpsc::Receiver<Pair>>, read: &Mutex<Comparison>, progress: Option<&AtomicU64>) {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let pair = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(pair) = pair else { return };
        let outcome = compare_contents(&pair, &mut buffer, progress);
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok((bytes, same)) => {
                read.bytes += bytes;
                if !same {
                    read.differs(&pair.path, Differs::Content);
                }
            }
            Err(error) => read.differs(&pair.path, Differs::Unreadable(error)),
        }
    }
}

/// What is in a directory, by name.
fn names(directory: &Directory) -> Result<BTreeMap<Name, Metadata>, FileError> {
    let mut names = BTreeMap::new();
    for entry in directory.entries()? {
        let entry = entry.map_err(FileError::from)?;
        if let Ok(name) = Name::new(entry.file_name().to_bytes()) {
            let metadata = directory.stat(&name)?;
            names.insert(name, metadata);
        }
    }
    Ok(names)
}

struct Lister {
    comparison: Comparison,
    pairs: mpsc::SyncSender<Pair>,
}

impl Lister {
    /// Compares everything but contents, and notes which contents are to be compared.
    fn list(&mut self, first: &Arc<Directory>, second: &Arc<Directory>, path: &[u8], depth: usize) {
        let listed = if depth > DEPTH_MAX {
            Err(FileErrorKind::TooDeep.into())
        } else {
            names(first).and_then(|a| Ok((a, names(second)?)))
        };
        let (a, mut b) = match listed {
            Ok(listed) => listed,
            Err(error) => return self.comparison.differs(path, Differs::Unreadable(error)),
        };
        for (name, a) in a {
            let path = join(path, name.as_bytes());
            if is_part_name(&name) {
                // Whatever the other tree has: such a thing is in neither when a copy is done.
                b.remove(&name);
                self.comparison.differs(&path, Differs::Leftover);
                continue;
            }
            let Some(b) = b.remove(&name) else {
                self.comparison.differs(&path, Differs::OnlyInFirst);
                continue;
            };
            if a.kind != b.kind {
                self.comparison.differs(&path, Differs::Kind);
                continue;
            }
            self.compare_attributes(&path, &a, &b);
            match a.kind {
                Kind::File => {
                    self.comparison.files += 1;
                    if a.size == b.size {
                        let (first, second) = (Arc::clone(first), Arc::clone(second));
                        // The readers outlive the lister.
                        let _ = self.pairs.send(Pair { first, second, name, path });
                    } else {
                        self.comparison.differs(&path, Differs::Size);
                    }
                }
                Kind::Directory => {
                    self.comparison.directories += 1;
                    let opened =
                        first.open_directory(&name).and_then(|a| Ok((a, second.open_directory(&name)?)));
                    match opened {
                        Ok((a, b)) => self.list(&Arc::new(a), &Arc::new(b), &path, depth + 1),
                        Err(error) => self.comparison.differs(&path, Differs::Unreadable(error)),
                    }
                }
                Kind::Link => {
                    self.comparison.links += 1;
                    match first.read_link(&name).and_then(|a| Ok(a == second.read_link(&name)?)) {
                        Ok(true) => {}
                        Ok(false) => self.comparison.differs(&path, Differs::LinkTarget),
                        Err(error) => self.comparison.differs(&path, Differs::Unreadable(error)),
                    }
                }
                Kind::Special => {}
            }
        }
        for (name, _) in b {
            let what = if is_part_name(&name) { Differs::Leftover } else { Differs::OnlyInSecond };
            self.comparison.differs(&join(path, name.as_bytes()), what);
        }
    }

    fn compare_attributes(&mut self, path: &[u8], a: &Metadata, b: &Metadata) {
        // A link's own permissions mean nothing and cannot be set.
        if a.kind != Kind::Link && a.attributes.mode != b.attributes.mode {
            self.comparison.differs(path, Differs::Mode);
        }
        if a.attributes.modified != b.attributes.modified {
            self.comparison.differs(path, Differs::Modified);
        }
    }
}

/// Reads both; says how many bytes of the first, and whether they are the same.
fn compare_contents(
    pair: &Pair,
    buffer: &mut [u8],
    progress: Option<&AtomicU64>,
) -> Result<(u64, bool), FileError> {
    let (bytes, first) = hash(&pair.first, &pair.name, buffer, progress)?;
    let (_, second) = hash(&pair.second, &pair.name, buffer, None)?;
    Ok((bytes, first == second))
}

fn hash(
    directory: &Directory,
    name: &Name,
    buffer: &mut [u8],
    progress: Option<&AtomicU64>,
) -> Result<(u64, Hash), FileError> {
    let (file, _) = directory.open_file(name)?;
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    loop {
        let got = read_full(&file, buffer, offset)?;
        hasher.update(&buffer[..got]);
        offset += got as u64;
        if let Some(progress) = progress {
            progress.fetch_add(got as u64, Ordering::Relaxed);
        }
        if got < buffer.len() {
            return Ok((offset, *hasher.finalize().as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::testing::TempDir;

    /// Two trees alike, with what every kind of difference needs.
    fn twins(temp: &TempDir) -> (PathBuf, PathBuf) {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        let both = ["a", "b"].map(|which| {
            let top = temp.path().join(which);
            fs::create_dir_all(top.join("sub/empty")).unwrap();
            fs::write(top.join("sub/file"), vec![7; 3_000_000]).unwrap();
            fs::write(top.join("none"), b"").unwrap();
            symlink("sub/file", top.join("link")).unwrap();
            let link = rustix::fs::Timespec { tv_sec: 5, tv_nsec: 6 };
            let link = rustix::fs::Timestamps { last_access: link, last_modification: link };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, top.join("link"), &link, flags).unwrap();
            for path in ["sub/file", "none", "sub/empty", "sub", ""] {
                fs::File::open(top.join(path)).unwrap().set_modified(time).unwrap();
            }
            top
        });
        both.into()
    }

    fn restore_times(top: &Path, paths: &[&str]) {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        for path in paths {
            fs::File::open(top.join(path)).unwrap().set_modified(time).unwrap();
        }
    }

    #[test]
    fn equal_trees_have_no_differences() {
        let temp = TempDir::new("compare-same");
        let (a, b) = twins(&temp);
        let read = AtomicU64::new(0);
        let comparison = compare(&a, &b, Some(&read)).unwrap();
        assert_eq!(comparison.differences, []);
        assert!(comparison.is_same());
        let counts = (comparison.files, comparison.directories, comparison.links, comparison.bytes);
        assert_eq!(counts, (2, 2, 1, 3_000_000));
        assert_eq!(read.into_inner(), 3_000_000);
    }

    #[test]
    fn each_kind_of_difference_is_found() {
        type Change = fn(&Path);
        let cases: [(Differs, &str, Change); 9] = [
            (Differs::Content, "sub/file", |b| {
                let mut bytes = fs::read(b.join("sub/file")).unwrap();
                bytes[2_999_999] ^= 1;
                fs::write(b.join("sub/file"), bytes).unwrap();
                restore_times(b, &["sub/file"]);
            }),
            (Differs::Size, "none", |b| {
                fs::write(b.join("none"), b"x").unwrap();
                restore_times(b, &["none"]);
            }),
            (Differs::Mode, "sub", |b| {
                fs::set_permissions(b.join("sub"), fs::Permissions::from_mode(0o711)).unwrap();
            }),
            (Differs::Modified, "", |b| {
                let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_788);
                fs::File::open(b).unwrap().set_modified(time).unwrap();
            }),
            (Differs::OnlyInFirst, "none", |b| {
                fs::remove_file(b.join("none")).unwrap();
                restore_times(b, &[""]);
            }),
            (Differs::OnlyInSecond, "sub/new", |b| {
                fs::write(b.join("sub/new"), b"").unwrap();
                restore_times(b, &["sub"]);
            }),
            (Differs::Leftover, "sub/.x.outlast-0123456789abcdef.part", |b| {
                fs::write(b.join("sub/.x.outlast-0123456789abcdef.part"), b"").unwrap();
                restore_times(b, &["sub"]);
            }),
            (Differs::Kind, "sub/empty", |b| {
                fs::remove_dir(b.join("sub/empty")).unwrap();
                fs::write(b.join("sub/empty"), b"").unwrap();
                restore_times(b, &["sub"]);
            }),
            (Differs::LinkTarget, "link", |b| {
                fs::remove_file(b.join("link")).unwrap();
                symlink("sub/fil", b.join("link")).unwrap();
                restore_times(b, &[""]);
            }),
        ];
        for (what, path, change) in cases {
            let temp = TempDir::new("compare-differs");
            let (a, b) = twins(&temp);
            change(&b);
            let comparison = compare(&a, &b, None).unwrap();
            let expected = Difference { path: path.into(), what };
            assert!(comparison.differences.contains(&expected), "{what:?}: {:?}", comparison.differences);
            // The new link has a time of its own.
            assert_eq!(comparison.differences_total, 1 + u64::from(what == Differs::LinkTarget), "{what:?}");
        }
    }

    #[test]
    fn more_directories_than_open_files_are_no_matter() {
        let temp = TempDir::new("compare-many");
        for i in 0..700 {
            for which in ["a", "b"] {
                let directory = temp.path().join(which).join(format!("{i}"));
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join("f"), b"x").unwrap();
            }
        }
        let comparison = compare(&temp.path().join("a"), &temp.path().join("b"), None).unwrap();
        assert_eq!((comparison.files, comparison.directories, comparison.bytes), (700, 700, 700));
        assert!(comparison.differences.iter().all(|d| d.what == Differs::Modified));
    }
}
