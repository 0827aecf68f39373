//! Unlocks and cancels of what is under way.

use super::*;

const FORCE: LockFlags = LockFlags::FORCE_UNLOCK;

/// Node 1 is the directory node and the master and holds the name in this mode; what node 2 asks for stays under way.
fn held(mode: Mode) -> (Net, Name, LockId) {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    net.hold(1, name, NL);
    let holder = net.hold(1, name, mode);
    (net, name, holder)
}

/// That nothing of any lock at node 2 is left, at either node.
fn assert_gone(net: &mut Net) {
    assert_eq!(net.at(2).table.lock_count(), 0);
    assert_eq!(
        net.at(1).resources().flat_map(|resource| resource.locks).filter(|lock| lock.owner.0 == 2).count(),
        0
    );
}

#[test]
fn a_request_that_waits_is_taken_back() {
    for node in [1, 2] {
        let (mut net, name, holder) = held(EX);
        let waiter = net.lock(node, name, EX, NONE);
        let behind = net.lock(3, name, NL, NONE);
        net.start_cancel(node, waiter);
        net.settle();
        assert_eq!(net.outcomes(node, waiter), [Outcome::Canceled]);
        assert_eq!(net.outcomes(3, behind), [granted(NL)], "it was in the way");
        assert!(net.at(1).lock_view(holder).is_some());
        assert!(net.at(node).lock_view(waiter).is_none());
    }
}

#[test]
fn a_request_whose_answer_is_awaited_is_taken_back_when_it_waits() {
    let (mut net, name, _) = held(EX);
    let lock = net.request(2, name, EX, NONE).expect("a request");
    net.start_cancel(2, lock);
    net.start_cancel(2, lock);
    assert_eq!(net.under_way(2, 1), 1, "the master does not know the lock yet");
    net.settle();
    assert_eq!(net.outcomes(2, lock), [Outcome::Canceled]);
    assert_gone(&mut net);
}

#[test]
fn a_cancel_of_a_request_that_is_granted_meanwhile_comes_too_late() {
    let (mut net, name, _) = held(NL);
    let lock = net.request(2, name, EX, NONE).expect("a request");
    net.start_cancel(2, lock);
    net.settle();
    assert_eq!(net.outcomes(2, lock), [granted(EX)]);
    net.unlock(2, lock);
}

#[test]
fn a_cancel_that_crosses_the_grant_comes_too_late() {
    let (mut net, name, holder) = held(EX);
    let lock = net.lock(2, name, EX, NONE);
    net.start_unlock(1, holder, NONE);
    net.start_cancel(2, lock);
    net.settle();
    assert_eq!(net.outcomes(2, lock), [granted(EX)]);
    net.unlock(2, lock);
    assert_gone(&mut net);
}

#[test]
fn a_request_whose_answer_is_awaited_is_given_up_by_force_when_it_is_there() {
    for mode in [NL, EX] {
        let (mut net, name, _) = held(mode);
        let lock = net.request(2, name, EX, NONE).expect("a request");
        net.start_unlock(2, lock, FORCE);
        net.settle();
        let expected =
            if mode == NL { vec![granted(EX), Outcome::Unlocked] } else { vec![Outcome::Unlocked] };
        assert_eq!(net.outcomes(2, lock), expected);
        assert_gone(&mut net);
    }
}

#[test]
fn force_outdoes_a_cancel() {
    let (mut net, name, _) = held(EX);
    let lock = net.request(2, name, EX, NONE).expect("a request");
    net.start_cancel(2, lock);
    net.start_unlock(2, lock, FORCE);
    net.settle();
    assert_eq!(net.outcomes(2, lock), [Outcome::Unlocked]);
    assert_gone(&mut net);
}

#[test]
fn a_cancel_and_then_force_of_what_waits_are_both_answered() {
    let (mut net, name, _) = held(EX);
    let lock = net.lock(2, name, EX, NONE);
    net.start_cancel(2, lock);
    net.start_unlock(2, lock, FORCE);
    net.settle();
    assert_eq!(net.outcomes(2, lock), [Outcome::Canceled], "after the cancel nothing was left to unlock");
    assert_gone(&mut net);
}

#[test]
fn a_conversion_is_taken_back_before_its_answer_comes() {
    let (mut net, name, _) = held(CR);
    let lock = net.hold(2, name, CR);
    net.start_convert(2, lock, EX, NONE);
    net.start_cancel(2, lock);
    assert_eq!(net.under_way(2, 1), 2, "both questions");
    net.settle();
    assert_eq!(net.outcomes(2, lock), [Outcome::Canceled]);
    net.convert(2, lock, PR, NONE);
    assert_eq!(net.outcomes(2, lock), [granted(PR)]);
    net.unlock(2, lock);
    assert_gone(&mut net);
}

#[test]
fn a_cancel_that_crosses_a_granted_conversion_is_moot_and_the_next_one_can_be_asked_for_at_once() {
    let (mut net, name, _) = held(NL);
    let lock = net.hold(2, name, NL);
    net.start_convert(2, lock, EX, NONE);
    net.start_cancel(2, lock);
    net.deliver(2, 1);
    net.deliver(1, 2);
    assert_eq!(net.outcomes(2, lock), [granted(EX)]);
    net.start_convert(2, lock, PW, NONE);
    net.start_convert(2, lock, EX, NONE);
    net.settle();
    assert_eq!(
        net.outcomes(2, lock),
        [granted(PW), granted(EX)],
        "the late answer to the cancel confuses nobody"
    );
    net.unlock(2, lock);
    assert_gone(&mut net);
}

#[test]
fn a_lock_that_converts_is_given_up_by_force() {
    for queued_first in [false, true] {
        let (mut net, name, _) = held(CR);
        let lock = net.hold(2, name, CR);
        net.start_convert(2, lock, EX, NONE);
        if queued_first {
            net.settle();
        }
        net.start_unlock(2, lock, FORCE);
        net.settle();
        assert_eq!(net.outcomes(2, lock), [Outcome::Unlocked]);
        assert_gone(&mut net);
    }
}

#[test]
fn a_cancel_of_what_is_granted_does_nothing() {
    for node in [1, 2] {
        let (mut net, name, _) = held(NL);
        let lock = net.hold(node, name, PR);
        net.kinds();
        net.start_cancel(node, lock);
        net.settle();
        assert_eq!(net.outcomes(node, lock), []);
        assert_eq!(net.kinds(), []);
        net.unlock(node, lock);
    }
}

#[test]
fn an_unlock_is_answered_once_whatever_is_asked_meanwhile() {
    let (mut net, name, _) = held(NL);
    let lock = net.hold(2, name, EX);
    net.start_unlock(2, lock, NONE);
    net.start_cancel(2, lock);
    net.start_unlock(2, lock, FORCE);
    net.settle();
    assert_eq!(net.outcomes(2, lock), [Outcome::Unlocked]);
    assert_gone(&mut net);
}

#[test]
fn a_request_that_waits_for_what_becomes_of_another_is_given_up_without_a_message() {
    for by_force in [false, true] {
        let mut net = Net::new(3);
        let name = net.name_at(1);
        let first = net.request(2, name, NL, NONE).expect("a request");
        let second = net.request(2, name, NL, NONE).expect("a request");
        assert_eq!(net.under_way(2, 1), 1, "the first asks for the master");
        if by_force {
            net.start_unlock(2, second, FORCE);
        } else {
            net.start_cancel(2, second);
        }
        let expected = if by_force { Outcome::Unlocked } else { Outcome::Canceled };
        assert_eq!(net.outcomes(2, second), [expected]);
        net.settle();
        assert_eq!(net.outcomes(2, first), [granted(NL)]);
    }
}

#[test]
fn when_the_first_of_several_is_given_up_the_others_go_on() {
    for directory in [1, 3] {
        let mut net = Net::new(3);
        let name = net.name_at(directory);
        net.hold(1, name, NL);
        let first = net.request(2, name, EX, NONE).expect("a request");
        let others = [(); 3].map(|()| net.request(2, name, CR, NONE).expect("a request"));
        net.start_unlock(2, first, FORCE);
        net.settle();
        assert_eq!(net.outcomes(2, first).last(), Some(&Outcome::Unlocked));
        for other in others {
            assert_eq!(net.outcomes(2, other), [granted(CR)], "with the directory at node {directory}");
        }
    }
}

#[test]
fn the_late_answer_to_a_moot_cancel_is_not_taken_for_that_of_the_next_one() {
    let (mut net, name, _) = held(CR);
    let lock = net.hold(2, name, NL);
    net.start_convert(2, lock, PR, NONE);
    net.start_cancel(2, lock);
    net.deliver(2, 1);
    net.deliver(1, 2);
    assert_eq!(net.outcomes(2, lock), [granted(PR)]);
    net.start_convert(2, lock, EX, NONE);
    net.start_cancel(2, lock);
    net.settle();
    assert_eq!(net.outcomes(2, lock), [Outcome::Canceled]);
    assert_eq!(net.at(2).lock_view(lock).and_then(|view| view.granted), Some(PR));
    net.unlock(2, lock);
    assert_gone(&mut net);
}

#[test]
fn who_is_demoted_while_it_stands_in_the_queue_learns_it_when_it_cancels() {
    let (mut net, name, _) = held(PR);
    let demoted = net.hold(2, name, CR);
    let other = net.hold(1, name, NL);
    net.convert(2, demoted, PW, LockFlags::CONVERSION_DEADLOCK);
    // What comes to the head of the queue is blocked by what the other holds.
    net.convert(1, other, EX, LockFlags::HEAD_OF_QUEUE);
    net.start_cancel(2, demoted);
    net.settle();
    assert_eq!(net.outcomes(2, demoted), [Outcome::Canceled]);
    assert_eq!(net.at(2).lock_view(demoted).and_then(|view| view.granted), Some(NL));
    net.convert(2, demoted, CR, NONE);
    assert_eq!(net.outcomes(2, demoted), [granted(CR)]);
}

#[test]
fn who_does_not_know_that_it_was_demoted_gets_no_answer_that_it_does_not_expect() {
    let (mut net, name, _) = held(PR);
    let lock = net.hold(2, name, CR);
    let copy = net.at(2).lock_view(lock).expect("it is there").remote_lock;
    net.at(1).table.lock_mut(copy).expect("its copy").granted = Some(NL);
    net.kinds();
    net.convert(2, lock, NL, NONE);
    assert_eq!(net.kinds(), [(2, 1, MessageKind::Convert)], "to null is a step down for its owner");
}

#[test]
fn the_answer_of_who_was_asked_counts_whoever_is_believed_to_be_the_master_by_now() {
    let (mut net, name, _) = held(NL);
    let lock = net.hold(2, name, EX);
    net.start_unlock(2, lock, NONE);
    let machine = net.at(2);
    let key = machine.table.lock(lock).expect("it is there").resource;
    machine.table.resource_mut(key).expect("it is there").master = None;
    net.settle();
    assert_eq!(net.outcomes(2, lock), [Outcome::Unlocked]);
    assert_gone(&mut net);
}
