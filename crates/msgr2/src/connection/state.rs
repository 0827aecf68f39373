//! The states of a connection, and which may follow which: the two graphs of the spec ("Example of protocol
//! interaction", client and server side) as one table.

use std::fmt;

/// Where a connection stands. The names are the spec's; those it lacks are marked *ours*.
///
/// ```text
///  dialling end                                   accepting end
///
///  BannerConnecting                               BannerAccepting
///    | banner                                       | banner
///  HelloConnecting                                HelloAccepting
///    | HELLO                                        | HELLO
///  AuthConnecting <--. BAD_METHOD, REPLY_MORE     AuthAccepting <--. bad method
///    |   `-----------'                              |  |   `-------'
///    | AUTH_DONE                                    |  | more
///    |                                              |  AuthAcceptingMore <--. more
///    |                                              |  |  |  `--------------'
///    |                                   done <-----+--'  `---> EBUSY: AuthStandby --> AuthAccepting(More)
///  AuthConnectingSign                             AuthAcceptingSign
///    | AUTH_SIGNATURE                               | AUTH_SIGNATURE
///  CompressionConnecting (if both speak it)       CompressionAccepting (if both speak it)
///    | COMPRESSION_DONE                             | COMPRESSION_REQUEST
///  SessionOpening (ours: asks its session)        SessionAccepting <--. RETRY, RESET, WAIT, missing features
///    | CLIENT_IDENT     | SESSION_RECONNECT         | IDENT, RECONNECT |
///  SessionConnecting <--> SessionReconnecting     SessionDeciding ----'  (ours: the endpoint weighs it)
///    | SERVER_IDENT     | RECONNECT_OK              | SERVER_IDENT, RECONNECT_OK
///    `--------> Ready <-'                           `--> Ready
/// ```
///
/// Every state but `Ready` and `Closed` ends by the connection's handshake deadline; `Ready` is watched by keepalives.
/// WAIT ends the connection; the waiting is the session's ([`crate::session::SessionState::Waiting`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Dialled; both banners are on their way.
    BannerConnecting,
    /// Banners exchanged; waits for the acceptor's HELLO.
    HelloConnecting,
    /// AUTH_REQUEST or AUTH_REQUEST_MORE is out; waits for the answer.
    AuthConnecting,
    /// AUTH_DONE is in; waits for the acceptor's AUTH_SIGNATURE.
    AuthConnectingSign,
    /// COMPRESSION_REQUEST is out; waits for COMPRESSION_DONE.
    CompressionConnecting,
    /// *Ours*: authenticated; the session says next whether to introduce itself or to reconnect.
    SessionOpening,
    /// CLIENT_IDENT is out; waits for the acceptor's decision.
    SessionConnecting,
    /// SESSION_RECONNECT is out; waits for the acceptor's decision.
    SessionReconnecting,
    /// Accepted; both banners are on their way.
    BannerAccepting,
    /// Banners exchanged; waits for the dialler's HELLO.
    HelloAccepting,
    /// Waits for an AUTH_REQUEST.
    AuthAccepting,
    /// Waits for an AUTH_REQUEST_MORE.
    AuthAcceptingMore,
    /// The authority was busy (EBUSY); the request is kept until it is tried again or the deadline passes. The
    /// spec's graph calls this `standby`.
    AuthStandby,
    /// AUTH_DONE is out; waits for the dialler's AUTH_SIGNATURE.
    AuthAcceptingSign,
    /// Waits for COMPRESSION_REQUEST, which a dialler that speaks compression always sends.
    CompressionAccepting,
    /// Waits for CLIENT_IDENT or SESSION_RECONNECT.
    SessionAccepting,
    /// *Ours*: one of them is in; the endpoint weighs it against the sessions it knows. For a session that this end has closed,
    /// the connection says so from here (RECONNECT_OK and CLOSE) and ends once that is written.
    SessionDeciding,
    /// Bound to a session; messages flow.
    Ready,
    /// Dead, with the reason given where it died.
    Closed,
}

impl State {
    /// All states, in the order of the declaration.
    pub const ALL: [Self; 19] = [
        Self::BannerConnecting,
        Self::HelloConnecting,
        Self::AuthConnecting,
        Self::AuthConnectingSign,
        Self::CompressionConnecting,
        Self::SessionOpening,
        Self::SessionConnecting,
        Self::SessionReconnecting,
        Self::BannerAccepting,
        Self::HelloAccepting,
        Self::AuthAccepting,
        Self::AuthAcceptingMore,
        Self::AuthStandby,
        Self::AuthAcceptingSign,
        Self::CompressionAccepting,
        Self::SessionAccepting,
        Self::SessionDeciding,
        Self::Ready,
        Self::Closed,
    ];

    /// The states that may follow this one. `Closed` may follow every other and is not listed.
    #[must_use]
    pub const fn successors(self) -> &'static [Self] {
        match self {
            Self::BannerConnecting => &[Self::HelloConnecting],
            Self::HelloConnecting => &[Self::AuthConnecting],
            Self::AuthConnecting => &[Self::AuthConnecting, Self::AuthConnectingSign],
            Self::AuthConnectingSign => &[Self::CompressionConnecting, Self::SessionOpening],
            Self::CompressionConnecting => &[Self::SessionOpening],
            Self::SessionOpening => &[Self::SessionConnecting, Self::SessionReconnecting],
            // A reset by the acceptor turns a reconnection into an introduction, on the same connection.
            Self::SessionReconnecting => &[Self::SessionReconnecting, Self::SessionConnecting, Self::Ready],
            Self::SessionConnecting => &[Self::Ready],
            Self::BannerAccepting => &[Self::HelloAccepting],
            Self::HelloAccepting => &[Self::AuthAccepting],
            Self::AuthAccepting => {
                &[Self::AuthAccepting, Self::AuthAcceptingMore, Self::AuthStandby, Self::AuthAcceptingSign]
            }
            Self::AuthAcceptingMore => {
                &[Self::AuthAccepting, Self::AuthAcceptingMore, Self::AuthStandby, Self::AuthAcceptingSign]
            }
            Self::AuthStandby => &[Self::AuthAccepting, Self::AuthAcceptingMore, Self::AuthAcceptingSign],
            Self::AuthAcceptingSign => &[Self::CompressionAccepting, Self::SessionAccepting],
            Self::CompressionAccepting => &[Self::SessionAccepting],
            Self::SessionAccepting => &[Self::SessionDeciding],
            Self::SessionDeciding => &[Self::SessionAccepting, Self::Ready],
            Self::Ready | Self::Closed => &[],
        }
    }

    /// Whether `next` may follow.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match next {
            Self::Closed => self != Self::Closed,
            Self::BannerConnecting
            | Self::HelloConnecting
            | Self::AuthConnecting
            | Self::AuthConnectingSign
            | Self::CompressionConnecting
            | Self::SessionOpening
            | Self::SessionConnecting
            | Self::SessionReconnecting
            | Self::BannerAccepting
            | Self::HelloAccepting
            | Self::AuthAccepting
            | Self::AuthAcceptingMore
            | Self::AuthStandby
            | Self::AuthAcceptingSign
            | Self::CompressionAccepting
            | Self::SessionAccepting
            | Self::SessionDeciding
            | Self::Ready => self.successors().contains(&next),
        }
    }

    /// The peer is not yet who it says it is: what it may cost is a few KiB.
    #[must_use]
    pub const fn before_authentication(self) -> bool {
        match self {
            Self::BannerConnecting
            | Self::HelloConnecting
            | Self::AuthConnecting
            | Self::AuthConnectingSign
            | Self::BannerAccepting
            | Self::HelloAccepting
            | Self::AuthAccepting
            | Self::AuthAcceptingMore
            | Self::AuthStandby
            | Self::AuthAcceptingSign => true,
            Self::CompressionConnecting
            | Self::SessionOpening
            | Self::SessionConnecting
            | Self::SessionReconnecting
            | Self::CompressionAccepting
            | Self::SessionAccepting
            | Self::SessionDeciding
            | Self::Ready
            | Self::Closed => false,
        }
    }

    /// Nothing of the peer's is looked at until the authority, the session or the endpoint has had its say.
    #[must_use]
    pub const fn waits_for_a_decision(self) -> bool {
        match self {
            Self::AuthStandby | Self::SessionOpening | Self::SessionDeciding => true,
            Self::BannerConnecting
            | Self::HelloConnecting
            | Self::AuthConnecting
            | Self::AuthConnectingSign
            | Self::CompressionConnecting
            | Self::SessionConnecting
            | Self::SessionReconnecting
            | Self::BannerAccepting
            | Self::HelloAccepting
            | Self::AuthAccepting
            | Self::AuthAcceptingMore
            | Self::AuthAcceptingSign
            | Self::CompressionAccepting
            | Self::SessionAccepting
            | Self::Ready
            | Self::Closed => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, written out: a change of the machine is a change of this text.
    #[test]
    fn the_table_is_the_two_graphs_of_the_spec() {
        let mut text = String::new();
        for state in State::ALL {
            text += &format!("{state}:");
            for next in State::ALL.into_iter().filter(|n| *n != State::Closed && state.may_become(*n)) {
                text += &format!(" {next}");
            }
            text += "\n";
        }
        assert_eq!(
            text,
            "BannerConnecting: HelloConnecting\n\
             HelloConnecting: AuthConnecting\n\
             AuthConnecting: AuthConnecting AuthConnectingSign\n\
             AuthConnectingSign: CompressionConnecting SessionOpening\n\
             CompressionConnecting: SessionOpening\n\
             SessionOpening: SessionConnecting SessionReconnecting\n\
             SessionConnecting: Ready\n\
             SessionReconnecting: SessionConnecting SessionReconnecting Ready\n\
             BannerAccepting: HelloAccepting\n\
             HelloAccepting: AuthAccepting\n\
             AuthAccepting: AuthAccepting AuthAcceptingMore AuthStandby AuthAcceptingSign\n\
             AuthAcceptingMore: AuthAccepting AuthAcceptingMore AuthStandby AuthAcceptingSign\n\
             AuthStandby: AuthAccepting AuthAcceptingMore AuthAcceptingSign\n\
             AuthAcceptingSign: CompressionAccepting SessionAccepting\n\
             CompressionAccepting: SessionAccepting\n\
             SessionAccepting: SessionDeciding\n\
             SessionDeciding: SessionAccepting Ready\n\
             Ready:\n\
             Closed:\n"
        );
    }

    #[test]
    fn every_state_can_close_once() {
        for state in State::ALL {
            assert_eq!(state.may_become(State::Closed), state != State::Closed);
        }
    }

    #[test]
    fn every_state_but_the_two_first_is_reached_from_another() {
        for state in State::ALL {
            let reached = State::ALL.iter().any(|from| from.may_become(state));
            let first = matches!(state, State::BannerConnecting | State::BannerAccepting);
            assert_eq!(reached, !first, "{state}");
        }
    }
}
