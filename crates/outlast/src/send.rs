//! Queueing a message, once there is room.

use crate::core::Core;
use crate::error::{SendError, TrySendError};
use crate::receipt::Receipt;
use crate::wait::{Place, wake};
use outlast_msgr2::{Message, SendError as CoreSendError};
use outlast_session::{MessageId, Payload};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::coop;

/// Waits for room and queues one message. Until it is ready, the message is not queued; dropping it then drops the
/// message.
pub(crate) struct Sending<'a> {
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

    /// Queues the message if it is its turn and there is room.
    fn attempt(&mut self, cx: Option<&mut Context<'_>>) -> Poll<Result<MessageId, TrySendError>> {
        let Some(message) = self.message.take() else { return Poll::Pending };
        let core = self.core;
        let mut guard = core.lock();
        let locked = &mut *guard;
        let (tid, cost) = (message.tid, message.cost());
        let turn = locked.room.is_first(self.place);
        let is_open = locked.session.is_open();
        let result = if turn || !is_open {
            locked.session.send(message, core.inner.clock.now())
        } else {
            Err(CoreSendError::Full(message))
        };
        match result {
            Ok(id) => {
                if self.is_call {
                    locked.calls.note_sent(tid, id);
                }
                let ring = locked.ring_for_message();
                let mut wakes = Vec::new();
                if let Some(place) = self.place.take() {
                    // The next in the queue may have room too.
                    locked.room.leave(place);
                    locked.room.wake(|cost| locked.session.has_room(cost), &mut wakes);
                }
                drop(guard);
                ring.ring(core);
                wake(&mut wakes);
                Poll::Ready(Ok(id))
            }
            Err(CoreSendError::Full(message)) => match cx {
                Some(cx) => {
                    locked.room.enter(&mut self.place, cost, cx.waker());
                    drop(guard);
                    self.message = Some(message);
                    Poll::Pending
                }
                None => Poll::Ready(Err(TrySendError::Full(message))),
            },
            Err(CoreSendError::Closed(message)) => Poll::Ready(Err(TrySendError::Closed(message))),
            Err(CoreSendError::TooLarge(message)) => Poll::Ready(Err(TrySendError::TooLarge(message))),
        }
    }

    /// Queues the message now or not at all.
    pub(crate) fn now(mut self) -> Result<MessageId, TrySendError> {
        match self.attempt(None) {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("only an attempt with a context waits"),
        }
    }
}

impl Future for Sending<'_> {
    type Output = Result<MessageId, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let coop = ready!(coop::poll_proceed(cx));
        let result = ready!(self.attempt(Some(cx)));
        coop.made_progress();
        Poll::Ready(result.map_err(|error| match error {
            TrySendError::Closed(message) => SendError::Closed(message),
            TrySendError::TooLarge(message) => SendError::TooLarge(message),
            TrySendError::Full(_) => unreachable!("waits for room instead"),
        }))
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut wakes = Vec::new();
        let mut guard = self.core.lock();
        let locked = &mut *guard;
        locked.room.leave(place);
        locked.room.wake(|cost| locked.session.has_room(cost), &mut wakes);
        drop(guard);
        wake(&mut wakes);
    }
}

pub(crate) async fn send(core: &Arc<Core>, message: Message) -> Result<Receipt, SendError> {
    let id = Sending::new(core, message).await?;
    Ok(Receipt::new(Arc::clone(core), id))
}
