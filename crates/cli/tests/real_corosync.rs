//! `outlast dlm node --membership corosync` beside real corosync: two machines that a cable joins, each with its own.
#![allow(clippy::disallowed_methods, reason = "a test waits for processes")]

mod common;

use common::{Home, PATIENCE};
use outlast_kernel_harness::{Lab, Namespace, address, lab};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Each corosync has these folders to itself.
const OWN_FOLDERS: &str = "/run /dev/shm /var/lib/corosync /var/log/corosync";

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Machine {
    number: u8,
    namespace: Namespace,
    corosync: Option<Running>,
    member: Option<Running>,
}

fn is_installed() -> bool {
    ["/usr/sbin/corosync", "/usr/sbin/corosync-quorumtool"].iter().all(|program| Path::new(program).exists())
}

fn configuration() -> String {
    let nodes: String = [1, 2]
        .map(|node| format!("  node {{\n    ring0_addr: {}\n    nodeid: {node}\n  }}\n", address(node)))
        .concat();
    format!(
        "totem {{\n  version: 2\n  cluster_name: outlast\n  transport: knet\n  crypto_cipher: none\n  crypto_hash: none\n}}\n\
         nodelist {{\n{nodes}}}\n\
         quorum {{\n  provider: corosync_votequorum\n  expected_votes: 2\n}}\n\
         logging {{\n  to_stderr: yes\n  to_syslog: no\n  to_logfile: no\n}}\n"
    )
}

impl Machine {
    fn new(lab: &Lab, number: u8) -> Self {
        let namespace = lab.machine(number).expect("a machine");
        Self { number, namespace, corosync: None, member: None }
    }

    fn start_corosync(&mut self, home: &Home) {
        let script = format!(
            "for folder in {OWN_FOLDERS}; do mkdir -p $folder && mount -t tmpfs tmpfs $folder; done; \
             exec /usr/sbin/corosync -f -c {}",
            home.file("corosync.conf").display()
        );
        // Each becomes the next: the process is corosync in the end.
        let mut command = self.namespace.command("unshare");
        command.args(["--mount", "sh", "-c", &script]).stdout(Stdio::null()).stderr(Stdio::null());
        self.corosync = Some(Running(command.spawn().expect("corosync")));
    }

    /// A program where it finds this machine's corosync.
    fn command(&self, program: &str) -> Command {
        let corosync = self.corosync.as_ref().expect("it runs").0.id();
        let mut command = Command::new("nsenter");
        command.args(["-t", &corosync.to_string(), "--mount", "--net", program]).stdin(Stdio::null());
        command
    }

    fn wait_for_corosync(&self, nodes: usize) {
        let what = format!("Nodes:            {nodes}");
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.command("corosync-quorumtool").args(["-s", "-i"]).output().expect("nsenter");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if said.contains(&what) {
                return;
            }
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(Instant::now() < end, "machine {}: {what}: {said}{errors}", self.number);
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn socket(&self, home: &Home) -> String {
        home.file(&format!("{}.sock", self.number)).to_string_lossy().into_owned()
    }

    fn start_member(&mut self, home: &Home) {
        let mut command = self.command(env!("CARGO_BIN_EXE_outlast"));
        command.args(["dlm", "node", "--membership", "corosync", "--lockspace", "jobs"]);
        command.args(["--socket", &self.socket(home)]).stdout(Stdio::null());
        self.member = Some(Running(command.spawn().expect("a member")));
    }

    fn outlast(&self, home: &Home, arguments: &[&str]) -> Command {
        let mut command = home.outlast(&["dlm"]);
        command.args(arguments).env("OUTLAST_DLM_SOCKET", self.socket(home));
        command
    }

    fn wait_until_running(&self, home: &Home, wanted: bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.outlast(home, &["status", "--json"]).output().expect("the command");
            let status: Option<Value> = serde_json::from_slice(&output.stdout).ok();
            if status.as_ref().is_some_and(|status| status["lockspaces"][0]["running"] == wanted) {
                return;
            }
            assert!(Instant::now() < end, "machine {}: running: {wanted}: {status:?}", self.number);
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

#[test]
fn members_follow_corosync_stand_still_without_a_quorum_and_end_without_corosync() {
    let Some(lab) = lab().expect("a lab") else { return };
    if !is_installed() {
        common::skip("the package corosync is not installed: cargo xtask test installs it");
        return;
    }
    let home = Home::new();
    home.write("corosync.conf", configuration().as_bytes());
    let [mut one, mut two] = [1, 2].map(|number| Machine::new(&lab, number));
    for machine in [&mut one, &mut two] {
        machine.start_corosync(&home);
    }
    for machine in [&mut one, &mut two] {
        machine.wait_for_corosync(2);
        machine.start_member(&home);
    }
    for machine in [&one, &two] {
        machine.wait_until_running(&home, true);
    }

    // They share locks.
    let flag = home.file("held");
    let script = format!("touch {}; sleep 1000", flag.display());
    let holder = one.outlast(&home, &["lock", "job", "--", "sh", "-c", &script]).spawn().expect("a command");
    let holder = Running(holder);
    let end = Instant::now() + PATIENCE;
    while !flag.exists() {
        assert!(Instant::now() < end, "the command runs");
        std::thread::sleep(LOOK_EVERY);
    }
    let try_lock = |machine: &Machine| {
        machine.outlast(&home, &["lock", "-n", "job", "--", "true"]).status().expect("the command").code()
    };
    assert_eq!(try_lock(&two), Some(1), "the other one holds it");
    drop(holder);

    // Corosync dies on the second machine: its member ends, and the first has no quorum alone.
    drop(two.corosync.take());
    one.wait_until_running(&home, false);
    let mut member = two.member.take().expect("it ran");
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = member.0.try_wait().expect("a status") {
            break status;
        }
        assert!(Instant::now() < end, "a member without corosync ends");
        std::thread::sleep(LOOK_EVERY);
    };
    assert_eq!(status.code(), Some(1));
    let waiting =
        one.outlast(&home, &["lock", "-w", "1s", "other", "--", "true"]).status().expect("the command");
    assert!(!waiting.success(), "nothing is locked without a quorum");

    // Both are back.
    two.start_corosync(&home);
    one.wait_for_corosync(2);
    two.wait_for_corosync(2);
    two.start_member(&home);
    for machine in [&one, &two] {
        machine.wait_until_running(&home, true);
        assert_eq!(
            machine.outlast(&home, &["lock", "job", "--", "true"]).status().expect("it").code(),
            Some(0)
        );
    }
}
