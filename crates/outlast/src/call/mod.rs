//! Requests and their replies, by transaction id.

mod queue;
mod table;

pub use queue::{CallQueue, Submitting};
pub(crate) use table::Calls;

use crate::core::{Core, Locked};
use crate::error::CallError;
use crate::send::{SENDS_PER_TURN, Sending, queue, when_room};
use crate::session::Session;
use crate::wait::{Place, wake};
use bytes::BytesMut;
use outlast_msgr2::Message;
use outlast_session::Payload;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::task::{Context, Poll, ready};
use table::Ticket;
use tokio::task::coop;

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
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => *self.ticket.insert(guard.calls.open(request.tid)?),
        };
        request.tid = ticket.tid;
        if let Some(buffer) = self.buffer.take() {
            core.landing.put(ticket.tid, buffer);
        }
        let Some(guard) = when_room(guard, &mut self.place, request.cost(), cx) else { return Poll::Pending };
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
    /// ```
    /// # use std::time::Duration;
    /// # use outlast::{Auth, ConnectOptions, Message, Messenger};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Messenger::builder("mon.1".parse()?).auth(Auth::none()).build()?;
    /// # let address = server.listen("127.0.0.1:0".parse()?).await?;
    /// # let client = Messenger::builder("client.copy".parse()?).auth(Auth::none()).build()?;
    /// # let session = client.connect(&[address], ConnectOptions::lossless()).await?;
    /// # let accepted = server.accept().await.ok_or("shut down")?;
    /// let answering = tokio::spawn(async move {
    ///     while let Some(request) = accepted.recv().await {
    ///         let length = request.data.len().to_string();
    ///         accepted.reply(&request, Message::new(2).data(length)).await?;
    ///     }
    ///     Ok::<_, outlast::SendError>(())
    /// });
    ///
    /// let call = session.call(Message::new(1).data("how long is this?"));
    /// let reply = tokio::time::timeout(Duration::from_secs(60), call).await??;
    /// assert_eq!(reply.data, "17");
    /// # session.close().await;
    /// # answering.await??;
    /// # Ok(())
    /// # }
    /// ```
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

    /// Calls that one task has under way together, which cost less than a future for each; see [`CallQueue`].
    #[must_use]
    pub fn call_queue(&self) -> CallQueue {
        CallQueue::new(self.clone())
    }

    /// Sends the reply to a request that [`Session::recv`] brought: it gets the request's transaction id, by which the
    /// peer's [`Session::call`] knows it. Where nobody waits for that id, because the request was sent and not called,
    /// the reply arrives as any message, by the peer's [`Session::recv`].
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn reply(&self, request: &Message, reply: Message) -> Sending<'_> {
        self.send(reply.tid(request.tid))
    }
}
