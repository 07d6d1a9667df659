//! The key-encryption key and its epochs: destroying a key for good means moving the survivors to a new one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use control_plane::ids::AgreementId;
use data_plane::{AgreementKey, FileKek, KeyEncryption, WrappedKey};
use store::{Collection, Expect, Snapshot, Store, Tx};
use tokio::sync::{RwLock, RwLockReadGuard};

use super::provider::data_error;
use super::shares;
use crate::error::Error;

/// The row that says which epoch the wrapped keys are under.
const CURRENT: &str = "current";
/// The row that says that keys were destroyed and the key they were wrapped with is still there.
const ROTATION_OWED: &str = "rotation-owed";

/// The key-encryption key in use. Readers wrap and unwrap; a rotation waits for them and they for it.
pub struct Keys {
    directory: PathBuf,
    current: RwLock<Arc<FileKek>>,
}

impl Keys {
    /// Opens the key in `directory`, made if missing; finishes or drops a rotation that a crash interrupted.
    pub async fn open(directory: &Path, store: &Store) -> Result<Self, Error> {
        std::fs::create_dir_all(directory).map_err(Error::ours)?;
        let recorded = store.read(recorded_epoch).await?;
        let (file, next) = (directory.join("kek.json"), directory.join("kek-next.json"));
        if next.exists() {
            let prepared = FileKek::load(&next).map_err(data_error)?;
            // The rows decide: they moved to the new epoch in one transaction, or not at all.
            if recorded == Some(prepared.epoch()) {
                prepared.save(&file).map_err(data_error)?;
            }
            std::fs::remove_file(&next).map_err(Error::ours)?;
        }
        let kek = FileKek::load_or_create(&file).map_err(data_error)?;
        if recorded.is_some_and(|epoch| epoch != kek.epoch()) {
            let found = format!("rows {recorded:?}, file {}", kek.epoch());
            if store.read(|store| store.restored_at().map_err(Error::from)).await?.is_none() {
                return Err(Error::damaged("the key-encryption key's epoch", found));
            }
            tracing::error!(%found, "the backup's copies are under a key that was destroyed since: they stay closed");
            store.write(drop_wrapped).await?;
        }
        let keys = Self { directory: directory.to_owned(), current: RwLock::new(Arc::new(kek)) };
        keys.rotate_if_owed(store).await?;
        Ok(keys)
    }

    /// The key, held against a rotation for as long as the guard lives.
    pub async fn current(&self) -> RwLockReadGuard<'_, Arc<FileKek>> {
        self.current.read().await
    }

    /// After [`owe_rotation`]: moves every wrapped key to a fresh key-encryption key and destroys the old one, so that
    /// a key whose row was deleted cannot come back from a copy of the old row.
    pub async fn rotate_if_owed(&self, store: &Store) -> Result<(), Error> {
        let mut current = self.current.write().await;
        if store
            .read(|store| store.get(Collection::KeyEpochs, ROTATION_OWED).map_err(Error::from))
            .await?
            .is_none()
        {
            return Ok(());
        }
        let (file, next_file) = (self.directory.join("kek.json"), self.directory.join("kek-next.json"));
        let old = current.clone();
        let next = Arc::new(old.next_epoch().map_err(data_error)?);
        next.save(&next_file).map_err(data_error)?;
        let wrapper = next.clone();
        store.write(move |tx| rewrap_all(tx, &old, &wrapper)).await?;
        next.save(&file).map_err(data_error)?;
        std::fs::remove_file(&next_file).map_err(Error::ours)?;
        *current = next;
        store.wal_truncate().await?;
        Ok(())
    }
}

/// A backup older than the last key destruction: its wrapped keys can never be opened again.
fn drop_wrapped(tx: &Tx<'_>) -> Result<(), Error> {
    loop {
        let rows = tx.scan(Collection::WrappedKeys, "", None, store::MAX_PAGE)?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            tx.delete(Collection::WrappedKeys, &row.key, Expect::Any)?;
        }
    }
    tx.delete(Collection::KeyEpochs, CURRENT, Expect::Any)?;
    Ok(())
}

fn recorded_epoch(store: &Snapshot<'_>) -> Result<Option<u64>, Error> {
    let Some(row) = store.get(Collection::KeyEpochs, CURRENT)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&row.value).into_owned();
    text.parse().map(Some).map_err(|error| Error::damaged("key epoch", error))
}

/// Moves every wrapped key, and the record of their epoch, from one key-encryption key to another.
pub fn rewrap_all(tx: &Tx<'_>, old: &FileKek, next: &FileKek) -> Result<(), Error> {
    let mut after = None;
    loop {
        let rows = tx.scan(Collection::WrappedKeys, "", after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { break };
        after = Some(last.key.clone());
        for row in &rows {
            if shares::is_share(&row.key) {
                shares::rewrap(tx, row, old, next)?;
                continue;
            }
            let id = AgreementId::parse(&row.key)?;
            let key = unwrap(old, id.clone(), &row.value)?;
            put(tx, &id, &key.wrap(next).map_err(data_error)?)?;
        }
    }
    tx.put(Collection::KeyEpochs, CURRENT, next.epoch().to_string().as_bytes(), Expect::Any)?;
    tx.delete(Collection::KeyEpochs, ROTATION_OWED, Expect::Any)?;
    Ok(())
}

/// In the transaction that deletes a wrapped key: from now on [`Keys::rotate_if_owed`] has something to do, also after
/// a crash.
pub fn owe_rotation(tx: &Tx<'_>) -> Result<(), Error> {
    tx.put(Collection::KeyEpochs, ROTATION_OWED, b"", Expect::Any)?;
    Ok(())
}

fn unwrap(kek: &FileKek, agreement: AgreementId, stored: &[u8]) -> Result<AgreementKey, Error> {
    let wrapped = WrappedKey::parse(&String::from_utf8_lossy(stored))?;
    AgreementKey::unwrap(agreement, &wrapped, kek).map_err(data_error)
}

/// The key of an agreement's copies, if it was not destroyed.
pub fn agreement_key(
    store: &Snapshot<'_>,
    kek: &FileKek,
    agreement: &AgreementId,
) -> Result<Option<AgreementKey>, Error> {
    let row = store.get(Collection::WrappedKeys, agreement.as_str())?;
    row.map(|row| unwrap(kek, agreement.clone(), &row.value)).transpose()
}

/// Makes the key of an agreement's copies.
pub fn make_agreement_key(
    tx: &Tx<'_>,
    kek: &FileKek,
    agreement: &AgreementId,
) -> Result<AgreementKey, Error> {
    let key = AgreementKey::generate(agreement.clone()).map_err(data_error)?;
    put(tx, agreement, &key.wrap(kek).map_err(data_error)?)?;
    note_epoch(tx, kek)?;
    Ok(key)
}

/// With the first wrapped key: which epoch they are under.
pub fn note_epoch(tx: &Tx<'_>, kek: &FileKek) -> Result<(), Error> {
    if tx.get(Collection::KeyEpochs, CURRENT)?.is_none() {
        tx.put(Collection::KeyEpochs, CURRENT, kek.epoch().to_string().as_bytes(), Expect::Absent)?;
    }
    Ok(())
}

fn put(tx: &Tx<'_>, agreement: &AgreementId, wrapped: &WrappedKey) -> Result<(), Error> {
    tx.put(Collection::WrappedKeys, agreement.as_str(), wrapped.to_text().as_bytes(), Expect::Any)?;
    Ok(())
}
