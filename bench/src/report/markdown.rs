//! The page: how it was measured, what was to be reached, and the tables.

use super::{
    ANCHOR, Metric, Runs, Spread, client_memory, cpu_per_gigabyte, cpu_per_message, megabytes, p50, p99,
    rate, server_memory,
};
use crate::case::{Case, Rival, Workload, size_name};
use std::fmt::Write;

const STREAM: Workload = Workload::Stream;
const CALL_1: Workload = Workload::Call { at_a_time: 1 };
const CALL_32: Workload = Workload::Call { at_a_time: 32 };

/// Load beyond the two processes that are measured.
const LOAD_QUIET: f64 = 2.5;

const HOW: &str = "\
## How it was measured

- Every run is two processes of one program, a server and a client, over the loopback interface. On **one core** both
  are pinned to the same CPU, on **two cores** each to its own; those on tokio run on a runtime of one thread.
- **stream**: messages one way, as fast as they go. **call**: requests of the given size with replies of 64 bytes,
  one or 32 under way at a time on one connection.
- The sender writes every payload afresh and the receiver reads every byte: the sum of all words travels back, and a
  run in which anything was lost or changed has failed.
- After a warm-up the sender makes a mark, which the receiver answers with its CPU time and what it has counted, and at
  the end another: both ends count the same interval, in which everything sent has arrived.
- CPU time (user and kernel, all threads) and peak memory are what the system says of the two processes.
- The rivals take turns, each round in another order. A ratio is taken within a round; tables show medians over the
  rounds.
";

const ROWS: &str = "\
## What the rows mean

| row | what it is |
| --- | --- |
| raw TCP | a length before each message, blocking sockets, up to 256 KiB in a system call, payloads written in place; no checksum, nothing is kept |
| **anchor crc** | the same loop with the frames and checksums of msgr2.1 in crc mode, and acknowledgements; keeps nothing and survives nothing |
| anchor secure | the same with AES-128-GCM, msgr2.1's secure mode |
| tokio codec | `LengthDelimitedCodec` with buffers of 256 KiB, flushed only when there is no more to write; no checksum |
| tonic stream | one bidirectional gRPC stream, without TLS; enlarged buffers, windows and frames |
| tonic unary | a unary gRPC call for each request |
| quinn | tokio's codec over one bidirectional QUIC stream, payloads from 16 KiB by reference; TLS 1.3 as QUIC has it, datagrams of 6000 bytes |
| zeromq | the crate `zeromq`: PUSH to PULL there, and another pair back; no checksum |
| ceph_perf_msgr | Ceph 18's `ceph_perf_msgr_server` and `_client`, crc mode, with the sleep after each message taken out; three threads each; calls only, of one buffer that is never written and whose checksum Ceph keeps; its latency is a mean |
| outlast crc | streams by `Session::send_many` of 32 KiB at a time, with a receipt for each batch that is seen to end acknowledged; `Session::call` one at a time, a `CallQueue` for 32, replies by `Session::send_many`; lossless sessions without authentication |
| outlast secure | the same with cephx and secure mode |
| outlast as ceph | outlast crc with the work of Ceph's programs: a front of 64 bytes for each request, and as data the same buffer again and again, which nobody writes or reads |
";

/// The whole page.
pub(super) fn page(runs: &Runs, raw: &str) -> String {
    let header = &runs.header;
    let machine = &header.machine;
    let loads = Spread::of(runs.all().map(|run| run.load).collect());
    let (load, load_most) = loads.map_or((0.0, 0.0), |spread| (spread.median, spread.most));
    let mut page = String::from("# Benchmarks\n\n");
    let _ = writeln!(
        page,
        "Measured on {date} by `{command}`: {rounds} rounds, each run {measured} s after {warm_up} s of warm-up. The raw runs are in \
         [`benchmarks/{raw}`](benchmarks/{raw}).\n\n\
         Machine: {processor}, {cores} cores{guest}, {memory} GiB, Linux {kernel}, {compiler}. Its load was {load:.1} at the median \
         and {load_most:.1} at most; the runs themselves make up to 2 of that.{noise} Read the ratios, not the absolute figures.\n\n\
         ![Rates and latencies relative to the anchor](benchmarks.svg)\n",
        date = header.date,
        command = header.command,
        rounds = header.rounds,
        measured = header.measured_s,
        warm_up = header.warm_up_s,
        processor = machine.processor,
        cores = machine.cores,
        guest = if machine.is_virtual { " of a virtual machine" } else { "" },
        memory = machine.memory_gib,
        kernel = machine.kernel,
        compiler = machine.compiler,
        noise = if load > LOAD_QUIET { " **Other work was going on meanwhile.**" } else { "" },
    );
    page += HOW;
    let buffers = match header.socket_buffer_bytes {
        0 => "as Outlast sets its own within one machine (a bounded send buffer, no pacing); tonic's are the system's".to_owned(),
        bytes => format!("bounded to {} KiB, and so are tonic's", bytes / 1024),
    };
    let _ = writeln!(
        page,
        "- The sockets of raw TCP, the anchors and tokio's codec are {buffers}; quinn and zeromq set their own."
    );
    page.push('\n');
    page += ROWS;
    page += "\n## What Outlast is to reach\n\nOn one core: the ratio's median over the rounds, and its range. The ratio of the CPU time of both ends for a message \
         stands beside it: other work on the machine changes it less.\n\n";
    page += &targets(runs);
    for cores in runs.cores() {
        let _ = writeln!(page, "\n## {}", if cores == 1 { "One core" } else { "Two cores" });
        tables(&mut page, runs, cores);
    }
    page
}

fn tables(page: &mut String, runs: &Runs, cores: usize) {
    let stream = runs.cases(cores, STREAM);
    let call_1 = runs.cases(cores, CALL_1);
    let call_32 = runs.cases(cores, CALL_32);
    table(page, runs, &stream, "Stream, MB/s (and as a ratio to the anchor)", |case, rival| {
        with_ratio(runs.metric(case, rival, megabytes)?, runs.ratio(case, rival, ANCHOR, megabytes))
    });
    table(page, runs, &stream, "Stream, CPU seconds of both ends for a GB", |case, rival| {
        Some(short(runs.metric(case, rival, cpu_per_gigabyte)?.median))
    });
    table(
        page,
        runs,
        &call_1,
        "Call, 1 at a time: p50 and p99 in µs (and p50 as a ratio to the anchor)",
        |case, rival| {
            let middle = runs.metric(case, rival, p50)?.median;
            let tail =
                runs.metric(case, rival, p99).map_or_else(|| "-".to_owned(), |tail| short(tail.median));
            let ratio = runs.ratio(case, rival, ANCHOR, p50)?.median;
            Some(format!("{} / {tail} ({ratio:.2})", short(middle)))
        },
    );
    table(
        page,
        runs,
        &call_32,
        "Call, 32 at a time: thousand a second (and as a ratio to the anchor)",
        |case, rival| {
            let mut thousands = runs.metric(case, rival, rate)?;
            thousands.median /= 1e3;
            with_ratio(thousands, runs.ratio(case, rival, ANCHOR, rate))
        },
    );
    table(page, runs, &call_32, "Call, 32 at a time: CPU µs of both ends for a call", |case, rival| {
        Some(short(runs.metric(case, rival, cpu_per_message)?.median))
    });
    table(page, runs, &stream, "Stream, peak memory in MiB, client + server", |case, rival| {
        let client = runs.metric(case, rival, client_memory)?.median;
        let server = runs.metric(case, rival, server_memory)?.median;
        Some(format!("{} + {}", short(client), short(server)))
    });
}

fn table(
    page: &mut String,
    runs: &Runs,
    cases: &[Case],
    title: &str,
    cell: impl Fn(Case, Rival) -> Option<String>,
) {
    if cases.is_empty() {
        return;
    }
    let sizes: Vec<String> = cases.iter().map(|case| size_name(case.size_bytes)).collect();
    let _ =
        writeln!(page, "\n{title}:\n\n| | {} |\n|{}", sizes.join(" | "), " --- |".repeat(cases.len() + 1));
    for rival in runs.rivals(cases) {
        let cells: Vec<String> =
            cases.iter().map(|&case| cell(case, rival).unwrap_or_else(|| "-".to_owned())).collect();
        if cells.iter().all(|cell| cell == "-") {
            continue;
        }
        let name = match rival {
            Rival::AnchorCrc | Rival::OutlastCrc | Rival::OutlastSecure | Rival::OutlastAsCeph => {
                format!("**{}**", rival.name())
            }
            _ => rival.name().to_owned(),
        };
        let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
    }
}

fn with_ratio(value: Spread, ratio: Option<Spread>) -> Option<String> {
    let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({:.2})", ratio.median));
    Some(short(value.median) + &ratio)
}

/// Three digits or so.
fn short(value: f64) -> String {
    match value {
        ..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Which way a ratio should lie.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What was to be reached beside what was.
pub(super) fn targets(runs: &Runs) -> String {
    let mut targets = Targets { runs, lines: String::new() };
    let pairs = [(Rival::OutlastCrc, Rival::AnchorCrc), (Rival::OutlastSecure, Rival::AnchorSecure)];
    for (ours, anchor) in pairs {
        for case in runs.cases(1, STREAM) {
            let limit = if case.size_bytes < 4096 { 0.6 } else { 0.95 };
            targets.line("stream: rate", rate, case, ours, anchor, Bound::AtLeast(limit));
        }
    }
    let ours = Rival::OutlastCrc;
    for case in runs.cases(1, CALL_1) {
        targets.line("call, 1 at a time: p50", p50, case, ours, Rival::TokioCodec, Bound::AtMost(1.15));
    }
    for (ours, anchor) in pairs {
        for case in runs.cases(1, CALL_32) {
            targets.line("call, 32 at a time: rate", rate, case, ours, anchor, Bound::AtLeast(0.8));
        }
    }
    let others = [Rival::TonicStream, Rival::TonicUnary, Rival::Quinn, Rival::ZeroMq];
    for (workload, what) in
        [(STREAM, "stream: rate"), (CALL_1, "call, 1 at a time: rate"), (CALL_32, "call, 32 at a time: rate")]
    {
        for case in runs.cases(1, workload) {
            let best = others
                .into_iter()
                .filter_map(|other| Some((other, runs.ratio(case, ours, other, rate)?.median)))
                .min_by(|(_, one), (_, two)| one.total_cmp(two));
            if let Some((best, _)) = best {
                targets.line(what, rate, case, ours, best, Bound::AtLeast(1.0));
            }
        }
    }
    let as_ceph = Rival::OutlastAsCeph;
    for case in runs.cases(1, CALL_32) {
        let rate_wanted = if case.size_bytes == 4096 { 2.0 } else { 1.0 };
        if case.size_bytes >= 4096 {
            let bound = Bound::AtLeast(rate_wanted);
            targets.line("call, 32 at a time: rate", rate, case, as_ceph, Rival::CephPerf, bound);
        }
        if case.size_bytes > 4096 {
            let bound = Bound::AtMost(0.7);
            targets.line("call, 32 at a time: CPU", cpu_per_message, case, as_ceph, Rival::CephPerf, bound);
        }
    }
    "| what | size | who by whom | to reach | measured | CPU for a message | |\n| --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned()
        + &targets.lines
}

/// The table as it grows.
struct Targets<'a> {
    runs: &'a Runs,
    lines: String,
}

impl Targets<'_> {
    fn line(&mut self, what: &str, metric: Metric, case: Case, ours: Rival, theirs: Rival, bound: Bound) {
        let Some(Spread { median, least, most }) = self.runs.ratio(case, ours, theirs, metric) else {
            return;
        };
        let cpu = self.runs.ratio(case, ours, theirs, cpu_per_message).map_or(f64::NAN, |cpu| cpu.median);
        let (wanted, reached) = match bound {
            Bound::AtLeast(limit) => (format!("at least {limit}"), median >= limit),
            Bound::AtMost(limit) => (format!("at most {limit}"), median <= limit),
        };
        let (size, ours, theirs) = (size_name(case.size_bytes), ours.name(), theirs.name());
        let verdict = if reached { "yes" } else { "**no**" };
        let _ = writeln!(
            self.lines,
            "| {what} | {size} | {ours} by {theirs} | {wanted} | {median:.3} ({least:.2} to {most:.2}) | {cpu:.2} | {verdict} |"
        );
    }
}
