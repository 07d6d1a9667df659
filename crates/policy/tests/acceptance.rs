//! What a rule may accept without a person: only what the comparison proves, and nothing that it does not measure.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use policy::accept::{counter_offer, within_ceiling};
use policy::{Policy, Profiles};

fn read(head: &str, rules: &str) -> Policy {
    let text = format!(r#"{{{head},"profile":"https://w3id.org/fairlead/profile/1",{rules}}}"#);
    Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn offer(rules: &str) -> Policy {
    read(r#""@type":"Offer","@id":"urn:offer","target":"urn:d","assigner":"https://p.example/id""#, rules)
}

fn read_with(constraints: &str) -> String {
    format!(r#""permission":[{{"action":"read","constraint":[{constraints}]}}]"#)
}

fn count(most: u32) -> String {
    format!(r#"{{"leftOperand":"count","operator":"lteq","rightOperand":{most}}}"#)
}

fn with_delete(days: u32) -> String {
    let within =
        format!(r#"{{"leftOperand":"fl:elapsedSinceEnd","operator":"lteq","rightOperand":"P{days}D"}}"#);
    format!(r#"{},"obligation":[{{"action":"delete","constraint":[{within}]}}]"#, read_with(""))
}

/// `reason` is part of why a person must decide; `None` expects the proof.
fn check(case: &str, answer: Result<policy::accept::Acceptable, String>, of: &Policy, reason: Option<&str>) {
    match (answer, reason) {
        (Ok(proof), None) => assert_eq!(proof.hash(), of.hash(), "{case}"),
        (Err(found), Some(part)) => assert!(found.contains(part), "{case}: {found}"),
        (found, expected) => panic!("{case}: {found:?}, expected {expected:?}"),
    }
}

#[test]
fn a_counter_offer_must_be_at_least_as_strict() {
    let cases = [
        ("fewer uses", read_with(&count(3)), read_with(&count(5)), None),
        ("as many uses", read_with(&count(5)), read_with(&count(5)), None),
        ("more uses", read_with(&count(6)), read_with(&count(5)), Some("the first permits")),
        ("deletes sooner", with_delete(10), with_delete(30), None),
        ("deletes later", with_delete(60), with_delete(30), Some("is due later")),
        ("does not delete", read_with(""), with_delete(30), Some("is missing")),
        (
            "a time that cannot be compared",
            read_with(r#"{"leftOperand":"elapsedTime","operator":"lteq","rightOperand":"P1M"}"#),
            read_with(r#"{"leftOperand":"elapsedTime","operator":"lteq","rightOperand":"P30D"}"#),
            Some("not comparable"),
        ),
        (
            "makes the provider pay",
            format!(
                r#"{},"obligation":[{{"action":"compensate","odrl:compensatingParty":{{"@id":"https://p.example/id"}}}}]"#,
                read_with("")
            ),
            read_with(""),
            Some("compensatingParty"),
        ),
        (
            "says something that is no rule",
            format!(r#"{},"dct:description":"The provider pays.""#, read_with("")),
            read_with(""),
            Some("dct:description"),
        ),
        ("has a title", format!(r#"{},"dct:title":"Weather""#, read_with("")), read_with(""), None),
        (
            "drops a remedy",
            format!(r#"{},"prohibition":[{{"action":"distribute"}}]"#, read_with("")),
            format!(
                r#"{},"prohibition":[{{"action":"distribute","remedy":[{{"action":"inform"}}]}}]"#,
                read_with("")
            ),
            Some("remedy to inform"),
        ),
    ];
    for (case, counter, published, reason) in cases {
        let (counter, published) = (offer(&counter), offer(&published));
        check(case, counter_offer(&counter, &published), &counter, reason);
    }
    let elsewhere = r#""@type":"Offer","@id":"urn:offer","target":"urn:d","assigner":"https://q.example/id""#;
    let other = read(elsewhere, &read_with(&count(3)));
    check("another assigner", counter_offer(&other, &offer(&read_with(&count(5)))), &other, Some("assigner"));
}

#[test]
fn an_offer_must_stay_within_the_ceiling() {
    let cases = [
        ("as many uses as needed", read_with(&count(5)), read_with(&count(5)), None),
        ("more uses than needed", read_with(&count(9)), read_with(&count(5)), None),
        ("fewer uses than needed", read_with(&count(4)), read_with(&count(5)), Some("the first permits")),
        ("a broader action", r#""permission":[{"action":"use"}]"#.to_owned(), read_with(""), None),
        ("a duty that is accepted", with_delete(30), with_delete(30), None),
        ("a duty with more time", with_delete(60), with_delete(30), None),
        ("a duty with less time", with_delete(10), with_delete(30), Some("is due later")),
        ("a duty that nobody accepted", with_delete(30), read_with(""), Some("is missing")),
        (
            "a remedy that nobody accepted",
            format!(
                r#"{},"prohibition":[{{"action":"distribute","remedy":[{{"action":"compensate"}}]}}]"#,
                read_with("")
            ),
            read_with(""),
            Some("remedy to compensate"),
        ),
        (
            "a prohibition of what is needed",
            format!(r#"{},"prohibition":[{{"action":"read"}}]"#, read_with("")),
            read_with(""),
            Some("the first permits"),
        ),
        (
            "a ceiling without permission",
            read_with(""),
            r#""prohibition":[{"action":"use"}]"#.to_owned(),
            Some("ceiling itself"),
        ),
        (
            "a ceiling that contradicts itself",
            read_with(""),
            read_with(&format!(r#"{},{{"leftOperand":"count","operator":"gt","rightOperand":7}}"#, count(5))),
            Some("ceiling itself"),
        ),
    ];
    for (case, terms, ceiling, reason) in cases {
        let (terms, ceiling) = (offer(&terms), read(r#""@type":"Set","@id":"urn:ceiling""#, &ceiling));
        check(case, within_ceiling(&terms, &ceiling), &terms, reason);
    }
    // A ceiling for one dataset says nothing about another.
    let elsewhere = read(r#""@type":"Set","@id":"urn:ceiling","target":"urn:other""#, &read_with(""));
    let terms = offer(&read_with(""));
    check("another dataset", within_ceiling(&terms, &elsewhere), &terms, Some("the first permits"));
}
