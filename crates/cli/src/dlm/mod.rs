//! `outlast dlm`: locks that several machines share.

mod client;
mod cluster;
mod control;
mod corosync;
mod lock;
mod node;
mod protocol;
mod show;

use crate::exit::Outcome;
use clap::{Args, Subcommand};
use std::path::PathBuf;

const LONG_HELP: &str = "\
Locks that several machines share, by the protocol of Linux's distributed lock manager: other members may be kernels (of a \
GFS2 or cluster-LVM cluster) or run this command.

`node` runs a member. The other commands ask the member that runs on this machine. Who the members are is told, by a file or by \
`members`; there is no quorum in it and nobody is shot: see docs/dlm.md before you rely on it.";

const EXAMPLES: &str = "\
Examples:
  Three machines, each with the same file /etc/outlast/cluster:
    node 1 10.0.0.1
    node 2 10.0.0.2
    node 3 10.0.0.3

  On the second one:
    outlast dlm node --id 2 --cluster /etc/outlast/cluster --lockspace jobs

  And on any of them:
    outlast dlm lock backup -- /usr/local/bin/backup
    outlast dlm ls
    outlast dlm status";

/// Share locks between machines, and with Linux's kernels
#[derive(Debug, Args)]
#[command(long_about = LONG_HELP, after_help = EXAMPLES)]
pub(crate) struct DlmArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Node(node::NodeArgs),
    Lock(lock::LockArgs),
    Ls(show::LsArgs),
    Status(show::StatusArgs),
    Members(show::MembersArgs),
}

/// Where the member of this machine is asked.
#[derive(Debug, Clone, Args)]
pub(crate) struct SocketArgs {
    /// The socket of the member that runs on this machine
    #[arg(long, value_name = "PATH", env = "OUTLAST_DLM_SOCKET", default_value_os_t = default_socket())]
    socket: PathBuf,
}

fn default_socket() -> PathBuf {
    let folder = if rustix::process::geteuid().is_root() {
        Some(PathBuf::from("/run"))
    } else {
        // A folder that others can write to is no place for it: they could be there first.
        std::env::var_os("XDG_RUNTIME_DIR").or_else(|| std::env::var_os("HOME")).map(PathBuf::from)
    };
    folder.unwrap_or_default().join("outlast-dlm.sock")
}

pub(crate) async fn run(args: DlmArgs) -> Outcome {
    match args.command {
        Command::Node(args) => node::run(args).await,
        Command::Lock(args) => lock::run(args).await,
        Command::Ls(args) => show::ls(args).await,
        Command::Status(args) => show::status(args).await,
        Command::Members(args) => show::members(args).await,
    }
}
