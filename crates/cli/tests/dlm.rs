//! `outlast dlm`: members on addresses of loopback, which share locks as three machines would.
#![allow(clippy::disallowed_methods, reason = "a test waits for processes")]

mod common;

use common::{Home, PATIENCE};
use serde_json::Value;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Three members, each on an address of its own.
struct Cluster {
    home: Home,
    port: u16,
    nodes: Vec<Option<Child>>,
}

/// Addresses that no other test of this machine has: the process's number is in them.
fn address(node: usize) -> String {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{low}.{node}", 64 + high % 64)
}

/// A port that is free on all of them; the same on all nodes.
fn free_port() -> u16 {
    for _ in 0..100 {
        let first = TcpListener::bind((address(1), 0)).expect("a port");
        let port = first.local_addr().expect("an address").port();
        if (2..=3).all(|node| TcpListener::bind((address(node), port)).is_ok()) {
            return port;
        }
    }
    panic!("no port is free");
}

impl Cluster {
    fn start() -> Self {
        let home = Home::new();
        let mut cluster = Self { home, port: free_port(), nodes: vec![None, None, None] };
        cluster.write("members 1 2 3\n");
        for node in 1..=3 {
            cluster.start_node(node);
        }
        for node in 1..=3 {
            cluster.wait_for(node, "all are members", |status| status["lockspaces"][0]["running"] == true);
        }
        cluster
    }

    fn write(&self, more: &str) {
        let nodes: String = (1..=3).map(|node| format!("node {node} {}\n", address(node))).collect();
        // In one go, as an editor does.
        let file = self.home.write("cluster.new", format!("{nodes}{more}").as_bytes());
        std::fs::rename(file, self.home.file("cluster")).expect("a file");
    }

    fn socket(&self, node: usize) -> PathBuf {
        self.home.file(&format!("{node}.sock"))
    }

    fn start_node(&mut self, node: usize) {
        let (id, port, socket) = (node.to_string(), self.port.to_string(), self.socket(node));
        let socket = socket.to_string_lossy();
        let mut command = self.home.outlast(&[
            "dlm",
            "node",
            "--id",
            &id,
            "--cluster",
            "cluster",
            "--lockspace",
            "jobs",
            "--port",
            &port,
            "--socket",
            &socket,
        ]);
        let child = command.stdout(Stdio::null()).spawn().expect("a member");
        self.nodes[node - 1] = Some(child);
    }

    fn command(&self, node: usize, arguments: &[&str]) -> Command {
        let mut command = self.home.outlast(&["dlm"]);
        command.args(arguments).env("OUTLAST_DLM_SOCKET", self.socket(node));
        command
    }

    fn run(&self, node: usize, arguments: &[&str]) -> Output {
        self.command(node, arguments).output().expect("the command")
    }

    /// A command that has the lock of `job` and goes on with `then`.
    fn hold(&self, node: usize, then: &str, stdin: Stdio) -> Child {
        let flag = self.home.file("held");
        let script = format!("touch {}; {then}", flag.display());
        let holder = self.command(node, &lock(&["job"], &script)).stdin(stdin).spawn().expect("a command");
        let end = Instant::now() + PATIENCE;
        while !flag.exists() {
            assert!(Instant::now() < end, "the command runs");
            std::thread::sleep(Duration::from_millis(20));
        }
        holder
    }

    fn json(&self, node: usize, arguments: &[&str]) -> Option<Value> {
        let out = self.run(node, &[arguments, &["--json"]].concat());
        if out.status.success() { Some(serde_json::from_slice(&out.stdout).expect("JSON")) } else { None }
    }

    fn wait_for(&self, node: usize, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.json(node, &["status"]);
            match status {
                Some(status) if is_so(&status) => return status,
                other => assert!(Instant::now() < end, "node {node}: {what}: {other:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&mut self, node: usize, signal: rustix::process::Signal) -> Child {
        let child = self.nodes[node - 1].take().expect("it runs");
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("a signal");
        child
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a command ended; one that does not end is a failure, and not for ever.
fn code(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code();
        }
        if Instant::now() > end {
            let _ = child.kill();
            panic!("a command does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lock<'a>(more: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["lock"], more, &["--", "sh", "-c", script]].concat()
}

#[test]
fn commands_on_three_machines_run_one_at_a_time() {
    let cluster = Cluster::start();
    let log = cluster.home.file("log");
    let script = format!("echo begin >>{0}; sleep 0.1; echo end >>{0}", log.display());
    let running: Vec<_> = (0..9)
        .map(|number| cluster.command(number % 3 + 1, &lock(&["turn"], &script)).spawn().expect("a command"))
        .collect();
    for mut child in running {
        assert_eq!(code(&mut child), Some(0));
    }
    let log = std::fs::read_to_string(log).expect("a log");
    assert_eq!(log, "begin\nend\n".repeat(9), "never two at once");
}

#[test]
fn a_lock_is_seen_waited_for_and_refused_as_with_flock() {
    let cluster = Cluster::start();
    let mut holder = cluster.hold(1, "cat >/dev/null", Stdio::piped());
    // Others are refused, at once or in a while.
    assert_eq!(cluster.run(2, &lock(&["-n", "job"], "true")).status.code(), Some(1));
    assert_eq!(cluster.run(2, &lock(&["-n", "-E", "7", "job"], "true")).status.code(), Some(7));
    assert_eq!(cluster.run(3, &lock(&["-w", "100ms", "job"], "true")).status.code(), Some(1));
    assert_eq!(cluster.run(3, &lock(&["-n", "--mode", "nl", "job"], "true")).status.code(), Some(0));
    // It is seen on the node that holds it.
    let resources = cluster.json(1, &["ls"]).expect("resources");
    assert_eq!(resources[0]["name"], "job");
    let held = resources[0]["locks"].as_array().expect("locks").iter().find(|lock| lock["granted"] == "EX");
    assert_eq!(held.expect("held")["node"], 1);
    let shown = String::from_utf8(cluster.run(1, &["ls"]).stdout).expect("text");
    assert!(shown.contains("jobs/job") && shown.contains("EX  node 1"), "{shown}");
    // Who waits is granted when the holder ends, and the command's exit code comes back.
    let mut waiting = cluster.command(2, &lock(&["job"], "exit 42")).spawn().expect("a command");
    drop(holder.stdin.take());
    assert_eq!(code(&mut holder), Some(0));
    assert_eq!(code(&mut waiting), Some(42));

    let status = cluster.json(1, &["status"]).expect("a status");
    for peer in status["peers"].as_array().expect("peers") {
        assert_eq!((&peer["version"], &peer["state"]), (&"3.2".into(), &"Established".into()), "{peer}");
    }
    let shown = String::from_utf8(cluster.run(1, &["status"]).stdout).expect("text");
    assert!(shown.contains("lockspace jobs") && shown.contains("running"), "{shown}");
}

#[test]
fn a_member_that_was_killed_keeps_its_locks_until_the_file_says_that_it_is_gone() {
    let mut cluster = Cluster::start();
    let mut holder = cluster.hold(3, "sleep 1000", Stdio::null());
    let mut waiting = cluster.command(1, &lock(&["job"], "true")).spawn().expect("a command");
    let mut dead = cluster.signal(3, rustix::process::Signal::KILL);
    dead.wait().expect("an end");
    // Its command is told, since it may no longer be alone.
    assert_eq!(code(&mut holder), Some(5));
    std::thread::sleep(Duration::from_millis(700));
    assert!(waiting.try_wait().expect("a child").is_none(), "nobody has said that node 3 is gone");
    cluster.write("members 1 2\n");
    assert_eq!(code(&mut waiting), Some(0));
    // It comes back.
    cluster.start_node(3);
    cluster.write("members 1 2 3\nchange 2\n");
    for node in 1..=3 {
        cluster.wait_for(node, "all again", |status| {
            status["lockspaces"][0]["running"] == true
                && status["lockspaces"][0]["generation"].as_u64() >= Some(3)
        });
    }
    assert!(cluster.run(3, &lock(&["job"], "true")).status.success());
}

#[test]
fn a_member_that_is_taken_out_of_the_file_leaves_by_itself_and_says_goodbye() {
    let mut cluster = Cluster::start();
    assert!(cluster.run(2, &lock(&["job"], "true")).status.success());
    let mut holder = cluster.hold(3, "sleep 1000", Stdio::null());
    cluster.write("members 1 2\n");
    assert_eq!(code(&mut holder), Some(5), "its command is told");
    let mut left = cluster.nodes[2].take().expect("it ran");
    assert_eq!(code(&mut left), Some(0));
    assert!(!cluster.socket(3).exists());
    for node in 1..=2 {
        let status = cluster.wait_for(node, "the session is over", |status| {
            let third = status["peers"].as_array().and_then(|peers| peers.iter().find(|p| p["node"] == 3));
            status["lockspaces"][0]["generation"].as_u64() >= Some(2)
                && third.is_some_and(|peer| peer["state"] == "Closed")
        });
        let third =
            status["peers"].as_array().and_then(|peers| peers.iter().find(|p| p["node"] == 3).cloned());
        assert_eq!(third.expect("node 3")["lost"], 0);
    }
    assert!(cluster.run(1, &lock(&["job"], "true")).status.success());
}

#[test]
fn a_file_in_the_place_of_the_socket_stays() {
    let home = Home::new();
    home.write("cluster", format!("node 1 {}\n", address(9)).as_bytes());
    let precious = home.write("precious", b"mine");
    let out = home
        .outlast(&[
            "dlm",
            "node",
            "--id",
            "1",
            "--cluster",
            "cluster",
            "--lockspace",
            "a",
            "--socket",
            "precious",
        ])
        .args(["--port", &free_port().to_string()])
        .output()
        .expect("the command");
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(std::fs::read(precious).expect("a file"), b"mine");
}

#[test]
fn what_cannot_be_is_said() {
    let home = Home::new();
    let says = |arguments: &[&str], code: i32, text: &str| {
        let out = home.outlast(arguments).output().expect("the command");
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    };
    says(&["dlm", "ls", "--socket", "nobody.sock"], 5, "outlast dlm node");
    says(&["dlm", "lock", "--mode", "XX", "a", "--", "true"], 2, "NL, CR, CW, PR, PW and EX");
    says(&["dlm", "node", "--id", "1", "--cluster", "none", "--lockspace", "a", "--socket", "s"], 1, "none");
    home.write("cluster", b"node 1 127.0.0.1\n");
    says(
        &["dlm", "node", "--id", "9", "--cluster", "cluster", "--lockspace", "a", "--socket", "s"],
        2,
        "node 9",
    );
    says(
        &["dlm", "node", "--id", "1", "--cluster", "cluster", "--lockspace", "a=b", "--socket", "s"],
        2,
        "32 bits",
    );
}
