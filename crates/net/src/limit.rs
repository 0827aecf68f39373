//! A bound on connections that have not authenticated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections that may be in their handshake at once unless another number is set. Each costs a few KiB and one file
/// descriptor, for at most the handshake's time.
pub const HALF_OPEN_MAX: usize = 16_384;

/// Counts connections that came in and have not said yet, or not proven, who they are.
///
/// A newcomer that finds no place is closed at once rather than made to wait: those who hold the places may never let
/// go before their deadline, and whoever is closed tries again after a pause.
#[derive(Debug, Clone)]
pub struct HalfOpen {
    max: usize,
    taken: Arc<AtomicUsize>,
}

impl HalfOpen {
    /// So many and no more.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, taken: Arc::default() }
    }

    /// A place, given back when it is dropped. None if all are taken.
    #[must_use]
    pub fn enter(&self) -> Option<HalfOpenPlace> {
        let enter = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).ok()?;
        Some(HalfOpenPlace { taken: Arc::clone(&self.taken) })
    }

    /// Places that are taken now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// One connection's place among the half-open ones.
#[derive(Debug)]
pub struct HalfOpenPlace {
    taken: Arc<AtomicUsize>,
}

impl Drop for HalfOpenPlace {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_never_exceeded() {
        let limit = HalfOpen::new(2);
        let first = limit.enter().expect("room");
        let second = limit.enter().expect("room");
        assert!(limit.enter().is_none() && limit.taken() == 2);
        drop(first);
        let third = limit.enter().expect("a place came free");
        assert!(limit.enter().is_none());
        drop((second, third));
        assert_eq!(limit.taken(), 0);
    }
}
