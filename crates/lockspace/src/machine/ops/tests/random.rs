//! Random operations, delivered in any order that the links allow: no two nodes hold what excludes each other, everything
//! is answered, and nothing is left behind.

use super::*;

const SEEDS: u64 = 300;
const STEPS: usize = 400;

/// A small generator of numbers (xorshift*), so that a run is one number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % end
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// What a user believes of a lock.
#[derive(Debug)]
struct Belief {
    node: u32,
    name: Name,
    lock: LockId,
    /// Held for certain, until it is given up or converted by this user.
    mode: Option<Mode>,
    busy: bool,
    /// Given up by the user: what is granted yet is not held for long.
    leaving: bool,
}

struct Run {
    net: Net,
    dice: Dice,
    names: Vec<Name>,
    locks: Vec<Belief>,
    granted: usize,
    waited: usize,
    canceled: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let nodes = 2 + dice.below(3);
        let net = Net::new(u32::try_from(nodes).expect("few"));
        let names = (1..=nodes).map(|node| net.name_at(u32::try_from(node).expect("few"))).collect();
        Self { net, dice, names, locks: Vec::new(), granted: 0, waited: 0, canceled: 0 }
    }

    fn flags(&mut self, convert: bool) -> LockFlags {
        let mut flags = LockFlags::NONE;
        let always =
            [LockFlags::NO_QUEUE, LockFlags::NO_ORDER, LockFlags::HEAD_OF_QUEUE, LockFlags::VALUE_BLOCK];
        for flag in always {
            if self.dice.one_in(6) {
                flags |= flag;
            }
        }
        if convert && self.dice.one_in(4) && !flags.contains(LockFlags::NO_QUEUE) {
            flags |= LockFlags::CONVERSION_DEADLOCK;
        }
        flags
    }

    fn step(&mut self) {
        let now = self.net.now;
        let nodes = self.net.machines.len();
        match self.dice.below(10) {
            0 | 1 if self.locks.len() < 12 => {
                let node = u32::try_from(1 + self.dice.below(nodes)).expect("few");
                let name = self.names[self.dice.below(self.names.len())];
                let mode = Mode::ALL[self.dice.below(6)];
                let flags = self.flags(false);
                let lock = self.net.request(node, name, mode, flags).expect("a request");
                self.locks.push(Belief { node, name, lock, mode: None, busy: true, leaving: false });
            }
            2 | 3 if !self.locks.is_empty() => {
                let at = self.dice.below(self.locks.len());
                let (mode, flags) = (Mode::ALL[self.dice.below(6)], self.flags(true));
                let belief = &mut self.locks[at];
                let asked = self.net.at(belief.node).convert(belief.lock, mode, flags, None, now);
                if asked.is_ok() {
                    // Until it is answered, the weaker of the two is what surely excludes others; demoted, not even that.
                    belief.mode = None;
                    belief.busy = true;
                } else {
                    // A cancel may be under way that came too late.
                    assert_eq!(asked, Err(UserError::Busy(belief.lock)));
                }
            }
            4 if !self.locks.is_empty() => {
                let at = self.dice.below(self.locks.len());
                let force = self.dice.one_in(2);
                let flags = if force { LockFlags::FORCE_UNLOCK } else { LockFlags::NONE };
                let belief = &mut self.locks[at];
                let asked = self.net.at(belief.node).unlock(belief.lock, flags, None, now);
                if asked.is_ok() {
                    *belief = Belief { mode: None, busy: true, leaving: true, ..*belief };
                }
            }
            5 if !self.locks.is_empty() => {
                let at = self.dice.below(self.locks.len());
                let belief = &self.locks[at];
                // It may be over, and this node's last word about it still under way to its user.
                let _ = self.net.at(belief.node).cancel(belief.lock, now);
            }
            6 if self.dice.one_in(5) => {
                self.net.now += crate::machine::limits::TOSS_AFTER;
                let now = self.net.now;
                for machine in self.net.machines.values_mut() {
                    machine.handle_timeout(now);
                }
            }
            _ => self.deliver_one(),
        }
        self.take_events();
    }

    fn deliver_one(&mut self) {
        self.net.collect();
        let links: Vec<(u32, u32)> =
            self.net.links.iter().filter(|(_, queue)| !queue.is_empty()).map(|(link, _)| *link).collect();
        if !links.is_empty() {
            let (from, to) = links[self.dice.below(links.len())];
            self.net.deliver(from, to);
        }
    }

    fn take_events(&mut self) {
        self.net.collect();
        for (node, events) in core::mem::take(&mut self.net.events) {
            for event in events {
                let Event::Completed { lock, outcome } = event else { continue };
                let at = self.locks.iter().position(|belief| (belief.node, belief.lock) == (node, lock));
                let at =
                    at.unwrap_or_else(|| panic!("node {node}, lock {lock}: {outcome:?} after it was over"));
                let over = self.net.at(node).lock_view(lock).is_none_or(|view| view.queue.is_none());
                let view = self.net.at(node).lock_view(lock);
                let belief = &mut self.locks[at];
                match outcome {
                    Outcome::Granted { mode, .. } => {
                        self.granted += 1;
                        let still =
                            view.is_some_and(|view| view.granted == Some(mode) && view.waits_for.is_none());
                        belief.mode = (still && !belief.leaving).then_some(mode);
                        belief.busy = false;
                    }
                    Outcome::Unlocked => {
                        self.locks.remove(at);
                    }
                    Outcome::Canceled => {
                        self.canceled += 1;
                        belief.busy = false;
                        if over {
                            self.locks.remove(at);
                        }
                    }
                    Outcome::WouldBlock => {
                        belief.busy = false;
                        if over {
                            self.locks.remove(at);
                        }
                    }
                    Outcome::Deadlock => belief.busy = false,
                    Outcome::Failed(error) => panic!("node {node}, lock {lock}: failed with {error}"),
                }
            }
        }
        self.check_exclusion();
    }

    fn check_exclusion(&mut self) {
        for (at, one) in self.locks.iter().enumerate() {
            for other in self.locks.iter().skip(at + 1).filter(|other| other.name == one.name) {
                if let (Some(mode), Some(others)) = (one.mode, other.mode) {
                    assert!(compatible(mode, others), "{one:?} and {other:?} exclude each other");
                }
            }
        }
        self.waited += self.locks.iter().filter(|belief| belief.busy).count();
    }

    /// Lets everything come to its end, and gives up everything.
    fn finish(&mut self) {
        for _ in 0..100 {
            for _ in 0..DELIVERIES_MAX {
                self.deliver_one();
                self.take_events();
                if self.net.links.values().all(VecDeque::is_empty) {
                    break;
                }
            }
            if self.locks.is_empty() {
                break;
            }
            let now = self.net.now;
            let locks: Vec<_> = self.locks.iter().map(|belief| (belief.node, belief.lock)).collect();
            for (node, lock) in locks {
                // Refused if it was over already.
                let _ = self.net.at(node).unlock(lock, LockFlags::FORCE_UNLOCK, None, now);
                self.take_events();
            }
        }
        assert!(self.locks.is_empty(), "never answered: {:?}", self.locks);
        for (node, machine) in &self.net.machines {
            assert_eq!(machine.table.lock_count(), 0, "locks are left at node {node}");
        }
        for _ in 0..3 {
            self.net.now += crate::machine::limits::TOSS_AFTER;
            let now = self.net.now;
            for machine in self.net.machines.values_mut() {
                machine.handle_timeout(now);
            }
            self.net.settle();
        }
        for (node, machine) in &self.net.machines {
            let left: Vec<_> = machine.resources().collect();
            assert!(left.is_empty(), "node {node} keeps {left:?}");
        }
    }
}

#[test]
fn random_operations_never_break_exclusion_and_all_are_answered() {
    let (mut granted, mut waited, mut canceled, mut again) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
        }
        run.finish();
        granted += run.granted;
        waited += run.waited;
        canceled += run.canceled;
        again += run.net.machines.values().map(|machine| machine.statistics().lookups_again).sum::<u64>();
    }
    assert!(
        granted > 1000 && waited > 1000 && canceled > 100 && again > 10,
        "{granted} {waited} {canceled} {again}"
    );
}
