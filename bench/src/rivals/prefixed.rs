//! Messages with their length in front, for the rivals that move nothing but bytes.

use super::BATCH_BYTES;
use crate::work::Item;

/// The length, little endian.
pub(super) const PREFIX_BYTES: usize = 4;

/// Of messages from this size on, only what is missing is read, so that nothing has to be moved inside the buffer.
const LARGE_BYTES_MIN: usize = 64 * 1024;

/// Messages to be written.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    bytes: Vec<u8>,
}

impl Outbound {
    /// Writes the payload where it is written from: no copy.
    #[inline]
    pub(super) fn push(&mut self, item: Item) {
        let start = self.bytes.len();
        self.bytes.resize(start + PREFIX_BYTES + item.len, 0);
        let (prefix, payload) = self.bytes[start..].split_at_mut(PREFIX_BYTES);
        prefix.copy_from_slice(&(item.len as u32).to_le_bytes());
        item.fill(payload);
    }

    pub(super) fn push_bytes(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(payload);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    /// What waits; call [`Outbound::clear`] when it is written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// Messages that are read.
#[derive(Debug)]
pub(super) struct Inbound {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BATCH_BYTES], start: 0, end: 0 }
    }

    /// Where the next bytes go. All whole messages must have been taken.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        let Some(len) = self.next_len() else {
            self.move_down();
            return &mut self.buffer[self.end..];
        };
        let whole = PREFIX_BYTES + len;
        if self.start + whole > self.buffer.len() {
            self.move_down();
        }
        if self.buffer.len() < whole {
            self.buffer.resize(whole, 0);
        }
        let until = if len < LARGE_BYTES_MIN { self.buffer.len() } else { self.start + whole };
        &mut self.buffer[self.end..until]
    }

    /// `len` bytes were read into the space.
    pub(super) fn filled(&mut self, len: usize) {
        self.end += len;
    }

    /// The next whole message.
    #[inline]
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let payload = self.start + PREFIX_BYTES;
        let end = payload + self.next_len()?;
        if end > self.end {
            return None;
        }
        self.start = end;
        Some(&self.buffer[payload..end])
    }

    #[inline]
    fn next_len(&self) -> Option<usize> {
        let prefix = self.buffer[self.start..self.end].first_chunk::<PREFIX_BYTES>()?;
        Some(u32::from_le_bytes(*prefix) as usize)
    }

    fn move_down(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cut_anywhere_arrive_whole() {
        let sent: Vec<Vec<u8>> =
            [64, 300_000, 0, 64, 70_000, 4096].into_iter().map(|len| vec![len as u8; len]).collect();
        let mut outbound = Outbound::default();
        sent.iter().for_each(|message| outbound.push_bytes(message));
        for piece in [1000, 1001, 65_536] {
            let mut inbound = Inbound::new();
            let mut received = Vec::new();
            let mut left = outbound.bytes();
            while !left.is_empty() {
                let space = inbound.space();
                let len = space.len().min(piece).min(left.len());
                assert_ne!(len, 0);
                space[..len].copy_from_slice(&left[..len]);
                inbound.filled(len);
                left = &left[len..];
                while let Some(message) = inbound.next() {
                    received.push(message.to_vec());
                }
            }
            assert_eq!(received, sent);
        }
    }
}
