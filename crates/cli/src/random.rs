//! Randomness from the system.

use rand::rand_core::UnwrapErr;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, SeedableRng as _};

/// The system's random numbers: for keys, nonces and seeds. A system that has none stops the program: nothing made
/// without them would be safe.
pub(crate) const fn system() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// A random number.
pub(crate) fn number() -> u64 {
    system().next_u64()
}

/// Numbers that follow from a seed and from what they are for: reproducible, and no secret.
pub(crate) fn seeded(seed: u64, purpose: &str) -> StdRng {
    let mut hasher = blake3::Hasher::new_derive_key("outlast 2026-11 seeded numbers");
    hasher.update(&seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    StdRng::from_seed(hasher.finalize().into())
}
