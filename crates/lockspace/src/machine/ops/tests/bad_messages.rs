//! What peers must not send: it costs them their connection, and the lockspace stays as it was.

use outlast_dlm::wire::DecodeError;

use super::*;
use crate::machine::errno::{EBUSY, ECANCEL, EINVAL, ENOENT, EUNLOCK};

/// Node 1 is the master, node 2 holds the name in protected read, node 3 waits.
fn net() -> (Net, Name, LockId, LockId) {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    let own = net.hold(1, name, PR);
    let holder = net.hold(2, name, PR);
    net.lock(3, name, EX, NONE);
    let _ = own;
    let copy = net.at(2).lock_view(holder).expect("it is there").remote_lock;
    (net, name, holder, copy)
}

fn message(kind: MessageKind) -> Message {
    Message::new(LOCKSPACE, kind)
}

fn views(net: &Net) -> Vec<crate::machine::ResourceView> {
    net.machines.values().flat_map(Machine::resources).collect()
}

const ABOUT_OWN: [MessageKind; 7] = [
    MessageKind::RequestReply,
    MessageKind::ConvertReply,
    MessageKind::UnlockReply,
    MessageKind::CancelReply,
    MessageKind::Grant,
    MessageKind::Blocking,
    MessageKind::LookupReply,
];
const ABOUT_COPIES: [MessageKind; 3] = [MessageKind::Convert, MessageKind::Unlock, MessageKind::Cancel];

#[test]
fn from_who_is_no_member_or_for_another_lockspace() {
    let (mut net, name, ..) = net();
    let before = views(&net);
    let request = Message { extra: name.as_bytes().to_vec(), ..message(MessageKind::Request) };
    for node in [1, 9] {
        assert_eq!(
            net.receive(node, 1, request.clone()),
            Err(MachineFault::NotAMember { node: NodeId(node), kind: MessageKind::Request })
        );
    }
    let other = Message { lockspace: LockspaceId(1), ..request };
    assert_eq!(net.receive(2, 1, other), Err(MachineFault::Lockspace(LockspaceId(1))));
    assert_eq!(views(&net), before);
    assert_eq!(net.at(1).statistics().faults, 3);
}

#[test]
fn about_anothers_lock() {
    let (mut net, _, holder, copy) = net();
    let before = views(&net);
    for kind in ABOUT_COPIES {
        let about = Message { lock: holder, remote_lock: copy, ..message(kind) };
        let fault = MachineFault::NotTheirs { node: NodeId(3), kind, lock: copy };
        assert_eq!(net.receive(3, 1, about), Err(fault));
    }
    for kind in ABOUT_OWN {
        let about = Message { lock: holder, remote_lock: holder, ..message(kind) };
        let fault = MachineFault::NotTheirs { node: NodeId(3), kind, lock: holder };
        assert_eq!(net.receive(3, 2, about), Err(fault), "node 3 is not the master");
    }
    assert_eq!(views(&net), before);
}

#[test]
fn about_a_lock_of_ours_as_if_it_were_a_copy_and_the_other_way_round() {
    let (mut net, _, holder, copy) = net();
    let before = views(&net);
    for kind in ABOUT_OWN.into_iter().filter(|kind| *kind != MessageKind::LookupReply) {
        let about = Message { lock: holder, remote_lock: copy, ..message(kind) };
        assert!(matches!(net.receive(2, 1, about), Err(MachineFault::NotTheirs { .. })), "{kind:?}");
    }
    for kind in ABOUT_COPIES {
        let about = Message { lock: copy, remote_lock: holder, ..message(kind) };
        assert!(matches!(net.receive(1, 2, about), Err(MachineFault::NotTheirs { .. })), "{kind:?}");
    }
    assert_eq!(views(&net), before);
}

#[test]
fn about_a_lock_that_is_not_there_is_answered_or_ignored() {
    let (mut net, ..) = net();
    let before = views(&net);
    for (kind, answer) in [
        (MessageKind::Convert, MessageKind::ConvertReply),
        (MessageKind::Unlock, MessageKind::UnlockReply),
        (MessageKind::Cancel, MessageKind::CancelReply),
    ] {
        let about = Message { lock: LockId(5), remote_lock: LockId(0x00ff_ffff), ..message(kind) };
        net.receive(2, 1, about).expect("it may have crossed our last word");
        let expected = Message { node: 2, remote_lock: LockId(5), result: -ENOENT, ..message(answer) };
        assert_eq!(net.links.get_mut(&(1, 2)).and_then(VecDeque::pop_front), Some(expected));
    }
    for kind in ABOUT_OWN {
        net.receive(2, 1, message(kind)).expect("late, perhaps");
        assert_eq!(net.under_way(1, 2), 0, "{kind:?}");
    }
    assert_eq!(views(&net), before);
    assert_eq!(net.at(1).statistics().ignored, 10);
}

#[test]
fn answers_that_nobody_waits_for_change_nothing() {
    let (mut net, _, holder, copy) = net();
    let before = views(&net);
    let events = |net: &Net| net.events.values().map(VecDeque::len).sum::<usize>();
    let told = events(&net);
    for kind in [MessageKind::ConvertReply, MessageKind::UnlockReply, MessageKind::CancelReply] {
        for result in [0, -EBUSY, -crate::machine::errno::EUNLOCK, -crate::machine::errno::ECANCEL] {
            let reply = Message { lock: copy, remote_lock: holder, result, ..message(kind) };
            net.receive(1, 2, reply).expect("moot, perhaps");
        }
    }
    let grant = Message { lock: copy, remote_lock: holder, ..message(MessageKind::Grant) };
    assert!(matches!(net.receive(1, 2, grant), Err(MachineFault::Unexpected { .. })));
    assert_eq!(views(&net), before);
    assert_eq!(events(&net), told);
}

#[test]
fn modes_and_flags_that_cannot_be() {
    let (mut net, name, holder, copy) = net();
    let before = views(&net);
    let extra = name.as_bytes().to_vec();
    let expedite = LockFlags::EXPEDITE;
    for kind in [MessageKind::Request, MessageKind::Lookup] {
        let nothing = Message { requested: None, extra: extra.clone(), ..message(kind) };
        let forced = Message { requested: Some(EX), flags: expedite, extra: extra.clone(), ..message(kind) };
        for bad in [nothing, forced, message(kind)] {
            let received = net.receive(2, 1, bad);
            assert!(matches!(received, Err(MachineFault::Malformed { .. })), "{received:?}");
        }
    }
    assert_eq!(message(MessageKind::Request).name(), Err(DecodeError::NameLength(0)));
    let convert = Message { lock: holder, remote_lock: copy, ..message(MessageKind::Convert) };
    for bad in [
        Message { requested: None, ..convert.clone() },
        Message { requested: Some(EX), flags: expedite, ..convert.clone() },
        Message { requested: Some(NL), flags: LockFlags::QUEUE_CONVERSION, ..convert },
    ] {
        assert!(matches!(net.receive(2, 1, bad), Err(MachineFault::Malformed { .. })));
    }
    let blocking =
        Message { lock: copy, remote_lock: holder, blocked: None, ..message(MessageKind::Blocking) };
    assert!(matches!(net.receive(1, 2, blocking), Err(MachineFault::Malformed { .. })));
    assert_eq!(views(&net), before);
}

#[test]
fn a_conversion_of_what_waits_is_refused() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, EX);
    let lock = net.lock(2, name, PR, NONE);
    let copy = net.at(2).lock_view(lock).expect("it is there").remote_lock;
    let before = views(&net);
    let convert = Message { lock, remote_lock: copy, requested: Some(NL), ..message(MessageKind::Convert) };
    net.receive(2, 1, convert).expect("it is answered");
    let results: Vec<i32> = net.links[&(1, 2)].iter().map(|message| message.result).collect();
    assert_eq!(results, [-EBUSY]);
    assert_eq!(views(&net), before);
}

#[test]
fn a_lookup_of_what_is_elsewhere_in_the_directory_is_refused_and_a_removal_ignored() {
    let mut net = Net::new(3);
    let elsewhere = net.name_at(2);
    net.hold(1, elsewhere, EX);
    let before = views(&net);
    let extra = elsewhere.as_bytes().to_vec();
    let lookup = Message { lock: LockId(3), extra: extra.clone(), ..message(MessageKind::Lookup) };
    net.receive(3, 1, lookup).expect("it is answered");
    let answer = Message { node: -1, lock: LockId(3), result: -EINVAL, ..message(MessageKind::LookupReply) };
    assert_eq!(net.links[&(1, 3)], [answer]);
    for (from, to) in [(3, 1), (3, 2), (2, 1), (2, 3)] {
        let removal = Message { extra: extra.clone(), ..message(MessageKind::Remove) };
        net.receive(from, to, removal).expect("it is ignored");
    }
    assert_eq!(views(&net), before, "only the master can say that there is none");
}

#[test]
fn a_master_that_is_no_member() {
    let mut net = Net::new(2);
    let name = net.name_at(2);
    let lock = net.request(1, name, EX, NONE).expect("a request");
    net.collect();
    let reply = Message { node: 7, lock, ..message(MessageKind::LookupReply) };
    assert!(matches!(net.receive(2, 1, reply), Err(MachineFault::Malformed { .. })));
    net.settle();
    assert_eq!(net.outcomes(1, lock), [granted(EX)], "the true answer came");
}

#[test]
fn a_value_block_of_another_size_is_cut_or_filled_up() {
    for bytes in [0, 5, 32, 900] {
        let mut net = Net::new(2);
        let name = net.name_at(1);
        net.hold(1, name, NL);
        let holder = net.hold(2, name, EX);
        let copy = net.at(2).lock_view(holder).expect("it is there").remote_lock;
        let unlock = Message {
            lock: holder,
            remote_lock: copy,
            flags: LockFlags::VALUE_BLOCK,
            extra: vec![1; bytes],
            ..message(MessageKind::Unlock)
        };
        net.at(1).receive_message(NodeId(2), unlock, Instant::ZERO).expect("taken as it is");
        let value = net.at(1).resources().next().and_then(|resource| resource.value).expect("written");
        assert_eq!(value.len(), 32);
        assert_eq!(value.iter().filter(|byte| **byte == 1).count(), bytes.min(32));
    }
}

#[test]
fn an_answer_to_what_was_not_asked_leaves_what_was_asked_alone() {
    for kind in [MessageKind::UnlockReply, MessageKind::ConvertReply, MessageKind::CancelReply] {
        let mut net = Net::new(3);
        let name = net.name_at(3);
        // Node 1 asks node 3 for the master, and hears something else first.
        let lock = net.request(1, name, EX, NONE).expect("a request that can be");
        let answer = Message { remote_lock: lock, result: -ENOENT, ..message(kind) };
        assert_eq!(net.receive(3, 1, answer), Ok(()), "{kind:?}");
        assert!(net.outcomes(1, lock).is_empty(), "{kind:?}");
        net.settle();
        assert_eq!(net.outcomes(1, lock), [granted(EX)], "{kind:?}");
    }
}

#[test]
fn an_answer_to_what_is_not_asked_before_the_request_is_answered_is_ignored() {
    for kind in [MessageKind::UnlockReply, MessageKind::CancelReply] {
        let mut net = Net::new(2);
        let name = net.name_at(1);
        net.hold(1, name, NL);
        let lock = net.request(2, name, EX, NONE).expect("a request that can be");
        if kind == MessageKind::UnlockReply {
            net.start_unlock(2, lock, LockFlags::FORCE_UNLOCK);
        } else {
            net.start_cancel(2, lock);
        }
        let result = if kind == MessageKind::UnlockReply { -EUNLOCK } else { -ECANCEL };
        net.receive(1, 2, Message { remote_lock: lock, result, ..message(kind) }).expect("it is ignored");
        assert_eq!(net.outcomes(2, lock), []);
        net.settle();
        assert_eq!(net.outcomes(2, lock)[0], granted(EX), "the right answer counts, {kind:?}");
        net.hold(2, name, NL);
    }
}
