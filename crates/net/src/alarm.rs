//! Deadlines that are far away, kept by a thread of the process.
//!
//! A runtime that holds any timer at all sets one of the kernel's whenever it goes to sleep and takes it back when it
//! wakes. With a session's next keepalive waiting there, seconds away and moved on before it comes, a call that is
//! answered at once cost 4 % more (0.7 of 17 us, 64 bytes on one core). Here such a deadline costs nothing until it
//! comes. It lives as long as there are connections, and a little longer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// How long the thread stays when there is nothing to wait for.
const IDLE_MAX: Duration = Duration::from_secs(10);
const THREAD_NAME: &str = "outlast-alarm";

/// In the order of their times; the number tells those of one time apart.
type Key = (Instant, u64);

static CLOCKWORK: Clockwork = Clockwork {
    alarms: Mutex::new(Alarms { waiting: BTreeMap::new(), next: 0, running: false }),
    changed: Condvar::new(),
};

struct Clockwork {
    alarms: Mutex<Alarms>,
    /// There is an earlier alarm than the thread waits for.
    changed: Condvar,
}

struct Alarms {
    waiting: BTreeMap<Key, Waiting>,
    next: u64,
    /// There is a thread.
    running: bool,
}

struct Waiting {
    waker: Waker,
    rang: Arc<AtomicBool>,
}

/// Wakes a task once, at a time. Dropping it takes it back.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    key: Option<Key>,
    rang: Arc<AtomicBool>,
}

impl Alarm {
    /// Wakes `waker` after this time, and not at the time that was set before. False: the system gives us no thread,
    /// and nothing is set.
    pub(crate) fn set(&mut self, after: Duration, waker: &Waker) -> bool {
        let mut alarms = CLOCKWORK.lock();
        if let Some(key) = self.key.take() {
            alarms.waiting.remove(&key);
        }
        if !alarms.running && !spawn() {
            return false;
        }
        alarms.running = true;
        let key = (now() + after, alarms.next);
        alarms.next += 1;
        let earliest = alarms.waiting.first_key_value().is_none_or(|(first, _)| key < *first);
        self.rang.store(false, Ordering::Relaxed);
        alarms.waiting.insert(key, Waiting { waker: waker.clone(), rang: Arc::clone(&self.rang) });
        self.key = Some(key);
        drop(alarms);
        if earliest {
            CLOCKWORK.changed.notify_one();
        }
        true
    }

    /// Whether it is still to ring.
    pub(crate) fn is_set(&self) -> bool {
        // What it is asked for is only whether the task was woken: nothing else hangs on the order.
        self.key.is_some() && !self.rang.load(Ordering::Relaxed)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            CLOCKWORK.lock().waiting.remove(&key);
        }
    }
}

impl Clockwork {
    fn lock(&self) -> MutexGuard<'_, Alarms> {
        // Nothing is left half done under this lock, whatever panics.
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn() -> bool {
    let spawned = std::thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(|| {
        let broken = Broken;
        run();
        std::mem::forget(broken);
    });
    if let Err(error) = &spawned {
        tracing::debug!(%error, "no thread for timers, the runtime keeps them");
    }
    spawned.is_ok()
}

/// The thread ends by a waker that panicked: another takes its place, for those who still wait.
struct Broken;

impl Drop for Broken {
    fn drop(&mut self) {
        let mut alarms = CLOCKWORK.lock();
        alarms.running = !alarms.waiting.is_empty() && spawn();
    }
}

fn run() {
    let mut alarms = CLOCKWORK.lock();
    let mut idle_since = None;
    loop {
        let now = now();
        if let Some(first) = alarms.waiting.first_entry()
            && first.key().0 <= now
        {
            let Waiting { waker, rang } = first.remove();
            // A waker may do anything: drop a task with its alarm, for instance.
            drop(alarms);
            rang.store(true, Ordering::Relaxed);
            waker.wake();
            alarms = CLOCKWORK.lock();
            continue;
        }
        let wait = match alarms.waiting.first_key_value() {
            Some(((at, _), _)) => {
                idle_since = None;
                at.saturating_duration_since(now)
            }
            None => {
                let idle = now.saturating_duration_since(*idle_since.get_or_insert(now));
                if idle >= IDLE_MAX {
                    // Under the lock that whoever sets the next alarm needs: it sees that there is no thread.
                    alarms.running = false;
                    return;
                }
                IDLE_MAX - idle
            }
        };
        let waited = CLOCKWORK.changed.wait_timeout(alarms, wait);
        alarms = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver's business is to read clocks")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::task::Wake;

    /// Tells when it is woken, and by which name.
    struct Bell {
        name: u32,
        rings: mpsc::Sender<(u32, Instant)>,
    }

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            // The test may be over.
            let _ = self.rings.send((self.name, now()));
        }
    }

    fn bells() -> (impl Fn(u32) -> Waker, mpsc::Receiver<(u32, Instant)>) {
        let (rings, heard) = mpsc::channel();
        (move |name| Waker::from(Arc::new(Bell { name, rings: rings.clone() })), heard)
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn alarms_ring_in_the_order_of_their_times_and_never_early() {
        let (bell, heard) = bells();
        let began = now();
        let mut alarms: Vec<_> = (0..3).map(|_| Alarm::default()).collect();
        for (index, millis) in [90, 30, 60].into_iter().enumerate() {
            assert!(!alarms[index].is_set());
            assert!(alarms[index].set(Duration::from_millis(millis), &bell(millis as u32)));
            assert!(alarms[index].is_set());
        }
        for expected in [30, 60, 90] {
            let (name, at) = heard.recv_timeout(PATIENCE).expect("it rings");
            assert_eq!(name, expected);
            assert!(at >= began + Duration::from_millis(expected.into()), "{name} was early");
        }
        assert!(alarms.iter().all(|alarm| !alarm.is_set()), "each rings once");
    }

    #[test]
    fn an_alarm_that_is_set_anew_or_dropped_does_not_ring_at_its_old_time() {
        let (bell, heard) = bells();
        let mut moved = Alarm::default();
        assert!(moved.set(Duration::from_millis(20), &bell(1)));
        assert!(moved.set(Duration::from_millis(80), &bell(2)));
        let mut dropped = Alarm::default();
        assert!(dropped.set(Duration::from_millis(40), &bell(3)));
        drop(dropped);
        assert_eq!(heard.recv_timeout(PATIENCE).expect("it rings").0, 2);
        assert!(heard.try_recv().is_err(), "nothing else did");
    }

    #[test]
    fn a_waker_that_panics_costs_nobody_else_his_alarm() {
        struct Bomb;
        impl Wake for Bomb {
            fn wake(self: Arc<Self>) {
                std::panic::resume_unwind(Box::new("a waker that panics"));
            }
        }
        let (bell, heard) = bells();
        let (mut bomb, mut before) = (Alarm::default(), Alarm::default());
        assert!(before.set(Duration::from_millis(40), &bell(1)));
        assert!(bomb.set(Duration::from_millis(20), &Waker::from(Arc::new(Bomb))));
        assert_eq!(heard.recv_timeout(PATIENCE).expect("it was set before").0, 1);
        let mut after = Alarm::default();
        assert!(after.set(Duration::from_millis(5), &bell(2)));
        assert_eq!(heard.recv_timeout(PATIENCE).expect("it was set after").0, 2);
    }
}
