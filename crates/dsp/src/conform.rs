//! Whether a document keeps to the protocol's schemas, as typed checks: what we send is held against it in tests.

use control_plane::UnixMillis;
use serde_json::Value;

use crate::CONTEXT;
use crate::policy::OPERATORS;

type Checked = Result<(), String>;

const NEGOTIATION_STATES: &[&str] =
    &["REQUESTED", "OFFERED", "ACCEPTED", "AGREED", "VERIFIED", "FINALIZED", "TERMINATED"];
const TRANSFER_STATES: &[&str] = &["REQUESTED", "STARTED", "TERMINATED", "COMPLETED", "SUSPENDED"];

/// What a member must be.
enum Is {
    Text,
    Instant,
    OneOf(&'static [&'static str]),
    Reasons,
    Address,
    MessageOffer { target: bool },
    Agreement,
    Offers,
    Distributions,
    Services,
    Datasets,
}

struct Member(&'static str, bool, Is);

const fn needed(name: &'static str, is: Is) -> Member {
    Member(name, true, is)
}

const fn optional(name: &'static str, is: Is) -> Member {
    Member(name, false, is)
}

/// Checks a document that stands alone: a message, an acknowledgement, an error, a catalogue or a dataset.
///
/// # Errors
/// The first thing that the protocol's schema would not take.
pub fn check(document: &Value) -> Result<(), String> {
    let in_context = document.get("@context").and_then(Value::as_array);
    let in_context = in_context.ok_or("`@context` is not an array")?;
    if !in_context.iter().all(Value::is_string) || !in_context.iter().any(|one| one == CONTEXT) {
        return Err("`@context` is not an array of strings with the protocol's".to_owned());
    }
    let both = || vec![needed("providerPid", Is::Text), needed("consumerPid", Is::Text)];
    let caused = || vec![optional("code", Is::Text), optional("reason", Is::Reasons)];
    let and = |mut members: Vec<Member>, more: Vec<Member>| {
        members.extend(more);
        members
    };
    let kind = document.get("@type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "ContractRequestMessage" => {
            exactly_one(document, "callbackAddress", "providerPid")?;
            let offer = Is::MessageOffer { target: false };
            members(document, &[needed("consumerPid", Is::Text), needed("offer", offer)])
        }
        "ContractOfferMessage" => {
            exactly_one(document, "callbackAddress", "consumerPid")?;
            let offer = Is::MessageOffer { target: true };
            members(document, &[needed("providerPid", Is::Text), needed("offer", offer)])
        }
        "ContractAgreementMessage" => {
            members(document, &and(both(), vec![needed("agreement", Is::Agreement)]))
        }
        "ContractAgreementVerificationMessage" | "TransferCompletionMessage" => members(document, &both()),
        "ContractNegotiationEventMessage" => {
            let event = needed("eventType", Is::OneOf(&["ACCEPTED", "FINALIZED"]));
            members(document, &and(both(), vec![event]))
        }
        "ContractNegotiationTerminationMessage"
        | "ContractNegotiationError"
        | "TransferError"
        | "TransferSuspensionMessage"
        | "TransferTerminationMessage" => members(document, &and(both(), caused())),
        "ContractNegotiation" => {
            members(document, &and(both(), vec![needed("state", Is::OneOf(NEGOTIATION_STATES))]))
        }
        "TransferProcess" => {
            members(document, &and(both(), vec![needed("state", Is::OneOf(TRANSFER_STATES))]))
        }
        "TransferRequestMessage" => members(
            document,
            &[
                needed("consumerPid", Is::Text),
                needed("agreementId", Is::Text),
                needed("format", Is::Text),
                needed("callbackAddress", Is::Text),
                optional("dataAddress", Is::Address),
            ],
        ),
        "TransferStartMessage" => members(document, &and(both(), vec![optional("dataAddress", Is::Address)])),
        "CatalogError" => members(document, &caused()),
        "CatalogRequestMessage" => match document.get("filter") {
            None | Some(Value::Array(_)) => Ok(()),
            Some(_) => Err("`filter` is not an array".to_owned()),
        },
        "Catalog" => catalog(document),
        "Dataset" => dataset(document),
        other => Err(format!("`@type` is `{other}`")),
    }
}

fn members(value: &Value, expected: &[Member]) -> Checked {
    for Member(name, needed, is) in expected {
        match value.get(*name) {
            None if *needed => return Err(format!("`{name}` is missing")),
            None => {}
            Some(value) => member(value, is).map_err(|why| format!("`{name}`: {why}"))?,
        }
    }
    Ok(())
}

fn member(value: &Value, is: &Is) -> Checked {
    match is {
        Is::Text => value.as_str().map(drop).ok_or_else(|| "not a string".to_owned()),
        Is::Instant => {
            let instant = value.as_str().and_then(UnixMillis::parse_rfc3339);
            instant.map(drop).ok_or_else(|| "no instant".to_owned())
        }
        Is::OneOf(several) => match value.as_str() {
            Some(text) if several.contains(&text) => Ok(()),
            Some(_) | None => Err(format!("none of {several:?}")),
        },
        Is::Reasons => some(value, |_| Ok(())),
        Is::Address => {
            let property = |property: &Value| {
                typed(property, "EndpointProperty")?;
                members(property, &[needed("name", Is::Text), needed("value", Is::Text)])
            };
            typed(value, "DataAddress")?;
            members(value, &[needed("endpointType", Is::Text), optional("endpoint", Is::Text)])?;
            value.get("endpointProperties").map_or(Ok(()), |listed| some(listed, property))
        }
        Is::MessageOffer { target } => {
            typed(value, "Offer")?;
            members(value, &[Member("target", *target, Is::Text)])?;
            policy(value)
        }
        Is::Agreement => {
            typed(value, "Agreement")?;
            let parties = ["target", "assigner", "assignee"].map(|name| needed(name, Is::Text));
            members(value, &parties)?;
            members(value, &[needed("timestamp", Is::Instant)])?;
            policy(value)
        }
        Is::Offers => some(value, |offer| {
            typed(offer, "Offer")?;
            if offer.get("target").is_some() {
                return Err("an offer of a catalogue has no target".to_owned());
            }
            policy(offer)
        }),
        Is::Distributions => some(value, |distribution| {
            typed(distribution, "Distribution")?;
            members(distribution, &[needed("format", Is::Text)])?;
            match distribution.get("accessService") {
                Some(Value::String(_)) => Ok(()),
                Some(inline) => service(inline),
                None => Err("`accessService` is missing".to_owned()),
            }
        }),
        Is::Services => some(value, service),
        Is::Datasets => some(value, dataset),
    }
}

fn service(value: &Value) -> Checked {
    typed(value, "DataService")?;
    members(value, &[needed("@id", Is::Text), needed("endpointURL", Is::Text)])
}

fn catalog(value: &Value) -> Checked {
    if value.get("hasPolicy").is_some() {
        return Err("a catalogue has no policy".to_owned());
    }
    if value.get("catalog").is_some() {
        return Err("a catalogue of ours holds no other".to_owned());
    }
    members(
        value,
        &[
            needed("@id", Is::Text),
            needed("participantId", Is::Text),
            optional("dataset", Is::Datasets),
            optional("service", Is::Services),
            optional("distribution", Is::Distributions),
        ],
    )
}

fn dataset(value: &Value) -> Checked {
    members(
        value,
        &[
            needed("@id", Is::Text),
            needed("hasPolicy", Is::Offers),
            needed("distribution", Is::Distributions),
        ],
    )
}

fn policy(value: &Value) -> Checked {
    members(value, &[needed("@id", Is::Text)])?;
    if value.get("permission").is_none() && value.get("prohibition").is_none() {
        return Err("neither permission nor prohibition".to_owned());
    }
    match value.get("profile") {
        None | Some(Value::String(_)) => {}
        Some(Value::Array(several)) if several.iter().all(Value::is_string) => {}
        Some(_) => return Err("`profile` is neither a string nor strings".to_owned()),
    }
    for kind in ["permission", "prohibition", "obligation"] {
        value
            .get(kind)
            .map_or(Ok(()), |rules| some(rules, rule))
            .map_err(|why| format!("`{kind}`: {why}"))?;
    }
    Ok(())
}

fn rule(value: &Value) -> Checked {
    members(value, &[needed("action", Is::Text)])?;
    if value.get("target").is_some() {
        return Err("a rule has no target".to_owned());
    }
    all(value.get("constraint"), constraint)
}

fn constraint(value: &Value) -> Checked {
    let logic: Vec<&Value> =
        ["and", "or", "xone", "andSequence"].iter().filter_map(|name| value.get(*name)).collect();
    match logic.as_slice() {
        [] => {
            members(value, &[needed("leftOperand", Is::Text), needed("operator", Is::OneOf(&OPERATORS))])?;
            match value.get("rightOperand") {
                Some(Value::String(_) | Value::Object(_) | Value::Array(_)) => Ok(()),
                Some(_) | None => Err("`rightOperand` is neither string, object nor array".to_owned()),
            }
        }
        [one] => all(Some(*one), constraint),
        _ => Err("more than one logical operator".to_owned()),
    }
}

fn typed(value: &Value, kind: &str) -> Checked {
    match value.get("@type").and_then(Value::as_str) {
        Some(told) if told == kind => Ok(()),
        Some(_) | None => Err(format!("`@type` is not {kind}")),
    }
}

fn exactly_one(value: &Value, one: &str, other: &str) -> Checked {
    match (value.get(one), value.get(other)) {
        (Some(Value::String(_)), None) | (None, Some(Value::String(_))) => Ok(()),
        _ => Err(format!("exactly one of `{one}` and `{other}` is needed")),
    }
}

/// An array of at least one.
fn some(value: &Value, each: impl Fn(&Value) -> Checked) -> Checked {
    match value.as_array() {
        Some(items) if !items.is_empty() => items.iter().try_for_each(each),
        Some(_) => Err("empty".to_owned()),
        None => Err("not an array".to_owned()),
    }
}

/// An array, if it is there.
fn all(value: Option<&Value>, each: impl Fn(&Value) -> Checked) -> Checked {
    match value {
        None => Ok(()),
        Some(Value::Array(items)) => items.iter().try_for_each(each),
        Some(_) => Err("not an array".to_owned()),
    }
}
