//! A session, as its user holds it.

use crate::core::Core;
use crate::error::{ConnectError, TrySendError};
use crate::event::Events;
use crate::options::{DRAIN_MAX, GOODBYE_MAX};
use crate::receipt::Receipt;
use crate::recv::{self, Receiving};
use crate::send::{Sending, SendingMany, try_queue};
use crate::stats::{PeerInfo, Stats, Status};
use crate::wait::Place;
use outlast_cephx::{EntityName, Tickets};
use outlast_msgr2::{Credential, EndReason, Message, SessionId};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Handle;

/// One end of a session. Clones are handles of the same session; every method can be called from any task, and every
/// future can be dropped at any time.
///
/// Dropping the last handle closes the session as [`Session::close`] does, in the background; what was not received by
/// then, and what still comes, is dropped. Receipts and events do not count. A program that exits awaits
/// [`Session::close`] or [`crate::Messenger::shutdown`] before: what is done in the background ends with it.
#[derive(Debug)]
pub struct Session {
    core: Arc<Core>,
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.core))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.core.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.core.change(|locked, now| locked.session.close(now, DRAIN_MAX));
        }
    }
}

impl Session {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        core.handles.fetch_add(1, Ordering::AcqRel);
        Self { core }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Its name in this process; it never travels.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.core.id
    }

    /// Who is at the other end. [`Session::peer_info`] says whether the name is proven.
    #[must_use]
    pub fn peer(&self) -> EntityName {
        self.core.lock().peer()
    }

    /// What is known of the other end.
    #[must_use]
    pub fn peer_info(&self) -> PeerInfo {
        self.core.peer_info()
    }

    // ------------------------------------------------------------------ sending

    /// Queues a message, once there is room for it; those who wait are served in turn. From then on it is the
    /// session's: it is sent, and sent again over every new connection until the peer has acknowledged it.
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
    /// let receipt = session.send(Message::new(1).data("one")).await?; // it is queued
    /// let arrived = accepted.recv().await.ok_or("the session is over")?;
    /// assert_eq!(arrived.data, "one");
    /// receipt.await?; // the peer has acknowledged it
    /// // Who does not care drops the receipt; the message is sent all the same.
    /// drop(session.send(Message::new(1).data("two")).await?);
    /// # assert_eq!(accepted.recv().await.ok_or("the session is over")?.data, "two");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel-safe: a future dropped before it is ready has not queued the message, which is dropped with it.
    ///
    /// # Errors
    /// The session is over or closing, or the message too large; it comes back.
    pub fn send(&self, message: Message) -> Sending<'_> {
        Sending::new(&self.core, message)
    }

    /// Queues these messages in their order, once there is room for each, as [`Session::send`] does for one, and takes
    /// those that are queued off the list. What there is room for is queued together, which costs less for many small
    /// ones. Returns the receipt of the last, or None if the list was empty; within a class of priority messages are
    /// acknowledged in order, so it speaks for the others of its class.
    ///
    /// ```
    /// # use std::collections::VecDeque;
    /// # use outlast::{Auth, ConnectOptions, Message, Messenger};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Messenger::builder("mon.1".parse()?).auth(Auth::none()).build()?;
    /// # let address = server.listen("127.0.0.1:0".parse()?).await?;
    /// # let client = Messenger::builder("client.copy".parse()?).auth(Auth::none()).build()?;
    /// # let session = client.connect(&[address], ConnectOptions::lossless()).await?;
    /// # let accepted = server.accept().await.ok_or("shut down")?;
    /// let mut messages: VecDeque<_> = (0..100).map(|number: u8| Message::new(1).data(vec![number])).collect();
    /// let last = session.send_many(&mut messages).await?;
    /// assert!(messages.is_empty());
    /// if let Some(receipt) = last {
    ///     receipt.await?; // the peer has all hundred
    /// }
    /// # assert_eq!(accepted.recv().await.ok_or("the session is over")?.data[..], [0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// No other sender's message comes between them, so others wait for as long as this list does.
    ///
    /// Cancel-safe: what is still on the list when the future is dropped has not been queued, and all else has.
    ///
    /// # Errors
    /// The session is over or closing, or a message too large; it comes back, and those behind it are on the list.
    pub fn send_many<'a>(&'a self, messages: &'a mut VecDeque<Message>) -> SendingMany<'a> {
        SendingMany::new(&self.core, messages)
    }

    /// Queues a message if there is room for it now and nobody waits for that room.
    ///
    /// # Errors
    /// There is no room, the session is over or closing, or the message too large; it comes back.
    pub fn try_send(&self, message: Message) -> Result<Receipt, TrySendError> {
        let id = try_queue(&self.core, message)?;
        Ok(Receipt::new(Arc::clone(&self.core), id))
    }

    // ------------------------------------------------------------------ receiving

    /// The next message, once there is one: in the order in which the peer numbered them, each once. None when the
    /// session is over and everything that came was taken; [`Session::end`] says why.
    ///
    /// Replies to calls do not come here. Several tasks may receive, and each message goes to one of them.
    ///
    /// Cancel-safe: a future dropped before it is ready has taken nothing.
    pub async fn recv(&self) -> Option<Message> {
        Receiving::new(&self.core).await
    }

    /// The next message, if there is one now.
    #[must_use]
    pub fn try_recv(&self) -> Option<Message> {
        recv::take_one(&self.core)
    }

    /// Waits for a message as [`Session::recv`] does, and takes up to `max` that are there by then. Returns how many
    /// were appended to `into`; 0 when the session is over, or if `max` is 0.
    ///
    /// Cancel-safe: a future dropped before it is ready has taken nothing.
    pub async fn recv_many(&self, into: &mut Vec<Message>, max: usize) -> usize {
        if max == 0 {
            return 0;
        }
        let Some(first) = self.recv().await else { return 0 };
        into.push(first);
        1 + recv::take(&self.core, max - 1, into)
    }

    // ------------------------------------------------------------------ the session as a whole

    /// What happens to the session, from the oldest event that is remembered. Nobody has to look: the session mends
    /// itself. What each event asks of a program:
    ///
    /// ```
    /// # use outlast::{Auth, ConnectOptions, Message, Messenger, SessionEvent};
    /// # use tokio::net::{TcpListener, TcpStream};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Messenger::builder("mon.1".parse()?).auth(Auth::none()).build()?;
    /// # let address = server.listen("127.0.0.1:0".parse()?).await?;
    /// # // The way to it, which can be cut.
    /// # let relay = TcpListener::bind("127.0.0.1:0").await?;
    /// # let way = relay.local_addr()?.to_string().parse()?;
    /// # let target = address.to_string();
    /// # let (cut, is_cut) = tokio::sync::oneshot::channel::<()>();
    /// # tokio::spawn(async move {
    /// #     let mut is_cut = Some(is_cut);
    /// #     while let Ok((mut near, _)) = relay.accept().await {
    /// #         let mut far = TcpStream::connect(&target).await.expect("the server listens");
    /// #         let cut = is_cut.take();
    /// #         tokio::spawn(async move {
    /// #             let cut = async { match cut { Some(cut) => drop(cut.await), None => std::future::pending().await } };
    /// #             tokio::select! {
    /// #                 _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
    /// #                 () = cut => {}
    /// #             }
    /// #         });
    /// #     }
    /// # });
    /// # let client = Messenger::builder("client.copy".parse()?).auth(Auth::none()).build()?;
    /// # let session = client.connect(&[way], ConnectOptions::lossless()).await?;
    /// # let accepted = server.accept().await.ok_or("shut down")?;
    /// let mut events = session.events();
    /// let watching = tokio::spawn(async move {
    ///     # let mut seen = Vec::new();
    ///     while let Some(event) = events.next().await {
    ///         # seen.push(event.clone());
    ///         match event {
    ///             SessionEvent::Connected => println!("connected"),
    ///             // Nothing to do: what is sent meanwhile waits in the queue.
    ///             SessionEvent::Interrupted { cause } => println!("interrupted: {cause}"),
    ///             SessionEvent::AttemptFailed { cause } => println!("not yet: {cause}"),
    ///             // Nothing to do either: nothing is lost, and nothing comes twice.
    ///             SessionEvent::Resumed { replayed, away } => println!("{replayed} sent again after {away:?}"),
    ///             // The peer has restarted and knows nothing any more. What it has to know (who we are, which files
    ///             // are open) has to be told again, and so has what was lost: receipts and calls say what.
    ///             SessionEvent::Reset { lost } => println!("the peer begins anew, {lost} messages are lost"),
    ///             // Over for good: whoever wants to go on opens another session.
    ///             SessionEvent::Ended(reason) => println!("ended: {reason}"),
    ///             other => println!("{other:?}"), // events were missed, or are of a later version
    ///         }
    ///     }
    ///     # seen
    /// });
    /// # drop(cut);
    /// # drop(session.send(Message::new(1)).await?);
    /// # accepted.recv().await.ok_or("the session is over")?;
    /// # session.close().await;
    /// # let seen = watching.await?;
    /// # assert!(seen.iter().any(|event| matches!(event, SessionEvent::Interrupted { .. })), "{seen:?}");
    /// # assert!(seen.iter().any(|event| matches!(event, SessionEvent::Resumed { .. })), "{seen:?}");
    /// # assert!(matches!(seen.last(), Some(SessionEvent::Ended(_))), "{seen:?}");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.core))
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// What it has done, how much waits, and what was agreed.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// The tickets that the last login at a monitor brought.
    #[must_use]
    pub fn tickets(&self) -> Option<Tickets> {
        match &self.core.lock().credential {
            Some(Credential::Key { previous, .. }) => previous.as_deref().cloned(),
            Some(Credential::None { .. } | Credential::Ticket { .. }) | None => None,
        }
    }

    /// Why it ended, once it has.
    #[must_use]
    pub fn end(&self) -> Option<EndReason> {
        self.core.lock().session.end().cloned()
    }

    /// Waits until the session was established for the first time.
    ///
    /// # Errors
    /// It ended before.
    pub async fn connected(&self) -> Result<(), ConnectError> {
        let mut watch = Watch { core: &self.core, place: None };
        poll_fn(|cx| {
            let mut locked = self.core.lock();
            if locked.was_connected() {
                return Poll::Ready(Ok(()));
            }
            if let Some(reason) = locked.session.end() {
                return Poll::Ready(Err(ConnectError::Ended(reason.clone())));
            }
            locked.watchers.enter(&mut watch.place, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits until the session is over.
    pub async fn ended(&self) -> EndReason {
        self.core.ended().await
    }

    /// Ends the session in order: takes nothing more to send, and waits until everything is acknowledged, for at most
    /// [`DRAIN_MAX`]. Says how it ended: [`EndReason::Closed`] if nothing was lost. By then the peer was told too, if its
    /// socket took that within [`GOODBYE_MAX`]: the process may exit.
    ///
    /// As long as there is a handle, what comes in is kept for it. If more has come than the session may hold, the
    /// acknowledgements behind it are not read before somebody receives.
    ///
    /// ```
    /// # use outlast::{Auth, ConnectOptions, EndReason, Message, Messenger};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Messenger::builder("mon.1".parse()?).auth(Auth::none()).build()?;
    /// # let address = server.listen("127.0.0.1:0".parse()?).await?;
    /// # let client = Messenger::builder("client.copy".parse()?).auth(Auth::none()).build()?;
    /// # let session = client.connect(&[address], ConnectOptions::lossless()).await?;
    /// # let accepted = server.accept().await.ok_or("shut down")?;
    /// let receipt = session.send(Message::new(1).data("the last word")).await?;
    /// assert_eq!(session.close().await, EndReason::Closed); // nothing was lost
    /// assert_eq!(receipt.outcome(), Some(Ok(())));
    ///
    /// // The peer takes what came, and is told that this was all.
    /// assert_eq!(accepted.recv().await.ok_or("too early")?.data, "the last word");
    /// assert!(accepted.recv().await.is_none());
    /// assert_eq!(accepted.end(), Some(EndReason::PeerClosed));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Dropping the future does not stop the closing.
    pub async fn close(&self) -> EndReason {
        self.close_within(DRAIN_MAX).await
    }

    /// As [`Session::close`], with a bound of one's own. Zero is [`Session::abort`].
    pub async fn close_within(&self, drain_max: Duration) -> EndReason {
        self.core.change(|locked, now| locked.session.close(now, drain_max));
        let end = self.core.ended().await;
        self.core.silent().await;
        end
    }

    /// Ends the session at once. What is not acknowledged is lost with it; what came in can still be received.
    pub fn abort(&self) {
        self.core.change(|locked, _| locked.session.abort());
    }
}

impl Core {
    /// Waits until the session is over, without being a handle of it.
    pub(crate) async fn ended(&self) -> EndReason {
        let mut watch = Watch { core: self, place: None };
        poll_fn(|cx| {
            let mut locked = self.lock();
            if let Some(reason) = locked.session.end() {
                return Poll::Ready(reason.clone());
            }
            locked.watchers.enter(&mut watch.place, cx.waker());
            Poll::Pending
        })
        .await
    }
}

impl Core {
    /// Waits until the connection has written what it had to say when the session ended, or is lost; not for long, if
    /// there is a clock to tell how long.
    pub(crate) async fn silent(&self) {
        let mut watch = Watch { core: self, place: None };
        let silent = poll_fn(|cx| {
            let mut locked = self.lock();
            if locked.line.is_silent() {
                return Poll::Ready(());
            }
            locked.watchers.enter(&mut watch.place, cx.waker());
            Poll::Pending
        });
        if Handle::try_current().is_ok() {
            let _ = tokio::time::timeout(GOODBYE_MAX, silent).await;
        }
    }
}

/// A place among those who wait for something to happen to the session.
struct Watch<'a> {
    core: &'a Core,
    place: Option<Place>,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.core.lock().watchers.leave(place);
        }
    }
}
