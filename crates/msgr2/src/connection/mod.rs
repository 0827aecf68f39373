//! A connection: what dies with its transport.
//!
//! **What puts something in:** [`StreamChannel::handle_read`], [`StreamChannel::handle_eof`],
//! [`StreamChannel::handle_timeout`], [`StreamChannel::handle_written`], [`Connection::handle_decision`],
//! [`Connection::retry_authentication`]. **What takes something out**, to be drained after each of them, in this order:
//! [`Connection::poll_request`] (accepting end: weigh it with [`crate::Endpoint::decide`] and hand the decision back),
//! [`Connection::poll_event`], `sync` with the bound session ([`Connection::session`]), [`StreamChannel::poll_write`]
//! until it lends nothing, [`Connection::poll_end`].
//!
//! A connection runs through the states of [`State`]. Until `Ready` it owns nothing of its session; in `Ready` the only
//! place where the two meet is `sync`, so that a driver holds the session's lock there and nowhere else: decoding,
//! checksums and ciphers run outside.

mod acceptor;
mod auth;
mod config;
mod connector;
mod exchange;
mod reading;
mod state;

pub use auth::{Authenticated, Authority, Credential, Refusal};
pub use config::{
    AUTH_ROUNDS_MAX, CompressionConfig, ConnectionConfig, FEATURE_OUTLAST_CLOSE, HANDSHAKE_TIMEOUT,
    KEEPALIVE_GRACE, KEEPALIVE_INTERVAL, NONCES_SPARE, OUT_BYTES_HIGH, OUT_BYTES_MAX, RETRIES_MAX,
};
pub use state::State;

use crate::endpoint::{Answer, Decision, SessionRequest};
use crate::error::ConnectionError;
use crate::frame::{
    FrameDecoder, FrameEncoder, FrameMark, Limits, OutBuf, Side, TRANSCRIPT_ACCEPTED_BYTES_MAX,
    TRANSCRIPT_BYTES_MAX,
};
use crate::ids::{ChannelId, SessionId};
use crate::message::{Message, Received};
use crate::random::Generator;
use crate::session::Session;
use crate::session::handshake::Introduction;
use crate::wire::{
    AddrKind, AddrVec, Banner, Close, EntityAddr, Hello, MessageHeader, Payload, SessionReconnectOk,
    SessionReset,
};
use auth::{ClientAuth, ServerAuth};
use bytes::BytesMut;
use connector::Reply;
use exchange::Answers;
use outlast_session::{Budget, Instant, Liveness, Pulled, StreamChannel};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Chooses where the data segment of a message lands.
pub trait Buffers: Send {
    /// A buffer of at least `len` initialised bytes for the data of this message, by its transaction id; None: the
    /// connection uses one of its own. Asked once the header is verified, and before the data come.
    fn buffer(&mut self, header: &MessageHeader, len: usize) -> Option<BytesMut>;
}

/// What a connection tells its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The peer, which has proven itself, sees us under this address (from its HELLO): adopt it with [`crate::Endpoint::learn_address`].
    LearnedAddress(EntityAddr),
    /// The peer knows of a later attempt: raise the process's counter with [`crate::Endpoint::raise_global_seq`].
    RaiseGlobalSeq(u64),
}

/// What is known of the peer and of what was agreed with it; grows during the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Agreement {
    /// The peer's banner: msgr2 features it has, and those it requires.
    pub peer_banner: Option<Banner>,
    /// The peer's HELLO: its type, and our address as it sees it.
    pub peer_hello: Option<Hello>,
    /// Whether msgr2.1 is spoken.
    pub revision_1: bool,
    /// The mode since AUTH_DONE.
    pub mode: Option<crate::wire::ConnectionMode>,
    /// The method that authenticated the peer.
    pub method: Option<crate::wire::AuthMethod>,
    /// What the acceptor allows, if it said so in an AUTH_BAD_METHOD.
    pub allowed: Option<crate::wire::AuthBadMethod>,
    /// The compression in use.
    pub compression: Option<crate::compress::Algorithm>,
}

enum AuthState {
    Client(ClientAuth),
    Server(ServerAuth),
}

/// One connection. See the [module](self) for the contract.
pub struct Connection {
    id: ChannelId,
    side: Side,
    state: State,
    config: Arc<ConnectionConfig>,
    session: Option<SessionId>,
    decoder: FrameDecoder,
    encoder: FrameEncoder,
    out: OutBuf,
    rng: Generator,
    deadline: Instant,
    handshake_started: Instant,
    intro: Introduction,
    peer_socket: EntityAddr,
    /// Our address as the peer's HELLO has it, until its signature vouches for that.
    learned: Option<EntityAddr>,
    wanted_type: Option<u8>,
    banner_len: Option<usize>,
    auth: AuthState,
    auth_rounds: u32,
    authenticated: Option<Authenticated>,
    expected_signature: Option<Zeroizing<[u8; 32]>>,
    agreement: Agreement,
    events: VecDeque<ConnectionEvent>,
    retries: u32,
    // The accepting end's business with the endpoint, and the dialling end's with its session.
    request: Option<SessionRequest>,
    reply: Option<Reply>,
    // Ready.
    arrived: VecDeque<Received>,
    acked: Option<u64>,
    peer_closed: bool,
    pulled: VecDeque<Pulled<Message>>,
    pulled_bytes: usize,
    marks: VecDeque<(u64, FrameMark, u64)>,
    ack_seq: u64,
    ack_out: Option<u64>,
    ack_timer: Option<Instant>,
    budget: Budget,
    /// Bytes of the message that was admitted and is still coming in.
    admitted: Option<usize>,
    buffers: Option<Box<dyn Buffers>>,
    liveness: Liveness,
    answers: Answers,
    /// Where the last KEEPALIVE2 ends in the stream of what is written.
    asked_until: u64,
    /// How much was written when the liveness was last looked at.
    written_then: u64,
    round_trip: Option<Duration>,
    ending: Option<ConnectionError>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("side", &self.side)
            .field("state", &self.state)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// What the endpoint gives a new connection.
pub(crate) struct Start {
    pub(crate) id: ChannelId,
    pub(crate) config: Arc<ConnectionConfig>,
    pub(crate) addresses: AddrVec,
    pub(crate) nonce: u32,
    pub(crate) global_seq: u64,
    pub(crate) peer_socket: EntityAddr,
    pub(crate) rng: Generator,
    pub(crate) now: Instant,
}

impl Connection {
    fn new(start: Start, side: Side, state: State, auth: AuthState) -> Self {
        let config = start.config;
        let mut addresses = start.addresses;
        if addresses.is_blank() {
            // Completed from the peer's HELLO; the nonce is the process's.
            addresses =
                AddrVec(vec![EntityAddr { kind: AddrKind::ANY, nonce: start.nonce, ..EntityAddr::BLANK }]);
        }
        let (limits, transcript_bytes_max) = match side {
            Side::Client => (Limits::BEFORE_AUTHENTICATION, TRANSCRIPT_BYTES_MAX),
            Side::Server => (Limits::ACCEPTING, TRANSCRIPT_ACCEPTED_BYTES_MAX),
        };
        let mut decoder = FrameDecoder::new(limits);
        decoder.start_recording(transcript_bytes_max);
        let mut out = OutBuf::new();
        out.start_recording();
        out.push_raw(&Banner { supported: config.msgr2_supported, required: config.msgr2_required }.encode());
        Self {
            id: start.id,
            side,
            state,
            session: None,
            decoder,
            encoder: FrameEncoder::new(),
            out,
            rng: start.rng,
            deadline: start.now + config.handshake_timeout,
            handshake_started: start.now,
            intro: Introduction {
                addresses,
                number: config.number.unwrap_or(-1),
                global_seq: start.global_seq,
                target: start.peer_socket,
                features_supported: config.features_supported,
                features_required: config.features_required,
            },
            peer_socket: start.peer_socket,
            learned: None,
            wanted_type: None,
            banner_len: None,
            auth,
            auth_rounds: 0,
            authenticated: None,
            expected_signature: None,
            agreement: Agreement::default(),
            events: VecDeque::new(),
            retries: 0,
            request: None,
            reply: None,
            arrived: VecDeque::new(),
            acked: None,
            peer_closed: false,
            pulled: VecDeque::new(),
            pulled_bytes: 0,
            marks: VecDeque::new(),
            ack_seq: 0,
            ack_out: None,
            ack_timer: None,
            // Nothing until the first `sync` has asked the session.
            budget: Budget::NONE,
            admitted: None,
            buffers: None,
            liveness: Liveness::off(),
            answers: Answers::default(),
            asked_until: 0,
            written_then: 0,
            round_trip: None,
            ending: None,
            config,
        }
    }

    /// A dialled connection that will carry `session`.
    pub(crate) fn dialled(start: Start, session: &Session, credential: Credential) -> Self {
        let auth = AuthState::Client(ClientAuth::new(credential));
        let mut connection = Self::new(start, Side::Client, State::BannerConnecting, auth);
        connection.session = Some(session.id());
        connection.wanted_type = session.target.as_ref().and_then(|t| t.entity_type);
        connection
    }

    /// An accepted connection.
    pub(crate) fn accepted(start: Start, authority: Arc<Authority>, global_id: u64) -> Self {
        let auth = AuthState::Server(ServerAuth::new(authority, global_id));
        Self::new(start, Side::Server, State::BannerAccepting, auth)
    }

    // ------------------------------------------------------------------ getters

    /// Its name in this process.
    #[must_use]
    pub const fn id(&self) -> ChannelId {
        self.id
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The session that it carries or was dialled for; `sync` wants exactly this one. None on an accepted connection
    /// until the decision.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// What is known of the peer and was agreed so far.
    #[must_use]
    pub const fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Who the peer is, once authenticated.
    #[must_use]
    pub const fn authenticated(&self) -> Option<&Authenticated> {
        self.authenticated.as_ref()
    }

    /// When the handshake began.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.handshake_started
    }

    /// The last keepalive's round trip.
    #[must_use]
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Reading stopped because the application is behind: synchronise again once it has taken something.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.decoder.is_paused()
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn out_len(&self) -> usize {
        self.out.len()
    }

    /// Lets the receiver choose where data land.
    pub fn set_buffers(&mut self, buffers: Box<dyn Buffers>) {
        self.buffers = Some(buffers);
    }

    // ------------------------------------------------------------------ output beside the trait's

    /// The accepting end: what the peer asks for. Weigh it with [`crate::Endpoint::decide`] and hand the decision to
    /// [`Connection::handle_decision`].
    pub fn poll_request(&mut self) -> Option<SessionRequest> {
        self.request.take()
    }

    /// Something the driver passes on to the endpoint.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        self.events.pop_front()
    }

    /// The connection has nothing left to do and everything is written: close the transport.
    #[must_use]
    pub fn poll_end(&self) -> Option<&ConnectionError> {
        self.ending.as_ref().filter(|_| self.out.is_empty() && self.pulled.is_empty())
    }

    // ------------------------------------------------------------------ the one writer of state

    fn set_state(&mut self, next: State) {
        debug_assert!(self.state.may_become(next), "{} -> {next}", self.state);
        self.state = next;
    }

    fn fail(&mut self, error: ConnectionError) -> ConnectionError {
        if self.state != State::Closed {
            self.set_state(State::Closed);
        }
        // Nobody is to weigh it, and bind a session to what has ended.
        self.request = None;
        error
    }

    fn send(&mut self, payload: &impl Payload) -> Result<(), ConnectionError> {
        self.encoder.encode_payload(payload, &mut self.out)?;
        Ok(())
    }
}

impl StreamChannel for Connection {
    type Session = Session;
    type Error = ConnectionError;

    fn poll_read(&mut self) -> &mut [u8] {
        // Not by what waits in all: two ends that each send the other a message longer than any bound would both stop
        // reading, for ever.
        if self.state == State::Closed
            || self.ending.is_some()
            || self.answers.waiting(&self.out) > OUT_BYTES_MAX
        {
            return &mut [];
        }
        // What comes while somebody else has to decide is kept and not looked at: no more than a stranger may cost.
        if self.state.waits_for_a_decision() && self.decoder.buffered() >= Limits::ACCEPTING.read_buffer_bytes
        {
            return &mut [];
        }
        self.decoder.poll_read()
    }

    fn handle_read(&mut self, len: usize, now: Instant) -> Result<(), ConnectionError> {
        self.decoder.handle_read(len);
        self.liveness.handle_heard(now);
        self.parse(now).map_err(|e| self.fail(e))
    }

    fn handle_eof(&mut self, _now: Instant) -> ConnectionError {
        let error = ConnectionError::Lost { state: self.state };
        self.fail(error)
    }

    fn sync(&mut self, session: &mut Session, now: Instant) -> Result<(), ConnectionError> {
        self.exchange(session, now).map_err(|e| self.fail(e))
    }

    fn poll_write<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.encode_pulled();
        self.out.slices(slices)
    }

    fn handle_written(&mut self, len: usize, now: Instant) {
        self.out.advance(len);
        self.liveness.handle_said(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::Ready => [self.liveness.poll_timeout(), self.ack_timer].into_iter().flatten().min(),
            State::BannerConnecting
            | State::HelloConnecting
            | State::AuthConnecting
            | State::AuthConnectingSign
            | State::CompressionConnecting
            | State::SessionOpening
            | State::SessionConnecting
            | State::SessionReconnecting
            | State::BannerAccepting
            | State::HelloAccepting
            | State::AuthAccepting
            | State::AuthAcceptingMore
            | State::AuthStandby
            | State::AuthAcceptingSign
            | State::CompressionAccepting
            | State::SessionAccepting
            | State::SessionDeciding => Some(self.deadline),
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.state == State::Closed {
            return Ok(());
        }
        if self.state == State::Ready {
            return self.ready_timeout(now).map_err(|e| self.fail(e));
        }
        if now >= self.deadline {
            let error = ConnectionError::HandshakeTimeout { state: self.state };
            return Err(self.fail(error));
        }
        Ok(())
    }
}

/// What the endpoint decided, as the connection carries it out.
impl Connection {
    /// The endpoint's answer to [`Connection::poll_request`]. After [`Decision::Closed`] only writing and
    /// [`Connection::poll_end`] are left, unless the peer does not understand CLOSE and is told of a reset instead.
    ///
    /// # Errors
    /// The decision was to refuse, the answer could not be encoded, or the connection ended before the decision came: it is
    /// dead, and [`Connection::session`] names the session that has lost it, if the decision had given it one.
    pub fn handle_decision(&mut self, decision: Decision, now: Instant) -> Result<(), ConnectionError> {
        self.carry_out(decision, now).map_err(|e| self.fail(e))
    }

    fn carry_out(&mut self, decision: Decision, now: Instant) -> Result<(), ConnectionError> {
        if let Decision::Accept { session, .. } = &decision {
            // Before anything can fail: the endpoint has bound it already.
            self.session = Some(*session);
        }
        if self.state != State::SessionDeciding {
            return Err(ConnectionError::Lost { state: self.state });
        }
        match decision {
            Decision::Accept { session: _, answer } => {
                match answer {
                    Answer::Ident(ident) => self.send(&ident)?,
                    Answer::ReconnectOk(ok) => self.send(&ok)?,
                }
                self.enter_ready(now);
                self.parse(now)
            }
            Decision::Reply(control) => {
                self.encoder.encode_control(&control, &mut self.out)?;
                self.set_state(State::SessionAccepting);
                self.parse(now)
            }
            // Who does not know CLOSE is told what it would hear from any end that has forgotten the session.
            Decision::Closed { .. } if !self.close_spoken() => {
                self.carry_out(Decision::Reply(SessionReset { full: true }.into()), now)
            }
            Decision::Closed { msg_seq } => {
                self.send(&SessionReconnectOk { msg_seq })?;
                self.send(&Close)?;
                self.ending = Some(ConnectionError::SessionEnded);
                Ok(())
            }
            Decision::Refuse(error) => Err(error),
        }
    }

    fn enter_ready(&mut self, now: Instant) {
        self.set_state(State::Ready);
        // Not when the signature was good: without a session nobody may announce a message, whose memory would be
        // claimed before anything else of it is looked at.
        self.decoder.set_limits(Limits::READY);
        self.liveness = Liveness::new(self.config.liveness, now);
    }
}
