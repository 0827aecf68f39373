//! The six failure scenarios that the specification draws ("Example of failure scenarios"), with the cookies that it
//! writes beside them.

use crate::common::{Fault, Stage};
use outlast_msgr2::frame::Tag;
use outlast_session::{LossReason, ReceiptStatus};

/// "First client's client_ident message is lost, and then client reconnects."
#[test]
fn the_clients_first_ident_is_lost() {
    let mut stage = Stage::lossless();
    stage.at(stage.a, Tag::ClientIdent, Fault::CutBefore);
    stage.a_dials_and_both_speak();
    stage.settle();
    let cookies: Vec<_> = stage.idents(stage.a).map(|i| i.cookie).collect();
    let [a, again] = cookies[..] else { panic!("{cookies:?}") };
    assert!(a != 0 && a == again, "the client keeps the cookie it chose");
    assert_eq!(
        (stage.seen(stage.a).said, stage.seen(stage.b).said),
        ("ident ident".into(), "server_ident".into())
    );
    assert_eq!((stage.seen(stage.a).got, stage.seen(stage.b).got), (vec![0], vec![0]));
    assert_eq!((stage.seen(stage.a).resets, stage.seen(stage.b).resets), (0, 0));
}

/// "Server's server_ident message is lost, and then client reconnects."
#[test]
fn the_servers_ident_is_lost_and_the_client_comes_back() {
    let mut stage = Stage::lossless();
    stage.at(stage.b, Tag::ServerIdent, Fault::CutBefore);
    stage.a_dials_and_both_speak();
    stage.settle();
    let client: Vec<_> = stage.idents(stage.a).map(|i| i.cookie).collect();
    let server: Vec<_> = stage.server_idents(stage.b).map(|i| i.cookie).collect();
    assert_eq!((client.len(), server.len()), (2, 2));
    assert_eq!(client[0], client[1]);
    assert!(server[0] != 0 && server[1] != 0 && server[0] != server[1], "b, then c");
    assert_eq!((stage.seen(stage.a).got, stage.seen(stage.b).got), (vec![0], vec![0]));
}

/// "Server's server_ident message is lost, and then server reconnects." (Among peers: a server never does.)
#[test]
fn the_servers_ident_is_lost_and_the_server_comes_back() {
    let mut stage = Stage::peers();
    stage.at(stage.b, Tag::ServerIdent, Fault::CutBefore);
    stage.a_dials_and_both_speak();
    stage.until_hit();
    stage.world.unreachable.push((stage.a, stage.b));
    stage.settle();
    assert_eq!(stage.seen(stage.a).said, "ident reset server_ident");
    assert_eq!(stage.seen(stage.b).said, "server_ident reconnect ident");
    let a = stage.idents(stage.a).next().expect("client_ident(a)").cookie;
    let b = stage.server_idents(stage.b).next().expect("server_ident(b)").cookie;
    let c = stage.server_idents(stage.a).next().expect("server_ident(c)").cookie;
    let reconnect = stage.reconnects(stage.b).next().expect("reconnect(a, b)");
    assert_eq!((reconnect.client_cookie, reconnect.server_cookie), (a, b));
    assert_eq!(stage.idents(stage.b).next().expect("client_ident(a)").cookie, a);
    assert!(c != 0 && c != b);
    let reset = stage.controls(stage.a, Tag::SessionReset).next().expect("a reset");
    assert_eq!(reset, outlast_msgr2::wire::SessionReset { full: false }.into(), "reset_session(F)");
    assert_eq!((stage.seen(stage.a).got, stage.seen(stage.b).got), (vec![0], vec![0]));
    let all = [stage.receipts(stage.a), stage.receipts(stage.b)].concat();
    assert_eq!(all, [ReceiptStatus::Acknowledged; 2]);
}

/// "Connection failure after session is established, and then client reconnects."
#[test]
fn the_connection_fails_and_the_client_reconnects() {
    let mut stage = Stage::lossless();
    stage.a_dials_and_both_speak();
    stage.settle();
    stage.cut();
    stage.settle();
    stage.say(stage.a);
    stage.say(stage.b);
    stage.settle();
    let a = stage.idents(stage.a).next().expect("client_ident(a)").cookie;
    let b = stage.server_idents(stage.b).next().expect("server_ident(b)").cookie;
    let reconnects: Vec<_> = stage
        .reconnects(stage.a)
        .map(|r| (r.client_cookie, r.server_cookie, r.connect_seq, r.msg_seq))
        .collect();
    assert_eq!(reconnects, [(a, b, 1, 1)]);
    assert_eq!(stage.seen(stage.b).said, "server_ident reconnect_ok");
    assert_eq!((stage.seen(stage.a).got, stage.seen(stage.b).got), (vec![0, 1], vec![0, 1]));
}

/// "Connection failure after session is established because server reset, and then client reconnects."
#[test]
fn the_server_restarts_and_the_client_reconnects() {
    let mut stage = Stage::lossless();
    stage.world.process_mut(stage.b).config.keep_nonce = true;
    stage.a_dials_and_both_speak();
    stage.settle();
    let before = stage.restart(stage.b);
    assert_eq!(before.delivered.len(), 1);
    // Queued for a session that is gone, and then for the next one.
    stage.say(stage.a);
    stage.settle();
    stage.say(stage.a);
    stage.until_b_has_a_session();
    stage.settle();
    assert_eq!(stage.seen(stage.a).said, "ident reconnect ident");
    assert_eq!(stage.seen(stage.b).said, "server_ident reset server_ident");
    let a = stage.idents(stage.a).map(|i| i.cookie).collect::<Vec<_>>();
    assert!(a[0] != a[1], "client_ident(c): a full reset takes the cookie too");
    let reset = stage.controls(stage.b, Tag::SessionReset).next().expect("a reset");
    assert_eq!(reset, outlast_msgr2::wire::SessionReset { full: true }.into());
    let (acked, lost) = (ReceiptStatus::Acknowledged, ReceiptStatus::Lost(LossReason::Reset));
    assert_eq!(stage.receipts(stage.a), [acked, lost, acked]);
    assert_eq!(stage.seen(stage.b).got, [2]);
    assert_eq!(stage.seen(stage.a).events, "connected interrupted reset(1) resumed(0)");
}

/// "Connection failure after session is established because client reset, and then client reconnects": reset at the
/// server if its policy has resetcheck.
#[test]
fn the_client_restarts_and_connects_anew() {
    let mut stage = Stage::lossless();
    stage.world.process_mut(stage.a).config.keep_nonce = true;
    stage.a_dials_and_both_speak();
    stage.settle();
    stage.cut();
    stage.restart(stage.a);
    // For the client that is gone.
    stage.say(stage.b);
    // The counter of attempts of the new process begins at 1 again, so its first ident is as old as the first one's.
    stage.dial(stage.a);
    stage.say(stage.a);
    stage.settle();
    let cookies: Vec<_> = stage.idents(stage.a).map(|i| i.cookie).collect();
    assert_eq!(cookies.len(), 2);
    assert!(cookies[0] != cookies[1], "c_cookie(c)");
    let server: Vec<_> = stage.server_idents(stage.b).map(|i| i.cookie).collect();
    assert!(server.len() == 2 && server[0] != server[1], "s_cookie(d)");
    let (acked, lost) = (ReceiptStatus::Acknowledged, ReceiptStatus::Lost(LossReason::Reset));
    assert_eq!(stage.receipts(stage.b), [acked, lost]);
    assert_eq!(stage.seen(stage.b).events, "connected interrupted reset(1) resumed(0)");
    assert_eq!(stage.seen(stage.b).got, [0, 1]);
    assert_eq!(stage.seen(stage.a).got, []);
}
