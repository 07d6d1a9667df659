//! The bodies of the fuzz targets on seeds that chance has changed: the parsers end, do not fall over, and accept again
//! what they themselves write.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "../../fuzz/src/lib.rs"]
mod bodies;

use std::collections::BTreeMap;
use std::path::Path;

use catalogue::description::read_turtle;
use catalogue::envelope::{Header, Kind};
use catalogue::hash::Digest;
use catalogue::offers::PolicyOffers;
use catalogue::scope::{PublisherScope, SubjectBase};
use control_plane::ids::ParticipantId;
use federation_tests::chance;
use federation_tests::outsider::message;
use policy::Profiles;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;

/// Changed seeds for each body: a few seconds in a build for development.
const CHANGES: usize = 400;
/// What bytes of strangers like to contain.
const TRICKS: &[&[u8]] = &[
    b"\0",
    b"\"",
    b"\\u0000",
    b"\xFF\xFE",
    b"[[[[[[[[",
    b"{\"@id\":",
    b"1e999",
    b"-0",
    b"\xE2\x80\xAE",
    b"_:b0 ",
    b"<>",
    b"\"\"\"",
    b"@prefix : <x:> .",
    b"99999999999999999999",
    b"0000-00-00T00:00:00Z",
    b"\r\n\r\n",
    b"\n\n",
];

#[test]
fn policies() {
    let seeds = [fixture("policy", "research-offer.json"), fixture("catalogue", "harbour-tide.ttl")];
    changed("policies", &seeds, bodies::policy);
}

#[test]
fn self_descriptions() {
    let turtle = fixture("catalogue", "harbour-tide.ttl");
    let (_, content) = sealed(&turtle);
    changed("self-descriptions", &[turtle, content], bodies::self_description);
}

#[test]
fn envelopes() {
    let (header, content) = sealed(&fixture("catalogue", "harbour-tide.ttl"));
    changed("envelopes", &[[&header[..], b"\n\n", &content].concat(), header], bodies::envelope);
}

#[test]
fn messages_of_the_dataspace_protocol() {
    let purpose = json!([{"leftOperand": "purpose", "operator": "eq",
        "rightOperand": "https://w3id.org/dpv#AcademicResearch"}]);
    let permission = json!([{"action": "use", "constraint": purpose}]);
    let offer = json!({"@id": "offer1", "@type": "Offer", "permission": permission});
    let targeted = json!({"@id": "offer1", "@type": "Offer", "target": "tide", "permission": permission});
    let agreement = json!({"@id": "agreement1", "@type": "Agreement", "target": "tide",
        "assigner": "https://harbour.example/id", "assignee": "https://reader.example/id",
        "timestamp": "2026-01-01T00:00:00.123456789Z", "permission": permission});
    let address = json!({"@type": "DataAddress", "endpointType": dsp::transfer::HTTP_ENDPOINT,
        "endpoint": "https://harbour.example/data", "endpointProperties":
            [{"@type": "EndpointProperty", "name": "authorization", "value": "secret"}]});
    let service = json!({"@id": "urn:s", "@type": "DataService", "endpointURL": "https://harbour.example"});
    let dataset = json!({"@id": "tide", "@type": "Dataset", "hasPolicy": [offer], "dct:title": "Tides",
        "distribution": [{"@type": "Distribution", "format": "HttpData-PULL", "accessService": service}]});
    let callback = "https://reader.example/dsp/";
    let seeds = [
        message(
            "ContractRequestMessage",
            json!({"consumerPid": "c", "offer": targeted, "callbackAddress": callback}),
        ),
        message("ContractOfferMessage", json!({"providerPid": "p", "consumerPid": "c", "offer": targeted})),
        message(
            "ContractAgreementMessage",
            json!({"providerPid": "p", "consumerPid": "c", "agreement": agreement}),
        ),
        message(
            "ContractNegotiationTerminationMessage",
            json!({"@id": "urn:m", "providerPid": "p", "consumerPid": "c", "code": "x", "reason": ["a", {"b": 1}]}),
        ),
        message(
            "TransferRequestMessage",
            json!({"consumerPid": "c", "agreementId": "agreement1",
            "format": "HttpData-PULL", "callbackAddress": callback}),
        ),
        message(
            "TransferStartMessage",
            json!({"providerPid": "p", "consumerPid": "c", "dataAddress": address}),
        ),
        message(
            "Catalog",
            json!({"@id": "urn:c", "participantId": "https://harbour.example/id",
            "dataset": [dataset], "service": [service]}),
        ),
    ];
    let seeds = seeds.map(|seed| seed.to_string().into_bytes());
    for seed in &seeds {
        assert!(bodies::protocol(seed) > 0, "nobody understands {}", String::from_utf8_lossy(seed));
    }
    changed("messages", &seeds, |bytes| {
        bodies::protocol(bytes);
    });
}

fn changed(what: &str, seeds: &[Vec<u8>], body: fn(&[u8])) {
    let mut chance = chance::generator(what);
    for seed in seeds {
        body(seed);
        for _ in 0..CHANGES / seeds.len() {
            let mut bytes = seed.clone();
            for _ in 0..chance.random_range(1..4) {
                change(&mut bytes, &mut chance);
            }
            body(&bytes);
        }
    }
}

fn change(bytes: &mut Vec<u8>, chance: &mut StdRng) {
    let at = chance.random_range(0..=bytes.len());
    let until = (at + chance.random_range(1..64)).min(bytes.len());
    match chance.random_range(0..6) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..until)),
        2 => {
            let piece = bytes[at..until].to_vec();
            let to = chance.random_range(0..=bytes.len());
            drop(bytes.splice(to..to, piece));
        }
        3 if at < bytes.len() => bytes[at] ^= 1 << chance.random_range(0..8),
        4 if at < bytes.len() => bytes[at] = chance.random(),
        _ => drop(bytes.splice(at..at, TRICKS[chance.random_range(0..TRICKS.len())].iter().copied())),
    }
}

/// Header and content of an envelope that publishes the description.
fn sealed(turtle: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let scope = PublisherScope {
        participant: ParticipantId::parse(bodies::PUBLISHER).unwrap(),
        subject_base: SubjectBase::parse("https://harbour.example/id/").unwrap(),
    };
    let offers = PolicyOffers::new(Profiles::shipped());
    let text = std::str::from_utf8(turtle).unwrap();
    let publication =
        read_turtle(text, &scope, &offers, &BTreeMap::new()).expect("the seed is a good description");
    let header = Header {
        publisher: scope.participant,
        epoch: 1,
        seq: 1,
        prev: None,
        kind: Kind::Publish {
            dataset: publication.description.dataset,
            content: Digest::of(&publication.content),
        },
        issued: bodies::NOW,
        expires: bodies::NOW.plus_millis(24 * 60 * 60 * 1000),
    };
    (header.to_json().into_bytes(), publication.content)
}

fn fixture(of: &str, name: &str) -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(of).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
