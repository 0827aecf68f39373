//! The dialling end of a benchmark: makes the load and measures.

use super::protocol::{KIND_CALL, KIND_STREAM, KIND_TALLY, Tally, cpu_time};
use crate::exit::{Context as _, Failure, Outcome};
use bytes::Bytes;
use clap::ValueEnum;
use hdrhistogram::Histogram;
use outlast::{CallError, Message, Receipt, Session};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The longest latency that is told apart, in nanoseconds.
const LATENCY_NANOS_MAX: u64 = 60_000_000_000;
/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;
/// One message of a stream in so many is timed until its acknowledgement.
const SAMPLE_ONE_IN: u64 = 64;
/// What runs before the measurement, as a part of it: caches and windows are then as they stay.
const WARM_UP_ONE_IN: u32 = 10;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Test {
    /// One-way: messages as fast as they go, each acknowledged
    Stream,
    /// Request and reply of 64 bytes
    Call,
}

/// One measurement to be.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) test: Test,
    pub(super) size: u64,
    /// Calls under way at a time, or tasks that send.
    pub(super) concurrency: u32,
    pub(super) time: Duration,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) test: Test,
    pub(super) mode: String,
    pub(super) size: u64,
    pub(super) concurrency: u32,
    pub(super) seconds: f64,
    pub(super) messages: u64,
    pub(super) messages_per_second: f64,
    pub(super) megabytes_per_second: f64,
    /// Of a call until its reply; of a stream's message until its acknowledgement.
    pub(super) p50_microseconds: f64,
    pub(super) p99_microseconds: f64,
    /// Processor seconds of both processes for 10^9 bytes of payload.
    pub(super) cpu_seconds_per_gigabyte: f64,
}

type Latencies = Histogram<u64>;

fn latencies() -> Outcome<Latencies> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, LATENCY_DIGITS).context("no histogram")
}

fn lost(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("the session was lost in the middle of a measurement: {error}"))
}

async fn tally(session: &Session) -> Outcome<Tally> {
    let reply = session.call(Message::new(KIND_TALLY)).await.map_err(lost)?;
    serde_json::from_slice(&reply.front).context("the other end is no benchmark of this version")
}

/// Runs one load.
pub(super) async fn measure(session: &Session, load: Load) -> Outcome<Measured> {
    let payload = Bytes::from(vec![0xa5; usize::try_from(load.size).context("the size")?]);
    run(session, Load { time: load.time / WARM_UP_ONE_IN, ..load }, &payload).await?;

    let (before, cpu_before) = (tally(session).await?, cpu_time());
    let started = Instant::now();
    let (messages, latencies) = run(session, load, &payload).await?;
    let elapsed = started.elapsed();
    let (cpu, after) = (cpu_time(), tally(session).await?);

    // The tally itself is a message, and the first of the two was counted before it was asked.
    let arrived = after.messages - before.messages - 1;
    if arrived != messages {
        return Err(Failure::failed(format!("{messages} messages were sent and {arrived} arrived")));
    }
    let cpu = (cpu - cpu_before) + (after.cpu - before.cpu);
    let seconds = elapsed.as_secs_f64();
    let count = messages as f64;
    let bytes = count * load.size as f64;
    let micros = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    let mode = session.stats().agreed.map_or_else(|| "unknown".to_owned(), |agreed| agreed.mode.to_string());
    Ok(Measured {
        test: load.test,
        mode,
        size: load.size,
        concurrency: load.concurrency,
        seconds,
        messages,
        messages_per_second: count / seconds,
        megabytes_per_second: bytes / seconds / 1e6,
        p50_microseconds: micros(0.5),
        p99_microseconds: micros(0.99),
        cpu_seconds_per_gigabyte: if bytes > 0.0 { cpu.as_secs_f64() / (bytes / 1e9) } else { 0.0 },
    })
}

async fn run(session: &Session, load: Load, payload: &Bytes) -> Outcome<(u64, Latencies)> {
    let until = Instant::now() + load.time;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 1..load.concurrency {
        let (session, payload) = (session.clone(), payload.clone());
        tasks.spawn(async move { one(&session, load.test, &payload, until).await });
    }
    let (mut messages, mut all) = one(session, load.test, payload, until).await?;
    while let Some(done) = tasks.join_next().await {
        let (more, theirs) = done.context("a task died")??;
        messages += more;
        all.add(theirs).context("the histogram")?;
    }
    Ok((messages, all))
}

async fn one(session: &Session, test: Test, payload: &Bytes, until: Instant) -> Outcome<(u64, Latencies)> {
    match test {
        Test::Stream => stream(session, payload, until).await,
        Test::Call => call(session, payload, until).await,
    }
}

fn record(latencies: &mut Latencies, since: Instant) {
    let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(LATENCY_NANOS_MAX);
    latencies.saturating_record(nanos.clamp(1, LATENCY_NANOS_MAX));
}

async fn stream(session: &Session, payload: &Bytes, until: Instant) -> Outcome<(u64, Latencies)> {
    let mut latencies = latencies()?;
    let mut sampled: VecDeque<(Instant, Receipt)> = VecDeque::new();
    let mut last = None;
    let mut sent = 0;
    while Instant::now() < until {
        let started = Instant::now();
        let receipt = session.send(Message::new(KIND_STREAM).data(payload.clone())).await.map_err(lost)?;
        if sent % SAMPLE_ONE_IN == 0 {
            sampled.push_back((started, receipt));
        } else {
            last = Some(receipt);
        }
        while let Some((since, _)) = sampled.front().filter(|(_, receipt)| receipt.outcome().is_some()) {
            record(&mut latencies, *since);
            sampled.pop_front();
        }
        sent += 1;
    }
    for (since, receipt) in sampled {
        receipt.await.map_err(lost)?;
        record(&mut latencies, since);
    }
    // The last one acknowledged, all are.
    if let Some(receipt) = last {
        receipt.await.map_err(lost)?;
    }
    Ok((sent, latencies))
}

async fn call(session: &Session, payload: &Bytes, until: Instant) -> Outcome<(u64, Latencies)> {
    let mut latencies = latencies()?;
    let mut calls = 0;
    loop {
        let started = Instant::now();
        if started >= until {
            return Ok((calls, latencies));
        }
        let request = Message::new(KIND_CALL).data(payload.clone());
        session.call(request).await.map_err(|e: CallError| lost(e))?;
        record(&mut latencies, started);
        calls += 1;
    }
}
