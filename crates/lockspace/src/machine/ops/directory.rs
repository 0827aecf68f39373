//! Messages to and from the node that knows the master of a name (Linux, `lock.c`).

use outlast_dlm::wire::{Message, MessageKind, NodeId};
use outlast_session::Instant;

use super::receive::malformed;
use crate::machine::errno::{EAGAIN, EINVAL, ENOMEM};
use crate::machine::hash::name_hash;
use crate::machine::table::Role;
use crate::machine::{Machine, MachineFault, Outcome};

impl Machine {
    /// Who is the master? Who asks first for a name that has none becomes it; if it is this node, the lookup is a request.
    pub(super) fn receive_lookup(
        &mut self,
        from: NodeId,
        message: &Message,
        now: Instant,
    ) -> Result<(), MachineFault> {
        let us = self.config.node;
        let name = message.name().map_err(|_| malformed(from, message, "a name that is none"))?;
        let hash = name_hash(name.as_bytes());
        if self.members.directory_node(hash) != Some(us) {
            self.send_lookup_reply(from, message, None, -EINVAL);
            return Ok(());
        }
        let known = self.table.find(hash, &name);
        let Some(key) = self.find_or_add_resource(&name) else {
            self.send_lookup_reply(from, message, None, -ENOMEM);
            return Ok(());
        };
        let Some(resource) = self.table.resource_mut(key) else { return Ok(()) };
        if known.is_none() {
            // Only a place in the directory: it stays until the master says that there is none any more.
            resource.active = false;
        }
        resource.directory = us;
        if !resource.active && !resource.master_told && resource.master != Some(us) {
            // It was to become the master when a recovery came in between, and never was.
            resource.master = None;
        }
        let master = *resource.master.get_or_insert(from);
        resource.master_told |= master == from;
        if master == us {
            return self.receive_request(from, message, now);
        }
        // It was unused, and is a place in the directory from now on.
        self.table.set_toss(key, None);
        self.send_lookup_reply(from, message, Some(master), 0);
        Ok(())
    }

    /// The master has no locks on this name any more, and forgets it.
    ///
    /// If there are requests of ours under way to it, they crossed: the place in the directory stays, and the master takes
    /// the name up again when they come, since they come from its directory node. But perhaps none will come, if what we have
    /// under way is over before it is sent: then the master will not send word again.
    pub(super) fn receive_remove(&mut self, from: NodeId, message: &Message) -> Result<(), MachineFault> {
        let name = message.name().map_err(|_| malformed(from, message, "a name that is none"))?;
        let us = self.config.node;
        let found = self.table.find(name_hash(name.as_bytes()), &name);
        let place = found
            .filter(|key| {
                let resource = self.table.resource(*key);
                resource.is_some_and(|resource| resource.directory == us && resource.master == Some(from))
            })
            .and_then(|key| Some((key, self.table.resource_mut(key)?)));
        match place {
            Some((key, resource)) if !resource.active => {
                self.table.remove_resource(key);
            }
            Some((_, resource)) => resource.master_told = false,
            None => self.statistics.ignored += 1,
        }
        Ok(())
    }

    pub(super) fn receive_lookup_reply(
        &mut self,
        from: NodeId,
        message: &Message,
        now: Instant,
    ) -> Result<(), MachineFault> {
        let us = self.config.node;
        // Here the sender repeats our number where others give theirs.
        let id = message.lock;
        let Some(lock) = self.table.lock(id) else {
            self.statistics.ignored += 1;
            return Ok(());
        };
        let asked = lock.wait.filter(|wait| wait.kind == Some(MessageKind::Lookup)).map(|wait| wait.node);
        if lock.role != Role::Own || asked != Some(from) {
            return Err(MachineFault::NotTheirs { node: from, kind: message.kind, lock: id });
        }
        let master = message.node_id().filter(|_| message.result == 0);
        if let Some(master) = master
            && !self.members.contains(master)
        {
            return Err(malformed(from, message, "the master is no member"));
        }
        let key = lock.resource;
        self.take_answer(id, MessageKind::LookupReply, message.result);
        // An answer can be overtaken: the master that took in a lock of ours meanwhile is the right one.
        if let Some(resource) = self.table.resource_mut(key) {
            if resource.is_unlocked() || resource.master.is_none() {
                resource.master = master;
            }
            if resource.master == Some(us) {
                resource.first_lock = None;
            }
        }
        let Some(lock) = self.table.lock_mut(id) else { return Ok(()) };
        let (unlock, cancel) =
            (core::mem::take(&mut lock.overlap_unlock), core::mem::take(&mut lock.overlap_cancel));
        if unlock || cancel {
            self.complete(id, if unlock { Outcome::Unlocked } else { Outcome::Canceled });
            self.confirm_master(key, -EAGAIN, now);
            self.end_lock(id, now);
        } else if message.result != 0 && message.result != -EINVAL {
            self.complete(id, Outcome::Failed(message.result));
            self.confirm_master(key, -EAGAIN, now);
            self.end_lock(id, now);
        } else {
            self.request_lock(id, now);
        }
        if self.is_master(key) {
            self.retry_waiting_for_master(key, now);
        }
        Ok(())
    }
}
