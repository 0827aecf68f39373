//! What messages hold, field by field, as Linux fills them (`lock.c`).

use outlast_dlm::wire::{CallbackFlags, DistributedFlags, Queue};

use super::*;

const BOTH: CallbackFlags = CallbackFlags::COMPLETION.with(CallbackFlags::BLOCKING);
const USER: DistributedFlags = DistributedFlags::USER;
const VALUE_BLOCK: LockFlags = LockFlags::VALUE_BLOCK;

/// The messages that were delivered since the last call.
fn delivered(net: &mut Net) -> Vec<Message> {
    core::mem::take(&mut net.delivered).into_iter().map(|(_, _, message)| message).collect()
}

fn remote(net: &mut Net, node: u32, lock: LockId) -> LockId {
    net.at(node).lock_view(lock).expect("it is there").remote_lock
}

#[test]
fn of_a_lookup_and_its_answer() {
    let mut net = Net::new(2);
    let name = net.name_at(2);
    let lock = net.hold(1, name, EX);
    let asked = Message {
        node: -1,
        process: 101,
        lock,
        distributed_flags: USER,
        hash: name_hash(name.as_bytes()),
        granted: None,
        requested: Some(EX),
        callbacks: BOTH,
        extra: name.as_bytes().to_vec(),
        ..Message::new(LOCKSPACE, MessageKind::Lookup)
    };
    let answered = Message { node: 1, lock, ..Message::new(LOCKSPACE, MessageKind::LookupReply) };
    assert_eq!(delivered(&mut net), [asked, answered]);
}

#[test]
fn of_a_request_and_its_answer_and_the_grant() {
    let mut net = Net::new(3);
    let name = net.name_at(3);
    let holder = net.hold(1, name, EX);
    delivered(&mut net);
    let lock = net.lock(2, name, PR, VALUE_BLOCK);
    let copy = remote(&mut net, 2, lock);
    let common = Message {
        process: 102,
        distributed_flags: USER,
        hash: name_hash(name.as_bytes()),
        flags: VALUE_BLOCK,
        granted: None,
        requested: Some(PR),
        callbacks: BOTH,
        ..Message::new(LOCKSPACE, MessageKind::Request)
    };
    let request = Message { node: 1, lock, extra: name.as_bytes().to_vec(), ..common.clone() };
    let answer = Message {
        kind: MessageKind::RequestReply,
        node: 2,
        lock: copy,
        remote_lock: lock,
        queue: Some(Queue::Waiting),
        result: -crate::machine::errno::EINPROGRESS,
        extra: vec![0; 32],
        ..common.clone()
    };
    assert_eq!(delivered(&mut net)[2..], [request, answer]);
    net.unlock(1, holder);
    let grant = Message {
        kind: MessageKind::Grant,
        node: 2,
        lock: copy,
        remote_lock: lock,
        queue: Some(Queue::Granted),
        granted: Some(PR),
        requested: None,
        extra: vec![0; 32],
        ..common
    };
    assert_eq!(delivered(&mut net), [grant]);
}

#[test]
fn of_a_conversion_with_a_value_block_and_its_answer() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, NL);
    let lock = net.hold(2, name, EX);
    let copy = remote(&mut net, 2, lock);
    delivered(&mut net);
    let now = net.now;
    net.at(2).convert(lock, EX, VALUE_BLOCK, Some(vec![8; 32]), now).expect("a conversion");
    net.settle();
    let common = Message {
        process: 102,
        distributed_flags: USER,
        hash: name_hash(name.as_bytes()),
        flags: VALUE_BLOCK | LockFlags::CONVERT,
        granted: Some(EX),
        queue: Some(Queue::Granted),
        callbacks: BOTH,
        extra: vec![8; 32],
        ..Message::new(LOCKSPACE, MessageKind::Convert)
    };
    let convert = Message { node: 1, lock, remote_lock: copy, requested: Some(EX), ..common.clone() };
    let answer = Message {
        kind: MessageKind::ConvertReply,
        node: 2,
        lock: copy,
        remote_lock: lock,
        requested: None,
        value_sequence: 1,
        ..common
    };
    assert_eq!(delivered(&mut net), [convert, answer]);
}

#[test]
fn of_an_unlock_and_its_answer() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, NL);
    let lock = net.hold(2, name, PR);
    let copy = remote(&mut net, 2, lock);
    delivered(&mut net);
    net.unlock(2, lock);
    let common = Message {
        process: 102,
        distributed_flags: USER,
        hash: name_hash(name.as_bytes()),
        requested: None,
        callbacks: BOTH,
        ..Message::new(LOCKSPACE, MessageKind::Unlock)
    };
    let unlock = Message {
        node: 1,
        lock,
        remote_lock: copy,
        granted: Some(PR),
        queue: Some(Queue::Granted),
        ..common.clone()
    };
    let answer = Message {
        kind: MessageKind::UnlockReply,
        node: 2,
        lock: copy,
        remote_lock: lock,
        granted: None,
        result: -crate::machine::errno::EUNLOCK,
        ..common
    };
    assert_eq!(delivered(&mut net), [unlock, answer]);
}

#[test]
fn of_a_callback_a_cancel_and_its_answer() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    net.hold(1, name, NL);
    let holder = net.hold(2, name, EX);
    let holders_copy = remote(&mut net, 2, holder);
    let waiter = net.lock(3, name, PR, NONE);
    let waiters_copy = remote(&mut net, 3, waiter);
    let callback = Message {
        node: 2,
        process: 102,
        lock: holders_copy,
        remote_lock: holder,
        distributed_flags: USER,
        hash: name_hash(name.as_bytes()),
        queue: Some(Queue::Granted),
        granted: Some(EX),
        requested: None,
        blocked: Some(PR),
        callbacks: BOTH,
        ..Message::new(LOCKSPACE, MessageKind::Blocking)
    };
    assert!(delivered(&mut net).contains(&callback));
    net.start_cancel(3, waiter);
    net.settle();
    let common = Message {
        process: 103,
        distributed_flags: USER,
        hash: name_hash(name.as_bytes()),
        flags: LockFlags::CANCEL,
        granted: None,
        callbacks: BOTH,
        ..Message::new(LOCKSPACE, MessageKind::Cancel)
    };
    let cancel = Message {
        node: 1,
        lock: waiter,
        remote_lock: waiters_copy,
        queue: Some(Queue::Waiting),
        requested: Some(PR),
        ..common.clone()
    };
    let answer = Message {
        kind: MessageKind::CancelReply,
        node: 3,
        lock: waiters_copy,
        remote_lock: waiter,
        requested: None,
        result: -crate::machine::errno::ECANCEL,
        ..common
    };
    assert_eq!(delivered(&mut net), [cancel, answer]);
}

#[test]
fn of_a_removal_a_refusal_and_a_purge() {
    let mut net = Net::new(3);
    let name = net.name_at(2);
    let lock = net.hold(1, name, EX);
    net.unlock(1, lock);
    net.now += crate::machine::limits::TOSS_AFTER;
    let now = net.now;
    net.at(1).handle_timeout(now);
    net.settle();
    let hash = name_hash(name.as_bytes());
    let removal =
        Message { hash, extra: name.as_bytes().to_vec(), ..Message::new(LOCKSPACE, MessageKind::Remove) };
    assert_eq!(delivered(&mut net).last(), Some(&removal));

    let request = Message {
        lock: LockId(77),
        requested: Some(EX),
        extra: name.as_bytes().to_vec(),
        ..Message::new(LOCKSPACE, MessageKind::Request)
    };
    net.receive(3, 1, request).expect("a race that happens");
    assert_eq!(net.under_way(1, 3), 1);
    let refusal = Message {
        node: 3,
        remote_lock: LockId(77),
        result: -crate::machine::errno::EBADR,
        ..Message::new(LOCKSPACE, MessageKind::RequestReply)
    };
    assert_eq!(net.links[&(1, 3)], [refusal]);

    net.at(1).purge(NodeId(2), 5).expect("a member");
    net.collect();
    let purge = Message { node: 2, process: 5, ..Message::new(LOCKSPACE, MessageKind::Purge) };
    assert_eq!(net.links[&(1, 2)], [purge]);
    assert_eq!(net.at(1).purge(NodeId(9), 5), Err(UserError::NotAMember(NodeId(9))));
}
