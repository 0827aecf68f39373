//! Running test programs and reading what they say.
//!
//! Cargo builds them; we start each by itself, so that its output belongs to a known package and target, it has a time
//! limit, and it can say which of its tests could not run here: a test that must skip appends a line `NAME: REASON`
//! to the file that `OUTLAST_SKIP_LOG` names, where `NAME` is its path as libtest prints it (the name of the
//! thread it runs on), and returns.

use super::report::{Test, TestResult};
use crate::command::{self, Failure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// A test program that cargo has built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) package: String,
    /// Where cargo runs it: the folder of its package.
    pub(crate) folder: PathBuf,
    /// `lib`, or the name of the file in `tests/`, or `bin NAME`.
    pub(crate) target: String,
    pub(crate) executable: PathBuf,
}

/// How often to look whether a program has ended.
const POLL: Duration = Duration::from_millis(20);
/// No more of a failing program's output is shown.
const SHOWN_BYTES_MAX: usize = 64 * 1024;

/// Builds the test programs of a workspace.
pub(crate) fn build(arguments: &[&str]) -> Result<Vec<Program>, Failure> {
    let mut all =
        vec!["test", "--no-run", "--locked", "--quiet", "--message-format", "json-render-diagnostics"];
    all.extend(arguments);
    let messages = command::output(command::cargo(&all))?;
    let mut programs: Vec<Program> = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|message| program(&message))
        .collect();
    programs.sort_by(|a, b| (&a.package, &a.target).cmp(&(&b.package, &b.target)));
    Ok(programs)
}

/// The test program that one of cargo's messages tells about.
fn program(message: &Value) -> Option<Program> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let name = message["target"]["name"].as_str()?;
    let target = match message["target"]["kind"][0].as_str()? {
        "test" => name.to_owned(),
        "bin" => format!("bin-{name}"),
        _ => "lib".to_owned(),
    };
    // "path+file:///…/crates/msgr2#outlast-msgr2@0.1.0", or "…/crates/outlast#0.1.0" when the folder has the name.
    let (path, tail) = message["package_id"].as_str()?.rsplit_once('#')?;
    let package = match tail.split_once('@') {
        Some((package, _)) => package,
        None => path.rsplit('/').next()?,
    };
    Some(Program {
        package: package.to_owned(),
        folder: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
        target,
        executable: PathBuf::from(message["executable"].as_str()?),
    })
}

impl Program {
    /// Runs all of its tests; the output is shown if one fails. `skip` keeps it from running, with that reason.
    pub(crate) fn run(
        &self,
        stage: &str,
        environment: &[(&str, &str)],
        limit: Duration,
        skip: Option<&str>,
    ) -> Result<Vec<Test>, Failure> {
        let prefix = format!("{stage} {} {}", self.package, self.target);
        let mut list = Command::new(&self.executable);
        list.args(["--list", "--format", "terse"]).current_dir(&self.folder);
        let listed = tests_listed(&command::output(list)?);
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(reason) = skip {
            let skipped = |test| Test {
                name: format!("{prefix} {test}"),
                result: TestResult::Skipped(reason.to_owned()),
            };
            return Ok(listed.into_iter().map(skipped).collect());
        }
        let scratch = Scratch::new(&prefix)?;
        let skip_log = scratch.0.join("skipped");
        let mut run = Command::new(&self.executable);
        run.current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env("OUTLAST_SKIP_LOG", &skip_log)
            .envs(environment.iter().copied());
        // With one thread libtest writes "test NAME ... " first, and whatever a child process says lands in that line.
        if std::env::var_os("RUST_TEST_THREADS").is_none() {
            let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
            run.env("RUST_TEST_THREADS", threads.to_string());
        }
        let started = Instant::now();
        let ended = run_limited(run, &scratch.0.join("output"), limit)?;
        let skipped = skips(&fs::read_to_string(&skip_log).unwrap_or_default());
        let (results, trouble) = judge(&listed, &ended, &skipped);
        println!("  {prefix}: {} tests, {:.1} s", results.len(), started.elapsed().as_secs_f64());
        if let Some(trouble) = trouble {
            println!("{}\n  {prefix}: {trouble}", shown(&ended.output));
        }
        Ok(results
            .into_iter()
            .map(|(name, result)| Test { name: format!("{prefix} {name}"), result })
            .collect())
    }
}

/// Runs the examples in the documentation of a workspace.
pub(crate) fn doc_tests(stage: &str, arguments: &[&str], limit: Duration) -> Result<Vec<Test>, Failure> {
    let mut all = vec!["test", "--doc", "--locked"];
    all.extend(arguments);
    let scratch = Scratch::new("doc")?;
    let ended = run_limited(command::cargo(&all), &scratch.0.join("output"), limit)?;
    let mut tests = Vec::new();
    for (package, lines) in doc_sections(&ended.output) {
        for (name, result) in results(&lines) {
            tests.push(Test { name: format!("{stage} {package} doc {}", without_line(&name)), result });
        }
    }
    println!("  {stage} doc: {} tests", tests.len());
    if !ended.success() && tests.iter().all(|test| test.result != TestResult::Failed) {
        return Err(format!("{}\ncargo test --doc failed", shown(&ended.output)));
    }
    if !ended.success() {
        println!("{}", shown(&ended.output));
    }
    Ok(tests)
}

struct Ended {
    /// `None`: it was killed at its time limit.
    status: Option<ExitStatus>,
    output: String,
}

impl Ended {
    fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Runs with both outputs into one file. A file, because a pipe would stay open as long as any grandchild lives.
fn run_limited(mut command: Command, output: &Path, limit: Duration) -> Result<Ended, Failure> {
    let failed = |error: std::io::Error| format!("{:?}: {error}", command.get_program());
    let file = File::create(output).map_err(failed)?;
    let copy = file.try_clone().map_err(failed)?;
    let program = command.get_program().to_owned();
    let failed = |error: std::io::Error| format!("{program:?}: {error}");
    let mut child =
        command.stdin(std::process::Stdio::null()).stdout(file).stderr(copy).spawn().map_err(failed)?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break Some(status);
        }
        if started.elapsed() > limit {
            child.kill().and_then(|()| child.wait()).map_err(failed)?;
            break None;
        }
        std::thread::sleep(POLL);
    };
    let output = fs::read(output).map_err(failed)?;
    Ok(Ended { status, output: String::from_utf8_lossy(&output).into_owned() })
}

/// A result for every listed test, and what to say if something is wrong.
fn judge(
    listed: &[String],
    ended: &Ended,
    skipped: &BTreeMap<String, String>,
) -> (Vec<(String, TestResult)>, Option<String>) {
    let said: BTreeMap<String, TestResult> = results(&ended.output).into_iter().collect();
    let mut judged = Vec::new();
    let mut silent = Vec::new();
    for name in listed {
        let result = match (said.get(name), skipped.get(name)) {
            (Some(TestResult::Passed), Some(reason)) => TestResult::Skipped(reason.clone()),
            (Some(result), _) => result.clone(),
            // Its line was not readable or never came.
            (None, _) => {
                silent.push(name.as_str());
                TestResult::Failed
            }
        };
        judged.push((name.clone(), result));
    }
    let failed = judged.iter().any(|(_, result)| *result == TestResult::Failed);
    let unknown: Vec<_> = skipped.keys().filter(|name| !listed.contains(name)).map(String::as_str).collect();
    let trouble = if ended.status.is_none() {
        Some("stopped at its time limit".to_owned())
    } else if !silent.is_empty() {
        Some(format!("no result of {}", silent.join(", ")))
    } else if !unknown.is_empty() {
        Some(format!("says that it skipped tests it does not have: {}", unknown.join(", ")))
    } else if failed || !ended.success() {
        Some("failed".to_owned())
    } else {
        None
    };
    // Whatever is wrong with a program is the failure of at least one test.
    if trouble.is_some() && !failed {
        judged.push(("the program itself".to_owned(), TestResult::Failed));
    }
    (judged, trouble)
}

/// The lines `NAME: test` of a program's list.
fn tests_listed(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The lines `test NAME ... RESULT`, also when something else was written in front of one.
fn results(output: &str) -> Vec<(String, TestResult)> {
    output.lines().filter_map(result).collect()
}

fn result(line: &str) -> Option<(String, TestResult)> {
    let line = &line[line.find("test ")?..];
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let result = match result {
        "ok" => TestResult::Passed,
        "FAILED" => TestResult::Failed,
        _ => {
            let reason = result.strip_prefix("ignored")?.trim_start_matches(", ");
            TestResult::Skipped(if reason.is_empty() { "ignored".to_owned() } else { reason.to_owned() })
        }
    };
    // libtest adds what kind of test it was.
    let name = name
        .trim_end_matches(" - should panic")
        .trim_end_matches(" - compile fail")
        .trim_end_matches(" - compile");
    Some((name.to_owned(), result))
}

/// The lines `NAME: REASON`; a reason may hold anything but a line's end.
fn skips(log: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| line.split_once(": ").map(|(name, reason)| (name.to_owned(), reason.to_owned()));
    log.lines().filter_map(pair).collect()
}

/// Cargo's output for examples, by package.
fn doc_sections(output: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in output.lines() {
        if let Some(package) = line.trim_start().strip_prefix("Doc-tests ") {
            sections.push((package.replace('_', "-"), String::new()));
        } else if let Some((_, text)) = sections.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    sections
}

/// `crates/x/src/lib.rs - Thing (line 3)` without its line, which every edit moves.
fn without_line(name: &str) -> &str {
    name.rsplit_once(" (line ").map_or(name, |(name, _)| name)
}

/// The end of a long output: that is where libtest repeats what failed.
fn shown(output: &str) -> &str {
    let start = output.len().saturating_sub(SHOWN_BYTES_MAX);
    match output.as_bytes()[start..].iter().position(|byte| *byte == b'\n') {
        Some(line) if start > 0 => &output[start + line + 1..],
        Some(_) | None => output,
    }
}

/// A folder for one program's files, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Scratch, Failure> {
        let folder = format!("outlast-test-{}-{}", std::process::id(), name.replace(['/', ' '], "-"));
        let path = std::env::temp_dir().join(folder);
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder that stays behind is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn ended(code: i32, output: &str) -> Ended {
        Ended { status: Some(ExitStatus::from_raw(code << 8)), output: output.to_owned() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_kind_of_result_line_is_read() {
        let output = "running 5 tests\n\
            test a::passes ... ok\n\
            test a::fails ... FAILED\n\
            test a::waits ... ignored, takes an hour\n\
            test a::panics - should panic ... ok\n\
            a child said thistest a::shouted ... ok\n\
            test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let expected = [
            ("a::passes", TestResult::Passed),
            ("a::fails", TestResult::Failed),
            ("a::waits", TestResult::Skipped("takes an hour".to_owned())),
            ("a::panics", TestResult::Passed),
            ("a::shouted", TestResult::Passed),
        ];
        assert_eq!(results(output), expected.map(|(name, result)| (name.to_owned(), result)));
    }

    #[test]
    fn a_test_that_says_it_skipped_has_not_passed() {
        let skipped = skips("a: no root: cannot mount\n");
        let (judged, trouble) = judge(&names(&["a"]), &ended(0, "test a ... ok\n"), &skipped);
        assert_eq!(judged, [("a".to_owned(), TestResult::Skipped("no root: cannot mount".to_owned()))]);
        assert_eq!(trouble, None);
    }

    #[test]
    fn a_listed_test_without_a_result_has_failed() {
        let (judged, trouble) = judge(&names(&["a", "b"]), &ended(0, "test a ... ok\n"), &BTreeMap::new());
        assert_eq!(judged[1], ("b".to_owned(), TestResult::Failed));
        assert_eq!(trouble.as_deref(), Some("no result of b"));
    }

    #[test]
    fn a_program_that_fails_after_its_tests_passed_has_failed() {
        let (judged, trouble) = judge(&names(&["a"]), &ended(1, "test a ... ok\n"), &BTreeMap::new());
        assert_eq!(judged[1], ("the program itself".to_owned(), TestResult::Failed));
        assert_eq!(trouble.as_deref(), Some("failed"));
    }

    #[test]
    fn a_program_that_hangs_is_stopped_at_its_limit() {
        let scratch = Scratch::new("hangs").expect("a folder");
        let mut command = Command::new("sleep");
        command.arg("60");
        let ended =
            run_limited(command, &scratch.0.join("output"), Duration::from_millis(50)).expect("it starts");
        assert_eq!(ended.status, None);
        assert!(!ended.success());
    }

    #[test]
    fn an_examples_name_is_without_its_line_and_with_its_package() {
        let output = "   Doc-tests outlast_session\nrunning 1 test\ntest crates/session/src/lib.rs - Outbox (line 7) - compile ... ok\n";
        let sections = doc_sections(output);
        assert_eq!(sections[0].0, "outlast-session");
        let [(name, result)] = &results(&sections[0].1)[..] else { panic!("one result") };
        assert_eq!((without_line(name), result), ("crates/session/src/lib.rs - Outbox", &TestResult::Passed));
    }

    #[test]
    fn cargos_message_names_package_target_and_program() {
        let message = |id: &str, kind: &str| {
            serde_json::json!({
                "reason": "compiler-artifact", "package_id": id, "manifest_path": "/x/crates/outlast/Cargo.toml",
                "target": { "name": "real_ceph", "kind": [kind] }, "profile": { "test": true },
                "executable": "/x/target/debug/deps/real_ceph-1"
            })
        };
        let one = program(&message("path+file:///x/crates/outlast#0.1.0", "test")).expect("a program");
        assert_eq!((one.package.as_str(), one.target.as_str()), ("outlast", "real_ceph"));
        assert_eq!(one.folder, Path::new("/x/crates/outlast"));
        let other =
            program(&message("path+file:///x/crates/msgr2#outlast-msgr2@0.1.0", "lib")).expect("a program");
        assert_eq!((other.package.as_str(), other.target.as_str()), ("outlast-msgr2", "lib"));
    }
}
