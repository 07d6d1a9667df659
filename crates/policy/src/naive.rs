//! A second evaluator, deliberately naive, straight over the model: the oracle for the fast one, and the laws.
//!
//! It shares with the fast one only the model and the facts: no program, no slots, no sets, no short cuts.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::Value as Json;

use crate::facts::{DutyState, Facts, Request};
use crate::generate::{Asked, NOW, ask, cases, constraint, facts, policy_json, read, request, rule};
use crate::model::{Atom, Conflict, Constraint, Kind, Logic, Model, Rule, RuleKind, Thing};
use crate::profile::{OperandType, Operator, Phase, Profiles, Source, Stage};
use crate::tables::Tables;
use crate::time::UnixMillis;
use crate::value::{DAY_MILLIS, Decimal, Right, Value};
use crate::vocab::operand;
use crate::{Lang, Outcome, Policy};

/// Truth as text of four words would be slower still; the order is the strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum T {
    No,
    Dunno,
    Later,
    Yes,
}

fn truth(holds: bool) -> T {
    if holds { T::Yes } else { T::No }
}

struct World<'a> {
    tables: &'a Tables,
    model: &'a Model,
    request: &'a Request<'a>,
    facts: &'a Facts,
}

/// The outcome by the book: each action in question is decided alone.
pub(crate) fn evaluate(model: &Model, tables: &Tables, request: &Request<'_>, facts: &Facts) -> Outcome {
    let world = World { tables, model, request, facts };
    let proposal = matches!(model.kind, Kind::Offer | Kind::Assertion | Kind::Request);
    if !model.replaced_by.is_empty() || (proposal && request.stage >= Stage::Transfer) {
        return Outcome::Deny;
    }
    if !tables.actions.iter().any(|action| action.iri == request.action) {
        return Outcome::Deny;
    }
    let actions: Vec<&str> = tables
        .actions
        .iter()
        .map(|action| action.iri.as_str())
        .filter(|action| match request.stage {
            Stage::Use => *action == request.action,
            _ => world.included(action, request.action),
        })
        .collect();
    let outcomes: Vec<Outcome> = actions.iter().map(|action| world.one_action(action)).collect();
    if outcomes.contains(&Outcome::Permit) {
        Outcome::Permit
    } else if outcomes.contains(&Outcome::Unknown) {
        Outcome::Unknown
    } else {
        Outcome::Deny
    }
}

impl World<'_> {
    fn included(&self, lower: &str, upper: &str) -> bool {
        lower == upper
            || self
                .tables
                .actions
                .iter()
                .filter(|action| action.iri == lower)
                .flat_map(|action| &action.included_in)
                .any(|parent| self.included(parent, upper))
    }

    fn one_action(&self, action: &str) -> Outcome {
        let permissions = self.model.rules.iter().filter(|rule| rule.kind == RuleKind::Permission);
        let permitted = permissions
            .filter(|rule| self.included(action, &rule.action))
            .map(|rule| self.rule(rule).min(self.duties_before(rule)))
            .max()
            .unwrap_or(T::No);
        let prohibitions = self.model.rules.iter().filter(|rule| rule.kind == RuleKind::Prohibition);
        let forbidden = prohibitions
            .filter(|rule| {
                self.included(action, &rule.action)
                    || (self.request.stage == Stage::Use && self.included(&rule.action, action))
            })
            .map(|rule| self.rule(rule))
            // A prohibition that may come to apply later does not stop anything yet.
            .map(|found| if found == T::Later { T::No } else { found })
            .max()
            .unwrap_or(T::No);
        let forbidden = if self.model.conflict == Some(Conflict::Perm) { T::No } else { forbidden };
        match (permitted, forbidden) {
            (T::No, _) | (_, T::Yes) => Outcome::Deny,
            (T::Dunno, _) | (_, T::Dunno) => Outcome::Unknown,
            (T::Later | T::Yes, _) => Outcome::Permit,
        }
    }

    fn rule(&self, rule: &Rule) -> T {
        let mut found = T::Yes;
        for (thing, named) in [(&rule.target, self.request.target), (&rule.assignee, self.request.assignee)] {
            if let Some(thing) = thing {
                found = found.min(self.thing(thing, named));
            }
        }
        let constraints = rule.constraints.iter().chain(&rule.refinements);
        constraints.map(|constraint| self.constraint(constraint)).fold(found, T::min)
    }

    fn thing(&self, thing: &Thing, named: &str) -> T {
        let is = if thing.iri == named {
            T::Yes
        } else if !thing.collection {
            T::No
        } else if self.member(named, &thing.iri, 9) {
            T::Yes
        } else {
            T::Dunno
        };
        thing.refinements.iter().map(|constraint| self.constraint(constraint)).fold(is, T::min)
    }

    fn member(&self, one: &str, whole: &str, depth: usize) -> bool {
        depth > 0
            && (one == whole
                || self
                    .facts
                    .members
                    .iter()
                    .filter(|(member, _)| member.as_str() == one)
                    .any(|(_, collection)| self.member(collection.as_str(), whole, depth - 1)))
    }

    fn duties_before(&self, rule: &Rule) -> T {
        let numbered = self.model.rules.iter().position(|other| std::ptr::eq(other, rule)).unwrap_or(0) + 1;
        let duty = |(index, duty): (usize, &Rule)| {
            let key = duty.uid.clone().unwrap_or_else(|| format!("rule/{numbered}/duty/{}", index + 1));
            let active = duty
                .constraints
                .iter()
                .filter(|constraint| !crate::duty::is_timing(constraint))
                .map(|constraint| self.constraint(constraint))
                .min()
                .unwrap_or(T::Yes);
            let before = crate::duty::phase(duty, self.tables) == Phase::Before;
            let done = match self.facts.duties.get(&key) {
                Some(DutyState::Fulfilled) => T::Yes,
                Some(DutyState::Violated) => T::No,
                _ if !before => T::Yes,
                _ if self.request.stage < Stage::Use => T::Later,
                Some(DutyState::Pending) => T::No,
                None => T::Dunno,
            };
            match (active, done) {
                (_, T::Yes) | (T::No, _) => T::Yes,
                (T::Yes, done) => done,
                // It may turn out that the duty does not apply.
                (undecided, _) => undecided,
            }
        };
        rule.duties.iter().enumerate().map(duty).min().unwrap_or(T::Yes)
    }

    fn constraint(&self, constraint: &Constraint) -> T {
        match constraint {
            Constraint::Atom(atom) => self.atom(atom),
            Constraint::Logic { logic, parts, .. } => {
                let found: Vec<T> = parts.iter().map(|part| self.constraint(part)).collect();
                match logic {
                    Logic::And | Logic::AndSequence => found.into_iter().min().unwrap_or(T::Yes),
                    Logic::Or => found.into_iter().max().unwrap_or(T::No),
                    Logic::Xone => self.exactly_one(&found),
                }
            }
        }
    }

    /// All ways in which the open parts may turn out; if they agree, that is the answer.
    fn exactly_one(&self, parts: &[T]) -> T {
        let certain = parts.iter().filter(|part| **part == T::Yes).count();
        let open = parts.iter().filter(|part| matches!(part, T::Dunno | T::Later)).count();
        let results: Vec<bool> = (0..=open).map(|turned| certain + turned == 1).collect();
        if results.iter().all(|result| *result) {
            T::Yes
        } else if results.iter().all(|result| !*result) {
            T::No
        } else if parts.contains(&T::Dunno) {
            T::Dunno
        } else {
            T::Later
        }
    }

    fn atom(&self, atom: &Atom) -> T {
        let later = self.request.stage < atom.operand.decided;
        let absent = if later { T::Later } else { T::Dunno };
        if atom.operand.kind == OperandType::Opaque {
            return absent;
        }
        if atom.operand.kind == OperandType::Instant {
            let found = self.instant(atom, self.facts.now.0);
            let far = 400 * DAY_MILLIS;
            let bounds: Vec<i64> = match &atom.rights[0] {
                Right::Instant { lo, hi, .. } => vec![*lo, *hi, hi + 1, NOW + far],
                Right::Day { start_lo, start_hi, .. } => {
                    vec![*start_lo, *start_hi, start_hi + 2 * DAY_MILLIS]
                }
                _ => Vec::new(),
            };
            let begins = bounds.iter().any(|at| *at > self.facts.now.0 && self.instant(atom, *at) == T::Yes);
            let early = self.request.stage < Stage::Transfer;
            return if found == T::No && early && begins { T::Later } else { found };
        }
        let fact =
            self.facts.entries.iter().find(|fact| {
                fact.operand.as_str() == atom.operand.fact.as_deref().unwrap_or(&atom.operand.iri)
            });
        let value = match fact {
            Some(fact) => {
                let needed = atom.minimum_source.map_or(0, Source::rank).max(atom.operand.source.rank());
                if fact.source.rank() < needed {
                    return T::Dunno;
                }
                fact.value.clone()
            }
            None if atom.operand.iri == operand::PARTICIPANT => Value::symbol(self.request.assignee),
            None => match self.model.timestamp {
                Some(signed) if atom.operand.iri == operand::SINCE_SIGNING => Value::Instant(signed),
                _ => return absent,
            },
        };
        match (&atom.rights[0], &value) {
            (Right::Duration { lo, hi, .. }, Value::Instant(start)) => {
                self.elapsed(atom, self.facts.now.0 - start.0, *lo, *hi)
            }
            (Right::Duration { lo, hi, .. }, Value::Duration(millis)) => {
                self.elapsed(atom, *millis, *lo, *hi)
            }
            (Right::Number(bound), Value::Number(number, unit))
                if atom.unit.as_deref() == unit.as_ref().map(crate::Symbol::as_str) =>
            {
                let used = if atom.operand.kind == OperandType::Count { 1 } else { 0 };
                let before = match &atom.status {
                    Some(Right::Number(before)) => before.raw(),
                    _ => 0,
                };
                let number = Decimal::from_raw(number.raw() + Decimal::whole(used).raw() + before);
                truth(match atom.operator {
                    Operator::Eq => number == *bound,
                    Operator::Neq => number != *bound,
                    Operator::Lt => number < *bound,
                    Operator::Lteq => number <= *bound,
                    Operator::Gt => number > *bound,
                    _ => number >= *bound,
                })
            }
            (Right::Symbol(_), Value::Symbol(one)) => self.symbols(atom, &[one.as_str()], false),
            (Right::Symbol(_), Value::Symbols(list)) => {
                self.symbols(atom, &list.iter().map(crate::Symbol::as_str).collect::<Vec<_>>(), true)
            }
            _ => T::Dunno,
        }
    }

    /// What has passed, with what had passed before it, against a bound: whatever the lengths of the months turn out to
    /// be. When all of the time was used up before, none is left to begin with.
    fn elapsed(&self, atom: &Atom, elapsed: i64, lo: i64, hi: i64) -> T {
        if elapsed < 0 {
            return T::Dunno;
        }
        let Some(Right::Duration { lo: before_lo, hi: before_hi, .. }) = &atom.status else {
            return self.between(atom.operator, elapsed, lo, hi);
        };
        let found = self.between(atom.operator, elapsed, lo - before_hi, hi - before_lo);
        let spent = |bound: i64, before: i64| atom.operator == Operator::Lteq && before >= bound;
        match (spent(hi, *before_lo), spent(lo, *before_hi)) {
            (true, _) => T::No,
            (false, true) if found == T::Yes => T::Dunno,
            _ => found,
        }
    }

    /// The clock against a point or day that may lie anywhere in a range: both ends must agree.
    fn instant(&self, atom: &Atom, now: i64) -> T {
        match &atom.rights[0] {
            Right::Instant { lo, hi, .. } => self.between(atom.operator, now, *lo, *hi),
            Right::Day { start_lo, start_hi, .. } => {
                let at = |start: i64| {
                    let end = start + DAY_MILLIS - 1;
                    match atom.operator {
                        Operator::Eq => start <= now && now <= end,
                        Operator::Neq => now < start || now > end,
                        Operator::Lt => now < start,
                        Operator::Lteq => now <= end,
                        Operator::Gt => now > end,
                        _ => now >= start,
                    }
                };
                // Within a day's uncertainty the answer can only change at the ends of the range and a day after them.
                let samples: Vec<bool> =
                    (0..=56).map(|step| at(start_lo + (start_hi - start_lo) * step / 56)).collect();
                match (samples.contains(&true), samples.contains(&false)) {
                    (true, false) => T::Yes,
                    (false, _) => T::No,
                    (true, true) => T::Dunno,
                }
            }
            _ => T::Dunno,
        }
    }

    fn between(&self, operator: Operator, value: i64, lo: i64, hi: i64) -> T {
        let holds = |bound: i64| match operator {
            Operator::Eq => value == bound,
            Operator::Neq => value != bound,
            Operator::Lt => value < bound,
            Operator::Lteq => value <= bound,
            Operator::Gt => value > bound,
            _ => value >= bound,
        };
        let mut bounds = vec![lo, hi];
        if lo <= value && value <= hi {
            bounds.push(value);
        }
        match (bounds.iter().any(|bound| holds(*bound)), bounds.iter().all(|bound| holds(*bound))) {
            (_, true) => T::Yes,
            (false, _) => T::No,
            (true, false) => T::Dunno,
        }
    }

    /// The canonical name of a symbol: aliases of the operand's taxonomy are the same thing.
    fn canonical(&self, atom: &Atom, name: &str) -> String {
        self.tables
            .taxonomy(&atom.operand)
            .and_then(|taxonomy| taxonomy.find(name))
            .map_or_else(|| name.to_owned(), |term| term.iri.clone())
    }

    fn within(&self, atom: &Atom, lower: &str, upper: &str) -> bool {
        let (lower, upper) = (self.canonical(atom, lower), self.canonical(atom, upper));
        lower == upper
            || self
                .tables
                .taxonomy(&atom.operand)
                .and_then(|taxonomy| taxonomy.find(&lower))
                .is_some_and(|term| term.broader.iter().any(|broader| self.within(atom, broader, &upper)))
    }

    fn symbols(&self, atom: &Atom, values: &[&str], several: bool) -> T {
        let rights: Vec<String> = atom.rights.iter().map(Right::text).collect();
        let each = |test: &dyn Fn(&str) -> bool| {
            let found: Vec<bool> = values.iter().map(|value| test(value)).collect();
            match (found.contains(&true), found.contains(&false)) {
                (true, false) => T::Yes,
                (false, true) => T::No,
                // One role that fits is enough, and who holds none holds none that fits.
                (fits, _) if atom.operand.held && several => truth(fits),
                // None at all, or some and some not.
                _ => T::Dunno,
            }
        };
        let flip = |found: T| match found {
            T::Yes => T::No,
            T::No => T::Yes,
            other => other,
        };
        if atom.operand.kind == OperandType::Ordered && atom.operator.is_order() {
            let terms = &self.tables.taxonomy(&atom.operand).unwrap().terms;
            let place = |name: &str| terms.iter().position(|term| term.iri == self.canonical(atom, name));
            let bound = place(&rights[0]).unwrap();
            return each(&|value| {
                place(value).is_some_and(|place| match atom.operator {
                    Operator::Eq => place == bound,
                    Operator::Neq => place != bound,
                    Operator::Lt => place < bound,
                    Operator::Lteq => place <= bound,
                    Operator::Gt => place > bound,
                    _ => place >= bound,
                })
            });
        }
        let same = |value: &str| rights.iter().any(|right| self.canonical(atom, value) == *right);
        let below = |value: &str| rights.iter().any(|right| self.within(atom, value, right));
        match atom.operator {
            Operator::Eq => each(&same),
            Operator::Neq => flip(each(&same)),
            Operator::IsA | Operator::IsAnyOf | Operator::IsPartOf => each(&below),
            Operator::IsNoneOf => flip(each(&below)),
            Operator::IsAllOf => {
                truth(rights.iter().all(|right| values.iter().any(|value| self.within(atom, value, right))))
            }
            Operator::HasPart => {
                truth(rights.iter().all(|right| values.iter().any(|value| self.within(atom, right, value))))
            }
            _ => T::Dunno,
        }
    }
}

/// A differential test over policies that always deny would prove nothing.
#[test]
fn generators_reach_every_outcome() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..400 {
        let mut value =
            |strategy: BoxedStrategy<(Json, Facts, Asked)>| strategy.new_tree(&mut runner).unwrap().current();
        let (json, facts, parts) = value((policy_json(), facts(), request()).boxed());
        let outcome = read(&json).decide(&ask(&parts), &facts).outcome;
        *seen.entry(format!("{outcome:?}")).or_insert(0) += 1;
    }
    assert!(seen.len() == 3 && seen.values().all(|count| *count >= 20), "{seen:?}");
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn fast_and_naive_agree(json in policy_json(), facts in facts(), parts in proptest::collection::vec(request(), 4)) {
        let policy = read(&json);
        for parts in &parts {
            let request = ask(parts);
            let fast = policy.decide(&request, &facts);
            let naive = evaluate(policy.model(), policy.tables(), &request, &facts);
            prop_assert_eq!(fast.outcome, naive, "{:?} {:?}", request, facts);
            prop_assert_eq!(fast.outcome == Outcome::Permit, fast.code.is_none());
        }
    }

    #[test]
    fn canonical_text_keeps_the_policy(json in policy_json(), facts in facts(), parts in request()) {
        let policy = read(&json);
        let again = Policy::from_json(policy.canonical_text(), &Profiles::shipped()).unwrap();
        prop_assert_eq!(again.canonical_text(), policy.canonical_text());
        prop_assert!(again.terms_equal(&policy));
        prop_assert_eq!(again.decide(&ask(&parts), &facts).outcome, policy.decide(&ask(&parts), &facts).outcome);
        prop_assert_eq!(again.render(Lang::ZhHans), policy.render(Lang::ZhHans));
    }

    #[test]
    fn order_and_doubles_do_not_matter(json in policy_json()) {
        let mut turned = json.clone();
        for member in ["permission", "prohibition"] {
            let list = turned[member].as_array_mut().unwrap();
            list.reverse();
            let first = list.first().cloned();
            list.extend(first);
        }
        prop_assert_eq!(read(&turned).hash(), read(&json).hash());
    }

    #[test]
    fn more_prohibitions_or_constraints_never_permit_more(
        json in policy_json(), rule in rule(), constraint in constraint(), facts in facts(), parts in request(),
    ) {
        let request = ask(&parts);
        let before = read(&json).decide(&request, &facts).outcome;
        let mut stricter = json.clone();
        stricter["prohibition"].as_array_mut().unwrap().push(rule);
        if before != Outcome::Permit {
            prop_assert_ne!(read(&stricter).decide(&request, &facts).outcome, Outcome::Permit);
        }
        let mut narrower = json;
        for permission in narrower["permission"].as_array_mut().unwrap() {
            permission["constraint"].as_array_mut().unwrap().push(constraint.clone());
        }
        if before != Outcome::Permit {
            prop_assert_ne!(read(&narrower).decide(&request, &facts).outcome, Outcome::Permit);
        }
    }

    #[test]
    fn learning_a_fact_never_turns_an_answer(json in policy_json(), full in facts(), keep in any::<u8>(), parts in request()) {
        let policy = read(&json);
        let request = Request { stage: Stage::Use, ..ask(&parts) };
        let mut fewer = full.clone();
        let mut index = 0;
        fewer.entries.retain(|_| { index += 1; keep >> (index % 8) & 1 == 1 });
        let (little, much) = (policy.decide(&request, &fewer).outcome, policy.decide(&request, &full).outcome);
        if little != Outcome::Unknown {
            prop_assert_eq!(little, much);
        }
    }

    #[test]
    fn an_answer_holds_until_it_says(json in policy_json(), facts in facts(), parts in request(), part in 0.0..1.0_f64) {
        let policy = read(&json);
        let request = ask(&parts);
        let decision = policy.decide(&request, &facts);
        let end = decision.valid_until.map_or(facts.now.0 + 60 * DAY_MILLIS, |at| at.0 - 1);
        prop_assert!(end >= facts.now.0);
        for at in [end, facts.now.0 + ((end - facts.now.0) as f64 * part) as i64] {
            let later = Facts { now: UnixMillis(at), ..facts.clone() };
            prop_assert_eq!(policy.decide(&request, &later).outcome, decision.outcome, "at {}", UnixMillis(at));
        }
    }

    #[test]
    fn the_explanation_agrees(json in policy_json(), facts in facts(), parts in request()) {
        let policy = read(&json);
        let request = ask(&parts);
        let decision = policy.decide(&request, &facts);
        let explanation = policy.explain(&request, &facts, Lang::En);
        prop_assert_eq!(explanation.code, decision.code.map(|code| code.code));
        if decision.is_permit() {
            let rule = &explanation.rules[0];
            prop_assert_eq!(Some(rule.number), decision.rule());
            prop_assert!(matches!(rule.applies, "true" | "deferred"), "{:?}", rule);
            prop_assert!(rule.parts.iter().all(|part| part.remedy.is_none() || part.holds != "true"));
        } else if decision.rule().is_some() {
            let rule = explanation.rules.iter().find(|rule| Some(rule.number) == decision.rule()).unwrap();
            let expected: &[&str] = match (rule.kind, decision.outcome) {
                ("permission", Outcome::Deny) => &["false"],
                ("permission", _) => &["unknown"],
                (_, Outcome::Deny) => &["true"],
                _ => &["unknown"],
            };
            prop_assert!(expected.contains(&rule.applies), "{:?} {:?}", rule, decision.outcome);
        }
    }

    #[test]
    fn a_yes_of_the_comparison_is_never_contradicted(
        json in policy_json(), other in policy_json(), constraint in constraint(), facts in facts(),
        parts in proptest::collection::vec(request(), 4), derived in any::<bool>(),
    ) {
        let mut narrower = json.clone();
        for permission in narrower["permission"].as_array_mut().unwrap() {
            permission["constraint"].as_array_mut().unwrap().push(constraint.clone());
        }
        let strict = read(if derived { &narrower } else { &other });
        let wide = read(&json);
        let found = crate::compare::refines(&strict, &wide);
        if derived {
            prop_assert_ne!(found.answer, crate::compare::Answer::No, "{}", found.reason);
        }
        let meeting = crate::compare::conflict(&strict, &wide);
        let facts = Facts { duties: std::collections::BTreeMap::new(), ..facts };
        for parts in &parts {
            let request = Request { stage: Stage::Use, ..ask(parts) };
            let (here, there) = (strict.decide(&request, &facts).outcome, wide.decide(&request, &facts).outcome);
            if found.answer == crate::compare::Answer::Yes && here == Outcome::Permit {
                prop_assert_ne!(there, Outcome::Deny, "{:?}", request);
            }
            if meeting.verdict == crate::compare::Meeting::Conflict && meeting.witness.is_none() {
                prop_assert!(here != Outcome::Permit || there != Outcome::Permit, "{:?}", request);
            }
        }
    }
}
