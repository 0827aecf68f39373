//! The connection under a copy is cut again and again, and the copy does not notice.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::*;
use outlast::{
    Auth, BackoffConfig, ConnectOptions, EntityName, EntityType, Jitter, Keyring, KeyringEntry, Messenger,
    SessionEvent, generate_key,
};
use outlast_transfer::{CopyRequest, Folder, GenerateOptions, Progress, ServeOptions, copy, generate, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What the relay did and may still do.
#[derive(Default)]
struct Cuts {
    done: AtomicU64,
    limit: AtomicU64,
}

/// A relay that drops both ends of each connection after some bytes, for as long as there are cuts left.
async fn relay(to: SocketAddr, cuts: Arc<Cuts>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let cuts = Arc::clone(&cuts);
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(to).await else { return };
                let number = cuts.done.load(Ordering::Relaxed);
                // Somewhere between 200 kB and 2.5 MB, never at the same place of a message.
                let budget = 200_000 + number * 7_919 * 13 % 2_300_000;
                let line = Line { passed: AtomicU64::new(0), budget, cuts };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                let cut = tokio::select! {
                    cut = line.pass(near_in, far_out) => cut,
                    cut = line.pass(far_in, near_out) => cut,
                };
                if cut {
                    line.cuts.done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    address
}

struct Line {
    passed: AtomicU64,
    budget: u64,
    cuts: Arc<Cuts>,
}

impl Line {
    /// Passes on what comes, until it ends or is to be cut; says whether it was.
    async fn pass(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> bool {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let Ok(n @ 1..) = from.read(&mut buffer).await else { return false };
            let before = self.passed.fetch_add(n as u64, Ordering::Relaxed);
            let allowed = self.cuts.done.load(Ordering::Relaxed) < self.cuts.limit.load(Ordering::Relaxed);
            let cut = allowed && before + n as u64 > self.budget;
            // The last piece is cut in its middle.
            let n = if cut { n / 2 } else { n };
            if to.write_all(&buffer[..n]).await.is_err() {
                return false;
            }
            if cut {
                return true;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_crosses_a_link_that_is_cut_thirty_times_in_each_direction() {
    let temp = TempDir::new("cuts");
    generate(&temp.join("src"), &GenerateOptions { bytes: 64 << 20, seed: 11 }).expect("generated");
    let root = temp.mkdir("root");
    let name = EntityName::new(EntityType::Client, "copy");
    let mut keyring = Keyring::new();
    keyring.insert(name.clone(), KeyringEntry::new(generate_key().expect("randomness")));
    let server = Messenger::builder(EntityName::new(EntityType::Client, "server"))
        .auth(Auth::keyring(keyring.clone()))
        .build()
        .expect("a server");
    let client = Messenger::builder(name).auth(Auth::keyring(keyring)).build().expect("a client");
    let bound = server.listen("127.0.0.1:0".parse().expect("an address")).await.expect("listening");
    let cuts = Arc::new(Cuts::default());
    cuts.limit.store(30, Ordering::Relaxed);
    let relay = relay(bound.ip().expect("an IP address"), Arc::clone(&cuts)).await;
    let quick = BackoffConfig {
        first: Duration::from_millis(1),
        max: Duration::from_millis(20),
        jitter: Jitter::NONE,
        ..BackoffConfig::default()
    };
    let options = ConnectOptions::lossless().backoff(quick);
    let session = within(client.connect(&[relay.into()], options)).await.expect("connected");
    let mut events = session.events();
    let theirs = within(server.accept()).await.expect("a session");
    let folder = Folder::open(&root).expect("a folder");
    let served = tokio::spawn(async move { serve(&theirs, &folder, &ServeOptions::default()).await });

    let up = CopyRequest::upload([temp.join("src")], "up");
    let summary = within(copy(&session, &up, &Progress::new())).await.expect("copied");
    assert!(summary.is_complete(), "{:?}", summary.failures);
    // Two connections may be alive at a time for a moment, and both be cut.
    assert!(cuts.done.load(Ordering::Relaxed) >= 30, "on the way up");
    assert_same(&temp.join("src"), &root.join("up"));

    cuts.limit.store(60, Ordering::Relaxed);
    let down = CopyRequest::download(["up".into()], temp.join("down"));
    let summary = within(copy(&session, &down, &Progress::new())).await.expect("copied");
    assert!(summary.is_complete(), "{:?}", summary.failures);
    assert_same(&temp.join("src"), &temp.join("down"));
    assert!(cuts.done.load(Ordering::Relaxed) >= 60, "on the way down");

    let (mut resumed, mut replayed) = (0, 0);
    while let Some(event) = events.try_next() {
        if let SessionEvent::Resumed { replayed: n, .. } = event {
            resumed += 1;
            replayed += n;
        }
        assert!(!matches!(event, SessionEvent::Reset { .. }), "the session was forgotten");
    }
    let counters = session.stats().counters;
    eprintln!("{resumed} resumptions seen, {replayed} replayed, {counters:?}");
    assert!(resumed >= 30, "{resumed} resumptions");
    within(session.close()).await;
    within(served).await.expect("no panic").expect("served");
}
