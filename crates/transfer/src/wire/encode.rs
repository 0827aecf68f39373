//! Messages to bytes.

use bytes::Bytes;

use super::codec::Writer;
use super::{Answer, Direction, Entry, MAGIC, Message, Packet, Place, Request};
use crate::error::Refusal;

pub(super) const PLACE_ITEM: u8 = 0;
pub(super) const PLACE_IN: u8 = 1;

pub(super) const ENTRY_FILE: u8 = 1;
pub(super) const ENTRY_DIRECTORY: u8 = 2;
pub(super) const ENTRY_LINK: u8 = 3;
pub(super) const ENTRY_END: u8 = 4;

pub(super) const ANSWER_WANT: u8 = 1;
pub(super) const ANSWER_RESUME: u8 = 2;
pub(super) const ANSWER_COMPARE: u8 = 3;
pub(super) const ANSWER_DONE: u8 = 4;
pub(super) const ANSWER_UNCHANGED: u8 = 5;
pub(super) const ANSWER_FAILED: u8 = 6;

pub(super) const REFUSED_VERSION: u16 = 1;
pub(super) const REFUSED_READ_ONLY: u16 = 2;
pub(super) const REFUSED_PATH: u16 = 3;
pub(super) const REFUSED_NEEDS_DIRECTORY: u16 = 4;
pub(super) const REFUSED_PROTOCOL: u16 = 5;
pub(super) const REFUSED_STOPPED: u16 = 6;
pub(super) const REFUSED_TAKEN_OVER: u16 = 7;

pub(super) const DIRECTION_UPLOAD: u8 = 1;
pub(super) const DIRECTION_DOWNLOAD: u8 = 2;

pub(super) const FLAG_CHECKSUM: u32 = 1;
pub(super) const FLAG_NO_SYNC: u32 = 2;
pub(super) const FLAG_SKIP_LINKS: u32 = 4;
pub(super) const FLAG_INTO_DIRECTORY: u32 = 8;

/// Bytes that an entry takes beyond its name and target: enough for any of them.
const ENTRY_BYTES: usize = 64;

impl Entry {
    /// What it adds to the front of an `Entries` message, at most, in bytes.
    pub(crate) fn cost(&self) -> usize {
        let place = |place: &Place| match place {
            Place::Item(_) => 0,
            Place::In { name, .. } => name.as_bytes().len(),
        };
        ENTRY_BYTES
            + match self {
                Self::File { place: p, .. } | Self::Directory { place: p, .. } => place(p),
                Self::Link { place: p, target, .. } => place(p) + target.len(),
                Self::End { .. } => 0,
            }
    }
}

impl Message {
    /// The message as the session carries it.
    #[must_use]
    pub fn encode(self) -> Packet {
        let kind = self.kind();
        let mut w = Writer(Vec::with_capacity(64));
        if let Some(copy) = self.copy() {
            w.u32(copy);
        }
        let data = match self {
            Self::Hello { min, max } => {
                w.bytes(&MAGIC);
                w.u16(min);
                w.u16(max);
                Bytes::new()
            }
            Self::Welcome { version } => {
                w.bytes(&MAGIC);
                w.u16(version);
                Bytes::new()
            }
            Self::Refused { refusal, .. } => {
                encode_refusal(&mut w, &refusal);
                Bytes::new()
            }
            Self::Start { request, .. } => {
                encode_request(&mut w, &request);
                Bytes::new()
            }
            Self::Started { .. } | Self::Finish { .. } | Self::Finished { .. } => Bytes::new(),
            Self::Entries { entries, .. } => {
                w.0.reserve(entries.iter().map(Entry::cost).sum());
                w.count(entries.len());
                for entry in &entries {
                    encode_entry(&mut w, entry);
                }
                Bytes::new()
            }
            Self::Totals { files, bytes, complete, .. } => {
                w.u64(files);
                w.u64(bytes);
                w.u8(complete.into());
                Bytes::new()
            }
            Self::Answers { answers, .. } => {
                w.count(answers.len());
                for answer in &answers {
                    encode_answer(&mut w, answer);
                }
                Bytes::new()
            }
            Self::Data { id, offset, last, data, .. } => {
                w.u64(id);
                w.u64(offset);
                w.u8(last.is_some().into());
                if let Some(hash) = last {
                    w.bytes(&hash);
                }
                data
            }
            Self::Bundle { files, data, .. } => {
                w.count(files.len());
                for file in &files {
                    w.u64(file.id);
                    w.u32(file.len);
                    w.bytes(&file.hash);
                }
                data
            }
            Self::Changed { id, size, attributes, .. } => {
                w.u64(id);
                w.u64(size);
                w.attributes(attributes);
                Bytes::new()
            }
            Self::Unchanged { id, .. } => {
                w.u64(id);
                Bytes::new()
            }
            Self::GiveUp { id, error, .. } => {
                w.u64(id);
                w.file_error(error);
                Bytes::new()
            }
            Self::Report { path, error, .. } => {
                w.counted(&path);
                w.file_error(error);
                Bytes::new()
            }
        };
        Packet { kind, front: w.0.into(), data }
    }
}

fn encode_refusal(w: &mut Writer, refusal: &Refusal) {
    match refusal {
        Refusal::Version { min, max } => {
            w.u16(REFUSED_VERSION);
            w.u16(*min);
            w.u16(*max);
        }
        Refusal::ReadOnly => w.u16(REFUSED_READ_ONLY),
        Refusal::Path { path, error } => {
            w.u16(REFUSED_PATH);
            w.counted(path);
            w.file_error(*error);
        }
        Refusal::NeedsDirectory => w.u16(REFUSED_NEEDS_DIRECTORY),
        Refusal::Protocol(text) => {
            w.u16(REFUSED_PROTOCOL);
            let end = text.floor_char_boundary_or_len(crate::limits::TEXT_BYTES_MAX);
            w.counted(&text.as_bytes()[..end]);
        }
        Refusal::Stopped => w.u16(REFUSED_STOPPED),
        Refusal::TakenOver => w.u16(REFUSED_TAKEN_OVER),
        Refusal::Unknown(code) => w.u16(*code),
    }
}

/// `str::floor_char_boundary` is younger than the compiler that we promise.
trait FloorCharBoundary {
    fn floor_char_boundary_or_len(&self, max: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_or_len(&self, max: usize) -> usize {
        let mut end = self.len().min(max);
        while !self.is_char_boundary(end) {
            end -= 1;
        }
        end
    }
}

fn encode_request(w: &mut Writer, request: &Request) {
    w.u8(match request.direction {
        Direction::Upload => DIRECTION_UPLOAD,
        Direction::Download => DIRECTION_DOWNLOAD,
    });
    let flags = request.flags;
    let mut bits = 0;
    for (set, bit) in [
        (flags.checksum, FLAG_CHECKSUM),
        (flags.no_sync, FLAG_NO_SYNC),
        (flags.skip_links, FLAG_SKIP_LINKS),
        (flags.into_directory, FLAG_INTO_DIRECTORY),
    ] {
        if set {
            bits |= bit;
        }
    }
    w.u32(bits);
    w.counted(&request.destination);
    w.count(request.items.len());
    for item in &request.items {
        w.counted(&item.path);
        w.u8(item.contents.into());
    }
}

fn encode_place(w: &mut Writer, place: &Place) {
    match place {
        Place::Item(index) => {
            w.u8(PLACE_ITEM);
            w.u32(*index);
        }
        Place::In { directory, name } => {
            w.u8(PLACE_IN);
            w.u64(*directory);
            w.counted(name.as_bytes());
        }
    }
}

fn encode_entry(w: &mut Writer, entry: &Entry) {
    match entry {
        Entry::File { id, place, size, attributes } => {
            w.u8(ENTRY_FILE);
            w.u64(*id);
            encode_place(w, place);
            w.u64(*size);
            w.attributes(*attributes);
        }
        Entry::Directory { id, place, attributes } => {
            w.u8(ENTRY_DIRECTORY);
            w.u64(*id);
            encode_place(w, place);
            w.attributes(*attributes);
        }
        Entry::Link { id, place, target, modified } => {
            w.u8(ENTRY_LINK);
            w.u64(*id);
            encode_place(w, place);
            w.counted(target);
            w.timestamp(*modified);
        }
        Entry::End { id } => {
            w.u8(ENTRY_END);
            w.u64(*id);
        }
    }
}

fn encode_answer(w: &mut Writer, answer: &Answer) {
    match answer {
        Answer::Want { id } => {
            w.u8(ANSWER_WANT);
            w.u64(*id);
        }
        Answer::Resume { id, offset, hash } => {
            w.u8(ANSWER_RESUME);
            w.u64(*id);
            w.u64(*offset);
            w.bytes(hash);
        }
        Answer::Compare { id, hash } => {
            w.u8(ANSWER_COMPARE);
            w.u64(*id);
            w.bytes(hash);
        }
        Answer::Done { id, unchanged } => {
            w.u8(if *unchanged { ANSWER_UNCHANGED } else { ANSWER_DONE });
            w.u64(*id);
        }
        Answer::Failed { id, error } => {
            w.u8(ANSWER_FAILED);
            w.u64(*id);
            w.file_error(*error);
        }
    }
}
