//! How sessions begin, go through bad times, and end.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test fails on whatever else comes")]

mod common;

use common::relay::Relay;
use common::*;
use outlast::{
    Address, Auth, Clock, ConnectError, ConnectOptions, ConnectionError, EndReason, EntityName, EntityType,
    KeyringEntry, Lifetime, LossReason, Lost, Message, Messenger, Profile, SessionEvent, SessionOptions,
    Status, generate_key,
};
use std::time::Duration;

#[tokio::test]
async fn a_wrong_key_is_refused_clearly_and_not_tried_for_ever() {
    let server = server(Mode::Secure, &keyring()).build().expect("valid");
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, 1, 1..2, 0).await;
    let other = client(Mode::Secure, &keyring()).build().expect("valid");
    let error = within(other.connect(std::slice::from_ref(&relay.address), lossless()))
        .await
        .expect_err("another key");
    let ConnectError::Ended(EndReason::Refused(ConnectionError::AuthRefused { result: -13, .. })) = error
    else {
        panic!("{error:?}");
    };
    assert!(error.to_string().contains("refused"), "{error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(relay.connections(), 1, "the answer would be the same");
    assert!(other.sessions().is_empty() && server.sessions().is_empty());
}

#[tokio::test]
async fn a_name_that_the_keyring_lacks_is_refused() {
    let keyring = keyring();
    let server = server(Mode::Secure, &keyring).build().expect("valid");
    let address = server.listen(loopback()).await.expect("listening");
    let stranger = EntityName::new(EntityType::Client, "stranger");
    let key = generate_key().expect("randomness");
    let client = Messenger::builder(stranger).auth(Auth::key(key)).build().expect("valid");
    let error = within(client.connect(&[address], lossless())).await.expect_err("not in the keyring");
    assert!(matches!(error, ConnectError::Ended(EndReason::Refused(_))), "{error:?}");
}

#[tokio::test]
async fn a_server_without_authentication_is_not_taken_for_one_with() {
    let server = server(Mode::Crc, &keyring()).build().expect("valid");
    let address = server.listen(loopback()).await.expect("listening");
    let client = client(Mode::Secure, &keyring()).build().expect("valid");
    let error = within(client.connect(&[address], lossless())).await.expect_err("no downgrade");
    assert!(matches!(error, ConnectError::Ended(EndReason::Refused(_))), "{error:?}");
}

#[tokio::test]
async fn a_server_that_was_restarted_has_forgotten_the_session() {
    let keyring = keyring();
    let mut first = Process::serve(Mode::Secure, &keyring, loopback());
    let client = client(Mode::Secure, &keyring).build().expect("valid");
    let ours =
        within(client.connect(std::slice::from_ref(&first.address), lossless())).await.expect("connected");
    let mut events = ours.events();
    let arrived = ours.send(numbered(1)).await.expect("sent");
    within(arrived).await.expect("acknowledged");
    first.kill();
    until(|| matches!(ours.status(), Status::Interrupted { .. })).await;
    let lost = ours.send(numbered(2)).await.expect("queued");
    let second = Process::serve(Mode::Secure, &keyring, first.address.clone());
    assert_eq!(within(lost).await, Err(Lost::Session(LossReason::Reset)));
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(SessionEvent::Resumed { .. })) {
        seen.push(within(events.next()).await.expect("the session goes on"));
    }
    assert_eq!(seen.first(), Some(&SessionEvent::Connected));
    assert!(seen.contains(&SessionEvent::Reset { lost: 1 }), "{seen:?}");
    let goes_on = ours.send(numbered(3)).await.expect("sent");
    within(goes_on).await.expect("the session goes on with the new server");
    assert_eq!(second.server.sessions().len(), 1);
}

#[tokio::test]
async fn a_target_that_is_down_is_dialled_until_it_is_up() {
    let keyring = keyring();
    let mut held = Process::serve(Mode::Crc, &keyring, loopback());
    let address = held.address.clone();
    held.kill();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let client = client(Mode::Crc, &keyring).build().expect("valid");
    let error = client
        .connect(std::slice::from_ref(&address), lossless().connect_within(Duration::from_millis(100)))
        .await;
    let Err(ConnectError::TimedOut { last: Some(ConnectionError::Unreachable { reason }), .. }) = error
    else {
        panic!("{error:?}");
    };
    assert!(reason.contains(&address.to_string()) && reason.contains("refused"), "{reason}");
    until(|| client.sessions().is_empty()).await;
    // Queued before there is anybody.
    let ours = client.open(std::slice::from_ref(&address), lossless()).expect("opened");
    let receipt = ours.send(numbered(1)).await.expect("queued");
    assert_eq!(ours.status(), Status::Connecting);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _up = Process::serve(Mode::Crc, &keyring, address);
    within(receipt).await.expect("acknowledged");
    assert_eq!(ours.status(), Status::Connected);
}

#[tokio::test]
async fn the_second_address_is_tried_when_the_first_is_dead() {
    let keyring = keyring();
    let mut dead = Process::serve(Mode::Crc, &keyring, loopback());
    dead.kill();
    let alive = Process::serve(Mode::Crc, &keyring, loopback());
    let client = client(Mode::Crc, &keyring).build().expect("valid");
    let addresses = [dead.address.clone(), alive.address.clone()];
    let ours = within(client.connect(&addresses, lossless())).await.expect("connected");
    assert_eq!(ours.peer_info().address, Some(alive.address.clone()));
}

#[tokio::test]
async fn a_session_expires_on_the_dialling_end() {
    let keyring = keyring();
    let (server, client) = (
        server(Mode::Secure, &keyring).build().expect("valid"),
        client(Mode::Secure, &keyring).build().expect("valid"),
    );
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, 1, 1..2, 0).await;
    let options = lossless().lifetime(Lifetime::For(Duration::from_millis(100)));
    let ours =
        within(client.connect(std::slice::from_ref(&relay.address), options)).await.expect("connected");
    relay.close();
    until(|| matches!(ours.status(), Status::Interrupted { .. })).await;
    let receipt = ours.send(numbered(1)).await.expect("queued");
    assert_eq!(within(ours.ended()).await, EndReason::Expired);
    assert_eq!(within(receipt).await, Err(Lost::Session(LossReason::Expired)));
    assert!(within(ours.recv()).await.is_none());
    assert!(matches!(ours.send(numbered(2)).await, Err(outlast::SendError::Closed(_))));
    until(|| client.sessions().is_empty()).await;
}

#[tokio::test]
async fn a_session_that_expired_on_the_accepting_end_is_told_to_whoever_comes_back() {
    let keyring = keyring();
    let options = SessionOptions::server().lifetime(Lifetime::For(Duration::from_millis(50)));
    let server = server(Mode::Secure, &keyring).accepted(options).build().expect("valid");
    let client = client(Mode::Secure, &keyring).build().expect("valid");
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, 1, 1..2, 0).await;
    let ours =
        within(client.connect(std::slice::from_ref(&relay.address), lossless())).await.expect("connected");
    let theirs = within(server.accept()).await.expect("a session");
    let mut events = ours.events();
    relay.close();
    assert_eq!(within(theirs.ended()).await, EndReason::Expired);
    until(|| server.sessions().is_empty()).await;
    relay.open();
    let mut reset = false;
    loop {
        match within(events.next()).await.expect("the session goes on") {
            SessionEvent::Reset { lost: 0 } => reset = true,
            SessionEvent::Resumed { .. } => break,
            SessionEvent::Connected
            | SessionEvent::Interrupted { .. }
            | SessionEvent::AttemptFailed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(reset, "not by silence");
    let again = within(server.accept()).await.expect("a new session");
    drop(ours.send(numbered(1)).await.expect("sent"));
    assert_eq!(number_of(&within(again.recv()).await.expect("a message")), 1);
}

#[tokio::test]
async fn the_time_that_the_machine_slept_counts_for_the_lifetime() {
    let keyring = keyring();
    let clock = Clock::new();
    let (server, client) = (
        server(Mode::Crc, &keyring).build().expect("valid"),
        client(Mode::Crc, &keyring).clock(clock.clone()).build().expect("valid"),
    );
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, 1, 1..2, 0).await;
    let options = lossless().lifetime(Lifetime::For(Duration::from_secs(3600)));
    let ours =
        within(client.connect(std::slice::from_ref(&relay.address), options)).await.expect("connected");
    // Short of the lifetime nothing happens, with or without a connection.
    clock.jump(Duration::from_secs(3000));
    within(ours.send(numbered(1)).await.expect("sent")).await.expect("acknowledged");
    relay.close();
    until(|| matches!(ours.status(), Status::Interrupted { .. })).await;
    clock.jump(Duration::from_secs(3000));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(ours.end().is_none(), "{:?}", ours.status());
    clock.jump(Duration::from_secs(700));
    assert_eq!(within(ours.ended()).await, EndReason::Expired);
}

#[tokio::test]
async fn equals_that_dial_each_other_at_once_have_one_session() {
    for round in 0..10 {
        let mut keys = keyring();
        let names = ["1", "2"].map(|id| EntityName::new(EntityType::Osd, id));
        for name in &names {
            keys.insert(name.clone(), KeyringEntry::new(generate_key().expect("randomness")));
        }
        let build = |name: &EntityName| {
            let options = SessionOptions::peer().backoff(quick());
            Messenger::builder(name.clone())
                .auth(Auth::keyring(keys.clone()))
                .accepted(options)
                .build()
                .expect("valid")
        };
        let (one, two) = (build(&names[0]), build(&names[1]));
        let (at_one, at_two) = (
            one.listen(loopback()).await.expect("listening"),
            two.listen(loopback()).await.expect("listening"),
        );
        let with = |name: &EntityName| ConnectOptions::peer().backoff(quick()).name(name.clone());
        let from_one = one.open(&[at_two], with(&names[1])).expect("opened");
        if round % 2 == 1 {
            // Not at the very same moment.
            tokio::task::yield_now().await;
        }
        let from_two = two.open(&[at_one], with(&names[0])).expect("opened");
        let sent = [
            from_one.send(numbered(1)).await.expect("queued"),
            from_two.send(numbered(2)).await.expect("queued"),
        ];
        assert_eq!(number_of(&within(from_two.recv()).await.expect("a message")), 1);
        assert_eq!(number_of(&within(from_one.recv()).await.expect("a message")), 2);
        for receipt in sent {
            within(receipt).await.expect("acknowledged");
        }
        assert_eq!((one.sessions().len(), two.sessions().len()), (1, 1), "two winners or two losers");
    }
}

#[tokio::test]
async fn a_peer_that_is_told_that_the_session_ended_does_not_come_back() {
    let pair = pair(Mode::Secure).await;
    pair.theirs.abort();
    assert_eq!(within(pair.ours.ended()).await, EndReason::PeerClosed);
    until(|| pair.client.sessions().is_empty() && pair.server.sessions().is_empty()).await;
}

#[tokio::test]
async fn towards_ceph_a_session_belongs_to_an_address_and_its_end_is_not_told() {
    let keyring = keyring();
    let server = server(Mode::Secure, &keyring).profile(Profile::Ceph).nonce(0).build().expect("valid");
    let client = client(Mode::Secure, &keyring).profile(Profile::Ceph).build().expect("valid");
    let pair = pair_of(server, client, loopback(), lossless()).await;
    within(pair.ours.send(numbered(1)).await.expect("sent")).await.expect("acknowledged");
    assert_eq!(within(pair.ours.close()).await, EndReason::Closed);
    until(|| matches!(pair.theirs.status(), Status::Interrupted { .. })).await;
    pair.theirs.abort();
}

#[tokio::test]
async fn receipts_and_messages_outlive_their_session() {
    let pair = pair(Mode::Crc).await;
    let receipts =
        [pair.ours.send(numbered(1)).await.expect("sent"), pair.ours.send(numbered(2)).await.expect("sent")];
    until(|| pair.ours.stats().counters.messages_acked == 2).await;
    drop(pair.ours);
    drop(pair.client);
    until(|| pair.theirs.end().is_some()).await;
    drop(pair.server);
    for receipt in receipts {
        assert_eq!(within(receipt).await, Ok(()));
    }
    assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), 1);
    assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), 2);
    assert!(within(pair.theirs.recv()).await.is_none());
}

#[tokio::test]
async fn a_close_that_cannot_drain_ends_in_time_and_says_so() {
    let keyring = keyring();
    let (server, client) = (
        server(Mode::Crc, &keyring).build().expect("valid"),
        client(Mode::Crc, &keyring).build().expect("valid"),
    );
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, 1, 1..2, 0).await;
    let ours =
        within(client.connect(std::slice::from_ref(&relay.address), lossless())).await.expect("connected");
    relay.stall();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let receipt = ours.send(numbered(1)).await.expect("queued");
    let start = tokio::time::Instant::now();
    assert_eq!(within(ours.close_within(Duration::from_millis(100))).await, EndReason::ClosedUndrained);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(within(receipt).await, Err(Lost::Session(LossReason::Closed)));
}

#[tokio::test]
async fn what_waits_is_revoked_and_what_arrived_is_not() {
    let keyring = keyring();
    let (server, client) = (
        server(Mode::Crc, &keyring).build().expect("valid"),
        client(Mode::Crc, &keyring).build().expect("valid"),
    );
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, 1, 1..2, 0).await;
    let ours =
        within(client.connect(std::slice::from_ref(&relay.address), lossless())).await.expect("connected");
    let theirs = within(server.accept()).await.expect("a session");
    let arrived = ours.send(numbered(1)).await.expect("sent");
    assert_eq!(number_of(&within(theirs.recv()).await.expect("a message")), 1);
    until(|| arrived.outcome().is_some()).await;
    let too_late = within(arrived.revoke()).await.expect_err("it has arrived");
    assert_eq!(within(too_late).await, Ok(()));
    relay.close();
    until(|| matches!(ours.status(), Status::Interrupted { .. })).await;
    let waits = ours.send(numbered(2)).await.expect("queued");
    let stays = ours.send(numbered(3)).await.expect("queued");
    within(waits.revoke()).await.expect("it never was");
    relay.open();
    assert_eq!(number_of(&within(theirs.recv()).await.expect("a message")), 3);
    within(stays).await.expect("acknowledged");
    assert_eq!(ours.stats().counters.revoked, 1);
}

#[tokio::test]
async fn a_large_message_is_revoked_while_it_is_written() {
    let pair = pair(Mode::Crc).await;
    // Fills the socket and more: what is behind it has not begun.
    let first = pair.ours.try_send(numbered(1).data(vec![1; 8 << 20])).expect("sent");
    let second = pair.ours.try_send(numbered(2).data(vec![2; 8 << 20])).expect("sent");
    let third = pair.ours.try_send(numbered(3)).expect("sent");
    tokio::task::yield_now().await;
    within(second.revoke()).await.expect("not written yet");
    assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), 1);
    assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), 3);
    within(first).await.expect("acknowledged");
    within(third).await.expect("acknowledged");
}

#[tokio::test]
async fn newcomers_beyond_the_queue_are_sent_away_and_come_again() {
    let keyring = keyring();
    let server = server(Mode::Secure, &keyring).accept_queue(2).build().expect("valid");
    let client = client(Mode::Secure, &keyring).build().expect("valid");
    let address = server.listen(loopback()).await.expect("listening");
    let sessions: Vec<_> =
        (0..4).map(|_| client.open(std::slice::from_ref(&address), lossless()).expect("opened")).collect();
    until(|| sessions.iter().filter(|s| s.status() == Status::Connected).count() == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.sessions().len(), 2, "no more than the queue holds");
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(within(server.accept()).await.expect("a session"));
    }
    for session in &sessions {
        within(session.connected()).await.expect("at last");
    }
}

#[tokio::test]
async fn sessions_beyond_the_bound_of_their_name_are_refused_until_one_is_over() {
    let mut keyring = keyring();
    let other = EntityName::new(EntityType::Client, "other");
    let key = generate_key().expect("randomness");
    keyring.insert(other.clone(), KeyringEntry::new(key.clone()));
    let server = server(Mode::Secure, &keyring).sessions_per_name_max(2).build().expect("valid");
    let client = client(Mode::Secure, &keyring).build().expect("valid");
    let address = [server.listen(loopback()).await.expect("listening")];
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(within(client.connect(&address, lossless())).await.expect("connected"));
    }
    let relay = Relay::new(&address[0], 1, 1..2, 0).await;
    let third = client.open(std::slice::from_ref(&relay.address), lossless()).expect("opened");
    until(|| relay.connections() > 3).await;
    assert_eq!((third.status(), server.sessions().len()), (Status::Connecting, 2));

    let other = Messenger::builder(other).auth(Auth::key(key)).build().expect("valid");
    let others = within(other.connect(&address, lossless())).await.expect("another name");
    assert_eq!(within(held.remove(0).close()).await, EndReason::Closed);
    within(third.connected()).await.expect("there is a place again");
    within(third.send(numbered(1)).await.expect("queued")).await.expect("acknowledged");
    assert_eq!(others.stats().counters.reconnects + held[0].stats().counters.reconnects, 0);
}

#[tokio::test]
async fn half_open_connections_are_bounded_and_time_out() {
    use tokio::io::AsyncReadExt;
    let server = server(Mode::Secure, &keyring())
        .half_open_max(10)
        .handshake_timeout(Duration::from_millis(300))
        .build()
        .expect("valid");
    let address = server.listen(loopback()).await.expect("listening").ip().expect("TCP");
    let mut silent = Vec::new();
    for _ in 0..30 {
        silent.push(tokio::net::TcpStream::connect(address).await.expect("the kernel takes it"));
    }
    let (mut banners, mut closed) = (0, 0);
    for stream in &mut silent {
        // Ten see a banner, and then nothing but the end; the others nothing but the end.
        let mut all = Vec::new();
        let _ = within(stream.read_to_end(&mut all)).await;
        if all.starts_with(b"ceph v2\n") { banners += 1 } else { closed += 1 }
    }
    assert_eq!((banners, closed), (10, 20));
}

#[tokio::test]
async fn a_cancelled_connect_leaves_nothing_behind() {
    let client = client(Mode::Crc, &keyring()).build().expect("valid");
    let nobody: Address = "127.0.0.1:1".parse().expect("an address");
    let nobody = [nobody];
    let attempt = client.connect(&nobody, lossless());
    assert!(tokio::time::timeout(Duration::from_millis(20), attempt).await.is_err());
    until(|| client.sessions().is_empty()).await;
}

#[tokio::test]
async fn shutting_down_drains_every_session_and_ends_accept() {
    let pair = pair(Mode::Secure).await;
    let mut receipts = Vec::new();
    for number in 0..200 {
        receipts.push(pair.ours.send(numbered(number).data(vec![0; 5000])).await.expect("sent"));
    }
    within(pair.client.shutdown(PATIENCE)).await;
    for receipt in receipts {
        assert_eq!(receipt.outcome(), Some(Ok(())));
    }
    assert!(matches!(
        pair.client.open(std::slice::from_ref(&pair.address), lossless()),
        Err(ConnectError::ShutDown)
    ));
    within(pair.server.shutdown(PATIENCE)).await;
    assert!(within(pair.server.accept()).await.is_none());
}

#[tokio::test]
async fn messages_of_higher_priority_pass_the_others() {
    let keyring = keyring();
    let (server, client) = (
        server(Mode::Crc, &keyring).build().expect("valid"),
        client(Mode::Crc, &keyring).build().expect("valid"),
    );
    let address = server.listen(loopback()).await.expect("listening");
    let ours = client.open(&[address], lossless()).expect("opened");
    for number in 0..3 {
        drop(ours.send(numbered(number)).await.expect("queued"));
    }
    drop(ours.send(Message { priority: outlast::priority::HIGHEST, ..numbered(9) }).await.expect("queued"));
    let theirs = within(server.accept()).await.expect("a session");
    for expected in [9, 0, 1, 2] {
        assert_eq!(number_of(&within(theirs.recv()).await.expect("a message")), expected);
    }
}
