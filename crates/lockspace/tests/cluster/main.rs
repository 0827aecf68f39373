//! Lock managers that share locks: they join, work, die and come back, in any order.

#![allow(clippy::unwrap_used)]

mod check;
mod cluster;
mod rng;
mod user;
mod values;

use cluster::Cluster;
use outlast_dlm::wire::LockFlags;

fn all_run(cluster: &Cluster) -> bool {
    cluster.nodes.values().all(|node| node.running)
}

/// Prints what happened when a test fails and `CLUSTER_TRACE` is set.
struct OnPanic(Cluster);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.0.log.len().saturating_sub(80_000);
            for line in &self.0.log[from..] {
                eprintln!("{line}");
            }
        }
    }
}

#[test]
fn a_node_alone_recovers_at_once() {
    let mut cluster = Cluster::new(1, 1, 1, false);
    cluster.quiesce(all_run);
    assert!(all_run(&cluster));
    assert_eq!(cluster.recoveries, 1);
}

#[test]
fn nodes_that_join_each_other_come_to_the_end_of_the_recovery_and_get_slots() {
    for seed in 0..100 {
        let mut cluster = Cluster::new(seed, 2 + (seed % 4) as u32, 1, seed.is_multiple_of(2));
        cluster.quiesce(all_run);
        assert!(all_run(&cluster), "seed {seed}");
    }
}

/// Runs what a seed chooses, and then lets all users give up their locks one after the other.
fn run(seed: u64, nodes: u32, names: usize, steps: usize, deaths: bool, epochs: bool) {
    eprintln!("seed {seed}");
    let mut guard = OnPanic(Cluster::new(seed, nodes, names, epochs));
    let cluster = &mut guard.0;
    cluster.quiesce(all_run);
    for _ in 0..steps {
        match cluster.rng.below(100) {
            // Time passes when all wait; else most of a run would be spent in recoveries.
            0..=59 if cluster.deliver() || !cluster.one_waits() => {}
            0..=59 => {
                cluster.tick();
            }
            60..=79 => cluster.act(),
            80..=89 => cluster.step_change(),
            90..=97 if cluster.rng.one_in(10) => {
                cluster.tick();
            }
            _ if deaths && cluster.rng.one_in(10) => change_members(cluster, nodes),
            _ => {}
        }
    }
    finish(cluster);
}

fn change_members(cluster: &mut Cluster, nodes: u32) {
    let here: Vec<u32> = cluster.nodes.keys().copied().collect();
    let away: Vec<u32> = (1..=nodes).filter(|node| !here.contains(node)).collect();
    match cluster.rng.below(4) {
        0 | 1 if here.len() > 1 => {
            let node = cluster.rng.pick(&here);
            cluster.kill(node);
            if cluster.rng.one_in(4) {
                cluster.join(node);
            }
        }
        2 if !away.is_empty() => {
            let node = cluster.rng.pick(&away);
            cluster.join(node);
        }
        _ => cluster.begin_change(),
    }
}

fn finish(cluster: &mut Cluster) {
    /// Each round at least one lock goes.
    const ROUNDS_MAX: usize = 2000;
    cluster.quiesce(all_run);
    assert!(all_run(cluster), "not all run");
    check::agree(cluster);
    for _ in 0..ROUNDS_MAX {
        let held = cluster.nodes.iter().find_map(|(node, state)| {
            let lock = state.locks.iter().find(|(_, lock)| lock.asked.is_none())?;
            Some((*node, *lock.0))
        });
        let Some((node, lock)) = held else { break };
        cluster.act_unlock(node, lock, LockFlags::NONE);
        cluster.quiesce(all_run);
        check::agree(cluster);
    }
    for (node, state) in &cluster.nodes {
        assert!(state.locks.is_empty(), "node {node} waits for ever: {:?}", state.locks);
    }
    // What is unused goes, too.
    cluster.quiesce(|_| false);
    for (node, state) in &cluster.nodes {
        let left: Vec<_> = state.machine.resources().collect();
        assert!(left.is_empty(), "node {node} keeps {left:?}");
    }
}

#[test]
fn locks_are_granted_without_conflict_while_nobody_leaves() {
    for seed in 0..seeds(300) {
        run(seed + first(), 1 + ((seed + first()) % 4) as u32, 3, 400, false, false);
    }
}

#[test]
fn locks_are_granted_without_conflict_while_nodes_die_and_come_back() {
    for seed in 0..seeds(2000) {
        run(seed + first(), 2 + ((seed + first()) % 4) as u32, 3, 3000, true, false);
    }
}

#[test]
fn nodes_that_count_the_memberships_need_not_be_told_when_all_have_stopped() {
    for seed in 0..seeds(2000) {
        run(seed + first(), 2 + ((seed + first()) % 4) as u32, 3, 3000, true, true);
    }
}

#[test]
fn a_larger_cluster_in_which_much_happens_agrees_in_the_end() {
    for seed in 0..seeds(100) {
        run(seed + first(), 7, 6, 6000, true, (seed + first()).is_multiple_of(2));
    }
}

/// More of them: `CLUSTER_SEEDS`.
fn seeds(usual: u64) -> u64 {
    std::env::var("CLUSTER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}

/// The first of them: `CLUSTER_FIRST`.
fn first() -> u64 {
    std::env::var("CLUSTER_FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(0)
}
