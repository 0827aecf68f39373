//! `outlast dlm ls`, `status` and `members`: looking at the member of this machine, and telling it who the others are.

use super::SocketArgs;
use super::client::{ask, unexpected};
use super::protocol::{Lock, Reply, Request, Resource, Status, Step};
use crate::exit::{Exit, Outcome};
use crate::term;
use clap::{Args, Subcommand};

/// Show resources, who holds them and who waits
///
/// The member knows all locks of the resources that it is the master of, and of the others those of its own machine.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n    outlast dlm ls\n    outlast dlm ls --lockspace jobs --json")]
pub(crate) struct LsArgs {
    /// Of this lockspace only
    #[arg(long, value_name = "NAME")]
    lockspace: Option<String>,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Show the member, its lockspaces and its peers: versions, numbers, what is unacknowledged, resets, replays
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n    outlast dlm status\n    outlast dlm status --json")]
pub(crate) struct StatusArgs {
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

const MEMBERS_HELP: &str = "\
Tells the member who takes part, where no file does. Among kernels, locking must stand still on all nodes before it goes on at \
any: `suspend` on all, then `resume` on all. Between members that run this command, `set` on each will do.";

const MEMBERS_EXAMPLES: &str = "\
Examples:
    outlast dlm members set 1 2 3
    outlast dlm members suspend
    outlast dlm members resume 1 3
    outlast dlm members fence 2          node 2 has no power: nothing of it counts any more";

/// Tell the member who the others are
#[derive(Debug, Args)]
#[command(long_about = MEMBERS_HELP, after_help = MEMBERS_EXAMPLES)]
pub(crate) struct MembersArgs {
    #[command(subcommand)]
    step: MembersStep,
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Subcommand)]
enum MembersStep {
    /// Suspend and resume at once
    Set {
        nodes: Vec<u32>,
        /// Count up where the same members come back, the same on all nodes
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        change: u64,
    },
    /// Locking stands still
    Suspend,
    /// Locking goes on with these members
    Resume { nodes: Vec<u32> },
    /// A node is gone for good; tell the members too
    Fence { node: u32 },
}

pub(crate) async fn ls(args: LsArgs) -> Outcome {
    let reply = ask(&args.socket, &Request::Ls { lockspace: args.lockspace }).await?;
    let Reply::Resources(resources) = reply else { return Err(unexpected(&reply)) };
    if args.json {
        term::print_json(&resources);
    } else {
        for resource in &resources {
            term::print_line(&describe(resource));
        }
        if resources.is_empty() {
            term::print_line("no locks");
        }
    }
    Ok(Exit::Done)
}

fn describe(resource: &Resource) -> String {
    let master = resource.master.map_or_else(|| "unknown".to_owned(), |node| format!("node {node}"));
    let mut text = format!("{}/{}  master {master}", resource.lockspace, resource.name);
    if resource.value_not_valid {
        text += "  value block not valid";
    }
    for lock in &resource.locks {
        text += "\n    ";
        text += &line(lock);
    }
    text
}

fn line(lock: &Lock) -> String {
    let who = format!("node {} process {}", lock.node, lock.process);
    match (&lock.granted, &lock.requested, lock.state.as_str()) {
        (Some(granted), _, "granted") => format!("{granted}  {who}"),
        (Some(granted), Some(requested), state) => format!("{granted}  {who}  {state} to {requested}"),
        (None, Some(requested), state) => format!("--  {who}  {state} for {requested}"),
        (_, _, state) => format!("--  {who}  {state}"),
    }
}

pub(crate) async fn status(args: StatusArgs) -> Outcome {
    let reply = ask(&args.socket, &Request::Status).await?;
    let Reply::Status(status) = reply else { return Err(unexpected(&reply)) };
    if args.json {
        term::print_json(&status);
    } else {
        term::print_line(&table(&status));
    }
    Ok(Exit::Done)
}

fn table(status: &Status) -> String {
    let mut lines = vec![format!("node {}", status.node)];
    for space in &status.lockspaces {
        let state = if space.running { "running" } else { "waits for its members" };
        lines.push(format!(
            "lockspace {} ({:08x})  {state}  generation {}",
            space.name, space.id, space.generation
        ));
    }
    lines.push(format!(
        "{:>5}  {:<16}  {:>7}  {:<11}  {:>4}  {:>10}  {:>10}  {:>10}  {:>7}  {:>6}  {:>8}",
        "peer",
        "address",
        "version",
        "session",
        "conn",
        "next",
        "acked",
        "expected",
        "unacked",
        "resets",
        "replayed"
    ));
    for peer in &status.peers {
        lines.push(format!(
            "{:>5}  {:<16}  {:>7}  {:<11}  {:>4}  {:>10}  {:>10}  {:>10}  {:>7}  {:>6}  {:>8}",
            peer.node,
            peer.address,
            peer.version.as_deref().unwrap_or("-"),
            peer.state,
            peer.connections,
            peer.next_number,
            peer.acknowledged,
            peer.expected,
            peer.unacknowledged,
            peer.resets,
            peer.replayed
        ));
    }
    lines.join("\n")
}

pub(crate) async fn members(args: MembersArgs) -> Outcome {
    let request = match args.step {
        MembersStep::Set { nodes, change } => Request::Members { step: Step::Set, nodes, change },
        MembersStep::Suspend => Request::Members { step: Step::Suspend, nodes: Vec::new(), change: 0 },
        MembersStep::Resume { nodes } => Request::Members { step: Step::Resume, nodes, change: 0 },
        MembersStep::Fence { node } => Request::Fence { node },
    };
    let reply = ask(&args.socket, &request).await?;
    if reply == Reply::Done { Ok(Exit::Done) } else { Err(unexpected(&reply)) }
}
