//! What somebody costs who dials us, proves nothing and sends as much as it may. `SECURITY.md` gives the numbers.

use bytes::Bytes;
use outlast_cephx::{EntityName, EntityType};
use outlast_fuzz::meter;
use outlast_msgr2::connection::State;
use outlast_msgr2::endpoint::SESSIONS_PER_NAME_MAX;
use outlast_msgr2::frame::{FrameEncoder, Limits, OutBuf, Revision};
use outlast_msgr2::wire::{
    AddrVec, AuthMethod, AuthRequest, Banner, ConnectionMode, EntityAddr, FEATURE_REVISION_1, Hello,
};
use outlast_msgr2::{
    Authority, Connection, ConnectionConfig, ConnectionError, Endpoint, EndpointConfig, Policy, SessionConfig,
};
use outlast_session::{Instant, StreamChannel};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

const NOW: Instant = Instant::from_nanos(1);

fn accepted(authority: Authority) -> Box<Connection> {
    let config = EndpointConfig {
        name: EntityName::new(EntityType::Osd, "1"),
        addresses: AddrVec::default(),
        nonce: 1,
        connection: Arc::new(ConnectionConfig::new(4)),
        accepted: BTreeMap::new(),
        accepted_default: SessionConfig::new(Policy::STATEFUL_SERVER),
        sessions_per_name_max: SESSIONS_PER_NAME_MAX,
    };
    Box::new(Endpoint::new(config, [1; 32]).accept(EntityAddr::BLANK, Arc::new(authority), NOW))
}

/// All that a stranger has to say: the longest requests of a method that is refused, one after the other.
fn words() -> Vec<u8> {
    let mut encoder = FrameEncoder::new();
    encoder.set_revision(Revision::V1);
    let mut out = OutBuf::new();
    out.push_raw(&Banner { supported: FEATURE_REVISION_1, required: 0 }.encode());
    encoder.encode_payload(&Hello { entity_type: 8, peer_address: EntityAddr::BLANK }, &mut out).unwrap();
    let max = Limits::ACCEPTING.control_bytes_max as usize;
    for _ in 0..4 {
        let payload = Bytes::from(vec![0; max - 16]);
        let preferred_modes = vec![ConnectionMode::CRC];
        let request = AuthRequest { method: AuthMethod::CEPHX, preferred_modes, payload };
        encoder.encode_payload(&request, &mut out).unwrap();
    }
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = out.slices(&mut slices);
        let before = bytes.len();
        slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
        out.advance(bytes.len() - before);
    }
    bytes
}

/// Says it all byte by byte and reads no answer. What is held at most between two bytes, what for a moment at most,
/// and what became of the connection.
fn cost(authority: Authority, words: &[u8]) -> (usize, usize, State, Option<ConnectionError>) {
    let mut end = (State::Closed, None);
    let mut held_max = 0;
    let before = meter::live();
    let peak = meter::peak_of(|| {
        let mut connection = accepted(authority);
        for byte in words {
            let room = connection.poll_read();
            let Some(first) = room.first_mut() else { break };
            *first = *byte;
            if let Err(error) = connection.handle_read(1, NOW) {
                end.1 = Some(error);
                break;
            }
            let mut slices = [IoSlice::new(&[]); 16];
            let _unread = connection.poll_write(&mut slices);
            held_max = held_max.max(meter::live() - before);
        }
        end.0 = connection.state();
    });
    (usize::try_from(held_max).unwrap(), peak, end.0, end.1)
}

#[test]
fn a_stranger_that_sends_all_it_may_costs_less_than_40_kib() {
    let words = words();
    let (held, peak, state, error) = cost(Authority::None, &words);
    println!("refused again and again: {held} bytes held, {peak} for a moment");
    assert_eq!((state, error), (State::Closed, Some(ConnectionError::HandshakeTooLong { limit: 20 << 10 })));
    assert!(held < 32 << 10 && peak < 40 << 10, "{held}, {peak}");

    // Whoever cannot be answered yet is not read from, either.
    let (held, peak, state, error) = cost(Authority::Busy, &words);
    println!("kept waiting: {held} bytes held, {peak} for a moment");
    assert_eq!((state, error), (State::AuthStandby, None));
    assert!(held < 32 << 10 && peak < 40 << 10, "{held}, {peak}");
}
