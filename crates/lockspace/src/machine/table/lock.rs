//! A lock.

use outlast_dlm::wire::{
    CallbackFlags, DistributedFlags, LockFlags, LockId, MessageKind, Mode, NodeId, Queue, StatusFlags,
};

use super::ResourceKey;

/// Whose lock it is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// One of our users'. The master is that of the resource, this node or another.
    Own,
    /// The copy of another node's lock, at the master of its resource: here.
    CopyFor(NodeId),
}

/// An answer that is awaited.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wait {
    /// What was asked: request, convert, unlock, cancel, lookup. `None`: that is answered, and only the answers to
    /// unlocks or cancels that overlapped it are outstanding.
    pub(crate) kind: Option<MessageKind>,
    /// Who was asked.
    pub(crate) node: NodeId,
    /// How many answers are awaited: one, and one for each unlock or cancel that overlaps.
    pub(crate) count: u32,
    /// Its place among all that wait; set by [`super::Table::set_wait`].
    pub(crate) order: u64,
}

/// A lock.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) id: LockId,
    pub(crate) resource: ResourceKey,
    pub(crate) role: Role,
    /// On the owner's node.
    pub(crate) process: u32,
    /// Its number at the other node: of an own lock at the master, of a copy at its owner.
    pub(crate) remote: LockId,
    /// What was asked for last.
    pub(crate) flags: LockFlags,
    pub(crate) status_flags: StatusFlags,
    pub(crate) distributed_flags: DistributedFlags,
    pub(crate) queue: Option<Queue>,
    pub(crate) granted: Option<Mode>,
    pub(crate) requested: Option<Mode>,
    /// The highest mode that the owner was told it blocks, since it was granted.
    pub(crate) blocking_told: Option<Mode>,
    /// What the owner wants to be told.
    pub(crate) callbacks: CallbackFlags,
    /// The value block of the owner: to be written, or as it was read.
    pub(crate) value: Option<Vec<u8>>,
    /// [`super::Resource::value_sequence`] when it was read or written.
    pub(crate) value_sequence: u32,
    /// The answer that is awaited, of an own lock. Kept by [`super::Table::set_wait`] alone.
    pub(crate) wait: Option<Wait>,
    /// An unlock came while an answer is awaited.
    pub(crate) overlap_unlock: bool,
    /// A cancel came while an answer is awaited.
    pub(crate) overlap_cancel: bool,
    /// Cancels whose answers are moot and yet to come, and from whom: the next answers of that node mean these.
    pub(crate) moot_cancels: Option<(NodeId, u32)>,
    /// In a recovery: what was asked is to be asked again.
    pub(crate) resend: bool,
    /// In a recovery: it converts between protected read and concurrent write, and nobody knows which it is held in.
    pub(crate) in_doubt: bool,
    /// How often in a row its request was refused by who is not the master.
    pub(crate) refusals: u32,
    /// Its request was refused, and is asked again after a while.
    pub(crate) paused: bool,
    /// It is over for its user; the last answer removes it.
    pub(crate) ending: bool,
    /// Operations of the user that wait until locking goes on.
    pub(crate) deferred: u32,
    /// The mode in the last completion that the user was told. A callback for what does not conflict with it is late.
    pub(crate) told_granted: Option<Mode>,
    /// What the user was told last was that the lock blocks this mode.
    pub(crate) told_blocking: Option<Mode>,
    /// The recovery that the lock was sent or received in.
    pub(crate) recover_sequence: u64,
}

impl Lock {
    pub(crate) const fn new(id: LockId, resource: ResourceKey, role: Role) -> Self {
        Self {
            id,
            resource,
            role,
            process: 0,
            remote: LockId::NONE,
            flags: LockFlags::NONE,
            status_flags: StatusFlags::NONE,
            distributed_flags: DistributedFlags::NONE,
            queue: None,
            granted: None,
            requested: None,
            blocking_told: None,
            callbacks: CallbackFlags::NONE,
            value: None,
            value_sequence: 0,
            wait: None,
            overlap_unlock: false,
            overlap_cancel: false,
            moot_cancels: None,
            resend: false,
            in_doubt: false,
            refusals: 0,
            paused: false,
            ending: false,
            deferred: 0,
            told_granted: None,
            told_blocking: None,
            recover_sequence: 0,
        }
    }

    /// Whether its owner wants to be told when it blocks another.
    pub(crate) const fn wants_blocking(&self) -> bool {
        self.callbacks.contains(CallbackFlags::BLOCKING)
    }

    /// Whether an answer is awaited that may yet change what becomes of an unlock or cancel.
    pub(crate) const fn has_overlap(&self) -> bool {
        self.overlap_unlock || self.overlap_cancel
    }
}
