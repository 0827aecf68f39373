//! Whether the peer is still there.
//!
//! ```text
//!            silence of `interval`: SendHeartbeat            `grace` without a word: Dead
//!  Hearing ---------------------------------------> Asking ------------------------------> Dead
//!     ^                                             |  | every `interval`: SendHeartbeat
//!     +------------------ handle_heard -------------+--+
//! ```
//!
//! The grace counts from the first heartbeat that was not answered, not from the last word heard: after a machine
//! slept, the peer is asked before the connection is given up.
//!
//! Who only listens says something, too: after an `interval` in which this end said nothing a heartbeat is due. The
//! peer may be writing one long message to a slow link; our answer to its question stands behind that message, and
//! comes too late when the message takes longer than `grace`.

use core::time::Duration;

use crate::time::Instant;

/// How long silence may last.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct LivenessConfig {
    /// Silence, of the peer or of this end, after which the peer is asked, and the time between questions.
    pub interval: Duration,
    /// How long after the first unanswered question the connection is given up.
    pub grace: Duration,
}

impl LivenessConfig {
    /// As the Linux Ceph client asks its OSDs, and RTRS its paths.
    pub const INTERVAL: Duration = Duration::from_secs(5);
    /// Four heartbeats: three may be delayed by a retransmission of TCP.
    pub const GRACE: Duration = Duration::from_secs(20);
}

impl Default for LivenessConfig {
    fn default() -> Self {
        Self { interval: Self::INTERVAL, grace: Self::GRACE }
    }
}

/// What a driver's timer asks for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum LivenessAction {
    /// Nothing yet: the timer was early.
    Nothing,
    /// Write a heartbeat.
    SendHeartbeat,
    /// The peer is gone: the connection dies, the session may resume.
    Dead,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Off,
    Hearing { last: Instant },
    Asking { since: Instant, asked: Instant },
    Dead,
}

/// Watches one connection.
#[derive(Clone, Debug)]
pub struct Liveness {
    config: LivenessConfig,
    state: State,
    said: Instant,
}

impl Liveness {
    /// Watches a connection that was heard of just now.
    pub const fn new(config: LivenessConfig, now: Instant) -> Self {
        Self { config, state: State::Hearing { last: now }, said: now }
    }

    /// Never asks and never gives up.
    pub const fn off() -> Self {
        let config = LivenessConfig { interval: Duration::MAX, grace: Duration::MAX };
        Self { config, state: State::Off, said: Instant::from_nanos(0) }
    }

    /// The peer gave a sign of life. Which signs count is the dialect's: the answer to a heartbeat proves that both
    /// directions work, any other frame only that one does.
    pub const fn handle_heard(&mut self, now: Instant) {
        match self.state {
            State::Hearing { .. } | State::Asking { .. } => self.state = State::Hearing { last: now },
            State::Off | State::Dead => {}
        }
    }

    /// This end gave a sign of life: some bytes of whatever it writes were taken by the transport.
    pub const fn handle_said(&mut self, now: Instant) {
        self.said = now;
    }

    /// When [`Liveness::handle_timeout`] is to be called. `None` when off or dead.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Hearing { last } => Some(last.min(self.said) + self.config.interval),
            State::Asking { since, asked } => {
                Some((since + self.config.grace).min(asked + self.config.interval))
            }
            State::Off | State::Dead => None,
        }
    }

    /// The time of [`Liveness::poll_timeout`] came.
    pub fn handle_timeout(&mut self, now: Instant) -> LivenessAction {
        match self.state {
            State::Hearing { last } if now >= last + self.config.interval => {
                self.state = State::Asking { since: now, asked: now };
                self.said = now;
                LivenessAction::SendHeartbeat
            }
            State::Hearing { .. } if now >= self.said + self.config.interval => {
                self.said = now;
                LivenessAction::SendHeartbeat
            }
            State::Asking { since, .. } if now >= since + self.config.grace => {
                self.state = State::Dead;
                LivenessAction::Dead
            }
            State::Asking { since, asked } if now >= asked + self.config.interval => {
                self.state = State::Asking { since, asked: now };
                self.said = now;
                LivenessAction::SendHeartbeat
            }
            State::Hearing { .. } | State::Asking { .. } | State::Off => LivenessAction::Nothing,
            State::Dead => LivenessAction::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_nanos(1);
    const CONFIG: LivenessConfig =
        LivenessConfig { interval: Duration::from_secs(5), grace: Duration::from_secs(12) };

    fn at(seconds: u64) -> Instant {
        T0 + Duration::from_secs(seconds)
    }

    /// Follows the timer until the peer is dead: (seconds, action).
    fn run(liveness: &mut Liveness, mut answer: impl FnMut(u64) -> bool) -> Vec<(u64, LivenessAction)> {
        let mut seen = Vec::new();
        for _ in 0..10 {
            let Some(now) = liveness.poll_timeout() else { break };
            let seconds = now.saturating_since(T0).as_secs();
            let action = liveness.handle_timeout(now);
            seen.push((seconds, action));
            if answer(seconds) {
                liveness.handle_heard(now);
            }
        }
        seen
    }

    #[test]
    fn a_peer_that_falls_silent_is_asked_and_then_given_up() {
        use LivenessAction::{Dead, SendHeartbeat};
        let mut liveness = Liveness::new(CONFIG, T0);
        let seen = run(&mut liveness, |_| false);
        assert_eq!(seen, [(5, SendHeartbeat), (10, SendHeartbeat), (15, SendHeartbeat), (17, Dead)]);
        liveness.handle_heard(at(18));
        assert_eq!(liveness.handle_timeout(at(18)), Dead, "the dead do not come back");
        assert_eq!(liveness.poll_timeout(), None);
    }

    #[test]
    fn an_answer_starts_the_grace_anew() {
        let mut liveness = Liveness::new(CONFIG, T0);
        let seen = run(&mut liveness, |seconds| seconds == 10);
        assert_eq!(seen.last(), Some(&(27, LivenessAction::Dead)));
    }

    #[test]
    fn a_peer_that_talks_is_not_asked() {
        let mut liveness = Liveness::new(CONFIG, T0);
        for seconds in 1..100 {
            liveness.handle_heard(at(seconds));
            liveness.handle_said(at(seconds));
            assert_eq!(liveness.handle_timeout(at(seconds + 4)), LivenessAction::Nothing);
        }
    }

    #[test]
    fn who_only_listens_gives_signs_of_life_and_does_not_wait_for_answers() {
        let mut liveness = Liveness::new(CONFIG, T0);
        let mut signs = Vec::new();
        for seconds in 1..=60 {
            liveness.handle_heard(at(seconds));
            if liveness.poll_timeout().is_some_and(|due| due <= at(seconds)) {
                assert_eq!(liveness.handle_timeout(at(seconds)), LivenessAction::SendHeartbeat);
                liveness.handle_said(at(seconds));
                signs.push(seconds);
            }
        }
        assert_eq!(signs, [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]);
    }

    #[test]
    fn a_machine_that_slept_asks_before_it_gives_up() {
        let mut liveness = Liveness::new(CONFIG, T0);
        assert_eq!(liveness.handle_timeout(at(36_000)), LivenessAction::SendHeartbeat);
        assert_eq!(liveness.poll_timeout(), Some(at(36_005)));
        liveness.handle_heard(at(36_001));
        liveness.handle_said(at(36_001));
        assert_eq!(liveness.poll_timeout(), Some(at(36_006)));
    }

    #[test]
    fn a_watch_that_is_off_does_nothing() {
        let mut liveness = Liveness::off();
        assert_eq!(liveness.poll_timeout(), None);
        assert_eq!(liveness.handle_timeout(at(1 << 30)), LivenessAction::Nothing);
    }
}
