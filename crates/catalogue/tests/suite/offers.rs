//! Offers read by the real policy engine.

use std::collections::BTreeMap;

use catalogue::description::{Publication, read_canonical, read_turtle};
use catalogue::offers::PolicyOffers;
use catalogue::report::Report;
use policy::{Policy, Profiles};

use crate::support::{TIDE, WATER, estuary, harbour};

fn read(turtle: &str) -> Result<Publication, Report> {
    let scope = if turtle.contains("estuary.example") { estuary() } else { harbour() };
    read_turtle(turtle, &scope, &PolicyOffers::new(Profiles::shipped()), &BTreeMap::new())
}

#[test]
fn the_text_is_the_policys_own_canonical_text() {
    for (turtle, scope, purposes, any_purpose) in
        [(TIDE, harbour(), &["ScientificResearch"][..], false), (WATER, estuary(), &[][..], true)]
    {
        let publication = read(turtle).unwrap_or_else(|report| panic!("{report}"));
        let offer = &publication.description.offers[0];
        let policy = Policy::from_json(&offer.text, &Profiles::shipped()).unwrap();
        assert_eq!(policy.canonical_text(), offer.text);
        assert_eq!(policy.hash(), offer.hash.to_string());
        assert_eq!(policy.uid(), offer.id.as_str());
        assert_eq!(policy.assigner(), Some(scope.participant.as_str()));
        assert_eq!(policy.target(), Some(publication.description.dataset.as_str()));
        let expected: Vec<String> =
            purposes.iter().map(|name| format!("https://w3id.org/dpv#{name}")).collect();
        assert_eq!(offer.purposes.iter().cloned().collect::<Vec<_>>(), expected, "{}", offer.text);
        assert_eq!(offer.any_purpose, any_purpose);
        let again = read_canonical(&publication.content, &publication.description.dataset, &scope).unwrap();
        assert_eq!(again, publication.description);
    }
}

#[test]
fn what_the_engine_does_not_understand_is_refused_at_publication() {
    let check = |from: &str, to: &str, code: &str| {
        assert!(TIDE.contains(from), "{from}");
        let report = read(&TIDE.replacen(from, to, 1)).unwrap_err();
        assert_eq!(report.first().code.code, code, "{to}: {report}");
        assert!(report.problems()[0].focus.ends_with("/tide-offer"), "{report}");
    };
    check("odrl:leftOperand odrl:purpose", "odrl:leftOperand odrl:moonPhase", "policy/unknown-operand");
    check("odrl:action odrl:use", "odrl:action odrl:ponder", "policy/unknown-action");
    check(
        "https://w3id.org/fairlead/profile/1",
        "https://somebody.example/profile",
        "policy/unknown-profile",
    );
    check(
        "odrl:permission :tide-offer-read",
        "odrl:permission :tide-offer-read ; odrl:moon \"x\"",
        "policy/unknown-member",
    );
}
