//! Limits, with their units and reasons.

use core::time::Duration;

/// Bytes of a value block, as Linux's lockspaces for user space have.
pub(crate) const VALUE_BLOCK_BYTES: u32 = 32;
/// How long a resource without locks is kept (Linux: `config.c`, 5 s).
pub(crate) const TOSS_AFTER: Duration = Duration::from_secs(5);
/// Locks on one node: a lock takes some 200 bytes here.
pub(crate) const LOCKS_MAX: usize = 1 << 20;
/// Resources on one node, with the places in the directory.
pub(crate) const RESOURCES_MAX: usize = 1 << 21;
