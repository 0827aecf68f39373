#![forbid(unsafe_code)]
//! A lock manager that shares its locks with the nodes of Linux's distributed lock manager, message for message.
//!
//! Everything in [`machine`] is without input or output: what happens goes in with `handle_*` and with the methods
//! of the user, each with its time; after anything went in, the driver drains [`machine::Machine::poll_transmit`] and
//! [`machine::Machine::poll_event`] until both are `None`, then asks [`machine::Machine::poll_timeout`].
//!
//! [`node`] puts sockets to it, and is what programs use:
//!
//! ```
//! use outlast_dlm::wire::{Mode, NodeId};
//! use outlast_lockspace::node::{LockOptions, LockspaceConfig, Node, NodeConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Node 1 of a cluster that has only this one; others would be added with `.peer(NodeId(2), address)`.
//! let config = NodeConfig { port: 0, ..NodeConfig::new(NodeId(1), "127.0.0.1".parse()?) };
//! let node = Node::start(config).await?;
//! let space = node.join(LockspaceConfig::named("jobs"), &[NodeId(1)]).await?;
//!
//! // Given up when it is dropped, or sooner.
//! let mut guard = space.lock("nightly", Mode::Exclusive).await?;
//! assert!(space.try_lock("nightly", Mode::ProtectedRead).await?.is_none());
//!
//! // Others may read now, and `blocking` tells when one wants more.
//! guard.convert(Mode::ProtectedRead).await?;
//! let reader = space.lock("nightly", LockOptions::new(Mode::ProtectedRead)).await?;
//! reader.unlock().await?;
//! guard.unlock().await?;
//! node.shut_down().await;
//! # Ok(())
//! # }
//! ```

pub mod machine;
pub mod node;
