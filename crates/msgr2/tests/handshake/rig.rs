//! A production connection with its endpoint and sessions, driven as a driver would, and a peer that says what a test
//! tells it to.

use crate::config::{CLIENT, OSD, client_address, connection, endpoint, server_address, target, without_key};
use bytes::Bytes;
use outlast_cephx::none;
use outlast_msgr2::connection::State;
use outlast_msgr2::frame::{
    AdmitAll, FrameDecoder, FrameEncoder, Incoming, Limits, MessageFrame, OutBuf, Revision, Tag,
};
use outlast_msgr2::wire::{
    AddrVec, AuthDone, AuthMethod, AuthRequest, AuthSignature, BANNER_PREFIX_BYTES, Banner, ClientIdent,
    CompressionDone, CompressionMethod, CompressionRequest, ConnectionMode, Control, FEATURE_COMPRESSION,
    FEATURE_REVISION_1, Hello, MESSAGE_FLAGS, MessageHeader, ServerIdent,
};
use outlast_msgr2::{
    Authority, Connection, ConnectionConfig, ConnectionError, ConnectionEvent, Credential, Decision,
    Endpoint, EndpointConfig, FEATURES_SUPPORTED, Located, Policy, Session, SessionConfig, SessionEvent,
    SessionId,
};
use outlast_session::{Instant, StreamChannel};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

/// One process with one connection at a time.
pub(crate) struct End {
    pub(crate) endpoint: Endpoint,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) connection: Connection,
    pub(crate) now: Instant,
    /// What it wrote and nobody has read.
    pub(crate) written: Vec<u8>,
    /// Bytes that its socket still takes.
    pub(crate) room: usize,
    pub(crate) error: Option<ConnectionError>,
    pub(crate) got: Vec<outlast_msgr2::Received>,
    pub(crate) events: Vec<SessionEvent>,
    pub(crate) revocations: Vec<(outlast_session::MessageId, bool)>,
    /// Its application takes what comes.
    pub(crate) takes_messages: bool,
    credential: Credential,
    authority: Arc<Authority>,
}

impl End {
    fn new(
        mut endpoint: Endpoint,
        make: impl FnOnce(&mut Endpoint, &mut BTreeMap<SessionId, Session>, Instant) -> Connection,
        credential: Credential,
        authority: Arc<Authority>,
    ) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut sessions = BTreeMap::new();
        let connection = make(&mut endpoint, &mut sessions, now);
        let mut end = Self {
            endpoint,
            sessions,
            connection,
            now,
            written: Vec::new(),
            room: usize::MAX,
            error: None,
            got: Vec::new(),
            events: Vec::new(),
            revocations: Vec::new(),
            takes_messages: true,
            credential,
            authority,
        };
        end.drain();
        end
    }

    pub(crate) fn accepting(config: EndpointConfig, authority: Authority) -> Self {
        let authority = Arc::new(authority);
        let own = Arc::clone(&authority);
        Self::new(
            Endpoint::new(config, [2; 32]),
            |endpoint, _, now| endpoint.accept(client_address(), authority, now),
            without_key(),
            own,
        )
    }

    pub(crate) fn dialling(config: EndpointConfig, session: SessionConfig, credential: Credential) -> Self {
        let own = credential.clone();
        Self::new(
            Endpoint::new(config, [1; 32]),
            |endpoint, sessions, now| {
                let mut session = endpoint.connect(target(), session, now).expect("an address");
                let address = session.poll_dial(now).expect("it dials at once");
                let connection = endpoint.dial(&mut session, address, credential, now);
                sessions.insert(session.id(), session);
                connection
            },
            own,
            Arc::new(Authority::None),
        )
    }

    /// The connection is lost, and the session, which must want that, dials another.
    pub(crate) fn dial_again(&mut self) {
        self.lose();
        let session = self.sessions.values_mut().next().expect("a session");
        if let Some(at) = session.poll_timeout() {
            self.now = self.now.max(at);
        }
        session.handle_timeout(self.now);
        let address = session.poll_dial(self.now).expect("it dials again");
        self.connection = self.endpoint.dial(session, address, self.credential.clone(), self.now);
        self.error = None;
        self.drain();
    }

    /// The connection is lost, and another comes in.
    pub(crate) fn accept_again(&mut self) {
        self.lose();
        self.connection = self.endpoint.accept(client_address(), Arc::clone(&self.authority), self.now);
        self.error = None;
        self.drain();
    }

    fn lose(&mut self) {
        if self.error.is_none() {
            let error = self.connection.handle_eof(self.now);
            self.fail(error);
        }
        self.written.clear();
    }

    fn fail(&mut self, error: ConnectionError) {
        let channel = self.connection.id();
        if let Some(session) = self.connection.session().and_then(|s| self.sessions.get_mut(&s)) {
            session.connection_lost(channel, error.clone(), self.now);
        }
        self.error = Some(error);
        self.collect();
    }

    /// The one session.
    pub(crate) fn session(&mut self) -> &mut Session {
        assert_eq!(self.sessions.len(), 1);
        self.sessions.values_mut().next().expect("one")
    }

    /// Bytes arrive; how many were taken before reading paused.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        while !bytes.is_empty() && self.error.is_none() {
            let buffer = self.connection.poll_read();
            if buffer.is_empty() {
                break;
            }
            let len = buffer.len().min(bytes.len());
            buffer[..len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            match self.connection.handle_read(len, self.now) {
                Ok(()) => self.drain(),
                Err(error) => self.fail(error),
            }
        }
        all - bytes.len()
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while self.error.is_none() {
            let Some(at) = self.connection.poll_timeout().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            match self.connection.handle_timeout(self.now) {
                Ok(()) => self.drain(),
                Err(error) => self.fail(error),
            }
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn drain(&mut self) {
        for _ in 0..1000 {
            if self.error.is_some() || !self.turn() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn turn(&mut self) -> bool {
        let mut busy = false;
        while let Some(request) = self.connection.poll_request() {
            busy = true;
            let existing = match self.endpoint.locate(&request) {
                Located::Known(id) => self.sessions.get_mut(&id),
                Located::Unknown => None,
            };
            let (decision, fresh) = self.endpoint.decide(request, existing, self.now);
            if let Some(session) = fresh.filter(|_| !matches!(decision, Decision::Refuse(_))) {
                self.sessions.insert(session.id(), session);
            }
            if let Err(error) = self.connection.handle_decision(decision, self.now) {
                self.fail(error);
                return false;
            }
        }
        while let Some(event) = self.connection.poll_event() {
            match event {
                ConnectionEvent::LearnedAddress(address) => self.endpoint.learn_address(address),
                ConnectionEvent::RaiseGlobalSeq(seq) => self.endpoint.raise_global_seq(seq),
                other => panic!("{other:?}"),
            }
        }
        let session = self.connection.session().and_then(|s| self.sessions.get_mut(&s));
        if let Some(Err(error)) = session.map(|session| self.connection.sync(session, self.now)) {
            self.fail(error);
            return false;
        }
        busy |= self.collect();
        loop {
            let mut bytes = Vec::new();
            let mut slices: [IoSlice<'_>; 16] = std::array::from_fn(|_| IoSlice::new(&[]));
            let filled = self.connection.poll_write(&mut slices);
            for slice in &slices[..filled] {
                bytes.extend_from_slice(&slice[..slice.len().min(self.room - bytes.len())]);
            }
            if bytes.is_empty() {
                break;
            }
            self.connection.handle_written(bytes.len(), self.now);
            self.room -= bytes.len();
            self.written.extend_from_slice(&bytes);
            busy = true;
        }
        if let Some(error) = self.connection.poll_end().cloned() {
            self.fail(error);
        }
        busy
    }

    /// Takes what sessions have for their application; whether a message was among it, which frees room.
    fn collect(&mut self) -> bool {
        let before = self.got.len();
        for session in self.sessions.values_mut() {
            while let Some(event) = session.poll_event() {
                self.events.push(event);
            }
            while let Some(revocation) = session.poll_revocation() {
                self.revocations.push(revocation);
            }
            while self.takes_messages {
                let Some(received) = session.poll_message() else { break };
                self.got.push(received);
            }
        }
        self.got.len() > before
    }
}

/// The peer that says what it is told to: msgr2.1, crc, no authentication.
pub(crate) struct Script {
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    out: OutBuf,
    banner_read: bool,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self {
            encoder: FrameEncoder::new(),
            decoder: FrameDecoder::new(Limits::READY),
            out: OutBuf::new(),
            banner_read: false,
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let mut slices: [IoSlice<'_>; 16] = std::array::from_fn(|_| IoSlice::new(&[]));
            let filled = self.out.slices(&mut slices);
            let len = bytes.len();
            slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
            if bytes.len() == len {
                return bytes;
            }
            self.out.advance(bytes.len() - len);
        }
    }

    pub(crate) fn frame(&mut self, control: &Control) -> Vec<u8> {
        self.encoder.encode_control(control, &mut self.out).expect("it can be said");
        self.take()
    }

    pub(crate) fn message(&mut self, seq: u64, ack_seq: u64, front: &[u8]) -> Vec<u8> {
        let header = MessageHeader {
            seq,
            tid: 0,
            kind: 7,
            priority: 127,
            version: 1,
            data_pre_padding_len: 0,
            data_off: 0,
            ack_seq,
            flags: MESSAGE_FLAGS,
            compat_version: 1,
            reserved: 0,
        };
        let (front, none) = (Bytes::copy_from_slice(front), Bytes::new());
        self.encoder.encode_message(&header, &front, &none, &none, &mut self.out).expect("it can be said");
        self.take()
    }

    fn hear(&mut self, bytes: &[u8]) -> Vec<Incoming> {
        let mut heard = Vec::new();
        let mut rest = bytes;
        loop {
            if !self.banner_read {
                let banner = Banner::default().encode().len();
                if let Some(prefix) = self.decoder.take_raw(banner) {
                    assert_eq!(&prefix[..8], b"ceph v2\n");
                    assert_eq!(usize::from(prefix[8]), banner - BANNER_PREFIX_BYTES);
                    self.banner_read = true;
                    self.encoder.set_revision(Revision::V1);
                    self.decoder.set_revision(Revision::V1);
                }
            }
            if self.banner_read {
                while let Some(frame) = self.decoder.next(&mut AdmitAll).expect("a good frame") {
                    heard.push(frame);
                }
            }
            if rest.is_empty() {
                return heard;
            }
            let buffer = self.decoder.poll_read();
            let len = buffer.len().min(rest.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            self.decoder.handle_read(len);
            rest = &rest[len..];
        }
    }
}

/// An end and the scripted peer at the other side.
pub(crate) struct Talk {
    pub(crate) end: End,
    pub(crate) script: Script,
    heard: Vec<Incoming>,
}

pub(crate) const SESSION: Policy = Policy::STATEFUL_SERVER;

impl Talk {
    pub(crate) fn with(end: End) -> Self {
        Self { end, script: Script::new(), heard: Vec::new() }
    }

    /// A production acceptor that lets everybody in, and a scripted dialler.
    pub(crate) fn accepting() -> Self {
        Self::accepting_with(connection(OSD), Authority::None)
    }

    pub(crate) fn accepting_with(connection: ConnectionConfig, authority: Authority) -> Self {
        Self::with(End::accepting(endpoint("osd.2", server_address(), connection, SESSION), authority))
    }

    /// A production dialler without a key, and a scripted acceptor.
    pub(crate) fn dialling() -> Self {
        Self::dialling_with(connection(CLIENT), without_key())
    }

    pub(crate) fn dialling_with(connection: ConnectionConfig, credential: Credential) -> Self {
        let policy = Policy::LOSSLESS_CLIENT;
        let config = endpoint("client.a", client_address(), connection, policy);
        Self::with(End::dialling(config, SessionConfig::new(policy), credential))
    }

    /// The connection ends and the next one begins.
    pub(crate) fn dial_again(&mut self) {
        self.end.dial_again();
        self.script = Script::new();
        self.heard.clear();
    }

    pub(crate) fn accept_again(&mut self) {
        self.end.accept_again();
        self.script = Script::new();
        self.heard.clear();
    }

    pub(crate) fn state(&self) -> State {
        self.end.connection.state()
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.end.feed(bytes);
        let written = std::mem::take(&mut self.end.written);
        let heard = self.script.hear(&written);
        self.heard.extend(heard);
    }

    pub(crate) fn say(&mut self, control: impl Into<Control>) {
        let bytes = self.script.frame(&control.into());
        self.raw(&bytes);
    }

    pub(crate) fn message(&mut self, seq: u64, ack_seq: u64, front: &[u8]) {
        let bytes = self.script.message(seq, ack_seq, front);
        self.raw(&bytes);
    }

    /// Control frames that the end said since the last look.
    pub(crate) fn controls(&mut self) -> Vec<Control> {
        self.heard()
            .into_iter()
            .filter_map(|incoming| match incoming {
                Incoming::Control { tag, payload } => Some(Control::decode(tag, &payload).expect("good")),
                Incoming::Message(_) | Incoming::Aborted { .. } => None,
            })
            .collect()
    }

    pub(crate) fn messages(&mut self) -> Vec<MessageFrame> {
        self.heard()
            .into_iter()
            .filter_map(|incoming| match incoming {
                Incoming::Message(frame) => Some(frame),
                Incoming::Control { .. } | Incoming::Aborted { .. } => None,
            })
            .collect()
    }

    /// What the end said since the last look.
    pub(crate) fn heard(&mut self) -> Vec<Incoming> {
        self.raw(&[]);
        std::mem::take(&mut self.heard)
    }

    /// The last control frame that the end said; all are taken.
    pub(crate) fn last(&mut self) -> Control {
        self.controls().pop().expect("it said something")
    }

    pub(crate) fn banner(&mut self) {
        let supported = FEATURE_REVISION_1 | FEATURE_COMPRESSION;
        self.raw(&Banner { supported, required: 0 }.encode());
    }

    #[track_caller]
    pub(crate) fn fails_with(&self, expected: &ConnectionError) {
        assert_eq!(self.end.error.as_ref(), Some(expected));
        assert_eq!(self.state(), State::Closed);
    }

    /// Goes through the handshake until the end is in this state.
    pub(crate) fn until(&mut self, state: State) {
        for _ in 0..8 {
            if self.state() == state {
                return;
            }
            let before = self.state();
            self.next();
            assert_eq!(self.end.error, None, "after {before}");
        }
        panic!("{state} is not on the way");
    }

    /// The next thing that an honest peer says.
    fn next(&mut self) {
        match self.state() {
            State::BannerAccepting | State::BannerConnecting => self.banner(),
            State::HelloAccepting => self.say(hello(CLIENT)),
            State::HelloConnecting => self.say(hello(OSD)),
            State::AuthAccepting => self.say(auth_request()),
            State::AuthConnecting => {
                self.say(AuthDone { global_id: 4123, mode: ConnectionMode::CRC, payload: Bytes::new() });
            }
            State::AuthAcceptingSign | State::AuthConnectingSign => {
                self.say(AuthSignature { digest: [0; 32] })
            }
            State::CompressionAccepting => {
                self.say(CompressionRequest { wanted: false, preferred_methods: Vec::new() });
            }
            State::CompressionConnecting => {
                self.say(CompressionDone { granted: false, method: CompressionMethod::NONE });
            }
            State::SessionAccepting => self.say(client_ident(1, 77)),
            State::SessionConnecting => self.say(server_ident(1, 88)),
            state => panic!("nothing to say in {state}"),
        }
    }
}

pub(crate) fn hello(entity_type: u8) -> Hello {
    Hello { entity_type, peer_address: client_address() }
}

pub(crate) fn auth_request() -> AuthRequest {
    AuthRequest {
        method: AuthMethod::NONE,
        preferred_modes: vec![ConnectionMode::CRC],
        payload: none::service_request(&crate::config::name(), 4123),
    }
}

pub(crate) fn client_ident(global_seq: u64, cookie: u64) -> ClientIdent {
    ClientIdent {
        addresses: AddrVec::from(client_address()),
        target: server_address(),
        global_id: 4123,
        global_seq,
        features_supported: FEATURES_SUPPORTED,
        features_required: 0,
        flags: 0,
        cookie,
    }
}

pub(crate) fn server_ident(global_seq: u64, cookie: u64) -> ServerIdent {
    ServerIdent {
        addresses: AddrVec::from(server_address()),
        global_id: 2,
        global_seq,
        features_supported: FEATURES_SUPPORTED,
        features_required: 0,
        flags: 0,
        cookie,
    }
}

/// The frame tags that carry a control payload.
pub(crate) fn control_tags() -> impl Iterator<Item = Tag> {
    Tag::ALL.into_iter().filter(|tag| *tag != Tag::Message)
}
