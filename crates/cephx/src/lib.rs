#![forbid(unsafe_code)]
//! stub
pub mod crypt;
mod entity;
pub mod key;
mod secret;
mod time;
mod wire;
pub use entity::*;
pub use key::*;
pub use secret::*;
pub use time::*;
pub use wire::DecodeError;
