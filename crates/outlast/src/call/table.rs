//! Who waits for which reply; kept under the session's lock.

use crate::error::{CallError, Lost};
use outlast_msgr2::{EndReason, Message};
use outlast_session::{LossReason, MessageId, ReceiptStatus};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker};

/// Calls given up by their callers whose replies are still told from new messages. A reply that comes after so many
/// others were given up is received like any message.
const ABANDONED_MAX: usize = 1024;
/// The low bits of a transaction id that we choose say where its call is kept; the others count.
const SLOT_BITS: u32 = 16;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// How a call ended, by its transaction id.
pub(super) type Ended = (u64, Result<Message, CallError>);

/// Calls that wait for their reply.
#[derive(Debug)]
pub(crate) struct Calls {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// None: a place that is free.
    queues: Vec<Option<Queue>>,
    /// Slots of the transaction ids that do not say it themselves: those that callers chose.
    chosen: BTreeMap<u64, usize>,
    next: u64,
    abandoned: BTreeSet<u64>,
    /// The same, oldest first; some may have been answered since.
    abandoned_order: VecDeque<u64>,
}

#[derive(Debug)]
struct Slot {
    tid: u64,
    sent: Option<MessageId>,
    state: State,
}

#[derive(Debug)]
enum State {
    Free,
    /// Its caller has not queued it yet, or is told by this waker.
    Waiting(Option<Waker>),
    /// Its end goes to this queue.
    Queued(QueuePlace),
    Answered(Message),
    Failed(Box<CallError>),
}

/// The ends of calls that one caller has under way together.
#[derive(Debug, Default)]
struct Queue {
    ended: VecDeque<Ended>,
    waker: Option<Waker>,
}

/// Where a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueuePlace(usize);

impl Calls {
    /// Transaction ids begin anywhere: both ends choose their own, and must not meet.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            queues: Vec::new(),
            chosen: BTreeMap::new(),
            next: first,
            abandoned: BTreeSet::new(),
            abandoned_order: VecDeque::new(),
        }
    }

    /// Nobody waits for a reply, and none is to be dropped.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len() && self.abandoned.is_empty()
    }

    fn find(&self, tid: u64) -> Option<usize> {
        // The mask keeps it small.
        let own = (tid & SLOT_MASK) as usize;
        if self.slots.get(own).is_some_and(|slot| slot.tid == tid && !matches!(slot.state, State::Free)) {
            return Some(own);
        }
        self.chosen.get(&tid).copied()
    }

    /// Begins a call with this transaction id, or with one that is free if it is 0.
    pub(super) fn open(&mut self, tid: u64) -> Result<Ticket, CallError> {
        if tid != 0 && self.find(tid).is_some() {
            return Err(CallError::TidInUse { tid });
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { tid: 0, sent: None, state: State::Free });
            self.slots.len() - 1
        });
        let low = (slot as u64).min(SLOT_MASK);
        let mut own = tid;
        while own == 0 || (tid == 0 && self.chosen.contains_key(&own)) {
            own = self.next << SLOT_BITS | low;
            self.next = self.next.wrapping_add(1);
        }
        if own & SLOT_MASK != slot as u64 || tid != 0 {
            self.chosen.insert(own, slot);
        }
        self.slots[slot] = Slot { tid: own, sent: None, state: State::Waiting(None) };
        Ok(Ticket { tid: own, slot })
    }

    /// Ends a call and takes what became of it.
    fn close(&mut self, ticket: Ticket) -> Slot {
        let free = Slot { tid: 0, sent: None, state: State::Free };
        let slot = std::mem::replace(&mut self.slots[ticket.slot], free);
        self.free.push(ticket.slot);
        if !self.chosen.is_empty() {
            self.chosen.remove(&ticket.tid);
        }
        slot
    }

    /// The request was queued.
    pub(super) fn note_sent(&mut self, ticket: Ticket, id: MessageId, waker: &Waker) {
        let slot = &mut self.slots[ticket.slot];
        slot.sent = Some(id);
        slot.state = State::Waiting(Some(waker.clone()));
    }

    /// Whether a message with this transaction id is a reply.
    pub(crate) fn awaits(&self, tid: u64) -> bool {
        self.find(tid).is_some() || (!self.abandoned.is_empty() && self.abandoned.contains(&tid))
    }

    pub(crate) fn deliver(&mut self, reply: Message, wakes: &mut Vec<Waker>) {
        match self.find(reply.tid) {
            Some(slot) => self.settle(slot, Ok(reply), wakes),
            None => {
                self.abandoned.remove(&reply.tid);
            }
        }
    }

    /// After a reset or the end: requests that were lost, and those that the peer had and has forgotten.
    pub(crate) fn fail_lost(&mut self, session: &outlast_msgr2::Session, wakes: &mut Vec<Waker>) {
        let end = session.end();
        for slot in 0..self.slots.len() {
            let Slot { sent, state, .. } = &self.slots[slot];
            let (State::Waiting(_) | State::Queued(_), Some(id)) = (state, *sent) else { continue };
            let failure = match (end, session.status(id)) {
                (Some(end), _) => CallError::Ended(end.clone()),
                (None, ReceiptStatus::Pending | ReceiptStatus::NotTracked) => continue,
                (None, ReceiptStatus::Lost(reason)) => CallError::Lost(Lost::Session(reason)),
                (None, ReceiptStatus::Revoked) => CallError::Lost(Lost::Revoked),
                (None, ReceiptStatus::Acknowledged | ReceiptStatus::Unknown) => {
                    CallError::Lost(Lost::Session(LossReason::Reset))
                }
            };
            self.settle(slot, Err(failure), wakes);
        }
    }

    fn settle(&mut self, slot: usize, end: Result<Message, CallError>, wakes: &mut Vec<Waker>) {
        let found = &mut self.slots[slot];
        match &mut found.state {
            State::Free | State::Answered(_) | State::Failed(_) => {}
            State::Waiting(waker) => {
                wakes.extend(waker.take());
                found.state = match end {
                    Ok(reply) => State::Answered(reply),
                    Err(error) => State::Failed(Box::new(error)),
                };
            }
            State::Queued(QueuePlace(at)) => {
                let (at, tid) = (*at, found.tid);
                if let Some(Some(queue)) = self.queues.get_mut(at) {
                    queue.ended.push_back((tid, end));
                    wakes.extend(queue.waker.take());
                }
                self.close(Ticket { tid, slot });
            }
        }
    }

    pub(super) fn poll(&mut self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<Result<Message, CallError>> {
        if let State::Waiting(waker) = &mut self.slots[ticket.slot].state {
            match waker {
                Some(known) => known.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        Poll::Ready(match self.close(ticket).state {
            State::Answered(reply) => Ok(reply),
            State::Failed(error) => Err(*error),
            State::Waiting(_) | State::Queued(_) | State::Free => Err(CallError::Ended(EndReason::Closed)),
        })
    }

    /// The caller has gone. A reply that still comes is dropped. Returns the request to be taken back.
    pub(super) fn abandon(&mut self, ticket: Ticket) -> Option<MessageId> {
        let slot = self.close(ticket);
        let sent = slot.sent.filter(|_| matches!(slot.state, State::Waiting(_) | State::Queued(_)))?;
        if self.abandoned_order.len() >= ABANDONED_MAX
            && let Some(oldest) = self.abandoned_order.pop_front()
        {
            self.abandoned.remove(&oldest);
        }
        self.abandoned.insert(ticket.tid);
        self.abandoned_order.push_back(ticket.tid);
        Some(sent)
    }

    // ------------------------------------------------------------------ queues of calls

    pub(super) fn open_queue(&mut self) -> QueuePlace {
        let at = self.queues.iter().position(Option::is_none).unwrap_or_else(|| {
            self.queues.push(None);
            self.queues.len() - 1
        });
        self.queues[at] = Some(Queue::default());
        QueuePlace(at)
    }

    /// The request was queued, and its end is for a queue.
    pub(super) fn note_queued(&mut self, ticket: Ticket, id: MessageId, queue: QueuePlace) {
        let slot = &mut self.slots[ticket.slot];
        slot.sent = Some(id);
        slot.state = State::Queued(queue);
    }

    /// Hands out all ends that have come; if there are none, the waker is told of the next one.
    pub(super) fn take_ended(
        &mut self,
        QueuePlace(at): QueuePlace,
        into: &mut VecDeque<Ended>,
        waker: Option<&Waker>,
    ) {
        let Some(Some(queue)) = self.queues.get_mut(at) else { return };
        if queue.ended.is_empty() {
            if let Some(waker) = waker {
                match &mut queue.waker {
                    Some(known) => known.clone_from(waker),
                    None => queue.waker = Some(waker.clone()),
                }
            }
        } else if into.is_empty() {
            std::mem::swap(into, &mut queue.ended);
        } else {
            into.append(&mut queue.ended);
        }
    }

    /// The caller has gone. Returns the requests to be taken back.
    pub(super) fn close_queue(&mut self, place: QueuePlace) -> Vec<MessageId> {
        let own = |slot: &Slot| matches!(slot.state, State::Queued(at) if at == place);
        let under_way: Vec<_> = self.slots.iter().enumerate().filter(|(_, slot)| own(slot)).collect();
        let tickets: Vec<_> =
            under_way.iter().map(|(at, slot)| Ticket { tid: slot.tid, slot: *at }).collect();
        self.queues[place.0] = None;
        tickets.into_iter().filter_map(|ticket| self.abandon(ticket)).collect()
    }
}

/// A call's place among those that wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    pub(super) tid: u64,
    slot: usize,
}
