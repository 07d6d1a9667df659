//! Hostile policies: what they may cost, counted in constraints looked at and not in time.

use std::cell::Cell;

use serde_json::{Value as Json, json};

use crate::compare::{Answer, MAX_STEPS, compare, refines, satisfiable};
use crate::facts::{Facts, Request};
use crate::json::MAX_DEPTH;
use crate::node::MAX_TEXT_BYTES;
use crate::profile::{Profiles, Stage};
use crate::read::MAX_LOGIC_DEPTH;
use crate::time::UnixMillis;
use crate::vocab::action;
use crate::{Lang, Policy};

thread_local! {
    static UNITS: Cell<usize> = const { Cell::new(0) };
}

/// One constraint was looked at.
pub(crate) fn unit() {
    UNITS.with(|units| units.set(units.get() + 1));
}

fn counted<T>(work: impl FnOnce() -> T) -> (T, usize) {
    UNITS.with(|units| units.set(0));
    let done = work();
    (done, UNITS.with(Cell::get))
}

fn text(constraint: &Json, duties: &[Json]) -> String {
    json!({"@type": "Set", "@id": "urn:p", "target": "urn:d", "profile": "https://w3id.org/fairlead/profile/1",
        "permission": [{"action": "read", "constraint": constraint, "duty": duties}]})
    .to_string()
}

fn read(constraint: &Json) -> Policy {
    Policy::from_json(&text(constraint, &[]), &Profiles::shipped())
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn atom(operand: &str, operator: &str, right: impl Into<Json>) -> Json {
    json!({"leftOperand": operand, "operator": operator, "rightOperand": right.into()})
}

/// `levels` logical constraints within each other.
fn nested(levels: usize) -> Json {
    (0..levels).fold(
        atom("count", "lteq", 1),
        |inner, level| json!({ ["and", "or", "xone"][level % 3]: [inner, atom("count", "gteq", 0)] }),
    )
}

/// Operands with an order of their own.
const ORDERED: [&str; 5] = ["count", "percentage", "resolution", "payAmount", "fl:keyLease"];

#[test]
fn nesting_is_refused_beyond_its_bound() {
    let understood = |levels| Policy::from_json(&text(&nested(levels), &[]), &Profiles::shipped());
    assert!(understood(MAX_LOGIC_DEPTH).is_ok());
    let code = |levels| understood(levels).unwrap_err().first().code.code;
    assert_eq!(code(MAX_LOGIC_DEPTH + 1), "policy/too-large");
    assert_eq!(code(MAX_DEPTH), "policy/too-large");
    // Far beyond what a stack would hold.
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}0{}", open.repeat(50_000), close.repeat(50_000));
        assert!(Policy::from_json(&deep, &Profiles::shipped()).is_err());
    }
    let long = format!("{}{}", text(&nested(1), &[]), " ".repeat(MAX_TEXT_BYTES));
    assert_eq!(
        Policy::from_json(&long, &Profiles::shipped()).unwrap_err().first().code.code,
        "policy/too-large"
    );
}

#[test]
fn a_decision_looks_at_each_constraint_once() {
    let many: Vec<Json> = (0..3_000).map(|bound| atom("count", "lteq", bound + 5_000)).collect();
    let pairs = |count: i32| -> Vec<Json> {
        let one = |index| json!({"or": [atom("count", "lteq", index), atom("percentage", "gt", index)]});
        (0..count).map(one).collect()
    };
    let request = Request { action: action::READ, target: "urn:d", assignee: "urn:c", stage: Stage::Use };
    let facts = Facts::at(UnixMillis(0)).uses_spent(1);
    // The last one would have 2 to the power of 1,000 parts in disjunctive normal form.
    for constraint in [
        json!(many),
        json!([{"or": many}]),
        json!([{"xone": many}]),
        json!(pairs(1_000)),
        nested(MAX_LOGIC_DEPTH),
    ] {
        let policy = read(&constraint);
        let nodes = policy.program().nodes.len();
        let (_, units) = counted(|| policy.decide(&request, &facts));
        assert!(units > 0 && units <= nodes, "{units} of {nodes}");
        let (_, units) = counted(|| policy.explain(&request, &facts, Lang::En));
        assert!(units <= 2 * nodes, "{units} of {nodes}");
    }
}

#[test]
fn a_comparison_ends_within_its_bound() {
    let bounds =
        |operand: &'static str, count: i32| (0..count).map(move |bound| atom(operand, "lteq", bound));
    let purposes: Vec<Json> =
        (0..3_000).map(|name| atom("purpose", "neq", format!("urn:x:{name}"))).collect();
    let product: Vec<Json> = ORDERED
        .into_iter()
        .map(|operand| match operand {
            "fl:keyLease" => json!({"or": (1..9).map(|days| atom(operand, "lteq", format!("P{days}D"))).collect::<Vec<_>>()}),
            number => json!({"or": bounds(number, 9).collect::<Vec<_>>()}),
        })
        .collect();
    let consents: Vec<Json> =
        (0..20).map(|index| json!({"@id": format!("urn:duty:{index}"), "action": "obtainConsent", "odrl:consentingParty": {"@id": format!("urn:c:{index}")}})).collect();
    let duties = Policy::from_json(&text(&json!([]), &consents), &Profiles::shipped()).unwrap();
    let cases = [
        // Few cases, each with thousands of constraints to look at.
        ("thousands of bounds", read(&json!([{"or": bounds("count", 3_000).collect::<Vec<_>>()}])), "steps"),
        ("a product of operands", read(&json!(product)), "cases"),
        ("thousands of symbols", read(&json!(purposes)), "values"),
        ("two to the power of duties", duties, "cases"),
    ];
    let one = read(&atom("count", "lteq", 1));
    for (case, hostile, reason) in cases {
        for (strict, wide) in [(&hostile, &one), (&one, &hostile)] {
            let (found, units) = counted(|| refines(strict, wide));
            assert_eq!(found.answer, Answer::Unknown, "{case}: {}", found.reason);
            assert!(found.reason.contains(reason), "{case}: {}", found.reason);
            assert!(units <= MAX_STEPS, "{case}: {units}");
        }
        let (_, units) = counted(|| (compare(&hostile, &one), satisfiable(&hostile)));
        assert!(units <= 4 * MAX_STEPS, "{case}: {units}");
    }
}

#[test]
fn what_is_compared_costs_no_more_than_announced() {
    // Just below the bound: many cases and many constraints at once.
    let list = |count: i32| {
        read(&json!([{"or": (0..count).map(|bound| atom("count", "lteq", bound)).collect::<Vec<_>>()}]))
    };
    let mut answered = 0;
    for count in [10, 100, 200, 400, 800] {
        let (found, units) = counted(|| refines(&list(count), &list(count + 1)));
        assert!(units <= MAX_STEPS, "{count}: {units}");
        assert_ne!(found.answer, Answer::No, "{count}: {}", found.reason);
        answered += usize::from(found.answer == Answer::Yes);
    }
    assert!(answered >= 2, "{answered}");
}
