//! The decision: three-valued, closed, without allocation; rules are put together by set algebra over actions.

use crate::evaluate::{Context, Truth, both};
use crate::facts::{DutyState, Facts, Request};
use crate::ir::{ACTION_BIT, DUTY_BIT};
use crate::model::{Conflict, Kind};
use crate::policy::Policy;
use crate::profile::Stage;
use crate::refusal::Code;
use crate::tables::ActionSet;
use crate::time::UnixMillis;

crate::refusal_codes! {
    NO_PERMISSION = "policy/no-permission", Policy,
        "no permission covers this participant, dataset and action", "沒有任何許可涵蓋此參與者、資料集和動作", "没有任何许可涵盖该参与者、数据集和动作",
        clause "ODRL 2.2 Information Model, 2.6.1", next "negotiate an agreement that permits it";
    ACTION_NOT_PERMITTED = "policy/action-not-permitted", Policy,
        "the policy permits other actions, but not this one", "政策許可其他動作，但不許可此動作", "策略许可其他动作，但不许可此动作",
        clause "ODRL 2.2 Information Model, 2.4", next "use an action that the policy permits";
    PROHIBITED = "policy/prohibited", Policy,
        "a prohibition applies", "有禁止規則適用", "有禁止规则适用",
        clause "ODRL 2.2 Information Model, 2.6.2", next "read the explanation for what the prohibition covers";
    VOID = "policy/void", Policy,
        "a permission and a prohibition both apply, which voids the policy", "許可與禁止同時適用，政策因此無效", "许可与禁止同时适用，策略因此无效",
        clause "ODRL 2.2 Information Model, 2.9", next "ask the assigner to resolve the conflict";
    OUTSIDE_TIME = "policy/outside-time", Policy,
        "the time of use lies outside what is permitted", "使用時間不在許可範圍內", "使用时间不在许可范围内",
        clause "ODRL 2.2 Vocabulary, dateTime and elapsedTime", next "wait until the permission begins, or negotiate a longer one";
    COUNT_SPENT = "policy/count-spent", Policy,
        "all permitted uses are spent", "許可的使用次數已用完", "许可的使用次数已用完",
        clause "ODRL 2.2 Vocabulary, count", next "negotiate further uses";
    PURPOSE_NOT_PERMITTED = "policy/purpose-not-permitted", Policy,
        "the stated purpose is not permitted", "所述用途不獲許可", "所述用途不获许可",
        clause "ODRL 2.2 Vocabulary, purpose", next "state a permitted purpose, if it is truly yours";
    PLACE_NOT_PERMITTED = "policy/place-not-permitted", Policy,
        "use is not permitted in this place", "不許可在此地使用", "不许可在此地使用",
        clause "ODRL 2.2 Vocabulary, spatial", next "use the data where the policy permits it";
    PARTY_NOT_PERMITTED = "policy/party-not-permitted", Policy,
        "the policy does not permit this participant or recipient", "政策不許可此參與者或接收方", "策略不许可该参与者或接收方",
        clause "ODRL 2.2 Information Model, 2.3", next "ask the assigner for an agreement of your own";
    CONSTRAINT_UNMET = "policy/constraint-unmet", Policy,
        "a constraint of the permission is not met", "許可的限制條件未獲滿足", "许可的限制条件未获满足",
        clause "ODRL 2.2 Information Model, 2.5", next "read the explanation for what would meet it";
    DUTY_UNFULFILLED = "policy/duty-unfulfilled", Policy,
        "a duty that comes before use is not fulfilled", "使用前須履行的義務尚未履行", "使用前须履行的义务尚未履行",
        clause "ODRL 2.2 Information Model, 2.6.3", next "fulfil the duty first";
    FACT_MISSING = "policy/fact-missing", Policy,
        "a fact that the decision needs is not known", "缺少作決定所需的事實", "缺少作出决定所需的事实",
        clause "policy: unknown is not permitted", next "provide the fact from a source that the policy accepts";
    FACT_UNTRUSTED = "policy/fact-untrusted", Policy,
        "a fact comes from a source weaker than the policy accepts", "事實來源的可信程度低於政策要求", "事实来源的可信程度低于策略要求",
        clause "policy: sources of facts", next "provide the fact from a stronger source";
    NOT_COMPARABLE = "policy/not-comparable", Policy,
        "a fact cannot be compared with what the policy states", "事實無法與政策所述比較", "事实无法与策略所述比较",
        clause "policy: unknown is not permitted", next "use the policy's unit, zone or kind of value";
    NOT_ENFORCED = "policy/not-enforced", Policy,
        "only sets and agreements are enforced; this is a proposal", "只有集合和協議會被執行；這只是提議", "只有集合和协议会被执行；这只是提议",
        clause "ODRL Formal Semantics: offers", next "conclude an agreement";
    REPLACED = "policy/replaced", Policy,
        "the policy was replaced by another one", "政策已被另一政策取代", "策略已被另一策略取代",
        clause "ODRL 2.2 Information Model, 2.1", next "use the policy that replaced it";
}

/// What a decision says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Permitted (before use: as far as can be known at this stage, see [`Decision::deferred`]).
    Permit,
    /// Not permitted, whatever else is learnt.
    Deny,
    /// Not permitted as things are known; a further fact might change it.
    Unknown,
}

/// The result of [`Policy::decide`]: small, copyable, borrowing the policy for names.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'p> {
    /// Permit, deny or unknown. Only `Permit` allows anything.
    pub outcome: Outcome,
    /// Why not; `None` for a permit.
    pub code: Option<&'static Code>,
    /// The first instant at which this answer may no longer hold; `None` if time alone never changes it.
    pub valid_until: Option<UnixMillis>,
    pub(crate) policy: &'p Policy,
    pub(crate) rule: Option<usize>,
    pub(crate) deferred: u64,
    pub(crate) missing: u64,
    pub(crate) read: u64,
    pub(crate) duties: u128,
}

impl<'p> Decision<'p> {
    /// Whether the action may be done.
    pub fn is_permit(&self) -> bool {
        self.outcome == Outcome::Permit
    }

    /// The number (from 1, as in the rendered clauses) of the rule that decided: the permission that permits, or the
    /// prohibition or failing permission that does not.
    pub fn rule(&self) -> Option<usize> {
        self.rule.map(|index| index + 1)
    }

    /// The identifier of that rule, if it has one.
    pub fn rule_uid(&self) -> Option<&'p str> {
        self.policy.model().rules.get(self.rule?)?.uid.as_deref()
    }

    /// Operands (or `odrl:action`, `odrl:duty`) that the deciding rules still wait for at this stage.
    pub fn deferred(&self) -> impl Iterator<Item = &'p str> + use<'p> {
        names(self.policy, self.deferred)
    }

    /// Operands whose facts were missing, untrusted or not comparable.
    pub fn missing(&self) -> impl Iterator<Item = &'p str> + use<'p> {
        names(self.policy, self.missing)
    }

    /// Operands whose facts the answer rests on: if one of them changes, ask again.
    pub fn facts_read(&self) -> impl Iterator<Item = &'p str> + use<'p> {
        names(self.policy, self.read)
    }

    /// The duties owed because of this permit: those of the deciding permission and the policy's obligations.
    pub fn duties(&self) -> impl Iterator<Item = &'p crate::duty::Duty> + use<'p> {
        let mask = self.duties;
        self.policy
            .duties()
            .iter()
            .enumerate()
            .filter(move |(index, _)| mask >> index & 1 == 1)
            .map(|(_, duty)| duty)
    }

    /// The refusal of anything but a permit.
    pub fn refusal(&self) -> Option<crate::refusal::Refusal> {
        let code = self.code?;
        let mut detail = match (self.rule_uid(), self.rule()) {
            (Some(uid), _) => format!("rule `{uid}`"),
            (None, Some(number)) => format!("rule {number}"),
            (None, None) => format!("policy `{}`", self.policy.uid()),
        };
        let missing: Vec<String> = self.missing().map(crate::vocab::short).collect();
        if !missing.is_empty() {
            detail.push_str(&format!(", facts needed: {}", missing.join(", ")));
        }
        Some(crate::refusal::Refusal::new(code, detail))
    }
}

fn names(policy: &Policy, mask: u64) -> impl Iterator<Item = &str> {
    let slots = policy.program().slots.iter().enumerate();
    let operands =
        slots.filter(move |(index, _)| mask >> index & 1 == 1).map(|(_, slot)| slot.symbol.as_str());
    let action = (mask & ACTION_BIT != 0).then_some("http://www.w3.org/ns/odrl/2/action");
    let duty = (mask & DUTY_BIT != 0).then_some("http://www.w3.org/ns/odrl/2/duty");
    operands.chain(action).chain(duty)
}

/// What all rules together say, before it becomes a decision.
#[derive(Default)]
struct Tally {
    permitted: ActionSet,
    maybe_permitted: ActionSet,
    forbidden: ActionSet,
    maybe_forbidden: ActionSet,
    /// Actions that a permitted one implies: no prohibition reaches them.
    shielded: ActionSet,
    /// The permission that permits, or else the one that came nearest.
    permission: Option<usize>,
    permission_truth: Option<Truth>,
    permission_reason: Option<&'static Code>,
    permission_duties: std::ops::Range<u32>,
    prohibition: Option<usize>,
    doubtful_prohibition: Option<(usize, Option<&'static Code>, u64)>,
    deferred: u64,
    unknown: u64,
    other_action: bool,
}

/// Which permissions count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    /// All that cover the action, a broader one included.
    Covering,
    /// Those for the action itself, or for one included in it.
    Naming,
}

pub(crate) fn decide<'p>(
    policy: &'p Policy,
    request: &Request<'_>,
    facts: &Facts,
    counting: Counting,
) -> Decision<'p> {
    let fixed = |code: &'static Code| Decision {
        outcome: Outcome::Deny,
        code: Some(code),
        valid_until: None,
        policy,
        rule: None,
        deferred: 0,
        missing: 0,
        read: 0,
        duties: 0,
    };
    let model = policy.model();
    if !model.replaced_by.is_empty() {
        return fixed(&REPLACED);
    }
    let enforced = matches!(model.kind, Kind::Set | Kind::Agreement | Kind::Privacy | Kind::Ticket);
    if !enforced && request.stage >= Stage::Transfer {
        return fixed(&NOT_ENFORCED);
    }
    let tables = policy.tables();
    let Some(action) = tables.action(request.action) else { return fixed(&crate::problem::UNKNOWN_ACTION) };
    let universe = if request.stage == Stage::Use {
        let mut one = ActionSet::default();
        one.insert(action);
        one
    } else {
        tables.covered(action)
    };
    let mut context = Context::new(policy, request, facts);
    let mut tally = Tally::default();
    let named = (counting == Counting::Naming).then(|| tables.covered(action));
    permissions(&mut context, universe, named, &mut tally);
    prohibitions(&mut context, universe, action, tables.covered(action), &mut tally);
    conclude(policy, request, &mut context, tally)
}

fn permissions(context: &mut Context<'_>, universe: ActionSet, named: Option<ActionSet>, tally: &mut Tally) {
    let program = context.program;
    for rule in &program.permissions {
        if named.is_some_and(|named| !named.contains(rule.action)) {
            tally.other_action = true;
            continue;
        }
        let actions = rule.covered.and(universe);
        let mut truth = context.rule(rule);
        if truth == Truth::False && context.reason.is_none() {
            // Another dataset: as if the rule were not there.
            continue;
        }
        if truth != Truth::False {
            truth = both(truth, context.preconditions(rule));
        }
        if truth == Truth::True {
            tally.shielded = tally.shielded.or(context.implied(rule.action));
        }
        if actions.is_empty() {
            tally.other_action |= truth != Truth::False;
            continue;
        }
        match truth {
            Truth::True | Truth::Deferred => {
                tally.permitted = tally.permitted.or(actions);
                tally.deferred |= context.deferred;
            }
            Truth::Unknown => {
                tally.maybe_permitted = tally.maybe_permitted.or(actions);
                tally.unknown |= context.unknown;
            }
            Truth::False => {}
        }
        if tally.permission_truth.is_none_or(|best| truth > best) {
            tally.permission = Some(rule.source);
            tally.permission_truth = Some(truth);
            tally.permission_reason = context.reason;
            tally.permission_duties = rule.duties.clone();
        }
    }
}

fn prohibitions(
    context: &mut Context<'_>,
    universe: ActionSet,
    action: usize,
    below: ActionSet,
    tally: &mut Tally,
) {
    let program = context.program;
    for rule in &program.prohibitions {
        let mut actions = rule.covered.and(universe);
        // Asking for a broad action includes the narrower one that is prohibited.
        if context.request.stage == Stage::Use && below.contains(rule.action) {
            actions.insert(action);
        }
        if actions.is_empty() {
            continue;
        }
        match context.rule(rule) {
            Truth::True => {
                tally.forbidden = tally.forbidden.or(actions);
                tally.prohibition.get_or_insert(rule.source);
            }
            Truth::Unknown => {
                tally.maybe_forbidden = tally.maybe_forbidden.or(actions);
                tally.doubtful_prohibition.get_or_insert((rule.source, context.reason, context.unknown));
            }
            Truth::Deferred => tally.deferred |= context.deferred,
            Truth::False => {}
        }
    }
}

fn conclude<'p>(
    policy: &'p Policy,
    request: &Request<'_>,
    context: &mut Context<'_>,
    tally: Tally,
) -> Decision<'p> {
    let conflict = policy.model().conflict.unwrap_or(Conflict::Invalid);
    let permissions_win = conflict == Conflict::Perm;
    let (forbidden, doubtful) = if permissions_win {
        (ActionSet::default(), ActionSet::default())
    } else {
        (tally.forbidden.without(tally.shielded), tally.maybe_forbidden.without(tally.shielded))
    };
    let left = tally.permitted.without(forbidden);
    let sure = left.without(doubtful);
    let maybe = tally.maybe_permitted.without(forbidden);
    let mut decision = Decision {
        outcome: Outcome::Permit,
        code: None,
        valid_until: (context.valid_until < i64::MAX).then_some(UnixMillis(context.valid_until)),
        policy,
        rule: tally.permission,
        deferred: 0,
        missing: 0,
        read: context.read,
        duties: 0,
    };
    if !sure.is_empty() {
        decision.deferred = tally.deferred;
        if request.stage < Stage::Use {
            decision.deferred |= ACTION_BIT;
        }
        decision.duties = owed(context, tally.permission_duties);
        return decision;
    }
    if !left.is_empty() || !maybe.is_empty() {
        decision.outcome = Outcome::Unknown;
        let (rule, code, missing) = match tally.doubtful_prohibition {
            Some((rule, code, missing)) if !left.is_empty() => (Some(rule), code, missing),
            _ => (tally.permission, tally.permission_reason, tally.unknown),
        };
        (decision.rule, decision.missing) = (rule, missing);
        decision.code = Some(code.unwrap_or(&FACT_MISSING));
        return decision;
    }
    decision.outcome = Outcome::Deny;
    let permitted_but_for_prohibition = !tally.permitted.is_empty();
    decision.code = Some(match (tally.prohibition, permitted_but_for_prohibition) {
        (Some(rule), permitted) if !permissions_win => {
            decision.rule = Some(rule);
            if permitted && conflict == Conflict::Invalid { &VOID } else { &PROHIBITED }
        }
        _ => match tally.permission_reason {
            Some(reason) => reason,
            None if tally.other_action => &ACTION_NOT_PERMITTED,
            None => &NO_PERMISSION,
        },
    });
    decision
}

/// The duties that are not known to be done and whose constraints do not rule them out.
fn owed(context: &mut Context<'_>, of_permission: std::ops::Range<u32>) -> u128 {
    let program = context.program;
    let (read, valid_until) = (context.read, context.valid_until);
    let mut mask = 0_u128;
    for index in program.obligations.clone().chain(of_permission) {
        let Some(duty) = program.duties.get(index as usize) else { continue };
        let done = context.facts.duties.get(&*duty.key) == Some(&DutyState::Fulfilled);
        if !done && context.all(duty.conditions.clone()) != Truth::False {
            mask |= 1_u128 << index.min(127);
        }
    }
    // Which duties are owed does not change whether the action is permitted.
    (context.read, context.valid_until) = (read, valid_until);
    mask
}
