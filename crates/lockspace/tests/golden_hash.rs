//! The hash of names is the kernel's: it says where their places in the directory are.
#![allow(clippy::unwrap_used)]

use outlast_dlm::wire::{Body, Frame, Inner};
use outlast_lockspace::machine::name_hash;

/// What `cargo xtask capture dlm` recorded.
const KINDS: &str = include_str!("../../dlm/tests/golden/kinds.hex");

#[test]
fn the_hash_of_a_name_is_the_one_that_a_kernel_sends_with_it() {
    let mut lengths = std::collections::BTreeSet::new();
    for line in KINDS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let hex = line.rsplit(' ').next().unwrap();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let Body::Numbered { inner: Inner::Message(message), .. } = Frame::decode(&bytes).unwrap().body
        else {
            continue;
        };
        if message.kind.has_name() {
            let name = message.name().unwrap();
            assert_eq!(name_hash(name.as_bytes()), message.hash, "{name}");
            lengths.insert(name.as_bytes().len());
        }
    }
    assert!(!lengths.is_empty(), "there are names in the capture");
}
