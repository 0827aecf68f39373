//! A lossless client of ours and a real MDS, which is a stateful server: the session goes on through faults that the
//! MDS injects into itself and through cuts of ours, and every numbered message is answered once.

mod ceph;

use ceph::{Cluster, MSG_CLIENT_SESSION, PATIENCE, client};
use outlast::{
    Address, Auth, BackoffConfig, ConnectOptions, EntityType, Jitter, Message, Mode, Session, Status,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Resumptions that the run must count.
const RECONNECTS_MIN: u64 = 100;
/// Operations of a session message (`src/include/ceph_fs.h`, `CEPH_SESSION_*`).
const REQUEST_OPEN: u32 = 0;
const OPEN: u32 = 1;
const REQUEST_RENEWCAPS: u32 = 4;
const RENEWCAPS: u32 = 5;

/// `MClientSession`: operation, sequence, time, and two limits; the request to open goes on with who we are (version 2:
/// a map of strings) and what we understand (version 3: a set of bits).
fn session_message(operation: u32, sequence: u64) -> Message {
    let mut front = Vec::new();
    front.extend_from_slice(&operation.to_le_bytes());
    front.extend_from_slice(&sequence.to_le_bytes());
    front.extend_from_slice(&[0; 8 + 4 + 4]);
    let mut version = 1;
    if operation == REQUEST_OPEN {
        version = 3;
        let facts: [(&str, &str); 2] = [("entity_id", "admin"), ("hostname", "outlast")];
        front.extend_from_slice(&2_u32.to_le_bytes());
        for text in facts.iter().flat_map(|(name, value)| [name, value]) {
            front.extend_from_slice(&u32::try_from(text.len()).expect("short").to_le_bytes());
            front.extend_from_slice(text.as_bytes());
        }
        let understood: u64 = 0x7_ffff;
        front.extend_from_slice(&8_u32.to_le_bytes());
        front.extend_from_slice(&understood.to_le_bytes());
    }
    let mut message = Message::new(MSG_CLIENT_SESSION).front(front);
    message.version = version;
    message
}

fn operation(message: &Message) -> Option<(u32, u64)> {
    if message.kind != MSG_CLIENT_SESSION {
        return None;
    }
    let operation = message.front.first_chunk::<4>().map(|b| u32::from_le_bytes(*b))?;
    let sequence = message.front.get(4..12)?.try_into().map(u64::from_le_bytes).ok()?;
    Some((operation, sequence))
}

/// A relay that can be told to cut what it carries.
struct Relay {
    address: SocketAddr,
    cut: Arc<Notify>,
    cuts: Arc<AtomicU64>,
}

impl Relay {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (cut, cuts) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let relay = Self { address, cut: Arc::clone(&cut), cuts: Arc::clone(&cuts) };
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (cut, cuts) = (Arc::clone(&cut), Arc::clone(&cuts));
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = cut.notified() => {
                            cuts.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    let _ = near.shutdown().await;
                });
            }
        });
        relay
    }
}

/// Waits for the answer to `REQUEST_OPEN`.
async fn opened(session: &Session) {
    let answer = timeout(PATIENCE, async {
        loop {
            let message = session.recv().await.expect("the session lives");
            if operation(&message).is_some_and(|(operation, _)| operation == OPEN) {
                return;
            }
        }
    });
    answer.await.expect("the MDS opens the session");
}

#[tokio::test]
async fn a_session_with_an_mds_goes_on_through_a_hundred_faults() {
    if !ceph::wanted() {
        return;
    }
    let cluster = Cluster::start("16", &["--auth", "none", "--mode", "crc", "--mds"]);
    let target: SocketAddr = cluster.fact("mds.a").parse().expect("an address");
    let relay = Relay::to(target).await;
    let messenger = client(Auth::none()).modes([Mode::CRC]).build().expect("a messenger");
    let backoff = BackoffConfig {
        first: Duration::from_millis(10),
        max: Duration::from_millis(200),
        jitter: Jitter::NONE,
        ..BackoffConfig::default()
    };
    let options = ConnectOptions::lossless()
        .entity_type(EntityType::Mds)
        .known_as(cluster.known_as("mds.a"))
        .backoff(backoff);
    let session =
        messenger.connect(&[Address::Ip(relay.address)], options).await.expect("the MDS lets us in");
    drop(session.send(session_message(REQUEST_OPEN, 0)).await.expect("open"));
    opened(&session).await;
    // From here on the MDS breaks its own sockets, too.
    cluster.exec(&["ceph", "daemon", "mds.a", "config", "set", "ms_inject_socket_failures", "40"]);

    let mut answers: BTreeMap<u64, u32> = BTreeMap::new();
    let mut sent = 0;
    let started = Instant::now();
    while session.stats().counters.reconnects < RECONNECTS_MIN {
        assert!(started.elapsed() < PATIENCE * 3, "{:?}", session.stats());
        for _ in 0..5 {
            sent += 1;
            drop(session.send(session_message(REQUEST_RENEWCAPS, sent)).await.expect("the session lives"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        relay.cut.notify_waiters();
        while let Some(message) = session.try_recv() {
            if let Some((RENEWCAPS, sequence)) = operation(&message) {
                *answers.entry(sequence).or_default() += 1;
            }
        }
        // What is not connected cannot be cut.
        let connected = async {
            while !matches!(session.stats().status, Status::Connected) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(PATIENCE, connected).await.is_err() {
            let mut events = session.events();
            while let Ok(Some(event)) = timeout(Duration::from_millis(10), events.next()).await {
                println!("{event:?}");
            }
            panic!("the session does not come back: {:?}", session.stats());
        }
    }
    cluster.exec(&["ceph", "daemon", "mds.a", "config", "set", "ms_inject_socket_failures", "0"]);

    let rest = async {
        while answers.len() < usize::try_from(sent).expect("few") {
            let message = session.recv().await.expect("the session lives");
            if let Some((RENEWCAPS, sequence)) = operation(&message) {
                *answers.entry(sequence).or_default() += 1;
            }
        }
    };
    let outcome = timeout(PATIENCE, rest).await;
    let stats = session.stats();
    assert!(outcome.is_ok(), "{} of {sent} answered: {stats:?}", answers.len());
    assert!(answers.values().all(|times| *times == 1), "each answered once: {answers:?}");
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), (1..=sent).collect::<Vec<_>>());
    assert!(stats.counters.reconnects >= RECONNECTS_MIN);
    assert!(stats.counters.replayed > 0, "{stats:?}");
    assert_eq!(stats.counters.resets, 0, "the MDS knew the session each time");
    let cuts = relay.cuts.load(Ordering::Relaxed);
    let injected = cluster.injected("mds.a");
    assert!(cuts > 0 && injected > 0, "cut by us {cuts} times, by the MDS {injected} times");
    println!(
        "{} session renewals, each answered once; {} RECONNECT_OK, {cuts} cuts, {injected} faults injected, \
         {} replayed, {} duplicates dropped",
        sent, stats.counters.reconnects, stats.counters.replayed, stats.counters.duplicates_dropped
    );
    session.abort();
}
