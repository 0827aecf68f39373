//! Locks that are held.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use outlast_dlm::wire::{LockFlags, LockId, Mode, Name, StatusFlags};

use super::core::{Cell, give_up};
use super::error::LockError;
use super::space::Lockspace;
use crate::machine::{LockRequest, Outcome, UserError};

/// How a lock is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockOptions {
    /// In this mode.
    pub mode: Mode,
    /// Do not wait: [`LockError::WouldBlock`].
    pub no_wait: bool,
    /// How long to wait. `None`: for ever.
    pub deadline: Option<Duration>,
    /// Read the value block when the lock is granted, and write it when it is given up or converted down.
    pub value_block: bool,
    /// And what else the protocol knows.
    pub flags: LockFlags,
}

impl LockOptions {
    /// Waits for ever, without a value block.
    pub const fn new(mode: Mode) -> Self {
        Self { mode, no_wait: false, deadline: None, value_block: false, flags: LockFlags::NONE }
    }

    /// Does not wait.
    #[must_use]
    pub const fn no_wait(mut self) -> Self {
        self.no_wait = true;
        self
    }

    /// Waits so long.
    #[must_use]
    pub const fn within(mut self, time: Duration) -> Self {
        self.deadline = Some(time);
        self
    }

    /// With the value block.
    #[must_use]
    pub const fn with_value_block(mut self) -> Self {
        self.value_block = true;
        self
    }

    const fn all_flags(&self) -> LockFlags {
        let mut flags = self.flags;
        if self.no_wait {
            flags = flags.with(LockFlags::NO_QUEUE);
        }
        if self.value_block {
            flags = flags.with(LockFlags::VALUE_BLOCK);
        }
        flags
    }
}

impl From<Mode> for LockOptions {
    fn from(mode: Mode) -> Self {
        Self::new(mode)
    }
}

impl Lockspace {
    /// Takes a lock on the resource `name`, and waits until it is granted. Dropping the future takes the request back.
    ///
    /// While the membership changes, requests wait.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held then.
    pub async fn lock(
        &self,
        name: impl AsRef<[u8]>,
        options: impl Into<LockOptions>,
    ) -> Result<Guard, LockError> {
        let options = options.into();
        let name = Name::new(name.as_ref()).map_err(UserError::from)?;
        let flags = options.all_flags();
        let request = LockRequest {
            name,
            mode: options.mode,
            flags,
            process: self.shared.process,
            value: None,
            wants_blocking: true,
        };
        match options.deadline {
            None => self.room().await,
            Some(within) => {
                tokio::time::timeout(within, self.room()).await.map_err(|_| LockError::Deadline)?;
            }
        }
        let asked = self.with(|space, now| {
            let lock = space.machine.lock(request, now)?;
            space.locks.insert(lock, Cell { busy: true, ..Cell::default() });
            Ok::<_, UserError>(lock)
        });
        let lock = asked.map_err(|_| LockError::Left)??;
        let mut guard = Guard {
            space: self.clone(),
            lock,
            name,
            mode: options.mode,
            value_block: options.value_block,
            value: None,
            value_valid: true,
            over: false,
        };
        guard.finish(options.deadline).await?;
        Ok(guard)
    }

    /// Waits until all members keep up with what they are sent.
    async fn room(&self) {
        poll_fn(|cx| {
            let mut locked = self.shared.look();
            if locked.peers_keep_up() {
                return Poll::Ready(());
            }
            locked.crowd.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Takes a lock if it can be granted at once. `None`: it cannot.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn try_lock(
        &self,
        name: impl AsRef<[u8]>,
        options: impl Into<LockOptions>,
    ) -> Result<Option<Guard>, LockError> {
        match self.lock(name, options.into().no_wait()).await {
            Ok(guard) => Ok(Some(guard)),
            Err(LockError::WouldBlock) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A lock that is held. Dropping it gives it up in the background; [`Guard::unlock`] says when that has happened.
#[derive(Debug)]
pub struct Guard {
    space: Lockspace,
    lock: LockId,
    name: Name,
    mode: Mode,
    value_block: bool,
    value: Option<Vec<u8>>,
    value_valid: bool,
    /// Nothing is left to give up.
    over: bool,
}

impl Guard {
    /// The resource.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The mode it is held in. After a conversion that was given up in the middle, the one it had been asked for.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The lock's number on this node.
    pub const fn id(&self) -> LockId {
        self.lock
    }

    /// The value block, as it was when the lock was granted or converted, or as it was set since.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Whether the value block is what was written last: not if its writer died with it.
    pub const fn is_value_valid(&self) -> bool {
        self.value_valid
    }

    /// Sets the value block, to be written when the lock is converted down or given up, from a mode that may write
    /// (protected write and exclusive). It lives as long as anybody has a lock on the resource, in whatever mode: after the
    /// last one it is zeros again.
    pub fn set_value(&mut self, value: impl Into<Vec<u8>>) {
        self.value_block = true;
        self.value = Some(value.into());
        self.value_valid = true;
    }

    /// Waits until this lock blocks another, and returns the strongest mode that others wanted. Cancel-safe.
    ///
    /// # Errors
    /// [`LockError::Left`].
    pub async fn blocking(&self) -> Result<Mode, LockError> {
        poll_fn(|cx| {
            let mut locked = self.space.shared.look();
            let cell =
                locked.spaces.get_mut(&self.space.id).and_then(|space| space.locks.get_mut(&self.lock));
            let Some(cell) = cell else { return Poll::Ready(Err(LockError::Left)) };
            match cell.blocked.take() {
                Some(mode) => Poll::Ready(Ok(mode)),
                None => {
                    cell.blocked_waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Changes the mode, and waits until that is granted; until then it is held in the old one. Dropping the future takes
    /// the conversion back, if it is not granted at that moment.
    ///
    /// # Errors
    /// [`LockError`]; the lock is then held as it was.
    pub async fn convert(&mut self, options: impl Into<LockOptions>) -> Result<(), LockError> {
        let options = options.into();
        self.settled().await?;
        let value_block = self.value_block || options.value_block;
        let mut flags = options.all_flags();
        if value_block {
            flags |= LockFlags::VALUE_BLOCK;
        }
        let value = if value_block { self.value.clone() } else { None };
        let lock = self.lock;
        let asked = self.space.with(|space, now| {
            space.machine.convert(lock, options.mode, flags, value, now)?;
            if let Some(cell) = space.locks.get_mut(&lock) {
                cell.busy = true;
            }
            Ok::<_, UserError>(())
        });
        asked.map_err(|_| LockError::Left)??;
        self.finish(options.deadline).await
    }

    /// Gives the lock up, and waits until the master knows.
    ///
    /// # Errors
    /// [`LockError`]. It is given up in any case.
    pub async fn unlock(mut self) -> Result<(), LockError> {
        self.settled().await?;
        self.ask_to_unlock()?;
        match self.outcome().await {
            Ok(Outcome::Unlocked) | Err(LockError::Left) => {
                self.over = true;
                Ok(())
            }
            Ok(Outcome::Failed(error)) => Err(LockError::Failed(error)),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn ask_to_unlock(&self) -> Result<(), LockError> {
        let value = if self.value_block { self.value.clone() } else { None };
        let flags = if value.is_some() { LockFlags::VALUE_BLOCK } else { LockFlags::NONE };
        let lock = self.lock;
        let asked = self.space.with(|space, now| {
            space.machine.unlock(lock, flags, value, now)?;
            if let Some(cell) = space.locks.get_mut(&lock) {
                cell.busy = true;
            }
            Ok::<_, UserError>(())
        });
        asked.map_err(|_| LockError::Left)??;
        Ok(())
    }

    /// Waits for the end of an operation whose future was dropped.
    async fn settled(&mut self) -> Result<(), LockError> {
        poll_fn(|cx| {
            let mut locked = self.space.shared.look();
            let cell =
                locked.spaces.get_mut(&self.space.id).and_then(|space| space.locks.get_mut(&self.lock));
            let Some(cell) = cell else { return Poll::Ready(Err(LockError::Left)) };
            if cell.busy {
                cell.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            cell.outcome = None;
            if let Some(mode) = cell.mode {
                self.mode = mode;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// How the operation under way ended, if it has.
    fn outcome_so_far(&self) -> Option<Outcome> {
        let mut locked = self.space.shared.lock();
        let space = locked.spaces.get_mut(&self.space.id)?;
        space.locks.get_mut(&self.lock)?.outcome.take()
    }

    async fn outcome(&self) -> Result<Outcome, LockError> {
        poll_fn(|cx| {
            let mut locked = self.space.shared.look();
            let Some(space) = locked.spaces.get_mut(&self.space.id) else {
                return Poll::Ready(Err(LockError::Left));
            };
            match space.locks.get_mut(&self.lock) {
                // The last outcome of a lock takes its place away.
                None => Poll::Ready(Ok(Outcome::Unlocked)),
                Some(cell) => match cell.outcome.take() {
                    Some(outcome) => Poll::Ready(Ok(outcome)),
                    None => {
                        cell.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                },
            }
        })
        .await
    }

    /// Waits for the end of a request or a conversion.
    async fn finish(&mut self, deadline: Option<Duration>) -> Result<(), LockError> {
        /// Takes back what is under way when its future is dropped.
        struct Back<'a>(&'a Lockspace, LockId, bool);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                if self.2 {
                    let _ = self.0.with(|space, now| {
                        if space.locks.get(&self.1).is_some_and(|cell| cell.busy) {
                            // It has ended already if this fails.
                            let _ = space.machine.cancel(self.1, now);
                        }
                    });
                }
            }
        }
        let outcome = {
            let mut back = Back(&self.space, self.lock, true);
            let outcome = match deadline {
                None => Some(self.outcome().await),
                Some(within) => tokio::time::timeout(within, self.outcome()).await.ok(),
            };
            back.2 = outcome.is_none();
            outcome
        };
        let outcome = match outcome {
            Some(outcome) => outcome?,
            // Taken back just now; it may have been granted in the same moment. The answer to that may take long (the
            // membership may be changing), and the time is over.
            None => match self.outcome_so_far() {
                Some(outcome) => outcome,
                None => return Err(LockError::Deadline),
            },
        };
        match outcome {
            Outcome::Granted { mode, status_flags, value } => {
                self.mode = mode;
                if let Some(value) = value {
                    self.value = Some(value);
                }
                self.value_valid = !status_flags.contains(StatusFlags::VALUE_NOT_VALID);
                Ok(())
            }
            Outcome::WouldBlock => Err(LockError::WouldBlock),
            Outcome::Canceled if deadline.is_some() => Err(LockError::Deadline),
            Outcome::Canceled => Err(LockError::Canceled),
            Outcome::Deadlock => Err(LockError::Deadlock),
            Outcome::Unlocked => Err(LockError::Left),
            Outcome::Failed(error) => Err(LockError::Failed(error)),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let lock = self.lock;
        let value = if self.value_block { self.value.take() } else { None };
        let _ = self.space.with(|space, now| {
            let Some(cell) = space.locks.get_mut(&lock) else { return };
            let idle = !cell.busy && cell.mode.is_some();
            if let (true, Some(value)) = (idle, value) {
                cell.abandoned = true;
                cell.busy = true;
                if space.machine.unlock(lock, LockFlags::VALUE_BLOCK, Some(value), now).is_ok() {
                    return;
                }
                if let Some(cell) = space.locks.get_mut(&lock) {
                    cell.busy = false;
                }
            }
            give_up(space, lock, now);
        });
    }
}
