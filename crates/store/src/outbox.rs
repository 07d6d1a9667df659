//! Effects that still have to happen: written with the step that causes them, removed when they are done.

use control_plane::UnixMillis;
use rusqlite::{OptionalExtension, Row as SqlRow, params};

use crate::tx::{check_key, check_value, page, unsigned};
use crate::{Signal, Snapshot, StoreError, Tx};

/// Entries waiting at once: a peer that is away for days must not fill the disk.
pub const MAX_OUTBOX: u64 = 100_000;

/// An effect to be queued.
#[derive(Clone, Copy, Debug)]
pub struct OutboxItem<'a> {
    /// Its own id, stable across retries (a message's id).
    pub id: &'a str,
    /// Entries of one lane are done one after the other in the order they were pushed (e.g. a process's id).
    pub lane: &'a str,
    /// Where it goes.
    pub destination: &'a str,
    /// What it is, for the one who performs it.
    pub kind: &'a str,
    /// Its content.
    pub body: &'a [u8],
    /// Not before this time.
    pub due: UnixMillis,
}

/// A queued effect as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// See [`OutboxItem::id`].
    pub id: String,
    /// See [`OutboxItem::lane`].
    pub lane: String,
    /// See [`OutboxItem::destination`].
    pub destination: String,
    /// See [`OutboxItem::kind`].
    pub kind: String,
    /// See [`OutboxItem::body`].
    pub body: Vec<u8>,
    /// Not before this time.
    pub due: UnixMillis,
    /// How often it was tried.
    pub attempts: u32,
}

const COLUMNS: &str = "id, lane, destination, kind, body, due, attempts";
/// Only the oldest entry of each lane may go.
const IS_HEAD: &str =
    "NOT EXISTS (SELECT 1 FROM outbox AS p WHERE p.lane = outbox.lane AND p.seq < outbox.seq)";

impl Snapshot<'_> {
    /// Entries that may go now: due, and the oldest of their lane; the earliest due first, at most `limit`.
    pub fn outbox_due(&self, now: UnixMillis, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM outbox WHERE due <= ?1 AND {IS_HEAD} ORDER BY due, seq LIMIT ?2"
        ))?;
        let rows = statement.query_map((now.0, page(limit)?), read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// When the next entry may go; `None` if nothing waits. May lie in the past.
    pub fn outbox_next_due(&self) -> Result<Option<UnixMillis>, StoreError> {
        let mut statement = self
            .conn
            .prepare_cached(&format!("SELECT due FROM outbox WHERE {IS_HEAD} ORDER BY due, seq LIMIT 1"))?;
        Ok(statement.query_row([], |row| row.get(0)).optional()?.map(UnixMillis))
    }

    /// The entry with this id.
    pub fn outbox_get(&self, id: &str) -> Result<Option<OutboxEntry>, StoreError> {
        let mut statement =
            self.conn.prepare_cached(&format!("SELECT {COLUMNS} FROM outbox WHERE id = ?1"))?;
        Ok(statement.query_row([id], read).optional()?)
    }

    /// How many entries wait.
    pub fn outbox_len(&self) -> Result<u64, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT value FROM meta WHERE name = 'outbox'")?;
        unsigned(statement.query_row([], |row| row.get(0))?)
    }
}

impl Tx<'_> {
    /// Queues an effect. The same item again changes nothing and gives `false`; the id with another content
    /// refuses with `IdReused`, and beyond [`MAX_OUTBOX`] with `Limit`.
    pub fn outbox_push(&self, item: &OutboxItem<'_>) -> Result<bool, StoreError> {
        for key in [item.id, item.lane, item.destination, item.kind] {
            check_key(key)?;
        }
        check_value(item.body)?;
        if let Some(there) = self.outbox_get(item.id)? {
            let same = there.lane == item.lane
                && there.destination == item.destination
                && there.kind == item.kind
                && there.body == item.body;
            if same {
                return Ok(false);
            }
            return Err(StoreError::IdReused { what: "outbox", id: item.id.to_owned() });
        }
        if unsigned(self.bump("outbox", 1)?)? > MAX_OUTBOX {
            return Err(StoreError::Limit { what: "the outbox", limit: MAX_OUTBOX });
        }
        self.conn
            .prepare_cached(
                "INSERT INTO outbox (id, lane, destination, kind, body, due, attempts)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
            )?
            .execute(params![item.id, item.lane, item.destination, item.kind, item.body, item.due.0])?;
        self.touch(Signal::Outbox);
        Ok(true)
    }

    /// Removes an entry whose effect happened (or was given up); says whether there was one.
    pub fn outbox_done(&self, id: &str) -> Result<bool, StoreError> {
        let removed = self.conn.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
        if removed > 0 {
            self.bump("outbox", -1)?;
            // The next entry of the lane may now go.
            self.touch(Signal::Outbox);
        }
        Ok(removed > 0)
    }

    /// Puts an entry off to `due` after `attempts` tries.
    pub fn outbox_retry(&self, id: &str, due: UnixMillis, attempts: u32) -> Result<(), StoreError> {
        let changed = self
            .conn
            .prepare_cached("UPDATE outbox SET due = ?2, attempts = ?3 WHERE id = ?1")?
            .execute((id, due.0, attempts))?;
        if changed == 0 {
            return Err(StoreError::Missing { what: "outbox", id: id.to_owned() });
        }
        self.touch(Signal::Outbox);
        Ok(())
    }
}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<OutboxEntry> {
    Ok(OutboxEntry {
        id: row.get(0)?,
        lane: row.get(1)?,
        destination: row.get(2)?,
        kind: row.get(3)?,
        body: row.get(4)?,
        due: UnixMillis(row.get(5)?),
        attempts: row.get(6)?,
    })
}
