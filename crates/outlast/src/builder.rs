//! How a messenger is made.

use crate::auth::{Auth, Guard, random};
use crate::error::BuildError;
use crate::messenger::{Inner, Messenger};
use crate::options::SessionOptions;
use outlast_cephx::{EntityName, EntityType, ServiceMask};
use outlast_msgr2::compress::Algorithm;
use outlast_msgr2::connection::FEATURE_OUTLAST_CLOSE;
use outlast_msgr2::endpoint::SESSIONS_PER_NAME_MAX;
use outlast_msgr2::wire::{AddrVec, ConnectionMode, EntityAddr, FEATURE_REVISION_1};
use outlast_msgr2::{ConnectionConfig, Endpoint, EndpointConfig, FEATURE_MSG_ADDR2, FEATURES_CEPH, Matching};
use outlast_net::{Clock, HALF_OPEN_MAX, HalfOpen};
use outlast_session::LivenessConfig;
use rand::Rng;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Sessions that may wait for [`crate::Messenger::accept`] unless another number is set; further newcomers are sent
/// away and come again.
pub const ACCEPT_QUEUE_MAX: usize = 1024;

/// Whose rules a messenger follows where Ceph's own and ours differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Between ends that are all Outlast: a session belongs to an authenticated name, whatever address it comes from;
    /// its end is told to the peer; with authentication everything is encrypted.
    #[default]
    Outlast,
    /// Towards Ceph: a session belongs to an address, and the bytes are exactly Ceph's.
    Ceph,
}

/// Makes a [`Messenger`]. Every setting but [`Builder::auth`] has a default.
#[derive(Debug, Clone)]
pub struct Builder {
    name: EntityName,
    auth: Option<Auth>,
    profile: Profile,
    modes: Option<Vec<ConnectionMode>>,
    accepted: SessionOptions,
    accepted_types: BTreeMap<u8, SessionOptions>,
    connection: ConnectionConfig,
    nonce: Option<u32>,
    advertise: AddrVec,
    features: Option<(u64, u64)>,
    accept_queue: usize,
    sessions_per_name_max: usize,
    half_open_max: usize,
    clock: Clock,
}

impl Builder {
    pub(crate) fn new(name: EntityName) -> Self {
        let mut connection = ConnectionConfig::new(name.entity_type().number());
        if name.entity_type() != EntityType::Client {
            // A daemon that is named by a number is that number.
            connection.number = Some(name.id().parse().unwrap_or(0));
        }
        Self {
            name,
            auth: None,
            profile: Profile::default(),
            modes: None,
            accepted: SessionOptions::server(),
            accepted_types: BTreeMap::new(),
            connection,
            nonce: None,
            advertise: AddrVec::default(),
            features: None,
            accept_queue: ACCEPT_QUEUE_MAX,
            sessions_per_name_max: SESSIONS_PER_NAME_MAX,
            half_open_max: HALF_OPEN_MAX,
            clock: Clock::new(),
        }
    }

    /// How to authenticate. Needed.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Whose rules to follow.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The connection modes that are allowed, the preferred one first. Default: secure alone between Outlast ends,
    /// secure and crc towards Ceph; crc alone with [`Auth::none`], which has no secret to encrypt with.
    #[must_use]
    pub fn modes(mut self, modes: impl IntoIterator<Item = ConnectionMode>) -> Self {
        self.modes = Some(modes.into_iter().collect());
        self
    }

    /// Compresses frames with the first of these that the peer has too. In secure mode only if `in_secure_mode`: the
    /// length of a compressed frame can tell of its content. Default: none.
    #[must_use]
    pub fn compression(
        mut self,
        algorithms: impl IntoIterator<Item = Algorithm>,
        in_secure_mode: bool,
    ) -> Self {
        self.connection.compression.algorithms = algorithms.into_iter().collect();
        self.connection.compression.in_secure_mode = in_secure_mode;
        self
    }

    /// What sessions that come in are made with. Default: [`SessionOptions::server`].
    #[must_use]
    pub fn accepted(mut self, options: SessionOptions) -> Self {
        self.accepted = options;
        self
    }

    /// What sessions are made with that come in from entities of this type.
    #[must_use]
    pub fn accepted_type(mut self, entity_type: EntityType, options: SessionOptions) -> Self {
        self.accepted_types.insert(entity_type.number(), options);
        self
    }

    /// When a silent peer is asked whether it is still there, and when it is given up.
    #[must_use]
    pub fn liveness(mut self, liveness: LivenessConfig) -> Self {
        self.connection.liveness = liveness;
        self
    }

    /// How long a connection may take to carry a session, from its first byte.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.connection.handshake_timeout = timeout;
        self
    }

    /// Does not offer msgr2.1, as a peer of before 2020 would not. With `secure`, msgr2.0's encryption is taken part
    /// in, whose lengths have to be decrypted before anything is authenticated.
    #[must_use]
    pub fn revision_0_only(mut self, secure: bool) -> Self {
        self.connection.msgr2_supported &= !FEATURE_REVISION_1;
        self.connection.allow_secure_revision_0 = secure;
        self
    }

    /// The Ceph features (`src/include/ceph_features.h`) that the encoding of the application's messages can keep up
    /// with, and those that it needs of the peer. Towards Ceph [`FEATURES_CEPH`] and MSG_ADDR2 unless told otherwise.
    #[must_use]
    pub fn features(mut self, supported: u64, required: u64) -> Self {
        self.features = Some((supported, required));
        self
    }

    /// A daemon's number, where its name does not say it.
    #[must_use]
    pub fn number(mut self, number: i64) -> Self {
        self.connection.number = Some(number);
        self
    }

    /// Tells this incarnation of the process from others at its address. Default: random. Ceph's monitors use 0,
    /// because their clients cannot know it.
    #[must_use]
    pub fn nonce(mut self, nonce: u32) -> Self {
        self.nonce = Some(nonce);
        self
    }

    /// An address to be told to peers as ours beside those that are listened on: the outer one of a NAT, or the one
    /// to use when listening on all.
    #[must_use]
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertise.0.push(EntityAddr::msgr2(address, 0));
        self
    }

    /// Sessions that may wait for [`Messenger::accept`].
    #[must_use]
    pub fn accept_queue(mut self, sessions: usize) -> Self {
        self.accept_queue = sessions;
        self
    }

    /// Sessions that may have come in from one authenticated name and not be over yet, with a connection or without. A
    /// further newcomer is refused with [`crate::ConnectionError::TooManySessionsOfName`] (in this end's log; its own end
    /// sees the connection close, and tries again). Default: [`SESSIONS_PER_NAME_MAX`], so that one key cannot take every
    /// place that there is; raise it where more machines than that share a key, lower it where a key is one machine's.
    /// With [`Auth::none`] there are no names to count by.
    #[must_use]
    pub fn sessions_per_name_max(mut self, sessions: usize) -> Self {
        self.sessions_per_name_max = sessions;
        self
    }

    /// Connections that may be in their handshake at once; further ones are closed.
    #[must_use]
    pub fn half_open_max(mut self, connections: usize) -> Self {
        self.half_open_max = connections;
        self
    }

    /// The clock to go by; a test can let it jump.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The messenger. It does nothing yet, and needs no runtime before it listens or connects.
    ///
    /// # Errors
    /// The settings contradict each other, or the system gives no random numbers.
    pub fn build(self) -> Result<Messenger, BuildError> {
        let auth = self.auth.ok_or(BuildError::NoAuth)?;
        let mut connection = self.connection;
        let (matching, default_modes) = match self.profile {
            Profile::Outlast => (Matching::Identity, vec![ConnectionMode::SECURE]),
            Profile::Ceph => (Matching::Address, vec![ConnectionMode::SECURE, ConnectionMode::CRC]),
        };
        let features = match (self.features, self.profile) {
            (Some(features), Profile::Outlast | Profile::Ceph) => Some(features),
            (None, Profile::Ceph) => Some((FEATURES_CEPH, FEATURE_MSG_ADDR2)),
            (None, Profile::Outlast) => None,
        };
        if let Some((supported, required)) = features {
            connection.features_supported = supported;
            connection.features_required = required;
        }
        if self.profile == Profile::Outlast {
            connection.msgr2_supported |= FEATURE_OUTLAST_CLOSE;
        }
        connection.modes = match (self.modes, auth.is_none()) {
            (None, true) => vec![ConnectionMode::CRC],
            (None, false) => default_modes,
            (Some(modes), false) => modes,
            (Some(modes), true) => modes.into_iter().filter(|m| *m == ConnectionMode::CRC).collect(),
        };
        if connection.modes.is_empty() {
            return Err(BuildError::NoMode);
        }
        let mut rng = random()?;
        let nonce = self.nonce.unwrap_or_else(|| rng.next_u32());
        let mut addresses = self.advertise;
        for address in &mut addresses.0 {
            address.nonce = nonce;
        }
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let mut own_seed = [0; 32];
        rng.fill_bytes(&mut own_seed);
        let accepted = self.accepted_types.iter().map(|(kind, o)| (*kind, o.config(matching))).collect();
        let handshake_timeout = connection.handshake_timeout;
        let config = EndpointConfig {
            name: self.name.clone(),
            addresses,
            nonce,
            connection: Arc::new(connection),
            accepted,
            accepted_default: self.accepted.config(matching),
            sessions_per_name_max: self.sessions_per_name_max,
        };
        let want = match self.profile {
            Profile::Outlast => ServiceMask::NONE,
            Profile::Ceph => ServiceMask::MON | ServiceMask::MDS | ServiceMask::OSD | ServiceMask::MGR,
        };
        let guard = Guard::new(&auth, want, &self.clock)?;
        let inner = Inner::new(
            self.name,
            Endpoint::new(config, seed),
            guard,
            matching,
            self.clock,
            HalfOpen::new(self.half_open_max),
            self.accept_queue,
            handshake_timeout,
            own_seed,
        );
        Ok(Messenger::new(inner))
    }
}
