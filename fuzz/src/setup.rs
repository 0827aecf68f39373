//! Processes as the targets need them, the same each time.

use crate::process::Process;
use outlast_cephx::keyring::Entry;
use outlast_cephx::server::TicketSecrets;
use outlast_cephx::{EntityName, EntityType, Key, KeyType, Keyring, ServiceMask, Timestamp};
use outlast_msgr2::compress::Algorithm;
use outlast_msgr2::connection::FEATURE_OUTLAST_CLOSE;
use outlast_msgr2::endpoint::SESSIONS_PER_NAME_MAX;
use outlast_msgr2::wire::{AddrVec, ConnectionMode, EntityAddr, FEATURE_REVISION_1};
use outlast_msgr2::{
    Authority, ConnectionConfig, Credential, EndpointConfig, Matching, Policy, SessionConfig,
};
use outlast_session::{GapPolicy, Lifetime, OutboxLimits, ThrottleLimits};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const WALL: Timestamp = Timestamp::new(1_790_000_000, 0);

/// Messages that may wait for an application.
pub const INBOUND_MESSAGES_MAX: usize = 64;
/// Bytes that may.
pub const INBOUND_BYTES_MAX: usize = 256 << 10;
/// Bytes that a session keeps of what was sent.
pub const OUTBOX_BYTES_MAX: usize = 512 << 10;
/// Messages that it keeps.
pub const OUTBOX_MESSAGES_MAX: usize = 128;

/// How processes talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Nothing proven, crc.
    None,
    /// cephx, crc.
    Crc,
    /// cephx, secure.
    Secure,
}

/// What may differ.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// How they talk.
    pub security: Security,
    /// msgr2.1.
    pub revision_1: bool,
    /// How sessions are found again.
    pub matching: Matching,
    /// Compression is offered and granted.
    pub compression: Option<Algorithm>,
}

/// Where the process listens that everybody dials.
#[must_use]
pub fn place(number: u8) -> EntityAddr {
    EntityAddr::msgr2(SocketAddr::from(([10, 0, 0, number], 6800)), 1)
}

/// A session with small bounds.
#[must_use]
pub fn session(policy: Policy, matching: Matching) -> SessionConfig {
    SessionConfig {
        matching,
        outbox: OutboxLimits { bytes_max: OUTBOX_BYTES_MAX, messages_max: OUTBOX_MESSAGES_MAX },
        inbound: ThrottleLimits { messages_max: INBOUND_MESSAGES_MAX, bytes_max: INBOUND_BYTES_MAX },
        lifetime: Lifetime::For(Duration::from_secs(3600)),
        gaps: GapPolicy::Accept,
        ..SessionConfig::new(policy)
    }
}

type Shared = (BTreeMap<EntityName, Key>, Arc<Keyring>, Arc<TicketSecrets>);

/// Keys and secrets take time to make, and are never changed.
static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let mut rng = StdRng::seed_from_u64(11);
    let mut keys = BTreeMap::new();
    let mut keyring = Keyring::new();
    for name in ["client.a", "osd.1", "osd.2"] {
        let name: EntityName = name.parse().expect("a good name");
        let key = Key::generate(KeyType::Aes256k, WALL, &mut rng);
        keyring.insert(name.clone(), Entry::new(key.clone()));
        keys.insert(name, key);
    }
    let secrets = TicketSecrets::generate(KeyType::Aes256k, ServiceMask::NONE, WALL, &mut rng);
    (keys, Arc::new(keyring), Arc::new(secrets))
});

/// A process of this name; `listens` has the number of its place.
#[must_use]
pub fn process(name: &str, listens: Option<u8>, accepted: SessionConfig, choice: Choice) -> Process {
    let name: EntityName = name.parse().expect("a good name");
    let mut connection = ConnectionConfig::new(name.entity_type().number());
    if name.entity_type() != EntityType::Client {
        connection.number = name.id().parse().ok();
    }
    if choice.matching == Matching::Identity {
        connection.msgr2_supported |= FEATURE_OUTLAST_CLOSE;
    }
    if !choice.revision_1 {
        connection.msgr2_supported &= !FEATURE_REVISION_1;
    }
    connection.allow_secure_revision_0 = true;
    connection.compression.algorithms = choice.compression.into_iter().collect();
    connection.compression.in_secure_mode = true;
    connection.compression.threshold_bytes = 64;
    connection.modes = match choice.security {
        Security::None | Security::Crc => vec![ConnectionMode::CRC],
        Security::Secure => vec![ConnectionMode::SECURE],
    };
    let (keys, keyring, secrets) = &*SHARED;
    let (authority, credential) = match choice.security {
        Security::None => (Authority::None, Credential::None { name: name.clone(), global_id: 0 }),
        Security::Crc | Security::Secure => (
            Authority::Monitor {
                keys: Arc::<Keyring>::clone(keyring),
                secrets: Arc::clone(secrets),
                now: WALL,
            },
            Credential::Key {
                name: name.clone(),
                key: keys[&name].clone(),
                want: ServiceMask::NONE,
                previous: None,
                now: WALL,
            },
        ),
    };
    let config = EndpointConfig {
        addresses: listens.map_or_else(AddrVec::default, |number| place(number).into()),
        nonce: 1,
        connection: Arc::new(connection),
        accepted: BTreeMap::new(),
        accepted_default: accepted,
        sessions_per_name_max: SESSIONS_PER_NAME_MAX,
        name,
    };
    Process::new(config, credential, authority, listens.unwrap_or(0))
}
