//! Bugs that are put in on purpose, to see that the checkers find them.
//!
//! None of them is in the production crates. Each is played at an edge: between a machine and its session as a faulty
//! machine would talk, on the wire as a faulty session would, or by a cluster manager that breaks its contract.

use outlast_dlm::wire::{Inner, LockId, Message, MessageKind, RcomBody};
use outlast_lockspace::machine::Transmit;
use std::fmt;

/// A bug to plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// Every acknowledgement says one message more than was received.
    AckOffByOne,
    /// What was not acknowledged is not sent again.
    LostReplay,
    /// What is sent again has new numbers, so that no duplicate is noticed.
    ReplayRenumbered,
    /// Every twentieth message is handed to the machine twice.
    DeliveredTwice,
    /// The session with a dead node goes on with its next life.
    NotFenced,
    /// A node does not tell the new master of its granted locks, and believes that it has.
    LocksNotRecovered,
    /// A node keeps the locks that a member had in an earlier life.
    DeadKept,
    /// Nobody is told that a lock blocks.
    BlockingIgnored,
    /// The directory tells whoever asks that he is the master.
    TwoMasters,
    /// The names for the new directory are not told.
    NamesForgotten,
    /// What waited is granted, and the owner is not told.
    GrantUntold,
    /// A value that is written with an unlock or a conversion gets lost.
    ValueLost,
    /// A writer's value becomes known one byte short of right.
    ValueDamaged,
    /// A lockspace is started while others still lock.
    StartedTooEarly,
    /// An unlock is answered and not done.
    UnlockIgnored,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::AckOffByOne,
        Self::LostReplay,
        Self::ReplayRenumbered,
        Self::DeliveredTwice,
        Self::NotFenced,
        Self::LocksNotRecovered,
        Self::DeadKept,
        Self::BlockingIgnored,
        Self::TwoMasters,
        Self::NamesForgotten,
        Self::GrantUntold,
        Self::ValueLost,
        Self::ValueDamaged,
        Self::StartedTooEarly,
        Self::UnlockIgnored,
    ];

    pub(crate) const fn wants_faults(self) -> bool {
        matches!(self, Self::AckOffByOne | Self::LostReplay | Self::ReplayRenumbered)
    }

    pub(crate) const fn wants_changes(self) -> bool {
        matches!(
            self,
            Self::NotFenced
                | Self::LocksNotRecovered
                | Self::DeadKept
                | Self::NamesForgotten
                | Self::StartedTooEarly
        )
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AckOffByOne => "an acknowledgement off by one",
            Self::LostReplay => "no replay",
            Self::ReplayRenumbered => "a replay under new numbers",
            Self::DeliveredTwice => "a message delivered twice",
            Self::NotFenced => "a dead node's session that goes on",
            Self::LocksNotRecovered => "locks that are not told to the new master",
            Self::DeadKept => "a dead node's locks that are kept",
            Self::BlockingIgnored => "a blocking callback that is ignored",
            Self::TwoMasters => "two masters",
            Self::NamesForgotten => "names that the new directory is not told",
            Self::GrantUntold => "a grant that is not told",
            Self::ValueLost => "a value that is lost",
            Self::ValueDamaged => "a value that is damaged",
            Self::StartedTooEarly => "a start before all have stopped",
            Self::UnlockIgnored => "an unlock that is not done",
        })
    }
}

/// A bug in a cluster, or none.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) bug: Option<Bug>,
    delivered: u32,
}

/// One message of so many is delivered twice.
const TWICE_EVERY: u32 = 20;

impl Planted {
    pub(crate) const fn new(bug: Option<Bug>) -> Self {
        Self { bug, delivered: 0 }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    // ------------------------------------------------------------------ a cluster manager that breaks its contract

    pub(crate) fn forgets_to_fence(&self) -> bool {
        self.is(Bug::NotFenced)
    }

    pub(crate) fn forgets_who_is_fresh(&self) -> bool {
        self.is(Bug::DeadKept)
    }

    pub(crate) fn starts_at_once(&self) -> bool {
        self.is(Bug::StartedTooEarly)
    }

    // ------------------------------------------------------------------ drivers and machines

    pub(crate) fn times_delivered(&mut self, inner: &Inner) -> u32 {
        if !self.is(Bug::DeliveredTwice) || !matches!(inner, Inner::Message(_)) {
            return 1;
        }
        self.delivered += 1;
        if self.delivered.is_multiple_of(TWICE_EVERY) { 2 } else { 1 }
    }

    /// What a machine says instead of this, and what it is answered at once.
    pub(crate) fn changes(&self, node: usize, mut transmit: Transmit) -> (Option<Transmit>, Vec<Inner>) {
        let Some(bug) = self.bug else { return (Some(transmit), Vec::new()) };
        match (bug, &mut transmit.inner) {
            (Bug::BlockingIgnored, Inner::Message(Message { kind: MessageKind::Blocking, .. }))
            | (Bug::GrantUntold, Inner::Message(Message { kind: MessageKind::Grant, .. })) => {
                (None, Vec::new())
            }
            (Bug::TwoMasters, Inner::Message(message)) if message.kind == MessageKind::LookupReply => {
                message.node = transmit.to.0.cast_signed();
                (Some(transmit), Vec::new())
            }
            (Bug::NamesForgotten, Inner::Rcom(rcom)) => {
                if let RcomBody::NamesReply { names, .. } = &mut rcom.body {
                    names.clear();
                }
                (Some(transmit), Vec::new())
            }
            (Bug::ValueLost | Bug::ValueDamaged, Inner::Message(message))
                if matches!(message.kind, MessageKind::Convert | MessageKind::Unlock) =>
            {
                if bug == Bug::ValueLost {
                    message.extra.clear();
                } else if let Some(byte) = message.extra.first_mut() {
                    *byte ^= 0x80;
                }
                (Some(transmit), Vec::new())
            }
            (Bug::UnlockIgnored, Inner::Message(message)) if message.kind == MessageKind::Unlock => {
                let mut reply = message.clone();
                reply.kind = MessageKind::UnlockReply;
                reply.remote_lock = message.lock;
                reply.lock = message.remote_lock;
                reply.result = -0x1_0002;
                reply.extra.clear();
                (None, vec![Inner::Message(reply)])
            }
            (Bug::LocksNotRecovered, Inner::Rcom(rcom)) if node.is_multiple_of(2) => {
                let sequence = rcom.sequence;
                let RcomBody::Lock(lock) = &mut rcom.body else { return (Some(transmit), Vec::new()) };
                let mut lock = lock.clone();
                lock.remote_lock = LockId(0x7777);
                lock.value_block.clear();
                let mut reply = rcom.clone();
                reply.sequence_reply = sequence;
                reply.body = RcomBody::LockReply(lock);
                (None, vec![Inner::Rcom(reply)])
            }
            (_, _) => (Some(transmit), Vec::new()),
        }
    }
}
