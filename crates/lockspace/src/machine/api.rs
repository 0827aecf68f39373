//! What goes into a machine and what comes out of it.

use core::time::Duration;

use outlast_dlm::wire::{
    Inner, LockFlags, LockId, LockspaceId, MessageKind, Mode, Name, NameError, NodeId, Queue, StatusFlags,
};
use thiserror::Error;

/// How a lockspace is made. All nodes must agree on `value_block_bytes` and on `lockspace_flags`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// This node; not 0.
    pub node: NodeId,
    /// The lockspace.
    pub lockspace: LockspaceId,
    /// The size of a value block in bytes: a multiple of 8, usually 32.
    pub value_block_bytes: u32,
    /// As Linux tells them the others (`DLM_LSFL_*`).
    pub lockspace_flags: u32,
    /// How long a resource without locks is kept, in case it is wanted again. Linux: 5 s.
    pub toss_after: Duration,
    /// A random number, so that answers to questions of an earlier life of this node fit no question of this one.
    pub first_sequence: u64,
    /// How many locks there may be here: own ones and those of others on resources that are mastered here.
    pub locks_max: usize,
    /// How many resources there may be here, places in the directory included.
    pub resources_max: usize,
}

impl Config {
    /// With Linux's values for the rest.
    pub const fn new(node: NodeId, lockspace: LockspaceId) -> Self {
        Self {
            node,
            lockspace,
            value_block_bytes: super::limits::VALUE_BLOCK_BYTES,
            lockspace_flags: 0,
            toss_after: super::limits::TOSS_AFTER,
            first_sequence: 0,
            locks_max: super::limits::LOCKS_MAX,
            resources_max: super::limits::RESOURCES_MAX,
        }
    }
}

/// A member, as the membership tells it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who.
    pub node: NodeId,
    /// Its share of the directory; usually 1. 0: none.
    pub weight: u32,
    /// It was removed and came back since the last start: the locks that it had are gone.
    pub fresh: bool,
}

/// The membership told something impossible; nothing changed. The environment's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StartError {
    /// This node is not among the members.
    #[error("node {0} is not among the members")]
    NotAMember(NodeId),
    /// One is there twice.
    #[error("node {0} is there twice")]
    Twice(NodeId),
    /// Zero is no node.
    #[error("0 is no node")]
    Zero,
    /// More members than can have slots.
    #[error("{count} members, at most {max}")]
    TooMany {
        /// So many were told.
        count: usize,
        /// So many there can be.
        max: usize,
    },
    /// [`super::Machine::handle_stop`] comes first.
    #[error("the lockspace was not stopped")]
    NotStopped,
}

/// A peer sent what it must not. It costs its connection and a line in the log; the lockspace is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MachineFault {
    /// Another lockspace: the caller mixed them up.
    #[error("for lockspace {0}")]
    Lockspace(LockspaceId),
    /// What ends a session does not belong here.
    #[error("not about a lock")]
    NotAboutALock,
    /// From a node that is not a member.
    #[error("{kind:?} from node {node}, who is no member")]
    NotAMember {
        /// Who.
        node: NodeId,
        /// What.
        kind: MessageKind,
    },
    /// About a lock that is not the sender's.
    #[error("{kind:?} of node {node} about lock {lock}, which is not its own")]
    NotTheirs {
        /// Who.
        node: NodeId,
        /// What.
        kind: MessageKind,
        /// The lock's number here.
        lock: LockId,
    },
    /// About a lock that is in no state for it.
    #[error("{kind:?} of node {node} about lock {lock}: {why}")]
    Unexpected {
        /// Who.
        node: NodeId,
        /// What.
        kind: MessageKind,
        /// The lock's number here.
        lock: LockId,
        /// Why not.
        why: &'static str,
    },
    /// A message that lacks a mode, or whose value block has another size, or with flags that do not go together.
    #[error("{kind:?} of node {node}: {why}")]
    Malformed {
        /// Who.
        node: NodeId,
        /// What.
        kind: MessageKind,
        /// Why.
        why: &'static str,
    },
    /// A recovery message that cannot be.
    #[error("a recovery message of node {node}: {why}")]
    Recovery {
        /// Who.
        node: NodeId,
        /// Why.
        why: &'static str,
    },
}

/// What a user asked for cannot be done; nothing was. The user's fault, but for the limits.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UserError {
    /// The name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No such lock of a user on this node.
    #[error("there is no lock {0} here")]
    NoSuchLock(LockId),
    /// These flags do not go together, or not with this call (`EINVAL`).
    #[error("{0}")]
    Flags(&'static str),
    /// An operation of this lock is under way (`EBUSY`).
    #[error("lock {0} has an operation under way")]
    Busy(LockId),
    /// The value block has another size than the lockspace's.
    #[error("a value block of {len} bytes, the lockspace's have {want}")]
    ValueBlock {
        /// In bytes.
        len: usize,
        /// In bytes.
        want: u32,
    },
    /// As many locks as there may be.
    #[error("there are {0} locks, as many as there may be")]
    TooManyLocks(usize),
    /// As many resources as there may be.
    #[error("there are {0} resources, as many as there may be")]
    TooManyResources(usize),
    /// No such member.
    #[error("node {0} is no member")]
    NotAMember(NodeId),
    /// Not done by this lock manager.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// A message to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// To whom.
    pub to: NodeId,
    /// What.
    pub inner: Inner,
    /// `false`: without a number, before the peer's version is known. Loss is made up for by the recovery itself.
    pub numbered: bool,
}

/// What a user wants locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRequest {
    /// The resource.
    pub name: Name,
    /// How.
    pub mode: Mode,
    /// And how else.
    pub flags: LockFlags,
    /// The process that asks; others see it.
    pub process: u32,
    /// With [`LockFlags::VALUE_BLOCK`]: what the user is given if nobody wrote a value block yet; zeros, if this is `None`.
    pub value: Option<Vec<u8>>,
    /// Tell when the lock blocks another.
    pub wants_blocking: bool,
}

/// Something happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// What was asked for is answered.
    Completed {
        /// The lock.
        lock: LockId,
        /// How.
        outcome: Outcome,
    },
    /// A lock blocks another, which wants this mode.
    Blocking {
        /// The lock that is held.
        lock: LockId,
        /// The mode that another wants.
        mode: Mode,
    },
    /// The session layer may expect this node.
    MemberAdded(NodeId),
    /// The session layer shall forget this node.
    MemberRemoved(NodeId),
    /// Locking stands still.
    RecoveryBegun,
    /// The recovery cannot go on; locking stands still until the next stop and start.
    RecoveryFailed(RecoveryFailure),
    /// Locking goes on.
    RecoveryDone {
        /// Counts the changes of membership.
        generation: u32,
        /// Of this node, from 1.
        slot: u16,
        /// All, with their slots.
        members: Vec<(NodeId, u16)>,
    },
}

/// Why a recovery cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecoveryFailure {
    /// A node has made the lockspace in another way: whoever set up the nodes is at fault.
    #[error(
        "node {node} has the lockspace with value blocks of {value_block_bytes} bytes and flags {lockspace_flags:#x}"
    )]
    Configuration {
        /// Who.
        node: NodeId,
        /// There, in bytes.
        value_block_bytes: u32,
        /// There.
        lockspace_flags: u32,
    },
    /// More resources than there may be.
    #[error("there are more than {0} resources")]
    TooManyResources(usize),
    /// A directory node names no member as a master: the peer's fault, or that of the weights, if they are not the
    /// same everywhere.
    #[error("node {node} says that {result} is the master of a resource")]
    NoMaster {
        /// Who.
        node: NodeId,
        /// What it answered: no member's id, or a negative error number.
        result: i32,
    },
}

/// How an operation of a user ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The lock is held.
    Granted {
        /// In this mode: another than what was asked for, if an alternate one was allowed.
        mode: Mode,
        /// Look here.
        status_flags: StatusFlags,
        /// The value block, if it was asked for and the table of [`LockFlags::VALUE_BLOCK`] reads it here.
        value: Option<Vec<u8>>,
    },
    /// It could not be granted at once (`EAGAIN`). A request is over; a lock to convert is as it was.
    WouldBlock,
    /// It was canceled (`ECANCEL`). A request is over; a lock to convert is as it was, or null if
    /// [`LockFlags::CONVERSION_DEADLOCK`] allowed that ([`super::Machine::lock_view`] says so).
    Canceled,
    /// The lock is given up (`EUNLOCK`); its number means nothing any more.
    Unlocked,
    /// The conversion would wait for ever for another (`EDEADLK`); the lock is as it was.
    Deadlock,
    /// Something else, as a negative error number of Linux on x86. The lock is as it was; a request is over.
    Failed(i32),
}

/// A resource, for people to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResourceView {
    /// Its name.
    pub name: Name,
    /// Who decides; `None`: not known yet.
    pub master: Option<NodeId>,
    /// Who knows the master.
    pub directory: NodeId,
    /// No lock is there: kept for a while, or a place in the directory.
    pub unused: bool,
    /// What is known here. A node that is not the master knows its own locks only.
    pub locks: Vec<LockView>,
    /// The value block, on the master.
    pub value: Option<Vec<u8>>,
    /// Who wrote it last died before it could be kept.
    pub value_not_valid: bool,
}

/// A lock, for people to look at.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct LockView {
    /// Its number here.
    pub lock: LockId,
    /// Its number at the other node.
    pub remote_lock: LockId,
    /// Whose.
    pub owner: NodeId,
    /// Of the owner's node.
    pub process: u32,
    /// Where.
    pub queue: Option<Queue>,
    /// In this mode it is held.
    pub granted: Option<Mode>,
    /// In this mode it is wanted.
    pub requested: Option<Mode>,
    /// The answer to this is outstanding.
    pub waits_for: Option<MessageKind>,
}

/// Counts since the machine was made.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Operations of users that were asked for.
    pub operations: u64,
    /// Those that are answered.
    pub completions: u64,
    /// Times that a user was told that a lock blocks.
    pub blockings: u64,
    /// Messages about locks that came.
    pub messages: u64,
    /// Those that were ignored: late, or about locks that are gone.
    pub ignored: u64,
    /// Those that cost their sender the connection.
    pub faults: u64,
    /// Requests that had to look for the master again.
    pub lookups_again: u64,
}
