//! What a load of locks is, and how it is summed up: the same for a kernel and for whoever is measured beside it.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One operation is a lock in exclusive mode and its unlock, each waited for, on a resource that nobody else locks just then
/// and that another node is the master of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Resources, taken in turn; many more than `depth`. See [`resource`].
    pub resources: u32,
    /// Operations under way at any time.
    pub depth: u32,
    /// Before the measured ones.
    pub warm_up: u32,
    /// The measured ones.
    pub operations: u32,
}

impl Load {
    /// All, measured or not.
    pub const fn all(&self) -> u32 {
        self.warm_up.saturating_add(self.operations)
    }
}

/// The name of a resource of a load.
pub fn resource(number: u32) -> String {
    format!("load {number:08}")
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// How many were measured.
    pub operations: u32,
    /// From the first of them to the last.
    pub seconds: f64,
    /// Operations in a second.
    pub per_second: f64,
    /// Half of them took at most so long, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took at most so long, in microseconds.
    pub p99_us: f64,
    /// The longest, in microseconds.
    pub max_us: f64,
}

impl LoadReport {
    /// Sums up how long each operation took, and how long all of them.
    pub fn of(mut each: Vec<Duration>, all: Duration) -> Self {
        each.sort_unstable();
        let at = |hundredths: usize| {
            let rank = (each.len() * hundredths).div_ceil(100).saturating_sub(1);
            each.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        let seconds = all.as_secs_f64();
        let operations = u32::try_from(each.len()).unwrap_or(u32::MAX);
        let per_second = if seconds > 0.0 { f64::from(operations) / seconds } else { 0.0 };
        Self { operations, seconds, per_second, p50_us: at(50), p99_us: at(99), max_us: at(100) }
    }

    /// As one line of JSON.
    pub fn to_line(&self) -> String {
        // Numbers only: it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads such a line.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn from_line(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_seen() {
        let each = (1..=200).rev().map(Duration::from_micros).collect();
        let report = LoadReport::of(each, Duration::from_secs(2));
        assert_eq!((report.operations, report.per_second), (200, 100.0));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(report.p50_us, 100.0) && near(report.p99_us, 198.0) && near(report.max_us, 200.0));
        assert_eq!(LoadReport::from_line(&report.to_line()).ok(), Some(report));
    }

    #[test]
    fn nothing_measured_is_no_division_by_zero() {
        assert_eq!(LoadReport::of(Vec::new(), Duration::ZERO).per_second, 0.0);
    }
}
