//! Requests and their replies, by transaction id.

use crate::core::{Core, Locked};
use crate::error::{CallError, Lost};
use crate::send::{SENDS_PER_TURN, Sending, queue};
use crate::session::Session;
use crate::wait::{Place, wake};
use bytes::BytesMut;
use outlast_msgr2::{EndReason, Message};
use outlast_session::{LossReason, MessageId, Payload, ReceiptStatus};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::task::{Context, Poll, Waker, ready};
use tokio::task::coop;

/// Calls given up by their callers whose replies are still told from new messages. A reply that comes after so many
/// others were given up is received like any message.
const ABANDONED_MAX: usize = 1024;
/// The low bits of a transaction id that we choose say where its call is kept; the others count.
const SLOT_BITS: u32 = 16;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// Calls that wait for their reply; kept under the session's lock.
#[derive(Debug)]
pub(crate) struct Calls {
    slots: Vec<Slot>,
    free: Vec<usize>,
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
    Waiting(Option<Waker>),
    Answered(Message),
    Failed(Box<CallError>),
}

impl Calls {
    /// Transaction ids begin anywhere: both ends choose their own, and must not meet.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
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
    fn open(&mut self, tid: u64) -> Result<Ticket, CallError> {
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
    fn note_sent(&mut self, ticket: Ticket, id: MessageId, waker: &Waker) {
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
            Some(slot) => self.slots[slot].settle(State::Answered(reply), wakes),
            None => {
                self.abandoned.remove(&reply.tid);
            }
        }
    }

    /// After a reset or the end: requests that were lost, and those that the peer had and has forgotten.
    pub(crate) fn fail_lost(&mut self, session: &outlast_msgr2::Session, wakes: &mut Vec<Waker>) {
        let end = session.end();
        for slot in &mut self.slots {
            let (State::Waiting(_), Some(id)) = (&slot.state, slot.sent) else { continue };
            let failure = match (end, session.status(id)) {
                (Some(end), _) => CallError::Ended(end.clone()),
                (None, ReceiptStatus::Pending | ReceiptStatus::NotTracked) => continue,
                (None, ReceiptStatus::Lost(reason)) => CallError::Lost(Lost::Session(reason)),
                (None, ReceiptStatus::Revoked) => CallError::Lost(Lost::Revoked),
                (None, ReceiptStatus::Acknowledged | ReceiptStatus::Unknown) => {
                    CallError::Lost(Lost::Session(LossReason::Reset))
                }
            };
            slot.settle(State::Failed(Box::new(failure)), wakes);
        }
    }

    fn poll(&mut self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<Result<Message, CallError>> {
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
            State::Waiting(_) | State::Free => Err(CallError::Ended(EndReason::Closed)),
        })
    }

    /// The caller has gone. A reply that still comes is dropped. Returns the request to be taken back.
    fn abandon(&mut self, ticket: Ticket) -> Option<MessageId> {
        let slot = self.close(ticket);
        let sent = slot.sent.filter(|_| matches!(slot.state, State::Waiting(_)))?;
        if self.abandoned_order.len() >= ABANDONED_MAX
            && let Some(oldest) = self.abandoned_order.pop_front()
        {
            self.abandoned.remove(&oldest);
        }
        self.abandoned.insert(ticket.tid);
        self.abandoned_order.push_back(ticket.tid);
        Some(sent)
    }
}

impl Slot {
    fn settle(&mut self, state: State, wakes: &mut Vec<Waker>) {
        if let State::Waiting(waker) = &mut self.state {
            wakes.extend(waker.take());
            self.state = state;
        }
    }
}

/// A call's place among those that wait.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    tid: u64,
    slot: usize,
}

/// The future of [`Session::call`].
#[derive(Debug)]
#[must_use = "a request is sent when its future is awaited"]
pub struct Calling<'a> {
    core: &'a Arc<Core>,
    /// Until it is queued.
    request: Option<Message>,
    buffer: Option<BytesMut>,
    lands: bool,
    place: Option<Place>,
    /// From the first look until the end.
    ticket: Option<Ticket>,
}

impl<'a> Calling<'a> {
    fn new(core: &'a Arc<Core>, request: Message, buffer: Option<BytesMut>) -> Self {
        let lands = buffer.is_some();
        Self { core, request: Some(request), buffer, lands, place: None, ticket: None }
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, CallError>> {
        let core = self.core;
        if core.count_send().is_multiple_of(SENDS_PER_TURN) {
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        let mut guard = core.lock();
        let Some(request) = &mut self.request else { return Poll::Pending };
        let locked = &mut *guard;
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => *self.ticket.insert(locked.calls.open(request.tid)?),
        };
        request.tid = ticket.tid;
        if let Some(buffer) = self.buffer.take() {
            core.landing.put(ticket.tid, buffer);
        }
        if locked.must_wait(self.place, request.cost()) {
            locked.room.enter(&mut self.place, request.cost(), cx.waker());
            return Poll::Pending;
        }
        let Some(request) = self.request.take() else { return Poll::Pending };
        let queued = queue(core, guard, request, &mut self.place, |locked, id| {
            locked.calls.note_sent(ticket, id, cx.waker());
        });
        match queued {
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(Err(CallError::NotSent(error))),
        }
    }
}

impl Future for Calling<'_> {
    type Output = Result<Message, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.request.is_some() {
            return this.poll_request(cx);
        }
        let Some(ticket) = this.ticket else { return Poll::Pending };
        let result = ready!(this.core.lock().calls.poll(ticket, cx));
        this.ticket = None;
        if this.lands {
            this.core.landing.take(ticket.tid);
        }
        Poll::Ready(result)
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        if self.lands {
            self.core.landing.take(ticket.tid);
        }
        let mut guard = self.core.lock();
        let unanswered = guard.calls.abandon(ticket);
        if let Some(place) = self.place.take() {
            leave(guard, place);
        } else {
            drop(guard);
        }
        if let Some(id) = unanswered {
            self.core.change(|locked, _| locked.session.revoke(id));
        }
    }
}

/// Gives up a place in the queue for room.
pub(crate) fn leave(mut guard: MutexGuard<'_, Locked>, place: Place) {
    let mut wakes = Vec::new();
    guard.room.leave(place);
    guard.wake_senders(&mut wakes);
    drop(guard);
    wake(&mut wakes);
}

impl Session {
    /// Sends a request and waits for the reply: the message that comes back with the same transaction id. Waits for
    /// room like [`Session::send`], and through interruptions for as long as the session lives; bound it with a
    /// timeout where that is too long.
    ///
    /// A request with transaction id 0 gets one that is unique. Replies do not come by [`Session::recv`] and do not
    /// wait for it.
    ///
    /// Cancel-safe: dropping the future takes the request back if it can still be taken back, and drops its reply if
    /// one comes.
    ///
    /// # Errors
    /// The request was not taken, or was lost with the session; whether it was carried out is unknown then.
    pub fn call(&self, request: Message) -> Calling<'_> {
        Calling::new(self.core(), request, None)
    }

    /// As [`Session::call`], and the reply's data land in `buffer` as they come from the socket, if they fit in its
    /// length. They are lent back as the reply's `data`, from which [`bytes::Bytes::try_into_mut`] gets the buffer.
    ///
    /// When the connection is lost in the middle of the reply, the buffer is lost with it, and the replay of the reply
    /// lands in memory of its own; likewise over msgr2.0, whose headers come too late.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub fn call_into(&self, request: Message, buffer: BytesMut) -> Calling<'_> {
        Calling::new(self.core(), request, Some(buffer))
    }

    /// Sends the reply to a request that [`Session::recv`] brought: it gets the request's transaction id.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn reply(&self, request: &Message, reply: Message) -> Sending<'_> {
        self.send(reply.tid(request.tid))
    }
}
