//! Running other programs from the root of the repository.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What went wrong, for the person at the terminal.
pub(crate) type Failure = String;

/// The folder that holds the workspace.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies inside of the workspace").to_owned()
}

/// A command that runs at the root and reads nothing from the terminal.
pub(crate) fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that started us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
}

/// `peers/PEER`, the script that runs real programs: `ceph` or `kernel`.
pub(crate) fn peer(peer: &str, arguments: &[&str]) -> Command {
    command(root().join("peers").join(peer), arguments)
}

/// `peers/ceph`, the script that runs real Ceph.
pub(crate) fn peers_ceph(arguments: &[&str]) -> Command {
    peer("ceph", arguments)
}

/// Runs to the end; whatever it prints goes to the terminal.
pub(crate) fn run(mut command: Command) -> Result<(), Failure> {
    let status = command.status().map_err(|error| format!("{}: {error}", describe(&command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", describe(&command))) }
}

/// Runs to the end and gives what it wrote to standard output; the rest goes to the terminal.
pub(crate) fn output(mut command: Command) -> Result<String, Failure> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", describe(&command)))?;
    if !output.status.success() {
        return Err(format!("{}: {}", describe(&command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{}: its output is not UTF-8", describe(&command)))
}

/// Is there a program of that name in `PATH`?
pub(crate) fn exists(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Installs packages of the distribution, when a program of theirs is missing.
pub(crate) fn need_program(program: &str, package: &str) -> Result<(), Failure> {
    if exists(program) {
        return Ok(());
    }
    println!("{program} is missing: installing the package {package}");
    // Old lists may do; if they do not, the installation says so.
    let _ = run(command("apt-get", &["-q", "update"]));
    let mut install = command("apt-get", &["-q", "-y", "install", "--no-install-recommends", package]);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    run(install)
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}
