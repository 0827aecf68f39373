//! Judges a [history](crate::history), and knows nothing else.
//!
//! What must hold:
//!
//! - **Order.** The order of the model is the order in which messages are numbered: those of one class in the order of
//!   sending, and a message is overtaken only by one of a strictly higher class. Judged for each sending session in
//!   each life of the receiving process.
//! - **Once.** No life of a process is given a message twice; where a policy carries messages over from a session to the
//!   next (Ceph's lossless peers), no session is.
//! - **Receipts are true.** Acknowledged: it had been queued at the receiver. Lost: its session had said that it was reset
//!   or is over. Revoked: it was never queued. Each ends once.
//! - **Bounds.** What a session keeps, what waits for an application, what a connection has not written.
//! - **An end.** Once the faults have stopped and time has passed, nothing is pending.
//!
//! A lossy session promises less: no receipts, and what was sent may be lost, but then the session is over.

use crate::history::{Bounds, Entry, Event, Name, Outcome, Party};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// What is wrong with a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A message was acknowledged that the receiver never had, or not yet.
    FalseReceipt(Name),
    /// A receipt says lost, but the session said nothing of the kind.
    LostWithoutWord(Name),
    /// A receipt changed after it had ended.
    ReceiptChanged(Name),
    /// A lossless session does not know its own message, or does not answer for it.
    NoReceipt(Name),
    /// A life of a process was given a message twice.
    Duplicated(Name),
    /// The second came before the first, which it must not overtake.
    Reordered {
        /// Should have been first.
        first: Name,
        /// Came first.
        second: Name,
    },
    /// It was taken back, and came.
    DeliveredAfterRevoke(Name),
    /// Nobody sent it, or not this.
    Damaged(Name),
    /// It was handed to the application without having been queued, or in another order.
    OutOfQueue(Name),
    /// Something holds more than it may.
    BoundBroken {
        /// What.
        what: &'static str,
        /// Whose: a session, or a process.
        whose: String,
        /// How much.
        held: usize,
        /// And may be.
        limit: usize,
    },
    /// Fair weather did not help: this has no end.
    Stuck {
        /// Which message.
        message: Name,
        /// What is missing.
        waits_for: &'static str,
    },
    /// A lossy session lives, and lost a message all the same.
    LostInLife(Name),
    /// Two equals have several sessions with each other.
    Twins {
        /// One end.
        process: usize,
        /// The other.
        peer: usize,
        /// How many.
        live: usize,
    },
    /// A process's table names other sessions than those that live.
    LeftBehind {
        /// Which process.
        process: usize,
        /// Sessions that live.
        live: usize,
        /// Sessions that the table names.
        known: usize,
    },
    /// Something went on for ever without time passing.
    Livelock,
    /// A bug of ours came to light by itself.
    Panicked(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FalseReceipt(name) => write!(f, "{name} was acknowledged and is not at the receiver"),
            Self::LostWithoutWord(name) => write!(f, "{name} was lost and its session said nothing"),
            Self::ReceiptChanged(name) => write!(f, "the receipt of {name} ended twice"),
            Self::NoReceipt(name) => write!(f, "{name} has no receipt"),
            Self::Duplicated(name) => write!(f, "{name} was delivered twice"),
            Self::Reordered { first, second } => write!(f, "{second} overtook {first}"),
            Self::DeliveredAfterRevoke(name) => write!(f, "{name} was revoked and delivered"),
            Self::Damaged(name) => write!(f, "{name} is not what was sent"),
            Self::OutOfQueue(name) => write!(f, "{name} was handed out without having been queued"),
            Self::BoundBroken { what, whose, held, limit } => {
                write!(f, "{whose} holds {held} {what}, and may hold {limit}")
            }
            Self::Stuck { message, waits_for } => write!(f, "{message} waits for ever for {waits_for}"),
            Self::LostInLife(name) => write!(f, "{name} is lost, and its lossy session lives"),
            Self::Twins { process, peer, live } => {
                write!(f, "p{process} has {live} sessions with its equal p{peer}")
            }
            Self::LeftBehind { process, live, known } => {
                write!(f, "p{process} has {live} live sessions, and its table names {known}")
            }
            Self::Livelock => f.write_str("time stands still"),
            Self::Panicked(message) => write!(f, "panic: {message}"),
        }
    }
}

/// A message, as its sender knows it.
struct Message {
    priority: u8,
    cost: usize,
    payload: usize,
    digest: u64,
    outcome: Option<Outcome>,
    revoke_open: bool,
    queued: bool,
    delivered_to: BTreeSet<Receiver>,
}

#[derive(Default)]
struct Session {
    lossy: bool,
    carries_over: bool,
    said_lost: bool,
    ended: bool,
    outbox: Option<Bounds>,
    inbound: Option<Bounds>,
    kept: (usize, usize),
    waiting: VecDeque<Option<Name>>,
    waiting_bytes: usize,
}

/// Who must not be given a message twice: a life of a process; one session of it, if messages are carried over.
type Receiver = (usize, u32, Option<u64>);

/// What a receiver has of one sending session: for each class, the latest that came.
type Latest = BTreeMap<u8, u32>;

#[derive(Default)]
struct Checker {
    messages: BTreeMap<Name, Message>,
    sessions: BTreeMap<Party, Session>,
    latest: BTreeMap<(Party, Receiver), Latest>,
    dead: BTreeSet<(usize, u32)>,
    findings: Vec<Finding>,
}

/// Findings that are listed of one history; one is bad enough.
const FINDINGS_MAX: usize = 20;

/// Everything that is wrong with a history; empty: nothing.
#[must_use]
pub fn check(history: &[Entry]) -> Vec<Finding> {
    let mut checker = Checker::default();
    for entry in history {
        checker.take(&entry.event);
        if checker.findings.len() >= FINDINGS_MAX {
            break;
        }
    }
    checker.findings
}

impl Checker {
    fn find(&mut self, finding: Finding) {
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Opened { at, lossy, carries_over, outbox, inbound } => {
                let session = self.sessions.entry(*at).or_default();
                session.lossy = *lossy;
                session.carries_over = *carries_over;
                session.outbox = Some(*outbox);
                session.inbound = Some(*inbound);
            }
            Event::Sent { message, priority, cost, payload, digest } => {
                self.sent(*message, *priority, *cost, *payload, *digest);
            }
            Event::Queued { at, message } => self.queued(*at, *message),
            Event::Delivered { at, message, digest } => self.delivered(*at, *message, *digest),
            Event::Receipt { message, outcome } => self.receipt(*message, *outcome),
            Event::RevokeAsked { message } => self.revoke(*message, true),
            Event::RevokeAnswered { message, taken } => {
                self.revoke(*message, false);
                if *taken {
                    self.receipt(*message, Outcome::Revoked);
                }
            }
            Event::Reset { at, lost } => {
                if *lost > 0 {
                    self.sessions.entry(*at).or_default().said_lost = true;
                }
            }
            Event::Ended { at } => {
                let session = self.sessions.entry(*at).or_default();
                session.said_lost = true;
                session.ended = true;
            }
            Event::Died { process, incarnation } => {
                self.dead.insert((*process, *incarnation));
            }
            Event::Unwritten { process, held, limit } => {
                if held > limit {
                    let whose = format!("a connection of p{process}");
                    let (held, limit) = (*held, *limit);
                    self.find(Finding::BoundBroken { what: "unwritten bytes", whose, held, limit });
                }
            }
            Event::Settled => self.settled(),
            Event::Between { process, peer, live } => {
                if *live > 1 {
                    self.find(Finding::Twins { process: *process, peer: *peer, live: *live });
                }
            }
        }
    }

    fn sent(&mut self, name: Name, priority: u8, cost: usize, payload: usize, digest: u64) {
        let message = Message {
            priority,
            cost,
            payload,
            digest,
            outcome: None,
            revoke_open: false,
            queued: false,
            delivered_to: BTreeSet::new(),
        };
        if self.messages.insert(name, message).is_some() {
            self.find(Finding::Damaged(name));
        }
        let session = self.sessions.entry(name.from).or_default();
        session.kept.0 += 1;
        session.kept.1 += cost;
        if session.lossy {
            return;
        }
        if let Some(bounds) = session.outbox {
            let (messages, bytes) = session.kept;
            self.bounded(
                bounds,
                messages,
                (bytes, messages == 1),
                name.from,
                ["messages to send", "bytes to send"],
            );
        }
    }

    fn bounded(
        &mut self,
        bounds: Bounds,
        messages: usize,
        (bytes, alone): (usize, bool),
        whose: Party,
        what: [&'static str; 2],
    ) {
        let whose = whose.to_string();
        let (messages_max, bytes_max) = (bounds.messages_max.max(1), bounds.bytes_max);
        if messages > messages_max {
            self.find(Finding::BoundBroken { what: what[0], whose, held: messages, limit: messages_max });
        } else if bytes > bytes_max && !alone {
            self.find(Finding::BoundBroken { what: what[1], whose, held: bytes, limit: bytes_max });
        }
    }

    /// All bytes that wait are those of one message.
    fn waits_alone(&self, at: Party) -> bool {
        let waiting = self.sessions.get(&at).map(|s| s.waiting.iter().flatten());
        let payload = |name| self.messages.get(name).map_or(0, |m| m.payload);
        waiting.is_some_and(|names| names.filter(|name| payload(name) > 0).count() <= 1)
    }

    fn queued(&mut self, at: Party, name: Option<Name>) {
        let bytes = name.and_then(|n| self.messages.get(&n)).map_or(0, |m| m.payload);
        let session = self.sessions.entry(at).or_default();
        session.waiting.push_back(name);
        session.waiting_bytes += bytes;
        let (bounds, waiting_bytes) = (session.inbound, session.waiting_bytes);
        let (waiting, alone) = (session.waiting.len(), self.waits_alone(at));
        if let Some(bounds) = bounds {
            self.bounded(bounds, waiting, (waiting_bytes, alone), at, ["messages come in", "bytes come in"]);
        }
        let Some(name) = name else { return };
        let carries_over = self.sessions.get(&name.from).is_some_and(|s| s.carries_over);
        let receiver = (at.process, at.incarnation, carries_over.then_some(at.session));
        let Some(message) = self.messages.get_mut(&name) else {
            self.find(Finding::Damaged(name));
            return;
        };
        message.queued = true;
        let revoked = message.outcome == Some(Outcome::Revoked);
        let again = !message.delivered_to.insert(receiver);
        let priority = message.priority;
        if revoked {
            self.find(Finding::DeliveredAfterRevoke(name));
        }
        if again {
            self.find(Finding::Duplicated(name));
            return;
        }
        self.in_order(receiver, name, priority);
    }

    /// Nothing that came before may have been sent later without being of a higher class.
    fn in_order(&mut self, receiver: Receiver, name: Name, priority: u8) {
        let latest = self.latest.entry((name.from, receiver)).or_default();
        let overtaker = latest.range(..=priority).map(|(_, serial)| *serial).find(|s| *s > name.serial);
        let known = latest.entry(priority).or_insert(name.serial);
        *known = (*known).max(name.serial);
        if let Some(serial) = overtaker {
            self.find(Finding::Reordered { first: name, second: Name { from: name.from, serial } });
        }
    }

    fn delivered(&mut self, at: Party, name: Name, digest: u64) {
        let session = self.sessions.entry(at).or_default();
        if session.waiting.pop_front() != Some(Some(name)) {
            self.find(Finding::OutOfQueue(name));
        }
        let Some(message) = self.messages.get(&name) else {
            self.find(Finding::Damaged(name));
            return;
        };
        let session = self.sessions.entry(at).or_default();
        session.waiting_bytes = session.waiting_bytes.saturating_sub(message.payload);
        if message.digest != digest {
            self.find(Finding::Damaged(name));
        }
    }

    fn receipt(&mut self, name: Name, outcome: Outcome) {
        let Some(message) = self.messages.get_mut(&name) else {
            self.find(Finding::Damaged(name));
            return;
        };
        if let Some(known) = message.outcome {
            match (known, outcome, message.queued) {
                // Without receipts it may still be taken back, as long as it is here.
                (Outcome::NotTracked, Outcome::Revoked, true) => {
                    self.find(Finding::DeliveredAfterRevoke(name));
                }
                (Outcome::NotTracked, Outcome::Revoked, false) => message.outcome = Some(outcome),
                (Outcome::Revoked, Outcome::NotTracked, _) => {}
                _ if known != outcome => self.find(Finding::ReceiptChanged(name)),
                _ => {}
            }
            return;
        }
        message.outcome = Some(outcome);
        let (queued, cost) = (message.queued, message.cost);
        let session = self.sessions.entry(name.from).or_default();
        session.kept.0 = session.kept.0.saturating_sub(1);
        session.kept.1 = session.kept.1.saturating_sub(cost);
        let (lossy, said_lost) = (session.lossy, session.said_lost);
        match outcome {
            Outcome::Acknowledged if !queued => self.find(Finding::FalseReceipt(name)),
            Outcome::Revoked if queued => self.find(Finding::DeliveredAfterRevoke(name)),
            Outcome::Lost(_) if !said_lost => self.find(Finding::LostWithoutWord(name)),
            Outcome::NotTracked | Outcome::Unknown if !lossy => self.find(Finding::NoReceipt(name)),
            Outcome::Acknowledged
            | Outcome::Revoked
            | Outcome::Lost(_)
            | Outcome::NotTracked
            | Outcome::Unknown => {}
        }
    }

    fn revoke(&mut self, name: Name, open: bool) {
        match self.messages.get_mut(&name) {
            Some(message) => message.revoke_open = open,
            None => self.find(Finding::Damaged(name)),
        }
    }

    fn settled(&mut self) {
        let mut found = Vec::new();
        for (name, message) in &self.messages {
            let alive = !self.dead.contains(&(name.from.process, name.from.incarnation));
            let session = self.sessions.get(&name.from);
            let lossy = session.is_some_and(|s| s.lossy);
            let ended = session.is_some_and(|s| s.ended);
            if alive && message.outcome.is_none() && !lossy {
                found.push(Finding::Stuck { message: *name, waits_for: "its receipt" });
            }
            if alive && message.revoke_open {
                found.push(Finding::Stuck { message: *name, waits_for: "the answer to its revocation" });
            }
            let revoked = message.outcome == Some(Outcome::Revoked);
            if alive && lossy && !ended && !message.queued && !revoked {
                found.push(Finding::LostInLife(*name));
            }
        }
        for (party, session) in &self.sessions {
            let alive = !self.dead.contains(&(party.process, party.incarnation));
            if let Some(Some(name)) = session.waiting.front().filter(|_| alive) {
                found.push(Finding::Stuck { message: *name, waits_for: "its application" });
            }
        }
        found.truncate(FINDINGS_MAX);
        found.into_iter().for_each(|finding| self.find(finding));
    }
}

#[cfg(test)]
mod tests;
