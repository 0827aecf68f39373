//! A listener of ours and real clients of Ceph.

mod ceph;

use ceph::objects::{OP_WRITE, Operation};
use ceph::program::{Folder, Program};
use ceph::{MSG_MON_MAP, MSG_MON_SUBSCRIBE, PATIENCE};
use outlast::{
    Address, Auth, AuthMethod, EntityName, EntityType, KeyType, Keyring, KeyringEntry, Message, Messenger,
    Mode, Policy, Profile, Session, SessionOptions, Stats, Status, generate_key,
};
use std::process::Command;
use std::time::Duration;
use tokio::time::timeout;

/// A run of `ceph_perf_msgr_client` is given up after this.
const RUN_MAX: Duration = Duration::from_secs(60);
/// It hangs now and then when all is done.
const ATTEMPTS: u32 = 3;
/// Operations that it lets be unanswered; it ends without waiting for these, nor for one more.
const AT_A_TIME: u64 = 8;
const UNANSWERED_MAX: u64 = AT_A_TIME + 1;
/// Resumptions that the run must count.
const RECONNECTS_MIN: u64 = 100;

fn port(address: &Address) -> u16 {
    address.ip().expect("an Internet address").port()
}

/// A listener as Ceph's OSD 0 would be one, and its address with the nonce 0, the only one that
/// `ceph_perf_msgr_client` can dial.
async fn osd() -> (Messenger, String) {
    let name: EntityName = "osd.0".parse().expect("a name");
    let messenger = Messenger::builder(name)
        .auth(Auth::none())
        .profile(Profile::Ceph)
        .modes([Mode::CRC])
        .nonce(0)
        .accepted(SessionOptions::server())
        .build()
        .expect("a messenger");
    let address = messenger.listen("127.0.0.1:0".parse().expect("an address")).await.expect("listening");
    let dialled = format!("v2:127.0.0.1:{}/0", port(&address));
    (messenger, dialled)
}

/// Answers each operation once, until the session ends or the client is gone; how many there were.
async fn answer(session: Session, data_len: usize) -> u64 {
    let mut answered = 0;
    while let Some(message) = session.recv().await {
        let operation = Operation::read(&message);
        assert_eq!(operation.codes(), [(OP_WRITE, data_len as u64)]);
        assert_eq!(message.data.len(), data_len);
        answered += 1;
        if session.reply(&message, operation.done()).await.is_err() {
            break;
        }
    }
    answered
}

/// Waits until the client is gone and all that it said is answered.
async fn taken(session: &Session) {
    loop {
        let stats = session.stats();
        if !matches!(stats.status, Status::Connected) && stats.inbound_messages == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What became of a run of `ceph_perf_msgr_client`.
struct Run {
    /// By our count.
    answered: u64,
    stats: Stats,
    /// What the client wrote about itself.
    said: String,
}

/// Lets the client do its operations; it ends as soon as it has said the last one, with so many unanswered at most.
async fn perf_client(operations: u64, data_len: usize, options: &[&str]) -> Run {
    for _ in 0..ATTEMPTS {
        let (messenger, address) = osd().await;
        let numbers = ["1".to_owned(), AT_A_TIME.to_string(), operations.to_string(), "0".to_owned()];
        let arguments = ["ceph_perf_msgr_client".to_owned(), address]
            .into_iter()
            .chain(numbers)
            .chain([data_len.to_string(), "--debug_ms=1".to_owned()])
            .chain(options.iter().map(|option| (*option).to_owned()));
        let mut client = Program::start("18", arguments);
        let session = timeout(PATIENCE, messenger.accept()).await.expect("it comes").expect("listening");
        let answering = tokio::spawn(answer(session.clone(), data_len));
        let ended = client.ended(RUN_MAX).await;
        if ended.is_some() {
            timeout(PATIENCE, taken(&session)).await.expect("its last words are taken");
        }
        let stats = session.stats();
        assert_eq!(messenger.sessions().len(), 1, "one session from its beginning to its end");
        session.abort();
        let answered = answering.await.expect("every operation is what it should be");
        let said = client.said();
        assert!(answered + UNANSWERED_MAX >= operations, "{answered} of {operations}: {stats:?}");
        if let Some(status) = ended {
            assert!(status.success(), "{status}: {said}");
            return Run { answered, stats, said };
        }
        println!("all was answered, but the client hangs at its end, as it does now and then: once more");
    }
    panic!("{ATTEMPTS} clients hang");
}

/// The numbers of the messages that the client has handed to its application, as it wrote them down.
fn delivered(said: &str) -> Vec<u64> {
    let number = |line: &str| line.split_once(" <== osd.0 v2:")?.1.split(' ').nth(1)?.parse().ok();
    said.lines().filter(|line| line.contains("osd_op_reply(")).filter_map(number).collect()
}

fn check(run: &Run, operations: u64) {
    let Run { answered, stats, said } = run;
    assert_eq!(stats.counters.messages_received, *answered, "each was taken once");
    assert!(*answered <= operations, "{answered} of {operations}");
    let delivered = delivered(said);
    assert!(delivered.len() as u64 + UNANSWERED_MAX >= operations, "{} answers", delivered.len());
    let expected: Vec<u64> = (1..=delivered.len() as u64).collect();
    assert_eq!(delivered, expected, "the client got every answer once and in order");
    assert_eq!(stats.counters.resets, 0, "the session was found again each time");
}

#[tokio::test]
async fn a_lossless_client_of_ceph_18_runs_to_its_end() {
    if !ceph::wanted() {
        return;
    }
    for data_len in [0, 4096, 1 << 20] {
        let run = perf_client(500, data_len, &[]).await;
        check(&run, 500);
        assert_eq!(run.stats.connects, 1);
    }
}

#[tokio::test]
async fn a_lossless_client_of_ceph_18_goes_on_through_a_hundred_faults_of_its_own() {
    if !ceph::wanted() {
        return;
    }
    const OPERATIONS: u64 = 3000;
    // A fault in the handshake costs a pause.
    let run =
        perf_client(OPERATIONS, 4096, &["--ms_inject_socket_failures=50", "--ms_initial_backoff=0.01"]).await;
    check(&run, OPERATIONS);
    let injected = run.said.matches("injecting socket failure").count();
    let counters = run.stats.counters;
    assert!(injected >= 100, "{injected} faults");
    assert!(counters.reconnects >= RECONNECTS_MIN, "{counters:?}");
    assert!(counters.replayed > 0, "{counters:?}");
    println!(
        "{} operations answered once; {injected} faults injected by the client, {} RECONNECT_OK, {} replayed, \
         {} duplicates dropped",
        run.answered, counters.reconnects, counters.replayed, counters.duplicates_dropped
    );
}

/// Message types (`src/include/ceph_fs.h`, `src/msg/Message.h`).
const MSG_MON_GET_MAP: u16 = 5;
const MSG_CONFIG: u16 = 62;

/// The cluster that the listener plays.
const FSID: &str = "5b7a9e8e-0c1b-4b56-9d57-3f6f6a1a2b3c";

/// In a map of monitors, behind the structure's version and length and the cluster's identity.
const EPOCH_AT: usize = 6 + 16;

/// A map of monitors with one at this port, as the release's own program writes it.
fn monitor_map(release: &str, port: u16) -> Message {
    let folder = Folder::new();
    let file = folder.path().join("monmap");
    let made = Command::new(ceph::script())
        .args(["run", release, "monmaptool", "--create", "--enable-all-features", "--fsid", FSID])
        .args(["--addv", "a"])
        .arg(format!("[v2:127.0.0.1:{port}]"))
        .arg(&file)
        .output()
        .expect("the script runs");
    assert!(made.status.success(), "{made:?}");
    let mut map = std::fs::read(&file).expect("a map");
    // Its first epoch: clients wait for more than the 0 that the program writes.
    map[EPOCH_AT] = 1;
    let mut front = u32::try_from(map.len()).expect("short").to_le_bytes().to_vec();
    front.extend_from_slice(&map);
    Message::new(MSG_MON_MAP).front(front)
}

/// The names of the maps that a client asks for.
fn subscribed(message: &Message) -> Vec<String> {
    assert_eq!(message.kind, MSG_MON_SUBSCRIBE);
    let mut rest = &message.front[..];
    let u32 = |rest: &mut &[u8]| {
        let (number, behind) = rest.split_first_chunk::<4>().expect("a number");
        *rest = behind;
        u32::from_le_bytes(*number) as usize
    };
    let count = u32(&mut rest);
    let mut names = Vec::new();
    for _ in 0..count {
        let len = u32(&mut rest);
        names.push(String::from_utf8(rest[..len].to_vec()).expect("a name"));
        // Where to start, and flags.
        rest = &rest[len + 9..];
    }
    names
}

/// What a client says first on a session, in this order; it is answered.
async fn first_words(session: &Session, map: &Message) {
    let get_map = timeout(PATIENCE, session.recv()).await.expect("it says something").expect("it lives");
    assert_eq!((get_map.kind, get_map.payload_len()), (MSG_MON_GET_MAP, 0));
    let subscribe = timeout(PATIENCE, session.recv()).await.expect("it says more").expect("it lives");
    assert_eq!(subscribed(&subscribe), ["config", "monmap"]);
    // A configuration without a setting.
    for answer in [map.clone(), Message::new(MSG_CONFIG).front(vec![0; 4])] {
        drop(session.send(answer).await.expect("it listens"));
    }
}

fn check_rados(session: &Session, key_type: KeyType) {
    let peer = session.peer_info();
    assert!(peer.proven);
    assert_eq!((peer.name, peer.entity_type), (ceph::admin(), EntityType::Client));
    let agreed = session.stats().agreed.expect("it was connected");
    assert_eq!((agreed.mode, agreed.method), (Mode::SECURE, AuthMethod::CEPHX));
    assert_eq!(agreed.key_type, Some(key_type));
    assert!(agreed.revision_1);
}

/// A listener as a monitor would be one, and a real `rados` that takes it for one.
async fn rados(release: &str, key_type: KeyType) {
    let admin = ceph::admin();
    let key = match key_type {
        KeyType::Aes256k => generate_key().expect("randomness"),
        // Made for this test.
        KeyType::Aes => "AQAAAABqAAAAABAAb3V0bGFzdCByYWRvcyB0ZQ==".parse().expect("a key"),
    };
    assert_eq!(key.key_type(), key_type);
    let mut keyring = Keyring::new();
    let entry = ["mon", "mgr", "osd", "mds"]
        .into_iter()
        .fold(KeyringEntry::new(key), |entry, service| entry.with_caps(service, "allow *"));
    keyring.insert(admin.clone(), entry);
    let messenger = Messenger::builder("mon.a".parse().expect("a name"))
        .auth(Auth::keyring(keyring.clone()))
        .profile(Profile::Ceph)
        .modes([Mode::SECURE])
        .nonce(0)
        .accepted(SessionOptions::policy(Policy::STATELESS_REGISTERED_SERVER))
        .build()
        .expect("a messenger");
    let address = messenger.listen("127.0.0.1:0".parse().expect("an address")).await.expect("listening");
    let map = monitor_map(release, port(&address));

    let folder = Folder::new();
    let (keys, configuration) = (folder.path().join("keyring"), folder.path().join("ceph.conf"));
    let text = keyring.to_text().expect("names that can be written");
    std::fs::write(&keys, text.as_bytes()).expect("written");
    let text = format!(
        "[global]\nmon_host = [v2:127.0.0.1:{}]\nkeyring = {}\nms_mon_client_mode = secure\n",
        port(&address),
        keys.display()
    );
    std::fs::write(&configuration, text).expect("written");
    let configuration = configuration.display().to_string();
    let mut client =
        Program::start(release, ["rados", "-c", &configuration, "-n", "client.admin", "lspools"]);

    // It comes for its configuration alone, and again, and goes when it has it; then it comes to stay.
    let stays = async {
        for visits in 1_u32.. {
            let session = messenger.accept().await.expect("listening");
            first_words(&session, &map).await;
            check_rados(&session, key_type);
            while let Some(message) = session.recv().await {
                if message.kind == MSG_MON_SUBSCRIBE && subscribed(&message).contains(&"osdmap".to_owned()) {
                    return visits;
                }
            }
        }
        unreachable!("it cannot come for ever")
    };
    let visits = timeout(PATIENCE, stays)
        .await
        .unwrap_or_else(|_| panic!("it wants no map of OSDs: {}", client.said()));
    assert!(visits > 1, "it stayed at once");
    assert!(client.running(), "it waits for a map of OSDs: {}", client.said());
}

#[tokio::test]
async fn rados_of_ceph_16() {
    if ceph::wanted() {
        rados("16", KeyType::Aes).await;
    }
}

#[tokio::test]
async fn rados_of_ceph_18() {
    if ceph::wanted() {
        rados("18", KeyType::Aes).await;
    }
}

#[tokio::test]
async fn rados_of_ceph_20_with_a_key_of_the_new_type() {
    if ceph::wanted() {
        rados("20", KeyType::Aes256k).await;
    }
}
