//! The queue from which the reading threads take their work.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::wire::Hash;

use super::walk::SourceFile;

/// What the sink has of a file already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// Nothing.
    Nothing,
    /// This many bytes with this hash.
    Prefix { offset: u64, hash: Hash },
    /// A whole file with this hash, that may be the same.
    Whole { hash: Hash },
}

/// One file to be read.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) file: Arc<SourceFile>,
    pub(super) basis: Basis,
}

/// Bounded by what may be in flight: [`crate::limits::ENTRIES_IN_FLIGHT_MAX`].
#[derive(Debug, Default)]
pub(super) struct Jobs {
    state: Mutex<(VecDeque<Job>, bool)>,
    ready: Condvar,
}

impl Jobs {
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.extend(jobs);
        drop(state);
        self.ready.notify_all();
    }

    /// The threads end when they come for more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = true;
        state.0.clear();
        drop(state);
        self.ready.notify_all();
    }

    /// Waits for work: the next file, and with it those after it for as long as `together` says yes to each.
    /// Empty once it is closed.
    pub(super) fn take(&self, mut together: impl FnMut(&Job) -> bool) -> Vec<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.1 {
                return Vec::new();
            }
            if let Some(first) = state.0.pop_front() {
                let mut more = together(&first);
                let mut taken = vec![first];
                while more {
                    match state.0.front() {
                        Some(next) if together(next) => taken.extend(state.0.pop_front()),
                        _ => more = false,
                    }
                }
                return taken;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Closes the queue when the copy ends, however it ends.
pub(super) struct Closer(pub(super) Arc<Jobs>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}
