//! The project's own commands: `cargo xtask help` lists them.

// This is a program at a terminal, not a pure crate: it measures how long things take.
#![allow(clippy::disallowed_methods)]

mod capture;
mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("capture") => capture::capture(&arguments[1..]),
        _ => Err("help".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
