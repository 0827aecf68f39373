//! What somebody may cost who has no session.

use bytes::Bytes;
use outlast_cephx::{EntityName, EntityType, none};
use outlast_msgr2::connection::State;
use outlast_msgr2::endpoint::{Answer, SESSIONS_PER_NAME_MAX};
use outlast_msgr2::frame::{FrameEncoder, FrameError, OutBuf, Revision, Tag};
use outlast_msgr2::wire::{
    AddrVec, AuthMethod, AuthRequest, AuthSignature, Banner, ClientIdent, ConnectionMode, EntityAddr,
    FEATURE_REVISION_1, Hello, MessageHeader, ServerIdent, Wait,
};
use outlast_msgr2::{
    Authority, Connection, ConnectionConfig, ConnectionError, Decision, Endpoint, EndpointConfig, Policy,
    SessionConfig, SessionId,
};
use outlast_session::{Instant, StreamChannel};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

const NOW: Instant = Instant::from_nanos(1);

fn accepted() -> Connection {
    let config = EndpointConfig {
        name: EntityName::new(EntityType::Osd, "1"),
        addresses: AddrVec::default(),
        nonce: 1,
        connection: Arc::new(ConnectionConfig::new(4)),
        accepted: BTreeMap::new(),
        accepted_default: SessionConfig::new(Policy::STATEFUL_SERVER),
        sessions_per_name_max: SESSIONS_PER_NAME_MAX,
    };
    Endpoint::new(config, [1; 32]).accept(EntityAddr::BLANK, Arc::new(Authority::None), NOW)
}

/// Hands in up to `len` bytes of what waits to be written; its answer to the last of them.
fn say(connection: &mut Connection, out: &mut OutBuf, len: usize) -> Result<(), ConnectionError> {
    let mut slices = [IoSlice::new(&[]); 64];
    let filled = out.slices(&mut slices);
    let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(len).collect();
    out.advance(bytes.len());
    let mut left = &bytes[..];
    while !left.is_empty() {
        let room = connection.poll_read();
        let len = room.len().min(left.len());
        assert!(len > 0, "it reads");
        room[..len].copy_from_slice(&left[..len]);
        left = &left[len..];
        connection.handle_read(len, NOW)?;
    }
    Ok(())
}

/// A dialler that has exchanged banners and said HELLO, and what it encodes with.
fn greeted() -> (Connection, FrameEncoder, OutBuf) {
    let mut connection = accepted();
    let mut encoder = FrameEncoder::new();
    encoder.set_revision(Revision::V1);
    let mut out = OutBuf::new();
    out.push_raw(&Banner { supported: FEATURE_REVISION_1, required: 0 }.encode());
    encoder
        .encode_payload(&Hello { entity_type: 8, peer_address: EntityAddr::BLANK }, &mut out)
        .expect("it can be said");
    say(&mut connection, &mut out, usize::MAX).expect("a good beginning");
    assert_eq!(connection.state(), State::AuthAccepting);
    (connection, encoder, out)
}

/// A request of a method that is not allowed here, whose frame has a payload of so many bytes.
fn refused_request(len: usize) -> AuthRequest {
    let payload = Bytes::from(vec![0; len - 16]);
    AuthRequest { method: AuthMethod::CEPHX, preferred_modes: vec![ConnectionMode::CRC], payload }
}

/// All that the method none asks for.
fn authenticate(encoder: &mut FrameEncoder, out: &mut OutBuf) {
    let payload = none::service_request(&EntityName::new(EntityType::Client, "a"), 0);
    let request =
        AuthRequest { method: AuthMethod::NONE, preferred_modes: vec![ConnectionMode::CRC], payload };
    encoder.encode_payload(&request, out).expect("short");
    encoder.encode_payload(&AuthSignature { digest: [0; 32] }, out).expect("short");
}

#[test]
fn a_stranger_may_announce_no_control_frame_beyond_8_kib() {
    let (mut connection, mut encoder, mut out) = greeted();
    encoder.encode_payload(&refused_request(8192), &mut out).unwrap();
    say(&mut connection, &mut out, usize::MAX).unwrap();
    assert_eq!(connection.state(), State::AuthAccepting);
    encoder.encode_payload(&refused_request(8193), &mut out).unwrap();
    let error = say(&mut connection, &mut out, 32).unwrap_err();
    let expected = FrameError::SegmentTooLong { tag: Tag::AuthRequest, segment: 0, len: 8193, limit: 8192 };
    assert_eq!(error, ConnectionError::Frame(expected));
}

#[test]
fn a_stranger_that_says_more_than_the_transcript_keeps_is_sent_away_at_once() {
    let (mut connection, mut encoder, mut out) = greeted();
    for _ in 0..2 {
        encoder.encode_payload(&refused_request(8192), &mut out).unwrap();
        say(&mut connection, &mut out, usize::MAX).unwrap();
        assert_eq!(connection.state(), State::AuthAccepting);
    }
    encoder.encode_payload(&refused_request(8192), &mut out).unwrap();
    let error = say(&mut connection, &mut out, usize::MAX).unwrap_err();
    assert_eq!(error, ConnectionError::HandshakeTooLong { limit: 20 << 10 });
}

#[test]
fn a_decision_that_comes_after_the_handshakes_time_revives_nothing_and_names_the_session_that_is_without() {
    let (mut connection, mut encoder, mut out) = greeted();
    authenticate(&mut encoder, &mut out);
    let addresses = AddrVec::from("v2:10.0.0.1:6800/7".parse::<EntityAddr>().unwrap());
    let ident = ClientIdent {
        addresses: addresses.clone(),
        target: EntityAddr::BLANK,
        global_id: -1,
        global_seq: 1,
        features_supported: u64::MAX,
        features_required: 0,
        flags: 0,
        cookie: 7,
    };
    encoder.encode_payload(&ident, &mut out).unwrap();
    say(&mut connection, &mut out, usize::MAX).unwrap();
    assert_eq!(connection.state(), State::SessionDeciding);
    let late = connection.poll_timeout().unwrap();
    let error = ConnectionError::HandshakeTimeout { state: State::SessionDeciding };
    assert_eq!(connection.handle_timeout(late), Err(error));

    // Whoever weighs it must not find it any more; whoever did before, has a session whose connection is lost.
    assert_eq!(connection.poll_request(), None);
    let answer = ServerIdent {
        addresses,
        global_id: 1,
        global_seq: 1,
        features_supported: 0,
        features_required: 0,
        flags: 0,
        cookie: 8,
    };
    let accept = Decision::Accept { session: SessionId(9), answer: Answer::Ident(answer) };
    let error = ConnectionError::Lost { state: State::Closed };
    assert_eq!(connection.handle_decision(accept, late), Err(error.clone()));
    assert_eq!((connection.state(), connection.session()), (State::Closed, Some(SessionId(9))));
    assert_eq!(connection.handle_decision(Decision::Reply(Wait.into()), late), Err(error));
    assert_eq!(connection.state(), State::Closed);
}

#[test]
fn a_message_that_is_announced_before_there_is_a_session_is_refused_by_its_preamble() {
    let (mut connection, mut encoder, mut out) = greeted();
    authenticate(&mut encoder, &mut out);
    say(&mut connection, &mut out, usize::MAX).unwrap();
    assert_eq!(connection.state(), State::SessionAccepting);

    let data = Bytes::from(vec![0; 64 << 20]);
    encoder.encode_message(&MessageHeader::default(), &Bytes::new(), &Bytes::new(), &data, &mut out).unwrap();
    // The preamble alone: nothing is allocated for what it promises, and nobody waits for it.
    let error = say(&mut connection, &mut out, 32).unwrap_err();
    let expected = FrameError::SegmentTooLong { tag: Tag::Message, segment: 3, len: 64 << 20, limit: 0 };
    assert_eq!(error, ConnectionError::Frame(expected));
}
