//! Warnings about policies that are valid and probably not what was meant, each with a suggestion.

use crate::model::{Atom, Conflict, Constraint, Kind, Rule, RuleKind, Thing};
use crate::policy::Policy;
use crate::problem::{Position, Problem, nearest};
use crate::profile::{Enforcement, OperandType, Operator};
use crate::refusal::Code;
use crate::time::UnixMillis;
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
    NOT_ANALYSED = "policy/not-analysed", Input,
        "the policy has more constraints than are analysed, so rules that contradict each other are not found",
        "政策的限制條件超過可分析的數目，故不會找出互相矛盾的規則", "策略的限制条件超过可分析的数目，因此不会找出互相矛盾的规则",
        clause "policy: static analysis", next "write fewer constraints, e.g. one isNoneOf instead of many neq";
    DEPRECATED_TERM = "policy/deprecated-term", Input,
        "the term is deprecated and read as the one that replaced it", "此詞彙已棄用，按取代它的詞彙解讀", "该术语已弃用，按取代它的术语解读",
        clause "ODRL 2.2 Vocabulary, deprecated terms", next "write the current term";
    UNIT_MISSING = "policy/unit-missing", Input,
        "the amount has no unit", "數量未註明單位", "数量未注明单位",
        clause "ODRL 2.2 Vocabulary, left operands", next "add odrl:unit, for an amount of money its currency";
    SINGLE_ALL_OF = "policy/single-all-of", Input,
        "all of one value is that value", "只有一個值時，全部即為該值", "只有一个值时，全部即为该值",
        clause "policy: authoring", next "use eq or isAnyOf, or list the other values";
    DEADLINE_PASSED = "policy/deadline-passed", Input,
        "the deadline of the duty has passed already", "義務的期限已過", "义务的期限已过",
        clause "policy: duties", next "set a later deadline, or one that is relative, e.g. fl:elapsedSinceEnd";
    NOBODY_PERFORMS = "policy/nobody-performs", Input,
        "the duty is another's than the two parties', so nobody who signs performs it", "義務屬於雙方以外的第三者，簽署方均不會履行", "义务属于双方以外的第三方，签署方均不会履行",
        clause "ODRL 2.2 Information Model, 2.6.3", next "give the duty to the assigner or the assignee";
    PROHIBITED_PERMISSION = "policy/prohibited-permission", Input,
        "a prohibition covers the whole permission, so no request can use it", "禁止涵蓋整個許可，沒有請求能使用它", "禁止涵盖整个许可，没有请求能使用它",
        clause "ODRL 2.2 Information Model, 2.9", next "narrow the prohibition, or remove the permission";
    NO_TARGET = "policy/no-target", Input,
        "the permission names no dataset, so it holds for every one", "許可未指明資料集，故適用於所有資料集", "许可未指明数据集，因此适用于所有数据集",
        clause "ODRL 2.2 Information Model, 2.6.4", next "name the target";
    SHARED_NAME = "policy/shared-name", Input,
        "two different duties have one name, so what fulfils one fulfils the other", "兩項不同的義務同名，履行其一即視為履行另一項", "两项不同的义务同名，履行其一即视为履行另一项",
        clause "ODRL 2.2 Information Model, 2.6", next "give each duty a name of its own";
    NO_ASSIGNER = "policy/no-assigner", Input,
        "the offer names no assigner", "要約未指明授權方", "要约未指明授权方",
        clause "ODRL 2.2 Information Model, 2.1.2", next "name the assigner";
}

impl Policy {
    /// What is doubtful about a valid policy, in the order of its rules.
    pub fn lint(&self) -> Vec<Problem> {
        let mut linter = Linter { policy: self, now: None, found: Vec::new() };
        linter.policy();
        linter.found
    }

    /// The same for a policy that takes effect at `now`: what is overdue already is doubtful, too.
    pub fn lint_at(&self, now: UnixMillis) -> Vec<Problem> {
        let mut linter = Linter { policy: self, now: Some(now), found: Vec::new() };
        linter.policy();
        linter.found
    }
}

/// Each question is a comparison of its own; beyond this many the time would be noticed.
const MAX_ANALYSED: usize = 16;
/// Operands whose bound is an amount of something that only a unit tells.
const WITH_UNIT: &[&str] = &["payAmount", "resolution"];
/// Deprecated actions that no current one replaces (ODRL 2.2 Vocabulary).
const DEPRECATED_WITHOUT_MATCH: &[&str] =
    &["adHocShare", "extractChar", "extractPage", "extractWord", "lease", "lend", "preview", "secondaryUse"];
/// The most constraints of a policy whose rules are held against each other: each such question prepares all of them.
const MAX_ANALYSED_CONSTRAINTS: usize = 200;

/// Days for some months. A year or more may as well be the vocabulary's P60M, which its own notes write for sixty minutes
/// and which reads as five years: no guess is made.
fn fixed_length(text: &str) -> Option<String> {
    let months: u32 = text.strip_prefix('P')?.strip_suffix('M')?.parse().ok()?;
    Some(format!("P{}D", months.checked_mul(30)?))
}

struct Linter<'a> {
    policy: &'a Policy,
    /// When the policy would take effect, if that is told.
    now: Option<UnixMillis>,
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
        for (at, old, current) in &model.deprecated {
            self.warn(&DEPRECATED_TERM, at, short(old), Some(short(current)));
        }
        for rule in &model.rules {
            self.rule(rule, false);
            if model.kind == Kind::Set && rule.kind == RuleKind::Permission && rule.target.is_none() {
                self.warn(&NO_TARGET, &rule.at, short(&rule.action), None);
            }
        }
        self.names();
        let constraints = crate::compare::constraint_count(model);
        if constraints > MAX_ANALYSED_CONSTRAINTS {
            self.warn(&NOT_ANALYSED, &start, format!("{constraints} constraints"), None);
            return;
        }
        self.overlap();
        self.analysis();
    }

    /// Duties are known by their names: one name is one duty.
    fn names(&mut self) {
        fn collect<'r>(rule: &'r Rule, found: &mut Vec<&'r Rule>) {
            found.extend((rule.kind == RuleKind::Duty).then_some(rule));
            rule.duties.iter().for_each(|duty| collect(duty, found));
        }
        let mut duties = Vec::new();
        self.policy.model().rules.iter().for_each(|rule| collect(rule, &mut duties));
        let mut named: std::collections::BTreeMap<&str, &Rule> = std::collections::BTreeMap::new();
        let mut shared = Vec::new();
        for duty in duties {
            let Some(uid) = duty.uid.as_deref() else { continue };
            let first = named.entry(uid).or_insert(duty);
            let same = (&first.action, &first.constraints, &first.refinements, &first.parties)
                == (&duty.action, &duty.constraints, &duty.refinements, &duty.parties);
            if !same {
                shared.push((duty.at.clone(), uid.to_owned()));
            }
        }
        for (at, uid) in shared {
            self.warn(&SHARED_NAME, &at, uid, None);
        }
    }

    /// Whether the duty is somebody's who is neither assigner nor assignee of the policy.
    fn is_strangers(&self, rule: &Rule) -> bool {
        let Some(party) = &rule.assignee else { return false };
        let model = self.policy.model();
        let permissions = || model.rules.iter().filter(|rule| rule.kind == RuleKind::Permission);
        let open = permissions().any(|rule| rule.assignee.as_ref().is_none_or(|party| party.collection));
        let parties = permissions().filter_map(|rule| rule.assignee.as_ref()).chain(rule.assigner.as_ref());
        !open
            && !party.collection
            && permissions().count() > 0
            && !parties.into_iter().any(|known| known.iri == party.iri)
    }

    fn rule(&mut self, rule: &Rule, below: bool) {
        if let Some(term) = rule.action.strip_prefix(crate::vocab::ODRL)
            && DEPRECATED_WITHOUT_MATCH.contains(&term)
        {
            self.warn(&DEPRECATED_TERM, &rule.at, short(&rule.action), None);
        }
        if let (RuleKind::Duty, Some(now)) = (rule.kind, self.now) {
            for deadline in crate::duty::deadlines(rule) {
                if let crate::duty::Deadline::At(at) = deadline
                    && at < now
                {
                    self.warn(&DEADLINE_PASSED, &rule.at, at.to_string(), None);
                }
            }
        }
        if rule.kind == RuleKind::Duty && self.is_strangers(rule) {
            self.warn(&NOBODY_PERFORMS, &rule.at, short(&rule.action), None);
        }
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
        let term = atom.operand.iri.strip_prefix(crate::vocab::ODRL).unwrap_or_default();
        if atom.unit.is_none() && WITH_UNIT.contains(&term) {
            self.warn(&UNIT_MISSING, &atom.at, short(&atom.operand.iri), None);
        }
        if atom.operator == Operator::IsAllOf && atom.rights.len() == 1 {
            self.warn(&SINGLE_ALL_OF, &atom.at, short(&atom.operand.iri), Some("isAnyOf".to_owned()));
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
        let tables = self.policy.tables();
        let of = |kind: RuleKind| model.rules.iter().filter(move |rule| rule.kind == kind);
        for prohibition in of(RuleKind::Prohibition) {
            let meets = of(RuleKind::Permission).take(MAX_ANALYSED).any(|permission| {
                let (Some(may), Some(must_not)) =
                    (tables.action(&permission.action), tables.action(&prohibition.action))
                else {
                    return false;
                };
                let common = tables.covered(may).and(tables.covered(must_not));
                !common.is_empty() && self.meet(permission, prohibition)
            });
            if meets {
                self.warn(
                    &VOIDING_CONFLICT,
                    &prohibition.at,
                    short(&prohibition.action),
                    Some("odrl:conflict prohibit".to_owned()),
                );
            }
        }
    }

    /// Whether one request can fall under both rules: the same dataset and party, and constraints that hold together.
    fn meet(&self, permission: &Rule, prohibition: &Rule) -> bool {
        let apart = |left: &Option<Thing>, right: &Option<Thing>| match (left, right) {
            (Some(left), Some(right)) => left.iri != right.iri && !left.collection && !right.collection,
            _ => false,
        };
        if apart(&permission.target, &prohibition.target)
            || apart(&permission.assignee, &prohibition.assignee)
        {
            return false;
        }
        let mut both = permission.clone();
        both.duties.clear();
        both.target = permission.target.clone().or_else(|| prohibition.target.clone());
        both.assignee = permission.assignee.clone().or_else(|| prohibition.assignee.clone());
        both.constraints.extend(prohibition.constraints.iter().cloned());
        both.refinements.extend(prohibition.refinements.iter().cloned());
        let alone = self.part(&[both]);
        alone.is_none_or(|alone| crate::compare::satisfiable(&alone) != crate::compare::Answer::No)
    }

    /// Permissions that no request satisfies, constraints without effect, rules that say nothing new.
    fn analysis(&mut self) {
        let model = self.policy.model();
        let prohibitions: Vec<Rule> =
            model.rules.iter().filter(|rule| rule.kind == RuleKind::Prohibition).cloned().collect();
        let permissions: Vec<&Rule> =
            model.rules.iter().filter(|rule| rule.kind == RuleKind::Permission).take(MAX_ANALYSED).collect();
        let mut redundant: Vec<usize> = Vec::new();
        for (index, rule) in permissions.iter().enumerate() {
            let Some(alone) = self.part(std::slice::from_ref(*rule)) else { continue };
            if crate::compare::satisfiable(&alone) == crate::compare::Answer::No {
                self.warn(&NEVER_HOLDS, &rule.at, short(&rule.action), None);
                continue;
            }
            if model.conflict == Some(Conflict::Prohibit) && !prohibitions.is_empty() {
                let with: Vec<Rule> =
                    std::iter::once((*rule).clone()).chain(prohibitions.iter().cloned()).collect();
                let left = self.part(&with);
                if left.is_some_and(|left| crate::compare::satisfiable(&left) == crate::compare::Answer::No) {
                    self.warn(&PROHIBITED_PERMISSION, &rule.at, short(&rule.action), None);
                }
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
