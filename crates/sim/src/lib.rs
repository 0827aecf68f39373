//! A seeded network for Outlast's production types, with checkers apart from them.
//!
//! One number reproduces a run. [`world`] carries the bytes, [`link`] is what can go wrong with them.

pub mod link;
pub mod setup;
pub mod world;
