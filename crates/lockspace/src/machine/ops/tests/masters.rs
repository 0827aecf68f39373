//! Who decides: lookups, and what is out of date.

use super::*;
use crate::machine::limits::TOSS_AFTER;

fn master(net: &Net, node: u32, name: Name) -> Option<Option<u32>> {
    let machine = &net.machines[&node];
    let found = machine.resources().find(|resource| resource.name == name);
    found.map(|resource| resource.master.map(|master| master.0))
}

fn toss(net: &mut Net, node: u32) {
    net.now += TOSS_AFTER;
    let now = net.now;
    net.at(node).handle_timeout(now);
}

#[test]
fn who_asks_first_becomes_the_master_and_the_directory_says_so() {
    let mut net = Net::new(3);
    let name = net.name_at(3);
    net.hold(1, name, PR);
    assert_eq!(net.kinds(), [(1, 3, MessageKind::Lookup), (3, 1, MessageKind::LookupReply)]);
    net.hold(2, name, PR);
    assert_eq!(
        net.kinds(),
        [
            (2, 3, MessageKind::Lookup),
            (3, 2, MessageKind::LookupReply),
            (2, 1, MessageKind::Request),
            (1, 2, MessageKind::RequestReply)
        ]
    );
    for node in 1..=3 {
        assert_eq!(master(&net, node, name), Some(Some(1)), "at node {node}");
    }
}

#[test]
fn a_lookup_at_the_master_is_a_request() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, PR);
    assert_eq!(net.kinds(), []);
    net.hold(2, name, PR);
    assert_eq!(net.kinds(), [(2, 1, MessageKind::Lookup), (1, 2, MessageKind::RequestReply)]);
}

#[test]
fn while_one_asks_for_the_master_the_others_wait_and_then_all_go_on() {
    for directory in [1, 3] {
        let mut net = Net::new(3);
        let name = net.name_at(directory);
        net.hold(1, name, NL);
        let locks = [(); 4].map(|()| net.request(2, name, PR, NONE).expect("a request"));
        assert_eq!(net.under_way(2, directory), 1);
        net.settle();
        for lock in locks {
            assert_eq!(net.outcomes(2, lock), [granted(PR)]);
        }
    }
}

#[test]
fn when_the_one_that_tries_the_master_may_not_wait_the_next_one_tries() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, PR);
    let first = net.request(2, name, EX, LockFlags::NO_QUEUE).expect("a request");
    let second = net.request(2, name, EX, LockFlags::NO_QUEUE).expect("a request");
    let third = net.request(2, name, PR, NONE).expect("a request");
    net.settle();
    assert_eq!(net.outcomes(2, first), [Outcome::WouldBlock]);
    assert_eq!(net.outcomes(2, second), [Outcome::WouldBlock]);
    assert_eq!(net.outcomes(2, third), [granted(PR)]);
}

#[test]
fn an_unused_name_is_forgotten_after_a_while_and_the_directory_is_told() {
    let mut net = Net::new(2);
    let name = net.name_at(2);
    let lock = net.hold(1, name, EX);
    assert_eq!(net.at(1).poll_timeout(), None);
    net.unlock(1, lock);
    let due = net.now + TOSS_AFTER;
    assert_eq!(net.at(1).poll_timeout(), Some(due));
    net.kinds();
    let now = net.now;
    net.at(1).handle_timeout(now);
    net.settle();
    assert_eq!(net.kinds(), [], "not yet");
    toss(&mut net, 1);
    net.settle();
    assert_eq!(net.kinds(), [(1, 2, MessageKind::Remove)]);
    assert_eq!((master(&net, 1, name), master(&net, 2, name)), (None, None));
}

#[test]
fn a_name_that_is_wanted_again_in_time_is_kept() {
    let mut net = Net::new(2);
    let name = net.name_at(2);
    let lock = net.hold(1, name, EX);
    net.unlock(1, lock);
    net.kinds();
    net.hold(1, name, EX);
    assert_eq!(net.kinds(), [], "no lookup");
    assert_eq!(net.at(1).poll_timeout(), None);
}

#[test]
fn a_place_in_the_directory_stays_as_long_as_there_is_a_master() {
    let mut net = Net::new(2);
    let name = net.name_at(2);
    net.hold(1, name, EX);
    assert_eq!(net.at(2).poll_timeout(), None);
    let lock = net.hold(2, name, NL);
    net.unlock(2, lock);
    assert_eq!(net.at(2).poll_timeout(), None);
    assert_eq!(master(&net, 2, name), Some(Some(1)));
}

#[test]
fn a_request_to_who_is_not_the_master_any_more_finds_the_new_one() {
    let mut net = Net::new(4);
    let name = net.name_at(3);
    let at_first = net.hold(1, name, EX);
    net.unlock(1, at_first);
    // Node 2 learns that node 1 is the master, and keeps that in mind.
    let lock = net.hold(2, name, EX);
    net.unlock(2, lock);
    toss(&mut net, 1);
    net.settle();
    assert_eq!(master(&net, 1, name), None);
    net.hold(4, name, PR);
    net.kinds();
    let lock = net.lock(2, name, PR, NONE);
    assert_eq!(net.outcomes(2, lock), [granted(PR)]);
    assert_eq!(
        net.kinds(),
        [
            (2, 1, MessageKind::Request),
            (1, 2, MessageKind::RequestReply),
            (2, 3, MessageKind::Lookup),
            (3, 2, MessageKind::LookupReply),
            (2, 4, MessageKind::Request),
            (4, 2, MessageKind::RequestReply)
        ]
    );
    assert_eq!(net.at(2).statistics().lookups_again, 1);
}

#[test]
fn a_master_that_has_forgotten_takes_the_name_up_again_when_the_directory_node_asks() {
    let mut net = Net::new(2);
    let name = net.name_at(2);
    let lock = net.hold(1, name, EX);
    net.unlock(1, lock);
    toss(&mut net, 1);
    let lock = net.request(2, name, EX, NONE).expect("a request");
    assert_eq!((net.under_way(1, 2), net.under_way(2, 1)), (1, 1), "they cross");
    net.settle();
    assert_eq!(net.outcomes(2, lock), [granted(EX)]);
    assert_eq!((master(&net, 1, name), master(&net, 2, name)), (Some(Some(1)), Some(Some(1))));
}

#[test]
fn a_master_that_has_forgotten_and_asks_again_before_the_directory_forgets() {
    let mut net = Net::new(3);
    let name = net.name_at(2);
    let lock = net.hold(1, name, EX);
    net.unlock(1, lock);
    toss(&mut net, 1);
    let again = net.request(1, name, EX, NONE).expect("a request");
    let other = net.request(3, name, EX, NONE).expect("a request");
    net.settle();
    let outcomes = [net.outcomes(1, again), net.outcomes(3, other)];
    assert_eq!(
        outcomes.iter().filter(|outcomes| outcomes.len() == 1).count(),
        1,
        "one of them: {outcomes:?}"
    );
}

#[test]
fn a_request_that_comes_before_the_master_knows_that_it_is_one_is_sent_again() {
    let mut net = Net::new(3);
    let name = net.name_at(3);
    let first = net.request(1, name, PR, NONE).expect("a request");
    net.deliver(1, 3);
    let second = net.request(2, name, PR, NONE).expect("a request");
    net.deliver(2, 3);
    net.deliver(3, 2);
    assert_eq!(net.deliver(2, 1), MessageKind::Request, "before the directory's answer");
    net.settle();
    assert_eq!(net.outcomes(1, first), [granted(PR)]);
    assert_eq!(net.outcomes(2, second), [granted(PR)]);
    assert!(net.at(2).statistics().lookups_again > 0);
}

#[test]
fn a_request_of_the_directory_node_says_who_the_master_is() {
    let mut net = Net::new(2);
    let name = net.name_at(2);
    let first = net.request(1, name, PR, NONE).expect("a request");
    net.deliver(1, 2);
    // The answer is under way, and behind it the directory node's own request.
    let second = net.request(2, name, PR, NONE).expect("a request");
    assert_eq!(net.under_way(2, 1), 2);
    net.settle();
    assert_eq!(net.outcomes(1, first), [granted(PR)]);
    assert_eq!(net.outcomes(2, second), [granted(PR)]);
    assert_eq!(net.at(2).statistics().lookups_again, 0);
}

#[test]
fn names_are_limited_for_users_and_for_others() {
    let mut net = Net::new(2);
    net.at(1).config.resources_max = 0;
    let name = net.name_at(1);
    assert_eq!(net.request(1, name, NL, NONE), Err(UserError::TooManyResources(0)));
    let lock = net.lock(2, name, NL, NONE);
    assert_eq!(net.outcomes(2, lock), [Outcome::Failed(-crate::machine::errno::ENOMEM)]);
    assert_eq!((net.at(1).table.resource_count(), net.at(2).table.lock_count()), (0, 0));
}

#[test]
fn a_refusal_does_not_make_forget_the_master_that_took_in_another_lock() {
    let mut net = Net::new(3);
    let name = net.name_at(3);
    net.hold(1, name, NL);
    let held = net.hold(2, name, NL);
    // Both are sent to node 1, and what the resource was known by goes.
    let refused = net.request(2, name, NL, NONE).expect("a request");
    let accepted = net.request(2, name, NL, NONE).expect("a request");
    net.start_unlock(2, held, NONE);
    net.start_cancel(2, refused);
    net.collect();
    net.links.clear();
    let answer = |kind, lock, result| Message {
        lock: LockId(99),
        remote_lock: lock,
        result,
        ..Message::new(LOCKSPACE, kind)
    };
    let unlocked = answer(MessageKind::UnlockReply, held, -crate::machine::errno::EUNLOCK);
    net.receive(1, 2, unlocked).expect("the unlock's answer");
    let not_yet = answer(MessageKind::RequestReply, refused, -crate::machine::errno::ENOTBLK);
    net.receive(1, 2, not_yet).expect("it is not the master yet");
    assert_eq!(net.outcomes(2, refused), [Outcome::Canceled]);
    assert_eq!(master(&net, 2, name), Some(None));
    net.receive(1, 2, answer(MessageKind::RequestReply, accepted, 0)).expect("now it is");
    assert_eq!(net.outcomes(2, accepted), [granted(NL)]);
    assert_eq!(master(&net, 2, name), Some(Some(1)));
    net.start_unlock(2, accepted, NONE);
    assert_eq!(net.under_way(2, 1), 1);
}

#[test]
fn only_one_request_tries_a_master_that_may_be_out_of_date() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, NL);
    let lock = net.hold(2, name, NL);
    let more = [(); 3].map(|()| net.request(2, name, NL, NONE).expect("a request"));
    assert_eq!(net.under_way(2, 1), 3, "while a lock is held there, the master is certain");
    net.settle();
    for lock in [lock].into_iter().chain(more) {
        net.outcomes(2, lock);
        net.unlock(2, lock);
    }
    let again = [(); 3].map(|()| net.request(2, name, NL, NONE).expect("a request"));
    assert_eq!(net.under_way(2, 1), 1);
    net.settle();
    for lock in again {
        assert_eq!(net.outcomes(2, lock), [granted(NL)]);
    }
}

#[test]
fn an_answer_of_the_directory_that_was_overtaken_does_not_move_a_lock_to_another_master() {
    let mut net = Net::new(4);
    let name = net.name_at(3);
    net.hold(1, name, NL);
    let held = net.hold(2, name, NL);
    let refused = net.request(2, name, NL, NONE).expect("a request");
    let accepted = net.request(2, name, NL, NONE).expect("a request");
    net.start_unlock(2, held, NONE);
    net.collect();
    net.links.clear();
    let answer = |kind, lock, result| Message {
        lock: LockId(99),
        remote_lock: lock,
        result,
        ..Message::new(LOCKSPACE, kind)
    };
    let unlocked = answer(MessageKind::UnlockReply, held, -crate::machine::errno::EUNLOCK);
    net.receive(1, 2, unlocked).expect("the unlock's answer");
    let not_yet = answer(MessageKind::RequestReply, refused, -crate::machine::errno::ENOTBLK);
    net.receive(1, 2, not_yet).expect("it is not the master yet");
    assert_eq!(net.under_way(2, 3), 1, "the lookup");
    net.receive(1, 2, answer(MessageKind::RequestReply, accepted, 0)).expect("now it is");
    let late = Message { node: 4, lock: refused, ..Message::new(LOCKSPACE, MessageKind::LookupReply) };
    net.receive(3, 2, late).expect("the directory's answer");
    assert_eq!(master(&net, 2, name), Some(Some(1)));
    assert_eq!(
        (net.under_way(2, 1), net.under_way(2, 4)),
        (1, 0),
        "the request goes where the other lock is"
    );
}

#[test]
fn a_place_in_the_directory_does_not_outlive_its_master_when_a_request_crossed_the_removal_and_came_to_nothing()
 {
    let mut net = Net::new(3);
    let name = net.name_at(2);
    let lock = net.hold(1, name, EX);
    net.unlock(1, lock);
    toss(&mut net, 1);
    let lock = net.request(2, name, EX, NONE).expect("a request that can be");
    net.at(1).config.locks_max = 0;
    assert_eq!(net.deliver(1, 2), MessageKind::Remove);
    net.settle();
    assert!(matches!(net.outcomes(2, lock)[..], [Outcome::Failed(_)]), "the master has no room");
    assert_eq!(net.at(1).resources().count(), 0);
    net.at(1).config.locks_max = 10;
    let lock = net.hold(3, name, EX);
    net.unlock(3, lock);
    for node in 1..=3 {
        toss(&mut net, node);
    }
    net.settle();
    for node in 1..=3 {
        assert_eq!(net.at(node).resources().collect::<Vec<_>>(), [], "node {node}");
    }
}

/// Node 2, the directory of a name, takes node 1 for its master, which has forgotten it without saying so.
fn misled() -> (Net, Name) {
    let mut net = Net::new(3);
    let name = net.name_at(2);
    let lock = net.hold(1, name, EX);
    net.unlock(1, lock);
    let key = net.at(1).table.find(name_hash(name.as_bytes()), &name).expect("it is the master");
    net.at(1).table.remove_resource(key);
    (net, name)
}

#[test]
fn a_directory_that_names_a_master_which_is_none_is_put_right_and_not_asked_without_a_pause() {
    let (mut net, name) = misled();
    let lock = net.lock(3, name, EX, NONE);
    assert_eq!(net.outcomes(3, lock), [granted(EX)]);
    let removals = net.kinds().into_iter().filter(|(_, _, kind)| *kind == MessageKind::Remove);
    assert_eq!(removals.collect::<Vec<_>>(), [(1, 2, MessageKind::Remove)]);
}

/// The request of node 3 was refused often: it waits, and the next one waits for it.
fn paused() -> (Net, LockId, LockId) {
    let (mut net, name) = misled();
    let lock = net.request(3, name, EX, NONE).expect("a request that can be");
    while net.under_way(3, 2) + net.under_way(2, 3) + net.under_way(3, 1) + net.under_way(1, 3) > 0 {
        for (from, to) in [(3, 2), (2, 3), (3, 1), (1, 3)] {
            // What the master says of itself does not come through.
            if net.under_way(from, to) > 0 {
                net.deliver(from, to);
            }
        }
        assert!(net.delivered.len() < 100, "it asks without end");
    }
    let next = net.request(3, name, NL, NONE).expect("a request that can be");
    let now = net.now;
    assert_eq!(net.at(3).unlock(lock, NONE, None, now), Err(UserError::Busy(lock)));
    assert!(net.at(3).poll_timeout().is_some_and(|at| at > now));
    (net, lock, next)
}

#[test]
fn a_request_that_is_refused_again_and_again_waits_before_it_is_asked_once_more() {
    let (mut net, lock, next) = paused();
    net.settle();
    assert_eq!(net.outcomes(3, lock), []);
    net.now = net.at(3).poll_timeout().expect("it is asked once more");
    let now = net.now;
    net.at(3).handle_timeout(now);
    net.settle();
    assert_eq!((net.outcomes(3, lock), net.outcomes(3, next)), (vec![granted(EX)], vec![granted(NL)]));
}

#[test]
fn when_a_request_that_waits_to_be_asked_once_more_is_given_up_the_others_go_on() {
    for force in [false, true] {
        let (mut net, lock, next) = paused();
        let ended = if force {
            net.start_unlock(3, lock, LockFlags::FORCE_UNLOCK);
            Outcome::Unlocked
        } else {
            net.start_cancel(3, lock);
            Outcome::Canceled
        };
        net.settle();
        assert_eq!((net.outcomes(3, lock), net.outcomes(3, next)), (vec![ended], vec![granted(NL)]));
    }
}
