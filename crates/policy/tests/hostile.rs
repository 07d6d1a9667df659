//! Texts from anywhere: never a panic, always a typed answer, within bounds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use policy::{Lang, Policy, Profiles};
use proptest::prelude::*;

const GOOD_JSON: &str = include_str!("fixtures/research-offer.json");
const GOOD_TURTLE: &str = r#"@prefix odrl: <http://www.w3.org/ns/odrl/2/> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
<urn:p> a odrl:Set ; odrl:permission [ odrl:action [ <http://www.w3.org/1999/02/22-rdf-syntax-ns#value> odrl:print ; odrl:refinement
  [ odrl:leftOperand odrl:resolution ; odrl:operator odrl:lteq ; odrl:rightOperand "1200"^^xsd:integer ] ] ; odrl:target <urn:d> ;
  odrl:constraint [ odrl:xone ( [ odrl:leftOperand odrl:count ; odrl:operator odrl:lteq ; odrl:rightOperand 3 ]
    [ odrl:leftOperand odrl:dateTime ; odrl:operator odrl:lt ; odrl:rightOperand "2027-01-01"^^xsd:date ] ) ] ] ."#;

fn config() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() }
}

/// Whatever is accepted must be usable and keep its canonical form.
fn use_it(read: Result<Policy, policy::Problems>) {
    match read {
        Ok(policy) => {
            let again = Policy::from_json(policy.canonical_text(), &Profiles::shipped())
                .unwrap_or_else(|problems| panic!("{problems}\n{}", policy.canonical_text()));
            assert_eq!(again.canonical_text(), policy.canonical_text());
            assert!(!policy.render(Lang::En).is_empty());
        }
        Err(problems) => {
            assert!(!problems.list().is_empty() && problems.list().len() <= policy::Problems::MAX_LISTED)
        }
    }
}

/// A text with some bytes replaced, removed or doubled.
fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    let pieces = proptest::sample::select(vec![
        "",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "@id",
        "@value",
        "null",
        "1e9",
        "-1",
        "odrl:",
        "use",
        "eq",
        "\\u0000",
        "é",
        "P1M",
        "2026-01-01",
        " ",
        ".",
        ";",
        "<urn:x>",
        "_:b",
        "(",
        ")",
    ]);
    proptest::collection::vec((0..text.len(), 0..12_usize, pieces), 1..4).prop_map(move |changes| {
        let mut text = text.to_owned();
        for (at, length, piece) in changes {
            let start = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let end = (start + length).min(text.len());
            let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            text.replace_range(start..end, piece);
        }
        text
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn damaged_json(text in damaged(GOOD_JSON)) {
        use_it(Policy::from_json(&text, &Profiles::shipped()));
    }

    #[test]
    fn damaged_turtle(text in damaged(GOOD_TURTLE)) {
        use_it(Policy::from_turtle(&text, "https://base.example/", &Profiles::shipped()));
    }

    #[test]
    fn any_text(text in ".{0,200}") {
        use_it(Policy::from_json(&text, &Profiles::shipped()));
        use_it(Policy::from_turtle(&text, "", &Profiles::shipped()));
    }
}

#[test]
fn shared_nodes_do_not_explode() {
    // Thirty nodes, each naming the next one twice: written out, a billion constraints.
    let mut turtle = String::from(
        "@prefix odrl: <http://www.w3.org/ns/odrl/2/> . <urn:p> a odrl:Set ; odrl:permission [ odrl:action odrl:use ; odrl:target <urn:d> ; odrl:constraint <urn:c0> ] .",
    );
    for level in 0..30 {
        turtle.push_str(&format!(
            "<urn:c{level}> odrl:and <urn:c{}>, <urn:e{level}> . <urn:e{level}> odrl:or <urn:c{}> .",
            level + 1,
            level + 1
        ));
    }
    let refusal = Policy::from_turtle(&turtle, "", &Profiles::shipped()).unwrap_err().first();
    assert_eq!(refusal.code.code, "policy/too-large", "{refusal}");
}

#[test]
fn shapes_of_the_odrl_recommendation() {
    let cases = [
        r#"{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Set","uid":"http://example.com/policy:1010",
            "permission":[{"target":"http://example.com/asset:9898.movie","action":"use"}]}"#,
        r#"{"@context":["http://www.w3.org/ns/odrl.jsonld",{"vcard":"http://www.w3.org/2006/vcard/ns#"}],"@type":"Agreement","uid":"http://example.com/policy:777",
            "permission":[{"target":"http://example.com/looking-glass.ebook","assigner":{"@type":["Party"],"uid":"http://example.com/org-01"},
              "assignee":{"@type":"PartyCollection","source":"http://example.com/team-A","refinement":[{"leftOperand":"fl:role","operator":"eq","rightOperand":"urn:r"}]},"action":"use"}],
            "profile":"https://w3id.org/fairlead/profile/1"}"#,
        r#"{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Offer","uid":"http://example.com/policy:6161",
            "permission":[{"target":"http://example.com/document:1234","assigner":"http://example.com/org:616",
              "action":[{"rdf:value":{"@id":"odrl:print"},"refinement":[{"leftOperand":"resolution","operator":"lteq","rightOperand":{"@value":"1200","@type":"xsd:integer"},"unit":"http://dbpedia.org/resource/Dots_per_inch"}]}]}]}"#,
        r#"{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Agreement","uid":"http://example.com/policy:42B","assigner":"http://example.com/org:43","assignee":"http://example.com/person:44","target":"urn:t",
            "obligation":[{"action":"delete","target":"http://example.com/document:XZY",
              "consequence":[{"action":[{"rdf:value":{"@id":"odrl:compensate"},"refinement":[{"leftOperand":"payAmount","operator":"eq","rightOperand":{"@value":"10.00","@type":"xsd:decimal"},"unit":"http://dbpedia.org/resource/Euro"}]}],"compensatedParty":"http://wwf.org"}]}]}"#,
        r#"{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Policy","uid":"http://example.com/policy:8888","target":"http://example.com/music/1999.mp3","assigner":"http://example.com/org/sony-music",
            "action":["play","stream"],"permission":[{"assignee":"http://example.com/people/billie"},{"assignee":"http://example.com/people/ben"}]}"#,
        r#"{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Set","uid":"urn:x","prohibition":[{"target":"urn:d","action":"index","remedy":[{"action":"anonymize","target":"urn:d"}]}],"conflict":"perm"}"#,
        r#"[{"@id":"urn:expanded","@type":["http://www.w3.org/ns/odrl/2/Set"],"http://www.w3.org/ns/odrl/2/permission":[{"http://www.w3.org/ns/odrl/2/target":[{"@id":"urn:d"}],
            "http://www.w3.org/ns/odrl/2/action":[{"@id":"http://www.w3.org/ns/odrl/2/use"}],"http://www.w3.org/ns/odrl/2/constraint":[{"http://www.w3.org/ns/odrl/2/leftOperand":[{"@id":"http://www.w3.org/ns/odrl/2/count"}],
            "http://www.w3.org/ns/odrl/2/operator":[{"@id":"http://www.w3.org/ns/odrl/2/lteq"}],"http://www.w3.org/ns/odrl/2/rightOperand":[{"@value":5}]}]}]}]"#,
    ];
    for (index, text) in cases.iter().enumerate() {
        let policy = Policy::from_json(text, &Profiles::shipped());
        // The fourth names the policy's target and another one on its rule, which could widen it: refused.
        if index == 3 {
            assert_eq!(policy.unwrap_err().first().code.code, "policy/ambiguous-member");
        } else {
            use_it(Ok(policy.unwrap_or_else(|problems| panic!("{index}: {problems}"))));
        }
    }
}

#[test]
fn what_would_be_read_otherwise_than_written_is_refused() {
    let profiles = policy::Profiles::shipped();
    let set = |members: &str| format!(r#"{{"@type":"Set","@id":"urn:p","target":"urn:d",{members}}}"#);
    let permit = |action: &str| set(&format!(r#""permission":[{{"action":{action}}}]"#));
    let count = |right: &str| {
        set(&format!(
            r#""permission":[{{"action":"read","constraint":[{{"leftOperand":"count","operator":"lteq","rightOperand":{right}}}]}}]"#
        ))
    };
    let cases = [
        (permit(r#"{"@id":"odrl:read","includedIn":"odrl:transfer"}"#), Some("includedIn")),
        (permit(r#"{"@id":"odrl:read","implies":"odrl:print"}"#), Some("implies")),
        (permit(r#"{"@id":"odrl:read","includedIn":"odrl:use"}"#), None),
        (
            set(r#""@context":{"@vocab":"http://evil.example/"},"permission":[{"action":"read"}]"#),
            Some("evil.example"),
        ),
        (
            set(r#""@context":{"@vocab":"http://www.w3.org/ns/odrl/2/"},"permission":[{"action":"read"}]"#),
            None,
        ),
        (count(r#"{"@value":"3","@language":"en"}"#), Some("3")),
        (count(r#"{"@value":"3"}"#), None),
    ];
    for (text, term) in cases {
        let read =
            policy::Policy::from_json(&text, &profiles).map(|_| ()).map_err(|problems| problems.to_string());
        match term {
            None => assert_eq!(read, Ok(()), "{text}"),
            Some(term) => assert!(read.unwrap_err().contains(term), "{text}"),
        }
    }
}

#[test]
fn problems_of_turtle_name_the_way_to_them() {
    let text = "@prefix odrl: <http://www.w3.org/ns/odrl/2/> . <urn:p> a odrl:Set ; odrl:permission [ odrl:action odrl:read ; odrl:target <urn:d> ;
        odrl:constraint [ odrl:leftOperand odrl:count ; odrl:operator odrl:lteq ; odrl:rightOperand 1 ],
          [ odrl:leftOperand odrl:cuont ; odrl:operator odrl:lteq ; odrl:rightOperand 1 ] ] .";
    let problems = policy::Policy::from_turtle(text, "", &policy::Profiles::shipped()).unwrap_err();
    let path = problems.list()[0].at.path.clone();
    assert!(path.contains("permission") && path.contains("constraint/"), "{path}");
    assert!(!path.contains("[]"), "{path}");
}
