#![forbid(unsafe_code)]
//! Sessions that outlast their connections.
//!
//! A [`Messenger`] opens and accepts [`Session`]s. A session carries [`Message`]s to a peer, each once and in order,
//! over one connection after the other: when one is lost, the next goes on where it ended. What a program sees of
//! that are [`SessionEvent`]s, if it looks, and a [`Receipt`] for each message that ends in exactly one way.
//!
//! The protocol is Ceph's msgr2 ([`outlast_msgr2`]); this crate is the part with the sockets, tasks and locks.

pub mod log;

mod auth;
mod builder;
mod call;
mod carrier;
mod core;
mod error;
mod event;
mod keeper;
mod landing;
mod messenger;
mod options;
mod receipt;
mod recv;
mod send;
mod session;
mod stats;
mod wait;

pub use auth::{Auth, generate_key};
pub use builder::{ACCEPT_QUEUE_MAX, Builder, Profile};
pub use call::{CallQueue, Calling, Submitting};
pub use error::{BuildError, CallError, ConnectError, ListenError, Lost, SendError, TrySendError};
pub use event::{EVENTS_KEPT_MAX, Events, SessionEvent};
pub use messenger::Messenger;
pub use options::{
    ACCEPTED_LIFETIME, CONNECT_WITHIN, ConnectOptions, DRAIN_MAX, GOODBYE_MAX, SessionOptions,
};
pub use receipt::Receipt;
pub use send::{Sending, SendingMany};
pub use session::Session;
pub use stats::{Agreed, PeerInfo, Stats, Status};

pub use outlast_cephx::keyring::{Entry as KeyringEntry, KeyringError, KeyringProblem};
pub use outlast_cephx::server::Keys;
pub use outlast_cephx::{EntityName, EntityNameError, EntityType, Key, KeyError, KeyType, Keyring, Tickets};
pub use outlast_msgr2::compress::Algorithm;
pub use outlast_msgr2::endpoint::{SESSIONS_MAX, SESSIONS_PER_NAME_MAX};
pub use outlast_msgr2::message::priority;
pub use outlast_msgr2::wire::{AddrVec, AuthMethod, ConnectionMode as Mode, EntityAddr};
pub use outlast_msgr2::{
    ConnectionError, Credential, EndReason, FEATURES_CEPH, Fault, Message, Policy, SessionId,
};
pub use outlast_net::{Address, AddressError, BindError, Clock};
pub use outlast_session::{
    AckPolicy, BackoffConfig, Counters, Jitter, Lifetime, LivenessConfig, LossReason, OutboxLimits,
};
