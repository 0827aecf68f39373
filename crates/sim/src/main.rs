//! Runs seeds. See `--help`.

use outlast_sim::bugs::Bug;
use outlast_sim::run::{Report, find, run};
use outlast_sim::situations::Situations;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HELP: &str = "\
outlast-sim: simulated runs of Outlast's production types, with faults

  --seeds N    run N seeds (default 2000)
  --from S     beginning with this one (default 0)
  --seed S     run this one alone
  --trace      print all that happens in it
  --jobs N     runs at a time (default: the number of cores)
  --bugs       plant each known bug, and see after how many seeds it is found
  --slow       name the ten runs that took the most steps

The same number gives the same run. A run that fails says what is wrong; a batch of 1000 or more
fails also if there is a situation that it never met. Exit code 0: all passed.";

/// A batch of fewer need not have met everything.
const SEEDS_FOR_EVERY_SITUATION: u64 = 1000;
/// Seeds within which a planted bug must be found.
const SEEDS_FOR_A_BUG: u64 = 500;
/// Failing seeds that are printed.
const PRINTED_MAX: usize = 20;

struct Arguments {
    seeds: u64,
    from: u64,
    jobs: usize,
    trace: bool,
    bugs: bool,
    slow: bool,
}

fn arguments() -> Result<Arguments, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parsed = Arguments { seeds: 2000, from: 0, jobs, trace: false, bugs: false, slow: false };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut number = || -> Result<u64, String> {
            let value = given.next().ok_or_else(|| format!("{argument} needs a number"))?;
            value.parse().map_err(|_| format!("{argument} needs a number, not {value}"))
        };
        match argument.as_str() {
            "--seeds" => parsed.seeds = number()?,
            "--from" => parsed.from = number()?,
            "--seed" => {
                parsed.from = number()?;
                parsed.seeds = 1;
            }
            "--jobs" => parsed.jobs = usize::try_from(number()?).unwrap_or(1).max(1),
            "--trace" => parsed.trace = true,
            "--bugs" => parsed.bugs = true,
            "--slow" => parsed.slow = true,
            "--help" | "-h" => return Err(HELP.to_owned()),
            other => return Err(format!("what is {other}?\n\n{HELP}")),
        }
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(text) => {
            println!("{text}");
            return if text == HELP { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    if !arguments.trace {
        // A run that panics is reported with its seed.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let passed = if arguments.bugs { plant_all(&arguments) } else { batch(&arguments) };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn batch(arguments: &Arguments) -> bool {
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + arguments.seeds;
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = run(seed, None, arguments.trace);
                    reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    reports.sort_by_key(|report| report.seed);
    print_table(&reports);
    if arguments.slow {
        print_slow(&reports);
    }
    let failed: Vec<_> = reports.iter().filter(|r| !r.findings.is_empty()).collect();
    for report in failed.iter().take(PRINTED_MAX) {
        println!("FAILED {}", report.about);
        for finding in report.findings.iter().take(3) {
            println!("    {finding}");
        }
        println!("    again: cargo xtask sim --seed {} --trace", report.seed);
    }
    if failed.len() > PRINTED_MAX {
        println!("... and {} more", failed.len() - PRINTED_MAX);
    }
    let mut missing = Vec::new();
    if arguments.seeds >= SEEDS_FOR_EVERY_SITUATION {
        missing = all_situations(&reports).missing();
        for what in &missing {
            println!("NEVER MET: {what}");
        }
    }
    println!("{} passed, {} failed", reports.len() - failed.len(), failed.len());
    failed.is_empty() && missing.is_empty()
}

fn all_situations(reports: &[Report]) -> Situations {
    let mut all = Situations::default();
    reports.iter().for_each(|report| all.add(&report.situations));
    all
}

fn print_table(reports: &[Report]) {
    print!("{}", all_situations(reports));
    let messages: usize = reports.iter().map(|r| r.messages).sum();
    let steps: u64 = reports.iter().map(|r| r.steps).sum();
    let longest = reports.iter().max_by_key(|r| r.settled_after);
    let (longest, seed) = longest.map_or((Duration::ZERO, 0), |r| (r.settled_after, r.seed));
    println!(
        "{messages} messages, {steps} steps; fair weather settled everything within {longest:?} (seed {seed})"
    );
}

fn print_slow(reports: &[Report]) {
    let mut slow: Vec<_> = reports.iter().collect();
    slow.sort_by_key(|report| std::cmp::Reverse(report.steps));
    for report in slow.iter().take(10) {
        println!("{:>10} steps: {}", report.steps, report.about);
    }
}

fn plant_all(arguments: &Arguments) -> bool {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bug) = usize::try_from(index).ok().and_then(|i| Bug::ALL.get(i)) else { return };
                    let report = find(*bug, arguments.from, SEEDS_FOR_A_BUG);
                    found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((*bug, report));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_by_key(|(bug, _)| *bug);
    for (bug, report) in &found {
        match report {
            Some(report) => println!(
                "{:>4} seeds  {bug}: {}",
                report.seed - arguments.from + 1,
                report.findings.first().map(ToString::to_string).unwrap_or_default()
            ),
            None => println!("NOT FOUND within {SEEDS_FOR_A_BUG} seeds: {bug}"),
        }
    }
    let caught = found.iter().filter(|(_, report)| report.is_some()).count();
    println!("{caught} passed, {} failed", found.len() - caught);
    caught == found.len()
}
