//! What outlives the connections to one node: numbers, what is unacknowledged, how it ends.
//!
//! ```text
//!   send ──► outbox ──pull──► number, envelope ──► the connection that sends
//!   send, without a number ──► urgent ──pull──────► (a STATUS or its answer; also acknowledgements)
//!   poll_received ◄── handle_frame ◄── every connection
//! ```
//!
//! **Two connections, one session.** Both nodes may dial at the same moment, and the kernel keeps both connections. Frames
//! are read from each; written to one at a time, because the order of numbers holds on one connection only. When that one is
//! lost, another takes its place, and everything unacknowledged is replayed on it, in order.
//!
//! **The version** of the peer is that of its first frame. Until it is known only what has no number is written. Towards
//! 3.1 nothing is numbered, kept or replayed.

use std::collections::VecDeque;

use outlast_session::{
    Backoff, Convention, Delivery, Exclusive32, GapPolicy, Inbox, Instant, LossReason, Outbox, Verdict,
};

use crate::error::{ConnectionError, SendError, rcom_name};
use crate::wire::{Body, Frame, Inner, NodeId, Options, RcomBody, Version};

mod config;
mod line;
mod outgoing;
mod state;
mod statistics;
mod termination;

pub use config::{
    CHANNELS_MAX, ChannelId, MISSING_WAIT_MAX, OUTSTANDING_MESSAGES_MIN, SessionConfig, URGENT_MAX,
};
pub use line::Dial;
pub use state::{State, TERMINATION_WAIT_MAX};
pub use statistics::Statistics;

use line::Line;
use outgoing::{Outgoing, Urgent};

/// What happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The peer's first frame came.
    VersionLearned(Version),
    /// A connection carries the session.
    Connected {
        /// It beside how many others.
        others: usize,
        /// Whether this end dialled it.
        dialled: bool,
    },
    /// The last connection is gone.
    Interrupted {
        /// Messages that will be replayed.
        unacknowledged: usize,
    },
    /// The session came to its end, and begins anew with the next frame.
    Ended {
        /// Messages lost with it.
        lost: usize,
        /// Why.
        reason: LossReason,
    },
    /// The peer began anew, and nobody had said that it was gone: what its last life was to get is lost. Whatever it held
    /// in its last life it holds until the membership says otherwise.
    Restarted {
        /// Messages lost with it.
        lost: usize,
    },
    /// The session did not end in time and was reset by force.
    Stuck {
        /// In this state.
        state: State,
        /// Messages lost with it.
        lost: usize,
    },
}

/// The session with one node.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    /// When `state` must have ended.
    deadline: Option<Instant>,
    /// Lockspaces that have the peer as a member.
    users: u32,
    version: Option<Version>,
    /// Which life of the peer it is, if it says so.
    incarnation: Option<u64>,
    outbox: Outbox<Outgoing>,
    inbox: Inbox,
    urgent: VecDeque<Urgent>,
    received: VecDeque<Inner>,
    events: VecDeque<SessionEvent>,
    line: Line,
    /// Since when messages are missing.
    missing_since: Option<Instant>,
    statistics: Statistics,
}

impl Session {
    /// A session that has not begun.
    pub fn new(config: SessionConfig) -> Self {
        let config = config.checked();
        Self {
            state: State::Closed,
            deadline: None,
            users: 0,
            version: None,
            incarnation: None,
            outbox: Outbox::new(Delivery::Lossless, config.limits),
            inbox: Inbox::starting_at(GapPolicy::Await, config.acks, 0),
            urgent: VecDeque::new(),
            received: VecDeque::new(),
            events: VecDeque::new(),
            line: Line::new(Backoff::new(config.backoff)),
            missing_since: None,
            statistics: Statistics::default(),
            config,
        }
    }

    /// The node at the other end.
    pub const fn peer(&self) -> NodeId {
        self.config.peer
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// What the peer speaks, once its first frame has come.
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// What both ends keep to: the lower of the two versions.
    fn agreed(&self) -> Option<Version> {
        self.version.map(|version| version.min(self.config.announce))
    }

    /// What happened so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            sent_number: Exclusive32::number(self.outbox.sent_count()),
            acked_number: Exclusive32::ack(self.outbox.acked_count()),
            expected_number: Exclusive32::ack(self.inbox.received_count()),
            unacknowledged: self.outbox.unacked_len(),
            waiting: self.outbox.pending_len(),
            channels: self.line.len(),
            ..self.statistics
        }
    }

    /// Takes a message for the peer, to be numbered and kept.
    ///
    /// # Errors
    /// [`SendError`]; the message was not taken.
    pub fn send(&mut self, inner: &Inner) -> Result<(), SendError> {
        if !self.state.may_send() {
            return Err(SendError::Ending { peer: self.peer() });
        }
        self.push(Outgoing::new(inner, self.config.announce, self.config.node))
    }

    fn push(&mut self, outgoing: Outgoing) -> Result<(), SendError> {
        match self.outbox.push(outgoing) {
            Ok(_) => Ok(()),
            Err(_) => {
                let messages = self.outbox.pending_len() + self.outbox.unacked_len();
                Err(SendError::Full { peer: self.peer(), messages })
            }
        }
    }

    /// Takes what goes without a number: a status request, or its answer. They are repeated by who asks, so of more than
    /// [`URGENT_MAX`] that wait for a connection the oldest are forgotten.
    pub fn send_unnumbered(&mut self, inner: Inner) {
        let inner = &self.sign(inner);
        if self.urgent.len() >= URGENT_MAX {
            self.urgent.pop_front();
        }
        self.urgent.push_back(Urgent::bare(inner, self.config.announce, self.config.node));
    }

    /// A status request says which life of this node asks.
    const fn sign(&self, mut inner: Inner) -> Inner {
        if let Inner::Rcom(rcom) = &mut inner
            && let RcomBody::Status { incarnation, .. } = &mut rcom.body
        {
            *incarnation = self.config.incarnation;
        }
        inner
    }

    /// Whether the peer keeps up: [`Session::send`] has room. What the protocol itself must say may go beyond, up to the
    /// limits of the outbox; users wait for this.
    pub fn has_room(&self) -> bool {
        self.outbox.pending_len() + self.outbox.unacked_len() < self.config.limits.messages_max / 2
            && self.outbox.pending_bytes() + self.outbox.unacked_bytes() < self.config.limits.bytes_max / 2
    }

    /// The next message from the peer.
    pub fn poll_received(&mut self) -> Option<Inner> {
        self.received.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    fn note(&mut self, event: SessionEvent) {
        // Nobody looks: the oldest are of least use.
        if self.events.len() >= config::EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Takes a frame that came over `channel`.
    ///
    /// # Errors
    /// The connection must end.
    pub fn handle_frame(
        &mut self,
        channel: ChannelId,
        frame: Frame,
        len: usize,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let peer = self.peer();
        if !self.line.is_attached(channel) {
            return Err(ConnectionError::Superseded { peer });
        }
        if frame.sender != peer {
            return Err(ConnectionError::WrongSender { peer, claimed: frame.sender });
        }
        self.learn_version(frame.version);
        self.statistics.frames_received += 1;
        match frame.body {
            Body::Bare(inner) => self.handle_bare(channel, inner),
            Body::Numbered { number, inner, options: _ } => self.handle_numbered(number, inner, len, now),
            Body::Ack { expected } => self.handle_ack(expected, now),
        }
    }

    /// The kernel writes 3.2 into what it sends to a 3.1 peer too, so only the first frame decides.
    pub(super) fn learn_version(&mut self, version: Version) {
        if self.version.is_some() {
            return;
        }
        self.version = Some(version);
        if self.state == State::Closed {
            self.enter(State::Established, None);
        }
        self.note(SessionEvent::VersionLearned(version));
        if !self.state.may_send() && self.agreed() == Some(Version::V3_1) {
            // It knows no FIN.
            self.end(LossReason::Closed);
            return;
        }
        self.settle_delivery();
    }

    fn settle_delivery(&mut self) {
        let delivery = match self.agreed() {
            Some(Version::V3_1) => Delivery::Lossy,
            Some(Version::V3_2) | None => Delivery::Lossless,
        };
        self.outbox.set_delivery(delivery);
        self.inbox.set_delivery(delivery);
    }

    fn handle_bare(&mut self, channel: ChannelId, inner: Inner) -> Result<(), ConnectionError> {
        let (allowed, what) = match (&inner, self.agreed()) {
            (Inner::Message(_) | Inner::Rcom(_), Some(Version::V3_1)) => (true, ""),
            (Inner::Message(_), Some(Version::V3_2) | None) => (false, "a message"),
            (Inner::Rcom(rcom), Some(Version::V3_2) | None) => match rcom.body {
                RcomBody::Status { .. }
                | RcomBody::StatusReply(_)
                | RcomBody::Names { .. }
                | RcomBody::NamesReply { .. } => (true, ""),
                RcomBody::Lookup { .. }
                | RcomBody::LookupReply
                | RcomBody::Lock(_)
                | RcomBody::LockReply(_) => (false, rcom_name(rcom.body.kind())),
            },
            (Inner::Fin, _) => (false, "a FIN"),
        };
        if !allowed {
            return Err(ConnectionError::Unnumbered { peer: self.peer(), what });
        }
        if let Inner::Rcom(rcom) = &inner
            && let RcomBody::Status { incarnation, .. } = rcom.body
            && incarnation != 0
        {
            self.meet(channel, incarnation);
        }
        self.received.push_back(inner);
        Ok(())
    }

    /// The peer says which of its lives it is at.
    fn meet(&mut self, channel: ChannelId, incarnation: u64) {
        if self.incarnation.is_some_and(|known| known != incarnation) {
            self.restarted(channel);
        }
        self.incarnation = Some(incarnation);
    }

    fn handle_numbered(
        &mut self,
        number: u32,
        inner: Inner,
        len: usize,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let peer = self.peer();
        let near = self.inbox.received_count();
        let impossible = ConnectionError::Number { peer, number, expected: Exclusive32::ack(near) };
        let Some(ordinal) = Exclusive32::ordinal(number, near) else {
            // From before the stream began: of an incarnation that this end no longer knows.
            return if number.wrapping_sub(Exclusive32::ack(near)).cast_signed() < 0 {
                self.statistics.duplicates_dropped += 1;
                Ok(())
            } else {
                Err(impossible)
            };
        };
        match self.inbox.accept(ordinal, len, now) {
            Ok(Verdict::Deliver | Verdict::DeliverAfterGap { .. }) => {
                self.missing_since = None;
                self.line.progressed();
                self.statistics.messages_received += 1;
                self.deliver(inner, now)
            }
            Ok(Verdict::Duplicate) => {
                self.statistics.duplicates_dropped += 1;
                Ok(())
            }
            Ok(Verdict::Early { .. }) => {
                self.statistics.early_dropped += 1;
                let since = *self.missing_since.get_or_insert(now);
                if now.saturating_since(since) >= MISSING_WAIT_MAX {
                    self.missing_since = None;
                    return Err(ConnectionError::Missing { peer, expected: Exclusive32::ack(near) });
                }
                Ok(())
            }
            Err(_) => Err(impossible),
        }
    }

    fn deliver(&mut self, inner: Inner, now: Instant) -> Result<(), ConnectionError> {
        match inner {
            Inner::Fin => self.handle_fin(now),
            Inner::Message(_) | Inner::Rcom(_) if self.state.may_receive() => {
                self.received.push_back(inner);
                Ok(())
            }
            Inner::Message(_) | Inner::Rcom(_) => {
                Err(ConnectionError::AfterFin { peer: self.peer(), what: "a message", state: self.state })
            }
        }
    }

    fn handle_ack(&mut self, expected: u32, now: Instant) -> Result<(), ConnectionError> {
        let peer = self.peer();
        self.statistics.acks_received += 1;
        // One from before the stream began says nothing, as an old one does.
        let Some(count) = Exclusive32::count(expected, self.outbox.acked_count()) else { return Ok(()) };
        match self.outbox.handle_ack(count) {
            Ok(0) => Ok(()),
            Ok(freed) => {
                self.line.progressed();
                self.statistics.messages_acked += freed as u64;
                if self.outbox.is_empty() {
                    self.everything_acknowledged(now);
                }
                Ok(())
            }
            Err(error) => Err(ConnectionError::Ack { peer, error }),
        }
    }

    /// Appends to `out` what is to be written next over `channel`, until `out` has `bytes` or nothing is left.
    pub fn pull(&mut self, channel: ChannelId, out: &mut Vec<u8>, bytes: usize, now: Instant) {
        if !self.line.sends(channel) || out.len() >= bytes {
            return;
        }
        while let Some(urgent) = self.urgent.pop_front() {
            urgent.write(out);
            self.statistics.unnumbered_sent += 1;
            if out.len() >= bytes {
                return;
            }
        }
        let (node, announce) = (self.config.node, self.config.announce);
        if self.inbox.ack_due(now) {
            self.inbox.note_ack_sent();
            self.statistics.acks_sent += 1;
            let expected = Exclusive32::ack(self.inbox.received_count());
            Frame { version: announce, sender: node, body: Body::Ack { expected } }.encode(out);
        }
        let Some(agreed) = self.agreed() else { return };
        let statistics = &mut self.statistics;
        while out.len() < bytes {
            let pulled = self.outbox.pull_with(|ordinal, _, outgoing: &Outgoing, replay| {
                match agreed {
                    Version::V3_1 => outgoing.write_bare(out),
                    Version::V3_2 => {
                        outgoing.write_numbered(
                            announce,
                            node,
                            Exclusive32::number(ordinal),
                            &Options::NONE,
                            out,
                        );
                    }
                }
                if replay {
                    statistics.replayed += 1;
                } else {
                    statistics.messages_sent += 1;
                }
            });
            if pulled.is_none() {
                return;
            }
        }
    }

    /// Whether [`Session::pull`] has something for the connection that sends.
    pub fn has_work(&self, now: Instant) -> bool {
        !self.urgent.is_empty()
            || self.inbox.ack_due(now)
            || (self.version.is_some() && self.outbox.has_work())
    }

    /// When to call [`Session::handle_timeout`] and to pull again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ack = if self.line.is_connected() { self.inbox.poll_timeout() } else { None };
        [ack, self.poll_deadline()].into_iter().flatten().min()
    }

    /// When to call [`Session::handle_timeout`], for who cannot pull before something is written.
    pub fn poll_deadline(&self) -> Option<Instant> {
        let missing = self.missing_since.map(|since| since + MISSING_WAIT_MAX);
        [missing, self.deadline].into_iter().flatten().min()
    }
}
