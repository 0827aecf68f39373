//! The network of one test.

use crate::capture::Capture;
use crate::guest::{Boot, Guest, Options};
use crate::namespace::{Namespace, ip, run};
use crate::{LabError, agent};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The last part of the bridge's own address.
pub const HOST_OCTET: u8 = 254;
/// Namespaces and folders of labs are called so; then follow the process and a number.
const PREFIX: &str = "outlast-kernel-";
const BRIDGE: &str = "br0";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The address of a node, guest or not: every lab has the same ones.
pub fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, node)
}

/// A network namespace with a bridge that guests and machines hang on, and a folder.
///
/// Addresses are 10.77.0.0/24, the bridge's own ends in [`HOST_OCTET`]; the MTU is 1500.
pub struct Lab {
    inner: Arc<Inner>,
}

/// Lives as long as a guest does.
pub(crate) struct Inner {
    pub(crate) namespace: Namespace,
    name: String,
    folder: PathBuf,
}

impl Lab {
    /// A new network.
    ///
    /// # Errors
    ///
    /// It takes root and iproute2.
    pub fn new() -> Result<Self, LabError> {
        sweep();
        let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir(&folder).map_err(LabError::at(folder.display()))?;
        let namespace = Namespace::new(name.clone())?;
        // From here on all goes with this.
        let inner = Inner { namespace, name, folder };
        inner.namespace.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        inner.namespace.ip(&["address", "add", &format!("{}/24", address(HOST_OCTET)), "dev", BRIDGE])?;
        inner.namespace.ip(&["link", "set", BRIDGE, "up"])?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The namespace of the bridge, from which all nodes are reached.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// A folder for the test; it goes with the lab.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Boots a guest as this node, 1 to 253, and waits until it serves.
    ///
    /// # Errors
    ///
    /// The kernel is not installed, or the guest does not come up.
    pub fn boot(&self, node: u8) -> Result<Guest, LabError> {
        self.boot_with(node, &Options::default())
    }

    /// As [`Lab::boot`], with more processors, memory or files.
    ///
    /// # Errors
    ///
    /// As [`Lab::boot`].
    pub fn boot_with(&self, node: u8, options: &Options) -> Result<Guest, LabError> {
        let agent = agent::build()?;
        let folder = self.inner.folder.join(format!("node{node}"));
        let boot = Boot { node, options, bridge: BRIDGE, folder, agent };
        Guest::boot(Arc::clone(&self.inner), boot)
    }

    /// Boots several guests at once.
    ///
    /// # Errors
    ///
    /// As [`Lab::boot`].
    pub fn boot_all(&self, nodes: &[u8]) -> Result<Vec<Guest>, LabError> {
        std::thread::scope(|scope| {
            let starting: Vec<_> = nodes.iter().map(|node| scope.spawn(|| self.boot(*node))).collect();
            let started = starting.into_iter().map(|thread| thread.join());
            started.map(|guest| guest.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }

    /// A namespace on the bridge with the address of this node: a machine for a node that is no guest.
    ///
    /// # Errors
    ///
    /// There is one already.
    pub fn machine(&self, node: u8) -> Result<Namespace, LabError> {
        let machine = Namespace::new(format!("{}-n{node}", self.inner.name))?;
        let port = port_of(node);
        let bridge = &self.inner.namespace;
        let pair = ["type", "veth", "peer", "name", "eth0", "netns", machine.name()];
        bridge.ip(&[&["link", "add", &port][..], &pair].concat())?;
        bridge.ip(&["link", "set", &port, "master", BRIDGE, "up"])?;
        machine.ip(&["address", "add", &format!("{}/24", address(node)), "dev", "eth0"])?;
        machine.ip(&["link", "set", "eth0", "up"])?;
        Ok(machine)
    }

    /// Pulls the cable of a node, guest or machine, or puts it back.
    ///
    /// # Errors
    ///
    /// There is no such node.
    pub fn cable(&self, node: u8, there: bool) -> Result<(), LabError> {
        self.inner.namespace.ip(&["link", "set", &port_of(node), if there { "up" } else { "down" }])
    }

    /// Records all DLM traffic on the bridge from now on.
    ///
    /// # Errors
    ///
    /// `tcpdump` is missing or does not start.
    pub fn capture(&self) -> Result<Capture, LabError> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Capture::start(Arc::clone(&self.inner), BRIDGE, self.inner.folder.join(format!("{number}.pcap")))
    }
}

/// The device in the bridge.
pub(crate) fn port_of(node: u8) -> String {
    format!("node{node}")
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What is left is swept when the next lab is made.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes what labs of processes have left that were killed. Whatever does not go is in nobody's way.
fn sweep() {
    let left = |name: &str| {
        let process = name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok()?;
        (!Path::new("/proc").join(process.to_string()).exists()).then_some(())
    };
    if let Ok(list) = run(Command::new("ip").args(["netns", "list"])) {
        let names = list.lines().filter_map(|line| line.split_whitespace().next());
        for name in names.filter(|name| left(name).is_some()) {
            let _ = ip(&["netns", "del", name]);
        }
    }
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_str().and_then(left).is_some()) {
        let _ = fs::remove_dir_all(entry.path());
    }
}
