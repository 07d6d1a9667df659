//! Consumer side: checks each chunk against the manifest, seals it, and can go on after a kill at any moment.
//!
//! Hashing, sealing and syncing overlap: two blocking threads joined by bounded channels and one task that makes
//! checkpoints durable. A fresh data key reaches the disk first with the first checkpoint; until then a crash loses
//! key and bytes together. Each reopening enters a raised generation durably before the file is touched.

use std::sync::Arc;

use bytes::Bytes;
use control_plane::ids::AgreementId;
use policy::refusal::Refusal;
use policy::time::UnixMillis;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::digest::Digest;
use crate::egress::{Chunk, NO_SUCH_OBJECT, SOURCE_CHANGED};
use crate::error::DataError;
use crate::ids::ObjectId;
use crate::keys::{AgreementKey, DataKey};
use crate::manifest::{CHUNK_BYTES, Manifest, ManifestObject};
use crate::ports::ProgressPort;
use crate::sealed::{DESTROYED, Header, LockedFile, ObjectRecord, ObjectState, SealedStore, SealedWriter};

policy::refusal_codes! {
    OUT_OF_ORDER = "transfer/chunk-out-of-order", Input,
        "a chunk is not the next one of the object", "區塊並非物件的下一塊", "区块并非对象的下一块",
        clause "proto/fairlead/data: GetManifest", next "resume the pull from the offset that is held durably";
    ENDS_EARLY = "transfer/ends-early", Unavailable,
        "the stream ended before the object did", "資料流在物件結束前中斷", "数据流在对象结束前中断",
        clause "proto/fairlead/data: GetManifest", next "resume the pull from the offset that is held durably";
    TOO_MANY_RESUMES = "limit/too-many-resumes", Limit,
        "the object was resumed too often", "物件續傳次數過多", "对象续传次数过多",
        clause "security model: the promise, sealed", next "destroy the partial copy and pull it from the start";
    WRONG_KEY = "transfer/key-of-another-agreement", Ours,
        "the key given belongs to another agreement", "所給金鑰屬於另一份協議", "所给密钥属于另一份协议",
        clause "security model: the promise, sealed", next "report this to the operator: it is a fault of the connector";
}

/// Chunks between two stages: enough to overlap them, and with two channels at most 8 MiB of plaintext for each pull.
const STAGE_CHUNKS: usize = 4;
/// Bytes between durable checkpoints: what a crash costs at most, and early work for the disk.
const CHECKPOINT_BYTES: u64 = 32 << 20;

/// What is to be pulled.
#[derive(Clone, Debug)]
pub struct PullPlan {
    /// The agreement that permits it.
    pub agreement: AgreementId,
    /// Its name among our holdings, the same for each attempt.
    pub object: ObjectId,
    /// The manifest, as fixed at the start of the transfer.
    pub manifest: Arc<Manifest>,
    /// Index of the object in the manifest.
    pub index: u32,
}

/// A whole object, held durably, its digest proven.
#[derive(Clone, Debug)]
pub struct ReceivedObject {
    /// Plaintext bytes, for the receipt.
    pub bytes: u64,
    /// The object's digest, for the receipt.
    pub digest: Digest,
    /// Its row as saved.
    pub record: ObjectRecord,
}

/// One object on its way in.
///
/// Dropping it keeps what the last checkpoint made durable, and the object stays `transfer/object-busy` until its
/// threads have noticed; [`Ingress::suspend`] keeps every whole chunk and waits for them.
pub struct Ingress {
    port: Arc<dyn ProgressPort>,
    manifest: Arc<Manifest>,
    index: u32,
    size: u64,
    next: u64,
    stage: Stage,
}

enum Stage {
    /// An object of one chunk: sealed in one go at the end.
    Single {
        store: SealedStore,
        record: ObjectRecord,
        key: DataKey,
        chunk: Option<Bytes>,
    },
    Streaming(Pipeline),
    Complete(ObjectRecord),
    Ended,
}

struct Pipeline {
    feed: mpsc::Sender<(Digest, Bytes)>,
    hasher: JoinHandle<Result<(), DataError>>,
    sealer: JoinHandle<Result<SealedWriter, DataError>>,
    syncer: JoinHandle<Result<ObjectRecord, DataError>>,
}

/// A pipeline after its threads ended.
struct Drained {
    writer: Option<SealedWriter>,
    record: Option<ObjectRecord>,
    failure: Option<DataError>,
}

impl Ingress {
    /// Begins the object, or goes on after what its row says is durable.
    pub async fn open(
        port: Arc<dyn ProgressPort>,
        store: &SealedStore,
        key: &AgreementKey,
        plan: PullPlan,
        now: UnixMillis,
    ) -> Result<Self, DataError> {
        let PullPlan { agreement, object, manifest, index } = plan;
        if key.agreement() != &agreement {
            return Err(Refusal::new(&WRONG_KEY, agreement.as_str()).into());
        }
        let entry = manifest.object(index).ok_or_else(|| Refusal::new(&NO_SUCH_OBJECT, index.to_string()))?;
        let size = entry.size();
        let held = port.load(&agreement, &object).await.map_err(DataError::Store)?;
        if let Some(record) = &held
            && (record.manifest() != manifest.digest()
                || record.digest() != entry.digest()
                || record.size() != size)
        {
            let what = format!("`{object}` is held under another manifest");
            return Err(Refusal::new(&SOURCE_CHANGED, what).into());
        }
        let (next, stage) = match held {
            Some(record) if record.state() == ObjectState::Destroyed => {
                return Err(Refusal::new(&DESTROYED, object.as_str()).into());
            }
            Some(record) if record.state() == ObjectState::Complete => (size, Stage::Complete(record)),
            Some(record) if record.durable() > 0 => {
                (record.durable(), resume(&port, store, key, record).await?)
            }
            stale => {
                if let Some(record) = stale {
                    store.remove(&record)?;
                }
                let header = Header { agreement, object, manifest: manifest.digest(), size, created: now };
                (0, begin(&port, store, key, header, entry).await?)
            }
        };
        Ok(Self { port, manifest, index, size, next, stage })
    }

    /// The offset to ask the provider for, then the offset of the next chunk.
    pub const fn offset(&self) -> u64 {
        self.next
    }

    /// Plaintext bytes of the whole object.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next chunk; waits while the disk is behind.
    ///
    /// Its hash is checked in the background: a mismatch shows at a later call, at the latest in
    /// [`Ingress::finish`], and what fails the check is never written. After an error only progress is left to use.
    pub async fn push(&mut self, chunk: Chunk) -> Result<(), DataError> {
        let expected_len = self.size.saturating_sub(self.next).min(CHUNK_BYTES as u64);
        let len = chunk.data.len() as u64;
        let end = self.next.saturating_add(len);
        if chunk.offset != self.next || len != expected_len || chunk.last != (end == self.size) {
            let what = format!("{len} bytes at {}, due were {expected_len} at {}", chunk.offset, self.next);
            return Err(Refusal::new(&OUT_OF_ORDER, what).into());
        }
        if len == 0 {
            return Ok(());
        }
        let position = usize::try_from(self.next / CHUNK_BYTES as u64).map_err(|_| DataError::Worker)?;
        let entry = self.manifest.object(self.index).ok_or(DataError::Worker)?;
        let digest = *entry.chunks().get(position).ok_or(DataError::Worker)?;
        if chunk.digest != digest {
            return Err(changed(self.next));
        }
        match &mut self.stage {
            Stage::Single { chunk: slot, .. } => *slot = Some(chunk.data),
            Stage::Streaming(pipeline) => {
                if pipeline.feed.send((digest, chunk.data)).await.is_err() {
                    return Err(self.fail().await);
                }
            }
            Stage::Complete(_) | Stage::Ended => return Err(DataError::Worker),
        }
        self.next = end;
        Ok(())
    }

    /// Ends the object: everything checked, synced, its row saved as complete.
    pub async fn finish(mut self) -> Result<ReceivedObject, DataError> {
        if self.next != self.size {
            let what = format!("{} of {} bytes", self.next, self.size);
            self.suspend().await?;
            return Err(Refusal::new(&ENDS_EARLY, what).into());
        }
        let mut record = match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Complete(record) => return Ok(received(record)),
            Stage::Ended => return Err(DataError::Worker),
            Stage::Single { store, record, key, chunk } => {
                let expected =
                    self.manifest.object(self.index).and_then(|entry| entry.chunks().first()).copied();
                blocking(move || {
                    let data = chunk.unwrap_or_default();
                    if expected.is_some_and(|expected| Digest::of(&data) != expected) {
                        return Err(changed(0));
                    }
                    let mut writer = SealedWriter::create(&store.path(record.file()), &record.header, &key)?;
                    writer.append(&data)?;
                    writer.finish()?;
                    Ok(record)
                })
                .await?
            }
            Stage::Streaming(pipeline) => {
                let Drained { writer, record, failure } = pipeline.drain().await;
                if let Some(failure) = failure {
                    return Err(failure);
                }
                let (writer, record) = writer.zip(record).ok_or(DataError::Worker)?;
                blocking(move || writer.finish()).await?;
                record
            }
        };
        record.durable = self.size;
        record.state = ObjectState::Complete;
        self.port.save(record.clone()).await.map_err(DataError::Store)?;
        Ok(received(record))
    }

    /// Stops for now, keeping every whole chunk that passed its check; returns the durable offset.
    pub async fn suspend(&mut self) -> Result<u64, DataError> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Complete(record) => Ok(record.durable()),
            Stage::Single { .. } | Stage::Ended => Ok(0),
            Stage::Streaming(pipeline) => {
                let (durable, failure) = self.keep(pipeline.drain().await).await?;
                failure.map_or(Ok(durable), Err)
            }
        }
    }

    /// Why the pipeline ended; what it wrote before is kept.
    async fn fail(&mut self) -> DataError {
        match self.suspend().await {
            Ok(_) => DataError::Worker,
            Err(failure) => failure,
        }
    }

    async fn keep(&self, drained: Drained) -> Result<(u64, Option<DataError>), DataError> {
        let Drained { writer, record, failure } = drained;
        let (Some(writer), Some(mut record)) = (writer, record) else {
            return Err(failure.unwrap_or(DataError::Worker));
        };
        let written = checkpoint(writer.written(), self.size);
        if written > record.durable {
            blocking(move || writer.sync()).await?;
            record.durable = written;
            self.port.save(record.clone()).await.map_err(DataError::Store)?;
        }
        Ok((record.durable, failure))
    }
}

async fn begin(
    port: &Arc<dyn ProgressPort>,
    store: &SealedStore,
    under: &AgreementKey,
    header: Header,
    entry: &ManifestObject,
) -> Result<Stage, DataError> {
    let key = DataKey::generate()?;
    let wrapped = key.wrap(&header.object, under)?;
    let record = ObjectRecord::begin(header, SealedStore::fresh_name()?, entry, wrapped, under)?;
    if record.size() <= CHUNK_BYTES as u64 {
        return Ok(Stage::Single { store: store.clone(), record, key, chunk: None });
    }
    let path = store.path(record.file());
    let header = record.header.clone();
    let writer = blocking(move || SealedWriter::create(&path, &header, &key)).await?;
    Pipeline::start(Arc::clone(port), writer, record).map(Stage::Streaming)
}

async fn resume(
    port: &Arc<dyn ProgressPort>,
    store: &SealedStore,
    under: &AgreementKey,
    mut record: ObjectRecord,
) -> Result<Stage, DataError> {
    let key = record.data_key(under)?;
    let run = record.next_run().ok_or_else(|| Refusal::new(&TOO_MANY_RESUMES, record.object().as_str()))?;
    record.enter(run);
    port.save(record.clone()).await.map_err(DataError::Store)?;
    let path = store.path(record.file());
    let (writer, record) =
        blocking(move || SealedWriter::resume(&path, &record, &key).map(|writer| (writer, record))).await?;
    Pipeline::start(Arc::clone(port), writer, record).map(Stage::Streaming)
}

impl Pipeline {
    fn start(
        port: Arc<dyn ProgressPort>,
        writer: SealedWriter,
        record: ObjectRecord,
    ) -> Result<Self, DataError> {
        let (feed, unchecked) = mpsc::channel(STAGE_CHUNKS);
        let (checked_in, checked) = mpsc::channel(STAGE_CHUNKS);
        let (written_in, written) = watch::channel(record.durable);
        let handle = writer.sync_handle();
        let path = writer.path().to_owned();
        let hasher = spawn_blocking(move || check_chunks(unchecked, &checked_in));
        let sealer = spawn_blocking(move || seal_chunks(writer, checked, &written_in));
        let syncer = tokio::spawn(sync_checkpoints(port, handle, path, written, record));
        Ok(Self { feed, hasher, sealer, syncer })
    }

    async fn drain(self) -> Drained {
        let Self { feed, hasher, sealer, syncer } = self;
        drop(feed);
        let mut failure = None;
        let mut note = |error: DataError| {
            failure.get_or_insert(error);
        };
        if let Err(error) = hasher.await.unwrap_or(Err(DataError::Worker)) {
            note(error);
        }
        let writer = sealer.await.unwrap_or(Err(DataError::Worker)).map_err(&mut note).ok();
        let record = syncer.await.unwrap_or(Err(DataError::Worker)).map_err(&mut note).ok();
        Drained { writer, record, failure }
    }
}

fn check_chunks(
    mut unchecked: mpsc::Receiver<(Digest, Bytes)>,
    checked: &mpsc::Sender<Bytes>,
) -> Result<(), DataError> {
    while let Some((expected, data)) = unchecked.blocking_recv() {
        if Digest::of(&data) != expected {
            return Err(Refusal::new(&SOURCE_CHANGED, format!("a chunk is not {expected}")).into());
        }
        // A closed channel means that the sealer failed: it says why.
        if checked.blocking_send(data).is_err() {
            break;
        }
    }
    Ok(())
}

fn seal_chunks(
    mut writer: SealedWriter,
    mut checked: mpsc::Receiver<Bytes>,
    written: &watch::Sender<u64>,
) -> Result<SealedWriter, DataError> {
    let mut announced = *written.borrow();
    while let Some(data) = checked.blocking_recv() {
        writer.append(&data)?;
        let now = checkpoint(writer.written(), writer.size());
        if now.saturating_sub(announced) >= CHECKPOINT_BYTES {
            announced = now;
            written.send_replace(now);
        }
    }
    Ok(writer)
}

async fn sync_checkpoints(
    port: Arc<dyn ProgressPort>,
    file: Arc<LockedFile>,
    path: std::path::PathBuf,
    mut written: watch::Receiver<u64>,
    mut record: ObjectRecord,
) -> Result<ObjectRecord, DataError> {
    while written.changed().await.is_ok() {
        let durable = *written.borrow_and_update();
        let (file, path, first) = (Arc::clone(&file), path.clone(), record.durable == 0);
        blocking(move || {
            file.sync_data().map_err(|error| DataError::io("sync", &path, error))?;
            if first { crate::keys::sync_directory(&path) } else { Ok(()) }
        })
        .await?;
        record.durable = durable;
        port.save(record.clone()).await.map_err(DataError::Store)?;
    }
    Ok(record)
}

/// The durable offset for `written` bytes: whole chunks, never the whole object (that is [`ObjectState::Complete`]).
fn checkpoint(written: u64, size: u64) -> u64 {
    let bound = written.min(size.saturating_sub(1));
    bound.saturating_sub(bound % CHUNK_BYTES as u64)
}

fn received(record: ObjectRecord) -> ReceivedObject {
    ReceivedObject { bytes: record.size(), digest: record.digest(), record }
}

fn changed(offset: u64) -> DataError {
    Refusal::new(&SOURCE_CHANGED, format!("the chunk at {offset} is not the manifest's")).into()
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DataError> + Send + 'static,
) -> Result<T, DataError> {
    spawn_blocking(work).await.unwrap_or(Err(DataError::Worker))
}

#[cfg(test)]
pub(crate) mod tests;
