//! Inclusion and consistency proofs (RFC 9162, 2.1.3 and 2.1.4): making them over kept nodes, checking them alone.

use crate::hash::node_hash;
use crate::{Hash, LedgerError};

/// Steps of the longest proof that is looked at: twice the height of the largest tree.
pub const MAX_PROOF_HASHES: usize = 128;

/// Where complete nodes are kept: node (level, index) covers the leaves `index << level` to `(index + 1) << level`.
pub trait Nodes {
    /// What can go wrong when a node is read; a missing node is an error of the caller's.
    type Error: From<LedgerError>;
    /// The complete node at `level` (0 is a leaf) and `index`.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// The root over the first `size` leaves.
pub fn root<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(Hash::empty_root()) } else { subtree(nodes, 0, size) }
}

/// The path from leaf `index` to the root over the first `size` leaves.
pub fn inclusion_proof<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    if index >= size {
        return Err(LedgerError::Range(format!("leaf {index} is not among {size}")).into());
    }
    let mut path = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(subtree(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(subtree(nodes, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `new` leaves only adds to the tree of `old` leaves; empty if the sizes are equal.
pub fn consistency_proof<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    if old == 0 || old > new {
        return Err(LedgerError::Range(format!("no consistency from {old} to {new} leaves")).into());
    }
    let mut path = Vec::new();
    let (mut start, mut end) = (0, new);
    // Whether the part left over began as a whole subtree of the old tree, which the verifier then knows as its root.
    let mut is_old_root = true;
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(subtree(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(subtree(nodes, start, middle)?);
            start = middle;
            is_old_root = false;
        }
    }
    if !is_old_root {
        path.push(subtree(nodes, start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Checks that `leaf` is leaf number `index` of the tree with `size` leaves and `root` (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), LedgerError> {
    if index >= size {
        return Err(LedgerError::Proof("the leaf lies outside the tree"));
    }
    if path.len() > MAX_PROOF_HASHES {
        return Err(LedgerError::Proof("the proof is too long"));
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for step in path {
        if last == 0 {
            return Err(LedgerError::Proof("the proof is too long"));
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(step, &hash);
            skip_missing_levels(&mut at, &mut last);
        } else {
            hash = node_hash(&hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    match (last, hash == *root) {
        (0, true) => Ok(()),
        (0, false) => Err(LedgerError::Proof("the proof leads to another root")),
        _ => Err(LedgerError::Proof("the proof is too short")),
    }
}

/// Checks that the tree (`new`, `new_root`) only adds to the tree (`old`, `old_root`) (RFC 9162, 2.1.4.2).
///
/// Sizes of 0 refuse: everything is consistent with an empty tree, so nothing would be proved.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    path: &[Hash],
) -> Result<(), LedgerError> {
    if old == 0 || old > new {
        return Err(LedgerError::Proof("the tree shrank, or nothing is to be proved"));
    }
    if path.len() > MAX_PROOF_HASHES {
        return Err(LedgerError::Proof("the proof is too long"));
    }
    if old == new {
        return match (path.is_empty(), old_root == new_root) {
            (true, true) => Ok(()),
            (false, _) => Err(LedgerError::Proof("the proof is too long")),
            (true, false) => Err(LedgerError::Proof("two roots for one size")),
        };
    }
    let mut steps = path.iter();
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    // A whole old tree is itself the first node: the proof then leaves it out.
    let first = if old.is_power_of_two() { Some(old_root) } else { steps.next() };
    let Some(first) = first else { return Err(LedgerError::Proof("the proof is too short")) };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for step in steps {
        if last == 0 {
            return Err(LedgerError::Proof("the proof is too long"));
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(step, &old_hash);
            new_hash = node_hash(step, &new_hash);
            skip_missing_levels(&mut at, &mut last);
        } else {
            new_hash = node_hash(&new_hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(LedgerError::Proof("the proof is too short"));
    }
    if old_hash != *old_root || new_hash != *new_root {
        return Err(LedgerError::Proof("the proof leads to another root"));
    }
    Ok(())
}

/// At the right edge, levels without a right sibling have no hash in the proof.
fn skip_missing_levels(at: &mut u64, last: &mut u64) {
    while *at & 1 == 0 && *at != 0 {
        *at >>= 1;
        *last >>= 1;
    }
}

/// The root over leaves `start..end`, where `start` is a multiple of the largest power of two in the length.
fn subtree<N: Nodes>(nodes: &N, start: u64, end: u64) -> Result<Hash, N::Error> {
    let mut peaks = Vec::new();
    let mut from = start;
    while from < end {
        let level = (end - from).ilog2();
        peaks.push(nodes.node(level as u8, from >> level)?);
        from += 1 << level;
    }
    let mut edge = peaks.iter().rev();
    let Some(last) = edge.next() else { return Err(LedgerError::Range("empty subtree".to_owned()).into()) };
    Ok(edge.fold(*last, |right, left| node_hash(left, &right)))
}

/// The largest power of two below `length`, which is at least 2.
fn split(length: u64) -> u64 {
    1 << (length - 1).ilog2()
}
