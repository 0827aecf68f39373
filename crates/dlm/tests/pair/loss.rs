//! What is lost with a connection, and what is not.

use outlast_dlm::{ConnectionError, SendError};

use crate::ends::{Pair, message};

#[test]
fn what_a_lost_connection_took_along_is_replayed_on_the_next() {
    let mut pair = Pair::established(1);
    for _ in 0..5 {
        pair.send(0);
    }
    pair.carry(0, 0, usize::MAX);
    pair.cut(0);
    pair.connect(1);
    pair.run();
    assert_eq!(pair.delivered[1], pair.sent[0]);
    let statistics = pair.sessions[0].statistics();
    assert_eq!((statistics.replayed, statistics.acked_number, statistics.connections_lost), (5, 5, 1));
    assert_eq!(pair.sessions[1].statistics().duplicates_dropped, 0, "nothing had arrived");
}

#[test]
fn what_had_arrived_before_its_acknowledgement_was_lost_is_dropped() {
    let mut pair = Pair::established(1);
    for _ in 0..5 {
        pair.send(0);
    }
    pair.carry(0, 0, usize::MAX);
    pair.arrive(0, 0, usize::MAX);
    pair.cut(0);
    pair.connect(0);
    pair.run();
    assert_eq!(pair.delivered[1], pair.sent[0]);
    assert_eq!(pair.sessions[1].statistics().duplicates_dropped, 5);
}

#[test]
fn connections_that_cross_carry_one_session_and_either_may_die() {
    for first in [0, 1] {
        let mut pair = Pair::established(1);
        pair.connect(1);
        pair.send(0);
        pair.send(1);
        pair.run();
        assert_eq!(pair.sessions[0].statistics().channels, 2);
        assert_eq!(pair.sessions[0].statistics().crossings, 1);
        pair.send(0);
        pair.send(1);
        for end in 0..2 {
            pair.carry(0, end, 50);
            pair.carry(1, end, 50);
        }
        pair.cut(first);
        pair.run();
        assert_eq!(pair.delivered[1], pair.sent[0]);
        assert_eq!(pair.delivered[0], pair.sent[1]);
        assert_eq!(pair.links(), 1, "the other connection was enough");
    }
}

#[test]
fn the_kernel_may_leave_256_unacknowledged_for_ever_and_we_still_send() {
    let mut pair = Pair::established(1);
    for _ in 0..288 {
        pair.send(0);
        pair.carry(0, 0, usize::MAX);
    }
    assert_eq!(pair.sessions[0].statistics().unacknowledged, 288);
    pair.send(0);
    pair.run();
    assert_eq!(pair.delivered[1].len(), 289);
}

#[test]
fn a_full_session_gives_the_message_back() {
    let mut pair = Pair::established(1);
    let mut taken = 0;
    let refused = loop {
        match pair.sessions[0].send(&message(taken)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1_000_000, "bounded");
    };
    assert_eq!(refused, SendError::Full { peer: pair.sessions[0].peer(), messages: taken as usize });
    assert!(!pair.sessions[0].has_room());
    for _ in 0..20 {
        pair.run();
    }
    assert_eq!(pair.delivered[1].len(), taken as usize, "what was taken arrives");
    assert!(pair.sessions[0].has_room());
}

#[test]
fn who_opens_ever_more_connections_loses_the_oldest_and_no_message() {
    let mut pair = Pair::established(1);
    for _ in 0..6 {
        pair.connect(1);
        pair.send(0);
        pair.send(1);
        pair.run();
    }
    assert_eq!(pair.sessions[0].statistics().channels, 4);
    assert!(
        pair.errors.iter().all(|error| matches!(error, ConnectionError::Superseded { .. })),
        "{:?}",
        pair.errors
    );
    assert_eq!(pair.delivered[1], pair.sent[0]);
    assert_eq!(pair.delivered[0], pair.sent[1]);
}

/// Found by the simulator (`--only dlm`, a connection that was dead for one end before it was for the other).
#[test]
fn an_acknowledgement_that_went_over_a_dead_connection_is_said_again() {
    let mut pair = Pair::established(1);
    pair.connect(1);
    pair.lose_at(0, 0);
    pair.send(0);
    pair.carry(1, 0, usize::MAX);
    pair.arrive(1, 0, usize::MAX);
    assert_eq!(pair.delivered[1], pair.sent[0]);
    pair.pass(std::time::Duration::from_millis(20));
    // It goes over the connection that end 1 writes to, which is dead for end 0.
    pair.carry(0, 1, usize::MAX);
    assert_eq!(pair.sessions[0].statistics().unacknowledged, 1);
    pair.cut(0);
    pair.run();
    assert_eq!(pair.sessions[0].statistics().unacknowledged, 0);
}
