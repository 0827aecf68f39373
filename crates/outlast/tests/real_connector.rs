//! A client of ours and real monitors and OSDs of Ceph 16, 18 and 20: in every mode, with both types of keys, as
//! msgr2.1 and as msgr2.0.

mod ceph;

use ceph::{Cluster, MSG_MON_MAP, PATIENCE, admin, client, subscribe_monmap};
use outlast::{
    Auth, AuthMethod, Builder, ConnectOptions, Credential, EntityType, KeyType, LivenessConfig, Mode,
    Session, SessionEvent, Status,
};
use std::time::Duration;
use tokio::time::timeout;

/// One way to talk to a cluster.
struct Case {
    mode: Mode,
    revision_0: bool,
}

const CRC: Case = Case { mode: Mode::CRC, revision_0: false };
const SECURE: Case = Case { mode: Mode::SECURE, revision_0: false };
const CRC_REVISION_0: Case = Case { mode: Mode::CRC, revision_0: true };
const SECURE_REVISION_0: Case = Case { mode: Mode::SECURE, revision_0: true };
const ALL: [&Case; 4] = [&CRC, &SECURE, &CRC_REVISION_0, &SECURE_REVISION_0];

impl Case {
    fn apply(&self, builder: Builder) -> Builder {
        // Keepalives every moment: the session below is held for some time, and must show that it is alive.
        let liveness =
            LivenessConfig { interval: Duration::from_millis(100), grace: Duration::from_secs(10) };
        let builder = builder.modes([self.mode]).liveness(liveness);
        if self.revision_0 { builder.revision_0_only(true) } else { builder }
    }
}

/// Says something to a monitor and hears the answer.
async fn talk_to_monitor(session: &Session) {
    for _ in 0..3 {
        drop(session.send(subscribe_monmap()).await.expect("the session is open"));
        let map = timeout(PATIENCE, async {
            loop {
                let message = session.recv().await.expect("the session lives");
                if message.kind == MSG_MON_MAP {
                    return message;
                }
            }
        });
        let map = map.await.expect("the monitor answers");
        assert!(map.front.len() > 100, "a monmap with a monitor in it: {} bytes", map.front.len());
    }
}

/// Holds a session for a while: keepalives are answered and nothing interrupts it.
async fn hold(session: &Session) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stats = session.stats();
    assert!(matches!(stats.status, Status::Connected), "{:?}", stats.status);
    assert_eq!(stats.connects, 1);
    assert!(stats.round_trip.is_some(), "keepalives are answered: {stats:?}");
    let mut events = session.events();
    assert_eq!(timeout(PATIENCE, events.next()).await.expect("known"), Some(SessionEvent::Connected));
}

async fn with_keys(cluster: &Cluster, case: &Case, key_type: KeyType) {
    let keyring = cluster.keyring();
    let messenger = case.apply(client(Auth::keyring(keyring))).build().expect("a messenger");
    let address = cluster.fact("mon.a").parse().expect("an address");
    let options = ConnectOptions::lossy().entity_type(EntityType::Mon);
    let monitor = messenger.connect(&[address], options).await.expect("the monitor lets us in");
    talk_to_monitor(&monitor).await;
    let agreed = monitor.stats().agreed.expect("connected");
    assert_eq!((agreed.mode, agreed.method), (case.mode, AuthMethod::CEPHX));
    assert_eq!(agreed.key_type, Some(key_type));
    assert_eq!(agreed.revision_1, !case.revision_0);

    // The OSD knows no keys: it takes the monitor's ticket.
    let tickets = monitor.tickets().expect("a monitor gives tickets");
    let ticket = tickets.get(EntityType::Osd).expect("one for OSDs").clone();
    let credential =
        Credential::Ticket { name: admin(), ticket: Box::new(ticket), global_id: tickets.global_id() };
    let options = ConnectOptions::lossy()
        .entity_type(EntityType::Osd)
        .credential(credential)
        .known_as(cluster.known_as("osd.0"));
    let address = cluster.fact("osd.0").parse().expect("an address");
    let osd = messenger.connect(&[address], options).await.expect("the OSD lets us in");
    let agreed = osd.stats().agreed.expect("connected");
    assert_eq!(
        (agreed.mode, agreed.method, agreed.revision_1),
        (case.mode, AuthMethod::CEPHX, !case.revision_0)
    );
    assert_eq!(osd.peer_info().entity_type, EntityType::Osd);
    hold(&osd).await;
    hold(&monitor).await;
}

async fn without_keys(cluster: &Cluster) {
    let messenger = CRC.apply(client(Auth::none())).build().expect("a messenger");
    for (daemon, entity_type) in [("mon.a", EntityType::Mon), ("osd.0", EntityType::Osd)] {
        let mut options = ConnectOptions::lossy().entity_type(entity_type);
        if entity_type == EntityType::Osd {
            options = options.known_as(cluster.known_as(daemon));
        }
        let address = cluster.fact(daemon).parse().expect("an address");
        let session = messenger.connect(&[address], options).await.expect("it lets anybody in");
        let agreed = session.stats().agreed.expect("connected");
        assert_eq!((agreed.mode, agreed.method, agreed.key_type), (Mode::CRC, AuthMethod::NONE, None));
        if entity_type == EntityType::Mon {
            talk_to_monitor(&session).await;
        }
        hold(&session).await;
    }
}

#[tokio::test]
async fn ceph_16_without_keys() {
    if ceph::wanted() {
        without_keys(&Cluster::start("16", &["--auth", "none", "--mode", "crc"])).await;
    }
}

#[tokio::test]
async fn ceph_16_in_every_mode_and_revision() {
    if ceph::wanted() {
        let cluster = Cluster::start("16", &[]);
        for case in ALL {
            with_keys(&cluster, case, KeyType::Aes).await;
        }
    }
}

#[tokio::test]
async fn ceph_18_without_keys() {
    if ceph::wanted() {
        without_keys(&Cluster::start("18", &["--auth", "none", "--mode", "crc"])).await;
    }
}

#[tokio::test]
async fn ceph_18_in_every_mode_and_revision() {
    if ceph::wanted() {
        let cluster = Cluster::start("18", &[]);
        for case in ALL {
            with_keys(&cluster, case, KeyType::Aes).await;
        }
    }
}

#[tokio::test]
async fn ceph_20_with_both_types_of_keys() {
    if ceph::wanted() {
        for (keys, key_type) in [("aes", KeyType::Aes), ("aes256k", KeyType::Aes256k)] {
            let cluster = Cluster::start("20", &["--keys", keys]);
            for case in ALL {
                with_keys(&cluster, case, key_type).await;
            }
        }
    }
}
