//! Ports as a connector would implement them, over plain files.

// Clippy sees helpers outside of test functions as product code.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use control_plane::ids::{AgreementId, DatasetId, ParticipantId, ProviderPid};
use data_plane::ports::AccessSubject;
use data_plane::{
    AccessGrant, AccessQuestion, AgreementKey, BoxError, Clock, DecisionPort, Egress, FileKek, Ingress,
    ObjectId, ObjectRecord, ProgressPort, Publication, PullPlan, PullRequest, SealedStore, SessionId,
    SourceSettings, SourceSpec, Sources, StopHandle, UseGrant, UsePort, UseQuestion, UseReceipt, UseRequest,
    UseSession, WrappedKey, stop_pair,
};
use futures::future::{BoxFuture, FutureExt as _};
use policy::refusal::Refusal;
use policy::time::UnixMillis;

pub const NOW: UnixMillis = UnixMillis(1_795_000_000_000);

/// Permits everything, at one instant.
pub struct Yes;

impl Clock for Yes {
    fn now(&self) -> UnixMillis {
        NOW
    }
}

impl DecisionPort for Yes {
    fn decide(&self, question: AccessQuestion) -> BoxFuture<'_, Result<AccessGrant, Refusal>> {
        std::future::ready(Ok(question.permit(None))).boxed()
    }
}

impl UsePort for Yes {
    fn open(&self, question: UseQuestion) -> BoxFuture<'_, Result<UseGrant, Refusal>> {
        std::future::ready(Ok(question.permit(None))).boxed()
    }

    fn recheck(&self, question: UseQuestion) -> BoxFuture<'_, Result<UseGrant, Refusal>> {
        std::future::ready(Ok(question.permit(None))).boxed()
    }

    fn closed(&self, _: UseReceipt) -> BoxFuture<'_, Result<(), Refusal>> {
        std::future::ready(Ok(())).boxed()
    }
}

/// One row in one file, replaced durably.
pub struct RowFile(pub PathBuf);

impl RowFile {
    pub fn record(&self) -> Option<ObjectRecord> {
        std::fs::read_to_string(&self.0).ok().map(|text| ObjectRecord::from_json(&text).unwrap())
    }

    fn replace(&self, record: &ObjectRecord) -> Result<(), BoxError> {
        let fresh = self.0.with_extension("new");
        std::fs::write(&fresh, record.to_json()?)?;
        std::fs::File::open(&fresh)?.sync_all()?;
        std::fs::rename(&fresh, &self.0)?;
        std::fs::File::open(self.0.parent().unwrap())?.sync_all()?;
        Ok(())
    }
}

impl ProgressPort for RowFile {
    fn load<'a>(
        &'a self,
        _: &'a AgreementId,
        _: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Option<ObjectRecord>, BoxError>> {
        std::future::ready(Ok(self.record())).boxed()
    }

    fn save(&self, record: ObjectRecord) -> BoxFuture<'_, Result<(), BoxError>> {
        std::future::ready(self.replace(&record)).boxed()
    }
}

pub fn agreement() -> AgreementId {
    AgreementId::parse("urn:uuid:0193a1f0-0000-7000-8000-000000000001").unwrap()
}

pub fn dataset() -> DatasetId {
    DatasetId::parse("https://campus.example/dataset/observations").unwrap()
}

pub fn subject() -> AccessSubject {
    AccessSubject {
        agreement: agreement(),
        participant: ParticipantId::parse("https://campus.example/id/hku").unwrap(),
        transfer: ProviderPid::parse("urn:uuid:0193a1f0-0000-7000-8000-000000000002").unwrap(),
        dataset: dataset(),
    }
}

/// Both sides in one folder: `published/`, `kek.json`, `agreement.key`, `row.json`, `sealed/`.
pub struct Place {
    pub folder: PathBuf,
    pub sources: Sources,
    pub store: SealedStore,
    pub key: AgreementKey,
    pub row: Arc<RowFile>,
}

impl Place {
    pub fn open(folder: &Path) -> Self {
        let folder = folder.canonicalize().unwrap();
        let published = folder.join("published");
        std::fs::create_dir_all(&published).unwrap();
        let settings = SourceSettings { roots: vec![published], ..SourceSettings::default() };
        let sources = Sources::open(&settings, &folder.join("sealed")).unwrap();
        let store = SealedStore::open(&folder.join("sealed")).unwrap();
        let kek = FileKek::load_or_create(&folder.join("kek.json")).unwrap();
        let key_file = folder.join("agreement.key");
        let key = match std::fs::read_to_string(&key_file) {
            Ok(text) => {
                AgreementKey::unwrap(agreement(), &WrappedKey::parse(text.trim()).unwrap(), &kek).unwrap()
            }
            Err(_) => {
                let key = AgreementKey::generate(agreement()).unwrap();
                std::fs::write(&key_file, key.wrap(&kek).unwrap().to_text()).unwrap();
                key
            }
        };
        let row = Arc::new(RowFile(folder.join("row.json")));
        Self { folder, sources, store, key, row }
    }

    pub async fn publish(&self, name: &str) -> Arc<Publication> {
        let path = self.folder.join("published").join(name);
        let spec = SourceSpec::File { path, media_type: Some("text/csv".into()) };
        Arc::new(self.sources.publish(&spec, dataset()).await.unwrap())
    }

    pub async fn ingress(&self, publication: &Publication) -> Ingress {
        let plan = PullPlan {
            agreement: agreement(),
            object: ObjectId::parse("urn:uuid:0193a1f0-0000-7000-8000-000000000003").unwrap(),
            manifest: Arc::clone(publication.manifest()),
            index: 0,
        };
        let port: Arc<dyn ProgressPort> = Arc::<RowFile>::clone(&self.row);
        Ingress::open(port, &self.store, &self.key, plan, NOW).await.unwrap()
    }

    pub async fn egress(&self, publication: &Arc<Publication>, offset: u64) -> (Egress, StopHandle) {
        let (handle, stop) = stop_pair();
        let manifest = publication.manifest().digest();
        let request = PullRequest { subject: subject(), manifest, object: 0, offset };
        let publication = Arc::clone(publication);
        let egress = Egress::open(Arc::new(Yes), Arc::new(Yes), &self.sources, publication, request, stop)
            .await
            .unwrap();
        (egress, handle)
    }

    /// Pulls the object to its end; `noted` is called after each chunk.
    pub async fn pull(&self, publication: &Arc<Publication>, mut noted: impl FnMut()) {
        let mut ingress = self.ingress(publication).await;
        let (mut egress, _handle) = self.egress(publication, ingress.offset()).await;
        while let Some(chunk) = egress.next().await {
            ingress.push(chunk.unwrap()).await.unwrap();
            noted();
        }
        let received = ingress.finish().await.unwrap();
        egress.check_receipt(received.bytes, received.digest).unwrap();
    }

    /// The whole object, read in a use session.
    pub async fn use_all(&self) -> Vec<u8> {
        let (_handle, stop) = stop_pair();
        let request = UseRequest {
            agreement: agreement(),
            dataset: dataset(),
            actor: "researcher".into(),
            action: "http://www.w3.org/ns/odrl/2/read".into(),
            purpose: None,
            recipient: None,
            application: None,
        };
        let session = SessionId::parse("session-1").unwrap();
        let mut session =
            UseSession::open(Arc::new(Yes), Arc::new(Yes), session, request, stop).await.unwrap();
        let object = session.object(&self.store, &self.row.record().unwrap(), &self.key).await.unwrap();
        let mut all = Vec::new();
        loop {
            let part = session.read(&object, all.len() as u64, usize::MAX).await.unwrap();
            if part.is_empty() {
                break;
            }
            all.extend_from_slice(&part);
        }
        session.close().await.unwrap();
        all
    }
}
