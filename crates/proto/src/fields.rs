//! What every conversion from the wire needs: a refusal that names the field.

use control_plane::Refusal;

control_plane::refusal_codes! {
    FIELD_MISSING = "message/field-missing", Input,
        "a required field of the message is missing",
        "訊息缺少必要欄位", "消息缺少必要字段",
        clause "proto/fairlead: required fields", next "send every field that the message definition requires";
}

/// The field's value, or a refusal that names it.
pub(crate) fn required<T>(field: &str, value: Option<T>) -> Result<T, Refusal> {
    value.ok_or_else(|| Refusal::new(&FIELD_MISSING, format!("`{field}`")))
}

/// Adds the field's name to what a parser refused.
pub(crate) fn in_field<T>(field: &str, parsed: Result<T, Refusal>) -> Result<T, Refusal> {
    parsed.map_err(|refusal| Refusal::new(refusal.code, format!("`{field}`: {}", refusal.detail)))
}
