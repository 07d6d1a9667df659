//! Versioned rows of the collections, with tags to find them by.

use rusqlite::{OptionalExtension, Row as SqlRow, params};

use crate::tx::{check_key, check_value, page, signed, unsigned};
use crate::{Collection, Signal, Snapshot, StoreError, Tx};

/// Tags of one row: the questions that are asked of it.
pub const MAX_TAGS: usize = 16;

/// A row as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: String,
    /// Grows with every write anywhere in the store, so that a row deleted and made again is never taken for the old.
    pub version: u64,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// What must be there for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing may be there.
    Absent,
    /// The row must have this version.
    Version(u64),
    /// Whatever is there is replaced.
    Any,
}

impl Snapshot<'_> {
    /// The row at `key`.
    pub fn get(&self, collection: Collection, key: &str) -> Result<Option<Row>, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT key, version, value FROM entry WHERE collection = ?1 AND key = ?2")?;
        statement.query_row((collection.as_str(), key), read).optional()?.transpose()
    }

    /// Rows whose key starts with `prefix`, in the keys' byte order, after the key `after`; at most `limit`
    /// (up to [`crate::MAX_PAGE`]).
    pub fn scan(
        &self,
        collection: Collection,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let end = format!("{prefix}{}", char::MAX);
        let mut statement = self.conn.prepare_cached(
            "SELECT key, version, value FROM entry
             WHERE collection = ?1 AND key >= ?2 AND key < ?3 AND key > ?4 ORDER BY key LIMIT ?5",
        )?;
        let rows = statement
            .query_map((collection.as_str(), prefix, end, after.unwrap_or(""), page(limit)?), read)?;
        rows.map(|row| row?).collect()
    }

    /// Rows with the tag `name` = `value`, in the order of their keys, after the key `after`; at most `limit`.
    pub fn find(
        &self,
        collection: Collection,
        name: &str,
        value: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT entry.key, entry.version, entry.value
             FROM tag CROSS JOIN entry ON entry.collection = tag.collection AND entry.key = tag.key
             WHERE tag.collection = ?1 AND tag.name = ?2 AND tag.value = ?3 AND tag.key > ?4
             ORDER BY tag.key LIMIT ?5",
        )?;
        let rows = statement
            .query_map((collection.as_str(), name, value, after.unwrap_or(""), page(limit)?), read)?;
        rows.map(|row| row?).collect()
    }

    /// The tags of a row, sorted by name.
    pub fn tags(&self, collection: Collection, key: &str) -> Result<Vec<(String, String)>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT name, value FROM tag WHERE collection = ?1 AND key = ?2 ORDER BY name, value",
        )?;
        let rows = statement.query_map((collection.as_str(), key), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Tx<'_> {
    /// Writes a row and gives its new version; refuses with `VersionConflict` if `expect` does not hold.
    pub fn put(
        &self,
        collection: Collection,
        key: &str,
        value: &[u8],
        expect: Expect,
    ) -> Result<u64, StoreError> {
        check_key(key)?;
        check_value(value)?;
        self.check_expected(collection, key, expect)?;
        let version = self.bump("change", 1)?;
        self.conn
            .prepare_cached(
                "INSERT INTO entry (collection, key, version, value) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (collection, key) DO UPDATE SET version = excluded.version, value = excluded.value",
            )?
            .execute(params![collection.as_str(), key, version, value])?;
        self.touch(Signal::Rows(collection));
        unsigned(version)
    }

    /// Deletes a row and its tags, overwriting their bytes; says whether there was one.
    pub fn delete(&self, collection: Collection, key: &str, expect: Expect) -> Result<bool, StoreError> {
        self.check_expected(collection, key, expect)?;
        self.set_tags(collection, key, &[])?;
        let deleted = self
            .conn
            .prepare_cached("DELETE FROM entry WHERE collection = ?1 AND key = ?2")?
            .execute((collection.as_str(), key))?;
        if deleted > 0 {
            self.touch(Signal::Rows(collection));
        }
        Ok(deleted > 0)
    }

    /// Replaces the tags of the row at `key`, which must exist.
    pub fn tag(&self, collection: Collection, key: &str, tags: &[(&str, &str)]) -> Result<(), StoreError> {
        if tags.len() > MAX_TAGS {
            return Err(StoreError::Limit { what: "the number of tags", limit: MAX_TAGS as u64 });
        }
        if self.version(collection, key)?.is_none() {
            return Err(StoreError::Missing { what: collection.as_str(), id: key.to_owned() });
        }
        self.set_tags(collection, key, tags)?;
        self.touch(Signal::Rows(collection));
        Ok(())
    }

    fn set_tags(&self, collection: Collection, key: &str, tags: &[(&str, &str)]) -> Result<(), StoreError> {
        self.conn
            .prepare_cached("DELETE FROM tag WHERE collection = ?1 AND key = ?2")?
            .execute((collection.as_str(), key))?;
        let mut insert = self.conn.prepare_cached("INSERT OR IGNORE INTO tag VALUES (?1, ?2, ?3, ?4)")?;
        for (name, value) in tags {
            check_key(name)?;
            check_key(value)?;
            insert.execute((collection.as_str(), name, value, key))?;
        }
        Ok(())
    }

    fn version(&self, collection: Collection, key: &str) -> Result<Option<u64>, StoreError> {
        let mut statement =
            self.conn.prepare_cached("SELECT version FROM entry WHERE collection = ?1 AND key = ?2")?;
        let found: Option<i64> =
            statement.query_row((collection.as_str(), key), |row| row.get(0)).optional()?;
        found.map(unsigned).transpose()
    }

    fn check_expected(&self, collection: Collection, key: &str, expect: Expect) -> Result<(), StoreError> {
        let expected = match expect {
            Expect::Any => return Ok(()),
            Expect::Absent => None,
            Expect::Version(version) => {
                signed(version)?;
                Some(version)
            }
        };
        let found = self.version(collection, key)?;
        if found == expected {
            return Ok(());
        }
        Err(StoreError::VersionConflict { collection, key: key.to_owned(), expected, found })
    }
}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Result<Row, StoreError>> {
    let (key, version, value) = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(unsigned(version).map(|version| Row { key, version, value }))
}
