//! `cargo xtask test`: all of the proof, stage by stage, and a comparison with the committed list of tests.

mod libtest;
mod list;
mod report;
mod stages;

use crate::command::Failure;
use report::{Counts, StageReport, Test, TestResult};
use stages::{STAGES, Settings, Stage};
use std::time::Instant;

/// What the person asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    fast: bool,
    bless: bool,
    only: Vec<String>,
}

/// Runs the stages; an error if anything is wrong.
pub(crate) fn test(arguments: &[String]) -> Result<(), Failure> {
    let options = Options::parse(arguments)?;
    let settings = Settings { fast: options.fast };
    let chosen: Vec<&Stage> = STAGES.iter().filter(|stage| options.wants(stage)).collect();
    let reports: Vec<StageReport> = chosen.iter().map(|stage| run(stage, &settings)).collect();

    // A stage that broke down says nothing about its tests.
    let whole = |report: &&StageReport| report.tests.iter().all(|test| !test.is_broken_stage());
    let names: Vec<&str> = reports.iter().filter(whole).map(|report| report.stage).collect();
    let mut tests: Vec<Test> = reports.iter().flat_map(|report| report.tests.clone()).collect();
    tests.sort();
    let counts = Counts::of(&tests);
    if options.bless && counts.failed == 0 {
        list::write(&names, &tests)?;
    }
    let complaints = list::complaints(&list::compare(&list::read(), &names, &tests), &tests);

    println!("\n{}\n", report::table(&reports));
    for test in tests.iter().filter(|test| test.result == TestResult::Failed) {
        println!("FAILED {}", test.name);
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    let strict = is_ci();
    if !complaints.is_empty() {
        println!(
            "{}",
            if strict { "Under CI=true these are errors." } else { "With CI=true these are errors." }
        );
    }
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    if counts.failed > 0 {
        return Err("not everything passed".to_owned());
    }
    if strict && !complaints.is_empty() {
        return Err("what ran is not what tests.list says".to_owned());
    }
    Ok(())
}

fn run(stage: &Stage, settings: &Settings) -> StageReport {
    println!("== {}: {}", stage.name, stage.about);
    let started = Instant::now();
    let tests = (stage.run)(stage.name, settings).unwrap_or_else(|failure| {
        println!("{failure}");
        vec![Test::of_stage(stage.name, TestResult::Failed)]
    });
    StageReport { stage: stage.name, took: started.elapsed(), tests }
}

/// Is nobody here who could read a warning?
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, Failure> {
        let mut options = Options::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--fast" => options.fast = true,
                "--bless" => options.bless = true,
                "--only" => {
                    let stages = arguments.next().ok_or("--only needs the name of a stage")?;
                    for stage in stages.split(',') {
                        if STAGES.iter().all(|known| known.name != stage) {
                            let known: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
                            return Err(format!("no stage {stage}; there are {}", known.join(", ")));
                        }
                        options.only.push(stage.to_owned());
                    }
                }
                unknown => return Err(format!("unknown option {unknown}")),
            }
        }
        Ok(options)
    }

    fn wants(&self, stage: &Stage) -> bool {
        if self.only.is_empty() {
            stage.fast || !self.fast
        } else {
            self.only.iter().any(|name| name == stage.name)
        }
    }
}
