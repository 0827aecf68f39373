//! Partial files: what arrives is written beside its place and renamed into it.
//!
//! A file `NAME` that is `SIZE` bytes long and was last modified at `TIME` arrives in
//! `.NAME.outlast-TAG.part` in the same directory, where `TAG` is the first 16 hexadecimal digits of
//! BLAKE3(NAME, SIZE, TIME). The name is the record that a later copy needs: it looks for the part of *this* state of
//! the file, finds what arrived of it, and asks the source whether its hash is the hash of the source's own first
//! bytes. So neither a part of another state of the file nor bytes that never reached the disk can get into a file.
//!
//! Who writes to a part holds its lock (flock(2)), which ends with the process. A part that nobody locks is left over.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::directory::{Directory, Kind, Metadata, entry_name, set_attributes};
use crate::claims::{Claim, Copying, take_over};
use crate::error::{FileError, FileErrorKind};
use crate::limits::{NAME_BYTES_MAX, PART_AGE_SECONDS_MAX, PART_LOCK_POLL_MS, SWEEP_ENTRIES_MAX};
use crate::name::Name;
use crate::wire::{Attributes, Timestamp};

const INFIX: &[u8] = b".outlast-";
const SUFFIX: &[u8] = b".part";
/// Hexadecimal digits of the tag.
const TAG_DIGITS: usize = 16;
/// Bytes of the file's name that still fit.
const STEM_BYTES_MAX: usize = NAME_BYTES_MAX - 1 - INFIX.len() - TAG_DIGITS - SUFFIX.len();
/// How often a part is opened anew because somebody else renamed or removed it at that moment.
const OPEN_TRIES_MAX: u32 = 16;

/// The name of the part in which `name` arrives in the state that `size` and `modified` say.
pub(crate) fn part_name(name: &Name, size: u64, modified: Timestamp) -> Name {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(name.as_bytes().len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(&size.to_le_bytes());
    hasher.update(&modified.seconds.to_le_bytes());
    hasher.update(&modified.nanoseconds.to_le_bytes());
    let hex = hasher.finalize().to_hex();
    let stem = &name.as_bytes()[..name.as_bytes().len().min(STEM_BYTES_MAX)];
    let bytes = [b".", stem, INFIX, &hex.as_bytes()[..TAG_DIGITS], SUFFIX].concat();
    Name::new(&bytes).expect("a valid name, shortened, between dots is a valid name")
}

/// The name (or its beginning, if it was too long) of the file whose part `name` is.
fn stem_of_part(name: &[u8]) -> Option<&[u8]> {
    let rest = name.strip_prefix(b".")?.strip_suffix(SUFFIX)?;
    let (rest, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_DIGITS)?)?;
    let stem = rest.strip_suffix(INFIX)?;
    let hex = tag.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    (hex && !stem.is_empty() && stem.len() <= STEM_BYTES_MAX).then_some(stem)
}

/// Whether this is the name of a partial file: those are not copied.
pub(crate) fn is_part_name(name: &Name) -> bool {
    stem_of_part(name.as_bytes()).is_some()
}

/// A partial file that this process holds the lock of.
///
/// Dropped, it is removed, or kept for a later copy if [`keep`](Self::keep) says so.
#[derive(Debug)]
pub(crate) struct Part {
    /// Goes before the file and with it the lock: the next one who has the lock claims it then.
    _claim: Claim,
    directory: Arc<Directory>,
    name: Name,
    file: File,
    /// How much of it is content.
    len: u64,
    fate: Fate,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Remove,
    Keep,
    InPlace,
}

/// Who locks parts, and how patiently.
#[derive(Debug)]
pub(crate) struct Locker {
    /// The copy.
    copying: Arc<Copying>,
    /// How long locks may still be waited for, in all: see [`crate::limits::PART_LOCK_WAIT_MS_MAX`].
    patience_ms: u64,
}

impl Part {
    /// The part that an earlier copy left, if there is one that is ours.
    ///
    /// # Errors
    ///
    /// [`FileErrorKind::Busy`] if another copy writes to it, and what the operating system says.
    pub(crate) fn find(
        directory: Arc<Directory>,
        name: Name,
        locker: &mut Locker,
    ) -> Result<Option<Self>, FileError> {
        for _ in 0..OPEN_TRIES_MAX {
            let file = match directory.open_to_go_on(&name) {
                Ok(file) => file,
                Err(e) if e.kind == FileErrorKind::NotFound => return Ok(None),
                // A link or something else that is no part of ours stands there; `create` puts it away.
                Err(e) if e.kind == FileErrorKind::SymbolicLink || e.kind == FileErrorKind::IsADirectory => {
                    return Ok(None);
                }
                Err(e) => return Err(e),
            };
            let claim = locker.lock(&file)?;
            let metadata = Metadata::of(&file)?;
            if !is_still(&directory, &name, &metadata) {
                continue;
            }
            if metadata.kind != Kind::File || metadata.links != 1 || metadata.owner != geteuid().as_raw() {
                return Ok(None);
            }
            let len = metadata.size;
            return Ok(Some(Self { directory, name, file, len, fate: Fate::Keep, _claim: claim }));
        }
        Err(FileErrorKind::Busy.into())
    }

    /// An empty part. What a copy that is over left under this name is taken over, anything else is removed.
    ///
    /// # Errors
    ///
    /// [`FileErrorKind::Busy`] if another copy writes to it, and what the operating system says.
    pub(crate) fn create(
        directory: Arc<Directory>,
        name: Name,
        locker: &mut Locker,
    ) -> Result<Self, FileError> {
        for _ in 0..OPEN_TRIES_MAX {
            match directory.create(&name) {
                Ok(file) => {
                    let claim = locker.lock(&file)?;
                    if is_still(&directory, &name, &Metadata::of(&file)?) {
                        return Ok(Self { directory, name, file, len: 0, fate: Fate::Remove, _claim: claim });
                    }
                }
                Err(Errno::EXIST) => {
                    if let Some(mut part) = Self::find(directory.clone(), name.clone(), locker)? {
                        part.restart()?;
                        part.fate = Fate::Remove;
                        return Ok(part);
                    }
                    match directory.remove_file(&name) {
                        Err(e) if e.kind != FileErrorKind::NotFound => return Err(e),
                        Ok(()) | Err(_) => {}
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(FileErrorKind::Busy.into())
    }

    /// Bytes of content in it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// If it is dropped before it is in its place, leave it for a later copy.
    pub(crate) fn keep(&mut self) {
        if self.fate == Fate::Remove {
            self.fate = Fate::Keep;
        }
    }

    /// If it is dropped, remove it after all.
    pub(crate) fn discard(&mut self) {
        if self.fate == Fate::Keep {
            self.fate = Fate::Remove;
        }
    }

    /// Asks the file system for room for the whole file, so that a full disk is noticed before the bytes are sent.
    pub(crate) fn reserve(&self, size: u64) -> Result<(), FileError> {
        let Some(more) = size.checked_sub(self.len).filter(|more| *more > 0) else { return Ok(()) };
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.len, more) {
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(e.into()),
            // Whoever cannot reserve will tell when it is written.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Writes what comes next.
    pub(crate) fn append(&mut self, data: &[u8]) -> Result<(), FileError> {
        self.file.write_all_at(data, self.len)?;
        self.len += data.len() as u64;
        Ok(())
    }

    /// Empties it.
    pub(crate) fn restart(&mut self) -> Result<(), FileError> {
        self.file.set_len(0)?;
        self.len = 0;
        Ok(())
    }

    /// Gives it the mode and time that the file shall have.
    pub(crate) fn set_attributes(&self, attributes: Attributes) -> Result<(), FileError> {
        set_attributes(&self.file, attributes)
    }

    /// Makes its content durable.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        Ok(rustix::fs::fsync(&self.file)?)
    }

    /// Renames it to `name`. What stood there before is replaced; a directory is not.
    pub(crate) fn put_in_place(&mut self, name: &Name) -> Result<(), FileError> {
        self.directory.rename(&self.name, name)?;
        self.fate = Fate::InPlace;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        match self.fate {
            Fate::InPlace => {}
            Fate::Remove => {
                // Nothing can be done about a part that cannot be removed; a later copy takes it over or sweeps it.
                let _ = self.directory.remove_file(&self.name);
            }
            Fate::Keep => {
                // Give back what was reserved and not written.
                let _ = self.file.set_len(self.len);
            }
        }
    }
}

/// Makes a link the way files are made: beside its place, then renamed into it.
pub(crate) fn put_link(
    directory: &Directory,
    name: &Name,
    target: &[u8],
    modified: Timestamp,
) -> Result<(), FileError> {
    let part = part_name(name, target.len() as u64, modified);
    let mut tries = 0;
    loop {
        tries += 1;
        match directory.make_link(&part, target, modified) {
            Ok(()) => break,
            Err(Errno::EXIST) if tries < OPEN_TRIES_MAX => directory.remove_file(&part)?,
            Err(e) => return Err(e.into()),
        }
    }
    directory.rename(&part, name).inspect_err(|_| {
        let _ = directory.remove_file(&part);
    })
}

impl Locker {
    pub(crate) fn new(copying: Arc<Copying>, patience_ms: u64) -> Self {
        Self { copying, patience_ms }
    }

    /// Locks a file and says so to other copies of this process.
    fn lock(&mut self, file: &File) -> Result<Claim, FileError> {
        let metadata = Metadata::of(file)?;
        let key = (metadata.device, metadata.inode);
        loop {
            match flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Claim::new(key, &self.copying)),
                Err(Errno::WOULDBLOCK) if self.patience_ms >= PART_LOCK_POLL_MS => {
                    take_over(key);
                    self.patience_ms -= PART_LOCK_POLL_MS;
                    sleep(Duration::from_millis(PART_LOCK_POLL_MS));
                }
                Err(Errno::WOULDBLOCK) => return Err(FileErrorKind::Busy.into()),
                Err(Errno::INTR) => {}
                // A file system without locks: two copies of one file at a time are then the user's own affair.
                Err(_) => return Ok(Claim::new(key, &self.copying)),
            }
        }
    }
}

/// Whether the file that was opened still goes by that name, now that it is locked.
fn is_still(directory: &Directory, name: &Name, opened: &Metadata) -> bool {
    directory.stat(name).is_ok_and(|now| (now.device, now.inode) == (opened.device, opened.inode))
}

/// Removes partial files that nobody will go on with: the file that they were to become is in its place, in that state or
/// since they were last touched, or they are older than [`PART_AGE_SECONDS_MAX`]. Those that are locked stay. `now` is the
/// time of the file system (of something just made on it). Says how many it removed.
pub(crate) fn sweep(directory: &Directory, now: Timestamp) -> u32 {
    let Ok(entries) = directory.entries() else { return 0 };
    let mut removed = 0;
    for entry in entries.take(SWEEP_ENTRIES_MAX) {
        let Ok(entry) = entry else { break };
        let Some(stem) = stem_of_part(entry.file_name().to_bytes()) else { continue };
        let Some(name) = entry_name(&entry) else { continue };
        let Ok(file) = directory.open_to_go_on(&name) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let Ok(part) = Metadata::of(&file) else { continue };
        if part.kind != Kind::File || !is_still(directory, &name, &part) {
            continue;
        }
        let file = Name::new(stem).ok().and_then(|stem| Some((directory.stat(&stem).ok()?, stem)));
        let superseded = file.is_some_and(|(file, stem)| {
            // Put in place after the part was last touched; or in just the state that the part was to become.
            let arrived = part_name(&stem, file.size, file.attributes.modified) == name;
            file.kind == Kind::File && (file.changed > part.changed || arrived)
        });
        let old = now.seconds.saturating_sub(part.changed.seconds) > PART_AGE_SECONDS_MAX;
        if (superseded || old) && directory.remove_file(&name).is_ok() {
            removed += 1;
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::super::open_local;
    use super::*;
    use crate::testing::TempDir;

    fn open(temp: &TempDir) -> Arc<Directory> {
        Arc::new(open_local(temp.path()).unwrap())
    }

    fn name(s: &[u8]) -> Name {
        Name::new(s).unwrap()
    }

    fn time(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanoseconds: 0 }
    }

    const NO_PATIENCE: fn() -> Locker = || Locker::new(Copying::new(), 0);

    #[test]
    fn the_name_of_a_part_fits_and_tells_whose_it_is() {
        for bytes in [&b"a"[..], &[b'x'; 255], b"\xff\xfe", b".outlast-0123456789abcdef.part"] {
            let part = part_name(&name(bytes), 7, time(1));
            assert!(part.as_bytes().len() <= NAME_BYTES_MAX);
            let stem = stem_of_part(part.as_bytes()).unwrap();
            assert!(bytes.starts_with(stem));
            assert!(is_part_name(&part));
        }
        assert_ne!(part_name(&name(b"a"), 7, time(1)), part_name(&name(b"a"), 8, time(1)));
        assert_ne!(part_name(&name(b"a"), 7, time(1)), part_name(&name(b"a"), 7, time(2)));
        for no in [
            &b".a.part"[..],
            b"a.outlast-0123456789abcdef.part",
            b".a.outlast-0123456789abcdeX.part",
            b".part",
        ] {
            assert!(!is_part_name(&name(no)), "{no:?}");
        }
    }

    #[test]
    fn a_part_is_removed_when_dropped_and_kept_when_told() {
        let temp = TempDir::new("part-drop");
        let directory = open(&temp);
        let part = part_name(&name(b"f"), 3, time(1));
        drop(Part::create(directory.clone(), part.clone(), &mut NO_PATIENCE()).unwrap());
        assert!(directory.stat_if_exists(&part).unwrap().is_none());
        let mut kept = Part::create(directory.clone(), part.clone(), &mut NO_PATIENCE()).unwrap();
        kept.append(b"ab").unwrap();
        kept.keep();
        drop(kept);
        let mut again = Part::find(directory.clone(), part.clone(), &mut NO_PATIENCE()).unwrap().unwrap();
        assert_eq!(again.len(), 2);
        again.append(b"c").unwrap();
        again.put_in_place(&name(b"f")).unwrap();
        drop(again);
        assert_eq!(std::fs::read(temp.path().join("f")).unwrap(), b"abc");
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_copies_never_write_to_one_part() {
        let temp = TempDir::new("part-lock");
        let directory = open(&temp);
        let part = part_name(&name(b"f"), 3, time(1));
        let first = Part::create(directory.clone(), part.clone(), &mut NO_PATIENCE()).unwrap();
        let second = Part::create(directory.clone(), part.clone(), &mut NO_PATIENCE());
        assert_eq!(second.unwrap_err().kind, FileErrorKind::Busy);
        let second = Part::find(directory.clone(), part.clone(), &mut NO_PATIENCE());
        assert_eq!(second.unwrap_err().kind, FileErrorKind::Busy);
        drop(first);
        Part::create(directory, part, &mut NO_PATIENCE()).unwrap();
    }

    #[test]
    fn a_link_in_the_place_of_a_part_is_never_written_through() {
        let temp = TempDir::new("part-link");
        let victim = temp.path().join("victim");
        std::fs::write(&victim, b"precious").unwrap();
        let directory = open(&temp);
        let part = part_name(&name(b"f"), 3, time(1));
        std::os::unix::fs::symlink("victim", temp.path().join(part.as_os_str())).unwrap();
        assert!(Part::find(directory.clone(), part.clone(), &mut NO_PATIENCE()).unwrap().is_none());
        let mut made = Part::create(directory.clone(), part.clone(), &mut NO_PATIENCE()).unwrap();
        made.append(b"new").unwrap();
        drop(made);
        // The same with a second name of the victim: it is not ours alone, so it is not taken over.
        std::fs::hard_link(&victim, temp.path().join(part.as_os_str())).unwrap();
        assert!(Part::find(directory.clone(), part.clone(), &mut NO_PATIENCE()).unwrap().is_none());
        let mut made = Part::create(directory, part, &mut NO_PATIENCE()).unwrap();
        made.append(b"new").unwrap();
        drop(made);
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn parts_that_nobody_will_go_on_with_are_swept() {
        let temp = TempDir::new("part-sweep");
        let directory = open(&temp);
        let make = |file: &[u8], size| {
            let part = part_name(&name(file), size, time(1));
            let mut made = Part::create(directory.clone(), part.clone(), &mut NO_PATIENCE()).unwrap();
            made.keep();
            drop(made);
            part
        };
        let superseded = make(b"arrived", 1);
        let waiting = make(b"not-yet", 1);
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(temp.path().join("arrived"), b"x").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let newer = make(b"arrived", 2);
        let locked =
            Part::create(directory.clone(), part_name(&name(b"arrived"), 3, time(1)), &mut NO_PATIENCE());
        let now = directory.stat(&newer).unwrap().changed;
        assert_eq!(sweep(&directory, now), 1);
        assert!(directory.stat_if_exists(&superseded).unwrap().is_none());
        assert!(directory.stat_if_exists(&waiting).unwrap().is_some());
        assert!(directory.stat_if_exists(&newer).unwrap().is_some());
        // Weeks later nobody will come back for the rest; what is being written stays all the same.
        let later = Timestamp { seconds: now.seconds + PART_AGE_SECONDS_MAX + 1, nanoseconds: 0 };
        assert_eq!(sweep(&directory, later), 2);
        assert!(locked.is_ok());
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2);
    }
}
