//! Many calls under way on one task.

use super::leave;
use super::table::{Ended, QueuePlace, Ticket};
use crate::error::CallError;
use crate::send::{SENDS_PER_TURN, queue, when_room};
use crate::session::Session;
use crate::wait::Place;
use outlast_msgr2::Message;
use outlast_session::Payload;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::task::coop;

/// Calls that one task has under way together: requests go in, and their ends come out in the order in which they
/// came, each with the transaction id of its request. As the queue pairs of RTRS and NVMe, it is for who keeps a fixed
/// number of requests under way: all replies that came together are taken together, and wake the task once.
///
/// Dropping it gives up what is under way, as dropping the future of [`Session::call`] does. It counts as a handle of
/// the session.
///
/// ```
/// # use outlast::{Auth, ConnectOptions, Message, Messenger};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Messenger::builder("mon.1".parse()?).auth(Auth::none()).build()?;
/// # let address = server.listen("127.0.0.1:0".parse()?).await?;
/// # let client = Messenger::builder("client.copy".parse()?).auth(Auth::none()).build()?;
/// # let session = client.connect(&[address], ConnectOptions::lossless()).await?;
/// # let accepted = server.accept().await.ok_or("shut down")?;
/// # let answering = tokio::spawn(async move {
/// #     while let Some(request) = accepted.recv().await {
/// #         accepted.reply(&request, Message::new(2).data(vec![0; 512])).await?;
/// #     }
/// #     Ok::<_, outlast::SendError>(())
/// # });
/// let mut bytes = 0;
/// let mut calls = session.call_queue();
/// for block in 0..100 {
///     if calls.len() == 32 {
///         let (_, reply) = calls.next().await.ok_or("32 are under way")?;
///         bytes += reply?.data.len();
///     }
///     calls.submit(Message::new(block)).await?;
/// }
/// while let Some((_, reply)) = calls.next().await {
///     bytes += reply?.data.len();
/// }
/// assert_eq!(bytes, 100 * 512);
/// # drop(calls);
/// # session.close().await;
/// # answering.await??;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CallQueue {
    session: Session,
    place: QueuePlace,
    /// Ends that have come and were not asked for yet.
    ended: VecDeque<Ended>,
    /// Calls submitted whose end was not handed out.
    under_way: usize,
}

impl CallQueue {
    pub(super) fn new(session: Session) -> Self {
        let place = session.core().lock().calls.open_queue();
        Self { session, place, ended: VecDeque::new(), under_way: 0 }
    }

    /// Sends a request, once there is room for it, and returns its transaction id: a fresh one if the request has 0.
    ///
    /// Cancel-safe: a future dropped before it is ready has sent nothing.
    ///
    /// # Errors
    /// The session is over or closing, the message too large, or its transaction id waits for a reply already.
    pub fn submit(&mut self, request: Message) -> Submitting<'_> {
        Submitting { calls: self, request: Some(request), room: None, ticket: None }
    }

    /// How the next call ended, once one has; None if none is under way.
    ///
    /// Cancel-safe: a future dropped before it is ready has taken nothing.
    pub async fn next(&mut self) -> Option<(u64, Result<Message, CallError>)> {
        if self.under_way == 0 {
            return None;
        }
        let (session, place, ended) = (&self.session, self.place, &mut self.ended);
        let end = poll_fn(|cx| {
            let coop = ready!(coop::poll_proceed(cx));
            if ended.is_empty() {
                session.core().lock().calls.take_ended(place, ended, Some(cx.waker()));
            }
            match ended.pop_front() {
                None => Poll::Pending,
                Some(end) => {
                    coop.made_progress();
                    Poll::Ready(end)
                }
            }
        })
        .await;
        self.under_way -= 1;
        Some(end)
    }

    /// How the next call ended, if one has by now.
    #[must_use]
    pub fn try_next(&mut self) -> Option<(u64, Result<Message, CallError>)> {
        if self.ended.is_empty() {
            self.session.core().lock().calls.take_ended(self.place, &mut self.ended, None);
        }
        let end = self.ended.pop_front()?;
        self.under_way -= 1;
        Some(end)
    }

    /// Calls that were submitted and whose end [`CallQueue::next`] has not told yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.under_way
    }

    /// Whether there is nothing to wait for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.under_way == 0
    }
}

impl Drop for CallQueue {
    fn drop(&mut self) {
        let core = self.session.core();
        let unanswered = core.lock().calls.close_queue(self.place);
        if !unanswered.is_empty() {
            core.change(|locked, _| unanswered.into_iter().for_each(|id| locked.session.revoke(id)));
        }
    }
}

/// The future of [`CallQueue::submit`].
#[derive(Debug)]
#[must_use = "a request is sent when its future is awaited"]
pub struct Submitting<'a> {
    calls: &'a mut CallQueue,
    request: Option<Message>,
    room: Option<Place>,
    /// From the first look until the request is queued.
    ticket: Option<Ticket>,
}

impl Future for Submitting<'_> {
    type Output = Result<u64, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let core = this.calls.session.core();
        if core.count_send().is_multiple_of(SENDS_PER_TURN) {
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        let Some(request) = &mut this.request else { return Poll::Pending };
        let mut guard = core.lock();
        let ticket = match this.ticket {
            Some(ticket) => ticket,
            None => *this.ticket.insert(guard.calls.open(request.tid)?),
        };
        request.tid = ticket.tid;
        let Some(guard) = when_room(guard, &mut this.room, request.cost(), cx) else { return Poll::Pending };
        let Some(request) = this.request.take() else { return Poll::Pending };
        let place = this.calls.place;
        queue(core, guard, request, &mut this.room, |locked, id| {
            locked.calls.note_queued(ticket, id, place);
        })?;
        this.ticket = None;
        this.calls.under_way += 1;
        Poll::Ready(Ok(ticket.tid))
    }
}

impl Drop for Submitting<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut guard = self.calls.session.core().lock();
        // It was not sent: there is nothing to take back.
        guard.calls.abandon(ticket);
        if let Some(place) = self.room.take() {
            leave(guard, place);
        }
    }
}
