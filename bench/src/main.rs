//! Outlast against other ways to move messages between two processes of this machine.
//!
//! Every measurement is two child processes of this same program, a server and a client, both pinned to one core
//! or each to one of two. The rivals take turns round by round, so that what else the machine does hits all alike;
//! ratios are taken within a round, and medians over the rounds.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

mod case;
mod ceph;
mod child;
mod machine;
mod report;
mod rivals;
mod runner;
mod work;

use anyhow::{Context, Result, bail};
use case::{Case, Rival, SIZES_BYTES, Workload};
use clap::{Parser, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Measures Outlast beside its rivals, and writes raw runs, a table and a plot.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", version)]
struct Options {
    /// One short round of everything, in under two minutes; only for a look.
    #[arg(long)]
    quick: bool,
    /// How often everything is measured [default: 5, quick: 1].
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// How long one run is measured, in seconds [default: 0.3, quick: 0.15].
    #[arg(long, value_name = "SECONDS")]
    measured: Option<f64>,
    /// How long it runs before that, in seconds [default: 0.1, quick: 0.05].
    #[arg(long, value_name = "SECONDS")]
    warm_up: Option<f64>,
    /// Only these rivals (the anchor is needed for ratios).
    #[arg(long, value_enum, value_delimiter = ',', value_name = "RIVAL")]
    only: Vec<Rival>,
    /// Only these workloads: stream, call-1, call-32.
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD")]
    workload: Vec<Workload>,
    /// Only payloads of these sizes, in bytes.
    #[arg(long, value_delimiter = ',', value_name = "BYTES")]
    size: Vec<usize>,
    /// Only on so many cores: 1 or 2.
    #[arg(long, value_delimiter = ',', value_name = "N")]
    cores: Vec<usize>,
    /// Which CPUs stand for the two cores.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1], value_name = "CPU")]
    cpus: Vec<usize>,
    /// What the sockets' buffers are bounded to, where a rival lets us; 0: as Outlast sets its own for raw TCP, the
    /// anchors and tokio's codec, and as the system has them for the others.
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    socket_buffer: usize,
    /// Ahead of the other work on this machine, if we may (root). Without it, keep the machine quiet.
    #[arg(long)]
    urgent: bool,
    /// Where the report goes [default: docs after a whole run, else bench/target/report].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Measure nothing: make the report again from this file of raw runs.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// One end of a run, for this program itself.
    #[arg(long, hide = true)]
    child: Option<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(task) = &options.child {
        return child::run(task);
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = package.join("../docs");
    if let Some(raw) = &options.report {
        let out = options.out.clone().unwrap_or(docs);
        return report::write(&out, raw);
    }
    let plan = plan(&options)?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None if options.is_whole() => docs,
        None => package.join("target/report"),
    };
    if options.urgent {
        machine::be_urgent().context("--urgent")?;
    }
    let command = std::env::args().skip(1).fold("cargo xtask bench".to_owned(), |all, one| all + " " + &one);
    let raw = runner::run(&plan, &out, command)?;
    report::write(&out, &raw)
}

impl Options {
    /// Whether this is the run that the documentation shows.
    fn is_whole(&self) -> bool {
        !self.quick
            && self.only.is_empty()
            && self.workload.is_empty()
            && self.size.is_empty()
            && self.cores.is_empty()
    }
}

fn plan(options: &Options) -> Result<runner::Plan> {
    let or_all =
        |chosen: &[usize], all: &[usize]| if chosen.is_empty() { all.to_vec() } else { chosen.to_vec() };
    let [first, second] = options.cpus[..] else { bail!("--cpus wants two numbers") };
    let workloads =
        if options.workload.is_empty() { Workload::ALL.to_vec() } else { options.workload.clone() };
    let sizes = or_all(&options.size, &SIZES_BYTES);
    if let Some(size) = sizes.iter().find(|size| **size < 64 || **size % 8 != 0 || **size > SIZES_BYTES[3]) {
        bail!("a payload of {size} bytes: from 64 to {} in steps of 8", SIZES_BYTES[3]);
    }
    let mut cases = Vec::new();
    for cores in or_all(&options.cores, &[1, 2]) {
        for &workload in &workloads {
            cases.extend(sizes.iter().map(|&size_bytes| Case { cores, workload, size_bytes }));
        }
    }
    let rivals =
        if options.only.is_empty() { Rival::value_variants().to_vec() } else { options.only.clone() };
    let seconds = |given: Option<f64>, usual: f64, quick: f64| {
        Duration::try_from_secs_f64(given.unwrap_or(if options.quick { quick } else { usual }))
            .context("not a number of seconds")
    };
    Ok(runner::Plan {
        rivals,
        cases,
        rounds: options.rounds.unwrap_or(if options.quick { 1 } else { 5 }),
        measured: seconds(options.measured, 0.3, 0.15)?,
        warm_up: seconds(options.warm_up, 0.1, 0.05)?,
        cpus: [first, second],
        socket_buffer_bytes: options.socket_buffer,
    })
}
