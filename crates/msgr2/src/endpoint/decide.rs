//! What becomes of a newcomer on the accepting end.
//!
//! The order of the questions is the protocol (Ceph: `ProtocolV2::handle_client_ident`, `handle_existing_connection`,
//! `handle_reconnect`): each function here asks them in that order and answers at the first that applies. Two states
//! that Ceph knows do not occur: an existing connection is never "in the middle of being replaced", because a decision
//! is taken and carried out in one go.

use super::{Endpoint, Key, SESSIONS_MAX};
use crate::error::{ConnectionError, EndReason};
use crate::ids::{ChannelId, SessionId};
use crate::session::{Matching, Peer, Session, SessionConfig, SessionState};
use crate::wire::{
    AddrVec, ClientIdent, Control, EntityAddr, IDENT_FLAG_LOSSY, IdentMissingFeatures, ServerIdent,
    SessionReconnect, SessionReconnectOk, SessionReset, SessionRetry, SessionRetryGlobal, Wait,
};
use outlast_cephx::{EntityName, EntityType};
use outlast_session::{Convention, Inclusive64, Instant, LossReason};

/// How the newcomer introduced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Introduced {
    /// As somebody who wants a session.
    Ident(ClientIdent),
    /// As somebody who has one.
    Reconnect(SessionReconnect),
}

/// What an authenticated newcomer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// The connection that asks.
    pub channel: ChannelId,
    /// What it says.
    pub introduced: Introduced,
    /// Its type, from HELLO.
    pub entity_type: u8,
    /// The name that its credential proves; none with auth none.
    pub name: Option<EntityName>,
    /// The global id that authentication gave it.
    pub global_id: u64,
    /// Ceph features of this end.
    pub features_supported: u64,
    /// Ceph features that the newcomer must have.
    pub features_required: u64,
}

/// Whether the newcomer's session is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located {
    /// Lend this one to [`Endpoint::decide`].
    Known(SessionId),
    /// There is none.
    Unknown,
}

/// What the accepting end answers when it takes the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A new session, or one that begins anew.
    Ident(ServerIdent),
    /// The session goes on.
    ReconnectOk(SessionReconnectOk),
}

/// What becomes of the connection; hand it to [`crate::Connection::handle_decision`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It carries this session from now on.
    Accept {
        /// The session.
        session: SessionId,
        /// What the peer is told.
        answer: Answer,
    },
    /// The peer is told this, and may come again on the same connection.
    Reply(Control),
    /// It comes for a session that this end has closed, and could not be told: it is now, if it understands CLOSE. Ours.
    Closed {
        /// How many of its messages had arrived.
        msg_seq: u64,
    },
    /// The connection ends.
    Refuse(ConnectionError),
}

impl SessionRequest {
    fn key(&self, matching: Matching, peer: bool) -> Option<Key> {
        let (addresses, cookie) = match &self.introduced {
            Introduced::Ident(ident) => (&ident.addresses, ident.cookie),
            Introduced::Reconnect(reconnect) => (&reconnect.addresses, reconnect.client_cookie),
        };
        match (matching, &self.name) {
            (Matching::Address, _) => Some(Key::Addresses(addresses.clone())),
            (Matching::Identity, Some(name)) if peer => Some(Key::Peer { name: name.clone() }),
            // Without a cookie of its own a client is like any other of its name: it gets a session, and never finds
            // it again.
            (Matching::Identity, _) if cookie == 0 => None,
            (Matching::Identity, Some(name)) => Some(Key::Client { name: name.clone(), cookie }),
            // Without authentication there is no identity: the cookie, random and 64 bits long, is all there is.
            (Matching::Identity, None) => Some(Key::Client { name: anonymous(self.entity_type), cookie }),
        }
    }
}

fn anonymous(entity_type: u8) -> EntityName {
    let entity_type = EntityType::from_number(u32::from(entity_type)).unwrap_or(EntityType::Any);
    EntityName::new(entity_type, "")
}

impl Endpoint {
    fn accepted_config(&self, entity_type: u8) -> &SessionConfig {
        self.config.accepted.get(&entity_type).unwrap_or(&self.config.accepted_default)
    }

    /// What the newcomer's session is found by, if it is one that is found again.
    fn key(&self, request: &SessionRequest) -> Option<Key> {
        let config = self.accepted_config(request.entity_type);
        if !config.policy.registers() {
            return None;
        }
        request.key(config.matching, config.policy.is_peer())
    }

    /// Which session the newcomer may mean.
    #[must_use]
    pub fn locate(&self, request: &SessionRequest) -> Located {
        match self.key(request).and_then(|key| self.keys.get(&key)) {
            Some(id) => Located::Known(*id),
            None => Located::Unknown,
        }
    }

    /// Weighs the newcomer against the session that [`Endpoint::locate`] named, and changes that session. A new
    /// session, if one is made, is the caller's to keep. A caller that no longer has the session named lends none: it
    /// is then forgotten, and the newcomer is weighed as if it had never been.
    pub fn decide(
        &mut self,
        request: SessionRequest,
        existing: Option<&mut Session>,
        now: Instant,
    ) -> (Decision, Option<Session>) {
        match &request.introduced {
            Introduced::Ident(ident) => self.decide_ident(&request, ident, existing, now),
            Introduced::Reconnect(reconnect) => {
                (decide_reconnect(self, &request, reconnect, existing, now), None)
            }
        }
    }

    // ------------------------------------------------------------------ CLIENT_IDENT

    fn decide_ident(
        &mut self,
        request: &SessionRequest,
        ident: &ClientIdent,
        existing: Option<&mut Session>,
        now: Instant,
    ) -> (Decision, Option<Session>) {
        let config = self.accepted_config(request.entity_type).clone();
        if let Err(refusal) = self.check_ident(request, ident, &config) {
            return (Decision::Refuse(refusal), None);
        }
        let missing = request.features_required & !ident.features_supported;
        if missing != 0 {
            return (Decision::Reply(IdentMissingFeatures { features: missing }.into()), None);
        }
        match existing {
            None => self.admit(request, ident, config, now),
            Some(session) => self.decide_existing(request, ident, session, config, now),
        }
    }

    fn check_ident(
        &self,
        request: &SessionRequest,
        ident: &ClientIdent,
        config: &SessionConfig,
    ) -> Result<(), ConnectionError> {
        // Matched by identity, a peer may be behind anything, and reach us by any address.
        if config.matching == Matching::Address {
            if ident.addresses.is_blank() {
                return Err(ConnectionError::BlankAddress);
            }
            let ours = self.addresses();
            if !ours.0.is_empty() && !ours.contains(&ident.target) {
                return Err(ConnectionError::WrongTarget { wanted: ident.target.to_string() });
            }
        }
        name_allowed(request, ident.global_id)
    }

    /// The nine questions of `handle_existing_connection`; 2 does not occur here.
    fn decide_existing(
        &mut self,
        request: &SessionRequest,
        ident: &ClientIdent,
        session: &mut Session,
        config: SessionConfig,
        now: Instant,
    ) -> (Decision, Option<Session>) {
        // 1. It is over: as if there were none.
        if session.state == SessionState::Closed {
            self.bury(session);
            return self.admit(request, ident, config, now);
        }
        // Somebody else's session is never touched, whatever addresses a newcomer claims.
        if !is_peer_of(session, request) {
            return (Decision::Refuse(not_yours(request, ident.global_id)), None);
        }
        let both_cookies = session.server_cookie != 0 && session.client_cookie != 0 && ident.cookie != 0;
        let other_cookie = both_cookies && session.client_cookie != ident.cookie;
        let settled = matches!(session.state, SessionState::Ready { .. } | SessionState::Standby);
        if session.peer_global_seq > ident.global_seq && same_incarnation(session, ident) {
            // 3. An unsettled session of an incarnation that is gone.
            if other_cookie && !settled {
                return self.replace(request, ident, session, config, now);
            }
            // 4. The newcomer is older than what is known.
            let stale = ConnectionError::Stale { offered: ident.global_seq, known: session.peer_global_seq };
            return (Decision::Refuse(stale), None);
        }
        // 5. There is nothing to keep.
        if session.policy().lossy {
            return self.replace(request, ident, session, config, now);
        }
        // 6. The peer has forgotten the session.
        if other_cookie {
            if session.policy().resetcheck {
                session.reset(true);
            } else {
                session.inbox.reset();
            }
            return (self.take_over(request, ident, session, now), None);
        }
        // 7. The same session, whose establishment was interrupted.
        if session.client_cookie != 0 && session.client_cookie == ident.cookie {
            return (self.take_over(request, ident, session, now), None);
        }
        // 8. Not in the middle of dialling.
        if settled {
            session.inbox.reset();
            return (self.take_over(request, ident, session, now), None);
        }
        // 9. Two connections cross.
        if self.newcomer_wins(request, &ident.addresses.msgr2(), session) {
            session.inbox.reset();
            return (self.take_over(request, ident, session, now), None);
        }
        session.promised = true;
        (Decision::Reply(Wait.into()), None)
    }

    /// The connection opened by the lower end survives.
    fn newcomer_wins(&self, request: &SessionRequest, theirs: &EntityAddr, session: &Session) -> bool {
        // A connection that is under way may win; one that this end only means to open may never come through, and the
        // newcomer is here (Ceph PR 27359: two peers of which only one can reach the other).
        if session.policy().server || !matches!(session.state, SessionState::Connecting { .. }) {
            return true;
        }
        match (session.config.matching, &request.name) {
            (Matching::Identity, Some(name)) => *name < self.config.name,
            (Matching::Identity | Matching::Address, _) => *theirs < self.addresses().msgr2(),
        }
    }

    fn replace(
        &mut self,
        request: &SessionRequest,
        ident: &ClientIdent,
        session: &mut Session,
        config: SessionConfig,
        now: Instant,
    ) -> (Decision, Option<Session>) {
        session.finish(EndReason::Replaced, LossReason::Reset);
        self.forget(session.id);
        self.admit(request, ident, config, now)
    }

    /// A new session.
    fn admit(
        &mut self,
        request: &SessionRequest,
        ident: &ClientIdent,
        config: SessionConfig,
        now: Instant,
    ) -> (Decision, Option<Session>) {
        if self.sessions() >= SESSIONS_MAX {
            return (Decision::Refuse(ConnectionError::TooManySessions), None);
        }
        let limit = self.config.sessions_per_name_max;
        if request.name.as_ref().is_some_and(|name| self.sessions_of(name) >= limit) {
            return (Decision::Refuse(ConnectionError::TooManySessionsOfName { limit }), None);
        }
        let key = if config.policy.registers() {
            request.key(config.matching, config.policy.is_peer())
        } else {
            None
        };
        let dials_back = config.policy.is_peer() && config.matching == Matching::Address;
        let id = SessionId(self.next_id());
        let rng = self.generator();
        let mut session = Session::new(id, config, SessionState::Standby, now, rng);
        if dials_back {
            // Among equals either end may dial: the acceptor dials back where the other says it listens.
            session.target = Some(crate::session::Target {
                addresses: ident.addresses.clone(),
                entity_type: Some(request.entity_type),
                name: request.name.clone(),
            });
        }
        if let Some(key) = &key {
            self.forget_registered(key);
        }
        self.register(id, key, request.name.clone());
        let decision = self.take_over(request, ident, &mut session, now);
        (decision, Some(session))
    }

    /// The session begins, or begins anew, on the newcomer's connection.
    fn take_over(
        &mut self,
        request: &SessionRequest,
        ident: &ClientIdent,
        session: &mut Session,
        now: Instant,
    ) -> Decision {
        let lossy = session.policy().lossy;
        session.peer = Peer {
            entity_type: request.entity_type,
            number: ident.global_id,
            name: request.name.clone(),
            addresses: ident.addresses.clone(),
        };
        session.client_cookie = ident.cookie;
        session.server_cookie = if lossy { 0 } else { self.cookie() };
        session.connect_seq = 0;
        session.peer_global_seq = ident.global_seq;
        session.features = ident.features_supported & request.features_supported;
        session.local_addresses.get_or_insert_with(|| self.config.addresses.clone());
        session.outbox.rewind();
        session.become_ready(request.channel, now);
        if session.end().is_some() {
            // Its lifetime ran out at this very moment; whoever comes again begins anew.
            return Decision::Refuse(ConnectionError::SessionEnded);
        }
        let answer = ServerIdent {
            addresses: self.config.addresses.clone(),
            global_id: self.config.connection.number.unwrap_or(0),
            global_seq: self.next_global_seq(),
            features_supported: request.features_supported,
            features_required: request.features_required,
            flags: if lossy { IDENT_FLAG_LOSSY } else { 0 },
            cookie: session.server_cookie,
        };
        Decision::Accept { session: session.id, answer: Answer::Ident(answer) }
    }
}

// ---------------------------------------------------------------------- SESSION_RECONNECT

/// The nine questions of `handle_reconnect`; 3 does not occur here.
fn decide_reconnect(
    endpoint: &Endpoint,
    request: &SessionRequest,
    reconnect: &SessionReconnect,
    existing: Option<&mut Session>,
    now: Instant,
) -> Decision {
    let reset = |full| Decision::Reply(SessionReset { full }.into());
    // Ours: this end has closed it and is about to bury it, or has.
    let buried = || endpoint.closed.find(&endpoint.key(request)?, reconnect);
    let closing = existing.as_ref().filter(|s| s.continues(reconnect) && is_peer_of(s, request));
    if let Some(msg_seq) = closing.and_then(|s| s.closed_here()).or_else(buried) {
        return Decision::Closed { msg_seq };
    }
    // 1. and 2. Not known (any more).
    let Some(session) = existing.filter(|s| s.state != SessionState::Closed) else { return reset(true) };
    // Somebody else's session is never touched.
    if !is_peer_of(session, request) {
        return Decision::Refuse(not_yours(request, -1));
    }
    // 4. Another session than the one we have.
    if session.client_cookie != reconnect.client_cookie {
        return reset(session.policy().resetcheck);
    }
    // 5. Here it never was established.
    if session.server_cookie == 0 {
        return reset(false);
    }
    // Ours: between our own ends resuming takes both cookies, of which only this one never was a name.
    if session.config.matching == Matching::Identity && session.server_cookie != reconnect.server_cookie {
        return reset(true);
    }
    // 6. The peer's counter of attempts is behind.
    if session.peer_global_seq > reconnect.global_seq {
        return Decision::Reply(SessionRetryGlobal { global_seq: session.peer_global_seq }.into());
    }
    // 7. The session's counter of reconnections is.
    if session.connect_seq > reconnect.connect_seq {
        return Decision::Reply(SessionRetry { connect_seq: session.connect_seq }.into());
    }
    // 8. Both ends reconnect at once.
    if session.connect_seq == reconnect.connect_seq {
        match session.state {
            // Ours: one of the two has come through already, so this one was sent before it. It may be long dead: a
            // newcomer that is alive comes again with a higher number (Ceph goes by the addresses here, and lets a dead
            // connection of the lower one take a live session over).
            SessionState::Ready { .. } if !session.policy().server => {
                return Decision::Reply(SessionRetry { connect_seq: session.connect_seq }.into());
            }
            SessionState::Ready { .. }
            | SessionState::Pausing { .. }
            | SessionState::Connecting { .. }
            | SessionState::Standby
            | SessionState::Waiting { .. }
            | SessionState::Closed => {}
        }
        if !endpoint.newcomer_wins(request, &reconnect.addresses.msgr2(), session) {
            session.promised = true;
            return Decision::Reply(Wait.into());
        }
    }
    // 9. It goes on; not before what the newcomer says can be true, or a session that another connection carries would
    // repeat itself there.
    let count = Inclusive64::count(reconnect.msg_seq, session.outbox.acked_count()).unwrap_or(u64::MAX);
    match session.outbox.handle_ack(count) {
        Ok(freed) => session.counters.messages_acked += freed as u64,
        Err(error) => return Decision::Refuse(error.into()),
    }
    session.outbox.rewind();
    session.connect_seq = reconnect.connect_seq;
    session.peer_global_seq = reconnect.global_seq;
    session.become_ready(request.channel, now);
    if session.end().is_some() {
        return reset(true);
    }
    let ok = SessionReconnectOk { msg_seq: session.ack_seq() };
    Decision::Accept { session: session.id, answer: Answer::ReconnectOk(ok) }
}

/// Whether the newcomer can be who this session is with, as far as that is known: by the name that its credential
/// proves, and by its type. Of whom we dialled there may be no name, but a client is not the OSD at its address.
fn is_peer_of(session: &Session, request: &SessionRequest) -> bool {
    let wanted = session.target.as_ref();
    // A name that was only wished for can be asked of none where nobody proves any: with auth none, two equals that
    // dial each other by name would refuse each other for ever.
    let wished = wanted.and_then(|target| target.name.as_ref()).filter(|_| request.name.is_some());
    let name = session.peer.name.as_ref().or(wished);
    let entity_type = match session.peer.entity_type {
        0 => wanted.and_then(|target| target.entity_type),
        known => Some(known),
    };
    name.is_none_or(|name| request.name.as_ref() == Some(name))
        && entity_type.is_none_or(|known| known == request.entity_type)
}

/// Whether the newcomer is the process that this session knows, and not one that was started since: only then can the
/// counters of their attempts be compared. Matched by address it always is, because the nonce is part of the address;
/// matched by name a restarted peer would be kept out until it has tried as often as the one before it (Ceph PR 64122).
fn same_incarnation(session: &Session, ident: &ClientIdent) -> bool {
    let nonce = |addresses: &AddrVec| addresses.0.first().map(|a| a.nonce);
    match session.config.matching {
        Matching::Address => true,
        Matching::Identity => nonce(&session.peer.addresses) == nonce(&ident.addresses),
    }
}

/// The name claimed by type and number must be the one that the credential is for (spec: "mask this against what the
/// authenticated credential allows"). A client's number is the global id that authentication gave it, or -1 when it
/// only fetches its configuration.
fn name_allowed(request: &SessionRequest, claimed: i64) -> Result<(), ConnectionError> {
    let Some(name) = &request.name else { return Ok(()) };
    let type_matches = name.entity_type().number() == request.entity_type;
    let number_matches = match name.entity_type() {
        EntityType::Client => claimed == -1 || u64::try_from(claimed).is_ok_and(|c| c == request.global_id),
        // A daemon named by a number is that number; the others (mon.a, mds.x) number themselves.
        EntityType::Mon
        | EntityType::Mds
        | EntityType::Osd
        | EntityType::Mgr
        | EntityType::Auth
        | EntityType::Any => name.id().parse::<i64>().map_or(true, |number| number == claimed),
    };
    if type_matches && number_matches { Ok(()) } else { Err(not_yours(request, claimed)) }
}

fn not_yours(request: &SessionRequest, claimed: i64) -> ConnectionError {
    ConnectionError::NameNotAllowed {
        authenticated: request.name.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string),
        claimed_type: request.entity_type,
        claimed,
    }
}
