//! Outlast through its public API, with what it does by default: lossless sessions, acknowledgements, checksums.
//! A stream is handed over by [`Session::send_many`], some KiB at a time, and the receipt of each batch's last message, which
//! speaks for the others, is kept until it has ended acknowledged; calls are [`Session::call`],
//! or a [`outlast::CallQueue`] where many are under way.

use super::Ready;
use crate::case::{Rival, Task, Workload};
use crate::work::{Driver, Item, Outcome, Pool, Sink, Step};
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use outlast::{
    Address, Auth, ConnectOptions, EntityName, EntityType, Key, Keyring, KeyringEntry, Message, Messenger,
    Receipt, Session,
};
use std::collections::VecDeque;
use std::net::SocketAddr;

const KIND: u16 = 1;
/// How many messages are taken at a time.
const TAKE: usize = 256;
/// Bytes of payload that a stream hands over together: what stays in the first cache. The other rivals collect more.
const BATCH_BYTES: usize = 32 << 10;
/// Receipts are looked at after so many batches.
const LOOK: usize = 16;
const CLIENT: &str = "bench";

fn key(task: &Task) -> Result<Key> {
    Ok(Key::from_base64(task.key.as_deref().context("no key")?)?)
}

fn client_name() -> EntityName {
    EntityName::new(EntityType::Client, CLIENT)
}

fn auth(task: &Task, auth: impl FnOnce(Key) -> Auth) -> Result<Auth> {
    Ok(if task.rival == Rival::OutlastSecure { auth(key(task)?) } else { Auth::none() })
}

pub(super) async fn serve(task: Task, ready: Ready, mut sink: Sink) -> Result<()> {
    let auth = auth(&task, |key| {
        let mut keyring = Keyring::new();
        keyring.insert(client_name(), KeyringEntry::new(key));
        Auth::keyring(keyring)
    })?;
    let messenger = Messenger::builder(EntityName::new(EntityType::Osd, "0")).auth(auth).build()?;
    let address = messenger.listen(Address::from(super::ANY)).await?;
    ready(address.ip().context("no IP address")?)?;
    let session = messenger.accept().await.context("no session")?;
    let mut messages = Vec::with_capacity(TAKE);
    let mut replies = VecDeque::with_capacity(TAKE);
    while session.recv_many(&mut messages, TAKE).await > 0 {
        for message in messages.drain(..) {
            let payload = if message.front.is_empty() { &message.data } else { &message.front };
            if let Some(reply) = sink.take(payload) {
                let data = Bytes::copy_from_slice(&reply);
                replies.push_back(Message::new(KIND).tid(message.tid).data(data));
            }
        }
        // Its receipt is of no interest: the client waits for the replies themselves.
        drop(session.send_many(&mut replies).await?);
    }
    Ok(())
}

pub(super) async fn drive(task: Task, server: SocketAddr, driver: Driver) -> Result<Outcome> {
    let messenger = Messenger::builder(client_name()).auth(auth(&task, Auth::key)?).build()?;
    let session = messenger.connect(&[Address::from(server)], ConnectOptions::lossless()).await?;
    match task.workload {
        Workload::Stream => stream(&session, driver).await,
        Workload::Call { at_a_time } => {
            let same = (task.rival == Rival::OutlastAsCeph).then(|| Bytes::from(vec![7; task.size_bytes]));
            match at_a_time {
                1 => calls_in_turn(&session, driver, same).await,
                _ => calls_together(&session, driver, same).await,
            }
        }
    }
}

async fn stream(session: &Session, mut driver: Driver) -> Result<Outcome> {
    let mut pool = Pool::default();
    let mut batch = VecDeque::new();
    let mut batch_bytes = 0;
    let mut receipts = VecDeque::new();
    let mut unlooked = 0;
    loop {
        let step = driver.step();
        if let Step::Send(item) = step {
            batch.push_back(Message::new(KIND).data(pool.bytes(item)));
            batch_bytes += item.len;
            if batch_bytes < BATCH_BYTES {
                continue;
            }
        }
        // The receipt of the last speaks for all: they are of one class.
        receipts.extend(session.send_many(&mut batch).await?);
        batch_bytes = 0;
        unlooked += 1;
        if unlooked >= LOOK {
            unlooked = 0;
            settle(&mut receipts)?;
        }
        match step {
            Step::Send(_) => {}
            Step::Wait => {
                // The answer to a mark: what came before it is acknowledged.
                let reply = session.recv().await.ok_or_else(|| anyhow!("the server has gone"))?;
                while let Some(receipt) = receipts.pop_front() {
                    receipt.await?;
                }
                driver.reply(&reply.data)?;
            }
            Step::Done => return driver.finish(),
        }
    }
}

/// Takes off the receipts that have ended.
fn settle(receipts: &mut VecDeque<Receipt>) -> Result<()> {
    while let Some(outcome) = receipts.front().and_then(Receipt::outcome) {
        outcome?;
        receipts.pop_front();
    }
    Ok(())
}

/// `same`: the data of every request, which is told by its front then.
fn request(pool: &mut Pool, item: Item, same: Option<&Bytes>) -> Message {
    let (payload, request) = (pool.bytes(item), Message::new(KIND));
    match same {
        Some(same) => request.front(payload).data(same.clone()),
        None => request.data(payload),
    }
}

async fn calls_in_turn(session: &Session, mut driver: Driver, same: Option<Bytes>) -> Result<Outcome> {
    let mut pool = Pool::default();
    let mut reply = None;
    loop {
        match driver.step() {
            Step::Send(item) => reply = Some(session.call(request(&mut pool, item, same.as_ref())).await?),
            Step::Wait => driver.reply(&reply.take().context("nothing under way")?.data)?,
            Step::Done => return driver.finish(),
        }
    }
}

async fn calls_together(session: &Session, mut driver: Driver, same: Option<Bytes>) -> Result<Outcome> {
    let mut pool = Pool::default();
    let mut calls = session.call_queue();
    loop {
        match driver.step() {
            Step::Send(item) => {
                calls.submit(request(&mut pool, item, same.as_ref())).await?;
            }
            Step::Wait => {
                let (_, reply) = calls.next().await.context("nothing under way")?;
                driver.reply(&reply?.data)?;
            }
            Step::Done => return driver.finish(),
        }
    }
}
