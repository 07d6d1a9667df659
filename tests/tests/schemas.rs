//! The published schemas and examples of the Dataspace Protocol, and what our parsers and checks make of them.
//!
//! They are no part of this project: without [`schemas::VARIABLE`] there is nothing to compare with, which is said.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "tests"
)]

use control_plane::Refusal;
use control_plane::ids::ParticipantId;
use control_plane::pids::Role;
use dsp::names::Names;
use dsp::{Canonical, Speaking, conform};
use federation_tests::schemas::{self, Schemas, documents};
use serde_json::{Value, json};

/// An example that its own schema refuses: the pattern allows no other path than a catalogue's.
const REFUSED_EXAMPLE: &str = "common/dataservice-did-service.json";
const NESTED: &str = "catalog/nested-catalog.json";
/// Examples of documents that no connector of ours sends or takes.
const NOT_SPOKEN: [&str; 5] = [
    "common/catalogservice-did-service.json",
    REFUSED_EXAMPLE,
    // Ours hold no others; those of others are told as problems, and not followed.
    NESTED,
    // Our paths carry the dataset's name.
    "catalog/dataset-request-message.json",
    "common/protocol-version.json",
];

struct Sorted;

impl Canonical for Sorted {
    fn canonical(&self, policy: &str) -> Result<String, Refusal> {
        let value: Value = serde_json::from_str(policy).unwrap();
        Ok(serde_jcs::to_string(&value).unwrap())
    }
}

/// `negotiation/contract-request-message_initial.json` keeps to `negotiation/contract-request-message-schema.json`.
fn schema_of(example: &str) -> String {
    let name = example.trim_end_matches(".json");
    let (area, name) = name.split_once('/').unwrap();
    let name = match name {
        "nested-catalog" => "catalog",
        name if name.ends_with("did-service") => "did-service",
        name => name.trim_end_matches("_initial").trim_end_matches("-full"),
    };
    format!("{area}/{name}-schema.json")
}

/// The examples, or nothing where they are not at hand.
fn examples() -> Option<(&'static Schemas, Vec<(String, Value)>)> {
    let schemas = schemas::schemas()?;
    let found = documents(&schemas::folder().unwrap().join("examples"));
    // Participants of ours are named by https and did alone.
    let ours = |text: String| text.replace("http://example.com/", "https://example.com/");
    let found = found
        .into_iter()
        .map(|(name, value)| (name, serde_json::from_str(&ours(value.to_string())).unwrap()));
    Some((schemas, found.collect()))
}

/// What our parsers say to a document, whichever role it is for.
fn parsed(document: &Value) -> Result<(), String> {
    let party = |name: &str| ParticipantId::parse(&format!("https://example.com/{name}")).unwrap();
    let names = |role: Role| {
        let (us, peer) = match role {
            Role::Provider => (party("Provider"), party("Consumer")),
            Role::Consumer => (party("Consumer"), party("Provider")),
        };
        Names { us, peer, peer_name: None, our_base: None, profile: false }
    };
    let kind = document["@type"].as_str().unwrap_or_default();
    let said = |result: Result<(), Refusal>| result.map_err(|no| format!("{}: {}", no.code.code, no.detail));
    let mut last = Err(format!("`{kind}` is not read"));
    for role in [Role::Provider, Role::Consumer] {
        let names = names(role);
        let speaking = Speaking { names: &names, role };
        for known in dsp::negotiation::Kind::ALL {
            if document_is(kind, &format!("{known:?}"), "Contract") {
                last = said(dsp::negotiation::read(known, document, speaking, &Sorted).map(drop));
            }
        }
        for known in dsp::transfer::Kind::ALL {
            if document_is(kind, &format!("{known:?}"), "Transfer") {
                last = said(dsp::transfer::read(known, document, speaking).map(drop));
            }
        }
        if last.is_ok() {
            return last;
        }
    }
    let names = names(Role::Consumer);
    match kind {
        "Catalog" => said(
            dsp::catalogue::read_catalog(document, Speaking { names: &names, role: Role::Consumer }, &Sorted)
                .map(drop),
        ),
        "Dataset" => said(
            dsp::catalogue::read_dataset(document, Speaking { names: &names, role: Role::Consumer }, &Sorted)
                .map(drop),
        ),
        "CatalogRequestMessage" => Ok(()),
        "ContractNegotiation" | "TransferProcess" => {
            dsp::negotiation::read_pids(document).map(drop).ok_or_else(|| "no pids".to_owned())
        }
        kind if kind.ends_with("Error") => {
            let (code, reason) = dsp::error::read(document);
            if code.is_empty() && reason.is_empty() { Err("nothing is read".to_owned()) } else { Ok(()) }
        }
        _ => last,
    }
}

/// Whether a message of type `kind` is of the parser's kind of this name.
fn document_is(kind: &str, name: &str, area: &str) -> bool {
    let name = match (area, name) {
        ("Contract", "Verification") => "AgreementVerification",
        ("Contract", "Event") => "NegotiationEvent",
        ("Contract", "Termination") => "NegotiationTermination",
        (_, name) => name,
    };
    kind == format!("{area}{name}Message")
}

#[test]
fn every_example_is_taken_as_its_schema_says() {
    let Some((schemas, examples)) = examples() else { return };
    assert_eq!(examples.len(), 27);
    for (name, example) in &examples {
        let valid = schemas.check(&schema_of(name), example);
        assert_eq!(valid.is_ok(), name != REFUSED_EXAMPLE, "{name}: {valid:?}");
        if !NOT_SPOKEN.contains(&name.as_str()) {
            assert_eq!(parsed(example), Ok(()), "{name}");
            assert_eq!(conform::check(example), Ok(()), "{name}");
        }
        if name == NESTED {
            assert_eq!(parsed(example), Ok(()), "{name}");
        }
    }
}

/// Every change of one place of an example: what our checks let pass, the schema lets pass.
#[test]
fn our_own_checks_let_nothing_pass_that_a_schema_refuses() {
    let Some((schemas, examples)) = examples() else { return };
    let (mut refused, mut tried, mut let_pass) = (0, 0, Vec::new());
    for (name, example) in examples.iter().filter(|(name, _)| !NOT_SPOKEN.contains(&name.as_str())) {
        for path in places(example, String::new()) {
            for changed in changes(example, &path) {
                let (ours, theirs) = (conform::check(&changed), schemas.check(&schema_of(name), &changed));
                tried += 1;
                refused += usize::from(theirs.is_err());
                if let (Ok(()), Err(why)) = (ours, theirs) {
                    let_pass.push(format!("{name} at {path}: {why}"));
                }
            }
        }
    }
    eprintln!("{tried} changed examples, of which the schemas refuse {refused}");
    assert!(let_pass.is_empty(), "{} of them: {let_pass:#?}", let_pass.len());
    assert!(refused > 100, "the schemas refuse something");
}

/// Pointers to every member and element.
fn places(value: &Value, path: String) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (format!("{path}/{}", name.replace('/', "~1")), value))
            .collect(),
        Value::Array(elements) => {
            elements.iter().enumerate().map(|(index, value)| (format!("{path}/{index}"), value)).collect()
        }
        _ => Vec::new(),
    };
    below.into_iter().flat_map(|(path, value)| [vec![path.clone()], places(value, path)].concat()).collect()
}

/// The document without what lies at a place, and with other things there.
fn changes(document: &Value, path: &str) -> Vec<Value> {
    let mut changed = Vec::new();
    let (parent, last) = path.rsplit_once('/').unwrap();
    let mut without = document.clone();
    match without.pointer_mut(parent).unwrap() {
        Value::Object(members) => drop(members.remove(&last.replace("~1", "/"))),
        Value::Array(elements) => drop(elements.remove(last.parse().unwrap())),
        _ => unreachable!("a place lies in an object or array"),
    }
    changed.push(without);
    for other in [json!(7), json!(null), json!([]), json!({}), json!("other"), json!(["other"])] {
        let mut with = document.clone();
        *with.pointer_mut(path).unwrap() = other;
        changed.push(with);
    }
    changed
}
