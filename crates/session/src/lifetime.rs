//! How long a session survives without a connection.
//!
//! ```text
//!            connected                        without a connection for the lifetime
//!  Apart { since } <----> Connected      Apart ------------------------------------> Expired
//!            disconnected
//! ```
//!
//! The end that gives up first must refuse the other's resumption by name; so `Expired` is final and `connected`
//! says no, even when the timer was not handled yet.

use core::time::Duration;

use crate::time::Instant;

/// How long a session may be without a connection, apart from any connection's own deadline.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Lifetime {
    /// Until it is closed.
    #[default]
    Forever,
    /// This long.
    For(Duration),
}

/// The session was without a connection for longer than its lifetime. Nobody's fault but the environment's; the
/// session dies, and what was outstanding is lost ([`crate::LossReason::Expired`]).
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the session was without a connection for longer than its lifetime")]
pub struct SessionExpired;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Apart { since: Instant },
    Connected,
    Expired,
}

/// Watches over one session's [`Lifetime`].
#[derive(Clone, Debug)]
pub struct LifetimeTimer {
    lifetime: Lifetime,
    state: State,
}

impl LifetimeTimer {
    /// A session that has no connection yet: its lifetime runs from now.
    pub const fn new(lifetime: Lifetime, now: Instant) -> Self {
        Self { lifetime, state: State::Apart { since: now } }
    }

    /// The session is on a connection.
    ///
    /// # Errors
    ///
    /// [`SessionExpired`] when it came too late: refuse the resumption.
    pub fn connected(&mut self, now: Instant) -> Result<(), SessionExpired> {
        if self.expired(now) {
            return Err(SessionExpired);
        }
        self.state = State::Connected;
        Ok(())
    }

    /// The last connection was lost.
    pub const fn disconnected(&mut self, now: Instant) {
        match self.state {
            State::Connected => self.state = State::Apart { since: now },
            // Further failures to connect do not prolong the life.
            State::Apart { .. } | State::Expired => {}
        }
    }

    /// Since when the session is without a connection, if it is and still lives.
    pub const fn disconnected_since(&self) -> Option<Instant> {
        match self.state {
            State::Apart { since } => Some(since),
            State::Connected | State::Expired => None,
        }
    }

    /// When to ask [`LifetimeTimer::expired`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.state, self.lifetime) {
            (State::Apart { since }, Lifetime::For(span)) => Some(since + span),
            (State::Apart { .. }, Lifetime::Forever) | (State::Connected | State::Expired, _) => None,
        }
    }

    /// Whether the session's life is over. Once it is, it stays so.
    pub fn expired(&mut self, now: Instant) -> bool {
        match self.state {
            State::Apart { .. } => {
                let over = self.poll_timeout().is_some_and(|deadline| now >= deadline);
                if over {
                    self.state = State::Expired;
                }
                over
            }
            State::Connected => false,
            State::Expired => true,
        }
    }

    /// Changes the lifetime; counts from the loss of the connection, also when that was before.
    pub const fn set_lifetime(&mut self, lifetime: Lifetime) {
        self.lifetime = lifetime;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_nanos(3);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_session_that_comes_back_in_time_lives_on_and_its_time_starts_anew() {
        let mut timer = LifetimeTimer::new(Lifetime::For(MINUTE), T0);
        assert_eq!(timer.connected(T0 + MINUTE / 2), Ok(()));
        assert_eq!((timer.poll_timeout(), timer.disconnected_since()), (None, None));
        timer.disconnected(T0 + MINUTE);
        timer.disconnected(T0 + MINUTE + MINUTE / 2);
        assert_eq!(timer.disconnected_since(), Some(T0 + MINUTE), "failed attempts do not prolong it");
        assert_eq!(timer.poll_timeout(), Some(T0 + MINUTE + MINUTE));
        assert!(!timer.expired(T0 + MINUTE + MINUTE / 2));
        assert_eq!(timer.connected(T0 + MINUTE + MINUTE / 2), Ok(()));
    }

    #[test]
    fn a_session_that_comes_back_too_late_is_refused_even_if_no_timer_ran() {
        let mut timer = LifetimeTimer::new(Lifetime::For(MINUTE), T0);
        assert_eq!(timer.connected(T0 + MINUTE), Err(SessionExpired));
        assert!(timer.expired(T0), "final");
        assert_eq!(timer.connected(T0), Err(SessionExpired));
        assert_eq!(timer.poll_timeout(), None);
    }

    #[test]
    fn a_session_for_ever_never_expires() {
        let mut timer = LifetimeTimer::new(Lifetime::Forever, T0);
        assert_eq!(timer.poll_timeout(), None);
        assert!(!timer.expired(Instant::from_nanos(u64::MAX)));
    }

    #[test]
    fn a_connected_session_does_not_age() {
        let mut timer = LifetimeTimer::new(Lifetime::For(MINUTE), T0);
        assert_eq!(timer.connected(T0), Ok(()));
        assert!(!timer.expired(T0 + 100 * MINUTE));
    }
}
