//! Taking messages that came in.

use crate::core::Core;
use crate::wait::{Place, wake};
use outlast_msgr2::Message;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::coop;

/// Waits for a message. None: the session is over and everything was taken.
pub(crate) struct Receiving<'a> {
    core: &'a Arc<Core>,
    place: Option<Place>,
}

impl<'a> Receiving<'a> {
    pub(crate) fn new(core: &'a Arc<Core>) -> Self {
        Self { core, place: None }
    }
}

impl Future for Receiving<'_> {
    type Output = Option<Message>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let coop = ready!(coop::poll_proceed(cx));
        let mut locked = self.core.lock();
        let Some(received) = locked.session.poll_message() else {
            if locked.session.end().is_some() {
                return Poll::Ready(None);
            }
            locked.receivers.enter(&mut self.place, cx.waker());
            return Poll::Pending;
        };
        let waker = locked.resume_reading();
        if let Some(place) = self.place.take() {
            locked.receivers.leave(place);
        }
        drop(locked);
        if let Some(waker) = waker {
            waker.wake();
        }
        coop.made_progress();
        Poll::Ready(Some(received.message))
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut wakes = Vec::new();
        let mut guard = self.core.lock();
        let locked = &mut *guard;
        if !locked.receivers.leave(place) {
            // Woken for a message that it did not take: the next one in the list shall.
            locked.receivers.take(locked.session.inbound_len().min(1), &mut wakes);
        }
        drop(guard);
        wake(&mut wakes);
    }
}

/// Takes what there is.
pub(crate) fn take(core: &Core, max: usize, into: &mut Vec<Message>) -> usize {
    let mut locked = core.lock();
    let mut count = 0;
    while count < max
        && let Some(received) = locked.session.poll_message()
    {
        into.push(received.message);
        count += 1;
    }
    let waker = if count > 0 { locked.resume_reading() } else { None };
    drop(locked);
    if let Some(waker) = waker {
        waker.wake();
    }
    count
}

/// Takes one message, if there is one.
pub(crate) fn take_one(core: &Core) -> Option<Message> {
    let mut locked = core.lock();
    let received = locked.session.poll_message()?;
    let waker = locked.resume_reading();
    drop(locked);
    if let Some(waker) = waker {
        waker.wake();
    }
    Some(received.message)
}
