//! What is logged of a session's life, and how loud.

mod common;

use common::*;
use outlast::{Address, ConnectError, Messenger};
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::subscriber::DefaultGuard;

/// What this thread logs, as text. The runtimes of these tests have no other.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn capture() -> (Log, DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    (log, tracing::subscriber::set_default(subscriber))
}

/// Where nobody listens.
fn nowhere() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    Address::Ip(listener.local_addr().expect("an address"))
}

fn dialler() -> Messenger {
    client(Mode::Crc, &keyring()).build().expect("a client")
}

#[tokio::test]
async fn a_session_that_found_nobody_and_had_nothing_to_say_is_no_error() {
    let (log, _guard) = capture();
    let address = nowhere();
    let options = lossless().connect_within(Duration::from_millis(50));
    let error =
        dialler().connect(std::slice::from_ref(&address), options).await.expect_err("nobody is there");
    assert!(matches!(error, ConnectError::TimedOut { last: Some(_), .. }), "{error}");
    let text = log.text();
    let failed = text.lines().find(|line| line.contains("cannot connect")).expect("an attempt failed");
    assert!(failed.contains(" WARN ") && failed.contains("state=Pausing "), "{failed}");
    assert!(failed.contains(&format!("address={address} ")), "{failed}");
    assert!(!failed.contains("peer="), "nobody knows who it would have been: {failed}");
    let end = text.lines().last().expect("the end is told");
    assert!(end.contains(" INFO ") && end.contains("given up"), "{end}");
    assert!(!text.contains("ERROR"), "{text}");
}

#[tokio::test]
async fn messages_that_are_lost_with_a_session_are_an_error() {
    let (log, _guard) = capture();
    let session = dialler().open(&[nowhere()], lossless()).expect("opened");
    let receipt = session.send(numbered(1)).await.expect("queued");
    session.abort();
    receipt.await.expect_err("it was lost");
    let text = log.text();
    let end = text.lines().last().expect("the end is told");
    assert!(end.contains("ERROR") && end.contains("lost=1 "), "{end}");
}

#[tokio::test]
async fn a_connected_session_is_logged_with_its_peer_and_address() {
    let (log, _guard) = capture();
    let pair = pair(Mode::Secure).await;
    within(pair.ours.close()).await;
    let text = log.text();
    let connected: Vec<_> = text.lines().filter(|line| line.contains("session connected")).collect();
    assert_eq!(connected.len(), 2, "{text}");
    for line in connected {
        assert!(line.contains("state=Ready") && line.contains("address=127.0.0.1:"), "{line}");
        assert!(line.contains("peer=client."), "{line}");
    }
}
