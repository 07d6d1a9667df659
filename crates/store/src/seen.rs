//! Messages already answered: the same one again gets the same answer, and changes nothing.

use control_plane::UnixMillis;
use rusqlite::OptionalExtension;

use crate::tx::{check_key, check_value, page};
use crate::{Snapshot, StoreError, Tx};

/// What is known of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was not answered yet.
    New,
    /// It was answered with this.
    Repeat(Vec<u8>),
    /// Its id was used by the same peer for another content.
    Conflict,
}

impl Snapshot<'_> {
    /// What is known of message `message_id` of `peer` with this hash of its body.
    pub fn seen(&self, peer: &str, message_id: &str, body_hash: &str) -> Result<Seen, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT body_hash, answer FROM seen WHERE peer = ?1 AND message_id = ?2")?;
        let found: Option<(String, Vec<u8>)> =
            statement.query_row((peer, message_id), |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        Ok(match found {
            None => Seen::New,
            Some((hash, answer)) if hash == body_hash => Seen::Repeat(answer),
            Some(_) => Seen::Conflict,
        })
    }
}

impl Tx<'_> {
    /// Keeps the answer to a new message, in the transaction that acts on it; refuses with `IdReused` if the
    /// message was answered before.
    pub fn remember(
        &self,
        peer: &str,
        message_id: &str,
        body_hash: &str,
        answer: &[u8],
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        for key in [peer, message_id, body_hash] {
            check_key(key)?;
        }
        check_value(answer)?;
        let added = self
            .conn
            .prepare_cached("INSERT OR IGNORE INTO seen VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute((peer, message_id, body_hash, answer, now.0))?;
        if added == 0 {
            return Err(StoreError::IdReused { what: "message", id: message_id.to_owned() });
        }
        Ok(())
    }

    /// Forgets up to `limit` messages answered before `before`; gives how many.
    pub fn seen_prune(&self, before: UnixMillis, limit: usize) -> Result<usize, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "DELETE FROM seen WHERE rowid IN (SELECT rowid FROM seen WHERE at < ?1 ORDER BY at LIMIT ?2)",
        )?;
        Ok(statement.execute((before.0, page(limit)?))?)
    }
}
