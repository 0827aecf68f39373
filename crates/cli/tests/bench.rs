//! `outlast bench`, for a moment.
#![allow(clippy::unwrap_used)]

mod common;

use common::Home;

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
