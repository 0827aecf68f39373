//! What the simulator found, told one by one.

use outlast_msgr2::{ConnectionError, Message, Policy, SessionConfig};
use outlast_session::ThrottleLimits;
use outlast_sim::setup::{Security, address, ours, process};
use outlast_sim::world::{ProcessConfig, ProcessId, Weather, World};
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
/// Far more than any of these needs: time that stands still must not hang a test.
const STEPS_MAX: u64 = 1_000_000;

fn fronts(world: &World, process: ProcessId) -> Vec<u32> {
    let delivered = world.process(process).delivered.iter();
    delivered.map(|(_, r)| u32::from_le_bytes(r.message.front[..4].try_into().expect("four bytes"))).collect()
}

fn numbered(number: u32) -> Message {
    Message::new(1).front(number.to_le_bytes().to_vec())
}

#[test]
fn keys_that_are_worn_after_every_few_messages_cost_connections_and_no_message() {
    let worn = |mut config: ProcessConfig| {
        // Enough for a handshake and some twenty messages.
        Arc::make_mut(&mut config.endpoint.connection).nonces_spare = u64::MAX - 60;
        config
    };
    let mut world = World::new(1);
    // What was encoded does not fit at once: the connection is worn before it is across.
    world.weather = Weather { window_bytes: 300, ..Weather::default() };
    let accepted = ours(Policy::STATEFUL_SERVER);
    let server = world.start(worn(process("mon.1", Some(address(1)), accepted, Security::Secure)));
    let opened = ours(Policy::LOSSLESS_CLIENT);
    let client = world.start(worn(process("client.a", None, opened.clone(), Security::Secure)));
    let session = world.connect(client, server, opened);
    for lot in 1..=4 {
        for number in 50 * (lot - 1)..50 * lot {
            world.send(client, session, numbered(number)).unwrap();
        }
        let all = 50 * lot as usize;
        assert!(world.run_until(LONG, |w| w.process(server).delivered.len() == all || w.steps() > STEPS_MAX));
    }
    assert_eq!(fronts(&world, server), (0..200).collect::<Vec<_>>());
    let ended = &world.process(client).ended;
    let replaced = ended.iter().filter(|(_, why)| *why == ConnectionError::Rekey).count();
    assert!(replaced >= 3, "{ended:?}");
}

#[test]
fn of_two_equals_known_by_name_the_one_that_opened_the_session_comes_back_with_nothing_to_say() {
    let mut world = World::new(2);
    let opener = world.start(process("osd.1", Some(address(1)), ours(Policy::LOSSLESS_PEER), Security::Crc));
    let other = world.start(process("osd.2", Some(address(2)), ours(Policy::LOSSLESS_PEER), Security::Crc));
    let session = world.connect(opener, other, ours(Policy::LOSSLESS_PEER));
    world.send(opener, session, numbered(0)).unwrap();
    assert!(world.run_until(LONG, |w| w.process(other).delivered.len() == 1));
    world.run_for(Duration::from_secs(1));
    let accepted = world.live_sessions(other)[0];
    world.cut_all();
    world.run_for(Duration::from_millis(1));
    world.send(other, accepted, numbered(1)).unwrap();
    assert!(world.run_until(LONG, |w| w.process(opener).delivered.len() == 1));
    assert_eq!(fronts(&world, opener), [1]);
    assert_eq!(world.process(other).dialled, 0, "it does not know where to");
    assert_eq!(world.session(opener, session).counters().reconnects, 1);
}

#[test]
fn a_message_that_is_still_coming_in_counts_against_the_inbound_bounds() {
    let inbound = ThrottleLimits { messages_max: 1, bytes_max: 1 << 20 };
    let accepted = SessionConfig { inbound, ..ours(Policy::STATEFUL_SERVER) };
    let mut world = World::new(3);
    let server = world.start(process("mon.1", Some(address(1)), accepted, Security::Crc));
    let opened = ours(Policy::LOSSLESS_CLIENT);
    let client = world.start(process("client.a", None, opened.clone(), Security::Crc));
    let session = world.connect(client, server, opened);
    assert!(world.run_until(LONG, |w| w.session(client, session).connects() == 1));
    world.process_mut(server).takes_messages = false;
    // Acknowledgements and the like come in between, and each brings a new budget.
    world.weather.piece_bytes_max = 500;
    for number in 0..5 {
        world.send(client, session, numbered(number).data(vec![7; 20_000])).unwrap();
    }
    let accepted = world.live_sessions(server)[0];
    for _ in 0..200 {
        world.run_for(Duration::from_millis(1));
        assert!(world.session(server, accepted).inbound_len() <= 1);
    }
    assert_eq!(world.session(server, accepted).inbound_len(), 1);
    world.process_mut(server).takes_messages = true;
    world.drain(server);
    assert!(world.run_until(LONG, |w| w.process(server).delivered.len() == 5));
    assert_eq!(fronts(&world, server), [0, 1, 2, 3, 4]);
}

#[test]
fn two_ends_that_do_not_listen_wait_without_a_timer_that_runs_hot() {
    let inbound = ThrottleLimits { messages_max: 1, bytes_max: 1000 };
    let slow = |policy| SessionConfig { inbound, ..ours(policy) };
    let mut world = World::new(4);
    world.weather.window_bytes = 2000;
    let accepted = slow(Policy::STATEFUL_SERVER);
    let server = world.start(process("mon.1", Some(address(1)), accepted, Security::Crc));
    let opened = slow(Policy::LOSSLESS_CLIENT);
    let client = world.start(process("client.a", None, opened.clone(), Security::Crc));
    let session = world.connect(client, server, opened);
    assert!(world.run_until(LONG, |w| w.session(client, session).connects() == 1));
    assert!(world.run_until(LONG, |w| !w.live_sessions(server).is_empty()));
    let accepted = world.live_sessions(server)[0];
    world.process_mut(client).takes_messages = false;
    world.process_mut(server).takes_messages = false;
    for number in 0..10 {
        let large = |n| numbered(n).data(vec![7; 20_000]);
        world.send(client, session, large(number)).unwrap();
        world.send(server, accepted, large(number)).unwrap();
    }
    let (begin, before) = (world.now, world.steps());
    assert!(!world.run_until(LONG, |w| w.steps() > before + 10_000), "time stands still");
    assert!(world.now.saturating_since(begin) >= LONG);
    for id in [client, server] {
        world.process_mut(id).takes_messages = true;
        world.drain(id);
    }
    let all = |w: &World| [client, server].iter().all(|p| w.process(*p).delivered.len() == 10);
    assert!(world.run_until(LONG, all));
    assert_eq!(fronts(&world, client), (0..10).collect::<Vec<_>>());
    assert_eq!(fronts(&world, server), (0..10).collect::<Vec<_>>());
}
