//! What users ask for while locking stands still.

use super::*;

fn stop(net: &mut Net) {
    for machine in net.machines.values_mut() {
        machine.recovery.running = false;
    }
}

fn go_on(net: &mut Net) {
    let now = net.now;
    for machine in net.machines.values_mut() {
        machine.recovery.running = true;
        machine.run_deferred(now);
    }
    net.settle();
}

#[test]
fn it_is_done_in_order_when_locking_goes_on() {
    for node in [1, 2] {
        let mut net = Net::new(2);
        let name = net.name_at(1);
        let held = net.hold(node, name, PR);
        net.kinds();
        stop(&mut net);
        net.start_convert(node, held, EX, NONE);
        let asked = net.request(node, name, PR, NONE).expect("a request");
        net.settle();
        assert_eq!(net.kinds(), []);
        assert_eq!((net.outcomes(node, held), net.outcomes(node, asked)), (vec![], vec![]));
        go_on(&mut net);
        assert_eq!(net.outcomes(node, held), [granted(EX)]);
        assert_eq!(net.outcomes(node, asked), []);
        net.unlock(node, held);
        assert_eq!(net.outcomes(node, asked), [granted(PR)]);
    }
}

#[test]
fn a_lock_with_something_deferred_is_busy() {
    let mut net = Net::new(1);
    let name = net.name_at(1);
    let lock = net.hold(1, name, PR);
    stop(&mut net);
    net.start_convert(1, lock, EX, NONE);
    let now = net.now;
    assert_eq!(net.at(1).convert(lock, NL, NONE, None, now), Err(UserError::Busy(lock)));
    assert_eq!(net.at(1).unlock(lock, NONE, None, now), Err(UserError::Busy(lock)));
}

#[test]
fn a_deferred_request_can_be_taken_back_or_given_up() {
    for by_force in [false, true] {
        let mut net = Net::new(2);
        let name = net.name_at(1);
        net.hold(1, name, EX);
        stop(&mut net);
        let lock = net.request(2, name, EX, NONE).expect("a request");
        if by_force {
            net.start_unlock(2, lock, LockFlags::FORCE_UNLOCK);
        } else {
            net.start_cancel(2, lock);
        }
        go_on(&mut net);
        let expected = if by_force { Outcome::Unlocked } else { Outcome::Canceled };
        assert_eq!(net.outcomes(2, lock), [expected]);
        assert_eq!(net.at(2).table.lock_count(), 0);
    }
}

#[test]
fn what_cannot_be_done_any_more_is_said_so() {
    let mut net = Net::new(1);
    let name = net.name_at(1);
    net.at(1).config.resources_max = 0;
    stop(&mut net);
    let lock = net.request(1, name, EX, NONE).expect("a request");
    go_on(&mut net);
    assert_eq!(net.outcomes(1, lock), [Outcome::Failed(-crate::machine::errno::ENOMEM)]);
    assert_eq!(net.at(1).table.lock_count(), 0);
}

#[test]
fn nothing_is_forgotten_by_time_while_locking_stands_still() {
    let mut net = Net::new(1);
    let name = net.name_at(1);
    let lock = net.hold(1, name, EX);
    net.unlock(1, lock);
    stop(&mut net);
    net.now += crate::machine::limits::TOSS_AFTER;
    let now = net.now;
    assert_eq!(net.at(1).poll_timeout(), None);
    net.at(1).handle_timeout(now);
    assert_eq!(net.at(1).resources().count(), 1);
}
