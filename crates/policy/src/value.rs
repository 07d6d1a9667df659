//! Values: exact decimals, instants and durations with their honest uncertainty, symbols.

use std::fmt;

use jiff::SignedDuration;
use jiff::civil::Date;

use crate::time::UnixMillis;
use crate::vocab::XSD;

const SCALE: i128 = 1_000_000_000;
/// Milliseconds of one day.
pub const DAY_MILLIS: i64 = 86_400_000;
/// A time without a zone may lie this far to either side of the same time in UTC (XML Schema 1.1, E.3.3).
const ZONE_SPREAD_MILLIS: i64 = 14 * 3_600_000;

/// An exact decimal with up to nine decimal places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i128);

impl Decimal {
    /// Parses `-12.50` or `1.5e3`; `None` beyond 18 integer digits or nine decimal places.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
        if !all_digits || whole.len() + fraction.len() == 0 || whole.len() + fraction.len() > 30 {
            return None;
        }
        let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
        let shift = 9_i32.checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let power = 10_i128.checked_pow(shift.unsigned_abs().min(38))?;
        let scaled = if shift >= 0 {
            unscaled.checked_mul(power)?
        } else if unscaled % power == 0 {
            unscaled / power
        } else {
            return None;
        };
        let bound = SCALE.checked_mul(1_000_000_000_000_000_000)?;
        (scaled < bound).then_some(Self(if negative { -scaled } else { scaled }))
    }

    /// The whole number `value`.
    pub const fn whole(value: i64) -> Self {
        Self(value as i128 * SCALE)
    }

    /// This number plus one, as the next use counts.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(SCALE))
    }

    pub(crate) const fn raw(self) -> i128 {
        self.0
    }

    pub(crate) const fn from_raw(raw: i128) -> Self {
        Self(raw)
    }

    /// Whether there is no fraction.
    pub const fn is_whole(self) -> bool {
        self.0 % SCALE == 0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let scale = SCALE.unsigned_abs();
        if self.0 < 0 {
            out.write_str("-")?;
        }
        write!(out, "{}", magnitude / scale)?;
        let fraction = format!("{:09}", magnitude % scale);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { Ok(()) } else { write!(out, ".{fraction}") }
    }
}

/// An IRI or token, with its hash computed once so that a decision compares numbers first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol {
    hash: u64,
    text: Box<str>,
}

impl Symbol {
    /// Takes the text as it stands.
    pub fn new(text: &str) -> Self {
        Self { hash: hash(text), text: text.into() }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// Eight bytes a step: not against attackers (the text is compared as well), only cheap. It stays in memory.
pub(crate) fn hash(text: &str) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut tail = [0_u8; 8];
    for (place, byte) in tail.iter_mut().zip(rest) {
        *place = *byte;
    }
    let step = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
    let hash = words.iter().fold(text.len() as u64, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let hash = step(hash, u64::from_le_bytes(tail));
    // The multiplication stirs the upper bits best; tables look at the lower ones.
    hash ^ (hash >> 32)
}

/// A fact's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An instant; for durations «since», the instant they count from.
    Instant(UnixMillis),
    /// A duration in milliseconds.
    Duration(i64),
    /// A number, with a unit if the operand has one.
    Number(Decimal, Option<Symbol>),
    /// One IRI, code or token.
    Symbol(Symbol),
    /// Several at once, e.g. all roles a user holds.
    Symbols(Vec<Symbol>),
}

impl Value {
    /// A whole number without unit.
    pub const fn whole(value: i64) -> Self {
        Self::Number(Decimal::whole(value), None)
    }

    /// One IRI, code or token; the well-known prefixes (`dpv:` and so on) are expanded.
    pub fn symbol(text: &str) -> Self {
        Self::Symbol(expanded(text))
    }

    /// Several IRIs, codes or tokens at once.
    pub fn symbols<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Symbols(texts.into_iter().map(expanded).collect())
    }
}

fn expanded(text: &str) -> Symbol {
    crate::vocab::expand_prefixed(text, &Vec::new())
        .map_or_else(|| Symbol::new(text), |iri| Symbol::new(&iri))
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instant(at) => write!(out, "{at}"),
            Self::Duration(millis) => out.write_str(&duration_text(0, *millis)),
            Self::Number(number, None) => write!(out, "{number}"),
            Self::Number(number, Some(unit)) => {
                write!(out, "{number} {}", crate::vocab::short(unit.as_str()))
            }
            Self::Symbol(symbol) => out.write_str(&crate::vocab::short(symbol.as_str())),
            Self::Symbols(list) => {
                let list: Vec<String> =
                    list.iter().map(|symbol| crate::vocab::short(symbol.as_str())).collect();
                out.write_str(&list.join(", "))
            }
        }
    }
}

/// A bound as the policy states it, understood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Right {
    /// An instant somewhere in `lo..=hi` (equal if a zone was given).
    Instant { lo: i64, hi: i64, text: String },
    /// A whole day; start and end each as uncertain as the zone.
    Day { start_lo: i64, start_hi: i64, text: String },
    /// A duration somewhere in `lo..=hi` milliseconds (months are not equally long).
    Duration { lo: i64, hi: i64, text: String },
    /// A number.
    Number(Decimal),
    /// An IRI, or a code that an alias table made one.
    Symbol(String),
    /// A plain text.
    Text(String),
}

impl Right {
    /// The canonical lexical form.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Instant { text, .. } | Self::Day { text, .. } | Self::Duration { text, .. } => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Symbol(text) | Self::Text(text) => text.clone(),
        }
    }

    /// The local name of the XML Schema datatype; `None` for IRIs and plain text.
    pub(crate) fn datatype(&self) -> Option<&'static str> {
        match self {
            Self::Instant { .. } => Some("dateTime"),
            Self::Day { .. } => Some("date"),
            Self::Duration { .. } => Some("duration"),
            Self::Number(number) => Some(if number.is_whole() { "integer" } else { "decimal" }),
            Self::Symbol(_) | Self::Text(_) => None,
        }
    }
}

/// What the datatype says about an instant: `None` if the text is neither xsd:dateTime nor xsd:date.
pub(crate) fn parse_instant(text: &str) -> Option<Right> {
    let text = text.trim();
    if text.contains('T') { parse_date_time(text) } else { parse_day(text) }
}

/// As XML Schema writes it and no other way: `2026-12-31T24:00:00Z` is the end of the day, `+08` is no zone. Seconds may be
/// left out, as the specification's own examples do (`2023-12-31T06:00Z`).
fn parse_date_time(text: &str) -> Option<Right> {
    let (day, time) = text.split_once('T')?;
    let date: Date = Some(day).filter(|day| day.len() == 10)?.parse().ok()?;
    let zone = time.find(['Z', '+', '-']).and_then(|at| time.get(at..)).unwrap_or_default();
    let clock = time_of_day(time.strip_suffix(zone)?)?;
    let offset = if zone.is_empty() { None } else { Some(zone_millis(zone)?) };
    let days = i64::from(date.since(jiff::civil::date(1970, 1, 1)).ok()?.get_days());
    let local = days.checked_mul(DAY_MILLIS)?.checked_add(clock)?;
    let millis = local.checked_sub(offset.unwrap_or(0))?;
    let shown = UnixMillis(millis).to_string();
    if offset.is_some() {
        return Some(Right::Instant { lo: millis, hi: millis, text: shown });
    }
    Some(Right::Instant {
        lo: millis.checked_sub(ZONE_SPREAD_MILLIS)?,
        hi: millis.checked_add(ZONE_SPREAD_MILLIS)?,
        text: shown.strip_suffix('Z')?.to_owned(),
    })
}

/// Milliseconds of `hh:mm`, `hh:mm:ss` or `hh:mm:ss.f…`; anything finer than a millisecond is cut off.
fn time_of_day(text: &str) -> Option<i64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => (whole, fraction),
        Some(_) => return None,
        None => (text, ""),
    };
    let mut parts = whole.split(':').map(two_digits);
    let (hours, minutes) = (parts.next()??, parts.next()??);
    let seconds = match parts.next() {
        Some(seconds) => seconds?,
        None if fraction.is_empty() => 0,
        None => return None,
    };
    let fraction: i64 = fraction.chars().chain("000".chars()).take(3).collect::<String>().parse().ok()?;
    let millis = hours * 3_600_000 + minutes * 60_000 + seconds * 1_000 + fraction;
    let good = parts.next().is_none() && minutes < 60 && seconds < 60 && millis <= DAY_MILLIS;
    good.then_some(millis)
}

/// The offset of `Z` or `±hh:mm` from UTC.
fn zone_millis(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    if minutes > 59 || hours * 60 + minutes > 14 * 60 {
        return None;
    }
    let offset = (hours * 60 + minutes) * 60_000;
    Some(if sign == "-" { -offset } else { offset })
}

fn parse_day(text: &str) -> Option<Right> {
    let (day, zone) = text.split_at_checked(10)?;
    let date: Date = day.parse().ok()?;
    let start = SignedDuration::from_hours(
        24 * i64::from(date.since(jiff::civil::date(1970, 1, 1)).ok()?.get_days()),
    );
    let start = i64::try_from(start.as_millis()).ok()?;
    let (offset_lo, offset_hi, zone) = match zone {
        "" => (-ZONE_SPREAD_MILLIS, ZONE_SPREAD_MILLIS, String::new()),
        "Z" | "+00:00" | "-00:00" => (0, 0, "Z".to_owned()),
        _ => {
            let (sign, rest) = zone.split_at_checked(1)?;
            let (hours, minutes) = rest.split_once(':')?;
            let (hours, minutes): (i64, i64) = (two_digits(hours)?, two_digits(minutes)?);
            if hours > 14 || minutes > 59 {
                return None;
            }
            let offset = (hours * 60 + minutes) * 60_000;
            let offset = match sign {
                "+" => -offset,
                "-" => offset,
                _ => return None,
            };
            (offset, offset, zone.to_owned())
        }
    };
    Some(Right::Day {
        start_lo: start.checked_add(offset_lo)?,
        start_hi: start.checked_add(offset_hi)?,
        text: format!("{date}{zone}"),
    })
}

fn two_digits(text: &str) -> Option<i64> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// An xsd:duration: years, months, days, hours, minutes, seconds; not negative.
pub(crate) fn parse_duration(text: &str) -> Option<Right> {
    let (months, millis) = duration_parts(text.trim())?;
    // 400 years have 4,800 months and 146,097 days; with century years left out, no run strays five days from that.
    let rate = months.checked_mul(146_097)? / 4_800;
    let lo = (rate - 5).max(28 * months) * DAY_MILLIS;
    let hi = (rate + 5).min(31 * months) * DAY_MILLIS;
    Some(Right::Duration {
        lo: lo.checked_add(millis)?,
        hi: hi.checked_add(millis)?,
        text: duration_text(months, millis),
    })
}

fn duration_parts(text: &str) -> Option<(i64, i64)> {
    let rest = text.strip_prefix('P')?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None if rest.is_empty() => return None,
        None => (rest, ""),
    };
    let mut months = 0_i64;
    let mut millis = 0_i64;
    let units =
        |part: &str, allowed: &str, add: &mut dyn FnMut(char, i64, i64) -> Option<()>| -> Option<()> {
            let mut order = allowed.chars();
            let mut number = String::new();
            for c in part.chars() {
                if c.is_ascii_digit() || c == '.' {
                    number.push(c);
                    continue;
                }
                order.find(|unit| *unit == c)?;
                let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
                if whole.is_empty() || (number.contains('.') && (c != 'S' || fraction.is_empty())) {
                    return None;
                }
                let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
                add(c, whole.parse().ok()?, fraction.parse().ok()?)?;
                number.clear();
            }
            number.is_empty().then_some(())
        };
    units(date, "YMD", &mut |unit, whole, _| {
        match unit {
            'Y' => months = months.checked_add(whole.checked_mul(12)?)?,
            'M' => months = months.checked_add(whole)?,
            _ => millis = millis.checked_add(whole.checked_mul(DAY_MILLIS)?)?,
        }
        Some(())
    })?;
    units(time, "HMS", &mut |unit, whole, fraction| {
        let factor = match unit {
            'H' => 3_600_000,
            'M' => 60_000,
            _ => 1_000,
        };
        millis = millis.checked_add(whole.checked_mul(factor)?)?.checked_add(fraction)?;
        Some(())
    })?;
    // A thousand years: beyond it lies a slip of the pen, not a policy.
    (months <= 12_000 && millis <= 366_000 * DAY_MILLIS).then_some((months, millis))
}

/// The shortest xsd:duration for months and milliseconds.
pub(crate) fn duration_text(months: i64, millis: i64) -> String {
    let mut text = String::from(if millis < 0 { "-P" } else { "P" });
    let millis = millis.unsigned_abs();
    let (days, rest) = (millis / DAY_MILLIS.unsigned_abs(), millis % DAY_MILLIS.unsigned_abs());
    for (amount, unit) in [(months.unsigned_abs() / 12, 'Y'), (months.unsigned_abs() % 12, 'M'), (days, 'D')]
    {
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
        }
    }
    if rest > 0 || text.ends_with('P') {
        text.push('T');
        let (hours, minutes, seconds, fraction) =
            (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
        for (amount, unit) in [(hours, 'H'), (minutes, 'M')] {
            if amount > 0 {
                text.push_str(&format!("{amount}{unit}"));
            }
        }
        if fraction > 0 {
            let fraction = format!("{fraction:03}");
            text.push_str(&format!("{seconds}.{}S", fraction.trim_end_matches('0')));
        } else if seconds > 0 || text.ends_with('T') {
            text.push_str(&format!("{seconds}S"));
        }
    }
    text
}

/// Whether a datatype IRI fits a kind of value; no datatype and xsd:string fit everything that parses.
pub(crate) fn datatype_fits(datatype: &str, fitting: &[&str]) -> bool {
    datatype.strip_prefix(XSD).is_some_and(|name| name == "string" || fitting.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for (text, shown) in [
            ("3", "3"),
            ("-12.50", "-12.5"),
            ("1.5e3", "1500"),
            ("0.000000001", "0.000000001"),
            ("+7", "7"),
            ("1e-3", "0.001"),
            ("100e-2", "1"),
        ] {
            assert_eq!(Decimal::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for bad in
            ["", "-", ".", "1e", "0x1", "1e40", "0.0000000001", "9999999999999999999", "١", "1e-2147483648"]
        {
            assert_eq!(Decimal::parse(bad), None, "{bad}");
        }
        assert!(Decimal::parse("9.5").unwrap() < Decimal::parse("10").unwrap());
    }

    #[test]
    fn instants_and_days() {
        let at = |text: &str| UnixMillis::parse_rfc3339(text).unwrap().0;
        let noon = at("2026-12-31T12:00:00Z");
        assert_eq!(
            parse_instant("2026-12-31T20:00:00+08:00"),
            Some(Right::Instant { lo: noon, hi: noon, text: "2026-12-31T12:00:00.000Z".into() })
        );
        assert_eq!(parse_instant("2026-12-31T12:00Z"), parse_instant("2026-12-31T12:00:00.000Z"));
        let Some(Right::Instant { lo, hi, text }) = parse_instant("2026-12-31T12:00:00") else { panic!() };
        assert_eq!((hi - noon, noon - lo), (14 * 3_600_000, 14 * 3_600_000));
        assert_eq!(text, "2026-12-31T12:00:00.000");
        assert_eq!(parse_instant("2026-12-31T24:00:00Z"), parse_instant("2027-01-01T00:00:00Z"));
        let Some(Right::Instant { text, .. }) = parse_instant("9999-12-31T23:59:59Z") else { panic!() };
        assert_eq!(text, "9999-12-31T23:59:59.000Z");
        assert_eq!(parse_instant(&text).map(|right| right.text()), Some(text));
        let midnight = at("2026-12-30T16:00:00Z");
        assert_eq!(
            parse_instant("2026-12-31+08:00"),
            Some(Right::Day { start_lo: midnight, start_hi: midnight, text: "2026-12-31+08:00".into() })
        );
        for bad in [
            "",
            "2026-13-01",
            "2026-12-31T25:00:00Z",
            "tomorrow",
            "2026-12-31+8:00",
            "2026-12-31T12:00:00+08",
            "2026-12-31T12:00:00+08:00[Asia/Shanghai]",
            "2026-12-31T24:00:01Z",
            "2026-12-31T12:00:60Z",
            "2026-12-31T12:00:00+14:01",
            "31.12.2026",
            "２０２６",
        ] {
            assert_eq!(parse_instant(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, shown, lo, hi) in [
            ("P30D", "P30D", 30, 30),
            ("PT24H", "P1D", 1, 1),
            ("P1M", "P1M", 28, 31),
            ("P0D", "PT0S", 0, 0),
            ("P1Y", "P1Y", 360, 370),
        ] {
            let Some(Right::Duration { lo: min, hi: max, text: canonical }) = parse_duration(text) else {
                panic!("{text}");
            };
            assert_eq!((canonical.as_str(), min / DAY_MILLIS, max / DAY_MILLIS), (shown, lo, hi), "{text}");
        }
        assert_eq!(duration_text(0, 5_400_250), "PT1H30M0.25S");
        for bad in ["", "P", "PT", "30D", "P1", "P1.5D", "-P1D", "P1DT", "PT1M1H", "P1H", "PT1.S"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn month_bounds_hold_on_the_calendar() {
        for months in 1..=120_i64 {
            let Some(Right::Duration { lo, hi, .. }) = parse_duration(&format!("P{months}M")) else {
                panic!()
            };
            for start in ["1696-09-01", "1697-02-01", "1903-03-01", "1903-07-01", "2000-02-29", "1900-01-31"]
            {
                let start: Date = start.parse().unwrap();
                let end = start.checked_add(jiff::Span::new().months(months)).unwrap();
                let days = i64::from(end.since(start).unwrap().get_days());
                assert!(lo <= days * DAY_MILLIS && days * DAY_MILLIS <= hi, "{months} from {start}: {days}");
            }
        }
    }
}
