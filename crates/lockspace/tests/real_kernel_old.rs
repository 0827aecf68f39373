//! A Linux kernel that speaks nothing but 3.1, beside our node, and beside a kernel of today.
#![allow(clippy::unwrap_used)]

mod kernel;

use kernel::{A_WHILE, LOCKSPACE, NUMBER, Ours, change_members, join_all, theirs};
use outlast_dlm::wire::{Mode, Version};
use outlast_kernel_harness::protocol::{flags, status};
use outlast_kernel_harness::{Guest, Kernel, Lab, Options, Process, lab};
use outlast_lockspace::node::{LockError, LockOptions, Lockspace};

const OLD: u8 = 1;
const OURS: u8 = 2;
const NEW: u8 = 3;
/// What a kernel says when it does not like what it is sent.
const COMPLAINTS: [&str; 6] = ["unexpected", "WARNING", "mismatch", "ignore", "invalid", "unsupported"];

fn boot(lab: &Lab, node: u8, kernel: Kernel, all: &[u8]) -> Guest {
    let guest = lab.boot_with(node, &Options { kernel, ..Options::default() }).unwrap();
    assert!(guest.sh("uname -r").unwrap().starts_with(kernel.release()));
    guest.cluster(all, &[]).unwrap();
    guest
}

fn has_no_complaint(guest: &Guest) {
    let dmesg = guest.dmesg().unwrap();
    let said: Vec<_> = dmesg.lines().filter(|line| line.contains("dlm: ")).collect();
    assert!(!said.is_empty(), "{dmesg}");
    assert!(!said.iter().any(|line| COMPLAINTS.iter().any(|bad| line.contains(bad))), "{said:#?}");
}

fn value(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(32, 0);
    bytes
}

/// One user of a kernel's locks, that asks and sees the end of it.
struct User(Process, u64);

impl User {
    fn of(guest: &Guest) -> Self {
        Self(guest.process(LOCKSPACE).unwrap(), 0)
    }

    fn locks(&mut self, name: &str, mode: Mode, flags: u32) -> (u64, i32) {
        self.1 += 1;
        self.0.lock(self.1, name, theirs(mode), flags).unwrap();
        (self.1, self.0.ast(self.1).unwrap().status)
    }

    fn unlocks(&mut self, tag: u64) {
        self.0.unlock(tag, 0, &[]).unwrap();
        assert_eq!(self.0.ast(tag).unwrap().status, status::UNLOCKED);
    }
}

/// Exclusive against protected read without waiting, a holder who is told and gives way, a value block there and back:
/// all that with either as the master.
fn share(ours: &Ours, space: &Lockspace, guest: &Guest) {
    let mut user = User::of(guest);
    let number = guest.node();
    for ours_is_master in [true, false] {
        let name = format!("r {number} {ours_is_master}");
        // Who locks first is the master.
        let anchor =
            if ours_is_master { Some(ours.run(space.lock(&name, Mode::Null)).unwrap()) } else { None };
        let (tag, granted) = user.locks(&name, Mode::Exclusive, flags::VALBLK);
        assert_eq!(granted, status::GRANTED, "{name}");
        let master = space.resources().unwrap().into_iter().find(|r| r.name.as_bytes() == name.as_bytes());
        assert_eq!(master.is_some_and(|r| r.master == Some(kernel::id(OURS))), ours_is_master, "{name}");

        // Not at once.
        assert!(ours.run(space.try_lock(&name, Mode::ProtectedRead)).unwrap().is_none(), "{name}");
        let options = LockOptions::new(Mode::ProtectedRead).within(A_WHILE);
        assert_eq!(ours.run(space.lock(&name, options)).unwrap_err(), LockError::Deadline);
        // The kernel is told, and writes what it has to say on its way down.
        let asking = space.clone();
        let asked = name.clone();
        let waiting = ours.handle.spawn(async move {
            asking.lock(asked, LockOptions::new(Mode::ProtectedWrite).with_value_block()).await
        });
        assert!(user.0.bast(tag).is_ok(), "{name}");
        user.0.convert(tag, theirs(Mode::Null), flags::VALBLK, b"of the kernel").unwrap();
        assert_eq!(user.0.ast(tag).unwrap().status, status::GRANTED, "{name}");
        let mut guard = ours.run(waiting).unwrap().unwrap();
        assert_eq!(guard.value(), Some(&value("of the kernel")[..]), "{name}");

        // And the other way round.
        assert_eq!(user.locks(&name, Mode::ProtectedRead, flags::NOQUEUE).1, status::AGAIN, "{name}");
        user.0.convert(tag, theirs(Mode::ProtectedRead), flags::VALBLK, &[]).unwrap();
        assert_eq!(ours.run(guard.blocking()), Ok(Mode::ProtectedRead), "{name}");
        guard.set_value(value("of ours"));
        ours.run(guard.unlock()).unwrap();
        let ast = user.0.ast(tag).unwrap();
        assert_eq!((ast.status, ast.value), (status::GRANTED, Some(value("of ours"))), "{name}");
        user.unlocks(tag);
        if let Some(anchor) = anchor {
            ours.run(anchor.unlock()).unwrap();
        }
    }
}

#[test]
fn our_node_and_an_old_kernel_join_each_other_and_share_locks_in_its_version() {
    let Some(lab) = lab().unwrap() else { return };
    let guest = boot(&lab, OLD, Kernel::V5_10, &[OLD, OURS]);
    // It announces 3.2, and is heard to speak 3.1 to whoever knows no other.
    let mut ours = Ours::start(&lab, OURS, &[OLD]);
    guest.join(LOCKSPACE, NUMBER, &[OLD]).unwrap();
    guest.stop(LOCKSPACE).unwrap();
    guest.start(LOCKSPACE, &[OLD, OURS]).unwrap();
    let space = ours.join(&[OLD, OURS]).unwrap();
    guest.recovered(LOCKSPACE).unwrap();
    assert_eq!(ours.status(OLD).version, Some(Version::V3_1));
    share(&ours, &space, &guest);

    // The kernel leaves, and comes back to our node, which holds a lock.
    std::thread::scope(|scope| {
        let leaving = scope.spawn(|| guest.leave(LOCKSPACE));
        std::thread::sleep(A_WHILE);
        change_members(&[], &ours, &space, &[OURS]);
        leaving.join().unwrap().unwrap();
    });
    let guard = ours.run(space.lock("kept", Mode::Exclusive)).unwrap();
    std::thread::scope(|scope| {
        let joining = scope.spawn(|| guest.join(LOCKSPACE, NUMBER, &[OLD, OURS]));
        change_members(&[], &ours, &space, &[OLD, OURS]);
        joining.join().unwrap().unwrap();
    });
    let mut user = User::of(&guest);
    assert_eq!(user.locks("kept", Mode::ProtectedRead, flags::NOQUEUE).1, status::AGAIN);
    ours.run(guard.unlock()).unwrap();
    let (tag, granted) = user.locks("kept", Mode::ProtectedRead, flags::NOQUEUE);
    assert_eq!(granted, status::GRANTED);
    user.unlocks(tag);
    drop(user);
    share(&ours, &space, &guest);

    space.leave();
    guest.stop(LOCKSPACE).unwrap();
    guest.start(LOCKSPACE, &[OLD]).unwrap();
    guest.recovered(LOCKSPACE).unwrap();
    assert!(ours.shut_down(), "the session with it ended in order");
    guest.leave(LOCKSPACE).unwrap();
    has_no_complaint(&guest);
}

#[test]
fn an_old_kernel_a_new_one_and_our_node_share_a_lockspace_each_pair_in_its_version() {
    let Some(lab) = lab().unwrap() else { return };
    let all = [OLD, OURS, NEW];
    let guests: Vec<_> = std::thread::scope(|scope| {
        let booting = [(OLD, Kernel::V5_10), (NEW, Kernel::V6_12)].map(|(node, kernel)| {
            scope.spawn({
                let lab = &lab;
                move || boot(lab, node, kernel, &all)
            })
        });
        booting.into_iter().map(|guest| guest.join().unwrap()).collect()
    });
    let ours = Ours::start(&lab, OURS, &[OLD, NEW]);
    let space = join_all(&guests, &ours, &all);
    assert_eq!(ours.status(OLD).version, Some(Version::V3_1));
    assert_eq!(ours.status(NEW).version, Some(Version::V3_2));
    for guest in &guests {
        share(&ours, &space, guest);
    }

    // One resource for all three, each of them the first in turn: exclusive goes round.
    let mut users: Vec<_> = guests.iter().map(User::of).collect();
    for first in 0..3 {
        let name = format!("round {first}");
        let anchor = match first {
            0 | 1 => Err(users[first].locks(&name, Mode::Null, 0).0),
            _ => Ok(ours.run(space.lock(&name, Mode::Null)).unwrap()),
        };
        for round in 0..10 {
            let guard = ours.run(space.lock(&name, Mode::Exclusive)).unwrap();
            for user in &mut users {
                assert_eq!(
                    user.locks(&name, Mode::Exclusive, flags::NOQUEUE).1,
                    status::AGAIN,
                    "{name} {round}"
                );
            }
            ours.run(guard.unlock()).unwrap();
            for holder in 0..2 {
                let (tag, granted) = users[holder].locks(&name, Mode::Exclusive, 0);
                assert_eq!(granted, status::GRANTED, "{name} {round}");
                let other = &mut users[1 - holder];
                assert_eq!(other.locks(&name, Mode::ProtectedRead, flags::NOQUEUE).1, status::AGAIN);
                let tried = ours.run(space.try_lock(&name, Mode::ConcurrentWrite)).unwrap();
                assert!(tried.is_none(), "{name} {round}");
                users[holder].unlocks(tag);
            }
        }
        match anchor {
            Ok(guard) => ours.run(guard.unlock()).unwrap(),
            Err(tag) => users[first].unlocks(tag),
        }
    }
    drop(users);

    // The old one leaves; the others go on.
    let [old, new] = &guests[..] else { panic!("two kernels") };
    old.leave_begin(LOCKSPACE, false).unwrap();
    change_members(&[new], &ours, &space, &[OURS, NEW]);
    old.leave_end(LOCKSPACE).unwrap();
    share(&ours, &space, new);
    for guest in &guests {
        has_no_complaint(guest);
    }
}
