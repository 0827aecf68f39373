//! The hash of names: Bob Jenkins' lookup3 (public domain), which Linux calls `jhash` (`dir.c`, `lock.c`).

/// What the state begins with, before the length is added.
const SEED: u32 = 0xdead_beef;
/// Bytes that are taken in at once.
const BLOCK_BYTES: usize = 12;

/// The hash of a resource's name, the same on all nodes: it says which one knows the resource's master.
pub fn name_hash(name: &[u8]) -> u32 {
    // A name has at most 64 bytes; the hash is defined for any length modulo 2^32.
    let start = SEED.wrapping_add(name.len() as u32);
    let mut state = [start; 3];
    let mut rest = name;
    while let Some((block, behind)) = rest.split_first_chunk::<BLOCK_BYTES>() {
        // The last block is always left for the other rounds, even a whole one.
        if behind.is_empty() {
            break;
        }
        take_in(&mut state, block);
        mix(&mut state);
        rest = behind;
    }
    if !rest.is_empty() {
        let mut block = [0; BLOCK_BYTES];
        for (place, byte) in block.iter_mut().zip(rest) {
            *place = *byte;
        }
        take_in(&mut state, &block);
        finish(&mut state);
    }
    let [_, _, hash] = state;
    hash
}

fn take_in(state: &mut [u32; 3], block: &[u8; BLOCK_BYTES]) {
    let (words, _) = block.as_chunks::<4>();
    for (word, bytes) in state.iter_mut().zip(words) {
        *word = word.wrapping_add(u32::from_le_bytes(*bytes));
    }
}

fn mix([a, b, c]: &mut [u32; 3]) {
    for (x, y, z) in [(4, 6, 8), (16, 19, 4)] {
        *a = a.wrapping_sub(*c) ^ c.rotate_left(x);
        *c = c.wrapping_add(*b);
        *b = b.wrapping_sub(*a) ^ a.rotate_left(y);
        *a = a.wrapping_add(*c);
        *c = c.wrapping_sub(*b) ^ b.rotate_left(z);
        *b = b.wrapping_add(*a);
    }
}

fn finish([a, b, c]: &mut [u32; 3]) {
    *c = (*c ^ *b).wrapping_sub(b.rotate_left(14));
    *a = (*a ^ *c).wrapping_sub(c.rotate_left(11));
    *b = (*b ^ *a).wrapping_sub(a.rotate_left(25));
    *c = (*c ^ *b).wrapping_sub(b.rotate_left(16));
    *a = (*a ^ *c).wrapping_sub(c.rotate_left(4));
    *b = (*b ^ *a).wrapping_sub(a.rotate_left(14));
    *c = (*c ^ *b).wrapping_sub(b.rotate_left(24));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_its_author_gives_as_examples() {
        // The self-test of lookup3.c.
        assert_eq!(name_hash(b""), 0xdead_beef);
        assert_eq!(name_hash(b"Four score and seven years ago"), 0x1777_0551);
    }
}
