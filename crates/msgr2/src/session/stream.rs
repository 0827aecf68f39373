//! The session's side of a connection that is ready: messages and acknowledgements. Called from
//! [`crate::Connection`]'s `sync` alone.

use super::{Intent, Session, SessionState};
use crate::error::{ConnectionError, EndReason};
use crate::ids::ChannelId;
use crate::message::{Message, Received};
use outlast_session::{
    AcceptError, Budget, Convention, Inclusive64, Instant, LossReason, MessageId, Verdict,
};
use std::collections::VecDeque;

impl Session {
    /// Whether this connection is the one that carries the session.
    #[must_use]
    pub fn is_ready_on(&self, channel: ChannelId) -> bool {
        self.state == SessionState::Ready { channel }
    }

    /// The peer has everything up to and including message `seq`.
    ///
    /// # Errors
    /// [`ConnectionError::Ack`] if that was never sent. C++ Ceph would throw away its queue; this end does not.
    pub(crate) fn take_ack(&mut self, seq: u64) -> Result<(), ConnectionError> {
        // A lossy session keeps nothing, but its headers carry acknowledgements all the same.
        if self.config.policy.lossy {
            return Ok(());
        }
        let count = Inclusive64::count(seq, self.outbox.acked_count()).unwrap_or(u64::MAX);
        let freed = self.outbox.handle_ack(count)?;
        if freed > 0 {
            self.counters.messages_acked += freed as u64;
            self.backoff.progressed();
        }
        Ok(())
    }

    /// Messages came in: each is queued for the application once.
    ///
    /// # Errors
    /// [`ConnectionError::Gap`] where the configuration allows no holes; what came before it is queued.
    pub(crate) fn take_messages(
        &mut self,
        arrived: &mut VecDeque<Received>,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let mut result = Ok(());
        arrived.retain(|received| {
            result.is_ok()
                && self.judge(received.seq, received.message.payload_len(), now).unwrap_or_else(|error| {
                    result = Err(error);
                    false
                })
        });
        // Most often the application has taken everything: then nothing has to be moved.
        if self.inbound.is_empty() {
            std::mem::swap(&mut self.inbound, arrived);
        } else {
            self.inbound.append(arrived);
        }
        result
    }

    /// Whether a message is for the application. If so, it counts as held from now on.
    fn judge(&mut self, seq: u64, len: usize, now: Instant) -> Result<bool, ConnectionError> {
        let near = self.inbox.received_count();
        let ordinal =
            if self.inbox.is_fresh() { Inclusive64::first(seq) } else { Inclusive64::ordinal(seq, near) };
        // Number 0 does not exist in msgr2: it is as old as can be.
        let Some(ordinal) = ordinal else {
            self.counters.duplicates_dropped += 1;
            return Ok(false);
        };
        match self.inbox.accept(ordinal, len, now) {
            Ok(Verdict::Deliver) => {}
            Ok(Verdict::DeliverAfterGap { missing }) => {
                self.counters.gaps += 1;
                // Numbers are the peer's to choose: its holes can add up to more than there are numbers.
                self.counters.messages_missing = self.counters.messages_missing.saturating_add(missing);
            }
            Ok(Verdict::Duplicate) => {
                self.counters.duplicates_dropped += 1;
                return Ok(false);
            }
            // Only for who asks for it: msgr2's replays come in order.
            Ok(Verdict::Early { .. }) => {
                self.counters.gaps += 1;
                return Ok(false);
            }
            Err(AcceptError::Gap { expected, got }) => {
                return Err(ConnectionError::Gap {
                    expected: Inclusive64::number(expected),
                    got: Inclusive64::number(got),
                });
            }
            // The end of the numbers, and whatever else a later version refuses.
            Err(_) => {
                return Err(ConnectionError::Gap { expected: Inclusive64::number(near), got: seq });
            }
        }
        self.throttle.take(1, len);
        self.backoff.progressed();
        self.counters.messages_received += 1;
        self.counters.bytes_received += len as u64;
        Ok(true)
    }

    /// What may still be read before the application has taken something.
    pub(crate) fn budget(&self) -> Budget {
        self.throttle.budget()
    }

    /// Gives the next message its number and lends it to `take`.
    pub(crate) fn pull_with<R>(
        &mut self,
        take: impl FnOnce(u64, MessageId, &Message, bool) -> R,
    ) -> Option<R> {
        let counters = &mut self.counters;
        self.outbox.pull_with(|ordinal, id, message, replay| {
            counters.messages_sent += 1;
            counters.bytes_sent += message.payload_len() as u64;
            counters.replayed += u64::from(replay);
            take(ordinal, id, message, replay)
        })
    }

    /// What an acknowledgement says now.
    pub(crate) fn ack_seq(&self) -> u64 {
        Inclusive64::ack(self.inbox.received_count())
    }

    /// A message or an ACK that carries [`Session::ack_seq`] is about to be written.
    pub(crate) fn note_ack_sent(&mut self, piggybacked: bool) {
        if !self.inbox.ack_pending() {
            return;
        }
        if piggybacked {
            self.counters.acks_piggybacked += 1;
        } else {
            self.counters.acks_sent += 1;
        }
        self.inbox.note_ack_sent();
    }

    /// The application has closed the session and everything is acknowledged.
    pub(crate) fn is_drained(&self) -> bool {
        self.intent != Intent::Open && self.outbox.is_empty()
    }

    /// The last frame has been encoded.
    pub(crate) fn finish_drained(&mut self) {
        self.finish(EndReason::Closed, LossReason::Closed);
    }
}
