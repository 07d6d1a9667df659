//! What a publisher may speak about: its own participant URI and the subjects under its subject base.

use std::fmt;

use control_plane::Refusal;
use control_plane::ids::{MAX_ID_BYTES, ParticipantId, printable};

policy::refusal_codes! {
    MALFORMED_SUBJECT_BASE = "catalogue/malformed-subject-base", Input,
        "a subject base is an https URI of at most 200 bytes that ends in `/`, without query, fragment, dot segments or escapes",
        "主體基底須為以 `/` 結尾的 https URI，最長 200 位元組，不含查詢、片段、點段或跳脫字元",
        "主体基底须为以 `/` 结尾的 https URI，最长 200 字节，不含查询、片段、点段或转义字符",
        clause "operator's guide 1: the authority, subject base", next "ask the authority which subject base the statement carries";
}

/// Room is left for the local part of a subject within [`MAX_ID_BYTES`].
const MAX_BASE_BYTES: usize = 200;

/// The prefix of every IRI that one publisher may describe; disjoint between publishers by the authority's check.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubjectBase(String);

impl SubjectBase {
    /// Accepts an `https` URI that ends in `/`, without query, fragment, dot segments or percent escapes.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let refuse = || Refusal::new(&MALFORMED_SUBJECT_BASE, format!("`{}`", printable(text)));
        let iri = oxiri::Iri::parse(text).map_err(|_| refuse())?;
        let sound = text.len() <= MAX_BASE_BYTES
            && text.is_ascii()
            && text.ends_with('/')
            && !text.contains(['%', '?', '#'])
            && iri.scheme() == "https"
            && iri.authority().is_some_and(|authority| !authority.is_empty())
            && iri.path().starts_with('/')
            && !has_dot_segment(iri.path());
        if sound { Ok(Self(text.to_owned())) } else { Err(refuse()) }
    }

    /// The base as text, ending in `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `iri` lies under this base: same prefix byte by byte, something after it, and nothing in the rest
    /// that a server could resolve to another folder (`..`, `%2F`, `%2E`, `%5C`).
    pub fn contains(&self, iri: &str) -> bool {
        let Some(rest) = iri.strip_prefix(&self.0) else { return false };
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        let lower = path.to_ascii_lowercase();
        !rest.is_empty()
            && iri.len() <= MAX_ID_BYTES
            && !has_dot_segment(path)
            && !["%2f", "%2e", "%5c", "\\"].iter().any(|trick| lower.contains(trick))
    }
}

impl fmt::Display for SubjectBase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// One publisher and the subjects it may describe, as its membership statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherScope {
    /// The publisher: `dct:publisher`, assigner of its offers and signer of its envelopes.
    pub participant: ParticipantId,
    /// Where its subjects lie.
    pub subject_base: SubjectBase,
}

impl PublisherScope {
    /// Whether the publisher may say something about `iri`.
    pub fn may_describe(&self, iri: &str) -> bool {
        iri == self.participant.as_str() || self.subject_base.contains(iri)
    }
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases() {
        for good in ["https://campus.example/id/", "https://campus.example/", "https://[2001:db8::1]:8443/x/"]
        {
            assert_eq!(SubjectBase::parse(good).unwrap().as_str(), good);
        }
        let long = format!("https://campus.example/{}/", "x".repeat(200));
        for bad in [
            "",
            "/",
            "https://campus.example",
            "https://campus.example/id",
            "http://campus.example/id/",
            "https:///id/",
            "https://campus.example/../",
            "https://campus.example/a/./",
            "https://campus.example/%69d/",
            "https://campus.example/?x/",
            "https://campus.example/#/",
            "did:web:campus.example/",
            "https://é.example/",
            &long,
        ] {
            assert_eq!(SubjectBase::parse(bad).unwrap_err().code, &MALFORMED_SUBJECT_BASE, "{bad}");
        }
    }

    #[test]
    fn subjects() {
        let base = SubjectBase::parse("https://campus.example/id/").unwrap();
        for inside in [
            "https://campus.example/id/tide",
            "https://campus.example/id/tide#csv",
            "https://campus.example/id/a/b?x=../y",
        ] {
            assert!(base.contains(inside), "{inside}");
        }
        let long = format!("https://campus.example/id/{}", "x".repeat(255));
        for outside in [
            "https://campus.example/id/",
            "https://campus.example/id",
            "https://campus.example/identity/tide",
            "https://campus.example/id/../other",
            "https://campus.example/id/a/..",
            "https://campus.example/id/%2e%2e/x",
            "https://campus.example/id/a%2Fb",
            "https://campus.example/id/a%5cb",
            "HTTPS://campus.example/id/tide",
            "https://other.example/id/tide",
            &long,
        ] {
            assert!(!base.contains(outside), "{outside}");
        }
    }
}
