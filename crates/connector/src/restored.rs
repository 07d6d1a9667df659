//! After a restore: nothing that was spent or revoked comes back.
//!
//! A backup's counters may lie behind what was really used. Agreements that count stay closed until their provider
//! was reached: it tells how long our ledger was when it last saw it. If that is no more than what was restored,
//! nothing with this provider was lost and they open; otherwise they stay closed for good and a new agreement is
//! needed.

use std::sync::Arc;

use control_plane::ids::{AgreementId, ParticipantId};
use store::{Collection, Expect, Snapshot, Tx};

use crate::data::{holdings, uses};
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

/// Local row: the ledger's size right after the restore.
const RESTORED_SIZE: &str = "restored-ledger-size";
/// Prefix of the local rows that close an agreement.
const UNCONFIRMED: &str = "unconfirmed ";

/// The row that closes an agreement after a restore.
fn unconfirmed_key(agreement: &str) -> String {
    format!("{UNCONFIRMED}{agreement}")
}

/// Whether an agreement is closed because of a restore.
pub fn is_closed(store: &Snapshot<'_>, agreement: &AgreementId) -> Result<bool, Error> {
    Ok(store.get(Collection::Local, &unconfirmed_key(agreement.as_str()))?.is_some())
}

/// At start: closes every agreement that counts, if the store was restored and this was not done yet.
pub async fn close_counted(node: &Arc<Node>) -> Result<(), Error> {
    let (worker, now) = (node.clone(), node.now());
    node.store
        .write(move |tx| {
            if tx.restored_at()?.is_none() || tx.get(Collection::Local, RESTORED_SIZE)?.is_some() {
                return Ok(());
            }
            let size = tx.ledger_head()?.size;
            tx.put(Collection::Local, RESTORED_SIZE, size.to_string().as_bytes(), Expect::Absent)?;
            let mut after = None;
            loop {
                let rows = tx.scan(Collection::Holdings, "", after.as_deref(), store::MAX_PAGE)?;
                let Some(last) = rows.last() else { break };
                after = Some(last.key.clone());
                for row in &rows {
                    let id = AgreementId::parse(&row.key)?;
                    let Some(held) = records::agreement(tx, &id)? else { continue };
                    let policy = worker.policies.compiled(held.signed.agreement().text())?;
                    let spent = tx.counter(&holdings::uses_counter(&id))?;
                    if uses::uses_left(&policy, spent, now).is_some() {
                        let assigner = held.signed.agreement().assigner().as_str();
                        tx.put(
                            Collection::Local,
                            &unconfirmed_key(&row.key),
                            assigner.as_bytes(),
                            Expect::Any,
                        )?;
                    }
                }
            }
            tracing::warn!(
                ledger = size,
                "the state was restored from a backup: counted agreements wait for their providers"
            );
            records::append_fields(tx, "state-restored", now, [("ledgerSize", size.to_string())])
        })
        .await
}

/// A provider told how long our ledger was when it last saw it: opens its agreements if nothing was lost.
pub async fn provider_reached(node: &Arc<Node>, provider: &ParticipantId, seen: u64) -> Result<(), Error> {
    let name = provider.clone();
    let closed = node.store.read(move |store| closed_with(store, &name)).await?;
    if closed.is_empty() {
        return Ok(());
    }
    let (provider, now) = (provider.clone(), node.now());
    node.store
        .write(move |tx| {
            let Some(row) = tx.get(Collection::Local, RESTORED_SIZE)? else { return Ok(()) };
            let restored: u64 = String::from_utf8_lossy(&row.value)
                .parse()
                .map_err(|error| Error::damaged(RESTORED_SIZE, error))?;
            if seen > restored {
                tracing::error!(%provider, seen, restored, "records were lost with the restore: its counted agreements stay closed");
                return Ok(());
            }
            for key in &closed {
                tx.delete(Collection::Local, key, Expect::Any)?;
            }
            let fields = [("provider", provider.to_string()), ("agreements", closed.len().to_string())];
            records::append_fields(tx, "restore-confirmed", now, fields)?;
            settle(tx)
        })
        .await
}

fn closed_with(store: &Snapshot<'_>, provider: &ParticipantId) -> Result<Vec<String>, Error> {
    let rows = store.scan(Collection::Local, UNCONFIRMED, None, store::MAX_PAGE)?;
    Ok(rows.into_iter().filter(|row| row.value == provider.as_str().as_bytes()).map(|row| row.key).collect())
}

/// The caution ends with the last agreement that waited.
fn settle(tx: &Tx<'_>) -> Result<(), Error> {
    if tx.scan(Collection::Local, UNCONFIRMED, None, 1)?.is_empty() {
        tx.restore_settled()?;
        tx.delete(Collection::Local, RESTORED_SIZE, Expect::Any)?;
    }
    Ok(())
}
