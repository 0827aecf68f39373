//! What becomes of resources at their master when all locks are there (Linux: `recover.c`).

use outlast_dlm::wire::{LockFlags, LockId, Mode};
use outlast_session::Instant;

use crate::machine::Machine;
use crate::machine::table::ResourceKey;

impl Machine {
    /// On the masters: conversions in doubt, value blocks, and what may be granted.
    pub(super) fn settle_resources(&mut self) {
        for key in self.active_resources() {
            if self.is_master(key) {
                if self.table.resource(key).is_some_and(|resource| resource.recover_convert) {
                    self.resolve_conversions(key);
                }
                self.recover_value(key);
                if let Some(resource) = self.table.resource_mut(key)
                    && resource.became_master
                {
                    resource.recover_grant |= !resource.waiting.is_empty() || !resource.converting.is_empty();
                }
            } else if let Some(resource) = self.table.resource_mut(key) {
                resource.value_not_valid = false;
            }
            if let Some(resource) = self.table.resource_mut(key) {
                resource.recover_convert = false;
                resource.recover_value = false;
                resource.became_master = false;
            }
        }
    }

    /// The value block is not valid any more if one left who could write it, or if this node is the new master and
    /// none is left who can be sure of it: that is, who holds more than concurrent read. Else it is that one's; without
    /// one, the youngest there is.
    fn recover_value(&mut self, key: ResourceKey) {
        let Some(resource) = self.table.resource(key) else { return };
        if !resource.became_master {
            if resource.recover_value
                && let Some(resource) = self.table.resource_mut(key)
            {
                resource.value_not_valid = true;
            }
            return;
        }
        let held: Vec<LockId> = resource.granted.iter().chain(&resource.converting).copied().collect();
        let mut sure = None;
        let mut youngest: Option<(u32, &Option<Vec<u8>>)> = None;
        for id in held {
            let Some(lock) = self.table.lock(id) else { continue };
            if !lock.flags.contains(LockFlags::VALUE_BLOCK) {
                continue;
            }
            if lock.granted > Some(Mode::ConcurrentRead) {
                sure = Some((lock.value_sequence, &lock.value));
                break;
            }
            let age = youngest.map_or(0, |(sequence, _)| sequence);
            // The counter may wrap.
            if lock.value_sequence.wrapping_sub(age).cast_signed() >= 0 {
                youngest = Some((lock.value_sequence, &lock.value));
            } else if youngest.is_none() {
                youngest = Some((0, &None));
            }
        }
        let Some((sequence, value)) = sure.or(youngest) else { return };
        let bytes = usize::try_from(self.config.value_block_bytes).unwrap_or(0);
        let value = value.clone().unwrap_or_else(|| vec![0; bytes]);
        let not_valid = sure.is_none();
        if let Some(resource) = self.table.resource_mut(key) {
            resource.value_not_valid |= not_valid;
            resource.value_sequence = sequence;
            resource.value = Some(value);
        }
    }

    /// Grants what can be granted now that others' locks are gone, or did not come back.
    pub(super) fn grant_recovered(&mut self, now: Instant) {
        for key in self.active_resources() {
            if !self.table.resource(key).is_some_and(|resource| resource.recover_grant) {
                continue;
            }
            if self.is_master(key) {
                self.grant_pending(key, now);
                self.confirm_master(key, 0, now);
            }
            if let Some(resource) = self.table.resource_mut(key) {
                resource.recover_grant = false;
            }
        }
    }

    /// What nobody here uses any more since its locks went is kept for a while, like everything.
    pub(super) fn release_unused_resources(&mut self, now: Instant) {
        for key in self.active_resources() {
            self.settle_resource(key, now);
        }
    }
}
