//! Authentication within the handshake: which method is tried, and who the peer turns out to be. The methods
//! themselves are [`outlast_cephx`]'s.

use crate::error::ConnectionError;
use crate::wire::{AuthBadMethod, AuthDone, AuthMethod, AuthRequest, AuthRequestMore, ConnectionMode};
use bytes::Bytes;
use outlast_cephx::client::{LoginError, MonitorLogin, ServiceLogin};
use outlast_cephx::server::{
    Accepted, Keys, MonitorAcceptor, REFUSED_ERRNO, ServiceAcceptor, ServiceSecrets, Step, TicketSecrets,
};
use outlast_cephx::{
    AuthMode, ConnectionSecret, EntityName, EntityType, Key, ServiceMask, Ticket, Tickets, Timestamp, none,
    server,
};
use rand_core::CryptoRng;
use std::fmt;
use std::sync::Arc;

pub use outlast_cephx::server::Refusal;

/// EOPNOTSUPP: the method, or every mode that was offered, is not allowed.
const NOT_ALLOWED_ERRNO: i32 = -95;

/// What a dialling end proves itself with.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nothing: the peer believes the name. crc mode only, because there is no secret for another.
    None {
        /// Who we say we are.
        name: EntityName,
        /// The number that a monitor gave us; 0 for none.
        global_id: u64,
    },
    /// A key, shown to a monitor, or to an Outlast listener, which takes a monitor's part.
    Key {
        /// Whose key.
        name: EntityName,
        /// The key.
        key: Key,
        /// The services that tickets are wanted for.
        want: ServiceMask,
        /// What an earlier login brought; keeps our number.
        previous: Option<Box<Tickets>>,
        /// The time, for how long the tickets last.
        now: Timestamp,
    },
    /// A ticket, shown to the service that it is for.
    Ticket {
        /// Who we are.
        name: EntityName,
        /// The ticket.
        ticket: Box<Ticket>,
        /// The number that the monitor gave us.
        global_id: u64,
    },
}

impl Credential {
    const fn method(&self) -> AuthMethod {
        match self {
            Self::None { .. } => AuthMethod::NONE,
            Self::Key { .. } | Self::Ticket { .. } => AuthMethod::CEPHX,
        }
    }

    /// Who we are.
    #[must_use]
    pub const fn name(&self) -> &EntityName {
        match self {
            Self::None { name, .. } | Self::Key { name, .. } | Self::Ticket { name, .. } => name,
        }
    }
}

/// What an accepting end lets peers in by.
pub enum Authority {
    /// Whoever comes, in crc mode, by the name that they say.
    None,
    /// Whoever proves a key; hands out tickets, as a monitor does.
    Monitor {
        /// Everybody's keys.
        keys: Arc<dyn Keys + Send + Sync>,
        /// What tickets are sealed with.
        secrets: Arc<TicketSecrets>,
        /// The time, for the tickets' dates.
        now: Timestamp,
    },
    /// Whoever shows a ticket for this service.
    Service {
        /// Which service this is.
        service: EntityType,
        /// Its rotating secrets.
        secrets: Arc<ServiceSecrets>,
        /// The time, for the tickets' dates.
        now: Timestamp,
    },
    /// Not known yet: requests wait (EBUSY) until [`crate::Connection::retry_authentication`] brings another, or the
    /// handshake's deadline passes.
    Busy,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "Authority::None",
            Self::Monitor { .. } => "Authority::Monitor",
            Self::Service { .. } => "Authority::Service",
            Self::Busy => "Authority::Busy",
        })
    }
}

/// The peer, authenticated.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// By which method. After [`AuthMethod::NONE`] nothing is proven.
    pub method: AuthMethod,
    /// The client's name: the peer's on the accepting end, ours on the dialling one.
    pub client: EntityName,
    /// The client's number.
    pub global_id: u64,
    /// What the login brought; on a dialling end that showed a key.
    pub tickets: Option<Box<Tickets>>,
    session_key: Option<Key>,
    connection_secret: Option<ConnectionSecret>,
}

impl Authenticated {
    /// The client's name, if it is more than a claim.
    #[must_use]
    pub fn proven_name(&self) -> Option<EntityName> {
        self.session_key.as_ref().map(|_| self.client.clone())
    }

    /// The type of the key that signed the handshake.
    #[must_use]
    pub fn session_key_type(&self) -> Option<outlast_cephx::KeyType> {
        self.session_key.as_ref().map(Key::key_type)
    }

    /// The signature over one direction of the handshake; zeros where there is no key to sign with.
    pub(super) fn sign(&self, transcript: &[u8]) -> [u8; 32] {
        self.session_key.as_ref().map_or([0; 32], |key| key.hmac_sha256(&[transcript]))
    }

    pub(super) fn with_secret<T, E>(
        &self,
        make: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<T, ConnectionError> {
        let secret = self.connection_secret.as_ref().map_or(&[][..], ConnectionSecret::as_bytes);
        make(secret).map_err(|_| LoginError::SecretLength { len: secret.len() }.into())
    }
}

// ---------------------------------------------------------------------- the dialling end

enum Login {
    None,
    Monitor(Box<MonitorLogin>),
    Service(Box<ServiceLogin>),
}

/// The dialling end's part.
pub(super) struct ClientAuth {
    credential: Credential,
    login: Login,
    peer_type: u8,
    offered: Vec<ConnectionMode>,
}

impl ClientAuth {
    pub(super) fn new(credential: Credential) -> Self {
        Self { credential, login: Login::None, peer_type: 0, offered: Vec::new() }
    }

    pub(super) fn first(
        &mut self,
        peer_type: u8,
        modes: &[ConnectionMode],
        rng: &mut dyn CryptoRng,
    ) -> Result<AuthRequest, ConnectionError> {
        self.peer_type = peer_type;
        self.request(modes, rng)
    }

    fn request(
        &mut self,
        modes: &[ConnectionMode],
        rng: &mut dyn CryptoRng,
    ) -> Result<AuthRequest, ConnectionError> {
        let (login, payload, modes) = match &self.credential {
            Credential::None { name, global_id } => {
                let payload = if self.peer_type == EntityType::Mon.number() {
                    none::monitor_request(name, *global_id)
                } else {
                    none::service_request(name, *global_id)
                };
                // There is no secret, hence no other mode.
                let crc = modes.iter().copied().filter(|m| *m == ConnectionMode::CRC).collect();
                (Login::None, payload, crc)
            }
            Credential::Key { name, key, want, previous, .. } => {
                let previous = previous.as_deref().cloned();
                let mut login = MonitorLogin::new(name.clone(), key.clone(), *want, previous);
                let payload = login.request();
                (Login::Monitor(Box::new(login)), payload, modes.to_vec())
            }
            Credential::Ticket { ticket, global_id, .. } => {
                let mut login = ServiceLogin::new(ticket, *global_id, rng);
                let payload = login.request();
                (Login::Service(Box::new(login)), payload, modes.to_vec())
            }
        };
        if modes.is_empty() {
            return Err(ConnectionError::NoCommonMethod);
        }
        self.login = login;
        self.offered.clone_from(&modes);
        Ok(AuthRequest { method: self.credential.method(), preferred_modes: modes, payload })
    }

    /// The acceptor said no, and what it allows. Trying again makes sense only with other modes: the credential is the
    /// only one there is. A login that showed old tickets is tried once without them.
    pub(super) fn bad_method(
        &mut self,
        bad: &AuthBadMethod,
        modes: &[ConnectionMode],
        rng: &mut dyn CryptoRng,
    ) -> Result<AuthRequest, ConnectionError> {
        let refused = ConnectionError::AuthRefused { method: bad.method, result: bad.result };
        if !bad.allowed_methods.contains(&self.credential.method()) {
            return Err(refused);
        }
        if bad.result == REFUSED_ERRNO {
            let Credential::Key { previous, .. } = &mut self.credential else { return Err(refused) };
            if previous.take().is_none() {
                return Err(refused);
            }
            return self.request(modes, rng);
        }
        let common: Vec<_> = modes.iter().copied().filter(|m| bad.allowed_modes.contains(m)).collect();
        if common.is_empty() || common == self.offered {
            return Err(refused);
        }
        self.request(&common, rng)
    }

    pub(super) fn more(
        &mut self,
        payload: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<AuthRequestMore, ConnectionError> {
        let payload = match &mut self.login {
            Login::None => return Err(LoginError::OutOfTurn.into()),
            Login::Monitor(login) => login.handle_more(payload, rng)?,
            Login::Service(login) => login.handle_more(payload, rng)?,
        };
        Ok(AuthRequestMore { payload })
    }

    pub(super) fn done(&mut self, done: &AuthDone) -> Result<Authenticated, ConnectionError> {
        if !self.offered.contains(&done.mode) {
            return Err(ConnectionError::ModeNotOffered(done.mode));
        }
        let secure = done.mode == ConnectionMode::SECURE;
        let mut authenticated = Authenticated {
            method: self.credential.method(),
            client: self.credential.name().clone(),
            global_id: done.global_id,
            tickets: None,
            session_key: None,
            connection_secret: None,
        };
        match &mut self.login {
            Login::None => {}
            Login::Monitor(login) => {
                let Credential::Key { now, .. } = &self.credential else {
                    return Err(LoginError::OutOfTurn.into());
                };
                let login = login.handle_done(done.global_id, secure, &done.payload, *now)?;
                authenticated.session_key = Some(login.session_key);
                authenticated.connection_secret = login.connection_secret;
                authenticated.tickets = Some(Box::new(login.tickets));
            }
            Login::Service(login) => {
                let authorized = login.handle_done(secure, &done.payload)?;
                authenticated.session_key = Some(authorized.session_key);
                authenticated.connection_secret = authorized.connection_secret;
            }
        }
        Ok(authenticated)
    }
}

// ---------------------------------------------------------------------- the accepting end

/// What the accepting end does next.
pub(super) enum ServerStep {
    More(Bytes),
    Done(AuthDone, Box<Authenticated>),
    Bad(AuthBadMethod),
    /// EBUSY.
    Busy,
}

enum Acceptor {
    Monitor(MonitorAcceptor),
    Service(ServiceAcceptor),
}

/// The accepting end's part.
pub(super) struct ServerAuth {
    authority: Arc<Authority>,
    acceptor: Option<Acceptor>,
    /// The mode that is settled once a request was taken.
    mode: ConnectionMode,
    /// The number for a client that has none.
    global_id: u64,
    /// What came while the authority was busy.
    waiting: Option<(AuthRequest, u8)>,
    refusal: Option<Refusal>,
}

impl ServerAuth {
    pub(super) fn new(authority: Arc<Authority>, global_id: u64) -> Self {
        Self {
            authority,
            acceptor: None,
            mode: ConnectionMode::UNKNOWN,
            global_id,
            waiting: None,
            refusal: None,
        }
    }

    pub(super) fn set_authority(&mut self, authority: Arc<Authority>) {
        self.authority = authority;
    }

    /// Why the peer was last refused; not what it was told.
    pub(super) const fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    fn method(&self) -> AuthMethod {
        match &*self.authority {
            Authority::None => AuthMethod::NONE,
            Authority::Monitor { .. } | Authority::Service { .. } | Authority::Busy => AuthMethod::CEPHX,
        }
    }

    /// What this end allows: with the method none there is no secret, so crc alone.
    fn allowed(&self, modes: &[ConnectionMode]) -> Vec<ConnectionMode> {
        let secret = self.method() != AuthMethod::NONE;
        modes.iter().copied().filter(|m| secret || *m == ConnectionMode::CRC).collect()
    }

    fn bad(&self, request_method: AuthMethod, result: i32, modes: &[ConnectionMode]) -> ServerStep {
        ServerStep::Bad(AuthBadMethod {
            method: request_method,
            result,
            allowed_methods: vec![self.method()],
            allowed_modes: self.allowed(modes),
        })
    }

    pub(super) fn request(
        &mut self,
        request: &AuthRequest,
        peer_type: u8,
        modes: &[ConnectionMode],
        rng: &mut dyn CryptoRng,
    ) -> Result<ServerStep, ConnectionError> {
        self.acceptor = None;
        if matches!(*self.authority, Authority::Busy) {
            self.waiting = Some((request.clone(), peer_type));
            return Ok(ServerStep::Busy);
        }
        // The first of the dialler's preferences that is allowed here (Ceph: `AuthRegistry::pick_mode`).
        let allowed = self.allowed(modes);
        let mode = request.preferred_modes.iter().copied().find(|m| allowed.contains(m));
        let (true, Some(mode)) = (request.method == self.method(), mode) else {
            return Ok(self.bad(request.method, NOT_ALLOWED_ERRNO, modes));
        };
        self.mode = mode;
        let step = match &*self.authority {
            Authority::Busy => return Ok(ServerStep::Busy),
            Authority::None => return Ok(self.believe(&request.payload, peer_type, modes)),
            Authority::Monitor { .. } => {
                let mut acceptor = MonitorAcceptor::new();
                let step = acceptor.handle_request(&request.payload, rng);
                self.acceptor = Some(Acceptor::Monitor(acceptor));
                step
            }
            Authority::Service { service, secrets, now } => {
                let mut acceptor = ServiceAcceptor::new(*service);
                let step = acceptor.handle_request(&request.payload, secrets, *now, rng);
                self.acceptor = Some(Acceptor::Service(acceptor));
                step
            }
        };
        Ok(self.step(step, modes))
    }

    pub(super) fn more(
        &mut self,
        payload: &[u8],
        modes: &[ConnectionMode],
        rng: &mut dyn CryptoRng,
    ) -> Result<ServerStep, ConnectionError> {
        let secure = self.mode == ConnectionMode::SECURE;
        let fresh_id = self.global_id;
        let step = match (&mut self.acceptor, &*self.authority) {
            (Some(Acceptor::Monitor(acceptor)), Authority::Monitor { keys, secrets, now }) => {
                let authority = server::Authority { keys: &**keys, secrets, now: *now };
                acceptor.handle_more(payload, secure, &authority, &mut || fresh_id, rng)
            }
            (Some(Acceptor::Service(acceptor)), Authority::Service { secrets, now, .. }) => {
                acceptor.handle_more(payload, secure, secrets, *now, rng)
            }
            (None | Some(_), _) => return Err(LoginError::OutOfTurn.into()),
        };
        Ok(self.step(step, modes))
    }

    /// Tries again what came while the authority was busy.
    pub(super) fn retry(
        &mut self,
        modes: &[ConnectionMode],
        rng: &mut dyn CryptoRng,
    ) -> Result<ServerStep, ConnectionError> {
        let Some((request, peer_type)) = self.waiting.take() else { return Ok(ServerStep::Busy) };
        self.request(&request, peer_type, modes, rng)
    }

    fn believe(&mut self, payload: &[u8], peer_type: u8, modes: &[ConnectionMode]) -> ServerStep {
        let claim = match none::accept(payload) {
            Ok(claim) => claim,
            Err(refusal) => return self.refuse(refusal, modes),
        };
        // A number that a monitor gave is kept towards services; a monitor gives one. A daemon that sends nothing at
        // all (Ceph's test programs) is known by its HELLO alone.
        let to_service = claim.mode == Some(AuthMode::Service);
        let global_id = if to_service && claim.global_id != 0 { claim.global_id } else { self.global_id };
        let client = match (claim.mode, EntityType::from_number(u32::from(peer_type))) {
            (None, Some(entity_type)) => EntityName::new(entity_type, ""),
            (None | Some(_), _) => claim.entity,
        };
        let authenticated = Authenticated {
            method: AuthMethod::NONE,
            client,
            global_id,
            tickets: None,
            session_key: None,
            connection_secret: None,
        };
        let done = AuthDone { global_id, mode: ConnectionMode::CRC, payload: Bytes::new() };
        ServerStep::Done(done, Box::new(authenticated))
    }

    fn refuse(&mut self, refusal: Refusal, modes: &[ConnectionMode]) -> ServerStep {
        let errno = refusal.errno;
        self.refusal = Some(refusal);
        self.bad(self.method(), errno, modes)
    }

    fn step(&mut self, step: Step, modes: &[ConnectionMode]) -> ServerStep {
        match step {
            Step::More(payload) => ServerStep::More(payload),
            Step::Refused(refusal) => self.refuse(refusal, modes),
            Step::Done(accepted) => {
                let Accepted { entity, global_id, payload, session_key, connection_secret, .. } = *accepted;
                let authenticated = Authenticated {
                    method: AuthMethod::CEPHX,
                    client: entity,
                    global_id,
                    tickets: None,
                    session_key: Some(session_key),
                    connection_secret,
                };
                ServerStep::Done(AuthDone { global_id, mode: self.mode, payload }, Box::new(authenticated))
            }
        }
    }
}
