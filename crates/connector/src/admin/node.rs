//! The node itself: status, peers, ledger, backup, reload, diagnosis.

use std::path::PathBuf;
use std::sync::Arc;

use control_plane::ids::ParticipantId;
use proto::admin;
use store::StoreError;

use super::bad_argument;
use crate::error::Error;
use crate::node::Node;
use crate::{doctor, enforceable, peers as known_peers, recovery, run};

/// The state of this connector.
pub async fn status(node: &Arc<Node>, _request: admin::GetStatusRequest) -> Result<admin::Status, Error> {
    let (outbox, head) =
        node.store.read(|store| Ok::<_, StoreError>((store.outbox_len()?, store.ledger_head()?))).await?;
    let bound = node.bound.load();
    let address = |pick: fn(&(std::net::SocketAddr, std::net::SocketAddr)) -> std::net::SocketAddr| {
        bound.as_ref().map(|bound| pick(bound).to_string()).unwrap_or_default()
    };
    let reasons = run::not_ready_because(node);
    Ok(admin::Status {
        participant: node.us.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        peer_listener: address(|bound| bound.0),
        health_listener: address(|bound| bound.1),
        ready: reasons.is_empty(),
        not_ready_because: reasons,
        certificate_expires: node.identity.certificate().not_after().to_string(),
        statement_expires: node.statement.load().statement.expires.to_string(),
        revocation_list_number: node.identity.trust().newest_list_number(),
        ledger_size: head.size,
        ledger_root: head.root.to_string(),
        datasets_in_catalogue: u32::try_from(node.catalogue.len()).unwrap_or(u32::MAX),
        outbox_waiting: u32::try_from(outbox).unwrap_or(u32::MAX),
        policy_classes: enforceable::classes(node.policies.profiles()).into_iter().map(u32::from).collect(),
    })
}

/// A dry run against a peer, or against ourselves where no address is given.
pub async fn doctor(
    node: &Arc<Node>,
    request: admin::DoctorPeerRequest,
) -> Result<admin::DoctorReport, Error> {
    let checks = if request.address.is_empty() {
        doctor::this_connector(node).await
    } else {
        doctor::peer(node, &request.address).await
    };
    Ok(admin::DoctorReport { checks })
}

/// Configured peers and those seen.
pub async fn peers(node: &Arc<Node>, _request: admin::PageRequest) -> Result<admin::PeerList, Error> {
    let mut names: Vec<ParticipantId> =
        node.config.load().peers.iter().map(|peer| peer.participant.clone()).collect();
    let seen =
        node.store.read(|store| store.scan(store::Collection::Statements, "", None, store::MAX_PAGE)).await?;
    for row in seen {
        let name = ParticipantId::parse(&row.key)?;
        if !names.contains(&name) && name != node.us {
            names.push(name);
        }
    }
    let mut peers = Vec::new();
    for name in names {
        peers.push(peer(node, &name).await?);
    }
    Ok(admin::PeerList { peers, next_page_token: String::new() })
}

/// Refuses everything from a peer until resumed.
pub async fn suspend_peer(node: &Arc<Node>, request: admin::ChangePeerRequest) -> Result<admin::Peer, Error> {
    let name = ParticipantId::parse(&request.participant)?;
    known_peers::suspend(node, name.clone(), true, &request.reason).await?;
    peer(node, &name).await
}

/// Talks to a peer again.
pub async fn resume_peer(node: &Arc<Node>, request: admin::ChangePeerRequest) -> Result<admin::Peer, Error> {
    let name = ParticipantId::parse(&request.participant)?;
    known_peers::suspend(node, name.clone(), false, &request.reason).await?;
    peer(node, &name).await
}

async fn peer(node: &Arc<Node>, name: &ParticipantId) -> Result<admin::Peer, Error> {
    let statement = known_peers::latest_statement(node, name).await?;
    let suspended = node.suspended.load().contains(name);
    let told = known_peers::enforces(node, name).await?.unwrap_or_default();
    let classes = enforceable::classes_there(node.policies.profiles(), &told);
    let membership = statement.as_ref().map(|statement| &statement.membership);
    Ok(admin::Peer {
        participant: name.to_string(),
        addresses: known_peers::addresses(node, name).await?,
        state: if suspended { "suspended".to_owned() } else { "active".to_owned() },
        legal_name: membership.map(|membership| membership.legal_name.en.clone()).unwrap_or_default(),
        jurisdiction: membership.map(|membership| membership.jurisdiction.to_string()).unwrap_or_default(),
        statement_expires: statement
            .as_ref()
            .map(|statement| statement.expires.to_string())
            .unwrap_or_default(),
        policy_classes: classes.into_iter().map(u32::from).collect(),
        ..Default::default()
    })
}

/// Records of the ledger, oldest first.
pub async fn ledger(node: &Arc<Node>, request: admin::ListLedgerRequest) -> Result<admin::LedgerPage, Error> {
    let (rows, _) = super::page(&admin::PageRequest { page_size: request.limit, page_token: String::new() });
    let from = request.from_seq;
    let (head, entries) = node
        .store
        .read(move |store| Ok::<_, StoreError>((store.ledger_head()?, store.ledger_page(from, rows)?)))
        .await?;
    let records = entries.into_iter().map(|entry| admin::LedgerRecord {
        seq: entry.seq,
        record: entry.content.map(|(record, _)| record.canonical().to_owned()).unwrap_or_default(),
        leaf_hash: entry.leaf.to_string(),
        root: entry.root.to_string(),
    });
    Ok(admin::LedgerPage { records: records.collect(), size: head.size, root: head.root.to_string() })
}

/// Copies the state to one file while the connector goes on: with keys and sealed copies for the recovery key, or
/// plain where there is none or only the state is asked for.
pub async fn backup(node: &Arc<Node>, request: admin::BackupRequest) -> Result<admin::BackupReport, Error> {
    let path = PathBuf::from(&request.path);
    if !path.is_absolute() {
        return Err(bad_argument("the backup's path must be absolute"));
    }
    let keep_days = match request.keep_days {
        0 => recovery::DEFAULT_KEEP_DAYS,
        days if days <= recovery::MAX_KEEP_DAYS => days,
        days => return Err(bad_argument(format!("{days} days; at most {}", recovery::MAX_KEEP_DAYS))),
    };
    if request.state_only {
        recovery::require_writable(&path)?;
        let store = node.store.clone();
        let report =
            tokio::task::spawn_blocking(move || store.backup(&path)).await.map_err(Error::ours)??;
        return Ok(admin::BackupReport {
            path: request.path,
            bytes: report.bytes,
            ledger_size: report.ledger.size,
            ..Default::default()
        });
    }
    let asked = recovery::Asked { without_copies: request.without_copies, keep_days };
    let report = recovery::write(node, path, asked).await?;
    Ok(admin::BackupReport {
        path: request.path,
        bytes: report.bytes,
        ledger_size: report.ledger_size,
        recovery_key: report.recovery_key,
        keep_until: report.keep_until.to_string(),
        keys: report.keys,
        keys_left_out: report.keys_left_out,
        copies: report.copies,
    })
}

/// Reads settings, certificate and lists again.
pub async fn reload(node: &Arc<Node>, _request: admin::ReloadRequest) -> Result<admin::Status, Error> {
    run::reload(node).await;
    status(node, admin::GetStatusRequest {}).await
}
