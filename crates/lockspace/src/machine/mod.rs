//! One lockspace on one node: its resources and locks, its part of the directory, and its recovery.

mod api;
mod errno;
mod hash;
mod limits;
mod members;
mod ops;
mod recovery;
mod table;

use std::collections::VecDeque;

use outlast_dlm::wire::{Inner, NodeId};
use outlast_session::Instant;

pub use api::{
    Config, Event, LockRequest, LockView, MachineFault, Member, Outcome, RecoveryFailure, ResourceView,
    StartError, Statistics, Transmit, UserError,
};
pub use hash::name_hash;
pub use recovery::not_ready_reply;

use members::Members;
use ops::{Deferred, Refused};
use recovery::Recovery;
use table::Table;

/// One lockspace on one node.
#[derive(Debug)]
pub struct Machine {
    pub(crate) config: Config,
    pub(crate) table: Table,
    pub(crate) members: Members,
    pub(crate) recovery: Recovery,
    /// What users asked for while locking stands still, in order.
    pub(crate) deferred: VecDeque<Deferred>,
    pub(crate) refused: Refused,
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) statistics: Statistics,
}

impl Machine {
    /// A lockspace that is not joined yet: what users ask for waits until [`Machine::handle_start`] and the recovery
    /// after it.
    pub fn new(config: Config) -> Self {
        Self {
            table: Table::new(),
            members: Members::new(),
            recovery: Recovery::new(config.first_sequence),
            deferred: VecDeque::new(),
            refused: Refused::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            statistics: Statistics::default(),
            config,
        }
    }

    /// This node.
    pub const fn node(&self) -> NodeId {
        self.config.node
    }

    /// The next message to send. To one node they must be sent in the order in which they come out.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What happened here so far.
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Time has passed. To be called when [`Machine::poll_timeout`] says so; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_running() {
            self.retry_refused(now);
            self.toss_unused(now);
        }
        self.recovery_timeout(now);
    }

    /// When [`Machine::handle_timeout`] is to be called. Changes with anything that goes in.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let toss = self.table.next_toss().map(|(at, _)| at);
        let locking = earlier(toss, self.retry_at()).filter(|_| self.is_running());
        earlier(locking, self.recovery_deadline())
    }

    pub(crate) fn send(&mut self, to: NodeId, inner: Inner) {
        self.transmits.push_back(Transmit { to, inner, numbered: true });
    }
}

/// When the next of two things is due.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
