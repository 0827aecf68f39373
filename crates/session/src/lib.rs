#![forbid(unsafe_code)]
//! (under construction)

mod convention;
mod inbox;
mod message;
mod outbox;
mod time;

pub use convention::*;
pub use inbox::*;
pub use message::*;
pub use outbox::*;
pub use time::*;
