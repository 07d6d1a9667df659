//! Evaluation of one rule: constraints, match and pre-conditions over facts, in four truth values.
//!
//! `Deferred` stands between unknown and true: unknown only because the stage comes too early to know. At
//! [`Stage::Use`] it does not occur.

use std::cell::Cell;

use crate::decide::{
    CONSTRAINT_UNMET, COUNT_SPENT, DUTY_UNFULFILLED, FACT_MISSING, FACT_UNTRUSTED, NOT_COMPARABLE,
    OUTSIDE_TIME, PARTY_NOT_PERMITTED, PLACE_NOT_PERMITTED, PURPOSE_NOT_PERMITTED,
};
use crate::facts::{DutyState, Fact, Facts, Request};
use crate::ir::{
    CompiledRule, CompiledThing, DUTY_BIT, Leaf, MAX_SLOTS, NodeKind, Order, Program, Slot, SlotKind, Test,
};
use crate::model::Logic;
use crate::policy::Policy;
use crate::profile::{Family, OperandType, Phase, Stage};
use crate::refusal::Code;
use crate::tables::{ActionSet, Tables};
use crate::time::UnixMillis;
use crate::value::{DAY_MILLIS, Value, hash};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Truth {
    False,
    Unknown,
    Deferred,
    True,
}

/// Why a leaf is not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    Decided,
    Missing,
    Deferred,
    Untrusted,
    NotComparable,
    NotEnforceable,
}

pub(crate) fn both(left: Truth, right: Truth) -> Truth {
    left.min(right)
}

/// No fact was looked for yet.
const NOT_SOUGHT: u16 = u16::MAX;
/// There is no such fact.
const NO_FACT: u16 = u16::MAX - 1;

/// The state of one decision in the making.
pub(crate) struct Context<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) program: &'a Program,
    pub(crate) request: &'a Request<'a>,
    pub(crate) facts: &'a Facts,
    signed: Option<UnixMillis>,
    /// Where among the facts each slot's fact stands, once it was looked for: small, as every decision clears it.
    places: [Cell<u16>; MAX_SLOTS],
    pub(crate) read: u64,
    pub(crate) valid_until: i64,
    /// Of the rule being read: slots that are deferred, and slots that are unknown.
    pub(crate) deferred: u64,
    pub(crate) unknown: u64,
    /// Of the rule being read: the first reason it is not true.
    pub(crate) reason: Option<&'static Code>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(policy: &'a Policy, request: &'a Request<'a>, facts: &'a Facts) -> Self {
        Self {
            tables: policy.tables(),
            program: policy.program(),
            request,
            facts,
            signed: policy.timestamp(),
            places: [const { Cell::new(NOT_SOUGHT) }; MAX_SLOTS],
            read: 0,
            valid_until: i64::MAX,
            deferred: 0,
            unknown: 0,
            reason: None,
        }
    }

    pub(crate) fn implied(&self, action: usize) -> ActionSet {
        self.tables.implied(action)
    }

    fn flips_at(&mut self, at: i64) {
        if at > self.facts.now.0 {
            self.valid_until = self.valid_until.min(at);
        }
    }

    fn flips(&mut self, order: Order, from: i64, lo: i64, hi: i64) {
        let (lo, hi) = (from.saturating_add(lo), from.saturating_add(hi));
        if order != Order::Lteq && order != Order::Gt {
            self.flips_at(lo);
            self.flips_at(hi);
        }
        if order != Order::Lt && order != Order::Gteq {
            self.flips_at(lo.saturating_add(1));
            self.flips_at(hi.saturating_add(1));
        }
    }

    pub(crate) fn slot(&self, leaf: &Leaf) -> Option<&'a Slot> {
        self.program.slots.get(usize::from(leaf.slot))
    }

    pub(crate) fn fact(&self, leaf: &Leaf) -> Option<&'a Fact> {
        let known = self.places.get(usize::from(leaf.slot))?;
        match known.get() {
            NO_FACT => return None,
            NOT_SOUGHT => {}
            place => return self.facts.entries.get(usize::from(place)),
        }
        let slot = self.slot(leaf)?;
        let found = self.facts.entries.iter().position(|fact| fact.operand == slot.fact);
        match found {
            None => known.set(NO_FACT),
            // Behind so many facts it is looked for each time.
            Some(place) => {
                known.set(u16::try_from(place).ok().filter(|place| *place < NO_FACT).unwrap_or(NOT_SOUGHT))
            }
        }
        self.facts.entries.get(found?)
    }

    /// One atomic constraint; also used by the explanation.
    pub(crate) fn leaf(&mut self, leaf: &Leaf) -> (Truth, Why) {
        let Some(slot) = self.slot(leaf) else { return (Truth::Unknown, Why::NotEnforceable) };
        self.read |= 1_u64 << leaf.slot;
        if let Test::Undecided = leaf.test {
            return if slot.deferred_at(self.request.stage) {
                (Truth::Deferred, Why::Deferred)
            } else {
                (Truth::Unknown, Why::NotEnforceable)
            };
        }
        let now = self.facts.now.0;
        match slot.kind {
            SlotKind::Clock => {
                let truth = self.instant(&leaf.test, now);
                // An offer that begins next month can be seen and signed today.
                if truth == Some(Truth::False)
                    && self.request.stage < Stage::Transfer
                    && begins(&leaf.test, now)
                {
                    return (Truth::Deferred, Why::Deferred);
                }
                return decided(truth);
            }
            SlotKind::Participant if self.fact(leaf).is_none() => {
                let one = [(hash(self.request.assignee), self.request.assignee)];
                return decided(symbols(&leaf.test, one.into_iter()));
            }
            SlotKind::Participant | SlotKind::Fact => {}
        }
        let Some(fact) = self.fact(leaf) else {
            return match (&leaf.test, self.signed) {
                (Test::Millis { order, lo, hi }, Some(signed)) if slot.signing => {
                    decided(self.since(*order, signed.0, *lo, *hi))
                }
                _ if slot.deferred_at(self.request.stage) => (Truth::Deferred, Why::Deferred),
                _ => (Truth::Unknown, Why::Missing),
            };
        };
        if fact.source.rank() < leaf.minimum_rank {
            return (Truth::Unknown, Why::Untrusted);
        }
        let truth = match (&leaf.test, &fact.value) {
            (Test::Millis { order, lo, hi }, Value::Instant(start))
                if slot.info.kind == OperandType::Since =>
            {
                self.since(*order, start.0, *lo, *hi)
            }
            (Test::Millis { order, lo, hi }, Value::Duration(millis)) => {
                if slot.info.kind == OperandType::Since {
                    self.since(*order, now.saturating_sub(*millis), *lo, *hi)
                } else {
                    Some(compare(*order, *millis, *lo, *hi))
                }
            }
            (Test::Number { order, bound, unit, counts }, Value::Number(number, fact_unit)) => {
                let number = if *counts { number.next() } else { *number };
                (unit == fact_unit).then(|| {
                    let holds = match order {
                        Order::Lt => number < *bound,
                        Order::Lteq => number <= *bound,
                        Order::Gt => number > *bound,
                        Order::Gteq => number >= *bound,
                        Order::Eq => number == *bound,
                        Order::Neq => number != *bound,
                    };
                    if holds { Truth::True } else { Truth::False }
                })
            }
            (test, Value::Symbol(symbol)) => symbols(test, std::iter::once((symbol.hash(), symbol.as_str()))),
            (test, Value::Symbols(list)) => {
                let values = list.iter().map(|symbol| (symbol.hash(), symbol.as_str()));
                if slot.info.held { held(test, values) } else { symbols(test, values) }
            }
            _ => None,
        };
        decided(truth)
    }

    fn instant(&mut self, test: &Test, now: i64) -> Option<Truth> {
        match test {
            Test::Instant { order, lo, hi } => {
                self.flips(*order, 0, *lo, *hi);
                Some(compare(*order, now, *lo, *hi))
            }
            Test::Day { outside, start_lo, start_hi } => {
                let (end_lo, end_hi) =
                    (start_lo.saturating_add(DAY_MILLIS), start_hi.saturating_add(DAY_MILLIS));
                for at in [*start_lo, *start_hi, end_lo, end_hi] {
                    self.flips_at(at);
                }
                let (yes, no) =
                    if *outside { (Truth::False, Truth::True) } else { (Truth::True, Truth::False) };
                Some(if now >= *start_hi && now < end_lo {
                    yes
                } else if now < *start_lo || now >= end_hi {
                    no
                } else {
                    Truth::Unknown
                })
            }
            _ => None,
        }
    }

    fn since(&mut self, order: Order, start: i64, lo: i64, hi: i64) -> Option<Truth> {
        let elapsed = self.facts.now.0.saturating_sub(start);
        // What begins in the future has not begun: nothing can be said about the time since then.
        if elapsed < 0 {
            self.flips_at(start);
            return None;
        }
        self.flips(order, start, lo, hi);
        Some(compare(order, elapsed, lo, hi))
    }

    fn note(&mut self, leaf: &Leaf, truth: Truth, why: Why) {
        match truth {
            Truth::Deferred => self.deferred |= 1_u64 << leaf.slot,
            Truth::Unknown => {
                self.unknown |= 1_u64 << leaf.slot;
                self.reason.get_or_insert(match why {
                    Why::Untrusted => &FACT_UNTRUSTED,
                    Why::NotComparable | Why::NotEnforceable | Why::Decided => &NOT_COMPARABLE,
                    Why::Missing | Why::Deferred => &FACT_MISSING,
                });
            }
            Truth::False => {
                let family = self.slot(leaf).map_or(Family::Other, Slot::family);
                self.reason.get_or_insert(match family {
                    Family::Time => &OUTSIDE_TIME,
                    // «At least so many» is not met by uses that are left.
                    Family::Count if is_lower_bound(&leaf.test) => &CONSTRAINT_UNMET,
                    Family::Count => &COUNT_SPENT,
                    Family::Purpose => &PURPOSE_NOT_PERMITTED,
                    Family::Place => &PLACE_NOT_PERMITTED,
                    Family::Party => &PARTY_NOT_PERMITTED,
                    Family::Other => &CONSTRAINT_UNMET,
                });
            }
            Truth::True => {}
        }
    }

    fn node(&mut self, index: u32) -> Truth {
        #[cfg(test)]
        crate::bounds::unit();
        let program = self.program;
        match program.nodes.get(index as usize) {
            Some(NodeKind::Leaf(leaf)) => {
                let (truth, why) = self.leaf(leaf);
                self.note(leaf, truth, why);
                truth
            }
            Some(NodeKind::Logic { logic, children }) => match logic {
                Logic::And | Logic::AndSequence => self.all(children.clone()),
                Logic::Or => self.any(children.clone()),
                Logic::Xone => {
                    let truth = exactly_one(children.clone().map(|child| self.node(child)));
                    if truth == Truth::False {
                        // Two that hold leave no failing part behind that would name a reason.
                        self.reason.get_or_insert(&CONSTRAINT_UNMET);
                    }
                    truth
                }
            },
            // Early on a bound may be deferred, which the fused form cannot say.
            Some(NodeKind::Intervals { children, .. }) if self.request.stage < Stage::Transfer => {
                self.any(children.clone())
            }
            Some(NodeKind::Intervals { slot, intervals, .. }) => self.intervals(*slot, intervals),
            None => Truth::Unknown,
        }
    }

    fn any(&mut self, nodes: std::ops::Range<u32>) -> Truth {
        let mut best = Truth::False;
        for node in nodes {
            best = best.max(self.node(node));
            if best == Truth::True {
                break;
            }
        }
        best
    }

    fn intervals(&mut self, slot: u8, intervals: &[(i64, i64)]) -> Truth {
        self.read |= 1_u64 << slot;
        let now = self.facts.now.0;
        let next = intervals.partition_point(|(_, end)| *end < now);
        match intervals.get(next) {
            Some((start, end)) if *start <= now => {
                self.flips_at(end.saturating_add(1));
                Truth::True
            }
            other => {
                if let Some((start, _)) = other {
                    self.flips_at(*start);
                }
                self.reason.get_or_insert(&OUTSIDE_TIME);
                Truth::False
            }
        }
    }

    pub(crate) fn all(&mut self, nodes: std::ops::Range<u32>) -> Truth {
        let mut worst = Truth::True;
        for node in nodes {
            worst = worst.min(self.node(node));
            if worst == Truth::False {
                break;
            }
        }
        worst
    }

    pub(crate) fn thing(&mut self, thing: &CompiledThing, named: &str) -> Truth {
        let named_so = if thing.symbol.as_str() == named {
            Truth::True
        } else if !thing.collection {
            Truth::False
        } else if self.facts.belongs(named, thing.symbol.as_str()) {
            Truth::True
        } else {
            // Nobody has said that it does not belong either.
            Truth::Unknown
        };
        if named_so == Truth::False {
            Truth::False
        } else {
            both(named_so, self.all(thing.refinements.clone()))
        }
    }

    /// Match and conditions of a rule, without its action.
    pub(crate) fn rule(&mut self, rule: &CompiledRule) -> Truth {
        self.deferred = 0;
        self.unknown = 0;
        self.reason = None;
        let mut truth = Truth::True;
        if let Some(target) = &rule.target {
            truth = both(truth, self.thing(target, self.request.target));
        }
        if truth != Truth::False
            && let Some(assignee) = &rule.assignee
        {
            truth = both(truth, self.thing(assignee, self.request.assignee));
            if truth == Truth::False {
                self.reason.get_or_insert(&PARTY_NOT_PERMITTED);
            }
        }
        if truth == Truth::Unknown {
            self.reason.get_or_insert(&FACT_MISSING);
        }
        if truth == Truth::False { Truth::False } else { both(truth, self.all(rule.conditions.clone())) }
    }

    /// The duties that must be fulfilled before a permission can be used.
    pub(crate) fn preconditions(&mut self, rule: &CompiledRule) -> Truth {
        let mut worst = Truth::True;
        for index in rule.duties.clone() {
            let program = self.program;
            let Some(duty) = program.duties.get(index as usize) else { continue };
            let state = self.facts.duties.get(&*duty.key).copied();
            let fulfilled = match (duty.phase, state) {
                (_, Some(DutyState::Fulfilled)) => Truth::True,
                (_, Some(DutyState::Violated)) => Truth::False,
                (Phase::With | Phase::After, _) => Truth::True,
                (Phase::Before, _) if self.request.stage < Stage::Use => Truth::Deferred,
                (Phase::Before, Some(DutyState::Pending)) => Truth::False,
                (Phase::Before, None) => Truth::Unknown,
            };
            if fulfilled == Truth::True {
                continue;
            }
            // A duty whose own constraints do not hold is not active.
            let (reason, unknown, deferred) = (self.reason, self.unknown, self.deferred);
            let active = self.all(duty.conditions.clone());
            self.reason = reason;
            if active == Truth::False {
                (self.unknown, self.deferred) = (unknown, deferred);
                continue;
            }
            let truth = if active == Truth::True { fulfilled } else { active.min(Truth::Deferred) };
            match truth {
                Truth::Deferred => self.deferred |= DUTY_BIT,
                Truth::Unknown => self.unknown |= DUTY_BIT,
                Truth::False | Truth::True => {}
            }
            self.reason.get_or_insert(&DUTY_UNFULFILLED);
            worst = both(worst, truth);
        }
        worst
    }
}

fn is_lower_bound(test: &Test) -> bool {
    matches!(test, Test::Number { order: Order::Gt | Order::Gteq, .. })
}

fn decided(truth: Option<Truth>) -> (Truth, Why) {
    match truth {
        Some(Truth::Unknown) | None => (Truth::Unknown, Why::NotComparable),
        Some(truth) => (truth, Why::Decided),
    }
}

/// Whether a bound that does not hold yet will hold at some later time.
fn begins(test: &Test, now: i64) -> bool {
    match test {
        Test::Instant { order: Order::Gt | Order::Gteq | Order::Neq, .. } => true,
        Test::Instant { order: Order::Eq, lo, hi } => lo == hi && now < *lo,
        Test::Day { outside, start_lo, start_hi } => {
            // Some instant lies within the day whatever the zone only if the day is longer than the doubt about it.
            *outside || (now < *start_lo && start_hi - start_lo < DAY_MILLIS)
        }
        _ => false,
    }
}

fn compare(order: Order, value: i64, lo: i64, hi: i64) -> Truth {
    let (yes, no) = match order {
        Order::Lt => (value < lo, value >= hi),
        Order::Lteq => (value <= lo, value > hi),
        Order::Gt => (value > hi, value <= lo),
        Order::Gteq => (value >= hi, value < lo),
        Order::Eq => (value == lo && lo == hi, value < lo || value > hi),
        Order::Neq => (value < lo || value > hi, value == lo && lo == hi),
    };
    match (yes, no) {
        (true, _) => Truth::True,
        (_, true) => Truth::False,
        (false, false) => Truth::Unknown,
    }
}

/// A set of symbols against a test. With several symbols at once of which only some are listed, nothing is decided:
/// a permission must not hold for a hidden second purpose, nor a prohibition be escaped by naming one more.
fn symbols<'s>(test: &Test, values: impl Iterator<Item = (u64, &'s str)> + Clone) -> Option<Truth> {
    let within = |set: &crate::ir::SymbolSet| {
        let (mut inside, mut outside) = (0_usize, 0_usize);
        for (hash, text) in values.clone() {
            if set.contains(hash, text) {
                inside += 1;
            } else {
                outside += 1;
            }
        }
        match (inside, outside) {
            (0, 0) => None,
            (_, 0) => Some(true),
            (0, _) => Some(false),
            _ => None,
        }
    };
    let truth = |holds: bool| if holds { Truth::True } else { Truth::False };
    match test {
        Test::In(set) => within(set).map(truth),
        Test::NotIn(set) => within(set).map(|inside| truth(!inside)),
        Test::All(sets) => {
            Some(truth(sets.iter().all(|set| values.clone().any(|(hash, text)| set.contains(hash, text)))))
        }
        _ => None,
    }
}

/// What somebody holds against a test: one of the values is enough, and none of them must be excluded.
fn held<'s>(test: &Test, values: impl Iterator<Item = (u64, &'s str)> + Clone) -> Option<Truth> {
    let any = |set: &crate::ir::SymbolSet| values.clone().any(|(hash, text)| set.contains(hash, text));
    let holds = match test {
        Test::In(set) => any(set),
        Test::NotIn(set) => !any(set),
        Test::All(sets) => sets.iter().all(any),
        _ => return None,
    };
    Some(if holds { Truth::True } else { Truth::False })
}

/// ODRL `xone`; a second true one makes it false, whatever the others are.
pub(crate) fn exactly_one(parts: impl Iterator<Item = Truth>) -> Truth {
    let (mut trues, mut unknown, mut deferred) = (0_usize, false, false);
    for part in parts {
        match part {
            Truth::True => trues += 1,
            Truth::Unknown => unknown = true,
            Truth::Deferred => deferred = true,
            Truth::False => {}
        }
    }
    match (trues, unknown, deferred) {
        (2.., _, _) => Truth::False,
        (_, true, _) => Truth::Unknown,
        (_, false, true) => Truth::Deferred,
        (1, false, false) => Truth::True,
        (_, false, false) => Truth::False,
    }
}
