//! Whole runs from seeds, and bugs that they must find.

use outlast_sim::bugs::Bug;
use outlast_sim::run::{find, run};
use outlast_sim::situations::Situations;

/// Few enough for every `cargo test`; `cargo xtask sim` runs thousands.
const SEEDS: u64 = 150;
/// Within so many a planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 500;

#[test]
fn nothing_is_lost_doubled_or_stuck_in_any_seed() {
    let mut met = Situations::default();
    for seed in 0..SEEDS {
        let report = run(seed, None, false);
        assert!(report.findings.is_empty(), "{}: {:?}", report.about, report.findings);
        met.add(&report.situations);
    }
    // Runs in which nothing went wrong would prove nothing.
    for what in ["link cut", "link half-open", "resumed with a replay", "RESET full", "WAIT", "expired"] {
        assert!(met.times(what) > 0, "never met: {what}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 17, 400] {
        let (one, other) = (run(seed, None, false), run(seed, None, false));
        assert_eq!((one.steps, one.messages), (other.steps, other.messages));
        assert_eq!(one.situations, other.situations);
        assert_eq!(one.settled_after, other.settled_after);
    }
}

/// Each of these once found something. What a seed stands for changes with the simulator: the situation is the name,
/// and the tests beside this one hold it still.
#[test]
fn seeds_that_once_found_something() {
    for (seed, situation) in [
        (531, "keys worn out by what a small window never let through"),
        (3254, "an acknowledgement that is due while a connection is being replaced"),
        (54, "an empty message behind one larger than the bounds"),
        (350, "receipts that come with a resumption instead of an ACK"),
        (1265, "equals known by name: the acceptor has something to say and no way back"),
        (3246, "the same, after a clock jumped"),
        (5122, "a peer that closed its session and opened another in the same life"),
    ] {
        let report = run(seed, None, false);
        assert!(report.findings.is_empty(), "{situation}: {}: {:?}", report.about, report.findings);
    }
}

#[test]
fn every_planted_bug_is_found() {
    let missed: Vec<_> =
        Bug::ALL.into_iter().filter(|bug| find(*bug, 0, SEEDS_FOR_A_BUG).is_none()).collect();
    assert_eq!(missed, []);
}
