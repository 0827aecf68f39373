//! The plot, as SVG: bars by size, one panel for each workload and number of cores, all relative to the anchor.

use super::{ANCHOR, Runs, p50, rate};
use crate::case::{Case, Rival, Workload, size_name};
use std::fmt::Write;

const PANEL_WIDTH: f64 = 560.0;
const PANEL_HEIGHT: f64 = 230.0;
const MARGIN: f64 = 44.0;
const TITLE_HEIGHT: f64 = 30.0;
const LEGEND_HEIGHT: f64 = 58.0;
/// Between two sizes, in widths of a bar.
const GAP_BARS: f64 = 1.5;
/// The longest name in the legend takes so much.
const LEGEND_STEP: f64 = 190.0;
const LEGEND_ROWS: usize = 2;

/// What a panel shows.
struct Panel {
    title: String,
    cases: Vec<Case>,
    metric: super::Metric,
    /// Higher bars are cut, and say how high they are.
    most: f64,
}

/// The whole picture.
pub(super) fn picture(runs: &Runs) -> String {
    let mut panels = Vec::new();
    for workload in Workload::ALL {
        for cores in runs.cores() {
            let place = if cores == 1 { "one core" } else { "two cores" };
            let cases = runs.cases(cores, workload);
            if cases.is_empty() {
                continue;
            }
            panels.push(match workload {
                Workload::Stream => {
                    Panel { title: format!("Stream, {place}: rate"), cases, metric: rate, most: 1.6 }
                }
                Workload::Call { at_a_time: 1 } => Panel {
                    title: format!("Call, 1 at a time, {place}: median latency (lower is better)"),
                    cases,
                    metric: p50,
                    most: 4.0,
                },
                Workload::Call { at_a_time } => Panel {
                    title: format!("Call, {at_a_time} at a time, {place}: rate"),
                    cases,
                    metric: rate,
                    most: 1.6,
                },
            });
        }
    }
    let columns = runs.cores().len().max(1);
    let rows = panels.len().div_ceil(columns);
    let width = columns as f64 * (PANEL_WIDTH + MARGIN) + MARGIN;
    let height = TITLE_HEIGHT + LEGEND_HEIGHT + rows as f64 * (PANEL_HEIGHT + 2.0 * MARGIN);
    let mut svg = Svg::new(width, height);
    svg.text(
        MARGIN,
        22.0,
        "start",
        15,
        "Relative to the same frames and checksums on blocking TCP (the line at 1)",
    );
    let all: Vec<Case> = panels.iter().flat_map(|panel| panel.cases.iter().copied()).collect();
    for (index, rival) in runs.rivals(&all).into_iter().filter(|rival| *rival != ANCHOR).enumerate() {
        let (column, row) = (index / LEGEND_ROWS, index % LEGEND_ROWS);
        let (x, y) = (MARGIN + column as f64 * LEGEND_STEP, TITLE_HEIGHT + 10.0 + row as f64 * 20.0);
        svg.rect(x, y, 12.0, 12.0, color(rival));
        svg.text(x + 18.0, y + 11.0, "start", 12, rival.name());
    }
    for (index, panel) in panels.iter().enumerate() {
        let x = MARGIN + (index % columns) as f64 * (PANEL_WIDTH + MARGIN);
        let y =
            TITLE_HEIGHT + LEGEND_HEIGHT + MARGIN + (index / columns) as f64 * (PANEL_HEIGHT + 2.0 * MARGIN);
        draw(&mut svg, runs, panel, x, y);
    }
    svg.finish()
}

fn draw(svg: &mut Svg, runs: &Runs, panel: &Panel, left: f64, top: f64) {
    let bottom = top + PANEL_HEIGHT;
    let height_of = |value: f64| value.min(panel.most) / panel.most * PANEL_HEIGHT;
    svg.text(left, top - 14.0, "start", 13, &panel.title);
    let step = if panel.most > 2.0 { 1.0 } else { 0.2 };
    let mut value: f64 = 0.0;
    while value <= panel.most + 1e-9 {
        let y = bottom - height_of(value);
        svg.line(left, y, left + PANEL_WIDTH, y, "#dddddd");
        svg.text(left - 6.0, y + 4.0, "end", 11, &format!("{value:.1}"));
        value += step;
    }
    let rivals: Vec<Rival> = runs.rivals(&panel.cases).into_iter().filter(|rival| *rival != ANCHOR).collect();
    let bar = PANEL_WIDTH / (panel.cases.len() as f64 * (rivals.len() as f64 + GAP_BARS));
    for (group, &case) in panel.cases.iter().enumerate() {
        let start = left + group as f64 * bar * (rivals.len() as f64 + GAP_BARS) + bar * GAP_BARS / 2.0;
        for (index, &rival) in rivals.iter().enumerate() {
            let Some(ratio) = runs.ratio(case, rival, ANCHOR, panel.metric) else { continue };
            let (x, height) = (start + index as f64 * bar, height_of(ratio.median));
            svg.rect(x, bottom - height, bar * 0.88, height, color(rival));
            if ratio.median > panel.most {
                svg.text(x + bar / 2.0, top - 2.0, "middle", 9, &format!("{:.1}", ratio.median));
            }
        }
        let middle = start + bar * rivals.len() as f64 / 2.0;
        svg.text(middle, bottom + 16.0, "middle", 12, &size_name(case.size_bytes));
    }
    let one = bottom - height_of(1.0);
    svg.line(left, one, left + PANEL_WIDTH, one, "#222222");
}

/// Ours strong, the others muted.
fn color(rival: Rival) -> &'static str {
    match rival {
        Rival::Raw => "#c9c9c9",
        Rival::AnchorCrc => "#222222",
        Rival::AnchorSecure => "#8a8a8a",
        Rival::TokioCodec => "#8fb8de",
        Rival::TonicStream => "#b7a6d6",
        Rival::TonicUnary => "#d9c7ea",
        Rival::Quinn => "#a8d5a2",
        Rival::ZeroMq => "#e3c48f",
        Rival::CephPerf => "#e8a5a5",
        Rival::OutlastCrc => "#d9480f",
        Rival::OutlastSecure => "#7f2704",
        Rival::OutlastAsCeph => "#f3a683",
    }
}

/// A picture as it grows.
struct Svg {
    body: String,
}

impl Svg {
    fn new(width: f64, height: f64) -> Self {
        let mut body = String::new();
        let _ = writeln!(
            body,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" font-family="sans-serif" fill="{INK}">"#
        );
        let mut svg = Self { body };
        svg.rect(0.0, 0.0, width, height, "#ffffff");
        svg
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/>"#
        );
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, stroke: &str) {
        let _ = writeln!(
            self.body,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{stroke}"/>"#
        );
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}">{text}</text>"#
        );
    }

    fn finish(mut self) -> String {
        self.body += "</svg>\n";
        self.body
    }
}

const INK: &str = "#222222";
