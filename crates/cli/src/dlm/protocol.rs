//! What a member and the commands that ask it say to each other over its socket: a line of JSON each way, and for a lock
//! a second one when it is granted. A lock is held as long as the connection that asked for it is open.

use serde::{Deserialize, Serialize};

/// The longest line, in bytes: names have at most 64.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// What a command wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// A lock, until the connection is closed.
    Lock {
        /// Where; `None`: in the only lockspace.
        lockspace: Option<String>,
        /// Of this resource.
        name: String,
        /// Two letters.
        mode: String,
        /// How long to wait, in milliseconds; 0: not at all; `None`: for ever.
        wait_ms: Option<u64>,
    },
    /// All resources.
    Ls {
        /// Of this lockspace; `None`: of all.
        lockspace: Option<String>,
    },
    /// The member and its peers.
    Status,
    /// The membership changes.
    Members {
        /// Which half of it.
        step: Step,
        /// Who the members are from now on.
        nodes: Vec<u32>,
        /// Tells times with the same members apart.
        change: u64,
    },
    /// A node is gone for good.
    Fence {
        /// Which.
        node: u32,
    },
}

/// A half of a change of membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// Both at once.
    Set,
    /// Locking stands still.
    Suspend,
    /// Locking goes on with these.
    Resume,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// The lock is held.
    Granted,
    /// Others hold it, and the time to wait is over.
    Held,
    /// Done.
    Done,
    /// The resources.
    Resources(Vec<Resource>),
    /// The member and its peers.
    Status(Status),
    /// It cannot be.
    Failed {
        /// Why.
        error: String,
    },
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resource {
    /// Where.
    pub(super) lockspace: String,
    /// Its name, bytes that are no text escaped.
    pub(super) name: String,
    /// Who decides.
    pub(super) master: Option<u32>,
    /// Who knows the master.
    pub(super) directory: u32,
    /// Its locks, as far as they are known here.
    pub(super) locks: Vec<Lock>,
    /// The value block, in hexadecimal.
    pub(super) value: Option<String>,
    /// Who wrote it last died with it.
    pub(super) value_not_valid: bool,
}

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lock {
    /// Whose.
    pub(super) node: u32,
    /// Of that node.
    pub(super) process: u32,
    /// Held in this mode.
    pub(super) granted: Option<String>,
    /// Wanted in this one.
    pub(super) requested: Option<String>,
    /// `granted`, `waiting`, `converting`, or `asking` as long as the master has not answered.
    pub(super) state: String,
}

/// The member and its peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Status {
    /// This node.
    pub(super) node: u32,
    /// What it is in.
    pub(super) lockspaces: Vec<LockspaceStatus>,
    /// The others.
    pub(super) peers: Vec<Peer>,
}

/// A lockspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LockspaceStatus {
    /// For people.
    pub(super) name: String,
    /// For the wire.
    pub(super) id: u32,
    /// Whether locks are served now.
    pub(super) running: bool,
    /// How many changes of membership it went through.
    pub(super) generation: u32,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peer {
    /// Which.
    pub(super) node: u32,
    /// Where.
    pub(super) address: String,
    /// What it speaks, if it has said a word.
    pub(super) version: Option<String>,
    /// Of the session.
    pub(super) state: String,
    /// Now.
    pub(super) connections: usize,
    /// The number that the next message gets.
    pub(super) next_number: u32,
    /// All before this one are acknowledged.
    pub(super) acknowledged: u32,
    /// The number that is expected.
    pub(super) expected: u32,
    /// Messages that wait for an acknowledgement.
    pub(super) unacknowledged: usize,
    /// Connections lost.
    pub(super) resets: u64,
    /// Messages written again.
    pub(super) replayed: u64,
    /// Messages that came again.
    pub(super) duplicates: u64,
    /// Messages lost with a session that ended.
    pub(super) lost: u64,
}
