//! How a session ends.

use std::time::Duration;

use outlast_dlm::{Session, SessionEvent, State};
use outlast_session::LossReason;

use crate::ends::{Pair, status};

fn events(session: &mut Session) -> Vec<SessionEvent> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn states(pair: &Pair) -> [State; 2] {
    [pair.sessions[0].state(), pair.sessions[1].state()]
}

/// Dialled again as often as it takes.
fn settle(pair: &mut Pair) {
    for _ in 0..3 {
        if pair.links() == 0 {
            pair.connect(0);
        }
        pair.run();
    }
}

/// How much has arrived at each.
fn delivered(pair: &Pair) -> [usize; 2] {
    [pair.delivered[0].len(), pair.delivered[1].len()]
}

#[test]
fn one_leaves_and_the_other_follows_when_its_membership_says_so() {
    let mut pair = Pair::established(1);
    pair.send(0);
    let now = pair.now;
    pair.sessions[0].remove_member(now);
    pair.sessions[0].shut_down(now);
    assert_eq!(states(&pair), [State::FinWait1, State::Established]);
    assert!(pair.sessions[0].send(&status()).is_err(), "nothing may follow a FIN");
    pair.run();
    assert_eq!(states(&pair), [State::FinWait2, State::CloseWait]);
    assert_eq!(pair.delivered[1], pair.sent[0], "what was taken before arrives");
    let now = pair.now;
    pair.sessions[1].remove_member(now);
    assert_eq!(states(&pair)[1], State::LastAck);
    pair.run();
    assert_eq!(states(&pair), [State::Closed; 2]);
    assert!(
        events(&mut pair.sessions[0]).contains(&SessionEvent::Ended { lost: 0, reason: LossReason::Closed })
    );
    assert!(
        events(&mut pair.sessions[1])
            .contains(&SessionEvent::Ended { lost: 0, reason: LossReason::PeerClosed })
    );
    assert_eq!(pair.sessions[0].version(), None, "the next conversation begins anew");
}

#[test]
fn who_is_no_member_any_more_answers_a_fin_with_his_own() {
    let mut pair = Pair::established(1);
    let now = pair.now;
    pair.sessions[1].remove_member(now);
    pair.sessions[0].shut_down(now);
    pair.carry(0, 0, usize::MAX);
    pair.arrive(0, 0, usize::MAX);
    assert_eq!(states(&pair), [State::FinWait1, State::LastAck]);
    pair.run();
    assert_eq!(states(&pair), [State::Closed; 2]);
}

#[test]
fn both_leave_at_once() {
    let mut pair = Pair::established(1);
    pair.send(0);
    pair.send(1);
    let now = pair.now;
    for session in &mut pair.sessions {
        session.shut_down(now);
    }
    for end in 0..2 {
        pair.carry(0, end, usize::MAX);
    }
    pair.arrive(0, 0, usize::MAX);
    assert_eq!(states(&pair), [State::FinWait1, State::Closing]);
    pair.run();
    assert_eq!(states(&pair), [State::Closed; 2]);
    assert_eq!((&pair.delivered[1], &pair.delivered[0]), (&pair.sent[0], &pair.sent[1]));
}

#[test]
fn a_fin_that_is_lost_with_its_connection_is_replayed() {
    let mut pair = Pair::established(1);
    let now = pair.now;
    pair.sessions[1].remove_member(now);
    pair.sessions[0].shut_down(now);
    pair.carry(0, 0, usize::MAX);
    pair.cut(0);
    pair.connect(1);
    pair.run();
    assert_eq!(states(&pair), [State::Closed; 2]);
    assert!(pair.sessions[0].statistics().replayed > 0);
}

#[test]
fn every_wait_ends() {
    // Nobody answers.
    let mut pair = Pair::established(1);
    pair.send(0);
    let now = pair.now;
    pair.sessions[0].shut_down(now);
    assert!(pair.sessions[0].poll_timeout().is_some());
    pair.pass(Duration::from_secs(5));
    assert_eq!(states(&pair)[0], State::Closed);
    let stuck = SessionEvent::Stuck { state: State::FinWait1, lost: 2 };
    assert!(events(&mut pair.sessions[0]).contains(&stuck));

    // The membership never says that the peer is gone.
    let mut pair = Pair::established(1);
    let now = pair.now;
    pair.sessions[0].shut_down(now);
    pair.run();
    assert_eq!(states(&pair), [State::FinWait2, State::CloseWait]);
    pair.pass(Duration::from_secs(5));
    assert_eq!(states(&pair), [State::Closed; 2]);
}

#[test]
fn who_leaves_right_after_joining_waits_for_the_version_and_ends_in_order() {
    let mut pair = Pair::new(1);
    pair.sessions[0].add_member();
    let now = pair.now;
    pair.sessions[0].shut_down(now);
    pair.connect(0);
    pair.carry(0, 0, usize::MAX);
    assert_eq!(pair.sessions[0].statistics().messages_sent, 0, "the version is not known");
    pair.sessions[1].send_unnumbered(status());
    pair.run();
    assert_eq!(states(&pair), [State::Closed; 2]);
}

#[test]
fn a_member_that_comes_back_while_the_end_is_stuck_begins_anew() {
    let mut pair = Pair::established(1);
    let now = pair.now;
    pair.sessions[0].remove_member(now);
    pair.sessions[0].shut_down(now);
    pair.sessions[0].add_member();
    assert_eq!(states(&pair)[0], State::Established);
    assert!(events(&mut pair.sessions[0]).contains(&SessionEvent::Stuck { state: State::FinWait1, lost: 1 }));
}

#[test]
fn who_is_fenced_is_forgotten_with_all_that_was_for_him() {
    let mut pair = Pair::established(1);
    pair.send(0);
    pair.carry(0, 0, usize::MAX);
    pair.sessions[0].fence();
    assert_eq!((states(&pair)[0], pair.sessions[0].version()), (State::Closed, None));
    assert_eq!(pair.sessions[0].statistics().lost, 1);
    pair.carry(0, 0, usize::MAX);
    assert_eq!(pair.links(), 0, "its connections end");
}

#[test]
fn a_peer_of_ours_that_began_anew_is_noticed_and_both_begin_with_number_0() {
    let mut pair = Pair::established_as(1, [11, 22]);
    pair.send(0);
    pair.send(1);
    pair.run();
    pair.send(0);
    pair.carry(0, 0, usize::MAX);
    // Nobody says that the second one died.
    pair.cut(0);
    pair.restart(1, 33);
    pair.connect(1);
    pair.run();
    let events = events(&mut pair.sessions[0]);
    assert!(events.contains(&SessionEvent::Restarted { lost: 1 }), "{events:?}");
    let before = delivered(&pair);
    pair.send(0);
    pair.send(1);
    settle(&mut pair);
    assert_eq!(delivered(&pair), [before[0] + 1, before[1] + 1], "{:?}", pair.errors);
    assert_eq!(pair.sessions[0].statistics().expected_number, 1);
}

#[test]
fn who_was_fenced_and_lives_begins_anew_when_it_is_taken_back() {
    let mut pair = Pair::established_as(1, [11, 22]);
    pair.send(0);
    pair.send(1);
    pair.run();
    pair.sessions[0].fence();
    pair.carry(0, 0, usize::MAX);
    pair.sessions[0].add_member();
    pair.sessions[0].send_unnumbered(status());
    let before = delivered(&pair);
    settle(&mut pair);
    let events = events(&mut pair.sessions[1]);
    assert!(events.iter().any(|event| matches!(event, SessionEvent::Restarted { .. })), "{events:?}");
    pair.send(0);
    pair.send(1);
    pair.run();
    assert_eq!(delivered(&pair), [before[0] + 1, before[1] + 1], "{:?}", pair.errors);
}
