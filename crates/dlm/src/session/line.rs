//! The connections of a session, and when to dial.

use outlast_session::{Backoff, Instant};
use rand_core::Rng;

use super::config::{CHANNELS_MAX, ChannelId};
use super::{Session, SessionEvent};
use crate::error::ConnectionError;

/// Whether to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// Not needed.
    No,
    /// At this time.
    At(Instant),
}

/// Where the next connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// None was lost.
    Any,
    /// Wait until then.
    Pausing { until: Instant },
    /// Being opened.
    Dialling,
}

/// The connections that carry a session.
#[derive(Debug)]
pub(super) struct Line {
    /// The oldest first.
    channels: Vec<ChannelId>,
    /// The one of them that is written to.
    sender: Option<ChannelId>,
    next: Next,
    backoff: Backoff,
}

impl Line {
    pub(super) const fn new(backoff: Backoff) -> Self {
        Self { channels: Vec::new(), sender: None, next: Next::Any, backoff }
    }

    pub(super) const fn len(&self) -> usize {
        self.channels.len()
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.sender.is_some()
    }

    pub(super) fn is_attached(&self, channel: ChannelId) -> bool {
        self.channels.contains(&channel)
    }

    pub(super) fn sends(&self, channel: ChannelId) -> bool {
        self.sender == Some(channel)
    }

    pub(super) const fn progressed(&mut self) {
        self.backoff.progressed();
    }

    /// The others no longer carry the session.
    pub(super) fn keep_only(&mut self, channel: ChannelId) {
        self.channels.retain(|other| *other == channel);
        self.sender = self.channels.last().copied();
    }

    /// None of them carries the session any more.
    pub(super) fn clear(&mut self) {
        self.channels.clear();
        self.sender = None;
        self.next = Next::Any;
    }
}

impl Session {
    /// A connection to the peer is open. If that makes too many, the oldest that is not written to no longer carries the
    /// session, and will find out by its next frame or [`Session::carries`].
    pub fn attach(&mut self, channel: ChannelId, dialled: bool, now: Instant) {
        if dialled {
            self.line.next = Next::Any;
        }
        if self.line.channels.len() >= CHANNELS_MAX {
            let sender = self.line.sender;
            if let Some(oldest) = self.line.channels.iter().position(|other| Some(*other) != sender) {
                self.line.channels.remove(oldest);
            }
        }
        let others = self.line.channels.len();
        self.line.channels.push(channel);
        self.statistics.connections += 1;
        if others > 0 {
            self.statistics.crossings += 1;
        }
        if self.line.sender.is_none() {
            self.line.sender = Some(channel);
            self.outbox.rewind();
            self.line.backoff.established(now);
        }
        self.note(SessionEvent::Connected { others, dialled });
    }

    /// A connection is gone; what was written to it and is not acknowledged will be written to another.
    pub fn detach(&mut self, channel: ChannelId, now: Instant, rng: &mut dyn Rng) {
        let Some(at) = self.line.channels.iter().position(|other| *other == channel) else { return };
        self.line.channels.remove(at);
        self.statistics.connections_lost += 1;
        if self.line.sender != Some(channel) {
            return;
        }
        // The newest is the likeliest to be alive.
        self.line.sender = self.line.channels.last().copied();
        self.outbox.rewind();
        // So may the last acknowledgement be, of what the peer sent over the connection that takes over: nobody would repeat
        // that. What went over the lost one is repeated anyway.
        if self.line.sender.is_some() && self.inbox.received_count() > 0 {
            self.inbox.note_ack_lost();
        }
        if self.line.sender.is_none() {
            let wait = self.line.backoff.next(now, rng);
            self.line.next = Next::Pausing { until: now + wait };
            self.note(SessionEvent::Interrupted { unacknowledged: self.outbox.unacked_len() });
        }
    }

    /// Whether the connection still carries the session.
    ///
    /// # Errors
    /// It does not, and must end.
    pub fn carries(&self, channel: ChannelId) -> Result<(), ConnectionError> {
        if self.line.is_attached(channel) {
            Ok(())
        } else {
            Err(ConnectionError::Superseded { peer: self.peer() })
        }
    }

    /// The connection that is written to.
    pub const fn sender(&self) -> Option<ChannelId> {
        self.line.sender
    }

    /// Whether to dial the peer, and when. Then call [`Session::dialling`], and [`Session::attach`] or
    /// [`Session::dial_failed`].
    pub fn poll_dial(&self) -> Dial {
        let wanted = self.users > 0 || !self.urgent.is_empty() || !self.outbox.is_empty();
        if !wanted || self.line.is_connected() {
            return Dial::No;
        }
        match self.line.next {
            Next::Any => Dial::At(Instant::ZERO),
            Next::Pausing { until } => Dial::At(until),
            Next::Dialling => Dial::No,
        }
    }

    /// A connection is being opened; its owner bounds how long that takes.
    pub const fn dialling(&mut self) {
        self.line.next = Next::Dialling;
    }

    /// The connection could not be opened.
    pub fn dial_failed(&mut self, now: Instant, rng: &mut dyn Rng) {
        let wait = self.line.backoff.next(now, rng);
        self.line.next = Next::Pausing { until: now + wait };
    }
}
