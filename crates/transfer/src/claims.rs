//! The copies that this process receives, as they see each other.
//!
//! Two things are settled here. A copy that was cut off has threads that still finish what they are at; the next one
//! waits for them before it touches anything, so that nothing late undoes what it does. And a copy whose client is gone makes
//! way:
//!
//! A client that dies leaves its session at the server, which waits for it to come back and keeps its locks. When the
//! same copy is asked for again, on a new session, the old one must not be in the way: the new one takes over what is locked by
//! a copy that has no connection at that moment. A copy that has one is left alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::sleep;
use std::time::Duration;

use tokio::sync::Notify;

/// Device and inode of a partial file.
type Key = (u64, u64);

/// How long a copy waits for the threads of those before it, in milliseconds, and how often it looks. They may be in the
/// middle of syncing a slow disk.
const ENDING_WAIT_MS_MAX: u64 = 10_000;
const ENDING_POLL_MS: u64 = 5;

static COPIES: Mutex<Vec<Weak<Copying>>> = Mutex::new(Vec::new());

static CLAIMS: Mutex<BTreeMap<Key, Weak<Copying>>> = Mutex::new(BTreeMap::new());

fn claims() -> MutexGuard<'static, BTreeMap<Key, Weak<Copying>>> {
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One copy that receives, as others see it.
#[derive(Debug)]
pub(crate) struct Copying {
    connected: AtomicBool,
    taken_over: Notify,
    /// Its engine is gone; whoever else still holds it is a thread that is ending.
    over: AtomicBool,
}

/// Says that a copy is over when it goes, with the future that the copy is.
pub(crate) struct Engine(pub(crate) Arc<Copying>);

impl Drop for Engine {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

impl Copying {
    pub(crate) fn new() -> Arc<Self> {
        let copying = Arc::new(Self {
            connected: AtomicBool::new(true),
            taken_over: Notify::new(),
            over: AtomicBool::new(false),
        });
        let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
        copies.retain(|copy| copy.strong_count() > 0);
        copies.push(Arc::downgrade(&copying));
        copying
    }

    /// Waits, blocking, until the threads of all copies that are over have ended.
    pub(crate) fn wait_for_those_before() {
        for _ in 0..ENDING_WAIT_MS_MAX / ENDING_POLL_MS {
            let ending = {
                let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
                copies.retain(|copy| copy.strong_count() > 0);
                copies.iter().filter_map(Weak::upgrade).any(|copy| copy.over.load(Ordering::Acquire))
            };
            if !ending {
                return;
            }
            sleep(Duration::from_millis(ENDING_POLL_MS));
        }
        tracing::warn!("threads of an earlier copy are still at work");
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
