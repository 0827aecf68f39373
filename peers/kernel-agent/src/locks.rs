//! A process that locks: the device of a lockspace, opened for one connection.

use crate::wait::{Deadline, Failure};
use outlast_kernel_agent::device::{self, Outcome, RESULT_BYTES_MAX};
use outlast_kernel_agent::load::{Load, LoadReport, resource};
use outlast_kernel_agent::protocol::{Command, Mode, Reply, status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// How often each lockspace's device is open.
static OPEN: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
/// No lock has this number.
const NO_LOCK: u32 = u32::MAX >> 1;

/// The device of a lockspace.
pub(crate) fn device(lockspace: &str) -> PathBuf {
    Path::new("/dev").join(format!("dlm_{lockspace}"))
}

/// How many devices of this lockspace are open.
pub(crate) fn open_in(lockspace: &str) -> usize {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).get(lockspace).copied().unwrap_or(0)
}

/// Waits until the kernel serves locks: while it recovers, every request about one is held up.
pub(crate) fn recovered(lockspace: &str, deadline: Deadline) -> Result<(), Failure> {
    let device = Device::open(lockspace)?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // There is no such lock, and the kernel looks for it when recovery has ended.
        let result = device.write(&device::unlock(1, NO_LOCK, 0, &[])).map(drop);
        drop(device);
        // Nobody waits any more if it took too long.
        let _ = sender.send(result.map_err(|error| error.raw_os_error()));
    });
    match receiver.recv_timeout(deadline.left()) {
        Ok(Err(Some(errno))) if errno == rustix::io::Errno::NOENT.raw_os_error() => Ok(()),
        Ok(other) => Err(Failure::new(format!("an unlock of no lock: {other:?}"))),
        Err(_) => Err(Failure::new("not in time: the end of recovery")),
    }
}

/// An open device; the kernel counts, and so do we.
struct Device {
    // First: it is closed before it is counted as closed.
    file: File,
    _count: Count,
}

struct Count(String);

impl Device {
    fn open(lockspace: &str) -> Result<Self, Failure> {
        let path = device(lockspace);
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(&path);
        let file = file.map_err(Failure::at(path.display()))?;
        *OPEN.lock().unwrap_or_else(PoisonError::into_inner).entry(lockspace.to_owned()).or_insert(0) += 1;
        Ok(Self { file, _count: Count(lockspace.to_owned()) })
    }

    fn write(&self, request: &[u8]) -> io::Result<usize> {
        (&self.file).write(request)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if let Some(count) = OPEN.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&self.0) {
            *count -= 1;
        }
    }
}

/// One process that locks.
pub(crate) struct Process {
    device: Arc<Device>,
    /// The kernel's numbers of the locks.
    numbers: BTreeMap<u64, u32>,
    /// Closed to end the reader.
    wake: Option<UnixStream>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// All that the kernel says of its locks goes to `said`, several at once if there are several.
    pub(crate) fn open(
        lockspace: &str,
        said: impl FnMut(&[Reply]) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Failure> {
        let device = Arc::new(Device::open(lockspace)?);
        let (wake, woken) = UnixStream::pair().map_err(Failure::at("a pair of sockets"))?;
        let reading = Arc::clone(&device);
        let reader = std::thread::spawn(move || {
            if let Err(error) = read(&reading, &woken, said) {
                eprintln!("a lockspace's device: {error}");
            }
        });
        Ok(Self { device, numbers: BTreeMap::new(), wake: Some(wake), reader: Some(reader) })
    }

    /// Does what a request about a lock says. The answer comes later, unless the kernel refuses.
    pub(crate) fn request(&mut self, command: &Command) -> Result<(), Reply> {
        let (tag, request) = match command {
            Command::Lock { tag, name, mode, flags } => {
                let request = device::lock(*tag, name.as_bytes(), *mode, *flags);
                let number = self.device.write(&request).map_err(|error| refused(*tag, &error))?;
                self.numbers.insert(*tag, u32::try_from(number).unwrap_or(NO_LOCK));
                return Ok(());
            }
            Command::Convert { tag, mode, flags, value } => {
                (*tag, device::convert(*tag, self.number(*tag), *mode, *flags, value))
            }
            Command::Unlock { tag, flags, value } => {
                (*tag, device::unlock(*tag, self.number(*tag), *flags, value))
            }
            Command::Cancel { tag } => (*tag, device::cancel(*tag, self.number(*tag))),
            Command::Purge { node, pid } => (0, device::purge(*node, *pid)),
            Command::Sh { .. }
            | Command::Cluster { .. }
            | Command::Forget { .. }
            | Command::Join { .. }
            | Command::Stop { .. }
            | Command::Start { .. }
            | Command::Recovered { .. }
            | Command::LeaveBegin { .. }
            | Command::LeaveEnd { .. }
            | Command::Load { .. }
            | Command::Open { .. } => return Ok(()),
        };
        self.device.write(&request).map(drop).map_err(|error| refused(tag, &error))
    }

    fn number(&self, tag: u64) -> u32 {
        self.numbers.get(&tag).copied().unwrap_or(NO_LOCK)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(reader) = self.reader.take() {
            // It has said itself what went wrong.
            let _ = reader.join();
        }
    }
}

fn refused(tag: u64, error: &io::Error) -> Reply {
    Reply::Refused { tag, errno: error.raw_os_error().unwrap_or(0) }
}

/// An operation that is under way, by its lock's tag.
struct Running {
    begun: Instant,
    measured: bool,
    unlocking: bool,
}

/// Locks and unlocks as the load says. One thread: it asks when it has read that something ended.
pub(crate) fn measure(lockspace: &str, load: &Load, deadline: Deadline) -> Result<LoadReport, Failure> {
    let device = Device::open(lockspace)?;
    let failed = || Failure::at("a lock under load");
    let mut each = Vec::with_capacity(load.operations as usize);
    let mut running: BTreeMap<u64, Running> = BTreeMap::new();
    let mut next = 0;
    let mut from = Instant::now();
    while next < load.all() || !running.is_empty() {
        while next < load.all() && running.len() < load.depth as usize {
            let begun = Instant::now();
            if next == load.warm_up {
                from = begun;
            }
            let name = resource(next % load.resources.max(1));
            device.write(&device::lock(next.into(), name.as_bytes(), Mode::EX, 0)).map_err(failed())?;
            running.insert(next.into(), Running { begun, measured: next >= load.warm_up, unlocking: false });
            next += 1;
        }
        let left = Timespec::try_from(deadline.left()).unwrap_or_default();
        if poll(&mut [PollFd::new(&device.file, PollFlags::IN)], Some(&left))
            .map_err(|e| failed()(e.into()))?
            == 0
        {
            return Err(Failure::new(format!("not in time: {} operations of a load", running.len())));
        }
        let mut buffer = [0; RESULT_BYTES_MAX];
        loop {
            let bytes = match (&device.file).read(&mut buffer) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(failed()(error)),
            };
            let outcome = device::outcome(buffer.get(..bytes).unwrap_or(&[]));
            let Outcome::Completion { tag, status, lkid, .. } =
                outcome.map_err(|error| failed()(io::Error::other(error)))?
            else {
                continue;
            };
            match running.get_mut(&tag) {
                Some(lock) if status == status::GRANTED && !lock.unlocking => {
                    lock.unlocking = true;
                    device.write(&device::unlock(tag, lkid, 0, &[])).map_err(failed())?;
                }
                Some(lock) if status == status::UNLOCKED && lock.unlocking => {
                    if lock.measured {
                        each.push(lock.begun.elapsed());
                    }
                    running.remove(&tag);
                }
                Some(_) | None => return Err(Failure::new(format!("a load: status {status} of lock {tag}"))),
            }
        }
    }
    Ok(LoadReport::of(each, from.elapsed()))
}

/// Until the other end of `woken` is closed.
fn read(
    device: &Device,
    woken: &UnixStream,
    mut said: impl FnMut(&[Reply]) -> io::Result<()>,
) -> io::Result<()> {
    /// So many at once.
    const BATCH: usize = 256;
    loop {
        let mut waits = [PollFd::new(&device.file, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
        poll(&mut waits, None)?;
        let [_, wake] = &waits;
        if !wake.revents().is_empty() {
            return Ok(());
        }
        let mut replies = Vec::new();
        while replies.len() < BATCH {
            let mut buffer = [0; RESULT_BYTES_MAX];
            let bytes = match (&device.file).read(&mut buffer) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let outcome = device::outcome(buffer.get(..bytes).unwrap_or(&[])).map_err(io::Error::other)?;
            replies.push(match outcome {
                Outcome::Completion { tag, status, lkid, sbflags, value } => {
                    Reply::Ast { tag, status, lkid, sbflags, value: value.map(Vec::from) }
                }
                Outcome::Blocking { tag, mode } => Reply::Bast { tag, mode },
            });
        }
        said(&replies)?;
    }
}
