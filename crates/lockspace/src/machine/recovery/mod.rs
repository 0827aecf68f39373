//! Recovery: what nodes do when the membership has changed (Linux: `recoverd.c`, `recover.c`, `member.c`).
//!
//! All nodes are stopped before any is started. Then each goes through the same steps, and after each it waits until
//! all others have done it, too:
//!
//! ```text
//!  ask each member once, so that what is older is behind us     -> NODES
//!  ask each for the resources that our part of the directory lists  -> DIRECTORY
//!  drop the locks of those who left; find new masters; send them our locks  -> LOCKS
//!  drop what was saved and is void                              -> DONE
//!  go on: what was saved, what must be asked again, what can be granted now, what users asked for meanwhile
//! ```
//!
//! A stop at any moment ends it; what was found out so far stays marked on the resources for the next one.

mod copies;
mod flow;
mod masters;
mod names;
mod rcom;
mod saved;
mod slots;
mod status;
mod values;
mod waiters;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use outlast_dlm::wire::{Name, NodeId, RecoveryStatus, Slot};
use outlast_session::Instant;

use super::Machine;
use super::table::ResourceKey;
use saved::Saved;

pub use rcom::not_ready_reply;

/// How long an answer is awaited before the question is put again (Linux: `config.c`, 5 s).
const ANSWER_AFTER: Duration = Duration::from_secs(5);
/// How much longer the next wait is until a node is asked again how far it is (Linux: `recover.c`, 20 ms).
const POLL_STEP: Duration = Duration::from_millis(20);
/// The longest wait until a node is asked again how far it is (Linux: `recover.c`, 1 s).
const POLL_MAX: Duration = Duration::from_secs(1);

/// The recovery of the lockspace.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// Locking is in force; else it stands still.
    pub(crate) running: bool,
    /// Counts the stops and the starts. Answers to questions with another number are not for us.
    pub(crate) sequence: u64,
    /// Stopped and not started since.
    stopped: bool,
    /// The membership that we are at, as our owner numbers them; 0: not told.
    epoch: u64,
    /// What we say when asked how far we are.
    status: RecoveryStatus,
    /// Ours, from 1; 0: none yet.
    slot: u16,
    /// Counts the changes of membership; 0: never was a member.
    generation: u32,
    /// The slots that this node gave, as the lowest.
    given: Vec<Slot>,
    step: Step,
    /// The question whose answer is awaited; one at a time.
    question: Option<Question>,
    /// The number of the last question.
    question_last: u64,
    /// Resources whose new master was asked for, by the number of the question.
    lookups: BTreeMap<u64, ResourceKey>,
    lookup_last: u64,
    /// Resources whose new master has not confirmed all our locks.
    unconfirmed: BTreeSet<ResourceKey>,
    saved: Saved,
    /// How many of them are from before the recovery.
    saved_before: usize,
}

/// What the recovery waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    /// A start, or nothing: it is over.
    Rest,
    /// It cannot go on; the next stop and start may change that.
    Failed,
    /// The answer of each member in turn.
    Ping(Ping),
    /// That all are so far.
    Barrier(Barrier),
    /// The names that this member has for our part of the directory.
    Names(NodeId),
    /// The new masters: [`Recovery::lookups`].
    Masters,
    /// The confirmation of our locks: [`Recovery::unconfirmed`].
    Locks,
}

/// Asking each member once, so that what it sent before is behind us.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Ping {
    /// Who is asked.
    node: NodeId,
    /// How long the last wait was.
    wait: Duration,
    /// When to ask again, for it was still at another membership. `None`: the answer is awaited.
    again: Option<Instant>,
}

/// Waiting until all are so far.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Barrier {
    stage: Stage,
    /// Who is asked.
    node: NodeId,
    /// How long the last wait was.
    wait: Duration,
    /// When to ask again. `None`: the answer is awaited.
    again: Option<Instant>,
}

/// What all must have done.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Stage {
    Nodes,
    Directory,
    Locks,
    Done,
}

impl Stage {
    /// What a node says that has done it.
    const fn one(self) -> RecoveryStatus {
        match self {
            Self::Nodes => RecoveryStatus::NODES,
            Self::Directory => RecoveryStatus::DIRECTORY,
            Self::Locks => RecoveryStatus::LOCKS,
            Self::Done => RecoveryStatus::DONE,
        }
    }

    /// What the lowest node says when all have.
    const fn all(self) -> RecoveryStatus {
        match self {
            Self::Nodes => RecoveryStatus::NODES_ALL,
            Self::Directory => RecoveryStatus::DIRECTORY_ALL,
            Self::Locks => RecoveryStatus::LOCKS_ALL,
            Self::Done => RecoveryStatus::DONE_ALL,
        }
    }
}

/// A question whose answer the recovery waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Question {
    id: u64,
    to: NodeId,
    asks: Asks,
    /// When it is put again.
    again: Instant,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Asks {
    Status { need_slots: bool },
    Names { after: Option<Name> },
}

impl Recovery {
    pub(crate) fn new(first_sequence: u64) -> Self {
        Self {
            running: false,
            sequence: first_sequence,
            stopped: true,
            epoch: 0,
            status: RecoveryStatus::NONE,
            slot: 0,
            generation: 0,
            given: Vec::new(),
            step: Step::Rest,
            question: None,
            question_last: first_sequence,
            lookups: BTreeMap::new(),
            lookup_last: 0,
            unconfirmed: BTreeSet::new(),
            saved: VecDeque::new(),
            saved_before: 0,
        }
    }
}

impl Machine {
    /// Whether locks may be asked for and granted; else what is asked for waits.
    pub(crate) const fn is_running(&self) -> bool {
        self.recovery.running
    }
}
