//! The raw bytes of the handshake, which AUTH_SIGNATURE covers.

use super::error::TranscriptOverflow;

/// The most that is kept of one direction. An ordinary handshake has about 1 KiB; one with several failed methods
/// and large tickets a few times that.
pub const TRANSCRIPT_BYTES_MAX: usize = 64 * 1024;

/// What was recorded.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    bytes: Vec<u8>,
    overflown: bool,
}

impl Transcript {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.overflown || self.bytes.len() + bytes.len() > TRANSCRIPT_BYTES_MAX {
            // What is kept is useless without the rest.
            self.overflown = true;
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, TranscriptOverflow> {
        if self.overflown { Err(TranscriptOverflow { limit: TRANSCRIPT_BYTES_MAX }) } else { Ok(self.bytes) }
    }
}
