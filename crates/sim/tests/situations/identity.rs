//! Between our own ends: a session belongs to an authenticated name and to its cookies, not to an address.

use crate::common::by_identity;
use outlast_msgr2::{
    ConnectionError, EndReason, Message, Policy, SessionConfig, SessionEvent, SessionId, Target,
};
use outlast_session::{LossReason, ReceiptStatus};
use outlast_sim::setup::{Security, address, process};
use outlast_sim::world::{ProcessId, World};
use std::net::SocketAddr;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const CLIENT: Policy = Policy::LOSSLESS_CLIENT;
const PEER: Policy = Policy::LOSSLESS_PEER;

fn start(world: &mut World, name: &str, host: Option<u8>, policy: Policy) -> ProcessId {
    world.start(process(name, host.map(address), by_identity(policy), Security::Secure))
}

fn say(
    world: &mut World,
    from: ProcessId,
    session: SessionId,
    text: &'static str,
) -> outlast_session::MessageId {
    world.send(from, session, Message::new(1).front(text.as_bytes())).expect("room")
}

fn got(world: &World, at: ProcessId) -> Vec<String> {
    world
        .process(at)
        .delivered
        .iter()
        .map(|(_, r)| String::from_utf8(r.message.front.to_vec()).expect("text"))
        .collect()
}

fn only(world: &World, of: ProcessId) -> SessionId {
    let live = world.live_sessions(of);
    assert_eq!(live.len(), 1);
    live[0]
}

/// NAT, another network: the client comes back from another address and goes on.
#[test]
fn a_client_whose_address_changes_goes_on_with_its_session() {
    let mut world = World::new(5);
    let server = start(&mut world, "mon.1", Some(1), Policy::STATEFUL_SERVER);
    let client = start(&mut world, "client.a", None, CLIENT);
    let session = world.connect(client, server, by_identity(CLIENT));
    say(&mut world, client, session, "from the first network");
    world.run_for(Duration::from_secs(1));
    world.cut_all();
    // Another source address; the endpoint still calls itself by the first one.
    world.process_mut(client).config.listen = Some(SocketAddr::from(([192, 168, 7, 7], 50_000)));
    let last = say(&mut world, client, session, "from the second");
    world.run_for(Duration::from_secs(5));
    assert_eq!(got(&world, server), ["from the first network", "from the second"]);
    assert_eq!(world.session(client, session).status(last), ReceiptStatus::Acknowledged);
    assert_eq!((world.session(client, session).connects(), world.process(server).sessions.len()), (2, 1));
}

/// A relay: the address that the client dials is none of the server's own.
#[test]
fn a_relay_on_another_port_does_no_harm() {
    let mut world = World::new(6);
    let server = start(&mut world, "mon.1", Some(1), Policy::STATEFUL_SERVER);
    let client = start(&mut world, "client.a", None, CLIENT);
    let relay = SocketAddr::from(([127, 0, 0, 1], 9999));
    world.routes.insert(relay, server);
    let target = Target {
        addresses: outlast_msgr2::wire::EntityAddr::msgr2(relay, 0).into(),
        entity_type: None,
        name: None,
    };
    let session = world.connect_to(client, target, by_identity(CLIENT));
    say(&mut world, client, session, "one");
    world.run_for(Duration::from_secs(1));
    world.cut_all();
    say(&mut world, client, session, "two");
    world.run_for(Duration::from_secs(5));
    assert_eq!(got(&world, server), ["one", "two"]);
    assert_eq!(world.session(client, session).counters().resets, 0);
}

/// Two clients of one name (a user on two machines) have two sessions, told apart by their cookies.
#[test]
fn two_clients_of_one_name_do_not_disturb_each_other() {
    let mut world = World::new(7);
    let server = start(&mut world, "mon.1", Some(1), Policy::STATEFUL_SERVER);
    let clients = [0, 1].map(|_| start(&mut world, "client.a", None, CLIENT));
    let sessions = clients.map(|c| world.connect(c, server, by_identity(CLIENT)));
    for round in 0..3 {
        for (client, session) in clients.into_iter().zip(sessions) {
            say(&mut world, client, session, ["one", "two", "three"][round]);
        }
        world.run_for(Duration::from_secs(1));
        world.cut_all();
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.process(server).sessions.len(), 2);
    for session in world.process(server).sessions.values() {
        let fronts = world.process(server).fronts(session.id());
        assert_eq!(fronts, ["one", "two", "three"]);
        assert_eq!(session.counters().resets, 0);
    }
}

/// A peer that restarts counts its attempts from 1 again. It is another incarnation and not a stale attempt, and must
/// not be kept out until its counter has caught up (Ceph PR 64122 and what followed).
#[test]
fn a_restarted_peer_is_let_in_at_its_first_attempt() {
    for restarted_dialled_before in [true, false] {
        let mut world = World::new(8);
        let left = start(&mut world, "osd.1", Some(1), PEER);
        let right = start(&mut world, "osd.2", Some(2), PEER);
        let (from, to) = if restarted_dialled_before { (right, left) } else { (left, right) };
        let session = world.connect(from, to, by_identity(PEER));
        say(&mut world, from, session, "before");
        world.run_for(Duration::from_secs(1));
        // Raise the counters of attempts on both sides.
        for _ in 0..5 {
            world.cut_all();
            world.run_for(Duration::from_secs(1));
            let live = only(&world, right);
            say(&mut world, right, live, "again");
            world.run_for(Duration::from_secs(2));
        }
        let old = only(&world, left);
        world.restart(right);
        let before = world.process(left).ended.len();
        let fresh = world.connect(right, left, by_identity(PEER));
        let id = say(&mut world, right, fresh, "after the restart");
        assert!(world.run_until(LONG, |w| w.session(right, fresh).status(id).is_final()));
        assert_eq!(world.process(right).dialled, 1, "{restarted_dialled_before}");
        assert_eq!(got(&world, left).last().map(String::as_str), Some("after the restart"));
        let stale = |(_, e): &(_, ConnectionError)| matches!(e, ConnectionError::Stale { .. });
        assert!(!world.process(left).ended[before..].iter().any(stale));
        // The old session goes on as a new one, or has made way for it; either way there is one.
        assert_eq!(world.live_sessions(left).len(), 1, "{old:?}");
    }
}

/// A lossless session has a lifetime of its own; a client that is away for longer finds that it is gone, and both ends
/// say so.
#[test]
fn a_session_that_nobody_comes_back_to_expires_at_both_ends() {
    let mut world = World::new(9);
    let short = |policy| SessionConfig {
        lifetime: outlast_session::Lifetime::For(Duration::from_secs(30)),
        ..by_identity(policy)
    };
    let server =
        world.start(process("mon.1", Some(address(1)), short(Policy::STATEFUL_SERVER), Security::Secure));
    let client = world.start(process("client.a", None, short(CLIENT), Security::Secure));
    let session = world.connect(client, server, short(CLIENT));
    say(&mut world, client, session, "delivered");
    world.run_for(Duration::from_secs(1));
    world.unreachable.push((client, server));
    world.cut_all();
    let last = say(&mut world, client, session, "never");
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.session(client, session).status(last), ReceiptStatus::Pending);
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.session(client, session).status(last), ReceiptStatus::Lost(LossReason::Expired));
    for process in [client, server] {
        let (_, event) = world.process(process).events.last().expect("events");
        assert_eq!(*event, SessionEvent::Ended(EndReason::Expired));
    }
    assert_eq!(got(&world, server), ["delivered"]);
}

/// The keys of a connection are spent: another one takes its place, with fresh keys, and nothing is lost or told twice.
#[test]
fn a_connection_whose_nonces_run_low_is_replaced() {
    let mut world = World::new(10);
    let server = start(&mut world, "mon.1", Some(1), Policy::STATEFUL_SERVER);
    let mut config = process("client.a", None, by_identity(CLIENT), Security::Secure);
    // The whole space but 40 frames.
    let mut connection = (*config.endpoint.connection).clone();
    connection.nonces_spare = u64::MAX - 40;
    config.endpoint.connection = std::sync::Arc::new(connection);
    let client = world.start(config);
    let session = world.connect(client, server, by_identity(CLIENT));
    for _ in 0..200 {
        say(&mut world, client, session, "x");
        world.run_for(Duration::from_millis(20));
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(got(&world, server).len(), 200);
    let rekeys = world.process(client).ended.iter().filter(|(_, e)| *e == ConnectionError::Rekey).count();
    assert!(rekeys >= 5, "{rekeys} replacements for 200 frames and more, 40 for each");
    assert_eq!(world.session(client, session).counters().reconnects, rekeys as u64);
    assert_eq!(world.session(client, session).counters().lost, 0);
}
