//! One seed, from bad weather to fair.

use super::bugs::{Bug, Planted};
use super::cluster::{Cluster, STEPS_MAX};
use super::model::Op;
use super::plan::Plan;
use crate::link::Direction;
use crate::situations::Situations;
use outlast_dlm::wire::LockId;
use rand::RngExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// In fair weather everything that was asked is answered within this time of the cluster's.
const BOUND: Duration = Duration::from_secs(60);
/// How long nothing must have changed for it to count as still: longer than a recovery waits for an answer.
const STILL: Duration = Duration::from_secs(7);
/// Looks at the cluster, in fair weather.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its number.
    pub seed: u64,
    /// One line about it.
    pub about: String,
    /// What is wrong; empty: nothing.
    pub findings: Vec<String>,
    /// What was met.
    pub situations: Situations,
    /// Things that happened.
    pub steps: u64,
    /// Time of the cluster from fair weather until everything was settled.
    pub settled_after: Duration,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, bug: Option<Bug>, trace: bool) -> Report {
    run_plan(Plan::draw(seed, bug), bug, trace)
}

/// A bug, and the first of some seeds that finds it and finds nothing without it.
#[must_use]
pub fn find(bug: Bug, from: u64, seeds: u64) -> Option<Report> {
    (from..from + seeds)
        .map(|seed| run(seed, Some(bug), false))
        .filter(|report| !report.findings.is_empty())
        .find(|report| run_plan(Plan::draw(report.seed, Some(bug)), None, false).findings.is_empty())
}

fn run_plan(plan: Plan, bug: Option<Bug>, trace: bool) -> Report {
    let (seed, about) = (plan.seed, plan.describe());
    if trace {
        println!("{about}");
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut cluster = Cluster::new(plan, Planted::new(bug), trace);
        cluster.bad_weather();
        let settled_after = cluster.fair_weather();
        (cluster.model.findings, cluster.met, cluster.steps, settled_after)
    }));
    match outcome {
        Ok((findings, situations, steps, settled_after)) => {
            Report { seed, about, findings, situations, steps, settled_after }
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            let (situations, steps, settled_after) = (Situations::default(), 0, Duration::ZERO);
            Report {
                seed,
                about,
                findings: vec![format!("panicked: {text}")],
                situations,
                steps,
                settled_after,
            }
        }
    }
}

impl Cluster {
    fn bad_weather(&mut self) {
        self.founds();
        // Mostly a cluster that has found together.
        for _ in 0..100 {
            if !self.is_recovering() || self.one_in(50) {
                break;
            }
            self.run_until(self.now + LOOK_EVERY);
        }
        for _ in 0..self.plan.acts {
            if !self.model.findings.is_empty() || self.steps > STEPS_MAX {
                return;
            }
            let draw = self.rng.random_range(0..1000);
            let recovering = self.is_recovering() && self.plan.targets_recovery && self.one_in(2);
            if draw < self.plan.changes {
                self.members_change();
            } else if draw < self.plan.changes + self.plan.faults || (recovering && self.plan.faults > 0) {
                self.fault();
            } else {
                self.user_acts();
            }
            let pause = self.within(self.plan.pause * 2);
            self.run_until(self.now + pause);
        }
    }

    fn members_change(&mut self) {
        let living = self.living();
        let away: Vec<usize> = (0..self.plan.nodes).filter(|node| !living.contains(node)).collect();
        if !away.is_empty() && (living.len() < 2 || self.one_in(2)) {
            let node = away[self.rng.random_range(0..away.len())];
            self.joins(node);
        } else if living.len() > 1 {
            let node = living[self.rng.random_range(0..living.len())];
            self.kills(node);
            if self.one_in(3) {
                self.joins(node);
            }
        }
    }

    fn fault(&mut self) {
        let links: Vec<u64> = self.links.keys().copied().collect();
        let forth = self.one_in(2);
        let direction = if forth { Direction::Forth } else { Direction::Back };
        let link = (!links.is_empty()).then(|| links[self.rng.random_range(0..links.len())]);
        let pair = (self.rng.random_range(0..self.plan.nodes), self.rng.random_range(0..self.plan.nodes));
        match (self.rng.random_range(0..12), link) {
            (0..=1, Some(link)) => {
                self.meet("connection cut");
                self.cuts(link);
            }
            (2..=4, Some(link)) => {
                let bytes = self.rng.random_range(1..600);
                if let Some(link) = self.links.get_mut(&link) {
                    link.cut_after(direction, bytes);
                }
            }
            (5..=6, Some(link)) => {
                self.meet("connection half-open");
                let both = self.one_in(2);
                self.falls_silent(link, both, forth);
            }
            (7, Some(link)) => {
                self.meet("connection held up");
                if let Some(link) = self.links.get_mut(&link) {
                    let passed = link.passed(direction);
                    link.hold_at(direction, Some(passed + 1));
                }
                let wait = self.within(Duration::from_millis(200));
                self.after(wait, super::cluster::Due::Resume(link, forth));
            }
            (8, _) if pair.0 != pair.1 => {
                if self.parted.len() < 3 {
                    self.parted.push(pair);
                    if self.one_in(2) {
                        self.meet("partition");
                        self.part(pair, true);
                    } else {
                        self.meet("one-way partition");
                        self.part(pair, false);
                    }
                } else {
                    self.parted.clear();
                }
            }
            (9, _) => {
                self.meet("clock jumped");
                let jump = self.within(Duration::from_secs(3));
                self.now += jump;
            }
            (10..=11, _) if pair.0 != pair.1 => {
                // Both at once, whoever has a connection.
                self.meet("both dial");
                for (from, to) in [pair, (pair.1, pair.0)] {
                    if self.nodes[from].life.as_ref().is_some_and(|life| life.sessions[&to].users() > 0) {
                        self.dials(from, to);
                    }
                }
            }
            (_, _) => self.parted.clear(),
        }
    }

    /// What there is between two nodes falls silent, one way or both.
    fn part(&mut self, (from, to): (usize, usize), both: bool) {
        let between: Vec<(u64, bool)> = self
            .links
            .iter()
            .filter_map(|(number, link)| {
                let (opener, acceptor) =
                    (link.sender(Direction::Forth).node, link.receiver(Direction::Forth).node);
                let forth = (opener, acceptor) == (from, to);
                (forth || (acceptor, opener) == (from, to)).then_some((*number, forth))
            })
            .collect();
        for (link, forth) in between {
            self.falls_silent(link, both, forth);
        }
    }

    // ------------------------------------------------------------------ fair weather

    /// The faults end. Who was told that he blocks gives up, then all do; in the end nothing may be left.
    fn fair_weather(&mut self) -> Duration {
        self.note(|| "---- fair weather".to_owned());
        let begin = self.now;
        self.fair = true;
        self.parted.clear();
        self.plan.piece_bytes_max = self.plan.piece_bytes_max.max(1460);
        self.plan.window_bytes = self.plan.window_bytes.max(3000);
        if self.plan.names > 0 && self.model.findings.is_empty() {
            self.settle_by(begin + BOUND, true);
        }
        if self.model.findings.is_empty() {
            self.model.findings.extend(self.model.stuck());
        }
        if self.model.findings.is_empty() {
            self.settle_by(self.now + BOUND, false);
        }
        let settled_after = self.now.saturating_since(begin);
        if self.model.findings.is_empty() {
            self.nothing_is_left();
        }
        let sessions: Vec<_> = self
            .nodes
            .iter_mut()
            .filter_map(|node| node.life.as_mut())
            .flat_map(|life| std::mem::take(&mut life.sessions))
            .collect();
        for (_, session) in &sessions {
            self.count(session);
        }
        settled_after
    }

    /// Runs until nothing moves any more. `told`: only those that were told that they block give up.
    fn settle_by(&mut self, end: outlast_session::Instant, told: bool) {
        let mut still_since = self.now;
        let mut last = (self.model.locks.len(), 0);
        loop {
            if !self.model.findings.is_empty() {
                return;
            }
            let keys: Vec<(usize, LockId)> = self
                .model
                .locks
                .iter()
                .filter(|(_, lock)| lock.op == Op::None && (!told || lock.told || !lock.wants_blocking))
                .map(|(key, _)| *key)
                .collect();
            for key in keys {
                self.unlocks(key, false);
            }
            self.run_until(self.now + LOOK_EVERY);
            let waiting = self.model.locks.values().filter(|lock| lock.op != Op::None).count();
            let busy = self.is_busy();
            if waiting == 0 && !busy && (told || self.model.locks.is_empty()) {
                return;
            }
            let state = (self.model.locks.len(), waiting);
            if state != last || busy {
                last = state;
                still_since = self.now;
            }
            if self.now.saturating_since(still_since) > STILL {
                let stuck = self.model.stuck();
                if !stuck.is_empty() {
                    self.model.findings.extend(stuck);
                    return;
                }
                // Conversions that wait for each other: one gives way.
                still_since = self.now;
                let waiter =
                    self.model.locks.iter().find(|(_, lock)| lock.op == Op::Convert && !lock.canceled);
                let Some(key) = waiter.map(|(key, _)| *key) else {
                    return self.wrong(format!("these wait for ever: {:?}", self.model.locks));
                };
                self.meet("conversions that wait for each other");
                self.cancels(key);
            }
            if self.now > end || self.steps >= STEPS_MAX {
                let what = format!(
                    "not settled in fair weather after {} steps: {}, locks {:?}",
                    self.steps,
                    self.why_busy().unwrap_or_default(),
                    self.model.locks
                );
                self.note(|| format!("{:#?}", self.links));
                return self.wrong(what);
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.why_busy().is_some()
    }

    fn why_busy(&self) -> Option<String> {
        if !self.membership.is_settled() {
            return Some("the membership changes".to_owned());
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(life) = &node.life else { continue };
            if life.recovering {
                return Some(format!("node {index} recovers"));
            }
            for (peer, session) in &life.sessions {
                let statistics = session.statistics();
                let there = self.nodes[*peer].life.is_some();
                if there && statistics.unacknowledged + statistics.waiting > 0 {
                    return Some(format!("node {index} has something for {peer}: {statistics:?}"));
                }
            }
        }
        None
    }

    /// Nobody has a lock, and nothing of one may be left anywhere; then the resources go, too.
    fn nothing_is_left(&mut self) {
        let mut found = Vec::new();
        for ([from, to], sent) in &self.ledger {
            let lives = |(node, life): &(usize, u32)| {
                self.nodes[*node].life.as_ref().is_some_and(|now| now.number == *life)
            };
            let there = lives(from) && lives(to);
            if there && !sent.is_empty() {
                found.push(format!("{to:?} never got from {from:?}: {sent:?}"));
            }
        }
        let views = |cluster: &Self| -> Vec<_> {
            let lives = cluster
                .nodes
                .iter()
                .enumerate()
                .filter_map(|(index, node)| Some((index, node.life.as_ref()?)));
            lives.flat_map(|(index, life)| life.machine.resources().map(move |view| (index, view))).collect()
        };
        for (node, view) in views(self).into_iter().filter(|(_, view)| !view.locks.is_empty()) {
            found.push(format!("left on node {node}: {view:?}"));
        }
        for (index, life) in self.nodes.iter().enumerate().filter_map(|(i, n)| Some((i, n.life.as_ref()?))) {
            if let Err(why) = life.machine.check() {
                found.push(format!("node {index}: {why}"));
            }
        }
        if found.is_empty() {
            self.run_until(self.now + self.plan.toss_after * 3 + Duration::from_secs(5));
            found.extend(
                views(self).into_iter().map(|(node, view)| format!("not forgotten by node {node}: {view:?}")),
            );
        }
        for what in found {
            self.wrong(what);
        }
    }
}
