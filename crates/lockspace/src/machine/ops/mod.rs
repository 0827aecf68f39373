//! What is done with locks, by users and by other nodes.
//!
//! ```text
//!             user                            lifecycle     (resources come and go)
//!              |                                  |
//!           submit -- is the master here? -- yes: master -- rules, value
//!              |                                  |             |
//!              no                                 |            tell    (events)
//!              v                                  v
//!            send ==== the other node ==== receive, directory
//!           replies <=================================
//! ```

mod directory;
mod lifecycle;
mod master;
mod receive;
mod refused;
mod replies;
mod rules;
mod send;
mod submit;
mod tell;
#[cfg(test)]
mod tests;
mod user;
mod value;
mod view;

pub(crate) use refused::Refused;

use outlast_dlm::wire::{LockFlags, LockId, Mode, Name};

/// What a user asked for while locking stood still.
#[derive(Debug)]
pub(crate) enum Deferred {
    Request { lock: LockId, name: Name },
    Convert { lock: LockId, mode: Mode, flags: LockFlags, value: Option<Vec<u8>> },
    Unlock { lock: LockId, flags: LockFlags, value: Option<Vec<u8>> },
    Cancel { lock: LockId },
}

impl Deferred {
    const fn lock(&self) -> LockId {
        match self {
            Self::Request { lock, .. }
            | Self::Convert { lock, .. }
            | Self::Unlock { lock, .. }
            | Self::Cancel { lock } => *lock,
        }
    }
}
