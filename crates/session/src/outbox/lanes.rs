//! One queue for each class in use, and which of them hold something.
//!
//! There are 256 classes and a program uses two or three of them: a set of bits says which exist and which are not
//! empty, and the rank of a class among those that exist is its place in a vector. Finding the most urgent message
//! is a count of leading zeros, without a map and without a walk.

use std::collections::VecDeque;

use super::receipts::Receipts;
use crate::message::Priority;

/// A set of classes.
#[derive(Copy, Clone, Default, Debug)]
struct PrioritySet([u64; 4]);

impl PrioritySet {
    const fn word(priority: Priority) -> (usize, u64) {
        ((priority.0 >> 6) as usize, 1 << (priority.0 & 63))
    }

    const fn contains(&self, priority: Priority) -> bool {
        let (word, bit) = Self::word(priority);
        self.0[word] & bit != 0
    }

    const fn insert(&mut self, priority: Priority) {
        let (word, bit) = Self::word(priority);
        self.0[word] |= bit;
    }

    const fn remove(&mut self, priority: Priority) {
        let (word, bit) = Self::word(priority);
        self.0[word] &= !bit;
    }

    /// How many members are lower than `priority`.
    fn rank(&self, priority: Priority) -> usize {
        let (word, bit) = Self::word(priority);
        let lower: u32 = self.0[..word].iter().map(|bits| bits.count_ones()).sum();
        (lower + (self.0[word] & (bit - 1)).count_ones()) as usize
    }

    fn highest(&self) -> Option<Priority> {
        (0u8..4).rev().find_map(|word| {
            let bits = self.0[usize::from(word)];
            // 63 - leading_zeros is at most 63 and the word at most 3: the sum fits.
            (bits != 0).then(|| Priority(word * 64 + (63 - bits.leading_zeros()) as u8))
        })
    }
}

/// A message that has no number yet.
#[derive(Debug)]
pub(super) struct Waiting<M> {
    pub(super) index: u64,
    pub(super) cost: usize,
    pub(super) message: M,
}

/// What waits in one class, and how the messages of that class ended.
#[derive(Debug)]
struct Lane<M> {
    waiting: VecDeque<Waiting<M>>,
    receipts: Receipts,
}

/// All classes in use.
#[derive(Debug)]
pub(super) struct Lanes<M> {
    /// The classes that have a lane. Never shrinks: 256 lanes at most.
    used: PrioritySet,
    /// The classes in which something waits.
    occupied: PrioritySet,
    /// By rising class.
    lanes: Vec<Lane<M>>,
    /// Messages in all lanes.
    len: usize,
    /// Their cost.
    bytes: usize,
}

impl<M> Lanes<M> {
    pub(super) const fn new() -> Self {
        Self { used: PrioritySet([0; 4]), occupied: PrioritySet([0; 4]), lanes: Vec::new(), len: 0, bytes: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a message to its class and returns its index there.
    pub(super) fn push(&mut self, priority: Priority, cost: usize, message: M) -> u64 {
        let rank = self.used.rank(priority);
        if !self.used.contains(priority) {
            self.used.insert(priority);
            self.lanes.insert(rank, Lane { waiting: VecDeque::new(), receipts: Receipts::default() });
        }
        let lane = &mut self.lanes[rank];
        let index = lane.receipts.issue();
        lane.waiting.push_back(Waiting { index, cost, message });
        self.occupied.insert(priority);
        self.len += 1;
        self.bytes += cost;
        index
    }

    /// Takes the oldest message of the most urgent class.
    pub(super) fn pop(&mut self) -> Option<(Priority, Waiting<M>)> {
        let priority = self.occupied.highest()?;
        let lane = self.lanes.get_mut(self.used.rank(priority))?;
        let waiting = lane.waiting.pop_front()?;
        if lane.waiting.is_empty() {
            self.occupied.remove(priority);
        }
        self.len -= 1;
        self.bytes -= waiting.cost;
        Some((priority, waiting))
    }

    /// Takes a message out that has no number yet.
    pub(super) fn remove(&mut self, priority: Priority, index: u64) -> Option<Waiting<M>> {
        let rank = self.rank(priority)?;
        let lane = self.lanes.get_mut(rank)?;
        let at = lane.waiting.binary_search_by_key(&index, |waiting| waiting.index).ok()?;
        let waiting = lane.waiting.remove(at)?;
        if lane.waiting.is_empty() {
            self.occupied.remove(priority);
        }
        self.len -= 1;
        self.bytes -= waiting.cost;
        Some(waiting)
    }

    /// Forgets what waits and hands out the receipts of each class; new ones begin.
    pub(super) fn clear(&mut self) -> Vec<(Priority, Receipts)> {
        self.occupied = PrioritySet::default();
        self.len = 0;
        self.bytes = 0;
        let used = self.used;
        let priorities = (0..=u8::MAX).map(Priority).filter(|priority| used.contains(*priority));
        let receipts = priorities.zip(&mut self.lanes).map(|(priority, lane)| {
            lane.waiting.clear();
            (priority, std::mem::take(&mut lane.receipts))
        });
        receipts.filter(|(_, receipts)| receipts.issued() > 0).collect()
    }

    pub(super) fn receipts(&self, priority: Priority) -> Option<&Receipts> {
        Some(&self.lanes.get(self.rank(priority)?)?.receipts)
    }

    pub(super) fn receipts_mut(&mut self, priority: Priority) -> Option<&mut Receipts> {
        let rank = self.rank(priority)?;
        Some(&mut self.lanes.get_mut(rank)?.receipts)
    }

    /// From here on every message that has no number yet has a receipt; those before have none.
    pub(super) fn track_from_here(&mut self) {
        for lane in &mut self.lanes {
            let first = lane.waiting.front().map_or(lane.receipts.issued(), |waiting| waiting.index);
            lane.receipts.track_from(first);
        }
    }

    fn rank(&self, priority: Priority) -> Option<usize> {
        self.used.contains(priority).then(|| self.used.rank(priority))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_urgent_of_all_256_classes_comes_first_whatever_the_order_of_pushing() {
        let mut lanes = Lanes::new();
        // 77 is prime to 256, so this visits each class once, in no useful order.
        for step in 0..256u32 {
            let priority = Priority((step * 77 % 256) as u8);
            assert_eq!(lanes.push(priority, 1, priority), 0);
        }
        for expected in (0..=u8::MAX).rev() {
            let (priority, waiting) = lanes.pop().expect("one message in each class");
            assert_eq!((priority.0, waiting.message.0), (expected, expected));
        }
        assert!(lanes.pop().is_none());
        assert_eq!((lanes.len(), lanes.bytes()), (0, 0));
    }

    #[test]
    fn a_message_in_the_middle_of_its_class_is_found_by_its_index() {
        let mut lanes = Lanes::new();
        for n in 0..5 {
            assert_eq!(lanes.push(Priority(3), 10, n), n);
        }
        assert_eq!(lanes.remove(Priority(3), 2).map(|waiting| waiting.message), Some(2));
        assert!(lanes.remove(Priority(3), 2).is_none());
        assert!(lanes.remove(Priority(4), 0).is_none());
        let rest: Vec<_> = std::iter::from_fn(|| lanes.pop()).map(|(_, waiting)| waiting.message).collect();
        assert_eq!(rest, [0, 1, 3, 4]);
    }
}
