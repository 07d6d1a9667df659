//! Where published bytes come from: files beneath configured roots, and configured HTTP(S) hosts.

mod file;
mod held;
pub(crate) mod http;
mod publication;
mod read_ahead;
mod transformed;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use control_plane::ids::{AgreementId, DatasetId};
use policy::refusal::Refusal;

use crate::error::DataError;
use crate::ingress::blocking;
use crate::manifest::{Manifest, ManifestObject};
use crate::ports::{AccessSubject, HeldPort, HeldRead};
use crate::transform::NEEDS_FILES;

use file::Roots;
use http::HttpClient;
pub use http::{HttpHost, is_public};
use publication::ObjectSource;
pub use publication::{AppliedTransform, Publication};
pub(crate) use read_ahead::ChunkReader;

policy::refusal_codes! {
    OUTSIDE_ROOTS = "source/outside-roots", Policy,
        "the path is not beneath a configured source root", "路徑不在已設定的來源根目錄之下", "路径不在已配置的来源根目录之下",
        clause "operator's guide 2: a connector, sources.roots", next "add the folder to the source roots in the configuration, or move the file";
    DATA_DIRECTORY = "source/data-directory", Policy,
        "a source root may neither contain nor lie in the connector's data directory",
        "來源根目錄不得包含連接器的資料目錄，也不得位於其中", "来源根目录不得包含连接器的数据目录，也不得位于其中",
        clause "operator's guide 2: a connector, sources.roots", next "keep published files in a folder of their own";
    NOT_A_FILE = "source/not-a-regular-file", Input,
        "the source is not a regular file or a folder of such", "來源不是一般檔案，也不是只含一般檔案的資料夾",
        "来源不是普通文件，也不是只含普通文件的文件夹",
        clause "operator's guide 2: a connector, sources.roots", next "publish regular files; copy what links or devices point to";
    UNREADABLE = "source/unreadable", Input,
        "the source does not exist or cannot be read", "來源不存在或無法讀取", "来源不存在或无法读取",
        clause "proto/fairlead/data: GetManifest", next "check path and permissions; the connector's user must be able to read it";
    TOO_MANY_FILES = "limit/too-many-files", Limit,
        "the folder holds too many files or is nested too deeply", "資料夾的檔案過多或層級過深", "文件夹的文件过多或层级过深",
        clause "proto/fairlead/data: GetManifest", next "publish it as several datasets";
    NOT_SERVED = "source/held-copies-not-served", Ours,
        "held copies are not passed on by this process", "此程序不轉供所持副本", "此进程不转供所持副本",
        clause "usage control: onward sharing", next "report this to the operator: it is a fault of the connector";
    MALFORMED_PUBLICATION = "source/malformed-publication", Ours,
        "the row of the publication is damaged or of another version", "發佈記錄已損壞或版本不符", "发布记录已损坏或版本不符",
        clause "proto/fairlead/data: GetManifest", next "publish the dataset again";
}

/// Which places may be published from.
#[derive(Clone, Debug, Default)]
pub struct SourceSettings {
    /// Folders beneath which files may be published.
    pub roots: Vec<PathBuf>,
    /// Hosts from which HTTP(S) sources may be read.
    pub http: Vec<HttpHost>,
    /// PEM of the certificate authorities that HTTPS sources are checked against; there are no built-in ones.
    pub http_roots_pem: Vec<u8>,
}

/// What to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// One file; its object bears the file's name.
    File {
        /// Absolute path beneath a root.
        path: PathBuf,
        /// Media type of the object.
        media_type: Option<String>,
    },
    /// All files of a folder, with their paths relative to it as names.
    Directory {
        /// Absolute path beneath a root, or a root.
        path: PathBuf,
        /// Media type of every object.
        media_type: Option<String>,
    },
    /// One resource of a configured host.
    Http {
        /// `http` or `https`, without user, fragment.
        url: String,
        /// The object's name in the manifest.
        name: String,
        /// Media type of the object.
        media_type: Option<String>,
    },
}

/// The configured places, opened.
pub struct Sources {
    roots: Roots,
    http: HttpClient,
    held: OnceLock<Arc<dyn HeldPort>>,
}

impl Sources {
    /// Opens the roots; none may overlap with `data_directory`.
    pub fn open(settings: &SourceSettings, data_directory: &Path) -> Result<Self, DataError> {
        Ok(Self {
            roots: Roots::open(&settings.roots, data_directory)?,
            http: HttpClient::new(&settings.http, &settings.http_roots_pem)?,
            held: OnceLock::new(),
        })
    }

    /// From now on held copies are read through `port`; a second one is not taken.
    pub fn serve_held(&self, port: Arc<dyn HeldPort>) {
        drop(self.held.set(port));
    }

    /// Reads and hashes everything once and fixes the manifest.
    pub async fn publish(&self, spec: &SourceSpec, dataset: DatasetId) -> Result<Publication, DataError> {
        self.publish_transformed(spec, dataset, None).await
    }

    /// Reads everything, hashes what `applied` makes of it, and fixes the manifest.
    pub async fn publish_transformed(
        &self,
        spec: &SourceSpec,
        dataset: DatasetId,
        applied: Option<AppliedTransform>,
    ) -> Result<Publication, DataError> {
        let (roots, transform) = (self.roots.clone(), applied.clone());
        let objects: Vec<(ManifestObject, ObjectSource)> = match spec {
            SourceSpec::File { path, media_type } => {
                let (path, media_type) = (path.clone(), media_type.clone());
                blocking(move || Ok(vec![roots.publish_file(&path, media_type, transform.as_ref())?])).await?
            }
            SourceSpec::Directory { path, media_type } => {
                let (path, media_type) = (path.clone(), media_type.clone());
                blocking(move || roots.publish_directory(&path, media_type.as_deref(), transform.as_ref()))
                    .await?
            }
            SourceSpec::Http { url, .. } if applied.is_some() => {
                return Err(Refusal::new(&NEEDS_FILES, format!("`{url}`")).into());
            }
            SourceSpec::Http { url, name, media_type } => {
                let (digests, etag) = self.http.digest(url).await?;
                let object = ManifestObject::new(name.clone(), media_type.clone(), digests)?;
                vec![(object, ObjectSource::Http { url: url.clone(), etag })]
            }
        };
        let (objects, sources) = objects.into_iter().unzip();
        let mark = applied.as_ref().map(|applied| applied.transform.mark());
        Ok(Publication::new(Manifest::transformed(dataset, objects, mark)?, sources, applied))
    }

    /// Starts reading an object ahead, from `offset`.
    pub(crate) async fn read_ahead(
        &self,
        publication: &Publication,
        index: u32,
        offset: u64,
        subject: &AccessSubject,
    ) -> Result<ChunkReader, DataError> {
        let (object, source) = publication.object(index).ok_or(DataError::Worker)?;
        if offset >= object.size() {
            return Ok(ChunkReader::ended());
        }
        match source {
            ObjectSource::File { root, path, stamp } => {
                let (roots, root, path) = (self.roots.clone(), root.clone(), path.clone());
                let file = blocking(move || roots.reopen(&root, &path)).await?;
                match publication.applied() {
                    Some(applied) => transformed::read_ahead(file, applied, object, offset),
                    None => Ok(ChunkReader::file(file, *stamp, object, offset)),
                }
            }
            ObjectSource::Held { agreement, purpose } => {
                let port = self.held.get().ok_or_else(|| Refusal::new(&NOT_SERVED, agreement.as_str()))?;
                let asked = HeldRead {
                    agreement: AgreementId::parse(agreement)?,
                    object: object.name().to_owned(),
                    purpose: purpose.clone(),
                    subject: subject.clone(),
                };
                Ok(held::read_ahead(port.open(asked).await?, object, offset))
            }
            // Its bytes were hashed as they are, which nothing else may leave as.
            ObjectSource::Http { .. } if publication.applied().is_some() => {
                Err(Refusal::new(&NEEDS_FILES, object.name()).into())
            }
            ObjectSource::Http { url, etag } => {
                let body = self.http.fetch(url, etag.as_deref(), offset, object.size()).await?;
                Ok(ChunkReader::body(body, object, offset))
            }
        }
    }
}

pub(crate) fn unreadable(what: impl std::fmt::Display) -> DataError {
    Refusal::new(&UNREADABLE, what.to_string()).into()
}

#[cfg(test)]
mod tests;
