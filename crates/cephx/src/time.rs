//! Wall-clock time as cephx writes it.

use std::fmt;
use std::time::Duration;

use crate::wire::{DecodeError, Reader, Writer};

/// A moment: seconds and nanoseconds since the Unix epoch, as Ceph's `utime_t` carries them.
///
/// Tickets and keys hold dates that other hosts set, so cephx needs the wall clock and not a monotonic one.
/// The driver reads the clock and passes it in. Both halves are 32 bits on the wire (`src/include/utime.h`);
/// the seconds overflow in 2106. A decoder keeps what it read, also a count of nanoseconds above 10^9, so that
/// a value is written again exactly as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: u32,
    nanos: u32,
}

const NANOS_PER_SECOND: u32 = 1_000_000_000;

impl Timestamp {
    /// Seconds and nanoseconds since the Unix epoch.
    pub const fn new(seconds: u32, nanos: u32) -> Self {
        Timestamp { seconds, nanos }
    }

    /// The moment `since_epoch` after the Unix epoch; the last one a `u32` of seconds can hold when it is later.
    pub fn from_unix(since_epoch: Duration) -> Self {
        match u32::try_from(since_epoch.as_secs()) {
            Ok(seconds) => Timestamp { seconds, nanos: since_epoch.subsec_nanos() },
            Err(_) => Timestamp { seconds: u32::MAX, nanos: NANOS_PER_SECOND - 1 },
        }
    }

    /// Whole seconds since the Unix epoch.
    pub const fn seconds(self) -> u32 {
        self.seconds
    }

    /// Nanoseconds beside the seconds, as they were read.
    pub const fn nanos(self) -> u32 {
        self.nanos
    }

    /// The time since the Unix epoch.
    pub fn since_epoch(self) -> Duration {
        Duration::new(u64::from(self.seconds), self.nanos)
    }

    /// `span` later, or the last moment that can be written.
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        Self::from_unix(self.since_epoch().saturating_add(span))
    }

    /// `span` earlier, or the epoch.
    #[must_use]
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self::from_unix(self.since_epoch().saturating_sub(span))
    }

    /// How long ago `earlier` was; zero when it is later than `self`.
    pub fn saturating_since(self, earlier: Timestamp) -> Duration {
        self.since_epoch().saturating_sub(earlier.since_epoch())
    }

    /// Whether the nanoseconds are ones a clock can show. Ceph bounds them at 10^9 inclusive.
    pub(crate) fn is_plausible(self) -> bool {
        self.nanos <= NANOS_PER_SECOND
    }

    pub(crate) fn encode(self, out: &mut Writer) {
        out.u32(self.seconds);
        out.u32(self.nanos);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Timestamp { seconds: input.u32("time, seconds")?, nanos: input.u32("time, nanoseconds")? })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_both_ends() {
        let last = Timestamp::new(u32::MAX, 0);
        assert_eq!(last.saturating_add(Duration::from_secs(5)).seconds(), u32::MAX);
        assert_eq!(Timestamp::new(3, 0).saturating_sub(Duration::from_secs(5)), Timestamp::default());
        assert_eq!(Timestamp::new(3, 0).saturating_since(Timestamp::new(5, 0)), Duration::ZERO);
    }

    #[test]
    fn nanoseconds_carry_into_seconds() {
        let late = Timestamp::new(1, 900_000_000).saturating_add(Duration::from_millis(200));
        assert_eq!(late, Timestamp::new(2, 100_000_000));
    }
}
