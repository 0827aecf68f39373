//! The sending end of a copy, whichever of client and server it is.
//!
//! ```text
//!  walker ----found---> engine ---entries--> (control)  \
//!  counter -------------totals-------------> (control)   } --> session --> the sink
//!  jobs <---- wants --- engine <--answers--- session      /
//!    `--> readers ------------content------> (outgoing) /
//! ```
//!
//! Walking, counting, reading and hashing are done by threads; the engine and the two ways of the session are one
//! future. Nothing that the engine awaits depends on the sink taking content, except sending content itself, so
//! the two ends cannot wait for each other. Dropping the future closes every queue, and the threads end at the next
//! thing they say.

mod jobs;
mod reader;
mod walk;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use self::jobs::{Basis, Closer, Job, Jobs};
use self::reader::{Reader, ReaderEvent};
use self::walk::{Found, Record, SourceDirectory, SourceFile, Stopped, Visitor};
use crate::error::{FileError, Side, TransferError, Violation};
use crate::limits::{
    BATCH_FRONT_BYTES_TARGET, DIRECTORIES_OPEN_MAX, ENTRIES_IN_FLIGHT_MAX, ENTRIES_PER_MESSAGE_MAX,
    OUTGOING_QUEUE_MESSAGES, PATH_BYTES_MAX, READERS,
};
use crate::link::{Conversation, Ended, Heard, Link, batches};
use crate::progress::Tally;
use crate::threads::spawn;
use crate::wire::{Answer, Entry, Message};

pub(crate) use self::reader::read_full;
pub(crate) use self::walk::{Start, join};

/// Found entries that wait for room in the window.
const FOUND_QUEUE: usize = 1024;

/// Files between two messages about how many there are.
const TOTALS_EVERY_FILES: u64 = 2000;

/// What the engine remembers of an entry until the sink has answered for good.
#[derive(Debug)]
enum InFlight {
    File { file: Arc<SourceFile>, phase: Phase },
    Directory(Arc<SourceDirectory>),
    Link { path: PathBuf },
}

/// How far a file is.
///
/// ```text
/// Announced --Want, Resume, Compare--> Reading --all said--> Sent --Done, Failed--> (forgotten)
///     |                                   |--could not be read--> (forgotten)
///     |                                   `--Failed--> Refused --reader is through--> (forgotten)
///     `--Done, Failed--> (forgotten)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Announced,
    Reading,
    Refused,
    Sent { resumed: bool, size: u64 },
}

/// What a source is to do.
pub(crate) struct Assignment {
    /// Where each item begins.
    pub(crate) starts: Vec<Start>,
    /// The same once more, for counting.
    pub(crate) to_count: Vec<Start>,
    pub(crate) skip_links: bool,
}

struct Announcer(mpsc::Sender<Found>);

impl Visitor for Announcer {
    fn found(&mut self, found: Found) -> Result<(), Stopped> {
        self.0.blocking_send(found).map_err(|_| Stopped)
    }
}

/// Counts what a walk finds and tells both ends' displays.
struct Counter {
    copy: u32,
    tally: Arc<Tally>,
    control: mpsc::UnboundedSender<Message>,
    files: u64,
    bytes: u64,
}

impl Counter {
    fn tell(&self, complete: bool) -> Result<(), Stopped> {
        self.tally.totals(self.files, self.bytes, complete);
        let (files, bytes) = (self.files, self.bytes);
        self.control.send(Message::Totals { copy: self.copy, files, bytes, complete }).map_err(|_| Stopped)
    }
}

impl Visitor for Counter {
    fn found(&mut self, found: Found) -> Result<(), Stopped> {
        if let Found::Entry(Entry::File { size, .. }, _) = found {
            self.files += 1;
            self.bytes += size;
            if self.files.is_multiple_of(TOTALS_EVERY_FILES) {
                return self.tell(false);
            }
        }
        Ok(())
    }
}

/// Sends everything and waits until the sink has it.
pub(crate) async fn run<L: Link>(
    conversation: &Conversation<'_, L>,
    assignment: Assignment,
    tally: &Arc<Tally>,
) -> Result<Ended, TransferError> {
    let copy = conversation.copy;
    let (control, mut control_queue) = mpsc::unbounded_channel();
    let (outgoing, mut outgoing_queue) = mpsc::channel(OUTGOING_QUEUE_MESSAGES);
    let (events, event_queue) = mpsc::unbounded_channel();
    let (found, found_queue) = mpsc::channel(FOUND_QUEUE);
    let (deaths, mut died) = mpsc::unbounded_channel();
    let jobs = Arc::new(Jobs::default());
    let _closer = Closer(Arc::clone(&jobs));

    let Assignment { starts, to_count, skip_links } = assignment;
    spawn("walker", &deaths, move || {
        let _ = walk::walk(starts, skip_links, &mut Announcer(found));
    })?;
    let mut counter =
        Counter { copy, tally: Arc::clone(tally), control: control.clone(), files: 0, bytes: 0 };
    let counted = events.clone();
    spawn("counter", &deaths, move || {
        let walked = walk::walk(to_count, skip_links, &mut counter);
        if walked.and_then(|()| counter.tell(true)).is_ok() {
            let _ = counted.send(ReaderEvent::Counted);
        }
    })?;
    for _ in 0..READERS {
        let reader = Reader {
            copy,
            jobs: Arc::clone(&jobs),
            outgoing: outgoing.clone(),
            events: events.clone(),
            tally: Arc::clone(tally),
        };
        spawn("reader", &deaths, move || reader.run())?;
    }

    let transmit = async {
        loop {
            // Announcements first: the sink shall always know of more work than it has content for.
            let message = tokio::select! {
                biased;
                Some(message) = control_queue.recv() => message,
                Some(message) = outgoing_queue.recv() => message,
                else => return Err(TransferError::Worker),
            };
            conversation.send(message).await?;
        }
    };
    let mut engine = Engine {
        copy,
        control,
        outgoing,
        events: event_queue,
        found: found_queue,
        walking: true,
        counting: true,
        reading: 0,
        waiting: VecDeque::new(),
        jobs,
        in_flight: BTreeMap::new(),
        directories: 0,
        finishing: false,
        tally: Arc::clone(tally),
    };
    tokio::select! {
        ended = engine.run(conversation) => ended,
        failed = transmit => failed,
        what = died.recv() => {
            tracing::error!(what, "a thread died");
            Err(TransferError::Worker)
        }
    }
}

struct Engine {
    copy: u32,
    control: mpsc::UnboundedSender<Message>,
    outgoing: mpsc::Sender<Message>,
    events: mpsc::UnboundedReceiver<ReaderEvent>,
    found: mpsc::Receiver<Found>,
    walking: bool,
    counting: bool,
    /// Files that the readers are not through with.
    reading: usize,
    /// Entries to be sent, in order.
    waiting: VecDeque<Entry>,
    jobs: Arc<Jobs>,
    in_flight: BTreeMap<u64, InFlight>,
    /// How many of these are directories.
    directories: usize,
    finishing: bool,
    tally: Arc<Tally>,
}

impl Engine {
    async fn run<L: Link>(&mut self, conversation: &Conversation<'_, L>) -> Result<Ended, TransferError> {
        let mut batch = Vec::new();
        loop {
            let room = ENTRIES_IN_FLIGHT_MAX.saturating_sub(self.in_flight.len());
            let room = room.min(DIRECTORIES_OPEN_MAX.saturating_sub(self.directories));
            let take = self.walking && room > 0;
            let busy = self.walking || self.counting || self.reading > 0 || !self.in_flight.is_empty();
            if !busy && !self.finishing {
                self.finishing = true;
                // Behind everything that the readers have queued. Nobody has anything more to say to us meanwhile.
                let finish = Message::Finish { copy: self.copy };
                self.outgoing.send(finish).await.map_err(|_| TransferError::Worker)?;
            }
            tokio::select! {
                biased;
                event = self.events.recv() => self.reader_says(event.ok_or(TransferError::Worker)?),
                heard = conversation.recv() => match heard? {
                    Heard::Interrupt(interrupt) => return Ok(Ended::Interrupted(interrupt)),
                    Heard::Message(Message::Answers { answers, .. }) => self.answers(answers)?,
                    Heard::Message(Message::Finished { .. }) if self.finishing => return Ok(Ended::Complete),
                    Heard::Message(other) => {
                        return Err(Violation::Unexpected { name: other.name(), when: "from a sink" }.into());
                    }
                },
                count = self.found.recv_many(&mut batch, room.min(ENTRIES_PER_MESSAGE_MAX)), if take => {
                    if count == 0 {
                        self.walking = false;
                    }
                    for found in batch.drain(..) {
                        self.found(found)?;
                    }
                    self.send_entries()?;
                }
            }
        }
    }

    fn say(&self, message: Message) -> Result<(), TransferError> {
        self.control.send(message).map_err(|_| TransferError::Worker)
    }

    fn found(&mut self, found: Found) -> Result<(), TransferError> {
        match found {
            Found::Report { path, error } => {
                // In order with the entries, though nothing depends on it.
                self.send_entries()?;
                let mut bytes = path.as_os_str().as_encoded_bytes().to_vec();
                // What is at the end says more than what is at the beginning.
                bytes.drain(..bytes.len().saturating_sub(PATH_BYTES_MAX));
                self.tally.failed(path, Side::Local, error);
                self.say(Message::Report { copy: self.copy, path: bytes, error })
            }
            Found::Entry(entry, record) => {
                match (&entry, record) {
                    (Entry::File { id, .. }, Record::File(file)) => {
                        self.in_flight.insert(*id, InFlight::File { file, phase: Phase::Announced });
                    }
                    (Entry::Directory { id, .. }, Record::Directory(directory)) => {
                        self.directories += 1;
                        self.in_flight.insert(*id, InFlight::Directory(directory));
                    }
                    (Entry::Link { id, .. }, Record::Link { parent, name }) => {
                        let path = parent.path_of(Some(&name));
                        self.in_flight.insert(*id, InFlight::Link { path });
                    }
                    (
                        Entry::End { .. } | Entry::File { .. } | Entry::Directory { .. } | Entry::Link { .. },
                        Record::End | Record::File(_) | Record::Directory(_) | Record::Link { .. },
                    ) => {}
                }
                self.waiting.push_back(entry);
                Ok(())
            }
        }
    }

    fn send_entries(&mut self) -> Result<(), TransferError> {
        while !self.waiting.is_empty() {
            let entries =
                batches(&mut self.waiting, ENTRIES_PER_MESSAGE_MAX, BATCH_FRONT_BYTES_TARGET, Entry::cost);
            self.say(Message::Entries { copy: self.copy, entries })?;
        }
        Ok(())
    }

    fn reader_says(&mut self, event: ReaderEvent) {
        match event {
            ReaderEvent::Counted => self.counting = false,
            ReaderEvent::Worked { jobs } => self.reading -= jobs,
            ReaderEvent::Sent { id, resumed, size } => {
                let Some(InFlight::File { phase, .. }) = self.in_flight.get_mut(&id) else { return };
                match phase {
                    Phase::Announced | Phase::Reading => *phase = Phase::Sent { resumed, size },
                    Phase::Refused | Phase::Sent { .. } => {
                        self.in_flight.remove(&id);
                    }
                }
            }
            ReaderEvent::GaveUp { id, error } => {
                let Some(InFlight::File { file, phase }) = self.in_flight.remove(&id) else { return };
                match phase {
                    Phase::Announced | Phase::Reading | Phase::Sent { .. } => {
                        self.tally.failed(file.path(), Side::Local, error);
                    }
                    Phase::Refused => {}
                }
            }
        }
    }

    fn answers(&mut self, answers: Vec<Answer>) -> Result<(), TransferError> {
        let mut jobs = Vec::new();
        for answer in answers {
            match answer {
                Answer::Want { id } => jobs.push(self.wanted(id, Basis::Nothing)?),
                Answer::Resume { id, offset, hash } => {
                    jobs.push(self.wanted(id, Basis::Prefix { offset, hash })?);
                }
                Answer::Compare { id, hash } => jobs.push(self.wanted(id, Basis::Whole { hash })?),
                Answer::Done { id, unchanged } => self.done(id, unchanged)?,
                Answer::Failed { id, error } => self.failed(id, error)?,
            }
        }
        if !jobs.is_empty() {
            self.reading += jobs.len();
            self.jobs.push(jobs);
        }
        Ok(())
    }

    fn wanted(&mut self, id: u64, basis: Basis) -> Result<Job, Violation> {
        match self.in_flight.get_mut(&id) {
            Some(InFlight::File { file, phase: phase @ Phase::Announced }) => {
                *phase = Phase::Reading;
                Ok(Job { id, file: Arc::clone(file), basis })
            }
            Some(
                InFlight::File { phase: Phase::Reading | Phase::Refused | Phase::Sent { .. }, .. }
                | InFlight::Directory(_)
                | InFlight::Link { .. },
            )
            | None => Err(Violation::UnknownEntry { name: "Want", id }),
        }
    }

    fn done(&mut self, id: u64, unchanged: bool) -> Result<(), Violation> {
        let wrong = Violation::UnknownEntry { name: "Done", id };
        match self.in_flight.remove(&id) {
            Some(InFlight::File { file, phase }) => match (phase, unchanged) {
                (Phase::Announced, true) => self.tally.file_unchanged(file.announced.size),
                (Phase::Sent { size, .. }, true) => self.tally.file_unchanged(size),
                (Phase::Sent { resumed, .. }, false) => self.tally.file_done(resumed),
                // The sink cannot have what was not sent.
                (Phase::Announced, false) | (Phase::Reading | Phase::Refused, _) => return Err(wrong),
            },
            Some(InFlight::Directory(_)) => {
                self.directories -= 1;
                self.tally.directory_done();
            }
            Some(InFlight::Link { .. }) => self.tally.link_done(),
            None => return Err(wrong),
        }
        Ok(())
    }

    fn failed(&mut self, id: u64, error: FileError) -> Result<(), Violation> {
        let path = match self.in_flight.get_mut(&id) {
            Some(InFlight::File { file, phase }) => match phase {
                Phase::Reading => {
                    // The reader has to say so before it is over.
                    file.cancelled.store(true, Ordering::Relaxed);
                    let path = file.path();
                    *phase = Phase::Refused;
                    self.tally.failed(path, Side::Remote, error);
                    return Ok(());
                }
                Phase::Announced | Phase::Sent { .. } => file.path(),
                Phase::Refused => return Err(Violation::UnknownEntry { name: "Failed", id }),
            },
            Some(InFlight::Directory(directory)) => {
                self.directories -= 1;
                directory.set_failed();
                directory.path_of(None)
            }
            Some(InFlight::Link { path }) => std::mem::take(path),
            None => return Err(Violation::UnknownEntry { name: "Failed", id }),
        };
        self.in_flight.remove(&id);
        self.tally.failed(path, Side::Remote, error);
        Ok(())
    }
}
