//! The raw bytes of the handshake, which AUTH_SIGNATURE covers.

use super::error::TranscriptOverflow;

/// The most that is kept of one direction. An ordinary handshake has about 1 KiB; one with several failed methods
/// and large tickets a few times that.
pub const TRANSCRIPT_BYTES_MAX: usize = 64 * 1024;

/// The most that an accepting end keeps of what it hears, from somebody who has proven nothing: a request and the
/// answer to its challenge of the greatest length that [`super::Limits::ACCEPTING`] allows, and room for methods that
/// were tried before. Clients of Ceph 16 to 20 say 150 to 710 bytes, the longer ones with a ticket, which holds their
/// capabilities.
pub const TRANSCRIPT_ACCEPTED_BYTES_MAX: usize = 20 * 1024;

/// What was recorded.
#[derive(Debug)]
pub(super) struct Transcript {
    bytes: Vec<u8>,
    limit: usize,
    overflown: bool,
}

impl Default for Transcript {
    fn default() -> Self {
        Self::new(TRANSCRIPT_BYTES_MAX)
    }
}

impl Transcript {
    /// One that keeps at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, overflown: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let len = self.bytes.len() + bytes.len();
        if self.overflown || len > self.limit {
            // What is kept is useless without the rest.
            self.overflown = true;
            self.bytes = Vec::new();
            return;
        }
        if len > self.bytes.capacity() {
            // Grows as vectors do, but not beyond what it may hold.
            let capacity = len.max(2 * self.bytes.capacity()).min(self.limit);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn check(&self) -> Result<(), TranscriptOverflow> {
        if self.overflown { Err(TranscriptOverflow { limit: self.limit }) } else { Ok(()) }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, TranscriptOverflow> {
        self.check().map(|()| self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_holds_no_more_memory_than_it_may_and_none_once_it_is_useless() {
        let mut transcript = Transcript::new(1000);
        for _ in 0..10 {
            transcript.push(&[1; 100]);
            assert!(transcript.bytes.capacity() <= 1000);
        }
        assert_eq!(transcript.check(), Ok(()));
        transcript.push(&[1]);
        assert_eq!(transcript.bytes.capacity(), 0);
        transcript.push(&[1]);
        assert_eq!(transcript.bytes.capacity(), 0);
        assert_eq!(transcript.finish(), Err(TranscriptOverflow { limit: 1000 }));
    }
}
