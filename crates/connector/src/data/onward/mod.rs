//! Onward sharing: what is held under an agreement is offered to others, as far as the agreement permits `distribute`,
//! on terms that are proven at least as strict, and for no longer than the agreement lasts.
//!
//! Nothing is remembered besides the dataset's row, which names the agreement: whether it may be passed on is decided
//! from the agreement each time ([`standing`]), and [`follow`] brings what lies below into line with the answer.

pub mod follow;
pub mod offer;
pub mod serve;

use control_plane::ids::{AgreementId, DatasetId};
use control_plane::status::{AgreementStatus, HeldAgreement};
use control_plane::{Refusal, UnixMillis};
use data_plane::UseRequest;
use policy::vocab::action;
use policy::{Decision, Facts, Policy, Request, Stage};
use store::Snapshot;

use super::holdings::{self, Holding};
use super::{acts, transforms, uses};
use crate::catalogue;
use crate::driver::records;
use crate::driver::transfers::AGREEMENT_NOT_FOUND;
use crate::enforceable;
use crate::error::Error;
use crate::node::Node;
use crate::policies::facts_about;
use crate::{restored, trust};

control_plane::refusal_codes! {
    NOT_CONSUMER = "onward/not-consumer", Input,
        "we are not the consumer of this agreement", "我方並非此協議的使用方", "我方并非此协议的使用方",
        clause "usage control: onward sharing", next "name an agreement under which a copy is held: `fairlead holdings list`";
    NOT_DISTRIBUTABLE = "onward/not-distributable", Policy,
        "the agreement does not permit us to pass its data on", "此協議不許可我方轉供其資料", "此协议不许可我方转供其数据",
        clause "ODRL 2.2 Vocabulary, distribute", next "negotiate an agreement with a permission that names `distribute`";
    LEASED = "onward/leased-source", Policy,
        "data whose keys are leased is not passed on", "金鑰以租約取得的資料不得轉供", "密钥以租约取得的数据不得转供",
        clause "fl:keyLease", next "refer the other participant to the provider, which leases the keys itself";
    LAXER = "onward/laxer-offer", Policy,
        "the offer is not proven at least as strict as the agreement that the data is held under",
        "無法證明該要約至少與所持資料的協議同樣嚴格", "无法证明该要约至少与所持数据的协议同样严格",
        clause "usage control: policy travels", next "repeat the agreement's constraints and duties in the offer; `fairlead policy compare` shows what differs";
    LAXER_THAN_NEXT = "onward/laxer-than-next-policy", Policy,
        "the offer is not proven at least as strict as the policy that the agreement wants passed on",
        "無法證明該要約至少與協議要求附帶的政策同樣嚴格", "无法证明该要约至少与协议要求附带的策略同样严格",
        clause "ODRL 2.2 Vocabulary, nextPolicy", next "offer the data on under that policy, or a stricter one";
    NEXT_UNKNOWN = "onward/next-policy-unknown", Policy,
        "the policy that the agreement wants passed on is not among the offers that the provider publishes this dataset with",
        "協議要求附帶的政策不在提供方就此資料集發布的要約之中", "协议要求附带的策略不在提供方就此数据集发布的要约之中",
        clause "ODRL 2.2 Vocabulary, nextPolicy", next "ask the provider to publish the dataset with an offer of that identifier";
    OTHER_SOURCE = "onward/other-source", State,
        "a dataset that passes a held copy on keeps its source, and no other dataset gets one",
        "轉供所持副本的資料集不得更換來源，其他資料集亦不得改以此為來源", "转供所持副本的数据集不得更换来源，其他数据集亦不得改以此为来源",
        clause "usage control: lineage", next "publish under another identifier: agreements on the old one rest on the old source";
    CHANGED = "onward/changed-copy", Input,
        "a held copy is passed on as it is", "所持副本只可原樣轉供", "所持副本只可原样转供",
        clause "usage control: onward sharing", next "publish without `--transform`";
    PURPOSE = "onward/purpose", Input,
        "a purpose is stated only for a held copy that is passed on", "僅就轉供所持副本方可陳述用途", "仅就转供所持副本方可陈述用途",
        clause "usage control: onward sharing", next "leave `--purpose` out, or publish with `--source holding:AGREEMENT`";
    BUSY = "onward/busy", Unavailable,
        "all use sessions of this connector are taken", "此連接器的使用會話已全部佔用", "此连接器的使用会话已全部占用",
        clause "limits.use_sessions", next "nothing: the pull is tried again by itself";
    SOURCE_SUSPENDED = "onward/source-suspended", Policy,
        "the agreement that this dataset rests on does not permit passing it on at present",
        "此資料集所依據的協議目前不許可轉供", "此数据集所依据的协议目前不许可转供",
        clause "usage control: revocation reaches the end of the chain", next "wait until the agreement above permits it again";
    SOURCE_ENDED = "onward/source-ended", Policy,
        "the agreement that this dataset rests on has ended", "此資料集所依據的協議已終止", "此数据集所依据的协议已终止",
        clause "usage control: revocation reaches the end of the chain", next "negotiate with the dataset's origin";
    OTHER_TERMS = "onward/other-terms", Policy,
        "data that is passed on is agreed only on terms that were published, or proven at least as strict",
        "轉供的資料只可按已發布或經證明至少同樣嚴格的條款達成協議", "转供的数据只可按已发布或经证明至少同样严格的条款达成协议",
        clause "usage control: policy travels", next "publish the dataset with an offer of these terms";
    WITHOUT_NEXT = "onward/without-next-policy", Policy,
        "the data may be passed on only together with its next policy, which a use by a person or program cannot do",
        "資料只可連同其下一政策轉供，個人或程式的使用無法做到", "数据只可连同其下一策略转供，个人或程序的使用无法做到",
        clause "ODRL 2.2 Vocabulary, nextPolicy", next "`fairlead dataset publish … --source holding:AGREEMENT` passes it on with its policy";
}

/// How the source of such a dataset begins; the agreement follows.
pub const SCHEME: &str = "holding:";

/// What the actor of a use begins with through which data is passed on; what the sockets say of their callers begins
/// otherwise.
const ACTOR: &str = "onward under ";

/// Whether what is held under an agreement may be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Open,
    /// Not now, and perhaps again.
    Paused(Refusal),
    /// Never again.
    Ended(Refusal),
}

/// Whether what is held under an agreement of ours may be passed on at `now`. How often it was used is asked with each
/// use: a count that is spent ends nothing that was passed on before.
pub fn standing(
    node: &Node,
    store: &Snapshot<'_>,
    id: &AgreementId,
    now: UnixMillis,
) -> Result<Standing, Error> {
    let Some(held) = records::agreement(store, id)? else {
        return Ok(Standing::Ended(Refusal::new(&AGREEMENT_NOT_FOUND, id.as_str())));
    };
    if let Err(refusal) = held.status.require_active() {
        return Ok(match held.status {
            AgreementStatus::Active | AgreementStatus::Suspended(_) => Standing::Paused(refusal),
            AgreementStatus::Revoked { .. } | AgreementStatus::Expired { .. } => Standing::Ended(refusal),
        });
    }
    let Some(holding) = holdings::get(store, id)? else {
        return Ok(Standing::Paused(Refusal::new(&holdings::NO_HOLDING, id.as_str())));
    };
    if holding.is_destroyed() {
        return Ok(Standing::Ended(Refusal::new(&holdings::DESTROYED, id.as_str())));
    }
    match trust::require_good_standing(store, &node.identity.trust(), held.signed.agreement().assigner()) {
        Ok(()) => {}
        Err(Error::Refused(refusal)) => return Ok(Standing::Paused(refusal)),
        Err(failed) => return Err(failed),
    }
    if restored::is_closed(store, id)? {
        return Ok(Standing::Paused(Refusal::new(&uses::RESTORED, id.as_str())));
    }
    let policy = node.policies.compiled(held.signed.agreement().text())?;
    let facts = facts(node, store, &held, &holding, &policy, now)?;
    let overdue = acts::all_of(store, id)?;
    if let Some(duty) = overdue.iter().find(|duty| duty.overdue_since.is_some() && duty.done_at.is_none()) {
        return Ok(Standing::Paused(Refusal::new(&uses::DUTY_OVERDUE, duty.kind.as_str())));
    }
    let decision = decide_to_distribute(&policy, &held, &facts);
    Ok(match decision.refusal() {
        None => Standing::Open,
        Some(refusal) if over_for_good(&decision) => Standing::Ended(refusal),
        Some(refusal) => Standing::Paused(refusal),
    })
}

/// Whether time was what permitted it, and no later time will.
fn over_for_good(decision: &Decision<'_>) -> bool {
    decision.code == Some(&policy::OUTSIDE_TIME) && decision.valid_until.is_none()
}

/// Only a permission that names `distribute` lets data be passed on: whoever writes `use` has not thought of others.
fn decide_to_distribute<'p>(policy: &'p Policy, held: &HeldAgreement, facts: &Facts) -> Decision<'p> {
    let agreement = held.signed.agreement();
    let request = Request {
        action: action::DISTRIBUTE,
        target: agreement.target().as_str(),
        assignee: agreement.assignee().as_str(),
        stage: Stage::Transfer,
    };
    policy.decide_named(&request, facts)
}

/// What is known apart from any one use, and as if none had been made.
fn facts(
    node: &Node,
    store: &Snapshot<'_>,
    held: &HeldAgreement,
    holding: &Holding,
    policy: &Policy,
    now: UnixMillis,
) -> Result<Facts, Error> {
    let agreement = held.signed.agreement();
    let transform = match transforms::demands(policy) {
        true => holdings::manifest(store, agreement.id())?.and_then(|manifest| manifest.transform().cloned()),
        false => None,
    };
    let facts = facts_about(Some(&node.statement.load().statement), now);
    let facts = transforms::fulfilled(policy, transform.as_ref(), facts)
        .uses_spent(0)
        .first_use(holding.first_use().unwrap_or(now))
        .signed(agreement.timestamp());
    let duties = acts::standing(&acts::all_of(store, agreement.id())?, now)?;
    Ok(duties.states.iter().fold(facts, |facts, (key, state)| facts.duty(key, *state)))
}

/// The decision about a use: one that passes data on needs a permission that names it.
///
/// # Errors
/// [`WITHOUT_NEXT`] for a use by a person or program that would pass data on which must take its next policy along.
pub fn decide<'p>(
    policy: &'p Policy,
    request: &UseRequest,
    question: &Request<'_>,
    facts: &Facts,
) -> Result<Decision<'p>, Refusal> {
    if request.actor.starts_with(ACTOR) {
        return Ok(policy.decide_named(question, facts));
    }
    let passes_on = request.action == action::DISTRIBUTE;
    match policy.duties().iter().find(|duty| duty.action == action::NEXT_POLICY) {
        Some(duty) if passes_on => {
            Err(Refusal::new(&WITHOUT_NEXT, format!("`nextPolicy` in clause {}", duty.clause)))
        }
        Some(_) | None => Ok(policy.decide(question, facts)),
    }
}

/// The agreement that a dataset of ours rests on, if it passes a held copy on.
pub fn source_of(store: &Snapshot<'_>, dataset: &DatasetId) -> Result<Option<AgreementId>, Error> {
    match catalogue::source(store, dataset)?.as_deref().and_then(|source| source.strip_prefix(SCHEME)) {
        Some(agreement) => Ok(Some(AgreementId::parse(agreement)?)),
        None => Ok(None),
    }
}

/// Refuses what is new on a dataset that passes a held copy on, unless that is permitted now.
pub fn require_open(
    node: &Node,
    store: &Snapshot<'_>,
    dataset: &DatasetId,
    now: UnixMillis,
) -> Result<(), Error> {
    let Some(source) = source_of(store, dataset)? else { return Ok(()) };
    let because = |refusal: &Refusal| format!("`{source}`: {}", refusal.code.code);
    match standing(node, store, &source, now)? {
        Standing::Open => Ok(()),
        Standing::Paused(refusal) => Err(Refusal::new(&SOURCE_SUSPENDED, because(&refusal)).into()),
        Standing::Ended(refusal) => Err(Refusal::new(&SOURCE_ENDED, because(&refusal)).into()),
    }
}

/// Refuses terms that neither are one of the `published` offers nor were `proven` at least as strict: what a person accepts
/// is not enough where the terms of others are passed on.
pub fn require_terms(
    store: &Snapshot<'_>,
    dataset: &DatasetId,
    terms: &Policy,
    published: &[std::sync::Arc<Policy>],
    proven: bool,
) -> Result<(), Error> {
    if proven || source_of(store, dataset)?.is_none() {
        return Ok(());
    }
    match published.iter().any(|offer| terms.terms_equal(offer)) {
        true => Ok(()),
        false => Err(Refusal::new(&OTHER_TERMS, terms.uid()).into()),
    }
}

/// The policies that whoever passes this data on must pass on with it.
fn next_policies(policy: &Policy) -> impl Iterator<Item = &str> {
    policy.duties().iter().filter_map(|duty| enforceable::next_policy(policy, duty))
}
