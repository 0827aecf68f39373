//! What waits to be written.

use outlast_session::{Payload, Priority};

use crate::wire::{Body, Command, Frame, Inner, NodeId, OPTS_BYTES, Options, Version};

/// A message that is kept until it is acknowledged: its bytes, without an envelope.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    bytes: Box<[u8]>,
    command: Command,
}

impl Outgoing {
    pub(super) fn new(inner: &Inner, announce: Version, node: NodeId) -> Self {
        let mut bytes = Vec::with_capacity(inner.len());
        inner.encode(announce, node, &mut bytes);
        Self { bytes: bytes.into_boxed_slice(), command: inner.command() }
    }

    pub(super) fn write_bare(&self, out: &mut Vec<u8>) {
        // 3.1 knows no FIN; a session that has said one nevertheless ends by its deadline.
        if self.command != Command::Fin {
            out.extend_from_slice(&self.bytes);
        }
    }

    pub(super) fn write_numbered(
        &self,
        version: Version,
        sender: NodeId,
        number: u32,
        options: &Options,
        out: &mut Vec<u8>,
    ) {
        out.reserve(OPTS_BYTES + self.bytes.len());
        Frame::encode_envelope(version, sender, number, options, self.command, self.bytes.len(), out);
        out.extend_from_slice(&self.bytes);
    }
}

impl Payload for Outgoing {
    fn cost(&self) -> usize {
        OPTS_BYTES + self.bytes.len()
    }

    fn priority(&self) -> Priority {
        Priority(0)
    }
}

/// What goes without a number, before everything else.
#[derive(Debug, Clone)]
pub(super) struct Urgent(Box<[u8]>);

impl Urgent {
    pub(super) fn bare(inner: &Inner, announce: Version, node: NodeId) -> Self {
        let mut bytes = Vec::with_capacity(inner.len());
        inner.encode(announce, node, &mut bytes);
        Self(bytes.into_boxed_slice())
    }

    pub(super) fn ack(expected: u32, announce: Version, node: NodeId) -> Self {
        let mut bytes = Vec::new();
        Frame { version: announce, sender: node, body: Body::Ack { expected } }.encode(&mut bytes);
        Self(bytes.into_boxed_slice())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}
