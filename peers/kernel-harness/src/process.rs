//! A process in a guest that locks.

use crate::guest::{ask, send};
use crate::{LabError, PATIENCE};
use outlast_kernel_agent::protocol::{Command, Mode, Reply, Request};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A request about a lock has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ast {
    /// The lock's.
    pub tag: u64,
    /// See [`crate::protocol::status`].
    pub status: i32,
    /// The kernel's number of the lock.
    pub lkid: u32,
    /// `DLM_SBF_*`: 1 demoted, 2 value block not valid, 4 another mode was granted.
    pub sbflags: u8,
    /// The value block, if one came: always 32 bytes.
    pub value: Option<Vec<u8>>,
}

/// What a process is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request has ended.
    Ast(Ast),
    /// A lock stands in another's way.
    Bast {
        /// The lock's.
        tag: u64,
        /// The mode that is wanted, as a number.
        mode: u8,
    },
    /// The kernel took no such request.
    Refused {
        /// The lock's.
        tag: u64,
        /// Why.
        errno: i32,
    },
}

/// A process in a guest, with the device of one lockspace open. Requests do not wait; any number may be under way.
/// It dies when it is dropped, and its locks end with it.
pub struct Process {
    stream: TcpStream,
    events: Receiver<Event>,
    /// Came while another was waited for.
    waiting: VecDeque<Event>,
}

impl Process {
    pub(crate) fn open(mut stream: TcpStream, lockspace: &str) -> Result<Self, LabError> {
        let at = || LabError::at("a connection to a guest");
        stream.set_read_timeout(Some(PATIENCE)).map_err(at())?;
        match ask(&mut stream, Command::Open { lockspace: lockspace.to_owned() })? {
            Reply::Done { .. } => {}
            Reply::Failed { error, errno, .. } => return Err(LabError { what: error, errno }),
            other @ (Reply::Ast { .. } | Reply::Bast { .. } | Reply::Refused { .. }) => {
                return Err(LabError::new(format!("{other:?} of a process that has just begun")));
            }
        }
        stream.set_read_timeout(None).map_err(at())?;
        let reader = stream.try_clone().map_err(at())?;
        let (sender, events) = mpsc::channel();
        // Ends with the connection.
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                let Some(event) = event(&line) else { return };
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Self { stream, events, waiting: VecDeque::new() })
    }

    /// Requests a lock, which `tag` names from now on.
    ///
    /// # Errors
    ///
    /// The guest is gone. What the kernel says comes as an event.
    pub fn lock(&mut self, tag: u64, name: &str, mode: Mode, flags: u32) -> Result<(), LabError> {
        self.request(Command::Lock { tag, name: name.to_owned(), mode, flags })
    }

    /// Requests another mode. With VALBLK, `value` is written if the old mode allows it.
    ///
    /// # Errors
    ///
    /// As [`Process::lock`].
    pub fn convert(&mut self, tag: u64, mode: Mode, flags: u32, value: &[u8]) -> Result<(), LabError> {
        self.request(Command::Convert { tag, mode, flags, value: value.to_vec() })
    }

    /// Ends a lock. With VALBLK, `value` is written if the mode allows it.
    ///
    /// # Errors
    ///
    /// As [`Process::lock`].
    pub fn unlock(&mut self, tag: u64, flags: u32, value: &[u8]) -> Result<(), LabError> {
        self.request(Command::Unlock { tag, flags, value: value.to_vec() })
    }

    /// Takes a request or conversion back that waits.
    ///
    /// # Errors
    ///
    /// As [`Process::lock`].
    pub fn cancel(&mut self, tag: u64) -> Result<(), LabError> {
        self.request(Command::Cancel { tag })
    }

    /// Ends locks that processes have left behind on a node; `pid` 0 stands for all of them.
    ///
    /// # Errors
    ///
    /// As [`Process::lock`].
    pub fn purge(&mut self, node: u8, pid: u32) -> Result<(), LabError> {
        self.request(Command::Purge { node: u32::from(node), pid })
    }

    /// The next event, or `None` when there is none in that time.
    ///
    /// # Errors
    ///
    /// The guest is gone.
    pub fn event(&mut self, limit: Duration) -> Result<Option<Event>, LabError> {
        if let Some(event) = self.waiting.pop_front() {
            return Ok(Some(event));
        }
        self.receive(limit)
    }

    /// Waits for the end of the latest request of this lock; other events stay for later.
    ///
    /// # Errors
    ///
    /// The kernel refused the request (its errno), or there is no end within [`PATIENCE`].
    pub fn ast(&mut self, tag: u64) -> Result<Ast, LabError> {
        let found = self.find(&format!("the end of a request of lock {tag}"), |event| match event {
            Event::Ast(ast) => ast.tag == tag,
            Event::Refused { tag: refused, .. } => *refused == tag,
            Event::Bast { .. } => false,
        })?;
        match found {
            Event::Ast(ast) => Ok(ast),
            Event::Refused { errno, .. } => {
                Err(LabError { what: format!("lock {tag}: the kernel refuses: errno {errno}"), errno })
            }
            Event::Bast { .. } => Err(LabError::new("a callback is no end")),
        }
    }

    /// Waits for a blocking callback of this lock, and gives the mode that is wanted; other events stay for later.
    ///
    /// # Errors
    ///
    /// There is none within [`PATIENCE`].
    pub fn bast(&mut self, tag: u64) -> Result<u8, LabError> {
        let found = self.find(&format!("a callback of lock {tag}"), |event| match event {
            Event::Bast { tag: blocking, .. } => *blocking == tag,
            Event::Ast(_) | Event::Refused { .. } => false,
        })?;
        match found {
            Event::Bast { mode, .. } => Ok(mode),
            Event::Ast(_) | Event::Refused { .. } => Err(LabError::new("no callback")),
        }
    }

    fn find(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event, LabError> {
        if let Some(event) = self.waiting.iter().position(&wanted).and_then(|at| self.waiting.remove(at)) {
            return Ok(event);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left)? {
                Some(event) if wanted(&event) => return Ok(event),
                Some(event) => self.waiting.push_back(event),
                None => return Err(LabError::new(format!("not in time: {what}; came: {:?}", self.waiting))),
            }
        }
    }

    fn receive(&mut self, limit: Duration) -> Result<Option<Event>, LabError> {
        match self.events.recv_timeout(limit) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(LabError::new("the guest is gone")),
        }
    }

    fn request(&mut self, command: Command) -> Result<(), LabError> {
        send(&mut self.stream, &Request { id: 0, command })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The reader has a copy of the socket: without this the agent would not notice.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn event(line: &str) -> Option<Event> {
    match serde_json::from_str(line).ok()? {
        Reply::Ast { tag, status, lkid, sbflags, value } => {
            Some(Event::Ast(Ast { tag, status, lkid, sbflags, value }))
        }
        Reply::Bast { tag, mode } => Some(Event::Bast { tag, mode }),
        Reply::Refused { tag, errno } => Some(Event::Refused { tag, errno }),
        Reply::Done { .. } | Reply::Failed { .. } => None,
    }
}
