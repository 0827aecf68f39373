//! The stages, in the order in which they run: what is quick to fail comes first.

use super::libtest::{self, Program};
use super::report::{Test, TestResult};
use crate::command::{self, Failure};
use crate::tools;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub(crate) struct Settings {
    /// Leave out what takes minutes.
    pub(crate) fast: bool,
}

pub(crate) struct Stage {
    /// One word; the tests of the stage begin with it in `tests.list`.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Does it run with `--fast`?
    pub(crate) fast: bool,
    pub(crate) run: fn(&str, &Settings) -> Result<Vec<Test>, Failure>,
}

pub(crate) const STAGES: &[Stage] = &[
    Stage { name: "format", about: "cargo fmt --check", fast: true, run: format },
    Stage { name: "clippy", about: "lints, of tests too, without warnings", fast: true, run: clippy },
    Stage { name: "docs", about: "documentation without warnings", fast: false, run: docs },
    Stage { name: "deny", about: "licences, bans and sources of what we depend on", fast: false, run: deny },
    Stage { name: "package", about: "every crate packages", fast: false, run: package },
    Stage { name: "tests", about: "unit, property and example tests", fast: true, run: tests },
    Stage { name: "sim", about: "simulated runs with faults", fast: true, run: sim },
    Stage { name: "fuzz", about: "the committed corpora, once more", fast: false, run: fuzz },
    Stage { name: "peers", about: "real Ceph 16, 18 and 20, real kernels", fast: false, run: peers },
    Stage { name: "demo", about: "outlast demo, as a newcomer runs it", fast: false, run: demo },
];

/// Tools of this repository: their dependencies have no version.
const NOT_PUBLISHED: [&str; 3] = ["xtask", "outlast-kernel-agent", "outlast-kernel-harness"];
/// A test program of ours ends long before.
const PROGRAM_LIMIT: Duration = Duration::from_secs(600);
/// Dozens of clusters are started and stopped.
const PEERS_LIMIT: Duration = Duration::from_secs(900);
/// Test programs with such names need real peers.
const REAL_PREFIX: &str = "real_";
/// Those of them that need kernels in guests; all others need Ceph.
const REAL_KERNEL_PREFIX: &str = "real_kernel_";
/// Those of the latter that need the old kernel, too.
const REAL_OLD_KERNEL_PREFIX: &str = "real_kernel_old";
/// Those that need corosync.
const REAL_COROSYNC_PREFIX: &str = "real_corosync";
const REAL_RELEASES: [&str; 3] = ["16", "18", "20"];
const COROSYNC_PACKAGE: &str = "corosync";
const COROSYNC: &str = "/usr/sbin/corosync";
const OLD_KERNEL: &str = "5.10";
const SIM_SEEDS: &str = "2000";
const SIM_SEEDS_FAST: &str = "200";

fn format(stage: &str, _: &Settings) -> Result<Vec<Test>, Failure> {
    check(stage, command::cargo(&["fmt", "--all", "--check"]))
}

fn clippy(stage: &str, _: &Settings) -> Result<Vec<Test>, Failure> {
    let all = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    check(stage, command::cargo(&all))
}

fn docs(stage: &str, _: &Settings) -> Result<Vec<Test>, Failure> {
    let mut doc = command::cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--locked"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    check(stage, doc)
}

fn deny(stage: &str, _: &Settings) -> Result<Vec<Test>, Failure> {
    let mut deny = Command::new(tools::cargo_tool("cargo-deny")?);
    // Not the advisories: they change with the day, and what passed yesterday must pass today.
    deny.args(["--log-level", "error", "--locked", "check", "licenses", "bans", "sources"]);
    deny.current_dir(command::root());
    check(stage, deny)
}

fn package(stage: &str, _: &Settings) -> Result<Vec<Test>, Failure> {
    // Not built again from the packages: the other stages build the same files.
    let mut all = vec!["package", "--quiet", "--workspace", "--no-verify", "--allow-dirty", "--locked"];
    for tool in NOT_PUBLISHED {
        all.extend(["--exclude", tool]);
    }
    check(stage, command::cargo(&all))
}

fn tests(stage: &str, settings: &Settings) -> Result<Vec<Test>, Failure> {
    // For network namespaces. Without it the tests that need them skip.
    if !settings.fast
        && let Err(failure) = command::need_program("ip", "iproute2")
    {
        println!("  {failure}");
    }
    let mut tests = Vec::new();
    for program in programs(|program| !needs_peers(program))? {
        tests.extend(program.run(stage, &[], PROGRAM_LIMIT, None)?);
    }
    tests.extend(libtest::doc_tests(stage, &["--workspace"], PROGRAM_LIMIT)?);
    Ok(tests)
}

fn sim(stage: &str, settings: &Settings) -> Result<Vec<Test>, Failure> {
    let seeds = if settings.fast { SIM_SEEDS_FAST } else { SIM_SEEDS };
    if !command::root().join("crates/sim/src/main.rs").exists() {
        return Ok(skipped(stage, "the simulator is not there yet"));
    }
    check(stage, tools::sim_command(&["--seeds", seeds]))
}

fn fuzz(stage: &str, _: &Settings) -> Result<Vec<Test>, Failure> {
    let manifest = command::root().join("fuzz/Cargo.toml");
    if !manifest.exists() {
        return Ok(skipped(stage, "there are no fuzz targets yet"));
    }
    let mut tests = Vec::new();
    for program in libtest::build(&["--manifest-path", &manifest.to_string_lossy()])? {
        tests.extend(program.run(stage, &[], PROGRAM_LIMIT, None)?);
    }
    Ok(tests)
}

fn peers(stage: &str, _: &Settings) -> Result<Vec<Test>, Failure> {
    let programs = programs(needs_peers)?;
    let mut tests = Vec::new();
    let mut no_ceph: Option<String> = None;
    for release in REAL_RELEASES {
        if !install(stage, "ceph", Some(release), &mut tests) {
            no_ceph = Some(format!("real Ceph {release} could not be installed"));
        }
    }
    let kernel = install(stage, "kernel", None, &mut tests);
    // What goes over the wire is shown to Wireshark. A test that needs it fails without it, and says so.
    if let Err(failure) = command::need_program("tshark", "tshark") {
        println!("  {failure}");
    }
    let no_kernel = (!kernel).then_some("a kernel for guests could not be installed");
    let old_kernel = install(stage, "kernel", Some(OLD_KERNEL), &mut tests);
    let no_old_kernel = (!old_kernel).then_some("the old kernel for guests could not be installed");
    let no_corosync = (!install_corosync(stage, &mut tests)).then_some("corosync could not be installed");
    for program in programs {
        let missing = match program.target.as_str() {
            old if old.starts_with(REAL_OLD_KERNEL_PREFIX) => no_kernel.or(no_old_kernel),
            kernel if kernel.starts_with(REAL_KERNEL_PREFIX) => no_kernel,
            corosync if corosync.starts_with(REAL_COROSYNC_PREFIX) => no_corosync,
            _ => no_ceph.as_deref(),
        };
        tests.extend(program.run(stage, &[("OUTLAST_REAL_PEERS", "1")], PEERS_LIMIT, missing)?);
    }
    Ok(tests)
}

/// Installs a peer, which is a test too. Is it there?
fn install(stage: &str, peer: &str, release: Option<&str>, tests: &mut Vec<Test>) -> bool {
    let mut words = vec!["install"];
    words.extend(release);
    let result = match command::output(command::peer(peer, &words)) {
        Ok(version) => {
            println!("  {}", version.trim());
            TestResult::Passed
        }
        Err(failure) => TestResult::Skipped(failure),
    };
    let installed = result == TestResult::Passed;
    words.insert(1, peer);
    tests.push(Test { name: format!("{stage} {}", words.join(" ")), result });
    installed
}

/// The distribution's corosync. It is not needed as a service of this machine, only its programs.
fn install_corosync(stage: &str, tests: &mut Vec<Test>) -> bool {
    let result = if Path::new(COROSYNC).exists() {
        TestResult::Passed
    } else {
        let words = ["install", "--quiet", "--yes", "--no-install-recommends", COROSYNC_PACKAGE];
        let mut apt = command::command("apt-get", &words);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        command::run(apt).map_or_else(TestResult::Skipped, |()| TestResult::Passed)
    };
    let installed = result == TestResult::Passed;
    tests.push(Test { name: format!("{stage} install {COROSYNC_PACKAGE}"), result });
    installed
}

fn demo(stage: &str, _: &Settings) -> Result<Vec<Test>, Failure> {
    if !command::root().join("crates/cli/src/demo").exists()
        && !command::root().join("crates/cli/src/demo.rs").exists()
    {
        return Ok(skipped(stage, "the demo is not there yet"));
    }
    check(
        stage,
        command::cargo(&["run", "--quiet", "--release", "--locked", "--bin", "outlast", "--", "demo"]),
    )
}

fn programs(wanted: impl Fn(&Program) -> bool) -> Result<Vec<Program>, Failure> {
    Ok(libtest::build(&["--workspace"])?.into_iter().filter(wanted).collect())
}

fn needs_peers(program: &Program) -> bool {
    program.target.starts_with(REAL_PREFIX)
}

/// A stage that is one test: a command that succeeds or does not.
fn check(stage: &str, command: Command) -> Result<Vec<Test>, Failure> {
    command::run(command)?;
    Ok(vec![Test::of_stage(stage, TestResult::Passed)])
}

fn skipped(stage: &str, reason: &str) -> Vec<Test> {
    vec![Test::of_stage(stage, TestResult::Skipped(reason.to_owned()))]
}
