//! Peers that fall silent, and an authority that is busy.

use crate::config::{CLIENT, OSD, connection, monitor, with_key};
use crate::rig::{Talk, auth_request};
use outlast_cephx::none;
use outlast_msgr2::connection::{HANDSHAKE_TIMEOUT, KEEPALIVE_GRACE, KEEPALIVE_INTERVAL, State};
use outlast_msgr2::frame::Tag;
use outlast_msgr2::wire::{AuthMethod, AuthReplyMore, AuthRequest, ConnectionMode, Keepalive2Ack, Stamp};
use outlast_msgr2::{Authority, ConnectionError, SessionEvent};
use outlast_session::StreamChannel;
use std::sync::Arc;
use std::time::Duration;

const ALMOST: Duration = HANDSHAKE_TIMEOUT.saturating_sub(Duration::from_millis(1));

fn times_out(mut talk: Talk, state: State) {
    assert_eq!(talk.state(), state);
    assert!(talk.end.connection.poll_timeout().is_some(), "{state} waits without a deadline");
    talk.end.wait(ALMOST);
    assert_eq!(talk.end.error, None, "{state}");
    talk.end.wait(Duration::from_millis(2));
    talk.fails_with(&ConnectionError::HandshakeTimeout { state });
    assert_eq!(talk.end.connection.poll_timeout(), None);
}

#[test]
fn every_state_that_waits_ends_by_its_deadline() {
    for state in [
        State::BannerAccepting,
        State::HelloAccepting,
        State::AuthAccepting,
        State::AuthAcceptingSign,
        State::CompressionAccepting,
        State::SessionAccepting,
    ] {
        let mut talk = Talk::accepting();
        talk.until(state);
        times_out(talk, state);
    }
    let mut talk = Talk::accepting_with(connection(OSD), monitor());
    talk.until(State::AuthAccepting);
    talk.say(AuthRequest {
        method: AuthMethod::CEPHX,
        preferred_modes: vec![ConnectionMode::CRC],
        payload: none::monitor_request(&crate::config::name(), 0),
    });
    times_out(talk, State::AuthAcceptingMore);
    for state in [
        State::BannerConnecting,
        State::HelloConnecting,
        State::AuthConnecting,
        State::AuthConnectingSign,
        State::CompressionConnecting,
        State::SessionConnecting,
    ] {
        let mut talk = Talk::dialling();
        talk.until(state);
        times_out(talk, state);
    }
    let mut talk = Talk::dialling();
    talk.until(State::Ready);
    talk.dial_again();
    talk.until(State::SessionReconnecting);
    times_out(talk, State::SessionReconnecting);
    let mut talk = Talk::dialling_with(connection(CLIENT), with_key());
    talk.until(State::AuthConnecting);
    let challenge =
        crate::config::MonitorPart::challenge(&none::monitor_request(&crate::config::name(), 0)).1;
    talk.say(AuthReplyMore { payload: challenge });
    times_out(talk, State::AuthConnecting);
}

/// A byte now and then does not buy more time.
#[test]
fn a_slow_handshake_has_the_same_deadline() {
    let mut talk = Talk::accepting();
    talk.banner();
    let hello = talk.script.frame(&crate::rig::hello(CLIENT).into());
    for byte in hello.iter().take(11) {
        talk.end.wait(Duration::from_secs(1));
        talk.end.feed(&[*byte]);
    }
    talk.fails_with(&ConnectionError::HandshakeTimeout { state: State::HelloAccepting });
}

#[test]
fn a_peer_that_falls_silent_is_asked_and_then_given_up() {
    for mut talk in [Talk::accepting(), Talk::dialling()] {
        talk.until(State::Ready);
        talk.controls();
        talk.end.wait(KEEPALIVE_INTERVAL);
        let asked = talk.controls();
        assert_eq!(
            asked.iter().map(outlast_msgr2::wire::Control::tag).collect::<Vec<_>>(),
            [Tag::Keepalive2]
        );
        talk.end.wait(KEEPALIVE_GRACE - Duration::from_millis(1));
        assert_eq!(talk.end.error, None);
        talk.end.wait(Duration::from_millis(2));
        talk.fails_with(&ConnectionError::Silent);
        assert!(matches!(talk.end.events.last(), Some(SessionEvent::Interrupted { .. })));
    }
}

#[test]
fn an_answer_keeps_the_connection_and_tells_the_round_trip() {
    let mut talk = Talk::accepting();
    talk.until(State::Ready);
    talk.controls();
    for _ in 0..20 {
        talk.end.wait(KEEPALIVE_INTERVAL);
        let outlast_msgr2::wire::Control::Keepalive2(asked) = talk.last() else { panic!("a question") };
        talk.end.wait(Duration::from_millis(3));
        talk.say(Keepalive2Ack { stamp: asked.stamp });
        assert_eq!(talk.end.connection.round_trip(), Some(Duration::from_millis(3)));
    }
    assert_eq!(talk.end.error, None);
    // A stamp from the future, or nonsense, is no more than a wrong measurement.
    talk.say(Keepalive2Ack { stamp: Stamp { seconds: u32::MAX, nanoseconds: u32::MAX } });
    assert_eq!(talk.end.error, None);
    assert_eq!(talk.end.connection.round_trip(), Some(Duration::ZERO));
}

// ---------------------------------------------------------------------- EBUSY

#[test]
fn a_busy_authority_keeps_the_request_until_it_is_tried_again() {
    let mut talk = Talk::accepting_with(connection(OSD), Authority::Busy);
    talk.until(State::AuthAccepting);
    talk.say(auth_request());
    assert_eq!(talk.state(), State::AuthStandby);
    let now = talk.end.now;
    talk.end.connection.retry_authentication(Arc::new(Authority::Busy), now).unwrap();
    assert_eq!(talk.state(), State::AuthStandby);
    talk.end.wait(Duration::from_secs(5));
    let now = talk.end.now;
    talk.end.connection.retry_authentication(Arc::new(Authority::None), now).unwrap();
    talk.end.drain();
    assert_eq!(talk.state(), State::AuthAcceptingSign);
    talk.until(State::Ready);
    // In any other state it does nothing.
    talk.end.connection.retry_authentication(Arc::new(Authority::Busy), now).unwrap();
    assert_eq!(talk.state(), State::Ready);
}

#[test]
fn a_busy_authority_may_turn_out_to_refuse() {
    let mut talk = Talk::accepting_with(connection(OSD), Authority::Busy);
    talk.until(State::AuthAccepting);
    talk.say(auth_request());
    let now = talk.end.now;
    talk.end.connection.retry_authentication(Arc::new(monitor()), now).unwrap();
    talk.end.drain();
    assert_eq!(talk.state(), State::AuthAccepting);
    assert_eq!(talk.last().tag(), Tag::AuthBadMethod);
}

#[test]
fn an_authority_that_stays_busy_is_not_waited_for_longer_than_the_handshake_may_take() {
    let mut talk = Talk::accepting_with(connection(OSD), Authority::Busy);
    talk.until(State::AuthAccepting);
    talk.say(auth_request());
    times_out(talk, State::AuthStandby);
}

/// Whoever goes on talking while the authority is busy fills a buffer of a few KiB and no more.
#[test]
fn a_stranger_that_talks_on_while_the_authority_is_busy_is_not_read() {
    let mut talk = Talk::accepting_with(connection(OSD), Authority::Busy);
    talk.until(State::AuthAccepting);
    talk.say(auth_request());
    let taken = talk.end.feed(&[0; 1 << 20]);
    assert!(taken <= 16 << 10, "{taken} bytes");
    assert_eq!(talk.end.error, None);
}
