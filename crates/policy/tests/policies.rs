//! The main path with whole policies: reading, canonical text, agreement, decisions over the stages.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use policy::time::UnixMillis;
use policy::vocab::{action, operand};
use policy::{
    Anchor, Anchors, Deadline, DutyState, Facts, Kind, Outcome, Policy, Profiles, Request, Source, Stage,
    Value,
};

const DATASET: &str = "https://hku.example/data/weather";
const HKU: &str = "https://hku.example/id";
const UM: &str = "https://um.example/id";

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse_rfc3339(text).unwrap()
}

fn offer(rules: &str) -> Policy {
    let text = format!(
        r#"{{"@context":["https://w3id.org/dspace/2025/1/context.jsonld"],"@type":"Offer","@id":"urn:uuid:offer-1",
            "target":"{DATASET}","assigner":"{HKU}","profile":"https://w3id.org/fairlead/profile/1",{rules}}}"#
    );
    Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn agreement(rules: &str) -> Policy {
    let text = offer(rules).agreement_text("urn:uuid:agreement-1", UM, at("2026-11-01T00:00:00Z")).unwrap();
    Policy::from_json(&text, &Profiles::shipped()).unwrap()
}

fn request(action: &'static str, stage: Stage) -> Request<'static> {
    Request { action, target: DATASET, assignee: UM, stage }
}

const RESEARCH: &str = r#""permission":[{"action":"use","constraint":[
    {"leftOperand":"purpose","operator":"isA","rightOperand":{"@id":"dpv:ResearchAndDevelopment"}},
    {"leftOperand":"dateTime","operator":"lteq","rightOperand":{"@value":"2026-12-31T23:59:59+08:00","@type":"xsd:dateTime"}},
    {"leftOperand":"count","operator":"lteq","rightOperand":{"@value":"3","@type":"xsd:integer"}},
    {"leftOperand":"spatial","operator":"isAnyOf","rightOperand":["HK","MO"]}]}],
  "obligation":[{"action":"delete","constraint":[
    {"leftOperand":"https://w3id.org/fairlead/ns#elapsedSinceEnd","operator":"lteq","rightOperand":{"@value":"P30D","@type":"xsd:duration"}}]}]"#;

#[test]
fn canonical_text_is_a_fixed_point_and_hash_is_stable() {
    let policy = offer(RESEARCH);
    let again = Policy::from_json(policy.canonical_text(), &Profiles::shipped()).unwrap();
    assert_eq!(again.canonical_text(), policy.canonical_text());
    assert_eq!(again.hash(), policy.hash());
    let fixture = include_str!("fixtures/research-offer.json");
    assert_eq!(
        policy.canonical_text(),
        fixture.trim_end(),
        "the canonical form is signed: it must not change"
    );
}

#[test]
fn agreement_has_the_offers_terms() {
    let (offer, agreement) = (offer(RESEARCH), agreement(RESEARCH));
    assert_eq!(agreement.kind(), Kind::Agreement);
    assert_eq!(agreement.assignee(), Some(UM));
    assert_eq!(agreement.assigner(), Some(HKU));
    assert_eq!(agreement.target(), Some(DATASET));
    assert_eq!(agreement.timestamp(), Some(at("2026-11-01T00:00:00Z")));
    assert!(agreement.terms_equal(&offer) && offer.terms_equal(&agreement));
    for changed in [
        RESEARCH.replace("\"3\"", "\"4\""),
        RESEARCH.replace("\"MO\"", "\"CN\""),
        RESEARCH.replace("P30D", "P31D"),
        RESEARCH.replace("\"use\"", "\"read\""),
        RESEARCH.replace("lteq\",\"rightOperand\":{\"@value\":\"3", "lt\",\"rightOperand\":{\"@value\":\"3"),
    ] {
        assert!(!crate::offer(&changed).terms_equal(&agreement), "{changed}");
    }
}

#[test]
fn one_policy_in_many_spellings() {
    let reference = offer(RESEARCH);
    for (from, to) in [
        ("\"leftOperand\":\"purpose\"", "\"leftOperand\":\"odrl:purpose\""),
        ("\"leftOperand\":\"purpose\"", "\"leftOperand\":{\"@id\":\"http://www.w3.org/ns/odrl/2/purpose\"}"),
        ("\"leftOperand\":\"purpose\"", "\"odrl:leftOperand\":{\"@value\":\"purpose\"}"),
        ("\"operator\":\"isA\"", "\"operator\":{\"@id\":\"odrl:isA\"}"),
        ("{\"@id\":\"dpv:ResearchAndDevelopment\"}", "\"https://w3id.org/dpv#ResearchAndDevelopment\""),
        ("{\"@id\":\"dpv:ResearchAndDevelopment\"}", "[\"ResearchAndDevelopment\"]"),
        ("\"action\":\"use\"", "\"action\":\"odrl:use\""),
        ("\"action\":\"use\"", "\"odrl:action\":[{\"@id\":\"http://www.w3.org/ns/odrl/2/use\"}]"),
        ("\"action\":\"use\"", "\"action\":{\"odrl:type\":\"USE\"}"),
        ("\"permission\":[", "\"http://www.w3.org/ns/odrl/2/permission\":["),
        ("2026-12-31T23:59:59+08:00", "2026-12-31T15:59:59.000Z"),
        ("{\"@value\":\"3\",\"@type\":\"xsd:integer\"}", "3"),
        ("{\"@value\":\"3\",\"@type\":\"xsd:integer\"}", "\"3\""),
        ("[\"HK\",\"MO\"]", "[\"MO\",\"HKG\",\"https://www.iso.org/obp/ui/#iso:code:3166:HK\"]"),
        ("{\"@value\":\"P30D\",\"@type\":\"xsd:duration\"}", "\"PT720H\""),
        ("https://w3id.org/fairlead/ns#elapsedSinceEnd", "fl:elapsedSinceEnd"),
    ] {
        assert!(RESEARCH.contains(from), "{from}");
        assert_eq!(offer(&RESEARCH.replace(from, to)).canonical_text(), reference.canonical_text(), "{to}");
    }
}

#[test]
fn turtle_gives_the_same_policy() {
    let turtle = r#"
        @prefix odrl: <http://www.w3.org/ns/odrl/2/> . @prefix dpv: <https://w3id.org/dpv#> .
        @prefix xsd: <http://www.w3.org/2001/XMLSchema#> . @prefix fl: <https://w3id.org/fairlead/ns#> .
        <urn:uuid:offer-1> a odrl:Offer ; odrl:profile <https://w3id.org/fairlead/profile/1> ;
          odrl:assigner <https://hku.example/id> ;
          odrl:permission [ odrl:action odrl:use ; odrl:constraint
            [ odrl:leftOperand odrl:purpose ; odrl:operator odrl:isA ; odrl:rightOperand dpv:ResearchAndDevelopment ],
            [ odrl:leftOperand odrl:dateTime ; odrl:operator odrl:lteq ; odrl:rightOperand "2026-12-31T23:59:59+08:00"^^xsd:dateTime ],
            [ odrl:leftOperand odrl:count ; odrl:operator odrl:lteq ; odrl:rightOperand 3 ],
            [ odrl:leftOperand odrl:spatial ; odrl:operator odrl:isAnyOf ; odrl:rightOperand "HK", "MO" ] ] ;
          odrl:obligation [ odrl:action odrl:delete ; odrl:constraint
            [ odrl:leftOperand fl:elapsedSinceEnd ; odrl:operator odrl:lteq ; odrl:rightOperand "P30D"^^xsd:duration ] ] .
        <data/weather> odrl:hasPolicy <urn:uuid:offer-1> ; <http://purl.org/dc/terms/title> "Weather"@en .
    "#;
    let policy = Policy::from_turtle(turtle, "https://hku.example/", &Profiles::shipped())
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(policy.canonical_text(), offer(RESEARCH).canonical_text());
}

fn good(now: &str) -> Facts {
    Facts::at(at(now)).purpose("dpv:ScientificResearch").jurisdiction("MO").uses_spent(0)
}

#[test]
fn use_decides_everything() {
    let policy = agreement(RESEARCH);
    let now = "2026-11-25T00:00:00Z";
    let cases: [(Facts, Outcome, Option<&str>); 10] = [
        (good(now), Outcome::Permit, None),
        (good(now).uses_spent(2), Outcome::Permit, None),
        (good(now).uses_spent(3), Outcome::Deny, Some("policy/count-spent")),
        (good("2026-12-31T15:59:59Z"), Outcome::Permit, None),
        (good("2026-12-31T15:59:59.001Z"), Outcome::Deny, Some("policy/outside-time")),
        (good(now).jurisdiction("CN"), Outcome::Deny, Some("policy/place-not-permitted")),
        (good(now).purpose("dpv:Marketing"), Outcome::Deny, Some("policy/purpose-not-permitted")),
        (
            Facts::at(at(now)).purpose("AcademicResearch").uses_spent(0),
            Outcome::Unknown,
            Some("policy/fact-missing"),
        ),
        (
            good(now).with(operand::SPATIAL, Value::symbol("HK"), Source::Asserted, at(now)),
            Outcome::Unknown,
            Some("policy/fact-untrusted"),
        ),
        (
            good(now).with(operand::COUNT, Value::whole(0), Source::Attested, at(now)),
            Outcome::Unknown,
            Some("policy/fact-untrusted"),
        ),
    ];
    for (facts, outcome, code) in cases {
        let decision = policy.decide(&request(action::READ, Stage::Use), &facts);
        assert_eq!((decision.outcome, decision.code.map(|code| code.code)), (outcome, code), "{facts:?}");
    }
    let permit = good(now);
    let decision = policy.decide(&request(action::READ, Stage::Use), &permit);
    assert_eq!(decision.valid_until, Some(at("2026-12-31T15:59:59.001Z")));
    assert_eq!(decision.duties().count(), 1);
    assert_eq!(decision.facts_read().count(), 4);
    assert_eq!(decision.deferred().count(), 0);
}

#[test]
fn a_pull_is_not_a_use() {
    let policy = agreement(RESEARCH);
    let now = "2026-11-25T00:00:00Z";
    let decide = |facts: &Facts| {
        let decision = policy.decide(&request(action::USE, Stage::Transfer), facts);
        (decision.outcome, decision.code.map(|code| code.code), decision.deferred().collect::<Vec<_>>())
    };
    let (outcome, _, deferred) = decide(&Facts::at(at(now)).jurisdiction("HK"));
    assert_eq!(outcome, Outcome::Permit);
    for name in [operand::PURPOSE, operand::COUNT, "http://www.w3.org/ns/odrl/2/action"] {
        assert!(deferred.contains(&name), "{name} in {deferred:?}");
    }
    assert_eq!(decide(&Facts::at(at(now))).0, Outcome::Unknown, "the place must be known before bytes move");
    assert_eq!(
        decide(&Facts::at(at("2027-01-01T00:00:00Z")).jurisdiction("HK")).1,
        Some("policy/outside-time")
    );
    assert_eq!(decide(&good(now).uses_spent(3)).1, Some("policy/count-spent"));
    let for_another = Request { assignee: HKU, ..request(action::USE, Stage::Transfer) };
    assert_eq!(policy.decide(&for_another, &good(now)).outcome, Outcome::Deny);
    let other_data =
        Request { target: "https://hku.example/data/other", ..request(action::USE, Stage::Transfer) };
    assert_eq!(
        policy.decide(&other_data, &good(now)).code.map(|code| code.code),
        Some("policy/no-permission")
    );
}

#[test]
fn an_offer_is_never_enforced() {
    let policy = offer(RESEARCH);
    let facts = good("2026-11-25T00:00:00Z");
    assert_eq!(policy.decide(&request(action::USE, Stage::Catalogue), &facts).outcome, Outcome::Permit);
    let decision = policy.decide(&request(action::READ, Stage::Use), &facts);
    assert_eq!(decision.code.map(|code| code.code), Some("policy/not-enforced"));
}

#[test]
fn delete_deadlines() {
    let cases = [
        ("fl:elapsedSinceEnd", "P30D", Deadline::After { anchor: Anchor::End, millis: 30 * 86_400_000 }),
        ("fl:elapsedSinceSigning", "P1D", Deadline::After { anchor: Anchor::Signing, millis: 86_400_000 }),
        ("elapsedTime", "PT1H", Deadline::After { anchor: Anchor::FirstUse, millis: 3_600_000 }),
        ("fl:elapsedSinceFirstUse", "PT1H", Deadline::After { anchor: Anchor::FirstUse, millis: 3_600_000 }),
        ("dateTime", "2027-01-31T00:00:00Z", Deadline::At(at("2027-01-31T00:00:00Z"))),
        ("dateTime", "2027-01-31Z", Deadline::At(at("2027-01-31T23:59:59.999Z"))),
    ];
    for (operand, value, deadline) in cases {
        let rules = format!(
            r#""permission":[{{"action":"read"}}],"obligation":[{{"@id":"urn:duty:1","action":"delete","constraint":[{{"leftOperand":"{operand}","operator":"lteq","rightOperand":"{value}"}}]}}]"#
        );
        let policy = agreement(&rules);
        let [duty] = policy.duties() else { panic!("one duty") };
        assert_eq!(
            (duty.deadlines.as_slice(), duty.is_delete(), duty.key.as_str()),
            ([deadline].as_slice(), true, "urn:duty:1")
        );
    }
    let anchors = Anchors { ended: Some(at("2026-12-31T00:00:00Z")), ..Anchors::default() };
    let after = Deadline::After { anchor: Anchor::End, millis: 86_400_000 };
    assert_eq!(after.due(&anchors), Some(at("2027-01-01T00:00:00Z")));
    assert_eq!(after.due(&Anchors::default()), None);
}

#[test]
fn of_several_deadlines_the_earliest_counts() {
    let timing = |parts: &str| {
        let text = format!(
            r#""permission":[{{"action":"read"}}],"obligation":[{{"action":"delete","constraint":[{parts}]}}]"#
        );
        agreement(&text)
    };
    let until = r#"{"leftOperand":"dateTime","operator":"lteq","rightOperand":"2030-01-01T00:00:00Z"}"#;
    let soon = r#"{"leftOperand":"fl:elapsedSinceSigning","operator":"lteq","rightOperand":"PT4S"}"#;
    let used = r#"{"leftOperand":"elapsedTime","operator":"lteq","rightOperand":"P10D","status":"P9D"}"#;
    let signed = Anchors { signed: Some(at("2026-12-01T00:00:00Z")), ..Anchors::default() };
    let in_use = Anchors { first_use: Some(at("2026-12-02T00:00:00Z")), ..Anchors::default() };
    let late = Anchors { signed: Some(at("2030-06-01T00:00:00Z")), ..Anchors::default() };
    let cases = [
        (format!("{until},{soon}"), signed, "2026-12-01T00:00:04Z"),
        (format!(r#"{{"and":[{until},{soon}]}}"#), signed, "2026-12-01T00:00:04Z"),
        (format!("{until},{soon}"), late, "2030-01-01T00:00:00Z"),
        (format!("{until},{soon}"), Anchors::default(), "2030-01-01T00:00:00Z"),
        (format!("{until},{used}"), in_use, "2026-12-03T00:00:00Z"),
    ];
    for (parts, anchors, due) in cases {
        let policy = timing(&parts);
        let [duty] = policy.duties() else { panic!("one duty") };
        assert_eq!((duty.deadlines.len(), duty.due(&anchors)), (2, Some(at(due))), "{parts} {anchors:?}");
        assert!(!duty.conditional, "{parts}");
    }
    let clauses = timing(&format!("{until},{soon}")).render(policy::Lang::En);
    let clause = clauses.iter().find(|clause| clause.text.contains("delete")).unwrap();
    assert!(
        clause.text.contains("whichever comes first") && !clause.text.contains(" if "),
        "{}",
        clause.text
    );
}

#[test]
fn what_was_used_up_before_is_gone() {
    let policy = |constraint: &str| {
        agreement(&format!(r#""permission":[{{"action":"read","constraint":[{constraint}]}}]"#))
    };
    let elapsed = |status: &str| {
        policy(&format!(
            r#"{{"leftOperand":"elapsedTime","operator":"lteq","rightOperand":"P10D","status":"{status}"}}"#
        ))
    };
    let now = at("2026-11-25T08:00:00Z");
    let day = 86_400_000;
    let cases = [
        ("P10D", 0, Outcome::Deny),
        ("P11D", 0, Outcome::Deny),
        ("P9D", 0, Outcome::Permit),
        ("P9D", day, Outcome::Permit),
        ("P9D", day + 1, Outcome::Deny),
        ("P0D", 10 * day, Outcome::Permit),
    ];
    for (status, used, outcome) in cases {
        let facts = Facts::at(now).first_use(now.plus_millis(-used));
        let policy = elapsed(status);
        let decision = policy.decide(&request(action::READ, Stage::Use), &facts);
        assert_eq!(decision.outcome, outcome, "{status} {used}");
    }
    let refused = [
        r#"{"leftOperand":"purpose","operator":"eq","rightOperand":"Teaching","status":"Teaching"}"#,
        r#"{"leftOperand":"dateTime","operator":"lteq","rightOperand":"2030-01-01Z","status":"2026-01-01Z"}"#,
        r#"{"leftOperand":"absoluteSize","operator":"lteq","rightOperand":5,"status":1}"#,
        r#"{"leftOperand":"count","operator":"lteq","rightOperand":3,"status":-2}"#,
        r#"{"leftOperand":"count","operator":"lteq","rightOperand":3,"status":[1,2]}"#,
        r#"{"leftOperand":"elapsedTime","operator":"lteq","rightOperand":"P10D","status":5}"#,
    ];
    for constraint in refused {
        let text = format!(
            r#"{{"@type":"Set","@id":"urn:p","target":"urn:d","permission":[{{"action":"read","constraint":[{constraint}]}}]}}"#
        );
        let problems = Policy::from_json(&text, &Profiles::shipped()).unwrap_err();
        let first = &problems.list()[0];
        assert_eq!(first.code.code, "policy/bad-value", "{constraint}");
        assert!(first.at.to_string().contains("status"), "{constraint}: {}", first.at);
    }
}

/// A purpose that is declared must fit as a whole; of the roles that somebody holds one that fits is enough.
#[test]
fn roles_are_held_and_purposes_are_declared() {
    let policy = agreement(
        r#""permission":[
            {"action":"read","constraint":[{"leftOperand":"fl:role","operator":"isAnyOf","rightOperand":{"@id":"urn:r"}}]},
            {"action":"fl:export","constraint":[{"leftOperand":"fl:role","operator":"isAnyOf","rightOperand":{"@id":"urn:s"}}]},
            {"action":"play","constraint":[{"leftOperand":"fl:role","operator":"isAllOf","rightOperand":[{"@id":"urn:r"},{"@id":"urn:s"}]}]},
            {"action":"print","constraint":[{"leftOperand":"fl:role","operator":"isNoneOf","rightOperand":{"@id":"urn:s"}}]},
            {"action":"index","constraint":[{"leftOperand":"purpose","operator":"isAnyOf","rightOperand":{"@id":"urn:r"}}]}]"#,
    );
    let (yes, no, open) = (Outcome::Permit, Outcome::Deny, Outcome::Unknown);
    let cases: [(&[&str], [Outcome; 5]); 4] = [
        (&["urn:r", "urn:s"], [yes, yes, yes, no, open]),
        (&["urn:r", "urn:t"], [yes, no, no, yes, open]),
        (&["urn:s"], [no, yes, no, no, no]),
        (&[], [no, no, no, yes, open]),
    ];
    for (held, expected) in cases {
        let now = at("2026-11-25T08:00:00Z");
        let value = || Value::symbols(held.iter().copied());
        let facts = Facts::at(now).with(operand::ROLE, value(), Source::LocalClock, now).with(
            operand::PURPOSE,
            value(),
            Source::Asserted,
            now,
        );
        let actions = ["read", "export", "play", "print", "index"];
        for (name, outcome) in actions.into_iter().zip(expected) {
            let space = if name == "export" { policy::vocab::FL } else { policy::vocab::ODRL };
            let action = format!("{space}{name}");
            let request = Request { action: &action, target: DATASET, assignee: UM, stage: Stage::Use };
            assert_eq!(policy.decide(&request, &facts).outcome, outcome, "{name} {held:?}");
        }
    }
}

#[test]
fn elapsed_time_runs_from_first_use_and_signing() {
    let policy = agreement(
        r#""permission":[{"action":"read","constraint":[{"leftOperand":"elapsedTime","operator":"lteq","rightOperand":"PT1H"},
            {"leftOperand":"fl:elapsedSinceSigning","operator":"lteq","rightOperand":"P365D"}]}]"#,
    );
    let first = at("2026-11-25T08:00:00Z");
    let decide = |facts: &Facts| {
        let decision = policy.decide(&request(action::READ, Stage::Use), facts);
        (decision.outcome, decision.valid_until)
    };
    assert_eq!(
        decide(&Facts::at(first).first_use(first)),
        (Outcome::Permit, Some(at("2026-11-25T09:00:00.001Z")))
    );
    assert_eq!(decide(&Facts::at(at("2026-11-25T09:00:00.001Z")).first_use(first)).0, Outcome::Deny);
    assert_eq!(decide(&Facts::at(first)).0, Outcome::Unknown, "no fact, no use");
    let late = at("2027-11-02T00:00:00Z");
    assert_eq!(decide(&Facts::at(late).first_use(late)).0, Outcome::Deny, "signed a year ago");
}

#[test]
fn duties_before_use_block_until_done() {
    let policy = agreement(
        r#""permission":[{"action":"read","duty":[{"@id":"urn:duty:consent","action":"obtainConsent"}]}]"#,
    );
    let now = at("2026-11-25T08:00:00Z");
    let decide = |facts: &Facts, stage| {
        let decision = policy.decide(&request(action::READ, stage), facts);
        (decision.outcome, decision.code.map(|code| code.code))
    };
    assert_eq!(decide(&Facts::at(now), Stage::Transfer).0, Outcome::Permit);
    assert_eq!(decide(&Facts::at(now), Stage::Use), (Outcome::Unknown, Some("policy/duty-unfulfilled")));
    for (state, outcome) in [
        (DutyState::Pending, Outcome::Deny),
        (DutyState::Violated, Outcome::Deny),
        (DutyState::Fulfilled, Outcome::Permit),
    ] {
        assert_eq!(
            decide(&Facts::at(now).duty("urn:duty:consent", state), Stage::Use).0,
            outcome,
            "{state:?}"
        );
    }
}

#[test]
fn actions_and_prohibitions() {
    let now = at("2026-11-25T08:00:00Z");
    let cases = [
        // rules, action, outcome, code
        (r#""permission":[{"action":"use"}]"#, action::READ, Outcome::Permit, None),
        (
            r#""permission":[{"action":"read"}]"#,
            action::USE,
            Outcome::Deny,
            Some("policy/action-not-permitted"),
        ),
        (
            r#""permission":[{"action":"read"}]"#,
            action::EXPORT,
            Outcome::Deny,
            Some("policy/action-not-permitted"),
        ),
        (r#""permission":[{"action":"use"}]"#, "urn:made:up", Outcome::Deny, Some("policy/unknown-action")),
        (
            r#""permission":[{"action":"use"}],"prohibition":[{"action":"use"}]"#,
            action::READ,
            Outcome::Deny,
            Some("policy/void"),
        ),
        (
            r#""odrl:conflict":"prohibit","permission":[{"action":"use"}],"prohibition":[{"action":"use"}]"#,
            action::READ,
            Outcome::Deny,
            Some("policy/prohibited"),
        ),
        (
            r#""odrl:conflict":{"@id":"odrl:perm"},"permission":[{"action":"use"}],"prohibition":[{"action":"use"}]"#,
            action::READ,
            Outcome::Permit,
            None,
        ),
        (
            r#""permission":[{"action":"use"}],"prohibition":[{"action":"distribute"}]"#,
            action::READ,
            Outcome::Permit,
            None,
        ),
        // Asking for everything includes what is prohibited.
        (
            r#""permission":[{"action":"use"}],"prohibition":[{"action":"distribute"}]"#,
            action::USE,
            Outcome::Deny,
            Some("policy/void"),
        ),
        // Not knowing the purpose, the prohibition may apply.
        (
            r#""permission":[{"action":"use"}],"prohibition":[{"action":"use","constraint":[{"leftOperand":"purpose","operator":"isA","rightOperand":"dpv:Marketing"}]}]"#,
            action::READ,
            Outcome::Unknown,
            Some("policy/fact-missing"),
        ),
        (
            r#""permission":[{"action":"use","constraint":[{"leftOperand":"purpose","operator":"neq","rightOperand":"dpv:Marketing"}]}]"#,
            action::READ,
            Outcome::Unknown,
            Some("policy/fact-missing"),
        ),
    ];
    for (rules, action, outcome, code) in cases {
        let policy = agreement(rules);
        let decision = policy.decide(&request(action, Stage::Use), &Facts::at(now));
        assert_eq!((decision.outcome, decision.code.map(|code| code.code)), (outcome, code), "{rules}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_place_and_suggestion() {
    let cases: [(&str, &str, &str); 14] = [
        (
            r#""permission":[{"action":"use","constraint":[{"leftOperand":"purpos","operator":"eq","rightOperand":"dpv:Marketing"}]}]"#,
            "policy/unknown-operand",
            "purpose",
        ),
        (r#""permission":[{"action":"raed"}]"#, "policy/unknown-action", "read"),
        (
            r#""permission":[{"action":"read","constraints":[]}, {"action":"read","constraints":[1]}]"#,
            "policy/unknown-member",
            "constraint",
        ),
        (
            r#""permission":[{"action":"read","constraint":[{"leftOperand":"dateTime","operator":"isA","rightOperand":"2026-01-01"}]}]"#,
            "policy/operator-not-allowed",
            "",
        ),
        (
            r#""permission":[{"action":"read","constraint":[{"leftOperand":"dateTime","operator":"before","rightOperand":"2026-01-01"}]}]"#,
            "policy/unknown-operator",
            "",
        ),
        (
            r#""permission":[{"action":"read","constraint":[{"leftOperand":"dateTime","operator":"lteq","rightOperand":"31.12.2026"}]}]"#,
            "policy/bad-value",
            "",
        ),
        (
            r#""permission":[{"action":"read","constraint":[{"leftOperand":"count","operator":"lteq","rightOperand":{"@value":"3","@type":"xsd:date"}}]}]"#,
            "policy/bad-value",
            "",
        ),
        (
            r#""permission":[{"action":"read","constraint":[{"leftOperand":"purpose","operator":"isA","rightOperand":"Markting"}]}]"#,
            "policy/bad-value",
            "Marketing",
        ),
        (r#""permission":[{"constraint":[]}]"#, "policy/missing-member", ""),
        (r#""permission":[]"#, "policy/missing-member", ""),
        (r#""permission":[{"action":"read"}],"inheritFrom":"urn:parent""#, "policy/parent-unavailable", ""),
        (
            r#""permission":[{"action":"read","constraint":[{"leftOperand":"purpose","operator":"eq","rightOperandReference":"https://a.example/p"}]}]"#,
            "policy/unresolved-reference",
            "",
        ),
        (r#""permission":[{"action":"read","target":"urn:other"}]"#, "policy/ambiguous-member", ""),
        (r#""permission":[{"action":"read"}],"note":"x""#, "policy/unknown-member", ""),
    ];
    for (rules, code, suggestion) in cases {
        let text = format!(r#"{{"@type":"Offer","@id":"urn:o","target":"urn:d",{rules}}}"#);
        let problems = Policy::from_json(&text, &Profiles::shipped()).expect_err(rules);
        assert_eq!(problems.first().code.code, code, "{problems}");
        let suggested = problems.list()[0].suggestion.clone().unwrap_or_default();
        assert_eq!(suggested, suggestion, "{problems}");
        assert!(problems.list()[0].at.line > 0, "{problems}");
    }
    let text = r#"{"@type":"Offer","@id":"urn:o","profile":"https://x.example/p","permission":[{"action":"fl:export"}]}"#;
    let problems = Policy::from_json(text, &Profiles::shipped()).unwrap_err();
    let codes: Vec<&str> = problems.list().iter().map(|problem| problem.code.code).collect();
    assert_eq!(codes, ["policy/unknown-profile", "policy/profile-not-named"]);
}

#[test]
fn bounds_hold() {
    let deep = format!("{}{}{}", "[".repeat(5000), "1", "]".repeat(5000));
    let nested = (0..30)
        .fold(r#"{"leftOperand":"count","operator":"lteq","rightOperand":1}"#.to_owned(), |inner, _| {
            format!(r#"{{"and":[{inner}]}}"#)
        });
    let many: Vec<String> =
        (0..130).map(|number| format!(r#"{{"@id":"urn:d:{number}","action":"delete"}}"#)).collect();
    for rules in [
        format!(r#""permission":{deep}"#),
        format!(r#""permission":[{{"action":"read","constraint":[{nested}]}}]"#),
        format!(r#""permission":[{{"action":"read"}}],"obligation":[{}]"#, many.join(",")),
        format!(r#""permission":[{{"action":"read"}}],"note":"{}""#, "x".repeat(policy::MAX_TEXT_BYTES)),
    ] {
        let text = format!(r#"{{"@type":"Set","@id":"urn:o","target":"urn:d",{rules}}}"#);
        let refusal = Policy::from_json(&text, &Profiles::shipped()).unwrap_err().first();
        assert_eq!(refusal.code.code, "policy/too-large", "{refusal}");
    }
}

#[test]
fn inheritance_copies_rules_and_pins_the_parent() {
    let profiles = Profiles::shipped();
    let parent = Policy::from_json(
        r#"{"@type":"Set","@id":"urn:parent","target":"urn:d","assigner":"urn:a","odrl:conflict":"prohibit",
            "prohibition":[{"action":"distribute"}],
            "permission":[{"action":"read","constraint":[{"leftOperand":"count","operator":"lteq","rightOperand":5,"odrl:status":3}]}]}"#,
        &profiles,
    )
    .unwrap();
    let child = |extra: &str| {
        let text = format!(
            r#"{{"@type":"Set","@id":"urn:child","odrl:inheritFrom":{{"@id":"urn:parent"}},{extra}"permission":[{{"action":"play"}}]}}"#
        );
        Policy::from_json_with_parents(&text, &profiles, std::slice::from_ref(&parent)).unwrap()
    };
    let policy = child("");
    assert_eq!((policy.target(), policy.assigner()), (Some("urn:d"), Some("urn:a")));
    assert_eq!(policy.render(policy::Lang::En).iter().filter(|clause| !clause.number.is_empty()).count(), 3);
    assert!(policy.canonical_text().contains(&parent.hash()) && !policy.canonical_text().contains("status"));
    assert_eq!(policy.conflict(), policy::Conflict::Prohibit);
    assert_eq!(
        child(r#""odrl:conflict":"perm","#).conflict(),
        policy::Conflict::Invalid,
        "differing strategies"
    );
    let again = Policy::from_json(policy.canonical_text(), &profiles).unwrap();
    assert_eq!(again.hash(), policy.hash());
}

#[test]
fn an_implied_action_is_not_prohibited() {
    let profiles = Profiles::shipped()
        .with_file(
            r#"{"format":1,"profile":"urn:p","version":"1","actions":[{"iri":"urn:render","in":["odrl:use"],"implies":["odrl:read"]}]}"#,
        )
        .unwrap();
    let text = r#"{"@type":"Set","@id":"urn:s","target":"urn:d","profile":"urn:p","permission":[{"action":"urn:render"},{"action":"read"}],"prohibition":[{"action":"read"}]}"#;
    let policy = Policy::from_json(text, &profiles).unwrap();
    let request = Request { action: action::READ, target: "urn:d", assignee: UM, stage: Stage::Use };
    assert_eq!(policy.decide(&request, &Facts::at(at("2026-11-25T00:00:00Z"))).outcome, Outcome::Permit);
}

#[test]
fn an_offer_that_begins_later_can_be_signed_now() {
    let policy = offer(
        r#""permission":[{"action":"use","constraint":[{"leftOperand":"dateTime","operator":"gteq","rightOperand":"2027-01-01Z"},
            {"leftOperand":"dateTime","operator":"lt","rightOperand":"2027-02-01Z"}]}]"#,
    );
    let decide = |now: &str, stage| policy.decide(&request(action::USE, stage), &Facts::at(at(now)));
    let early = decide("2026-11-25T00:00:00Z", Stage::Negotiation);
    assert!(early.is_permit() && early.deferred().any(|name| name == operand::DATE_TIME));
    assert_eq!(early.valid_until, Some(at("2027-01-01T00:00:00Z")));
    assert_eq!(decide("2027-02-01T00:00:00Z", Stage::Catalogue).outcome, Outcome::Deny, "it is over");
    let agreed = agreement(
        r#""permission":[{"action":"use","constraint":[{"leftOperand":"dateTime","operator":"gteq","rightOperand":"2027-01-01Z"}]}]"#,
    );
    let facts = Facts::at(at("2026-11-25T00:00:00Z"));
    assert_eq!(
        agreed.decide(&request(action::USE, Stage::Transfer), &facts).outcome,
        Outcome::Deny,
        "no bytes yet"
    );
}
