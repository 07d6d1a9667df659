//! An append-only Merkle log that a stranger can check: RFC 9162 trees over salted commitments.
//!
//! Pure: no storage, no clock, no randomness. A [`Record`] has one canonical text; its leaf is a hash of a
//! secret salt and that text, so that erasing both honours a deletion while the tree stays whole. [`Tree`] is
//! the small state needed to append; [`proof`] makes and checks inclusion and consistency proofs over nodes
//! that the caller keeps; [`Evidence`] is what an outsider is handed. What records mean is the caller's.

pub mod evidence;
pub mod hash;
pub mod proof;
pub mod record;
pub mod tree;

pub use evidence::{Evidence, TreeHead};
pub use hash::{Hash, Salt, leaf_hash};
pub use proof::{Nodes, consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
pub use record::{MAX_RECORD_BYTES, Member, RECORD_MEMBERS, Record};
pub use tree::{Appended, Tree};

/// Why something is not accepted as part of a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A record breaks a named bound or form.
    #[error("ledger record: {0}")]
    Record(String),
    /// A text that should be one of our formats is not, or is of an unknown version.
    #[error("ledger format: {0}")]
    Format(String),
    /// A proof was asked for places that the tree does not have.
    #[error("ledger range: {0}")]
    Range(String),
    /// A proof does not lead to the root it is to prove.
    #[error("ledger proof: {0}")]
    Proof(&'static str),
}
