//! Writes a sealed file forward, one segment under one nonce once.

use std::fs::{File, OpenOptions};
use std::ops::Deref;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::LessSafeKey;
use policy::refusal::Refusal;
use rustix::fs::{FlockOperation, flock};

use super::{
    ALTERED, BUSY, GENERATION_BYTES, Header, ObjectRecord, Run, SEGMENT_BYTES, STRIDE, SealedReader,
    TAG_BYTES, associated, nonce, segment_count, segment_len,
};
use crate::digest::Digest;
use crate::error::DataError;
use crate::keys::{DataKey, sync_directory};

/// Segments sealed before one write call: the file system sees about one chunk at a time.
const BATCH: usize = 4;

/// A file under an exclusive lock; free for another writer once the last handle to this is dropped.
pub(crate) struct LockedFile(File);

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Closing alone does not free it while a child that was just forked has not yet closed its copy of the handle.
        if let Err(error) = flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(%error, "a sealed file stays locked until the process ends");
        }
    }
}

pub(crate) struct SealedWriter {
    file: Arc<LockedFile>,
    path: PathBuf,
    key: LessSafeKey,
    header_digest: Digest,
    data_start: u64,
    size: u64,
    generation: u32,
    next: u64,
    sealed: Vec<u8>,
    broken: bool,
}

impl SealedWriter {
    /// Makes the file of a fresh key; the first generation.
    pub(crate) fn create(path: &Path, header: &Header, key: &DataKey) -> Result<Self, DataError> {
        let (start, header_digest) = header.encode()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| DataError::io("create", path, error))?;
        let file = lock(file, path)?;
        file.write_all_at(&start, 0).map_err(|error| DataError::io("write", path, error))?;
        let run = Run { generation: 1, first: 0 };
        Self::new(file, path, key, header_digest, start.len() as u64, header.size, run)
    }

    /// Reopens a partial file under a generation that the row already holds durably, cutting what was not durable.
    pub(crate) fn resume(path: &Path, record: &ObjectRecord, key: &DataKey) -> Result<Self, DataError> {
        let altered = |what: String| DataError::from(Refusal::new(&ALTERED, what));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| DataError::io("open", path, error))?;
        let file = lock(file, path)?;
        let run = *record.runs.last().ok_or_else(|| altered("no writer in the row".to_owned()))?;
        let check = file.try_clone().map_err(|error| DataError::io("open", path, error))?;
        let reader = SealedReader::partial(check, path, record, key)?;
        let data_start = reader.data_start();
        let keep = data_start.saturating_add(run.first.saturating_mul(STRIDE as u64));
        let length = file.metadata().map_err(|error| DataError::io("measure", path, error))?.len();
        if length < keep {
            return Err(altered(format!("{length} bytes where {keep} were durable")));
        }
        reader.check_segments_before(run.first)?;
        // No row may be older than its file: a generation found at or above ours means the row was put back.
        let mut index = 0_u64;
        while let Some(found) = reader.stored_generation(index, length)? {
            if found >= run.generation {
                return Err(altered(format!("segment {index} has generation {found}, the row has less")));
            }
            index = index.saturating_add(1);
        }
        file.set_len(keep).map_err(|error| DataError::io("cut", path, error))?;
        Self::new(file, path, key, record.header_digest, data_start, record.size(), run)
    }

    fn new(
        file: LockedFile,
        path: &Path,
        key: &DataKey,
        header_digest: Digest,
        data_start: u64,
        size: u64,
        run: Run,
    ) -> Result<Self, DataError> {
        Ok(Self {
            file: Arc::new(file),
            path: path.to_owned(),
            key: key.aead()?,
            header_digest,
            data_start,
            size,
            generation: run.generation,
            next: run.first,
            sealed: vec![0; BATCH.saturating_mul(STRIDE)],
            broken: false,
        })
    }

    /// Plaintext bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.next.saturating_mul(SEGMENT_BYTES as u64).min(self.size)
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A second handle for syncing while this one writes.
    pub(crate) fn sync_handle(&self) -> Arc<LockedFile> {
        self.file.clone()
    }

    /// Seals and writes `plain`: whole segments, or the rest of the object.
    ///
    /// After any failure this writer writes nothing more: its next nonces may be spent.
    pub(crate) fn append(&mut self, plain: &[u8]) -> Result<(), DataError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(DataError::Worker);
        }
        let end = self.written().saturating_add(plain.len() as u64);
        let aligned = plain.len().is_multiple_of(SEGMENT_BYTES);
        if end > self.size || (end < self.size && !aligned) {
            return Err(DataError::Crypto("seal a part of a segment"));
        }
        for batch in plain.chunks(BATCH.saturating_mul(SEGMENT_BYTES)) {
            self.write_batch(batch.chunks(SEGMENT_BYTES))?;
        }
        self.broken = false;
        Ok(())
    }

    /// Writes what an empty object consists of, and makes file and directory entry durable.
    pub(crate) fn finish(mut self) -> Result<(), DataError> {
        if self.size == 0 && self.next == 0 {
            self.write_batch(std::iter::once([].as_slice()))?;
        }
        if self.broken || self.next != segment_count(self.size) {
            return Err(DataError::Worker);
        }
        self.sync()
    }

    /// Makes what is written durable, the directory entry too.
    pub(crate) fn sync(&self) -> Result<(), DataError> {
        self.file.sync_all().map_err(|error| DataError::io("sync", &self.path, error))?;
        sync_directory(&self.path)
    }

    fn write_batch<'a>(&mut self, segments: impl Iterator<Item = &'a [u8]>) -> Result<(), DataError> {
        let failed = || DataError::Crypto("seal a segment");
        let position = self.data_start.saturating_add(self.next.saturating_mul(STRIDE as u64));
        let mut used = 0_usize;
        let mut buffer = self.sealed.as_mut_slice();
        let mut index = self.next;
        for plain in segments {
            if plain.len() != segment_len(self.size, index) {
                return Err(failed());
            }
            let last = index.saturating_add(1) == segment_count(self.size);
            let length = GENERATION_BYTES.saturating_add(plain.len()).saturating_add(TAG_BYTES);
            let (segment, rest) = buffer.split_at_mut_checked(length).ok_or_else(failed)?;
            buffer = rest;
            let (generation, body) =
                segment.split_first_chunk_mut::<GENERATION_BYTES>().ok_or_else(failed)?;
            *generation = self.generation.to_be_bytes();
            let (cipher, tag) = body.split_at_mut_checked(plain.len()).ok_or_else(failed)?;
            self.key
                .seal_out_of_place_scatter(
                    nonce(self.generation, index, last),
                    associated(self.header_digest, index, last),
                    plain,
                    cipher,
                    &[],
                    tag,
                )
                .map_err(|_| failed())?;
            index = index.saturating_add(1);
            used = used.saturating_add(length);
        }
        let bytes = self.sealed.get(..used).ok_or_else(failed)?;
        self.file.write_all_at(bytes, position).map_err(|error| DataError::io("write", &self.path, error))?;
        self.next = index;
        Ok(())
    }
}

fn lock(file: File, path: &Path) -> Result<LockedFile, DataError> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(LockedFile(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Refusal::new(&BUSY, format!("`{}`", path.display())).into())
        }
        Err(error) => Err(DataError::io("lock", path, error)),
    }
}
