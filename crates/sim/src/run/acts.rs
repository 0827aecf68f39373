//! What the applications and the weather do in a run.

use super::{HOLD_STEPS_MAX, KIND_CALL, KIND_PLAIN, Line, Run, Sent, relay_of};
use crate::link::Direction;
use crate::scenario::Act;
use crate::watch::party;
use crate::world::{Hazards, ProcessId};
use outlast_msgr2::connection::State;
use rand::RngExt;
use std::time::Duration;

impl Run {
    pub(super) fn act(&mut self, act: Act) {
        self.note(|| format!("---- {act:?}"));
        match act {
            Act::Calm => {}
            Act::Send => self.send_some(1, KIND_PLAIN),
            Act::Burst => {
                let count = self.scenario.rng.random_range(2..20);
                self.send_some(count, KIND_PLAIN);
            }
            Act::Call => self.send_some(1, KIND_CALL),
            Act::Revoke => self.revoke(),
            Act::SlowDown => {
                let id = self.any_process();
                let process = self.world.process_mut(id);
                process.takes_messages = !process.takes_messages;
                self.world.drain(id);
            }
            Act::Open => {
                let line = self.any_line();
                self.open(line);
            }
            Act::Close => {
                let Some((process, session)) = self.any_session() else { return };
                let drain = Duration::from_millis(self.scenario.rng.random_range(1..3000));
                self.world.with_session(process, session, |s, now| s.close(now, drain));
            }
            Act::Abort => {
                let Some((process, session)) = self.any_session() else { return };
                self.world.with_session(process, session, |s, _| s.abort());
            }
            Act::Cut | Act::CutSoon | Act::Silence => self.harm_a_link(act),
            Act::Hazards => {
                let on = self.one_in(2);
                self.world.hazards = if on { self.scenario.hazards } else { Hazards::default() };
            }
            Act::Hold => self.hold(),
            Act::LetGo => self.let_go(),
            Act::Unreachable | Act::Blackhole => self.part(act),
            Act::Restart => self.restart(),
            Act::Jump => {
                let id = self.any_process();
                let millis = match self.scenario.rng.random_range(0..4) {
                    0 => self.scenario.rng.random_range(0..100),
                    1 | 2 => self.scenario.rng.random_range(0..30_000),
                    _ => self.scenario.rng.random_range(0..100_000_000),
                };
                self.world.process_mut(id).clock_ahead += Duration::from_millis(millis);
                self.meet("clock jumped");
            }
            Act::Roam => {
                if self.scenario.may_roam {
                    self.world.roaming = true;
                    self.meet("address changed");
                }
            }
            Act::Relay => {
                let line = self.any_line();
                let to = self.lines[line].to;
                self.world.routes.insert(relay_of(to), to);
                self.meet("through a relay");
            }
            Act::Busy => {
                if self.one_in(3) {
                    self.world.authorities_answer();
                } else {
                    let id = self.any_process();
                    self.world.busy_authorities.insert(id);
                    self.meet("authority busy");
                }
            }
        }
    }

    fn send_some(&mut self, count: u32, kind: u16) {
        let Some((process, session)) = self.any_session() else { return };
        for _ in 0..count {
            let len = self.payload_len();
            if self.send(process, session, kind, len) != Sent::Taken {
                return;
            }
        }
    }

    fn revoke(&mut self) {
        let Some((process, session)) = self.any_session() else { return };
        let who = party(process, self.world.process(process).incarnation, session);
        if self.scenario.payload_max > 30_000 && self.one_in(2) {
            // Large enough to be caught while it is written.
            for _ in 0..self.scenario.rng.random_range(1..4) {
                let len = self.scenario.rng.random_range(16_000..30_000);
                self.send(process, session, KIND_PLAIN, len);
            }
        }
        let open = self.watch().open_receipts(who);
        if open.is_empty() {
            return;
        }
        // The last ones are those that can still be caught.
        let first = open.len().saturating_sub(3);
        let id = open[self.scenario.rng.random_range(first..open.len())];
        let pending = self.world.session(process, session).outbox().pending_len();
        self.watch().revoke_asked(who, id);
        let caught = self.world.with_session(process, session, |s, _| {
            s.revoke(id);
            s.outbox().pending_len() < pending
        });
        if caught == Some(true) {
            self.meet("revoked before it had a number");
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "three acts come here")]
    fn harm_a_link(&mut self, act: Act) {
        let Some(id) = self.any_link() else { return };
        let rng = &mut self.scenario.rng;
        let direction = if rng.random() { Direction::Forth } else { Direction::Back };
        let bytes = rng.random_range(0..4000_u64);
        let which = rng.random_range(0..3);
        let Some(link) = self.world.links.get_mut(&id) else { return };
        match act {
            Act::CutSoon => link.cut_after(direction, bytes),
            Act::Silence => {
                if which != 0 {
                    link.silence(direction);
                }
                if which != 1 {
                    link.silence(direction.reverse());
                }
            }
            Act::Cut => self.world.cut(id),
            _ => unreachable!("{act:?} harms no link"),
        }
        self.meet(if act == Act::Silence { "link half-open" } else { "link cut" });
    }

    /// Holds up what a dialler has just said, if one is about to be answered; sometimes for longer than it waits.
    fn hold(&mut self) {
        let mut links = Vec::new();
        for _ in 0..HOLD_STEPS_MAX {
            let connections = self.world.processes.iter().flat_map(|p| p.connections.values());
            links = connections
                .filter(|a| a.connection.state() == State::SessionReconnecting)
                .map(|a| a.link)
                .collect();
            if !links.is_empty() || !self.step() {
                break;
            }
        }
        let direction = if links.is_empty() && self.one_in(2) { Direction::Back } else { Direction::Forth };
        let Some(id) = links.first().copied().or_else(|| self.any_link()) else { return };
        if let Some(link) = self.world.links.get_mut(&id) {
            let passed = link.passed(direction);
            link.hold_at(direction, Some(passed));
        }
        self.meet("link held up");
        if self.one_in(2) {
            let millis = self.scenario.rng.random_range(500..4000);
            self.run_for(Duration::from_millis(millis));
            self.let_go();
        }
    }

    pub(super) fn let_go(&mut self) {
        for link in self.world.links.values_mut() {
            link.hold_at(Direction::Forth, None);
            link.hold_at(Direction::Back, None);
        }
    }

    fn part(&mut self, act: Act) {
        let line = self.any_line();
        let Line { from, to, .. } = self.lines[line];
        let pair = if self.one_in(2) { (from, to) } else { (to, from) };
        let pairs =
            if act == Act::Blackhole { &mut self.world.blackholes } else { &mut self.world.unreachable };
        if pairs.contains(&pair) {
            pairs.retain(|p| *p != pair);
        } else {
            pairs.push(pair);
        }
    }

    fn restart(&mut self) {
        if self.scenario.mortal.is_empty() {
            return;
        }
        let index = self.scenario.rng.random_range(0..self.scenario.mortal.len());
        let id = ProcessId(self.scenario.mortal[index]);
        let keeps = self.world.process(id).config.keep_nonce;
        self.world.restart(id);
        self.looked[id.0] = 0;
        self.answers.retain(|(process, _)| *process != id);
        for line in self.lines.iter_mut().filter(|l| l.from == id) {
            line.session = None;
        }
        self.meet(if keeps {
            "process restarted with its nonce"
        } else {
            "process restarted with another nonce"
        });
        if self.one_in(2) {
            for line in 0..self.lines.len() {
                if self.lines[line].from == id {
                    self.open(line);
                }
            }
        }
    }
}
