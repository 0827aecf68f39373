//! All that is shared: the sessions, the lockspaces, and how one feeds the other.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use outlast_dlm::wire::{Inner, LockId, LockspaceId, Mode, NodeId, RcomBody, StatusFlags, Version};
use outlast_dlm::{ChannelId, Dial, SendError, Session, SessionEvent, State, Statistics};
use outlast_net::Clock;
use outlast_session::Instant;
use rand::rngs::StdRng;
use tokio::sync::{Notify, broadcast};

use crate::machine::{Event, Machine, MachineFault, Outcome, RecoveryFailure, UserError, not_ready_reply};

/// Events that a slow listener may be behind.
const EVENTS_KEPT: usize = 256;

/// What happened to a lockspace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockspaceEvent {
    /// Locking stands still until the members have agreed.
    RecoveryBegun,
    /// Locking goes on.
    RecoveryDone {
        /// Counts the changes of membership.
        generation: u32,
        /// All, with their slots.
        members: Vec<(NodeId, u16)>,
    },
    /// The members cannot agree: locking stands still until the membership changes again.
    RecoveryFailed(RecoveryFailure),
}

/// What is known of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which.
    pub node: NodeId,
    /// Where.
    pub address: IpAddr,
    /// What it speaks, if it has said a word.
    pub version: Option<Version>,
    /// Where the session stands.
    pub state: State,
    /// What happened.
    pub statistics: Statistics,
}

pub(crate) struct Peer {
    pub(crate) session: Session,
    pub(crate) address: IpAddr,
    /// What the session had no room for, in order. Bounded by what the lockspaces may hold.
    pub(crate) backlog: VecDeque<Inner>,
    /// Bring the connections' loops back.
    pub(crate) wakers: BTreeMap<ChannelId, Waker>,
}

/// A lock of ours, as its futures see it.
#[derive(Default)]
pub(crate) struct Cell {
    /// An operation is under way.
    pub(crate) busy: bool,
    /// How the last one ended, until somebody takes it.
    pub(crate) outcome: Option<Outcome>,
    /// Held in this mode.
    pub(crate) mode: Option<Mode>,
    pub(crate) waker: Option<Waker>,
    /// The strongest mode that another wanted, since somebody looked.
    pub(crate) blocked: Option<Mode>,
    pub(crate) blocked_waker: Option<Waker>,
    /// Nobody wants it any more: it is given up as soon as that is possible.
    pub(crate) abandoned: bool,
}

pub(crate) struct Space {
    pub(crate) name: String,
    pub(crate) machine: Machine,
    pub(crate) locks: BTreeMap<LockId, Cell>,
    pub(crate) running: bool,
    pub(crate) generation: u32,
    pub(crate) failure: Option<RecoveryFailure>,
    pub(crate) events: broadcast::Sender<LockspaceEvent>,
    /// Wait for locking to go on.
    pub(crate) waiting: Vec<Waker>,
}

impl Space {
    pub(crate) fn new(name: String, machine: Machine) -> Self {
        Self {
            name,
            machine,
            locks: BTreeMap::new(),
            running: false,
            generation: 0,
            failure: None,
            events: broadcast::channel(EVENTS_KEPT).0,
            waiting: Vec::new(),
        }
    }
}

pub(crate) struct Core {
    pub(crate) node: NodeId,
    pub(crate) announce: Version,
    pub(crate) incarnation: u64,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) spaces: BTreeMap<LockspaceId, Space>,
    pub(crate) rng: StdRng,
    pub(crate) next_channel: u64,
    /// Users that wait until all peers keep up.
    pub(crate) crowd: Vec<Waker>,
    /// The node is being shut down.
    pub(crate) closing: bool,
    /// When the keeper comes by itself; `None`: when it is called.
    pub(crate) keeper_at: Option<Instant>,
}

/// What all tasks of a node share.
pub(crate) struct Shared {
    core: Mutex<Core>,
    pub(crate) clock: Clock,
    pub(crate) port: u16,
    pub(crate) address: IpAddr,
    /// Whose locks these are, for the master to know. Asked for once: it is a system call.
    pub(crate) process: u32,
    /// A deadline or a wish to dial may have changed.
    pub(crate) keeper: Notify,
}

/// The core under its lock, with who is to be woken once it is let go.
pub(crate) struct Locked<'a> {
    guard: Option<MutexGuard<'a, Core>>,
    shared: &'a Shared,
    pub(crate) now: Instant,
    pub(crate) wakes: Vec<Waker>,
}

impl std::ops::Deref for Locked<'_> {
    type Target = Core;
    fn deref(&self) -> &Core {
        // Taken only in `drop`.
        self.guard.as_deref().expect("locked")
    }
}

impl std::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        self.guard.as_deref_mut().expect("locked")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let next = self.poll_timeout();
        let call = next.is_some_and(|next| self.keeper_at.is_none_or(|at| next < at));
        self.guard = None;
        for waker in self.wakes.drain(..) {
            waker.wake();
        }
        if call {
            self.shared.keeper.notify_one();
        }
    }
}

impl Shared {
    pub(crate) fn new(core: Core, clock: Clock, address: IpAddr, port: u16) -> Self {
        Self {
            core: Mutex::new(core),
            clock,
            port,
            address,
            process: std::process::id(),
            keeper: Notify::new(),
        }
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked { guard: Some(self.look()), shared: self, now: self.clock.now(), wakes: Vec::new() }
    }

    /// The core under its lock, for whoever changes nothing that has deadlines or wakes anybody: a future that looks whether
    /// it is done looks several times for each lock, and the time is not asked for nor the keeper called.
    pub(crate) fn look(&self) -> MutexGuard<'_, Core> {
        // A panic elsewhere is a bug of ours; whoever is left may still give up his locks.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All is said: the connections end in order.
    pub(crate) fn close(&self) {
        let mut locked = self.lock();
        locked.closing = true;
        let wakes = locked.peers.values_mut().flat_map(|peer| std::mem::take(&mut peer.wakers).into_values());
        locked.wakes = wakes.collect();
    }
}

impl Locked<'_> {
    /// Carries news from the sessions to the lockspaces and back, until there are none. Returns what peers sent that they
    /// must not: it costs their connections.
    pub(crate) fn pump(&mut self) -> Vec<(NodeId, MachineFault)> {
        let now = self.now;
        let mut wakes = std::mem::take(&mut self.wakes);
        let mut faults = Vec::new();
        let core = &mut **self;
        // First, so that what waits for a life of a peer that is over does not reach its next one.
        core.peers.values_mut().for_each(note_events);
        core.deliver(now, &mut faults);
        for space in core.spaces.values_mut() {
            drain(space, &mut core.peers, now, &mut wakes);
        }
        for peer in core.peers.values_mut() {
            peer.send_backlog();
            if peer.session.has_work(now)
                && let Some(sender) = peer.session.sender()
                && let Some(waker) = peer.wakers.remove(&sender)
            {
                wakes.push(waker);
            }
        }
        if !core.crowd.is_empty() && core.peers_keep_up() {
            wakes.append(&mut core.crowd);
        }
        self.wakes = wakes;
        faults
    }
}

impl Core {
    /// Whether users may ask for more.
    pub(crate) fn peers_keep_up(&self) -> bool {
        self.peers.values().filter(|peer| peer.session.users() > 0).all(Peer::keeps_up)
    }

    /// Everything that this node is in is left: whoever waits for something there hears of it.
    pub(crate) fn leave_all(&mut self, wakes: &mut Vec<Waker>) {
        for (_, mut space) in std::mem::take(&mut self.spaces) {
            wakes.append(&mut space.waiting);
            for cell in space.locks.values_mut() {
                wakes.extend(cell.waker.take());
                wakes.extend(cell.blocked_waker.take());
            }
        }
        wakes.append(&mut self.crowd);
    }

    fn deliver(&mut self, now: Instant, faults: &mut Vec<(NodeId, MachineFault)>) {
        for (node, peer) in &mut self.peers {
            while let Some(inner) = peer.session.poll_received() {
                let Some(id) = inner.lockspace() else { continue };
                log_message("received", *node, &inner);
                match self.spaces.get_mut(&id) {
                    Some(space) => {
                        if let Err(fault) = space.machine.handle_message(*node, inner, now) {
                            tracing::warn!(peer = node.0, lockspace = %id, %fault, "a node sent what it must not");
                            faults.push((*node, fault));
                        }
                    }
                    None => match inner {
                        Inner::Rcom(rcom) if matches!(rcom.body, RcomBody::Status { .. }) => {
                            let reply = Inner::Rcom(not_ready_reply(&rcom));
                            peer.send(reply);
                        }
                        Inner::Rcom(_) | Inner::Message(_) | Inner::Fin => {
                            tracing::debug!(peer = node.0, lockspace = %id, "for a lockspace that is not here");
                        }
                    },
                }
            }
        }
    }

    /// When something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let machines = self.spaces.values().filter_map(|space| space.machine.poll_timeout());
        let sessions = self.peers.values().filter(|peer| peer.session.sender().is_none());
        let sessions = sessions.filter_map(|peer| {
            let dial = match peer.session.poll_dial() {
                Dial::At(at) if !self.closing => Some(at),
                Dial::At(_) | Dial::No => None,
            };
            [dial, peer.session.poll_timeout()].into_iter().flatten().min()
        });
        machines.chain(sessions).min()
    }
}

/// Recovery messages are few and tell why a recovery hangs; of the others there are thousands a second.
fn log_message(what: &str, peer: NodeId, inner: &Inner) {
    match inner {
        Inner::Rcom(rcom) => {
            let (kind, result) = (rcom.body.kind(), rcom.result);
            tracing::debug!(peer = peer.0, lockspace = %rcom.lockspace, ?kind, result, "{what}");
        }
        Inner::Message(message) => tracing::trace!(peer = peer.0, ?message, "{what}"),
        Inner::Fin => {}
    }
}

/// Takes from a lockspace what it has to say.
fn drain(space: &mut Space, peers: &mut BTreeMap<NodeId, Peer>, now: Instant, wakes: &mut Vec<Waker>) {
    loop {
        while let Some(event) = space.machine.poll_event() {
            handle_event(space, peers, event, now, wakes);
        }
        let Some(transmit) = space.machine.poll_transmit() else { break };
        log_message("to be sent", transmit.to, &transmit.inner);
        let Some(peer) = peers.get_mut(&transmit.to) else {
            tracing::error!(peer = transmit.to.0, "a message for a node without an address");
            continue;
        };
        if transmit.numbered {
            peer.send(transmit.inner);
        } else {
            peer.session.send_unnumbered(transmit.inner);
        }
    }
}

impl Peer {
    pub(crate) const fn new(session: Session, address: IpAddr) -> Self {
        Self { session, address, backlog: VecDeque::new(), wakers: BTreeMap::new() }
    }

    /// Sends a message behind those that wait for room.
    fn send(&mut self, inner: Inner) {
        self.backlog.push_back(inner);
        self.send_backlog();
    }

    fn send_backlog(&mut self) {
        while let Some(inner) = self.backlog.front() {
            match self.session.send(inner) {
                Ok(()) => {}
                Err(SendError::Full { .. }) => return,
                // It is not a member any more, or this node is leaving: nobody waits for this.
                Err(error) => tracing::debug!(%error, "a message was not sent"),
            }
            self.backlog.pop_front();
        }
    }

    /// Whether users may ask for more that this peer has to hear of.
    fn keeps_up(&self) -> bool {
        self.backlog.is_empty() && self.session.has_room()
    }
}

fn note_events(peer: &mut Peer) {
    let node = peer.session.peer().0;
    while let Some(event) = peer.session.poll_event() {
        match event {
            SessionEvent::VersionLearned(version) => {
                tracing::info!(peer = node, %version, "a node said a word")
            }
            SessionEvent::Connected { others, dialled } => {
                tracing::info!(peer = node, others, dialled, "connected");
            }
            SessionEvent::Interrupted { unacknowledged } => {
                tracing::warn!(peer = node, unacknowledged, "the last connection is gone");
            }
            SessionEvent::Ended { lost, reason } => {
                peer.backlog.clear();
                tracing::info!(peer = node, lost, %reason, "a session ended");
            }
            SessionEvent::Restarted { lost } => {
                peer.backlog.clear();
                tracing::warn!(
                    peer = node,
                    lost,
                    "a node began anew and nobody had said that it was gone: tell the members"
                );
            }
            SessionEvent::Stuck { state, lost } => {
                peer.backlog.clear();
                tracing::warn!(peer = node, %state, lost, "a session did not end in time and was reset");
            }
            _ => {}
        }
    }
}

fn handle_event(
    space: &mut Space,
    peers: &mut BTreeMap<NodeId, Peer>,
    event: Event,
    now: Instant,
    wakes: &mut Vec<Waker>,
) {
    match event {
        Event::Completed { lock, outcome } => complete(space, lock, outcome, now, wakes),
        Event::Blocking { lock, mode } => {
            if let Some(cell) = space.locks.get_mut(&lock) {
                cell.blocked = cell.blocked.max(Some(mode));
                wakes.extend(cell.blocked_waker.take());
            }
        }
        Event::MemberAdded(node) => {
            if let Some(peer) = peers.get_mut(&node) {
                peer.session.add_member();
                note_events(peer);
            }
        }
        Event::MemberRemoved(node) => {
            if let Some(peer) = peers.get_mut(&node) {
                peer.session.remove_member(now);
            }
        }
        Event::RecoveryBegun => {
            space.running = false;
            let _ = space.events.send(LockspaceEvent::RecoveryBegun);
        }
        Event::RecoveryDone { generation, members, slot } => {
            tracing::info!(lockspace = space.name, generation, slot, "recovered");
            space.running = true;
            space.failure = None;
            space.generation = generation;
            wakes.append(&mut space.waiting);
            let _ = space.events.send(LockspaceEvent::RecoveryDone { generation, members });
        }
        Event::RecoveryFailed(failure) => {
            tracing::error!(lockspace = space.name, %failure, "the recovery cannot go on");
            space.failure = Some(failure.clone());
            wakes.append(&mut space.waiting);
            let _ = space.events.send(LockspaceEvent::RecoveryFailed(failure));
        }
    }
}

fn complete(space: &mut Space, lock: LockId, outcome: Outcome, now: Instant, wakes: &mut Vec<Waker>) {
    let Some(cell) = space.locks.get_mut(&lock) else { return };
    match &outcome {
        Outcome::Granted { mode, status_flags, value: _ } => {
            if status_flags.contains(StatusFlags::DEMOTED) {
                tracing::debug!(lock = %lock, "demoted on the way to {mode}");
            }
            cell.mode = Some(*mode);
        }
        Outcome::Unlocked => cell.mode = None,
        Outcome::WouldBlock | Outcome::Canceled | Outcome::Deadlock | Outcome::Failed(_) => {}
    }
    cell.busy = false;
    if cell.mode.is_none() && (cell.abandoned || outcome == Outcome::Unlocked) {
        wakes.extend(cell.waker.take());
        space.locks.remove(&lock);
        return;
    }
    if cell.abandoned {
        give_up(space, lock, now);
        return;
    }
    cell.outcome = Some(outcome);
    wakes.extend(cell.waker.take());
}

/// Nobody wants this lock any more: unlocks it, or has it unlocked when its operation has ended.
pub(crate) fn give_up(space: &mut Space, lock: LockId, now: Instant) {
    let Some(cell) = space.locks.get_mut(&lock) else { return };
    cell.abandoned = true;
    if cell.busy {
        // Either the cancellation ends the operation, or the operation ends.
        let _ = space.machine.cancel(lock, now);
        return;
    }
    if cell.mode.is_none() {
        space.locks.remove(&lock);
        return;
    }
    cell.busy = true;
    // By force: the answer to a cancel that came too late may still be under way.
    match space.machine.unlock(lock, outlast_dlm::wire::LockFlags::FORCE_UNLOCK, None, now) {
        // Its end is heard of, and then it is tried again.
        Ok(()) | Err(UserError::Busy(_)) => {}
        Err(error) => {
            tracing::error!(%lock, %error, "a lock could not be given up");
            space.locks.remove(&lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlast_dlm::SessionConfig;
    use outlast_dlm::session::OUTSTANDING_MESSAGES_MIN;
    use outlast_dlm::wire::{Message, MessageKind};
    use outlast_session::OutboxLimits;

    fn peer() -> Peer {
        let limits = OutboxLimits { messages_max: OUTSTANDING_MESSAGES_MIN, ..OutboxLimits::default() };
        let config = SessionConfig { limits, ..SessionConfig::new(NodeId(1), NodeId(2)) };
        let mut session = Session::new(config);
        session.add_member();
        Peer::new(session, [127, 0, 0, 2].into())
    }

    #[test]
    fn what_finds_no_room_waits_in_order_and_users_wait_with_it() {
        let mut peer = peer();
        let count = 3 * OUTSTANDING_MESSAGES_MIN;
        for number in 0..count {
            let lock = LockId(number as u32);
            peer.send(Inner::Message(Message { lock, ..Message::new(LockspaceId(1), MessageKind::Grant) }));
        }
        assert_eq!(peer.session.statistics().waiting + peer.backlog.len(), count, "none is lost");
        let first = peer
            .backlog
            .front()
            .map(|inner| matches!(inner, Inner::Message(m) if m.lock.0 as usize == OUTSTANDING_MESSAGES_MIN));
        assert_eq!(first, Some(true), "the first that found no room");
        assert!(!peer.keeps_up());
    }

    #[test]
    fn what_waits_for_a_life_that_is_over_does_not_reach_the_next_one() {
        let mut peer = peer();
        for _ in 0..2 * OUTSTANDING_MESSAGES_MIN {
            peer.send(Inner::Message(Message::new(LockspaceId(1), MessageKind::Grant)));
        }
        assert!(!peer.backlog.is_empty());
        peer.session.fence();
        note_events(&mut peer);
        assert!(peer.backlog.is_empty());
        peer.send_backlog();
        assert_eq!(peer.session.statistics().waiting, 0);
    }
}
