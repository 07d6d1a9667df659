//! Whether what one policy demands is demanded by another as well: duties, remedies, deadlines, amounts.

use crate::compare::Answer;
use crate::duty::{Anchor, Deadline};
use crate::model::{Atom, Constraint, Model, Rule, RuleKind, Thing};
use crate::profile::{OperandType, Operator, Phase};
use crate::tables::Tables;
use crate::value::Right;
use crate::vocab::short;

/// A duty with what it takes from where it stands: the dataset and the party of its rule.
#[derive(Clone, Copy)]
pub(crate) struct Owed<'m> {
    pub duty: &'m Rule,
    target: Option<&'m Thing>,
    /// Who does it; `None` is the party that the permissions are for, whoever that is.
    assignee: Option<&'m Thing>,
}

impl<'m> Owed<'m> {
    /// A duty below `rule`, or `rule` itself as an obligation of the policy.
    pub(crate) fn under(duty: &'m Rule, rule: &'m Rule, model: &'m Model) -> Self {
        let mut permitted = model
            .rules
            .iter()
            .filter(|rule| rule.kind == RuleKind::Permission)
            .map(|rule| rule.assignee.as_ref());
        let first = permitted.next().flatten();
        let holder = first.filter(|first| permitted.all(|other| other == Some(first)));
        let assignee = duty.assignee.as_ref().or(rule.assignee.as_ref());
        Self {
            duty,
            target: duty.target.as_ref().or(rule.target.as_ref()),
            assignee: assignee.filter(|assignee| Some(*assignee) != holder),
        }
    }

    /// A duty that says for itself all that it takes from its rule ([`Owed::settled`]).
    pub(crate) const fn alone(duty: &'m Rule) -> Self {
        Self { duty, target: duty.target.as_ref(), assignee: duty.assignee.as_ref() }
    }

    /// The duty with all that it takes from its rule.
    pub(crate) fn settled(&self) -> Rule {
        Rule { target: self.target.cloned(), assignee: self.assignee.cloned(), ..self.duty.clone() }
    }

    fn obligation(duty: &'m Rule, model: &'m Model) -> Self {
        Self::under(duty, duty, model)
    }

    fn with(self, duty: &'m Rule) -> Self {
        Self {
            duty,
            target: duty.target.as_ref().or(self.target),
            assignee: duty.assignee.as_ref().or(self.assignee),
        }
    }
}

/// Whether doing `strong` also does `weak`: same or narrower action on the same thing by the same party, no later,
/// refined at least as much, and under no more conditions.
pub(crate) fn covers(strong: Owed<'_>, weak: Owed<'_>, tables: &Tables) -> Answer {
    let (first, second) = (strong.duty, weak.duty);
    let (Some(does), Some(must)) = (tables.action(&first.action), tables.action(&second.action)) else {
        return Answer::No;
    };
    let (below, above) = (tables.covered(must).contains(does), tables.covered(does).contains(must));
    if !below && !above {
        return Answer::No;
    }
    let timely = in_time(&crate::duty::deadlines(first), &crate::duty::deadlines(second));
    if timely == Answer::No {
        return Answer::No;
    }
    let [conditions, owed_if] = [first, second].map(|rule| beside_timing(&rule.constraints));
    let [how, must_be] = [first, second].map(|rule| beside_timing(&rule.refinements));
    let kept = below
        && timely == Answer::Yes
        && crate::duty::phase(first, tables) <= crate::duty::phase(second, tables)
        && strong.target == weak.target
        && strong.assignee == weak.assignee
        && second.parties.iter().all(|party| first.parties.contains(party))
        && conditions.iter().all(|condition| follows(&owed_if, condition))
        && must_be.iter().all(|refinement| follows(&how, refinement))
        && second.duties.iter().all(|consequence| {
            let weak = weak.with(consequence);
            first.duties.iter().any(|other| covers(strong.with(other), weak, tables) == Answer::Yes)
        });
    if kept { Answer::Yes } else { Answer::Unknown }
}

fn beside_timing(constraints: &[Constraint]) -> Vec<&Constraint> {
    constraints.iter().filter(|constraint| !crate::duty::is_timing(constraint)).collect()
}

/// Whether keeping all of `strong` keeps each of `weak`, whenever the anchors come.
///
/// Nothing is used before the signing, and nothing ends before it: what is due so long after the signing is due no later
/// than as long after the first use or the end.
fn in_time(strong: &[Deadline], weak: &[Deadline]) -> Answer {
    let kept = |weak: &Deadline| {
        strong.iter().any(|strong| match (strong, weak) {
            (Deadline::At(strong), Deadline::At(weak)) => strong <= weak,
            (Deadline::After { anchor: from, millis: x }, Deadline::After { anchor, millis: y }) => {
                (from == anchor || *from == Anchor::Signing) && x <= y
            }
            _ => false,
        })
    };
    let alike = |weak: &Deadline| {
        strong.iter().any(|strong| match (strong, weak) {
            (Deadline::At(_), Deadline::At(_)) => true,
            (Deadline::After { anchor: from, .. }, Deadline::After { anchor, .. }) => from == anchor,
            _ => false,
        })
    };
    let lost: Vec<&Deadline> = weak.iter().filter(|weak| !kept(weak)).collect();
    match lost.as_slice() {
        [] => Answer::Yes,
        // One that counts from elsewhere may come before or after; one alike is later, and none at all is the latest.
        _ if strong.is_empty() || lost.iter().any(|weak| alike(weak)) => Answer::No,
        _ => Answer::Unknown,
    }
}

/// Whether `conclusion` holds wherever all of `premises` hold, as far as single constraints show it.
fn follows(premises: &[&Constraint], conclusion: &Constraint) -> bool {
    premises.iter().any(|premise| match (premise, conclusion) {
        (Constraint::Atom(premise), Constraint::Atom(conclusion)) => atom_follows(premise, conclusion),
        _ => *premise == conclusion,
    })
}

fn fact(atom: &Atom) -> &str {
    atom.operand.fact.as_deref().unwrap_or(&atom.operand.iri)
}

fn atom_follows(premise: &Atom, conclusion: &Atom) -> bool {
    if premise == conclusion {
        return true;
    }
    if fact(premise) != fact(conclusion)
        || premise.unit != conclusion.unit
        || premise.minimum_source != conclusion.minimum_source
        || premise.operand.kind != conclusion.operand.kind
    {
        return false;
    }
    let exact = |(lo, hi): (i64, i64)| (lo == hi).then_some(i128::from(lo));
    let bound = |atom: &Atom| match (atom.operand.kind, atom.rights.first()?) {
        (OperandType::Number | OperandType::Count, _) => atom.number().map(crate::value::Decimal::raw),
        (OperandType::Since | OperandType::Duration, _) => atom.millis().and_then(exact),
        (OperandType::Instant, Right::Instant { lo, hi, .. }) => exact((*lo, *hi)),
        _ => None,
    };
    if let (Some(stated), Some(asked)) = (bound(premise), bound(conclusion)) {
        return line_follows(premise.operator, stated, conclusion.operator, asked);
    }
    let one_of = matches!(premise.operator, Operator::Eq | Operator::IsAnyOf);
    premise.operand.kind == OperandType::Symbol
        && one_of
        && conclusion.operator == Operator::IsAnyOf
        && premise.rights.iter().all(|right| conclusion.rights.contains(right))
}

/// Whether `value premise stated` implies `value conclusion asked` on a line.
fn line_follows(premise: Operator, stated: i128, conclusion: Operator, asked: i128) -> bool {
    use Operator::{Eq, Gt, Gteq, Lt, Lteq, Neq};
    match (premise, conclusion) {
        (Eq, Eq) | (Neq, Neq) => stated == asked,
        (Eq, Neq) => stated != asked,
        (Eq, Lt) | (Lteq, Lt | Neq) => stated < asked,
        (Eq | Lt | Lteq, Lteq) | (Lt, Lt | Neq) => stated <= asked,
        (Eq, Gt) | (Gteq, Gt | Neq) => stated > asked,
        (Eq | Gt | Gteq, Gteq) | (Gt, Gt | Neq) => stated >= asked,
        _ => false,
    }
}

/// Whether every duty and remedy of `wide` is owed under `strict`.
pub(crate) fn duties_kept(strict: &Model, wide: &Model, tables: &Tables) -> Result<(), (Answer, String)> {
    let obligations: Vec<Owed<'_>> = strict
        .rules
        .iter()
        .filter(|rule| rule.kind == RuleKind::Duty)
        .map(|rule| Owed::obligation(rule, strict))
        .collect();
    for rule in &wide.rules {
        match rule.kind {
            RuleKind::Duty => {
                let weak = Owed::obligation(rule, wide);
                judged("duty", weak, best(weak, &obligations, tables), &obligations, tables)?;
            }
            RuleKind::Permission => {
                let after =
                    rule.duties.iter().filter(|duty| crate::duty::phase(duty, tables) != Phase::Before);
                for duty in after {
                    kept_by_permissions(strict, rule, Owed::under(duty, rule, wide), &obligations, tables)?;
                }
            }
            RuleKind::Prohibition => {
                let remedies: Vec<Owed<'_>> = strict
                    .rules
                    .iter()
                    .filter(|strong| strong.kind == RuleKind::Prohibition && reaches(strong, rule, tables))
                    .flat_map(|strong| strong.duties.iter().map(|duty| Owed::under(duty, strong, strict)))
                    .collect();
                for duty in &rule.duties {
                    let weak = Owed::under(duty, rule, wide);
                    judged("remedy", weak, best(weak, &remedies, tables), &remedies, tables)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether the prohibition `strong` is broken by all that breaks `weak`.
fn reaches(strong: &Rule, weak: &Rule, tables: &Tables) -> bool {
    let covered = match (tables.action(&strong.action), tables.action(&weak.action)) {
        (Some(strong), Some(weak)) => tables.covered(strong).contains(weak),
        _ => false,
    };
    let all = |own: &Option<Thing>, other: &Option<Thing>| own.is_none() || own == other;
    let conditions: Vec<&Constraint> = weak.constraints.iter().chain(&weak.refinements).collect();
    covered
        && all(&strong.target, &weak.target)
        && all(&strong.assignee, &weak.assignee)
        && strong.constraints.iter().chain(&strong.refinements).all(|own| follows(&conditions, own))
}

/// Whether the second's action includes the first's, so that doing the first is at least a part of the second.
fn does(strong: Owed<'_>, weak: Owed<'_>, tables: &Tables) -> bool {
    let actions = (tables.action(&strong.duty.action), tables.action(&weak.duty.action));
    matches!(actions, (Some(strong), Some(weak)) if tables.covered(weak).contains(strong))
}

fn best(weak: Owed<'_>, candidates: &[Owed<'_>], tables: &Tables) -> Answer {
    let (mut late, mut unclear) = (0_usize, false);
    for strong in candidates {
        match covers(*strong, weak, tables) {
            Answer::Yes => return Answer::Yes,
            Answer::Unknown => unclear = true,
            Answer::No => late += usize::from(does(*strong, weak, tables)),
        }
    }
    // Several that are each too late may together be in time.
    if unclear || late > 1 { Answer::Unknown } else { Answer::No }
}

fn judged(
    what: &str,
    weak: Owed<'_>,
    answer: Answer,
    candidates: &[Owed<'_>],
    tables: &Tables,
) -> Result<(), (Answer, String)> {
    let how = match answer {
        Answer::Yes => return Ok(()),
        Answer::Unknown => "is not clearly kept",
        Answer::No if candidates.iter().any(|strong| does(*strong, weak, tables)) => {
            "is due later or at any time"
        }
        Answer::No => "is missing",
    };
    Err((answer, format!("the {what} to {} of the second {how} in the first", short(&weak.duty.action))))
}

/// A duty of a permission is kept if it is an obligation, or hangs on every permission for the same actions.
fn kept_by_permissions<'m>(
    strict: &'m Model,
    rule: &Rule,
    duty: Owed<'_>,
    obligations: &[Owed<'m>],
    tables: &Tables,
) -> Result<(), (Answer, String)> {
    if best(duty, obligations, tables) == Answer::Yes {
        return Ok(());
    }
    let Some(action) = tables.action(&rule.action) else {
        return judged("duty", duty, Answer::No, &[], tables);
    };
    let permissions = strict.rules.iter().filter(|strong| {
        strong.kind == RuleKind::Permission
            && tables
                .action(&strong.action)
                .is_some_and(|strong| !tables.covered(strong).and(tables.covered(action)).is_empty())
    });
    for permission in permissions {
        let mut candidates: Vec<Owed<'_>> =
            permission.duties.iter().map(|duty| Owed::under(duty, permission, strict)).collect();
        candidates.extend(obligations);
        judged("duty", duty, best(duty, &candidates, tables), &candidates, tables)?;
    }
    Ok(())
}
