//! Anti-entropy between replicas: compare heads, name what is missing, hand over runs of envelopes.

use std::collections::BTreeMap;

use control_plane::ids::ParticipantId;

use super::{Head, LogError, LogReader, LogTable, keys};
use crate::envelope::Envelope;
use crate::hash::Digest;
use crate::records;

/// The most envelopes of one fetch.
pub const FETCH_LIMIT: usize = 64;
/// The most bytes of one fetch, unless a single envelope has more; below gRPC's usual message limit of 4 MiB.
pub const MAX_FETCH_BYTES: usize = 3 * 1024 * 1024;

/// A log's position as replicas tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadMark {
    /// Whose log.
    pub publisher: ParticipantId,
    /// Its epoch.
    pub epoch: u32,
    /// The last sequence number.
    pub seq: u64,
    /// The hash of that envelope.
    pub hash: Digest,
}

impl From<&Head> for HeadMark {
    fn from(head: &Head) -> Self {
        Self { publisher: head.publisher.clone(), epoch: head.epoch, seq: head.seq, hash: head.hash }
    }
}

/// A run of envelopes that the other side has and we lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Whose log.
    pub publisher: ParticipantId,
    /// The epoch.
    pub epoch: u32,
    /// First sequence number wanted.
    pub from_seq: u64,
    /// Last sequence number wanted.
    pub to_seq: u64,
}

/// Up to `limit` heads of publishers after `after`, in the order of publishers.
pub fn heads<R: LogReader>(
    reader: &R,
    after: Option<&ParticipantId>,
    limit: usize,
) -> Result<Vec<Head>, LogError<R::Error>> {
    let after = after.map(ParticipantId::as_str).unwrap_or_default();
    let rows = reader.scan(LogTable::Heads, "", after, limit).map_err(LogError::Store)?;
    rows.iter().map(|(_, bytes)| Ok(records::decode_head(bytes)?)).collect()
}

/// What `theirs` has that `ours` lacks.
///
/// At the same position with another hash the position itself is wanted: its envelope is the evidence of a fork.
pub fn missing(ours: &[HeadMark], theirs: &[HeadMark]) -> Vec<Missing> {
    let ours: BTreeMap<&ParticipantId, &HeadMark> = ours.iter().map(|mark| (&mark.publisher, mark)).collect();
    theirs
        .iter()
        .filter_map(|mark| {
            let from_seq = match ours.get(&mark.publisher) {
                Some(held) if held.epoch > mark.epoch => return None,
                Some(held) if held.epoch == mark.epoch && held.seq > mark.seq => return None,
                Some(held) if held.epoch == mark.epoch && held.seq == mark.seq && held.hash == mark.hash => {
                    return None;
                }
                Some(held) if held.epoch == mark.epoch && held.seq == mark.seq => mark.seq,
                Some(held) if held.epoch == mark.epoch => held.seq.saturating_add(1),
                Some(_) | None => 1,
            };
            Some(Missing { publisher: mark.publisher.clone(), epoch: mark.epoch, from_seq, to_seq: mark.seq })
        })
        .collect()
}

/// A run of envelopes from `from_seq`, oldest first: at most `limit`, [`FETCH_LIMIT`] and [`MAX_FETCH_BYTES`].
pub fn fetch<R: LogReader>(
    reader: &R,
    publisher: &ParticipantId,
    epoch: u32,
    from_seq: u64,
    limit: usize,
) -> Result<Vec<Envelope>, LogError<R::Error>> {
    let limit = if limit == 0 { FETCH_LIMIT } else { limit.min(FETCH_LIMIT) };
    let prefix = keys::epoch(publisher, epoch);
    let mut after = match from_seq.checked_sub(1) {
        Some(before) => keys::envelope(publisher, epoch, before),
        None => String::new(),
    };
    let mut envelopes = Vec::new();
    let mut bytes = 0;
    // One row at a time: a full page of the largest envelopes would be read only to be dropped.
    while envelopes.len() < limit {
        let rows = reader.scan(LogTable::Envelopes, &prefix, &after, 1).map_err(LogError::Store)?;
        let Some((key, row)) = rows.into_iter().next() else { break };
        let envelope = records::decode_envelope(&row)?;
        bytes += size(&envelope);
        if bytes > MAX_FETCH_BYTES && !envelopes.is_empty() {
            break;
        }
        envelopes.push(envelope);
        after = key;
    }
    Ok(envelopes)
}

fn size(envelope: &Envelope) -> usize {
    envelope.header.len() + envelope.content.len() + envelope.certificates.iter().map(Vec::len).sum::<usize>()
}
