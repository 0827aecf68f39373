//! The receiving half of a numbered stream: what is new, what was seen before, and when to say so.
//!
//! ```text
//!                  a message new to us                N messages, B bytes, or a duplicate
//!  Acknowledged -----------------------> Owing since --------------------------------------> Due
//!    ^   |                                 |   (and by time: D after the first message)      | ^
//!    |   |                                 |                                                 | |
//!    +---+-------- note_ack_sent ----------+-------------------------------------------------+ |
//!        |   (in a message, or on its own)                                                     |
//!        +------------ a duplicate; note_ack_lost: the frame that carried it was aborted ------+
//! ```
//!
//! Today a high-water mark is enough, since one connection at a time carries a session. Several channels will put a
//! bounded window here; [`Verdict`] is all that the dialect sees of it.

use core::time::Duration;

use crate::message::Delivery;
use crate::time::Instant;

/// What a number means that leaves others out.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum GapPolicy {
    /// Taken: the sender took the missing ones back (Ceph's messenger does that; it aborts the frame).
    Accept,
    /// A fault of the peer (Linux's Ceph client).
    Refuse,
    /// Dropped: the missing ones come again on this connection, and it behind them. DLM's replay stands behind what was
    /// waiting to be written when the old connection died, so the receiver may see the new before the repeated. How long to
    /// wait for them is the dialect's.
    Await,
}

/// When a separate acknowledgement is due. Whichever comes first; every message that carries one starts anew.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AckPolicy {
    /// Messages that may go unacknowledged.
    pub messages_max: u32,
    /// Bytes that may go unacknowledged. Must be well below what the peer keeps, or it stalls until `delay_max`.
    pub bytes_max: u64,
    /// How long the first unacknowledged message may wait: the longest that a sender without answers to piggy-back
    /// on waits for a receipt, the link's own delay apart.
    pub delay_max: Duration,
}

impl AckPolicy {
    /// As DLM's receiver: at 64-byte messages the acknowledgements are below a percent of the work.
    pub const MESSAGES_MAX: u32 = 256;
    /// Eight messages of 64 KiB; a hundredth of what an outbox keeps.
    pub const BYTES_MAX: u64 = 512 * 1024;
    /// DLM has no such timer, and an idle pair there keeps up to 256 messages for ever.
    pub const DELAY_MAX: Duration = Duration::from_millis(5);
}

impl Default for AckPolicy {
    fn default() -> Self {
        Self { messages_max: Self::MESSAGES_MAX, bytes_max: Self::BYTES_MAX, delay_max: Self::DELAY_MAX }
    }
}

/// What to do with a message that came.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Hand it to the user.
    Deliver,
    /// Hand it to the user; numbers before it were left out.
    DeliverAfterGap {
        /// How many.
        missing: u64,
    },
    /// Drop it, it was delivered before, and read on.
    Duplicate,
    /// Drop it, it comes again behind those that are missing, and read on ([`GapPolicy::Await`]).
    Early {
        /// How many.
        missing: u64,
    },
}

/// A number that cannot be taken. The peer's fault; the connection dies, the session may resume.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Messages are missing, over a transport that loses none ([`GapPolicy::Refuse`]).
    #[error("the peer left out messages: {expected} was expected, {got} came")]
    Gap {
        /// The ordinal that was next.
        expected: u64,
        /// The ordinal that came.
        got: u64,
    },
    /// The last number there is: nothing could follow it.
    #[error("the peer used up the numbers with {got}")]
    Exhausted {
        /// The ordinal that came.
        got: u64,
    },
}

/// What was received since the last acknowledgement.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Ack {
    Acknowledged,
    Owing { since: Instant, messages: u32, bytes: u64 },
    Due,
}

/// The receiving half of a session: drops what it had before and says when to acknowledge.
#[derive(Clone, Debug)]
pub struct Inbox {
    gaps: GapPolicy,
    acks: AckPolicy,
    delivery: Delivery,
    /// Everything below this ordinal is held. `None`: nothing came in this session yet.
    received: Option<u64>,
    ack: Ack,
}

impl Inbox {
    /// An inbox that has received nothing; lossless, until told otherwise ([`Inbox::set_delivery`]).
    pub const fn new(gaps: GapPolicy, acks: AckPolicy) -> Self {
        Self { gaps, acks, delivery: Delivery::Lossless, received: None, ack: Ack::Acknowledged }
    }

    /// An inbox of a stream that continues another: it holds the first `received` messages already. The peer's half
    /// is [`crate::Outbox::starting_at`].
    pub const fn starting_at(gaps: GapPolicy, acks: AckPolicy, received: u64) -> Self {
        Self { gaps, acks, delivery: Delivery::Lossless, received: Some(received), ack: Ack::Acknowledged }
    }

    /// Judges a message that was received whole, and counts it as held if it is to be delivered: the caller must
    /// then deliver it, come what may, since an acknowledgement may say so from now on. `cost` is its size in bytes.
    ///
    /// The first number of a session is taken as it comes: after a partial reset Ceph goes on counting (seen with
    /// release 18).
    ///
    /// # Errors
    ///
    /// [`AcceptError`] when the number cannot be; nothing is changed.
    pub fn accept(&mut self, ordinal: u64, cost: usize, now: Instant) -> Result<Verdict, AcceptError> {
        let expected = self.received.unwrap_or(ordinal);
        if ordinal < expected {
            // The sender would not repeat what it knew to be held: tell it at once, as DLM does.
            self.ack = Ack::Due;
            return Ok(Verdict::Duplicate);
        }
        let next = ordinal.checked_add(1).ok_or(AcceptError::Exhausted { got: ordinal })?;
        let verdict = match (ordinal - expected, self.gaps) {
            (0, GapPolicy::Accept | GapPolicy::Refuse | GapPolicy::Await) => Verdict::Deliver,
            (missing, GapPolicy::Accept) => Verdict::DeliverAfterGap { missing },
            (_, GapPolicy::Refuse) => return Err(AcceptError::Gap { expected, got: ordinal }),
            (missing, GapPolicy::Await) => return Ok(Verdict::Early { missing }),
        };
        self.received = Some(next);
        self.owe(cost as u64, now);
        Ok(verdict)
    }

    fn owe(&mut self, cost: u64, now: Instant) {
        let (since, messages, bytes) = match self.ack {
            Ack::Acknowledged => (now, 1, cost),
            Ack::Owing { since, messages, bytes } => {
                (since, messages.saturating_add(1), bytes.saturating_add(cost))
            }
            Ack::Due => return,
        };
        self.ack = if messages >= self.acks.messages_max || bytes >= self.acks.bytes_max {
            Ack::Due
        } else {
            Ack::Owing { since, messages, bytes }
        };
    }

    /// How many messages of the stream are held: what an acknowledgement says, and a resumption.
    pub const fn received_count(&self) -> u64 {
        match self.received {
            Some(count) => count,
            None => 0,
        }
    }

    /// Whether nothing came in this session yet, so that the next number is taken as it comes.
    pub const fn is_fresh(&self) -> bool {
        self.received.is_none()
    }

    /// [`Inbox::received_count`] was written: alone, in a message's header, or at a resumption.
    pub const fn note_ack_sent(&mut self) {
        self.ack = Ack::Acknowledged;
    }

    /// A frame that carried [`Inbox::received_count`] was aborted in mid-write: the peer did not see it, and unless
    /// it is told again it may keep its messages for ever. To be called whenever a frame is aborted.
    pub const fn note_ack_lost(&mut self) {
        if self.received.is_some() {
            self.ack = Ack::Due;
        }
    }

    /// The peer waits for an acknowledgement of what it sent last (DLM: of its FIN): one is due now.
    pub const fn demand_ack(&mut self) {
        self.ack = Ack::Due;
    }

    /// Whether something came that the peer was not told of.
    pub const fn ack_pending(&self) -> bool {
        match self.ack {
            Ack::Acknowledged => false,
            Ack::Owing { .. } | Ack::Due => true,
        }
    }

    /// Whether a separate acknowledgement should be written now. Never for lossy delivery: nobody waits for it.
    pub fn ack_due(&self, now: Instant) -> bool {
        match (self.delivery, self.ack) {
            (Delivery::Lossy, _) | (Delivery::Lossless, Ack::Acknowledged) => false,
            (Delivery::Lossless, Ack::Owing { since, .. }) => now >= since + self.acks.delay_max,
            (Delivery::Lossless, Ack::Due) => true,
        }
    }

    /// When [`Inbox::ack_due`] becomes true by time alone. `None` also when it is true already.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.delivery, self.ack) {
            (Delivery::Lossless, Ack::Owing { since, .. }) => Some(since + self.acks.delay_max),
            (Delivery::Lossless, Ack::Acknowledged | Ack::Due) | (Delivery::Lossy, _) => None,
        }
    }

    /// A new session begins: nothing is held of it, and its first number is taken as it comes.
    pub const fn reset(&mut self) {
        self.received = None;
        self.ack = Ack::Acknowledged;
    }

    /// Changes what is promised, for a client that adopts what its server answered.
    pub const fn set_delivery(&mut self, delivery: Delivery) {
        self.delivery = delivery;
    }

    /// Changes when acknowledgements are due, from the next message on.
    pub const fn set_ack_policy(&mut self, acks: AckPolicy) {
        self.acks = acks;
    }

    /// Changes what a gap means: known once the peer's kind is.
    pub const fn set_gap_policy(&mut self, gaps: GapPolicy) {
        self.gaps = gaps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_nanos(1_000_000_000);

    fn inbox(gaps: GapPolicy) -> Inbox {
        let acks = AckPolicy { messages_max: 3, bytes_max: 100, delay_max: Duration::from_millis(5) };
        Inbox::new(gaps, acks)
    }

    #[test]
    fn a_replay_of_what_was_delivered_is_dropped_and_acknowledged_at_once() {
        let mut inbox = inbox(GapPolicy::Refuse);
        assert_eq!(inbox.accept(0, 1, T0), Ok(Verdict::Deliver));
        assert_eq!(inbox.accept(1, 1, T0), Ok(Verdict::Deliver));
        inbox.note_ack_sent();
        assert_eq!(inbox.accept(0, 1, T0), Ok(Verdict::Duplicate));
        assert_eq!(inbox.received_count(), 2);
        assert!(inbox.ack_due(T0));
        assert_eq!(inbox.accept(2, 1, T0), Ok(Verdict::Deliver));
        assert!(inbox.ack_due(T0), "a new message does not put the answer off");
    }

    #[test]
    fn a_gap_is_delivered_or_refused_as_the_policy_says() {
        let mut lenient = inbox(GapPolicy::Accept);
        let mut strict = inbox(GapPolicy::Refuse);
        for inbox in [&mut lenient, &mut strict] {
            assert_eq!(inbox.accept(0, 1, T0), Ok(Verdict::Deliver));
        }
        assert_eq!(lenient.accept(3, 1, T0), Ok(Verdict::DeliverAfterGap { missing: 2 }));
        assert_eq!(lenient.accept(1, 1, T0), Ok(Verdict::Duplicate), "what was left out does not come later");
        assert_eq!(lenient.received_count(), 4);
        assert_eq!(strict.accept(3, 1, T0), Err(AcceptError::Gap { expected: 1, got: 3 }));
        assert_eq!(strict.accept(1, 1, T0), Ok(Verdict::Deliver), "the refusal changed nothing");
    }

    #[test]
    fn what_comes_early_is_dropped_where_the_missing_come_again() {
        let mut inbox = inbox(GapPolicy::Await);
        assert_eq!(inbox.accept(0, 1, T0), Ok(Verdict::Deliver));
        inbox.note_ack_sent();
        assert_eq!(inbox.accept(2, 1, T0), Ok(Verdict::Early { missing: 1 }));
        assert_eq!((inbox.received_count(), inbox.ack_pending()), (1, false), "nothing is held of it");
        assert_eq!(inbox.accept(1, 1, T0), Ok(Verdict::Deliver));
        assert_eq!(inbox.accept(2, 1, T0), Ok(Verdict::Deliver));
    }

    #[test]
    fn an_acknowledgement_that_the_peer_waits_for_is_due_at_once() {
        let mut inbox = inbox(GapPolicy::Accept);
        inbox.accept(0, 1, T0).expect("new");
        inbox.demand_ack();
        assert!(inbox.ack_due(T0));
    }

    #[test]
    fn the_first_number_of_a_session_is_taken_as_it_comes_even_by_the_strict() {
        let mut inbox = inbox(GapPolicy::Refuse);
        assert_eq!(inbox.accept(5, 1, T0), Ok(Verdict::Deliver));
        assert_eq!(inbox.accept(4, 1, T0), Ok(Verdict::Duplicate));
        inbox.reset();
        assert_eq!((inbox.received_count(), inbox.is_fresh(), inbox.ack_pending()), (0, true, false));
        assert_eq!(inbox.accept(2, 1, T0), Ok(Verdict::Deliver));
        assert_eq!(inbox.received_count(), 3);
    }

    #[test]
    fn a_stream_that_continues_another_is_held_up_to_where_it_starts() {
        let acks = AckPolicy::default();
        let mut inbox = Inbox::starting_at(GapPolicy::Refuse, acks, 7);
        assert_eq!((inbox.received_count(), inbox.is_fresh()), (7, false));
        assert_eq!(inbox.accept(6, 1, T0), Ok(Verdict::Duplicate));
        assert_eq!(inbox.accept(7, 1, T0), Ok(Verdict::Deliver));
    }

    #[test]
    fn the_last_number_there_is_cannot_be_taken() {
        let mut inbox = inbox(GapPolicy::Accept);
        assert_eq!(inbox.accept(u64::MAX, 1, T0), Err(AcceptError::Exhausted { got: u64::MAX }));
        assert!(inbox.is_fresh());
        assert_eq!(inbox.accept(u64::MAX - 1, 1, T0), Ok(Verdict::Deliver));
        assert_eq!(inbox.accept(u64::MAX, 1, T0), Err(AcceptError::Exhausted { got: u64::MAX }));
        assert_eq!(inbox.accept(u64::MAX - 1, 1, T0), Ok(Verdict::Duplicate));
    }

    #[test]
    fn an_acknowledgement_is_due_after_so_many_messages() {
        let mut inbox = inbox(GapPolicy::Accept);
        inbox.accept(0, 1, T0).expect("new");
        inbox.accept(1, 1, T0).expect("new");
        assert!(inbox.ack_pending() && !inbox.ack_due(T0));
        inbox.accept(2, 1, T0).expect("new");
        assert!(inbox.ack_due(T0));
        inbox.note_ack_sent();
        assert!(!inbox.ack_due(T0) && !inbox.ack_pending());
    }

    #[test]
    fn an_acknowledgement_is_due_after_so_many_bytes() {
        let mut inbox = inbox(GapPolicy::Accept);
        inbox.accept(0, 99, T0).expect("new");
        assert!(!inbox.ack_due(T0));
        inbox.accept(1, 1, T0).expect("new");
        assert!(inbox.ack_due(T0));
        assert_eq!(inbox.poll_timeout(), None);
    }

    #[test]
    fn an_idle_pair_acknowledges_after_the_delay_counted_from_the_first_message() {
        let mut inbox = inbox(GapPolicy::Accept);
        assert_eq!(inbox.poll_timeout(), None);
        inbox.accept(0, 1, T0).expect("new");
        inbox.accept(1, 1, T0 + Duration::from_millis(4)).expect("new");
        let deadline = T0 + Duration::from_millis(5);
        assert_eq!(inbox.poll_timeout(), Some(deadline));
        assert!(!inbox.ack_due(T0 + Duration::from_millis(4)));
        assert!(inbox.ack_due(deadline));
    }

    #[test]
    fn an_acknowledgement_carried_by_a_message_cancels_the_separate_one() {
        let mut inbox = inbox(GapPolicy::Accept);
        inbox.accept(0, 1, T0).expect("new");
        inbox.note_ack_sent();
        assert_eq!(inbox.poll_timeout(), None);
        assert!(!inbox.ack_due(T0 + Duration::from_secs(1)));
        inbox.accept(1, 1, T0 + Duration::from_secs(1)).expect("new");
        assert_eq!(inbox.poll_timeout(), Some(T0 + Duration::from_millis(1005)));
    }

    #[test]
    fn an_acknowledgement_carried_by_a_frame_that_was_aborted_is_due_again() {
        let mut inbox = inbox(GapPolicy::Accept);
        inbox.note_ack_lost();
        assert!(!inbox.ack_due(T0), "there was nothing to say");
        inbox.accept(0, 1, T0).expect("new");
        inbox.note_ack_sent();
        inbox.note_ack_lost();
        assert!(inbox.ack_due(T0));
    }

    #[test]
    fn lossy_delivery_never_owes_an_acknowledgement() {
        let mut inbox = inbox(GapPolicy::Accept);
        inbox.set_delivery(Delivery::Lossy);
        for ordinal in 0..10 {
            inbox.accept(ordinal, 100, T0).expect("new");
        }
        assert!(!inbox.ack_due(T0 + Duration::from_secs(1)));
        assert_eq!((inbox.poll_timeout(), inbox.received_count()), (None, 10));
    }
}
