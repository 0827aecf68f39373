//! The endpoint: what belongs to the process.
//!
//! It knows which sessions there are and by what they are found again, counts the process's attempts to connect, and
//! decides what becomes of a newcomer ([`decide`]). It holds no session: the driver does, and lends the one that
//! [`Endpoint::locate`] names to [`Endpoint::decide`], which weighs and changes it in one go.
//!
//! **What puts something in:** [`Endpoint::connect`], [`Endpoint::dial`], [`Endpoint::accept`], [`Endpoint::decide`],
//! [`Endpoint::learn_address`], [`Endpoint::raise_global_seq`], [`Endpoint::bury`]. What comes out is returned; there
//! is nothing to poll.
//!
//! **The rule for crossed connections, in words:** of two connections that two peers open to each other at the same
//! time, the one opened by the lower address (between our own ends: the lower name) survives. The end that answers WAIT
//! owes its own connection, and dials even with nothing to send.

mod closed;
pub mod decide;

pub use closed::CLOSED_SESSIONS_MAX;
pub use decide::{Answer, Decision, Introduced, Located, SessionRequest};

use crate::connection::{Authority, Connection, ConnectionConfig, Credential, Start};
use crate::ids::{ChannelId, SessionId};
use crate::random::Generator;
use crate::session::{Matching, Session, SessionConfig, SessionState, Target};
use crate::wire::{AddrVec, CookieTag, EntityAddr};
use outlast_cephx::EntityName;
use outlast_session::Instant;
use rand_core::Rng;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Sessions that one process keeps at most.
pub const SESSIONS_MAX: usize = 65_536;
/// Sessions that came in and belong to one authenticated name, unless another number is set: a sixteenth of all, so that
/// one key alone cannot keep the others out.
pub const SESSIONS_PER_NAME_MAX: usize = SESSIONS_MAX / 16;

/// What a session is found again by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The address vector that the peer claims.
    Addresses(AddrVec),
    /// A client's authenticated name, and the cookie it chose for this session.
    Client { name: EntityName, cookie: u64 },
    /// A peer's authenticated name: there is one session with it.
    Peer { name: EntityName },
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(addresses) => f.debug_tuple("Addresses").field(addresses).finish(),
            Self::Client { name, cookie } => {
                f.debug_struct("Client").field("name", name).field("cookie", &CookieTag(*cookie)).finish()
            }
            Self::Peer { name } => f.debug_struct("Peer").field("name", name).finish(),
        }
    }
}

/// [`Endpoint::connect`] was given no address to dial: the user's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address to connect to")]
pub struct NoAddress;

/// What is known of a session.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    keys: Vec<Key>,
    /// The name among whose sessions it counts.
    owner: Option<EntityName>,
}

/// What an endpoint is made with.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Our own name; decides crossed connections between our own ends.
    pub name: EntityName,
    /// Our addresses; empty for a client, which learns one.
    pub addresses: AddrVec,
    /// Tells two incarnations of a process at one address apart; random.
    pub nonce: u32,
    /// What connections are made with.
    pub connection: Arc<ConnectionConfig>,
    /// What accepted sessions are made with, by the peer's entity type.
    pub accepted: BTreeMap<u8, SessionConfig>,
    /// What sessions of the types not named there are made with.
    pub accepted_default: SessionConfig,
    /// Sessions that may have come in from one authenticated name; further newcomers are refused with
    /// [`crate::ConnectionError::TooManySessionsOfName`]. Who proves no name is not counted.
    pub sessions_per_name_max: usize,
}

/// One process's sessions. See the [module](self) for the contract.
pub struct Endpoint {
    pub(crate) config: EndpointConfig,
    global_seq: u64,
    next_id: u64,
    pub(crate) keys: BTreeMap<Key, SessionId>,
    pub(crate) by_id: BTreeMap<SessionId, Entry>,
    /// How many of them came in, by the name that their peers proved. No entry is 0.
    by_name: BTreeMap<EntityName, usize>,
    closed: closed::Closed,
    rng: Generator,
}

/// Without the keys that sessions are found by: cookies are among them.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.config.name)
            .field("addresses", &self.config.addresses)
            .field("sessions", &self.by_id.len())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint; all its randomness comes from `seed`, which must be unpredictable outside of tests.
    #[must_use]
    pub fn new(config: EndpointConfig, seed: [u8; 32]) -> Self {
        Self {
            config,
            global_seq: 0,
            next_id: 0,
            keys: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            closed: closed::Closed::default(),
            rng: Generator::from_seed(seed),
        }
    }

    /// Our addresses.
    #[must_use]
    pub const fn addresses(&self) -> &AddrVec {
        &self.config.addresses
    }

    /// An address that is being listened on.
    pub fn add_address(&mut self, address: EntityAddr) {
        if !self.config.addresses.contains(&address) {
            self.config.addresses.0.push(address);
        }
    }

    /// The process's nonce.
    #[must_use]
    pub const fn nonce(&self) -> u32 {
        self.config.nonce
    }

    /// What connections are made with.
    #[must_use]
    pub fn connection_config(&self) -> &ConnectionConfig {
        &self.config.connection
    }

    /// Sessions that are known.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.by_id.len()
    }

    /// Sessions that came in from whoever proved this name.
    #[must_use]
    pub fn sessions_of(&self, name: &EntityName) -> usize {
        self.by_name.get(name).copied().unwrap_or(0)
    }

    /// A client adopts the address under which its first peer sees it.
    pub fn learn_address(&mut self, address: EntityAddr) {
        if self.config.addresses.is_blank() {
            self.config.addresses = AddrVec(vec![address]);
        }
    }

    /// A peer knows of a later attempt of ours than we do.
    pub fn raise_global_seq(&mut self, global_seq: u64) {
        self.global_seq = self.global_seq.max(global_seq);
    }

    pub(crate) fn next_global_seq(&mut self) -> u64 {
        self.global_seq = self.global_seq.saturating_add(1);
        self.global_seq
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A generator for a session or a connection.
    pub(crate) fn generator(&mut self) -> Generator {
        self.rng.fork()
    }

    /// A random number that is not 0.
    pub(crate) fn cookie(&mut self) -> u64 {
        loop {
            let cookie = self.rng.next_u64();
            if cookie != 0 {
                return cookie;
            }
        }
    }

    /// The session that a newcomer from `target` would be given, if `config` is that of a peer: there is one session
    /// between two equals, so ask before opening another with [`Endpoint::connect`]. None for a client, which may have
    /// as many as it likes, and for a peer that is known by its name but was not named.
    ///
    /// It may have ended already, as long as nobody has said so with [`Endpoint::bury`].
    #[must_use]
    pub fn registered(&self, target: &Target, config: &SessionConfig) -> Option<SessionId> {
        self.keys.get(&key_of_dialled(target, config)?).copied()
    }

    /// A new session that dials `target`. It waits to be dialled: ask its [`Session::poll_dial`].
    ///
    /// Of two sessions with one peer the one opened last is found when the peer dials; a reconnection that belongs to
    /// the other is then answered with a reset, and the peer's application told. That is right when the other has ended
    /// and was not yet forgotten; else ask [`Endpoint::registered`] first.
    ///
    /// # Errors
    /// The target has no address, so that the session could only wait for ever.
    pub fn connect(
        &mut self,
        target: Target,
        config: SessionConfig,
        now: Instant,
    ) -> Result<Session, NoAddress> {
        if target.addresses.0.is_empty() {
            return Err(NoAddress);
        }
        let id = SessionId(self.next_id());
        let key = key_of_dialled(&target, &config);
        let rng = self.generator();
        let mut session = Session::new(id, config, SessionState::Pausing { until: now }, now, rng);
        session.target = Some(target);
        self.register(id, key, None);
        Ok(session)
    }

    /// A connection for a session that wants one ([`Session::poll_dial`]); the driver opens the transport to `target`
    /// and runs it. If the transport cannot be opened, report [`crate::ConnectionError::Unreachable`] to
    /// [`Session::connection_lost`] with this connection's id.
    pub fn dial(
        &mut self,
        session: &mut Session,
        target: EntityAddr,
        credential: Credential,
        now: Instant,
    ) -> Connection {
        let global_seq = self.next_global_seq();
        let start = self.start(global_seq, target, now);
        session.set_state(SessionState::Connecting { channel: start.id });
        Connection::dialled(start, session, credential)
    }

    /// A connection that came in from `peer`.
    pub fn accept(&mut self, peer: EntityAddr, authority: Arc<Authority>, now: Instant) -> Connection {
        // Client numbers are positive in Ceph, and a daemon's number is its own.
        let global_id = self.rng.next_u64() >> 1;
        let start = self.start(0, peer, now);
        Connection::accepted(start, authority, global_id.max(1))
    }

    fn start(&mut self, global_seq: u64, peer_socket: EntityAddr, now: Instant) -> Start {
        Start {
            id: ChannelId(self.next_id()),
            config: Arc::clone(&self.config.connection),
            addresses: self.config.addresses.clone(),
            nonce: self.config.nonce,
            global_seq,
            peer_socket,
            rng: self.generator(),
            now,
        }
    }

    /// Makes the session known, and lets it be found by the key from now on. `owner` is the name that a newcomer proved.
    pub(crate) fn register(&mut self, id: SessionId, key: Option<Key>, owner: Option<EntityName>) {
        if let Some(name) = &owner {
            *self.by_name.entry(name.clone()).or_default() += 1;
        }
        let entry = self.by_id.entry(id).or_default();
        entry.owner = owner;
        if let Some(key) = key {
            entry.keys.push(key.clone());
            self.keys.insert(key, id);
        }
    }

    /// The session that is found by this key, whose driver no longer has it, is forgotten.
    pub(crate) fn forget_registered(&mut self, key: &Key) {
        if let Some(id) = self.keys.get(key) {
            self.forget(*id);
        }
    }

    /// The session has ended: nothing finds it any more. If this end has closed it, its peer is told so should it come
    /// back for it ([`CLOSED_SESSIONS_MAX`]).
    pub fn bury(&mut self, session: &Session) {
        if let Some(entry) = self.by_id.get(&session.id()) {
            self.closed.note(&entry.keys, session);
        }
        self.forget(session.id());
    }

    /// Nothing finds the session any more, and nothing of it is remembered. The one place where entries end.
    pub fn forget(&mut self, id: SessionId) {
        let Some(entry) = self.by_id.remove(&id) else { return };
        for key in entry.keys {
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        }
        let Some(name) = entry.owner else { return };
        match self.sessions_of(&name) {
            0 | 1 => self.by_name.remove(&name),
            more => self.by_name.insert(name, more - 1),
        };
    }
}

/// By what a session that this end opens is found when its peer dials. Only equals dial each other: who comes from the
/// address that a client dials wants a session of its own, and must not hide or be given the client's.
fn key_of_dialled(target: &Target, config: &SessionConfig) -> Option<Key> {
    if !config.policy.is_peer() {
        return None;
    }
    match (config.matching, &target.name) {
        (Matching::Address, _) => Some(Key::Addresses(target.addresses.clone())),
        (Matching::Identity, Some(name)) => Some(Key::Peer { name: name.clone() }),
        (Matching::Identity, None) => None,
    }
}
