//! Situations: each test is one that the specification draws or that Ceph's own messenger tests name, with what each
//! end must have done and seen on the way.

mod common;
mod identity;
mod lossless;
mod lossy;
mod peers;
mod races;
mod spec;
mod stale;
