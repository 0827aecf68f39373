//! Failures, and waiting for the kernel with an end.

use std::fmt::Display;
use std::io;
use std::time::{Duration, Instant};

/// How often a condition is looked at that the kernel tells nobody about.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What could not be done, for the test.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    pub(crate) what: String,
    /// The kernel's, or 0.
    pub(crate) errno: i32,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), errno: 0 }
    }

    /// For `map_err`: what was tried when the system refused it.
    pub(crate) fn at(what: impl Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { what: format!("{what}: {error}"), errno: error.raw_os_error().unwrap_or(0) }
    }
}

/// A moment at which a wait ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(seconds: u64) -> Self {
        // No test waits for a day.
        Self(Instant::now() + Duration::from_secs(seconds.min(86_400)))
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Looks until there is something, or the time is over.
    pub(crate) fn wait_for<T>(self, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, Failure> {
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if self.left().is_zero() {
                return Err(Failure::new(format!("not in time: {what}")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
