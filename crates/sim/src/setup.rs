//! Processes as the tests need them: keys, policies, addresses.

use crate::world::ProcessConfig;
use outlast_cephx::server::{Keys, TicketSecrets};
use outlast_cephx::{EntityName, EntityType, Key, KeyType, ServiceMask, Timestamp};
use outlast_msgr2::connection::FEATURE_OUTLAST_CLOSE;
use outlast_msgr2::endpoint::SESSIONS_PER_NAME_MAX;
use outlast_msgr2::wire::{AddrVec, ConnectionMode};
use outlast_msgr2::{
    Authority, ConnectionConfig, Credential, EndpointConfig, Matching, Policy, SessionConfig,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The time that tickets are dated with.
pub const WALL: Timestamp = Timestamp::new(1_790_000_000, 0);

/// Keys by name.
#[derive(Debug, Clone, Default)]
pub struct KeyTable(pub BTreeMap<EntityName, Key>);

impl Keys for KeyTable {
    fn key(&self, name: &EntityName) -> Option<&Key> {
        self.0.get(name)
    }
}

/// How two processes talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Auth none, crc.
    None,
    /// cephx, crc.
    Crc,
    /// cephx, secure.
    Secure,
}

/// The port that process number `index` listens on.
#[must_use]
pub fn address(index: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, index], 6800))
}

/// The key that everybody of this name has in every run.
#[must_use]
pub fn key_of(name: &EntityName) -> Key {
    let seed = name.to_string().bytes().fold(0_u64, |h, b| h.wrapping_mul(131).wrapping_add(u64::from(b)));
    Key::generate(KeyType::Aes256k, WALL, &mut StdRng::seed_from_u64(seed))
}

/// A process: its name, whether it listens, and what it promises whom.
#[must_use]
pub fn process(
    name: &str,
    listen: Option<SocketAddr>,
    accepted: SessionConfig,
    security: Security,
) -> ProcessConfig {
    let name: EntityName = name.parse().expect("a name of a test");
    let mut connection = ConnectionConfig::new(name.entity_type().number());
    if name.entity_type() != EntityType::Client {
        connection.number = Some(name.id().parse().unwrap_or(0));
    }
    if accepted.matching == Matching::Identity {
        connection.msgr2_supported |= FEATURE_OUTLAST_CLOSE;
    }
    connection.modes = match security {
        Security::None | Security::Crc => vec![ConnectionMode::CRC],
        Security::Secure => vec![ConnectionMode::SECURE],
    };
    let (authority, credential) = match security {
        Security::None => (Authority::None, Credential::None { name: name.clone(), global_id: 0 }),
        Security::Crc | Security::Secure => {
            let mut keys = KeyTable::default();
            for known in ["client.a", "client.b", "client.c", "osd.1", "osd.2", "osd.3", "mon.1"] {
                let known: EntityName = known.parse().expect("a name of a test");
                keys.0.insert(known.clone(), key_of(&known));
            }
            let rng = &mut StdRng::seed_from_u64(7);
            let secrets = TicketSecrets::generate(KeyType::Aes256k, ServiceMask::NONE, WALL, rng);
            let authority =
                Authority::Monitor { keys: Arc::new(keys), secrets: Arc::new(secrets), now: WALL };
            let key = key_of(&name);
            let credential = Credential::Key {
                name: name.clone(),
                key,
                want: ServiceMask::NONE,
                previous: None,
                now: WALL,
            };
            (authority, credential)
        }
    };
    ProcessConfig {
        endpoint: EndpointConfig {
            name,
            addresses: AddrVec::default(),
            nonce: 1,
            connection: Arc::new(connection),
            accepted: BTreeMap::new(),
            accepted_default: accepted,
            sessions_per_name_max: SESSIONS_PER_NAME_MAX,
        },
        listen,
        authority: Arc::new(authority),
        credential,
        keep_nonce: false,
    }
}

/// Defaults of a policy, matched by address as Ceph does.
#[must_use]
pub fn ceph(policy: Policy) -> SessionConfig {
    SessionConfig::new(policy)
}

/// Defaults of a policy, matched by identity as between our own ends.
#[must_use]
pub fn ours(policy: Policy) -> SessionConfig {
    SessionConfig { matching: Matching::Identity, ..SessionConfig::new(policy) }
}
