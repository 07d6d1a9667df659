//! Durable counters that never pass a ceiling and never go back.

use rusqlite::OptionalExtension;

use crate::tx::{check_key, page, signed, unsigned};
use crate::{Snapshot, StoreError, Tx};

/// The outcome of an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Added {
    /// The counter now has this value.
    Now(u64),
    /// Nothing was added: the sum would pass the ceiling.
    CeilingReached {
        /// The counter's value, unchanged.
        value: u64,
        /// The ceiling that was given.
        ceiling: u64,
    },
}

impl Snapshot<'_> {
    /// The counter's value; 0 if nothing was ever added.
    pub fn counter(&self, key: &str) -> Result<u64, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT value FROM counter WHERE key = ?1")?;
        let value: Option<i64> = statement.query_row([key], |row| row.get(0)).optional()?;
        unsigned(value.unwrap_or(0))
    }

    /// Counters whose key starts with `prefix`, in key order, after the key `after`; at most `limit`.
    pub fn counters(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let end = format!("{prefix}{}", char::MAX);
        let mut statement = self.conn.prepare_cached(
            "SELECT key, value FROM counter WHERE key >= ?1 AND key < ?2 AND key > ?3 ORDER BY key LIMIT ?4",
        )?;
        let rows = statement.query_map((prefix, end, after.unwrap_or(""), page(limit)?), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?;
        rows.map(|row| row.map_err(StoreError::from).and_then(|(key, value)| Ok((key, unsigned(value)?))))
            .collect()
    }
}

impl Tx<'_> {
    /// Adds `by` unless the sum would pass `ceiling` (or what fits the database).
    pub fn counter_add(&self, key: &str, by: u64, ceiling: Option<u64>) -> Result<Added, StoreError> {
        check_key(key)?;
        let value = self.counter(key)?;
        let ceiling = ceiling.unwrap_or(u64::MAX).min(i64::MAX as u64);
        let sum = match value.checked_add(by) {
            Some(sum) if sum <= ceiling => sum,
            _ => return Ok(Added::CeilingReached { value, ceiling }),
        };
        self.conn
            .prepare_cached(
                "INSERT INTO counter VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )?
            .execute((key, signed(sum)?))?;
        Ok(Added::Now(sum))
    }
}
