#![forbid(unsafe_code)]
//! The mechanisms of a session that outlasts its connections, without input or output: what happens goes in with
//! `handle_*` and its time, what is to be done comes out of `pull` and `poll_*`, and after anything went in the
//! driver drains `pull` until it is `None`, then asks [`Inbox::ack_due`], then every `poll_timeout`.
//!
//! No method reads a clock, blocks, takes a lock or makes up randomness; none of them can fail because of what a
//! peer sent other than by a typed error that says so. Nothing here knows a protocol: the numbers of a dialect are
//! translated by its [`Convention`], everything else about the wire is the dialect's.
//!
//! # A numbered stream that loses nothing
//!
//! Each direction of a session is an [`Outbox`] at one end and an [`Inbox`] at the other.
//!
//! ```text
//!          push          pull: gets its number           accept
//!  (user) ------> Outbox ===========================> Inbox -------> (user at the other end)
//!                   ^      the connection, and the      |
//!                   |      next one, and the next       |
//!                   +-----------------------------------+
//!                     handle_ack: "I hold the first n"
//! ```
//!
//! 1. A message gets its number when a connection **pulls** it for writing. Until then a more urgent one may overtake
//!    it and the user may take it back without a trace.
//! 2. The outbox **keeps** it until the peer says that it holds it. What waits and what is kept is bounded, in bytes
//!    and in messages; a full outbox gives a message back and never drops one.
//! 3. When the connection is lost, the outbox **rewinds**: what is kept will be pulled again, in order, with the
//!    numbers it has. At the resumption each end says how many messages it holds, and that many are not sent again.
//! 4. The inbox has a high-water mark. What lies below was delivered before and is **dropped**; what comes next is
//!    delivered.
//!
//! So the order of delivery is the order of numbering, and each message is delivered exactly once as long as both
//! ends remember the session. If one of them does not (it restarted, or the [`Lifetime`] ran out), what was
//! outstanding is lost *with a reason* ([`Outbox::lose_all`]): a receipt ends in exactly one way, and whoever waits
//! for it hears of it ([`ReceiptStatus`]).
//!
//! ## Why there is no retransmission timer
//!
//! The transports below (TCP, Unix sockets, later RDMA's reliable connections) deliver in order and without loss for
//! as long as they live, and they repeat what the network lost much better informed than anything above them. A timer here
//! would repeat what is still on its way, on a link that is slow just because it is full. What such a transport does
//! lose is what it had taken and not delivered *when it dies*: bytes in the kernel's buffers, frames half written. Hence
//! acknowledgements from end to end, and resending at reconnection only. What needs a timer is the question of whether the
//! connection still lives: [`Liveness`]. The acknowledgements themselves need one too, or the last messages before a silence
//! would be kept for ever: [`AckPolicy::delay_max`].
//!
//! ## Acknowledgements
//!
//! They are cumulative and travel for free in the header of any message that goes the other way; only when nothing
//! goes there for [`AckPolicy::delay_max`], or much came in the meantime, is a separate one due. "Acknowledged" means
//! queued at the receiver, not processed by it.
//!
//! ## Taking back a message
//!
//! [`Outbox::revoke`] takes out what has no number. What has one can be taken back only by aborting its frame in
//! mid-write, and only if no earlier connection carried it too: the receiver may hold the earlier copy, and a receipt
//! that says "revoked" would lie.
//!
//! ## What a message costs
//!
//! Pushing, pulling and acknowledging move it between ring buffers: no allocation of its own, no map, no timer. How
//! messages ended is known from one watermark for each class in use, since within a class order is kept; only
//! revocations are recorded one by one, joined to ranges and bounded ([`REVOCATIONS_REMEMBERED_MAX`]).
//! `cargo run --release -p outlast-session --example hot_path` measures it.
//!
//! # Around the stream
//!
//! | type | answers |
//! | --- | --- |
//! | [`Backoff`] | how long to wait before connecting again |
//! | [`Liveness`] | whether the peer is still there, and when to ask it |
//! | [`LifetimeTimer`] | whether the session may still be resumed |
//! | [`Throttle`] | how much more a peer may send before the user consumed what came |
//! | [`Counters`] | what happened |
//! | [`StreamChannel`] | how a driver of byte streams runs a dialect |
//!
//! # An example
//!
//! ```
//! use outlast_session::*;
//!
//! #[derive(Clone)]
//! struct Letter(&'static str);
//!
//! impl Payload for Letter {
//!     fn cost(&self) -> usize {
//!         self.0.len()
//!     }
//!     fn priority(&self) -> Priority {
//!         Priority(0)
//!     }
//! }
//!
//! let mut outbox = Outbox::new(Delivery::Lossless, OutboxLimits::default());
//! let mut inbox = Inbox::new(GapPolicy::Refuse, AckPolicy::default());
//! let now = Instant::ZERO;
//!
//! let first = outbox.push(Letter("first"))?;
//! let second = outbox.push(Letter("second"))?;
//!
//! // One arrives, the other is written and lost with its connection.
//! let pulled = outbox.pull().expect("two wait");
//! assert_eq!(inbox.accept(pulled.ordinal, 5, now)?, Verdict::Deliver);
//! outbox.pull().expect("one waits");
//!
//! // On the next connection the peer says what it holds, and the rest is replayed.
//! outbox.rewind();
//! outbox.handle_ack(inbox.received_count())?;
//! assert_eq!(outbox.status(first), ReceiptStatus::Acknowledged);
//! let replayed = outbox.pull().expect("the second again");
//! assert!(replayed.replay && replayed.id == second);
//! assert_eq!(inbox.accept(replayed.ordinal, 6, now)?, Verdict::Deliver);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod backoff;
mod convention;
mod counters;
mod driver;
mod inbox;
mod lifetime;
mod liveness;
mod message;
mod outbox;
mod throttle;
mod time;

pub use backoff::{Backoff, BackoffConfig, Jitter};
pub use convention::{Convention, Exclusive32, Inclusive64};
pub use counters::Counters;
pub use driver::StreamChannel;
pub use inbox::{AcceptError, AckPolicy, GapPolicy, Inbox, Verdict};
pub use lifetime::{Lifetime, LifetimeTimer, SessionExpired};
pub use liveness::{Liveness, LivenessAction, LivenessConfig};
pub use message::{Delivery, LossReason, MessageId, Payload, Priority, ReceiptStatus};
pub use outbox::{
    AckError, Full, Outbox, OutboxLimits, PAST_GENERATIONS_MAX, Pulled, REVOCATIONS_REMEMBERED_MAX,
    Revocation,
};
pub use throttle::{Budget, Throttle, ThrottleLimits};
pub use time::Instant;
