//! How long to wait before connecting again.
//!
//! ```text
//!            established                        progressed, or lasted steady_after
//!  Failing ----------------> Young { since } --------------------------------------> Proven
//!   ^  |  ^                     |                                                       | next: at once, only now,
//!   |  +--+ next: longer        | next: longer                                          | while there is credit
//!   |                           |                                                       |
//!   +---------------------------+-------------------------------------------------------+
//! ```
//!
//! The first retry of a session that worked is immediate, as Ceph's is. A connection that dies as soon as it is
//! established does not earn that: otherwise two ends could reset each other in a tight loop. And what is done at once is
//! paid for with the wait that it saves, from a credit: a peer that takes one message and hangs up, again and again, is
//! redialled at once [`BackoffConfig::AT_ONCE_MAX`] times, and then after the first wait each time, never a longer one,
//! because there is progress. A link that is cut now and then never gets there.

use core::time::Duration;

use rand_core::Rng;

use crate::time::Instant;

/// How much of a wait is left to chance, so that the clients of a restarted server do not all come back at once.
///
/// A fraction with its unit in its constructor: RTRS means to spread its reconnections over 8 s and spreads them
/// over 7 ms, since its number had none.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Jitter {
    percent: u8,
}

impl Jitter {
    /// The wait is exact.
    pub const NONE: Self = Self { percent: 0 };

    /// A wait of `d` becomes a random one between `d` less this part of it, and `d`. More than 100 counts as 100.
    pub const fn percent(percent: u8) -> Self {
        Self { percent: if percent > 100 { 100 } else { percent } }
    }

    /// A wait somewhere in the allowed range.
    fn apply(self, wait: Duration, rng: &mut dyn Rng) -> Duration {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let spread = u128::from(nanos) * u128::from(self.percent) / 100;
        // Multiplying and shifting spreads 64 random bits over 0..=spread evenly enough, and cannot overflow:
        // spread is at most 2^64 - 1.
        let less = ((spread + 1) * u128::from(rng.next_u64())) >> 64;
        Duration::from_nanos(nanos - less as u64)
    }
}

/// The waits of a [`Backoff`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BackoffConfig {
    /// The first wait; each further one is twice as long.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How much of each wait is left to chance.
    pub jitter: Jitter,
    /// A connection that lasted so long has proven itself even if no message passed.
    pub steady_after: Duration,
}

impl BackoffConfig {
    /// Ceph's `ms_initial_backoff`.
    pub const FIRST: Duration = Duration::from_millis(200);
    /// Ceph's `ms_max_backoff`.
    pub const MAX: Duration = Duration::from_secs(15);
    /// Ceph has none; a quarter is enough to spread the clients of a server over its first seconds.
    pub const JITTER: Jitter = Jitter::percent(25);
    /// Ten times the first wait: whatever dies sooner after its handshake is a loop and not an accident.
    pub const STEADY_AFTER: Duration = Duration::from_secs(2);
    /// So many times in a row a connection that was of use is replaced at once; each [`BackoffConfig::first`] that
    /// passes gives one back. Enough for the worst of links, and a handshake each is no burden.
    pub const AT_ONCE_MAX: u32 = 32;
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { first: Self::FIRST, max: Self::MAX, jitter: Self::JITTER, steady_after: Self::STEADY_AFTER }
    }
}

/// What the last connection was good for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Failing,
    Young { since: Instant },
    Proven,
}

/// Counts failures to connect and says how long to wait after each.
#[derive(Clone, Debug)]
pub struct Backoff {
    config: BackoffConfig,
    failures: u32,
    state: State,
    /// By then what was done at once is paid for.
    paid: Instant,
}

impl Backoff {
    /// Nothing was tried yet; the first failure waits [`BackoffConfig::first`].
    pub const fn new(config: BackoffConfig) -> Self {
        Self { config, failures: 0, state: State::Failing, paid: Instant::from_nanos(0) }
    }

    /// The session is ready on a connection.
    pub const fn established(&mut self, now: Instant) {
        self.state = State::Young { since: now };
    }

    /// A message was delivered or acknowledged on the connection. Cheap, to be called as often as it happens.
    pub const fn progressed(&mut self) {
        match self.state {
            State::Young { .. } => self.state = State::Proven,
            State::Failing | State::Proven => {}
        }
    }

    /// The connection was lost, or could not be made: how long to wait before the next.
    pub fn next(&mut self, now: Instant, rng: &mut dyn Rng) -> Duration {
        let proven = match self.state {
            State::Proven => true,
            State::Young { since } => now.saturating_since(since) >= self.config.steady_after,
            State::Failing => false,
        };
        self.state = State::Failing;
        if proven {
            self.failures = 0;
            let first = self.config.first;
            self.paid = self.paid.max(now) + first;
            let in_credit =
                self.paid.saturating_since(now) <= first.saturating_mul(BackoffConfig::AT_ONCE_MAX);
            return if in_credit { Duration::ZERO } else { first };
        }
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let wait = self.config.first.saturating_mul(factor).min(self.config.max);
        self.failures = self.failures.saturating_add(1);
        self.config.jitter.apply(wait, rng)
    }

    /// The longest wait: how long one end waits that was told to leave the connecting to the other.
    pub const fn longest(&self) -> Duration {
        self.config.max
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures: the user asks for a connection now, or the network came back.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;

    use super::*;

    /// Always the same bits: the extremes are what matters here.
    struct Fixed(u64);

    impl rand_core::TryRng for Fixed {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            Ok(self.0 as u32)
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            Ok(self.0)
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            bytes.fill(self.0 as u8);
            Ok(())
        }
    }

    const T0: Instant = Instant::from_nanos(5);

    fn exact() -> Backoff {
        Backoff::new(BackoffConfig { jitter: Jitter::NONE, ..BackoffConfig::default() })
    }

    fn millis(backoff: &mut Backoff, now: Instant) -> u128 {
        backoff.next(now, &mut Fixed(0)).as_millis()
    }

    #[test]
    fn a_peer_that_takes_one_message_and_hangs_up_each_time_is_not_redialled_without_a_pause() {
        let mut backoff = exact();
        let mut now = T0;
        let mut waits = Vec::new();
        for _ in 0..40 {
            backoff.established(now);
            backoff.progressed();
            let wait = backoff.next(now, &mut Fixed(0));
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits[..32], [0; 32], "accidents");
        assert_eq!(waits[32..], [200; 8], "not at once, and never longer");
        assert_eq!(millis(&mut backoff, now), 200, "now it does not come through at all");
        assert_eq!(millis(&mut backoff, now), 400);
        backoff.established(now);
        backoff.progressed();
        assert_eq!(millis(&mut backoff, now + BackoffConfig::FIRST), 0, "time has given some credit back");
    }

    #[test]
    fn a_server_that_stays_away_is_asked_less_and_less_often() {
        let mut backoff = exact();
        let waits: Vec<_> = (0..9).map(|_| millis(&mut backoff, T0)).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000]);
        for _ in 0..100 {
            assert_eq!(millis(&mut backoff, T0), 15000, "no overflow");
        }
    }

    #[test]
    fn a_session_that_worked_is_retried_at_once_but_only_once() {
        let mut backoff = exact();
        for _ in 0..3 {
            millis(&mut backoff, T0);
        }
        backoff.established(T0);
        backoff.progressed();
        assert_eq!(millis(&mut backoff, T0), 0);
        assert_eq!(millis(&mut backoff, T0), 200);
        assert_eq!(millis(&mut backoff, T0), 400);
    }

    #[test]
    fn an_idle_session_that_lasted_is_retried_at_once() {
        let mut backoff = exact();
        backoff.established(T0);
        assert_eq!(millis(&mut backoff, T0 + BackoffConfig::STEADY_AFTER), 0);
    }

    #[test]
    fn two_ends_that_reset_each_other_right_after_the_handshake_make_no_tight_loop() {
        let mut backoff = exact();
        let mut now = T0;
        let mut waits = Vec::new();
        for _ in 0..4 {
            backoff.established(now);
            now += Duration::from_millis(1);
            waits.push(millis(&mut backoff, now));
        }
        assert_eq!(waits, [200, 400, 800, 1600]);
    }

    #[test]
    fn progress_without_an_established_session_earns_nothing() {
        let mut backoff = exact();
        backoff.progressed();
        assert_eq!(millis(&mut backoff, T0), 200);
    }

    #[test]
    fn jitter_shortens_a_wait_by_at_most_its_percentage_and_never_lengthens_it() {
        let config = BackoffConfig { jitter: Jitter::percent(25), ..BackoffConfig::default() };
        for (bits, expected) in [(0, 200), (u64::MAX, 150), (1 << 63, 175)] {
            let wait = Backoff::new(config).next(T0, &mut Fixed(bits));
            assert_eq!(wait.as_secs_f64().mul_add(1000.0, 0.5) as u64, expected, "{bits:#x}");
        }
    }

    #[test]
    fn absurd_settings_neither_overflow_nor_panic() {
        let config = BackoffConfig {
            first: Duration::MAX,
            max: Duration::MAX,
            jitter: Jitter::percent(255),
            steady_after: Duration::MAX,
        };
        let mut backoff = Backoff::new(config);
        assert_eq!(backoff.next(T0, &mut Fixed(u64::MAX)), Duration::ZERO);
        assert_eq!(backoff.next(T0, &mut Fixed(0)), Duration::from_nanos(u64::MAX));
    }
}
