//! What is known of other participants: statements, certificates, addresses, suspensions.

use std::sync::Arc;

use control_plane::Refusal;
use control_plane::ids::ParticipantId;
use identity::{ParticipantCertificate, Statement, VerifiedParticipant};
use proto::identity::{ExchangeRequest, LedgerHead};
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, Snapshot, Tx};

use crate::driver::records;
use crate::enforceable;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    UNKNOWN_PEER = "peer/unknown", NotFound,
        "no such participant is configured or was ever seen", "未設定亦未見過此參與者", "未配置亦未见过该参与者",
        clause "administration", next "`fairlead peer list` shows the known ones";
}

/// What the store remembers of a peer; the durable form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerRow {
    /// Format.
    pub version: u32,
    /// Suspended here, with the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspension>,
    /// Operands and duties that it said it enforces as a consumer; absent while it never said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforces: Option<Vec<String>>,
}

/// Why and since when a peer is suspended here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Suspension {
    /// For people.
    pub reason: String,
    /// RFC 3339.
    pub since: String,
}

/// The version of [`PeerRow`] that is written.
const PEER_VERSION: u32 = 1;

/// Where a participant may be dialled: configured addresses first, then those of its statement.
pub async fn addresses(node: &Arc<Node>, participant: &ParticipantId) -> Result<Vec<String>, Error> {
    let config = node.config.load();
    if let Some(peer) = config.peer(participant) {
        return Ok(peer.addresses.iter().map(ToString::to_string).collect());
    }
    let stated = latest_statement(node, participant).await?;
    Ok(stated
        .map(|statement| statement.membership.addresses.iter().map(ToString::to_string).collect())
        .unwrap_or_default())
}

/// The newest verified statement of a participant, as kept; it may have expired since.
pub async fn latest_statement(
    node: &Arc<Node>,
    participant: &ParticipantId,
) -> Result<Option<Statement>, Error> {
    let participant = participant.clone();
    node.store.read(move |store| statement(store, &participant)).await
}

/// The newest verified statement of a participant, as kept.
pub fn statement(store: &Snapshot<'_>, participant: &ParticipantId) -> Result<Option<Statement>, Error> {
    let Some(row) = store.get(Collection::Statements, participant.as_str())? else { return Ok(None) };
    let damaged = |cause: String| Error::damaged(&format!("statement of `{participant}`"), cause);
    let jws = String::from_utf8(row.value).map_err(|error| damaged(error.to_string()))?;
    let payload = jws.split('.').nth(1).unwrap_or_default();
    let payload = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload)
        .map_err(|error| damaged(error.to_string()))?;
    Ok(Some(Statement::read(&payload).map_err(|refusal| damaged(refusal.to_string()))?))
}

/// What we tell at the beginning of a connection.
pub async fn exchange_request(node: &Arc<Node>) -> Result<ExchangeRequest, Error> {
    let head = ledger_head(node).await?;
    Ok(ExchangeRequest {
        statement: node.statement.load().jws.clone(),
        revocation_list_number: node.identity.trust().newest_list_number(),
        ledger_head: Some(head),
        wall_clock: node.now().to_string(),
        enforces: enforceable::told(),
    })
}

/// Keeps what a peer says that it enforces. Of a list that is too long the rest counts as not said.
pub async fn remember_enforces(
    node: &Arc<Node>,
    peer: &ParticipantId,
    told: Vec<String>,
) -> Result<(), Error> {
    let kept: Vec<String> =
        told.into_iter().filter(|iri| iri.len() <= MAX_ENFORCED_BYTES).take(MAX_ENFORCED).collect();
    let id = peer.clone();
    let known = node.store.read(move |store| row(store, id.as_str())).await?;
    if known.enforces.as_ref() == Some(&kept) {
        return Ok(());
    }
    let (id, now) = (peer.clone(), node.now());
    node.store
        .write(move |tx| {
            let fields = [("participant", id.to_string()), ("terms", kept.len().to_string())];
            put_row(
                tx,
                &id,
                &PeerRow { version: PEER_VERSION, enforces: Some(kept), ..row(tx, id.as_str())? },
            )?;
            records::append_fields(tx, "peer-enforces", now, fields)
        })
        .await
}

/// What a peer said that it enforces; `None` if it never said anything, as peers over HTTP cannot.
pub async fn enforces(node: &Arc<Node>, peer: &ParticipantId) -> Result<Option<Vec<String>>, Error> {
    let id = peer.clone();
    Ok(node.store.read(move |store| row(store, id.as_str())).await?.enforces)
}

/// Whether a peer was ever met over gRPC: over HTTP nobody says what it enforces.
pub fn was_met(store: &Snapshot<'_>, peer: &ParticipantId) -> Result<bool, Error> {
    Ok(row(store, peer.as_str())?.enforces.is_some())
}

/// What a peer enforces: ten times what this version knows, and the longest IRI of a vocabulary.
const MAX_ENFORCED: usize = 512;
const MAX_ENFORCED_BYTES: usize = 256;

/// The size and root of our ledger.
pub async fn ledger_head(node: &Arc<Node>) -> Result<LedgerHead, Error> {
    let head = node.store.read(|store| store.ledger_head()).await?;
    Ok(LedgerHead { size: head.size, root: head.root.to_string() })
}

/// The size of a peer's ledger as we saw it last; the newer one is kept. A peer that tells a smaller size than we
/// saw has lost records, and learns it from the answer.
pub async fn ledger_seen(node: &Arc<Node>, peer: &ParticipantId, told: &LedgerHead) -> Result<u64, Error> {
    let key = peer.to_string();
    let known = {
        let key = key.clone();
        node.store.read(move |store| seen_head(store, &key)).await?
    };
    let now = node.now();
    if told.size > known.size {
        let head =
            SeenHead { version: PEER_VERSION, size: told.size, root: told.root.clone(), at: now.to_string() };
        let bytes = serde_jcs::to_vec(&head).map_err(Error::ours)?;
        node.store
            .write(move |tx| tx.put(Collection::TreeHeads, &key, &bytes, Expect::Any).map_err(Error::from))
            .await?;
    } else if told.size < known.size {
        tracing::warn!(%peer, told = told.size, seen = known.size, "the peer's ledger is shorter than it was");
    }
    Ok(known.size)
}

/// A peer's signed ledger head as seen; the durable form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SeenHead {
    version: u32,
    size: u64,
    root: String,
    at: String,
}

fn seen_head(store: &Snapshot<'_>, peer: &str) -> Result<SeenHead, Error> {
    let Some(row) = store.get(Collection::TreeHeads, peer)? else { return Ok(SeenHead::default()) };
    serde_json::from_slice(&row.value)
        .map_err(|error| Error::damaged(&format!("ledger head of `{peer}`"), error))
}

/// Keeps a verified peer's statement and certificate, so that what it signs stays checkable.
pub async fn remember(node: &Arc<Node>, peer: &VerifiedParticipant, list_number: u64) -> Result<(), Error> {
    node.certificates.remember(peer);
    if list_number > node.identity.trust().newest_list_number() {
        node.refresh_lists.notify_one();
    }
    let (id, jws) = (peer.id().clone(), peer.statement_jws().as_bytes().to_vec());
    let (thumbprint, der) = (peer.thumbprint(), peer.certificate().der().to_vec());
    let known = {
        let (id, jws) = (id.clone(), jws.clone());
        node.store
            .read(move |store| {
                let statement = store.get(Collection::Statements, id.as_str())?;
                let certificate =
                    store.get(Collection::Certificates, &certificate_key(&id, &thumbprint.to_string()))?;
                Ok::<_, Error>(statement.is_some_and(|row| row.value == jws) && certificate.is_some())
            })
            .await?
    };
    // A connection of a peer that is known as it is needs no commit.
    if known {
        return Ok(());
    }
    let now = node.now();
    let sequence = peer.statement().sequence;
    node.store
        .write(move |tx| {
            tx.put(Collection::Statements, id.as_str(), &jws, Expect::Any)?;
            let key = certificate_key(&id, &thumbprint.to_string());
            if tx.get(Collection::Certificates, &key)?.is_none() {
                tx.put(Collection::Certificates, &key, &der, Expect::Absent)?;
            }
            records::append_fields(
                tx,
                "peer-verified",
                now,
                [
                    ("participant", id.to_string()),
                    ("certificate", thumbprint.to_string()),
                    ("statementSequence", sequence.to_string()),
                ],
            )
        })
        .await
}

pub(crate) fn certificate_key(participant: &ParticipantId, thumbprint: &str) -> String {
    format!("{participant} {thumbprint}")
}

/// Every certificate accepted so far, for the resolver in memory.
pub fn load_certificates(store: &Snapshot<'_>) -> Result<Vec<ParticipantCertificate>, Error> {
    let mut known = Vec::new();
    let mut after = None;
    loop {
        let rows = store.scan(Collection::Certificates, "", after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { return Ok(known) };
        after = Some(last.key.clone());
        for row in rows {
            let certificate = ParticipantCertificate::read(&row.value);
            known.push(certificate.map_err(|refusal| Error::damaged(&row.key, refusal))?);
        }
    }
}

/// Sets or lifts our suspension of a participant; connections and streams with it close at once.
pub async fn suspend(
    node: &Arc<Node>,
    participant: ParticipantId,
    suspended: bool,
    reason: &str,
) -> Result<(), Error> {
    let known = node.config.load().peer(&participant).is_some()
        || latest_statement(node, &participant).await?.is_some();
    if !known {
        return Err(Refusal::new(&UNKNOWN_PEER, participant.as_str()).into());
    }
    let now = node.now();
    let (id, reason) = (participant.clone(), reason.to_owned());
    // Two changes at once must not leave the older list in memory.
    static CHANGING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let changing = CHANGING.lock().await;
    let suspended_now = node
        .store
        .write(move |tx| {
            let suspension = suspended.then(|| Suspension { reason: reason.clone(), since: now.to_string() });
            put_row(
                tx,
                &id,
                &PeerRow { version: PEER_VERSION, suspended: suspension, ..row(tx, id.as_str())? },
            )?;
            let kind = if suspended { "peer-suspended" } else { "peer-resumed" };
            records::append_fields(tx, kind, now, [("participant", id.to_string()), ("reason", reason)])?;
            suspended_peers(tx)
        })
        .await?;
    node.suspended.store(Arc::new(suspended_now));
    drop(changing);
    if suspended {
        let refusal = Refusal::new(&crate::node::PEER_SUSPENDED, participant.as_str());
        node.data.stop_peer(&participant, &refusal);
        // What is open first: a dial under way may take its time.
        node.connections.close_of(&participant);
        node.links.close_of(&participant).await;
    }
    Ok(())
}

fn put_row(tx: &Tx<'_>, participant: &ParticipantId, row: &PeerRow) -> Result<(), Error> {
    let bytes = serde_jcs::to_vec(row).map_err(Error::ours)?;
    tx.put(Collection::Peers, participant.as_str(), &bytes, Expect::Any)?;
    Ok(())
}

/// What the store remembers of a peer.
pub fn row(store: &Snapshot<'_>, participant: &str) -> Result<PeerRow, Error> {
    let Some(row) = store.get(Collection::Peers, participant)? else { return Ok(PeerRow::default()) };
    serde_json::from_slice(&row.value)
        .map_err(|error| Error::damaged(&format!("peer `{participant}`"), error))
}

/// The participants that are suspended here.
pub fn suspended_peers(store: &Snapshot<'_>) -> Result<Vec<ParticipantId>, Error> {
    let mut suspended = Vec::new();
    let mut after = None;
    loop {
        let rows = store.scan(Collection::Peers, "", after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { return Ok(suspended) };
        after = Some(last.key.clone());
        for found in &rows {
            if row(store, &found.key)?.suspended.is_some() {
                suspended.push(ParticipantId::parse(&found.key)?);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_format_is_frozen() {
        let suspension = Suspension { reason: "incident".into(), since: "2026-11-24T08:00:00.000Z".into() };
        let row = PeerRow { version: PEER_VERSION, suspended: Some(suspension), enforces: None };
        let text = r#"{"suspended":{"reason":"incident","since":"2026-11-24T08:00:00.000Z"},"version":1}"#;
        assert_eq!(serde_jcs::to_string(&row).unwrap(), text);
        assert_eq!(serde_json::from_str::<PeerRow>(text).unwrap(), row);
        assert!(serde_json::from_str::<PeerRow>(r#"{"version":1,"other":true}"#).is_err());
    }
}
