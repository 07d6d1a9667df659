//! Acts under four eyes and requests for access, as officers decide them.

use std::sync::Arc;

use control_plane::ids::{AgreementId, DatasetId};
use control_plane::negotiation::State as Negotiated;
use control_plane::{Refusal, UnixMillis};
use proto::admin;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::Collection;

use super::{agreements, datasets, holdings, negotiations, next_page, node as node_calls, page};
use crate::access::{self, AccessRequest, State, Wanted};
use crate::approval::{self, Act, Asked, Verdict};
use crate::data::holdings as held;
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

/// Acts that wait and those decided, oldest first.
pub async fn list(node: &Arc<Node>, request: admin::PageRequest) -> Result<admin::ApprovalList, Error> {
    let (rows, after) = page(&request);
    let found =
        node.store.read(move |store| store.scan(Collection::Approvals, "", after.as_deref(), rows)).await?;
    let now = node.now();
    let read = found.iter().map(|row| approval::read(&row.key, &row.value).map(|asked| shown(&asked, now)));
    Ok(admin::ApprovalList {
        approvals: read.collect::<Result<_, _>>()?,
        next_page_token: next_page(rows, found.last(), found.len()),
    })
}

/// One act.
pub async fn show(node: &Arc<Node>, request: admin::DecideApprovalRequest) -> Result<admin::Approval, Error> {
    let asked = node.store.read(move |store| approval::get(store, &request.reference)).await?;
    Ok(shown(&asked, node.now()))
}

/// A second person approves: the act is carried out.
pub async fn approve(
    node: &Arc<Node>,
    request: admin::DecideApprovalRequest,
    actor: String,
) -> Result<admin::Approval, Error> {
    let asked = approval::decide(node, &request.reference, Verdict::Approve, &actor, &request.reason).await?;
    let outcome = carry_out(node, &asked).await.map_err(Error::into_refusal);
    let settled = approval::settle(node, asked, &outcome).await?;
    outcome?;
    Ok(shown(&settled, node.now()))
}

/// A second person says no.
pub async fn reject(
    node: &Arc<Node>,
    request: admin::DecideApprovalRequest,
    actor: String,
) -> Result<admin::Approval, Error> {
    let asked = approval::decide(node, &request.reference, Verdict::Reject, &actor, &request.reason).await?;
    Ok(shown(&asked, node.now()))
}

/// The first person takes it back.
pub async fn withdraw(
    node: &Arc<Node>,
    request: admin::DecideApprovalRequest,
    actor: String,
) -> Result<admin::Approval, Error> {
    let asked =
        approval::decide(node, &request.reference, Verdict::Withdraw, &actor, &request.reason).await?;
    Ok(shown(&asked, node.now()))
}

async fn carry_out(node: &Arc<Node>, asked: &Asked) -> Result<String, Error> {
    match asked.act {
        Act::DatasetPublish => json(&datasets::publish(node, of(asked)?).await?),
        Act::DatasetWithdraw => json(&datasets::withdraw(node, of(asked)?).await?),
        Act::Negotiate => json(&negotiations::open(node, of(asked)?).await?),
        Act::NegotiationAccept => json(&negotiations::accept(node, of(asked)?).await?),
        Act::NegotiationCounter => json(&negotiations::counter(node, of(asked)?).await?),
        Act::AgreementResume => json(&agreements::resume(node, of(asked)?).await?),
        Act::AgreementRevoke => json(&agreements::revoke(node, of(asked)?).await?),
        Act::PeerResume => json(&node_calls::resume_peer(node, of(asked)?).await?),
        Act::HoldingsDelete => json(&holdings::delete(node, of(asked)?).await?),
        Act::Backup => json(&node_calls::backup(node, of(asked)?).await?),
    }
}

fn of<T: DeserializeOwned>(asked: &Asked) -> Result<T, Error> {
    serde_json::from_str(&asked.request).map_err(|error| Error::damaged(&asked.reference, error))
}

fn json<T: Serialize>(answer: &T) -> Result<String, Error> {
    serde_json::to_string(answer).map_err(Error::ours)
}

fn shown(asked: &Asked, now: UnixMillis) -> admin::Approval {
    let state = match asked.state_at(now) {
        approval::State::Waiting => "waiting",
        approval::State::Approved => "approved",
        approval::State::Done => "done",
        approval::State::Failed => "failed",
        approval::State::Rejected => "rejected",
        approval::State::Withdrawn => "withdrawn",
        approval::State::Expired => "expired",
    };
    admin::Approval {
        reference: asked.reference.clone(),
        act: asked.act.name().to_owned(),
        request: asked.request.clone(),
        requester: asked.requester.clone(),
        requested: asked.requested.clone(),
        expires: asked.expires.clone(),
        state: state.to_owned(),
        decided_by: asked.decided_by.clone().unwrap_or_default(),
        decided: asked.decided.clone().unwrap_or_default(),
        outcome: asked.outcome.clone().unwrap_or_default(),
    }
}

/// A person asks for a dataset that the catalogue has.
pub async fn request_access(
    node: &Arc<Node>,
    request: admin::RequestAccessRequest,
    actor: String,
) -> Result<admin::AccessRequest, Error> {
    let dataset = DatasetId::parse(&request.dataset)?;
    // What nobody offers cannot be granted: better said at once.
    node.catalogue.publisher(&dataset, node.now())?;
    let wanted = Wanted {
        dataset,
        offer: request.offer,
        purpose: holdings::expand(&request.purpose),
        note: request.note,
    };
    access_shown(node, access::submit(node, wanted, &actor).await?).await
}

/// Requests for access, oldest first; if `whose` is given only that person's.
pub async fn list_access(
    node: &Arc<Node>,
    request: admin::PageRequest,
    whose: Option<String>,
) -> Result<admin::AccessRequestList, Error> {
    let (rows, mut after) = page(&request);
    let (found, next_page_token) = node
        .store
        .read(move |store| {
            let mut found = Vec::new();
            loop {
                let page = store.scan(Collection::AccessRequests, "", after.as_deref(), rows)?;
                for row in &page {
                    let asked = access::read(&row.key, &row.value)?;
                    if whose.as_ref().is_none_or(|person| asked.requester == *person) {
                        found.push(asked);
                    }
                    // The next page starts behind the row that filled this one, whoever's the rows between are.
                    if found.len() == rows {
                        return Ok((found, row.key.clone()));
                    }
                }
                match page.last() {
                    Some(last) if page.len() == rows => after = Some(last.key.clone()),
                    _ => return Ok::<_, Error>((found, String::new())),
                }
            }
        })
        .await?;
    let mut requests = Vec::new();
    for asked in found {
        requests.push(access_shown(node, asked).await?);
    }
    Ok(admin::AccessRequestList { requests, next_page_token })
}

/// One request, with what followed; if `whose` is given another person's is not there.
pub async fn show_access(
    node: &Arc<Node>,
    request: admin::DecideAccessRequest,
    whose: Option<String>,
) -> Result<admin::AccessRequest, Error> {
    let reference = request.reference.clone();
    let found = node.store.read(move |store| access::get(store, &request.reference)).await?;
    if whose.is_some_and(|person| found.requester != person) {
        return Err(Refusal::new(&access::UNKNOWN_REQUEST, reference).into());
    }
    access_shown(node, found).await
}

/// Grants a request: the negotiation opens.
pub async fn approve_access(
    node: &Arc<Node>,
    request: admin::DecideAccessRequest,
    actor: String,
) -> Result<admin::AccessRequest, Error> {
    let approved = access::decide(node, &request.reference, State::Approved, &actor, &request.reason).await?;
    let asked = admin::NegotiateRequest {
        dataset: approved.dataset.clone(),
        offer: approved.offer.clone(),
        ..Default::default()
    };
    let opened = negotiations::open(node, asked).await.map_err(Error::into_refusal);
    let kept =
        access::opened(node, approved, opened.as_ref().map(|negotiation| negotiation.id.clone())).await?;
    opened?;
    access_shown(node, kept).await
}

/// Refuses a request.
pub async fn reject_access(
    node: &Arc<Node>,
    request: admin::DecideAccessRequest,
    actor: String,
) -> Result<admin::AccessRequest, Error> {
    let decided = access::decide(node, &request.reference, State::Rejected, &actor, &request.reason).await?;
    access_shown(node, decided).await
}

/// Takes one's own request back.
pub async fn withdraw_access(
    node: &Arc<Node>,
    request: admin::DecideAccessRequest,
    actor: String,
) -> Result<admin::AccessRequest, Error> {
    let decided = access::decide(node, &request.reference, State::Withdrawn, &actor, &request.reason).await?;
    access_shown(node, decided).await
}

/// A request with the state of its negotiation, agreement and copy.
async fn access_shown(node: &Arc<Node>, request: AccessRequest) -> Result<admin::AccessRequest, Error> {
    let pid = request.negotiation.clone();
    let (state, agreement, copy) = node
        .store
        .read(move |store| {
            let Some(negotiation) = pid.map(|pid| records::negotiation(store, &pid)).transpose()?.flatten()
            else {
                return Ok((String::new(), String::new(), ""));
            };
            let agreement: Option<AgreementId> = match negotiation.state() {
                Negotiated::Agreed { part, .. } => Some(part.agreement().id().clone()),
                Negotiated::Verified { signed } | Negotiated::Finalized { signed } => {
                    Some(signed.agreement().id().clone())
                }
                _ => None,
            };
            let holding = agreement.as_ref().map(|id| held::state(store, id)).transpose()?.flatten();
            let agreement = agreement.map(|id| id.to_string()).unwrap_or_default();
            Ok::<_, Error>((
                negotiation.state_name().as_str().to_owned(),
                agreement,
                holding.unwrap_or_default(),
            ))
        })
        .await?;
    Ok(admin::AccessRequest {
        reference: request.reference,
        dataset: request.dataset,
        offer: request.offer,
        purpose: request.purpose,
        note: request.note,
        requester: request.requester,
        requested: request.requested,
        state: request.state.name().to_owned(),
        decided_by: request.decided_by.unwrap_or_default(),
        decided: request.decided.unwrap_or_default(),
        reason: request.reason.unwrap_or_default(),
        negotiation: request.negotiation.unwrap_or_default(),
        negotiation_state: state,
        agreement,
        copy: copy.to_owned(),
    })
}
