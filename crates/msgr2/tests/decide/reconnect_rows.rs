//! SESSION_RECONNECT: the nine rows.

use super::*;

#[test]
fn row_1_an_unknown_session_is_reset_in_full() {
    for policy in [Policy::STATEFUL_SERVER, Policy::LOSSLESS_PEER, Policy::STATELESS_SERVER] {
        let mut acceptor = Acceptor::by_address(policy);
        assert_eq!(acceptor.reconnect(reconnect(LOWER, 1, 1, 1)), reset(true));
        assert!(acceptor.session.is_none());
    }
}

#[test]
fn row_1_a_session_of_other_addresses_is_unknown() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let cookie = acceptor.accepted(LOWER, 1);
    assert_eq!(acceptor.reconnect(reconnect(HIGHER, cookie, 2, 1)), reset(true));
    assert!(matches!(acceptor.session().state(), SessionState::Ready { .. }));
}

#[test]
fn row_2_a_closed_session_is_reset_in_full() {
    let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
    let cookie = acceptor.accepted(LOWER, 1);
    acceptor.session().abort();
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)), reset(true));
}

/// Ceph answers RETRY_GLOBAL while one connection replaces another. Here the first decision is carried out before
/// the second is taken, so the second meets its result.
#[test]
fn row_3_nothing_is_found_in_the_middle_of_being_replaced() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let cookie = acceptor.accepted(LOWER, 1);
    resumed(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)));
    let first = acceptor.session().state();
    resumed(acceptor.reconnect(reconnect(LOWER, cookie, 3, 2)));
    assert!(acceptor.session().state() != first);
    assert!(matches!(acceptor.session().state(), SessionState::Ready { .. }));
}

#[test]
fn row_4_another_client_cookie_resets_as_the_policy_says() {
    for (policy, full) in
        [(Policy::STATEFUL_SERVER, true), (Policy::LOSSLESS_PEER_REUSE, true), (Policy::LOSSLESS_PEER, false)]
    {
        let mut acceptor = Acceptor::by_address(policy);
        let cookie = acceptor.accepted(LOWER, 1);
        let other = SessionReconnect { client_cookie: COOKIE + 1, ..reconnect(LOWER, cookie, 2, 1) };
        assert_eq!(acceptor.reconnect(other), reset(full));
        // The answer changes nothing yet.
        assert!(matches!(acceptor.session().state(), SessionState::Ready { .. }));
    }
}

#[test]
fn row_5_a_session_that_was_never_established_here_is_reset_in_part() {
    let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
    acceptor.opened(LOWER);
    let claimed = SessionReconnect { client_cookie: 0, ..reconnect(LOWER, 88, 1, 1) };
    assert_eq!(acceptor.reconnect(claimed), reset(false));
}

#[test]
fn row_6_a_global_seq_that_is_behind_is_told_the_one_that_is_known() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let cookie = acceptor.accepted(LOWER, 9);
    let answer = Decision::Reply(SessionRetryGlobal { global_seq: 9 }.into());
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 8, 1)), answer);
    // An equal one is not behind.
    resumed(acceptor.reconnect(reconnect(LOWER, cookie, 9, 1)));
}

#[test]
fn row_7_a_connect_seq_that_is_behind_is_told_the_one_that_is_known() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let cookie = acceptor.accepted(LOWER, 1);
    resumed(acceptor.reconnect(reconnect(LOWER, cookie, 2, 5)));
    let answer = Decision::Reply(SessionRetry { connect_seq: 5 }.into());
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 3, 4)), answer);
    resumed(acceptor.reconnect(reconnect(LOWER, cookie, 3, 6)));
}

/// Both ends reconnect with the same number: of two connections that cross, the lower address's survives.
#[test]
fn row_8_of_equal_connect_seqs_the_lower_address_wins() {
    for (host, newcomer_wins) in [(LOWER, true), (HIGHER, false)] {
        let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
        let cookie = acceptor.accepted(host, 1);
        acceptor.say();
        acceptor.lost();
        acceptor.dial();
        let decision = acceptor.reconnect(reconnect(host, cookie, 2, 0));
        if newcomer_wins {
            resumed(decision);
        } else {
            assert_eq!(decision, wait());
            assert!(matches!(acceptor.session().state(), SessionState::Connecting { .. }));
        }
    }
}

/// Ours: a connection that this end only means to open may never come through (Ceph PR 27359).
#[test]
fn row_8_a_newcomer_loses_only_to_a_connection_that_is_under_way() {
    let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
    let cookie = acceptor.accepted(HIGHER, 1);
    acceptor.say();
    acceptor.lost();
    assert!(matches!(acceptor.session().state(), SessionState::Pausing { .. }));
    resumed(acceptor.reconnect(reconnect(HIGHER, cookie, 2, 0)));
}

#[test]
fn row_8_a_server_never_waits_for_itself() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let cookie = acceptor.accepted(HIGHER, 1);
    acceptor.lost();
    assert_eq!(acceptor.session().state(), SessionState::Standby);
    resumed(acceptor.reconnect(reconnect(HIGHER, cookie, 2, 0)));
}

/// Ours: with a live session of the same number, the newcomer was sent before that one came through.
#[test]
fn row_8_an_equal_connect_seq_does_not_take_a_ready_session_from_a_peer_but_may_come_again() {
    for host in [LOWER, HIGHER] {
        let mut acceptor = Acceptor::by_address(Policy::LOSSLESS_PEER);
        let cookie = acceptor.accepted(host, 1);
        let before = acceptor.session().state();
        let answer = Decision::Reply(SessionRetry { connect_seq: 0 }.into());
        assert_eq!(acceptor.reconnect(reconnect(host, cookie, 2, 0)), answer);
        assert_eq!(acceptor.session().state(), before);
        resumed(acceptor.reconnect(reconnect(host, cookie, 2, 1)));
    }
}

#[test]
fn row_9_the_session_goes_on_and_its_numbers_are_kept() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let cookie = acceptor.accepted(LOWER, 1);
    let kept = acceptor.say();
    acceptor.lost();
    assert_eq!(resumed(acceptor.reconnect(reconnect(LOWER, cookie, 7, 3))), 0);
    assert!(matches!(acceptor.events()[..], [SessionEvent::Resumed { replayed: 0, .. }]));
    assert_eq!(acceptor.session().status(kept), ReceiptStatus::Pending);
    // Both numbers are what the next one is measured against.
    let answer = Decision::Reply(SessionRetryGlobal { global_seq: 7 }.into());
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 6, 4)), answer);
    let answer = Decision::Reply(SessionRetry { connect_seq: 3 }.into());
    assert_eq!(acceptor.reconnect(reconnect(LOWER, cookie, 7, 2)), answer);
}

/// Ceph never compares the server's cookie.
#[test]
fn row_9_by_address_the_server_cookie_is_not_compared() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let cookie = acceptor.accepted(LOWER, 1);
    acceptor.lost();
    resumed(acceptor.reconnect(reconnect(LOWER, cookie ^ 1, 2, 1)));
}

#[test]
fn row_9_a_msg_seq_beyond_what_was_sent_is_refused() {
    let mut acceptor = Acceptor::by_address(Policy::STATEFUL_SERVER);
    let cookie = acceptor.accepted(LOWER, 1);
    let kept = acceptor.say();
    acceptor.lost();
    for msg_seq in [1, u64::MAX] {
        let claims = SessionReconnect { msg_seq, ..reconnect(LOWER, cookie, 2, 1) };
        let decision = acceptor.reconnect(claims);
        assert!(
            matches!(decision, Decision::Refuse(ConnectionError::Ack(AckError::BeyondSent { .. }))),
            "{decision:?}"
        );
    }
    assert_eq!(acceptor.session().status(kept), ReceiptStatus::Pending);
    assert_eq!(acceptor.session().state(), SessionState::Standby);
    resumed(acceptor.reconnect(reconnect(LOWER, cookie, 2, 1)));
}
