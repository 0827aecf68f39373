//! Nodes with links between them, in memory: everything that happens is chosen by a seed.

use std::collections::{BTreeMap, VecDeque};

use outlast_dlm::wire::{Inner, LockFlags, LockId, LockspaceId, Mode, Name, NodeId, StatusFlags};
use outlast_lockspace::machine::{Config, Event, LockRequest, Machine, Member, Outcome, Transmit};
use outlast_session::Instant;

use crate::rng::Rng;
use crate::user::{Asked, UserLock, may_coexist};
use crate::values::{Value, from_block, is_write, to_block};

const LOCKSPACE: LockspaceId = LockspaceId(0x5eed);
/// One in so many messages without a number is lost.
const LOSS: usize = 50;

pub(crate) struct Node {
    pub(crate) machine: Machine,
    pub(crate) life: u64,
    /// The members, each with its life, that it was told last.
    known: BTreeMap<u32, u64>,
    pub(crate) locks: BTreeMap<LockId, UserLock>,
    pub(crate) running: bool,
}

/// A change of the membership: first all are stopped, then all are started.
enum Change {
    None,
    Stopping(Vec<u32>),
    /// Each is stopped and started when it hears of it, and waits for the others by the number of the membership.
    Each(Vec<u32>),
    Starting(Vec<u32>),
}

pub(crate) struct Cluster {
    pub(crate) rng: Rng,
    pub(crate) now: Instant,
    pub(crate) nodes: BTreeMap<u32, Node>,
    /// From whom, in which of its lives, to whom.
    links: BTreeMap<(u32, u64, u32), VecDeque<Transmit>>,
    change: Change,
    /// Counts the changes, if nodes are told the count; then nobody sees to it that all stop before any starts.
    epoch: Option<u64>,
    lives: u64,
    names: usize,
    values: Vec<Value>,
    writes: u64,
    pub(crate) reads: u64,
    /// What happened, for who looks for a fault.
    pub(crate) log: Vec<String>,
    pub(crate) trace: bool,
    pub(crate) completions: u64,
    pub(crate) recoveries: u64,
}

pub(crate) fn name(index: usize) -> Name {
    Name::new(format!("resource {index}").as_bytes()).unwrap()
}

impl Cluster {
    pub(crate) fn new(seed: u64, nodes: u32, names: usize, epochs: bool) -> Self {
        let mut cluster = Self {
            rng: Rng::new(seed),
            now: Instant::from_nanos(1),
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            change: Change::None,
            epoch: epochs.then_some(0),
            lives: 0,
            names,
            values: (0..names).map(|_| Value::new()).collect(),
            writes: 0,
            reads: 0,
            log: Vec::new(),
            trace: std::env::var_os("CLUSTER_TRACE").is_some(),
            completions: 0,
            recoveries: 0,
        };
        for node in 1..=nodes {
            cluster.join(node);
        }
        cluster
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.trace {
            let line = format!("{:>12} {}", self.now.as_nanos() / 1000, what());
            self.log.push(line);
        }
    }

    /// A node comes, or comes back, and everybody is told.
    pub(crate) fn join(&mut self, node: u32) {
        self.note(|| format!("node {node} joins"));
        self.lives += 1;
        let config = Config { first_sequence: self.rng.next(), ..Config::new(NodeId(node), LOCKSPACE) };
        let machine = Machine::new(config);
        let (life, known) = (self.lives, BTreeMap::new());
        self.nodes.insert(node, Node { machine, life, known, locks: BTreeMap::new(), running: false });
        self.begin_change();
    }

    /// A node is gone at once. Of what it sent some may still arrive.
    pub(crate) fn kill(&mut self, node: u32) {
        self.note(|| format!("node {node} dies"));
        self.nodes.remove(&node);
        for value in &mut self.values {
            value.died(node);
        }
        self.links.retain(|(_, _, to), _| *to != node);
        for ((from, _, _), link) in &mut self.links {
            if *from == node {
                link.truncate(self.rng.below(link.len() + 1));
            }
        }
        self.begin_change();
    }

    /// All are stopped and started once more; sometimes without any other reason.
    pub(crate) fn begin_change(&mut self) {
        let all = self.nodes.keys().copied().collect();
        if let Some(epoch) = &mut self.epoch {
            *epoch += 1;
            self.change = Change::Each(all);
        } else {
            self.change = Change::Stopping(all);
        }
    }

    /// Whether a node is in a recovery.
    pub(crate) fn one_waits(&self) -> bool {
        self.nodes.values().any(|node| !node.running)
    }

    pub(crate) fn is_changing(&self) -> bool {
        !matches!(self.change, Change::None)
    }

    pub(crate) fn step_change(&mut self) {
        let (stop, start, left) = match &mut self.change {
            Change::None => return,
            Change::Stopping(left) => (true, false, left),
            Change::Starting(left) => (false, true, left),
            Change::Each(left) => (true, true, left),
        };
        if left.is_empty() {
            self.change =
                if start { Change::None } else { Change::Starting(self.nodes.keys().copied().collect()) };
            return;
        }
        let index = self.rng.below(left.len());
        let node = left.swap_remove(index);
        if stop {
            self.stop(node);
        }
        if start {
            self.start(node);
        }
    }

    fn stop(&mut self, node: u32) {
        self.note(|| format!("stop {node}"));
        let now = self.now;
        let state = self.nodes.get_mut(&node).unwrap();
        state.machine.handle_stop(now);
        state.running = false;
        self.drain(node);
    }

    fn start(&mut self, node: u32) {
        self.note(|| format!("start {node}"));
        let lives: BTreeMap<u32, u64> = self.nodes.iter().map(|(id, node)| (*id, node.life)).collect();
        let state = self.nodes.get_mut(&node).unwrap();
        let members: Vec<Member> = lives
            .iter()
            .map(|(id, life)| Member {
                node: NodeId(*id),
                weight: 1,
                fresh: state.known.get(id).is_some_and(|known| known != life),
            })
            .collect();
        state.known = lives;
        if let Some(epoch) = self.epoch {
            state.machine.set_epoch(epoch);
        }
        state.machine.handle_start(&members, self.now).unwrap();
        self.drain(node);
    }

    /// Takes out what a machine has to send and to tell.
    pub(crate) fn drain(&mut self, node: u32) {
        let mut lines = Vec::new();
        while let Some(transmit) = self.nodes.get_mut(&node).and_then(|state| state.machine.poll_transmit()) {
            assert_ne!(transmit.to.0, node, "a message to itself: {:?}", transmit.inner);
            if self.trace {
                lines.push(format!("  {node} -> {}: {:?}", transmit.to, transmit.inner));
            }
            if !transmit.numbered && self.rng.one_in(LOSS) {
                continue;
            }
            let to = transmit.to.0;
            let there = self.nodes.get(&to).map(|there| there.life);
            let (known, life) = (self.nodes[&node].known.get(&to).copied(), self.nodes[&node].life);
            // What has a number belongs to a session with one life of the other.
            if there.is_some() && (!transmit.numbered || known == there) {
                self.links.entry((node, life, to)).or_default().push_back(transmit);
            }
        }
        while let Some(event) = self.nodes.get_mut(&node).and_then(|state| state.machine.poll_event()) {
            let state = self.nodes.get_mut(&node).unwrap();
            if self.trace {
                lines.push(format!("  {node}: {event:?}"));
            }
            match event {
                Event::Completed { lock, outcome } => {
                    self.completions += 1;
                    let Some(user) = state.locks.get_mut(&lock) else {
                        panic!("node {node}: {outcome:?} for lock {lock}, which is over");
                    };
                    let value = &mut self.values[user.name];
                    match (&outcome, user.writing.take()) {
                        (Outcome::Granted { .. }, Some((write, confirmed)))
                            if !matches!(user.asked, Some(Asked::Unlock { .. })) =>
                        {
                            value.settle(write, confirmed);
                        }
                        (Outcome::Unlocked, Some((write, _))) => value.settle(write, true),
                        (_, writing) => user.writing = writing,
                    }
                    if let Outcome::Granted { mode, status_flags, value: Some(block) } = &outcome {
                        let read = from_block(block);
                        let is_valid = !status_flags.contains(StatusFlags::VALUE_NOT_VALID);
                        // With weaker modes one reads beside who writes.
                        if is_valid && *mode >= Mode::ConcurrentWrite {
                            self.reads += 1;
                            assert!(
                                value.may_be_read(user.from, read, user.buffer),
                                "node {node} lock {lock}: {read} cannot be in resource {}",
                                user.name
                            );
                        }
                        user.buffer = read;
                    }
                    match user.told(&outcome) {
                        Ok(false) => {}
                        Ok(true) => {
                            state.locks.remove(&lock);
                        }
                        Err(why) => panic!("node {node} lock {lock}: {why}"),
                    }
                    self.check_lost_values();
                }
                Event::RecoveryDone { .. } => {
                    // What was written by an unlock to a master that died is gone. Nobody is told so if no lock with the
                    // block is left, as with Linux.
                    self.values.iter_mut().for_each(Value::may_be_lost);
                    self.recoveries += 1;
                    state.running = true;
                }
                Event::RecoveryFailed(failure) => panic!("node {node}: {failure}"),
                Event::Blocking { .. }
                | Event::MemberAdded(_)
                | Event::MemberRemoved(_)
                | Event::RecoveryBegun => {}
                event => panic!("{event:?}"),
            }
        }
        assert_eq!(
            self.nodes[&node].machine.statistics().faults,
            0,
            "node {node} blames another for what it said before"
        );
        for line in lines {
            self.note(|| line);
        }
        self.check_exclusion();
    }

    /// A resource whose value block nobody holds may be removed, and its block with it.
    fn check_lost_values(&mut self) {
        for index in 0..self.names {
            let mut locks = self.nodes.values().flat_map(|node| node.locks.values());
            if !locks.any(|lock| lock.name == index && lock.relies_on().is_some()) {
                self.values[index].may_be_lost();
            }
        }
    }

    /// No two users rely on modes that exclude each other.
    fn check_exclusion(&self) {
        for index in 0..self.names {
            let held: Vec<(u32, LockId, Mode)> = self
                .nodes
                .iter()
                .flat_map(|(node, state)| state.locks.iter().map(move |(id, lock)| (*node, *id, lock)))
                .filter(|(_, _, lock)| lock.name == index)
                .filter_map(|(node, id, lock)| Some((node, id, lock.relies_on()?)))
                .collect();
            for (place, a) in held.iter().enumerate() {
                for b in &held[place + 1..] {
                    assert!(may_coexist(a.2, b.2), "resource {index}: {a:?} and {b:?}");
                }
            }
        }
    }

    /// One message arrives. `false`: there is none.
    pub(crate) fn deliver(&mut self) -> bool {
        let full: Vec<_> =
            self.links.iter().filter(|(_, link)| !link.is_empty()).map(|(key, _)| *key).collect();
        if full.is_empty() {
            return false;
        }
        let (from, life, to) = self.rng.pick(&full);
        let transmit = self.links.get_mut(&(from, life, to)).unwrap().pop_front().unwrap();
        if transmit.numbered && self.nodes[&to].known.get(&from) != Some(&life) {
            return true;
        }
        let inner = transmit.inner;
        self.note(|| format!("{to} <- {from}: {}", summary(&inner)));
        let now = self.now;
        let result =
            self.nodes.get_mut(&to).unwrap().machine.handle_message(NodeId(from), inner.clone(), now);
        if let Err(fault) = result {
            panic!("node {to} blames node {from}: {fault} ({inner:?})");
        }
        self.drain(to);
        true
    }

    /// Time passes until a machine has something to do. `false`: none has.
    pub(crate) fn tick(&mut self) -> bool {
        let Some(at) = self.nodes.values().filter_map(|node| node.machine.poll_timeout()).min() else {
            return false;
        };
        self.now = self.now.max(at);
        let due: Vec<u32> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.machine.poll_timeout().is_some_and(|at| at <= self.now))
            .map(|(id, _)| *id)
            .collect();
        for node in due {
            let now = self.now;
            self.nodes.get_mut(&node).unwrap().machine.handle_timeout(now);
            self.drain(node);
        }
        true
    }

    /// A user does something.
    pub(crate) fn act(&mut self) {
        let ids: Vec<u32> = self.nodes.keys().copied().collect();
        let node = self.rng.pick(&ids);
        let locks: Vec<LockId> = self.nodes[&node].locks.keys().copied().collect();
        if locks.is_empty() || locks.len() < 6 && self.rng.one_in(2) {
            self.act_request(node);
            return;
        }
        let id = self.rng.pick(&locks);
        let user = self.nodes[&node].locks[&id].clone();
        match (user.held, user.asked) {
            (Some(_), None) if self.rng.one_in(2) => self.act_unlock(node, id, LockFlags::NONE),
            (Some(held), None) => self.act_convert(node, id, held),
            (_, Some(Asked::Request(_) | Asked::Convert { .. })) if !user.cancel => match self.rng.below(8) {
                0 => self.act_unlock(node, id, LockFlags::FORCE_UNLOCK),
                1 => self.act_cancel(node, id),
                _ => {}
            },
            _ => {}
        }
    }

    fn act_request(&mut self, node: u32) {
        let index = self.rng.below(self.names);
        let mode = self.rng.pick(&Mode::ALL);
        let mut flags = LockFlags::NONE;
        if self.rng.one_in(5) {
            flags |= LockFlags::NO_QUEUE;
        }
        let mut value = None;
        if self.rng.one_in(3) {
            flags |= LockFlags::VALUE_BLOCK;
            value = Some(vec![0; 32]);
        }
        let request = LockRequest {
            name: name(index),
            mode,
            flags,
            process: 7,
            value,
            wants_blocking: self.rng.one_in(2),
        };
        let now = self.now;
        let state = self.nodes.get_mut(&node).unwrap();
        let id = state.machine.lock(request, now).unwrap();
        let asked = Some(Asked::Request(mode));
        let from = self.values[index].now();
        state.locks.insert(
            id,
            UserLock {
                name: index,
                held: None,
                asked,
                cancel: false,
                unsure: false,
                flags,
                buffer: 0,
                from,
                writing: None,
            },
        );
        self.note(|| format!("user of {node}: lock {id} {mode} of resource {index} {flags:?}"));
        self.drain(node);
    }

    fn act_convert(&mut self, node: u32, id: LockId, held: Mode) {
        let to = self.rng.pick(&Mode::ALL);
        let mut flags = LockFlags::CONVERT;
        if self.rng.one_in(6) && !matches!((held, to), (a, b) if b <= a) {
            flags |= LockFlags::QUEUE_CONVERSION;
        }
        if self.rng.one_in(4) {
            flags |= LockFlags::NO_QUEUE;
        } else if self.rng.one_in(2) {
            flags |= LockFlags::CONVERSION_DEADLOCK;
        }
        let now = self.now;
        let state = self.nodes.get_mut(&node).unwrap();
        let user = state.locks.get_mut(&id).unwrap();
        let mut value = None;
        let mut write = None;
        if user.flags.contains(LockFlags::VALUE_BLOCK) {
            flags |= LockFlags::VALUE_BLOCK;
            write = is_write(held, to).then_some(self.writes + 1);
            value = Some(to_block(write.unwrap_or(user.buffer)));
        }
        match state.machine.convert(id, to, flags, value, now) {
            Ok(()) => {
                let may_lose = flags.contains(LockFlags::CONVERSION_DEADLOCK);
                user.asked = Some(Asked::Convert { to, may_lose });
                user.from = self.values[user.name].now();
                if let Some(written) = write {
                    self.writes = written;
                    user.buffer = written;
                    user.writing = Some((self.values[user.name].begin(node, written), to == held));
                }
                self.note(|| format!("user of {node}: convert {id} to {to} {flags:?}"));
            }
            Err(error) => self.note(|| format!("user of {node}: convert {id} to {to} {flags:?}: {error}")),
        }
        self.drain(node);
    }

    pub(crate) fn act_unlock(&mut self, node: u32, id: LockId, mut flags: LockFlags) {
        let now = self.now;
        let state = self.nodes.get_mut(&node).unwrap();
        let user = state.locks.get_mut(&id).unwrap();
        let has_value = user.flags.contains(LockFlags::VALUE_BLOCK);
        let mut value = None;
        let mut written = user.buffer;
        if has_value && user.asked.is_none() && self.rng.one_in(2) {
            // Without the flag what the block holds is written, too: the flag of the last conversion stays.
            written = self.writes + 1;
            flags |= LockFlags::VALUE_BLOCK;
            value = Some(to_block(written));
        }
        match state.machine.unlock(id, flags, value, now) {
            Ok(()) => {
                let of_request = matches!(user.asked, Some(Asked::Request(_)));
                let can_write = user.asked.is_none() && user.held >= Some(Mode::ProtectedWrite);
                user.asked = Some(Asked::Unlock { of_request });
                self.writes = self.writes.max(written);
                if has_value && can_write {
                    user.writing = Some((self.values[user.name].begin(node, written), true));
                } else if has_value {
                    self.values[user.name].may_be_written(written);
                }
                self.check_lost_values();
                self.note(|| format!("user of {node}: unlock {id} {flags:?}, value {written}"));
            }
            Err(error) => self.note(|| format!("user of {node}: unlock {id} {flags:?}: {error}")),
        }
        self.drain(node);
    }

    fn act_cancel(&mut self, node: u32, id: LockId) {
        let now = self.now;
        let state = self.nodes.get_mut(&node).unwrap();
        match state.machine.cancel(id, now) {
            Ok(()) => {
                state.locks.get_mut(&id).unwrap().cancel = true;
                self.note(|| format!("user of {node}: cancel {id}"));
            }
            Err(error) => self.note(|| format!("user of {node}: cancel {id}: {error}")),
        }
        self.drain(node);
    }

    /// Everything goes on until nothing is to be done but to remove what is unused.
    pub(crate) fn quiesce(&mut self, until: impl Fn(&Self) -> bool) {
        const STEPS_MAX: usize = 20_000;
        for _ in 0..STEPS_MAX {
            if self.is_changing() {
                self.step_change();
            } else if !self.deliver() && (until(self) || !self.tick()) {
                return;
            }
        }
        panic!("it does not come to rest");
    }
}

fn summary(inner: &Inner) -> String {
    match inner {
        Inner::Message(message) => {
            format!("{:?} {} {} result {}", message.kind, message.lock, message.remote_lock, message.result)
        }
        Inner::Rcom(rcom) => format!("{:?} result {}", rcom.body.kind(), rcom.result),
        Inner::Fin => "fin".into(),
    }
}
