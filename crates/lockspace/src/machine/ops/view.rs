//! What people and checkers look at.

use outlast_dlm::wire::{LockId, Queue};

use super::rules::{self, Asked};
use crate::machine::table::{Lock, Resource, Role};
use crate::machine::{LockView, Machine, ResourceView};

impl Machine {
    /// All resources that are known here, in a stable order, with the locks that are known of them.
    pub fn resources(&self) -> impl Iterator<Item = ResourceView> + '_ {
        let keys = self.table.resource_keys();
        keys.filter_map(|key| self.table.resource(key)).map(|resource| ResourceView {
            name: resource.name,
            master: resource.master,
            directory: resource.directory,
            unused: !resource.active,
            locks: resource
                .lock_ids()
                .filter_map(|id| self.table.lock(id))
                .map(|lock| self.view(lock))
                .collect(),
            value: resource.value.clone(),
            value_not_valid: resource.value_not_valid,
        })
    }

    /// An own lock, or the copy of another's, by its number here.
    pub fn lock_view(&self, lock: LockId) -> Option<LockView> {
        self.table.lock(lock).map(|lock| self.view(lock))
    }

    fn view(&self, lock: &Lock) -> LockView {
        LockView {
            lock: lock.id,
            remote_lock: lock.remote,
            owner: match lock.role {
                Role::Own => self.config.node,
                Role::CopyFor(owner) => owner,
            },
            process: lock.process,
            queue: lock.queue,
            granted: lock.granted,
            requested: lock.requested,
            waits_for: lock.wait.and_then(|wait| wait.kind),
        }
    }

    /// Checks what must hold between any two calls, and says what does not. For tests; it takes as long as there are locks.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self) -> Result<(), String> {
        for key in self.table.resource_keys() {
            let Some(resource) = self.table.resource(key) else {
                return Err("a name without its resource".into());
            };
            self.check_resource(resource).map_err(|why| format!("{:?}: {why}", resource.name))?;
        }
        for lock in self.table.lock_ids().filter_map(|id| self.table.lock(id)) {
            self.check_lock(lock).map_err(|why| format!("lock {}: {why}", lock.id))?;
        }
        Ok(())
    }

    fn check_resource(&self, resource: &Resource) -> Result<(), String> {
        for queue in [Queue::Granted, Queue::Converting, Queue::Waiting] {
            for id in resource.queue(queue) {
                let Some(lock) = self.table.lock(*id) else { return Err(format!("lock {id} is gone")) };
                if lock.queue != Some(queue) {
                    return Err(format!("lock {id} is not where it believes to be"));
                }
            }
        }
        if !resource.active && (!resource.is_unlocked() || resource.attached > 0) {
            return Err("unused, with locks".into());
        }
        if resource.first_lock.is_some_and(|id| self.table.lock(id).is_none()) {
            return Err("its first lock is gone".into());
        }
        if resource.first_lock.is_none() && !resource.lookup_queue.is_empty() && self.is_running() {
            return Err("locks wait for a master that nobody looks for".into());
        }
        if resource.master == Some(self.config.node) && self.is_running() {
            self.check_master(resource)?;
        }
        Ok(())
    }

    fn check_master(&self, resource: &Resource) -> Result<(), String> {
        let held: Vec<&Lock> = resource
            .granted
            .iter()
            .chain(&resource.converting)
            .filter_map(|id| self.table.lock(*id))
            .collect();
        for (at, one) in held.iter().enumerate() {
            for other in held.iter().skip(at + 1) {
                if !rules::compatible(one.granted, other.granted) {
                    return Err(format!("locks {} and {} exclude each other", one.id, other.id));
                }
            }
        }
        for id in resource.converting.iter().chain(&resource.waiting) {
            let Some(lock) = self.table.lock(*id) else { continue };
            if rules::is_grantable(&self.table, resource, lock, Asked::Queued) {
                return Err(format!("lock {id} waits though it could be granted"));
            }
        }
        Ok(())
    }

    fn check_lock(&self, lock: &Lock) -> Result<(), String> {
        if lock.role != Role::Own {
            return if lock.queue.is_some() { Ok(()) } else { Err("a copy in no queue".into()) };
        }
        let looked_for = self
            .table
            .resource(lock.resource)
            .is_some_and(|resource| resource.lookup_queue.contains(&lock.id));
        if lock.queue.is_none() && lock.wait.is_none() && lock.deferred == 0 && !looked_for && !lock.paused {
            return Err("nothing will ever become of it".into());
        }
        if lock.ending && lock.wait.is_none() {
            return Err("it is over and still there".into());
        }
        if let Some(wait) = lock.wait
            && self.is_running()
            && !self.members.contains(wait.node)
        {
            return Err(format!("it waits for an answer of {}, who is no member", wait.node));
        }
        Ok(())
    }
}
