//! Thousands of lock operations from both nodes, and somebody who watches that none is lost and none holds what
//! another does.

#![allow(clippy::disallowed_methods, reason = "a test measures how long something takes")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use outlast_dlm::wire::Mode;
use outlast_kernel_harness::protocol::status;
use outlast_kernel_harness::{Event, Process};
use outlast_lockspace::node::{LockOptions, Lockspace};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Ours, theirs};

/// Few, so that they are contended.
const NAMES: usize = 6;
const WORKERS: usize = 6;
/// Who waits longer has been forgotten: the longest queue is a fraction of it.
const LOST_AFTER: Duration = Duration::from_secs(15);

/// Who holds what, as the test sees it: from when a grant was heard of until giving up is asked for. That lies within the
/// time that the lock is really held, so what overlaps here overlaps indeed.
#[derive(Default)]
pub(crate) struct Board {
    held: Mutex<BTreeMap<(usize, String), Mode>>,
    pub(crate) violations: Mutex<Vec<String>>,
    pub(crate) operations: [AtomicU64; 2],
    pub(crate) contended: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) stop: AtomicBool,
}

impl Board {
    /// Whether somebody else holds what would have to be waited for.
    fn is_contended(&self, name: usize, mode: Mode) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().any(|((other, _), held)| *other == name && !held.is_compatible_with(mode))
    }

    fn granted(&self, name: usize, who: &str, mode: Mode) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for ((other, holder), their_mode) in held.iter() {
            if *other == name && holder != who && !their_mode.is_compatible_with(mode) {
                let text = format!("{name}: {who} has {mode} while {holder} has {their_mode}");
                self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        }
        held.insert((name, who.to_owned()), mode);
    }

    fn gives_up(&self, name: usize, who: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&(name, who.to_owned()));
    }

    fn asked(&self, node: usize, name: usize, mode: Mode) {
        self.operations[node].fetch_add(1, Ordering::Relaxed);
        if self.is_contended(name, mode) {
            self.contended.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn draw(rng: &mut StdRng) -> (usize, Mode, Duration) {
    let modes =
        [Mode::Exclusive, Mode::Exclusive, Mode::ProtectedWrite, Mode::ProtectedRead, Mode::ConcurrentWrite];
    let mode = modes[rng.random_range(0..modes.len())];
    (rng.random_range(0..NAMES), mode, Duration::from_micros(rng.random_range(0..3000)))
}

fn name_of(name: usize) -> String {
    format!("storm {name}")
}

/// Our users.
pub(crate) fn ours(node: &Ours, space: &Lockspace, board: &Arc<Board>) -> Vec<tokio::task::JoinHandle<()>> {
    let worker = |number: usize| {
        let (space, board) = (space.clone(), Arc::clone(board));
        node.handle.spawn(async move {
            let who = format!("ours {number}");
            let mut rng = StdRng::seed_from_u64(number as u64);
            while !board.is_over() {
                let (name, mode, pause) = draw(&mut rng);
                board.asked(0, name, mode);
                let lock = space.lock(name_of(name), LockOptions::new(mode));
                let Ok(lock) = tokio::time::timeout(LOST_AFTER, lock).await else {
                    board.lost.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                let mut guard = lock.expect("a lock");
                board.granted(name, &who, guard.mode());
                tokio::time::sleep(pause).await;
                if rng.random_range(0..3) == 0 {
                    // Down, so that it cannot wait for another who waits for it.
                    board.gives_up(name, &who);
                    board.granted(name, &who, Mode::Null);
                    let Ok(converted) =
                        tokio::time::timeout(LOST_AFTER, guard.convert(Mode::ConcurrentRead)).await
                    else {
                        board.lost.fetch_add(1, Ordering::Relaxed);
                        return;
                    };
                    converted.expect("a conversion down");
                    board.granted(name, &who, Mode::ConcurrentRead);
                    tokio::time::sleep(pause).await;
                }
                board.gives_up(name, &who);
                let Ok(unlocked) = tokio::time::timeout(LOST_AFTER, guard.unlock()).await else {
                    board.lost.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                unlocked.expect("an unlock");
            }
        })
    };
    (0..WORKERS).map(worker).collect()
}

enum Step {
    Asked,
    Holding { until: Instant },
    Unlocking,
}

/// The kernel's users: one thread asks for all.
pub(crate) fn kernels(process: &mut Process, board: &Board) {
    let mut rng = StdRng::seed_from_u64(99);
    let mut next_tag = 1;
    let mut locks: BTreeMap<u64, (usize, Mode, Step, Instant)> = BTreeMap::new();
    loop {
        while locks.len() < WORKERS && !board.is_over() {
            let (name, mode, _) = draw(&mut rng);
            board.asked(1, name, mode);
            next_tag += 1;
            process.lock(next_tag, &name_of(name), theirs(mode), 0).expect("the guest is there");
            locks.insert(next_tag, (name, mode, Step::Asked, Instant::now()));
        }
        if locks.is_empty() {
            return;
        }
        if let Some(Event::Ast(ast)) = process.event(Duration::from_millis(1)).expect("the guest is there")
            && let Some((name, mode, step, since)) = locks.get_mut(&ast.tag)
        {
            *since = Instant::now();
            let who = format!("kernel {}", ast.tag);
            match step {
                Step::Asked => {
                    assert_eq!(ast.status, status::GRANTED);
                    board.granted(*name, &who, *mode);
                    let pause = Duration::from_micros(rng.random_range(0..3000));
                    *step = Step::Holding { until: Instant::now() + pause };
                }
                Step::Unlocking => {
                    assert_eq!(ast.status, status::UNLOCKED);
                    locks.remove(&ast.tag);
                }
                Step::Holding { .. } => panic!("{ast:?} for a lock that is held"),
            }
        }
        let now = Instant::now();
        for (tag, (name, _, step, since)) in &mut locks {
            if let Step::Holding { until } = step
                && *until <= now
            {
                board.gives_up(*name, &format!("kernel {tag}"));
                process.unlock(*tag, 0, &[]).expect("the guest is there");
                *step = Step::Unlocking;
                *since = now;
            }
        }
        let before = locks.len();
        locks.retain(|_, (_, _, step, since)| {
            matches!(step, Step::Holding { .. }) || since.elapsed() < LOST_AFTER
        });
        board.lost.fetch_add((before - locks.len()) as u64, Ordering::Relaxed);
    }
}
