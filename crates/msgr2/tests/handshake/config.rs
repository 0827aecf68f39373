//! Names, keys and configurations.

use outlast_cephx::server::{Keys, TicketSecrets};
use outlast_cephx::{EntityName, Key, KeyType, ServiceMask, Timestamp};
use outlast_msgr2::endpoint::SESSIONS_PER_NAME_MAX;
use outlast_msgr2::wire::{AddrVec, EntityAddr};
use outlast_msgr2::{Authority, ConnectionConfig, Credential, EndpointConfig, Policy, SessionConfig, Target};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) const OSD: u8 = 4;
pub(crate) const CLIENT: u8 = 8;
const WALL: Timestamp = Timestamp::new(1_790_000_000, 0);

/// Where the accepting end listens.
pub(crate) fn server_address() -> EntityAddr {
    EntityAddr::msgr2(SocketAddr::from(([10, 0, 0, 2], 6800)), 22)
}

/// What the dialling end calls itself.
pub(crate) fn client_address() -> EntityAddr {
    EntityAddr::msgr2(SocketAddr::from(([10, 0, 0, 1], 6800)), 11)
}

pub(crate) fn target() -> Target {
    Target { addresses: server_address().into(), entity_type: Some(OSD), name: None }
}

pub(crate) fn connection(entity_type: u8) -> ConnectionConfig {
    let mut config = ConnectionConfig::new(entity_type);
    if entity_type == OSD {
        config.number = Some(2);
    }
    config
}

pub(crate) fn endpoint(
    name: &str,
    address: EntityAddr,
    connection: ConnectionConfig,
    policy: Policy,
) -> EndpointConfig {
    EndpointConfig {
        name: name.parse().expect("a name"),
        addresses: AddrVec::from(address),
        nonce: address.nonce,
        connection: Arc::new(connection),
        accepted: BTreeMap::new(),
        accepted_default: SessionConfig::new(policy),
        sessions_per_name_max: SESSIONS_PER_NAME_MAX,
    }
}

struct OneKey(EntityName, Key);

impl Keys for OneKey {
    fn key(&self, name: &EntityName) -> Option<&Key> {
        (*name == self.0).then_some(&self.1)
    }
}

fn key() -> Key {
    Key::generate(KeyType::Aes256k, WALL, &mut StdRng::seed_from_u64(3))
}

pub(crate) fn name() -> EntityName {
    "client.a".parse().expect("a name")
}

/// A monitor's part, with the key of `client.a`.
pub(crate) fn monitor() -> Authority {
    let rng = &mut StdRng::seed_from_u64(4);
    let secrets = TicketSecrets::generate(KeyType::Aes256k, ServiceMask::NONE, WALL, rng);
    Authority::Monitor { keys: Arc::new(OneKey(name(), key())), secrets: Arc::new(secrets), now: WALL }
}

/// The key of `client.a`.
pub(crate) fn with_key() -> Credential {
    Credential::Key { name: name(), key: key(), want: ServiceMask::NONE, previous: None, now: WALL }
}

pub(crate) fn without_key() -> Credential {
    Credential::None { name: name(), global_id: 0 }
}

/// What a monitor answers to a login, sealed for crc: without a connection secret.
pub(crate) fn monitor_answer_without_secret(
    challenge_answer: &[u8],
    acceptor: &mut MonitorPart,
) -> bytes::Bytes {
    let Authority::Monitor { keys, secrets, now } = monitor() else { panic!("a monitor") };
    let authority = outlast_cephx::server::Authority { keys: &*keys, secrets: &secrets, now };
    let rng = &mut StdRng::seed_from_u64(5);
    match acceptor.0.handle_more(challenge_answer, false, &authority, &mut || 4123, rng) {
        outlast_cephx::server::Step::Done(accepted) => accepted.payload,
        other => panic!("{other:?}"),
    }
}

/// The accepting half of a login, run by hand.
pub(crate) struct MonitorPart(pub(crate) outlast_cephx::server::MonitorAcceptor);

impl MonitorPart {
    pub(crate) fn challenge(request: &[u8]) -> (Self, bytes::Bytes) {
        let mut acceptor = outlast_cephx::server::MonitorAcceptor::new();
        match acceptor.handle_request(request, &mut StdRng::seed_from_u64(6)) {
            outlast_cephx::server::Step::More(payload) => (Self(acceptor), payload),
            other => panic!("{other:?}"),
        }
    }
}
