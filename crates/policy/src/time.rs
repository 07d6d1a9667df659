//! Instants as values: the pure crates are told the time, they never read it.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Parses an RFC 3339 timestamp with a zone; anything finer than a millisecond is cut off.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|instant| Self(instant.as_millisecond()))
    }

    /// This instant plus `millis`, saturating.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this instant; negative if `earlier` is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// RFC 3339 in UTC with exactly three decimals, as it stands in everything signed: `2026-11-24T08:00:00.000Z`.
impl fmt::Display for UnixMillis {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(out, "{instant:.3}"),
            // The calendar of four digits ends some hours later than the timestamps of the library.
            Err(_) => {
                let since = jiff::SignedDuration::from_millis(self.0);
                match jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0).checked_add(since) {
                    Ok(civil) => write!(out, "{civil:.3}Z"),
                    Err(_) => write!(out, "out-of-range({} ms)", self.0),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::UnixMillis;

    #[test]
    fn text_round_trip() {
        for text in ["2026-11-24T08:00:00.000Z", "1969-12-31T23:59:59.999Z"] {
            assert_eq!(UnixMillis::parse_rfc3339(text).unwrap().to_string(), text);
        }
        assert_eq!(UnixMillis::parse_rfc3339("2026-11-24T08:00:00"), None, "a zone is required");
        assert_eq!(
            UnixMillis::parse_rfc3339("2026-11-24T16:00:00+08:00"),
            UnixMillis::parse_rfc3339("2026-11-24T08:00:00Z")
        );
    }
}
