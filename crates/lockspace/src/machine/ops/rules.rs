//! When a lock can be granted, whom it blocks, and which way its value block goes (Linux, `lock.c`; the numbered rules
//! there are those of "VAXcluster Principles").

use outlast_dlm::wire::{LockFlags, LockId, Mode, StatusFlags};

use crate::machine::table::{Lock, Resource, Table};

/// Whether one lock that is held and one that is wanted go together. Who holds or wants nothing is in nobody's way.
pub(super) const fn compatible(granted: Option<Mode>, requested: Option<Mode>) -> bool {
    match (granted, requested) {
        (Some(granted), Some(requested)) => granted.is_compatible_with(requested),
        (None, _) | (_, None) => true,
    }
}

/// Whether these two modes are the two that exclude each other and of which neither is the stronger.
pub(super) const fn is_sideways(from: Option<Mode>, to: Option<Mode>) -> bool {
    matches!(
        (from, to),
        (Some(Mode::ProtectedRead), Some(Mode::ConcurrentWrite))
            | (Some(Mode::ConcurrentWrite), Some(Mode::ProtectedRead))
    )
}

/// Whether a conversion only gives up: the master cannot refuse it, so nobody waits for its answer and none is sent.
pub(super) fn is_downward(granted: Option<Mode>, requested: Option<Mode>) -> bool {
    !is_sideways(granted, requested) && requested < granted
}

/// Whether [`LockFlags::QUEUE_CONVERSION`] may be given: only what might have to wait may be queued.
pub(super) fn may_queue_conversion(granted: Mode, requested: Mode) -> bool {
    requested > granted || (granted, requested) == (Mode::ProtectedRead, Mode::ConcurrentWrite)
}

/// Which way a value block goes when a lock is granted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum ValueFlow {
    /// From the resource to who asked.
    Read,
    /// From who asked to the resource: a writer steps down, or writes and goes on.
    Write,
    /// Nowhere.
    Stays,
}

/// Which way the value block goes when a lock held in one mode is granted in another (Linux, `lvb_table.h`).
pub(super) fn value_flow(granted: Option<Mode>, requested: Option<Mode>) -> ValueFlow {
    let writes = granted >= Some(Mode::ProtectedWrite);
    if requested.is_none() {
        ValueFlow::Stays
    } else if requested > granted || requested == granted && !writes {
        ValueFlow::Read
    } else if writes {
        ValueFlow::Write
    } else {
        ValueFlow::Stays
    }
}

/// What becomes of a lock that wants a mode.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// It can be granted.
    Grant,
    /// Not now.
    Wait,
    /// Not now, and what it holds keeps one that waits longer from being granted.
    Deadlock,
}

/// When the question is asked.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// As it comes in.
    First,
    /// It stands in a queue.
    Queued,
    /// It stands in a queue that was rebuilt by a recovery, whose order means nothing.
    Recovering,
}

fn conflicts(table: &Table, queue: &[LockId], lock: &Lock) -> bool {
    queue
        .iter()
        .filter(|other| **other != lock.id)
        .filter_map(|other| table.lock(*other))
        .any(|other| !compatible(other.granted, lock.requested))
}

/// Whether a lock can be granted as it is.
pub(super) fn is_grantable(table: &Table, resource: &Resource, lock: &Lock, asked: Asked) -> bool {
    if lock.flags.contains(LockFlags::EXPEDITE) {
        return true;
    }
    // Those that convert still hold what they hold.
    if conflicts(table, &resource.granted, lock) || conflicts(table, &resource.converting, lock) {
        return false;
    }
    let converts = lock.granted.is_some();
    match (converts, asked) {
        (true, Asked::Recovering) => true,
        // In place, past those that wait, unless it asks to stand in line.
        (true, Asked::First) => {
            !lock.flags.contains(LockFlags::QUEUE_CONVERSION) || resource.converting.is_empty()
        }
        (true, Asked::Queued) => {
            lock.flags.contains(LockFlags::NO_ORDER) || resource.converting.first() == Some(&lock.id)
        }
        (false, Asked::First) => {
            lock.flags.contains(LockFlags::NO_ORDER)
                || resource.converting.is_empty() && resource.waiting.is_empty()
        }
        (false, Asked::Queued | Asked::Recovering) => {
            lock.flags.contains(LockFlags::NO_ORDER)
                || resource.converting.is_empty() && resource.waiting.first() == Some(&lock.id)
        }
    }
}

/// Whether what a lock holds keeps another conversion from being granted that came before it, or that keeps it from
/// being granted in turn: neither will ever go on.
fn is_conversion_deadlock(table: &Table, resource: &Resource, lock: &Lock) -> bool {
    let mut ahead = false;
    for other in resource.converting.iter().filter_map(|other| table.lock(*other)) {
        if other.id == lock.id {
            ahead = true;
            continue;
        }
        let blocks = !compatible(lock.granted, other.requested);
        if blocks && (!ahead || !compatible(other.granted, lock.requested)) {
            return true;
        }
    }
    false
}

/// Decides whether a lock can be granted. It may be demoted to null to break a deadlock
/// ([`LockFlags::CONVERSION_DEADLOCK`]), and it may be granted in another mode than the one that was asked for; both are
/// noted in the lock and in its [`StatusFlags`].
pub(super) fn decide(table: &mut Table, id: LockId, asked: Asked) -> Decision {
    let Some(lock) = table.lock(id) else { return Decision::Wait };
    let Some(resource) = table.resource(lock.resource) else { return Decision::Wait };
    if is_grantable(table, resource, lock, asked) {
        return Decision::Grant;
    }
    let can_queue = !lock.flags.contains(LockFlags::NO_QUEUE);
    if lock.granted.is_some() && can_queue && is_conversion_deadlock(table, resource, lock) {
        let demote = lock.flags.contains(LockFlags::CONVERSION_DEADLOCK);
        return match table.lock_mut(id) {
            Some(lock) if demote => {
                lock.granted = Some(Mode::Null);
                lock.status_flags |= StatusFlags::DEMOTED;
                Decision::Wait
            }
            Some(_) | None => Decision::Deadlock,
        };
    }
    let key = lock.resource;
    let wanted = lock.requested;
    let Some(alternate) = alternate_mode(lock.flags, wanted) else { return Decision::Wait };
    // Without regard to a recovery, as Linux does.
    let asked = match asked {
        Asked::First => Asked::First,
        Asked::Queued | Asked::Recovering => Asked::Queued,
    };
    if let Some(lock) = table.lock_mut(id) {
        lock.requested = Some(alternate);
    }
    let granted = match (table.resource(key), table.lock(id)) {
        (Some(resource), Some(lock)) => is_grantable(table, resource, lock, asked),
        (None, _) | (_, None) => false,
    };
    let Some(lock) = table.lock_mut(id) else { return Decision::Wait };
    if granted {
        lock.status_flags |= StatusFlags::ALTERNATE_MODE;
        Decision::Grant
    } else {
        lock.requested = wanted;
        Decision::Wait
    }
}

/// The mode that is good enough instead of the one that is wanted, if the user named another.
pub(super) fn alternate_mode(flags: LockFlags, wanted: Option<Mode>) -> Option<Mode> {
    if flags.contains(LockFlags::ALTERNATE_PROTECTED_READ) && wanted != Some(Mode::ProtectedRead) {
        Some(Mode::ProtectedRead)
    } else if flags.contains(LockFlags::ALTERNATE_CONCURRENT_WRITE) && wanted != Some(Mode::ConcurrentWrite) {
        Some(Mode::ConcurrentWrite)
    } else {
        None
    }
}

/// Whether a holder is to be told that it blocks this one.
pub(super) fn is_told_of(holder: &Lock, wanted: Option<Mode>) -> bool {
    if is_sideways(holder.granted, wanted) {
        // The numbers of these two do not say which is stronger.
        return holder.blocking_told < Some(Mode::Exclusive);
    }
    holder.blocking_told < wanted && !compatible(holder.granted, wanted)
}

/// Whether a holder is to be told that it blocks those in the queues, the strongest of which wants `high`.
pub(super) fn is_told_of_queued(holder: &Lock, high: Option<Mode>, concurrent_write: bool) -> bool {
    if holder.granted == Some(Mode::ProtectedRead) && concurrent_write {
        return holder.blocking_told < Some(Mode::Exclusive);
    }
    holder.blocking_told < high && !compatible(holder.granted, high)
}
