//! Comparing two policies: is one at least as strict as the other, and can both be kept at once?
//!
//! The domain of each operand falls into finitely many cells within which no constraint of either policy changes its
//! truth; one point of each cell stands for all of it. Deciding both policies at every combination of points is
//! therefore exact, and a difference comes with the request that shows it. The number of combinations is bounded
//! ([`MAX_WORLDS`]); beyond it, and for what cannot be compared, the answer is unknown, with the reason.

use std::collections::BTreeMap;

use crate::cells::{OTHER, Space, World};
use crate::decide::{FACT_MISSING, FACT_UNTRUSTED, Outcome};
use crate::facts::{DutyState, Facts, Request};
use crate::keeping::Owed;
use crate::model::{Atom, Constraint, Kind, Model, Rule, RuleKind};
use crate::policy::Policy;
use crate::problem::Problems;
use crate::profile::{OperandType, Phase, Profiles, Stage};
use crate::time::UnixMillis;
use crate::value::Right;
use crate::vocab::{operand, short};

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
    /// The facts, with the duties of the first policy by their keys there.
    pub facts: Facts,
    /// The duties of the second policy by their keys there, which may be the same words.
    pub duties_of_second: BTreeMap<String, DutyState>,
}

impl Witness {
    /// The facts as the second policy names them.
    pub fn facts_of_second(&self) -> Facts {
        Facts { duties: self.duties_of_second.clone(), ..self.facts.clone() }
    }

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
        for (duty, state) in &self.duties_of_second {
            if self.facts.duties.get(duty) != Some(state) {
                line.push_str(&format!(", duty {duty} of the second {state:?}"));
            }
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
    if same_terms(strict.model(), wide.model()) {
        return Refinement { answer: Answer::Yes, witness: None, reason: "the terms are equal".to_owned() };
    }
    if let Some(reason) = other_assigner(strict.model(), wide.model()) {
        return unknown(reason);
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
        let narrow = strict.decide(world);
        if narrow.0 == Outcome::Deny {
            return true;
        }
        let broad = wide.decide(world);
        match (narrow.0, broad.0) {
            (_, Outcome::Permit) | (Outcome::Deny, _) => {}
            (Outcome::Permit, Outcome::Deny) if !world.unplaced() => {
                no = Some(refuted(world, &strict, &wide, broad.1));
            }
            (Outcome::Permit | Outcome::Unknown, _) => {
                doubt.get_or_insert_with(|| {
                    format!("not comparable at: {}", witness(world, &strict, &wide).line())
                });
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
    match crate::keeping::duties_kept(&strict.model, &wide.model, wide.decided.tables()) {
        Ok(()) => Refinement {
            answer: Answer::Yes,
            witness: None,
            reason: "everything the first permits, the second permits, and all its duties are kept"
                .to_owned(),
        },
        Err((answer, reason)) => Refinement { answer, witness: None, reason },
    }
}

fn refuted(world: &World<'_>, strict: &Sides, wide: &Sides, code: Option<&'static str>) -> Refinement {
    let witness = witness(world, strict, wide);
    Refinement {
        answer: Answer::No,
        reason: format!(
            "the first permits what the second does not ({}): {}",
            code.unwrap_or_default(),
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
        let (first, second) = (left.decide(world).0, right.decide(world).0);
        let wanted = |parts: &Parts, decided| {
            decided == Outcome::Permit || says(&parts.required) || says(&parts.permitted)
        };
        if (wanted(&here, first) && says(&there.forbidden))
            || (wanted(&there, second) && says(&here.forbidden))
        {
            clash = Some(witness(world, &left, &right));
            return false;
        }
        if first == Outcome::Permit && second == Outcome::Permit && !world.unplaced() {
            shared.get_or_insert_with(|| witness(world, &left, &right));
        }
        let open = |answer: Outcome| answer != Outcome::Deny;
        doubt |= open(first) && open(second) || world.unplaced() && (open(first) || open(second));
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
        None if doubt => {
            unknown(unrelated(&left, &right).unwrap_or_else(|| "some values cannot be compared".to_owned()))
        }
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
        match side.decide(world).0 {
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
        let (was, is) = (old.decide(world), new.decide(world));
        let (list, refused, code) = match (was.0, is.0) {
            (Outcome::Permit, Outcome::Permit) => return true,
            (Outcome::Permit, _) => (&mut difference.no_longer_permits, false, is.1),
            (_, Outcome::Permit) => (&mut difference.also_permits, true, was.1),
            _ => return true,
        };
        let key = (refused, world.action.to_owned(), code);
        if list.len() < MAX_SHOWN && !seen.contains(&key) {
            seen.push(key);
            list.push(witness(world, &old, &new));
        }
        true
    });
    difference
}

/// One policy in the forms that the comparison asks.
struct Sides {
    model: Model,
    decided: Policy,
    /// Key and rule of each duty that must be done before use.
    before: Vec<(String, Rule)>,
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
        crate::units::comparable(left, right)?;
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
        let decided = Policy::from_model(model.clone(), policy.profile_set())?;
        let before = duties_before(&decided).map(|(key, duty)| (key.to_owned(), duty.settled())).collect();
        Ok(Self { model, decided, before })
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

    /// How far the duties before use are in this world.
    fn duties<'s>(&'s self, world: &'s World<'_>) -> impl Iterator<Item = (&'s str, DutyState)> {
        self.before.iter().map(|(key, duty)| {
            (key.as_str(), if world.done(duty) { DutyState::Fulfilled } else { DutyState::Pending })
        })
    }

    fn decide(&self, world: &World<'_>) -> (Outcome, Option<&'static str>) {
        let (request, mut facts) = world.ask();
        for (duty, state) in self.duties(world) {
            facts = facts.duty(duty, state);
        }
        let decision = self.decided.decide(&request, &facts);
        let code = decision.code.map(|code| code.code);
        // All facts of a world are given: a weak source stays weak, and a membership that is missing does not exist,
        // but for those whom the policies name. Only what cannot be compared is truly open.
        let settled = code == Some(FACT_UNTRUSTED.code)
            || (code == Some(FACT_MISSING.code) && !world.membership_open());
        (if settled { Outcome::Deny } else { decision.outcome }, code)
    }
}

/// The request and the facts of a world, with the duties of both sides.
fn witness(world: &World<'_>, left: &Sides, right: &Sides) -> Witness {
    let of = |side: &Sides| {
        side.duties(world).map(|(duty, state)| (duty.to_owned(), state)).collect::<BTreeMap<_, _>>()
    };
    let (request, facts) = world.ask();
    Witness {
        action: request.action.to_owned(),
        target: request.target.to_owned(),
        assignee: request.assignee.to_owned(),
        facts: Facts { duties: of(left), ..facts },
        duties_of_second: of(right),
    }
}

/// Key and rule of each duty that must be done before use.
pub(crate) fn duties_before(policy: &Policy) -> impl Iterator<Item = (&str, Owed<'_>)> {
    let model = policy.model();
    let rules = model.rules.iter();
    let obligations = rules.clone().filter(|rule| rule.kind == RuleKind::Duty).map(|rule| (rule, rule));
    let below = rules
        .filter(|rule| rule.kind != RuleKind::Duty)
        .flat_map(|rule| rule.duties.iter().map(move |duty| (duty, rule)));
    policy
        .duties()
        .iter()
        .zip(obligations.chain(below))
        .filter(|(duty, _)| {
            duty.phase == Phase::Before && matches!(duty.role, crate::duty::DutyRole::OfPermission(_))
        })
        .map(move |(duty, (rule, parent))| (duty.key.as_str(), Owed::under(rule, parent, model)))
}

/// Whether both models say the same, word for word but for name and class.
fn same_terms(left: &Model, right: &Model) -> bool {
    let [left, right] = [left, right].map(|model| {
        let mut model = model.clone();
        model.uid.clear();
        (model.kind, model.timestamp) = (Kind::Set, None);
        crate::canonical::policy_json(&model)
    });
    left == right
}

/// What one party grants is not what another grants. A side that names nobody says nothing about it.
fn other_assigner(left: &Model, right: &Model) -> Option<String> {
    let assigners = |model: &Model| -> std::collections::BTreeSet<String> {
        model.rules.iter().filter_map(|rule| rule.assigner.as_ref()).map(|thing| thing.iri.clone()).collect()
    };
    let (first, second) = (assigners(left), assigners(right));
    if first.is_empty() || second.is_empty() {
        return None;
    }
    let other = first.symmetric_difference(&second).next()?;
    Some(format!("only one side has {other} as assigner"))
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

/// The facts that decide what is permitted: whatever a profile calls them, and whether a permission or a prohibition
/// asks for them.
fn operands(model: &Model) -> std::collections::BTreeSet<String> {
    let mut found = std::collections::BTreeSet::new();
    for rule in model.rules.iter().filter(|rule| rule.kind != RuleKind::Duty) {
        let mut rule = rule.clone();
        rule.duties.clear();
        each_atom(&mut rule, &mut |atom| {
            found.insert(match atom.operand.kind {
                OperandType::Instant => operand::DATE_TIME.to_owned(),
                _ => atom.operand.fact.clone().unwrap_or_else(|| atom.operand.iri.clone()),
            });
        });
    }
    found
}

/// An operand that only one side constrains.
fn silent(left: &Model, right: &Model) -> Option<String> {
    operands(left).symmetric_difference(&operands(right)).next().cloned()
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

/// The request and facts of a world as a decision takes them.
impl World<'_> {
    fn ask(&self) -> (Request<'_>, Facts) {
        (
            Request { action: self.action, target: self.target, assignee: self.assignee, stage: Stage::Use },
            self.facts(),
        )
    }
}
