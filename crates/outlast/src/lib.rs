#![forbid(unsafe_code)]
//! Sessions that outlast their connections.
//!
//! A [`Messenger`] opens and accepts [`Session`]s. A session carries [`Message`]s to a peer, each once and in order,
//! over one connection after the other: when one is lost, the next goes on where it ended. What a program sees of
//! that are [`SessionEvent`]s, if it looks, and a [`Receipt`] for each message that ends in exactly one way.
//!
//! # A server and a client
//!
//! The program needs tokio with `rt-multi-thread` and `macros`, and its runtime with input, output and time enabled, as
//! `#[tokio::main]` makes it. What this crate needs of tokio, it asks for itself.
//!
//! ```
//! use outlast::{Auth, ConnectOptions, Keyring, KeyringEntry, Message, Messenger, generate_key};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // One key for each client. The server has those of all its clients, a client has its own.
//!     let key = generate_key()?;
//!     let mut keyring = Keyring::new();
//!     keyring.insert("client.copy".parse()?, KeyringEntry::new(key.clone()));
//!
//!     let server = Messenger::builder("mon.1".parse()?).auth(Auth::keyring(keyring)).build()?;
//!     let address = server.listen("127.0.0.1:0".parse()?).await?; // with the port that was free
//!     let serving = tokio::spawn(async move {
//!         while let Some(session) = server.accept().await {
//!             println!("{} is here", session.peer()); // client.copy, proven by its key
//!             tokio::spawn(async move {
//!                 while let Some(request) = session.recv().await {
//!                     let reply = Message::new(2).data(request.data.to_ascii_uppercase());
//!                     if session.reply(&request, reply).await.is_err() {
//!                         break; // the session is over
//!                     }
//!                 }
//!             });
//!         }
//!     });
//!
//!     let client = Messenger::builder("client.copy".parse()?).auth(Auth::key(key)).build()?;
//!     let session = client.connect(&[address], ConnectOptions::lossless()).await?;
//!     let reply = session.call(Message::new(1).data("whatever happens")).await?;
//!     assert_eq!(reply.data, "WHATEVER HAPPENS");
//!
//!     session.close().await; // waits until the peer has everything, and tells it
//!     serving.abort();
//!     Ok(())
//! }
//! ```
//!
//! In two processes, the key travels in a keyring file: [`Keyring::to_text`] writes one and [`Keyring::parse`] reads
//! it; Ceph's own are the same. The server needs no key of its own unless it dials too. On a network that is trusted
//! wholly, [`Auth::none`] does without keys, and without encryption.
//!
//! # Where to look
//!
//! | to | look at |
//! | --- | --- |
//! | listen, accept and connect | [`Messenger`] |
//! | send, and know that it arrived | [`Session::send`], [`Session::send_many`], [`Receipt`] |
//! | ask and answer | [`Session::call`], [`Session::reply`], [`Session::call_queue`] for many at once |
//! | see interruptions | [`Session::events`], [`Session::status`], [`Session::stats`] |
//! | end it | [`Session::close`], [`Messenger::shutdown`] |
//! | choose lifetimes, bounds and pauses | [`ConnectOptions`], [`SessionOptions`], [`Builder`] |
//! | read the log | [`mod@log`] |
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

/// The program in the README, which is tested as the examples here are.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
