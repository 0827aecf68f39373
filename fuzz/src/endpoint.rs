//! Two processes, the links between them, and a fuzzer that decides what happens when: it delivers, cuts, holds back
//! and changes bytes, lets time pass, and plays the applications.

use crate::input::Input;
use crate::process::{News, Process};
use crate::setup::{self, Choice, INBOUND_MESSAGES_MAX, Security, place};
use outlast_msgr2::compress::Algorithm;
use outlast_msgr2::{ChannelId, Matching, Message, Policy, SessionEvent, SessionId, Target};
use outlast_session::{MessageId, ReceiptStatus};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

const OPERATIONS_MAX: usize = 300;
/// Bytes on their way in one direction before its writer waits.
const WINDOW_BYTES: usize = 64 << 10;
/// Sessions that each application opens.
const SESSIONS_MAX: usize = 3;
/// Rounds of fair weather in which everything must have arrived: each lets a deadline pass.
const SETTLE_ROUNDS: usize = 400;
/// No operation opens more than a few; who never hears of an end keeps them until its clock says so.
const CONNECTIONS_MAX: usize = 4 * OPERATIONS_MAX;

/// One direction of a link.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// The writer is gone.
    ended: bool,
    /// The reader knows, or is gone.
    deaf: bool,
}

/// A link: who is at each end, and what is under way from there.
#[derive(Debug)]
struct Link {
    ends: [(usize, ChannelId); 2],
    pipes: [Pipe; 2],
}

/// A message, by who sent it and its place in that application's order of sending; it travels as transaction id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    process: usize,
    session: SessionId,
    serial: u32,
}

impl Name {
    fn to_tid(self) -> u64 {
        (self.process as u64) << 48 | (self.session.0 & 0xffff) << 32 | u64::from(self.serial)
    }

    const fn from_tid(tid: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the serial")]
        Self { process: (tid >> 48) as usize, session: SessionId(tid >> 32 & 0xffff), serial: tid as u32 }
    }
}

struct Sent {
    id: MessageId,
    priority: u8,
    payload: Vec<u8>,
}

/// The model: what was sent, what came, and in which order it must have come.
#[derive(Default)]
struct Model {
    sent: BTreeMap<Name, Sent>,
    /// By receiving session: per sending session and class, the latest that came.
    latest: BTreeMap<(usize, SessionId, usize, SessionId), BTreeMap<u8, u32>>,
    delivered: BTreeSet<Name>,
    delivered_to: BTreeSet<(usize, SessionId, Name)>,
    revoked: BTreeSet<Name>,
    /// Some session was closed, reset or replaced: what was in it may come again in the next one, or not at all.
    broken: bool,
}

impl Model {
    fn deliver(&mut self, process: usize, session: SessionId, message: &Message) {
        let name = Name::from_tid(message.tid);
        let sent = self.sent.get(&name).expect("nobody sent this");
        assert_eq!(message.data, sent.payload, "what came is what was sent");
        assert!(!self.revoked.contains(&name), "{name:?} was taken back and came");
        assert!(self.delivered_to.insert((process, session, name)), "{name:?} came twice");
        assert!(self.delivered.insert(name) || self.broken, "{name:?} came twice, in two sessions");
        let latest = self.latest.entry((process, session, name.process, name.session)).or_default();
        let overtaken = latest.range(..=sent.priority).any(|(_, serial)| *serial > name.serial);
        assert!(!overtaken, "{name:?} came after one that it must not follow");
        let known = latest.entry(sent.priority).or_insert(name.serial);
        *known = (*known).max(name.serial);
    }
}

struct World {
    processes: [Process; 2],
    links: Vec<Link>,
    takes: [bool; 2],
    opened: [usize; 2],
    model: Model,
    policies: [Policy; 2],
    matching: Matching,
    sent_recently: Vec<Name>,
}

/// Operations over two endpoints. Options: kind of session (bits 0 and 1), security (bits 2 and 3), matching (bit 4),
/// compression (bit 5), no msgr2.1 (bit 6); then operations.
pub fn endpoint(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let mut world = World::new(options);
    world.connect(0);
    let mut corrupted = false;
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        corrupted |= world.operate(&mut input);
        world.follow();
    }
    // A changed bit may have ended a session for good: the peer then is another one.
    let broken = world.model.broken || corrupted;
    world.settle(!broken);
}

impl World {
    fn new(options: u8) -> Self {
        let policies = match options & 3 {
            0 => [Policy::LOSSLESS_CLIENT, Policy::STATEFUL_SERVER],
            1 => [Policy::LOSSY_CLIENT, Policy::STATELESS_REGISTERED_SERVER],
            2 => [Policy::LOSSLESS_PEER, Policy::LOSSLESS_PEER],
            _ => [Policy::LOSSLESS_PEER_REUSE, Policy::LOSSLESS_PEER_REUSE],
        };
        let choice = Choice {
            security: [Security::None, Security::Secure, Security::Crc, Security::None]
                [usize::from(options >> 2 & 3)],
            revision_1: options & 0x40 == 0,
            matching: if options & 0x10 == 0 { Matching::Identity } else { Matching::Address },
            compression: (options & 0x20 != 0).then_some(Algorithm::Lz4),
        };
        let matching = choice.matching;
        let (dialler, number) = if policies[0].is_peer() { ("osd.1", 1) } else { ("client.a", 3) };
        let listens = (policies[0].is_peer() || matching == Matching::Address).then_some(number);
        Self {
            processes: [
                setup::process(dialler, listens, setup::session(policies[0], matching), choice),
                setup::process("osd.2", Some(2), setup::session(policies[1], matching), choice),
            ],
            links: Vec::new(),
            takes: [true; 2],
            opened: [0; 2],
            // Lossy sessions lose what was under way, and a peer without an identity is found by its address only.
            model: Model { broken: policies[0].lossy, ..Model::default() },
            policies,
            matching,
            sent_recently: Vec::new(),
        }
    }

    fn connect(&mut self, from: usize) {
        if self.opened[from] >= SESSIONS_MAX || self.policies[from].server {
            return;
        }
        // Equals have one session with each other; a second one would compete for its name.
        if self.policies[from].is_peer() && self.processes[from].sessions.values().any(|s| s.end().is_none())
        {
            return;
        }
        // Found by its address, a client has one session, too.
        if self.matching == Matching::Address && self.opened[from] > 0 {
            return;
        }
        self.opened[from] += 1;
        let other = &self.processes[1 - from].endpoint;
        let name = ["osd.1", "osd.2"][1 - from].parse().expect("a good name");
        let target = Target { addresses: other.addresses().clone(), entity_type: None, name: Some(name) };
        let config = setup::session(self.policies[from], self.matching);
        self.processes[from].connect(target, config);
        self.follow();
    }

    /// Does what the processes asked of the world, and looks at what happened in them.
    fn follow(&mut self) {
        for from in [0, 1] {
            for news in std::mem::take(&mut self.processes[from].news) {
                match news {
                    News::Dialled(channel, _) => {
                        let to = 1 - from;
                        let source = place(if from == 0 { 3 } else { 2 });
                        let accepted = self.processes[to].accept(source);
                        self.links.push(Link {
                            ends: [(from, channel), (to, accepted)],
                            pipes: [Pipe::default(), Pipe::default()],
                        });
                    }
                    News::Closed(channel) => {
                        for link in &mut self.links {
                            for end in [0, 1] {
                                if link.ends[end] == (from, channel) {
                                    link.pipes[end].ended = true;
                                    link.pipes[1 - end].deaf = true;
                                    link.pipes[1 - end].bytes.clear();
                                }
                            }
                        }
                    }
                }
            }
            for (session, message, taken) in std::mem::take(&mut self.processes[from].revocations) {
                if taken {
                    let revoked = self.model.sent.iter().find(|(name, sent)| {
                        name.process == from && name.session == session && sent.id == message
                    });
                    let name = *revoked.expect("what was taken back was sent").0;
                    assert!(!self.model.delivered.contains(&name), "{name:?} came and was taken back");
                    self.model.revoked.insert(name);
                }
            }
            for (_, event) in std::mem::take(&mut self.processes[from].events) {
                if matches!(event, SessionEvent::Reset { .. } | SessionEvent::Ended(_)) {
                    self.model.broken = true;
                }
            }
        }
        self.links.retain(|link| link.pipes.iter().any(|pipe| !pipe.deaf));
        for (process, takes) in self.processes.iter().zip(self.takes) {
            assert!(
                process.connections.len() <= CONNECTIONS_MAX,
                "{} connections",
                process.connections.len()
            );
            for session in process.sessions.values() {
                let waits = session.inbound_len();
                assert!(waits <= INBOUND_MESSAGES_MAX + 2, "{waits} messages wait, taken: {takes}");
            }
        }
    }

    /// Carries up to `len` bytes in one direction: out of its writer, into its reader.
    fn deliver(&mut self, index: usize, end: usize, len: usize) -> bool {
        let Some(link) = self.links.get_mut(index) else { return false };
        let (writer, writing) = link.ends[end];
        let (reader, reading) = link.ends[1 - end];
        let pipe = &mut link.pipes[end];
        let mut moved = false;
        if !pipe.ended {
            let room = WINDOW_BYTES.saturating_sub(pipe.bytes.len()).min(len);
            let written = self.processes[writer].take_out(writing, room);
            moved |= !written.is_empty();
            // It may have ended itself by what it wrote last.
            if let Some(link) = self.links.get_mut(index) {
                link.pipes[end].bytes.extend(written);
            }
        }
        let Some(pipe) = self.links.get_mut(index).map(|link| &mut link.pipes[end]) else { return moved };
        if pipe.deaf {
            return moved;
        }
        let piece: Vec<u8> = pipe.bytes.iter().copied().take(len).collect();
        if piece.is_empty() && pipe.ended {
            pipe.deaf = true;
            self.processes[reader].end(reading);
            self.follow();
            return true;
        }
        let read = self.processes[reader].feed(reading, &piece);
        if let Some(link) = self.links.get_mut(index) {
            let pipe = &mut link.pipes[end];
            pipe.bytes.drain(..read.min(pipe.bytes.len()));
        }
        moved |= read > 0;
        self.follow();
        moved
    }

    /// Everything that is under way arrives.
    fn deliver_all(&mut self) {
        for _ in 0..10_000 {
            let mut moved = false;
            for index in 0..self.links.len() {
                for end in [0, 1] {
                    moved |= self.deliver(index, end, WINDOW_BYTES);
                }
            }
            for process in [0, 1] {
                moved |= self.takes[process] && self.take(process);
            }
            if !moved {
                return;
            }
        }
        panic!("two processes that talk for ever");
    }

    /// The application takes what is there.
    fn take(&mut self, process: usize) -> bool {
        let mut any = false;
        for (id, session) in &mut self.processes[process].sessions {
            while let Some(received) = session.poll_message() {
                self.model.deliver(process, *id, &received.message);
                any = true;
            }
        }
        self.processes[process].drain();
        self.follow();
        any
    }

    fn cut(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index) else { return };
        for pipe in &mut link.pipes {
            pipe.bytes.clear();
            pipe.ended = true;
            pipe.deaf = true;
        }
        for (process, channel) in link.ends {
            self.processes[process].end(channel);
        }
        self.follow();
    }

    fn send(&mut self, process: usize, choice: u8, len: usize) {
        let sessions: Vec<_> = self.processes[process].sessions.keys().copied().collect();
        let Some(id) = sessions.get(usize::from(choice) % sessions.len().max(1)).copied() else { return };
        let serial = u32::try_from(self.model.sent.len()).expect("a few hundred");
        let name = Name { process, session: id, serial };
        let priority = [127, 127, 196, 64][usize::from(choice >> 6)];
        #[expect(clippy::cast_possible_truncation, reason = "a pattern")]
        let payload: Vec<u8> = (0..len).map(|at| (at as u8) ^ (serial as u8)).collect();
        let message = Message::new(1).priority(priority).tid(name.to_tid()).data(payload.clone());
        let now = self.processes[process].now;
        let session = self.processes[process].sessions.get_mut(&id).expect("it was listed");
        if let Ok(message) = session.send(message, now) {
            self.model.sent.insert(name, Sent { id: message, priority, payload });
            self.sent_recently.push(name);
        }
        self.processes[process].drain();
        self.follow();
    }

    /// One operation. Whether it changed bytes.
    fn operate(&mut self, input: &mut Input<'_>) -> bool {
        let operation = input.u8();
        let process = usize::from(operation >> 7);
        match operation & 0x1f {
            0..=7 => {
                let (link, len) = (usize::from(input.u8()), usize::from(input.u8()));
                let link = link % self.links.len().max(1);
                self.deliver(link, process, len << (operation & 7));
            }
            8 => self.deliver_all(),
            9 | 10 => {
                let link = usize::from(input.u8()) % self.links.len().max(1);
                self.cut(link);
            }
            11 | 12 => {
                let span = Duration::from_micros(1 << (input.u8() % 26));
                for process in &mut self.processes {
                    let now = process.now + span;
                    process.time_out(now);
                }
                self.follow();
            }
            13 => {
                // The next deadline of one of them.
                if let Some(at) = self.processes[process].next_timeout() {
                    self.processes[process].time_out(at);
                    self.follow();
                }
            }
            14..=18 => {
                let (choice, len) = (input.u8(), usize::from(input.u16()));
                self.send(process, choice, len);
            }
            19 | 20 => {
                let back = usize::from(input.u8()) % self.sent_recently.len().max(1);
                let Some(name) = self.sent_recently.iter().rev().nth(back).copied() else { return false };
                let id = self.model.sent[&name].id;
                if let Some(session) = self.processes[name.process].sessions.get_mut(&name.session) {
                    session.revoke(id);
                }
                self.processes[name.process].drain();
                self.follow();
            }
            21 => drop(self.take(process)),
            22 => self.takes[process] = !self.takes[process],
            23 => self.connect(process),
            24 | 25 => {
                let choice = usize::from(input.u8());
                let now = self.processes[process].now;
                if let Some(session) = self.processes[process].sessions.values_mut().rev().nth(choice & 3) {
                    self.model.broken = true;
                    if operation & 0x1f == 24 {
                        session.close(now, Duration::from_secs(5));
                    } else {
                        session.abort();
                    }
                }
                self.processes[process].drain();
                self.follow();
            }
            26 => {
                // One end learns that the link is gone, the other does not: half-open.
                let index = usize::from(input.u8()) % self.links.len().max(1);
                if let Some(link) = self.links.get_mut(index) {
                    let (owner, channel) = link.ends[process];
                    link.pipes[1 - process].deaf = true;
                    link.pipes[1 - process].bytes.clear();
                    self.processes[owner].end(channel);
                    self.follow();
                }
            }
            27 => {
                let (index, at, bit) = (usize::from(input.u8()), usize::from(input.u16()), input.u8() & 7);
                let index = index % self.links.len().max(1);
                if let Some(link) = self.links.get_mut(index) {
                    let pipe = &mut link.pipes[process].bytes;
                    let at = at % pipe.len().max(1);
                    if let Some(byte) = pipe.get_mut(at) {
                        *byte ^= 1 << bit;
                        return true;
                    }
                }
            }
            _ => {
                let len = usize::from(input.u8());
                for index in 0..self.links.len() {
                    self.deliver(index, process, len);
                }
            }
        }
        false
    }

    /// The weather turns fair: what nobody ended must all arrive, and every receipt must be true.
    fn settle(&mut self, must_arrive: bool) {
        self.takes = [true; 2];
        for _ in 0..SETTLE_ROUNDS {
            self.deliver_all();
            if self.is_settled() {
                break;
            }
            let next = self.processes.iter().filter_map(Process::next_timeout).min();
            let Some(next) = next else { break };
            for process in &mut self.processes {
                process.time_out(next);
            }
            self.follow();
        }
        for process in [0, 1] {
            self.take(process);
        }
        for (name, sent) in &self.model.sent {
            let session = &self.processes[name.process].sessions[&name.session];
            let status = session.status(sent.id);
            let delivered = self.model.delivered.contains(name);
            match status {
                ReceiptStatus::Acknowledged => assert!(delivered, "{name:?} has a receipt and never came"),
                ReceiptStatus::Revoked => assert!(!delivered, "{name:?} was taken back and came"),
                _ => {}
            }
            if must_arrive && !self.model.broken {
                assert!(delivered || status == ReceiptStatus::Revoked, "{name:?} never came: {status:?}");
                assert!(status.is_final(), "{name:?} has no receipt: {status:?}");
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.processes.iter().all(|process| {
            process.sessions.values().all(|session| session.end().is_some() || session.outbox().is_empty())
        })
    }
}
