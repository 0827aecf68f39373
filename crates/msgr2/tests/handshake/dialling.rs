//! The dialling end against an acceptor that breaks the rules.

use crate::accepting::sample;
use crate::config::{
    CLIENT, MonitorPart, OSD, client_address, connection, endpoint, monitor_answer_without_secret, with_key,
    without_key,
};
use crate::rig::{End, Talk, control_tags, hello, server_ident};
use bytes::Bytes;
use outlast_cephx::client::LoginError;
use outlast_msgr2::connection::{AUTH_ROUNDS_MAX, RETRIES_MAX, State};
use outlast_msgr2::frame::Tag;
use outlast_msgr2::wire::{
    AddrVec, AuthBadMethod, AuthDone, AuthMethod, AuthReplyMore, AuthSignature, CompressionDone,
    CompressionMethod, ConnectionMode, Control, EntityAddr, IDENT_FLAG_LOSSY, IdentMissingFeatures,
    ServerIdent, SessionReconnectOk, SessionReset, SessionRetry, SessionRetryGlobal, Wait,
};
use outlast_msgr2::{ConnectionError, EndReason, Message, Policy, SessionConfig, SessionEvent, SessionState};
use outlast_session::{AckError, LossReason, ReceiptStatus};

#[test]
fn every_tag_that_a_state_does_not_know_is_refused() {
    let mut refused = 0;
    for (state, known) in [
        (State::HelloConnecting, vec![Tag::Hello]),
        (State::AuthConnecting, vec![Tag::AuthBadMethod, Tag::AuthReplyMore, Tag::AuthDone]),
        (State::AuthConnectingSign, vec![Tag::AuthSignature]),
        (State::CompressionConnecting, vec![Tag::CompressionDone]),
        (State::SessionConnecting, vec![Tag::ServerIdent, Tag::IdentMissingFeatures, Tag::Wait]),
        (
            State::SessionReconnecting,
            vec![
                Tag::SessionReconnectOk,
                Tag::SessionRetry,
                Tag::SessionRetryGlobal,
                Tag::SessionReset,
                Tag::Wait,
            ],
        ),
        (State::Ready, vec![Tag::Ack, Tag::Keepalive2, Tag::Keepalive2Ack]),
    ] {
        for tag in control_tags().filter(|t| !known.contains(t)) {
            let mut talk = Talk::dialling();
            if state == State::SessionReconnecting {
                talk.until(State::Ready);
                talk.dial_again();
            }
            talk.until(state);
            talk.say(sample(tag));
            talk.fails_with(&ConnectionError::Unexpected { tag, state });
            refused += 1;
        }
    }
    assert_eq!(refused, 7 * 22 - 17);
}

#[test]
fn a_message_before_the_session_is_refused() {
    for state in [
        State::HelloConnecting,
        State::AuthConnecting,
        State::CompressionConnecting,
        State::SessionConnecting,
    ] {
        let mut talk = Talk::dialling();
        talk.until(state);
        talk.message(1, 0, b"");
        talk.fails_with(&ConnectionError::Unexpected { tag: Tag::Message, state });
    }
}

#[test]
fn an_entity_of_another_type_is_not_talked_to() {
    let mut talk = Talk::dialling();
    talk.until(State::HelloConnecting);
    talk.say(hello(CLIENT));
    let error = ConnectionError::WrongType { wanted: OSD, found: CLIENT };
    talk.fails_with(&error);
    // Dialling again would meet the same: the session ends.
    assert_eq!(talk.end.events, [SessionEvent::Ended(EndReason::Refused(error))]);
}

// ---------------------------------------------------------------------- authentication

fn bad(result: i32, methods: &[AuthMethod], modes: &[ConnectionMode]) -> AuthBadMethod {
    AuthBadMethod {
        method: AuthMethod::CEPHX,
        result,
        allowed_methods: methods.to_vec(),
        allowed_modes: modes.to_vec(),
    }
}

#[test]
fn a_refused_list_of_modes_is_tried_again_with_what_both_allow() {
    let mut talk = Talk::dialling_with(connection(CLIENT), with_key());
    talk.until(State::AuthConnecting);
    let Control::AuthRequest(first) = talk.last() else { panic!("a request") };
    assert_eq!(first.preferred_modes, [ConnectionMode::SECURE, ConnectionMode::CRC]);
    talk.say(bad(-95, &[AuthMethod::CEPHX], &[ConnectionMode::CRC]));
    let Control::AuthRequest(second) = talk.last() else { panic!("a request") };
    assert_eq!(second.preferred_modes, [ConnectionMode::CRC]);
    assert_eq!(talk.state(), State::AuthConnecting);
    // The same answer to the same offer is final.
    talk.say(bad(-95, &[AuthMethod::CEPHX], &[ConnectionMode::CRC]));
    talk.fails_with(&ConnectionError::AuthRefused { method: AuthMethod::CEPHX, result: -95 });
}

#[test]
fn a_method_or_a_key_that_is_refused_is_not_tried_again() {
    for (result, methods) in [(-95, [AuthMethod::NONE]), (-13, [AuthMethod::CEPHX])] {
        let mut talk = Talk::dialling_with(connection(CLIENT), with_key());
        talk.until(State::AuthConnecting);
        talk.say(bad(result, &methods, &[ConnectionMode::SECURE, ConnectionMode::CRC]));
        let error = ConnectionError::AuthRefused { method: AuthMethod::CEPHX, result };
        talk.fails_with(&error);
        assert_eq!(talk.end.events, [SessionEvent::Ended(EndReason::Refused(error))]);
    }
}

#[test]
fn an_acceptor_that_keeps_refusing_in_new_ways_is_left() {
    let mut talk = Talk::dialling_with(connection(CLIENT), with_key());
    talk.until(State::AuthConnecting);
    let mut rounds = 0;
    while talk.end.error.is_none() {
        let mode = if rounds % 2 == 0 { ConnectionMode::CRC } else { ConnectionMode::SECURE };
        talk.say(bad(-95, &[AuthMethod::CEPHX], &[mode]));
        rounds += 1;
        assert!(rounds <= AUTH_ROUNDS_MAX + 1, "without end");
    }
    assert_eq!((rounds, AUTH_ROUNDS_MAX), (9, 8));
    talk.fails_with(&ConnectionError::NoCommonMethod);
}

#[test]
fn a_mode_that_was_not_offered_is_refused() {
    let mut config = connection(CLIENT);
    config.modes = vec![ConnectionMode::SECURE];
    for mode in [ConnectionMode::CRC, ConnectionMode::UNKNOWN, ConnectionMode(7)] {
        let mut talk = Talk::dialling_with(config.clone(), with_key());
        talk.until(State::AuthConnecting);
        talk.say(AuthDone { global_id: 1, mode, payload: Bytes::new() });
        talk.fails_with(&ConnectionError::ModeNotOffered(mode));
    }
    // Offered by the configuration, but not without a key.
    let mut talk = Talk::dialling();
    talk.until(State::AuthConnecting);
    talk.say(AuthDone { global_id: 1, mode: ConnectionMode::SECURE, payload: Bytes::new() });
    talk.fails_with(&ConnectionError::ModeNotOffered(ConnectionMode::SECURE));
}

/// An acceptor that agrees on the secure mode and hands over no secret (C++ Ceph asserts).
#[test]
fn a_secure_mode_without_a_secret_is_refused() {
    let mut config = connection(CLIENT);
    config.modes = vec![ConnectionMode::SECURE];
    let mut talk = Talk::dialling_with(config, with_key());
    talk.until(State::AuthConnecting);
    let Control::AuthRequest(request) = talk.last() else { panic!("a request") };
    let (mut part, challenge) = MonitorPart::challenge(&request.payload);
    talk.say(AuthReplyMore { payload: challenge });
    let Control::AuthRequestMore(more) = talk.last() else { panic!("a proof") };
    let payload = monitor_answer_without_secret(&more.payload, &mut part);
    talk.say(AuthDone { global_id: 4123, mode: ConnectionMode::SECURE, payload });
    talk.fails_with(&ConnectionError::Auth(LoginError::SecretLength { len: 0 }));
}

/// Who skips the challenge has proven nothing.
#[test]
fn an_acceptor_that_does_not_know_the_key_is_refused() {
    for mode in [ConnectionMode::CRC, ConnectionMode::SECURE] {
        let mut talk = Talk::dialling_with(connection(CLIENT), with_key());
        talk.until(State::AuthConnecting);
        talk.say(AuthDone { global_id: 1, mode, payload: Bytes::new() });
        talk.fails_with(&ConnectionError::Auth(LoginError::OutOfTurn));
    }
}

#[test]
fn a_wrong_signature_is_refused() {
    let mut talk = Talk::dialling();
    talk.until(State::AuthConnectingSign);
    talk.say(AuthSignature { digest: [1; 32] });
    talk.fails_with(&ConnectionError::Signature);
}

#[test]
fn a_compression_that_was_not_asked_for_is_refused() {
    for method in [CompressionMethod::SNAPPY, CompressionMethod::NONE, CompressionMethod(99)] {
        let mut talk = Talk::dialling();
        talk.until(State::CompressionConnecting);
        let Control::CompressionRequest(request) = talk.last() else { panic!("a request") };
        assert!(!request.wanted && request.preferred_methods.is_empty());
        talk.say(CompressionDone { granted: true, method });
        talk.fails_with(&ConnectionError::CompressionNotOffered);
    }
}

// ---------------------------------------------------------------------- the acceptor's ident

#[test]
fn an_acceptor_that_is_somebody_else_is_refused() {
    let elsewhere = EntityAddr::msgr2(([10, 0, 0, 9], 6800).into(), 22);
    for addresses in [elsewhere.into(), AddrVec::default()] {
        let mut talk = Talk::dialling();
        talk.until(State::SessionConnecting);
        talk.say(ServerIdent { addresses, ..server_ident(1, 88) });
        assert!(matches!(talk.end.error, Some(ConnectionError::WrongPeer { .. })), "{:?}", talk.end.error);
    }
}

#[test]
fn features_are_checked_at_the_acceptors_ident_too() {
    for (ident, missing) in [
        (ServerIdent { features_required: 1 << 40, ..server_ident(1, 88) }, 1 << 40),
        (ServerIdent { features_supported: 0, ..server_ident(1, 88) }, outlast_msgr2::FEATURE_MSG_ADDR2),
    ] {
        let mut talk = Talk::dialling();
        talk.until(State::SessionConnecting);
        talk.say(ident);
        talk.fails_with(&ConnectionError::MissingFeatures { missing });
    }
    let mut talk = Talk::dialling();
    talk.until(State::SessionConnecting);
    talk.say(IdentMissingFeatures { features: 0xf0 });
    talk.fails_with(&ConnectionError::MissingFeatures { missing: 0xf0 });
}

#[test]
fn the_acceptors_lossy_bit_is_adopted() {
    let mut talk = Talk::dialling();
    let now = talk.end.now;
    let id = talk.end.session().send(Message::new(7), now).unwrap();
    talk.until(State::SessionConnecting);
    talk.say(ServerIdent { flags: IDENT_FLAG_LOSSY, cookie: 0, ..server_ident(1, 0) });
    assert_eq!(talk.state(), State::Ready);
    assert!(talk.end.session().policy().lossy);
    assert_eq!(talk.messages().len(), 1);
    assert_eq!(talk.end.session().status(id), ReceiptStatus::NotTracked);
    // Acknowledgements in headers are no fault, though nothing is kept.
    talk.message(1, 1, b"answer");
    assert_eq!((talk.end.error.clone(), talk.end.got.len()), (None, 1));
}

// ---------------------------------------------------------------------- resuming

/// A session that sent `sent` messages, none acknowledged, got two, and is about to reconnect.
fn reconnecting(sent: usize) -> Talk {
    let mut talk = Talk::dialling();
    let now = talk.end.now;
    for _ in 0..sent {
        talk.end.session().send(Message::new(7).front(&b"mine"[..]), now).unwrap();
    }
    talk.until(State::Ready);
    assert_eq!(talk.messages().len(), sent);
    talk.message(1, 0, b"one");
    talk.message(2, 0, b"two");
    talk.dial_again();
    talk.until(State::SessionReconnecting);
    talk
}

#[test]
fn a_resumption_says_what_arrived_and_replays_what_did_not() {
    let mut talk = reconnecting(3);
    let Control::SessionReconnect(reconnect) = talk.last() else { panic!("a reconnect") };
    assert_eq!((reconnect.server_cookie, reconnect.connect_seq, reconnect.msg_seq), (88, 1, 2));
    talk.say(SessionReconnectOk { msg_seq: 1 });
    let seqs: Vec<_> = talk.messages().iter().map(|m| (m.header.seq, m.header.ack_seq)).collect();
    assert_eq!(seqs, [(2, 2), (3, 2)]);
    assert_eq!(talk.end.session().counters().replayed, 2);
}

#[test]
fn an_answer_that_claims_what_was_never_sent_is_refused_and_throws_nothing_away() {
    for msg_seq in [4, 1 << 40, u64::MAX - 1, u64::MAX] {
        let mut talk = reconnecting(3);
        talk.say(SessionReconnectOk { msg_seq });
        let error = talk.end.error.clone();
        assert!(
            matches!(error, Some(ConnectionError::Ack(AckError::BeyondSent { .. }))),
            "{msg_seq}: {error:?}"
        );
        assert_eq!(talk.end.session().outbox().unacked_len(), 3);
        talk.dial_again();
        talk.until(State::SessionReconnecting);
        talk.say(SessionReconnectOk { msg_seq: 3 });
        assert_eq!(talk.state(), State::Ready);
        assert!(talk.end.session().outbox().is_empty());
    }
}

#[test]
fn retries_raise_the_numbers_on_the_same_connection() {
    let mut talk = reconnecting(0);
    let Control::SessionReconnect(first) = talk.last() else { panic!("a reconnect") };
    talk.say(SessionRetry { connect_seq: 9 });
    let Control::SessionReconnect(second) = talk.last() else { panic!("a reconnect") };
    assert_eq!((second.connect_seq, second.global_seq), (10, first.global_seq));
    talk.say(SessionRetryGlobal { global_seq: 1000 });
    let Control::SessionReconnect(third) = talk.last() else { panic!("a reconnect") };
    assert_eq!((third.connect_seq, third.global_seq), (10, 1001));
    talk.say(SessionReconnectOk { msg_seq: 0 });
    assert_eq!(talk.state(), State::Ready);
    // The process has learnt its lesson: the next attempt counts on.
    talk.dial_again();
    talk.until(State::SessionReconnecting);
    let Control::SessionReconnect(next) = talk.last() else { panic!("a reconnect") };
    assert_eq!((next.connect_seq, next.global_seq), (11, 1002));
}

#[test]
fn an_acceptor_that_says_retry_without_end_is_left() {
    for answer in [
        Control::from(SessionRetry { connect_seq: u64::MAX }),
        Control::from(SessionRetryGlobal { global_seq: u64::MAX }),
        Control::from(SessionRetry { connect_seq: 0 }),
    ] {
        let mut talk = reconnecting(1);
        let mut rounds = 0;
        while talk.end.error.is_none() {
            talk.say(answer.clone());
            rounds += 1;
            assert!(rounds <= RETRIES_MAX + 1);
        }
        assert_eq!((rounds, RETRIES_MAX), (17, 16));
        talk.fails_with(&ConnectionError::TooManyRetries { limit: RETRIES_MAX });
        assert_eq!(talk.end.session().outbox().unacked_len(), 1, "the session goes on");
    }
}

#[test]
fn a_full_reset_loses_what_was_queued_and_introduces_itself_anew() {
    let mut talk = reconnecting(3);
    let Control::SessionReconnect(before) = talk.last() else { panic!("a reconnect") };
    talk.say(SessionReset { full: true });
    let Control::ClientIdent(ident) = talk.last() else { panic!("an ident") };
    assert!(ident.cookie != 0 && ident.cookie != before.client_cookie);
    assert_eq!(talk.end.events.last(), Some(&SessionEvent::Reset { lost: 3 }));
    talk.say(server_ident(7, 99));
    assert_eq!(talk.state(), State::Ready);
    let now = talk.end.now;
    talk.end.session().send(Message::new(7), now).unwrap();
    talk.end.drain();
    // Numbers begin anew, in both directions.
    assert_eq!(talk.messages().iter().map(|m| m.header.seq).collect::<Vec<_>>(), [1]);
    talk.message(1, 0, b"again from one");
    assert_eq!(talk.end.got.len(), 3);
}

#[test]
fn a_partial_reset_keeps_what_was_queued_and_its_numbers() {
    let mut talk = reconnecting(3);
    let Control::SessionReconnect(before) = talk.last() else { panic!("a reconnect") };
    talk.say(SessionReset { full: false });
    let Control::ClientIdent(ident) = talk.last() else { panic!("an ident") };
    assert_eq!(ident.cookie, before.client_cookie);
    assert_eq!(talk.end.events.last(), Some(&SessionEvent::Reset { lost: 0 }));
    talk.say(server_ident(7, 99));
    assert_eq!(talk.messages().iter().map(|m| m.header.seq).collect::<Vec<_>>(), [1, 2, 3]);
    // The acceptor counts from anywhere: its first number is taken as it comes.
    talk.message(40, 3, b"forty");
    talk.message(41, 3, b"forty-one");
    assert_eq!(talk.end.got.len(), 4);
    assert_eq!(talk.end.session().counters().gaps, 0);
    assert!(talk.end.session().outbox().is_empty());
}

#[test]
fn wait_ends_the_connection_and_the_session_waits_for_the_longest_pause() {
    for reconnects in [false, true] {
        let mut talk = if reconnects {
            reconnecting(1)
        } else {
            let mut talk = Talk::dialling();
            talk.until(State::SessionConnecting);
            talk
        };
        talk.say(Wait);
        talk.fails_with(&ConnectionError::Wait);
        let until = talk.end.now + std::time::Duration::from_secs(15);
        assert_eq!(talk.end.session().state(), SessionState::Waiting { until });
        let event = talk.end.events.last().expect("an event");
        assert_eq!(*event, SessionEvent::AttemptFailed { cause: ConnectionError::Wait });
    }
}

#[test]
fn lost_receipts_say_why() {
    let mut talk = Talk::dialling();
    let now = talk.end.now;
    let id = talk.end.session().send(Message::new(7), now).unwrap();
    talk.until(State::HelloConnecting);
    talk.say(hello(CLIENT));
    assert_eq!(talk.end.session().status(id), ReceiptStatus::Lost(LossReason::Refused));
}

/// A HELLO proves nothing, and the address stays with the process: its peers find its sessions by it.
#[test]
fn the_address_that_a_peer_sees_is_learnt_once_the_peer_has_proven_itself() {
    let mut config = endpoint("client.a", client_address(), connection(CLIENT), Policy::LOSSLESS_CLIENT);
    config.addresses = outlast_msgr2::wire::AddrVec::default();
    let session = SessionConfig::new(Policy::LOSSLESS_CLIENT);
    let mut talk = Talk::with(End::dialling(config, session, without_key()));
    talk.until(State::AuthConnectingSign);
    assert!(talk.end.endpoint.addresses().is_blank());
    talk.until(State::Ready);
    assert!(!talk.end.endpoint.addresses().is_blank());
}

/// The count is the process's: were it at its end, no session could tell its late attempts from its newest.
#[test]
fn an_acceptor_cannot_use_up_the_numbers_of_the_process() {
    let mut talk = reconnecting(0);
    talk.say(SessionRetryGlobal { global_seq: u64::MAX - 5 });
    let Control::SessionReconnect(again) = talk.last() else { panic!("a reconnect") };
    assert_eq!(again.global_seq, u64::MAX - 4, "it gets its way on this connection");
    talk.say(SessionReconnectOk { msg_seq: 0 });
    talk.dial_again();
    talk.until(State::SessionReconnecting);
    let Control::SessionReconnect(next) = talk.last() else { panic!("a reconnect") };
    assert!(next.global_seq < 10, "{}", next.global_seq);
}
