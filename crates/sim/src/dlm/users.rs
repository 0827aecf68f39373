//! Programs on every node that lock, convert and unlock at random.

use super::cluster::{Cluster, LOCKSPACE};
use super::model::{Lock, Op, Write};
use super::plan::pick;
use outlast_dlm::wire::{LockFlags, LockId, Mode, Name};
use outlast_lockspace::machine::{LockRequest, UserError};
use rand::RngExt;

/// The size of a value block, in bytes.
const VALUE_BYTES: usize = 32;

fn block(write: Write) -> Vec<u8> {
    write.to_le_bytes().repeat(VALUE_BYTES / size_of::<Write>())
}

impl Cluster {
    fn name(&self, name: usize) -> Name {
        // Another seed, another place in the directory.
        let text = format!("name {name} of {} in {LOCKSPACE}", self.plan.seed);
        Name::new(text.as_bytes()).expect("a short text")
    }

    fn mode(&mut self) -> Mode {
        let strong = self.one_in(2);
        if strong {
            *pick(&mut self.rng, &[Mode::Exclusive, Mode::ProtectedRead, Mode::ProtectedWrite])
        } else {
            *pick(&mut self.rng, &Mode::ALL)
        }
    }

    /// A user does something, if there is anything to do.
    pub(crate) fn user_acts(&mut self) {
        let living = self.living();
        if living.is_empty() {
            return;
        }
        let node = *pick(&mut self.rng, &living);
        let own: Vec<LockId> =
            self.model.locks.keys().filter(|(on, _)| *on == node).map(|(_, lock)| *lock).collect();
        if own.len() < self.plan.locks_max && (own.is_empty() || self.one_in(2)) {
            return self.requests(node);
        }
        if own.is_empty() {
            return;
        }
        let key = (node, *pick(&mut self.rng, &own));
        let Some(lock) = self.model.locks.get(&key).cloned() else { return };
        match lock.op {
            Op::None if !lock.unsure && self.one_in(2) => self.converts(key, &lock),
            Op::None => self.unlocks(key, false),
            Op::Request | Op::Convert if self.one_in(4) => self.cancels(key),
            Op::Request if self.one_in(8) => self.unlocks(key, true),
            Op::Request | Op::Convert | Op::Unlock => {}
        }
    }

    fn requests(&mut self, node: usize) {
        let now = self.now;
        let index = self.rng.random_range(0..self.plan.names);
        let mode = self.mode();
        let mut flags = LockFlags::NONE;
        let values = self.one_in(2);
        if values {
            flags |= LockFlags::VALUE_BLOCK;
        }
        match self.rng.random_range(0..12) {
            0 | 1 => flags |= LockFlags::NO_QUEUE,
            2 => flags |= LockFlags::NO_QUEUE | LockFlags::NO_QUEUE_CALLBACK,
            3 => flags |= LockFlags::ALTERNATE_PROTECTED_READ,
            4 => flags |= LockFlags::ALTERNATE_CONCURRENT_WRITE,
            5 => flags |= LockFlags::NO_ORDER,
            6 => flags |= LockFlags::HEAD_OF_QUEUE,
            7 if mode == Mode::Null => flags |= LockFlags::EXPEDITE,
            _ => {}
        }
        let wants_blocking = !self.one_in(4);
        let process = self.rng.random_range(1..100);
        let request =
            LockRequest { name: self.name(index), mode, flags, process, value: None, wants_blocking };
        let Some(life) = self.life(node) else { return };
        match life.machine.lock(request, now) {
            Ok(lock) => {
                self.note(|| format!("node {node} locks name {index} {mode} {flags:?}: lock {lock}"));
                self.model.locks.insert((node, lock), Lock::new(index, mode, flags, values, wants_blocking));
            }
            Err(error) => self.wrong(format!("node {node} cannot lock: {error}")),
        }
        self.pump(node);
    }

    fn converts(&mut self, key: (usize, LockId), lock: &Lock) {
        let (node, id) = key;
        let now = self.now;
        let from = lock.granted.unwrap_or(Mode::Null);
        let mode = self.mode();
        let mut flags = if lock.values { LockFlags::VALUE_BLOCK } else { LockFlags::NONE };
        match self.rng.random_range(0..10) {
            0 | 1 => flags |= LockFlags::NO_QUEUE,
            2 if mode > from => flags |= LockFlags::QUEUE_CONVERSION,
            3 | 4 => flags |= LockFlags::CONVERSION_DEADLOCK,
            5 => flags |= LockFlags::NO_ORDER,
            6 if mode > from => flags |= LockFlags::ALTERNATE_PROTECTED_READ,
            _ => {}
        }
        let writes = lock.values && from >= Mode::ProtectedWrite && mode < from;
        // One whose cancel is under way may be refused: no write then, which would have to be taken back.
        let writes = writes && !lock.canceled;
        if lock.values && from >= Mode::ProtectedWrite && mode <= from && !writes {
            return;
        }
        let value = if writes { self.model.writes(key) } else { None };
        let Some(life) = self.life(node) else { return };
        let asked = life.machine.convert(id, mode, flags, value.map(block), now);
        self.note(|| {
            format!("node {node} converts lock {id} {from} -> {mode} {flags:?} writes {value:?}: {asked:?}")
        });
        match asked {
            Ok(()) => self.model.converts(key, mode, flags),
            Err(UserError::Busy(_)) if lock.canceled => self.meet("busy with a cancel"),
            Err(error) => self.wrong(format!("node {node} cannot convert {lock:?}: {error}")),
        }
        self.pump(node);
    }

    pub(crate) fn unlocks(&mut self, key: (usize, LockId), forced: bool) {
        let (node, id) = key;
        let now = self.now;
        let Some(lock) = self.model.locks.get(&key).cloned() else { return };
        let writes = !forced && !lock.canceled && lock.values && lock.granted >= Some(Mode::ProtectedWrite);
        let value = if writes { self.model.writes(key) } else { None };
        let mut flags = if value.is_some() { LockFlags::VALUE_BLOCK } else { LockFlags::NONE };
        if forced {
            flags |= LockFlags::FORCE_UNLOCK;
        }
        let Some(life) = self.life(node) else { return };
        let asked = life.machine.unlock(id, flags, value.map(block), now);
        self.note(|| format!("node {node} unlocks lock {id}, writes {value:?}, forced {forced}: {asked:?}"));
        match asked {
            Ok(()) => {
                if forced {
                    self.meet("forced unlock");
                }
                self.model.unlocks(key, forced);
            }
            Err(UserError::Busy(_)) if lock.canceled => self.meet("busy with a cancel"),
            Err(error) => self.wrong(format!("node {node} cannot unlock {lock:?}: {error}")),
        }
        self.pump(node);
    }

    pub(crate) fn cancels(&mut self, key: (usize, LockId)) {
        let (node, id) = key;
        let now = self.now;
        let Some(life) = self.life(node) else { return };
        let asked = life.machine.cancel(id, now);
        self.note(|| format!("node {node} cancels lock {id}: {asked:?}"));
        match asked {
            Ok(()) => {
                if let Some(lock) = self.model.locks.get_mut(&key) {
                    lock.canceled = true;
                }
            }
            Err(error) => self.wrong(format!("node {node} cannot cancel: {error}")),
        }
        self.pump(node);
    }
}
