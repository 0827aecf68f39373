//! What can go wrong, one enum per operation.

use outlast_msgr2::{ConnectionError, EndReason, Message};
use outlast_net::BindError;
use outlast_session::LossReason;
use std::time::Duration;

/// Why a messenger could not be built: the user's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Neither [`crate::Builder::auth`] was called nor does anything go without saying: no authentication is a choice.
    #[error("say how to authenticate: Auth::key, Auth::keyring or, on a trusted network, Auth::none")]
    NoAuth,
    /// No connection mode is left: with [`crate::Auth::none`] there is no secret, hence only crc.
    #[error("no connection mode is left: without authentication only crc is possible")]
    NoMode,
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    NoRandomness,
}

/// Why a messenger does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The system would not have it.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// This messenger has only its own key, or none: it could let nobody in.
    #[error("no keyring to let clients in by: use Auth::keyring, or Auth::none")]
    NoKeyring,
    /// The messenger has been shut down.
    #[error("the messenger is shut down")]
    ShutDown,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address was given.
    #[error("no address to connect to")]
    NoAddress,
    /// The keyring has no key for the messenger's own name.
    #[error("the keyring has no key for {name}")]
    NoKey {
        /// The name.
        name: String,
    },
    /// The messenger has as many sessions as it can.
    #[error("too many sessions")]
    TooManySessions,
    /// There is one session with a peer, and this end is closing it: wait for its end ([`crate::Session::ended`]) and
    /// open another, or use [`crate::Messenger::connect`], which does so.
    #[error("the session with this peer is still closing: wait for its end")]
    Closing,
    /// Not called within a tokio runtime.
    #[error("connecting needs a tokio runtime with input, output and time enabled")]
    NoRuntime,
    /// The session was not established in time.
    #[error("not connected within {within:?}{}", last_cause(.last.as_ref()))]
    TimedOut {
        /// How long was waited ([`crate::ConnectOptions::connect_within`]).
        within: Duration,
        /// Why the last attempt failed.
        last: Option<ConnectionError>,
    },
    /// The session is over: refused by the peer, most often.
    #[error(transparent)]
    Ended(#[from] EndReason),
    /// The messenger has been shut down.
    #[error("the messenger is shut down")]
    ShutDown,
}

fn last_cause(last: Option<&ConnectionError>) -> String {
    last.map_or_else(String::new, |cause| format!(": {cause}"))
}

/// Why a message was not taken; it comes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session is over or closing.
    #[error("the session is closed")]
    Closed(Message),
    /// A part is longer than any peer takes: 16 MiB for front and middle, 64 MiB for data.
    #[error("a part of the message is too long")]
    TooLarge(Message),
}

/// Why a message was not taken at once; it comes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room, or others wait for it already.
    #[error("the session's queue is full")]
    Full(Message),
    /// The session is over or closing.
    #[error("the session is closed")]
    Closed(Message),
    /// A part is longer than any peer takes: 16 MiB for front and middle, 64 MiB for data.
    #[error("a part of the message is too long")]
    TooLarge(Message),
}

/// How a receipt ends when its message was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// It was lost with the session. The peer may have received it, if its acknowledgement was on its way.
    #[error("lost with the session: {0}")]
    Session(LossReason),
    /// Its sender took it back in time: the peer never gets it.
    #[error("revoked by its sender")]
    Revoked,
    /// The session is lossy, which its peer decides: nothing is known of its messages.
    #[error("unknown: the session is lossy")]
    Untracked,
}

/// Why a call brings no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request was not sent.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// Another call with this transaction id waits for its reply.
    #[error("transaction {tid} is already waiting for its reply")]
    TidInUse {
        /// The id.
        tid: u64,
    },
    /// The peer has lost the session and the request with it; whether it was carried out is unknown.
    #[error("the request was lost: {0}")]
    Lost(#[from] Lost),
    /// The session ended before the reply came; whether the request was carried out is unknown.
    #[error("no reply: the session is over: {0}")]
    Ended(EndReason),
}

/// What `Address` did not answer, as a connection's error.
pub(crate) fn unreachable(error: &outlast_net::ConnectError) -> ConnectionError {
    ConnectionError::Unreachable { reason: error.to_string() }
}
