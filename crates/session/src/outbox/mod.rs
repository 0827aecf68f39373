//! The sending half of a numbered stream.
//!
//! ```text
//!          push              pull                 handle_ack
//!  (user) ------> waiting ----------> unacknowledged ----------> (acknowledged)
//!                 by class  numbered   by number   ^
//!                                        |         | pull: replayed
//!                                        +-- rewind, connection lost
//! ```
//!
//! A number is given when a connection pulls the message for writing and stays with it for good. `rewind` only moves
//! a cursor back: the next pulls replay what was not acknowledged, in order, and then go on with what waits.

use std::collections::VecDeque;
use std::fmt;

mod lanes;
mod receipts;
#[cfg(test)]
mod tests;

use crate::message::{Delivery, LossReason, MessageId, Payload, Priority, ReceiptStatus};
use lanes::{Kept, Lanes};
use receipts::PastGeneration;
pub use receipts::{PAST_GENERATIONS_MAX, REVOCATIONS_REMEMBERED_MAX};

/// How much an [`Outbox`] keeps: what waits and what is not acknowledged, together.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct OutboxLimits {
    /// Bytes, as [`Payload::cost`] counts them. A single message that is larger is taken when the outbox is empty,
    /// or it could never be sent. 0 counts as 1.
    pub bytes_max: usize,
    /// Messages. 0 counts as 1.
    pub messages_max: usize,
}

impl OutboxLimits {
    /// Enough for 100 ms of a 5 Gbit/s link: what a connection holds in flight, with room for the acknowledgements.
    pub const BYTES_MAX: usize = 64 * 1024 * 1024;
    /// Keeps the bookkeeping of tiny messages (around 200 bytes each) below the bytes they may carry.
    pub const MESSAGES_MAX: usize = 64 * 1024;
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { bytes_max: Self::BYTES_MAX, messages_max: Self::MESSAGES_MAX }
    }
}

/// The outbox has no room; the message comes back to wait for an acknowledgement. The user's to handle: nothing dies.
#[derive(Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the outbox is full: wait until the peer acknowledges more")]
pub struct Full<M> {
    /// What was to be pushed.
    pub message: M,
}

impl<M> fmt::Debug for Full<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Full").finish_non_exhaustive()
    }
}

/// An acknowledgement that cannot be.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The peer claims to hold messages that were never sent. The peer's fault; the connection dies. To believe it
    /// would lose messages: Ceph does, and throws away its whole queue (seen with release 18).
    #[error("the peer acknowledged {acked} messages of {sent} that were sent")]
    BeyondSent {
        /// How many messages the peer says it holds.
        acked: u64,
        /// How many were given a number.
        sent: u64,
    },
}

/// A message on its way to the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pulled<M> {
    /// Its place in the stream, from 0; the dialect's [`crate::Convention`] says how it is written.
    pub ordinal: u64,
    /// What the user knows it by.
    pub id: MessageId,
    /// The message: a clone of what is kept for a replay.
    pub message: M,
    /// Whether it was pulled before, for a connection that was lost.
    pub replay: bool,
}

/// What became of the wish to take a message back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Revocation<M> {
    /// It had no number yet and is taken out without a trace.
    NotNumbered(M),
    /// It has a number, given for the present connection, and is unchanged. If its frame is still being written and
    /// can be aborted, do that and then call [`Outbox::forget`]; else the peer may hold it.
    Numbered {
        /// The number it has.
        ordinal: u64,
    },
    /// It had a number when an earlier connection was lost and is unchanged: the peer may hold it from there,
    /// whatever becomes of its frame on this one. Its receipt will say how it ends.
    TooLate,
    /// Nothing of that name is outstanding: it ended, or never was.
    Unknown,
}

/// The sending half of a session: numbers, keeps and replays messages. See the [crate's page](crate).
///
/// What it holds is bounded by its [`OutboxLimits`]; there is no other queue behind it.
#[derive(Debug)]
pub struct Outbox<M> {
    delivery: Delivery,
    limits: OutboxLimits,
    generation: u32,
    lanes: Lanes<M>,
    /// By number, without gaps: the first has number `base`.
    unacked: VecDeque<Kept<M>>,
    base: u64,
    /// How many of `unacked` were pulled for the present connection.
    cursor: usize,
    /// Of `unacked`, those that are no hole.
    unacked_len: usize,
    unacked_bytes: usize,
    /// The highest acknowledgement.
    acked: u64,
    /// Numbers below this one were pulled for a connection that was lost: the peer may hold them from there.
    doubtful_below: u64,
    past: VecDeque<PastGeneration>,
}

impl<M: Payload + Clone> Outbox<M> {
    /// An empty outbox that numbers from 0.
    pub fn new(delivery: Delivery, limits: OutboxLimits) -> Self {
        Self::starting_at(delivery, limits, 0)
    }

    /// An empty outbox that numbers from `first`, for a peer that counts on from an earlier stream. A reset goes
    /// back to 0.
    pub fn starting_at(delivery: Delivery, limits: OutboxLimits, first: u64) -> Self {
        Self {
            delivery,
            limits,
            generation: 0,
            lanes: Lanes::new(),
            unacked: VecDeque::new(),
            base: first,
            cursor: 0,
            unacked_len: 0,
            unacked_bytes: 0,
            acked: first,
            doubtful_below: 0,
            past: VecDeque::new(),
        }
    }

    /// Takes a message for sending.
    ///
    /// # Errors
    ///
    /// [`Full`] gives it back when there is no room ([`Outbox::has_room`]).
    pub fn push(&mut self, message: M) -> Result<MessageId, Full<M>> {
        let cost = message.cost();
        if !self.has_room(cost) {
            return Err(Full { message });
        }
        let priority = message.priority();
        let index = self.lanes.push(priority, cost, message);
        Ok(MessageId { generation: self.generation, priority, index })
    }

    /// Whether a message of this cost would be taken now. An empty outbox takes any.
    pub fn has_room(&self, cost: usize) -> bool {
        // Holes count as messages, so that what they occupy is bounded too.
        let messages = self.lanes.len() + self.unacked.len();
        if messages == 0 {
            return true;
        }
        let held = self.lanes.bytes() + self.unacked_bytes;
        messages < self.limits.messages_max
            && held.checked_add(cost).is_some_and(|bytes| bytes <= self.limits.bytes_max)
    }

    /// Whether [`Outbox::pull`] has something for the present connection.
    pub fn has_work(&self) -> bool {
        self.cursor < self.unacked.len() || self.lanes.len() > 0
    }

    /// Whether everything pushed has ended: nothing waits and nothing is unacknowledged.
    pub fn is_empty(&self) -> bool {
        self.unacked_len == 0 && self.lanes.len() == 0
    }

    /// Takes what is to be written next: what must be replayed first, then the oldest message of the most urgent
    /// class, which gets the next number.
    pub fn pull(&mut self) -> Option<Pulled<M>> {
        self.pull_with(|ordinal, id, message, replay| Pulled {
            ordinal,
            id,
            message: message.clone(),
            replay,
        })
    }

    /// As [`Outbox::pull`], and lends the message to `take` (number, id, message, whether it is a replay) instead of
    /// copying it: for who can write it at once.
    pub fn pull_with<R>(&mut self, take: impl FnOnce(u64, MessageId, &M, bool) -> R) -> Option<R> {
        if self.cursor < self.unacked.len() {
            return self.pull_replay(take);
        }
        let ordinal = self.sent_count();
        let kept = self.lanes.pop()?;
        let id = MessageId { generation: self.generation, priority: kept.priority, index: kept.index };
        let message = match self.delivery {
            Delivery::Lossless => {
                self.unacked_len += 1;
                self.unacked_bytes += kept.cost;
                self.cursor += 1;
                self.unacked.push_back(kept);
                self.unacked.back()?.message.as_ref()?
            }
            Delivery::Lossy => {
                self.base += 1;
                &kept.message?
            }
        };
        Some(take(ordinal, id, message, false))
    }

    #[cold]
    fn pull_replay<R>(&mut self, take: impl FnOnce(u64, MessageId, &M, bool) -> R) -> Option<R> {
        // No hole is the last one (see `forget`), so there is always something behind it.
        while self.unacked.get(self.cursor).is_some_and(|sent| sent.message.is_none()) {
            self.cursor += 1;
        }
        let ordinal = self.base + self.cursor as u64;
        let sent = self.unacked.get(self.cursor)?;
        let id = MessageId { generation: self.generation, priority: sent.priority, index: sent.index };
        let taken = take(ordinal, id, sent.message.as_ref()?, true);
        self.cursor += 1;
        if self.delivery == Delivery::Lossy {
            self.drop_front(self.cursor);
        }
        Some(taken)
    }

    /// The peer says that it holds the first `count` messages of the stream: all whose number is below. Frees them
    /// and returns how many. An acknowledgement older than the last one frees nothing and is no error: a message
    /// and a separate acknowledgement may cross in the peer.
    ///
    /// # Errors
    ///
    /// [`AckError::BeyondSent`] when that many were never sent.
    pub fn handle_ack(&mut self, count: u64) -> Result<usize, AckError> {
        let sent = self.sent_count();
        if count > sent {
            return Err(AckError::BeyondSent { acked: count, sent });
        }
        if count <= self.acked {
            return Ok(0);
        }
        self.acked = count;
        // At most the length of the queue, since `count` is at most `sent`.
        let freed = count.saturating_sub(self.base) as usize;
        let before = self.unacked_len;
        self.acknowledge_front(freed);
        self.drop_leading_holes();
        Ok(before - self.unacked_len)
    }

    fn acknowledge_front(&mut self, count: usize) {
        let mut class: Option<(Priority, u64)> = None;
        for sent in self.unacked.drain(..count) {
            if sent.message.is_none() {
                continue;
            }
            self.unacked_len -= 1;
            self.unacked_bytes -= sent.cost;
            // A run of one class moves its watermark once.
            if let Some((priority, index)) = class.replace((sent.priority, sent.index))
                && priority != sent.priority
                && let Some(receipts) = self.lanes.receipts_mut(priority)
            {
                receipts.acknowledge(index);
            }
        }
        if let Some((priority, index)) = class
            && let Some(receipts) = self.lanes.receipts_mut(priority)
        {
            receipts.acknowledge(index);
        }
        self.base += count as u64;
        self.cursor = self.cursor.saturating_sub(count);
    }

    /// Without receipts: what lossy delivery no longer keeps.
    fn drop_front(&mut self, count: usize) {
        for sent in self.unacked.drain(..count) {
            self.unacked_len -= usize::from(sent.message.is_some());
            self.unacked_bytes -= sent.cost;
        }
        self.base += count as u64;
        self.cursor -= count;
    }

    fn drop_leading_holes(&mut self) {
        while self.unacked.front().is_some_and(|sent| sent.message.is_none()) {
            self.unacked.pop_front();
            self.base += 1;
            self.cursor = self.cursor.saturating_sub(1);
        }
    }

    /// The connection was lost: what is not acknowledged will be pulled again, in order and with the numbers it
    /// has, before anything new. What the peer says at the resumption goes to [`Outbox::handle_ack`], before or after.
    pub fn rewind(&mut self) {
        self.cursor = 0;
        self.doubtful_below = self.sent_count();
    }

    /// Tries to take a message back. Looking for one that has a number walks over the unacknowledged ones.
    pub fn revoke(&mut self, id: MessageId) -> Revocation<M> {
        if id.generation != self.generation {
            return Revocation::Unknown;
        }
        if let Some(message) = self.lanes.remove(id.priority, id.index).and_then(|kept| kept.message) {
            self.mark_revoked(id.priority, id.index);
            return Revocation::NotNumbered(message);
        }
        let named =
            |sent: &Kept<M>| sent.message.is_some() && sent.priority == id.priority && sent.index == id.index;
        match self.unacked.iter().position(named) {
            Some(at) => {
                let ordinal = self.base + at as u64;
                if ordinal < self.doubtful_below {
                    Revocation::TooLate
                } else {
                    Revocation::Numbered { ordinal }
                }
            }
            None => Revocation::Unknown,
        }
    }

    /// Drops a message whose frame was aborted on the wire, so that the peer certainly never gets it from there.
    ///
    /// If it was the last to be numbered (`ordinal + 1 == sent_count()`), its number is given again and the peer
    /// sees nothing. Else its number is a hole, which a strict peer (Linux's Ceph client, DLM) takes for a fault:
    /// towards those leave the message alone.
    ///
    /// An acknowledgement that travelled in the frame is gone with it: call [`crate::Inbox::note_ack_lost`] too.
    ///
    /// Nothing happens, and `None` is returned, for a number that [`Outbox::revoke`] would not have named: one that
    /// is acknowledged, was never given, or that an earlier connection may have delivered.
    pub fn forget(&mut self, ordinal: u64) -> Option<M> {
        if ordinal < self.doubtful_below {
            return None;
        }
        let at = usize::try_from(ordinal.checked_sub(self.base)?).ok()?;
        let sent = self.unacked.get_mut(at)?;
        let message = sent.message.take()?;
        let (priority, index) = (sent.priority, sent.index);
        self.unacked_bytes -= std::mem::take(&mut sent.cost);
        self.unacked_len -= 1;
        self.mark_revoked(priority, index);
        // Holes at the end were all aborted: nothing with these numbers, nor after them, ever reached the peer.
        while self.unacked.back().is_some_and(|sent| sent.message.is_none()) {
            self.unacked.pop_back();
        }
        self.cursor = self.cursor.min(self.unacked.len());
        self.drop_leading_holes();
        Some(message)
    }

    fn mark_revoked(&mut self, priority: Priority, index: u64) {
        if let Some(receipts) = self.lanes.receipts_mut(priority) {
            receipts.revoke(index);
        }
    }

    /// Where a message is. Costs a binary search over what was revoked, and no memory for each message.
    pub fn status(&self, id: MessageId) -> ReceiptStatus {
        if id.generation == self.generation {
            return match (self.lanes.receipts(id.priority), self.delivery) {
                (None, _) => ReceiptStatus::Unknown,
                (Some(receipts), Delivery::Lossy) if id.index < receipts.issued() => {
                    ReceiptStatus::NotTracked
                }
                (Some(receipts), Delivery::Lossy | Delivery::Lossless) => receipts.status(id.index),
            };
        }
        match self.past.iter().find(|past| past.generation == id.generation) {
            Some(past) => past.status(id.priority, id.index),
            None => ReceiptStatus::Unknown,
        }
    }

    /// The session is gone: everything outstanding is lost for `reason`, a new generation begins and numbers from 0.
    /// Returns how many messages were lost.
    ///
    /// For a reset that keeps the queue (msgr2's SESSION_RESET that is not full) call [`Outbox::rewind`] instead.
    pub fn lose_all(&mut self, reason: LossReason) -> usize {
        let lost = self.lanes.len() + self.unacked_len;
        let receipts = self.lanes.clear();
        // A generation that named no message needs no memory: resets in a loop do not push out what matters.
        if !receipts.is_empty() {
            if self.past.len() == PAST_GENERATIONS_MAX {
                self.past.pop_front();
            }
            let (generation, delivery) = (self.generation, self.delivery);
            self.past.push_back(PastGeneration { generation, reason, delivery, receipts });
            self.generation = generation.wrapping_add(1);
        }
        self.unacked.clear();
        self.base = 0;
        self.cursor = 0;
        self.unacked_len = 0;
        self.unacked_bytes = 0;
        self.acked = 0;
        self.doubtful_below = 0;
        lost
    }

    /// Changes what is promised, for a client that adopts what its server answered.
    ///
    /// To lossy: what was already pulled for the present connection is forgotten, what is still to be replayed is
    /// written once, and no message of this generation has a receipt any more. To lossless: what has no number yet
    /// will be kept and has a receipt, as has all that is pushed from now on.
    pub fn set_delivery(&mut self, delivery: Delivery) {
        match (self.delivery, delivery) {
            (Delivery::Lossless, Delivery::Lossy) => self.drop_front(self.cursor),
            (Delivery::Lossy, Delivery::Lossless) => self.lanes.track_from_here(),
            (Delivery::Lossless, Delivery::Lossless) | (Delivery::Lossy, Delivery::Lossy) => {}
        }
        self.delivery = delivery;
    }

    /// Changes the bounds. What is held already stays, even if it is more.
    pub fn set_limits(&mut self, limits: OutboxLimits) {
        self.limits = limits;
    }
}

impl<M> Outbox<M> {
    /// What is promised about messages.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The bounds on what is held.
    pub fn limits(&self) -> OutboxLimits {
        self.limits
    }

    /// How many numbers were given: the number of the next new message.
    pub fn sent_count(&self) -> u64 {
        self.base + self.unacked.len() as u64
    }

    /// How many messages the peer said it holds.
    pub fn acked_count(&self) -> u64 {
        self.acked
    }

    /// Messages without a number.
    pub fn pending_len(&self) -> usize {
        self.lanes.len()
    }

    /// The cost of the messages without a number, in bytes.
    pub fn pending_bytes(&self) -> usize {
        self.lanes.bytes()
    }

    /// Messages with a number and no acknowledgement.
    pub fn unacked_len(&self) -> usize {
        self.unacked_len
    }

    /// The cost of the messages with a number and no acknowledgement, in bytes.
    pub fn unacked_bytes(&self) -> usize {
        self.unacked_bytes
    }

    /// How many numbers are still to be replayed on the present connection.
    pub fn replay_len(&self) -> usize {
        self.unacked.len() - self.cursor
    }
}
