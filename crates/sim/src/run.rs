//! One seed, from bad weather to fair: the story that [`Scenario`] drew, and what the checker says of it.

mod acts;

use crate::bugs::{Bug, Planted};
use crate::checker::{Finding, check};
use crate::history::{Bounds, Event};
use crate::link::LinkId;
use crate::scenario::Scenario;
use crate::situations::Situations;
use crate::watch::{Watch, party};
use crate::world::{Hazards, ProcessId, Weather, World};
use bytes::Bytes;
use outlast_msgr2::message::priority;
use outlast_msgr2::wire::EntityAddr;
use outlast_msgr2::{Message, SendError, Session, SessionId, SessionState, Target};
use rand::RngExt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::time::Duration;

/// Kinds of message.
const KIND_PLAIN: u16 = 1;
const KIND_CALL: u16 = 2;
const KIND_REPLY: u16 = 3;

/// Steps in which time must have gone on.
const STEPS_AT_ONE_TIME_MAX: u64 = 60_000;
/// Steps for which a fault waits for its moment.
const HOLD_STEPS_MAX: u32 = 300;
/// Steps in which a run must be over.
const STEPS_MAX: u64 = 6_000_000;

/// Payloads are views of this.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 1_u32;
    (0..PATTERN_BYTES)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Runs of equal bytes: something for the compressors.
            (state >> 28) as u8
        })
        .collect()
});
const PATTERN_BYTES: usize = 256 << 10;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its number.
    pub seed: u64,
    /// One line about it.
    pub about: String,
    /// What is wrong; empty: nothing.
    pub findings: Vec<Finding>,
    /// What was met.
    pub situations: Situations,
    /// Things that happened.
    pub steps: u64,
    /// World time from fair weather until everything was settled.
    pub settled_after: Duration,
    /// Messages sent.
    pub messages: usize,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, bug: Option<Bug>, trace: bool) -> Report {
    run_scenario(Scenario::draw(seed, bug), bug, trace)
}

/// Runs the scenario that would be drawn for a bug, without the bug: what is found then is no proof of it.
#[must_use]
pub fn run_without(seed: u64, bug: Bug) -> Report {
    run_scenario(Scenario::draw(seed, Some(bug)), None, false)
}

fn run_scenario(scenario: Scenario, bug: Option<Bug>, trace: bool) -> Report {
    let seed = scenario.seed;
    let about = scenario.describe();
    if trace {
        println!("{about}");
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| Run::new(scenario, bug, trace).finish()));
    match outcome {
        Ok(report) => Report { about, ..report },
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default();
            Report {
                seed,
                about,
                findings: vec![Finding::Panicked(message)],
                situations: Situations::default(),
                steps: 0,
                settled_after: Duration::ZERO,
                messages: 0,
            }
        }
    }
}

/// Somebody's wish for a session with somebody else.
struct Line {
    from: ProcessId,
    to: ProcessId,
    session: Option<SessionId>,
}

struct Run {
    world: World,
    scenario: Scenario,
    lines: Vec<Line>,
    /// Deliveries that each application has looked at.
    looked: Vec<usize>,
    /// Answers that found no room yet.
    answers: Vec<(ProcessId, SessionId)>,
    payload_left: usize,
    messages: usize,
    still_since: (u64, outlast_session::Instant),
    livelock: bool,
}

impl Run {
    fn new(scenario: Scenario, bug: Option<Bug>, trace: bool) -> Self {
        let mut world = World::new(scenario.seed);
        world.weather = scenario.weather;
        world.planted = bug.map(Planted::new).or_else(|| scenario.sloppy.then(|| Planted::sloppy(true)));
        let inbound = scenario.opened.inbound;
        // A message is admitted by its length on the wire: one may turn out to be longer.
        let unpacked = if scenario.compressed { scenario.payload_max } else { 0 };
        let bytes_max = inbound.bytes_max.saturating_add(unpacked);
        let inbound = Bounds { messages_max: inbound.messages_max, bytes_max };
        let lossy = scenario.shape.is_lossy();
        world.watch = Some(Box::new(Watch::new(lossy, inbound, scenario.unwritten_max(), trace)));
        for config in &scenario.processes {
            world.start(config.clone());
        }
        let lines = scenario
            .lines
            .iter()
            .map(|(from, to)| Line { from: ProcessId(*from), to: ProcessId(*to), session: None })
            .collect();
        Self {
            looked: vec![0; scenario.processes.len()],
            payload_left: scenario.payload_sum_max,
            lines,
            answers: Vec::new(),
            messages: 0,
            still_since: (0, world.now),
            livelock: false,
            world,
            scenario,
        }
    }

    fn watch(&mut self) -> &mut Watch {
        self.world.watch.as_mut().expect("put there at the start")
    }

    fn meet(&mut self, what: &str) {
        self.watch().situations.meet(what);
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        self.watch().note(what);
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.scenario.rng.random_range(0..n) == 0
    }

    // ------------------------------------------------------------------ time

    /// One step, and what applications do about it. False: nothing will ever happen, or time stands still.
    fn step(&mut self) -> bool {
        if self.livelock || !self.world.step() {
            return false;
        }
        let (steps, at) = self.still_since;
        if self.world.now != at {
            self.still_since = (self.world.steps(), self.world.now);
        } else if self.world.steps() - steps > STEPS_AT_ONE_TIME_MAX {
            self.livelock = true;
        }
        if self.world.steps() > STEPS_MAX {
            self.livelock = true;
        }
        self.answer();
        true
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.world.now + span;
        while self.world.next_time().is_some_and(|t| t <= end) {
            if !self.step() {
                break;
            }
        }
        self.world.set_now(end);
    }

    /// Runs until nothing is pending, at most for `limit`.
    fn settle(&mut self, limit: Duration) -> bool {
        let end = self.world.now + limit;
        loop {
            if self.watch().is_settled() && self.answers.is_empty() {
                return true;
            }
            if self.world.now > end || !self.step() {
                return false;
            }
        }
    }

    /// Applications answer calls, if there is room.
    fn answer(&mut self) {
        for index in 0..self.looked.len() {
            let process = &self.world.processes[index];
            while let Some((session, received)) = process.delivered.get(self.looked[index]) {
                self.looked[index] += 1;
                if received.message.kind == KIND_CALL {
                    self.answers.push((ProcessId(index), *session));
                }
            }
        }
        let waiting = std::mem::take(&mut self.answers);
        for (process, session) in waiting {
            if self.send(process, session, KIND_REPLY, 20) == Sent::Full {
                self.answers.push((process, session));
            }
        }
    }

    // ------------------------------------------------------------------ what applications do

    fn send(&mut self, from: ProcessId, session: SessionId, kind: u16, len: usize) -> Sent {
        let who = party(from, self.world.process(from).incarnation, session);
        let name = self.watch().next_name(who);
        let rng = &mut self.scenario.rng;
        let class = match rng.random_range(0..10) {
            0 => priority::LOW,
            1 => priority::HIGH,
            2 => priority::HIGHEST,
            _ => priority::DEFAULT,
        };
        let mut part = |len: usize| {
            let start = rng.random_range(0..=PATTERN_BYTES - len);
            PATTERN.slice(start..start + len)
        };
        let front = len.min(64);
        let middle = if len > 200 { (len - front) / 4 } else { 0 };
        let message = Message::new(kind)
            .tid(name.to_tid())
            .priority(class)
            .front(part(front))
            .middle(part(middle))
            .data(part(len - front - middle));
        // Clones are cheap: the parts are shared.
        match self.world.send(from, session, message.clone()) {
            Ok(id) => {
                self.watch().sent(name, id, &message);
                self.messages += 1;
                Sent::Taken
            }
            Err(SendError::Full(_)) => {
                self.watch().take_back_name(name);
                self.meet("queue full");
                Sent::Full
            }
            Err(SendError::Closed(_) | SendError::TooLarge(_)) => {
                self.watch().take_back_name(name);
                Sent::Closed
            }
        }
    }

    fn payload_len(&mut self) -> usize {
        let max = self.scenario.payload_max;
        let rng = &mut self.scenario.rng;
        let len = match rng.random_range(0..10) {
            0 => 0,
            1..=6 => rng.random_range(0..=max.min(200)),
            7 | 8 => rng.random_range(0..=max / 8),
            _ => rng.random_range(0..=max),
        };
        let len = len.min(self.payload_left);
        self.payload_left -= len;
        len
    }

    fn any_session(&mut self) -> Option<(ProcessId, SessionId)> {
        let mut all = Vec::new();
        for index in 0..self.world.processes.len() {
            let id = ProcessId(index);
            all.extend(self.world.live_sessions(id).into_iter().map(|s| (id, s)));
        }
        (!all.is_empty()).then(|| all[self.scenario.rng.random_range(0..all.len())])
    }

    fn any_link(&mut self) -> Option<LinkId> {
        let all: Vec<_> = self.world.links.keys().copied().collect();
        (!all.is_empty()).then(|| all[self.scenario.rng.random_range(0..all.len())])
    }

    fn any_process(&mut self) -> ProcessId {
        ProcessId(self.scenario.rng.random_range(0..self.world.processes.len()))
    }

    fn any_line(&mut self) -> usize {
        self.scenario.rng.random_range(0..self.lines.len())
    }

    /// Whether a session is with this process as it is now.
    fn is_with(&self, session: &Session, with: ProcessId) -> bool {
        let address = self.world.process(with).address();
        let named = self.scenario.shape.is_by_identity();
        let name = self.world.process(with).name();
        let by_name = named && session.peer().name.as_ref() == Some(name);
        let known = session.peer().addresses.contains(&address);
        known || by_name || session.target().is_some_and(|t| t.addresses.contains(&address))
    }

    /// Opens a session where a line has none. Equals use the one that the other opened.
    fn open(&mut self, line: usize) {
        let Line { from, to, session } = self.lines[line];
        let alive = |id| self.world.process(from).sessions.get(&id).is_some_and(|s| s.end().is_none());
        if session.is_some_and(alive) {
            return;
        }
        let existing = self.scenario.shape.is_peers().then(|| {
            let mut sessions = self.world.process(from).sessions.values();
            sessions.find(|s| s.end().is_none() && self.is_with(s, to)).map(Session::id)
        });
        let session = existing.flatten().unwrap_or_else(|| {
            let config = self.scenario.opened.clone();
            let target = Target {
                addresses: self.way_to(to).into(),
                entity_type: None,
                name: self.scenario.shape.is_by_identity().then(|| self.world.process(to).name().clone()),
            };
            self.world.connect_to(from, target, config)
        });
        self.lines[line].session = Some(session);
    }

    /// The address of a process: sometimes that of a relay, where that is allowed.
    fn way_to(&self, to: ProcessId) -> EntityAddr {
        let relay = relay_of(to);
        if self.world.routes.contains_key(&relay) {
            return EntityAddr::msgr2(relay, self.world.process(to).endpoint.nonce());
        }
        self.world.process(to).address()
    }

    // ------------------------------------------------------------------ bad weather

    fn finish(mut self) -> Report {
        if self.one_in(2) {
            self.part_for_good();
        }
        for line in 0..self.lines.len() {
            if !self.one_in(4) {
                self.open(line);
            }
        }
        for _ in 0..self.scenario.acts {
            let act = self.scenario.next_act();
            self.act(act);
            self.world.look();
            let pause = self.scenario.pause.mul_f64(self.scenario.rng.random::<f64>() * 2.0);
            self.run_for(pause);
            if self.livelock {
                break;
            }
        }
        self.fair_weather();
        self.judge()
    }

    // ------------------------------------------------------------------ fair weather

    fn part_for_good(&mut self) {
        let Some((from, to)) = self.scenario.one_way else { return };
        let pair = (ProcessId(from), ProcessId(to));
        if self.one_in(2) { self.world.blackholes.push(pair) } else { self.world.unreachable.push(pair) }
    }

    fn fair_weather(&mut self) {
        self.note(|| "---- fair weather".to_owned());
        self.world.unreachable.clear();
        self.world.blackholes.clear();
        self.part_for_good();
        self.world.hazards = Hazards::default();
        self.let_go();
        let weather = self.world.weather;
        self.world.weather = Weather {
            delay: (
                weather.delay.0.min(Duration::from_millis(1)),
                weather.delay.1.min(Duration::from_millis(3)),
            ),
            piece_bytes_max: weather.piece_bytes_max.max(4096),
            window_bytes: weather.window_bytes.max(16 << 10),
        };
        self.world.authorities_answer();
        for index in 0..self.world.processes.len() {
            self.world.processes[index].takes_messages = true;
            self.world.drain(ProcessId(index));
        }
        for line in 0..self.lines.len() {
            self.open(line);
        }
        self.world.look();
    }

    fn judge(mut self) -> Report {
        let begin = self.world.now;
        let bound = self.scenario.bound;
        if self.scenario.one_way.is_some() {
            // The end that can dial does so only if it has something to say.
            self.last_words();
            self.meet("one-way partition that lasts");
        }
        let mut settled = self.settle(bound);
        let settled_after = self.world.now.saturating_since(begin);
        if settled {
            // Settled is not yet usable: a last word over every line and back.
            self.last_words();
            settled = self.settle(bound);
        }
        if self.scenario.shape.is_lossy() && !self.livelock {
            // Nothing says when a lossy session is done; silence must have been noticed by now.
            self.run_for(bound);
        }
        self.note(|| format!("settled: {settled}"));
        self.between();
        self.watch().record(Event::Settled);
        let mut findings = check(&self.watch().history);
        if self.livelock {
            findings.insert(0, Finding::Livelock);
        } else if findings.is_empty() {
            findings.extend(self.left_behind());
        }
        for process in &self.world.processes {
            let watch = self.world.watch.as_mut().expect("put there at the start");
            for session in process.sessions.values() {
                watch.situations.count(&session.counters());
            }
        }
        Report {
            seed: self.scenario.seed,
            about: String::new(),
            findings,
            situations: self.watch().situations.clone(),
            steps: self.world.steps(),
            settled_after,
            messages: self.messages,
        }
    }

    fn last_words(&mut self) {
        for line in 0..self.lines.len() {
            self.open(line);
        }
        self.run_for(Duration::from_secs(1));
        for index in 0..self.world.processes.len() {
            let id = ProcessId(index);
            for session in self.world.live_sessions(id) {
                self.send(id, session, KIND_PLAIN, 10);
            }
        }
    }

    /// Two equals have at most one session with each other that is in use.
    fn between(&mut self) {
        if !self.scenario.shape.is_peers() {
            return;
        }
        for process in 0..self.world.processes.len() {
            for peer in (0..self.world.processes.len()).filter(|p| *p != process) {
                let sessions = self.world.processes[process].sessions.values();
                let ready = |s: &&Session| matches!(s.state(), SessionState::Ready { .. });
                let live = sessions.filter(ready).filter(|s| self.is_with(s, ProcessId(peer))).count();
                self.watch().record(Event::Between { process, peer, live });
            }
        }
    }

    /// The table of sessions holds those that live, and no other.
    fn left_behind(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (index, process) in self.world.processes.iter().enumerate() {
            let live = self.world.live_sessions(ProcessId(index)).len();
            let known = process.endpoint.sessions();
            if live != known {
                findings.push(Finding::LeftBehind { process: index, live, known });
            }
        }
        findings
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Taken,
    Full,
    Closed,
}

fn relay_of(process: ProcessId) -> SocketAddr {
    SocketAddr::from(([10, 9, 9, u8::try_from(process.0).unwrap_or(0)], 7000))
}

/// A bug, and the first of some seeds that finds it and finds nothing without it.
#[must_use]
pub fn find(bug: Bug, from: u64, seeds: u64) -> Option<Report> {
    (from..from + seeds)
        .map(|seed| run(seed, Some(bug), false))
        .filter(|report| !report.findings.is_empty())
        .find(|report| run_without(report.seed, bug).findings.is_empty())
}
