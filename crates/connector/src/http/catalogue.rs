//! Our own datasets as the protocol's catalogue, and a peer's as it shows them.

use std::sync::Arc;
use std::time::Duration;

use ::catalogue::index::{Listed, Query};
use ::catalogue::text::Texts;
use control_plane::Refusal;
use control_plane::ids::{DatasetId, ParticipantId};
use control_plane::pids::Role;
use control_plane::terms::Offer;
use dsp::catalogue::{Entry, Service};
use dsp::{Speaking, below};
use hyper::header::LINK;
use serde_json::Value;

use super::client;
use super::server::FILTER;
use crate::caller::Caller;
use crate::error::Error;
use crate::fresh;
use crate::node::Node;

control_plane::refusal_codes! {
    REFUSED = "dsp/refused-by-peer", Policy,
        "the peer does not show its catalogue", "對方不出示其目錄", "对方不出示其目录",
        clause "DSP 2025-1, 1.3", next "read the peer's reason; ask its operator";
}

/// A peer that says nothing for this long is asked again by a person.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Datasets of one page: a page of the largest descriptions is still a message of a few MiB.
const PAGE_SIZE: usize = 100;

/// One page, with the token of the next.
pub struct Page {
    /// The document.
    pub catalog: Value,
    /// Where to go on.
    pub next: Option<String>,
}

/// The datasets that we publish and `caller` can be shown.
pub fn page(node: &Arc<Node>, caller: &Caller, request: &Value, token: &str) -> Result<Page, Error> {
    let filtered = match request.get("filter") {
        None | Some(Value::Null) => false,
        Some(Value::Array(conditions)) => !conditions.is_empty(),
        Some(_) => true,
    };
    if filtered {
        return Err(Refusal::new(&FILTER, "").into());
    }
    let names = super::names(node, caller.id())?;
    let query = Query {
        publisher: Some(node.us.clone()),
        page_size: PAGE_SIZE,
        page_token: token.to_owned(),
        ..Query::default()
    };
    let found = node.catalogue.search(query, node.now())?;
    let entries = found.hits.iter().map(|hit| entry(node, &hit.listed)).collect::<Result<Vec<_>, _>>()?;
    let speaking = Speaking { names: &names, role: Role::Provider };
    let (catalog, left_out) =
        dsp::catalogue::write_catalog(&fresh::urn(), &entries, &service(node)?, speaking);
    if left_out > 0 {
        tracing::info!(peer = %caller.id(), left_out, "datasets whose offers the protocol cannot carry are not shown");
    }
    Ok(Page { catalog, next: found.next })
}

/// One dataset of ours; what others publish is not ours to show.
pub fn dataset(node: &Arc<Node>, caller: &Caller, id: &str) -> Result<Value, Error> {
    let names = super::names(node, caller.id())?;
    let id = DatasetId::parse(&names.read(id, Role::Provider))?;
    let listed = node.catalogue.get(&id, node.now())?;
    if listed.description.publisher != node.us {
        return Err(Refusal::new(&::catalogue::log::UNKNOWN_DATASET, id.as_str()).into());
    }
    let speaking = Speaking { names: &names, role: Role::Provider };
    Ok(dsp::catalogue::write_dataset(&entry(node, &listed)?, &service(node)?, speaking)?)
}

/// A page of a peer's catalogue.
pub struct PeerPage {
    /// What is understood.
    pub entries: Vec<Entry>,
    /// What is not.
    pub problems: Vec<Refusal>,
    /// Where to go on.
    pub next: Option<String>,
}

/// Asks `peer` at `address` what it offers; `token` is where the page before ended.
pub async fn of_peer(
    node: &Arc<Node>,
    peer: &ParticipantId,
    address: &str,
    token: &str,
) -> Result<PeerPage, Error> {
    let address = super::counterparty(node, peer, address)?;
    node.require_not_suspended(peer)?;
    let config = node.config.load_full();
    let settings = config.dsp_http.as_ref().ok_or_else(|| Refusal::new(&super::NOT_SPOKEN, ""))?;
    let first = below(address.as_str(), "catalog/request");
    // What a peer calls its next page is its own: but it must be a page of this catalogue.
    let url = if token.is_empty() { first } else { continued(&first, token)? };
    let body = serde_json::to_vec(&dsp::catalogue::write_request()).map_err(Error::ours)?;
    let largest = config.limits.message_bytes as usize;
    let asked = client::post(node, settings, peer, &url, body, largest);
    let answer = tokio::time::timeout(PAGE_TIMEOUT, asked)
        .await
        .map_err(|_| Refusal::new(&client::NOT_REACHED, "no answer in time"))??;
    let value = dsp::parse(&answer.body)?;
    if answer.status != 200 {
        let (code, reason) = dsp::error::read(&value);
        let told = format!("HTTP {}: {code} {reason}", answer.status);
        return Err(Refusal::new(&REFUSED, told).into());
    }
    let names = super::names(node, peer)?;
    let speaking = Speaking { names: &names, role: Role::Consumer };
    let (entries, problems) = dsp::catalogue::read_catalog(&value, speaking, &*node.policies)?;
    let links = answer.headers.get_all(LINK).iter().filter_map(|link| link.to_str().ok());
    Ok(PeerPage { entries, problems, next: links.filter_map(next_link).next() })
}

/// The URL of the next page, if it is one of the catalogue at `first`.
fn continued(first: &str, token: &str) -> Result<String, Refusal> {
    let same = token.strip_prefix(first).is_some_and(|rest| rest.starts_with(['?', '/']));
    if same {
        return Ok(token.to_owned());
    }
    Err(Refusal::new(&super::ADDRESS_NOT_USABLE, "the next page is at another address"))
}

/// The target of a `Link` header of relation `next`.
fn next_link(link: &str) -> Option<String> {
    let one = |one: &str| {
        let (target, parameters) = one.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.split(';').any(|parameter| {
            matches!(parameter.trim().to_ascii_lowercase().as_str(), "rel=next" | "rel=\"next\"")
        });
        next.then(|| target.to_owned())
    };
    link.split(',').find_map(one)
}

fn entry(node: &Node, listed: &Listed) -> Result<Entry, Refusal> {
    let description = &listed.description;
    Ok(Entry {
        dataset: description.dataset.clone(),
        titles: texts(&description.titles),
        descriptions: texts(&description.descriptions),
        offers: description.offers.iter().map(|offer| Offer::parse(&offer.text)).collect::<Result<_, _>>()?,
        formats: super::formats(node).iter().map(|format| (*format).to_owned()).collect(),
    })
}

fn texts(texts: &Texts) -> Vec<(String, String)> {
    texts.iter().map(|(language, text)| (text.to_owned(), language.tag().to_owned())).collect()
}

fn service(node: &Node) -> Result<Service, Refusal> {
    let endpoint = super::base(node)?;
    Ok(Service { id: endpoint.clone(), endpoint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_pages() {
        for (link, expected) in [
            ("<https://a/x?t=1>; rel=\"next\"", Some("https://a/x?t=1")),
            ("<https://a/p>; rel=\"prev\", <https://a/n>; rel=next", Some("https://a/n")),
            ("<https://a/p>; rel=\"previous\"", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(next_link(link).as_deref(), expected, "{link}");
        }
        let first = "https://a/dsp/catalog/request";
        for (token, good) in [
            ("https://a/dsp/catalog/request?t=1", true),
            ("https://a/dsp/catalog/requests?t=1", false),
            ("https://b/dsp/catalog/request?t=1", false),
            ("http://127.0.0.1/", false),
        ] {
            assert_eq!(continued(first, token).is_ok(), good, "{token}");
        }
    }
}
