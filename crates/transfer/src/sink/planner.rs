//! What is to be done with each entry: the directories and links are made here, files are compared with what is there
//! and otherwise handed to a writer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::tree::{Expected, Shared, SinkDirectory, SinkEvent};
use super::writer::WriterJob;
use crate::claims::Copying;
use crate::error::{FileError, FileErrorKind, Violation};
use crate::fs::{Directory, Kind, put_link};
use crate::limits::{DEPTH_MAX, DIRECTORIES_OPEN_REFUSED, ENTRIES_IN_FLIGHT_REFUSED, WRITERS};
use crate::name::Name;
use crate::place::Target;
use crate::wire::{Attributes, Entry, Place, Timestamp};

/// Work for the planner.
#[derive(Debug)]
pub(super) enum PlannerJob {
    Entries(Vec<Entry>),
    /// The source says that this was all.
    Finish,
}

/// A directory that was announced and not ended.
enum Slot {
    Open(Arc<SinkDirectory>),
    /// It could not be made; nor can what is below it.
    Failed,
}

/// Where an entry goes.
enum Spot {
    /// Into a directory, by this name.
    At(Arc<SinkDirectory>, Name),
    /// It is to be this directory.
    Is(Arc<Directory>),
    /// Nowhere: what is above it failed.
    Nowhere,
}

pub(super) struct Planner {
    pub(super) shared: Arc<Shared>,
    pub(super) writers: Vec<mpsc::Sender<WriterJob>>,
    pub(super) checksum: bool,
    pub(super) skip_links: bool,
    /// Where the items go; each is taken once.
    items: Vec<Option<Target>>,
    anchor: Arc<SinkDirectory>,
    directories: BTreeMap<u64, Slot>,
    next_id: u64,
}

/// The copy is over.
struct Gone;

impl Planner {
    /// `destination`: how the place is called in messages.
    pub(super) fn new(
        shared: Arc<Shared>,
        writers: Vec<mpsc::Sender<WriterJob>>,
        targets: Vec<Target>,
        destination: Vec<u8>,
        (checksum, skip_links): (bool, bool),
    ) -> Result<Self, FileError> {
        let anchor = match targets.first() {
            Some(Target::Contents(directory) | Target::Named(directory, _)) => Arc::clone(directory),
            None => return Err(FileErrorKind::NotFound.into()),
        };
        let anchor = SinkDirectory::anchor(anchor, destination)?;
        let items = targets.into_iter().map(Some).collect();
        let directories = BTreeMap::new();
        Ok(Self { shared, writers, checksum, skip_links, items, anchor, directories, next_id: 0 })
    }

    /// Plans until the queue is closed.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<PlannerJob>) {
        // Nothing is written before there is a plan, so this is the place to let others finish.
        Copying::wait_for_those_before();
        while let Some(job) = queue.blocking_recv() {
            if self.shared.is_over() {
                return;
            }
            let done = match job {
                PlannerJob::Entries(entries) => self.entries(entries),
                PlannerJob::Finish => self.finish(),
            };
            match done {
                Ok(Ok(())) => {}
                Ok(Err(Gone)) => return,
                Err(violation) => return self.shared.violation(violation),
            }
        }
    }

    fn entries(&mut self, entries: Vec<Entry>) -> Result<Result<(), Gone>, Violation> {
        let mut expected: [Vec<Expected>; WRITERS] = Default::default();
        for entry in entries {
            match entry {
                Entry::End { id } => match self.directories.remove(&id) {
                    Some(Slot::Open(directory)) => directory.end(),
                    Some(Slot::Failed) => {}
                    None => return Err(Violation::UnknownEntry { name: "End", id }),
                },
                Entry::File { id, place, size, attributes } => {
                    let spot = self.announced(id, place)?;
                    if let Some(file) = self.file(id, spot, size, attributes) {
                        expected[writer_of(id)].push(file);
                    }
                }
                Entry::Directory { id, place, attributes } => {
                    let spot = self.announced(id, place)?;
                    let unfinished = self.shared.directories.load(Ordering::Relaxed) + self.directories.len();
                    if unfinished > 2 * DIRECTORIES_OPEN_REFUSED {
                        return Err(Violation::TooMuch {
                            what: "unfinished directories",
                            max: DIRECTORIES_OPEN_REFUSED,
                        });
                    }
                    let slot = self.directory(id, spot, attributes);
                    self.directories.insert(id, slot);
                }
                Entry::Link { id, place, target, modified } => {
                    let spot = self.announced(id, place)?;
                    self.link(id, spot, &target, modified);
                }
            }
        }
        for (writer, expected) in self.writers.iter().zip(expected) {
            if !expected.is_empty() && writer.blocking_send(WriterJob::Expect(expected)).is_err() {
                return Ok(Err(Gone));
            }
        }
        Ok(Ok(()))
    }

    /// Takes note of a new entry and finds out where it goes.
    fn announced(&mut self, id: u64, place: Place) -> Result<Spot, Violation> {
        if id != self.next_id {
            return Err(Violation::EntryNumber { got: id, expected: self.next_id });
        }
        self.next_id += 1;
        if self.shared.outstanding.fetch_add(1, Ordering::Relaxed) >= ENTRIES_IN_FLIGHT_REFUSED {
            return Err(Violation::TooMuch { what: "entries in flight", max: ENTRIES_IN_FLIGHT_REFUSED });
        }
        match place {
            Place::Item(index) => {
                let item = usize::try_from(index).ok().and_then(|i| self.items.get_mut(i));
                match item.and_then(Option::take).ok_or(Violation::UnknownItem(index))? {
                    Target::Contents(directory) => Ok(Spot::Is(directory)),
                    Target::Named(_, name) => Ok(Spot::At(Arc::clone(&self.anchor), name)),
                }
            }
            Place::In { directory, name } => match self.directories.get(&directory) {
                Some(Slot::Open(parent)) => Ok(Spot::At(Arc::clone(parent), name)),
                Some(Slot::Failed) => Ok(Spot::Nowhere),
                None => Err(Violation::UnknownParent { id, parent: directory }),
            },
        }
    }

    /// A file: unchanged, or expected.
    fn file(&self, id: u64, spot: Spot, size: u64, attributes: Attributes) -> Option<Expected> {
        let (parent, name) = match spot {
            Spot::At(parent, name) => (parent, name),
            Spot::Is(_) => {
                // Its contents were asked for, and it has none.
                self.fail(
                    id,
                    &Spot::Is(Arc::clone(&self.anchor.directory)),
                    FileErrorKind::NotADirectory.into(),
                );
                return None;
            }
            Spot::Nowhere => {
                self.fail(id, &Spot::Nowhere, FileErrorKind::ParentFailed.into());
                return None;
            }
        };
        let mut file = Expected { id, parent, name, size, attributes, compare: false };
        let there = match file.parent.directory.stat_if_exists(&file.name) {
            Ok(there) => there.filter(|m| m.kind == Kind::File || m.kind == Kind::Directory),
            Err(error) => {
                self.shared.failed(id, file.path(), error);
                return None;
            }
        };
        if let Some(there) = there {
            if there.kind == Kind::Directory {
                self.shared.failed(id, file.path(), FileErrorKind::IsADirectory.into());
                return None;
            }
            let same_size = there.size == size;
            if same_size && !self.checksum && there.attributes.modified == attributes.modified {
                let touched = if there.attributes.mode == attributes.mode { Ok(()) } else { file.touch() };
                match touched {
                    Ok(()) => {
                        self.shared.tally.file_unchanged(size);
                        self.shared.done(id, true);
                    }
                    Err(error) => self.shared.failed(id, file.path(), error),
                }
                return None;
            }
            file.compare = same_size && self.checksum;
        }
        Some(file)
    }

    fn directory(&self, id: u64, spot: Spot, attributes: Attributes) -> Slot {
        let made = match &spot {
            Spot::At(parent, _) if parent.depth >= DEPTH_MAX => Err(FileErrorKind::TooDeep.into()),
            Spot::At(parent, name) => parent.directory.make_directory(name).and_then(|directory| {
                let path = parent.path_bytes(name);
                let parent = Some(Arc::clone(parent));
                SinkDirectory::new(&self.shared, Arc::new(directory), id, attributes, path, parent)
            }),
            Spot::Is(directory) => {
                let path = self.anchor.path_bytes_of_itself();
                SinkDirectory::new(&self.shared, Arc::clone(directory), id, attributes, path, None)
            }
            Spot::Nowhere => Err(FileErrorKind::ParentFailed.into()),
        };
        match made {
            Ok(directory) => Slot::Open(directory),
            Err(error) => {
                self.fail(id, &spot, error);
                Slot::Failed
            }
        }
    }

    fn link(&self, id: u64, spot: Spot, target: &[u8], modified: Timestamp) {
        let made = match &spot {
            _ if self.skip_links => Err(FileErrorKind::LinkSkipped.into()),
            Spot::At(parent, name) => make_link(parent, name, target, modified),
            Spot::Is(_) => Err(FileErrorKind::NotADirectory.into()),
            Spot::Nowhere => Err(FileErrorKind::ParentFailed.into()),
        };
        match made {
            Ok(unchanged) => {
                self.shared.tally.link_done();
                self.shared.done(id, unchanged);
            }
            Err(error) => self.fail(id, &spot, error),
        }
    }

    fn fail(&self, id: u64, spot: &Spot, error: FileError) {
        let path = match spot {
            Spot::At(parent, name) => parent.path_of(name),
            Spot::Is(_) | Spot::Nowhere => self.anchor.own_path(),
        };
        self.shared.failed(id, path, error);
    }

    /// Everything has its answer: the last things to be made durable are.
    fn finish(&mut self) -> Result<Result<(), Gone>, Violation> {
        let outstanding = self.shared.outstanding.load(Ordering::Relaxed);
        if outstanding > 0 || !self.directories.is_empty() {
            return Err(Violation::Unexpected { name: "Finish", when: "with entries open" });
        }
        self.anchor.sweep();
        if self.shared.sync
            && let Err(error) = self.anchor.directory.sync_file_system()
        {
            // No entry to blame; the copy is not complete all the same.
            self.shared.tally.failed(self.anchor.own_path(), crate::error::Side::Local, error);
        }
        let _ = self.shared.events.send(SinkEvent::Finished);
        Ok(Ok(()))
    }
}

/// Which writer works on an entry.
pub(super) fn writer_of(id: u64) -> usize {
    usize::try_from(id % WRITERS as u64).unwrap_or(0)
}

/// Makes a link, unless it is there; says whether it was.
fn make_link(
    parent: &SinkDirectory,
    name: &Name,
    target: &[u8],
    modified: Timestamp,
) -> Result<bool, FileError> {
    match parent.directory.stat_if_exists(name)? {
        Some(there) if there.kind == Kind::Link && parent.directory.read_link(name)? == target => {
            if there.attributes.modified != modified {
                parent.directory.set_link_time(name, modified)?;
            }
            return Ok(true);
        }
        Some(there) if there.kind == Kind::Directory => return Err(FileErrorKind::IsADirectory.into()),
        Some(_) | None => {}
    }
    put_link(&parent.directory, name, target, modified)?;
    Ok(false)
}
