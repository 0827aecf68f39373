//! Keyrings, keys, names, and both sides of cephx against a peer that holds the keys and means harm.

use crate::input::Input;
use bytes::Bytes;
use outlast_cephx::client::{MonitorLogin, ServiceLogin};
use outlast_cephx::crypt::{Usage, seal, seal_prefixed};
use outlast_cephx::keyring::Entry;
use outlast_cephx::server::{Authority, MonitorAcceptor, ServiceAcceptor, Step, TicketSecrets};
use outlast_cephx::{
    AuthMode, EntityName, EntityType, Key, KeyType, Keyring, ServiceMask, Tickets, Timestamp, none,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const NOW: Timestamp = Timestamp::new(1_800_000_000, 5);
/// A script inside a script inside a script: no structure of cephx is deeper.
const DEPTH_MAX: u32 = 6;
/// Pieces of one script: more only make it longer.
const PIECES_MAX: u32 = 64;

/// A keyring file.
pub fn keyring(data: &[u8]) {
    let Ok(keyring) = Keyring::parse(data) else { return };
    let text = keyring.to_text().expect("what was read has good names");
    let again = Keyring::parse(text.as_bytes()).expect("what we write we read");
    assert_eq!(again.len(), keyring.len());
    for ((name, entry), (other_name, other)) in keyring.iter().zip(again.iter()) {
        assert_eq!((name, entry.key()), (other_name, other.key()), "written and read again");
        assert!(entry.caps().eq(other.caps()), "written and read again");
        // Their lines have other numbers.
        let unknown = |entry: &Entry| -> Vec<_> {
            entry.unknown().iter().map(|line| (line.name.clone(), line.value.clone())).collect()
        };
        assert_eq!(unknown(entry), unknown(other), "written and read again");
    }
    assert_eq!(*again.to_text().expect("as before"), *text, "written again");
}

/// A key, an entity's name, and the other words of a keyring.
pub fn key(data: &[u8]) {
    let _ = AuthMode::of(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = Key::from_base64(text) {
        let again = key.to_base64();
        let read = Key::from_base64(&again).expect("what we write we read");
        assert_eq!((&read, read.created()), (&key, key.created()), "written and read again");
    }
    if let Ok(name) = text.parse::<EntityName>() {
        assert_eq!(name.check(), Ok(()));
        assert_eq!(name.to_string().parse(), Ok(name), "written and read again");
    }
    if let Ok(kind) = text.parse::<KeyType>() {
        assert_eq!(KeyType::from_number(kind.number()), Some(kind));
    }
    if let Ok(kind) = text.parse::<EntityType>() {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
}

/// What somebody says who has nothing to prove.
pub fn cephx_none(data: &[u8]) {
    let Ok(claim) = none::accept(data) else { return };
    assert_eq!(claim.entity.check(), Ok(()));
    let again = match claim.mode {
        Some(AuthMode::Service) => none::service_request(&claim.entity, claim.global_id),
        Some(AuthMode::Monitor) => none::monitor_request(&claim.entity, claim.global_id),
        None => return,
    };
    assert_eq!(none::accept(&again).as_ref(), Ok(&claim), "said again");
}

/// A monitor, its secrets and one client, the same each time.
struct Cluster {
    rng: StdRng,
    keyring: Keyring,
    key: Key,
    secrets: TicketSecrets,
    previous: Option<Tickets>,
}

fn client() -> EntityName {
    EntityName::new(EntityType::Client, "copy")
}

impl Cluster {
    fn new(options: u8) -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let kind = if options & 1 == 0 { KeyType::Aes256k } else { KeyType::Aes };
        let key = Key::generate(kind, NOW, &mut rng);
        let mut keyring = Keyring::new();
        keyring.insert(client(), Entry::new(key.clone()).with_caps("osd", "allow rwx"));
        let secrets = TicketSecrets::generate(kind, ServiceMask::OSD, NOW, &mut rng);
        let mut cluster = Self { rng, keyring, key, secrets, previous: None };
        // Somebody who was there before has tickets.
        let mut login = cluster.login();
        let mut acceptor = MonitorAcceptor::new();
        let more = said(&acceptor.handle_request(&login.request(), &mut cluster.rng));
        let answer = login.handle_more(&more, &mut cluster.rng).expect("an honest exchange");
        let done = cluster.accept(&mut acceptor, &answer, true);
        let tickets = login.handle_done(4100, true, &said(&done), NOW).expect("an honest exchange").tickets;
        cluster.previous = Some(tickets);
        cluster
    }

    fn login(&self) -> MonitorLogin {
        MonitorLogin::new(client(), self.key.clone(), ServiceMask::OSD, self.previous.clone())
    }

    fn accept(&mut self, acceptor: &mut MonitorAcceptor, payload: &[u8], secure: bool) -> Step {
        let authority = Authority { keys: &self.keyring, secrets: &self.secrets, now: NOW };
        acceptor.handle_more(payload, secure, &authority, &mut || 4100, &mut self.rng)
    }

    fn tickets(&self) -> &Tickets {
        self.previous.as_ref().expect("made in the beginning")
    }

    /// The keys that a hostile peer may seal with.
    fn key_of(&self, choice: u8) -> Key {
        let rotating = |service| {
            self.secrets
                .get(service)
                .map(|secrets| secrets.current(NOW).key.clone())
                .expect("made in the beginning")
        };
        match choice % 5 {
            0 => self.key.clone(),
            1 => self.tickets().auth().session_key().clone(),
            2 => self.tickets().get(EntityType::Osd).expect("asked for").session_key().clone(),
            3 => rotating(EntityType::Auth),
            _ => rotating(EntityType::Osd),
        }
    }
}

/// What a step says to the peer; nothing for a refusal.
fn said(step: &Step) -> Bytes {
    match step {
        Step::More(payload) => payload.clone(),
        Step::Done(accepted) => accepted.payload.clone(),
        Step::Refused(_) => Bytes::new(),
    }
}

const fn usage_of(choice: u8) -> Usage {
    match choice % 8 {
        0 => Usage::AuthConnectionSecret,
        1 => Usage::TicketSessionKey,
        2 => Usage::TicketBlob,
        3 => Usage::Authorize,
        4 => Usage::AuthorizeChallenge,
        5 => Usage::AuthorizeReply,
        6 => Usage::RotatingSecret,
        _ => Usage::TicketInfo,
    }
}

/// A message put together by the fuzzer.
struct Script<'a> {
    cluster: &'a mut Cluster,
    /// What an honest peer would say here.
    honest: &'a [u8],
    /// A number that only one who can open things knows.
    secret_number: u64,
    pieces: u32,
    /// Something in it takes a key to make.
    knows_keys: bool,
}

impl Script<'_> {
    /// Pieces up to an end: 1 bytes as they are; 2 sealed, with its length; 3 anything with its length; 4 sealed; 5 a
    /// part of what an honest peer says; 6 the secret number.
    fn write(&mut self, input: &mut Input<'_>, depth: u32) -> Vec<u8> {
        let mut out = Vec::new();
        while self.pieces < PIECES_MAX {
            self.pieces += 1;
            let choice = input.u8();
            match choice {
                1 => out.extend_from_slice(input.short()),
                2..=4 if depth < DEPTH_MAX => {
                    let (key, usage) = (input.u8(), input.u8());
                    let inside = self.write(input, depth + 1);
                    if choice == 3 {
                        out.extend(u32::try_from(inside.len()).expect("short").to_le_bytes());
                        out.extend(inside);
                        continue;
                    }
                    self.knows_keys = true;
                    let key = self.cluster.key_of(key);
                    let rng = &mut self.cluster.rng;
                    out.extend(match choice {
                        2 => seal_prefixed(&key, usage_of(usage), &inside, rng),
                        _ => seal(&key, usage_of(usage), &inside, rng),
                    });
                }
                5 => {
                    let (from, len) = (usize::from(input.u8()), usize::from(input.u16()));
                    let rest = self.honest.get(from..).unwrap_or_default();
                    out.extend_from_slice(&rest[..len.min(rest.len())]);
                    self.knows_keys |= !rest.is_empty();
                }
                6 => out.extend(self.secret_number.to_le_bytes()),
                _ => break,
            }
        }
        out
    }
}

fn script(
    cluster: &mut Cluster,
    honest: &[u8],
    secret_number: u64,
    input: &mut Input<'_>,
) -> (Vec<u8>, bool) {
    let mut script = Script { cluster, honest, secret_number, pieces: 0, knows_keys: false };
    let out = script.write(input, 0);
    (out, script.knows_keys)
}

/// A client whose monitor or service says what the fuzzer wants. Options: type of the keys (bit 0), secure (bit 1),
/// without old tickets (bit 2), a service instead of a monitor (bit 3); then two scripts.
pub fn cephx_client(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let mut cluster = Cluster::new(options);
    let secure = options & 2 != 0;
    if options & 8 != 0 {
        // The nonce is the first thing that a login draws.
        let nonce = Cluster::new(options).rng.next_u64();
        return service_client(cluster, nonce, secure, &mut input);
    }
    let mut login = match options & 4 {
        0 => cluster.login(),
        _ => MonitorLogin::new(client(), cluster.key.clone(), ServiceMask::OSD, None),
    };
    let mut acceptor = MonitorAcceptor::new();
    let honest = said(&acceptor.handle_request(&login.request(), &mut cluster.rng));
    let (more, _) = script(&mut cluster, &honest, 0, &mut input);
    let Ok(answer) = login.handle_more(&more, &mut cluster.rng) else {
        return assert!(login.handle_done(1, secure, &[], NOW).is_err(), "it is over");
    };
    let done = cluster.accept(&mut acceptor, &answer, secure);
    let (payload, knows_keys) = script(&mut cluster, &said(&done), 0, &mut input);
    let Ok(login) = login.handle_done(4100, secure, &payload, NOW) else { return };
    assert!(knows_keys, "nobody else can end a login");
    assert_eq!(login.connection_secret.is_some(), secure);
    let tickets = &login.tickets;
    let _ = (tickets.renew_at(), tickets.needed(ServiceMask::OSD, NOW), tickets.iter().count());
    for ticket in tickets.iter() {
        // What a hostile monitor hands out is carried to a service as it is.
        let mut next = ServiceLogin::new(ticket, login.global_id, &mut cluster.rng);
        assert!(!next.request().is_empty());
    }
}

fn service_client(mut cluster: Cluster, nonce: u64, secure: bool, input: &mut Input<'_>) {
    let ticket = cluster.tickets().get(EntityType::Osd).expect("asked for").clone();
    let secrets = cluster.secrets.get(EntityType::Osd).expect("asked for").clone();
    let mut login = ServiceLogin::new(&ticket, 4100, &mut cluster.rng);
    let mut acceptor = ServiceAcceptor::new(EntityType::Osd);
    let honest = said(&acceptor.handle_request(&login.request(), &secrets, NOW, &mut cluster.rng));
    let (more, _) = script(&mut cluster, &honest, 0, input);
    let Ok(answer) = login.handle_more(&more, &mut cluster.rng) else {
        return assert!(login.handle_done(secure, &[]).is_err(), "it is over");
    };
    let done = acceptor.handle_more(&answer, secure, &secrets, NOW, &mut cluster.rng);
    let (payload, knows_keys) = script(&mut cluster, &said(&done), nonce.wrapping_add(1), input);
    let Ok(authorized) = login.handle_done(secure, &payload) else { return };
    assert!(knows_keys, "nobody else can end a login");
    assert_eq!(authorized.connection_secret.is_some(), secure);
}

/// A monitor or a service whose client says what the fuzzer wants. Options as above; then two scripts.
pub fn cephx_server(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let mut cluster = Cluster::new(options);
    let secure = options & 2 != 0;
    if options & 8 != 0 {
        return service_server(cluster, secure, &mut input);
    }
    let mut login = match options & 4 {
        0 => cluster.login(),
        _ => MonitorLogin::new(client(), cluster.key.clone(), ServiceMask::OSD, None),
    };
    let mut acceptor = MonitorAcceptor::new();
    let (request, _) = script(&mut cluster, &login.request(), 0, &mut input);
    let step = acceptor.handle_request(&request, &mut cluster.rng);
    let honest = login.handle_more(&said(&step), &mut cluster.rng).unwrap_or_default();
    let (more, knows_keys) = script(&mut cluster, &honest, 0, &mut input);
    let step = cluster.accept(&mut acceptor, &more, secure);
    if let Step::Done(accepted) = step {
        assert!(knows_keys, "nobody else can prove a key");
        assert_eq!((accepted.entity, accepted.global_id), (client(), 4100));
        assert_eq!(accepted.connection_secret.is_some(), secure);
    }
    assert!(
        matches!(cluster.accept(&mut acceptor, &more, secure), Step::Refused(_)),
        "a challenge is good for once"
    );
}

fn service_server(mut cluster: Cluster, secure: bool, input: &mut Input<'_>) {
    let ticket = cluster.tickets().get(EntityType::Osd).expect("asked for").clone();
    let secrets = cluster.secrets.get(EntityType::Osd).expect("asked for").clone();
    let mut login = ServiceLogin::new(&ticket, 4100, &mut cluster.rng);
    let mut acceptor = ServiceAcceptor::new(EntityType::Osd);
    let (request, _) = script(&mut cluster, &login.request(), 0, input);
    let step = acceptor.handle_request(&request, &secrets, NOW, &mut cluster.rng);
    let honest = login.handle_more(&said(&step), &mut cluster.rng).unwrap_or_default();
    let (more, knows_keys) = script(&mut cluster, &honest, 0, input);
    let step = acceptor.handle_more(&more, secure, &secrets, NOW, &mut cluster.rng);
    if let Step::Done(accepted) = step {
        assert!(knows_keys, "nobody else can show a ticket");
        assert_eq!(accepted.connection_secret.is_some(), secure);
    }
    let again = acceptor.handle_more(&more, secure, &secrets, NOW, &mut cluster.rng);
    assert!(matches!(again, Step::Refused(_)), "a challenge is good for once");
}
