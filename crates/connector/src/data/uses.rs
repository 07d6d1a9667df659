//! Use sessions: the decision, the counter and the record are durable before the first byte is released.

use std::sync::{Arc, OnceLock};

use control_plane::ids::AgreementId;
use control_plane::status::HeldAgreement;
use control_plane::{Refusal, UnixMillis};
use data_plane::{SessionEnd, SessionId, UseGrant, UsePort, UseQuestion, UseReceipt, UseRequest};
use futures::FutureExt;
use futures::future::BoxFuture;
use identity::Typ;
use policy::{Facts, Policy, Source, Value};
use serde::Serialize;
use store::{Collection, Expect, Snapshot, Tx, crash_point};

use super::acts::{self, Standing};
use super::duties;
use super::events;
use super::holdings::{self, Holding};
use super::situation::{self, Situation};
use crate::driver::records;
use crate::driver::transfers::AGREEMENT_NOT_FOUND;
use crate::error::Error;
use crate::node::Node;
use crate::policies::facts_about;
use crate::restored;
use crate::telemetry::metrics;
use crate::trust;

control_plane::refusal_codes! {
    DUTY_OVERDUE = "use/duty-overdue", Policy,
        "a duty of this agreement is overdue, which closes its permission",
        "此協議有逾期未履行的義務，其許可因此關閉", "该协议有逾期未履行的义务，其许可因此关闭",
        clause "usage control: duties are rows with a state", next "`fairlead holdings show AGREEMENT` names the duty";
    RESTORED = "use/restored-backup", Unavailable,
        "this state was restored from a backup and its counts are not confirmed yet",
        "此狀態由備份還原，使用次數尚未獲確認", "此状态由备份恢复，使用次数尚未获确认",
        clause "foundations: a restored backup gives nothing back", next "let the connector reach the provider, which confirms what it knows";
}

/// The use that a person or program asks for, with what is known about it.
#[derive(Clone)]
struct Asked {
    held: HeldAgreement,
    holding: Holding,
    policy: Arc<Policy>,
    spent: u64,
    duties: Standing,
    events: Vec<(String, String)>,
}

/// Decides and accounts for one session.
pub struct SessionPort {
    node: Arc<Node>,
    /// What the session was granted on; the same facts, but for the time, decide while it lasts.
    granted: OnceLock<Asked>,
}

impl SessionPort {
    /// For one session.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, granted: OnceLock::new() }
    }

    async fn open_session(&self, question: UseQuestion) -> Result<UseGrant, Refusal> {
        let now = self.node.clock.trusted_now()?;
        let (node, request, session) =
            (self.node.clone(), question.request().clone(), question.session().clone());
        let opened = self.node.store.write(move |tx| {
            let asked = asked(&node, tx, &request.agreement, now)?;
            match decide(&node, &asked, &request, now) {
                Ok(until) => {
                    account(&node, tx, &asked, &request, &session, until, now)?;
                    Ok::<_, Error>(Ok((asked, until)))
                }
                // A refused use is recorded too; nothing is counted.
                Err(refusal) => {
                    record_refusal(tx, &request, &refusal, now)?;
                    Ok(Err(refusal))
                }
            }
        });
        let opened = opened.await.map_err(Error::into_refusal).and_then(|decided| decided);
        metrics::use_session(if opened.is_ok() { "granted" } else { "refused" });
        let (asked, until) = opened?;
        crash_point("use-counted");
        // `open` is called once for each session; a second value would be the same.
        drop(self.granted.set(asked));
        Ok(question.permit(until))
    }

    fn recheck_session(&self, question: UseQuestion) -> Result<UseGrant, Refusal> {
        let now = self.node.clock.trusted_now()?;
        let asked = self.granted.get().ok_or_else(|| Refusal::new(&AGREEMENT_NOT_FOUND, "no session"))?;
        let until = decide(&self.node, asked, question.request(), now)?;
        Ok(question.permit(until))
    }

    async fn close_session(&self, receipt: UseReceipt) -> Result<(), Refusal> {
        let payload = receipt_payload(&receipt)?;
        let signer = self.node.identity.signer();
        let signed = signer.sign(Typ::Receipt, &payload, receipt.closed, None).map_err(Error::from)?;
        let closed = self.node.store.write(move |tx| {
            let session = receipt.session.to_string();
            tx.put(Collection::Receipts, &session, signed.as_bytes(), Expect::Any)?;
            let end = match &receipt.end {
                SessionEnd::Closed => "closed",
                SessionEnd::Refused(refusal) => refusal.code.code,
            };
            let fields = [
                ("agreement", receipt.request.agreement.to_string()),
                ("session", session),
                ("bytes", receipt.bytes_released.to_string()),
                ("end", end.to_owned()),
            ];
            records::append_fields(tx, "use-closed", receipt.closed, fields)
        });
        closed.await.map_err(|error: Error| error.into_refusal())
    }
}

impl UsePort for SessionPort {
    fn open(&self, question: UseQuestion) -> BoxFuture<'_, Result<UseGrant, Refusal>> {
        self.open_session(question).boxed()
    }

    fn recheck(&self, question: UseQuestion) -> BoxFuture<'_, Result<UseGrant, Refusal>> {
        std::future::ready(self.recheck_session(question)).boxed()
    }

    fn closed(&self, receipt: UseReceipt) -> BoxFuture<'_, Result<(), Refusal>> {
        self.close_session(receipt).boxed()
    }
}

/// What is held and agreed, as the store has it.
fn asked(node: &Node, store: &Snapshot<'_>, id: &AgreementId, now: UnixMillis) -> Result<Asked, Error> {
    let held = records::found(records::agreement(store, id)?, &AGREEMENT_NOT_FOUND, id.as_str())?;
    held.status.require_active()?;
    trust::require_good_standing(store, &node.identity.trust(), held.signed.agreement().assigner())?;
    let holding = records::found(holdings::get(store, id)?, &holdings::NO_HOLDING, id.as_str())?;
    if holding.is_destroyed() {
        return Err(Refusal::new(&holdings::DESTROYED, id.as_str()).into());
    }
    let owed = acts::all_of(store, id)?;
    if let Some(duty) = owed.iter().find(|duty| duty.overdue_since.is_some() && duty.done_at.is_none()) {
        return Err(Refusal::new(&DUTY_OVERDUE, duty.kind.as_str()).into());
    }
    let duties = acts::standing(&owed, now)?;
    if let Some(consequence) = &duties.consequence {
        return Err(Refusal::new(&DUTY_OVERDUE, format!("{consequence}, as its consequence")).into());
    }
    let policy = node.policies.compiled(held.signed.agreement().text())?;
    let spent = store.counter(&holdings::uses_counter(id))?;
    if restored::is_closed(store, id)? {
        return Err(Refusal::new(&RESTORED, id.as_str()).into());
    }
    let events = events::running(store)?;
    Ok(Asked { held, holding, policy, spent, duties, events })
}

/// The policy's answer; `Some` instant at which it may change.
fn decide(
    node: &Node,
    asked: &Asked,
    request: &UseRequest,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, Refusal> {
    asked.held.status.require_active()?;
    let agreement = asked.held.signed.agreement();
    let facts = facts(node, asked, request, now);
    let question = policy::Request {
        action: &request.action,
        target: agreement.target().as_str(),
        assignee: node.us.as_str(),
        stage: policy::Stage::Use,
    };
    // A session lasts no longer than the period that was paid for when it began.
    if let Some(over) = asked.duties.until.filter(|until| now >= *until) {
        return Err(Refusal::new(&policy::DUTY_UNFULFILLED, format!("owed again since {over}")));
    }
    let decision = asked.policy.decide(&question, &facts);
    match decision.refusal() {
        Some(refusal) => Err(refusal),
        None => Ok(decision.valid_until.into_iter().chain(asked.duties.until).min()),
    }
}

fn facts(node: &Node, asked: &Asked, request: &UseRequest, now: UnixMillis) -> Facts {
    let agreement = asked.held.signed.agreement();
    let mut facts = facts_about(Some(&node.statement.load().statement), now)
        .uses_spent(asked.spent)
        .first_use(asked.holding.first_use().unwrap_or(now))
        .signed(agreement.timestamp());
    for (key, state) in &asked.duties.states {
        facts = facts.duty(key, *state);
    }
    if let Some(purpose) = &request.purpose {
        facts = facts.purpose(purpose);
    }
    if let Some(recipient) = &request.recipient {
        facts =
            facts.with(policy::vocab::operand::RECIPIENT, Value::symbol(recipient), Source::Asserted, now);
    }
    let config = node.config.load();
    let situation = Situation {
        policy: &asked.policy,
        user: user_id(&request.actor).and_then(|uid| config.users.iter().find(|user| user.uid == uid)),
        events: &asked.events,
        action: &request.action,
        unsealed: !asked.holding.unsealed.is_empty(),
    };
    situation::add(facts, &situation)
}

/// The number in what the socket says about its caller.
fn user_id(actor: &str) -> Option<u32> {
    actor.strip_prefix("uid ")?.parse().ok()
}

/// Counts the use, marks the first one, and records the grant, in the transaction that decided.
fn account(
    node: &Arc<Node>,
    tx: &Tx<'_>,
    asked: &Asked,
    request: &UseRequest,
    session: &SessionId,
    until: Option<UnixMillis>,
    now: UnixMillis,
) -> Result<(), Error> {
    // The policy has the ceiling, and this transaction decided by the counter's value.
    let _counted = tx.counter_add(&holdings::uses_counter(&request.agreement), 1, None)?;
    let mut holding = asked.holding.clone();
    if request.action == policy::vocab::action::EXPORT {
        // What leaves our reach is on record before the first byte does.
        holding.unsealed.push(format!("{now} session {session}"));
    }
    if holding.first_use.is_none() {
        holding.first_use = Some(now.to_string());
        duties::plan(node, tx, &asked.held, &holding, now)?;
    }
    if holding != asked.holding {
        holdings::put(tx, &holding)?;
    }
    let mut fields = request_fields(request);
    fields.push(("session", session.to_string()));
    fields.push(("use", asked.spent.saturating_add(1).to_string()));
    if let Some(until) = until {
        fields.push(("validUntil", until.to_string()));
    }
    records::append_fields(tx, "use-opened", now, fields)?;
    duties::with_use(node, tx, &asked.policy, &holding.assigner, request, session, now)
}

fn record_refusal(
    tx: &Tx<'_>,
    request: &UseRequest,
    refusal: &Refusal,
    now: UnixMillis,
) -> Result<(), Error> {
    let mut fields = request_fields(request);
    fields.push(("code", refusal.code.code.to_owned()));
    records::append_fields(tx, "use-refused", now, fields)
}

fn request_fields(request: &UseRequest) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("agreement", request.agreement.to_string()),
        ("actor", request.actor.clone()),
        ("action", request.action.clone()),
    ];
    if let Some(purpose) = &request.purpose {
        fields.push(("purpose", purpose.clone()));
    }
    if let Some(recipient) = &request.recipient {
        fields.push(("recipient", recipient.clone()));
    }
    fields
}

/// The signed receipt of a session; the durable form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptJson<'a> {
    version: u32,
    session: &'a str,
    agreement: &'a str,
    actor: &'a str,
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<&'a str>,
    objects: Vec<ReceiptObject>,
    bytes: String,
    opened: String,
    closed: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptObject {
    object: String,
    digest: String,
    bytes: String,
}

fn receipt_payload(receipt: &UseReceipt) -> Result<Vec<u8>, Error> {
    let json = ReceiptJson {
        version: 1,
        session: receipt.session.as_str(),
        agreement: receipt.request.agreement.as_str(),
        actor: &receipt.request.actor,
        action: &receipt.request.action,
        purpose: receipt.request.purpose.as_deref(),
        objects: receipt
            .objects
            .iter()
            .map(|object| ReceiptObject {
                object: object.object.to_string(),
                digest: object.digest.to_string(),
                bytes: object.bytes_released.to_string(),
            })
            .collect(),
        bytes: receipt.bytes_released.to_string(),
        opened: receipt.opened.to_string(),
        closed: receipt.closed.to_string(),
    };
    serde_jcs::to_vec(&json).map_err(Error::ours)
}

/// What a use would be answered now, without using.
pub async fn explain(
    node: &Arc<Node>,
    request: UseRequest,
    language: policy::Lang,
) -> Result<policy::Explanation, Error> {
    let now = node.clock.trusted_now()?;
    let worker = node.clone();
    node.store
        .read(move |store| {
            let asked = asked(&worker, store, &request.agreement, now)?;
            let facts = facts(&worker, &asked, &request, now);
            let question = policy::Request {
                action: &request.action,
                target: &asked.holding.dataset,
                assignee: worker.us.as_str(),
                stage: policy::Stage::Use,
            };
            Ok(asked.policy.explain(&question, &facts, language))
        })
        .await
}

/// Uses left under a policy that counts: how often the answer would still not be "spent". `None` where it does not
/// count.
pub fn uses_left(policy: &Policy, spent: u64, now: UnixMillis) -> Option<u64> {
    let target = policy.target()?;
    let assignee = policy.assignee()?;
    let is_spent = |spent: u64| {
        let facts = Facts::at(now).uses_spent(spent);
        let request = policy::Request {
            action: policy::vocab::action::USE,
            target,
            assignee,
            stage: policy::Stage::Transfer,
        };
        policy.decide(&request, &facts).code == Some(&policy::COUNT_SPENT)
    };
    /// No policy counts to a billion; one that would is as good as not counting.
    const BEYOND: u64 = 1 << 30;
    if !is_spent(BEYOND) {
        return None;
    }
    let (mut left, mut right) = (0, BEYOND);
    while left < right {
        let middle = left + (right - left) / 2;
        if is_spent(spent.saturating_add(middle)) { right = middle } else { left = middle + 1 }
    }
    Some(left)
}
