//! Pulls: what is released, and that nothing is released after a no.

use std::sync::Mutex;

use control_plane::ids::{AgreementId, DatasetId, ParticipantId, ProviderPid};
use futures::future::BoxFuture;

use super::*;
use crate::source::{SourceSettings, SourceSpec};

policy::refusal_codes! {
    REVOKED = "test/revoked", Policy, "revoked", "已撤銷", "已撤销", clause "test", next "none";
}

pub(crate) struct TestClock(pub(crate) AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

/// Says yes to so many questions, and notes them.
struct Port {
    permits: usize,
    valid_until: Option<UnixMillis>,
    asked: Mutex<Vec<u64>>,
}

impl DecisionPort for Port {
    fn decide(&self, question: AccessQuestion) -> BoxFuture<'_, Result<AccessGrant, Refusal>> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(question.offset());
        let answer = if asked.len() <= self.permits {
            Ok(question.permit(self.valid_until))
        } else {
            Err(Refusal::new(&REVOKED, ""))
        };
        Box::pin(std::future::ready(answer))
    }
}

pub(crate) fn subject() -> AccessSubject {
    AccessSubject {
        agreement: AgreementId::parse("urn:agreement:1").unwrap(),
        participant: ParticipantId::parse("https://campus.example/id/hku").unwrap(),
        transfer: ProviderPid::parse("urn:pid:1").unwrap(),
        dataset: DatasetId::parse("https://campus.example/dataset/1").unwrap(),
    }
}

struct Case {
    folder: tempfile::TempDir,
    sources: Sources,
    publication: Arc<Publication>,
    clock: Arc<TestClock>,
    bytes: Vec<u8>,
}

impl Case {
    async fn new(size: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("published");
        std::fs::create_dir(&root).unwrap();
        let bytes = crate::digest::pattern(size);
        std::fs::write(root.join("data.bin"), &bytes).unwrap();
        let settings = SourceSettings { roots: vec![root.clone()], ..SourceSettings::default() };
        let sources = Sources::open(&settings, &folder.path().join("data")).unwrap();
        let spec = SourceSpec::File { path: root.join("data.bin"), media_type: None };
        let publication = Arc::new(sources.publish(&spec, subject().dataset).await.unwrap());
        Self { folder, sources, publication, clock: Arc::new(TestClock(AtomicI64::new(1_000_000))), bytes }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("published/data.bin")
    }

    async fn open(&self, port: &Arc<Port>, offset: u64, stop: StopSignal) -> Result<Egress, DataError> {
        let request = PullRequest {
            subject: subject(),
            manifest: self.publication.manifest().digest(),
            object: 0,
            offset,
        };
        let port: Arc<dyn DecisionPort> = Arc::<Port>::clone(port);
        let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&self.clock);
        Egress::open(port, clock, &self.sources, Arc::clone(&self.publication), request, stop).await
    }
}

fn port(permits: usize) -> Arc<Port> {
    Arc::new(Port { permits, valid_until: None, asked: Mutex::new(Vec::new()) })
}

async fn drain(egress: &mut Egress) -> (Vec<u8>, Option<Refusal>) {
    let mut bytes = Vec::new();
    while let Some(chunk) = egress.next().await {
        match chunk {
            Ok(chunk) => {
                assert_eq!(chunk.offset, bytes.len() as u64);
                assert_eq!(Digest::of(&chunk.data), chunk.digest);
                bytes.extend_from_slice(&chunk.data);
            }
            Err(error) => return (bytes, Some(error.into_refusal())),
        }
    }
    (bytes, None)
}

#[tokio::test]
async fn every_chunk_has_its_decision() {
    for size in [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5] {
        let case = Case::new(size).await;
        let port = port(usize::MAX);
        let (_handle, stop) = stop_pair();
        let mut egress = case.open(&port, 0, stop).await.unwrap();
        let (bytes, refusal) = drain(&mut egress).await;
        assert!(bytes == case.bytes && refusal.is_none());
        let mut due = vec![0];
        due.extend((0..size.div_ceil(CHUNK_BYTES).max(1)).map(|chunk| (chunk * CHUNK_BYTES) as u64));
        assert_eq!(*port.asked.lock().unwrap(), due, "one to open, one for each chunk");
        let entry = case.publication.manifest().object(0).unwrap();
        egress.check_receipt(size as u64, entry.digest()).unwrap();
        assert_eq!(egress.check_receipt(1 << 40, entry.digest()).unwrap_err().code, &RECEIPT_MISMATCH);
        assert_eq!(egress.check_receipt(size as u64, Digest::of(b"x")).unwrap_err().code, &RECEIPT_MISMATCH);
    }
}

#[tokio::test]
async fn nothing_leaves_after_a_no() {
    let case = Case::new(4 * CHUNK_BYTES).await;
    for permitted_chunks in 0..4 {
        let port = port(1 + permitted_chunks);
        let (_handle, stop) = stop_pair();
        let mut egress = case.open(&port, 0, stop).await.unwrap();
        let (bytes, refusal) = drain(&mut egress).await;
        assert_eq!(bytes.len(), permitted_chunks * CHUNK_BYTES);
        assert_eq!(refusal.unwrap().code, &REVOKED);
        assert!(egress.next().await.is_none());
    }
    let (_handle, stop) = stop_pair();
    assert_eq!(case.open(&port(0), 0, stop).await.err().unwrap().into_refusal().code, &REVOKED);
}

#[tokio::test]
async fn a_stop_and_an_expiry_end_the_stream() {
    let case = Case::new(4 * CHUNK_BYTES).await;
    let (handle, stop) = stop_pair();
    let mut egress = case.open(&port(usize::MAX), 0, stop).await.unwrap();
    let mut watch = egress.watch();
    egress.next().await.unwrap().unwrap();
    handle.stop(Refusal::new(&REVOKED, "by hand"));
    assert_eq!(watch.stopped().await.detail, "by hand");
    assert_eq!(drain(&mut egress).await.1.unwrap().detail, "by hand");

    let (_handle, stop) = stop_pair();
    let until = case.clock.now().plus_millis(50);
    let port = Arc::new(Port { permits: usize::MAX, valid_until: Some(until), asked: Mutex::default() });
    let mut egress = case.open(&port, 0, stop).await.unwrap();
    egress.next().await.unwrap().unwrap();
    case.clock.0.fetch_add(50, Ordering::SeqCst);
    assert_eq!(egress.next().await.unwrap().err().unwrap().into_refusal().code, &GRANT_EXPIRED);
}

/// The receiver asks for nothing; the right is gone all the same.
#[tokio::test]
async fn an_idle_pull_is_decided_again() {
    struct RealClock(tokio::time::Instant);
    impl Clock for RealClock {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.0.elapsed().as_millis() as i64)
        }
    }
    let case = Case::new(2 * CHUNK_BYTES).await;
    let port = port(2);
    let (_handle, stop) = stop_pair();
    let request = PullRequest {
        subject: subject(),
        manifest: case.publication.manifest().digest(),
        object: 0,
        offset: CHUNK_BYTES as u64,
    };
    let (asked, clock) = (Arc::<Port>::clone(&port), Arc::new(RealClock(tokio::time::Instant::now())));
    let publication = Arc::clone(&case.publication);
    let mut egress = Egress::open(port, clock, &case.sources, publication, request, stop).await.unwrap();
    assert_eq!(egress.watch().stopped().await.code, &REVOKED);
    assert_eq!(*asked.asked.lock().unwrap(), [CHUNK_BYTES as u64; 3]);
    assert_eq!(drain_code(&mut egress).await, Some(&REVOKED));
}

async fn drain_code(egress: &mut Egress) -> Option<&'static policy::refusal::Code> {
    egress.next().await?.err().map(|error| error.into_refusal().code)
}

#[tokio::test]
async fn offsets_and_manifests_are_checked() {
    let size = 2 * CHUNK_BYTES + 9;
    let case = Case::new(size).await;
    for (offset, expected) in [
        (0, Ok(size)),
        (CHUNK_BYTES, Ok(CHUNK_BYTES + 9)),
        (2 * CHUNK_BYTES, Ok(9)),
        (size, Ok(0)),
        (1, Err(&BAD_OFFSET)),
        (size - 1, Err(&BAD_OFFSET)),
        (size + 1, Err(&BAD_OFFSET)),
        (3 * CHUNK_BYTES, Err(&BAD_OFFSET)),
    ] {
        let (_handle, stop) = stop_pair();
        let result = match case.open(&port(usize::MAX), offset as u64, stop).await {
            Err(error) => Err(error.into_refusal().code),
            Ok(mut egress) => {
                let mut left = 0;
                while let Some(chunk) = egress.next().await {
                    left += chunk.unwrap().data.len();
                }
                Ok(left)
            }
        };
        assert_eq!(result, expected, "{offset}");
    }
    let (_handle, stop) = stop_pair();
    let request = |manifest, object| PullRequest { subject: subject(), manifest, object, offset: 0 };
    for (request, code) in [
        (request(Digest::of(b"other"), 0), &SOURCE_CHANGED),
        (request(case.publication.manifest().digest(), 1), &NO_SUCH_OBJECT),
    ] {
        let clock = Arc::<TestClock>::clone(&case.clock);
        let publication = Arc::clone(&case.publication);
        let opened = Egress::open(port(9), clock, &case.sources, publication, request, stop.clone()).await;
        assert_eq!(opened.err().unwrap().into_refusal().code, code);
    }
}

#[tokio::test]
async fn a_changed_source_never_leaves_but_a_touched_one_does() {
    let case = Case::new(3 * CHUNK_BYTES).await;
    let rewrite = |bytes: &[u8]| std::fs::write(case.file(), bytes).unwrap();
    let mut altered = case.bytes.clone();
    altered[2 * CHUNK_BYTES + 5] ^= 1;
    for (what, bytes, released, refused) in [
        ("rewritten with the same bytes", case.bytes.as_slice(), 3 * CHUNK_BYTES, false),
        ("one byte of the last chunk", altered.as_slice(), 2 * CHUNK_BYTES, true),
        ("cut", &case.bytes[..CHUNK_BYTES + 7], CHUNK_BYTES, true),
        ("emptied", &[], 0, true),
    ] {
        rewrite(bytes);
        let (_handle, stop) = stop_pair();
        let mut egress = case.open(&port(usize::MAX), 0, stop).await.unwrap();
        let (sent, refusal) = drain(&mut egress).await;
        assert_eq!(sent.len(), released, "{what}");
        assert_eq!(refusal.map(|refusal| refusal.code), refused.then_some(&SOURCE_CHANGED), "{what}");
    }
}
