//! What a demo shows while it runs: a few lines that are drawn anew on a terminal, a line a second elsewhere.

use super::ends::{CopyState, SessionState};
use super::relay::RelayState;
use crate::term::{Paint, Style};
use crate::units;
use std::collections::VecDeque;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// How wide the bar is, in characters.
const BAR_COLUMNS: usize = 74;
/// How wide it is all drawn, in characters.
const COLUMNS: usize = 78;
/// What the rate is an average over.
const RATE_WINDOW: Duration = Duration::from_secs(2);
/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that is known while the copy runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Now {
    pub(super) copy: CopyState,
    pub(super) server: SessionState,
    pub(super) relay: RelayState,
    /// The whole tree, in bytes, and its files.
    pub(super) bytes: u64,
    pub(super) files: u64,
}

impl Now {
    /// Messages that either end sent again.
    pub(super) const fn replayed(&self) -> u64 {
        self.copy.session.replayed + self.server.replayed
    }

    /// Messages that either end had already.
    pub(super) const fn duplicates(&self) -> u64 {
        self.copy.session.duplicates_dropped + self.server.duplicates_dropped
    }

    /// Connections that went on with the session of a lost one.
    pub(super) const fn resumptions(&self) -> u64 {
        self.copy.session.resumptions
    }
}

/// Where a demo is drawn.
#[derive(Debug)]
pub(super) struct Screen {
    /// None: nothing is shown (`--json`).
    shown: bool,
    live: bool,
    paint: Paint,
    drawn_lines: usize,
    last_line: Option<Instant>,
    /// Bytes done, and when, over the last moments.
    seen: VecDeque<(Instant, u64)>,
    cuts_seen: u64,
    /// The rate and the cuts of each moment, for the picture.
    trace: Vec<Moment>,
}

#[derive(Debug, Clone, Copy)]
struct Moment {
    bytes: u64,
    cuts: u64,
}

impl Screen {
    pub(super) fn new(shown: bool, live: bool, paint: Paint) -> Self {
        Self {
            shown,
            live,
            paint,
            drawn_lines: 0,
            last_line: None,
            seen: VecDeque::new(),
            cuts_seen: 0,
            trace: Vec::new(),
        }
    }

    pub(super) const fn paint(&self) -> Paint {
        self.paint
    }

    /// Lines that stay.
    pub(super) fn print(&mut self, text: &str) {
        if !self.shown {
            return;
        }
        self.erase();
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// A step that takes a moment, with how far it is where that is known.
    pub(super) fn step(&mut self, what: &str, done: Option<(u64, u64)>) {
        if !self.shown || !self.live {
            return;
        }
        let far = done.map_or_else(String::new, |(done, all)| {
            format!("  {} of {}", units::bytes(done), units::bytes(all))
        });
        self.draw(&[format!("  {what}{}", self.paint.with(Style::Dim, far))]);
    }

    /// Shows where the copy stands.
    pub(super) fn copying(&mut self, now: &Now, started: Instant) {
        let at = Instant::now();
        self.seen.push_back((at, now.copy.bytes_done));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(then, _)| at - *then > RATE_WINDOW) {
            self.seen.pop_front();
        }
        self.trace.push(Moment { bytes: now.copy.bytes_done, cuts: now.relay.cuts });
        if !self.shown {
            return;
        }
        let rate = match self.seen.front() {
            Some((then, bytes)) if at > *then => {
                units::rate(now.copy.bytes_done.saturating_sub(*bytes), at - *then)
            }
            Some(_) | None => "-".to_owned(),
        };
        if self.live {
            let lines = self.lines(now, &rate);
            self.draw(&lines);
        } else if at - self.last_line.unwrap_or(started) >= LINE_INTERVAL {
            self.last_line = Some(at);
            let elapsed = (at - started).as_secs();
            self.print(&format!(
                "  {elapsed:>3} s  {:>8} of {}  {rate:>10}  {} files  cut {}  resumed {}  replayed {}",
                units::bytes(now.copy.bytes_done),
                units::bytes(now.bytes),
                units::count(now.copy.files_done),
                now.relay.cuts,
                now.resumptions(),
                units::count(now.replayed()),
            ));
        }
    }

    fn lines(&mut self, now: &Now, rate: &str) -> Vec<String> {
        let paint = self.paint;
        let fresh_cut = now.relay.cuts > self.cuts_seen;
        self.cuts_seen = now.relay.cuts;
        let wire = if fresh_cut || !now.copy.connected {
            paint.with(Style::Bad, "━━━━━━╸ ╳ ╺━━━━━━")
        } else {
            paint.with(Style::Good, "━━━━━━━━━━━━━━━━━")
        };
        let bold = |text: String| paint.with(Style::Bold, text);
        let dim = |text: &str| paint.with(Style::Dim, text);
        let percent = now.copy.bytes_done.saturating_mul(100) / now.bytes.max(1);
        let pair = |left: &str, value: String, right: &str, other: String| {
            format!(
                "  {} {}   {} {}",
                dim(&format!("{left:<20}")),
                bold(format!("{value:>14}")),
                dim(&format!("{right:<20}")),
                bold(format!("{other:>14}"))
            )
        };
        let files = format!("{} of {}", units::count(now.copy.files_done), units::count(now.files));
        vec![
            format!("  client {wire} relay {} server", paint.with(Style::Good, "━━━━━━━━━━━━━━━━━")),
            String::new(),
            format!("  {}", self.bar(now)),
            format!(
                "  {}",
                bold(format!(
                    "{percent:>3} %   {} of {}",
                    units::bytes(now.copy.bytes_done),
                    units::bytes(now.bytes)
                ))
            ),
            String::new(),
            pair("rate", rate.to_owned(), "connections cut", units::count(now.relay.cuts)),
            pair("files arrived", files, "session resumed", units::count(now.resumptions())),
            pair(
                "messages replayed",
                units::count(now.replayed()),
                "duplicates dropped",
                units::count(now.duplicates()),
            ),
        ]
    }

    /// The copy as a line; each place where the connection was cut is marked in it.
    fn bar(&self, now: &Now) -> String {
        let total = now.bytes.max(1);
        let column = |bytes: u64| {
            usize::try_from(bytes.saturating_mul(BAR_COLUMNS as u64) / total).unwrap_or(BAR_COLUMNS)
        };
        let done = column(now.copy.bytes_done).min(BAR_COLUMNS);
        let mut cut = [false; BAR_COLUMNS];
        for pair in self.trace.windows(2) {
            if pair[1].cuts > pair[0].cuts {
                cut[column(pair[1].bytes).min(BAR_COLUMNS - 1)] = true;
            }
        }
        let part = |index: usize| match (index < done, cut[index]) {
            (_, true) => (Style::Bad, "╳"),
            (true, false) => (Style::Good, "━"),
            (false, false) => (Style::Dim, "─"),
        };
        let mut bar = String::new();
        let mut index = 0;
        while index < BAR_COLUMNS {
            let (style, text) = part(index);
            let run = (index..BAR_COLUMNS).take_while(|&next| part(next) == (style, text)).count();
            bar.push_str(&self.paint.with(style, text.repeat(run)));
            index += run;
        }
        bar
    }

    /// Whoever looks only at the end sees the same picture.
    pub(super) fn last(&mut self, now: &Now) {
        if !self.shown {
            return;
        }
        let bar = self.bar(now);
        self.print(&format!("  {bar}"));
    }

    fn draw(&mut self, lines: &[String]) {
        let mut text = String::new();
        if self.drawn_lines > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn_lines));
        }
        for line in lines {
            text.push_str("\r\x1b[2K");
            text.push_str(line);
            text.push('\n');
        }
        for _ in lines.len()..self.drawn_lines {
            text.push_str("\r\x1b[2K\n");
        }
        if lines.len() < self.drawn_lines {
            text.push_str(&format!("\x1b[{}A", self.drawn_lines - lines.len()));
        }
        self.drawn_lines = lines.len();
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn erase(&mut self) {
        if self.drawn_lines > 0 {
            self.draw(&[]);
        }
    }
}

/// A line of the whole width.
pub(super) fn rule() -> String {
    "─".repeat(COLUMNS)
}
