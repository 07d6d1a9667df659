//! Comparing policies: refinement with witness, meeting, duties, and bounds on hostile input.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use policy::compare::{Answer, Meeting, compare, conflict, difference, refines};
use policy::{Lang, Outcome, Policy, Profiles, Request, Stage};

fn policy(rules: &str) -> Policy {
    let text = format!(
        r#"{{"@type":"Set","@id":"urn:p","target":"urn:d","profile":"https://w3id.org/fairlead/profile/1",{rules}}}"#
    );
    Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}\n{rules}"))
}

fn permit(constraints: &str) -> Policy {
    policy(&format!(r#""permission":[{{"action":"read","constraint":[{constraints}]}}]"#))
}

fn atom(operand: &str, operator: &str, right: &str) -> String {
    format!(r#"{{"leftOperand":"{operand}","operator":"{operator}","rightOperand":{right}}}"#)
}

/// A bound of which some was used up before.
fn used(operand: &str, bound: &str, status: &str) -> String {
    format!(r#"{{"leftOperand":"{operand}","operator":"lteq","rightOperand":{bound},"status":{status}}}"#)
}

fn roles(operator: &str, names: &[&str]) -> String {
    let list: Vec<String> = names.iter().map(|name| format!(r#"{{"@id":"urn:role:{name}"}}"#)).collect();
    atom("fl:role", operator, &format!("[{}]", list.join(",")))
}

/// The answer is the one expected, and a witness is real: the strict policy permits it, the wide one does not.
#[track_caller]
fn check_refines(strict: &Policy, wide: &Policy, expected: Answer) {
    let found = refines(strict, wide);
    let (left, right) = (strict.canonical_text(), wide.canonical_text());
    assert_eq!(found.answer, expected, "{left} refines {right}: {}", found.reason);
    if let Some(witness) = found.witness {
        let request = Request {
            action: &witness.action,
            target: &witness.target,
            assignee: &witness.assignee,
            stage: Stage::Use,
        };
        assert_eq!(strict.decide(&request, &witness.facts).outcome, Outcome::Permit, "{left}");
        assert_ne!(wide.decide(&request, &witness.facts_of_second()).outcome, Outcome::Permit, "{right}");
    }
}

#[test]
fn constraints_refine() {
    use Answer::{No, Unknown, Yes};
    let cases = [
        (atom("dateTime", "lteq", "\"2026-06-01Z\""), atom("dateTime", "lteq", "\"2026-12-01Z\""), Yes),
        (atom("dateTime", "lteq", "\"2026-12-01Z\""), atom("dateTime", "lteq", "\"2026-06-01Z\""), No),
        (
            atom("dateTime", "lt", "\"2026-06-01T00:00:00Z\""),
            atom("dateTime", "lteq", "\"2026-06-01T00:00:00Z\""),
            Yes,
        ),
        (
            atom("dateTime", "lteq", "\"2026-06-01T00:00:00Z\""),
            atom("dateTime", "lt", "\"2026-06-01T00:00:00Z\""),
            No,
        ),
        // Without zones on both sides both mean the same one; on one side only, nobody knows.
        (
            atom("dateTime", "lteq", "\"2026-01-06T00:00:00\""),
            atom("dateTime", "lteq", "\"2026-01-11T00:00:00\""),
            Yes,
        ),
        (
            atom("dateTime", "lteq", "\"2026-01-06T00:00:00\""),
            atom("dateTime", "lteq", "\"2026-01-06T00:00:00Z\""),
            Unknown,
        ),
        (atom("count", "lteq", "3"), atom("count", "lteq", "5"), Yes),
        (atom("count", "lt", "6"), atom("count", "lteq", "5"), Yes),
        (atom("count", "lteq", "5"), atom("count", "lt", "5"), No),
        (atom("elapsedTime", "lteq", "\"P28D\""), atom("elapsedTime", "lteq", "\"P1M\""), Yes),
        (atom("elapsedTime", "lteq", "\"P1M\""), atom("elapsedTime", "lteq", "\"P30D\""), Unknown),
        (atom("elapsedTime", "lteq", "\"P1M\""), atom("elapsedTime", "lteq", "\"P31D\""), Yes),
        (
            atom("purpose", "isA", "\"AcademicResearch\""),
            atom("purpose", "isA", "\"ResearchAndDevelopment\""),
            Yes,
        ),
        (
            atom("purpose", "isA", "\"ResearchAndDevelopment\""),
            atom("purpose", "isA", "\"AcademicResearch\""),
            No,
        ),
        (
            atom("purpose", "eq", "\"AcademicResearch\""),
            atom("purpose", "isNoneOf", "[\"Marketing\",\"CommercialPurpose\"]"),
            Yes,
        ),
        (
            atom("purpose", "isA", "\"ResearchAndDevelopment\""),
            atom("purpose", "isNoneOf", "[\"CommercialPurpose\"]"),
            No,
        ),
        (atom("spatial", "isAnyOf", "[\"HK\"]"), atom("spatial", "isAnyOf", "[\"HK\",\"MO\"]"), Yes),
        (atom("spatial", "isPartOf", "\"DE\""), atom("spatial", "isPartOf", "\"EU\""), Yes),
        (atom("spatial", "eq", "\"HK\""), atom("spatial", "eq", "\"CN\""), No),
        (
            atom("fl:securityProfile", "gteq", "\"trustplus\""),
            atom("fl:securityProfile", "gteq", "\"trust\""),
            Yes,
        ),
        (
            atom("fl:securityProfile", "gteq", "\"trust\""),
            atom("fl:securityProfile", "eq", "\"trustplus\""),
            No,
        ),
        (atom("percentage", "lteq", "10.5"), atom("percentage", "lt", "11"), Yes),
        (atom("count", "lteq", "3"), String::new(), Yes),
        (String::new(), atom("count", "lteq", "3"), No),
        (
            format!(r#"{{"or":[{},{}]}}"#, atom("count", "lteq", "1"), atom("purpose", "eq", "\"Teaching\"")),
            format!(
                r#"{{"or":[{},{}]}}"#,
                atom("count", "lteq", "2"),
                atom("purpose", "isA", "\"NonCommercialPurpose\"")
            ),
            Yes,
        ),
        (
            format!(r#"{{"xone":[{},{}]}}"#, atom("count", "lteq", "1"), atom("count", "lteq", "3")),
            atom("count", "gt", "1"),
            Yes,
        ),
        (atom("absoluteSize", "lteq", "1"), atom("absoluteSize", "lteq", "2"), Unknown),
        // What was used up before is gone.
        (used("elapsedTime", "\"P10D\"", "\"P5D\""), atom("elapsedTime", "lteq", "\"P10D\""), Yes),
        (atom("elapsedTime", "lteq", "\"P10D\""), used("elapsedTime", "\"P10D\"", "\"P5D\""), No),
        (used("elapsedTime", "\"P10D\"", "\"P5D\""), atom("elapsedTime", "lteq", "\"P5D\""), Yes),
        (atom("count", "lteq", "8"), used("count", "10", "2"), Yes),
        (atom("count", "lteq", "9"), used("count", "10", "2"), No),
        // Roles are held: who has both has either.
        (roles("isAllOf", &["r", "s"]), roles("isAnyOf", &["r", "s"]), Yes),
        (roles("isAnyOf", &["r", "s"]), roles("isAllOf", &["r", "s"]), No),
        (roles("isAnyOf", &["r"]), roles("isAnyOf", &["r", "s"]), Yes),
        (roles("isAnyOf", &["r"]), roles("isNoneOf", &["s"]), No),
        // Berlin lies in the EU or not: no taxonomy says.
        (atom("spatial", "eq", "\"urn:place:berlin\""), atom("spatial", "isPartOf", "\"EU\""), Unknown),
        (atom("spatial", "eq", "\"HK\""), atom("spatial", "isPartOf", "\"EU\""), No),
    ];
    for (strict, wide, expected) in cases {
        check_refines(&permit(&strict), &permit(&wide), expected);
    }
}

#[test]
fn rules_and_duties_refine() {
    use Answer::{No, Yes};
    let delete = |days: u32| {
        format!(
            r#""permission":[{{"action":"read"}}],"obligation":[{{"action":"delete","constraint":[{}]}}]"#,
            atom("fl:elapsedSinceEnd", "lteq", &format!("\"P{days}D\""))
        )
    };
    let read = r#""permission":[{"action":"read"}]"#;
    let cases = [
        (read.to_owned(), r#""permission":[{"action":"use"}]"#.to_owned(), Yes),
        (r#""permission":[{"action":"use"}]"#.to_owned(), read.to_owned(), No),
        (
            r#""permission":[{"action":"use"}],"prohibition":[{"action":"distribute"}]"#.to_owned(),
            r#""permission":[{"action":"use"}]"#.to_owned(),
            Yes,
        ),
        (
            r#""permission":[{"action":"use"}]"#.to_owned(),
            r#""permission":[{"action":"use"}],"prohibition":[{"action":"distribute"}]"#.to_owned(),
            No,
        ),
        (delete(10), delete(30), Yes),
        (delete(30), delete(10), No),
        (read.to_owned(), delete(30), No),
        (delete(30), read.to_owned(), Yes),
        (
            r#""permission":[{"action":"read","duty":[{"action":"obtainConsent"}]}]"#.to_owned(),
            read.to_owned(),
            Yes,
        ),
        (
            read.to_owned(),
            r#""permission":[{"action":"read","duty":[{"action":"obtainConsent"}]}]"#.to_owned(),
            No,
        ),
        (
            r#""permission":[{"action":"read","assignee":"urn:a"}]"#.to_owned(),
            r#""permission":[{"action":"read","assignee":["urn:a","urn:b"]}]"#.to_owned(),
            Yes,
        ),
        (
            read.to_owned(),
            r#""permission":[{"action":"read","assignee":{"@type":"odrl:PartyCollection","source":"urn:g"}}]"#.to_owned(),
            No,
        ),
    ];
    for (strict, wide, expected) in cases {
        let found = refines(&policy(&strict), &policy(&wide));
        assert_eq!(found.answer, expected, "{strict} refines {wide}: {}", found.reason);
    }
}

/// Each of these was once answered with a wrong yes, or could have been.
#[test]
fn duties_are_compared_with_all_that_they_say() {
    use Answer::{No, Unknown, Yes};
    let read = r#""permission":[{"action":"read"}]"#;
    let obliged = |duty: &str| format!(r#"{read},"obligation":[{{{duty}}}]"#);
    let until = atom("dateTime", "lteq", "\"2030-01-01T00:00:00Z\"");
    let after = |days: u32| atom("fl:elapsedSinceSigning", "lteq", &format!("\"P{days}D\""));
    let since_use = |days: u32| atom("elapsedTime", "lteq", &format!("\"P{days}D\""));
    let delete = |when: &[&str]| obliged(&format!(r#""action":"delete","constraint":[{}]"#, when.join(",")));
    let pay = |operator: &str, amount: u32| {
        let amount = format!(
            r#"{{"leftOperand":"payAmount","operator":"{operator}","rightOperand":{amount},"unit":"urn:EUR"}}"#
        );
        format!(
            r#""permission":[{{"action":"read","duty":[{{"action":{{"rdf:value":{{"@id":"odrl:compensate"}},"refinement":[{amount}]}}}}]}}]"#
        )
    };
    let by = |party: &str| obliged(&format!(r#""action":"compensate","assignee":"{party}""#));
    let event = |event: &str| {
        let event = atom("event", "lt", &format!(r#"{{"@id":"{event}"}}"#));
        format!(r#""permission":[{{"action":"read","duty":[{{"action":"inform","constraint":[{event}]}}]}}]"#)
    };
    let remedy = |remedy: &str| format!(r#"{read},"prohibition":[{{"action":"distribute"{remedy}}}]"#);
    let compensated = r#","remedy":[{"action":"compensate"}]"#;
    let (both, first, second) = (delete(&[&until, &after(30)]), delete(&[&until]), delete(&[&after(30)]));
    let together = delete(&[&format!(r#"{{"and":[{until},{}]}}"#, after(30))]);
    let cases = [
        (both.clone(), first.clone(), Yes),
        (both.clone(), second.clone(), Yes),
        (both.clone(), together.clone(), Yes),
        (together, both.clone(), Yes),
        (first.clone(), both.clone(), Unknown),
        (second.clone(), both.clone(), Unknown),
        (first, second, Unknown),
        (delete(&[&until, &after(40)]), both.clone(), No),
        (delete(&[&until, &after(20)]), both, Yes),
        // Nothing is used before it is signed for.
        (delete(&[&after(10)]), delete(&[&since_use(10)]), Yes),
        (delete(&[&since_use(10)]), delete(&[&after(10)]), Unknown),
        (delete(&[]), delete(&[&after(10)]), No),
        (by("urn:bob"), by("urn:alice"), Unknown),
        (by("urn:bob"), by("urn:bob"), Yes),
        (obliged(r#""action":"compensate""#), by("urn:bob"), Unknown),
        (event("urn:someEvent"), event("http://www.w3.org/ns/odrl/2/policyUsage"), Unknown),
        (event("http://www.w3.org/ns/odrl/2/policyUsage"), event("urn:someEvent"), Unknown),
        (remedy(""), remedy(compensated), No),
        (remedy(compensated), remedy(""), Yes),
        (remedy(compensated), remedy(compensated), Yes),
        (pay("gteq", 10), pay("gteq", 5), Yes),
        (pay("eq", 10), pay("gteq", 5), Yes),
        (pay("gteq", 5), pay("gteq", 10), No),
    ];
    for (strict, wide, expected) in cases {
        check_refines(&policy(&strict), &policy(&wide), expected);
    }
}

#[test]
fn datasets_parties_and_memberships_are_compared() {
    use Answer::{No, Unknown, Yes};
    let read = |head: &str, assignee: &str| {
        let text =
            format!(r#"{{"@type":"Set","@id":"urn:p",{head}"permission":[{{"action":"read"{assignee}}}]}}"#);
        Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
    };
    let (any, one) = ("", r#""target":"urn:d","#);
    let (ours, theirs) =
        (r#""target":"urn:d","assigner":"urn:a","#, r#""target":"urn:d","assigner":"urn:b","#);
    let group = r#","assignee":{"@type":"PartyCollection","@id":"urn:g"}"#;
    let person = r#","assignee":"urn:m""#;
    let member = r#","assignee":{"@id":"urn:m","partOf":"urn:g"}"#;
    let stranger = r#","assignee":{"@id":"urn:m","partOf":"urn:h"}"#;
    let cases = [
        (read(any, ""), read(one, ""), No, Meeting::Compatible),
        (read(one, ""), read(any, ""), Yes, Meeting::Compatible),
        (read(ours, ""), read(theirs, ""), Unknown, Meeting::Compatible),
        (read(ours, ""), read(one, ""), Yes, Meeting::Compatible),
        (read(one, person), read(one, group), Unknown, Meeting::Unknown),
        (read(one, stranger), read(one, group), Unknown, Meeting::Unknown),
        (read(one, member), read(one, group), Yes, Meeting::Compatible),
        (read(one, group), read(one, person), No, Meeting::Unknown),
        (read(one, ""), read(one, group), No, Meeting::Compatible),
    ];
    for (strict, wide, expected, meeting) in cases {
        let (first, second) = (strict.canonical_text(), wide.canonical_text());
        let found = refines(&strict, &wide);
        assert_eq!(found.answer, expected, "{first} refines {second}: {}", found.reason);
        let found = conflict(&strict, &wide);
        assert_eq!(found.verdict, meeting, "{first} meets {second}: {}", found.reason);
    }
}

#[test]
fn meetings() {
    use Meeting::{Compatible, Conflict, Unknown};
    let cases = [
        (atom("count", "lteq", "3"), atom("count", "gteq", "2"), Compatible),
        (atom("count", "lteq", "3"), atom("count", "gteq", "4"), Conflict),
        (
            atom("dateTime", "eq", "\"2026-08-01T00:00:00\""),
            atom("dateTime", "eq", "\"2027-01-01T00:00:00\""),
            Conflict,
        ),
        (atom("spatial", "eq", "\"HK\""), atom("spatial", "isPartOf", "\"CN\""), Conflict),
        (
            atom("purpose", "isA", "\"ResearchAndDevelopment\""),
            atom("purpose", "isA", "\"CommercialPurpose\""),
            Compatible,
        ),
        (atom("purpose", "isA", "\"urn:x\""), atom("purpose", "isA", "\"urn:y\""), Unknown),
        (atom("count", "lteq", "3"), atom("percentage", "lteq", "3"), Unknown),
        (atom("elapsedTime", "lteq", "\"P10D\""), String::new(), Unknown),
    ];
    for (left, right, expected) in cases {
        let found = conflict(&permit(&left), &permit(&right));
        assert_eq!(found.verdict, expected, "{left} meets {right}: {}", found.reason);
    }
    // The same in the words of another profile, and as a permission or as a prohibition.
    let ids = |rules: &str| {
        let text = format!(
            r#"{{"@type":"Set","@id":"urn:p","target":"urn:d","profile":"https://w3id.org/idsa/code/",{rules}}}"#
        );
        Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"))
    };
    let counted = ids(&format!(
        r#""permission":[{{"action":"read","constraint":[{}]}}]"#,
        atom("idsc:COUNT", "lteq", "3")
    ));
    assert_eq!(conflict(&counted, &permit(&atom("count", "lteq", "3"))).verdict, Compatible);
    let marketing = |operator: &str| atom("purpose", operator, "\"dpv:Marketing\"");
    let prohibited = policy(&format!(
        r#""permission":[{{"action":"read"}}],"prohibition":[{{"action":"read","constraint":[{}]}}]"#,
        marketing("isA")
    ));
    assert_eq!(conflict(&prohibited, &permit(&marketing("isNoneOf"))).verdict, Compatible);
    assert_eq!(
        conflict(
            &permit(&atom("spatial", "eq", "\"urn:place:berlin\"")),
            &permit(&atom("spatial", "isPartOf", "\"EU\""))
        )
        .verdict,
        Unknown
    );
    let use_it = policy(r#""permission":[{"action":"use"}]"#);
    let no_print = policy(r#""prohibition":[{"action":"print"}]"#);
    assert_eq!(conflict(&use_it, &no_print).verdict, Conflict);
    let read = policy(r#""permission":[{"action":"read"}]"#);
    assert_eq!(conflict(&read, &no_print).verdict, Compatible);
    let must_print = policy(r#""obligation":[{"action":"print"}]"#);
    assert_eq!(conflict(&must_print, &no_print).verdict, Conflict);
    assert_eq!(compare(&use_it, &use_it).equivalent(), Answer::Yes);
}

#[test]
fn hostile_policies_are_unknown_quickly() {
    let operands = [
        "count",
        "percentage",
        "resolution",
        "payAmount",
        "elapsedTime",
        "meteredTime",
        "purpose",
        "spatial",
    ];
    let many: Vec<String> = operands
        .iter()
        .flat_map(|operand| {
            (1..20).map(move |bound| match *operand {
                "elapsedTime" => atom(operand, "lteq", &format!("\"P{bound}D\"")),
                "meteredTime" => atom(operand, "lteq", &format!("\"PT{bound}H\"")),
                "purpose" | "spatial" => atom(operand, "neq", &format!("\"urn:x:{bound}\"")),
                _ => atom(operand, "lteq", &bound.to_string()),
            })
        })
        .collect();
    let big = permit(&format!(r#"{{"or":[{}]}}"#, many.join(",")));
    let found = refines(&big, &permit(&atom("count", "lteq", "1")));
    assert_eq!(found.answer, Answer::Unknown);
    assert!(found.reason.contains("cases"), "{}", found.reason);
}

#[test]
fn differences_are_told_as_requests_and_clauses() {
    let old = permit(&atom("count", "lteq", "3"));
    let new = policy(
        r#""permission":[{"action":"use","constraint":[{"leftOperand":"count","operator":"lteq","rightOperand":2}]}]"#,
    );
    let found = difference(&old, &new, Lang::En);
    assert!(found.also_permits.iter().all(|witness| witness.action != "http://www.w3.org/ns/odrl/2/read"));
    assert!(!found.also_permits.is_empty() && found.unknown.is_none());
    assert_eq!(found.no_longer_permits.len(), 1);
    assert!(found.no_longer_permits[0].line().starts_with("read "), "{}", found.no_longer_permits[0].line());
    assert_eq!((found.clauses_added.len(), found.clauses_removed.len()), (1, 1));
    let none = difference(&old, &old, Lang::ZhHant);
    assert!(none.also_permits.is_empty() && none.clauses_added.is_empty());
}
