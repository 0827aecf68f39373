//! One connection: frames out of bytes, and back.

use std::io::IoSlice;

use outlast_session::{Instant, StreamChannel};

use crate::error::ConnectionError;
use crate::session::{ChannelId, Session};
use crate::wire::{FRAME_BYTES_MAX, Frame, Header, NodeId};

/// Room for what is read at a time: 16 of the largest frames, or hundreds of usual ones.
const READ_BYTES: usize = 16 * FRAME_BYTES_MAX;
/// What is taken from the session at a time. The rest waits there, where it has no number yet.
const WRITE_BYTES: usize = 16 * FRAME_BYTES_MAX;

/// What dies with a connection: half-read frames, and what is not written yet.
#[derive(Debug)]
pub struct Connection {
    channel: ChannelId,
    peer: NodeId,
    input: Box<[u8]>,
    /// Bytes in `input`.
    filled: usize,
    /// Decoded, each with its length.
    arrived: Vec<(Frame, usize)>,
    output: Vec<u8>,
    /// Bytes of `output` that are written.
    written: usize,
    deadline: Option<Instant>,
    /// The session meets the connection only in `sync`.
    timed_out: Option<Instant>,
}

impl Connection {
    /// A connection to or from the address of `peer`.
    pub fn new(channel: ChannelId, peer: NodeId) -> Self {
        Self {
            channel,
            peer,
            input: vec![0; READ_BYTES].into_boxed_slice(),
            filled: 0,
            arrived: Vec::new(),
            output: Vec::with_capacity(WRITE_BYTES + FRAME_BYTES_MAX),
            written: 0,
            deadline: None,
            timed_out: None,
        }
    }

    /// Its name towards the session.
    pub const fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The node at the other end, by its address.
    pub const fn peer(&self) -> NodeId {
        self.peer
    }

    /// Whether everything that was pulled is written.
    pub const fn is_flushed(&self) -> bool {
        self.written == self.output.len()
    }

    fn decode(&mut self) -> Result<(), ConnectionError> {
        let wrong = |error| ConnectionError::Decode { peer: self.peer, error };
        let mut start = 0;
        while let Some(rest) = self.input.get(start..self.filled) {
            let Some(length) = Header::frame_length(rest).map_err(wrong)? else { break };
            let Some(bytes) = rest.get(..length) else { break };
            self.arrived.push((Frame::decode(bytes).map_err(wrong)?, length));
            start += length;
        }
        self.input.copy_within(start..self.filled, 0);
        self.filled -= start;
        Ok(())
    }
}

impl StreamChannel for Connection {
    type Session = Session;
    type Error = ConnectionError;

    fn poll_read(&mut self) -> &mut [u8] {
        // A whole frame fits behind what is left of one, so there is always room.
        self.input.get_mut(self.filled..).unwrap_or_default()
    }

    fn handle_read(&mut self, len: usize, _now: Instant) -> Result<(), ConnectionError> {
        self.filled = self.input.len().min(self.filled + len);
        self.decode()
    }

    fn handle_eof(&mut self, _now: Instant) -> ConnectionError {
        ConnectionError::Lost { peer: self.peer }
    }

    fn sync(&mut self, session: &mut Session, now: Instant) -> Result<(), ConnectionError> {
        session.carries(self.channel)?;
        let mut result = Ok(());
        for (frame, len) in self.arrived.drain(..) {
            result = session.handle_frame(self.channel, frame, len, now);
            if result.is_err() {
                break;
            }
        }
        result?;
        if self.timed_out.take().is_some() {
            session.handle_timeout(now)?;
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        session.pull(self.channel, &mut self.output, WRITE_BYTES, now);
        // What is due cannot be pulled before there is room for it.
        let is_full = self.output.len() >= WRITE_BYTES;
        self.deadline = if is_full { session.poll_deadline() } else { session.poll_timeout() };
        Ok(())
    }

    fn poll_write<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        match (self.output.get(self.written..), slices.first_mut()) {
            (Some(rest), Some(slice)) if !rest.is_empty() => {
                *slice = IoSlice::new(rest);
                1
            }
            _ => 0,
        }
    }

    fn handle_written(&mut self, len: usize, _now: Instant) {
        self.written = self.output.len().min(self.written + len);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.timed_out = Some(now);
        }
        Ok(())
    }
}
