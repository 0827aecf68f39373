//! What users hold and what they read, by what they were told; and what is wrong with that.
//!
//! It knows nothing of the code under test: the modes and which of them go together are written out here once more.

use outlast_dlm::wire::{LockFlags, LockId, Mode, StatusFlags};
use outlast_lockspace::machine::Outcome;
use std::collections::BTreeMap;

/// Which modes go together: null, concurrent read and write, protected read and write, exclusive.
const TOGETHER: [[bool; 6]; 6] = [
    [true, true, true, true, true, true],
    [true, true, true, true, true, false],
    [true, true, true, false, false, false],
    [true, true, false, true, false, false],
    [true, true, false, false, false, false],
    [true, false, false, false, false, false],
];

pub(crate) const fn together(one: Mode, other: Mode) -> bool {
    TOGETHER[one as usize][other as usize]
}

/// The strongest mode that is no stronger than either.
fn common(one: Mode, other: Mode) -> Mode {
    match (one.min(other), one.max(other)) {
        (Mode::ConcurrentWrite, Mode::ProtectedRead) => Mode::ConcurrentRead,
        (weaker, _) => weaker,
    }
}

/// A value block as users write it: which write it was; 0: none.
pub(crate) type Write = u64;

/// What a user waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    None,
    Request,
    Convert,
    Unlock,
}

/// A lock of a user.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    pub(crate) name: usize,
    /// Uses the value block, always or never.
    pub(crate) values: bool,
    pub(crate) wants_blocking: bool,
    pub(crate) op: Op,
    /// Of the operation.
    pub(crate) mode: Mode,
    pub(crate) flags: LockFlags,
    /// As it was told last.
    pub(crate) granted: Option<Mode>,
    /// What the user may count on at this moment.
    pub(crate) holds: Option<Mode>,
    /// It was asked at least once to take something back: that answer may come at any time.
    pub(crate) canceled: bool,
    pub(crate) forced: bool,
    /// It was perhaps demoted, and nobody said so: its user can only give it up.
    pub(crate) unsure: bool,
    /// It was told since its last grant that it blocks.
    pub(crate) told: bool,
    /// What was there before what is being written.
    writes: Option<(Write, Value)>,
}

impl Lock {
    pub(crate) fn new(name: usize, mode: Mode, flags: LockFlags, values: bool, wants_blocking: bool) -> Self {
        Self {
            name,
            values,
            wants_blocking,
            op: Op::Request,
            mode,
            flags,
            granted: None,
            holds: None,
            canceled: false,
            forced: false,
            unsure: false,
            told: false,
            writes: None,
        }
    }

    pub(crate) fn waits(&self) -> bool {
        match self.op {
            Op::Request | Op::Convert => true,
            Op::None | Op::Unlock => false,
        }
    }
}

/// What a reader of a name may see.
#[derive(Debug, Clone, Default)]
struct Value {
    /// One of these.
    last: Vec<Write>,
    /// Or nothing, for it may have been forgotten: nobody had a lock, or a node died.
    forgotten: bool,
    /// It may be flagged: a node died.
    doubtful: bool,
    /// Somebody wrote what he had, whatever that was.
    unknown: bool,
}

/// All users of all nodes.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) locks: BTreeMap<(usize, LockId), Lock>,
    values: Vec<Value>,
    writes: Write,
    /// A node has died, and not all have recovered since.
    pub(crate) unsettled: bool,
    /// What is wrong.
    pub(crate) findings: Vec<String>,
    /// What was met.
    pub(crate) met: Vec<&'static str>,
}

impl Model {
    pub(crate) fn new(names: usize) -> Self {
        Self {
            locks: BTreeMap::new(),
            values: vec![Value { last: vec![0], ..Value::default() }; names],
            writes: 0,
            unsettled: false,
            findings: Vec::new(),
            met: Vec::new(),
        }
    }

    fn wrong(&mut self, what: String) {
        self.findings.push(what);
    }

    // ------------------------------------------------------------------ what users ask for

    /// A conversion was asked for. What it writes, if it does.
    pub(crate) fn converts(&mut self, key: (usize, LockId), mode: Mode, flags: LockFlags) {
        let Some(lock) = self.locks.get_mut(&key) else { return };
        let from = lock.granted.unwrap_or(Mode::Null);
        lock.op = Op::Convert;
        lock.mode = mode;
        lock.flags = flags;
        // To break a deadlock the lock may be demoted, and that is told only in the end.
        let demoted = flags.contains(LockFlags::CONVERSION_DEADLOCK);
        let mut holds = common(from, mode);
        if flags.contains(LockFlags::ALTERNATE_CONCURRENT_WRITE) {
            holds = common(holds, Mode::ConcurrentWrite);
        }
        if flags.contains(LockFlags::ALTERNATE_PROTECTED_READ) {
            holds = common(holds, Mode::ProtectedRead);
        }
        lock.holds = Some(if demoted { Mode::Null } else { holds });
    }

    /// An unlock was asked for.
    pub(crate) fn unlocks(&mut self, key: (usize, LockId), forced: bool) {
        let Some(lock) = self.locks.get_mut(&key) else { return };
        lock.op = Op::Unlock;
        lock.holds = None;
        lock.forced |= forced;
        let name = lock.name;
        // Who could write and does not say what writes what he read, be it valid or not.
        let wrote =
            lock.values && lock.writes.is_none() && (lock.unsure || lock.mode >= Mode::ProtectedWrite);
        if wrote && let Some(value) = self.values.get_mut(name) {
            value.unknown = true;
        }
        self.look_for_users(name);
    }

    /// The next thing to write, and it is as good as written: who writes holds the name alone, so nobody can read before.
    pub(crate) fn writes(&mut self, key: (usize, LockId)) -> Option<Write> {
        let lock = self.locks.get_mut(&key)?;
        self.writes += 1;
        let value = self.values.get_mut(lock.name)?;
        // Until a death is recovered from, what is written may come before it or after it.
        let (forgotten, doubtful) = (self.unsettled, self.unsettled);
        let now = Value { last: vec![self.writes], forgotten, doubtful, unknown: false };
        let before = std::mem::replace(value, now);
        lock.writes = Some((self.writes, before));
        Some(self.writes)
    }

    /// Nobody has a lock on it: its value is forgotten at any time.
    fn look_for_users(&mut self, name: usize) {
        let used = self
            .locks
            .values()
            .any(|lock| lock.name == name && lock.granted.is_some() && lock.op != Op::Unlock);
        if !used && let Some(value) = self.values.get_mut(name) {
            value.forgotten = true;
        }
    }

    // ------------------------------------------------------------------ what they are told

    /// An operation ended.
    pub(crate) fn completed(&mut self, key: (usize, LockId), outcome: &Outcome) {
        let Some(lock) = self.locks.get_mut(&key) else {
            return self
                .wrong(format!("node {} was told {outcome:?} of lock {}, which nobody has", key.0, key.1));
        };
        let op = lock.op.clone();
        let text = |why: &str| format!("node {} lock {} {op:?} {lock:?}: {outcome:?}: {why}", key.0, key.1);
        match (outcome, &op) {
            (Outcome::Granted { mode, status_flags, value }, Op::Request | Op::Convert) => {
                self.granted(key, *mode, *status_flags, value.as_deref());
            }
            (Outcome::WouldBlock, Op::Request | Op::Convert) if lock.flags.contains(LockFlags::NO_QUEUE) => {
                self.met.push("would block");
                self.refused(key);
            }
            (Outcome::Canceled, Op::Request | Op::Convert) if lock.canceled => {
                self.met.push("canceled");
                self.refused(key);
            }
            (Outcome::Deadlock, Op::Convert) => {
                self.met.push("deadlock");
                self.refused(key);
            }
            (Outcome::Unlocked, Op::Unlock) => {
                self.locks.remove(&key);
            }
            // What is forced may be answered before; a request that is refused is over, and so is its unlock.
            (Outcome::Granted { .. }, Op::Unlock) if lock.forced => {}
            (Outcome::Canceled | Outcome::WouldBlock, Op::Unlock)
                if lock.forced && lock.granted.is_none() =>
            {
                self.locks.remove(&key);
            }
            (Outcome::Failed(_), Op::Unlock) if lock.canceled => {
                lock.op = Op::None;
                self.met.push("unlock while a cancel was under way");
            }
            (
                Outcome::Granted { .. }
                | Outcome::WouldBlock
                | Outcome::Canceled
                | Outcome::Deadlock
                | Outcome::Unlocked
                | Outcome::Failed(_),
                _,
            ) => {
                let text = text("nobody asked for that");
                self.wrong(text);
            }
            (_, _) => {
                let text = text("what is that?");
                self.wrong(text);
            }
        }
    }

    fn refused(&mut self, key: (usize, LockId)) {
        let Some(lock) = self.locks.get_mut(&key) else { return };
        match lock.granted {
            None => {
                self.locks.remove(&key);
            }
            Some(mode) => {
                if !lock.flags.contains(LockFlags::CONVERSION_DEADLOCK) {
                    lock.holds = Some(mode);
                } else {
                    lock.unsure = true;
                    lock.granted = Some(Mode::Null);
                    lock.holds = Some(Mode::Null);
                }
                lock.op = Op::None;
                self.check_exclusion(key);
            }
        }
    }

    fn granted(&mut self, key: (usize, LockId), mode: Mode, flags: StatusFlags, value: Option<&[u8]>) {
        let Some(lock) = self.locks.get_mut(&key) else { return };
        let (before, name, values) = (lock.granted, lock.name, lock.values);
        let alternate = (lock.flags.contains(LockFlags::ALTERNATE_PROTECTED_READ)
            && mode == Mode::ProtectedRead)
            || (lock.flags.contains(LockFlags::ALTERNATE_CONCURRENT_WRITE) && mode == Mode::ConcurrentWrite);
        let strange = mode != lock.mode && !alternate;
        lock.granted = Some(mode);
        lock.holds = Some(mode);
        lock.op = Op::None;
        lock.told = false;
        lock.writes = None;
        let demoted = flags.contains(StatusFlags::DEMOTED);
        if strange {
            let wanted = lock.mode;
            self.wrong(format!("node {} lock {} wanted {wanted} and was granted {mode}", key.0, key.1));
        }
        if alternate {
            self.met.push("alternate mode");
        }
        if demoted {
            self.met.push("demoted");
        }
        self.check_exclusion(key);
        let reads = demoted
            || before.is_none_or(|before| mode > before || (mode == before && mode < Mode::ProtectedWrite));
        // Weaker readers may read while others write.
        if values && reads && mode >= Mode::ConcurrentWrite {
            self.read(key, name, flags.contains(StatusFlags::VALUE_NOT_VALID), value);
        }
    }

    fn read(&mut self, key: (usize, LockId), name: usize, not_valid: bool, bytes: Option<&[u8]>) {
        let Some(value) = self.values.get(name) else { return };
        let number = bytes.and_then(|bytes| bytes.first_chunk::<8>()).map(|first| u64::from_le_bytes(*first));
        let right = match number {
            _ if value.unknown => true,
            _ if not_valid => value.doubtful,
            Some(0) if value.forgotten => true,
            Some(number) => value.last.contains(&number),
            None => false,
        };
        if not_valid {
            self.met.push("value not valid");
        } else if number.is_some_and(|number| number > 0) {
            self.met.push("value read");
        }
        if !right {
            let text = format!(
                "node {} lock {} read {number:?}{} of name {name}, and there is {value:?}",
                key.0,
                key.1,
                if not_valid { ", not valid," } else { "" }
            );
            self.wrong(text);
        }
    }

    fn check_exclusion(&mut self, key: (usize, LockId)) {
        let Some((name, mode)) = self.locks.get(&key).and_then(|lock| Some((lock.name, lock.holds?))) else {
            return;
        };
        let others = self.locks.iter().filter(|(other, lock)| **other != key && lock.name == name);
        let clash = others
            .filter_map(|(other, lock)| Some((*other, lock.holds?)))
            .find(|(_, held)| !together(mode, *held));
        if let Some((other, held)) = clash {
            self.wrong(format!(
                "name {name} is held {mode} by node {} (lock {}) and {held} by node {} (lock {})",
                key.0, key.1, other.0, other.1
            ));
        }
    }

    /// A lock was told that it blocks.
    pub(crate) fn blocks(&mut self, key: (usize, LockId)) {
        // It may be gone already.
        if let Some(lock) = self.locks.get_mut(&key) {
            lock.told = true;
        }
    }

    /// A node died with all its locks.
    pub(crate) fn died(&mut self, node: usize) {
        let dead: Vec<_> = self.locks.keys().filter(|(on, _)| *on == node).copied().collect();
        self.unsettled = true;
        for value in &mut self.values {
            value.forgotten = true;
            value.doubtful = true;
        }
        for key in dead {
            let Some(lock) = self.locks.remove(&key) else { continue };
            let Some(value) = self.values.get_mut(lock.name) else { continue };
            // Perhaps nobody heard of it.
            if let Some((write, before)) = lock.writes
                && value.last == [write]
            {
                value.last.extend(before.last);
            }
        }
    }

    // ------------------------------------------------------------------ in the end

    /// Locks that wait although nobody is in the way, and those that are in the way and were not told. For when nothing
    /// moves any more.
    pub(crate) fn stuck(&self) -> Vec<String> {
        let mut found = Vec::new();
        for name in 0..self.values.len() {
            let here = || self.locks.iter().filter(move |(_, lock)| lock.name == name);
            let mut waiters = 0;
            let mut blocked = 0;
            for (key, lock) in here().filter(|(_, lock)| lock.waits()) {
                waiters += 1;
                let in_the_way = |other: &Lock| other.granted.is_some_and(|held| !together(held, lock.mode));
                let blockers = here().filter(|(other, other_lock)| *other != key && in_the_way(other_lock));
                let mut any = false;
                for (other, other_lock) in blockers {
                    any = true;
                    if other_lock.op == Op::None && other_lock.wants_blocking && !other_lock.told {
                        found.push(format!(
                            "node {} lock {} ({lock:?}) waits for node {} lock {}, which was not told",
                            key.0, key.1, other.0, other.1
                        ));
                    }
                }
                blocked += usize::from(any);
            }
            if waiters > 0 && blocked == 0 {
                let who: Vec<_> = here().map(|(key, lock)| format!("{key:?}: {lock:?}")).collect();
                found.push(format!("name {name}: who waits is in nobody's way: {}", who.join("; ")));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(modes: &[Mode]) -> Model {
        let mut model = Model::new(1);
        for (node, mode) in modes.iter().enumerate() {
            model.locks.insert((node, LockId(1)), Lock::new(0, *mode, LockFlags::NONE, true, true));
        }
        model
    }

    fn grant(model: &mut Model, node: usize, mode: Mode, value: u64) {
        let value = Some(value.to_le_bytes().to_vec());
        let outcome = Outcome::Granted { mode, status_flags: StatusFlags::NONE, value };
        model.completed((node, LockId(1)), &outcome);
    }

    #[test]
    fn two_that_exclude_each_other_are_found_and_two_that_do_not_are_not() {
        let mut model = with(&[Mode::ProtectedRead, Mode::ProtectedRead, Mode::ConcurrentWrite]);
        grant(&mut model, 0, Mode::ProtectedRead, 0);
        grant(&mut model, 1, Mode::ProtectedRead, 0);
        assert_eq!(model.findings, Vec::<String>::new());
        // Against two others; one of them is named.
        grant(&mut model, 2, Mode::ConcurrentWrite, 0);
        assert_eq!(model.findings.len(), 1, "{:?}", model.findings);
    }

    #[test]
    fn who_asked_to_give_up_holds_no_more_and_who_converts_holds_what_both_have() {
        let mut model = with(&[Mode::Exclusive, Mode::ConcurrentRead]);
        grant(&mut model, 0, Mode::Exclusive, 0);
        model.converts((0, LockId(1)), Mode::ConcurrentWrite, LockFlags::NONE);
        grant(&mut model, 1, Mode::ConcurrentRead, 0);
        assert_eq!(model.findings, Vec::<String>::new());
    }

    #[test]
    fn an_old_value_is_found_unless_a_node_died_and_it_is_flagged() {
        let mut model = with(&[Mode::Exclusive, Mode::ProtectedRead]);
        grant(&mut model, 0, Mode::Exclusive, 0);
        assert_eq!(model.writes((0, LockId(1))), Some(1));
        model.converts((0, LockId(1)), Mode::Null, LockFlags::NONE);
        grant(&mut model, 1, Mode::ProtectedRead, 0);
        assert_eq!(model.findings.len(), 1);
    }

    #[test]
    fn one_who_waits_for_nobody_is_stuck_and_so_is_one_whose_blocker_was_not_told() {
        let model = with(&[Mode::Exclusive]);
        assert_eq!(model.stuck().len(), 1);
        let mut model = with(&[Mode::Exclusive, Mode::Exclusive]);
        grant(&mut model, 0, Mode::Exclusive, 0);
        assert_eq!(model.stuck().len(), 1);
        model.blocks((0, LockId(1)));
        assert_eq!(model.stuck(), Vec::<String>::new());
    }
}
