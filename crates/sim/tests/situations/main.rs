//! Situations: each test is one that the specification draws or that Ceph's own messenger tests name, with what each
//! end must have done and seen on the way.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect is a failure, whatever it is"
)]

mod common;
mod identity;
mod lossless;
mod lossy;
mod peers;
mod races;
mod spec;
mod stale;
