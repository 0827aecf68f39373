//! How a copy goes, on stderr: a bar on a terminal, lines elsewhere.

use crate::term;
use crate::units;
use indicatif::{ProgressBar, ProgressStyle};
use outlast_transfer::{Progress, Snapshot};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a bar is drawn anew.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// What the rate is an average over.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// What is drawn, and how.
pub(super) struct Display {
    progress: Arc<Progress>,
    bar: Option<ProgressBar>,
    quiet: bool,
    /// Bytes moved, and when, over the last moments.
    seen: std::collections::VecDeque<(Instant, u64)>,
}

impl Display {
    pub(super) fn new(progress: Arc<Progress>, quiet: bool) -> Self {
        let bar = (!quiet && term::stderr_is_live()).then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{wide_bar} {prefix}\n{wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ "));
            bar
        });
        Self { progress, bar, quiet, seen: std::collections::VecDeque::new() }
    }

    /// How often [`Display::draw`] wants to be called.
    pub(super) const fn interval(&self) -> Duration {
        if self.bar.is_some() { BAR_INTERVAL } else { LINE_INTERVAL }
    }

    /// Shows where the copy stands; `away` says for how long it has had no connection.
    pub(super) fn draw(&mut self, away: Option<Duration>) {
        if self.quiet {
            return;
        }
        let now = Instant::now();
        let snapshot = self.progress.snapshot();
        self.seen.push_back((now, snapshot.bytes_moved));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(at, _)| now - *at > RATE_WINDOW) {
            self.seen.pop_front();
        }
        let line = self.line(&snapshot, now);
        let state = match (away, snapshot.current.first()) {
            (Some(away), _) => format!("no connection for {}; trying again", units::duration(away)),
            (None, Some(name)) => name.clone(),
            (None, None) => String::new(),
        };
        match &self.bar {
            Some(bar) => {
                bar.set_length(snapshot.bytes_total.max(1));
                bar.set_position(snapshot.bytes_done);
                bar.set_prefix(line);
                bar.set_message(state);
            }
            None => {
                let state = if away.is_some() { format!("  ({state})") } else { String::new() };
                eprintln!("outlast: {line}{state}");
            }
        }
    }

    fn line(&self, snapshot: &Snapshot, now: Instant) -> String {
        let rate = match self.seen.front() {
            Some((at, moved)) if now > *at => {
                units::rate(snapshot.bytes_moved.saturating_sub(*moved), now - *at)
            }
            Some(_) | None => String::new(),
        };
        // While the source is still being walked, the totals grow.
        let sure = if snapshot.totals_complete { "" } else { "+" };
        format!(
            "{} of {}{sure}  {}/{}{sure} files  {rate}",
            units::bytes(snapshot.bytes_done),
            units::bytes(snapshot.bytes_total),
            units::count(snapshot.files_done),
            units::count(snapshot.files_total),
        )
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("outlast: {line}")),
            None if self.quiet => {}
            None => eprintln!("outlast: {line}"),
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
