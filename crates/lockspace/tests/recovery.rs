//! Recovery, seen by a peer: what a node asks and answers, as a node of Linux would see it.

#![allow(clippy::unwrap_used)]

use outlast_dlm::wire::{
    CallbackFlags, DistributedFlags, Inner, LockFlags, LockId, LockspaceId, Mode, Name, NodeId, Queue, Rcom,
    RcomBody, RcomLock, RecoveryStatus, Slot, StatusReply,
};
use outlast_lockspace::machine::{
    Config, Event, LockRequest, Machine, Member, RecoveryFailure, StartError, Transmit, not_ready_reply,
};
use outlast_session::Instant;
use proptest::prelude::*;

const LOCKSPACE: LockspaceId = LockspaceId(7);
const NOW: Instant = Instant::from_nanos(1);

fn machine(node: u32) -> Machine {
    Machine::new(Config { first_sequence: 1000 * u64::from(node), ..Config::new(NodeId(node), LOCKSPACE) })
}

fn members(nodes: &[u32]) -> Vec<Member> {
    nodes.iter().map(|node| Member { node: NodeId(*node), weight: 1, fresh: false }).collect()
}

/// The one message that a machine sends.
fn sent(machine: &mut Machine) -> (NodeId, bool, Rcom) {
    let Some(Transmit { to, inner: Inner::Rcom(rcom), numbered }) = machine.poll_transmit() else {
        panic!("a recovery message is sent");
    };
    assert_eq!(machine.poll_transmit(), None, "and nothing else");
    (to, numbered, rcom)
}

fn answer(machine: &mut Machine, question: &Rcom, result: i32, body: RcomBody) {
    let reply = Rcom {
        lockspace: LOCKSPACE,
        result,
        id: question.id,
        sequence: 5,
        sequence_reply: question.sequence,
        body,
    };
    machine.handle_message(NodeId(2), Inner::Rcom(reply), NOW).unwrap();
}

fn status(slots: Vec<Slot>, generation: u32, our_slot: u16) -> RcomBody {
    RcomBody::StatusReply(StatusReply {
        value_block_bytes: 32,
        generation,
        our_slot,
        slots,
        ..StatusReply::default()
    })
}

#[test]
fn the_lowest_node_asks_another_in_the_order_that_linux_does() {
    let mut lowest = machine(1);
    lowest.handle_start(&members(&[2, 1]), NOW).unwrap();
    assert_eq!(lowest.poll_event(), Some(Event::MemberAdded(NodeId(2))));
    // First a question whose answer does not matter; it has no number, for the other's version is not known yet.
    let (to, numbered, ping) = sent(&mut lowest);
    assert_eq!((to, numbered, ping.sequence), (NodeId(2), false, 1001));
    assert_eq!(ping.body, RcomBody::Status { need_slots: false, incarnation: 0 });
    answer(&mut lowest, &ping, 0, status(vec![], 0, 0));
    // Then until the other knows the members.
    let (_, _, question) = sent(&mut lowest);
    assert_eq!(question.body, RcomBody::Status { need_slots: false, incarnation: 0 });
    answer(&mut lowest, &question, 0, status(vec![], 0, 0));
    assert_eq!(lowest.poll_transmit(), None, "it waits");
    assert_eq!(lowest.poll_timeout(), Some(NOW + core::time::Duration::from_millis(20)));
    lowest.handle_timeout(NOW + core::time::Duration::from_millis(20));
    let (_, _, question) = sent(&mut lowest);
    answer(&mut lowest, &question, RecoveryStatus::NODES.0 as i32, status(vec![], 6, 3));
    // The other has a slot and has seen more changes.
    let (_, numbered, question) = sent(&mut lowest);
    assert!(numbered);
    assert_eq!(question.body, RcomBody::Names { after: None });
    let all = Rcom {
        body: RcomBody::Status { need_slots: true, incarnation: 0 },
        id: 9,
        sequence: 77,
        ..question.clone()
    };
    lowest.handle_message(NodeId(2), Inner::Rcom(all), NOW).unwrap();
    let (_, numbered, told) = sent(&mut lowest);
    assert_eq!((numbered, told.id, told.sequence_reply), (false, 9, 77));
    assert_eq!(told.result, RecoveryStatus::NODES.with(RecoveryStatus::NODES_ALL).0 as i32);
    let RcomBody::StatusReply(told) = told.body else { panic!("a status") };
    assert_eq!((told.generation, told.our_slot), (7, 1));
    assert_eq!(told.slots, [Slot { node: NodeId(1), slot: 1 }, Slot { node: NodeId(2), slot: 3 }]);
    answer(&mut lowest, &question, 0, RcomBody::NamesReply { names: vec![], complete: true });
    for stage in [RecoveryStatus::DIRECTORY, RecoveryStatus::LOCKS, RecoveryStatus::DONE] {
        let (_, _, question) = sent(&mut lowest);
        answer(&mut lowest, &question, stage.0 as i32, status(vec![], 7, 3));
    }
    let members = vec![(NodeId(1), 1), (NodeId(2), 3)];
    assert_eq!(lowest.poll_event(), Some(Event::RecoveryDone { generation: 7, slot: 1, members }));
}

#[test]
fn a_node_that_has_no_such_lockspace_yet_is_asked_again() {
    let mut lowest = machine(1);
    lowest.handle_start(&members(&[1, 2]), NOW).unwrap();
    let (_, _, ping) = sent(&mut lowest);
    lowest.handle_message(NodeId(2), Inner::Rcom(not_ready_reply(&ping)), NOW).unwrap();
    let (_, _, question) = sent(&mut lowest);
    lowest.handle_message(NodeId(2), Inner::Rcom(not_ready_reply(&question)), NOW).unwrap();
    assert_eq!(lowest.poll_transmit(), None);
    assert!(lowest.poll_timeout().is_some(), "it asks again later");
}

#[test]
fn a_question_that_is_not_answered_is_put_again_with_another_number() {
    let mut lowest = machine(1);
    lowest.handle_start(&members(&[1, 2]), NOW).unwrap();
    let (_, _, first) = sent(&mut lowest);
    let later = lowest.poll_timeout().unwrap();
    assert_eq!(later, NOW + core::time::Duration::from_secs(5));
    lowest.handle_timeout(later);
    let (_, _, second) = sent(&mut lowest);
    assert_ne!(first.id, second.id);
    answer(&mut lowest, &first, 0, status(vec![], 0, 0));
    assert_eq!(lowest.poll_transmit(), None, "the answer to the first is late");
    answer(&mut lowest, &second, 0, status(vec![], 0, 0));
    sent(&mut lowest);
}

#[test]
fn an_answer_of_an_earlier_recovery_is_not_for_this_one() {
    let mut lowest = machine(1);
    lowest.handle_start(&members(&[1, 2]), NOW).unwrap();
    let (_, _, old) = sent(&mut lowest);
    lowest.handle_stop(NOW);
    lowest.handle_start(&members(&[1, 2]), NOW).unwrap();
    let (_, _, new) = sent(&mut lowest);
    let mixed = Rcom { id: new.id, ..old };
    answer(&mut lowest, &mixed, 0, status(vec![], 0, 0));
    assert_eq!(lowest.poll_transmit(), None);
}

#[test]
fn a_lockspace_that_is_made_in_another_way_elsewhere_cannot_be_joined() {
    let mut lowest = machine(1);
    lowest.handle_start(&members(&[1, 2]), NOW).unwrap();
    lowest.poll_event();
    let (_, _, ping) = sent(&mut lowest);
    let theirs = StatusReply { value_block_bytes: 64, lockspace_flags: 1, ..StatusReply::default() };
    answer(&mut lowest, &ping, 0, RcomBody::StatusReply(theirs));
    let failure =
        RecoveryFailure::Configuration { node: NodeId(2), value_block_bytes: 64, lockspace_flags: 1 };
    assert_eq!(lowest.poll_event(), Some(Event::RecoveryFailed(failure)));
    assert_eq!((lowest.poll_transmit(), lowest.poll_timeout()), (None, None));
    lowest.handle_stop(NOW);
    lowest.handle_start(&members(&[1, 2]), NOW).unwrap();
    sent(&mut lowest);
}

#[test]
fn what_the_membership_cannot_mean_changes_nothing() {
    let mut machine = machine(1);
    assert_eq!(machine.handle_start(&members(&[2]), NOW), Err(StartError::NotAMember(NodeId(1))));
    assert_eq!(machine.handle_start(&members(&[1, 2, 1]), NOW), Err(StartError::Twice(NodeId(1))));
    assert_eq!(machine.handle_start(&members(&[1, 0]), NOW), Err(StartError::Zero));
    machine.handle_start(&members(&[1]), NOW).unwrap();
    assert_eq!(machine.handle_start(&members(&[1]), NOW), Err(StartError::NotStopped));
}

#[test]
fn more_names_than_fit_into_a_message_go_in_pages() {
    /// Of 60 bytes and their length each, some 65 go into a page; half of them are in the other's part of the directory.
    const NAMES: usize = 400;
    let mut master = machine(1);
    master.handle_start(&members(&[1]), NOW).unwrap();
    for index in 0..NAMES {
        let name = Name::new(format!("{index:060}").as_bytes()).unwrap();
        let flags = LockFlags::NONE;
        let request =
            LockRequest { name, mode: Mode::Null, flags, process: 1, value: None, wants_blocking: false };
        master.lock(request, NOW).unwrap();
    }
    let mut other = machine(2);
    master.handle_stop(NOW);
    let both = members(&[1, 2]);
    master.handle_start(&both, NOW).unwrap();
    other.handle_start(&both, NOW).unwrap();
    let mut pages = Vec::new();
    let mut now = NOW;
    for _ in 0..200 {
        let mut moved = false;
        while let Some(transmit) = master.poll_transmit() {
            if let Inner::Rcom(Rcom { body: RcomBody::NamesReply { names, complete }, .. }) = &transmit.inner
            {
                pages.push((names.clone(), *complete));
            }
            other.handle_message(NodeId(1), transmit.inner, now).unwrap();
            moved = true;
        }
        while let Some(transmit) = other.poll_transmit() {
            master.handle_message(NodeId(2), transmit.inner, now).unwrap();
            moved = true;
        }
        if !moved {
            let next = [&master, &other].into_iter().filter_map(|machine| machine.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next < NOW + core::time::Duration::from_secs(4)) else {
                break;
            };
            now = next;
            master.handle_timeout(now);
            other.handle_timeout(now);
        }
    }
    assert!(pages.len() > 2, "{} pages", pages.len());
    assert!(pages.iter().rev().skip(1).all(|(_, complete)| !complete) && pages.last().unwrap().1);
    let told: Vec<Name> = pages.into_iter().flat_map(|(names, _)| names).collect();
    let known: Vec<Name> = other.resources().map(|resource| resource.name).collect();
    assert_eq!(told, known, "each once, and the directory has them all");
    assert!(known.len() > NAMES / 4);
    assert!(other.resources().all(|resource| resource.master == Some(NodeId(1)) && resource.unused));
}

fn any_mode() -> impl Strategy<Value = Option<Mode>> {
    prop::option::of(prop::sample::select(Mode::ALL.to_vec()))
}

fn any_lock() -> impl Strategy<Value = RcomLock> {
    let queue =
        prop::sample::select(vec![None, Some(Queue::Waiting), Some(Queue::Granted), Some(Queue::Converting)]);
    let numbers = (0u32..4, 0u32..4, 0u32..2, -60i32..2, 0u16..4);
    (numbers, any::<u32>(), any_mode(), any_mode(), queue, 0u8..3, prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(numbers, flags, requested, granted, queue, name, value_block)| {
            let (lock, remote, parent, result, wait_kind) = numbers;
            RcomLock {
                process: 1,
                // As the table here numbers them.
                lock: LockId(lock | 1 << 22),
                remote_lock: LockId(remote | 1 << 22),
                parent_lock: LockId(parent),
                parent_remote_lock: LockId(0),
                flags: LockFlags(flags),
                distributed_flags: DistributedFlags(flags),
                value_sequence: flags,
                result,
                requested,
                granted,
                queue,
                callbacks: CallbackFlags(3),
                wait_kind,
                name: Name::new(&[name]).unwrap(),
                value_block,
            }
        })
}

fn any_body() -> impl Strategy<Value = RcomBody> {
    let name = || (0u8..3).prop_map(|name| Name::new(&[name]).unwrap());
    prop_oneof![
        any::<bool>().prop_map(|need_slots| RcomBody::Status { need_slots, incarnation: 0 }),
        (0u32..2, any::<u16>(), any::<u32>(), prop::collection::vec((0u32..4, any::<u16>()), 0..4)).prop_map(
            |(other, our_slot, generation, slots)| RcomBody::StatusReply(StatusReply {
                value_block_bytes: if other == 1 { 64 } else { 32 },
                our_slot,
                generation,
                slots: slots.into_iter().map(|(node, slot)| Slot { node: NodeId(node), slot }).collect(),
                ..StatusReply::default()
            })
        ),
        prop::option::of(name()).prop_map(|after| RcomBody::Names { after }),
        (prop::collection::vec(name(), 0..4), any::<bool>())
            .prop_map(|(names, complete)| RcomBody::NamesReply { names, complete }),
        name().prop_map(|name| RcomBody::Lookup { name }),
        Just(RcomBody::LookupReply),
        any_lock().prop_map(RcomBody::Lock),
        any_lock().prop_map(RcomBody::LockReply),
    ]
}

proptest! {
    /// Whatever a member sends, it is handled, ignored or blamed; and after a stop and start alone all goes on.
    #[test]
    fn no_recovery_message_breaks_a_node(
        script in prop::collection::vec((0u32..4, any_body(), -60i32..256, any::<bool>(), 0u8..12), 1..60)
    ) {
        let mut machine = machine(1);
        machine.handle_start(&members(&[1]), NOW).unwrap();
        for name in 0..3 {
            let name = Name::new(&[name]).unwrap();
            let request = LockRequest {
                name, mode: Mode::ProtectedRead, flags: LockFlags::NONE, process: 1, value: None, wants_blocking: true,
            };
            machine.lock(request, NOW).unwrap();
        }
        machine.handle_stop(NOW);
        machine.handle_start(&members(&[1, 2, 3]), NOW).unwrap();
        let mut question: Option<Rcom> = None;
        let mut now = NOW;
        for (from, body, result, fits, turn) in script {
            while let Some(transmit) = machine.poll_transmit() {
                if let Inner::Rcom(rcom) = transmit.inner {
                    question = Some(rcom);
                }
            }
            let asked = question.clone().filter(|_| fits);
            let (id, sequence_reply) = asked.map_or((1, 1), |asked| (asked.id, asked.sequence));
            let rcom = Rcom { lockspace: LOCKSPACE, result, id, sequence: 1, sequence_reply, body };
            // A fault is the peer's, and may be any.
            machine.handle_message(NodeId(from), Inner::Rcom(rcom), now).ok();
            if turn == 0 {
                machine.handle_stop(now);
                machine.handle_start(&members(&[1, 2]), now).unwrap();
            } else if turn == 1 && let Some(at) = machine.poll_timeout() {
                now = now.max(at);
                machine.handle_timeout(now);
            }
        }
        machine.handle_stop(now);
        machine.handle_start(&members(&[1]), now).unwrap();
        let mut done = false;
        while let Some(event) = machine.poll_event() {
            done = matches!(event, Event::RecoveryDone { .. }) || done && !matches!(event, Event::RecoveryBegun);
        }
        prop_assert!(done);
        let held = machine.resources().flat_map(|resource| resource.locks).count();
        prop_assert_eq!(held, 3, "our own, and no one else's");
    }
}
