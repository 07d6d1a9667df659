//! The explanation: a second, allocating pass over the same program, telling what the decision does not have room for.

use serde::Serialize;

use crate::decide::{Decision, Outcome};
use crate::evaluate::{Context, Truth, Why, both, exactly_one};
use crate::facts::{DutyState, Facts, Request};
use crate::ir::{CompiledRule, NodeKind, Test};
use crate::model::{Atom, Constraint, Logic, Rule, RuleKind};
use crate::policy::Policy;
use crate::profile::{Lang, OperandType, Operator, Phase, Stage};
use crate::render::Writer;
use crate::text::{self, say};
use crate::time::UnixMillis;
use crate::value::{DAY_MILLIS, Right, Value};

/// How many rules an explanation shows beside the deciding one: the nearest by failing constraints.
const MAX_NEAREST: usize = 2;

/// Why a decision is as it is, in one language; serialisable as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `permit`, `deny` or `unknown`: the same as [`Policy::decide`] says.
    pub outcome: &'static str,
    /// The refusal code of anything but a permit.
    pub code: Option<&'static str>,
    /// BCP 47 tag of the texts.
    pub language: &'static str,
    /// One sentence.
    pub headline: String,
    /// The first instant at which the answer may change, RFC 3339.
    pub valid_until: Option<String>,
    /// The deciding rule first, then the nearest others.
    pub rules: Vec<ExplainedRule>,
    /// Operands that are decided at a later stage.
    pub deferred: Vec<String>,
    /// The duties owed because of a permit, as sentences.
    pub duties: Vec<String>,
}

/// One rule of an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRule {
    /// The number of its clause.
    pub number: usize,
    /// Its identifier.
    pub uid: Option<String>,
    /// `permission` or `prohibition`.
    pub kind: &'static str,
    /// Its sentence.
    pub clause: String,
    /// Whether it applies: `true`, `false`, `unknown` or `deferred`.
    pub applies: &'static str,
    /// Match, constraints and duties, one by one.
    pub parts: Vec<ExplainedPart>,
}

/// One part of a rule: a match, a constraint or a duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedPart {
    /// What the policy says.
    pub clause: String,
    /// `true`, `false`, `unknown` or `deferred`.
    pub holds: &'static str,
    /// The fact seen.
    pub seen: Option<String>,
    /// Where the fact came from.
    pub source: Option<String>,
    /// Why it could not be decided.
    pub why: Option<String>,
    /// What would satisfy it.
    pub remedy: Option<String>,
}

impl Explanation {
    /// The explanation as lines of text.
    pub fn lines(&self) -> Vec<String> {
        let lang = Lang::of_tag(self.language);
        let mut lines = vec![self.headline.clone()];
        for rule in &self.rules {
            let number = rule.number.to_string();
            lines.push(say(lang, "explain.clause", &[("rule", &number), ("value", &rule.clause)]));
            for part in &rule.parts {
                let seen = part.seen.as_deref().map(|seen| {
                    let source = part.source.as_deref().unwrap_or("");
                    say(lang, "explain.seen", &[("value", seen), ("source", source)])
                });
                let why = part.why.as_deref().map(|why| say(lang, "explain.why", &[("value", why)]));
                let remedy =
                    part.remedy.as_deref().map(|remedy| say(lang, "explain.why", &[("value", remedy)]));
                let mark = say(lang, &format!("mark.{}", part.holds), &[]);
                lines.push(format!(
                    "  {}",
                    say(
                        lang,
                        "explain.line",
                        &[
                            ("mark", &mark),
                            ("clause", &part.clause),
                            ("seen", seen.as_deref().unwrap_or("")),
                            ("why", why.as_deref().unwrap_or("")),
                            ("remedy", remedy.as_deref().unwrap_or("")),
                        ],
                    )
                ));
            }
        }
        for duty in &self.duties {
            lines.push(say(lang, "explain.duty", &[("value", duty)]));
        }
        if let Some(at) = self.valid_until.as_deref().and_then(UnixMillis::parse_rfc3339) {
            lines.push(say(lang, "explain.valid_until", &[("value", &text::instant(lang, at))]));
        }
        lines
    }
}

impl Policy {
    /// Explains the decision of the same request and facts.
    pub fn explain(&self, request: &Request<'_>, facts: &Facts, lang: Lang) -> Explanation {
        let decision = self.decide(request, facts);
        let mut explainer = Explainer {
            policy: self,
            request,
            facts,
            writer: Writer { tables: self.tables(), lang },
            context: Context::new(self, request, facts),
            lang,
        };
        explainer.explain(&decision)
    }
}

const fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Unknown => "unknown",
        Truth::Deferred => "deferred",
    }
}

struct Explainer<'a> {
    policy: &'a Policy,
    request: &'a Request<'a>,
    facts: &'a Facts,
    writer: Writer<'a>,
    context: Context<'a>,
    lang: Lang,
}

impl<'a> Explainer<'a> {
    fn explain(&mut self, decision: &Decision<'_>) -> Explanation {
        let lang = self.lang;
        let program = self.policy.program();
        let mut rules: Vec<(usize, usize, ExplainedRule)> = Vec::new();
        for rule in program.permissions.iter().chain(&program.prohibitions) {
            let explained = self.rule(rule);
            let failing =
                explained.parts.iter().filter(|part| matches!(part.holds, "false" | "unknown")).count();
            // Of prohibitions only those matter that apply or may apply.
            if rule.kind == RuleKind::Prohibition && explained.applies == "false" {
                continue;
            }
            let chosen = usize::from(decision.rule != Some(rule.source));
            rules.push((chosen, failing, explained));
        }
        rules.sort_by_key(|(chosen, failing, rule)| (*chosen, *failing, rule.number));
        let shown = match decision.outcome {
            Outcome::Permit => 1,
            Outcome::Deny | Outcome::Unknown => 1 + MAX_NEAREST,
        };
        let rules: Vec<ExplainedRule> = rules.into_iter().map(|(_, _, rule)| rule).take(shown).collect();
        let deferred: Vec<String> = decision.deferred().map(|iri| self.name(iri)).collect();
        let duties = self.duties(decision);
        Explanation {
            outcome: match decision.outcome {
                Outcome::Permit => "permit",
                Outcome::Deny => "deny",
                Outcome::Unknown => "unknown",
            },
            code: decision.code.map(|code| code.code),
            language: lang.tag(),
            headline: self.headline(decision, &deferred),
            valid_until: decision.valid_until.map(|at| at.to_string()),
            rules,
            deferred,
            duties,
        }
    }

    fn name(&self, iri: &str) -> String {
        match iri {
            "http://www.w3.org/ns/odrl/2/action" => say(self.lang, "action", &[]),
            "http://www.w3.org/ns/odrl/2/duty" => say(self.lang, "duty", &[]),
            _ => self
                .policy
                .tables()
                .operands
                .get(iri)
                .map_or_else(|| crate::vocab::short(iri), |operand| self.writer.operand_name(operand)),
        }
    }

    fn headline(&self, decision: &Decision<'_>, deferred: &[String]) -> String {
        let rule = decision.rule().map(|number| number.to_string()).unwrap_or_default();
        let reason = decision.code.map_or("", |code| match self.lang {
            Lang::En => code.en,
            Lang::ZhHant => code.zh_hant,
            Lang::ZhHans => code.zh_hans,
        });
        let list = deferred.join(&say(self.lang, "list.comma", &[]));
        let key = match decision.outcome {
            Outcome::Permit if deferred.is_empty() => "explain.permit",
            Outcome::Permit => "explain.permit.deferred",
            Outcome::Deny => "explain.deny",
            Outcome::Unknown => "explain.unknown",
        };
        say(self.lang, key, &[("rule", &rule), ("value", &list), ("reason", reason)])
    }

    fn duties(&self, decision: &Decision<'_>) -> Vec<String> {
        let clauses = self.policy.render(self.lang);
        decision
            .duties()
            .filter_map(|duty| clauses.iter().find(|clause| clause.number == duty.clause))
            .map(|clause| clause.text.clone())
            .collect()
    }

    fn rule(&mut self, compiled: &'a CompiledRule) -> ExplainedRule {
        let policy = self.policy;
        let mut parts = Vec::new();
        let mut truth = Truth::True;
        let Some(rule) = policy.model().rules.get(compiled.source) else {
            return ExplainedRule {
                number: compiled.source + 1,
                uid: None,
                kind: "permission",
                clause: String::new(),
                applies: word(Truth::False),
                parts,
            };
        };
        truth = both(truth, self.matches(compiled, rule, &mut parts));
        let constraints = rule.constraints.iter().chain(&rule.refinements);
        for (node, constraint) in compiled.conditions.clone().zip(constraints) {
            truth = both(truth, self.constraint(node, constraint, &mut parts));
        }
        if rule.kind == RuleKind::Permission {
            truth = both(truth, self.preconditions(compiled, &mut parts));
        }
        ExplainedRule {
            number: compiled.source + 1,
            uid: rule.uid.clone(),
            kind: if rule.kind == RuleKind::Permission { "permission" } else { "prohibition" },
            clause: self.writer.sentence(rule, None, &mut Vec::new()),
            applies: word(truth),
            parts,
        }
    }

    /// Dataset, participant and action; only what does not match is told.
    fn matches(&mut self, compiled: &CompiledRule, rule: &Rule, parts: &mut Vec<ExplainedPart>) -> Truth {
        let mut truth = Truth::True;
        let mut add = |key: &str, found: Truth, value: &str, lang: Lang| {
            truth = both(truth, found);
            if found != Truth::True {
                parts.push(ExplainedPart {
                    clause: say(lang, key, &[("value", value)]),
                    holds: word(found),
                    seen: None,
                    source: None,
                    why: None,
                    remedy: None,
                });
            }
        };
        if let (Some(thing), Some(target)) = (&compiled.target, &rule.target) {
            let found = self.context.thing(thing, self.request.target);
            add("not_this_target", found, &target.iri, self.lang);
        }
        if let (Some(thing), Some(assignee)) = (&compiled.assignee, &rule.assignee) {
            let found = self.context.thing(thing, self.request.assignee);
            add("not_this_party", found, &assignee.iri, self.lang);
        }
        let tables = self.policy.tables();
        let overlaps = tables.action(self.request.action).is_some_and(|action| {
            let below = tables.covered(action);
            let exact = self.request.stage == Stage::Use && rule.kind == RuleKind::Permission;
            compiled.covered.contains(action) || (!exact && !compiled.covered.and(below).is_empty())
        });
        let found = if overlaps { Truth::True } else { Truth::False };
        add("not_this_action", found, &self.writer.action_name(&rule.action), self.lang);
        truth
    }

    fn constraint(&mut self, node: u32, constraint: &Constraint, parts: &mut Vec<ExplainedPart>) -> Truth {
        let policy = self.policy;
        match (policy.program().nodes.get(node as usize), constraint) {
            (Some(NodeKind::Leaf(leaf)), Constraint::Atom(atom)) => {
                let (truth, why) = self.context.leaf(leaf);
                parts.push(self.leaf(leaf, atom, truth, why));
                truth
            }
            (
                Some(NodeKind::Logic { children, .. } | NodeKind::Intervals { children, .. }),
                Constraint::Logic { logic, parts: below, .. },
            ) => {
                let truths: Vec<Truth> = children
                    .clone()
                    .zip(below)
                    .map(|(child, part)| self.constraint(child, part, parts))
                    .collect();
                let holding = truths.iter().filter(|truth| **truth == Truth::True).count();
                let truth = match logic {
                    Logic::And | Logic::AndSequence => truths.into_iter().min().unwrap_or(Truth::True),
                    Logic::Or => truths.into_iter().max().unwrap_or(Truth::False),
                    Logic::Xone => exactly_one(truths.into_iter()),
                };
                if *logic == Logic::Xone && truth == Truth::False && holding > 1 {
                    // Each part holds; that they hold together is what fails.
                    parts.push(ExplainedPart {
                        clause: self.writer.constraint(constraint, &mut Vec::new()),
                        holds: word(Truth::False),
                        seen: None,
                        source: None,
                        why: Some(say(self.lang, "why.several_hold", &[("n", &holding.to_string())])),
                        remedy: None,
                    });
                }
                truth
            }
            _ => Truth::Unknown,
        }
    }

    fn leaf(&self, leaf: &crate::ir::Leaf, atom: &Atom, truth: Truth, why: Why) -> ExplainedPart {
        let lang = self.lang;
        let fact = self.context.fact(leaf);
        let clock = atom.operand.kind == OperandType::Instant;
        let seen = match fact {
            _ if clock => Some(text::instant(lang, self.facts.now())),
            Some(fact) => Some(self.seen(atom, &fact.value)),
            None if atom.operand.iri == crate::vocab::operand::PARTICIPANT => {
                Some(self.request.assignee.to_owned())
            }
            None => None,
        };
        let source = match fact {
            _ if clock => Some(text::source(lang, crate::profile::Source::LocalClock)),
            Some(fact) => Some(text::source(lang, fact.source)),
            None if seen.is_some() => Some(text::source(lang, crate::profile::Source::Attested)),
            None => None,
        };
        let minimum = atom.minimum_source.filter(|source| source.rank() > atom.operand.source.rank());
        let minimum = text::source(lang, minimum.unwrap_or(atom.operand.source));
        let undecided = why;
        let why = match why {
            Why::Decided => None,
            Why::Missing => Some(say(lang, "why.missing", &[])),
            Why::Deferred => Some(say(lang, "why.deferred", &[])),
            Why::Untrusted => Some(say(lang, "why.untrusted", &[("value", minimum)])),
            Why::NotComparable => Some(say(lang, "why.not_comparable", &[])),
            Why::NotEnforceable => Some(say(lang, "why.not_enforceable", &[])),
        };
        let remedy = match truth {
            Truth::True | Truth::Deferred => None,
            Truth::Unknown if matches!(leaf.test, Test::Undecided) => None,
            // The source is as good as wanted; it is the value that must be another.
            Truth::Unknown if matches!(undecided, Why::NotComparable) => {
                let clause = self.writer.atom(atom, &mut Vec::new());
                Some(say(lang, "remedy.other", &[("value", &clause)]))
            }
            Truth::Unknown => {
                let operand = self.writer.operand_name(&atom.operand);
                Some(say(lang, "remedy.provide", &[("operand", &operand), ("source", minimum)]))
            }
            Truth::False => Some(self.remedy(atom, fact.map(|fact| &fact.value))),
        };
        ExplainedPart {
            clause: self.writer.atom(atom, &mut Vec::new()),
            holds: word(truth),
            seen,
            source: source.map(str::to_owned),
            why,
            remedy,
        }
    }

    fn seen(&self, atom: &Atom, value: &Value) -> String {
        match value {
            Value::Instant(at) => text::instant(self.lang, *at),
            Value::Duration(millis) => text::duration(self.lang, 0, *millis),
            Value::Symbol(symbol) => self.symbol(atom, symbol.as_str()),
            Value::Symbols(list) => {
                let list: Vec<String> =
                    list.iter().map(|symbol| self.symbol(atom, symbol.as_str())).collect();
                list.join(&say(self.lang, "list.comma", &[]))
            }
            Value::Number(..) => value.to_string(),
        }
    }

    fn symbol(&self, atom: &Atom, text: &str) -> String {
        let label = self.policy.tables().term_label(&atom.operand, text, self.lang);
        label.map_or_else(|| text.to_owned(), str::to_owned)
    }

    /// The smallest change that would make a failing constraint true.
    fn remedy(&self, atom: &Atom, seen: Option<&Value>) -> String {
        let lang = self.lang;
        let now = self.facts.now().0;
        let when = |at: i64, key: &str| say(lang, key, &[("value", &text::instant(lang, UnixMillis(at)))]);
        let bound = |order: Operator, from: i64, lo: i64, hi: i64| match order {
            Operator::Lt | Operator::Lteq => Some(when(from.saturating_add(lo), "remedy.ended")),
            Operator::Gt => Some(when(from.saturating_add(hi).saturating_add(1), "remedy.wait")),
            Operator::Gteq => Some(when(from.saturating_add(hi), "remedy.wait")),
            Operator::Eq if now < from.saturating_add(lo) => {
                Some(when(from.saturating_add(hi), "remedy.wait"))
            }
            Operator::Eq => Some(when(from.saturating_add(lo), "remedy.ended")),
            _ => None,
        };
        let found = match (atom.rights.first(), seen) {
            (Some(Right::Instant { lo, hi, .. }), _) => bound(atom.operator, 0, *lo, *hi),
            (Some(Right::Day { start_lo, start_hi, .. }), _) => match atom.operator {
                Operator::Lteq | Operator::Gt => bound(atom.operator, DAY_MILLIS - 1, *start_lo, *start_hi),
                operator => bound(operator, 0, *start_lo, *start_hi),
            },
            (Some(Right::Duration { lo, hi, .. }), Some(Value::Instant(start))) => {
                bound(atom.operator, start.0, *lo, *hi)
            }
            (Some(Right::Number(_)), Some(Value::Number(spent, _)))
                if atom.operand.kind == OperandType::Count
                    && matches!(atom.operator, Operator::Lt | Operator::Lteq) =>
            {
                Some(say(lang, "remedy.spent", &[("value", &spent.to_string())]))
            }
            (Some(Right::Symbol(_) | Right::Text(_)), _) => {
                let list: Vec<String> = atom
                    .rights
                    .iter()
                    .map(|right| self.writer.right(&atom.operand, right, &mut Vec::new()))
                    .collect();
                let list = list.join(&say(lang, "list.comma", &[]));
                match atom.operator {
                    Operator::Eq | Operator::IsA | Operator::IsAnyOf | Operator::IsPartOf => {
                        Some(say(lang, "remedy.one_of", &[("value", &list)]))
                    }
                    Operator::Neq | Operator::IsNoneOf => {
                        Some(say(lang, "remedy.none_of", &[("value", &list)]))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        found.unwrap_or_else(|| {
            let clause = self.writer.atom(atom, &mut Vec::new());
            say(lang, "remedy.other", &[("value", &clause)])
        })
    }

    fn preconditions(&mut self, compiled: &CompiledRule, parts: &mut Vec<ExplainedPart>) -> Truth {
        let truth = self.context.preconditions(compiled);
        let policy = self.policy;
        for index in compiled.duties.clone() {
            let (Some(duty), Some(listed)) =
                (policy.program().duties.get(index as usize), policy.duties().get(index as usize))
            else {
                continue;
            };
            let state = self.facts.duties.get(&*duty.key).copied();
            let key = match (duty.phase, state) {
                (_, Some(DutyState::Violated)) => "duty_state.violated",
                (Phase::Before, None | Some(DutyState::Pending)) => "duty_state.open",
                _ => continue,
            };
            // A duty whose own constraints do not hold is not active, and nothing waits for it.
            let active = policy.program().duties.get(index as usize).map(|duty| duty.conditions.clone());
            if active.is_some_and(|conditions| self.context.all(conditions) == Truth::False) {
                continue;
            }
            let value = self.writer.action_name(&listed.action);
            parts.push(ExplainedPart {
                clause: say(self.lang, key, &[("value", &value)]),
                holds: word(if state == Some(DutyState::Violated) { Truth::False } else { truth }),
                seen: None,
                source: None,
                why: None,
                remedy: None,
            });
        }
        truth
    }
}
