//! How often a session may dial again without a pause.

use outlast_session::Instant;
use std::time::Duration;

/// So many times in a row a session dials again at once after a connection that was of use.
const AT_ONCE_MAX: u32 = 32;

/// A connection that was of use is replaced at once ([`outlast_session::Backoff`]): it was an accident. A peer that is of
/// use each time, for one message, and gone, would have us shake hands without end; so what is done at once is paid for
/// with the pause that it saves, and the credit is limited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Redials {
    /// What was done at once is paid for by then.
    paid: Instant,
}

impl Redials {
    pub(super) const fn new(now: Instant) -> Self {
        Self { paid: now }
    }

    /// The pause to make, where `pause` is wished for and `first` is the first of those that grow.
    pub(super) fn limit(&mut self, pause: Duration, first: Duration, now: Instant) -> Duration {
        if !pause.is_zero() {
            return pause;
        }
        let paid = self.paid.max(now) + first;
        let in_credit = paid.saturating_since(now) <= first.saturating_mul(AT_ONCE_MAX);
        self.paid = paid;
        if in_credit { Duration::ZERO } else { first }
    }
}
