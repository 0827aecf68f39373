//! Resources and locks, and how they are found.

mod lock;
mod resource;

pub(crate) use lock::{Lock, Role, Wait};
pub(crate) use resource::Resource;

use std::collections::{BTreeMap, BTreeSet};

use outlast_dlm::wire::{LockFlags, LockId, Name, NodeId, Queue};
use outlast_session::Instant;

use super::hash::name_hash;

/// A resource's place in the table. It means another resource once this one was removed.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ResourceKey(u32);

impl ResourceKey {
    /// No resource: of a lock whose request waits until locking goes on.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Bits of a lock's number that say its place in the table; the others count how often the place was used, so that
/// a number which is late does not mean another lock.
const LOCK_INDEX_BITS: u32 = 22;
const LOCK_INDEX_MASK: u32 = (1 << LOCK_INDEX_BITS) - 1;
const LOCK_TURNS: u32 = u32::MAX >> LOCK_INDEX_BITS;

/// All resources and locks.
#[derive(Debug)]
pub(crate) struct Table {
    resources: Vec<Option<Resource>>,
    resources_free: Vec<u32>,
    /// By hash first: comparing it is cheap. The order is stable, which the recovery uses to send names in pages.
    by_name: BTreeMap<(u32, Name), ResourceKey>,
    locks: Vec<LockPlace>,
    locks_free: Vec<u32>,
    locks_used: usize,
    /// Unused resources, by when they are removed ([`Resource::toss_at`]).
    toss: BTreeSet<(Instant, ResourceKey)>,
    /// Locks that await another node's answer, in the order in which they began ([`Lock::wait`]).
    waiters: BTreeMap<u64, LockId>,
    waiters_next: u64,
}

#[derive(Debug)]
struct LockPlace {
    turn: u32,
    lock: Option<Lock>,
}

impl Table {
    pub(crate) const fn new() -> Self {
        Self {
            resources: Vec::new(),
            resources_free: Vec::new(),
            by_name: BTreeMap::new(),
            locks: Vec::new(),
            locks_free: Vec::new(),
            locks_used: 0,
            toss: BTreeSet::new(),
            waiters: BTreeMap::new(),
            waiters_next: 0,
        }
    }

    /// How many resources there are, unused ones included.
    pub(crate) fn resource_count(&self) -> usize {
        self.by_name.len()
    }

    /// How many locks there are.
    pub(crate) const fn lock_count(&self) -> usize {
        self.locks_used
    }

    pub(crate) fn find(&self, hash: u32, name: &Name) -> Option<ResourceKey> {
        self.by_name.get(&(hash, *name)).copied()
    }

    pub(crate) fn resource(&self, key: ResourceKey) -> Option<&Resource> {
        self.resources.get(key.0 as usize)?.as_ref()
    }

    pub(crate) fn resource_mut(&mut self, key: ResourceKey) -> Option<&mut Resource> {
        self.resources.get_mut(key.0 as usize)?.as_mut()
    }

    /// Adds a resource that is not there yet. The caller keeps to [`super::Config::resources_max`].
    pub(crate) fn insert_resource(&mut self, name: Name, directory: NodeId) -> ResourceKey {
        let resource = Resource::new(name, name_hash(name.as_bytes()), directory);
        let by = (resource.hash, name);
        let index = match self.resources_free.pop() {
            Some(index) => index,
            None => {
                self.resources.push(None);
                (self.resources.len() - 1) as u32
            }
        };
        let key = ResourceKey(index);
        if let Some(place) = self.resources.get_mut(index as usize) {
            *place = Some(resource);
        }
        self.by_name.insert(by, key);
        key
    }

    /// Takes a resource out. It must have no locks.
    pub(crate) fn remove_resource(&mut self, key: ResourceKey) -> Option<Resource> {
        self.set_toss(key, None);
        let resource = self.resources.get_mut(key.0 as usize)?.take()?;
        debug_assert!(resource.attached == 0, "a resource with locks is removed");
        self.by_name.remove(&(resource.hash, resource.name));
        self.resources_free.push(key.0);
        Some(resource)
    }

    /// All resources, in the order of hash and name.
    pub(crate) fn resource_keys(&self) -> impl Iterator<Item = ResourceKey> + '_ {
        self.by_name.values().copied()
    }

    /// All resources behind this one in the order of hash and name; it need not be there any more.
    pub(crate) fn resource_keys_after(
        &self,
        hash: u32,
        name: Name,
    ) -> impl Iterator<Item = ResourceKey> + '_ {
        use core::ops::Bound::{Excluded, Unbounded};
        self.by_name.range((Excluded((hash, name)), Unbounded)).map(|(_, key)| *key)
    }

    /// Says when an unused resource is to be removed; `None`: not by time.
    pub(crate) fn set_toss(&mut self, key: ResourceKey, at: Option<Instant>) {
        let Some(resource) = self.resources.get_mut(key.0 as usize).and_then(Option::as_mut) else { return };
        if let Some(old) = resource.toss_at {
            self.toss.remove(&(old, key));
        }
        resource.toss_at = at;
        if let Some(at) = at {
            self.toss.insert((at, key));
        }
    }

    /// The next resource to be removed, and when.
    pub(crate) fn next_toss(&self) -> Option<(Instant, ResourceKey)> {
        self.toss.first().copied()
    }

    pub(crate) fn lock(&self, id: LockId) -> Option<&Lock> {
        let place = self.locks.get((id.0 & LOCK_INDEX_MASK) as usize)?;
        if place.turn == id.0 >> LOCK_INDEX_BITS { place.lock.as_ref() } else { None }
    }

    pub(crate) fn lock_mut(&mut self, id: LockId) -> Option<&mut Lock> {
        let place = self.locks.get_mut((id.0 & LOCK_INDEX_MASK) as usize)?;
        if place.turn == id.0 >> LOCK_INDEX_BITS { place.lock.as_mut() } else { None }
    }

    /// Adds a lock that is in no queue. The caller keeps to [`super::Config::locks_max`]; `None` when the numbers
    /// are all used.
    pub(crate) fn insert_lock(&mut self, make: impl FnOnce(LockId) -> Lock) -> Option<LockId> {
        let index = match self.locks_free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.locks.len()).ok().filter(|index| *index <= LOCK_INDEX_MASK)?;
                self.locks.push(LockPlace { turn: 0, lock: None });
                index
            }
        };
        let place = self.locks.get_mut(index as usize)?;
        // From 1, so that no number is 0.
        place.turn = place.turn % LOCK_TURNS + 1;
        let id = LockId(place.turn << LOCK_INDEX_BITS | index);
        let lock = make(id);
        let key = lock.resource;
        place.lock = Some(lock);
        self.locks_used += 1;
        if let Some(resource) = self.resource_mut(key) {
            resource.attached += 1;
        }
        Some(id)
    }

    /// Gives a lock that had no resource its own.
    pub(crate) fn attach(&mut self, id: LockId, key: ResourceKey) {
        let Some(lock) = self.lock_mut(id).filter(|lock| lock.resource == ResourceKey::NONE) else { return };
        lock.resource = key;
        if let Some(resource) = self.resource_mut(key) {
            resource.attached += 1;
        }
    }

    /// Takes a lock out, of its queue and of those that wait for an answer too.
    pub(crate) fn remove_lock(&mut self, id: LockId) -> Option<Lock> {
        self.unqueue(id);
        self.set_wait(id, None);
        let place = self.locks.get_mut((id.0 & LOCK_INDEX_MASK) as usize)?;
        if place.turn != id.0 >> LOCK_INDEX_BITS {
            return None;
        }
        let lock = place.lock.take()?;
        self.locks_used -= 1;
        self.locks_free.push(id.0 & LOCK_INDEX_MASK);
        if let Some(resource) = self.resource_mut(lock.resource) {
            resource.attached -= 1;
            resource.lookup_queue.retain(|other| *other != id);
        }
        Some(lock)
    }

    /// All locks.
    pub(crate) fn lock_ids(&self) -> impl Iterator<Item = LockId> + '_ {
        self.locks.iter().filter_map(|place| place.lock.as_ref()).map(|lock| lock.id)
    }

    /// Takes a lock out of the queue that it is in.
    pub(crate) fn unqueue(&mut self, id: LockId) {
        let Some(lock) = self.lock_mut(id) else { return };
        let (Some(queue), key) = (lock.queue.take(), lock.resource) else { return };
        if let Some(resource) = self.resource_mut(key) {
            let queue = resource.queue_mut(queue);
            if let Some(at) = queue.iter().position(|other| *other == id) {
                queue.remove(at);
            }
        }
    }

    /// Puts a lock into a queue, out of the one that it is in.
    ///
    /// Those who wait stand in the order of their coming, unless one asks for the head of the queue. Among the granted the
    /// newest stands first: Linux means to sort them by mode, but compares with the mode that is asked for, which a
    /// granted lock has none of (`lock.c`); so that is the order in which holders are told that they block.
    pub(crate) fn enqueue(&mut self, id: LockId, queue: Queue) {
        self.unqueue(id);
        let Some(lock) = self.lock(id) else { return };
        let key = lock.resource;
        let Some(resource) = self.resource(key) else { return };
        let end = resource.queue(queue).len();
        let at = match queue {
            Queue::Waiting | Queue::Converting if lock.flags.contains(LockFlags::HEAD_OF_QUEUE) => 0,
            Queue::Waiting | Queue::Converting => end,
            Queue::Granted => {
                let weaker =
                    |other: &LockId| self.lock(*other).is_some_and(|other| other.requested < lock.granted);
                resource.granted.iter().position(weaker).unwrap_or(end)
            }
        };
        if let Some(resource) = self.resource_mut(key) {
            resource.queue_mut(queue).insert(at, id);
        }
        if let Some(lock) = self.lock_mut(id) {
            lock.queue = Some(queue);
        }
    }

    /// Marks that a lock awaits an answer, or that it does not any more.
    pub(crate) fn set_wait(&mut self, id: LockId, wait: Option<Wait>) {
        let place = (id.0 & LOCK_INDEX_MASK) as usize;
        let Some(place) = self.locks.get_mut(place).filter(|place| place.turn == id.0 >> LOCK_INDEX_BITS)
        else {
            return;
        };
        let Some(lock) = place.lock.as_mut() else { return };
        let order = lock.wait.map(|wait| wait.order);
        match (order, wait) {
            (Some(order), Some(wait)) => lock.wait = Some(Wait { order, ..wait }),
            (Some(order), None) => {
                lock.wait = None;
                self.waiters.remove(&order);
            }
            (None, Some(wait)) => {
                let order = self.waiters_next;
                self.waiters_next += 1;
                lock.wait = Some(Wait { order, ..wait });
                self.waiters.insert(order, id);
            }
            (None, None) => {}
        }
    }

    /// The locks that await an answer, the oldest first.
    pub(crate) fn waiters(&self) -> impl Iterator<Item = LockId> + '_ {
        self.waiters.values().copied()
    }
}
