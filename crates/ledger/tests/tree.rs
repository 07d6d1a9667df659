//! The tree and its proofs against a naive model that follows RFC 9162, 2.1 word by word.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::HashMap;

use ledger::{
    Evidence, Hash, LedgerError, Nodes, Record, Salt, Tree, TreeHead, consistency_proof, inclusion_proof,
    leaf_hash, proof, verify_consistency, verify_inclusion,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// More than two complete levels and every shape of right edge below 2^7.
const MAX_LEAVES: u64 = 130;

struct Kept(HashMap<(u8, u64), Hash>);

impl Nodes for Kept {
    type Error = LedgerError;
    fn node(&self, level: u8, index: u64) -> Result<Hash, LedgerError> {
        self.0
            .get(&(level, index))
            .copied()
            .ok_or_else(|| LedgerError::Range(format!("no node {level}/{index}")))
    }
}

fn leaf(n: u64) -> Hash {
    Hash(Sha256::digest(n.to_be_bytes()).into())
}

fn grown(size: u64) -> (Tree, Kept, Vec<Hash>) {
    let mut tree = Tree::new();
    let mut kept = Kept(HashMap::new());
    let mut roots = vec![tree.root()];
    for n in 0..size {
        let appended = tree.append(leaf(n)).unwrap();
        assert_eq!(appended.index, n);
        for (level, index, hash) in appended.nodes {
            assert_eq!(kept.0.insert((level, index), hash), None, "a complete node never changes");
        }
        roots.push(appended.root);
    }
    (tree, kept, roots)
}

fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves.len() {
        0 => Hash(Sha256::digest([]).into()),
        1 => leaves[0],
        n => {
            let (left, right) = leaves.split_at(n.next_power_of_two() / 2);
            Hash(
                Sha256::new_with_prefix([1])
                    .chain_update(naive_root(left).0)
                    .chain_update(naive_root(right).0)
                    .finalize()
                    .into(),
            )
        }
    }
}

fn naive_inclusion(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, other) = if m < left.len() {
        (naive_inclusion(m, left), right)
    } else {
        (naive_inclusion(m - left.len(), right), left)
    };
    path.push(naive_root(other));
    path
}

fn naive_consistency(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, other) = if m <= left.len() {
        (naive_consistency(m, left, whole), right)
    } else {
        (naive_consistency(m - left.len(), right, false), left)
    };
    path.push(naive_root(other));
    path
}

#[test]
fn every_root_and_proof_up_to_the_bound() {
    let leaves: Vec<Hash> = (0..MAX_LEAVES).map(leaf).collect();
    let (_, kept, roots) = grown(MAX_LEAVES);
    for size in 0..=MAX_LEAVES {
        let part = &leaves[..size as usize];
        assert_eq!(roots[size as usize], naive_root(part), "root of {size}");
        assert_eq!(proof::root(&kept, size), Ok(naive_root(part)));
    }
    for size in (1..=40).chain([63, 64, 65, 127, 128, 129, MAX_LEAVES]) {
        let part = &leaves[..size as usize];
        for index in 0..size {
            let path = inclusion_proof(&kept, index, size).unwrap();
            assert_eq!(path, naive_inclusion(index as usize, part), "inclusion of {index} in {size}");
            assert_eq!(
                verify_inclusion(&leaves[index as usize], index, size, &path, &roots[size as usize]),
                Ok(())
            );
        }
        for old in 1..=size {
            let path = consistency_proof(&kept, old, size).unwrap();
            assert_eq!(path, naive_consistency(old as usize, part, true), "consistency {old} to {size}");
            assert_eq!(
                verify_consistency(old, &roots[old as usize], size, &roots[size as usize], &path),
                Ok(())
            );
        }
    }
    for (old, new) in [(0, 5), (6, 5)] {
        assert!(matches!(consistency_proof(&kept, old, new), Err(LedgerError::Range(_))));
    }
    assert!(matches!(inclusion_proof(&kept, 5, 5), Err(LedgerError::Range(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any one change to a proof, its claim or its root refuses.
    #[test]
    fn changed_proofs_refuse(size in 1..MAX_LEAVES, a in 0u64..1000, b in 0u64..1000, step in 0usize..20, what in 0u8..6) {
        let (_, kept, roots) = grown(size);
        let root = roots[size as usize];
        let index = a % size;
        let mut path = inclusion_proof(&kept, index, size).unwrap();
        let (mut claimed_leaf, mut claimed_index, mut claimed_root) = (leaf(index), index, root);
        match what {
            0 if !path.is_empty() => { let at = step % path.len(); path[at].0[step % 32] ^= 1; }
            1 if !path.is_empty() => { path.pop(); }
            2 => path.push(leaf(b)),
            3 => claimed_root.0[step] ^= 0x80,
            4 if size > 1 => claimed_index = (index + 1 + b % (size - 1)) % size,
            _ => claimed_leaf.0[step] ^= 1,
        }
        prop_assert!(verify_inclusion(&claimed_leaf, claimed_index, size, &path, &claimed_root).is_err());

        let old = 1 + b % size;
        let mut path = consistency_proof(&kept, old, size).unwrap();
        let (mut old_root, mut new_root) = (roots[old as usize], root);
        match what {
            0 if !path.is_empty() => { let at = step % path.len(); path[at].0[step % 32] ^= 1; }
            1 if !path.is_empty() => { path.pop(); }
            2 => path.push(leaf(b)),
            3 => new_root.0[step] ^= 0x80,
            _ => old_root.0[step] ^= 1,
        }
        prop_assert!(verify_consistency(old, &old_root, size, &new_root, &path).is_err());
    }

    /// A log that rewrote an old leaf cannot prove that it only grew.
    #[test]
    fn rewritten_history_is_found(old in 1u64..60, more in 1u64..60, rewritten in 0u64..60) {
        let (_, _, honest) = grown(old);
        let mut tree = Tree::new();
        let mut kept = Kept(HashMap::new());
        for n in 0..old + more {
            let appended = tree.append(if n == rewritten % old { leaf(n + 1000) } else { leaf(n) }).unwrap();
            kept.0.extend(appended.nodes.into_iter().map(|(level, index, hash)| ((level, index), hash)));
        }
        let path = consistency_proof(&kept, old, old + more).unwrap();
        prop_assert!(verify_consistency(old, &honest[old as usize], old + more, &tree.root(), &path).is_err());
    }

    /// Saving and loading in the middle changes nothing.
    #[test]
    fn saved_trees_continue(before in 0..MAX_LEAVES, after in 0u64..20) {
        let (mut tree, _, _) = grown(before);
        let mut loaded = Tree::from_json(&tree.to_json().unwrap()).unwrap();
        for n in 0..after {
            prop_assert_eq!(tree.append(leaf(before + n)), loaded.append(leaf(before + n)));
        }
        prop_assert_eq!(tree, loaded);
    }

    /// No text makes the readers panic, and what they accept they write back unchanged.
    #[test]
    fn hostile_texts(text in "\\PC{0,200}", cut in 0usize..600) {
        prop_assert!(Record::parse(text.as_bytes()).is_err());
        prop_assert!(Evidence::from_json(&text).is_err());
        let fixture = include_str!("fixtures/evidence-v1.json").trim_end();
        let cut: String = fixture.chars().take(cut.min(fixture.chars().count() - 1)).collect();
        prop_assert!(Evidence::from_json(&cut).is_err());
    }
}

#[test]
fn fixtures_open() {
    let head_text = include_str!("fixtures/tree-head-v1.json").trim_end();
    let tree_text = include_str!("fixtures/tree-v1.json").trim_end();
    let evidence_text = include_str!("fixtures/evidence-v1.json").trim_end();
    let record = |n: i64| {
        Record::new("use-opened", 1_795_000_000_000 + n, [("agreement", "urn:uuid:1"), ("purpose", "研究")])
            .unwrap()
    };
    let salt = |n: i64| Salt([n as u8; 32]);

    let mut tree = Tree::new();
    let mut kept = Kept(HashMap::new());
    for n in 0..7 {
        let appended = tree.append(leaf_hash(&salt(n), &record(n))).unwrap();
        kept.0.extend(appended.nodes.into_iter().map(|(level, index, hash)| ((level, index), hash)));
    }
    let head = TreeHead { size: tree.size(), root: tree.root() };
    let evidence = Evidence {
        record: record(4),
        salt: salt(4),
        index: 4,
        size: 7,
        path: inclusion_proof(&kept, 4, 7).unwrap(),
    };
    assert_eq!(head.to_json().unwrap(), head_text);
    assert_eq!(tree.to_json().unwrap(), tree_text);
    assert_eq!(evidence.to_json().unwrap(), evidence_text);

    let read = Evidence::from_json(evidence_text).unwrap();
    assert_eq!(read.verify(&TreeHead::from_json(head_text).unwrap()), Ok(()));
    assert_eq!(Tree::from_json(tree_text).unwrap(), tree);
    type Change = fn(&mut Evidence);
    let changes: [(&str, Change); 4] = [
        ("salt", |evidence| evidence.salt.0[0] ^= 1),
        ("place", |evidence| evidence.index = 5),
        ("size", |evidence| evidence.size = 8),
        ("record", |evidence| evidence.record = Record::new("k", 0, [("a", "b")]).unwrap()),
    ];
    for (what, change) in changes {
        let mut changed = read.clone();
        change(&mut changed);
        assert!(changed.verify(&head).is_err(), "{what}");
    }
    assert!(TreeHead::from_json(&head_text.replace("\"7\"", "\"07\"")).is_err());
}
