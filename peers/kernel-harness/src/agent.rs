//! Building the program that runs in the guests.

use crate::LabError;
use crate::namespace::run;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The only machine that `peers/kernel` has.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const PACKAGE: &str = "outlast-kernel-agent";

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The agent, built once in a process; cargo knows whether it is up to date.
pub(crate) fn build() -> Result<PathBuf, LabError> {
    static BUILT: OnceLock<Result<PathBuf, LabError>> = OnceLock::new();
    BUILT.get_or_init(|| Ok(build_static(&["--package", PACKAGE])?.join(PACKAGE))).clone()
}

/// Builds an example of a package of the workspace for guests, where there are no libraries.
///
/// # Errors
///
/// What cargo says.
pub fn static_example(package: &str, example: &str) -> Result<PathBuf, LabError> {
    Ok(build_static(&["--package", package, "--example", example])?.join("examples").join(example))
}

/// Where it is then.
fn build_static(what: &[&str]) -> Result<PathBuf, LabError> {
    // Apart from the build that runs this: other flags would make that build everything anew.
    let target = root().join("target/guest");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--locked", "--release", "--target", TARGET])
        .args(what)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(root())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // The guest has no libraries.
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols");
    run(&mut cargo)?;
    Ok(target.join(TARGET).join("release"))
}
