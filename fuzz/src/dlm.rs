//! Nodes of a lock manager's cluster that say anything: to the decoder, to a session, to a machine.

mod machine;
mod session;

pub use machine::dlm_machine;
pub use session::dlm_session;

use crate::input::Input;
use outlast_dlm::wire::{
    Body, CallbackFlags, DistributedFlags, Frame, Header, Inner, LockFlags, LockId, LockspaceId, Message,
    MessageKind, Mode, Name, Options, Queue, Rcom, RcomBody, RcomLock, Slot, StatusFlags, StatusReply,
};

/// A frame, if it is one, written and read again; and what says all that it holds is written as it was read.
pub fn dlm_frame(data: &[u8]) {
    if let Ok(Some(length)) = Header::frame_length(data) {
        assert!((16..=4096).contains(&length), "a frame of {length} bytes");
    }
    let Ok(frame) = Frame::decode(data) else { return };
    let mut again = Vec::new();
    frame.encode(&mut again);
    assert_eq!(Frame::decode(&again).as_ref(), Ok(&frame), "decoded again");
    let inner = match &frame.body {
        Body::Bare(inner) | Body::Numbered { inner, .. } => inner,
        Body::Ack { .. } => {
            // What follows the header is nobody's.
            assert_eq!(without_pads(&frame, &data[..16])[..12], again[..12], "encoded again");
            return;
        }
    };
    // The others have unused words, or come shorter than they are written.
    let one_form = match inner {
        Inner::Message(_) => true,
        Inner::Rcom(rcom) => match rcom.body {
            RcomBody::Lookup { .. } | RcomBody::Names { .. } => true,
            RcomBody::Status { .. }
            | RcomBody::StatusReply(_)
            | RcomBody::NamesReply { .. }
            | RcomBody::LookupReply
            | RcomBody::Lock(_)
            | RcomBody::LockReply(_) => false,
        },
        Inner::Fin => false,
    };
    if one_form {
        assert_eq!(without_pads(&frame, data), again, "encoded again");
    }
}

/// The same with 0 where nobody looks.
fn without_pads(frame: &Frame, data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let mut pads = vec![15..16];
    match &frame.body {
        Body::Numbered { options, .. } => {
            let inner = 24 + options.as_bytes().len();
            pads.extend([17..18, 20..24, inner + 15..inner + 16]);
        }
        Body::Bare(_) | Body::Ack { .. } => {}
    }
    for pad in pads {
        data[pad].fill(0);
    }
    if let Body::Numbered { options, .. } = &frame.body {
        // The version of the frame inside is that of the envelope, whatever it says.
        let inner = 24 + options.as_bytes().len();
        data.copy_within(0..4, inner);
    }
    data
}

// ---------------------------------------------------------------------- whatever is well-formed

fn some_mode(input: &mut Input<'_>) -> Option<Mode> {
    Mode::ALL.get(usize::from(input.u8() % 7)).copied()
}

fn some_queue(input: &mut Input<'_>) -> Option<Queue> {
    [None, Some(Queue::Waiting), Some(Queue::Granted), Some(Queue::Converting)][usize::from(input.u8() & 3)]
}

fn some_name(input: &mut Input<'_>) -> Name {
    Name::new(&[b'a' + input.u8() % 4]).expect("a short name")
}

fn some_flags(input: &mut Input<'_>) -> LockFlags {
    // Mostly one or none of those that are known.
    match input.u8() {
        bit @ 0..=18 => LockFlags(1 << bit),
        19..=60 => LockFlags(u32::from(input.u16()) << 3),
        61..=80 => LockFlags(input.u32()),
        _ => LockFlags::NONE,
    }
}

const KINDS: [MessageKind; 14] = [
    MessageKind::Request,
    MessageKind::Convert,
    MessageKind::Unlock,
    MessageKind::Cancel,
    MessageKind::RequestReply,
    MessageKind::ConvertReply,
    MessageKind::UnlockReply,
    MessageKind::CancelReply,
    MessageKind::Grant,
    MessageKind::Blocking,
    MessageKind::Lookup,
    MessageKind::Remove,
    MessageKind::LookupReply,
    MessageKind::Purge,
];

/// What answers say.
const RESULTS: [i32; 12] = [0, -11, -53, -15, -22, -35, -115, -16, -0x1_0001, -0x1_0002, 1, -2];

/// What a peer can know of what it talks about.
trait Known {
    fn lock(&self, input: &mut Input<'_>) -> LockId {
        LockId(input.u32())
    }
    fn number(&self, input: &mut Input<'_>) -> u64 {
        input.u64()
    }
    fn hash(&self, _name: &Name, input: &mut Input<'_>) -> u32 {
        input.u32()
    }
}

/// A peer that knows nothing.
struct Nothing;

impl Known for Nothing {}

fn some_message(space: LockspaceId, known: &impl Known, input: &mut Input<'_>) -> Message {
    let kind = KINDS[usize::from(input.u8()) % KINDS.len()];
    let mut message = Message::new(space, kind);
    let name = some_name(input);
    message.node = i32::from(input.u8().cast_signed());
    message.process = u32::from(input.u8());
    message.lock = known.lock(input);
    message.remote_lock = known.lock(input);
    message.flags = some_flags(input);
    message.status_flags = StatusFlags(u32::from(input.u8() & 7));
    message.distributed_flags = DistributedFlags(u32::from(input.u8() & 3));
    message.value_sequence = u32::from(input.u8());
    message.hash = known.hash(&name, input);
    message.queue = some_queue(input);
    message.granted = some_mode(input);
    message.requested = some_mode(input);
    message.blocked = some_mode(input);
    message.callbacks = CallbackFlags(u32::from(input.u8() & 3));
    message.result = match input.u8() {
        index @ 0..=200 => RESULTS[usize::from(index) % RESULTS.len()],
        _ => input.u32().cast_signed(),
    };
    message.extra = if kind.has_name() {
        name.as_bytes().to_vec()
    } else {
        let len = [0, 32, 8, 200][usize::from(input.u8() & 3)];
        vec![input.u8(); len]
    };
    message
}

fn some_rcom(space: LockspaceId, known: &impl Known, input: &mut Input<'_>) -> Rcom {
    let kind = input.u8() % 8;
    let body = match kind {
        0 => RcomBody::Status { need_slots: input.u8() & 1 != 0, incarnation: u64::from(input.u8() % 4) },
        1 => RcomBody::StatusReply(StatusReply {
            value_block_bytes: if input.u8() < 250 { 32 } else { input.u32() },
            our_slot: u16::from(input.u8()),
            generation: u32::from(input.u8()),
            slots: (0..input.u8() % 5)
                .map(|_| Slot {
                    node: outlast_dlm::wire::NodeId(u32::from(input.u8() % 6)),
                    slot: u16::from(input.u8() % 6),
                })
                .collect(),
            ..StatusReply::default()
        }),
        2 => RcomBody::Names { after: if input.u8() & 1 == 0 { None } else { Some(some_name(input)) } },
        3 => RcomBody::NamesReply {
            names: (0..input.u8() % 5).map(|_| some_name(input)).collect(),
            complete: input.u8() & 1 == 0,
        },
        4 => RcomBody::Lookup { name: some_name(input) },
        5 => RcomBody::LookupReply,
        6 => RcomBody::Lock(some_lock(known, input)),
        _ => RcomBody::LockReply(RcomLock { value_block: Vec::new(), ..some_lock(known, input) }),
    };
    Rcom {
        lockspace: space,
        result: match input.u8() {
            small @ 0..=9 => i32::from(small),
            10..=90 => 0xff,
            bits @ 91..=170 => i32::from(bits),
            index => RESULTS[usize::from(index) % RESULTS.len()],
        },
        id: known.number(input),
        sequence: known.number(input),
        sequence_reply: known.number(input),
        body,
    }
}

fn some_lock(known: &impl Known, input: &mut Input<'_>) -> RcomLock {
    RcomLock {
        process: u32::from(input.u8()),
        lock: known.lock(input),
        remote_lock: known.lock(input),
        parent_lock: LockId::NONE,
        parent_remote_lock: LockId::NONE,
        flags: some_flags(input),
        distributed_flags: DistributedFlags(u32::from(input.u8() & 3)),
        value_sequence: u32::from(input.u8()),
        result: RESULTS[usize::from(input.u8()) % RESULTS.len()],
        requested: some_mode(input),
        granted: some_mode(input),
        queue: some_queue(input),
        callbacks: CallbackFlags(u32::from(input.u8() & 3)),
        wait_kind: u16::from(input.u8() % 16),
        name: some_name(input),
        value_block: vec![input.u8(); [0, 32, 8, 100][usize::from(input.u8() & 3)]],
    }
}

fn some_inner(space: LockspaceId, known: &impl Known, input: &mut Input<'_>) -> Inner {
    match input.u8() {
        0..=130 => Inner::Message(some_message(space, known, input)),
        131..=250 => Inner::Rcom(some_rcom(space, known, input)),
        _ => Inner::Fin,
    }
}

fn some_options(input: &mut Input<'_>) -> Options {
    Options::new(input.short()).unwrap_or_default()
}
