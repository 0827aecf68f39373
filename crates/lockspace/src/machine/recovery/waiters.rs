//! Operations of ours that were under way when locking stopped (Linux: `lock.c`).

use outlast_dlm::wire::{LockFlags, LockId, MessageKind, Queue};
use outlast_session::Instant;

use super::copies::is_sideways;
use crate::machine::errno::{EAGAIN, ECANCEL, EINPROGRESS, ENOENT, EUNLOCK};
use crate::machine::table::Wait;
use crate::machine::{Machine, Outcome};

impl Machine {
    /// The answers of those who left will not come. What they would have been is clear for unlocks and cancels;
    /// requests and conversions are marked to be asked again, and all questions to the directory, for it is new.
    pub(super) fn prepare_waiters(&mut self, now: Instant) {
        self.forget_moot_cancels();
        let waiters: Vec<LockId> = self.table.waiters().collect();
        for id in waiters {
            let Some(lock) = self.table.lock_mut(id) else { continue };
            let Some(wait) = lock.wait else { continue };
            if wait.kind == Some(MessageKind::Lookup) {
                lock.resend = true;
                continue;
            }
            // One that is marked was so in a recovery that did not come to its end.
            if lock.resend || !self.members.is_gone(wait.node) {
                continue;
            }
            // What overlapped it was asked later and is answered later, by the same node.
            while self.answer_for_who_left(id, now) {}
        }
    }

    /// Does to an operation what the answer of who left would have done, or marks that it is to be asked again. Returns
    /// whether another answer of that node is awaited: that to an unlock or cancel that overlapped.
    fn answer_for_who_left(&mut self, id: LockId, now: Instant) -> bool {
        let Some(lock) = self.table.lock_mut(id) else { return false };
        let Some(wait) = lock.wait else { return false };
        // Where the operation itself is answered, it is what overlapped it. Nobody cancels what he gave up already.
        let asked = match wait.kind {
            Some(kind) => Some(kind),
            None if lock.overlap_cancel => Some(MessageKind::Cancel),
            None if lock.overlap_unlock => Some(MessageKind::Unlock),
            None => None,
        };
        let was_refused = wait.kind.is_none() && lock.granted.is_none();
        match asked {
            Some(MessageKind::Convert) if is_sideways(lock.granted, lock.requested) => {
                self.doubt_conversion(id, now);
                return false;
            }
            Some(MessageKind::Request | MessageKind::Convert) => {
                lock.resend = true;
                return false;
            }
            Some(MessageKind::Unlock) => {
                let result = if was_refused { -ENOENT } else { -EUNLOCK };
                self.reply_locally(id, MessageKind::UnlockReply, result, now);
            }
            Some(MessageKind::Cancel) => {
                // Linux takes back what was granted meanwhile, and tells its user so.
                let too_late = was_refused || lock.queue == Some(Queue::Granted);
                let result = if too_late { 0 } else { -ECANCEL };
                self.reply_locally(id, MessageKind::CancelReply, result, now);
            }
            None
            | Some(
                MessageKind::RequestReply
                | MessageKind::ConvertReply
                | MessageKind::UnlockReply
                | MessageKind::CancelReply
                | MessageKind::Grant
                | MessageKind::Blocking
                | MessageKind::Lookup
                | MessageKind::Remove
                | MessageKind::LookupReply
                | MessageKind::Purge,
            ) => return false,
        }
        // Each answer is one less; the number can be that of no lock any more.
        let left = self.table.lock(id).and_then(|lock| lock.wait);
        left.is_some_and(|left| left.count < wait.count)
    }

    /// A conversion between protected read and concurrent write was asked of who left: nobody knows whether it was
    /// granted. It waits, and its new master finds out.
    fn doubt_conversion(&mut self, id: LockId, now: Instant) {
        self.reply_locally(id, MessageKind::ConvertReply, -EINPROGRESS, now);
        let Some(lock) = self.table.lock_mut(id) else { return };
        lock.in_doubt = true;
        let key = lock.resource;
        // An unlock that overlapped it is asked of the new master: Linux waits for the old one's answer for ever. A cancel
        // came too late, for the lock may be held in the new mode already; what still waits can be canceled once more.
        let unlock = core::mem::take(&mut lock.overlap_unlock);
        lock.overlap_cancel = false;
        lock.flags = lock.flags.without(LockFlags::CANCEL);
        lock.resend = unlock && lock.wait.is_some();
        let wait = lock.wait.filter(|_| unlock);
        let wait = wait.map(|wait| Wait { kind: Some(MessageKind::Unlock), count: 1, ..wait });
        self.table.set_wait(id, wait);
        if let Some(resource) = self.table.resource_mut(key) {
            resource.recover_convert = true;
        }
    }

    /// Asks again what was marked, of whoever is to be asked now; or does at once what the user wanted meanwhile.
    pub(super) fn resend_waiters(&mut self, now: Instant) {
        let waiters: Vec<LockId> = self.table.waiters().collect();
        for id in waiters {
            let Some(lock) = self.table.lock_mut(id).filter(|lock| lock.resend) else { continue };
            let Some(wait) = lock.wait else { continue };
            let key = lock.resource;
            lock.resend = false;
            let cancel = core::mem::take(&mut lock.overlap_cancel);
            let unlock = core::mem::take(&mut lock.overlap_unlock);
            self.table.set_wait(id, None);
            match wait.kind {
                Some(MessageKind::Convert) if unlock => self.unlock_lock(id, now),
                Some(MessageKind::Convert) if cancel => self.give_up_conversion(id),
                Some(MessageKind::Convert) => self.convert_lock(id, now),
                Some(MessageKind::Unlock) => self.unlock_lock(id, now),
                Some(MessageKind::Request | MessageKind::Lookup) if unlock => {
                    self.give_up_request(id, Outcome::Unlocked, now);
                }
                Some(MessageKind::Request | MessageKind::Lookup) if cancel => {
                    self.give_up_request(id, Outcome::Canceled, now);
                }
                Some(MessageKind::Request | MessageKind::Lookup) => {
                    self.request_lock(id, now);
                    if self.is_master(key) {
                        self.confirm_master(key, 0, now);
                    }
                }
                None
                | Some(
                    MessageKind::RequestReply
                    | MessageKind::ConvertReply
                    | MessageKind::UnlockReply
                    | MessageKind::CancelReply
                    | MessageKind::Cancel
                    | MessageKind::Grant
                    | MessageKind::Blocking
                    | MessageKind::Remove
                    | MessageKind::LookupReply
                    | MessageKind::Purge,
                ) => {}
            }
        }
    }

    /// A request that is not asked again, for its user does not want it any more. If others wait for what becomes of it,
    /// one of them asks in its stead.
    fn give_up_request(&mut self, id: LockId, outcome: Outcome, now: Instant) {
        let Some(key) = self.table.lock(id).map(|lock| lock.resource) else { return };
        self.complete(id, outcome);
        let was_first = self.table.resource(key).is_some_and(|resource| resource.first_lock == Some(id));
        if was_first {
            self.confirm_master(key, -EAGAIN, now);
        }
        self.end_lock(id, now);
    }

    /// A conversion that is not asked again, for its user does not want it any more: the lock is held as it was.
    fn give_up_conversion(&mut self, id: LockId) {
        if let Some(lock) = self.table.lock_mut(id) {
            lock.requested = None;
        }
        self.complete(id, Outcome::Canceled);
    }
}
