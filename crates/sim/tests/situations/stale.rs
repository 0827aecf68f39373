//! What was sent long ago and arrives now, when its sender has long gone on.

use crate::common::{Fault, Seen, Stage};
use outlast_msgr2::frame::Tag;
use outlast_msgr2::{ChannelId, ConnectionError};
use outlast_session::ReceiptStatus;

fn stale(ended: &[(ChannelId, ConnectionError)]) -> usize {
    ended.iter().filter(|(_, e)| matches!(e, ConnectionError::Stale { .. })).count()
}

/// stale_connect: the acceptor's SERVER_IDENT hangs and the acceptor believes its connection lost; it has something to
/// say and dials back.
#[test]
fn a_server_ident_that_hangs_is_overtaken_by_the_acceptor_dialling_back() {
    let mut stage = Stage::peers();
    stage.at(stage.b, Tag::ServerIdent, Fault::Stall);
    stage.dial(stage.a);
    stage.until_hit();
    stage.until("b noticed", |s| s.seen(s.b).events.ends_with("interrupted"));
    stage.say(stage.b);
    stage.until("established", |s| s.seen(s.a).ready == 1 && s.seen(s.b).ready == 2);
    stage.let_go();
    stage.settle();
    stage.expect(
        Seen {
            dialled: 1,
            accepted: 1,
            said: "ident reset server_ident".to_owned(),
            ready: 1,
            got: vec![0],
            events: "connected".to_owned(),
            ..Seen::default()
        },
        Seen {
            dialled: 1,
            accepted: 1,
            said: "server_ident reconnect ident".to_owned(),
            ready: 2,
            resets: 1,
            events: "connected interrupted reset(0) resumed(0)".to_owned(),
            ..Seen::default()
        },
    );
    assert_eq!(stage.receipts(stage.b), [ReceiptStatus::Acknowledged]);
}

/// stale_reconnect: the same at RECONNECT_OK.
#[test]
fn a_reconnect_ok_that_hangs_is_overtaken_by_the_acceptor_dialling_back() {
    let mut stage = Stage::peers();
    stage.at(stage.a, Tag::Message, Fault::CutBefore);
    stage.at(stage.b, Tag::SessionReconnectOk, Fault::Stall);
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.until_hit();
    stage.until("b noticed", |s| s.seen(s.b).events.ends_with("interrupted"));
    stage.say(stage.b);
    stage.until("established", |s| s.seen(s.a).ready == 2 && s.seen(s.b).ready == 3);
    stage.let_go();
    stage.settle();
    stage.expect(
        Seen {
            dialled: 2,
            accepted: 1,
            said: "ident reconnect reconnect_ok".to_owned(),
            ready: 2,
            replayed: 1,
            got: vec![0],
            events: "connected interrupted resumed(1)".to_owned(),
            ..Seen::default()
        },
        Seen {
            dialled: 1,
            accepted: 2,
            said: "server_ident reconnect_ok reconnect".to_owned(),
            ready: 3,
            got: vec![0],
            events: "connected interrupted resumed(0) interrupted resumed(0)".to_owned(),
            ..Seen::default()
        },
    );
    let all = [stage.receipts(stage.a), stage.receipts(stage.b)].concat();
    assert_eq!(all, [ReceiptStatus::Acknowledged; 2]);
}

/// stale_accept: an ident hangs; its sender dials again and is served; then the first one arrives.
#[test]
fn an_ident_that_hangs_is_refused_when_a_later_one_was_taken() {
    let mut stage = Stage::peers();
    stage.at(stage.a, Tag::ClientIdent, Fault::Stall);
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.until("established", |s| s.seen(s.a).ready == 1);
    stage.let_go();
    stage.settle();
    stage.expect(
        Seen {
            dialled: 2,
            said: "ident ident".to_owned(),
            ready: 1,
            events: "failed connected".to_owned(),
            ..Seen::default()
        },
        Seen {
            accepted: 2,
            said: "server_ident".to_owned(),
            ready: 1,
            got: vec![0],
            events: "connected".to_owned(),
            ..Seen::default()
        },
    );
    assert_eq!(stale(&stage.world.process(stage.b).ended), 1);
}

/// stale_establishing: the acceptor has answered and does not know that its answer got lost; the next ident takes the
/// session over, and the old connection notices.
#[test]
fn an_acceptor_that_does_not_know_of_the_loss_is_taken_over_by_the_next_ident() {
    let mut stage = Stage::peers();
    stage.at(stage.b, Tag::ServerIdent, Fault::Vanish);
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.until("established", |s| s.seen(s.a).ready == 1);
    let superseded = |(_, e): &&(_, ConnectionError)| *e == ConnectionError::Superseded;
    assert_eq!(stage.world.process(stage.b).ended.iter().filter(superseded).count(), 1);
    stage.let_go();
    stage.settle();
    stage.expect(
        Seen {
            dialled: 2,
            said: "ident ident".to_owned(),
            ready: 1,
            events: "failed connected".to_owned(),
            ..Seen::default()
        },
        Seen {
            accepted: 2,
            said: "server_ident server_ident".to_owned(),
            ready: 2,
            got: vec![0],
            events: "connected resumed(0)".to_owned(),
            ..Seen::default()
        },
    );
}

/// stale_reaccept: the same at RECONNECT_OK, for peers and for a server.
#[test]
fn an_acceptor_that_does_not_know_of_the_loss_is_taken_over_by_the_next_reconnection() {
    for mut stage in [Stage::peers(), Stage::lossless()] {
        stage.at(stage.a, Tag::Message, Fault::CutBefore);
        stage.at(stage.b, Tag::SessionReconnectOk, Fault::Vanish);
        stage.dial(stage.a);
        stage.say(stage.a);
        stage.until("established", |s| s.seen(s.a).ready == 2);
        stage.let_go();
        stage.settle();
        stage.expect(
            Seen {
                dialled: 3,
                said: "ident reconnect reconnect".to_owned(),
                ready: 2,
                replayed: 1,
                events: "connected interrupted failed resumed(1)".to_owned(),
                ..Seen::default()
            },
            Seen {
                accepted: 3,
                said: "server_ident reconnect_ok reconnect_ok".to_owned(),
                ready: 3,
                got: vec![0],
                events: "connected interrupted resumed(0) resumed(0)".to_owned(),
                ..Seen::default()
            },
        );
    }
}

/// A reconnection that hangs, while the next one is served: its connect_seq is behind when it arrives.
#[test]
fn a_reconnect_that_hangs_does_not_disturb_the_session_that_came_after_it() {
    for mut stage in [Stage::peers(), Stage::lossless()] {
        stage.at(stage.a, Tag::Message, Fault::CutBefore);
        stage.at(stage.a, Tag::SessionReconnect, Fault::Stall);
        stage.dial(stage.a);
        stage.say(stage.a);
        stage.until("established", |s| s.seen(s.a).ready == 2);
        stage.let_go();
        stage.settle();
        let (a, b) = (stage.seen(stage.a), stage.seen(stage.b));
        assert_eq!((a.dialled, a.ready, a.replayed, a.resets), (3, 2, 1, 0));
        assert_eq!((b.accepted, b.ready, b.got), (3, 2, vec![0]));
        assert_eq!(b.events, "connected interrupted resumed(0)");
    }
}

/// The link falls silent without a word in either direction: keepalives find out, and the session goes on.
#[test]
fn a_silent_link_is_given_up_and_replaced() {
    use outlast_sim::link::Direction;
    for direction in [Direction::Forth, Direction::Back] {
        let mut stage = Stage::lossless();
        stage.a_dials_and_both_speak();
        stage.settle();
        for link in stage.world.links.values_mut() {
            link.silence(direction);
        }
        stage.say(stage.a);
        stage.say(stage.b);
        stage.settle();
        let (a, b) = (stage.seen(stage.a), stage.seen(stage.b));
        assert_eq!((a.said.as_str(), b.said.as_str()), ("ident reconnect", "server_ident reconnect_ok"));
        assert_eq!((a.got, b.got), (vec![0, 1], vec![0, 1]), "{direction:?}");
        let all = [stage.receipts(stage.a), stage.receipts(stage.b)].concat();
        assert_eq!(all, [ReceiptStatus::Acknowledged; 4]);
        let silent = [stage.a, stage.b]
            .into_iter()
            .flat_map(|p| &stage.world.process(p).ended)
            .filter(|(_, e)| *e == ConnectionError::Silent)
            .count();
        assert!(silent >= 1, "somebody must notice");
    }
}

/// Nothing is heard at any frame of the handshake and nobody is told: each waiting state ends by its deadline, at both
/// ends.
#[test]
fn a_handshake_that_hangs_anywhere_ends_by_its_deadline_at_both_ends() {
    use crate::common::Point;
    use std::time::Duration;
    for (by_client, point) in [
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
        (true, Tag::ClientIdent.into()),
    ] {
        let mut stage = Stage::lossless();
        let by = if by_client { stage.a } else { stage.b };
        stage.at(by, point, Fault::Hold);
        let start = stage.world.now;
        stage.dial(stage.a);
        stage.say(stage.a);
        stage.until("both gave up", |s| [s.a, s.b].iter().all(|p| s.world.process(*p).ended.len() == 1));
        assert!(stage.world.now.saturating_since(start) < Duration::from_secs(11), "{point:?}");
        stage.settle();
        assert_eq!(stage.seen(stage.a).events, "failed connected", "{point:?}");
        assert_eq!(stage.seen(stage.b).got, [0]);
    }
}
