//! What all nodes together must agree on when nothing is under way.

use std::collections::BTreeMap;

use outlast_dlm::wire::{LockId, Mode, Name, NodeId, Queue};

use crate::cluster::Cluster;
use crate::user::may_coexist;
use outlast_lockspace::machine::{LockView, ResourceView};

type Held = (Option<Queue>, Option<Mode>, Option<Mode>);

/// Who is first in a queue and conflicts with nobody has been granted.
fn nobody_waits_without_need(resource: &ResourceView) {
    let queue = |which| resource.locks.iter().filter(move |lock| lock.queue == Some(which));
    let first = queue(Queue::Converting).next().or_else(|| queue(Queue::Waiting).next());
    let Some(first) = first else { return };
    let wanted = first.requested.expect("what it waits for");
    let blocks = |other: &&LockView| {
        other.lock != first.lock && other.granted.is_some_and(|held| !may_coexist(held, wanted))
    };
    let blocked = queue(Queue::Granted).chain(queue(Queue::Converting)).any(|other| blocks(&other));
    assert!(blocked, "{}: lock {} waits for nobody: {resource:?}", resource.name, first.lock);
}

/// Each resource has one master, its directory node knows it, and the master has the locks of all as they have them.
pub(crate) fn agree(cluster: &Cluster) {
    let mut masters: BTreeMap<Name, NodeId> = BTreeMap::new();
    let mut own: BTreeMap<(Name, NodeId, LockId), Held> = BTreeMap::new();
    let mut copies: BTreeMap<(Name, NodeId, LockId), Held> = BTreeMap::new();
    for (node, state) in &cluster.nodes {
        let us = NodeId(*node);
        for resource in state.machine.resources() {
            if resource.master == Some(us) {
                nobody_waits_without_need(&resource);
            }
            for lock in &resource.locks {
                assert_eq!(
                    lock.waits_for, None,
                    "node {node}, {}: lock {} waits for an answer",
                    resource.name, lock.lock
                );
                let master = resource.master.expect("a master, when nothing is under way");
                let known = masters.entry(resource.name).or_insert(master);
                assert_eq!(*known, master, "{}: who is the master, according to node {node}", resource.name);
                // What a granted lock asked for last means nothing any more.
                let requested = lock.requested.filter(|_| lock.queue != Some(Queue::Granted));
                let held = (lock.queue, lock.granted, requested);
                if lock.owner == us {
                    own.insert((resource.name, us, lock.lock), held);
                    if master == us {
                        copies.insert((resource.name, us, lock.lock), held);
                    }
                } else {
                    assert_eq!(master, us, "{}: node {node} has a copy and is not the master", resource.name);
                    copies.insert((resource.name, lock.owner, lock.remote_lock), held);
                }
            }
        }
    }
    assert_eq!(own, copies, "what the owners have and what the masters have");
    for (name, master) in masters {
        let directory = cluster
            .nodes
            .values()
            .flat_map(|state| state.machine.resources().map(|resource| (state.machine.node(), resource)))
            .find(|(node, resource)| resource.name == name && resource.directory == *node);
        let (_, entry) = directory.expect("an entry in the directory");
        assert_eq!(entry.master, Some(master), "{name}: the directory");
    }
    // The users believe what their node says.
    for (node, state) in &cluster.nodes {
        for (id, user) in &state.locks {
            let (_, (_, granted, _)) = own
                .iter()
                .find(|((_, owner, lock), _)| *owner == NodeId(*node) && lock == id)
                .unwrap_or_else(|| panic!("node {node}: lock {id} of a user is not there: {user:?}"));
            if user.asked.is_none() && !user.unsure {
                assert_eq!(user.held, *granted, "node {node}: lock {id}");
            }
        }
    }
}
