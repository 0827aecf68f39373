//! Two production connections, and what is between them.

use crate::both::{Pair, arrives_whole, messages};
use crate::config::{CLIENT, OSD, connection, monitor, with_key, without_key};
use crate::rig::End;
use bytes::{Bytes, BytesMut};
use outlast_msgr2::compress::Algorithm;
use outlast_msgr2::connection::{FEATURE_OUTLAST_CLOSE, OUT_BYTES_MAX, State};
use outlast_msgr2::frame::{FrameEncoder, OutBuf, Revision, Tag};
use outlast_msgr2::wire::{
    AuthMethod, ConnectionMode, Control, FEATURE_COMPRESSION, FEATURE_REVISION_1, MessageHeader,
};
use outlast_msgr2::{
    Authority, Buffers, CompressionConfig, ConnectionConfig, ConnectionError, Credential, EndReason, Message,
    SessionEvent,
};
use outlast_session::ReceiptStatus;
use std::io::IoSlice;
use std::sync::{Arc, Mutex};

// ---------------------------------------------------------------------- somebody in the middle

/// The lowest byte of the supported features in the banner.
const FEATURES_AT: u64 = 10;

fn clear_in_banners(bit: u8) -> Box<dyn FnMut(bool, u64, Vec<u8>) -> Vec<u8>> {
    Box::new(move |_, passed, mut bytes| {
        let at = FEATURES_AT.checked_sub(passed).and_then(|at| usize::try_from(at).ok());
        if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
            *byte &= !bit;
        }
        bytes
    })
}

#[test]
fn features_cleared_in_both_banners_are_caught_by_the_signature() {
    for (bit, modes) in [
        (FEATURE_REVISION_1, vec![ConnectionMode::CRC]),
        (FEATURE_COMPRESSION, vec![ConnectionMode::CRC]),
        (FEATURE_COMPRESSION, vec![ConnectionMode::SECURE]),
    ] {
        let mut pair = Pair::alike(true, |config| config.modes.clone_from(&modes));
        pair.between = clear_in_banners(u8::try_from(bit).unwrap());
        // Byte by byte, so that each end has signed before it reads the other's signature.
        pair.piece = 1;
        pair.run();
        let errors = [&pair.a.error, &pair.b.error];
        assert_eq!(errors, [&Some(ConnectionError::Signature); 2], "{bit} {modes:?}");
        assert!(pair.b.sessions.is_empty());
    }
}

#[test]
fn a_feature_cleared_in_one_banner_alone_ends_the_connection_too() {
    for by in [true, false] {
        for bit in [1, 2] {
            let mut pair = Pair::alike(true, |config| config.modes = vec![ConnectionMode::CRC]);
            let mut clear = clear_in_banners(bit);
            pair.between = Box::new(
                move |by_a, passed, bytes| if by_a == by { clear(by_a, passed, bytes) } else { bytes },
            );
            pair.run();
            assert!(
                pair.a.error.is_some() || pair.b.error.is_some() || {
                    // Each end waits for a frame of the other's framing: the deadline ends it.
                    pair.a.wait(std::time::Duration::from_secs(11));
                    pair.a.error.is_some()
                }
            );
            assert!(pair.b.sessions.is_empty() && pair.a.session().connects() == 0, "{by} {bit}");
        }
    }
}

/// Without a key there is nothing to sign with: the documentation says so, and here is what it means.
#[test]
fn without_a_key_a_changed_banner_goes_unnoticed() {
    let mut pair = Pair::alike(false, |_| {});
    pair.between = clear_in_banners(1);
    arrives_whole(&mut pair);
    assert!(!pair.a.connection.agreement().revision_1 && !pair.b.connection.agreement().revision_1);
}

/// The list of modes in AUTH_REQUEST, rewritten with a checksum that fits.
#[test]
fn a_mode_talked_down_is_caught_by_the_signature() {
    let mut pair = Pair::alike(true, |_| {});
    let mut done = false;
    pair.between = Box::new(move |by_a, _, bytes| {
        if !by_a || done {
            return bytes;
        }
        let Some(start) = find_auth_request(&bytes) else { return bytes };
        done = true;
        let payload = &bytes[start + 32..bytes.len() - 4];
        let Ok(Control::AuthRequest(mut request)) = Control::decode(Tag::AuthRequest, payload) else {
            panic!("an AUTH_REQUEST")
        };
        assert_eq!(request.preferred_modes, [ConnectionMode::SECURE, ConnectionMode::CRC]);
        request.preferred_modes = vec![ConnectionMode::CRC, ConnectionMode::CRC];
        [&bytes[..start], &frame(&request.into())].concat()
    });
    pair.piece = 1;
    pair.run();
    // Only what a said was changed, so only a can see it, in b's signature.
    assert_eq!([&pair.a.error, &pair.b.error], [&Some(ConnectionError::Signature), &None]);
    assert!(pair.b.sessions.is_empty() && pair.a.session().connects() == 0);
    // The mode had been talked down, or the test has tested nothing.
    assert_eq!(pair.b.connection.agreement().mode, Some(ConnectionMode::CRC));
}

/// Where an AUTH_REQUEST frame begins that reaches to the end of these bytes.
fn find_auth_request(bytes: &[u8]) -> Option<usize> {
    let mut at = if bytes.starts_with(b"ceph v2\n") { 26 } else { 0 };
    while at + 32 <= bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 2..at + 6].try_into().ok()?) as usize;
        let end = at + 32 + len + 4;
        if bytes[at] == Tag::AuthRequest.code() && end == bytes.len() {
            return Some(at);
        }
        at = end;
    }
    None
}

fn frame(control: &Control) -> Vec<u8> {
    let (mut encoder, mut out) = (FrameEncoder::new(), OutBuf::new());
    encoder.set_revision(Revision::V1);
    encoder.encode_control(control, &mut out).unwrap();
    let mut slices: [IoSlice<'_>; 4] = std::array::from_fn(|_| IoSlice::new(&[]));
    let filled = out.slices(&mut slices);
    slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect()
}

/// One flipped bit anywhere in the first exchanges or in a message: nothing wrong is ever delivered.
#[test]
fn a_flipped_bit_ends_the_connection_or_changes_nothing() {
    for mode in [ConnectionMode::CRC, ConnectionMode::SECURE] {
        let mut ended = 0;
        for at in (0..1800).step_by(7) {
            for by in [true, false] {
                let mut pair = Pair::alike(true, |config| config.modes = vec![mode]);
                pair.between = Box::new(move |by_a, passed, mut bytes| {
                    let here = u64::checked_sub(at, passed).and_then(|at| usize::try_from(at).ok());
                    if let Some(byte) = here.filter(|_| by_a == by).and_then(|at| bytes.get_mut(at)) {
                        *byte ^= 0x20;
                    }
                    bytes
                });
                pair.run();
                let said = Message::new(1).front(vec![1; 300]).data(vec![2; 300]);
                if pair.a.error.is_none() && pair.a.connection.state() == State::Ready {
                    pair.send(said.clone());
                    pair.run();
                }
                ended += u32::from(pair.a.error.is_some() || pair.b.error.is_some());
                assert!(pair.b.got.iter().all(|r| r.message == said), "{mode} {by} {at}");
            }
        }
        assert!(ended > 100, "{ended}");
    }
}

// ---------------------------------------------------------------------- modes

#[test]
fn every_mode_of_both_revisions_carries_messages() {
    for revision_1 in [true, false] {
        for (keyed, mode) in
            [(false, ConnectionMode::CRC), (true, ConnectionMode::CRC), (true, ConnectionMode::SECURE)]
        {
            let mut pair = Pair::alike(keyed, |config| {
                config.modes = vec![mode];
                config.allow_secure_revision_0 = true;
                if !revision_1 {
                    config.msgr2_supported &= !FEATURE_REVISION_1;
                }
            });
            arrives_whole(&mut pair);
            for end in [&pair.a, &pair.b] {
                let agreed = end.connection.agreement();
                assert_eq!((agreed.revision_1, agreed.mode), (revision_1, Some(mode)));
            }
        }
    }
}

#[test]
fn msgr20_secure_is_not_spoken_unless_both_ends_allow_it() {
    let secure_v0 = |config: &mut ConnectionConfig| {
        config.modes = vec![ConnectionMode::SECURE];
        config.msgr2_supported &= !FEATURE_REVISION_1;
    };
    let mut pair = Pair::alike(true, secure_v0);
    pair.run();
    assert_eq!(pair.a.error, Some(ConnectionError::NoCommonMethod));

    let [mut a, mut b] = [CLIENT, OSD].map(connection);
    secure_v0(&mut a);
    secure_v0(&mut b);
    a.allow_secure_revision_0 = true;
    let mut pair = Pair::new(a, b, with_key(), monitor());
    pair.run();
    let refused = ConnectionError::AuthRefused { method: AuthMethod::CEPHX, result: -95 };
    assert_eq!(pair.a.error, Some(refused));
}

#[test]
fn a_wrong_key_is_refused_and_the_session_ends_with_the_reason() {
    let Credential::Key { name, want, previous, now, .. } = with_key() else { panic!("a key") };
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(99);
    let key = outlast_cephx::Key::generate(outlast_cephx::KeyType::Aes256k, now, &mut rng);
    let [a, b] = [CLIENT, OSD].map(connection);
    let mut pair = Pair::new(a, b, Credential::Key { name, key, want, previous, now }, monitor());
    pair.run();
    let refused = ConnectionError::AuthRefused { method: AuthMethod::CEPHX, result: -13 };
    assert_eq!(pair.a.error, Some(refused.clone()));
    assert_eq!(pair.a.events, [SessionEvent::Ended(EndReason::Refused(refused))]);
    assert!(pair.b.connection.refusal().is_some());
    assert!(pair.b.sessions.is_empty());
}

// ---------------------------------------------------------------------- compression

fn compressing(algorithm: Algorithm, in_secure_mode: bool) -> CompressionConfig {
    CompressionConfig { algorithms: vec![algorithm], in_secure_mode, ..CompressionConfig::default() }
}

#[test]
fn compression_is_negotiated_and_used_in_crc_mode_and_where_asked_for_in_secure_mode() {
    for algorithm in Algorithm::ALL {
        for (mode, in_secure_mode, used) in [
            (ConnectionMode::CRC, false, true),
            (ConnectionMode::SECURE, false, false),
            (ConnectionMode::SECURE, true, true),
        ] {
            let mut pair = Pair::alike(true, |config| {
                config.modes = vec![mode];
                config.compression = compressing(algorithm, in_secure_mode);
            });
            arrives_whole(&mut pair);
            for end in [&pair.a, &pair.b] {
                assert_eq!(end.connection.agreement().compression, used.then_some(algorithm));
            }
            let plain: usize = messages().iter().map(Message::payload_len).sum();
            let wire = usize::try_from(pair.passed[0]).unwrap();
            assert_eq!(wire < plain / 2, used, "{algorithm:?} {mode}: {wire} of {plain} bytes");
        }
    }
}

#[test]
fn compression_that_one_end_does_not_want_is_not_used() {
    for who in [CLIENT, OSD] {
        let [a, b] = [CLIENT, OSD].map(|entity| {
            let mut config = connection(entity);
            if entity == who {
                config.compression = compressing(Algorithm::Zstd, true);
            }
            config
        });
        let mut pair = Pair::new(a, b, without_key(), Authority::None);
        arrives_whole(&mut pair);
        assert_eq!(pair.a.connection.agreement().compression, None);
        assert_eq!(pair.b.connection.agreement().compression, None);
    }
    // An end that does not know of compression at all skips that part of the handshake.
    let [a, mut b] = [CLIENT, OSD].map(connection);
    b.msgr2_supported &= !FEATURE_COMPRESSION;
    let mut pair = Pair::new(a, b, without_key(), Authority::None);
    arrives_whole(&mut pair);
}

#[test]
fn the_diallers_first_choice_that_the_acceptor_has_is_taken() {
    let [mut a, mut b] = [CLIENT, OSD].map(connection);
    a.compression.algorithms = vec![Algorithm::Lz4, Algorithm::Snappy, Algorithm::Zstd];
    b.compression.algorithms = vec![Algorithm::Zstd, Algorithm::Snappy];
    let mut pair = Pair::new(a, b, without_key(), Authority::None);
    arrives_whole(&mut pair);
    assert_eq!(pair.a.connection.agreement().compression, Some(Algorithm::Snappy));
}

// ---------------------------------------------------------------------- buffers of the receiver

/// Gives out one buffer for transaction 7 and remembers where it is and what was asked.
#[derive(Clone, Default)]
struct OneBuffer(Arc<Mutex<Lent>>);

#[derive(Default)]
struct Lent {
    buffer: Option<BytesMut>,
    asked: Vec<(u64, usize)>,
}

impl Buffers for OneBuffer {
    fn buffer(&mut self, header: &MessageHeader, len: usize) -> Option<BytesMut> {
        let mut inner = self.0.lock().unwrap();
        inner.asked.push((header.tid, len));
        if header.tid == 7 { inner.buffer.take() } else { None }
    }
}

#[test]
fn data_land_in_the_buffer_that_was_registered_for_their_transaction() {
    for mode in [ConnectionMode::CRC, ConnectionMode::SECURE] {
        for len in [1_usize, 5000, 300_000] {
            let mut pair = Pair::alike(true, |config| config.modes = vec![mode]);
            pair.run();
            pair.is_ready();
            let buffer = BytesMut::zeroed(len);
            let place = buffer.as_ptr();
            let buffers = OneBuffer::default();
            buffers.0.lock().unwrap().buffer = Some(buffer);
            pair.b.connection.set_buffers(Box::new(buffers.clone()));
            let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            pair.send(Message::new(1).tid(6).front(&b"front"[..]).data(vec![9; 10]));
            pair.send(Message::new(1).tid(7).front(&b"front"[..]).data(data.clone()));
            pair.run();
            pair.is_ready();
            assert_eq!(pair.b.got.len(), 2);
            assert_eq!(pair.b.got[1].message.data, data);
            assert_eq!(pair.b.got[1].message.data.as_ptr(), place, "{mode} {len}");
            assert_eq!(buffers.0.lock().unwrap().asked, [(6, 10), (7, len)]);
        }
    }
}

// ---------------------------------------------------------------------- taking messages back

#[test]
fn a_message_that_is_taken_back_before_it_has_a_number_never_was() {
    let mut pair = Pair::alike(true, |_| {});
    // Not ready yet: nothing has a number.
    let first = pair.send(Message::new(1).front(&b"first"[..]));
    let second = pair.send(Message::new(1).front(&b"second"[..]));
    pair.a.session().revoke(first);
    pair.a.drain();
    assert_eq!(pair.a.revocations, [(first, true)]);
    assert_eq!(pair.a.session().status(first), ReceiptStatus::Revoked);
    pair.run();
    let got: Vec<_> = pair.b.got.iter().map(|r| (r.seq, &r.message.front[..])).collect();
    assert_eq!(got, [(1, &b"second"[..])]);
    pair.b.wait(std::time::Duration::from_millis(100));
    pair.run();
    assert_eq!(pair.a.session().status(second), ReceiptStatus::Acknowledged);
    assert_eq!(pair.a.session().status(first), ReceiptStatus::Revoked);
}

/// In crc mode the rest of a large message becomes zeros and its frame says that it was aborted. Its number is given to
/// the next message, unless that has one already.
#[test]
fn a_large_message_that_is_taken_back_while_it_is_written_is_not_delivered() {
    for (len, seq_of_next) in [(1 << 20, 1), (100_000, 2)] {
        let mut pair = Pair::alike(false, |_| {});
        pair.run();
        pair.is_ready();
        pair.a.room = 10_000;
        let now = pair.a.now;
        let session = pair.a.session();
        let large = session.send(Message::new(1).front(&b"large"[..]).data(vec![1; len]), now).unwrap();
        let small = session.send(Message::new(1).front(&b"small"[..]), now).unwrap();
        pair.a.drain();
        pair.run();
        assert!(pair.b.got.is_empty());
        pair.a.session().revoke(large);
        pair.a.drain();
        assert_eq!(pair.a.revocations, [(large, true)]);
        assert_eq!(pair.a.session().status(large), ReceiptStatus::Revoked);
        pair.a.room = usize::MAX;
        pair.a.drain();
        pair.run();
        pair.is_ready();
        let got: Vec<_> = pair.b.got.iter().map(|r| (r.seq, &r.message.front[..])).collect();
        assert_eq!(got, [(seq_of_next, &b"small"[..])]);
        pair.b.wait(std::time::Duration::from_millis(100));
        pair.run();
        assert_eq!(pair.a.session().status(small), ReceiptStatus::Acknowledged);
        assert_eq!(pair.a.session().counters().revoked, 1);
        // It is not replayed either.
        assert!(pair.a.session().outbox().is_empty());
    }
}

#[test]
fn a_message_that_is_taken_back_too_late_is_delivered_and_says_so() {
    let mut pair = Pair::alike(false, |_| {});
    pair.run();
    let id = pair.send(Message::new(1).front(&b"small"[..]));
    pair.a.session().revoke(id);
    pair.a.drain();
    assert_eq!(pair.a.revocations, [(id, false)]);
    pair.run();
    assert_eq!(pair.b.got.len(), 1);
    pair.b.wait(std::time::Duration::from_millis(100));
    pair.run();
    assert_eq!(pair.a.session().status(id), ReceiptStatus::Acknowledged);
}

/// The acknowledgement in the aborted frame's header is said again: the other end must not keep its messages for ever.
#[test]
fn an_acknowledgement_that_was_aborted_with_its_message_is_sent_again() {
    let mut pair = Pair::alike(false, |_| {});
    pair.run();
    let now = pair.b.now;
    let from_b = pair.b.session().send(Message::new(1), now).unwrap();
    pair.b.drain();
    pair.a.room = 0;
    let back = std::mem::take(&mut pair.b.written);
    pair.a.feed(&back);
    pair.a.room = 2000;
    let large = pair.send(Message::new(1).data(vec![1; 1 << 20]));
    pair.run();
    pair.a.session().revoke(large);
    pair.a.room = usize::MAX;
    pair.a.drain();
    pair.run();
    pair.a.wait(std::time::Duration::from_millis(100));
    pair.run();
    pair.is_ready();
    assert_eq!(pair.a.revocations, [(large, true)]);
    assert!(pair.b.got.is_empty());
    assert_eq!(pair.b.session().status(from_b), ReceiptStatus::Acknowledged);
}

// ---------------------------------------------------------------------- long messages over narrow lines

/// A line that holds so much, each way, and carries it on as its end reads.
fn carry(from: &mut End, to: &mut End, under_way: &mut Vec<u8>, holds: usize) {
    from.room = holds.saturating_sub(under_way.len());
    from.drain();
    under_way.append(&mut from.written);
    let taken = to.feed(under_way);
    under_way.drain(..taken);
}

/// Each stops reading only for answers that nobody takes: if what waits in all counted, neither would read again.
#[test]
fn two_ends_send_each_other_messages_longer_than_any_buffer_at_once() {
    let mut pair = Pair::alike(false, |_| {});
    pair.run();
    let data = Bytes::from(vec![7; OUT_BYTES_MAX + (1 << 20)]);
    pair.send(Message::new(1).data(data.clone()));
    let now = pair.b.now;
    pair.b.session().send(Message::new(2).data(data.clone()), now).unwrap();
    let (mut there, mut back) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        carry(&mut pair.a, &mut pair.b, &mut there, 256 << 10);
        carry(&mut pair.b, &mut pair.a, &mut back, 256 << 10);
    }
    pair.is_ready();
    assert!(pair.b.got.len() == 1 && pair.a.got.len() == 1);
    assert!(pair.b.got[0].message.data == data && pair.a.got[0].message.data == data);
}

/// The question whether the peer is there stands behind the message, and the peer has nothing to say before it has it.
#[test]
fn a_message_that_takes_minutes_to_be_written_does_not_make_its_receiver_look_dead() {
    for keyed in [false, true] {
        let mut pair = Pair::alike(keyed, |_| {});
        pair.run();
        pair.send(Message::new(1).data(vec![7; 6 << 20]));
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            carry(&mut pair.a, &mut pair.b, &mut there, 64 << 10);
            carry(&mut pair.b, &mut pair.a, &mut back, 64 << 10);
            for end in [&mut pair.a, &mut pair.b] {
                end.room = 0;
                end.wait(std::time::Duration::from_secs(1));
            }
        }
        assert_eq!(pair.a.error, None);
        assert_eq!(pair.b.got.len(), 1);
    }
}

/// Bytes that nobody takes are no sign of life.
#[test]
fn a_peer_that_stops_reading_in_the_middle_of_a_message_is_given_up() {
    let mut pair = Pair::alike(false, |_| {});
    pair.run();
    pair.a.room = 64 << 10;
    pair.send(Message::new(1).data(vec![7; 6 << 20]));
    pair.a.drain();
    pair.a.room = 0;
    pair.a.wait(std::time::Duration::from_secs(30));
    assert_eq!(pair.a.error, Some(ConnectionError::Silent));
}

/// Nothing is read any more once the last word was said, least of all from a full inbound queue.
#[test]
fn a_peer_that_does_not_take_the_last_word_does_not_hold_the_connection() {
    let mut pair = Pair::alike(false, |config| config.msgr2_supported |= FEATURE_OUTLAST_CLOSE);
    pair.run();
    // So much that the application is behind, and reading has stopped.
    pair.b.takes_messages = false;
    let (mut there, mut back) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        pair.send(Message::new(1).data(vec![7; 40 << 20]));
        for _ in 0..50 {
            carry(&mut pair.a, &mut pair.b, &mut there, 1 << 20);
            carry(&mut pair.b, &mut pair.a, &mut back, 1 << 20);
        }
    }
    assert!(pair.b.connection.is_paused());
    pair.b.room = 0;
    pair.b.session().abort();
    pair.b.drain();
    pair.b.wait(std::time::Duration::from_secs(60));
    assert!(pair.b.error.is_some(), "{:?}", pair.b.connection);
}
