//! Two kernels and our node; one loses its power, and the others put things right. What goes over the wire is what
//! Wireshark expects of DLM.
#![allow(clippy::unwrap_used)]

mod kernel;

use std::process::Command;

use kernel::{LOCKSPACE, Ours, change_members, guests, id, join_all, theirs};
use outlast_dlm::wire::Mode;
use outlast_kernel_harness::protocol::{flags, status};
use outlast_kernel_harness::{Lab, PATIENCE, lab};
use outlast_lockspace::node::LockOptions;

const OURS: u8 = 3;
/// So many that their names fill several messages.
const MANY: u64 = 300;

fn value(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(32, 0);
    bytes
}

/// What Wireshark says of a recording, by one of its filters.
fn wireshark(file: &std::path::Path, filter: &str) -> Vec<String> {
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-r"]).arg(file).args(["-d", "tcp.port==21064,dlm3", "-Y", filter]);
    let out = tshark.output().expect("tshark is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
}

fn dissected_without_complaint(lab: &Lab, recording: &[u8]) {
    let file = lab.folder().join("checked.pcap");
    std::fs::write(&file, recording).unwrap();
    let dissected = wireshark(&file, "dlm3");
    assert!(dissected.len() > 200, "{} frames", dissected.len());
    for (what, filter, least) in [
        ("ours", "dlm3.h.nodeid == 3", 100),
        ("envelopes", "dlm3.h.cmd == 3", 100),
        ("acknowledgements", "dlm3.h.cmd == 4", 3),
        ("recovery messages", "dlm3.rc.type", 20),
    ] {
        assert!(wireshark(&file, filter).len() >= least, "{what}");
    }
    for complaint in [
        "_ws.malformed",
        "dlm3 && _ws.expert.severity >= 6291456",
        "tcp.len > 0 && !dlm3 && !tcp.segment_data",
    ] {
        let found = wireshark(&file, complaint);
        assert_eq!(found, [""; 0], "{complaint}");
    }
}

#[test]
fn a_kernel_loses_its_power_and_the_others_put_its_locks_and_resources_right() {
    let Some(lab) = lab().unwrap() else { return };
    let mut guests = guests(&lab, &[1, 2], &[1, 2, OURS]);
    let recording = lab.capture().unwrap();
    let ours = Ours::start(&lab, OURS, &[1, 2]);
    let space = join_all(&guests, &ours, &[1, 2, OURS]);
    let mut first = guests[0].process(LOCKSPACE).unwrap();
    let mut doomed = guests[1].process(LOCKSPACE).unwrap();

    // Whoever locks first is the master.
    let tags = [("master gone", 1), ("holder gone", 2), ("value gone", 3), ("value kept", 4)];
    for (name, tag) in tags {
        if name == "holder gone" {
            ours.run(ours.run(space.lock(name, Mode::Null)).unwrap().unlock()).unwrap();
        }
        let mode = if name == "master gone" { Mode::ConcurrentRead } else { Mode::Exclusive };
        doomed.lock(tag, name, theirs(mode), flags::VALBLK).unwrap();
        assert_eq!(doomed.ast(tag).unwrap().status, status::GRANTED, "{name}");
    }
    doomed.convert(4, theirs(Mode::Null), flags::VALBLK, b"kept").unwrap();
    assert_eq!(doomed.ast(4).unwrap().status, status::GRANTED);
    for tag in 0..MANY {
        doomed.lock(1000 + tag, &format!("{tag:064}"), theirs(Mode::ConcurrentRead), 0).unwrap();
        first.lock(1000 + tag, &format!("f{tag:063}"), theirs(Mode::ConcurrentRead), 0).unwrap();
    }
    for tag in 0..MANY {
        assert_eq!(doomed.ast(1000 + tag).unwrap().status, status::GRANTED);
        assert_eq!(first.ast(1000 + tag).unwrap().status, status::GRANTED);
    }
    let kept = ours.run(space.lock("master gone", Mode::ProtectedRead)).unwrap();
    // A new master trusts the value block of who kept writers out, and of nobody else.
    let reader = LockOptions::new(Mode::ProtectedRead).with_value_block();
    let value_kept = ours.run(space.lock("value kept", reader.clone())).unwrap();
    assert_eq!(value_kept.value(), Some(&value("kept")[..]));
    first.lock(1, "value gone", theirs(Mode::Null), flags::VALBLK).unwrap();
    assert_eq!(first.ast(1).unwrap().status, status::GRANTED);
    // These wait for the doomed.
    first.lock(2, "holder gone", theirs(Mode::ProtectedRead), 0).unwrap();
    let waiting_space = space.clone();
    let waiting =
        ours.handle.spawn(async move { waiting_space.lock("holder gone", Mode::ProtectedRead).await });
    assert_eq!(doomed.bast(2).unwrap(), Mode::ProtectedRead as u8);

    guests[1].power_off().unwrap();
    ours.node().fence(id(2));
    change_members(&[&guests[0]], &ours, &space, &[1, OURS]);
    guests[0].forget(2).unwrap();

    assert_eq!(first.ast(2).unwrap().status, status::GRANTED, "the holder is gone");
    let granted = ours.run(waiting).unwrap().unwrap();
    assert_eq!(granted.mode(), Mode::ProtectedRead);
    // Ours is still held, at a new master.
    first.lock(3, "master gone", theirs(Mode::Exclusive), flags::NOQUEUE).unwrap();
    assert_eq!(first.ast(3).unwrap().status, status::AGAIN);
    ours.run(kept.unlock()).unwrap();
    first.lock(4, "master gone", theirs(Mode::Exclusive), flags::NOQUEUE).unwrap();
    assert_eq!(first.ast(4).unwrap().status, status::GRANTED);
    // The value block that the dead held for writing is not to be trusted, the other is.
    let doubtful = ours.run(space.lock("value gone", reader.clone())).unwrap();
    assert!(!doubtful.is_value_valid());

    let again = ours.run(space.lock("value kept", reader)).unwrap();
    assert_eq!((again.value(), again.is_value_valid()), (Some(&value("kept")[..]), true));
    // All that was held by the dead is free, and what the others hold is not.
    for tag in [0, MANY - 1] {
        let free = ours.run(space.try_lock(format!("{tag:064}"), Mode::Exclusive)).unwrap();
        assert!(free.is_some(), "{tag}");
        let held = ours.run(space.try_lock(format!("f{tag:063}"), Mode::Exclusive)).unwrap();
        assert!(held.is_none(), "{tag}");
    }
    dissected_without_complaint(&lab, &recording.stop().unwrap());
}

#[test]
fn our_node_dies_and_the_kernels_go_on() {
    let Some(lab) = lab().unwrap() else { return };
    let guests = guests(&lab, &[1, 2], &[1, 2, OURS]);
    let ours = Ours::start(&lab, OURS, &[1, 2]);
    let space = join_all(&guests, &ours, &[1, 2, OURS]);
    let mut first = guests[0].process(LOCKSPACE).unwrap();
    let mut second = guests[1].process(LOCKSPACE).unwrap();
    // Ours is the master, and holds.
    let held = ours.run(space.lock("of ours", Mode::Exclusive)).unwrap();
    first.lock(1, "of ours", theirs(Mode::ProtectedRead), 0).unwrap();
    second.lock(1, "of ours", theirs(Mode::ProtectedRead), 0).unwrap();
    ours.run(held.blocking()).unwrap();
    std::mem::forget(held);
    drop(space);
    drop(ours);
    outlast_kernel_harness::change_members(&[&guests[0], &guests[1]], LOCKSPACE, &[1, 2]).unwrap();
    for (guest, process) in [(&guests[0], &mut first), (&guests[1], &mut second)] {
        guest.forget(OURS).unwrap();
        assert_eq!(process.ast(1).unwrap().status, status::GRANTED);
    }
}

#[test]
fn a_cable_is_pulled_under_a_lock_and_put_back() {
    let Some(lab) = lab().unwrap() else { return };
    let guests = guests(&lab, &[1], &[1, OURS]);
    let ours = Ours::start(&lab, OURS, &[1]);
    let space = join_all(&guests, &ours, &[1, OURS]);
    let mut process = guests[0].process(LOCKSPACE).unwrap();
    process.lock(1, "r", theirs(Mode::ConcurrentRead), 0).unwrap();
    assert_eq!(process.ast(1).unwrap().status, status::GRANTED);
    for round in 0..3u64 {
        lab.cable(OURS, false).unwrap();
        let cut_space = space.clone();
        let waiting = ours.handle.spawn(async move { cut_space.lock("r", Mode::ConcurrentWrite).await });
        process.lock(2 + round, &format!("r{round}"), theirs(Mode::Exclusive), 0).unwrap();
        std::thread::sleep(kernel::A_WHILE);
        assert!(!waiting.is_finished(), "the master is out of reach");
        lab.cable(OURS, true).unwrap();
        let guard = ours.handle.block_on(async { tokio::time::timeout(2 * PATIENCE, waiting).await });
        let guard = guard.unwrap().unwrap().unwrap();
        assert_eq!(process.ast(2 + round).unwrap().status, status::GRANTED);
        ours.run(guard.unlock()).unwrap();
    }
}
