//! A listener of ours and real clients of Ceph.

mod ceph;

use ceph::objects::{OP_WRITE, Operation};
use ceph::program::Program;
use outlast::{Address, Auth, EntityName, Messenger, Mode, Profile, Session, SessionOptions};
use std::time::Duration;
use tokio::time::timeout;

/// `ceph_perf_msgr_client` with faults: it needs most of its time to come back.
const FAULTY_RUN_MAX: Duration = Duration::from_secs(120);
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

async fn perf_client(operations: u64, data_len: usize, inject: u32) -> (u64, outlast::Stats) {
    const AT_A_TIME: u64 = 8;
    let (messenger, address) = osd().await;
    let mut client = Program::start(
        "18",
        [
            "ceph_perf_msgr_client".to_owned(),
            address,
            "1".to_owned(),
            AT_A_TIME.to_string(),
            operations.to_string(),
            "0".to_owned(),
            data_len.to_string(),
            format!("--ms_inject_socket_failures={inject}"),
            "--debug_ms=1".to_owned(),
        ],
    );
    let session = timeout(ceph::PATIENCE, messenger.accept()).await.expect("it comes").expect("listening");
    let answering = tokio::spawn(answer(session.clone(), data_len));
    let status = client.ended(FAULTY_RUN_MAX).await;
    println!("{status:?} {:?}", session.stats());
    std::fs::write("/tmp/perf-client.log", client.said()).unwrap();
    session.abort();
    let answered = answering.await.expect("no operation was wrong");
    (answered, session.stats())
}

#[tokio::test]
async fn a_lossless_client_of_ceph_18() {
    if !ceph::wanted() {
        return;
    }
    println!("{:?}", perf_client(2000, 4096, 0).await);
}

#[tokio::test]
async fn faults() {
    if !ceph::wanted() {
        return;
    }
    println!("{:?}", perf_client(2000, 4096, 50).await);
}
