//! msgr2.0 with real Ceph, which speaks it only to a peer that does not offer msgr2.1: this one writes and reads objects.
//!
//! `cargo xtask capture` records what is said here: with `OUTLAST_CLUSTER=FOLDER` a cluster is used that runs already.

mod ceph;

use ceph::objects::{MSG_OSD_MAP, MSG_OSD_OP_REPLY, Place, newest_epoch, result};
use ceph::{Cluster, MSG_MON_MAP, PATIENCE, admin, client, subscribe, subscribe_monmap};
use outlast::{Auth, ConnectOptions, Credential, EntityType, LivenessConfig, Message, Mode, Session};
use std::time::Duration;
use tokio::time::timeout;

/// The pool that `peers/ceph` makes first, of eight groups.
const POOL: u64 = 1;
const GROUPS: u32 = 8;
/// Any will do: OSDs believe it.
const HASH: u32 = 0x0001_2345;

const NO_SUCH_OBJECT: i32 = -2;

async fn receive(session: &Session, kind: u16) -> Message {
    let message = timeout(PATIENCE, async {
        loop {
            let message = session.recv().await.expect("the session lives");
            if message.kind == kind {
                return message;
            }
        }
    });
    message.await.unwrap_or_else(|_| panic!("no message {kind} from {}", session.peer()))
}

async fn ask(session: &Session, question: Message, answer: u16) -> Message {
    drop(session.send(question).await.expect("the session is open"));
    receive(session, answer).await
}

/// Writes an object, reads it, and reads one that is not there.
async fn use_objects(osd: &Session, epoch: u32) {
    let place = |name| Place { pool: POOL, groups: GROUPS, name, hash: HASH, epoch };
    let page: Vec<u8> = (0..4096_u32).map(|at| at.to_le_bytes()[0]).collect();
    for (tid, content) in [(1, Vec::new()), (3, b"hello".to_vec()), (5, page)] {
        let written = ask(osd, place("page").write_full(tid, content.clone()), MSG_OSD_OP_REPLY).await;
        assert_eq!((written.tid, result(&written)), (tid, 0));
        let read = ask(osd, place("page").read(tid + 1, 8192), MSG_OSD_OP_REPLY).await;
        assert_eq!(read.tid, tid + 1);
        assert!(result(&read) >= 0, "{}", result(&read));
        assert!(read.data == content, "the same bytes come back");
    }
    let missing = ask(osd, place("missing").read(7, 1), MSG_OSD_OP_REPLY).await;
    assert_eq!(result(&missing), NO_SUCH_OBJECT);
}

/// `mode`: what the cluster offers alone; we offer both.
async fn talk(cluster: &Cluster, mode: Option<Mode>) {
    // Keepalives every moment, so that they are in the captures, too.
    let liveness = LivenessConfig { interval: Duration::from_millis(100), grace: Duration::from_secs(10) };
    let messenger = client(Auth::keyring(cluster.keyring())).revision_0_only(true).liveness(liveness);
    let messenger = messenger.modes([Mode::SECURE, Mode::CRC]).build().expect("a messenger");
    let known_as = cluster.known_as("osd.0");

    let address = cluster.fact("mon.a").parse().expect("an address");
    let options = ConnectOptions::lossy().entity_type(EntityType::Mon);
    let monitor = messenger.connect(&[address], options).await.expect("the monitor lets us in");
    let map = ask(&monitor, subscribe_monmap(), MSG_MON_MAP).await;
    assert!(map.front.len() > 100, "a map with a monitor in it: {} bytes", map.front.len());
    let epoch = newest_epoch(&ask(&monitor, subscribe("osdmap"), MSG_OSD_MAP).await);
    assert!(epoch > 0);

    let tickets = monitor.tickets().expect("a monitor gives tickets");
    let ticket = tickets.get(EntityType::Osd).expect("one for OSDs").clone();
    let credential =
        Credential::Ticket { name: admin(), ticket: Box::new(ticket), global_id: tickets.global_id() };
    let options =
        ConnectOptions::lossy().entity_type(EntityType::Osd).credential(credential).known_as(known_as);
    let address = cluster.fact("osd.0").parse().expect("an address");
    let osd = messenger.connect(&[address], options).await.expect("the OSD lets us in");
    use_objects(&osd, epoch).await;

    for session in [monitor, osd] {
        let answered = async {
            while session.stats().round_trip.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, answered).await.expect("a keepalive is answered");
        let agreed = session.stats().agreed.expect("connected");
        assert!(!agreed.revision_1);
        assert!(mode.is_none_or(|mode| mode == agreed.mode), "{:?}", agreed.mode);
        session.abort();
    }
}

async fn release(release: &str) {
    if !ceph::wanted() {
        return;
    }
    if let Some(folder) = std::env::var_os("OUTLAST_CLUSTER") {
        let cluster = Cluster::join(folder.into());
        if cluster.fact("release") == release {
            talk(&cluster, None).await;
        }
        return;
    }
    for (mode, agreed) in [("crc", Mode::CRC), ("secure", Mode::SECURE)] {
        talk(&Cluster::start(release, &["--mode", mode]), Some(agreed)).await;
    }
}

#[tokio::test]
async fn ceph_16_keeps_objects_for_us() {
    release("16").await;
}

#[tokio::test]
async fn ceph_18_keeps_objects_for_us() {
    release("18").await;
}
