//! A link: two directions of bytes between two connections, and what can go wrong with them.

use crate::world::ProcessId;
use outlast_msgr2::ChannelId;
use outlast_session::Instant;
use std::collections::VecDeque;

/// A link of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// One direction of a link, or the end that writes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the end that opened it.
    Forth,
    /// To the end that opened it.
    Back,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Forth => Self::Back,
            Self::Back => Self::Forth,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Forth => 0,
            Self::Back => 1,
        }
    }
}

#[derive(Debug, Default)]
struct Pipe {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    in_flight: usize,
    /// The writer is gone, or the link is cut: the reader learns at this time, after what was under way.
    end: Option<Instant>,
    /// The reader has learnt it, or is gone itself.
    deaf: bool,
    /// Bytes that still pass before the link breaks.
    cut_after: Option<u64>,
    /// Nothing arrives, and nobody learns of it: half of a half-open connection.
    silent: bool,
    /// The reader does not read for now.
    paused: bool,
    passed: u64,
    /// Everything ever written, for tests that look for frames; None: nobody looks.
    tape: Option<Vec<u8>>,
    /// Nothing arrives beyond this many bytes, until let go.
    hold_at: Option<u64>,
}

impl Pipe {
    fn is_held(&self) -> bool {
        self.hold_at.is_some_and(|at| self.passed >= at)
    }
}

/// What arrives next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Bytes(Vec<u8>),
    /// These, and then the link breaks.
    LastBytes(Vec<u8>),
    End,
}

/// A link. An end is whatever names one in its world.
#[derive(Debug)]
pub struct Link<End = (ProcessId, ChannelId)> {
    opener: End,
    acceptor: End,
    pipes: [Pipe; 2],
}

impl<End: Copy> Link<End> {
    pub(crate) fn new(opener: End, acceptor: End) -> Self {
        Self { opener, acceptor, pipes: [Pipe::default(), Pipe::default()] }
    }

    /// Who reads in this direction.
    #[must_use]
    pub const fn receiver(&self, direction: Direction) -> End {
        match direction {
            Direction::Forth => self.acceptor,
            Direction::Back => self.opener,
        }
    }

    /// Who writes in this direction.
    #[must_use]
    pub const fn sender(&self, direction: Direction) -> End {
        self.receiver(direction.reverse())
    }

    /// Bytes that have arrived in this direction.
    #[must_use]
    pub const fn passed(&self, direction: Direction) -> u64 {
        self.pipes[direction.index()].passed
    }

    /// The link breaks when this many more bytes have arrived in this direction.
    pub fn cut_after(&mut self, direction: Direction, bytes: u64) {
        self.pipes[direction.index()].cut_after = Some(bytes);
    }

    /// From now on nothing arrives in this direction, and nobody is told.
    pub fn silence(&mut self, direction: Direction) {
        self.pipes[direction.index()].silent = true;
    }

    pub(crate) fn in_flight(&self, direction: Direction) -> usize {
        self.pipes[direction.index()].in_flight
    }

    pub(crate) fn put(&mut self, direction: Direction, bytes: Vec<u8>, at: Instant) {
        let pipe = &mut self.pipes[direction.index()];
        if pipe.end.is_some() || pipe.deaf {
            return;
        }
        if let Some(tape) = &mut pipe.tape {
            tape.extend_from_slice(&bytes);
        }
        pipe.in_flight += bytes.len();
        // A stream does not overtake itself.
        let at = pipe.pieces.back().map_or(at, |(last, _)| at.max(*last));
        pipe.pieces.push_back((at, bytes));
    }

    /// The reader took only a part: the rest waits until it reads again.
    pub(crate) fn put_back(&mut self, direction: Direction, bytes: Vec<u8>, at: Instant) {
        let pipe = &mut self.pipes[direction.index()];
        pipe.in_flight += bytes.len();
        pipe.passed -= bytes.len() as u64;
        pipe.pieces.push_front((at, bytes));
        pipe.paused = true;
    }

    pub(crate) fn is_paused(&self, direction: Direction) -> bool {
        self.pipes[direction.index()].paused
    }

    pub(crate) fn resume(&mut self, direction: Direction) {
        self.pipes[direction.index()].paused = false;
    }

    /// The next arrival, if nothing holds it up.
    #[must_use]
    pub fn next_event(&self) -> Option<(Instant, Direction)> {
        [Direction::Forth, Direction::Back]
            .into_iter()
            .filter_map(|direction| {
                let pipe = &self.pipes[direction.index()];
                if pipe.deaf || pipe.silent || pipe.paused || pipe.is_held() {
                    return None;
                }
                pipe.pieces.front().map(|(at, _)| *at).or(pipe.end).map(|at| (at, direction))
            })
            .min()
    }

    pub(crate) fn take(&mut self, direction: Direction) -> Option<Arrival> {
        let pipe = &mut self.pipes[direction.index()];
        let Some((at, mut bytes)) = pipe.pieces.pop_front() else {
            pipe.end?;
            pipe.deaf = true;
            return Some(Arrival::End);
        };
        let free = pipe.hold_at.map_or(u64::MAX, |hold| hold.saturating_sub(pipe.passed));
        if (bytes.len() as u64) > free {
            // The conversion cannot fail: `free` is below a length.
            let held = bytes.split_off(usize::try_from(free).unwrap_or(bytes.len()));
            pipe.pieces.push_front((at, held));
        }
        pipe.in_flight -= bytes.len();
        let breaks = pipe.cut_after.is_some_and(|left| left <= bytes.len() as u64);
        if let Some(left) = &mut pipe.cut_after {
            if breaks {
                // Truncation cannot fail: the cut lies within the piece.
                bytes.truncate(usize::try_from(*left).unwrap_or(bytes.len()));
            } else {
                *left -= bytes.len() as u64;
            }
        }
        pipe.passed += bytes.len() as u64;
        Some(if breaks { Arrival::LastBytes(bytes) } else { Arrival::Bytes(bytes) })
    }

    /// Both directions break: what is under way is lost, both ends learn of it at `at`.
    pub(crate) fn cut(&mut self, at: Instant) {
        for pipe in &mut self.pipes {
            pipe.pieces.clear();
            pipe.in_flight = 0;
            pipe.paused = false;
            pipe.end = Some(pipe.end.map_or(at, |end| end.min(at)));
        }
    }

    /// The end that writes in this direction closes: the other learns of it behind what is under way, and what was
    /// under way to this end is lost.
    pub(crate) fn close(&mut self, direction: Direction, at: Instant) {
        let out = &mut self.pipes[direction.index()];
        let at = out.pieces.back().map_or(at, |(last, _)| at.max(*last));
        out.end = Some(out.end.unwrap_or(at));
        let back = &mut self.pipes[direction.reverse().index()];
        back.pieces.clear();
        back.in_flight = 0;
        back.deaf = true;
    }

    /// Nobody is left to hear anything of it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.pipes.iter().all(|pipe| pipe.deaf)
    }

    // ------------------------------------------------------------------ break-points of tests

    /// Keeps everything that is written from now on, for [`Link::written`].
    pub fn tap(&mut self) {
        for pipe in &mut self.pipes {
            pipe.tape.get_or_insert_default();
        }
    }

    /// Everything written in this direction since [`Link::tap`], arrived or not.
    #[must_use]
    pub fn written(&self, direction: Direction) -> &[u8] {
        self.pipes[direction.index()].tape.as_deref().unwrap_or_default()
    }

    /// Lets only the first `at` bytes of this direction arrive, counted from its beginning; what follows waits, and so
    /// does the news of the end. None lets go.
    pub fn hold_at(&mut self, direction: Direction, at: Option<u64>) {
        self.pipes[direction.index()].hold_at = at;
    }

    /// The reader of this direction learns at `at` that the link is gone; what it wrote before still arrives.
    pub fn sever(&mut self, direction: Direction, at: Instant) {
        let pipe = &mut self.pipes[direction.index()];
        pipe.pieces.clear();
        pipe.in_flight = 0;
        pipe.paused = false;
        pipe.end = Some(at);
    }
}
