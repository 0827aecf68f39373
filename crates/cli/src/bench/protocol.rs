//! What the two ends of a benchmark say to each other, in one Outlast session.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One-way: counted, not answered.
pub(super) const KIND_STREAM: u16 = 1;
/// Wants [`REPLY_BYTES`] back.
pub(super) const KIND_CALL: u16 = 2;
/// Wants a [`Tally`] back, as JSON.
pub(super) const KIND_TALLY: u16 = 3;
/// The reply to a call, in bytes.
pub(super) const REPLY_BYTES: usize = 64;
/// Sizes that can be asked for, in bytes.
pub(super) const SIZE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What the accepting end has seen since it was started, and what it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// What was read of the payload, folded: so that it has to be.
    pub(super) folded: u64,
    /// The processors' time that this process has used.
    pub(super) cpu: Duration,
}

/// Touches a payload: a word of every cache line.
pub(super) fn fold(data: &[u8]) -> u64 {
    data.chunks(64).fold(0, |sum, line| {
        let mut word = [0; 8];
        let len = line.len().min(8);
        word[..len].copy_from_slice(&line[..len]);
        sum ^ u64::from_le_bytes(word)
    })
}

/// The processors' time that this process has used so far, as the system counts it.
pub(super) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
