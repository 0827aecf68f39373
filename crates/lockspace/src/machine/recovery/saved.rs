//! Messages about locks that come while locking stands still (Linux: `requestqueue.c`).
//!
//! They come because the lockspace is stopped on some nodes before it is on others, and runs again on some before
//! it does on others.

use std::collections::VecDeque;

use outlast_dlm::wire::{Inner, Message, MessageKind, NodeId};
use outlast_session::Instant;

use crate::machine::{Machine, MachineFault};

/// How many messages are kept at most: one node's operations that were under way when it stopped, times the nodes.
const SAVED_MAX: usize = 1 << 20;

/// Messages that wait until locking goes on, in the order in which they came.
pub(crate) type Saved = VecDeque<(NodeId, Message)>;

impl Machine {
    /// Handles what another node sent: `from` is whose connection it came over. Messages about locks wait while locking
    /// stands still.
    ///
    /// # Errors
    /// [`MachineFault`]: what the peer sent cannot be; nothing was done.
    pub fn handle_message(&mut self, from: NodeId, inner: Inner, now: Instant) -> Result<(), MachineFault> {
        match inner {
            Inner::Rcom(rcom) => self.receive_rcom(from, rcom, now),
            Inner::Message(message) if message.lockspace != self.config.lockspace => {
                Err(MachineFault::Lockspace(message.lockspace))
            }
            Inner::Message(message) if self.is_running() => self.receive_message(from, message, now),
            Inner::Message(message) => self.save_message(from, message),
            Inner::Fin => Err(MachineFault::NotAboutALock),
        }
    }

    /// Keeps a message until locking goes on.
    ///
    /// # Errors
    /// [`MachineFault::Recovery`] when there are too many.
    fn save_message(&mut self, from: NodeId, message: Message) -> Result<(), MachineFault> {
        if self.recovery.generation == 0 {
            // Of a life of this node in the lockspace before this one.
            self.statistics.ignored += 1;
            return Ok(());
        }
        if self.recovery.saved.len() >= SAVED_MAX {
            return Err(MachineFault::Recovery {
                node: from,
                why: "too many messages while locking stands still",
            });
        }
        self.recovery.saved.push_back((from, message));
        Ok(())
    }

    /// Drops what was said before the change and is void after it: everything of those who left, and everything
    /// about the directory, which is new. Who asked it asks again.
    pub(super) fn purge_saved(&mut self) {
        let members = &self.members;
        self.recovery.saved.retain(|(from, message)| {
            let about_directory = match message.kind {
                MessageKind::Lookup | MessageKind::LookupReply | MessageKind::Remove => true,
                MessageKind::Request
                | MessageKind::Convert
                | MessageKind::Unlock
                | MessageKind::Cancel
                | MessageKind::RequestReply
                | MessageKind::ConvertReply
                | MessageKind::UnlockReply
                | MessageKind::CancelReply
                | MessageKind::Grant
                | MessageKind::Blocking
                | MessageKind::Purge => false,
            };
            !about_directory && !members.is_gone(*from)
        });
        // Nobody goes on before we are as far as this.
        self.recovery.saved_before = self.recovery.saved.len();
    }

    /// Whether what is handled now was said before the recovery.
    pub(crate) const fn is_of_before(&self) -> bool {
        self.recovery.saved_before > 0
    }

    /// Handles what was kept, in the order in which it came.
    pub(super) fn replay_saved(&mut self, now: Instant) {
        while let Some((from, message)) = self.recovery.saved.pop_front() {
            // A fault is counted; over which connection it came is not known any more.
            self.receive_message(from, message, now).ok();
            self.recovery.saved_before = self.recovery.saved_before.saturating_sub(1);
        }
    }
}
