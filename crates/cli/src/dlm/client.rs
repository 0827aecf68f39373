//! Asking the member of this machine.

use super::SocketArgs;
use super::protocol::{Reply, Request};
use crate::exit::{Context as _, Exit, Failure, Outcome};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// An answer has at most so many bytes: a few hundred thousand resources.
const REPLY_BYTES_MAX: u64 = 256 << 20;

/// A connection to the member.
pub(super) struct Asked {
    stream: BufReader<UnixStream>,
}

impl Asked {
    /// Asks, and keeps the connection: a lock is held as long as it is open.
    pub(super) async fn ask(socket: &SocketArgs, request: &Request) -> Outcome<Self> {
        let path = socket.socket.display();
        let stream = UnixStream::connect(&socket.socket).await.map_err(|error| {
            Failure::new(Exit::Unreachable, format!("no member answers at {path}: {error}"))
                .hint("start one with `outlast dlm node`, or say with --socket where it is asked")
        })?;
        let mut stream = BufReader::new(stream);
        let mut line = serde_json::to_vec(request).context("cannot ask")?;
        line.push(b'\n');
        stream.write_all(&line).await.context("cannot ask")?;
        Ok(Self { stream })
    }

    /// The answer.
    pub(super) async fn reply(&mut self) -> Outcome<Reply> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(REPLY_BYTES_MAX);
        let length = limited.read_until(b'\n', &mut line).await.context("the member")?;
        if length == 0 {
            return Err(Failure::new(Exit::Unreachable, "the member has ended"));
        }
        let reply = serde_json::from_slice(&line).context("the member speaks otherwise than this command")?;
        if let Reply::Failed { error } = reply { Err(Failure::failed(error)) } else { Ok(reply) }
    }
}

/// Asks for one answer.
pub(super) async fn ask(socket: &SocketArgs, request: &Request) -> Outcome<Reply> {
    Asked::ask(socket, request).await?.reply().await
}

pub(super) fn unexpected(reply: &Reply) -> Failure {
    Failure::failed(format!("the member answers something else: {reply:?}"))
}
