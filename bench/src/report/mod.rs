//! From raw runs to what people read: tables in Markdown, and a plot.

mod markdown;
mod plot;

use crate::case::{Case, Rival, Workload};
use crate::runner::{Header, Run};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// Every ratio is to this, unless it says otherwise.
pub(crate) const ANCHOR: Rival = Rival::AnchorCrc;

/// Writes `benchmarks.md` and `benchmarks.svg` into the folder.
pub(crate) fn write(out: &Path, raw: &Path) -> Result<()> {
    let runs = Runs::read(raw).with_context(|| format!("{}", raw.display()))?;
    let name = raw.file_name().and_then(|name| name.to_str()).context("a file without a name")?;
    let text = out.join("benchmarks.md");
    let picture = out.join("benchmarks.svg");
    std::fs::write(&text, markdown::page(&runs, name))?;
    std::fs::write(&picture, plot::picture(&runs))?;
    println!("{}", markdown::targets(&runs));
    println!("{} and {}", text.display(), picture.display());
    Ok(())
}

/// All runs of a file.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) header: Header,
    by_place: BTreeMap<(Case, Rival), BTreeMap<usize, Run>>,
}

/// Something measured, one value a round.
pub(crate) type Metric = fn(&Run) -> Option<f64>;

/// Messages a second.
pub(crate) fn rate(run: &Run) -> Option<f64> {
    Some(run.outcome.messages as f64 / run.outcome.seconds)
}

/// Payload in MB (10^6 bytes) a second.
pub(crate) fn megabytes(run: &Run) -> Option<f64> {
    Some(rate(run)? * run.case.size_bytes as f64 / 1e6)
}

/// Microseconds. Ceph's program gives only the mean.
pub(crate) fn p50(run: &Run) -> Option<f64> {
    match run.case.workload {
        Workload::Call { at_a_time: 1 } => run.outcome.p50_us.or(Some(1e6 / rate(run)?)),
        Workload::Call { .. } | Workload::Stream => run.outcome.p50_us,
    }
}

pub(crate) fn p99(run: &Run) -> Option<f64> {
    run.outcome.p99_us
}

/// CPU seconds of both ends for 10^9 bytes of payload.
pub(crate) fn cpu_per_gigabyte(run: &Run) -> Option<f64> {
    Some(cpu_per_message(run)? / 1e6 * 1e9 / run.case.size_bytes as f64)
}

/// CPU microseconds of both ends for a message.
pub(crate) fn cpu_per_message(run: &Run) -> Option<f64> {
    let cpu_s = run.outcome.client_cpu_s + run.outcome.server_cpu_s;
    Some(cpu_s * 1e6 / run.outcome.messages as f64)
}

/// The most memory that the client, and the server, had resident, in MiB.
pub(crate) fn client_memory(run: &Run) -> Option<f64> {
    mebibytes(run.outcome.client_memory_bytes)
}

pub(crate) fn server_memory(run: &Run) -> Option<f64> {
    mebibytes(run.outcome.server_memory_bytes)
}

fn mebibytes(bytes: u64) -> Option<f64> {
    (bytes > 0).then_some(bytes as f64 / 1_048_576.0)
}

/// The middle of some values, and how far they reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 };
        Some(Self { median, least: *values.first()?, most: *values.last()? })
    }
}

impl Runs {
    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let mut lines = text.lines();
        let header = serde_json::from_str(lines.next().context("an empty file")?)?;
        let mut by_place = BTreeMap::<_, BTreeMap<_, _>>::new();
        for line in lines {
            let run: Run = serde_json::from_str(line)?;
            by_place.entry((run.case, run.rival)).or_default().insert(run.round, run);
        }
        ensure!(!by_place.is_empty(), "no runs");
        Ok(Self { header, by_place })
    }

    /// Which cases there are of so many cores, in order of size.
    pub(crate) fn cases(&self, cores: usize, workload: Workload) -> Vec<Case> {
        let mut cases: Vec<Case> = self
            .by_place
            .keys()
            .map(|(case, _)| *case)
            .filter(|case| case.cores == cores && case.workload == workload)
            .collect();
        cases.dedup();
        cases
    }

    pub(crate) fn cores(&self) -> Vec<usize> {
        let mut cores: Vec<usize> = self.by_place.keys().map(|(case, _)| case.cores).collect();
        cores.dedup();
        cores
    }

    /// Who has runs of any of these cases.
    pub(crate) fn rivals(&self, cases: &[Case]) -> Vec<Rival> {
        let mut rivals: Vec<Rival> =
            self.by_place.keys().filter(|(case, _)| cases.contains(case)).map(|(_, rival)| *rival).collect();
        rivals.sort_unstable();
        rivals.dedup();
        rivals
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Run> {
        self.by_place.values().flat_map(BTreeMap::values)
    }

    pub(crate) fn metric(&self, case: Case, rival: Rival, metric: Metric) -> Option<Spread> {
        Spread::of(self.by_place.get(&(case, rival))?.values().filter_map(metric).collect())
    }

    /// One rival's metric by another's, round by round.
    pub(crate) fn ratio(&self, case: Case, rival: Rival, to: Rival, metric: Metric) -> Option<Spread> {
        let theirs = self.by_place.get(&(case, to))?;
        let ratios = self.by_place.get(&(case, rival))?.iter().filter_map(|(round, run)| {
            let ratio = metric(run)? / metric(theirs.get(round)?)?;
            ratio.is_finite().then_some(ratio)
        });
        Spread::of(ratios.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_values_lies_between_the_middle_two() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).expect("four values");
        assert_eq!((spread.least, spread.median, spread.most), (1.0, 2.5, 4.0));
        assert!(Spread::of(Vec::new()).is_none());
    }
}
