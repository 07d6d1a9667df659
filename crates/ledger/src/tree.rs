//! The state needed to append: the roots of the complete subtrees, one for each bit of the size.

use crate::hash::{decode, encode, node_hash};
use crate::{Hash, LedgerError};

use serde::{Deserialize, Serialize};

/// Leaves that a tree takes at most: positions stay exact in an `i64` column.
pub const MAX_LEAVES: u64 = 1 << 62;
const VERSION: u32 = 1;

/// An append-only tree reduced to its right edge; a few hundred bytes whatever its size.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    /// Roots of complete subtrees, the largest first.
    peaks: Vec<Hash>,
}

/// What one append produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The new leaf's position, counted from 0.
    pub index: u64,
    /// The root over all leaves up to and including this one.
    pub root: Hash,
    /// The complete nodes that came into being, the leaf (level 0) first: to be kept for proofs.
    pub nodes: Vec<(u8, u64, Hash)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    v: u32,
    /// A string: it may pass 2^53.
    size: String,
    peaks: Vec<String>,
}

impl Tree {
    /// The tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves (RFC 9162, 2.1.1).
    pub fn root(&self) -> Hash {
        let mut edge = self.peaks.iter().rev();
        let Some(last) = edge.next() else { return Hash::empty_root() };
        edge.fold(*last, |right, left| node_hash(left, &right))
    }

    /// Adds `leaf` at the end; refuses at [`MAX_LEAVES`].
    pub fn append(&mut self, leaf: Hash) -> Result<Appended, LedgerError> {
        if self.size >= MAX_LEAVES {
            return Err(LedgerError::Range(format!("the tree holds its {MAX_LEAVES} leaves")));
        }
        let index = self.size;
        let mut node = leaf;
        let mut nodes = vec![(0, index, leaf)];
        // Every trailing 1 of the old size is a complete subtree that the new leaf closes.
        for level in 1..=index.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
                nodes.push((level as u8, index >> level, node));
            }
        }
        self.peaks.push(node);
        self.size += 1;
        Ok(Appended { index, root: self.root(), nodes })
    }

    /// The durable form: `{"peaks":[..],"size":"..","v":1}` (RFC 8785).
    pub fn to_json(&self) -> Result<String, LedgerError> {
        let saved = Saved {
            v: VERSION,
            size: self.size.to_string(),
            peaks: self.peaks.iter().map(|peak| encode(&peak.0)).collect(),
        };
        serde_jcs::to_string(&saved).map_err(|error| LedgerError::Format(error.to_string()))
    }

    /// Reads [`Tree::to_json`]; the number of peaks must fit the size.
    pub fn from_json(text: &str) -> Result<Self, LedgerError> {
        let saved: Saved =
            serde_json::from_str(text).map_err(|error| LedgerError::Format(error.to_string()))?;
        if saved.v != VERSION {
            return Err(LedgerError::Format(format!("tree version {} is unknown", saved.v)));
        }
        let size: u64 =
            saved.size.parse().map_err(|_| LedgerError::Format("size is no number".to_owned()))?;
        if size > MAX_LEAVES
            || size.count_ones() as usize != saved.peaks.len()
            || size.to_string() != saved.size
        {
            return Err(LedgerError::Format(format!(
                "{} peaks do not make {} leaves",
                saved.peaks.len(),
                saved.size
            )));
        }
        let peaks =
            saved.peaks.iter().map(|peak| Hash::from_slice(&decode(peak)?)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { size, peaks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_states_refuse() {
        let mut tree = Tree::new();
        for n in 0..5 {
            tree.append(Hash([n; 32])).unwrap();
        }
        let good = tree.to_json().unwrap();
        assert_eq!(Tree::from_json(&good), Ok(tree));
        for (from, to) in
            [("\"v\":1", "\"v\":2"), ("\"5\"", "\"05\""), ("\"5\"", "\"7\""), ("{", "["), ("\"5\"", "5")]
        {
            assert!(Tree::from_json(&good.replacen(from, to, 1)).is_err(), "{from} to {to}");
        }
    }
}
