//! Comparing two policies: is one at least as strict as the other, and can both be kept at once?
//!
//! The domain of each operand falls into finitely many cells within which no constraint of either policy changes its
//! truth; one point of each cell stands for all of it. Deciding both policies at every combination of points is
//! therefore exact, and a difference comes with the request that shows it. The number of combinations is bounded
//! ([`MAX_WORLDS`]); beyond it, and for what cannot be compared, the answer is unknown, with the reason.

use crate::cells::{OTHER, Space, World};
use crate::decide::{FACT_MISSING, FACT_UNTRUSTED, Outcome};
use crate::duty::Deadline;
use crate::facts::{DutyState, Facts, Request};
use crate::model::{Atom, Constraint, Kind, Model, Rule, RuleKind};
use crate::policy::Policy;
use crate::problem::Problems;
use crate::profile::{Phase, Profiles, Stage};
use crate::time::UnixMillis;
use crate::value::Right;
use crate::vocab::short;

/// The most combinations of points that are decided: some tens of milliseconds.
pub const MAX_WORLDS: usize = 20_000;
/// The most constraints looked at in one comparison, in all combinations together, and the most tests of a symbol
/// against a set on the way there: some hundred milliseconds, however the policies are made.
pub const MAX_STEPS: usize = 5_000_000;

/// The most constraints of both policies together that are compared: preparing more takes noticeable time, and the
/// combinations would exceed their own bounds anyway.
pub const MAX_COMPARED_CONSTRAINTS: usize = 4_000;

/// Whether a statement holds for every request and every state of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// Not known: a person must look.
    Unknown,
}

/// Whether two policies can be kept at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meeting {
    /// Nothing is permitted by both, or one prohibits what the other permits or requires.
    Conflict,
    /// Some request satisfies both.
    Compatible,
    /// Not known: an operand is stated by one side only, or cannot be compared.
    Unknown,
}

/// A request with its facts that shows a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The action's IRI.
    pub action: String,
    /// The dataset.
    pub target: String,
    /// The participant.
    pub assignee: String,
    /// The facts.
    pub facts: Facts,
}

impl Witness {
    /// The witness as one line.
    pub fn line(&self) -> String {
        let named = |name: &str, other: &str| if name == OTHER { other.to_owned() } else { name.to_owned() };
        let mut line = format!(
            "{} {} by {}",
            short(&self.action),
            named(&self.target, "any other dataset"),
            named(&self.assignee, "anybody")
        );
        // The beginning of time stands for all times where no rule asks for one.
        if self.facts.now() != UnixMillis(0) {
            line.push_str(&format!(" at {}", self.facts.now()));
        }
        for fact in &self.facts.entries {
            line.push_str(&format!(", {} = {}", short(fact.operand.as_str()), fact.value));
        }
        for (duty, state) in &self.facts.duties {
            line.push_str(&format!(", duty {duty} {state:?}"));
        }
        line
    }
}

/// The answer to [`refines`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refinement {
    /// Whether the first policy is at least as strict as the second.
    pub answer: Answer,
    /// For a no by permission: a request that the first permits and the second does not.
    pub witness: Option<Witness>,
    /// The clause or operand that decides, in English.
    pub reason: String,
}

/// The answer to [`conflict`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encounter {
    /// Whether both can be kept.
    pub verdict: Meeting,
    /// The request that satisfies both, or that one side permits and the other prohibits.
    pub witness: Option<Witness>,
    /// The clause or operand that decides, in English.
    pub reason: String,
}

/// Is `strict` at least as strict as `wide`: whatever `strict` permits, `wide` permits, and every duty of `wide` is
/// owed under `strict` as well, no later and under no narrower conditions?
///
/// A counter-offer may be accepted by rule if it refines the offer, and an offer if one's own ceiling refines it:
/// [`crate::accept`] asks that.
pub fn refines(strict: &Policy, wide: &Policy) -> Refinement {
    let unknown = |reason: String| Refinement { answer: Answer::Unknown, witness: None, reason };
    let parties = |policy: &Policy| -> Vec<_> {
        policy.model().rules.iter().map(|rule| rule.assignee.clone()).collect()
    };
    if strict.terms_equal(wide) && parties(strict) == parties(wide) {
        return Refinement { answer: Answer::Yes, witness: None, reason: "the terms are equal".to_owned() };
    }
    let [strict, wide] = match Sides::prepare(strict, wide) {
        Ok(sides) => sides,
        Err(reason) => return unknown(reason),
    };
    let space = match Space::of(&[&strict.decided, &wide.decided]) {
        Ok(space) => space,
        Err(reason) => return unknown(reason),
    };
    let mut doubt: Option<String> = None;
    let mut no: Option<Refinement> = None;
    space.each(|world| {
        let narrow = strict.decide(world, &wide, false);
        if narrow.0 == Outcome::Deny {
            return true;
        }
        let broad = wide.decide(world, &strict, true);
        match (narrow.0, broad.0) {
            (_, Outcome::Permit) | (Outcome::Deny, _) => {}
            (Outcome::Permit, Outcome::Deny) => no = Some(refuted(world, broad)),
            (Outcome::Permit | Outcome::Unknown, _) => {
                doubt.get_or_insert_with(|| format!("not comparable at: {}", world.witness().line()));
            }
        }
        no.is_none()
    });
    if let Some(no) = no {
        return no;
    }
    if let Some(reason) = doubt {
        return unknown(reason);
    }
    match duties_kept(&strict.model, &wide.model, wide.decided.tables()) {
        Ok(()) => Refinement {
            answer: Answer::Yes,
            witness: None,
            reason: "everything the first permits, the second permits, and all its duties are kept"
                .to_owned(),
        },
        Err((answer, reason)) => Refinement { answer, witness: None, reason },
    }
}

fn refuted(world: &World<'_>, broad: (Outcome, Option<&'static str>)) -> Refinement {
    let witness = world.witness();
    Refinement {
        answer: Answer::No,
        reason: format!(
            "the first permits what the second does not ({}): {}",
            broad.1.unwrap_or_default(),
            witness.line()
        ),
        witness: Some(witness),
    }
}

/// Can both policies be kept at once?
///
/// An operand that only one side constrains leaves the meeting unknown unless the rest already conflicts: what the
/// silent side means by its silence is not stated.
pub fn conflict(left: &Policy, right: &Policy) -> Encounter {
    let unknown = |reason: String| Encounter { verdict: Meeting::Unknown, witness: None, reason };
    let [left, right] = match Sides::prepare(left, right) {
        Ok(sides) => sides,
        Err(reason) => return unknown(reason),
    };
    let (here, there) = match (left.parts(), right.parts()) {
        (Ok(here), Ok(there)) => (here, there),
        (Err(reason), _) | (_, Err(reason)) => return unknown(reason),
    };
    let all =
        [&left.decided, &right.decided, &here.forbidden, &there.forbidden, &here.required, &there.required];
    let space = match Space::of(&all) {
        Ok(space) => space,
        Err(reason) => return unknown(reason),
    };
    let (mut clash, mut shared, mut doubt) = (None, None, false);
    space.each(|world| {
        let (request, facts) = world.ask();
        let says = |policy: &Policy| policy.decide(&request, &facts).outcome == Outcome::Permit;
        let (first, second) = (left.decide(world, &right, false).0, right.decide(world, &left, false).0);
        let wanted = |parts: &Parts, decided| {
            decided == Outcome::Permit || says(&parts.required) || says(&parts.permitted)
        };
        if (wanted(&here, first) && says(&there.forbidden))
            || (wanted(&there, second) && says(&here.forbidden))
        {
            clash = Some(world.witness());
            return false;
        }
        if first == Outcome::Permit && second == Outcome::Permit {
            shared.get_or_insert_with(|| world.witness());
        }
        doubt |= first != Outcome::Deny && second != Outcome::Deny;
        true
    });
    if let Some(witness) = clash {
        let reason = format!("one permits or requires what the other prohibits: {}", witness.line());
        return Encounter { verdict: Meeting::Conflict, witness: Some(witness), reason };
    }
    let both_permit = left.has(RuleKind::Permission) && right.has(RuleKind::Permission);
    if !both_permit {
        let reason = "neither prohibits what the other permits or requires".to_owned();
        return Encounter { verdict: Meeting::Compatible, witness: shared, reason };
    }
    match shared {
        Some(witness) => match silent(&left.model, &right.model) {
            Some(operand) => Encounter {
                verdict: Meeting::Unknown,
                reason: format!(
                    "only one side constrains {}; both would permit: {}",
                    short(&operand),
                    witness.line()
                ),
                witness: Some(witness),
            },
            None => Encounter {
                verdict: Meeting::Compatible,
                reason: format!("both permit: {}", witness.line()),
                witness: Some(witness),
            },
        },
        None if doubt => unknown("some values cannot be compared".to_owned()),
        None => match unrelated(&left, &right) {
            Some(reason) => unknown(reason),
            None => Encounter {
                verdict: Meeting::Conflict,
                witness: None,
                reason: "no request is permitted by both".to_owned(),
            },
        },
    }
}

/// Both directions and the meeting at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Can both be kept?
    pub conflict: Encounter,
    /// Is the first at least as strict as the second?
    pub refines: Refinement,
    /// Is the second at least as strict as the first?
    pub refined_by: Refinement,
}

impl Comparison {
    /// Whether both say the same of every request.
    pub fn equivalent(&self) -> Answer {
        match (self.refines.answer, self.refined_by.answer) {
            (Answer::Yes, Answer::Yes) => Answer::Yes,
            (Answer::No, _) | (_, Answer::No) => Answer::No,
            _ => Answer::Unknown,
        }
    }
}

/// Compares two policies in every way that this module knows.
pub fn compare(left: &Policy, right: &Policy) -> Comparison {
    Comparison {
        conflict: conflict(left, right),
        refines: refines(left, right),
        refined_by: refines(right, left),
    }
}

/// Is there any request that the policy permits?
pub fn satisfiable(policy: &Policy) -> Answer {
    let Ok([side, _]) = Sides::prepare(policy, policy) else { return Answer::Unknown };
    let Ok(space) = Space::of(&[&side.decided]) else { return Answer::Unknown };
    let mut answer = Answer::No;
    space.each(|world| {
        match side.decide(world, &side, false).0 {
            Outcome::Permit => answer = Answer::Yes,
            Outcome::Unknown => answer = Answer::Unknown,
            Outcome::Deny => {}
        }
        answer != Answer::Yes
    });
    answer
}

/// What changed from one version of a policy to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Requests that only the new version permits, at most one for each action and reason.
    pub also_permits: Vec<Witness>,
    /// Requests that only the old version permits.
    pub no_longer_permits: Vec<Witness>,
    /// Clauses that only the new version has, as sentences.
    pub clauses_added: Vec<String>,
    /// Clauses that only the old version has.
    pub clauses_removed: Vec<String>,
    /// Why the requests could not be compared, if they could not; the clauses are complete in any case.
    pub unknown: Option<String>,
}

/// The most requests shown for each side of a difference.
const MAX_SHOWN: usize = 8;

/// What `new` says otherwise than `old`: in requests that come out differently, and in clauses.
pub fn difference(old: &Policy, new: &Policy, lang: crate::profile::Lang) -> Difference {
    let sentences = |policy: &Policy| -> Vec<String> {
        policy.render(lang).into_iter().map(|clause| clause.text).collect()
    };
    let (before, after) = (sentences(old), sentences(new));
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|text| !those.contains(text)).cloned().collect()
    };
    let mut difference = Difference {
        also_permits: Vec::new(),
        no_longer_permits: Vec::new(),
        clauses_added: only(&after, &before),
        clauses_removed: only(&before, &after),
        unknown: None,
    };
    let prepared = Sides::prepare(old, new)
        .and_then(|[old, new]| Space::of(&[&old.decided, &new.decided]).map(|space| (old, new, space)));
    let (old, new, space) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => {
            difference.unknown = Some(reason);
            return difference;
        }
    };
    let mut seen: Vec<(bool, String, Option<&'static str>)> = Vec::new();
    space.each(|world| {
        let (was, is) = (old.decide(world, &new, false), new.decide(world, &old, false));
        let (list, refused, code) = match (was.0, is.0) {
            (Outcome::Permit, Outcome::Permit) => return true,
            (Outcome::Permit, _) => (&mut difference.no_longer_permits, false, is.1),
            (_, Outcome::Permit) => (&mut difference.also_permits, true, was.1),
            _ => return true,
        };
        let key = (refused, world.action.to_owned(), code);
        if list.len() < MAX_SHOWN && !seen.contains(&key) {
            seen.push(key);
            list.push(world.witness());
        }
        true
    });
    difference
}

/// One policy in the forms that the comparison asks.
struct Sides {
    model: Model,
    decided: Policy,
}

/// The three kinds of rules of one policy, each read as permissions alone.
struct Parts {
    /// Its permissions, as if nothing were prohibited.
    permitted: Policy,
    /// Its prohibitions: what it forbids.
    forbidden: Policy,
    /// Its obligations: what it demands.
    required: Policy,
}

impl Sides {
    fn prepare(left: &Policy, right: &Policy) -> Result<[Self; 2], String> {
        let constraints = constraint_count(left.model()) + constraint_count(right.model());
        if constraints > MAX_COMPARED_CONSTRAINTS {
            return Err(format!(
                "{constraints} constraints, and at most {MAX_COMPARED_CONSTRAINTS} are compared"
            ));
        }
        let zoneless = [left, right].iter().all(|policy| !any_zoned(policy.model()));
        let side = |policy: &Policy| {
            Self::of(policy, zoneless).map_err(|problems: Problems| problems.first().to_string())
        };
        Ok([side(left)?, side(right)?])
    }

    fn of(policy: &Policy, zoneless: bool) -> Result<Self, Problems> {
        let mut model = policy.model().clone();
        // Compared is what the text would mean if it were in force.
        model.kind = Kind::Set;
        model.timestamp = None;
        if zoneless {
            model.rules.iter_mut().for_each(|rule| each_atom(rule, &mut pin_zone));
        }
        Ok(Self { decided: Policy::from_model(model.clone(), policy.profile_set())?, model })
    }

    fn parts(&self) -> Result<Parts, String> {
        let profiles: &Profiles = self.decided.profile_set();
        let only = |kind: RuleKind| {
            let mut part = self.model.clone();
            part.rules.retain(|rule| rule.kind == kind);
            for rule in &mut part.rules {
                rule.kind = RuleKind::Permission;
                rule.duties.clear();
            }
            Policy::from_model(part, profiles).map_err(|problems| problems.first().to_string())
        };
        Ok(Parts {
            permitted: only(RuleKind::Permission)?,
            forbidden: only(RuleKind::Prohibition)?,
            required: only(RuleKind::Duty)?,
        })
    }

    fn has(&self, kind: RuleKind) -> bool {
        self.model.rules.iter().any(|rule| rule.kind == kind)
    }

    /// Decides with the duties that are done in this world. With `by_other`, a duty of this side is also done when
    /// the other side's stronger one is.
    fn decide(&self, world: &World<'_>, other: &Self, by_other: bool) -> (Outcome, Option<&'static str>) {
        let (request, mut facts) = world.ask();
        for (duty, rule) in duties_before(&self.decided) {
            let own = world.done(rule);
            let through_other = by_other
                && duties_before(&other.decided).any(|(_, stronger)| {
                    world.done(stronger) && covers(stronger, rule, self.decided.tables())
                });
            let state = if own || through_other { DutyState::Fulfilled } else { DutyState::Pending };
            facts = facts.duty(duty, state);
        }
        let decision = self.decided.decide(&request, &facts);
        let code = decision.code.map(|code| code.code);
        // All facts of a world are given: what is missing is a membership that does not exist, and a weak source
        // stays weak. Only what cannot be compared is truly open.
        let settled = code == Some(FACT_UNTRUSTED.code) || code == Some(FACT_MISSING.code);
        (if settled { Outcome::Deny } else { decision.outcome }, code)
    }
}

/// Key and rule of each duty that must be done before use.
pub(crate) fn duties_before(policy: &Policy) -> impl Iterator<Item = (&str, &Rule)> {
    let rules = policy.model().rules.iter();
    let obligations = rules.clone().filter(|rule| rule.kind == RuleKind::Duty);
    let below = rules.filter(|rule| rule.kind != RuleKind::Duty).flat_map(|rule| &rule.duties);
    policy
        .duties()
        .iter()
        .zip(obligations.chain(below))
        .filter(|(duty, _)| {
            duty.phase == Phase::Before && matches!(duty.role, crate::duty::DutyRole::OfPermission(_))
        })
        .map(|(duty, rule)| (duty.key.as_str(), rule))
}

fn each_atom(rule: &mut Rule, change: &mut impl FnMut(&mut Atom)) {
    fn walk(constraints: &mut [Constraint], change: &mut impl FnMut(&mut Atom)) {
        for constraint in constraints {
            match constraint {
                Constraint::Atom(atom) => change(atom),
                Constraint::Logic { parts, .. } => walk(parts, change),
            }
        }
    }
    walk(&mut rule.constraints, change);
    walk(&mut rule.refinements, change);
    for duty in &mut rule.duties {
        each_atom(duty, change);
    }
}

/// How many atomic constraints there are, duties included.
pub(crate) fn constraint_count(model: &Model) -> usize {
    fn within(constraints: &[Constraint]) -> usize {
        let each = |constraint: &Constraint| match constraint {
            Constraint::Atom(_) => 1,
            Constraint::Logic { parts, .. } => within(parts),
        };
        constraints.iter().map(each).sum()
    }
    fn of(rule: &Rule) -> usize {
        within(&rule.constraints) + within(&rule.refinements) + rule.duties.iter().map(of).sum::<usize>()
    }
    model.rules.iter().map(of).sum()
}

/// Where no time has a zone, all of them mean the same unnamed one.
fn pin_zone(atom: &mut Atom) {
    for right in &mut atom.rights {
        match right {
            Right::Instant { lo, hi, .. } => {
                let middle = i64::midpoint(*lo, *hi);
                (*lo, *hi) = (middle, middle);
            }
            Right::Day { start_lo, start_hi, .. } => {
                let middle = i64::midpoint(*start_lo, *start_hi);
                (*start_lo, *start_hi) = (middle, middle);
            }
            _ => {}
        }
    }
}

fn any_zoned(model: &Model) -> bool {
    let mut zoned = false;
    for rule in &model.rules {
        each_atom(&mut rule.clone(), &mut |atom| {
            zoned |= atom.rights.iter().any(|right| match right {
                Right::Instant { lo, hi, .. } => lo == hi,
                Right::Day { start_lo, start_hi, .. } => start_lo == start_hi,
                _ => false,
            });
        });
    }
    zoned
}

fn operands(model: &Model, kind: RuleKind) -> std::collections::BTreeSet<String> {
    let mut found = std::collections::BTreeSet::new();
    for rule in model.rules.iter().filter(|rule| rule.kind == kind) {
        let mut rule = rule.clone();
        rule.duties.clear();
        each_atom(&mut rule, &mut |atom| {
            found.insert(atom.operand.iri.clone());
        });
    }
    found
}

/// An operand that one side's permissions constrain and the other's do not.
fn silent(left: &Model, right: &Model) -> Option<String> {
    let (left, right) = (operands(left, RuleKind::Permission), operands(right, RuleKind::Permission));
    left.symmetric_difference(&right).next().cloned()
}

/// Symbols outside every taxonomy under an operator that asks a taxonomy: that none is known to lie in both does not
/// mean that none does.
fn unrelated(left: &Sides, right: &Sides) -> Option<String> {
    let mut found = None;
    for side in [left, right] {
        for rule in &side.model.rules {
            each_atom(&mut rule.clone(), &mut |atom| {
                use crate::profile::Operator::{HasPart, IsA, IsPartOf};
                if !matches!(atom.operator, IsA | IsPartOf | HasPart) {
                    return;
                }
                let taxonomy = side.decided.tables().taxonomy(&atom.operand);
                let stranger = atom.rights.iter().find(|right| match right {
                    Right::Symbol(iri) => taxonomy.is_none_or(|taxonomy| taxonomy.find(iri).is_none()),
                    _ => false,
                });
                if let Some(stranger) = stranger {
                    found.get_or_insert_with(|| format!("no taxonomy relates {}", short(&stranger.text())));
                }
            });
        }
    }
    found
}

/// Whether doing `strong` also does `weak`: same or narrower action on the same thing, no later, refined at least as
/// much, and under no more conditions.
pub(crate) fn covers(strong: &Rule, weak: &Rule, tables: &crate::tables::Tables) -> bool {
    let included = match (tables.action(&strong.action), tables.action(&weak.action)) {
        (Some(strong), Some(weak)) => tables.covered(weak).contains(strong),
        _ => false,
    };
    let timely = match (crate::duty::deadline(strong), crate::duty::deadline(weak)) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(Deadline::At(strong)), Some(Deadline::At(weak))) => strong <= weak,
        (Some(Deadline::After { anchor: a, millis: x }), Some(Deadline::After { anchor: b, millis: y })) => {
            a == b && x <= y
        }
        (Some(_), Some(_)) => false,
    };
    let conditions = |rule: &Rule| -> Vec<Constraint> {
        rule.constraints.iter().filter(|constraint| !crate::duty::is_timing(constraint)).cloned().collect()
    };
    let refinements = |rule: &Rule| -> Vec<Constraint> {
        rule.refinements.iter().filter(|constraint| !crate::duty::is_timing(constraint)).cloned().collect()
    };
    let (strong_conditions, weak_conditions) = (conditions(strong), conditions(weak));
    let (strong_refinements, weak_refinements) = (refinements(strong), refinements(weak));
    included
        && timely
        && crate::duty::phase(strong, tables) <= crate::duty::phase(weak, tables)
        && (weak.target.is_none() || strong.target == weak.target)
        && weak.parties.iter().all(|party| strong.parties.contains(party))
        && strong_conditions.iter().all(|constraint| weak_conditions.contains(constraint))
        && weak_refinements.iter().all(|constraint| strong_refinements.contains(constraint))
        && weak.duties.iter().all(|weak| strong.duties.iter().any(|strong| covers(strong, weak, tables)))
}

/// Whether every duty of `wide` is owed under `strict`.
fn duties_kept(strict: &Model, wide: &Model, tables: &crate::tables::Tables) -> Result<(), (Answer, String)> {
    let obligations: Vec<&Rule> = strict.rules.iter().filter(|rule| rule.kind == RuleKind::Duty).collect();
    let missing = |weak: &Rule, candidates: &[&Rule]| {
        let related = candidates.iter().any(|strong| {
            match (tables.action(&strong.action), tables.action(&weak.action)) {
                (Some(strong), Some(weak)) => {
                    tables.covered(weak).contains(strong) || tables.covered(strong).contains(weak)
                }
                _ => false,
            }
        });
        let answer = if related { Answer::Unknown } else { Answer::No };
        let how = if related { "is not clearly kept" } else { "is missing" };
        (answer, format!("the duty to {} of the second {how} in the first", short(&weak.action)))
    };
    for rule in &wide.rules {
        match rule.kind {
            RuleKind::Duty => {
                if !obligations.iter().any(|strong| covers(strong, rule, tables)) {
                    return Err(missing(rule, &obligations));
                }
            }
            RuleKind::Permission => {
                for duty in
                    rule.duties.iter().filter(|duty| crate::duty::phase(duty, tables) != Phase::Before)
                {
                    kept_by_permissions(strict, rule, duty, &obligations, tables)
                        .map_err(|below| missing(duty, &below))?;
                }
            }
            RuleKind::Prohibition => {}
        }
    }
    Ok(())
}

/// A duty of a permission is kept if it is an obligation, or hangs on every permission for the same actions.
fn kept_by_permissions<'m>(
    strict: &'m Model,
    rule: &Rule,
    duty: &Rule,
    obligations: &[&'m Rule],
    tables: &crate::tables::Tables,
) -> Result<(), Vec<&'m Rule>> {
    if obligations.iter().any(|strong| covers(strong, duty, tables)) {
        return Ok(());
    }
    let Some(action) = tables.action(&rule.action) else { return Err(Vec::new()) };
    let permissions = strict.rules.iter().filter(|strong| {
        strong.kind == RuleKind::Permission
            && tables
                .action(&strong.action)
                .is_some_and(|strong| !tables.covered(strong).and(tables.covered(action)).is_empty())
    });
    let mut all = true;
    let mut below = Vec::new();
    for permission in permissions {
        below.extend(&permission.duties);
        all &= permission.duties.iter().any(|strong| covers(strong, duty, tables));
    }
    if all { Ok(()) } else { Err(below) }
}

/// The request and facts of a world as a decision takes them.
impl World<'_> {
    fn ask(&self) -> (Request<'_>, Facts) {
        (
            Request { action: self.action, target: self.target, assignee: self.assignee, stage: Stage::Use },
            self.facts(),
        )
    }

    fn witness(&self) -> Witness {
        Witness {
            action: self.action.to_owned(),
            target: self.target.to_owned(),
            assignee: self.assignee.to_owned(),
            facts: self.facts(),
        }
    }
}
