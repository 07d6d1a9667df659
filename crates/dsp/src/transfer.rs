//! Transfer messages: JSON to domain and back, and the path that each is posted to.

use std::collections::BTreeMap;

use control_plane::Refusal;
use control_plane::cause::Cause;
use control_plane::ids::{AgreementId, CallbackAddress};
use control_plane::pids::Role;
use control_plane::transfer::{
    DataAddress, Message, StateName, TransferCompletion, TransferRequest, TransferStart, TransferSuspension,
    TransferTermination,
};
use serde_json::{Value, json};

use crate::Speaking;
use crate::json::{Object, as_text, head, malformed, message, message_id, optional, reasons, text, with};
use crate::negotiation::{Post, caused, consumer_pid, provider_pid, segment};

/// The endpoint type of data over HTTP.
pub const HTTP_ENDPOINT: &str = "https://w3id.org/idsa/v4.1/HTTP";
/// Property of a data address: the opaque credential.
pub const AUTHORIZATION: &str = "authorization";
/// Property of a data address: how the credential is shown.
pub const AUTH_TYPE: &str = "authType";

/// Connectors of the Eclipse project read and write only IRI-named properties.
const EDC: &str = "https://w3id.org/edc/v0.0.1/ns/";

/// Which message a path takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `request`.
    Request,
    /// `start`.
    Start,
    /// `completion`.
    Completion,
    /// `suspension`.
    Suspension,
    /// `termination`.
    Termination,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Request, Self::Start, Self::Completion, Self::Suspension, Self::Termination];

    /// The last part of the path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Start => "start",
            Self::Completion => "completion",
            Self::Suspension => "suspension",
            Self::Termination => "termination",
        }
    }

    const fn type_name(self) -> &'static str {
        match self {
            Self::Request => "TransferRequestMessage",
            Self::Start => "TransferStartMessage",
            Self::Completion => "TransferCompletionMessage",
            Self::Suspension => "TransferSuspensionMessage",
            Self::Termination => "TransferTerminationMessage",
        }
    }
}

/// Reads what was posted to a path of `kind`.
///
/// # Errors
/// [`crate::MALFORMED`] naming the member, or the refusal of an identifier or of the data address.
pub fn read(kind: Kind, value: &Value, Speaking { names, role }: Speaking<'_>) -> Result<Message, Refusal> {
    let members = message(value, kind.type_name())?;
    let message_id = message_id(value)?;
    let cause = || -> Result<Cause, Refusal> {
        let why = reasons(members);
        Ok(Cause::new(optional(members, "code")?.unwrap_or_default(), why.iter().map(String::as_str)))
    };
    let data_address = || match members.get("dataAddress") {
        None | Some(Value::Null) => Ok(None),
        Some(address) => read_address(address).map(Some),
    };
    Ok(match kind {
        Kind::Request => Message::Request(TransferRequest {
            message_id,
            consumer_pid: consumer_pid(members)?,
            agreement_id: AgreementId::parse(&names.read(text(members, "agreementId")?, role))?,
            format: text(members, "format")?.to_owned(),
            callback: CallbackAddress::parse(text(members, "callbackAddress")?)?,
            data_address: data_address()?,
        }),
        Kind::Start => Message::Start(TransferStart {
            message_id,
            provider_pid: provider_pid(members)?,
            consumer_pid: consumer_pid(members)?,
            data_address: data_address()?,
        }),
        Kind::Completion => Message::Completion(TransferCompletion {
            message_id,
            provider_pid: provider_pid(members)?,
            consumer_pid: consumer_pid(members)?,
        }),
        Kind::Suspension => Message::Suspension(TransferSuspension {
            message_id,
            provider_pid: provider_pid(members)?,
            consumer_pid: consumer_pid(members)?,
            cause: cause()?,
        }),
        Kind::Termination => Message::Termination(TransferTermination {
            message_id,
            provider_pid: provider_pid(members)?,
            consumer_pid: consumer_pid(members)?,
            cause: cause()?,
        }),
    })
}

/// Writes `message` of ours; `speaking.role` is our role.
pub fn write(message: &Message, Speaking { names, role }: Speaking<'_>) -> Post {
    let (kind, body) = match message {
        Message::Request(request) => {
            let members = [
                ("agreementId", names.write(request.agreement_id.as_str(), role)),
                ("format", request.format.as_str()),
                ("callbackAddress", request.callback.as_str()),
            ];
            let mut body = with(head(Kind::Request.type_name()), members);
            if let Some(address) = &request.data_address {
                body.insert("dataAddress".to_owned(), write_address(address));
            }
            (Kind::Request, body)
        }
        Message::Start(start) => {
            let mut body = head(Kind::Start.type_name());
            if let Some(address) = &start.data_address {
                body.insert("dataAddress".to_owned(), write_address(address));
            }
            (Kind::Start, body)
        }
        Message::Completion(_) => (Kind::Completion, head(Kind::Completion.type_name())),
        Message::Suspension(message) => {
            (Kind::Suspension, caused(head(Kind::Suspension.type_name()), &message.cause))
        }
        Message::Termination(message) => {
            (Kind::Termination, caused(head(Kind::Termination.type_name()), &message.cause))
        }
    };
    let (provider, consumer) =
        (message.provider_pid().map(|pid| pid.as_str()), message.consumer_pid().as_str());
    let mut body = with(body, [("@id", message.id().as_str()), ("consumerPid", consumer)]);
    body = with(body, provider.map(|pid| ("providerPid", pid)));
    let theirs = match role {
        Role::Provider => Some(consumer),
        Role::Consumer => provider,
    };
    let path = match theirs {
        Some(pid) => format!("transfers/{}/{}", segment(pid), kind.path()),
        None => format!("transfers/{}", kind.path()),
    };
    Post { path, body: Value::Object(body) }
}

/// What a look at a process, and every accepted request, is answered.
pub fn write_process(provider_pid: &str, consumer_pid: &str, state: StateName) -> Value {
    let pids = [("providerPid", provider_pid), ("consumerPid", consumer_pid), ("state", state.as_str())];
    Value::Object(with(head("TransferProcess"), pids))
}

/// The address as the protocol has it, with the spelling of the Eclipse project beside it where it is HTTP.
fn write_address(address: &DataAddress) -> Value {
    let property =
        |name: &str, value: &str| json!({"@type": "EndpointProperty", "name": name, "value": value});
    let mut properties: Vec<Value> =
        address.properties().iter().map(|(name, value)| property(name, value)).collect();
    let mut body = Object::new();
    body = with(body, [("@type", "DataAddress"), ("endpointType", address.endpoint_type())]);
    if !address.endpoint().is_empty() {
        body = with(body, [("endpoint", address.endpoint())]);
    }
    if address.endpoint_type() == HTTP_ENDPOINT {
        let plain = [("endpoint", address.endpoint()), ("endpointType", address.endpoint_type())];
        let named = address.properties().iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in plain.into_iter().chain(named) {
            properties.push(property(&format!("{EDC}{name}"), value));
        }
    }
    if !properties.is_empty() {
        body.insert("endpointProperties".to_owned(), Value::Array(properties));
    }
    Value::Object(body)
}

/// Reads either spelling; what stands at the top counts before a property of the same name.
fn read_address(value: &Value) -> Result<DataAddress, Refusal> {
    let members = value.as_object().ok_or_else(|| malformed("`dataAddress` is not an object"))?;
    let mut properties = BTreeMap::new();
    match members.get("endpointProperties") {
        None | Some(Value::Null) => {}
        Some(listed) => {
            let one = std::slice::from_ref(listed);
            for property in listed.as_array().map_or(one, Vec::as_slice) {
                let property =
                    property.as_object().ok_or_else(|| malformed("an endpoint property is not an object"))?;
                let (name, value) = (text(property, "name")?, text(property, "value")?);
                match name.strip_prefix(EDC) {
                    Some(plain) => drop(properties.entry(plain.to_owned()).or_insert(value.to_owned())),
                    None => drop(properties.insert(name.to_owned(), value.to_owned())),
                }
            }
        }
    }
    let at_top = |member: &str| members.get(member).and_then(as_text).map(str::to_owned);
    let endpoint = properties.remove("endpoint");
    let endpoint_type = properties.remove("endpointType");
    let endpoint_type = at_top("endpointType").or(endpoint_type).unwrap_or_default();
    DataAddress::new(&endpoint_type, &at_top("endpoint").or(endpoint).unwrap_or_default(), properties)
}
