//! The accepting end against a dialler that breaks the rules.

use crate::config::{OSD, connection, endpoint, server_address};
use crate::rig::{End, Talk, auth_request, client_ident, control_tags, hello};
use bytes::Bytes;
use outlast_msgr2::connection::{AUTH_ROUNDS_MAX, FEATURE_OUTLAST_CLOSE, RETRIES_MAX, State};
use outlast_msgr2::frame::{FrameError, Tag};
use outlast_msgr2::wire::{
    Ack, AddrVec, AuthBadMethod, AuthDone, AuthMethod, AuthReplyMore, AuthRequest, AuthRequestMore,
    AuthSignature, Banner, BannerError, ClientIdent, Close, CompressionDone, CompressionMethod,
    CompressionRequest, ConnectionMode, Control, EntityAddr, FEATURE_COMPRESSION, FEATURE_REVISION_1,
    IdentMissingFeatures, Keepalive2, Keepalive2Ack, SessionReconnect, SessionReconnectOk, SessionReset,
    SessionRetry, SessionRetryGlobal, Stamp, Wait,
};
use outlast_msgr2::{Authority, ConnectionError, FEATURE_MSG_ADDR2, Matching, Policy, SessionEvent};
use outlast_session::AckError;

/// A payload that can be read, for each control frame.
pub(crate) fn sample(tag: Tag) -> Control {
    let stamp = Stamp::default();
    match tag {
        Tag::Hello => hello(OSD).into(),
        Tag::AuthRequest => auth_request().into(),
        Tag::AuthBadMethod => AuthBadMethod {
            method: AuthMethod::NONE,
            result: -95,
            allowed_methods: vec![AuthMethod::CEPHX],
            allowed_modes: vec![ConnectionMode::CRC],
        }
        .into(),
        Tag::AuthReplyMore => AuthReplyMore { payload: Bytes::new() }.into(),
        Tag::AuthRequestMore => AuthRequestMore { payload: Bytes::new() }.into(),
        Tag::AuthDone => AuthDone { global_id: 1, mode: ConnectionMode::CRC, payload: Bytes::new() }.into(),
        Tag::AuthSignature => AuthSignature { digest: [0; 32] }.into(),
        Tag::ClientIdent => client_ident(1, 77).into(),
        Tag::ServerIdent => crate::rig::server_ident(1, 88).into(),
        Tag::IdentMissingFeatures => IdentMissingFeatures { features: 1 }.into(),
        Tag::SessionReconnect => reconnect(77, 88, 1, 1, 0).into(),
        Tag::SessionReset => SessionReset { full: true }.into(),
        Tag::SessionRetry => SessionRetry { connect_seq: 1 }.into(),
        Tag::SessionRetryGlobal => SessionRetryGlobal { global_seq: 1 }.into(),
        Tag::SessionReconnectOk => SessionReconnectOk { msg_seq: 0 }.into(),
        Tag::Wait => Wait.into(),
        Tag::Keepalive2 => Keepalive2 { stamp }.into(),
        Tag::Keepalive2Ack => Keepalive2Ack { stamp }.into(),
        Tag::Ack => Ack { seq: 0 }.into(),
        Tag::CompressionRequest => CompressionRequest { wanted: false, preferred_methods: Vec::new() }.into(),
        Tag::CompressionDone => CompressionDone { granted: false, method: CompressionMethod::NONE }.into(),
        Tag::Close => Close.into(),
        Tag::Message => panic!("no control frame"),
    }
}

fn reconnect(
    client_cookie: u64,
    server_cookie: u64,
    global_seq: u64,
    connect_seq: u64,
    msg_seq: u64,
) -> SessionReconnect {
    let addresses = AddrVec::from(crate::config::client_address());
    SessionReconnect { addresses, client_cookie, server_cookie, global_seq, connect_seq, msg_seq }
}

// ---------------------------------------------------------------------- banners

#[test]
fn a_banner_that_is_none_is_refused_with_its_reason() {
    let long = [b"ceph v2\n".as_slice(), &[0xff, 0xff]].concat();
    let short = [b"ceph v2\n".as_slice(), &[15, 0], &[0; 15]].concat();
    for (bytes, reason) in [
        (b"ceph v027".repeat(3), BannerError::Msgr1),
        (b"SSH-2.0-OpenSSH_10.2".to_vec(), BannerError::NotCeph),
        (vec![0; 64], BannerError::NotCeph),
        (long, BannerError::PayloadTooLong { len: 0xffff }),
        (short, BannerError::PayloadTooShort { len: 15 }),
    ] {
        for mut talk in [Talk::accepting(), Talk::dialling()] {
            talk.raw(&bytes);
            talk.fails_with(&ConnectionError::Banner(reason));
        }
    }
}

#[test]
fn a_banner_longer_than_todays_is_read_to_its_end() {
    let mut talk = Talk::accepting();
    let mut banner = Banner { supported: 3, required: 0 }.encode().to_vec();
    banner[8] += 24;
    banner.extend_from_slice(&[0xee; 24]);
    talk.raw(&banner);
    assert_eq!(talk.state(), State::HelloAccepting);
    talk.until(State::Ready);
}

#[test]
fn required_features_are_checked_in_both_directions() {
    for mut talk in [Talk::accepting(), Talk::dialling()] {
        talk.raw(&Banner { supported: 3, required: 1 << 60 }.encode());
        talk.fails_with(&ConnectionError::PeerRequires { missing: 1 << 60 });
    }
    let mut config = connection(OSD);
    config.msgr2_required = FEATURE_REVISION_1;
    let mut talk = Talk::accepting_with(config, Authority::None);
    talk.raw(&Banner { supported: 2, required: 0 }.encode());
    talk.fails_with(&ConnectionError::PeerLacks { missing: FEATURE_REVISION_1 });
}

// ---------------------------------------------------------------------- what does not belong in a state

#[test]
fn every_tag_that_a_state_does_not_know_is_refused() {
    let mut refused = 0;
    for (state, known) in [
        (State::HelloAccepting, vec![Tag::Hello]),
        (State::AuthAccepting, vec![Tag::AuthRequest]),
        (State::AuthAcceptingSign, vec![Tag::AuthSignature]),
        (State::CompressionAccepting, vec![Tag::CompressionRequest]),
        (State::SessionAccepting, vec![Tag::ClientIdent, Tag::SessionReconnect]),
        (State::Ready, vec![Tag::Ack, Tag::Keepalive2, Tag::Keepalive2Ack]),
    ] {
        for tag in control_tags() {
            let mut talk = Talk::accepting();
            talk.until(state);
            talk.say(sample(tag));
            if known.contains(&tag) {
                assert_eq!(talk.end.error, None, "{tag} in {state}");
            } else {
                talk.fails_with(&ConnectionError::Unexpected { tag, state });
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 6 * 22 - 9);
}

#[test]
fn a_message_before_the_session_is_refused() {
    for state in [
        State::HelloAccepting,
        State::AuthAccepting,
        State::AuthAcceptingSign,
        State::CompressionAccepting,
        State::SessionAccepting,
    ] {
        let mut talk = Talk::accepting();
        talk.until(state);
        talk.message(1, 0, b"");
        talk.fails_with(&ConnectionError::Unexpected { tag: Tag::Message, state });
        assert!(talk.end.sessions.is_empty());
    }
}

/// Before authentication nothing large is even read.
#[test]
fn a_stranger_cannot_make_the_acceptor_keep_much() {
    for state in [State::HelloAccepting, State::AuthAccepting, State::AuthAcceptingSign] {
        let mut talk = Talk::accepting();
        talk.until(state);
        talk.message(1, 0, &[1; 100]);
        let error = talk.end.error.clone();
        assert!(
            matches!(error, Some(ConnectionError::Frame(FrameError::SegmentTooLong { .. }))),
            "{state}: {error:?}"
        );
        let mut talk = Talk::accepting();
        talk.until(state);
        talk.say(AuthRequest { payload: vec![0; 17 * 1024].into(), ..auth_request() });
        let error = talk.end.error.clone();
        assert!(
            matches!(error, Some(ConnectionError::Frame(FrameError::SegmentTooLong { .. }))),
            "{state}: {error:?}"
        );
    }
}

// ---------------------------------------------------------------------- floods

#[test]
fn a_second_hello_is_refused() {
    let mut talk = Talk::accepting();
    talk.until(State::AuthAccepting);
    talk.say(hello(8));
    talk.fails_with(&ConnectionError::Unexpected { tag: Tag::Hello, state: State::AuthAccepting });
}

#[test]
fn rounds_of_authentication_are_bounded() {
    let mut talk = Talk::accepting();
    talk.until(State::AuthAccepting);
    let mut rounds = 0;
    while talk.end.error.is_none() {
        talk.say(AuthRequest { method: AuthMethod::GSS, ..auth_request() });
        rounds += 1;
        assert!(rounds <= AUTH_ROUNDS_MAX + 1);
    }
    assert_eq!((rounds, AUTH_ROUNDS_MAX), (9, 8));
    talk.fails_with(&ConnectionError::NoCommonMethod);
    assert_eq!(
        talk.controls().iter().filter(|c| c.tag() == Tag::AuthBadMethod).count(),
        AUTH_ROUNDS_MAX as usize
    );
}

#[test]
fn a_dialler_that_asks_for_a_session_that_is_not_there_again_and_again_is_refused() {
    let mut talk = Talk::accepting();
    talk.until(State::SessionAccepting);
    let mut rounds = 0;
    while talk.end.error.is_none() {
        talk.say(reconnect(77, 88, 1, 1, 0));
        rounds += 1;
        assert!(rounds <= RETRIES_MAX + 1);
    }
    assert_eq!((rounds, RETRIES_MAX), (17, 16));
    talk.fails_with(&ConnectionError::TooManyRetries { limit: RETRIES_MAX });
    assert!(talk.end.sessions.is_empty());
}

// ---------------------------------------------------------------------- methods and modes

#[test]
fn a_method_that_is_not_allowed_is_answered_with_what_is_and_may_be_tried_again() {
    let mut talk = Talk::accepting_with(connection(OSD), crate::config::monitor());
    talk.until(State::AuthAccepting);
    talk.say(auth_request());
    assert_eq!(
        talk.last(),
        AuthBadMethod {
            method: AuthMethod::NONE,
            result: -95,
            allowed_methods: vec![AuthMethod::CEPHX],
            allowed_modes: vec![ConnectionMode::SECURE, ConnectionMode::CRC],
        }
        .into()
    );
    assert_eq!(talk.state(), State::AuthAccepting);
    // On the same connection.
    let login = outlast_cephx::client::MonitorLogin::new(
        crate::config::name(),
        match crate::config::with_key() {
            outlast_msgr2::Credential::Key { key, .. } => key,
            other => panic!("{other:?}"),
        },
        outlast_cephx::ServiceMask::NONE,
        None,
    )
    .request();
    let mode = vec![ConnectionMode::CRC];
    talk.say(AuthRequest { method: AuthMethod::CEPHX, preferred_modes: mode, payload: login });
    assert_eq!(talk.last().tag(), Tag::AuthReplyMore);
    assert_eq!(talk.state(), State::AuthAcceptingMore);
    // In the middle of a proof only the proof belongs here, or a beginning from anew.
    for tag in control_tags().filter(|t| !matches!(t, Tag::AuthRequest | Tag::AuthRequestMore)) {
        let mut talk = Talk::accepting_with(connection(OSD), crate::config::monitor());
        talk.until(State::AuthAccepting);
        let payload = outlast_cephx::none::monitor_request(&crate::config::name(), 0);
        let preferred_modes = vec![ConnectionMode::CRC];
        talk.say(AuthRequest { method: AuthMethod::CEPHX, preferred_modes, payload });
        assert_eq!(talk.state(), State::AuthAcceptingMore);
        talk.say(sample(tag));
        talk.fails_with(&ConnectionError::Unexpected { tag, state: State::AuthAcceptingMore });
    }
}

#[test]
fn without_authentication_there_is_no_secure_mode() {
    let mut talk = Talk::accepting();
    talk.until(State::AuthAccepting);
    talk.say(AuthRequest { preferred_modes: vec![ConnectionMode::SECURE], ..auth_request() });
    let Control::AuthBadMethod(bad) = talk.last() else { panic!("a refusal") };
    assert_eq!((bad.result, bad.allowed_modes), (-95, vec![ConnectionMode::CRC]));
}

#[test]
fn a_wrong_signature_is_refused() {
    let mut talk = Talk::accepting();
    talk.until(State::AuthAcceptingSign);
    talk.say(AuthSignature { digest: [1; 32] });
    talk.fails_with(&ConnectionError::Signature);
}

// ---------------------------------------------------------------------- idents

#[test]
fn idents_that_cannot_be_are_refused() {
    let elsewhere: EntityAddr = EntityAddr::msgr2(([10, 0, 0, 9], 6800).into(), 22);
    let other_nonce = EntityAddr { nonce: 23, ..crate::config::server_address() };
    let ident = || client_ident(1, 77);
    let wrong = |a: EntityAddr| ConnectionError::WrongTarget { wanted: a.to_string() };
    for (ident, error) in [
        (ClientIdent { target: elsewhere, ..ident() }, wrong(elsewhere)),
        (ClientIdent { target: other_nonce, ..ident() }, wrong(other_nonce)),
        (ClientIdent { addresses: AddrVec::default(), ..ident() }, ConnectionError::BlankAddress),
        (ClientIdent { addresses: EntityAddr::BLANK.into(), ..ident() }, ConnectionError::BlankAddress),
    ] {
        let mut talk = Talk::accepting();
        talk.until(State::SessionAccepting);
        talk.say(ident);
        talk.fails_with(&error);
        assert!(talk.end.sessions.is_empty());
    }
}

#[test]
fn an_ident_without_required_features_may_be_mended_on_the_same_connection() {
    let mut talk = Talk::accepting();
    talk.until(State::SessionAccepting);
    talk.say(ClientIdent { features_supported: 1, ..client_ident(1, 77) });
    assert_eq!(talk.last(), IdentMissingFeatures { features: FEATURE_MSG_ADDR2 }.into());
    assert!(talk.end.sessions.is_empty());
    talk.say(client_ident(2, 77));
    assert_eq!(talk.state(), State::Ready);
    assert_eq!(talk.last().tag(), Tag::ServerIdent);
}

// ---------------------------------------------------------------------- resuming

/// A session whose client had cookie 77 and whose server sent one message and got two; its connection is lost.
fn lost_session() -> (Talk, u64) {
    let mut talk = Talk::accepting();
    talk.until(State::Ready);
    let server_cookie = talk
        .controls()
        .into_iter()
        .find_map(|control| match control {
            Control::ServerIdent(ident) => Some(ident.cookie),
            _ => None,
        })
        .expect("an ident");
    talk.message(1, 0, b"one");
    talk.message(2, 0, b"two");
    let now = talk.end.now;
    talk.end.session().send(outlast_msgr2::Message::new(7).front(&b"mine"[..]), now).unwrap();
    talk.end.drain();
    talk.accept_again();
    talk.until(State::SessionAccepting);
    talk.controls();
    (talk, server_cookie)
}

#[test]
fn a_resumption_says_what_arrived_and_replays_what_did_not() {
    let (mut talk, server_cookie) = lost_session();
    talk.say(reconnect(77, server_cookie, 2, 1, 0));
    let heard = talk.heard();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(talk.state(), State::Ready);
    assert!(matches!(
        talk.end.events[..],
        [
            SessionEvent::Connected,
            SessionEvent::Interrupted { .. },
            SessionEvent::Resumed { replayed: 1, .. }
        ]
    ));
    assert_eq!(talk.end.got.len(), 2);
}

#[test]
fn a_resumption_that_claims_what_was_never_sent_is_refused_and_throws_nothing_away() {
    for msg_seq in [2, 3, 1 << 32, u64::MAX - 1, u64::MAX] {
        let (mut talk, server_cookie) = lost_session();
        talk.say(reconnect(77, server_cookie, 2, 1, msg_seq));
        let error = talk.end.error.clone();
        assert!(
            matches!(error, Some(ConnectionError::Ack(AckError::BeyondSent { .. }))),
            "{msg_seq}: {error:?}"
        );
        assert_eq!(talk.end.session().outbox().unacked_len(), 1);
        // The right one still gets through.
        talk.accept_again();
        talk.until(State::SessionAccepting);
        talk.say(reconnect(77, server_cookie, 3, 2, 1));
        assert_eq!(talk.state(), State::Ready);
        assert!(talk.end.session().outbox().is_empty());
    }
}

#[test]
fn the_greatest_numbers_are_taken_without_harm() {
    let max = u64::MAX;
    // An ident, and every later one is stale: the counters are the peer's own, it harms nobody else.
    let mut talk = Talk::accepting();
    talk.until(State::SessionAccepting);
    talk.say(ClientIdent {
        global_id: -1,
        global_seq: max,
        features_supported: max,
        features_required: max,
        flags: max,
        cookie: max,
        ..client_ident(1, 1)
    });
    assert_eq!(talk.state(), State::Ready);
    talk.message(max, 0, b"the last number there is");
    assert_eq!(talk.end.error, None);
    assert_eq!(talk.end.got.len(), 1);
    // What follows has nothing left to be numbered with: it is old.
    talk.message(1, 0, b"old");
    assert_eq!((talk.end.error.clone(), talk.end.got.len()), (None, 1));

    let (mut talk, server_cookie) = lost_session();
    talk.say(reconnect(77, server_cookie, max, max, 1));
    assert_eq!(talk.state(), State::Ready);
    talk.accept_again();
    talk.until(State::SessionAccepting);
    talk.say(reconnect(77, server_cookie, 5, max, 1));
    assert_eq!(talk.last(), SessionRetryGlobal { global_seq: max }.into());
    talk.say(reconnect(77, server_cookie, max, 5, 1));
    assert_eq!(talk.last(), SessionRetry { connect_seq: max }.into());
    talk.say(reconnect(77, server_cookie, max, max, 1));
    assert_eq!(talk.state(), State::Ready);
}

// ---------------------------------------------------------------------- sessions that this end has closed

/// Between our own ends, over a connection whose peer understands CLOSE and one whose peer does not.
#[test]
fn who_comes_back_for_a_closed_session_hears_the_end_of_it_or_at_least_a_reset() {
    for understands in [true, false] {
        let mut connection = connection(OSD);
        connection.msgr2_supported |= FEATURE_OUTLAST_CLOSE;
        let mut config = endpoint("osd.2", server_address(), connection, Policy::STATEFUL_SERVER);
        config.accepted_default.matching = Matching::Identity;
        let mut talk = Talk::with(End::accepting(config, Authority::None));
        talk.until(State::Ready);
        let Control::ServerIdent(ident) = talk.last() else { panic!("no session") };
        talk.message(1, 0, b"arrived");
        talk.end.session().abort();
        talk.end.drain();
        talk.fails_with(&ConnectionError::SessionEnded);

        talk.accept_again();
        let close = if understands { FEATURE_OUTLAST_CLOSE } else { 0 };
        let supported = FEATURE_REVISION_1 | FEATURE_COMPRESSION | close;
        talk.raw(&Banner { supported, required: 0 }.encode());
        talk.until(State::SessionAccepting);
        talk.say(reconnect(77, ident.cookie, 2, 1, 0));
        let said = talk.controls();
        if understands {
            let [.., ok, end] = &said[..] else { panic!("{said:?}") };
            assert_eq!([ok, end], [&SessionReconnectOk { msg_seq: 1 }.into(), &Close.into()]);
            assert_eq!(talk.end.error, Some(ConnectionError::SessionEnded));
        } else {
            assert_eq!(said.last(), Some(&SessionReset { full: true }.into()));
            assert_eq!((talk.state(), &talk.end.error), (State::SessionAccepting, &None));
        }
    }
}
