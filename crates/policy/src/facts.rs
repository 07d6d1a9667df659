//! What is known at the moment of a decision: each fact with its source and its time.

use std::collections::BTreeMap;

use crate::profile::{Source, Stage};
use crate::time::UnixMillis;
use crate::units::CountUnit;
use crate::value::{Symbol, Value};
use crate::vocab::operand;

/// Who wants to do what with which dataset, and at which point in the life of the agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The action's IRI. At [`Stage::Use`] exactly this action; before it, «any action covered by this one».
    pub action: &'a str,
    /// The dataset.
    pub target: &'a str,
    /// The participant who asks.
    pub assignee: &'a str,
    /// The point in the life of the agreement.
    pub stage: Stage,
}

/// How far a duty is, as the caller's duty store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DutyState {
    /// Not done, and it can still be done.
    Pending,
    /// Done.
    Fulfilled,
    /// It can no longer be done in time.
    Violated,
}

impl DutyState {
    /// `pending`, `fulfilled` or `violated`.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "pending" => Some(Self::Pending),
            "fulfilled" => Some(Self::Fulfilled),
            "violated" => Some(Self::Violated),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub operand: Symbol,
    pub value: Value,
    pub source: Source,
    pub at: UnixMillis,
}

/// The facts of one decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub(crate) now: UnixMillis,
    pub(crate) entries: Vec<Fact>,
    pub(crate) duties: BTreeMap<String, DutyState>,
    pub(crate) members: Vec<(Symbol, Symbol)>,
}

impl Facts {
    /// Only the current time is known.
    pub const fn at(now: UnixMillis) -> Self {
        Self { now, entries: Vec::new(), duties: BTreeMap::new(), members: Vec::new() }
    }

    /// The current time.
    pub const fn now(&self) -> UnixMillis {
        self.now
    }

    /// Adds a fact, replacing an earlier one about the same operand. `at` is when it was true.
    ///
    /// The clock is `now` and cannot be replaced: a fact about `odrl:dateTime` is ignored.
    #[must_use]
    pub fn with(mut self, operand: &str, value: Value, source: Source, at: UnixMillis) -> Self {
        let fact = Fact { operand: Symbol::new(operand), value, source, at };
        match self.entries.iter_mut().find(|known| known.operand == fact.operand) {
            Some(known) => *known = fact,
            None => self.entries.push(fact),
        }
        self
    }

    /// The purpose that the user declares.
    #[must_use]
    pub fn purpose(self, purpose: &str) -> Self {
        let now = self.now;
        self.with(operand::PURPOSE, Value::symbol(purpose), Source::Asserted, now)
    }

    /// Where the participant is registered, from the membership statement: `HK`, `MO`, `CN` or an IRI. Its connector
    /// stands there, so this is the place of use as well.
    #[must_use]
    pub fn jurisdiction(self, code: &str) -> Self {
        let now = self.now;
        self.with(operand::SPATIAL, Value::symbol(code), Source::Registered, now).with(
            operand::JURISDICTION,
            Value::symbol(code),
            Source::Registered,
            now,
        )
    }

    /// Uses already spent, from our durable counter.
    #[must_use]
    pub fn uses_spent(self, spent: u64) -> Self {
        let now = self.now;
        let spent = i64::try_from(spent).unwrap_or(i64::MAX);
        self.with(operand::COUNT, Value::whole(spent), Source::LocalCounter, now)
    }

    /// What one of the uses in [`Facts::uses_spent`] is.
    #[must_use]
    pub fn unit_of_count(self, unit: CountUnit) -> Self {
        let now = self.now;
        self.with(operand::UNIT_OF_COUNT, Value::symbol(unit.iri()), Source::LocalCounter, now)
    }

    /// When the data was first used; before the first use give `now`.
    #[must_use]
    pub fn first_use(self, at: UnixMillis) -> Self {
        let now = self.now;
        self.with(operand::ELAPSED_TIME, Value::Instant(at), Source::LocalClock, now).with(
            operand::SINCE_FIRST_USE,
            Value::Instant(at),
            Source::LocalClock,
            now,
        )
    }

    /// When the provider granted the last key lease.
    #[must_use]
    pub fn leased(self, at: UnixMillis) -> Self {
        let now = self.now;
        self.with(operand::KEY_LEASE, Value::Instant(at), Source::LocalClock, now)
    }

    /// When the agreement was signed; without it the agreement's own timestamp counts.
    #[must_use]
    pub fn signed(self, at: UnixMillis) -> Self {
        let now = self.now;
        self.with(operand::SINCE_SIGNING, Value::Instant(at), Source::LocalClock, now)
    }

    /// How far a duty is, by its key.
    #[must_use]
    pub fn duty(mut self, key: &str, state: DutyState) -> Self {
        self.duties.insert(key.to_owned(), state);
        self
    }

    /// That `member` belongs to the party or asset collection `collection`, directly or through others.
    #[must_use]
    pub fn member(mut self, member: &str, collection: &str) -> Self {
        let entry = (Symbol::new(member), Symbol::new(collection));
        if !self.members.contains(&entry) {
            self.members.push(entry);
        }
        self
    }

    pub(crate) fn belongs(&self, member: &str, collection: &str) -> bool {
        // Each step goes one collection up; circles end with the bound. At most this many facts are looked at in all,
        // so that a tangle of collections cannot hold up a decision.
        fn reaches(facts: &Facts, from: &str, to: &str, depth: usize, budget: &mut usize) -> bool {
            if depth == 0 {
                return false;
            }
            facts.members.iter().any(|(member, collection)| {
                *budget = budget.saturating_sub(1);
                *budget > 0
                    && member.as_str() == from
                    && (collection.as_str() == to
                        || reaches(facts, collection.as_str(), to, depth - 1, budget))
            })
        }
        let mut budget = MAX_MEMBERSHIP_STEPS;
        member == collection || reaches(self, member, collection, MAX_MEMBERSHIP_DEPTH, &mut budget)
    }
}

/// The most membership facts looked at in one question: a thousand collections are followed, a tangle is not.
const MAX_MEMBERSHIP_STEPS: usize = 100_000;
/// The longest chain of collections within collections that is followed.
const MAX_MEMBERSHIP_DEPTH: usize = 8;
