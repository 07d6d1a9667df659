//! Which operands a policy's decisions rest on, for those who must provide the facts.

use std::collections::BTreeSet;

use crate::ir::{Leaf, NodeKind, Test};
use crate::model::{Constraint, Rule, Thing};
use crate::policy::Policy;
use crate::profile::{OperandType, Operator};
use crate::value::Right;
use crate::vocab::operand::KEY_LEASE;

impl Policy {
    /// The IRIs of all left operands that decide, sorted: in constraints and refinements of rules, actions, parties
    /// and assets. Constraints that only say when a duty is to be done are not among them.
    pub fn operands(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for rule in &self.model().rules {
            of_rule(rule, &mut found);
        }
        found
    }

    /// The shortest time, in milliseconds, that any rule allows since the last key lease; `None` where no rule asks
    /// for leases. A bound that cannot be told counts as 0.
    pub fn lease_millis(&self) -> Option<i64> {
        let program = self.program();
        let of_lease = |leaf: &Leaf| {
            program.slots.get(usize::from(leaf.slot)).is_some_and(|slot| slot.symbol.as_str() == KEY_LEASE)
        };
        let bounds = program.nodes.iter().filter_map(|node| match node {
            NodeKind::Leaf(leaf) if of_lease(leaf) => match leaf.test {
                Test::Millis { lo, .. } => Some(lo),
                _ => Some(0),
            },
            _ => None,
        });
        bounds.min()
    }
}

impl Policy {
    /// The IRIs that the policy's constraints name for an operand or for one that shares its facts. Of several things
    /// that hold at once (roles, events) only these matter to a decision.
    pub fn mentioned(&self, operand: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for rule in &self.model().rules {
            mentioned_by(rule, operand, &mut found);
        }
        found
    }
}

impl Policy {
    /// Collections of participants or datasets that rules are for: deciding them takes facts about who belongs.
    pub fn collections(&self) -> BTreeSet<&str> {
        fn of_rule<'a>(rule: &'a Rule, found: &mut BTreeSet<&'a str>) {
            let things = [&rule.target, &rule.assignee, &rule.assigner].into_iter().flatten();
            found.extend(things.filter(|thing| thing.collection).map(|thing| thing.iri.as_str()));
            rule.duties.iter().for_each(|duty| of_rule(duty, found));
        }
        let mut found = BTreeSet::new();
        self.model().rules.iter().for_each(|rule| of_rule(rule, &mut found));
        found
    }

    /// The constraints that no fact ever decides, as `operand operator` or `operand with a unit`: an order among things
    /// that have none, and a unit of what is not measured in units.
    pub fn never_decided(&self) -> BTreeSet<String> {
        fn look(constraint: &Constraint, found: &mut BTreeSet<String>) {
            match constraint {
                Constraint::Atom(atom) => {
                    let (kind, name) = (atom.operand.kind, crate::vocab::short(&atom.operand.iri));
                    let unordered = matches!(kind, OperandType::Symbol | OperandType::Text);
                    if unordered
                        && !matches!(atom.operator, Operator::Eq | Operator::Neq)
                        && atom.operator.is_order()
                    {
                        found.insert(format!("{name} {}", atom.operator.name()));
                    }
                    if atom.unit.is_some() && kind != OperandType::Number {
                        found.insert(format!("{name} with a unit"));
                    }
                }
                Constraint::Logic { parts, .. } => parts.iter().for_each(|part| look(part, found)),
            }
        }
        fn of_rule(rule: &Rule, found: &mut BTreeSet<String>) {
            let is_duty = rule.kind == crate::model::RuleKind::Duty;
            let timing = |constraint: &Constraint| is_duty && crate::duty::is_timing(constraint);
            let things = [&rule.target, &rule.assignee, &rule.assigner].into_iter().flatten();
            let all =
                rule.constraints.iter().chain(&rule.refinements).filter(|constraint| !timing(constraint));
            all.chain(things.flat_map(|thing| &thing.refinements))
                .for_each(|constraint| look(constraint, found));
            rule.duties.iter().for_each(|duty| of_rule(duty, found));
        }
        let mut found = BTreeSet::new();
        self.model().rules.iter().for_each(|rule| of_rule(rule, &mut found));
        found
    }

    /// Whether there is any permission, be it one that never applies.
    pub fn permits_somebody(&self) -> bool {
        self.model().rules.iter().any(|rule| rule.kind == crate::model::RuleKind::Permission)
    }

    /// The parties that the permissions are for; none if they are for anybody.
    pub fn permitted_parties(&self) -> BTreeSet<&str> {
        let rules = self.model().rules.iter();
        let permissions = rules.filter(|rule| rule.kind == crate::model::RuleKind::Permission);
        permissions.filter_map(|rule| rule.assignee.as_ref()).map(|thing| thing.iri.as_str()).collect()
    }
}

fn mentioned_by<'a>(rule: &'a Rule, operand: &str, found: &mut BTreeSet<&'a str>) {
    fn look<'a>(constraint: &'a Constraint, operand: &str, found: &mut BTreeSet<&'a str>) {
        match constraint {
            Constraint::Atom(atom) => {
                let fact = atom.operand.fact.as_deref().unwrap_or(&atom.operand.iri);
                if fact == operand {
                    found.extend(atom.rights.iter().filter_map(|right| match right {
                        Right::Symbol(symbol) => Some(symbol.as_str()),
                        _ => None,
                    }));
                }
            }
            Constraint::Logic { parts, .. } => parts.iter().for_each(|part| look(part, operand, found)),
        }
    }
    let things: [&'a Option<Thing>; 3] = [&rule.target, &rule.assignee, &rule.assigner];
    let of_things = things.into_iter().flatten().flat_map(|thing| &thing.refinements);
    for constraint in rule.constraints.iter().chain(&rule.refinements).chain(of_things) {
        look(constraint, operand, found);
    }
    rule.duties.iter().for_each(|duty| mentioned_by(duty, operand, found));
}

fn of_rule<'a>(rule: &'a Rule, found: &mut BTreeSet<&'a str>) {
    let is_duty = rule.kind == crate::model::RuleKind::Duty;
    let conditions =
        rule.constraints.iter().filter(|constraint| !(is_duty && crate::duty::is_timing(constraint)));
    conditions.for_each(|constraint| of_constraint(constraint, found));
    if !is_duty {
        rule.refinements.iter().for_each(|constraint| of_constraint(constraint, found));
    }
    let things: [&'a Option<Thing>; 3] = [&rule.target, &rule.assignee, &rule.assigner];
    for thing in things.into_iter().flatten() {
        thing.refinements.iter().for_each(|constraint| of_constraint(constraint, found));
    }
    rule.duties.iter().for_each(|duty| of_rule(duty, found));
}

fn of_constraint<'a>(constraint: &'a Constraint, found: &mut BTreeSet<&'a str>) {
    match constraint {
        Constraint::Atom(atom) => {
            found.insert(atom.operand.iri.as_str());
        }
        Constraint::Logic { parts, .. } => parts.iter().for_each(|part| of_constraint(part, found)),
    }
}
