//! The session: what survives its connections.
//!
//! A session owns everything that must not die with a connection: both halves of the numbered stream, the cookies, the
//! sequence numbers of the handshake, its lifetime. It knows at most one connection at a time, by [`ChannelId`]; a
//! connection that finds another id in its place has been superseded and closes.
//!
//! **What puts something in:** [`Session::send`], [`Session::revoke`], [`Session::close`], [`Session::handle_timeout`],
//! [`Session::connection_lost`]. **What takes something out:** [`Session::poll_dial`], [`Session::poll_event`],
//! [`Session::poll_revocation`], [`Session::poll_message`], [`Session::poll_timeout`]; drain them, in this order, after each input and after each
//! [`crate::Connection`] `sync`.
//!
//! All handshake decisions of the dialling end are here (`handshake.rs`); those of the accepting end weigh a
//! newcomer against the session in [`crate::endpoint`].

mod config;
mod event;
pub(crate) mod handshake;
mod state;
mod stream;

pub use config::{INBOUND_BYTES_MAX, INBOUND_MESSAGES_MAX, Matching, Peer, SessionConfig, Target};
pub use event::SessionEvent;
pub use state::SessionState;

use crate::error::{ConnectionError, EndReason};
use crate::frame::Limits;
use crate::ids::{ChannelId, SessionId};
use crate::message::{Message, Received};
use crate::policy::Policy;
use crate::random::Generator;
use crate::wire::{AddrVec, EntityAddr};
use outlast_session::{
    Backoff, Counters, Delivery, Inbox, Instant, LifetimeTimer, LossReason, MessageId, Outbox, ReceiptStatus,
    Revocation, Throttle, ThrottleLimits,
};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// What the application wants of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intent {
    Open,
    /// Close once everything is acknowledged, at the latest at the deadline.
    Drain {
        deadline: Instant,
    },
}

/// Why [`Session::send`] did not take a message; it is given back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue is full: wait until something is acknowledged.
    #[error("the session's queue is full")]
    Full(Message),
    /// The session is over or closing.
    #[error("the session is closed")]
    Closed(Message),
    /// A part is longer than any peer takes: 16 MiB for front and middle, 64 MiB for data.
    #[error("a part of the message is too long")]
    TooLarge(Message),
}

/// One session. See the [module](self) for the contract.
pub struct Session {
    pub(crate) id: SessionId,
    pub(crate) config: SessionConfig,
    pub(crate) state: SessionState,
    pub(crate) target: Option<Target>,
    pub(crate) peer: Peer,
    /// The addresses this end gave itself in its first ident: a session is found again by them.
    pub(crate) local_addresses: Option<AddrVec>,
    pub(crate) client_cookie: u64,
    pub(crate) server_cookie: u64,
    pub(crate) connect_seq: u64,
    pub(crate) peer_global_seq: u64,
    /// Ceph features that both ends have, from the idents.
    pub(crate) features: u64,
    /// This end told the peer to WAIT for its own connection, and so must finish it even with nothing to send.
    pub(crate) promised: bool,
    pub(crate) outbox: Outbox<Message>,
    pub(crate) inbox: Inbox,
    throttle: Throttle,
    inbound: VecDeque<Received>,
    /// So many messages at the front of `inbound` were not claimed by [`Session::poll_claimed`].
    unclaimed: usize,
    events: VecDeque<SessionEvent>,
    backoff: Backoff,
    lifetime: LifetimeTimer,
    intent: Intent,
    end: Option<EndReason>,
    next_target: usize,
    connects: u64,
    /// Messages to take back that already have a number, until the connection has tried.
    aborts: VecDeque<(MessageId, u64)>,
    revocations: VecDeque<(MessageId, bool)>,
    pub(crate) counters: Counters,
    rng: Generator,
}

/// Without cookies, by which it can be resumed, and without messages.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("policy", &self.config.policy)
            .field("peer", &self.peer)
            .field("connects", &self.connects)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        config: SessionConfig,
        state: SessionState,
        now: Instant,
        rng: Generator,
    ) -> Self {
        let delivery = if config.policy.lossy { Delivery::Lossy } else { Delivery::Lossless };
        let mut inbox = Inbox::new(config.gaps, config.ack);
        inbox.set_delivery(delivery);
        Self {
            id,
            state,
            target: None,
            peer: Peer::default(),
            local_addresses: None,
            client_cookie: 0,
            server_cookie: 0,
            connect_seq: 0,
            peer_global_seq: 0,
            features: 0,
            promised: false,
            outbox: Outbox::new(delivery, config.outbox),
            inbox,
            throttle: Throttle::new(config.inbound),
            inbound: VecDeque::new(),
            unclaimed: 0,
            events: VecDeque::new(),
            backoff: Backoff::new(config.backoff),
            lifetime: LifetimeTimer::new(config.lifetime, now),
            intent: Intent::Open,
            end: None,
            next_target: 0,
            connects: 0,
            aborts: VecDeque::new(),
            revocations: VecDeque::new(),
            counters: Counters::default(),
            rng,
            config,
        }
    }

    // ------------------------------------------------------------------ getters

    /// Its name in this process.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> SessionState {
        self.state
    }

    /// The other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What is promised to the peer. The lossy bit is the acceptor's to decide.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.config.policy
    }

    /// Ceph features that both ends have.
    #[must_use]
    pub const fn features(&self) -> u64 {
        self.features
    }

    /// Where it dials, if it does.
    #[must_use]
    pub const fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// It takes messages to send: it is neither over nor closing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != SessionState::Closed && self.intent == Intent::Open
    }

    /// Why it ended, once it has.
    #[must_use]
    pub const fn end(&self) -> Option<&EndReason> {
        self.end.as_ref()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        counters.throttle_refusals = self.throttle.refusals();
        counters
    }

    pub(crate) fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Connections that carried the session so far.
    #[must_use]
    pub const fn connects(&self) -> u64 {
        self.connects
    }

    /// Whether a message of this cost would be taken now; cost is payload and
    /// [`crate::message::MESSAGE_OVERHEAD_BYTES`].
    #[must_use]
    pub fn has_room(&self, cost: usize) -> bool {
        self.outbox.has_room(cost)
    }

    /// The sending half: queue lengths.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox<Message> {
        &self.outbox
    }

    /// What became of a message.
    #[must_use]
    pub fn status(&self, id: MessageId) -> ReceiptStatus {
        self.outbox.status(id)
    }

    // ------------------------------------------------------------------ input

    /// Queues a message. It gets its number when a connection pulls it for writing.
    ///
    /// # Errors
    /// [`SendError::Full`] when the bounds of the queue are reached, [`SendError::Closed`] when the session is over or
    /// closing, [`SendError::TooLarge`] for what no peer would take; all give the message back.
    pub fn send(&mut self, message: Message, now: Instant) -> Result<MessageId, SendError> {
        if !self.is_open() {
            return Err(SendError::Closed(message));
        }
        let limits = Limits::READY;
        let fits = |len: usize, max: u32| u32::try_from(len).is_ok_and(|len| len <= max);
        if !(fits(message.front.len(), limits.front_bytes_max)
            && fits(message.middle.len(), limits.middle_bytes_max)
            && fits(message.data.len(), limits.data_bytes_max))
        {
            return Err(SendError::TooLarge(message));
        }
        let id = self.outbox.push(message).map_err(|full| SendError::Full(full.message))?;
        self.wake(now);
        Ok(id)
    }

    /// Takes a message back, if that is still possible. The outcome comes by [`Session::poll_revocation`]: at once if
    /// the message has no number yet (it never was) or cannot be caught any more, else when the connection has tried to
    /// abort its frame.
    pub fn revoke(&mut self, id: MessageId) {
        match self.outbox.revoke(id) {
            Revocation::NotNumbered(_) => {
                self.counters.revoked += 1;
                self.revocations.push_back((id, true));
            }
            // What is on no connection may have arrived over the last one.
            Revocation::Numbered { ordinal } if matches!(self.state, SessionState::Ready { .. }) => {
                self.aborts.push_back((id, ordinal));
            }
            Revocation::Numbered { .. } | Revocation::TooLate | Revocation::Unknown => {
                self.revocations.push_back((id, false))
            }
        }
    }

    pub(crate) fn next_abort(&mut self) -> Option<(MessageId, u64)> {
        self.aborts.pop_front()
    }

    pub(crate) fn settle_abort(&mut self, id: MessageId, ordinal: u64, aborted: bool) {
        let taken = aborted && self.outbox.forget(ordinal).is_some();
        if aborted {
            // The acknowledgement that its header carried is gone with it.
            self.inbox.note_ack_lost();
        }
        if taken {
            self.counters.revoked += 1;
        }
        self.revocations.push_back((id, taken));
    }

    /// Ends the session once everything queued is acknowledged, or at `now + drain_max` with what is left lost.
    pub fn close(&mut self, now: Instant, drain_max: Duration) {
        if self.state == SessionState::Closed || self.intent != Intent::Open {
            return;
        }
        self.intent = Intent::Drain { deadline: now + drain_max };
        if self.outbox.is_empty() && self.state.channel().is_none() {
            self.finish(EndReason::Closed, LossReason::Closed);
        }
    }

    /// Ends the session at once; what is unacknowledged is lost with it.
    pub fn abort(&mut self) {
        self.finish(EndReason::ClosedUndrained, LossReason::Closed);
    }

    /// A standby session dials again when there is something to say.
    fn wake(&mut self, now: Instant) {
        if self.state == SessionState::Standby && !self.config.policy.server && self.target.is_some() {
            self.set_state(SessionState::Pausing { until: now });
        }
    }

    /// Time has passed. Call at [`Session::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.lifetime.expired(now) && self.state != SessionState::Closed {
            self.finish(EndReason::Expired, LossReason::Expired);
            return;
        }
        if let Intent::Drain { deadline } = self.intent
            && deadline <= now
            && self.state != SessionState::Closed
        {
            let reason = if self.outbox.is_empty() { EndReason::Closed } else { EndReason::ClosedUndrained };
            self.finish(reason, LossReason::Closed);
            return;
        }
        if let SessionState::Waiting { until } = self.state
            && until <= now
        {
            self.set_state(SessionState::Pausing { until: now });
        }
    }

    /// The connection `channel` is gone. Ignored if the session has another by now.
    ///
    /// What follows is the policy's to say (Ceph: `ProtocolV2::_fault`): a lossy session that was established ends, a
    /// server waits for its peer, an end with nothing to say stands by, the others dial again: at once after a
    /// connection that had been of use, else after a pause.
    pub fn connection_lost(&mut self, channel: ChannelId, cause: ConnectionError, now: Instant) {
        if self.state.channel() != Some(channel) {
            return;
        }
        self.outbox.rewind();
        while let Some((id, _)) = self.aborts.pop_front() {
            self.revocations.push_back((id, false));
        }
        let was_ready = matches!(self.state, SessionState::Ready { .. });
        if was_ready {
            self.lifetime.disconnected(now);
        }
        if cause == ConnectionError::PeerClosed {
            self.finish(EndReason::PeerClosed, LossReason::PeerClosed);
            return;
        }
        if was_ready && self.config.policy.lossy {
            self.finish(EndReason::ConnectionLost(cause), LossReason::Closed);
            return;
        }
        if cause.is_refusal() && self.connects == 0 {
            self.finish(EndReason::Refused(cause), LossReason::Refused);
            return;
        }
        if self.intent != Intent::Open && self.outbox.is_empty() {
            self.finish(EndReason::Closed, LossReason::Closed);
            return;
        }
        let pause = self.backoff.next(now, &mut self.rng);
        let next = if cause == ConnectionError::Wait {
            SessionState::Waiting { until: now + self.backoff.longest() }
        } else if self.config.policy.server || self.target.is_none() || self.may_stand_by() {
            SessionState::Standby
        } else if cause.is_refusal() {
            SessionState::Pausing { until: now + self.backoff.longest() }
        } else {
            SessionState::Pausing { until: now + pause }
        };
        self.set_state(next);
        let event = if was_ready {
            SessionEvent::Interrupted { since: now, cause }
        } else {
            SessionEvent::AttemptFailed { cause }
        };
        self.push_event(event);
    }

    /// With nothing to say and nothing promised, a peer need not dial. Between our own ends the other may have
    /// something to say and no way to us: who opened the session keeps it connected.
    fn may_stand_by(&self) -> bool {
        self.config.policy.standby
            && self.config.matching == Matching::Address
            && self.outbox.is_empty()
            && !self.promised
    }

    // ------------------------------------------------------------------ output

    /// Whether a connection should be opened now, and where to. The caller opens the transport and then asks the
    /// endpoint for the [`crate::Connection`]; if the transport cannot be opened it reports
    /// [`ConnectionError::Unreachable`] for the channel it was given.
    pub fn poll_dial(&mut self, now: Instant) -> Option<EntityAddr> {
        let SessionState::Pausing { until } = self.state else { return None };
        if until > now {
            return None;
        }
        let addresses = &self.target.as_ref()?.addresses.0;
        let address = addresses.get(self.next_target % addresses.len().max(1)).copied()?;
        self.next_target = self.next_target.wrapping_add(1);
        Some(address)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// The next outcome of [`Session::revoke`]: whether the message was taken back. If not, its receipt goes on.
    pub fn poll_revocation(&mut self) -> Option<(MessageId, bool)> {
        self.revocations.pop_front()
    }

    /// The next message for the application. Taking it frees its share of the inbound bounds.
    pub fn poll_message(&mut self) -> Option<Received> {
        let received = self.inbound.pop_front()?;
        self.unclaimed = self.unclaimed.saturating_sub(1);
        self.throttle.release(1, received.message.payload_len());
        Some(received)
    }

    /// The next message that `wanted` claims, out of turn: a reply that somebody waits for should not stand behind
    /// requests that nobody takes. Each message is shown once; what is not claimed comes by
    /// [`Session::poll_message`]. Taking it frees its share of the inbound bounds.
    pub fn poll_claimed(&mut self, mut wanted: impl FnMut(&Message) -> bool) -> Option<Received> {
        while let Some(received) = self.inbound.get(self.unclaimed) {
            if wanted(&received.message) {
                let received = self.inbound.remove(self.unclaimed)?;
                self.throttle.release(1, received.message.payload_len());
                return Some(received);
            }
            self.unclaimed += 1;
        }
        None
    }

    /// Nobody will take what has come in: drops it, and frees its share of the inbound bounds. Its peer has been or will
    /// be told that it arrived, as for all that was queued here. Ask again after each `sync`, for what came since.
    pub fn discard_inbound(&mut self) {
        let bytes = self.inbound.iter().map(|received| received.message.payload_len()).sum();
        self.throttle.release(self.inbound.len(), bytes);
        self.inbound.clear();
        self.unclaimed = 0;
    }

    /// At least half of the inbound bounds is free: time to go on reading after a pause.
    #[must_use]
    pub fn inbound_is_low(&self) -> bool {
        let ThrottleLimits { messages_max, bytes_max } = self.config.inbound;
        self.throttle.messages() <= messages_max / 2 && self.throttle.bytes() <= bytes_max / 2
    }

    /// Messages that wait for the application.
    #[must_use]
    pub fn inbound_len(&self) -> usize {
        self.inbound.len()
    }

    /// When to call [`Session::handle_timeout`], or to ask [`Session::poll_dial`] again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.state {
            SessionState::Pausing { until } | SessionState::Waiting { until } => Some(until),
            SessionState::Connecting { .. } | SessionState::Ready { .. } | SessionState::Standby => None,
            SessionState::Closed => return None,
        };
        let drain = match self.intent {
            Intent::Open => None,
            Intent::Drain { deadline } => Some(deadline),
        };
        [own, drain, self.lifetime.poll_timeout()].into_iter().flatten().min()
    }

    // ------------------------------------------------------------------ the one writer of state

    pub(crate) fn set_state(&mut self, next: SessionState) {
        debug_assert!(self.state.may_become(next), "{:?} -> {next:?}", self.state);
        self.state = next;
    }

    pub(crate) fn push_event(&mut self, event: SessionEvent) {
        self.events.push_back(event);
    }

    /// Ends the session: everything outstanding is lost with `loss`.
    pub(crate) fn finish(&mut self, reason: EndReason, loss: LossReason) {
        if self.state == SessionState::Closed {
            return;
        }
        self.counters.lost += self.outbox.lose_all(loss) as u64;
        self.set_state(SessionState::Closed);
        self.end = Some(reason.clone());
        self.push_event(SessionEvent::Ended(reason));
    }

    /// The session is bound to `channel` and messages flow.
    pub(crate) fn become_ready(&mut self, channel: ChannelId, now: Instant) {
        let away =
            self.lifetime.disconnected_since().map_or(Duration::ZERO, |since| now.saturating_since(since));
        if self.lifetime.connected(now).is_err() {
            self.finish(EndReason::Expired, LossReason::Expired);
            return;
        }
        self.promised = false;
        self.backoff.established(now);
        self.set_state(SessionState::Ready { channel });
        self.connects += 1;
        if self.connects == 1 {
            self.push_event(SessionEvent::Connected);
        } else {
            self.counters.reconnects += 1;
            self.push_event(SessionEvent::Resumed { replayed: self.outbox.replay_len(), away });
        }
    }
}
