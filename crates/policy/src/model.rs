//! The policy understood: atomic rules, typed constraints, everything resolved against the profiles.

use std::sync::Arc;

use crate::problem::Position;
use crate::profile::{OperandInfo, Operator, Source};
use crate::value::{Decimal, Right};

/// The class of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Open terms; also what a bare `Policy` means.
    Set,
    /// A proposal; never enforced.
    Offer,
    /// Both parties named and bound.
    Agreement,
    /// Common-vocabulary class: a statement about own rights.
    Assertion,
    /// Common-vocabulary class: about personal data.
    Privacy,
    /// Common-vocabulary class: asked for, not granted.
    Request,
    /// Common-vocabulary class: whoever holds it.
    Ticket,
}

impl Kind {
    pub(crate) const ALL: [(Self, &'static str); 7] = [
        (Self::Set, "Set"),
        (Self::Offer, "Offer"),
        (Self::Agreement, "Agreement"),
        (Self::Assertion, "Assertion"),
        (Self::Privacy, "Privacy"),
        (Self::Request, "Request"),
        (Self::Ticket, "Ticket"),
    ];

    /// The class's name in the ODRL vocabulary.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("Set", |(_, name)| name)
    }
}

/// What happens when a permission and a prohibition both apply to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conflict {
    /// Permissions win.
    Perm,
    /// Prohibitions win.
    Prohibit,
    /// The policy is void for that request; the default.
    Invalid,
}

impl Conflict {
    pub(crate) const ALL: [(Self, &'static str); 3] =
        [(Self::Perm, "perm"), (Self::Prohibit, "prohibit"), (Self::Invalid, "invalid")];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(conflict, _)| *conflict == self).map_or("invalid", |(_, name)| name)
    }
}

/// The kind of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    /// May.
    Permission,
    /// Must not.
    Prohibition,
    /// Must: an obligation of the policy, or a duty under another rule.
    Duty,
}

/// A statement that is carried but means nothing to decisions: titles, descriptions, dates of issue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Note {
    pub member: String,
    pub text: String,
    pub datatype: Option<String>,
    pub language: Option<String>,
    pub is_iri: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub kind: Kind,
    pub uid: String,
    pub profiles: Vec<String>,
    pub conflict: Option<Conflict>,
    pub timestamp: Option<crate::time::UnixMillis>,
    pub replaced_by: Vec<String>,
    pub notes: Vec<Note>,
    pub rules: Vec<Rule>,
    /// Deprecated terms of the text: where, the term, and what it was read as. Only warnings tell of them.
    pub deprecated: Vec<(Position, String, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub kind: RuleKind,
    pub uid: Option<String>,
    pub action: String,
    /// Refinements of the action.
    pub refinements: Vec<Constraint>,
    pub target: Option<Thing>,
    pub output: Option<Thing>,
    pub assigner: Option<Thing>,
    pub assignee: Option<Thing>,
    /// Other party functions: the function's IRI and the party.
    pub parties: Vec<(String, Thing)>,
    pub constraints: Vec<Constraint>,
    /// Duties of a permission, remedies of a prohibition, consequences of a duty.
    pub duties: Vec<Rule>,
    pub notes: Vec<Note>,
    pub at: Position,
}

/// An asset or a party, or a collection with refinements on its members.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Thing {
    pub iri: String,
    pub collection: bool,
    pub part_of: Vec<String>,
    pub refinements: Vec<Constraint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Logic {
    And,
    Or,
    Xone,
    AndSequence,
}

impl Logic {
    pub(crate) const ALL: [(Self, &'static str); 4] =
        [(Self::And, "and"), (Self::Or, "or"), (Self::Xone, "xone"), (Self::AndSequence, "andSequence")];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(logic, _)| *logic == self).map_or("and", |(_, name)| name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Constraint {
    Atom(Box<Atom>),
    Logic { logic: Logic, uid: Option<String>, parts: Vec<Constraint> },
}

#[derive(Clone, Debug)]
pub(crate) struct Atom {
    pub uid: Option<String>,
    pub operand: Arc<OperandInfo>,
    pub operator: Operator,
    pub rights: Vec<Right>,
    pub unit: Option<String>,
    pub status: Option<Right>,
    /// A source demanded by the policy itself, on top of the profile's.
    pub minimum_source: Option<Source>,
    pub at: Position,
}

impl Atom {
    /// A duration as the right operand, in milliseconds, less what was used up before (`status`).
    ///
    /// Of an upper bound that is used up nothing is left, not even the first instant.
    pub(crate) fn millis(&self) -> Option<(i64, i64)> {
        let Right::Duration { lo, hi, .. } = self.rights.first()? else { return None };
        let Some(Right::Duration { lo: used_least, hi: used_most, .. }) = &self.status else {
            return Some((*lo, *hi));
        };
        let left = |bound: i64| {
            if self.operator == Operator::Lteq && bound <= 0 { bound.min(-1) } else { bound }
        };
        Some((left(lo.saturating_sub(*used_most)), left(hi.saturating_sub(*used_least))))
    }

    /// A number as the right operand, less what was used up before.
    pub(crate) fn number(&self) -> Option<Decimal> {
        let Right::Number(bound) = self.rights.first()? else { return None };
        let used = match &self.status {
            Some(Right::Number(used)) => used.raw(),
            _ => 0,
        };
        Some(Decimal::from_raw(bound.raw().saturating_sub(used)))
    }

    /// What makes two constraints the same: everything but where they stand.
    fn key(&self) -> impl Ord + '_ {
        (
            &self.operand.iri,
            self.operator,
            &self.rights,
            &self.unit,
            &self.status,
            self.minimum_source.map(Source::rank),
            &self.uid,
        )
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Atom {}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Model {
    /// The value that all rules share, if they do.
    pub(crate) fn shared<'a>(&'a self, get: impl Fn(&'a Rule) -> Option<&'a Thing>) -> Option<&'a Thing> {
        let mut rules = self.rules.iter();
        let first = get(rules.next()?)?;
        rules.all(|rule| get(rule) == Some(first)).then_some(first)
    }

    pub(crate) fn target(&self) -> Option<&Thing> {
        self.shared(|rule| rule.target.as_ref())
    }

    pub(crate) fn assigner(&self) -> Option<&Thing> {
        self.shared(|rule| rule.assigner.as_ref())
    }

    pub(crate) fn assignee(&self) -> Option<&Thing> {
        self.shared(|rule| rule.assignee.as_ref())
    }
}

/// Forgets what was used up before: statuses are not inherited (ODRL 2.2 Information Model, 2.8).
pub(crate) fn clear_status(rule: &mut Rule) {
    fn clear(constraints: &mut [Constraint]) {
        for constraint in constraints {
            match constraint {
                Constraint::Atom(atom) => atom.status = None,
                Constraint::Logic { parts, .. } => clear(parts),
            }
        }
    }
    clear(&mut rule.constraints);
    clear(&mut rule.refinements);
    rule.duties.iter_mut().for_each(clear_status);
}
