//! What can go wrong, who is at fault, and what dies of it: one file, or the copy.

use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::wire::WireError;

/// Who is to look for the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The program at the other end broke the protocol.
    Peer,
    /// The person who asked: a path that does not exist, a right that is missing.
    User,
    /// The machine or what happens on it: a full disk, a file that somebody else keeps writing.
    Environment,
}

/// At which end of the session it happened, seen from who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Here.
    Local,
    /// At the other end.
    Remote,
}

/// What went wrong with one file, directory or link. The copy goes on with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// It does not exist.
    NotFound,
    /// This process may not.
    PermissionDenied,
    /// No room left on the device.
    NoSpace,
    /// The user's quota is used up.
    QuotaExceeded,
    /// The file system is mounted read-only.
    ReadOnlyFileSystem,
    /// Something that is no directory stands where a directory is needed.
    NotADirectory,
    /// A directory stands where a file or link is to go.
    IsADirectory,
    /// The path leads through a symbolic link, and those are never followed here.
    SymbolicLink,
    /// The path is absolute or has `..` in it: it might lead out of the folder.
    OutsideRoot,
    /// A name or a path is longer than the file system or [`crate::limits`] takes.
    NameTooLong,
    /// More than [`crate::limits::DEPTH_MAX`] directories deep.
    TooDeep,
    /// A name that no file can have: empty, `.`, `..`, or with a slash or a NUL in it.
    InvalidName,
    /// Neither file nor directory nor symbolic link: a device, a pipe, a socket.
    Special,
    /// Symbolic links are not taken by this end ([`crate::Links::Skip`]).
    LinkSkipped,
    /// It changed while it was read, each time that it was tried.
    Changed,
    /// What arrived does not have the hash that was sent with it.
    HashMismatch,
    /// Another copy is writing the same file.
    Busy,
    /// The directory that it belongs into could not be made or opened.
    ParentFailed,
    /// This process or this machine has too many files open.
    TooManyOpenFiles,
    /// Larger than the file system can store.
    FileTooLarge,
    /// The peer broke the rules of the protocol with this file only.
    Misbehaved,
    /// The other end gave it up for a reason that this version has no name for.
    Unknown,
    /// Any other error of the operating system; its number stands beside.
    Io,
}

impl FileErrorKind {
    /// Who is to look for the cause.
    #[must_use]
    pub fn fault(self) -> Fault {
        match self {
            Self::NotFound
            | Self::PermissionDenied
            | Self::NotADirectory
            | Self::IsADirectory
            | Self::SymbolicLink
            | Self::OutsideRoot
            | Self::NameTooLong
            | Self::TooDeep
            | Self::Special
            | Self::LinkSkipped
            | Self::ParentFailed
            | Self::Busy => Fault::User,
            Self::NoSpace
            | Self::QuotaExceeded
            | Self::ReadOnlyFileSystem
            | Self::Changed
            | Self::TooManyOpenFiles
            | Self::FileTooLarge
            | Self::Unknown
            | Self::Io => Fault::Environment,
            Self::InvalidName | Self::HashMismatch | Self::Misbehaved => Fault::Peer,
        }
    }

    /// True for what is left out by rule and not by failure: special files, and links where they are not wanted.
    #[must_use]
    pub fn is_skip(self) -> bool {
        matches!(self, Self::Special | Self::LinkSkipped)
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "no such file or directory",
            Self::PermissionDenied => "permission denied",
            Self::NoSpace => "no space left on the device",
            Self::QuotaExceeded => "the disk quota is used up",
            Self::ReadOnlyFileSystem => "the file system is read-only",
            Self::NotADirectory => "not a directory",
            Self::IsADirectory => "a directory stands in its place",
            Self::SymbolicLink => "the path leads through a symbolic link, which is not followed",
            Self::OutsideRoot => {
                "the path is absolute or contains '..'; paths are relative to the served folder"
            }
            Self::NameTooLong => "the name or path is too long",
            Self::TooDeep => "the tree is too deep",
            Self::InvalidName => "not a valid file name",
            Self::Special => "skipped: neither file, directory nor symbolic link",
            Self::LinkSkipped => "skipped: symbolic links are not taken",
            Self::Changed => "it kept changing while it was read",
            Self::HashMismatch => "the content that arrived does not match its hash",
            Self::Busy => "another copy is writing it",
            Self::ParentFailed => "its directory could not be made or opened",
            Self::TooManyOpenFiles => "too many open files",
            Self::FileTooLarge => "too large for the file system",
            Self::Misbehaved => "the other end broke the protocol",
            Self::Unknown => "given up by the other end",
            Self::Io => "input/output error",
        }
    }
}

/// What went wrong with one file, directory or link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The cause, as far as it has a name of its own.
    pub kind: FileErrorKind,
    /// The operating system's number for it (Linux's `errno`), 0 if it was not the operating system who said so.
    pub errno: i32,
}

impl FileError {
    /// An error that the operating system did not report.
    #[must_use]
    pub fn new(kind: FileErrorKind) -> Self {
        Self { kind, errno: 0 }
    }

    /// Who is to look for the cause.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.kind.fault()
    }
}

impl From<FileErrorKind> for FileError {
    fn from(kind: FileErrorKind) -> Self {
        Self::new(kind)
    }
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> Self {
        let kind = match errno {
            Errno::NOENT => FileErrorKind::NotFound,
            Errno::ACCESS | Errno::PERM => FileErrorKind::PermissionDenied,
            Errno::NOSPC => FileErrorKind::NoSpace,
            Errno::DQUOT => FileErrorKind::QuotaExceeded,
            Errno::ROFS => FileErrorKind::ReadOnlyFileSystem,
            Errno::NOTDIR => FileErrorKind::NotADirectory,
            Errno::ISDIR | Errno::NOTEMPTY => FileErrorKind::IsADirectory,
            Errno::LOOP => FileErrorKind::SymbolicLink,
            Errno::XDEV => FileErrorKind::OutsideRoot,
            Errno::NAMETOOLONG => FileErrorKind::NameTooLong,
            Errno::MFILE | Errno::NFILE => FileErrorKind::TooManyOpenFiles,
            Errno::FBIG => FileErrorKind::FileTooLarge,
            _ => FileErrorKind::Io,
        };
        Self { kind, errno: errno.raw_os_error() }
    }
}

impl From<std::io::Error> for FileError {
    fn from(error: std::io::Error) -> Self {
        Errno::from_io_error(&error).map_or(Self::new(FileErrorKind::Io), Self::from)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == FileErrorKind::Io && self.errno != 0 {
            return write!(f, "{}", std::io::Error::from_raw_os_error(self.errno));
        }
        f.write_str(self.kind.text())
    }
}

impl std::error::Error for FileError {}

/// One file, directory or link that did not make it, or was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its path, below what was asked for; bytes as they are, which need not be UTF-8.
    pub path: PathBuf,
    /// At which end.
    pub side: Side,
    /// Why.
    pub error: FileError,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Local => "",
            Side::Remote => " (at the other end)",
        };
        // Debug escapes control characters: the name comes from a peer and goes to a terminal.
        write!(f, "{:?}: {}{side}", self.path, self.error)
    }
}

/// Why a request was not taken, said by the end that refused it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No version of the transfer protocol that both ends speak.
    #[error("no common version of the transfer protocol: the other end speaks {min} to {max}")]
    Version {
        /// Oldest version that the refusing end speaks.
        min: u16,
        /// Newest.
        max: u16,
    },
    /// The served folder may be read only.
    #[error("the served folder may be read, not written")]
    ReadOnly,
    /// What the copy needs before its first file could not be had: the destination, mostly.
    #[error("{}: {error}", String::from_utf8_lossy(.path).escape_debug())]
    Path {
        /// The path as it was asked for.
        path: Vec<u8>,
        /// What is the matter with it.
        error: FileError,
    },
    /// Several things were to be copied to something that is no directory.
    #[error("several sources need a directory to go to")]
    NeedsDirectory,
    /// The other end broke the protocol; the refusing end says how.
    #[error("the other end calls this a breach of the protocol: {0}")]
    Protocol(String),
    /// The end that gave up was told to stop.
    #[error("stopped at the other end")]
    Stopped,
    /// While this copy had no connection, another one of the same files took over.
    #[error("another copy of the same files took over while this one had no connection")]
    TakenOver,
    /// A reason that this version has no name for.
    #[error("refused, with the unknown code {0}")]
    Unknown(u16),
}

impl Refusal {
    /// Who is to look for the cause.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Version { .. } | Self::ReadOnly | Self::NeedsDirectory => Fault::User,
            Self::Path { error, .. } => error.fault(),
            Self::Protocol(_) | Self::Unknown(_) => Fault::Peer,
            Self::Stopped | Self::TakenOver => Fault::Environment,
        }
    }
}

/// How the peer broke the protocol though each of its messages could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A message that has no place here.
    #[error("message {name} is not expected {when}")]
    Unexpected {
        /// The message's name in `PROTOCOL.md`.
        name: &'static str,
        /// The situation.
        when: &'static str,
    },
    /// An entry's number is not the next one.
    #[error("entry {got} announced where {expected} comes next")]
    EntryNumber {
        /// The number that was announced.
        got: u64,
        /// The number that comes next.
        expected: u64,
    },
    /// A message about an entry that was never announced, or that is over.
    #[error("{name} for entry {id}, which is not open")]
    UnknownEntry {
        /// The message's name.
        name: &'static str,
        /// The number it gave.
        id: u64,
    },
    /// An entry below a directory that was never announced, or that was ended.
    #[error("entry {id} below {parent}, which is no open directory")]
    UnknownParent {
        /// The entry.
        id: u64,
        /// What it says is its directory.
        parent: u64,
    },
    /// An item announced twice, or one that nobody asked for.
    #[error("item {0} was not asked for, or came twice")]
    UnknownItem(u32),
    /// A limit that both ends know is exceeded.
    #[error("more than {max} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Content that does not follow what came before it, or goes beyond the file's announced end.
    #[error("content of entry {id} at {got}, where {expected} comes next and {size} is the end")]
    Offset {
        /// The entry.
        id: u64,
        /// Where the content claims to belong.
        got: u64,
        /// Where it may.
        expected: u64,
        /// The file's size, in bytes.
        size: u64,
    },
}

/// Why a whole copy, or the serving of one, ended before its end.
///
/// What arrived until then stays: a copy that is started again skips what is whole and goes on with what is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The session ended, with everything that was on its way.
    #[error("the session ended: {0}")]
    SessionEnded(String),
    /// The other end forgot the session (it was restarted, say) and knows nothing of this copy.
    #[error("the other end forgot the session; {lost} messages were lost with it")]
    SessionReset {
        /// Messages of ours that were outstanding.
        lost: usize,
    },
    /// The other end said no.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// A message of the peer could not be read.
    #[error("the other end sent what cannot be read: {0}")]
    Wire(#[from] WireError),
    /// The peer broke the protocol.
    #[error("the other end broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The folder or destination on this side cannot be used.
    #[error("{path:?}: {error}")]
    Local {
        /// As it was given.
        path: PathBuf,
        /// What is the matter with it.
        error: FileError,
    },
    /// Several things were to be copied to something that is no directory.
    #[error("several sources need a directory to go to")]
    NeedsDirectory,
    /// More items in one request than [`crate::limits::ITEMS_MAX`], or none.
    #[error("{0} sources in one request; from 1 to {max} can be asked for", max = crate::limits::ITEMS_MAX)]
    Items(usize),
    /// The peer did not answer within [`crate::limits::ANSWER_SECONDS_MAX`] though the session lives.
    #[error("no answer to {0} in {seconds} seconds", seconds = crate::limits::ANSWER_SECONDS_MAX)]
    NoAnswer(&'static str),
    /// While this copy had no connection, another one of the same files took over.
    #[error("another copy of the same files took over while this one had no connection")]
    TakenOver,
    /// A thread of ours that works for the copy could not be started or is gone.
    #[error("a worker thread could not be started or died")]
    Worker,
}

impl TransferError {
    /// Who is to look for the cause.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::SessionEnded(_)
            | Self::SessionReset { .. }
            | Self::Worker
            | Self::TakenOver
            | Self::NoAnswer(_) => Fault::Environment,
            Self::Refused(refusal) => refusal.fault(),
            Self::Wire(_) | Self::Violation(_) => Fault::Peer,
            Self::Local { error, .. } => error.fault(),
            Self::NeedsDirectory | Self::Items(_) => Fault::User,
        }
    }

    /// True if the same copy on a new session may well succeed: nothing about the request itself was wrong.
    #[must_use]
    pub fn is_worth_another_try(&self) -> bool {
        match self {
            Self::SessionEnded(_) | Self::SessionReset { .. } | Self::NoAnswer(_) => true,
            Self::Refused(_)
            | Self::Wire(_)
            | Self::Violation(_)
            | Self::Local { .. }
            | Self::NeedsDirectory
            | Self::Items(_)
            | Self::TakenOver
            | Self::Worker => false,
        }
    }
}
