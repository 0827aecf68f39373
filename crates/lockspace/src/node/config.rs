//! What a node is made with.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use outlast_dlm::wire::{NodeId, Version};

/// The port of all nodes of a cluster, unless it was configured otherwise.
pub const PORT: u16 = 21064;
/// How long opening a connection may take; then it is tried again.
pub const DIAL_WAIT_MAX: Duration = Duration::from_secs(5);
/// A peer's machine that answers nothing at all for so long has its connection given up, and dialled anew. The protocol
/// has no heartbeat; this is the transport's. Whether the peer is gone is for the membership to say.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What a node is made with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// This node's number; not 0, and the same as the others know it by.
    pub node: NodeId,
    /// The address that the others know it by. It listens and dials there.
    pub address: IpAddr,
    /// The same on all nodes.
    pub port: u16,
    /// The other nodes. More can be added later.
    pub peers: BTreeMap<NodeId, IpAddr>,
    /// What this node says that it speaks. With 3.1 a lost connection loses messages: for tests.
    pub announce: Version,
}

impl NodeConfig {
    /// A node without peers, on the usual port.
    pub const fn new(node: NodeId, address: IpAddr) -> Self {
        Self { node, address, port: PORT, peers: BTreeMap::new(), announce: Version::V3_2 }
    }

    /// With another node.
    #[must_use]
    pub fn peer(mut self, node: NodeId, address: IpAddr) -> Self {
        self.peers.insert(node, address);
        self
    }
}
