//! What became of a message.

use crate::core::{Core, Locked};
use crate::error::Lost;
use outlast_session::{LossReason, MessageId, ReceiptStatus};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The promise for one message: ends in exactly one way, acknowledged or [`Lost`].
///
/// Acknowledged means that the peer's messenger has it and will not ask for it again; not that its application has
/// dealt with it, which only a reply can say.
///
/// Awaiting it is optional, and dropping it does no harm. It costs a pointer and a number; nothing is registered
/// before it is polled in vain.
#[derive(Debug)]
#[must_use = "a receipt tells whether the message arrived; drop it if that does not matter"]
pub struct Receipt {
    core: Arc<Core>,
    id: MessageId,
    registered: bool,
}

impl Receipt {
    pub(crate) fn new(core: Arc<Core>, id: MessageId) -> Self {
        Self { core, id, registered: false }
    }

    /// The outcome, if it is known by now.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), Lost>> {
        outcome(&self.core.lock(), self.id)
    }

    /// Takes the message back, if that is still possible: it is, until the last byte of it is handed to the system.
    ///
    /// What has not begun to be written never was. What is being written is aborted, as msgr2 allows for crc mode.
    /// Cancelling this future leaves open what becomes of the message.
    ///
    /// # Errors
    /// It was too late; the receipt goes on.
    pub async fn revoke(self) -> Result<(), Self> {
        let pending = self.core.change(|locked, _| {
            let pending = outcome(locked, self.id).is_none();
            if pending {
                locked.revocations.begin(self.id);
                locked.session.revoke(self.id);
            }
            pending
        });
        if !pending {
            return Err(self);
        }
        let _forget = ForgetRevocation(&self);
        let taken_back = poll_fn(|cx| self.core.lock().revocations.poll(self.id, cx)).await;
        drop(_forget);
        if taken_back { Ok(()) } else { Err(self) }
    }
}

fn outcome(locked: &Locked, id: MessageId) -> Option<Result<(), Lost>> {
    match locked.session.status(id) {
        ReceiptStatus::Pending => None,
        ReceiptStatus::Acknowledged => Some(Ok(())),
        ReceiptStatus::Revoked => Some(Err(Lost::Revoked)),
        ReceiptStatus::Lost(reason) => Some(Err(Lost::Session(reason))),
        ReceiptStatus::NotTracked => Some(Err(Lost::Untracked)),
        // Asked for after many more resets than are remembered.
        ReceiptStatus::Unknown => Some(Err(Lost::Session(LossReason::Reset))),
    }
}

impl Future for Receipt {
    type Output = Result<(), Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let core = Arc::clone(&self.core);
        let mut locked = core.lock();
        if let Some(outcome) = outcome(&locked, self.id) {
            locked.receipts.leave(self.id, &mut self.registered);
            return Poll::Ready(outcome);
        }
        locked.receipts.enter(self.id, cx.waker());
        self.registered = true;
        Poll::Pending
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if self.registered {
            let id = self.id;
            self.core.lock().receipts.leave(id, &mut self.registered);
        }
    }
}

/// Receipts that are being waited for. Within a class of priority messages are acknowledged in order, so only the
/// first of each class needs a look.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    classes: BTreeMap<u8, BTreeMap<MessageId, Waker>>,
}

impl Receipts {
    pub(crate) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    fn enter(&mut self, id: MessageId, waker: &Waker) {
        let class = self.classes.entry(id.priority().0).or_default();
        class.entry(id).and_modify(|known| known.clone_from(waker)).or_insert_with(|| waker.clone());
    }

    fn leave(&mut self, id: MessageId, registered: &mut bool) {
        if !std::mem::take(registered) {
            return;
        }
        self.remove(id);
    }

    fn remove(&mut self, id: MessageId) -> Option<Waker> {
        let class = self.classes.get_mut(&id.priority().0)?;
        let waker = class.remove(&id);
        if class.is_empty() {
            self.classes.remove(&id.priority().0);
        }
        waker
    }

    /// Wakes those whose outcome is known.
    pub(crate) fn settle(&mut self, status: impl Fn(MessageId) -> ReceiptStatus, wakes: &mut Vec<Waker>) {
        self.classes.retain(|_, class| {
            while let Some(first) = class.first_entry()
                && status(*first.key()).is_final()
            {
                wakes.push(first.remove());
            }
            !class.is_empty()
        });
    }

    /// A message that was taken back out of turn.
    pub(crate) fn settle_one(&mut self, id: MessageId, wakes: &mut Vec<Waker>) {
        wakes.extend(self.remove(id));
    }
}

/// Revocations that wait for the connection to try.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    asked: BTreeMap<MessageId, Revocation>,
}

#[derive(Debug)]
enum Revocation {
    Waiting(Option<Waker>),
    Settled(bool),
}

impl Revocations {
    fn begin(&mut self, id: MessageId) {
        self.asked.insert(id, Revocation::Waiting(None));
    }

    fn poll(&mut self, id: MessageId, cx: &mut Context<'_>) -> Poll<bool> {
        match self.asked.get_mut(&id) {
            Some(Revocation::Waiting(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Revocation::Settled(taken_back)) => Poll::Ready(*taken_back),
            None => Poll::Ready(false),
        }
    }

    pub(crate) fn settle(&mut self, id: MessageId, taken_back: bool, wakes: &mut Vec<Waker>) {
        if let Some(asked) = self.asked.get_mut(&id)
            && let Revocation::Waiting(waker) = std::mem::replace(asked, Revocation::Settled(taken_back))
        {
            wakes.extend(waker);
        }
    }

    /// The session ended: what is not settled by now was not taken back.
    pub(crate) fn give_up(&mut self, wakes: &mut Vec<Waker>) {
        for asked in self.asked.values_mut() {
            if let Revocation::Waiting(waker) = asked {
                wakes.extend(waker.take());
                *asked = Revocation::Settled(false);
            }
        }
    }
}

struct ForgetRevocation<'a>(&'a Receipt);

impl Drop for ForgetRevocation<'_> {
    fn drop(&mut self) {
        self.0.core.lock().revocations.asked.remove(&self.0.id);
    }
}
