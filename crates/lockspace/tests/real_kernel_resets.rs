//! The connection between our node and a kernel is reset again and again under thousands of lock operations.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test measures how long something takes")]

mod kernel;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kernel::storm::{self, Board};
use kernel::{LOCKSPACE, Ours, guests, join_all};
use outlast_dlm::Statistics;
use outlast_dlm::wire::Version;
use outlast_kernel_harness::{Namespace, lab};

const KERNEL: u8 = 1;
const OURS: u8 = 2;
/// Resets that both sides together do.
const RESETS: u64 = 120;
/// Operations before the storm may end.
const OPERATIONS: u64 = 3000;
/// In all, if the machine is slow.
const STORM_MAX: Duration = Duration::from_secs(100);

struct Report {
    resets: [usize; 2],
    operations: [u64; 2],
    contended: u64,
    lost: u64,
    violations: Vec<String>,
    statistics: Statistics,
    kernel_says: String,
}

/// Resets the connections of the machine on this side.
fn reset(machine: &Namespace) -> usize {
    let filter = "( sport = :21064 or dport = :21064 )";
    let out = machine.command("ss").args(["-K", "-t", "-n", "-H", "state", "established", filter]).output();
    String::from_utf8_lossy(&out.unwrap().stdout).lines().filter(|line| !line.trim().is_empty()).count()
}

fn run(announce: Version) -> Option<Report> {
    let lab = lab().unwrap()?;
    let guests = guests(&lab, &[KERNEL], &[KERNEL, OURS]);
    let guest = &guests[0];
    let ours = Ours::announcing(&lab, OURS, &[KERNEL], announce);
    let space = join_all(&guests, &ours, &[KERNEL, OURS]);
    let mut process = guest.process(LOCKSPACE).unwrap();
    let board = Arc::new(Board::default());
    let workers = storm::ours(&ours, &space, &board);
    let kernel_board = Arc::clone(&board);
    let kernels = std::thread::spawn(move || {
        storm::kernels(&mut process, &kernel_board);
        process
    });
    let begun = Instant::now();
    let mut resets = [0, 0];
    loop {
        let operations: u64 = board.operations.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let done = ours.status(KERNEL).statistics.connections_lost >= RESETS && operations >= OPERATIONS;
        let lost = board.lost.load(Ordering::Relaxed) > 0;
        if done || lost || begun.elapsed() > STORM_MAX {
            break;
        }
        if resets[0] <= resets[1] {
            resets[0] += reset(ours.machine());
        } else {
            resets[1] += guest.reset_connections().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    board.stop.store(true, Ordering::Relaxed);
    let process = kernels.join().unwrap();
    let end = Instant::now() + Duration::from_secs(40);
    while workers.iter().any(|worker| !worker.is_finished()) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(workers.iter().all(|worker| worker.is_finished()), "a user of ours waits for ever");
    let kernel_says = guest.sh(&format!("cat /sys/kernel/debug/dlm/{LOCKSPACE}_locks")).unwrap();
    drop(process);
    let report = Report {
        resets,
        operations: [0, 1].map(|node: usize| board.operations[node].load(Ordering::Relaxed)),
        contended: board.contended.load(Ordering::Relaxed),
        lost: board.lost.load(Ordering::Relaxed),
        violations: board.violations.lock().unwrap().clone(),
        statistics: ours.status(KERNEL).statistics,
        kernel_says,
    };
    println!(
        "{announce}: resets {:?}, operations {:?}, contended {}, lost {}, {:?}, in {:?}",
        report.resets,
        report.operations,
        report.contended,
        report.lost,
        report.statistics,
        begun.elapsed()
    );
    Some(report)
}

#[test]
fn no_operation_is_lost_and_none_is_done_twice_over_a_hundred_resets() {
    let Some(report) = run(Version::V3_2) else { return };
    let Report { resets, operations, contended, lost, violations, statistics, kernel_says } = report;
    assert!(statistics.connections_lost >= 100, "{statistics:?}");
    assert!(resets.iter().all(|count| *count >= 30), "both sides reset: {resets:?}");
    assert!(
        operations.iter().sum::<u64>() >= 2000 && operations.iter().all(|count| *count >= 500),
        "{operations:?}"
    );
    assert!(contended * 3 >= operations.iter().sum::<u64>(), "{contended} of {operations:?} are contended");
    assert_eq!(lost, 0, "every request is answered");
    assert_eq!(violations, [""; 0], "nobody holds what another holds");
    assert!(statistics.replayed > 0, "something was under way when a connection died: {statistics:?}");
    assert_eq!(
        kernel_says.lines().skip(1).count(),
        0,
        "the kernel knows of no lock that is left: {kernel_says}"
    );
}

#[test]
fn without_numbers_the_same_resets_lose_what_was_under_way() {
    let Some(report) = run(Version::V3_1) else { return };
    assert!(report.resets.iter().sum::<usize>() > 0);
    assert!(report.lost > 0, "the test would see a loss: {:?}", report.statistics);
}
