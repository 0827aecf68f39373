//! The built binary in a home of its own, and a server for it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(clippy::disallowed_methods, reason = "a test waits for processes")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Every wait ends here at the latest.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Notes that a test did not run, so that nobody takes it for passed.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().expect("libtest names its threads");
    eprintln!("SKIPPED {name}: {reason}");
    if let Some(path) = std::env::var_os("OUTLAST_SKIP_LOG") {
        let log = fs::OpenOptions::new().create(true).append(true).open(path);
        log.and_then(|mut log| log.write_all(format!("{name}: {reason}\n").as_bytes()))
            .expect("the log can be written");
    }
}

/// A home of its own for a test, removed at the end.
pub struct Home(PathBuf);

impl Home {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("outlast-cli-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file with these contents.
    pub fn write(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.file(name);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory");
        fs::write(&path, contents).expect("a file");
        path
    }

    /// The command, to be run from here with nothing of the user's own.
    pub fn outlast(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outlast"));
        command.args(arguments).current_dir(&self.0).stdin(Stdio::null());
        command
            .env("HOME", &self.0)
            .env("TMPDIR", &self.0)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("RUST_LOG");
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::new(self.outlast(arguments).output().expect("the binary runs"), arguments)
    }

    /// Runs it, and expects success.
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).expect(0).stdout
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    arguments: String,
}

impl Ran {
    pub fn new(output: Output, arguments: &[&str]) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            arguments: arguments.join(" "),
        }
    }

    /// It ended with this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        let Self { stdout, stderr, arguments, .. } = &self;
        assert_eq!(self.code, Some(code), "outlast {arguments}\n{stdout}\n{stderr}");
        self
    }

    /// It said this on stderr.
    #[track_caller]
    pub fn says(self, what: &str) -> Self {
        assert!(self.stderr.contains(what), "outlast {}: no {what:?} in\n{}", self.arguments, self.stderr);
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}

/// `outlast serve`, killed at the end at the latest.
pub struct Server {
    pub child: Child,
    pub address: String,
}

impl Server {
    /// Serves the directory `served` of a home on a free port of loopback.
    pub fn start(home: &Home, more: &[&str]) -> Self {
        Self::listen(home, "127.0.0.1:0", more)
    }

    pub fn listen(home: &Home, address: &str, more: &[&str]) -> Self {
        fs::create_dir_all(home.file("served")).expect("a directory");
        let log =
            fs::OpenOptions::new().create(true).append(true).open(home.file("serve.log")).expect("a log");
        let mut command = home.outlast(&["serve", "--dir", "served", "--listen", address]);
        let mut child =
            command.args(more).stdout(Stdio::piped()).stderr(log).spawn().expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the server says where it is");
        let address = line.trim().rsplit_once(" on ").map(|(_, address)| address.to_owned());
        let address = address.unwrap_or_else(|| {
            panic!(
                "no address in {line:?}: {}",
                fs::read_to_string(home.file("serve.log")).unwrap_or_default()
            )
        });
        Self { child, address }
    }

    /// A path at this server.
    pub fn at(&self, path: &str) -> String {
        format!("{}:{path}", self.address)
    }

    /// As if the power had failed.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something, and fails when it does not come.
#[track_caller]
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(ready) = ready() {
            return ready;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{what} did not come");
}

/// Waits for the end of a process.
#[track_caller]
pub fn wait_for_end(mut child: Child) -> Ran {
    wait_for("the end of the process", || child.try_wait().expect("it is ours"));
    Ran::new(child.wait_with_output().expect("it is ours"), &["(a process)"])
}

/// Bytes without a pattern, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The bytes of partial files in a directory.
pub fn partial_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let partial = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
    partial.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Sends a signal to a process.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal)
        .expect("the process is ours");
}
