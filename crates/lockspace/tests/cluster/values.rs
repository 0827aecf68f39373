//! What may stand in a value block: what was written last, or is being written.

use outlast_dlm::wire::Mode;

/// The writes of one resource's value block, in the order in which they began. Who may write is alone, so they do not
/// overlap; but one may be lost with its writer.
pub(crate) struct Value {
    writes: Vec<Write>,
    /// The last one that its writer was told of.
    settled: usize,
    /// The last one that the master has confirmed.
    confirmed: usize,
    uncertain: Vec<u64>,
    /// The block may be as if nobody had written it: all locks were gone for a moment, or the master died while nobody
    /// held a lock that had it.
    may_be_lost: bool,
}

struct Write {
    value: u64,
    node: u32,
}

/// The value that a user puts into a block, and finds in it.
pub(crate) fn to_block(value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(4)
}

pub(crate) fn from_block(block: &[u8]) -> u64 {
    assert_eq!(block.len(), 32);
    let value = u64::from_le_bytes(block[..8].try_into().unwrap());
    assert_eq!(block, to_block(value), "a block of parts that do not belong together");
    value
}

/// Whether a value block is written when a lock goes from one mode to another.
pub(crate) fn is_write(from: Mode, to: Mode) -> bool {
    from >= Mode::ProtectedWrite && to <= from
}

impl Value {
    pub(crate) fn new() -> Self {
        Self {
            writes: vec![Write { value: 0, node: 0 }],
            settled: 0,
            confirmed: 0,
            uncertain: Vec::new(),
            may_be_lost: true,
        }
    }

    /// From here on writes may be seen by an operation that begins now.
    pub(crate) fn now(&self) -> usize {
        self.settled
    }

    /// A lock is given up while its request or conversion is under way: nobody knows whether and when it writes.
    pub(crate) fn may_be_written(&mut self, value: u64) {
        self.uncertain.push(value);
    }

    /// A write begins, of one who holds the lock for it.
    pub(crate) fn begin(&mut self, node: u32, value: u64) -> usize {
        self.may_be_lost = false;
        self.writes.push(Write { value, node });
        self.writes.len() - 1
    }

    /// Its writer was told that it is done; the master may not know it yet.
    pub(crate) fn settle(&mut self, write: usize, confirmed: bool) {
        self.settled = self.settled.max(write);
        if confirmed {
            self.confirmed = self.confirmed.max(write);
        }
    }

    pub(crate) fn may_be_lost(&mut self) {
        self.may_be_lost = true;
    }

    /// A node died, perhaps with what it wrote and nobody has seen.
    pub(crate) fn died(&mut self, node: u32) {
        self.may_be_lost = true;
        if self.writes[self.settled].node == node {
            self.settled = self.confirmed;
        }
    }

    /// Whether an operation that began at `from` may read this; `own` is what its block held before.
    pub(crate) fn may_be_read(&self, from: usize, value: u64, own: u64) -> bool {
        self.writes[from.min(self.settled)..].iter().any(|write| write.value == value)
            || self.uncertain.contains(&value)
            || self.may_be_lost && (value == 0 || value == own)
    }
}
