//! Recovery: what nodes do when the membership has changed.

use super::Machine;

/// Where the recovery of the lockspace is.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// Locking is in force; else it stands still.
    pub(crate) running: bool,
    /// Counts the stops.
    pub(crate) sequence: u64,
}

impl Recovery {
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

impl Machine {
    /// Whether locks may be asked for and granted; else what is asked for waits.
    pub(crate) const fn is_running(&self) -> bool {
        self.recovery.running
    }
}
