//! What a session is made with, and whom it is with.

use crate::policy::Policy;
use crate::wire::AddrVec;
use outlast_cephx::EntityName;
use outlast_session::{AckPolicy, BackoffConfig, GapPolicy, Lifetime, OutboxLimits, ThrottleLimits};

/// How a session is recognised when its peer comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matching {
    /// As Ceph does: by the address vector that the peer claims. Anybody who may authenticate can claim it.
    Address,
    /// By the authenticated name and the cookies of both ends: NAT, a relay and a changed address do no harm, and
    /// resuming takes both cookies. Only between our own ends.
    Identity,
}

/// What a session is made with.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionConfig {
    /// What is promised to the peer.
    pub policy: Policy,
    /// How it is recognised.
    pub matching: Matching,
    /// Bounds of what is queued and unacknowledged.
    pub outbox: OutboxLimits,
    /// Bounds of what has come in and was not yet taken by the application.
    pub inbound: ThrottleLimits,
    /// How long it lives without a connection.
    pub lifetime: Lifetime,
    /// Pauses between attempts to connect.
    pub backoff: BackoffConfig,
    /// When a separate acknowledgement is sent.
    pub ack: AckPolicy,
    /// What a hole in the peer's numbers means. Ceph leaves holes where a message was revoked.
    pub gaps: GapPolicy,
}

impl SessionConfig {
    /// The defaults for a policy, as towards Ceph.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            matching: Matching::Address,
            outbox: OutboxLimits::default(),
            inbound: ThrottleLimits { messages_max: INBOUND_MESSAGES_MAX, bytes_max: INBOUND_BYTES_MAX },
            lifetime: Lifetime::Forever,
            backoff: BackoffConfig::default(),
            ack: AckPolicy::default(),
            gaps: GapPolicy::Accept,
        }
    }
}

/// Messages that wait for the application before reading stops; Ceph's throttle for clients is of this order.
pub const INBOUND_MESSAGES_MAX: usize = 16 * 1024;
/// Bytes that wait for the application before reading stops. One message larger than this still passes alone.
pub const INBOUND_BYTES_MAX: usize = 64 << 20;

/// The other end, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Its entity type (`CEPH_ENTITY_TYPE_*`), from HELLO.
    pub entity_type: u8,
    /// The number in its ident: a daemon's id, a client's global id.
    pub number: i64,
    /// The name its credential is for; none with auth none or while unknown.
    pub name: Option<EntityName>,
    /// Its addresses, as it says.
    pub addresses: AddrVec,
}

/// Where a session dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Addresses to try, in turn.
    pub addresses: AddrVec,
    /// The entity type that must answer, if that matters.
    pub entity_type: Option<u8>,
    /// The name that must answer; for peers matched by identity.
    pub name: Option<EntityName>,
}
