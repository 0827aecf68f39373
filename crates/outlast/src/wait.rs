//! Lists of tasks that wait for something of a session, kept under the session's lock.

use std::collections::VecDeque;
use std::task::Waker;

/// One waiting task's place in a [`WaitList`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

/// Tasks that wait, first come first served. Whoever is woken is off the list, and comes again if it was in vain.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    next: u64,
    waiting: VecDeque<(Place, Waker)>,
}

impl WaitList {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a task on the list, or renews its waker where it stands already.
    pub(crate) fn enter(&mut self, place: &mut Option<Place>, waker: &Waker) {
        if let Some(place) = *place
            && let Some((_, known)) = self.waiting.iter_mut().find(|(p, _)| *p == place)
        {
            known.clone_from(waker);
            return;
        }
        let new = Place(self.next);
        self.next += 1;
        *place = Some(new);
        self.waiting.push_back((new, waker.clone()));
    }

    /// Takes a task off the list. False: it was woken before.
    pub(crate) fn leave(&mut self, place: Place) -> bool {
        match self.waiting.iter().position(|(p, _)| *p == place) {
            Some(index) => self.waiting.remove(index).is_some(),
            None => false,
        }
    }

    /// Up to `max` tasks, to be woken once the lock is released.
    pub(crate) fn take(&mut self, max: usize, wakes: &mut Vec<Waker>) {
        let count = max.min(self.waiting.len());
        wakes.extend(self.waiting.drain(..count).map(|(_, waker)| waker));
    }

    /// All of them.
    pub(crate) fn take_all(&mut self, wakes: &mut Vec<Waker>) {
        self.take(usize::MAX, wakes);
    }
}

/// Senders that wait for room. The first keeps its place until it has sent or given up, so that a large message is not
/// starved by small ones that would fit.
#[derive(Debug, Default)]
pub(crate) struct RoomQueue {
    next: u64,
    waiting: VecDeque<Sender>,
}

#[derive(Debug)]
struct Sender {
    place: Place,
    cost: usize,
    waker: Waker,
    woken: bool,
}

impl RoomQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether it is this sender's turn, should there be room.
    pub(crate) fn is_first(&self, place: Option<Place>) -> bool {
        match self.waiting.front() {
            None => true,
            Some(first) => Some(first.place) == place,
        }
    }

    pub(crate) fn enter(&mut self, place: &mut Option<Place>, cost: usize, waker: &Waker) {
        if let Some(place) = *place
            && let Some(known) = self.waiting.iter_mut().find(|s| s.place == place)
        {
            known.waker.clone_from(waker);
            // Who sends many keeps its place, and waits for another message each time.
            known.cost = cost;
            known.woken = false;
            return;
        }
        let new = Place(self.next);
        self.next += 1;
        *place = Some(new);
        self.waiting.push_back(Sender { place: new, cost, waker: waker.clone(), woken: false });
    }

    pub(crate) fn leave(&mut self, place: Place) {
        self.waiting.retain(|s| s.place != place);
    }

    /// What the first in the queue needs room for, unless it was woken already.
    pub(crate) fn first_cost(&self) -> Option<usize> {
        self.waiting.front().filter(|first| !first.woken).map(|first| first.cost)
    }

    pub(crate) fn wake_first(&mut self, wakes: &mut Vec<Waker>) {
        if let Some(first) = self.waiting.front_mut() {
            first.woken = true;
            wakes.push(first.waker.clone());
        }
    }

    pub(crate) fn wake_all(&mut self, wakes: &mut Vec<Waker>) {
        wakes.extend(self.waiting.iter_mut().filter(|s| !s.woken).map(|s| {
            s.woken = true;
            s.waker.clone()
        }));
    }
}

/// Wakes everybody; never under a lock.
pub(crate) fn wake(wakes: &mut Vec<Waker>) {
    for waker in wakes.drain(..) {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_goes_on_with_another_message_is_measured_by_that_one() {
        let mut room = RoomQueue::default();
        let mut place = None;
        room.enter(&mut place, 1 << 20, Waker::noop());
        assert_eq!(room.first_cost(), Some(1 << 20));
        room.wake_first(&mut Vec::new());
        assert_eq!(room.first_cost(), None, "woken once");
        room.enter(&mut place, 64, Waker::noop());
        assert_eq!(room.first_cost(), Some(64));
        assert!(room.is_first(place) && !room.is_first(None), "in its old place");
    }
}
