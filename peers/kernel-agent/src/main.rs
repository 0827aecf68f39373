//! Runs in a guest of `peers/kernel`: serves tests on a TCP port of the guest.

#![forbid(unsafe_code)]
// A program in a guest, not a pure crate: it waits for the kernel.
#![allow(clippy::disallowed_methods)]

mod cluster;
mod connection;
mod locks;
mod shell;
mod wait;

use outlast_kernel_agent::AGENT_PORT;
use std::net::{Ipv4Addr, TcpListener};

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, AGENT_PORT))?;
    // For whoever reads the console.
    println!("the agent listens on port {AGENT_PORT}");
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(error) = connection::serve(&stream) {
                eprintln!("a connection ended: {error}");
            }
        });
    }
    Ok(())
}
