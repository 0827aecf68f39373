//! A node of the cluster: sockets, sessions and lockspaces together, on tokio.
//!
//! [`Node`] listens, dials its peers and keeps a session with each. [`Node::join`] gives a [`Lockspace`], in which
//! [`Lockspace::lock`] takes a lock and gives a [`Guard`]. Membership is told from outside: [`Lockspace::set_members`] and
//! [`Node::fence`].
//!
//! Everything that is decided is decided under one lock of the process, by whichever task has the news: a connection that
//! has read something, a user who asks, or the keeper of deadlines. Nothing is awaited under it.

mod carrier;
mod config;
mod core;
mod error;
mod guard;
mod keeper;
mod space;

pub use self::core::{LockspaceEvent, PeerStatus};
pub use config::{DIAL_WAIT_MAX, NodeConfig, PORT, SILENCE_MAX};
pub use error::{LockError, NodeError};
pub use guard::{Guard, LockOptions};
pub use keeper::Node;
pub use space::{Lockspace, LockspaceConfig};
