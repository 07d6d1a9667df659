//! The row of a sealed object: what its file must be, how far it is durable, and its wrapped key.

use control_plane::ids::AgreementId;
use policy::refusal::Refusal;
use policy::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{DESTROYED, Header, MALFORMED_RECORD, SEGMENT_BYTES, is_file_name, segment_count};
use crate::digest::Digest;
use crate::error::DataError;
use crate::ids::ObjectId;
use crate::keys::{AgreementKey, DataKey, KEY_REFUSED, WrappedKey};
use crate::manifest::{CHUNK_BYTES, ManifestObject};

const FORMAT: &str = "fairlead-sealed-object/1";
/// Writers of one object: each broken connection adds one; beyond this the copy is pulled afresh.
pub(crate) const MAX_RUNS: usize = 4096;

/// How far an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectState {
    /// Being pulled.
    Partial,
    /// Held whole, digest proven.
    Complete,
    /// The key is gone; the row stays as evidence.
    Destroyed,
}

/// From `first` on, segments were written under `generation`, until the next run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) generation: u32,
    pub(crate) first: u64,
}

/// The row of one sealed object. Keep [`ObjectRecord::to_json`] under (agreement, object).
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectRecord {
    pub(crate) header: Header,
    pub(crate) header_digest: Digest,
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
    pub(crate) checksum: Digest,
    pub(crate) durable: u64,
    pub(crate) runs: Vec<Run>,
    pub(crate) state: ObjectState,
    pub(crate) key: Option<WrappedKey>,
    pub(crate) lease_epoch: Option<u64>,
    pub(crate) destroyed: Option<UnixMillis>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Form {
    agreement: String,
    checksum: Digest,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destroyed: Option<String>,
    digest: Digest,
    durable: u64,
    file: String,
    format: String,
    header: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease_epoch: Option<u64>,
    manifest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    name: String,
    object: String,
    runs: Vec<Run>,
    size: u64,
    state: ObjectState,
}

impl ObjectRecord {
    /// The agreement it was pulled under.
    pub const fn agreement(&self) -> &AgreementId {
        &self.header.agreement
    }

    /// Its name among our holdings.
    pub const fn object(&self) -> &ObjectId {
        &self.header.object
    }

    /// The manifest it was pulled by.
    pub const fn manifest(&self) -> Digest {
        self.header.manifest
    }

    /// Its name in the manifest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its media type, where the publisher stated one.
    pub fn media_type(&self) -> Option<&str> {
        self.media_type.as_deref()
    }

    /// Plaintext bytes of the whole object.
    pub const fn size(&self) -> u64 {
        self.header.size
    }

    /// Plaintext bytes held durably.
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// The digest proven when the state is complete.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The publisher's plain SHA-256.
    pub const fn checksum(&self) -> Digest {
        self.checksum
    }

    /// How far it is.
    pub const fn state(&self) -> ObjectState {
        self.state
    }

    /// When the pull began.
    pub const fn created(&self) -> UnixMillis {
        self.header.created
    }

    /// When its key was destroyed.
    pub const fn destroyed_at(&self) -> Option<UnixMillis> {
        self.destroyed
    }

    /// SHA-256 of the file's immutable header: names the copy in evidence.
    pub const fn header_digest(&self) -> Digest {
        self.header_digest
    }

    /// The epoch of the provider's share that its key is wrapped with; `None` where the agreement is not leased.
    pub const fn lease_epoch(&self) -> Option<u64> {
        self.lease_epoch
    }

    /// File name inside the sealed folder.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The record without its key: save it (overwriting the row), then [`super::SealedStore::remove`] the file.
    #[must_use]
    pub fn destroy(mut self, at: UnixMillis) -> Self {
        self.key = None;
        self.state = ObjectState::Destroyed;
        self.destroyed.get_or_insert(at);
        self
    }

    /// The record with its data key under another agreement key (a rotation, or the next lease share).
    pub fn rewrap(mut self, from: &AgreementKey, to: &AgreementKey) -> Result<Self, DataError> {
        self.key = Some(self.data_key(from)?.wrap(self.object(), to)?);
        self.lease_epoch = to.epoch();
        Ok(self)
    }

    /// RFC 8785 JSON, format `fairlead-sealed-object/1`.
    pub fn to_json(&self) -> Result<String, DataError> {
        let form = Form {
            agreement: self.header.agreement.as_str().to_owned(),
            checksum: self.checksum,
            created: self.header.created.to_string(),
            destroyed: self.destroyed.map(|at| at.to_string()),
            digest: self.digest,
            durable: self.durable,
            file: self.file.clone(),
            format: FORMAT.to_owned(),
            header: self.header_digest,
            key: self.key.as_ref().map(WrappedKey::to_text),
            lease_epoch: self.lease_epoch,
            manifest: self.header.manifest,
            media_type: self.media_type.clone(),
            name: self.name.clone(),
            object: self.header.object.as_str().to_owned(),
            runs: self.runs.clone(),
            size: self.header.size,
            state: self.state,
        };
        serde_jcs::to_string(&form).map_err(|_| DataError::Crypto("encode an object's row"))
    }

    /// Reads the row back and checks that it is consistent.
    pub fn from_json(text: &str) -> Result<Self, Refusal> {
        let malformed = |what: &str| Refusal::new(&MALFORMED_RECORD, what);
        let instant = |text: &str| UnixMillis::parse_rfc3339(text).ok_or_else(|| malformed("instant"));
        let form: Form = serde_json::from_str(text).map_err(|error| malformed(&error.to_string()))?;
        if form.format != FORMAT {
            return Err(malformed("format"));
        }
        let record = Self {
            header: Header {
                agreement: AgreementId::parse(&form.agreement)?,
                object: ObjectId::parse(&form.object)?,
                manifest: form.manifest,
                size: form.size,
                created: instant(&form.created)?,
            },
            header_digest: form.header,
            file: form.file,
            name: form.name,
            media_type: form.media_type,
            digest: form.digest,
            checksum: form.checksum,
            durable: form.durable,
            runs: form.runs,
            state: form.state,
            key: form.key.as_deref().map(WrappedKey::parse).transpose()?,
            lease_epoch: form.lease_epoch,
            destroyed: form.destroyed.as_deref().map(instant).transpose()?,
        };
        match record.inconsistency() {
            None => Ok(record),
            Some(what) => Err(malformed(what)),
        }
    }

    pub(crate) fn begin(
        header: Header,
        file: String,
        object: &ManifestObject,
        key: WrappedKey,
        under: &AgreementKey,
    ) -> Result<Self, DataError> {
        let (_, header_digest) = header.encode()?;
        Ok(Self {
            header,
            header_digest,
            file,
            name: object.name().to_owned(),
            media_type: object.media_type().map(str::to_owned),
            digest: object.digest(),
            checksum: object.checksum(),
            durable: 0,
            runs: vec![Run { generation: 1, first: 0 }],
            state: ObjectState::Partial,
            key: Some(key),
            lease_epoch: under.epoch(),
            destroyed: None,
        })
    }

    /// The generation of the next writer, and the segment it starts with; `None` when there were too many.
    pub(crate) fn next_run(&self) -> Option<Run> {
        let generation = self.runs.last()?.generation.checked_add(1)?;
        (self.runs.len() < MAX_RUNS).then_some(Run { generation, first: self.durable / SEGMENT_BYTES as u64 })
    }

    /// Enters a run: runs that begin at or after it were never durable and are overwritten.
    pub(crate) fn enter(&mut self, run: Run) {
        self.runs.retain(|earlier| earlier.first < run.first);
        self.runs.push(run);
    }

    /// The generation under which segment `index` must have been written.
    pub(crate) fn generation_of(&self, index: u64) -> Option<u32> {
        let after = self.runs.partition_point(|run| run.first <= index);
        self.runs.get(after.checked_sub(1)?).map(|run| run.generation)
    }

    pub(crate) fn data_key(&self, under: &AgreementKey) -> Result<DataKey, DataError> {
        let wrapped = self.key.as_ref().ok_or_else(|| Refusal::new(&DESTROYED, self.object().as_str()))?;
        if self.lease_epoch != under.epoch() {
            let detail =
                format!("wrapped in lease epoch {:?}, asked with {:?}", self.lease_epoch, under.epoch());
            return Err(Refusal::new(&KEY_REFUSED, detail).into());
        }
        DataKey::unwrap(self.object(), wrapped, under)
    }

    fn inconsistency(&self) -> Option<&'static str> {
        let grows = self
            .runs
            .iter()
            .zip(self.runs.iter().skip(1))
            .all(|(left, right)| left.generation < right.generation && left.first < right.first);
        let starts = self.runs.first().is_some_and(|run| run.first == 0 && run.generation > 0);
        let inside = self.runs.iter().all(|run| run.first < segment_count(self.header.size));
        let whole = self.durable == self.header.size;
        // The last chunk counts only with completion, so that a resumed writer always has a segment to write.
        let resumable = self.durable == 0
            || self.durable < self.header.size && self.durable.is_multiple_of(CHUNK_BYTES as u64);
        match self.state {
            _ if !is_file_name(&self.file) => Some("file name"),
            _ if self.lease_epoch == Some(0) => Some("lease epoch"),
            _ if !grows || !starts || !inside || self.runs.len() > MAX_RUNS => Some("runs"),
            ObjectState::Partial if !resumable => Some("durable length"),
            ObjectState::Complete if !whole => Some("complete but short"),
            ObjectState::Partial | ObjectState::Complete if self.key.is_none() => Some("key missing"),
            ObjectState::Partial | ObjectState::Complete if self.destroyed.is_some() => Some("destroyed"),
            ObjectState::Destroyed if self.key.is_some() || self.destroyed.is_none() => Some("destroyed"),
            ObjectState::Partial | ObjectState::Complete | ObjectState::Destroyed => None,
        }
    }
}

/// Everything but the key.
impl std::fmt::Debug for ObjectRecord {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ObjectRecord")
            .field("header", &self.header)
            .field("file", &self.file)
            .field("durable", &self.durable)
            .field("runs", &self.runs)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
