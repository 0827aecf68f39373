//! Processes of this program that work together: `demo` and `bench` start others of themselves.
//!
//! A child reads one line of JSON (what it shall do) from its standard input and writes lines of JSON (how it goes) on its
//! standard output. It ends when its standard input does: a parent that dies, however it dies, leaves no child behind.

use crate::exit::{Context as _, Exit, Failure, Outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write as _;
use std::marker::PhantomData;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::sync::watch;

/// The name of the hidden command that a child is started with.
pub(crate) const CHILD_COMMAND: &str = "child-process";
/// How long a child may take to end after its standard input did.
const END_MAX: Duration = Duration::from_secs(2);
/// How much of what a child says on stderr is kept, in bytes.
const STDERR_BYTES_MAX: usize = 4096;

// ---------------------------------------------------------------------- the child's side

/// Writes a child's reports.
#[derive(Debug, Clone)]
pub(crate) struct Reporter(());

impl Reporter {
    /// Only a child has one.
    pub(crate) const fn new() -> Self {
        Self(())
    }

    /// Sends a report. A parent that no longer listens is about to end this process.
    pub(crate) fn send(&self, report: &impl Serialize) {
        if let Ok(mut line) = serde_json::to_string(report) {
            line.push('\n');
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        }
    }
}

static PARENT_GONE: Mutex<Option<watch::Receiver<bool>>> = Mutex::new(None);

/// Reads what this child shall do, and from then on waits for the end of its standard input.
pub(crate) fn receive_task<T: DeserializeOwned>() -> Outcome<T> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("no task")?;
    let task = serde_json::from_str(&line).context("this is not a task of outlast's own")?;
    let (gone, receiver) = watch::channel(false);
    *PARENT_GONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(receiver);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = gone.send(true);
        // Whatever still runs has had its time.
        std::thread::sleep(END_MAX / 2);
        std::process::exit(Exit::Terminated as i32);
    });
    Ok(task)
}

/// Waits until the parent wants this child to end, or is dead.
pub(crate) async fn parent_gone() {
    let receiver = PARENT_GONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    match receiver {
        Some(mut receiver) => {
            let _ = receiver.wait_for(|gone| *gone).await;
        }
        None => std::future::pending().await,
    }
}

// ---------------------------------------------------------------------- the parent's side

/// A child, and what it reports.
#[derive(Debug)]
pub(crate) struct Child<R> {
    role: &'static str,
    child: tokio::process::Child,
    /// Dropped to make it end.
    stdin: Option<ChildStdin>,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    report: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Child<R> {
    /// Starts this program once more, in another role.
    pub(crate) async fn start(role: &'static str, task: &impl Serialize) -> Outcome<Self> {
        let what = format!("cannot start the {role} process");
        let program = std::env::current_exe().context(&what)?;
        let mut child = Command::new(program)
            .arg(CHILD_COMMAND)
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is the parent's to handle.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context(&what)?;
        let mut stdin = child.stdin.take().ok_or_else(|| Failure::failed(&what))?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::failed(&what))?;
        let stderr = child.stderr.take().ok_or_else(|| Failure::failed(&what))?;
        let mut line = serde_json::to_vec(task).context(&what)?;
        line.push(b'\n');
        stdin.write_all(&line).await.context(&what)?;
        let kept = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(keep_stderr(stderr, kept.clone()));
        let lines = BufReader::new(stdout).lines();
        Ok(Self { role, child, stdin: Some(stdin), lines, stderr: kept, report: PhantomData })
    }

    /// The next report; None when the child has ended. Cancel-safe.
    pub(crate) async fn report(&mut self) -> Outcome<Option<R>> {
        let what = || format!("the {} process", self.role);
        match self.lines.next_line().await.context(what())? {
            Some(line) => serde_json::from_str(&line).context(what()).map(Some),
            None => Ok(None),
        }
    }

    /// The next report of a child that has no business to end.
    pub(crate) async fn must_report(&mut self) -> Outcome<R> {
        match self.report().await? {
            Some(report) => Ok(report),
            None => Err(self.ended().await),
        }
    }

    /// Why a child that should be running is not.
    async fn ended(&mut self) -> Failure {
        let status = match tokio::time::timeout(END_MAX, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(e)) => e.to_string(),
            Err(_) => "it closed its output".to_owned(),
        };
        // The task that keeps stderr may be a moment behind.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let stderr = self.stderr.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let failure = Failure::failed(format!("the {} process ended: {status}", self.role));
        match String::from_utf8_lossy(&stderr).trim() {
            "" => failure,
            said => failure.hint(said),
        }
    }

    /// Makes it end, and waits for it; what it used of the processors and of memory is then known to the system.
    pub(crate) async fn stop(mut self) {
        drop(self.stdin.take());
        // Its last reports would otherwise keep it from ending.
        let drained = async { while let Ok(Some(_)) = self.lines.next_line().await {} };
        let _ = tokio::time::timeout(END_MAX, drained).await;
        if tokio::time::timeout(END_MAX, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

async fn keep_stderr(mut stderr: tokio::process::ChildStderr, kept: Arc<Mutex<Vec<u8>>>) {
    use tokio::io::AsyncReadExt as _;
    let mut chunk = [0; 1024];
    while let Ok(len @ 1..) = stderr.read(&mut chunk).await {
        let mut kept = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.extend_from_slice(&chunk[..len]);
        let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
        kept.drain(..excess);
    }
}
