//! What a closure is given: a [`Snapshot`] to read, a [`Tx`] to read and write.

use std::cell::Cell;
use std::ops::Deref;

use rusqlite::Connection;

use crate::{Signal, StoreError};

/// Keys, ids and tag values: several identifiers joined still fit.
pub const MAX_KEY_BYTES: usize = 2048;
/// One value: holds the largest envelope or manifest with room; data never goes into the database.
pub const MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;
/// Rows of one page: keeps a transaction short.
pub const MAX_PAGE: usize = 1000;

/// One consistent state of the store.
pub struct Snapshot<'a> {
    pub(crate) conn: &'a Connection,
}

/// One transaction: all of its changes become durable together, or none does. Reads see its own changes.
pub struct Tx<'a> {
    snapshot: Snapshot<'a>,
    signals: Cell<u64>,
}

impl<'a> Deref for Tx<'a> {
    type Target = Snapshot<'a>;
    fn deref(&self) -> &Self::Target {
        &self.snapshot
    }
}

impl<'a> Tx<'a> {
    pub(crate) fn new(conn: &'a Connection) -> Self {
        Self { snapshot: Snapshot { conn }, signals: Cell::new(0) }
    }

    pub(crate) fn touch(&self, signal: Signal) {
        self.signals.set(self.signals.get() | signal.bit());
    }

    pub(crate) fn signals(&self) -> u64 {
        self.signals.get()
    }

    /// Adds `by` to a number of the `meta` table and gives its new value.
    pub(crate) fn bump(&self, name: &str, by: i64) -> Result<i64, StoreError> {
        let mut statement =
            self.conn.prepare_cached("UPDATE meta SET value = value + ?2 WHERE name = ?1 RETURNING value")?;
        Ok(statement.query_row((name, by), |row| row.get(0))?)
    }
}

/// A key that sorts by bytes and has an upper bound for prefixes: not empty, no control characters.
pub(crate) fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(|c| c.is_control() || c == char::MAX) {
        return Err(StoreError::Limit {
            what: "a key's length (1 or more, no control characters)",
            limit: MAX_KEY_BYTES as u64,
        });
    }
    Ok(())
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), StoreError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(StoreError::Limit { what: "a value's length", limit: MAX_VALUE_BYTES as u64 });
    }
    Ok(())
}

pub(crate) fn page(limit: usize) -> Result<i64, StoreError> {
    if limit > MAX_PAGE {
        return Err(StoreError::Limit { what: "a page", limit: MAX_PAGE as u64 });
    }
    Ok(limit as i64)
}

/// A number as SQLite keeps it.
pub(crate) fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Limit { what: "a number", limit: i64::MAX as u64 })
}

/// A number that SQLite kept for us.
pub(crate) fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Damaged(format!("negative number {number}")))
}
