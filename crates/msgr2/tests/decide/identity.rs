//! What matching by identity adds.

use super::*;

const CLIENT: &str = "client.a";

fn client_ident(host: u8, global_seq: u64, cookie: u64) -> ClientIdent {
    ClientIdent { global_id: i64::try_from(GLOBAL_ID).unwrap(), ..ident(host, global_seq, cookie) }
}

fn established() -> (Acceptor, u64) {
    let mut acceptor = Acceptor::by_identity(Policy::STATEFUL_SERVER, CLIENT);
    let cookie = accepted(acceptor.ident(client_ident(LOWER, 1, COOKIE))).cookie;
    acceptor.events();
    (acceptor, cookie)
}

#[test]
fn another_address_or_target_does_no_harm() {
    let (mut acceptor, cookie) = established();
    acceptor.lost();
    resumed(acceptor.reconnect(reconnect(HIGHER, cookie, 2, 1)));
    let relayed = ClientIdent { target: address(99), ..client_ident(HIGHER, 3, COOKIE + 1) };
    accepted(acceptor.ident(relayed));
    let nowhere = ClientIdent { addresses: AddrVec::default(), ..client_ident(LOWER, 4, COOKIE + 2) };
    accepted(acceptor.ident(nowhere));
}

#[test]
fn a_wrong_server_cookie_resumes_nothing() {
    let (mut acceptor, cookie) = established();
    let queued = acceptor.say();
    acceptor.lost();
    for wrong in [0, cookie ^ 1, COOKIE, u64::MAX] {
        assert_eq!(acceptor.reconnect(reconnect(LOWER, wrong, 2, 1)), reset(true));
    }
    assert_eq!(acceptor.session().state(), SessionState::Standby);
    assert_eq!(acceptor.session().status(queued), ReceiptStatus::Pending);
    resumed(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)));
}

#[test]
fn another_name_finds_nothing_even_with_both_cookies() {
    let (mut acceptor, cookie) = established();
    acceptor.newcomer("client.b");
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)), reset(true));
    let first = acceptor.session().id();
    let theirs = accepted(acceptor.ident(client_ident(LOWER, 2, COOKIE))).cookie;
    assert!(acceptor.session().id() != first && theirs != cookie);
}

#[test]
fn a_client_of_the_same_name_with_another_cookie_has_a_session_of_its_own() {
    let (mut acceptor, cookie) = established();
    let first = acceptor.session.take().unwrap();
    // Its counter of attempts is its own.
    accepted(acceptor.ident(client_ident(LOWER, 0, COOKIE + 1)));
    assert!(acceptor.session().id() != first.id());
    assert_eq!(acceptor.endpoint.sessions(), 2);
    acceptor.session = Some(first);
    resumed(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)));
}

/// Peers have one session by name; crossed connections are decided by it.
#[test]
fn of_two_peers_that_cross_the_lower_names_connection_survives() {
    for (name, newcomer_wins) in [("osd.1", true), ("osd.3", false)] {
        let mut acceptor = Acceptor::by_identity(Policy::LOSSLESS_PEER, name);
        let config =
            SessionConfig { matching: Matching::Identity, ..SessionConfig::new(Policy::LOSSLESS_PEER) };
        let target =
            Target { addresses: address(LOWER).into(), entity_type: None, name: Some(name.parse().unwrap()) };
        acceptor.session = Some(acceptor.endpoint.connect(target, config, NOW).unwrap());
        acceptor.dial();
        // The address says the opposite, and does not count.
        let host = if newcomer_wins { HIGHER } else { LOWER };
        let number = if newcomer_wins { 1 } else { 3 };
        let decision = acceptor.ident(ClientIdent { global_id: number, ..ident(host, 1, COOKIE) });
        if newcomer_wins {
            accepted(decision);
        } else {
            assert_eq!(decision, wait());
        }
    }
}

/// A restarted peer counts from 1 again; the nonce in its address tells it from the one before.
#[test]
fn a_restarted_peer_is_no_stale_attempt() {
    let mut acceptor = Acceptor::by_identity(Policy::LOSSLESS_PEER, "osd.1");
    accepted(acceptor.ident(ident(LOWER, 50, COOKIE)));
    let stale = ConnectionError::Stale { offered: 2, known: 50 };
    assert_eq!(acceptor.ident(ident(LOWER, 2, COOKIE)), Decision::Refuse(stale));
    let restarted = EntityAddr { nonce: 4242, ..address(LOWER) };
    accepted(acceptor.ident(ClientIdent { addresses: restarted.into(), ..ident(LOWER, 2, COOKIE + 1) }));
    // And the one before is none of its attempts: by its cookie it is not found.
    assert_eq!(acceptor.reconnect(reconnect(LOWER, 1, 51, 1)), reset(false));
}

/// As the connection dies with the word that says so.
fn closed(acceptor: &mut Acceptor) {
    acceptor.lost();
    acceptor.session().close(NOW, Duration::from_secs(1));
    assert_eq!(acceptor.session().end(), Some(&EndReason::Closed));
}

#[test]
fn who_comes_back_for_a_session_that_was_closed_is_told_so() {
    let (mut acceptor, cookie) = established();
    closed(&mut acceptor);
    let told = Decision::Closed { msg_seq: 0 };
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)), told, "its driver still has it");
    let session = acceptor.session.take().unwrap();
    acceptor.endpoint.bury(&session);
    assert_eq!(acceptor.endpoint.sessions(), 0);
    assert_eq!(acceptor.reconnect(reconnect(HIGHER, cookie, 3, 1)), told, "from wherever");
    for wrong in [0, cookie ^ 1] {
        assert_eq!(acceptor.reconnect(reconnect(LOWER, wrong, 2, 1)), reset(true));
    }
    let other = SessionReconnect { client_cookie: COOKIE + 1, ..reconnect(LOWER, cookie, 2, 1) };
    assert_eq!(acceptor.reconnect(other), reset(true));
    // Who wants a new one gets it, and the old one stays closed.
    let fresh = accepted(acceptor.ident(client_ident(LOWER, 4, COOKIE + 1))).cookie;
    assert_ne!(fresh, cookie);
    let beside = acceptor.session.take();
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 5, 1)), told);
    acceptor.session = beside;
    acceptor.newcomer("client.b");
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 6, 1)), reset(true), "somebody else");
}

#[test]
fn the_sessions_that_were_closed_last_are_remembered() {
    let (mut acceptor, cookie) = established();
    closed(&mut acceptor);
    let first = acceptor.session.take().unwrap();
    acceptor.endpoint.bury(&first);
    for number in 1..=CLOSED_SESSIONS_MAX as u64 {
        let told = acceptor.reconnect(reconnect(LOWER, cookie, 2, 1));
        assert_eq!(told, Decision::Closed { msg_seq: 0 }, "{number}");
        accepted(acceptor.ident(client_ident(LOWER, 1, COOKIE + number)));
        closed(&mut acceptor);
        let session = acceptor.session.take().unwrap();
        acceptor.endpoint.bury(&session);
    }
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)), reset(true));
}

/// The driver has not buried it yet when another process of the same name introduces itself.
#[test]
fn a_newcomer_does_not_wipe_out_what_is_known_of_a_session_that_was_just_closed() {
    let mut acceptor = Acceptor::by_identity(Policy::LOSSLESS_PEER, "osd.1");
    let cookie = accepted(acceptor.ident(ident(LOWER, 1, COOKIE))).cookie;
    closed(&mut acceptor);
    let ended = acceptor.session().id();
    accepted(acceptor.ident(ident(HIGHER, 1, COOKIE + 1)));
    assert_ne!(acceptor.session().id(), ended);
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)), Decision::Closed { msg_seq: 0 });
}

/// Peers have one place, which moves to the end of the queue each time.
#[test]
fn a_peer_that_closes_again_is_among_the_last() {
    let mut acceptor = Acceptor::by_identity(Policy::LOSSLESS_PEER, "osd.1");
    let mut close_once = |name: &str, number: i64| {
        acceptor.newcomer(name);
        let introduced = ClientIdent { global_id: number, ..ident(LOWER, 1, COOKIE) };
        let cookie = accepted(acceptor.ident(introduced)).cookie;
        closed(&mut acceptor);
        let session = acceptor.session.take().unwrap();
        acceptor.endpoint.bury(&session);
        cookie
    };
    close_once("osd.1", 1);
    for number in 2..=CLOSED_SESSIONS_MAX as i64 {
        close_once(&format!("osd.{number}"), number);
    }
    let cookie = close_once("osd.1", 1);
    close_once("osd.9999", 9999);
    acceptor.newcomer("osd.1");
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)), Decision::Closed { msg_seq: 0 });
}

/// Ceph has no word for it: its clients hear what Ceph would say.
#[test]
fn by_address_a_closed_session_is_as_if_it_had_never_been() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let cookie = accepted(acceptor.ident(ident(LOWER, 1, COOKIE))).cookie;
    closed(&mut acceptor);
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)), reset(true));
    let session = acceptor.session.take().unwrap();
    acceptor.endpoint.bury(&session);
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)), reset(true));
}

/// Cookie 0 is everybody's.
#[test]
fn clients_without_a_cookie_do_not_get_each_others_sessions() {
    for named in [true, false] {
        let mut acceptor = Acceptor::by_identity(Policy::STATEFUL_SERVER, CLIENT);
        if !named {
            acceptor.request.name = None;
        }
        let cookie = accepted(acceptor.ident(client_ident(LOWER, 1, 0))).cookie;
        let first = acceptor.session.take().unwrap();
        accepted(acceptor.ident(client_ident(HIGHER, 1, 0)));
        assert!(acceptor.session().id() != first.id());
        assert_eq!(acceptor.endpoint.sessions(), 2);
        // Nor does anybody resume one.
        let resumption = SessionReconnect { client_cookie: 0, ..reconnect(LOWER, cookie, 2, 1) };
        assert_eq!(acceptor.reconnect(resumption), reset(true));
        acceptor.endpoint.forget(first.id());
        assert_eq!(acceptor.endpoint.sessions(), 1);
    }
}

/// Who knows both cookies and has a key can resume a session.
#[test]
fn cookies_are_not_shown_in_a_log() {
    let mut acceptor = Acceptor::by_identity(Policy::STATEFUL_SERVER, CLIENT);
    let client_cookie = 0x1234_5678_9abc_def0;
    let server_cookie = accepted(acceptor.ident(client_ident(LOWER, 1, client_cookie))).cookie;
    let shown = format!("{:?} {:?}", acceptor.session, acceptor.endpoint);
    for cookie in [client_cookie, server_cookie] {
        assert!(!shown.contains(&cookie.to_string()) && !shown.contains(&format!("{cookie:x}")), "{shown}");
    }
}
