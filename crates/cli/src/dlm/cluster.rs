//! The file that says who the nodes are.

use outlast_dlm::wire::NodeId;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

/// More than Linux allows in a cluster, by far.
const NODES_MAX: usize = 1024;
/// A file of so many nodes with comments.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cluster {
    /// All nodes that are known, and where they are.
    pub(super) nodes: BTreeMap<NodeId, IpAddr>,
    /// Those that take part. Without such a line, all.
    pub(super) members: Vec<NodeId>,
    /// Counted up where the same members come back: [`outlast_lockspace::node::Lockspace::set_members`].
    pub(super) change: u64,
}

/// The file cannot be meant. The user's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterError {
    line: usize,
    why: String,
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.why),
            line => write!(f, "line {line}: {}", self.why),
        }
    }
}

impl Cluster {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, ClusterError> {
        let whole = |why: String| ClusterError { line: 0, why };
        let length = std::fs::metadata(path).map_err(|error| whole(error.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            return Err(whole(format!("{length} bytes: no cluster is so large")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| whole(error.to_string()))?;
        Self::parse(&text)
    }

    /// Lines `node NUMBER ADDRESS`, at most one `members NUMBER...`, at most one `change NUMBER`; `#` begins a comment.
    pub(super) fn parse(text: &str) -> Result<Self, ClusterError> {
        let mut cluster = Self::default();
        let mut members: Option<Vec<NodeId>> = None;
        for (index, line) in text.lines().enumerate() {
            let wrong = |why: String| ClusterError { line: index + 1, why };
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                None => {}
                Some("node") => {
                    let (Some(node), Some(address), None) = (words.next(), words.next(), words.next()) else {
                        return Err(wrong("a node is `node NUMBER ADDRESS`".into()));
                    };
                    let node = number(node).map_err(wrong)?;
                    let address: IpAddr =
                        address.parse().map_err(|_| wrong(format!("{address} is no IP address")))?;
                    if cluster.nodes.values().any(|other| *other == address) {
                        return Err(wrong(format!(
                            "{address} is another node's: nodes are known by address"
                        )));
                    }
                    if cluster.nodes.insert(node, address).is_some() {
                        return Err(wrong(format!("node {node} is there twice")));
                    }
                    if cluster.nodes.len() > NODES_MAX {
                        return Err(wrong(format!("more than {NODES_MAX} nodes")));
                    }
                }
                Some("members") if members.is_none() => {
                    members = Some(words.map(number).collect::<Result<_, _>>().map_err(wrong)?);
                }
                Some("members") => return Err(wrong("the members are there twice".into())),
                Some("change") => match (words.next().map(str::parse), words.next()) {
                    (Some(Ok(change)), None) => cluster.change = change,
                    _ => return Err(wrong("a change is `change NUMBER`".into())),
                },
                Some(other) => {
                    return Err(wrong(format!("`{other}`: a line is `node`, `members` or `change`")));
                }
            }
        }
        cluster.members = members.unwrap_or_else(|| cluster.nodes.keys().copied().collect());
        cluster.members.sort_unstable();
        cluster.members.dedup();
        match cluster.members.iter().find(|member| !cluster.nodes.contains_key(member)) {
            Some(member) => Err(ClusterError { line: 0, why: format!("member {member} has no `node` line") }),
            None => Ok(cluster),
        }
    }
}

fn number(text: &str) -> Result<NodeId, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(NodeId(number)),
        Ok(_) | Err(_) => Err(format!("`{text}` is no node's number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_members_unless_the_file_says_otherwise() {
        let all = Cluster::parse("# three\nnode 1 10.0.0.1\nnode 3 10.0.0.3 # the third\n\nnode 2 fd00::2\n");
        let all = all.expect("a cluster");
        assert_eq!(all.members, [NodeId(1), NodeId(2), NodeId(3)]);
        assert_eq!(all.nodes[&NodeId(2)], "fd00::2".parse::<IpAddr>().expect("an address"));
        let two = Cluster::parse("node 1 10.0.0.1\nnode 2 10.0.0.2\nmembers 2\n").expect("a cluster");
        assert_eq!((two.nodes.len(), two.members), (2, vec![NodeId(2)]));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        for (text, why) in [
            ("node 1", "line 1: a node is"),
            ("\nnode 0 10.0.0.1", "line 2: `0` is no node's number"),
            ("node x 10.0.0.1", "line 1: `x` is no node's number"),
            ("node 1 here", "line 1: here is no IP address"),
            ("node 1 10.0.0.1\nnode 1 10.0.0.2", "line 2: node 1 is there twice"),
            ("node 1 10.0.0.1\nnode 2 10.0.0.1", "line 2: 10.0.0.1 is another node's"),
            ("nodes 1 10.0.0.1", "line 1: `nodes`"),
            ("change", "line 1: a change is"),
            ("change x", "line 1: a change is"),
            ("members 1\nmembers 2", "line 2: the members are there twice"),
            ("node 1 10.0.0.1\nmembers 1 2", "member 2 has no `node` line"),
        ] {
            let error = Cluster::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }
}
