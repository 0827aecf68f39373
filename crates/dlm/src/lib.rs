#![forbid(unsafe_code)]
//! The protocol between the nodes of Linux's distributed lock manager (DLM), without input or output: a node that speaks
//! it is one among kernels.
//!
//! **The contract:** bytes go into a [`Connection`] by `handle_read` and come out by `poll_write`, in between `sync` lets it
//! meet its [`Session`]; then drain [`Session::poll_received`] and [`Session::poll_event`], hand answers to
//! [`Session::send`], and `sync` again; a driver of byte streams does all that (`outlast_session::StreamChannel`). Time and
//! randomness come from the caller, and nothing here blocks.
//!
//! Two types share the state by what dies with what:
//!
//! - [`Connection`] dies with its transport: half-read frames, what is not written yet.
//! - [`Session`] survives its connections: numbers, what is unacknowledged, the version, FIN. There is one for each other
//!   node, and all lockspaces share it.
//!
//! The protocol is that of Linux 6.12, `fs/dlm` (version 3.2, and 3.1 towards nodes that know no other); each rule names its
//! file. What locks mean is no matter of this crate.
//!
//! # What makes it reliable
//!
//! A message gets its number when a connection pulls it, is kept until it is acknowledged, and is replayed at the next
//! connection, never by a timer; the mechanism is that of `outlast_session`. What is DLM's own:
//!
//! - numbers count from 0 with 32 bits that wrap, and an acknowledgement names the number that is expected next
//!   (`outlast_session::Exclusive32`); compared by serial arithmetic at both ends;
//! - a node knows its peers by address, and nothing is secret: whoever can take a member's address is that member;
//! - the kernel notices a lost connection by a reset, not by its orderly end. Who ends a connection must reset it, or what
//!   was under way to it is not repeated ([`session`]).

mod connection;
mod error;
pub mod session;
pub mod wire;

pub use connection::Connection;
pub use error::{ConnectionError, Fault, SendError};
pub use session::{ChannelId, Dial, Session, SessionConfig, SessionEvent, State, Statistics};
