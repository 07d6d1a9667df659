//! Offers and agreements between their canonical text and the form in which they travel.
//!
//! The protocol's policies are a subset of ours: no duties within permissions, no refinements, no units. To a peer that
//! speaks our profile the canonical text travels beside the protocol's form and counts; any other peer gets a policy
//! that says everything in the protocol's own words, or none ([`NOT_CARRIED`]).

use control_plane::Refusal;
use control_plane::agreement::Agreement;
use control_plane::terms::{COPY_DIFFERS, MEMBER_MISSING, Offer};
use serde_json::{Value, json};

use crate::json::{Object, as_text, malformed, text};
use crate::{Canonical, Speaking};

control_plane::refusal_codes! {
    NOT_CARRIED = "dsp/policy-not-carried", Policy,
        "the policy has terms that the Dataspace Protocol cannot carry, and the peer does not speak our profile",
        "此政策含有資料空間協定無法承載的條款，而對方不支援我方的設定檔",
        "此策略含有数据空间协议无法承载的条款，而对方不支持我方的配置文件",
        clause "DSP 2025-1, 1.4", next "offer this peer a policy of permissions, prohibitions and plain constraints, or use gRPC";
    UNKNOWN_PARTY = "dsp/unknown-party", Input,
        "an agreement names somebody who is neither of its two parties",
        "協議所列者並非雙方之一", "协议所列者并非双方之一",
        clause "DSP 2025-1, 1.4", next "name the provider as assigner and the consumer as assignee, as their credentials do";
}

/// Member of an offer or agreement: its canonical text, for peers that speak our profile.
pub const CANONICAL_TEXT: &str = "https://w3id.org/fairlead/ns#canonicalText";
/// Member of an agreement or verification message: its sender's signature.
pub const SIGNATURE: &str = "https://w3id.org/fairlead/ns#signature";

const RDF_VALUE: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#value";
const RULES: [&str; 3] = ["permission", "prohibition", "obligation"];
const LOGIC: [&str; 4] = ["and", "or", "xone", "andSequence"];
/// The protocol's operators.
pub(crate) const OPERATORS: [&str; 13] = [
    "eq",
    "gt",
    "gteq",
    "hasPart",
    "isA",
    "isAllOf",
    "isAnyOf",
    "isNoneOf",
    "isPartOf",
    "lt",
    "lteq",
    "neq",
    "term-lteq",
];

/// The form in which `offer` travels in a message.
///
/// # Errors
/// [`NOT_CARRIED`] naming the term.
pub fn write_offer(offer: &Offer, speaking: Speaking<'_>) -> Result<Value, Refusal> {
    write(offer.text(), speaking)
}

/// The form in which `agreement` travels.
///
/// # Errors
/// [`NOT_CARRIED`] naming the term.
pub fn write_agreement(agreement: &Agreement, speaking: Speaking<'_>) -> Result<Value, Refusal> {
    write(agreement.text(), speaking)
}

/// Reads the offer of a message. Who grants follows from the process, never from the message.
///
/// # Errors
/// [`crate::MALFORMED`], [`COPY_DIFFERS`], or what of its rules is not understood.
pub fn read_offer(
    value: &Value,
    speaking: Speaking<'_>,
    canonical: &dyn Canonical,
) -> Result<Offer, Refusal> {
    let members = of_type(value, "Offer")?;
    if let Some(told) = canonical_text(members, speaking) {
        let offer = Offer::parse(told)?;
        require_same(value, &write_offer(&offer, speaking)?)?;
        return Ok(offer);
    }
    let Speaking { names, role } = speaking;
    let mut policy = inside(members, speaking)?;
    policy.insert("assigner".to_owned(), json!(names.provider(role).as_str()));
    // What else an offer says about its assignee is not the protocol's, and nobody's promise.
    let assignee = members.get("assignee").and_then(as_text).and_then(|name| names.party(name));
    if assignee == Some(names.consumer(role)) {
        policy.insert("assignee".to_owned(), json!(names.consumer(role).as_str()));
    } else {
        policy.remove("assignee");
    }
    Offer::parse(&canonical.canonical(&Value::Object(policy).to_string())?)
}

/// Reads the agreement of a message.
///
/// # Errors
/// [`crate::MALFORMED`], [`COPY_DIFFERS`], [`UNKNOWN_PARTY`], or what of its rules is not understood.
pub fn read_agreement(
    value: &Value,
    speaking: Speaking<'_>,
    canonical: &dyn Canonical,
) -> Result<Agreement, Refusal> {
    let members = of_type(value, "Agreement")?;
    if let Some(told) = canonical_text(members, speaking) {
        let agreement = Agreement::parse(told)?;
        require_same(value, &write_agreement(&agreement, speaking)?)?;
        return Ok(agreement);
    }
    let mut policy = inside(members, speaking)?;
    for member in ["assigner", "assignee"] {
        let name = text(members, member)?;
        let party = speaking.names.party(name).ok_or_else(|| {
            Refusal::new(&UNKNOWN_PARTY, format!("`{member}` is `{}`", control_plane::ids::printable(name)))
        })?;
        policy.insert(member.to_owned(), json!(party.as_str()));
    }
    if !members.contains_key("timestamp") {
        return Err(Refusal::new(&MEMBER_MISSING, "`timestamp` is missing"));
    }
    Agreement::parse(&canonical.canonical(&Value::Object(policy).to_string())?)
}

/// The text that counts, from a peer that speaks our profile.
fn canonical_text<'a>(members: &'a Object, speaking: Speaking<'_>) -> Option<&'a str> {
    members.get(CANONICAL_TEXT).and_then(Value::as_str).filter(|_| speaking.names.profile)
}

/// Demands that the form beside a canonical text says the same as far as it goes.
fn require_same(told: &Value, derived: &Value) -> Result<(), Refusal> {
    let differing = derived
        .as_object()
        .into_iter()
        .flatten()
        .find(|(member, value)| told.get(member.as_str()) != Some(value));
    match differing {
        Some((member, _)) => Err(Refusal::new(&COPY_DIFFERS, format!("`{member}` and the canonical text"))),
        None => Ok(()),
    }
}

fn of_type<'a>(value: &'a Value, kind: &str) -> Result<&'a Object, Refusal> {
    let members = value.as_object().ok_or_else(|| malformed(format!("the {kind} is not an object")))?;
    match members.get("@type").and_then(Value::as_str) {
        Some(told) if told == kind => Ok(members),
        Some(_) | None => Err(malformed(format!("`@type` of the {kind}"))),
    }
}

/// The members with their names as we know them.
fn inside(members: &Object, Speaking { names, role }: Speaking<'_>) -> Result<Object, Refusal> {
    let mut policy = members.clone();
    policy.remove("@context");
    for member in ["@id", "target"] {
        policy.insert(member.to_owned(), json!(names.read(text(members, member)?, role)));
    }
    Ok(policy)
}

fn write(canonical: &str, speaking: Speaking<'_>) -> Result<Value, Refusal> {
    let Speaking { names, role } = speaking;
    let mut policy = match serde_json::from_str(canonical) {
        Ok(Value::Object(policy)) => policy,
        Ok(_) | Err(_) => return Err(malformed("a canonical text that is no object")),
    };
    for member in ["@id", "target"] {
        if let Some(Value::String(iri)) = policy.get(member) {
            let name = names.write(iri, role).to_owned();
            policy.insert(member.to_owned(), json!(name));
        }
    }
    for member in ["assigner", "assignee"] {
        if let Some(Value::String(party)) = policy.get(member) {
            let name = names.party_name(party).to_owned();
            policy.insert(member.to_owned(), json!(name));
        }
    }
    if !policy.contains_key("permission") && !policy.contains_key("prohibition") {
        return Err(not_carried("a policy without permission and prohibition"));
    }
    if names.profile {
        simplify(&mut policy);
        policy.insert(CANONICAL_TEXT.to_owned(), json!(canonical));
    } else {
        carried(&policy)?;
    }
    Ok(Value::Object(policy))
}

/// Brings what the schemas would refuse into their form; the canonical text beside it says the rest.
fn simplify(policy: &mut Object) {
    let rules = RULES.iter().filter_map(|kind| policy.get(*kind).cloned().map(|rules| (*kind, rules)));
    for (kind, mut rules) in rules.collect::<Vec<_>>() {
        for rule in rules.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            rule.remove("target");
            let plain = rule.get("action").and_then(|action| action.get(RDF_VALUE)).and_then(as_text);
            if let Some(plain) = plain.map(str::to_owned) {
                rule.insert("action".to_owned(), json!(plain));
            }
        }
        policy.insert(kind.to_owned(), rules);
    }
}

fn not_carried(term: impl Into<String>) -> Refusal {
    Refusal::new(&NOT_CARRIED, term)
}

/// Demands that the protocol's words say everything.
fn carried(policy: &Object) -> Result<(), Refusal> {
    const SHELL: [&str; 7] = ["@id", "@type", "profile", "target", "assigner", "assignee", "timestamp"];
    only(policy, |member| SHELL.contains(&member) || RULES.contains(&member))?;
    for rule in RULES.iter().filter_map(|kind| policy.get(*kind)).filter_map(Value::as_array).flatten() {
        let rule = rule.as_object().ok_or_else(|| not_carried("a rule that is no object"))?;
        only(rule, |member| matches!(member, "@id" | "action" | "constraint" | "assigner" | "assignee"))?;
        if !matches!(rule.get("action"), Some(Value::String(_))) {
            return Err(not_carried("a refinement of an action"));
        }
        for constraint in rule.get("constraint").and_then(Value::as_array).into_iter().flatten() {
            carried_constraint(constraint)?;
        }
    }
    Ok(())
}

fn carried_constraint(constraint: &Value) -> Result<(), Refusal> {
    let members = constraint.as_object().ok_or_else(|| not_carried("a constraint that is no object"))?;
    if let Some(logic) = LOGIC.iter().find(|logic| members.contains_key(**logic)) {
        only(members, |member| member == "@id" || member == *logic)?;
        let parts = members.get(*logic).and_then(Value::as_array);
        return parts.into_iter().flatten().try_for_each(carried_constraint);
    }
    only(members, |member| matches!(member, "@id" | "leftOperand" | "operator" | "rightOperand"))?;
    match members.get("operator").and_then(Value::as_str) {
        Some(operator) if OPERATORS.contains(&operator) => Ok(()),
        Some(other) => Err(not_carried(format!("operator `{other}`"))),
        None => Err(not_carried("a constraint without operator")),
    }
}

/// Notes are texts for people, in vocabularies of their own: they travel as they are.
fn is_note(member: &str) -> bool {
    const NOTES: [&str; 4] = [
        "http://purl.org/dc/terms/",
        "http://purl.org/dc/elements/1.1/",
        "http://www.w3.org/2000/01/rdf-schema#",
        "http://www.w3.org/2004/02/skos/core#",
    ];
    NOTES.iter().any(|namespace| member.starts_with(namespace))
}

fn only(members: &Object, known: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    match members.keys().find(|member| !known(member) && !is_note(member)) {
        Some(member) => Err(not_carried(format!("`{member}`"))),
        None => Ok(()),
    }
}
