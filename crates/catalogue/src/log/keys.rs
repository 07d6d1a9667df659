//! Keys of the log's tables: parts joined by one space, which no URI contains; numbers padded so that bytes sort.

use control_plane::ids::ParticipantId;

use crate::hash::Digest;

/// The prefix of every key of one publisher.
pub(super) fn publisher(publisher: &ParticipantId) -> String {
    format!("{publisher} ")
}

/// The prefix of every envelope of one epoch.
pub(super) fn epoch(publisher: &ParticipantId, epoch: u32) -> String {
    format!("{publisher} {epoch:010} ")
}

/// One envelope.
pub(super) fn envelope(publisher: &ParticipantId, epoch: u32, seq: u64) -> String {
    format!("{publisher} {epoch:010} {seq:020}")
}

/// One dataset of a publisher.
pub(super) fn entry(publisher: &ParticipantId, dataset: &str) -> String {
    format!("{publisher} {dataset}")
}

/// One contradicting envelope.
pub(super) fn evidence(publisher: &ParticipantId, epoch: u32, seq: u64, hash: Digest) -> String {
    format!("{publisher} {epoch:010} {seq:020} {hash}")
}
