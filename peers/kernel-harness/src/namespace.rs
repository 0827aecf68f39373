//! A network namespace: another machine, as far as the network is concerned.

use crate::LabError;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// A network namespace by name; it is deleted when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new(name: String) -> Result<Self, LabError> {
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// As `ip netns` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command in the namespace. `ip` becomes the program: to kill it is to kill that.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs `ip` for the namespace.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn ip(&self, arguments: &[&str]) -> Result<(), LabError> {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// Runs `work` on a thread inside and waits for it. A socket stays in the namespace in which it was made: it
    /// may be used outside, whoever listens, connects or builds a runtime does it here.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    ///
    /// # Panics
    ///
    /// If `work` does.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `work` on a thread inside that goes on by itself: a whole node, with its own runtime. A runtime of
    /// tokio must be of the kind `current_thread`, because its other threads would not be inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<Result<T, LabError>> {
        let inside = Self::file(&self.name);
        std::thread::spawn(move || {
            enter(&inside?)?;
            Ok(work())
        })
    }

    /// Connects from the namespace.
    ///
    /// # Errors
    ///
    /// There is no connection in that time.
    pub fn connect(&self, to: Ipv4Addr, port: u16, limit: Duration) -> Result<TcpStream, LabError> {
        let connected = self.within(|| TcpStream::connect_timeout(&(to, port).into(), limit))?;
        connected.map_err(LabError::at(format!("{to}:{port}")))
    }

    fn enter(&self) -> Result<(), LabError> {
        enter(&Self::file(&self.name)?)
    }

    fn file(name: &str) -> Result<File, LabError> {
        let path = format!("/run/netns/{name}");
        File::open(&path).map_err(LabError::at(path))
    }
}

/// The thread is in the namespace from now on.
fn enter(namespace: &File) -> Result<(), LabError> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|errno| LabError::at("setns")(errno.into()))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left is swept when the next lab is made.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

pub(crate) fn ip(arguments: &[&str]) -> Result<(), LabError> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::null());
    run(&mut command).map(drop)
}

/// What the command says, or why it did not do it.
pub(crate) fn run(command: &mut Command) -> Result<String, LabError> {
    let output = command.output().map_err(LabError::at(format!("{command:?}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::new(format!("{command:?}: {}: {said}", output.status)))
}
