//! Messages from a master about own locks (Linux, `lock.c`).

use outlast_dlm::wire::{LockId, Message, MessageKind, Mode, NodeId, Queue, StatusFlags};
use outlast_session::Instant;

use super::receive::malformed;
use super::rules;
use crate::machine::errno::{EAGAIN, EBADR, ECANCEL, EDEADLK, EINPROGRESS, ENOENT, ENOTBLK, EUNLOCK};
use crate::machine::table::{Lock, Role};
use crate::machine::{Machine, MachineFault, Outcome};

impl Machine {
    /// The own lock that a message of its master is about; `None` if it is gone.
    fn own_lock_of(&mut self, from: NodeId, message: &Message) -> Result<Option<LockId>, MachineFault> {
        let id = message.remote_lock;
        let Some(lock) = self.table.lock(id) else {
            self.statistics.ignored += 1;
            return Ok(None);
        };
        let sender = match (lock.role, message.kind) {
            (Role::CopyFor(_), _) => None,
            // The directory node, if it is the master, answers a lookup like this.
            (Role::Own, MessageKind::RequestReply) => lock.wait.map(|wait| wait.node),
            // Who was asked answers, whoever is believed to be the master by now.
            (Role::Own, MessageKind::ConvertReply | MessageKind::UnlockReply | MessageKind::CancelReply) => {
                let moot = lock.moot_cancels.map(|(node, _)| node);
                lock.wait.map(|wait| wait.node).or(moot).or_else(|| self.other_node(id))
            }
            (Role::Own, _) => self.other_node(id),
        };
        if sender == Some(from) {
            Ok(Some(id))
        } else {
            Err(MachineFault::NotTheirs { node: from, kind: message.kind, lock: id })
        }
    }

    pub(super) fn receive_request_reply(
        &mut self,
        from: NodeId,
        message: &Message,
        now: Instant,
    ) -> Result<(), MachineFault> {
        let Some(id) = self.own_lock_of(from, message)? else { return Ok(()) };
        let Some(lock) = self.table.lock(id) else { return Ok(()) };
        let asked = lock.wait.and_then(|wait| wait.kind);
        let key = lock.resource;
        let by_master = [0, -EINPROGRESS, -EAGAIN].contains(&message.result);
        match asked {
            // Who decides is the master, whatever was believed when another request was refused meanwhile.
            Some(MessageKind::Request | MessageKind::Lookup) if by_master => {
                // Who took in no lock may have forgotten the name in a recovery since.
                let is_sure = message.result != -EAGAIN || !self.is_of_before();
                if let Some(resource) = self.table.resource_mut(key) {
                    resource.master = Some(from);
                    resource.master_told |= is_sure;
                }
            }
            Some(MessageKind::Request | MessageKind::Lookup) => {}
            Some(_) | None => {
                return Err(MachineFault::Unexpected {
                    node: from,
                    kind: message.kind,
                    lock: id,
                    why: "nothing was requested",
                });
            }
        }
        self.take_answer(id, MessageKind::RequestReply, message.result);
        match message.result {
            0 => {
                self.take_reply(id, message);
                let read = self.receive_value(id, message.value_sequence, &message.extra);
                self.set_granted(id);
                self.complete_granted(id, read);
                self.confirm_master(key, 0, now);
            }
            result if result == -EINPROGRESS => {
                self.take_reply(id, message);
                self.table.enqueue(id, Queue::Waiting);
                self.confirm_master(key, result, now);
            }
            result if result == -EAGAIN => {
                self.complete(id, Outcome::WouldBlock);
                self.confirm_master(key, result, now);
                self.end_lock(id, now);
                return Ok(());
            }
            result if result == -EBADR || result == -ENOTBLK => {
                self.not_the_master(id, from, result, now);
                return Ok(());
            }
            result => {
                // Linux leaves such a request hanging.
                self.complete(id, Outcome::Failed(result));
                self.confirm_master(key, -EAGAIN, now);
                self.end_lock(id, now);
                return Ok(());
            }
        }
        // What came in between can be asked for now that the master knows the lock.
        let Some(lock) = self.table.lock_mut(id) else { return Ok(()) };
        let unlock = core::mem::take(&mut lock.overlap_unlock);
        let cancel = core::mem::take(&mut lock.overlap_cancel) && lock.queue == Some(Queue::Waiting);
        if unlock {
            self.ask_about(id, MessageKind::Unlock);
        } else if cancel {
            self.ask_about(id, MessageKind::Cancel);
        }
        Ok(())
    }

    /// The node that was asked is not the master any more: the directory knows better.
    fn not_the_master(&mut self, id: LockId, from: NodeId, result: i32, now: Instant) {
        let us = self.config.node;
        let Some(lock) = self.table.lock_mut(id) else { return };
        let (unlock, cancel) =
            (core::mem::take(&mut lock.overlap_unlock), core::mem::take(&mut lock.overlap_cancel));
        let key = lock.resource;
        // Another request may have been refused before this one, and have found the new master already.
        if let Some(resource) = self.table.resource_mut(key)
            && resource.directory != us
            && resource.master == Some(from)
            && resource.is_unlocked()
        {
            resource.master = None;
        }
        if unlock || cancel {
            self.complete(id, if unlock { Outcome::Unlocked } else { Outcome::Canceled });
            self.confirm_master(key, result, now);
            self.end_lock(id, now);
            return;
        }
        self.statistics.lookups_again += 1;
        if self.pause_refused(id, now) {
            return;
        }
        self.request_lock(id, now);
        if self.is_master(key) {
            self.confirm_master(key, 0, now);
        }
    }

    /// The answers to conversions, unlocks and cancels.
    pub(super) fn receive_reply(
        &mut self,
        from: NodeId,
        message: &Message,
        now: Instant,
    ) -> Result<(), MachineFault> {
        let Some(id) = self.own_lock_of(from, message)? else { return Ok(()) };
        if message.kind == MessageKind::CancelReply && self.take_moot_answer(id, from) {
            return Ok(());
        }
        self.answered(id, message.kind, message.result, Some(message), now);
        Ok(())
    }

    /// As if the master, which is gone, had answered.
    pub(crate) fn reply_locally(&mut self, id: LockId, kind: MessageKind, result: i32, now: Instant) {
        self.answered(id, kind, result, None, now);
    }

    fn answered(
        &mut self,
        id: LockId,
        kind: MessageKind,
        result: i32,
        message: Option<&Message>,
        now: Instant,
    ) {
        if !self.take_answer(id, kind, result) {
            self.statistics.ignored += 1;
            return;
        }
        match kind {
            MessageKind::ConvertReply => self.convert_answered(id, result, message),
            MessageKind::UnlockReply => self.unlock_answered(id, result, message, now),
            MessageKind::CancelReply => self.cancel_answered(id, result, message, now),
            MessageKind::Request
            | MessageKind::Convert
            | MessageKind::Unlock
            | MessageKind::Cancel
            | MessageKind::RequestReply
            | MessageKind::Grant
            | MessageKind::Blocking
            | MessageKind::Lookup
            | MessageKind::Remove
            | MessageKind::LookupReply
            | MessageKind::Purge => {}
        }
        self.reap(id, now);
    }

    fn convert_answered(&mut self, id: LockId, result: i32, message: Option<&Message>) {
        if result == 0 || result == -EINPROGRESS {
            if let Some(lock) = self.table.lock_mut(id) {
                take_reply_flags(lock, message);
                take_demotion(lock);
            }
            if result != 0 {
                self.table.enqueue(id, Queue::Converting);
                return;
            }
            if let Some(lock) = self.table.lock_mut(id) {
                take_alternate(lock);
            }
            let read =
                message.is_some_and(|message| self.receive_value(id, message.value_sequence, &message.extra));
            self.set_granted(id);
            self.complete_granted(id, read);
        } else if result == -EAGAIN {
            self.complete(id, Outcome::WouldBlock);
        } else {
            if let Some(lock) = self.table.lock_mut(id) {
                take_reply_flags(lock, message);
            }
            self.revert_here(id);
            self.complete(id, if result == -EDEADLK { Outcome::Deadlock } else { Outcome::Failed(result) });
        }
    }

    fn unlock_answered(&mut self, id: LockId, result: i32, message: Option<&Message>, now: Instant) {
        let Some(lock) = self.table.lock_mut(id) else { return };
        if result == -EUNLOCK {
            take_reply_flags(lock, message);
            lock.granted = None;
            self.complete(id, Outcome::Unlocked);
            self.end_lock(id, now);
        } else if !lock.ending {
            // If it is ending, a cancel came first, and there was nothing left to unlock.
            self.complete(id, Outcome::Failed(result));
            if result == -ENOENT {
                self.end_lock(id, now);
            }
        }
    }

    fn cancel_answered(&mut self, id: LockId, result: i32, message: Option<&Message>, now: Instant) {
        if result != -ECANCEL {
            // It came too late; what it was to take back has its own answer.
            return;
        }
        let Some(lock) = self.table.lock_mut(id) else { return };
        take_reply_flags(lock, message);
        let held = message.and_then(|message| message.granted);
        if held.is_some() && held == lock.requested && lock.queue == Some(Queue::Converting) {
            // A recovery found that the conversion was done (Linux cancels it nevertheless, and keeps the new mode).
            self.set_granted(id);
            self.complete_granted(id, false);
            return;
        }
        // It may have been demoted while it stood in the queue, of which nothing else tells (and Linux does not notice).
        if let Some(mode) = message.and_then(|message| message.granted) {
            lock.granted = lock.granted.map(|granted| granted.min(mode));
        }
        self.revert_here(id);
        self.complete(id, Outcome::Canceled);
        self.end_if_nothing(id, now);
    }

    pub(super) fn receive_grant(&mut self, from: NodeId, message: &Message) -> Result<(), MachineFault> {
        let Some(id) = self.own_lock_of(from, message)? else { return Ok(()) };
        let Some(lock) = self.table.lock_mut(id) else { return Ok(()) };
        if lock.ending {
            self.statistics.ignored += 1;
            return Ok(());
        }
        let waits = matches!(lock.queue, Some(Queue::Waiting | Queue::Converting));
        if !waits || lock.requested.is_none() {
            return Err(MachineFault::Unexpected {
                node: from,
                kind: message.kind,
                lock: id,
                why: "it does not wait",
            });
        }
        take_reply_flags(lock, Some(message));
        take_alternate(lock);
        let read = self.receive_value(id, message.value_sequence, &message.extra);
        self.set_granted(id);
        self.complete_granted(id, read);
        Ok(())
    }

    pub(super) fn receive_blocking(&mut self, from: NodeId, message: &Message) -> Result<(), MachineFault> {
        let Some(id) = self.own_lock_of(from, message)? else { return Ok(()) };
        let mode = message.blocked.ok_or_else(|| malformed(from, message, "no mode"))?;
        self.tell_user_blocking(id, mode);
        if let Some(lock) = self.table.lock_mut(id) {
            lock.blocking_told = Some(mode);
        }
        Ok(())
    }

    /// The master knows the lock by this number now.
    fn take_reply(&mut self, id: LockId, message: &Message) {
        if let Some(lock) = self.table.lock_mut(id) {
            take_reply_flags(lock, Some(message));
            lock.remote = message.lock;
            take_alternate(lock);
        }
    }
}

/// Flags that the master sets.
fn take_reply_flags(lock: &mut Lock, message: Option<&Message>) {
    if let Some(message) = message {
        lock.status_flags = message.status_flags;
        lock.distributed_flags = message.distributed_flags;
    }
}

/// The master demoted the lock to null while it converts.
fn take_demotion(lock: &mut Lock) {
    if lock.status_flags.contains(StatusFlags::DEMOTED) && lock.granted.is_some() && lock.requested.is_some()
    {
        lock.granted = Some(Mode::Null);
    }
}

/// The master granted the other mode that the user named. Linux forgets this where a conversion is granted at once, and
/// believes to hold the mode that it asked for.
fn take_alternate(lock: &mut Lock) {
    if lock.status_flags.contains(StatusFlags::ALTERNATE_MODE)
        && let Some(mode) = rules::alternate_mode(lock.flags, lock.requested)
    {
        lock.requested = Some(mode);
    }
}
