//! Reading JSON that anyone may have written: bounded, and each refusal names the member.

use control_plane::Refusal;
use control_plane::digest::Digest;
use control_plane::ids::{MessageId, printable};
use serde_json::{Map, Value, json};

use crate::CONTEXT;

control_plane::refusal_codes! {
    MALFORMED = "dsp/malformed-message", Input,
        "the message is not one that the Dataspace Protocol 2025-1 defines for this place",
        "此訊息不是資料空間協定 2025-1 在此處所定義者", "此消息不是数据空间协议 2025-1 在此处所定义者",
        clause "DSP 2025-1, 1.4", next "compare the message with the protocol's schema; the detail names the member";
}

/// The deepest nesting taken: a catalogue of catalogues with nested constraints needs a dozen.
const MAX_DEPTH: usize = 64;

/// A JSON object of a message.
pub(crate) type Object = Map<String, Value>;

pub(crate) fn malformed(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(&MALFORMED, why.to_string())
}

/// Reads the JSON object of a request or an answer; the caller bounds its size.
///
/// # Errors
/// [`MALFORMED`].
pub fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if depth(&value, MAX_DEPTH).is_none() {
        return Err(malformed(format!("nested deeper than {MAX_DEPTH}")));
    }
    match value {
        Value::Object(_) => Ok(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(malformed("not an object"))
        }
    }
}

/// `None` where `value` nests deeper than `left`.
fn depth(value: &Value, left: usize) -> Option<()> {
    let below = left.checked_sub(1)?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| depth(item, below)),
        Value::Object(members) => members.values().try_for_each(|member| depth(member, below)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(()),
    }
}

/// The `@type` of a message.
pub fn message_type(value: &Value) -> &str {
    value.get("@type").and_then(Value::as_str).unwrap_or_default()
}

/// The message's members, if it is of this type and in the protocol's context.
pub(crate) fn message<'a>(value: &'a Value, kind: &str) -> Result<&'a Object, Refusal> {
    let object = value.as_object().ok_or_else(|| malformed("not an object"))?;
    let in_context = match object.get("@context") {
        Some(Value::String(one)) => one == CONTEXT,
        Some(Value::Array(several)) => several.iter().any(|one| one == CONTEXT),
        Some(_) | None => false,
    };
    if !in_context {
        return Err(malformed(format!("`@context` does not contain {CONTEXT}")));
    }
    if message_type(value) != kind {
        return Err(malformed(format!("`@type` is `{}` instead of {kind}", printable(message_type(value)))));
    }
    Ok(object)
}

/// A text, also where it is wrapped as a node or a value.
pub(crate) fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Object(node) => node.get("@id").or_else(|| node.get("@value")).and_then(Value::as_str),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

pub(crate) fn optional<'a>(object: &'a Object, member: &str) -> Result<Option<&'a str>, Refusal> {
    match object.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            as_text(value).map(Some).ok_or_else(|| malformed(format!("`{member}` is not a string")))
        }
    }
}

pub(crate) fn text<'a>(object: &'a Object, member: &str) -> Result<&'a str, Refusal> {
    optional(object, member)?.ok_or_else(|| malformed(format!("`{member}` is missing")))
}

/// The message's own id, or one made of what it says.
pub(crate) fn message_id(value: &Value) -> Result<MessageId, Refusal> {
    match value.get("@id").and_then(Value::as_str) {
        Some(id) => MessageId::parse(id),
        None => {
            let body = serde_jcs::to_vec(value).map_err(malformed)?;
            Ok(MessageId::derived(&Digest::of(&body)))
        }
    }
}

/// The beginning of everything that is written.
pub(crate) fn head(kind: &str) -> Object {
    let mut object = Object::new();
    object.insert("@context".to_owned(), json!([CONTEXT]));
    object.insert("@type".to_owned(), json!(kind));
    object
}

/// Members with texts, one after the other.
pub(crate) fn with<'a>(mut object: Object, members: impl IntoIterator<Item = (&'a str, &'a str)>) -> Object {
    for (member, text) in members {
        object.insert(member.to_owned(), json!(text));
    }
    object
}

/// The texts of `reason`; what is no text is kept as the JSON that it is.
pub(crate) fn reasons(object: &Object) -> Vec<String> {
    let shown = |value: &Value| as_text(value).map_or_else(|| value.to_string(), str::to_owned);
    match object.get("reason") {
        Some(Value::Array(several)) => several.iter().map(shown).collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(one) => vec![shown(one)],
    }
}
