//! Clauses and explanations in three languages: nothing left out, and they agree with the decision.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use policy::time::UnixMillis;
use policy::vocab::action;
use policy::{ClauseKind, Facts, Lang, Policy, Profiles, Request, Stage};

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse_rfc3339(text).unwrap()
}

fn policy() -> Policy {
    let text = r#"{"@type":"Agreement","@id":"urn:a","target":"urn:data:x","assigner":"https://a.example/id",
      "assignee":"https://b.example/id","timestamp":"2026-11-01T00:00:00Z","profile":"https://w3id.org/fairlead/profile/1",
      "permission":[{"action":"use","constraint":[
        {"leftOperand":"purpose","operator":"isA","rightOperand":"dpv:ScientificResearch"},
        {"leftOperand":"dateTime","operator":"lteq","rightOperand":"2026-12-31+08:00"},
        {"or":[{"leftOperand":"spatial","operator":"isAnyOf","rightOperand":["HK","MO"]},
               {"leftOperand":"fl:securityProfile","operator":"gteq","rightOperand":"trust"}]},
        {"leftOperand":"count","operator":"lteq","rightOperand":100}],
        "duty":[{"action":"obtainConsent","consentingParty":"https://c.example/id"}]}],
      "prohibition":[{"action":"distribute"}],
      "obligation":[{"action":"delete","constraint":[{"leftOperand":"fl:elapsedSinceEnd","operator":"lteq","rightOperand":"P30D"}]}]}"#;
    Policy::from_json(text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn rendered(lang: Lang) -> String {
    let mut out = String::new();
    for clause in policy().render(lang) {
        out.push_str(&format!(
            "{} {}\n",
            if clause.number.is_empty() { "-" } else { &clause.number },
            clause.text
        ));
        for warning in clause.warnings {
            out.push_str(&format!("    ! {warning}\n"));
        }
    }
    out
}

#[test]
fn clauses_in_three_languages() {
    for lang in Lang::ALL {
        insta::assert_snapshot!(format!("clauses_{}", lang.tag()), rendered(lang));
    }
}

#[test]
fn explanations_in_three_languages() {
    let policy = policy();
    let request = Request {
        action: action::READ,
        target: "urn:data:x",
        assignee: "https://b.example/id",
        stage: Stage::Use,
    };
    let facts =
        Facts::at(at("2027-01-01T00:00:00Z")).purpose("dpv:Marketing").uses_spent(100).jurisdiction("CN");
    for lang in Lang::ALL {
        let explanation = policy.explain(&request, &facts, lang);
        assert_eq!(explanation.outcome, "deny");
        insta::assert_snapshot!(format!("explanation_{}", lang.tag()), explanation.lines().join("\n"));
    }
}

#[test]
fn every_rule_has_its_clause() {
    let clauses = policy().render(Lang::En);
    let numbers: Vec<&str> = clauses.iter().map(|clause| clause.number.as_str()).collect();
    assert_eq!(numbers, ["1", "1.1", "2", "3", "", "", ""]);
    assert_eq!(clauses[1].kind, ClauseKind::Duty);
    assert!(clauses[1].text.contains("https://c.example/id"));
}

#[test]
fn permit_tells_the_duties_and_what_is_deferred() {
    let policy = policy();
    let request = Request {
        action: action::USE,
        target: "urn:data:x",
        assignee: "https://b.example/id",
        stage: Stage::Transfer,
    };
    let explanation =
        policy.explain(&request, &Facts::at(at("2026-11-25T00:00:00Z")).jurisdiction("HK"), Lang::En);
    assert_eq!(explanation.outcome, "permit");
    assert_eq!(explanation.duties.len(), 2, "{explanation:?}");
    assert_eq!(explanation.deferred, ["number of uses", "purpose", "action", "duties before use"]);
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["rules"][0]["kind"], "permission");
}
