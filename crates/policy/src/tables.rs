//! What profiles come to once read: operands, the tree of actions as sets, taxonomies with their closures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::problem::nearest;
use crate::profile::{ActionInfo, Combinations, Label, Lang, OperandInfo, Operator, label_in};
use crate::value::hash;
use crate::vocab::short;

/// The most actions known at once: their sets are four machine words.
pub(crate) const MAX_ACTIONS: usize = 256;
/// Places in the table of actions: twice as many as there can be actions.
const ACTION_PLACES: usize = 2 * MAX_ACTIONS;

/// A set of actions: one bit for each known action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ActionSet([u64; 4]);

impl ActionSet {
    pub(crate) fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn zip(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([join(a, e), join(b, f), join(c, g), join(d, h)])
    }

    pub(crate) fn and(self, other: Self) -> Self {
        self.zip(other, |left, right| left & right)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        self.zip(other, |left, right| left | right)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        self.zip(other, |left, right| left & !right)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }
}

const fn slot_of(hash: u64) -> usize {
    hash as usize % ACTION_PLACES
}

#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub iri: String,
    pub broader: Vec<String>,
    pub also: Vec<String>,
    pub label: Label,
}

impl Term {
    pub(crate) fn label(&self, lang: Lang) -> &str {
        label_in(&self.label, lang)
    }
}

/// A closed list of terms with `broader` edges; its version goes into nothing signed, but into explanations.
#[derive(Clone, Debug)]
pub(crate) struct Taxonomy {
    pub version: String,
    pub ordered: bool,
    pub terms: Vec<Term>,
}

impl Taxonomy {
    /// The term with this IRI or alias.
    pub(crate) fn find(&self, name: &str) -> Option<&Term> {
        self.terms.iter().find(|term| term.iri == name || term.also.iter().any(|alias| alias == name))
    }

    pub(crate) fn position(&self, iri: &str) -> Option<usize> {
        self.terms.iter().position(|term| term.iri == iri)
    }

    /// The term and everything narrower; only itself if it is not in the taxonomy.
    pub(crate) fn narrower<'a>(&'a self, iri: &'a str) -> Vec<&'a str> {
        let mut found = vec![iri];
        let mut next = 0;
        while let Some(current) = found.get(next).copied() {
            for term in &self.terms {
                if term.broader.iter().any(|broader| broader == current)
                    && !found.contains(&term.iri.as_str())
                {
                    found.push(&term.iri);
                }
            }
            next += 1;
        }
        found
    }

    /// The term and everything broader.
    pub(crate) fn broader<'a>(&'a self, iri: &'a str) -> Vec<&'a str> {
        let mut found = vec![iri];
        let mut next = 0;
        while let Some(current) = found.get(next).copied() {
            for broader in self.find(current).into_iter().flat_map(|term| &term.broader) {
                if !found.contains(&broader.as_str()) {
                    found.push(broader);
                }
            }
            next += 1;
        }
        found
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    /// Every identifier of every profile, with the profile it means.
    pub names: BTreeMap<String, String>,
    /// Profiles whose terms may be used without naming them: those that the operator loaded on purpose.
    pub unnamed: BTreeSet<String>,
    pub versions: BTreeMap<String, String>,
    pub operands: BTreeMap<String, Arc<OperandInfo>>,
    pub actions: Vec<ActionInfo>,
    /// For each action its set: itself and all included in it.
    pub covered: Vec<ActionSet>,
    /// For each action what it implies, with all included in that: not prohibited where the action is permitted.
    pub implied: Vec<ActionSet>,
    /// Hash and index of each action, at the place its hash says or the next free one.
    pub by_hash: Vec<Option<(u64, usize)>>,
    pub deprecated: BTreeMap<String, String>,
    /// Names of operators that are not ODRL's.
    pub operators: BTreeMap<String, Operator>,
    pub taxonomies: BTreeMap<String, Taxonomy>,
    /// By profile, what it demands of the constraints of one rule together.
    pub combinations: BTreeMap<String, Combinations>,
}

impl Tables {
    pub(crate) fn action(&self, iri: &str) -> Option<usize> {
        let wanted = hash(iri);
        let mut place = slot_of(wanted);
        // The table is at most half full, so an empty place ends every search.
        while let Some(Some((known, index))) = self.by_hash.get(place) {
            if *known == wanted && self.actions.get(*index).is_some_and(|action| action.iri == iri) {
                return Some(*index);
            }
            place = (place + 1) % ACTION_PLACES;
        }
        None
    }

    pub(crate) fn covered(&self, index: usize) -> ActionSet {
        self.covered.get(index).copied().unwrap_or_default()
    }

    pub(crate) fn implied(&self, index: usize) -> ActionSet {
        self.implied.get(index).copied().unwrap_or_default()
    }

    pub(crate) fn taxonomy(&self, operand: &OperandInfo) -> Option<&Taxonomy> {
        operand.taxonomy.as_ref().and_then(|name| self.taxonomies.get(name))
    }

    /// The label of any term of any taxonomy.
    pub(crate) fn term_label(&self, operand: &OperandInfo, iri: &str, lang: Lang) -> Option<&str> {
        let label = self.taxonomy(operand)?.find(iri)?.label(lang);
        (!label.is_empty()).then_some(label)
    }

    pub(crate) fn nearest_operand(&self, iri: &str) -> Option<String> {
        let names: Vec<String> = self.operands.keys().map(|known| short(known)).collect();
        nearest(&short(iri), names.iter().map(String::as_str))
    }

    pub(crate) fn nearest_action(&self, iri: &str) -> Option<String> {
        let names: Vec<String> = self.actions.iter().map(|known| short(&known.iri)).collect();
        nearest(&short(iri), names.iter().map(String::as_str))
    }

    pub(crate) fn close(&mut self) {
        self.by_hash = vec![None; ACTION_PLACES];
        for (index, action) in self.actions.iter().enumerate() {
            let hash = hash(&action.iri);
            let mut place = slot_of(hash);
            while self.by_hash.get(place).is_some_and(Option::is_some) {
                place = (place + 1) % ACTION_PLACES;
            }
            if let Some(free) = self.by_hash.get_mut(place) {
                *free = Some((hash, index));
            }
        }
        self.covered = (0..self.actions.len())
            .map(|top| {
                let mut set = ActionSet::default();
                set.insert(top);
                // Each round reaches at least one more action, so this ends.
                loop {
                    let before = set;
                    for (index, action) in self.actions.iter().enumerate() {
                        let below = action.included_in.iter().any(|parent| {
                            self.actions
                                .iter()
                                .position(|known| known.iri == *parent)
                                .is_some_and(|parent| set.contains(parent))
                        });
                        if below {
                            set.insert(index);
                        }
                    }
                    if set == before {
                        return set;
                    }
                }
            })
            .collect();
        self.implied = self
            .actions
            .iter()
            .map(|action| {
                let implied = action.implies.iter().filter_map(|iri| self.action(iri));
                implied.fold(ActionSet::default(), |set, index| set.or(self.covered(index)))
            })
            .collect();
    }
}
