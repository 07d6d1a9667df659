//! Ranges of HTTP (RFC 9110, 14): one run of bytes of an object.

use control_plane::Refusal;
use hyper::{HeaderMap, header};

control_plane::refusal_codes! {
    BAD_RANGE = "dsp/bad-range", Input,
        "the range is not one run of bytes of this object", "範圍不是此物件中的一段位元組", "范围不是此对象中的一段字节",
        clause "RFC 9110, 14", next "ask for `bytes=FIRST-LAST` within the object's size";
}

/// What of an object is sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Range {
    /// Its first byte.
    pub first: u64,
    /// Its bytes.
    pub length: u64,
    /// Whether a range was asked for, and the answer is 206.
    pub partial: bool,
}

impl Range {
    /// The whole object, or the one run of bytes that is asked for.
    ///
    /// # Errors
    /// [`BAD_RANGE`] for several runs, other units, or none of the object's bytes.
    pub fn asked(headers: &HeaderMap, size: u64) -> Result<Self, Refusal> {
        let refuse = || Refusal::new(&BAD_RANGE, format!("of {size} bytes"));
        let Some(text) = headers.get(header::RANGE) else {
            return Ok(Self { first: 0, length: size, partial: false });
        };
        let text = text.to_str().map_err(|_| refuse())?;
        let (first, last) =
            text.strip_prefix("bytes=").and_then(|run| run.split_once('-')).ok_or_else(refuse)?;
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| refuse());
        let (first, end) = match (first.trim(), last.trim()) {
            ("", last) => (size.saturating_sub(number(last)?), size),
            (first, "") => (number(first)?, size),
            (first, last) => (number(first)?, number(last)?.saturating_add(1).min(size)),
        };
        match end.checked_sub(first) {
            Some(length) if length > 0 => Ok(Self { first, length, partial: true }),
            Some(_) | None => Err(refuse()),
        }
    }
}

impl Range {
    /// `bytes FIRST-LAST/SIZE`, for a part of `size` bytes.
    pub fn told(&self, size: u64) -> String {
        let last = self.first.saturating_add(self.length).saturating_sub(1);
        format!("bytes {}-{last}/{size}", self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(asked: Option<&str>, size: u64, expected: Option<(u64, u64, bool)>) {
        let mut headers = HeaderMap::new();
        if let Some(asked) = asked {
            headers.insert(header::RANGE, asked.parse().unwrap());
        }
        let range = Range::asked(&headers, size).ok();
        let expected = expected.map(|(first, length, partial)| Range { first, length, partial });
        assert_eq!(range, expected, "{asked:?} of {size}");
    }

    #[test]
    fn ranges() {
        check(None, 10, Some((0, 10, false)));
        check(None, 0, Some((0, 0, false)));
        check(Some("bytes=0-"), 10, Some((0, 10, true)));
        check(Some("bytes=2-4"), 10, Some((2, 3, true)));
        check(Some("bytes=2-400"), 10, Some((2, 8, true)));
        check(Some("bytes=-3"), 10, Some((7, 3, true)));
        check(Some("bytes=-30"), 10, Some((0, 10, true)));
        for bad in
            ["bytes=10-", "bytes=4-2", "bytes=-0", "bytes=a-b", "bytes=0-1,3-4", "items=0-1", "bytes=-"]
        {
            check(Some(bad), 10, None);
        }
        check(Some("bytes=0-"), 0, None);
    }
}
