//! A node, and the tasks that keep it: one listens, one minds the deadlines and dials.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use outlast_dlm::wire::{LockspaceId, NodeId};
use outlast_dlm::{Dial, Session, SessionConfig, State, session::TERMINATION_WAIT_MAX};
use outlast_net::{Address, Clock, Listener, connect_from};
use outlast_session::Instant;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::AbortHandle;

use super::carrier;
use super::config::{DIAL_WAIT_MAX, NodeConfig};
use super::core::{Core, Peer, PeerStatus, Shared};
use super::error::NodeError;
use super::space::{Lockspace, LockspaceConfig};

/// How often a shutdown looks whether it is done.
const SHUT_DOWN_CHECK: Duration = Duration::from_millis(20);

/// A node of a cluster. Dropping it ends it without a word to the others: see [`Node::shut_down`].
pub struct Node {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its connections are tasks of their own.
        let mut locked = self.shared.lock();
        let mut wakes = Vec::new();
        locked.leave_all(&mut wakes);
        locked.closing = true;
        for peer in locked.peers.values_mut() {
            peer.session.fence();
            wakes.extend(std::mem::take(&mut peer.wakers).into_values());
        }
        locked.wakes.append(&mut wakes);
        drop(locked);
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn peer(config: &NodeConfig, incarnation: u64, node: NodeId, address: IpAddr) -> Peer {
    let session =
        SessionConfig { announce: config.announce, incarnation, ..SessionConfig::new(config.node, node) };
    Peer::new(Session::new(session), address)
}

fn check(config: &NodeConfig) -> Result<(), NodeError> {
    let wrong = |node, why| Err(NodeError::Config { node, why });
    if config.node.0 == 0 || config.peers.contains_key(&NodeId(0)) {
        return wrong(NodeId(0), "0 is no node");
    }
    if config.peers.contains_key(&config.node) {
        return wrong(config.node, "this node is its own peer");
    }
    let mut seen = vec![config.address];
    for (node, address) in &config.peers {
        if seen.contains(address) {
            return wrong(*node, "another node has the same address, and nodes are known by address");
        }
        seen.push(*address);
    }
    Ok(())
}

impl Node {
    /// Listens, and dials peers as soon as a lockspace has them as members.
    ///
    /// # Errors
    /// [`NodeError::Config`], [`NodeError::Bind`].
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        check(&config)?;
        let mut rng = StdRng::try_from_rng(&mut rand::rngs::SysRng).map_err(|_| NodeError::NoRandomness)?;
        let listener = Listener::bind(&Address::Ip(SocketAddr::new(config.address, config.port))).await?;
        let port = listener.address().ip().map_or(config.port, |at| at.port());
        let incarnation = rng.next_u64().max(1);
        let peers = config.peers.iter().map(|(node, at)| (*node, peer(&config, incarnation, *node, *at)));
        let core = Core {
            node: config.node,
            announce: config.announce,
            incarnation,
            peers: peers.collect(),
            spaces: BTreeMap::new(),
            rng,
            next_channel: 0,
            crowd: Vec::new(),
            closing: false,
            keeper_at: None,
        };
        let shared = Arc::new(Shared::new(core, Clock::new(), config.address, port));
        let tasks = vec![
            tokio::spawn(listen(Arc::clone(&shared), listener)).abort_handle(),
            tokio::spawn(keep(Arc::clone(&shared))).abort_handle(),
        ];
        Ok(Self { shared, tasks })
    }

    /// This node's number.
    pub fn id(&self) -> NodeId {
        self.shared.look().node
    }

    /// Adds a node that may become a member, or gives one that is not connected another address.
    ///
    /// # Errors
    /// [`NodeError::Config`], if the address is another node's.
    pub fn add_peer(&self, node: NodeId, address: IpAddr) -> Result<(), NodeError> {
        let mut locked = self.shared.lock();
        let (ours, incarnation) = (locked.node, locked.incarnation);
        let taken = locked.peers.iter().any(|(other, peer)| *other != node && peer.address == address);
        if node.0 == 0 || node == ours || taken || address == self.shared.address {
            return Err(NodeError::Config { node, why: "the number or the address is another node's" });
        }
        let config = NodeConfig { announce: locked.announce, ..NodeConfig::new(ours, self.shared.address) };
        locked.peers.entry(node).or_insert_with(|| peer(&config, incarnation, node, address)).address =
            address;
        Ok(())
    }

    /// The membership says that the node is gone for good (it was fenced, it has no power): nothing that comes from it
    /// counts any more, and nothing is kept for it. Tell the lockspaces too ([`Lockspace::set_members`]).
    pub fn fence(&self, node: NodeId) {
        let mut locked = self.shared.lock();
        if let Some(peer) = locked.peers.get_mut(&node) {
            peer.session.fence();
            peer.backlog.clear();
            let wakers = std::mem::take(&mut peer.wakers);
            locked.wakes.extend(wakers.into_values());
        }
        locked.pump();
    }

    /// Becomes a member of a lockspace, and returns when its recovery is done: all members must have been told of this
    /// node.
    ///
    /// # Errors
    /// [`NodeError::Joined`], [`NodeError::NoAddress`], [`NodeError::Members`].
    pub async fn join(&self, config: LockspaceConfig, members: &[NodeId]) -> Result<Lockspace, NodeError> {
        let space = Lockspace::create(Arc::clone(&self.shared), config)?;
        if let Err(error) = space.set_members(members, 0) {
            space.discard();
            return Err(error);
        }
        space.recovered().await?;
        Ok(space)
    }

    /// As [`Node::join`], without members: they are told later ([`Lockspace::set_members`]), and until then requests wait.
    ///
    /// # Errors
    /// [`NodeError::Joined`].
    pub fn join_later(&self, config: LockspaceConfig) -> Result<Lockspace, NodeError> {
        Lockspace::create(Arc::clone(&self.shared), config)
    }

    /// The lockspaces that this node is in.
    pub fn lockspaces(&self) -> Vec<(LockspaceId, String)> {
        self.shared.look().spaces.iter().map(|(id, space)| (*id, space.name.clone())).collect()
    }

    /// What is known of the other nodes.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let locked = self.shared.look();
        let status = |(node, peer): (&NodeId, &Peer)| PeerStatus {
            node: *node,
            address: peer.address,
            version: peer.session.version(),
            state: peer.session.state(),
            statistics: peer.session.statistics(),
        };
        locked.peers.iter().map(status).collect()
    }

    /// Leaves everything in order: what was said is acknowledged, and both ends know that it is over. Takes at most
    /// [`TERMINATION_WAIT_MAX`] and a second; returns whether all sessions ended in order.
    pub async fn shut_down(&self) -> bool {
        {
            let mut locked = self.shared.lock();
            let now = locked.now;
            let mut wakes = Vec::new();
            locked.leave_all(&mut wakes);
            locked.wakes.append(&mut wakes);
            let core = &mut *locked;
            for peer in core.peers.values_mut() {
                while peer.session.users() > 0 {
                    peer.session.remove_member(now);
                }
                peer.session.shut_down(now);
            }
            locked.pump();
        }
        let patience = TERMINATION_WAIT_MAX + Duration::from_secs(1);
        let done = tokio::time::timeout(patience, async {
            while !self.is_over() {
                tokio::time::sleep(SHUT_DOWN_CHECK).await;
            }
        });
        let in_order = done.await.is_ok();
        self.shared.close();
        // The connections' tasks close them in order; they end by themselves.
        tokio::task::yield_now().await;
        in_order
    }

    fn is_over(&self) -> bool {
        self.shared.look().peers.values().all(|peer| peer.session.state() == State::Closed)
    }
}

async fn listen(shared: Arc<Shared>, listener: Listener) {
    loop {
        let (socket, from) = listener.accept().await;
        let ip = from.ip().map(|at| at.ip());
        let known = {
            let locked = shared.look();
            locked.peers.iter().find(|(_, peer)| Some(peer.address) == ip).map(|(node, _)| *node)
        };
        match known {
            Some(peer) => carrier::start(&shared, socket, peer, false),
            None => tracing::warn!(address = %from, "a connection from an address that is no node's"),
        }
    }
}

async fn keep(shared: Arc<Shared>) {
    loop {
        match turn(&shared) {
            None => shared.keeper.notified().await,
            Some(at) => {
                tokio::select! {
                    () = shared.keeper.notified() => {}
                    () = shared.clock.sleep_until(at) => {}
                }
            }
        }
    }
}

/// Does what is due, and says when to come again.
fn turn(shared: &Arc<Shared>) -> Option<Instant> {
    let mut locked = shared.lock();
    let now = locked.now;
    let core = &mut *locked;
    for space in core.spaces.values_mut() {
        if space.machine.poll_timeout().is_some_and(|at| at <= now) {
            space.machine.handle_timeout(now);
        }
    }
    for (node, peer) in &mut core.peers {
        if peer.session.sender().is_some() {
            continue;
        }
        // With no connection there is none to end.
        let _ = peer.session.handle_timeout(now);
        if let Dial::At(at) = peer.session.poll_dial()
            && at <= now
            && !core.closing
        {
            peer.session.dialling();
            tokio::spawn(dial(Arc::clone(shared), *node, peer.address));
        }
    }
    locked.pump();
    let next = locked.poll_timeout();
    locked.keeper_at = next;
    next
}

async fn dial(shared: Arc<Shared>, node: NodeId, address: IpAddr) {
    let to = SocketAddr::new(address, shared.port);
    match connect_from(shared.address, to, DIAL_WAIT_MAX).await {
        Ok(socket) => carrier::start(&shared, socket, node, true),
        Err(error) => {
            tracing::info!(peer = node.0, %error, "cannot connect");
            let mut locked = shared.lock();
            let now = locked.now;
            let core = &mut *locked;
            if let Some(peer) = core.peers.get_mut(&node) {
                peer.session.dial_failed(now, &mut core.rng);
            }
        }
    }
}
