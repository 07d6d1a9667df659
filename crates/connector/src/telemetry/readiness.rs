//! Whether this connector can do its work, and if not, why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The conditions that must hold before peers and people should come; shared by all who set and ask.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Readiness {
    /// Not ready until each of `conditions` was reported as met.
    pub fn starting(conditions: &[&'static str]) -> Self {
        let waiting = conditions.iter().map(|condition| (*condition, "not yet started".to_owned()));
        Self(Arc::new(Mutex::new(waiting.collect())))
    }

    /// The condition holds.
    pub fn met(&self, condition: &'static str) {
        self.unmet_now().remove(condition);
    }

    /// The condition does not hold, for the `reason` that an operator reads.
    pub fn unmet(&self, condition: &'static str, reason: impl Into<String>) {
        self.unmet_now().insert(condition, reason.into());
    }

    /// Whether all conditions hold.
    pub fn is_ready(&self) -> bool {
        self.unmet_now().is_empty()
    }

    /// `condition: reason` for each condition that does not hold, in the order of their names.
    pub fn reasons(&self) -> Vec<String> {
        self.unmet_now().iter().map(|(condition, reason)| format!("{condition}: {reason}")).collect()
    }

    fn unmet_now(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A panic elsewhere cannot leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_conditions_are_met() {
        let readiness = Readiness::starting(&["store", "catalogue"]);
        assert_eq!(readiness.reasons(), ["catalogue: not yet started", "store: not yet started"]);
        let seen_elsewhere = readiness.clone();
        readiness.met("store");
        readiness.met("catalogue");
        assert!(seen_elsewhere.is_ready() && seen_elsewhere.reasons().is_empty());
        readiness.unmet("identity", "the statement expired");
        assert!(!seen_elsewhere.is_ready());
        assert_eq!(seen_elsewhere.reasons(), ["identity: the statement expired"]);
    }
}
