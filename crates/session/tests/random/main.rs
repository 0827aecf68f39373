//! Random operations on two ends and the wire between them, against a model of a few lines.

mod model;
mod pair;

use outlast_session::{Convention, Exclusive32, Inclusive64, ReceiptStatus};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use model::{Wrong, check};
use pair::{Bug, LIMITS, Pair, Seen, Side};

/// What can happen. A failure shrinks to a list of these.
#[derive(Clone, Debug)]
enum Op {
    Push { side: Side, class: u8, cost: usize },
    Pull { side: Side, frames: usize },
    Deliver(Side),
    Tick { side: Side, millis: u64 },
    Cut,
    Resume { rewind_first: bool },
    ResumeWithoutAWord,
    Revoke { side: Side, pick: usize },
    RevokeOldestOnWire(Side),
    Reset,
}

fn op() -> impl Strategy<Value = Op> {
    let side = 0..2usize;
    prop_oneof![
        12 => (side.clone(), prop_oneof![Just(0), Just(7), Just(255)], 0..LIMITS.bytes_max / 3)
            .prop_map(|(side, class, cost)| Op::Push { side, class, cost }),
        1 => side.clone().prop_map(|side| Op::Push { side, class: 9, cost: LIMITS.bytes_max + 1 }),
        14 => (side.clone(), 1..4usize).prop_map(|(side, frames)| Op::Pull { side, frames }),
        14 => side.clone().prop_map(Op::Deliver),
        6 => (side.clone(), 0..7u64).prop_map(|(side, millis)| Op::Tick { side, millis }),
        3 => Just(Op::Cut),
        5 => any::<bool>().prop_map(|rewind_first| Op::Resume { rewind_first }),
        4 => Just(Op::ResumeWithoutAWord),
        3 => side.clone().prop_map(Op::RevokeOldestOnWire),
        4 => (side, 0..2 * LIMITS.messages_max).prop_map(|(side, pick)| Op::Revoke { side, pick }),
        1 => Just(Op::Reset),
    ]
}

/// A run was not what was promised.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    Wrong(Wrong),
    NotSettled,
}

fn run<C: Convention>(first: u64, bug: Bug, ops: &[Op]) -> Result<Seen, Failure> {
    let mut pair = Pair::<C>::new(first, bug);
    for op in ops {
        match *op {
            Op::Push { side, class, cost } => pair.push(side, class, cost),
            Op::Pull { side, frames } => (0..frames).for_each(|_| pair.pull(side)),
            Op::Deliver(side) => pair.deliver(side),
            Op::Tick { side, millis } => pair.tick(side, millis),
            Op::Cut => pair.cut(),
            Op::Resume { rewind_first } => pair.resume(rewind_first),
            Op::ResumeWithoutAWord => pair.resume_without_a_word(),
            Op::Revoke { side, pick } => pair.revoke(side, pick),
            Op::RevokeOldestOnWire(side) => pair.revoke_oldest_on_wire(side),
            Op::Reset => pair.reset(),
        }
        pair.check_bounds();
    }
    let settled = pair.settle();
    for history in pair.histories() {
        check(history).map_err(Failure::Wrong)?;
    }
    let open = |side| pair.statuses(side).filter(|status| *status == ReceiptStatus::Pending).count();
    if !settled || open(0) + open(1) > 0 {
        return Err(Failure::NotSettled);
    }
    Ok(pair.seen)
}

/// Enough steps for several cuts in each run, and enough runs for every pair of rare operations.
const STEPS_MAX: usize = 150;
const RUNS: u32 = 4_000;

fn runs<C: Convention>(first: u64) {
    let mut runner = TestRunner::new_with_rng(
        Config { cases: RUNS, failure_persistence: None, ..Config::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let total = std::cell::RefCell::new(Seen::default());
    let result = runner.run(&prop::collection::vec(op(), 1..STEPS_MAX), |ops| {
        let seen = run::<C>(first, Bug::None, &ops)
            .map_err(|failure| TestCaseError::fail(format!("{failure:?}")))?;
        let mut total = total.borrow_mut();
        total.replayed += seen.replayed;
        total.duplicates += seen.duplicates;
        total.gaps += seen.gaps;
        total.full += seen.full;
        total.revoked_early += seen.revoked_early;
        total.revoked_in_writing += seen.revoked_in_writing;
        total.lost += seen.lost;
        total.separate_acks += seen.separate_acks;
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let Seen { replayed, duplicates, gaps, full, revoked_early, revoked_in_writing, lost, separate_acks } =
        total.into_inner();
    for (name, count) in [
        ("replayed", replayed),
        ("duplicates", duplicates),
        ("gaps", gaps),
        ("full", full),
        ("revoked early", revoked_early),
        ("revoked in writing", revoked_in_writing),
        ("lost", lost),
        ("separate acks", separate_acks),
    ] {
        assert!(count >= u64::from(RUNS) / 20, "{name}: met only {count} times in {RUNS} runs");
    }
}

#[test]
fn random_operations_keep_the_promise_with_msgr2s_numbers() {
    runs::<Inclusive64>(0);
}

#[test]
fn random_operations_keep_the_promise_with_dlms_numbers() {
    runs::<Exclusive32>(0);
}

/// The ends start just below 2^32, so the numbers on the wire wrap in mid-run.
#[test]
fn random_operations_keep_the_promise_while_dlms_numbers_wrap() {
    runs::<Exclusive32>((1 << 32) - 20);
}

/// Found by the runs above: the acknowledgement had travelled in the frame and cancelled the separate one.
#[test]
fn an_idle_end_whose_aborted_frame_carried_the_acknowledgement_sends_it_again() {
    let ops = [
        Op::Push { side: 0, class: 0, cost: 0 },
        Op::Pull { side: 0, frames: 1 },
        Op::Deliver(0),
        Op::Push { side: 1, class: 0, cost: 0 },
        Op::Pull { side: 1, frames: 1 },
        Op::RevokeOldestOnWire(1),
    ];
    let seen = run::<Inclusive64>(0, Bug::None, &ops).expect("everything is acknowledged");
    assert_eq!((seen.revoked_in_writing, seen.separate_acks), (1, 1));
}

/// Found by the runs above: the frame of a replay could be aborted although the message had been delivered.
#[test]
fn a_message_whose_replay_is_on_the_wire_is_not_revoked_since_the_first_copy_may_have_arrived() {
    let ops = [
        Op::Push { side: 0, class: 0, cost: 0 },
        Op::Pull { side: 0, frames: 1 },
        Op::Deliver(0),
        Op::Cut,
        Op::ResumeWithoutAWord,
        Op::Pull { side: 0, frames: 1 },
        Op::RevokeOldestOnWire(0),
    ];
    let seen = run::<Exclusive32>(0, Bug::None, &ops).expect("it is delivered once and acknowledged");
    assert_eq!((seen.replayed, seen.duplicates, seen.revoked_in_writing), (1, 1, 0));
}

/// How many runs a planted mistake may survive.
const RUNS_UNTIL_FOUND_MAX: u32 = 200;

/// What the checks say first about a pair with this mistake.
fn first_failure(bug: Bug) -> Option<Failure> {
    let mut runner = TestRunner::new_with_rng(
        Config { failure_persistence: None, ..Config::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let ops = prop::collection::vec(op(), 1..STEPS_MAX);
    (0..RUNS_UNTIL_FOUND_MAX).find_map(|_| {
        let ops = ops.new_tree(&mut runner).expect("nothing is filtered").current();
        run::<Inclusive64>(0, bug, &ops).err()
    })
}

#[test]
fn a_sender_that_does_not_replay_is_noticed() {
    // What was lost on the wire is missed by the next delivery, or never comes.
    let failure = first_failure(Bug::NoReplay);
    assert!(
        matches!(failure, Some(Failure::Wrong(Wrong::NotNext { .. } | Wrong::Stuck { .. }))),
        "{failure:?}"
    );
}

#[test]
fn a_receiver_that_delivers_duplicates_is_noticed() {
    let failure = first_failure(Bug::DeliversDuplicates);
    assert!(matches!(failure, Some(Failure::Wrong(Wrong::NotNext { .. }))), "{failure:?}");
}

#[test]
fn an_acknowledgement_off_by_one_is_noticed() {
    let failure = first_failure(Bug::AckOneTooMany);
    assert!(matches!(failure, Some(Failure::Wrong(Wrong::NotDelivered { .. }))), "{failure:?}");
}

#[test]
fn a_receiver_that_never_acknowledges_is_noticed() {
    assert_eq!(first_failure(Bug::NeverAcks), Some(Failure::NotSettled));
}

#[test]
fn a_wire_that_reorders_is_noticed() {
    let failure = first_failure(Bug::Reorders);
    assert!(matches!(failure, Some(Failure::Wrong(Wrong::NotNext { .. }))), "{failure:?}");
}
