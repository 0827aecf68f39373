//! What users are told.

use outlast_dlm::wire::{LockId, Mode};

use super::rules;
use crate::machine::table::Role;
use crate::machine::{Event, Machine, Outcome};

impl Machine {
    /// Tells a user that the lock is granted. What is said of a copy goes into a message.
    pub(super) fn complete_granted(&mut self, id: LockId, value_read: bool) {
        let Some(lock) = self.table.lock(id) else { return };
        let Some(mode) = lock.granted else { return };
        let value = if value_read { lock.value.clone() } else { None };
        let status_flags = lock.status_flags;
        self.complete(id, Outcome::Granted { mode, status_flags, value });
    }

    /// Tells a user how an operation ended. What is said of a copy goes into a message.
    pub(crate) fn complete(&mut self, id: LockId, outcome: Outcome) {
        let Some(lock) = self.table.lock_mut(id).filter(|lock| lock.role == Role::Own) else { return };
        lock.told_granted = lock.granted;
        lock.told_blocking = None;
        self.statistics.completions += 1;
        self.events.push_back(Event::Completed { lock: id, outcome });
    }

    /// Tells a user that its lock blocks this mode; but not if what it was told last about its own mode says that the lock
    /// does not (the two crossed), nor the same thing twice (Linux, `ast.c`).
    pub(super) fn tell_user_blocking(&mut self, id: LockId, mode: Mode) {
        let Some(lock) = self.table.lock_mut(id).filter(|lock| lock.wants_blocking() && !lock.ending) else {
            return;
        };
        if lock.told_granted.is_some() && rules::compatible(lock.told_granted, Some(mode)) {
            return;
        }
        let again =
            lock.told_blocking.is_some_and(|told| told == mode || told > mode && told > Mode::ProtectedRead);
        if again {
            return;
        }
        lock.told_blocking = Some(mode);
        self.statistics.blockings += 1;
        self.events.push_back(Event::Blocking { lock: id, mode });
    }
}
