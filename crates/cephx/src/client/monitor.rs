//! A client's login at a monitor.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand_core::CryptoRng;

use super::{LoginError, Stage, connection_secret, undecipherable};
use crate::crypt::{self, Usage, open};
use crate::message::{Authenticate, ClientPart, MonitorRequest, decode_challenge, decode_response_header};
use crate::ticket::{ServiceMask, Ticket, TicketBlob, Tickets};
use crate::wire::{Reader, Writer};
use crate::{ConnectionSecret, DecodeError, EntityName, EntityType, Key, Timestamp};

/// One login at a monitor, with the key of an entity.
///
/// The driver sends what [`request`](Self::request) gives as the payload of an `AUTH_REQUEST`, answers the
/// `AUTH_REPLY_MORE` with what [`handle_more`](Self::handle_more) makes of it, and gives the payload of the `AUTH_DONE`
/// to [`handle_done`](Self::handle_done).
///
/// Source: `src/auth/cephx/CephxClientHandler.cc`, `src/mon/MonClient.cc` (`MonConnection::get_auth_request`).
#[derive(Debug)]
pub struct MonitorLogin {
    name: EntityName,
    key: Key,
    want: ServiceMask,
    previous: Option<Tickets>,
    stage: Stage,
}

/// What a login at a monitor brings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Login {
    /// The number of this client in the cluster.
    pub global_id: u64,
    /// The key that signs the handshake.
    pub session_key: Key,
    /// The secret for the connection's encryption, when it will be secure.
    pub connection_secret: Option<ConnectionSecret>,
    /// The auth ticket and those of the wanted services.
    pub tickets: Tickets,
}

/// More tickets than this in one answer are refused: the mask that asks for them has 32 bits.
const TICKETS_MAX: u32 = 32;

impl MonitorLogin {
    /// A login as `name`, whose key is `key`, that asks for tickets for the services in `want`.
    ///
    /// With the tickets of an earlier login, the client keeps its number. A monitor that no longer has the secret they
    /// were sealed with refuses (it must, or anyone could claim a number: CVE-2021-20288); log in without them then, for
    /// a new number.
    pub fn new(name: EntityName, key: Key, want: ServiceMask, previous: Option<Tickets>) -> Self {
        MonitorLogin { name, key, want: want | ServiceMask::AUTH, previous, stage: Stage::Start }
    }

    /// The payload of the `AUTH_REQUEST`. To call it again starts the login again.
    pub fn request(&mut self) -> Bytes {
        let global_id = self.previous.as_ref().map_or(0, |tickets| tickets.global_id);
        let mut out = Writer::new();
        MonitorRequest { name: self.name.clone(), global_id }.encode(&mut out);
        self.stage = Stage::Requested;
        out.into_bytes()
    }

    /// Takes the monitor's challenge, the payload of its `AUTH_REPLY_MORE`, and gives the payload of the
    /// `AUTH_REQUEST_MORE` that answers it.
    ///
    /// # Errors
    ///
    /// The peer's fault: the message cannot be read, or came out of turn. The connection is over.
    pub fn handle_more(&mut self, payload: &[u8], rng: &mut dyn CryptoRng) -> Result<Bytes, LoginError> {
        self.stage.leave(Stage::Requested)?;
        let server_challenge = decode_challenge(&mut Reader::new(payload))?;
        let client_challenge = rng.next_u64();
        let mut out = Writer::new();
        Authenticate {
            client_challenge,
            proof: crypt::proof(&self.key, server_challenge, client_challenge),
            old_ticket: self.previous.as_ref().map(|tickets| tickets.auth.blob.clone()).unwrap_or_default(),
            other_keys: self.want.bits(),
        }
        .encode(&mut out);
        self.stage = Stage::Answered;
        Ok(out.into_bytes())
    }

    /// Takes the end of the exchange, an `AUTH_DONE` with this `global_id` and this payload. `secure` tells whether
    /// its mode encrypts the connection; `now` dates the tickets, whose validity is relative.
    ///
    /// # Errors
    ///
    /// The peer's fault: above all, that it does not know our key. The connection is over.
    pub fn handle_done(
        &mut self,
        global_id: u64,
        secure: bool,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<Login, LoginError> {
        self.stage.leave(Stage::Answered)?;
        let mut input = Reader::new(payload);
        let status = decode_response_header(&mut input)?;
        if status != 0 {
            return Err(LoginError::Refused { errno: status });
        }
        let old_key = self.previous.as_ref().map(|tickets| &tickets.auth.session_key);
        let mut tickets = decode_tickets(&mut input, &self.key, old_key, now)?;
        let auth = tickets.remove(&EntityType::Auth).ok_or(LoginError::NoAuthTicket)?;
        let mut tickets = Tickets { global_id, auth, services: tickets };
        let session_key = tickets.auth.session_key.clone();

        // A monitor older than Nautilus ends here.
        if input.is_empty() {
            let connection_secret = connection_secret(secure, &[])?;
            return Ok(Login { global_id, session_key, connection_secret, tickets });
        }
        let secret = decode_secret(input.prefixed("a connection secret")?, secure, &session_key)?;
        let extra = input.prefixed("further tickets")?;
        if !extra.is_empty() {
            let mut further = decode_tickets(&mut Reader::new(extra), &session_key, None, now)?;
            // Monitors up to 16.2.0 send a second auth ticket; the first is the one the session key is from.
            further.remove(&EntityType::Auth);
            tickets.services.append(&mut further);
        }
        Ok(Login { global_id, session_key, connection_secret: secret, tickets })
    }
}

/// The blob is there in every mode, and in the plain one holds a sealed empty string.
fn decode_secret(
    blob: &[u8],
    secure: bool,
    session_key: &Key,
) -> Result<Option<ConnectionSecret>, LoginError> {
    const PART: &str = "the connection secret";
    if blob.is_empty() {
        return connection_secret(secure, &[]);
    }
    let sealed = Reader::new(blob).prefixed(PART)?;
    let secret = open(session_key, Usage::AuthConnectionSecret, sealed).map_err(undecipherable(PART))?;
    connection_secret(secure, Reader::new(&secret).prefixed(PART)?)
}

/// A ticket reply (`cephx_build_service_ticket_reply`). `key` opens the parts for us, `old_key` a renewed auth ticket.
fn decode_tickets(
    input: &mut Reader<'_>,
    key: &Key,
    old_key: Option<&Key>,
    now: Timestamp,
) -> Result<BTreeMap<EntityType, Ticket>, LoginError> {
    const FIELD: &str = "the count of tickets";
    input.version(1, "a reply of tickets")?;
    let count = input.u32(FIELD)?;
    if count > TICKETS_MAX {
        return Err(
            DecodeError::TooMany { field: FIELD, count: count as usize, max: TICKETS_MAX as usize }.into()
        );
    }
    let mut tickets = BTreeMap::new();
    for _ in 0..count {
        let ticket = decode_ticket(input, key, old_key, now)?;
        tickets.insert(ticket.service, ticket);
    }
    Ok(tickets)
}

fn decode_ticket(
    input: &mut Reader<'_>,
    key: &Key,
    old_key: Option<&Key>,
    now: Timestamp,
) -> Result<Ticket, LoginError> {
    let service = EntityType::decode(input, "a ticket's service")?;
    input.version(1, "a ticket")?;
    let sealed = input.prefixed("a ticket's session key")?;
    let ours =
        open(key, Usage::TicketSessionKey, sealed).map_err(undecipherable("a ticket's session key"))?;
    let ClientPart { session_key, validity } = ClientPart::decode(&mut Reader::new(&ours))?;

    let is_sealed = input.u8("a ticket's encryption")? != 0;
    let blob = input.prefixed("a ticket's blob")?;
    let blob = if is_sealed {
        let old_key = old_key.ok_or(LoginError::NoOldTicket { service })?;
        let opened = open(old_key, Usage::TicketBlob, blob).map_err(undecipherable("a ticket's blob"))?;
        TicketBlob::decode(&mut Reader::new(Reader::new(&opened).prefixed("a ticket's blob")?))?
    } else {
        TicketBlob::decode(&mut Reader::new(blob))?
    };
    Ok(Ticket { service, session_key, blob, validity, expires: now.saturating_add(validity) })
}
