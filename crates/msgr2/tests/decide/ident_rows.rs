//! CLIENT_IDENT: the nine rows.

use super::*;

#[test]
fn a_first_ident_makes_a_session() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let answer = accepted(acceptor.ident(ident(LOWER, 1, COOKIE)));
    assert!(answer.cookie != 0);
    assert_eq!((answer.flags, answer.global_id), (0, 2));
    assert_eq!(answer.addresses, AddrVec::from(address(OWN_HOST)));
    assert_eq!(acceptor.events(), [SessionEvent::Connected]);
    let mut acceptor = Acceptor::by_address(Policy::STATELESS_SERVER);
    let answer = accepted(acceptor.ident(ident(LOWER, 1, 0)));
    assert_eq!((answer.flags, answer.cookie), (IDENT_FLAG_LOSSY, 0));
}

#[test]
fn row_1_a_closed_session_is_as_none() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    acceptor.accepted(LOWER, 9);
    let before = acceptor.session().id();
    acceptor.session().abort();
    // Not even its counters count.
    accepted(acceptor.ident(ident(LOWER, 1, COOKIE)));
    assert!(acceptor.session().id() != before);
}

/// Ceph answers WAIT while one connection replaces another: see row 3 of the reconnections.
#[test]
fn row_2_nothing_is_found_in_the_middle_of_being_replaced() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    accepted(acceptor.ident(ident(LOWER, 1, COOKIE)));
    accepted(acceptor.ident(ident(LOWER, 2, COOKIE)));
    accepted(acceptor.ident(ident(LOWER, 3, COOKIE)));
    assert!(matches!(acceptor.session().state(), SessionState::Ready { .. }));
    assert_eq!(acceptor.session().connects(), 3);
}

#[test]
fn row_3_an_unsettled_session_of_an_incarnation_that_is_gone_makes_way() {
    let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
    acceptor.accepted(LOWER, 9);
    let queued = acceptor.say();
    acceptor.lost();
    acceptor.dial();
    let before = acceptor.session().id();
    let mut old = acceptor.session.take().unwrap();
    acceptor.channels += 1;
    let request = SessionRequest {
        channel: ChannelId(acceptor.channels),
        introduced: Introduced::Ident(ident(LOWER, 1, COOKIE + 1)),
        ..acceptor.request.clone()
    };
    let (decision, fresh) = acceptor.endpoint.decide(request, Some(&mut old), NOW);
    accepted(decision);
    assert!(fresh.is_some_and(|fresh| fresh.id() != before));
    assert_eq!(old.end(), Some(&EndReason::Replaced));
    assert_eq!(old.status(queued), ReceiptStatus::Lost(LossReason::Reset));
}

#[test]
fn row_4_an_attempt_that_is_behind_is_dropped() {
    for (policy, cookie) in [
        (Policy::STATEFUL_SERVER, COOKIE),
        // Settled: the unsettled with another cookie are row 3.
        (Policy::STATEFUL_SERVER, COOKIE + 1),
        (Policy::LOSSLESS_PEER, COOKIE),
        (Policy::STATELESS_REGISTERED_SERVER, 0),
    ] {
        let mut acceptor = Acceptor::by_address(policy);
        acceptor.accepted(LOWER, 9);
        let stale = ConnectionError::Stale { offered: 8, known: 9 };
        assert_eq!(acceptor.ident(ident(LOWER, 8, cookie)), Decision::Refuse(stale));
        assert!(matches!(acceptor.session().state(), SessionState::Ready { .. }));
    }
}

#[test]
fn row_5_a_lossy_session_is_replaced() {
    let mut acceptor = Acceptor::by_address(Policy::STATELESS_REGISTERED_SERVER);
    acceptor.accepted(LOWER, 1);
    let mut old = acceptor.session.take().unwrap();
    let request = SessionRequest {
        channel: ChannelId(7),
        introduced: Introduced::Ident(ident(LOWER, 2, 0)),
        ..acceptor.request.clone()
    };
    assert_eq!(acceptor.endpoint.locate(&request), Located::Known(old.id()));
    let (decision, fresh) = acceptor.endpoint.decide(request, Some(&mut old), NOW);
    assert_eq!(accepted(decision).flags, IDENT_FLAG_LOSSY);
    assert_eq!(old.end(), Some(&EndReason::Replaced));
    let fresh = fresh.unwrap();
    assert!(fresh.id() != old.id());
}

/// Their clients may share an address.
#[test]
fn row_5_the_sessions_of_a_stateless_server_are_never_looked_up() {
    let mut acceptor = Acceptor::by_address(Policy::STATELESS_SERVER);
    acceptor.accepted(LOWER, 9);
    let first = acceptor.session.take().unwrap();
    // Not even an older attempt is stale.
    accepted(acceptor.ident(ident(LOWER, 1, 0)));
    assert!(acceptor.session().id() != first.id());
    assert_eq!(first.end(), None);
}

#[test]
fn row_6_a_peer_that_forgot_resets_the_session_as_the_policy_says() {
    for (policy, lost) in
        [(Policy::STATEFUL_SERVER, true), (Policy::LOSSLESS_PEER_REUSE, true), (Policy::LOSSLESS_PEER, false)]
    {
        let mut acceptor = Acceptor::by_address(policy);
        let first = acceptor.accepted(LOWER, 1);
        let queued = acceptor.say();
        let id = acceptor.session().id();
        let second = accepted(acceptor.ident(ident(LOWER, 2, COOKIE + 1))).cookie;
        assert!(second != first && second != 0);
        assert_eq!(acceptor.session().id(), id);
        let status = if lost { ReceiptStatus::Lost(LossReason::Reset) } else { ReceiptStatus::Pending };
        assert_eq!(acceptor.session().status(queued), status);
        let was_reset = acceptor.events().contains(&SessionEvent::Reset { lost: 1 });
        assert_eq!(was_reset, lost);
        // From here on the new cookie counts.
        assert_eq!(acceptor.reconnect(reconnect(LOWER, second, 3, 1)), reset(policy.resetcheck));
    }
}

#[test]
fn row_7_an_interrupted_ident_is_answered_again_for_the_same_session() {
    for policy in [Policy::STATEFUL_SERVER, Policy::LOSSLESS_PEER] {
        let mut acceptor = Acceptor::by_address(policy);
        let first = acceptor.accepted(LOWER, 1);
        let queued = acceptor.say();
        let id = acceptor.session().id();
        let second = accepted(acceptor.ident(ident(LOWER, 2, COOKIE))).cookie;
        assert!(second != first, "a cookie for each SERVER_IDENT");
        assert_eq!(acceptor.session().id(), id);
        assert_eq!(acceptor.session().status(queued), ReceiptStatus::Pending);
        assert!(!acceptor.events().iter().any(|e| matches!(e, SessionEvent::Reset { .. })));
    }
}

/// The peer's cookie is not known to be another: it is 0 on one side.
#[test]
fn row_8_a_session_that_is_ready_or_stands_by_is_taken_over() {
    for lose_it in [false, true] {
        let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
        acceptor.accepted(HIGHER, 1);
        if lose_it {
            acceptor.lost();
            assert_eq!(acceptor.session().state(), SessionState::Standby);
        }
        let before = acceptor.session().state();
        accepted(acceptor.ident(ident(HIGHER, 2, 0)));
        assert!(acceptor.session().state() != before);
        assert_eq!(acceptor.session().connects(), 2);
    }
}

#[test]
fn row_9_of_two_connections_that_cross_the_lower_addresss_survives() {
    for (host, newcomer_wins) in [(LOWER, true), (HIGHER, false)] {
        let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
        acceptor.opened(host);
        let queued = acceptor.say();
        acceptor.dial();
        let decision = acceptor.ident(ident(host, 1, COOKIE));
        if newcomer_wins {
            accepted(decision);
            assert_eq!(acceptor.events(), [SessionEvent::Connected]);
        } else {
            assert_eq!(decision, wait());
            assert!(matches!(acceptor.session().state(), SessionState::Connecting { .. }));
        }
        assert_eq!(acceptor.session().status(queued), ReceiptStatus::Pending);
    }
}

/// Ours: see row 8 of the reconnections.
#[test]
fn row_9_a_newcomer_loses_only_to_a_connection_that_is_under_way() {
    let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
    acceptor.opened(HIGHER);
    assert!(matches!(acceptor.session().state(), SessionState::Pausing { .. }));
    accepted(acceptor.ident(ident(HIGHER, 1, COOKIE)));
}

/// The end that said WAIT owes its connection: it dials again although it has nothing to say.
#[test]
fn row_9_who_says_wait_does_not_stand_by() {
    let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
    acceptor.opened(HIGHER);
    acceptor.dial();
    assert_eq!(acceptor.ident(ident(HIGHER, 1, COOKIE)), wait());
    acceptor.lost();
    assert!(matches!(acceptor.session().state(), SessionState::Pausing { .. }));
}

#[test]
fn features_are_checked_before_anything_is_touched() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    acceptor.accepted(LOWER, 1);
    let before = acceptor.session().state();
    let poor = ClientIdent { features_supported: 0, ..ident(LOWER, 2, COOKIE) };
    let answer = Decision::Reply(IdentMissingFeatures { features: FEATURE_MSG_ADDR2 }.into());
    assert_eq!(acceptor.ident(poor), answer);
    assert_eq!(acceptor.session().state(), before);
}
