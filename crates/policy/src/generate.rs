//! Generators of policies, facts and requests: typed, so that most of what they make is meaningful.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::Policy;
use crate::facts::{DutyState, Facts, Request};
use crate::profile::{Profiles, Source, Stage};
use crate::time::UnixMillis;
use crate::value::{DAY_MILLIS, Value};
use crate::vocab::operand;

pub(crate) const NOW: i64 = 1_795_564_800_000; // 2026-11-25T00:00:00Z
pub(crate) const DATA: [&str; 2] = ["urn:data:1", "urn:data:2"];
pub(crate) const PARTIES: [&str; 3] =
    ["https://a.example/id", "https://b.example/id", "https://c.example/id"];

pub(crate) const ROLES: [&str; 3] = ["urn:role:r", "urn:role:s", "urn:role:t"];

pub(crate) fn pick(list: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(list)
}

pub(crate) fn actions() -> impl Strategy<Value = &'static str> {
    pick(&[
        "use",
        "read",
        "play",
        "display",
        "distribute",
        "derive",
        "fl:export",
        "fl:trainModel",
        "reproduce",
    ])
}

pub(crate) fn right(kind: &'static [&'static str]) -> BoxedStrategy<Json> {
    prop_oneof![
        3 => pick(kind).prop_map(|one| json!(one)),
        1 => proptest::sample::subsequence(kind, 1..=kind.len().min(3)).prop_map(|list| json!(list)),
    ]
    .boxed()
}

pub(crate) fn atom() -> impl Strategy<Value = Json> {
    const ORDER: &[&str] = &["eq", "neq", "lt", "lteq", "gt", "gteq"];
    const SETS: &[&str] = &["isA", "isAnyOf", "isNoneOf", "isAllOf", "isPartOf", "hasPart"];
    const TIMES: &[&str] = &[
        "2026-11-24T00:00:00Z",
        "2026-11-25T00:00:00Z",
        "2026-11-25T00:00:00.001Z",
        "2026-11-25T08:00:00+08:00",
        "2026-11-26T00:00:00Z",
        "2026-11-25T05:00:00",
        "2026-11-25",
        "2026-11-25+08:00",
        "2026-11-24Z",
        "2026-12-01",
    ];
    const PURPOSES: &[&str] = &[
        "dpv:ResearchAndDevelopment",
        "AcademicResearch",
        "CommercialResearch",
        "dpv:Marketing",
        "dpv:DirectMarketing",
        "urn:purpose:own",
    ];
    const PLACES: &[&str] = &["HK", "MO", "CN", "EU", "DE", "urn:place:own"];
    const LEVELS: &[&str] = &["base", "trust", "trustplus"];
    let make = |operand: &'static str, operator: &'static str, right: Json| json!({"leftOperand": operand, "operator": operator, "rightOperand": right});
    let simple = move |operand: &'static str, values: &'static [&'static str]| {
        (pick(ORDER), pick(values)).prop_map(move |(operator, value)| make(operand, operator, json!(value)))
    };
    let sets = move |operand: &'static str, values: &'static [&'static str]| {
        prop_oneof![
            (pick(&["eq", "neq"]), pick(values)).prop_map(move |(operator, value)| make(
                operand,
                operator,
                json!(value)
            )),
            (pick(SETS), right(values)).prop_map(move |(operator, value)| make(operand, operator, value)),
        ]
    };
    let plain = prop_oneof![
        3 => simple("dateTime", TIMES),
        2 => simple("count", &["0", "1", "2", "3"]),
        2 => simple("elapsedTime", &["PT0S", "PT1H", "P1D", "P1M"]),
        1 => simple("fl:elapsedSinceSigning", &["PT1H", "P1D", "P1M"]),
        3 => sets("purpose", PURPOSES),
        2 => sets("spatial", PLACES),
        1 => simple("fl:securityProfile", LEVELS),
        1 => sets("fl:participant", &PARTIES),
        2 => sets("fl:role", &ROLES),
        1 => Just(make("absoluteSize", "lt", json!("5"))),
    ];
    let used = proptest::option::weighted(0.2, 0..4_usize);
    (plain, proptest::option::weighted(0.1, pick(&["fl:attested", "fl:asserted", "fl:local"])), used)
        .prop_map(|(mut atom, source, used)| {
            if let Some(source) = source {
                atom["fl:minimumSource"] = json!(source);
            }
            if let Some(status) = used.and_then(|used| status(&atom, used)) {
                atom["status"] = json!(status);
            }
            atom
        })
}

/// What was used up before, where anything can be.
fn status(atom: &Json, used: usize) -> Option<&'static str> {
    let operand = atom["leftOperand"].as_str()?;
    match operand {
        "count" => ["0", "1", "2", "5"].get(used).copied(),
        "elapsedTime" | "fl:elapsedSinceSigning" => ["PT0S", "PT1H", "P1D", "P1M"].get(used).copied(),
        _ => None,
    }
}

pub(crate) fn constraint() -> impl Strategy<Value = Json> {
    atom().prop_recursive(3, 12, 4, |inner| {
        (pick(&["and", "or", "xone", "andSequence"]), proptest::collection::vec(inner, 1..4)).prop_map(
            |(logic, parts)| {
                let parts = if logic == "andSequence" { json!({"@list": parts}) } else { json!(parts) };
                json!({ logic: parts })
            },
        )
    })
}

/// Many ranges of time, as policies with office hours have them.
pub(crate) fn office_hours() -> impl Strategy<Value = Json> {
    let bound = || {
        (-50_i64..50, any::<bool>()).prop_map(|(hours, day)| {
            let at = UnixMillis(NOW + hours * 3_600_000).to_string();
            if day { format!("{}Z", &at[..10]) } else { at }
        })
    };
    let range = (bound(), pick(&["gt", "gteq"]), bound(), pick(&["lt", "lteq"]), any::<bool>()).prop_map(
        |(from, after, until, before, both)| {
            let atom = |operator: &str, right: String| json!({"leftOperand": "dateTime", "operator": operator, "rightOperand": right});
            if both { json!({"and": [atom(after, from), atom(before, until)]}) } else { atom("eq", from) }
        },
    );
    proptest::collection::vec(range, 4..9).prop_map(|ranges| json!({"or": ranges}))
}

pub(crate) fn rule() -> impl Strategy<Value = Json> {
    let collection = json!({"@type": "odrl:PartyCollection", "source": "urn:group:1"});
    let assignee = prop_oneof![pick(&PARTIES).prop_map(|party| json!(party)), Just(collection)];
    (
        actions(),
        proptest::collection::vec(prop_oneof![6 => constraint(), 1 => office_hours()], 0..4),
        proptest::option::weighted(0.8, pick(&DATA)),
        proptest::option::weighted(0.5, assignee),
        proptest::option::weighted(0.2, atom()),
    )
        .prop_map(|(action, constraints, target, assignee, refinement)| {
            let mut rule = json!({"action": action, "constraint": constraints});
            if let Some(refinement) = refinement {
                rule["action"] =
                    json!({"rdf:value": {"@id": action_iri(action)}, "refinement": [refinement]});
            }
            if let Some(target) = target {
                rule["target"] = json!(target);
            }
            if let Some(assignee) = assignee {
                rule["assignee"] = assignee;
            }
            rule
        })
}

pub(crate) fn action_iri(action: &str) -> String {
    crate::vocab::expand_vocab(action, &Vec::new())
}

pub(crate) fn duty() -> impl Strategy<Value = Json> {
    (
        pick(&["urn:duty:1", "urn:duty:2"]),
        pick(&["obtainConsent", "delete", "compensate"]),
        proptest::option::weighted(0.3, constraint()),
        proptest::collection::vec(deadline(), 0..3),
        proptest::option::weighted(0.3, pick(&PARTIES)),
    )
        .prop_map(|(uid, action, constraint, deadlines, assignee)| {
            let constraints: Vec<Json> = constraint.into_iter().chain(deadlines).collect();
            let mut duty = json!({"@id": uid, "action": action, "constraint": constraints});
            if let Some(assignee) = assignee {
                duty["assignee"] = json!(assignee);
            }
            duty
        })
}

/// When a duty is to be done: by a date, within a time, or around the use.
pub(crate) fn deadline() -> impl Strategy<Value = Json> {
    let make = |operand: &str, operator: &str, right: &str| json!({"leftOperand": operand, "operator": operator, "rightOperand": right});
    prop_oneof![
        pick(&["2026-11-25T00:00:00Z", "2026-12-01Z", "2030-01-01T00:00:00Z"])
            .prop_map(move |at| make("dateTime", "lteq", at)),
        (
            pick(&["fl:elapsedSinceSigning", "fl:elapsedSinceEnd", "elapsedTime"]),
            pick(&["PT4S", "P10D", "P30D"])
        )
            .prop_map(move |(operand, within)| make(operand, "lteq", within)),
        (pick(&["lt", "eq", "gt"]), pick(&["odrl:policyUsage", "urn:event:1"])).prop_map(
            |(operator, event)| json!({"leftOperand": "event", "operator": operator, "rightOperand": {"@id": event}})
        ),
    ]
}

pub(crate) fn permission() -> impl Strategy<Value = Json> {
    (rule(), proptest::collection::vec(duty(), 0..2)).prop_map(|(mut rule, duties)| {
        if !duties.is_empty() {
            rule["duty"] = json!(duties);
        }
        rule
    })
}

pub(crate) fn policy_json() -> impl Strategy<Value = Json> {
    (
        proptest::collection::vec(permission(), 1..4),
        proptest::collection::vec(rule(), 0..3),
        proptest::option::weighted(0.6, pick(&["odrl:perm", "odrl:prohibit", "odrl:invalid"])),
    )
        .prop_map(|(permissions, prohibitions, conflict)| {
            let mut policy = json!({"@type": "Set", "@id": "urn:policy", "profile": crate::vocab::FAIRLEAD_PROFILE,
                "timestamp": "2026-11-24T12:00:00Z", "permission": permissions, "prohibition": prohibitions});
            if let Some(conflict) = conflict {
                policy["odrl:conflict"] = json!({"@id": conflict});
            }
            policy
        })
}

pub(crate) fn read(json: &Json) -> Policy {
    Policy::from_json(&json.to_string(), &Profiles::shipped())
        .unwrap_or_else(|problems| panic!("{problems}\n{json}"))
}

pub(crate) fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        1 => Just(Source::Asserted),
        1 => Just(Source::Registered),
        1 => Just(Source::Attested),
        4 => Just(Source::LocalCounter),
    ]
}

pub(crate) fn facts() -> impl Strategy<Value = Facts> {
    let symbols = |list: &'static [&'static str]| {
        prop_oneof![
            4 => pick(list).prop_map(Value::symbol),
            1 => proptest::sample::subsequence(list, 0..=2).prop_map(Value::symbols),
        ]
    };
    let purposes = symbols(&[
        "dpv:AcademicResearch",
        "CommercialResearch",
        "DirectMarketing",
        "urn:purpose:own",
        "urn:other",
    ]);
    let places = symbols(&["HK", "MAC", "CN", "DE", "urn:place:own"]);
    let start = (-40 * DAY_MILLIS..DAY_MILLIS).prop_map(|offset| Value::Instant(UnixMillis(NOW + offset)));
    let entry = prop_oneof![
        purposes.prop_map(|value| (operand::PURPOSE, value)),
        places.prop_map(|value| (operand::SPATIAL, value)),
        (0..4_i64).prop_map(|spent| (operand::COUNT, Value::whole(spent))),
        start.prop_map(|value| (operand::ELAPSED_TIME, value)),
        symbols(&["base", "trust", "fl:trustplus"]).prop_map(|value| (operand::SECURITY_PROFILE, value)),
        symbols(&["urn:role:r", "urn:role:s", "urn:role:u"]).prop_map(|value| (operand::ROLE, value)),
        (0..3 * DAY_MILLIS).prop_map(|millis| (operand::ELAPSED_TIME, Value::Duration(millis))),
    ];
    (
        -2 * DAY_MILLIS..2 * DAY_MILLIS,
        proptest::collection::vec((entry, source()), 0..6),
        proptest::collection::vec(
            (
                pick(&["urn:duty:1", "urn:duty:2"]),
                prop_oneof![Just(DutyState::Pending), Just(DutyState::Fulfilled), Just(DutyState::Violated)],
            ),
            0..3,
        ),
        any::<bool>(),
    )
        .prop_map(|(offset, entries, duties, grouped)| {
            // Half the time exactly now, where the bounds are.
            let now = UnixMillis(if offset % 2 == 0 { NOW } else { NOW + offset });
            let mut facts = Facts::at(now);
            for ((operand, value), source) in entries {
                facts = facts.with(operand, value, source, now);
            }
            for (key, state) in duties {
                facts = facts.duty(key, state);
            }
            if grouped {
                facts.member(PARTIES[1], "urn:group:0").member("urn:group:0", "urn:group:1")
            } else {
                facts
            }
        })
}

pub(crate) type Asked = (String, &'static str, &'static str, Stage);

pub(crate) fn request() -> impl Strategy<Value = Asked> {
    let stage = prop_oneof![1 => Just(Stage::Catalogue), 1 => Just(Stage::Negotiation), 1 => Just(Stage::Transfer), 3 => Just(Stage::Use)];
    (actions().prop_map(action_iri), pick(&DATA), pick(&PARTIES), stage)
}

pub(crate) fn cases(default: u32) -> ProptestConfig {
    // More for a long run: FAIRLEAD_POLICY_CASES=250000 is a million decisions, where each case asks four times.
    let cases =
        std::env::var("FAIRLEAD_POLICY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

pub(crate) fn ask<'a>(parts: &'a Asked) -> Request<'a> {
    Request { action: &parts.0, target: parts.1, assignee: parts.2, stage: parts.3 }
}
