//! The project's own commands: `cargo xtask help` lists them.

// A program at a terminal, not a pure crate: it measures how long things take.
#![allow(clippy::disallowed_methods)]

mod bench_dlm;
mod capture;
mod command;
mod test;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  test [--fast] [--only STAGE[,STAGE]] [--bless]
                        all of the proof, stage by stage: format, clippy, docs, deny, package, tests, sim, fuzz,
                        peers, demo. Installs what it needs (real Ceph, a Linux kernel for guests: as root, from the
                        distribution's packages).
                        --fast leaves out what takes minutes; --bless writes tests.list from what ran.
                        With CI=true a test that was skipped, lost or is not on tests.list is an error.
  sim --seeds N [--seed S] [--only msgr2|dlm]
                        simulated runs; one number reproduces a run
  bench [OPTION...]     the benchmark against its rivals (bench/)
  bench dlm [--rounds N]
                        locks between two of our nodes beside two kernels, in guests (docs/benchmarks-dlm.md)
  fuzz TARGET [SECONDS] looks for inputs that break a decoder or a state machine (60 s)
  peers ceph COMMAND    real Ceph daemons on this machine: peers/ceph help
  peers kernel COMMAND  a real Linux kernel in a guest on this machine: peers/kernel help
  capture [CASE...]     records anew what real Ceph says (crates/msgr2/tests/golden), and with the case dlm what
                        Linux kernels say to each other (crates/dlm/tests/golden), as root
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) = match arguments.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => ("", [].as_slice()),
    };
    let done = match name {
        "test" | "sim" | "fuzz" | "capture"
            if rest.iter().any(|option| option == "--help" || option == "-h") =>
        {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        "test" => test::test(rest),
        "sim" => tools::sim(rest),
        "bench" if rest.first().is_some_and(|first| first == "dlm") => bench_dlm::bench(&rest[1..]),
        "bench" => tools::bench(rest),
        "fuzz" => tools::fuzz(rest),
        "peers" => tools::peers(rest),
        "capture" => capture::capture(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
