//! The immutable start of a sealed file.

use control_plane::ids::AgreementId;
use policy::refusal::Refusal;
use policy::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{ALTERED, SEGMENT_BYTES};
use crate::digest::Digest;
use crate::error::DataError;
use crate::ids::ObjectId;

const MAGIC: &[u8; 8] = b"FLSEAL1\n";
const FORMAT: &str = "fairlead-sealed/1";
/// Two identifiers of 255 bytes, two digests and names fit several times.
const MAX_HEADER_BYTES: u32 = 4096;

/// What a sealed file says about itself, in clear and authenticated by every segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) agreement: AgreementId,
    pub(crate) object: ObjectId,
    pub(crate) manifest: Digest,
    pub(crate) size: u64,
    pub(crate) created: UnixMillis,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    agreement: String,
    created: String,
    format: String,
    manifest: Digest,
    object: String,
    segment: usize,
    size: u64,
}

impl Header {
    /// The bytes before the first segment, and their hash.
    pub(crate) fn encode(&self) -> Result<(Vec<u8>, Digest), DataError> {
        let form = Form {
            agreement: self.agreement.as_str().to_owned(),
            created: self.created.to_string(),
            format: FORMAT.to_owned(),
            manifest: self.manifest,
            object: self.object.as_str().to_owned(),
            segment: SEGMENT_BYTES,
            size: self.size,
        };
        let json = serde_jcs::to_vec(&form).map_err(|_| DataError::Crypto("encode a header"))?;
        let length = u32::try_from(json.len()).map_err(|_| DataError::Crypto("encode a header"))?;
        let bytes = [MAGIC.as_slice(), &length.to_be_bytes(), &json].concat();
        let digest = Digest::of(&bytes);
        Ok((bytes, digest))
    }

    /// Reads and checks the start of a file against the hash in the row; returns where the segments begin.
    pub(crate) fn read(
        mut read_at: impl FnMut(&mut [u8], u64) -> Result<(), DataError>,
        expected: Digest,
    ) -> Result<(Self, u64), DataError> {
        let altered = |what: &str| DataError::from(Refusal::new(&ALTERED, what));
        let mut start = [0_u8; 12];
        read_at(&mut start, 0)?;
        let Some((magic, length)) = start.split_first_chunk::<8>() else { return Err(altered("start")) };
        let length = u32::from_be_bytes(length.try_into().map_err(|_| altered("start"))?);
        if magic != MAGIC || length > MAX_HEADER_BYTES {
            return Err(altered("start of the file"));
        }
        let mut bytes = start.to_vec();
        bytes.resize(start.len().saturating_add(length as usize), 0);
        let (_, json) = bytes.split_at_mut(start.len());
        read_at(json, start.len() as u64)?;
        let form: Form = serde_json::from_slice(json).map_err(|_| altered("header"))?;
        if Digest::of(&bytes) != expected {
            return Err(altered("header is not the one in the row"));
        }
        if form.format != FORMAT || form.segment != SEGMENT_BYTES {
            return Err(altered("format or segment size"));
        }
        let header = Self {
            agreement: AgreementId::parse(&form.agreement)?,
            object: ObjectId::parse(&form.object)?,
            manifest: form.manifest,
            size: form.size,
            created: UnixMillis::parse_rfc3339(&form.created).ok_or_else(|| altered("creation time"))?,
        };
        Ok((header, bytes.len() as u64))
    }
}
