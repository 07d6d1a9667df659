//! What the profiles of a rule's terms demand of it beyond the terms one by one.

use std::collections::BTreeSet;

use crate::model::{Constraint, RuleKind};
use crate::node::Node;
use crate::problem::{AMBIGUOUS_MEMBER, BAD_VALUE, MISSING_MEMBER, OPERATOR_NOT_ALLOWED, Position};
use crate::read::Reader;
use crate::vocab::{ODRL, expand_vocab, short};

impl Reader<'_> {
    /// What a policy says itself about the place of an action is taken only where the profile says the same: nothing else
    /// is decided by.
    pub(crate) fn as_the_profile_says(&mut self, node: &Node, action: Option<&str>) {
        if self.lenient {
            return;
        }
        let action = action.and_then(|name| self.tables.action(name));
        for member in ["includedIn", "implies"] {
            for item in node.values(&format!("{ODRL}{member}")) {
                let other = self.tables.action(&expand_vocab(&item.shown(), &Vec::new()));
                let known = match (action, other) {
                    (Some(action), Some(other)) if member == "includedIn" => {
                        self.tables.covered(other).contains(action)
                    }
                    (Some(action), Some(other)) => self.tables.implied(action).contains(other),
                    _ => false,
                };
                if !known {
                    let expected = "what the action's profile says of it";
                    self.complain(
                        &BAD_VALUE,
                        &item.at,
                        format!("{member} {}", short(&item.shown())),
                        expected,
                        None,
                    );
                }
            }
        }
    }

    /// What the profiles of a rule's operands demand of its constraints together.
    pub(crate) fn combined(
        &mut self,
        constraints: &[Constraint],
        kind: RuleKind,
        actions: &[(String, Vec<Constraint>)],
        at: &Position,
    ) {
        let mut used: BTreeSet<(String, String)> = BTreeSet::new();
        let mut logics: BTreeSet<(String, &'static str)> = BTreeSet::new();
        collect(constraints, &mut Vec::new(), &mut used, &mut logics);
        let tables = self.tables;
        let profiles: BTreeSet<&String> = used.iter().map(|(profile, _)| profile).collect();
        for (profile, rules) in profiles.iter().filter_map(|name| tables.combinations.get_key_value(*name)) {
            let uses = |operand: &String| used.contains(&(profile.clone(), operand.clone()));
            for (_, logic) in logics.iter().filter(|(of, _)| of == profile) {
                if !rules.logic.is_empty() && !rules.logic.iter().any(|known| known == logic) {
                    let expected = format!("only {} in {profile}", rules.logic.join(", "));
                    self.complain(&OPERATOR_NOT_ALLOWED, at, *logic, expected, None);
                }
            }
            for group in &rules.exclusive {
                let several: Vec<String> =
                    group.iter().filter(|operand| uses(operand)).map(|iri| short(iri)).collect();
                if several.len() > 1 {
                    let expected = "one of them, since they exclude each other";
                    self.complain(&AMBIGUOUS_MEMBER, at, several.join(", "), expected, None);
                }
            }
            let permitted = rules.required.iter().filter(|required| {
                kind == RuleKind::Permission && actions.iter().any(|(action, _)| *action == required.action)
            });
            for operand in permitted.flat_map(|required| &required.operands).filter(|operand| !uses(operand))
            {
                let expected = format!("a constraint on it, as {profile} demands of every such permission");
                self.complain(&MISSING_MEMBER, at, short(operand), expected, None);
            }
        }
    }
}

/// The operands of constraints with their profiles, and by profile the logical operands they stand under.
fn collect(
    constraints: &[Constraint],
    above: &mut Vec<&'static str>,
    used: &mut BTreeSet<(String, String)>,
    logics: &mut BTreeSet<(String, &'static str)>,
) {
    for constraint in constraints {
        match constraint {
            Constraint::Atom(atom) => {
                let profile = &atom.operand.profile;
                used.insert((profile.clone(), atom.operand.iri.clone()));
                logics.extend(above.iter().map(|logic| (profile.clone(), *logic)));
            }
            Constraint::Logic { logic, parts, .. } => {
                above.push(logic.name());
                collect(parts, above, used, logics);
                above.pop();
            }
        }
    }
}
