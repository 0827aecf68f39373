//! `outlast demo`, in small: that it passes, that it can fail, and that it cleans up.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Home, signal, wait_for, wait_for_end};
use rustix::process::Signal;
use std::fs;
use std::process::Stdio;

/// A tree of this size is cut some ten times.
const SIZE: &str = "32M";

fn left(home: &Home) -> usize {
    fs::read_dir(home.path()).unwrap().count()
}

#[test]
fn nothing_is_lost_though_the_connection_is_cut() {
    let home = Home::new();
    let ran = home.run(&["demo", "--size", SIZE, "--seed", "1", "--json"]).expect(0);
    let verdict = ran.json();
    assert_eq!(verdict["passed"], true);
    let number = |name: &str| verdict[name].as_u64().unwrap_or_else(|| panic!("{name} in {verdict}"));
    assert!(number("cuts") >= 5 && number("resumptions") >= 5, "{verdict}");
    assert!(number("connections") > number("resumptions"), "{verdict}");
    assert_eq!((number("sessions"), number("messages_lost"), number("differences")), (1, 0, 0));
    assert_eq!((number("bytes"), number("bytes_compared")), (32 << 20, 32 << 20));
    assert_eq!(number("files"), number("files_compared"));
    assert_eq!((verdict["mode"].as_str(), verdict["key_type"].as_str()), (Some("secure"), Some("aes256k")));
    assert_eq!(left(&home), 0);
}

#[test]
fn one_flipped_byte_fails_the_demo() {
    let home = Home::new();
    let ran = home.run(&["demo", "--size", SIZE, "--seed", "2", "--sabotage", "flip"]).expect(6);
    assert!(ran.stdout.contains("FAILED: 1 difference between the trees"), "{}", ran.stdout);
    assert!(ran.stdout.contains("different contents"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("Lost: nothing"), "{}", ran.stdout);
}

#[test]
fn a_demo_without_a_resumption_fails() {
    let home = Home::new();
    let ran = home.run(&["demo", "--size", SIZE, "--seed", "3", "--sabotage", "no-cut"]).expect(6);
    assert!(ran.stdout.contains("FAILED: the session was never resumed"), "{}", ran.stdout);
}

#[test]
fn files_of_ones_own_are_copied_and_stay() {
    let home = Home::new();
    for number in 0..12 {
        home.write(&format!("mine/{number}"), &common::noise(number, 1 << 20));
    }
    let ran = home.run(&["demo", "mine", "arrived", "--json"]).expect(0);
    assert!(ran.json()["resumptions"].as_u64().unwrap() >= 1, "{}", ran.stdout);
    assert_eq!(fs::read(home.file("arrived/7")).unwrap(), common::noise(7, 1 << 20));
    home.run(&["demo", "mine", "arrived"]).expect(2).says("exists");
    home.run(&["demo", "mine", "mine/within"]).expect(2).says("within");
    assert_eq!(left(&home), 2);
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let home = Home::new();
    let mut demo = home.outlast(&["demo", "--size", "256M"]);
    let demo = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let parent = demo.id();
    let children = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        // The parent's number is the second field behind the name in brackets.
        let parents =
            stats.filter_map(|stat| stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.filter(|number| *number == parent).count()
    };
    wait_for("three processes", || (children() == 3).then_some(()));
    signal(&demo, Signal::INT);
    wait_for_end(demo).expect(130);
    assert_eq!(children(), 0);
    assert_eq!(left(&home), 0);
}
