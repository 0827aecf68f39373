//! How messages ended, from watermarks instead of a record for each.
//!
//! Messages of one class are numbered in the order of their indexes and acknowledged in the order of their numbers,
//! so a single index says which of them the peer holds. Only what was revoked makes exceptions: ranges of indexes.

use std::collections::VecDeque;

use crate::message::{Delivery, LossReason, Priority, ReceiptStatus};

/// How many separate ranges of revoked messages one class remembers below its acknowledged ones. Beyond it the
/// oldest are forgotten, and with them what was acknowledged before ([`ReceiptStatus::Unknown`]). 16 KiB a class.
pub const REVOCATIONS_REMEMBERED_MAX: usize = 1024;

/// How many generations the receipts of lost messages are remembered, the newest first. A receipt is read when its
/// session is lost, not eight losses later.
pub const PAST_GENERATIONS_MAX: usize = 8;

/// The receipts of one class in one generation.
#[derive(Default, Debug)]
pub(super) struct Receipts {
    /// Indexes below this one were given out.
    issued: u64,
    /// Indexes below this one had no receipt: lossy delivery.
    tracked_from: u64,
    /// Indexes below this one are held by the peer, but for the revoked ones.
    acked: u64,
    /// Indexes below this one ended, and how is forgotten.
    forgotten: u64,
    /// Half-open ranges, rising, none touching the next.
    revoked: VecDeque<(u64, u64)>,
}

impl Receipts {
    pub(super) const fn issue(&mut self) -> u64 {
        let index = self.issued;
        self.issued += 1;
        index
    }

    pub(super) const fn issued(&self) -> u64 {
        self.issued
    }

    pub(super) fn track_from(&mut self, index: u64) {
        self.tracked_from = index;
    }

    /// The peer holds everything up to and including `index`.
    pub(super) fn acknowledge(&mut self, index: u64) {
        self.acked = self.acked.max(index + 1);
    }

    pub(super) fn revoke(&mut self, index: u64) {
        let next = self.revoked.partition_point(|&(start, _)| start <= index);
        let joins_next = self.revoked.get(next).is_some_and(|&(start, _)| start == index + 1);
        let previous = next.checked_sub(1).and_then(|at| self.revoked.get_mut(at));
        match previous {
            Some((_, end)) if index < *end => return,
            Some((_, end)) if *end == index => {
                *end = index + 1;
                if joins_next && let Some((_, after)) = self.revoked.remove(next) {
                    self.revoked[next - 1].1 = after;
                }
            }
            Some(_) | None => {
                if joins_next {
                    self.revoked[next].0 = index;
                } else {
                    self.revoked.insert(next, (index, index + 1));
                }
            }
        }
        self.forget_oldest();
    }

    /// Ranges above the acknowledged ones are kept whatever their number: a message that is still outstanding lies
    /// between each two of them, and those are bounded by the outbox.
    fn forget_oldest(&mut self) {
        while self.revoked.len() > REVOCATIONS_REMEMBERED_MAX
            && let Some(&(_, end)) = self.revoked.front()
            && end <= self.acked
        {
            self.forgotten = end;
            self.revoked.pop_front();
        }
    }

    pub(super) fn status(&self, index: u64) -> ReceiptStatus {
        if index >= self.issued || index < self.forgotten {
            return ReceiptStatus::Unknown;
        }
        if index < self.tracked_from {
            return ReceiptStatus::NotTracked;
        }
        let next = self.revoked.partition_point(|&(start, _)| start <= index);
        if next.checked_sub(1).and_then(|at| self.revoked.get(at)).is_some_and(|&(_, end)| index < end) {
            return ReceiptStatus::Revoked;
        }
        if index < self.acked { ReceiptStatus::Acknowledged } else { ReceiptStatus::Pending }
    }
}

/// The receipts of a generation whose outstanding messages were lost.
#[derive(Debug)]
pub(super) struct PastGeneration {
    pub(super) generation: u32,
    pub(super) reason: LossReason,
    pub(super) delivery: Delivery,
    pub(super) receipts: Vec<(Priority, Receipts)>,
}

impl PastGeneration {
    pub(super) fn status(&self, priority: Priority, index: u64) -> ReceiptStatus {
        let Ok(at) = self.receipts.binary_search_by_key(&priority, |(priority, _)| *priority) else {
            return ReceiptStatus::Unknown;
        };
        match (self.receipts[at].1.status(index), self.delivery) {
            (ReceiptStatus::Unknown, _) => ReceiptStatus::Unknown,
            (_, Delivery::Lossy) => ReceiptStatus::NotTracked,
            (ReceiptStatus::Pending, Delivery::Lossless) => ReceiptStatus::Lost(self.reason),
            (
                status @ (ReceiptStatus::Acknowledged
                | ReceiptStatus::Revoked
                | ReceiptStatus::Lost(_)
                | ReceiptStatus::NotTracked),
                Delivery::Lossless,
            ) => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(count: u64) -> Receipts {
        Receipts { issued: count, ..Receipts::default() }
    }

    #[test]
    fn revocations_in_any_order_join_into_one_range() {
        let mut receipts = issued(10);
        for index in [5, 3, 4, 4, 7, 6, 2] {
            receipts.revoke(index);
        }
        assert_eq!(receipts.revoked, [(2, 8)]);
        assert_eq!(receipts.status(1), ReceiptStatus::Pending);
        assert_eq!(receipts.status(2), ReceiptStatus::Revoked);
        assert_eq!(receipts.status(7), ReceiptStatus::Revoked);
        assert_eq!(receipts.status(8), ReceiptStatus::Pending);
    }

    #[test]
    fn an_acknowledgement_beyond_a_revoked_message_does_not_acknowledge_it() {
        let mut receipts = issued(3);
        receipts.revoke(1);
        receipts.acknowledge(2);
        let all: Vec<_> = (0..3).map(|index| receipts.status(index)).collect();
        assert_eq!(all, [ReceiptStatus::Acknowledged, ReceiptStatus::Revoked, ReceiptStatus::Acknowledged]);
    }

    #[test]
    fn what_was_forgotten_is_unknown_and_never_called_acknowledged() {
        let ranges = REVOCATIONS_REMEMBERED_MAX as u64 + 1;
        let mut receipts = issued(2 * ranges + 1);
        receipts.acknowledge(2 * ranges);
        for n in 0..ranges {
            receipts.revoke(2 * n + 1);
        }
        assert_eq!(receipts.revoked.len(), REVOCATIONS_REMEMBERED_MAX);
        assert_eq!(receipts.status(0), ReceiptStatus::Unknown);
        assert_eq!(receipts.status(1), ReceiptStatus::Unknown, "revoked, no longer remembered");
        assert_eq!(receipts.status(2), ReceiptStatus::Acknowledged);
        assert_eq!(receipts.status(3), ReceiptStatus::Revoked);
    }

    #[test]
    fn revocations_of_what_is_outstanding_are_never_forgotten() {
        let ranges = REVOCATIONS_REMEMBERED_MAX as u64 * 2;
        let mut receipts = issued(2 * ranges);
        for n in 0..ranges {
            receipts.revoke(2 * n);
        }
        assert_eq!(receipts.status(0), ReceiptStatus::Revoked);
    }
}
