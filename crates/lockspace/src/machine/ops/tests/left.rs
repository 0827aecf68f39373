//! What is under way to nodes that leave, in whose stead nobody answers.

use super::*;

impl Net {
    /// All others are gone, and this node recovers alone.
    fn stays_alone(&mut self, node: u32) {
        self.machines.retain(|other, _| *other == node);
        self.links.clear();
        let now = self.now;
        let members = [Member { node: NodeId(node), weight: 1, fresh: false }];
        self.at(node).handle_stop(now);
        self.at(node).handle_start(&members, now).expect("it is stopped");
        self.collect();
        assert!(self.at(node).is_running());
    }

    /// Long after, a node has forgotten what nobody uses.
    fn assert_forgotten(&mut self, node: u32) {
        self.now = self.now + core::time::Duration::from_secs(60);
        let now = self.now;
        self.at(node).handle_timeout(now);
        assert_eq!(self.at(node).resources().collect::<Vec<_>>(), []);
        assert_eq!(self.at(node).table.lock_count(), 0);
    }
}

#[test]
fn a_request_that_was_canceled_and_given_up_when_its_master_died_is_over() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, EX);
    let lock = net.lock(2, name, EX, NONE);
    net.start_cancel(2, lock);
    net.start_unlock(2, lock, LockFlags::FORCE_UNLOCK);
    net.stays_alone(2);
    assert_eq!(net.outcomes(2, lock), [Outcome::Canceled]);
    net.assert_forgotten(2);
}

#[test]
fn a_conversion_that_was_canceled_and_given_up_when_its_master_died_is_over() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, PR);
    let lock = net.hold(2, name, PR);
    net.convert(2, lock, EX, NONE);
    net.start_cancel(2, lock);
    net.start_unlock(2, lock, LockFlags::FORCE_UNLOCK);
    net.stays_alone(2);
    assert_eq!(net.outcomes(2, lock), [Outcome::Canceled, Outcome::Unlocked]);
    net.assert_forgotten(2);
}
