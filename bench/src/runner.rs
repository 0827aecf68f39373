//! Starts the two processes of each run, round by round, and keeps what they measured.

use crate::case::{Case, Rival, Role, Task};
use crate::ceph;
use crate::machine::{self, Machine};
use crate::work::Outcome;
use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rivals: Vec<Rival>,
    pub(crate) cases: Vec<Case>,
    pub(crate) rounds: usize,
    pub(crate) measured: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) cpus: [usize; 2],
    pub(crate) socket_buffer_bytes: usize,
}

impl Plan {
    /// Where the processes of a run are placed.
    pub(crate) fn placement(&self, cores: usize) -> Placement {
        let [first, second] = self.cpus;
        match cores {
            1 => Placement { client: first, server: first },
            _ => Placement { client: first, server: second },
        }
    }
}

/// The CPU of each process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    pub(crate) client: usize,
    pub(crate) server: usize,
}

/// The first line of a file of raw runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) rounds: usize,
    pub(crate) measured_s: f64,
    pub(crate) warm_up_s: f64,
    pub(crate) socket_buffer_bytes: usize,
    pub(crate) machine: Machine,
}

/// Any other line: one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) rival: Rival,
    #[serde(flatten)]
    pub(crate) case: Case,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// The machine's load just before: other work shows here.
    pub(crate) load: f64,
}

/// What is added to the time that a run should take before it is given up.
const GRACE: Duration = Duration::from_secs(10);

/// Measures everything; returns the file of raw runs.
pub(crate) fn run(plan: &Plan, out: &Path, command: String) -> Result<PathBuf> {
    let folder = out.join("benchmarks");
    std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    let date = machine::today();
    let path = unused(&folder, &date);
    let mut raw = std::io::BufWriter::new(std::fs::File::create(&path)?);
    let header = Header {
        date,
        command,
        rounds: plan.rounds,
        measured_s: plan.measured.as_secs_f64(),
        warm_up_s: plan.warm_up.as_secs_f64(),
        socket_buffer_bytes: plan.socket_buffer_bytes,
        machine: Machine::read(),
    };
    writeln!(raw, "{}", serde_json::to_string(&header)?)?;

    let mut ceph = if plan.rivals.contains(&Rival::CephPerf) { ceph::Perf::find() } else { None };
    let began = Instant::now();
    let mut failed = 0;
    for round in 0..plan.rounds {
        for (index, &case) in plan.cases.iter().enumerate() {
            if std::io::stderr().is_terminal() {
                let (done, all) = (index + 1, plan.cases.len());
                eprint!("\r\x1b[Kround {} of {}, {done}/{all}: {case}", round + 1, plan.rounds);
            }
            let mut rivals: Vec<Rival> =
                plan.rivals.iter().copied().filter(|rival| rival.does(case.workload)).collect();
            // No rival always follows the same one, or the pause between two cases.
            let shift = round % rivals.len().max(1);
            rivals.rotate_left(shift);
            for rival in rivals {
                let load = machine::load();
                let outcome = match (rival, &mut ceph) {
                    (Rival::CephPerf, None) => continue,
                    (Rival::CephPerf, Some(ceph)) => ceph.run(plan, case),
                    _ => run_one(plan, case, rival),
                };
                match outcome {
                    Ok(outcome) => {
                        let run = Run { round, rival, case, outcome, load };
                        writeln!(raw, "{}", serde_json::to_string(&run)?)?;
                    }
                    Err(error) => {
                        failed += 1;
                        eprintln!("\n{}, {case}: {error:#}", rival.name());
                    }
                }
            }
        }
        raw.flush()?;
        eprintln!(
            "\r\x1b[Kround {} of {} after {:.0} s",
            round + 1,
            plan.rounds,
            began.elapsed().as_secs_f64()
        );
    }
    eprintln!("measured in {:.0} s, {failed} runs failed: {}", began.elapsed().as_secs_f64(), path.display());
    Ok(path)
}

/// A name that no earlier run of the day has.
fn unused(folder: &Path, date: &str) -> PathBuf {
    let first = folder.join(format!("raw-{date}.jsonl"));
    let others = (2..).map(|number| folder.join(format!("raw-{date}-{number}.jsonl")));
    std::iter::once(first.clone()).chain(others).find(|path| !path.exists()).unwrap_or(first)
}

fn run_one(plan: &Plan, case: Case, rival: Rival) -> Result<Outcome> {
    let deadline = plan.measured + plan.warm_up + GRACE;
    let Placement { client, server } = plan.placement(case.cores);
    let key = match rival {
        Rival::OutlastSecure => Some(outlast::generate_key()?.to_base64().to_string()),
        _ => None,
    };
    let task = |role| Task {
        role,
        rival,
        workload: case.workload,
        size_bytes: case.size_bytes,
        warm_up: plan.warm_up,
        measured: plan.measured,
        deadline,
        socket_buffer_bytes: plan.socket_buffer_bytes,
        key: key.clone(),
    };
    // The client ends the connection; what the server says about that is of no interest.
    let mut server = Process::start(&task(Role::Server), server, Stdio::null())?;
    let address = server.line(deadline).context("the server")?;
    let mut client =
        Process::start(&task(Role::Client { server: address.parse()? }), client, Stdio::inherit())?;
    let outcome = client.line(deadline).context("the client")?;
    Ok(serde_json::from_str(&outcome)?)
}

/// A child that does not outlive its owner.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Process {
    fn start(task: &Task, cpu: usize, errors: Stdio) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--child").arg(serde_json::to_string(task)?);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = pinned(cpu, || Ok(command.spawn()?))?;
        let out = child.stdout.take().context("a child without output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn line(&mut self, within: Duration) -> Result<String> {
        self.lines.recv_timeout(within).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => anyhow!("no answer within {within:?}"),
            mpsc::RecvTimeoutError::Disconnected => anyhow!("ended without a result"),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts something that may run on this CPU only: a child inherits this thread's.
pub(crate) fn pinned<T>(cpu: usize, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let this_thread = Pid::from_raw(0);
    let before = sched_getaffinity(this_thread)?;
    let mut only = CpuSet::new();
    only.set(cpu)?;
    if sched_setaffinity(this_thread, &only).is_err() {
        bail!("there is no CPU {cpu} for us");
    }
    let started = start();
    sched_setaffinity(this_thread, &before)?;
    started
}
