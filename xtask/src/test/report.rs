//! What a stage of the tests found.

use std::time::Duration;

/// One test, or a check that is a stage of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    /// Its line in `tests.list`: stage, package, target and path, each without spaces but the last.
    pub(crate) name: String,
    pub(crate) result: TestResult,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TestResult {
    Passed,
    Failed,
    /// With the reason it gave.
    Skipped(String),
}

impl Test {
    /// The one test of a stage that is a single check, or that broke down before its tests could run.
    pub(crate) fn of_stage(stage: &str, result: TestResult) -> Test {
        Test { name: format!("{stage} stage"), result }
    }

    pub(crate) fn is_broken_stage(&self) -> bool {
        self.result == TestResult::Failed && self.name.ends_with(" stage")
    }

    pub(crate) fn stage(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

/// A stage that ran.
pub(crate) struct StageReport {
    pub(crate) stage: &'static str,
    pub(crate) took: Duration,
    pub(crate) tests: Vec<Test>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    pub(crate) fn of<'a>(tests: impl IntoIterator<Item = &'a Test>) -> Counts {
        let mut counts = Counts::default();
        for test in tests {
            match test.result {
                TestResult::Passed => counts.passed += 1,
                TestResult::Failed => counts.failed += 1,
                TestResult::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }
}

/// The table at the end, one line a stage.
pub(crate) fn table(reports: &[StageReport]) -> String {
    let mut lines = vec![format!("{:<10} {:>8}  {}", "stage", "seconds", "result")];
    for report in reports {
        let Counts { passed, failed, skipped } = Counts::of(&report.tests);
        let result = match (passed, failed, skipped) {
            (1, 0, 0) => "ok".to_owned(),
            (0, 1, 0) => "FAILED".to_owned(),
            (_, 0, 0) => format!("{passed} passed"),
            (_, 0, _) => format!("{passed} passed, {skipped} SKIPPED"),
            (..) => format!("{passed} passed, {failed} FAILED, {skipped} skipped"),
        };
        lines.push(format!("{:<10} {:>8.1}  {result}", report.stage, report.took.as_secs_f64()));
    }
    let total: Duration = reports.iter().map(|report| report.took).sum();
    lines.push(format!("{:<10} {:>8.1}", "all", total.as_secs_f64()));
    lines.join("\n")
}
