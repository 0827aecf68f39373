//! The command `outlast`.
fn main() {}
