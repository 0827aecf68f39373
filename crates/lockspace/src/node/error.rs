//! What goes wrong for users.

use outlast_dlm::wire::NodeId;
use thiserror::Error;

use crate::machine::{RecoveryFailure, StartError, UserError};

/// A node, or its part in a lockspace, cannot be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The address cannot be listened on. The environment's fault, or that of whoever configured it.
    #[error(transparent)]
    Bind(#[from] outlast_net::BindError),
    /// The system has no randomness.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// Two nodes with one number or address, or 0. The user's fault.
    #[error("node {node}: {why}")]
    Config {
        /// Which.
        node: NodeId,
        /// What is wrong.
        why: &'static str,
    },
    /// The members cannot be these. The user's fault.
    #[error(transparent)]
    Members(#[from] StartError),
    /// A member whose address is not known. The user's fault.
    #[error("node {0} is a member and has no address: add it as a peer first")]
    NoAddress(NodeId),
    /// This node is in that lockspace already. The user's fault.
    #[error("this node is in lockspace {0} already")]
    Joined(String),
    /// The members cannot agree. Whose fault it is the failure says.
    #[error(transparent)]
    Recovery(#[from] RecoveryFailure),
    /// The node was shut down, or the lockspace left.
    #[error("the lockspace was left")]
    Left,
}

/// A lock was not granted, converted or given up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LockError {
    /// It cannot be granted at once.
    #[error("the lock is held by others")]
    WouldBlock,
    /// It was not granted in time.
    #[error("the lock was not granted in time")]
    Deadline,
    /// It would wait for ever for another that waits for it.
    #[error("the conversion is in a deadlock with another")]
    Deadlock,
    /// Somebody canceled it.
    #[error("the request was canceled")]
    Canceled,
    /// This node has left the lockspace: all locks are gone.
    #[error("the lockspace was left")]
    Left,
    /// It was asked for in a way that cannot be.
    #[error(transparent)]
    User(#[from] UserError),
    /// Something else.
    #[error("the master refused with error {0}")]
    Failed(i32),
}
