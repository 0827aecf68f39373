//! Linux kernels as DLM nodes, for tests: guests of `peers/kernel` on a network that belongs to one test.
//!
//! A [`Lab`] is a network namespace with a bridge. [`Lab::boot`] puts a guest on it, [`Lab::machine`] a namespace
//! in which a program or a thread of the test is a machine of its own. A [`Guest`] joins and leaves lockspaces; a
//! [`Process`] in it locks. Everything blocks, every wait has an end, and all goes when it is dropped, or soon
//! after the test was killed.
//!
//! ```no_run
//! use outlast_kernel_harness::protocol::{Mode, flags};
//! # fn main() -> Result<(), outlast_kernel_harness::LabError> {
//! let Some(lab) = outlast_kernel_harness::lab()? else { return Ok(()) };
//! let guests = lab.boot_all(&[1, 2])?;
//! for guest in &guests {
//!     guest.cluster(&[1, 2], &[("toss_secs", "1")])?;
//! }
//! outlast_kernel_harness::join_all(&guests, "ls", 4242)?;
//! let mut process = guests[0].process("ls")?;
//! process.lock(1, "resource", Mode::EX, flags::VALBLK)?;
//! assert_eq!(process.ast(1)?.status, 0);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]
// A test rig, not a pure crate: it waits for machines.
#![allow(clippy::disallowed_methods)]

mod agent;
mod capture;
mod guest;
mod lab;
mod namespace;
mod process;

pub use agent::static_example;
pub use capture::Capture;
pub use guest::{Guest, Kernel, Options, change_members, join_all, leave};
pub use lab::{HOST_OCTET, Lab, address};
pub use namespace::Namespace;
pub use outlast_kernel_agent::{AGENT_PORT, load, protocol};
pub use process::{Ast, Event, Process};

use std::io::{self, Write as _};
use std::time::Duration;

/// The DLM's port, the same on all nodes.
pub const DLM_PORT: u16 = 21_064;
/// The name of the cluster that guests are told.
pub const CLUSTER_NAME: &str = "outlast";
/// What a guest does in a moment has this long: two busy processors make five guests slow.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct LabError {
    /// For people.
    pub what: String,
    /// What a kernel said, or 0.
    pub errno: i32,
}

impl LabError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), errno: 0 }
    }

    /// For `map_err`: what was tried when the system refused it.
    pub(crate) fn at(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { what: format!("{what}: {error}"), errno: error.raw_os_error().unwrap_or(0) }
    }
}

/// A lab for a test that needs real kernels, or `None` after saying loudly that the test does not run.
///
/// # Errors
///
/// Real peers are wanted, but there cannot be a lab.
pub fn lab() -> Result<Option<Lab>, LabError> {
    if std::env::var_os("OUTLAST_REAL_PEERS").is_none() {
        skip("OUTLAST_REAL_PEERS is not set: cargo xtask test sets it and installs what the test needs")?;
        return Ok(None);
    }
    if !rustix::process::geteuid().is_root() {
        skip("needs root, for network namespaces and guests on a network")?;
        return Ok(None);
    }
    Lab::new().map(Some)
}

/// Says, and notes for `cargo xtask test`, that the test of this thread did not run.
fn skip(reason: &str) -> Result<(), LabError> {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test without a name");
    eprintln!("SKIPPED {name}: {reason}");
    if let Some(path) = std::env::var_os("OUTLAST_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        log.and_then(|mut log| log.write_all(format!("{name}: {reason}\n").as_bytes()))
            .map_err(LabError::at("OUTLAST_SKIP_LOG"))?;
    }
    Ok(())
}
