//! Requests and replies.

mod common;

use bytes::BytesMut;
use common::relay::Relay;
use common::*;
use outlast::{CallError, EndReason, LossReason, Lost, Message, Session};
use std::time::Duration;

/// Answers every request with its own content, after kind milliseconds.
async fn echo(session: Session) {
    while let Some(request) = session.recv().await {
        let session = session.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(u64::from(request.kind))).await;
            let reply = Message::new(request.kind).front(request.front.clone()).data(request.data.clone());
            let _ = session.reply(&request, reply).await;
        });
    }
}

#[tokio::test]
async fn replies_come_to_their_callers_in_any_order() {
    let pair = pair(Mode::Secure).await;
    tokio::spawn(echo(pair.theirs.clone()));
    let mut calls = Vec::new();
    for number in 0..100_u64 {
        let ours = pair.ours.clone();
        calls.push(tokio::spawn(async move {
            let request = Message::new(50 - (number % 50) as u16).front(number.to_le_bytes().to_vec());
            (number, ours.call(request).await)
        }));
    }
    for call in calls {
        let (number, reply) = within(call).await.expect("no panic");
        assert_eq!(number_of(&reply.expect("a reply")), number);
    }
    assert!(pair.ours.try_recv().is_none(), "replies do not come as messages");
}

#[tokio::test]
async fn both_ends_may_call_and_messages_in_between_do_not_stand_in_the_way() {
    let pair = pair(Mode::Crc).await;
    // Nobody takes this one, and the replies pass it.
    drop(pair.theirs.send(numbered(1)).await.expect("sent"));
    let (ours, theirs) = (pair.ours.clone(), pair.theirs.clone());
    let answers = tokio::spawn(async move {
        let request = theirs.recv().await.expect("a request");
        // A call back before the answer.
        let question = theirs.call(Message::new(9).front("who asks?")).await.expect("a reply");
        drop(theirs.reply(&request, Message::new(8).front(question.front)).await.expect("sent"));
    });
    let asks = tokio::spawn(async move {
        assert_eq!(number_of(&ours.recv().await.expect("the message")), 1);
        let question = ours.recv().await.expect("a question");
        assert_eq!(&question.front[..], b"who asks?");
        drop(ours.reply(&question, Message::new(9).front("me")).await.expect("sent"));
    });
    let reply = within(pair.ours.call(Message::new(8))).await.expect("a reply");
    assert_eq!(&reply.front[..], b"me");
    within(answers).await.expect("no panic");
    within(asks).await.expect("no panic");
}

#[tokio::test]
async fn data_land_in_the_callers_buffer() {
    let pair = pair(Mode::Secure).await;
    tokio::spawn(echo(pair.theirs.clone()));
    let buffer = BytesMut::zeroed(1 << 20);
    let address = buffer.as_ptr();
    let data: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    let reply =
        within(pair.ours.call_into(Message::new(1).data(data.clone()), buffer)).await.expect("a reply");
    assert!(reply.data == data);
    assert_eq!(reply.data.as_ptr(), address, "no other memory was used");
    assert!(reply.data.try_into_mut().is_ok(), "the buffer can be used again");
}

#[tokio::test]
async fn data_that_do_not_fit_the_buffer_come_all_the_same() {
    let pair = pair(Mode::Crc).await;
    tokio::spawn(echo(pair.theirs.clone()));
    let request = Message::new(1).data(vec![5; 100_000]);
    let reply = within(pair.ours.call_into(request, BytesMut::zeroed(99_999))).await.expect("a reply");
    assert!(reply.data.len() == 100_000 && reply.data.iter().all(|b| *b == 5));
}

#[tokio::test]
async fn a_call_that_is_cancelled_leaves_nothing_behind() {
    let pair = pair(Mode::Secure).await;
    tokio::spawn(echo(pair.theirs.clone()));
    let slow =
        tokio::time::timeout(Duration::from_millis(20), pair.ours.call(Message::new(100).tid(7))).await;
    assert!(slow.is_err(), "not answered yet");
    // Its number is free again at once, and its reply is nobody's.
    let quick = within(pair.ours.call(Message::new(1).front("quick"))).await.expect("a reply");
    assert_eq!(&quick.front[..], b"quick");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(pair.ours.try_recv().is_none(), "a reply that nobody waits for is dropped");
    assert_eq!(pair.ours.stats().inbound_messages, 0);
}

#[tokio::test]
async fn a_request_that_was_not_sent_yet_is_taken_back_with_its_call() {
    let keyring = keyring();
    let server = server(Mode::Crc, &keyring).build().expect("valid");
    let client = client(Mode::Crc, &keyring).build().expect("valid");
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, 1, 1..2, 0).await;
    let ours =
        within(client.connect(std::slice::from_ref(&relay.address), lossless())).await.expect("connected");
    let theirs = within(server.accept()).await.expect("a session");
    relay.close();
    while ours.status() == outlast::Status::Connected {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let cancelled =
        tokio::time::timeout(Duration::from_millis(20), ours.call(Message::new(1).front("stale"))).await;
    assert!(cancelled.is_err());
    let receipt = ours.send(Message::new(2).front("fresh")).await.expect("queued");
    relay.open();
    let message = within(theirs.recv()).await.expect("a message");
    assert_eq!(&message.front[..], b"fresh", "nobody wants the other one any more");
    within(receipt).await.expect("acknowledged");
    assert_eq!(ours.stats().counters.revoked, 1);
}

#[tokio::test]
async fn a_transaction_can_wait_for_one_reply_only() {
    let pair = pair(Mode::Crc).await;
    let ours = pair.ours.clone();
    let first = tokio::spawn(async move { ours.call(Message::new(1).tid(42)).await });
    let request = within(pair.theirs.recv()).await.expect("the request");
    assert_eq!(within(pair.ours.call(Message::new(1).tid(42))).await, Err(CallError::TidInUse { tid: 42 }));
    drop(pair.theirs.reply(&request, Message::new(2)).await.expect("sent"));
    assert_eq!(within(first).await.expect("no panic").expect("a reply").tid, 42);
}

#[tokio::test]
async fn a_call_ends_with_its_session() {
    let pair = pair(Mode::Secure).await;
    let ours = pair.ours.clone();
    let call = tokio::spawn(async move { ours.call(Message::new(1)).await });
    within(pair.theirs.recv()).await.expect("the request arrives");
    pair.ours.abort();
    assert_eq!(within(call).await.expect("no panic"), Err(CallError::Ended(EndReason::ClosedUndrained)));
}

#[tokio::test]
async fn a_call_ends_when_the_peer_ends_the_session() {
    let pair = pair(Mode::Secure).await;
    let ours = pair.ours.clone();
    let call = tokio::spawn(async move { ours.call(Message::new(1)).await });
    within(pair.theirs.recv()).await.expect("the request arrives");
    pair.theirs.abort();
    assert_eq!(within(call).await.expect("no panic"), Err(CallError::Ended(EndReason::PeerClosed)));
}

#[tokio::test]
async fn a_call_ends_when_the_server_has_forgotten_it() {
    let keyring = keyring();
    let mut first = Process::serve(Mode::Secure, &keyring, loopback());
    let client = client(Mode::Secure, &keyring).build().expect("valid");
    let ours =
        within(client.connect(std::slice::from_ref(&first.address), lossless())).await.expect("connected");
    let call = tokio::spawn({
        let ours = ours.clone();
        async move { ours.call(Message::new(1)).await }
    });
    while ours.stats().counters.messages_acked == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.kill();
    let _second = Process::serve(Mode::Secure, &keyring, first.address.clone());
    assert_eq!(within(call).await.expect("no panic"), Err(CallError::Lost(Lost::Session(LossReason::Reset))));
}

#[tokio::test]
async fn a_call_whose_request_has_arrived_outlasts_an_interruption() {
    let keyring = keyring();
    let (server, client) = (
        server(Mode::Secure, &keyring).build().expect("valid"),
        client(Mode::Secure, &keyring).build().expect("valid"),
    );
    let address = server.listen(loopback()).await.expect("listening");
    let relay = Relay::new(&address, 6, 1..2, 0).await;
    let ours =
        within(client.connect(std::slice::from_ref(&relay.address), lossless())).await.expect("connected");
    let theirs = within(server.accept()).await.expect("a session");
    let call = tokio::spawn({
        let ours = ours.clone();
        async move { ours.call(Message::new(1).front("question")).await }
    });
    let request = within(theirs.recv()).await.expect("a request");
    while ours.stats().counters.messages_acked == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    relay.close();
    let mut events = ours.events();
    while !matches!(within(events.next()).await, Some(outlast::SessionEvent::AttemptFailed { .. })) {}
    relay.open();
    drop(within(theirs.reply(&request, Message::new(1).front("answer"))).await.expect("queued"));
    let reply = within(call).await.expect("no panic").expect("the session goes on, and so does the call");
    assert_eq!(&reply.front[..], b"answer");
}

#[tokio::test]
async fn a_queue_of_calls_gives_their_ends_in_the_order_in_which_they_came() {
    let pair = pair(Mode::Secure).await;
    tokio::spawn(echo(pair.theirs.clone()));
    let mut calls = pair.ours.call_queue();
    assert!(within(calls.next()).await.is_none(), "none is under way");
    let mut sent = Vec::new();
    for (number, millis) in [400_u16, 200, 1].into_iter().enumerate() {
        let request = Message::new(millis).front((number as u64).to_le_bytes().to_vec());
        sent.push(within(calls.submit(request)).await.expect("sent"));
    }
    assert_eq!(calls.len(), 3);
    assert!(calls.try_next().is_none(), "no reply comes before its time");
    for number in [2, 1, 0] {
        let (tid, reply) = within(calls.next()).await.expect("under way");
        assert_eq!((tid, number_of(&reply.expect("a reply"))), (sent[number as usize], number));
    }
    assert!(calls.is_empty() && within(calls.next()).await.is_none());
    assert!(pair.ours.try_recv().is_none(), "replies do not come as messages");
}

#[tokio::test]
async fn many_calls_of_several_queues_each_come_back_once_to_their_own() {
    const CALLS: u64 = 3000;
    let pair = pair(Mode::Crc).await;
    tokio::spawn(echo(pair.theirs.clone()));
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let ours = pair.ours.clone();
        tasks.push(tokio::spawn(async move {
            let mut calls = ours.call_queue();
            let (mut sent, mut came) = (std::collections::BTreeMap::new(), 0);
            for number in 0..CALLS {
                if calls.len() == 32 {
                    let (tid, reply) = calls.next().await.expect("under way");
                    assert_eq!(sent.remove(&tid), Some(number_of(&reply.expect("a reply"))));
                    came += 1;
                }
                let request = Message::new((number % 3) as u16).front(number.to_le_bytes().to_vec());
                sent.insert(calls.submit(request).await.expect("sent"), number);
            }
            while let Some((tid, reply)) = calls.next().await {
                assert_eq!(sent.remove(&tid), Some(number_of(&reply.expect("a reply"))));
                came += 1;
            }
            (came, sent.len())
        }));
    }
    for task in tasks {
        assert_eq!(within(task).await.expect("no panic"), (CALLS, 0));
    }
}

#[tokio::test]
async fn calls_of_a_queue_that_is_dropped_leave_nothing_behind() {
    let pair = pair(Mode::Crc).await;
    tokio::spawn(echo(pair.theirs.clone()));
    let mut calls = pair.ours.call_queue();
    for number in 0..10_u64 {
        let request = Message::new(100).front(number.to_le_bytes().to_vec());
        within(calls.submit(request)).await.expect("sent");
    }
    drop(calls);
    // The replies of the requests that had gone come before this one's.
    let reply = within(pair.ours.call(Message::new(300).front(77_u64.to_le_bytes().to_vec()))).await;
    assert_eq!(number_of(&reply.expect("a reply")), 77);
    assert!(pair.ours.try_recv().is_none(), "replies to nobody are dropped");
}

#[tokio::test]
async fn calls_of_a_queue_end_with_their_session_and_later_ones_are_not_sent() {
    let pair = pair(Mode::Crc).await;
    let mut calls = pair.ours.call_queue();
    for _ in 0..3 {
        within(calls.submit(Message::new(1))).await.expect("sent");
    }
    pair.ours.abort();
    for _ in 0..3 {
        let (_, end) = within(calls.next()).await.expect("under way");
        assert_eq!(end.expect_err("no reply"), CallError::Ended(EndReason::ClosedUndrained));
    }
    let refused = within(calls.submit(Message::new(1))).await.expect_err("the session is over");
    assert!(matches!(refused, CallError::NotSent(_)), "{refused:?}");
    assert!(calls.is_empty());
}

#[tokio::test]
async fn a_request_submitted_under_a_transaction_id_that_waits_is_refused() {
    let pair = pair(Mode::Crc).await;
    let mut calls = pair.ours.call_queue();
    assert_eq!(within(calls.submit(Message::new(1).tid(5))).await, Ok(5));
    let refused = within(calls.submit(Message::new(1).tid(5))).await;
    assert_eq!(refused, Err(CallError::TidInUse { tid: 5 }));
    assert_eq!(calls.len(), 1, "the first one goes on");
}
