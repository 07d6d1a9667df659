//! Policies of other data spaces are read, decided as far as we can, and told apart in how they are held.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use policy::time::UnixMillis;
use policy::vocab::action;
use policy::{Enforcement, Facts, Lang, Outcome, Phase, Policy, Profiles, Request, Stage};

fn read(text: &str) -> Policy {
    Policy::from_json(text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse_rfc3339(text).unwrap()
}

#[test]
fn ids_terms_read_the_same_facts() {
    let policy = read(
        r#"{"@type":"Agreement","@id":"urn:a","target":"urn:d","assigner":"urn:p","assignee":"urn:c","profile":"http://example.com/ids-profile/",
        "permission":[{"action":"idsc:USE","constraint":[
          {"leftOperand":"idsc:COUNT","operator":"idsc:LTEQ","rightOperand":5},
          {"leftOperand":"idsc:POLICY_EVALUATION_TIME","operator":"idsc:BEFORE","rightOperand":"2027-01-01T00:00:00Z"},
          {"leftOperand":"idsc:SECURITY_LEVEL","operator":"idsc:IN","rightOperand":["idsc:TRUST_SECURITY_PROFILE","idsc:TRUST_PLUS_SECURITY_PROFILE"]}]}],
        "obligation":[{"action":"idsc:DELETE","constraint":[{"leftOperand":"idsc:DATE_TIME","operator":"idsc:BEFORE","rightOperand":"2027-02-01T00:00:00Z"}]},
          {"action":"idsc:LOG"}]}"#,
    );
    let now = at("2026-11-25T00:00:00Z");
    let request = Request { action: action::READ, target: "urn:d", assignee: "urn:c", stage: Stage::Use };
    let facts = |spent| {
        Facts::at(now).uses_spent(spent).with(
            policy::vocab::operand::SECURITY_PROFILE,
            policy::Value::symbol("trust"),
            policy::Source::Registered,
            now,
        )
    };
    assert_eq!(policy.decide(&request, &facts(4)).outcome, Outcome::Permit);
    assert_eq!(policy.decide(&request, &facts(5)).code.map(|code| code.code), Some("policy/count-spent"));
    let delete = policy.duties().iter().find(|duty| duty.is_delete()).unwrap();
    assert!(!delete.deadlines.is_empty() && delete.phase == Phase::After);
    assert_eq!(policy.unenforceable(), []);
    assert!(
        policy.canonical_text().contains("\"action\":\"use\""),
        "an IDS action that ODRL has is that one"
    );
}

#[test]
fn catena_x_policies_parse_and_tell_what_is_only_legal() {
    let policy = read(
        r#"{"@context":["https://w3id.org/catenax/2025/9/policy/odrl.jsonld"],"@type":"Set","@id":"urn:cx","target":"urn:d",
        "profile":"cx-policy:profile2405",
        "permission":[{"action":"use","constraint":[{"and":[
          {"leftOperand":"FrameworkAgreement","operator":"eq","rightOperand":"DataExchangeGovernance:1.0"},
          {"leftOperand":"cx-policy:UsagePurpose","operator":"isAnyOf","rightOperand":["cx.core.industrycore:1"]},
          {"leftOperand":"cx-policy:WarrantyDurationMonths","operator":"eq","rightOperand":"12"}]}]}],
        "obligation":[{"action":"use","constraint":[{"leftOperand":"DataProvisioningEndDurationDays","operator":"eq","rightOperand":"30"}]}]}"#,
    );
    let legal: Vec<String> = policy
        .unenforceable()
        .into_iter()
        .filter(|clause| clause.enforcement == Enforcement::Legal)
        .map(|clause| policy::vocab::short(&clause.term))
        .collect();
    assert_eq!(
        legal,
        [
            "cx-policy:UsagePurpose",
            "cx-policy:WarrantyDurationMonths",
            "cx-policy:DataProvisioningEndDurationDays"
        ]
    );
    let request = Request { action: action::USE, target: "urn:d", assignee: "urn:c", stage: Stage::Use };
    let facts = Facts::at(at("2026-11-25T00:00:00Z"));
    assert_eq!(
        policy.decide(&request, &facts).outcome,
        Outcome::Unknown,
        "what cannot be decided is not permitted"
    );
    assert!(policy.render(Lang::ZhHans)[0].text.contains("框架协议"));
    let wrong = r#"{"@type":"Set","@id":"urn:cx","profile":"cx-policy:profile2405","permission":[{"action":"use","constraint":[{"leftOperand":"UsagePurpose","operator":"eq","rightOperand":"x"}]}]}"#;
    let problems = Policy::from_json(wrong, &Profiles::shipped()).unwrap_err();
    assert_eq!(problems.first().code.code, "policy/operator-not-allowed");
}

#[test]
fn catena_x_values_and_combinations_are_those_of_the_profile() {
    const WHOLE: &str = r#"{"leftOperand":"FrameworkAgreement","operator":"eq","rightOperand":"DataExchangeGovernance:1.0"},
        {"leftOperand":"UsagePurpose","operator":"isAnyOf","rightOperand":["cx.core.industrycore:1"]}"#;
    let atom = |operand: &str, value: &str| {
        format!(r#"{{"leftOperand":"{operand}","operator":"eq","rightOperand":"{value}"}}"#)
    };
    let rule = |action: &str, constraints: &str| {
        let text = format!(
            r#"{{"@type":"Set","@id":"urn:cx","target":"urn:d","profile":"cx-policy:profile2405","permission":[{{"action":"{action}","constraint":[{constraints}]}}]}}"#
        );
        Policy::from_json(&text, &Profiles::shipped()).map(|_| ()).map_err(|problems| problems.to_string())
    };
    let with = |more: &str| rule("use", &format!("{WHOLE},{more}"));
    let either = format!(r#"{{"or":[{},{}]}}"#, atom("Membership", "active"), atom("VersionChanges", "x"));
    let both = format!(r#"{{"and":[{},{}]}}"#, atom("Membership", "active"), atom("VersionChanges", "x"));
    let ends =
        format!("{},{}", atom("DataUsageEndDate", "2027-01-01"), atom("DataUsageEndDurationDays", "30"));
    for (read, wrong) in [
        (rule("use", WHOLE), None),
        (rule("cx-policy:access", &atom("Membership", "active")), None),
        (rule("use", &atom("Membership", "active")), Some("UsagePurpose")),
        (with(&atom("Membership", "bogus")), Some("bogus")),
        (with(&atom("DataUsageEndDate", "not a date")), Some("not a date")),
        (with(&atom("DataUsageEndDate", "2027-01-01T00:00:00Z")), None),
        (with(&atom("DataUsageEndDurationDays", "-4")), Some("-4")),
        (with(&ends), Some("DataUsageEndDurationDays")),
        (with(&either), Some("or")),
        (with(&both), None),
    ] {
        match wrong {
            None => assert_eq!(read, Ok(())),
            Some(term) => assert!(read.clone().unwrap_err().contains(term), "{term}: {read:?}"),
        }
    }
}

/// The page's example of a profile and of a taxonomy are files that load, and a policy that uses them is understood.
#[test]
fn the_documented_formats_load() {
    let page = include_str!("../../../docs/profiles-and-taxonomies.md");
    let block = |fence: &str| {
        let (_, rest) = page.split_once(&format!("```{fence}\n")).unwrap();
        rest.split_once("```").unwrap().0
    };
    let profiles = Profiles::shipped()
        .with_file(block("json profile"))
        .unwrap()
        .with_taxonomy(block("turtle taxonomy"), "")
        .unwrap();
    let policy =
        Policy::from_json(block("json policy"), &profiles).unwrap_or_else(|problems| panic!("{problems}"));
    let now = at("2026-11-28T00:00:00Z");
    let request = Request { action: action::READ, target: "urn:d", assignee: "urn:c", stage: Stage::Use };
    let facts = |ethics: &str| {
        Facts::at(now).purpose("https://coast.example/terms#TideModels").with(
            "https://coast.example/terms#ethicsApproval",
            policy::Value::symbol(ethics),
            policy::Source::Attested,
            now,
        )
    };
    assert_eq!(policy.decide(&request, &facts("granted")).outcome, Outcome::Permit);
    assert_eq!(policy.decide(&request, &facts("refused")).outcome, Outcome::Deny);
}
