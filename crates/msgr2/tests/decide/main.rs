//! The acceptor's table of decisions, one test for each row, asked with hand-made requests.
//!
//! The order of the questions is Ceph's (`src/msg/async/ProtocolV2.cc`, `handle_reconnect` and
//! `handle_existing_connection`). Two of its rows cannot occur here and have a test that says why: an existing
//! connection is never found in the middle of being replaced.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect is a failure, whatever it is"
)]

mod ident_rows;
mod identity;
mod names;
mod reconnect_rows;
mod registered;

use outlast_cephx::EntityName;
use outlast_msgr2::endpoint::{Answer, CLOSED_SESSIONS_MAX, Introduced, NoAddress, SESSIONS_PER_NAME_MAX};
use outlast_msgr2::wire::{
    AddrVec, ClientIdent, Control, EntityAddr, IDENT_FLAG_LOSSY, IdentMissingFeatures, ServerIdent,
    SessionReconnect, SessionReset, SessionRetry, SessionRetryGlobal, Wait,
};
use outlast_msgr2::{
    ChannelId, ConnectionConfig, ConnectionError, Credential, Decision, EndReason, Endpoint, EndpointConfig,
    FEATURE_MSG_ADDR2, FEATURES_SUPPORTED, Fault, Located, Matching, Message, Policy, Session, SessionConfig,
    SessionEvent, SessionRequest, SessionState, Target,
};
use outlast_session::{AckError, Instant, LossReason, MessageId, ReceiptStatus};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NOW: Instant = Instant::from_nanos(5_000_000_000);
const OSD: u8 = 4;
const COOKIE: u64 = 77;
const GLOBAL_ID: u64 = 4123;

fn address(host: u8) -> EntityAddr {
    EntityAddr::msgr2(([10, 0, 0, host], 6800).into(), 1)
}

/// Ours; those of peers are lower or higher.
const OWN_HOST: u8 = 5;
const LOWER: u8 = 4;
const HIGHER: u8 = 6;

/// The accepting process, the one session it may have with the newcomer, and what became of its message.
struct Acceptor {
    endpoint: Endpoint,
    session: Option<Session>,
    channels: u64,
    request: SessionRequest,
}

impl Acceptor {
    fn new(config: SessionConfig) -> Self {
        Self::with_limit(config, SESSIONS_PER_NAME_MAX)
    }

    fn with_limit(config: SessionConfig, sessions_per_name_max: usize) -> Self {
        let mut connection = ConnectionConfig::new(OSD);
        connection.number = Some(2);
        let endpoint = EndpointConfig {
            name: "osd.2".parse().unwrap(),
            addresses: AddrVec::from(address(OWN_HOST)),
            nonce: 1,
            connection: Arc::new(connection),
            accepted: BTreeMap::new(),
            accepted_default: config,
            sessions_per_name_max,
        };
        let request = SessionRequest {
            channel: ChannelId(0),
            introduced: Introduced::Ident(ident(LOWER, 1, COOKIE)),
            entity_type: OSD,
            name: None,
            global_id: GLOBAL_ID,
            features_supported: FEATURES_SUPPORTED,
            features_required: FEATURE_MSG_ADDR2,
        };
        Self { endpoint: Endpoint::new(endpoint, [9; 32]), session: None, channels: 1000, request }
    }

    fn by_address(policy: Policy) -> Self {
        Self::new(SessionConfig::new(policy))
    }

    /// With an authenticated newcomer of this name.
    fn by_identity(policy: Policy, name: &str) -> Self {
        let mut acceptor =
            Self::new(SessionConfig { matching: Matching::Identity, ..SessionConfig::new(policy) });
        acceptor.newcomer(name);
        acceptor
    }

    fn newcomer(&mut self, name: &str) {
        let name: EntityName = name.parse().unwrap();
        self.request.entity_type = name.entity_type().number();
        self.request.name = Some(name);
    }

    /// Asks on a new connection, as a driver would.
    fn ask(&mut self, introduced: Introduced) -> Decision {
        self.channels += 1;
        let request =
            SessionRequest { channel: ChannelId(self.channels), introduced, ..self.request.clone() };
        let located = self.endpoint.locate(&request);
        let known = match (&located, &self.session) {
            (Located::Known(id), Some(session)) if *id == session.id() => self.session.as_mut(),
            (Located::Known(_) | Located::Unknown, _) => None,
        };
        let (decision, fresh) = self.endpoint.decide(request, known, NOW);
        if let Some(fresh) = fresh {
            self.session = Some(fresh);
        }
        decision
    }

    fn ident(&mut self, ident: ClientIdent) -> Decision {
        self.ask(Introduced::Ident(ident))
    }

    fn reconnect(&mut self, reconnect: SessionReconnect) -> Decision {
        self.ask(Introduced::Reconnect(reconnect))
    }

    fn session(&mut self) -> &mut Session {
        self.session.as_mut().unwrap()
    }

    /// An accepted session with the peer at this host, and its server cookie.
    fn accepted(&mut self, host: u8, global_seq: u64) -> u64 {
        let answer = accepted(self.ident(ident(host, global_seq, COOKIE)));
        while self.session().poll_event().is_some() {}
        answer.cookie
    }

    /// It has lost its connection.
    fn lost(&mut self) {
        let channel = self.session().state().channel().unwrap();
        let error = ConnectionError::Unreachable { reason: "cut".to_owned() };
        self.session().connection_lost(channel, error, NOW);
        while self.session().poll_event().is_some() {}
    }

    fn say(&mut self) -> MessageId {
        self.session().send(Message::new(1), NOW).unwrap()
    }

    /// The session dials, if it is about to.
    fn dial(&mut self) {
        let session = self.session.as_mut().unwrap();
        let at = session.poll_timeout().unwrap_or(NOW).max(NOW);
        let target = session.poll_dial(at).unwrap();
        let credential = Credential::None { name: "osd.2".parse().unwrap(), global_id: 0 };
        let _connection = self.endpoint.dial(session, target, credential, at);
        assert!(matches!(session.state(), SessionState::Connecting { .. }));
    }

    /// A session that this end opens to the peer at this host; not dialled yet.
    fn opened(&mut self, host: u8) {
        let target = Target { addresses: address(host).into(), entity_type: None, name: None };
        let config = self.endpoint_default();
        self.session = Some(self.endpoint.connect(target, config, NOW).unwrap());
    }

    fn endpoint_default(&self) -> SessionConfig {
        SessionConfig::new(Policy::LOSSLESS_PEER)
    }

    fn events(&mut self) -> Vec<SessionEvent> {
        std::iter::from_fn(|| self.session().poll_event()).collect()
    }
}

fn ident(host: u8, global_seq: u64, cookie: u64) -> ClientIdent {
    ClientIdent {
        addresses: address(host).into(),
        target: address(OWN_HOST),
        global_id: 1,
        global_seq,
        features_supported: FEATURES_SUPPORTED,
        features_required: 0,
        flags: 0,
        cookie,
    }
}

fn reconnect(host: u8, server_cookie: u64, global_seq: u64, connect_seq: u64) -> SessionReconnect {
    SessionReconnect {
        addresses: address(host).into(),
        client_cookie: COOKIE,
        server_cookie,
        global_seq,
        connect_seq,
        msg_seq: 0,
    }
}

fn reset(full: bool) -> Decision {
    Decision::Reply(SessionReset { full }.into())
}

fn wait() -> Decision {
    Decision::Reply(Control::from(Wait))
}

#[track_caller]
fn accepted(decision: Decision) -> ServerIdent {
    match decision {
        Decision::Accept { answer: Answer::Ident(ident), .. } => ident,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn resumed(decision: Decision) -> u64 {
    match decision {
        Decision::Accept { answer: Answer::ReconnectOk(ok), .. } => ok.msg_seq,
        other => panic!("{other:?}"),
    }
}
