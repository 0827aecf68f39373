#![forbid(unsafe_code)]
//! The protocol between the nodes of Linux's distributed lock manager (DLM), without input or output.

pub mod wire;
