//! The command `outlast dlm` beside a Linux kernel.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test waits for processes")]

mod common;

use common::Home;
use outlast_kernel_harness::protocol::{Mode, flags, status};
use outlast_kernel_harness::{PATIENCE, address, lab};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Member(Child);

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn commands_on_our_machine_and_processes_of_a_kernel_keep_each_other_out() {
    let Some(lab) = lab().unwrap() else { return };
    let home = Home::new();
    let guest = lab.boot(1).unwrap();
    let machine = lab.machine(2).unwrap();
    guest.cluster(&[1, 2], &[]).unwrap();
    home.write("cluster", format!("node 1 {}\nnode 2 {}\n", address(1), address(2)).as_bytes());
    // The number that Linux's cluster software would give to the name.
    let number = outlast_lockspace::node::LockspaceConfig::named("jobs").id.0;

    let inside = |arguments: &[&str]| {
        let mut command: Command = machine.command(env!("CARGO_BIN_EXE_outlast"));
        command.arg("dlm").args(arguments).current_dir(home.path()).env("OUTLAST_DLM_SOCKET", "member.sock");
        command
    };
    let started = inside(&["node", "--id", "2", "--cluster", "cluster", "--lockspace", "jobs"]);
    let mut started = started;
    let _member = Member(started.stdout(Stdio::null()).spawn().unwrap());
    guest.join("jobs", number, &[1, 2]).unwrap();

    let end = Instant::now() + PATIENCE;
    while !inside(&["lock", "-n", "first", "--", "true"]).status().unwrap().success() {
        assert!(Instant::now() < end, "the member is there");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut process = guest.process("jobs").unwrap();
    process.lock(1, "report", Mode::EX, flags::NOQUEUE).unwrap();
    assert_eq!(process.ast(1).unwrap().status, status::GRANTED);
    assert_eq!(inside(&["lock", "-n", "report", "--", "true"]).status().unwrap().code(), Some(1));
    let mut waiting = inside(&["lock", "report", "--", "sh", "-c", "exit 42"]).spawn().unwrap();
    assert_eq!(process.bast(1).unwrap(), Mode::EX as u8, "the kernel's process is told that it blocks");
    assert!(waiting.try_wait().unwrap().is_none());
    process.unlock(1, 0, &[]).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(42));

    // The other way round.
    let mut holder = inside(&["lock", "backup", "--", "cat"]);
    let mut holder = holder.stdin(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = inside(&["ls"]).output().unwrap();
        if String::from_utf8_lossy(&shown.stdout).contains("EX  node 2") {
            break;
        }
        assert!(Instant::now() < end, "the command holds the lock");
        std::thread::sleep(Duration::from_millis(50));
    }
    process.lock(2, "backup", Mode::PR, flags::NOQUEUE).unwrap();
    assert_eq!(process.ast(2).unwrap().status, status::AGAIN);
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    process.lock(3, "backup", Mode::PR, 0).unwrap();
    assert_eq!(process.ast(3).unwrap().status, status::GRANTED);

    let shown = String::from_utf8(inside(&["status"]).output().unwrap().stdout).unwrap();
    assert!(shown.contains("10.77.0.1") && shown.contains("3.2") && shown.contains("Established"), "{shown}");
}
