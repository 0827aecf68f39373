//! What users ask for.

use outlast_dlm::wire::{
    DistributedFlags, LockFlags, LockId, MessageKind, Mode, Name, NodeId, Queue, StatusFlags,
};
use outlast_session::Instant;

use super::{Deferred, rules};
use crate::machine::errno::{EAGAIN, EBUSY, EINVAL, ENOENT, ENOMEM};
use crate::machine::table::{Lock, ResourceKey, Role};
use crate::machine::{LockRequest, Machine, Outcome, UserError};

/// What may be given with an unlock.
const UNLOCK_FLAGS: LockFlags =
    LockFlags::VALUE_BLOCK.with(LockFlags::INVALIDATE_VALUE_BLOCK).with(LockFlags::FORCE_UNLOCK);

impl Machine {
    /// Asks for a new lock. What becomes of it comes as one [`crate::machine::Event::Completed`], perhaps before this
    /// returns; after that it can be converted and unlocked, if it was granted. While a recovery goes on it waits.
    ///
    /// # Errors
    /// [`UserError::Flags`], [`UserError::ValueBlock`], [`UserError::TooManyLocks`], [`UserError::TooManyResources`],
    /// [`UserError::Unsupported`]; nothing was done.
    pub fn lock(&mut self, request: LockRequest, now: Instant) -> Result<LockId, UserError> {
        let LockRequest { name, mode, flags, process, value, wants_blocking } = request;
        check_lock_flags(flags, mode, false)?;
        let value = self.check_value(flags, value)?;
        if self.table.lock_count() >= self.config.locks_max {
            return Err(UserError::TooManyLocks(self.config.locks_max));
        }
        let value = value.or_else(|| flags.contains(LockFlags::VALUE_BLOCK).then(|| self.empty_value()));
        let made = self.table.insert_lock(|id| {
            let mut lock = Lock::new(id, ResourceKey::NONE, Role::Own);
            lock.process = process;
            lock.flags = flags;
            lock.distributed_flags = DistributedFlags::USER;
            lock.requested = Some(mode);
            lock.callbacks = Self::callbacks(wants_blocking);
            lock.value = value;
            lock
        });
        let id = made.ok_or(UserError::TooManyLocks(self.config.locks_max))?;
        if self.is_running() {
            if let Err(error) = self.start_request(id, &name, now) {
                self.table.remove_lock(id);
                return Err(error);
            }
        } else {
            self.defer(id, Deferred::Request { lock: id, name });
        }
        self.statistics.operations += 1;
        Ok(id)
    }

    /// Asks for another mode of a lock that is held. The outcome comes as an event; until then, and if it is not granted,
    /// the lock is held as it was.
    ///
    /// # Errors
    /// [`UserError::NoSuchLock`]; [`UserError::Busy`] while another operation is under way or the lock is not granted;
    /// [`UserError::Flags`], [`UserError::ValueBlock`], [`UserError::Unsupported`]; nothing was done.
    pub fn convert(
        &mut self,
        lock: LockId,
        mode: Mode,
        flags: LockFlags,
        value: Option<Vec<u8>>,
        now: Instant,
    ) -> Result<(), UserError> {
        let flags = flags | LockFlags::CONVERT;
        check_lock_flags(flags, mode, true)?;
        let value = self.check_value(flags, value)?;
        self.check_convert(lock, mode, flags)?;
        if self.own_lock(lock)?.deferred > 0 {
            return Err(UserError::Busy(lock));
        }
        if self.is_running() {
            self.start_convert(lock, mode, flags, value, now);
        } else {
            self.defer(lock, Deferred::Convert { lock, mode, flags, value });
        }
        self.statistics.operations += 1;
        Ok(())
    }

    /// Gives a lock up. With [`LockFlags::FORCE_UNLOCK`] also one that waits, or whose request is under way: it is out of
    /// all queues when the event says [`Outcome::Unlocked`], and whatever else was under way may be answered before.
    ///
    /// # Errors
    /// [`UserError::NoSuchLock`]; [`UserError::Busy`] while another operation is under way and it is not forced;
    /// [`UserError::Flags`], [`UserError::ValueBlock`]; nothing was done.
    pub fn unlock(
        &mut self,
        lock: LockId,
        flags: LockFlags,
        value: Option<Vec<u8>>,
        now: Instant,
    ) -> Result<(), UserError> {
        if !UNLOCK_FLAGS.contains(flags) {
            return Err(UserError::Flags("an unlock takes only the value block's flags, and may be forced"));
        }
        let value = self.check_value(flags, value)?;
        let force = flags.contains(LockFlags::FORCE_UNLOCK);
        let known = self.own_lock(lock)?;
        if !force && (known.wait.is_some() || known.deferred > 0 || self.waits_for_master(lock)) {
            return Err(UserError::Busy(lock));
        }
        if self.is_running() {
            self.start_unlock(lock, flags, value, now);
        } else {
            self.defer(lock, Deferred::Unlock { lock, flags, value });
        }
        self.statistics.operations += 1;
        Ok(())
    }

    /// Takes back the request or conversion that waits. It has no outcome of its own: that of what it takes back is
    /// [`Outcome::Canceled`], or another if the cancel came too late.
    ///
    /// # Errors
    /// [`UserError::NoSuchLock`].
    pub fn cancel(&mut self, lock: LockId, now: Instant) -> Result<(), UserError> {
        self.own_lock(lock)?;
        if self.is_running() {
            self.start_cancel(lock, now);
        } else {
            self.defer(lock, Deferred::Cancel { lock });
        }
        Ok(())
    }

    /// Tells a node to drop the locks that its dead processes left behind there: those of one process, or with 0 of all.
    ///
    /// # Errors
    /// [`UserError::NotAMember`]; [`UserError::Unsupported`] for this node, where nothing is ever left behind.
    pub fn purge(&mut self, node: NodeId, process: u32) -> Result<(), UserError> {
        if node == self.config.node {
            return Err(UserError::Unsupported("leaving locks behind"));
        }
        if !self.members.contains(node) {
            return Err(UserError::NotAMember(node));
        }
        self.send_purge(node, process);
        Ok(())
    }

    /// Locking goes on: does what users asked for in between, in order.
    pub(crate) fn run_deferred(&mut self, now: Instant) {
        while self.is_running() {
            let Some(deferred) = self.deferred.pop_front() else { return };
            let id = deferred.lock();
            let Some(lock) = self.table.lock_mut(id) else { continue };
            lock.deferred = lock.deferred.saturating_sub(1);
            match deferred {
                Deferred::Request { lock, name } => {
                    if self.start_request(lock, &name, now).is_err() {
                        self.complete(lock, Outcome::Failed(-ENOMEM));
                        self.end_lock(lock, now);
                    }
                }
                Deferred::Convert { lock, mode, flags, value } => match self.check_convert(lock, mode, flags)
                {
                    Ok(()) => self.start_convert(lock, mode, flags, value, now),
                    Err(error) => self.complete(lock, Outcome::Failed(late_error(&error))),
                },
                Deferred::Unlock { lock, flags, value } => self.start_unlock(lock, flags, value, now),
                Deferred::Cancel { lock } => self.start_cancel(lock, now),
            }
        }
    }

    fn defer(&mut self, id: LockId, deferred: Deferred) {
        if let Some(lock) = self.table.lock_mut(id) {
            lock.deferred += 1;
            self.deferred.push_back(deferred);
        }
    }

    fn start_request(&mut self, id: LockId, name: &Name, now: Instant) -> Result<(), UserError> {
        let key =
            self.resource_for_user(name).ok_or(UserError::TooManyResources(self.config.resources_max))?;
        self.table.attach(id, key);
        self.request_lock(id, now);
        Ok(())
    }

    fn start_convert(
        &mut self,
        id: LockId,
        mode: Mode,
        flags: LockFlags,
        value: Option<Vec<u8>>,
        now: Instant,
    ) {
        let empty = self.empty_value();
        let Some(lock) = self.table.lock_mut(id) else { return };
        lock.flags = flags;
        lock.status_flags = StatusFlags::NONE;
        lock.requested = Some(mode);
        if value.is_some() {
            lock.value = value;
        } else if flags.contains(LockFlags::VALUE_BLOCK) {
            lock.value.get_or_insert(empty);
        }
        self.convert_lock(id, now);
    }

    /// Gives a lock up, as far as what is under way lets it (Linux, `lock.c`, where the rules of what may overlap stand).
    fn start_unlock(&mut self, id: LockId, flags: LockFlags, value: Option<Vec<u8>>, now: Instant) {
        if self.give_up_waiting_for_master(id, Outcome::Unlocked, now) {
            return;
        }
        let Some(lock) = self.table.lock_mut(id).filter(|lock| !lock.ending) else { return };
        if flags.contains(LockFlags::FORCE_UNLOCK) {
            if lock.flags.contains(LockFlags::FORCE_UNLOCK) || lock.overlap_unlock {
                return;
            }
            match lock.wait.and_then(|wait| wait.kind) {
                Some(MessageKind::Unlock) => return,
                // Nothing can be unlocked before the master has answered.
                Some(MessageKind::Lookup | MessageKind::Request) => {
                    lock.overlap_unlock = true;
                    return;
                }
                Some(_) if lock.resend => {
                    lock.overlap_unlock = true;
                    return;
                }
                Some(_) | None => {}
            }
        } else if lock.wait.is_some() {
            self.complete(id, Outcome::Failed(-EBUSY));
            return;
        }
        if value.is_some() {
            lock.value = value;
        }
        // What overlaps must not lose the flags of what it overlaps.
        lock.flags |= flags;
        lock.status_flags = StatusFlags::NONE;
        self.unlock_lock(id, now);
    }

    fn start_cancel(&mut self, id: LockId, now: Instant) {
        if self.give_up_waiting_for_master(id, Outcome::Canceled, now) {
            return;
        }
        let Some(lock) = self.table.lock_mut(id).filter(|lock| !lock.ending) else { return };
        if lock.flags.contains(LockFlags::CANCEL) || lock.has_overlap() {
            return;
        }
        match lock.wait.and_then(|wait| wait.kind) {
            Some(MessageKind::Unlock | MessageKind::Cancel) => return,
            Some(MessageKind::Lookup | MessageKind::Request) => {
                lock.overlap_cancel = true;
                return;
            }
            Some(_) if lock.resend => {
                lock.overlap_cancel = true;
                return;
            }
            None if lock.queue == Some(Queue::Granted) => return,
            Some(_) | None => {}
        }
        lock.flags |= LockFlags::CANCEL;
        lock.status_flags = StatusFlags::NONE;
        self.cancel_lock(id, now);
    }

    /// A request that waits until others have found out the master, or to be asked again, is not at anybody's.
    fn give_up_waiting_for_master(&mut self, id: LockId, outcome: Outcome, now: Instant) -> bool {
        if !self.waits_for_master(id) {
            return false;
        }
        let key = self.table.lock(id).map_or(ResourceKey::NONE, |lock| lock.resource);
        self.complete(id, outcome);
        // One that is paused may be who finds out.
        if self.table.resource(key).is_some_and(|resource| resource.first_lock == Some(id)) {
            self.confirm_master(key, -EAGAIN, now);
        }
        self.end_lock(id, now);
        true
    }

    fn waits_for_master(&self, id: LockId) -> bool {
        let Some(lock) = self.table.lock(id) else { return false };
        lock.paused
            || self.table.resource(lock.resource).is_some_and(|resource| resource.lookup_queue.contains(&id))
    }

    fn own_lock(&self, id: LockId) -> Result<&Lock, UserError> {
        self.table
            .lock(id)
            .filter(|lock| lock.role == Role::Own && !lock.ending)
            .ok_or(UserError::NoSuchLock(id))
    }

    fn check_convert(&self, id: LockId, mode: Mode, flags: LockFlags) -> Result<(), UserError> {
        let lock = self.own_lock(id)?;
        let Some(granted) = lock.granted.filter(|_| lock.queue == Some(Queue::Granted)) else {
            return Err(UserError::Busy(id));
        };
        if lock.wait.is_some() || lock.has_overlap() {
            return Err(UserError::Busy(id));
        }
        if flags.contains(LockFlags::QUEUE_CONVERSION) && !rules::may_queue_conversion(granted, mode) {
            return Err(UserError::Flags("a conversion that never waits cannot be queued"));
        }
        Ok(())
    }

    fn check_value(&self, flags: LockFlags, value: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, UserError> {
        let Some(value) = value else { return Ok(None) };
        if !flags.contains(LockFlags::VALUE_BLOCK) {
            return Err(UserError::Flags("a value block without the flag for it"));
        }
        let want = self.config.value_block_bytes;
        if u32::try_from(value.len()) == Ok(want) {
            Ok(Some(value))
        } else {
            Err(UserError::ValueBlock { len: value.len(), want })
        }
    }
}

/// Which flags go together (Linux, `lock.c`).
fn check_lock_flags(flags: LockFlags, mode: Mode, convert: bool) -> Result<(), UserError> {
    let has = |flag| flags.contains(flag);
    if has(LockFlags::ORPHAN) {
        return Err(UserError::Unsupported("taking over a lock that was left behind"));
    }
    if has(LockFlags::CANCEL) || has(LockFlags::FORCE_UNLOCK) {
        return Err(UserError::Flags("to give up or to take back is another call"));
    }
    if has(LockFlags::CONVERT) && !convert {
        return Err(UserError::Flags("to convert is another call"));
    }
    if !convert && (has(LockFlags::QUEUE_CONVERSION) || has(LockFlags::CONVERSION_DEADLOCK)) {
        return Err(UserError::Flags("a flag of conversions with a request"));
    }
    if has(LockFlags::CONVERSION_DEADLOCK) && has(LockFlags::NO_QUEUE) {
        return Err(UserError::Flags("what does not wait is in no deadlock"));
    }
    if has(LockFlags::EXPEDITE) {
        if convert || has(LockFlags::NO_QUEUE) {
            return Err(UserError::Flags("only a request that may wait can be expedited"));
        }
        if mode != Mode::Null {
            return Err(UserError::Flags("only a null lock can be expedited"));
        }
    }
    Ok(())
}

/// What was allowed when it was asked for and is not any more.
const fn late_error(error: &UserError) -> i32 {
    match error {
        UserError::NoSuchLock(_) => -ENOENT,
        UserError::Busy(_) => -EBUSY,
        UserError::Name(_)
        | UserError::Flags(_)
        | UserError::ValueBlock { .. }
        | UserError::NotAMember(_)
        | UserError::TooManyLocks(_)
        | UserError::TooManyResources(_)
        | UserError::Unsupported(_) => -EINVAL,
    }
}
