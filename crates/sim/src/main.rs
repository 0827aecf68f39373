//! Runs seeds. See `--help`.

use outlast_sim::situations::Situations;
use outlast_sim::{bugs, dlm, run};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HELP: &str = "\
outlast-sim: simulated runs of Outlast's production types, with faults

  --seeds N    run N seeds of each kind (default 2000)
  --from S     beginning with this one (default 0)
  --seed S     run this one alone
  --only KIND  msgr2 (sessions) or dlm (clusters of lock managers); default both
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

/// What is simulated.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    run: fn(u64, bool) -> Outcome,
    missing: fn(&Situations) -> Vec<String>,
    /// Each with how it is looked for.
    bugs: fn() -> Vec<Planted>,
}

/// A bug, and how it is looked for from a seed on.
struct Planted {
    name: String,
    find: Box<dyn Fn(u64) -> Option<Outcome> + Send + Sync>,
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "msgr2",
        run: |seed, trace| run::run(seed, None, trace).into(),
        missing: Situations::missing,
        bugs: || {
            let look = |bug: bugs::Bug| Planted {
                name: bug.to_string(),
                find: Box::new(move |from| run::find(bug, from, SEEDS_FOR_A_BUG).map(Outcome::from)),
            };
            bugs::Bug::ALL.into_iter().map(look).collect()
        },
    },
    Kind {
        name: "dlm",
        run: |seed, trace| dlm::run(seed, None, trace).into(),
        missing: dlm::missing,
        bugs: || {
            let look = |bug: dlm::Bug| Planted {
                name: bug.to_string(),
                find: Box::new(move |from| dlm::find(bug, from, SEEDS_FOR_A_BUG).map(Outcome::from)),
            };
            dlm::Bug::ALL.into_iter().map(look).collect()
        },
    },
];

/// What came of a run, whatever it was of.
struct Outcome {
    seed: u64,
    about: String,
    findings: Vec<String>,
    situations: Situations,
    steps: u64,
    settled_after: Duration,
}

impl From<run::Report> for Outcome {
    fn from(report: run::Report) -> Self {
        let run::Report { seed, about, findings, situations, steps, settled_after, messages: _ } = report;
        let findings = findings.iter().map(ToString::to_string).collect();
        Self { seed, about, findings, situations, steps, settled_after }
    }
}

impl From<dlm::Report> for Outcome {
    fn from(report: dlm::Report) -> Self {
        let dlm::Report { seed, about, findings, situations, steps, settled_after } = report;
        Self { seed, about, findings, situations, steps, settled_after }
    }
}

struct Arguments {
    kinds: Vec<Kind>,
    seeds: u64,
    from: u64,
    jobs: usize,
    trace: bool,
    bugs: bool,
    slow: bool,
}

fn arguments() -> Result<Arguments, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parsed = Arguments {
        kinds: KINDS.to_vec(),
        seeds: 2000,
        from: 0,
        jobs,
        trace: false,
        bugs: false,
        slow: false,
    };
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
            "--only" => {
                let name = given.next().unwrap_or_default();
                parsed.kinds.retain(|kind| kind.name == name);
                if parsed.kinds.is_empty() {
                    return Err(format!("--only needs msgr2 or dlm, not {name:?}"));
                }
            }
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
    let mut passed = true;
    for kind in &arguments.kinds {
        println!("{}:", kind.name);
        passed &= if arguments.bugs { plant_all(*kind, &arguments) } else { batch(*kind, &arguments) };
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn batch(kind: Kind, arguments: &Arguments) -> bool {
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
                    let report = (kind.run)(seed, arguments.trace);
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
        println!("    again: cargo xtask sim --only {} --seed {} --trace", kind.name, report.seed);
    }
    if failed.len() > PRINTED_MAX {
        println!("... and {} more", failed.len() - PRINTED_MAX);
    }
    let mut missing = Vec::new();
    if arguments.seeds >= SEEDS_FOR_EVERY_SITUATION {
        missing = (kind.missing)(&all_situations(&reports));
        for what in &missing {
            println!("NEVER MET: {what}");
        }
    }
    println!("{} passed, {} failed", reports.len() - failed.len(), failed.len());
    failed.is_empty() && missing.is_empty()
}

fn all_situations(reports: &[Outcome]) -> Situations {
    let mut all = Situations::default();
    reports.iter().for_each(|report| all.add(&report.situations));
    all
}

fn print_table(reports: &[Outcome]) {
    print!("{}", all_situations(reports));
    let steps: u64 = reports.iter().map(|r| r.steps).sum();
    let longest = reports.iter().max_by_key(|r| r.settled_after);
    let (longest, seed) = longest.map_or((Duration::ZERO, 0), |r| (r.settled_after, r.seed));
    println!("{steps} steps; fair weather settled everything within {longest:?} (seed {seed})");
}

fn print_slow(reports: &[Outcome]) {
    let mut slow: Vec<_> = reports.iter().collect();
    slow.sort_by_key(|report| std::cmp::Reverse(report.steps));
    for report in slow.iter().take(10) {
        println!("{:>10} steps: {}", report.steps, report.about);
    }
}

fn plant_all(kind: Kind, arguments: &Arguments) -> bool {
    let next = AtomicU64::new(0);
    let bugs = (kind.bugs)();
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                while let Some(index) = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).ok()
                    && let Some(bug) = bugs.get(index)
                {
                    let report = (bug.find)(arguments.from);
                    found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, report));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_by_key(|(index, _)| *index);
    for (bug, (_, report)) in bugs.iter().zip(&found) {
        match report {
            Some(report) => println!(
                "{:>4} seeds  {}: {}",
                report.seed - arguments.from + 1,
                bug.name,
                report.findings.first().map(String::as_str).unwrap_or_default()
            ),
            None => println!("NOT FOUND within {SEEDS_FOR_A_BUG} seeds: {}", bug.name),
        }
    }
    let caught = found.iter().filter(|(_, report)| report.is_some()).count();
    println!("{caught} passed, {} failed", found.len() - caught);
    caught == found.len()
}
