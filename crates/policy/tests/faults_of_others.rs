//! Faults found by reading and probing other engines: each is a named case that this engine must not share.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use policy::time::UnixMillis;
use policy::vocab::{action, operand};
use policy::{Facts, Outcome, Policy, Profiles, Request, Source, Stage, Value};

const NOW: UnixMillis = UnixMillis(1_795_564_800_000);

fn text(rules: &str) -> String {
    format!(
        r#"{{"@type":"Agreement","@id":"urn:a","target":"urn:d","assigner":"urn:p","assignee":"urn:c",{rules}}}"#
    )
}

fn read(rules: &str) -> Policy {
    Policy::from_json(&text(rules), &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn refused(rules: &str) -> &'static str {
    Policy::from_json(&text(rules), &Profiles::shipped()).unwrap_err().first().code.code
}

fn ask(policy: &Policy, action: &str, facts: &Facts) -> Outcome {
    policy.decide(&Request { action, target: "urn:d", assignee: "urn:c", stage: Stage::Use }, facts).outcome
}

fn permit(constraint: &str) -> String {
    format!(r#""permission":[{{"action":"use","constraint":[{constraint}]}}]"#)
}

#[test]
fn an_operand_nobody_supplied_does_not_satisfy_neq_or_is_none_of() {
    for operator in ["neq", "isNoneOf"] {
        let policy = read(&permit(&format!(
            r#"{{"leftOperand":"purpose","operator":"{operator}","rightOperand":"dpv:Marketing"}}"#
        )));
        assert_eq!(ask(&policy, action::READ, &Facts::at(NOW)), Outcome::Unknown, "{operator}");
    }
}

#[test]
fn an_operand_without_evaluator_is_not_skipped() {
    let policy = read(&permit(r#"{"leftOperand":"absoluteSize","operator":"lteq","rightOperand":5}"#));
    assert_eq!(ask(&policy, action::READ, &Facts::at(NOW)), Outcome::Unknown);
    assert_eq!(
        refused(&permit(r#"{"leftOperand":"colour","operator":"eq","rightOperand":"red"}"#)),
        "policy/unknown-operand"
    );
}

#[test]
fn an_unconditional_prohibition_prohibits_and_an_empty_policy_permits_nothing() {
    let policy = read(r#""permission":[{"action":"use"}],"prohibition":[{"action":"use"}]"#);
    assert_eq!(ask(&policy, action::READ, &Facts::at(NOW)), Outcome::Deny);
    let only = read(r#""prohibition":[{"action":"print"}]"#);
    assert_eq!(
        ask(&only, action::READ, &Facts::at(NOW)),
        Outcome::Deny,
        "a prohibition alone grants nothing"
    );
    assert_eq!(refused(r#""permission":[]"#), "policy/missing-member");
}

#[test]
fn permissions_are_a_choice_and_a_prohibition_needs_all_its_constraints() {
    let two = read(
        r#""permission":[{"action":"read","constraint":[{"leftOperand":"count","operator":"lteq","rightOperand":0}]},{"action":"read"}]"#,
    );
    assert_eq!(ask(&two, action::READ, &Facts::at(NOW).uses_spent(5)), Outcome::Permit);
    let policy = read(
        r#""permission":[{"action":"use"}],"prohibition":[{"action":"use","constraint":[
            {"leftOperand":"purpose","operator":"isA","rightOperand":"dpv:Marketing"},
            {"leftOperand":"spatial","operator":"eq","rightOperand":"HK"}]}]"#,
    );
    let facts = Facts::at(NOW).purpose("dpv:Marketing");
    assert_eq!(ask(&policy, action::READ, &facts.clone().jurisdiction("MO")), Outcome::Permit, "one of two");
    assert_eq!(ask(&policy, action::READ, &facts.jurisdiction("HK")), Outcome::Deny, "both");
}

#[test]
fn assignee_target_and_action_are_matched() {
    let policy = read(r#""permission":[{"action":"read"}]"#);
    let facts = Facts::at(NOW);
    let request = Request { action: action::READ, target: "urn:d", assignee: "urn:c", stage: Stage::Use };
    assert!(policy.decide(&request, &facts).is_permit());
    for other in [
        Request { assignee: "urn:x", ..request },
        Request { target: "urn:x", ..request },
        Request { action: "http://www.w3.org/ns/odrl/2/print", ..request },
    ] {
        assert_eq!(policy.decide(&other, &facts).outcome, Outcome::Deny, "{other:?}");
    }
}

#[test]
fn only_local_names_do_not_match() {
    let foreign = r#"{"leftOperand":"https://other.example/count","operator":"lteq","rightOperand":5}"#;
    assert_eq!(refused(&permit(foreign)), "policy/unknown-operand");
    let facts =
        Facts::at(NOW).with("https://other.example/count", Value::whole(0), Source::LocalCounter, NOW);
    let policy = read(&permit(r#"{"leftOperand":"count","operator":"lteq","rightOperand":5}"#));
    assert_eq!(ask(&policy, action::READ, &facts), Outcome::Unknown);
}

#[test]
fn every_constraint_of_a_rule_counts_and_iris_on_the_right_are_read() {
    let policy = read(&permit(
        r#"{"leftOperand":"count","operator":"lteq","rightOperand":5},{"leftOperand":"purpose","operator":"eq","rightOperand":{"@id":"dpv:Marketing"}}"#,
    ));
    let facts = Facts::at(NOW).uses_spent(0);
    assert_eq!(ask(&policy, action::READ, &facts.clone().purpose("dpv:AcademicResearch")), Outcome::Deny);
    assert_eq!(ask(&policy, action::READ, &facts.purpose("dpv:Marketing")), Outcome::Permit);
}

#[test]
fn a_rule_with_an_iri_keeps_its_constraints() {
    let turtle = r"@prefix odrl: <http://www.w3.org/ns/odrl/2/> . <urn:p> a odrl:Set ; odrl:permission <urn:r1>, <urn:r2> .
        <urn:r1> odrl:target <urn:d> ; odrl:action odrl:read ; odrl:constraint [ odrl:leftOperand odrl:count ; odrl:operator odrl:lteq ; odrl:rightOperand 1 ] .
        <urn:r2> odrl:target <urn:e> ; odrl:action odrl:read .";
    let policy = Policy::from_turtle(turtle, "", &Profiles::shipped()).unwrap();
    assert_eq!(
        ask(&policy, action::READ, &Facts::at(NOW).uses_spent(1)),
        Outcome::Deny,
        "not granted, not pooled"
    );
    assert_eq!(ask(&policy, action::READ, &Facts::at(NOW).uses_spent(0)), Outcome::Permit);
}

#[test]
fn literals_are_values_and_never_code() {
    for hostile in ["1+1", "__import__('os')", "{{7*7}}", "5; drop", "0x5"] {
        let constraint = format!(r#"{{"leftOperand":"count","operator":"lteq","rightOperand":"{hostile}"}}"#);
        assert_eq!(refused(&permit(&constraint)), "policy/bad-value", "{hostile}");
    }
}

#[test]
fn xone_and_is_any_of_are_supported_and_part_of_is_the_right_way_round() {
    let xone = read(&permit(
        r#"{"xone":[{"leftOperand":"count","operator":"lteq","rightOperand":1},{"leftOperand":"count","operator":"lteq","rightOperand":3}]}"#,
    ));
    assert_eq!(ask(&xone, action::READ, &Facts::at(NOW).uses_spent(0)), Outcome::Deny);
    assert_eq!(ask(&xone, action::READ, &Facts::at(NOW).uses_spent(1)), Outcome::Permit);
    let within = read(&permit(r#"{"leftOperand":"spatial","operator":"isPartOf","rightOperand":"EU"}"#));
    assert_eq!(ask(&within, action::READ, &Facts::at(NOW).jurisdiction("DE")), Outcome::Permit);
    let within = read(&permit(r#"{"leftOperand":"spatial","operator":"isPartOf","rightOperand":"DE"}"#));
    assert_eq!(ask(&within, action::READ, &Facts::at(NOW).jurisdiction("EU")), Outcome::Deny);
}

#[test]
fn remedies_are_kept_and_do_not_disarm_the_prohibition() {
    let policy = read(
        r#""permission":[{"action":"use"}],"prohibition":[{"action":"use","odrl:remedy":[{"action":"anonymize"}]}]"#,
    );
    assert_eq!(ask(&policy, action::READ, &Facts::at(NOW)), Outcome::Deny);
    assert!(policy.canonical_text().contains("odrl:remedy"));
}

#[test]
fn a_policy_under_an_unknown_profile_stops_and_a_replaced_one_is_void() {
    assert_eq!(
        refused(r#""profile":"https://unknown.example/","permission":[{"action":"use"}]"#),
        "policy/unknown-profile"
    );
    let replaced = read(r#""dct:isReplacedBy":{"@id":"urn:new"},"permission":[{"action":"use"}]"#);
    assert_eq!(ask(&replaced, action::READ, &Facts::at(NOW)), Outcome::Deny);
}

#[test]
fn a_hidden_second_purpose_does_not_slip_through() {
    let policy = read(&permit(
        r#"{"leftOperand":"purpose","operator":"isA","rightOperand":"ResearchAndDevelopment"}"#,
    ));
    let both = Value::symbols(["dpv:AcademicResearch", "dpv:Marketing"]);
    let facts = Facts::at(NOW).with(operand::PURPOSE, both, Source::Asserted, NOW);
    assert_eq!(ask(&policy, action::READ, &facts), Outcome::Unknown);
}

#[test]
fn a_policy_of_duties_alone_permits_nothing() {
    let duties = r#""obligation":[{"action":"inform"},{"action":"delete"}]"#;
    assert_eq!(ask(&read(duties), action::READ, &Facts::at(NOW)), Outcome::Deny);
}

/// 2026-11-25T00:00:00Z is NOW; an offset moves the instant, it is not dropped.
#[test]
fn a_bound_is_an_instant_whatever_its_offset() {
    let at = |right: &str, operator: &str| {
        let bound = format!(r#"{{"@value":"{right}","@type":"xsd:dateTime"}}"#);
        let policy = read(&permit(&format!(
            r#"{{"leftOperand":"dateTime","operator":"{operator}","rightOperand":{bound}}}"#
        )));
        ask(&policy, action::READ, &Facts::at(NOW))
    };
    for (bound, before) in [
        ("2026-11-25T00:00:01Z", Outcome::Permit),
        ("2026-11-25T08:00:01+08:00", Outcome::Permit),
        ("2026-11-25T07:59:59+08:00", Outcome::Deny),
        ("2026-11-24T19:00:01-05:00", Outcome::Permit),
        ("2026-11-24T23:59:59Z", Outcome::Deny),
    ] {
        assert_eq!(at(bound, "lt"), before, "{bound}");
        let after = if before == Outcome::Permit { Outcome::Deny } else { Outcome::Permit };
        assert_eq!(at(bound, "gteq"), after, "{bound}");
    }
}

/// A consequence is a duty of its own, with its place in the policy; none is read and then forgotten.
#[test]
fn consequences_are_listed_with_their_duty() {
    let policy = read(
        r#""permission":[{"action":"use","duty":[{"action":"compensate","consequence":[{"action":"delete"}]}]}]"#,
    );
    let [duty] = policy.duties() else { panic!("{:?}", policy.duties()) };
    let [consequence] = duty.consequences.as_slice() else { panic!("{duty:?}") };
    assert!(consequence.is_delete() && !duty.is_delete());
    assert_eq!(consequence.key, format!("{}/consequence/1", duty.key));
}

#[test]
fn how_often_a_duty_recurs_and_what_refines_it_is_told() {
    let refined = |refinements: &str| {
        let action =
            format!(r#"{{"rdf:value":{{"@id":"odrl:compensate"}},"odrl:refinement":[{refinements}]}}"#);
        let policy = read(&format!(r#""permission":[{{"action":"use","duty":[{{"action":{action}}}]}}]"#));
        let duty = &policy.duties()[0];
        let operands: Vec<String> = duty.refinements.iter().map(|one| one.operand.clone()).collect();
        (duty.period_millis, operands)
    };
    let amount =
        r#"{"leftOperand":"payAmount","operator":"eq","rightOperand":{"@value":"5","@type":"xsd:decimal"}}"#;
    let daily = r#"{"leftOperand":"timeInterval","operator":"eq","rightOperand":{"@value":"P1D","@type":"xsd:duration"}}"#;
    let amounts = vec!["http://www.w3.org/ns/odrl/2/payAmount".to_owned()];
    assert_eq!(refined(amount), (None, amounts.clone()));
    assert_eq!(refined(&format!("{amount},{daily}")), (Some(86_400_000), amounts));
}
