//! Counts what a thread allocates: no input may make us hold much more than it is long, limits aside.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meter;

thread_local! {
    // Signed: what one thread allocates another may free.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn add(bytes: isize) {
    // A thread that is ending has no counters any more, and nothing that matters to count.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

const fn signed(bytes: usize) -> isize {
    bytes.cast_signed()
}

// SAFETY: every method hands its arguments on to `System` unchanged and returns what that returns; counting touches
// only constant-initialised thread-locals without destructors, so it never allocates.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(signed(layout.size()));
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(-signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // While it is moved, both may be there.
        add(signed(new_size));
        add(-signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, new_size) }
    }
}

/// Bytes that this thread holds now, counted from any fixed point.
#[must_use]
pub fn live() -> isize {
    LIVE.with(Cell::get)
}

/// Runs something and returns how many bytes it held at most, beyond those held before.
pub fn peak_of(run: impl FnOnce()) -> usize {
    let before = live();
    PEAK.with(|peak| peak.set(before));
    run();
    usize::try_from(PEAK.with(Cell::get) - before).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_for_a_moment_counts() {
        let peak = peak_of(|| drop(std::hint::black_box(vec![1_u8; 100_000])));
        assert!((100_000..200_000).contains(&peak), "{peak}");
        assert!(peak_of(|| ()) < 1000);
    }
}
