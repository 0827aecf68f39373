//! Bytes to messages. Every length is checked against its limit and against what is there before it is believed.

use super::codec::Reader;
use super::encode::*;
use super::kind;
use super::{
    Answer, BundleFile, Direction, Entry, Flags, Item, MAGIC, Message, Packet, Place, Request, WireError,
    kind_name,
};
use crate::error::{FileErrorKind, Refusal};
use crate::limits::{
    ANSWERS_PER_MESSAGE_MAX, BUNDLE_FILES_MAX, ENTRIES_PER_MESSAGE_MAX, ITEMS_MAX, LINK_TARGET_BYTES_MAX,
    MESSAGE_DATA_BYTES_MAX, MESSAGE_FRONT_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, TEXT_BYTES_MAX,
};
use crate::name::Name;

/// Fewest bytes that each of a list takes; with it a count is checked before anything is allocated.
const ENTRY_BYTES_MIN: usize = 1 + 8;
const ANSWER_BYTES_MIN: usize = 1 + 8;
const BUNDLE_FILE_BYTES: usize = 8 + 4 + 32;
const ITEM_BYTES_MIN: usize = 4 + 1;

impl Message {
    /// Reads a message that came over the session.
    ///
    /// # Errors
    ///
    /// Any [`WireError`]: the peer is at fault and the copy dies of it.
    pub fn decode(packet: Packet) -> Result<Self, WireError> {
        let Packet { kind, front, data } = packet;
        let name = kind_name(kind).ok_or(WireError::UnknownKind(kind))?;
        check_max(name, "front", front.len(), MESSAGE_FRONT_BYTES_MAX)?;
        check_max(name, "data", data.len(), MESSAGE_DATA_BYTES_MAX)?;
        let mut r = Reader::new(name, &front);
        if kind != kind::DATA && kind != kind::BUNDLE && !data.is_empty() {
            return Err(WireError::DataLength { kind: name, got: data.len() as u64, expected: 0 });
        }
        let message = match kind {
            kind::HELLO => {
                decode_magic(&mut r)?;
                Self::Hello { min: r.u16("oldest version")?, max: r.u16("newest version")? }
            }
            kind::WELCOME => {
                decode_magic(&mut r)?;
                Self::Welcome { version: r.u16("version")? }
            }
            kind::REFUSED => Self::Refused { copy: r.u32("copy")?, refusal: decode_refusal(&mut r)? },
            kind::START => Self::Start { copy: r.u32("copy")?, request: decode_request(&mut r)? },
            kind::STARTED => Self::Started { copy: r.u32("copy")? },
            kind::ENTRIES => {
                let copy = r.u32("copy")?;
                let count = r.count("number of entries", ENTRIES_PER_MESSAGE_MAX, ENTRY_BYTES_MIN)?;
                let mut entries = Vec::with_capacity(count);
                for _ in 0..count {
                    entries.push(decode_entry(&mut r)?);
                }
                Self::Entries { copy, entries }
            }
            kind::TOTALS => Self::Totals {
                copy: r.u32("copy")?,
                files: r.u64("files")?,
                bytes: r.u64("bytes")?,
                complete: r.flag("complete")?,
            },
            kind::ANSWERS => {
                let copy = r.u32("copy")?;
                let count = r.count("number of answers", ANSWERS_PER_MESSAGE_MAX, ANSWER_BYTES_MIN)?;
                let mut answers = Vec::with_capacity(count);
                for _ in 0..count {
                    answers.push(decode_answer(&mut r)?);
                }
                Self::Answers { copy, answers }
            }
            kind::DATA => {
                let (copy, id, offset) = (r.u32("copy")?, r.u64("entry")?, r.u64("offset")?);
                let last = if r.flag("last")? { Some(r.hash()?) } else { None };
                if data.is_empty() && last.is_none() {
                    return Err(WireError::DataLength { kind: name, got: 0, expected: 1 });
                }
                if offset.checked_add(data.len() as u64).is_none_or(|end| end > i64::MAX as u64) {
                    return r.bad("offset", offset);
                }
                Self::Data { copy, id, offset, last, data }
            }
            kind::BUNDLE => {
                let copy = r.u32("copy")?;
                let count = r.count("number of files", BUNDLE_FILES_MAX, BUNDLE_FILE_BYTES)?;
                let mut files = Vec::with_capacity(count);
                let mut expected = 0u64;
                for _ in 0..count {
                    let file = BundleFile { id: r.u64("entry")?, len: r.u32("length")?, hash: r.hash()? };
                    expected += u64::from(file.len);
                    files.push(file);
                }
                if expected != data.len() as u64 {
                    return Err(WireError::DataLength { kind: name, got: data.len() as u64, expected });
                }
                Self::Bundle { copy, files, data }
            }
            kind::CHANGED => Self::Changed {
                copy: r.u32("copy")?,
                id: r.u64("entry")?,
                size: decode_size(&mut r)?,
                attributes: r.attributes()?,
            },
            kind::UNCHANGED => Self::Unchanged { copy: r.u32("copy")?, id: r.u64("entry")? },
            kind::GIVE_UP => {
                Self::GiveUp { copy: r.u32("copy")?, id: r.u64("entry")?, error: r.file_error()? }
            }
            kind::REPORT => Self::Report {
                copy: r.u32("copy")?,
                path: r.counted("path", PATH_BYTES_MAX)?.to_vec(),
                error: r.file_error()?,
            },
            kind::FINISH => Self::Finish { copy: r.u32("copy")? },
            kind::FINISHED => Self::Finished { copy: r.u32("copy")? },
            other => return Err(WireError::UnknownKind(other)),
        };
        r.end()?;
        Ok(message)
    }
}

fn check_max(kind: &'static str, what: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len > max {
        return Err(WireError::TooLong { kind, what, len: len as u64, max: max as u64 });
    }
    Ok(())
}

fn decode_magic(r: &mut Reader<'_>) -> Result<(), WireError> {
    if r.array::<8>("magic")? == MAGIC { Ok(()) } else { Err(WireError::BadMagic) }
}

/// A file's size: no larger than what offsets of the operating system can express.
fn decode_size(r: &mut Reader<'_>) -> Result<u64, WireError> {
    let size = r.u64("size")?;
    if size > i64::MAX as u64 { r.bad("size", size) } else { Ok(size) }
}

fn decode_refusal(r: &mut Reader<'_>) -> Result<Refusal, WireError> {
    Ok(match r.u16("reason")? {
        REFUSED_VERSION => Refusal::Version { min: r.u16("oldest version")?, max: r.u16("newest version")? },
        REFUSED_READ_ONLY => Refusal::ReadOnly,
        REFUSED_PATH => {
            Refusal::Path { path: r.counted("path", PATH_BYTES_MAX)?.to_vec(), error: r.file_error()? }
        }
        REFUSED_NEEDS_DIRECTORY => Refusal::NeedsDirectory,
        REFUSED_PROTOCOL => {
            // It goes to a terminal: no control characters of the peer's.
            let text = String::from_utf8_lossy(r.counted("text", TEXT_BYTES_MAX)?);
            Refusal::Protocol(text.chars().map(|c| if c.is_control() { '?' } else { c }).collect())
        }
        REFUSED_STOPPED => Refusal::Stopped,
        REFUSED_TAKEN_OVER => Refusal::TakenOver,
        other => Refusal::Unknown(other),
    })
}

fn decode_request(r: &mut Reader<'_>) -> Result<Request, WireError> {
    let direction = match r.u8("direction")? {
        DIRECTION_UPLOAD => Direction::Upload,
        DIRECTION_DOWNLOAD => Direction::Download,
        other => return r.bad("direction", other.into()),
    };
    let bits = r.u32("flags")?;
    if bits & !(FLAG_CHECKSUM | FLAG_NO_SYNC | FLAG_SKIP_LINKS | FLAG_INTO_DIRECTORY) != 0 {
        return r.bad("set of flags", bits.into());
    }
    let flags = Flags {
        checksum: bits & FLAG_CHECKSUM != 0,
        no_sync: bits & FLAG_NO_SYNC != 0,
        skip_links: bits & FLAG_SKIP_LINKS != 0,
        into_directory: bits & FLAG_INTO_DIRECTORY != 0,
    };
    let destination = r.counted("destination", PATH_BYTES_MAX)?.to_vec();
    let count = r.count("number of items", ITEMS_MAX, ITEM_BYTES_MIN)?;
    if count == 0 {
        return r.bad("number of items", 0);
    }
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(Item { path: r.counted("path", PATH_BYTES_MAX)?.to_vec(), contents: r.flag("contents")? });
    }
    Ok(Request { direction, flags, destination, items })
}

fn decode_place(r: &mut Reader<'_>) -> Result<Place, WireError> {
    match r.u8("place")? {
        PLACE_ITEM => Ok(Place::Item(r.u32("item")?)),
        PLACE_IN => {
            let directory = r.u64("directory")?;
            let name = match Name::new(r.counted("name", NAME_BYTES_MAX)?) {
                Ok(name) => name,
                Err(FileErrorKind::NameTooLong) => {
                    return r.bad("length of a name", NAME_BYTES_MAX as u64 + 1);
                }
                Err(_) => return Err(WireError::BadName { kind: r.kind() }),
            };
            Ok(Place::In { directory, name })
        }
        other => r.bad("place", other.into()),
    }
}

fn decode_entry(r: &mut Reader<'_>) -> Result<Entry, WireError> {
    let what = r.u8("entry")?;
    let id = r.u64("entry")?;
    match what {
        ENTRY_FILE => Ok(Entry::File {
            id,
            place: decode_place(r)?,
            size: decode_size(r)?,
            attributes: r.attributes()?,
        }),
        ENTRY_DIRECTORY => Ok(Entry::Directory { id, place: decode_place(r)?, attributes: r.attributes()? }),
        ENTRY_LINK => {
            let place = decode_place(r)?;
            let target = r.counted("link target", LINK_TARGET_BYTES_MAX)?;
            if target.is_empty() || target.contains(&0) {
                return Err(WireError::BadName { kind: r.kind() });
            }
            Ok(Entry::Link { id, place, target: target.to_vec(), modified: r.timestamp()? })
        }
        ENTRY_END => Ok(Entry::End { id }),
        other => r.bad("entry", other.into()),
    }
}

fn decode_answer(r: &mut Reader<'_>) -> Result<Answer, WireError> {
    let what = r.u8("answer")?;
    let id = r.u64("entry")?;
    Ok(match what {
        ANSWER_WANT => Answer::Want { id },
        ANSWER_RESUME => Answer::Resume { id, offset: decode_size(r)?, hash: r.hash()? },
        ANSWER_COMPARE => Answer::Compare { id, hash: r.hash()? },
        ANSWER_DONE => Answer::Done { id, unchanged: false },
        ANSWER_UNCHANGED => Answer::Done { id, unchanged: true },
        ANSWER_FAILED => Answer::Failed { id, error: r.file_error()? },
        other => return r.bad("answer", other.into()),
    })
}
