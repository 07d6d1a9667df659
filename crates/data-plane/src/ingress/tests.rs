//! Pulls on the consumer's side: what is kept, what is refused, and going on after a broken connection.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use control_plane::ids::DatasetId;
use futures::future::BoxFuture;
use proptest::prelude::*;

use super::*;
use crate::digest::ObjectHasher;
use crate::error::BoxError;
use crate::sealed::SealedReader;

/// A row in memory, as text, so that only what is encoded survives; fails after so many saves.
pub(crate) struct Rows {
    pub(crate) row: Mutex<Option<String>>,
    saves_left: AtomicUsize,
}

impl Rows {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { row: Mutex::new(None), saves_left: AtomicUsize::new(usize::MAX) })
    }

    pub(crate) fn record(&self) -> Option<ObjectRecord> {
        self.row.lock().unwrap().as_ref().map(|text| ObjectRecord::from_json(text).unwrap())
    }
}

impl ProgressPort for Rows {
    fn load<'a>(
        &'a self,
        _: &'a AgreementId,
        _: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Option<ObjectRecord>, BoxError>> {
        Box::pin(std::future::ready(Ok(self.record())))
    }

    fn save(&self, record: ObjectRecord) -> BoxFuture<'_, Result<(), BoxError>> {
        let left = self.saves_left.load(Ordering::SeqCst);
        let saved = match left.checked_sub(1) {
            None => Err("the disk is full".into()),
            Some(rest) => {
                self.saves_left.store(rest, Ordering::SeqCst);
                *self.row.lock().unwrap() = Some(record.to_json().unwrap());
                Ok(())
            }
        };
        Box::pin(std::future::ready(saved))
    }
}

pub(crate) struct Pull {
    _folder: tempfile::TempDir,
    pub(crate) store: SealedStore,
    pub(crate) key: AgreementKey,
    pub(crate) rows: Arc<Rows>,
    pub(crate) plan: PullPlan,
    pub(crate) bytes: Vec<u8>,
}

impl Pull {
    pub(crate) fn new(size: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(folder.path()).unwrap();
        let bytes = crate::digest::pattern(size);
        let agreement = AgreementId::parse("urn:agreement:1").unwrap();
        let plan = PullPlan {
            agreement: agreement.clone(),
            object: ObjectId::parse("one").unwrap(),
            manifest: manifest(&bytes),
            index: 0,
        };
        let key = AgreementKey::generate(agreement).unwrap();
        Self { _folder: folder, store, key, rows: Rows::new(), plan, bytes }
    }

    pub(crate) async fn open(&self) -> Result<Ingress, DataError> {
        let port: Arc<dyn ProgressPort> = Arc::<Rows>::clone(&self.rows);
        Ingress::open(port, &self.store, &self.key, self.plan.clone(), UnixMillis(1_795_000_000_000)).await
    }

    pub(crate) fn chunk(&self, offset: u64) -> Chunk {
        let start = offset as usize;
        let end = (start + CHUNK_BYTES).min(self.bytes.len());
        let data = Bytes::copy_from_slice(&self.bytes[start..end]);
        Chunk { offset, digest: Digest::of(&data), last: end == self.bytes.len(), data }
    }

    /// Pushes up to `count` chunks.
    pub(crate) async fn push(&self, ingress: &mut Ingress, count: usize) {
        for _ in 0..count {
            if ingress.offset() < ingress.size() {
                ingress.push(self.chunk(ingress.offset())).await.unwrap();
            }
        }
    }

    pub(crate) async fn pull(&self) -> ReceivedObject {
        let mut ingress = self.open().await.unwrap();
        self.push(&mut ingress, 1 << 20).await;
        ingress.finish().await.unwrap()
    }

    fn assert_held(&self) {
        let record = self.rows.record().unwrap();
        assert_eq!(record.state(), ObjectState::Complete);
        let key = record.data_key(&self.key).unwrap();
        let reader = SealedReader::open(&self.store.path(record.file()), &record, &key).unwrap();
        let mut held = Vec::new();
        while held.len() < self.bytes.len() {
            held.extend_from_slice(&reader.read(held.len() as u64, usize::MAX).unwrap());
        }
        assert!(held == self.bytes, "the held bytes are the sent ones");
    }
}

fn manifest(bytes: &[u8]) -> Arc<Manifest> {
    let mut hasher = ObjectHasher::new();
    hasher.update(bytes);
    let object = ManifestObject::new("data.bin".into(), None, hasher.finish()).unwrap();
    Arc::new(Manifest::new(DatasetId::parse("urn:dataset:1").unwrap(), vec![object]).unwrap())
}

fn code<T>(result: Result<T, DataError>) -> &'static policy::refusal::Code {
    result.err().unwrap().into_refusal().code
}

#[tokio::test]
async fn objects_of_every_kind_of_size_arrive() {
    for size in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 3] {
        let pull = Pull::new(size);
        let received = pull.pull().await;
        let entry = pull.plan.manifest.object(0).unwrap();
        assert_eq!((received.bytes, received.digest), (size as u64, entry.digest()));
        pull.assert_held();
        let again = pull.open().await.unwrap();
        assert_eq!(again.offset(), size as u64, "a complete object asks for nothing more");
        assert_eq!(again.finish().await.unwrap().digest, entry.digest());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Connections that break after any number of chunks, politely (suspend) or not (drop).
    #[test]
    fn broken_connections_lose_nothing(breaks in prop::collection::vec((0_usize..8, any::<bool>()), 0..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pull = Pull::new(6 * CHUNK_BYTES + 11);
            let mut durable = 0;
            for (chunks, polite) in breaks {
                let mut ingress = pull.open().await.unwrap();
                assert_eq!(ingress.offset(), durable);
                pull.push(&mut ingress, chunks).await;
                if polite {
                    let kept = ingress.suspend().await.unwrap();
                    assert_eq!(kept, ingress.offset().min(6 * CHUNK_BYTES as u64), "every whole chunk but the last");
                    durable = kept;
                } else {
                    pull.abandon(ingress).await;
                }
            }
            pull.pull().await;
            pull.assert_held();
        });
    }
}

impl Pull {
    /// Drops it and waits until its threads are gone, as after a kill.
    async fn abandon(&self, mut ingress: Ingress) {
        if let Stage::Streaming(pipeline) = std::mem::replace(&mut ingress.stage, Stage::Ended) {
            drop(pipeline.drain().await);
        }
    }
}

#[tokio::test]
async fn a_resume_raises_the_generation_before_the_file_is_touched() {
    let pull = Pull::new(4 * CHUNK_BYTES);
    let mut ingress = pull.open().await.unwrap();
    pull.push(&mut ingress, 2).await;
    ingress.suspend().await.unwrap();
    let row = pull.rows.record().unwrap();
    let before = std::fs::read(pull.store.path(row.file())).unwrap();

    pull.rows.saves_left.store(0, Ordering::SeqCst);
    assert!(matches!(pull.open().await, Err(DataError::Store(_))));
    assert!(std::fs::read(pull.store.path(row.file())).unwrap() == before, "no save, no write");

    pull.rows.saves_left.store(1, Ordering::SeqCst);
    let ingress = pull.open().await.unwrap();
    let runs = pull.rows.record().unwrap().runs;
    assert_eq!(runs.last().map(|run| (run.generation, run.first)), Some((2, 8)));
    pull.abandon(ingress).await;
    pull.rows.saves_left.store(usize::MAX, Ordering::SeqCst);
    pull.pull().await;
    pull.assert_held();
}

#[tokio::test]
async fn wrong_chunks_are_refused() {
    let pull = Pull::new(3 * CHUNK_BYTES + 5);
    let good = pull.chunk(0);
    let altered = {
        let mut bytes = good.data.to_vec();
        bytes[77] ^= 1;
        Bytes::from(bytes)
    };
    for (what, chunk, expected) in [
        ("skipped", pull.chunk(CHUNK_BYTES as u64), &OUT_OF_ORDER),
        ("short", Chunk { data: good.data.slice(1..), ..good.clone() }, &OUT_OF_ORDER),
        ("empty", Chunk { data: Bytes::new(), ..good.clone() }, &OUT_OF_ORDER),
        ("called last", Chunk { last: true, ..good.clone() }, &OUT_OF_ORDER),
        ("other digest", Chunk { digest: Digest::of(b"x"), ..good.clone() }, &SOURCE_CHANGED),
        (
            "digest of other bytes",
            Chunk { digest: Digest::of(&altered), data: altered.clone(), ..good.clone() },
            &SOURCE_CHANGED,
        ),
    ] {
        let mut ingress = pull.open().await.unwrap();
        assert_eq!(code(ingress.push(chunk).await), expected, "{what}");
    }
    // Bytes that are not what their digest says are found behind the call, and never become part of the copy.
    let mut ingress = pull.open().await.unwrap();
    pull.push(&mut ingress, 1).await;
    let lying = Chunk { data: altered, ..pull.chunk(CHUNK_BYTES as u64) };
    let mut result = ingress.push(lying).await;
    while result.is_ok() {
        result = if ingress.offset() < ingress.size() {
            ingress.push(pull.chunk(ingress.offset())).await
        } else {
            break;
        };
    }
    let result = match result {
        Ok(()) => ingress.finish().await.map(drop),
        refused => refused,
    };
    assert_eq!(code(result), &SOURCE_CHANGED);
    assert_ne!(pull.rows.record().map(|record| record.state()), Some(ObjectState::Complete));
    pull.pull().await;
    pull.assert_held();
}

#[tokio::test]
async fn an_altered_single_chunk_is_refused() {
    let pull = Pull::new(100);
    let mut ingress = pull.open().await.unwrap();
    let lying = Chunk { data: Bytes::from(vec![0; 100]), ..pull.chunk(0) };
    ingress.push(lying).await.unwrap();
    assert_eq!(code(ingress.finish().await), &SOURCE_CHANGED);
    assert!(pull.rows.record().is_none());
}

#[tokio::test]
async fn an_early_end_keeps_what_came() {
    let pull = Pull::new(3 * CHUNK_BYTES);
    let mut ingress = pull.open().await.unwrap();
    pull.push(&mut ingress, 2).await;
    assert_eq!(code(ingress.finish().await), &ENDS_EARLY);
    assert_eq!(pull.rows.record().unwrap().durable(), 2 * CHUNK_BYTES as u64);
}

#[tokio::test]
async fn other_manifests_keys_and_ends_are_refused() {
    let mut pull = Pull::new(3 * CHUNK_BYTES);
    let mut ingress = pull.open().await.unwrap();
    pull.push(&mut ingress, 1).await;
    ingress.suspend().await.unwrap();

    let original = pull.plan.clone();
    pull.plan.manifest = manifest(&vec![1; 3 * CHUNK_BYTES]);
    assert_eq!(code(pull.open().await), &SOURCE_CHANGED);
    pull.plan = PullPlan { index: 1, ..original.clone() };
    assert_eq!(code(pull.open().await), &NO_SUCH_OBJECT);
    pull.plan = PullPlan { agreement: AgreementId::parse("urn:agreement:2").unwrap(), ..original.clone() };
    assert_eq!(code(pull.open().await), &WRONG_KEY);
    pull.plan = original;
    let destroyed = pull.rows.record().unwrap().destroy(UnixMillis(1));
    *pull.rows.row.lock().unwrap() = Some(destroyed.to_json().unwrap());
    assert_eq!(code(pull.open().await), &DESTROYED);
}

#[tokio::test]
async fn a_store_that_fails_at_the_end_leaves_no_complete_object() {
    for size in [10, 3 * CHUNK_BYTES] {
        let pull = Pull::new(size);
        pull.rows.saves_left.store(0, Ordering::SeqCst);
        let mut ingress = pull.open().await.unwrap();
        pull.push(&mut ingress, 9).await;
        assert!(matches!(ingress.finish().await, Err(DataError::Store(_))));
        assert!(pull.rows.record().is_none());
        pull.rows.saves_left.store(usize::MAX, Ordering::SeqCst);
        pull.pull().await;
        pull.assert_held();
        assert_eq!(pull.store.sweep(&[pull.rows.record().unwrap()]).unwrap(), 1, "the first attempt's file");
    }
}

#[test]
fn checkpoints_are_whole_chunks_short_of_the_end() {
    const MIB: u64 = CHUNK_BYTES as u64;
    for (written, size, expected) in [
        (0, 0, 0),
        (MIB, MIB, 0),
        (MIB, MIB + 1, MIB),
        (MIB + 1, MIB + 1, MIB),
        (2 * MIB, 2 * MIB, MIB),
        (2 * MIB - 1, 3 * MIB, MIB),
    ] {
        assert_eq!(checkpoint(written, size), expected, "{written} of {size}");
    }
}
