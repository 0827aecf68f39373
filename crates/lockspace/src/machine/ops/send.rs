//! Messages about locks, with every field as Linux fills it (`lock.c`), and the answers that are awaited.

use outlast_dlm::wire::{CallbackFlags, Inner, LockFlags, LockId, Message, MessageKind, Mode, Name, NodeId};

use crate::machine::Machine;
use crate::machine::hash::name_hash;
use crate::machine::table::{ResourceKey, Role, Wait};

/// [`Message::node`] where there is none.
const NO_NODE: i32 = -1;

/// A node in a message that may hold a negative number there.
pub(super) const fn node_field(node: NodeId) -> i32 {
    node.0.cast_signed()
}

impl Machine {
    /// A message that says of a lock what is known here.
    fn message_about(&self, id: LockId, kind: MessageKind) -> Option<Message> {
        let lock = self.table.lock(id)?;
        let resource = self.table.resource(lock.resource)?;
        let node = match lock.role {
            Role::CopyFor(owner) => node_field(owner),
            Role::Own => resource.master.map_or(NO_NODE, node_field),
        };
        let extra = match kind {
            MessageKind::Request | MessageKind::Lookup => resource.name.as_bytes().to_vec(),
            MessageKind::Convert
            | MessageKind::Unlock
            | MessageKind::RequestReply
            | MessageKind::ConvertReply
            | MessageKind::Grant => match &lock.value {
                Some(value) if lock.flags.contains(LockFlags::VALUE_BLOCK) => value.clone(),
                Some(_) | None => Vec::new(),
            },
            MessageKind::Cancel
            | MessageKind::UnlockReply
            | MessageKind::CancelReply
            | MessageKind::Blocking
            | MessageKind::Remove
            | MessageKind::LookupReply
            | MessageKind::Purge => Vec::new(),
        };
        Some(Message {
            node,
            process: lock.process,
            lock: lock.id,
            remote_lock: lock.remote,
            flags: lock.flags,
            status_flags: lock.status_flags,
            distributed_flags: lock.distributed_flags,
            value_sequence: lock.value_sequence,
            hash: resource.hash,
            queue: lock.queue,
            granted: lock.granted,
            requested: lock.requested,
            callbacks: lock.callbacks,
            extra,
            ..Message::new(self.config.lockspace, kind)
        })
    }

    /// Sends what needs no answer: an answer, or a grant.
    pub(super) fn send_about(&mut self, id: LockId, to: NodeId, kind: MessageKind, result: i32) {
        if let Some(message) = self.message_about(id, kind) {
            self.send(to, Inner::Message(Message { result, ..message }));
        }
    }

    /// Tells the owner of a copy that it blocks.
    pub(super) fn send_blocking(&mut self, id: LockId, to: NodeId, mode: Mode) {
        if let Some(message) = self.message_about(id, MessageKind::Blocking) {
            self.send(to, Inner::Message(Message { blocked: Some(mode), ..message }));
        }
    }

    /// Answers a message for which there is no lock here.
    pub(super) fn send_refusal(&mut self, to: NodeId, asked: &Message, kind: MessageKind, result: i32) {
        let message = Message {
            node: node_field(to),
            remote_lock: asked.lock,
            result,
            ..Message::new(self.config.lockspace, kind)
        };
        self.send(to, Inner::Message(message));
    }

    /// Says who the master is; in the answer to a lookup the lock's number is that of who asked.
    pub(super) fn send_lookup_reply(
        &mut self,
        to: NodeId,
        asked: &Message,
        master: Option<NodeId>,
        result: i32,
    ) {
        let message = Message {
            node: master.map_or(NO_NODE, node_field),
            lock: asked.lock,
            result,
            ..Message::new(self.config.lockspace, MessageKind::LookupReply)
        };
        self.send(to, Inner::Message(message));
    }

    /// Tells the directory that a name has no master any more.
    pub(super) fn send_remove(&mut self, key: ResourceKey) {
        let Some(resource) = self.table.resource(key) else { return };
        let (to, name) = (resource.directory, resource.name);
        self.send_remove_of(to, &name);
    }

    /// Tells the directory that this node is not the master of a name.
    pub(super) fn send_remove_of(&mut self, to: NodeId, name: &Name) {
        let message = Message {
            hash: name_hash(name.as_bytes()),
            extra: name.as_bytes().to_vec(),
            ..Message::new(self.config.lockspace, MessageKind::Remove)
        };
        self.send(to, Inner::Message(message));
    }

    /// Says everywhere that a process of a node is gone, or with 0 that all orphans are.
    pub(super) fn send_purge(&mut self, to: NodeId, process: u32) {
        let message = Message {
            node: node_field(to),
            process,
            ..Message::new(self.config.lockspace, MessageKind::Purge)
        };
        self.send(to, Inner::Message(message));
    }

    /// Asks the master (or, with [`MessageKind::Lookup`], the directory) about an own lock, and notes that the answer is
    /// awaited. `false`: another operation is under way, and nothing was sent.
    pub(super) fn ask_about(&mut self, id: LockId, kind: MessageKind) -> bool {
        let Some(lock) = self.table.lock_mut(id) else { return false };
        if kind == MessageKind::Unlock
            && lock.requested.is_some()
            && lock.granted < Some(Mode::ProtectedWrite)
        {
            // It may be granted before this comes there, and has nothing to write: its user has not even read. Linux lets
            // the master write what came with the request.
            lock.flags = lock.flags.without(LockFlags::VALUE_BLOCK);
        }
        let Some(lock) = self.table.lock(id) else { return false };
        let Some(resource) = self.table.resource(lock.resource) else { return false };
        let to = if kind == MessageKind::Lookup { Some(resource.directory) } else { resource.master };
        let Some(to) = to.filter(|to| *to != self.config.node) else { return false };
        if !self.await_answer(id, kind, to) {
            return false;
        }
        self.send_about(id, to, kind, 0);
        true
    }

    /// Notes that an answer is awaited. Only an unlock or a cancel may overlap another operation, and only once.
    fn await_answer(&mut self, id: LockId, kind: MessageKind, node: NodeId) -> bool {
        let Some(lock) = self.table.lock_mut(id) else { return false };
        if lock.overlap_unlock || lock.overlap_cancel && kind == MessageKind::Cancel {
            return false;
        }
        let overlaps = lock.wait.is_some_and(|wait| wait.kind.is_some()) || lock.overlap_cancel;
        if overlaps {
            if kind == MessageKind::Unlock {
                lock.overlap_unlock = true;
            } else if kind == MessageKind::Cancel {
                lock.overlap_cancel = true;
            } else {
                return false;
            }
        }
        let wait = match lock.wait {
            Some(wait) if overlaps => Wait { count: wait.count + 1, ..wait },
            Some(wait) => Wait { kind: Some(kind), node, count: wait.count + 1, ..wait },
            None if overlaps => Wait { kind: None, node, count: 1, order: 0 },
            None => Wait { kind: Some(kind), node, count: 1, order: 0 },
        };
        self.table.set_wait(id, Some(wait));
        true
    }

    /// Takes note of an answer. `false`: none of this kind is awaited, or it is moot.
    ///
    /// A conversion that is granted while its cancel is under way makes the cancel moot: its answer is not awaited any
    /// more, so that the user, who has his answer, can go on at once (Linux, `lock.c`).
    pub(super) fn take_answer(&mut self, id: LockId, answer: MessageKind, result: i32) -> bool {
        let Some(lock) = self.table.lock_mut(id) else { return false };
        let Some(mut wait) = lock.wait else { return false };
        let mut answers = 1;
        // What overlaps a request is not asked before that is answered.
        let not_asked = matches!(wait.kind, Some(MessageKind::Request | MessageKind::Lookup));
        if not_asked && matches!(answer, MessageKind::UnlockReply | MessageKind::CancelReply) {
            return false;
        }
        if answer == MessageKind::UnlockReply && lock.overlap_unlock {
            lock.overlap_unlock = false;
            // Whatever was asked before is not answered any more: answers come in the order of the questions.
            answers += u32::from(wait.kind.take().is_some());
        } else if answer == MessageKind::CancelReply && lock.overlap_cancel {
            lock.overlap_cancel = false;
            answers += u32::from(wait.kind.take().is_some());
        } else if answer == MessageKind::CancelReply && wait.kind != Some(MessageKind::Cancel) {
            return false;
        } else if answer == MessageKind::ConvertReply
            && wait.kind == Some(MessageKind::Convert)
            && result == 0
            && lock.overlap_cancel
        {
            lock.overlap_cancel = false;
            wait.kind = None;
            answers += 1;
            let others = lock.moot_cancels.map_or(0, |(_, count)| count);
            lock.moot_cancels = Some((wait.node, others + 1));
        } else if wait.kind.is_some_and(|asked| is_answer(asked, answer)) {
            wait.kind = None;
        } else {
            return false;
        }
        lock.resend = false;
        wait.count = wait.count.saturating_sub(answers);
        let left = if wait.count == 0 { None } else { Some(wait) };
        self.table.set_wait(id, left);
        true
    }

    /// Whether the answer to a cancel means one that is moot. Without this count it would be taken for the answer to the next
    /// cancel, which is how Linux loses track of a lock that is converted and canceled twice in a row.
    pub(super) fn take_moot_answer(&mut self, id: LockId, from: NodeId) -> bool {
        let Some(lock) = self.table.lock_mut(id) else { return false };
        let Some((_, count)) = lock.moot_cancels.filter(|(node, _)| *node == from) else { return false };
        lock.moot_cancels = count.checked_sub(1).filter(|left| *left > 0).map(|left| (from, left));
        true
    }

    /// Nodes that left will not answer cancels that are moot either.
    pub(crate) fn forget_moot_cancels(&mut self) {
        let locks: Vec<LockId> = self.table.lock_ids().collect();
        for id in locks {
            let Some(lock) = self.table.lock_mut(id) else { continue };
            if lock.moot_cancels.is_some_and(|(node, _)| self.members.is_gone(node)) {
                lock.moot_cancels = None;
            }
        }
    }

    /// What the owner of an own lock wants to be told, as messages carry it.
    pub(super) const fn callbacks(wants_blocking: bool) -> CallbackFlags {
        if wants_blocking {
            CallbackFlags::COMPLETION.with(CallbackFlags::BLOCKING)
        } else {
            CallbackFlags::COMPLETION
        }
    }
}

/// Whether this kind of message answers that one.
const fn is_answer(asked: MessageKind, answer: MessageKind) -> bool {
    matches!(
        (asked, answer),
        // A directory node that is the master itself answers a lookup as if it were a request.
        (MessageKind::Request | MessageKind::Lookup, MessageKind::RequestReply)
            | (MessageKind::Lookup, MessageKind::LookupReply)
            | (MessageKind::Convert, MessageKind::ConvertReply)
            | (MessageKind::Unlock, MessageKind::UnlockReply)
            | (MessageKind::Cancel, MessageKind::CancelReply)
    )
}
