//! How far nodes are, and their slots.

use outlast_dlm::wire::{NodeId, RcomBody, RecoveryStatus, StatusReply};
use outlast_session::Instant;

use super::{Asks, Barrier, Stage, Step, slots};
use crate::machine::errno::ESRCH;
use crate::machine::{Event, Machine, RecoveryFailure, Transmit};

impl Machine {
    /// Says how far we are, whatever we are at.
    pub(super) fn answer_status(&mut self, from: NodeId, id: u64, sequence: u64, need_slots: bool) {
        let recovery = &self.recovery;
        let reply = StatusReply {
            value_block_bytes: self.config.value_block_bytes,
            lockspace_flags: self.config.lockspace_flags,
            our_slot: recovery.slot,
            generation: recovery.generation,
            epoch: recovery.epoch,
            slots: if need_slots { recovery.given.clone() } else { Vec::new() },
        };
        let result = recovery.status.0.cast_signed();
        let inner = self.rcom(id, sequence, result, RcomBody::StatusReply(reply));
        self.transmits.push_back(Transmit { to: from, inner, numbered: false });
    }

    /// A node has said how far it is.
    pub(super) fn status_told(
        &mut self,
        from: NodeId,
        id: u64,
        result: i32,
        reply: &StatusReply,
        now: Instant,
    ) {
        if self.recovery.question.as_ref().is_some_and(|question| matches!(question.asks, Asks::Names { .. }))
        {
            self.statistics.ignored += 1;
            return;
        }
        if self.take_question(from, id).is_none() {
            // The answer to a question that was put again since.
            self.statistics.ignored += 1;
            return;
        }
        let is_there = result != -ESRCH;
        if is_there && !self.agrees(from, reply) {
            return;
        }
        // At another membership it has not even stopped for this one.
        let epochs = (self.recovery.epoch, reply.epoch);
        let is_elsewhere = is_there && epochs.0 != 0 && epochs.1 != 0 && epochs.0 != epochs.1;
        let has_begun = is_there && !is_elsewhere;
        // Without bits: it has not begun.
        let status = RecoveryStatus(if has_begun { result.cast_unsigned() } else { 0 });
        match &self.recovery.step {
            Step::Ping(_) => self.pinged(!is_elsewhere, now),
            Step::Barrier(Barrier { stage: Stage::Nodes, .. }) => {
                if self.members.lowest() == Some(self.config.node) {
                    if let Some(state) = self.members.state_mut(from) {
                        state.slot = reply.our_slot;
                        state.generation = reply.generation;
                    }
                } else if status.contains(RecoveryStatus::NODES_ALL) {
                    self.take_slots(reply);
                }
                self.barrier_told(status, now);
            }
            Step::Barrier(_) => self.barrier_told(status, now),
            // Nothing was asked.
            Step::Rest | Step::Failed | Step::Names(_) | Step::Masters | Step::Locks => {}
        }
    }

    /// Whether the lockspace is made there as here; if not, the recovery cannot go on.
    fn agrees(&mut self, from: NodeId, reply: &StatusReply) -> bool {
        let theirs = (reply.value_block_bytes, reply.lockspace_flags);
        let ours = (self.config.value_block_bytes, self.config.lockspace_flags);
        if theirs != ours {
            self.fail(RecoveryFailure::Configuration {
                node: from,
                value_block_bytes: reply.value_block_bytes,
                lockspace_flags: reply.lockspace_flags,
            });
        }
        theirs == ours
    }

    /// The recovery cannot go on.
    pub(super) fn fail(&mut self, failure: RecoveryFailure) {
        self.recovery.step = Step::Failed;
        self.recovery.question = None;
        self.events.push_back(Event::RecoveryFailed(failure));
    }

    /// Gives slots to all, as the lowest node.
    pub(super) fn give_slots(&mut self) {
        let (slot, generation) = (self.recovery.slot, self.recovery.generation);
        if let Some(state) = self.members.state_mut(self.config.node) {
            state.slot = slot;
            state.generation = generation;
        }
        let Some(assignment) = slots::assign(&mut self.members) else { return };
        self.recovery.generation = assignment.generation;
        let ours = assignment.slots.iter().find(|slot| slot.node == self.config.node);
        if let Some(ours) = ours {
            self.recovery.slot = ours.slot;
        }
        self.recovery.given = assignment.slots;
    }

    /// Takes over what the lowest node has given.
    fn take_slots(&mut self, reply: &StatusReply) {
        self.recovery.generation = self.recovery.generation.max(reply.generation);
        for slot in &reply.slots {
            if let Some(state) = self.members.state_mut(slot.node) {
                state.slot = slot.slot;
                state.slot_before = slot.slot;
            }
            if slot.node == self.config.node && self.recovery.slot == 0 {
                self.recovery.slot = slot.slot;
            }
        }
    }
}
