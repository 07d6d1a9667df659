//! Where a value stands in a record: the part of JSON Path (RFC 9535) that names places and computes nothing.

use policy::refusal::Refusal;
use serde_json::Value;

use super::MALFORMED_DECLARATION;

/// Parts of one path: deeper than records that people keep.
const MAX_PARTS: usize = 16;
/// Bytes of one path as written.
const MAX_PATH_BYTES: usize = 1024;

/// A column, and a place within its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// The member of the record.
    pub column: String,
    /// The way from there; empty for the whole value.
    pub within: Vec<Part>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Member(String),
    Index(usize),
    Every,
}

/// What a value has where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The place was there.
    Yes,
    /// The record has no such place.
    Absent,
    /// Something else stands where the path goes through.
    Other,
}

impl Path {
    /// Reads `$.member`, `$['member']`, `[2]` and `[*]`; a `[*]` right after `$` means every record, as all paths do.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let refuse = |why: &str| {
            let shown = control_plane::ids::printable(text);
            Err(Refusal::new(&MALFORMED_DECLARATION, format!("JSON path `{shown}`: {why}")))
        };
        if text.len() > MAX_PATH_BYTES {
            return refuse("too long");
        }
        let Some(mut rest) = text.strip_prefix('$') else { return refuse("it begins with `$`") };
        rest = rest.strip_prefix("[*]").unwrap_or(rest);
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let Some((part, after)) = part(rest) else {
                return refuse("only members, indexes and `[*]` are understood");
            };
            parts.push(part);
            rest = after;
            if parts.len() > MAX_PARTS {
                return refuse("too deep");
            }
        }
        let mut parts = parts.into_iter();
        match parts.next() {
            Some(Part::Member(column)) => Ok(Self { column, within: parts.collect() }),
            Some(Part::Index(_) | Part::Every) | None => refuse("it names a member of the records first"),
        }
    }
}

/// One part and what follows it.
fn part(text: &str) -> Option<(Part, &str)> {
    if let Some(name) = text.strip_prefix('.') {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (name, rest) = name.split_at_checked(end)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || !c.is_ascii();
        return (!name.is_empty() && name.chars().all(plain)).then(|| (Part::Member(name.to_owned()), rest));
    }
    let inner = text.strip_prefix('[')?;
    for quote in ['\'', '"'] {
        if let Some(name) = inner.strip_prefix(quote) {
            let (name, rest) = name.split_once(quote)?;
            let plain = !name.contains('\\') && !name.chars().any(char::is_control);
            return plain.then_some((Part::Member(name.to_owned()), rest.strip_prefix(']')?));
        }
    }
    let (index, rest) = inner.split_once(']')?;
    match index {
        "*" => Some((Part::Every, rest)),
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((Part::Index(digits.parse().ok()?), rest))
        }
        _ => None,
    }
}

/// Puts `with` wherever `parts` lead in `value`.
pub(super) fn replace(value: &mut Value, parts: &[Part], with: &Value) -> Found {
    let Some((first, rest)) = parts.split_first() else {
        value.clone_from(with);
        return Found::Yes;
    };
    match (first, value) {
        (_, Value::Null) => Found::Absent,
        (Part::Member(name), Value::Object(members)) => {
            members.get_mut(name).map_or(Found::Absent, |inner| replace(inner, rest, with))
        }
        (Part::Index(index), Value::Array(values)) => {
            values.get_mut(*index).map_or(Found::Absent, |inner| replace(inner, rest, with))
        }
        (Part::Every, Value::Array(values)) => {
            let mut found = Found::Absent;
            for inner in values {
                match replace(inner, rest, with) {
                    Found::Other => return Found::Other,
                    Found::Yes => found = Found::Yes,
                    Found::Absent => {}
                }
            }
            found
        }
        (Part::Member(_) | Part::Index(_) | Part::Every, _) => Found::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_understood() {
        let member = |name: &str| Part::Member(name.to_owned());
        let check = |text: &str, column: &str, within: Vec<Part>| {
            assert_eq!(Path::parse(text).unwrap(), Path { column: column.to_owned(), within }, "{text}");
        };
        check("$.name", "name", vec![]);
        check("$[*].name", "name", vec![]);
        check("$['full name']", "full name", vec![]);
        check("$.姓名", "姓名", vec![]);
        check("$.a.b[2][*]['c d']", "a", vec![member("b"), Part::Index(2), Part::Every, member("c d")]);
        for bad in [
            "",
            "name",
            "$",
            "$[*]",
            "$[0].name",
            "$..name",
            "$.*",
            "$.a[?(@.b)]",
            "$.a[1:2]",
            "$.a[-1]",
            "$.a[",
            "$.a['b",
            "$.a.",
            "$.a b",
            "$.a[1,2]",
            "$['a\\'b']",
            "$.a[99999999999999999999999]",
        ] {
            assert_eq!(Path::parse(bad).unwrap_err().code, &MALFORMED_DECLARATION, "{bad}");
        }
        assert!(Path::parse(&format!("$.a{}", "[0]".repeat(40))).is_err());
    }

    #[test]
    fn what_is_replaced() {
        let check = |value: Value, path: &str, expected: Value, found: Found| {
            let mut value = value;
            let path = Path::parse(path).unwrap();
            assert_eq!(replace(&mut value, &path.within, &json!("x")), found, "{path:?}");
            assert_eq!(value, expected, "{path:?}");
        };
        check(json!({"b": 1, "c": 2}), "$.a.b", json!({"b": "x", "c": 2}), Found::Yes);
        check(json!([{"b": 1}, {}, {"b": 2}]), "$.a[*].b", json!([{"b": "x"}, {}, {"b": "x"}]), Found::Yes);
        check(json!([1, 2]), "$.a[1]", json!([1, "x"]), Found::Yes);
        check(json!([1, 2]), "$.a[2]", json!([1, 2]), Found::Absent);
        check(json!({"c": 2}), "$.a.b", json!({"c": 2}), Found::Absent);
        check(json!(null), "$.a.b", json!(null), Found::Absent);
        // A value where the path goes on would otherwise leave with what the path was to hide.
        check(json!("street 1"), "$.a.b", json!("street 1"), Found::Other);
        check(json!([1]), "$.a.b", json!([1]), Found::Other);
        check(json!({"b": 1}), "$.a[0]", json!({"b": 1}), Found::Other);
    }
}
