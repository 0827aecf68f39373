//! Two real kernels in one lockspace: the rig itself works, and this is what a DLM of 6.12 does.
#![allow(clippy::unwrap_used)]

use outlast_kernel_harness::protocol::{Mode, flags, status};
use outlast_kernel_harness::{AGENT_PORT, Options, PATIENCE, address, change_members, join_all, lab, leave};
use std::time::Duration;

const LOCKSPACE: &str = "pair";
const NUMBER: u32 = 4242;

#[test]
fn two_kernels_lock_against_each_other_and_hand_a_value_over() {
    let Some(lab) = lab().unwrap() else { return };
    let guests = lab.boot_all(&[1, 2]).unwrap();
    for guest in &guests {
        assert!(guest.sh("uname -r").unwrap().starts_with("6.12."));
        guest.cluster(&[1, 2], &[]).unwrap();
    }
    join_all(&guests, LOCKSPACE, NUMBER).unwrap();
    let [one, two] = &guests[..] else { panic!("two were booted") };

    let mut first = one.process(LOCKSPACE).unwrap();
    let mut second = two.process(LOCKSPACE).unwrap();
    first.lock(1, "resource", Mode::EX, flags::VALBLK).unwrap();
    assert_eq!(first.ast(1).unwrap().status, status::GRANTED);
    second.lock(1, "resource", Mode::EX, flags::NOQUEUE).unwrap();
    assert_eq!(second.ast(1).unwrap().status, status::AGAIN);

    second.lock(2, "resource", Mode::PR, flags::VALBLK).unwrap();
    assert_eq!(first.bast(1).unwrap(), Mode::PR as u8);
    first.convert(1, Mode::NL, flags::VALBLK, b"handed over").unwrap();
    assert_eq!(first.ast(1).unwrap().status, status::GRANTED);
    let granted = second.ast(2).unwrap();
    assert_eq!((granted.status, granted.sbflags), (status::GRANTED, 0));
    let value = granted.value.unwrap();
    assert_eq!((&value[..11], &value[11..]), (&b"handed over"[..], &[0; 21][..]));

    second.unlock(2, 0, &[]).unwrap();
    assert_eq!(second.ast(2).unwrap().status, status::UNLOCKED);
    first.unlock(1, 0, &[]).unwrap();
    assert_eq!(first.ast(1).unwrap().status, status::UNLOCKED);
    drop((first, second));

    leave(two, LOCKSPACE, &[one]).unwrap();
    one.leave(LOCKSPACE).unwrap();
    for guest in &guests {
        assert!(!guest.sh("ls /sys/kernel/dlm").unwrap().contains(LOCKSPACE));
    }
}

#[test]
fn requests_by_the_thousand_survive_resets_of_the_connection_between_two_kernels() {
    const LOCKS: u64 = 2000;
    let Some(lab) = lab().unwrap() else { return };
    let guests = lab.boot_all(&[1, 2]).unwrap();
    for guest in &guests {
        guest.cluster(&[1, 2], &[]).unwrap();
    }
    join_all(&guests, LOCKSPACE, NUMBER).unwrap();
    let mut process = guests[0].process(LOCKSPACE).unwrap();
    for tag in 0..LOCKS {
        process.lock(tag, &format!("resource {tag}"), Mode::PR, 0).unwrap();
    }
    let reset = guests[0].reset_connections().unwrap();
    assert!(reset > 0, "there is a connection to reset");
    for tag in 0..LOCKS {
        assert_eq!(process.ast(tag).unwrap().status, status::GRANTED, "lock {tag}");
    }
}

#[test]
fn a_kernel_goes_on_without_a_peer_that_lost_its_power() {
    let Some(lab) = lab().unwrap() else { return };
    let mut guests = lab.boot_all(&[1, 2]).unwrap();
    for guest in &guests {
        guest.cluster(&[1, 2], &[]).unwrap();
    }
    join_all(&guests, LOCKSPACE, NUMBER).unwrap();
    let mut lost = guests[1].process(LOCKSPACE).unwrap();
    lost.lock(1, "resource", Mode::EX, 0).unwrap();
    assert_eq!(lost.ast(1).unwrap().status, status::GRANTED);
    let mut process = guests[0].process(LOCKSPACE).unwrap();
    process.lock(1, "resource", Mode::EX, flags::VALBLK).unwrap();

    guests[1].power_off().unwrap();
    change_members(&[&guests[0]], LOCKSPACE, &[1]).unwrap();
    guests[0].forget(2).unwrap();
    let granted = process.ast(1).unwrap();
    assert_eq!(granted.status, status::GRANTED);
}

#[test]
fn a_guest_has_the_files_and_processors_that_it_was_given() {
    let Some(lab) = lab().unwrap() else { return };
    let file = lab.folder().join("given.sh");
    std::fs::write(&file, "echo from the host").unwrap();
    let options = Options { processors: 2, files: vec![file], ..Options::default() };
    let guest = lab.boot_with(1, &options).unwrap();
    assert_eq!(guest.sh("sh /job/given.sh; nproc").unwrap(), "from the host\n2\n");
    let (code, said) = guest.sh_status("echo begun; sleep 60", Duration::from_secs(1)).unwrap();
    assert_eq!((code, said.as_str()), (124, "begun\n"));
}

#[test]
fn a_machine_of_the_test_has_the_address_of_a_node() {
    let Some(lab) = lab().unwrap() else { return };
    let guest = lab.boot(1).unwrap();
    let machine = lab.machine(3).unwrap();
    let connected = machine.connect(guest.address(), AGENT_PORT, PATIENCE).unwrap();
    let seen = guest.sh(&format!("ss -t -n -H state established sport = :{AGENT_PORT}")).unwrap();
    let from = format!("{}:{}", address(3), connected.local_addr().unwrap().port());
    assert!(seen.contains(&from), "{from} in {seen}");
    assert_ne!(machine.name(), lab.namespace().name());
}
