//! Histories written by hand: the good one passes, and each bad one is rejected for what is wrong with it.

use super::*;
use outlast_session::{Instant, LossReason};

const A: Party = Party { process: 0, incarnation: 0, session: 1 };
const B: Party = Party { process: 1, incarnation: 0, session: 7 };
const LARGE: Bounds = Bounds { messages_max: 100, bytes_max: 10_000 };
const PAYLOAD: usize = 100;
const COST: usize = 228;

fn name(serial: u32) -> Name {
    Name { from: A, serial }
}

fn opened(at: Party) -> Event {
    Event::Opened { at, lossy: false, carries_over: false, outbox: LARGE, inbound: LARGE }
}

fn sent_as(serial: u32, priority: u8) -> Event {
    let digest = u64::from(serial);
    Event::Sent { message: name(serial), priority, cost: COST, payload: PAYLOAD, digest }
}

fn sent(serial: u32) -> Event {
    sent_as(serial, 127)
}

fn queued_at(at: Party, serial: u32) -> Event {
    Event::Queued { at, message: Some(name(serial)) }
}

fn queued(serial: u32) -> Event {
    queued_at(B, serial)
}

fn delivered_at(at: Party, serial: u32) -> Event {
    Event::Delivered { at, message: name(serial), digest: u64::from(serial) }
}

fn delivered(serial: u32) -> Event {
    delivered_at(B, serial)
}

fn receipt(serial: u32, outcome: Outcome) -> Event {
    Event::Receipt { message: name(serial), outcome }
}

fn acknowledged(serial: u32) -> Event {
    receipt(serial, Outcome::Acknowledged)
}

fn judge(events: Vec<Event>) -> Vec<Finding> {
    let begin = [opened(A), opened(B)];
    let history: Vec<_> =
        begin.into_iter().chain(events).map(|event| Entry { at: Instant::ZERO, event }).collect();
    check(&history)
}

#[test]
fn a_good_history_passes() {
    let events = vec![
        sent(0),
        sent_as(1, 127),
        sent_as(2, 255),
        queued(2),
        delivered(2),
        queued(0),
        queued(1),
        acknowledged(2),
        delivered(0),
        acknowledged(0),
        delivered(1),
        acknowledged(1),
        sent(3),
        Event::RevokeAsked { message: name(3) },
        Event::RevokeAnswered { message: name(3), taken: true },
        receipt(3, Outcome::Revoked),
        Event::Settled,
    ];
    assert_eq!(judge(events), []);
}

#[test]
fn a_message_that_was_acknowledged_and_never_came_is_a_false_receipt() {
    assert_eq!(judge(vec![sent(0), acknowledged(0)]), [Finding::FalseReceipt(name(0))]);
}

#[test]
fn a_receipt_told_before_the_message_was_queued_is_false() {
    let events = vec![sent(0), acknowledged(0), queued(0), delivered(0), Event::Settled];
    assert_eq!(judge(events), [Finding::FalseReceipt(name(0))]);
}

#[test]
fn a_message_that_came_twice_is_found() {
    let events = vec![sent(0), queued(0), delivered(0), queued(0), delivered(0), acknowledged(0)];
    assert_eq!(judge(events), [Finding::Duplicated(name(0))]);
}

#[test]
fn a_message_may_come_again_to_the_next_life_of_its_receiver_and_not_to_another_session_of_this_one() {
    let next_life = Party { incarnation: 1, ..B };
    let events = vec![
        sent(0),
        queued(0),
        Event::Died { process: 1, incarnation: 0 },
        queued_at(next_life, 0),
        delivered_at(next_life, 0),
        acknowledged(0),
        Event::Settled,
    ];
    assert_eq!(judge(events), []);
    let next_session = Party { session: 8, ..B };
    let events = vec![sent(0), queued(0), delivered(0), queued_at(next_session, 0)];
    assert_eq!(judge(events), [Finding::Duplicated(name(0))]);
}

#[test]
fn what_a_policy_carries_over_may_come_again_to_a_new_session_and_only_there() {
    let carries = Event::Opened { at: A, lossy: false, carries_over: true, outbox: LARGE, inbound: LARGE };
    let next_session = Party { session: 8, ..B };
    let events = vec![carries.clone(), sent(0), queued(0), delivered(0), queued_at(next_session, 0)];
    assert_eq!(judge(events), []);
    let events = vec![carries, sent(0), queued(0), delivered(0), queued(0)];
    assert_eq!(judge(events), [Finding::Duplicated(name(0))]);
}

#[test]
fn two_messages_of_one_class_that_changed_places_are_found() {
    let events = vec![sent(0), sent(1), queued(1), queued(0)];
    assert_eq!(judge(events), [Finding::Reordered { first: name(0), second: name(1) }]);
}

#[test]
fn a_lower_class_that_overtakes_a_higher_one_is_found() {
    let events = vec![sent_as(0, 255), sent_as(1, 64), queued(1), queued(0)];
    assert_eq!(judge(events), [Finding::Reordered { first: name(0), second: name(1) }]);
}

#[test]
fn a_message_delivered_after_it_was_revoked_is_found() {
    let revoked =
        [Event::RevokeAsked { message: name(0) }, Event::RevokeAnswered { message: name(0), taken: true }];
    let mut after = vec![sent(0)];
    after.extend(revoked.clone());
    after.push(queued(0));
    assert_eq!(judge(after), [Finding::DeliveredAfterRevoke(name(0))]);
    let mut before = vec![sent(0), queued(0)];
    before.extend(revoked);
    assert_eq!(judge(before), [Finding::DeliveredAfterRevoke(name(0))]);
}

#[test]
fn a_loss_that_the_session_did_not_speak_of_is_found() {
    let lost = receipt(0, Outcome::Lost(LossReason::Reset));
    assert_eq!(judge(vec![sent(0), lost.clone()]), [Finding::LostWithoutWord(name(0))]);
    assert_eq!(
        judge(vec![sent(0), Event::Reset { at: A, lost: 0 }, lost.clone()]),
        [Finding::LostWithoutWord(name(0))],
        "a reset that says that nothing was lost"
    );
    assert_eq!(judge(vec![sent(0), Event::Reset { at: A, lost: 1 }, lost.clone(), Event::Settled]), []);
    assert_eq!(judge(vec![sent(0), Event::Ended { at: A }, lost, Event::Settled]), []);
}

#[test]
fn a_receipt_that_ends_in_two_ways_is_found() {
    let lost = receipt(0, Outcome::Lost(LossReason::Closed));
    let events = vec![sent(0), queued(0), acknowledged(0), Event::Ended { at: A }, lost];
    assert_eq!(judge(events), [Finding::ReceiptChanged(name(0))]);
}

#[test]
fn a_lossless_session_that_does_not_know_its_message_is_found() {
    assert_eq!(judge(vec![sent(0), receipt(0, Outcome::Unknown)]), [Finding::NoReceipt(name(0))]);
    assert_eq!(judge(vec![sent(0), receipt(0, Outcome::NotTracked)]), [Finding::NoReceipt(name(0))]);
}

#[test]
fn more_messages_to_send_than_allowed_are_found() {
    let outbox = Bounds { messages_max: 2, bytes_max: 10_000 };
    let small = Event::Opened { at: A, lossy: false, carries_over: false, outbox, inbound: LARGE };
    let broken =
        Finding::BoundBroken { what: "messages to send", whose: "p0.0/s1".to_owned(), held: 3, limit: 2 };
    assert_eq!(judge(vec![small.clone(), sent(0), sent(1), sent(2)]), [broken]);
    let freed = vec![small, sent(0), sent(1), queued(0), acknowledged(0), sent(2)];
    assert_eq!(judge(freed), []);
}

#[test]
fn more_bytes_waiting_for_the_application_than_allowed_are_found_unless_they_are_one_message() {
    let inbound = Bounds { messages_max: 10, bytes_max: PAYLOAD - 1 };
    let small = Event::Opened { at: B, lossy: false, carries_over: false, outbox: LARGE, inbound };
    assert_eq!(judge(vec![small.clone(), sent(0), queued(0)]), []);
    let broken = Finding::BoundBroken {
        what: "bytes come in",
        whose: "p1.0/s7".to_owned(),
        held: 2 * PAYLOAD,
        limit: PAYLOAD - 1,
    };
    assert_eq!(judge(vec![small.clone(), sent(0), sent(1), queued(0), queued(1)]), [broken]);
    assert_eq!(judge(vec![small, sent(0), sent(1), queued(0), delivered(0), queued(1)]), []);
}

#[test]
fn a_connection_that_hoards_what_it_should_write_is_found() {
    let events = vec![Event::Unwritten { process: 1, held: 11, limit: 10 }];
    assert!(matches!(judge(events)[..], [Finding::BoundBroken { what: "unwritten bytes", .. }]));
}

#[test]
fn what_is_pending_when_all_is_settled_is_stuck() {
    assert_eq!(
        judge(vec![sent(0), queued(0), delivered(0), Event::Settled]),
        [Finding::Stuck { message: name(0), waits_for: "its receipt" }]
    );
    assert_eq!(
        judge(vec![sent(0), queued(0), acknowledged(0), Event::Settled]),
        [Finding::Stuck { message: name(0), waits_for: "its application" }]
    );
    let asked = Event::RevokeAsked { message: name(0) };
    assert_eq!(
        judge(vec![sent(0), asked, queued(0), delivered(0), acknowledged(0), Event::Settled]),
        [Finding::Stuck { message: name(0), waits_for: "the answer to its revocation" }]
    );
}

#[test]
fn the_dead_owe_nothing() {
    let events = vec![sent(0), Event::Died { process: 0, incarnation: 0 }, Event::Settled];
    assert_eq!(judge(events), []);
}

#[test]
fn a_lossy_session_may_lose_a_message_only_if_it_is_over() {
    let lossy = Event::Opened { at: A, lossy: true, carries_over: true, outbox: LARGE, inbound: LARGE };
    let untracked = receipt(0, Outcome::NotTracked);
    let lost = vec![lossy.clone(), sent(0), untracked.clone(), Event::Settled];
    assert_eq!(judge(lost), [Finding::LostInLife(name(0))]);
    let over = vec![lossy.clone(), sent(0), untracked.clone(), Event::Ended { at: A }, Event::Settled];
    assert_eq!(judge(over), []);
    let twice = vec![lossy, sent(0), untracked, queued(0), delivered(0), queued(0)];
    assert_eq!(judge(twice), [Finding::Duplicated(name(0))]);
}

#[test]
fn a_message_that_nobody_sent_or_that_was_changed_is_found() {
    assert_eq!(judge(vec![queued(0)]), [Finding::Damaged(name(0))]);
    let changed = Event::Delivered { at: B, message: name(0), digest: 99 };
    assert_eq!(judge(vec![sent(0), queued(0), changed]), [Finding::Damaged(name(0))]);
}

#[test]
fn a_message_handed_out_in_another_order_than_queued_is_found() {
    let events = vec![sent(0), sent(1), queued(0), queued(1), delivered(1)];
    assert_eq!(judge(events), [Finding::OutOfQueue(name(1))]);
}

#[test]
fn two_equals_with_two_sessions_are_found() {
    let events = vec![Event::Between { process: 0, peer: 1, live: 2 }];
    assert_eq!(judge(events), [Finding::Twins { process: 0, peer: 1, live: 2 }]);
}
