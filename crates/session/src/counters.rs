//! What happened to a session, in numbers.

use core::ops::AddAssign;

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// What happened to a session since it began. Plain numbers: the owner of the session counts, a reader gets
        /// a copy. They only grow; a difference of two copies is what happened in between.
        #[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Counters {
            /// Every counter with its name, in the order of the fields, for display and export.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }
        }

        impl AddAssign for Counters {
            /// Adds up the sessions of an endpoint.
            fn add_assign(&mut self, other: Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}

counters! {
    /// Messages written for the first time.
    messages_sent,
    /// Bytes of the messages written for the first time.
    bytes_sent,
    /// Messages delivered to the user.
    messages_received,
    /// Bytes of the messages delivered to the user.
    bytes_received,
    /// Messages written again after a lost connection.
    replayed,
    /// Messages dropped because they were delivered before.
    duplicates_dropped,
    /// Times that numbers were left out by the peer.
    gaps,
    /// Numbers left out by the peer.
    messages_missing,
    /// Acknowledgements written on their own.
    acks_sent,
    /// Acknowledgements that were due and went along with a message instead.
    acks_piggybacked,
    /// Acknowledgements received on their own or with a message that freed something.
    acks_received,
    /// Messages that the peer acknowledged.
    messages_acked,
    /// Messages taken back by the user.
    revoked,
    /// Messages lost with the session.
    lost,
    /// Connections that carried on a session after another was lost.
    reconnects,
    /// Times that the peer no longer knew the session.
    resets,
    /// Heartbeats written.
    heartbeats_sent,
    /// Connections given up because the peer was silent.
    heartbeats_missed,
    /// Times that reading paused because the user was behind.
    throttle_refusals,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_of_an_endpoint_add_up_field_by_field() {
        let mut total = Counters { messages_sent: 1, lost: u64::MAX, ..Counters::default() };
        total += Counters { messages_sent: 2, lost: 1, resets: 3, ..Counters::default() };
        let some: Vec<_> = total.iter().filter(|(_, value)| *value > 0).collect();
        assert_eq!(some, [("messages_sent", 3), ("lost", u64::MAX), ("resets", 3)]);
    }
}
