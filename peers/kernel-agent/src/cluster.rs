//! What `dlm_controld` does on a real node: tells the kernel who the nodes and the members of lockspaces are.
//!
//! Sources: `fs/dlm/config.c` (configfs), `fs/dlm/lockspace.c` (sysfs, uevents), `fs/dlm/user.c` (devices).

use crate::locks;
use crate::wait::{Deadline, Failure};
use outlast_kernel_agent::device;
use outlast_kernel_agent::protocol::Node;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const CLUSTER: &str = "/sys/kernel/config/dlm/cluster";
const CONTROL_DEVICE: &str = "/dev/dlm-control";
/// `struct sockaddr_storage`, which is written whole.
const ADDRESS_BYTES: usize = 128;
const FAMILY_IPV4: u16 = 2;
/// Locks that end by themselves have ended after that.
const BUSY_SECONDS: u64 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The end of a write to the control device.
type Ended = Receiver<Result<(), Failure>>;

/// Lockspaces that the kernel is leaving.
static LEAVING: Mutex<BTreeMap<String, Ended>> = Mutex::new(BTreeMap::new());

/// Says who the nodes are. Those that are known already keep what was said of them.
pub(crate) fn set_up(
    name: &str,
    node: u32,
    nodes: &[Node],
    settings: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let cluster = Path::new(CLUSTER);
    make_folder(cluster)?;
    put(&cluster.join("cluster_name"), name)?;
    for (attribute, value) in settings {
        put(&cluster.join(attribute), value)?;
    }
    for Node { id, address } in nodes {
        let comm = comm(*id);
        if comm.exists() {
            continue;
        }
        make_folder(&comm)?;
        // The address is kept under the number, which must be there first.
        put(&comm.join("nodeid"), id)?;
        put_bytes(&comm.join("addr"), &socket_address(*address))?;
        put(&comm.join("local"), u8::from(*id == node))?;
    }
    Ok(())
}

/// The kernel closes the connections of a node that it is to forget.
pub(crate) fn forget(node: u32) -> Result<(), Failure> {
    let comm = comm(node);
    fs::remove_dir(&comm).map_err(Failure::at(comm.display()))
}

/// Joins. The kernel's side of it ends when all members have recovered together.
pub(crate) fn join(lockspace: &str, number: u32, members: &[u32], deadline: Deadline) -> Result<(), Failure> {
    make_folder(&space(lockspace))?;
    set_members(lockspace, members)?;
    let ended = control(device::create_lockspace(lockspace))?;
    let sysfs = sysfs(lockspace);
    // What cluster software waits for is an event; the attributes are there before that.
    let early = deadline.wait_for("the lockspace in sysfs", || match ended.try_recv() {
        Ok(result) => Some(Some(result)),
        Err(TryRecvError::Disconnected) => Some(None),
        Err(TryRecvError::Empty) => sysfs.join("event_done").exists().then_some(None),
    })?;
    if let Some(result) = early {
        return result;
    }
    put(&sysfs.join("id"), number)?;
    put(&sysfs.join("control"), 1)?;
    put(&sysfs.join("event_done"), 0)?;
    ended.recv_timeout(deadline.left()).map_err(|_| Failure::new("not in time: the end of recovery"))?
}

/// Stops the lockspace; ends when no lock is being worked on.
pub(crate) fn stop(lockspace: &str) -> Result<(), Failure> {
    put(&sysfs(lockspace).join("control"), 0)
}

/// Starts the stopped lockspace with other members.
pub(crate) fn start(lockspace: &str, members: &[u32]) -> Result<(), Failure> {
    set_members(lockspace, members)?;
    put(&sysfs(lockspace).join("control"), 1)
}

/// Leaves, as far as the kernel goes before it waits for the answer of cluster software.
pub(crate) fn begin_to_leave(lockspace: &str, force: bool, deadline: Deadline) -> Result<(), Failure> {
    deadline
        .wait_for("the end of the processes that lock", || (locks::open_in(lockspace) == 0).then_some(()))?;
    // The kernel ends the locks of a process that has died behind its back, and refuses until that is done.
    let busy = Deadline::after(BUSY_SECONDS);
    loop {
        match release(lockspace, force, deadline) {
            Err(failure) if failure.errno == Errno::BUSY.raw_os_error() && !busy.left().is_zero() => {
                std::thread::sleep(BUSY_PAUSE);
            }
            other => return other,
        }
    }
}

fn release(lockspace: &str, force: bool, deadline: Deadline) -> Result<(), Failure> {
    let device = locks::device(lockspace);
    let number = fs::metadata(&device).map_err(Failure::at(device.display()))?.rdev();
    let ended = control(device::remove_lockspace(rustix::fs::minor(number), force))?;
    // The device goes right before the kernel asks cluster software to take the node out. An answer that came
    // earlier, to a kernel that then refuses, would be taken for the answer to the next question.
    let early = deadline.wait_for("the end of the lockspace's device", || match ended.try_recv() {
        Ok(result) => Some(Some(result)),
        Err(TryRecvError::Disconnected) => Some(None),
        Err(TryRecvError::Empty) => (!device.exists()).then_some(None),
    })?;
    if let Some(result) = early {
        return result;
    }
    LEAVING.lock().unwrap_or_else(PoisonError::into_inner).insert(lockspace.to_owned(), ended);
    Ok(())
}

/// Answers the kernel. While members of the lockspace have not been told, it waits for seconds for their goodbye.
pub(crate) fn end_leaving(lockspace: &str, deadline: Deadline) -> Result<(), Failure> {
    let leaving = LEAVING.lock().unwrap_or_else(PoisonError::into_inner).remove(lockspace);
    let ended = leaving.ok_or_else(|| Failure::new("nobody began to leave"))?;
    let sysfs = sysfs(lockspace);
    put(&sysfs.join("control"), 0)?;
    put(&sysfs.join("event_done"), 0)?;
    ended.recv_timeout(deadline.left()).map_err(|_| Failure::new("not in time: the leaving"))??;
    set_members(lockspace, &[])?;
    let space = space(lockspace);
    fs::remove_dir(&space).map_err(Failure::at(space.display()))
}

/// Writes to the control device, where a write may last: its end comes through the channel.
fn control(request: Vec<u8>) -> Result<Ended, Failure> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(CONTROL_DEVICE)
        .map_err(Failure::at(CONTROL_DEVICE))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let result = file.write(&request).map(drop).map_err(Failure::at(CONTROL_DEVICE));
        // Nobody waits any more if it took too long.
        let _ = sender.send(result);
    });
    Ok(receiver)
}

/// A member that stays keeps its folder: one that was made anew is a node that has joined anew.
fn set_members(lockspace: &str, members: &[u32]) -> Result<(), Failure> {
    let nodes = space(lockspace).join("nodes");
    let there = fs::read_dir(&nodes).map_err(Failure::at(nodes.display()))?;
    for entry in there {
        let path = entry.map_err(Failure::at(nodes.display()))?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        if number.is_none_or(|number: u32| !members.contains(&number)) {
            fs::remove_dir(&path).map_err(Failure::at(path.display()))?;
        }
    }
    for member in members {
        let node = nodes.join(member.to_string());
        if !node.exists() {
            make_folder(&node)?;
            put(&node.join("nodeid"), member)?;
            put(&node.join("weight"), 1)?;
        }
    }
    Ok(())
}

fn space(lockspace: &str) -> PathBuf {
    Path::new(CLUSTER).join("spaces").join(lockspace)
}

fn comm(node: u32) -> PathBuf {
    Path::new(CLUSTER).join("comms").join(node.to_string())
}

fn sysfs(lockspace: &str) -> PathBuf {
    Path::new("/sys/kernel/dlm").join(lockspace)
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    if path.exists() { Ok(()) } else { fs::create_dir(path).map_err(Failure::at(path.display())) }
}

fn put(path: &Path, value: impl std::fmt::Display) -> Result<(), Failure> {
    put_bytes(path, value.to_string().as_bytes())
}

/// In one write: the kernel takes each for a whole value.
fn put_bytes(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let open = |path: &Path| -> std::io::Result<File> { OpenOptions::new().write(true).open(path) };
    open(path).and_then(|mut file| file.write(bytes)).map(drop).map_err(Failure::at(path.display()))
}

/// The port is not looked at: it is one for all nodes, and an attribute of the cluster.
fn socket_address(address: Ipv4Addr) -> [u8; ADDRESS_BYTES] {
    let mut bytes = [0; ADDRESS_BYTES];
    let [family, rest] = [&FAMILY_IPV4.to_le_bytes()[..], &address.octets()[..]];
    // Family, port, address.
    for (to, from) in bytes.iter_mut().zip(family.iter().chain(&[0, 0]).chain(rest)) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_whole_storage_structure() {
        let bytes = socket_address(Ipv4Addr::new(10, 77, 0, 2));
        assert_eq!(bytes[..10], [2, 0, 0, 0, 10, 77, 0, 2, 0, 0]);
        assert_eq!(bytes.len(), 128);
    }
}
