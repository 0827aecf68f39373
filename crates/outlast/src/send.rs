//! Queueing a message, once there is room.

use crate::call::leave;
use crate::core::{Core, Locked, Ring};
use crate::error::{SendError, TrySendError};
use crate::receipt::Receipt;
use crate::wait::{Place, wake};
use outlast_msgr2::{Message, SendError as CoreSendError};
use outlast_session::{MessageId, Payload};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use tokio::task::coop;

/// Sends that a task may make before it lets others run, as a multiple of the runtime's own measure, which is meant for
/// operations that cost far more.
pub(crate) const SENDS_PER_TURN: u32 = 16;

/// The future of [`crate::Session::send`]: waits for room and queues one message.
///
/// Until it is ready, the message is not queued; dropping it then drops the message.
#[derive(Debug)]
#[must_use = "a message is queued when its future is awaited"]
pub struct Sending<'a> {
    core: &'a Arc<Core>,
    message: Option<Message>,
    place: Option<Place>,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(core: &'a Arc<Core>, message: Message) -> Self {
        Self { core, message: Some(message), place: None }
    }
}

/// Queues a message now or not at all, however much waits to be written.
pub(crate) fn try_queue(core: &Core, message: Message) -> Result<MessageId, TrySendError> {
    let locked = core.lock();
    if !locked.may_try(message.cost()) {
        return Err(TrySendError::Full(message));
    }
    queue(core, locked, message, &mut None, |_, _| {}).map_err(|error| match error {
        SendError::Closed(message) => TrySendError::Closed(message),
        SendError::TooLarge(message) => TrySendError::TooLarge(message),
    })
}

/// Goes on under the lock if there is room and it is this sender's turn; else the sender waits, and is woken.
pub(crate) fn when_room<'a>(
    mut guard: MutexGuard<'a, Locked>,
    place: &mut Option<Place>,
    cost: usize,
    cx: &Context<'_>,
) -> Option<MutexGuard<'a, Locked>> {
    if !guard.must_wait(*place, cost) {
        return Some(guard);
    }
    let ring = guard.wait_for_room(place, cost, cx.waker());
    drop(guard);
    ring.into_iter().for_each(Waker::wake);
    None
}

/// Queues a message for which there is room, and wakes whoever has to know. `noted` is told its number under the same
/// lock.
pub(crate) fn queue(
    core: &Core,
    mut guard: MutexGuard<'_, Locked>,
    message: Message,
    place: &mut Option<Place>,
    noted: impl FnOnce(&mut Locked, MessageId),
) -> Result<MessageId, SendError> {
    let locked = &mut *guard;
    let result = locked.session.send(message, locked.seen);
    if let Ok(id) = &result {
        noted(locked, *id);
    }
    let mut wakes = Vec::new();
    if let Some(place) = place.take() {
        // The next in the queue may have room too.
        locked.room.leave(place);
        locked.wake_senders(&mut wakes);
    }
    let ring = locked.ring_for_message();
    drop(guard);
    ring.ring(core);
    wake(&mut wakes);
    result.map_err(refused)
}

fn refused(error: CoreSendError) -> SendError {
    match error {
        CoreSendError::Closed(message) => SendError::Closed(message),
        CoreSendError::TooLarge(message) => SendError::TooLarge(message),
        CoreSendError::Full(_) => unreachable!("there was room under the same lock"),
    }
}

impl Future for Sending<'_> {
    type Output = Result<Receipt, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let core = this.core;
        if core.count_send().is_multiple_of(SENDS_PER_TURN) {
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        let Some(cost) = this.message.as_ref().map(Payload::cost) else { return Poll::Pending };
        let Some(guard) = when_room(core.lock(), &mut this.place, cost, cx) else { return Poll::Pending };
        let Some(message) = this.message.take() else { return Poll::Pending };
        let queued = queue(core, guard, message, &mut this.place, |_, _| {});
        Poll::Ready(queued.map(|id| Receipt::new(Arc::clone(core), id)))
    }
}

/// The future of [`crate::Session::send_many`].
#[derive(Debug)]
#[must_use = "messages are queued when the future is awaited"]
pub struct SendingMany<'a> {
    core: &'a Arc<Core>,
    messages: &'a mut VecDeque<Message>,
    place: Option<Place>,
    last: Option<MessageId>,
}

impl<'a> SendingMany<'a> {
    pub(crate) fn new(core: &'a Arc<Core>, messages: &'a mut VecDeque<Message>) -> Self {
        Self { core, messages, place: None, last: None }
    }

    /// Queues what there is room for. Whether something is left that has to wait.
    fn queue(&mut self, locked: &mut Locked) -> Result<bool, SendError> {
        while let Some(message) = self.messages.front() {
            if locked.must_wait(self.place, message.cost()) {
                return Ok(true);
            }
            let Some(message) = self.messages.pop_front() else { break };
            self.last = Some(locked.session.send(message, locked.seen).map_err(refused)?);
        }
        Ok(false)
    }
}

impl Future for SendingMany<'_> {
    type Output = Result<Option<Receipt>, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let core = this.core;
        let coop = ready!(coop::poll_proceed(cx));
        let before = this.last;
        let mut guard = core.lock();
        let locked = &mut *guard;
        let queued = this.queue(locked);
        let mut wakes = Vec::new();
        if let (Ok(true), Some(next)) = (&queued, this.messages.front()) {
            wakes.extend(locked.wait_for_room(&mut this.place, next.cost(), cx.waker()));
        } else if let Some(place) = this.place.take() {
            locked.room.leave(place);
            locked.wake_senders(&mut wakes);
        }
        let ring = if this.last == before { Ring::Line(None) } else { locked.ring_for_message() };
        drop(guard);
        ring.ring(core);
        wake(&mut wakes);
        if this.last != before {
            coop.made_progress();
        }
        match queued {
            Ok(true) => Poll::Pending,
            Ok(false) => Poll::Ready(Ok(this.last.map(|id| Receipt::new(Arc::clone(core), id)))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for SendingMany<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            leave(self.core.lock(), place);
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            leave(self.core.lock(), place);
        }
    }
}
