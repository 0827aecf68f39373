//! `tests.list`: the names of all tests, committed, so that none can get lost unseen.

use super::report::{Test, TestResult};
use crate::command::{self, Failure};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// How the tests that ran differ from the list, stage by stage; names that occur often are counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// On the list, but did not run.
    pub(crate) lost: Vec<String>,
    /// Ran, but not on the list.
    pub(crate) new: Vec<String>,
}

fn path() -> PathBuf {
    command::root().join("tests.list")
}

/// The committed names; none if there is no list yet.
pub(crate) fn read() -> Vec<String> {
    let text = fs::read_to_string(path()).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Puts the tests that ran into the list, in place of those that it had of the same stages.
pub(crate) fn write(stages: &[&str], tests: &[Test]) -> Result<(), Failure> {
    let mut names: Vec<String> =
        read().into_iter().filter(|name| !stages.contains(&stage_of(name))).collect();
    names.extend(tests.iter().map(|test| test.name.clone()));
    names.sort();
    let head = "# Every test that `cargo xtask test` runs: stage, package, target, name. Written by `cargo xtask test --bless`.\n";
    let text = head.to_owned() + &names.join("\n") + "\n";
    fs::write(path(), text).map_err(|error| format!("{}: {error}", path().display()))
}

/// Compares what ran in these stages with the list.
pub(crate) fn compare(list: &[String], stages: &[&str], tests: &[Test]) -> Difference {
    // Listed names count down, those that ran count up.
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    for name in list.iter().filter(|name| stages.contains(&stage_of(name))) {
        *balance.entry(name).or_default() -= 1;
    }
    for test in tests.iter().filter(|test| stages.contains(&test.stage())) {
        *balance.entry(&test.name).or_default() += 1;
    }
    let mut difference = Difference::default();
    for (name, count) in balance {
        let side = if count < 0 { &mut difference.lost } else { &mut difference.new };
        side.extend((0..count.abs()).map(|_| name.to_owned()));
    }
    difference
}

/// What the person at the terminal, or the CI, has to hear; and whether it is a failure there.
pub(crate) fn complaints(difference: &Difference, tests: &[Test]) -> Vec<String> {
    let mut lines = Vec::new();
    for test in tests {
        match &test.result {
            TestResult::Skipped(reason) => lines.push(format!("SKIPPED {}: {reason}", test.name)),
            TestResult::Passed | TestResult::Failed => {}
        }
    }
    lines
        .extend(difference.lost.iter().map(|name| format!("LOST {name}: on tests.list, but it did not run")));
    lines.extend(
        difference.new.iter().map(|name| format!("NEW {name}: not on tests.list (cargo xtask test --bless)")),
    );
    lines
}

fn stage_of(name: &str) -> &str {
    name.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(names: &[&str]) -> Vec<Test> {
        names.iter().map(|name| Test { name: (*name).to_owned(), result: TestResult::Passed }).collect()
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_test_that_did_not_run_is_lost_and_one_that_is_not_listed_is_new() {
        let difference = compare(&list(&["unit a", "unit b"]), &["unit"], &passed(&["unit b", "unit c"]));
        assert_eq!(difference, Difference { lost: list(&["unit a"]), new: list(&["unit c"]) });
    }

    #[test]
    fn stages_that_did_not_run_lose_nothing() {
        let difference = compare(&list(&["unit a", "peers b"]), &["unit"], &passed(&["unit a"]));
        assert_eq!(difference, Difference::default());
    }

    #[test]
    fn of_two_tests_with_one_name_the_loss_of_one_is_seen() {
        let difference = compare(&list(&["docs a", "docs a"]), &["docs"], &passed(&["docs a"]));
        assert_eq!(difference.lost, ["docs a"]);
    }
}
