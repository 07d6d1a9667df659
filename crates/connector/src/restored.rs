//! After a restore: nothing that was spent or revoked comes back, and nothing is said twice.
//!
//! A backup's counters may lie behind what was really used. Agreements that count stay closed until their provider
//! was reached: it tells how long our ledger was when it last saw it. If that is no more than what was restored,
//! nothing with this provider was lost and they open; otherwise they stay closed for good and a new agreement is
//! needed.
//!
//! Our log in the catalogue may lie behind what replicas hold of it, and an envelope signed at a place that is taken
//! would be a second history. So nothing is published until every replica was asked for what we lack.

use std::sync::Arc;

use control_plane::ids::{AgreementId, ParticipantId};
use control_plane::{Refusal, UnixMillis};
use store::{Collection, Expect, Snapshot, Tx};

use crate::catalogue::replication::replicas;
use crate::data::uses;
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    CATALOGUE_UNCONFIRMED = "catalogue/restored-unconfirmed", Unavailable,
        "this state was restored from a backup, and not every replica was asked for what our log lacks",
        "此狀態自備份還原，尚未向所有副本查詢本方日誌所缺的部分", "此状态自备份恢复，尚未向所有副本查询本方日志所缺的部分",
        clause "catalogue: one history", next "wait until the named peers answer, or set `replicate = false` for one that is gone and send SIGHUP";
}

/// Local row: the ledger's size right after the restore.
const RESTORED_SIZE: &str = "restored-ledger-size";
/// Prefix of the local rows that close an agreement.
const UNCONFIRMED: &str = "unconfirmed ";
/// Prefix of the local rows that name a replica that was not asked yet.
const UNASKED: &str = "unasked-replica ";

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
    let replicas = replicas(&node.config.load());
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
                    if uses::uses_left(&policy, 0, now).is_some() {
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
            close_lent(tx, &worker, now)?;
            for replica in &replicas {
                tx.put(Collection::Local, &format!("{UNASKED}{replica}"), b"", Expect::Any)?;
            }
            tracing::warn!(
                ledger = size,
                "the state was restored from a backup: counted agreements wait for their providers, publications for replicas"
            );
            records::append_fields(tx, "state-restored", now, [("ledgerSize", size.to_string())])?;
            settle(tx)
        })
        .await
}

/// As provider: the counts that our leases were granted by may lie behind, too. The consumer tells how long our ledger
/// was when it last saw it.
fn close_lent(tx: &Tx<'_>, node: &Arc<Node>, now: UnixMillis) -> Result<(), Error> {
    let mut after = None;
    loop {
        let rows = tx.scan(Collection::Agreements, "", after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.key.clone());
        for row in &rows {
            let id = AgreementId::parse(&row.key)?;
            let Some(held) = records::agreement(tx, &id)? else { continue };
            let agreement = held.signed.agreement();
            if *agreement.assigner() != node.us {
                continue;
            }
            let policy = node.policies.compiled(agreement.text())?;
            if policy.lease_millis().is_some() && uses::uses_left(&policy, 0, now).is_some() {
                let assignee = agreement.assignee().as_str().as_bytes();
                tx.put(Collection::Local, &unconfirmed_key(&row.key), assignee, Expect::Any)?;
            }
        }
    }
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

/// A replica told how far it holds our log, and we hold it as far.
pub async fn replica_asked(node: &Arc<Node>, replica: &ParticipantId) -> Result<(), Error> {
    let key = format!("{UNASKED}{replica}");
    let row = key.clone();
    let unasked = move |store: &Snapshot<'_>| store.get(Collection::Local, &row).map_err(Error::from);
    if node.store.read(unasked).await?.is_none() {
        return Ok(());
    }
    node.store
        .write(move |tx| {
            tx.delete(Collection::Local, &key, Expect::Any)?;
            settle(tx)
        })
        .await
}

/// Refuses while one of our `replicas` was not asked since a restore.
pub fn require_replicas_asked(store: &Snapshot<'_>, replicas: &[ParticipantId]) -> Result<(), Error> {
    let mut unasked = Vec::new();
    for replica in replicas {
        if store.get(Collection::Local, &format!("{UNASKED}{replica}"))?.is_some() {
            unasked.push(replica.as_str());
        }
    }
    if unasked.is_empty() {
        Ok(())
    } else {
        Err(Refusal::new(&CATALOGUE_UNCONFIRMED, unasked.join(", ")).into())
    }
}

fn closed_with(store: &Snapshot<'_>, provider: &ParticipantId) -> Result<Vec<String>, Error> {
    let rows = store.scan(Collection::Local, UNCONFIRMED, None, store::MAX_PAGE)?;
    Ok(rows.into_iter().filter(|row| row.value == provider.as_str().as_bytes()).map(|row| row.key).collect())
}

/// The caution ends with the last agreement and the last replica that waited.
fn settle(tx: &Tx<'_>) -> Result<(), Error> {
    let waits = |prefix| Ok::<_, Error>(!tx.scan(Collection::Local, prefix, None, 1)?.is_empty());
    if !waits(UNCONFIRMED)? && !waits(UNASKED)? {
        tx.restore_settled()?;
        tx.delete(Collection::Local, RESTORED_SIZE, Expect::Any)?;
    }
    Ok(())
}
