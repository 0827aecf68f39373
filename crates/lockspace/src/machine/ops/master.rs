//! What the master of a resource does with the locks on it, its own and the copies of others' (Linux, `lock.c`).

use outlast_dlm::wire::{LockFlags, LockId, MessageKind, Mode, NodeId, Queue, StatusFlags};
use outlast_session::Instant;

use super::rules::{self, Asked, Decision};
use crate::machine::errno::{EAGAIN, ECANCEL, EDEADLK, EINPROGRESS};
use crate::machine::table::{Lock, ResourceKey, Role};
use crate::machine::{Machine, Outcome};

/// What the master decided about a request or a conversion.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Granted,
    Queued,
    WouldBlock,
    Deadlock,
}

impl Verdict {
    /// As an answer carries it.
    pub(super) const fn result(self) -> i32 {
        match self {
            Self::Granted => 0,
            Self::Queued => -EINPROGRESS,
            Self::WouldBlock => -EAGAIN,
            Self::Deadlock => -EDEADLK,
        }
    }
}

/// The strongest mode that locks in the queues wait for, and whether one waits for concurrent write, which protected
/// read blocks though it is numbered higher.
#[derive(Copy, Clone, Default)]
struct Blocked {
    high: Option<Mode>,
    concurrent_write: bool,
}

impl Blocked {
    fn add(&mut self, wanted: Option<Mode>) {
        self.high = self.high.max(wanted);
        self.concurrent_write |= wanted == Some(Mode::ConcurrentWrite);
    }
}

impl Machine {
    /// Whether this node is the master.
    pub(crate) fn is_master(&self, key: ResourceKey) -> bool {
        self.table.resource(key).is_some_and(|resource| resource.master == Some(self.config.node))
    }

    /// Takes in a new lock.
    pub(super) fn request_here(&mut self, id: LockId) -> Verdict {
        if rules::decide(&mut self.table, id, Asked::First) == Decision::Grant {
            self.grant_and_tell(id);
            return Verdict::Granted;
        }
        self.queue_or_refuse(id, Queue::Waiting)
    }

    /// Takes in another mode for a lock that is held.
    pub(super) fn convert_here(&mut self, id: LockId) -> Verdict {
        let decision = rules::decide(&mut self.table, id, Asked::First);
        let Some(lock) = self.table.lock(id) else { return Verdict::WouldBlock };
        let demoted = lock.status_flags.contains(StatusFlags::DEMOTED);
        match decision {
            Decision::Grant => {
                self.grant_and_tell(id);
                return Verdict::Granted;
            }
            Decision::Deadlock if !lock.flags.contains(LockFlags::NO_DEADLOCK_WAIT) => {
                self.revert_here(id);
                self.complete(id, Outcome::Deadlock);
                return Verdict::Deadlock;
            }
            Decision::Deadlock | Decision::Wait => {}
        }
        if demoted {
            // It gave something up: that may let others go on, and they came before.
            let key = lock.resource;
            self.grant_converting(key);
            let grantable = match (self.table.resource(key), self.table.lock(id)) {
                (Some(resource), Some(lock)) => {
                    rules::is_grantable(&self.table, resource, lock, Asked::First)
                }
                (None, _) | (_, None) => false,
            };
            if grantable {
                self.grant_and_tell(id);
                return Verdict::Granted;
            }
        }
        self.queue_or_refuse(id, Queue::Converting)
    }

    fn queue_or_refuse(&mut self, id: LockId, queue: Queue) -> Verdict {
        let refuse = self.table.lock(id).is_none_or(|lock| lock.flags.contains(LockFlags::NO_QUEUE));
        if refuse {
            self.complete(id, Outcome::WouldBlock);
            Verdict::WouldBlock
        } else {
            self.table.enqueue(id, queue);
            Verdict::Queued
        }
    }

    /// What a request does to others, once it was answered.
    pub(super) fn after_request(&mut self, id: LockId, verdict: Verdict, now: Instant) {
        match verdict {
            Verdict::Granted | Verdict::Deadlock => {}
            Verdict::WouldBlock => self.tell_blockers_of_refused(id),
            Verdict::Queued => self.after_queued(id, now),
        }
    }

    /// What a conversion does to others, once it was answered.
    pub(super) fn after_convert(&mut self, id: LockId, verdict: Verdict, now: Instant) {
        match verdict {
            Verdict::Granted => {
                if let Some(key) = self.table.lock(id).map(|lock| lock.resource) {
                    self.grant_pending(key, now);
                }
            }
            Verdict::Deadlock => {}
            Verdict::WouldBlock => self.tell_blockers_of_refused(id),
            Verdict::Queued => self.after_queued(id, now),
        }
    }

    /// What a lock does to others that has to wait.
    ///
    /// One that went to the head of its queue may be granted now, for nobody is before it; one that was demoted on its way
    /// may let others go on who care for no order. Linux lets both wait until something else happens.
    fn after_queued(&mut self, id: LockId, now: Instant) {
        let Some(lock) = self.table.lock(id) else { return };
        if lock.flags.contains(LockFlags::HEAD_OF_QUEUE) || lock.status_flags.contains(StatusFlags::DEMOTED) {
            self.grant_pending(lock.resource, now);
        }
        self.tell_blockers(id, Queue::Granted);
    }

    /// Gives a lock up, in whatever queue it is. Its number stays until it was answered.
    pub(super) fn unlock_here(&mut self, id: LockId) {
        self.write_value_at_unlock(id);
        self.table.unqueue(id);
        if let Some(lock) = self.table.lock_mut(id) {
            lock.granted = None;
        }
    }

    /// Takes back what waits, and says what there was to take back: 0 or -ECANCEL, as an answer carries it.
    pub(super) fn cancel_here(&mut self, id: LockId) -> i32 {
        // A conversion that a recovery found to be done waits only to be told so.
        let is_done = |lock: &Lock| lock.queue == Some(Queue::Converting) && lock.granted == lock.requested;
        if self.table.lock(id).is_some_and(is_done) {
            return 0;
        }
        match self.revert_here(id) {
            None | Some(Queue::Granted) => 0,
            Some(Queue::Waiting | Queue::Converting) => -ECANCEL,
        }
    }

    /// Undoes what waits: a request is in no queue any more, a conversion is granted as it was. Returns the queue that
    /// the lock was in.
    pub(super) fn revert_here(&mut self, id: LockId) -> Option<Queue> {
        let lock = self.table.lock_mut(id)?;
        lock.requested = None;
        let queue = lock.queue;
        match queue {
            None | Some(Queue::Granted) => {}
            Some(Queue::Converting) => self.table.enqueue(id, Queue::Granted),
            Some(Queue::Waiting) => {
                lock.granted = None;
                self.table.unqueue(id);
            }
        }
        queue
    }

    /// Grants a lock, and tells its user if that is one of ours.
    fn grant_and_tell(&mut self, id: LockId) {
        let read = self.exchange_value(id);
        self.set_granted(id);
        self.complete_granted(id, read);
    }

    /// Grants a lock that waited.
    fn grant_waiting(&mut self, id: LockId) {
        self.grant_and_tell(id);
        if let Some(Role::CopyFor(owner)) = self.table.lock(id).map(|lock| lock.role) {
            self.send_about(id, owner, MessageKind::Grant, 0);
        }
    }

    /// Puts a lock among the granted ones in the mode that it asked for.
    pub(super) fn set_granted(&mut self, id: LockId) {
        let Some(lock) = self.table.lock_mut(id) else { return };
        let moves = lock.queue != Some(Queue::Granted) || lock.granted != lock.requested;
        lock.granted = lock.requested;
        if moves {
            self.table.enqueue(id, Queue::Granted);
        }
        if let Some(lock) = self.table.lock_mut(id) {
            lock.requested = None;
            lock.blocking_told = None;
        }
    }

    /// Grants what can be granted, and tells the holders what still waits for them.
    pub(crate) fn grant_pending(&mut self, key: ResourceKey, _now: Instant) {
        if !self.is_master(key) {
            return;
        }
        let mut blocked = self.grant_converting(key);
        let waiting = self.table.resource(key).map(|resource| resource.waiting.clone()).unwrap_or_default();
        for id in waiting {
            if rules::decide(&mut self.table, id, Asked::Queued) == Decision::Grant {
                self.grant_waiting(id);
            } else {
                blocked.add(self.table.lock(id).and_then(|lock| lock.requested));
            }
        }
        if blocked.high.is_some() {
            self.tell_holders(key, blocked);
        }
    }

    /// Grants conversions, from the first again whenever one was granted: each that is lets go of something.
    fn grant_converting(&mut self, key: ResourceKey) -> Blocked {
        let recovering = self.table.resource(key).is_some_and(|resource| resource.recover_grant);
        let asked = if recovering { Asked::Recovering } else { Asked::Queued };
        let mut demoted_before = false;
        // Each turn but the last grants one at least, or is the only one after a demotion.
        loop {
            let mut blocked = Blocked::default();
            let (mut granted, mut demoted) = (false, false);
            let queue =
                self.table.resource(key).map(|resource| resource.converting.clone()).unwrap_or_default();
            for id in queue {
                let before = self.table.lock(id).map(|lock| lock.status_flags).unwrap_or_default();
                let decision = rules::decide(&mut self.table, id, asked);
                let Some(lock) = self.table.lock_mut(id) else { continue };
                match decision {
                    Decision::Grant => {
                        self.grant_waiting(id);
                        granted = true;
                    }
                    Decision::Wait
                        if lock.status_flags.contains(StatusFlags::DEMOTED)
                            && !before.contains(StatusFlags::DEMOTED) =>
                    {
                        demoted = true;
                    }
                    Decision::Wait => blocked.add(lock.requested),
                    Decision::Deadlock => {
                        // Its owner was not told at once: it may step down by itself.
                        let told = lock.blocking_told;
                        let wanted = lock.requested;
                        if let Some(mode) = wanted
                            && lock.flags.contains(LockFlags::NO_DEADLOCK_WAIT)
                            && told < wanted
                        {
                            self.tell_blocking(id, mode);
                        }
                    }
                }
            }
            let again = demoted && !demoted_before;
            if !granted && !again {
                return blocked;
            }
            demoted_before |= demoted && !granted;
        }
    }

    fn tell_holders(&mut self, key: ResourceKey, blocked: Blocked) {
        let Some(high) = blocked.high else { return };
        let holders = self.table.resource(key).map(|resource| resource.granted.clone()).unwrap_or_default();
        for id in holders {
            let Some(holder) = self.table.lock(id) else { continue };
            if !rules::is_told_of_queued(holder, blocked.high, blocked.concurrent_write) {
                continue;
            }
            let protected_read = Some(Mode::ProtectedRead);
            let sideways = blocked.concurrent_write
                && blocked.high == protected_read
                && holder.granted == protected_read;
            self.tell_blocking(id, if sideways { Mode::ConcurrentWrite } else { high });
            if let Some(holder) = self.table.lock_mut(id)
                && holder.wants_blocking()
            {
                holder.blocking_told = blocked.high;
            }
        }
    }

    /// Tells those in one queue that they block this lock.
    fn tell_blockers(&mut self, id: LockId, queue: Queue) {
        let Some(lock) = self.table.lock(id) else { return };
        let (key, wanted) = (lock.resource, lock.requested);
        let Some(mode) = wanted else { return };
        let others =
            self.table.resource(key).map(|resource| resource.queue(queue).clone()).unwrap_or_default();
        for other in others.into_iter().filter(|other| *other != id) {
            if self.table.lock(other).is_some_and(|other| rules::is_told_of(other, wanted)) {
                self.tell_blocking(other, mode);
            }
        }
    }

    /// A lock that does not wait tells nobody, unless its user wants that.
    fn tell_blockers_of_refused(&mut self, id: LockId) {
        if self.table.lock(id).is_some_and(|lock| lock.flags.contains(LockFlags::NO_QUEUE_CALLBACK)) {
            self.tell_blockers(id, Queue::Granted);
            self.tell_blockers(id, Queue::Converting);
        }
    }

    /// Tells the owner of a lock, who wants to hear it, that the lock blocks this mode.
    fn tell_blocking(&mut self, id: LockId, mode: Mode) {
        let Some(lock) = self.table.lock_mut(id).filter(|lock| lock.wants_blocking()) else { return };
        lock.blocking_told = Some(mode);
        match lock.role {
            Role::Own => self.tell_user_blocking(id, mode),
            Role::CopyFor(owner) => self.send_blocking(id, owner, mode),
        }
    }

    /// The node that a lock's messages are exchanged with: the owner of a copy, the master of an own lock. `None`: an
    /// own lock that is mastered here, or whose master is not known.
    pub(crate) fn other_node(&self, id: LockId) -> Option<NodeId> {
        let lock = self.table.lock(id)?;
        match lock.role {
            Role::CopyFor(owner) => Some(owner),
            Role::Own => {
                let master = self.table.resource(lock.resource)?.master?;
                if master == self.config.node { None } else { Some(master) }
            }
        }
    }
}
