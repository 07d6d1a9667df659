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

fn codes_of(text: &str, now: Option<&str>) -> Vec<String> {
    let profiles = Profiles::shipped();
    let policy = if text.starts_with('@') {
        Policy::from_turtle(text, "", &profiles)
    } else {
        Policy::from_json(text, &profiles)
    };
    let policy = policy.unwrap_or_else(|problems| panic!("{problems}"));
    let now = now.map(|text| policy::time::UnixMillis::parse_rfc3339(text).unwrap());
    let found = now.map_or_else(|| policy.lint(), |now| policy.lint_at(now));
    found.into_iter().map(|problem| problem.code.code.to_owned()).collect()
}

#[test]
fn doubts_that_are_there_are_told_and_others_are_not() {
    let set = |rules: &str| format!(r#"{{"@type":"Set","@id":"urn:p",{rules}}}"#);
    let targeted = |rules: &str| set(&format!(r#""target":"urn:d",{rules}"#));
    let permit = |parts: &str| format!(r#""permission":[{{{parts}}}]"#);
    let by = |day: &str| atom("dateTime", "lteq", &format!("\"{day}\""));
    let duty = |who: &str, day: &str| {
        format!(
            r#""permission":[{{"action":"read","assignee":"urn:b"}}],"obligation":[{{"action":"delete","assignee":"{who}","assigner":"urn:a","constraint":[{}]}}]"#,
            by(day)
        )
    };
    let conflict = |target: &str, constraint: &str| {
        set(&format!(
            r#""permission":[{{"action":"read","target":"urn:d","constraint":[{}]}}],"prohibition":[{{"action":"read","target":"{target}","constraint":[{constraint}]}}]"#,
            atom("purpose", "isA", "\"dpv:AcademicResearch\"")
        ))
    };
    let cases = [
        (targeted(&permit(r#""action":"copy""#)), "policy/deprecated-term", true),
        (targeted(&permit(r#""action":"lend""#)), "policy/deprecated-term", true),
        (targeted(&permit(r#""action":"reproduce""#)), "policy/deprecated-term", false),
        (
            targeted(&permit(&format!(
                r#""action":"read","constraint":[{}]"#,
                atom("payAmount", "lteq", "5")
            ))),
            "policy/unit-missing",
            true,
        ),
        (
            targeted(&permit(&format!(
                r#""action":"read","constraint":[{}]"#,
                atom("purpose", "isAllOf", "[\"dpv:Marketing\"]")
            ))),
            "policy/single-all-of",
            true,
        ),
        (targeted(&duty("urn:b", "2020-01-01T00:00:00Z")), "policy/deadline-passed", true),
        (targeted(&duty("urn:b", "2030-01-01T00:00:00Z")), "policy/deadline-passed", false),
        (targeted(&duty("urn:stranger", "2030-01-01T00:00:00Z")), "policy/nobody-performs", true),
        (targeted(&duty("urn:b", "2030-01-01T00:00:00Z")), "policy/nobody-performs", false),
        (
            targeted(
                r#""conflict":"prohibit","permission":[{"action":"read"}],"prohibition":[{"action":"use"}]"#,
            ),
            "policy/prohibited-permission",
            true,
        ),
        (
            targeted(
                r#""conflict":"prohibit","permission":[{"action":"use"}],"prohibition":[{"action":"print"}]"#,
            ),
            "policy/prohibited-permission",
            false,
        ),
        (set(&permit(r#""action":"read""#)), "policy/no-target", true),
        (targeted(&permit(r#""action":"read""#)), "policy/no-target", false),
        (
            conflict("urn:d", &atom("purpose", "isA", "\"dpv:AcademicResearch\"")),
            "policy/voiding-conflict",
            true,
        ),
        (
            conflict("urn:other", &atom("purpose", "isA", "\"dpv:AcademicResearch\"")),
            "policy/voiding-conflict",
            false,
        ),
        (conflict("urn:d", &atom("purpose", "isA", "\"dpv:Marketing\"")), "policy/voiding-conflict", false),
        (
            targeted(
                r#""permission":[{"action":"read","duty":[{"@id":"urn:x","action":"compensate"}]},{"action":"print","duty":[{"@id":"urn:x","action":"inform"}]}]"#,
            ),
            "policy/shared-name",
            true,
        ),
    ];
    for (text, code, expected) in cases {
        let found = codes_of(&text, Some("2026-11-28T00:00:00Z"));
        assert_eq!(found.iter().any(|known| known == code), expected, "{code}: {found:?}\n{text}");
    }
}

#[test]
fn a_policy_of_many_constraints_is_not_analysed_and_says_so() {
    let many: Vec<String> = (0..3_500).map(|number| atom("count", "neq", &number.to_string())).collect();
    let text = format!(r#"{{"@type":"Set","@id":"urn:p","target":"urn:d",{}}}"#, permit(&many.join(",")));
    assert!(codes_of(&text, None).iter().any(|code| code == "policy/not-analysed"));
    let profiles = Profiles::shipped();
    let policy = Policy::from_json(&text, &profiles).unwrap();
    let fewer = Policy::from_json(
        &text.replacen("{\"leftOperand\":\"count\",\"operator\":\"neq\",\"rightOperand\":0},", "", 1),
        &profiles,
    )
    .unwrap();
    let compared = policy::compare::refines(&policy, &fewer);
    assert_eq!(compared.answer, policy::compare::Answer::Unknown);
    assert!(compared.reason.contains("6999 constraints"), "{}", compared.reason);
}
