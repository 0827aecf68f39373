//! Why a connection or a session ended, and whose doing it was.

use crate::connection::State;
use crate::frame::{EncodeError, FrameError, TranscriptOverflow};
use crate::wire::{AuthMethod, BannerError, ConnectionMode, DecodeError};
use outlast_session::AckError;
use std::net::IpAddr;

/// Who has to mend something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The other end sent what it must not, or cannot do what is asked.
    Peer,
    /// Configuration on this end: a wrong key, a wrong address, features asked for in vain.
    User,
    /// The network between them, or time.
    Environment,
}

/// Why a connection died. The session survives every one of these, unless [`ConnectionError::is_refusal`] says that
/// dialling again cannot help and the session never was established.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The stream ended or the socket failed.
    #[error("the connection was lost in state {state}")]
    Lost {
        /// Where the connection stood.
        state: State,
    },
    /// This machine has moved to another network and left the connection behind.
    #[error("this machine has moved from {from} to {to}")]
    Moved {
        /// The local address that the connection had.
        from: IpAddr,
        /// The one that a new connection to the same peer gets.
        to: IpAddr,
    },
    /// The transport could not be opened.
    #[error("no connection could be opened: {reason}")]
    Unreachable {
        /// What the system said.
        reason: String,
    },
    /// The handshake took too long.
    #[error("the handshake stood still in state {state}")]
    HandshakeTimeout {
        /// Where it stood.
        state: State,
    },
    /// Nothing was heard for the grace period.
    #[error("the peer has been silent for too long")]
    Silent,
    /// The peer spoke, but not msgr2.
    #[error("not a msgr2 banner: {0}")]
    Banner(#[from] BannerError),
    /// The peer requires msgr2 features that this end does not have.
    #[error("the peer requires msgr2 features {missing:#x}, which this end lacks")]
    PeerRequires {
        /// The bits.
        missing: u64,
    },
    /// This end requires msgr2 features that the peer does not have.
    #[error("the peer lacks the required msgr2 features {missing:#x}")]
    PeerLacks {
        /// The bits.
        missing: u64,
    },
    /// A frame broke the rules.
    #[error("a broken frame from the peer: {0}")]
    Frame(#[from] FrameError),
    /// A payload broke the rules.
    #[error("a broken payload from the peer: {0}")]
    Decode(#[from] DecodeError),
    /// A frame came that this state does not know.
    #[error("an unexpected {tag} frame in state {state}")]
    Unexpected {
        /// Its tag.
        tag: crate::frame::Tag,
        /// Where the connection stood.
        state: State,
    },
    /// The peer is of another type than the one that was dialled.
    #[error("dialled an entity of type {wanted:#x}, found type {found:#x}")]
    WrongType {
        /// What was expected.
        wanted: u8,
        /// What its HELLO says.
        found: u8,
    },
    /// The peer did not accept our credential or proof.
    #[error("the peer refused {method}: {}", refusal(*.result))]
    AuthRefused {
        /// The method that was tried.
        method: AuthMethod,
        /// A negative errno: -13 wrong key, name or ticket; -95 method or mode not allowed.
        result: i32,
    },
    /// Nothing that both ends allow is left to try, or [`crate::connection::AUTH_ROUNDS_MAX`] rounds were not enough to
    /// find it.
    #[error("no authentication method and connection mode that both ends allow")]
    NoCommonMethod,
    /// The peer chose a mode that was not offered: a downgrade or a broken peer.
    #[error("the peer chose connection mode {0}, which was not offered")]
    ModeNotOffered(ConnectionMode),
    /// The peer could not prove that it holds the key.
    #[error("the peer failed authentication: {0}")]
    Auth(#[from] outlast_cephx::client::LoginError),
    /// The signature does not cover what this end sent: somebody changed the handshake.
    #[error("the handshake was tampered with: its signature does not match")]
    Signature,
    /// More was said before authentication than any peer needs.
    #[error("the handshake is longer than {limit} bytes")]
    HandshakeTooLong {
        /// The bound.
        limit: usize,
    },
    /// The peer granted compression that was not asked for.
    #[error("the peer chose a compression that was not offered")]
    CompressionNotOffered,
    /// CLIENT_IDENT names another target than this process.
    #[error("the peer looked for {wanted}, which is not this process")]
    WrongTarget {
        /// Where it wanted to go.
        wanted: String,
    },
    /// SERVER_IDENT does not hold the address that was dialled.
    #[error("dialled {dialled}, but the peer calls itself {found}")]
    WrongPeer {
        /// What was dialled.
        dialled: String,
        /// What the peer says it is.
        found: String,
    },
    /// The peer has no usable address.
    #[error("the peer did not say its address")]
    BlankAddress,
    /// The name claimed in the ident is not the one that the credential is for.
    #[error(
        "the peer authenticated as {authenticated} but claims to be type {claimed_type:#x} number {claimed}"
    )]
    NameNotAllowed {
        /// The credential's name.
        authenticated: String,
        /// The type in HELLO.
        claimed_type: u8,
        /// The number in the ident.
        claimed: i64,
    },
    /// The acceptor wants Ceph features that this end does not have.
    #[error("missing features {missing:#x}")]
    MissingFeatures {
        /// The bits.
        missing: u64,
    },
    /// The acceptor says that its own connection to us shall carry the session.
    #[error("told to wait for the peer's own connection")]
    Wait,
    /// A newer connection carries the session.
    #[error("another connection took the session over")]
    Superseded,
    /// A connection attempt that is older than what the acceptor knows.
    #[error("a stale attempt: its global_seq is {offered}, the session's {known}")]
    Stale {
        /// What it offered.
        offered: u64,
        /// What is known.
        known: u64,
    },
    /// The peer acknowledged what was never sent.
    #[error("{0}")]
    Ack(#[from] AckError),
    /// Numbers with a hole, where none are allowed.
    #[error("message {got} came where {expected} was due")]
    Gap {
        /// The number due.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// The keys of this connection have served long enough; the next one has fresh keys.
    #[error("the connection's nonces are used up; it will be replaced")]
    Rekey,
    /// Something of ours cannot be said in this protocol.
    #[error("cannot encode: {0}")]
    Encode(#[from] EncodeError),
    /// The ends did not find the session that both know: the acceptor asked for a 17th retry, or the dialler introduced
    /// itself for the 17th time on one connection.
    #[error("no session was agreed on in {limit} rounds")]
    TooManyRetries {
        /// [`crate::connection::RETRIES_MAX`].
        limit: u32,
    },
    /// The session is over; its connections go with it.
    #[error("the session ended")]
    SessionEnded,
    /// The peer ended the session in an orderly way.
    #[error("the peer closed the session")]
    PeerClosed,
    /// This end cannot take another session now.
    #[error("too many sessions")]
    TooManySessions,
    /// The peer's name has as many sessions at this end as one name may. The peer mends it by closing those that it does
    /// not need; this end, if they are all needed, by a higher [`crate::EndpointConfig::sessions_per_name_max`].
    #[error(
        "the peer's name has {limit} sessions here already, as many as one may: \
         let it close some, or raise the bound at this end"
    )]
    TooManySessionsOfName {
        /// The bound.
        limit: usize,
    },
}

/// `EACCES`, Ceph's answer to whatever is wrong with a name, a key or a ticket.
const ACCESS_ERRNO: i32 = -13;
/// `EOPNOTSUPP`, Ceph's answer to a method or modes that it does not allow.
const NOT_SUPPORTED_ERRNO: i32 = -95;

/// What the number in a refusal means. The peer does not say which of the causes it was, so that nobody can try names.
fn refusal(result: i32) -> String {
    match result {
        ACCESS_ERRNO => format!(
            "it does not know the name, has another key for it or does not take the ticket (EACCES, error {result})"
        ),
        NOT_SUPPORTED_ERRNO => {
            format!("it does not allow this method or connection mode (EOPNOTSUPP, error {result})")
        }
        _ => format!("error {result}"),
    }
}

impl From<TranscriptOverflow> for ConnectionError {
    fn from(overflow: TranscriptOverflow) -> Self {
        Self::HandshakeTooLong { limit: overflow.limit }
    }
}

impl ConnectionError {
    /// Who has to mend something.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Lost { .. }
            | Self::Moved { .. }
            | Self::Unreachable { .. }
            | Self::HandshakeTimeout { .. }
            | Self::Silent
            | Self::Wait
            | Self::Superseded
            | Self::Stale { .. }
            | Self::Rekey
            | Self::SessionEnded
            | Self::TooManySessions => Fault::Environment,
            Self::WrongType { .. }
            | Self::AuthRefused { .. }
            | Self::NoCommonMethod
            | Self::WrongPeer { .. }
            | Self::MissingFeatures { .. }
            | Self::PeerRequires { .. }
            | Self::Encode(_) => Fault::User,
            Self::Banner(_)
            | Self::PeerLacks { .. }
            | Self::Frame(_)
            | Self::Decode(_)
            | Self::Unexpected { .. }
            | Self::ModeNotOffered(_)
            | Self::Auth(_)
            | Self::Signature
            | Self::HandshakeTooLong { .. }
            | Self::CompressionNotOffered
            | Self::WrongTarget { .. }
            | Self::BlankAddress
            | Self::NameNotAllowed { .. }
            | Self::Ack(_)
            | Self::Gap { .. }
            | Self::TooManyRetries { .. }
            | Self::PeerClosed
            | Self::TooManySessionsOfName { .. } => Fault::Peer,
        }
    }

    /// Dialling again with the same configuration would meet the same answer.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Banner(_)
            | Self::PeerRequires { .. }
            | Self::PeerLacks { .. }
            | Self::WrongType { .. }
            | Self::AuthRefused { .. }
            | Self::NoCommonMethod
            | Self::ModeNotOffered(_)
            | Self::Auth(_)
            | Self::WrongPeer { .. }
            | Self::MissingFeatures { .. }
            | Self::Encode(_) => true,
            Self::Lost { .. }
            | Self::Moved { .. }
            | Self::Unreachable { .. }
            | Self::HandshakeTimeout { .. }
            | Self::Silent
            | Self::Frame(_)
            | Self::Decode(_)
            | Self::Unexpected { .. }
            | Self::Signature
            | Self::HandshakeTooLong { .. }
            | Self::CompressionNotOffered
            | Self::WrongTarget { .. }
            | Self::BlankAddress
            | Self::NameNotAllowed { .. }
            | Self::Wait
            | Self::Superseded
            | Self::Stale { .. }
            | Self::Ack(_)
            | Self::Gap { .. }
            | Self::Rekey
            | Self::TooManyRetries { .. }
            | Self::SessionEnded
            | Self::PeerClosed
            | Self::TooManySessions
            | Self::TooManySessionsOfName { .. } => false,
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The application closed it; everything queued before had been acknowledged.
    #[error("closed")]
    Closed,
    /// The application closed it and the time to drain ran out.
    #[error("closed before everything was acknowledged")]
    ClosedUndrained,
    /// The peer closed it.
    #[error("closed by the peer")]
    PeerClosed,
    /// It was without a connection for longer than its lifetime.
    #[error("expired: no connection within the session's lifetime")]
    Expired,
    /// The peer will not have it; dialling again cannot help.
    #[error("refused: {0}")]
    Refused(ConnectionError),
    /// A lossy session dies with its connection.
    #[error("the connection of a lossy session was lost: {0}")]
    ConnectionLost(ConnectionError),
    /// The peer came back as a new incarnation and the lossy session was replaced.
    #[error("replaced by a new session of the same peer")]
    Replaced,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_its_number_means() {
        let said = |method, result| ConnectionError::AuthRefused { method, result }.to_string();
        assert_eq!(
            said(AuthMethod::CEPHX, -13),
            "the peer refused cephx: it does not know the name, has another key for it or does not take the ticket \
             (EACCES, error -13)"
        );
        assert_eq!(
            said(AuthMethod::NONE, -95),
            "the peer refused none: it does not allow this method or connection mode (EOPNOTSUPP, error -95)"
        );
        assert_eq!(said(AuthMethod::CEPHX, -1), "the peer refused cephx: error -1");
    }
}
