//! Requests and their replies, by transaction id.

use crate::core::Core;
use crate::error::{CallError, Lost};
use crate::send::Sending;
use crate::session::Session;
use bytes::BytesMut;
use outlast_msgr2::{EndReason, Message};
use outlast_session::{LossReason, MessageId, ReceiptStatus};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

/// Calls given up by their callers whose replies are still told from new messages. A reply that comes after so many
/// others were given up is received like any message.
const ABANDONED_MAX: usize = 1024;

/// Calls that wait for their reply; kept under the session's lock.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    waiting: BTreeMap<u64, Call>,
    abandoned: BTreeSet<u64>,
    /// The same, oldest first; some may have been answered since.
    abandoned_order: VecDeque<u64>,
}

#[derive(Debug)]
struct Call {
    sent: Option<MessageId>,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Answered(Message),
    Failed(CallError),
}

impl Calls {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.abandoned.is_empty()
    }

    /// Whether a message with this transaction id is a reply.
    pub(crate) fn awaits(&self, tid: u64) -> bool {
        self.waiting.contains_key(&tid) || self.abandoned.contains(&tid)
    }

    pub(crate) fn deliver(&mut self, reply: Message, wakes: &mut Vec<Waker>) {
        match self.waiting.get_mut(&reply.tid) {
            Some(call) => call.settle(State::Answered(reply), wakes),
            None => {
                self.abandoned.remove(&reply.tid);
            }
        }
    }

    /// After a reset or the end: requests that were lost, and those that the peer had and has forgotten.
    pub(crate) fn fail_lost(&mut self, session: &outlast_msgr2::Session, wakes: &mut Vec<Waker>) {
        let end = session.end();
        for call in self.waiting.values_mut() {
            let Some(id) = call.sent else { continue };
            let failure = match (end, session.status(id)) {
                (Some(end), _) => CallError::Ended(end.clone()),
                (None, ReceiptStatus::Pending | ReceiptStatus::NotTracked) => continue,
                (None, ReceiptStatus::Lost(reason)) => CallError::Lost(Lost::Session(reason)),
                (None, ReceiptStatus::Revoked) => CallError::Lost(Lost::Revoked),
                (None, ReceiptStatus::Acknowledged | ReceiptStatus::Unknown) => {
                    CallError::Lost(Lost::Session(LossReason::Reset))
                }
            };
            call.settle(State::Failed(failure), wakes);
        }
    }

    fn poll(&mut self, tid: u64, cx: &mut Context<'_>) -> Poll<Result<Message, CallError>> {
        match self.waiting.get_mut(&tid).map(|call| &mut call.state) {
            Some(State::Waiting(waker)) => {
                match waker {
                    Some(known) => known.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Some(State::Answered(_) | State::Failed(_)) | None => {
                match self.waiting.remove(&tid).map(|c| c.state) {
                    Some(State::Answered(reply)) => Poll::Ready(Ok(reply)),
                    Some(State::Failed(error)) => Poll::Ready(Err(error)),
                    Some(State::Waiting(_)) | None => Poll::Ready(Err(CallError::Ended(EndReason::Closed))),
                }
            }
        }
    }

    /// The message of this call was queued.
    pub(crate) fn note_sent(&mut self, tid: u64, id: MessageId) {
        if let Some(call) = self.waiting.get_mut(&tid) {
            call.sent = Some(id);
        }
    }

    /// The caller has gone. A reply that still comes is dropped. Returns the message to be taken back.
    fn abandon(&mut self, tid: u64) -> Option<MessageId> {
        let call = self.waiting.remove(&tid)?;
        let sent = call.sent.filter(|_| matches!(call.state, State::Waiting(_)))?;
        if self.abandoned_order.len() >= ABANDONED_MAX
            && let Some(oldest) = self.abandoned_order.pop_front()
        {
            self.abandoned.remove(&oldest);
        }
        self.abandoned.insert(tid);
        self.abandoned_order.push_back(tid);
        Some(sent)
    }
}

impl Call {
    fn settle(&mut self, state: State, wakes: &mut Vec<Waker>) {
        if let State::Waiting(waker) = &mut self.state {
            wakes.extend(waker.take());
            self.state = state;
        }
    }
}

/// A call's registration; ends with it, however it ends.
struct Registered<'a> {
    core: &'a Arc<Core>,
    tid: u64,
}

impl<'a> Registered<'a> {
    fn new(core: &'a Arc<Core>, tid: u64, buffer: Option<BytesMut>) -> Result<Self, CallError> {
        let mut locked = core.lock();
        match locked.calls.waiting.entry(tid) {
            Entry::Occupied(_) => return Err(CallError::TidInUse { tid }),
            Entry::Vacant(place) => place.insert(Call { sent: None, state: State::Waiting(None) }),
        };
        if let Some(buffer) = buffer {
            core.landing.put(tid, buffer);
        }
        drop(locked);
        Ok(Self { core, tid })
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.core.landing.take(self.tid);
        let unanswered = self.core.lock().calls.abandon(self.tid);
        if let Some(id) = unanswered {
            self.core.change(|locked, _| locked.session.revoke(id));
        }
    }
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
    pub async fn call(&self, request: Message) -> Result<Message, CallError> {
        self.call_with(request, None).await
    }

    /// As [`Session::call`], and the reply's data land in `buffer` as they come from the socket, if they fit in its
    /// length. They are lent back as the reply's `data`, from which [`bytes::Bytes::try_into_mut`] gets the buffer.
    ///
    /// When the connection is lost in the middle of the reply, the buffer is lost with it, and the replay of the reply
    /// lands in memory of its own; likewise over msgr2.0, whose headers come too late.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub async fn call_into(&self, request: Message, buffer: BytesMut) -> Result<Message, CallError> {
        self.call_with(request, Some(buffer)).await
    }

    async fn call_with(&self, mut request: Message, buffer: Option<BytesMut>) -> Result<Message, CallError> {
        let core = self.core();
        while request.tid == 0 {
            request.tid = core.next_tid.fetch_add(1, Ordering::Relaxed);
        }
        let tid = request.tid;
        let _registered = Registered::new(core, tid, buffer)?;
        let mut sending = Sending::call(core, request);
        poll_fn(|cx| sending.poll_queued(cx)).await?;
        drop(sending);
        poll_fn(|cx| core.lock().calls.poll(tid, cx)).await
    }

    /// Sends the reply to a request that [`Session::recv`] brought: it gets the request's transaction id.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn reply(&self, request: &Message, reply: Message) -> Sending<'_> {
        self.send(reply.tid(request.tid))
    }
}
