//! Use sessions: the decision, the counter and the record are durable before the first byte is released.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use control_plane::ids::AgreementId;
use control_plane::{Refusal, UnixMillis};
use data_plane::{
    AgreementKey, ObjectId, ObjectRecord, SessionEnd, SessionId, UseGrant, UsePort, UseQuestion, UseReceipt,
    UseRequest,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use identity::Typ;
use policy::{CountUnit, Facts, Policy};
use store::{Collection, Expect, Tx, crash_point};

use super::counts::{self, Cost, Step};
use super::facts::{Asked, asked, facts, lease_at};
use super::lease_provider::SessionUse;
use super::leases::{self, NoLease};
use super::open_uses::{OpenUse, Until};
use super::{duties, holdings, onward, receipts, sessions};
use crate::driver::records;
use crate::driver::transfers::AGREEMENT_NOT_FOUND;
use crate::error::Error;
use crate::node::Node;
use crate::standing;
use crate::telemetry::metrics;

control_plane::refusal_codes! {
    DUTY_OVERDUE = "use/duty-overdue", Policy,
        "a duty of this agreement is overdue, which closes its permission",
        "此協議有逾期未履行的義務，其許可因此關閉", "该协议有逾期未履行的义务，其许可因此关闭",
        clause "usage control: duties are rows with a state", next "`fairlead holdings show AGREEMENT` names the duty";
    RESTORED = "use/restored-backup", Unavailable,
        "this state was restored from a backup, and the provider has not said yet how the agreement stands",
        "此狀態由備份還原，提供方尚未說明協議的現況", "此状态由备份恢复，提供方尚未说明协议的现状",
        clause "operator's guide 5: backup and restore", next "let the connector reach the provider, which confirms what it knows";
}

/// Decides and accounts for one session.
pub struct SessionPort {
    node: Arc<Node>,
    /// Objects that the session is to begin with: under a lease their shares come with the first request.
    objects: Vec<u32>,
    /// Whether it is about one object, which is paid for when it opens; of several nobody knows yet which are read.
    with_object: bool,
    granted: OnceLock<Begun>,
    /// Objects that this session has paid for, where objects are counted.
    paid: Arc<tokio::sync::Mutex<BTreeSet<ObjectId>>>,
    /// The day that it has paid for, where days are counted.
    day: AtomicI64,
    /// The end of the last decision, for whoever looks at what is open.
    until: Until,
}

/// What a session was granted on; the same facts, but for time and lease, decide while it lasts.
struct Begun {
    asked: Asked,
    of: SessionUse,
    request: UseRequest,
}

impl Drop for SessionPort {
    /// A session that was dropped without being closed keeps no lease alive.
    fn drop(&mut self) {
        if let Some(Begun { asked, of, .. }) = self.granted.get() {
            self.node.data.open_uses.ended(&of.session);
            leases::release(&self.node, &asked.held, &of.session);
        }
    }
}

impl SessionPort {
    /// For one session.
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            objects: Vec::new(),
            granted: OnceLock::new(),
            with_object: false,
            paid: Arc::default(),
            day: AtomicI64::new(0),
            until: Until::new(None),
        }
    }

    /// The session begins with these objects.
    #[must_use]
    pub fn beginning_with(mut self, objects: &[&ObjectRecord]) -> Self {
        self.objects = objects.iter().filter_map(|record| holdings::object_index(record.object())).collect();
        if let [only] = objects {
            self.with_object = true;
            self.paid = Arc::new(tokio::sync::Mutex::new([only.object().clone()].into()));
        }
        self
    }

    /// Row and key to open an object with in this session: as they are, or under a lease with the provider's share.
    /// Where objects are counted, it is counted before.
    pub async fn unlock(
        &self,
        record: ObjectRecord,
        key: AgreementKey,
    ) -> Result<(ObjectRecord, AgreementKey), Error> {
        let begun = self.granted.get().ok_or_else(|| Refusal::new(&AGREEMENT_NOT_FOUND, "no session"))?;
        self.pay_for(begun, record.object()).await?;
        if begun.asked.leased {
            return leases::unlock(&self.node, &begun.asked.held, &begun.of, &record, &key).await;
        }
        Ok((record, key))
    }

    /// Counts an object that this session has not opened before, where objects are counted.
    async fn pay_for(&self, begun: &Begun, object: &ObjectId) -> Result<(), Error> {
        if begun.asked.counted.unit != CountUnit::Object {
            return Ok(());
        }
        // Held until it is counted: two readers of one object pay once.
        let mut paid = self.paid.clone().lock_owned().await;
        if paid.contains(object) {
            return Ok(());
        }
        let (node, object) = (self.node.clone(), object.clone());
        let (request, session) = (begun.request.clone(), begun.of.session.clone());
        // A task of its own: a reader that goes away meanwhile does not make it forget what it paid for.
        let paying = tokio::spawn(async move {
            pay(node, request, session, Step::Object { again: false }, Some(&object)).await?;
            paid.insert(object);
            Ok(())
        });
        paying.await.map_err(Error::ours)?
    }

    /// Under a leased agreement: what we would refuse ourselves is not asked of the provider, which counts.
    async fn lease(&self, request: &UseRequest, of: &SessionUse, now: UnixMillis) -> Result<bool, Error> {
        let (node, id) = (self.node.clone(), request.agreement.clone());
        let step = self.opening();
        let asked = self.node.store.read(move |store| asked(&node, store, &id, step, now)).await?;
        if !asked.leased {
            return Ok(false);
        }
        decide(&self.node, &asked, request, Some(now), now)?;
        let counted = uses_left(&asked.policy, asked.counted.spent, now).is_some();
        // On the list first: the renewal that follows names it.
        self.node.data.leases.opened(&request.agreement, of.clone());
        leases::for_session(&self.node, &asked.held, &self.objects, of, counted)
            .await
            .map_err(NoLease::into_error)?;
        Ok(true)
    }

    fn opening(&self) -> Step {
        Step::Opens { with_object: self.with_object }
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
        let open = request.clone();
        let begun = request.clone();
        let no_lease = leased.err().map(Error::into_refusal);
        let now = self.node.clock.trusted_now()?;
        let step = self.opening();
        let opened = self.node.store.write(move |tx| {
            let asked = asked(&node, tx, &request.agreement, step, now)?;
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
        self.until.set(until);
        let (session, until_shown) = (on_the_list.1, self.until.clone());
        self.node.data.open_uses.opened(OpenUse { session, request: open, opened: now, until: until_shown });
        // `open` is called once for each session; a second value would be the same.
        self.day.store(counts::day(now), Ordering::Relaxed);
        drop(self.granted.set(Begun { asked, of, request: begun }));
        Ok(question.permit(until))
    }

    async fn recheck_session(&self, question: UseQuestion) -> Result<UseGrant, Refusal> {
        let now = self.node.clock.trusted_now()?;
        let begun = self.granted.get().ok_or_else(|| Refusal::new(&AGREEMENT_NOT_FOUND, "no session"))?;
        let asked = &begun.asked;
        if asked.counted.unit == CountUnit::Day && self.day.load(Ordering::Relaxed) != counts::day(now) {
            // Another day began: it is counted before anything of it is released.
            let (node, request) = (self.node.clone(), begun.request.clone());
            let paid = pay(node, request, begun.of.session.clone(), Step::GoesOn, None).await;
            let paid = paid.map_err(Error::into_refusal)?;
            self.day.store(counts::day(paid), Ordering::Relaxed);
        }
        let until = decide(&self.node, asked, question.request(), lease_at(&self.node, asked, now), now)?;
        self.until.set(until);
        Ok(question.permit(until))
    }

    async fn close_session(&self, receipt: UseReceipt) -> Result<(), Refusal> {
        if let Some(Begun { asked, of, .. }) = self.granted.get() {
            self.node.data.open_uses.ended(&of.session);
            leases::release(&self.node, &asked.held, &of.session);
        }
        let payload = receipts::payload(&receipt)?;
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
        self.recheck_session(question).boxed()
    }

    fn closed(&self, receipt: UseReceipt) -> BoxFuture<'_, Result<(), Refusal>> {
        self.close_session(receipt).boxed()
    }
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
    let decision = onward::decide(&asked.policy, request, &question, &facts)?;
    match decision.refusal() {
        Some(refusal) => Err(refusal),
        None => {
            let leased = node.data.leases.live(agreement.id(), now).filter(|_| asked.leased);
            let leased = leased.map(|granted| granted.until);
            let ends = [decision.valid_until, leased, asked.duties.until, asked.counted.until(now)];
            Ok(ends.into_iter().flatten().min())
        }
    }
}

/// Decides about a step of a session that is open, on what is known now, and counts what it costs. Tells when.
async fn pay(
    node: Arc<Node>,
    request: UseRequest,
    session: SessionId,
    step: Step,
    object: Option<&ObjectId>,
) -> Result<UnixMillis, Error> {
    let now = node.clock.trusted_now()?;
    let mut fields = vec![("agreement", request.agreement.to_string()), ("session", session.to_string())];
    fields.extend(object.map(|object| ("object", object.to_string())));
    let worker = node.clone();
    let paid = node.store.write(move |tx| {
        let asked = asked(&worker, tx, &request.agreement, step, now)?;
        if let Err(refusal) = decide(&worker, &asked, &request, lease_at(&worker, &asked, now), now) {
            record_refusal(tx, &request, &refusal, now)?;
            return Ok::<_, Error>(Err(refusal));
        }
        let spent = counts::count(tx, &request.agreement, &asked.counted, asked.cost, now)?;
        if asked.cost == Cost::Unit {
            fields.extend([("use", spent.to_string()), ("unit", asked.counted.unit.name().to_owned())]);
            records::append_fields(tx, "use-counted", now, fields)?;
            standing::owe(tx, &asked.policy, asked.leased, &request.agreement, &asked.holding.assigner)?;
        }
        Ok(Ok(()))
    });
    paid.await??;
    crash_point("unit-counted");
    Ok(now)
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
    let spent = counts::count(tx, &request.agreement, &asked.counted, asked.cost, now)?;
    standing::owe(tx, &asked.policy, asked.leased, &request.agreement, &asked.holding.assigner)?;
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
    fields.push(("use", spent.to_string()));
    if asked.counted.unit != CountUnit::Session {
        fields.push(("unit", asked.counted.unit.name().to_owned()));
    }
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
            let opening = Step::Opens { with_object: true };
            let asked = asked(&worker, store, &request.agreement, opening, now)?;
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

/// Uses left under an agreement now, by its policy's unit; `None` where it does not count.
pub async fn left(node: &Arc<Node>, id: &AgreementId) -> Result<Option<u64>, Error> {
    let (worker, id, now) = (node.clone(), id.clone(), node.now());
    node.store
        .read(move |store| {
            let Some(held) = records::agreement(store, &id)? else { return Ok(None) };
            let policy = worker.policies.compiled(held.signed.agreement().text())?;
            let counted = counts::counted(store, &id, &policy)?;
            Ok(uses_left(&policy, counted.spent, now))
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
