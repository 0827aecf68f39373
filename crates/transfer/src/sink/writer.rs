//! Writing and hashing what arrives. Each writer is one thread and has the entries whose number falls to it, so that
//! the pieces of one file stay in order and no two threads share a file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blake3::Hasher;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::commit::Commit;
use super::tree::{Expected, Shared};
use crate::error::{FileError, FileErrorKind, Side, Violation};
use crate::fs::{Locker, Part, part_name};
use crate::limits::{
    CHUNK_BYTES, ENTRIES_IN_FLIGHT_REFUSED, PART_LOCK_WAIT_MS_MAX, RESUMES_OPEN_MAX, SMALL_FILE_BYTES_MAX,
    STREAMS_OPEN_MAX,
};
use crate::source::read_full;
use crate::wire::{Answer, Attributes, BundleFile, Hash};

/// Work for a writer.
#[derive(Debug)]
pub(super) enum WriterJob {
    /// Files that are to come.
    Expect(Vec<Expected>),
    /// A piece of a file.
    Data { id: u64, offset: u64, last: Option<Hash>, data: Bytes },
    /// Whole files.
    Files(Vec<(BundleFile, Bytes)>),
    /// The file is another one now.
    Changed { id: u64, size: u64, attributes: Attributes },
    /// What stands there is the same.
    Unchanged { id: u64 },
    /// It will not come.
    GiveUp { id: u64, error: FileError },
    /// That was all: say so when everything before it is done.
    End(oneshot::Sender<()>),
}

/// What has arrived of a file.
///
/// ```text
/// Expected --first piece--> Streaming --last piece--> (to the committer)
///    |  ^                      |  |
///    |  `----Changed-----------'  `--cannot be written--> Draining --last piece, GiveUp--> (forgotten)
///    |--whole file, Unchanged, GiveUp--> (forgotten)
/// Offered (an earlier copy's part is open) --first piece--> Streaming; the rest as Expected
/// ```
#[derive(Debug)]
enum State {
    Expected(Expected),
    Offered(Box<Open>),
    Streaming(Box<Open>),
    /// It failed here, and the source may not know yet.
    Draining,
}

#[derive(Debug)]
struct Open {
    file: Expected,
    part: Part,
    hasher: Hasher,
    resumed: bool,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    commits: mpsc::Sender<Commit>,
    files: BTreeMap<u64, State>,
    /// How many of these are offered, streaming, draining.
    offered: usize,
    streaming: usize,
    draining: usize,
    locker: Locker,
}

/// Why a piece is not in its file.
enum Stop {
    /// The source broke the protocol.
    Violation(Violation),
    /// This file failed.
    File(FileError),
}

impl From<FileError> for Stop {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, commits: mpsc::Sender<Commit>) -> Self {
        let locker = Locker::new(Arc::clone(&shared.copying), PART_LOCK_WAIT_MS_MAX);
        Self { shared, commits, files: BTreeMap::new(), offered: 0, streaming: 0, draining: 0, locker }
    }

    /// Writes until the queue is closed. What is half-way over then stays for a later copy.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<WriterJob>) {
        while let Some(job) = queue.blocking_recv() {
            if self.shared.is_over() {
                // What is still in the queue would only get in the way of the copy that comes next.
                return;
            }
            let done = match job {
                WriterJob::Expect(files) => {
                    for file in files {
                        if self.shared.is_over() {
                            return;
                        }
                        self.expect(file);
                    }
                    Ok(())
                }
                WriterJob::Data { id, offset, last, data } => self.data(id, offset, last, &data),
                WriterJob::Files(files) => files.into_iter().try_for_each(|(file, data)| {
                    if self.shared.is_over() { Ok(()) } else { self.whole(file, &data) }
                }),
                WriterJob::Changed { id, size, attributes } => self.changed(id, size, attributes),
                WriterJob::Unchanged { id } => self.unchanged(id),
                WriterJob::GiveUp { id, error } => self.give_up(id, error),
                WriterJob::End(_) if !self.files.is_empty() => {
                    Err(Violation::Unexpected { name: "Finish", when: "with files open" })
                }
                WriterJob::End(done) => {
                    // Nobody waits any more: then the copy is over.
                    let _ = done.send(());
                    Ok(())
                }
            };
            if let Err(violation) = done {
                return self.shared.violation(violation);
            }
        }
    }

    /// Finds out what there is of a file and asks for the rest.
    fn expect(&mut self, file: Expected) {
        let id = file.id;
        if file.compare
            && let Ok(hash) = self.hash_of_file(&file)
        {
            self.files.insert(id, State::Expected(file));
            return self.shared.ask(Answer::Compare { id, hash });
        }
        if file.size > SMALL_FILE_BYTES_MAX && self.offered < RESUMES_OPEN_MAX {
            match self.offer(&file) {
                Ok(Some(open)) => {
                    let (offset, hash) = (open.part.len(), *open.hasher.finalize().as_bytes());
                    self.offered += 1;
                    self.files.insert(id, State::Offered(Box::new(open)));
                    return self.shared.ask(Answer::Resume { id, offset, hash });
                }
                Err(error) if error.kind == FileErrorKind::Busy => {
                    return self.shared.failed(id, file.path(), error);
                }
                // Whatever is the matter with it will show again, or not, when it is made anew.
                Ok(None) | Err(_) => {}
            }
            // An earlier copy that was just ending may have put it in its place while its part was waited for.
            if file.is_in_place() {
                self.shared.tally.file_unchanged(file.size);
                return self.shared.done(id, true);
            }
        }
        self.files.insert(id, State::Expected(file));
        self.shared.ask(Answer::Want { id });
    }

    /// What an earlier copy left of this state of the file, hashed.
    fn offer(&mut self, file: &Expected) -> Result<Option<Open>, FileError> {
        let name = part_name(&file.name, file.size, file.attributes.modified);
        let directory = Arc::clone(&file.parent.directory);
        let Some(mut part) = Part::find(directory, name, &mut self.locker)? else { return Ok(None) };
        if part.len() == 0 || part.len() > file.size {
            part.discard();
            return Ok(None);
        }
        let mut hasher = Hasher::new();
        self.hash(part.file(), part.len(), &mut hasher)?;
        Ok(Some(Open { file: file.clone(), part, hasher, resumed: false }))
    }

    fn hash_of_file(&self, file: &Expected) -> Result<Hash, FileError> {
        let (opened, metadata) = file.parent.directory.open_file(&file.name)?;
        let mut hasher = Hasher::new();
        self.hash(&opened, metadata.size, &mut hasher)?;
        Ok(*hasher.finalize().as_bytes())
    }

    fn hash(&self, file: &std::fs::File, len: u64, hasher: &mut Hasher) -> Result<(), FileError> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut offset = 0;
        while offset < len {
            if self.shared.is_over() {
                return Err(FileErrorKind::Unknown.into());
            }
            let want = usize::try_from((len - offset).min(CHUNK_BYTES as u64)).unwrap_or(CHUNK_BYTES);
            let got = read_full(file, &mut buffer[..want], offset)?;
            if got == 0 {
                return Err(FileErrorKind::Changed.into());
            }
            hasher.update(&buffer[..got]);
            offset += got as u64;
        }
        Ok(())
    }

    /// Takes a file's state out, with the counts kept right.
    fn take(&mut self, name: &'static str, id: u64) -> Result<State, Violation> {
        let state = self.files.remove(&id).ok_or(Violation::UnknownEntry { name, id })?;
        match &state {
            State::Expected(_) => {}
            State::Offered(_) => self.offered -= 1,
            State::Streaming(_) => self.streaming -= 1,
            State::Draining => self.draining -= 1,
        }
        Ok(state)
    }

    /// The source may not know yet that it is in vain.
    fn drain(&mut self, id: u64) -> Result<(), Violation> {
        self.draining += 1;
        if self.draining > ENTRIES_IN_FLIGHT_REFUSED {
            return Err(Violation::TooMuch {
                what: "failed files that go on",
                max: ENTRIES_IN_FLIGHT_REFUSED,
            });
        }
        self.files.insert(id, State::Draining);
        Ok(())
    }

    /// A piece of a larger file.
    fn data(&mut self, id: u64, offset: u64, last: Option<Hash>, data: &[u8]) -> Result<(), Violation> {
        let (file, opened) = match self.take("Data", id)? {
            State::Expected(file) => (file, None),
            State::Offered(open) => (open.file.clone(), Some((open, true))),
            State::Streaming(open) => (open.file.clone(), Some((open, false))),
            State::Draining => return if last.is_none() { self.drain(id) } else { Ok(()) },
        };
        let open = match self.begin(&file, opened, offset) {
            Ok(open) => open,
            Err(Stop::Violation(violation)) => return Err(violation),
            Err(Stop::File(error)) => return self.fail(&file, error, last.is_none()),
        };
        let end = offset + data.len() as u64;
        if end > file.size || (last.is_some() && end != file.size) {
            return Err(Violation::Offset { id, got: end, expected: offset, size: file.size });
        }
        self.piece(open, last, data)
    }

    /// Makes ready for a piece at `offset`; `opened` is what is open, and whether it was only offered.
    fn begin(
        &mut self,
        file: &Expected,
        opened: Option<(Box<Open>, bool)>,
        offset: u64,
    ) -> Result<Box<Open>, Stop> {
        let wrong = |expected| {
            Stop::Violation(Violation::Offset { id: file.id, got: offset, expected, size: file.size })
        };
        if let Some((mut open, offered)) = opened {
            if offered {
                self.check_streams()?;
                if offset == open.part.len() {
                    open.resumed = true;
                    self.shared.tally.resumed(offset);
                } else if offset == 0 {
                    open.part.restart()?;
                    open.hasher.reset();
                }
                open.part.reserve(file.size)?;
                self.shared.tally.begins(file.id, file.name.as_bytes());
            }
            return if offset == open.part.len() { Ok(open) } else { Err(wrong(open.part.len())) };
        }
        if offset != 0 {
            return Err(wrong(0));
        }
        self.check_streams()?;
        let mut part = self.create(file)?;
        part.reserve(file.size)?;
        if file.size > SMALL_FILE_BYTES_MAX {
            part.keep();
        }
        self.shared.tally.begins(file.id, file.name.as_bytes());
        Ok(Box::new(Open { file: file.clone(), part, hasher: Hasher::new(), resumed: false }))
    }

    fn check_streams(&self) -> Result<(), Stop> {
        if self.streaming < STREAMS_OPEN_MAX {
            return Ok(());
        }
        Err(Stop::Violation(Violation::TooMuch { what: "files half-way over", max: STREAMS_OPEN_MAX }))
    }

    fn create(&mut self, file: &Expected) -> Result<Part, FileError> {
        let name = part_name(&file.name, file.size, file.attributes.modified);
        Part::create(Arc::clone(&file.parent.directory), name, &mut self.locker)
    }

    /// Writes a piece where it belongs; with the last one, verifies the whole.
    fn piece(&mut self, mut open: Box<Open>, last: Option<Hash>, data: &[u8]) -> Result<(), Violation> {
        let id = open.file.id;
        if let Err(error) = open.part.append(data) {
            open.part.discard();
            self.shared.tally.ends(id);
            return self.fail(&open.file, error, last.is_none());
        }
        open.hasher.update(data);
        self.shared.tally.moved(data.len() as u64);
        let Some(hash) = last else {
            self.streaming += 1;
            self.files.insert(id, State::Streaming(open));
            return Ok(());
        };
        self.shared.tally.ends(id);
        if *open.hasher.finalize().as_bytes() != hash {
            open.part.discard();
            return self.fail(&open.file, FileErrorKind::HashMismatch.into(), false);
        }
        let Open { file, part, resumed, .. } = *open;
        self.commit(file, part, resumed)
    }

    /// A whole small file.
    fn whole(&mut self, said: BundleFile, data: &[u8]) -> Result<(), Violation> {
        let file = match self.take("Bundle", said.id)? {
            State::Expected(file) => file,
            State::Offered(open) => open.file.clone(),
            State::Draining => return Ok(()),
            State::Streaming(_) => return Err(Violation::UnknownEntry { name: "Bundle", id: said.id }),
        };
        if u64::from(said.len) != file.size {
            return Err(Violation::Offset {
                id: said.id,
                got: said.len.into(),
                expected: 0,
                size: file.size,
            });
        }
        self.shared.tally.moved(data.len() as u64);
        if *blake3::hash(data).as_bytes() != said.hash {
            return self.fail(&file, FileErrorKind::HashMismatch.into(), false);
        }
        let written = self.create(&file).and_then(|mut part| part.append(data).map(|()| part));
        match written {
            Ok(part) => self.commit(file, part, false),
            Err(error) => self.fail(&file, error, false),
        }
    }

    /// The content is whole and right: the rest is the committer's.
    fn commit(&mut self, file: Expected, part: Part, resumed: bool) -> Result<(), Violation> {
        if let Err(error) = part.set_attributes(file.attributes) {
            return self.fail(&file, error, false);
        }
        // The committer is gone only when the copy is over.
        let _ = self.commits.blocking_send(Commit { file, part, resumed });
        Ok(())
    }

    /// This file failed; `more`: the source has more of it to say.
    fn fail(&mut self, file: &Expected, error: FileError, more: bool) -> Result<(), Violation> {
        self.shared.failed(file.id, file.path(), error);
        if more { self.drain(file.id) } else { Ok(()) }
    }

    fn changed(&mut self, id: u64, size: u64, attributes: Attributes) -> Result<(), Violation> {
        let file = match self.take("Changed", id)? {
            State::Expected(file) => file,
            State::Offered(mut open) | State::Streaming(mut open) => {
                self.shared.tally.ends(id);
                open.part.discard();
                open.file.clone()
            }
            State::Draining => return self.drain(id),
        };
        self.files.insert(id, State::Expected(Expected { size, attributes, ..file }));
        Ok(())
    }

    fn unchanged(&mut self, id: u64) -> Result<(), Violation> {
        match self.take("Unchanged", id)? {
            State::Expected(file) if file.compare => match file.touch() {
                Ok(()) => {
                    self.shared.tally.file_unchanged(file.size);
                    self.shared.done(id, true);
                    Ok(())
                }
                Err(error) => self.fail(&file, error, false),
            },
            State::Draining => Ok(()),
            State::Expected(_) | State::Offered(_) | State::Streaming(_) => {
                Err(Violation::UnknownEntry { name: "Unchanged", id })
            }
        }
    }

    fn give_up(&mut self, id: u64, error: FileError) -> Result<(), Violation> {
        let path = match self.take("GiveUp", id)? {
            State::Expected(file) => file.path(),
            // What has arrived stays: the file may be readable again the next time.
            State::Offered(open) | State::Streaming(open) => {
                self.shared.tally.ends(id);
                open.file.path()
            }
            State::Draining => return Ok(()),
        };
        self.shared.tally.failed(path, Side::Remote, error);
        self.shared.outstanding.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}
