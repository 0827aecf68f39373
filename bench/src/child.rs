//! One end of a run: a process of its own.

use crate::case::{Role, Task};
use crate::rivals;
use anyhow::{Context, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::io::Write;
use std::time::Duration;

/// Ended by its own deadline.
const EXIT_DEADLINE: i32 = 3;

/// Does what the task says, prints where it listens (the server) or what it measured (the client) as one line.
pub(crate) fn run(task: &str) -> Result<()> {
    let task: Task = serde_json::from_str(task).context("the task of a child")?;
    watch(task.deadline);
    set_pdeathsig(Signal::SIGKILL)?;
    match task.role {
        Role::Server => {
            // When the client has gone, some rivals say so with an error; its own result tells whether it was well.
            rivals::serve(task, Box::new(|address| print(&address.to_string())))
        }
        Role::Client { server } => {
            let outcome = rivals::drive(task, server)?;
            print(&serde_json::to_string(&outcome)?)
        }
    }
}

fn print(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// No run hangs, whatever a rival does.
fn watch(deadline: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(deadline);
        eprintln!("not finished within {deadline:?}");
        std::process::exit(EXIT_DEADLINE);
    });
}
