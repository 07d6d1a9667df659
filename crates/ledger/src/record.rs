//! One record of the log: what happened, when, and to what; with exactly one canonical text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::LedgerError;

/// The version written into every record.
const VERSION: u32 = 1;
/// Names of kinds and fields: fit a column of a listing.
pub const MAX_NAME_BYTES: usize = 64;
/// Fields of one record: a record names things, it does not hold documents.
pub const MAX_FIELDS: usize = 32;
/// One field's value: holds a hash, a URI or a short reason; longer content is recorded by its hash.
pub const MAX_VALUE_BYTES: usize = 4096;
/// The whole canonical text: the most that the bounds above can need after JSON escapes, and so the most that is read.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// The largest integer that every JSON reader keeps exactly.
const MAX_EXACT_INTEGER: i64 = (1 << 53) - 1;

/// A record; immutable once made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    body: Body,
    canonical: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    v: u32,
    kind: String,
    at: i64,
    subject: BTreeMap<String, String>,
}

/// One member of a record's JSON text, for the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The JSON name.
    pub name: &'static str,
    /// The JSON type and its bounds.
    pub form: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

/// The members of a record's JSON text, in canonical order.
pub const RECORD_MEMBERS: &[Member] = &[
    Member {
        name: "at",
        form: "integer, 0 to 2^53-1",
        meaning: "when it was recorded: milliseconds since 1970-01-01T00:00:00Z on the recorder's clock",
    },
    Member {
        name: "kind",
        form: "string, 1 to 64 of a-z 0-9 and -",
        meaning: "what happened, e.g. agreement-signed",
    },
    Member {
        name: "subject",
        form: "object of strings; up to 32 names of 1 to 64 of A-Z a-z 0-9, values up to 4096 bytes",
        meaning: "to what it happened, by name: agreement, dataset, peer, hash of the decision, ...",
    },
    Member { name: "v", form: "integer", meaning: "version of this format, 1" },
];

impl Record {
    /// A record of `kind` at `at_millis` (milliseconds since 1970) about `subject`; refuses what breaks the
    /// bounds in [`RECORD_MEMBERS`].
    pub fn new<N, V>(
        kind: &str,
        at_millis: i64,
        subject: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, LedgerError>
    where
        N: Into<String>,
        V: Into<String>,
    {
        let mut fields = BTreeMap::new();
        for (name, value) in subject {
            let name = name.into();
            if fields.insert(name.clone(), value.into()).is_some() {
                return Err(LedgerError::Record(format!("field `{name}` given twice")));
            }
        }
        Self::of(Body { v: VERSION, kind: kind.to_owned(), at: at_millis, subject: fields })
    }

    /// Reads a canonical text; any other spelling of the same record refuses, for it has another leaf.
    pub fn parse(canonical: &[u8]) -> Result<Self, LedgerError> {
        if canonical.len() > MAX_RECORD_BYTES {
            return Err(LedgerError::Record(format!("longer than {MAX_RECORD_BYTES} bytes")));
        }
        let body: Body =
            serde_json::from_slice(canonical).map_err(|error| LedgerError::Format(error.to_string()))?;
        if body.v != VERSION {
            return Err(LedgerError::Format(format!("record version {} is unknown", body.v)));
        }
        let record = Self::of(body)?;
        if record.canonical.as_bytes() != canonical {
            return Err(LedgerError::Format("the record is not in canonical form (RFC 8785)".to_owned()));
        }
        Ok(record)
    }

    /// What happened.
    pub fn kind(&self) -> &str {
        &self.body.kind
    }

    /// When it was recorded, in milliseconds since 1970.
    pub fn at_millis(&self) -> i64 {
        self.body.at
    }

    /// To what it happened, by name.
    pub fn subject(&self) -> &BTreeMap<String, String> {
        &self.body.subject
    }

    /// The one text of this record (RFC 8785).
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    fn of(body: Body) -> Result<Self, LedgerError> {
        let refuse = |what: String| Err(LedgerError::Record(what));
        if !is_name(&body.kind, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return refuse("a kind is 1 to 64 of a-z, 0-9 and -".to_owned());
        }
        if !(0..=MAX_EXACT_INTEGER).contains(&body.at) {
            return refuse(format!("time {} ms is out of range", body.at));
        }
        if body.subject.len() > MAX_FIELDS {
            return refuse(format!("more than {MAX_FIELDS} fields"));
        }
        for (name, value) in &body.subject {
            if !is_name(name, |byte| byte.is_ascii_alphanumeric()) {
                return refuse("a field's name is 1 to 64 of A-Z, a-z and 0-9".to_owned());
            }
            if value.len() > MAX_VALUE_BYTES {
                return refuse(format!("field `{name}` is longer than {MAX_VALUE_BYTES} bytes"));
            }
        }
        let canonical =
            serde_jcs::to_string(&body).map_err(|error| LedgerError::Record(error.to_string()))?;
        Ok(Self { body, canonical })
    }
}

fn is_name(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_and_back() {
        let record = Record::new(
            "use-opened",
            1_795_000_000_000,
            [("peer", "https://a.example/"), ("agreement", "urn:1")],
        )
        .unwrap();
        assert_eq!(
            record.canonical(),
            r#"{"at":1795000000000,"kind":"use-opened","subject":{"agreement":"urn:1","peer":"https://a.example/"},"v":1}"#
        );
        assert_eq!(Record::parse(record.canonical().as_bytes()), Ok(record));
    }

    #[test]
    fn other_spellings_refuse() {
        let good = r#"{"at":1,"kind":"k","subject":{"a":"b"},"v":1}"#;
        assert!(Record::parse(good.as_bytes()).is_ok());
        let bad = [
            r#"{"at":1, "kind":"k","subject":{"a":"b"},"v":1}"#,
            r#"{"kind":"k","at":1,"subject":{"a":"b"},"v":1}"#,
            r#"{"at":1,"kind":"k","subject":{"a":"\u0062"},"v":1}"#,
            r#"{"at":1,"kind":"k","subject":{"a":"b"},"v":2}"#,
            r#"{"at":1,"extra":1,"kind":"k","subject":{"a":"b"},"v":1}"#,
            r#"{"at":1,"kind":"k","subject":{"a":"b","a":"b"},"v":1}"#,
            r#"{"at":-1,"kind":"k","subject":{},"v":1}"#,
            r#"{"at":1,"kind":"K","subject":{},"v":1}"#,
            r#"{"at":1,"kind":"","subject":{},"v":1}"#,
            r#"{"at":1,"kind":"k","subject":{"a b":"c"},"v":1}"#,
            r#"{"at":9007199254740992,"kind":"k","subject":{},"v":1}"#,
            "",
        ];
        for text in bad {
            assert!(Record::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn bounds() {
        let many = (0..=MAX_FIELDS).map(|n| (format!("f{n}"), ""));
        assert!(Record::new("k", 0, many).is_err());
        let none: [(&str, &str); 0] = [];
        assert!(Record::new(&"k".repeat(MAX_NAME_BYTES + 1), 0, none).is_err());
        assert!(Record::new("k", 0, [("a", "x".repeat(MAX_VALUE_BYTES))]).is_ok());
        assert!(Record::new("k", 0, [("a", "x".repeat(MAX_VALUE_BYTES + 1))]).is_err());
        assert!(Record::new("k", 0, [("a", "x"), ("a", "x")]).is_err());
        let widest = (0..MAX_FIELDS).map(|n| (format!("f{n}"), "\u{1}".repeat(MAX_VALUE_BYTES)));
        let widest = Record::new("k", 0, widest).unwrap();
        assert!(widest.canonical().len() <= MAX_RECORD_BYTES);
        assert_eq!(Record::parse(widest.canonical().as_bytes()), Ok(widest));
    }
}
