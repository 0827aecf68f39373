//! A monitor lets clients in by their keys and hands out tickets.

use bytes::Bytes;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq as _;

use super::{Accepted, Keys, RefusalReason, Step, TicketSecrets};
use crate::crypt::{self, Usage, seal, seal_prefixed};
use crate::message::{
    Authenticate, ClientPart, MonitorRequest, ServicePart, encode_challenge, encode_response_header,
};
use crate::ticket::{ServiceMask, TicketBlob};
use crate::wire::{Reader, Writer};
use crate::{ConnectionSecret, EntityName, EntityType, Key, KeyType, Timestamp};

/// What a monitor decides by.
#[derive(Clone, Copy)]
pub struct Authority<'a> {
    /// Everybody's keys.
    pub keys: &'a dyn Keys,
    /// The secrets that seal tickets.
    pub secrets: &'a TicketSecrets,
    /// The time.
    pub now: Timestamp,
}

/// One login, seen from the monitor.
///
/// The driver gives the payload of the `AUTH_REQUEST` to [`handle_request`](Self::handle_request) and that of the
/// `AUTH_REQUEST_MORE` to [`handle_more`](Self::handle_more), and does what the [`Step`]s say. A challenge is good for
/// one answer, right or wrong; after a refusal another `AUTH_REQUEST` may come and gets another challenge.
///
/// ```text
/// Idle --handle_request--> Challenged --handle_more--> Idle
/// ```
///
/// Source: `src/auth/cephx/CephxServiceHandler.cc`.
#[derive(Debug, Default)]
pub struct MonitorAcceptor {
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Challenged {
        name: EntityName,
        /// The number the client claims to have; 0 for a new client.
        global_id: u64,
        challenge: u64,
    },
}

impl MonitorAcceptor {
    /// Waits for a request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the payload of an `AUTH_REQUEST`. Whether the entity is known is not looked up: an unknown one is
    /// challenged like any other and refused after its answer, so that nobody can list our clients by asking.
    pub fn handle_request(&mut self, payload: &[u8], rng: &mut dyn CryptoRng) -> Step {
        self.stage = Stage::Idle;
        Step::from(self.challenge(payload, rng))
    }

    fn challenge(&mut self, payload: &[u8], rng: &mut dyn CryptoRng) -> Result<Step, RefusalReason> {
        let MonitorRequest { name, global_id } = MonitorRequest::decode(&mut Reader::new(payload))?;
        let challenge = rng.next_u64();
        let mut out = Writer::new();
        encode_challenge(challenge, &mut out);
        self.stage = Stage::Challenged { name, global_id, challenge };
        Ok(Step::More(out.into_bytes()))
    }

    /// Takes the payload of an `AUTH_REQUEST_MORE`: the proof. `secure` tells whether the connection's mode encrypts;
    /// `allocate_global_id` gives a number that no client has or had, and is called only for a client that has proved
    /// its key and brings no number.
    pub fn handle_more(
        &mut self,
        payload: &[u8],
        secure: bool,
        authority: &Authority<'_>,
        allocate_global_id: &mut dyn FnMut() -> u64,
        rng: &mut dyn CryptoRng,
    ) -> Step {
        let stage = std::mem::take(&mut self.stage);
        Step::from(accept(stage, payload, secure, authority, allocate_global_id, rng))
    }
}

fn accept(
    stage: Stage,
    payload: &[u8],
    secure: bool,
    authority: &Authority<'_>,
    allocate_global_id: &mut dyn FnMut() -> u64,
    rng: &mut dyn CryptoRng,
) -> Result<Step, RefusalReason> {
    let (name, claimed, challenge) = match stage {
        Stage::Idle => return Err(RefusalReason::NoChallenge),
        Stage::Challenged { name, global_id, challenge } => (name, global_id, challenge),
    };
    let request = Authenticate::decode(&mut Reader::new(payload))?;
    let key = check_proof(&name, challenge, &request, authority.keys, authority.now, rng)?;
    let old_session_key = check_old_ticket(&name, claimed, &request.old_ticket, authority.secrets)?;
    if secure && request.other_keys == 0 {
        return Err(RefusalReason::NoSecretPossible);
    }

    let global_id = if claimed == 0 { allocate_global_id() } else { claimed };
    let client = Client { name: &name, global_id };
    let auth = issue(EntityType::Auth, client, key.key_type(), None, authority, rng)
        .ok_or(RefusalReason::NoSecrets)?;
    let session_key = auth.for_client.session_key.clone();
    let expires = auth.expires;

    let mut out = Writer::new();
    encode_response_header(0, &mut out);
    encode_tickets(&[auth], key, old_session_key.as_ref(), &mut out, rng);
    let mut connection_secret = None;
    if request.other_keys != 0 {
        if secure {
            connection_secret = Some(ConnectionSecret::generate(rng));
        }
        encode_secret(connection_secret.as_ref(), &session_key, &mut out, rng);
        let tickets: Vec<Issued> = ServiceMask::from_bits(request.other_keys)
            .iter()
            .filter(|service| *service != EntityType::Auth)
            .filter_map(|service| {
                let caps = authority.keys.caps(&name, service);
                issue(service, client, session_key.key_type(), caps, authority, rng)
            })
            .collect();
        let mut further = Writer::new();
        if !tickets.is_empty() {
            encode_tickets(&tickets, &session_key, None, &mut further, rng);
        }
        out.prefixed(further.as_slice());
    }
    let caps = authority.keys.caps(&name, EntityType::Mon).map(str::to_owned);
    Ok(Step::Done(Box::new(Accepted {
        entity: name,
        global_id,
        payload: out.into_bytes(),
        session_key,
        connection_secret,
        caps,
        expires,
    })))
}

/// The key of `name`, if the proof was made with it.
///
/// An unknown entity costs the same work as a wrong proof: one proof of each type is computed either way, with a decoy
/// for the key that is not there.
fn check_proof<'a>(
    name: &EntityName,
    challenge: u64,
    request: &Authenticate,
    keys: &'a dyn Keys,
    now: Timestamp,
    rng: &mut dyn CryptoRng,
) -> Result<&'a Key, RefusalReason> {
    let known = keys.key(name);
    let decoys = [KeyType::Aes, KeyType::Aes256k].map(|key_type| Key::generate(key_type, now, rng));
    let mut is_right = subtle::Choice::from(0);
    for decoy in &decoys {
        let key = known.filter(|key| key.key_type() == decoy.key_type());
        let expected = crypt::proof(key.unwrap_or(decoy), challenge, request.client_challenge);
        let counts = subtle::Choice::from(u8::from(key.is_some()));
        is_right |= counts & expected.ct_eq(&request.proof);
    }
    match known {
        Some(key) if bool::from(is_right) => Ok(key),
        Some(_) => Err(RefusalReason::Proof(name.clone())),
        None => Err(RefusalReason::Unknown(name.clone())),
    }
}

/// The session key of the old ticket, if a number is claimed and the ticket proves it.
///
/// Ceph compares the numbers; we compare the names, too: a number belongs to the entity it was given to. The ticket may
/// have expired as long as its secret lives: it is asked what it remembers, not what it allows.
fn check_old_ticket(
    name: &EntityName,
    claimed: u64,
    ticket: &TicketBlob,
    secrets: &TicketSecrets,
) -> Result<Option<Key>, RefusalReason> {
    let unproved = || RefusalReason::GlobalId { name: name.clone(), global_id: claimed };
    match (claimed, ticket.sealed.is_empty()) {
        (0, true) => Ok(None),
        (0, false) | (_, true) => Err(unproved()),
        (_, false) => {
            let secrets = secrets.get(EntityType::Auth).ok_or(RefusalReason::NoSecrets)?;
            let old = secrets.open_ticket(ticket).map_err(|_| unproved())?;
            if old.global_id == claimed && old.name == *name {
                Ok(Some(old.session_key))
            } else {
                Err(unproved())
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Client<'a> {
    name: &'a EntityName,
    global_id: u64,
}

/// A fresh ticket, both parts.
struct Issued {
    service: EntityType,
    for_client: ClientPart,
    for_service: TicketBlob,
    expires: Timestamp,
}

/// `None` when there is no secret for this service. The session key has the weaker of the two types that client and
/// service are known to understand.
fn issue(
    service: EntityType,
    client: Client<'_>,
    client_type: KeyType,
    caps: Option<&str>,
    authority: &Authority<'_>,
    rng: &mut dyn CryptoRng,
) -> Option<Issued> {
    let secrets = authority.secrets.get(service)?;
    let secret = secrets.current(authority.now);
    let session_key = Key::generate(client_type.min(secret.key.key_type()), authority.now, rng);
    let validity = secrets.validity();
    let expires = authority.now.saturating_add(validity);
    let mut part = Writer::new();
    ServicePart {
        name: client.name.clone(),
        global_id: client.global_id,
        created: authority.now,
        expires,
        caps: caps.map(str::to_owned),
        session_key: session_key.clone(),
    }
    .encode(&mut part);
    let sealed = Bytes::from(seal(&secret.key, Usage::TicketInfo, part.as_slice(), rng));
    let for_service = TicketBlob { secret_id: secret.id, sealed };
    Some(Issued { service, for_client: ClientPart { session_key, validity }, for_service, expires })
}

/// A ticket reply: `key` seals the parts for the client, `old_key` those for the service.
fn encode_tickets(
    tickets: &[Issued],
    key: &Key,
    old_key: Option<&Key>,
    out: &mut Writer,
    rng: &mut dyn CryptoRng,
) {
    out.u8(1);
    // One for each type of entity at most.
    out.u32(tickets.len() as u32);
    for ticket in tickets {
        out.u32(u32::from(ticket.service.number()));
        out.u8(1);
        let mut part = Writer::new();
        ticket.for_client.encode(&mut part);
        out.bytes(&seal_prefixed(key, Usage::TicketSessionKey, part.as_slice(), rng));
        let mut blob = Writer::new();
        ticket.for_service.encode(&mut blob);
        out.u8(u8::from(old_key.is_some()));
        match old_key {
            None => out.prefixed(blob.as_slice()),
            Some(old_key) => {
                let mut prefixed = Writer::new();
                prefixed.prefixed(blob.as_slice());
                out.bytes(&seal_prefixed(old_key, Usage::TicketBlob, prefixed.as_slice(), rng));
            }
        }
    }
}

/// Three lengths in front of one another: of the blob, of what is sealed in it, and of the secret in that.
fn encode_secret(
    secret: Option<&ConnectionSecret>,
    session_key: &Key,
    out: &mut Writer,
    rng: &mut dyn CryptoRng,
) {
    let mut inner = Writer::new();
    inner.prefixed(secret.map_or(&[], ConnectionSecret::as_bytes));
    out.prefixed(&seal_prefixed(session_key, Usage::AuthConnectionSecret, inner.as_slice(), rng));
}
