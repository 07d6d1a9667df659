//! The version document, which anybody may read.

use serde_json::{Value, json};

use crate::{BASE_PATH, VERSION};

/// What we speak, and under which path below the root.
pub fn write(participant: &str) -> Value {
    json!({"protocolVersions": [{
        "binding": "HTTPS",
        "identifierType": participant.split(':').next().unwrap_or_default(),
        "path": BASE_PATH,
        "serviceId": participant,
        "version": VERSION,
    }]})
}

/// The path of our version at another connector, below its root. A missing `binding` is HTTPS, as some leave it out.
pub fn read_path(document: &Value) -> Option<&str> {
    let versions = document.get("protocolVersions")?.as_array()?;
    let ours = versions.iter().find(|entry| {
        entry.get("version").and_then(Value::as_str) == Some(VERSION)
            && entry.get("binding").is_none_or(|binding| binding == "HTTPS")
    });
    ours?.get("path")?.as_str()
}
