//! Ends in order, when something is in their way.

mod common;

use common::*;
use outlast::{DRAIN_MAX, EndReason, SessionOptions};
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
