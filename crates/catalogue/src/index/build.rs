//! Filling the index: one envelope at a time, or everything from the log.

use std::sync::Arc;

use control_plane::ids::{DatasetId, ParticipantId};
use oxrdf::NamedNode;

use super::{Document, Index, IndexError, RebuildError};
use crate::description::{SelfDescription, quads_of, read_canonical};
use crate::envelope::Kind;
use crate::log::{
    Admitted, DAMAGED_RECORD, Entry, LogError, LogReader, Published, each_entry, envelope_at, heads,
};
use crate::scope::PublisherScope;

/// Heads read at once.
const HEADS_PAGE: usize = 256;

pub(super) fn apply(index: &mut Index, admitted: &Admitted) -> Result<(), IndexError> {
    let publisher = &admitted.header.publisher;
    let epoch_before = index.heads.insert(publisher.clone(), admitted.head.clone()).map(|head| head.epoch);
    if epoch_before.is_some_and(|epoch| epoch != admitted.header.epoch) {
        forget(index, publisher)?;
    }
    match (&admitted.header.kind, &admitted.published) {
        (_, Some(Published { description, entry })) => {
            insert(index, description.clone(), entry.clone(), &admitted.envelope.content)
        }
        (Kind::Withdraw { dataset }, None) => remove(index, dataset),
        (Kind::Publish { .. } | Kind::Renew { .. }, None) => Ok(()),
    }
}

pub(super) fn rebuild<R: LogReader>(reader: &R) -> Result<Index, RebuildError<R::Error>> {
    let mut index = Index::new()?;
    let mut after: Option<ParticipantId> = None;
    loop {
        let page = heads(reader, after.as_ref(), HEADS_PAGE)?;
        let Some(last) = page.last() else { return Ok(index) };
        after = Some(last.publisher.clone());
        for head in page {
            let publisher = head.publisher.clone();
            let epoch = head.epoch;
            index.heads.insert(publisher.clone(), head);
            let mut live = Vec::new();
            each_entry(reader, &publisher, |dataset, entry| {
                if entry.epoch == epoch && !entry.withdrawn {
                    live.push((DatasetId::parse(dataset)?, entry));
                }
                Ok(())
            })?;
            for (dataset, entry) in live {
                let damaged =
                    || LogError::from(control_plane::Refusal::new(&DAMAGED_RECORD, dataset.to_string()));
                let envelope =
                    envelope_at(reader, &publisher, entry.epoch, entry.seq)?.ok_or_else(damaged)?;
                let scope = PublisherScope {
                    participant: publisher.clone(),
                    subject_base: entry.subject_base.clone(),
                };
                let description =
                    read_canonical(&envelope.content, &dataset, &scope).map_err(IndexError::Content)?;
                insert(&mut index, description, entry, &envelope.content)?;
            }
        }
    }
}

fn insert(
    index: &mut Index,
    description: SelfDescription,
    entry: Entry,
    content: &[u8],
) -> Result<(), IndexError> {
    let dataset = description.dataset.clone();
    let quads = quads_of(content, &dataset).map_err(IndexError::Content)?;
    index.statements.replace(&NamedNode::new_unchecked(dataset.as_str()), quads)?;
    if let Some(old) = index.documents.remove(&dataset) {
        index.postings.remove(&old.description);
    }
    index.postings.add(&description);
    index.documents.insert(dataset, Document { description: Arc::new(description), entry });
    Ok(())
}

fn remove(index: &mut Index, dataset: &DatasetId) -> Result<(), IndexError> {
    if let Some(old) = index.documents.remove(dataset) {
        index.postings.remove(&old.description);
        index.statements.replace(&NamedNode::new_unchecked(dataset.as_str()), Vec::new())?;
    }
    Ok(())
}

fn forget(index: &mut Index, publisher: &ParticipantId) -> Result<(), IndexError> {
    let theirs = index.documents.iter().filter(|(_, document)| document.description.publisher == *publisher);
    let datasets: Vec<DatasetId> = theirs.map(|(dataset, _)| dataset.clone()).collect();
    datasets.iter().try_for_each(|dataset| remove(index, dataset))
}
