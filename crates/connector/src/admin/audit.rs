//! What auditors and officers see: exports of the ledger, and who holds which copies.

use std::sync::Arc;

use control_plane::ids::{AgreementId, ParticipantId};
use futures::StreamExt as _;
use proto::admin;
use proto::admin::export_audit_response::Step;
use store::Collection;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Answers, bad_argument, instant, next_page, page, refuse};
use crate::audit::copies::{self, Copy};
use crate::audit::export::{self, Piece};
use crate::audit::{Format, Scope, period};
use crate::error::Error;
use crate::node::Node;

/// Pieces on their way to the reader; each is a page of records.
const PIECES_AHEAD: usize = 2;

/// Streams an export.
pub async fn export(
    node: &Arc<Node>,
    request: admin::ExportAuditRequest,
) -> Result<Answers<admin::ExportAuditResponse>, Error> {
    let format = match request.format.as_str() {
        "json" => Format::Json,
        "csv" => Format::Csv,
        other => return Err(bad_argument(format!("`{other}` is neither json nor csv"))),
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (from, until) = match some(&request.period) {
        Some(text) => {
            let (from, until) = period::parse(&text)?;
            (Some(from), Some(until))
        }
        None => (None, None),
    };
    let scope = Scope {
        peer: some(&request.peer).map(|text| ParticipantId::parse(&text)).transpose()?,
        agreement: some(&request.agreement).map(|text| AgreementId::parse(&text)).transpose()?,
        from,
        until,
    };
    let (pieces, answers) = mpsc::channel(PIECES_AHEAD);
    let node = node.clone();
    tokio::spawn(async move {
        if let Err(error) = export::run(&node, format, scope, &pieces).await {
            drop(pieces.send(Err(error)).await);
        }
    });
    Ok(Box::pin(ReceiverStream::new(answers).map(|piece| {
        let step = match piece.map_err(refuse)? {
            Piece::Data(bytes) => Step::Data(bytes),
            Piece::Statement(statement) => Step::Statement(statement),
        };
        Ok(admin::ExportAuditResponse { step: Some(step) })
    })))
}

/// Agreements under which others hold, or held, copies of our data.
pub async fn list_copies(
    node: &Arc<Node>,
    request: admin::ListCopiesRequest,
) -> Result<admin::CopyList, Error> {
    let asked = admin::PageRequest { page_size: request.page_size, page_token: request.page_token };
    let (rows, after) = page(&asked);
    let consumer =
        (!request.consumer.is_empty()).then(|| ParticipantId::parse(&request.consumer)).transpose()?;
    let us = node.us.clone();
    let (copies, next) = node
        .store
        .read(move |store| {
            let found = store.scan(Collection::Agreements, "", after.as_deref(), rows)?;
            let copies = copies::of_rows(store, &us, &found, consumer.as_ref())?;
            Ok::<_, Error>((copies, next_page(rows, found.last(), found.len())))
        })
        .await?;
    let wanted = copies.iter().filter(|copy| request.all || copy.is_held());
    Ok(admin::CopyList { copies: wanted.map(shown).collect(), next_page_token: next })
}

fn shown(copy: &Copy) -> admin::Copy {
    let agreement = copy.held.signed.agreement();
    let state = match (copy.is_held(), &copy.deleted) {
        (true, _) => "held",
        (false, Some(_)) => "deleted",
        (false, None) => "not pulled",
    };
    let (deleted, proof) =
        copy.deleted.clone().map_or((None, String::new()), |(at, proof)| (Some(at), proof));
    admin::Copy {
        agreement: agreement.id().to_string(),
        consumer: agreement.assignee().to_string(),
        dataset: agreement.target().to_string(),
        agreement_status: copy.held.status.name().to_owned(),
        state: state.to_owned(),
        pulled: instant(copy.pulled),
        deleted: instant(deleted),
        deletion_proof: proof,
        late_duties: copy.late.clone(),
    }
}
