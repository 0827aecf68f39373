//! Two peers that dial each other at the same time. Of two connections that cross, the one opened by the lower address
//! survives: `a`'s, or `b`'s where the test says so.

use crate::common::{Fault, Point, Seen, Stage};
use outlast_msgr2::frame::Tag;
use outlast_msgr2::{ConnectionError, Policy};
use outlast_session::ReceiptStatus;
use outlast_sim::world::ProcessId;
use std::time::Duration;

const PEER: Policy = Policy::LOSSLESS_PEER;

/// A stage, the end whose connection survives a race, and the other.
fn stage(a_wins: bool) -> (Stage, ProcessId, ProcessId) {
    let stage = if a_wins { Stage::new(PEER, PEER) } else { Stage::where_b_wins(PEER, PEER) };
    let (winner, loser) = if a_wins { (stage.a, stage.b) } else { (stage.b, stage.a) };
    (stage, winner, loser)
}

fn expect(stage: &Stage, at: ProcessId, seen: Seen) {
    assert_eq!(stage.seen(at), seen);
}

/// Whether the dialling end writes it.
const HANDSHAKE: [(bool, Point); 9] = [
    (true, Point::Banner),
    (false, Point::Banner),
    (true, Point::Frame(Tag::Hello)),
    (false, Point::Frame(Tag::Hello)),
    (true, Point::Frame(Tag::AuthRequest)),
    (false, Point::Frame(Tag::AuthDone)),
    (true, Point::Frame(Tag::AuthSignature)),
    (false, Point::Frame(Tag::AuthSignature)),
    (true, Point::Frame(Tag::ClientIdent)),
];

/// racing_connect_win, racing_connect_lose: the loser's connection hangs while the winner's goes through.
#[test]
fn the_winners_connection_carries_the_session_when_the_losers_hangs_at_any_point() {
    for a_wins in [true, false] {
        for (by_dialler, point) in HANDSHAKE {
            let (mut stage, winner, loser) = stage(a_wins);
            stage.at(if by_dialler { loser } else { winner }, point, Fault::Hold);
            let session = stage.dial(loser);
            stage.say_on(loser, session);
            stage.until_hit();
            let session = stage.dial(winner);
            stage.say_on(winner, session);
            stage.until("established", |s| s.seen(winner).ready == 1);
            stage.let_go();
            stage.settle();
            let ident_was_held = point == Point::Frame(Tag::ClientIdent);
            expect(
                &stage,
                winner,
                Seen {
                    dialled: 1,
                    accepted: 1,
                    said: "ident".to_owned(),
                    ready: 1,
                    got: vec![0],
                    events: "connected".to_owned(),
                    ..Seen::default()
                },
            );
            expect(
                &stage,
                loser,
                Seen {
                    dialled: 1,
                    accepted: 1,
                    said: if ident_was_held { "ident server_ident" } else { "server_ident" }.to_owned(),
                    ready: 1,
                    got: vec![0],
                    events: "connected".to_owned(),
                    ..Seen::default()
                },
            );
        }
    }
}

/// The same race, in which the winner's connection is the slower one: the loser is told to wait, and does.
#[test]
fn the_loser_waits_when_its_connection_came_first() {
    for a_wins in [true, false] {
        for (by_dialler, point) in HANDSHAKE {
            let (mut stage, winner, loser) = stage(a_wins);
            stage.at(if by_dialler { winner } else { loser }, point, Fault::Hold);
            let session = stage.dial(winner);
            stage.say_on(winner, session);
            stage.until_hit();
            let session = stage.dial(loser);
            stage.say_on(loser, session);
            stage.until("told to wait", |s| s.seen(loser).events == "told_to_wait");
            stage.let_go();
            stage.settle();
            let ident_was_held = point == Point::Frame(Tag::ClientIdent);
            expect(
                &stage,
                winner,
                Seen {
                    dialled: 1,
                    accepted: 1,
                    said: if ident_was_held { "ident wait" } else { "wait ident" }.to_owned(),
                    ready: 1,
                    got: vec![0],
                    events: "connected".to_owned(),
                    ..Seen::default()
                },
            );
            expect(
                &stage,
                loser,
                Seen {
                    dialled: 1,
                    accepted: 1,
                    said: "ident server_ident".to_owned(),
                    ready: 1,
                    got: vec![0],
                    events: "told_to_wait connected".to_owned(),
                    ..Seen::default()
                },
            );
        }
    }
}

/// Both idents arrive before either end has answered: one WAIT, one session.
#[test]
fn idents_that_cross_end_with_one_wait() {
    for a_wins in [true, false] {
        let (mut stage, winner, loser) = stage(a_wins);
        stage.at(winner, Tag::ClientIdent, Fault::Hold);
        stage.at(loser, Tag::ClientIdent, Fault::Hold);
        for end in [winner, loser] {
            let session = stage.dial(end);
            stage.say_on(end, session);
        }
        stage.until_hit();
        stage.let_go();
        stage.settle();
        let (w, l) = (stage.seen(winner), stage.seen(loser));
        assert_eq!((w.got, l.got), (vec![0], vec![0]));
        assert_eq!((w.ready, l.ready, w.dialled, l.dialled), (1, 1, 1, 1));
        assert_eq!(l.said, "ident server_ident");
        // The winner's answer depends on which ident it met first; a session there never is answered twice.
        assert!(["ident", "ident wait"].contains(&w.said.as_str()), "{}", w.said);
    }
}

/// racing_reconnect_win, racing_reconnect_lose: the loser's message is lost and it comes back, but hangs; meanwhile
/// the winner has something to say and comes back too.
#[test]
fn the_winners_reconnection_carries_on_when_the_losers_hangs_at_any_point() {
    let points = HANDSHAKE.map(|(by_dialler, point)| match point {
        Point::Frame(Tag::ClientIdent) => (by_dialler, Tag::SessionReconnect.into(), 1),
        Point::Frame(_) | Point::Banner => (by_dialler, point, 2),
    });
    for a_wins in [true, false] {
        for (by_dialler, point, nth) in points {
            let (mut stage, winner, loser) = stage(a_wins);
            stage.at(loser, Tag::Message, Fault::CutBefore);
            stage.at_nth(if by_dialler { loser } else { winner }, point, nth, Fault::Hold);
            let session = stage.dial(loser);
            stage.say_on(loser, session);
            stage.until_hit();
            stage.say(winner);
            stage.until("established", |s| s.seen(winner).ready == 2);
            stage.let_go();
            stage.settle();
            let held = point == Point::Frame(Tag::SessionReconnect);
            expect(
                &stage,
                winner,
                Seen {
                    dialled: 1,
                    accepted: 2,
                    said: "server_ident reconnect".to_owned(),
                    ready: 2,
                    got: vec![0],
                    events: "connected interrupted resumed(0)".to_owned(),
                    ..Seen::default()
                },
            );
            expect(
                &stage,
                loser,
                Seen {
                    dialled: 2,
                    accepted: 1,
                    said: if held { "ident reconnect reconnect_ok" } else { "ident reconnect_ok" }.to_owned(),
                    ready: 2,
                    replayed: 1,
                    got: vec![0],
                    events: "connected interrupted resumed(1)".to_owned(),
                    ..Seen::default()
                },
            );
        }
    }
}

/// Equal connect_seqs, and the winner's reconnection is the slower one: the loser is told to wait for it.
#[test]
fn of_two_reconnections_that_cross_the_losers_is_told_to_wait() {
    for a_wins in [true, false] {
        let (mut stage, winner, loser) = stage(a_wins);
        stage.at(winner, Tag::Message, Fault::CutBefore);
        stage.at(winner, Tag::SessionReconnect, Fault::Hold);
        let session = stage.dial(winner);
        stage.say_on(winner, session);
        stage.until_hit();
        stage.say(loser);
        stage.until("told to wait", |s| s.seen(loser).events.ends_with("told_to_wait"));
        stage.let_go();
        stage.settle();
        expect(
            &stage,
            winner,
            Seen {
                dialled: 2,
                accepted: 1,
                said: "ident reconnect wait".to_owned(),
                ready: 2,
                replayed: 1,
                got: vec![0],
                events: "connected interrupted resumed(1)".to_owned(),
                ..Seen::default()
            },
        );
        expect(
            &stage,
            loser,
            Seen {
                dialled: 1,
                accepted: 2,
                said: "server_ident reconnect reconnect_ok".to_owned(),
                ready: 2,
                got: vec![0],
                events: "connected interrupted told_to_wait resumed(0)".to_owned(),
                ..Seen::default()
            },
        );
    }
}

/// The end that tries for the first time since the loss meets one that has tried more often.
#[test]
fn a_reconnect_with_a_connect_seq_that_is_behind_is_told_to_retry() {
    let (mut stage, a, b) = stage(true);
    stage.at(a, Tag::Message, Fault::CutBefore);
    stage.at_nth(a, Tag::SessionReconnect, 1, Fault::CutBefore);
    stage.at_nth(a, Tag::SessionReconnect, 2, Fault::CutBefore);
    let session = stage.dial(a);
    stage.say_on(a, session);
    stage.until_hit();
    stage.world.unreachable.push((a, b));
    stage.pass(Duration::from_millis(500));
    stage.say(b);
    stage.settle();
    assert_eq!(stage.reconnects(a).map(|r| r.connect_seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(stage.reconnects(b).map(|r| r.connect_seq).collect::<Vec<_>>(), [1, 3]);
    let (at_a, at_b) = (stage.seen(a), stage.seen(b));
    assert_eq!(at_a.said, "ident reconnect reconnect retry reconnect_ok");
    assert_eq!(at_b.said, "server_ident reconnect reconnect");
    assert_eq!((at_a.got, at_b.got, at_a.replayed, at_b.replayed), (vec![0], vec![0], 1, 0));
}

/// racing_connect_reconnect_lose: the acceptor's SERVER_IDENT was lost; it thinks that there is a session and
/// reconnects, while the dialling end's second ident hangs.
#[test]
fn an_acceptor_that_reconnects_to_an_end_without_a_session_introduces_itself_instead() {
    for a_wins in [true, false] {
        let mut stage = stage(a_wins).0;
        stage.at(stage.b, Tag::ServerIdent, Fault::CutBefore);
        stage.at_nth(stage.a, Tag::ClientIdent, 2, Fault::Hold);
        stage.dial(stage.a);
        stage.say(stage.a);
        stage.until_hit();
        stage.say(stage.b);
        stage.until("established", |s| s.seen(s.b).ready == 2);
        stage.let_go();
        stage.settle();
        stage.expect(
            Seen {
                dialled: 2,
                accepted: 1,
                said: "ident ident reset server_ident".to_owned(),
                ready: 1,
                got: vec![0],
                events: "failed connected".to_owned(),
                ..Seen::default()
            },
            Seen {
                dialled: 1,
                accepted: 2,
                said: "server_ident reconnect ident".to_owned(),
                ready: 2,
                resets: 1,
                got: vec![0],
                events: "connected interrupted reset(0) resumed(0)".to_owned(),
                ..Seen::default()
            },
        );
        // The hanging ident is older than the session that it meets in the end.
        let stale = |(_, e): &&(_, ConnectionError)| matches!(e, ConnectionError::Stale { .. });
        assert_eq!(stage.world.process(stage.b).ended.iter().filter(stale).count(), 1);
    }
}

/// racing_connect_reconnect_win: as before, but it is the acceptor's reconnection that hangs.
#[test]
fn a_second_ident_overtakes_the_acceptors_reconnection() {
    for a_wins in [true, false] {
        let mut stage = stage(a_wins).0;
        stage.at(stage.b, Tag::ServerIdent, Fault::CutBefore);
        stage.at(stage.b, Tag::SessionReconnect, Fault::Hold);
        stage.dial(stage.a);
        stage.until_b_has_a_session();
        stage.world.unreachable.push((stage.a, stage.b));
        stage.say(stage.b);
        stage.until_hit();
        stage.world.unreachable.clear();
        stage.say(stage.a);
        stage.until("established", |s| s.seen(s.a).ready == 1);
        stage.let_go();
        stage.settle();
        let (a, b) = (stage.seen(stage.a), stage.seen(stage.b));
        // The late reconnection is behind the session it meets, and nobody hears the answer any more.
        assert_eq!(a.said, "ident ident");
        assert_eq!(b.said, "server_ident reconnect server_ident");
        assert_eq!((a.got, b.got, a.ready, b.ready), (vec![0], vec![0], 1, 2));
        assert_eq!((a.resets, b.resets, b.replayed), (0, 0, 1));
        assert_eq!(stage.receipts(stage.b), [ReceiptStatus::Acknowledged]);
    }
}

/// The end that said WAIT owes its connection: it dials again although it has nothing to say.
#[test]
fn the_winner_dials_again_with_nothing_to_say_when_its_connection_fails() {
    let (mut stage, winner, loser) = stage(true);
    stage.at(winner, Tag::ClientIdent, Fault::Hold);
    stage.dial(winner);
    stage.until_hit();
    let session = stage.dial(loser);
    stage.say_on(loser, session);
    stage.until("told to wait", |s| s.seen(loser).events == "told_to_wait");
    stage.cut();
    stage.let_go();
    let before = stage.world.now;
    stage.until("delivered", |s| s.seen(winner).got == [0]);
    // Long before the loser would have dialled by itself.
    assert!(stage.world.now.saturating_since(before) < Duration::from_secs(1));
    stage.settle();
    assert_eq!(stage.seen(winner).said, "ident wait ident");
    assert_eq!(stage.seen(winner).events, "failed connected");
    assert_eq!(stage.seen(loser).said, "ident server_ident");
    assert_eq!(stage.seen(loser).events, "told_to_wait connected");
}

/// The winner cannot reach the loser at all (a firewall, a one-way route): the loser's wait ends by itself, and its
/// next connection is taken, because no other is under way.
#[test]
fn a_loser_that_waits_in_vain_gets_through_although_the_winner_cannot_dial() {
    for established_before in [false, true] {
        let (mut stage, winner, loser) = stage(true);
        if established_before {
            stage.dial(winner);
            stage.say(winner);
            stage.settle();
            stage.at(winner, Tag::Message, Fault::CutBefore);
            stage.at(winner, Tag::SessionReconnect, Fault::Hold);
            stage.say(winner);
        } else {
            stage.at(winner, Tag::ClientIdent, Fault::Hold);
            let session = stage.dial(winner);
            stage.say_on(winner, session);
        }
        stage.until_hit();
        if !established_before {
            stage.dial(loser);
        }
        stage.say(loser);
        stage.until("told to wait", |s| s.seen(loser).events.ends_with("told_to_wait"));
        stage.world.unreachable.push((winner, loser));
        stage.settle();
        let expected = if established_before { vec![0, 1] } else { vec![0] };
        assert_eq!(stage.seen(winner).got, [0], "{established_before}");
        assert_eq!(stage.seen(loser).got, expected);
    }
}
