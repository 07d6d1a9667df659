//! What one use is, where a policy counts: `odrl:unitOfCount` beside `odrl:count`.
//!
//! ODRL calls it the unit by which executions of a rule's action are counted and leaves its values to profiles; ours
//! are the three of the Fairlead profile. A unit says how to read a count and nothing by itself, so it must stand in the
//! same conjunction as one; and as there is one count for each agreement, a policy has one unit.

use crate::model::{Constraint, Logic, Model, Rule, RuleKind};
use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::value::Right;
use crate::vocab::{operand, short};

crate::refusal_codes! {
    UNKNOWN_UNIT = "policy/unknown-unit-of-count", Policy,
        "the policy counts by a unit that is not known", "政策所用的計數單位不明", "策略所用的计数单位不明",
        clause "ODRL 2.2 Vocabulary, unitOfCount", next "count by fl:perSession, fl:perObject or fl:perDay, or leave the unit out: then it is the session";
    UNIT_WITHOUT_COUNT = "policy/unit-without-count", Policy,
        "a unit of count stands where nothing is counted", "計數單位所在之處並無計數", "计数单位所在之处并无计数",
        clause "ODRL 2.2 Vocabulary, unitOfCount", next "put odrl:unitOfCount beside odrl:count, among the constraints of the same permission or prohibition";
    UNITS_DIFFER = "policy/units-of-count-differ", Policy,
        "the policy counts by several units, and there is one count", "政策使用多種計數單位，而計數只有一個", "策略使用多种计数单位，而计数只有一个",
        clause "policy: counting", next "use one unit for every count of the policy; a count without a unit is by session";
}

/// What counts as one use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CountUnit {
    /// Each use session; also what a count without a unit means.
    Session,
    /// Each object that is opened in a session, once for that session.
    Object,
    /// Each day, by UTC, on which the data is used, however many sessions there are.
    Day,
}

impl CountUnit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Session, Self::Object, Self::Day];

    /// The IRI in the Fairlead profile.
    pub const fn iri(self) -> &'static str {
        match self {
            Self::Session => "https://w3id.org/fairlead/ns#perSession",
            Self::Object => "https://w3id.org/fairlead/ns#perObject",
            Self::Day => "https://w3id.org/fairlead/ns#perDay",
        }
    }

    /// `session`, `object` or `day`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Object => "object",
            Self::Day => "day",
        }
    }

    fn of_iri(iri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.iri() == iri)
    }
}

impl Policy {
    /// What one use is; `None` where nothing is counted.
    ///
    /// # Errors
    /// `policy/unknown-unit-of-count`, `policy/unit-without-count` or `policy/units-of-count-differ`, naming the units.
    pub fn count_unit(&self) -> Result<Option<CountUnit>, Refusal> {
        let stated = stated(self.model())?;
        let Some((unit, _)) = stated.first().copied() else { return Ok(None) };
        if stated.iter().all(|(other, _)| *other == unit) {
            return Ok(Some(unit));
        }
        let named: Vec<String> =
            stated.iter().map(|(unit, clause)| format!("{} in clause {clause}", short(unit.iri()))).collect();
        Err(Refusal::new(&UNITS_DIFFER, named.join(", ")))
    }
}

/// Whether two policies that count do so by the same unit; the unit where both are the same or one does not count.
///
/// By different units no count is stricter than another.
pub(crate) fn comparable(left: &Policy, right: &Policy) -> Result<(), String> {
    let unit = |policy: &Policy| policy.count_unit().map_err(|refusal| refusal.to_string());
    match (unit(left)?, unit(right)?) {
        (Some(left), Some(right)) if left != right => {
            Err(format!("one counts by {}, the other by {}", short(left.iri()), short(right.iri())))
        }
        _ => Ok(()),
    }
}

/// Each count's unit with the number of its clause.
fn stated(model: &Model) -> Result<Vec<(CountUnit, usize)>, Refusal> {
    let mut found = Vec::new();
    for (index, rule) in model.rules.iter().enumerate() {
        of_rule(rule, index + 1, &mut found)?;
    }
    Ok(found)
}

fn of_rule(rule: &Rule, clause: usize, found: &mut Vec<(CountUnit, usize)>) -> Result<(), Refusal> {
    let mut together = Together::default();
    let own = rule.constraints.iter().chain(&rule.refinements);
    own.for_each(|constraint| together.read(constraint, true));
    let things = [&rule.target, &rule.assignee, &rule.assigner].into_iter().flatten();
    things.flat_map(|thing| &thing.refinements).for_each(|constraint| together.read(constraint, false));
    let stray = together.strays || (!together.units.is_empty() && !together.counts_beside);
    // A duty is conditional on a count at most; what a use is, is said where it is permitted.
    if stray || (rule.kind == RuleKind::Duty && !together.units.is_empty()) {
        return Err(Refusal::new(&UNIT_WITHOUT_COUNT, format!("clause {clause}")));
    }
    for unit in &together.units {
        let unit = CountUnit::of_iri(unit)
            .ok_or_else(|| Refusal::new(&UNKNOWN_UNIT, format!("`{}` in clause {clause}", short(unit))))?;
        found.push((unit, clause));
    }
    if together.counts && together.units.is_empty() {
        found.push((CountUnit::Session, clause));
    }
    rule.duties.iter().try_for_each(|duty| of_rule(duty, clause, found))
}

/// The counts and units of one rule.
#[derive(Default)]
struct Together<'a> {
    /// There is a count somewhere.
    counts: bool,
    /// There is one in the rule's conjunction.
    counts_beside: bool,
    /// The units in the rule's conjunction.
    units: Vec<&'a str>,
    /// There is a unit elsewhere.
    strays: bool,
}

impl<'a> Together<'a> {
    fn read(&mut self, constraint: &'a Constraint, beside: bool) {
        match constraint {
            Constraint::Atom(atom) => {
                let fact = atom.operand.fact.as_deref().unwrap_or(&atom.operand.iri);
                if fact == operand::COUNT {
                    self.counts = true;
                    self.counts_beside |= beside;
                } else if fact == operand::UNIT_OF_COUNT {
                    self.strays |= !beside;
                    self.units.extend(atom.rights.iter().map(|right| match right {
                        Right::Symbol(iri) | Right::Text(iri) => iri.as_str(),
                        _ => "",
                    }));
                }
            }
            Constraint::Logic { logic, parts, .. } => {
                let beside = beside && matches!(logic, Logic::And | Logic::AndSequence);
                parts.iter().for_each(|part| self.read(part, beside));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::compare::{Answer, refines};
    use crate::time::UnixMillis;
    use crate::{Facts, Policy, Profiles, Request, Stage};

    use super::*;

    fn policy(rules: &str) -> Policy {
        let text = format!(
            r#"{{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Set","uid":"https://p.example/o",
                "profile":["https://w3id.org/fairlead/profile/1","https://w3id.org/idsa/code/"],
                "target":"https://p.example/d",{rules}}}"#
        );
        Policy::from_json(&text, &Profiles::shipped()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn count(bound: u32) -> String {
        format!(r#"{{"leftOperand":"count","operator":"lteq","rightOperand":{bound}}}"#)
    }

    fn unit(name: &str) -> String {
        format!(r#"{{"leftOperand":"unitOfCount","operator":"eq","rightOperand":"{name}"}}"#)
    }

    fn permission(constraints: &[String]) -> String {
        format!(r#"{{"action":"read","constraint":[{}]}}"#, constraints.join(","))
    }

    fn check(rules: &str, expected: Result<Option<CountUnit>, (&str, &str)>) {
        let told = policy(rules).count_unit();
        match (&told, expected) {
            (Ok(told), Ok(expected)) => assert_eq!(*told, expected, "{rules}"),
            (Err(refusal), Err((code, detail))) => {
                assert_eq!((refusal.code.code, refusal.detail.as_str()), (code, detail), "{rules}");
            }
            (told, expected) => panic!("{rules}: {told:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_policy_counts_by_one_known_unit_or_is_refused_by_name() {
        let one = |constraints: &[String]| format!(r#""permission":[{}]"#, permission(constraints));
        check(&one(&[]), Ok(None));
        check(&one(&[count(3)]), Ok(Some(CountUnit::Session)));
        for known in CountUnit::ALL {
            let local = format!("per{}{}", &known.name()[..1].to_uppercase(), &known.name()[1..]);
            for name in [known.iri().to_owned(), format!("fl:{local}"), local] {
                check(&one(&[count(3), unit(&name)]), Ok(Some(known)));
            }
        }
        let ids = r#"{"leftOperand":"idsc:COUNT","operator":"lteq","rightOperand":3}"#.to_owned();
        check(&one(&[ids, unit("fl:perDay")]), Ok(Some(CountUnit::Day)));
        let both = format!(r#"{{"and":[{},{}]}}"#, count(3), unit("fl:perDay"));
        check(&one(&[both]), Ok(Some(CountUnit::Day)));

        let unknown = "policy/unknown-unit-of-count";
        check(&one(&[count(3), unit("odrl:perUser")]), Err((unknown, "`perUser` in clause 1")));
        check(
            &one(&[count(3), unit("https://a.example/u")]),
            Err((unknown, "`https://a.example/u` in clause 1")),
        );
        let alone = "policy/unit-without-count";
        check(&one(&[unit("fl:perDay")]), Err((alone, "clause 1")));
        let either = format!(r#"{{"or":[{},{}]}}"#, count(3), unit("fl:perDay"));
        check(&one(std::slice::from_ref(&either)), Err((alone, "clause 1")));
        check(&one(&[count(9), either]), Err((alone, "clause 1")));
        let duty = format!(
            r#""permission":[{{"action":"read","constraint":[{}],"duty":[{{"action":"compensate","constraint":[{}]}}]}}]"#,
            count(3),
            unit("fl:perDay")
        );
        check(&duty, Err((alone, "clause 1")));

        let differ = "policy/units-of-count-differ";
        check(
            &one(&[count(3), count(9), unit("fl:perDay"), unit("fl:perObject")]),
            Err((differ, "fl:perDay in clause 1, fl:perObject in clause 1")),
        );
        let several = r#"{"leftOperand":"unitOfCount","operator":"isAnyOf","rightOperand":["fl:perDay","fl:perObject"]}"#;
        check(
            &one(&[count(3), several.to_owned()]),
            Err((differ, "fl:perDay in clause 1, fl:perObject in clause 1")),
        );
        let two = format!(
            r#""permission":[{},{{"action":"fl:export","constraint":[{}]}}]"#,
            permission(&[count(3), unit("fl:perDay")]),
            count(1)
        );
        let told = policy(&two).count_unit().unwrap_err();
        assert_eq!(told.code.code, differ);
        assert!(told.detail.contains("fl:perDay") && told.detail.contains("fl:perSession"), "{told}");
    }

    /// The unit is a fact like any other: without it, or counted by another one, nothing is permitted at use.
    #[test]
    fn the_unit_that_was_counted_by_decides() {
        let policy = policy(&format!(r#""permission":[{}]"#, permission(&[count(2), unit("fl:perDay")])));
        let ask = |stage, facts: &Facts| {
            let request = Request {
                action: crate::vocab::action::READ,
                target: "https://p.example/d",
                assignee: "https://c.example/id",
                stage,
            };
            policy.decide(&request, facts).code.map(|code| code.code)
        };
        let facts = || Facts::at(UnixMillis(0)).uses_spent(1);
        assert_eq!(ask(Stage::Use, &facts()), Some("policy/fact-missing"));
        assert_eq!(ask(Stage::Transfer, &facts()), None);
        assert_eq!(ask(Stage::Use, &facts().unit_of_count(CountUnit::Day)), None);
        assert_eq!(
            ask(Stage::Use, &facts().unit_of_count(CountUnit::Session)),
            Some("policy/constraint-unmet")
        );
        let spent = facts().uses_spent(2).unit_of_count(CountUnit::Day);
        assert_eq!(ask(Stage::Use, &spent), Some("policy/count-spent"));
    }

    #[test]
    fn no_count_is_stricter_than_one_by_another_unit() {
        let rules =
            |constraints: &[String]| policy(&format!(r#""permission":[{}]"#, permission(constraints)));
        let by_session = rules(&[count(3)]);
        let by_day = rules(&[count(2), unit("fl:perDay")]);
        let fewer_days = rules(&[count(1), unit("fl:perDay")]);
        let free = rules(&[]);
        assert_eq!(refines(&by_day, &by_session).answer, Answer::Unknown);
        assert_eq!(refines(&by_session, &by_day).answer, Answer::Unknown);
        assert_eq!(refines(&fewer_days, &by_day).answer, Answer::Yes);
        assert_eq!(refines(&by_day, &free).answer, Answer::Yes);
        assert_ne!(refines(&by_day, &fewer_days).answer, Answer::Yes);
    }
}
