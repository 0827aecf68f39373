//! Every kind of frame there and back, and bytes that are none.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn lock_id() -> impl Strategy<Value = LockId> {
    any::<u32>().prop_map(LockId)
}

fn mode() -> impl Strategy<Value = Option<Mode>> {
    proptest::option::of(proptest::sample::select(&Mode::ALL[..]))
}

fn queue() -> impl Strategy<Value = Option<Queue>> {
    proptest::option::of(proptest::sample::select(&[Queue::Waiting, Queue::Granted, Queue::Converting][..]))
}

fn name() -> impl Strategy<Value = Name> {
    vec(any::<u8>(), 1..=NAME_BYTES_MAX).prop_map(|bytes| Name::new(&bytes).expect("1 to 64 bytes"))
}

fn kind() -> impl Strategy<Value = MessageKind> {
    proptest::sample::select(
        &[
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
        ][..],
    )
}

fn message() -> impl Strategy<Value = Inner> {
    let extra = vec(any::<u8>(), 0..=INNER_BYTES_MAX - MESSAGE_BYTES);
    let words = (any::<[u32; 12]>(), any::<(i32, i32)>());
    (kind(), words, queue(), (mode(), mode(), mode()), name(), extra).prop_map(
        |(kind, (words, (node, result)), queue, (granted, requested, blocked), name, extra)| {
            Inner::Message(Message {
                lockspace: LockspaceId(words[0]),
                kind,
                node,
                process: words[1],
                lock: LockId(words[2]),
                remote_lock: LockId(words[3]),
                parent_lock: LockId(words[4]),
                parent_remote_lock: LockId(words[5]),
                flags: LockFlags(words[6]),
                status_flags: StatusFlags(words[7]),
                distributed_flags: DistributedFlags(words[8]),
                value_sequence: words[9],
                hash: words[10],
                queue,
                granted,
                requested,
                blocked,
                callbacks: CallbackFlags(words[11]),
                result,
                extra: if kind.has_name() { name.as_bytes().to_vec() } else { extra },
            })
        },
    )
}

fn rcom_lock(value: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = RcomLock> {
    let ids = (lock_id(), lock_id(), lock_id(), lock_id());
    (any::<[u32; 4]>(), ids, any::<(i32, u8, u16)>(), (mode(), mode()), queue(), name(), value).prop_map(
        |(words, ids, (result, callbacks, wait_kind), (requested, granted), queue, name, value_block)| {
            RcomLock {
                process: words[0],
                lock: ids.0,
                remote_lock: ids.1,
                parent_lock: ids.2,
                parent_remote_lock: ids.3,
                flags: LockFlags(words[1]),
                distributed_flags: DistributedFlags(words[2]),
                value_sequence: words[3],
                result,
                requested,
                granted,
                queue,
                callbacks: CallbackFlags(u32::from(callbacks)),
                wait_kind,
                name,
                value_block,
            }
        },
    )
}

fn status_reply() -> impl Strategy<Value = StatusReply> {
    let slot = any::<(u32, u16)>().prop_map(|(node, slot)| Slot { node: NodeId(node), slot });
    (any::<(u32, u32, u16, u32, u64)>(), vec(slot, 0..=SLOTS_MAX)).prop_map(
        |((value_block_bytes, lockspace_flags, our_slot, generation, epoch), slots)| StatusReply {
            value_block_bytes,
            lockspace_flags,
            our_slot,
            generation,
            epoch,
            slots,
        },
    )
}

fn rcom() -> impl Strategy<Value = Inner> {
    let values = vec(any::<u8>(), 0..=INNER_BYTES_MAX - RCOM_BYTES - RCOM_LOCK_BYTES);
    // The longest names fill a page: two bytes for the length of each, two at the end.
    let names = vec(name(), 0..=(NAMES_BYTES_MAX - 2) / (NAME_BYTES_MAX + 2));
    let body = prop_oneof![
        any::<(bool, u64)>()
            .prop_map(|(need_slots, incarnation)| RcomBody::Status { need_slots, incarnation }),
        status_reply().prop_map(RcomBody::StatusReply),
        proptest::option::of(name()).prop_map(|after| RcomBody::Names { after }),
        (names, any::<bool>()).prop_map(|(names, complete)| RcomBody::NamesReply { names, complete }),
        name().prop_map(|name| RcomBody::Lookup { name }),
        Just(RcomBody::LookupReply),
        rcom_lock(values).prop_map(RcomBody::Lock),
        rcom_lock(Just(Vec::new())).prop_map(RcomBody::LockReply),
    ];
    (any::<u32>(), any::<i32>(), any::<[u64; 3]>(), body).prop_map(|(lockspace, result, numbers, body)| {
        Inner::Rcom(Rcom {
            lockspace: LockspaceId(lockspace),
            result,
            id: numbers[0],
            sequence: numbers[1],
            sequence_reply: numbers[2],
            body,
        })
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let version = proptest::sample::select(&[Version::V3_1, Version::V3_2][..]);
    let body = prop_oneof![
        message().prop_map(Body::Bare),
        rcom().prop_map(Body::Bare),
        (any::<u32>(), prop_oneof![message(), rcom(), Just(Inner::Fin)])
            .prop_map(|(number, inner)| Body::Numbered { number, options: Options::NONE, inner }),
        any::<u32>().prop_map(|expected| Body::Ack { expected }),
    ];
    (version, any::<u32>(), body).prop_map(|(version, sender, body)| Frame {
        version,
        sender: NodeId(sender),
        body,
    })
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn every_frame_comes_back_as_it_went(frame in frame()) {
        let bytes = encoded(&frame);
        prop_assert!(bytes.len() <= FRAME_BYTES_MAX);
        prop_assert_eq!(Header::frame_length(&bytes), Ok(Some(bytes.len())));
        prop_assert_eq!(Frame::decode(&bytes), Ok(frame));
    }

    #[test]
    fn a_frame_that_is_cut_short_is_none(frame in frame(), cut in any::<proptest::sample::Index>()) {
        let bytes = encoded(&frame);
        prop_assert!(Frame::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused_and_those_that_are_one_stay_it(
        bytes in vec(any::<u8>(), 0..=FRAME_BYTES_MAX)
    ) {
        if let Ok(frame) = Frame::decode(&bytes) {
            prop_assert_eq!(Frame::decode(&encoded(&frame)), Ok(frame));
        }
    }

    #[test]
    fn a_frame_with_a_damaged_byte_is_refused_or_another_frame(
        frame in frame(), at in any::<proptest::sample::Index>(), with in any::<u8>()
    ) {
        let mut bytes = encoded(&frame);
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(frame) = Frame::decode(&bytes) {
            prop_assert_eq!(Frame::decode(&encoded(&frame)), Ok(frame));
        }
    }

    #[test]
    fn options_that_nobody_knows_are_skipped_within_their_bounds(kind in any::<u16>(), value in vec(any::<u8>(), 0..40)) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&value);
        let options = Options::new(&bytes).expect("one option");
        let frame = Frame {
            version: Version::V3_2,
            sender: NodeId(1),
            body: Body::Numbered { number: 7, options, inner: Inner::Fin },
        };
        prop_assert_eq!(Frame::decode(&encoded(&frame)), Ok(frame));
        let longer = u16::try_from(value.len() + 1).expect("short").to_le_bytes();
        bytes[2..4].copy_from_slice(&longer);
        prop_assert!(Options::new(&bytes).is_err());
    }
}

/// The sizes of the structures in Linux's `dlm_internal.h`.
#[test]
fn each_structure_has_the_size_that_linux_gives_it() {
    let sized = |body| encoded(&Frame { version: Version::V3_2, sender: NodeId(1), body }).len();
    let message = Inner::Message(Message::new(LockspaceId(1), MessageKind::Grant));
    let rcom = |body| {
        Inner::Rcom(Rcom {
            lockspace: LockspaceId(1),
            result: 0,
            id: 1,
            sequence: 1,
            sequence_reply: 0,
            body,
        })
    };
    let name = Name::new(b"n").expect("a short name");
    let lock = RcomLock {
        process: 1,
        lock: LockId(1),
        remote_lock: LockId::NONE,
        parent_lock: LockId::NONE,
        parent_remote_lock: LockId::NONE,
        flags: LockFlags::NONE,
        distributed_flags: DistributedFlags::NONE,
        value_sequence: 0,
        result: 0,
        requested: None,
        granted: None,
        queue: None,
        callbacks: CallbackFlags::NONE,
        wait_kind: 0,
        name,
        value_block: Vec::new(),
    };
    assert_eq!(sized(Body::Ack { expected: 0 }), 16, "a header");
    assert_eq!(sized(Body::Bare(message.clone())), 88, "a message");
    assert_eq!(sized(Body::Bare(rcom(RcomBody::LookupReply))), 48, "a recovery message");
    assert_eq!(sized(Body::Bare(rcom(RcomBody::Lock(lock)))), 48 + 108, "a lock");
    let numbered = |inner| Body::Numbered { number: 0, options: Options::NONE, inner };
    assert_eq!(sized(numbered(message)), 24 + 88, "an envelope and a message");
    assert_eq!(sized(numbered(Inner::Fin)), 24 + 16, "an envelope and a FIN");
    assert_eq!(HEADER_BYTES, 16);
    assert_eq!(MESSAGE_BYTES, 88);
    assert_eq!(RCOM_BYTES, 48);
    assert_eq!(RCOM_LOCK_BYTES, 108);
    assert_eq!(OPTS_BYTES, 24);
}
