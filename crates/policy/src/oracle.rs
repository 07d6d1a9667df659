//! Brute force over a small world as the judge of the comparison: every request in every state, decided by the naive
//! evaluator, and every order in which signing, first use and end may come.
//!
//! A yes must hold in all of them; the witness of a no must be one that the naive evaluator decides differently for the
//! two policies. What is generated has no part that cannot be compared, so that most answers are a yes or a no.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Value as Json, json};

use crate::compare::{Answer, Meeting, conflict, refines};
use crate::duty::{Anchors, Deadline};
use crate::facts::{DutyState, Facts, Request};
use crate::generate::{cases, pick, read};
use crate::model::RuleKind;
use crate::naive::evaluate;
use crate::profile::{Source, Stage};
use crate::time::UnixMillis;
use crate::value::{DAY_MILLIS, Value};
use crate::vocab::{ODRL, operand};
use crate::{Outcome, Policy};

const HOUR: i64 = 3_600_000;
const ACTIONS: [&str; 3] = ["use", "read", "distribute"];
const TARGETS: [&str; 2] = ["urn:d:1", "urn:d:2"];
const PARTIES: [&str; 2] = ["urn:party:1", "urn:party:2"];
const ROLES: [&str; 2] = ["urn:role:r", "urn:role:s"];

fn atom() -> BoxedStrategy<Json> {
    let make = |operand: &str, operator: &str, right: Json| json!({"leftOperand": operand, "operator": operator, "rightOperand": right});
    let with_status = |mut atom: Json, status: Option<&str>| {
        if let Some(status) = status {
            atom["status"] = json!(status);
        }
        atom
    };
    const ORDER: &[&str] = &["eq", "neq", "lt", "lteq", "gt", "gteq"];
    const SETS: &[&str] = &["isAnyOf", "isNoneOf", "isAllOf"];
    let used = |list: &'static [&'static str]| proptest::option::weighted(0.3, pick(list));
    let roles = proptest::sample::subsequence(&ROLES[..], 1..=2);
    prop_oneof![
        (pick(ORDER), pick(&["0", "1", "2"]), used(&["0", "1", "2"])).prop_map(
            move |(operator, bound, status)| with_status(make("count", operator, json!(bound)), status)
        ),
        (pick(ORDER), pick(&["PT1H", "PT2H"]), used(&["PT0S", "PT1H", "PT2H"])).prop_map(
            move |(operator, bound, status)| with_status(make("elapsedTime", operator, json!(bound)), status)
        ),
        (pick(SETS), roles).prop_map(move |(operator, roles)| {
            let roles: Vec<Json> = roles.into_iter().map(|role| json!({"@id": role})).collect();
            make("fl:role", operator, json!(roles))
        }),
    ]
    .boxed()
}

fn constraint() -> BoxedStrategy<Json> {
    let several = (pick(&["and", "or", "xone"]), proptest::collection::vec(atom(), 2..3));
    prop_oneof![3 => atom(), 1 => several.prop_map(|(logic, parts)| json!({ logic: parts }))].boxed()
}

fn rule(duties: bool) -> BoxedStrategy<Json> {
    let duty = proptest::sample::select(vec![("urn:duty:1", "obtainConsent"), ("urn:duty:2", "compensate")])
        .prop_map(|(uid, action)| json!({"@id": uid, "action": action}));
    (
        pick(&ACTIONS),
        proptest::collection::vec(constraint(), 0..3),
        proptest::option::weighted(0.6, pick(&TARGETS)),
        proptest::option::weighted(0.5, pick(&PARTIES)),
        proptest::option::weighted(0.3, duty),
    )
        .prop_map(move |(action, constraints, target, assignee, duty)| {
            let mut rule = json!({"action": action, "constraint": constraints});
            if let Some(target) = target {
                rule["target"] = json!(target);
            }
            if let Some(assignee) = assignee {
                rule["assignee"] = json!(assignee);
            }
            if let Some(duty) = duty.filter(|_| duties) {
                rule["duty"] = json!([duty]);
            }
            rule
        })
        .boxed()
}

fn obligation() -> BoxedStrategy<Json> {
    let deadline = prop_oneof![
        pick(&["1970-01-02T00:00:00Z", "1970-01-04T00:00:00Z"])
            .prop_map(|at| json!({"leftOperand": "dateTime", "operator": "lteq", "rightOperand": at})),
        (
            pick(&["fl:elapsedSinceSigning", "fl:elapsedSinceEnd", "elapsedTime"]),
            pick(&["P1D", "P2D"]),
            proptest::option::weighted(0.2, Just("PT1H"))
        )
            .prop_map(|(operand, within, used)| {
                let mut atom = json!({"leftOperand": operand, "operator": "lteq", "rightOperand": within});
                if let Some(used) = used {
                    atom["status"] = json!(used);
                }
                atom
            }),
    ];
    (
        pick(&["delete", "inform"]),
        proptest::collection::vec(deadline, 0..3),
        proptest::option::weighted(0.4, pick(&["urn:alice", "urn:bob"])),
    )
        .prop_map(|(action, deadlines, assignee)| {
            let mut duty = json!({"action": action, "constraint": deadlines});
            if let Some(assignee) = assignee {
                duty["assignee"] = json!(assignee);
            }
            duty
        })
        .boxed()
}

fn policy() -> BoxedStrategy<Json> {
    (
        proptest::collection::vec(rule(true), 1..3),
        proptest::collection::vec(rule(false), 0..2),
        proptest::collection::vec(obligation(), 0..3),
        pick(&["odrl:perm", "odrl:prohibit", "odrl:invalid"]),
    )
        .prop_map(|(permissions, prohibitions, obligations, conflict)| {
            json!({"@type": "Set", "@id": "urn:policy", "profile": crate::vocab::FAIRLEAD_PROFILE,
                "permission": permissions, "prohibition": prohibitions, "obligation": obligations,
                "odrl:conflict": {"@id": conflict}})
        })
        .boxed()
}

/// Two policies that are near each other, so that neither answer is rare.
fn pair() -> BoxedStrategy<(Json, Json)> {
    (policy(), policy(), constraint(), obligation(), 0..5_u8)
        .prop_map(|(one, other, constraint, duty, how)| {
            let mut near = one.clone();
            match how {
                0 => return (one, other),
                1 => return (one.clone(), one),
                2 => near["obligation"].as_array_mut().unwrap().push(duty),
                3 => {
                    near["obligation"].as_array_mut().unwrap().pop();
                }
                _ => {
                    for permission in near["permission"].as_array_mut().unwrap() {
                        permission["constraint"].as_array_mut().unwrap().push(constraint.clone());
                    }
                }
            }
            (near, one)
        })
        .boxed()
}

/// Every request in every state of the small world.
fn each(mut visit: impl FnMut(&Request<'_>, &Facts)) {
    let now = UnixMillis(10 * DAY_MILLIS);
    let states = [DutyState::Pending, DutyState::Fulfilled];
    let held: [&[&str]; 5] =
        [&["urn:role:other"], &ROLES[..1], &ROLES[1..], &ROLES, &["urn:role:r", "urn:role:other"]];
    for action in ACTIONS.map(|action| format!("{ODRL}{action}")) {
        for target in TARGETS.into_iter().chain(["urn:d:other"]) {
            for assignee in PARTIES.into_iter().chain(["urn:party:other"]) {
                for (spent, elapsed) in [0, 1, 2].into_iter().flat_map(|spent| {
                    [0, 1, HOUR, HOUR + 1, 2 * HOUR, 3 * HOUR].map(|elapsed| (spent, elapsed))
                }) {
                    for roles in held {
                        for (first, second) in states.into_iter().flat_map(|one| states.map(|two| (one, two)))
                        {
                            let roles = Value::symbols(roles.iter().copied());
                            let facts = Facts::at(now)
                                .uses_spent(spent)
                                .first_use(now.plus_millis(-elapsed))
                                .with(operand::ROLE, roles, Source::LocalClock, now)
                                .duty("urn:duty:1", first)
                                .duty("urn:duty:2", second);
                            let request = Request { action: &action, target, assignee, stage: Stage::Use };
                            visit(&request, &facts);
                        }
                    }
                }
            }
        }
    }
}

fn naive(policy: &Policy, request: &Request<'_>, facts: &Facts) -> Outcome {
    evaluate(policy.model(), policy.tables(), request, facts)
}

/// Every way in which signing, first use and end may come, as far as deadlines can tell them apart.
fn each_history(mut visit: impl FnMut(&Anchors)) {
    let instants = [-5 * DAY_MILLIS, 0, DAY_MILLIS, 2 * DAY_MILLIS, 3 * DAY_MILLIS, 9 * DAY_MILLIS];
    let later = |from: i64| {
        instants.into_iter().filter(move |at| *at >= from).map(|at| Some(UnixMillis(at))).chain([None])
    };
    for signed in instants {
        for first_use in later(signed) {
            for ended in later(signed) {
                visit(&Anchors { signed: Some(UnixMillis(signed)), first_use, ended });
            }
        }
    }
}

/// Obligations as plainly as they can be read: what, by whom, by when.
fn obligations(policy: &Policy) -> Vec<(String, Option<String>, Vec<Deadline>)> {
    let rules = policy.model().rules.iter().filter(|rule| rule.kind == RuleKind::Duty);
    rules
        .zip(policy.duties())
        .map(|(rule, duty)| {
            let assignee = rule.assignee.as_ref().map(|thing| thing.iri.clone());
            (rule.action.clone(), assignee, duty.deadlines.clone())
        })
        .collect()
}

/// When a duty with these deadlines is due at the latest; never is the latest of all.
fn due(deadlines: &[Deadline], anchors: &Anchors) -> i64 {
    deadlines.iter().filter_map(|deadline| deadline.due(anchors)).map(|at| at.0).min().unwrap_or(i64::MAX)
}

fn check(strict: &Policy, wide: &Policy) -> Result<Answer, TestCaseError> {
    let found = refines(strict, wide);
    if let Some(witness) = &found.witness {
        let request = Request {
            action: &witness.action,
            target: &witness.target,
            assignee: &witness.assignee,
            stage: Stage::Use,
        };
        prop_assert_eq!(found.answer, Answer::No);
        prop_assert_eq!(naive(strict, &request, &witness.facts), Outcome::Permit, "{}", found.reason);
        prop_assert_ne!(
            naive(wide, &request, &witness.facts_of_second()),
            Outcome::Permit,
            "{}",
            found.reason
        );
    }
    let mut wider = None;
    each(|request, facts| {
        if wider.is_none()
            && naive(strict, request, facts) == Outcome::Permit
            && naive(wide, request, facts) != Outcome::Permit
        {
            wider = Some(format!("{request:?} {facts:?}"));
        }
    });
    let mut dropped = None;
    for (action, assignee, deadlines) in obligations(wide) {
        each_history(|anchors| {
            let kept = obligations(strict).into_iter().any(|(own, by, when)| {
                own == action && by == assignee && due(&when, anchors) <= due(&deadlines, anchors)
            });
            if !kept {
                dropped.get_or_insert_with(|| format!("{action} {assignee:?} {anchors:?}"));
            }
        });
    }
    match found.answer {
        Answer::Yes => {
            prop_assert_eq!(wider, None, "yes, though it permits more");
            prop_assert_eq!(dropped, None, "yes, though a duty is dropped");
        }
        Answer::No => {
            let shown = found.witness.is_some() || wider.is_some() || dropped.is_some();
            prop_assert!(shown, "no, and nothing shows it: {}", found.reason);
        }
        Answer::Unknown => {}
    }
    Ok(found.answer)
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn the_comparison_agrees_with_brute_force((strict, wide) in pair()) {
        let (strict, wide) = (read(&strict), read(&wide));
        check(&strict, &wide)?;
        check(&wide, &strict)?;
        let meeting = conflict(&strict, &wide);
        if meeting.verdict == Meeting::Conflict && meeting.witness.is_none() {
            let mut shared = None;
            each(|request, facts| {
                let both = [&strict, &wide].iter().all(|side| naive(side, request, facts) == Outcome::Permit);
                if both {
                    shared.get_or_insert_with(|| format!("{request:?} {facts:?}"));
                }
            });
            prop_assert_eq!(shared, None, "{}", meeting.reason);
        }
    }
}

/// An oracle that never hears a yes or a no would judge nothing.
#[test]
fn most_pairs_are_answered() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut yes, mut no, mut unknown) = (0, 0, 0);
    for _ in 0..200 {
        let (strict, wide) = pair().new_tree(&mut runner).unwrap().current();
        match refines(&read(&strict), &read(&wide)).answer {
            Answer::Yes => yes += 1,
            Answer::No => no += 1,
            Answer::Unknown => unknown += 1,
        }
    }
    assert!(yes >= 40 && no >= 40 && unknown <= 60, "{yes} yes, {no} no, {unknown} unknown");
}
