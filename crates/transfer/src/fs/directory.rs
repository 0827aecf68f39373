//! One open directory, and what can be done to the names in it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{FileError, FileErrorKind};
use crate::limits::LINK_TARGET_BYTES_MAX;
use crate::name::Name;
use crate::wire::{Attributes, Timestamp};

/// Permission bits that are carried.
const MODE_MASK: u32 = 0o777;
/// Mode of a directory while things are put into it: nobody else sees it half made.
const DIRECTORY_MODE_MEANWHILE: u32 = 0o700;

/// `UTIME_OMIT`: leave that time as it is (utimensat(2)).
const UTIME_OMIT: i64 = 0x3fff_fffe;

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    Special,
}

/// What the file system says about an entry, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) attributes: Attributes,
    /// Time of the last change of anything, content or inode: cannot be set back by `touch`.
    pub(crate) changed: Timestamp,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) links: u64,
    pub(crate) owner: u32,
}

impl Metadata {
    // The fields' types differ from one architecture to the next.
    #[allow(clippy::unnecessary_cast, clippy::cast_lossless, clippy::useless_conversion)]
    fn from_stat(stat: &fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Kind::Special,
        };
        Self {
            kind,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            attributes: Attributes {
                mode: (stat.st_mode & MODE_MASK) as u16,
                modified: Timestamp { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 },
            },
            changed: Timestamp { seconds: stat.st_ctime as i64, nanoseconds: stat.st_ctime_nsec as u32 },
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            owner: stat.st_uid,
        }
    }

    /// Of an open file.
    pub(crate) fn of(file: impl AsFd) -> Result<Self, FileError> {
        Ok(Self::from_stat(&fs::fstat(file)?))
    }

    /// Whether `other` is the same file with the same content, as far as can be told without reading it.
    pub(crate) fn is_same_state(&self, other: &Self) -> bool {
        self == other
    }
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How every directory is opened: for reading, so that it can be synced and listed.
pub(super) fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

impl Directory {
    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Another descriptor of the same directory.
    pub(crate) fn duplicate(&self) -> Result<Self, FileError> {
        Ok(Self(rustix::io::fcntl_dupfd_cloexec(&self.0, 0)?))
    }

    pub(crate) fn metadata(&self) -> Result<Metadata, FileError> {
        Metadata::of(&self.0)
    }

    /// What `name` is; a link is a link.
    pub(crate) fn stat(&self, name: &Name) -> Result<Metadata, FileError> {
        let stat = fs::statat(&self.0, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Metadata::from_stat(&stat))
    }

    /// As [`stat`](Self::stat), with `None` for what does not exist.
    pub(crate) fn stat_if_exists(&self, name: &Name) -> Result<Option<Metadata>, FileError> {
        match self.stat(name) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(e) if e.kind == FileErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens the directory `name`; a link to one is not one.
    pub(crate) fn open_directory(&self, name: &Name) -> Result<Self, FileError> {
        match fs::openat(&self.0, name.as_bytes(), directory_flags(), Mode::empty()) {
            Ok(fd) => Ok(Self(fd)),
            // With O_DIRECTORY a link is "not a directory": true, and no help to the reader.
            Err(Errno::NOTDIR) => match self.stat(name) {
                Ok(Metadata { kind: Kind::Link, .. }) => Err(FileErrorKind::SymbolicLink.into()),
                _ => Err(Errno::NOTDIR.into()),
            },
            Err(e) => Err(e.into()),
        }
    }

    /// Makes the directory `name` for ourselves only, or opens the one that is there.
    pub(crate) fn make_directory(&self, name: &Name) -> Result<Self, FileError> {
        match fs::mkdirat(&self.0, name.as_bytes(), Mode::from_raw_mode(DIRECTORY_MODE_MEANWHILE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        self.open_directory(name)
    }

    /// Makes the directory `name` with the mode that the process gives new ones.
    pub(crate) fn make_plain_directory(&self, name: &Name) -> Result<Self, FileError> {
        match fs::mkdirat(&self.0, name.as_bytes(), Mode::from_raw_mode(MODE_MASK)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        self.open_directory(name)
    }

    /// Gives the owner all rights on the directory, where it has not; what it was made for is done at the end.
    pub(crate) fn make_writable(&self) -> Result<(), FileError> {
        let mode = u32::from(self.metadata()?.attributes.mode);
        if mode & DIRECTORY_MODE_MEANWHILE != DIRECTORY_MODE_MEANWHILE {
            fs::fchmod(&self.0, Mode::from_raw_mode(mode | DIRECTORY_MODE_MEANWHILE))?;
        }
        Ok(())
    }

    /// Opens the regular file `name` for reading, and says what it is at that moment.
    pub(crate) fn open_file(&self, name: &Name) -> Result<(File, Metadata), FileError> {
        // O_NONBLOCK: opening a pipe without a writer would wait for one.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(fs::openat(&self.0, name.as_bytes(), flags, Mode::empty())?);
        let metadata = Metadata::of(&file)?;
        match metadata.kind {
            Kind::File => Ok((file, metadata)),
            Kind::Directory => Err(FileErrorKind::IsADirectory.into()),
            Kind::Link | Kind::Special => Err(FileErrorKind::Special.into()),
        }
    }

    /// Opens `name` for reading and writing without creating it.
    pub(super) fn open_to_go_on(&self, name: &Name) -> Result<File, FileError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(File::from(fs::openat(&self.0, name.as_bytes(), flags, Mode::empty())?))
    }

    /// Creates the file `name`, which must not exist, for ourselves only.
    pub(super) fn create(&self, name: &Name) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.0, name.as_bytes(), flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }

    /// What the link `name` says.
    pub(crate) fn read_link(&self, name: &Name) -> Result<Vec<u8>, FileError> {
        let target = fs::readlinkat(&self.0, name.as_bytes(), Vec::new())?.into_bytes();
        if target.len() > LINK_TARGET_BYTES_MAX {
            return Err(FileErrorKind::NameTooLong.into());
        }
        Ok(target)
    }

    /// Makes the link `name`, which must not exist.
    pub(super) fn make_link(&self, name: &Name, target: &[u8], modified: Timestamp) -> Result<(), Errno> {
        fs::symlinkat(target, &self.0, name.as_bytes())?;
        self.set_link_time(name, modified)
    }

    /// Sets the time of a link itself.
    pub(crate) fn set_link_time(&self, name: &Name, modified: Timestamp) -> Result<(), Errno> {
        fs::utimensat(&self.0, name.as_bytes(), &times(modified), AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(crate) fn rename(&self, from: &Name, to: &Name) -> Result<(), FileError> {
        Ok(fs::renameat(&self.0, from.as_bytes(), &self.0, to.as_bytes())?)
    }

    pub(crate) fn remove_file(&self, name: &Name) -> Result<(), FileError> {
        Ok(fs::unlinkat(&self.0, name.as_bytes(), AtFlags::empty())?)
    }

    /// Makes durable which names are in it.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        Ok(fs::fsync(&self.0)?)
    }

    /// Makes durable everything on its file system, and tells of write errors since the last time (Linux 5.8).
    pub(crate) fn sync_file_system(&self) -> Result<(), FileError> {
        Ok(fs::syncfs(&self.0)?)
    }

    /// A stream of what is in it, on a descriptor of its own.
    pub(crate) fn entries(&self) -> Result<fs::Dir, FileError> {
        Ok(fs::Dir::read_from(&self.0)?)
    }
}

fn times(modified: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.seconds, tv_nsec: i64::from(modified.nanoseconds) },
    }
}

/// Sets mode and time of an open file or directory.
pub(crate) fn set_attributes(file: impl AsFd, attributes: Attributes) -> Result<(), FileError> {
    fs::fchmod(&file, Mode::from_raw_mode(u32::from(attributes.mode)))?;
    fs::futimens(&file, &times(attributes.modified))?;
    Ok(())
}

/// The name of a directory entry as the system gave it; `None` for `.` and `..`.
pub(crate) fn entry_name(entry: &fs::DirEntry) -> Option<Name> {
    Name::new(entry.file_name().to_bytes()).ok()
}
