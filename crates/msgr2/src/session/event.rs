//! What a session tells its application.

use crate::error::{ConnectionError, EndReason};
use outlast_session::Instant;
use std::time::Duration;

/// Something that happened to the session as a whole. Whoever passes these on has to hear of a new one from the compiler:
/// there are no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The session is established for the first time.
    Connected,
    /// Its connection is gone; messages queue up.
    Interrupted {
        /// Since when, on the driver's clock.
        since: Instant,
        /// Why.
        cause: ConnectionError,
    },
    /// An attempt to connect failed; there will be another.
    AttemptFailed {
        /// Why.
        cause: ConnectionError,
    },
    /// A new connection carries on where the old one ended.
    Resumed {
        /// Unacknowledged messages that will be sent again, after the peer said what it has.
        replayed: usize,
        /// How long there was no connection.
        away: Duration,
    },
    /// The peer has forgotten the session: it begins anew.
    Reset {
        /// Messages lost with it; their receipts say so. 0 after a partial reset, which keeps them.
        lost: usize,
    },
    /// The session is over.
    Ended(EndReason),
}
