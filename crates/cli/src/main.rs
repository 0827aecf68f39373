//! The command `outlast`.

// A program at a terminal, not a pure crate: it reads clocks and the system's randomness.
#![allow(clippy::disallowed_methods)]
#![forbid(unsafe_code)]

mod access;
mod bench;
mod clock;
mod copy;
mod demo;
mod dlm;
mod exit;
mod keyring;
mod probe;
mod process;
mod random;
mod serve;
mod signals;
mod term;
mod units;

use clap::{ArgAction, Parser, Subcommand};
use exit::{Context as _, EXIT_CODES_HELP, Outcome};
use std::process::ExitCode;

const ABOUT: &str = "\
A session that outlasts its connections: messages and files arrive once and in order, whatever happens to the link.

Outlast speaks msgr2, Ceph's protocol, at both ends, and shares locks with Linux's kernels (DLM). A session goes on over the next connection when one is lost; what was \
not acknowledged is sent again, what came twice is dropped.";

const EXAMPLES: &str = "\
Examples:
  See it work on this machine, with a link that is cut again and again:
    outlast demo

  Offer a folder, and copy to it and from it:
    outlast serve --dir /srv/files
    outlast copy photos/ server:/
    outlast copy server:/photos/2026 .

  What does this Ceph monitor speak?
    outlast probe 10.0.0.1:3300

  Run a job on one machine of several at a time:
    outlast dlm lock nightly -- ./report

`outlast COMMAND --help` says more.";

#[derive(Debug, Parser)]
#[command(name = "outlast", version, about, long_about = ABOUT, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES_HELP}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Say more on stderr: -v what happens, -vv why, -vvv every frame (or set RUST_LOG)
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 100)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Serve(serve::ServeArgs),
    Copy(copy::CopyArgs),
    Probe(probe::ProbeArgs),
    Bench(bench::BenchArgs),
    Keyring(keyring::KeyringArgs),
    Dlm(dlm::DlmArgs),
    #[command(hide = true, name = process::CHILD_COMMAND)]
    ChildProcess(ChildArgs),
}

/// A process that another one of this program started.
#[derive(Debug, clap::Args)]
struct ChildArgs {
    role: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.verbose);
    match run(cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit().into()
        }
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Keyring(args) => keyring::run(args),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Serve(args) => block_on(serve::run(args)),
        Command::Copy(args) => block_on(copy::run(args)),
        Command::Bench(args) => block_on(bench::run(args)),
        Command::ChildProcess(args) => child(&args.role),
        Command::Dlm(args) => block_on(dlm::run(args)),
        Command::Probe(args) => block_on(probe::run(args)),
    }
}

/// What a process does that another one of this program started.
fn child(role: &str) -> Outcome {
    let reporter = process::Reporter::new();
    match role {
        "demo-server" => block_on(demo::server_process(process::receive_task()?, reporter)),
        "demo-client" => block_on(demo::client_process(process::receive_task()?, reporter)),
        "demo-relay" => block_on(demo::relay_process(process::receive_task()?, reporter)),
        "bench-server" => block_on(bench::server_process(process::receive_task()?, reporter)),
        "bench-client" => block_on(bench::client_process(process::receive_task()?, reporter)),
        _ => Err(exit::Failure::usage("this command is for outlast's own use")),
    }
}

/// Runs what waits for sockets.
fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start")?;
    let outcome = runtime.block_on(command);
    // Threads that wait for a disk or a terminal are not worth waiting for.
    runtime.shutdown_background();
    outcome
}

/// Logs go to stderr, if `-v` or `RUST_LOG` ask for them: what fails, the commands say themselves.
fn start_logging(verbose: u8) {
    use std::io::IsTerminal as _;
    use tracing_subscriber::EnvFilter;
    let level = match verbose {
        0 => "off",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::new(directives),
        Ok(_) | Err(_) => EnvFilter::new(level),
    };
    let colours = term::colours(std::io::stderr().is_terminal());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}
