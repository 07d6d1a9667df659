//! The finitely many cases that matter to a set of policies: one point for each cell of each operand's domain.

use std::collections::BTreeSet;

use crate::compare::{Answer, MAX_STEPS, MAX_WORLDS, duties_before};
use crate::facts::Facts;
use crate::ir::{NodeKind, SlotKind, SymbolSet, Test};
use crate::keeping::{Owed, covers};
use crate::model::{Atom, Constraint, Rule};
use crate::policy::Policy;
use crate::profile::{OperandInfo, OperandType, Operator, Source};
use crate::time::UnixMillis;
use crate::value::{DAY_MILLIS, Decimal, Right, Symbol, Value};
use crate::vocab::action::READ;
use crate::vocab::short;

/// A name that no policy uses: it stands for all names that are not written in them.
pub(crate) const OTHER: &str = "urn:fairlead:any-other";
/// A member of collections, numbered.
const MEMBER: &str = "urn:fairlead:member:";
/// The most collections in one position whose combinations are tried.
const MAX_COLLECTIONS: usize = 3;
/// The most classes of symbols of which all subsets are tried, for operators over several values.
const MAX_SUBSET_SYMBOLS: usize = 6;
/// The same for what somebody holds: combinations that the rules treat alike count once.
const MAX_HELD_SYMBOLS: usize = 10;

/// One operand with its points.
struct Dimension {
    operand: Option<Symbol>,
    points: Vec<Point>,
    /// Symbols of which no taxonomy says whether they lie within those that the rules ask for.
    unplaced: BTreeSet<String>,
}

#[derive(Clone)]
enum Point {
    Now(i64),
    Fact(Value, Source),
}

/// All dimensions; a world picks one point of each.
pub(crate) struct Space {
    actions: Vec<String>,
    targets: Vec<String>,
    assignees: Vec<String>,
    dimensions: Vec<Dimension>,
    /// Duties before use, without doubles.
    duties: Vec<Rule>,
    /// For each of them, which others do it as well.
    stronger: Vec<Vec<usize>>,
    memberships: Vec<(String, String)>,
    /// Collections of assets and of parties.
    collections: [Vec<String>; 2],
}

/// One combination.
pub(crate) struct World<'a> {
    pub action: &'a str,
    pub target: &'a str,
    pub assignee: &'a str,
    space: &'a Space,
    picks: &'a [usize],
}

impl World<'_> {
    pub(crate) fn facts(&self) -> Facts {
        let mut facts = Facts::at(UnixMillis(0));
        for (dimension, pick) in self.space.dimensions.iter().zip(self.picks) {
            match (dimension.points.get(*pick), &dimension.operand) {
                (Some(Point::Now(now)), _) => facts.now = UnixMillis(*now),
                (Some(Point::Fact(value, source)), Some(operand)) => {
                    facts = facts.with(operand.as_str(), value.clone(), *source, UnixMillis(0));
                }
                _ => {}
            }
        }
        for (member, collection) in &self.space.memberships {
            facts = facts.member(member, collection);
        }
        facts
    }

    /// Whether the duty is done in this world, or one that does it as well; equal duties of two policies are one.
    pub(crate) fn done(&self, rule: &Rule) -> bool {
        let first = self.space.dimensions.len();
        let picked = |index: usize| self.picks.get(first + index).is_some_and(|pick| *pick == 1);
        self.space.duties.iter().position(|known| same_duty(known, rule)).is_some_and(|index| {
            picked(index)
                || self
                    .space
                    .stronger
                    .get(index)
                    .is_some_and(|others| others.iter().any(|other| picked(*other)))
        })
    }

    /// Whether nobody has said if a dataset or participant that the policies name belongs to a collection of theirs.
    pub(crate) fn membership_open(&self) -> bool {
        let facts = self.facts();
        [self.target, self.assignee].into_iter().zip(&self.space.collections).any(|(name, collections)| {
            name != OTHER
                && !name.starts_with(MEMBER)
                && collections.iter().any(|collection| !facts.belongs(name, collection))
        })
    }

    /// Whether a value of this world is one that no taxonomy places: that it lies in none of the classes that the rules
    /// name is then not known.
    pub(crate) fn unplaced(&self) -> bool {
        self.space.dimensions.iter().zip(self.picks).any(|(dimension, pick)| {
            let within = |symbol: &Symbol| dimension.unplaced.contains(symbol.as_str());
            match dimension.points.get(*pick) {
                Some(Point::Fact(Value::Symbol(symbol), _)) => within(symbol),
                Some(Point::Fact(Value::Symbols(list), _)) => list.iter().any(within),
                _ => false,
            }
        })
    }
}

fn same_duty(left: &Rule, right: &Rule) -> bool {
    left.action == right.action
        && left.target == right.target
        && left.assignee == right.assignee
        && left.constraints == right.constraints
        && left.refinements == right.refinements
        && left.parties == right.parties
}

impl Space {
    /// The cases of these policies.
    ///
    /// # Errors
    /// The reason why they cannot be enumerated: an operand that is never decided, several units, too many cases.
    pub(crate) fn of(policies: &[&Policy]) -> Result<Self, String> {
        let mut space = Self {
            actions: actions(policies),
            targets: Vec::new(),
            assignees: Vec::new(),
            dimensions: Vec::new(),
            duties: Vec::new(),
            stronger: Vec::new(),
            memberships: Vec::new(),
            collections: Default::default(),
        };
        space.names(policies)?;
        let mut operands: Vec<(Symbol, SlotKind, &OperandInfo)> = Vec::new();
        for policy in policies {
            for slot in &policy.program().slots {
                let clock = slot.kind == SlotKind::Clock
                    && operands.iter().any(|(_, kind, _)| *kind == SlotKind::Clock);
                if !clock && !operands.iter().any(|(known, ..)| *known == slot.fact) {
                    operands.push((slot.fact.clone(), slot.kind, &*slot.info));
                }
            }
        }
        for (operand, kind, info) in operands {
            let tests = tests(policies, &operand, kind);
            match kind {
                SlotKind::Clock => {
                    let (operand, unplaced) = (None, BTreeSet::new());
                    space.dimensions.push(Dimension { operand, points: instants(&tests), unplaced });
                }
                SlotKind::Participant => {
                    for (test, _) in &tests {
                        for set in sets(test) {
                            space.assignees.extend(set.0.iter().map(|symbol| symbol.as_str().to_owned()));
                        }
                    }
                }
                SlotKind::Fact => {
                    let points = points(&operand, info, &tests)?;
                    let unplaced = unplaced(policies, &operand);
                    space.dimensions.push(Dimension { operand: Some(operand), points, unplaced });
                }
            }
        }
        space.assignees.sort();
        space.assignees.dedup();
        for policy in policies {
            for (_, duty) in duties_before(policy) {
                let duty = duty.settled();
                if !space.duties.iter().any(|known| same_duty(known, &duty)) {
                    space.duties.push(duty);
                }
            }
        }
        let sizes = space.dimensions.iter().map(|dimension| dimension.points.len().max(1));
        let all = sizes
            .chain(space.duties.iter().map(|_| 2))
            .chain([space.actions.len(), space.targets.len(), space.assignees.len()])
            .try_fold(1_usize, usize::checked_mul);
        let count = all.filter(|count| *count <= MAX_WORLDS);
        let count = count.ok_or_else(|| format!("more than {MAX_WORLDS} cases to compare"))?;
        let nodes: usize = policies.iter().map(|policy| policy.program().nodes.len()).sum();
        if count.saturating_mul(nodes) > MAX_STEPS {
            return Err(format!("{count} cases of {nodes} constraints are more than {MAX_STEPS} steps"));
        }
        if let Some(policy) = policies.first() {
            let does = |strong: &Rule, weak: &Rule| {
                covers(Owed::alone(strong), Owed::alone(weak), policy.tables()) == Answer::Yes
            };
            let others = |weak: &Rule| {
                let numbered = space.duties.iter().enumerate();
                numbered.filter(|(_, strong)| does(strong, weak)).map(|(index, _)| index).collect()
            };
            space.stronger = space.duties.iter().map(others).collect();
        }
        Ok(space)
    }

    /// Visits every world until `visit` says stop.
    pub(crate) fn each(&self, mut visit: impl FnMut(&World<'_>) -> bool) {
        let sizes: Vec<usize> = self
            .dimensions
            .iter()
            .map(|dimension| dimension.points.len().max(1))
            .chain(self.duties.iter().map(|_| 2))
            .collect();
        for action in &self.actions {
            for target in &self.targets {
                for assignee in &self.assignees {
                    let mut picks = vec![0; sizes.len()];
                    loop {
                        if !visit(&World { action, target, assignee, space: self, picks: &picks }) {
                            return;
                        }
                        let mut turned = false;
                        for (pick, size) in picks.iter_mut().zip(&sizes) {
                            *pick += 1;
                            if *pick < *size {
                                turned = true;
                                break;
                            }
                            *pick = 0;
                        }
                        if !turned {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Targets and assignees: those named, one that is not, and members of collections.
    fn names(&mut self, policies: &[&Policy]) -> Result<(), String> {
        let (mut targets, mut assignees) = (BTreeSet::new(), BTreeSet::new());
        let (mut assets, mut groups) = (BTreeSet::new(), BTreeSet::new());
        for policy in policies {
            for rule in policy.program().permissions.iter().chain(&policy.program().prohibitions) {
                for (thing, names, collections) in
                    [(&rule.target, &mut targets, &mut assets), (&rule.assignee, &mut assignees, &mut groups)]
                {
                    if let Some(thing) = thing {
                        names.insert(thing.symbol.as_str().to_owned());
                        if thing.collection {
                            collections.insert(thing.symbol.as_str().to_owned());
                        }
                    }
                }
            }
        }
        for rule in policies.iter().flat_map(|policy| &policy.model().rules) {
            for thing in [&rule.target, &rule.assignee].into_iter().flatten() {
                self.memberships.extend(thing.part_of.iter().map(|whole| (thing.iri.clone(), whole.clone())));
            }
        }
        self.collections = [&assets, &groups].map(|collections| collections.iter().cloned().collect());
        for (names, collections, kind) in [(&mut targets, assets, "asset"), (&mut assignees, groups, "party")]
        {
            if collections.len() > MAX_COLLECTIONS {
                return Err(format!("more than {MAX_COLLECTIONS} {kind} collections"));
            }
            names.insert(OTHER.to_owned());
            let collections: Vec<String> = collections.into_iter().collect();
            for subset in 1_usize..1 << collections.len() {
                let member = format!("{MEMBER}{kind}:{subset}");
                for (index, collection) in collections.iter().enumerate() {
                    if subset >> index & 1 == 1 {
                        self.memberships.push((member.clone(), collection.clone()));
                    }
                }
                names.insert(member);
            }
        }
        self.targets = targets.into_iter().collect();
        self.assignees = assignees.into_iter().collect();
        Ok(())
    }
}

/// One action for each way in which the rules can meet it.
fn actions(policies: &[&Policy]) -> Vec<String> {
    let mut seen: BTreeSet<Vec<(bool, bool)>> = BTreeSet::new();
    let mut found = Vec::new();
    let Some(first) = policies.first() else { return found };
    let tables = first.tables();
    // Of several actions that the rules treat alike, a reader knows `read` best.
    let known: Vec<usize> = tables.action(READ).into_iter().chain(0..tables.actions.len()).collect();
    for (index, action) in known.into_iter().filter_map(|index| Some((index, tables.actions.get(index)?))) {
        let below = tables.covered(index);
        let signature = policies
            .iter()
            .flat_map(|policy| policy.program().permissions.iter().chain(&policy.program().prohibitions))
            .map(|rule| (rule.covered.contains(index), below.contains(rule.action)))
            .collect();
        if seen.insert(signature) {
            found.push(action.iri.clone());
        }
    }
    found
}

/// The tests on one fact; all that ask the clock go together, whatever their operands are called.
fn tests<'p>(policies: &[&'p Policy], operand: &Symbol, kind: SlotKind) -> Vec<(&'p Test, u8)> {
    let mut found = Vec::new();
    for policy in policies {
        let program = policy.program();
        for node in &program.nodes {
            if let NodeKind::Leaf(leaf) = node
                && program.slots.get(usize::from(leaf.slot)).is_some_and(|slot| {
                    slot.fact == *operand || (kind == SlotKind::Clock && slot.kind == kind)
                })
            {
                found.push((&leaf.test, leaf.minimum_rank));
            }
        }
    }
    found
}

/// Each bound with its neighbours: truth changes nowhere else.
fn around(bounds: BTreeSet<i64>) -> BTreeSet<i64> {
    bounds.into_iter().flat_map(|bound| [bound.saturating_sub(1), bound, bound.saturating_add(1)]).collect()
}

fn instants(tests: &[(&Test, u8)]) -> Vec<Point> {
    let mut bounds = BTreeSet::new();
    for (test, _) in tests {
        match test {
            Test::Instant { lo, hi, .. } => bounds.extend([*lo, *hi]),
            Test::Day { start_lo, start_hi, .. } => {
                bounds.extend([*start_lo, *start_hi, start_lo + DAY_MILLIS, start_hi + DAY_MILLIS]);
            }
            _ => {}
        }
    }
    around(bounds).into_iter().map(Point::Now).collect()
}

fn sets(test: &Test) -> &[SymbolSet] {
    match test {
        Test::In(set) | Test::NotIn(set) => std::slice::from_ref(set),
        Test::All(sets) => sets,
        _ => &[],
    }
}

/// What the policies' atoms name for a fact, and of that what no taxonomy places among the classes asked for.
fn unplaced(policies: &[&Policy], operand: &Symbol) -> BTreeSet<String> {
    fn look<'a>(constraint: &'a Constraint, operand: &str, found: &mut Vec<&'a Atom>) {
        match constraint {
            Constraint::Atom(atom) => {
                if atom.operand.fact.as_deref().unwrap_or(&atom.operand.iri) == operand {
                    found.push(atom);
                }
            }
            Constraint::Logic { parts, .. } => parts.iter().for_each(|part| look(part, operand, found)),
        }
    }
    let mut named: BTreeSet<&str> = BTreeSet::new();
    let mut classes: BTreeSet<(&str, bool)> = BTreeSet::new();
    let mut strangers: BTreeSet<&str> = BTreeSet::new();
    for policy in policies {
        let mut atoms = Vec::new();
        for rule in &policy.model().rules {
            let things = [&rule.target, &rule.assignee].into_iter().flatten();
            let of_things = things.flat_map(|thing| &thing.refinements);
            let of_duties = rule.duties.iter().flat_map(|duty| &duty.constraints);
            let all = rule.constraints.iter().chain(&rule.refinements).chain(of_things).chain(of_duties);
            all.for_each(|constraint| look(constraint, operand.as_str(), &mut atoms));
        }
        for atom in atoms {
            let taxonomy = policy.tables().taxonomy(&atom.operand);
            let asks_class = matches!(atom.operator, Operator::IsA | Operator::IsPartOf | Operator::HasPart);
            for right in &atom.rights {
                let Right::Symbol(iri) = right else { continue };
                let stranger = taxonomy.is_none_or(|taxonomy| taxonomy.find(iri).is_none());
                named.insert(iri);
                if stranger {
                    strangers.insert(iri);
                }
                if asks_class {
                    classes.insert((iri, stranger));
                }
            }
        }
    }
    let open = |iri: &str| {
        classes.iter().any(|(class, stranger)| *class != iri && (*stranger || strangers.contains(iri)))
    };
    named.into_iter().filter(|iri| open(iri)).map(str::to_owned).collect()
}

fn points(operand: &Symbol, info: &OperandInfo, tests: &[(&Test, u8)]) -> Result<Vec<Point>, String> {
    let kind = info.kind;
    if tests.iter().any(|(test, _)| matches!(test, Test::Undecided)) {
        return Err(format!("{} is not decided by this engine", short(operand.as_str())));
    }
    let values = match kind {
        OperandType::Since | OperandType::Duration => {
            let mut bounds = BTreeSet::from([0]);
            for (test, _) in tests {
                if let Test::Millis { lo, hi, .. } = test {
                    bounds.extend([*lo, *hi]);
                }
            }
            around(bounds).into_iter().filter(|millis| *millis >= 0).map(Value::Duration).collect()
        }
        OperandType::Number | OperandType::Count => numbers(operand, kind, tests)?,
        OperandType::Symbol | OperandType::Ordered | OperandType::Text => symbols(operand, info, tests)?,
        OperandType::Instant | OperandType::Opaque => Vec::new(),
    };
    let ranks: BTreeSet<u8> = tests.iter().map(|(_, rank)| *rank).collect();
    let sources = [Source::Asserted, Source::Registered, Source::Attested, Source::LocalCounter];
    let mut found = Vec::new();
    for source in sources.into_iter().filter(|source| ranks.contains(&source.rank())) {
        found.extend(values.iter().map(|value| Point::Fact(value.clone(), source)));
    }
    Ok(found)
}

fn numbers(operand: &Symbol, kind: OperandType, tests: &[(&Test, u8)]) -> Result<Vec<Value>, String> {
    let mut bounds: BTreeSet<Decimal> = BTreeSet::new();
    let mut units: BTreeSet<Option<&Symbol>> = BTreeSet::new();
    for (test, _) in tests {
        if let Test::Number { bound, unit, .. } = test {
            bounds.insert(*bound);
            units.insert(unit.as_ref());
        }
    }
    if units.len() > 1 {
        return Err(format!("{} is stated in several units", short(operand.as_str())));
    }
    let unit = units.into_iter().next().flatten().cloned();
    let one = Decimal::whole(1).raw();
    let mut numbers: BTreeSet<i128> = BTreeSet::new();
    let raw: Vec<i128> = bounds.iter().map(|bound| bound.raw()).collect();
    if kind == OperandType::Count {
        // Uses spent are whole; the one being decided is counted in. A bound below nothing is beyond all of them.
        numbers.insert(0);
        for bound in &raw {
            let whole = bound.div_euclid(one);
            numbers.extend((whole - 2..=whole + 1).filter(|spent| *spent >= 0).map(|spent| spent * one));
        }
    } else {
        for (index, bound) in raw.iter().enumerate() {
            numbers.insert(*bound);
            match raw.get(index + 1) {
                Some(next) => numbers.insert(i128::midpoint(*bound, *next)),
                None => numbers.insert(bound.saturating_add(one)),
            };
            if index == 0 {
                numbers.insert(bound.saturating_sub(one));
            }
        }
    }
    Ok(numbers.into_iter().map(|raw| Value::Number(Decimal::from_raw(raw), unit.clone())).collect())
}

/// One symbol for each way in which the sets can meet it.
fn symbols(operand: &Symbol, info: &OperandInfo, tests: &[(&Test, u8)]) -> Result<Vec<Value>, String> {
    let all: Vec<&SymbolSet> = tests.iter().flat_map(|(test, _)| sets(test)).collect();
    let mut candidates: BTreeSet<&str> =
        all.iter().flat_map(|set| set.0.iter()).map(Symbol::as_str).collect();
    if info.kind != OperandType::Ordered {
        candidates.insert(OTHER);
    }
    // Full IRIs first, so that a witness shows them and not an alias.
    let mut candidates: Vec<Symbol> = candidates.into_iter().map(Symbol::new).collect();
    candidates.sort_by_key(|symbol| (!symbol.as_str().contains("://"), symbol.as_str().to_owned()));
    if candidates.len().saturating_mul(all.len()) > MAX_STEPS {
        return Err(format!("{} has too many values to compare", short(operand.as_str())));
    }
    let mut seen: BTreeSet<Vec<bool>> = BTreeSet::new();
    let classes: Vec<Symbol> = candidates
        .into_iter()
        .filter(|symbol| {
            seen.insert(all.iter().map(|set| set.contains(symbol.hash(), symbol.as_str())).collect())
        })
        .collect();
    if info.held {
        return held(operand, &classes, &all);
    }
    let several = tests.iter().any(|(test, _)| matches!(test, Test::All(sets) if sets.len() > 1));
    if !several {
        return Ok(classes.into_iter().map(Value::Symbol).collect());
    }
    if classes.len() > MAX_SUBSET_SYMBOLS {
        return Err(format!("{} has too many values for combinations", short(operand.as_str())));
    }
    let mut found = Vec::new();
    for subset in 1_usize..1 << classes.len() {
        let list = classes.iter().enumerate().filter(|(index, _)| subset >> index & 1 == 1);
        found.push(Value::Symbols(list.map(|(_, symbol)| symbol.clone()).collect()));
    }
    Ok(found)
}

/// What somebody may hold: of the combinations of symbols one for each way in which the sets can meet them.
fn held(operand: &Symbol, classes: &[Symbol], sets: &[&SymbolSet]) -> Result<Vec<Value>, String> {
    let within = |set: &SymbolSet, symbol: &Symbol| set.contains(symbol.hash(), symbol.as_str());
    // Whoever holds nothing that is named holds something else.
    let classes: Vec<&Symbol> =
        classes.iter().filter(|symbol| sets.iter().any(|set| within(set, symbol))).collect();
    if classes.len() > MAX_HELD_SYMBOLS {
        return Err(format!("{} has too many values for combinations", short(operand.as_str())));
    }
    let mut seen: BTreeSet<Vec<bool>> = BTreeSet::new();
    let mut found = Vec::new();
    for subset in 0_usize..1 << classes.len() {
        let list: Vec<&Symbol> = classes
            .iter()
            .enumerate()
            .filter(|(index, _)| subset >> index & 1 == 1)
            .map(|(_, symbol)| *symbol)
            .collect();
        let met = sets.iter().map(|set| list.iter().any(|symbol| within(set, symbol))).collect();
        if seen.insert(met) {
            found.push(match list.as_slice() {
                [] => Value::symbol(OTHER),
                [one] => Value::Symbol((*one).clone()),
                _ => Value::Symbols(list.into_iter().cloned().collect()),
            });
        }
    }
    Ok(found)
}
