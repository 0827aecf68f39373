//! `outlast bench`, for a moment.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Home, signal, wait_for_end};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn both_tests_are_measured_in_both_modes() {
    let home = Home::new();
    let ran =
        home.run(&["bench", "--size", "4K", "--concurrency", "1,4", "--time", "100ms", "--json"]).expect(0);
    let measured = ran.json();
    let rows = measured.as_array().unwrap();
    assert_eq!(rows.len(), 8);
    for row in rows {
        assert!(row["messages"].as_u64().unwrap() > 0, "{row}");
        let figure = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"));
        assert!(
            figure("p50_microseconds") > 0.0 && figure("p99_microseconds") >= figure("p50_microseconds"),
            "{row}"
        );
        assert!(figure("cpu_seconds_per_gigabyte") > 0.0, "{row}");
    }
    for mode in ["secure", "crc"] {
        assert_eq!(rows.iter().filter(|row| row["mode"] == mode).count(), 4);
    }
    home.run(&["bench", "--size", "1G"]).expect(2);
}

#[test]
fn two_commands_find_each_other_with_the_key_that_the_first_one_made() {
    let home = Home::new();
    let mut command = home.outlast(&["bench", "--listen", "127.0.0.1:0"]);
    let mut listener = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(listener.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.by_ref().find_map(|line| {
        said += &line;
        let (_, rest) = line.split_once("`outlast bench --connect` on ")?;
        Some(rest.split(';').next()?.to_owned())
    });
    assert!(said.contains("made ") && said.contains("client.admin"), "{said}");
    let address = address.expect("it says where it waits");
    let arguments = ["bench", "--connect", &address, "--size", "4K", "--mode", "secure", "--time", "100ms"];
    let rows = home.run(&[&arguments[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
    assert!(rows.as_array().unwrap().iter().all(|row| row["messages"].as_u64().unwrap() > 0), "{rows}");
    let shown = home.ok(&arguments);
    assert!(shown.starts_with("test") && shown.contains("4 KiB") && shown.lines().count() == 3, "{shown}");
    // Somebody without the key is told so, and sees no empty table.
    let stranger = Home::new().run(&arguments).expect(2);
    assert!(stranger.stdout.is_empty() && stranger.stderr.contains("no keyring"), "{}", stranger.stderr);
    signal(&listener, rustix::process::Signal::INT);
    wait_for_end(listener).expect(130);
}
