//! How a demo ended: what was done to the connection, what became of the session, and what was lost.

use super::display::{Now, rule};
use crate::exit::Exit;
use crate::term::{Paint, Style};
use crate::units;
use outlast_transfer::Comparison;
use serde::Serialize;
use std::time::Duration;

/// Differences that are shown.
const DIFFERENCES_SHOWN_MAX: usize = 5;

/// The verdict, with all figures: what `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verdict {
    pub(super) passed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
    pub(super) seed: u64,
    pub(super) mode: String,
    pub(super) key_type: String,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) connections: u64,
    pub(super) cuts: u64,
    pub(super) cuts_in_handshake: u64,
    pub(super) cuts_towards_client: u64,
    pub(super) ends_reset: u64,
    pub(super) ends_closed: u64,
    pub(super) sessions: u64,
    pub(super) resumptions: u64,
    pub(super) messages: u64,
    pub(super) messages_replayed: u64,
    pub(super) duplicates_dropped: u64,
    pub(super) messages_lost: u64,
    pub(super) files_compared: u64,
    pub(super) bytes_compared: u64,
    pub(super) differences: u64,
    #[serde(skip)]
    shown: Vec<String>,
}

/// What the run was to be, to judge it by.
pub(super) struct Plan {
    pub(super) seed: u64,
    /// A run with fewer cuts shows nothing.
    pub(super) cuts_min: u64,
    /// Failures that the copy itself told of.
    pub(super) failures: Vec<String>,
}

impl Verdict {
    pub(super) fn new(plan: Plan, now: &Now, comparison: &Comparison, time: Duration) -> Self {
        let Now { copy, server, relay, .. } = now;
        let mut problems = plan.failures;
        if now.resumptions() == 0 {
            problems.push("the session was never resumed, so nothing was put to the test (more to copy, see --size, takes longer)".to_owned());
        } else if relay.cuts < plan.cuts_min {
            problems.push(format!(
                "the connection was cut {} times, and {} were asked for",
                relay.cuts, plan.cuts_min
            ));
        }
        if copy.session.resets + server.resets > 0 {
            problems.push("the session was reset".to_owned());
        }
        let lost = copy.session.lost + server.lost;
        if lost > 0 {
            problems.push(format!("{} lost", units::counted(lost, "message")));
        }
        if comparison.differences_total > 0 {
            problems.push(format!(
                "{} between the trees",
                units::counted(comparison.differences_total, "difference")
            ));
        }
        let shown = comparison.differences.iter().take(DIFFERENCES_SHOWN_MAX);
        Self {
            passed: problems.is_empty(),
            problems,
            seed: plan.seed,
            mode: copy.mode.clone(),
            key_type: copy.key_type.clone(),
            files: now.files,
            bytes: now.bytes,
            seconds: time.as_secs_f64(),
            connections: relay.connections,
            cuts: relay.cuts,
            cuts_in_handshake: relay.in_handshake,
            cuts_towards_client: relay.backward,
            ends_reset: relay.resets,
            ends_closed: relay.closes,
            sessions: server.sessions.max(copy.session.sessions),
            resumptions: now.resumptions(),
            messages: copy.session.messages_sent + server.messages_sent,
            messages_replayed: now.replayed(),
            duplicates_dropped: now.duplicates(),
            messages_lost: lost,
            files_compared: comparison.files,
            bytes_compared: comparison.bytes,
            differences: comparison.differences_total,
            shown: shown
                .map(|one| format!("{}: {}", one.path.display().to_string().escape_debug(), one.what))
                .collect(),
        }
    }

    pub(super) const fn exit(&self) -> Exit {
        if self.passed { Exit::Done } else { Exit::Differs }
    }

    /// The last screen.
    pub(super) fn text(&self, paint: Paint) -> String {
        let mut lines = Vec::new();
        let row = |left: &str, value: String, right: &str, other: String| {
            let right = if right.is_empty() { String::new() } else { format!("   {right:<22}{other:>15}") };
            format!("  {left:<22}{value:>14}{right}").trim_end().to_owned()
        };
        let head = |left: &str, right: &str| paint.with(Style::Bold, format!("  {left:<36}   {right}"));
        let count = units::count;

        lines.push(head("what was done to the link", "what became of the session"));
        lines.push(row("connections", count(self.connections), "sessions", count(self.sessions)));
        lines.push(row("cut", count(self.cuts), "resumed", count(self.resumptions)));
        lines.push(row("  in a handshake", count(self.cuts_in_handshake), "messages", count(self.messages)));
        lines.push(row(
            "  towards the client",
            count(self.cuts_towards_client),
            "  sent again",
            count(self.messages_replayed),
        ));
        lines.push(row(
            "ends that saw a reset",
            count(self.ends_reset),
            "  came twice, dropped",
            count(self.duplicates_dropped),
        ));
        lines.push(row(
            "ends that saw a close",
            count(self.ends_closed),
            "  lost",
            count(self.messages_lost),
        ));
        lines.push(String::new());
        lines.push(head("what was sent", "what arrived, compared by BLAKE3"));
        lines.push(row("files", count(self.files), "files", count(self.files_compared)));
        lines.push(row("bytes", count(self.bytes), "bytes", count(self.bytes_compared)));
        lines.push(row("", String::new(), "differences", count(self.differences)));
        lines.push(format!("  {}", paint.with(Style::Dim, rule())));
        let time = Duration::from_secs_f64(self.seconds);
        if self.passed {
            lines.push(format!(
                "  {}   {} in {}, {}, over {}",
                paint.with(Style::Good, "Lost: nothing."),
                units::bytes(self.bytes),
                units::duration(time),
                units::rate(self.bytes, time),
                units::counted(self.connections, "connection"),
            ));
        } else {
            for problem in &self.problems {
                lines.push(format!("  {} {problem}", paint.with(Style::Bad, "FAILED:")));
            }
            lines.extend(self.shown.iter().map(|difference| format!("    {difference}")));
        }
        lines.join("\n")
    }
}
