//! Compliance reports: a policy, a request and a state of the world in, a report in the FORCE vocabulary out.
//!
//! Follows the ODRL Formal Semantics draft, or the reading of the public test material (`Force`): there a rule part
//! that is missing matches anything and only a violated duty blocks a permission. Unknown counts as unsatisfied in
//! the report's states and is kept apart in [`Premise::truth`]. By the draft a rule without action or target is not
//! active, a duty whose own constraints do not hold is no condition, an offer and a replaced policy permit nothing, and a
//! prohibition that may apply forbids.

use serde::Serialize;

use crate::duty::{Duty, DutyRole};
use crate::evaluate::{Context, Truth, both, exactly_one};
use crate::facts::{DutyState, Facts, Request};
use crate::ir::{CompiledRule, NodeKind, SlotKind};
use crate::model::{Conflict, Constraint, Kind, Logic, Rule, RuleKind, Thing};
use crate::policy::Policy;
use crate::problem::{Position, Problem, Problems, SYNTAX};
use crate::profile::{Profiles, Stage};
use crate::read::ANY_ACTION;
use crate::time::UnixMillis;
use crate::value::Right;
use crate::vocab::ODRL;
use crate::world::{Asked, Known};

/// Which reading of duties applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Semantics {
    /// A duty that is not fulfilled blocks its permission.
    Draft,
    /// Only a violated duty does, and a missing action or target is any.
    Force,
}

/// The kind of a premise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PremiseKind {
    /// The dataset.
    Target,
    /// The participant.
    Party,
    /// The action.
    Action,
    /// A constraint or refinement.
    Constraint,
}

/// One premise of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Premise {
    /// What it is about.
    pub kind: PremiseKind,
    /// Whether it is satisfied; no information counts as unsatisfied.
    pub satisfied: bool,
    /// `true`, `false` or `unknown`.
    pub truth: &'static str,
    /// The constraint's IRI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// The left operand's value as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_operand: Option<String>,
    /// The operator, or for logical constraints the logical operand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<&'static str>,
    /// The premises of a logical constraint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub premises: Vec<Premise>,
    #[serde(skip)]
    left_is_instant: bool,
}

/// The state of a duty that a permission depends on, or of an obligation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DutyReport {
    /// The report's IRI: the earlier report's, if the world has one.
    pub id: String,
    /// The duty's IRI.
    pub rule: String,
    /// `Performed`, `Unperformed` or `Unknown`.
    pub performance_state: &'static str,
    /// `Fulfilled`, `Violated` or `NonSet`.
    pub deontic_state: &'static str,
    /// By the draft, the consequences of the duty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<DutyReport>,
}

/// The report of one permission or prohibition, or of an obligation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// `PermissionReport`, `ProhibitionReport` or `DutyReport`.
    pub kind: &'static str,
    /// The rule's IRI.
    pub rule: String,
    /// The rule of the request.
    pub rule_request: String,
    /// Always `Attempted`: the request is an attempt.
    pub attempt_state: &'static str,
    /// `Active` or `Inactive`.
    pub activation_state: &'static str,
    /// For obligations, and by the draft for every rule: performance and deontic state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duty: Option<DutyReport>,
    /// Target, party, action and constraints, as far as the rule has them.
    pub premises: Vec<Premise>,
    /// The duties of a permission; by the draft also the remedies of a prohibition and the consequences of an obligation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<DutyReport>,
    /// The rule as a whole, with unknown apart from false.
    #[serde(skip)]
    truth: Truth,
}

/// One of the three texts that a report is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The policy.
    Policy,
    /// The request.
    Request,
    /// The state of the world.
    World,
}

/// A text that was not understood.
#[derive(Debug)]
pub struct NotUnderstood {
    /// Which one.
    pub input: Input,
    /// What is wrong with it.
    pub problems: Problems,
}

/// A compliance report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The report's own IRI, derived from its inputs.
    pub id: String,
    /// The current time of the world, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The policy.
    pub policy: String,
    /// The request.
    pub policy_request: String,
    /// `permit` or `deny`: some permission is active and no prohibition stands against it.
    pub decision: &'static str,
    /// Why no rule of the policy is in force, by the draft: `offer` or `replaced`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_in_force: Option<&'static str>,
    /// One report for each rule.
    pub rule_reports: Vec<RuleReport>,
}

/// Evaluates a policy (Turtle or JSON-LD) for a request in a state of the world (Turtle or JSON).
///
/// # Errors
/// Every problem found in the texts.
pub fn evaluate(
    policy: &str,
    request: &str,
    world: &str,
    semantics: Semantics,
    profiles: &Profiles,
) -> Result<Report, NotUnderstood> {
    let in_the = |input| move |problems| NotUnderstood { input, problems };
    let policy = lenient_policy(policy, profiles).map_err(in_the(Input::Policy))?;
    let mut known = Known::read(world, profiles).map_err(in_the(Input::World))?;
    let asked = Asked::read(request, profiles, &mut known).map_err(in_the(Input::Request))?;
    let request = Request {
        action: &asked.action,
        target: &asked.target,
        assignee: &asked.assignee,
        stage: Stage::Use,
    };
    let seed = format!("{}\n{}\n{}", policy.hash(), asked.id, known.now.map_or(0, |at| at.0));
    let mut reporter = Reporter {
        policy: &policy,
        request: &request,
        asked: &asked,
        known: &known,
        facts: &known.facts,
        semantics,
        context: Context::new(&policy, &request, &known.facts),
        seed,
        minted: 0,
    };
    Ok(reporter.report())
}

/// A state of the world (Turtle or JSON) as facts for a decision, and its clock if it states one; without it the facts
/// are as of 1970.
///
/// # Errors
/// Every problem found in the text.
pub fn world(text: &str, profiles: &Profiles) -> Result<(Option<UnixMillis>, Facts), Problems> {
    Known::read(text, profiles).map(|known| (known.now, known.facts))
}

fn lenient_policy(text: &str, profiles: &Profiles) -> Result<Policy, Problems> {
    let (node, from_rdf) = if text.trim_start().starts_with(['{', '[']) {
        (crate::node::from_json(text)?, false)
    } else {
        (crate::rdf::Graph::from_turtle(text, "")?.policy(None)?, true)
    };
    Policy::from_model(crate::read::read(&node, &profiles.tables, from_rdf, &[], true)?, profiles)
}

/// A problem with a request or world.
pub(crate) fn bad(term: impl Into<String>, expected: &str) -> Problems {
    Problems::one(Problem {
        code: &SYNTAX,
        at: Position::default(),
        term: term.into(),
        expected: expected.to_owned(),
        suggestion: None,
    })
}

struct Reporter<'a> {
    policy: &'a Policy,
    request: &'a Request<'a>,
    asked: &'a Asked,
    known: &'a Known,
    facts: &'a Facts,
    semantics: Semantics,
    context: Context<'a>,
    seed: String,
    minted: usize,
}

const fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Unknown | Truth::Deferred => "unknown",
    }
}

impl<'a> Reporter<'a> {
    /// An IRI that is the same for the same inputs: a report can be made again and compared.
    fn mint(&mut self) -> String {
        use sha2::Digest as _;
        self.minted += 1;
        let digest = sha2::Sha256::digest(format!("{}\n{}", self.seed, self.minted).as_bytes());
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        // Version 8: a UUID whose bits the application chooses (RFC 9562, 5.8).
        format!(
            "urn:uuid:{}-{}-8{}-a{}-{}",
            part(0, 8),
            part(8, 12),
            part(13, 16),
            part(17, 20),
            part(20, 32)
        )
    }

    fn report(&mut self) -> Report {
        let id = self.mint();
        let model = self.policy.model();
        // Several actions, targets or parties of one rule were multiplied out; they are one rule in the report.
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (index, rule) in model.rules.iter().enumerate() {
            let same = |group: &&mut Vec<usize>| {
                group.first().and_then(|first| model.rules.get(*first)).is_some_and(|first| {
                    first.kind == rule.kind && first.uid == rule.uid && first.at == rule.at
                })
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(index),
                None => groups.push(vec![index]),
            }
        }
        let mut reports = Vec::new();
        let not_in_force = self.not_in_force();
        let (mut permitted, mut forbidden) = (false, false);
        for group in groups {
            let Some(mut report) = self.rule(&group) else { continue };
            if not_in_force.is_some() {
                report.activation_state = "Inactive";
            }
            let active = report.activation_state == "Active";
            permitted |= active && report.kind == "PermissionReport";
            let applies = active || (self.semantics == Semantics::Draft && report.truth != Truth::False);
            forbidden |= applies && report.kind == "ProhibitionReport";
            reports.push(report);
        }
        let allowed = permitted && (!forbidden || model.conflict == Some(Conflict::Perm));
        Report {
            id,
            created: self.known.now.map(|at| at.to_string()),
            policy: model.uid.clone(),
            policy_request: self.asked.id.clone(),
            decision: if allowed { "permit" } else { "deny" },
            not_in_force,
            rule_reports: reports,
        }
    }

    /// An offer proposes and is not enforced; what was replaced is void (ODRL 2.2 Information Model, 2.1; the draft, 3).
    fn not_in_force(&self) -> Option<&'static str> {
        let model = self.policy.model();
        match self.semantics {
            Semantics::Force => None,
            Semantics::Draft if !model.replaced_by.is_empty() => Some("replaced"),
            Semantics::Draft if model.kind == Kind::Offer => Some("offer"),
            Semantics::Draft => None,
        }
    }

    /// Target, party and action of an obligation against the request.
    fn premises_of_duty(&mut self, rule: &Rule) -> Vec<Premise> {
        let is = |holds: bool| if holds { Truth::True } else { Truth::False };
        let asked = |named: &str, thing: &Thing, facts: &Facts| {
            if thing.iri == named || (thing.collection && facts.belongs(named, &thing.iri)) {
                Truth::True
            } else if thing.collection {
                Truth::Unknown
            } else {
                Truth::False
            }
        };
        let mut premises = Vec::new();
        if let Some(target) = &rule.target {
            premises.push(plain(PremiseKind::Target, asked(self.request.target, target, self.facts)));
        }
        if let Some(party) = &rule.assignee {
            premises.push(plain(PremiseKind::Party, asked(self.request.assignee, party, self.facts)));
        }
        let tables = self.policy.tables();
        let covered = match (tables.action(&rule.action), tables.action(self.request.action)) {
            (Some(due), Some(asked)) => tables.covered(due).contains(asked),
            _ => false,
        };
        premises.push(plain(PremiseKind::Action, is(covered)));
        premises
    }

    /// Performance as an earlier report of the same rule has it, and what follows from it with the activation.
    fn state_of(&mut self, iri: &str, kind: RuleKind, active: bool) -> DutyReport {
        let performance_state = match self.known.performed.get(iri).map(String::as_str) {
            Some("Performed") => "Performed",
            Some("Unperformed") => "Unperformed",
            _ => "Unknown",
        };
        let deontic_state = match (kind, active, performance_state) {
            (RuleKind::Permission, true, "Performed") | (RuleKind::Permission, false, "Unperformed") => {
                "Fulfilled"
            }
            (RuleKind::Permission, false, "Performed") => "Violated",
            (RuleKind::Prohibition, true, "Performed") => "Violated",
            (RuleKind::Prohibition, true, "Unperformed") => "Fulfilled",
            _ => "NonSet",
        };
        let id = self.known.reports.get(iri).cloned().unwrap_or_else(|| self.mint());
        DutyReport { id, rule: iri.to_owned(), performance_state, deontic_state, conditions: Vec::new() }
    }

    /// Remedies of a prohibition, consequences of an obligation.
    fn below(&mut self, duties: &[Duty]) -> Vec<DutyReport> {
        duties.iter().map(|duty| self.listed(duty)).collect()
    }

    fn listed(&mut self, duty: &Duty) -> DutyReport {
        let own_name = duty.key.contains(':');
        let iri = if own_name { duty.key.clone() } else { format!("{}#{}", self.policy.uid(), duty.key) };
        let mut report = self.duty(&duty.key, &iri);
        if self.semantics == Semantics::Draft {
            report.conditions = self.below(&duty.consequences);
        }
        report
    }

    fn compiled(&self, index: usize) -> Option<&'a CompiledRule> {
        let program = self.policy.program();
        program.permissions.iter().chain(&program.prohibitions).find(|rule| rule.source == index)
    }

    fn rule(&mut self, group: &[usize]) -> Option<RuleReport> {
        let policy = self.policy;
        let first = *group.first()?;
        let rule = policy.model().rules.get(first)?;
        let kind = match rule.kind {
            RuleKind::Permission => "PermissionReport",
            RuleKind::Prohibition => "ProhibitionReport",
            RuleKind::Duty => "DutyReport",
        };
        let rule_iri = rule.uid.clone().unwrap_or_else(|| format!("{}#rule-{}", policy.uid(), first + 1));
        if rule.kind == RuleKind::Duty {
            let duty = policy.duties().iter().find(|duty| duty.clause == (first + 1).to_string())?;
            let state = self.duty(&duty.key, &rule_iri);
            // What is known to be done or missed was active, whatever the constraints say now.
            let (holds, mut premises) = self.conditions_of(rule);
            let active = holds == Truth::True || state.deontic_state != "NonSet";
            let mut conditions = Vec::new();
            if self.semantics == Semantics::Draft {
                let mut all = self.premises_of_duty(rule);
                all.append(&mut premises);
                premises = all;
                conditions = self.below(&duty.consequences);
            }
            return Some(RuleReport {
                kind,
                rule: rule_iri,
                rule_request: self.asked.rule.clone(),
                attempt_state: "Attempted",
                activation_state: if active { "Active" } else { "Inactive" },
                duty: Some(state),
                premises,
                conditions,
                truth: holds,
            });
        }
        // For each part the strongest truth among the alternatives, and the rule as a whole for each alternative.
        let mut parts: Vec<(PremiseKind, Option<Truth>)> =
            vec![(PremiseKind::Target, None), (PremiseKind::Party, None), (PremiseKind::Action, None)];
        let mut matched = Truth::False;
        for index in group {
            let (Some(compiled), Some(rule)) = (self.compiled(*index), policy.model().rules.get(*index))
            else {
                continue;
            };
            // By the draft a rule has an action and a target, and nothing is known of what it leaves out.
            let left_out = (self.semantics == Semantics::Draft).then_some(Truth::Unknown);
            let target = compiled.target.as_ref().map(|thing| self.context.thing(thing, self.request.target));
            let found = [
                target.or(left_out),
                compiled.assignee.as_ref().map(|thing| self.context.thing(thing, self.request.assignee)),
                (rule.action != ANY_ACTION).then(|| self.action(compiled)).or(left_out),
            ];
            let whole = found.iter().flatten().copied().fold(Truth::True, both);
            matched = matched.max(whole);
            for ((_, best), found) in parts.iter_mut().zip(found) {
                *best = (*best).max(found);
            }
        }
        let mut premises: Vec<Premise> =
            parts.into_iter().filter_map(|(kind, truth)| truth.map(|truth| plain(kind, truth))).collect();
        let mut active = matched;
        if let Some(compiled) = self.compiled(first) {
            let constraints = rule.constraints.iter().chain(&rule.refinements);
            for (node, constraint) in compiled.conditions.clone().zip(constraints) {
                let (truth, premise) = self.constraint(node, constraint);
                active = both(active, truth);
                premises.push(premise);
            }
        }
        let mut conditions = Vec::new();
        if rule.kind == RuleKind::Permission {
            let nodes: Vec<_> = self
                .compiled(first)
                .into_iter()
                .flat_map(|compiled| compiled.duties.clone())
                .map(|index| policy.program().duties.get(index as usize).map(|duty| duty.conditions.clone()))
                .collect();
            for (duty, nodes) in self.duties_of(rule, first).into_iter().zip(nodes) {
                let mut report = self.duty(&duty.0, &duty.1);
                let blocks = match self.semantics {
                    Semantics::Force => report.deontic_state == "Violated",
                    Semantics::Draft if report.deontic_state == "Fulfilled" => false,
                    // Inactive, and so no condition, is what is known not to hold.
                    Semantics::Draft => nodes.is_none_or(|nodes| self.context.all(nodes) != Truth::False),
                };
                if blocks {
                    active = Truth::False;
                }
                if self.semantics == Semantics::Draft {
                    let listed = policy.duties().iter().find(|listed| listed.clause == duty.2);
                    report.conditions = listed.map(|duty| self.below(&duty.consequences)).unwrap_or_default();
                }
                conditions.push(report);
            }
        }
        let mut state = None;
        if self.semantics == Semantics::Draft {
            if rule.kind == RuleKind::Prohibition {
                let number = first + 1;
                let remedies = policy.duties().iter().filter(|duty| duty.role == DutyRole::Remedy(number));
                conditions = remedies.map(|duty| self.listed(duty)).collect();
            }
            state = Some(self.state_of(&rule_iri, rule.kind, active == Truth::True));
        }
        Some(RuleReport {
            kind,
            rule: rule_iri,
            rule_request: self.asked.rule.clone(),
            attempt_state: "Attempted",
            activation_state: if active == Truth::True { "Active" } else { "Inactive" },
            duty: state,
            premises,
            conditions,
            truth: active,
        })
    }

    /// Whether an obligation's constraints hold. Compiled, those that set a deadline are no longer conditions; here all of
    /// them are, so they are read as a permission's.
    fn conditions_of(&self, rule: &Rule) -> (Truth, Vec<Premise>) {
        let mut model = self.policy.model().clone();
        model.rules = vec![Rule {
            kind: RuleKind::Permission,
            target: None,
            assignee: None,
            duties: Vec::new(),
            ..rule.clone()
        }];
        let Ok(alone) = Policy::from_model(model, self.policy.profile_set()) else {
            return (Truth::Unknown, Vec::new());
        };
        let mut reporter = Reporter {
            policy: &alone,
            context: Context::new(&alone, self.request, self.facts),
            seed: self.seed.clone(),
            ..*self
        };
        let nodes =
            alone.program().permissions.first().map(|rule| rule.conditions.clone()).unwrap_or_default();
        let (mut all, mut premises) = (Truth::True, Vec::new());
        for (node, constraint) in nodes.zip(&rule.constraints) {
            let (truth, premise) = reporter.constraint(node, constraint);
            all = both(all, truth);
            premises.push(premise);
        }
        (all, premises)
    }

    /// Keys, IRIs and clauses of a permission's duties.
    fn duties_of(&self, rule: &Rule, index: usize) -> Vec<(String, String, String)> {
        let number = index + 1;
        let clauses = (1..=rule.duties.len()).map(|below| format!("{number}.{below}"));
        clauses
            .zip(&rule.duties)
            .filter_map(|(clause, duty)| {
                let listed = self.policy.duties().iter().find(|listed| listed.clause == clause)?;
                let iri = duty.uid.clone().unwrap_or_else(|| format!("{}#{}", self.policy.uid(), listed.key));
                Some((listed.key.clone(), iri, clause))
            })
            .collect()
    }

    fn duty(&mut self, key: &str, iri: &str) -> DutyReport {
        let state = self.facts.duties.get(key);
        let id = self.known.reports.get(iri).cloned();
        let (performance_state, deontic_state) = match state {
            Some(DutyState::Fulfilled) => ("Performed", "Fulfilled"),
            Some(DutyState::Violated) => ("Unperformed", "Violated"),
            Some(DutyState::Pending) => ("Unperformed", "NonSet"),
            None => ("Unknown", "NonSet"),
        };
        DutyReport {
            id: id.unwrap_or_else(|| self.mint()),
            rule: iri.to_owned(),
            performance_state,
            deontic_state,
            conditions: Vec::new(),
        }
    }

    fn action(&self, compiled: &CompiledRule) -> Truth {
        let covered = self
            .policy
            .tables()
            .action(self.request.action)
            .is_some_and(|action| compiled.covered.contains(action));
        if covered { Truth::True } else { Truth::False }
    }

    fn constraint(&mut self, node: u32, constraint: &Constraint) -> (Truth, Premise) {
        let policy = self.policy;
        match (policy.program().nodes.get(node as usize), constraint) {
            (Some(NodeKind::Leaf(leaf)), Constraint::Atom(atom)) => {
                let clock = self.context.slot(leaf).is_some_and(|slot| slot.kind == SlotKind::Clock);
                let truth = if clock && self.known.now.is_none() {
                    Truth::Unknown
                } else {
                    self.context.leaf(leaf).0
                };
                let left = if clock {
                    self.known.now.map(|at| at.to_string())
                } else {
                    self.context.fact(leaf).map(|fact| fact.value.to_string())
                };
                let premise = Premise {
                    constraint: Some(atom.uid.clone().unwrap_or_else(|| self.mint())),
                    left_operand: left,
                    operator: Some(atom.operator.name()),
                    left_is_instant: matches!(
                        atom.rights.first(),
                        Some(Right::Instant { .. } | Right::Day { .. })
                    ),
                    ..plain(PremiseKind::Constraint, truth)
                };
                (truth, premise)
            }
            (
                Some(NodeKind::Logic { children, .. } | NodeKind::Intervals { children, .. }),
                Constraint::Logic { logic, uid, parts },
            ) => {
                let found: Vec<(Truth, Premise)> =
                    children.clone().zip(parts).map(|(child, part)| self.constraint(child, part)).collect();
                let truths = found.iter().map(|(truth, _)| *truth);
                let truth = match logic {
                    Logic::And | Logic::AndSequence => truths.min().unwrap_or(Truth::True),
                    Logic::Or => truths.max().unwrap_or(Truth::False),
                    Logic::Xone => exactly_one(truths),
                };
                let premise = Premise {
                    constraint: Some(uid.clone().unwrap_or_else(|| self.mint())),
                    operator: Some(logic.name()),
                    premises: found.into_iter().map(|(_, premise)| premise).collect(),
                    ..plain(PremiseKind::Constraint, truth)
                };
                (truth, premise)
            }
            _ => (Truth::Unknown, plain(PremiseKind::Constraint, Truth::Unknown)),
        }
    }
}

fn plain(kind: PremiseKind, truth: Truth) -> Premise {
    Premise {
        kind,
        satisfied: truth == Truth::True,
        truth: word(truth),
        constraint: None,
        left_operand: None,
        operator: None,
        premises: Vec::new(),
        left_is_instant: false,
    }
}

impl Report {
    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The report as Turtle in the compliance report vocabulary.
    pub fn to_turtle(&self) -> String {
        let mut writer = TurtleWriter { out: String::new() };
        writer.out.push_str(concat!(
            "@prefix odrl: <http://www.w3.org/ns/odrl/2/>.\n",
            "@prefix dct: <http://purl.org/dc/terms/>.\n",
            "@prefix xsd: <http://www.w3.org/2001/XMLSchema#>.\n",
            "@prefix report: <https://w3id.org/force/compliance-report#>.\n\n",
        ));
        let mut lines = vec!["a report:PolicyReport".to_owned()];
        if let Some(created) = &self.created {
            lines.push(format!("dct:created \"{created}\"^^xsd:dateTime"));
        }
        lines.push(format!("report:policy {}", iri(&self.policy)));
        lines.push(format!("report:policyRequest {}", iri(&self.policy_request)));
        let mut below = Vec::new();
        for (index, rule) in self.rule_reports.iter().enumerate() {
            let name = rule
                .duty
                .as_ref()
                .map_or_else(|| format!("{}:rule:{}", self.id, index + 1), |duty| duty.id.clone());
            lines.push(format!("report:ruleReport {}", iri(&name)));
            below.push((name, rule));
        }
        writer.node(&self.id, &lines);
        for (name, rule) in below {
            writer.rule(&name, rule);
        }
        writer.out
    }
}

/// An IRI for Turtle; what could end it early is percent-encoded.
fn iri(text: &str) -> String {
    let mut out = String::from("<");
    for c in text.chars() {
        if c <= ' ' || "<>\"{}|\\^`".contains(c) {
            for byte in c.to_string().bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out.push('>');
    out
}

fn literal(text: &str) -> String {
    let escaped: String = text.chars().flat_map(char::escape_default).collect();
    // Rust writes `\u{e9}`, Turtle `\u00E9`; both escape quotes, backslashes and line ends alike.
    let mut out = String::from("\"");
    let mut rest = escaped.as_str();
    while let Some((before, after)) = rest.split_once("\\u{") {
        out.push_str(before);
        let (code, tail) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(&format!("\\U{code:0>8}"));
        rest = tail;
    }
    out.push_str(&rest.replace("\\'", "'"));
    out.push('"');
    out
}

struct TurtleWriter {
    out: String,
}

impl TurtleWriter {
    fn node(&mut self, name: &str, lines: &[String]) {
        self.out.push_str(&format!("{} {}.\n", iri(name), lines.join(";\n    ")));
    }

    fn rule(&mut self, name: &str, rule: &RuleReport) {
        let mut lines = vec![
            format!("a report:{}", rule.kind),
            format!("report:attemptState report:{}", rule.attempt_state),
            format!("report:rule {}", iri(&rule.rule)),
            format!("report:ruleRequest {}", iri(&rule.rule_request)),
            format!("report:activationState report:{}", rule.activation_state),
        ];
        if let Some(duty) = &rule.duty {
            lines.push(format!("report:performanceState report:{}", duty.performance_state));
            lines.push(format!("report:deonticState report:{}", duty.deontic_state));
        }
        let names: Vec<String> =
            (1..=rule.premises.len()).map(|number| format!("{name}:premise:{number}")).collect();
        lines.extend(names.iter().map(|premise| format!("report:premiseReport {}", iri(premise))));
        lines.extend(rule.conditions.iter().map(|duty| format!("report:conditionReport {}", iri(&duty.id))));
        self.node(name, &lines);
        for (name, premise) in names.iter().zip(&rule.premises) {
            self.premise(name, premise);
        }
        for duty in &rule.conditions {
            self.duty(duty);
        }
    }

    fn duty(&mut self, duty: &DutyReport) {
        let mut lines = vec![
            "a report:DutyReport".to_owned(),
            "report:attemptState report:Attempted".to_owned(),
            format!("report:rule {}", iri(&duty.rule)),
            format!("report:performanceState report:{}", duty.performance_state),
            format!("report:deonticState report:{}", duty.deontic_state),
        ];
        lines
            .extend(duty.conditions.iter().map(|below| format!("report:conditionReport {}", iri(&below.id))));
        self.node(&duty.id, &lines);
        for below in &duty.conditions {
            self.duty(below);
        }
    }

    fn premise(&mut self, name: &str, premise: &Premise) {
        let state = if premise.satisfied { "Satisfied" } else { "Unsatisfied" };
        let mut lines = vec![
            format!("a report:{:?}Report", premise.kind),
            format!("report:satisfactionState report:{state}"),
        ];
        if let Some(constraint) = &premise.constraint {
            lines.push(format!("report:constraint {}", iri(constraint)));
        }
        if let Some(left) = &premise.left_operand {
            let datatype = if premise.left_is_instant { "^^xsd:dateTime" } else { "" };
            lines.push(format!("report:constraintLeftOperand {}{datatype}", literal(left)));
        }
        if let Some(operator) = premise.operator {
            let property =
                if premise.premises.is_empty() { "constraintOperator" } else { "constraintLogicalOperand" };
            lines.push(format!("report:{property} odrl:{operator}"));
        }
        let names: Vec<String> =
            (1..=premise.premises.len()).map(|number| format!("{name}:premise:{number}")).collect();
        lines.extend(names.iter().map(|below| format!("report:premiseReport {}", iri(below))));
        self.node(name, &lines);
        for (name, below) in names.iter().zip(&premise.premises) {
            self.premise(name, below);
        }
    }
}

/// Used by the reader of requests as well.
pub(crate) fn odrl(name: &str) -> String {
    format!("{ODRL}{name}")
}

/// The time of a literal, if it is one.
pub(crate) fn instant(text: &str) -> Option<UnixMillis> {
    UnixMillis::parse_rfc3339(text)
}
