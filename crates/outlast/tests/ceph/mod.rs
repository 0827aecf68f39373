//! Real Ceph for the tests named `real_*`: clusters that start for one test and end with it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

pub mod objects;
pub mod program;

use outlast::{Auth, Builder, EntityAddr, EntityName, Keyring, Message, Messenger, Profile};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Every wait on a real daemon ends here at the latest.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Message types of Ceph (`src/include/ceph_fs.h`): what a client and a monitor or an MDS say in these tests.
pub const MSG_MON_MAP: u16 = 4;
pub const MSG_MON_SUBSCRIBE: u16 = 15;
pub const MSG_CLIENT_SESSION: u16 = 22;

/// Whether the test shall run. If not, that is said and noted, so that nobody takes it for passed.
pub fn wanted() -> bool {
    if std::env::var_os("OUTLAST_REAL_PEERS").is_some() {
        return true;
    }
    skip("OUTLAST_REAL_PEERS is not set: cargo xtask test sets it and installs what the test needs");
    false
}

fn skip(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().expect("libtest names its threads");
    eprintln!("SKIPPED {name}: {reason}");
    if let Some(path) = std::env::var_os("OUTLAST_SKIP_LOG") {
        let mut log =
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the log opens");
        log.write_all(format!("{name}: {reason}\n").as_bytes()).expect("the log takes a line");
    }
}

/// The project's script that runs real Ceph.
pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../peers/ceph")
}

fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("the script runs");
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// A cluster on this machine; it ends when this is dropped, or with this process.
pub struct Cluster {
    folder: PathBuf,
    facts: BTreeMap<String, String>,
    /// Somebody else's, who stops it.
    joined: bool,
}

fn facts(said: &str) -> BTreeMap<String, String> {
    let pairs = said.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Cluster {
    /// Starts one.
    pub fn start(release: &str, options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("outlast-ceph-{}-{number}", std::process::id()));
        let owner = std::process::id().to_string();
        let mut command = Command::new(script());
        command.args(["start", release]).arg(&folder).args(options).args(["--owner", &owner]);
        Self { facts: facts(&run(&mut command)), folder, joined: false }
    }

    /// One that runs already.
    pub fn join(folder: PathBuf) -> Self {
        let facts = facts(&run(Command::new(script()).arg("info").arg(&folder)));
        Self { folder, facts, joined: true }
    }

    /// What the script says of the cluster, by name.
    pub fn fact(&self, name: &str) -> &str {
        self.facts.get(name).unwrap_or_else(|| panic!("the script does not say {name}: {:?}", self.facts))
    }

    /// A program of the release, with the cluster's configuration.
    pub fn exec(&self, arguments: &[&str]) -> String {
        run(Command::new(script()).arg("exec").arg(&self.folder).args(arguments))
    }

    /// The keys of everybody.
    pub fn keyring(&self) -> Keyring {
        let text = std::fs::read(self.fact("keyring_all")).expect("the keyring is there");
        Keyring::parse(&text).expect("Ceph writes keyrings that can be read")
    }

    /// Faults that a daemon has injected into itself, as it notes them in its log.
    pub fn injected(&self, daemon: &str) -> usize {
        let log = Path::new(self.fact("logs")).join(format!("{daemon}.log"));
        let text = std::fs::read(log).expect("the log is there");
        String::from_utf8_lossy(&text).matches("injecting socket failure").count()
    }

    /// A daemon's own address, with its nonce, from the cluster's maps.
    pub fn known_as(&self, daemon: &str) -> EntityAddr {
        let place = self.fact(daemon);
        let dump = self.exec(&["ceph", if daemon.starts_with("osd") { "osd" } else { "fs" }, "dump"]);
        let start = dump.find(&format!("v2:{place}/")).unwrap_or_else(|| panic!("{place} is not in {dump}"));
        let rest = &dump[start..];
        let end = rest.find([',', ']', ' ', '\n']).expect("an address ends");
        rest[..end].parse().expect("Ceph prints addresses that can be read")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.joined {
            return;
        }
        let stopped = Command::new(script()).arg("stop").arg(&self.folder).stdin(Stdio::null()).output();
        if stopped.is_ok_and(|o| o.status.success()) && !std::thread::panicking() {
            // Left behind when a test fails: its logs may tell why.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

pub fn admin() -> EntityName {
    "client.admin".parse().expect("a name")
}

/// A client of a cluster.
pub fn client(auth: Auth) -> Builder {
    Messenger::builder(admin()).auth(auth).profile(Profile::Ceph)
}

/// Asks a monitor for the map of monitors.
pub fn subscribe_monmap() -> Message {
    subscribe("monmap")
}

/// Asks a monitor for a map once (`MMonSubscribe`): names of maps, each with where to start and flags, and a host name.
pub fn subscribe(map: &str) -> Message {
    let mut front = Vec::new();
    front.extend_from_slice(&1_u32.to_le_bytes());
    front.extend_from_slice(&u32::try_from(map.len()).expect("short").to_le_bytes());
    front.extend_from_slice(map.as_bytes());
    front.extend_from_slice(&0_u64.to_le_bytes());
    front.push(1);
    front.extend_from_slice(&0_u32.to_le_bytes());
    let mut message = Message::new(MSG_MON_SUBSCRIBE).front(front);
    message.version = 3;
    message
}
