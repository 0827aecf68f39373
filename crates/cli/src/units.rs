//! Numbers as people read and write them.

use std::time::Duration;

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `1.5 GiB`, at most seven characters.
pub(crate) fn bytes(count: u64) -> String {
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    // 1000 KiB is shown as 0.98 MiB, so that three digits do.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Bytes over a time, per second: `1.2 GiB/s`.
pub(crate) fn rate(count: u64, over: Duration) -> String {
    let seconds = over.as_secs_f64();
    if seconds <= 0.0 {
        return "-".to_owned();
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "three digits are shown"
    )]
    let per_second = (count as f64 / seconds) as u64;
    format!("{}/s", bytes(per_second))
}

/// `850 us`, `12.3 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, unit: &str, small: u64, part: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {part}"),
    };
    match seconds {
        0 if time < Duration::from_millis(1) => format!("{} us", time.as_micros()),
        0 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2,000 files`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{} {what}s", count(number)) }
}

/// Reads `4096`, `64K`, `64KiB`, `1.5G`: powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a size: write 4096, 64K, 10M or 1.5G");
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(bad()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(bad);
    }
    let value: f64 = number.parse().map_err(|_| bad())?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "digits and a point: never negative, saturates"
    )]
    Ok((value * (1_u64 << shift) as f64) as u64)
}

/// Reads `30s`, `10m`, `12h`, `7d`, `forever` (None).
pub(crate) fn parse_lifetime(text: &str) -> Result<Option<Duration>, String> {
    if matches!(text, "forever" | "for-ever") {
        return Ok(None);
    }
    let bad = || format!("{text:?} is not a time: write 30s, 10m, 12h, 7d or forever");
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let seconds = match unit.trim() {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    if number == 0 {
        return Err("a session of no length cannot live: write 1s or more".to_owned());
    }
    number.checked_mul(seconds).map(|s| Some(Duration::from_secs(s))).ok_or_else(bad)
}

/// Reads a time that has an end: `500ms`, `30s`, `10m`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    if let Some(millis) = text.strip_suffix("ms") {
        let millis =
            millis.trim().parse().map_err(|_| format!("{text:?} is not a time: write 500ms, 30s or 10m"))?;
        return Ok(Duration::from_millis(millis));
    }
    parse_lifetime(text)?.ok_or_else(|| "this needs an end: write 30s or 10m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_three_digits() {
        let shown: Vec<_> = [0, 999, 1000, 1023, 1024, 10_240, 1 << 30, u64::MAX].map(bytes).into();
        let wanted =
            ["0 B", "999 B", "0.98 KiB", "1.00 KiB", "1.00 KiB", "10.0 KiB", "1.00 GiB", "16384 PiB"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        assert_eq!(parse_bytes("64K"), Ok(65_536));
        assert_eq!(parse_bytes("1.5G"), Ok(1_610_612_736));
        assert_eq!(parse_bytes("10 MiB"), Ok(10 << 20));
        assert!(parse_bytes("ten").is_err());
        assert!(parse_bytes("1.2.3K").is_err());
        assert!(parse_bytes("99999999999T").is_err());
    }

    #[test]
    fn lifetimes_have_a_unit_or_no_end() {
        assert_eq!(parse_lifetime("90"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(parse_lifetime("7d"), Ok(Some(Duration::from_secs(604_800))));
        assert_eq!(parse_lifetime("forever"), Ok(None));
        assert!(parse_lifetime("0s").is_err());
        assert!(parse_lifetime("soon").is_err());
        assert!(parse_time("forever").is_err());
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn times_have_the_units_that_matter() {
        let shown = [
            (0, 850),
            (12_300, 0),
            (4_200_000, 0),
            (200_000_000, 0),
            (3_600_000_000, 0),
            (266_400_000_000, 0),
        ]
        .map(|(micros, more)| duration(Duration::from_micros(micros + more)));
        assert_eq!(shown, ["850 us", "12.3 ms", "4.2 s", "3 min 20 s", "1 h", "3 d 2 h"]);
    }

    #[test]
    fn long_numbers_have_commas() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
