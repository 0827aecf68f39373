//! One queue for each class in use, and which of them hold something.
//!
//! There are 256 classes and a program uses two or three of them: a table says where the lane of a class is, and a
//! set of bits which lanes are not empty. Finding the most urgent message is a count of leading zeros, without a map
//! and without a walk.

use std::collections::VecDeque;

use super::receipts::Receipts;
use crate::message::Priority;

/// A set of classes.
#[derive(Copy, Clone, Default, Debug)]
struct PrioritySet([u64; 4]);

impl PrioritySet {
    const fn place(priority: Priority) -> (usize, u64) {
        ((priority.0 >> 6) as usize, 1 << (priority.0 & 63))
    }

    const fn insert(&mut self, priority: Priority) {
        let (word, bit) = Self::place(priority);
        self.0[word] |= bit;
    }

    const fn remove(&mut self, priority: Priority) {
        let (word, bit) = Self::place(priority);
        self.0[word] &= !bit;
    }

    fn highest(&self) -> Option<Priority> {
        (0u8..4).rev().find_map(|word| {
            let bits = self.0[usize::from(word)];
            // 63 - leading_zeros is at most 63 and the word at most 3: the sum fits.
            (bits != 0).then(|| Priority(word * 64 + (63 - bits.leading_zeros()) as u8))
        })
    }
}

/// A message that is kept, with or without a number.
#[derive(Debug)]
pub(super) struct Kept<M> {
    /// `None`: aborted on the wire, its number is a hole that no replay fills. What has no number yet is never a hole.
    pub(super) message: Option<M>,
    /// Within its class.
    pub(super) index: u64,
    pub(super) cost: usize,
    pub(super) priority: Priority,
}

/// What waits in one class, and how the messages of that class ended.
#[derive(Debug)]
struct Lane<M> {
    priority: Priority,
    waiting: VecDeque<Kept<M>>,
    receipts: Receipts,
}

/// All classes in use.
#[derive(Debug)]
pub(super) struct Lanes<M> {
    /// In the order of their first use. Never shrinks: 256 lanes at most.
    lanes: Vec<Lane<M>>,
    /// Where in `lanes` a class would be; it is there if the lane found there is of that class. (Counting bits would
    /// need no table, but the baseline of x86-64 has no instruction for it.)
    slots: [u8; 256],
    /// The classes in which something waits.
    occupied: PrioritySet,
    /// Messages in all lanes.
    len: usize,
    /// Their cost.
    bytes: usize,
}

impl<M> Lanes<M> {
    pub(super) const fn new() -> Self {
        Self { lanes: Vec::new(), slots: [0; 256], occupied: PrioritySet([0; 4]), len: 0, bytes: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a message to its class and returns its index there.
    pub(super) fn push(&mut self, priority: Priority, cost: usize, message: M) -> u64 {
        if self.lane(priority).is_none() {
            self.open(priority);
        }
        let lane = &mut self.lanes[usize::from(self.slots[usize::from(priority.0)])];
        let index = lane.receipts.issue();
        lane.waiting.push_back(Kept { message: Some(message), index, cost, priority });
        self.occupied.insert(priority);
        self.len += 1;
        self.bytes += cost;
        index
    }

    #[cold]
    fn open(&mut self, priority: Priority) {
        // One lane a class: the 256th has the place 255.
        self.slots[usize::from(priority.0)] = self.lanes.len() as u8;
        self.lanes.push(Lane { priority, waiting: VecDeque::new(), receipts: Receipts::default() });
    }

    /// Takes the oldest message of the most urgent class.
    pub(super) fn pop(&mut self) -> Option<Kept<M>> {
        let priority = self.occupied.highest()?;
        let lane = self.lane_mut(priority)?;
        let kept = lane.waiting.pop_front()?;
        let emptied = lane.waiting.is_empty();
        self.note_taken(priority, kept.cost, emptied);
        Some(kept)
    }

    /// Takes a message out that has no number yet.
    pub(super) fn remove(&mut self, priority: Priority, index: u64) -> Option<Kept<M>> {
        let lane = self.lane_mut(priority)?;
        let at = lane.waiting.binary_search_by_key(&index, |kept| kept.index).ok()?;
        let kept = lane.waiting.remove(at)?;
        let emptied = lane.waiting.is_empty();
        self.note_taken(priority, kept.cost, emptied);
        Some(kept)
    }

    fn note_taken(&mut self, priority: Priority, cost: usize, emptied: bool) {
        if emptied {
            self.occupied.remove(priority);
        }
        self.len -= 1;
        self.bytes -= cost;
    }

    /// Forgets what waits and hands out the receipts of each class by rising class; new ones begin.
    pub(super) fn clear(&mut self) -> Vec<(Priority, Receipts)> {
        self.occupied = PrioritySet::default();
        self.len = 0;
        self.bytes = 0;
        let taken = self.lanes.iter_mut().map(|lane| {
            lane.waiting.clear();
            (lane.priority, std::mem::take(&mut lane.receipts))
        });
        let mut issued: Vec<_> = taken.filter(|(_, receipts)| receipts.issued() > 0).collect();
        issued.sort_unstable_by_key(|(priority, _)| *priority);
        issued
    }

    pub(super) fn receipts(&self, priority: Priority) -> Option<&Receipts> {
        Some(&self.lane(priority)?.receipts)
    }

    pub(super) fn receipts_mut(&mut self, priority: Priority) -> Option<&mut Receipts> {
        Some(&mut self.lane_mut(priority)?.receipts)
    }

    /// From here on every message that has no number yet has a receipt; those before have none.
    pub(super) fn track_from_here(&mut self) {
        for lane in &mut self.lanes {
            let first = lane.waiting.front().map_or(lane.receipts.issued(), |kept| kept.index);
            lane.receipts.track_from(first);
        }
    }

    fn lane(&self, priority: Priority) -> Option<&Lane<M>> {
        let slot = usize::from(self.slots[usize::from(priority.0)]);
        self.lanes.get(slot).filter(|lane| lane.priority == priority)
    }

    fn lane_mut(&mut self, priority: Priority) -> Option<&mut Lane<M>> {
        let slot = usize::from(self.slots[usize::from(priority.0)]);
        self.lanes.get_mut(slot).filter(|lane| lane.priority == priority)
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
            let kept = lanes.pop().expect("one message in each class");
            assert_eq!((kept.priority.0, kept.message), (expected, Some(Priority(expected))));
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
        assert_eq!(lanes.remove(Priority(3), 2).and_then(|kept| kept.message), Some(2));
        assert!(lanes.remove(Priority(3), 2).is_none());
        assert!(lanes.remove(Priority(4), 0).is_none());
        let rest: Vec<_> = std::iter::from_fn(|| lanes.pop()).filter_map(|kept| kept.message).collect();
        assert_eq!(rest, [0, 1, 3, 4]);
    }
}
