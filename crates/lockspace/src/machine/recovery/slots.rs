//! Slots: small numbers that nodes keep as long as they are members (Linux: `member.c`). The lowest node gives them.

use std::collections::BTreeMap;

use outlast_dlm::wire::{NodeId, SLOTS_MAX, Slot};

use crate::machine::members::Members;

/// What the lowest node found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Assignment {
    /// In the order of slots.
    pub(crate) slots: Vec<Slot>,
    /// One more than any member has seen.
    pub(crate) generation: u32,
}

/// Gives a slot to those who have none: the lowest that is free. `None`: what the members say of their slots
/// contradicts itself; then nobody gets one, as with Linux, and the recovery goes on.
pub(crate) fn assign(members: &mut Members) -> Option<Assignment> {
    let mut taken: BTreeMap<u16, NodeId> = BTreeMap::new();
    let mut generation = 0;
    for (node, state) in members.states() {
        generation = generation.max(state.generation);
        if state.slot == 0 {
            continue;
        }
        if state.slot_before != 0 && state.slot_before != state.slot {
            return None;
        }
        if taken.insert(state.slot, node).is_some() {
            return None;
        }
    }
    let generation = generation.checked_add(1)?;
    let mut free = 1;
    for (node, state) in members.states_mut() {
        if state.slot == 0 {
            while taken.contains_key(&free) {
                free = free.checked_add(1)?;
            }
            taken.insert(free, node);
            state.slot = free;
        }
        state.slot_before = state.slot;
    }
    if taken.len() > SLOTS_MAX {
        return None;
    }
    let slots = taken.into_iter().map(|(slot, node)| Slot { node, slot }).collect();
    Some(Assignment { slots, generation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::api::Member;

    fn members(told: &[(u32, u16, u32)]) -> Members {
        let mut members = Members::new();
        let list: Vec<_> =
            told.iter().map(|(node, _, _)| Member { node: NodeId(*node), weight: 1, fresh: false }).collect();
        members.change(NodeId(told[0].0), &list);
        for (node, slot, generation) in told {
            let state = members.state_mut(NodeId(*node)).unwrap();
            state.slot = *slot;
            state.generation = *generation;
        }
        members
    }

    #[test]
    fn who_has_a_slot_keeps_it_and_others_get_the_lowest_that_are_free() {
        let mut members = members(&[(1, 0, 0), (4, 2, 7), (9, 0, 0)]);
        let assignment = assign(&mut members).unwrap();
        assert_eq!(assignment.generation, 8);
        let slots: Vec<_> = assignment.slots.iter().map(|slot| (slot.slot, slot.node.0)).collect();
        assert_eq!(slots, [(1, 1), (2, 4), (3, 9)]);
    }

    #[test]
    fn two_nodes_with_one_slot_contradict_each_other() {
        assert_eq!(assign(&mut members(&[(1, 2, 7), (4, 2, 7)])), None);
    }

    #[test]
    fn a_slot_that_changed_is_not_believed() {
        let mut members = members(&[(1, 0, 0), (4, 2, 7)]);
        assert!(assign(&mut members).is_some());
        members.state_mut(NodeId(4)).unwrap().slot = 3;
        assert_eq!(assign(&mut members), None);
    }
}
