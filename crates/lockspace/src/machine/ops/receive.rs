//! Messages to a master (Linux, `lock.c`).

use outlast_dlm::wire::{LockFlags, LockId, Message, MessageKind, Mode, NodeId, Queue};
use outlast_session::Instant;

use super::master::Verdict;
use super::rules;
use crate::machine::errno::{EBADR, EBUSY, ENOENT, ENOMEM, EUNLOCK};
use crate::machine::table::{Lock, Role};
use crate::machine::{Machine, MachineFault};

impl Machine {
    /// Does what a message about a lock says. Whether it must wait for the end of a recovery was decided before.
    ///
    /// # Errors
    /// [`MachineFault`]; then nothing was done.
    pub(crate) fn receive_message(
        &mut self,
        from: NodeId,
        message: Message,
        now: Instant,
    ) -> Result<(), MachineFault> {
        self.statistics.messages += 1;
        let received = self.receive_checked(from, &message, now);
        if received.is_err() {
            self.statistics.faults += 1;
        }
        received
    }

    fn receive_checked(&mut self, from: NodeId, message: &Message, now: Instant) -> Result<(), MachineFault> {
        if message.lockspace != self.config.lockspace {
            return Err(MachineFault::Lockspace(message.lockspace));
        }
        if from == self.config.node || !self.members.contains(from) {
            return Err(MachineFault::NotAMember { node: from, kind: message.kind });
        }
        match message.kind {
            MessageKind::Request => self.receive_request(from, message, now),
            MessageKind::Convert => self.receive_convert(from, message, now),
            MessageKind::Unlock => self.receive_unlock(from, message, now),
            MessageKind::Cancel => self.receive_cancel(from, message, now),
            MessageKind::RequestReply => self.receive_request_reply(from, message, now),
            MessageKind::ConvertReply | MessageKind::UnlockReply | MessageKind::CancelReply => {
                self.receive_reply(from, message, now)
            }
            MessageKind::Grant => self.receive_grant(from, message),
            MessageKind::Blocking => self.receive_blocking(from, message),
            MessageKind::Lookup => self.receive_lookup(from, message, now),
            MessageKind::Remove => self.receive_remove(from, message),
            MessageKind::LookupReply => self.receive_lookup_reply(from, message, now),
            // Nothing is ever left behind by a process here.
            MessageKind::Purge => Ok(()),
        }
    }

    /// Takes in a request, or a lookup for what turned out to be mastered here.
    pub(super) fn receive_request(
        &mut self,
        from: NodeId,
        message: &Message,
        now: Instant,
    ) -> Result<(), MachineFault> {
        let name = message.name().map_err(|_| malformed(from, message, "a name that is none"))?;
        let mode = message.requested.ok_or_else(|| malformed(from, message, "no mode"))?;
        if message.flags.contains(LockFlags::EXPEDITE) && mode != Mode::Null {
            // It would be granted whatever others hold.
            return Err(malformed(from, message, "only a null lock can be expedited"));
        }
        let refuse = |machine: &mut Self, error| {
            machine.send_refusal(from, message, MessageKind::RequestReply, error);
            Ok(())
        };
        if self.table.lock_count() >= self.config.locks_max {
            return refuse(self, -ENOMEM);
        }
        let key = match self.resource_for_request(from, &name) {
            Ok(key) => key,
            Err(error) => {
                if error == -EBADR {
                    self.note_refusal(from, &name, now);
                }
                return refuse(self, error);
            }
        };
        let value = message.flags.contains(LockFlags::VALUE_BLOCK).then(|| self.empty_value());
        let made = self.table.insert_lock(|id| {
            let mut lock = Lock::new(id, key, Role::CopyFor(from));
            lock.process = message.process;
            lock.remote = message.lock;
            lock.requested = Some(mode);
            lock.callbacks = message.callbacks;
            lock.value = value;
            take_flags(&mut lock, message);
            lock
        });
        let Some(id) = made else {
            self.settle_resource(key, now);
            return refuse(self, -ENOMEM);
        };
        let verdict = self.request_here(id);
        self.send_about(id, from, MessageKind::RequestReply, verdict.result());
        self.after_request(id, verdict, now);
        if verdict == Verdict::WouldBlock {
            self.table.remove_lock(id);
            self.settle_resource(key, now);
        }
        Ok(())
    }

    fn receive_convert(&mut self, from: NodeId, message: &Message, now: Instant) -> Result<(), MachineFault> {
        let Some(id) = self.copy_of(from, message, MessageKind::ConvertReply)? else { return Ok(()) };
        let Some(lock) = self.table.lock(id) else { return Ok(()) };
        let requested = message.requested.ok_or_else(|| malformed(from, message, "no mode"))?;
        if message.flags.contains(LockFlags::EXPEDITE) {
            return Err(malformed(from, message, "a conversion cannot be expedited"));
        }
        let Some(granted) = lock.granted.filter(|_| lock.queue == Some(Queue::Granted)) else {
            self.send_about(id, from, MessageKind::ConvertReply, -EBUSY);
            return Ok(());
        };
        if message.flags.contains(LockFlags::QUEUE_CONVERSION)
            && !rules::may_queue_conversion(granted, requested)
        {
            return Err(malformed(from, message, "a conversion that never waits cannot be queued"));
        }
        if let Some(lock) = self.table.lock_mut(id) {
            take_flags(lock, message);
        }
        self.receive_value_of_copy(id, &message.extra);
        if let Some(lock) = self.table.lock_mut(id) {
            lock.requested = Some(requested);
            lock.value_sequence = message.value_sequence;
        }
        // As the sender sees it: it does not know yet if the lock was demoted here, and an answer that it does not expect
        // it would take for that of its next conversion.
        let answered = !rules::is_downward(message.granted, Some(requested));
        let verdict = self.convert_here(id);
        if answered {
            self.send_about(id, from, MessageKind::ConvertReply, verdict.result());
        }
        self.after_convert(id, verdict, now);
        Ok(())
    }

    fn receive_unlock(&mut self, from: NodeId, message: &Message, now: Instant) -> Result<(), MachineFault> {
        let Some(id) = self.copy_of(from, message, MessageKind::UnlockReply)? else { return Ok(()) };
        let Some(lock) = self.table.lock_mut(id) else { return Ok(()) };
        take_flags(lock, message);
        let key = lock.resource;
        self.receive_value_of_copy(id, &message.extra);
        self.unlock_here(id);
        self.send_about(id, from, MessageKind::UnlockReply, -EUNLOCK);
        self.grant_pending(key, now);
        self.table.remove_lock(id);
        self.settle_resource(key, now);
        Ok(())
    }

    fn receive_cancel(&mut self, from: NodeId, message: &Message, now: Instant) -> Result<(), MachineFault> {
        let Some(id) = self.copy_of(from, message, MessageKind::CancelReply)? else { return Ok(()) };
        let Some(lock) = self.table.lock_mut(id) else { return Ok(()) };
        take_flags(lock, message);
        let key = lock.resource;
        let result = self.cancel_here(id);
        self.send_about(id, from, MessageKind::CancelReply, result);
        if result != 0 {
            self.grant_pending(key, now);
        }
        if self.table.lock(id).is_some_and(|lock| lock.queue.is_none()) {
            self.table.remove_lock(id);
            self.settle_resource(key, now);
        }
        Ok(())
    }

    /// The copy that a message is about. If there is none, the sender is told so: its message and our last word may have
    /// crossed.
    fn copy_of(
        &mut self,
        from: NodeId,
        message: &Message,
        answer: MessageKind,
    ) -> Result<Option<LockId>, MachineFault> {
        let found = self.table.lock(message.remote_lock).filter(|lock| lock.remote == message.lock);
        match found.map(|lock| (lock.id, lock.role)) {
            Some((id, Role::CopyFor(owner))) if owner == from => Ok(Some(id)),
            Some((lock, Role::CopyFor(_) | Role::Own)) => {
                Err(MachineFault::NotTheirs { node: from, kind: message.kind, lock })
            }
            None => {
                self.statistics.ignored += 1;
                self.send_refusal(from, message, answer, -ENOENT);
                Ok(None)
            }
        }
    }
}

/// The flags that come with a message to the master are those of the lock from now on.
const fn take_flags(lock: &mut Lock, message: &Message) {
    lock.flags = message.flags;
    lock.status_flags = message.status_flags;
    lock.distributed_flags = message.distributed_flags;
}

pub(super) const fn malformed(from: NodeId, message: &Message, why: &'static str) -> MachineFault {
    MachineFault::Malformed { node: from, kind: message.kind, why }
}
