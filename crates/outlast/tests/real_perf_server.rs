//! A client of ours and `ceph_perf_msgr_server` of Ceph 18, which answers every operation of its clients.

mod ceph;

use ceph::objects::{MSG_OSD_OP_REPLY, Place, result};
use ceph::program::Program;
use ceph::{PATIENCE, client};
use outlast::{Auth, ConnectOptions, EntityType, Mode};
use tokio::time::timeout;

/// Calls of each kind, at most.
const ROUNDS: u64 = 200;

/// A port that nobody has at the moment.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port()
}

#[tokio::test]
async fn every_call_is_answered_by_the_perf_server_of_ceph_18() {
    if !ceph::wanted() {
        return;
    }
    let port = free_port();
    // Two threads that answer, and no pause before they do.
    let mut server =
        Program::start("18", ["ceph_perf_msgr_server", &format!("v2:127.0.0.1:{port}/0"), "2", "0"]);
    server.listening(port).await;
    let messenger = client(Auth::none()).modes([Mode::CRC]).build().expect("a messenger");
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let options = ConnectOptions::lossless().entity_type(EntityType::Osd);
    let session = messenger.connect(&[address], options).await.expect("it lets anybody in");
    let mut sent = 0;
    for (data_len, at_a_time) in [(0, 1), (64, 32), (4096, 32), (65_536, 8), (1 << 20, 2)] {
        let mut calls = Vec::new();
        for _ in 0..at_a_time {
            let session = session.clone();
            calls.push(tokio::spawn(async move {
                let place = Place { pool: 1, groups: 8, name: "outlast", hash: 5, epoch: 1 };
                for round in 0..ROUNDS / at_a_time {
                    let data = vec![round.to_le_bytes()[0]; data_len];
                    // The transaction is the session's choice, and how the answer finds its call.
                    let reply = session.call(place.write(0, data)).await.expect("it answers");
                    assert_eq!((reply.kind, result(&reply)), (MSG_OSD_OP_REPLY, 0));
                }
            }));
        }
        sent += ROUNDS / at_a_time * at_a_time;
        for call in calls {
            timeout(PATIENCE, call).await.expect("in time").expect("each answer is what it should be");
        }
    }
    let stats = session.stats();
    let counters = stats.counters;
    assert_eq!((counters.messages_sent, counters.messages_received), (sent, sent));
    assert_eq!((stats.connects, stats.inbound_messages), (1, 0));
    assert!(server.running(), "{}", server.said());
    session.abort();
}
