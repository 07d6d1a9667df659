//! What was passed on follows the agreement that it rests on: ended, suspended and resumed with it.
//!
//! The state wanted is computed from the agreement's, and each difference is one transaction. So a crash between two of
//! them loses nothing: the next look, at the latest after the start, finds what is left to do.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use control_plane::ids::{AgreementId, DatasetId};
use control_plane::pids::Role;
use control_plane::status::AgreementStatus;
use store::{Collection, crash_point};
use tokio::time::Instant;

use super::{SOURCE_ENDED, SOURCE_SUSPENDED, Standing, source_of, standing};
use crate::catalogue::{self, publication};
use crate::driver::agreements::{self, Because, Change};
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

/// Dates pass without anybody saying so: this often they are looked at. Everything else wakes the look at once.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after a look that failed, e.g. because the disk is full.
const RETRY: Duration = Duration::from_secs(5);

/// What was found in line is looked through again after this time. Agreements may be many, and what moves them, the
/// standing of their source, is looked at each time.
const AGAIN: Duration = Duration::from_secs(60);

/// When the agreements on each dataset were last found in line, and with what.
type InLine = HashMap<DatasetId, (Discriminant<Standing>, Instant)>;

/// Looks until the node stops.
pub async fn run(node: Arc<Node>) {
    let mut in_line = InLine::new();
    loop {
        let wait = match look(&node, &mut in_line).await {
            Ok(()) => LOOK,
            Err(error) => {
                tracing::warn!(%error, "what was passed on could not follow its source; it is tried again");
                RETRY
            }
        };
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = node.data.onward.notified() => {}
        }
    }
}

/// One look at every dataset that passes a held copy on; what fails for one keeps the others from nothing.
async fn look(node: &Arc<Node>, in_line: &mut InLine) -> Result<(), Error> {
    // Without a clock that is trusted nothing is served either.
    let Ok(_) = node.clock.trusted_now() else { return Ok(()) };
    let (mut after, mut outcome) = (None::<String>, Ok(()));
    loop {
        let from = after.clone();
        let page = node.store.read(move |store| catalogue::onward(store, from.as_deref())).await?;
        let Some(last) = page.last() else { return outcome };
        after = Some(last.clone());
        for dataset in page {
            let followed = follow(node, &DatasetId::parse(&dataset)?, in_line).await;
            outcome = outcome.and(followed);
        }
    }
}

async fn follow(node: &Arc<Node>, dataset: &DatasetId, in_line: &mut InLine) -> Result<(), Error> {
    let (worker, id) = (node.clone(), dataset.clone());
    let now = node.now();
    let read = move |store: &store::Snapshot<'_>| {
        let Some(source) = source_of(store, &id)? else { return Ok(None) };
        let standing = standing(&worker, store, &source, now)?;
        Ok::<_, Error>(Some((source, standing, catalogue::is_published(store, &id)?)))
    };
    let Some((source, standing, published)) = node.store.read(read).await? else { return Ok(()) };
    let kind = discriminant(&standing);
    let settled = in_line.get(dataset).is_some_and(|(known, at)| *known == kind && at.elapsed() < AGAIN);
    if !settled {
        for agreement in below(node, dataset, &standing).await? {
            bring_into_line(node, &source, agreement).await?;
            crash_point("onward-agreement-followed");
        }
        in_line.insert(dataset.clone(), (kind, Instant::now()));
    }
    if let (Standing::Ended(refusal), true) = (&standing, published) {
        tracing::info!(%dataset, code = refusal.code.code, "withdrawn: what it rests on has ended");
        publication::withdraw_because(node, dataset, refusal.code.code).await?;
    }
    Ok(())
}

/// The agreements on a dataset whose status is not what `standing` wants.
async fn below(
    node: &Arc<Node>,
    dataset: &DatasetId,
    standing: &Standing,
) -> Result<Vec<AgreementId>, Error> {
    let (dataset, standing) = (dataset.to_string(), standing.clone());
    let read = move |store: &store::Snapshot<'_>| {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let rows = store.find(
                Collection::Agreements,
                records::TARGET,
                &dataset,
                after.as_deref(),
                store::MAX_PAGE,
            )?;
            let Some(last) = rows.last() else { return Ok::<_, Error>(found) };
            after = Some(last.key.clone());
            for row in &rows {
                let id = AgreementId::parse(&row.key)?;
                let held = records::agreement(store, &id)?;
                if held.is_some_and(|held| wanted(&held.status, &standing).is_some()) {
                    found.push(id);
                }
            }
        }
    };
    node.store.read(read).await
}

/// What must happen to an agreement that we granted, if anything must.
fn wanted(status: &AgreementStatus, standing: &Standing) -> Option<Change> {
    match (standing, status) {
        (Standing::Ended(_), AgreementStatus::Active | AgreementStatus::Suspended(_)) => Some(Change::Revoke),
        (Standing::Paused(_), AgreementStatus::Active) => Some(Change::Suspend),
        (Standing::Paused(_), AgreementStatus::Suspended(holds)) => {
            (!holds.held_by(Role::Provider)).then_some(Change::Suspend)
        }
        // What our operator suspended stays so.
        (Standing::Open, AgreementStatus::Suspended(holds)) => holds
            .of(Role::Provider)
            .is_some_and(|act| act.cause.code() == SOURCE_SUSPENDED.code)
            .then_some(Change::Resume),
        (Standing::Open, _) | (_, AgreementStatus::Revoked { .. } | AgreementStatus::Expired { .. }) => None,
    }
}

/// Brings one agreement into line, by what stands in the transaction that does it.
async fn bring_into_line(node: &Arc<Node>, source: &AgreementId, id: AgreementId) -> Result<(), Error> {
    let (worker, source, now) = (node.clone(), source.clone(), node.now());
    let changed = node
        .store
        .write(move |tx| {
            let Some(held) = records::agreement(tx, &id)? else { return Ok(None) };
            if agreements::role(&worker, &held) != Role::Provider {
                return Ok(None);
            }
            let standing = standing(&worker, tx, &source, now)?;
            let Some(change) = wanted(&held.status, &standing) else { return Ok(None) };
            let code = match change {
                Change::Revoke => &SOURCE_ENDED,
                Change::Suspend | Change::Resume => &SOURCE_SUSPENDED,
            };
            let because = Because { code: code.code, reason: code.en };
            agreements::change_in(&worker, tx, &held, change, because, now)
        })
        .await?;
    if let Some((held, ended)) = changed {
        agreements::settle(node, &held, ended);
        node.data.keys.rotate_if_owed(&node.store).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
