//! What is done with locks, by users and by other nodes.

use outlast_dlm::wire::{LockFlags, LockId, Mode};

/// What a user asked for while locking stood still.
#[derive(Debug)]
pub(crate) enum Deferred {
    Request { lock: LockId },
    Convert { lock: LockId, mode: Mode, flags: LockFlags, value: Option<Vec<u8>> },
    Unlock { lock: LockId, flags: LockFlags, value: Option<Vec<u8>> },
}
