//! Requests that were refused because the node that was asked is not the master.
//!
//! That is nothing unusual: who asked may be out of date, and asks the directory. But if the directory is wrong, or names
//! a master that does not know it yet, the same request is refused again and again. Then it is not asked at once again, and
//! who refused it says in the directory that it is no master (as Linux did once, and 6.12 does not).

use core::time::Duration;
use std::collections::VecDeque;

use outlast_dlm::wire::{LockId, Name, NodeId};
use outlast_session::Instant;

use crate::machine::Machine;
use crate::machine::hash::name_hash;

/// How often a request that was refused is asked again at once.
const AT_ONCE: u32 = 3;
/// How long it waits thereafter.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Within which time the same node must ask for the same name twice to have been sent here by the directory.
const AGAIN_WITHIN: Duration = Duration::from_secs(1);
/// How many refusals are remembered.
const REMEMBERED_MAX: usize = 32;

/// What is known of refusals, ours and others'.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// Requests of ours that wait, and until when; in that order, for all wait for the same time.
    paused: VecDeque<(Instant, LockId)>,
    /// Who was refused here lately, and when; the oldest first.
    lately: VecDeque<(Instant, NodeId, Name)>,
}

impl Machine {
    /// A request of ours was refused. Returns whether it waits now: else it is to be asked again at once.
    pub(super) fn pause_refused(&mut self, id: LockId, now: Instant) -> bool {
        let Some(lock) = self.table.lock_mut(id) else { return false };
        lock.refusals = lock.refusals.saturating_add(1);
        lock.paused = lock.refusals > AT_ONCE;
        if lock.paused {
            self.refused.paused.push_back((now + RETRY_AFTER, id));
        }
        lock.paused
    }

    /// When [`Machine::retry_refused`] has something to do.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.refused.paused.front().map(|(at, _)| *at)
    }

    /// Asks again what was refused and has waited.
    pub(crate) fn retry_refused(&mut self, now: Instant) {
        while self.retry_at().is_some_and(|at| at <= now) {
            let Some((_, id)) = self.refused.paused.pop_front() else { return };
            let Some(lock) = self.table.lock_mut(id).filter(|lock| lock.paused) else { continue };
            lock.paused = false;
            let key = lock.resource;
            self.request_lock(id, now);
            if self.is_master(key) {
                self.confirm_master(key, 0, now);
            }
        }
    }

    /// A node is refused here, which knows nothing of the name. If it was so shortly before, the directory sent it here.
    pub(super) fn note_refusal(&mut self, from: NodeId, name: &Name, now: Instant) {
        let lately = &mut self.refused.lately;
        lately.retain(|(at, _, _)| *at + AGAIN_WITHIN > now);
        let before = lately.iter().position(|(_, node, of)| *node == from && of == name);
        if let Some(before) = before {
            lately.remove(before);
            let directory = self.members.directory_node(name_hash(name.as_bytes()));
            if let Some(directory) = directory.filter(|directory| *directory != self.config.node) {
                self.send_remove_of(directory, name);
            }
        } else {
            if lately.len() >= REMEMBERED_MAX {
                lately.pop_front();
            }
            lately.push_back((now, from, *name));
        }
    }

    /// What was said of the directory is void in a recovery.
    pub(crate) fn forget_refusals(&mut self) {
        self.refused.lately.clear();
    }
}
