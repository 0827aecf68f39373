//! The workload itself, the same for all: [`Driver`] says what is sent next, [`Sink`] takes it and says what is
//! answered. Neither knows how the bytes travel.
//!
//! A measurement lies between two marks. A mark is a message that the receiver answers with what it counted, so
//! everything before it has arrived, and both ends count the same interval.

use crate::case::{Task, Workload};
use anyhow::{Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes of every reply.
pub(crate) const REPLY_BYTES: usize = 64;
/// Bytes of a mark.
const MARK_BYTES: usize = 64;
/// While streaming, the clock is read after this many bytes: a look costs as much as half a small message.
const LOOK_BYTES: usize = 64 * 1024;
/// More requests are never under way.
const AT_A_TIME_MAX: usize = 64;
/// From this size on, payloads have buffers of their own, used again and again.
const OWN_BUFFER_BYTES_MIN: usize = 4 * 1024;
/// Smaller payloads are cut from blocks of this size.
const BLOCK_BYTES: usize = 64 * 1024;
/// How much memory the pool of payloads keeps to use again.
const POOL_BYTES_MAX: usize = 64 * 1024 * 1024;

const KIND_SHIFT: u32 = 56;
const KIND_DATA: u64 = 1;
const KIND_CALL: u64 = 2;
const KIND_MARK: u64 = 3;
const KIND_CREDIT: u64 = 4;

/// One message to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// Kind and number.
    head: u64,
    pub(crate) len: usize,
}

impl Item {
    /// Writes the payload: every byte, and different for every message.
    pub(crate) fn fill(self, payload: &mut [u8]) {
        debug_assert_eq!(payload.len(), self.len);
        let (head, body) = payload.split_at_mut(8);
        head.copy_from_slice(&self.head.to_le_bytes());
        for (index, word) in body.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&self.head.wrapping_add(index as u64).to_le_bytes());
        }
    }

    /// What the receiver's sum over all words must be.
    fn sum(self) -> u64 {
        let words = (self.len / 8) as u64;
        let counted = (words - 1) * words.saturating_sub(2) / 2;
        self.head.wrapping_mul(words).wrapping_add(counted)
    }
}

/// Reads every byte.
fn sum(payload: &[u8]) -> u64 {
    payload.chunks_exact(8).map(word).fold(0, u64::wrapping_add)
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(word)
}

/// Payloads as [`Bytes`], in memory that is used again when nobody holds it any more.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    block: BytesMut,
    lent: VecDeque<Bytes>,
    lent_bytes: usize,
}

impl Pool {
    /// The payload of `item`, freshly written.
    pub(crate) fn bytes(&mut self, item: Item) -> Bytes {
        if item.len < OWN_BUFFER_BYTES_MIN {
            if self.block.capacity() < item.len {
                self.block = BytesMut::with_capacity(BLOCK_BYTES);
            }
            self.block.resize(item.len, 0);
            item.fill(&mut self.block);
            return self.block.split().freeze();
        }
        let mut buffer = self.take(item.len).unwrap_or_else(|| BytesMut::zeroed(item.len));
        item.fill(&mut buffer);
        let payload = buffer.freeze();
        if self.lent_bytes < POOL_BYTES_MAX {
            self.lent_bytes += item.len;
            self.lent.push_back(payload.clone());
        }
        payload
    }

    /// The buffer that was lent first, if it has come back.
    fn take(&mut self, len: usize) -> Option<BytesMut> {
        let oldest = self.lent.pop_front()?;
        let oldest_len = oldest.len();
        match oldest.try_into_mut() {
            Ok(buffer) => {
                self.lent_bytes -= oldest_len;
                (oldest_len == len).then_some(buffer)
            }
            Err(held) => {
                self.lent.push_front(held);
                None
            }
        }
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Sink {
    messages: u64,
    sum: u64,
    bytes: u64,
    credit_bytes: Option<u64>,
    credited: u64,
}

impl Sink {
    pub(crate) fn new(task: &Task) -> Self {
        let credit_bytes = task.rival.window_bytes().map(|window| window / 4);
        Self { messages: 0, sum: 0, bytes: 0, credit_bytes, credited: 0 }
    }

    /// A message arrived; perhaps it wants a reply.
    #[inline]
    pub(crate) fn take(&mut self, payload: &[u8]) -> Option<[u8; REPLY_BYTES]> {
        let head = word(payload);
        let sum = sum(payload);
        self.sum = self.sum.wrapping_add(sum);
        self.messages += 1;
        self.bytes += payload.len() as u64;
        match head >> KIND_SHIFT {
            KIND_CALL => Some(reply(head, &[sum])),
            KIND_MARK => {
                self.credited = self.bytes;
                let usage = Usage::now();
                Some(reply(head, &[self.messages, self.sum, usage.cpu_ns, usage.memory_bytes]))
            }
            _ => match self.credit_bytes {
                Some(every) if self.bytes - self.credited >= every => {
                    self.credited = self.bytes;
                    Some(reply(KIND_CREDIT << KIND_SHIFT, &[self.bytes]))
                }
                Some(_) | None => None,
            },
        }
    }
}

fn reply(head: u64, words: &[u64]) -> [u8; REPLY_BYTES] {
    let mut reply = [0; REPLY_BYTES];
    for (to, word) in reply.chunks_exact_mut(8).zip(std::iter::once(&head).chain(words)) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    reply
}

/// What the system says this process has used.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    /// Of all its threads, in user and in kernel mode.
    cpu_ns: u64,
    /// The most memory that was resident at a time.
    memory_bytes: u64,
}

impl Usage {
    fn now() -> Self {
        let cpu_ns = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
            .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory_bytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .map_or(0, |kib| kib * 1024);
        Self { cpu_ns, memory_bytes }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Send this.
    Send(Item),
    /// Let everything out that was to be sent, and wait for a reply.
    Wait,
    /// Finished.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Moving messages; the second time it is measured.
    Moving,
    /// Nothing new; replies are still to come.
    Draining,
    /// The mark is out.
    Marking,
    Done,
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Driver {
    workload: Workload,
    size_bytes: usize,
    at_a_time: u64,
    window_bytes: u64,
    measured: Duration,

    phase: Phase,
    measuring: bool,
    now: Instant,
    phase_end: Instant,
    unlooked_bytes: usize,

    next: u64,
    sum: u64,
    sent_bytes: u64,
    credited_bytes: u64,
    under_way: u64,
    begun: [Instant; AT_A_TIME_MAX],
    latencies_ns: Histogram<u64>,

    /// When the measurement began, and both ends' use and our count of messages there.
    began: Option<(Instant, Usage, u64, u64)>,
    outcome: Option<Outcome>,
}

/// What a measurement gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    /// CPU seconds that the two processes used meanwhile.
    pub(crate) client_cpu_s: f64,
    pub(crate) server_cpu_s: f64,
    /// The most memory each ever had.
    pub(crate) client_memory_bytes: u64,
    pub(crate) server_memory_bytes: u64,
    /// From before a request is written to after its reply is read. Calls only.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
}

impl Driver {
    pub(crate) fn new(task: &Task) -> Result<Self> {
        let at_a_time = match task.workload {
            Workload::Stream => usize::MAX,
            Workload::Call { at_a_time } => {
                ensure!(at_a_time <= AT_A_TIME_MAX, "at most {AT_A_TIME_MAX} at a time");
                at_a_time
            }
        };
        let now = Instant::now();
        Ok(Self {
            workload: task.workload,
            size_bytes: task.rival.touched_bytes(task.size_bytes),
            at_a_time: at_a_time as u64,
            window_bytes: task.rival.window_bytes().unwrap_or(u64::MAX),
            measured: task.measured,
            phase: Phase::Moving,
            measuring: false,
            now,
            phase_end: now + task.warm_up,
            unlooked_bytes: 0,
            next: 0,
            sum: 0,
            sent_bytes: 0,
            credited_bytes: 0,
            under_way: 0,
            begun: [now; AT_A_TIME_MAX],
            // Up to 100 s at three digits.
            latencies_ns: Histogram::new_with_max(100_000_000_000, 3)?,
            began: None,
            outcome: None,
        })
    }

    /// What to do next.
    #[inline]
    pub(crate) fn step(&mut self) -> Step {
        match self.phase {
            Phase::Moving => match self.workload {
                Workload::Stream => self.step_stream(),
                Workload::Call { .. } => {
                    if self.now >= self.phase_end {
                        self.phase = Phase::Draining;
                        self.step()
                    } else if self.under_way < self.at_a_time {
                        self.begun[self.next as usize % AT_A_TIME_MAX] = self.now;
                        self.under_way += 1;
                        Step::Send(self.item(KIND_CALL, self.size_bytes))
                    } else {
                        Step::Wait
                    }
                }
            },
            Phase::Draining if self.under_way > 0 => Step::Wait,
            Phase::Draining => {
                self.phase = Phase::Marking;
                Step::Send(self.item(KIND_MARK, MARK_BYTES))
            }
            Phase::Marking => Step::Wait,
            Phase::Done => Step::Done,
        }
    }

    #[inline]
    fn step_stream(&mut self) -> Step {
        if self.sent_bytes - self.credited_bytes + self.size_bytes as u64 > self.window_bytes {
            return Step::Wait;
        }
        self.unlooked_bytes += self.size_bytes;
        if self.unlooked_bytes >= LOOK_BYTES {
            self.unlooked_bytes = 0;
            self.now = Instant::now();
            if self.now >= self.phase_end {
                self.phase = Phase::Draining;
                return self.step();
            }
        }
        Step::Send(self.item(KIND_DATA, self.size_bytes))
    }

    #[inline]
    fn item(&mut self, kind: u64, len: usize) -> Item {
        let item = Item { head: kind << KIND_SHIFT | self.next, len };
        self.next += 1;
        self.sum = self.sum.wrapping_add(item.sum());
        self.sent_bytes += len as u64;
        item
    }

    /// A reply arrived.
    pub(crate) fn reply(&mut self, reply: &[u8]) -> Result<()> {
        ensure!(reply.len() == REPLY_BYTES, "a reply of {} bytes", reply.len());
        let head = word(reply);
        let first = word(&reply[8..]);
        match head >> KIND_SHIFT {
            KIND_CREDIT => self.credited_bytes = first,
            KIND_CALL => {
                self.now = Instant::now();
                let number = head & !(u64::MAX << KIND_SHIFT);
                ensure!(self.under_way > 0 && number < self.next, "a reply to nothing");
                let expected = Item { head, len: self.size_bytes }.sum();
                ensure!(first == expected, "request {number} arrived changed");
                self.under_way -= 1;
                if self.measuring {
                    let begun = self.begun[number as usize % AT_A_TIME_MAX];
                    self.latencies_ns.saturating_record((self.now - begun).as_nanos() as u64);
                }
            }
            KIND_MARK => self.handle_mark(reply)?,
            kind => bail!("a reply of kind {kind}"),
        }
        Ok(())
    }

    fn handle_mark(&mut self, reply: &[u8]) -> Result<()> {
        ensure!(self.phase == Phase::Marking, "the answer to a mark that was not made");
        let mut words = reply.chunks_exact(8).skip(1).map(word);
        let mut next = || words.next().unwrap_or_default();
        let (messages, sum) = (next(), next());
        let server = Usage { cpu_ns: next(), memory_bytes: next() };
        ensure!(messages == self.next, "{} messages sent, {messages} arrived", self.next);
        ensure!(sum == self.sum, "the messages arrived changed");
        let client = Usage::now();
        self.now = Instant::now();
        self.credited_bytes = self.sent_bytes;
        match self.began {
            None => {
                self.began = Some((self.now, client, server.cpu_ns, self.next));
                self.measuring = true;
                self.phase = Phase::Moving;
                self.phase_end = self.now + self.measured;
            }
            Some((since, client_before, server_before_ns, messages_before)) => {
                let percentile_us =
                    |percent: f64| self.latencies_ns.value_at_percentile(percent) as f64 / 1e3;
                let is_call = !self.latencies_ns.is_empty();
                self.phase = Phase::Done;
                self.outcome = Some(Outcome {
                    seconds: (self.now - since).as_secs_f64(),
                    // The mark is none.
                    messages: self.next - messages_before - 1,
                    client_cpu_s: (client.cpu_ns - client_before.cpu_ns) as f64 / 1e9,
                    server_cpu_s: (server.cpu_ns - server_before_ns) as f64 / 1e9,
                    client_memory_bytes: client.memory_bytes,
                    server_memory_bytes: server.memory_bytes,
                    p50_us: is_call.then(|| percentile_us(50.0)),
                    p99_us: is_call.then(|| percentile_us(99.0)),
                });
            }
        }
        Ok(())
    }

    /// The measurement, once [`Step::Done`] was said.
    pub(crate) fn finish(self) -> Result<Outcome> {
        self.outcome.ok_or_else(|| anyhow::anyhow!("the connection ended too early"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_payload_is_known_without_reading_it() {
        for len in [64, 4096, 65536] {
            let item = Item { head: KIND_CALL << KIND_SHIFT | 77, len };
            let mut payload = vec![0; len];
            item.fill(&mut payload);
            assert_eq!(sum(&payload), item.sum(), "{len} bytes");
        }
    }

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_holds_it() {
        let mut pool = Pool::default();
        let item = |number| Item { head: KIND_DATA << KIND_SHIFT | number, len: 8192 };
        let first = pool.bytes(item(1));
        let place = first.as_ptr();
        let second = pool.bytes(item(2));
        assert_ne!(second.as_ptr(), place);
        assert_eq!(sum(&first), item(1).sum());
        drop(first);
        assert_eq!(pool.bytes(item(3)).as_ptr(), place);
        assert_eq!(sum(&second), item(2).sum());
    }
}
