//! Recovery messages: which are for this recovery, and who handles them (Linux: `rcom.c`).

use outlast_dlm::wire::{Inner, NodeId, Rcom, RcomBody, RcomKind, RecoveryStatus, StatusReply};
use outlast_session::Instant;

use super::{Asks, Question};
use crate::machine::errno::ESRCH;
use crate::machine::{Machine, MachineFault, Transmit};

/// What a node answers that is asked how far it is with a lockspace that it does not have (yet). Goes with a number.
///
/// The asker takes it for "not far", and asks again.
pub fn not_ready_reply(question: &Rcom) -> Rcom {
    let reply = StatusReply { value_block_bytes: u32::MAX, ..StatusReply::default() };
    Rcom {
        lockspace: question.lockspace,
        result: -ESRCH,
        id: question.id,
        sequence: 0,
        sequence_reply: question.sequence,
        body: RcomBody::StatusReply(reply),
    }
}

impl Machine {
    /// Handles a recovery message.
    ///
    /// # Errors
    /// [`MachineFault`]: the sender sent what cannot be.
    pub(crate) fn receive_rcom(
        &mut self,
        from: NodeId,
        rcom: Rcom,
        now: Instant,
    ) -> Result<(), MachineFault> {
        if rcom.lockspace != self.config.lockspace {
            return Err(MachineFault::Lockspace(rcom.lockspace));
        }
        if from == self.config.node {
            return Err(MachineFault::Recovery { node: from, why: "it has the id of this node" });
        }
        if !self.is_for_this_recovery(from, &rcom) {
            self.statistics.ignored += 1;
            return Ok(());
        }
        let Rcom { result, id, sequence, body, .. } = rcom;
        match body {
            RcomBody::Status { need_slots, incarnation: _ } => {
                self.answer_status(from, id, sequence, need_slots);
                Ok(())
            }
            RcomBody::StatusReply(reply) => {
                self.status_told(from, id, result, &reply, now);
                Ok(())
            }
            RcomBody::Names { after } => {
                self.answer_names(from, id, sequence, after);
                Ok(())
            }
            RcomBody::NamesReply { names, complete } => self.names_told(from, id, &names, complete, now),
            RcomBody::Lookup { name } => {
                self.answer_lookup(from, id, sequence, name);
                Ok(())
            }
            RcomBody::LookupReply => self.master_told(from, id, result, now),
            RcomBody::Lock(lock) => {
                self.take_lock(from, id, sequence, lock);
                Ok(())
            }
            RcomBody::LockReply(lock) => self.lock_confirmed(from, &lock, now),
        }
    }

    /// Messages of an earlier recovery, and those for which it is too early, are ignored: who sent them sends them
    /// again, or has begun anew himself.
    fn is_for_this_recovery(&self, from: NodeId, rcom: &Rcom) -> bool {
        let recovery = &self.recovery;
        let (is_answer, needs) = match rcom.body.kind() {
            RcomKind::Status => return true,
            RcomKind::StatusReply => (true, RecoveryStatus::NONE),
            RcomKind::Names => (false, RecoveryStatus::NODES),
            RcomKind::NamesReply => (true, RecoveryStatus::NODES),
            RcomKind::Lookup | RcomKind::Lock => (false, RecoveryStatus::DIRECTORY),
            RcomKind::LookupReply | RcomKind::LockReply => (true, RecoveryStatus::DIRECTORY),
        };
        !recovery.stopped
            && self.members.contains(from)
            && (!is_answer || rcom.sequence_reply == recovery.sequence)
            && recovery.status.contains(needs)
    }

    /// Puts a question, whose answer the recovery waits for.
    pub(super) fn ask(&mut self, to: NodeId, asks: Asks, now: Instant) {
        let id = self.recovery.question_last.wrapping_add(1);
        self.recovery.question_last = id;
        let (body, numbered) = match &asks {
            Asks::Status { need_slots } => {
                (RcomBody::Status { need_slots: *need_slots, incarnation: 0 }, false)
            }
            Asks::Names { after } => (RcomBody::Names { after: *after }, true),
        };
        self.recovery.question = Some(Question { id, to, asks, again: now + super::ANSWER_AFTER });
        let inner = self.rcom(id, 0, 0, body);
        self.transmits.push_back(Transmit { to, inner, numbered });
    }

    /// The question that this answers, if it is the one whose answer is awaited.
    pub(super) fn take_question(&mut self, from: NodeId, id: u64) -> Option<Asks> {
        let question = self.recovery.question.take_if(|question| question.id == id && question.to == from)?;
        Some(question.asks)
    }

    /// Sends an answer.
    pub(super) fn answer(&mut self, to: NodeId, id: u64, sequence: u64, result: i32, body: RcomBody) {
        let inner = self.rcom(id, sequence, result, body);
        self.send(to, inner);
    }

    pub(super) fn rcom(&self, id: u64, sequence_reply: u64, result: i32, body: RcomBody) -> Inner {
        Inner::Rcom(Rcom {
            lockspace: self.config.lockspace,
            result,
            id,
            sequence: self.recovery.sequence,
            sequence_reply,
            body,
        })
    }
}
