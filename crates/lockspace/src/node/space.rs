//! A lockspace, as its users see it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use outlast_dlm::wire::{LockspaceId, NodeId};
use rand::Rng;
use tokio::sync::broadcast;

use super::core::{Locked, LockspaceEvent, Shared, Space};
use super::error::NodeError;
use crate::machine::{Config, Machine, Member, ResourceView};

/// How a lockspace is made. All members must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockspaceConfig {
    /// For people.
    pub name: String,
    /// What the members know it by. In a cluster of kernels it is what the membership wrote into the lockspace's `id`.
    pub id: LockspaceId,
    /// The size of value blocks in bytes, a multiple of 8. Programs' lockspaces on Linux have 32.
    pub value_block_bytes: u32,
}

impl LockspaceConfig {
    /// The longest name, in bytes (`DLM_LOCKSPACE_LEN`).
    pub const NAME_BYTES_MAX: usize = 64;

    /// With the number that Linux's cluster software (`dlm_controld`) gives to this name: the CRC-32 of `dlm:ls:NAME` and
    /// a byte 0.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        let mut full = format!("dlm:ls:{name}").into_bytes();
        full.push(0);
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &full);
        // A checksum of 32 bits in 64.
        let id = LockspaceId(crc as u32);
        Self::new(name, id)
    }

    /// With value blocks of 32 bytes.
    pub fn new(name: impl Into<String>, id: LockspaceId) -> Self {
        Self { name: name.into(), id, value_block_bytes: 32 }
    }
}

/// A lockspace that this node is in. Clones are the same lockspace; it is left with [`Lockspace::leave`], or with the node.
#[derive(Clone)]
pub struct Lockspace {
    pub(super) shared: Arc<Shared>,
    pub(super) id: LockspaceId,
}

impl std::fmt::Debug for Lockspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lockspace").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Lockspace {
    pub(super) fn create(shared: Arc<Shared>, config: LockspaceConfig) -> Result<Self, NodeError> {
        let mut locked = shared.lock();
        let core = &mut *locked;
        if core.spaces.contains_key(&config.id) {
            return Err(NodeError::Joined(config.name));
        }
        let machine = Machine::new(Config {
            value_block_bytes: config.value_block_bytes,
            // So that no answer to a question of an earlier life is taken for one to this.
            first_sequence: core.rng.next_u64(),
            ..Config::new(core.node, config.id)
        });
        core.spaces.insert(config.id, Space::new(config.name, machine));
        drop(locked);
        Ok(Self { shared, id: config.id })
    }

    pub(super) fn discard(&self) {
        self.shared.lock().spaces.remove(&self.id);
    }

    /// Does something with the lockspace, and carries what came of it to where it belongs.
    pub(super) fn with<R>(
        &self,
        act: impl FnOnce(&mut Space, outlast_session::Instant) -> R,
    ) -> Result<R, NodeError> {
        let mut locked = self.shared.lock();
        let now = locked.now;
        let space = locked.spaces.get_mut(&self.id).ok_or(NodeError::Left)?;
        let result = act(space, now);
        self.settle(&mut locked);
        Ok(result)
    }

    fn settle(&self, locked: &mut Locked<'_>) {
        // Faults are those of peers, and their connections' to hear of; here only users had news.
        locked.pump();
    }

    /// What the members know it by.
    pub const fn id(&self) -> LockspaceId {
        self.id
    }

    /// Locking stands still here: the membership changes. It must stand still on all nodes before
    /// [`Lockspace::resume`] is called on any.
    ///
    /// # Errors
    /// [`NodeError::Left`].
    pub fn suspend(&self) -> Result<(), NodeError> {
        self.with(|space, now| {
            space.running = false;
            space.failure = None;
            space.machine.handle_stop(now);
        })
    }

    /// Locking goes on with these members, this node among them, once they have agreed. As Linux's nodes expect it:
    /// somebody has seen to it that all members were suspended before the first is resumed.
    ///
    /// # Errors
    /// [`NodeError::Left`], [`NodeError::NoAddress`], [`NodeError::Members`].
    pub fn resume(&self, members: &[NodeId]) -> Result<(), NodeError> {
        let members: Vec<_> =
            members.iter().map(|node| Member { node: *node, weight: 1, fresh: false }).collect();
        self.resume_with(&members, 0)
    }

    /// As [`Lockspace::resume`], with weights, with members that were away since the last time, and with an epoch: a number
    /// of this membership. Nodes of ours that are told different epochs wait for each other, so nobody has to see to it
    /// that all were suspended. 0: there is none. Linux has none.
    ///
    /// # Errors
    /// As [`Lockspace::resume`].
    pub fn resume_with(&self, members: &[Member], epoch: u64) -> Result<(), NodeError> {
        let mut locked = self.shared.lock();
        let now = locked.now;
        let core = &mut *locked;
        let ours = core.node;
        if let Some(member) = members.iter().find(|m| m.node != ours && !core.peers.contains_key(&m.node)) {
            return Err(NodeError::NoAddress(member.node));
        }
        let space = core.spaces.get_mut(&self.id).ok_or(NodeError::Left)?;
        space.machine.set_epoch(epoch);
        space.machine.handle_start(members, now)?;
        self.settle(&mut locked);
        Ok(())
    }

    /// [`Lockspace::suspend`] and [`Lockspace::resume`] in one, with an epoch that is made of the members and of `change`,
    /// which all nodes must be told alike: between nodes of ours this is all there is to do. Beside a kernel somebody must
    /// see to it that all are suspended first.
    ///
    /// `change` tells two times apart at which the members are the same; a node that sleeps over what happened in between
    /// would not notice.
    ///
    /// # Errors
    /// As [`Lockspace::resume`].
    pub fn set_members(&self, members: &[NodeId], change: u64) -> Result<(), NodeError> {
        let mut sorted = members.to_vec();
        sorted.sort_unstable();
        let mut bytes = change.to_le_bytes().to_vec();
        bytes.extend(sorted.iter().flat_map(|node| node.0.to_le_bytes()));
        let epoch = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes).max(1);
        self.suspend()?;
        let members: Vec<_> =
            sorted.iter().map(|node| Member { node: *node, weight: 1, fresh: false }).collect();
        self.resume_with(&members, epoch)
    }

    /// Waits until locking goes on: all members have agreed.
    ///
    /// # Errors
    /// [`NodeError::Left`], [`NodeError::Recovery`].
    pub async fn recovered(&self) -> Result<(), NodeError> {
        poll_fn(|cx| {
            let mut locked = self.shared.lock();
            match locked.spaces.get_mut(&self.id) {
                None => Poll::Ready(Err(NodeError::Left)),
                Some(space) if space.running => Poll::Ready(Ok(())),
                Some(Space { failure: Some(failure), .. }) => {
                    Poll::Ready(Err(NodeError::Recovery(failure.clone())))
                }
                Some(space) => {
                    space.waiting.retain(|waker| !waker.will_wake(cx.waker()));
                    space.waiting.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Whether locks are served now.
    pub fn is_running(&self) -> bool {
        self.shared.look().spaces.get(&self.id).is_some_and(|space| space.running)
    }

    /// What happens from now on.
    ///
    /// # Errors
    /// [`NodeError::Left`].
    pub fn events(&self) -> Result<broadcast::Receiver<LockspaceEvent>, NodeError> {
        self.with(|space, _| space.events.subscribe())
    }

    /// The resources that are known here: those that this node is the master of, and those it has locks on.
    ///
    /// # Errors
    /// [`NodeError::Left`].
    pub fn resources(&self) -> Result<Vec<ResourceView>, NodeError> {
        self.with(|space, _| space.machine.resources().collect())
    }

    /// The number of changes of membership that were agreed on.
    ///
    /// # Errors
    /// [`NodeError::Left`].
    pub fn generation(&self) -> Result<u32, NodeError> {
        self.with(|space, _| space.generation)
    }

    /// Leaves the lockspace: all locks that this node has there are gone. The others must be told of it by the membership;
    /// whoever is to be told in order by this node too, shuts the node down afterwards ([`super::Node::shut_down`]).
    pub fn leave(self) {
        let mut locked = self.shared.lock();
        let now = locked.now;
        let core = &mut *locked;
        let Some(mut space) = core.spaces.remove(&self.id) else { return };
        space.machine.handle_stop(now);
        for member in space.machine.members.nodes() {
            if let Some(peer) = core.peers.get_mut(&member) {
                peer.session.remove_member(now);
            }
        }
        let mut wakes = std::mem::take(&mut space.waiting);
        for cell in space.locks.values_mut() {
            wakes.extend(cell.waker.take());
            wakes.extend(cell.blocked_waker.take());
        }
        locked.wakes.append(&mut wakes);
        locked.pump();
    }
}
