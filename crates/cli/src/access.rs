//! Who we are towards the other end, and what we make of its answer.

use crate::exit::{Exit, Failure, Outcome};
use crate::keyring::file;
use crate::units;
use clap::{Args, ValueEnum};
use outlast::{
    Address, Auth, Builder, ConnectError, ConnectionError, EndReason, EntityName, EntityType, Fault,
    Lifetime, Messenger, Mode,
};
use std::path::{Path, PathBuf};

/// The port of `outlast serve`, unless another is said.
pub(crate) const DEFAULT_PORT: u16 = 13300;

/// The name of a client that proves nothing.
const ANONYMOUS: &str = "anonymous";

/// How a client proves who it is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientAuthArgs {
    /// The keyring with our key (default: ~/.config/outlast/keyring, else server.keyring beside it)
    #[arg(long, value_name = "FILE", conflicts_with = "auth")]
    pub(crate) keyring: Option<PathBuf>,
    /// Whose key of the keyring to use (the only client's in it, else client.admin)
    #[arg(long, value_name = "TYPE.ID")]
    pub(crate) name: Option<EntityName>,
    /// Without keys: for a server that was started with --auth none. Nothing is encrypted
    #[arg(long, value_enum, value_name = "METHOD")]
    pub(crate) auth: Option<AuthMethodArg>,
}

/// The methods that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuthMethodArg {
    /// Keys, and encryption
    Cephx,
    /// No keys, and no encryption
    None,
}

impl ClientAuthArgs {
    /// A messenger that proves who we are.
    pub(crate) fn builder(&self) -> Outcome<Builder> {
        if self.auth == Some(AuthMethodArg::None) {
            let name = self.name.clone().unwrap_or_else(|| EntityName::new(EntityType::Client, ANONYMOUS));
            return Ok(Messenger::builder(name).auth(Auth::none()).modes([Mode::CRC]));
        }
        let path = file::client_path(self.keyring.as_deref())?;
        if path != Path::new("-") && !path.exists() {
            let message = format!("no keyring: {} does not exist", path.display());
            return Err(Failure::failed(message).hint(
                "a key of our own making would be of no use; the server's owner gives one out with\n\
                 outlast keyring show SERVER.KEYRING NAME --keyring",
            ));
        }
        let keyring = file::read(&path)?;
        file::warn_if_open(&path);
        let (name, key) = file::choose(&keyring, &path, self.name.as_ref())?;
        Ok(Messenger::builder(name).auth(Auth::key(key)))
    }
}

/// What `serve` calls itself. An Outlast listener takes a monitor's part: it lets in by key.
pub(crate) fn server_name() -> EntityName {
    EntityName::new(EntityType::Mon, "outlast")
}

/// What to tell the user when no session came about.
#[expect(clippy::wildcard_enum_match_arm, reason = "what has no advice of its own is told as it is")]
pub(crate) fn connect_failure(address: &Address, error: &ConnectError) -> Failure {
    match error {
        ConnectError::TimedOut { last: Some(cause), .. } => {
            let mut failure = connection_failure(address, cause);
            if failure.exit() == Exit::Failed {
                failure = Failure::new(Exit::Unreachable, format!("{address}: {error}"));
            }
            failure
        }
        ConnectError::TimedOut { last: None, .. } => {
            Failure::new(Exit::Unreachable, format!("{address}: no answer in time"))
        }
        ConnectError::Ended(reason) => end_failure(address, reason),
        other => Failure::failed(format!("{address}: {other}")),
    }
}

/// What to tell the user when a session ended before it should.
#[expect(clippy::wildcard_enum_match_arm, reason = "what has no advice of its own is told as it is")]
pub(crate) fn end_failure(address: &Address, reason: &EndReason) -> Failure {
    match reason {
        EndReason::Refused(cause) | EndReason::ConnectionLost(cause) => connection_failure(address, cause),
        EndReason::Expired => {
            Failure::new(Exit::Unreachable, format!("{address}: no connection within the session's lifetime"))
                .hint("run the same command again: what has arrived is not sent a second time")
        }
        other => Failure::failed(format!("{address}: the session ended: {other}")),
    }
}

/// What to tell the user about a connection that did not come about.
#[expect(clippy::wildcard_enum_match_arm, reason = "what has no advice of its own is told as it is")]
fn connection_failure(address: &Address, cause: &ConnectionError) -> Failure {
    match cause {
        ConnectionError::AuthRefused { result: -95, .. } | ConnectionError::NoCommonMethod => Failure::new(
            Exit::Refused,
            format!("{address} does not let us in this way: {cause}"),
        )
        .hint(
            "a server with keys wants --keyring, one without wants --auth none; `outlast probe` tells which",
        ),
        ConnectionError::AuthRefused { .. } => Failure::new(
            Exit::Refused,
            format!("{address} refuses our key: it does not know the name, or knows it with another key"),
        )
        .hint("see what the server's keyring has: outlast keyring list FILE"),
        ConnectionError::Auth(_) | ConnectionError::Signature => Failure::new(
            Exit::Refused,
            format!("{address} could not prove that it knows our key ({cause}); nothing was sent to it"),
        ),
        ConnectionError::Banner(_) => Failure::failed(format!("{address} is no msgr2 endpoint: {cause}")),
        ConnectionError::Unreachable { reason } => Failure::new(Exit::Unreachable, reason.clone())
            .hint("is `outlast serve` running there, on this port?"),
        ConnectionError::HandshakeTimeout { .. } | ConnectionError::Lost { .. } | ConnectionError::Silent => {
            Failure::new(Exit::Unreachable, format!("{address}: {cause}"))
        }
        other => {
            let exit = if other.fault() == Fault::User { Exit::Refused } else { Exit::Failed };
            Failure::new(exit, format!("{address}: {other}"))
        }
    }
}

/// Reads an address whose port goes without saying.
pub(crate) fn parse_address(text: &str) -> Result<Address, String> {
    Address::parse_with_port(text, DEFAULT_PORT).map_err(|e| e.to_string())
}

/// Reads how long a session goes on without a connection.
pub(crate) fn parse_lifetime(text: &str) -> Result<Lifetime, String> {
    Ok(units::parse_lifetime(text)?.map_or(Lifetime::Forever, Lifetime::For))
}
