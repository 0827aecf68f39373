//! What one session's handles, its connection and its keeper share.
//!
//! Everything is under one lock, held for a push, a take, or one exchange with the connection, and never while bytes
//! are decoded, encrypted, read or written. Tasks are woken after it is released, in one go.

use crate::call::Calls;
use crate::event::{EventLog, SessionEvent};
use crate::landing::Landing;
use crate::messenger::Inner;
use crate::receipt::{Receipts, Revocations};
use crate::stats::Agreed;
use crate::wait::{Place, RoomQueue, WaitList, wake};
use outlast_cephx::{EntityName, EntityType};
use outlast_msgr2::connection::State;
use outlast_msgr2::wire::EntityAddr;
use outlast_msgr2::{ChannelId, Connection, ConnectionError, Credential, EndReason, Session, SessionId};
use outlast_msgr2::{SessionEvent as CoreEvent, SessionState};
use outlast_net::{Address, Exchange};
use outlast_session::{Instant, StreamChannel};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::field::display;

/// Bytes that may wait to be written on a connection before senders wait too. What is ahead of the socket is only what
/// keeps it busy: the messages are still in the cache when they are written, and can still be revoked. While there is
/// no connection, the bounds of the outbox alone count.
const AHEAD_BYTES_MAX: usize = 256 << 10;

/// Where a session dials.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// In the order of the target's addresses; empty for a session that came in.
    pub(crate) addresses: Vec<Address>,
    /// What the peer calls itself, if the user said so.
    pub(crate) known_as: Option<EntityAddr>,
}

/// One session, as this process shares it.
pub(crate) struct Core {
    pub(crate) id: SessionId,
    pub(crate) inner: Arc<Inner>,
    pub(crate) targets: Targets,
    /// Wakes the task that dials and keeps the time.
    pub(crate) keeper: Notify,
    pub(crate) landing: Arc<Landing>,
    /// The user's handles; with the last one the session closes.
    pub(crate) handles: AtomicUsize,
    sends: AtomicU32,
    locked: Mutex<Locked>,
}

/// What is under the lock.
pub(crate) struct Locked {
    pub(crate) session: Session,
    pub(crate) line: Line,
    /// The time of the last look at the clock.
    pub(crate) seen: Instant,
    pub(crate) receivers: WaitList,
    pub(crate) room: RoomQueue,
    /// Those who wait for events, the first connection or the end.
    pub(crate) watchers: WaitList,
    pub(crate) receipts: Receipts,
    pub(crate) revocations: Revocations,
    pub(crate) calls: Calls,
    pub(crate) events: EventLog,
    /// Set when there is no connection.
    pub(crate) away_since: Option<Instant>,
    pub(crate) last_failure: Option<ConnectionError>,
    pub(crate) agreed: Option<Agreed>,
    pub(crate) round_trip: Option<Duration>,
    /// The name that the peer claims; proven if the session says so too.
    pub(crate) claimed: Option<EntityName>,
    pub(crate) address: Option<Address>,
    /// Where the last attempt to connect went to.
    pub(crate) dialled: Option<Address>,
    /// Messages that the peer has forgotten together with the session.
    lost_by_resets: u64,
    pub(crate) credential: Option<Credential>,
    /// The nonce of the address that is being dialled.
    pub(crate) dial_nonce: u32,
}

/// The connection that carries the session now, as those see it who have something for it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    channel: Option<ChannelId>,
    waker: Option<Waker>,
    /// Was woken since its last exchange, and will look.
    rung: bool,
    /// Reads no more until the application takes something.
    paused: bool,
    /// Bytes that the connection has taken and not written, when it last met the session.
    unwritten: usize,
}

impl Line {
    /// The waker to call, if the connection sleeps.
    pub(crate) fn ring(&mut self) -> Option<Waker> {
        if self.rung {
            return None;
        }
        self.rung = true;
        self.waker.clone()
    }

    fn attach(&mut self, channel: ChannelId, waker: &Waker, wakes: &mut Vec<Waker>) {
        if self.channel != Some(channel) {
            // Whoever carried it before finds out that it does not any more.
            wakes.extend(self.waker.take());
            self.channel = Some(channel);
        }
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
        self.rung = false;
    }

    /// Whether nothing of the session is still to be written.
    pub(crate) fn is_silent(&self) -> bool {
        self.channel.is_none()
    }
}

impl Core {
    pub(crate) fn new(
        inner: Arc<Inner>,
        session: Session,
        targets: Targets,
        credential: Option<Credential>,
        first_tid: u64,
        now: Instant,
    ) -> Self {
        Self {
            id: session.id(),
            inner,
            targets,
            keeper: Notify::new(),
            landing: Arc::default(),
            handles: AtomicUsize::new(0),
            sends: AtomicU32::new(0),
            locked: Mutex::new(Locked {
                session,
                line: Line::default(),
                seen: now,
                receivers: WaitList::default(),
                room: RoomQueue::default(),
                watchers: WaitList::default(),
                receipts: Receipts::default(),
                revocations: Revocations::default(),
                calls: Calls::new(first_tid),
                events: EventLog::default(),
                away_since: Some(now),
                last_failure: None,
                agreed: None,
                round_trip: None,
                claimed: None,
                address: None,
                dialled: None,
                lost_by_resets: 0,
                credential,
                dial_nonce: 0,
            }),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, Locked> {
        // A panic under the lock is a bug; the others may find out by themselves whether it harms them.
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the session from outside of its connection: afterwards everybody is told who has to know.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Locked, Instant) -> T) -> T {
        let now = self.inner.clock.now();
        let mut wakes = Vec::new();
        let result = {
            let mut locked = self.lock();
            let result = change(&mut locked, now);
            self.settle(&mut locked, now, &mut wakes);
            wakes.extend(locked.line.ring());
            result
        };
        wake(&mut wakes);
        self.keeper.notify_one();
        result
    }

    /// As [`Core::change`], from the keeper itself.
    pub(crate) fn change_quietly(&self, change: impl FnOnce(&mut Locked, Instant)) {
        let now = self.inner.clock.now();
        let mut wakes = Vec::new();
        let mut locked = self.lock();
        change(&mut locked, now);
        self.settle(&mut locked, now, &mut wakes);
        drop(locked);
        wake(&mut wakes);
    }

    /// The connection meets its session.
    pub(crate) fn exchange(
        &self,
        connection: &mut Connection,
        now: Instant,
        waker: &Waker,
        wakes: &mut Vec<Waker>,
    ) -> Result<Exchange, ConnectionError> {
        let result = {
            let mut locked = self.lock();
            if locked.session.state().channel() == Some(connection.id()) {
                locked.line.attach(connection.id(), waker, wakes);
            }
            let synced = connection.sync(&mut locked.session, now);
            if locked.line.channel == Some(connection.id()) {
                locked.line.paused = connection.is_paused();
                locked.line.unwritten = connection.unwritten_len();
            }
            locked.round_trip = connection.round_trip().or(locked.round_trip);
            self.settle(&mut locked, now, wakes);
            // Replies that were handed on may have made room for what the connection stopped reading for.
            // Before the handshake is through, what waits to be sent is none of this connection's business.
            let ready = connection.state() == State::Ready;
            let more = ready
                && (locked.session.outbox().has_work()
                    || (locked.line.paused && locked.session.inbound_is_low())
                    || (locked.line.unwritten > 0 && !locked.room.is_empty()));
            synced.map(|()| if more { Exchange::More } else { Exchange::Done })
        };
        wake(wakes);
        result
    }

    /// The connection has written its last word, or is lost: nothing more of the session leaves by it.
    pub(crate) fn detach(&self, channel: ChannelId) {
        let mut wakes = Vec::new();
        let mut locked = self.lock();
        if locked.line.channel != Some(channel) {
            return;
        }
        locked.line = Line::default();
        locked.watchers.take_all(&mut wakes);
        drop(locked);
        wake(&mut wakes);
    }

    /// After every input to the session: what came out of it goes to those who wait for it.
    pub(crate) fn settle(&self, locked: &mut Locked, now: Instant, wakes: &mut Vec<Waker>) {
        locked.deliver_replies(wakes);
        if !locked.session.is_open() && self.handles.load(Ordering::Acquire) == 0 {
            // Nobody can receive any more, but the acknowledgements behind what came in are still to be read.
            locked.session.discard_inbound();
        }
        while let Some((id, taken_back)) = locked.session.poll_revocation() {
            locked.revocations.settle(id, taken_back, wakes);
            locked.receipts.settle_one(id, wakes);
        }
        let mut any = false;
        let mut forgotten = false;
        while let Some(event) = locked.session.poll_event() {
            any = true;
            forgotten |= matches!(event, CoreEvent::Reset { .. } | CoreEvent::Ended(_));
            self.log(locked, &event);
            let event = locked.note(event, now);
            locked.events.push(event);
        }
        if any {
            locked.watchers.take_all(wakes);
        }
        // Not after an interruption: a peer that has a request still answers it.
        if forgotten {
            let Locked { calls, session, .. } = locked;
            calls.fail_lost(session, wakes);
        }
        locked.seen = now;
        let Locked { session, receipts, room, receivers, .. } = locked;
        if !receipts.is_empty() {
            receipts.settle(|id| session.status(id), wakes);
        }
        if session.end().is_some() {
            receivers.take_all(wakes);
            room.wake_all(wakes);
            locked.revocations.give_up(wakes);
            return;
        }
        if !receivers.is_empty() {
            receivers.take(session.inbound_len(), wakes);
        }
        if !room.is_empty() {
            locked.wake_senders(wakes);
        }
    }

    /// Counts the attempts to send, roughly if they are made from several threads.
    pub(crate) fn count_send(&self) -> u32 {
        let sends = self.sends.load(Ordering::Relaxed);
        self.sends.store(sends.wrapping_add(1), Ordering::Relaxed);
        sends
    }

    fn log(&self, locked: &Locked, event: &CoreEvent) {
        let session = self.id.0;
        let state = locked.session.state();
        let channel = state.channel().map(|c| c.0);
        let peer = locked.known_peer().map(display);
        let (address, dialled) = (locked.address.as_ref(), locked.dialled.as_ref());
        let address = if matches!(event, CoreEvent::AttemptFailed { .. }) {
            dialled.or(address)
        } else {
            address.or(dialled)
        }
        .map(display);
        match event {
            CoreEvent::Connected => {
                tracing::info!(session, channel, peer, address, %state, "session connected");
            }
            CoreEvent::Interrupted { cause, .. } => {
                tracing::warn!(session, channel, peer, address, %state, %cause, "connection lost, the session goes on");
            }
            CoreEvent::AttemptFailed { cause } => {
                tracing::warn!(session, channel, peer, address, %state, %cause, "cannot connect, will try again");
            }
            CoreEvent::Resumed { replayed, away } => {
                tracing::info!(session, channel, peer, address, %state, replayed, ?away, "session resumed");
            }
            CoreEvent::Reset { lost } => {
                tracing::warn!(session, channel, peer, address, %state, lost, "the peer has forgotten the session");
            }
            CoreEvent::Ended(reason @ (EndReason::Closed | EndReason::PeerClosed)) => {
                tracing::info!(session, channel, peer, address, %state, %reason, "session ended");
            }
            CoreEvent::Ended(EndReason::ClosedUndrained) if locked.lost_at_end() == 0 => {
                tracing::info!(session, channel, peer, address, %state, "session given up, nothing was lost with it");
            }
            CoreEvent::Ended(reason) => {
                let lost = locked.lost_at_end();
                tracing::error!(session, channel, peer, address, %state, lost, %reason, "session ended");
            }
        }
    }
}

impl Locked {
    /// The name that the peer has proven or claimed; before that its type and number, as far as they are known.
    pub(crate) fn peer(&self) -> EntityName {
        self.known_peer()
            .unwrap_or_else(|| EntityName::new(EntityType::Any, self.session.peer().number.to_string()))
    }

    /// As [`Locked::peer`], if anything is known of it.
    fn known_peer(&self) -> Option<EntityName> {
        let peer = self.session.peer();
        let numbered = || {
            let entity_type = EntityType::from_number(u32::from(peer.entity_type))?;
            Some(EntityName::new(entity_type, peer.number.to_string()))
        };
        peer.name.clone().or_else(|| self.claimed.clone()).or_else(numbered)
    }

    /// Messages that were lost with the session's end, those that went before with a reset not counted.
    fn lost_at_end(&self) -> u64 {
        self.session.counters().lost.saturating_sub(self.lost_by_resets)
    }

    /// Whether the session has had a connection.
    pub(crate) fn was_connected(&self) -> bool {
        self.session.connects() > 0
    }

    /// Keeps in mind what an event says of the session's state, and puts it in the user's words.
    fn note(&mut self, event: CoreEvent, now: Instant) -> SessionEvent {
        match event {
            CoreEvent::Connected => {
                self.away_since = None;
                SessionEvent::Connected
            }
            CoreEvent::Interrupted { since, cause } => {
                self.away_since = Some(since);
                self.last_failure = Some(cause.clone());
                SessionEvent::Interrupted { cause }
            }
            CoreEvent::AttemptFailed { cause } => {
                self.away_since.get_or_insert(now);
                self.last_failure = Some(cause.clone());
                SessionEvent::AttemptFailed { cause }
            }
            CoreEvent::Resumed { replayed, away } => {
                self.away_since = None;
                SessionEvent::Resumed { replayed, away }
            }
            CoreEvent::Reset { lost } => {
                self.lost_by_resets += lost as u64;
                SessionEvent::Reset { lost }
            }
            CoreEvent::Ended(reason) => SessionEvent::Ended(reason),
        }
    }

    fn deliver_replies(&mut self, wakes: &mut Vec<Waker>) {
        let Self { session, calls, .. } = self;
        if calls.is_empty() {
            return;
        }
        while let Some(received) = session.poll_claimed(|message| calls.awaits(message.tid)) {
            calls.deliver(received.message, wakes);
        }
    }

    /// After the application took messages: a connection that stopped reading goes on once half of its room is free
    /// again, so that it does not wake for every single message.
    pub(crate) fn resume_reading(&mut self) -> Option<Waker> {
        if self.line.paused && self.session.inbound_is_low() { self.line.ring() } else { None }
    }

    /// Whether a sender has to wait for its turn or for room. Nobody waits for a session that takes nothing any more.
    pub(crate) fn must_wait(&self, place: Option<Place>, cost: usize) -> bool {
        self.session.is_open() && !(self.room.is_first(place) && self.has_room(cost))
    }

    /// Puts a sender into the queue for room. The waker is to be called once the lock is released: what the
    /// connection had to write may have been written since it last said so, and it has no other reason to come again.
    #[must_use]
    pub(crate) fn wait_for_room(
        &mut self,
        place: &mut Option<Place>,
        cost: usize,
        waker: &Waker,
    ) -> Option<Waker> {
        self.room.enter(place, cost, waker);
        if self.line.unwritten > 0 { self.line.ring() } else { None }
    }

    /// Whether a message may be queued by somebody who does not wait.
    pub(crate) fn may_try(&self, cost: usize) -> bool {
        !self.session.is_open() || (self.room.is_empty() && self.session.has_room(cost))
    }

    fn has_room(&self, cost: usize) -> bool {
        let ready = matches!(self.session.state(), SessionState::Ready { .. });
        let ahead = self.session.outbox().pending_bytes() + self.line.unwritten;
        self.session.has_room(cost) && !(ready && ahead >= AHEAD_BYTES_MAX)
    }

    /// Wakes the first sender in the queue if there is room for it.
    pub(crate) fn wake_senders(&mut self, wakes: &mut Vec<Waker>) {
        if let Some(cost) = self.room.first_cost()
            && (self.has_room(cost) || !self.session.is_open())
        {
            self.room.wake_first(wakes);
        }
    }

    /// After a message was queued: the connection that has to write it, or the keeper that has to dial.
    pub(crate) fn ring_for_message(&mut self) -> Ring {
        match self.session.state() {
            SessionState::Ready { .. } => Ring::Line(self.line.ring()),
            SessionState::Pausing { .. } => Ring::Keeper,
            SessionState::Connecting { .. }
            | SessionState::Standby
            | SessionState::Waiting { .. }
            | SessionState::Closed => Ring::Line(None),
        }
    }
}

/// Whom a message that was queued wakes.
pub(crate) enum Ring {
    Line(Option<Waker>),
    Keeper,
}

impl Ring {
    /// Only once the lock is released.
    pub(crate) fn ring(self, core: &Core) {
        match self {
            Self::Line(None) => {}
            Self::Line(Some(waker)) => waker.wake(),
            Self::Keeper => core.keeper.notify_one(),
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}
