//! What a copy needs of a session: to send and to receive, in order, each once.

use std::collections::VecDeque;

use tokio::time::{Duration, timeout};

use crate::error::{Refusal, TransferError, Violation};
use crate::wire::{Message, Packet, Request};

/// A session, or in tests something that behaves like one.
pub(crate) trait Link: Sync {
    /// Waits for room and gives the packet to the session.
    fn send(&self, packet: Packet) -> impl Future<Output = Result<(), TransferError>> + Send;
    /// The next packet. Cancel-safe: dropped before it is ready, it has taken nothing.
    fn recv(&self) -> impl Future<Output = Result<Packet, TransferError>> + Send;
    /// Whether a connection carries the session at the moment.
    fn is_connected(&self) -> bool;
}

/// What ends a copy at a server besides its own end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The client begins anew.
    Hello { min: u16, max: u16 },
    /// The client begins another copy.
    Start { copy: u32, request: Request },
    /// The client gives this copy up.
    Refused,
}

/// How the work of one end came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything that there was to do is done, and both ends know it.
    Complete,
    /// The client wants something else.
    Interrupted(Interrupt),
}

/// What a copy hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message of this copy.
    Message(Message),
    /// Something that ends it.
    Interrupt(Interrupt),
}

/// Which end of the conversation this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// One copy's view of the session.
pub(crate) struct Conversation<'a, L> {
    pub(crate) link: &'a L,
    pub(crate) copy: u32,
    pub(crate) role: Role,
}

impl<L: Link> Conversation<'_, L> {
    pub(crate) async fn send(&self, message: Message) -> Result<(), TransferError> {
        self.link.send(message.encode()).await
    }

    /// The next message of this copy; what is left of an earlier one is dropped.
    pub(crate) async fn recv(&self) -> Result<Heard, TransferError> {
        loop {
            let message = Message::decode(self.link.recv().await?)?;
            let mine = message.copy().is_none_or(|copy| copy == self.copy || copy == 0);
            match (message, self.role) {
                (Message::Hello { min, max }, Role::Server) => {
                    return Ok(Heard::Interrupt(Interrupt::Hello { min, max }));
                }
                (Message::Start { copy, request }, Role::Server) if copy > self.copy => {
                    return Ok(Heard::Interrupt(Interrupt::Start { copy, request }));
                }
                (Message::Refused { refusal, .. }, Role::Client) if mine => {
                    return Err(TransferError::Refused(refusal));
                }
                (Message::Refused { .. }, Role::Server) if mine => {
                    return Ok(Heard::Interrupt(Interrupt::Refused));
                }
                (
                    message @ (Message::Hello { .. } | Message::Welcome { .. } | Message::Start { .. }),
                    Role::Client | Role::Server,
                ) => {
                    return Err(Violation::Unexpected { name: message.name(), when: "during a copy" }.into());
                }
                (message, Role::Client | Role::Server) if mine => return Ok(Heard::Message(message)),
                (message, Role::Client | Role::Server) => {
                    tracing::trace!(copy = message.copy(), name = message.name(), "of an earlier copy");
                }
            }
        }
    }
}

/// How long giving up may take to be said to a peer that takes nothing, in seconds.
const FAREWELL_SECONDS_MAX: u64 = 5;

/// Tells the peer that nothing more comes of a copy, if it can still be told. `copy` 0: of any.
pub(crate) async fn refuse(link: &impl Link, copy: u32, refusal: Refusal) {
    let packet = Message::Refused { copy, refusal }.encode();
    let _ = timeout(Duration::from_secs(FAREWELL_SECONDS_MAX), link.send(packet)).await;
}

/// What to tell the peer of an error of ours, if it does not know already.
pub(crate) fn farewell(error: &TransferError) -> Option<Refusal> {
    match error {
        TransferError::Wire(_) | TransferError::Violation(_) => Some(Refusal::Protocol(error.to_string())),
        TransferError::TakenOver => Some(Refusal::TakenOver),
        TransferError::Local { .. }
        | TransferError::NeedsDirectory
        | TransferError::Items(_)
        | TransferError::NoAnswer(_)
        | TransferError::Worker => Some(Refusal::Stopped),
        TransferError::SessionEnded(_) | TransferError::SessionReset { .. } | TransferError::Refused(_) => {
            None
        }
    }
}

/// Groups what is to be sent into batches by cost.
pub(crate) fn batches<T>(
    items: &mut VecDeque<T>,
    count_max: usize,
    cost_target: usize,
    cost: impl Fn(&T) -> usize,
) -> Vec<T> {
    let (mut batch, mut sum) = (Vec::new(), 0);
    while batch.len() < count_max && (sum < cost_target || batch.is_empty()) {
        let Some(item) = items.pop_front() else { break };
        sum += cost(&item);
        batch.push(item);
    }
    batch
}
