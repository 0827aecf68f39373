//! The socket at which a member is asked.

use super::node::Member;
use super::protocol::{LINE_BYTES_MAX, Lock, LockspaceStatus, Peer, Reply, Request, Resource, Status, Step};
use crate::exit::{Context as _, Outcome};
use outlast_dlm::wire::{Mode, NodeId, Queue};
use outlast_lockspace::machine::ResourceView;
use outlast_lockspace::node::{Guard, LockError, LockOptions, Lockspace};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Who asks a member is who runs it.
const SOCKET_MODE: u32 = 0o600;
/// Who does not want to wait has an answer after this time, whatever the master and the membership are at.
const NO_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long who connects may take to say what he wants.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Listens at `path`. What a dead member left there is taken away.
pub(super) async fn listen(path: &Path) -> Outcome<UnixListener> {
    let what = format!("cannot listen at {}", path.display());
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && is_abandoned(path).await => {
            fs::remove_file(path).context(&what)?;
            UnixListener::bind(path)
        }
        other => other,
    };
    let listener = listener.context(&what)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).context(&what)?;
    Ok(listener)
}

/// A socket that nobody listens at. What is no socket is somebody's file.
async fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).await.is_err_and(refused)
}

/// Answers for ever.
pub(super) async fn serve(member: &Arc<Member>, listener: UnixListener) {
    // With them go the locks that they hold, before the node says goodbye.
    let mut asking = tokio::task::JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let member = Arc::clone(member);
                asking.spawn(async move {
                    // Who has gone away needs no answer.
                    let _ = answer(&member, stream).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection in");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while asking.try_join_next().is_some() {}
    }
}

async fn answer(member: &Member, stream: UnixStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    let mut limited = (&mut stream).take(LINE_BYTES_MAX as u64);
    match tokio::time::timeout(REQUEST_MAX, limited.read_until(b'\n', &mut line)).await {
        Ok(Ok(length)) if length > 0 => {}
        _ => return Ok(()),
    }
    let request = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(error) => return write(&mut stream, &failed(error)).await,
    };
    match request {
        Request::Lock { lockspace, name, mode, wait_ms } => {
            let locking = lock(member, lockspace.as_deref(), &name, &mode, wait_ms);
            let locked = tokio::select! {
                locked = locking => locked,
                // Who asked is gone, or talks out of turn: his request goes with him.
                () = ended(&mut stream) => return Ok(()),
            };
            match locked {
                Ok(guard) => {
                    write(&mut stream, &Reply::Granted).await?;
                    ended(&mut stream).await;
                    // The process that held it may be dead: whoever waits wants to know soon.
                    if let Err(error) = guard.unlock().await {
                        tracing::warn!(%error, "a lock was given up");
                    }
                    Ok(())
                }
                Err(reply) => write(&mut stream, &reply).await,
            }
        }
        Request::Ls { lockspace } => {
            let reply = resources(member, lockspace.as_deref()).unwrap_or_else(|reply| reply);
            write(&mut stream, &reply).await
        }
        Request::Status => write(&mut stream, &Reply::Status(status(member))).await,
        Request::Members { step, nodes, change } => {
            let reply = change_members(member, step, nodes, change).unwrap_or_else(|reply| reply);
            write(&mut stream, &reply).await
        }
        Request::Fence { node } => {
            member.node.fence(NodeId(node));
            write(&mut stream, &Reply::Done).await
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Reply {
    Reply::Failed { error: error.to_string() }
}

async fn write(stream: &mut BufReader<UnixStream>, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Until the other end closes.
async fn ended(stream: &mut BufReader<UnixStream>) {
    let mut byte = [0];
    let _ = stream.read(&mut byte).await;
}

fn find<'a>(member: &'a Member, name: Option<&str>) -> Result<&'a Lockspace, Reply> {
    let known = || member.spaces.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, member.spaces.as_slice()) {
        (None, [(_, only)]) => Ok(only),
        (None, _) => Err(failed(format!("there are several lockspaces, say which: {}", known()))),
        (Some(name), all) => match all.iter().find(|(other, _)| other == name) {
            Some((_, space)) => Ok(space),
            None => Err(failed(format!("this node is not in lockspace {name}; it is in {}", known()))),
        },
    }
}

async fn lock(
    member: &Member,
    lockspace: Option<&str>,
    name: &str,
    mode: &str,
    wait_ms: Option<u64>,
) -> Result<Guard, Reply> {
    let space = find(member, lockspace)?;
    let mode = Mode::from_name(mode).ok_or_else(|| failed(format!("`{mode}` is no lock mode")))?;
    let options = match wait_ms {
        None => LockOptions::new(mode),
        // Not even for the members to agree.
        Some(0) => LockOptions::new(mode).no_wait().within(NO_WAIT_MAX),
        Some(time) => LockOptions::new(mode).within(Duration::from_millis(time)),
    };
    match space.lock(name, options).await {
        Ok(guard) => Ok(guard),
        Err(LockError::WouldBlock | LockError::Deadline) => Err(Reply::Held),
        Err(error) => Err(failed(error)),
    }
}

fn change_members(member: &Member, step: Step, nodes: Vec<u32>, change: u64) -> Result<Reply, Reply> {
    let nodes: Vec<_> = nodes.into_iter().map(NodeId).collect();
    match step {
        Step::Set => member.set_members(&nodes, change).map_err(failed)?,
        Step::Suspend => {
            for (_, space) in &member.spaces {
                space.suspend().map_err(failed)?;
            }
        }
        Step::Resume => {
            for (_, space) in &member.spaces {
                space.resume(&nodes).map_err(failed)?;
            }
        }
    }
    Ok(Reply::Done)
}

fn resources(member: &Member, lockspace: Option<&str>) -> Result<Reply, Reply> {
    if lockspace.is_some() {
        find(member, lockspace)?;
    }
    let mut all = Vec::new();
    for (name, space) in &member.spaces {
        if lockspace.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let resources = space.resources().map_err(failed)?;
        all.extend(resources.iter().filter(|r| !r.unused).map(|resource| describe(name, resource)));
    }
    Ok(Reply::Resources(all))
}

fn describe(lockspace: &str, resource: &ResourceView) -> Resource {
    let lock = |lock: &outlast_lockspace::machine::LockView| Lock {
        node: lock.owner.0,
        process: lock.process,
        granted: lock.granted.map(|mode| mode.to_string()),
        requested: lock.requested.map(|mode| mode.to_string()),
        state: match lock.queue {
            Some(Queue::Granted) => "granted",
            Some(Queue::Waiting) => "waiting",
            Some(Queue::Converting) => "converting",
            None => "asking",
        }
        .to_owned(),
    };
    Resource {
        lockspace: lockspace.to_owned(),
        name: resource.name.to_string(),
        master: resource.master.map(|node| node.0),
        directory: resource.directory.0,
        locks: resource.locks.iter().map(lock).collect(),
        value: resource.value.as_ref().map(|value| value.iter().map(|byte| format!("{byte:02x}")).collect()),
        value_not_valid: resource.value_not_valid,
    }
}

fn status(member: &Member) -> Status {
    let lockspace = |(name, space): &(String, Lockspace)| LockspaceStatus {
        name: name.clone(),
        id: space.id().0,
        running: space.is_running(),
        generation: space.generation().unwrap_or_default(),
    };
    let peer = |peer: outlast_lockspace::node::PeerStatus| Peer {
        node: peer.node.0,
        address: peer.address.to_string(),
        version: peer.version.map(|version| version.to_string()),
        state: peer.state.to_string(),
        connections: peer.statistics.channels,
        next_number: peer.statistics.sent_number,
        acknowledged: peer.statistics.acked_number,
        expected: peer.statistics.expected_number,
        unacknowledged: peer.statistics.unacknowledged,
        resets: peer.statistics.connections_lost,
        replayed: peer.statistics.replayed,
        duplicates: peer.statistics.duplicates_dropped,
        lost: peer.statistics.lost,
    };
    Status {
        node: member.node.id().0,
        lockspaces: member.spaces.iter().map(lockspace).collect(),
        peers: member.node.peers().into_iter().map(peer).collect(),
    }
}
