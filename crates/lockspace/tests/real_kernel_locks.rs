//! Our node and a Linux kernel in one lockspace: every mode against every other, and what else locks can do.
#![allow(clippy::unwrap_used)]

mod kernel;

use kernel::{A_WHILE, LOCKSPACE, NUMBER, Ours, change_members, guests, join_all, theirs};
use outlast_dlm::wire::{Mode, NodeId};
use outlast_kernel_harness::protocol::{flags, status};
use outlast_kernel_harness::{Process, lab};
use outlast_lockspace::node::{LockError, LockOptions, Lockspace};

const KERNEL: u8 = 1;
const OURS: u8 = 2;

/// A kernel and our node, joined.
struct Both {
    space: Lockspace,
    process: Process,
    ours: Ours,
    guest: outlast_kernel_harness::Guest,
    next_tag: u64,
    _lab: outlast_kernel_harness::Lab,
}

fn both() -> Option<Both> {
    let lab = lab().unwrap()?;
    let mut guests = guests(&lab, &[KERNEL], &[KERNEL, OURS]);
    let ours = Ours::start(&lab, OURS, &[KERNEL]);
    let space = join_all(&guests, &ours, &[KERNEL, OURS]);
    let guest = guests.remove(0);
    let process = guest.process(LOCKSPACE).unwrap();
    Some(Both { space, process, ours, guest, next_tag: 1, _lab: lab })
}

impl Both {
    fn tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }

    /// The kernel asks and does not wait; its status.
    fn kernel_tries(&mut self, name: &str, mode: Mode) -> (u64, i32) {
        let tag = self.tag();
        self.process.lock(tag, name, theirs(mode), flags::NOQUEUE).unwrap();
        (tag, self.process.ast(tag).unwrap().status)
    }

    fn kernel_unlocks(&mut self, tag: u64) {
        self.process.unlock(tag, 0, &[]).unwrap();
        assert_eq!(self.process.ast(tag).unwrap().status, status::UNLOCKED);
    }

    fn master(&self, name: &str) -> Option<NodeId> {
        let resources = self.space.resources().unwrap();
        resources.into_iter().find(|r| r.name.as_bytes() == name.as_bytes()).and_then(|r| r.master)
    }
}

#[test]
fn our_node_joins_a_kernel_that_is_alone_and_a_kernel_joins_our_node() {
    let Some(lab) = lab().unwrap() else { return };
    let guests = guests(&lab, &[KERNEL], &[KERNEL, OURS]);
    let guest = &guests[0];
    let mut ours = Ours::start(&lab, OURS, &[KERNEL]);
    // The kernel first.
    guest.join(LOCKSPACE, NUMBER, &[KERNEL]).unwrap();
    guest.stop(LOCKSPACE).unwrap();
    guest.start(LOCKSPACE, &[KERNEL, OURS]).unwrap();
    let space = ours.join(&[KERNEL, OURS]).unwrap();
    guest.recovered(LOCKSPACE).unwrap();
    let guard = ours.run(space.lock("resource", Mode::Exclusive)).unwrap();
    ours.run(guard.unlock()).unwrap();

    // The kernel leaves, and comes back to our node.
    std::thread::scope(|scope| {
        let leaving = scope.spawn(|| guest.leave(LOCKSPACE));
        std::thread::sleep(A_WHILE);
        change_members(&[], &ours, &space, &[OURS]);
        leaving.join().unwrap().unwrap();
    });
    let guard = ours.run(space.lock("resource", Mode::Exclusive)).unwrap();
    std::thread::scope(|scope| {
        let joining = scope.spawn(|| guest.join(LOCKSPACE, NUMBER, &[KERNEL, OURS]));
        change_members(&[], &ours, &space, &[KERNEL, OURS]);
        joining.join().unwrap().unwrap();
    });
    let mut process = guest.process(LOCKSPACE).unwrap();
    process.lock(1, "resource", theirs(Mode::ProtectedRead), flags::NOQUEUE).unwrap();
    assert_eq!(process.ast(1).unwrap().status, status::AGAIN, "our lock from before still stands");
    ours.run(guard.unlock()).unwrap();
    process.lock(2, "resource", theirs(Mode::ProtectedRead), flags::NOQUEUE).unwrap();
    assert_eq!(process.ast(2).unwrap().status, status::GRANTED);
    process.unlock(2, 0, &[]).unwrap();
    assert_eq!(process.ast(2).unwrap().status, status::UNLOCKED);
    drop(process);

    // And our node leaves.
    space.leave();
    guest.stop(LOCKSPACE).unwrap();
    guest.start(LOCKSPACE, &[KERNEL]).unwrap();
    guest.recovered(LOCKSPACE).unwrap();
    assert!(ours.shut_down(), "both ends said goodbye");
    guest.leave(LOCKSPACE).unwrap();
    let dmesg = guest.dmesg().unwrap();
    for bad in ["unexpected", "WARNING", "mismatch", "ignore", "invalid", "unsupported"] {
        assert!(!dmesg.lines().any(|line| line.contains("dlm") && line.contains(bad)), "{bad}: {dmesg}");
    }
}

#[test]
fn every_mode_against_every_other_with_either_node_as_the_master() {
    let Some(mut both) = both() else { return };
    for held in Mode::ALL {
        for wanted in Mode::ALL {
            let compatible = held.is_compatible_with(wanted);
            // Who locks first becomes the master.
            let name = format!("ours {held} {wanted}");
            let guard = both.ours.run(both.space.lock(&name, held)).unwrap();
            let (tag, status) = both.kernel_tries(&name, wanted);
            assert_eq!(status == status::GRANTED, compatible, "{name}: {status}");
            assert_eq!(both.master(&name), Some(NodeId(2)), "{name}");
            if compatible {
                both.kernel_unlocks(tag);
            }
            both.ours.run(guard.unlock()).unwrap();

            let name = format!("theirs {held} {wanted}");
            let (tag, status) = both.kernel_tries(&name, held);
            assert_eq!(status, status::GRANTED, "{name}");
            let guard = both.ours.run(both.space.try_lock(&name, wanted)).unwrap();
            assert_eq!(guard.is_some(), compatible, "{name}");
            if let Some(guard) = guard {
                assert_eq!(both.master(&name), Some(NodeId(1)), "{name}");
                both.ours.run(guard.unlock()).unwrap();
            }
            both.kernel_unlocks(tag);
        }
    }
    let statistics = both.ours.status(KERNEL).statistics;
    assert!(statistics.messages_received > 100, "{statistics:?}");
    assert_eq!(
        (statistics.connections_lost, statistics.duplicates_dropped, statistics.early_dropped),
        (0, 0, 0)
    );
}

#[test]
fn every_conversion_against_every_mode_with_either_node_as_the_master() {
    let Some(mut both) = both() else { return };
    for other in Mode::ALL {
        for from in Mode::ALL.into_iter().filter(|from| from.is_compatible_with(other)) {
            for to in Mode::ALL {
                let granted = to.is_compatible_with(other);
                let convert = LockOptions::new(to).no_wait();
                // Ours converts; the kernel is the master.
                let name = format!("c1 {other} {from} {to}");
                let (tag, _) = both.kernel_tries(&name, other);
                let mut guard = both.ours.run(both.space.lock(&name, from)).unwrap();
                let converted = both.ours.run(guard.convert(convert.clone()));
                let expected = if granted { Ok(()) } else { Err(LockError::WouldBlock) };
                assert_eq!(converted, expected, "{name}");
                assert_eq!(guard.mode(), if granted { to } else { from }, "{name}");
                both.ours.run(guard.unlock()).unwrap();
                both.kernel_unlocks(tag);

                // The kernel converts; ours is the master.
                let name = format!("c2 {other} {from} {to}");
                let guard = both.ours.run(both.space.lock(&name, other)).unwrap();
                let (tag, _) = both.kernel_tries(&name, from);
                both.process.convert(tag, theirs(to), flags::NOQUEUE, &[]).unwrap();
                let status = both.process.ast(tag).unwrap().status;
                assert_eq!(status == status::GRANTED, granted, "{name}: {status}");
                both.kernel_unlocks(tag);
                both.ours.run(guard.unlock()).unwrap();
            }
        }
    }
}

#[test]
fn who_waits_is_granted_in_order_when_the_holder_is_told_and_gives_way() {
    let Some(mut both) = both() else { return };
    // Ours holds and is the master; the kernel waits.
    let guard = both.ours.run(both.space.lock("a", Mode::Exclusive)).unwrap();
    let tag = both.tag();
    both.process.lock(tag, "a", theirs(Mode::ProtectedRead), 0).unwrap();
    assert_eq!(both.ours.run(guard.blocking()), Ok(Mode::ProtectedRead));
    both.ours.run(guard.unlock()).unwrap();
    assert_eq!(both.process.ast(tag).unwrap().status, status::GRANTED);

    // Now the kernel holds, and ours waits.
    let (space, ours) = (both.space.clone(), both.ours.handle.clone());
    let waiting = ours.spawn(async move { space.lock("a", Mode::Exclusive).await });
    assert_eq!(both.process.bast(tag).unwrap(), Mode::Exclusive as u8);
    assert!(!waiting.is_finished());
    both.kernel_unlocks(tag);
    let guard = both.ours.run(waiting).unwrap().unwrap();
    assert_eq!(guard.mode(), Mode::Exclusive);
    both.ours.run(guard.unlock()).unwrap();

    // The same with the kernel as the master.
    let (tag, _) = both.kernel_tries("b", Mode::Exclusive);
    let space = both.space.clone();
    let waiting = ours.spawn(async move { space.lock("b", Mode::ConcurrentWrite).await });
    assert_eq!(both.process.bast(tag).unwrap(), Mode::ConcurrentWrite as u8);
    both.process.convert(tag, theirs(Mode::ConcurrentRead), 0, &[]).unwrap();
    assert_eq!(both.process.ast(tag).unwrap().status, status::GRANTED);
    let guard = both.ours.run(waiting).unwrap().unwrap();
    both.process.convert(tag, theirs(Mode::ProtectedRead), 0, &[]).unwrap();
    assert_eq!(both.ours.run(guard.blocking()), Ok(Mode::ProtectedRead));
    both.ours.run(guard.unlock()).unwrap();
    assert_eq!(both.process.ast(tag).unwrap().status, status::GRANTED);
    both.kernel_unlocks(tag);
}

#[test]
fn a_value_block_goes_from_one_writer_to_the_next_reader() {
    let Some(mut both) = both() else { return };
    let value = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(32, 0);
        bytes
    };
    for (name, ours_first) in [("ours first", true), ("theirs first", false)] {
        // Who locks first is the master; the blocks go both ways.
        let early =
            if ours_first { Some(both.ours.run(both.space.lock(name, Mode::Null)).unwrap()) } else { None };
        let tag = both.tag();
        both.process.lock(tag, name, theirs(Mode::Exclusive), flags::VALBLK).unwrap();
        assert_eq!(both.process.ast(tag).unwrap().status, status::GRANTED);
        both.process.convert(tag, theirs(Mode::Null), flags::VALBLK, b"of the kernel").unwrap();
        assert_eq!(both.process.ast(tag).unwrap().status, status::GRANTED);

        let options = LockOptions::new(Mode::ProtectedWrite).with_value_block();
        let mut guard = both.ours.run(both.space.lock(name, options)).unwrap();
        assert_eq!(guard.value(), Some(&value("of the kernel")[..]), "{name}");
        guard.set_value(value("of ours"));
        both.ours.run(guard.convert(Mode::Null)).unwrap();

        both.process.convert(tag, theirs(Mode::ConcurrentRead), flags::VALBLK, &[]).unwrap();
        let ast = both.process.ast(tag).unwrap();
        assert_eq!((ast.status, ast.value), (status::GRANTED, Some(value("of ours"))), "{name}");
        both.kernel_unlocks(tag);
        both.ours.run(guard.unlock()).unwrap();
        if let Some(early) = early {
            both.ours.run(early.unlock()).unwrap();
        }
    }
}

#[test]
fn a_request_that_waits_can_be_taken_back() {
    let Some(mut both) = both() else { return };
    for (name, ours_holds) in [("ours", true), ("theirs", false)] {
        if ours_holds {
            let guard = both.ours.run(both.space.lock(name, Mode::Exclusive)).unwrap();
            let tag = both.tag();
            both.process.lock(tag, name, theirs(Mode::Exclusive), 0).unwrap();
            both.ours.run(guard.blocking()).unwrap();
            both.process.cancel(tag).unwrap();
            assert_eq!(both.process.ast(tag).unwrap().status, status::CANCELLED);
            both.ours.run(guard.unlock()).unwrap();
        } else {
            let (tag, _) = both.kernel_tries(name, Mode::Exclusive);
            let options = LockOptions::new(Mode::Exclusive).within(A_WHILE);
            assert_eq!(both.ours.run(both.space.lock(name, options)).unwrap_err(), LockError::Deadline);
            // A conversion too, and the lock is held as before.
            both.process.convert(tag, theirs(Mode::ConcurrentRead), 0, &[]).unwrap();
            assert_eq!(both.process.ast(tag).unwrap().status, status::GRANTED);
            let mut guard = both.ours.run(both.space.lock(name, Mode::ConcurrentWrite)).unwrap();
            let options = LockOptions::new(Mode::Exclusive).within(A_WHILE);
            assert_eq!(both.ours.run(guard.convert(options)).unwrap_err(), LockError::Deadline);
            assert_eq!(guard.mode(), Mode::ConcurrentWrite);
            both.ours.run(guard.unlock()).unwrap();
            both.kernel_unlocks(tag);
        }
        // Nothing is left that would stand in the way.
        let (tag, status) = both.kernel_tries(name, Mode::Exclusive);
        assert_eq!(status, status::GRANTED, "{name}");
        both.kernel_unlocks(tag);
    }
    let locks = both.guest.sh(&format!("cat /sys/kernel/debug/dlm/{LOCKSPACE}_locks")).unwrap();
    assert_eq!(locks.lines().skip(1).count(), 0, "the kernel knows no lock any more: {locks}");
}

#[test]
fn a_process_of_the_kernel_that_dies_leaves_nothing_behind_at_our_node() {
    let Some(mut both) = both() else { return };
    let first = both.ours.run(both.space.lock("r", Mode::Null)).unwrap();
    let mut other = both.guest.process(LOCKSPACE).unwrap();
    other.lock(1, "r", theirs(Mode::Exclusive), 0).unwrap();
    assert_eq!(other.ast(1).unwrap().status, status::GRANTED);
    assert!(both.ours.run(both.space.try_lock("r", Mode::ProtectedRead)).unwrap().is_none());
    drop(other);
    let options = LockOptions::new(Mode::ProtectedRead).within(outlast_kernel_harness::PATIENCE / 2);
    let guard = both.ours.run(both.space.lock("r", options)).unwrap();
    both.ours.run(guard.unlock()).unwrap();
    both.ours.run(first.unlock()).unwrap();
    let (tag, status) = both.kernel_tries("r", Mode::Exclusive);
    assert_eq!(status, status::GRANTED);
    both.kernel_unlocks(tag);
}
