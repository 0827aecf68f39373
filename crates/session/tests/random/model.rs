//! What a session promises, apart from how it keeps it.
//!
//! A history is what an observer of one direction sees. The model of it is an ordered list and a place in it; the
//! checker says what is wrong with a history. Neither knows of numbers, acknowledgements or connections.

use std::collections::BTreeSet;

/// What an observer sees of one direction.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// A connection pulled the message for the first time.
    Numbered(u32),
    /// The receiver handed it to its user.
    Delivered(u32),
    /// The sender's receipt says that the receiver holds it.
    Acknowledged(u32),
    /// The sender took it back, before or after it had a number.
    Revoked(u32),
    /// The session was reset: both ends forget.
    Reset,
}

/// What is wrong with a history.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wrong {
    /// Delivered, but it was not next: lost before it, duplicated, reordered or invented.
    NotNext { delivered: u32, next: Option<u32> },
    /// The receipt lies.
    NotDelivered { acknowledged: u32 },
    /// Delivered although the sender was told that it is taken back.
    DeliveredThoughRevoked { message: u32 },
    /// At the end, after all faults, it had still not arrived.
    Stuck { message: u32 },
}

/// One direction of a session: an ordered exactly-once list.
#[derive(Default)]
struct Model {
    numbered: Vec<u32>,
    delivered: usize,
}

impl Model {
    fn deliver(&mut self, message: u32) -> Result<(), Wrong> {
        let next = self.numbered.get(self.delivered).copied();
        self.delivered += 1;
        if next == Some(message) { Ok(()) } else { Err(Wrong::NotNext { delivered: message, next }) }
    }

    fn revoke(&mut self, message: u32) -> Result<(), Wrong> {
        if self.numbered[..self.delivered].contains(&message) {
            return Err(Wrong::DeliveredThoughRevoked { message });
        }
        self.numbered.retain(|numbered| *numbered != message);
        Ok(())
    }
}

/// Whether a history of one direction, which ends after all faults were healed, is what was promised.
pub(crate) fn check(history: &[Event]) -> Result<(), Wrong> {
    let mut model = Model::default();
    let mut ever_delivered = BTreeSet::new();
    for event in history {
        match *event {
            Event::Numbered(message) => model.numbered.push(message),
            Event::Delivered(message) => {
                model.deliver(message)?;
                ever_delivered.insert(message);
            }
            Event::Acknowledged(message) if ever_delivered.contains(&message) => {}
            Event::Acknowledged(acknowledged) => return Err(Wrong::NotDelivered { acknowledged }),
            Event::Revoked(message) => model.revoke(message)?,
            Event::Reset => model = Model::default(),
        }
    }
    match model.numbered.get(model.delivered) {
        Some(&message) => Err(Wrong::Stuck { message }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod rejects {
    use super::Event::{Acknowledged, Delivered, Numbered, Reset, Revoked};
    use super::*;

    #[test]
    fn no_good_history() {
        let good: [&[Event]; 5] = [
            &[],
            &[Numbered(1), Numbered(2), Delivered(1), Acknowledged(1), Delivered(2), Acknowledged(2)],
            &[Numbered(1), Numbered(2), Revoked(1), Delivered(2), Acknowledged(2)],
            &[Revoked(9), Numbered(1), Delivered(1)],
            &[Numbered(1), Numbered(2), Delivered(1), Reset, Numbered(3), Acknowledged(1), Delivered(3)],
        ];
        for history in good {
            assert_eq!(check(history), Ok(()), "{history:?}");
        }
    }

    #[test]
    fn a_history_that_lost_a_message() {
        let lost = [Numbered(1), Numbered(2), Numbered(3), Delivered(1), Delivered(3)];
        assert_eq!(check(&lost), Err(Wrong::NotNext { delivered: 3, next: Some(2) }));
        assert_eq!(check(&lost[..4]), Err(Wrong::Stuck { message: 2 }));
    }

    #[test]
    fn a_history_that_delivered_twice() {
        let twice = [Numbered(1), Delivered(1), Delivered(1)];
        assert_eq!(check(&twice), Err(Wrong::NotNext { delivered: 1, next: None }));
    }

    #[test]
    fn a_history_that_changed_the_order() {
        let reordered = [Numbered(1), Numbered(2), Delivered(2), Delivered(1)];
        assert_eq!(check(&reordered), Err(Wrong::NotNext { delivered: 2, next: Some(1) }));
    }

    #[test]
    fn a_history_with_a_message_that_nobody_sent() {
        assert_eq!(check(&[Delivered(7)]), Err(Wrong::NotNext { delivered: 7, next: None }));
    }

    #[test]
    fn a_history_with_a_receipt_that_came_too_early() {
        let early = [Numbered(1), Acknowledged(1), Delivered(1)];
        assert_eq!(check(&early), Err(Wrong::NotDelivered { acknowledged: 1 }));
    }

    #[test]
    fn a_history_in_which_a_revoked_message_arrived() {
        let before = [Numbered(1), Delivered(1), Revoked(1)];
        assert_eq!(check(&before), Err(Wrong::DeliveredThoughRevoked { message: 1 }));
        let after = [Numbered(1), Revoked(1), Delivered(1)];
        assert_eq!(check(&after), Err(Wrong::NotNext { delivered: 1, next: None }));
    }

    #[test]
    fn a_history_in_which_the_past_came_after_a_reset() {
        let ghost = [Numbered(1), Reset, Delivered(1)];
        assert_eq!(check(&ghost), Err(Wrong::NotNext { delivered: 1, next: None }));
    }
}
