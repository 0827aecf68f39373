//! Lossless clients and the stateful servers of theirs.

use crate::common::{Fault, Point, Seen, Stage};
use outlast_msgr2::frame::Tag;
use outlast_session::{LossReason, ReceiptStatus};

fn words(s: &str) -> String {
    s.to_owned()
}

/// Before any ident was written, as for lossy clients.
#[test]
fn a_handshake_cut_before_the_ident_is_tried_again() {
    let early = [
        (true, Point::Banner),
        (false, Point::Banner),
        (true, Tag::Hello.into()),
        (false, Tag::Hello.into()),
        (true, Tag::AuthRequest.into()),
        (false, Tag::AuthDone.into()),
        (true, Tag::AuthSignature.into()),
        (false, Tag::AuthSignature.into()),
        (true, Tag::CompressionRequest.into()),
        (false, Tag::CompressionDone.into()),
    ];
    for (by_client, point) in early {
        let mut stage = Stage::lossless();
        let by = if by_client { stage.a } else { stage.b };
        stage.at(by, point, Fault::CutBefore);
        stage.a_dials_and_both_speak();
        stage.settle();
        stage.expect(
            Seen {
                dialled: 2,
                said: words("ident"),
                ready: 1,
                got: vec![0],
                events: words("failed connected"),
                ..Seen::default()
            },
            Seen {
                accepted: 2,
                said: words("server_ident"),
                ready: 1,
                got: vec![0],
                events: words("connected"),
                ..Seen::default()
            },
        );
    }
}

/// lossless_connect_fault, lossless_accept_fault.
#[test]
fn a_client_ident_that_is_lost_is_said_again() {
    let mut stage = Stage::lossless();
    stage.at(stage.a, Tag::ClientIdent, Fault::CutBefore);
    stage.a_dials_and_both_speak();
    stage.settle();
    stage.expect(
        Seen {
            dialled: 2,
            said: words("ident ident"),
            ready: 1,
            got: vec![0],
            events: words("failed connected"),
            ..Seen::default()
        },
        Seen {
            accepted: 2,
            said: words("server_ident"),
            ready: 1,
            got: vec![0],
            events: words("connected"),
            ..Seen::default()
        },
    );
}

/// lossless_connect_fault, lossless_establishing_fault: the server's session waits, and is taken up by the client's
/// next ident, which has the same cookie; what the server had written into the void is written again.
#[test]
fn a_server_ident_that_is_lost_is_said_again_for_the_same_session() {
    for fault in [Fault::CutBefore, Fault::CutWithin] {
        let mut stage = Stage::lossless();
        stage.at(stage.b, Tag::ServerIdent, fault);
        stage.a_dials_and_both_speak();
        stage.settle();
        stage.expect(
            Seen {
                dialled: 2,
                said: words("ident ident"),
                ready: 1,
                got: vec![0],
                events: words("failed connected"),
                ..Seen::default()
            },
            Seen {
                accepted: 2,
                said: words("server_ident server_ident"),
                ready: 2,
                replayed: 1,
                got: vec![0],
                events: words("connected interrupted resumed(1)"),
                ..Seen::default()
            },
        );
        assert_eq!(stage.receipts(stage.b), [ReceiptStatus::Acknowledged]);
    }
}

/// lossless_connected_fault, lossless_accepted_fault. Both ends speak at once and one of the messages meets the fault.
#[test]
fn a_message_that_is_lost_is_replayed_after_the_reconnection() {
    for (by_client, fault, replayed) in [
        (true, Fault::CutBefore, 1),
        (true, Fault::CutWithin, 1),
        // It arrived; RECONNECT_OK says so before anything is sent again.
        (true, Fault::CutAfter, 0),
        (false, Fault::CutBefore, 1),
        (false, Fault::CutWithin, 1),
        (false, Fault::CutAfter, 0),
    ] {
        let mut stage = Stage::lossless();
        stage.dial(stage.a);
        stage.until("established", |s| s.seen(s.a).ready == 1);
        let by = if by_client { stage.a } else { stage.b };
        stage.at(by, Tag::Message, fault);
        stage.say(by);
        stage.until_hit();
        stage.settle();
        let (a_replayed, b_replayed) = if by_client { (replayed, 0) } else { (0, replayed) };
        let got = |receiver: bool| if receiver { vec![0] } else { vec![] };
        stage.expect(
            Seen {
                dialled: 2,
                said: words("ident reconnect"),
                ready: 2,
                replayed: a_replayed,
                got: got(!by_client),
                events: format!("connected interrupted resumed({a_replayed})"),
                ..Seen::default()
            },
            Seen {
                accepted: 2,
                said: words("server_ident reconnect_ok"),
                ready: 2,
                replayed: b_replayed,
                got: got(by_client),
                events: format!("connected interrupted resumed({b_replayed})"),
                ..Seen::default()
            },
        );
        assert_eq!(stage.receipts(by), [ReceiptStatus::Acknowledged]);
    }
}

/// lossless_connected_fault2: what carries no message is not missed, and costs no replay.
#[test]
fn a_fault_at_an_ack_or_a_keepalive_is_followed_by_a_reconnection_without_replay() {
    for (by_client, tag) in [
        (true, Tag::Ack),
        (false, Tag::Ack),
        (true, Tag::Keepalive2),
        (false, Tag::Keepalive2),
        (true, Tag::Keepalive2Ack),
        (false, Tag::Keepalive2Ack),
    ] {
        for fault in [Fault::CutBefore, Fault::CutWithin, Fault::CutAfter] {
            let mut stage = Stage::lossless();
            let by = if by_client { stage.a } else { stage.b };
            stage.at(by, tag, fault);
            stage.dial(stage.a);
            stage.until("established", |s| s.seen(s.a).ready == 1);
            stage.say(stage.other(by));
            stage.settle();
            stage.say(stage.a);
            stage.say(stage.b);
            stage.settle();
            let got = |both: bool| if both { vec![0, 1] } else { vec![0] };
            stage.expect(
                Seen {
                    dialled: 2,
                    said: words("ident reconnect"),
                    ready: 2,
                    got: got(by_client),
                    events: words("connected interrupted resumed(0)"),
                    ..Seen::default()
                },
                Seen {
                    accepted: 2,
                    said: words("server_ident reconnect_ok"),
                    ready: 2,
                    got: got(!by_client),
                    events: words("connected interrupted resumed(0)"),
                    ..Seen::default()
                },
            );
            let all = [stage.receipts(stage.a), stage.receipts(stage.b)].concat();
            assert_eq!(all, [ReceiptStatus::Acknowledged; 3]);
        }
    }
}

/// lossless_reconnect_fault, lossless_reaccept_fault with the first half of the exchange lost.
#[test]
fn a_reconnect_that_is_lost_is_said_again_with_a_higher_connect_seq() {
    let mut stage = Stage::lossless();
    stage.at(stage.a, Tag::Message, Fault::CutBefore);
    stage.at(stage.a, Tag::SessionReconnect, Fault::CutBefore);
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.settle();
    stage.expect(
        Seen {
            dialled: 3,
            said: words("ident reconnect reconnect"),
            ready: 2,
            replayed: 1,
            events: words("connected interrupted failed resumed(1)"),
            ..Seen::default()
        },
        Seen {
            accepted: 3,
            said: words("server_ident reconnect_ok"),
            ready: 2,
            got: vec![0],
            events: words("connected interrupted resumed(0)"),
            ..Seen::default()
        },
    );
    assert_eq!(stage.reconnects(stage.a).map(|r| r.connect_seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(stage.receipts(stage.a), [ReceiptStatus::Acknowledged]);
}

/// lossless_reconnect_fault, lossless_reaccept_fault with the second half lost.
#[test]
fn a_reconnect_ok_that_is_lost_is_answered_again() {
    let mut stage = Stage::lossless();
    stage.at(stage.a, Tag::Message, Fault::CutBefore);
    stage.at(stage.b, Tag::SessionReconnectOk, Fault::CutBefore);
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.settle();
    stage.expect(
        Seen {
            dialled: 3,
            said: words("ident reconnect reconnect"),
            ready: 2,
            replayed: 1,
            events: words("connected interrupted failed resumed(1)"),
            ..Seen::default()
        },
        Seen {
            accepted: 3,
            said: words("server_ident reconnect_ok reconnect_ok"),
            ready: 3,
            got: vec![0],
            events: words("connected interrupted resumed(0) interrupted resumed(0)"),
            ..Seen::default()
        },
    );
    assert_eq!(stage.reconnects(stage.a).map(|r| r.connect_seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(stage.receipts(stage.a), [ReceiptStatus::Acknowledged]);
}

/// lossless_client, stateful_server: each end in turn forgets the session without a word.
#[test]
fn a_session_that_one_end_forgot_begins_anew_and_the_other_is_told() {
    let mut stage = Stage::lossless();
    stage.a_dials_and_both_speak();
    stage.settle();
    // The client forgets. Its new session has another cookie: the server's begins anew.
    stage.mark_down(stage.a);
    let second = stage.dial(stage.a);
    stage.say_on(stage.a, second);
    stage.settle();
    assert_eq!(stage.seen(stage.b).events, "connected interrupted reset(0) resumed(0)");
    // The server forgets. The client comes back to its session, and is told that there is none.
    stage.mark_down(stage.b);
    stage.settle();
    assert_eq!(stage.seen(stage.a).said, "ident ident reconnect ident");
    stage.say(stage.a);
    stage.settle();
    stage.expect(
        Seen {
            dialled: 3,
            said: words("ident ident reconnect ident"),
            ready: 3,
            resets: 1,
            got: vec![0],
            events: words("connected ended(ClosedUndrained) connected interrupted reset(0) resumed(0)"),
            ..Seen::default()
        },
        Seen {
            accepted: 3,
            said: words("server_ident server_ident reset server_ident"),
            ready: 3,
            resets: 1,
            got: vec![0, 1, 2],
            events: words("connected interrupted reset(0) resumed(0) ended(ClosedUndrained) connected"),
            ..Seen::default()
        },
    );
    assert_eq!(stage.receipts(stage.a), [ReceiptStatus::Acknowledged; 3]);
}

/// The server forgot while messages of the client's were under way: their receipts say that they are lost.
#[test]
fn what_was_queued_for_a_server_that_forgot_is_lost_with_a_reason() {
    let mut stage = Stage::lossless();
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.settle();
    stage.at(stage.a, Tag::Message, Fault::CutBefore);
    stage.say(stage.a);
    stage.say(stage.a);
    stage.mark_down(stage.b);
    stage.settle();
    stage.say(stage.a);
    stage.settle();
    let lost = ReceiptStatus::Lost(LossReason::Reset);
    let acked = ReceiptStatus::Acknowledged;
    assert_eq!(stage.receipts(stage.a), [acked, lost, lost, acked]);
    assert_eq!(stage.seen(stage.b).got, [0, 3]);
    assert_eq!(stage.seen(stage.a).events, "connected interrupted reset(2) resumed(0)");
}

/// Unlucky ones: attempt after attempt gets one frame further, in establishing and in resuming; then it is through, and
/// nothing was lost, sent for nothing or delivered twice.
#[test]
fn attempts_that_fail_one_frame_later_each_time_end_well() {
    let early = [
        (true, Point::Banner),
        (false, Point::Banner),
        (true, Tag::Hello.into()),
        (false, Tag::Hello.into()),
        (true, Tag::AuthRequest.into()),
        (false, Tag::AuthDone.into()),
        (true, Tag::AuthSignature.into()),
        (false, Tag::AuthSignature.into()),
        (true, Tag::CompressionRequest.into()),
        (false, Tag::CompressionDone.into()),
    ];
    // Each fault is set when the one before it was met, so that it meets the next attempt.
    let attempts = |stage: &mut Stage, last: [(bool, Point); 2], start: fn(&mut Stage)| {
        for (index, (by_client, point)) in early.into_iter().chain(last).enumerate() {
            let by = if by_client { stage.a } else { stage.b };
            stage.at(by, point, Fault::CutBefore);
            if index == 0 {
                start(stage);
            }
            stage.until_hit();
        }
    };
    let mut stage = Stage::lossless();
    attempts(&mut stage, [(true, Tag::ClientIdent.into()), (false, Tag::ServerIdent.into())], |stage| {
        stage.dial(stage.a);
        stage.say(stage.a);
    });
    stage.settle();
    assert_eq!(stage.seen(stage.b).got, [0]);
    let resuming = [(true, Tag::SessionReconnect.into()), (false, Tag::SessionReconnectOk.into())];
    attempts(&mut stage, resuming, |stage| {
        stage.at(stage.a, Tag::Message, Fault::CutBefore);
        stage.say(stage.a);
    });
    stage.settle();
    let (a, b) = (stage.seen(stage.a), stage.seen(stage.b));
    // Twelve faults each time; the two HELLOs may cross, so that one attempt meets both.
    let attempts = (1 + 11) + (1 + 11)..=(1 + 12) + (1 + 12);
    assert!(a.dialled == b.accepted && attempts.contains(&a.dialled), "{} {}", a.dialled, b.accepted);
    assert_eq!(a.said, "ident ident ident reconnect reconnect reconnect");
    assert_eq!(b.said, "server_ident server_ident reconnect_ok reconnect_ok");
    assert_eq!((a.ready, a.replayed, a.resets, b.dropped, b.got), (2, 1, 0, 0, vec![0, 1]));
    assert_eq!(stage.receipts(stage.a), [ReceiptStatus::Acknowledged; 2]);
}
