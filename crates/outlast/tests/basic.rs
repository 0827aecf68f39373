//! One session, from its beginning to its end, over each kind of socket.

mod common;

use common::*;
use outlast::{Address, AuthMethod, EndReason, Message, SessionEvent, Status};

async fn talk(pair: &Pair) {
    let receipt = pair.ours.send(Message::new(1).front("ping").data(vec![7; 100_000])).await.expect("sent");
    let request = within(pair.theirs.recv()).await.expect("a message");
    assert_eq!((request.kind, &request.front[..], request.data.len()), (1, &b"ping"[..], 100_000));
    within(receipt).await.expect("acknowledged");
    let receipt = pair.theirs.send(Message::new(2).middle("pong")).await.expect("sent");
    let answer = within(pair.ours.recv()).await.expect("a message");
    assert_eq!((answer.kind, &answer.middle[..]), (2, &b"pong"[..]));
    within(receipt).await.expect("acknowledged");
}

async fn over(address: &str, mode: Mode) -> Pair {
    let keyring = keyring();
    let address: Address = address.parse().expect("an address");
    let (server, client) = (
        server(mode, &keyring).build().expect("a server"),
        client(mode, &keyring).build().expect("a client"),
    );
    let pair = pair_of(server, client, address, lossless()).await;
    talk(&pair).await;
    pair
}

#[tokio::test]
async fn messages_go_both_ways_over_ipv4_without_authentication() {
    let pair = over("127.0.0.1:0", Mode::Crc).await;
    let agreed = pair.ours.stats().agreed.expect("agreed");
    assert_eq!((agreed.mode, agreed.method, agreed.key_type), (outlast::Mode::CRC, AuthMethod::NONE, None));
    assert!(agreed.revision_1);
    assert_eq!(pair.theirs.peer(), client_name());
    assert!(!pair.theirs.peer_info().proven, "nothing is proven without authentication");
}

#[tokio::test]
async fn messages_go_both_ways_over_ipv6_encrypted() {
    let pair = over("[::1]:0", Mode::Secure).await;
    let agreed = pair.theirs.stats().agreed.expect("agreed");
    assert_eq!((agreed.mode, agreed.method), (outlast::Mode::SECURE, AuthMethod::CEPHX));
    assert_eq!(agreed.key_type, Some(outlast::KeyType::Aes256k));
    assert_eq!(pair.theirs.peer(), client_name());
    assert!(pair.theirs.peer_info().proven);
}

#[tokio::test]
async fn messages_go_both_ways_over_a_unix_socket_and_its_file_goes() {
    let path = std::env::temp_dir().join(format!("outlast-{}.sock", std::process::id()));
    let pair = over(&format!("unix:{}", path.display()), Mode::Secure).await;
    assert!(path.exists());
    within(pair.server.shutdown(PATIENCE)).await;
    drop(pair);
    for _ in 0..100 {
        if !path.exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the socket's file is still there");
}

#[tokio::test]
async fn closing_drains_and_tells_the_peer() {
    let pair = pair(Mode::Secure).await;
    let mut receipts = Vec::new();
    for number in 0..1000 {
        receipts.push(pair.ours.send(numbered(number)).await.expect("sent"));
    }
    assert_eq!(within(pair.ours.close()).await, EndReason::Closed);
    for receipt in receipts {
        assert_eq!(receipt.outcome(), Some(Ok(())));
    }
    for number in 0..1000 {
        assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), number);
    }
    assert!(within(pair.theirs.recv()).await.is_none(), "nothing after the last one");
    assert_eq!(pair.theirs.end(), Some(EndReason::PeerClosed));
    assert_eq!(pair.theirs.status(), Status::Ended(EndReason::PeerClosed));
    assert!(matches!(pair.ours.try_send(numbered(0)), Err(outlast::TrySendError::Closed(_))));
    let mut events = pair.ours.events();
    assert_eq!(within(events.next()).await, Some(SessionEvent::Connected));
    assert_eq!(within(events.next()).await, Some(SessionEvent::Ended(EndReason::Closed)));
    assert_eq!(within(events.next()).await, None);
    assert!(pair.client.sessions().is_empty() && pair.server.sessions().is_empty(), "closed means absent");
}

#[tokio::test]
async fn the_last_handle_closes_the_session() {
    let pair = pair(Mode::Crc).await;
    let receipt = pair.ours.send(numbered(1)).await.expect("sent");
    drop(pair.ours);
    assert_eq!(number_of(&within(pair.theirs.recv()).await.expect("a message")), 1);
    within(receipt).await.expect("acknowledged");
    assert!(within(pair.theirs.recv()).await.is_none());
}
