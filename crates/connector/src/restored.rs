//! After a restore: nothing that was spent or revoked comes back, and nothing is said twice.
//!
//! A backup may lie behind what really happened: uses, revocations, deletions. So everything that is held stays closed
//! until its provider was asked how the agreement stands (`standing.rs`): what was revoked, suspended or destroyed is
//! so here, too, and uses that the provider was told of are counted, before anything opens. What the provider does not
//! know stays closed.
//!
//! Where this side lent keys by a count of its own, the consumer tells how long our ledger was when it last saw it. If
//! that is no more than what was restored, nothing was lost; otherwise these agreements stay closed for good, and a new
//! one is needed.
//!
//! Our log in the catalogue may lie behind what replicas hold of it, and an envelope signed at a place that is taken
//! would be a second history. So nothing is published until every replica was asked for what we lack.

use std::sync::Arc;

use control_plane::ids::{AgreementId, ParticipantId};
use control_plane::pids::Role;
use control_plane::status::{AgreementStatus, HeldAgreement};
use control_plane::{Refusal, UnixMillis};
use proto::notice as wire;
use proto::notice::notice_service_client::NoticeServiceClient;
use store::{Collection, Expect, Snapshot, Tx};

use crate::catalogue::replication::replicas;
use crate::data::{counts, duties, holdings, uses};
use crate::driver::notices::{Notice, What};
use crate::driver::{agreements, records, transfers};
use crate::error::Error;
use crate::node::Node;
use crate::{peers, standing};

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
/// Prefix of the local rows of agreements that are asked about although nothing of theirs is closed.
const UNASKED_AGREEMENT: &str = "unasked-agreement ";
/// Prefix of the local rows of agreements that stay closed for good.
const LOST: &str = "lost-agreement ";
/// Prefix of the local rows that keep how long our ledger was when a peer last saw it before the restore.
const SEEN_BY: &str = "restored-seen-by ";
/// What the records of changes found so say.
const AFTER_A_RESTORE: &str = "learned after a restore";
/// Prefix of the local rows that name a replica that was not asked yet.
const UNASKED: &str = "unasked-replica ";

/// The row that closes an agreement after a restore.
fn unconfirmed_key(agreement: &str) -> String {
    format!("{UNCONFIRMED}{agreement}")
}

/// Whether an agreement is closed because of a restore.
pub fn is_closed(store: &Snapshot<'_>, agreement: &AgreementId) -> Result<bool, Error> {
    let closed = |key: &str| store.get(Collection::Local, key).map(|row| row.is_some());
    Ok(closed(&unconfirmed_key(agreement.as_str()))? || closed(&format!("{LOST}{agreement}"))?)
}

/// At start: closes everything that is held, if the store was restored and this was not done yet.
pub async fn close_held(node: &Arc<Node>) -> Result<(), Error> {
    let (worker, now) = (node.clone(), node.now());
    let replicas = replicas(&node.config.load());
    node.store
        .write(move |tx| {
            if tx.restored_at()?.is_none() || tx.get(Collection::Local, RESTORED_SIZE)?.is_some() {
                return Ok(());
            }
            let size = tx.ledger_head()?.size;
            tx.put(Collection::Local, RESTORED_SIZE, size.to_string().as_bytes(), Expect::Absent)?;
            close_all(tx, &worker, now)?;
            for replica in &replicas {
                tx.put(Collection::Local, &format!("{UNASKED}{replica}"), b"", Expect::Any)?;
            }
            tracing::warn!(
                ledger = size,
                "the state was restored from a backup: what is held waits for its providers, publications for replicas"
            );
            records::append_fields(tx, "state-restored", now, [("ledgerSize", size.to_string())])?;
            settle(tx)
        })
        .await
}

/// What is held, and what we lent keys for by a count, is closed; about every other agreement that has not ended its
/// other party is asked, because we may have revoked or suspended it ourselves.
fn close_all(tx: &Tx<'_>, node: &Arc<Node>, now: UnixMillis) -> Result<(), Error> {
    let mut after = None;
    loop {
        let rows = tx.scan(Collection::Agreements, "", after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.key.clone());
        for row in &rows {
            let id = AgreementId::parse(&row.key)?;
            let Some(held) = records::agreement(tx, &id)? else { continue };
            let role = agreements::role(node, &held);
            let closed = match role {
                Role::Consumer => holdings::get(tx, &id)?.is_some_and(|holding| !holding.is_destroyed()),
                Role::Provider => counts_leases(node, &held, now)?,
            };
            let ended =
                matches!(held.status, AgreementStatus::Revoked { .. } | AgreementStatus::Expired { .. });
            let peer = held.signed.agreement().party(role.other());
            let key = match (closed, ended) {
                (true, _) => unconfirmed_key(&row.key),
                // Over HTTP there is nobody to ask.
                (false, false) if peers::was_met(tx, peer)? => format!("{UNASKED_AGREEMENT}{id}"),
                (false, _) => continue,
            };
            tx.put(Collection::Local, &key, peer.as_str().as_bytes(), Expect::Any)?;
        }
    }
}

/// Whether we, as provider, lend keys under this agreement by a count of our own.
fn counts_leases(node: &Node, held: &HeldAgreement, now: UnixMillis) -> Result<bool, Error> {
    let policy = node.policies.compiled(held.signed.agreement().text())?;
    Ok(policy.lease_millis().is_some() && uses::uses_left(&policy, 0, now).is_some())
}

/// A peer told how long our ledger was when it last saw it: the first answer after a restore is kept, because it soon
/// sees the ledger as it is now.
pub async fn peer_reached(node: &Arc<Node>, peer: &ParticipantId, seen: u64) -> Result<(), Error> {
    let key = format!("{SEEN_BY}{peer}");
    let row = key.clone();
    let matters = move |store: &Snapshot<'_>| {
        let restored = store.get(Collection::Local, RESTORED_SIZE)?.is_some();
        Ok::<_, Error>(restored && store.get(Collection::Local, &row)?.is_none())
    };
    if !node.store.read(matters).await? {
        return Ok(());
    }
    node.store
        .write(move |tx| {
            if tx.get(Collection::Local, &key)?.is_none() {
                tx.put(Collection::Local, &key, seen.to_string().as_bytes(), Expect::Absent)?;
            }
            Ok(())
        })
        .await
}

/// The peers that are to be asked since a restore; some of them, if they are many.
pub fn to_ask(store: &Snapshot<'_>) -> Result<Vec<ParticipantId>, Error> {
    let mut peers = Vec::new();
    for prefix in [UNCONFIRMED, UNASKED_AGREEMENT] {
        for row in store.scan(Collection::Local, prefix, None, store::MAX_PAGE)? {
            peers.push(ParticipantId::parse(&String::from_utf8_lossy(&row.value))?);
        }
    }
    Ok(peers)
}

/// The agreements that `peer` is to be asked about, by the keys of their rows.
fn open_with(store: &Snapshot<'_>, peer: &ParticipantId) -> Result<Vec<String>, Error> {
    let mut keys = Vec::new();
    for prefix in [UNCONFIRMED, UNASKED_AGREEMENT] {
        let mut after = None;
        loop {
            let rows = store.scan(Collection::Local, prefix, after.as_deref(), store::MAX_PAGE)?;
            let Some(last) = rows.last() else { break };
            after = Some(last.key.clone());
            let theirs = rows.into_iter().filter(|row| row.value == peer.as_str().as_bytes());
            keys.extend(theirs.map(|row| row.key));
        }
    }
    Ok(keys)
}

fn agreement_of(key: &str) -> &str {
    key.strip_prefix(UNCONFIRMED).or_else(|| key.strip_prefix(UNASKED_AGREEMENT)).unwrap_or(key)
}

/// Asks `peer` how the agreements with it stand, and does here what it tells; false if it left one open.
pub async fn ask(node: &Arc<Node>, peer: &ParticipantId) -> Result<bool, Error> {
    let name = peer.clone();
    let open = node.store.read(move |store| open_with(store, &name)).await?;
    let mut all_known = true;
    for keys in open.chunks(standing::MAX_ASKED) {
        let link = node.links.control(node, peer).await?;
        let agreements = keys.iter().map(|key| agreement_of(key).to_owned()).collect();
        let answer = NoticeServiceClient::new(link.channel.clone())
            .standing(wire::StandingRequest { agreements })
            .await
            .map_err(|status| standing::unanswered(node, &link, &status))?;
        let told = answer.into_inner().standings;
        for key in keys {
            // By name: an answer that leaves one out, or says something else, opens nothing.
            match told.iter().find(|told| told.agreement == agreement_of(key) && told.known) {
                Some(told) => confirm(node, peer, key, told).await?,
                None => all_known = false,
            }
        }
    }
    Ok(all_known)
}

/// Makes one agreement stand as its other party tells, then opens what may be open.
async fn confirm(
    node: &Arc<Node>,
    peer: &ParticipantId,
    key: &str,
    told: &wire::Standing,
) -> Result<(), Error> {
    let id = AgreementId::parse(agreement_of(key))?;
    let held_here = {
        let id = id.clone();
        node.store.read(move |store| holdings::get(store, &id)).await?
    };
    if told.deleted && held_here.is_some_and(|holding| !holding.is_destroyed()) {
        // Its key came back with the backup; it goes before anything could use it.
        holdings::destroy(node, &id, AFTER_A_RESTORE).await?;
    }
    let (worker, peer, key, told, now) =
        (node.clone(), peer.clone(), key.to_owned(), told.clone(), node.now());
    let changed = node
        .store
        .write(move |tx| {
            let Some(held) = records::agreement(tx, &id)? else { return Ok(None) };
            let changed = take_over(&worker, tx, held, &told, now)?;
            if is_lost(tx, &worker, &changed.0, &peer, now)? {
                tracing::error!(%peer, agreement = %id, "records were lost with the restore: it stays closed");
                tx.put(Collection::Local, &format!("{LOST}{id}"), b"", Expect::Any)?;
            }
            tx.delete(Collection::Local, &key, Expect::Any)?;
            let fields = [("agreement", id.to_string()), ("peer", peer.to_string())];
            records::append_fields(tx, "restore-confirmed", now, fields)?;
            settle(tx)?;
            Ok::<_, Error>(Some(changed))
        })
        .await?;
    if let Some((held, ended)) = changed {
        agreements::settle(node, &held, ended);
        node.data.keys.rotate_if_owed(&node.store).await?;
    }
    Ok(())
}

/// Status and counts, as the peer tells them.
fn take_over(
    node: &Node,
    tx: &Tx<'_>,
    mut held: HeldAgreement,
    told: &wire::Standing,
    now: UnixMillis,
) -> Result<(HeldAgreement, Vec<transfers::Stored>), Error> {
    let id = held.signed.agreement().id().clone();
    let ours = agreements::role(node, &held);
    let changes = [
        (told.suspended_here, ours.other(), What::Suspended),
        (told.suspended_by_you, ours, What::Suspended),
        (told.revoked, ours.other(), What::Revoked),
        (told.deleted && ours == Role::Provider, Role::Consumer, What::Deleted),
    ];
    let mut ended = Vec::new();
    for (_, by, what) in changes.into_iter().filter(|(is_so, _, _)| *is_so) {
        let notice = Notice {
            agreement: id.clone(),
            what,
            reason: AFTER_A_RESTORE.to_owned(),
            at: now,
            fields: [].into(),
        };
        let (next, stopped) = agreements::changed_by_peer(node, tx, &held, by, &notice, now)?;
        held = next;
        ended.extend(stopped);
    }
    if ours == Role::Consumer {
        let policy = node.policies.compiled(held.signed.agreement().text())?;
        counts::raise(tx, &id, &policy, told.uses)?;
        if let Some(mut holding) = holdings::get(tx, &id)? {
            let told = UnixMillis::parse_rfc3339(&told.first_use);
            let first = [holding.first_use(), told].into_iter().flatten().min();
            if first != holding.first_use() {
                holding.first_use = first.map(|first| first.to_string());
                holdings::put(tx, &holding)?;
                duties::plan(node, tx, &held, &holding, now)?;
            }
        }
    }
    Ok((held, ended))
}

/// Whether leases may have been counted that the restored state does not know.
fn is_lost(
    store: &Snapshot<'_>,
    node: &Node,
    held: &HeldAgreement,
    peer: &ParticipantId,
    now: UnixMillis,
) -> Result<bool, Error> {
    if agreements::role(node, held) == Role::Consumer || !counts_leases(node, held, now)? {
        return Ok(false);
    }
    let number = |key: &str| match store.get(Collection::Local, key)? {
        Some(row) => {
            let text = String::from_utf8_lossy(&row.value).into_owned();
            text.parse::<u64>().map(Some).map_err(|error| Error::damaged(key, error))
        }
        None => Ok(None),
    };
    let seen = number(&format!("{SEEN_BY}{peer}"))?;
    // Without both numbers nothing tells that nothing was lost.
    Ok(match (seen, number(RESTORED_SIZE)?) {
        (Some(seen), Some(restored)) => seen > restored,
        _ => true,
    })
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

/// The caution ends with the last agreement and the last replica that waited.
fn settle(tx: &Tx<'_>) -> Result<(), Error> {
    let waits = |prefix| Ok::<_, Error>(!tx.scan(Collection::Local, prefix, None, 1)?.is_empty());
    if !waits(UNCONFIRMED)? && !waits(UNASKED_AGREEMENT)? && !waits(UNASKED)? {
        tx.restore_settled()?;
        for row in tx.scan(Collection::Local, SEEN_BY, None, store::MAX_PAGE)? {
            tx.delete(Collection::Local, &row.key, Expect::Any)?;
        }
        tx.delete(Collection::Local, RESTORED_SIZE, Expect::Any)?;
    }
    Ok(())
}
