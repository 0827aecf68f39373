//! What a seed stands for.

use super::bugs::Bug;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// The largest cluster.
const NODES_MAX: usize = 7;
/// The smallest.
const NODES_MIN: usize = 3;

/// How a run goes, but for what happens on the way.
#[derive(Debug, Clone)]
pub struct Plan {
    /// One number reproduces it.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them are members from the beginning.
    pub first: usize,
    /// Resources that everybody wants.
    pub names: usize,
    /// Locks that one node has at a time.
    pub locks_max: usize,
    /// What bytes take from one node to another.
    pub delay: (Duration, Duration),
    /// The longest piece that arrives at a time, in bytes.
    pub piece_bytes_max: usize,
    /// Bytes under way in one direction.
    pub window_bytes: usize,
    /// Things that happen before the weather is fair.
    pub acts: u32,
    /// Between them, on average.
    pub pause: Duration,
    /// Of a thousand acts, those that cut, hold up or silence connections.
    pub faults: u32,
    /// Of a thousand acts, those that change who is a member.
    pub changes: u32,
    /// Connections are lost while a recovery goes on, above all.
    pub targets_recovery: bool,
    /// Nodes repeat as Linux does: behind what was waiting already.
    pub repeats_late: bool,
    /// Nodes tell each other which of their lives it is, as ours do and Linux's do not.
    pub tells_lives: bool,
    /// Shares of the directory.
    pub weights: Vec<u32>,
    /// How long an unused resource is kept.
    pub toss_after: Duration,
}

impl Plan {
    /// Draws what a seed stands for. A bug is given occasions.
    #[must_use]
    pub fn draw(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x0d1a);
        let nodes = rng.random_range(NODES_MIN..=NODES_MAX);
        let first = if rng.random_range(0..3) == 0 { rng.random_range(1..=nodes) } else { nodes };
        let slow = Duration::from_micros(*pick(&mut rng, &[100, 300, 1000, 5000]));
        let faulty = rng.random_range(0..4) > 0;
        let changing = rng.random_range(0..3) > 0;
        let weights =
            (0..nodes).map(|_| if rng.random_range(0..4) == 0 { rng.random_range(0..4) } else { 1 });
        let mut plan = Self {
            seed,
            nodes,
            first,
            weights: weights.collect(),
            names: rng.random_range(1..=4),
            locks_max: rng.random_range(1..=4),
            delay: (slow / 4, slow),
            piece_bytes_max: *pick(&mut rng, &[1, 7, 100, 1460, 65536]),
            window_bytes: *pick(&mut rng, &[200, 3000, 65536]),
            acts: rng.random_range(50..600),
            pause: Duration::from_micros(*pick(&mut rng, &[100, 500, 2000, 10_000])),
            faults: if faulty { *pick(&mut rng, &[10, 30, 150]) } else { 0 },
            changes: if changing { *pick(&mut rng, &[3, 10, 30]) } else { 0 },
            targets_recovery: rng.random_range(0..4) == 0,
            tells_lives: rng.random_range(0..2) == 0,
            repeats_late: rng.random_range(0..4) == 0,
            toss_after: Duration::from_millis(*pick(&mut rng, &[1, 20, 500])),
        };
        if let Some(bug) = bug {
            if bug.wants_faults() {
                plan.faults = plan.faults.max(100);
            }
            if bug.wants_changes() {
                plan.changes = plan.changes.max(20);
            }
            // A bug must not hide behind what else a peer may do.
            plan.repeats_late = false;
        }
        // Bytes one by one are events one by one.
        if plan.piece_bytes_max < 100 {
            plan.acts = plan.acts.min(200);
        }
        plan
    }

    /// One line about it.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { seed, nodes, first, names, acts, pause, faults, changes, piece_bytes_max, .. } = self;
        format!(
            "dlm seed {seed}: {nodes} nodes, {first} of them at first, {names} names, {acts} acts every {pause:?}, \
             faults {faults}, changes {changes}, pieces {piece_bytes_max}, delay {:?}{}",
            self.delay.1,
            if self.repeats_late { ", repeats late" } else { "" },
        )
    }
}

pub(crate) fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}
