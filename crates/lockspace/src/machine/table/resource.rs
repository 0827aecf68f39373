//! A resource.

use std::collections::VecDeque;

use outlast_dlm::wire::{LockId, Name, NodeId, Queue};
use outlast_session::Instant;

/// What locks are about. One node is its master and decides; on others it holds their own locks, on its directory
/// node it says who the master is.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) name: Name,
    pub(crate) hash: u32,
    /// Who knows the master. Changes with the membership.
    pub(crate) directory: NodeId,
    /// Who decides. `None`: not known yet; somebody was asked if there is a [`Resource::first_lock`].
    pub(crate) master: Option<NodeId>,
    /// There are locks here, or requests under way. Else it is kept for a while, or a place in the directory.
    pub(crate) active: bool,
    /// When an unused one is removed. Kept by [`super::Table::set_toss`] alone.
    pub(crate) toss_at: Option<Instant>,
    /// How many locks name this resource, in a queue or not. Kept by [`super::Table`].
    pub(crate) attached: u32,
    /// The queues of the master; elsewhere, what is known of our own locks.
    pub(crate) granted: Vec<LockId>,
    pub(crate) converting: Vec<LockId>,
    pub(crate) waiting: Vec<LockId>,
    /// The request that finds out whether the master is the right one; others wait for what becomes of it.
    pub(crate) first_lock: Option<LockId>,
    /// Requests that wait for [`Resource::first_lock`].
    pub(crate) lookup_queue: VecDeque<LockId>,
    /// The value block, on the master.
    pub(crate) value: Option<Vec<u8>>,
    /// Counts the writes of the value block.
    pub(crate) value_sequence: u32,
    /// Who wrote the value block last died, or said that it is not valid.
    pub(crate) value_not_valid: bool,
    /// The master may not be the right one any more: the next request finds out.
    pub(crate) master_uncertain: bool,
    /// In a recovery: it gets a new master.
    pub(crate) new_master: bool,
    /// At the directory node: the master knows that it is the master, since the last recovery began. Who is told so when
    /// a recovery begins may never hear of it.
    pub(crate) master_told: bool,
    /// In a recovery: this node became the master.
    pub(crate) became_master: bool,
    /// In a recovery: conversions are in doubt.
    pub(crate) recover_convert: bool,
    /// In a recovery: locks may be granted afterwards.
    pub(crate) recover_grant: bool,
    /// In a recovery: the value block is to be judged.
    pub(crate) recover_value: bool,
    /// In a recovery: how many locks the new master has yet to confirm.
    pub(crate) recover_locks: u32,
}

impl Resource {
    pub(crate) const fn new(name: Name, hash: u32, directory: NodeId) -> Self {
        Self {
            name,
            hash,
            directory,
            master: None,
            active: true,
            toss_at: None,
            attached: 0,
            granted: Vec::new(),
            converting: Vec::new(),
            waiting: Vec::new(),
            first_lock: None,
            lookup_queue: VecDeque::new(),
            value: None,
            value_sequence: 0,
            value_not_valid: false,
            master_uncertain: false,
            new_master: false,
            master_told: false,
            became_master: false,
            recover_convert: false,
            recover_grant: false,
            recover_value: false,
            recover_locks: 0,
        }
    }

    /// Whether the master became it in a recovery that ended before it can have heard of it: then it has not said so in
    /// this one.
    pub(crate) const fn is_unheard(&self) -> bool {
        !self.master_told && (self.new_master || self.became_master)
    }

    pub(crate) const fn queue(&self, queue: Queue) -> &Vec<LockId> {
        match queue {
            Queue::Waiting => &self.waiting,
            Queue::Granted => &self.granted,
            Queue::Converting => &self.converting,
        }
    }

    pub(crate) const fn queue_mut(&mut self, queue: Queue) -> &mut Vec<LockId> {
        match queue {
            Queue::Waiting => &mut self.waiting,
            Queue::Granted => &mut self.granted,
            Queue::Converting => &mut self.converting,
        }
    }

    /// Whether no lock is in any queue.
    pub(crate) fn is_unlocked(&self) -> bool {
        self.granted.is_empty() && self.converting.is_empty() && self.waiting.is_empty()
    }

    /// All locks in the queues: granted, converting, waiting.
    pub(crate) fn lock_ids(&self) -> impl Iterator<Item = LockId> + '_ {
        self.granted.iter().chain(&self.converting).chain(&self.waiting).copied()
    }
}
