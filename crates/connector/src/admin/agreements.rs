//! Agreements as our operator sees and changes them.

use std::sync::Arc;

use control_plane::durable;
use control_plane::ids::AgreementId;
use control_plane::status::{AgreementStatus, HeldAgreement, Holds};
use policy::{ClauseKind, Enforcement, Lang};
use proto::admin;
use store::Collection;

use super::{next_page, page};
use crate::driver::agreements::{self, Change};
use crate::driver::records;
use crate::driver::transfers::AGREEMENT_NOT_FOUND;
use crate::error::Error;
use crate::node::Node;

/// All agreements, oldest first.
pub async fn list(node: &Arc<Node>, request: admin::PageRequest) -> Result<admin::AgreementList, Error> {
    let (rows, after) = page(&request);
    let found =
        node.store.read(move |store| store.scan(Collection::Agreements, "", after.as_deref(), rows)).await?;
    let decoded = found.iter().map(|row| {
        let held = durable::decode_agreement(&row.value).map_err(|cause| Error::damaged(&row.key, cause))?;
        Ok::<_, Error>(shown(node, &held))
    });
    Ok(admin::AgreementList {
        agreements: decoded.collect::<Result<_, _>>()?,
        next_page_token: next_page(rows, found.last(), found.len()),
    })
}

/// One agreement with its clauses and its signatures.
pub async fn show(node: &Arc<Node>, request: admin::ShowAgreementRequest) -> Result<admin::Agreement, Error> {
    let held = get(node, &request.id).await?;
    let policy = node.policies.compiled(held.signed.agreement().text())?;
    Ok(admin::Agreement {
        clauses: clauses(&policy, language(&request.language)),
        document: held.signed.document()?,
        ..shown(node, &held)
    })
}

/// Stops everything under an agreement until resumed.
pub async fn suspend(
    node: &Arc<Node>,
    request: admin::ChangeAgreementRequest,
) -> Result<admin::Agreement, Error> {
    change(node, request, Change::Suspend).await
}

/// Lifts our own suspension.
pub async fn resume(
    node: &Arc<Node>,
    request: admin::ChangeAgreementRequest,
) -> Result<admin::Agreement, Error> {
    change(node, request, Change::Resume).await
}

/// Ends an agreement for good.
pub async fn revoke(
    node: &Arc<Node>,
    request: admin::ChangeAgreementRequest,
) -> Result<admin::Agreement, Error> {
    change(node, request, Change::Revoke).await
}

async fn change(
    node: &Arc<Node>,
    request: admin::ChangeAgreementRequest,
    what: Change,
) -> Result<admin::Agreement, Error> {
    let id = AgreementId::parse(&request.id)?;
    let held = agreements::change(node, id, what, &request.reason).await?;
    Ok(shown(node, &held))
}

/// The agreement of this id.
pub async fn get(node: &Arc<Node>, id: &str) -> Result<HeldAgreement, Error> {
    let id = AgreementId::parse(id)?;
    let key = id.clone();
    let found = node.store.read(move |store| records::agreement(store, &key)).await?;
    Ok(records::found(found, &AGREEMENT_NOT_FOUND, id.as_str())?)
}

/// The language of a BCP 47 tag; English for any other.
pub fn language(tag: &str) -> Lang {
    match tag {
        "zh-Hant" => Lang::ZhHant,
        "zh-Hans" => Lang::ZhHans,
        _ => Lang::En,
    }
}

/// A policy as numbered clauses.
pub fn clauses(policy: &policy::Policy, language: Lang) -> Vec<admin::Clause> {
    policy
        .render(language)
        .into_iter()
        .map(|clause| admin::Clause {
            number: clause.number,
            kind: kind(clause.kind).to_owned(),
            text: clause.text,
            warnings: clause.warnings,
            enforcement: enforcement(clause.enforcement).to_owned(),
        })
        .collect()
}

const fn kind(kind: ClauseKind) -> &'static str {
    match kind {
        ClauseKind::Permission => "permission",
        ClauseKind::Prohibition => "prohibition",
        ClauseKind::Duty => "duty",
        ClauseKind::General => "general",
    }
}

const fn enforcement(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Technical => "technical",
        Enforcement::Procedural => "procedural",
        Enforcement::Legal => "legal",
    }
}

fn shown(node: &Node, held: &HeldAgreement) -> admin::Agreement {
    let agreement = held.signed.agreement();
    let (changed_by, reason) = match &held.status {
        AgreementStatus::Active => Default::default(),
        AgreementStatus::Suspended(Holds::One(role, act)) => {
            (role.to_string(), act.cause.reasons().join("; "))
        }
        AgreementStatus::Suspended(Holds::Both { provider, consumer }) => {
            let reasons = [provider, consumer].map(|act| act.cause.reasons().join("; "));
            ("both".to_owned(), reasons.join("; "))
        }
        AgreementStatus::Revoked { by, act } => (by.to_string(), act.cause.reasons().join("; ")),
        AgreementStatus::Expired { at } => ("time".to_owned(), at.to_string()),
    };
    admin::Agreement {
        unsigned_by: held.signed.unsigned_by().map(|role| role.to_string()).unwrap_or_default(),
        id: agreement.id().to_string(),
        dataset: agreement.target().to_string(),
        assigner: agreement.assigner().to_string(),
        assignee: agreement.assignee().to_string(),
        role: agreements::role(node, held).to_string(),
        status: held.status.name().to_owned(),
        signed_at: agreement.timestamp().to_string(),
        hash: agreement.hash().to_string(),
        changed_by,
        reason,
        ..Default::default()
    }
}
