//! Who the members are, as the corosync of this machine says.
//!
//! It is asked by the program that comes with it, `corosync-quorumtool -s -i`: one answer has the members with their addresses, the
//! number of the ring and whether there is a quorum, all of the same moment. The parser was written against corosync 3.1.7.

use super::cluster::Cluster;
use outlast_dlm::wire::NodeId;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use tokio::process::Command;

const PROGRAM: &str = "corosync-quorumtool";
/// It answers in milliseconds, unless corosync itself is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Its status when it gave an answer and there is no quorum.
const NOT_QUORATE: i32 = 2;

/// What corosync says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// The node of this machine.
    pub(super) ours: NodeId,
    /// Without a quorum nothing may be locked: others may be a cluster without us.
    pub(super) quorate: bool,
    /// The nodes that are there; all are members. The change is the number of the ring, which is counted up at each change
    /// and the same on all nodes.
    pub(super) cluster: Cluster,
}

/// Why there is no answer, or none that is understood. Corosync's fault, or that it does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CorosyncError {
    NotRun(String),
    Silent,
    NotUnderstood(&'static str),
}

impl fmt::Display for CorosyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRun(why) => write!(f, "{PROGRAM}: {why}"),
            Self::Silent => write!(f, "{PROGRAM} does not answer within {} s", ANSWER_MAX.as_secs()),
            Self::NotUnderstood(what) => {
                write!(f, "{PROGRAM} says nothing that is understood about `{what}`")
            }
        }
    }
}

/// Asks.
pub(super) async fn ask() -> Result<View, CorosyncError> {
    let not_run = |error: std::io::Error| CorosyncError::NotRun(error.to_string());
    let mut command = Command::new(PROGRAM);
    command.args(["-s", "-i"]).env("LC_ALL", "C").stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(ANSWER_MAX, command.output()).await;
    let output = output.map_err(|_| CorosyncError::Silent)?.map_err(not_run)?;
    if !output.status.success() && output.status.code() != Some(NOT_QUORATE) {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(CorosyncError::NotRun(format!("{}: {}", output.status, said.trim())));
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Result<View, CorosyncError> {
    let field = |name: &'static str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).ok_or(CorosyncError::NotUnderstood(name))
    };
    let ours = node(field("Node ID")?).ok_or(CorosyncError::NotUnderstood("Node ID"))?;
    let quorate = match field("Quorate")? {
        "Yes" => true,
        "No" => false,
        _ => return Err(CorosyncError::NotUnderstood("Quorate")),
    };
    // The node that leads the ring, in decimal, and the ring's number, in hexadecimal.
    let ring = field("Ring ID")?.split_once('.').and_then(|(_, number)| u64::from_str_radix(number, 16).ok());
    let mut cluster =
        Cluster { change: ring.ok_or(CorosyncError::NotUnderstood("Ring ID"))?, ..Cluster::default() };
    let members = CorosyncError::NotUnderstood("Membership information");
    let mut rows = text.lines().skip_while(|line| line.trim() != "Membership information").skip(2);
    if !rows.next().is_some_and(|head| head.trim_start().starts_with("Nodeid")) {
        return Err(members);
    }
    for row in rows.take_while(|row| !row.trim().is_empty()) {
        let mut words: Vec<&str> = row.split_whitespace().collect();
        words.retain(|word| *word != "(local)");
        let (Some(first), Some(last)) = (words.first(), words.last()) else { return Err(members) };
        if *first == "0" {
            // The quorum device votes, and is no node.
            continue;
        }
        let address = last.parse::<IpAddr>().ok();
        let (Some(node), Some(address)) = (node(first), address) else { return Err(members) };
        if cluster.nodes.values().any(|other| *other == address)
            || cluster.nodes.insert(node, address).is_some()
        {
            return Err(members);
        }
    }
    if !cluster.nodes.contains_key(&ours) {
        return Err(members);
    }
    cluster.members = cluster.nodes.keys().copied().collect();
    Ok(View { ours, quorate, cluster })
}

fn node(text: &str) -> Option<NodeId> {
    text.parse().ok().filter(|number| *number > 0).map(NodeId)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes of corosync 3.1.7 (Debian 12), asked on the second.
    const TWO: &str = "\
Quorum information
------------------
Date:             Sat Nov 21 00:25:15 2026
Quorum provider:  corosync_votequorum
Nodes:            2
Node ID:          2
Ring ID:          1.9
Quorate:          Yes

Votequorum information
----------------------
Expected votes:   2
Highest expected: 2
Total votes:      2
Quorum:           2  
Flags:            Quorate 

Membership information
----------------------
    Nodeid      Votes Name
         1          1 10.78.0.1
         2          1 10.78.0.2 (local)
";

    /// The first of them, when the second had ended.
    const ONE: &str = "\
Quorum information
------------------
Date:             Sat Nov 21 00:25:35 2026
Quorum provider:  corosync_votequorum
Nodes:            1
Node ID:          1
Ring ID:          1.d
Quorate:          No

Votequorum information
----------------------
Expected votes:   2
Highest expected: 2
Total votes:      1
Quorum:           2 Activity blocked
Flags:            

Membership information
----------------------
    Nodeid      Votes Name
         1          1 10.78.0.1 (local)
";

    #[test]
    fn two_nodes_with_a_quorum_are_the_members() {
        let view = parse(TWO).expect("an answer");
        assert_eq!((view.ours, view.quorate, view.cluster.change), (NodeId(2), true, 9));
        assert_eq!(view.cluster.members, [NodeId(1), NodeId(2)]);
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(view.cluster.nodes[&NodeId(1)], address("10.78.0.1"));
        assert_eq!(view.cluster.nodes[&NodeId(2)], address("10.78.0.2"));
    }

    #[test]
    fn the_ring_of_one_that_is_left_has_a_later_number_and_no_quorum() {
        let view = parse(ONE).expect("an answer");
        assert_eq!((view.ours, view.quorate, view.cluster.change), (NodeId(1), false, 13));
        assert_eq!(view.cluster.members, [NodeId(1)]);
    }

    #[test]
    fn a_column_for_a_quorum_device_is_passed_over() {
        let text =
            TWO.replace("Votes Name", "Votes    Qdevice Name").replace("1 10.78", "1         NR 10.78");
        assert_eq!(parse(&text), parse(TWO));
        let with_device = format!("{TWO}         0          1            Qdevice\n");
        assert_eq!(parse(&with_device), parse(TWO));
    }

    #[test]
    fn an_answer_that_is_cut_or_changed_is_refused_and_guesses_nothing() {
        for (from, to, about) in [
            ("Node ID:", "Node:", "Node ID"),
            ("Node ID:          2", "Node ID:          0", "Node ID"),
            ("Quorate:          Yes", "Quorate:          Perhaps", "Quorate"),
            ("1.9", "9", "Ring ID"),
            ("1.9", "1.x", "Ring ID"),
            ("    Nodeid", "    Knoten", "Membership information"),
            ("10.78.0.1", "one.example", "Membership information"),
            ("10.78.0.1", "10.78.0.2", "Membership information"),
            ("         2          1 10.78.0.2 (local)\n", "", "Membership information"),
        ] {
            let text = TWO.replace(from, to);
            assert_ne!(text, TWO);
            assert_eq!(parse(&text), Err(CorosyncError::NotUnderstood(about)), "{from} -> {to}");
        }
        assert!(parse("").is_err());
    }
}
