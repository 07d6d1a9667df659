//! Connections as they must be set, and the schema's migrations.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;

/// The migrations in order: entry n brings schema n to n + 1.
const MIGRATIONS: &[&str] = &[include_str!("schema/v1.sql")];
/// `FLdS` in the file's header: says whose database it is.
const APPLICATION_ID: i64 = 0x464c_6453;
/// 3.51.3: older releases have a race that can corrupt a write-ahead log.
const OLDEST_ENGINE: i32 = 3_051_003;
/// How long a connection waits for another one's lock; only checkpoints and backups ever hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Every statement of the crate fits.
const CACHED_STATEMENTS: usize = 128;

/// The schema number this release writes.
pub(crate) fn current() -> i64 {
    MIGRATIONS.len() as i64
}

/// Opens the one connection that writes, creating or migrating the database.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    if rusqlite::version_number() < OLDEST_ENGINE {
        return Err(StoreError::OldEngine(rusqlite::version().to_owned()));
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags)?;
    set_common(&conn)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Damaged(format!("journal mode is {mode}, not wal")));
    }
    // FULL: a commit is on the disk before it is reported. secure_delete: freed cells are overwritten with zeros.
    conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA foreign_keys = ON;")?;
    let secure: i64 = conn.query_row("PRAGMA secure_delete = ON", [], |row| row.get(0))?;
    if secure != 1 {
        return Err(StoreError::Damaged("secure_delete cannot be switched on".to_owned()));
    }
    migrate(&mut conn, path)?;
    Ok(conn)
}

/// Opens a connection that cannot write.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    set_common(&conn)?;
    Ok(conn)
}

/// The schema number of a database that must be ours.
pub(crate) fn version_of(conn: &Connection, path: &Path) -> Result<i64, StoreError> {
    let ours: i64 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if ours != APPLICATION_ID {
        return Err(StoreError::NotOurs(path.to_owned()));
    }
    if found > current() {
        return Err(StoreError::NewerSchema { found, known: current() });
    }
    Ok(found)
}

fn set_common(conn: &Connection) -> Result<(), StoreError> {
    conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // In memory: nothing is written outside the folder. A schema changed by a stranger cannot call functions.
    conn.execute_batch(
        "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
    )?;
    Ok(())
}

fn migrate(conn: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let objects: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let ours: i64 = tx.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let found = if objects == 0 && ours == 0 { 0 } else { version_of(&tx, path)? };
    let done = usize::try_from(found).map_err(|_| StoreError::NotOurs(path.to_owned()))?;
    for migration in MIGRATIONS.iter().skip(done) {
        tx.execute_batch(migration)?;
    }
    if found < current() {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", current())?;
    }
    tx.commit()?;
    Ok(())
}
