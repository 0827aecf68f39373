//! Value blocks.

use super::*;

const WITH: LockFlags = LockFlags::VALUE_BLOCK;
const BYTES: usize = 32;

/// What becomes of the value block when a lock held in the mode of the row is granted in that of the column (Linux,
/// `lvb_table.h`, after VMS): read, written, or nothing.
const FLOWS: [&str; 6] = ["rrrrrr", ".rrrrr", "..rrrr", "...rrr", "wwwwwr", "wwwwww"];

fn flow(from: Mode, to: Mode) -> u8 {
    FLOWS[from as usize].as_bytes()[to as usize]
}

fn value(byte: u8) -> Vec<u8> {
    vec![byte; BYTES]
}

fn read(mode: Mode, byte: u8) -> Outcome {
    Outcome::Granted { mode, status_flags: StatusFlags::NONE, value: Some(value(byte)) }
}

/// Leaves a value block behind, and a null lock so that the resource stays in use.
fn write(net: &mut Net, node: u32, name: Name, byte: u8) {
    let writer = net.hold(node, name, EX);
    let now = net.now;
    net.at(node).convert(writer, NL, WITH, Some(value(byte)), now).expect("a conversion");
    net.settle();
    assert_eq!(net.outcomes(node, writer).len(), 1);
}

fn read_at(net: &mut Net, node: u32, name: Name) -> Outcome {
    let lock = net.lock(node, name, NL, WITH);
    let mut outcomes = net.outcomes(node, lock);
    net.unlock(node, lock);
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

#[test]
fn every_conversion_reads_or_writes_as_the_table_says() {
    for (directory, node) in [(1, 1), (1, 2), (3, 2)] {
        for from in Mode::ALL {
            for to in Mode::ALL {
                let mut net = Net::new(3);
                let name = net.name_at(directory);
                net.hold(1, name, NL);
                write(&mut net, 1, name, 7);
                let lock = net.hold(node, name, from);
                let now = net.now;
                net.at(node).convert(lock, to, WITH, Some(value(9)), now).expect("a conversion");
                net.settle();
                let (outcome, left) = match flow(from, to) {
                    b'r' => (read(to, 7), 7),
                    b'w' => (granted(to), 9),
                    _ => (granted(to), 7),
                };
                assert_eq!(net.outcomes(node, lock), [outcome], "{from} to {to} at node {node}");
                net.convert(node, lock, NL, NONE);
                net.outcomes(node, lock);
                assert_eq!(read_at(&mut net, 3, name), read(NL, left), "after {from} to {to}");
            }
        }
    }
}

#[test]
fn a_new_lock_in_any_mode_reads_what_was_written() {
    for node in [1, 2] {
        for mode in Mode::ALL {
            let mut net = Net::new(2);
            let name = net.name_at(1);
            write(&mut net, 2, name, 3);
            let lock = net.lock(node, name, mode, WITH);
            assert_eq!(net.outcomes(node, lock), [read(mode, 3)]);
        }
    }
}

#[test]
fn who_waited_reads_what_was_written_meanwhile() {
    let mut net = Net::new(3);
    let name = net.name_at(1);
    net.hold(1, name, NL);
    let writer = net.hold(2, name, EX);
    let reader = net.lock(3, name, PR, WITH);
    let now = net.now;
    net.at(2).unlock(writer, WITH, Some(value(5)), now).expect("an unlock");
    net.settle();
    assert_eq!(net.outcomes(3, reader), [read(PR, 5)]);
}

#[test]
fn an_unlock_writes_only_from_the_writing_modes() {
    for node in [1, 2] {
        for mode in Mode::ALL {
            let mut net = Net::new(2);
            let name = net.name_at(1);
            write(&mut net, 1, name, 1);
            let lock = net.hold(node, name, mode);
            let now = net.now;
            net.at(node).unlock(lock, WITH, Some(value(2)), now).expect("an unlock");
            net.settle();
            let left = if mode >= PW { 2 } else { 1 };
            assert_eq!(read_at(&mut net, 2, name), read(NL, left), "after an unlock from {mode}");
        }
    }
}

#[test]
fn what_nobody_wrote_is_zeros_and_valid() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    net.hold(1, name, NL);
    assert_eq!(read_at(&mut net, 1, name), read(NL, 0));
    assert_eq!(read_at(&mut net, 2, name), read(NL, 0));
}

#[test]
fn an_invalidated_value_block_is_marked_until_it_is_written_again() {
    for node in [1, 2] {
        for at_unlock in [true, false] {
            let mut net = Net::new(2);
            let name = net.name_at(1);
            write(&mut net, 1, name, 4);
            let writer = net.hold(node, name, EX);
            let now = net.now;
            let flags = LockFlags::INVALIDATE_VALUE_BLOCK;
            if at_unlock {
                net.at(node).unlock(writer, flags, None, now).expect("an unlock");
            } else {
                net.at(node).convert(writer, NL, flags, None, now).expect("a conversion");
            }
            net.settle();
            for reader in [1, 2] {
                let status_flags = StatusFlags::VALUE_NOT_VALID;
                let expected = Outcome::Granted { mode: NL, status_flags, value: Some(value(4)) };
                assert_eq!(read_at(&mut net, reader, name), expected);
            }
            write(&mut net, 2, name, 6);
            assert_eq!(read_at(&mut net, 1, name), read(NL, 6));
        }
    }
}

#[test]
fn a_value_block_of_another_size_or_without_its_flag_is_refused() {
    let mut net = Net::new(1);
    let name = net.name_at(1);
    let lock = net.hold(1, name, EX);
    let now = net.now;
    assert_eq!(
        net.at(1).convert(lock, NL, WITH, Some(vec![1; 31]), now),
        Err(UserError::ValueBlock { len: 31, want: 32 })
    );
    assert!(matches!(net.at(1).unlock(lock, NONE, Some(value(1)), now), Err(UserError::Flags(_))));
    assert!(net.at(1).lock_view(lock).is_some());
}

#[test]
fn the_number_of_writes_goes_with_the_value() {
    let mut net = Net::new(2);
    let name = net.name_at(1);
    write(&mut net, 1, name, 1);
    write(&mut net, 1, name, 2);
    let lock = net.lock(2, name, NL, WITH);
    let at = net.at(2).table.lock(lock).map(|lock| lock.value_sequence);
    assert_eq!(at, Some(2));
}

#[test]
fn who_gives_up_what_it_does_not_know_to_be_granted_writes_nothing() {
    for held in [None, Some(NL)] {
        let mut net = Net::new(2);
        let name = net.name_at(1);
        write(&mut net, 1, name, 7);
        let blocker = net.hold(1, name, EX);
        let lock = match held {
            None => net.lock(2, name, EX, WITH),
            Some(mode) => {
                let lock = net.hold(2, name, mode);
                net.convert(2, lock, EX, WITH);
                lock
            }
        };
        net.start_unlock(1, blocker, NONE);
        assert_eq!(net.under_way(1, 2), 1, "the grant");
        net.start_unlock(2, lock, LockFlags::FORCE_UNLOCK);
        net.settle();
        assert_eq!(net.outcomes(2, lock).last(), Some(&Outcome::Unlocked));
        assert_eq!(read_at(&mut net, 1, name), read(NL, 7), "{held:?}");
    }
}
