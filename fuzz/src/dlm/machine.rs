//! A production machine whose users do anything, among members and strangers that say anything well-formed.

use super::{Known, some_flags, some_inner, some_mode, some_name};
use crate::input::Input;
use outlast_dlm::wire::{
    Inner, LockId, LockspaceId, Mode, Name, NodeId, Rcom, RcomBody, RecoveryStatus, StatusReply,
};
use outlast_lockspace::machine::{Config, Event, LockRequest, Machine, Member, Transmit, name_hash};
use outlast_session::Instant;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

const SPACE: LockspaceId = LockspaceId(9);
/// Nodes that say something: one of them is never a member.
const NODES: u32 = 5;
/// Steps of an input.
const STEPS_MAX: usize = 2000;
/// Messages that one step may lead to.
const MESSAGES_MAX: usize = 10_000;
/// What a member that lies can bring about without breaking a rule that this node could know of: it never answers, or says
/// that locks are granted which are not.
const LIES: [&str; 3] =
    ["nothing will ever become of it", "exclude each other", "waits though it could be granted"];
/// Numbers that a peer remembers.
const REMEMBERED_MAX: usize = 16;

struct Bench {
    machine: Machine,
    us: NodeId,
    now: Instant,
    own: BTreeSet<LockId>,
    /// Numbers of locks that were on the wire.
    locks: VecDeque<LockId>,
    /// Numbers of questions and recoveries that were on the wire.
    numbers: VecDeque<u64>,
    /// Questions that nobody has answered.
    asked: VecDeque<(NodeId, Rcom)>,
}

impl Known for Bench {
    fn lock(&self, input: &mut Input<'_>) -> LockId {
        match input.u8() {
            index @ 0..=150 if !self.locks.is_empty() => self.locks[usize::from(index) % self.locks.len()],
            index @ 151..=220 if !self.own.is_empty() => {
                self.own.iter().copied().nth(usize::from(index) % self.own.len()).unwrap_or_default()
            }
            221..=250 => LockId(u32::from(input.u8())),
            _ => LockId(input.u32()),
        }
    }

    fn number(&self, input: &mut Input<'_>) -> u64 {
        match input.u8() {
            index @ 0..=220 if !self.numbers.is_empty() => {
                self.numbers[self.numbers.len() - 1 - usize::from(index) % self.numbers.len()]
            }
            _ => u64::from(input.u16()),
        }
    }

    fn hash(&self, name: &Name, input: &mut Input<'_>) -> u32 {
        if input.u8() < 250 { name_hash(name.as_bytes()) } else { input.u32() }
    }
}

fn remember<T: PartialEq>(all: &mut VecDeque<T>, one: T) {
    if all.contains(&one) {
        return;
    }
    if all.len() >= REMEMBERED_MAX {
        all.pop_front();
    }
    all.push_back(one);
}

impl Bench {
    fn new(us: NodeId) -> Self {
        let config = Config { locks_max: 200, resources_max: 100, ..Config::new(us, SPACE) };
        Self {
            machine: Machine::new(config),
            us,
            now: Instant::from_nanos(1_000_000_000),
            own: BTreeSet::new(),
            locks: VecDeque::new(),
            numbers: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    fn drain(&mut self) {
        for _ in 0..MESSAGES_MAX {
            if let Some(event) = self.machine.poll_event() {
                if let Event::Completed { lock, .. } = event
                    && self.machine.lock_view(lock).is_none()
                {
                    self.own.remove(&lock);
                }
            } else if let Some(transmit) = self.machine.poll_transmit() {
                self.sent(transmit);
            } else {
                return;
            }
        }
        panic!("there is no end of messages");
    }

    fn sent(&mut self, Transmit { to, inner, .. }: Transmit) {
        assert_ne!(to, self.us, "a message to itself");
        match inner {
            Inner::Message(message) => {
                remember(&mut self.locks, message.lock);
                remember(&mut self.locks, message.remote_lock);
            }
            Inner::Rcom(rcom) => {
                remember(&mut self.numbers, rcom.id);
                remember(&mut self.numbers, rcom.sequence);
                if self.asked.len() >= 100 {
                    self.asked.pop_front();
                }
                self.asked.push_back((to, rcom));
            }
            Inner::Fin => panic!("a machine says no FIN"),
        }
    }

    /// Members answer what they are asked, as if they had nothing: so a recovery comes to its end.
    fn answer(&mut self, questions: usize) {
        for _ in 0..questions {
            let Some((from, rcom)) = self.asked.pop_front() else { return };
            let everything = RecoveryStatus(0xff).to_result();
            let (result, body) = match rcom.body {
                RcomBody::Status { .. } => (
                    everything,
                    RcomBody::StatusReply(StatusReply { value_block_bytes: 32, ..StatusReply::default() }),
                ),
                RcomBody::Names { .. } => (0, RcomBody::NamesReply { names: Vec::new(), complete: true }),
                RcomBody::Lookup { .. } => (from.0.cast_signed(), RcomBody::LookupReply),
                RcomBody::Lock(mut lock) => {
                    lock.remote_lock = LockId(lock.lock.0 ^ 0x55);
                    lock.value_block.clear();
                    (0, RcomBody::LockReply(lock))
                }
                RcomBody::StatusReply(_)
                | RcomBody::NamesReply { .. }
                | RcomBody::LookupReply
                | RcomBody::LockReply(_) => continue,
            };
            let answer = Rcom {
                lockspace: SPACE,
                result,
                id: rcom.id,
                sequence: 1,
                sequence_reply: rcom.sequence,
                body,
            };
            let _ = self.machine.handle_message(from, Inner::Rcom(answer), self.now);
            self.drain();
        }
    }

    fn start(&mut self, chosen: u8) {
        let members: Vec<Member> = (1..NODES)
            .filter(|node| NodeId(*node) == self.us || chosen & (1 << node) != 0)
            .map(|node| Member { node: NodeId(node), weight: 1, fresh: chosen & 0x80 != 0 && node == 3 })
            .collect();
        let _ = self.machine.handle_start(&members, self.now);
    }

    fn user(&mut self, operation: u8, input: &mut Input<'_>) {
        let lock = self.own.iter().copied().nth(usize::from(input.u8()) % self.own.len().max(1));
        let flags = some_flags(input);
        let mode = some_mode(input).unwrap_or(Mode::Null);
        let value = (input.u8() & 1 == 1).then(|| vec![operation; 32]);
        match (operation % 4, lock) {
            (0, _) | (_, None) => {
                let request = LockRequest {
                    name: some_name(input),
                    mode,
                    flags,
                    process: u32::from(input.u8()),
                    value,
                    wants_blocking: input.u8() & 1 == 0,
                };
                if let Ok(lock) = self.machine.lock(request, self.now) {
                    self.own.insert(lock);
                }
            }
            (1, Some(lock)) => drop(self.machine.convert(lock, mode, flags, value, self.now)),
            (2, Some(lock)) => drop(self.machine.unlock(lock, flags, value, self.now)),
            (_, Some(lock)) => drop(self.machine.cancel(lock, self.now)),
        }
    }
}

/// Users, peers, time and the membership, in any order.
pub fn dlm_machine(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let mut bench = Bench::new(NodeId(1 + u32::from(options & 3)));
    if options & 4 == 0 {
        // Without it few inputs would come so far that locking is in force.
        bench.start(options >> 1 | 2);
        bench.drain();
        bench.answer(100);
    }
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let operation = input.u8();
        match operation & 0x1f {
            0 => bench.machine.handle_stop(bench.now),
            1 => {
                let chosen = input.u8();
                bench.start(chosen);
            }
            2 => {
                bench.now += Duration::from_millis(1 << (input.u8() % 14));
                bench.machine.handle_timeout(bench.now);
            }
            3..=5 => bench.answer(usize::from(operation >> 5) + 1),
            6..=15 => bench.user(operation, &mut input),
            _ => {
                let from = NodeId(1 + u32::from(operation >> 5) % NODES);
                let inner = some_inner(SPACE, &bench, &mut input);
                let _ = bench.machine.handle_message(from, inner, bench.now);
            }
        }
        bench.drain();
        if let Err(why) = bench.machine.check()
            && !LIES.iter().any(|lie| why.contains(lie))
        {
            panic!("{why}");
        }
        bench.machine.handle_timeout(bench.now);
        bench.drain();
        assert!(bench.machine.poll_timeout().is_none_or(|next| next > bench.now), "a timer that runs hot");
    }
    assert!(bench.machine.resources().count() <= 100, "more resources than there may be");
}
