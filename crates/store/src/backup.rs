//! Copies of a running store, and the checks before one is put back.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ledger::TreeHead;
use rusqlite::{Connection, OptionalExtension};

use crate::engine::{FILE_NAME, create_private_dir, lock_dir, private_options};
use crate::error::io;
use crate::{Snapshot, StoreError, Tx, ledger_log, schema};

use control_plane::UnixMillis;

/// The row of `meta` that says when this store was restored, until that is settled.
const RESTORED: &str = "restored";
/// Messages of an integrity check that are passed on.
const MAX_SHOWN_PROBLEMS: usize = 5;

/// What a checked copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// Its schema number.
    pub schema: i64,
    /// The ledger's size and root.
    pub ledger: TreeHead,
    /// Its size on disk in bytes.
    pub bytes: u64,
}

/// Checks a copy without changing it: ours, a schema we know, whole, and a ledger whose every record, leaf and
/// root fit together.
pub fn check_backup(path: &Path) -> Result<BackupReport, StoreError> {
    let bytes = fs::metadata(path).map_err(io(format!("open {}", path.display())))?.len();
    let conn = schema::open_reader(path)?;
    let schema = schema::version_of(&conn, path)?;
    if schema == 0 {
        return Err(StoreError::NotOurs(path.to_owned()));
    }
    check_integrity(&conn)?;
    Ok(BackupReport { schema, ledger: ledger_log::check_all(&conn)?, bytes })
}

/// Puts the copy `backup` into `dir`, which must hold no store, after checking it; the store then says
/// [`Snapshot::restored_at`] until [`Tx::restore_settled`], because counters may have gone back.
pub fn restore(backup: &Path, dir: &Path, now: UnixMillis) -> Result<BackupReport, StoreError> {
    let report = check_backup(backup)?;
    create_private_dir(dir)?;
    let _lock = lock_dir(dir)?;
    let target = dir.join(FILE_NAME);
    refuse_existing(&target)?;
    let partial = new_partial(&target)?;
    let put_back = (|| {
        let mut from = File::open(backup).map_err(io(format!("open {}", backup.display())))?;
        let mut to = private_options().open(&partial).map_err(io(format!("open {}", partial.display())))?;
        std::io::copy(&mut from, &mut to).map_err(io(format!("write {}", partial.display())))?;
        drop(to);
        let conn = Connection::open(&partial)?;
        conn.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", (RESTORED, now.0))?;
        conn.close().map_err(|(_, error)| error)?;
        publish(&partial, &target)
    })();
    if put_back.is_err() {
        let _ = fs::remove_file(&partial);
    }
    put_back.map(|()| report)
}

/// Changes a copy that no store has open: all of `work`, or nothing. What its rows held before is overwritten.
pub fn revise<T, E: From<StoreError>>(
    copy: &Path,
    work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let engine = |error: rusqlite::Error| E::from(StoreError::from(error));
    check_backup(copy)?;
    let conn = Connection::open(copy).map_err(engine)?;
    conn.query_row("PRAGMA secure_delete = ON", [], |_| Ok(())).map_err(engine)?;
    conn.execute_batch("BEGIN IMMEDIATE").map_err(engine)?;
    // What fails leaves the transaction open, which closing the connection undoes.
    let done = work(&Tx::new(&conn))?;
    conn.execute_batch("COMMIT").map_err(engine)?;
    conn.close().map_err(|(_, error)| engine(error))?;
    Ok(done)
}

/// Reads a copy that no store has open.
pub fn inspect<T, E: From<StoreError>>(
    copy: &Path,
    work: impl FnOnce(&Snapshot<'_>) -> Result<T, E>,
) -> Result<T, E> {
    work(&Snapshot { conn: &schema::open_reader(copy)? })
}

impl Snapshot<'_> {
    /// When this store was put back from a copy, if nobody has settled what that means for its counters yet.
    pub fn restored_at(&self) -> Result<Option<UnixMillis>, StoreError> {
        let mut statement = self.conn.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
        Ok(statement.query_row([RESTORED], |row| row.get(0)).optional()?.map(UnixMillis))
    }
}

impl Tx<'_> {
    /// Ends the caution after a restore.
    pub fn restore_settled(&self) -> Result<(), StoreError> {
        self.conn.prepare_cached("DELETE FROM meta WHERE name = ?1")?.execute([RESTORED])?;
        Ok(())
    }
}

/// Copies the live database at `from` to the new file `to`.
pub(crate) fn write(from: &Path, to: &Path) -> Result<BackupReport, StoreError> {
    refuse_existing(to)?;
    let partial = new_partial(to)?;
    let written = (|| {
        let name = partial
            .to_str()
            .ok_or_else(|| io("name the backup")(std::io::Error::other("the path is not UTF-8")))?;
        // Copies one consistent state, without freed pages, while the writer goes on.
        schema::open_reader(from)?.execute("VACUUM INTO ?1", [name])?;
        let report = check_backup(&partial)?;
        publish(&partial, to)?;
        Ok(report)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}

fn check_integrity(conn: &Connection) -> Result<(), StoreError> {
    let mut statement = conn.prepare("SELECT * FROM pragma_integrity_check LIMIT ?1")?;
    let problems: Vec<String> =
        statement.query_map([MAX_SHOWN_PROBLEMS as i64], |row| row.get(0))?.collect::<Result<_, _>>()?;
    if problems == ["ok"] { Ok(()) } else { Err(StoreError::Damaged(problems.join("; "))) }
}

fn refuse_existing(path: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(io(format!("create {}", path.display()))(std::io::ErrorKind::AlreadyExists.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(format!("look at {}", path.display()))(error)),
    }
}

/// An empty file beside `target` that only its owner can read; a half-written copy never has the final name.
fn new_partial(target: &Path) -> Result<PathBuf, StoreError> {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    private_options().create_new(true).open(&partial).map_err(io(format!("create {}", partial.display())))?;
    Ok(partial)
}

/// Makes `partial` durable under its final name, never over another file.
fn publish(partial: &Path, target: &Path) -> Result<(), StoreError> {
    let failed = || io(format!("publish {}", target.display()));
    File::open(partial).and_then(|file| file.sync_all()).map_err(failed())?;
    match fs::hard_link(partial, target) {
        Ok(()) => fs::remove_file(partial).map_err(failed())?,
        // Network shares often have no links; renaming can replace, so look once more.
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            refuse_existing(target)?;
            fs::rename(partial, target).map_err(failed())?;
        }
        Err(error) => return Err(failed()(error)),
    }
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed())
}
