//! What goes wrong, whose fault it is, and what dies of it.

use crate::session::State;
use crate::wire::{DecodeError, NodeId, RcomKind};
use outlast_session::AckError;
use thiserror::Error;

/// Who has to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The node at the other end, or whoever sits there.
    Peer,
    /// Who uses this node.
    User,
    /// The network, the machine.
    Environment,
}

/// Why a connection ended. The session goes on over the next one, and replays what was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// What came is no frame.
    #[error("node {peer} sent what is no frame: {error}")]
    Decode {
        /// Who sent it.
        peer: NodeId,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A frame names another sender than the one whose address the connection has.
    #[error("a frame on the connection of node {peer} says that it comes from node {claimed}")]
    WrongSender {
        /// By the address.
        peer: NodeId,
        /// By the frame.
        claimed: NodeId,
    },
    /// A peer that numbers its messages sent one without a number that must have one.
    #[error("node {peer} sent {what} without a number")]
    Unnumbered {
        /// Who sent it.
        peer: NodeId,
        /// What.
        what: &'static str,
    },
    /// An acknowledgement of what was never sent.
    #[error("node {peer}: {error}")]
    Ack {
        /// Who sent it.
        peer: NodeId,
        /// Which.
        error: AckError,
    },
    /// A number that no message near can have: half the circle away from what is expected.
    #[error("node {peer} sent the number {number}, and {expected} is expected")]
    Number {
        /// Who sent it.
        peer: NodeId,
        /// The number.
        number: u32,
        /// The number that comes next.
        expected: u32,
    },
    /// Messages are missing and did not come again in time. Ending the connection makes the kernel repeat them.
    #[error("messages of node {peer} are missing from number {expected} on")]
    Missing {
        /// Who sent those behind them.
        peer: NodeId,
        /// The first that is missing.
        expected: u32,
    },
    /// Something came after a FIN.
    #[error("node {peer} sent {what} in state {state}")]
    AfterFin {
        /// Who sent it.
        peer: NodeId,
        /// What.
        what: &'static str,
        /// Of this end.
        state: State,
    },
    /// The peer closed the connection, or the line is dead.
    #[error("the connection to node {peer} was lost")]
    Lost {
        /// To whom.
        peer: NodeId,
    },
    /// The peer opened more connections than a session has; this is the oldest.
    #[error("node {peer} has opened newer connections")]
    Superseded {
        /// To whom.
        peer: NodeId,
    },
    /// The session ended in order, or the peer was fenced.
    #[error("the session with node {peer} is over")]
    Ended {
        /// With whom.
        peer: NodeId,
    },
}

impl ConnectionError {
    /// Who has to change something.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Decode { .. }
            | Self::WrongSender { .. }
            | Self::Unnumbered { .. }
            | Self::Ack { .. }
            | Self::Number { .. }
            | Self::AfterFin { .. } => Fault::Peer,
            Self::Missing { .. } | Self::Lost { .. } | Self::Superseded { .. } | Self::Ended { .. } => {
                Fault::Environment
            }
        }
    }
}

/// What a recovery message is called in an error.
pub(crate) const fn rcom_name(kind: RcomKind) -> &'static str {
    match kind {
        RcomKind::Status => "a status request",
        RcomKind::Names => "a request for names",
        RcomKind::Lookup => "a recovery lookup",
        RcomKind::Lock => "a recovered lock",
        RcomKind::StatusReply => "a status",
        RcomKind::NamesReply => "names",
        RcomKind::LookupReply => "an answer to a recovery lookup",
        RcomKind::LockReply => "an answer to a recovered lock",
    }
}

/// Why a message was not taken. The user's to handle; nothing dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer has not acknowledged what was sent before.
    #[error("node {peer} has not acknowledged {messages} messages: wait until it does, or have it fenced")]
    Full {
        /// To whom.
        peer: NodeId,
        /// How many are kept.
        messages: usize,
    },
    /// A FIN was sent.
    #[error("the session with node {peer} is ending")]
    Ending {
        /// With whom.
        peer: NodeId,
    },
}
