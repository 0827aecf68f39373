//! What the agent in a guest and the test on the host share: the words that they say to each other, and the
//! structures of the kernel's DLM device.
//!
//! The program of this package runs in a guest of `peers/kernel` and does there what cluster software does on a
//! real node. `outlast-kernel-harness` builds it and talks to it.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod device;
pub mod load;
pub mod protocol;

/// The TCP port of the guest on which the agent listens.
pub const AGENT_PORT: u16 = 7000;
