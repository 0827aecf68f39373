//! One connection of a test: its requests in order, the replies as they come.

use crate::locks::Process;
use crate::wait::{Deadline, Failure};
use crate::{cluster, locks, shell};
use outlast_kernel_agent::protocol::{Command, Reply, Request};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

/// Whole lines, from whoever has something to say.
#[derive(Clone)]
struct Replies(Arc<Mutex<TcpStream>>);

impl Replies {
    fn send(&self, replies: &[Reply]) -> io::Result<()> {
        let mut lines = Vec::new();
        for reply in replies {
            serde_json::to_writer(&mut lines, reply)?;
            lines.push(b'\n');
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&lines)
    }
}

/// Until the test has closed it.
pub(crate) fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let replies = Replies(Arc::new(Mutex::new(stream.try_clone()?)));
    let mut process: Option<Process> = None;
    for line in BufReader::new(stream).lines() {
        let Request { id, command } = serde_json::from_str(&line?)?;
        let reply = match command {
            Command::Open { lockspace } => {
                let sender = replies.clone();
                match Process::open(&lockspace, move |said| sender.send(said)) {
                    Ok(opened) => {
                        process = Some(opened);
                        Reply::Done { id, code: 0, output: String::new() }
                    }
                    Err(Failure { what, errno }) => Reply::Failed { id, error: what, errno },
                }
            }
            Command::Lock { .. }
            | Command::Convert { .. }
            | Command::Unlock { .. }
            | Command::Cancel { .. }
            | Command::Purge { .. } => {
                let process =
                    process.as_mut().ok_or_else(|| io::Error::other("a lock before a lockspace"))?;
                match process.request(&command) {
                    Ok(()) => continue,
                    Err(refused) => refused,
                }
            }
            Command::Sh { .. }
            | Command::Cluster { .. }
            | Command::Forget { .. }
            | Command::Join { .. }
            | Command::Stop { .. }
            | Command::Start { .. }
            | Command::Recovered { .. }
            | Command::LeaveBegin { .. }
            | Command::LeaveEnd { .. }
            | Command::Load { .. } => match perform(&command) {
                Ok((code, output)) => Reply::Done { id, code, output },
                Err(Failure { what, errno }) => Reply::Failed { id, error: what, errno },
            },
        };
        replies.send(&[reply])?;
    }
    Ok(())
}

fn perform(command: &Command) -> Result<(i32, String), Failure> {
    match command {
        Command::Sh { command, seconds } => return shell::run(command, *seconds),
        Command::Cluster { name, node, nodes, settings } => cluster::set_up(name, *node, nodes, settings)?,
        Command::Forget { node } => cluster::forget(*node)?,
        Command::Join { lockspace, number, members, seconds } => {
            cluster::join(lockspace, *number, members, Deadline::after(*seconds))?;
        }
        Command::Stop { lockspace } => cluster::stop(lockspace)?,
        Command::Start { lockspace, members } => cluster::start(lockspace, members)?,
        Command::Recovered { lockspace, seconds } => {
            locks::recovered(lockspace, Deadline::after(*seconds))?;
        }
        Command::LeaveBegin { lockspace, force, seconds } => {
            cluster::begin_to_leave(lockspace, *force, Deadline::after(*seconds))?;
        }
        Command::LeaveEnd { lockspace, seconds } => {
            cluster::end_leaving(lockspace, Deadline::after(*seconds))?;
        }
        Command::Load { lockspace, load, seconds } => {
            let report = locks::measure(lockspace, load, Deadline::after(*seconds))?;
            return Ok((0, report.to_line()));
        }
        Command::Open { .. }
        | Command::Lock { .. }
        | Command::Convert { .. }
        | Command::Unlock { .. }
        | Command::Cancel { .. }
        | Command::Purge { .. } => return Err(Failure::new("not to be done here")),
    }
    Ok((0, String::new()))
}
