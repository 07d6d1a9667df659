//! Words: message patterns from the locale files, and values written for people.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::profile::{Lang, Source};
use crate::time::UnixMillis;
use crate::value::{DAY_MILLIS, Right};

const FILES: [(Lang, &str); 3] = [
    (Lang::En, include_str!("../locale/en.txt")),
    (Lang::ZhHant, include_str!("../locale/zh-Hant.txt")),
    (Lang::ZhHans, include_str!("../locale/zh-Hans.txt")),
];

fn messages(lang: Lang) -> &'static BTreeMap<&'static str, &'static str> {
    static TABLES: OnceLock<[BTreeMap<&'static str, &'static str>; 3]> = OnceLock::new();
    let [en, hant, hans] = TABLES.get_or_init(|| {
        FILES.map(|(_, text)| {
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once('='))
                .collect()
        })
    });
    match lang {
        Lang::En => en,
        Lang::ZhHant => hant,
        Lang::ZhHans => hans,
    }
}

/// The message, or `None` if there is none with this key.
pub(crate) fn find(lang: Lang, key: &str) -> Option<&'static str> {
    messages(lang).get(key).copied()
}

/// The message with its places filled; a missing key shows itself, so that nothing is silently left out.
pub(crate) fn say(lang: Lang, key: &str, values: &[(&str, &str)]) -> String {
    fill(find(lang, key).unwrap_or(key), values)
}

/// Fills `{name}` places in one pass, so that filled-in text is never read as a place. Where Chinese meets Latin
/// letters or digits at the edge of a value, a space is set; values themselves are never changed.
pub(crate) fn fill(pattern: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(pattern.len() + 32);
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        push(&mut out, before);
        let Some((name, tail)) = after.split_once('}') else {
            out.push('{');
            rest = after;
            continue;
        };
        if let Some((_, value)) = values.iter().find(|(known, _)| *known == name) {
            push(&mut out, value);
        }
        rest = tail;
    }
    push(&mut out, rest);
    out
}

fn push(out: &mut String, text: &str) {
    let han = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
    if let (Some(last), Some(first)) = (out.chars().last(), text.chars().next())
        && ((han(last) && first.is_ascii_alphanumeric()) || (last.is_ascii_alphanumeric() && han(first)))
    {
        out.push(' ');
    }
    out.push_str(text);
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// An instant with its zone, as people of the language write it.
pub(crate) fn instant(lang: Lang, at: UnixMillis) -> String {
    date_time(lang, &at.to_string(), " UTC", "（UTC）")
}

fn date_time(lang: Lang, iso: &str, zone_en: &str, zone_zh: &str) -> String {
    let (day, time) = iso.split_once('T').unwrap_or((iso, ""));
    let time = time.trim_end_matches('Z').trim_end_matches(".000");
    let day = date(lang, day);
    match lang {
        Lang::En => format!("{day}, {time}{zone_en}"),
        Lang::ZhHant | Lang::ZhHans => format!("{day} {time}{zone_zh}"),
    }
}

fn date(lang: Lang, iso: &str) -> String {
    let mut parts = iso.splitn(3, '-');
    let year = parts.next().unwrap_or_default();
    let month: usize = parts.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let day: u32 = parts.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    match lang {
        Lang::En => format!("{day} {} {year}", MONTHS.get(month.saturating_sub(1)).copied().unwrap_or("?")),
        Lang::ZhHant | Lang::ZhHans => format!("{year} 年 {month} 月 {day} 日"),
    }
}

/// A duration in whole units, largest first.
pub(crate) fn duration(lang: Lang, months: i64, millis: i64) -> String {
    let seconds = millis / 1_000;
    let parts = [
        ("unit.year", months / 12),
        ("unit.month", months % 12),
        ("unit.day", millis / DAY_MILLIS),
        ("unit.hour", seconds / 3_600 % 24),
        ("unit.minute", seconds / 60 % 60),
        ("unit.second", seconds % 60),
    ];
    let mut shown: Vec<String> = Vec::new();
    for (key, amount) in parts {
        if amount == 1 {
            shown.push(say(lang, &format!("{key}.one"), &[]));
        } else if amount > 0 {
            shown.push(say(lang, key, &[("n", &amount.to_string())]));
        }
    }
    if millis % 1_000 != 0 || shown.is_empty() {
        let fraction = crate::value::Decimal::from_raw(i128::from(millis % 60_000) * 1_000_000).to_string();
        if seconds % 60 != 0 {
            shown.pop();
        }
        shown.push(say(lang, "unit.second", &[("n", &fraction)]));
    }
    shown.join(" ")
}

/// A bound of the policy, without its label (symbols are the caller's).
pub(crate) fn right(lang: Lang, right: &Right) -> String {
    match right {
        Right::Instant { lo, hi, text } if lo == hi => {
            let _ = text;
            instant(lang, UnixMillis(*lo))
        }
        Right::Instant { text, .. } => {
            let unzoned =
                if lang == Lang::ZhHans { "（未注明时区）" } else { "（未註明時區）" };
            date_time(lang, text, " (no time zone)", unzoned)
        }
        Right::Day { text, .. } => {
            let (day, zone) = text.split_at_checked(10).unwrap_or((text, ""));
            let zone = if zone == "Z" { "+00:00" } else { zone };
            let day = date(lang, day);
            match (lang, zone) {
                (_, "") => day,
                (Lang::En, zone) => format!("{day} (UTC{zone})"),
                (Lang::ZhHant | Lang::ZhHans, zone) => format!("{day}（UTC{zone}）"),
            }
        }
        Right::Duration { text, lo, .. } => {
            let months = if text.contains(['Y', 'M']) { months_of(text) } else { 0 };
            if months == 0 { duration(lang, 0, *lo) } else { duration(lang, months, millis_of(text)) }
        }
        other => other.text(),
    }
}

fn months_of(text: &str) -> i64 {
    let date = text.split('T').next().unwrap_or_default();
    number_before(date, 'Y') * 12 + number_before(date, 'M')
}

fn millis_of(text: &str) -> i64 {
    let date = text.split('T').next().unwrap_or_default();
    let time = text.split_once('T').map_or("", |(_, time)| time);
    number_before(date, 'D') * DAY_MILLIS
        + number_before(time, 'H') * 3_600_000
        + number_before(time, 'M') * 60_000
        + number_before(time, 'S') * 1_000
}

fn number_before(text: &str, unit: char) -> i64 {
    let Some((before, _)) = text.split_once(unit) else { return 0 };
    let digits = before.chars().rev().take_while(char::is_ascii_digit).count();
    before.get(before.len() - digits..).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(crate) fn source(lang: Lang, source: Source) -> &'static str {
    let key = match source {
        Source::Asserted => "source.asserted",
        Source::Registered => "source.registered",
        Source::Attested => "source.attested",
        Source::LocalCounter => "source.counter",
        Source::LocalClock => "source.clock",
    };
    find(lang, key).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_keys_and_places_in_all_languages() {
        let places = |text: &str| {
            let mut found: Vec<String> = text
                .split('{')
                .skip(1)
                .filter_map(|part| part.split_once('}').map(|(name, _)| name.to_owned()))
                .collect();
            found.sort();
            found
        };
        let english = messages(Lang::En);
        for lang in [Lang::ZhHant, Lang::ZhHans] {
            assert_eq!(messages(lang).keys().collect::<Vec<_>>(), english.keys().collect::<Vec<_>>());
            for (key, text) in messages(lang) {
                assert_eq!(places(text), places(english[key]), "{key}");
            }
        }
    }

    #[test]
    fn values_for_people() {
        let at = UnixMillis::parse_rfc3339("2026-12-31T15:59:59Z").unwrap();
        assert_eq!(instant(Lang::En, at), "31 December 2026, 15:59:59 UTC");
        assert_eq!(instant(Lang::ZhHant, at), "2026 年 12 月 31 日 15:59:59（UTC）");
        let shown = |text: &str, lang| right(lang, &crate::value::parse_duration(text).unwrap());
        assert_eq!(shown("P30D", Lang::En), "30 days");
        assert_eq!(shown("P1D", Lang::ZhHans), "1 天");
        assert_eq!(shown("PT1H30M", Lang::En), "1 hour 30 minutes");
        assert_eq!(shown("P1Y2M3D", Lang::ZhHant), "1 年 2 個月 3 天");
        assert_eq!(shown("PT0.5S", Lang::En), "0.5 seconds");
        assert_eq!(shown("PT1.5S", Lang::En), "1.5 seconds");
        assert_eq!(
            right(Lang::En, &crate::value::parse_instant("2026-12-31+08:00").unwrap()),
            "31 December 2026 (UTC+08:00)"
        );
        assert_eq!(fill("{a}{b}{c}", &[("a", "{b}"), ("b", "x")]), "{b}x");
    }
}
