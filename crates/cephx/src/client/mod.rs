//! The side that wants in: at a monitor with a key ([`MonitorLogin`]), at a service with a ticket ([`ServiceLogin`]).

mod monitor;
mod service;

pub use monitor::{Login, MonitorLogin};
pub use service::{Authorized, ServiceLogin};

use crate::crypt::Undecipherable;
use crate::secret::{CONNECTION_SECRET_BYTES_MAX, CONNECTION_SECRET_BYTES_MIN, ConnectionSecret};
use crate::wire::DecodeError;
use crate::{EntityType, Fault};

/// A login failed. It ends this connection; a login is never taken up again where it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// A message does not hold what it must.
    #[error("the answer cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// A sealed part was not made with our key, so the other end does not know it.
    #[error("{part} does not decrypt: the other end has another key, or bytes were changed")]
    Undecipherable {
        /// Which part.
        part: &'static str,
    },
    /// The monitor's answer carries an error number instead of tickets.
    #[error("the monitor answered with error {errno}")]
    Refused {
        /// The negative error number.
        errno: i32,
    },
    /// The service did not prove that it could read the nonce.
    #[error("the service answered with a wrong nonce")]
    Nonce,
    /// A secure connection was agreed, and the secret for it is too short or too long.
    #[error(
        "the connection secret has {len} bytes, not {CONNECTION_SECRET_BYTES_MIN} to {CONNECTION_SECRET_BYTES_MAX}"
    )]
    SecretLength {
        /// What came, in bytes.
        len: usize,
    },
    /// The monitor's answer has no auth ticket.
    #[error("the monitor sent no auth ticket")]
    NoAuthTicket,
    /// A ticket is sealed with the session key of an old one that was not presented.
    #[error("the {service} ticket is sealed with an old session key, but no old ticket was presented")]
    NoOldTicket {
        /// The ticket.
        service: EntityType,
    },
    /// A message came that does not belong here: a second challenge, or an end without a challenge.
    #[error("a message came out of turn")]
    OutOfTurn,
}

impl LoginError {
    /// Who is to blame. What the other end sent is the peer's fault; only the peer, or who gave both of us our keys, can
    /// mend it.
    pub fn fault(&self) -> Fault {
        match self {
            LoginError::Decode(_)
            | LoginError::Undecipherable { .. }
            | LoginError::Refused { .. }
            | LoginError::Nonce
            | LoginError::SecretLength { .. }
            | LoginError::NoAuthTicket
            | LoginError::NoOldTicket { .. }
            | LoginError::OutOfTurn => Fault::Peer,
        }
    }
}

/// Where a login stands. Both kinds take the same steps:
///
/// ```text
/// Start --request--> Requested --handle_more--> Answered --handle_done--> Ended
/// ```
///
/// Any error leads to `Ended`, and `request` leads from everywhere to `Requested`, because a server may refuse the
/// offered modes and then takes another request on the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    Requested,
    Answered,
    Ended,
}

impl Stage {
    /// Ends the stage, which must be `expected`; the caller sets another when all goes well.
    fn leave(&mut self, expected: Stage) -> Result<(), LoginError> {
        let left = std::mem::replace(self, Stage::Ended);
        if left == expected { Ok(()) } else { Err(LoginError::OutOfTurn) }
    }
}

fn undecipherable(part: &'static str) -> impl FnOnce(Undecipherable) -> LoginError {
    move |Undecipherable| LoginError::Undecipherable { part }
}

/// The secret that came, when the connection will be secure.
fn connection_secret(secure: bool, bytes: &[u8]) -> Result<Option<ConnectionSecret>, LoginError> {
    if !secure {
        return Ok(None);
    }
    ConnectionSecret::from_slice(bytes).map(Some).ok_or(LoginError::SecretLength { len: bytes.len() })
}
