//! The directory: which node is the master of a resource. Each node keeps a part of it, by the hash of names, and
//! rebuilds it in every recovery from what the masters say (Linux: `dir.c`; `lock.c`, `dlm_master_lookup`).

use outlast_dlm::wire::{NAMES_BYTES_MAX, Name, NodeId, RcomBody};
use outlast_session::Instant;

use super::{Asks, Step};
use crate::machine::errno::{EINVAL, ENOMEM};
use crate::machine::hash::name_hash;
use crate::machine::table::ResourceKey;
use crate::machine::{Machine, MachineFault, RecoveryFailure};

/// Bytes of a name's length in a list of names, and of what ends the list.
const LENGTH_BYTES: usize = 2;

/// Why the master of a resource is looked up in a recovery.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum LookupReason {
    /// It says that it is the master.
    IsMaster,
    /// The master it knows of has left. Who asks first becomes the master.
    MasterGone,
}

impl Machine {
    /// Looks up the master of a resource in our part of the directory, for another node.
    ///
    /// # Errors
    /// A positive error number: the resource is not in our part, or there are too many.
    fn look_up(&mut self, from: NodeId, name: Name, reason: LookupReason) -> Result<NodeId, i32> {
        let own = self.config.node;
        let hash = name_hash(name.as_bytes());
        if from == own || self.members.directory_node(hash) != Some(own) {
            return Err(EINVAL);
        }
        let Some(key) = self.table.find(hash, &name) else {
            if self.table.resource_count() >= self.config.resources_max {
                return Err(ENOMEM);
            }
            let key = self.table.insert_resource(name, own);
            if let Some(resource) = self.table.resource_mut(key) {
                resource.active = false;
                resource.master = Some(from);
                resource.master_told = true;
            }
            return Ok(from);
        };
        let members = &self.members;
        let Some(resource) = self.table.resource_mut(key) else { return Err(EINVAL) };
        resource.directory = own;
        let own_master = resource.master == Some(own);
        let lost = resource.master.is_some_and(|master| members.is_gone(master));
        let takes_over = match reason {
            LookupReason::IsMaster => !own_master,
            LookupReason::MasterGone => {
                !own_master && (lost || resource.master.is_none() || resource.is_unheard())
            }
        };
        if takes_over {
            resource.new_master |= resource.master.is_some_and(|master| master != from);
            resource.master = Some(from);
            resource.master_told = true;
        }
        resource.master.ok_or(EINVAL)
    }

    /// Says which resources we are the master of and the asker lists in its part of the directory.
    pub(super) fn answer_names(&mut self, from: NodeId, id: u64, sequence: u64, after: Option<Name>) {
        let keys: Vec<ResourceKey> = match after {
            None => self.table.resource_keys().collect(),
            Some(name) => self.table.resource_keys_after(name_hash(name.as_bytes()), name).collect(),
        };
        let mut names = Vec::new();
        let mut bytes = LENGTH_BYTES;
        let mut complete = true;
        for key in keys {
            let Some(resource) = self.table.resource(key) else { continue };
            if !resource.active || resource.master != Some(self.config.node) || resource.directory != from {
                continue;
            }
            bytes += LENGTH_BYTES + resource.name.as_bytes().len();
            if bytes > NAMES_BYTES_MAX {
                complete = false;
                break;
            }
            names.push(resource.name);
        }
        self.answer(from, id, sequence, 0, RcomBody::NamesReply { names, complete });
    }

    /// A node has said which resources it is the master of.
    pub(super) fn names_told(
        &mut self,
        from: NodeId,
        id: u64,
        names: &[Name],
        complete: bool,
        now: Instant,
    ) -> Result<(), MachineFault> {
        let own = self.config.node;
        if self.recovery.step != Step::Names(from) {
            self.statistics.ignored += 1;
            return Ok(());
        }
        let fault = |why| Err(MachineFault::Recovery { node: from, why });
        if !complete && names.is_empty() {
            return fault("a list of names that goes on without any");
        }
        let misplaced = |name: &&Name| self.members.directory_node(name_hash(name.as_bytes())) != Some(own);
        if names.iter().any(|name| misplaced(&name)) {
            return fault("a name that another node's part of the directory lists");
        }
        if self.take_question(from, id).is_none() {
            self.statistics.ignored += 1;
            return Ok(());
        }
        for name in names {
            if self.look_up(from, *name, LookupReason::IsMaster).is_err() {
                self.fail(RecoveryFailure::TooManyResources(self.config.resources_max));
                return Ok(());
            }
        }
        match names.last() {
            Some(last) if !complete => self.ask(from, Asks::Names { after: Some(*last) }, now),
            Some(_) | None => self.names_after(Some(from), now),
        }
        Ok(())
    }

    /// Says who the master of a resource is now whose old one left: the first that asks.
    pub(super) fn answer_lookup(&mut self, from: NodeId, id: u64, sequence: u64, name: Name) {
        let result = match self.look_up(from, name, LookupReason::MasterGone) {
            Ok(master) => master.0.cast_signed(),
            Err(error) => -error,
        };
        self.answer(from, id, sequence, result, RcomBody::LookupReply);
    }

    /// All resources, in the order of their hashes and names.
    pub(super) fn resource_list(&self) -> Vec<ResourceKey> {
        self.table.resource_keys().collect()
    }

    /// All resources that are more than a place in the directory, in the order of their hashes and names.
    pub(super) fn active_resources(&self) -> Vec<ResourceKey> {
        let is_active = |key: &ResourceKey| self.table.resource(*key).is_some_and(|resource| resource.active);
        self.table.resource_keys().filter(is_active).collect()
    }

    /// Drops all resources that nobody here uses: places in the directory are void, and of the others the master
    /// may change without our knowing.
    pub(super) fn drop_unused_resources(&mut self) {
        let own = self.config.node;
        for key in self.resource_list() {
            let Some(resource) = self.table.resource_mut(key) else { continue };
            // One with locks that are not granted yet, in no queue, is in use, too. And where others were told that we are
            // the master, in a recovery that did not come to its end, we must be, even if nobody here wants it any more:
            // they send us their locks. Linux drops it, and then refuses them for ever.
            let promised = resource.master == Some(own) && resource.became_master;
            if resource.attached == 0 && !promised {
                self.table.remove_resource(key);
            } else {
                resource.active = true;
                resource.master_told = false;
            }
        }
    }

    /// Finds out for all resources whose part of the directory lists them now.
    pub(super) fn place_in_directory(&mut self) {
        for key in self.resource_list() {
            if let Some(resource) = self.table.resource_mut(key)
                && let Some(directory) = self.members.directory_node(resource.hash)
            {
                resource.directory = directory;
            }
        }
    }
}
