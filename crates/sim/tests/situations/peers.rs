//! Lossless peers: two equals, either of which may dial.

use crate::common::{Fault, Seen, Stage};
use outlast_msgr2::Policy;
use outlast_msgr2::frame::Tag;
use outlast_session::{LossReason, ReceiptStatus};
use std::time::Duration;

fn words(s: &str) -> String {
    s.to_owned()
}

/// peer_connect_fault, peer_accept_fault.
#[test]
fn a_client_ident_that_is_lost_is_said_again() {
    let mut stage = Stage::peers();
    stage.at(stage.a, Tag::ClientIdent, Fault::CutBefore);
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.settle();
    stage.expect(
        Seen {
            dialled: 2,
            said: words("ident ident"),
            ready: 1,
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

/// peer_connect_fault, peer_establishing_fault: the acceptor has nothing to say and stands by.
#[test]
fn a_server_ident_that_is_lost_is_said_again_for_the_same_session() {
    let mut stage = Stage::peers();
    stage.at(stage.b, Tag::ServerIdent, Fault::CutBefore);
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.settle();
    stage.expect(
        Seen {
            dialled: 2,
            said: words("ident ident"),
            ready: 1,
            events: words("failed connected"),
            ..Seen::default()
        },
        Seen {
            accepted: 2,
            said: words("server_ident server_ident"),
            ready: 2,
            got: vec![0],
            events: words("connected interrupted resumed(0)"),
            ..Seen::default()
        },
    );
}

/// peer_connected_fault_reconnect: the end with something left to say dials.
#[test]
fn the_dialling_peer_comes_back_with_its_message() {
    let mut stage = Stage::peers();
    stage.dial(stage.a);
    stage.at(stage.a, Tag::Message, Fault::CutBefore);
    stage.say(stage.a);
    stage.settle();
    stage.expect(
        Seen {
            dialled: 2,
            said: words("ident reconnect"),
            ready: 2,
            replayed: 1,
            events: words("connected interrupted resumed(1)"),
            ..Seen::default()
        },
        Seen {
            accepted: 2,
            said: words("server_ident reconnect_ok"),
            ready: 2,
            got: vec![0],
            events: words("connected interrupted resumed(0)"),
            ..Seen::default()
        },
    );
}

/// peer_connected_fault_reaccept: the end that had accepted dials back, because it is the one with something to say.
#[test]
fn the_accepting_peer_dials_back_with_its_message() {
    let mut stage = Stage::peers();
    stage.dial(stage.a);
    stage.until("established", |s| s.seen(s.a).ready == 1);
    stage.at(stage.b, Tag::Message, Fault::CutBefore);
    stage.say(stage.b);
    stage.settle();
    stage.expect(
        Seen {
            dialled: 1,
            accepted: 1,
            said: words("ident reconnect_ok"),
            ready: 2,
            got: vec![0],
            events: words("connected interrupted resumed(0)"),
            ..Seen::default()
        },
        Seen {
            dialled: 1,
            accepted: 1,
            said: words("server_ident reconnect"),
            ready: 2,
            replayed: 1,
            events: words("connected interrupted resumed(1)"),
            ..Seen::default()
        },
    );
    // The cookies are as they were: the client's is that of the end which dialled first.
    let ident = stage.idents(stage.a).next().expect("an ident");
    let answer = stage.server_idents(stage.b).next().expect("a server ident");
    let back = stage.reconnects(stage.b).next().expect("a reconnect");
    assert_eq!((back.client_cookie, back.server_cookie), (ident.cookie, answer.cookie));
    assert_eq!(back.connect_seq, 1);
}

/// Standby: with everything acknowledged, nobody dials until there is something to say.
#[test]
fn peers_with_nothing_to_say_stand_by_and_wake_at_the_next_message() {
    for waker_is_a in [true, false] {
        let mut stage = Stage::peers();
        stage.dial(stage.a);
        stage.say(stage.a);
        stage.settle();
        stage.cut();
        stage.settle();
        assert_eq!([stage.seen(stage.a).dialled, stage.seen(stage.b).dialled], [1, 0]);
        assert!(stage.world.links.is_empty(), "nobody dials");
        let waker = if waker_is_a { stage.a } else { stage.b };
        stage.say(waker);
        stage.settle();
        let (by_a, by_b) = if waker_is_a { (1, 0) } else { (0, 1) };
        let said = |first: &str, again: bool| format!("{first} reconnect{}", if again { "" } else { "_ok" });
        stage.expect(
            Seen {
                dialled: 1 + by_a,
                accepted: by_b,
                said: said("ident", waker_is_a),
                ready: 2,
                got: if waker_is_a { vec![] } else { vec![0] },
                events: format!("connected interrupted resumed({})", 0),
                replayed: 0,
                ..Seen::default()
            },
            Seen {
                dialled: by_b,
                accepted: 1 + by_a,
                said: said("server_ident", !waker_is_a),
                ready: 2,
                got: if waker_is_a { vec![0, 1] } else { vec![0] },
                events: words("connected interrupted resumed(0)"),
                ..Seen::default()
            },
        );
    }
}

/// peer_reuse_connector, peer_reuse_acceptor: the dialling end forgets, then the accepting one. The end that is left
/// resets in full, and what it had queued is lost.
#[test]
fn peers_that_reuse_reset_in_full_when_the_other_forgot() {
    let policy = Policy::LOSSLESS_PEER_REUSE;
    let mut stage = Stage::new(policy, policy);
    stage.a_dials_and_both_speak();
    stage.settle();
    stage.mark_down(stage.a);
    stage.settle();
    // Standing by with a message for a peer that no longer knows it: it would dial, but nobody may answer.
    stage.world.unreachable.push((stage.b, stage.a));
    stage.say(stage.b);
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.settle();
    assert_eq!(stage.receipts(stage.b)[1], ReceiptStatus::Lost(LossReason::Reset));
    let b_first = stage.seen(stage.b);
    assert_eq!((b_first.resets, b_first.ready, b_first.got), (1, 2, vec![0, 1]));
    stage.world.unreachable.clear();
    // Now the accepting end forgets; the other stands by until it has something to say.
    stage.mark_down(stage.b);
    stage.settle();
    let a = stage.seen(stage.a);
    assert!(a.events.ends_with("connected interrupted"), "{}", a.events);
    stage.say(stage.a);
    stage.settle();
    let a = stage.seen(stage.a);
    assert_eq!(a.said, "ident ident reconnect ident");
    assert!(a.events.ends_with("interrupted reset(1) resumed(0)"), "{}", a.events);
    // The message that woke it was queued for the session that is gone.
    assert_eq!(stage.receipts(stage.a)[2], ReceiptStatus::Lost(LossReason::Reset));
    stage.say(stage.a);
    stage.settle();
    assert_eq!(stage.seen(stage.b).got, [0, 1, 3]);
    assert_eq!(stage.seen(stage.a).got, [0]);
}

/// lossless_peer_connector, lossless_peer_acceptor with a partial reset: the peer still has a session with this end,
/// but another one; what is queued goes to the new session.
#[test]
fn peers_keep_what_is_queued_when_the_other_forgot() {
    let mut stage = Stage::peers();
    stage.a_dials_and_both_speak();
    stage.settle();
    stage.mark_down(stage.a);
    stage.settle();
    stage.world.unreachable.push((stage.b, stage.a));
    stage.say(stage.b);
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.settle();
    // a's new ident found b's old session, which goes on with it: nothing of b's is lost, and no reset is reported.
    assert_eq!(stage.receipts(stage.b), [ReceiptStatus::Acknowledged; 2]);
    assert_eq!(stage.seen(stage.a).got, [0, 1]);
    assert_eq!(stage.seen(stage.b).got, [0, 1]);
    assert_eq!(stage.seen(stage.b).resets, 0);
    stage.world.unreachable.clear();
    stage.mark_down(stage.b);
    stage.settle();
    stage.say(stage.a);
    stage.settle();
    // b knows of no session at all: its reset is a full one even without resetcheck.
    let a = stage.seen(stage.a);
    assert_eq!(a.said, "ident ident reconnect ident");
    assert!(a.events.ends_with("interrupted reset(1) resumed(0)"), "{}", a.events);
    assert_eq!(stage.receipts(stage.a)[2], ReceiptStatus::Lost(LossReason::Reset));
}

/// A partial reset: the acceptor has a session of its own with the other end, under another cookie, and no resetcheck.
#[test]
fn a_reconnect_to_another_session_of_the_same_peer_is_reset_in_part_and_loses_nothing() {
    let mut stage = Stage::peers();
    stage.a_dials_and_both_speak();
    stage.settle();
    // b's session dies; before a notices, b has a new one of its own, which cannot reach a.
    stage.world.unreachable.extend([(stage.b, stage.a), (stage.a, stage.b)]);
    stage.mark_down(stage.b);
    stage.dial(stage.b);
    stage.say(stage.b);
    stage.say(stage.a);
    stage.pass(Duration::from_secs(1));
    stage.world.unreachable.retain(|(from, _)| *from == stage.b);
    stage.settle();
    // a reconnects to what b no longer has, is reset in part, and its ident meets b's session.
    let a = stage.seen(stage.a);
    let b = stage.seen(stage.b);
    assert_eq!(
        (a.said.as_str(), b.said.as_str()),
        ("ident reconnect ident", "server_ident reset server_ident")
    );
    assert!(a.events.ends_with("reset(0) resumed(1)"), "{}", a.events);
    assert_eq!(stage.receipts(stage.a), [ReceiptStatus::Acknowledged; 2]);
    assert_eq!(stage.receipts(stage.b), [ReceiptStatus::Acknowledged; 2]);
    assert_eq!((a.got, b.got), (vec![0, 1], vec![0, 1]));
}
