//! What a transfer consists of: objects, sizes and digests, fixed at publication and named by one digest.

use control_plane::ids::{DatasetId, printable};
use policy::refusal::Refusal;
use serde::{Deserialize, Serialize};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::digest::{Digest, ObjectDigests};
use crate::transform::TransformMark;

policy::refusal_codes! {
    MALFORMED_MANIFEST = "transfer/malformed-manifest", Input,
        "the manifest is not a canonical, consistent list of objects",
        "清單不是規範且自洽的物件列表", "清单不是规范且自洽的对象列表",
        clause "proto/fairlead/data: GetManifest", next "ask the provider to publish the dataset again";
    MANIFEST_TOO_LARGE = "limit/manifest-too-large", Limit,
        "the dataset has too many or too large objects for one manifest",
        "資料集的物件過多或過大，無法列於一份清單", "数据集的对象过多或过大，无法列于一份清单",
        clause "proto/fairlead/data: GetManifest", next "publish it as several datasets";
}

/// Bytes of one chunk: what is decided, hashed and sent at once; a multiple of the sealed segment.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Objects in a manifest: keeps listing and checking one well below a second.
pub const MAX_OBJECTS: usize = 10_000;
/// Canonical text of a manifest: fits the default 4 MiB of a gRPC message; enough for about 85 GiB.
pub const MAX_MANIFEST_BYTES: usize = (4 << 20) - (64 << 10);
/// An object's relative name: what file systems take.
const MAX_NAME_BYTES: usize = 1024;
const MAX_MEDIA_TYPE_BYTES: usize = 127;
const FORMAT: &str = "fairlead-manifest/1";

/// The fixed list of objects; holds its canonical text and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    dataset: DatasetId,
    objects: Vec<ManifestObject>,
    transform: Option<TransformMark>,
    text: String,
    digest: Digest,
}

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestObject {
    name: String,
    media_type: Option<String>,
    size: u64,
    digest: Digest,
    checksum: Digest,
    chunks: Vec<Digest>,
}

impl Manifest {
    /// Reads the canonical text of a peer; anything unknown, inconsistent or not canonical is refused.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > MAX_MANIFEST_BYTES {
            return Err(Refusal::new(&MANIFEST_TOO_LARGE, format!("{} bytes", text.len())));
        }
        let form: Form = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if form.format != FORMAT {
            return Err(malformed(format!("format `{}`", printable(&form.format))));
        }
        if form.chunk != CHUNK_BYTES {
            return Err(malformed(format!("chunks of {} bytes", form.chunk)));
        }
        let dataset = DatasetId::parse(&form.dataset)?;
        let objects =
            form.objects.into_iter().map(ManifestObject::from_form).collect::<Result<Vec<_>, _>>()?;
        let manifest = Self::transformed(dataset, objects, form.transform)?;
        if manifest.text != text {
            return Err(malformed("the text is not in its RFC 8785 form"));
        }
        Ok(manifest)
    }

    /// The canonical RFC 8785 text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The dataset described.
    pub const fn dataset(&self) -> &DatasetId {
        &self.dataset
    }

    /// The objects in name order.
    pub fn objects(&self) -> &[ManifestObject] {
        &self.objects
    }

    /// The object at `index`.
    pub fn object(&self, index: u32) -> Option<&ManifestObject> {
        self.objects.get(usize::try_from(index).ok()?)
    }

    /// What the provider did to the objects before they left; `None` if they are as they lie there.
    pub const fn transform(&self) -> Option<&TransformMark> {
        self.transform.as_ref()
    }

    /// Plaintext bytes of all objects.
    pub fn total_bytes(&self) -> u64 {
        self.objects.iter().fold(0, |sum, object| sum.saturating_add(object.size))
    }

    #[cfg(test)]
    pub(crate) fn new(dataset: DatasetId, objects: Vec<ManifestObject>) -> Result<Self, Refusal> {
        Self::transformed(dataset, objects, None)
    }

    pub(crate) fn transformed(
        dataset: DatasetId,
        objects: Vec<ManifestObject>,
        transform: Option<TransformMark>,
    ) -> Result<Self, Refusal> {
        if let Some(mark) = &transform {
            mark.check().map_err(|refusal| malformed(refusal.detail))?;
        }
        if objects.is_empty() {
            return Err(malformed("no objects"));
        }
        if objects.len() > MAX_OBJECTS {
            return Err(Refusal::new(
                &MANIFEST_TOO_LARGE,
                format!("{} objects, at most {MAX_OBJECTS}", objects.len()),
            ));
        }
        if let Some((left, _)) =
            objects.iter().zip(objects.iter().skip(1)).find(|(left, right)| left.name >= right.name)
        {
            return Err(malformed(format!("names are not distinct and sorted after `{}`", left.name)));
        }
        let form = Form {
            format: FORMAT.to_owned(),
            chunk: CHUNK_BYTES,
            dataset: dataset.as_str().to_owned(),
            objects: objects.iter().map(ManifestObject::form).collect(),
            transform: transform.clone(),
        };
        let text = serde_jcs::to_string(&form).map_err(|error| malformed(error.to_string()))?;
        if text.len() > MAX_MANIFEST_BYTES {
            return Err(Refusal::new(
                &MANIFEST_TOO_LARGE,
                format!("{} bytes, at most {MAX_MANIFEST_BYTES}", text.len()),
            ));
        }
        let digest = Digest::of(text.as_bytes());
        Ok(Self { dataset, objects, transform, text, digest })
    }
}

impl ManifestObject {
    /// Relative path with `/` between its parts.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Media type, where the publisher stated one.
    pub fn media_type(&self) -> Option<&str> {
        self.media_type.as_deref()
    }

    /// Plaintext bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The digest that a receiver proves: over size and chunk hashes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The plain SHA-256 as the publisher states it, to compare with tools outside such as `sha256sum`.
    pub const fn checksum(&self) -> Digest {
        self.checksum
    }

    /// The hash of each chunk of [`CHUNK_BYTES`].
    pub fn chunks(&self) -> &[Digest] {
        &self.chunks
    }

    pub(crate) fn new(
        name: String,
        media_type: Option<String>,
        digests: ObjectDigests,
    ) -> Result<Self, Refusal> {
        check_name(&name)?;
        if let Some(media_type) = &media_type
            && (media_type.is_empty()
                || media_type.len() > MAX_MEDIA_TYPE_BYTES
                || !media_type.contains('/')
                || !media_type.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '))
        {
            return Err(malformed(format!("media type `{}` of `{name}`", printable(media_type))));
        }
        let ObjectDigests { size, checksum, chunks } = digests;
        if chunks.len() as u64 != size.div_ceil(CHUNK_BYTES as u64) {
            return Err(malformed(format!("{} chunks for {size} bytes of `{name}`", chunks.len())));
        }
        // The one case in which the receiver proves the publisher's plain hash without a second pass.
        if let [only] = chunks.as_slice()
            && *only != checksum
        {
            return Err(malformed(format!("two hashes for the one chunk of `{name}`")));
        }
        let digest = Digest::of_object(size, &chunks);
        Ok(Self { name, media_type, size, digest, checksum, chunks })
    }

    fn form(&self) -> ObjectForm {
        let mut raw = Vec::with_capacity(self.chunks.len().saturating_mul(32));
        for chunk in &self.chunks {
            raw.extend_from_slice(chunk.as_bytes());
        }
        ObjectForm {
            checksum: self.checksum,
            chunks: URL_SAFE_NO_PAD.encode(raw),
            digest: self.digest,
            media_type: self.media_type.clone(),
            name: self.name.clone(),
            size: self.size,
        }
    }

    fn from_form(form: ObjectForm) -> Result<Self, Refusal> {
        let ObjectForm { checksum, chunks, digest, media_type, name, size } = form;
        check_name(&name)?;
        let raw = URL_SAFE_NO_PAD
            .decode(chunks)
            .map_err(|error| malformed(format!("chunk hashes of `{name}`: {error}")))?;
        let chunks = raw
            .chunks(32)
            .map(Digest::from_slice)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| malformed(format!("chunk hashes of `{name}` are cut")))?;
        let object = Self::new(name, media_type, ObjectDigests { size, checksum, chunks })?;
        if object.digest != digest {
            return Err(malformed(format!("digest and chunk hashes of `{}` differ", object.name)));
        }
        Ok(object)
    }
}

/// Manifest text; `chunks` is base64url of the concatenated hashes, a quarter smaller than a list.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    chunk: usize,
    dataset: String,
    format: String,
    objects: Vec<ObjectForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transform: Option<TransformMark>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ObjectForm {
    checksum: Digest,
    chunks: String,
    digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    name: String,
    size: u64,
}

/// A name must be a relative path that cannot climb and shows as it is.
fn check_name(name: &str) -> Result<(), Refusal> {
    let parts_are_plain = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if name.len() > MAX_NAME_BYTES || !parts_are_plain || printable_differs(name) || name.contains('\\') {
        return Err(malformed(format!("object name `{}`", printable(name))));
    }
    Ok(())
}

fn printable_differs(name: &str) -> bool {
    name.chars().any(|c| {
        let mut buffer = [0; 4];
        c != '?' && printable(c.encode_utf8(&mut buffer)) == "?"
    })
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(&MALFORMED_MANIFEST, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::ObjectHasher;

    fn object(name: &str, bytes: &[u8]) -> Result<ManifestObject, Refusal> {
        let mut hasher = ObjectHasher::new();
        hasher.update(bytes);
        ManifestObject::new(name.to_owned(), Some("text/csv".to_owned()), hasher.finish())
    }

    fn sample() -> Manifest {
        let objects =
            vec![object("a.csv", b"").unwrap(), object("b/觀測.csv", &vec![7; CHUNK_BYTES + 1]).unwrap()];
        Manifest::new(DatasetId::parse("https://campus.example/dataset/1").unwrap(), objects).unwrap()
    }

    #[test]
    fn round_trip() {
        let manifest = sample();
        assert_eq!(Manifest::parse(manifest.text()).unwrap(), manifest);
        assert_eq!(manifest.digest(), Digest::of(manifest.text().as_bytes()));
        assert_eq!(manifest.total_bytes(), CHUNK_BYTES as u64 + 1);
        assert!(manifest.object(2).is_none());
    }

    #[test]
    fn every_difference_is_refused() {
        let manifest = sample();
        let good: serde_json::Value = serde_json::from_str(manifest.text()).unwrap();
        let other = Digest::of(b"other").to_string();
        for (pointer, value) in [
            ("/format", serde_json::json!("fairlead-manifest/2")),
            ("/chunk", serde_json::json!(1024)),
            ("/dataset", serde_json::json!("")),
            ("/objects", serde_json::json!([])),
            ("/objects/0/name", serde_json::json!("../a.csv")),
            ("/objects/0/name", serde_json::json!("c.csv")),
            ("/objects/0/size", serde_json::json!(1)),
            ("/objects/0/size", serde_json::json!(-1)),
            ("/objects/0/mediaType", serde_json::json!("csv")),
            ("/objects/1/size", serde_json::json!(CHUNK_BYTES)),
            ("/objects/1/digest", serde_json::json!(other)),
            ("/objects/1/checksum", serde_json::json!("sha-256:AA")),
            ("/objects/1/chunks", serde_json::json!("AAAA")),
            ("/objects/1", good.pointer("/objects/0").unwrap().clone()),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value.clone();
            let text = serde_jcs::to_string(&bad).unwrap();
            assert!(Manifest::parse(&text).is_err(), "{pointer} = {value}");
        }
        let mut unknown = good.clone();
        unknown["note"] = serde_json::json!("x");
        assert_eq!(
            Manifest::parse(&serde_jcs::to_string(&unknown).unwrap()).unwrap_err().code,
            &MALFORMED_MANIFEST
        );
        for text in ["", "{}", "[]", &format!(" {}", manifest.text()), &"[".repeat(100_000)] {
            assert_eq!(Manifest::parse(text).unwrap_err().code, &MALFORMED_MANIFEST);
        }
        let huge = " ".repeat(MAX_MANIFEST_BYTES + 1);
        assert_eq!(Manifest::parse(&huge).unwrap_err().code, &MANIFEST_TOO_LARGE);
    }

    #[test]
    fn names_cannot_climb_or_deceive() {
        for good in ["a", "a b/c-d.csv", "觀測/二零二六.csv", "what?.csv"] {
            assert!(object(good, b"x").is_ok(), "{good}");
        }
        let long = "x".repeat(1025);
        for bad in
            ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\\b", "a\nb", "a\u{202e}b", "a\0", &long]
        {
            assert_eq!(object(bad, b"x").unwrap_err().code, &MALFORMED_MANIFEST, "{bad:?}");
        }
    }
}
