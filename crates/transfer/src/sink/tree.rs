//! The directories that a copy puts things into, each finished when everything in it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::claims::Copying;
use crate::error::{FileError, Side, Violation};
use crate::fs::{Directory, Kind, set_attributes, sweep};
use crate::name::Name;
use crate::progress::Tally;
use crate::source::join;
use crate::wire::{Answer, Attributes};

/// What the threads of a sink tell its engine.
#[derive(Debug)]
pub(super) enum SinkEvent {
    /// To be sent.
    Answer(Answer),
    /// The source broke the protocol: the copy is over.
    Violation(Violation),
    /// Everything is in place and durable.
    Finished,
}

/// What all threads of one sink share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) events: mpsc::UnboundedSender<SinkEvent>,
    pub(super) tally: Arc<Tally>,
    /// This copy, as others see it.
    pub(super) copying: Arc<Copying>,
    /// Whether what arrives is made durable.
    pub(super) sync: bool,
    /// Entries announced and not answered for good.
    pub(super) outstanding: AtomicUsize,
    /// Directories made and not finished.
    pub(super) directories: AtomicUsize,
}

impl Shared {
    /// The copy is over and nobody hears us: long work may stop.
    pub(super) fn is_over(&self) -> bool {
        self.events.is_closed()
    }

    /// Something that the source has to answer.
    pub(super) fn ask(&self, answer: Answer) {
        // The engine is gone: then the copy is, and the thread that asks will notice.
        let _ = self.events.send(SinkEvent::Answer(answer));
    }

    /// An entry is done with.
    pub(super) fn done(&self, id: u64, unchanged: bool) {
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
        self.ask(Answer::Done { id, unchanged });
    }

    /// An entry could not be done.
    pub(super) fn failed(&self, id: u64, path: PathBuf, error: FileError) {
        self.tally.failed(path, Side::Local, error);
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
        self.ask(Answer::Failed { id, error });
    }

    pub(super) fn violation(&self, violation: Violation) {
        let _ = self.events.send(SinkEvent::Violation(violation));
    }
}

/// A directory that things are put into. Whoever has something to put there holds it; when nobody does any more, it gets the
/// mode and time of its original, and the source is told.
#[derive(Debug)]
pub(super) struct SinkDirectory {
    pub(super) directory: Arc<Directory>,
    /// For syncing: which file system it is on.
    pub(super) device: u64,
    /// For a person.
    path: Vec<u8>,
    pub(super) depth: usize,
    /// What is to be done at the end; nothing to a directory that was there and is not copied itself.
    finish: Option<Finish>,
}

#[derive(Debug)]
struct Finish {
    id: u64,
    attributes: Attributes,
    shared: Arc<Shared>,
    /// The source said that nothing more comes.
    ended: AtomicBool,
    /// Not finished before its children are: dropped, and with that perhaps finished, after this one.
    _parent: Option<Arc<SinkDirectory>>,
}

impl SinkDirectory {
    /// A directory that is there and is not copied itself.
    pub(super) fn anchor(directory: Arc<Directory>, path: Vec<u8>) -> Result<Arc<Self>, FileError> {
        let device = directory.metadata()?.device;
        Ok(Arc::new(Self { directory, device, path, depth: 0, finish: None }))
    }

    /// A directory that is copied as entry `id`.
    pub(super) fn new(
        shared: &Arc<Shared>,
        directory: Arc<Directory>,
        id: u64,
        attributes: Attributes,
        path: Vec<u8>,
        parent: Option<Arc<SinkDirectory>>,
    ) -> Result<Arc<Self>, FileError> {
        directory.make_writable()?;
        let device = directory.metadata()?.device;
        shared.directories.fetch_add(1, Ordering::Relaxed);
        let depth = parent.as_ref().map_or(0, |p| p.depth) + 1;
        let finish = Finish {
            id,
            attributes,
            shared: Arc::clone(shared),
            ended: AtomicBool::new(false),
            _parent: parent,
        };
        Ok(Arc::new(Self { directory, device, path, depth, finish: Some(finish) }))
    }

    /// The source says that nothing more comes into it.
    pub(super) fn end(&self) {
        if let Some(finish) = &self.finish {
            finish.ended.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn path_bytes(&self, name: &Name) -> Vec<u8> {
        join(&self.path, name.as_bytes())
    }

    pub(super) fn path_bytes_of_itself(&self) -> Vec<u8> {
        self.path.clone()
    }

    /// Its path, for a person.
    pub(super) fn own_path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path))
    }

    /// The path of something in it, for a person.
    pub(super) fn path_of(&self, name: &Name) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path_bytes(name)))
    }

    /// Removes partial files that nobody will go on with.
    pub(super) fn sweep(&self) {
        if let Ok(metadata) = self.directory.metadata() {
            let removed = sweep(&self.directory, metadata.changed);
            if removed > 0 {
                tracing::debug!(path = %String::from_utf8_lossy(&self.path), removed, "stale partial files");
            }
        }
    }
}

impl Drop for SinkDirectory {
    fn drop(&mut self) {
        let Some(finish) = &self.finish else { return };
        let shared = &finish.shared;
        shared.directories.fetch_sub(1, Ordering::Relaxed);
        if !finish.ended.load(Ordering::Relaxed) || shared.is_over() {
            // The copy was cut off: it is not whole, and does not get the look of it.
            return;
        }
        self.sweep();
        match set_attributes(&*self.directory, finish.attributes) {
            Ok(()) => {
                shared.tally.directory_done();
                shared.done(finish.id, false);
            }
            Err(error) => {
                shared.failed(finish.id, self.own_path(), error);
            }
        }
    }
}

/// A file that is to come.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) id: u64,
    pub(super) parent: Arc<SinkDirectory>,
    pub(super) name: Name,
    pub(super) size: u64,
    pub(super) attributes: Attributes,
    /// A file of this size stands there; only its content can tell whether it is the same.
    pub(super) compare: bool,
}

impl Expected {
    pub(super) fn path(&self) -> PathBuf {
        self.parent.path_of(&self.name)
    }

    /// Whether what stands in its place has its size, time and mode.
    pub(super) fn is_in_place(&self) -> bool {
        let wanted = (Kind::File, self.size, self.attributes);
        self.parent.directory.stat(&self.name).is_ok_and(|m| (m.kind, m.size, m.attributes) == wanted)
    }

    /// Gives the file that stands in its place the mode and time that it shall have.
    pub(super) fn touch(&self) -> Result<(), FileError> {
        let (file, metadata) = self.parent.directory.open_file(&self.name)?;
        if metadata.kind == Kind::File && metadata.attributes != self.attributes {
            set_attributes(&file, self.attributes)?;
        }
        Ok(())
    }
}
