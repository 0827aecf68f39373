//! Writes down what a world's applications see, and which situations it met.
//!
//! It looks on from outside: at what sessions hand out, at the length of their queues, and at receipts. Nothing that
//! the checker is told comes from the books of the code under test, but for the receipts themselves, which are what is
//! to be judged.

use crate::history::{Bounds, Entry, Event, Name, Outcome, Party, digest};
use crate::situations::Situations;
use crate::world::{Process, ProcessId};
use outlast_msgr2::connection::State;
use outlast_msgr2::wire::Control;
use outlast_msgr2::{ConnectionError, Decision, Received, Session, SessionEvent, SessionId, SessionState};
use outlast_session::{Counters, Instant, MessageId, ReceiptStatus};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Looks at every receipt again after this many steps, whatever the counters say.
const LOOK_AT_ALL_STEPS: u64 = 64;

/// What must have changed if a receipt has.
type Seen = (u64, u64, u64, u64, bool);

/// Receipts that have not ended.
#[derive(Default)]
struct Outstanding {
    ids: BTreeMap<MessageId, Name>,
    seen: Seen,
}

/// The onlooker. See the [module](self).
pub struct Watch {
    /// What was seen.
    pub history: Vec<Entry>,
    /// What was met.
    pub situations: Situations,
    /// Print what is seen.
    pub trace: bool,
    /// Sessions of this run promise little.
    pub lossy: bool,
    /// What may wait for the application of a session of this run.
    pub inbound: Bounds,
    /// Bytes that a connection of this run may hold unwritten.
    pub unwritten_max: usize,
    /// World time.
    pub now: Instant,
    outstanding: BTreeMap<Party, Outstanding>,
    names: BTreeMap<(Party, MessageId), Name>,
    serials: BTreeMap<Party, u32>,
    waiting: BTreeMap<Party, VecDeque<usize>>,
    revocations_open: BTreeSet<Name>,
    unwritten_peak: usize,
}

impl Watch {
    /// An onlooker that has seen nothing.
    #[must_use]
    pub fn new(lossy: bool, inbound: Bounds, unwritten_max: usize, trace: bool) -> Self {
        Self {
            history: Vec::new(),
            situations: Situations::default(),
            trace,
            lossy,
            inbound,
            unwritten_max,
            now: Instant::ZERO,
            outstanding: BTreeMap::new(),
            names: BTreeMap::new(),
            serials: BTreeMap::new(),
            waiting: BTreeMap::new(),
            revocations_open: BTreeSet::new(),
            unwritten_peak: 0,
        }
    }

    /// Writes an event down.
    pub fn record(&mut self, event: Event) {
        if self.trace {
            println!("{:>14.6} {event:?}", self.now.as_nanos() as f64 / 1e9);
        }
        self.history.push(Entry { at: self.now, event });
    }

    /// Prints something that the checker need not know.
    pub fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>14.6}   {}", self.now.as_nanos() as f64 / 1e9, what());
        }
    }

    // ------------------------------------------------------------------ what applications do

    /// The name of the next message of this party.
    pub fn next_name(&mut self, from: Party) -> Name {
        let serial = self.serials.entry(from).or_default();
        *serial += 1;
        Name { from, serial: *serial - 1 }
    }

    /// The session did not take the message that this name was for.
    pub fn take_back_name(&mut self, name: Name) {
        if let Some(serial) = self.serials.get_mut(&name.from) {
            *serial -= 1;
        }
    }

    /// A message was handed in.
    pub fn sent(&mut self, name: Name, id: MessageId, message: &outlast_msgr2::Message) {
        self.record(Event::Sent {
            message: name,
            priority: message.priority,
            cost: message.payload_len() + outlast_msgr2::message::MESSAGE_OVERHEAD_BYTES,
            payload: message.payload_len(),
            digest: digest([&message.front, &message.middle, &message.data]),
        });
        self.names.insert((name.from, id), name);
        self.outstanding.entry(name.from).or_default().ids.insert(id, name);
    }

    /// A message is to be taken back.
    pub fn revoke_asked(&mut self, party: Party, id: MessageId) {
        if let Some(name) = self.names.get(&(party, id)).copied() {
            self.revocations_open.insert(name);
            self.record(Event::RevokeAsked { message: name });
        }
    }

    /// Messages of this party whose receipts have not ended.
    #[must_use]
    pub fn open_receipts(&self, party: Party) -> Vec<MessageId> {
        self.outstanding.get(&party).map(|o| o.ids.keys().copied().collect()).unwrap_or_default()
    }

    /// Whether nothing is left that should end: receipts, revocations, messages that wait for their application.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.outstanding.values().all(|o| o.ids.is_empty())
            && self.revocations_open.is_empty()
            && self.waiting.values().all(VecDeque::is_empty)
    }

    // ------------------------------------------------------------------ what the world shows

    pub(crate) fn opened(&mut self, id: ProcessId, incarnation: u32, session: &Session) {
        let limits = session.outbox().limits();
        let outbox = Bounds { messages_max: limits.messages_max, bytes_max: limits.bytes_max };
        let at = party(id, incarnation, session.id());
        self.record(Event::Opened {
            at,
            lossy: self.lossy,
            carries_over: !session.policy().resetcheck,
            outbox,
            inbound: self.inbound,
        });
    }

    pub(crate) fn decided(&mut self, before: Option<SessionState>, decision: &Decision) {
        self.note(|| format!("decided {decision:?} with {before:?}"));
        match decision {
            Decision::Accept { .. } => match before {
                Some(SessionState::Ready { .. }) => self.situations.meet("takeover of Ready"),
                Some(SessionState::Connecting { .. }) => self.situations.meet("takeover of Connecting"),
                Some(SessionState::Pausing { .. }) => self.situations.meet("takeover of Pausing"),
                Some(SessionState::Waiting { .. }) => self.situations.meet("takeover of Waiting"),
                Some(SessionState::Standby) => self.situations.meet("takeover of Standby"),
                Some(SessionState::Closed) => self.situations.meet("newcomer to an ended session"),
                None => {}
            },
            Decision::Reply(Control::Wait(_)) => self.situations.meet("WAIT"),
            Decision::Reply(Control::SessionRetry(_)) => self.situations.meet("RETRY"),
            Decision::Reply(Control::SessionRetryGlobal(_)) => self.situations.meet("RETRY_GLOBAL"),
            Decision::Reply(Control::SessionReset(reset)) => {
                self.situations.meet(if reset.full { "RESET full" } else { "RESET partial" });
            }
            Decision::Reply(_) => {}
            Decision::Closed { .. } => self.situations.meet("came back for a closed session"),
            Decision::Refuse(ConnectionError::Stale { .. }) => self.situations.meet("stale attempt refused"),
            Decision::Refuse(ConnectionError::WrongTarget { .. }) => {
                self.situations.meet("wrong target refused");
            }
            Decision::Refuse(_) => {}
        }
    }

    /// So many messages were queued for the application.
    fn queued(&mut self, at: Party, count: usize) {
        for _ in 0..count {
            self.waiting.entry(at).or_default().push_back(self.history.len());
            self.record(Event::Queued { at, message: None });
        }
    }

    /// A connection met its session; `before`: messages that came in, counters, unwritten bytes.
    pub(crate) fn synced(
        &mut self,
        at: Party,
        session: &Session,
        before: (usize, Counters, usize),
        unwritten: usize,
    ) {
        let (inbound, old, unwritten_before) = before;
        self.queued(at, session.inbound_len() - inbound);
        let new = session.counters();
        let refusals = new.throttle_refusals - old.throttle_refusals;
        self.situations.meet_often("reading paused by the throttle", refusals);
        let taken = new.revoked - old.revoked;
        self.situations.meet_often("revoked while it was written", taken);
        if taken > 0 {
            let removed = unwritten < unwritten_before;
            self.situations.meet(if removed { "frame removed" } else { "frame aborted" });
        }
    }

    pub(crate) fn delivered(&mut self, at: Party, received: &Received, by_application: bool) {
        let message = Name::from_tid(received.message.tid);
        if let Some(index) = self.waiting.get_mut(&at).and_then(VecDeque::pop_front) {
            self.history[index].event = Event::Queued { at, message: Some(message) };
        }
        if by_application {
            let m = &received.message;
            let digest = digest([&m.front, &m.middle, &m.data]);
            self.record(Event::Delivered { at, message, digest });
        }
    }

    pub(crate) fn revoked(&mut self, at: Party, id: MessageId, taken: bool) {
        if let Some(name) = self.names.get(&(at, id)).copied() {
            self.revocations_open.remove(&name);
            self.situations.meet(if taken { "revoked" } else { "revoked too late" });
            self.record(Event::RevokeAnswered { message: name, taken });
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "an onlooker counts what it knows")]
    pub(crate) fn happened(&mut self, at: Party, event: &SessionEvent) {
        self.note(|| format!("{at} {event:?}"));
        match event {
            SessionEvent::Connected => self.situations.meet("connected"),
            SessionEvent::Interrupted { .. } => self.situations.meet("interrupted"),
            SessionEvent::AttemptFailed { .. } => self.situations.meet("attempt failed"),
            SessionEvent::Resumed { replayed, .. } => {
                self.situations.meet("resumed");
                if *replayed > 0 {
                    self.situations.meet("resumed with a replay");
                }
            }
            SessionEvent::Reset { lost } => {
                self.situations.meet(if *lost > 0 { "reset with losses" } else { "reset without losses" });
                self.record(Event::Reset { at, lost: *lost });
            }
            SessionEvent::Ended(reason) => {
                use outlast_msgr2::EndReason as E;
                self.situations.meet(match reason {
                    E::Closed => "closed, drained",
                    E::ClosedUndrained => "closed, not drained",
                    E::PeerClosed => "closed by the peer",
                    E::Expired => "expired",
                    E::Replaced => "replaced",
                    E::ConnectionLost(_) => "lossy session lost",
                    _ => "refused for good",
                });
                self.record(Event::Ended { at });
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "an onlooker counts what it knows")]
    pub(crate) fn connection_ended(&mut self, state: State, error: &ConnectionError) {
        self.note(|| format!("a connection in {state} ended: {error}"));
        match error {
            ConnectionError::Lost { state } => self.situations.meet_in("cut in ", *state),
            ConnectionError::HandshakeTimeout { .. } => self.situations.meet("handshake timed out"),
            ConnectionError::Silent => self.situations.meet("death by silence"),
            ConnectionError::Rekey => self.situations.meet("rekey"),
            ConnectionError::Superseded => self.situations.meet("superseded"),
            ConnectionError::Wait => self.situations.meet("waits for the peer"),
            _ => {}
        }
    }

    /// A process is dead; what nobody took is looked at, so that the checker knows what had been queued.
    pub(crate) fn died(&mut self, id: ProcessId, process: &mut Process) {
        let incarnation = process.incarnation;
        for (session_id, session) in &mut process.sessions {
            let at = party(id, incarnation, *session_id);
            while let Some(received) = session.poll_message() {
                self.delivered(at, &received, false);
            }
            self.outstanding.remove(&at);
            self.situations.count(&session.counters());
        }
        self.record(Event::Died { process: id.0, incarnation });
        // What was asked of it is no longer answered.
        self.revocations_open.retain(|n| (n.from.process, n.from.incarnation) != (id.0, incarnation));
    }

    /// Looks at the receipts of a process.
    pub(crate) fn look(&mut self, id: ProcessId, process: &Process, steps: u64) {
        let at_all = steps.is_multiple_of(LOOK_AT_ALL_STEPS);
        let mut ended = Vec::new();
        for (session_id, session) in &process.sessions {
            let at = party(id, process.incarnation, *session_id);
            let Some(outstanding) = self.outstanding.get_mut(&at) else { continue };
            if outstanding.ids.is_empty() {
                continue;
            }
            let seen = fingerprint(&session.counters(), session);
            if seen == outstanding.seen && !at_all {
                continue;
            }
            outstanding.seen = seen;
            outstanding.ids.retain(|message, name| {
                let outcome = match session.status(*message) {
                    ReceiptStatus::Pending => return true,
                    ReceiptStatus::Acknowledged => Outcome::Acknowledged,
                    ReceiptStatus::Revoked => Outcome::Revoked,
                    ReceiptStatus::Lost(reason) => Outcome::Lost(reason),
                    ReceiptStatus::NotTracked => Outcome::NotTracked,
                    ReceiptStatus::Unknown => Outcome::Unknown,
                };
                ended.push((*name, outcome));
                false
            });
        }
        for (message, outcome) in ended {
            self.record(Event::Receipt { message, outcome });
        }
        let unwritten = process.connections.values().map(|a| a.connection.out_len()).max().unwrap_or(0);
        if unwritten > self.unwritten_peak {
            self.unwritten_peak = unwritten;
            let limit = self.unwritten_max;
            self.record(Event::Unwritten { process: id.0, held: unwritten, limit });
        }
    }
}

fn fingerprint(counters: &Counters, session: &Session) -> Seen {
    let outbox = session.outbox();
    let held = (outbox.pending_len() + outbox.unacked_len()) as u64;
    (outbox.acked_count(), held, counters.lost, counters.resets, session.end().is_some())
}

/// A session as the history names it.
#[must_use]
pub const fn party(id: ProcessId, incarnation: u32, session: SessionId) -> Party {
    Party { process: id.0, incarnation, session: session.0 }
}
