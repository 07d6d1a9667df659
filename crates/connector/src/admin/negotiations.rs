//! Negotiations as our operator sees and decides them.

use std::sync::Arc;
use std::time::Duration;

use control_plane::ids::{DatasetId, ParticipantId};
use control_plane::negotiation::{Decision, Negotiation, State, UNKNOWN_OFFER, WaitsFor};
use control_plane::terms::Offer;
use control_plane::{Refusal, durable};
use proto::admin;
use store::{Collection, Signal};

use super::{MAX_WAIT_SECONDS, bad_argument, instant, next_page, page};
use crate::driver::negotiations::{self, ByHand};
use crate::driver::{comparison, records};
use crate::enforceable;
use crate::error::Error;
use crate::http;
use crate::node::Node;

/// Opens a negotiation about a dataset of the catalogue, and waits for its end if asked.
pub async fn open(node: &Arc<Node>, request: admin::NegotiateRequest) -> Result<admin::Negotiation, Error> {
    let dataset = DatasetId::parse(&request.dataset)?;
    let now = node.now();
    let (provider, address) = match (request.counterparty.as_str(), request.counterparty_address.as_str()) {
        ("", "") => (node.catalogue.publisher(&dataset, now)?, None),
        ("", _) | (_, "") => {
            return Err(bad_argument("counterparty and its address belong together"));
        }
        (_, _) if request.offer_text.is_empty() => {
            return Err(bad_argument("a dataset of another catalogue needs the whole offer"));
        }
        (participant, address) => {
            let provider = ParticipantId::parse(participant)?;
            (provider.clone(), Some(http::counterparty(node, &provider, address)?))
        }
    };
    let offer = if request.offer_text.is_empty() {
        chosen(node.catalogue.offers(&dataset, now)?, &request)?
    } else {
        canonical(node, &request.offer_text)?
    };
    if *offer.target() != dataset {
        return Err(bad_argument(format!("the offer's target is `{}`", offer.target())));
    }
    // What this connector would not understand it cannot hold: better refused now than after delivery.
    enforceable::require_between(&*node.policies.compiled(offer.text())?, address.is_some())?;
    let ceiling = comparison::chosen_ceiling(node, &request.ceiling_text)?;
    if let Some(ceiling) = &ceiling {
        comparison::require_within(node, &offer, ceiling).await?;
    }
    let opened = negotiations::open(node, provider, offer, address, ceiling).await?;
    let pid = opened.pids().ours().to_owned();
    told(node, &settled(node, &pid, request.wait_seconds).await?).await
}

/// One negotiation, once it ends or needs us if a wait is asked.
pub async fn show(
    node: &Arc<Node>,
    request: admin::ShowNegotiationRequest,
) -> Result<admin::Negotiation, Error> {
    told(node, &settled(node, &request.id, request.wait_seconds).await?).await
}

/// All negotiations, oldest first.
pub async fn list(node: &Arc<Node>, request: admin::PageRequest) -> Result<admin::NegotiationList, Error> {
    let (rows, after) = page(&request);
    let found = node
        .store
        .read(move |store| store.scan(Collection::Negotiations, "", after.as_deref(), rows))
        .await?;
    let decoded = found.iter().map(|row| {
        let read = durable::decode_negotiation(&row.value);
        read.map(|negotiation| shown(&negotiation)).map_err(|cause| Error::damaged(&row.key, cause))
    });
    Ok(admin::NegotiationList {
        negotiations: decoded.collect::<Result<_, _>>()?,
        next_page_token: next_page(rows, found.last(), found.len()),
    })
}

/// Accepts what is on the table.
pub async fn accept(
    node: &Arc<Node>,
    request: admin::DecideNegotiationRequest,
) -> Result<admin::Negotiation, Error> {
    negotiations::decide(node, &request.id, ByHand::Accept).await.map(|negotiation| shown(&negotiation))
}

/// Puts other terms on the table.
pub async fn counter(
    node: &Arc<Node>,
    request: admin::CounterNegotiationRequest,
) -> Result<admin::Negotiation, Error> {
    let offer = canonical(node, &request.offer_text)?;
    negotiations::decide(node, &request.id, ByHand::Counter(offer))
        .await
        .map(|negotiation| shown(&negotiation))
}

/// Ends a negotiation without agreement.
pub async fn terminate(
    node: &Arc<Node>,
    request: admin::DecideNegotiationRequest,
) -> Result<admin::Negotiation, Error> {
    let decision = ByHand::Terminate(request.reason);
    negotiations::decide(node, &request.id, decision).await.map(|negotiation| shown(&negotiation))
}

/// The offer that was asked for; a dataset with one offer needs no choice.
fn chosen(offers: Vec<(String, String)>, request: &admin::NegotiateRequest) -> Result<Offer, Error> {
    let unknown = |detail: String| Error::from(Refusal::new(&UNKNOWN_OFFER, detail));
    let text = match (offers.as_slice(), request.offer.as_str()) {
        ([], _) => return Err(unknown(format!("`{}` has no active offer", request.dataset))),
        ([(_, text)], "") => text,
        (several, "") => {
            let ids: Vec<&str> = several.iter().map(|(id, _)| id.as_str()).collect();
            return Err(bad_argument(format!("several offers, choose one with --offer: {}", ids.join(" "))));
        }
        (several, wanted) => {
            let found = several.iter().find(|(id, _)| id == wanted);
            &found.ok_or_else(|| unknown(format!("`{wanted}`")))?.1
        }
    };
    Ok(Offer::parse(text)?)
}

/// A person's JSON in its canonical form.
fn canonical(node: &Node, text: &str) -> Result<Offer, Error> {
    let policy =
        policy::Policy::from_json(text, node.policies.profiles()).map_err(|problems| problems.first())?;
    Ok(Offer::parse(policy.canonical_text())?)
}

/// Waits until the negotiation ends or needs a person of ours, for at most `seconds`.
///
/// Any negotiation's step wakes all that wait: so a row that is the one seen last is not decoded again.
async fn settled(node: &Arc<Node>, pid: &str, seconds: u32) -> Result<Negotiation, Error> {
    let mut changed = node.store.subscribe(Signal::Rows(Collection::Negotiations));
    let wait = Duration::from_secs(u64::from(seconds.min(MAX_WAIT_SECONDS)));
    let deadline = tokio::time::Instant::now() + wait;
    let mut negotiation = negotiations::get(node, pid).await?;
    let mut seen = None;
    loop {
        let over =
            negotiation.state_name().is_terminal() || matches!(negotiation.waits_for(), WaitsFor::Us(_));
        if over || tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
            return Ok(negotiation);
        }
        let key = pid.to_owned();
        let newer = node.store.read(move |store| records::negotiation_newer_than(store, &key, seen)).await?;
        if let Some((version, newer)) = newer {
            (seen, negotiation) = (Some(version), newer);
        }
    }
}

/// A negotiation, with the reason why a rule left it to us.
async fn told(node: &Arc<Node>, negotiation: &Negotiation) -> Result<admin::Negotiation, Error> {
    let reason = comparison::left_to_people(node, negotiation).await?;
    let shown = shown(negotiation);
    Ok(admin::Negotiation { reason: reason.unwrap_or(shown.reason), ..shown })
}

fn shown(negotiation: &Negotiation) -> admin::Negotiation {
    let table = negotiation.table();
    let (agreement, code, reason) = match negotiation.state() {
        State::Agreed { part, .. } => (part.agreement().id().to_string(), String::new(), String::new()),
        State::Verified { signed } | State::Finalized { signed } => {
            (signed.agreement().id().to_string(), String::new(), String::new())
        }
        State::Terminated { cause, .. } => {
            (String::new(), cause.code().to_owned(), cause.reasons().join("; "))
        }
        State::Requested(_) | State::Offered(_) | State::Accepted(_) => Default::default(),
    };
    admin::Negotiation {
        id: negotiation.pids().ours().to_owned(),
        peer_pid: negotiation.pids().theirs().unwrap_or_default().to_owned(),
        role: negotiation.role().to_string(),
        counterparty: negotiation.counterparty().to_string(),
        dataset: negotiation.dataset().to_string(),
        state: negotiation.state_name().as_str().to_owned(),
        waits_for: match negotiation.waits_for() {
            WaitsFor::Us(decision) => format!("us: {}", decision_name(decision)),
            WaitsFor::Peer => "peer".to_owned(),
            WaitsFor::Nobody => String::new(),
        },
        offer: table.map(|table| table.offer.id().to_string()).unwrap_or_default(),
        offer_text: table.map(|table| table.offer.text().to_owned()).unwrap_or_default(),
        terms_altered: table.is_some_and(|table| table.terms_altered),
        agreement,
        code,
        reason,
        updated: instant(negotiation.updated()),
    }
}

const fn decision_name(decision: Decision) -> &'static str {
    match decision {
        Decision::Request { .. } => "accept, counter or terminate the request",
        Decision::Offer { .. } => "accept, counter or terminate the offer",
        Decision::Acceptance => "conclude",
        Decision::Agreement => "countersign",
        Decision::Verification => "finalize",
    }
}
