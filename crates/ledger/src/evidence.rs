//! What an outsider is handed: a tree head to compare, and one record with its path to that head.

use serde::{Deserialize, Serialize};

use crate::hash::{decode, encode};
use crate::proof::MAX_PROOF_HASHES;
use crate::{Hash, LedgerError, Record, Salt, leaf_hash, verify_inclusion};

const VERSION: u32 = 1;

/// The size and root of a log: what its owner signs and what witnesses keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedHead {
    v: u32,
    /// A string: it may pass 2^53.
    size: String,
    root: String,
}

impl TreeHead {
    /// The text that is signed and exchanged: `{"root":"sha-256:..","size":"..","v":1}` (RFC 8785).
    pub fn to_json(&self) -> Result<String, LedgerError> {
        canonical(&SavedHead { v: VERSION, size: self.size.to_string(), root: self.root.to_string() })
    }

    /// Reads [`TreeHead::to_json`]; other spellings of the numbers refuse.
    pub fn from_json(text: &str) -> Result<Self, LedgerError> {
        let saved: SavedHead = read(text)?;
        check_version(saved.v)?;
        Ok(Self { size: number(&saved.size)?, root: Hash::parse(&saved.root)? })
    }
}

/// One record with everything needed to check, offline, that it stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The record.
    pub record: Record,
    /// Its salt; giving it away gives away nothing about other records.
    pub salt: Salt,
    /// Its place in the log, counted from 0.
    pub index: u64,
    /// The size of the tree that the path belongs to.
    pub size: u64,
    /// The path to the root.
    pub path: Vec<Hash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedEvidence {
    v: u32,
    /// The canonical record as text, so that its bytes survive every JSON tool.
    record: String,
    salt: String,
    index: String,
    size: String,
    path: Vec<String>,
}

impl Evidence {
    /// Checks the record against a head obtained elsewhere: its size must be the one the path was made for.
    pub fn verify(&self, head: &TreeHead) -> Result<(), LedgerError> {
        if self.size != head.size {
            return Err(LedgerError::Proof("the path belongs to a tree of another size"));
        }
        verify_inclusion(&leaf_hash(&self.salt, &self.record), self.index, self.size, &self.path, &head.root)
    }

    /// The text that is exported (RFC 8785).
    pub fn to_json(&self) -> Result<String, LedgerError> {
        canonical(&SavedEvidence {
            v: VERSION,
            record: self.record.canonical().to_owned(),
            salt: encode(&self.salt.0),
            index: self.index.to_string(),
            size: self.size.to_string(),
            path: self.path.iter().map(Hash::to_string).collect(),
        })
    }

    /// Reads [`Evidence::to_json`]; says nothing yet about its truth.
    pub fn from_json(text: &str) -> Result<Self, LedgerError> {
        let saved: SavedEvidence = read(text)?;
        check_version(saved.v)?;
        if saved.path.len() > MAX_PROOF_HASHES {
            return Err(LedgerError::Format(format!("a path has at most {MAX_PROOF_HASHES} hashes")));
        }
        Ok(Self {
            record: Record::parse(saved.record.as_bytes())?,
            salt: Salt(Hash::from_slice(&decode(&saved.salt)?)?.0),
            index: number(&saved.index)?,
            size: number(&saved.size)?,
            path: saved.path.iter().map(|hash| Hash::parse(hash)).collect::<Result<_, _>>()?,
        })
    }
}

fn canonical(value: &impl Serialize) -> Result<String, LedgerError> {
    serde_jcs::to_string(value).map_err(|error| LedgerError::Format(error.to_string()))
}

fn read<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text).map_err(|error| LedgerError::Format(error.to_string()))
}

fn check_version(found: u32) -> Result<(), LedgerError> {
    if found == VERSION { Ok(()) } else { Err(LedgerError::Format(format!("version {found} is unknown"))) }
}

fn number(text: &str) -> Result<u64, LedgerError> {
    text.parse()
        .ok()
        .filter(|number: &u64| number.to_string() == text)
        .ok_or_else(|| LedgerError::Format("not a plain number".to_owned()))
}
