//! What can be seen of a session from outside.

use crate::core::{Core, Locked};
use outlast_cephx::{EntityName, EntityType, KeyType};
use outlast_msgr2::compress::Algorithm;
use outlast_msgr2::wire::{AddrVec, AuthMethod, ConnectionMode, EntityAddr};
use outlast_msgr2::{Connection, EndReason, SessionState};
use outlast_net::Address;
use outlast_session::Counters;
use std::time::Duration;

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It has not had a connection yet.
    Connecting,
    /// A connection carries it.
    Connected,
    /// It has none at the moment, and is being connected again or waits for its peer to do so.
    Interrupted {
        /// For how long by now, the time that the machine slept included.
        since: Duration,
    },
    /// It is over.
    Ended(EndReason),
}

/// The other end of a session, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its name: proven, or else claimed, or else made of its type and number.
    pub name: EntityName,
    /// It has proven the name with a key. What a dialling end proves to us is that it accepts ours.
    pub proven: bool,
    /// Its type.
    pub entity_type: EntityType,
    /// The number in its introduction: a daemon's own, a client's from authentication.
    pub number: i64,
    /// The addresses that it says it has.
    pub addresses: AddrVec,
    /// Where the last connection came from or went to.
    pub address: Option<Address>,
}

/// What the two ends of a connection have agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Encrypted or with checksums only.
    pub mode: ConnectionMode,
    /// How the dialling end was authenticated.
    pub method: AuthMethod,
    /// The type of the key that signed the handshake; none with the method none.
    pub key_type: Option<KeyType>,
    /// msgr2.1 rather than msgr2.0.
    pub revision_1: bool,
    /// The compression of frames.
    pub compression: Option<Algorithm>,
    /// msgr2 features of the peer.
    pub peer_msgr2_features: u64,
    /// Our address, as the peer sees it.
    pub our_address: Option<EntityAddr>,
}

/// A session in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Where it stands.
    pub status: Status,
    /// Connections that have carried it.
    pub connects: u64,
    /// What it has done so far.
    pub counters: Counters,
    /// Messages that have not been handed to a connection.
    pub pending_messages: usize,
    /// Their bytes, with an overhead for each.
    pub pending_bytes: usize,
    /// Messages that were handed to a connection and are not acknowledged.
    pub unacked_messages: usize,
    /// Their bytes, with an overhead for each.
    pub unacked_bytes: usize,
    /// Messages that came in and were not taken yet.
    pub inbound_messages: usize,
    /// The last keepalive's round trip.
    pub round_trip: Option<Duration>,
    /// What was agreed on the last connection.
    pub agreed: Option<Agreed>,
}

impl Agreed {
    pub(crate) fn of(connection: &Connection) -> Option<Self> {
        let agreement = connection.agreement();
        Some(Self {
            mode: agreement.mode?,
            method: connection.authenticated()?.method,
            key_type: connection.authenticated()?.session_key_type(),
            revision_1: agreement.revision_1,
            compression: agreement.compression,
            peer_msgr2_features: agreement.peer_banner.as_ref().map_or(0, |banner| banner.supported),
            our_address: agreement.peer_hello.as_ref().map(|hello| hello.peer_address),
        })
    }
}

impl Core {
    pub(crate) fn status(&self) -> Status {
        self.status_of(&self.lock())
    }

    fn status_of(&self, locked: &Locked) -> Status {
        match locked.session.state() {
            SessionState::Ready { .. } => Status::Connected,
            SessionState::Closed => {
                Status::Ended(locked.session.end().cloned().unwrap_or(EndReason::ClosedUndrained))
            }
            SessionState::Pausing { .. }
            | SessionState::Connecting { .. }
            | SessionState::Standby
            | SessionState::Waiting { .. } => {
                if !locked.was_connected() {
                    return Status::Connecting;
                }
                let now = self.inner.clock.now();
                Status::Interrupted {
                    since: locked.away_since.map_or(Duration::ZERO, |at| now.saturating_since(at)),
                }
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let locked = self.lock();
        let outbox = locked.session.outbox();
        Stats {
            status: self.status_of(&locked),
            connects: locked.session.connects(),
            counters: locked.session.counters(),
            pending_messages: outbox.pending_len(),
            pending_bytes: outbox.pending_bytes(),
            unacked_messages: outbox.unacked_len(),
            unacked_bytes: outbox.unacked_bytes(),
            inbound_messages: locked.session.inbound_len(),
            round_trip: locked.round_trip,
            agreed: locked.agreed.clone(),
        }
    }

    pub(crate) fn peer_info(&self) -> PeerInfo {
        let locked = self.lock();
        let peer = locked.session.peer();
        PeerInfo {
            name: locked.peer(),
            proven: peer.name.is_some(),
            entity_type: EntityType::from_number(u32::from(peer.entity_type)).unwrap_or(EntityType::Any),
            number: peer.number,
            addresses: peer.addresses.clone(),
            address: locked.address.clone(),
        }
    }
}
