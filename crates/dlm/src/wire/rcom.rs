//! Recovery messages (`struct dlm_rcom`): nodes find out what changed, and put the locks right.

use super::error::DecodeError;
use super::flags::{CallbackFlags, DistributedFlags, LockFlags, RecoveryStatus};
use super::header::{HEADER_BYTES, INNER_BYTES_MAX};
use super::ids::{LockId, LockspaceId, NodeId};
use super::mode::{Mode, Queue};
use super::name::{NAME_BYTES_MAX, Name};
use super::reader::Reader;

/// The size of a recovery message without its body, header included, in bytes.
pub const RCOM_BYTES: usize = HEADER_BYTES + 32;
/// The size of a lock in a recovery message, without its value block, in bytes.
pub const RCOM_LOCK_BYTES: usize = 108;
/// Bytes of a list of names. Linux sends so many whatever it has to say, and we do.
pub const NAMES_BYTES_MAX: usize = INNER_BYTES_MAX - RCOM_BYTES;
/// Slots in one answer.
pub const SLOTS_MAX: usize = (INNER_BYTES_MAX - RCOM_BYTES - CONFIG_BYTES) / SLOT_BYTES;

const STATUS_BYTES: usize = 16;
const CONFIG_BYTES: usize = 32;
const SLOT_BYTES: usize = 16;
const NEED_SLOTS: u32 = 1;
/// Ends a list of names that goes on in the next answer.
const NAMES_GO_ON: u16 = 0;
/// Ends the last list of names.
const NAMES_END: u16 = 0xffff;

/// The kinds of recovery messages.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u32)]
pub enum RcomKind {
    /// How far are you?
    Status = 1,
    /// Which resources are you the master of, that my part of the directory lists?
    Names = 2,
    /// Who is the master of this one now?
    Lookup = 3,
    /// A lock of mine on a resource whose master you are now.
    Lock = 4,
    /// Answer.
    StatusReply = 5,
    /// Answer.
    NamesReply = 6,
    /// Answer.
    LookupReply = 7,
    /// Answer.
    LockReply = 8,
}

impl RcomKind {
    const fn from_wire(raw: u32) -> Result<Self, DecodeError> {
        Ok(match raw {
            1 => Self::Status,
            2 => Self::Names,
            3 => Self::Lookup,
            4 => Self::Lock,
            5 => Self::StatusReply,
            6 => Self::NamesReply,
            7 => Self::LookupReply,
            8 => Self::LockReply,
            _ => return Err(DecodeError::RcomKind(raw)),
        })
    }
}

/// A recovery message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rcom {
    /// Where.
    pub lockspace: LockspaceId,
    /// In a [`RcomKind::StatusReply`] a [`RecoveryStatus`] or a negative error number, in a
    /// [`RcomKind::LookupReply`] the master or a negative error number; else 0.
    pub result: i32,
    /// Made up by who asks and repeated in the answer.
    pub id: u64,
    /// Which recovery the sender is at.
    pub sequence: u64,
    /// In an answer: [`Rcom::sequence`] of the question.
    pub sequence_reply: u64,
    /// The rest.
    pub body: RcomBody,
}

/// What a recovery message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RcomBody {
    /// How far are you?
    Status {
        /// And which slots are given?
        need_slots: bool,
        /// Which life of the sender this is, a random number; 0: not told. Linux writes 0 there and does not look: it relies
        /// on the membership having told that a node died before it comes back. Sessions of ours fill it in, and see by it
        /// that the peer began anew.
        incarnation: u64,
    },
    /// How far the sender is, and how its lockspace is made.
    StatusReply(StatusReply),
    /// Go on with the names after this one.
    Names {
        /// `None`: begin.
        after: Option<Name>,
    },
    /// Resources that the sender is the master of.
    NamesReply {
        /// At most [`NAMES_BYTES_MAX`] bytes with two for the length of each and two at the end.
        names: Vec<Name>,
        /// There are no more.
        complete: bool,
    },
    /// Who is the master now?
    Lookup {
        /// Of this resource.
        name: Name,
    },
    /// It is [`Rcom::result`].
    LookupReply,
    /// A lock.
    Lock(RcomLock),
    /// What became of it, in [`RcomLock::remote_lock`] and [`RcomLock::result`]. No value block.
    LockReply(RcomLock),
}

impl RcomBody {
    /// Which kind this is.
    pub const fn kind(&self) -> RcomKind {
        match self {
            Self::Status { .. } => RcomKind::Status,
            Self::StatusReply(_) => RcomKind::StatusReply,
            Self::Names { .. } => RcomKind::Names,
            Self::NamesReply { .. } => RcomKind::NamesReply,
            Self::Lookup { .. } => RcomKind::Lookup,
            Self::LookupReply => RcomKind::LookupReply,
            Self::Lock(_) => RcomKind::Lock,
            Self::LockReply(_) => RcomKind::LockReply,
        }
    }
}

/// The answer to [`RcomBody::Status`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusReply {
    /// The size of value blocks, in bytes; all nodes must agree. All bits set: the lockspace is not there.
    pub value_block_bytes: u32,
    /// How the lockspace was made (`DLM_LSFL_*`); all nodes must agree.
    pub lockspace_flags: u32,
    /// The slot of the sender, from 1; 0: none yet.
    pub our_slot: u16,
    /// Counts the changes of membership that this lockspace went through.
    pub generation: u32,
    /// Which membership the sender is at, as its owner numbers them; 0: not told. Linux writes 0 there and does not look:
    /// it has all nodes stopped before any is started. Ours use it to see that another has not stopped yet.
    pub epoch: u64,
    /// All slots, if they were asked for. At most [`SLOTS_MAX`].
    pub slots: Vec<Slot>,
}

/// A small number that a node keeps as long as it is a member (GFS2's journals go by it).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Whose.
    pub node: NodeId,
    /// From 1.
    pub slot: u16,
}

/// A lock, as its owner tells it to a new master.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RcomLock {
    /// The process that owns the lock, on its node.
    pub process: u32,
    /// The lock's number at its owner.
    pub lock: LockId,
    /// The lock's number at the master; in an answer.
    pub remote_lock: LockId,
    /// Of old. Sent as 0.
    pub parent_lock: LockId,
    /// Of old. Sent as 0.
    pub parent_remote_lock: LockId,
    /// What the user asked for.
    pub flags: LockFlags,
    /// Of the lock.
    pub distributed_flags: DistributedFlags,
    /// Counts the writes of the value block.
    pub value_sequence: u32,
    /// 0, or a negative error number; in an answer.
    pub result: i32,
    /// The mode that was asked for.
    pub requested: Option<Mode>,
    /// The mode it is held in.
    pub granted: Option<Mode>,
    /// The queue that it is in.
    pub queue: Option<Queue>,
    /// What the owner wants to be told: the low eight bits.
    pub callbacks: CallbackFlags,
    /// The [`super::MessageKind`] whose answer the owner waits for, or 0.
    pub wait_kind: u16,
    /// The resource.
    pub name: Name,
    /// The owner's copy of the value block, perhaps none.
    pub value_block: Vec<u8>,
}

impl Rcom {
    /// The frame's length, in bytes.
    pub fn len(&self) -> usize {
        RCOM_BYTES
            + match &self.body {
                RcomBody::Status { .. } => STATUS_BYTES,
                RcomBody::StatusReply(reply) => CONFIG_BYTES + reply.slots.len() * SLOT_BYTES,
                RcomBody::Names { after } => after.map_or(0, |name| name.as_bytes().len()),
                RcomBody::NamesReply { .. } => NAMES_BYTES_MAX,
                RcomBody::Lookup { name } => name.as_bytes().len(),
                RcomBody::LookupReply => 0,
                RcomBody::Lock(lock) => RCOM_LOCK_BYTES + lock.value_block.len(),
                RcomBody::LockReply(_) => RCOM_LOCK_BYTES,
            }
    }

    /// Never: a recovery message has a header.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Decodes what follows the header.
    pub(super) fn decode(lockspace: LockspaceId, mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "a recovery message";
        const WHAT_STATUS: &str = "a status request";
        let kind = RcomKind::from_wire(reader.u32(WHAT)?)?;
        Ok(Self {
            lockspace,
            result: reader.i32(WHAT)?,
            id: reader.u64(WHAT)?,
            sequence: reader.u64(WHAT)?,
            sequence_reply: reader.u64(WHAT)?,
            body: match kind {
                RcomKind::Status => {
                    let need_slots = reader.u32(WHAT_STATUS)? & NEED_SLOTS != 0;
                    reader.u32(WHAT_STATUS)?;
                    RcomBody::Status { need_slots, incarnation: reader.u64(WHAT_STATUS)? }
                }
                RcomKind::StatusReply => RcomBody::StatusReply(StatusReply::decode(reader)?),
                RcomKind::Names => {
                    let rest = reader.rest();
                    RcomBody::Names {
                        after: if rest.is_empty() { None } else { Some(Name::from_wire(rest)?) },
                    }
                }
                RcomKind::NamesReply => decode_names(reader)?,
                RcomKind::Lookup => RcomBody::Lookup { name: Name::from_wire(reader.rest())? },
                RcomKind::LookupReply => RcomBody::LookupReply,
                RcomKind::Lock => RcomBody::Lock(RcomLock::decode(reader)?),
                // What follows it is nobody's, and is not kept.
                RcomKind::LockReply => {
                    RcomBody::LockReply(RcomLock { value_block: Vec::new(), ..RcomLock::decode(reader)? })
                }
            },
        })
    }

    /// Appends what follows the header.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.body.kind() as u32).to_le_bytes());
        out.extend_from_slice(&self.result.to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.sequence_reply.to_le_bytes());
        match &self.body {
            RcomBody::Status { need_slots, incarnation } => {
                let flags = if *need_slots { NEED_SLOTS } else { 0 };
                out.extend_from_slice(&flags.to_le_bytes());
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&incarnation.to_le_bytes());
            }
            RcomBody::StatusReply(reply) => reply.encode(out),
            RcomBody::Names { after } => {
                out.extend_from_slice(after.as_ref().map_or(&[], Name::as_bytes));
            }
            RcomBody::NamesReply { names, complete } => encode_names(names, *complete, out),
            RcomBody::Lookup { name } => out.extend_from_slice(name.as_bytes()),
            RcomBody::LookupReply => {}
            RcomBody::Lock(lock) => {
                lock.encode(out);
                out.extend_from_slice(&lock.value_block);
            }
            RcomBody::LockReply(lock) => lock.encode(out),
        }
    }
}

impl StatusReply {
    fn decode(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "a lockspace's configuration";
        let value_block_bytes = reader.u32(WHAT)?;
        let lockspace_flags = reader.u32(WHAT)?;
        reader.u32(WHAT)?;
        let our_slot = reader.u16(WHAT)?;
        let slot_count = usize::from(reader.u16(WHAT)?);
        let generation = reader.u32(WHAT)?;
        reader.u32(WHAT)?;
        let epoch = reader.u64(WHAT)?;
        let bytes = reader.bytes("slots", slot_count * SLOT_BYTES)?;
        let mut slots = Vec::with_capacity(slot_count);
        for slot in bytes.chunks_exact(SLOT_BYTES) {
            let mut reader = Reader::new(slot);
            slots.push(Slot { node: NodeId(reader.u32("a slot")?), slot: reader.u16("a slot")? });
        }
        Ok(Self { value_block_bytes, lockspace_flags, our_slot, generation, epoch, slots })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.value_block_bytes.to_le_bytes());
        out.extend_from_slice(&self.lockspace_flags.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.our_slot.to_le_bytes());
        // Bounded by `SLOTS_MAX`.
        out.extend_from_slice(&(self.slots.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        for slot in &self.slots {
            out.extend_from_slice(&slot.node.0.to_le_bytes());
            out.extend_from_slice(&slot.slot.to_le_bytes());
            out.extend_from_slice(&[0; 10]);
        }
    }
}

fn decode_names(mut reader: Reader<'_>) -> Result<RcomBody, DecodeError> {
    let mut names = Vec::new();
    let complete = loop {
        match reader.u16_be("a name's length").map_err(|_| DecodeError::NamesUnterminated)? {
            NAMES_GO_ON => break false,
            NAMES_END => break true,
            len => names.push(Name::from_wire(reader.bytes("a name", usize::from(len))?)?),
        }
    };
    Ok(RcomBody::NamesReply { names, complete })
}

fn encode_names(names: &[Name], complete: bool, out: &mut Vec<u8>) {
    let end = out.len() + NAMES_BYTES_MAX;
    for name in names {
        let name = name.as_bytes();
        out.extend_from_slice(&(name.len() as u16).to_be_bytes());
        out.extend_from_slice(name);
    }
    out.extend_from_slice(&if complete { NAMES_END } else { NAMES_GO_ON }.to_be_bytes());
    out.resize(end, 0);
}

impl RcomLock {
    fn decode(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "a lock";
        let process = reader.u32(WHAT)?;
        let lock = LockId(reader.u32(WHAT)?);
        let remote_lock = LockId(reader.u32(WHAT)?);
        let parent_lock = LockId(reader.u32(WHAT)?);
        let parent_remote_lock = LockId(reader.u32(WHAT)?);
        let flags = LockFlags(reader.u32(WHAT)?);
        let distributed_flags = DistributedFlags(reader.u32(WHAT)?);
        let value_sequence = reader.u32(WHAT)?;
        let result = reader.i32(WHAT)?;
        let requested = Mode::from_wire(i32::from(reader.u8(WHAT)?.cast_signed()))?;
        let granted = Mode::from_wire(i32::from(reader.u8(WHAT)?.cast_signed()))?;
        let queue = Queue::from_wire(u32::from(reader.u8(WHAT)?))?;
        let callbacks = CallbackFlags(u32::from(reader.u8(WHAT)?));
        let wait_kind = reader.u16(WHAT)?;
        let name_len = usize::from(reader.u16(WHAT)?);
        let padded = reader.bytes(WHAT, NAME_BYTES_MAX)?;
        let name = padded.get(..name_len).ok_or(DecodeError::NameLength(name_len))?;
        Ok(Self {
            process,
            lock,
            remote_lock,
            parent_lock,
            parent_remote_lock,
            flags,
            distributed_flags,
            value_sequence,
            result,
            requested,
            granted,
            queue,
            callbacks,
            wait_kind,
            name: Name::from_wire(name)?,
            value_block: reader.rest().to_vec(),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let words = [
            self.process,
            self.lock.0,
            self.remote_lock.0,
            self.parent_lock.0,
            self.parent_remote_lock.0,
            self.flags.0,
            self.distributed_flags.0,
            self.value_sequence,
            self.result.cast_unsigned(),
        ];
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
        // Modes, queues and callbacks fit into a byte.
        out.extend_from_slice(&[
            Mode::to_wire(self.requested) as u8,
            Mode::to_wire(self.granted) as u8,
            Queue::to_wire(self.queue),
            self.callbacks.0 as u8,
        ]);
        out.extend_from_slice(&self.wait_kind.to_le_bytes());
        let name = self.name.as_bytes();
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name);
        out.resize(out.len() + NAME_BYTES_MAX - name.len(), 0);
    }
}

impl RecoveryStatus {
    /// As [`Rcom::result`] carries it.
    pub const fn to_result(self) -> i32 {
        self.0.cast_signed()
    }
}
