//! What time it is.

use outlast_session::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest that a timer of the runtime is trusted. Timers do not count the time that the machine slept, so a
/// longer wait is cut into pieces, and a deadline that passed during the sleep is noticed at most this much after it.
pub const CLOCK_CHECK_MAX: Duration = Duration::from_secs(10);

/// The driver's clock: never steps back, and goes on while the machine sleeps (`CLOCK_BOOTTIME` on Linux; elsewhere
/// the monotonic clock). A peer's timers went on too while we slept, and a session's lifetime is meant in the time of
/// people.
///
/// Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    ahead_nanos: Arc<AtomicU64>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Instant {
        let time = rustix::time::clock_gettime(CLOCK);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        let elapsed = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Instant::from_nanos(elapsed.saturating_add(self.ahead_nanos.load(Ordering::Relaxed)))
    }

    /// Lets time jump, as if the machine had slept: for tests. Everything that looks at this clock sees the jump; the
    /// runtime's timers do not, as they do not when a machine sleeps.
    pub fn jump(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        // Far from wrapping: the jumps of one process together would have to be centuries.
        self.ahead_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// When a timer of the runtime should look whether `at` has come: at that time, or after [`CLOCK_CHECK_MAX`].
    #[must_use]
    pub fn timer(&self, at: Instant, now: Instant) -> tokio::time::Instant {
        tokio::time::Instant::now() + at.saturating_since(now).min(CLOCK_CHECK_MAX)
    }

    /// Waits until `at` has come, however long the machine sleeps meanwhile.
    pub async fn sleep_until(&self, at: Instant) {
        loop {
            let now = self.now();
            if at <= now {
                return;
            }
            tokio::time::sleep_until(self.timer(at, now)).await;
        }
    }

    /// The date, as time since 1970 in UTC: for what is compared with other machines' clocks, such as the validity of
    /// tickets. It can step in either direction.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a driver's business is to read clocks")]
    pub fn date(&self) -> Duration {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_seen_by_every_clone() {
        let clock = Clock::new();
        let clone = clock.clone();
        let before = clone.now();
        clock.jump(Duration::from_secs(3600));
        let away = clone.now().saturating_since(before);
        assert!(away >= Duration::from_secs(3600) && away < Duration::from_secs(3660), "{away:?}");
    }

    #[tokio::test]
    async fn a_long_wait_is_checked_every_few_seconds() {
        let clock = Clock::new();
        let now = clock.now();
        let timer = clock.timer(now + Duration::from_secs(86_400), now);
        assert!(timer <= tokio::time::Instant::now() + CLOCK_CHECK_MAX);
    }

    #[tokio::test]
    async fn sleeping_until_the_past_returns_at_once() {
        let clock = Clock::new();
        let past = clock.now();
        tokio::time::timeout(Duration::from_secs(1), clock.sleep_until(past)).await.expect("at once");
    }
}
