//! Copies of others' locks, at the master: those of nodes that left go, and new ones come (Linux: `lock.c`).

use outlast_dlm::wire::{LockFlags, LockId, MessageKind, Mode, NodeId, Queue, RcomBody, RcomLock};

use crate::machine::Machine;
use crate::machine::errno::{EBADR, EEXIST, EINVAL, ENOMEM, EOPNOTSUPP};
use crate::machine::hash::name_hash;
use crate::machine::table::{Lock, ResourceKey, Role};

impl Machine {
    /// Drops the locks of those who left, on the resources that are mastered here.
    pub(super) fn drop_locks_of_gone(&mut self) {
        for key in self.active_resources() {
            if !self.is_master(key) {
                continue;
            }
            let locks: Vec<LockId> =
                self.table.resource(key).map(|resource| resource.lock_ids().collect()).unwrap_or_default();
            let mut dropped = false;
            let mut could_write = false;
            for id in locks {
                let Some(lock) = self.table.lock(id) else { continue };
                let Role::CopyFor(owner) = lock.role else { continue };
                if !self.members.is_gone(owner) {
                    continue;
                }
                dropped = true;
                could_write |=
                    lock.flags.contains(LockFlags::VALUE_BLOCK) && lock.granted >= Some(Mode::ProtectedWrite);
                self.table.remove_lock(id);
            }
            if let Some(resource) = self.table.resource_mut(key) {
                resource.recover_grant |= dropped;
                resource.recover_value |= could_write;
            }
        }
    }

    /// Another node sends a lock of its own for a resource whose master we are now, or are about to hear that we are.
    pub(super) fn take_lock(&mut self, from: NodeId, id: u64, sequence: u64, mut told: RcomLock) {
        let (number, result) = match self.copy_lock(from, &mut told) {
            Ok(number) => (number, 0),
            Err((number, error)) => (number, -error),
        };
        told.remote_lock = number;
        told.result = result;
        told.value_block.clear();
        self.answer(from, id, sequence, 0, RcomBody::LockReply(told));
    }

    /// Returns the number of the copy, or why there is none; or the number of the one that there was.
    fn copy_lock(&mut self, from: NodeId, told: &mut RcomLock) -> Result<LockId, (LockId, i32)> {
        let refuse = |error| Err((told.remote_lock, error));
        if told.parent_lock != LockId::NONE {
            return refuse(EOPNOTSUPP);
        }
        let hash = name_hash(told.name.as_bytes());
        let Some(key) = self.table.find(hash, &told.name) else { return refuse(EBADR) };
        let Some(resource) = self.table.resource(key) else { return refuse(EBADR) };
        if !resource.active {
            // A place in the directory, which says that another is the master. The sender finds out.
            return refuse(EBADR);
        }
        let recovery = self.recovery.sequence;
        let is_known = |id: &LockId| {
            self.table
                .lock(*id)
                .is_some_and(|lock| lock.role == Role::CopyFor(from) && lock.remote == told.lock)
        };
        let known = resource.lock_ids().find(is_known);
        if let Some(known) = known {
            // Of a recovery that did not come to its end.
            if let Some(lock) = self.table.lock_mut(known) {
                lock.recover_sequence = recovery;
            }
            return Err((known, EEXIST));
        }
        let value_bytes = usize::try_from(self.config.value_block_bytes).unwrap_or(usize::MAX);
        if told.value_block.len() > value_bytes {
            return refuse(EINVAL);
        }
        let in_doubt =
            told.wait_kind == MessageKind::Convert as u16 && is_sideways(told.granted, told.requested);
        let queue = match (told.queue, told.granted, told.requested) {
            (Some(_), Some(_), Some(_)) if in_doubt => Queue::Converting,
            (Some(Queue::Granted), Some(_), _) => Queue::Granted,
            (Some(Queue::Waiting), None, Some(_)) => Queue::Waiting,
            // Linux sends such ones without a granted mode, too, when it is in doubt.
            (Some(Queue::Converting), _, Some(_)) => Queue::Converting,
            (None, _, _)
            | (Some(Queue::Granted), None, _)
            | (Some(Queue::Waiting), Some(_), _)
            | (Some(Queue::Waiting | Queue::Converting), _, None) => return refuse(EINVAL),
        };
        if self.table.lock_count() >= self.config.locks_max {
            return refuse(ENOMEM);
        }
        let in_doubt = in_doubt || queue == Queue::Converting && told.granted.is_none();
        let make = |id| {
            let mut lock = Lock::new(id, key, Role::CopyFor(from));
            lock.process = told.process;
            lock.remote = told.lock;
            lock.flags = told.flags;
            lock.distributed_flags = told.distributed_flags;
            lock.value_sequence = told.value_sequence;
            lock.requested = if queue == Queue::Granted { None } else { told.requested };
            lock.granted = told.granted;
            lock.in_doubt = in_doubt;
            lock.callbacks = told.callbacks;
            lock.recover_sequence = recovery;
            if told.flags.contains(LockFlags::VALUE_BLOCK) {
                let mut value = core::mem::take(&mut told.value_block);
                value.resize(value_bytes, 0);
                lock.value = Some(value);
            }
            lock
        };
        let Some(id) = self.table.insert_lock(make) else { return Err((LockId::NONE, ENOMEM)) };
        self.table.enqueue(id, queue);
        if let Some(resource) = self.table.resource_mut(key) {
            resource.recover_convert |= in_doubt;
            resource.recover_grant |= !resource.waiting.is_empty() || !resource.converting.is_empty();
        }
        Ok(id)
    }

    /// Where the mode is in doubt that a lock is held in while it converts between protected read and concurrent write:
    /// that of the locks which are granted tells which of the two it is, for the other conflicts with them
    /// (Linux: `recover.c`).
    pub(super) fn resolve_conversions(&mut self, key: ResourceKey) {
        let Some(resource) = self.table.resource(key) else { return };
        let is_middle = |mode: &Mode| matches!(mode, Mode::ProtectedRead | Mode::ConcurrentWrite);
        let held =
            resource.granted.iter().filter_map(|id| self.table.lock(*id)?.granted.filter(is_middle)).next();
        let converting = resource.converting.clone();
        for id in converting {
            if let Some(lock) = self.table.lock_mut(id).filter(|lock| lock.in_doubt) {
                lock.in_doubt = false;
                lock.granted = held.or(lock.requested);
            }
        }
    }
}

/// Between protected read and concurrent write: neither is stronger.
pub(super) const fn is_sideways(from: Option<Mode>, to: Option<Mode>) -> bool {
    use Mode::{ConcurrentWrite, ProtectedRead};
    matches!(
        (from, to),
        (Some(ProtectedRead), Some(ConcurrentWrite)) | (Some(ConcurrentWrite), Some(ProtectedRead))
    )
}
