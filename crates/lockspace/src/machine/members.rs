//! Who is a member, and whose part of the directory a name is in.

use std::collections::{BTreeMap, BTreeSet};

use outlast_dlm::wire::NodeId;

use super::api::Member;

/// What is known of a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemberState {
    /// Its share of the directory.
    pub(crate) weight: u32,
    /// The slot that it has said it has, or was given; 0: none.
    pub(crate) slot: u16,
    /// The slot that it had in an earlier recovery; it must not change. 0: none.
    pub(crate) slot_before: u16,
    /// The count of membership changes that it has said.
    pub(crate) generation: u32,
}

/// The members of the lockspace.
#[derive(Debug, Default)]
pub(crate) struct Members {
    nodes: BTreeMap<NodeId, MemberState>,
    /// Those that left since the last recovery that came to its end. One that has come back is in both.
    gone: BTreeSet<NodeId>,
    /// The nodes that have a part of the directory, each with the sum of the shares up to its own.
    shares: Vec<(u64, NodeId)>,
}

/// What a change of the membership was.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) removed: Vec<NodeId>,
    pub(crate) added: Vec<NodeId>,
}

impl Members {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Whether the locks of this node are gone. It may be a member again.
    pub(crate) fn is_gone(&self, node: NodeId) -> bool {
        self.gone.contains(&node)
    }

    /// Whether somebody left since the last recovery that came to its end.
    pub(crate) fn any_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Forgets who left.
    pub(crate) fn forget_gone(&mut self) {
        self.gone.clear();
    }

    /// The members in ascending order.
    pub(crate) fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeId> + '_ {
        self.nodes.keys().copied()
    }

    /// The member behind this one.
    pub(crate) fn after(&self, node: NodeId) -> Option<NodeId> {
        use core::ops::Bound::{Excluded, Unbounded};
        self.nodes.range((Excluded(node), Unbounded)).next().map(|(node, _)| *node)
    }

    /// The lowest member: it gathers how far the others are.
    pub(crate) fn lowest(&self) -> Option<NodeId> {
        self.nodes.keys().next().copied()
    }

    pub(crate) fn states(&self) -> impl Iterator<Item = (NodeId, &MemberState)> {
        self.nodes.iter().map(|(node, state)| (*node, state))
    }

    pub(crate) fn states_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut MemberState)> {
        self.nodes.iter_mut().map(|(node, state)| (*node, state))
    }

    pub(crate) fn state_mut(&mut self, node: NodeId) -> Option<&mut MemberState> {
        self.nodes.get_mut(&node)
    }

    /// Takes over what the membership told (Linux: `member.c`, `dlm_recover_members`).
    pub(crate) fn change(&mut self, own: NodeId, told: &[Member]) -> Change {
        let mut change = Change::default();
        let old: Vec<_> = self.nodes.keys().copied().collect();
        for node in old {
            let stays = told.iter().any(|member| member.node == node && (!member.fresh || node == own));
            if !stays {
                self.nodes.remove(&node);
                self.gone.insert(node);
                change.removed.push(node);
            }
        }
        for member in told {
            let state = self.nodes.entry(member.node).or_insert_with(|| {
                change.added.push(member.node);
                MemberState::default()
            });
            // Linux keeps the weight that a member had when it was added, and each node of a cluster may have added
            // it at another time; here too, so that all agree as far as they do there.
            if change.added.last() == Some(&member.node) {
                state.weight = member.weight;
            }
        }
        self.share();
        change
    }

    fn share(&mut self) {
        let none = self.nodes.values().all(|state| state.weight == 0);
        let mut sum = 0;
        self.shares.clear();
        for (node, state) in &self.nodes {
            let weight = if none { 1 } else { u64::from(state.weight) };
            if weight > 0 {
                sum += weight;
                self.shares.push((sum, *node));
            }
        }
    }

    /// The node that keeps the place of names with this hash (Linux: `dir.c`). `None`: there are no members yet.
    pub(crate) fn directory_node(&self, hash: u32) -> Option<NodeId> {
        let (total, _) = self.shares.last()?;
        // The upper half of the hash: the lower one is for tables.
        let place = u64::from(hash >> 16).checked_rem(*total)?;
        let index = self.shares.partition_point(|(sum, _)| *sum <= place);
        self.shares.get(index).map(|(_, node)| *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u32, weight: u32) -> Member {
        Member { node: NodeId(node), weight, fresh: false }
    }

    fn directory(members: &Members, share: u32) -> u32 {
        members.directory_node(share << 16).expect("there are members").0
    }

    #[test]
    fn without_members_nobody_keeps_the_directory() {
        assert_eq!(Members::new().directory_node(7), None);
    }

    #[test]
    fn nodes_share_the_directory_by_their_weights_in_the_order_of_their_ids() {
        let mut members = Members::new();
        members.change(NodeId(1), &[member(5, 2), member(1, 1), member(3, 0)]);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|share| directory(&members, share)), [1, 5, 5, 1, 5, 5]);
    }

    #[test]
    fn when_no_node_has_a_weight_all_count_the_same() {
        let mut members = Members::new();
        members.change(NodeId(1), &[member(1, 0), member(2, 0)]);
        assert_eq!([0, 1, 2].map(|share| directory(&members, share)), [1, 2, 1]);
    }

    #[test]
    fn a_node_that_came_back_is_a_member_and_its_locks_are_gone() {
        let mut members = Members::new();
        members.change(NodeId(1), &[member(1, 1), member(2, 1)]);
        let change = members.change(NodeId(1), &[member(1, 1), Member { fresh: true, ..member(2, 1) }]);
        assert_eq!((change.removed, change.added), (vec![NodeId(2)], vec![NodeId(2)]));
        assert!(members.contains(NodeId(2)) && members.is_gone(NodeId(2)));
    }

    #[test]
    fn who_left_is_remembered_until_a_recovery_came_to_its_end() {
        let mut members = Members::new();
        members.change(NodeId(1), &[member(1, 1), member(2, 1)]);
        members.change(NodeId(1), &[member(1, 1)]);
        members.change(NodeId(1), &[member(1, 1)]);
        assert!(members.is_gone(NodeId(2)) && members.any_gone());
        members.forget_gone();
        assert!(!members.any_gone());
    }
}
