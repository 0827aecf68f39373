//! Queueing a message, once there is room.

use crate::core::{Core, Locked};
use crate::error::{SendError, TrySendError};
use crate::receipt::Receipt;
use crate::wait::{Place, wake};
use outlast_msgr2::{Message, SendError as CoreSendError};
use outlast_session::{MessageId, Payload};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};
use tokio::task::coop;

/// Sends that a task may make before it lets others run, as a multiple of the runtime's own measure, which is meant for
/// operations that cost far more.
const SENDS_PER_TURN: u32 = 16;

/// The future of [`crate::Session::send`]: waits for room and queues one message.
///
/// Until it is ready, the message is not queued; dropping it then drops the message.
#[derive(Debug)]
#[must_use = "a message is queued when its future is awaited"]
pub struct Sending<'a> {
    core: &'a Arc<Core>,
    message: Option<Message>,
    place: Option<Place>,
    is_call: bool,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(core: &'a Arc<Core>, message: Message) -> Self {
        Self { core, message: Some(message), place: None, is_call: false }
    }

    /// For a request whose call is registered.
    pub(crate) fn call(core: &'a Arc<Core>, message: Message) -> Self {
        Self { core, message: Some(message), place: None, is_call: true }
    }

    /// Queues the message now or not at all, however much waits to be written.
    pub(crate) fn now(mut self) -> Result<MessageId, TrySendError> {
        let core = self.core;
        let locked = core.lock();
        match self.message.take() {
            Some(message) if locked.may_try(message.cost()) => self.queue(locked, message),
            Some(message) => Err(TrySendError::Full(message)),
            None => unreachable!("sent once"),
        }
    }

    /// Queues the message if it is its turn and there is room.
    pub(crate) fn poll_queued(&mut self, cx: &mut Context<'_>) -> Poll<Result<MessageId, SendError>> {
        let core = self.core;
        if core.count_send().is_multiple_of(SENDS_PER_TURN) {
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        let Some(cost) = self.message.as_ref().map(Payload::cost) else { return Poll::Pending };
        let mut guard = core.lock();
        let locked = &mut *guard;
        if locked.must_wait(self.place, cost) {
            locked.room.enter(&mut self.place, cost, cx.waker());
            return Poll::Pending;
        }
        let Some(message) = self.message.take() else { return Poll::Pending };
        Poll::Ready(match self.queue(guard, message) {
            Ok(id) => Ok(id),
            Err(TrySendError::Closed(message)) => Err(SendError::Closed(message)),
            Err(TrySendError::TooLarge(message)) => Err(SendError::TooLarge(message)),
            Err(TrySendError::Full(_)) => unreachable!("there was room under the same lock"),
        })
    }

    fn queue(
        &mut self,
        mut guard: MutexGuard<'_, Locked>,
        message: Message,
    ) -> Result<MessageId, TrySendError> {
        let locked = &mut *guard;
        let tid = message.tid;
        let result = locked.session.send(message, locked.seen);
        let mut wakes = Vec::new();
        if let Ok(id) = &result
            && self.is_call
        {
            locked.calls.note_sent(tid, *id);
        }
        if let Some(place) = self.place.take() {
            // The next in the queue may have room too.
            locked.room.leave(place);
            locked.wake_senders(&mut wakes);
        }
        let ring = locked.ring_for_message();
        drop(guard);
        ring.ring(self.core);
        wake(&mut wakes);
        result.map_err(|error| match error {
            CoreSendError::Full(message) => TrySendError::Full(message),
            CoreSendError::Closed(message) => TrySendError::Closed(message),
            CoreSendError::TooLarge(message) => TrySendError::TooLarge(message),
        })
    }
}

impl Future for Sending<'_> {
    type Output = Result<Receipt, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let queued = ready!(this.poll_queued(cx));
        Poll::Ready(queued.map(|id| Receipt::new(Arc::clone(this.core), id)))
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut wakes = Vec::new();
        let mut guard = self.core.lock();
        guard.room.leave(place);
        guard.wake_senders(&mut wakes);
        drop(guard);
        wake(&mut wakes);
    }
}
