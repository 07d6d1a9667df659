//! Values of a row, the same for the three formats, and their one text.

use std::fmt::Write as _;

use arrow_schema::{DataType, TimeUnit};
use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use serde_json::Value;

/// A column: its name and, where the format has types, its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    /// `None` where each value has a type of its own (JSON) or none has (CSV).
    pub kind: Option<DataType>,
}

/// One value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Cell {
    /// Nothing: JSON's null or a missing member, Parquet's null, an empty CSV field.
    #[default]
    Null,
    Bool(bool),
    /// Holds every integer of the three formats.
    Int(i128),
    Float(f64),
    Text(String),
    /// Days since 1970-01-01.
    Date(i32),
    Instant(i64, TimeUnit),
    /// An object or array of JSON.
    Nested(Value),
}

/// A number as it is computed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

/// A record on its way through the steps.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Number of the source's record, from 1, for messages.
    pub number: u64,
    pub cells: Vec<Cell>,
}

impl Cell {
    /// Makes this a text, in the memory that it already has.
    pub(super) fn set_text(&mut self, text: &str) {
        match self {
            Self::Text(kept) => {
                kept.clear();
                kept.push_str(text);
            }
            other => *other = Self::Text(text.to_owned()),
        }
    }

    /// Appends the text of the value; the same value has the same text in each format. False for nested ones.
    pub(super) fn write_text(&self, out: &mut String) -> bool {
        let written = match self {
            Self::Null => Ok(()),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Int(value) => write!(out, "{value}"),
            Self::Float(value) => write!(out, "{value}"),
            Self::Text(text) => out.write_str(text),
            Self::Date(_) => match self.date() {
                Some(date) => write!(out, "{date}"),
                None => return false,
            },
            Self::Instant(value, unit) => match instant(*value, *unit) {
                Some(instant) => write!(out, "{instant}"),
                None => return false,
            },
            Self::Nested(_) => return false,
        };
        written.is_ok()
    }

    /// The value as a number; `None` if it is none, or not a finite one.
    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Self::Int(value) => Some(Number::Int(*value)),
            Self::Float(value) => value.is_finite().then_some(Number::Float(*value)),
            Self::Text(text) => parse_number(text),
            Self::Null | Self::Bool(_) | Self::Date(_) | Self::Instant(..) | Self::Nested(_) => None,
        }
    }

    /// The day as written, or in UTC for an instant; `None` if it is none.
    pub(super) fn date(&self) -> Option<Date> {
        match self {
            Self::Text(text) => parse_date(text),
            Self::Date(days) => date(1970, 1, 1).checked_add(jiff::Span::new().try_days(*days).ok()?).ok(),
            Self::Instant(value, unit) => Some(instant(*value, *unit)?.to_zoned(TimeZone::UTC).date()),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Nested(_) => None,
        }
    }

    /// A constant of a declaration; `None` for objects and arrays.
    pub(super) fn constant(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Array(_) | Value::Object(_) => return None,
            other => Self::of_json(other.clone()),
        })
    }

    /// A value as JSON has it.
    pub(super) fn of_json(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(value), _, _) => Self::Int(value.into()),
                (None, Some(value), _) => Self::Int(value.into()),
                (None, None, Some(value)) => Self::Float(value),
                (None, None, None) => Self::Null,
            },
            Value::String(text) => Self::Text(text),
            nested @ (Value::Array(_) | Value::Object(_)) => Self::Nested(nested),
        }
    }

    /// The type of the column that this constant makes, where columns have types.
    pub(super) fn kind(&self) -> Option<DataType> {
        match self {
            Self::Bool(_) => Some(DataType::Boolean),
            Self::Int(_) => Some(DataType::Int64),
            Self::Float(_) => Some(DataType::Float64),
            Self::Text(_) => Some(DataType::Utf8),
            Self::Null | Self::Date(_) | Self::Instant(..) | Self::Nested(_) => None,
        }
    }
}

impl Number {
    pub(super) fn as_f64(self) -> f64 {
        match self {
            // Only sums and comparisons of unlike numbers come here; 2^53 and above are rounded.
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// The greatest whole number that is not above.
    pub(super) fn floor(self) -> i128 {
        match self {
            Self::Int(value) => value,
            // A float beyond the range saturates, which puts it into the outermost bin.
            Self::Float(value) => value.floor() as i128,
        }
    }

    pub(super) fn less_than(self, other: Self) -> bool {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => left < right,
            (left, right) => left.as_f64() < right.as_f64(),
        }
    }

    pub(super) const fn cell(self) -> Cell {
        match self {
            Self::Int(value) => Cell::Int(value),
            Self::Float(value) => Cell::Float(value),
        }
    }
}

/// A number as people write it in CSV: digits, a point, an exponent; nothing like `inf` or `1,000`.
fn parse_number(text: &str) -> Option<Number> {
    let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return None;
    }
    if let Ok(value) = text.parse() {
        return Some(Number::Int(value));
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(Number::Float)
}

/// `YYYY-MM-DD`, alone or before a time; the day as it is written, in whatever zone.
fn parse_date(text: &str) -> Option<Date> {
    let (day, time) = text.split_at_checked(10)?;
    let in_time = |byte: u8| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'+' | b'-' | b'Z');
    let time_is_plain = match time.as_bytes() {
        [] => true,
        [b'T' | b't' | b' ', rest @ ..] => {
            rest.len() >= 5 && rest.len() <= 32 && rest.iter().copied().all(in_time)
        }
        _ => false,
    };
    let number = |range: std::ops::Range<usize>| {
        let digits = day.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
        digits.parse::<i16>().ok()
    };
    let dashes = day.as_bytes().get(4) == Some(&b'-') && day.as_bytes().get(7) == Some(&b'-');
    if !dashes || !time_is_plain {
        return None;
    }
    let (month, of_month) = (i8::try_from(number(5..7)?).ok()?, i8::try_from(number(8..10)?).ok()?);
    Date::new(number(0..4)?, month, of_month).ok()
}

fn instant(value: i64, unit: TimeUnit) -> Option<Timestamp> {
    match unit {
        TimeUnit::Second => Timestamp::from_second(value).ok(),
        TimeUnit::Millisecond => Timestamp::from_millisecond(value).ok(),
        TimeUnit::Microsecond => Timestamp::from_microsecond(value).ok(),
        TimeUnit::Nanosecond => Timestamp::from_nanosecond(value.into()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_write_them() {
        let check = |text: &str, expected: Option<Number>| assert_eq!(parse_number(text), expected, "{text}");
        check("12", Some(Number::Int(12)));
        check("-7", Some(Number::Int(-7)));
        check("18446744073709551615", Some(Number::Int(u64::MAX.into())));
        check("1.5", Some(Number::Float(1.5)));
        check("1e3", Some(Number::Float(1000.0)));
        for text in ["", "inf", "NaN", "1,000", "0x10", " 1", "1e999", "--1", "１"] {
            check(text, None);
        }
        assert_eq!(Number::Float(-0.5).floor(), -1);
    }

    #[test]
    fn dates_as_people_write_them() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(parse_date(text).map(|date| date.to_string()).as_deref(), expected, "{text}");
        };
        check("2024-02-29", Some("2024-02-29"));
        check("2024-02-29T23:59:59.5+08:00", Some("2024-02-29"));
        check("2024-02-29 23:59", Some("2024-02-29"));
        for text in [
            "",
            "2023-02-29",
            "29/02/2024",
            "2024-2-9",
            "2024-02-291",
            "2024-02-29T",
            "2024-02-29Tnoon!",
            "+024-02-29",
            "二〇二四-01-01",
        ] {
            check(text, None);
        }
        assert_eq!(Cell::Date(19_782).date().unwrap().to_string(), "2024-02-29");
        assert_eq!(Cell::Instant(-1, TimeUnit::Millisecond).date().unwrap().to_string(), "1969-12-31");
    }

    #[test]
    fn one_text_for_one_value() {
        let text = |cell: Cell| {
            let mut text = String::new();
            cell.write_text(&mut text).then_some(text)
        };
        assert_eq!(text(Cell::Int(5)).as_deref(), Some("5"));
        assert_eq!(text(Cell::Float(0.1)).as_deref(), Some("0.1"));
        assert_eq!(text(Cell::Bool(true)).as_deref(), Some("true"));
        assert_eq!(text(Cell::Date(0)).as_deref(), Some("1970-01-01"));
        assert_eq!(text(Cell::Instant(1, TimeUnit::Second)).as_deref(), Some("1970-01-01T00:00:01Z"));
        assert_eq!(text(Cell::Nested(serde_json::json!([]))), None);
    }
}
