//! The nodes, and the order in which things happen to them.

use super::bugs::Planted;
use super::membership::Membership;
use super::model::Model;
use super::plan::Plan;
use super::wire::Wires;
use crate::link::{Direction, Link};
use crate::situations::Situations;
use outlast_dlm::wire::{Inner, LockspaceId, NodeId, RcomBody};
use outlast_dlm::{ChannelId, Connection, Session, SessionConfig, SessionEvent};
use outlast_lockspace::machine::{Config, Machine};
use outlast_session::Instant;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

/// The one lockspace.
pub(crate) const LOCKSPACE: LockspaceId = LockspaceId(0x51);

/// Things that happen in a run, at most.
pub(crate) const STEPS_MAX: u64 = 2_000_000;
/// Steps in which time must have gone on.
const STEPS_AT_ONE_TIME_MAX: u64 = 20_000;

/// A node, in one of its lives: names it while it lives and for ever after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) channel: ChannelId,
}

/// What will happen at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Something of a node's own.
    Node(usize),
    /// Bytes arrive.
    Link(u64),
    /// The pause is over: the reader goes on.
    Resume(u64, bool),
    /// A node gives up a connection that is silent.
    GiveUp(u64, bool),
    /// A connection is open, or cannot be opened.
    Dialled {
        from: usize,
        life: u32,
        to: usize,
    },
    /// The other end has it, too.
    Accepted(u64),
    /// The cluster manager.
    Noticed,
    Stop {
        node: usize,
        change: u64,
    },
    Start {
        node: usize,
        change: u64,
    },
}

pub(crate) struct Attached {
    pub(crate) link: u64,
    /// In which it writes.
    pub(crate) direction: Direction,
    pub(crate) connection: Connection,
}

/// What a node has until it dies.
pub(crate) struct Life {
    pub(crate) number: u32,
    pub(crate) machine: Machine,
    pub(crate) sessions: BTreeMap<usize, Session>,
    pub(crate) attached: BTreeMap<ChannelId, Attached>,
    /// Others have forgotten the life before this one.
    pub(crate) listens: bool,
    pub(crate) stopped: bool,
    pub(crate) recovering: bool,
}

#[derive(Default)]
pub(crate) struct Node {
    pub(crate) life: Option<Life>,
    pub(crate) lives: u32,
    pub(crate) wake: Option<Instant>,
}

pub(crate) struct Cluster {
    pub(crate) plan: Plan,
    pub(crate) now: Instant,
    pub(crate) rng: StdRng,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: BTreeMap<u64, Link<End>>,
    /// When something of a link is due next.
    awaited: BTreeMap<u64, Instant>,
    due: BinaryHeap<Reverse<(Instant, u64, Due)>>,
    next: u64,
    pub(crate) steps: u64,
    pub(crate) membership: Membership,
    pub(crate) model: Model,
    pub(crate) planted: Planted,
    pub(crate) wires: Wires,
    /// What machines said with a number and the others' have not heard.
    pub(crate) ledger: BTreeMap<[(usize, u32); 2], VecDeque<Inner>>,
    /// Cannot be reached: from, to.
    pub(crate) parted: Vec<(usize, usize)>,
    pub(crate) met: Situations,
    pub(crate) fair: bool,
    pub(crate) trace: bool,
}

pub(crate) const fn id(node: usize) -> NodeId {
    // At most seven.
    NodeId(node as u32 + 1)
}

pub(crate) const fn index(node: NodeId) -> usize {
    node.0 as usize - 1
}

/// The recovery makes up for the loss of these, and they have no number.
pub(crate) const fn is_numbered(inner: &Inner) -> bool {
    match inner {
        Inner::Rcom(rcom) => !matches!(rcom.body, RcomBody::Status { .. } | RcomBody::StatusReply(_)),
        Inner::Message(_) | Inner::Fin => true,
    }
}

impl Cluster {
    pub(crate) fn new(plan: Plan, planted: Planted, trace: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(plan.seed);
        let start = rng.random_range(1_000_000_000..2_000_000_000);
        Self {
            now: Instant::from_nanos(start),
            rng,
            nodes: (0..plan.nodes).map(|_| Node::default()).collect(),
            links: BTreeMap::new(),
            awaited: BTreeMap::new(),
            due: BinaryHeap::new(),
            next: 0,
            steps: 0,
            membership: Membership::new(plan.nodes),
            model: Model::new(plan.names),
            wires: Wires::new(plan.repeats_late),
            planted,
            ledger: BTreeMap::new(),
            parted: Vec::new(),
            met: Situations::default(),
            fair: false,
            trace,
            plan,
        }
    }

    // ------------------------------------------------------------------ time

    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn at(&mut self, when: Instant, due: Due) {
        let number = self.number();
        self.due.push(Reverse((when.max(self.now), number, due)));
    }

    /// Bytes or an end arrive over a link.
    pub(crate) fn awaits(&mut self, link: u64, when: Instant) {
        if self.awaited.get(&link).is_none_or(|at| when < *at) {
            self.awaited.insert(link, when);
            self.at(when, Due::Link(link));
        }
    }

    pub(crate) fn after(&mut self, wait: Duration, due: Due) {
        self.at(self.now + wait, due);
    }

    pub(crate) fn next_time(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((when, _, _))| *when)
    }

    pub(crate) fn step(&mut self) {
        let Some(Reverse((when, _, due))) = self.due.pop() else { return };
        self.now = self.now.max(when);
        self.steps += 1;
        match due {
            Due::Node(node) => self.time_comes(node),
            Due::Link(link) => {
                if self.awaited.get(&link).is_some_and(|at| *at <= self.now) {
                    self.awaited.remove(&link);
                }
                self.arrives(link);
            }
            Due::Resume(link, forth) => self.resumes(link, forth),
            Due::GiveUp(link, opener) => self.gives_up(link, opener),
            Due::Dialled { from, life, to } => self.dialled(from, life, to),
            Due::Accepted(link) => self.accepted(link),
            Due::Noticed => self.noticed(),
            Due::Stop { node, change } => self.stop(node, change),
            Due::Start { node, change } => self.start(node, change),
        }
    }

    pub(crate) fn run_until(&mut self, end: Instant) {
        let mut still = (self.now, self.steps);
        while self.next_time().is_some_and(|next| next <= end) && self.steps < STEPS_MAX {
            let next = self.due.peek().map(|Reverse((_, _, due))| *due);
            self.step();
            if self.now != still.0 {
                still = (self.now, self.steps);
            } else if self.steps - still.1 > STEPS_AT_ONE_TIME_MAX {
                return self.wrong(format!("time stands still: {next:?}"));
            }
        }
        self.now = self.now.max(end);
    }

    // ------------------------------------------------------------------ chance

    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }

    pub(crate) fn within(&mut self, max: Duration) -> Duration {
        max.mul_f64(self.rng.random::<f64>())
    }

    pub(crate) fn delay(&mut self) -> Duration {
        let (min, max) = self.plan.delay;
        min + self.within(max - min)
    }

    /// A node in the life that another knows, or in this one.
    pub(crate) fn as_known(&self, by: usize, node: usize) -> (usize, u32) {
        (node, self.membership.knows(by, node).unwrap_or(self.nodes[node].lives))
    }

    pub(crate) fn is_recovering(&self) -> bool {
        self.nodes.iter().any(|node| node.life.as_ref().is_some_and(|life| life.recovering))
    }

    pub(crate) fn living(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].life.is_some()).collect()
    }

    pub(crate) fn life(&mut self, node: usize) -> Option<&mut Life> {
        self.nodes[node].life.as_mut()
    }

    // ------------------------------------------------------------------ what is told

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>12.6} {}", self.now.as_nanos() as f64 / 1e9, what());
        }
    }

    pub(crate) fn meet(&mut self, what: &str) {
        self.met.meet(what);
    }

    pub(crate) fn wrong(&mut self, what: String) {
        self.note(|| format!("WRONG: {what}"));
        self.model.findings.push(what);
    }

    // ------------------------------------------------------------------ life and death

    /// A node begins, knowing nothing.
    pub(crate) fn boots(&mut self, node: usize, listens: bool) {
        let first_sequence = self.rng.random();
        let toss_after = self.plan.toss_after;
        let incarnation = if self.plan.tells_lives { first_sequence } else { 0 };
        let session =
            |other| Session::new(SessionConfig { incarnation, ..SessionConfig::new(id(node), id(other)) });
        let place = &mut self.nodes[node];
        place.lives += 1;
        place.wake = None;
        let config = Config { first_sequence, toss_after, ..Config::new(id(node), LOCKSPACE) };
        let others = (0..self.plan.nodes).filter(|other| *other != node);
        place.life = Some(Life {
            number: place.lives,
            machine: Machine::new(config),
            sessions: others.map(|other| (other, session(other))).collect(),
            attached: BTreeMap::new(),
            listens,
            stopped: true,
            recovering: true,
        });
        let lives = place.lives;
        self.note(|| format!("node {node} boots, life {lives}"));
    }

    /// A node dies with everything it has.
    pub(crate) fn dies(&mut self, node: usize) {
        let Some(life) = self.nodes[node].life.take() else { return };
        self.note(|| format!("node {node} dies"));
        self.meet("node died");
        if life.recovering && !life.stopped {
            self.meet("node died during a recovery");
        }
        let master_of =
            life.machine.resources().filter(|view| view.master == Some(id(node)) && !view.locks.is_empty());
        self.met.meet_often("resource lost its master", master_of.count() as u64);
        for session in life.sessions.values() {
            self.count(session);
        }
        self.model.died(node);
        // Its machine may still answer for it, or there is no power.
        let told = self.one_in(2);
        for attached in life.attached.into_values() {
            if told {
                let at = self.now + self.delay();
                if let Some(link) = self.links.get_mut(&attached.link) {
                    link.cut(at);
                    self.awaits(attached.link, at);
                }
            } else if let Some(link) = self.links.get_mut(&attached.link) {
                link.silence(Direction::Forth);
                link.silence(Direction::Back);
            }
            self.forget_link(attached.link);
        }
    }

    /// What a session counted, when it is over.
    pub(crate) fn count(&mut self, session: &Session) {
        let statistics = session.statistics();
        for (what, times) in [
            ("message replayed", statistics.replayed),
            ("duplicate dropped", statistics.duplicates_dropped),
            ("early message dropped", statistics.early_dropped),
            ("connections that cross", statistics.crossings),
            ("connection lost", statistics.connections_lost),
            ("acknowledged", statistics.messages_acked),
            ("lost with a fenced session", statistics.lost),
        ] {
            self.met.meet_often(what, times);
        }
    }

    /// The membership has it that `gone` is gone for good: `node` forgets it.
    pub(crate) fn fences(&mut self, node: usize, gone: usize) {
        let Some(life) = self.nodes[node].life.as_mut() else { return };
        let Some(session) = life.sessions.get_mut(&gone) else { return };
        session.fence();
        while let Some(event) = session.poll_event() {
            if matches!(event, SessionEvent::Ended { lost, .. } if lost > 0) {
                self.met.meet("fenced with unacknowledged messages");
            }
        }
        let theirs: Vec<_> =
            life.attached.iter().filter(|(_, a)| a.connection.peer() == id(gone)).map(|(c, _)| *c).collect();
        for channel in theirs {
            self.hangs_up(node, channel);
        }
        self.note(|| format!("node {node} forgets node {gone}"));
    }
}
