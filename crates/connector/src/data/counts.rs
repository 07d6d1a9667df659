//! What a use costs under a policy that counts: by session, by object or by day.
//!
//! Each unit has a counter of its own, whose key says it. A step of a session is weighed against what is already
//! counted; the transaction that decides it also counts it, before any byte that it pays for is released.

use control_plane::ids::AgreementId;
use control_plane::{Refusal, UnixMillis};
use policy::{CountUnit, Policy};
use store::{Added, Snapshot, Tx};

use super::holdings::uses_counter;
use crate::enforceable;
use crate::error::Error;

/// A UTC day; ODRL names no zone, and both parties must agree on where a day ends.
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// What was counted under an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// What one count is.
    pub unit: CountUnit,
    /// How many.
    pub spent: u64,
    /// By day: the last day that was counted, in days since 1970-01-01; `None` before the first.
    pub last_day: Option<i64>,
}

/// A step of a use session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It opens; with one object that it is about, or with none yet.
    Opens {
        /// Whether its first object is known.
        with_object: bool,
    },
    /// It opens an object.
    Object {
        /// Whether the session has opened this object before.
        again: bool,
    },
    /// It goes on.
    GoesOn,
}

/// What a step costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// One more unit.
    Unit,
    /// Nothing: it belongs to what was counted.
    Counted,
    /// Nothing yet; there must be a unit left for what follows.
    Later,
}

impl Counted {
    /// What a step costs at `now`.
    pub fn cost(&self, step: Step, now: UnixMillis) -> Cost {
        match (self.unit, step) {
            (CountUnit::Session, Step::Opens { .. }) => Cost::Unit,
            (CountUnit::Session, Step::Object { .. } | Step::GoesOn) => Cost::Counted,
            (CountUnit::Object, Step::Opens { with_object: true } | Step::Object { again: false }) => {
                Cost::Unit
            }
            (CountUnit::Object, Step::Opens { with_object: false }) => Cost::Later,
            (CountUnit::Object, Step::Object { again: true } | Step::GoesOn) => Cost::Counted,
            // Any other day than the last one, also an earlier one: a clock that went back gains nothing.
            (CountUnit::Day, _) if self.last_day != Some(day(now)) => Cost::Unit,
            (CountUnit::Day, _) => Cost::Counted,
        }
    }

    /// What a decision about a step of this cost is told: the policy counts the use that it decides in by itself.
    pub const fn before(&self, cost: Cost) -> u64 {
        match cost {
            Cost::Unit | Cost::Later => self.spent,
            Cost::Counted => self.spent.saturating_sub(1),
        }
    }

    /// How long a decision of `now` can hold as far as counting goes: by day until midnight, UTC.
    pub fn until(&self, now: UnixMillis) -> Option<UnixMillis> {
        match self.unit {
            CountUnit::Day => Some(UnixMillis(day(now).saturating_add(1).saturating_mul(DAY_MILLIS))),
            CountUnit::Session | CountUnit::Object => None,
        }
    }
}

/// The UTC day of an instant, in days since 1970-01-01.
pub const fn day(now: UnixMillis) -> i64 {
    now.0.div_euclid(DAY_MILLIS)
}

/// The counter of an agreement for a unit. That of sessions is as old as the store, and has no word more.
fn counter(agreement: &AgreementId, unit: CountUnit) -> String {
    match unit {
        CountUnit::Session => uses_counter(agreement),
        CountUnit::Object | CountUnit::Day => format!("{} per-{}", uses_counter(agreement), unit.name()),
    }
}

/// Days since 1970-01-01 up to and with the last one counted; as a counter, it never goes back.
fn last_day_counter(agreement: &AgreementId) -> String {
    format!("{} last-day", uses_counter(agreement))
}

/// What was counted under an agreement, by whichever unit: its policy has one.
pub fn spent(store: &Snapshot<'_>, agreement: &AgreementId) -> Result<u64, Error> {
    let mut spent = 0;
    for unit in [CountUnit::Session, CountUnit::Object, CountUnit::Day] {
        spent = store.counter(&counter(agreement, unit))?.max(spent);
    }
    Ok(spent)
}

/// Takes what the provider was told before this state was restored: no count goes back. The day on which it was counted
/// last is not told, so a day may be counted twice.
pub fn raise(tx: &Tx<'_>, agreement: &AgreementId, policy: &Policy, told: u64) -> Result<(), Error> {
    let counter = counter(agreement, enforceable::count_unit(policy)?);
    let missing = told.saturating_sub(tx.counter(&counter)?);
    if missing > 0 {
        added(tx.counter_add(&counter, missing, None)?)?;
    }
    Ok(())
}

/// What was counted under an agreement, by its policy's unit.
///
/// # Errors
/// The policy's, where it does not say by which unit; the store's.
pub fn counted(store: &Snapshot<'_>, agreement: &AgreementId, policy: &Policy) -> Result<Counted, Error> {
    let unit = enforceable::count_unit(policy)?;
    let spent = store.counter(&counter(agreement, unit))?;
    let days = match unit {
        CountUnit::Day => store.counter(&last_day_counter(agreement))?,
        CountUnit::Session | CountUnit::Object => 0,
    };
    let last_day = i64::try_from(days).map_err(Error::ours)?.checked_sub(1).filter(|day| *day >= 0);
    Ok(Counted { unit, spent, last_day })
}

/// Counts a step of this cost, in the transaction that decided it by `counted`. Gives what is counted then.
pub fn count(
    tx: &Tx<'_>,
    agreement: &AgreementId,
    counted: &Counted,
    cost: Cost,
    now: UnixMillis,
) -> Result<u64, Error> {
    if cost != Cost::Unit {
        return Ok(counted.spent);
    }
    if counted.unit == CountUnit::Day {
        let known = counted.last_day.map_or(0, |day| day.saturating_add(1));
        let ahead = u64::try_from(day(now).saturating_add(1).saturating_sub(known)).unwrap_or(0);
        added(tx.counter_add(&last_day_counter(agreement), ahead, None)?)?;
    }
    // The policy has the ceiling, and this transaction decided by the counter's value.
    added(tx.counter_add(&counter(agreement, counted.unit), 1, None)?)
}

fn added(added: Added) -> Result<u64, Error> {
    match added {
        Added::Now(value) => Ok(value),
        // No store counts so far; what cannot be counted is not used.
        Added::CeilingReached { value, .. } => {
            Err(Refusal::new(&policy::COUNT_SPENT, value.to_string()).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// One event of a history: time goes on, a session opens, or an open session takes a step.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Passes(i64),
        Opens(Option<u8>),
        Reads { session: usize, object: u8 },
        GoesOn { session: usize },
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0_i64..DAY_MILLIS).prop_map(Event::Passes),
            proptest::option::of(0_u8..4).prop_map(Event::Opens),
            (0_usize..6, 0_u8..4).prop_map(|(session, object)| Event::Reads { session, object }),
            (0_usize..6).prop_map(|session| Event::GoesOn { session }),
        ]
    }

    /// The naive count: everything that was granted, as a set of what the unit tells apart.
    #[derive(Default)]
    struct Naive {
        sessions: BTreeSet<usize>,
        objects: BTreeSet<(usize, u8)>,
        days: BTreeSet<i64>,
    }

    impl Naive {
        fn spent(&self, unit: CountUnit) -> u64 {
            let spent = match unit {
                CountUnit::Session => self.sessions.len(),
                CountUnit::Object => self.objects.len(),
                CountUnit::Day => self.days.len(),
            };
            spent as u64
        }
    }

    /// Permitted up to `bound`, as a policy decides that counts the use in question in.
    fn permits(bound: u64, before: u64) -> bool {
        before < bound
    }

    fn check(unit: CountUnit, bound: u64, events: &[Event]) {
        let mut now = UnixMillis(DAY_MILLIS * 20_000);
        let mut counted = Counted { unit, spent: 0, last_day: None };
        let mut open: Vec<BTreeSet<u8>> = Vec::new();
        let mut naive = Naive::default();
        for event in events {
            let step = match *event {
                Event::Passes(millis) => {
                    now = now.plus_millis(millis);
                    continue;
                }
                Event::Opens(object) => Step::Opens { with_object: object.is_some() },
                Event::Reads { session, object } => match open.get(session) {
                    Some(read) => Step::Object { again: read.contains(&object) },
                    None => continue,
                },
                Event::GoesOn { session } if session < open.len() => Step::GoesOn,
                Event::GoesOn { .. } => continue,
            };
            let cost = counted.cost(step, now);
            let granted = permits(bound, counted.before(cost));
            let before = naive.spent(unit);
            if granted {
                if cost == Cost::Unit {
                    counted.spent += 1;
                    counted.last_day = Some(day(now));
                }
                let (session, object) = match *event {
                    Event::Opens(object) => {
                        open.push(object.into_iter().collect());
                        (open.len() - 1, object)
                    }
                    Event::Reads { session, object } => {
                        open[session].insert(object);
                        (session, Some(object))
                    }
                    Event::GoesOn { session } => (session, None),
                    Event::Passes(_) => unreachable!("time only passes"),
                };
                naive.sessions.insert(session);
                naive.objects.extend(object.map(|object| (session, object)));
                naive.days.insert(day(now));
            }
            assert_eq!(counted.spent, naive.spent(unit), "{unit:?} {event:?}");
            assert!(counted.spent <= bound, "{unit:?} {event:?}");
            // What is refused would have needed one more than there is; what is counted already never is.
            if !granted {
                assert_eq!(before, bound, "{unit:?} {event:?}");
                assert_ne!(cost, Cost::Counted, "{unit:?} {event:?}");
            }
            let until = counted.until(now);
            assert_eq!(until.is_some(), unit == CountUnit::Day);
            assert!(until.is_none_or(|until| until > now
                && day(until) == day(now) + 1
                && day(until.plus_millis(-1)) == day(now)));
        }
    }

    proptest! {
        #[test]
        fn every_history_counts_what_a_set_would(
            events in proptest::collection::vec(event(), 0..60),
            bound in 0_u64..12,
        ) {
            for unit in CountUnit::ALL {
                check(unit, bound, &events);
            }
        }
    }

    #[test]
    fn a_clock_that_went_back_gains_nothing() {
        let counted = Counted { unit: CountUnit::Day, spent: 3, last_day: Some(20_000) };
        let cost = |day: i64| counted.cost(Step::GoesOn, UnixMillis(day * DAY_MILLIS));
        assert_eq!((cost(20_000), cost(20_001), cost(19_999)), (Cost::Counted, Cost::Unit, Cost::Unit));
        assert_eq!(day(UnixMillis(-1)), -1);
    }

    #[test]
    fn counter_keys_are_frozen() {
        let id = AgreementId::parse("urn:a").unwrap();
        let keys = CountUnit::ALL.map(|unit| counter(&id, unit));
        assert_eq!(keys, ["uses urn:a", "uses urn:a per-object", "uses urn:a per-day"]);
        assert_eq!(last_day_counter(&id), "uses urn:a last-day");
    }
}
