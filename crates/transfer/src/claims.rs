//! Which copy of this process writes to which partial file, so that one whose client is gone makes way.
//!
//! A client that dies leaves its session at the server, which waits for it to come back and keeps its locks. When the
//! same copy is asked for again, on a new session, the old one must not be in the way: the new one takes over what is locked by
//! a copy that has no connection at that moment. A copy that has one is left alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// Device and inode of a partial file.
type Key = (u64, u64);

static CLAIMS: Mutex<BTreeMap<Key, Weak<Copying>>> = Mutex::new(BTreeMap::new());

fn claims() -> MutexGuard<'static, BTreeMap<Key, Weak<Copying>>> {
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One copy that receives, as others see it.
#[derive(Debug)]
pub(crate) struct Copying {
    connected: AtomicBool,
    taken_over: Notify,
}

impl Copying {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { connected: AtomicBool::new(true), taken_over: Notify::new() })
    }

    /// Whether a connection carries its session at the moment.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// Waits until another copy takes over.
    pub(crate) async fn taken_over(&self) {
        self.taken_over.notified().await;
    }
}

/// That a copy writes to a file.
#[derive(Debug)]
pub(crate) struct Claim(Key);

impl Claim {
    /// Whoever holds the file's lock says so.
    pub(crate) fn new(key: Key, copying: &Arc<Copying>) -> Self {
        claims().insert(key, Arc::downgrade(copying));
        Self(key)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        claims().remove(&self.0);
    }
}

/// Asks the copy that writes to this file to make way, if it is one of this process and has no connection. It lets go of
/// its lock soon after.
pub(crate) fn take_over(key: Key) {
    let holder = claims().get(&key).and_then(Weak::upgrade);
    if let Some(holder) = holder
        && !holder.connected.load(Ordering::Relaxed)
    {
        holder.taken_over.notify_one();
    }
}
