//! A process as a driver runs it, without sockets: one endpoint, its sessions and connections, drained in the order of
//! their contract after each input.

use outlast_msgr2::connection::{OUT_BYTES_HIGH, OUT_BYTES_MAX, State};
use outlast_msgr2::wire::EntityAddr;
use outlast_msgr2::{
    Authority, ChannelId, Connection, ConnectionError, ConnectionEvent, Credential, Decision, Endpoint,
    EndpointConfig, Located, Session, SessionConfig, SessionEvent, SessionId, Target,
};
use outlast_session::{Instant, MessageId, StreamChannel};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

/// Rounds in which a process must come to rest; more means that it talks to itself.
const ROUNDS_MAX: u32 = 2_000;
/// Beyond the bound on unwritten bytes there may be one batch of messages, and the answer to one read.
const OUT_BYTES_ALLOWED: usize = OUT_BYTES_MAX + OUT_BYTES_HIGH + (1 << 20);

/// What a process tells the world around it.
#[derive(Debug)]
pub enum News {
    /// It wants a transport to this address for the connection, which it has already.
    Dialled(ChannelId, EntityAddr),
    /// The connection is over and gone.
    Closed(ChannelId),
}

/// One process.
#[derive(Debug)]
pub struct Process {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// Its sessions, the ended ones too.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Its live connections.
    pub connections: BTreeMap<ChannelId, Connection>,
    /// Its clock.
    pub now: Instant,
    /// What happened to sessions and was not looked at yet.
    pub events: Vec<(SessionId, SessionEvent)>,
    /// Outcomes of revocations that were not looked at yet.
    pub revocations: Vec<(SessionId, MessageId, bool)>,
    /// What the world must do.
    pub news: Vec<News>,
    credential: Credential,
    authority: Arc<Authority>,
}

impl Process {
    /// A process whose chances come from `seed`.
    #[must_use]
    pub fn new(config: EndpointConfig, credential: Credential, authority: Authority, seed: u8) -> Self {
        Self {
            endpoint: Endpoint::new(config, [seed; 32]),
            sessions: BTreeMap::new(),
            connections: BTreeMap::new(),
            now: Instant::from_nanos(1_000_000_000),
            events: Vec::new(),
            revocations: Vec::new(),
            news: Vec::new(),
            credential,
            authority: Arc::new(authority),
        }
    }

    /// A new session; it dials at once.
    pub fn connect(&mut self, target: Target, config: SessionConfig) -> SessionId {
        let session = self.endpoint.connect(target, config, self.now).expect("an address");
        let id = session.id();
        self.sessions.insert(id, session);
        self.drain();
        id
    }

    /// A transport came in.
    pub fn accept(&mut self, from: EntityAddr) -> ChannelId {
        let connection = self.endpoint.accept(from, Arc::clone(&self.authority), self.now);
        let id = connection.id();
        self.connections.insert(id, connection);
        id
    }

    /// Bytes came in; how many were read. What is not read waits in front of what follows.
    pub fn feed(&mut self, channel: ChannelId, bytes: &[u8]) -> usize {
        let mut read = 0;
        while read < bytes.len() {
            let Some(connection) = self.connections.get_mut(&channel) else { return bytes.len() };
            let room = connection.poll_read();
            let len = room.len().min(bytes.len() - read);
            if len == 0 {
                break;
            }
            room[..len].copy_from_slice(&bytes[read..read + len]);
            read += len;
            if let Err(error) = connection.handle_read(len, self.now) {
                self.close(channel, error);
            }
            self.drain();
        }
        read
    }

    /// Takes up to `len` bytes that a connection wants to write.
    pub fn take_out(&mut self, channel: ChannelId, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let Some(connection) = self.connections.get_mut(&channel) else { return bytes };
            let mut slices: [IoSlice<'_>; 16] = std::array::from_fn(|_| IoSlice::new(&[]));
            let filled = connection.poll_write(&mut slices);
            let before = bytes.len();
            for slice in &slices[..filled] {
                let room = len - bytes.len();
                bytes.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            let taken = bytes.len() - before;
            if taken == 0 {
                self.check(channel);
                self.drain();
                return bytes;
            }
            connection.handle_written(taken, self.now);
            self.drain();
        }
        panic!("a connection that is never done writing");
    }

    /// The other end has closed its direction, or the transport broke.
    pub fn end(&mut self, channel: ChannelId) {
        if let Some(connection) = self.connections.get_mut(&channel) {
            let error = connection.handle_eof(self.now);
            self.close(channel, error);
            self.drain();
        }
    }

    /// The next deadline.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let connections = self.connections.values().filter_map(StreamChannel::poll_timeout);
        connections.chain(self.sessions.values().filter_map(Session::poll_timeout)).min()
    }

    /// The time is `now`.
    pub fn time_out(&mut self, now: Instant) {
        self.now = self.now.max(now);
        for session in self.sessions.values_mut() {
            if session.poll_timeout().is_some_and(|at| at <= self.now) {
                session.handle_timeout(self.now);
            }
        }
        let due = |connection: &Connection| connection.poll_timeout().is_some_and(|at| at <= self.now);
        let channels: Vec<_> = self.connections.iter().filter(|(_, c)| due(c)).map(|(id, _)| *id).collect();
        for channel in channels {
            let Some(connection) = self.connections.get_mut(&channel) else { continue };
            if let Err(error) = connection.handle_timeout(self.now) {
                self.close(channel, error);
            }
        }
        self.drain();
    }

    /// Everything that follows from the last input.
    pub fn drain(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut busy = self.dial();
            let channels: Vec<_> = self.connections.keys().copied().collect();
            for channel in channels {
                busy |= self.turn(channel);
            }
            busy |= self.collect();
            if !busy {
                return;
            }
        }
        panic!("a process that does not come to rest");
    }

    fn dial(&mut self) -> bool {
        let mut busy = false;
        for session in self.sessions.values_mut() {
            if let Some(address) = session.poll_dial(self.now) {
                let connection = self.endpoint.dial(session, address, self.credential.clone(), self.now);
                self.news.push(News::Dialled(connection.id(), address));
                self.connections.insert(connection.id(), connection);
                busy = true;
            }
        }
        busy
    }

    fn turn(&mut self, channel: ChannelId) -> bool {
        let Some(connection) = self.connections.get_mut(&channel) else { return false };
        let mut busy = false;
        let mut failed = None;
        while let Some(request) = connection.poll_request() {
            busy = true;
            let existing = match self.endpoint.locate(&request) {
                Located::Known(id) => {
                    Some(self.sessions.get_mut(&id).expect("what the endpoint knows is here"))
                }
                Located::Unknown => None,
            };
            let (decision, fresh) = self.endpoint.decide(request, existing, self.now);
            let refused = matches!(decision, Decision::Refuse(_));
            if let Some(session) = fresh.filter(|_| !refused) {
                self.sessions.insert(session.id(), session);
            }
            if let Err(error) = connection.handle_decision(decision, self.now) {
                failed = Some(error);
                break;
            }
        }
        while let Some(event) = connection.poll_event() {
            busy = true;
            match event {
                ConnectionEvent::LearnedAddress(address) => self.endpoint.learn_address(address),
                ConnectionEvent::RaiseGlobalSeq(seq) => self.endpoint.raise_global_seq(seq),
                _ => {}
            }
        }
        if failed.is_none()
            && let Some(session) = connection.session().and_then(|id| self.sessions.get_mut(&id))
        {
            failed = connection.sync(session, self.now).err();
        }
        let failed = failed.or_else(|| connection.poll_end().cloned());
        self.check(channel);
        if let Some(error) = failed {
            self.close(channel, error);
            return true;
        }
        busy
    }

    fn collect(&mut self) -> bool {
        let mut busy = false;
        for (id, session) in &mut self.sessions {
            while let Some(event) = session.poll_event() {
                if matches!(event, SessionEvent::Ended(_)) {
                    self.endpoint.bury(session);
                }
                self.events.push((*id, event));
                busy = true;
            }
            while let Some((message, taken)) = session.poll_revocation() {
                self.revocations.push((*id, message, taken));
                busy = true;
            }
        }
        busy
    }

    fn close(&mut self, channel: ChannelId, error: ConnectionError) {
        let Some(connection) = self.connections.remove(&channel) else { return };
        if let Some(session) = connection.session().and_then(|id| self.sessions.get_mut(&id)) {
            session.connection_lost(channel, error, self.now);
        }
        self.news.push(News::Closed(channel));
    }

    /// What always holds of a connection and of every session.
    fn check(&self, channel: ChannelId) {
        let Some(connection) = self.connections.get(&channel) else { return };
        assert!(
            connection.out_len() <= OUT_BYTES_ALLOWED,
            "{} bytes wait to be written",
            connection.out_len()
        );
        if !matches!(connection.state(), State::Closed) && connection.poll_end().is_none() {
            // Liveness has one, too.
            assert!(connection.poll_timeout().is_some(), "{} waits without a deadline", connection.state());
        }
        for session in self.sessions.values() {
            let outbox = session.outbox();
            let held = outbox.pending_len() + outbox.unacked_len();
            assert!(held <= outbox.limits().messages_max.max(1), "{held} messages are held");
        }
    }
}
