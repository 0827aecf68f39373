//! One production connection against a scripted peer that says what it must not, and two production connections with
//! somebody in between.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect is a failure, whatever it is"
)]

mod accepting;
mod both;
mod config;
mod dialling;
mod malice;
mod pair;
mod ready;
mod rig;
mod waiting;
