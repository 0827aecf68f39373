//! An Outlast session as a copy uses it.

use outlast::{Events, Message, Session, SessionEvent, Status};
use tokio::sync::Mutex;

use crate::error::TransferError;
use crate::link::Link;
use crate::wire::Packet;

/// A session, watched for being forgotten by the peer: then what was on its way is lost, and the copy with it.
pub(crate) struct SessionLink<'a> {
    session: &'a Session,
    /// Only one task reads it at a time; the lock is never waited for.
    events: Mutex<Events>,
}

impl<'a> SessionLink<'a> {
    pub(crate) fn new(session: &'a Session) -> Self {
        let mut events = session.events();
        // What was before this copy does not concern it.
        while events.try_next().is_some() {}
        Self { session, events: Mutex::new(events) }
    }

    fn ended(&self) -> TransferError {
        let reason = self.session.end().map_or_else(|| "it is over".to_owned(), |end| end.to_string());
        TransferError::SessionEnded(reason)
    }

    /// Waits for the peer to forget the session; what it waits for otherwise is the session's end.
    async fn reset(&self) -> TransferError {
        let mut events = self.events.lock().await;
        while let Some(event) = events.next().await {
            if let SessionEvent::Reset { lost } = event {
                return TransferError::SessionReset { lost };
            }
        }
        // Over: but what has come in before is still to be taken.
        std::future::pending().await
    }
}

fn packet(message: Message) -> Packet {
    Packet { kind: message.kind, front: message.front, data: message.data }
}

impl Link for SessionLink<'_> {
    async fn send(&self, packet: Packet) -> Result<(), TransferError> {
        let message = Message::new(packet.kind).front(packet.front).data(packet.data);
        match self.session.send(message).await {
            // Whether it arrived is told by the sink's answers, not by the receipt.
            Ok(receipt) => {
                drop(receipt);
                Ok(())
            }
            Err(_) => Err(self.ended()),
        }
    }

    async fn recv(&self) -> Result<Packet, TransferError> {
        if let Some(message) = self.session.try_recv() {
            return Ok(packet(message));
        }
        tokio::select! {
            biased;
            message = self.session.recv() => message.map(packet).ok_or_else(|| self.ended()),
            error = self.reset() => Err(error),
        }
    }

    fn is_connected(&self) -> bool {
        matches!(self.session.status(), Status::Connected)
    }
}
