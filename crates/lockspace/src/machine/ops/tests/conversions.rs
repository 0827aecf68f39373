//! Other modes for locks that are held.

use super::*;

/// Another's lock that goes with the first mode and not with the second, if there is one.
fn blocker_of(from: Mode, to: Mode) -> Option<Mode> {
    Mode::ALL.into_iter().find(|mode| compatible(*mode, from) && !compatible(*mode, to))
}

#[test]
fn every_conversion_is_granted_where_the_new_mode_goes_with_what_others_hold() {
    for (directory, first, second) in MEETINGS {
        for from in Mode::ALL {
            for to in Mode::ALL {
                for held in Mode::ALL.into_iter().filter(|held| compatible(*held, from)) {
                    let mut net = Net::new(3);
                    let name = net.name_at(directory);
                    net.hold(1, name, NL);
                    let holder = net.hold(first, name, held);
                    let lock = net.hold(second, name, from);
                    net.convert(second, lock, to, NONE);
                    let outcomes = net.outcomes(second, lock);
                    if compatible(held, to) {
                        assert_eq!(outcomes, [granted(to)], "{from} to {to} beside {held}");
                    } else {
                        assert_eq!(outcomes, [], "{from} to {to} beside {held}");
                        net.unlock(first, holder);
                        assert_eq!(net.outcomes(second, lock), [granted(to)], "{from} to {to} after {held}");
                    }
                    net.unlock(second, lock);
                }
            }
        }
    }
}

#[test]
fn a_conversion_that_must_not_wait_leaves_the_lock_as_it_was() {
    for node in [1, 2] {
        for from in Mode::ALL {
            for to in Mode::ALL {
                let Some(held) = blocker_of(from, to) else { continue };
                let mut net = Net::new(2);
                let name = net.name_at(1);
                net.hold(1, name, held);
                let lock = net.hold(node, name, from);
                net.convert(node, lock, to, LockFlags::NO_QUEUE);
                assert_eq!(net.outcomes(node, lock), [Outcome::WouldBlock], "{from} to {to} beside {held}");
                assert_eq!(net.at(node).lock_view(lock).and_then(|view| view.granted), Some(from));
                net.convert(node, lock, from, NONE);
                assert_eq!(net.outcomes(node, lock), [granted(from)], "it can go on");
                net.unlock(node, lock);
            }
        }
    }
}

#[test]
fn a_conversion_that_was_canceled_leaves_the_lock_as_it_was() {
    for node in [1, 2] {
        for from in Mode::ALL {
            for to in Mode::ALL {
                let Some(held) = blocker_of(from, to) else { continue };
                let mut net = Net::new(2);
                let name = net.name_at(1);
                net.hold(1, name, held);
                let lock = net.hold(node, name, from);
                net.convert(node, lock, to, NONE);
                assert_eq!(net.outcomes(node, lock), []);
                net.start_cancel(node, lock);
                net.settle();
                assert_eq!(net.outcomes(node, lock), [Outcome::Canceled], "{from} to {to} beside {held}");
                assert_eq!(net.at(node).lock_view(lock).and_then(|view| view.granted), Some(from));
                net.unlock(node, lock);
            }
        }
    }
}

#[test]
fn stepping_down_needs_no_answer() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, NL);
    let lock = net.hold(2, name, EX);
    net.kinds();
    net.start_convert(2, lock, PR, NONE);
    assert_eq!(net.outcomes(2, lock), [granted(PR)], "before the master knows of it");
    net.settle();
    assert_eq!(net.kinds(), [(2, 1, MessageKind::Convert)]);
    net.convert(2, lock, CW, NONE);
    assert_eq!(
        net.kinds(),
        [(2, 1, MessageKind::Convert), (1, 2, MessageKind::ConvertReply)],
        "concurrent write is not below protected read"
    );
}

#[test]
fn a_conversion_is_granted_in_place_past_those_that_wait_unless_it_stands_in_line() {
    for (flags, granted_at_once) in [(NONE, true), (LockFlags::QUEUE_CONVERSION, false)] {
        let mut net = Net::new(3);
        let name = net.name_at(1);
        let holder = net.hold(1, name, PR);
        let other = net.hold(2, name, NL);
        let lock = net.hold(3, name, CR);
        net.convert(2, other, PW, NONE);
        assert_eq!(net.outcomes(2, other), []);
        net.convert(3, lock, PR, flags);
        let at_once = if granted_at_once { vec![granted(PR)] } else { vec![] };
        assert_eq!(net.outcomes(3, lock), at_once, "{flags:?}");
        net.unlock(1, holder);
        let first = if granted_at_once { vec![] } else { vec![granted(PW)] };
        assert_eq!(net.outcomes(2, other), first, "{flags:?}");
    }
}

#[test]
fn only_what_may_have_to_wait_can_be_queued() {
    let mut net = Net::new(1);
    let name = net.name_at(1);
    for from in Mode::ALL {
        for to in Mode::ALL {
            let lock = net.hold(1, name, from);
            let now = net.now;
            let asked = net.at(1).convert(lock, to, LockFlags::QUEUE_CONVERSION, None, now);
            if to > from || (from, to) == (PR, CW) {
                assert_eq!(asked, Ok(()), "{from} to {to}");
            } else {
                assert!(matches!(asked, Err(UserError::Flags(_))), "{from} to {to}");
            }
            net.outcomes(1, lock);
            net.unlock(1, lock);
        }
    }
}

#[test]
fn conversions_are_granted_before_new_requests_and_in_order() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    let holder = net.hold(1, name, PR);
    let first = net.hold(2, name, NL);
    let second = net.hold(3, name, NL);
    let request = net.request(1, name, CW, NONE).expect("a request");
    net.convert(2, first, CW, NONE);
    net.convert(3, second, PW, NONE);
    net.unlock(1, holder);
    assert_eq!(net.outcomes(2, first), [granted(CW)]);
    assert_eq!(net.outcomes(3, second), [], "the first excludes it");
    assert_eq!(net.outcomes(1, request), [], "though it goes with what is held, a conversion waits");
    net.unlock(2, first);
    assert_eq!(net.outcomes(3, second), [granted(PW)]);
    net.unlock(3, second);
    assert_eq!(net.outcomes(1, request), [granted(CW)]);
}

#[test]
fn a_conversion_without_order_is_granted_past_others() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    let reader = net.hold(1, name, PR);
    let writer = net.hold(1, name, NL);
    let waits = net.hold(2, name, NL);
    let passes = net.hold(3, name, NL);
    net.convert(1, writer, EX, NONE);
    net.convert(2, waits, CW, NONE);
    net.convert(3, passes, CW, LockFlags::NO_ORDER);
    assert_eq!(net.outcomes(3, passes), [], "protected read is still held");
    net.convert(1, reader, CR, NONE);
    assert_eq!(net.outcomes(3, passes), [granted(CW)]);
    assert_eq!(net.outcomes(2, waits), [], "it is not the first");
}

#[test]
fn two_conversions_that_exclude_each_other_are_a_deadlock_and_the_second_is_told() {
    for (first, second) in [(1, 1), (1, 2), (2, 1), (2, 3)] {
        let mut net = Net::new(3);
        let name = net.name_at(1);
        net.hold(1, name, NL);
        let one = net.hold(first, name, PR);
        let other = net.hold(second, name, PR);
        net.convert(first, one, EX, NONE);
        net.convert(second, other, EX, NONE);
        assert_eq!(net.outcomes(second, other), [Outcome::Deadlock]);
        assert_eq!(net.at(second).lock_view(other).and_then(|view| view.granted), Some(PR), "as it was");
        assert_eq!(net.outcomes(first, one), []);
        net.unlock(second, other);
        assert_eq!(net.outcomes(first, one), [granted(EX)]);
    }
}

#[test]
fn a_deadlock_is_broken_by_demotion_where_the_user_allows_it() {
    for (first, second) in [(1, 1), (1, 2), (2, 1), (2, 3)] {
        let mut net = Net::new(3);
        let name = net.name_at(1);
        net.hold(1, name, NL);
        let one = net.hold(first, name, PR);
        let other = net.hold(second, name, PR);
        net.convert(first, one, EX, NONE);
        net.convert(second, other, EX, LockFlags::CONVERSION_DEADLOCK);
        assert_eq!(net.outcomes(first, one), [granted(EX)], "the other gave up what it held");
        assert_eq!(net.outcomes(second, other), []);
        assert_eq!(net.at(second).lock_view(other).and_then(|view| view.granted), Some(NL));
        net.unlock(first, one);
        let status_flags = StatusFlags::DEMOTED;
        assert_eq!(net.outcomes(second, other), [Outcome::Granted { mode: EX, status_flags, value: None }]);
    }
}

#[test]
fn who_forbids_that_deadlocks_are_searched_waits_in_one() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    let one = net.hold(1, name, PR);
    let other = net.hold(2, name, PR);
    net.convert(1, one, EX, NONE);
    net.convert(2, other, EX, LockFlags::NO_DEADLOCK_WAIT);
    assert_eq!((net.outcomes(1, one), net.outcomes(2, other)), (vec![], vec![]));
    net.start_cancel(2, other);
    net.settle();
    assert_eq!(net.outcomes(2, other), [Outcome::Canceled]);
}

#[test]
fn an_alternate_mode_is_known_to_the_owner_of_a_conversion_that_is_granted_at_once() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, PR);
    let lock = net.hold(2, name, NL);
    net.convert(2, lock, EX, LockFlags::ALTERNATE_PROTECTED_READ);
    let status_flags = StatusFlags::ALTERNATE_MODE;
    assert_eq!(net.outcomes(2, lock), [Outcome::Granted { mode: PR, status_flags, value: None }]);
    assert_eq!(net.at(2).lock_view(lock).and_then(|view| view.granted), Some(PR));
}

#[test]
fn a_lock_that_waits_or_has_an_operation_under_way_cannot_be_converted() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    let holder = net.hold(1, name, PR);
    let waiter = net.lock(2, name, EX, NONE);
    let now = net.now;
    assert_eq!(net.at(2).convert(waiter, NL, NONE, None, now), Err(UserError::Busy(waiter)));
    net.unlock(1, holder);
    assert_eq!(net.outcomes(2, waiter), [granted(EX)]);
    net.start_convert(2, waiter, EX, NONE);
    assert_eq!(net.at(2).convert(waiter, NL, NONE, None, now), Err(UserError::Busy(waiter)));
    assert_eq!(net.at(2).unlock(waiter, NONE, None, now), Err(UserError::Busy(waiter)));
}
