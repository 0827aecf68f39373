//! Connections that are cut: every message arrives once and in order, and receipts tell the truth.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails on whatever else comes")]

mod common;

use common::relay::Relay;
use common::*;
use outlast::{Message, Session, SessionEvent};
use std::time::Duration;

/// Sends `count` messages of changing size and waits for their receipts.
async fn send_all(session: Session, count: u64) {
    let mut receipts = Vec::new();
    for number in 0..count {
        let data = vec![number.to_le_bytes()[0]; (number as usize * 977) % 20_000];
        let message = Message::new(7).front(number.to_le_bytes().to_vec()).data(data);
        receipts.push(session.send(message).await.expect("the session goes on"));
    }
    for receipt in receipts {
        receipt.await.expect("acknowledged");
    }
}

async fn receive_all(session: &Session, count: u64) {
    for number in 0..count {
        let message = session.recv().await.expect("a message");
        assert_eq!(number_of(&message), number, "once and in order");
        let len = (number as usize * 977) % 20_000;
        assert!(message.data.len() == len && message.data.iter().all(|b| *b == number.to_le_bytes()[0]));
    }
}

async fn both_ways_through_cuts(mode: Mode, seed: u64, bytes: std::ops::Range<u64>, cuts: u64, count: u64) {
    let keyring = keyring();
    let (server, client) =
        (server(mode, &keyring).build().expect("valid"), client(mode, &keyring).build().expect("valid"));
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, seed, bytes, cuts).await;
    let ours =
        within(client.connect(std::slice::from_ref(&relay.address), lossless())).await.expect("connected");
    let theirs = within(server.accept()).await.expect("a session");
    let senders =
        [tokio::spawn(send_all(ours.clone(), count)), tokio::spawn(send_all(theirs.clone(), count))];
    within(async { tokio::join!(receive_all(&theirs, count), receive_all(&ours, count)) }).await;
    for sender in senders {
        within(sender).await.expect("every receipt came true");
    }
    assert_eq!(relay.cuts(), cuts, "every cut that was planned was made");
    let stats = ours.stats();
    assert!(stats.connects > cuts / 2, "{stats:?}");
    assert_eq!(stats.counters.resets, 0);
    assert_eq!(
        (stats.counters.messages_received, stats.unacked_messages + stats.pending_messages),
        (count, 0)
    );
    assert!(server.sessions().len() == 1 && client.sessions().len() == 1);
    drop(theirs);
}

#[tokio::test]
async fn cut_while_messages_flow_without_encryption() {
    both_ways_through_cuts(Mode::Crc, 1, 2_000..200_000, 40, 1500).await;
}

#[tokio::test]
async fn cut_while_messages_flow_encrypted() {
    both_ways_through_cuts(Mode::Secure, 2, 2_500..200_000, 40, 1500).await;
}

#[tokio::test]
async fn cut_in_the_handshake_again_and_again() {
    both_ways_through_cuts(Mode::Secure, 3, 1..3_000, 60, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cut_with_both_ends_on_many_threads() {
    both_ways_through_cuts(Mode::Secure, 4, 2_500..300_000, 40, 1500).await;
}

#[tokio::test]
async fn an_interruption_and_the_resumption_are_told() {
    let keyring = keyring();
    let (server, client) = (
        server(Mode::Secure, &keyring).build().expect("valid"),
        client(Mode::Secure, &keyring).build().expect("valid"),
    );
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, 5, 1..2, 0).await;
    let ours =
        within(client.connect(std::slice::from_ref(&relay.address), lossless())).await.expect("connected");
    let _theirs = within(server.accept()).await.expect("a session");
    let mut events = ours.events();
    assert_eq!(within(events.next()).await, Some(SessionEvent::Connected));
    relay.close();
    assert!(matches!(within(events.next()).await, Some(SessionEvent::Interrupted { .. })));
    assert!(matches!(within(events.next()).await, Some(SessionEvent::AttemptFailed { .. })));
    let receipt = ours.send(numbered(1)).await.expect("queued meanwhile");
    assert_eq!(receipt.outcome(), None);
    tokio::time::sleep(Duration::from_millis(30)).await;
    relay.open();
    loop {
        match within(events.next()).await.expect("the session goes on") {
            SessionEvent::AttemptFailed { .. } => {}
            SessionEvent::Resumed { replayed, away } => {
                assert_eq!(replayed, 0, "the message never had a number before");
                assert!(away >= Duration::from_millis(30), "{away:?}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    within(receipt).await.expect("acknowledged");
}
