use super::*;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Note {
    name: &'static str,
    class: u8,
    bytes: usize,
}

impl Payload for Note {
    fn cost(&self) -> usize {
        self.bytes
    }

    fn priority(&self) -> Priority {
        Priority(self.class)
    }
}

fn note(name: &'static str) -> Note {
    Note { name, class: 0, bytes: 1 }
}

fn outbox() -> Outbox<Note> {
    Outbox::new(Delivery::Lossless, OutboxLimits::default())
}

fn push(outbox: &mut Outbox<Note>, name: &'static str) -> MessageId {
    outbox.push(note(name)).expect("there is room")
}

/// Everything that can be pulled: (ordinal, name, replay).
fn pull_all(outbox: &mut Outbox<Note>) -> Vec<(u64, &'static str, bool)> {
    std::iter::from_fn(|| outbox.pull()).map(|p| (p.ordinal, p.message.name, p.replay)).collect()
}

#[test]
fn numbers_are_given_when_pulled_and_urgent_messages_overtake_only_until_then() {
    let mut outbox = outbox();
    push(&mut outbox, "slow 1");
    push(&mut outbox, "slow 2");
    assert_eq!(outbox.pull().map(|p| p.message.name), Some("slow 1"));
    outbox.push(Note { class: 9, ..note("urgent 1") }).expect("room");
    outbox.push(Note { class: 9, ..note("urgent 2") }).expect("room");
    assert_eq!(pull_all(&mut outbox), [(1, "urgent 1", false), (2, "urgent 2", false), (3, "slow 2", false)]);
    outbox.rewind();
    let order: Vec<_> = pull_all(&mut outbox).into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(order, ["slow 1", "urgent 1", "urgent 2", "slow 2"], "a replay keeps the numbers");
}

#[test]
fn a_lost_connection_replays_what_is_unacknowledged_before_anything_new() {
    let mut outbox = outbox();
    for name in ["a", "b", "c"] {
        push(&mut outbox, name);
    }
    pull_all(&mut outbox);
    push(&mut outbox, "new");
    assert_eq!(outbox.handle_ack(1), Ok(1));
    outbox.rewind();
    assert_eq!(outbox.replay_len(), 2);
    assert_eq!(pull_all(&mut outbox), [(1, "b", true), (2, "c", true), (3, "new", false)]);
}

#[test]
fn a_resumption_says_that_the_peer_holds_more_than_it_had_acknowledged() {
    for ack_first in [true, false] {
        let mut outbox = outbox();
        let ids = ["a", "b", "c"].map(|name| push(&mut outbox, name));
        pull_all(&mut outbox);
        if ack_first {
            assert_eq!(outbox.handle_ack(2), Ok(2));
            outbox.rewind();
        } else {
            outbox.rewind();
            assert_eq!(outbox.handle_ack(2), Ok(2));
        }
        assert_eq!(ids.map(|id| outbox.status(id) == ReceiptStatus::Acknowledged), [true, true, false]);
        assert_eq!(pull_all(&mut outbox), [(2, "c", true)]);
    }
}

#[test]
fn the_connection_is_lost_again_in_the_middle_of_a_replay() {
    let mut outbox = outbox();
    for name in ["a", "b", "c"] {
        push(&mut outbox, name);
    }
    pull_all(&mut outbox);
    outbox.rewind();
    assert_eq!(outbox.pull().map(|p| p.ordinal), Some(0));
    assert_eq!(outbox.pull().map(|p| p.ordinal), Some(1));
    assert_eq!(outbox.handle_ack(1), Ok(1));
    outbox.rewind();
    assert_eq!(pull_all(&mut outbox), [(1, "b", true), (2, "c", true)]);
    assert_eq!(outbox.handle_ack(3), Ok(2));
    assert!(outbox.is_empty() && !outbox.has_work());
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_the_peers_fault_and_frees_nothing() {
    let mut outbox = outbox();
    push(&mut outbox, "a");
    push(&mut outbox, "waiting");
    outbox.pull();
    assert_eq!(outbox.handle_ack(2), Err(AckError::BeyondSent { acked: 2, sent: 1 }));
    assert_eq!(outbox.handle_ack(u64::MAX), Err(AckError::BeyondSent { acked: u64::MAX, sent: 1 }));
    assert_eq!((outbox.unacked_len(), outbox.pending_len(), outbox.acked_count()), (1, 1, 0));
}

#[test]
fn an_older_acknowledgement_frees_nothing_and_is_no_fault() {
    let mut outbox = outbox();
    for name in ["a", "b", "c"] {
        push(&mut outbox, name);
    }
    pull_all(&mut outbox);
    assert_eq!(outbox.handle_ack(2), Ok(2));
    assert_eq!(outbox.handle_ack(1), Ok(0));
    assert_eq!(outbox.handle_ack(2), Ok(0));
    assert_eq!((outbox.acked_count(), outbox.unacked_len()), (2, 1));
}

#[test]
fn a_full_outbox_gives_the_message_back_until_an_acknowledgement_makes_room() {
    let mut outbox = Outbox::new(Delivery::Lossless, OutboxLimits { bytes_max: 10, messages_max: 3 });
    outbox.push(Note { bytes: 6, ..note("a") }).expect("room");
    assert_eq!(
        outbox.push(Note { bytes: 5, ..note("b") }),
        Err(Full { message: Note { bytes: 5, ..note("b") } })
    );
    outbox.push(Note { bytes: 4, ..note("c") }).expect("exactly full");
    assert!(!outbox.has_room(1));
    pull_all(&mut outbox);
    assert!(!outbox.has_room(1), "what is written is still held");
    assert_eq!(outbox.handle_ack(1), Ok(1));
    assert!(outbox.has_room(6) && !outbox.has_room(7) && !outbox.has_room(usize::MAX));
    push(&mut outbox, "d");
    push(&mut outbox, "e");
    assert!(!outbox.has_room(0), "three messages");
}

#[test]
fn a_message_larger_than_the_bound_is_taken_when_nothing_else_is_held() {
    let mut outbox = Outbox::new(Delivery::Lossless, OutboxLimits { bytes_max: 0, messages_max: 0 });
    outbox.push(Note { bytes: usize::MAX, ..note("huge") }).expect("empty");
    assert!(outbox.push(note("second")).is_err());
    pull_all(&mut outbox);
    assert!(outbox.push(note("second")).is_err());
    assert_eq!(outbox.handle_ack(1), Ok(1));
    push(&mut outbox, "second");
}

#[test]
fn a_message_is_revoked_before_it_has_a_number() {
    let mut outbox = outbox();
    let [a, b, c] = ["a", "b", "c"].map(|name| push(&mut outbox, name));
    assert_eq!(outbox.revoke(b), Revocation::NotNumbered(note("b")));
    assert_eq!(outbox.revoke(b), Revocation::Unknown);
    assert_eq!(pull_all(&mut outbox), [(0, "a", false), (1, "c", false)], "no gap");
    assert_eq!(outbox.handle_ack(2), Ok(2));
    assert_eq!(
        [a, b, c].map(|id| outbox.status(id)),
        [ReceiptStatus::Acknowledged, ReceiptStatus::Revoked, ReceiptStatus::Acknowledged]
    );
}

#[test]
fn a_message_is_revoked_while_it_is_being_written_and_its_number_given_again() {
    let mut outbox = outbox();
    let [_, b, c] = ["a", "b", "c"].map(|name| push(&mut outbox, name));
    outbox.pull();
    outbox.pull();
    assert_eq!(outbox.revoke(b), Revocation::Numbered { ordinal: 1 });
    assert_eq!(outbox.status(b), ReceiptStatus::Pending, "still whole until its frame is aborted");
    assert_eq!(outbox.forget(1), Some(note("b")));
    assert_eq!(outbox.status(b), ReceiptStatus::Revoked);
    assert_eq!(pull_all(&mut outbox), [(1, "c", false)]);
    assert_eq!(outbox.handle_ack(2), Ok(2));
    assert_eq!(outbox.status(b), ReceiptStatus::Revoked);
    assert_eq!(outbox.status(c), ReceiptStatus::Acknowledged);
}

#[test]
fn an_aborted_message_in_the_middle_leaves_a_hole_that_no_replay_fills() {
    let mut outbox = outbox();
    for name in ["a", "b", "c"] {
        push(&mut outbox, name);
    }
    pull_all(&mut outbox);
    assert_eq!(outbox.forget(1), Some(note("b")));
    assert_eq!(outbox.forget(1), None);
    assert_eq!((outbox.unacked_len(), outbox.unacked_bytes(), outbox.sent_count()), (2, 2, 3));
    outbox.rewind();
    assert_eq!(pull_all(&mut outbox), [(0, "a", true), (2, "c", true)]);
    assert_eq!(outbox.handle_ack(3), Ok(2));
    assert!(outbox.is_empty());
}

#[test]
fn holes_at_the_end_are_taken_back_together() {
    let mut outbox = outbox();
    for name in ["a", "b", "c"] {
        push(&mut outbox, name);
    }
    pull_all(&mut outbox);
    assert!(outbox.forget(1).is_some() && outbox.forget(2).is_some());
    assert_eq!(outbox.sent_count(), 1);
    push(&mut outbox, "d");
    assert_eq!(pull_all(&mut outbox), [(1, "d", false)]);
}

#[test]
fn holes_count_against_the_bound_so_that_they_cannot_grow_without_end() {
    let mut outbox = Outbox::new(Delivery::Lossless, OutboxLimits { bytes_max: 100, messages_max: 3 });
    for name in ["a", "b", "c"] {
        push(&mut outbox, name);
    }
    pull_all(&mut outbox);
    assert!(outbox.forget(1).is_some());
    assert!(!outbox.has_room(1));
    assert_eq!(outbox.handle_ack(1), Ok(1));
    assert!(outbox.has_room(1));
}

#[test]
fn a_message_that_an_earlier_connection_may_have_delivered_cannot_be_forgotten() {
    let mut outbox = outbox();
    let a = push(&mut outbox, "a");
    pull_all(&mut outbox);
    outbox.rewind();
    assert_eq!(outbox.revoke(a), Revocation::TooLate);
    let b = push(&mut outbox, "b");
    assert_eq!(pull_all(&mut outbox), [(0, "a", true), (1, "b", false)]);
    assert_eq!(outbox.revoke(a), Revocation::TooLate, "its frame on this connection is a second copy");
    assert_eq!(outbox.revoke(b), Revocation::Numbered { ordinal: 1 });
    assert_eq!((outbox.forget(0), outbox.forget(17)), (None, None));
    assert_eq!(outbox.forget(1), Some(note("b")));
    assert_eq!(outbox.handle_ack(1), Ok(1));
    assert_eq!(outbox.revoke(a), Revocation::Unknown);
}

#[test]
fn a_reset_loses_what_is_outstanding_and_numbers_from_0() {
    let mut outbox = outbox();
    let [a, b, c] = ["a", "b", "c"].map(|name| push(&mut outbox, name));
    outbox.pull();
    outbox.pull();
    assert_eq!(outbox.handle_ack(1), Ok(1));
    assert_eq!(outbox.lose_all(LossReason::Reset), 2);
    let lost = ReceiptStatus::Lost(LossReason::Reset);
    assert_eq!([a, b, c].map(|id| outbox.status(id)), [ReceiptStatus::Acknowledged, lost, lost]);
    assert_eq!(outbox.revoke(b), Revocation::Unknown);
    assert!(outbox.is_empty() && outbox.pull().is_none());
    let d = push(&mut outbox, "d");
    assert_ne!(a, d, "the same class and index, another generation");
    assert_eq!(pull_all(&mut outbox), [(0, "d", false)]);
    assert_eq!(outbox.status(d), ReceiptStatus::Pending);
}

#[test]
fn receipts_of_many_lost_sessions_are_forgotten_in_order_and_empty_ones_cost_nothing() {
    let mut outbox = outbox();
    let mut ids = Vec::new();
    for _ in 0..PAST_GENERATIONS_MAX + 1 {
        ids.push(push(&mut outbox, "x"));
        assert_eq!(outbox.lose_all(LossReason::Expired), 1);
        assert_eq!(outbox.lose_all(LossReason::Reset), 0);
    }
    assert_eq!(outbox.status(ids[0]), ReceiptStatus::Unknown);
    for id in &ids[1..] {
        assert_eq!(outbox.status(*id), ReceiptStatus::Lost(LossReason::Expired));
    }
}

#[test]
fn lossy_delivery_keeps_nothing_and_gives_no_receipt() {
    let mut outbox = Outbox::new(Delivery::Lossy, OutboxLimits { bytes_max: 2, messages_max: 9 });
    let a = push(&mut outbox, "a");
    push(&mut outbox, "b");
    assert!(outbox.push(note("c")).is_err(), "what waits is bounded too");
    assert_eq!(pull_all(&mut outbox), [(0, "a", false), (1, "b", false)]);
    assert!(outbox.is_empty());
    assert_eq!(outbox.status(a), ReceiptStatus::NotTracked);
    outbox.rewind();
    assert_eq!(outbox.pull(), None, "no replay");
    assert_eq!(outbox.handle_ack(2), Ok(0));
    assert_eq!(outbox.handle_ack(3), Err(AckError::BeyondSent { acked: 3, sent: 2 }));
    push(&mut outbox, "d");
    assert_eq!(outbox.lose_all(LossReason::Closed), 1);
    assert_eq!(outbox.status(a), ReceiptStatus::NotTracked);
}

#[test]
fn a_client_adopts_the_lossy_answer_of_its_server() {
    let mut outbox = outbox();
    let [a, b, c] = ["a", "b", "c"].map(|name| push(&mut outbox, name));
    outbox.pull();
    outbox.pull();
    outbox.rewind();
    outbox.pull();
    outbox.set_delivery(Delivery::Lossy);
    assert_eq!([a, b, c].map(|id| outbox.status(id)), [ReceiptStatus::NotTracked; 3]);
    assert_eq!(pull_all(&mut outbox), [(1, "b", true), (2, "c", false)]);
    assert!(outbox.is_empty());
    assert_eq!((outbox.sent_count(), outbox.unacked_bytes(), outbox.pending_bytes()), (3, 0, 0));
}

#[test]
fn back_to_lossless_what_waits_is_kept_and_has_a_receipt_again() {
    let mut outbox = Outbox::new(Delivery::Lossy, OutboxLimits::default());
    let [a, b] = ["a", "b"].map(|name| push(&mut outbox, name));
    outbox.pull();
    outbox.set_delivery(Delivery::Lossless);
    assert_eq!(outbox.status(a), ReceiptStatus::NotTracked);
    assert_eq!(outbox.status(b), ReceiptStatus::Pending);
    pull_all(&mut outbox);
    outbox.rewind();
    assert_eq!(pull_all(&mut outbox), [(1, "b", true)]);
    assert_eq!(outbox.handle_ack(2), Ok(1));
    assert_eq!(outbox.status(b), ReceiptStatus::Acknowledged);
}

#[test]
fn ids_that_were_never_given_out_are_unknown() {
    let mut outbox = outbox();
    let a = push(&mut outbox, "a");
    for wrong in [
        MessageId { index: 1, ..a },
        MessageId { priority: Priority(1), ..a },
        MessageId { generation: 1, ..a },
    ] {
        assert_eq!(outbox.status(wrong), ReceiptStatus::Unknown);
        assert_eq!(outbox.revoke(wrong), Revocation::Unknown);
    }
    outbox.lose_all(LossReason::Closed);
    assert_eq!(outbox.status(MessageId { index: 1, ..a }), ReceiptStatus::Unknown);
}

#[test]
fn a_stream_that_continues_another_counts_on_from_its_number() {
    let mut outbox = Outbox::starting_at(Delivery::Lossless, OutboxLimits::default(), 7);
    push(&mut outbox, "a");
    assert_eq!(outbox.acked_count(), 7);
    assert_eq!(pull_all(&mut outbox), [(7, "a", false)]);
    assert_eq!(outbox.handle_ack(7), Ok(0));
    assert_eq!(outbox.handle_ack(8), Ok(1));
}
