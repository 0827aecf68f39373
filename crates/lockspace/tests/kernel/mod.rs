//! A node of ours on a machine of its own, beside real kernels.
#![allow(dead_code)] // Each test program needs a part of it.

pub(crate) mod storm;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use outlast_dlm::wire::{LockspaceId, Mode, NodeId, Version};
use outlast_kernel_harness::{Guest, Lab, LabError, Namespace, PATIENCE, address, protocol};
use outlast_lockspace::node::{Lockspace, LockspaceConfig, Node, NodeConfig, NodeError};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

pub(crate) const LOCKSPACE: &str = "both";
pub(crate) const NUMBER: u32 = 0x0077_0042;

/// A node of ours, its runtime on a thread in the namespace of its machine.
pub(crate) struct Ours {
    number: u8,
    node: Option<Node>,
    pub(crate) handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), LabError>>>,
    machine: Namespace,
}

pub(crate) fn id(number: u8) -> NodeId {
    NodeId(u32::from(number))
}

impl Ours {
    pub(crate) fn start(lab: &Lab, number: u8, others: &[u8]) -> Self {
        Self::announcing(lab, number, others, Version::V3_2)
    }

    pub(crate) fn announcing(lab: &Lab, number: u8, others: &[u8], announce: Version) -> Self {
        // Shown with what a failed test prints.
        let filter = tracing_subscriber::EnvFilter::try_from_default_env();
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter.unwrap_or_else(|_| "outlast_lockspace=debug".into()))
            .with_test_writer()
            .try_init();
        let machine = lab.machine(number).expect("a machine");
        let (handle_out, handle_in) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let thread = machine.spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            handle_out.send(runtime.handle().clone()).expect("the test waits");
            let _ = runtime.block_on(ended);
        });
        let handle = handle_in.recv_timeout(PATIENCE).expect("a runtime");
        let peers: BTreeMap<NodeId, IpAddr> =
            others.iter().map(|other| (id(*other), IpAddr::V4(address(*other)))).collect();
        let config =
            NodeConfig { peers, announce, ..NodeConfig::new(id(number), IpAddr::V4(address(number))) };
        // Where the future is polled its sockets are made.
        let node = handle.block_on(handle.spawn(Node::start(config))).expect("no panic").expect("a node");
        Self { number, node: Some(node), handle, end: Some(end), thread: Some(thread), machine }
    }

    pub(crate) const fn machine(&self) -> &Namespace {
        &self.machine
    }

    pub(crate) fn node(&self) -> &Node {
        self.node.as_ref().expect("it was not shut down")
    }

    /// Runs a future, with a limit.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(PATIENCE, future).await };
        self.handle.block_on(limited).expect("in time")
    }

    pub(crate) fn join(&self, members: &[u8]) -> Result<Lockspace, NodeError> {
        let members: Vec<_> = members.iter().map(|member| id(*member)).collect();
        self.run(self.node().join(LockspaceConfig::new(LOCKSPACE, LockspaceId(NUMBER)), &members))
    }

    pub(crate) fn shut_down(&mut self) -> bool {
        let node = self.node.take().expect("once");
        // Its tasks are on the runtime's thread.
        self.handle.block_on(self.handle.spawn(async move { node.shut_down().await })).expect("no panic")
    }

    /// It ends without a word. Its machine stays, and says that nobody listens there: a kernel that is dialling a machine
    /// that does not answer at all cannot be told for two minutes that it is gone.
    pub(crate) fn die(&mut self) {
        drop(self.node.take());
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    pub(crate) fn status(&self, peer: u8) -> outlast_lockspace::node::PeerStatus {
        let all = self.node().peers();
        all.into_iter().find(|status| status.node == id(peer)).expect("a peer")
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.die();
    }
}

/// As the agent in a guest calls it.
pub(crate) fn theirs(mode: Mode) -> protocol::Mode {
    protocol::Mode::ALL[mode as usize]
}

/// Guests that know all nodes.
pub(crate) fn guests(lab: &Lab, kernels: &[u8], all: &[u8]) -> Vec<Guest> {
    let guests = lab.boot_all(kernels).expect("guests");
    for guest in &guests {
        guest.cluster(all, &[]).expect("a cluster");
    }
    guests
}

/// All join at the same time: each of the kernels, and our node.
pub(crate) fn join_all(guests: &[Guest], ours: &Ours, members: &[u8]) -> Lockspace {
    std::thread::scope(|scope| {
        let joining: Vec<_> =
            guests.iter().map(|guest| scope.spawn(|| guest.join(LOCKSPACE, NUMBER, members))).collect();
        let space = ours.join(members).expect("our node joins");
        for guest in joining {
            guest.join().expect("no panic").expect("a kernel joins");
        }
        space
    })
}

/// The membership changes: all stop, then all start, then all are done.
pub(crate) fn change_members(guests: &[&Guest], ours: &Ours, space: &Lockspace, members: &[u8]) {
    space.suspend().expect("in the lockspace");
    for guest in guests {
        guest.stop(LOCKSPACE).expect("a stop");
    }
    let ids: Vec<_> = members.iter().map(|member| id(*member)).collect();
    space.resume(&ids).expect("a start");
    for guest in guests {
        guest.start(LOCKSPACE, members).expect("a start");
    }
    ours.run(space.recovered()).expect("recovered");
    for guest in guests {
        guest.recovered(LOCKSPACE).expect("recovered");
    }
}

/// Long enough for what must not happen to happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);
