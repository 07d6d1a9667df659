//! Writes an export: one pass over the ledger as it is at the start.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use control_plane::{UnixMillis, durable};
use identity::Digest;
use ledger::{Record, TreeHead};
use sha2::{Digest as _, Sha256};
use store::{Collection, Snapshot};
use tokio::sync::mpsc;

use super::statement::Statement;
use super::{Format, PAGE, Scope, file};
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

/// Names of processes in the records' subjects.
const PROCESS_FIELDS: [&str; 3] = ["consumerPid", "providerPid", "transfer"];

/// A piece of an export.
pub enum Piece {
    /// Bytes of the file.
    Data(Bytes),
    /// The signed statement about all of them; the last piece.
    Statement(String),
}

/// Sends an export piece by piece; ends early where nobody takes them any more.
pub async fn run(
    node: &Arc<Node>,
    format: Format,
    scope: Scope,
    pieces: &mpsc::Sender<Result<Piece, Error>>,
) -> Result<(), Error> {
    let head = node.store.read(|store| store.ledger_head().map_err(Error::from)).await?;
    let concerned = scope.clone();
    let mut concern = node.store.read(move |store| Concern::of(store, concerned)).await?;
    let mut hash = Sha256::new();
    let mut records = 0_u64;
    let mut next = 0;
    let mut first = file::head(format)?;
    while next < head.size {
        let (read, lines, found, from) =
            node.store.read(move |store| page(store, concern, head, format, next)).await?;
        (concern, next) = (read, from);
        records = records.saturating_add(found);
        let mut data = std::mem::take(&mut first);
        data.extend_from_slice(&lines);
        hash.update(&data);
        if !data.is_empty() && pieces.send(Ok(Piece::Data(data.into()))).await.is_err() {
            return Ok(());
        }
    }
    if !first.is_empty() {
        hash.update(&first);
        drop(pieces.send(Ok(Piece::Data(first.into()))).await);
    }
    let statement = Statement {
        participant: node.us.clone(),
        format,
        digest: Digest::from_output(hash.finalize().into()),
        records,
        head,
        scope: scope.clone(),
        exported: node.clock.trusted_now()?,
    };
    let signed = statement.sign(&node.identity.signer())?;
    recorded(node, &statement).await?;
    drop(pieces.send(Ok(Piece::Statement(signed))).await);
    Ok(())
}

/// That an export was made is itself a record: who reads whom is part of the story.
async fn recorded(node: &Arc<Node>, statement: &Statement) -> Result<(), Error> {
    let mut fields = vec![
        ("digest", statement.digest.to_string()),
        ("records", statement.records.to_string()),
        ("ledgerSize", statement.head.size.to_string()),
    ];
    if let Some(peer) = &statement.scope.peer {
        fields.push(("peer", peer.to_string()));
    }
    if let Some(agreement) = &statement.scope.agreement {
        fields.push(("agreement", agreement.to_string()));
    }
    let at = statement.exported;
    node.store.write(move |tx| records::append_fields(tx, "audit-exported", at, fields)).await
}

/// The lines of one page of the ledger that are asked for, how many they are, and where the next page starts.
fn page(
    store: &Snapshot<'_>,
    mut concern: Concern,
    head: TreeHead,
    format: Format,
    from: u64,
) -> Result<(Concern, Vec<u8>, u64, u64), Error> {
    let (mut lines, mut found, mut next) = (Vec::new(), 0_u64, head.size);
    for entry in store.ledger_page(from, PAGE)? {
        next = entry.seq.saturating_add(1);
        let Some((record, _)) = entry.content.filter(|_| entry.seq < head.size) else { continue };
        if !concern.takes(&record) {
            continue;
        }
        if let Some(evidence) = store.ledger_evidence(entry.seq, head.size)? {
            lines.extend_from_slice(&file::line(format, &evidence)?);
            found = found.saturating_add(1);
        }
    }
    Ok((concern, lines, found, next.min(head.size)))
}

/// What concerns a participant: records that name it, its agreements, or a process that a record named together with it.
struct Concern {
    scope: Scope,
    agreements: HashSet<String>,
    processes: HashSet<String>,
}

impl Concern {
    fn of(store: &Snapshot<'_>, scope: Scope) -> Result<Self, Error> {
        let mut agreements = HashSet::new();
        if let Some(peer) = &scope.peer {
            let mut after = None;
            loop {
                let rows = store.scan(Collection::Agreements, "", after.as_deref(), store::MAX_PAGE)?;
                let Some(last) = rows.last() else { break };
                after = Some(last.key.clone());
                for row in &rows {
                    let held = durable::decode_agreement(&row.value)
                        .map_err(|cause| Error::damaged(&row.key, cause))?;
                    let agreement = held.signed.agreement();
                    if agreement.assigner() == peer || agreement.assignee() == peer {
                        agreements.insert(row.key.clone());
                    }
                }
            }
        }
        Ok(Self { scope, agreements, processes: HashSet::new() })
    }

    fn takes(&mut self, record: &Record) -> bool {
        let subject = record.subject();
        let agreement = subject.get("agreement").map(String::as_str);
        let of_agreement =
            self.scope.agreement.as_ref().is_none_or(|asked| agreement == Some(asked.as_str()));
        let processes = || PROCESS_FIELDS.iter().filter_map(|name| subject.get(*name));
        let of_peer = match &self.scope.peer {
            None => true,
            Some(peer) => {
                let named = subject.values().any(|value| value == peer.as_str())
                    || agreement.is_some_and(|id| self.agreements.contains(id))
                    || processes().any(|pid| self.processes.contains(pid));
                if named {
                    self.processes.extend(processes().cloned());
                }
                named
            }
        };
        of_agreement && of_peer && self.scope.covers(UnixMillis(record.at_millis()))
    }
}
