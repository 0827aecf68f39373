//! Some machines with ordered links between them, and no recovery: everybody is a member from the beginning.

mod bad_messages;
mod blocking;
mod conversions;
mod deferred;
mod grants;
mod left;
mod masters;
mod messages;
mod overlap;
mod random;
mod values;

use std::collections::{BTreeMap, VecDeque};

use outlast_dlm::wire::{
    Inner, LockFlags, LockId, LockspaceId, Message, MessageKind, Mode, Name, NodeId, StatusFlags,
};
use outlast_session::Instant;

use crate::machine::hash::name_hash;
use crate::machine::{Config, Event, LockRequest, Machine, MachineFault, Member, Outcome, UserError};

pub(super) const LOCKSPACE: LockspaceId = LockspaceId(0x1234);
/// So many messages that a test which needs more has gone wild.
const DELIVERIES_MAX: usize = 10_000;

pub(super) const NL: Mode = Mode::Null;
pub(super) const CR: Mode = Mode::ConcurrentRead;
pub(super) const CW: Mode = Mode::ConcurrentWrite;
pub(super) const PR: Mode = Mode::ProtectedRead;
pub(super) const PW: Mode = Mode::ProtectedWrite;
pub(super) const EX: Mode = Mode::Exclusive;
pub(super) const NONE: LockFlags = LockFlags::NONE;

/// Which modes exclude each other, from the manual of VMS: a row and a column for each mode, from null to exclusive.
pub(super) const COMPATIBLE: [&str; 6] = ["yyyyyy", "yyyyyn", "yyynnn", "yynynn", "yynnnn", "ynnnnn"];

pub(super) fn compatible(one: Mode, other: Mode) -> bool {
    COMPATIBLE[one as usize].as_bytes()[other as usize] == b'y'
}

pub(super) struct Net {
    pub(super) machines: BTreeMap<u32, Machine>,
    links: BTreeMap<(u32, u32), VecDeque<Message>>,
    /// All that was delivered: from, to.
    pub(super) delivered: Vec<(u32, u32, Message)>,
    pub(super) events: BTreeMap<u32, VecDeque<Event>>,
    pub(super) now: Instant,
}

impl Net {
    pub(super) fn new(nodes: u32) -> Self {
        let members: Vec<Member> =
            (1..=nodes).map(|node| Member { node: NodeId(node), weight: 1, fresh: false }).collect();
        let machines = (1..=nodes).map(|node| {
            let mut machine = Machine::new(Config::new(NodeId(node), LOCKSPACE));
            machine.members.change(NodeId(node), &members);
            machine.recovery.running = true;
            (node, machine)
        });
        Self {
            machines: machines.collect(),
            links: BTreeMap::new(),
            delivered: Vec::new(),
            events: BTreeMap::new(),
            now: Instant::from_nanos(1_000_000_000),
        }
    }

    pub(super) fn at(&mut self, node: u32) -> &mut Machine {
        self.machines.get_mut(&node).expect("a node of this net")
    }

    /// A name whose place in the directory is at this node.
    pub(super) fn name_at(&self, node: u32) -> Name {
        let machine = &self.machines[&1];
        (0..10_000)
            .map(|number| Name::new(format!("resource {number}").as_bytes()).expect("short enough"))
            .find(|name| machine.members.directory_node(name_hash(name.as_bytes())) == Some(NodeId(node)))
            .expect("names are spread over the nodes")
    }

    /// Takes out what the machines have to say, and checks them.
    pub(super) fn collect(&mut self) {
        for (node, machine) in &mut self.machines {
            while let Some(transmit) = machine.poll_transmit() {
                let Inner::Message(message) = transmit.inner else { panic!("no recovery here") };
                assert!(transmit.numbered);
                self.links.entry((*node, transmit.to.0)).or_default().push_back(message);
            }
            while let Some(event) = machine.poll_event() {
                self.events.entry(*node).or_default().push_back(event);
            }
            machine.check().unwrap_or_else(|why| panic!("node {node}: {why}"));
        }
    }

    /// How many messages are under way from one node to another.
    pub(super) fn under_way(&mut self, from: u32, to: u32) -> usize {
        self.collect();
        self.links.get(&(from, to)).map_or(0, VecDeque::len)
    }

    /// Delivers the next message from one node to another, and says what it was.
    pub(super) fn deliver(&mut self, from: u32, to: u32) -> MessageKind {
        self.collect();
        let message =
            self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front).expect("a message is under way");
        let kind = message.kind;
        self.delivered.push((from, to, message.clone()));
        let now = self.now;
        self.at(to).receive_message(NodeId(from), message, now).expect("a message that can be");
        self.collect();
        kind
    }

    /// Delivers everything until nothing is under way.
    pub(super) fn settle(&mut self) {
        for _ in 0..DELIVERIES_MAX {
            self.collect();
            let Some((from, to)) =
                self.links.iter().find(|(_, queue)| !queue.is_empty()).map(|(link, _)| *link)
            else {
                return;
            };
            self.deliver(from, to);
        }
        panic!("no end of messages");
    }

    pub(super) fn request(
        &mut self,
        node: u32,
        name: Name,
        mode: Mode,
        flags: LockFlags,
    ) -> Result<LockId, UserError> {
        let request =
            LockRequest { name, mode, flags, process: 100 + node, value: None, wants_blocking: true };
        let now = self.now;
        self.at(node).lock(request, now)
    }

    /// Asks for a lock and lets everything happen.
    pub(super) fn lock(&mut self, node: u32, name: Name, mode: Mode, flags: LockFlags) -> LockId {
        let lock = self.request(node, name, mode, flags).expect("a request that can be");
        self.settle();
        lock
    }

    /// Asks for a lock that must be granted.
    pub(super) fn hold(&mut self, node: u32, name: Name, mode: Mode) -> LockId {
        let lock = self.lock(node, name, mode, NONE);
        assert_eq!(self.outcomes(node, lock), [granted(mode)], "node {node} holds {mode}");
        lock
    }

    pub(super) fn start_convert(&mut self, node: u32, lock: LockId, mode: Mode, flags: LockFlags) {
        let now = self.now;
        self.at(node).convert(lock, mode, flags, None, now).expect("a conversion that can be");
    }

    pub(super) fn convert(&mut self, node: u32, lock: LockId, mode: Mode, flags: LockFlags) {
        self.start_convert(node, lock, mode, flags);
        self.settle();
    }

    pub(super) fn start_unlock(&mut self, node: u32, lock: LockId, flags: LockFlags) {
        let now = self.now;
        self.at(node).unlock(lock, flags, None, now).expect("an unlock that can be");
    }

    pub(super) fn unlock(&mut self, node: u32, lock: LockId) {
        self.start_unlock(node, lock, NONE);
        self.settle();
        assert_eq!(self.outcomes(node, lock), [Outcome::Unlocked]);
    }

    pub(super) fn start_cancel(&mut self, node: u32, lock: LockId) {
        let now = self.now;
        self.at(node).cancel(lock, now).expect("a lock to cancel");
    }

    /// How operations of a lock ended since this was asked last.
    pub(super) fn outcomes(&mut self, node: u32, lock: LockId) -> Vec<Outcome> {
        self.collect();
        let mut outcomes = Vec::new();
        self.events.entry(node).or_default().retain(|event| {
            let Event::Completed { lock: of, outcome } = event else { return true };
            if *of == lock {
                outcomes.push(outcome.clone());
            }
            *of != lock
        });
        outcomes
    }

    /// Which modes a lock was said to block since this was asked last.
    pub(super) fn blocked(&mut self, node: u32, lock: LockId) -> Vec<Mode> {
        self.collect();
        let mut modes = Vec::new();
        self.events.entry(node).or_default().retain(|event| {
            let Event::Blocking { lock: of, mode } = event else { return true };
            if *of == lock {
                modes.push(*mode);
            }
            *of != lock
        });
        modes
    }

    /// The kinds of messages that were delivered since this was asked last.
    pub(super) fn kinds(&mut self) -> Vec<(u32, u32, MessageKind)> {
        core::mem::take(&mut self.delivered)
            .into_iter()
            .map(|(from, to, message)| (from, to, message.kind))
            .collect()
    }

    pub(super) fn receive(&mut self, from: u32, to: u32, message: Message) -> Result<(), MachineFault> {
        let now = self.now;
        let received = self.at(to).receive_message(NodeId(from), message, now);
        self.collect();
        received
    }
}

pub(super) fn granted(mode: Mode) -> Outcome {
    Outcome::Granted { mode, status_flags: StatusFlags::NONE, value: None }
}

/// The ways in which two locks can meet: the directory node, the node of the first lock, that of the second. The master is
/// who comes first.
pub(super) const MEETINGS: [(u32, u32, u32); 5] = [
    // Both at the master.
    (1, 1, 1),
    // One at the master, which is the directory node, and one elsewhere.
    (1, 1, 2),
    // One at a master that is not the directory node, which is a third.
    (3, 1, 2),
    // The one that is not at the master is at the directory node.
    (2, 1, 2),
    // Neither is at the master, if the test put something at node 1 before.
    (1, 2, 3),
];
