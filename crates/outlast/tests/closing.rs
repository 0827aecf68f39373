//! Ends in order, when something is in their way.

mod common;

use common::relay::Relay;
use common::*;
use outlast::{
    Address, Auth, ConnectError, ConnectOptions, DRAIN_MAX, EndReason, EntityName, EntityType, KeyringEntry,
    LossReason, Lost, Messenger, Profile, SessionEvent, SessionOptions, generate_key,
};
use std::time::Duration;

#[tokio::test]
async fn a_last_handle_dropped_before_what_came_in_was_received_still_drains() {
    let keyring = keyring();
    let narrow = SessionOptions::server().inbound(8, 8 << 10);
    let server = server(Mode::Secure, &keyring).accepted(narrow).build().expect("valid");
    let client = client(Mode::Secure, &keyring).build().expect("valid");
    let pair = pair_of(server, client, loopback(), lossless()).await;
    // Until nothing more goes into the sockets: an acknowledgement would stand behind all of it.
    loop {
        let large = numbered(0).data(vec![0; 16 << 10]);
        if tokio::time::timeout(Duration::from_millis(200), pair.ours.send(large)).await.is_err() {
            break;
        }
    }
    let receipt = pair.theirs.send(numbered(1)).await.expect("queued");
    assert_eq!(number_of(&within(pair.ours.recv()).await.expect("the message")), 1);
    assert!(receipt.outcome().is_none(), "its acknowledgement cannot be read");

    let dropped = tokio::time::Instant::now();
    drop(pair.theirs);
    assert_eq!(within(receipt).await, Ok(()));
    assert_eq!(within(pair.ours.ended()).await, EndReason::PeerClosed);
    assert!(dropped.elapsed() < DRAIN_MAX / 2, "{:?}", dropped.elapsed());
    until(|| pair.server.sessions().is_empty()).await;
}

/// There is one session between two names: while it closes, what is sent would be refused, and a second one beside it would
/// take the peer's away from it.
#[tokio::test]
async fn a_peer_session_that_is_closing_is_not_given_out_again() {
    let mut keys = keyring();
    let names = ["1", "2"].map(|id| EntityName::new(EntityType::Osd, id));
    for name in &names {
        keys.insert(name.clone(), KeyringEntry::new(generate_key().expect("randomness")));
    }
    let [one, two] = [&names[0], &names[1]].map(|name| {
        let options = SessionOptions::peer().backoff(quick());
        let builder = Messenger::builder(name.clone()).auth(Auth::keyring(keys.clone())).accepted(options);
        builder.build().expect("valid")
    });
    let direct = two.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&direct, 1, 1..2, 0).await;
    let to_two = [relay.address.clone()];
    let with_two = || ConnectOptions::peer().backoff(quick()).name(names[1].clone());
    let first = within(one.connect(&to_two, with_two())).await.expect("connected");
    let theirs = within(two.accept()).await.expect("a session");
    let again = one.open(&to_two, with_two()).expect("it is open");
    assert_eq!(again.id(), first.id());

    // Nothing passes any more, so it cannot drain.
    relay.stall();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let receipt = first.send(numbered(1)).await.expect("queued");
    let closing = tokio::spawn(async move { first.close_within(DRAIN_MAX / 20).await });
    until(|| again.try_send(numbered(2)).is_err()).await;
    assert!(matches!(one.open(&to_two, with_two()), Err(ConnectError::Closing)));
    let patience = with_two().connect_within(DRAIN_MAX / 200);
    let error = within(one.connect(&to_two, patience)).await.expect_err("still closing");
    assert!(matches!(error, ConnectError::TimedOut { last: None, .. }), "{error:?}");

    // Whoever waits gets another when it is over.
    let second = tokio::spawn({
        let (one, options) = (one.clone(), with_two());
        async move { one.connect(&[direct], options).await }
    });
    assert_eq!(within(closing).await.expect("no panic"), EndReason::ClosedUndrained);
    assert!(within(receipt).await.is_err(), "it never got through");
    let second = within(second).await.expect("no panic").expect("connected");
    assert_ne!(second.id(), again.id());
    within(second.send(numbered(3)).await.expect("queued")).await.expect("acknowledged");
    drop(theirs);
}

#[tokio::test]
async fn a_peer_that_is_known_by_its_address_is_not_dialled_twice_before_it_has_answered() {
    let messenger = Messenger::builder(EntityName::new(EntityType::Osd, "1"))
        .profile(Profile::Ceph)
        .auth(Auth::none())
        .build()
        .expect("valid");
    // Nobody answers there.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = [Address::from(silent.local_addr().expect("bound"))];
    let first = messenger.open(&address, ConnectOptions::peer()).expect("begun");
    let second = messenger.open(&address, ConnectOptions::peer()).expect("begun");
    assert_eq!(first.id(), second.id());
    assert_eq!(messenger.sessions().len(), 1);
}

/// Nothing acknowledges the last word. Who missed it comes back for its session, and is told.
#[tokio::test]
async fn a_peer_whose_connection_died_with_the_last_word_hears_that_the_session_was_closed() {
    let keyring = keyring();
    let server = server(Mode::Secure, &keyring).accept_queue(1).build().expect("valid");
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, 1, 1..2, 0).await;
    let client = client(Mode::Secure, &keyring).build().expect("valid");
    let theirs =
        within(client.connect(std::slice::from_ref(&relay.address), lossless())).await.expect("connected");
    let ours = within(server.accept()).await.expect("a session");
    let mut events = theirs.events();

    relay.mute();
    let arrived = theirs.send(numbered(1)).await.expect("queued");
    assert_eq!(number_of(&within(ours.recv()).await.expect("the message")), 1);
    assert_eq!(within(ours.close()).await, EndReason::Closed);
    assert!(arrived.outcome().is_none(), "its acknowledgement was swallowed, and the last word with it");
    relay.close();
    until(|| relay.cuts() == 1).await;
    let late = theirs.send(numbered(2)).await.expect("nobody has said that it is over");
    // Nobody is taken in any more; but who only comes back takes nobody's place.
    let other = within(client.connect(&[address], lossless())).await.expect("connected");
    relay.open();

    assert_eq!(within(theirs.ended()).await, EndReason::PeerClosed);
    assert_eq!(within(arrived).await, Ok(()));
    assert_eq!(within(late).await, Err(Lost::Session(LossReason::PeerClosed)));
    let mut seen = Vec::new();
    while let Some(event) = within(events.next()).await {
        seen.push(event);
    }
    assert!(!seen.iter().any(|event| matches!(event, SessionEvent::Reset { .. })), "{seen:?}");
    assert!(matches!(seen.last(), Some(SessionEvent::Ended(EndReason::PeerClosed))), "{seen:?}");
    other.abort();
    until(|| server.sessions().is_empty()).await;
}
