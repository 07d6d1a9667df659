//! A policy as numbered clauses for people: nothing left out, unknown terms shown by IRI with a warning.

use crate::duty::{Anchor, Deadline, constraint_enforcement};
use crate::model::{Atom, Conflict, Constraint, Model, Rule, RuleKind, Thing};
use crate::policy::Policy;
use crate::profile::{Enforcement, Lang, OperandInfo, OperandType, Phase};
use crate::tables::Tables;
use crate::text::{self, fill, find, say};
use crate::value::Right;
use crate::vocab::{ODRL, short};

/// What a clause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClauseKind {
    /// May.
    Permission,
    /// Must not.
    Prohibition,
    /// Must: an obligation, or a duty, remedy or consequence below another clause.
    Duty,
    /// About the policy as a whole.
    General,
}

/// One clause of the rendered policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// `1`, `1.1` below it; empty for general clauses, which come last.
    pub number: String,
    /// What it is.
    pub kind: ClauseKind,
    /// The rule's identifier, if it has one.
    pub uid: Option<String>,
    /// The sentence.
    pub text: String,
    /// What a reader should know about it: unknown terms, what the connector cannot enforce.
    pub warnings: Vec<String>,
    /// The weakest way in which a part of it is held.
    pub enforcement: Enforcement,
}

impl Policy {
    /// The policy as clauses in the given language, in the order of the canonical text.
    pub fn render(&self, lang: Lang) -> Vec<Clause> {
        let writer = Writer { tables: self.tables(), lang };
        let model = self.model();
        let mut clauses = Vec::new();
        for (index, rule) in model.rules.iter().enumerate() {
            writer.rule(&mut clauses, rule, None, &(index + 1).to_string());
        }
        writer.general(&mut clauses, model);
        clauses
    }
}

pub(crate) struct Writer<'a> {
    pub tables: &'a Tables,
    pub lang: Lang,
}

impl Writer<'_> {
    fn rule(&self, clauses: &mut Vec<Clause>, rule: &Rule, parent: Option<&Rule>, number: &str) {
        let mut warnings = Vec::new();
        let text = self.sentence(rule, parent, &mut warnings);
        clauses.push(Clause {
            number: number.to_owned(),
            kind: match rule.kind {
                RuleKind::Permission => ClauseKind::Permission,
                RuleKind::Prohibition => ClauseKind::Prohibition,
                RuleKind::Duty => ClauseKind::Duty,
            },
            uid: rule.uid.clone(),
            text,
            warnings,
            enforcement: self.enforcement(rule),
        });
        // What a duty does not say itself, its consequence has from the rule above both.
        let mut heir = rule.clone();
        heir.target = heir.target.or_else(|| parent.and_then(|parent| parent.target.clone()));
        heir.assignee = heir.assignee.or_else(|| parent.and_then(|parent| parent.assignee.clone()));
        for (below, duty) in rule.duties.iter().enumerate() {
            self.rule(clauses, duty, Some(&heir), &format!("{number}.{}", below + 1));
        }
    }

    fn enforcement(&self, rule: &Rule) -> Enforcement {
        match rule.kind {
            RuleKind::Duty => crate::duty::enforcement(rule, self.tables),
            RuleKind::Permission | RuleKind::Prohibition => rule
                .constraints
                .iter()
                .chain(&rule.refinements)
                .map(constraint_enforcement)
                // A permission opens only what the connector opens; what is forbidden it must be able to prevent.
                .chain((rule.kind == RuleKind::Prohibition).then(|| self.action_enforcement(&rule.action)))
                .min()
                .unwrap_or(Enforcement::Technical),
        }
    }

    fn action_enforcement(&self, iri: &str) -> Enforcement {
        let info = self.tables.action(iri).and_then(|index| self.tables.actions.get(index));
        info.map_or(Enforcement::Legal, |info| info.enforcement)
    }

    /// The whole sentence of a rule.
    pub(crate) fn sentence(&self, rule: &Rule, parent: Option<&Rule>, warnings: &mut Vec<String>) -> String {
        let lang = self.lang;
        let assignee = rule.assignee.as_ref().or_else(|| parent.and_then(|rule| rule.assignee.as_ref()));
        let party =
            assignee.map_or_else(|| say(lang, "party.default", &[]), |thing| self.thing(thing, warnings));
        let target = rule.target.as_ref().or_else(|| parent.and_then(|rule| rule.target.as_ref()));
        let target =
            target.map_or_else(|| say(lang, "target.default", &[]), |thing| self.thing(thing, warnings));
        let action = self.action(&rule.action, &target);
        let mut parties = String::new();
        if !rule.parties.is_empty() {
            let list: Vec<String> = rule
                .parties
                .iter()
                .map(|(function, party)| {
                    let key = format!("function.{}", function.strip_prefix(ODRL).unwrap_or(function));
                    let function = find(lang, &key).map_or_else(|| short(function), str::to_owned);
                    let party = self.thing(party, warnings);
                    say(lang, "parties.one", &[("function", &function), ("party", &party)])
                })
                .collect();
            parties = say(lang, "parties", &[("list", &list.join(&say(lang, "list.comma", &[])))]);
        }
        if let Some(output) = &rule.output {
            let output = self.thing(output, warnings);
            parties.push_str(&say(lang, "output", &[("output", &output)]));
        }
        let is_duty = rule.kind == RuleKind::Duty;
        let (mut phase, mut deadline) = (String::new(), String::new());
        if is_duty {
            let stated: Vec<String> =
                crate::duty::deadlines(rule).iter().map(|deadline| self.deadline(deadline)).collect();
            if parent.is_some_and(|rule| rule.kind == RuleKind::Permission) || stated.is_empty() {
                phase = say(lang, self.phase(rule, parent), &[]);
            }
            deadline = match stated.as_slice() {
                [] | [_] => stated.concat(),
                _ => {
                    let list = stated.join(&say(lang, "deadline.join", &[]));
                    say(lang, "deadline.several", &[("list", &list)])
                }
            };
        }
        let unspoken = |constraint: &&Constraint| !(is_duty && Self::is_spoken(constraint));
        let conditions: Vec<String> = rule
            .constraints
            .iter()
            .filter(unspoken)
            .map(|constraint| self.constraint(constraint, warnings))
            .collect();
        let refinements: Vec<String> = rule
            .refinements
            .iter()
            .filter(unspoken)
            .map(|constraint| self.constraint(constraint, warnings))
            .collect();
        let (key, conditions_key) = match rule.kind {
            RuleKind::Permission => ("rule.permission", "conditions.permission"),
            RuleKind::Prohibition => ("rule.prohibition", "conditions.prohibition"),
            RuleKind::Duty => ("rule.duty", "conditions.duty"),
        };
        let listed = |key: &str, list: &[String]| {
            if list.is_empty() {
                String::new()
            } else {
                say(lang, key, &[("list", &list.join(&say(lang, "list.and", &[])))])
            }
        };
        let conditions = format!(
            "{}{}",
            listed("conditions.refinement", &refinements),
            listed(conditions_key, &conditions)
        );
        let sentence = say(
            lang,
            key,
            &[
                ("party", &party),
                ("action", &action),
                ("parties", &parties),
                ("phase", &phase),
                ("deadline", &deadline),
                ("conditions", &conditions),
            ],
        );
        if rule.kind != RuleKind::Permission {
            let enforcement = match rule.kind {
                RuleKind::Duty => crate::duty::action_enforcement(rule, self.tables),
                RuleKind::Permission | RuleKind::Prohibition => self.action_enforcement(&rule.action),
            };
            self.warn_enforcement(warnings, enforcement, || action.clone());
        }
        sentence
    }

    fn phase(&self, rule: &Rule, parent: Option<&Rule>) -> &'static str {
        // An obligation of the policy itself has no use that it would belong to.
        match (crate::duty::phase(rule, self.tables), parent.is_some()) {
            (Phase::Before, true) => "phase.before",
            (Phase::With, _) => "phase.with",
            (Phase::Before, false) | (Phase::After, _) => "phase.after",
        }
    }

    /// Whether this constraint is one of the deadlines that the sentence already says.
    fn is_spoken(constraint: &Constraint) -> bool {
        match constraint {
            Constraint::Atom(atom) => {
                atom.minimum_source.is_none() && crate::duty::atom_deadline(atom).is_some()
            }
            Constraint::Logic { parts, .. } => {
                crate::duty::is_timing(constraint) && parts.iter().all(Self::is_spoken)
            }
        }
    }

    fn deadline(&self, deadline: &Deadline) -> String {
        match deadline {
            Deadline::At(at) => say(self.lang, "deadline.at", &[("value", &text::instant(self.lang, *at))]),
            Deadline::After { anchor, millis } => {
                let key = match anchor {
                    Anchor::Signing => "deadline.signing",
                    Anchor::FirstUse => "deadline.first_use",
                    Anchor::End => "deadline.end",
                };
                say(self.lang, key, &[("value", &text::duration(self.lang, 0, *millis))])
            }
        }
    }

    fn action(&self, iri: &str, target: &str) -> String {
        let label = self
            .tables
            .action(iri)
            .and_then(|index| self.tables.actions.get(index))
            .map(|action| action.label(self.lang))
            .filter(|label| !label.is_empty())
            .map_or_else(|| short(iri), str::to_owned);
        if label.contains("{}") {
            fill(&label, &[("", target)])
        } else {
            fill(&format!("{label}{}{{}}", if self.lang == Lang::En { " " } else { "" }), &[("", target)])
        }
    }

    /// The action alone, for lists.
    pub(crate) fn action_name(&self, iri: &str) -> String {
        self.action(iri, "…")
    }

    fn thing(&self, thing: &Thing, warnings: &mut Vec<String>) -> String {
        let mut shown = if thing.collection {
            say(self.lang, "collection", &[("value", &thing.iri)])
        } else {
            thing.iri.clone()
        };
        let mut parts: Vec<String> =
            thing.refinements.iter().map(|constraint| self.constraint(constraint, warnings)).collect();
        parts.extend(thing.part_of.iter().map(|whole| say(self.lang, "collection", &[("value", whole)])));
        if !parts.is_empty() {
            let list = parts.join(&say(self.lang, "list.and", &[]));
            shown.push_str(&say(self.lang, "conditions.only", &[("list", &list)]));
        }
        shown
    }

    pub(crate) fn constraint(&self, constraint: &Constraint, warnings: &mut Vec<String>) -> String {
        match constraint {
            Constraint::Atom(atom) => self.atom(atom, warnings),
            Constraint::Logic { logic, parts, .. } => {
                let parts: Vec<String> = parts.iter().map(|part| self.constraint(part, warnings)).collect();
                let key = format!("logic.{}", logic.name());
                let join = say(self.lang, &format!("{key}.join"), &[]);
                say(self.lang, &key, &[("list", &parts.join(&join))])
            }
        }
    }

    pub(crate) fn operand_name(&self, operand: &OperandInfo) -> String {
        let label = operand.label(self.lang);
        if label.is_empty() { short(&operand.iri) } else { label.to_owned() }
    }

    /// An atomic constraint as a part of a sentence.
    pub(crate) fn atom(&self, atom: &Atom, warnings: &mut Vec<String>) -> String {
        let lang = self.lang;
        let values: Vec<String> =
            atom.rights.iter().map(|right| self.right(&atom.operand, right, warnings)).collect();
        let mut value = values.join(&say(lang, "list.comma", &[]));
        if let Some(unit) = &atom.unit {
            value.push_str(&say(lang, "unit", &[("unit", &short(unit))]));
        }
        let name = short(&atom.operand.iri);
        let name = name.rsplit(':').next().unwrap_or(&name);
        let key = format!("constraint.{name}.{}", atom.operator.name());
        let operand = self.operand_name(&atom.operand);
        let ordered = format!("operator.ordered.{}", atom.operator.name());
        let operator = find(lang, &ordered)
            .filter(|_| atom.operand.kind == OperandType::Ordered)
            .map_or_else(|| say(lang, &format!("operator.{}", atom.operator.name()), &[]), str::to_owned);
        let places =
            [("operand", operand.as_str()), ("operator", operator.as_str()), ("value", value.as_str())];
        let one = format!("{key}.one");
        // The particular sentences belong to the operands of ODRL and of our own profile, whoever else has the name.
        let ours = atom.operand.iri.starts_with(ODRL) || atom.operand.iri.starts_with(crate::vocab::FL);
        let key = if ours && value == "1" && find(lang, &one).is_some() {
            one.as_str()
        } else if ours && find(lang, &key).is_some() {
            key.as_str()
        } else {
            "constraint"
        };
        let mut sentence = say(lang, key, &places);
        if let Some(status) = &atom.status {
            sentence.push_str(&say(lang, "status", &[("value", &text::right(lang, status))]));
        }
        if let Some(source) = atom.minimum_source {
            sentence.push_str(&say(lang, "minimum_source", &[("source", text::source(lang, source))]));
        }
        let enforcement = if atom.operand.kind == OperandType::Opaque {
            Enforcement::Legal
        } else {
            atom.operand.enforcement
        };
        self.warn_enforcement(warnings, enforcement, || sentence.clone());
        sentence
    }

    fn warn_enforcement(
        &self,
        warnings: &mut Vec<String>,
        enforcement: Enforcement,
        what: impl Fn() -> String,
    ) {
        let key = match enforcement {
            Enforcement::Technical => return,
            Enforcement::Procedural => "warning.procedural",
            Enforcement::Legal => "warning.legal",
        };
        let warning = say(self.lang, key, &[("value", &what())]);
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    pub(crate) fn right(&self, operand: &OperandInfo, right: &Right, warnings: &mut Vec<String>) -> String {
        let Right::Symbol(iri) = right else { return text::right(self.lang, right) };
        if let Some(label) = self.tables.term_label(operand, iri, self.lang) {
            return label.to_owned();
        }
        if operand.taxonomy.is_some() {
            warnings.push(say(self.lang, "warning.unknown", &[("value", iri)]));
        }
        iri.clone()
    }

    fn general(&self, clauses: &mut Vec<Clause>, model: &Model) {
        let mut add = |text: String| {
            clauses.push(Clause {
                number: String::new(),
                kind: ClauseKind::General,
                uid: None,
                text,
                warnings: Vec::new(),
                enforcement: Enforcement::Technical,
            });
        };
        let lang = self.lang;
        let has = |kind| model.rules.iter().any(|rule| rule.kind == kind);
        if model.conflict.is_some() || (has(RuleKind::Permission) && has(RuleKind::Prohibition)) {
            let key = format!("general.conflict.{}", model.conflict.unwrap_or(Conflict::Invalid).name());
            add(say(lang, &key, &[]));
        }
        for policy in &model.replaced_by {
            add(say(lang, "general.replaced", &[("value", policy)]));
        }
        let mut assigners: Vec<&Thing> =
            model.rules.iter().filter_map(|rule| rule.assigner.as_ref()).collect();
        assigners.sort();
        assigners.dedup();
        for assigner in assigners {
            let value = self.thing(assigner, &mut Vec::new());
            add(say(lang, "general.assigner", &[("value", &value)]));
        }
        if let Some(at) = model.timestamp {
            add(say(lang, "general.signed", &[("value", &text::instant(lang, at))]));
        }
    }
}
