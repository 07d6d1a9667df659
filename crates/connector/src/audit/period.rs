//! Periods as people write them: `2026`, `2026-11`, `2026-11-03`, or from one to another, `2026-10/2026-12`.

use control_plane::{Refusal, UnixMillis};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::BAD_PERIOD;

/// From the start of the first unit to the end of the last, in UTC.
///
/// # Errors
/// [`BAD_PERIOD`] for anything else, or an end before the start.
pub fn parse(text: &str) -> Result<(UnixMillis, UnixMillis), Refusal> {
    let refuse = || Refusal::new(&BAD_PERIOD, format!("`{}`", control_plane::ids::printable(text)));
    let (first, last) = text.split_once('/').unwrap_or((text, text));
    let (from, _) = unit(first).ok_or_else(refuse)?;
    let (_, until) = unit(last).ok_or_else(refuse)?;
    if until <= from {
        return Err(refuse());
    }
    Ok((from, until))
}

/// The first instant of a year, month or day, and the first one after it.
fn unit(text: &str) -> Option<(UnixMillis, UnixMillis)> {
    let digits = |part: &str, width: usize| {
        (part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| part.parse::<i16>().ok())?
    };
    let parts: Vec<&str> = text.split('-').collect();
    let (first, next) = match *parts.as_slice() {
        [year] => {
            let year = digits(year, 4)?;
            (Date::new(year, 1, 1).ok()?, Date::new(year.checked_add(1)?, 1, 1).ok()?)
        }
        [year, month] => {
            let first = Date::new(digits(year, 4)?, i8::try_from(digits(month, 2)?).ok()?, 1).ok()?;
            (first, first.last_of_month().tomorrow().ok()?)
        }
        [year, month, day] => {
            let (month, day) = (digits(month, 2)?, digits(day, 2)?);
            let day = Date::new(digits(year, 4)?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
            (day, day.tomorrow().ok()?)
        }
        _ => return None,
    };
    Some((start(first)?, start(next)?))
}

fn start(day: Date) -> Option<UnixMillis> {
    let zoned = day.to_zoned(TimeZone::UTC).ok()?;
    Some(UnixMillis(zoned.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, &str)>) {
        let parsed = parse(text).ok().map(|(from, until)| (from.to_string(), until.to_string()));
        let expected = expected.map(|(from, until)| (from.to_owned(), until.to_owned()));
        assert_eq!(parsed, expected, "{text}");
    }

    #[test]
    fn periods() {
        check("2026", Some(("2026-01-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z")));
        check("2026-11", Some(("2026-11-01T00:00:00.000Z", "2026-12-01T00:00:00.000Z")));
        check("2026-12", Some(("2026-12-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z")));
        check("2024-02-29", Some(("2024-02-29T00:00:00.000Z", "2024-03-01T00:00:00.000Z")));
        check("2026-10/2026-11-15", Some(("2026-10-01T00:00:00.000Z", "2026-11-16T00:00:00.000Z")));
        for bad in [
            "",
            "26",
            "2026-13",
            "2026-02-30",
            "2026-11/2026-10",
            "2026/",
            "2026-1",
            "today",
            "2026-11-03T00:00Z",
        ] {
            check(bad, None);
        }
    }
}
