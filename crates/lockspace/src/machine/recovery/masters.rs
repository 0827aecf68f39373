//! New masters for the resources whose old one left, and our locks for them (Linux: `recover.c`).

use outlast_dlm::wire::{CallbackFlags, Inner, LockId, MessageKind, NodeId, RcomBody, RcomLock};
use outlast_session::Instant;

use super::Step;
use crate::machine::errno::{EBADR, EEXIST};
use crate::machine::table::{ResourceKey, Role};
use crate::machine::{Machine, MachineFault, RecoveryFailure};

impl Machine {
    /// Asks for the new masters of all resources that lost theirs.
    pub(super) fn find_masters(&mut self) {
        let own = self.config.node;
        for key in self.active_resources() {
            let Some(resource) = self.table.resource_mut(key) else { continue };
            let Some(master) = resource.master else {
                resource.new_master = false;
                continue;
            };
            let unheard = resource.directory == own && resource.is_unheard();
            let lost = self.members.is_gone(master) || unheard;
            if master == own || (!lost && !resource.new_master) {
                continue;
            }
            if resource.directory == own {
                if lost {
                    resource.master = Some(own);
                }
                // Else another node asked us before, and became the master.
                self.set_new_master(key);
            } else {
                let (to, name) = (resource.directory, resource.name);
                self.recovery.lookup_last += 1;
                let id = self.recovery.lookup_last;
                self.recovery.lookups.insert(id, key);
                let inner = self.rcom(id, 0, 0, RcomBody::Lookup { name });
                self.send(to, inner);
            }
        }
    }

    /// The directory has said who the new master is.
    pub(super) fn master_told(
        &mut self,
        from: NodeId,
        id: u64,
        result: i32,
        now: Instant,
    ) -> Result<(), MachineFault> {
        let Some(key) = self.recovery.lookups.get(&id).copied() else {
            self.statistics.ignored += 1;
            return Ok(());
        };
        if self.table.resource(key).is_none_or(|resource| resource.directory != from) {
            return Err(MachineFault::Recovery { node: from, why: "it was not asked for this master" });
        }
        let master = u32::try_from(result).ok().map(NodeId).filter(|node| self.members.contains(*node));
        let Some(master) = master else {
            self.fail(RecoveryFailure::NoMaster { node: from, result });
            return Ok(());
        };
        self.recovery.lookups.remove(&id);
        if let Some(resource) = self.table.resource_mut(key) {
            resource.master = Some(master);
        }
        self.set_new_master(key);
        self.masters_found(now);
        Ok(())
    }

    /// Marks a resource whose master is new. What the old one called our locks means nothing to the new one.
    fn set_new_master(&mut self, key: ResourceKey) {
        let Some(resource) = self.table.resource_mut(key) else { return };
        resource.new_master = true;
        resource.became_master = true;
        let is_ours = resource.master == Some(self.config.node);
        let locks: Vec<LockId> = resource.lock_ids().collect();
        for id in locks {
            let Some(lock) = self.table.lock_mut(id) else { continue };
            match lock.role {
                Role::Own => lock.remote = LockId::NONE,
                // Ours from now on, or told early by who already knows.
                Role::CopyFor(_) if is_ours => {}
                // Of a recovery that did not come to its end, in which we were to be the master.
                Role::CopyFor(_) => {
                    self.table.remove_lock(id);
                }
            }
        }
    }

    /// Sends our locks to the new masters.
    pub(super) fn send_locks(&mut self) {
        for key in self.active_resources() {
            let Some(resource) = self.table.resource_mut(key) else { continue };
            if resource.master == Some(self.config.node) || !resource.new_master {
                resource.new_master = false;
                continue;
            }
            let locks: Vec<LockId> = resource.lock_ids().collect();
            let mut sent = 0;
            for id in locks {
                sent += u32::from(self.send_lock(id));
            }
            let Some(resource) = self.table.resource_mut(key) else { continue };
            resource.recover_locks = sent;
            if sent > 0 {
                self.recovery.unconfirmed.insert(key);
            } else {
                resource.new_master = false;
            }
        }
    }

    /// Sends a lock of ours to the master of its resource.
    fn send_lock(&mut self, id: LockId) -> bool {
        let sequence = self.recovery.sequence;
        let Some(lock) = self.table.lock_mut(id).filter(|lock| lock.role == Role::Own) else { return false };
        lock.recover_sequence = sequence;
        let Some(lock) = self.table.lock(id) else { return false };
        let Some(resource) = self.table.resource(lock.resource) else { return false };
        let Some(master) = resource.master else { return false };
        let wait_kind = if lock.in_doubt {
            // The new master finds out, from the locks of others, in which mode it is held.
            MessageKind::Convert as u16
        } else {
            lock.wait.and_then(|wait| wait.kind).map_or(0, |kind| kind as u16)
        };
        let body = RcomBody::Lock(RcomLock {
            process: lock.process,
            lock: lock.id,
            remote_lock: LockId::NONE,
            parent_lock: LockId::NONE,
            parent_remote_lock: LockId::NONE,
            flags: lock.flags,
            distributed_flags: lock.distributed_flags,
            value_sequence: lock.value_sequence,
            result: 0,
            requested: lock.requested,
            granted: lock.granted,
            queue: lock.queue,
            callbacks: CallbackFlags(lock.callbacks.0 & 0xff),
            wait_kind,
            name: resource.name,
            value_block: lock.value.clone().unwrap_or_default(),
        });
        let inner: Inner = self.rcom(u64::from(id.0), 0, 0, body);
        self.send(master, inner);
        true
    }

    /// The new master has, or has not, taken over a lock of ours.
    pub(super) fn lock_confirmed(
        &mut self,
        from: NodeId,
        reply: &RcomLock,
        now: Instant,
    ) -> Result<(), MachineFault> {
        let sequence = self.recovery.sequence;
        let Some(lock) = self
            .table
            .lock_mut(reply.lock)
            .filter(|lock| lock.role == Role::Own && lock.recover_sequence == sequence)
        else {
            self.statistics.ignored += 1;
            return Ok(());
        };
        let key = lock.resource;
        let is_theirs = self.table.resource(key).is_some_and(|resource| resource.master == Some(from));
        if self.recovery.step != Step::Locks || !is_theirs {
            return Err(MachineFault::Recovery { node: from, why: "it was not sent this lock" });
        }
        if reply.result == -EBADR {
            // It does not know yet that it is the master.
            self.send_lock(reply.lock);
            return Ok(());
        }
        if let Some(lock) = self.table.lock_mut(reply.lock) {
            lock.recover_sequence = 0;
            lock.in_doubt = false;
            if reply.result == 0 || reply.result == -EEXIST {
                lock.remote = reply.remote_lock;
            }
        }
        if let Some(resource) = self.table.resource_mut(key) {
            resource.master_told = true;
            resource.recover_locks = resource.recover_locks.saturating_sub(1);
            if resource.recover_locks == 0 {
                resource.new_master = false;
                self.recovery.unconfirmed.remove(&key);
                self.locks_confirmed(now);
            }
        }
        Ok(())
    }
}
