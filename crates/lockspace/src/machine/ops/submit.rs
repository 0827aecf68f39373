//! Operations on own locks: done here if this node is the master, else sent to who is, once that is known.

use outlast_dlm::wire::{LockId, MessageKind};
use outlast_session::Instant;

use super::master::Verdict;
use super::rules;
use crate::machine::errno::{EAGAIN, EBADR, ECANCEL, EINPROGRESS, ENOTBLK};
use crate::machine::table::ResourceKey;
use crate::machine::{Machine, Outcome};

/// Where a request goes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Route {
    /// This node is the master.
    Here,
    /// Another is.
    Elsewhere,
    /// It waits until that is known.
    Later,
}

impl Machine {
    /// Finds out where a request goes.
    ///
    /// What is known of a master may be out of date if no lock was held here for a while. Then one request is sent to try,
    /// and the others wait for what becomes of it; the same while the directory is asked.
    fn route(&mut self, id: LockId) -> Route {
        let us = self.config.node;
        let Some(key) = self.table.lock(id).map(|lock| lock.resource) else { return Route::Later };
        let Some(resource) = self.table.resource_mut(key) else { return Route::Later };
        if core::mem::take(&mut resource.master_uncertain) && resource.master.is_some() {
            resource.first_lock = Some(id);
        }
        if resource.first_lock.is_some_and(|first| first != id) {
            resource.lookup_queue.push_back(id);
            return Route::Later;
        }
        match resource.master {
            Some(master) if master == us => Route::Here,
            Some(_) => Route::Elsewhere,
            None if resource.directory == us => {
                resource.master = Some(us);
                Route::Here
            }
            None => {
                resource.first_lock = Some(id);
                self.ask_about(id, MessageKind::Lookup);
                Route::Later
            }
        }
    }

    /// Asks for a new lock. Its number may mean nothing any more afterwards.
    pub(crate) fn request_lock(&mut self, id: LockId, now: Instant) {
        match self.route(id) {
            Route::Later => {}
            Route::Elsewhere => {
                self.ask_about(id, MessageKind::Request);
            }
            Route::Here => {
                let verdict = self.request_here(id);
                self.after_request(id, verdict, now);
                if verdict == Verdict::WouldBlock {
                    self.end_lock(id, now);
                }
            }
        }
    }

    /// Asks for another mode of a lock that is held.
    pub(crate) fn convert_lock(&mut self, id: LockId, now: Instant) {
        let Some(lock) = self.table.lock(id) else { return };
        if self.is_master(lock.resource) {
            let verdict = self.convert_here(id);
            self.after_convert(id, verdict, now);
            return;
        }
        let downward = rules::is_downward(lock.granted, lock.requested);
        if self.ask_about(id, MessageKind::Convert) && downward {
            // The master cannot refuse and sends no answer.
            self.take_answer(id, MessageKind::ConvertReply, 0);
            self.set_granted(id);
            self.complete_granted(id, false);
        }
    }

    /// Gives a lock up.
    pub(crate) fn unlock_lock(&mut self, id: LockId, now: Instant) {
        let Some(key) = self.table.lock(id).map(|lock| lock.resource) else { return };
        if self.is_master(key) {
            self.unlock_here(id);
            self.complete(id, Outcome::Unlocked);
            self.grant_pending(key, now);
            self.end_lock(id, now);
        } else {
            self.ask_about(id, MessageKind::Unlock);
        }
    }

    /// Takes back what waits.
    pub(crate) fn cancel_lock(&mut self, id: LockId, now: Instant) {
        let Some(key) = self.table.lock(id).map(|lock| lock.resource) else { return };
        if self.is_master(key) {
            if self.cancel_here(id) == -ECANCEL {
                self.complete(id, Outcome::Canceled);
                self.grant_pending(key, now);
                self.end_if_nothing(id, now);
            }
        } else {
            self.ask_about(id, MessageKind::Cancel);
        }
    }

    /// Ends a lock that is neither held nor asked for any more.
    pub(super) fn end_if_nothing(&mut self, id: LockId, now: Instant) {
        if self.table.lock(id).is_some_and(|lock| lock.queue.is_none()) {
            self.end_lock(id, now);
        }
    }

    /// The request that was to try the master ended with this result: those that waited for it go on, or one of them tries
    /// in its stead.
    pub(crate) fn confirm_master(&mut self, key: ResourceKey, result: i32, now: Instant) {
        let Some(resource) = self.table.resource_mut(key) else { return };
        if resource.first_lock.take().is_none() {
            return;
        }
        if result == 0 || result == -EINPROGRESS {
            self.retry_waiting_for_master(key, now);
            return;
        }
        debug_assert!([-EAGAIN, -EBADR, -ENOTBLK].contains(&result), "a request ended with {result}");
        let Some(next) = resource.lookup_queue.pop_front() else { return };
        resource.first_lock = Some(next);
        self.request_lock(next, now);
        if self.is_master(key) {
            self.confirm_master(key, 0, now);
        }
    }

    /// Submits the requests that waited until the master is known.
    pub(super) fn retry_waiting_for_master(&mut self, key: ResourceKey, now: Instant) {
        let waiting = match self.table.resource_mut(key) {
            Some(resource) => core::mem::take(&mut resource.lookup_queue),
            None => return,
        };
        for id in waiting {
            self.request_lock(id, now);
        }
    }
}
