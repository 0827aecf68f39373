//! How a session ends: the states of FIN.

use core::fmt;
use core::time::Duration;

/// How long each state that waits for the peer may last; then the session is reset (`DLM_SHUTDOWN_TIMEOUT`).
pub const TERMINATION_WAIT_MAX: Duration = Duration::from_secs(5);

/// Where a session stands (Linux, `fs/dlm/midcomms.c`).
///
/// ```text
///                 Closed
///                   | a member is added, or the first frame comes
///                   v
///              Established
///     shut down /       \ FIN comes: acknowledged
///     FIN goes /         \ (without users: on to LastAck)
///             v           v
///         FinWait1     CloseWait
///  FIN is    |  \ FIN     | the last user is gone
///  acked     |   \ comes  | FIN goes
///            v    v       v
///      FinWait2  Closing  LastAck
///     FIN comes \   | FIN is acked
///                v  v     v
///                 Closed
/// ```
///
/// From every state back to [`State::Closed`] when the peer is fenced, and from every one but
/// [`State::Established`] when [`TERMINATION_WAIT_MAX`] is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No conversation; the next begins with number 0.
    Closed,
    /// Messages go both ways.
    Established,
    /// Our FIN is sent.
    FinWait1,
    /// Our FIN is acknowledged; the peer's is still to come.
    FinWait2,
    /// The peer's FIN came; our membership still counts the peer.
    CloseWait,
    /// The peer's FIN came, ours is sent.
    LastAck,
    /// Both FINs are sent, and ours is not acknowledged.
    Closing,
}

impl State {
    /// All.
    pub const ALL: [Self; 7] = [
        Self::Closed,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::LastAck,
        Self::Closing,
    ];

    /// Whether `next` may follow.
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Closed, Self::Established) => true,
            (Self::Closed, _) => false,
            (Self::Established, Self::FinWait1 | Self::CloseWait | Self::LastAck | Self::Closed) => true,
            (Self::Established, Self::Established | Self::FinWait2 | Self::Closing) => false,
            (Self::FinWait1, Self::FinWait2 | Self::Closing | Self::Closed) => true,
            (Self::FinWait1, Self::Established | Self::FinWait1 | Self::CloseWait | Self::LastAck) => false,
            (Self::CloseWait, Self::LastAck | Self::Closed) => true,
            (
                Self::CloseWait,
                Self::Established | Self::FinWait1 | Self::FinWait2 | Self::CloseWait | Self::Closing,
            ) => false,
            (Self::FinWait2 | Self::LastAck | Self::Closing, Self::Closed) => true,
            (Self::FinWait2 | Self::LastAck | Self::Closing, _) => false,
        }
    }

    /// Whether messages may be sent.
    pub const fn may_send(self) -> bool {
        match self {
            Self::Closed | Self::Established | Self::CloseWait => true,
            Self::FinWait1 | Self::FinWait2 | Self::LastAck | Self::Closing => false,
        }
    }

    /// Whether the peer may still send messages.
    pub const fn may_receive(self) -> bool {
        match self {
            Self::Closed | Self::Established | Self::FinWait1 | Self::FinWait2 => true,
            Self::CloseWait | Self::LastAck | Self::Closing => false,
        }
    }

    /// Whether it lasts at most [`TERMINATION_WAIT_MAX`].
    pub const fn waits(self) -> bool {
        match self {
            Self::Closed | Self::Established => false,
            Self::FinWait1 | Self::FinWait2 | Self::CloseWait | Self::LastAck | Self::Closing => true,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::Established => "Established",
            Self::FinWait1 => "FinWait1",
            Self::FinWait2 => "FinWait2",
            Self::CloseWait => "CloseWait",
            Self::LastAck => "LastAck",
            Self::Closing => "Closing",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, written out: a change of the machine is a change of this text.
    #[test]
    fn the_table_is_the_diagram() {
        let mut text = String::new();
        for state in State::ALL {
            text += state.name();
            text += ":";
            for next in State::ALL.into_iter().filter(|next| state.may_become(*next)) {
                text += " ";
                text += next.name();
            }
            text += "\n";
        }
        assert_eq!(
            text,
            "Closed: Established\n\
             Established: Closed FinWait1 CloseWait LastAck\n\
             FinWait1: Closed FinWait2 Closing\n\
             FinWait2: Closed\n\
             CloseWait: Closed LastAck\n\
             LastAck: Closed\n\
             Closing: Closed\n"
        );
    }

    #[test]
    fn who_has_sent_a_fin_says_no_more_and_who_has_got_one_hears_no_more() {
        let silent: Vec<_> = State::ALL.into_iter().filter(|state| !state.may_send()).collect();
        let deaf: Vec<_> = State::ALL.into_iter().filter(|state| !state.may_receive()).collect();
        assert_eq!(silent, [State::FinWait1, State::FinWait2, State::LastAck, State::Closing]);
        assert_eq!(deaf, [State::CloseWait, State::LastAck, State::Closing]);
    }
}
