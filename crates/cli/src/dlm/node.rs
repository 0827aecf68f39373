//! `outlast dlm node`: runs a member.

use super::SocketArgs;
use super::cluster::Cluster;
use super::control;
use super::corosync::{self, View};
use crate::exit::{Context as _, Exit, Failure, Outcome};
use crate::{signals, term};
use clap::{Args, ValueEnum};
use outlast_dlm::wire::{LockspaceId, NodeId};
use outlast_lockspace::node::{
    Lockspace, LockspaceConfig, LockspaceEvent, Node, NodeConfig, NodeError, PORT,
};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often the cluster file is looked at.
const FILE_CHECK: Duration = Duration::from_millis(500);

/// How often corosync is asked.
const COROSYNC_CHECK: Duration = Duration::from_secs(1);
/// So often in turn without an answer, and the member ends: nobody says any more who the members are.
const COROSYNC_FAILURES_MAX: u32 = 3;

const LONG_HELP: &str = "\
Runs a member of a cluster of lock managers. The others are Linux kernels with DLM, or machines that run this command.

The cluster file has a line `node NUMBER ADDRESS` for each node, the same on all machines, and if not all of them take part a \
line `members NUMBER...`. With `change NUMBER`, count up by one at each change: a machine that was asleep then sees \
that it missed one. It is read again when it changes: new members are awaited, members that are gone have their locks \
freed. A node whose line is taken out is taken for dead: make sure that it is.

With `--membership corosync` all nodes of the corosync of this machine are members, at their first addresses, and there is no \
file. Without a quorum, locking stands still here. A node that corosync has dropped is taken for dead: have it fenced. When corosync \
does not answer any more, the command ends.

All nodes must use the same port, and each its own address: they know each other by address, and nothing is encrypted. Keep \
this to a network that only the nodes can reach.";

const EXAMPLES: &str = "\
Examples:
    outlast dlm node --id 2 --cluster /etc/outlast/cluster --lockspace jobs
    outlast dlm node --id 2 --cluster cluster --lockspace jobs --lockspace old=0x5f3a0001
    outlast dlm node --membership corosync --lockspace jobs

Ends at Ctrl-C or SIGTERM with exit code 0, after saying goodbye to the other members.";

/// Who says who the nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Membership {
    /// corosync, asked once a second by corosync-quorumtool
    Corosync,
}

/// Run a member on this machine
#[derive(Debug, Args)]
#[command(long_about = LONG_HELP, after_help = EXAMPLES)]
pub(crate) struct NodeArgs {
    /// The number of this node in the cluster file
    #[arg(
        long,
        value_name = "NUMBER",
        required_unless_present = "membership",
        conflicts_with = "membership"
    )]
    id: Option<u32>,
    /// Who the nodes are
    #[arg(long, value_name = "FILE", required_unless_present = "membership", conflicts_with = "membership")]
    cluster: Option<PathBuf>,
    /// Ask the cluster software of this machine who the nodes are, instead of a file
    #[arg(long, value_enum)]
    membership: Option<Membership>,
    /// A lockspace to be in: NAME, or NAME=NUMBER where the number on the wire is not the one that Linux's cluster software
    /// would give to that name; may be given several times
    #[arg(long, value_name = "NAME[=NUMBER]", required = true, value_parser = parse_lockspace)]
    lockspace: Vec<LockspaceConfig>,
    /// The port of all nodes
    #[arg(long, value_name = "PORT", default_value_t = PORT)]
    port: u16,
    #[command(flatten)]
    socket: SocketArgs,
}

fn parse_lockspace(text: &str) -> Result<LockspaceConfig, String> {
    let (name, number) = match text.split_once('=') {
        None => (text, None),
        Some((name, number)) => (name, Some(number)),
    };
    if name.is_empty() || name.len() > LockspaceConfig::NAME_BYTES_MAX {
        return Err(format!("a name has 1 to {} bytes", LockspaceConfig::NAME_BYTES_MAX));
    }
    let Some(number) = number else { return Ok(LockspaceConfig::named(name)) };
    let parsed = match number.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    let id = parsed.map_err(|_| format!("`{number}` is no number of 32 bits"))?;
    Ok(LockspaceConfig::new(name, LockspaceId(id)))
}

/// A member that runs: what the control socket works on.
pub(super) struct Member {
    pub(super) node: Node,
    pub(super) spaces: Vec<(String, Lockspace)>,
}

impl Member {
    /// Tells all lockspaces who takes part.
    pub(super) fn set_members(&self, members: &[NodeId], change: u64) -> Result<(), NodeError> {
        for (_, space) in &self.spaces {
            space.set_members(members, change)?;
        }
        Ok(())
    }

    /// Locking stands still in all lockspaces, until they are told members.
    fn suspend(&self) {
        for (name, space) in &self.spaces {
            if let Err(error) = space.suspend() {
                eprintln!("outlast: {name}: {error}");
            }
        }
    }
}

pub(crate) async fn run(args: NodeArgs) -> Outcome {
    let stop = signals::stop();
    let view = match (&args.cluster, args.id) {
        (Some(path), Some(id)) => {
            let cluster = Cluster::read(path).context(path.display().to_string())?;
            View { ours: NodeId(id), quorate: true, cluster }
        }
        // Neither, with `--membership`: nothing else is let through.
        (Some(_) | None, _) => corosync::ask().await.map_err(|error| Failure::failed(error.to_string()))?,
    };
    let (ours, cluster) = (view.ours, &view.cluster);
    let Some(address) = cluster.nodes.get(&ours).copied() else {
        return Err(Failure::usage(format!("the cluster file has no line `node {ours} ADDRESS`")));
    };
    let mut config = NodeConfig { port: args.port, ..NodeConfig::new(ours, address) };
    config.peers = cluster.nodes.iter().filter(|(node, _)| **node != ours).map(|(n, a)| (*n, *a)).collect();
    let node = Node::start(config).await.map_err(|error| Failure::failed(error.to_string()))?;
    let control = control::listen(&args.socket.socket).await?;

    let mut spaces = Vec::new();
    for config in args.lockspace {
        let name = config.name.clone();
        // The recovery is not waited for: it takes the others, who may come later.
        let space = node.join_later(config).map_err(|error| Failure::failed(error.to_string()))?;
        watch(&name, &space);
        spaces.push((name, space));
    }
    let member = Arc::new(Member { node, spaces });
    if view.quorate && cluster.members.contains(&ours) {
        member
            .set_members(&cluster.members, cluster.change)
            .map_err(|error| Failure::failed(error.to_string()))?;
    }
    term::print_line(&format!("node {ours} on {address}, asked at {}", args.socket.socket.display()));

    let changes = async {
        match &args.cluster {
            Some(path) => follow(&member, path, view.cluster).await,
            None => follow_corosync(&member, view).await,
        }
    };
    let exit = tokio::select! {
        exit = stop => exit,
        exit = changes => exit,
        () = control::serve(&member, control) => Exit::Failed,
    };
    // Users lose their locks with this process; the others hear of it in order.
    if !member.node.shut_down().await {
        eprintln!(
            "outlast: not all other nodes said goodbye: they do when they are told that this one is out"
        );
    }
    // The socket goes with who is asked there.
    let _ = std::fs::remove_file(&args.socket.socket);
    match exit {
        Exit::Interrupted | Exit::Terminated => Ok(Exit::Done),
        Exit::Done
        | Exit::Failed
        | Exit::Usage
        | Exit::Partial
        | Exit::Refused
        | Exit::Unreachable
        | Exit::Differs => Ok(exit),
    }
}

/// Says what happens to a lockspace.
fn watch(name: &str, space: &Lockspace) {
    let Ok(mut events) = space.events() else { return };
    let name = name.to_owned();
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            match event {
                LockspaceEvent::RecoveryBegun => {}
                LockspaceEvent::RecoveryDone { generation, members } => {
                    let members: Vec<_> = members.iter().map(|(node, _)| node.to_string()).collect();
                    term::print_line(&format!("{name}: members {} (change {generation})", members.join(" ")));
                }
                LockspaceEvent::RecoveryFailed(failure) => eprintln!("outlast: {name}: {failure}"),
                _ => {}
            }
        }
    });
}

/// Applies the cluster file whenever it changes.
async fn follow(member: &Member, path: &std::path::Path, mut known: Cluster) -> Exit {
    let mut complained = String::new();
    loop {
        tokio::time::sleep(FILE_CHECK).await;
        let read = match Cluster::read(path) {
            Ok(cluster) if cluster == known => continue,
            Ok(cluster) => cluster,
            Err(error) => {
                let complaint = format!("outlast: {}: {error}; nothing changes", path.display());
                if complaint != complained {
                    eprintln!("{complaint}");
                    complained = complaint;
                }
                continue;
            }
        };
        complained.clear();
        if let Err(error) = apply(member, &known, &read).await {
            eprintln!("outlast: {}: {error}", path.display());
        }
        let ours = member.node.id();
        if known.members.contains(&ours) && !read.members.contains(&ours) {
            // The others give its locks away now.
            eprintln!("outlast: {}: this node is no member any more: it leaves", path.display());
            return Exit::Done;
        }
        known = read;
    }
}

/// Applies what corosync says whenever it says something else, until it says nothing.
async fn follow_corosync(member: &Member, mut known: View) -> Exit {
    let mut failures = 0;
    if !known.quorate {
        eprintln!("outlast: corosync has no quorum: locking waits for it");
    }
    loop {
        tokio::time::sleep(COROSYNC_CHECK).await;
        let told = match corosync::ask().await {
            Ok(told) => told,
            Err(error) => {
                failures += 1;
                eprintln!("outlast: {error}");
                if failures == COROSYNC_FAILURES_MAX {
                    eprintln!("outlast: without corosync nobody knows who the members are: this one ends");
                    return Exit::Failed;
                }
                continue;
            }
        };
        failures = 0;
        if told == known {
            continue;
        }
        if told.ours != known.ours {
            eprintln!("outlast: corosync calls this node {} now: this member ends", told.ours);
            return Exit::Failed;
        }
        if !told.quorate {
            if known.quorate {
                eprintln!("outlast: corosync has lost its quorum: locking stands still");
                member.suspend();
            }
            // Who is gone is judged when there is a quorum again, against whom we shared locks with.
            known.quorate = false;
            continue;
        }
        // After a time without a quorum the members are told even if they are the same.
        let before =
            if known.quorate { known.cluster } else { Cluster { members: Vec::new(), ..known.cluster } };
        if let Err(error) = apply(member, &before, &told.cluster).await {
            eprintln!("outlast: corosync: {error}");
        }
        known = told;
    }
}

async fn apply(member: &Member, before: &Cluster, now: &Cluster) -> Result<(), NodeError> {
    let ours = member.node.id();
    let gone: BTreeSet<_> = before.nodes.keys().filter(|node| !now.nodes.contains_key(node)).collect();
    for node in gone {
        member.node.fence(*node);
    }
    for (node, address) in now.nodes.iter().filter(|(node, _)| **node != ours) {
        member.node.add_peer(*node, *address)?;
    }
    let changed = (&now.members, now.change) != (&before.members, before.change);
    if changed && now.members.contains(&ours) {
        member.set_members(&now.members, now.change)?;
    }
    Ok(())
}
