//! Two ends joined by a wire that loses everything in flight when it is cut.

use std::collections::VecDeque;
use std::time::Duration;

use outlast_session::{
    AckPolicy, Convention, Delivery, GapPolicy, Inbox, Instant, LossReason, MessageId, Outbox, OutboxLimits,
    Payload, Priority, ReceiptStatus, Revocation, Verdict,
};

use crate::model::Event;

/// Small, so that the bounds are met often.
pub(crate) const LIMITS: OutboxLimits = OutboxLimits { bytes_max: 40, messages_max: 8 };
const ACKS: AckPolicy = AckPolicy { messages_max: 3, bytes_max: 25, delay_max: Duration::from_millis(5) };

/// Which of the two ends.
pub(crate) type Side = usize;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Parcel {
    pub(crate) name: u32,
    pub(crate) class: u8,
    pub(crate) cost: usize,
}

impl Payload for Parcel {
    fn cost(&self) -> usize {
        self.cost
    }

    fn priority(&self) -> Priority {
        Priority(self.class)
    }
}

/// What crosses the wire, as the dialect writes it.
enum Frame<N> {
    Message { number: N, ack: N, parcel: Parcel },
    Ack(N),
}

/// A deliberate mistake, to see that the properties notice.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    None,
    /// Nothing is replayed after a cut.
    NoReplay,
    /// The receiver hands duplicates on.
    DeliversDuplicates,
    /// The receiver acknowledges one message too many.
    AckOneTooMany,
    /// Acknowledges nothing.
    NeverAcks,
    /// The wire hands on the second frame before the first.
    Reorders,
}

struct End<C: Convention> {
    outbox: Outbox<Parcel>,
    inbox: Inbox,
    /// On their way to the peer.
    wire: VecDeque<Frame<C::Number>>,
    /// Every id ever given out, with the last that its receipt said.
    receipts: Vec<(MessageId, u32, ReceiptStatus)>,
    history: Vec<Event>,
}

pub(crate) struct Pair<C: Convention> {
    ends: [End<C>; 2],
    connected: bool,
    now: Instant,
    next_name: u32,
    bug: Bug,
    /// How often the rare things happened.
    pub(crate) seen: Seen,
}

/// What a run met, so that a test can insist on having met it.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Seen {
    pub(crate) replayed: u64,
    pub(crate) duplicates: u64,
    pub(crate) gaps: u64,
    pub(crate) full: u64,
    pub(crate) revoked_early: u64,
    pub(crate) revoked_in_writing: u64,
    pub(crate) lost: u64,
    pub(crate) separate_acks: u64,
}

impl<C: Convention> Pair<C> {
    pub(crate) fn new(first: u64, bug: Bug) -> Self {
        let end = || End {
            outbox: Outbox::starting_at(Delivery::Lossless, LIMITS, first),
            // A stream from 0 needs no agreement on where it starts.
            inbox: match first {
                0 => Inbox::new(GapPolicy::Accept, ACKS),
                first => Inbox::starting_at(GapPolicy::Accept, ACKS, first),
            },
            wire: VecDeque::new(),
            receipts: Vec::new(),
            history: Vec::new(),
        };
        Self {
            ends: [end(), end()],
            connected: true,
            now: Instant::ZERO,
            next_name: 0,
            bug,
            seen: Seen::default(),
        }
    }

    pub(crate) fn push(&mut self, side: Side, class: u8, cost: usize) {
        let name = self.next_name;
        let end = &mut self.ends[side];
        let roomy = end.outbox.has_room(cost);
        match end.outbox.push(Parcel { name, class, cost }) {
            Ok(id) => {
                assert!(roomy);
                self.next_name += 1;
                end.receipts.push((id, name, ReceiptStatus::Pending));
            }
            Err(full) => {
                assert!(!roomy && full.message.name == name);
                self.seen.full += 1;
            }
        }
    }

    fn ack(&self, side: Side) -> C::Number {
        let extra = u64::from(self.bug == Bug::AckOneTooMany);
        C::ack(self.ends[side].inbox.received_count() + extra)
    }

    pub(crate) fn pull(&mut self, side: Side) {
        if !self.connected {
            return;
        }
        let ack = self.ack(side);
        let end = &mut self.ends[side];
        let had_work = end.outbox.has_work();
        let pulled = end.outbox.pull();
        assert_eq!(had_work, pulled.is_some());
        let Some(pulled) = pulled else { return };
        if pulled.replay {
            self.seen.replayed += 1;
        } else {
            end.history.push(Event::Numbered(pulled.message.name));
        }
        end.inbox.note_ack_sent();
        let number = C::number(pulled.ordinal);
        end.wire.push_back(Frame::Message { number, ack, parcel: pulled.message });
    }

    /// Time passes, and whoever owes an acknowledgement writes it.
    pub(crate) fn tick(&mut self, side: Side, millis: u64) {
        self.now += Duration::from_millis(millis);
        if self.connected && self.bug != Bug::NeverAcks && self.ends[side].inbox.ack_due(self.now) {
            let ack = self.ack(side);
            let end = &mut self.ends[side];
            end.wire.push_back(Frame::Ack(ack));
            end.inbox.note_ack_sent();
            self.seen.separate_acks += 1;
        }
    }

    /// The oldest frame that `side` wrote reaches the other end.
    pub(crate) fn deliver(&mut self, side: Side) {
        let mut frame = self.ends[side].wire.pop_front();
        if self.bug == Bug::Reorders
            && let Some(second) = self.ends[side].wire.pop_front()
            && let Some(first) = frame.replace(second)
        {
            self.ends[side].wire.push_front(first);
        }
        match frame {
            Some(Frame::Ack(ack)) => self.handle_ack(1 - side, ack),
            Some(Frame::Message { number, ack, parcel }) => {
                self.handle_ack(1 - side, ack);
                self.handle_message(1 - side, number, &parcel);
            }
            None => {}
        }
    }

    fn handle_ack(&mut self, side: Side, ack: C::Number) {
        if self.bug == Bug::NeverAcks {
            return;
        }
        let outbox = &mut self.ends[side].outbox;
        let count = C::count(ack, outbox.acked_count()).expect("an acknowledgement that was sent");
        let held = outbox.unacked_len();
        let result = outbox.handle_ack(count);
        if self.bug != Bug::AckOneTooMany {
            assert_eq!(result, Ok(held - outbox.unacked_len()), "an honest peer is believed");
        }
        self.note_receipts(side);
    }

    fn handle_message(&mut self, side: Side, number: C::Number, parcel: &Parcel) {
        let inbox = &mut self.ends[side].inbox;
        let ordinal =
            if inbox.is_fresh() { C::first(number) } else { C::ordinal(number, inbox.received_count()) };
        let verdict = inbox.accept(ordinal.expect("a number that was sent"), parcel.cost, self.now);
        let deliver = match verdict.expect("gaps are accepted") {
            Verdict::Deliver => true,
            Verdict::DeliverAfterGap { .. } => {
                self.seen.gaps += 1;
                true
            }
            Verdict::Early { .. } => unreachable!("this inbox takes what comes"),
            Verdict::Duplicate => {
                self.seen.duplicates += 1;
                self.bug == Bug::DeliversDuplicates
            }
        };
        if deliver {
            self.ends[1 - side].history.push(Event::Delivered(parcel.name));
        }
    }

    pub(crate) fn cut(&mut self) {
        self.connected = false;
        for end in &mut self.ends {
            end.wire.clear();
        }
    }

    /// A new connection: both say what they hold.
    pub(crate) fn resume(&mut self, rewind_first: bool) {
        if self.connected {
            return;
        }
        self.connected = true;
        for side in [0, 1] {
            let ack = self.ack(1 - side);
            if rewind_first && self.bug != Bug::NoReplay {
                self.ends[side].outbox.rewind();
            }
            self.handle_ack(side, ack);
            if !rewind_first && self.bug != Bug::NoReplay {
                self.ends[side].outbox.rewind();
            }
            self.ends[1 - side].inbox.note_ack_sent();
        }
    }

    /// The resumption of one that forgets to say what it holds: everything unacknowledged comes twice.
    pub(crate) fn resume_without_a_word(&mut self) {
        if self.connected || self.bug == Bug::NoReplay {
            return;
        }
        self.connected = true;
        for end in &mut self.ends {
            end.outbox.rewind();
        }
    }

    /// Takes back one of all messages ever pushed, counted from the newest.
    pub(crate) fn revoke(&mut self, side: Side, pick: usize) {
        let end = &mut self.ends[side];
        let Some(&(id, name, before)) = end.receipts.iter().nth_back(pick) else { return };
        match end.outbox.revoke(id) {
            Revocation::NotNumbered(parcel) => {
                assert_eq!((parcel.name, before), (name, ReceiptStatus::Pending));
                end.history.push(Event::Revoked(name));
                self.seen.revoked_early += 1;
            }
            Revocation::Numbered { ordinal } => {
                // Its frame can be aborted while it is on this connection's wire.
                let on_wire = end
                    .wire
                    .iter()
                    .position(|frame| matches!(frame, Frame::Message { parcel, .. } if parcel.name == name));
                if let Some(at) = on_wire {
                    end.wire.remove(at);
                    end.inbox.note_ack_lost();
                    let parcel = end.outbox.forget(ordinal).expect("pulled for this connection");
                    assert_eq!(parcel.name, name);
                    end.history.push(Event::Revoked(name));
                    self.seen.revoked_in_writing += 1;
                }
            }
            Revocation::TooLate => assert_eq!(before, ReceiptStatus::Pending),
            Revocation::Unknown => assert!(before.is_final(), "{before:?}"),
        }
        self.note_receipts(side);
    }

    /// With others behind it on the wire, this makes a gap.
    pub(crate) fn revoke_oldest_on_wire(&mut self, side: Side) {
        let end = &self.ends[side];
        let name = end.wire.iter().find_map(|frame| match frame {
            Frame::Message { parcel, .. } => Some(parcel.name),
            Frame::Ack(_) => None,
        });
        if let Some(pick) = end.receipts.iter().rev().position(|(_, pushed, _)| Some(*pushed) == name) {
            self.revoke(side, pick);
        }
    }

    /// Both ends forget the session, and whatever is on the wire belongs to the old one.
    pub(crate) fn reset(&mut self) {
        self.cut();
        for side in [0, 1] {
            let end = &mut self.ends[side];
            let outstanding = end.outbox.pending_len() + end.outbox.unacked_len();
            assert_eq!(end.outbox.lose_all(LossReason::Reset), outstanding);
            end.inbox.reset();
            end.history.push(Event::Reset);
            self.seen.lost += outstanding as u64;
            self.note_receipts(side);
        }
    }

    /// Asks every receipt: an end is final, and what it says goes into the history.
    fn note_receipts(&mut self, side: Side) {
        let end = &mut self.ends[side];
        for (id, name, last) in &mut end.receipts {
            let status = end.outbox.status(*id);
            if *last != status && status != ReceiptStatus::Unknown {
                assert!(!last.is_final(), "{name}: {last:?} became {status:?}");
                if status == ReceiptStatus::Acknowledged {
                    end.history.push(Event::Acknowledged(*name));
                }
                *last = status;
            }
        }
    }

    /// The bounds hold, and the sums are those of what is held.
    pub(crate) fn check_bounds(&self) {
        for end in &self.ends {
            let outbox = &end.outbox;
            let messages = outbox.pending_len() + outbox.unacked_len();
            let bytes = outbox.pending_bytes() + outbox.unacked_bytes();
            assert!(messages <= LIMITS.messages_max);
            assert!(bytes <= LIMITS.bytes_max || messages == 1, "{bytes} bytes in {messages} messages");
            assert_eq!(outbox.is_empty(), messages == 0);
            let pending = end.receipts.iter().filter(|(id, ..)| outbox.status(*id) == ReceiptStatus::Pending);
            assert_eq!(pending.count(), messages, "each outstanding message has an open receipt");
        }
    }

    /// The faults stop. Returns whether everything arrived and was acknowledged within a bound.
    pub(crate) fn settle(&mut self) -> bool {
        self.resume(true);
        // Each round moves at least one message of each full outbox, and its acknowledgement.
        for _ in 0..4 * LIMITS.messages_max {
            for side in [0, 1] {
                self.pull(side);
                self.deliver(side);
                self.tick(side, 6);
            }
        }
        for side in [0, 1] {
            self.note_receipts(side);
        }
        self.ends.iter().all(|end| end.outbox.is_empty() && end.wire.is_empty())
    }

    pub(crate) fn histories(&self) -> [&[Event]; 2] {
        [&self.ends[0].history, &self.ends[1].history]
    }

    pub(crate) fn statuses(&self, side: Side) -> impl Iterator<Item = ReceiptStatus> {
        self.ends[side].receipts.iter().map(|(_, _, status)| *status)
    }
}
