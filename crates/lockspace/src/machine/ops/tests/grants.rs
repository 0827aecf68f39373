//! New locks.

use super::*;

#[test]
fn every_mode_is_granted_beside_every_other_that_it_goes_with_and_else_waits() {
    for (directory, first, second) in MEETINGS {
        for held in Mode::ALL {
            for wanted in Mode::ALL {
                let mut net = Net::new(3);
                let name = net.name_at(directory);
                // In the last meeting so that the master is neither of the two.
                net.hold(1, name, NL);
                let holder = net.hold(first, name, held);
                let waiter = net.lock(second, name, wanted, NONE);
                let outcomes = net.outcomes(second, waiter);
                if compatible(held, wanted) {
                    assert_eq!(outcomes, [granted(wanted)], "{wanted} beside {held}");
                } else {
                    assert_eq!(outcomes, [], "{wanted} beside {held}");
                    net.unlock(first, holder);
                    assert_eq!(net.outcomes(second, waiter), [granted(wanted)], "{wanted} after {held}");
                }
            }
        }
    }
}

#[test]
fn who_does_not_want_to_wait_is_told_so_and_leaves_nothing_behind() {
    for (directory, first, second) in MEETINGS {
        for held in Mode::ALL {
            for wanted in Mode::ALL {
                let mut net = Net::new(3);
                let name = net.name_at(directory);
                let holder = net.hold(first, name, held);
                let lock = net.lock(second, name, wanted, LockFlags::NO_QUEUE);
                if compatible(held, wanted) {
                    assert_eq!(net.outcomes(second, lock), [granted(wanted)]);
                    continue;
                }
                assert_eq!(net.outcomes(second, lock), [Outcome::WouldBlock]);
                let now = net.now;
                assert_eq!(
                    net.at(second).unlock(lock, NONE, None, now),
                    Err(UserError::NoSuchLock(lock)),
                    "the number means nothing any more"
                );
                assert_eq!(net.blocked(first, holder), [], "nobody is told");
                let locks: usize = net
                    .machines
                    .values()
                    .flat_map(Machine::resources)
                    .map(|resource| resource.locks.len())
                    .sum();
                assert_eq!(locks, 1, "the holder's: it came first, so it is at its master");
            }
        }
    }
}

#[test]
fn requests_are_granted_in_the_order_of_their_coming() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    let reader = net.hold(1, name, PR);
    let writer = net.lock(2, name, EX, NONE);
    let late_reader = net.lock(3, name, PR, NONE);
    assert_eq!(net.outcomes(3, late_reader), [], "compatible with what is held, but not before the writer");
    net.unlock(1, reader);
    assert_eq!(net.outcomes(2, writer), [granted(EX)]);
    assert_eq!(net.outcomes(3, late_reader), []);
    net.unlock(2, writer);
    assert_eq!(net.outcomes(3, late_reader), [granted(PR)]);
}

#[test]
fn several_that_go_together_are_granted_at_once() {
    let mut net = Net::new(3);
    let name = net.name_at(2);
    let writer = net.hold(2, name, EX);
    let readers = [1, 2, 3].map(|node| (node, net.lock(node, name, PR, NONE)));
    net.unlock(2, writer);
    for (node, reader) in readers {
        assert_eq!(net.outcomes(node, reader), [granted(PR)]);
    }
}

#[test]
fn who_does_not_care_for_order_is_granted_past_those_that_wait() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    net.hold(1, name, PR);
    net.lock(2, name, EX, NONE);
    let reader = net.lock(3, name, PR, LockFlags::NO_ORDER);
    assert_eq!(net.outcomes(3, reader), [granted(PR)]);
}

#[test]
fn who_asks_for_the_head_of_the_queue_is_granted_first() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    let holder = net.hold(1, name, EX);
    let second = net.lock(2, name, EX, NONE);
    let first = net.lock(3, name, EX, LockFlags::HEAD_OF_QUEUE);
    net.unlock(1, holder);
    assert_eq!(net.outcomes(3, first), [granted(EX)]);
    assert_eq!(net.outcomes(2, second), []);
}

#[test]
fn an_expedited_null_lock_is_granted_past_those_that_wait_and_another_is_not() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    net.hold(1, name, EX);
    net.lock(2, name, EX, NONE);
    let plain = net.lock(3, name, NL, NONE);
    assert_eq!(net.outcomes(3, plain), [], "it waits its turn");
    let expedited = net.lock(3, name, NL, LockFlags::EXPEDITE);
    assert_eq!(net.outcomes(3, expedited), [granted(NL)]);
}

#[test]
fn an_alternate_mode_is_granted_where_the_wanted_one_is_not() {
    for (flag, held, alternate) in
        [(LockFlags::ALTERNATE_PROTECTED_READ, PR, PR), (LockFlags::ALTERNATE_CONCURRENT_WRITE, CW, CW)]
    {
        for node in [1, 2] {
            let mut net = Net::new(2);
            let name = net.name_at(1);
            net.hold(1, name, held);
            let lock = net.lock(node, name, EX, flag);
            let status_flags = StatusFlags::ALTERNATE_MODE;
            assert_eq!(
                net.outcomes(node, lock),
                [Outcome::Granted { mode: alternate, status_flags, value: None }]
            );
            assert_eq!(net.at(node).lock_view(lock).and_then(|view| view.granted), Some(alternate));
        }
    }
}

#[test]
fn an_alternate_mode_is_granted_to_who_waited_for_another() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    let reader = net.hold(1, name, PR);
    let writer = net.hold(1, name, NL);
    net.convert(1, writer, NL, NONE);
    let lock = net.lock(2, name, EX, LockFlags::ALTERNATE_CONCURRENT_WRITE);
    assert_eq!(net.outcomes(2, lock), [], "neither goes with protected read");
    net.convert(1, reader, CR, NONE);
    let status_flags = StatusFlags::ALTERNATE_MODE;
    assert_eq!(net.outcomes(2, lock), [Outcome::Granted { mode: CW, status_flags, value: None }]);
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let mut net = Net::new(1);
    let name = net.name_at(1);
    for (mode, flags) in [
        (PR, LockFlags::CANCEL),
        (PR, LockFlags::FORCE_UNLOCK),
        (PR, LockFlags::CONVERT),
        (PR, LockFlags::QUEUE_CONVERSION),
        (PR, LockFlags::CONVERSION_DEADLOCK),
        (PR, LockFlags::EXPEDITE),
        (NL, LockFlags::EXPEDITE | LockFlags::NO_QUEUE),
    ] {
        let refused = net.request(1, name, mode, flags);
        assert!(matches!(refused, Err(UserError::Flags(_))), "{flags:?}: {refused:?}");
    }
    assert!(matches!(net.request(1, name, PR, LockFlags::ORPHAN), Err(UserError::Unsupported(_))));
    assert_eq!(net.at(1).table.lock_count(), 0);
}

#[test]
fn there_are_no_more_locks_than_there_may_be() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.at(1).config.locks_max = 2;
    net.hold(1, name, NL);
    net.hold(2, name, NL);
    assert_eq!(net.request(1, name, NL, NONE), Err(UserError::TooManyLocks(2)));
    let lock = net.lock(2, name, NL, NONE);
    assert_eq!(net.outcomes(2, lock), [Outcome::Failed(-crate::machine::errno::ENOMEM)]);
    assert_eq!(net.at(2).table.lock_count(), 1);
}

#[test]
fn a_number_of_a_lock_that_is_gone_does_not_mean_the_next_one() {
    let mut net = Net::new(1);
    let name = net.name_at(1);
    let old = net.hold(1, name, EX);
    net.unlock(1, old);
    let new = net.hold(1, name, EX);
    assert_ne!(old, new);
    let now = net.now;
    assert_eq!(net.at(1).unlock(old, NONE, None, now), Err(UserError::NoSuchLock(old)));
}
