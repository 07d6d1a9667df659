//! What the demo ships: observations in the public domain, and their descriptions.

use std::fs;
use std::path::Path;

use super::data_space::{GUANGZHOU, HONG_KONG, MACAO};
use super::processes::Told;

/// Hourly climate normals; Hong Kong's.
pub const HOURLY: &[u8] = include_bytes!("../../demo/data/seattle-weather-hourly-normals.csv");
/// Daily weather of four years; Guangzhou's, and the days with snow Macao's.
const DAILY: &str = include_str!("../../demo/data/seattle-weather.csv");
/// Where both come from.
const SOURCE: &str = include_str!("../../demo/data/SOURCE.md");
/// Hong Kong's description.
pub const HOURLY_TURTLE: &str = include_str!("../../demo/hourly-normals.ttl");
/// Guangzhou's description.
pub const DAILY_TURTLE: &str = include_str!("../../demo/daily-weather.ttl");
/// Macao's description, but for its date.
pub const SNOW_TURTLE: &str = include_str!("../../demo/snow-days.ttl.in");
/// The place in [`SNOW_TURTLE`] for the last moment of its permission.
pub const UNTIL: &str = "@UNTIL@";

/// One file each.
pub const YEARS: [&str; 4] = ["2012", "2013", "2014", "2015"];

/// Data and descriptions, as a steward would have them.
pub fn prepare(folder: &Path) -> Told<()> {
    fs::write(folder.join("SOURCE.md"), SOURCE)?;
    fs::write(folder.join(HONG_KONG.observations()).join("hourly-normals.csv"), HOURLY)?;
    fs::write(folder.join("hourly-normals.ttl"), HOURLY_TURTLE)?;
    fs::write(folder.join("daily-weather.ttl"), DAILY_TURTLE)?;
    let daily = folder.join(GUANGZHOU.observations()).join("daily");
    fs::create_dir_all(&daily)?;
    for year in YEARS {
        fs::write(daily.join(format!("{year}.csv")), days(|line| line.starts_with(year)))?;
    }
    fs::write(folder.join(MACAO.observations()).join("snow-days.csv"), snow_days())?;
    Ok(())
}

/// The heading and the days that `wanted` takes.
fn days(wanted: impl Fn(&str) -> bool) -> String {
    let lines = DAILY.lines().enumerate().filter(|(number, line)| *number == 0 || wanted(line));
    lines.map(|(_, line)| format!("{line}\n")).collect()
}

/// Macao's file.
pub fn snow_days() -> String {
    days(|line| line.ends_with(",snow"))
}

/// The year with the longest file, so that its sealed copy can be told apart by its length.
pub fn longest_year() -> (String, String) {
    let files = YEARS.map(|year| (format!("{year}.csv"), days(|line| line.starts_with(year))));
    files.into_iter().max_by_key(|(_, text)| text.len()).unwrap_or_default()
}
