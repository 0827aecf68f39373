//! The message-flow handshake, as the dialling end decides it (spec: "Message flow handshake"; Ceph:
//! `ProtocolV2::handle_server_ident`, `handle_session_reset`, `handle_session_retry` and their neighbours).

use super::{Matching, Session, SessionEvent, SessionState};
use crate::error::ConnectionError;
use crate::ids::ChannelId;
use crate::wire::{AddrVec, ClientIdent, EntityAddr, IDENT_FLAG_LOSSY, ServerIdent, SessionReconnect};
use outlast_session::{Convention, Delivery, Inclusive64, Instant, LossReason};
use rand_core::Rng;

/// Ceph features (`src/include/ceph_features.h`) that this end has: MSG_ADDR2, without which no ident can be written,
/// and what goes with the encoding of its addresses (SERVER_NAUTILUS and its incarnation mask).
pub const FEATURES_SUPPORTED: u64 = FEATURE_MSG_ADDR2 | 1 << 2 | 1 << 28 | 1 << 57;
/// What clients of Ceph 16 to 20 have: a daemon turns away whoever lacks what it requires of a client. The bits speak of
/// the encoding of messages, which is the application's.
pub const FEATURES_CEPH: u64 = 0x3f01_cfbf_fffd_ffff;
/// Addresses in the form that msgr2 uses.
pub const FEATURE_MSG_ADDR2: u64 = 1 << 59;

/// What a connection brings along when it introduces this end.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    /// What this end calls itself if it never did in this session.
    pub(crate) addresses: AddrVec,
    /// The number of this entity: a daemon's id, a client's global id.
    pub(crate) number: i64,
    /// This attempt's place among the process's attempts.
    pub(crate) global_seq: u64,
    /// The address that was dialled.
    pub(crate) target: EntityAddr,
    pub(crate) features_supported: u64,
    pub(crate) features_required: u64,
}

/// How to introduce this end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opening {
    Ident(ClientIdent),
    Reconnect(SessionReconnect),
}

impl Session {
    /// What the connection shall say first: who we are, or which session it continues.
    pub(crate) fn open(
        &mut self,
        channel: ChannelId,
        intro: &Introduction,
    ) -> Result<Opening, ConnectionError> {
        self.expect_connecting(channel)?;
        // Holding a server cookie is what makes a session one that can be continued (spec: "cookies").
        if self.server_cookie == 0 {
            return Ok(Opening::Ident(self.ident(intro)));
        }
        self.connect_seq = self.connect_seq.saturating_add(1);
        Ok(Opening::Reconnect(self.reconnect(intro)))
    }

    fn expect_connecting(&self, channel: ChannelId) -> Result<(), ConnectionError> {
        match self.state {
            SessionState::Connecting { channel: own } if own == channel => Ok(()),
            SessionState::Closed => Err(ConnectionError::SessionEnded),
            SessionState::Connecting { .. }
            | SessionState::Ready { .. }
            | SessionState::Pausing { .. }
            | SessionState::Standby
            | SessionState::Waiting { .. } => Err(ConnectionError::Superseded),
        }
    }

    fn ident(&mut self, intro: &Introduction) -> ClientIdent {
        let lossy = self.config.policy.lossy;
        // Between our own ends the cookie is half of what a client is known by, and whether the session is lossy is not
        // its decision.
        if lossy && self.config.matching == Matching::Address {
            self.client_cookie = 0;
        } else {
            while self.client_cookie == 0 {
                self.client_cookie = self.rng.next_u64();
            }
        }
        let addresses = self.local_addresses.get_or_insert_with(|| intro.addresses.clone()).clone();
        ClientIdent {
            addresses,
            target: intro.target,
            global_id: intro.number,
            global_seq: intro.global_seq,
            features_supported: intro.features_supported,
            features_required: intro.features_required,
            flags: if lossy { IDENT_FLAG_LOSSY } else { 0 },
            cookie: self.client_cookie,
        }
    }

    fn reconnect(&mut self, intro: &Introduction) -> SessionReconnect {
        SessionReconnect {
            addresses: self.local_addresses.get_or_insert_with(|| intro.addresses.clone()).clone(),
            client_cookie: self.client_cookie,
            server_cookie: self.server_cookie,
            global_seq: intro.global_seq,
            connect_seq: self.connect_seq,
            msg_seq: self.ack_seq(),
        }
    }

    /// SERVER_IDENT: a new session is established.
    pub(crate) fn take_server_ident(
        &mut self,
        channel: ChannelId,
        ident: &ServerIdent,
        intro: &Introduction,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        self.expect_connecting(channel)?;
        // The acceptor looks only at its own requirements; ours are ours to check.
        let missing = intro.features_required & !ident.features_supported;
        if missing != 0 {
            return Err(ConnectionError::MissingFeatures { missing });
        }
        let missing = ident.features_required & !intro.features_supported;
        if missing != 0 {
            return Err(ConnectionError::MissingFeatures { missing });
        }
        let named = ident.addresses.contains(&intro.target);
        if self.config.matching == Matching::Address && !named && !same_place(&ident.addresses, &intro.target)
        {
            return Err(ConnectionError::WrongPeer {
                dialled: intro.target.to_string(),
                found: ident.addresses.to_string(),
            });
        }
        self.peer.addresses = ident.addresses.clone();
        self.peer.number = ident.global_id;
        self.server_cookie = ident.cookie;
        // What the peer dialled before it answered us is older than this session (Ceph: `handle_server_ident`).
        self.peer_global_seq = ident.global_seq;
        self.features = ident.features_supported & intro.features_supported;
        self.adopt_lossy(ident.flags & IDENT_FLAG_LOSSY != 0);
        self.inbox.reset();
        self.outbox.rewind();
        self.become_ready(channel, now);
        Ok(())
    }

    /// The acceptor decides whether the session loses messages (Ceph: `handle_server_ident`).
    fn adopt_lossy(&mut self, lossy: bool) {
        self.config.policy.lossy = lossy;
        let delivery = if lossy { Delivery::Lossy } else { Delivery::Lossless };
        self.outbox.set_delivery(delivery);
        self.inbox.set_delivery(delivery);
    }

    /// SESSION_RECONNECT_OK: the session goes on; the peer has everything up to `msg_seq`.
    pub(crate) fn take_reconnect_ok(
        &mut self,
        channel: ChannelId,
        msg_seq: u64,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        self.expect_connecting(channel)?;
        self.outbox.rewind();
        let count = Inclusive64::count(msg_seq, self.outbox.acked_count()).unwrap_or(u64::MAX);
        self.counters.messages_acked += self.outbox.handle_ack(count)? as u64;
        self.become_ready(channel, now);
        Ok(())
    }

    /// SESSION_RETRY: our connect_seq is behind; go on with the acceptor's plus one, on the same connection.
    pub(crate) fn take_retry(
        &mut self,
        channel: ChannelId,
        connect_seq: u64,
        intro: &Introduction,
    ) -> Result<Opening, ConnectionError> {
        self.expect_connecting(channel)?;
        self.connect_seq = connect_seq.saturating_add(1);
        Ok(Opening::Reconnect(self.reconnect(intro)))
    }

    /// SESSION_RETRY_GLOBAL: our global_seq is behind; `intro` has the raised one.
    pub(crate) fn take_retry_global(
        &mut self,
        channel: ChannelId,
        intro: &Introduction,
    ) -> Result<Opening, ConnectionError> {
        self.expect_connecting(channel)?;
        Ok(Opening::Reconnect(self.reconnect(intro)))
    }

    /// SESSION_RESET: the acceptor does not know the session. In full: it is lost with everything queued; else only
    /// the places in the stream are forgotten. Either way this end introduces itself, on the same connection.
    pub(crate) fn take_reset(
        &mut self,
        channel: ChannelId,
        full: bool,
        intro: &Introduction,
    ) -> Result<Opening, ConnectionError> {
        self.expect_connecting(channel)?;
        self.reset(full);
        Ok(Opening::Ident(self.ident(intro)))
    }

    /// Forgets the session, as the other end has.
    pub(crate) fn reset(&mut self, full: bool) {
        let mut lost = 0;
        if full {
            lost = self.outbox.lose_all(LossReason::Reset);
            self.counters.lost += lost as u64;
            self.client_cookie = 0;
            self.peer_global_seq = 0;
        }
        self.server_cookie = 0;
        self.connect_seq = 0;
        self.inbox.reset();
        self.counters.resets += 1;
        self.push_event(SessionEvent::Reset { lost });
    }
}

/// Whether one of the addresses is the dialled one but for the nonce, where none was dialled: a user who types
/// `host:port` does not know the process's nonce.
fn same_place(addresses: &AddrVec, target: &EntityAddr) -> bool {
    target.nonce == 0
        && target.socket_addr().is_some()
        && addresses.0.iter().any(|a| a.socket_addr() == target.socket_addr())
}
