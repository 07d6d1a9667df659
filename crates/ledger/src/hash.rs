//! SHA-256 with the prefixes of RFC 9162, 2.1.1, so that a leaf never passes for a node.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::{LedgerError, Record};

const LEAF_PREFIX: [u8; 1] = [0];
const NODE_PREFIX: [u8; 1] = [1];

/// A SHA-256 hash of a leaf, node or root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The 32 bytes in `bytes`; another length refuses.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, LedgerError> {
        <[u8; 32]>::try_from(bytes)
            .map(Self)
            .map_err(|_| LedgerError::Format(format!("a hash has 32 bytes, not {}", bytes.len())))
    }

    /// Reads `sha-256:<base64url>`, as [`Hash`] prints itself.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let encoded = text
            .strip_prefix("sha-256:")
            .ok_or_else(|| LedgerError::Format("hash without `sha-256:`".to_owned()))?;
        Self::from_slice(&decode(encoded)?)
    }

    /// The root of the tree without leaves (RFC 9162, 2.1.1): the hash of nothing.
    pub fn empty_root() -> Self {
        Self(Sha256::digest([]).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha-256:{}", encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// 32 random bytes of one leaf: without them nobody can guess a record from its leaf. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt(pub [u8; 32]);

impl fmt::Debug for Salt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Salt")
    }
}

/// The leaf of `record` under `salt`: SHA-256 of 0x00, the salt and the canonical record.
///
/// The salt has a fixed length, so no two pairs of salt and record share their bytes.
pub fn leaf_hash(salt: &Salt, record: &Record) -> Hash {
    leaf_of_entry(&[&salt.0[..], record.canonical().as_bytes()])
}

pub(crate) fn leaf_of_entry(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new_with_prefix(LEAF_PREFIX);
    for part in parts {
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}

pub(crate) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new_with_prefix(NODE_PREFIX);
    hasher.update(left.0);
    hasher.update(right.0);
    Hash(hasher.finalize().into())
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, LedgerError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| LedgerError::Format("not base64url without padding".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // The values of RFC 9162's predecessor test vectors: empty tree, and the leaf of an empty entry.
        let cases = [
            (Hash::empty_root(), "sha-256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"),
            (leaf_of_entry(&[]), "sha-256:bjQLnP-zepicpUTmu3gKLHiQHT-zNzh2hRGjBhevoB0"),
        ];
        for (hash, text) in cases {
            assert_eq!(hash.to_string(), text);
            assert_eq!(Hash::parse(text), Ok(hash));
        }
        for bad in [
            "",
            "sha-256:",
            "sha-1:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
            "sha-256:47DE",
            "sha-256:==",
        ] {
            assert!(Hash::parse(bad).is_err(), "{bad}");
        }
    }
}
