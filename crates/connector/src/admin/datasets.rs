//! Our datasets and the shared catalogue as our operator publishes, withdraws, finds and reads them.

use std::sync::Arc;

use catalogue::index::{Hit, Listed, Query};
use catalogue::report::Problem;
use catalogue::text::{Language, Texts};
use control_plane::Refusal;
use control_plane::ids::{DatasetId, ParticipantId};
use control_plane::terms::Offer;
use proto::admin;

use super::agreements::{clauses, language};
use super::holdings::expand;
use super::page;
use crate::catalogue::{DatasetRow, datasets, envelope, envelope_hash, publication};
use crate::error::Error;
use crate::http;
use crate::node::Node;

/// The state of what is in the catalogue; the others are not shown.
const ACTIVE: &str = "active";
/// The state of a dataset that was only checked.
const CHECKED: &str = "checked";

/// Checks and publishes a dataset.
pub async fn publish(
    node: &Arc<Node>,
    request: admin::PublishDatasetRequest,
) -> Result<admin::PublishedDataset, Error> {
    let purpose = expand(&request.purpose);
    let draft = publication::Draft {
        turtle: &request.turtle,
        source: &request.source,
        transform: &request.transform,
        purpose: &purpose,
    };
    let published = publication::publish(node, draft, request.dry_run).await?;
    let mut rendered = Vec::new();
    for offer in &published.description.offers {
        rendered.extend(clauses(&*node.policies.compiled(&offer.text)?, policy::Lang::En));
    }
    let mut shown = row(published.row);
    if request.dry_run {
        CHECKED.clone_into(&mut shown.state);
    }
    Ok(admin::PublishedDataset {
        warnings: published.warnings.iter().map(Problem::to_string).collect(),
        clauses: rendered,
        ..shown
    })
}

/// Takes a dataset out of the catalogue.
pub async fn withdraw(
    node: &Arc<Node>,
    request: admin::WithdrawDatasetRequest,
) -> Result<admin::PublishedDataset, Error> {
    let dataset = DatasetId::parse(&request.dataset)?;
    Ok(row(publication::withdraw(node, &dataset).await?))
}

/// What we published, withdrawn datasets included.
pub async fn list(node: &Arc<Node>, request: admin::PageRequest) -> Result<admin::DatasetList, Error> {
    let (rows, after) = page(&request);
    let found = node.store.read(move |store| datasets(store, after.as_deref(), rows)).await?;
    let next = found.last().filter(|_| found.len() == rows).map(|last| last.dataset.clone());
    Ok(admin::DatasetList {
        datasets: found.into_iter().map(row).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

/// The datasets of all participants that fit.
pub async fn search(
    node: &Arc<Node>,
    request: admin::SearchCatalogueRequest,
) -> Result<admin::SearchCatalogueResponse, Error> {
    let given = |text: String| (!text.is_empty()).then_some(text);
    let language = Language::of_tag(&request.language);
    let query = Query {
        text: request.text,
        keyword: given(request.keyword),
        theme: given(request.theme),
        publisher: given(request.publisher).map(|publisher| ParticipantId::parse(&publisher)).transpose()?,
        purposes: given(request.purpose).map(|purpose| expand(&purpose)).into_iter().collect(),
        language: Some(language.clone()),
        page_size: usize::try_from(request.page_size).unwrap_or(usize::MAX),
        page_token: request.page_token,
        ..Query::default()
    };
    let found = node.catalogue.search(query, node.now())?;
    Ok(admin::SearchCatalogueResponse {
        hits: found.hits.into_iter().map(|found| hit(found, &language)).collect(),
        total: u64::try_from(found.total).unwrap_or(u64::MAX),
        next_page_token: found.next.unwrap_or_default(),
    })
}

/// One entry of the catalogue with its offers as clauses.
pub async fn show(
    node: &Arc<Node>,
    request: admin::ShowCatalogueEntryRequest,
) -> Result<admin::CatalogueEntry, Error> {
    let dataset = DatasetId::parse(&request.dataset)?;
    let Listed { description, epoch, seq, issued, expires } = node.catalogue.get(&dataset, node.now())?;
    let stored = envelope(node, description.publisher.clone(), epoch, seq).await?;
    let mut offers = Vec::new();
    for offer in &description.offers {
        // An offer that this connector does not understand is shown as it stands: it only cannot be negotiated.
        let rendered = match node.policies.compiled(&offer.text) {
            Ok(policy) => clauses(&policy, language(&request.language)),
            Err(refusal) => {
                let warning = refusal.to_string();
                vec![admin::Clause {
                    warnings: vec![warning],
                    kind: "general".to_owned(),
                    ..admin::Clause::default()
                }]
            }
        };
        offers.push(admin::CatalogueOffer {
            id: offer.id.to_string(),
            text: offer.text.clone(),
            hash: offer.hash.to_string(),
            clauses: rendered,
        });
    }
    let keyword = |(language, value): &(Language, String)| text(language, value);
    let distributions = description.distributions.iter();
    Ok(admin::CatalogueEntry {
        dataset: description.dataset.to_string(),
        publisher: description.publisher.to_string(),
        titles: texts(&description.titles),
        descriptions: texts(&description.descriptions),
        keywords: description.keywords.iter().map(keyword).collect(),
        themes: description.themes.iter().cloned().collect(),
        derived_from: description.derived_from.iter().cloned().collect(),
        modified: description.modified.to_string(),
        issued: issued.to_string(),
        expires: expires.to_string(),
        state: ACTIVE.to_owned(),
        epoch,
        seq,
        envelope_hash: stored
            .as_ref()
            .and_then(envelope_hash)
            .map(|hash| hash.to_string())
            .unwrap_or_default(),
        offers,
        media_types: distributions.clone().filter_map(|one| one.media_type.clone()).collect(),
        publisher_enforces: description.enforces.iter().copied().map(u32::from).collect(),
        transforms: distributions.clone().filter_map(|one| one.transform.clone()).collect(),
        byte_size: distributions.filter_map(|one| one.byte_size).fold(0, u64::saturating_add),
    })
}

/// What a peer offers over HTTP, as it says itself.
pub async fn of_peer(
    node: &Arc<Node>,
    request: admin::PeerCatalogueRequest,
) -> Result<admin::PeerCatalogue, Error> {
    let peer = ParticipantId::parse(&request.counterparty)?;
    let read =
        http::catalogue::of_peer(node, &peer, &request.counterparty_address, &request.page_token).await?;
    let offer = |offer: &Offer| {
        let policy = node.policies.compiled(offer.text())?;
        Ok::<_, Refusal>(admin::CatalogueOffer {
            id: offer.id().to_string(),
            text: offer.text().to_owned(),
            hash: offer.hash().to_string(),
            clauses: clauses(&policy, language(&request.language)),
        })
    };
    let text = |(value, language): &(String, String)| admin::Text {
        language: language.clone(),
        value: value.clone(),
    };
    let dataset = |entry: &::dsp::catalogue::Entry| {
        Ok::<_, Refusal>(admin::PeerDataset {
            dataset: entry.dataset.to_string(),
            titles: entry.titles.iter().map(text).collect(),
            formats: entry.formats.clone(),
            offers: entry.offers.iter().map(offer).collect::<Result<_, _>>()?,
        })
    };
    Ok(admin::PeerCatalogue {
        datasets: read.entries.iter().map(dataset).collect::<Result<_, _>>()?,
        problems: read.problems.iter().map(ToString::to_string).collect(),
        next_page_token: read.next.unwrap_or_default(),
    })
}

fn row(row: DatasetRow) -> admin::PublishedDataset {
    admin::PublishedDataset {
        dataset: row.dataset,
        title: row.title,
        offer: row.offer,
        offer_hash: row.offer_hash,
        seq: row.seq,
        objects: row.objects,
        bytes: row.bytes,
        manifest_digest: row.manifest_digest,
        source: row.source,
        state: row.state.as_str().to_owned(),
        warnings: Vec::new(),
        clauses: Vec::new(),
        transform: row.transform,
    }
}

fn hit(hit: Hit, language: &Language) -> admin::CatalogueHit {
    let description = &hit.listed.description;
    let in_language = description.keywords.iter().filter(|(of, _)| of == language);
    let keywords: Vec<String> = in_language.map(|(_, keyword)| keyword.clone()).collect();
    let any = || description.keywords.iter().map(|(_, keyword)| keyword.clone()).collect();
    admin::CatalogueHit {
        dataset: description.dataset.to_string(),
        title: hit.title.1,
        description: hit.summary.1,
        publisher: description.publisher.to_string(),
        modified: description.modified.to_string(),
        state: ACTIVE.to_owned(),
        keywords: if keywords.is_empty() { any() } else { keywords },
    }
}

fn texts(of: &Texts) -> Vec<admin::Text> {
    of.iter().map(|(language, value)| text(language, value)).collect()
}

fn text(language: &Language, value: &str) -> admin::Text {
    admin::Text { language: language.tag().to_owned(), value: value.to_owned() }
}
