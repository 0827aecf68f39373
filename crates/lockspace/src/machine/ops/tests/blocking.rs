//! Who is told that it blocks others.

use super::*;

#[test]
fn a_holder_is_told_which_mode_it_blocks_if_it_blocks_it() {
    for (directory, first, second) in MEETINGS {
        for held in Mode::ALL {
            for wanted in Mode::ALL {
                let mut net = Net::new(3);
                let name = net.name_at(directory);
                net.hold(1, name, NL);
                let holder = net.hold(first, name, held);
                net.lock(second, name, wanted, NONE);
                let expected = if compatible(held, wanted) { vec![] } else { vec![wanted] };
                assert_eq!(net.blocked(first, holder), expected, "{wanted} meets {held}");
            }
        }
    }
}

#[test]
fn it_is_told_again_only_of_a_higher_mode() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    net.hold(1, name, NL);
    let holder = net.hold(2, name, PR);
    net.kinds();
    net.lock(3, name, PW, NONE);
    net.lock(3, name, PW, NONE);
    assert_eq!(net.blocked(2, holder), [PW]);
    assert_eq!(net.kinds().into_iter().filter(|(_, _, kind)| *kind == MessageKind::Blocking).count(), 1);
    net.lock(3, name, EX, NONE);
    assert_eq!(net.blocked(2, holder), [EX]);
}

#[test]
fn it_is_told_again_after_it_was_granted_another_mode() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    let holder = net.hold(1, name, EX);
    net.lock(2, name, EX, NONE);
    assert_eq!(net.blocked(1, holder), [EX]);
    net.convert(1, holder, PR, NONE);
    assert_eq!(net.blocked(1, holder), [EX], "it still blocks");
}

#[test]
fn who_does_not_want_to_know_is_not_told() {
    for node in [1, 2] {
        let mut net = Net::new(2);
        let name = net.name_at(1);
        let (mode, flags) = (EX, NONE);
        let request = LockRequest { name, mode, flags, process: 1, value: None, wants_blocking: false };
        let now = net.now;
        let holder = net.at(node).lock(request, now).expect("a request");
        net.settle();
        net.lock(1, name, EX, NONE);
        assert_eq!(net.blocked(node, holder), []);
        assert!(net.kinds().iter().all(|(_, _, kind)| *kind != MessageKind::Blocking));
    }
}

#[test]
fn a_request_that_does_not_wait_tells_only_if_it_wants_to_and_those_that_convert_too() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    let holder = net.hold(1, name, CR);
    let converter = net.hold(2, name, CR);
    net.convert(2, converter, PW, NONE);
    net.outcomes(2, converter);
    let waiting = net.hold(3, name, CR);
    net.convert(3, waiting, PW, NONE);
    assert_eq!(net.outcomes(3, waiting), []);
    net.lock(1, name, EX, LockFlags::NO_QUEUE);
    assert_eq!((net.blocked(1, holder), net.blocked(3, waiting)), (vec![], vec![]));
    net.lock(1, name, EX, LockFlags::NO_QUEUE | LockFlags::NO_QUEUE_CALLBACK);
    assert_eq!(net.blocked(1, holder), [EX]);
    assert_eq!(net.blocked(2, converter), [PW, EX]);
    assert_eq!(net.blocked(3, waiting), [EX], "it holds concurrent read while it waits");
}

#[test]
fn holders_are_told_of_those_that_come_to_the_front() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    let first = net.hold(1, name, EX);
    let second = net.lock(2, name, PR, NONE);
    net.lock(3, name, EX, NONE);
    net.unlock(1, first);
    assert_eq!(net.outcomes(2, second), [granted(PR)]);
    assert_eq!(net.blocked(2, second), [EX], "as soon as it is granted");
}

#[test]
fn protected_read_and_concurrent_write_tell_each_other_though_neither_is_higher() {
    for (held, wanted) in [(PR, CW), (CW, PR)] {
        for node in [1, 2] {
            let mut net = Net::new(2);
            let name = net.name_at(1);
            let holder = net.hold(node, name, held);
            net.lock(1, name, wanted, NONE);
            assert_eq!(net.blocked(node, holder), [wanted]);
        }
    }
}

#[test]
fn a_callback_that_crosses_a_step_down_is_not_passed_on() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, NL);
    let holder = net.hold(2, name, EX);
    net.request(1, name, PR, NONE).expect("a request");
    assert_eq!(net.under_way(1, 2), 1, "the callback");
    net.start_convert(2, holder, CR, NONE);
    net.settle();
    assert_eq!(net.outcomes(2, holder), [granted(CR)]);
    assert_eq!(net.blocked(2, holder), [], "concurrent read does not block protected read");
}
