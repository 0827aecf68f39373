//! `outlast dlm lock`: runs a command under a lock, as flock(1) does, across machines.

use super::SocketArgs;
use super::client::{Asked, unexpected};
use super::protocol::{Reply, Request};
use crate::exit::{Context as _, Exit, Outcome};
use crate::{signals, units};
use clap::Args;
use outlast_dlm::wire::Mode;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;
use tokio::process::Command;

const LONG_HELP: &str = "\
Waits for a lock, runs a command while it is held, and gives it up: flock(1) for several machines. The exit code is that of the \
command (128 and the signal's number, if a signal ended it).

If the member on this machine ends, the lock is gone: the command is told by SIGTERM, since what it does may no longer be \
alone.";

const EXAMPLES: &str = "\
Examples:
    outlast dlm lock backup -- /usr/local/bin/backup
    outlast dlm lock --no-wait nightly -- ./report || echo \"another machine does it\"
    outlast dlm lock --mode PR --wait 30s config -- cat /shared/config

Modes: NL null, CR and CW concurrent read and write, PR protected read (shared), PW protected write, EX exclusive.";

/// Run a command while this machine holds a lock
#[derive(Debug, Args)]
#[command(long_about = LONG_HELP, after_help = EXAMPLES)]
pub(crate) struct LockArgs {
    /// The name of the lock
    name: String,
    /// How it is held
    #[arg(long, value_name = "MODE", default_value = "EX", value_parser = parse_mode)]
    mode: Mode,
    /// Do not wait if others hold it
    #[arg(long, short, conflicts_with = "wait")]
    no_wait: bool,
    /// Wait so long at most: 500ms, 30s, 5m
    #[arg(long, short, value_name = "TIME", value_parser = units::parse_time)]
    wait: Option<Duration>,
    /// The exit code if others hold it
    #[arg(long, short = 'E', value_name = "CODE", default_value_t = 1)]
    conflict_exit_code: u8,
    /// In this lockspace; needed if the member is in several
    #[arg(long, value_name = "NAME")]
    lockspace: Option<String>,
    #[command(flatten)]
    socket: SocketArgs,
    /// The command
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    Mode::from_name(text).ok_or_else(|| "one of NL, CR, CW, PR, PW and EX".to_owned())
}

pub(crate) async fn run(args: LockArgs) -> Outcome {
    let wait = if args.no_wait { Some(Duration::ZERO) } else { args.wait };
    let request = Request::Lock {
        lockspace: args.lockspace,
        name: args.name.clone(),
        mode: args.mode.to_string(),
        wait_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
    };
    let stop = signals::stop();
    let mut asked = Asked::ask(&args.socket, &request).await?;
    let reply = tokio::select! {
        reply = asked.reply() => reply?,
        exit = stop => return Ok(exit),
    };
    if reply == Reply::Held {
        eprintln!("outlast: {} is held by others", args.name);
        exit(i32::from(args.conflict_exit_code));
    }
    if reply != Reply::Granted {
        return Err(unexpected(&reply));
    }
    let (program, arguments) = args.command.split_first().unwrap_or((&args.command[0], &[]));
    let mut child = Command::new(program)
        .args(arguments)
        .spawn()
        .context(format!("cannot run {}", program.to_string_lossy()))?;
    let status = tokio::select! {
        status = child.wait() => status,
        // Nothing more is said while the lock is held: this is its end.
        lost = asked.reply() => {
            if let Err(failure) = lost {
                eprintln!("{failure}: the lock is lost");
            }
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let _ = child.wait().await;
            return Ok(Exit::Unreachable);
        }
    };
    let status = status.context("the command")?;
    drop(asked);
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    exit(code.unwrap_or(Exit::Failed as i32));
}

/// Any code that another program chose.
fn exit(code: i32) -> ! {
    std::process::exit(code)
}
