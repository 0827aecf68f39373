//! The steps of a recovery, one after the other.

use core::time::Duration;

use outlast_dlm::wire::{NodeId, RecoveryStatus, SLOTS_MAX};
use outlast_session::Instant;

use super::{Asks, Barrier, POLL_STEP, Ping, Question, Stage, Step};
use crate::machine::{Event, Machine, Member, StartError};

impl Machine {
    /// The membership is about to change: locking stands still, and a recovery that is under way ends. Must have come
    /// to its end on all nodes before [`Machine::handle_start`] is called on any.
    pub fn handle_stop(&mut self, _now: Instant) {
        let recovery = &mut self.recovery;
        recovery.stopped = true;
        recovery.sequence = recovery.sequence.wrapping_add(1);
        recovery.status = RecoveryStatus::NONE;
        recovery.given.clear();
        recovery.step = Step::Rest;
        recovery.question = None;
        recovery.lookups.clear();
        recovery.unconfirmed.clear();
        for key in self.resource_list() {
            if let Some(resource) = self.table.resource_mut(key) {
                resource.recover_locks = 0;
            }
        }
        if core::mem::take(&mut self.recovery.running) {
            self.events.push_back(Event::RecoveryBegun);
        }
    }

    /// The membership has changed to this, on all nodes alike: the recovery begins.
    ///
    /// # Errors
    /// [`StartError`]; nothing changed.
    pub fn handle_start(&mut self, members: &[Member], now: Instant) -> Result<(), StartError> {
        if !self.recovery.stopped {
            return Err(StartError::NotStopped);
        }
        if members.len() > SLOTS_MAX {
            return Err(StartError::TooMany { count: members.len(), max: SLOTS_MAX });
        }
        for (index, member) in members.iter().enumerate() {
            if member.node == NodeId(0) {
                return Err(StartError::Zero);
            }
            if members.iter().take(index).any(|other| other.node == member.node) {
                return Err(StartError::Twice(member.node));
            }
        }
        let own = self.config.node;
        if !members.iter().any(|member| member.node == own) {
            return Err(StartError::NotAMember(own));
        }
        self.recovery.stopped = false;
        self.recovery.sequence = self.recovery.sequence.wrapping_add(1);
        self.drop_unused_resources();
        self.forget_refusals();
        let change = self.members.change(own, members);
        let removed = change.removed.into_iter().map(Event::MemberRemoved);
        let added = change.added.into_iter().filter(|node| *node != own).map(Event::MemberAdded);
        self.events.extend(removed.chain(added));
        self.ping_after(None, now);
        Ok(())
    }

    /// Numbers the membership that the next [`Machine::handle_start`] tells: nodes of ours with different numbers wait for
    /// each other, so that no one need see to it that all have stopped before any is started. 0, as at first: nobody
    /// numbers them, and somebody does see to it.
    pub const fn set_epoch(&mut self, epoch: u64) {
        self.recovery.epoch = epoch;
    }

    /// When [`Machine::recovery_timeout`] has something to do.
    pub(crate) fn recovery_deadline(&self) -> Option<Instant> {
        let poll = match &self.recovery.step {
            Step::Barrier(barrier) => barrier.again,
            Step::Ping(ping) => ping.again,
            Step::Rest | Step::Failed | Step::Names(_) | Step::Masters | Step::Locks => None,
        };
        crate::machine::earlier(poll, self.recovery.question.as_ref().map(|question| question.again))
    }

    /// Puts questions again that were not answered, or whose answer was "not yet".
    pub(crate) fn recovery_timeout(&mut self, now: Instant) {
        if let Some(Question { to, asks, .. }) =
            self.recovery.question.take_if(|question| question.again <= now)
        {
            self.ask(to, asks, now);
        }
        if let Step::Barrier(Barrier { again, .. }) = &mut self.recovery.step
            && again.take_if(|again| *again <= now).is_some()
        {
            self.poll(now);
        }
        if let Step::Ping(Ping { node, again, .. }) = &mut self.recovery.step
            && again.take_if(|again| *again <= now).is_some()
        {
            let node = *node;
            self.ask(node, Asks::Status { need_slots: false }, now);
        }
    }

    /// A member has answered. If it has begun, too, the next is asked; if it is still at another membership, it has yet to
    /// stop, and what it sends until then must be behind us as well.
    pub(super) fn pinged(&mut self, has_stopped: bool, now: Instant) {
        let Step::Ping(ping) = &mut self.recovery.step else { return };
        if has_stopped {
            let node = ping.node;
            self.ping_after(Some(node), now);
        } else {
            ping.wait = (ping.wait + POLL_STEP).min(super::POLL_MAX);
            ping.again = Some(now + ping.wait);
        }
    }

    /// Asks the next member how far it is, only so that everything that it sent before is behind us.
    fn ping_after(&mut self, node: Option<NodeId>, now: Instant) {
        let own = self.config.node;
        let next = self.members.nodes().find(|next| *next != own && node.is_none_or(|node| *next > node));
        match next {
            Some(next) => {
                self.recovery.step = Step::Ping(Ping { node: next, wait: Duration::ZERO, again: None });
                self.ask(next, Asks::Status { need_slots: false }, now);
            }
            None => {
                self.place_in_directory();
                self.recovery.status |= RecoveryStatus::NODES;
                for (_, state) in self.members.states_mut() {
                    state.slot = 0;
                    state.generation = 0;
                }
                self.wait_for_all(Stage::Nodes, now);
            }
        }
    }

    /// Waits until all are so far: the lowest asks all others, they ask the lowest.
    fn wait_for_all(&mut self, stage: Stage, now: Instant) {
        let own = self.config.node;
        let Some(lowest) = self.members.lowest() else { return };
        let first = if lowest == own { self.members.after(own) } else { Some(lowest) };
        match first {
            Some(node) => {
                let wait = Duration::ZERO;
                self.recovery.step = Step::Barrier(Barrier { stage, node, wait, again: None });
                self.poll(now);
            }
            None => self.all_are_at(stage, now),
        }
    }

    /// Asks the node that the barrier waits for.
    fn poll(&mut self, now: Instant) {
        let Step::Barrier(Barrier { stage, node, .. }) = &self.recovery.step else { return };
        let lowest = self.members.lowest() == Some(self.config.node);
        let (to, need_slots) = (*node, *stage == Stage::Nodes && !lowest);
        self.ask(to, Asks::Status { need_slots }, now);
    }

    /// The node that the barrier waits for has said how far it is.
    pub(super) fn barrier_told(&mut self, status: RecoveryStatus, now: Instant) {
        let lowest = self.members.lowest() == Some(self.config.node);
        let Step::Barrier(barrier) = &mut self.recovery.step else { return };
        let stage = barrier.stage;
        let wanted = if lowest { stage.one() } else { stage.all() };
        if !status.contains(wanted) {
            barrier.wait = (barrier.wait + POLL_STEP).min(super::POLL_MAX);
            barrier.again = Some(now + barrier.wait);
            return;
        }
        let next = if lowest { self.members.after(barrier.node) } else { None };
        match next {
            Some(next) => {
                barrier.node = next;
                barrier.wait = Duration::ZERO;
                self.poll(now);
            }
            None => self.all_are_at(stage, now),
        }
    }

    /// All have done this: on to the next.
    fn all_are_at(&mut self, stage: Stage, now: Instant) {
        self.recovery.step = Step::Rest;
        if self.members.lowest() == Some(self.config.node) {
            if stage == Stage::Nodes {
                self.give_slots();
            }
            self.recovery.status |= stage.all();
        }
        match stage {
            Stage::Nodes => self.names_after(None, now),
            Stage::Directory => self.recover_locks(now),
            Stage::Locks => {
                if self.members.any_gone() {
                    self.settle_resources();
                }
                self.purge_saved();
                // What they left behind is put right here. Linux remembers them until all are done, and if this recovery
                // ends before, drops in the next what one said meanwhile that came back and is running already.
                self.members.forget_gone();
                self.recovery.status |= RecoveryStatus::DONE;
                self.wait_for_all(Stage::Done, now);
            }
            Stage::Done => self.go_on(now),
        }
    }

    /// Asks the next member for names; after the last, the directory is rebuilt.
    pub(super) fn names_after(&mut self, node: Option<NodeId>, now: Instant) {
        let own = self.config.node;
        let next = self.members.nodes().find(|next| *next != own && node.is_none_or(|node| *next > node));
        match next {
            Some(next) => {
                self.recovery.step = Step::Names(next);
                self.ask(next, Asks::Names { after: None }, now);
            }
            None => {
                self.recovery.status |= RecoveryStatus::DIRECTORY;
                self.wait_for_all(Stage::Directory, now);
            }
        }
    }

    /// The directory is rebuilt everywhere. If somebody left, his locks go and his resources get new masters.
    fn recover_locks(&mut self, now: Instant) {
        self.prepare_waiters(now);
        if self.members.any_gone() {
            self.drop_locks_of_gone();
            self.recovery.step = Step::Masters;
            self.find_masters();
            self.masters_found(now);
        } else {
            self.locks_confirmed(now);
        }
    }

    /// Goes on when the new masters of all resources are known.
    pub(super) fn masters_found(&mut self, now: Instant) {
        if self.recovery.step == Step::Masters && self.recovery.lookups.is_empty() {
            self.recovery.step = Step::Locks;
            self.send_locks();
            self.locks_confirmed(now);
        }
    }

    /// Goes on when the new masters have confirmed all our locks.
    pub(super) fn locks_confirmed(&mut self, now: Instant) {
        if self.recovery.unconfirmed.is_empty() {
            self.recovery.status |= RecoveryStatus::LOCKS;
            self.wait_for_all(Stage::Locks, now);
        }
    }

    /// The recovery is over on all nodes: locking goes on.
    fn go_on(&mut self, now: Instant) {
        self.recovery.running = true;
        let members = self.members.states().map(|(node, state)| (node, state.slot)).collect();
        self.events.push_back(Event::RecoveryDone {
            generation: self.recovery.generation,
            slot: self.recovery.slot,
            members,
        });
        self.replay_saved(now);
        self.resend_waiters(now);
        self.grant_recovered(now);
        self.release_unused_resources(now);
        self.run_deferred(now);
    }
}
