//! A guest, and what it is told about the cluster.

use crate::lab::{Inner, address, port_of};
use crate::process::Process;
use crate::{CLUSTER_NAME, LabError, PATIENCE, agent};
use outlast_kernel_agent::AGENT_PORT;
use outlast_kernel_agent::load::{Load, LoadReport};
use outlast_kernel_agent::protocol::{Command, Node, Reply, Request};
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a guest may take to boot. Alone it takes 3 s.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// One attempt to reach a guest that may still be booting.
const CONNECT_LIMIT: Duration = Duration::from_millis(250);
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// An answer may come so much later than the limit that the request itself has.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);
/// So much of the console is shown when a test fails.
const CONSOLE_LINES: usize = 30;

/// A kernel; switched off when dropped.
pub struct Guest {
    lab: Arc<Inner>,
    node: u8,
    folder: PathBuf,
    /// QEMU.
    machine: Child,
}

/// Which Linux a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernel {
    /// 6.12: its DLM speaks 3.2, and 3.1 with those that know no other.
    #[default]
    V6_12,
    /// 5.10: its DLM speaks nothing but 3.1.
    V5_10,
}

impl Kernel {
    /// As `peers/kernel` has it, and `uname -r` begins.
    pub const fn release(self) -> &'static str {
        match self {
            Self::V6_12 => "6.12",
            Self::V5_10 => "5.10",
        }
    }
}

/// The machine that a guest shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Which Linux.
    pub kernel: Kernel,
    /// 1 to 9.
    pub processors: u8,
    /// Files are in it, too.
    pub memory_mb: u32,
    /// Programs and what else the guest is to have, in its folder `/job`. Programs are static: there are no
    /// libraries in the guest.
    pub files: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { kernel: Kernel::default(), processors: 1, memory_mb: 320, files: Vec::new() }
    }
}

/// How to boot.
pub(crate) struct Boot<'a> {
    pub(crate) node: u8,
    pub(crate) options: &'a Options,
    pub(crate) bridge: &'static str,
    pub(crate) folder: PathBuf,
    pub(crate) agent: PathBuf,
}

impl Guest {
    pub(crate) fn boot(lab: Arc<Inner>, boot: Boot<'_>) -> Result<Self, LabError> {
        let Boot { node, options, bridge, folder, agent } = boot;
        let script = agent::root().join("peers/kernel");
        let mut command = std::process::Command::new(&script);
        command
            .arg("boot")
            .arg(&folder)
            .args(["--kernel", options.kernel.release()])
            .args(["--netns", lab.namespace.name(), "--tap", &port_of(node), "--bridge", bridge])
            .args(["--address", &format!("{}/24", address(node))])
            .args(["--cpus", &options.processors.to_string(), "--mem", &options.memory_mb.to_string()])
            .args(["--owner", &std::process::id().to_string()])
            .arg("--agent")
            .arg(agent)
            .stdin(Stdio::null());
        for file in &options.files {
            command.arg("--file").arg(file);
        }
        let machine = command.spawn().map_err(LabError::at(script.display()))?;
        let mut guest = Self { lab, node, folder, machine };
        guest.wait_for_agent()?;
        Ok(guest)
    }

    fn wait_for_agent(&mut self) -> Result<(), LabError> {
        let deadline = Instant::now() + BOOT_LIMIT;
        loop {
            match self.lab.namespace.connect(self.address(), AGENT_PORT, CONNECT_LIMIT) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    return Err(LabError::new(format!(
                        "guest {}: {error}\n{}",
                        self.node,
                        self.serial_log()
                    )));
                }
                Err(_) => std::thread::sleep(CONNECT_PAUSE),
            }
            if let Some(status) = self.machine.try_wait().map_err(LabError::at("QEMU"))? {
                let log = fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
                return Err(LabError::new(format!("guest {}: {status}: {log}", self.node)));
            }
        }
    }

    /// Its number in the cluster, also the last part of its address.
    pub fn node(&self) -> u8 {
        self.node
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        address(self.node)
    }

    /// What a shell command in the guest says.
    ///
    /// # Errors
    ///
    /// It fails, or takes longer than [`PATIENCE`].
    pub fn sh(&self, command: &str) -> Result<String, LabError> {
        match self.sh_status(command, PATIENCE)? {
            (0, said) => Ok(said),
            (code, said) => Err(LabError::new(format!("{command}: status {code}: {said}"))),
        }
    }

    /// The status and output of a shell command in the guest; 124 if it was killed because the time was over.
    ///
    /// # Errors
    ///
    /// The guest does not answer.
    pub fn sh_status(&self, command: &str, limit: Duration) -> Result<(i32, String), LabError> {
        self.call(Command::Sh { command: command.to_owned(), seconds: limit.as_secs() })
    }

    /// The kernel's log.
    ///
    /// # Errors
    ///
    /// The guest does not answer.
    pub fn dmesg(&self) -> Result<String, LabError> {
        self.sh("dmesg")
    }

    /// What the guest has shown on its console: warnings of the kernel, and how it died.
    pub fn serial_log(&self) -> String {
        let bytes = fs::read(self.folder.join("serial.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Tells it who the nodes are; may be repeated with more of them. `settings` are further attributes of
    /// the cluster in configfs, such as `("toss_secs", "1")`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn cluster(&self, nodes: &[u8], settings: &[(&str, &str)]) -> Result<(), LabError> {
        let nodes = nodes.iter().map(|node| Node { id: u32::from(*node), address: address(*node) }).collect();
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let name = CLUSTER_NAME.to_owned();
        self.done(Command::Cluster { name, node: u32::from(self.node), nodes, settings })
    }

    /// Tells it that a node is gone for good, as after fencing: its connections are closed. Before, the node
    /// must be no member of a lockspace any more.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn forget(&self, node: u8) -> Result<(), LabError> {
        self.done(Command::Forget { node: u32::from(node) })
    }

    /// Joins a lockspace; ends when all members have recovered together, so the others must do their part at the
    /// same time: [`join_all`], [`change_members`].
    ///
    /// # Errors
    ///
    /// What the kernel says, or that it took longer than [`PATIENCE`].
    pub fn join(&self, lockspace: &str, number: u32, members: &[u8]) -> Result<(), LabError> {
        let members = members.iter().map(|node| u32::from(*node)).collect();
        let lockspace = lockspace.to_owned();
        self.done(Command::Join { lockspace, number, members, seconds: PATIENCE.as_secs() })
    }

    /// Stops a lockspace: the first half of a change of its members, done on all before the second half.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn stop(&self, lockspace: &str) -> Result<(), LabError> {
        self.done(Command::Stop { lockspace: lockspace.to_owned() })
    }

    /// Starts a stopped lockspace with these members. Recovery goes on behind it.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn start(&self, lockspace: &str, members: &[u8]) -> Result<(), LabError> {
        let members = members.iter().map(|node| u32::from(*node)).collect();
        self.done(Command::Start { lockspace: lockspace.to_owned(), members })
    }

    /// Stop and start at once: enough where the order among the nodes does not matter.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn set_members(&self, lockspace: &str, members: &[u8]) -> Result<(), LabError> {
        self.stop(lockspace)?;
        self.start(lockspace, members)
    }

    /// Waits until recovery has ended and locks are served.
    ///
    /// # Errors
    ///
    /// It took longer than [`PATIENCE`].
    pub fn recovered(&self, lockspace: &str) -> Result<(), LabError> {
        let lockspace = lockspace.to_owned();
        self.done(Command::Recovered { lockspace, seconds: PATIENCE.as_secs() })
    }

    /// Leaves a lockspace in which nobody else is; see [`leave`]. Its [`Process`]es must be dropped.
    ///
    /// # Errors
    ///
    /// What the kernel says (EBUSY if there are locks still), or that it took longer than [`PATIENCE`].
    pub fn leave(&self, lockspace: &str) -> Result<(), LabError> {
        self.leave_begin(lockspace, false)?;
        self.leave_end(lockspace)
    }

    /// Begins to leave, even with locks if that is to be forced, up to where the other members are to be told.
    ///
    /// # Errors
    ///
    /// As [`Guest::leave`].
    pub fn leave_begin(&self, lockspace: &str, force: bool) -> Result<(), LabError> {
        let lockspace = lockspace.to_owned();
        self.done(Command::LeaveBegin { lockspace, force, seconds: PATIENCE.as_secs() })
    }

    /// Ends what [`Guest::leave_begin`] began. If it is the last lockspace, the kernels say goodbye to each other,
    /// for which this one waits up to 5 s when others have not been told.
    ///
    /// # Errors
    ///
    /// As [`Guest::leave`].
    pub fn leave_end(&self, lockspace: &str) -> Result<(), LabError> {
        let lockspace = lockspace.to_owned();
        self.done(Command::LeaveEnd { lockspace, seconds: PATIENCE.as_secs() })
    }

    /// A process in the guest that locks in this lockspace; it dies when it is dropped.
    ///
    /// # Errors
    ///
    /// The guest has not joined.
    pub fn process(&self, lockspace: &str) -> Result<Process, LabError> {
        Process::open(self.connect()?, lockspace)
    }

    /// Has one process in the guest lock and unlock, and measures in the guest how that goes.
    ///
    /// # Errors
    ///
    /// What the kernel says, or that it took longer than `limit`.
    pub fn load(&self, lockspace: &str, load: Load, limit: Duration) -> Result<LoadReport, LabError> {
        let lockspace = lockspace.to_owned();
        let (_, line) = self.call(Command::Load { lockspace, load, seconds: limit.as_secs() })?;
        LoadReport::from_line(&line).map_err(|error| LabError::new(format!("{line}: {error}")))
    }

    /// Resets all DLM connections of the guest, and says how many there were.
    ///
    /// # Errors
    ///
    /// The guest does not answer.
    pub fn reset_connections(&self) -> Result<usize, LabError> {
        let port = crate::DLM_PORT;
        let command = format!("ss -K -t -n -H state established '( sport = :{port} or dport = :{port} )'");
        Ok(self.sh(&command)?.lines().filter(|line| !line.trim().is_empty()).count())
    }

    /// Switches it off without a word, as a power failure does.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub fn power_off(&mut self) -> Result<(), LabError> {
        // If it has ended already, that is as good.
        let _ = self.machine.kill();
        self.machine.wait().map(drop).map_err(LabError::at("QEMU"))
    }

    fn done(&self, command: Command) -> Result<(), LabError> {
        self.call(command).map(drop)
    }

    fn connect(&self) -> Result<TcpStream, LabError> {
        let stream = self.lab.namespace.connect(self.address(), AGENT_PORT, PATIENCE)?;
        stream.set_nodelay(true).map_err(LabError::at("a connection to a guest"))?;
        Ok(stream)
    }

    /// On a connection of its own, so that requests that wait do not stand in the way of others.
    fn call(&self, command: Command) -> Result<(i32, String), LabError> {
        let limit = match &command {
            Command::Sh { seconds, .. } | Command::Load { seconds, .. } => Duration::from_secs(*seconds),
            Command::Cluster { .. }
            | Command::Forget { .. }
            | Command::Join { .. }
            | Command::Stop { .. }
            | Command::Start { .. }
            | Command::Recovered { .. }
            | Command::LeaveBegin { .. }
            | Command::LeaveEnd { .. }
            | Command::Open { .. }
            | Command::Lock { .. }
            | Command::Convert { .. }
            | Command::Unlock { .. }
            | Command::Cancel { .. }
            | Command::Purge { .. } => PATIENCE,
        };
        let what = format!("guest {}: {command:?}", self.node);
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(limit + ANSWER_MARGIN)).map_err(LabError::at(&what))?;
        match ask(&mut stream, command)
            .map_err(|error| LabError { what: format!("{what}: {error}"), ..error })?
        {
            Reply::Done { code, output, .. } => Ok((code, output)),
            Reply::Failed { error, errno, .. } => Err(LabError { what: format!("{what}: {error}"), errno }),
            other @ (Reply::Ast { .. } | Reply::Bast { .. } | Reply::Refused { .. }) => {
                Err(LabError::new(format!("{what}: {other:?}")))
            }
        }
    }
}

/// One request, and the first reply. Nothing else may be under way on the connection.
pub(crate) fn ask(stream: &mut TcpStream, command: Command) -> Result<Reply, LabError> {
    send(stream, &Request { id: 0, command })?;
    let mut line = String::new();
    // Unbuffered beyond the line: the agent says nothing more until it is asked.
    match BufReader::new(stream).read_line(&mut line) {
        Ok(0) => Err(LabError::new("the guest's agent has closed the connection")),
        Ok(_) => serde_json::from_str(&line).map_err(|error| LabError::new(format!("{line}: {error}"))),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(LabError::new("the guest does not answer"))
        }
        Err(error) => Err(LabError::at("the guest's agent")(error)),
    }
}

pub(crate) fn send(stream: &mut TcpStream, request: &Request) -> Result<(), LabError> {
    let mut line = serde_json::to_vec(request).map_err(|error| LabError::new(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(LabError::at("the guest's agent"))
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = self.serial_log();
            let lines: Vec<_> = console.lines().collect();
            let last = lines.len().saturating_sub(CONSOLE_LINES);
            eprintln!("--- console of guest {}\n{}", self.node, lines[last..].join("\n"));
        }
        let _ = self.power_off();
    }
}

/// All guests join a lockspace as its members, at the same time.
///
/// # Errors
///
/// The first that one of them says.
pub fn join_all(guests: &[Guest], lockspace: &str, number: u32) -> Result<(), LabError> {
    let members: Vec<_> = guests.iter().map(Guest::node).collect();
    at_once(guests, |guest| guest.join(lockspace, number, &members))
}

/// Guests that stay in a lockspace are told its new members, as cluster software does: all are stopped, then all
/// are started, then recovery is waited for. A node that joins or leaves does its part meanwhile.
///
/// # Errors
///
/// The first that one of them says.
pub fn change_members(guests: &[&Guest], lockspace: &str, members: &[u8]) -> Result<(), LabError> {
    at_once(guests, |guest| guest.stop(lockspace))?;
    at_once(guests, |guest| guest.start(lockspace, members))?;
    at_once(guests, |guest| guest.recovered(lockspace))
}

/// A guest leaves a lockspace; these others stay in it, and there are no more.
///
/// # Errors
///
/// The first that one of them says.
pub fn leave(guest: &Guest, lockspace: &str, others: &[&Guest]) -> Result<(), LabError> {
    guest.leave_begin(lockspace, false)?;
    let members: Vec<_> = others.iter().map(|other| other.node()).collect();
    change_members(others, lockspace, &members)?;
    guest.leave_end(lockspace)
}

fn at_once<G: Sync>(guests: &[G], work: impl Fn(&G) -> Result<(), LabError> + Sync) -> Result<(), LabError> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = guests.iter().map(|guest| scope.spawn(move || work(guest))).collect();
        let mut ended = threads.into_iter().map(|thread| thread.join());
        ended.try_for_each(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
