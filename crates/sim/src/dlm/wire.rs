//! A man in the middle of every connection: plants bugs of sessions, and lets nodes repeat as Linux does.

use super::bugs::{Bug, Planted};
use crate::link::Direction;
use crate::situations::Situations;
use outlast_dlm::wire::{Body, Frame, Header};
use std::collections::{BTreeMap, BTreeSet};

/// One direction of a connection.
#[derive(Debug, Default)]
struct Wire {
    half: Vec<u8>,
    /// Messages with a number went over it.
    begun: bool,
}

/// What is known of two nodes, in one direction, over all connections.
#[derive(Debug, Default)]
struct Pair {
    /// The next number of a new message.
    next: u32,
    /// How far numbers were moved.
    shift: u32,
}

#[derive(Debug)]
pub(crate) struct Wires {
    repeats_late: bool,
    wires: BTreeMap<(u64, Direction), Wire>,
    pairs: BTreeMap<(usize, usize), Pair>,
    /// Pairs that had a connection.
    connected: BTreeSet<(usize, usize)>,
}

/// Messages that go before what is repeated.
const BEFORE_REPEATED_MAX: usize = 3;

impl Wires {
    pub(crate) const fn new(repeats_late: bool) -> Self {
        Self { repeats_late, wires: BTreeMap::new(), pairs: BTreeMap::new(), connected: BTreeSet::new() }
    }

    pub(crate) fn forget(&mut self, link: u64) {
        self.wires.remove(&(link, Direction::Forth));
        self.wires.remove(&(link, Direction::Back));
    }

    /// What becomes of bytes that are written.
    pub(crate) fn tap(
        &mut self,
        planted: &mut Planted,
        met: &mut Situations,
        link: u64,
        ends: (usize, usize),
        direction: Direction,
        bytes: &[u8],
    ) -> Vec<u8> {
        let on_the_wire =
            matches!(planted.bug, Some(Bug::AckOffByOne | Bug::LostReplay | Bug::ReplayRenumbered));
        if !on_the_wire && !self.repeats_late {
            return bytes.to_vec();
        }
        let wire = self.wires.entry((link, direction)).or_default();
        wire.half.extend_from_slice(bytes);
        let mut frames = Vec::new();
        let mut start = 0;
        while let Ok(Some(len)) = Header::frame_length(&wire.half[start..]) {
            let Some(frame) = wire.half.get(start..start + len) else { break };
            frames.push(Frame::decode(frame).expect("a frame of ours"));
            start += len;
        }
        wire.half.drain(..start);
        let mut out = Vec::new();
        for frame in self.changed(planted.bug, met, link, ends, direction, frames) {
            frame.encode(&mut out);
        }
        out
    }

    fn changed(
        &mut self,
        bug: Option<Bug>,
        met: &mut Situations,
        link: u64,
        ends: (usize, usize),
        direction: Direction,
        mut frames: Vec<Frame>,
    ) -> Vec<Frame> {
        let shift_back = self.pairs.get(&(ends.1, ends.0)).map_or(0, |pair| pair.shift);
        let again = self.connected.contains(&ends);
        let pair = self.pairs.entry(ends).or_default();
        let wire = self.wires.entry((link, direction)).or_default();
        let fresh = !wire.begun;
        let mut keep = Vec::new();
        for mut frame in frames.drain(..) {
            match &mut frame.body {
                Body::Ack { expected } => match bug {
                    Some(Bug::AckOffByOne) if *expected > 0 => *expected += 1,
                    Some(Bug::ReplayRenumbered) => *expected = expected.wrapping_sub(shift_back),
                    Some(_) | None => {}
                },
                Body::Numbered { number, .. } => {
                    let repeated = number.wrapping_add(pair.shift).wrapping_sub(pair.next).cast_signed() < 0;
                    if bug == Some(Bug::ReplayRenumbered) {
                        if repeated && !wire.begun {
                            pair.shift = pair.next.wrapping_sub(*number);
                        }
                        *number = number.wrapping_add(pair.shift);
                    } else if bug == Some(Bug::LostReplay) && repeated {
                        continue;
                    }
                    wire.begun = true;
                    if number.wrapping_sub(pair.next).cast_signed() >= 0 {
                        pair.next = number.wrapping_add(1);
                    }
                }
                Body::Bare(_) => {}
            }
            keep.push(frame);
        }
        if wire.begun {
            self.connected.insert(ends);
        }
        if self.repeats_late && fresh && again {
            return repeat_late(keep, met);
        }
        keep
    }
}

/// Some of what comes later comes first, and then once more in its place.
fn repeat_late(frames: Vec<Frame>, met: &mut Situations) -> Vec<Frame> {
    let numbered = |frame: &&Frame| matches!(frame.body, Body::Numbered { .. });
    let mut out: Vec<Frame> =
        frames.iter().filter(numbered).skip(1).take(BEFORE_REPEATED_MAX).cloned().collect();
    if !out.is_empty() {
        met.meet("repeated behind what was waiting");
    }
    out.extend(frames);
    out
}
