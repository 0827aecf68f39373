//! The shortest stories: two processes, one session, and a link that breaks.

use outlast_msgr2::{Message, Policy, SessionEvent};
use outlast_session::ReceiptStatus;
use outlast_sim::setup::{Security, address, ceph, ours, process};
use outlast_sim::world::{ProcessId, World};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn client_and_server(world: &mut World, security: Security) -> (ProcessId, ProcessId) {
    let server = world.start(process("mon.1", Some(address(1)), ours(Policy::STATEFUL_SERVER), security));
    let client = world.start(process("client.a", None, ours(Policy::LOSSLESS_CLIENT), security));
    (client, server)
}

#[test]
fn messages_arrive_once_and_in_order_in_every_mode() {
    for security in [Security::None, Security::Crc, Security::Secure] {
        let mut world = World::new(1);
        let (client, server) = client_and_server(&mut world, security);
        let session = world.connect(client, server, ours(Policy::LOSSLESS_CLIENT));
        let ids: Vec<_> = (0..100_u32)
            .map(|i| world.send(client, session, Message::new(1).front(i.to_le_bytes().to_vec())).unwrap())
            .collect();
        let all = |w: &World| w.process(server).delivered.len() == 100;
        assert!(world.run_until(LONG, all), "{security:?}: {:?}", world.process(client).ended);
        world.run_for(Duration::from_secs(1));
        let fronts: Vec<u32> = world
            .process(server)
            .delivered
            .iter()
            .map(|(_, r)| u32::from_le_bytes(r.message.front[..].try_into().unwrap()))
            .collect();
        assert_eq!(fronts, (0..100).collect::<Vec<_>>());
        for id in ids {
            assert_eq!(world.session(client, session).status(id), ReceiptStatus::Acknowledged);
        }
        assert_eq!(world.process(client).events, [(session, SessionEvent::Connected)]);
        assert_eq!((world.process(client).dialled, world.process(server).accepted), (1, 1));
    }
}

#[test]
fn a_cut_link_costs_nothing_but_time() {
    for security in [Security::None, Security::Secure] {
        let mut world = World::new(2);
        let (client, server) = client_and_server(&mut world, security);
        let session = world.connect(client, server, ours(Policy::LOSSLESS_CLIENT));
        let mut sent = 0_u32;
        for round in 0..20 {
            for _ in 0..10 {
                let front = sent.to_le_bytes().to_vec();
                world.send(client, session, Message::new(1).front(front).data(vec![7; 5000])).unwrap();
                sent += 1;
            }
            assert!(world.run_until(LONG, |w| w.session(client, session).connects() == round + 1));
            world.run_for(Duration::from_micros(100 + 37 * round));
            world.cut_all();
        }
        let all = |w: &World| w.process(server).delivered.len() == 200;
        assert!(world.run_until(LONG, all), "{:?}", world.process(client).ended);
        let counters = world.session(client, session).counters();
        assert!(counters.reconnects >= 19, "{counters:?}");
        assert!(counters.replayed > 0, "{counters:?}");
        let fronts: Vec<u32> = world
            .process(server)
            .delivered
            .iter()
            .map(|(_, r)| u32::from_le_bytes(r.message.front[..].try_into().unwrap()))
            .collect();
        assert_eq!(fronts, (0..200).collect::<Vec<_>>());
        assert_eq!(counters.resets, 0);
    }
}

#[test]
fn two_peers_that_dial_each_other_end_with_one_session() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let a = world.start(process("osd.1", Some(address(1)), ceph(Policy::LOSSLESS_PEER), Security::None));
        let b = world.start(process("osd.2", Some(address(2)), ceph(Policy::LOSSLESS_PEER), Security::None));
        let ab = world.connect(a, b, ceph(Policy::LOSSLESS_PEER));
        let ba = world.connect(b, a, ceph(Policy::LOSSLESS_PEER));
        world.send(a, ab, Message::new(1).front(&b"from a"[..])).unwrap();
        world.send(b, ba, Message::new(1).front(&b"from b"[..])).unwrap();
        let both = |w: &World| w.process(a).delivered.len() == 1 && w.process(b).delivered.len() == 1;
        assert!(
            world.run_until(LONG, both),
            "{seed}: {:?} {:?}",
            world.process(a).ended,
            world.process(b).ended
        );
        assert_eq!(world.live_sessions(a).len(), 1);
        assert_eq!(world.live_sessions(b).len(), 1);
    }
}

#[test]
fn an_orderly_end_is_seen_by_both() {
    let mut world = World::new(3);
    let (client, server) = client_and_server(&mut world, Security::Secure);
    let session = world.connect(client, server, ours(Policy::LOSSLESS_CLIENT));
    world.send(client, session, Message::new(1).front(&b"last"[..])).unwrap();
    world.with_session(client, session, |s, now| s.close(now, LONG));
    assert!(
        world.run_until(LONG, |w| w.live_sessions(server).is_empty()
            && !w.process(server).sessions.is_empty())
    );
    assert_eq!(world.process(server).delivered.len(), 1);
    let ends: Vec<_> = [client, server]
        .into_iter()
        .map(|p| world.process(p).sessions.values().next().unwrap().end().cloned().unwrap())
        .collect();
    assert_eq!(ends, [outlast_msgr2::EndReason::Closed, outlast_msgr2::EndReason::PeerClosed]);
    world.run_for(Duration::from_secs(1));
    assert!(world.links.is_empty());
}
