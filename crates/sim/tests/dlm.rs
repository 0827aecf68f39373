//! Whole runs of clusters from seeds, and bugs that they must find.

use outlast_sim::dlm::{Bug, expected, find, run};
use outlast_sim::situations::Situations;

/// Few enough for every `cargo test`; `cargo xtask sim` runs thousands.
const SEEDS: u64 = 300;
/// Within so many a planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 500;

#[test]
fn no_cluster_grants_too_much_or_too_little_in_any_seed() {
    let mut met = Situations::default();
    for seed in 0..SEEDS {
        let report = run(seed, None, false);
        assert!(report.findings.is_empty(), "{}: {:?}", report.about, report.findings);
        met.add(&report.situations);
    }
    // Runs in which nothing went wrong would prove nothing.
    for what in [
        "message replayed",
        "connections that cross",
        "connection half-open",
        "node died during a recovery",
        "recovery interrupted",
        "told that a member is a fresh one",
        "recovered: granted",
        "recovered: a conversion was under way",
        "deadlock",
        "value read",
    ] {
        assert!(expected().contains(&what), "{what} is no situation");
        assert!(met.times(what) > 0, "never met: {what}");
    }
}

#[test]
fn the_same_seed_is_the_same_cluster() {
    for seed in [1, 17, 400] {
        let (one, other) = (run(seed, None, false), run(seed, None, false));
        assert_eq!((one.steps, one.settled_after), (other.steps, other.settled_after));
        assert_eq!(one.situations, other.situations);
    }
}

#[test]
fn every_planted_bug_is_found() {
    let missed: Vec<_> =
        Bug::ALL.into_iter().filter(|bug| find(*bug, 0, SEEDS_FOR_A_BUG).is_none()).collect();
    assert_eq!(missed, []);
}
