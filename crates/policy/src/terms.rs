//! What the rules of a policy are made of, clause by clause: for those who say how each part is held.

use std::collections::BTreeSet;

use crate::duty::constraint_enforcement;
use crate::model::{Constraint, Rule, RuleKind};
use crate::policy::Policy;
use crate::profile::Enforcement;

/// What a term does in its clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TermKind {
    /// The action that is permitted.
    Permitted,
    /// The action that is forbidden.
    Forbidden,
    /// A condition: of the rule, its action, its parties or its dataset.
    Condition,
}

/// One part of a permission or prohibition. Duties are told by [`Policy::duties`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// The number of its clause in [`Policy::render`].
    pub clause: usize,
    /// What it does.
    pub kind: TermKind,
    /// The IRI of the action or left operand.
    pub iri: String,
    /// The operand whose facts decide; of an action the action itself.
    pub fact: String,
    /// How far the profile says that a connector itself can hold it.
    pub enforcement: Enforcement,
}

impl Policy {
    /// The parts of all permissions and prohibitions, clause by clause, each once.
    pub fn terms(&self) -> Vec<Term> {
        let mut found = BTreeSet::new();
        for (index, rule) in self.model().rules.iter().enumerate() {
            let kind = match rule.kind {
                RuleKind::Permission => TermKind::Permitted,
                RuleKind::Prohibition => TermKind::Forbidden,
                RuleKind::Duty => continue,
            };
            let clause = index + 1;
            found.insert(Term {
                clause,
                kind,
                iri: rule.action.clone(),
                fact: rule.action.clone(),
                enforcement: crate::duty::action_enforcement(rule, self.tables()),
            });
            conditions(rule).for_each(|constraint| add(constraint, clause, &mut found));
        }
        found.into_iter().collect()
    }
}

fn conditions(rule: &Rule) -> impl Iterator<Item = &Constraint> {
    let things = [&rule.target, &rule.assignee, &rule.assigner].into_iter().flatten();
    rule.constraints.iter().chain(&rule.refinements).chain(things.flat_map(|thing| &thing.refinements))
}

fn add(constraint: &Constraint, clause: usize, found: &mut BTreeSet<Term>) {
    match constraint {
        Constraint::Atom(atom) => {
            let iri = atom.operand.iri.clone();
            found.insert(Term {
                clause,
                kind: TermKind::Condition,
                fact: atom.operand.fact.clone().unwrap_or_else(|| iri.clone()),
                iri,
                enforcement: constraint_enforcement(constraint),
            });
        }
        Constraint::Logic { parts, .. } => parts.iter().for_each(|part| add(part, clause, found)),
    }
}
