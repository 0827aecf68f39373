//! What is under way to nodes that leave, in whose stead nobody answers, and what is under way when others leave.

use core::time::Duration;

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

    /// All others are gone, and these recover.
    fn recover(&mut self, nodes: &[u32]) {
        self.collect();
        self.machines.retain(|node, _| nodes.contains(node));
        let mut links: BTreeMap<(u32, u32), VecDeque<Inner>> = BTreeMap::new();
        for ((from, to), messages) in core::mem::take(&mut self.links) {
            if nodes.contains(&from) && nodes.contains(&to) {
                links.insert((from, to), messages.into_iter().map(Inner::Message).collect());
            }
        }
        let members: Vec<Member> =
            nodes.iter().map(|node| Member { node: NodeId(*node), weight: 1, fresh: false }).collect();
        for machine in self.machines.values_mut() {
            machine.handle_stop(self.now);
        }
        for machine in self.machines.values_mut() {
            machine.handle_start(&members, self.now).expect("it is stopped");
        }
        for _ in 0..DELIVERIES_MAX {
            for (node, machine) in &mut self.machines {
                while let Some(transmit) = machine.poll_transmit() {
                    links.entry((*node, transmit.to.0)).or_default().push_back(transmit.inner);
                }
            }
            let next = links.iter_mut().find_map(|(link, queue)| Some((*link, queue.pop_front()?)));
            let now = self.now;
            if let Some(((from, to), inner)) = next {
                self.at(to).handle_message(NodeId(from), inner, now).expect("a message that can be");
            } else if self.machines.values().all(Machine::is_running) {
                self.collect();
                return;
            } else {
                self.now += Duration::from_millis(20);
                for machine in self.machines.values_mut() {
                    machine.handle_timeout(self.now);
                }
            }
        }
        panic!("the recovery has no end");
    }

    /// Long after, a node has forgotten what nobody uses.
    fn assert_forgotten(&mut self, node: u32) {
        self.now += Duration::from_secs(60);
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

fn name_with_place(is_right: impl Fn(u32) -> bool) -> Name {
    (0..10_000)
        .map(|number| Name::new(format!("name {number}").as_bytes()).expect("short enough"))
        .find(|name| is_right(name_hash(name.as_bytes()) >> 16))
        .expect("names are spread over the nodes")
}

#[test]
fn what_a_master_said_before_a_recovery_does_not_make_it_one_after_it() {
    let mut net = Net::new(3);
    // In the directory at node 2, with node 3 and without.
    let name = name_with_place(|place| place % 3 == 1 && place % 2 == 1);
    net.recover(&[1, 2, 3]);
    let held = net.hold(1, name, EX);
    let lock = net.request(2, name, EX, LockFlags::NO_QUEUE).expect("a request that can be");
    assert_eq!(net.deliver(2, 1), MessageKind::Request);
    net.start_unlock(1, held, NONE);
    assert_eq!(net.under_way(1, 2), 1, "the refusal");
    net.recover(&[1, 2]);
    assert_eq!(net.outcomes(2, lock), [Outcome::WouldBlock]);
    net.settle();
    net.assert_forgotten(1);
    net.settle();
    net.assert_forgotten(2);
}

#[test]
fn who_became_the_directory_node_in_a_recovery_does_not_make_a_master_by_what_it_asked_before() {
    let mut net = Net::new(4);
    // In the directory at node 3, and without it at node 2.
    let name = name_with_place(|place| place % 4 == 2 && place % 3 == 1);
    net.recover(&[1, 2, 3, 4]);
    let lock = net.hold(1, name, EX);
    net.unlock(1, lock);
    let lock = net.hold(2, name, EX);
    net.unlock(2, lock);
    net.now += Duration::from_secs(60);
    let now = net.now;
    net.at(1).handle_timeout(now);
    net.settle();
    let held = net.hold(4, name, EX);
    let lock = net.request(2, name, EX, NONE).expect("a request that can be");
    assert_eq!(net.under_way(2, 1), 1, "node 2 believes that node 1 is the master still");
    net.recover(&[1, 2, 4]);
    net.settle();
    assert_eq!(net.outcomes(2, lock), []);
    net.unlock(4, held);
    assert_eq!(net.outcomes(2, lock), [granted(EX)]);
}
