//! Error objects, and the HTTP status of each refusal.

use control_plane::{Fault, Refusal};
use serde_json::{Value, json};

use crate::json::{head, with};

/// Stands where an error object must name a process that the sender did not name.
pub const NO_PID: &str = "urn:uuid:00000000-0000-0000-0000-000000000000";

/// Which error object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// `CatalogError`.
    Catalog,
    /// `ContractNegotiationError`.
    Negotiation,
    /// `TransferError`.
    Transfer,
}

/// The two names of a process as far as a message told them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `providerPid`.
    pub provider_pid: Option<String>,
    /// `consumerPid`.
    pub consumer_pid: Option<String>,
}

impl Told {
    /// What `message` names, whatever else it is.
    pub fn by(message: &Value) -> Self {
        let member = |name: &str| message.get(name).and_then(Value::as_str).map(str::to_owned);
        Self { provider_pid: member("providerPid"), consumer_pid: member("consumerPid") }
    }
}

/// The status that a verified peer is answered with: 404 hides who else a process belongs to, 400 is a step that the
/// protocol does not allow, 5xx alone is worth another attempt.
pub const fn status(refusal: &Refusal) -> u16 {
    match refusal.code.fault {
        Fault::Input | Fault::State | Fault::Policy => 400,
        Fault::NotFound => 404,
        Fault::Identity => 401,
        Fault::Limit | Fault::Unavailable => 503,
        Fault::Ours => 500,
    }
}

/// The error object: the code and its text; what we know beside stays in our log.
pub fn write(area: Area, refusal: &Refusal, told: &Told) -> Value {
    let kind = match area {
        Area::Catalog => "CatalogError",
        Area::Negotiation => "ContractNegotiationError",
        Area::Transfer => "TransferError",
    };
    let mut body = with(head(kind), [("code", refusal.code.code)]);
    body.insert("reason".to_owned(), json!([refusal.code.en]));
    if area != Area::Catalog {
        let (provider, consumer) = (told.provider_pid.as_deref(), told.consumer_pid.as_deref());
        body = with(
            body,
            [("providerPid", provider.unwrap_or(NO_PID)), ("consumerPid", consumer.unwrap_or(NO_PID))],
        );
    }
    Value::Object(body)
}

/// Code and reasons of a peer's error object, for our log and the cause of a termination.
pub fn read(value: &Value) -> (String, String) {
    let Some(object) = value.as_object() else { return Default::default() };
    let code = object.get("code").and_then(crate::json::as_text).unwrap_or_default().to_owned();
    (code, crate::json::reasons(object).join("; "))
}
