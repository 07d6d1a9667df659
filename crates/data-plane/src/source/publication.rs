//! What a published dataset consists of and where its bytes lie: the provider's row.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_plane::ids::{AgreementId, DatasetId};
use policy::refusal::Refusal;
use serde::{Deserialize, Serialize};

use super::MALFORMED_PUBLICATION;
use crate::digest::Digest;
use crate::egress::check_receipt;
use crate::error::DataError;
use crate::manifest::{Manifest, ManifestObject};
use crate::transform::{Salt, Transform};

const FORMAT: &str = "fairlead-publication/1";

/// A manifest and, for each of its objects, the source. Keep [`Publication::to_json`] with the dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    manifest: Arc<Manifest>,
    sources: Vec<ObjectSource>,
    applied: Option<Arc<AppliedTransform>>,
}

/// What is done to every object before it leaves, with the dataset's secret. Never leaves this connector.
#[derive(Clone, Debug, PartialEq)]
pub struct AppliedTransform {
    /// The declaration.
    pub transform: Transform,
    /// What hashed columns depend on.
    pub salt: Salt,
}

/// Where an object's bytes are. Never leaves this connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub(crate) enum ObjectSource {
    File {
        root: PathBuf,
        path: PathBuf,
        stamp: Stamp,
    },
    Http {
        #[serde(skip_serializing_if = "Option::is_none")]
        etag: Option<String>,
        url: String,
    },
    /// A sealed copy that we hold.
    Held {
        /// The agreement that it is held under.
        agreement: String,
        /// For what purpose it is passed on, where one was stated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        purpose: Option<String>,
    },
}

/// A file as it was when it was hashed. While it stands, the file need not be hashed again to be sent.
///
/// Strings, as some pass 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified_ns: i128,
    pub(crate) changed_ns: i128,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: String,
    manifest: String,
    sources: Vec<ObjectSource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transform: Option<AppliedForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppliedForm {
    declaration: String,
    /// base64url of 32 bytes.
    salt: String,
}

impl Publication {
    /// The manifest for the consumer.
    pub const fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// RFC 8785 JSON, format `fairlead-publication/1`.
    pub fn to_json(&self) -> Result<String, DataError> {
        let form = Form {
            format: FORMAT.to_owned(),
            manifest: self.manifest.text().to_owned(),
            sources: self.sources.clone(),
            transform: self.applied.as_ref().map(|applied| applied.form()),
        };
        serde_jcs::to_string(&form).map_err(|_| DataError::Crypto("encode a publication"))
    }

    /// Reads the row back; the manifest is checked like a peer's.
    pub fn from_json(text: &str) -> Result<Self, Refusal> {
        let malformed = |what: &str| Refusal::new(&MALFORMED_PUBLICATION, what);
        let form: Form = serde_json::from_str(text).map_err(|error| malformed(&error.to_string()))?;
        if form.format != FORMAT {
            return Err(malformed("format"));
        }
        let manifest = Manifest::parse(&form.manifest)?;
        if manifest.objects().len() != form.sources.len() {
            return Err(malformed("objects and sources differ in number"));
        }
        let applied = form.transform.map(AppliedTransform::from_form).transpose()?;
        let marked = applied.as_ref().map(|applied| applied.transform.mark());
        // What was done to a held copy was done before it came here, and nothing more is.
        let held = |source: &ObjectSource| matches!(source, ObjectSource::Held { .. });
        let as_held = applied.is_none() && form.sources.iter().all(held);
        if !as_held && marked.as_ref() != manifest.transform() {
            return Err(malformed("the manifest tells another transform"));
        }
        Ok(Self::new(manifest, form.sources, applied))
    }

    /// What was pulled under `agreement`, offered on as `dataset` object by object, with the transform that its provider
    /// performed; for `purpose`, where the agreement asks for one.
    pub fn of_held(
        held: &Manifest,
        dataset: DatasetId,
        agreement: &AgreementId,
        purpose: Option<&str>,
    ) -> Result<Self, Refusal> {
        let manifest = Manifest::transformed(dataset, held.objects().to_vec(), held.transform().cloned())?;
        let source =
            ObjectSource::Held { agreement: agreement.to_string(), purpose: purpose.map(str::to_owned) };
        let sources = vec![source; manifest.objects().len()];
        Ok(Self::new(manifest, sources, None))
    }

    /// What is done to the objects before they leave.
    pub fn applied(&self) -> Option<&Arc<AppliedTransform>> {
        self.applied.as_ref()
    }

    /// Compares a consumer's receipt for the object at `index` with the manifest.
    pub fn check_receipt(&self, index: u32, bytes: u64, digest: Digest) -> Result<(), Refusal> {
        check_receipt(self, index, bytes, digest)
    }

    pub(crate) fn new(
        manifest: Manifest,
        sources: Vec<ObjectSource>,
        applied: Option<AppliedTransform>,
    ) -> Self {
        Self { manifest: Arc::new(manifest), sources, applied: applied.map(Arc::new) }
    }

    pub(crate) fn object(&self, index: u32) -> Option<(&ManifestObject, &ObjectSource)> {
        self.manifest.object(index).zip(self.sources.get(usize::try_from(index).ok()?))
    }
}

impl AppliedTransform {
    fn form(&self) -> AppliedForm {
        let salt = URL_SAFE_NO_PAD.encode(self.salt.as_bytes());
        AppliedForm { declaration: self.transform.text().to_owned(), salt }
    }

    fn from_form(form: AppliedForm) -> Result<Self, Refusal> {
        let transform = Transform::parse(&form.declaration)?;
        let salt = URL_SAFE_NO_PAD.decode(form.salt).ok().and_then(|salt| <[u8; 32]>::try_from(salt).ok());
        let salt = salt.ok_or_else(|| Refusal::new(&MALFORMED_PUBLICATION, "salt"))?;
        Ok(Self { transform, salt: Salt::new(salt) })
    }
}

impl Serialize for Stamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { device, inode, size, modified_ns, changed_ns } = self;
        serializer.collect_str(&format_args!("{device}:{inode}:{size}:{modified_ns}:{changed_ns}"))
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut parts = text.split(':');
        let stamp = (|| {
            let device = parts.next()?.parse().ok()?;
            let inode = parts.next()?.parse().ok()?;
            let size = parts.next()?.parse().ok()?;
            let modified_ns = parts.next()?.parse().ok()?;
            let changed_ns = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Self { device, inode, size, modified_ns, changed_ns })
        })();
        stamp.ok_or_else(|| serde::de::Error::custom("not a file stamp"))
    }
}
