//! Lossy clients and the stateless servers of theirs.
//!
//! Ceph's `test_messenger.cc` looks at one end at a time (`lossy_..._connect_fault` at the client's, `..._accept_fault`
//! at the server's); here each situation is looked at from both.

use crate::common::{Fault, Point, Seen, Stage};
use outlast_msgr2::frame::Tag;
use outlast_session::ReceiptStatus;
use std::time::Duration;

fn words(s: &str) -> String {
    s.to_owned()
}

/// lossy_early_connect_fault, lossy_early_accept_fault: before any ident was written.
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
        for fault in [Fault::CutBefore, Fault::CutWithin] {
            let mut stage = Stage::lossy();
            let by = if by_client { stage.a } else { stage.b };
            stage.at(by, point, fault);
            stage.dial(stage.a);
            stage.say(stage.a);
            stage.settle();
            stage.expect(
                Seen {
                    dialled: 2,
                    said: words("ident"),
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
    }
}

/// lossy_early_connect_fault at the socket itself.
#[test]
fn a_server_that_cannot_be_reached_is_dialled_until_it_can() {
    let mut stage = Stage::lossy();
    stage.world.unreachable.push((stage.a, stage.b));
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.pass(Duration::from_secs(1));
    stage.world.unreachable.clear();
    stage.settle();
    let a = stage.seen(stage.a);
    // Pauses of 200 ms, doubled each time, less up to a quarter: dialled at 0, 150..200, 450..600 and 1050..1400 ms.
    assert_eq!((a.dialled, a.events), (4, words("failed failed failed connected")));
    assert_eq!((stage.seen(stage.b).accepted, stage.seen(stage.b).got), (1, vec![0]));
}

/// lossy_connect_fault, lossy_accept_fault.
#[test]
fn a_client_ident_that_is_lost_is_said_again() {
    for fault in [Fault::CutBefore, Fault::CutWithin] {
        let mut stage = Stage::lossy();
        stage.at(stage.a, Tag::ClientIdent, fault);
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
}

/// lossy_connect_fault, lossy_establishing_fault: the server has a session that the client never learns of.
#[test]
fn a_server_ident_that_is_lost_costs_the_server_a_session() {
    for fault in [Fault::CutBefore, Fault::CutWithin] {
        let mut stage = Stage::lossy();
        stage.at(stage.b, Tag::ServerIdent, fault);
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
                events: words("connected ended(lost) connected"),
                ..Seen::default()
            },
        );
    }
}

/// lossy_connected_fault, lossy_accepted_fault: nothing is sent again, and both applications are told.
#[test]
fn a_fault_after_the_session_began_ends_it_at_both_ends() {
    let cases = [
        (true, Fault::CutBefore, [vec![], vec![]]),
        (true, Fault::CutWithin, [vec![], vec![]]),
        (true, Fault::CutAfter, [vec![], vec![0]]),
        (false, Fault::CutBefore, [vec![], vec![]]),
        (false, Fault::CutWithin, [vec![], vec![]]),
        (false, Fault::CutAfter, [vec![0], vec![]]),
    ];
    for (by_client, fault, [at_client, at_server]) in cases {
        let mut stage = Stage::lossy();
        let by = if by_client { stage.a } else { stage.b };
        stage.at(by, Tag::Message, fault);
        stage.dial(stage.a);
        stage.until("established", |s| s.seen(s.a).ready == 1);
        stage.say(by);
        stage.settle();
        stage.expect(
            Seen {
                dialled: 1,
                said: words("ident"),
                ready: 1,
                got: at_client,
                events: words("connected ended(lost)"),
                ..Seen::default()
            },
            Seen {
                accepted: 1,
                said: words("server_ident"),
                ready: 1,
                got: at_server,
                events: words("connected ended(lost)"),
                ..Seen::default()
            },
        );
        // A lossy session has no receipts to keep.
        assert_eq!(stage.receipts(by), [ReceiptStatus::NotTracked]);
    }
}

/// lossy_client, stateless_server.
#[test]
fn each_connection_of_a_lossy_client_stands_alone() {
    let mut stage = Stage::lossy();
    stage.a_dials_and_both_speak();
    stage.settle();
    // The client drops its session: the server sees a lost connection.
    stage.mark_down(stage.a);
    let second = stage.dial(stage.a);
    stage.say_on(stage.a, second);
    stage.settle();
    // The server drops its own: the client sees one.
    stage.mark_down(stage.b);
    stage.settle();
    let third = stage.dial(stage.a);
    stage.say_on(stage.a, third);
    stage.settle();
    stage.expect(
        Seen {
            dialled: 3,
            said: words("ident ident ident"),
            ready: 3,
            got: vec![0],
            events: words("connected ended(ClosedUndrained) connected ended(lost) connected"),
            ..Seen::default()
        },
        Seen {
            accepted: 3,
            said: words("server_ident server_ident server_ident"),
            ready: 3,
            got: vec![0, 1, 2],
            events: words("connected ended(lost) connected ended(ClosedUndrained) connected"),
            ..Seen::default()
        },
    );
}
