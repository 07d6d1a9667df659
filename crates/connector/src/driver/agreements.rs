//! What happens to an agreement after it was concluded: suspended, resumed, revoked, expired.

use std::sync::Arc;

use control_plane::cause::Cause;
use control_plane::ids::AgreementId;
use control_plane::pids::Role;
use control_plane::status::{AGREEMENT_ENDED, Act, AgreementStatus, HeldAgreement, StatusChange};
use control_plane::{Refusal, UnixMillis};

use super::notices::{self, Notice, What};
use super::transfers::AGREEMENT_NOT_FOUND;
use super::{records, transfers};
use crate::data::{duties, holdings, lease_provider};
use crate::error::Error;
use crate::node::Node;
use crate::standing;

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Stop everything under it until resumed.
    Suspend,
    /// Lift our own suspension.
    Resume,
    /// End it for good.
    Revoke,
}

/// Why our side changes an agreement.
#[derive(Clone, Copy, Debug)]
pub struct Because<'a> {
    /// For machines; stays with the status.
    pub code: &'a str,
    /// For people, the other party's included.
    pub reason: &'a str,
}

/// Our role in an agreement.
pub fn role(node: &Node, held: &HeldAgreement) -> Role {
    if *held.signed.agreement().assigner() == node.us { Role::Provider } else { Role::Consumer }
}

/// Carries out the operator's change: status, ended transfers, notice to the peer and ledger in one transaction;
/// streams and sessions stop right after.
pub async fn change(
    node: &Arc<Node>,
    id: AgreementId,
    change: Change,
    reason: &str,
) -> Result<HeldAgreement, Error> {
    let now = node.now();
    let (worker, reason) = (node.clone(), reason.to_owned());
    let (held, ended) = node
        .store
        .write(move |tx| {
            let held = records::found(records::agreement(tx, &id)?, &AGREEMENT_NOT_FOUND, id.as_str())?;
            let because = Because { code: what(change).code(), reason: &reason };
            let changed = change_in(&worker, tx, &held, change, because, now)?;
            Ok::<_, Error>(changed.unwrap_or_else(|| (held, Vec::new())))
        })
        .await?;
    settle(node, &held, ended);
    // Shares that were destroyed are gone for good with the key they were wrapped with.
    node.data.keys.rotate_if_owed(&node.store).await?;
    Ok(held)
}

/// One change by our side as part of the caller's transaction; `None` if it changes nothing. [`settle`] follows.
pub fn change_in(
    node: &Node,
    tx: &store::Tx<'_>,
    held: &HeldAgreement,
    change: Change,
    because: Because<'_>,
    now: UnixMillis,
) -> Result<Option<(HeldAgreement, Vec<transfers::Stored>)>, Error> {
    let role = role(node, held);
    let act = Act { cause: Cause::new(because.code, [because.reason]), at: now };
    let next = match change {
        Change::Suspend => {
            without_other_hold(held, role, because.code)?.after(StatusChange::Suspend(role, act))
        }
        Change::Resume => held.after(StatusChange::Resume(role)),
        Change::Revoke => held.after(StatusChange::Revoke(role, act)),
    }?;
    if next == *held {
        return Ok(None);
    }
    let peer = next.signed.agreement().party(role.other()).clone();
    let notice = Notice {
        agreement: next.signed.agreement().id().clone(),
        what: what(change),
        reason: because.reason.to_owned(),
        at: now,
        fields: [].into(),
    };
    notices::push(node, tx, &peer, &notice)?;
    let ended = store_change(node, tx, &next, &notice, role, now)?;
    Ok(Some((next, ended)))
}

/// The agreement without a hold of ours that has another cause: the newer cause takes its place.
fn without_other_hold(held: &HeldAgreement, role: Role, code: &str) -> Result<HeldAgreement, Refusal> {
    match &held.status {
        AgreementStatus::Suspended(holds) if holds.of(role).is_some_and(|act| act.cause.code() != code) => {
            held.after(StatusChange::Resume(role))
        }
        _ => Ok(held.clone()),
    }
}

/// A peer's notice about the status of an agreement; part of the transaction that remembers the notice.
pub fn changed_by_peer(
    node: &Node,
    tx: &store::Tx<'_>,
    held: &HeldAgreement,
    peer_role: Role,
    notice: &Notice,
    now: UnixMillis,
) -> Result<(HeldAgreement, Vec<transfers::Stored>), Error> {
    // Our clock: the peer's word about the time must not reach our records, duties or messages.
    let act = Act { cause: Cause::new(notice.what.code(), [notice.reason.as_str()]), at: now };
    let change = match notice.what {
        What::Suspended => StatusChange::Suspend(peer_role, act),
        What::Resumed => StatusChange::Resume(peer_role),
        What::Revoked => StatusChange::Revoke(peer_role, act),
        What::Deleted => {
            // The copies are gone over there; from now on nobody can say otherwise.
            lease_provider::destroy(tx, held.signed.agreement().id(), now)?;
            standing::remember_deleted(tx, held.signed.agreement().id(), now)?;
            return Ok((held.clone(), Vec::new()));
        }
        What::Used | What::DutyOverdue | What::DutyDone => return Ok((held.clone(), Vec::new())),
    };
    let next = match held.after(change) {
        // It crossed the end of the agreement, which stays: there is nothing to refuse.
        Err(refusal) if refusal.code == &AGREEMENT_ENDED => held.clone(),
        next => next?,
    };
    if next == *held {
        return Ok((next, Vec::new()));
    }
    let ended = store_change(node, tx, &next, notice, peer_role, now)?;
    Ok((next, ended))
}

/// Streams and sessions hear of the change; to be called once it is durable.
pub fn settle(node: &Arc<Node>, held: &HeldAgreement, ended: Vec<transfers::Stored>) {
    node.data.agreement_changed(held);
    for stored in ended {
        transfers::settle(node, stored);
    }
}

fn store_change(
    node: &Node,
    tx: &store::Tx<'_>,
    next: &HeldAgreement,
    notice: &Notice,
    by: Role,
    now: UnixMillis,
) -> Result<Vec<transfers::Stored>, Error> {
    records::put_agreement(tx, next)?;
    records::append_fields(
        tx,
        "agreement-status",
        now,
        [
            ("agreement", notice.agreement.to_string()),
            ("status", next.status.name().to_owned()),
            ("by", by.to_string()),
            ("reason", notice.reason.clone()),
        ],
    )?;
    if matches!(next.status, AgreementStatus::Revoked { .. } | AgreementStatus::Expired { .. }) {
        lease_provider::destroy(tx, next.signed.agreement().id(), now)?;
    }
    // Duties that count from the end of the permission have a deadline from now on.
    if let Some(holding) = holdings::get(tx, next.signed.agreement().id())? {
        duties::plan(node, tx, next, &holding, now)?;
    }
    let ended = match next.status.require_active() {
        Ok(()) => Vec::new(),
        // A suspended agreement may come back, but its transfers start anew: nothing of them is lost, what was
        // received stays sealed and the next pull resumes behind it.
        Err(refusal) => transfers::end_all(tx, next, &Cause::of_refusal(&refusal), now)?,
    };
    Ok(ended)
}

const fn what(change: Change) -> What {
    match change {
        Change::Suspend => What::Suspended,
        Change::Resume => What::Resumed,
        Change::Revoke => What::Revoked,
    }
}

/// Refuses unless the agreement may be acted on now.
pub fn require_active(held: &HeldAgreement) -> Result<(), Refusal> {
    held.status.require_active()
}
