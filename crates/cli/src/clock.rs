//! Wall-clock time and dates.

use outlast_cephx::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, since 1970; a clock before that counts as 1970.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Now, as keys and tickets carry it.
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::from_unix(since_1970())
}

/// `2026-11-20`, in UTC.
pub(crate) fn date(seconds_since_1970: u32) -> String {
    // Days to a date in the Gregorian calendar, counted from 1 March of the year 0 so that leap days come last
    // (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let days = seconds_since_1970 / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u32::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `14:03:59`, in UTC: what a log line begins with.
pub(crate) fn time_of_day() -> String {
    let seconds = since_1970().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `date -u -d @N +%F`.
    #[test]
    fn dates_are_those_of_the_calendar() {
        let dates = [0, 951_782_400, 951_868_800, 1_709_164_800, 1_795_132_800, u32::MAX].map(date);
        assert_eq!(
            dates,
            ["1970-01-01", "2000-02-29", "2000-03-01", "2024-02-29", "2026-11-20", "2106-02-07"]
        );
    }
}
