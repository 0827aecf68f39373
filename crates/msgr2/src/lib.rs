#![forbid(unsafe_code)]
//! Ceph's msgr2 protocol, both roles, without input or output.
//!
//! **The contract:** `handle_*` puts something in, `poll_*` takes something out; after every `handle_*` of a
//! [`Connection`] drain, in this order, [`Connection::poll_request`] (answer it with [`Endpoint::decide`] and
//! [`Connection::handle_decision`]), [`Connection::poll_event`], `sync` with the session it is bound to, that session's
//! `poll_*`, then `poll_write`; time and randomness come from the caller, and nothing here blocks.
//!
//! Three types share the state by what dies with what:
//!
//! - [`Connection`] dies with its transport: banner, authentication, keys, half-read frames.
//! - [`Session`] survives its connections: numbers, what is unacknowledged, cookies, lifetime.
//! - [`Endpoint`] is the process: which sessions there are, and what becomes of a newcomer.
//!
//! They exchange values and hold no references to each other. The protocol is that of Ceph's `doc/dev/msgr2.rst`
//! ("the spec" below), with what Ceph's and Linux's code add to it; each rule names its source.

pub mod compress;
pub mod connection;
pub mod endpoint;
mod error;
pub mod frame;
mod ids;
pub mod message;
mod policy;
mod random;
pub mod session;
pub mod wire;

pub use connection::{
    Agreement, Authenticated, Authority, Buffers, CompressionConfig, Connection, ConnectionConfig,
    ConnectionEvent, Credential,
};
pub use endpoint::{Decision, Endpoint, EndpointConfig, Located, SessionRequest};
pub use error::{ConnectionError, EndReason, Fault};
pub use ids::{ChannelId, SessionId};
pub use message::{Message, Received};
pub use policy::Policy;
pub use session::handshake::{FEATURE_MSG_ADDR2, FEATURES_CEPH, FEATURES_SUPPORTED};
pub use session::{Matching, SendError, Session, SessionConfig, SessionEvent, SessionState, Target};
