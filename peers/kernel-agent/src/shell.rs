//! Shell commands with an end.

use crate::wait::{Deadline, Failure};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// The status of a command that was killed because its time was over, as `timeout` has it.
const TOO_LONG: i32 = 124;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// The status and all output of a command. What it leaves in the background goes on.
pub(crate) fn run(command: &str, seconds: u64) -> Result<(i32, String), Failure> {
    // A file, not a pipe: a program in the background would keep a pipe open.
    let path = format!("/tmp/sh-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let output = File::create(&path).map_err(Failure::at(&path))?;
    let errors = output.try_clone().map_err(Failure::at(&path))?;
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(Failure::at("/bin/sh"))?;
    let ended = Deadline::after(seconds).wait_for(command, || child.try_wait().transpose());
    let code = match ended {
        Ok(status) => {
            let status = status.map_err(Failure::at(command))?;
            status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
        }
        Err(_) => {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // If it has just ended there is nobody to kill.
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait().map_err(Failure::at(command))?;
            TOO_LONG
        }
    };
    let said = fs::read(&path).map_err(Failure::at(&path))?;
    fs::remove_file(&path).map_err(Failure::at(&path))?;
    Ok((code, String::from_utf8_lossy(&said).into_owned()))
}
