//! Warnings on valid policies: one case for each code, and none for a clean policy.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use policy::{Policy, Profiles};

fn lints(rules: &str) -> Vec<(String, String)> {
    let text = format!(
        r#"{{"@type":"Offer","@id":"urn:o","target":"urn:d","assigner":"urn:a","profile":"https://w3id.org/fairlead/profile/1",{rules}}}"#
    );
    let policy =
        Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"));
    policy
        .lint()
        .into_iter()
        .map(|problem| (problem.code.code.to_owned(), problem.suggestion.unwrap_or_default()))
        .collect()
}

fn permit(constraints: &str) -> String {
    format!(r#""permission":[{{"action":"read","constraint":[{constraints}]}}]"#)
}

fn atom(operand: &str, operator: &str, right: &str) -> String {
    format!(r#"{{"leftOperand":"{operand}","operator":"{operator}","rightOperand":{right}}}"#)
}

#[test]
fn each_doubt_has_its_code_and_suggestion() {
    let cases = [
        (
            permit(&atom("dateTime", "lteq", "\"2026-12-31T00:00:00\"")),
            "policy/no-zone",
            "2026-12-31T00:00:00.000+08:00",
        ),
        (permit(&atom("elapsedTime", "lteq", "\"P60M\"")), "policy/month-duration", ""),
        (permit(&atom("elapsedTime", "lteq", "\"P3M\"")), "policy/month-duration", "P90D"),
        (
            permit(&atom("purpose", "isA", "\"dpv:AcademicResarch\"")),
            "policy/unknown-term",
            "dpv:AcademicResearch",
        ),
        (
            permit(&format!("{},{}", atom("count", "lteq", "2"), atom("count", "gteq", "4"))),
            "policy/never-holds",
            "",
        ),
        (
            permit(&format!("{},{}", atom("count", "lteq", "2"), atom("count", "lteq", "4"))),
            "policy/always-holds",
            "",
        ),
        (r#""permission":[{"action":"use"},{"action":"read"}]"#.to_owned(), "policy/redundant-rule", ""),
        (
            r#""permission":[{"action":"use"}],"prohibition":[{"action":"fl:export"}]"#.to_owned(),
            "policy/voiding-conflict",
            "odrl:conflict prohibit",
        ),
        (
            r#""permission":[{"action":"read"}],"obligation":[{"action":"delete"}]"#.to_owned(),
            "policy/no-deadline",
            "",
        ),
        (permit(&atom("resolution", "lteq", "2")), "policy/not-enforceable", ""),
        (
            r#""permission":[{"action":"read"}],"prohibition":[{"action":"distribute"}]"#.to_owned(),
            "policy/not-enforceable",
            "",
        ),
        (
            r#""permission":[{"action":"read","duty":[{"action":"fl:log"}]}]"#.to_owned(),
            "policy/not-plain-dsp",
            "",
        ),
        (permit(&atom("count", "eq", "2")), "policy/equals-bound", "lteq"),
    ];
    for (rules, code, suggestion) in cases {
        let found = lints(&rules);
        let wanted = found.iter().find(|(found, _)| found == code);
        let suggested = wanted.unwrap_or_else(|| panic!("{code} for {rules}: {found:?}"));
        if !suggestion.is_empty() {
            assert_eq!(suggested.1, suggestion, "{rules}");
        }
    }
}

#[test]
fn a_clean_policy_has_none() {
    let rules = format!(
        r#"{},"obligation":[{{"action":"delete","constraint":[{}]}}]"#,
        permit(&format!(
            "{},{},{}",
            atom("purpose", "isA", "\"ResearchAndDevelopment\""),
            atom("dateTime", "lteq", "\"2026-12-31+08:00\""),
            atom("count", "lteq", "3")
        )),
        atom("fl:elapsedSinceEnd", "lteq", "\"P30D\"")
    );
    assert_eq!(lints(&rules), []);
}
