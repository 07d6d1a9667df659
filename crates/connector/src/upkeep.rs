//! Forgets what the settings say may be forgotten: message ids and ended processes. Agreements and ledger stay.

use std::sync::Arc;
use std::time::Duration;

use control_plane::UnixMillis;
use control_plane::durable;
use store::{Collection, Expect};

use crate::error::Error;
use crate::node::Node;

/// Retention is counted in days; an hour more or less does not matter.
const EVERY: Duration = Duration::from_secs(3600);
/// Rows forgotten in one transaction: other writers wait for it.
const BATCH: usize = 200;

/// Forgets once an hour until the node stops.
pub async fn run(node: Arc<Node>) {
    loop {
        if let Err(error) = round(&node).await {
            tracing::warn!(%error, "could not forget what may be forgotten");
        }
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(node: &Arc<Node>) -> Result<(), Error> {
    let retention = node.config.load().retention;
    let now = node.now();
    let before = |kept: Duration| now.plus_millis(-i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
    let (ids, processes) = (before(retention.message_ids), before(retention.ended_processes));
    while node.store.write(move |tx| tx.seen_prune(ids, BATCH).map_err(Error::from)).await? == BATCH {}
    for collection in [Collection::Negotiations, Collection::Transfers] {
        forget_ended(node, collection, processes).await?;
    }
    Ok(())
}

async fn forget_ended(node: &Arc<Node>, collection: Collection, before: UnixMillis) -> Result<(), Error> {
    let mut after: Option<String> = None;
    loop {
        let from = after.clone();
        let last = node
            .store
            .write(move |tx| {
                let rows = tx.scan(collection, "", from.as_deref(), BATCH)?;
                for row in &rows {
                    if ended_before(collection, &row.value, before) {
                        tx.delete(collection, &row.key, Expect::Version(row.version))?;
                    }
                }
                Ok::<_, Error>(rows.last().map(|row| row.key.clone()))
            })
            .await?;
        if last.is_none() {
            return Ok(());
        }
        after = last;
    }
}

/// A row that does not read back is kept: somebody must look at it.
fn ended_before(collection: Collection, row: &[u8], before: UnixMillis) -> bool {
    let (ended, updated) = match collection {
        Collection::Negotiations => match durable::decode_negotiation(row) {
            Ok(negotiation) => (negotiation.state_name().is_terminal(), negotiation.updated()),
            Err(_) => return false,
        },
        _ => match durable::decode_transfer(row) {
            Ok(process) => (process.state_name().is_terminal(), process.updated()),
            Err(_) => return false,
        },
    };
    ended && updated.is_some_and(|updated| updated < before)
}
