#![forbid(unsafe_code)]
//! (under construction)
