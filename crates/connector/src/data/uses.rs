//! Use sessions: the decision, the counter and the record are durable before the first byte is released.

use std::sync::{Arc, OnceLock};

use control_plane::ids::AgreementId;
use control_plane::status::HeldAgreement;
use control_plane::{Refusal, UnixMillis};
use data_plane::{
    AgreementKey, ObjectRecord, SessionEnd, SessionId, TransformMark, UseGrant, UsePort, UseQuestion,
    UseReceipt, UseRequest,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use identity::Typ;
use policy::{Facts, Policy, Source, Value};
use serde::Serialize;
use store::{Collection, Expect, Snapshot, Tx, crash_point};

use super::acts::{self, Standing};
use super::holdings::{self, Holding};
use super::lease_provider::SessionUse;
use super::leases::{self, NoLease};
use super::situation::{self, Situation};
use super::{duties, events, sessions, transforms};
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
    /// Whether the provider shares the keys.
    leased: bool,
    /// What the provider did to the data before it left.
    transform: Option<TransformMark>,
    duties: Standing,
    events: Vec<(String, String)>,
}

/// Decides and accounts for one session.
pub struct SessionPort {
    node: Arc<Node>,
    /// Objects that the session is to begin with: under a lease their shares come with the first request.
    objects: Vec<u32>,
    /// What the session was granted on; the same facts, but for time and lease, decide while it lasts.
    granted: OnceLock<(Asked, SessionUse)>,
}

impl Drop for SessionPort {
    /// A session that was dropped without being closed keeps no lease alive.
    fn drop(&mut self) {
        if let Some((asked, of)) = self.granted.get() {
            leases::release(&self.node, &asked.held, &of.session);
        }
    }
}

impl SessionPort {
    /// For one session.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, objects: Vec::new(), granted: OnceLock::new() }
    }

    /// The session begins with these objects.
    #[must_use]
    pub fn beginning_with(mut self, objects: &[&ObjectRecord]) -> Self {
        self.objects = objects.iter().filter_map(|record| holdings::object_index(record.object())).collect();
        self
    }

    /// Row and key to open an object with in this session: as they are, or under a lease with the provider's share.
    pub async fn unlock(
        &self,
        record: ObjectRecord,
        key: AgreementKey,
    ) -> Result<(ObjectRecord, AgreementKey), Error> {
        match self.granted.get() {
            Some((asked, of)) if asked.leased => {
                leases::unlock(&self.node, &asked.held, of, &record, &key).await
            }
            _ => Ok((record, key)),
        }
    }

    /// Under a leased agreement: what we would refuse ourselves is not asked of the provider, which counts.
    async fn lease(&self, request: &UseRequest, of: &SessionUse, now: UnixMillis) -> Result<bool, Error> {
        let (node, id) = (self.node.clone(), request.agreement.clone());
        let asked = self.node.store.read(move |store| asked(&node, store, &id, now)).await?;
        if !asked.leased {
            return Ok(false);
        }
        decide(&self.node, &asked, request, Some(now), now)?;
        let counted = uses_left(&asked.policy, asked.spent, now).is_some();
        // On the list first: the renewal that follows names it.
        self.node.data.leases.opened(&request.agreement, of.clone());
        leases::for_session(&self.node, &asked.held, &self.objects, of, counted)
            .await
            .map_err(NoLease::into_error)?;
        Ok(true)
    }

    async fn open_session(&self, question: UseQuestion) -> Result<UseGrant, Refusal> {
        let now = self.node.clock.trusted_now()?;
        let (node, request, session) =
            (self.node.clone(), question.request().clone(), question.session().clone());
        let of = SessionUse {
            session: session.clone(),
            action: request.action.clone(),
            purpose: request.purpose.clone(),
        };
        let leased = self.lease(&request, &of, now).await;
        let on_the_list = (request.agreement.clone(), session.clone());
        let no_lease = leased.err().map(Error::into_refusal);
        let now = self.node.clock.trusted_now()?;
        let opened = self.node.store.write(move |tx| {
            let asked = asked(&node, tx, &request.agreement, now)?;
            let decided = match no_lease {
                Some(refusal) => Err(refusal),
                None => decide(&node, &asked, &request, lease_at(&node, &asked, now), now),
            };
            match decided {
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
        let (asked, until) = opened.inspect_err(|_| {
            self.node.data.leases.ended(&on_the_list.0, &on_the_list.1);
        })?;
        crash_point("use-counted");
        // `open` is called once for each session; a second value would be the same.
        drop(self.granted.set((asked, of)));
        Ok(question.permit(until))
    }

    fn recheck_session(&self, question: UseQuestion) -> Result<UseGrant, Refusal> {
        let now = self.node.clock.trusted_now()?;
        let (asked, _) =
            self.granted.get().ok_or_else(|| Refusal::new(&AGREEMENT_NOT_FOUND, "no session"))?;
        let until = decide(&self.node, asked, question.request(), lease_at(&self.node, asked, now), now)?;
        Ok(question.permit(until))
    }

    async fn close_session(&self, receipt: UseReceipt) -> Result<(), Refusal> {
        if let Some((asked, of)) = self.granted.get() {
            leases::release(&self.node, &asked.held, &of.session);
        }
        let payload = receipt_payload(&receipt)?;
        let signer = self.node.identity.signer();
        let signed = signer.sign(Typ::Receipt, &payload, receipt.closed, None).map_err(Error::from)?;
        let closed = self.node.store.write(move |tx| {
            let session = receipt.session.to_string();
            tx.put(Collection::Receipts, &session, signed.as_bytes(), Expect::Any)?;
            sessions::mark_closed(tx, &receipt)?;
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
    let leased = policy.lease_millis().is_some();
    let transform = match transforms::demands(&policy) {
        true => holdings::manifest(store, id)?.and_then(|manifest| manifest.transform().cloned()),
        false => None,
    };
    let events = events::running(store)?;
    Ok(Asked { held, holding, policy, spent, leased, transform, duties, events })
}

/// The lease that a use rests on now.
fn lease_at(node: &Node, asked: &Asked, now: UnixMillis) -> Option<UnixMillis> {
    let live = node.data.leases.live(asked.held.signed.agreement().id(), now);
    live.filter(|_| asked.leased).map(|granted| granted.last)
}

/// The policy's answer; `Some` instant at which it may change, never behind the end of the lease.
fn decide(
    node: &Node,
    asked: &Asked,
    request: &UseRequest,
    lease: Option<UnixMillis>,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, Refusal> {
    asked.held.status.require_active()?;
    let agreement = asked.held.signed.agreement();
    if asked.leased && lease.is_none() {
        return Err(Refusal::new(&leases::LEASE_NEEDED, agreement.id().as_str()));
    }
    let facts = facts(node, asked, request, lease, now);
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
        None => {
            let leased = node.data.leases.live(agreement.id(), now).filter(|_| asked.leased);
            let ends = [decision.valid_until, leased.map(|granted| granted.until), asked.duties.until];
            Ok(ends.into_iter().flatten().min())
        }
    }
}

fn facts(
    node: &Node,
    asked: &Asked,
    request: &UseRequest,
    lease: Option<UnixMillis>,
    now: UnixMillis,
) -> Facts {
    let agreement = asked.held.signed.agreement();
    let facts = facts_about(Some(&node.statement.load().statement), now);
    let mut facts = transforms::fulfilled(&asked.policy, asked.transform.as_ref(), facts)
        .uses_spent(asked.spent)
        .first_use(asked.holding.first_use().unwrap_or(now))
        .signed(agreement.timestamp());
    if let Some(lease) = lease {
        facts = facts.leased(lease);
    }
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
    sessions::mark_open(tx, session.as_str(), request.agreement.as_str())?;
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
    if let Some(application) = &request.application {
        fields.push(("application", application.clone()));
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
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<&'a str>,
    objects: Vec<ReceiptObject>,
    bytes: String,
    opened: String,
    closed: String,
    /// Why it ended; absent where its user closed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
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
        recipient: receipt.request.recipient.as_deref(),
        application: receipt.request.application.as_deref(),
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
        end: match &receipt.end {
            SessionEnd::Closed => None,
            SessionEnd::Refused(refusal) => Some(refusal.code.code),
        },
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
            // Without a live lease: what the use would be answered if the provider granted one now.
            let lease = lease_at(&worker, &asked, now).unwrap_or(now);
            let facts = facts(&worker, &asked, &request, Some(lease), now);
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

/// Uses left under an agreement now; `None` where it does not count.
pub async fn left(node: &Node, id: &AgreementId) -> Result<Option<u64>, Error> {
    let id = id.clone();
    let (held, spent) = node
        .store
        .read(move |store| {
            Ok::<_, Error>((records::agreement(store, &id)?, store.counter(&holdings::uses_counter(&id))?))
        })
        .await?;
    let Some(held) = held else { return Ok(None) };
    let policy = node.policies.compiled(held.signed.agreement().text())?;
    Ok(uses_left(&policy, spent, node.now()))
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
