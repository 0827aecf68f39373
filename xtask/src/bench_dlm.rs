//! `cargo xtask bench dlm`: locks on another node's resources, between kernels and between our nodes.
//!
//! An example of `outlast-kernel-harness` measures; here its runs become `docs/benchmarks-dlm.md`.

use crate::command::{self, Failure};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;

const SCRIPT: &str = "run -q --release --locked -p outlast-kernel-harness --example dlm_load --";
const RAW: &str = "docs/benchmarks-dlm-raw.jsonl";
const PAGE: &str = "docs/benchmarks-dlm.md";
const ROUNDS: u32 = 5;
const ROUNDS_MAX: u32 = 100;
/// As the example calls them.
const KERNEL: &str = "kernel";
const OURS: &str = "ours";
const LOOPBACK: [(&str, &str); 2] =
    [("ours on one core", "both on one core"), ("ours on two cores", "each on its own core")];
const DEPTHS: [u64; 2] = [1, 32];

/// One run.
struct Run {
    round: u64,
    who: String,
    depth: u64,
    operations: u64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

pub(crate) fn bench(arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let rounds = match words[..] {
        [] => Some(ROUNDS),
        ["--rounds", rounds] => rounds.parse().ok().filter(|rounds| (1..=ROUNDS_MAX).contains(rounds)),
        _ => None,
    };
    let rounds = rounds.ok_or(format!("bench dlm [--rounds 1 to {ROUNDS_MAX}]"))?;
    let kernel = command::output(command::peer("kernel", &["install"]))?;
    let raw = command::root().join(RAW);
    let script: Vec<&str> = SCRIPT.split(' ').collect();
    let mut script = command::cargo(&script);
    script.arg(&raw).arg(rounds.to_string());
    command::run(script)?;
    let text = fs::read_to_string(&raw).map_err(|error| format!("{RAW}: {error}"))?;
    let (failed, text): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.contains("\"failed\":true"));
    let runs = text.into_iter().map(run).collect::<Option<Vec<_>>>();
    let runs = runs.ok_or(format!("{RAW} is not what was expected"))?;
    let date = command::output(command::command("date", &["-u", "+%F"]))?;
    let failed = failed.len();
    let page =
        page(&runs, failed, rounds, date.trim(), kernel.trim(), &machine()).ok_or("a run is missing")?;
    fs::write(command::root().join(PAGE), page).map_err(|error| format!("{PAGE}: {error}"))?;
    println!("{PAGE} and {RAW} are written");
    Ok(())
}

fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let model = model.map_or("an unknown processor", |(_, model)| model);
    format!("{model}, {count} cores, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

fn run(line: &str) -> Option<Run> {
    let value: Value = serde_json::from_str(line).ok()?;
    let report = value.get("report")?;
    let number = |name: &str| report.get(name)?.as_f64();
    Some(Run {
        round: value.get("round")?.as_u64()?,
        who: value.get("who")?.as_str()?.to_owned(),
        depth: value.get("depth")?.as_u64()?,
        operations: report.get("operations")?.as_u64()?,
        per_second: number("per_second")?,
        p50_us: number("p50_us")?,
        p99_us: number("p99_us")?,
    })
}

/// The median, and the least and the most.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(*values.get(middle - 1)?, upper)
        } else {
            upper
        };
        Some(Self { median, least: *values.first()?, most: *values.last()? })
    }

    fn show(&self, digits: usize) -> String {
        let Self { median, least, most } = self;
        format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

fn page(runs: &[Run], failed: usize, rounds: u32, date: &str, kernel: &str, machine: &str) -> Option<String> {
    let of = |who: &str, depth: u64| {
        let runs: Vec<&Run> = runs.iter().filter(|run| run.who == who && run.depth == depth).collect();
        (!runs.is_empty()).then_some(runs)
    };
    let row = |who: &str, title: &str, depth: u64| {
        let runs = of(who, depth)?;
        let spread = |value: fn(&Run) -> f64| Spread::of(runs.iter().copied().map(value).collect());
        let (rate, p50, p99) =
            (spread(|run| run.per_second)?, spread(|run| run.p50_us)?, spread(|run| run.p99_us)?);
        let operations = runs.first()?.operations;
        Some(format!(
            "| {title} | {depth} | {operations} | {} | {} | {} |\n",
            rate.show(0),
            p50.show(0),
            p99.show(0)
        ))
    };
    let head = "| nodes | under way | operations a run | operations a second | p50, us | p99, us |\n\
                | --- | ---: | ---: | ---: | ---: | ---: |\n";
    let mut text = format!(
        "# Locks on another node's resources\n\n\
         Measured on {date} by `cargo xtask bench dlm --rounds {rounds}`, as root. The runs are in \
         [`benchmarks-dlm-raw.jsonl`](benchmarks-dlm-raw.jsonl). The machine: {machine}, which is a virtual machine itself and has \
         other work to do. The guests: {kernel}.\n\n\
         An operation is a lock in mode EX and its unlock, each waited for: two requests to the master and its two answers. \
         A table has medians over {rounds} rounds, with the least and the most.\n\n\
         ## In guests of the same make\n\n"
    );
    if kernel.ends_with("tcg") {
        text.push_str(
            "There is no KVM here: the guests' processors are emulated (QEMU's TCG), and all in them takes many times as long as \
             on a machine. **Only the ratio says something**, and even that leans: emulation makes what is computed dear, and \
             what is waited for cheap.\n\n",
        );
    }
    text.push_str(head);
    for depth in DEPTHS {
        text += &row(KERNEL, "two kernels", depth)?;
        text += &row(OURS, "two of our nodes", depth)?;
    }
    text.push_str(
        "\nOurs divided by the kernel's of the same round; of a rate more is better, of a latency less:\n\n",
    );
    text.push_str("| under way | operations a second | p50 | p99 |\n| ---: | ---: | ---: | ---: |\n");
    for depth in DEPTHS {
        let (kernels, ours) = (of(KERNEL, depth)?, of(OURS, depth)?);
        let ratio = |value: fn(&Run) -> f64| {
            let pairs = ours.iter().filter_map(|our| {
                let kernel = kernels.iter().find(|kernel| kernel.round == our.round)?;
                Some(value(our) / value(kernel))
            });
            Spread::of(pairs.collect())
        };
        let (rate, p50, p99) =
            (ratio(|run| run.per_second)?, ratio(|run| run.p50_us)?, ratio(|run| run.p99_us)?);
        writeln!(text, "| {depth} | {} | {} | {} |", rate.show(2), p50.show(2), p99.show(2)).ok()?;
    }
    text.push_str(
        "\n## On this machine without guests\n\n\
         Two processes of ours on the loopback interface, one thread each, pinned. A core of this virtual machine that has gone \
         to sleep takes long to be woken, which each message has to wait for on two cores. Kernels have no such figure here: two of them \
         need two guests.\n\n",
    );
    text.push_str(head);
    for depth in DEPTHS {
        for (who, title) in LOOPBACK {
            text += &row(who, title, depth)?;
        }
    }
    text.push_str(HOW);
    if failed > 0 {
        writeln!(
            text,
            "- {failed} runs did not come to their end, and were made again: they are noted among the runs, as `failed`."
        )
        .ok()?;
    }
    Some(text)
}

const HOW: &str = "
## How it was measured

- Each run has two new guests with one processor and 320 MB each, on one bridge: for kernels and for ours the same kernel image,
  the same initial file system (ours has one program more), the same addresses. They take turns within a round.
- The first node is alone in the lockspace and takes a lock in mode NL on each of 512 resources: so it is the master of all of
  them. It keeps those locks. Then the second one joins, which is the one that locks. Ours checks for each resource who
  the master is.
- The second node has 1 or 32 operations under way and takes the resources in turn, so nobody waits for another's lock. 600
  operations are not counted. It is measured in the guest, by the guest's clock.
- Kernel: a program with one thread writes the requests to the lockspace's device and reads their ends from there.
- Ours: the example `remote_locks` of `crates/lockspace`, statically linked; tasks on a runtime of one thread.
- Both speak 3.2 over TCP, numbered and acknowledged.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn line(round: u32, who: &str, depth: u64, rate: f64) -> String {
        format!(
            r#"{{"round":{round},"who":"{who}","depth":{depth},"report":{{"operations":9,"seconds":1.0,"per_second":{rate},"p50_us":10.0,"p99_us":20.0,"max_us":30.0}}}}"#
        )
    }

    #[test]
    fn the_page_has_medians_and_the_ratio_within_rounds() {
        let mut lines = Vec::new();
        for (round, kernel, ours) in [(1, 100.0, 300.0), (2, 200.0, 200.0), (3, 100.0, 200.0)] {
            for depth in DEPTHS {
                lines.push(line(round, KERNEL, depth, kernel));
                lines.push(line(round, OURS, depth, ours));
                lines.extend(LOOPBACK.map(|(who, _)| line(round, who, depth, 1000.0)));
            }
        }
        let runs: Vec<Run> = lines.iter().map(|line| run(line).expect("a run")).collect();
        let page = page(&runs, 2, 3, "2026-01-01", "Linux 6.12, tcg", "a machine").expect("a page");
        assert!(
            page.contains("| two kernels | 1 | 9 | 100 (100 to 200) | 10 (10 to 10) | 20 (20 to 20) |"),
            "{page}"
        );
        assert!(page.contains("| 32 | 2.00 (1.00 to 3.00) | 1.00 (1.00 to 1.00) |"), "{page}");
        assert!(page.contains("Only the ratio"));
        assert!(page.contains("- 2 runs did not come"));
    }

    #[test]
    fn a_run_that_is_missing_is_no_page() {
        let runs: Vec<Run> = run(&line(1, KERNEL, 1, 1.0)).into_iter().collect();
        assert!(page(&runs, 0, 1, "", "", "").is_none());
        assert!(run("{}").is_none());
    }
}
