#![forbid(unsafe_code)]
//! stub

pub mod client;
pub mod crypt;
mod entity;
mod key;
pub mod keyring;
mod message;
pub mod none;
mod secret;
pub mod server;
mod ticket;
mod time;
mod wire;

pub use entity::{ENTITY_ID_BYTES_MAX, EntityName, EntityNameError, EntityType};
pub use key::{KEY_BYTES_MAX, Key, KeyError, KeyType};
pub use keyring::Keyring;
pub use message::AuthMode;
pub use secret::{CONNECTION_SECRET_BYTES_MAX, CONNECTION_SECRET_BYTES_MIN, ConnectionSecret};
pub use ticket::{ServiceMask, Ticket, Tickets};
pub use time::Timestamp;
pub use wire::DecodeError;

/// Who is to blame for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The other end sent what it must not.
    Peer,
    /// Whoever configured or called us.
    User,
    /// Neither: the machine, the disk, the network.
    Environment,
}
