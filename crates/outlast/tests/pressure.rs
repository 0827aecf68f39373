//! Queues that are full: senders wait, nothing is dropped, nothing grows beyond its bounds.

mod common;

use common::*;
use outlast::{LivenessConfig, Message, OutboxLimits, SessionOptions, TrySendError};
use std::time::Duration;

fn kilobytes(number: u64) -> Message {
    numbered(number).data(vec![0; 1 << 10])
}

async fn narrow_pair() -> Pair {
    let keyring = keyring();
    let server = server(Mode::Secure, &keyring).accepted(SessionOptions::server().inbound(64, 64 << 10));
    let client = client(Mode::Secure, &keyring);
    let options = lossless().outbox(OutboxLimits { bytes_max: 64 << 10, messages_max: 50 });
    pair_of(server.build().expect("valid"), client.build().expect("valid"), loopback(), options).await
}

#[tokio::test]
async fn a_slow_receiver_makes_the_sender_wait_and_loses_nothing() {
    const COUNT: u64 = 5_000;
    let pair = narrow_pair().await;
    let ours = pair.ours.clone();
    let sender = tokio::spawn(async move {
        let mut most = 0;
        for number in 0..COUNT {
            drop(ours.send(kilobytes(number)).await.expect("sent"));
            let stats = ours.stats();
            most = most.max(stats.unacked_messages + stats.pending_messages);
        }
        most
    });
    // Nobody receives: what can be in flight is, and then the sender stands still.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!sender.is_finished(), "the sender waits");
    let waiting = pair.theirs.stats().inbound_messages;
    assert!((1..=64).contains(&waiting), "bounded: {waiting}");
    for number in 0..COUNT {
        assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), number);
    }
    let most = within(sender).await.expect("all sent");
    assert!(most <= 50, "the outbox kept its bound: {most}");
    assert_eq!(pair.ours.stats().counters.reconnects, 0);
}

#[tokio::test]
async fn a_receiver_that_is_slower_than_the_keepalives_keeps_its_connection() {
    let keyring = keyring();
    let liveness = LivenessConfig { interval: Duration::from_millis(20), grace: Duration::from_millis(60) };
    let server = server(Mode::Crc, &keyring)
        .accepted(SessionOptions::server().inbound(8, 8 << 10))
        .liveness(liveness)
        .build()
        .expect("valid");
    let client = client(Mode::Crc, &keyring).liveness(liveness).build().expect("valid");
    let pair = pair_of(server, client, loopback(), lossless()).await;
    let ours = pair.ours.clone();
    let sender = tokio::spawn(async move {
        for number in 0..600 {
            drop(ours.send(kilobytes(number)).await.expect("queued"));
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(pair.theirs.stats().inbound_messages <= 9);
    for number in 0..600 {
        assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), number);
    }
    within(sender).await.expect("no panic");
    assert_eq!(pair.ours.stats().connects, 1, "nobody took the other for dead");
}

#[tokio::test]
async fn a_send_that_is_cancelled_has_not_queued_its_message() {
    let pair = narrow_pair().await;
    let mut number = 0;
    // Fill everything up.
    while tokio::time::timeout(Duration::from_millis(100), pair.ours.send(kilobytes(number))).await.is_ok() {
        number += 1;
    }
    assert!(
        matches!(pair.ours.try_send(kilobytes(number)), Err(TrySendError::Full(m)) if number_of(&m) == number)
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(20), pair.ours.send(kilobytes(u64::MAX))).await.is_err()
    );
    let ours = pair.ours.clone();
    let last = tokio::spawn(async move { ours.send(kilobytes(number)).await.map(drop) });
    for expected in 0..=number {
        assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), expected);
    }
    within(last).await.expect("no panic").expect("sent when there was room");
}

#[tokio::test]
async fn senders_are_served_in_turn_and_a_large_message_is_not_starved() {
    let pair = narrow_pair().await;
    let mut number = 0;
    while tokio::time::timeout(Duration::from_millis(100), pair.ours.send(kilobytes(number))).await.is_ok() {
        number += 1;
    }
    let ours = pair.ours.clone();
    let large =
        tokio::spawn(async move { ours.send(numbered(1 << 40).data(vec![0; 60 << 10])).await.map(drop) });
    tokio::task::yield_now().await;
    let ours = pair.ours.clone();
    let small = tokio::spawn(async move {
        for _ in 0..100 {
            drop(ours.send(kilobytes(1 << 41)).await.expect("sent"));
        }
    });
    for expected in 0..number {
        assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), expected);
    }
    assert_eq!(
        number_of(&within(pair.theirs.recv()).await.expect("a message")),
        1 << 40,
        "first come first served"
    );
    for _ in 0..100 {
        assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), 1 << 41);
    }
    within(large).await.expect("no panic").expect("sent");
    within(small).await.expect("no panic");
}

#[tokio::test]
async fn a_message_larger_than_the_whole_queue_passes_alone() {
    let pair = narrow_pair().await;
    let receipt =
        within(pair.ours.send(numbered(1).data(vec![3; 300 << 10]))).await.expect("taken when empty");
    let message = within(pair.theirs.recv()).await.expect("a message");
    assert!(message.data.len() == 300 << 10 && message.data.iter().all(|b| *b == 3));
    within(receipt).await.expect("acknowledged");
}
