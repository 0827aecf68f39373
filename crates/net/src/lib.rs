#![forbid(unsafe_code)]
//! Sockets for Outlast, on tokio.
//!
//! **The contract in one sentence:** [`drive`] carries bytes between one [`Socket`] and one
//! [`StreamChannel`](outlast_session::StreamChannel) and asks its [`Host`] to let the channel meet its session, until
//! one of them ends; it knows no dialect, holds no lock, and returns why it ended.
//!
//! - [`Clock`]: what time it is for the pure crates, counting the time that the machine slept.
//! - [`Address`], [`connect`], [`Listener`]: TCP over IPv4 and IPv6, and Unix sockets.
//!   A connection that was dialled ends when this machine has moved to another network ([`Tcp`], [`Moved`]).
//! - [`drive`]: the loop of one connection, and [`Host`], what its owner contributes.
//! - [`HalfOpen`]: a bound on connections that have not said yet who they are.
//!
//! A driver for datagrams and one for RDMA will stand beside [`drive`]; nothing here is written for them yet.

mod address;
mod alarm;
mod clock;
mod connect;
mod drive;
mod limit;
mod listener;
mod path;
mod socket;

pub use address::{Address, AddressError};
pub use clock::{CLOCK_CHECK_MAX, Clock};
pub use connect::{ATTEMPT_DELAY, ConnectError, connect, connect_from};
pub use drive::{DriveEnd, Exchange, Host, LINGER_MAX, READ_BYTES_PER_TURN, drive};
pub use limit::{HALF_OPEN_MAX, HalfOpen, HalfOpenPlace};
pub use listener::{BindError, Listener};
pub use path::{Moved, PATH_CHECK_INTERVAL};
pub use socket::{LOCAL_SEND_BUFFER_BYTES, NOT_SENT_BYTES_MAX, Socket, Tcp};
