//! The hash of names (to be written: lookup3).

/// The hash of a resource's name, the same on all nodes.
pub fn name_hash(_name: &[u8]) -> u32 {
    0
}
