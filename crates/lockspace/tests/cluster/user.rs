//! What a user of a node believes of a lock of his, from what he asked for and what he was told.

use outlast_dlm::wire::{LockFlags, Mode};
use outlast_lockspace::machine::Outcome;

/// What is under way.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Request(Mode),
    Convert {
        to: Mode,
        may_lose: bool,
    },
    /// Perhaps while a request was under way, which then may end first.
    Unlock {
        of_request: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct UserLock {
    pub(crate) name: usize,
    pub(crate) held: Option<Mode>,
    pub(crate) asked: Option<Asked>,
    pub(crate) cancel: bool,
    /// A conversion that might be demoted to null on its way came to nothing.
    pub(crate) unsure: bool,
    pub(crate) flags: LockFlags,
    /// What is in the user's value block.
    pub(crate) buffer: u64,
    /// Writes from this one on may be read.
    pub(crate) from: usize,
    /// The write that is under way, and whether the master confirms it.
    pub(crate) writing: Option<(usize, bool)>,
}

/// Holding the result is allowed by holding either.
fn weaker(a: Mode, b: Mode) -> Mode {
    use Mode::{ConcurrentRead, ConcurrentWrite, ProtectedRead};
    match (a, b) {
        (ProtectedRead, ConcurrentWrite) | (ConcurrentWrite, ProtectedRead) => ConcurrentRead,
        _ => a.min(b),
    }
}

/// What may be held together, written down here for its own sake: rows and columns NL CR CW PR PW EX.
pub(crate) fn may_coexist(a: Mode, b: Mode) -> bool {
    const TABLE: [[u8; 6]; 6] = [
        [1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
    ];
    TABLE[a as usize][b as usize] == 1
}

impl UserLock {
    /// The mode that the user may rely on.
    pub(crate) fn relies_on(&self) -> Option<Mode> {
        let held = self.held?;
        match self.asked {
            None => Some(held),
            Some(Asked::Request(_) | Asked::Unlock { .. }) => None,
            Some(Asked::Convert { may_lose: true, .. }) => Some(Mode::Null),
            Some(Asked::Convert { to, may_lose: false }) => Some(weaker(held, to)),
        }
    }

    /// The user was told. Returns whether the lock is over.
    pub(crate) fn told(&mut self, outcome: &Outcome) -> Result<bool, String> {
        let asked = self.asked;
        let wrong = || Err(format!("{outcome:?} for {asked:?}"));
        match (outcome, asked) {
            (Outcome::Granted { mode, .. }, Some(Asked::Request(to) | Asked::Convert { to, .. })) => {
                if *mode != to {
                    return wrong();
                }
                self.held = Some(*mode);
                self.unsure = false;
                self.asked = None;
                self.cancel = false;
                Ok(false)
            }
            (Outcome::WouldBlock | Outcome::Canceled, Some(Asked::Request(_))) => Ok(true),
            (
                Outcome::WouldBlock | Outcome::Canceled | Outcome::Deadlock,
                Some(Asked::Convert { may_lose, .. }),
            ) => {
                if may_lose {
                    self.held = Some(Mode::Null);
                    self.unsure = true;
                }
                self.asked = None;
                self.cancel = false;
                Ok(false)
            }
            (Outcome::Unlocked, Some(_)) => Ok(true),
            // It crossed with the unlock.
            (Outcome::Granted { .. }, Some(Asked::Unlock { of_request: true })) => {
                self.asked = Some(Asked::Unlock { of_request: false });
                Ok(false)
            }
            (Outcome::WouldBlock | Outcome::Canceled, Some(Asked::Unlock { of_request: true })) => Ok(true),
            (
                Outcome::Granted { .. } | Outcome::WouldBlock | Outcome::Canceled | Outcome::Deadlock,
                Some(Asked::Unlock { of_request: false }),
            ) => Ok(false),
            _ => wrong(),
        }
    }
}
