//! Recording what goes over the bridge.

use crate::lab::Inner;
use crate::{DLM_PORT, LabError};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// `tcpdump` reads from the kernel once a second.
const DELAY: Duration = Duration::from_millis(1500);

/// A recording that runs; it ends when dropped.
pub struct Capture {
    /// The namespace must stay.
    _lab: Arc<Inner>,
    tcpdump: Child,
    errors: BufReader<ChildStderr>,
    file: PathBuf,
}

impl Capture {
    pub(crate) fn start(lab: Arc<Inner>, interface: &str, file: PathBuf) -> Result<Self, LabError> {
        let mut command = lab.namespace.command("tcpdump");
        command.args(["-i", interface, "-s", "0", "-B", "65536", "-Z", "root", "-w"]).arg(&file);
        command.args(["tcp", "port", &DLM_PORT.to_string()]);
        let mut tcpdump = command.stderr(Stdio::piped()).spawn().map_err(LabError::at("tcpdump"))?;
        let errors = tcpdump.stderr.take().ok_or_else(|| LabError::new("tcpdump has no standard error"))?;
        let mut capture = Self { _lab: lab, tcpdump, errors: BufReader::new(errors), file };
        let mut said = String::new();
        while !said.contains("listening on") {
            if capture.errors.read_line(&mut said).map_err(LabError::at("tcpdump"))? == 0 {
                return Err(LabError::new(format!("tcpdump: {said}")));
            }
        }
        Ok(capture)
    }

    /// Ends it and gives the file: `pcap`, Ethernet, all of every packet.
    ///
    /// # Errors
    ///
    /// `tcpdump` failed, or missed packets.
    pub fn stop(mut self) -> Result<Vec<u8>, LabError> {
        std::thread::sleep(DELAY);
        let pid = i32::try_from(self.tcpdump.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| LabError::new("tcpdump has no number"))?;
        kill_process(pid, Signal::INT).map_err(|errno| LabError::at("tcpdump")(errno.into()))?;
        let mut said = String::new();
        self.errors.read_to_string(&mut said).map_err(LabError::at("tcpdump"))?;
        self.tcpdump.wait().map_err(LabError::at("tcpdump"))?;
        if !said.contains("\n0 packets dropped by kernel") {
            return Err(LabError::new(format!("the capture is incomplete: {said}")));
        }
        fs::read(&self.file).map_err(LabError::at(self.file.display()))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // After `stop` both are without effect.
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}
