//! How much a peer may have in our hands: messages that were received and not yet consumed by the user.
//!
//! Counters only. Whoever takes must release exactly what was taken; the owner of a message keeps its cost with it
//! and releases when it drops the message, on every way out.

/// Bounds on what was received from one peer and is not consumed. 0 counts as 1.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ThrottleLimits {
    /// Messages.
    pub messages_max: usize,
    /// Bytes. A single larger message passes when nothing else is held, or it could never be received.
    pub bytes_max: usize,
}

impl ThrottleLimits {
    /// No bound of its own, for an owner that bounds in another way.
    pub const UNLIMITED: Self = Self { messages_max: usize::MAX, bytes_max: usize::MAX };
    /// A consumer that lags by a hundred messages is lagging; at 64 bytes this is a millisecond of traffic.
    pub const MESSAGES_MAX: usize = 16 * 1024;
    /// Ceph's `osd_client_message_size_cap` is 500 MB for all clients of an OSD; this is for one peer.
    pub const BYTES_MAX: usize = 32 * 1024 * 1024;
}

impl Default for ThrottleLimits {
    fn default() -> Self {
        Self { messages_max: Self::MESSAGES_MAX, bytes_max: Self::BYTES_MAX }
    }
}

/// What is left of a [`Throttle`]: a copy, to admit a batch of messages without holding the session.
///
/// What it admitted is then counted with [`Throttle::take`]. Two budgets of one throttle may together admit more
/// than the limits, once each: the overshoot is bounded by the number of channels.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Messages that may still come.
    pub messages: usize,
    /// Bytes that may still come.
    pub bytes: usize,
    /// Nothing is held, so the next message passes whatever its size.
    pub oversize: bool,
}

impl Budget {
    /// Admits nothing: reading is paused until there is a new budget.
    pub const NONE: Self = Self { messages: 0, bytes: 0, oversize: false };

    /// Takes a message out of the budget. `false`, and unchanged, if it does not fit.
    pub fn try_take(&mut self, bytes: usize) -> bool {
        if !(self.oversize || (self.messages > 0 && bytes <= self.bytes)) {
            return false;
        }
        self.oversize = false;
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// Counts what one peer has in our hands.
#[derive(Clone, Debug)]
pub struct Throttle {
    limits: ThrottleLimits,
    messages: usize,
    bytes: usize,
    refusals: u64,
}

impl Throttle {
    /// Nothing is held.
    pub const fn new(limits: ThrottleLimits) -> Self {
        Self { limits, messages: 0, bytes: 0, refusals: 0 }
    }

    /// Counts a message if it fits. A refusal is counted too; ask again after a [`Throttle::release`].
    pub fn try_take(&mut self, bytes: usize) -> bool {
        let fits = self.budget().try_take(bytes);
        if fits {
            self.take(1, bytes);
        } else {
            self.refusals += 1;
        }
        fits
    }

    /// Counts what a [`Budget`] admitted, without asking again.
    pub fn take(&mut self, messages: usize, bytes: usize) {
        self.messages = self.messages.saturating_add(messages);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Gives back what was taken. To give back more is a bug of the caller: tests panic, a release stays at zero.
    pub fn release(&mut self, messages: usize, bytes: usize) {
        debug_assert!(messages <= self.messages && bytes <= self.bytes, "released more than was taken");
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// What may still come.
    pub fn budget(&self) -> Budget {
        Budget {
            messages: self.limits.messages_max.max(1).saturating_sub(self.messages),
            bytes: self.limits.bytes_max.max(1).saturating_sub(self.bytes),
            oversize: self.is_idle(),
        }
    }

    /// Counts a refusal that a [`Budget`] gave.
    pub fn note_refusal(&mut self) {
        self.refusals += 1;
    }

    /// Messages held.
    pub const fn messages(&self) -> usize {
        self.messages
    }

    /// Bytes held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How often a message had to wait.
    pub const fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Whether nothing is held.
    pub const fn is_idle(&self) -> bool {
        self.messages == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle() -> Throttle {
        Throttle::new(ThrottleLimits { messages_max: 2, bytes_max: 10 })
    }

    #[test]
    fn messages_wait_until_the_user_consumed_earlier_ones() {
        let mut throttle = throttle();
        assert!(throttle.try_take(6));
        assert!(!throttle.try_take(5), "bytes");
        assert!(throttle.try_take(4));
        assert!(!throttle.try_take(0), "messages");
        throttle.release(1, 6);
        assert!(throttle.try_take(6));
        assert_eq!((throttle.messages(), throttle.bytes(), throttle.refusals()), (2, 10, 2));
    }

    #[test]
    fn a_message_larger_than_the_limit_passes_alone_and_leaves_nothing_behind() {
        let mut throttle = throttle();
        assert!(throttle.try_take(usize::MAX));
        assert!(!throttle.try_take(1));
        throttle.release(1, usize::MAX);
        assert_eq!((throttle.messages(), throttle.bytes()), (0, 0));
        assert!(throttle.try_take(10));
    }

    #[test]
    fn a_message_without_bytes_is_held_like_any_other() {
        let mut throttle = throttle();
        assert!(throttle.try_take(0));
        assert!(!throttle.is_idle() && !throttle.try_take(11));
    }

    #[test]
    fn a_batch_admitted_by_a_budget_is_what_the_throttle_itself_would_have_admitted() {
        for sizes in [[3, 3, 3], [100, 1, 1], [10, 0, 0], [0, 11, 2], [11, 11, 11]] {
            let mut one_by_one = throttle();
            let mut batch = throttle();
            let mut budget = batch.budget();
            for bytes in sizes {
                let admitted = budget.try_take(bytes);
                assert_eq!(admitted, one_by_one.try_take(bytes), "{bytes} of {sizes:?}");
                if admitted {
                    batch.take(1, bytes);
                }
            }
            assert_eq!(batch.budget(), one_by_one.budget());
        }
    }

    #[test]
    fn no_budget_admits_nothing() {
        assert!(!Budget::NONE.clone().try_take(0));
    }

    #[test]
    fn limits_of_zero_still_let_one_message_through() {
        let mut throttle = Throttle::new(ThrottleLimits { messages_max: 0, bytes_max: 0 });
        assert!(throttle.try_take(50));
        assert!(!throttle.try_take(1));
    }
}
