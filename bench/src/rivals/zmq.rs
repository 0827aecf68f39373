//! The crate `zeromq`: PUSH to PULL for the messages, and another such pair back for the replies. (DEALER and ROUTER
//! carry an identity with every message, and were slower.)
//!
//! A socket's queue is bounded in messages only, so the sender waits for credit, as ZeroMQ's guide advises.

use super::Ready;
use crate::work::{Driver, Outcome, Pool, Sink, Step};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::FutureExt;
use std::net::SocketAddr;
use zeromq::{Endpoint, PullSocket, PushSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

/// The first message says where the replies go.
const RENDEZVOUS: &str = "tcp://127.0.0.1:0";

fn address(endpoint: &Endpoint) -> Result<SocketAddr> {
    match endpoint {
        Endpoint::Tcp(host, port) => Ok(format!("{host}:{port}").parse()?),
        other => anyhow::bail!("{other} is no TCP endpoint"),
    }
}

fn payload(message: &ZmqMessage) -> Result<&Bytes> {
    message.get(0).context("a message without a frame")
}

pub(super) async fn serve(ready: Ready, mut sink: Sink) -> Result<()> {
    let mut pull = PullSocket::new();
    ready(address(&pull.bind(RENDEZVOUS).await?)?)?;
    let back = pull.recv().await?;
    let mut push = PushSocket::new();
    push.connect(std::str::from_utf8(payload(&back)?)?).await?;
    while let Ok(message) = pull.recv().await {
        if let Some(reply) = sink.take(payload(&message)?) {
            push.send(Bytes::copy_from_slice(&reply).into()).await?;
        }
    }
    Ok(())
}

pub(super) async fn drive(server: SocketAddr, mut driver: Driver) -> Result<Outcome> {
    let mut pull = PullSocket::new();
    let back = address(&pull.bind(RENDEZVOUS).await?)?;
    let mut push = PushSocket::new();
    push.connect(&format!("tcp://{server}")).await?;
    push.send(format!("tcp://{back}").into()).await?;
    let mut pool = Pool::default();
    loop {
        match driver.step() {
            Step::Send(item) => push.send(pool.bytes(item).into()).await?,
            Step::Wait => {
                driver.reply(payload(&pull.recv().await?)?)?;
                while let Some(reply) = pull.recv().now_or_never() {
                    driver.reply(payload(&reply?)?)?;
                }
            }
            Step::Done => return driver.finish(),
        }
    }
}
