//! How dialects write numbers and acknowledgements.
//!
//! The session counts messages from 0 with 64 bits that never wrap. A dialect may count from 1 or with fewer bits,
//! and may acknowledge the last message it has or the next one it expects; that stays here.

use core::fmt::Debug;

/// How a dialect writes the number of a message and an acknowledgement.
pub trait Convention {
    /// What is on the wire.
    type Number: Copy + Eq + Debug;

    /// The number of the message with this ordinal.
    fn number(ordinal: u64) -> Self::Number;

    /// The ordinal of the message with this number, the one nearest to `near` where numbers wrap; `near` is what
    /// [`crate::Inbox::received_count`] says. `None`: no message can have that number.
    fn ordinal(number: Self::Number, near: u64) -> Option<u64>;

    /// The ordinal of the first message of a session, which is near to nothing. See [`crate::Inbox::is_fresh`].
    fn first(number: Self::Number) -> Option<u64>;

    /// The acknowledgement of the first `count` messages.
    fn ack(count: u64) -> Self::Number;

    /// How many messages an acknowledgement stands for, the count nearest to `near` where numbers wrap; `near` is
    /// what [`crate::Outbox::acked_count`] says. `None`: no count can be written so.
    fn count(ack: Self::Number, near: u64) -> Option<u64>;
}

/// msgr2: 64 bits, the first message has number 1, an acknowledgement names the last message held and 0 is none.
/// From Ceph's `ProtocolV2.cc`, seen on the wire.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Inclusive64;

impl Convention for Inclusive64 {
    type Number = u64;

    fn number(ordinal: u64) -> u64 {
        // Unreachable at one message a nanosecond for 500 years; saturating only so that nothing can panic.
        ordinal.saturating_add(1)
    }

    fn ordinal(number: u64, _near: u64) -> Option<u64> {
        number.checked_sub(1)
    }

    fn first(number: u64) -> Option<u64> {
        number.checked_sub(1)
    }

    fn ack(count: u64) -> u64 {
        count
    }

    fn count(ack: u64, _near: u64) -> Option<u64> {
        Some(ack)
    }
}

/// DLM: 32 bits that wrap, the first message has number 0, an acknowledgement names the next message expected.
/// From Linux's `fs/dlm/midcomms.c`; compared by serial arithmetic (RFC 1982) at both ends, where the kernel's
/// receiver compares plainly and so takes an old message for a new one after a wrap.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Exclusive32;

impl Exclusive32 {
    /// The ordinal nearest to `near` whose low 32 bits are `number`.
    fn nearest(number: u32, near: u64) -> Option<u64> {
        let distance = number.wrapping_sub(near as u32).cast_signed();
        if distance == i32::MIN {
            // Half the circle away: RFC 1982 leaves open on which side.
            return None;
        }
        near.checked_add_signed(i64::from(distance))
    }
}

impl Convention for Exclusive32 {
    type Number = u32;

    fn number(ordinal: u64) -> u32 {
        ordinal as u32
    }

    fn ordinal(number: u32, near: u64) -> Option<u64> {
        Self::nearest(number, near)
    }

    fn first(number: u32) -> Option<u64> {
        Some(u64::from(number))
    }

    fn ack(count: u64) -> u32 {
        count as u32
    }

    fn count(ack: u32, near: u64) -> Option<u64> {
        Self::nearest(ack, near)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msgr2_writes_the_first_message_as_1_and_acknowledges_it_as_1() {
        assert_eq!(Inclusive64::number(0), 1);
        assert_eq!(Inclusive64::ack(1), 1);
        assert_eq!(Inclusive64::ordinal(1, 0), Some(0));
        assert_eq!(Inclusive64::count(0, 0), Some(0));
        assert_eq!(Inclusive64::ordinal(0, 0), None, "no message has the number 0");
        assert_eq!(Inclusive64::ordinal(u64::MAX, 0), Some(u64::MAX - 1));
    }

    #[test]
    fn dlm_writes_the_first_message_as_0_and_acknowledges_it_as_1() {
        assert_eq!(Exclusive32::number(0), 0);
        assert_eq!(Exclusive32::ack(1), 1);
        assert_eq!(Exclusive32::ordinal(0, 0), Some(0));
        assert_eq!(Exclusive32::count(0, 0), Some(0));
    }

    #[test]
    fn dlm_numbers_around_the_wrap_are_the_nearest_ones() {
        let wrap = 1u64 << 32;
        assert_eq!(Exclusive32::ordinal(0, wrap - 1), Some(wrap));
        assert_eq!(Exclusive32::ordinal(u32::MAX, wrap), Some(wrap - 1));
        assert_eq!(Exclusive32::count(5, wrap - 3), Some(wrap + 5));
        assert_eq!(Exclusive32::ordinal(7, 3 * wrap + 9), Some(3 * wrap + 7));
    }

    #[test]
    fn dlm_numbers_before_the_stream_and_half_a_circle_away_are_none() {
        assert_eq!(Exclusive32::ordinal(u32::MAX, 0), None);
        assert_eq!(Exclusive32::count(1 << 31, 0), None);
        assert_eq!(Exclusive32::count(1 << 31, 1 << 40), None);
        assert_eq!(Exclusive32::ordinal(0, u64::MAX), None);
    }

    #[test]
    fn the_first_number_of_a_session_is_taken_as_it_comes() {
        assert_eq!(Exclusive32::first(u32::MAX), Some(u64::from(u32::MAX)));
        assert_eq!(Inclusive64::first(3), Some(2));
    }
}
