//! What real Ceph said, in the captures of `crates/msgr2/tests/golden`: our client must have said what its client said,
//! believe what its servers answered, and our monitor must believe its client.
//!
//! Only the frames of the authentication are read here, with the little of msgr2's framing that this takes: they are
//! always in plain frames of revision 1 with one segment.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{finish, more};
use outlast_cephx::client::{Login, MonitorLogin, ServiceLogin};
use outlast_cephx::crypt::{Usage, open};
use outlast_cephx::keyring::Entry;
use outlast_cephx::server::{Authority, MonitorAcceptor, TicketSecrets};
use outlast_cephx::{AuthMode, EntityName, EntityType, Key, KeyType, Keyring, ServiceMask, Timestamp, none};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_core::{Infallible, TryCryptoRng, TryRng};

const HELLO: u8 = 1;
const AUTH_REQUEST: u8 = 2;
const AUTH_REPLY_MORE: u8 = 4;
const AUTH_REQUEST_MORE: u8 = 5;
const AUTH_DONE: u8 = 6;
const AUTH_SIGNATURE: u8 = 7;
const SECURE: u32 = 2;

/// Gives 64-bit numbers that were read from a capture, then zeros.
struct Scripted(Vec<u64>);

impl TryRng for Scripted {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(if self.0.is_empty() { 0 } else { self.0.remove(0) })
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(0);
        Ok(())
    }
}

impl TryCryptoRng for Scripted {}

/// One direction of a connection.
struct Stream {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
}

struct Frame {
    tag: u8,
    body: Vec<u8>,
    /// Where the frame ends in the stream.
    end: usize,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The bytes behind a length at this place, which must be the last thing there.
fn last_field(bytes: &[u8], at: usize) -> &[u8] {
    assert_eq!(u32_at(bytes, at) as usize, bytes.len() - at - 4);
    &bytes[at + 4..]
}

impl Stream {
    /// Reads the banner and the plain frames up to `AUTH_SIGNATURE`, or to where the stream becomes secure.
    fn read(path: &Path) -> Stream {
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(&bytes[..8], b"ceph v2\n");
        let mut at = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let mut frames = Vec::new();
        while let [tag @ HELLO..=AUTH_SIGNATURE, 1] = bytes[at..at + 2] {
            let len = u32_at(&bytes, at + 2) as usize;
            let body = bytes[at + 32..at + 32 + len].to_vec();
            at += 32 + len + 4;
            frames.push(Frame { tag, body, end: at });
            if tag == AUTH_SIGNATURE || at >= bytes.len() {
                break;
            }
            // Behind the last plain frame of a secure connection everything is cipher text.
            if tag == AUTH_DONE && u32_at(&frames[frames.len() - 1].body, 8) == SECURE {
                break;
            }
        }
        Stream { bytes, frames }
    }

    fn frame(&self, tag: u8) -> &Frame {
        let mut found = self.frames.iter().filter(|frame| frame.tag == tag);
        let frame = found.next().unwrap_or_else(|| panic!("no frame with tag {tag}"));
        assert!(found.next().is_none(), "two frames with tag {tag}");
        frame
    }
}

/// The authentication of one connection.
struct Exchange {
    client: Stream,
    server: Stream,
    secure: bool,
    global_id: u64,
}

impl Exchange {
    fn read(connection: &Path) -> Exchange {
        let client = Stream::read(&connection.join("client.bin"));
        let server = Stream::read(&connection.join("server.bin"));
        let done = &server.frame(AUTH_DONE).body;
        let (global_id, mode) = (u64_at(done, 0), u32_at(done, 8));
        Exchange { client, server, secure: mode == SECURE, global_id }
    }

    fn request(&self) -> &[u8] {
        let body = &self.client.frame(AUTH_REQUEST).body;
        let modes = u32_at(body, 4) as usize;
        last_field(body, 8 + 4 * modes)
    }

    fn challenge(&self) -> &[u8] {
        last_field(&self.server.frame(AUTH_REPLY_MORE).body, 0)
    }

    fn answer(&self) -> &[u8] {
        last_field(&self.client.frame(AUTH_REQUEST_MORE).body, 0)
    }

    fn end(&self) -> &[u8] {
        last_field(&self.server.frame(AUTH_DONE).body, 12)
    }

    /// Each end signs all it received up to the end of the authentication. Only where the signatures are not encrypted.
    fn check_signatures(&self, session_key: &Key) {
        assert!(!self.secure);
        let client_said = &self.client.bytes[..self.client.frame(AUTH_REQUEST_MORE).end];
        let server_said = &self.server.bytes[..self.server.frame(AUTH_DONE).end];
        assert!(session_key.verify_hmac_sha256(&[client_said], &self.server.frame(AUTH_SIGNATURE).body));
        assert!(session_key.verify_hmac_sha256(&[server_said], &self.client.frame(AUTH_SIGNATURE).body));
    }
}

struct Case {
    directory: PathBuf,
    release: u32,
    key: Key,
    /// The type of the secrets that seal the tickets.
    cipher: KeyType,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../msgr2/tests/golden")
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(golden()).unwrap() {
        let directory = entry.unwrap().path();
        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("cephx-") {
            continue;
        }
        let about = std::fs::read_to_string(directory.join("about.txt")).unwrap();
        let key = about.lines().find_map(|line| line.strip_prefix("key client.admin: ")).unwrap();
        assert_eq!(key.parse::<Key>().unwrap().to_base64().as_str(), key);
        let is_new = name.ends_with("-20-aes256k") || name.ends_with("-20-mixed");
        let cipher = if is_new { KeyType::Aes256k } else { KeyType::Aes };
        let release = about.lines().find_map(|line| line.strip_prefix("release: ")).unwrap().parse().unwrap();
        cases.push(Case { directory, release, key: key.parse().unwrap(), cipher });
    }
    assert!(cases.len() >= 8, "the captures are there");
    cases
}

fn admin() -> EntityName {
    "client.admin".parse().unwrap()
}

/// Says what the captured client said, with its random number, and takes what the monitor answered.
fn log_in(case: &Case, exchange: &Exchange) -> Login {
    let answer = exchange.answer();
    // Behind the header and the version.
    let client_challenge = u64_at(answer, 3);
    let mask = ServiceMask::from_bits(u32_at(answer, answer.len() - 4));
    let mut login = MonitorLogin::new(admin(), case.key.clone(), mask, None);
    assert_eq!(login.request(), exchange.request());
    assert_eq!(AuthMode::of(exchange.request()), Some(AuthMode::Monitor));
    assert_eq!(
        login.handle_more(exchange.challenge(), &mut Scripted(vec![client_challenge])).unwrap(),
        answer
    );
    login.handle_done(exchange.global_id, exchange.secure, exchange.end(), Timestamp::default()).unwrap()
}

#[test]
fn our_client_says_what_cephs_said_and_believes_the_monitor() {
    for case in cases() {
        let exchange = Exchange::read(&case.directory.join("mon"));
        let login = log_in(&case, &exchange);
        let shown = case.directory.display();
        assert_eq!(
            login.connection_secret.map(|secret| secret.as_bytes().len()),
            exchange.secure.then_some(64)
        );
        // As our own monitor chooses: what both the client and the services are known to understand.
        let session_type = case.key.key_type().min(case.cipher);
        assert!(
            login.tickets.iter().all(|ticket| ticket.session_key().key_type() == session_type),
            "{shown}"
        );
        assert!(login.tickets.get(EntityType::Osd).is_some(), "{shown}");
        if !exchange.secure {
            exchange.check_signatures(&login.session_key);
        }
    }
}

#[test]
fn our_client_says_what_cephs_said_and_believes_the_osd() {
    for case in cases() {
        let login = log_in(&case, &Exchange::read(&case.directory.join("mon")));
        let exchange = Exchange::read(&case.directory.join("osd"));
        assert_eq!(AuthMode::of(exchange.request()), Some(AuthMode::Service));
        let ticket = login.tickets.get(EntityType::Osd).unwrap();
        let session_key = ticket.session_key();

        // The authorizer ends with what is sealed; its length in front is the last length there.
        let parts = |authorizer: &[u8], sealed_len: usize| {
            let at = authorizer.len() - sealed_len;
            let plaintext = open(session_key, Usage::Authorize, &authorizer[at..]).unwrap().to_vec();
            (authorizer[..at].to_vec(), plaintext)
        };
        let sealed_len = match session_key.key_type() {
            KeyType::Aes => 32,
            KeyType::Aes256k => 9 + 18 + 40,
        };
        let (_, plaintext) = parts(exchange.request(), sealed_len);
        let nonce = u64_at(&plaintext, 1);
        let mut service_login = ServiceLogin::new(ticket, exchange.global_id, &mut Scripted(vec![nonce]));
        let first = service_login.request();
        let second = service_login.handle_more(exchange.challenge(), &mut Scripted(vec![])).unwrap();
        assert_eq!(parts(&first, sealed_len), parts(exchange.request(), sealed_len));
        assert_eq!(parts(&second, sealed_len), parts(exchange.answer(), sealed_len));
        if session_key.key_type() == KeyType::Aes {
            assert_eq!((&first[..], &second[..]), (exchange.request(), exchange.answer()));
        }
        let authorized = service_login.handle_done(exchange.secure, exchange.end()).unwrap();
        assert_eq!(authorized.connection_secret.is_some(), exchange.secure);
        if !exchange.secure {
            exchange.check_signatures(&authorized.session_key);
        }
    }
}

#[test]
fn our_monitor_believes_cephs_client_and_answers_at_the_same_length() {
    for case in cases() {
        let exchange = Exchange::read(&case.directory.join("mon"));
        let now = Timestamp::new(1_800_000_000, 0);
        let mut rng = StdRng::seed_from_u64(1);
        let mut keyring = Keyring::new();
        // Since release 20 the ticket for monitors has capabilities, too.
        let services =
            if case.release < 20 { &["mds", "osd", "mgr"][..] } else { &["mds", "osd", "mgr", "mon"][..] };
        let entry = services
            .iter()
            .fold(Entry::new(case.key.clone()), |entry, service| entry.with_caps(service, "allow *"));
        keyring.insert(admin(), entry);
        let secrets = TicketSecrets::generate(case.cipher, ServiceMask::from_bits(0x37), now, &mut rng);
        let mut acceptor = MonitorAcceptor::new();
        let challenge = u64_at(exchange.challenge(), 1);
        let challenge = more(acceptor.handle_request(exchange.request(), &mut Scripted(vec![challenge])));
        assert_eq!(challenge, exchange.challenge());
        let authority = Authority { keys: &keyring, secrets: &secrets, now };
        let step =
            acceptor.handle_more(exchange.answer(), exchange.secure, &authority, &mut || 4100, &mut rng);
        let accepted = finish(step).unwrap();
        assert_eq!(accepted.entity, admin());
        assert_eq!(accepted.payload.len(), exchange.end().len(), "{}", case.directory.display());
    }
}

#[test]
fn without_authentication_ceph_says_what_we_say() {
    for case in ["none-crc-16", "none-crc-18"] {
        let monitor = Exchange::read(&golden().join(case).join("mon"));
        assert_eq!(none::monitor_request(&admin(), 0), monitor.request());
        assert!(monitor.end().is_empty());
        let osd = Exchange::read(&golden().join(case).join("osd"));
        assert_eq!(none::service_request(&admin(), monitor.global_id), osd.request());
        let claim = none::accept(osd.request()).unwrap();
        assert_eq!((claim.entity, claim.global_id), (admin(), osd.global_id));
    }
}
