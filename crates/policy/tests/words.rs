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

#[test]
fn explanations_say_what_fails_and_no_more() {
    use policy::time::UnixMillis;
    use policy::{Facts, Lang, Request, Stage, Value, vocab};
    let profiles = policy::Profiles::shipped();
    let set = |rule: &str| {
        let text = format!(
            r#"{{"@type":"Set","@id":"urn:p","target":"urn:d","permission":[{{"action":"read",{rule}}}]}}"#
        );
        policy::Policy::from_json(&text, &profiles).unwrap()
    };
    let request =
        Request { action: vocab::action::READ, target: "urn:d", assignee: "urn:b", stage: Stage::Use };
    let now = UnixMillis::parse_rfc3339("2026-11-28T00:00:00Z").unwrap();
    let facts = Facts::at(now).uses_spent(0).purpose("dpv:AcademicResearch");
    let atom = |operand: &str, operator: &str, right: &str| {
        format!(r#"{{"leftOperand":"{operand}","operator":"{operator}","rightOperand":{right}}}"#)
    };
    let explained = |rule: &str, facts: &Facts| {
        let explanation = set(rule).explain(&request, facts, Lang::En);
        (explanation.code.unwrap_or("permit"), explanation.lines().join("\n"))
    };

    let (code, _) = explained(&format!(r#""constraint":[{}]"#, atom("count", "gteq", "3")), &facts);
    assert_eq!(code, "policy/constraint-unmet", "no uses are spent");

    let xone = format!(
        r#""constraint":[{{"xone":[{},{}]}}]"#,
        atom("count", "lteq", "3"),
        atom("purpose", "isA", "\"dpv:ResearchAndDevelopment\"")
    );
    let (code, text) = explained(&xone, &facts);
    assert_eq!(code, "policy/constraint-unmet");
    assert!(text.contains("2 of these hold, and only one may"), "{text}");

    let inactive =
        format!(r#""duty":[{{"action":"compensate","constraint":[{}]}}]"#, atom("count", "gteq", "9"));
    let (code, text) = explained(&inactive, &facts);
    assert_eq!(code, "permit", "{text}");
    assert!(!text.contains("not known to be fulfilled"), "{text}");

    let odd = facts.with(vocab::operand::PURPOSE, Value::whole(3), policy::Source::LocalCounter, now);
    let (_, text) = explained(
        &format!(r#""constraint":[{}]"#, atom("purpose", "isA", "\"dpv:ResearchAndDevelopment\"")),
        &odd,
    );
    assert!(text.contains("it must be so") && !text.contains("from a source"), "{text}");
}

#[test]
fn sentences_keep_their_words_and_their_things() {
    use policy::{Enforcement, Lang};
    let profiles = policy::Profiles::shipped();
    let rendered = |text: &str, lang: Lang| {
        let policy = policy::Policy::from_json(text, &profiles).unwrap();
        policy.render(lang)
    };
    let zoneless = r#"{"@type":"Set","@id":"urn:p","target":"urn:d","permission":[{"action":"read","constraint":[{"leftOperand":"dateTime","operator":"lteq","rightOperand":"2026-12-31T00:00:00"}]}]}"#;
    assert!(rendered(zoneless, Lang::ZhHans)[0].text.contains("未注明时区"));
    assert!(rendered(zoneless, Lang::ZhHant)[0].text.contains("未註明時區"));
    let event = r#"{"@type":"Set","@id":"urn:p","target":"urn:d","permission":[{"action":"read","constraint":[{"leftOperand":"event","operator":"lt","rightOperand":"urn:e"}]}]}"#;
    assert!(rendered(event, Lang::En)[0].text.contains("before urn:e"));
    let consequence = r#"{"@type":"Set","@id":"urn:p","permission":[{"action":"read","target":"urn:d","duty":[{"action":"inform","consequence":[{"action":"delete"}]}]}]}"#;
    let clauses = rendered(consequence, Lang::En);
    assert!(clauses[2].text.contains("urn:d"), "{}", clauses[2].text);
    let transit = r#"{"@type":"Set","@id":"urn:p","permission":[{"action":"read","target":"urn:d","duty":[{"action":"anonymize"}]}]}"#;
    let clauses = rendered(transit, Lang::En);
    assert_eq!(
        (clauses[1].enforcement, clauses[1].warnings.as_slice()),
        (Enforcement::Technical, [].as_slice())
    );
}
