//! The cluster manager: stops all lockspaces, has the dead forgotten, then starts all with the new members.

use super::cluster::{Cluster, Due, id};
use outlast_lockspace::machine::Member;
use std::collections::BTreeMap;
use std::time::Duration;

/// How far apart nodes stop, and start.
const SPREAD: Duration = Duration::from_millis(30);
/// How long it takes at most until it is noticed that a node is gone.
const NOTICED_WITHIN: Duration = Duration::from_millis(300);

/// What the cluster manager knows.
#[derive(Debug)]
pub(crate) struct Membership {
    /// Counts the changes.
    change: u64,
    /// Whom the change makes members.
    target: Vec<usize>,
    /// All have been told to start.
    settled: bool,
    /// Nodes that died and of which it has not heard.
    unnoticed: bool,
    /// Which life of which other each node knows; 0: none.
    known: Vec<BTreeMap<usize, u32>>,
    /// The change that each node was started with last.
    started: Vec<u64>,
    /// The members that each node was started with last, each in its life.
    told: Vec<BTreeMap<usize, u32>>,
}

impl Membership {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            change: 0,
            target: Vec::new(),
            settled: true,
            unnoticed: false,
            known: vec![BTreeMap::new(); nodes],
            started: vec![0; nodes],
            told: vec![BTreeMap::new(); nodes],
        }
    }

    /// Which life of another a node knows.
    pub(crate) fn knows(&self, by: usize, node: usize) -> Option<u32> {
        self.known[by].get(&node).copied().filter(|life| *life != 0)
    }

    pub(crate) const fn is_settled(&self) -> bool {
        self.settled && !self.unnoticed
    }
}

impl Cluster {
    /// The cluster begins.
    pub(crate) fn founds(&mut self) {
        for node in 0..self.plan.first {
            self.boots(node, true);
        }
        self.changes_to((0..self.plan.first).collect());
    }

    /// A node comes, or comes back.
    pub(crate) fn joins(&mut self, node: usize) {
        if self.nodes[node].life.is_some() {
            return;
        }
        let again = self.nodes[node].lives > 0;
        self.meet(if again { "node came back" } else { "node joined" });
        if self.membership.target.contains(&node) {
            self.meet("node came back before anybody noticed");
        }
        // Others know it from before until they have forgotten it.
        self.boots(node, false);
        self.membership.known[node].clear();
        self.membership.told[node].clear();
        let mut members = self.living();
        members.retain(|other| *other == node || self.membership.target.contains(other));
        self.changes_to(members);
    }

    /// A node dies, and sooner or later that is noticed.
    pub(crate) fn kills(&mut self, node: usize) {
        if self.nodes[node].life.is_none() {
            return;
        }
        self.dies(node);
        self.membership.unnoticed = true;
        let wait = self.within(NOTICED_WITHIN);
        self.after(wait, Due::Noticed);
    }

    pub(crate) fn noticed(&mut self) {
        self.membership.unnoticed = false;
        let members: Vec<usize> =
            self.living().into_iter().filter(|n| self.membership.target.contains(n)).collect();
        if members != self.membership.target {
            self.changes_to(members);
        }
    }

    fn changes_to(&mut self, members: Vec<usize>) {
        if !self.membership.settled {
            self.meet("change during a change");
        }
        let recovering =
            |n: &usize| self.nodes[*n].life.as_ref().is_some_and(|life| life.recovering && !life.stopped);
        if members.iter().any(recovering) {
            self.meet("recovery interrupted");
        }
        self.note(|| format!("the members shall be {members:?}"));
        self.membership.change += 1;
        self.membership.settled = false;
        let change = self.membership.change;
        for node in members.iter().copied() {
            let wait = self.within(SPREAD);
            self.after(wait, Due::Stop { node, change });
        }
        self.membership.target = members;
    }

    pub(crate) fn stop(&mut self, node: usize, change: u64) {
        if change != self.membership.change || self.membership.settled {
            return;
        }
        let (now, again) = (self.now, self.one_in(3));
        let Some(life) = self.life(node) else { return };
        if !life.stopped || again {
            let twice = life.stopped;
            life.machine.handle_stop(now);
            life.stopped = true;
            life.recovering = true;
            self.note(|| format!("node {node} stops"));
            if twice {
                self.meet("stopped twice");
            }
            self.pump(node);
        }
        if self.planted.starts_at_once() {
            let wait = self.within(SPREAD);
            self.after(wait, Due::Start { node, change });
        }
        let stopped = |node: &usize| self.nodes[*node].life.as_ref().is_none_or(|life| life.stopped);
        if self.membership.target.iter().all(stopped) && !self.planted.starts_at_once() {
            self.all_stopped();
        }
    }

    fn all_stopped(&mut self) {
        let members = self.membership.target.clone();
        if members.iter().any(|node| self.nodes[*node].life.is_none()) {
            // One died on the way; that will be noticed.
            return;
        }
        self.forget_the_dead();
        self.membership.settled = true;
        let change = self.membership.change;
        for node in members {
            let wait = self.within(SPREAD);
            self.after(wait, Due::Start { node, change });
        }
    }

    /// All forget the earlier lives of all others.
    fn forget_the_dead(&mut self) {
        let lives: Vec<u32> =
            self.nodes.iter().map(|node| node.life.as_ref().map_or(0, |life| life.number)).collect();
        for node in self.living() {
            for (other, life) in lives.iter().copied().enumerate().filter(|(other, _)| *other != node) {
                let known = self.membership.known[node].insert(other, life).unwrap_or(0);
                if known != 0 && known != life && !self.planted.forgets_to_fence() {
                    self.fences(node, other);
                }
            }
        }
        for node in self.living() {
            if let Some(life) = self.life(node) {
                life.listens = true;
            }
        }
    }

    pub(crate) fn start(&mut self, node: usize, change: u64) {
        if change != self.membership.change || self.nodes[node].life.is_none() {
            return;
        }
        if self.planted.starts_at_once() {
            self.forget_the_dead();
        }
        let mut told = BTreeMap::new();
        let mut members = Vec::new();
        let mut fresh_ones = 0;
        for member in self.membership.target.clone() {
            let life = self.nodes[member].lives;
            let before = self.membership.told[node].get(&member).copied();
            let fresh = before.is_some_and(|before| before != life) && !self.planted.forgets_who_is_fresh();
            fresh_ones += u64::from(fresh);
            told.insert(member, life);
            members.push(Member { node: id(member), weight: self.plan.weights[member], fresh });
        }
        self.met.meet_often("told that a member is a fresh one", fresh_ones);
        self.membership.told[node] = told;
        self.membership.started[node] = change;
        if self.planted.starts_at_once() {
            let started = |node: &usize| self.membership.started[*node] == change;
            self.membership.settled = self.membership.target.iter().all(started);
        }
        self.note(|| format!("node {node} starts with {members:?}"));
        let now = self.now;
        let Some(life) = self.life(node) else { return };
        if life.stopped {
            life.stopped = false;
            if let Err(error) = life.machine.handle_start(&members, now) {
                self.wrong(format!("node {node} does not start: {error}"));
            }
        }
        self.pump(node);
    }
}
