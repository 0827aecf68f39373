//! The generators of challenges, nonces and cookies.

use chacha20::ChaCha12Rng;
use rand_core::{Infallible, Rng, SeedableRng, TryCryptoRng, TryRng};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// A generator whose output cannot be told from randomness without its seed, and whose memory is wiped when it is
/// dropped: who reads it knows what it drew and what it is going to draw.
///
/// What is behind it is what `rand` calls its standard generator, used directly because only so its wiping can be
/// asked for.
pub(crate) struct Generator(ChaCha12Rng);

const fn is_wiped<T: ZeroizeOnDrop>() {}
const _: () = is_wiped::<ChaCha12Rng>();

impl Generator {
    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(ChaCha12Rng::from_seed(*seed))
    }

    /// Another one, seeded by this one.
    pub(crate) fn fork(&mut self) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        self.0.fill_bytes(&mut *seed);
        Self(ChaCha12Rng::from_seed(*seed))
    }
}

impl TryRng for Generator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(out)
    }
}

impl TryCryptoRng for Generator {}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;

    #[test]
    fn the_generator_is_the_standard_one_of_rand_and_its_forks_are_seeded_from_it() {
        let mut standard = StdRng::from_seed([7; 32]);
        let mut ours = Generator::from_seed([7; 32]);
        assert_eq!(ours.next_u64(), standard.next_u64());
        let mut seed = [0; 32];
        standard.fill_bytes(&mut seed);
        let mut fork = ours.fork();
        assert_eq!(fork.next_u64(), StdRng::from_seed(seed).next_u64());
        assert_eq!(ours.next_u32(), standard.next_u32());
    }
}
