//! What a rule may accept without a person: only what the comparison proves, and nothing that it does not measure.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use policy::accept::{counter_offer, passed_on, within_ceiling};
use policy::time::UnixMillis;
use policy::vocab::action;
use policy::{Facts, Policy, Profiles, Request, Stage};

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

/// What a consumer was granted, and what it wants to offer on: other parties, another dataset.
#[test]
fn what_is_passed_on_must_be_at_least_as_strict() {
    let granted = |rules: &str| {
        read(
            r#""@type":"Agreement","@id":"urn:agreement","target":"urn:d","assigner":"https://p.example/id",
                "assignee":"https://c.example/id","dct:issued":{"@value":"2026-11-25T08:00:00Z","@type":"xsd:dateTime"}"#,
            rules,
        )
    };
    let onward = |rules: &str| {
        read(
            r#""@type":"Offer","@id":"urn:onward","target":"urn:e","assigner":"https://c.example/id""#,
            rules,
        )
    };
    let read_and_distribute = |constraints: &str, duties: &str| {
        format!(
            r#""permission":[{{"action":"read","constraint":[{constraints}]}},{{"action":"distribute"{duties}}}]"#
        )
    };
    let informs = |whom: &str| {
        let whom = format!(r#""odrl:informedParty":{{"@id":"{whom}"}}"#);
        format!(r#"{},"obligation":[{{"action":"inform",{whom}}}]"#, read_with(""))
    };
    let pays = |whom: &str, action: &str| {
        let duty = format!(r#"{{"action":"compensate","odrl:compensatedParty":{{"@id":"{whom}"}}}}"#);
        format!(r#""permission":[{{"action":"{action}","duty":[{duty}]}}]"#)
    };
    let next = |action: &str| {
        let duty = r#"{"action":"nextPolicy","target":"urn:next"}"#;
        format!(r#""permission":[{{"action":"{action}","duty":[{duty}]}}]"#)
    };
    let (above, below) = ("https://p.example/id", "https://c.example/id");
    let cases = [
        ("the same", read_and_distribute("", ""), read_and_distribute("", ""), None),
        ("fewer actions", read_with(""), read_and_distribute("", ""), None),
        ("more actions", r#""permission":[{"action":"use"}]"#.to_owned(), read_with(""), Some("permits")),
        ("fewer uses", read_with(&count(1)), read_with(&count(2)), None),
        ("more uses", read_with(&count(3)), read_with(&count(2)), Some("count = 2")),
        ("does not delete", read_with(""), with_delete(30), Some("delete of the second is missing")),
        ("informs who passes it on", informs(below), informs(above), None),
        ("informs somebody else", informs("https://q.example/id"), informs(above), Some("not clearly kept")),
        ("pays whom the source names", pays(above, "read"), pays(above, "read"), None),
        ("pays somebody else", pays(below, "read"), pays(above, "read"), Some("duty-unfulfilled")),
        ("pays besides", pays(below, "read"), read_with(""), None),
        ("passes the next policy on", next("distribute"), next("distribute"), None),
        (
            "passes on without the next policy",
            r#""permission":[{"action":"distribute"}]"#.to_owned(),
            next("distribute"),
            Some("nextPolicy of the second is missing"),
        ),
    ];
    for (case, offered, source, reason) in cases {
        let (offered, source) = (onward(&offered), granted(&source));
        check(case, passed_on(&offered, &source), &offered, reason);
    }
}

#[test]
fn only_a_permission_that_names_the_action_permits_it_by_name() {
    let check = |rules: &str, action: &str, expected: Option<&str>| {
        let policy = offer(rules).as_if_agreed();
        let request =
            Request { action, target: "urn:d", assignee: "https://c.example/id", stage: Stage::Use };
        let decided = policy.decide_named(&request, &Facts::at(UnixMillis(0)));
        assert_eq!(decided.code.map(|code| code.code), expected, "{rules} {action}");
    };
    let both = r#""permission":[{"action":"use"},{"action":"distribute"}]"#;
    check(both, action::DISTRIBUTE, None);
    check(both, action::READ, Some("policy/action-not-permitted"));
    check(r#""permission":[{"action":"use"}]"#, action::DISTRIBUTE, Some("policy/action-not-permitted"));
    check(r#""permission":[{"action":"use"}]"#, action::USE, None);
    check(
        r#""permission":[{"action":"distribute"}],"prohibition":[{"action":"distribute"}]"#,
        action::DISTRIBUTE,
        Some("policy/void"),
    );
}
