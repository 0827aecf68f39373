//! How a session is made.

use outlast_cephx::{EntityName, EntityType};
use outlast_msgr2::wire::EntityAddr;
use outlast_msgr2::{Credential, Matching, Policy, SessionConfig};
use outlast_session::{AckPolicy, BackoffConfig, GapPolicy, Lifetime, OutboxLimits, ThrottleLimits};
use std::time::Duration;

/// How long [`crate::Messenger::connect`] waits for the first connection unless told otherwise.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How long a session that came in lives without a connection unless told otherwise. The dialling end keeps its
/// sessions for ever: it is the one that can do something about it.
pub const ACCEPTED_LIFETIME: Duration = Duration::from_secs(3600);
/// How long [`crate::Session::close`], and the drop of a session's last handle, wait for acknowledgements.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long they then wait for the socket to take the last words, which tell the peer that the session is over. Without
/// them it keeps the session for its lifetime.
pub const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// What a session promises and how much it may keep. The defaults are those of the constants in this module and of
/// the types named.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionOptions {
    pub(crate) policy: Policy,
    pub(crate) lifetime: Lifetime,
    pub(crate) outbox: OutboxLimits,
    pub(crate) inbound: ThrottleLimits,
    pub(crate) backoff: BackoffConfig,
    pub(crate) ack: AckPolicy,
    pub(crate) gaps: GapPolicy,
}

impl SessionOptions {
    /// For this policy.
    #[must_use]
    pub fn policy(policy: Policy) -> Self {
        let SessionConfig { outbox, inbound, backoff, ack, gaps, .. } = SessionConfig::new(policy);
        let lifetime = if policy.server { Lifetime::For(ACCEPTED_LIFETIME) } else { Lifetime::Forever };
        Self { policy, lifetime, outbox, inbound, backoff, ack, gaps }
    }

    /// Serves lossless clients: [`Policy::STATEFUL_SERVER`].
    #[must_use]
    pub fn server() -> Self {
        Self::policy(Policy::STATEFUL_SERVER)
    }

    /// Dials, and loses nothing: [`Policy::LOSSLESS_CLIENT`].
    #[must_use]
    pub fn lossless() -> Self {
        Self::policy(Policy::LOSSLESS_CLIENT)
    }

    /// Dials, and ends with its connection; whether it is lossy is the acceptor's decision:
    /// [`Policy::LOSSY_CLIENT`].
    #[must_use]
    pub fn lossy() -> Self {
        Self::policy(Policy::LOSSY_CLIENT)
    }

    /// One of two equals: [`Policy::LOSSLESS_PEER_REUSE`]. Either may dial, and there is one session between two
    /// names.
    #[must_use]
    pub fn peer() -> Self {
        Self::policy(Policy::LOSSLESS_PEER_REUSE)
    }

    /// How long the session lives without a connection, the time that the machine sleeps included.
    ///
    /// Of sessions that come in, [`Lifetime::Forever`] means: one whose peer never returns is kept, with all that is
    /// queued either way, until this end closes it or drops its last handle. Such sessions hold their places in
    /// [`crate::Builder::sessions_per_name_max`], so a peer that loses its sessions again and again is locked out at some
    /// time, and stays so. Close what you no longer want, or set a lifetime.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// What may be queued and unacknowledged before senders have to wait.
    #[must_use]
    pub fn outbox(mut self, limits: OutboxLimits) -> Self {
        self.outbox = limits;
        self
    }

    /// What may have come in before the application takes it: messages, and bytes of payload. Beyond that the peer
    /// is not read from. A single message that is larger passes when nothing else waits.
    #[must_use]
    pub fn inbound(mut self, messages_max: usize, bytes_max: usize) -> Self {
        self.inbound = ThrottleLimits { messages_max, bytes_max };
        self
    }

    /// Pauses between attempts to connect.
    #[must_use]
    pub fn backoff(mut self, backoff: BackoffConfig) -> Self {
        self.backoff = backoff;
        self
    }

    /// When an acknowledgement is sent that no message carries.
    #[must_use]
    pub fn ack(mut self, ack: AckPolicy) -> Self {
        self.ack = ack;
        self
    }

    pub(crate) fn config(&self, matching: Matching) -> SessionConfig {
        SessionConfig {
            policy: self.policy,
            matching,
            outbox: self.outbox,
            inbound: self.inbound,
            lifetime: self.lifetime,
            backoff: self.backoff,
            ack: self.ack,
            gaps: self.gaps,
        }
    }
}

/// How a session is opened.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub(crate) session: SessionOptions,
    pub(crate) within: Duration,
    pub(crate) entity_type: Option<EntityType>,
    pub(crate) name: Option<EntityName>,
    pub(crate) credential: Option<Credential>,
    pub(crate) known_as: Option<EntityAddr>,
}

impl From<SessionOptions> for ConnectOptions {
    fn from(session: SessionOptions) -> Self {
        Self {
            session,
            within: CONNECT_WITHIN,
            entity_type: None,
            name: None,
            credential: None,
            known_as: None,
        }
    }
}

impl ConnectOptions {
    /// See [`SessionOptions::lossless`].
    #[must_use]
    pub fn lossless() -> Self {
        SessionOptions::lossless().into()
    }

    /// See [`SessionOptions::lossy`].
    #[must_use]
    pub fn lossy() -> Self {
        SessionOptions::lossy().into()
    }

    /// See [`SessionOptions::peer`].
    #[must_use]
    pub fn peer() -> Self {
        SessionOptions::peer().into()
    }

    /// For this policy.
    #[must_use]
    pub fn policy(policy: Policy) -> Self {
        SessionOptions::policy(policy).into()
    }

    /// How long [`crate::Messenger::connect`] waits for the session to be established.
    #[must_use]
    pub fn connect_within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// The type of entity that must answer.
    #[must_use]
    pub fn entity_type(mut self, entity_type: EntityType) -> Self {
        self.entity_type = Some(entity_type);
        self
    }

    /// Whom a peer session is with: there is one session between two names.
    #[must_use]
    pub fn name(mut self, name: EntityName) -> Self {
        self.name = Some(name);
        self
    }

    /// What the peer calls itself, if that is not just the address that is dialled. Ceph's daemons refuse whoever calls
    /// them by another address than their maps have, nonce included (`osd dump` prints them; a monitor's nonce is 0):
    /// say it here for an OSD or an MDS, and for any daemon that is reached through a relay or a tunnel. Outlast does
    /// not care.
    #[must_use]
    pub fn known_as(mut self, address: EntityAddr) -> Self {
        self.known_as = Some(address);
        self
    }

    /// Proves itself with this instead of the messenger's own key: a ticket towards a Ceph service, for example.
    #[must_use]
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = Some(credential);
        self
    }

    /// See [`SessionOptions::lifetime`].
    #[must_use]
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.session = self.session.lifetime(lifetime);
        self
    }

    /// See [`SessionOptions::outbox`].
    #[must_use]
    pub fn outbox(mut self, limits: OutboxLimits) -> Self {
        self.session = self.session.outbox(limits);
        self
    }

    /// See [`SessionOptions::inbound`].
    #[must_use]
    pub fn inbound(mut self, messages_max: usize, bytes_max: usize) -> Self {
        self.session = self.session.inbound(messages_max, bytes_max);
        self
    }

    /// See [`SessionOptions::backoff`].
    #[must_use]
    pub fn backoff(mut self, backoff: BackoffConfig) -> Self {
        self.session = self.session.backoff(backoff);
        self
    }

    /// See [`SessionOptions::ack`].
    #[must_use]
    pub fn ack(mut self, ack: AckPolicy) -> Self {
        self.session = self.session.ack(ack);
        self
    }
}
