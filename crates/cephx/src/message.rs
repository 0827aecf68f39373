//! The structures of cephx, field by field (`src/auth/cephx/CephxProtocol.h`, `src/auth/Auth.h`).
//!
//! A version byte that is higher than the known one is taken: C++ adds fields at the end and reads what it knows.

use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroize as _;

use crate::ticket::TicketBlob;
use crate::wire::{DecodeError, Reader, Writer};
use crate::{EntityName, EntityType, Key, Timestamp};

/// `CEPHX_GET_AUTH_SESSION_KEY`: the request, and the response to it, of a login.
pub(crate) const GET_AUTH_SESSION_KEY: u16 = 0x0100;

/// The first byte of an authentication request says whom it speaks to (`AUTH_MODE_*` in `src/auth/Auth.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMode {
    /// To a service, with a ticket: 1 (an authorizer).
    Service,
    /// To a monitor, with a key: 10.
    Monitor,
}

const MODE_FIELD: &str = "the mode of an authentication";

impl AuthMode {
    pub(crate) const SERVICE: u8 = 1;
    pub(crate) const MONITOR: u8 = 10;

    /// What an authentication request with this payload wants. `None` for an empty one and for other numbers.
    pub fn of(payload: &[u8]) -> Option<Self> {
        match *payload.first()? {
            Self::SERVICE => Some(AuthMode::Service),
            Self::MONITOR => Some(AuthMode::Monitor),
            _ => None,
        }
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mode = input.u8(MODE_FIELD)?;
        Self::of(&[mode]).ok_or(DecodeError::Value { field: MODE_FIELD, value: u64::from(mode) })
    }

    fn check(input: &mut Reader<'_>, expected: AuthMode) -> Result<(), DecodeError> {
        let mode = Self::decode(input)?;
        if mode == expected {
            Ok(())
        } else {
            Err(DecodeError::Value { field: MODE_FIELD, value: u64::from(mode.number()) })
        }
    }

    const fn number(self) -> u8 {
        match self {
            AuthMode::Service => Self::SERVICE,
            AuthMode::Monitor => Self::MONITOR,
        }
    }
}

/// The first message to a monitor.
pub(crate) struct MonitorRequest {
    pub(crate) name: EntityName,
    pub(crate) global_id: u64,
}

impl MonitorRequest {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u8(AuthMode::MONITOR);
        self.name.encode(out);
        out.u64(self.global_id);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        AuthMode::check(input, AuthMode::Monitor)?;
        Ok(MonitorRequest { name: EntityName::decode(input)?, global_id: input.u64("a global id")? })
    }
}

/// `CephXServerChallenge` and `CephXAuthorizeChallenge`, which look alike; the second travels sealed.
pub(crate) fn encode_challenge(challenge: u64, out: &mut Writer) {
    out.u8(1);
    out.u64(challenge);
}

pub(crate) fn decode_challenge(input: &mut Reader<'_>) -> Result<u64, DecodeError> {
    input.version(1, "a challenge")?;
    input.u64("a challenge")
}

impl TicketBlob {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u8(1);
        out.u64(self.secret_id);
        out.prefixed(&self.sealed);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.version(1, "a ticket's blob")?;
        let secret_id = input.u64("a ticket's secret id")?;
        let sealed = input.prefixed("a ticket's blob")?;
        Ok(TicketBlob { secret_id, sealed: Bytes::copy_from_slice(sealed) })
    }
}

/// `CephXAuthenticate`, with its request header.
pub(crate) struct Authenticate {
    pub(crate) client_challenge: u64,
    pub(crate) proof: u64,
    pub(crate) old_ticket: TicketBlob,
    /// Zero from clients before Nautilus, which then get neither a connection secret nor further tickets.
    pub(crate) other_keys: u32,
}

impl Authenticate {
    /// With 3, a client promises to send its old ticket whenever it claims its old number.
    const VERSION: u8 = 3;

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u16(GET_AUTH_SESSION_KEY);
        out.u8(Self::VERSION);
        out.u64(self.client_challenge);
        out.u64(self.proof);
        self.old_ticket.encode(out);
        out.u32(self.other_keys);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        decode_request_type(input)?;
        let version = input.version(1, "an authentication")?;
        let client_challenge = input.u64("a client's challenge")?;
        let proof = input.u64("a proof")?;
        let old_ticket = TicketBlob::decode(input)?;
        let other_keys = if version >= 2 { input.u32("the wanted tickets")? } else { 0 };
        Ok(Authenticate { client_challenge, proof, old_ticket, other_keys })
    }
}

fn decode_request_type(input: &mut Reader<'_>) -> Result<(), DecodeError> {
    const FIELD: &str = "the type of a request";
    let request_type = input.u16(FIELD)?;
    if request_type == GET_AUTH_SESSION_KEY {
        Ok(())
    } else {
        Err(DecodeError::Value { field: FIELD, value: u64::from(request_type) })
    }
}

pub(crate) fn encode_response_header(status: i32, out: &mut Writer) {
    out.u16(GET_AUTH_SESSION_KEY);
    out.i32(status);
}

/// The status in front of a monitor's response: 0, or a negative error number.
pub(crate) fn decode_response_header(input: &mut Reader<'_>) -> Result<i32, DecodeError> {
    decode_request_type(input)?;
    input.i32("the status of a response")
}

/// `CephXServiceTicket`: a ticket's part for the client. Travels sealed.
pub(crate) struct ClientPart {
    pub(crate) session_key: Key,
    pub(crate) validity: Duration,
}

impl ClientPart {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u8(1);
        self.session_key.encode(out);
        Timestamp::from_unix(self.validity).encode(out);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.version(1, "a ticket")?;
        let session_key = Key::decode(input)?;
        let validity = Timestamp::decode(input)?.since_epoch();
        Ok(ClientPart { session_key, validity })
    }
}

/// `CephXServiceTicketInfo`: a ticket's part for the service. Travels sealed.
pub(crate) struct ServicePart {
    pub(crate) name: EntityName,
    pub(crate) global_id: u64,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
    /// What the client may do at this service, in the service's own language.
    pub(crate) caps: Option<String>,
    pub(crate) session_key: Key,
}

/// A field from Ceph's early days that every encoder fills with this (`CEPH_AUTH_UID_DEFAULT`).
const AUID_DEFAULT: u64 = u64::MAX;

impl ServicePart {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u8(1);
        // AuthTicket.
        out.u8(2);
        self.name.encode(out);
        out.u64(self.global_id);
        out.u64(AUID_DEFAULT);
        self.created.encode(out);
        self.expires.encode(out);
        // AuthCapsInfo: nobody is allowed everything by a ticket alone.
        out.u8(1);
        out.u8(0);
        let mut caps = Writer::new();
        if let Some(text) = &self.caps {
            caps.prefixed(text.as_bytes());
        }
        out.prefixed(caps.as_slice());
        // Flags.
        out.u32(0);
        self.session_key.encode(out);
    }

    /// Reads a ticket as strictly as Ceph does since tickets of type `aes` were found to be malleable
    /// (CVE-2025-30156): the fields that every encoder fills alike must have just these values.
    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.version(1, "a service's ticket")?;
        input.version(2, "a ticket's inside")?;
        let name = EntityName::decode(input)?;
        let global_id = input.u64("a ticket's global id")?;
        let auid = input.u64("a ticket's auid")?;
        if auid != AUID_DEFAULT {
            return Err(DecodeError::Value { field: "a ticket's auid", value: auid });
        }
        let created = Timestamp::decode(input)?;
        let expires = Timestamp::decode(input)?;
        input.version(1, "a ticket's capabilities")?;
        let allow_all = input.u8("a ticket's allow-all")?;
        if allow_all != 0 {
            return Err(DecodeError::Value { field: "a ticket's allow-all", value: u64::from(allow_all) });
        }
        let caps = decode_caps(input.prefixed("a ticket's capabilities")?)?;
        input.u32("a ticket's flags")?;
        let session_key = Key::decode(input)?;
        Ok(ServicePart { name, global_id, created, expires, caps, session_key })
    }
}

/// Capabilities are a string in a bufferlist, or an empty one. A string that ends before its bufferlist does has been
/// cut, and with it perhaps a restriction.
fn decode_caps(bytes: &[u8]) -> Result<Option<String>, DecodeError> {
    const FIELD: &str = "a ticket's capabilities";
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut input = Reader::new(bytes);
    let text = input.prefixed(FIELD)?;
    if !input.is_empty() {
        return Err(DecodeError::TooMany { field: FIELD, count: bytes.len(), max: text.len() + 4 });
    }
    let text = std::str::from_utf8(text).map_err(|_| DecodeError::Text { field: FIELD })?;
    Ok(Some(text.to_owned()))
}

/// An authorizer: what a client shows a service.
pub(crate) struct Authorizer<'a> {
    pub(crate) global_id: u64,
    pub(crate) service: EntityType,
    pub(crate) ticket: TicketBlob,
    /// [`Authorize`], sealed.
    pub(crate) authorize: &'a [u8],
}

impl<'a> Authorizer<'a> {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u8(AuthMode::SERVICE);
        out.u64(self.global_id);
        out.u32(u32::from(self.service.number()));
        self.ticket.encode(out);
        out.prefixed(self.authorize);
    }

    pub(crate) fn decode(input: &mut Reader<'a>) -> Result<Self, DecodeError> {
        AuthMode::check(input, AuthMode::Service)?;
        Ok(Authorizer {
            global_id: input.u64("an authorizer's global id")?,
            service: EntityType::decode(input, "an authorizer's service")?,
            ticket: TicketBlob::decode(input)?,
            authorize: input.prefixed("an authorizer's proof")?,
        })
    }
}

/// `CephXAuthorize`. Travels sealed.
pub(crate) struct Authorize {
    pub(crate) nonce: u64,
    /// The service's challenge plus one, once there is one.
    pub(crate) challenge_plus_one: Option<u64>,
}

impl Drop for Authorize {
    fn drop(&mut self) {
        self.nonce.zeroize();
        self.challenge_plus_one.zeroize();
    }
}

impl Authorize {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u8(2);
        out.u64(self.nonce);
        out.u8(u8::from(self.challenge_plus_one.is_some()));
        out.u64(self.challenge_plus_one.unwrap_or(0));
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = input.version(1, "an authorization")?;
        let nonce = input.u64("an authorization's nonce")?;
        if version < 2 {
            return Ok(Authorize { nonce, challenge_plus_one: None });
        }
        let have_challenge = input.u8("an authorization's challenge")? != 0;
        let challenge_plus_one = input.u64("an authorization's challenge")?;
        Ok(Authorize { nonce, challenge_plus_one: have_challenge.then_some(challenge_plus_one) })
    }
}

/// `CephXAuthorizeReply`, whose connection secret is empty unless the connection will be secure. Travels sealed.
pub(crate) fn encode_authorize_reply(nonce_plus_one: u64, connection_secret: &[u8], out: &mut Writer) {
    out.u8(if connection_secret.is_empty() { 1 } else { 2 });
    out.u64(nonce_plus_one);
    if !connection_secret.is_empty() {
        out.prefixed(connection_secret);
    }
}

pub(crate) fn decode_authorize_reply<'a>(input: &mut Reader<'a>) -> Result<(u64, &'a [u8]), DecodeError> {
    let version = input.version(1, "an authorization's reply")?;
    let nonce_plus_one = input.u64("a reply's nonce")?;
    let secret = if version >= 2 { input.prefixed("a connection secret")? } else { &[] };
    Ok((nonce_plus_one, secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyType;
    use proptest::prelude::*;

    fn written(encode: impl FnOnce(&mut Writer)) -> Bytes {
        let mut out = Writer::new();
        encode(&mut out);
        out.into_bytes()
    }

    fn any_key() -> impl Strategy<Value = Key> {
        (any::<bool>(), any::<[u8; 32]>(), any::<u32>()).prop_map(|(long, secret, seconds)| {
            let key_type = if long { KeyType::Aes256k } else { KeyType::Aes };
            let secret = &secret[..key_type.secret_bytes()];
            Key::new(key_type, Timestamp::new(seconds, 7), secret).unwrap()
        })
    }

    fn any_name() -> impl Strategy<Value = EntityName> {
        "[a-z0-9.]{0,20}".prop_map(|id| EntityName::new(EntityType::Client, &id))
    }

    /// All structures that are read from a peer, sealed or not. Whether each could be read.
    fn decode_each(bytes: &[u8]) -> [bool; 9] {
        let input = || Reader::new(bytes);
        [
            MonitorRequest::decode(&mut input()).is_ok(),
            decode_challenge(&mut input()).is_ok(),
            Authenticate::decode(&mut input()).is_ok(),
            decode_response_header(&mut input()).is_ok(),
            ClientPart::decode(&mut input()).is_ok(),
            ServicePart::decode(&mut input()).is_ok(),
            Authorizer::decode(&mut input()).is_ok(),
            Authorize::decode(&mut input()).is_ok(),
            decode_authorize_reply(&mut input()).is_ok(),
        ]
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_even_where_they_are_sealed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode_each(&bytes);
        }

        /// Near what is right, where the deeper fields are reached.
        #[test]
        fn a_changed_or_cut_structure_never_panics(
            name in any_name(), key in any_key(), caps in prop::option::of("[a-z ]{0,30}"),
            at in any::<prop::sample::Index>(), byte in any::<u8>(), len in any::<prop::sample::Index>(),
        ) {
            let now = Timestamp::new(9, 9);
            let part = ServicePart { name, global_id: 7, created: now, expires: now, caps, session_key: key };
            let mut bytes = written(|out| part.encode(out)).to_vec();
            prop_assert!(ServicePart::decode(&mut Reader::new(&bytes[..len.index(bytes.len())])).is_err());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            decode_each(&bytes);
            decode_each(&bytes[at..]);
        }

        #[test]
        fn a_ticket_comes_back(
            name in any_name(), key in any_key(), caps in prop::option::of("[a-z ]{0,30}"),
            global_id in any::<u64>(), created in any::<u32>(), expires in any::<u32>(),
        ) {
            let [created, expires] = [created, expires].map(|seconds| Timestamp::new(seconds, 5));
            let part = ServicePart { name, global_id, created, expires, caps, session_key: key };
            let bytes = written(|out| part.encode(out));
            let again = ServicePart::decode(&mut Reader::new(&bytes)).unwrap();
            prop_assert_eq!((&again.name, again.global_id), (&part.name, part.global_id));
            prop_assert_eq!((again.created, again.expires), (part.created, part.expires));
            prop_assert_eq!((&again.caps, &again.session_key), (&part.caps, &part.session_key));
            prop_assert_eq!(written(|out| again.encode(out)), bytes);
        }

        #[test]
        fn what_a_client_says_comes_back(
            name in any_name(), numbers in any::<[u64; 4]>(), other_keys in any::<u32>(),
            sealed in prop::collection::vec(any::<u8>(), 0..50), answers in any::<bool>(),
        ) {
            let [global_id, secret_id, one, other] = numbers;
            let request = written(|out| MonitorRequest { name: name.clone(), global_id }.encode(out));
            let again = MonitorRequest::decode(&mut Reader::new(&request)).unwrap();
            prop_assert_eq!((again.name, again.global_id), (name, global_id));

            let ticket = TicketBlob { secret_id, sealed: Bytes::copy_from_slice(&sealed) };
            let proof = Authenticate { client_challenge: one, proof: other, old_ticket: ticket.clone(), other_keys };
            let bytes = written(|out| proof.encode(out));
            let again = Authenticate::decode(&mut Reader::new(&bytes)).unwrap();
            prop_assert_eq!((again.client_challenge, again.proof, again.other_keys), (one, other, other_keys));
            prop_assert_eq!(&again.old_ticket, &ticket);

            let shown = Authorizer { global_id, service: EntityType::Osd, ticket, authorize: &sealed };
            let bytes = written(|out| shown.encode(out));
            let again = Authorizer::decode(&mut Reader::new(&bytes)).unwrap();
            prop_assert_eq!((again.global_id, &again.ticket, again.authorize), (global_id, &shown.ticket, &sealed[..]));

            let inside = Authorize { nonce: one, challenge_plus_one: answers.then_some(other) };
            let bytes = written(|out| inside.encode(out));
            let again = Authorize::decode(&mut Reader::new(&bytes)).unwrap();
            prop_assert_eq!((again.nonce, again.challenge_plus_one), (inside.nonce, inside.challenge_plus_one));
        }
    }
}
