//! The states of a session, and which may follow which.

use crate::ids::ChannelId;
use outlast_session::Instant;
use std::fmt;

/// Where a session stands.
///
/// ```text
///             dial                    SERVER_IDENT, RECONNECT_OK
///  Pausing ---------> Connecting --------------------------------> Ready
///   ^  ^  <----------    |  |  |                                   ^ |  ^
///   |  |    fault        |  |  | WAIT                    the peer's | |  | the peer's
///   |  |                 |  |  v                        connection  | |  | connection
///   |  |                 |  |  Waiting ------------------------------' |  |
///   |  `-----------------+--+----'   nobody came                       |  |
///   |                    |  nothing to send                            |  |
///   |                    `-----------> Standby -------------------------' |
///   | a message to send                 | ^    lost, nothing to send      |
///   `-----------------------------------' `-------------------------------'
///            lost, dial again:  Ready --> Pausing
///
///  Closed may follow every other state, and nothing follows it.
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// No connection; one will be dialled at `until`.
    Pausing {
        /// When to dial.
        until: Instant,
    },
    /// A connection of ours is being opened or shaking hands; its own deadline ends it.
    Connecting {
        /// The connection.
        channel: ChannelId,
    },
    /// A connection carries the session.
    Ready {
        /// The connection.
        channel: ChannelId,
    },
    /// No connection, and this end does not dial: the peer does, or a message is queued. Ends with the session's
    /// lifetime.
    Standby,
    /// The acceptor said WAIT: its own connection to us shall carry the session. Bounded, because that connection may
    /// never come through (Ceph PR 27359).
    Waiting {
        /// When to dial after all.
        until: Instant,
    },
    /// Over.
    Closed,
}

impl SessionState {
    /// Whether `next` may follow.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Closed, _) => false,
            (
                Self::Pausing { .. }
                | Self::Connecting { .. }
                | Self::Ready { .. }
                | Self::Standby
                | Self::Waiting { .. },
                Self::Closed | Self::Ready { .. },
            ) => true,
            (Self::Pausing { .. }, Self::Connecting { .. } | Self::Pausing { .. }) => true,
            (Self::Pausing { .. }, Self::Standby | Self::Waiting { .. }) => false,
            (Self::Connecting { .. }, Self::Pausing { .. } | Self::Standby | Self::Waiting { .. }) => true,
            (Self::Connecting { .. }, Self::Connecting { .. }) => false,
            (Self::Ready { .. }, Self::Pausing { .. } | Self::Standby) => true,
            (Self::Ready { .. }, Self::Connecting { .. } | Self::Waiting { .. }) => false,
            (Self::Standby, Self::Pausing { .. }) => true,
            (Self::Standby, Self::Connecting { .. } | Self::Standby | Self::Waiting { .. }) => false,
            (Self::Waiting { .. }, Self::Pausing { .. }) => true,
            (Self::Waiting { .. }, Self::Connecting { .. } | Self::Standby | Self::Waiting { .. }) => false,
        }
    }

    /// Its name alone, for logs: deadlines count from an epoch that tells a reader nothing.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pausing { .. } => "Pausing",
            Self::Connecting { .. } => "Connecting",
            Self::Ready { .. } => "Ready",
            Self::Standby => "Standby",
            Self::Waiting { .. } => "Waiting",
            Self::Closed => "Closed",
        }
    }

    /// The connection bound to the session, if any.
    #[must_use]
    pub const fn channel(self) -> Option<ChannelId> {
        match self {
            Self::Connecting { channel } | Self::Ready { channel } => Some(channel),
            Self::Pausing { .. } | Self::Standby | Self::Waiting { .. } | Self::Closed => None,
        }
    }

    /// This end is dialling or about to.
    #[must_use]
    pub const fn is_dialling(self) -> bool {
        match self {
            Self::Connecting { .. } | Self::Pausing { .. } => true,
            Self::Ready { .. } | Self::Standby | Self::Waiting { .. } | Self::Closed => false,
        }
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [SessionState; 6] = [
        SessionState::Pausing { until: Instant::ZERO },
        SessionState::Connecting { channel: ChannelId(1) },
        SessionState::Ready { channel: ChannelId(1) },
        SessionState::Standby,
        SessionState::Waiting { until: Instant::ZERO },
        SessionState::Closed,
    ];

    /// The whole table, written out: a change of the machine is a change of this text.
    #[test]
    fn the_table_is_the_diagram() {
        let mut text = String::new();
        for state in ALL {
            text += &format!("{}:", state.name());
            for next in ALL.into_iter().filter(|n| state.may_become(*n)) {
                text += &format!(" {}", next.name());
            }
            text += "\n";
        }
        assert_eq!(
            text,
            "Pausing: Pausing Connecting Ready Closed\n\
             Connecting: Pausing Ready Standby Waiting Closed\n\
             Ready: Pausing Ready Standby Closed\n\
             Standby: Pausing Ready Closed\n\
             Waiting: Pausing Ready Closed\n\
             Closed:\n"
        );
    }

    #[test]
    fn only_connecting_and_ready_have_a_channel() {
        let with: Vec<_> =
            ALL.into_iter().filter(|s| s.channel().is_some()).map(SessionState::name).collect();
        assert_eq!(with, ["Connecting", "Ready"]);
    }
}
