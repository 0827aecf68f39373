//! Reading and hashing files, on threads of their own, in pieces of [`CHUNK_BYTES`].
//!
//! A file is sent as one state of it or not at all: before the last piece goes out, size, time and change time are
//! compared with what they were when reading began. If they differ, it begins anew with what it is now.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blake3::Hasher;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::jobs::{Basis, Job, Jobs};
use crate::error::{FileError, FileErrorKind};
use crate::fs::Metadata;
use crate::limits::{
    BUNDLE_BYTES_TARGET, BUNDLE_FILES_MAX, CHANGED_RETRIES_MAX, CHUNK_BYTES, SMALL_FILE_BYTES_MAX,
};
use crate::progress::Tally;
use crate::wire::{Attributes, BundleFile, Message};

/// What the reading threads tell the engine. `Sent` and `GaveUp` are told before the last message of the file is
/// queued, so that the engine knows before the sink can answer; `Worked` after it, so that nothing of a file comes after
/// the end of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReaderEvent {
    /// Everything of it is said.
    Sent { id: u64, resumed: bool, size: u64 },
    /// It will not come.
    GaveUp { id: u64, error: FileError },
    /// So many jobs are done with, and all their messages queued.
    Worked { jobs: usize },
    /// Everything that there is has been counted, and the totals are on their way.
    Counted,
}

/// The copy is over.
struct Gone;

/// Why a file does not come.
enum Stop {
    /// The copy is over.
    Gone,
    /// Something is the matter with the file.
    File(FileError),
    /// The sink wants no more of it.
    Cancelled,
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl From<FileError> for Stop {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<FileErrorKind> for Stop {
    fn from(kind: FileErrorKind) -> Self {
        Self::File(kind.into())
    }
}

/// One reading thread.
pub(super) struct Reader {
    pub(super) copy: u32,
    pub(super) jobs: Arc<Jobs>,
    pub(super) outgoing: mpsc::Sender<Message>,
    pub(super) events: mpsc::UnboundedSender<ReaderEvent>,
    pub(super) tally: Arc<Tally>,
}

/// Small files that go into one message.
#[derive(Default)]
struct Bundle {
    files: Vec<BundleFile>,
    data: Vec<u8>,
}

impl Reader {
    /// Reads files until the queue is closed.
    pub(super) fn run(mut self) {
        loop {
            let (mut files, mut bytes) = (0, 0);
            let batch = self.jobs.take(|job| {
                if !is_small(job) {
                    return false;
                }
                files += 1;
                bytes += job.file.announced.size;
                files <= BUNDLE_FILES_MAX && (files == 1 || bytes <= BUNDLE_BYTES_TARGET as u64)
            });
            if batch.is_empty() || self.work(&batch).is_err() {
                return;
            }
            if self.tell(ReaderEvent::Worked { jobs: batch.len() }).is_err() {
                return;
            }
        }
    }

    fn work(&mut self, batch: &[Job]) -> Result<(), Gone> {
        let mut bundle = Bundle::default();
        for job in batch {
            if bundle.files.len() == BUNDLE_FILES_MAX || bundle.data.len() >= BUNDLE_BYTES_TARGET {
                self.send_bundle(&mut bundle)?;
            }
            let done = if is_small(job) { self.read_small(job, &mut bundle) } else { self.stream(job) };
            match done {
                Ok(()) => {}
                Err(Stop::Gone) => return Err(Gone),
                Err(Stop::File(error)) => self.give_up(job.id, error)?,
                // The error is the sink's; nobody looks at this one.
                Err(Stop::Cancelled) => self.give_up(job.id, FileErrorKind::Unknown.into())?,
            }
        }
        self.send_bundle(&mut bundle)
    }

    fn send(&self, message: Message) -> Result<(), Gone> {
        self.outgoing.blocking_send(message).map_err(|_| Gone)
    }

    fn tell(&self, event: ReaderEvent) -> Result<(), Gone> {
        self.events.send(event).map_err(|_| Gone)
    }

    fn give_up(&self, id: u64, error: FileError) -> Result<(), Gone> {
        self.tell(ReaderEvent::GaveUp { id, error })?;
        self.send(Message::GiveUp { copy: self.copy, id, error })
    }

    fn send_bundle(&self, bundle: &mut Bundle) -> Result<(), Gone> {
        let Bundle { files, data } = std::mem::take(bundle);
        if files.is_empty() {
            return Ok(());
        }
        self.tally.moved(data.len() as u64);
        for file in &files {
            self.tell(ReaderEvent::Sent { id: file.id, resumed: false, size: file.len.into() })?;
        }
        self.send(Message::Bundle { copy: self.copy, files, data: data.into() })
    }

    /// Reads a small file to the end of the bundle.
    fn read_small(&self, job: &Job, bundle: &mut Bundle) -> Result<(), Stop> {
        let start = bundle.data.len();
        for _ in 0..=CHANGED_RETRIES_MAX {
            bundle.data.truncate(start);
            let (file, before) = job.file.open()?;
            if before.size > SMALL_FILE_BYTES_MAX {
                // It has grown into a large one.
                return self.stream(job);
            }
            let room = usize::try_from(before.size).map_err(|_| FileErrorKind::FileTooLarge)?;
            bundle.data.resize(start + room, 0);
            let got = read_full(&file, &mut bundle.data[start..], 0)?;
            if got != room || !Metadata::of(&file)?.is_same_state(&before) {
                continue;
            }
            let hash = *blake3::hash(&bundle.data[start..]).as_bytes();
            if let Basis::Whole { hash: theirs } = job.basis
                && hash == theirs
            {
                bundle.data.truncate(start);
                return Ok(self.unchanged(job, &before)?);
            }
            if is_changed(job, &before) {
                // What is in the bundle before it need not wait for it, but must not be overtaken: the order of two
                // different files does not matter.
                self.send_changed(job, &before)?;
            }
            let len = u32::try_from(room).map_err(|_| FileErrorKind::FileTooLarge)?;
            bundle.files.push(BundleFile { id: job.id, len, hash });
            return Ok(());
        }
        bundle.data.truncate(start);
        Err(FileErrorKind::Changed.into())
    }

    fn send_changed(&self, job: &Job, now: &Metadata) -> Result<(), Gone> {
        self.send(Message::Changed {
            copy: self.copy,
            id: job.id,
            size: now.size,
            attributes: now.attributes,
        })
    }

    /// The sink's file is the same.
    fn unchanged(&self, job: &Job, now: &Metadata) -> Result<(), Gone> {
        self.tell(ReaderEvent::Sent { id: job.id, resumed: false, size: now.size })?;
        if is_changed(job, now) {
            self.send_changed(job, now)?;
        }
        self.send(Message::Unchanged { copy: self.copy, id: job.id })
    }

    /// Sends a large file in pieces.
    fn stream(&self, job: &Job) -> Result<(), Stop> {
        self.tally.begins(job.id, job.file.name.as_bytes());
        let result = self.try_stream(job);
        self.tally.ends(job.id);
        result
    }

    fn try_stream(&self, job: &Job) -> Result<(), Stop> {
        for attempt in 0..=CHANGED_RETRIES_MAX {
            let (file, before) = job.file.open()?;
            if let Basis::Whole { hash: theirs } = job.basis
                && attempt == 0
            {
                let mut hasher = Hasher::new();
                if !hash_prefix(&file, before.size, &mut hasher, job)? {
                    continue;
                }
                let hash = *hasher.finalize().as_bytes();
                if hash == theirs && Metadata::of(&file)?.is_same_state(&before) {
                    return Ok(self.unchanged(job, &before)?);
                }
            }
            let (mut offset, mut hasher) = (0, Hasher::new());
            if attempt > 0 || is_changed(job, &before) {
                self.send_changed(job, &before)?;
            } else if let Basis::Prefix { offset: theirs, hash } = job.basis
                && theirs <= before.size
                && hash_prefix(&file, theirs, &mut hasher, job)?
            {
                if *hasher.finalize().as_bytes() == hash {
                    offset = theirs;
                } else {
                    hasher.reset();
                }
            }
            let resumed = offset > 0;
            if resumed {
                self.tally.resumed(offset);
            }
            // One piece is held back until it is certain that the file is still what it was.
            let mut held = Bytes::new();
            while offset + (held.len() as u64) < before.size {
                if job.file.cancelled.load(Ordering::Relaxed) {
                    return Err(Stop::Cancelled);
                }
                let next = offset + held.len() as u64;
                let want = usize::try_from((before.size - next).min(CHUNK_BYTES as u64))
                    .map_err(|_| FileErrorKind::FileTooLarge)?;
                let mut piece = vec![0; want];
                let got = read_full(&file, &mut piece, next)?;
                piece.truncate(got);
                hasher.update(&piece);
                if !held.is_empty() {
                    self.tally.moved(held.len() as u64);
                    let data = std::mem::replace(&mut held, piece.into());
                    let len = data.len() as u64;
                    self.send(Message::Data { copy: self.copy, id: job.id, offset, last: None, data })?;
                    offset += len;
                } else {
                    held = piece.into();
                }
                if got < want {
                    // It has become shorter.
                    break;
                }
            }
            let whole = offset + held.len() as u64 == before.size;
            if !whole || !Metadata::of(&file)?.is_same_state(&before) {
                continue;
            }
            let last = Some(*hasher.finalize().as_bytes());
            self.tally.moved(held.len() as u64);
            self.tell(ReaderEvent::Sent { id: job.id, resumed, size: before.size })?;
            self.send(Message::Data { copy: self.copy, id: job.id, offset, last, data: held })?;
            return Ok(());
        }
        Err(FileErrorKind::Changed.into())
    }
}

fn is_small(job: &Job) -> bool {
    job.file.announced.size <= SMALL_FILE_BYTES_MAX && !matches!(job.basis, Basis::Prefix { .. })
}

/// Whether the file is another than the one that was announced, as far as the sink knows of it.
fn is_changed(job: &Job, now: &Metadata) -> bool {
    let announced: (u64, Attributes) = (job.file.announced.size, job.file.announced.attributes);
    announced != (now.size, now.attributes)
}

/// Hashes the first `len` bytes; false if the file is not that long any more.
fn hash_prefix(file: &File, len: u64, hasher: &mut Hasher, job: &Job) -> Result<bool, Stop> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < len {
        if job.file.cancelled.load(Ordering::Relaxed) {
            return Err(Stop::Cancelled);
        }
        let want = usize::try_from((len - offset).min(CHUNK_BYTES as u64)).unwrap_or(CHUNK_BYTES);
        let got = read_full(file, &mut buffer[..want], offset)?;
        hasher.update(&buffer[..got]);
        offset += got as u64;
        if got < want {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, FileError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(filled)
}
