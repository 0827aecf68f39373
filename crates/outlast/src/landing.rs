//! Buffers that callers gave for the data of the replies they wait for.

use bytes::BytesMut;
use outlast_msgr2::Buffers;
use outlast_msgr2::wire::MessageHeader;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One session's buffers by transaction id. Apart from the session's lock, because the connection asks while it
/// decodes; most sessions have none, and then it costs a look at a counter.
#[derive(Debug, Default)]
pub(crate) struct Landing {
    count: AtomicUsize,
    buffers: Mutex<BTreeMap<u64, BytesMut>>,
}

impl Landing {
    pub(crate) fn put(&self, tid: u64, buffer: BytesMut) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.insert(tid, buffer);
        self.count.store(buffers.len(), Ordering::Release);
    }

    pub(crate) fn take(&self, tid: u64) -> Option<BytesMut> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = buffers.remove(&tid);
        self.count.store(buffers.len(), Ordering::Release);
        buffer
    }
}

/// The connection's view of [`Landing`].
#[derive(Debug)]
pub(crate) struct Runway(pub(crate) Arc<Landing>);

impl Buffers for Runway {
    fn buffer(&mut self, header: &MessageHeader, len: usize) -> Option<BytesMut> {
        // One that is too short is dropped: the reply is longer than its caller thought, and comes all the same.
        self.0.take(header.tid).filter(|buffer| buffer.len() >= len)
    }
}
