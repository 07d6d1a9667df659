//! Writes a backup while the connector goes on.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use control_plane::ids::AgreementId;
use control_plane::{Refusal, UnixMillis};
use data_plane::{FileKek, ObjectRecord, ObjectState};
use serde::{Deserialize, Serialize};
use store::{BackupReport, Collection, DutyState, Expect, Snapshot, Tx};

use super::stream::{Header, Sealing, refused};
use super::{
    KEYS_ENTRY, NO_FOLDER, NO_RECOVERY_KEY, NOT_WRITTEN, PublicKey, SEALED_FOLDER, STATE_ENTRY,
    TARGET_EXISTS, TRUNCATED, failed,
};
use crate::data::provider::data_error;
use crate::data::{duties, holdings, keys};
use crate::error::Error;
use crate::node::Node;

/// How long a backup may be restored unless asked otherwise: the usual monthly rotation.
pub const DEFAULT_KEEP_DAYS: u32 = 30;
/// The longest time for which a backup may be kept: ten years, the longest retention that research data has.
pub const MAX_KEEP_DAYS: u32 = 3660;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The copy of the state while it is encrypted; never holds a key that is not wrapped.
const PARTIAL_PREFIX: &str = "backup-";
const PARTIAL: &str = "partial";

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Leave out the sealed copies: they are large, and can be pulled again while their agreements allow it.
    pub without_copies: bool,
    /// For how many days it may be restored.
    pub keep_days: u32,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes of the file.
    pub bytes: u64,
    /// Records of the ledger.
    pub ledger_size: u64,
    /// The id of the recovery key that opens it.
    pub recovery_key: String,
    /// Until when it may be restored.
    pub keep_until: UnixMillis,
    /// Agreements whose copies it can open.
    pub keys: u64,
    /// Agreements whose copies are to be deleted before `keep_until`: their keys are not in it.
    pub keys_left_out: Vec<String>,
    /// Sealed files in it.
    pub copies: u64,
}

/// The head of what follows in the archive.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// Refuses a file that cannot be written: its folder is missing (`backup/no-such-folder`) or it is there already
/// (`backup/target-exists`).
pub fn require_writable(file: &Path) -> Result<(), Error> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        return Err(Refusal::new(&NO_FOLDER, format!("`{}`", folder.display())).into());
    }
    if std::fs::symlink_metadata(file).is_ok() {
        return Err(Refusal::new(&TARGET_EXISTS, format!("`{}`", file.display())).into());
    }
    Ok(())
}

/// Writes a backup that the recovery key opens to the new file `to`.
///
/// # Errors
/// `backup/no-recovery-key`, `backup/no-such-folder`, `backup/target-exists`, `backup/not-written`.
pub async fn write(node: &Arc<Node>, to: PathBuf, asked: Asked) -> Result<Report, Error> {
    require_writable(&to)?;
    let data = node.config.load().data.clone();
    let public = PublicKey::load(&data)?.ok_or_else(|| Refusal::new(&NO_RECOVERY_KEY, ""))?;
    let now = node.now();
    let keep_until = now.plus_millis(i64::from(asked.keep_days).saturating_mul(DAY_MS));
    let copy = Partial(data.join(format!("{PARTIAL_PREFIX}{}.{PARTIAL}", uuid::Uuid::new_v4())));
    let one_time = FileKek::generate().map_err(data_error)?;

    // Held from the copy to the wrapping: a rotation between would leave keys that nothing here opens.
    let kek = node.data.keys.current().await;
    let (store, from, path) = (node.store.clone(), (*kek).clone(), copy.0.clone());
    let copied = tokio::task::spawn_blocking(move || {
        let state = store.backup(&path)?;
        let kept = store::revise(&path, |tx| prepare(tx, &from, &one_time, keep_until))?;
        Ok::<_, Error>((state, kept, one_time))
    });
    let (state, kept, one_time) = copied.await.map_err(Error::ours)??;
    drop(kek);

    let header = Header::new(node.us.to_string(), now.to_string(), keep_until.to_string(), &public);
    let sealed = (!asked.without_copies).then(|| data.join(SEALED_FOLDER));
    let archived = tokio::task::spawn_blocking(move || {
        let (path, mut options) = (with_partial(&to), OpenOptions::new());
        let out = options.write(true).create_new(true).mode(0o600).open(&path);
        let out = out.map_err(failed(&NOT_WRITTEN, &path))?;
        // Ours from here on: one that another backup is writing stays.
        let target = Partial(path);
        let copies = archive(out, &target.0, &header, &public, &one_time, &copy.0, sealed.as_deref())?;
        let bytes = publish(&target.0, &to).map_err(failed(&NOT_WRITTEN, &to))?;
        Ok::<_, Error>(report(bytes, state, &header, keep_until, kept, copies))
    });
    archived.await.map_err(Error::ours)?
}

fn report(
    bytes: u64,
    state: BackupReport,
    header: &Header,
    keep_until: UnixMillis,
    kept: Kept,
    copies: u64,
) -> Report {
    Report {
        bytes,
        ledger_size: state.ledger.size,
        recovery_key: header.recovery_key.clone(),
        keep_until,
        keys: kept.keys,
        keys_left_out: kept.left_out,
        copies,
    }
}

struct Kept {
    keys: u64,
    left_out: Vec<String>,
}

/// In the copy: keys of copies that are to be deleted while the backup may still be restored go, rows of copies that
/// are not complete go (they are pulled anew), and what is left is wrapped under the backup's own key.
fn prepare(tx: &Tx<'_>, from: &FileKek, to: &FileKek, keep_until: UnixMillis) -> Result<Kept, Error> {
    let mut kept = Kept { keys: 0, left_out: Vec::new() };
    for row in every_row(tx, Collection::Holdings)? {
        let agreement = AgreementId::parse(&row.key)?;
        if tx.get(Collection::WrappedKeys, agreement.as_str())?.is_none() {
            continue;
        }
        if is_deleted_by(tx, &agreement, keep_until)? {
            tx.delete(Collection::WrappedKeys, agreement.as_str(), Expect::Any)?;
            kept.left_out.push(agreement.to_string());
        } else {
            kept.keys = kept.keys.saturating_add(1);
        }
    }
    for object in holdings::all_objects(tx)? {
        if object.state() == ObjectState::Partial {
            holdings::forget_object(tx, &object)?;
        }
    }
    keys::rewrap_all(tx, from, to)?;
    Ok(kept)
}

/// Whether a duty orders the deletion of these copies until then.
fn is_deleted_by(store: &Snapshot<'_>, agreement: &AgreementId, until: UnixMillis) -> Result<bool, Error> {
    let mut after: Option<String> = None;
    loop {
        let rows = store.duties_of(agreement.as_str(), after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { return Ok(false) };
        after = Some(last.id.clone());
        let due = |duty: &store::Duty| {
            duty.kind == duties::DELETE && duty.state != DutyState::Done && duty.deadline <= until
        };
        if rows.iter().any(due) {
            return Ok(true);
        }
    }
}

/// Every row of a collection.
pub(super) fn every_row(store: &Snapshot<'_>, of: Collection) -> Result<Vec<store::Row>, Error> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let rows = store.scan(of, "", after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { return Ok(all) };
        after = Some(last.key.clone());
        all.extend(rows);
    }
}

/// Writes the encrypted archive; gives how many sealed files are in it.
fn archive(
    out: File,
    target: &Path,
    header: &Header,
    public: &PublicKey,
    one_time: &FileKek,
    state: &Path,
    sealed: Option<&Path>,
) -> Result<u64, Error> {
    let keys = one_time.to_text().map_err(data_error)?;
    let objects: Vec<ObjectRecord> = store::inspect(state, holdings::all_objects)?;
    let written = (|| {
        let mut sealing = Sealing::begin(std::io::BufWriter::new(out), header, public)?;
        head(&mut sealing, KEYS_ENTRY, keys.len() as u64)?;
        sealing.write_all(keys.as_bytes())?;
        add(&mut sealing, STATE_ENTRY, File::open(state)?)?;
        let mut copies = 0_u64;
        for object in objects.iter().filter(|object| object.state() == ObjectState::Complete) {
            let Some(folder) = sealed else { break };
            match File::open(folder.join(object.file())) {
                Ok(file) => add(&mut sealing, &format!("{SEALED_FOLDER}{}", object.file()), file)?,
                // Destroyed since the state was copied, with its key.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            copies = copies.saturating_add(1);
        }
        let out = sealing.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        out.sync_all()?;
        Ok(copies)
    })();
    written.map_err(failed(&NOT_WRITTEN, target))
}

fn head(out: &mut impl Write, name: &str, bytes: u64) -> std::io::Result<()> {
    let entry = serde_jcs::to_vec(&Entry { name: name.to_owned(), bytes }).map_err(std::io::Error::other)?;
    out.write_all(&u32::try_from(entry.len()).map_err(std::io::Error::other)?.to_be_bytes())?;
    out.write_all(&entry)
}

fn add(out: &mut impl Write, name: &str, file: File) -> std::io::Result<()> {
    let bytes = file.metadata()?.len();
    head(out, name, bytes)?;
    match std::io::copy(&mut file.take(bytes), out)? {
        copied if copied == bytes => Ok(()),
        _ => Err(refused(&TRUNCATED, name)),
    }
}

/// The name under which a file is written until it is whole.
fn with_partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(PARTIAL);
    PathBuf::from(name)
}

/// Gives the whole file its name, never over another one; its size.
fn publish(partial: &Path, target: &Path) -> std::io::Result<u64> {
    std::fs::hard_link(partial, target)?;
    if let Some(folder) = target.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(std::fs::metadata(target)?.len())
}

/// Removes what a crash during a backup left in the data directory.
pub fn sweep(data: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(data)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PARTIAL_PREFIX) && name.ends_with(PARTIAL) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// A file that goes when its use ends.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        // SQLite's journal of a change that did not end.
        let mut journal = self.0.clone().into_os_string();
        journal.push("-journal");
        let _ = std::fs::remove_file(journal);
    }
}
