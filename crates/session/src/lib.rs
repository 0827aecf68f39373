#![forbid(unsafe_code)]
//! (under construction)

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
