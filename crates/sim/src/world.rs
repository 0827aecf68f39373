//! The world: processes, the links between them, and time.
//!
//! Everything is in one thread and in one order: the next thing that happens is the earliest of all deliveries and
//! deadlines, ties broken by number. The processes run the production [`Endpoint`], [`Session`] and [`Connection`]; what
//! a driver does in production, [`World`] does here: it carries bytes, locks nothing, and polls in the order of their
//! contract.

mod drive;

use crate::bugs::Planted;
use crate::link::{Direction, Link, LinkId};
use crate::watch::Watch;
use outlast_cephx::EntityName;
use outlast_msgr2::connection::State;
use outlast_msgr2::wire::EntityAddr;
use outlast_msgr2::{
    Authority, ChannelId, Connection, ConnectionError, Credential, Endpoint, EndpointConfig, Matching,
    Message, Received, SendError, Session, SessionConfig, SessionEvent, SessionId, Target,
};
use outlast_session::{Instant, MessageId, StreamChannel};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A process of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(pub usize);

/// What a process is made with; kept, so that it can restart.
#[derive(Clone)]
pub struct ProcessConfig {
    /// What its endpoint is made with. The nonce is drawn anew at each start unless `keep_nonce`.
    pub endpoint: EndpointConfig,
    /// Where it listens; None: it only dials.
    pub listen: Option<SocketAddr>,
    /// What it lets others in by.
    pub authority: Arc<Authority>,
    /// What it proves itself with.
    pub credential: Credential,
    /// A restarted process has the nonce of the one before.
    pub keep_nonce: bool,
}

/// A connection and the link under it.
pub struct Attached {
    /// The connection.
    pub connection: Connection,
    /// The link that carries its bytes.
    pub link: LinkId,
    /// Which end of the link this is.
    pub end: Direction,
}

/// One process: an endpoint, what it keeps, and what it has seen.
pub struct Process {
    /// What it was made with.
    pub config: ProcessConfig,
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// Its sessions, the ended ones too.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Its live connections.
    pub connections: BTreeMap<ChannelId, Attached>,
    /// What happened to its sessions, in order.
    pub events: Vec<(SessionId, SessionEvent)>,
    /// What its application was given, in order.
    pub delivered: Vec<(SessionId, Received)>,
    /// Messages that were to be taken back, and whether they were.
    pub revocations: Vec<(SessionId, MessageId, bool)>,
    /// Connections it opened.
    pub dialled: u64,
    /// Connections it accepted.
    pub accepted: u64,
    /// Why its connections ended, in order.
    pub ended: Vec<(ChannelId, ConnectionError)>,
    /// Its clock is ahead of the world's by this much.
    pub clock_ahead: Duration,
    /// Its application takes what is delivered; false: it lets messages pile up.
    pub takes_messages: bool,
    /// Starts so far.
    pub incarnation: u32,
}

impl Process {
    fn new(config: ProcessConfig, incarnation: u32, rng: &mut StdRng) -> Self {
        let mut endpoint_config = config.endpoint.clone();
        if incarnation > 0 && !config.keep_nonce {
            endpoint_config.nonce = rng.random();
        }
        if let Some(listen) = config.listen {
            endpoint_config.addresses = EntityAddr::msgr2(listen, endpoint_config.nonce).into();
        }
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Self {
            endpoint: Endpoint::new(endpoint_config, seed),
            config,
            sessions: BTreeMap::new(),
            connections: BTreeMap::new(),
            events: Vec::new(),
            delivered: Vec::new(),
            revocations: Vec::new(),
            dialled: 0,
            accepted: 0,
            ended: Vec::new(),
            clock_ahead: Duration::ZERO,
            takes_messages: true,
            incarnation,
        }
    }

    /// Its address with its nonce.
    #[must_use]
    pub fn address(&self) -> EntityAddr {
        self.config.listen.map_or(EntityAddr::BLANK, |a| EntityAddr::msgr2(a, self.endpoint.nonce()))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &EntityName {
        &self.config.endpoint.name
    }

    /// Payloads of the messages that a session delivered, in order.
    #[must_use]
    pub fn fronts(&self, session: SessionId) -> Vec<bytes::Bytes> {
        self.delivered.iter().filter(|(s, _)| *s == session).map(|(_, r)| r.message.front.clone()).collect()
    }
}

/// How the network treats new links.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// One-way delay of each piece, from..=to.
    pub delay: (Duration, Duration),
    /// Bytes that travel in one piece at most; 1: each alone.
    pub piece_bytes_max: usize,
    /// Bytes that a direction holds before its writer has to wait.
    pub window_bytes: usize,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay: (Duration::from_micros(50), Duration::from_micros(150)),
            piece_bytes_max: 4096,
            window_bytes: 64 << 10,
        }
    }
}

/// What may befall a new link, by chance.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hazards {
    /// So many in a hundred break after a while.
    pub cut_percent: u32,
    /// Within so many bytes of one of their directions.
    pub cut_bytes_max: u64,
    /// So many in a hundred fall silent in one direction or both, at once.
    pub silent_percent: u32,
    /// So many pieces in ten thousand are held up, and all behind them.
    pub late_per_myriad: u32,
    /// For at most so long.
    pub late_max: Duration,
}

/// Everything. See the [module](self).
pub struct World {
    /// World time.
    pub now: Instant,
    /// Its processes, by number.
    pub processes: Vec<Process>,
    /// The links, live ones only.
    pub links: BTreeMap<LinkId, Link>,
    /// How new links behave.
    pub weather: Weather,
    /// The one source of chance.
    pub rng: StdRng,
    /// No link can be opened from the first to the second; live ones stay.
    pub unreachable: Vec<(ProcessId, ProcessId)>,
    /// Addresses that lead elsewhere: a relay, NAT, a moved service.
    pub routes: BTreeMap<SocketAddr, ProcessId>,
    /// New links keep what is written on them ([`Link::tap`]).
    pub tapped: bool,
    /// What may befall new links.
    pub hazards: Hazards,
    /// Links from the first to the second open and carry nothing: a peer that lost its power, a firewall that drops.
    pub blackholes: Vec<(ProcessId, ProcessId)>,
    /// Every link comes from another address, as behind NAT or in a moving client.
    pub roaming: bool,
    /// Processes whose authority does not know yet: see [`World::authorities_answer`].
    pub busy_authorities: BTreeSet<ProcessId>,
    /// Writes down what is seen.
    pub watch: Option<Box<Watch>>,
    /// A bug that is put in on purpose.
    pub planted: Option<Planted>,
    next_link: u64,
    steps: u64,
}

impl World {
    /// A world whose every chance comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            processes: Vec::new(),
            links: BTreeMap::new(),
            weather: Weather::default(),
            rng: StdRng::seed_from_u64(seed),
            unreachable: Vec::new(),
            routes: BTreeMap::new(),
            tapped: false,
            hazards: Hazards::default(),
            blackholes: Vec::new(),
            roaming: false,
            busy_authorities: BTreeSet::new(),
            watch: None,
            planted: None,
            next_link: 0,
            steps: 0,
        }
    }

    /// Starts a process.
    pub fn start(&mut self, config: ProcessConfig) -> ProcessId {
        let id = ProcessId(self.processes.len());
        if let Some(listen) = config.listen {
            self.routes.insert(listen, id);
        }
        self.processes.push(Process::new(config, 0, &mut self.rng));
        id
    }

    /// The process dies with everything it knew and starts again; what it had seen is returned.
    pub fn restart(&mut self, id: ProcessId) -> Process {
        let links: Vec<_> = self.process(id).connections.values().map(|a| (a.link, a.end)).collect();
        for (link, end) in links {
            self.cut(link);
            let at = self.now;
            if let Some(link) = self.links.get_mut(&link) {
                // Nothing of it reaches the next life, which gives the same names to other connections.
                link.close(end, at);
            }
        }
        let config = self.process(id).config.clone();
        let incarnation = self.process(id).incarnation + 1;
        let fresh = Process::new(config, incarnation, &mut self.rng);
        let mut dead = std::mem::replace(&mut self.processes[id.0], fresh);
        if let Some(watch) = &mut self.watch {
            watch.died(id, &mut dead);
        }
        dead
    }

    /// A process.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> &Process {
        &self.processes[id.0]
    }

    /// A process, to change.
    pub fn process_mut(&mut self, id: ProcessId) -> &mut Process {
        &mut self.processes[id.0]
    }

    /// A session of a process.
    #[must_use]
    pub fn session(&self, id: ProcessId, session: SessionId) -> &Session {
        &self.process(id).sessions[&session]
    }

    /// The time on a process's own clock.
    #[must_use]
    pub fn clock(&self, id: ProcessId) -> Instant {
        self.now + self.process(id).clock_ahead
    }

    /// Things that have happened so far.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    // ------------------------------------------------------------------ what applications do

    /// A session from `from` to where `to` listens.
    pub fn connect(&mut self, from: ProcessId, to: ProcessId, config: SessionConfig) -> SessionId {
        // A name that must answer has to be proven: it is for those who are known by it.
        let named = config.matching == Matching::Identity;
        let target = Target {
            addresses: self.process(to).address().into(),
            entity_type: None,
            name: named.then(|| self.process(to).name().clone()),
        };
        self.connect_to(from, target, config)
    }

    /// A session to any target.
    pub fn connect_to(&mut self, from: ProcessId, target: Target, config: SessionConfig) -> SessionId {
        let now = self.clock(from);
        let process = self.process_mut(from);
        let session = process.endpoint.connect(target, config, now).expect("scenarios name an address");
        let id = session.id();
        let incarnation = process.incarnation;
        if let Some(watch) = &mut self.watch {
            watch.opened(from, incarnation, &session);
        }
        self.process_mut(from).sessions.insert(id, session);
        self.drain(from);
        id
    }

    /// Queues a message.
    ///
    /// # Errors
    /// The session's.
    pub fn send(
        &mut self,
        from: ProcessId,
        session: SessionId,
        message: Message,
    ) -> Result<MessageId, SendError> {
        let now = self.clock(from);
        let Some(s) = self.process_mut(from).sessions.get_mut(&session) else {
            return Err(SendError::Closed(message));
        };
        let id = s.send(message, now)?;
        self.drain(from);
        Ok(id)
    }

    /// Does something to a session and what follows from it.
    pub fn with_session<T>(
        &mut self,
        process: ProcessId,
        session: SessionId,
        act: impl FnOnce(&mut Session, Instant) -> T,
    ) -> Option<T> {
        let now = self.clock(process);
        let result = self.process_mut(process).sessions.get_mut(&session).map(|s| act(s, now));
        self.drain(process);
        result
    }

    /// The sessions that a process accepted or opened and that are not over.
    #[must_use]
    pub fn live_sessions(&self, id: ProcessId) -> Vec<SessionId> {
        self.process(id).sessions.iter().filter(|(_, s)| s.end().is_none()).map(|(id, _)| *id).collect()
    }

    // ------------------------------------------------------------------ what the network does

    /// The link breaks: bytes under way are lost, both ends learn of it after a delay.
    pub fn cut(&mut self, link: LinkId) {
        let delay = self.delay();
        if let Some(link) = self.links.get_mut(&link) {
            link.cut(self.now + delay);
        }
    }

    /// All links break.
    pub fn cut_all(&mut self) {
        let all: Vec<_> = self.links.keys().copied().collect();
        for link in all {
            self.cut(link);
        }
    }

    /// The link of a process's connection.
    #[must_use]
    pub fn link_of(&self, process: ProcessId, channel: ChannelId) -> Option<LinkId> {
        self.process(process).connections.get(&channel).map(|a| a.link)
    }

    /// The connection of `process` that is in this state, if there is exactly one or the first by number.
    #[must_use]
    pub fn connection_in(&self, process: ProcessId, state: State) -> Option<ChannelId> {
        self.process(process)
            .connections
            .iter()
            .find(|(_, a)| a.connection.state() == state)
            .map(|(id, _)| *id)
    }

    fn delay(&mut self) -> Duration {
        let (from, to) = self.weather.delay;
        let nanos = self.rng.random_range(from.as_nanos() as u64..=to.as_nanos() as u64);
        Duration::from_nanos(nanos)
    }

    // ------------------------------------------------------------------ time

    /// Lets the next thing happen. False: nothing ever will.
    pub fn step(&mut self) -> bool {
        let delivery = self.links.iter().filter_map(|(id, l)| l.next_event().map(|(t, d)| (t, *id, d))).min();
        let timer = (0..self.processes.len())
            .filter_map(|i| self.next_timer(ProcessId(i)).map(|t| (t, ProcessId(i))))
            .min();
        self.steps += 1;
        let happened = match (delivery, timer) {
            (Some((at, link, direction)), timer) if timer.is_none_or(|(t, _)| at <= t) => {
                self.set_now(at);
                self.deliver(link, direction);
                true
            }
            (_, Some((at, process))) => {
                self.set_now(at);
                self.time_out(process);
                true
            }
            (_, None) => false,
        };
        self.look();
        happened
    }

    pub(crate) fn set_now(&mut self, at: Instant) {
        self.now = self.now.max(at);
        if let Some(watch) = &mut self.watch {
            watch.now = self.now;
        }
    }

    /// Lets the onlooker see what receipts say.
    pub(crate) fn look(&mut self) {
        if let Some(watch) = &mut self.watch {
            for (index, process) in self.processes.iter().enumerate() {
                watch.look(ProcessId(index), process, self.steps);
            }
        }
    }

    /// Runs until `done`, at most for `limit` of world time. Whether it was done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if self.now > end || !self.step() {
                return done(self);
            }
        }
    }

    /// Lets `span` of world time pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.next_time().is_some_and(|t| t <= end) {
            self.step();
        }
        self.set_now(end);
    }

    /// When the next thing happens, if anything ever does.
    #[must_use]
    pub fn next_time(&self) -> Option<Instant> {
        let delivery = self.links.values().filter_map(|l| l.next_event().map(|(t, _)| t)).min();
        let timer = (0..self.processes.len()).filter_map(|i| self.next_timer(ProcessId(i))).min();
        [delivery, timer].into_iter().flatten().min()
    }

    /// The next deadline of a process, in world time.
    fn next_timer(&self, id: ProcessId) -> Option<Instant> {
        let process = self.process(id);
        let connections = process
            .connections
            .values()
            .filter(|a| !self.is_without_deadline(a))
            .filter_map(|a| a.connection.poll_timeout());
        let sessions = process.sessions.values().filter_map(Session::poll_timeout);
        let own = connections.chain(sessions).min()?;
        Some(
            Instant::from_nanos(own.as_nanos().saturating_sub(process.clock_ahead.as_nanos() as u64))
                .max(self.now),
        )
    }

    fn is_without_deadline(&self, attached: &Attached) -> bool {
        self.planted.as_ref().is_some_and(|p| p.has_no_deadline(attached.connection.state()))
    }

    fn time_out(&mut self, id: ProcessId) {
        let now = self.clock(id);
        let process = self.process_mut(id);
        for session in process.sessions.values_mut() {
            if session.poll_timeout().is_some_and(|t| t <= now) {
                session.handle_timeout(now);
            }
        }
        let due: Vec<_> = process
            .connections
            .iter()
            .filter(|(_, a)| a.connection.poll_timeout().is_some_and(|t| t <= now))
            .map(|(id, _)| *id)
            .collect();
        for channel in due {
            let process = &self.processes[id.0];
            if process.connections.get(&channel).is_some_and(|a| self.is_without_deadline(a)) {
                continue;
            }
            let Some(attached) = self.process_mut(id).connections.get_mut(&channel) else { continue };
            if let Err(error) = attached.connection.handle_timeout(now) {
                self.close(id, channel, error);
            }
        }
        self.drain(id);
    }
}
