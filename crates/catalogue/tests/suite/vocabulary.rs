//! The vocabulary files: every term of the code is there, labelled and explained in three scripts.

use std::collections::BTreeMap;

use catalogue::text::Language;
use catalogue::vocabulary::{FL, OWN_TERMS};
use oxrdf::{NamedOrBlankNode, Term};
use oxttl::TurtleParser;

const TEXT: &str = include_str!("../../../../connector-config/vocabulary/fairlead.ttl");
const PROFILE: &str = include_str!("../../../policy/profiles/fairlead-1.json");
const RDFS: &str = "http://www.w3.org/2000/01/rdf-schema#";

#[test]
fn every_term_is_described_in_three_scripts() {
    let mut texts: BTreeMap<String, Vec<(String, Language)>> = BTreeMap::new();
    for triple in TurtleParser::new().for_slice(TEXT) {
        let triple = triple.unwrap();
        let NamedOrBlankNode::NamedNode(subject) = triple.subject else { panic!("blank node") };
        let texts = texts.entry(subject.into_string()).or_default();
        if let (Some(property), Term::Literal(literal)) =
            (triple.predicate.as_str().strip_prefix(RDFS), triple.object)
        {
            texts.push((property.to_owned(), Language::of_tag(literal.language().unwrap())));
        }
    }
    let own = |term: &&String| term.starts_with(FL);
    for term in OWN_TERMS {
        assert!(texts.contains_key(*term), "{term}");
    }
    let of_the_profile = PROFILE.split("\"iri\": \"fl:").skip(1).filter_map(|rest| rest.split('"').next());
    for name in of_the_profile {
        assert!(texts.contains_key(&format!("{FL}{name}")), "{name}");
    }
    for (term, mut texts) in
        texts.iter().filter(|(term, _)| own(term)).map(|(term, texts)| (term, texts.clone()))
    {
        texts.sort();
        let languages = [Language::En, Language::ZhHant, Language::ZhHans];
        let expected: Vec<(String, Language)> = ["comment", "label"]
            .into_iter()
            .flat_map(|property| languages.clone().map(|language| (property.to_owned(), language)))
            .collect();
        assert_eq!(texts, expected, "{term}");
    }
}

#[test]
fn codes_are_unique_and_of_this_crate() {
    let codes: Vec<&str> = catalogue::codes().map(|code| code.code).collect();
    let mut unique = codes.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), codes.len());
    assert!(codes.iter().all(|code| code.starts_with("catalogue/")));
}
