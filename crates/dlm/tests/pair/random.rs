//! Anything in any order; in the end everything has arrived once.

use std::time::Duration;

use outlast_dlm::{Dial, State};
use rand::RngExt;

use crate::ends::Pair;

fn run(seed: u64) -> Pair {
    let mut pair = Pair::established(seed);
    for _ in 0..400 {
        let (end, link) = (pair.rng.random_range(0..2), pair.rng.random_range(0..pair.links().max(1)));
        match pair.rng.random_range(0..100) {
            0..30 => pair.send(end),
            30..60 => {
                let bytes = pair.rng.random_range(1..400);
                pair.carry(link, end, bytes);
            }
            60..90 => {
                let bytes = pair.rng.random_range(1..400);
                pair.arrive(link, end, bytes);
            }
            90..94 => pair.cut(link),
            94..97 if pair.links() < 3 => pair.connect(end),
            _ => pair.pass(Duration::from_millis(3)),
        }
    }
    // The faults stop.
    for _ in 0..20 {
        if pair.links() == 0 {
            pair.connect(0);
        }
        pair.run();
    }
    pair
}

#[test]
fn whatever_is_cut_every_message_arrives_once_and_in_order() {
    let (mut cuts, mut replays, mut duplicates, mut crossings) = (0, 0, 0, 0);
    for seed in 0..300 {
        let pair = run(seed);
        for end in 0..2 {
            assert_eq!(
                pair.sent[end],
                pair.delivered[1 - end],
                "seed {seed}, from end {end}: {:?}",
                pair.errors
            );
            let statistics = pair.sessions[end].statistics();
            assert_eq!(statistics.unacknowledged, 0, "seed {seed}");
            assert_eq!(pair.sessions[end].poll_dial(), Dial::No, "seed {seed}: connected");
            replays += statistics.replayed;
            duplicates += statistics.duplicates_dropped;
            crossings += statistics.crossings;
        }
        assert_eq!(pair.sessions[0].state(), State::Established);
        cuts += pair.cuts;
    }
    assert!(cuts > 300, "{cuts} cuts");
    assert!(replays > 300, "{replays} replays");
    assert!(duplicates > 100, "{duplicates} duplicates");
    assert!(crossings > 100, "{crossings} crossings");
}
