#![forbid(unsafe_code)]
//! A lock manager that shares its locks with the nodes of Linux's distributed lock manager, message for message.
//!
//! Everything in [`machine`] is without input or output: what happens goes in with `handle_*` and with the methods
//! of the user, each with its time; after anything went in, the driver drains [`machine::Machine::poll_transmit`] and
//! [`machine::Machine::poll_event`] until both are `None`, then asks [`machine::Machine::poll_timeout`].

pub mod machine;
pub mod node;
