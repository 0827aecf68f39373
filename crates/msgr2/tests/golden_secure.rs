//! What real Ceph said encrypted, opened with the keys of `about.txt` and sealed again to the very bytes: the whole of
//! every cephx connection, as msgr2.1 and as msgr2.0, and in crc mode with the signatures checked.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its captures has failed")]

mod capture;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use capture::{Direction, about, agree, cases, connection, tag_of};
use outlast_cephx::client::{Login, MonitorLogin, ServiceLogin};
use outlast_cephx::crypt::{Usage, open};
use outlast_cephx::{ConnectionSecret, EntityType, Key, KeyType, ServiceMask, Timestamp};
use outlast_msgr2::frame::{Incoming, Revision, Tag};
use outlast_msgr2::wire::{ConnectionMode, Control};
use rand_core::{Infallible, TryCryptoRng, TryRng};

/// Gives one number that was read from a capture: what the client of the capture drew.
struct Drawn(u64);

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(0);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// The authentication of a connection, read from both directions up to where secure mode begins.
struct Exchange {
    request: Bytes,
    challenge: Bytes,
    answer: Bytes,
    end: Bytes,
    global_id: u64,
    secure: bool,
}

impl Exchange {
    fn read([client, server]: &mut [Direction; 2]) -> Self {
        let Control::AuthRequest(request) = client.until(Tag::AuthRequest) else { unreachable!() };
        let Control::AuthRequestMore(answer) = client.until(Tag::AuthRequestMore) else { unreachable!() };
        let Control::AuthReplyMore(challenge) = server.until(Tag::AuthReplyMore) else { unreachable!() };
        let Control::AuthDone(done) = server.until(Tag::AuthDone) else { unreachable!() };
        Self {
            request: request.payload,
            challenge: challenge.payload,
            answer: answer.payload,
            end: done.payload,
            global_id: done.global_id,
            secure: done.mode == ConnectionMode::SECURE,
        }
    }

    /// As the client of the capture: with its key and the number that it drew.
    fn log_in(&self, key: &Key) -> Login {
        // Behind the header and the version of the answer; what it wants is its last field.
        let drawn = number(&self.answer[3..]);
        let want = u32::from_le_bytes(*self.answer.last_chunk().unwrap());
        let name = "client.admin".parse().unwrap();
        let mut login = MonitorLogin::new(name, key.clone(), ServiceMask::from_bits(want), None);
        login.request();
        assert_eq!(login.handle_more(&self.challenge, &mut Drawn(drawn)).unwrap(), self.answer);
        login.handle_done(self.global_id, self.secure, &self.end, Timestamp::default()).unwrap()
    }

    /// As the client of the capture: with its ticket and the number that it drew, which the ticket's key opens.
    fn prove(&self, login: &Login) -> (Key, Option<ConnectionSecret>) {
        let ticket = login.tickets.get(EntityType::Osd).unwrap();
        let sealed_len = match ticket.session_key().key_type() {
            KeyType::Aes => 32,
            KeyType::Aes256k => 9 + 18 + 40,
        };
        let sealed = &self.request[self.request.len() - sealed_len..];
        let drawn = number(&open(ticket.session_key(), Usage::Authorize, sealed).unwrap()[1..]);
        let mut login = ServiceLogin::new(ticket, self.global_id, &mut Drawn(drawn));
        login.request();
        login.handle_more(&self.challenge, &mut Drawn(0)).unwrap();
        let authorized = login.handle_done(self.secure, &self.end).unwrap();
        (authorized.session_key, authorized.connection_secret)
    }
}

type Counts = BTreeMap<(Tag, u8), usize>;

/// Opens both directions to their ends, each frame said again, and counts what was there.
fn read_to_the_end(
    connection: &mut [Direction; 2],
    said: [Vec<u8>; 2],
    (session_key, secret): (Key, Option<ConnectionSecret>),
    counts: &mut Counts,
) {
    if let Some(secret) = &secret {
        connection.iter_mut().for_each(|direction| direction.set_secret(secret.as_bytes()));
    }
    for (end, direction) in (0..).zip(connection) {
        // Each end signs all that it received up to the end of the authentication.
        let Control::AuthSignature(signature) = direction.until(Tag::AuthSignature) else { unreachable!() };
        assert!(session_key.verify_hmac_sha256(&[&said[1 - usize::from(end)]], &signature.digest));
        let mut next = 0;
        for frame in direction.rest() {
            *counts.entry((tag_of(&frame), end)).or_default() += 1;
            if let Incoming::Message(message) = frame {
                next += 1;
                assert_eq!(message.header.seq, next, "messages are numbered from 1");
            }
        }
    }
}

/// Reads a whole case, which must be of this revision and mode.
fn read_case(case: &Path, revision: Revision, secure: bool) -> Counts {
    let key: Key = about(case, "key client.admin").parse().unwrap();
    let mut counts = Counts::new();

    let mut monitor = connection(case, "mon");
    assert_eq!(agree(&mut monitor), revision);
    let exchange = Exchange::read(&mut monitor);
    assert_eq!(exchange.secure, secure);
    let said = monitor.each_ref().map(Direction::said);
    let login = exchange.log_in(&key);
    let keys = (login.session_key.clone(), login.connection_secret.clone());
    read_to_the_end(&mut monitor, said, keys, &mut counts);

    let mut osd = connection(case, "osd");
    assert_eq!(agree(&mut osd), revision);
    let exchange = Exchange::read(&mut osd);
    assert_eq!(exchange.secure, secure);
    let said = osd.each_ref().map(Direction::said);
    read_to_the_end(&mut osd, said, exchange.prove(&login), &mut counts);

    assert_eq!(counts[&(Tag::ClientIdent, 0)], 2);
    assert_eq!(counts[&(Tag::ServerIdent, 1)], 2);
    counts
}

#[test]
fn every_encrypted_frame_is_sealed_again_to_the_same_bytes() {
    let cases = cases("cephx-secure-");
    assert!(cases.len() >= 5, "captures are missing: {cases:?}");
    for case in cases {
        let counts = read_case(&case, Revision::V1, true);
        for end in [0, 1] {
            assert!(counts[&(Tag::Message, end)] > 10, "{}: {counts:?}", case.display());
        }
    }
}

#[test]
fn every_signature_over_what_was_said_in_the_clear_is_right() {
    let cases = cases("cephx-crc-");
    assert!(cases.len() >= 3, "captures are missing: {cases:?}");
    for case in cases {
        read_case(&case, Revision::V1, false);
    }
}

/// Only a client of ours withholds msgr2.1; the server's direction is what real Ceph said to it.
#[test]
fn msgr2_0_is_encoded_again_to_the_same_bytes() {
    for (prefix, secure) in [("rev0-crc-", false), ("rev0-secure-", true)] {
        let cases = cases(prefix);
        assert!(cases.len() >= 2, "captures are missing: {cases:?}");
        for case in cases {
            let counts = read_case(&case, Revision::V0, secure);
            assert!(counts[&(Tag::Message, 1)] >= 9, "{}: {counts:?}", case.display());
            assert!(counts[&(Tag::Keepalive2Ack, 1)] >= 2, "{}: {counts:?}", case.display());
        }
    }
}
