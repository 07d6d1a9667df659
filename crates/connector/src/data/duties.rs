//! Duties: planned as rows when their time is known, performed before their deadline, told when overdue.

use std::sync::Arc;
use std::time::Duration;

use control_plane::ids::{AgreementId, ParticipantId};
use control_plane::status::{AgreementStatus, HeldAgreement};
use control_plane::{Refusal, UnixMillis};
use data_plane::{SessionId, UseRequest};
use policy::{Anchors, Policy};
use store::{Duty, DutyState, NewDuty, Signal, Tx};

use super::acts;
use super::holdings::{self, Holding};
use crate::driver::notices::{self, Notice, What};
use crate::driver::records;
use crate::enforceable::{Executor, executor};
use crate::error::Error;
use crate::node::Node;

/// The kind of a duty to delete.
pub const DELETE: &str = "delete";
/// Deletion begins this long before its deadline: a holding of 10,000 files is destroyed in a fraction of it.
const LEAD_MS: i64 = 30_000;
/// Duties looked at in one round.
const BATCH: usize = 64;
/// The longest sleep without a look, should a signal be missed.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// A failed duty is tried again after this time.
const RETRY_MS: i64 = 5_000;

/// Adds a row for every duty whose deadline is known by now; called again whenever an anchor becomes known.
pub fn plan(
    node: &Node,
    tx: &Tx<'_>,
    held: &HeldAgreement,
    holding: &Holding,
    now: UnixMillis,
) -> Result<(), Error> {
    let agreement = held.signed.agreement();
    let policy = node.policies.compiled(agreement.text())?;
    let anchors = anchors(held, holding);
    for duty in policy.duties() {
        let deadline = duty.due(&anchors);
        if !duty.deadlines.is_empty() && deadline.is_none() {
            continue;
        }
        match (executor(duty), deadline) {
            (Some(Executor::Delete), Some(deadline)) => {
                plan_deletion(tx, agreement.id(), duty, deadline, now)?
            }
            (Some(Executor::Person), deadline) => acts::plan(tx, agreement.id(), duty, deadline, false, now)?,
            // With each use, by the transaction that grants it; the rest was refused before there was an agreement.
            (Some(Executor::Delete | Executor::Record | Executor::Inform | Executor::Onward) | None, _) => {}
        }
    }
    Ok(())
}

fn anchors(held: &HeldAgreement, holding: &Holding) -> Anchors {
    Anchors {
        signed: Some(held.signed.agreement().timestamp()),
        first_use: holding.first_use(),
        ended: ended(&held.status),
    }
}

/// The name of a duty's row.
pub fn row_id(agreement: &AgreementId, key: &str) -> String {
    format!("{agreement} {key}")
}

fn plan_deletion(
    tx: &Tx<'_>,
    agreement: &AgreementId,
    duty: &policy::Duty,
    deadline: UnixMillis,
    now: UnixMillis,
) -> Result<(), Error> {
    let id = row_id(agreement, &duty.key);
    let start = deadline.plus_millis(-LEAD_MS.min(deadline.millis_since(now).max(0) / 2));
    if let Some(planned) = tx.duty(&id)? {
        return hasten(tx, &planned, start, deadline, now);
    }
    let body = duty.action.as_bytes();
    tx.duty_add(&NewDuty { id: &id, subject: agreement.as_str(), kind: DELETE, body, start, deadline })?;
    let fields =
        [("agreement", agreement.to_string()), ("duty", id.clone()), ("deadline", deadline.to_string())];
    records::append_fields(tx, "duty-planned", now, fields)
}

/// A duty with several deadlines is planned by the first that is known; another one may turn out to come before it.
pub fn hasten(
    tx: &Tx<'_>,
    planned: &Duty,
    start: UnixMillis,
    deadline: UnixMillis,
    now: UnixMillis,
) -> Result<(), Error> {
    if planned.state == DutyState::Done || deadline >= planned.deadline {
        return Ok(());
    }
    tx.duty_reschedule(&planned.id, start.min(planned.start), deadline)?;
    let fields = [
        ("agreement", planned.subject.clone()),
        ("duty", planned.id.clone()),
        ("deadline", deadline.to_string()),
    ];
    records::append_fields(tx, "duty-hastened", now, fields)
}

/// What a policy demands with each use, in the transaction that grants it: the record is the caller's, a notice to
/// the assigner is queued here.
pub fn with_use(
    node: &Node,
    tx: &Tx<'_>,
    policy: &Policy,
    assigner: &str,
    request: &UseRequest,
    session: &SessionId,
    now: UnixMillis,
) -> Result<(), Error> {
    if !policy.duties().iter().any(|duty| executor(duty) == Some(Executor::Inform)) {
        return Ok(());
    }
    let mut fields = std::collections::BTreeMap::from([
        ("session".to_owned(), session.to_string()),
        ("action".to_owned(), request.action.clone()),
    ]);
    if let Some(purpose) = &request.purpose {
        fields.insert("purpose".to_owned(), purpose.clone());
    }
    let notice = Notice {
        agreement: request.agreement.clone(),
        what: What::Used,
        reason: "duty to inform".to_owned(),
        at: now,
        fields,
    };
    notices::push(node, tx, &ParticipantId::parse(assigner)?, &notice)?;
    Ok(())
}

/// What is owed besides, once a duty was not fulfilled in time.
fn plan_consequences(
    node: &Node,
    tx: &Tx<'_>,
    agreement: &AgreementId,
    holding: &Holding,
    overdue: &Duty,
    now: UnixMillis,
) -> Result<(), Error> {
    let Some(held) = records::agreement(tx, agreement)? else { return Ok(()) };
    let policy = node.policies.compiled(held.signed.agreement().text())?;
    let anchors = anchors(&held, holding);
    let of_row = |duty: &&policy::Duty| row_id(agreement, &duty.key) == overdue.id;
    for duty in policy.duties().iter().filter(of_row).flat_map(|duty| &duty.consequences) {
        let deadline = duty.due(&anchors);
        match executor(duty) {
            // Without a deadline, or with one whose anchor never came: at once.
            Some(Executor::Delete) => plan_deletion(tx, agreement, duty, deadline.unwrap_or(now), now)?,
            Some(Executor::Person) => acts::plan(tx, agreement, duty, deadline, true, now)?,
            Some(Executor::Record | Executor::Inform | Executor::Onward) | None => {}
        }
    }
    Ok(())
}

const fn ended(status: &AgreementStatus) -> Option<UnixMillis> {
    match status {
        AgreementStatus::Active | AgreementStatus::Suspended(_) => None,
        AgreementStatus::Revoked { act, .. } => Some(act.at),
        AgreementStatus::Expired { at } => Some(*at),
    }
}

/// Performs duties when they are due, until the node stops.
pub async fn run(node: Arc<Node>) {
    let mut changed = node.store.subscribe(Signal::Duties);
    let interrupted = node.now();
    if let Err(error) =
        node.store.write(move |tx| tx.duties_interrupted(interrupted).map_err(Error::from)).await
    {
        tracing::error!(%error, "interrupted duties cannot be taken up");
    }
    loop {
        changed.mark_unchanged();
        if let Err(error) = round(&node).await {
            tracing::error!(%error, "duties cannot be looked at");
        }
        let next = node.store.read(|store| store.duties_next().map_err(Error::from)).await.ok().flatten();
        let sleep = next.map_or(LONGEST_SLEEP, |next| {
            let wait = u64::try_from(next.millis_since(node.now())).unwrap_or(0);
            Duration::from_millis(wait.max(MIN_SLEEP_MS)).min(LONGEST_SLEEP)
        });
        tokio::select! {
            () = node.stop.cancelled() => return,
            _ = changed.changed() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Rounds follow one another no faster than this, even for a duty that fails at once.
const MIN_SLEEP_MS: u64 = 50;

async fn round(node: &Arc<Node>) -> Result<(), Error> {
    let now = node.now();
    let worker = node.clone();
    let newly_overdue = node
        .store
        .write(move |tx| {
            let overdue = tx.duties_mark_overdue(now, BATCH)?;
            for duty in &overdue {
                tell_overdue(&worker, tx, duty, now)?;
            }
            Ok::<_, Error>(overdue)
        })
        .await?;
    for duty in &newly_overdue {
        tracing::error!(duty = %duty.id, deadline = %duty.deadline, "a duty is overdue: its permission is closed");
        let agreement = AgreementId::parse(&duty.subject)?;
        node.data.stop_agreement(&agreement, &Refusal::new(&super::uses::DUTY_OVERDUE, duty.kind.as_str()));
    }
    let ready = node.store.read(move |store| store.duties_ready(now, BATCH).map_err(Error::from)).await?;
    for duty in ready {
        perform(node, duty).await?;
    }
    Ok(())
}

async fn perform(node: &Arc<Node>, duty: Duty) -> Result<(), Error> {
    // What a person performs has no start that is ever reached.
    if duty.kind != DELETE {
        return Err(Error::damaged(&format!("duty {}", duty.id), "nothing performs it".to_owned()));
    }
    let id = duty.id.clone();
    node.store.write(move |tx| tx.duty_start(&id).map(drop).map_err(Error::from)).await?;
    let agreement = AgreementId::parse(&duty.subject)?;
    let outcome = holdings::destroy(node, &agreement, "duty to delete").await;
    let now = node.now();
    let id = duty.id;
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::error!(duty = %id, %error, "a duty failed; it is tried again");
            let note: String = error.to_string().chars().take(MAX_NOTE_CHARS).collect();
            let again = now.plus_millis(RETRY_MS);
            node.store.write(move |tx| tx.duty_fail(&id, &note, again).map(drop).map_err(Error::from)).await
        }
    }
}

/// In the transaction that deletes what an agreement gave: every duty to delete it is done, also one not yet due.
pub fn deleted(
    tx: &Tx<'_>,
    agreement: &AgreementId,
    holding: &Holding,
    now: UnixMillis,
) -> Result<(), Error> {
    let evidence = format!(
        "manifest {} destroyed {}",
        holding.manifest,
        holding.destroyed.as_deref().unwrap_or_default()
    );
    for duty in acts::all_of(tx, agreement)? {
        if duty.kind != DELETE || duty.state == DutyState::Done {
            continue;
        }
        if duty.state != DutyState::Running {
            tx.duty_start(&duty.id)?;
        }
        tx.duty_finish(&duty.id, evidence.as_bytes(), now)?;
        let fields =
            [("agreement", agreement.to_string()), ("duty", duty.id), ("evidence", evidence.clone())];
        records::append_fields(tx, "duty-done", now, fields)?;
    }
    Ok(())
}

/// A note of this many characters fits the store's bound in any script.
const MAX_NOTE_CHARS: usize = store::MAX_NOTE_BYTES / 4;

fn tell_overdue(node: &Node, tx: &Tx<'_>, duty: &Duty, now: UnixMillis) -> Result<(), Error> {
    let agreement = AgreementId::parse(&duty.subject)?;
    let Some(holding) = holdings::get(tx, &agreement)? else { return Ok(()) };
    let fields = [
        ("agreement", agreement.to_string()),
        ("duty", duty.id.clone()),
        ("deadline", duty.deadline.to_string()),
    ];
    records::append_fields(tx, "duty-overdue", now, fields)?;
    let notice = Notice {
        agreement: agreement.clone(),
        what: What::DutyOverdue,
        reason: duty.kind.clone(),
        at: now,
        fields: [("deadline".to_owned(), duty.deadline.to_string())].into(),
    };
    notices::push(node, tx, &ParticipantId::parse(&holding.assigner)?, &notice)?;
    plan_consequences(node, tx, &agreement, &holding, duty, now)
}
