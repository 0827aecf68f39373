//! One process's end of all its sessions.

use crate::auth::Guard;
use crate::builder::Builder;
use crate::carrier::Carrier;
use crate::core::{Core, Targets};
use crate::error::{ConnectError, ListenError};
use crate::keeper::{keep, target_of};
use crate::options::{ConnectOptions, GOODBYE_MAX};
use crate::session::Session;
use crate::wait::{Place, WaitList, wake};
use outlast_cephx::EntityName;
use outlast_msgr2::endpoint::SESSIONS_MAX;
use outlast_msgr2::wire::{AddrVec, EntityAddr};
use outlast_msgr2::{Credential, Endpoint, Matching, SessionId, Target};
use outlast_net::{Address, Clock, HalfOpen, Listener};
use outlast_session::Instant;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// What all handles of a messenger, its sessions and its tasks share.
pub(crate) struct Inner {
    pub(crate) name: EntityName,
    pub(crate) clock: Clock,
    pub(crate) handshake_timeout: Duration,
    guard: Guard,
    matching: Matching,
    half_open: HalfOpen,
    accept_max: usize,
    table: Mutex<Table>,
    door: Mutex<Door>,
}

/// The sessions, and what decides about them. Locked for decisions only; where a session's own lock is needed too, it
/// is taken second.
pub(crate) struct Table {
    pub(crate) endpoint: Endpoint,
    pub(crate) sessions: BTreeMap<SessionId, Arc<Core>>,
    rng: StdRng,
}

/// Sessions that came in and wait to be taken, and the tasks that let them in.
#[derive(Default)]
struct Door {
    waiting: VecDeque<Session>,
    takers: WaitList,
    listeners: Vec<AbortHandle>,
    shut: bool,
}

impl Inner {
    #[expect(clippy::too_many_arguments, reason = "called once, by the builder")]
    pub(crate) fn new(
        name: EntityName,
        endpoint: Endpoint,
        guard: Guard,
        matching: Matching,
        clock: Clock,
        half_open: HalfOpen,
        accept_max: usize,
        handshake_timeout: Duration,
        seed: [u8; 32],
    ) -> Self {
        Self {
            name,
            clock,
            handshake_timeout,
            guard,
            matching,
            half_open,
            accept_max,
            table: Mutex::new(Table { endpoint, sessions: BTreeMap::new(), rng: StdRng::from_seed(seed) }),
            door: Mutex::default(),
        }
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another session could be offered.
    pub(crate) fn may_accept(&self) -> bool {
        let door = self.door();
        !door.shut && door.waiting.len() < self.accept_max
    }

    /// A session that came in. If nobody can take it any more, it is closed.
    pub(crate) fn offer(&self, session: Session) {
        let mut wakes = Vec::new();
        let mut door = self.door();
        let refused = if door.shut || door.waiting.len() >= self.accept_max {
            Some(session)
        } else {
            door.waiting.push_back(session);
            door.takers.take(1, &mut wakes);
            None
        };
        drop(door);
        wake(&mut wakes);
        if let Some(session) = refused {
            session.abort();
        }
    }

    /// What a session that came in would dial back with; peers may have to.
    pub(crate) fn own_credential(&self) -> Option<Credential> {
        self.guard.credential(&self.name, &self.clock).ok()
    }

    /// The session is over: nothing finds it any more.
    pub(crate) fn bury(&self, core: &Core) {
        let mut table = self.table();
        table.endpoint.bury(&core.lock().session);
        table.sessions.remove(&core.id);
    }
}

impl Table {
    pub(crate) fn new_core(
        &mut self,
        inner: &Arc<Inner>,
        session: outlast_msgr2::Session,
        targets: Targets,
        credential: Option<Credential>,
        now: Instant,
    ) -> Arc<Core> {
        // Both ends number their calls: beginning anywhere in 64 bits they do not meet.
        let first_tid = self.rng.next_u64();
        let core = Arc::new(Core::new(Arc::clone(inner), session, targets, credential, first_tid, now));
        self.sessions.insert(core.id, Arc::clone(&core));
        core
    }
}

/// A process's end of its sessions: listens, dials and keeps them. Clones are handles of the same messenger.
///
/// Dropping the last handle stops listening; sessions live on as long as their own handles.
///
/// ```
/// # use outlast::{Auth, ConnectOptions, Keyring, KeyringEntry, Messenger, generate_key};
/// # use std::time::Duration;
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let key = generate_key()?;
/// # let mut keyring = Keyring::new();
/// # keyring.insert("client.copy".parse()?, KeyringEntry::new(key.clone()));
/// let server = Messenger::builder("mon.1".parse()?).auth(Auth::keyring(keyring)).build()?;
/// let address = server.listen("127.0.0.1:0".parse()?).await?;
///
/// let client = Messenger::builder("client.copy".parse()?).auth(Auth::key(key)).build()?;
/// let options = ConnectOptions::lossless().connect_within(Duration::from_secs(5));
/// let session = client.connect(&[address], options).await?; // several addresses are tried in turn
/// let accepted = server.accept().await.ok_or("the server is shut down")?;
/// assert_eq!(accepted.peer().to_string(), "client.copy");
///
/// client.shutdown(Duration::from_secs(10)).await; // closes its sessions in order
/// server.shutdown(Duration::from_secs(10)).await;
/// # assert!(session.end().is_some() && accepted.end().is_some());
/// # Ok(())
/// # }
/// ```
///
/// For speed, use sessions from tasks that were spawned: they are served faster than the future that `block_on` (and so
/// `#[tokio::main]`) runs itself, of which each wake-up costs a system call.
#[derive(Clone)]
pub struct Messenger {
    inner: Arc<Inner>,
    _open: Arc<Open>,
}

/// Lives as long as the user's handles.
struct Open(Arc<Inner>);

impl Drop for Open {
    fn drop(&mut self) {
        shut(&self.0);
    }
}

/// Lets nobody in any more.
fn shut(inner: &Inner) {
    let mut wakes = Vec::new();
    let mut door = inner.door();
    door.shut = true;
    for listener in door.listeners.drain(..) {
        listener.abort();
    }
    door.takers.take_all(&mut wakes);
    let untaken = std::mem::take(&mut door.waiting);
    drop(door);
    // Nobody knows of them yet; their peers are told that they are closed.
    drop(untaken);
    wake(&mut wakes);
}

impl Messenger {
    /// Begins to make a messenger of this name: `client.NAME`, or a daemon's such as `osd.3`.
    #[must_use]
    pub fn builder(name: EntityName) -> Builder {
        Builder::new(name)
    }

    pub(crate) fn new(inner: Inner) -> Self {
        let inner = Arc::new(inner);
        Self { _open: Arc::new(Open(Arc::clone(&inner))), inner }
    }

    /// Its own name.
    #[must_use]
    pub fn name(&self) -> &EntityName {
        &self.inner.name
    }

    /// The clock it goes by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    // ------------------------------------------------------------------ accepting

    /// Listens on `address` too. Returns the address with the port that was taken if 0 was asked for.
    ///
    /// # Errors
    /// The system would not have it, or there is no keyring to let anybody in by.
    pub async fn listen(&self, address: Address) -> Result<Address, ListenError> {
        self.inner.guard.authority(&self.inner.clock)?;
        let listener = Listener::bind(&address).await?;
        let bound = listener.address().clone();
        {
            let mut table = self.inner.table();
            // All addresses at once is none that a peer could dial.
            if let Some(ip) = bound.ip().filter(|ip| !ip.ip().is_unspecified()) {
                let nonce = table.endpoint.nonce();
                table.endpoint.add_address(EntityAddr::msgr2(ip, nonce));
            }
        }
        let task = tokio::spawn(let_in(Arc::clone(&self.inner), listener)).abort_handle();
        let mut door = self.inner.door();
        if door.shut {
            task.abort();
            return Err(ListenError::ShutDown);
        }
        door.listeners.push(task);
        tracing::info!(name = %self.inner.name, address = %bound, "listening");
        Ok(bound)
    }

    /// The next session that came in, established and, unless with [`crate::Auth::none`], authenticated. None once
    /// the messenger is shut down. Cancel-safe.
    ///
    /// Messages can have come in already, and the session can even be over by now; what came can be received.
    pub async fn accept(&self) -> Option<Session> {
        let mut taker = Taker { inner: &self.inner, place: None };
        poll_fn(|cx| {
            let mut door = self.inner.door();
            if let Some(session) = door.waiting.pop_front() {
                return Poll::Ready(Some(session));
            }
            if door.shut {
                return Poll::Ready(None);
            }
            door.takers.enter(&mut taker.place, cx.waker());
            Poll::Pending
        })
        .await
    }

    // ------------------------------------------------------------------ connecting

    /// Opens a session with whoever answers at one of the addresses, tried in turn, and waits until it is
    /// established.
    ///
    /// Cancel-safe: dropping the future ends the session.
    ///
    /// # Errors
    /// The peer refused it, or it was not established within [`ConnectOptions::connect_within`].
    pub async fn connect(
        &self,
        addresses: &[Address],
        options: ConnectOptions,
    ) -> Result<Session, ConnectError> {
        let within = options.within;
        let mut attempt = Attempt(None);
        let connected = async {
            let session = loop {
                match self.begin(addresses, options.clone())? {
                    Begun::Open(session) => break attempt.0.insert(session),
                    Begun::Closing(core) => core.ended().await,
                };
            };
            session.connected().await
        };
        match tokio::time::timeout(within, connected).await {
            Ok(Ok(())) => attempt.succeed().ok_or(ConnectError::ShutDown),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let last = attempt.0.as_ref().and_then(|session| session.core().lock().last_failure.clone());
                Err(ConnectError::TimedOut { within, last })
            }
        }
    }

    /// Opens a session without waiting for it: what is sent is queued until it is established. It keeps trying for as
    /// long as its lifetime lasts, unless it is refused; [`Session::events`] tells.
    ///
    /// A peer session ([`ConnectOptions::peer`]) with a name that there is one with already is that one.
    ///
    /// # Errors
    /// There is nothing to begin with: no address, no key of our own, no runtime. Or [`ConnectError::Closing`]: the one
    /// session with that peer is being closed; [`Messenger::connect`] waits for its end.
    pub fn open(&self, addresses: &[Address], options: ConnectOptions) -> Result<Session, ConnectError> {
        match self.begin(addresses, options)? {
            Begun::Open(session) => Ok(session),
            Begun::Closing(_) => Err(ConnectError::Closing),
        }
    }

    fn begin(&self, addresses: &[Address], options: ConnectOptions) -> Result<Begun, ConnectError> {
        let inner = &self.inner;
        let runtime = Handle::try_current().map_err(|_| ConnectError::NoRuntime)?;
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let credential = match options.credential {
            Some(credential) => credential,
            None => inner.guard.credential(&inner.name, &inner.clock)?,
        };
        let target = Target {
            addresses: AddrVec(addresses.iter().enumerate().map(|(i, a)| target_of(i, a)).collect()),
            entity_type: options.entity_type.map(|t| t.number()),
            name: options.name,
        };
        let now = inner.clock.now();
        let config = options.session.config(inner.matching);
        let mut table = inner.table();
        if inner.door().shut {
            return Err(ConnectError::ShutDown);
        }
        if config.policy.is_peer()
            && let Some(known) = table.sessions.values().find(|core| core.is_with(&target, inner.matching))
        {
            let known = Arc::clone(known);
            let open = known.lock().session.is_open();
            return Ok(if open { Begun::Open(Session::new(known)) } else { Begun::Closing(known) });
        }
        if table.endpoint.sessions() >= SESSIONS_MAX {
            return Err(ConnectError::TooManySessions);
        }
        let session = table.endpoint.connect(target, config, now).map_err(|_| ConnectError::NoAddress)?;
        let targets = Targets { addresses: addresses.to_vec(), known_as: options.known_as };
        let core = table.new_core(inner, session, targets, Some(credential), now);
        let session = Session::new(Arc::clone(&core));
        drop(table);
        runtime.spawn(keep(core));
        Ok(Begun::Open(session))
    }

    /// The sessions that are alive.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        let cores: Vec<_> = self.inner.table().sessions.values().cloned().collect();
        cores.into_iter().map(Session::new).collect()
    }

    /// Ends everything in order: stops listening, closes all sessions and waits until they have drained, for at most
    /// `drain_max`.
    pub async fn shutdown(&self, drain_max: Duration) {
        shut(&self.inner);
        let sessions = self.sessions();
        for session in &sessions {
            session.core().change(|locked, now| locked.session.close(now, drain_max));
        }
        for session in &sessions {
            session.ended().await;
        }
        let silent = async {
            for session in &sessions {
                session.core().silent().await;
            }
        };
        // Together, not each: they are written at the same time.
        let _ = tokio::time::timeout(GOODBYE_MAX, silent).await;
        tracing::info!(name = %self.inner.name, "shut down");
    }
}

impl fmt::Debug for Messenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messenger").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl Core {
    /// Whether this is the one session between us and that peer.
    fn is_with(&self, target: &Target, matching: Matching) -> bool {
        let locked = self.lock();
        let session = &locked.session;
        if !session.policy().is_peer() || session.end().is_some() {
            return false;
        }
        match (matching, &target.name) {
            (Matching::Identity, Some(name)) => {
                let wanted = session.target().and_then(|t| t.name.as_ref());
                session.peer().name.as_ref().or(wanted) == Some(name)
            }
            (Matching::Identity, None) => false,
            (Matching::Address, _) => {
                // Before the peer has said its own, those that are dialled.
                let dialled = session.target().is_some_and(|t| t.addresses == target.addresses);
                dialled || session.peer().addresses == target.addresses
            }
        }
    }
}

/// What there is with a peer that somebody wants a session with.
enum Begun {
    /// A session, new or known.
    Open(Session),
    /// The one session with it takes nothing more. A second beside it would be taken for the peer's only one, and what
    /// the first has not delivered yet would be lost.
    Closing(Arc<Core>),
}

/// A session that somebody waits for; ends if they give up.
struct Attempt(Option<Session>);

impl Attempt {
    fn succeed(mut self) -> Option<Session> {
        self.0.take()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            session.abort();
        }
    }
}

/// A place among those who wait for a session to come in.
struct Taker<'a> {
    inner: &'a Inner,
    place: Option<Place>,
}

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut wakes = Vec::new();
        let mut door = self.inner.door();
        if !door.takers.leave(place) && !door.waiting.is_empty() {
            door.takers.take(1, &mut wakes);
        }
        drop(door);
        wake(&mut wakes);
    }
}

/// The task of one listener.
async fn let_in(inner: Arc<Inner>, listener: Listener) {
    loop {
        let (socket, from) = listener.accept().await;
        let Some(place) = inner.half_open.enter() else {
            tracing::warn!(address = %from, "too many half-open connections, a newcomer was sent away");
            continue;
        };
        let authority = match inner.guard.authority(&inner.clock) {
            Ok(authority) => authority,
            Err(error) => {
                tracing::error!(address = %from, %error, "cannot let anybody in");
                continue;
            }
        };
        let peer = from.ip().map_or(EntityAddr::BLANK, |ip| EntityAddr::msgr2(ip, 0));
        let connection = inner.table().endpoint.accept(peer, authority, inner.clock.now());
        tracing::debug!(channel = connection.id().0, address = %from, "accepted a connection");
        let carrier = Carrier::accepted(Arc::clone(&inner), from, place);
        tokio::spawn(carrier.run(socket, Box::new(connection)));
    }
}
