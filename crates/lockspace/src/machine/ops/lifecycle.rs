//! How resources come and go, and how locks end.

use outlast_dlm::wire::{LockId, Name, NodeId};
use outlast_session::Instant;

use crate::machine::Machine;
use crate::machine::errno::{EBADR, ENOMEM, ENOTBLK};
use crate::machine::hash::name_hash;
use crate::machine::table::ResourceKey;

impl Machine {
    /// The resource of this name as it is, or a new one of which nothing is known. `None`: there are as many as there may
    /// be, or no members yet.
    pub(crate) fn find_or_add_resource(&mut self, name: &Name) -> Option<ResourceKey> {
        let hash = name_hash(name.as_bytes());
        if let Some(key) = self.table.find(hash, name) {
            return Some(key);
        }
        if self.table.resource_count() >= self.config.resources_max {
            return None;
        }
        let directory = self.members.directory_node(hash)?;
        Some(self.table.insert_resource(*name, directory))
    }

    /// The resource for a request of one of our users. An unused one whose master is another may have lost it since.
    pub(super) fn resource_for_user(&mut self, name: &Name) -> Option<ResourceKey> {
        let us = self.config.node;
        let known = self.table.find(name_hash(name.as_bytes()), name);
        let key = self.find_or_add_resource(name)?;
        let resource = self.table.resource_mut(key)?;
        if known.is_none() && resource.directory == us {
            resource.master = Some(us);
        }
        if !resource.active {
            if resource.master != Some(us) {
                resource.master_uncertain = true;
                resource.first_lock = None;
            }
            self.activate(key);
        }
        Some(key)
    }

    /// The resource for a request of another node, who believes that this node is the master.
    ///
    /// The directory node is the authority on that: what it says makes it so. Others may be out of date, or ahead: the
    /// directory may have told them before it told us. What it asked before a recovery, it asked as one of the others: it may
    /// have become the directory node since, and know of another master by now. It asks again.
    pub(super) fn resource_for_request(&mut self, from: NodeId, name: &Name) -> Result<ResourceKey, i32> {
        let us = self.config.node;
        let hash = name_hash(name.as_bytes());
        let directory = self.members.directory_node(hash).ok_or(-EBADR)?;
        let by_directory = from == directory && !self.is_of_before();
        let known = self.table.find(hash, name);
        if known.is_none() && !by_directory && us != directory {
            return Err(-EBADR);
        }
        let key = self.find_or_add_resource(name).ok_or(-ENOMEM)?;
        let Some(resource) = self.table.resource_mut(key) else { return Err(-EBADR) };
        if known.is_none() {
            resource.master = Some(us);
        } else if resource.master != Some(us) {
            if !by_directory {
                return Err(-ENOTBLK);
            }
            resource.master = Some(us);
            if !resource.active {
                resource.master_uncertain = false;
                resource.first_lock = None;
            }
        }
        self.activate(key);
        Ok(key)
    }

    fn activate(&mut self, key: ResourceKey) {
        self.table.set_toss(key, None);
        if let Some(resource) = self.table.resource_mut(key) {
            resource.active = true;
        }
    }

    /// Sets a resource aside that has no locks any more. It is kept for a while in case it is wanted again, and for as
    /// long as the directory needs it if this node is the place in the directory and the master is another.
    pub(crate) fn settle_resource(&mut self, key: ResourceKey, now: Instant) {
        if !self.is_running() {
            // A recovery goes through all, and settles them at its end.
            return;
        }
        let us = self.config.node;
        let Some(resource) = self.table.resource_mut(key) else { return };
        if resource.attached > 0 || !resource.active {
            return;
        }
        resource.active = false;
        resource.value = None;
        // A master that never heard that it is one does not send word when it is none any more.
        let elsewhere = resource.master.is_some_and(|master| master != us);
        let keep = resource.directory == us && elsewhere && resource.master_told;
        if !keep {
            self.table.set_toss(key, Some(now + self.config.toss_after));
        }
    }

    /// Removes the resources that were unused for long enough. A master elsewhere than in the directory tells it.
    pub(crate) fn toss_unused(&mut self, now: Instant) {
        let us = self.config.node;
        while let Some((_, key)) = self.table.next_toss().filter(|(at, _)| *at <= now) {
            let tell = self
                .table
                .resource(key)
                .is_some_and(|resource| resource.master == Some(us) && resource.directory != us);
            if tell {
                self.send_remove(key);
            }
            self.table.remove_resource(key);
        }
    }

    /// Ends a lock: its user was told, and its number means nothing any more. It goes when no answer is awaited.
    pub(crate) fn end_lock(&mut self, id: LockId, now: Instant) {
        self.table.unqueue(id);
        let Some(lock) = self.table.lock_mut(id) else { return };
        lock.granted = None;
        lock.ending = true;
        self.reap(id, now);
    }

    /// Removes a lock that is over when no answer is awaited any more.
    pub(crate) fn reap(&mut self, id: LockId, now: Instant) {
        let Some(lock) = self.table.lock(id).filter(|lock| lock.ending && lock.wait.is_none()) else {
            return;
        };
        let key = lock.resource;
        self.table.remove_lock(id);
        self.settle_resource(key, now);
    }
}
