//! Requests and replies: one JSON object in a line each, any number of them under way.
//!
//! No field of a command is called `id`: that is the request's.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Lock modes, by their numbers in the kernel (`include/uapi/linux/dlmconstants.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// Null: a place in the queue, compatible with everything.
    NL = 0,
    /// Concurrent read.
    CR = 1,
    /// Concurrent write.
    CW = 2,
    /// Protected read.
    PR = 3,
    /// Protected write.
    PW = 4,
    /// Exclusive.
    EX = 5,
}

impl Mode {
    /// All modes, from the weakest.
    pub const ALL: [Mode; 6] = [Mode::NL, Mode::CR, Mode::CW, Mode::PR, Mode::PW, Mode::EX];
}

/// Flags of lock requests (`DLM_LKF_*` in `include/uapi/linux/dlmconstants.h`).
pub mod flags {
    /// Fail with EAGAIN instead of waiting.
    pub const NOQUEUE: u32 = 0x1;
    /// The value block is read or written.
    pub const VALBLK: u32 = 0x8;
    /// A conversion waits behind others.
    pub const QUECVT: u32 = 0x10;
    /// The value block becomes invalid.
    pub const IVVALBLK: u32 = 0x20;
    /// A conversion that would deadlock is demoted to null meanwhile.
    pub const CONVDEADLK: u32 = 0x40;
    /// The lock outlives the process.
    pub const PERSISTENT: u32 = 0x80;
    /// A null lock is granted at once, past the queue.
    pub const EXPEDITE: u32 = 0x400;
    /// Holders are told of a NOQUEUE request that failed.
    pub const NOQUEUEBAST: u32 = 0x800;
    /// To the head of the queue.
    pub const HEADQUE: u32 = 0x1000;
    /// The order of the queue does not matter.
    pub const NOORDER: u32 = 0x2000;
    /// PR instead of the mode asked for will do.
    pub const ALTPR: u32 = 0x8000;
    /// CW instead of the mode asked for will do.
    pub const ALTCW: u32 = 0x1_0000;
    /// Unlock even if a request waits.
    pub const FORCEUNLOCK: u32 = 0x2_0000;
}

/// Statuses that are no errno (`include/uapi/linux/dlmconstants.h`), as they come: negative.
pub mod status {
    /// The lock was granted, or granted another mode.
    pub const GRANTED: i32 = 0;
    /// Not to be had at once: EAGAIN.
    pub const AGAIN: i32 = -11;
    /// It would be a deadlock: EDEADLK.
    pub const DEADLOCK: i32 = -35;
    /// The request was cancelled.
    pub const CANCELLED: i32 = -0x10001;
    /// The lock is no more.
    pub const UNLOCKED: i32 = -0x10002;
}

/// A node of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// From 1.
    pub id: u32,
    /// The kernel believes a connection to be of this node because it comes from this address.
    pub address: Ipv4Addr,
}

/// One line from the test to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Comes back in [`Reply::Done`] or [`Reply::Failed`]. Requests about locks have no such answer but
    /// [`Reply::Ast`] or [`Reply::Refused`].
    pub id: u64,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// What a test may ask for. Requests of one connection are done one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// Runs a shell command; it and what it started in the foreground is killed when the time is over.
    Sh {
        /// For `sh -c`.
        command: String,
        /// The limit.
        seconds: u64,
    },
    /// Says who the nodes are; may be repeated with more of them.
    Cluster {
        /// Its name.
        name: String,
        /// Which of `nodes` this guest is.
        node: u32,
        /// All nodes.
        nodes: Vec<Node>,
        /// Further attributes of configfs, such as `toss_secs`.
        settings: BTreeMap<String, String>,
    },
    /// Forgets a node, as is done with one that was fenced.
    Forget {
        /// Its number.
        node: u32,
    },
    /// Joins a lockspace; ends when recovery has.
    Join {
        /// Its name.
        lockspace: String,
        /// Its number on the wire.
        number: u32,
        /// All members, this node too.
        members: Vec<u32>,
        /// The limit.
        seconds: u64,
    },
    /// Stops a lockspace: the first half of a change of its members.
    Stop {
        /// Its name.
        lockspace: String,
    },
    /// Starts a stopped lockspace with these members: the second half. Recovery goes on behind it.
    Start {
        /// Its name.
        lockspace: String,
        /// All members, this node too.
        members: Vec<u32>,
    },
    /// Waits until recovery has ended and locks are served.
    Recovered {
        /// The lockspace's name.
        lockspace: String,
        /// The limit.
        seconds: u64,
    },
    /// Begins to leave a lockspace, once all connections that opened it are gone and their locks have ended: up
    /// to where the kernel asks cluster software to take the node out, so that the other members can be told.
    LeaveBegin {
        /// Its name.
        lockspace: String,
        /// Even if there are locks.
        force: bool,
        /// The limit.
        seconds: u64,
    },
    /// Ends what [`Command::LeaveBegin`] began.
    LeaveEnd {
        /// The lockspace's name.
        lockspace: String,
        /// The limit.
        seconds: u64,
    },
    /// From now on this connection is a process that locks in this lockspace; its locks end with it.
    Open {
        /// The lockspace's name.
        lockspace: String,
    },
    /// Measures: one process that locks and unlocks. [`Reply::Done::output`] is a [`crate::load::LoadReport`].
    Load {
        /// The lockspace's name.
        lockspace: String,
        /// What to do.
        load: crate::load::Load,
        /// The limit.
        seconds: u64,
    },
    /// Requests a lock.
    Lock {
        /// Names the lock from now on, and comes back with all that is said of it.
        tag: u64,
        /// The resource.
        name: String,
        /// The mode.
        mode: Mode,
        /// See [`flags`].
        flags: u32,
    },
    /// Requests another mode for a lock.
    Convert {
        /// The lock.
        tag: u64,
        /// The new mode.
        mode: Mode,
        /// See [`flags`]; CONVERT is understood.
        flags: u32,
        /// The value block to write, at most 32 bytes.
        #[serde(default)]
        value: Vec<u8>,
    },
    /// Ends a lock.
    Unlock {
        /// The lock.
        tag: u64,
        /// See [`flags`].
        flags: u32,
        /// The value block to write, at most 32 bytes.
        #[serde(default)]
        value: Vec<u8>,
    },
    /// Takes a request or conversion back that waits.
    Cancel {
        /// The lock.
        tag: u64,
    },
    /// Ends locks that processes left behind.
    Purge {
        /// The node on which they were.
        node: u32,
        /// The process.
        pid: u32,
    },
}

/// One line from the agent to the test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Reply {
    /// The request was done.
    Done {
        /// The request's.
        id: u64,
        /// The status of a shell command, else 0.
        code: i32,
        /// What a shell command said.
        output: String,
    },
    /// The request was not done.
    Failed {
        /// The request's.
        id: u64,
        /// For people.
        error: String,
        /// The kernel's errno, or 0.
        errno: i32,
    },
    /// A request of a lock has ended.
    Ast {
        /// The lock's.
        tag: u64,
        /// See [`status`].
        status: i32,
        /// The kernel's number of the lock.
        lkid: u32,
        /// `DLM_SBF_*`: 1 demoted, 2 value block not valid, 4 another mode was granted.
        sbflags: u8,
        /// The value block, if one came.
        value: Option<Vec<u8>>,
    },
    /// A holder stands in another's way.
    Bast {
        /// The lock's.
        tag: u64,
        /// The mode that the other wants, as a number.
        mode: u8,
    },
    /// The kernel took no such request.
    Refused {
        /// The lock's.
        tag: u64,
        /// Why.
        errno: i32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_flat_object() {
        let command = Command::Join { lockspace: "ls".into(), number: 4, members: vec![1, 2], seconds: 9 };
        let request = Request { id: 7, command };
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(line, r#"{"id":7,"do":"join","lockspace":"ls","number":4,"members":[1,2],"seconds":9}"#);
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
    }
}
