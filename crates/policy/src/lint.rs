//! Warnings about policies that are valid and probably not what was meant, each with a suggestion.

use crate::model::{Atom, Conflict, Constraint, Kind, Rule, RuleKind};
use crate::policy::Policy;
use crate::problem::{Position, Problem, nearest};
use crate::profile::{Enforcement, OperandType, Operator};
use crate::refusal::Code;
use crate::value::Right;
use crate::vocab::short;

crate::refusal_codes! {
    NO_ZONE = "policy/no-zone", Input,
        "the time has no zone, so it is unknown for up to a day around it", "時間未註明時區，前後最多一日無法判定", "时间未注明时区，前后最多一天无法判定",
        clause "XML Schema 1.1, dateTime order", next "add the zone, e.g. +08:00";
    MONTH_DURATION = "policy/month-duration", Input,
        "months and years have no fixed length, so the end is unknown for some days", "月和年的長度不固定，結束前後數日無法判定", "月和年的长度不固定，结束前后数日无法判定",
        clause "XML Schema 1.1, duration order", next "write days, e.g. P30D; sixty minutes are PT60M, not P60M";
    UNKNOWN_TERM = "policy/unknown-term", Input,
        "the term is in no known taxonomy and stands only for itself", "此詞彙不在任何已知分類中，只代表其本身", "该术语不在任何已知分类中，只代表其本身",
        clause "policy: taxonomies", next "use a term of the taxonomy, or load one that has it";
    NEVER_HOLDS = "policy/never-holds", Input,
        "no request can satisfy this permission", "沒有任何請求能符合此許可", "没有任何请求能符合该许可",
        clause "policy: static analysis", next "correct the constraints that exclude each other";
    ALWAYS_HOLDS = "policy/always-holds", Input,
        "the constraint changes nothing", "此限制條件不起作用", "该限制条件不起作用",
        clause "policy: static analysis", next "remove the constraint, or correct it";
    REDUNDANT_RULE = "policy/redundant-rule", Input,
        "another rule already says this", "另一規則已包含此內容", "另一规则已包含该内容",
        clause "policy: static analysis", next "remove the rule";
    VOIDING_CONFLICT = "policy/voiding-conflict", Input,
        "permission and prohibition overlap and no conflict strategy is stated, so the overlap is void", "許可與禁止重疊而未指明衝突策略，重疊部分無效", "许可与禁止重叠而未指明冲突策略，重叠部分无效",
        clause "ODRL 2.2 Information Model, 2.9", next "state the conflict strategy: prohibit or perm";
    NO_DEADLINE = "policy/no-deadline", Input,
        "the duty has no deadline, so it can never be overdue", "義務沒有期限，因此不會逾期", "义务没有期限，因此不会逾期",
        clause "policy: duties", next "add fl:elapsedSinceEnd lteq P30D or another deadline";
    NOT_ENFORCEABLE = "policy/not-enforceable", Input,
        "the connector cannot enforce this clause", "連接器無法強制執行此條款", "连接器无法强制执行该条款",
        clause "policy: enforcement classes", next "keep it as a legal clause, or use a term that is enforced";
    NOT_PLAIN_DSP = "policy/not-plain-dsp", Input,
        "a plain DSP peer would reject or drop this member", "純 DSP 對等方會拒絕或忽略此成員", "纯 DSP 对等方会拒绝或忽略该成员",
        clause "DSP 2025-1, contract schema", next "write it as a constraint or a top-level obligation";
    EQUALS_BOUND = "policy/equals-bound", Input,
        "equality with a bound is rarely meant", "甚少會要求與界限值相等", "很少会要求与界限值相等",
        clause "policy: authoring", next "use lteq, or gteq";
    NO_ASSIGNER = "policy/no-assigner", Input,
        "the offer names no assigner", "要約未指明授權方", "要约未指明授权方",
        clause "ODRL 2.2 Information Model, 2.1.2", next "name the assigner";
}

impl Policy {
    /// What is doubtful about a valid policy, in the order of its rules.
    pub fn lint(&self) -> Vec<Problem> {
        let mut linter = Linter { policy: self, found: Vec::new() };
        linter.policy();
        linter.found
    }
}

/// Days for some months. A year or more may as well be the vocabulary's P60M, which its own notes write for sixty minutes
/// and which reads as five years: no guess is made.
fn fixed_length(text: &str) -> Option<String> {
    let months: u32 = text.strip_prefix('P')?.strip_suffix('M')?.parse().ok()?;
    Some(format!("P{}D", months.checked_mul(30)?))
}

struct Linter<'a> {
    policy: &'a Policy,
    found: Vec<Problem>,
}

impl Linter<'_> {
    fn warn(
        &mut self,
        code: &'static Code,
        at: &Position,
        term: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let problem =
            Problem { code, at: at.clone(), term: term.into(), expected: String::new(), suggestion };
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }

    fn policy(&mut self) {
        let model = self.policy.model();
        let start = Position::default();
        if model.kind == Kind::Offer && self.policy.assigner().is_none() {
            self.warn(&NO_ASSIGNER, &start, self.policy.uid(), None);
        }
        for rule in &model.rules {
            self.rule(rule, false);
        }
        self.overlap();
        self.analysis();
    }

    fn rule(&mut self, rule: &Rule, below: bool) {
        let enforced_action = crate::duty::action_enforcement(rule, self.policy.tables());
        if rule.kind != RuleKind::Permission && enforced_action == Enforcement::Legal {
            self.warn(&NOT_ENFORCEABLE, &rule.at, short(&rule.action), None);
        }
        let after = crate::duty::phase(rule, self.policy.tables()) == crate::profile::Phase::After;
        if rule.kind == RuleKind::Duty && after && crate::duty::deadlines(rule).is_empty() {
            self.warn(&NO_DEADLINE, &rule.at, short(&rule.action), None);
        }
        if below || !rule.refinements.is_empty() {
            self.warn(&NOT_PLAIN_DSP, &rule.at, if below { "duty" } else { "refinement" }, None);
        }
        for constraint in rule.constraints.iter().chain(&rule.refinements) {
            self.constraint(constraint);
        }
        for duty in &rule.duties {
            self.rule(duty, true);
        }
    }

    fn constraint(&mut self, constraint: &Constraint) {
        match constraint {
            Constraint::Atom(atom) => self.atom(atom),
            Constraint::Logic { parts, .. } => parts.iter().for_each(|part| self.constraint(part)),
        }
    }

    fn atom(&mut self, atom: &Atom) {
        let tables = self.policy.tables();
        if atom.operand.enforcement == Enforcement::Legal || atom.operand.kind == OperandType::Opaque {
            self.warn(&NOT_ENFORCEABLE, &atom.at, short(&atom.operand.iri), None);
        }
        if atom.unit.is_some() || atom.status.is_some() {
            self.warn(&NOT_PLAIN_DSP, &atom.at, "unit or status", None);
        }
        let bounded =
            matches!(atom.operand.kind, OperandType::Count | OperandType::Since | OperandType::Instant);
        let day = matches!(atom.rights.first(), Some(Right::Day { .. }));
        if atom.operator == Operator::Eq && bounded && !day {
            self.warn(&EQUALS_BOUND, &atom.at, short(&atom.operand.iri), Some("lteq".to_owned()));
        }
        for right in &atom.rights {
            match right {
                Right::Instant { lo, hi, text } if lo != hi => {
                    self.warn(&NO_ZONE, &atom.at, text.clone(), Some(format!("{text}+08:00")));
                }
                Right::Day { start_lo, start_hi, text } if start_lo != start_hi => {
                    self.warn(&NO_ZONE, &atom.at, text.clone(), Some(format!("{text}+08:00")));
                }
                Right::Duration { lo, hi, text } if lo != hi => {
                    self.warn(&MONTH_DURATION, &atom.at, text.clone(), fixed_length(text));
                }
                Right::Symbol(iri) => {
                    let Some(taxonomy) = tables.taxonomy(&atom.operand) else { continue };
                    if taxonomy.find(iri).is_none() {
                        let names = taxonomy.terms.iter().map(|term| term.iri.as_str());
                        let near = nearest(iri, names).filter(|near| near.len().abs_diff(iri.len()) <= 3);
                        self.warn(&UNKNOWN_TERM, &atom.at, short(iri), near.map(|iri| short(&iri)));
                    }
                }
                _ => {}
            }
        }
    }

    /// Permission and prohibition that can meet, with nobody saying which wins.
    fn overlap(&mut self) {
        let model = self.policy.model();
        if model.conflict.is_some_and(|conflict| conflict != Conflict::Invalid) {
            return;
        }
        let program = self.policy.program();
        for prohibition in &program.prohibitions {
            let meets = program
                .permissions
                .iter()
                .any(|permission| !permission.covered.and(prohibition.covered).is_empty());
            if let (true, Some(rule)) = (meets, model.rules.get(prohibition.source)) {
                self.warn(
                    &VOIDING_CONFLICT,
                    &rule.at,
                    short(&rule.action),
                    Some("odrl:conflict prohibit".to_owned()),
                );
            }
        }
    }

    /// Permissions that no request satisfies, constraints without effect, rules that say nothing new.
    fn analysis(&mut self) {
        let model = self.policy.model();
        // Each question is a comparison of its own; beyond this many the time would be noticed.
        const MAX_ANALYSED: usize = 16;
        let permissions: Vec<&Rule> =
            model.rules.iter().filter(|rule| rule.kind == RuleKind::Permission).take(MAX_ANALYSED).collect();
        let mut redundant: Vec<usize> = Vec::new();
        for (index, rule) in permissions.iter().enumerate() {
            let Some(alone) = self.part(std::slice::from_ref(*rule)) else { continue };
            if crate::compare::satisfiable(&alone) == crate::compare::Answer::No {
                self.warn(&NEVER_HOLDS, &rule.at, short(&rule.action), None);
                continue;
            }
            for constraint in rule.constraints.iter().take(MAX_ANALYSED) {
                let mut without = (*rule).clone();
                without.constraints.retain(|known| known != constraint);
                let Some(without) = self.part(std::slice::from_ref(&without)) else { continue };
                if crate::compare::refines(&without, &alone).answer == crate::compare::Answer::Yes {
                    let term = match constraint {
                        Constraint::Atom(atom) => short(&atom.operand.iri),
                        Constraint::Logic { logic, .. } => logic.name().to_owned(),
                    };
                    self.warn(&ALWAYS_HOLDS, &rule.at, term, None);
                }
            }
            let others = permissions.iter().enumerate();
            let others = others.filter(|(other, _)| *other != index && !redundant.contains(other));
            let others: Vec<Rule> = others.map(|(_, rule)| (*rule).clone()).collect();
            if let Some(others) = self.part(&others).filter(|_| !others.is_empty())
                && crate::compare::refines(&alone, &others).answer == crate::compare::Answer::Yes
            {
                redundant.push(index);
                self.warn(&REDUNDANT_RULE, &rule.at, short(&rule.action), None);
            }
        }
    }

    /// A policy of these rules alone.
    fn part(&self, rules: &[Rule]) -> Option<Policy> {
        let mut model = self.policy.model().clone();
        model.rules = rules.to_vec();
        Policy::from_model(model, self.policy.profile_set()).ok()
    }
}
