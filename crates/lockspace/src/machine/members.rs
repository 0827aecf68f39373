//! Who is a member.

use outlast_dlm::wire::NodeId;

/// The members of the lockspace.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) nodes: Vec<NodeId>,
}

impl Members {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// The node that keeps the place of names with this hash. `None`: there are no members yet.
    pub(crate) fn directory_node(&self, hash: u32) -> Option<NodeId> {
        let count = u32::try_from(self.nodes.len()).ok()?;
        let index = (hash >> 16).checked_rem(count)?;
        self.nodes.get(usize::try_from(index).ok()?).copied()
    }
}
