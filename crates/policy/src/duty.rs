//! Duties: what must be done, in which phase, and by when.

use crate::model::{Atom, Constraint, Logic, Rule, RuleKind};
use crate::profile::{Enforcement, OperandType, Operator, Phase};
use crate::tables::Tables;
use crate::time::UnixMillis;
use crate::value::Right;
use crate::vocab::{ODRL, action, operand};

/// What a relative deadline counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anchor {
    /// The agreement's signing.
    Signing,
    /// The first use of the data.
    FirstUse,
    /// The end of the permission: its date passed, its count spent, or it was terminated.
    End,
}

/// The last moment for a duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deadline {
    /// At this instant at the latest.
    At(UnixMillis),
    /// So many milliseconds after the anchor at the latest; months count with their shortest length.
    After {
        /// What it counts from.
        anchor: Anchor,
        /// How long after.
        millis: i64,
    },
}

/// The instants that relative deadlines count from, as far as they have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anchors {
    /// When the agreement was signed.
    pub signed: Option<UnixMillis>,
    /// When the data was first used.
    pub first_use: Option<UnixMillis>,
    /// When the permission ended.
    pub ended: Option<UnixMillis>,
}

impl Deadline {
    /// The instant; `None` while its anchor has not come.
    pub fn due(&self, anchors: &Anchors) -> Option<UnixMillis> {
        match self {
            Self::At(at) => Some(*at),
            Self::After { anchor, millis } => {
                let from = match anchor {
                    Anchor::Signing => anchors.signed,
                    Anchor::FirstUse => anchors.first_use,
                    Anchor::End => anchors.ended,
                };
                from.map(|from| from.plus_millis(*millis))
            }
        }
    }
}

/// Where a duty stands in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DutyRole {
    /// An obligation of the policy.
    Obligation,
    /// A duty of the permission with this number.
    OfPermission(usize),
    /// A remedy of the prohibition with this number.
    Remedy(usize),
}

/// A refinement of a duty's action that says how, and not when, it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refinement {
    /// The IRI of the left operand; empty for a combination of several constraints.
    pub operand: String,
    /// The operator's local name, e.g. `eq`; of a combination its logic.
    pub operator: &'static str,
    /// The right operands in their canonical texts.
    pub values: Vec<String>,
}

/// One duty of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// The duty's IRI, or its place (`obligation/1`, `rule/2/duty/1`) when it has none; names it in [`crate::Facts::duty`].
    pub key: String,
    /// Where it stands.
    pub role: DutyRole,
    /// The action to be done.
    pub action: String,
    /// On what; the dataset of the rule unless the duty names another.
    pub target: Option<String>,
    /// Who must do it, where the duty itself names somebody; else the party that the permissions are for.
    pub assignee: Option<String>,
    /// Who must be told, paid or asked: the party functions of the duty with their parties.
    pub parties: Vec<(String, String)>,
    /// How it is done: what the one who performs it must know, such as a field or an amount. What only says when or how
    /// often is not among it.
    pub refinements: Vec<Refinement>,
    /// When, relative to the use.
    pub phase: Phase,
    /// By when: all of them are to be kept, so the earliest that has come counts ([`Duty::due`]); none if the policy
    /// sets no deadline.
    pub deadlines: Vec<Deadline>,
    /// Whether the connector itself does it.
    pub enforcement: Enforcement,
    /// The number of its clause in [`crate::Policy::render`].
    pub clause: String,
    /// Whether it is owed only while constraints hold that say more than when.
    pub conditional: bool,
    /// It recurs: what was done counts for so many milliseconds; months count with their shortest length.
    pub period_millis: Option<i64>,
    /// What is owed besides once it was not fulfilled in time.
    pub consequences: Vec<Self>,
    pub(crate) deletes: bool,
}

impl Duty {
    /// The earliest of the deadlines whose anchors have come; `None` while none has.
    pub fn due(&self, anchors: &Anchors) -> Option<UnixMillis> {
        self.deadlines.iter().filter_map(|deadline| deadline.due(anchors)).min()
    }

    /// Whether the duty is to delete: `odrl:delete` or an action included in it.
    pub const fn is_delete(&self) -> bool {
        self.deletes
    }
}

/// How a duty is to be done.
pub(crate) fn refinements(rule: &Rule) -> Vec<Refinement> {
    let is_when = |constraint: &Constraint| {
        is_timing(constraint) || matches!(constraint, Constraint::Atom(atom) if is_period(atom))
    };
    let how = rule.refinements.iter().filter(|constraint| !is_when(constraint));
    how.map(|constraint| match constraint {
        Constraint::Atom(atom) => Refinement {
            operand: atom.operand.iri.clone(),
            operator: atom.operator.name(),
            values: atom.rights.iter().map(Right::text).collect(),
        },
        Constraint::Logic { logic, .. } => {
            Refinement { operand: String::new(), operator: logic.name(), values: Vec::new() }
        }
    })
    .collect()
}

pub(crate) fn atom_deadline(atom: &Atom) -> Option<Deadline> {
    if !matches!(atom.operator, Operator::Lt | Operator::Lteq | Operator::Eq) {
        return None;
    }
    let iri = atom.operand.fact.as_deref().unwrap_or(&atom.operand.iri);
    let iri = if atom.operand.kind == OperandType::Instant { operand::DATE_TIME } else { iri };
    match (iri, atom.rights.first()) {
        (operand::DATE_TIME, Some(Right::Instant { lo, .. })) => Some(Deadline::At(UnixMillis(*lo))),
        (operand::DATE_TIME, Some(Right::Day { start_lo, .. })) => {
            let last = if atom.operator == Operator::Lt { 0 } else { crate::value::DAY_MILLIS - 1 };
            Some(Deadline::At(UnixMillis(start_lo.saturating_add(last))))
        }
        (_, Some(Right::Duration { .. })) => {
            let (millis, _) = atom.millis()?;
            let anchor = match iri {
                operand::SINCE_SIGNING => Anchor::Signing,
                operand::SINCE_END => Anchor::End,
                operand::ELAPSED_TIME | operand::SINCE_FIRST_USE => Anchor::FirstUse,
                _ => return None,
            };
            Some(Deadline::After { anchor, millis })
        }
        _ => None,
    }
}

/// When a duty is done relative to the use, if the constraint says that and nothing else: `event` with `policyUsage`.
/// Another event is a condition like any other.
fn around_use(atom: &Atom) -> Option<Phase> {
    if atom.operand.iri != format!("{ODRL}event") {
        return None;
    }
    let usage = atom.rights.iter().all(|right| {
        matches!(right, Right::Symbol(event) if event.strip_prefix(ODRL).unwrap_or(event) == "policyUsage")
    });
    match atom.operator {
        _ if !usage => None,
        Operator::Lt | Operator::Lteq => Some(Phase::Before),
        Operator::Gt | Operator::Gteq => Some(Phase::After),
        _ => Some(Phase::With),
    }
}

/// Whether a constraint of a duty says when it is to be done, and not whether.
pub(crate) fn is_timing(constraint: &Constraint) -> bool {
    match constraint {
        Constraint::Atom(atom) => atom_deadline(atom).is_some() || around_use(atom).is_some(),
        // Deadlines that must all be kept are deadlines, however they are put together.
        Constraint::Logic { logic: Logic::And | Logic::AndSequence, parts, .. } => {
            !parts.is_empty() && parts.iter().all(is_timing)
        }
        Constraint::Logic { .. } => false,
    }
}

/// The atoms of the constraints that say when.
fn timing(rule: &Rule) -> Vec<&Atom> {
    fn atoms<'r>(constraint: &'r Constraint, found: &mut Vec<&'r Atom>) {
        match constraint {
            Constraint::Atom(atom) => found.push(atom),
            Constraint::Logic { parts, .. } => parts.iter().for_each(|part| atoms(part, found)),
        }
    }
    let mut found = Vec::new();
    let stated = rule.constraints.iter().chain(&rule.refinements);
    stated.filter(|constraint| is_timing(constraint)).for_each(|constraint| atoms(constraint, &mut found));
    found
}

/// The duty's deadlines, from its constraints or, as IDS policies write them, from refinements of its action; sorted.
pub(crate) fn deadlines(rule: &Rule) -> Vec<Deadline> {
    let mut found: Vec<Deadline> = timing(rule).into_iter().filter_map(atom_deadline).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// How often a duty recurs, where a refinement of its action says so (IDS: pay for each period).
pub(crate) fn period_millis(rule: &Rule) -> Option<i64> {
    rule.refinements.iter().find_map(|constraint| match constraint {
        Constraint::Atom(atom) if is_period(atom) => match atom.rights.first() {
            Some(Right::Duration { lo, .. }) => Some(*lo),
            _ => None,
        },
        _ => None,
    })
}

/// `timeInterval eq DURATION`, the only form whose meaning as a period is clear.
fn is_period(atom: &Atom) -> bool {
    atom.operand.iri == format!("{ODRL}timeInterval")
        && atom.operator == Operator::Eq
        && atom.rights.len() == 1
}

/// When a duty is done: as an `event` constraint says (IDS: `event lt policyUsage` is before use), else as the
/// profile says of its action.
pub(crate) fn phase(rule: &Rule, tables: &Tables) -> Phase {
    let by_event = timing(rule).into_iter().find_map(around_use);
    by_event.unwrap_or_else(|| {
        tables
            .action(&rule.action)
            .and_then(|index| tables.actions.get(index))
            .map_or(Phase::Before, |action| action.phase)
    })
}

/// Actions that a transform at the provider's egress performs, if they come before use.
const AT_EGRESS: &[&str] = &[action::ANONYMIZE, action::AGGREGATE, action::REDACT, action::IDS_REPLACE];

/// How far the connector itself sees to the action of a rule: as the profile says, but for duties that are done to the data
/// before it leaves. The same action afterwards, on a copy, is nobody's but the assignee's.
pub(crate) fn action_enforcement(rule: &Rule, tables: &Tables) -> Enforcement {
    let before =
        rule.kind == RuleKind::Duty && phase(rule, tables) == Phase::Before && deadlines(rule).is_empty();
    if before && AT_EGRESS.contains(&rule.action.as_str()) {
        return Enforcement::Technical;
    }
    let action = tables.action(&rule.action).and_then(|index| tables.actions.get(index));
    action.map_or(Enforcement::Legal, |action| action.enforcement)
}

/// How far the connector itself sees to a duty.
pub(crate) fn enforcement(rule: &Rule, tables: &Tables) -> Enforcement {
    let mut weakest = action_enforcement(rule, tables);
    for constraint in rule.constraints.iter().chain(&rule.refinements) {
        weakest = weakest.min(constraint_enforcement(constraint));
    }
    weakest
}

pub(crate) fn constraint_enforcement(constraint: &Constraint) -> Enforcement {
    match constraint {
        Constraint::Atom(atom) if atom.operand.kind == OperandType::Opaque => Enforcement::Legal,
        Constraint::Atom(atom) => atom.operand.enforcement,
        Constraint::Logic { parts, .. } => {
            parts.iter().map(constraint_enforcement).min().unwrap_or(Enforcement::Technical)
        }
    }
}
