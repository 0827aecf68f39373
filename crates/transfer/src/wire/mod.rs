//! The transfer protocol on the wire: what one end can say to the other, as bytes and back. Pure.
//!
//! `PROTOCOL.md` beside the crate's manifest is its description; the numbers here are the ones there.
//!
//! One [`Message`] travels in one message of the session: its kind is the session message's kind, what is structured
//! is the `front`, and the content of files is the `data`, which is never copied on the way. Decoding is total: any
//! bytes give a message or a [`WireError`], and nothing is allocated that the received bytes do not pay for.

mod codec;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::error::{FileError, Refusal};
use crate::name::Name;

/// Oldest version of the protocol that this crate speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest version of the protocol that this crate speaks.
pub const VERSION_MAX: u16 = 1;

/// First bytes of the first message of either side: nothing that strays into the session looks like it.
pub const MAGIC: [u8; 8] = *b"outlast\x01";

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// A message of the session, as far as this protocol uses one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The message's kind: [`Message::kind`].
    pub kind: u16,
    /// The structured part.
    pub front: Bytes,
    /// Content of files.
    pub data: Bytes,
}

/// A point in time as file systems store it: seconds since 1970 (or before, if negative) and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What is kept of a file or directory besides its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes {
    /// The permission bits, at most `0o777`: set-user-id, set-group-id and sticky are not carried.
    pub mode: u16,
    /// Time of last modification.
    pub modified: Timestamp,
}

/// From where to where, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Upload,
    /// From the server to the client.
    Download,
}

/// One thing that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Download: the path below the served folder, as the person wrote it. Upload: the name that it shall have, empty if
    /// `contents`.
    pub path: Vec<u8>,
    /// The contents of the directory and not itself (a trailing slash).
    pub contents: bool,
}

/// What is to be done with what is not a plain matter of course.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags {
    /// Compare contents and not sizes and times to find out what is unchanged.
    pub checksum: bool,
    /// Do not make durable what arrives.
    pub no_sync: bool,
    /// Leave symbolic links out.
    pub skip_links: bool,
    /// The destination is a directory, made if it is missing (a trailing slash, or several items).
    pub into_directory: bool,
}

/// What the client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// From where to where.
    pub direction: Direction,
    /// How.
    pub flags: Flags,
    /// Upload: where to, below the served folder. Download: empty, it is the client's affair.
    pub destination: Vec<u8>,
    /// What; from one to [`crate::limits::ITEMS_MAX`].
    pub items: Vec<Item>,
}

/// Something that exists at the source. Entries are numbered from 0, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File {
        /// Number of the entry.
        id: u64,
        /// Where it belongs.
        place: Place,
        /// Length, in bytes.
        size: u64,
        /// Mode and time.
        attributes: Attributes,
    },
    /// A directory. What is in it follows, then [`Entry::End`].
    Directory {
        /// Number of the entry.
        id: u64,
        /// Where it belongs.
        place: Place,
        /// Mode and time, set when everything in it is done.
        attributes: Attributes,
    },
    /// A symbolic link.
    Link {
        /// Number of the entry.
        id: u64,
        /// Where it belongs.
        place: Place,
        /// What it says.
        target: Vec<u8>,
        /// Time of last modification.
        modified: Timestamp,
    },
    /// Nothing more belongs into that directory. Takes no number of its own.
    End {
        /// The directory.
        id: u64,
    },
}

/// Where an entry belongs and what it is called there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is this item of the request itself.
    Item(u32),
    /// In a directory that was announced before.
    In {
        /// The directory's number.
        directory: u64,
        /// The name.
        name: Name,
    },
}

/// What the sink says about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Send the whole file.
    Want {
        /// The entry.
        id: u64,
    },
    /// The first `offset` bytes are here, from an earlier copy, and have this hash: send the rest if they are yours too.
    Resume {
        /// The entry.
        id: u64,
        /// How many bytes are here.
        offset: u64,
        /// Their hash.
        hash: Hash,
    },
    /// A whole file with this hash stands there: send it only if yours differs.
    Compare {
        /// The entry.
        id: u64,
        /// Hash of the file that is there.
        hash: Hash,
    },
    /// It is in place (file), made (link), or finished with all that is in it (directory).
    Done {
        /// The entry.
        id: u64,
        /// It was there before and nothing had to be sent.
        unchanged: bool,
    },
    /// It could not be done. Of a directory: nothing below it will be.
    Failed {
        /// The entry.
        id: u64,
        /// Why.
        error: FileError,
    },
}

/// One whole file in a [`Message::Bundle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// The entry.
    pub id: u64,
    /// Its bytes in the data, after those of the files before it.
    pub len: u32,
    /// Hash of the content.
    pub hash: Hash,
}

/// Everything that one end can say to the other. `copy` numbers the client's requests on one session from 1 up; what
/// still arrives of an earlier copy is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Client, first: the versions that it speaks.
    Hello {
        /// Oldest.
        min: u16,
        /// Newest.
        max: u16,
    },
    /// Server, to `Hello`: the version that both will speak.
    Welcome {
        /// The version.
        version: u16,
    },
    /// Either: no, or no more. Ends the copy, or with `copy` 0 the conversation.
    Refused {
        /// The copy, 0 for all.
        copy: u32,
        /// Why.
        refusal: Refusal,
    },
    /// Client: begin a copy. What was under way before it is given up.
    Start {
        /// Its number.
        copy: u32,
        /// What is wanted.
        request: Request,
    },
    /// Server: the copy begins.
    Started {
        /// Its number.
        copy: u32,
    },
    /// Source: what exists.
    Entries {
        /// The copy.
        copy: u32,
        /// At most [`crate::limits::ENTRIES_PER_MESSAGE_MAX`].
        entries: Vec<Entry>,
    },
    /// Source, for the display only: how much there is to do as far as it knows.
    Totals {
        /// The copy.
        copy: u32,
        /// Files.
        files: u64,
        /// Their sizes, in bytes.
        bytes: u64,
        /// Nothing will be added.
        complete: bool,
    },
    /// Sink: about entries.
    Answers {
        /// The copy.
        copy: u32,
        /// At most [`crate::limits::ANSWERS_PER_MESSAGE_MAX`].
        answers: Vec<Answer>,
    },
    /// Source: a piece of a file.
    Data {
        /// The copy.
        copy: u32,
        /// The entry.
        id: u64,
        /// Where it belongs: where the piece before it ended; the first piece at 0 or at what `Resume` offered.
        offset: u64,
        /// The last piece; hash of the whole file.
        last: Option<Hash>,
        /// The content.
        data: Bytes,
    },
    /// Source: several small files, each whole.
    Bundle {
        /// The copy.
        copy: u32,
        /// At most [`crate::limits::BUNDLE_FILES_MAX`].
        files: Vec<BundleFile>,
        /// Their contents one after the other.
        data: Bytes,
    },
    /// Source: the file has changed since it was announced; this is what it is now, and its content begins at 0 again.
    Changed {
        /// The copy.
        copy: u32,
        /// The entry.
        id: u64,
        /// Length, in bytes.
        size: u64,
        /// Mode and time.
        attributes: Attributes,
    },
    /// Source, to `Compare`: the contents are the same.
    Unchanged {
        /// The copy.
        copy: u32,
        /// The entry.
        id: u64,
    },
    /// Source: this file will not come (any further).
    GiveUp {
        /// The copy.
        copy: u32,
        /// The entry.
        id: u64,
        /// Why.
        error: FileError,
    },
    /// Source: something that never became an entry: unreadable, special, missing.
    Report {
        /// The copy.
        copy: u32,
        /// Its path, for a person to read.
        path: Vec<u8>,
        /// Why.
        error: FileError,
    },
    /// Source: that was all, and everything has its answer.
    Finish {
        /// The copy.
        copy: u32,
    },
    /// Sink: everything is in place and durable. The copy is over.
    Finished {
        /// The copy.
        copy: u32,
    },
}

/// What is wrong with a received message; the peer is at fault, and the copy dies of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// No message has this kind.
    #[error("unknown message kind {0:#06x}")]
    UnknownKind(u16),
    /// The front ends in the middle of something.
    #[error("{kind} ends within its {what}")]
    Truncated {
        /// The message.
        kind: &'static str,
        /// What should have come.
        what: &'static str,
    },
    /// Bytes after the end of what the message says.
    #[error("{kind} has {len} bytes too many")]
    Trailing {
        /// The message.
        kind: &'static str,
        /// How many.
        len: usize,
    },
    /// A length or number beyond its limit.
    #[error("{kind}: {what} is {len}, at most {max} is allowed")]
    TooLong {
        /// The message.
        kind: &'static str,
        /// What.
        what: &'static str,
        /// What the peer said or sent.
        len: u64,
        /// The limit.
        max: u64,
    },
    /// A value that has no meaning.
    #[error("{kind}: {value} is no valid {what}")]
    BadValue {
        /// The message.
        kind: &'static str,
        /// What.
        what: &'static str,
        /// The value.
        value: u64,
    },
    /// A name that no file can have.
    #[error("{kind}: an invalid file name")]
    BadName {
        /// The message.
        kind: &'static str,
    },
    /// The first message does not begin as this protocol does.
    #[error("not the transfer protocol")]
    BadMagic,
    /// The data is not as long as the front says.
    #[error("{kind}: {got} bytes of data where {expected} are announced")]
    DataLength {
        /// The message.
        kind: &'static str,
        /// What came.
        got: u64,
        /// What was announced.
        expected: u64,
    },
}

/// The kinds as session messages carry them. A value is never given to something else.
pub(crate) mod kind {
    pub(crate) const HELLO: u16 = 0x4f01;
    pub(crate) const WELCOME: u16 = 0x4f02;
    pub(crate) const REFUSED: u16 = 0x4f03;
    pub(crate) const START: u16 = 0x4f04;
    pub(crate) const STARTED: u16 = 0x4f05;
    pub(crate) const ENTRIES: u16 = 0x4f06;
    pub(crate) const TOTALS: u16 = 0x4f07;
    pub(crate) const ANSWERS: u16 = 0x4f08;
    pub(crate) const DATA: u16 = 0x4f09;
    pub(crate) const BUNDLE: u16 = 0x4f0a;
    pub(crate) const CHANGED: u16 = 0x4f0b;
    pub(crate) const UNCHANGED: u16 = 0x4f0c;
    pub(crate) const GIVE_UP: u16 = 0x4f0d;
    pub(crate) const REPORT: u16 = 0x4f0e;
    pub(crate) const FINISH: u16 = 0x4f0f;
    pub(crate) const FINISHED: u16 = 0x4f10;
}

impl Message {
    /// The kind of session message that carries it.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::Hello { .. } => kind::HELLO,
            Self::Welcome { .. } => kind::WELCOME,
            Self::Refused { .. } => kind::REFUSED,
            Self::Start { .. } => kind::START,
            Self::Started { .. } => kind::STARTED,
            Self::Entries { .. } => kind::ENTRIES,
            Self::Totals { .. } => kind::TOTALS,
            Self::Answers { .. } => kind::ANSWERS,
            Self::Data { .. } => kind::DATA,
            Self::Bundle { .. } => kind::BUNDLE,
            Self::Changed { .. } => kind::CHANGED,
            Self::Unchanged { .. } => kind::UNCHANGED,
            Self::GiveUp { .. } => kind::GIVE_UP,
            Self::Report { .. } => kind::REPORT,
            Self::Finish { .. } => kind::FINISH,
            Self::Finished { .. } => kind::FINISHED,
        }
    }

    /// Its name in `PROTOCOL.md`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        kind_name(self.kind()).unwrap_or("?")
    }

    /// The copy that it belongs to; `None` for the first exchange.
    #[must_use]
    pub fn copy(&self) -> Option<u32> {
        match self {
            Self::Hello { .. } | Self::Welcome { .. } => None,
            Self::Refused { copy, .. }
            | Self::Start { copy, .. }
            | Self::Started { copy }
            | Self::Entries { copy, .. }
            | Self::Totals { copy, .. }
            | Self::Answers { copy, .. }
            | Self::Data { copy, .. }
            | Self::Bundle { copy, .. }
            | Self::Changed { copy, .. }
            | Self::Unchanged { copy, .. }
            | Self::GiveUp { copy, .. }
            | Self::Report { copy, .. }
            | Self::Finish { copy }
            | Self::Finished { copy } => Some(*copy),
        }
    }
}

/// The name of a kind in `PROTOCOL.md`.
pub(crate) fn kind_name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        kind::HELLO => "Hello",
        kind::WELCOME => "Welcome",
        kind::REFUSED => "Refused",
        kind::START => "Start",
        kind::STARTED => "Started",
        kind::ENTRIES => "Entries",
        kind::TOTALS => "Totals",
        kind::ANSWERS => "Answers",
        kind::DATA => "Data",
        kind::BUNDLE => "Bundle",
        kind::CHANGED => "Changed",
        kind::UNCHANGED => "Unchanged",
        kind::GIVE_UP => "GiveUp",
        kind::REPORT => "Report",
        kind::FINISH => "Finish",
        kind::FINISHED => "Finished",
        _ => return None,
    })
}
