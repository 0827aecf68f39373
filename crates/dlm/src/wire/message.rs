//! Messages about locks (`struct dlm_message`).

use super::error::DecodeError;
use super::flags::{CallbackFlags, DistributedFlags, LockFlags, StatusFlags};
use super::header::HEADER_BYTES;
use super::ids::{LockId, LockspaceId, NodeId};
use super::mode::{Mode, Queue};
use super::name::Name;
use super::reader::Reader;

/// The size of a message without its name or value block, header included, in bytes.
pub const MESSAGE_BYTES: usize = HEADER_BYTES + 18 * 4;

/// What a message is about. L holds or wants the lock, M is the master of the resource, D has its place in the directory.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u32)]
pub enum MessageKind {
    /// L to M: a new lock.
    Request = 1,
    /// L to M: another mode.
    Convert = 2,
    /// L to M: give it up.
    Unlock = 3,
    /// L to M: take a request or conversion back.
    Cancel = 4,
    /// M to L.
    RequestReply = 5,
    /// M to L.
    ConvertReply = 6,
    /// M to L.
    UnlockReply = 7,
    /// M to L.
    CancelReply = 8,
    /// M to L: what waited is granted.
    Grant = 9,
    /// M to L: the lock blocks another.
    Blocking = 10,
    /// L to D: who is the master?
    Lookup = 11,
    /// M to D: nobody is any more.
    Remove = 12,
    /// D to L.
    LookupReply = 13,
    /// To all: a process is gone, with its locks.
    Purge = 14,
}

impl MessageKind {
    const fn from_wire(raw: u32) -> Result<Self, DecodeError> {
        Ok(match raw {
            1 => Self::Request,
            2 => Self::Convert,
            3 => Self::Unlock,
            4 => Self::Cancel,
            5 => Self::RequestReply,
            6 => Self::ConvertReply,
            7 => Self::UnlockReply,
            8 => Self::CancelReply,
            9 => Self::Grant,
            10 => Self::Blocking,
            11 => Self::Lookup,
            12 => Self::Remove,
            13 => Self::LookupReply,
            14 => Self::Purge,
            _ => return Err(DecodeError::MessageKind(raw)),
        })
    }

    /// Whether what follows the words is the name of a resource; else it is a value block, or nothing.
    pub const fn has_name(self) -> bool {
        match self {
            Self::Request | Self::Lookup | Self::Remove => true,
            Self::Convert
            | Self::Unlock
            | Self::Cancel
            | Self::RequestReply
            | Self::ConvertReply
            | Self::UnlockReply
            | Self::CancelReply
            | Self::Grant
            | Self::Blocking
            | Self::LookupReply
            | Self::Purge => false,
        }
    }
}

/// A message about a lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Where.
    pub lockspace: LockspaceId,
    /// What about.
    pub kind: MessageKind,
    /// As the sender knows it: the other node of the lock, in a [`MessageKind::LookupReply`] the master, in a
    /// [`MessageKind::Purge`] the node of the process.
    pub node: i32,
    /// The process that owns the lock, on its node.
    pub process: u32,
    /// The lock's number at the sender.
    pub lock: LockId,
    /// The lock's number at the receiver.
    pub remote_lock: LockId,
    /// Of old: locks had parents. Sent as 0.
    pub parent_lock: LockId,
    /// Of old: locks had parents. Sent as 0.
    pub parent_remote_lock: LockId,
    /// What the user asked for.
    pub flags: LockFlags,
    /// For the user's status block.
    pub status_flags: StatusFlags,
    /// Of the lock.
    pub distributed_flags: DistributedFlags,
    /// Counts the writes of the value block.
    pub value_sequence: u32,
    /// The hash of the resource's name, which says where its place in the directory is.
    pub hash: u32,
    /// The queue that the lock is in, at the sender.
    pub queue: Option<Queue>,
    /// The mode it is held in, at the sender.
    pub granted: Option<Mode>,
    /// The mode that was asked for.
    pub requested: Option<Mode>,
    /// In a [`MessageKind::Blocking`]: the mode that is blocked. Else null.
    pub blocked: Option<Mode>,
    /// What the owner wants to be told.
    pub callbacks: CallbackFlags,
    /// 0, or a negative error number of Linux on x86.
    pub result: i32,
    /// A name ([`MessageKind::has_name`]) or a value block, perhaps none. At most
    /// [`super::INNER_BYTES_MAX`] - [`MESSAGE_BYTES`] bytes.
    pub extra: Vec<u8>,
}

impl Message {
    /// A message in which everything is 0 or none.
    pub const fn new(lockspace: LockspaceId, kind: MessageKind) -> Self {
        Self {
            lockspace,
            kind,
            node: 0,
            process: 0,
            lock: LockId::NONE,
            remote_lock: LockId::NONE,
            parent_lock: LockId::NONE,
            parent_remote_lock: LockId::NONE,
            flags: LockFlags::NONE,
            status_flags: StatusFlags::NONE,
            distributed_flags: DistributedFlags::NONE,
            value_sequence: 0,
            hash: 0,
            queue: None,
            granted: Some(Mode::Null),
            requested: Some(Mode::Null),
            blocked: Some(Mode::Null),
            callbacks: CallbackFlags::NONE,
            result: 0,
            extra: Vec::new(),
        }
    }

    /// [`Message::node`] as the id of a node; the field is signed because an error may stand there.
    pub fn node_id(&self) -> Option<NodeId> {
        u32::try_from(self.node).ok().filter(|node| *node != 0).map(NodeId)
    }

    /// The name of the resource, in a message that has one.
    ///
    /// # Errors
    /// [`DecodeError::NameLength`]. Cannot fail for what was decoded.
    pub fn name(&self) -> Result<Name, DecodeError> {
        Name::from_wire(if self.kind.has_name() { &self.extra } else { &[] })
    }

    /// The frame's length, in bytes.
    pub const fn len(&self) -> usize {
        MESSAGE_BYTES + self.extra.len()
    }

    /// Never: a message has a header.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Decodes what follows the header.
    pub(super) fn decode(lockspace: LockspaceId, mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "a message";
        let kind = MessageKind::from_wire(reader.u32(WHAT)?)?;
        let message = Self {
            lockspace,
            kind,
            node: reader.i32(WHAT)?,
            process: reader.u32(WHAT)?,
            lock: LockId(reader.u32(WHAT)?),
            remote_lock: LockId(reader.u32(WHAT)?),
            parent_lock: LockId(reader.u32(WHAT)?),
            parent_remote_lock: LockId(reader.u32(WHAT)?),
            flags: LockFlags(reader.u32(WHAT)?),
            status_flags: StatusFlags(reader.u32(WHAT)?),
            distributed_flags: DistributedFlags(reader.u32(WHAT)?),
            value_sequence: reader.u32(WHAT)?,
            hash: reader.u32(WHAT)?,
            queue: Queue::from_wire(reader.u32(WHAT)?)?,
            granted: Mode::from_wire(reader.i32(WHAT)?)?,
            requested: Mode::from_wire(reader.i32(WHAT)?)?,
            blocked: Mode::from_wire(reader.i32(WHAT)?)?,
            callbacks: CallbackFlags(reader.u32(WHAT)?),
            result: reader.i32(WHAT)?,
            extra: reader.rest().to_vec(),
        };
        if kind.has_name() {
            message.name()?;
        }
        Ok(message)
    }

    /// Appends what follows the header.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let words = [
            self.kind as u32,
            self.node.cast_unsigned(),
            self.process,
            self.lock.0,
            self.remote_lock.0,
            self.parent_lock.0,
            self.parent_remote_lock.0,
            self.flags.0,
            self.status_flags.0,
            self.distributed_flags.0,
            self.value_sequence,
            self.hash,
            u32::from(Queue::to_wire(self.queue)),
            Mode::to_wire(self.granted).cast_unsigned(),
            Mode::to_wire(self.requested).cast_unsigned(),
            Mode::to_wire(self.blocked).cast_unsigned(),
            self.callbacks.0,
            self.result.cast_unsigned(),
        ];
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.extra);
    }
}
