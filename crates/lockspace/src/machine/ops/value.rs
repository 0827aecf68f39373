//! Value blocks: a few bytes that a resource carries from who wrote them to who locks it next (Linux, `lock.c`,
//! `lvb_table.h`).

use outlast_dlm::wire::{LockFlags, LockId, Mode, StatusFlags};

use super::rules::{self, ValueFlow};
use crate::machine::Machine;

impl Machine {
    /// On the master, before a lock is granted: reads or writes the value block as the modes say. Returns whether it was
    /// read.
    pub(super) fn exchange_value(&mut self, id: LockId) -> bool {
        let Some(lock) = self.table.lock(id) else { return false };
        let (key, flags) = (lock.resource, lock.flags);
        let flow = rules::value_flow(lock.granted, lock.requested);
        let asked = flags.contains(LockFlags::VALUE_BLOCK) && lock.value.is_some();
        let Some(resource) = self.table.resource(key) else { return false };
        match flow {
            ValueFlow::Read => {
                // What nobody wrote is not read, and nobody is told that it is not valid.
                let (true, Some(value)) = (asked, resource.value.clone()) else { return asked };
                let sequence = resource.value_sequence;
                if let Some(lock) = self.table.lock_mut(id) {
                    lock.value = Some(value);
                    lock.value_sequence = sequence;
                }
            }
            ValueFlow::Write if flags.contains(LockFlags::INVALIDATE_VALUE_BLOCK) => {
                if let Some(resource) = self.table.resource_mut(key) {
                    resource.value_not_valid = true;
                }
                return false;
            }
            ValueFlow::Write => {
                if !asked {
                    return false;
                }
                let sequence = self.store_value(id);
                if let Some(lock) = self.table.lock_mut(id) {
                    lock.value_sequence = sequence;
                }
            }
            ValueFlow::Stays => {}
        }
        let not_valid = self.table.resource(key).is_some_and(|resource| resource.value_not_valid);
        if let Some(lock) = self.table.lock_mut(id).filter(|_| not_valid) {
            lock.status_flags |= StatusFlags::VALUE_NOT_VALID;
        }
        asked && flow == ValueFlow::Read
    }

    /// On the master, before a lock is given up: who could write leaves what it wrote.
    pub(super) fn write_value_at_unlock(&mut self, id: LockId) {
        let Some(lock) = self.table.lock(id) else { return };
        if lock.granted < Some(Mode::ProtectedWrite) {
            return;
        }
        let (key, flags) = (lock.resource, lock.flags);
        if flags.contains(LockFlags::INVALIDATE_VALUE_BLOCK) {
            if let Some(resource) = self.table.resource_mut(key) {
                resource.value_not_valid = true;
            }
        } else if flags.contains(LockFlags::VALUE_BLOCK) && lock.value.is_some() {
            self.store_value(id);
        }
    }

    /// Copies a lock's value block to its resource, and returns the number of this write.
    fn store_value(&mut self, id: LockId) -> u32 {
        let Some(lock) = self.table.lock(id) else { return 0 };
        let (key, value) = (lock.resource, lock.value.clone());
        let Some(resource) = self.table.resource_mut(key) else { return 0 };
        resource.value = value;
        resource.value_sequence = resource.value_sequence.wrapping_add(1);
        resource.value_not_valid = false;
        resource.value_sequence
    }

    /// On the owner's node, before its lock is granted by a master elsewhere: takes over what the answer brought. Returns
    /// whether it was to be read.
    pub(super) fn receive_value(&mut self, id: LockId, sequence: u32, bytes: &[u8]) -> bool {
        let Some(lock) = self.table.lock_mut(id) else { return false };
        if !lock.flags.contains(LockFlags::VALUE_BLOCK)
            || rules::value_flow(lock.granted, lock.requested) != ValueFlow::Read
        {
            return false;
        }
        let Some(value) = lock.value.as_mut() else { return false };
        overwrite(value, bytes);
        lock.value_sequence = sequence;
        true
    }

    /// On the master: the value block that came with a conversion or an unlock. A shorter one leaves the rest as it was.
    pub(super) fn receive_value_of_copy(&mut self, id: LockId, bytes: &[u8]) {
        let empty = self.empty_value();
        let Some(lock) = self.table.lock_mut(id) else { return };
        if lock.flags.contains(LockFlags::VALUE_BLOCK) {
            overwrite(lock.value.get_or_insert(empty), bytes);
        }
    }

    /// A value block that nobody wrote.
    pub(super) fn empty_value(&self) -> Vec<u8> {
        vec![0; usize::try_from(self.config.value_block_bytes).unwrap_or(0)]
    }
}

fn overwrite(value: &mut [u8], bytes: &[u8]) {
    for (place, byte) in value.iter_mut().zip(bytes) {
        *place = *byte;
    }
}
