//! The other commands: each starts one program, with what it needs installed.

use crate::command::{self, Failure};
use std::path::PathBuf;
use std::process::Command;

/// How long `cargo xtask fuzz TARGET` runs unless told otherwise.
const FUZZ_SECONDS: &str = "60";
/// The scripts in `peers/`.
const PEERS: [&str; 2] = ["ceph", "kernel"];

/// A cargo subcommand: the one in `PATH`, or else one that is built into `target/tools`.
pub(crate) fn cargo_tool(name: &str) -> Result<PathBuf, Failure> {
    if command::exists(name) {
        return Ok(PathBuf::from(name));
    }
    let tools = command::root().join("target/tools");
    let program = tools.join("bin").join(name);
    if !program.exists() {
        println!("{name} is missing: building it into target/tools");
        // It runs for a second: not worth the time to optimise it.
        let mut install = command::cargo(&["install", "--quiet", "--locked", "--debug", name, "--root"]);
        install.arg(&tools);
        command::run(install)?;
    }
    Ok(program)
}

pub(crate) fn sim_command(arguments: &[&str]) -> Command {
    let mut all = vec!["run", "--quiet", "--release", "--locked", "--package", "outlast-sim", "--"];
    all.extend(arguments);
    command::cargo(&all)
}

pub(crate) fn sim(arguments: &[String]) -> Result<(), Failure> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    command::run(sim_command(&arguments))
}

/// The benchmark and its rivals live outside of the workspace.
pub(crate) fn bench(arguments: &[String]) -> Result<(), Failure> {
    let mut bench = command::cargo(&[
        "run",
        "--quiet",
        "--release",
        "--locked",
        "--manifest-path",
        "bench/Cargo.toml",
        "--",
    ]);
    bench.args(arguments);
    command::run(bench)
}

/// Fuzzes one target. Without sanitizers, which only an unreleased compiler has: the crates are safe Rust.
/// The feature brings libFuzzer in, which is C++: whoever only replays the corpora does not build it.
pub(crate) fn fuzz(arguments: &[String]) -> Result<(), Failure> {
    let (target, rest) = arguments.split_first().ok_or("fuzz TARGET [SECONDS]: cargo xtask help")?;
    let seconds = rest.first().map_or(FUZZ_SECONDS, String::as_str);
    let mut fuzz = Command::new(cargo_tool("cargo-fuzz")?);
    fuzz.args([
        "run",
        "--sanitizer",
        "none",
        "--features",
        "libfuzzer",
        target,
        "--",
        &format!("-max_total_time={seconds}"),
    ]);
    fuzz.current_dir(command::root());
    command::run(fuzz)
}

pub(crate) fn peers(arguments: &[String]) -> Result<(), Failure> {
    let (peer, rest) = arguments.split_first().ok_or("peers ceph|kernel COMMAND: peers/ceph help")?;
    if !PEERS.contains(&peer.as_str()) {
        return Err(format!("no peer {peer}; there are {}", PEERS.join(", ")));
    }
    let mut command = command::peer(peer, &[]);
    command.args(rest);
    command::run(command)
}
