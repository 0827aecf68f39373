//! How targets read what the fuzzer made: a plain format, so that seeds can be written by hand and a changed byte
//! stays a small change. There is always a next byte; at the end they are zero.

/// Reads an input from front to back.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    left: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of it.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// Nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let taken = self.take(N);
        out[..taken.len()].copy_from_slice(taken);
        out
    }

    /// Up to `len` bytes, as many as there are.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, left) = self.left.split_at(len.min(self.left.len()));
        self.left = left;
        taken
    }

    /// A length of one byte, and up to that many bytes.
    pub fn short(&mut self) -> &'a [u8] {
        let len = usize::from(self.u8());
        self.take(len)
    }

    /// A length of two bytes, and up to that many bytes.
    pub fn long(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16());
        self.take(len)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }
}

/// Cuts a stream into pieces, as a transport does: the lengths follow from one byte.
#[derive(Debug, Clone)]
pub struct Pieces {
    state: u64,
    max: u64,
}

impl Pieces {
    /// 0: everything at once; 1: byte by byte; others: up to a length that grows with the upper bits.
    #[must_use]
    pub fn new(choice: u8) -> Self {
        let max = match choice {
            0 => u64::MAX,
            1 => 1,
            _ => 2 << (choice >> 4),
        };
        Self { state: u64::from(choice), max }
    }

    /// The length of the next piece: at least 1.
    pub fn next_len(&mut self) -> usize {
        if self.max == u64::MAX {
            return usize::MAX;
        }
        // Knuth's MMIX generator: good enough to vary lengths.
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(1 + (self.state >> 33) % self.max).unwrap_or(1)
    }
}
