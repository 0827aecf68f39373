//! Ceph's own messenger, by the two programs that Ceph measures it with: `ceph_perf_msgr_server` and
//! `ceph_perf_msgr_client` of release 18, where `peers/ceph install 18` has put them.
//!
//! The client sends writes with `size` bytes of data and keeps so many under way; the server answers each without
//! data. That is our workload `call`. Both programs sleep for no time at all after each message, which in fact
//! takes the kernel some 50 us and hides the messenger: a preloaded library makes that sleep return at once, and
//! shortens the second that the client waits before it begins.

use crate::case::{Case, Workload};
use crate::runner::{Placement, Plan, pinned};
use crate::work::Outcome;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The release whose programs are used.
const RELEASE: &str = "18";
/// The server's worker threads; the client has as many by default.
const WORKERS: &str = "2";
/// The client loses its last wake-up now and then, and hangs.
const ATTEMPTS: usize = 3;
/// A shorter measurement would be of its start.
const MEASURED_MIN: Duration = Duration::from_millis(500);
/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(10);
/// What a run may take beyond what it should.
const GRACE: Duration = Duration::from_secs(5);
/// How often a child is looked at.
const LOOK: Duration = Duration::from_millis(5);

const NO_SLEEP: &str = r"
#include <time.h>

int usleep(unsigned int microseconds)
{
	struct timespec left = { 0, 0 };

	/* The second before the beginning becomes a tenth. */
	left.tv_nsec = microseconds / 10 % 1000000 * 1000L;
	return microseconds == 0 ? 0 : nanosleep(&left, NULL);
}
";

/// The two programs, ready to be run.
#[derive(Debug)]
pub(crate) struct Perf {
    script: PathBuf,
    /// In `/tmp`: the programs live in a tree of their own that shares this folder with us.
    folder: PathBuf,
    /// What a short run of each case took.
    short: BTreeMap<Case, Took>,
}

/// One run of the two programs, from their start to their end.
#[derive(Debug, Clone, Copy)]
struct Took {
    messages: u64,
    /// Between the first message and the last reply, by the client.
    seconds: f64,
    client_cpu_s: f64,
    server_cpu_s: f64,
}

impl Perf {
    /// Prepares them; says why not when that fails.
    pub(crate) fn find() -> Option<Self> {
        match Self::prepare() {
            Ok(perf) => Some(perf),
            Err(error) => {
                eprintln!("without ceph_perf_msgr: {error:#}");
                None
            }
        }
    }

    fn prepare() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers/ceph").canonicalize()?;
        let there = Command::new(&script)
            .args(["run", RELEASE, "which", "ceph_perf_msgr_client"])
            .stdin(Stdio::null())
            .output()?;
        ensure!(there.status.success(), "peers/ceph install {RELEASE} would install it");
        let folder = PathBuf::from(format!("/tmp/outlast-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let perf = Self { script, folder, short: BTreeMap::new() };
        let source = perf.folder.join("no_sleep.c");
        std::fs::write(&source, NO_SLEEP)?;
        let compiled = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .args([perf.library(), source])
            .status()
            .context("cc")?;
        ensure!(compiled.success(), "cc failed");
        Ok(perf)
    }

    fn library(&self) -> PathBuf {
        self.folder.join("no_sleep.so")
    }

    fn program(&self, arguments: &[&str], cpu: usize) -> Result<Guarded> {
        // Should we be killed, so shall it be.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.script).args(["run", RELEASE, "env"]);
        command.arg(format!("LD_PRELOAD={}", self.library().display())).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // The script becomes the program: its process is the one that we wait for.
        pinned(cpu, || Ok(Guarded(command.spawn()?)))
    }

    /// One measurement.
    pub(crate) fn run(&mut self, plan: &Plan, case: Case) -> Result<Outcome> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.attempt(plan, case) {
                Ok(outcome) => return Ok(outcome),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt")?)
    }

    fn attempt(&mut self, plan: &Plan, case: Case) -> Result<Outcome> {
        let placement = plan.placement(case.cores);
        let short = match self.short.get(&case) {
            Some(short) => *short,
            None => {
                let messages = (64 * 1024 * 1024 / case.size_bytes as u64).clamp(64, 4000);
                let took = self.measure(case, placement, messages)?;
                self.short.insert(case, took);
                took
            }
        };
        let wanted_s = plan.measured.max(MEASURED_MIN).as_secs_f64();
        let rate = short.messages as f64 / short.seconds;
        let messages = (rate * wanted_s) as u64 + 2 * short.messages;
        let took = self.measure(case, placement, messages)?;
        // What starting and ending took is in both runs.
        let share = took.messages as f64 / (took.messages - short.messages) as f64;
        Ok(Outcome {
            seconds: took.seconds,
            messages: took.messages,
            client_cpu_s: (took.client_cpu_s - short.client_cpu_s).max(0.0) * share,
            server_cpu_s: (took.server_cpu_s - short.server_cpu_s).max(0.0) * share,
            client_memory_bytes: 0,
            server_memory_bytes: 0,
            p50_us: None,
            p99_us: None,
        })
    }

    fn measure(&self, case: Case, placement: Placement, messages: u64) -> Result<Took> {
        let Workload::Call { at_a_time } = case.workload else { bail!("it answers everything") };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("v2:127.0.0.1:{port}/0");
        let mut server =
            self.program(&["ceph_perf_msgr_server", &address, WORKERS, "0"], placement.server)?;
        until(START_MAX, || Ok(listens(port).then_some(())))
            .context("ceph_perf_msgr_server does not listen")?;
        let before = children_cpu_s()?;
        let mut client = self.program(
            &[
                "ceph_perf_msgr_client",
                &address,
                "1",
                &at_a_time.to_string(),
                &messages.to_string(),
                "0",
                &case.size_bytes.to_string(),
            ],
            placement.client,
        )?;
        let status =
            until(START_MAX + GRACE, || Ok(client.0.try_wait()?)).context("ceph_perf_msgr_client hangs")?;
        ensure!(status.success(), "ceph_perf_msgr_client: {status}");
        let after_client = children_cpu_s()?;
        server.end();
        let after_server = children_cpu_s()?;
        let mut said = String::new();
        client.0.stdout.take().context("no output")?.read_to_string(&mut said)?;
        // "Total op 4000 run time 49863us."
        let microseconds: f64 = said
            .lines()
            .find_map(|line| line.split_once("run time ")?.1.split_once("us")?.0.trim().parse().ok())
            .with_context(|| format!("no run time in {said:?}"))?;
        Ok(Took {
            messages,
            seconds: microseconds / 1e6,
            client_cpu_s: after_client - before,
            server_cpu_s: after_server - after_client,
        })
    }
}

impl Drop for Perf {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A program that does not outlive its owner.
struct Guarded(Child);

impl Guarded {
    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.end();
    }
}

/// CPU seconds of all children that have ended and been waited for.
fn children_cpu_s() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

/// Without connecting: the server counts connections.
fn listens(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    sockets.contains(&format!(":{port:04X} 00000000:0000 0A"))
}

/// Asks again and again.
fn until<T>(limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        std::thread::sleep(LOOK);
    }
    bail!("not within {limit:?}")
}
