//! The receiving end of a copy, whichever of client and server it is.
//!
//! ```text
//!  session --> engine --entries--> planner --expected--> writers --whole files--> committer
//!                 `--------------content---------------->   |                         |
//!  session <-- engine <------------ answers ----------------+-------------------------+
//! ```
//!
//! The planner, the writers and the committer are threads; the engine is one future. The queues towards the disk are
//! bounded and hold up the session when the disk is slow; the one of answers is bounded by what may be in flight, so no
//! thread ever waits for the session. Dropping the future closes the queues, and the threads end with what they
//! have: whole files are still put in place, what is half-way over stays as a partial file.

mod commit;
mod planner;
mod tree;
mod writer;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, sleep};

use self::planner::{Planner, PlannerJob, writer_of};
use self::tree::{Shared, SinkEvent};
use self::writer::{Writer, WriterJob};
use crate::claims::{Copying, Engine};
use crate::error::{Side, TransferError, Violation};
use crate::limits::{ANSWERS_PER_MESSAGE_MAX, COMMIT_FILES_MAX, WRITER_QUEUE_JOBS, WRITERS};
use crate::link::{Conversation, Ended, Heard, Link, batches};
use crate::place::Targets;
use crate::progress::Tally;
use crate::threads::spawn;
use crate::wire::{Message, WireError};

/// `Entries` messages that may wait for the planner.
const PLANNER_QUEUE_JOBS: usize = 8;

/// How often a sink looks whether it has a connection, in milliseconds: well below the time for which another copy waits
/// for its locks.
const CONNECTED_POLL_MS: u64 = 200;

/// What a sink is to do.
pub(crate) struct Assignment {
    /// Where each item goes; not empty.
    pub(crate) targets: Targets,
    pub(crate) checksum: bool,
    pub(crate) skip_links: bool,
    pub(crate) sync: bool,
}

/// Receives everything and puts it in its place.
pub(crate) async fn run<L: Link>(
    conversation: &Conversation<'_, L>,
    assignment: Assignment,
    tally: &Arc<Tally>,
) -> Result<Ended, TransferError> {
    let Assignment { targets: Targets { targets, path: destination }, checksum, skip_links, sync } =
        assignment;
    let (events, mut event_queue) = mpsc::unbounded_channel();
    let (deaths, mut died) = mpsc::unbounded_channel();
    let copying = Copying::new();
    let _engine = Engine(Arc::clone(&copying));
    let shared = Arc::new(Shared {
        events,
        copying: Arc::clone(&copying),
        tally: Arc::clone(tally),
        sync,
        outstanding: AtomicUsize::new(0),
        directories: AtomicUsize::new(0),
    });

    let (commits, commit_queue) = mpsc::channel(COMMIT_FILES_MAX);
    spawn("committer", &deaths, {
        let shared = Arc::clone(&shared);
        move || commit::run(&shared, commit_queue)
    })?;
    let mut writers = Vec::with_capacity(WRITERS);
    for _ in 0..WRITERS {
        let (jobs, queue) = mpsc::channel(WRITER_QUEUE_JOBS);
        let writer = Writer::new(Arc::clone(&shared), commits.clone());
        spawn("writer", &deaths, move || writer.run(queue))?;
        writers.push(jobs);
    }
    drop(commits);
    let (plans, plan_queue) = mpsc::channel(PLANNER_QUEUE_JOBS);
    let path = PathBuf::from(OsStr::from_bytes(&destination));
    let flags = (checksum, skip_links);
    let planner = Planner::new(Arc::clone(&shared), writers.clone(), targets, destination, flags)
        .map_err(|error| TransferError::Local { path, error })?;
    spawn("planner", &deaths, move || planner.run(plan_queue))?;
    drop(shared);

    let receive = receive(conversation, &plans, &writers, tally);
    let answer = answer(conversation, &mut event_queue);
    tokio::select! {
        ended = receive => ended,
        ended = answer => ended,
        () = watch(conversation.link, &copying) => Err(TransferError::TakenOver),
        what = died.recv() => {
            tracing::error!(what, "a thread died");
            Err(TransferError::Worker)
        }
    }
}

/// Lets other copies know whether this one has a connection, until one takes over because it has none.
async fn watch(link: &impl Link, copying: &Copying) {
    let looking = async {
        loop {
            copying.set_connected(link.is_connected());
            sleep(Duration::from_millis(CONNECTED_POLL_MS)).await;
        }
    };
    tokio::select! {
        () = looking => {}
        () = copying.taken_over() => {}
    }
}

async fn receive<L: Link>(
    conversation: &Conversation<'_, L>,
    plans: &mpsc::Sender<PlannerJob>,
    writers: &[mpsc::Sender<WriterJob>],
    tally: &Tally,
) -> Result<Ended, TransferError> {
    let mut finished = false;
    loop {
        let message = match conversation.recv().await? {
            Heard::Interrupt(interrupt) => return Ok(Ended::Interrupted(interrupt)),
            Heard::Message(message) => message,
        };
        if finished {
            return Err(Violation::Unexpected { name: message.name(), when: "after Finish" }.into());
        }
        let (id, job) = match message {
            Message::Entries { entries, .. } => {
                give(plans, PlannerJob::Entries(entries)).await?;
                continue;
            }
            Message::Finish { .. } => {
                finished = true;
                // The last words about files are with the writers.
                for writer in writers {
                    let (done, wait) = oneshot::channel();
                    give(writer, WriterJob::End(done)).await?;
                    if wait.await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                give(plans, PlannerJob::Finish).await?;
                continue;
            }
            Message::Totals { files, bytes, complete, .. } => {
                tally.totals(files, bytes, complete);
                continue;
            }
            Message::Report { path, error, .. } => {
                tally.failed(PathBuf::from(OsStr::from_bytes(&path)), Side::Remote, error);
                continue;
            }
            Message::Bundle { files, mut data, .. } => {
                let mut jobs: [Vec<_>; WRITERS] = Default::default();
                for file in files {
                    let len = usize::try_from(file.len).unwrap_or(usize::MAX);
                    if len > data.len() {
                        // The decoder has compared the sum; this is for the reader of this code.
                        return Err(WireError::DataLength {
                            kind: "Bundle",
                            got: data.len() as u64,
                            expected: file.len.into(),
                        }
                        .into());
                    }
                    jobs[writer_of(file.id)].push((file, data.split_to(len)));
                }
                for (writer, files) in writers.iter().zip(jobs) {
                    if !files.is_empty() {
                        give(writer, WriterJob::Files(files)).await?;
                    }
                }
                continue;
            }
            Message::Data { id, offset, last, data, .. } => (id, WriterJob::Data { id, offset, last, data }),
            Message::Changed { id, size, attributes, .. } => {
                (id, WriterJob::Changed { id, size, attributes })
            }
            Message::Unchanged { id, .. } => (id, WriterJob::Unchanged { id }),
            Message::GiveUp { id, error, .. } => (id, WriterJob::GiveUp { id, error }),
            other @ (Message::Hello { .. }
            | Message::Welcome { .. }
            | Message::Refused { .. }
            | Message::Start { .. }
            | Message::Started { .. }
            | Message::Answers { .. }
            | Message::Finished { .. }) => {
                return Err(Violation::Unexpected { name: other.name(), when: "from a source" }.into());
            }
        };
        give(&writers[writer_of(id)], job).await?;
    }
}

/// Queues work for a thread. One that is gone has found a violation, which [`answer`] is about to tell; then there is
/// nothing more to receive.
async fn give<J>(queue: &mpsc::Sender<J>, job: J) -> Result<(), TransferError> {
    if queue.send(job).await.is_err() {
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Sends what the threads have to say.
async fn answer<L: Link>(
    conversation: &Conversation<'_, L>,
    events: &mut mpsc::UnboundedReceiver<SinkEvent>,
) -> Result<Ended, TransferError> {
    let copy = conversation.copy;
    let mut batch = Vec::new();
    let mut answers = VecDeque::new();
    loop {
        if events.recv_many(&mut batch, ANSWERS_PER_MESSAGE_MAX).await == 0 {
            return Err(TransferError::Worker);
        }
        let mut finished = false;
        for event in batch.drain(..) {
            match event {
                SinkEvent::Answer(answer) => answers.push_back(answer),
                SinkEvent::Violation(violation) => return Err(violation.into()),
                SinkEvent::Finished => finished = true,
            }
        }
        while !answers.is_empty() {
            let answers = batches(&mut answers, ANSWERS_PER_MESSAGE_MAX, usize::MAX, |_| 0);
            conversation.send(Message::Answers { copy, answers }).await?;
        }
        if finished {
            conversation.send(Message::Finished { copy }).await?;
            return Ok(Ended::Complete);
        }
    }
}
