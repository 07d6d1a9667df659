//! Many policies behind an index by dataset: a decision looks only at those that can be about it.

use std::collections::HashMap;

use crate::decide::{Decision, Outcome};
use crate::facts::{Facts, Request};
use crate::policy::Policy;
use crate::value::hash;

/// Policies by dataset. Each stands alone: one that permits is enough, and none takes from another's permission.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    policies: Vec<Policy>,
    /// Policies about exactly one dataset, by the hash of its name; the name itself is compared on deciding.
    by_target: HashMap<u64, Vec<usize>>,
    /// Policies about collections, several datasets or none in particular.
    others: Vec<usize>,
}

impl PolicySet {
    /// No policies.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a policy.
    pub fn insert(&mut self, policy: Policy) {
        let index = self.policies.len();
        let exact = policy.model().target().filter(|thing| !thing.collection).map(|thing| hash(&thing.iri));
        match exact {
            Some(target) => self.by_target.entry(target).or_default().push(index),
            None => self.others.push(index),
        }
        self.policies.push(policy);
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// The policies that can be about a dataset.
    pub fn about(&self, target: &str) -> impl Iterator<Item = &Policy> {
        let exact = self.by_target.get(&hash(target)).map_or(&[][..], Vec::as_slice);
        exact.iter().chain(&self.others).filter_map(|index| self.policies.get(*index))
    }

    /// The first permit, else the first unknown, else the first denial; `None` if no policy can be about the dataset.
    pub fn decide<'s>(&'s self, request: &Request<'_>, facts: &Facts) -> Option<Decision<'s>> {
        let mut best: Option<Decision<'s>> = None;
        for policy in self.about(request.target) {
            let decision = policy.decide(request, facts);
            match (decision.outcome, best.map(|best| best.outcome)) {
                (Outcome::Permit, _) => return Some(decision),
                (_, None) | (Outcome::Unknown, Some(Outcome::Deny)) => best = Some(decision),
                _ => {}
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixMillis;
    use crate::vocab::action;
    use crate::{Profiles, Stage};

    #[test]
    fn only_the_datasets_own_policies_and_the_general_ones_are_asked() {
        let mut set = PolicySet::new();
        assert!(set.is_empty());
        let read = |uid: usize, target: &str, action: &str| {
            let text = format!(
                r#"{{"@type":"Set","@id":"urn:{uid}"{target},"permission":[{{"action":"{action}"}}]}}"#
            );
            Policy::from_json(&text, &Profiles::shipped()).unwrap()
        };
        for index in 0..50 {
            set.insert(read(index, &format!(r#","target":"urn:d:{index}""#), "read"));
        }
        set.insert(read(50, "", "print"));
        assert_eq!((set.len(), set.about("urn:d:7").count(), set.about("urn:x").count()), (51, 2, 1));
        let ask = |target: &str, action: &str| {
            let request = Request { action, target, assignee: "urn:c", stage: Stage::Use };
            let decision = set.decide(&request, &Facts::at(UnixMillis(0))).unwrap();
            (decision.outcome, decision.policy.uid().to_owned())
        };
        assert_eq!(ask("urn:d:7", action::READ), (Outcome::Permit, "urn:7".to_owned()));
        assert_eq!(ask("urn:d:7", "http://www.w3.org/ns/odrl/2/print").1, "urn:50");
        assert_eq!(ask("urn:x", action::READ).0, Outcome::Deny);
    }
}
