//! The ledger's leaves, records, salts and nodes, written in the transaction that they record.

use ledger::{
    Evidence, Hash, Nodes, Record, Salt, Tree, TreeHead, consistency_proof, inclusion_proof, leaf_hash, proof,
};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow};

use crate::tx::{page, signed, unsigned};
use crate::{Signal, Snapshot, StoreError, Tx};

/// The index name of a record's kind: no subject field can be called so.
const KIND: &str = "#kind";

/// What an append gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerAppended {
    /// The record's place, counted from 0.
    pub seq: u64,
    /// Its leaf.
    pub leaf: Hash,
    /// The root over everything up to and including it.
    pub root: Hash,
}

/// A leaf as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Its place, counted from 0.
    pub seq: u64,
    /// Its leaf.
    pub leaf: Hash,
    /// The root when it was appended.
    pub root: Hash,
    /// The record and its salt; `None` once they were erased.
    pub content: Option<(Record, Salt)>,
}

const COLUMNS: &str = "ledger.seq, ledger.leaf, ledger.root, ledger.record, ledger.salt";

impl Snapshot<'_> {
    /// The size and root of the log.
    pub fn ledger_head(&self) -> Result<TreeHead, StoreError> {
        let tree = tree(self.conn)?;
        Ok(TreeHead { size: tree.size(), root: tree.root() })
    }

    /// The size and root that the log had at `size` leaves.
    pub fn ledger_head_at(&self, size: u64) -> Result<TreeHead, StoreError> {
        Ok(TreeHead { size, root: proof::root(&Kept(self.conn), size)? })
    }

    /// The leaf at `seq`.
    pub fn ledger_get(&self, seq: u64) -> Result<Option<LedgerEntry>, StoreError> {
        let mut statement =
            self.conn.prepare_cached(&format!("SELECT {COLUMNS} FROM ledger WHERE seq = ?1"))?;
        statement.query_row([signed(seq)?], read).optional()?.transpose()
    }

    /// Leaves from place `from` on, in order; at most `limit`.
    pub fn ledger_page(&self, from: u64, limit: usize) -> Result<Vec<LedgerEntry>, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached(&format!("SELECT {COLUMNS} FROM ledger WHERE seq >= ?1 ORDER BY seq LIMIT ?2"))?;
        let rows = statement.query_map((signed(from)?, page(limit)?), read)?;
        rows.map(|row| row?).collect()
    }

    /// Records whose subject has `field` = `value`, from place `from` on; at most `limit`.
    pub fn ledger_find(
        &self,
        field: &str,
        value: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM ledger_subject AS s JOIN ledger USING (seq)
             WHERE s.name = ?1 AND s.value = ?2 AND s.seq >= ?3 ORDER BY s.seq LIMIT ?4"
        ))?;
        let rows = statement.query_map((field, value, signed(from)?, page(limit)?), read)?;
        rows.map(|row| row?).collect()
    }

    /// Records of one kind, from place `from` on; at most `limit`.
    pub fn ledger_of_kind(
        &self,
        kind: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        self.ledger_find(KIND, kind, from, limit)
    }

    /// The record at `seq` with its path to the head at `size` leaves; `None` if it was erased or never was.
    pub fn ledger_evidence(&self, seq: u64, size: u64) -> Result<Option<Evidence>, StoreError> {
        let Some((record, salt)) = self.ledger_get(seq)?.and_then(|entry| entry.content) else {
            return Ok(None);
        };
        let path = inclusion_proof(&Kept(self.conn), seq, size)?;
        Ok(Some(Evidence { record, salt, index: seq, size, path }))
    }

    /// The proof that the log at `new` leaves only adds to the log at `old` leaves.
    pub fn ledger_consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        consistency_proof(&Kept(self.conn), old, new)
    }
}

impl Tx<'_> {
    /// Appends a record under a fresh random salt.
    pub fn ledger_append(&self, record: &Record, salt: &Salt) -> Result<LedgerAppended, StoreError> {
        let mut tree = tree(self.conn)?;
        let leaf = leaf_hash(salt, record);
        let appended = tree.append(leaf)?;
        let seq = signed(appended.index)?;
        self.conn
            .prepare_cached("INSERT INTO ledger (seq, leaf, root, salt, record) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute((seq, leaf.0, appended.root.0, salt.0, record.canonical().as_bytes()))?;
        let mut node = self.conn.prepare_cached("INSERT INTO ledger_node VALUES (?1, ?2, ?3)")?;
        for (level, place, hash) in &appended.nodes {
            // Leaves are in `ledger` already.
            if *level > 0 {
                node.execute((level, signed(*place)?, hash.0))?;
            }
        }
        let mut subject = self.conn.prepare_cached("INSERT INTO ledger_subject VALUES (?1, ?2, ?3)")?;
        subject.execute((KIND, record.kind(), seq))?;
        for (name, value) in record.subject() {
            subject.execute((name, value, seq))?;
        }
        self.conn
            .prepare_cached(
                "INSERT INTO ledger_tree VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET state = excluded.state",
            )?
            .execute([tree.to_json()?])?;
        self.touch(Signal::Ledger);
        Ok(LedgerAppended { seq: appended.index, leaf, root: appended.root })
    }

    /// Erases record and salt at `seq`, overwriting their bytes; the leaf stays, so the tree stays whole. Says
    /// whether there was something to erase.
    pub fn ledger_erase(&self, seq: u64) -> Result<bool, StoreError> {
        let seq = signed(seq)?;
        self.conn.prepare_cached("DELETE FROM ledger_subject WHERE seq = ?1")?.execute([seq])?;
        let erased = self
            .conn
            .prepare_cached(
                "UPDATE ledger SET salt = NULL, record = NULL WHERE seq = ?1 AND salt IS NOT NULL",
            )?
            .execute([seq])?;
        Ok(erased > 0)
    }
}

/// Refuses a log whose saved tree is not the one its last leaf belongs to: it would go on behind its own end.
pub(crate) fn check_end(conn: &Connection) -> Result<(), StoreError> {
    let tree = tree(conn)?;
    let last: Option<(i64, [u8; 32])> = conn
        .prepare_cached("SELECT seq, root FROM ledger ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (size, root) = match last {
        None => (0, Hash::empty_root()),
        Some((seq, root)) => (unsigned(seq)? + 1, Hash(root)),
    };
    if tree.size() != size || tree.root() != root {
        return Err(StoreError::Damaged(format!(
            "the ledger ends at {size} leaves, its tree at {}",
            tree.size()
        )));
    }
    Ok(())
}

/// Recomputes the whole log: every record against its leaf, every leaf against its stored root and nodes.
pub(crate) fn check_all(conn: &Connection) -> Result<TreeHead, StoreError> {
    check_end(conn)?;
    let kept = Kept(conn);
    let mut tree = Tree::new();
    let mut statement = conn.prepare(&format!("SELECT {COLUMNS} FROM ledger ORDER BY seq"))?;
    for row in statement.query_map([], read)? {
        let entry = row??;
        let wrong = |what| Err(StoreError::Damaged(format!("ledger entry {}: {what}", entry.seq)));
        if entry.content.as_ref().is_some_and(|(record, salt)| leaf_hash(salt, record) != entry.leaf) {
            return wrong("the record is not the one its leaf commits to");
        }
        let appended = tree.append(entry.leaf)?;
        if appended.index != entry.seq || appended.root != entry.root {
            return wrong("the root is not the one the leaves make");
        }
        for (level, place, hash) in appended.nodes {
            if kept.node(level, place)? != hash {
                return wrong("a node is not the one the leaves make");
            }
        }
    }
    Ok(TreeHead { size: tree.size(), root: tree.root() })
}

struct Kept<'a>(&'a Connection);

impl Nodes for Kept<'_> {
    type Error = StoreError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        let place = signed(index)?;
        let hash: Option<[u8; 32]> = if level == 0 {
            let mut statement = self.0.prepare_cached("SELECT leaf FROM ledger WHERE seq = ?1")?;
            statement.query_row([place], |row| row.get(0)).optional()?
        } else {
            let mut statement =
                self.0.prepare_cached("SELECT hash FROM ledger_node WHERE level = ?1 AND place = ?2")?;
            statement.query_row((level, place), |row| row.get(0)).optional()?
        };
        hash.map(Hash)
            .ok_or_else(|| StoreError::Missing { what: "ledger node", id: format!("{level}/{index}") })
    }
}

fn tree(conn: &Connection) -> Result<Tree, StoreError> {
    let mut statement = conn.prepare_cached("SELECT state FROM ledger_tree")?;
    let state: Option<String> = statement.query_row([], |row| row.get(0)).optional()?;
    Ok(match state {
        Some(state) => Tree::from_json(&state)?,
        None => Tree::new(),
    })
}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Result<LedgerEntry, StoreError>> {
    let (seq, leaf, root): (i64, [u8; 32], [u8; 32]) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (record, salt): (Option<Vec<u8>>, Option<[u8; 32]>) = (row.get(3)?, row.get(4)?);
    Ok((|| {
        let content = match (record, salt) {
            (Some(record), Some(salt)) => Some((Record::parse(&record)?, Salt(salt))),
            _ => None,
        };
        Ok(LedgerEntry { seq: unsigned(seq)?, leaf: Hash(leaf), root: Hash(root), content })
    })())
}
