//! The side that lets in: a monitor, who knows everybody's key ([`MonitorAcceptor`]), and a service, who knows only its
//! own rotating secrets ([`ServiceAcceptor`]).
//!
//! Whatever a peer sends, an acceptor gives a [`Step`]; every refusal looks the same on the wire ([`REFUSED_ERRNO`]),
//! and its reason is for the log of the side that refuses.

mod monitor;
mod secrets;
mod service;

use bytes::Bytes;

pub use monitor::{Authority, MonitorAcceptor};
pub use secrets::{RotatingSecret, ServiceSecrets, TicketSecrets};
pub use service::ServiceAcceptor;

use crate::wire::DecodeError;
use crate::{ConnectionSecret, EntityName, EntityType, Fault, Key, Timestamp};

/// The error number of every refusal: `EACCES`, as Ceph's daemons answer with whatever the reason was.
pub const REFUSED_ERRNO: i32 = -13;

/// How far the clocks of the monitor and of a service may be apart, in seconds, before the service takes a good ticket
/// for an expired one. The value is the one Ceph allows between the two dates in a ticket.
pub const CLOCK_SKEW_SECONDS_MAX: u32 = 300;

/// Who knows keys: a keyring, or the database of a monitor.
pub trait Keys {
    /// The key of this entity.
    fn key(&self, name: &EntityName) -> Option<&Key>;

    /// What this entity may do at that kind of service. It goes into tickets, and this crate does not read it.
    fn caps(&self, _name: &EntityName, _service: EntityType) -> Option<&str> {
        None
    }
}

/// What an acceptor wants done next.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Send this as the payload of an `AUTH_REPLY_MORE` and wait for an `AUTH_REQUEST_MORE`.
    More(Bytes),
    /// The peer is who it says it is: send an `AUTH_DONE`.
    Done(Box<Accepted>),
    /// Send an `AUTH_BAD_METHOD` with the error number.
    Refused(Refusal),
}

/// Somebody was let in.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Accepted {
    /// Who.
    pub entity: EntityName,
    /// The number of that client in the cluster, for the `AUTH_DONE`.
    pub global_id: u64,
    /// The payload of the `AUTH_DONE`.
    pub payload: Bytes,
    /// The key that signs the handshake.
    pub session_key: Key,
    /// The secret for the connection's encryption, when it will be secure.
    pub connection_secret: Option<ConnectionSecret>,
    /// What the client may do here, as its ticket, or for a monitor the database, says.
    pub caps: Option<String>,
    /// When the ticket ends that let the client in, or that it was given.
    pub expires: Timestamp,
}

/// Somebody was not let in. The connection may go on with another request, as Ceph's does, or end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused: {reason}")]
pub struct Refusal {
    /// What the peer is told: always [`REFUSED_ERRNO`].
    pub errno: i32,
    /// What it is not told.
    pub reason: RefusalReason,
}

/// Why somebody was not let in. For the log, never for the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalReason {
    /// A message does not hold what it must.
    #[error("the message cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// A message came that does not belong here: an answer without a challenge, or a second one.
    #[error("no challenge is open")]
    NoChallenge,
    /// Nobody of this name is known.
    #[error("{0} is not known")]
    Unknown(EntityName),
    /// The answer to the challenge is wrong: another key.
    #[error("{0} gave a wrong proof")]
    Proof(EntityName),
    /// A number was claimed without a ticket that proves it, or with one that does not (CVE-2021-20288); or a ticket was
    /// shown without claiming a number.
    #[error("{name} claims the number {global_id} without proof")]
    GlobalId {
        /// Who claims it.
        name: EntityName,
        /// The number.
        global_id: u64,
    },
    /// A secure connection was agreed, and the client is so old that it cannot take a secret for it.
    #[error("the client cannot take a connection secret")]
    NoSecretPossible,
    /// The ticket is for another kind of service.
    #[error("the ticket is for {0}")]
    OtherService(EntityType),
    /// The ticket is sealed with a secret that is not, or no longer, known here.
    #[error("the ticket is sealed with the unknown secret {secret_id}")]
    StaleTicket {
        /// The secret's number.
        secret_id: u64,
    },
    /// The ticket, or what was sealed with its session key, does not open.
    #[error("the ticket does not decrypt")]
    Undecipherable,
    /// The ticket has ended.
    #[error("the ticket expired at {expires}")]
    Expired {
        /// When.
        expires: Timestamp,
    },
    /// The ticket's dates cannot have been written by a monitor.
    #[error("the ticket's dates contradict each other")]
    Dates,
    /// The ticket is another client's, or changed between the two rounds.
    #[error("the ticket does not belong to this client")]
    OtherTicket,
    /// The answer to the service's challenge is wrong.
    #[error("the answer to the challenge is wrong")]
    Challenge,
    /// The monitor has no secret to seal an auth ticket with.
    #[error("there is no secret to seal tickets with")]
    NoSecrets,
}

impl RefusalReason {
    /// Who is to blame.
    pub fn fault(&self) -> Fault {
        match self {
            RefusalReason::NoSecrets => Fault::User,
            RefusalReason::Decode(_)
            | RefusalReason::NoChallenge
            | RefusalReason::Unknown(_)
            | RefusalReason::Proof(_)
            | RefusalReason::GlobalId { .. }
            | RefusalReason::NoSecretPossible
            | RefusalReason::OtherService(_)
            | RefusalReason::StaleTicket { .. }
            | RefusalReason::Undecipherable
            | RefusalReason::Expired { .. }
            | RefusalReason::Dates
            | RefusalReason::OtherTicket
            | RefusalReason::Challenge => Fault::Peer,
        }
    }
}

impl From<RefusalReason> for Refusal {
    fn from(reason: RefusalReason) -> Self {
        Refusal { errno: REFUSED_ERRNO, reason }
    }
}

impl From<Result<Step, RefusalReason>> for Step {
    fn from(result: Result<Step, RefusalReason>) -> Self {
        result.unwrap_or_else(|reason| Step::Refused(reason.into()))
    }
}
