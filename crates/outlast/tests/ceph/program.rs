//! Programs of Ceph that a test runs beside itself.

use super::{PATIENCE, script};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How often a program is looked after.
const LOOK: Duration = Duration::from_millis(20);

/// A folder of a test, gone after it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("outlast-peer-{}-{number}", std::process::id()));
        fs::create_dir(&folder).expect("a new folder");
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program of a release; killed when this is dropped, or when the thread ends that started it.
pub struct Program {
    child: Child,
    output: PathBuf,
    _folder: Folder,
}

impl Program {
    pub fn start<S: AsRef<OsStr>>(release: &str, arguments: impl IntoIterator<Item = S>) -> Self {
        let folder = Folder::new();
        let output = folder.path().join("output");
        let file = File::create(&output).expect("a new file");
        let child = Command::new(script())
            // Each of these becomes the next one: the child is the program in the end.
            .args(["run", release, "setpriv", "--pdeathsig", "KILL"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the same file"))
            .stderr(file)
            .spawn()
            .expect("the script runs");
        Self { child, output, _folder: folder }
    }

    /// All that it has said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).expect("its output is there")).into_owned()
    }

    pub fn running(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_none()
    }

    /// Waits until it ends by itself; `None` if it does not.
    pub async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            let status = self.child.try_wait().expect("it can be waited for");
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until something listens on the port of 127.0.0.1.
    pub async fn listening(&mut self, port: u16) {
        let deadline = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(self.running() && Instant::now() < deadline, "it does not listen: {}", self.said());
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
