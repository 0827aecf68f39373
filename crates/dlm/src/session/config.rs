//! What a session is made with, and its limits.

use core::fmt;
use core::time::Duration;

use outlast_session::{AckPolicy, BackoffConfig, OutboxLimits};

use crate::wire::{NodeId, Version};

/// Connections that one session has at a time. The kernel has two: the one it sends on, and another that it only reads.
/// More come when a peer dials anew and this end has not heard yet that the old ones are dead.
pub const CHANNELS_MAX: usize = 4;

/// Status requests and answers that wait for a connection.
pub const URGENT_MAX: usize = 64;

/// Events that wait for somebody to look.
pub(super) const EVENTS_MAX: usize = 256;

/// The kernel may leave so many messages unacknowledged for ever when it has nothing to say (256 received, and 32 before
/// it sends): an outbox with less room would wait for an acknowledgement that never comes.
pub const OUTSTANDING_MESSAGES_MIN: usize = 2 * (256 + 32);

/// How long messages that are missing may take to come again. The kernel repeats them behind what was waiting already,
/// at most its own queue; after that only another reset makes it repeat them.
pub const MISSING_WAIT_MAX: Duration = Duration::from_secs(2);

/// A connection, as its session knows it. Never used twice within a process.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChannelId(pub u64);

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a session is made with.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// This end.
    pub node: NodeId,
    /// The other.
    pub peer: NodeId,
    /// What this end says that it speaks. With 3.1 nothing is numbered, and what a connection takes along is lost.
    pub announce: Version,
    /// Which life of this node it is: a random number, told to peers of ours so that they notice a restart that nobody has
    /// told them of. 0: not told.
    pub incarnation: u64,
    /// What is kept until it is acknowledged; at least [`OUTSTANDING_MESSAGES_MIN`] messages.
    pub limits: OutboxLimits,
    /// When to acknowledge.
    pub acks: AckPolicy,
    /// How long to wait before dialling again.
    pub backoff: BackoffConfig,
}

impl SessionConfig {
    /// Both ends, and for the rest what suits a kernel.
    pub fn new(node: NodeId, peer: NodeId) -> Self {
        Self {
            node,
            peer,
            announce: Version::V3_2,
            incarnation: 0,
            limits: OutboxLimits::default(),
            // As often as the kernel when it has something to say, and without waiting for that.
            acks: AckPolicy { messages_max: 32, bytes_max: 32 * 1024, delay_max: Duration::from_millis(10) },
            backoff: BackoffConfig { max: Duration::from_secs(1), ..BackoffConfig::default() },
        }
    }

    pub(super) fn checked(mut self) -> Self {
        self.limits.messages_max = self.limits.messages_max.max(OUTSTANDING_MESSAGES_MIN);
        self
    }
}
