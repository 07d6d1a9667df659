//! The decision structure: flat arrays, slots for facts, sets for taxonomies; made once, read without allocation.

use std::sync::Arc;

use crate::model::{Atom, Constraint, Logic, Model, Rule, RuleKind, Thing};
use crate::problem::{Problem, Problems, TOO_LARGE};
use crate::profile::{Family, OperandInfo, OperandType, Operator, Phase, Stage};
use crate::tables::{ActionSet, Tables};
use crate::value::{DAY_MILLIS, Right, Symbol};
use crate::vocab::operand;

/// The most operands of one policy: which of them were read is one machine word.
pub(crate) const MAX_SLOTS: usize = 62;
/// The bit that stands for the action among the things not decidable yet.
pub(crate) const ACTION_BIT: u64 = 1 << 63;
/// The bit that stands for a duty that is not known to be done.
pub(crate) const DUTY_BIT: u64 = 1 << 62;
/// The most duties of one policy: which of them are owed is two machine words.
pub(crate) const MAX_DUTIES: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotKind {
    Clock,
    Participant,
    Fact,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub symbol: Symbol,
    /// The operand whose fact is read.
    pub fact: Symbol,
    pub kind: SlotKind,
    pub info: Arc<OperandInfo>,
    /// Whether the agreement's timestamp stands in for a missing fact.
    pub signing: bool,
}

/// Comparison of one number with a bound that lies somewhere in `lo..=hi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Lt,
    Lteq,
    Gt,
    Gteq,
    Eq,
    Neq,
}

/// Sorted by hash; membership compares the text as well.
#[derive(Clone, Debug, Default)]
pub(crate) struct SymbolSet(pub Box<[Symbol]>);

impl SymbolSet {
    fn of(mut symbols: Vec<Symbol>) -> Self {
        symbols.sort();
        symbols.dedup();
        Self(symbols.into())
    }

    pub(crate) fn contains(&self, hash: u64, text: &str) -> bool {
        let start = self.0.partition_point(|known| known.hash() < hash);
        self.0
            .get(start..)
            .unwrap_or_default()
            .iter()
            .take_while(|known| known.hash() == hash)
            .any(|known| known.as_str() == text)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Test {
    /// The clock against a bound in `lo..=hi`, both in milliseconds.
    Instant { order: Order, lo: i64, hi: i64 },
    /// The clock within a whole day.
    Day { outside: bool, start_lo: i64, start_hi: i64 },
    /// Milliseconds (since an instant, or measured) against a bound in `lo..=hi`.
    Millis { order: Order, lo: i64, hi: i64 },
    /// A number; uses count the one being decided.
    Number { order: Order, bound: crate::value::Decimal, unit: Option<Symbol>, counts: bool },
    /// The value is one of these.
    In(SymbolSet),
    /// The value is none of these.
    NotIn(SymbolSet),
    /// For each set, some value is in it.
    All(Box<[SymbolSet]>),
    /// Not decided by this engine.
    Undecided,
}

#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub slot: u8,
    pub minimum_rank: u8,
    pub test: Test,
}

/// Sorted, disjoint ranges of milliseconds, both ends included.
pub(crate) type Intervals = Box<[(i64, i64)]>;

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Leaf(Leaf),
    Logic {
        logic: Logic,
        children: std::ops::Range<u32>,
    },
    /// An `or` over time bounds, fused to sorted, disjoint intervals; the children are kept for explanations.
    Intervals {
        slot: u8,
        intervals: Box<[(i64, i64)]>,
        children: std::ops::Range<u32>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct CompiledThing {
    pub symbol: Symbol,
    pub collection: bool,
    /// Roots of the refinements; all must hold.
    pub refinements: std::ops::Range<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct CompiledRule {
    pub kind: RuleKind,
    /// The action itself and all included in it.
    pub covered: ActionSet,
    pub action: usize,
    pub target: Option<CompiledThing>,
    pub assignee: Option<CompiledThing>,
    /// Roots of the constraints and of the action's refinements; all must hold.
    pub conditions: std::ops::Range<u32>,
    /// Duties of this permission, remedies of this prohibition, in the list of duties.
    pub duties: std::ops::Range<u32>,
    /// Which rule of the model this is.
    pub source: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct CompiledDuty {
    pub key: Box<str>,
    pub phase: Phase,
    /// When the duty applies at all: constraints that are not deadlines.
    pub conditions: std::ops::Range<u32>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub slots: Vec<Slot>,
    pub nodes: Vec<NodeKind>,
    pub permissions: Vec<CompiledRule>,
    pub prohibitions: Vec<CompiledRule>,
    pub duties: Vec<CompiledDuty>,
    /// The policy's own obligations within `duties`.
    pub obligations: std::ops::Range<u32>,
}

pub(crate) fn compile(model: &Model, tables: &Tables) -> Result<Program, Problems> {
    let mut compiler = Compiler { tables, program: Program::default(), too_large: None };
    let start = compiler.duty_count();
    for (index, rule) in model.rules.iter().enumerate() {
        if rule.kind == RuleKind::Duty {
            compiler.duty(rule, &format!("obligation/{}", index + 1));
        }
    }
    compiler.program.obligations = start..compiler.duty_count();
    for (index, rule) in model.rules.iter().enumerate() {
        if rule.kind != RuleKind::Duty {
            compiler.rule(rule, index);
        }
    }
    match compiler.too_large {
        None => Ok(compiler.program),
        Some(problem) => Err(Problems::one(problem)),
    }
}

struct Compiler<'a> {
    tables: &'a Tables,
    program: Program,
    too_large: Option<Problem>,
}

impl Compiler<'_> {
    fn node_count(&self) -> u32 {
        u32::try_from(self.program.nodes.len()).unwrap_or(u32::MAX)
    }

    fn duty_count(&self) -> u32 {
        u32::try_from(self.program.duties.len()).unwrap_or(u32::MAX)
    }

    fn rule(&mut self, rule: &Rule, source: usize) {
        let action = self.tables.action(&rule.action).unwrap_or(usize::MAX);
        let conditions = self.roots(rule.constraints.iter().chain(&rule.refinements));
        let target = rule.target.as_ref().map(|thing| self.thing(thing));
        let assignee = rule.assignee.as_ref().map(|thing| self.thing(thing));
        let start = self.duty_count();
        for (index, duty) in rule.duties.iter().enumerate() {
            self.duty(duty, &format!("rule/{}/duty/{}", source + 1, index + 1));
        }
        let compiled = CompiledRule {
            kind: rule.kind,
            covered: self.tables.covered(action),
            action,
            target,
            assignee,
            conditions,
            duties: start..self.duty_count(),
            source,
        };
        match rule.kind {
            RuleKind::Permission => self.program.permissions.push(compiled),
            RuleKind::Prohibition | RuleKind::Duty => self.program.prohibitions.push(compiled),
        }
    }

    fn duty(&mut self, rule: &Rule, fallback: &str) {
        if self.program.duties.len() >= MAX_DUTIES {
            self.refuse(&rule.at, "duties", MAX_DUTIES);
            return;
        }
        let conditions =
            self.roots(rule.constraints.iter().filter(|constraint| !crate::duty::is_timing(constraint)));
        self.program.duties.push(CompiledDuty {
            key: rule.uid.clone().unwrap_or_else(|| fallback.to_owned()).into(),
            phase: crate::duty::phase(rule, self.tables),
            conditions,
        });
    }

    fn refuse(&mut self, at: &crate::problem::Position, what: &str, most: usize) {
        self.too_large.get_or_insert_with(|| Problem {
            code: &TOO_LARGE,
            at: at.clone(),
            term: what.to_owned(),
            expected: format!("at most {most} {what}"),
            suggestion: None,
        });
    }

    fn thing(&mut self, thing: &Thing) -> CompiledThing {
        CompiledThing {
            symbol: Symbol::new(&thing.iri),
            collection: thing.collection,
            refinements: self.roots(thing.refinements.iter()),
        }
    }

    /// Compiles constraints so that their roots lie side by side; children come after.
    fn roots<'c>(&mut self, constraints: impl Iterator<Item = &'c Constraint>) -> std::ops::Range<u32> {
        let constraints: Vec<&Constraint> = constraints.collect();
        let start = self.node_count();
        for _ in &constraints {
            self.program.nodes.push(NodeKind::Logic { logic: Logic::And, children: 0..0 });
        }
        let end = self.node_count();
        for (offset, constraint) in constraints.into_iter().enumerate() {
            let node = match constraint {
                Constraint::Atom(atom) => NodeKind::Leaf(self.leaf(atom)),
                Constraint::Logic { logic, parts, .. } => {
                    let children = self.roots(parts.iter());
                    let fused = if *logic == Logic::Or { fuse(parts) } else { None };
                    match fused {
                        Some((atom, intervals)) => {
                            NodeKind::Intervals { slot: self.slot(atom), intervals, children }
                        }
                        None => NodeKind::Logic { logic: *logic, children },
                    }
                }
            };
            if let Some(place) = self.program.nodes.get_mut(start as usize + offset) {
                *place = node;
            }
        }
        start..end
    }

    fn slot(&mut self, atom: &Atom) -> u8 {
        let iri = &atom.operand.iri;
        let found = self.program.slots.iter().position(|slot| slot.symbol.as_str() == iri);
        let index = found.unwrap_or_else(|| {
            if self.program.slots.len() >= MAX_SLOTS {
                self.refuse(&atom.at, "operands", MAX_SLOTS);
                return 0;
            }
            let fact = atom.operand.fact.as_deref().unwrap_or(iri);
            let kind = match fact {
                operand::PARTICIPANT => SlotKind::Participant,
                _ if atom.operand.kind == OperandType::Instant => SlotKind::Clock,
                _ => SlotKind::Fact,
            };
            self.program.slots.push(Slot {
                symbol: Symbol::new(iri),
                fact: Symbol::new(fact),
                kind,
                info: Arc::clone(&atom.operand),
                signing: fact == operand::SINCE_SIGNING,
            });
            self.program.slots.len() - 1
        });
        u8::try_from(index).unwrap_or(u8::MAX)
    }

    fn leaf(&mut self, atom: &Atom) -> Leaf {
        let slot = self.slot(atom);
        let profile_rank = atom.operand.source.rank();
        let minimum_rank = atom.minimum_source.map_or(profile_rank, |source| source.rank().max(profile_rank));
        Leaf { slot, minimum_rank, test: self.test(atom) }
    }

    fn test(&self, atom: &Atom) -> Test {
        if atom.operand.kind == OperandType::Opaque {
            return Test::Undecided;
        }
        let order = match atom.operator {
            Operator::Eq => Some(Order::Eq),
            Operator::Neq => Some(Order::Neq),
            Operator::Lt => Some(Order::Lt),
            Operator::Lteq => Some(Order::Lteq),
            Operator::Gt => Some(Order::Gt),
            Operator::Gteq => Some(Order::Gteq),
            _ => None,
        };
        match (atom.rights.first(), order) {
            (Some(Right::Instant { lo, hi, .. }), Some(order)) => Test::Instant { order, lo: *lo, hi: *hi },
            (Some(Right::Day { start_lo, start_hi, .. }), Some(order)) => {
                // «until a date» includes the whole of that day; «after a date» begins when it has ended.
                let last = (start_lo.saturating_add(DAY_MILLIS - 1), start_hi.saturating_add(DAY_MILLIS - 1));
                match order {
                    Order::Eq | Order::Neq => {
                        Test::Day { outside: order == Order::Neq, start_lo: *start_lo, start_hi: *start_hi }
                    }
                    Order::Lt | Order::Gteq => Test::Instant { order, lo: *start_lo, hi: *start_hi },
                    Order::Lteq | Order::Gt => Test::Instant { order, lo: last.0, hi: last.1 },
                }
            }
            (Some(Right::Duration { .. }), Some(order)) => match atom.millis() {
                Some((lo, hi)) => Test::Millis { order, lo, hi },
                None => Test::Undecided,
            },
            (Some(Right::Number(_)), Some(order)) => match atom.number() {
                Some(bound) => Test::Number {
                    order,
                    bound,
                    unit: atom.unit.as_deref().map(Symbol::new),
                    counts: atom.operand.kind == OperandType::Count,
                },
                None => Test::Undecided,
            },
            _ => self.symbols(atom),
        }
    }

    fn symbols(&self, atom: &Atom) -> Test {
        let taxonomy = self.tables.taxonomy(&atom.operand);
        // An IRI with all its aliases: facts may use any of them.
        let spelled = |iris: &[&str]| {
            let mut symbols: Vec<Symbol> = Vec::new();
            for iri in iris {
                symbols.push(Symbol::new(iri));
                if let Some(term) = taxonomy.and_then(|taxonomy| taxonomy.find(iri)) {
                    symbols.extend(term.also.iter().map(|alias| Symbol::new(alias)));
                }
            }
            SymbolSet::of(symbols)
        };
        let rights: Vec<String> = atom.rights.iter().map(Right::text).collect();
        let plain: Vec<&str> = rights.iter().map(String::as_str).collect();
        let narrower = |iri: &'_ str| -> Vec<String> {
            taxonomy.map_or_else(
                || vec![iri.to_owned()],
                |taxonomy| taxonomy.narrower(iri).into_iter().map(str::to_owned).collect(),
            )
        };
        let all_narrower: Vec<String> = plain.iter().flat_map(|iri| narrower(iri)).collect();
        let all_narrower: Vec<&str> = all_narrower.iter().map(String::as_str).collect();
        if atom.operand.kind == OperandType::Ordered
            && let (Some(taxonomy), true) = (taxonomy, atom.operator.is_order())
            && let Some(at) = plain.first().and_then(|iri| taxonomy.position(iri))
        {
            let wanted: Vec<&str> = taxonomy
                .terms
                .iter()
                .enumerate()
                .filter(|(index, _)| match atom.operator {
                    Operator::Lt => *index < at,
                    Operator::Lteq => *index <= at,
                    Operator::Gt => *index > at,
                    Operator::Gteq => *index >= at,
                    Operator::Neq => *index != at,
                    _ => *index == at,
                })
                .map(|(_, term)| term.iri.as_str())
                .collect();
            return Test::In(spelled(&wanted));
        }
        match atom.operator {
            Operator::Eq => Test::In(spelled(&plain)),
            Operator::Neq => Test::NotIn(spelled(&plain)),
            Operator::IsA | Operator::IsAnyOf | Operator::IsPartOf => Test::In(spelled(&all_narrower)),
            Operator::IsNoneOf => Test::NotIn(spelled(&all_narrower)),
            Operator::IsAllOf => Test::All(
                plain
                    .iter()
                    .map(|iri| {
                        let below = narrower(iri);
                        spelled(&below.iter().map(String::as_str).collect::<Vec<_>>())
                    })
                    .collect(),
            ),
            Operator::HasPart => Test::All(
                plain
                    .iter()
                    .map(|iri| {
                        taxonomy.map_or_else(|| spelled(&[iri]), |taxonomy| spelled(&taxonomy.broader(iri)))
                    })
                    .collect(),
            ),
            Operator::Lt | Operator::Lteq | Operator::Gt | Operator::Gteq => Test::Undecided,
        }
    }
}

/// Fewer alternatives than this are read one by one as fast.
const MIN_FUSED: usize = 4;

/// The intervals of an `or` whose every part is a certain range of the clock, with one atom that names the clock.
fn fuse(parts: &[Constraint]) -> Option<(&Atom, Intervals)> {
    if parts.len() < MIN_FUSED {
        return None;
    }
    let mut intervals: Vec<(i64, i64)> = parts.iter().map(interval).collect::<Option<_>>()?;
    intervals.retain(|(start, end)| start <= end);
    intervals.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::with_capacity(intervals.len());
    for (start, end) in intervals {
        match merged.last_mut() {
            Some((_, last)) if start <= last.saturating_add(1) => *last = (*last).max(end),
            _ => merged.push((start, end)),
        }
    }
    Some((first_atom(parts)?, merged.into()))
}

fn first_atom(parts: &[Constraint]) -> Option<&Atom> {
    match parts.first()? {
        Constraint::Atom(atom) => Some(atom),
        Constraint::Logic { parts, .. } => first_atom(parts),
    }
}

/// First and last millisecond of a bound, or of several that must hold together.
fn interval(constraint: &Constraint) -> Option<(i64, i64)> {
    match constraint {
        Constraint::Atom(atom) => {
            if atom.operand.kind != OperandType::Instant || atom.minimum_source.is_some() {
                return None;
            }
            let (first, last) = match atom.rights.first()? {
                Right::Instant { lo, hi, .. } if lo == hi => (*lo, *lo),
                Right::Day { start_lo, start_hi, .. } if start_lo == start_hi => {
                    (*start_lo, start_lo.checked_add(DAY_MILLIS - 1)?)
                }
                _ => return None,
            };
            match atom.operator {
                Operator::Eq => Some((first, last)),
                Operator::Lt => Some((i64::MIN, first.checked_sub(1)?)),
                Operator::Lteq => Some((i64::MIN, last)),
                Operator::Gt => Some((last.checked_add(1)?, i64::MAX)),
                Operator::Gteq => Some((first, i64::MAX)),
                _ => None,
            }
        }
        Constraint::Logic { logic: Logic::And, parts, .. } => {
            parts.iter().map(interval).try_fold((i64::MIN, i64::MAX), |(start, end), part| {
                part.map(|(other_start, other_end)| (start.max(other_start), end.min(other_end)))
            })
        }
        Constraint::Logic { .. } => None,
    }
}

impl Slot {
    /// Whether a missing fact is «not decidable yet» at this stage, instead of unknown.
    pub(crate) fn deferred_at(&self, stage: Stage) -> bool {
        stage < self.info.decided
    }

    pub(crate) fn family(&self) -> Family {
        self.info.family
    }
}
