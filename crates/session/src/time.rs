//! Time as an input: a driver says what "now" is, nothing here reads a clock.

use core::ops::{Add, AddAssign};
use core::time::Duration;

/// A moment, in nanoseconds since an epoch that the driver chose.
///
/// Why not `std::time::Instant`: it cannot be made from a number, so a simulator could not hand one out, and on
/// some systems it stands still while the machine sleeps. A driver may use a clock that counts sleep.
///
/// One epoch must be used for everything that shares a session, and time should not go backwards; where it does,
/// nothing panics: a span that would be negative is zero.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The driver's epoch.
    pub const ZERO: Self = Self(0);

    /// The moment `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch: 584 years fit.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: a wait of `Duration::MAX` ends at the last representable moment.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_longer_than_the_clock_can_count_ends_at_its_last_moment() {
        assert_eq!(Instant::from_nanos(7) + Duration::MAX, Instant::from_nanos(u64::MAX));
    }

    #[test]
    fn a_clock_that_went_backwards_gives_an_empty_span() {
        let (early, late) = (Instant::from_nanos(5), Instant::from_nanos(9));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
        assert_eq!(late.saturating_since(early), Duration::from_nanos(4));
    }
}
