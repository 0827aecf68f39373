//! Members that come and go, and FIN.

use outlast_session::{Convention, Delivery, Exclusive32, GapPolicy, Inbox, Instant, LossReason};

use super::config::ChannelId;
use super::outgoing::{Outgoing, Urgent};
use super::state::{State, TERMINATION_WAIT_MAX};
use super::{Session, SessionEvent};
use crate::error::ConnectionError;
use crate::wire::{Inner, Version};

impl Session {
    /// Changes the state. The only place that does.
    pub(super) fn enter(&mut self, next: State, now: Option<Instant>) {
        debug_assert!(self.state.may_become(next), "{} -> {next}", self.state);
        self.state = next;
        self.deadline = match now {
            Some(now) if next.waits() => Some(now + TERMINATION_WAIT_MAX),
            Some(_) | None => None,
        };
    }

    /// A lockspace has the peer as a member.
    pub fn add_member(&mut self) {
        if self.users == 0 {
            match self.state {
                State::Established => {}
                State::Closed => self.enter(State::Established, None),
                State::FinWait1 | State::FinWait2 | State::CloseWait | State::LastAck | State::Closing => {
                    // The end of the last time did not come about; the peer begins anew, as we do.
                    let state = self.state;
                    let lost = self.reset(LossReason::Reset);
                    self.is_another();
                    self.note(SessionEvent::Stuck { state, lost });
                    self.enter(State::Established, None);
                }
            }
        }
        self.users = self.users.saturating_add(1);
    }

    /// A lockspace no longer has the peer as a member.
    pub fn remove_member(&mut self, now: Instant) {
        if self.users == 0 {
            return;
        }
        self.users -= 1;
        if self.users == 0 && self.state == State::CloseWait {
            self.enter(State::LastAck, Some(now));
            self.send_fin();
        }
    }

    /// How many lockspaces have the peer as a member.
    pub const fn users(&self) -> u32 {
        self.users
    }

    /// This node leaves: everything that was taken is sent, then FIN. [`State::Closed`] is reached within
    /// [`TERMINATION_WAIT_MAX`], in order or by force; so long there is also time to learn the peer's version, which who
    /// leaves right after it joined does not know yet. A 3.1 peer is not told.
    pub fn shut_down(&mut self, now: Instant) {
        match (self.state, self.agreed()) {
            (State::Established, Some(Version::V3_2) | None) => {
                self.enter(State::FinWait1, Some(now));
                self.send_fin();
            }
            (State::Established, Some(Version::V3_1)) => self.end(LossReason::Closed),
            (
                State::Closed
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
                | State::LastAck
                | State::Closing,
                _,
            ) => {}
        }
    }

    /// The membership says that the peer is gone for good: nothing of it counts any more.
    pub fn fence(&mut self) {
        self.users = 0;
        if self.state != State::Closed || self.version.is_some() || !self.outbox.is_empty() {
            self.end(LossReason::Reset);
            self.is_another();
        }
        self.urgent.clear();
        self.received.clear();
        self.line.clear();
    }

    fn send_fin(&mut self) {
        // Never refused: a FIN that did not fit would not be missed, the session is reset when the time is over.
        let _ = self.push(Outgoing::new(&Inner::Fin, self.config.announce, self.config.node));
    }

    pub(super) fn handle_fin(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.agreed() == Some(Version::V3_1) {
            // Ours would have to be said without a number, and nobody knows such a thing.
            let reason = "a FIN, which version 3.1 does not have".to_owned();
            return Err(ConnectionError::Content { peer: self.peer(), reason });
        }
        // The peer waits for this acknowledgement, and the session may be over before the next turn.
        self.inbox.note_ack_sent();
        self.statistics.acks_sent += 1;
        let expected = Exclusive32::ack(self.inbox.received_count());
        self.urgent.push_back(Urgent::ack(expected, self.config.announce, self.config.node));
        match self.state {
            State::Closed | State::Established => {
                if self.state == State::Closed {
                    self.enter(State::Established, None);
                }
                if self.users == 0 {
                    self.enter(State::LastAck, Some(now));
                    self.send_fin();
                } else {
                    self.enter(State::CloseWait, Some(now));
                }
                Ok(())
            }
            State::FinWait1 => {
                self.enter(State::Closing, Some(now));
                Ok(())
            }
            State::FinWait2 => {
                self.end(LossReason::Closed);
                Ok(())
            }
            State::CloseWait | State::LastAck | State::Closing => {
                Err(ConnectionError::AfterFin { peer: self.peer(), what: "a FIN", state: self.state })
            }
        }
    }

    /// The outbox is empty: if a FIN was in it, the FIN is acknowledged.
    pub(super) fn everything_acknowledged(&mut self, now: Instant) {
        match self.state {
            State::FinWait1 => self.enter(State::FinWait2, Some(now)),
            State::Closing => self.end(LossReason::Closed),
            State::LastAck => self.end(LossReason::PeerClosed),
            State::Closed | State::Established | State::FinWait2 | State::CloseWait => {}
        }
    }

    /// The peer began anew, and said so over `channel`: this end does too, with what it says from now on. What still comes
    /// over older connections is of its last life.
    pub(super) fn restarted(&mut self, channel: ChannelId) {
        let version = self.version;
        let lost = self.reset(LossReason::Reset);
        self.line.keep_only(channel);
        self.note(SessionEvent::Restarted { lost });
        // It has just said a word.
        if let Some(version) = version {
            self.learn_version(version);
        }
    }

    /// This end began anew without the other: a peer of ours shall notice, as if this node had been started again.
    const fn is_another(&mut self) {
        if self.config.incarnation != 0 {
            let next = self.config.incarnation.wrapping_add(1);
            self.config.incarnation = if next == 0 { 1 } else { next };
        }
    }

    pub(super) fn end(&mut self, reason: LossReason) {
        let lost = self.reset(reason);
        self.note(SessionEvent::Ended { lost, reason });
    }

    /// Everything begins anew, with number 0 and an unknown version. Answers that wait to be written stay.
    fn reset(&mut self, reason: LossReason) -> usize {
        let lost = self.outbox.lose_all(reason);
        self.outbox.set_delivery(Delivery::Lossless);
        self.inbox = Inbox::starting_at(GapPolicy::Await, self.config.acks, 0);
        self.version = None;
        self.incarnation = None;
        self.missing_since = None;
        self.statistics.ends += 1;
        self.statistics.lost += lost as u64;
        if self.state != State::Closed {
            self.enter(State::Closed, None);
        }
        lost
    }

    /// The time of [`Session::poll_timeout`] came.
    ///
    /// # Errors
    /// The connections must end, so that the peer repeats what is missing.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            let state = self.state;
            let lost = self.reset(LossReason::Closed);
            self.is_another();
            self.note(SessionEvent::Stuck { state, lost });
        }
        if self.missing_since.is_some_and(|since| now.saturating_since(since) >= super::MISSING_WAIT_MAX) {
            self.missing_since = None;
            let expected = Exclusive32::ack(self.inbox.received_count());
            return Err(ConnectionError::Missing { peer: self.peer(), expected });
        }
        Ok(())
    }
}
