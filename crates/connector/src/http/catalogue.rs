//! Our own datasets as the protocol's catalogue.

use std::sync::Arc;

use ::catalogue::index::{Listed, Query};
use ::catalogue::text::Texts;
use control_plane::Refusal;
use control_plane::ids::DatasetId;
use control_plane::pids::Role;
use control_plane::terms::Offer;
use dsp::Speaking;
use dsp::catalogue::{Entry, Service};
use serde_json::Value;

use super::server::FILTER;
use crate::caller::Caller;
use crate::error::Error;
use crate::fresh;
use crate::node::Node;

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
