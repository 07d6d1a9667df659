//! The authority's book: one versioned file, replaced whole under a lock, so that a crash leaves the old or the new.

use std::collections::BTreeMap;
use std::path::Path;

use control_plane::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::error::IdentityError;
use crate::files;
use crate::membership::Membership;

/// The file's version.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    /// Of the newest revocation list, over all of the authority's certificates.
    pub(super) list_number: u64,
    pub(super) root_list: Option<StoredList>,
    pub(super) issuing_list: Option<StoredList>,
    pub(super) minimums: Option<StoredMinimums>,
    pub(super) minimums_number: u64,
    /// By SHA-256 of the secret.
    pub(super) tokens: BTreeMap<String, TokenRecord>,
    /// By participant.
    pub(super) members: BTreeMap<String, MemberRecord>,
    /// By serial number, lower-case hexadecimal.
    pub(super) certificates: BTreeMap<String, CertificateRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StoredList {
    pub(super) issued: Instant,
    pub(super) next_update: Instant,
    /// Base64 of the DER.
    pub(super) der: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StoredMinimums {
    pub(super) issued: Instant,
    pub(super) jws: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TokenRecord {
    pub(super) participant: String,
    pub(super) names: Vec<String>,
    pub(super) membership: Membership,
    pub(super) expires: Instant,
    /// Serial number of the certificate it was spent on.
    pub(super) spent_on: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MemberRecord {
    pub(super) names: Vec<String>,
    pub(super) membership: Membership,
    pub(super) active: bool,
    /// Of the newest statement.
    pub(super) sequence: u64,
    /// The lowest that counts.
    pub(super) minimum_sequence: u64,
    /// The newest statement, while nothing that it says has changed.
    pub(super) statement: Option<StoredStatement>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StoredStatement {
    pub(super) issued: Instant,
    pub(super) jws: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CertificateRecord {
    pub(super) participant: String,
    pub(super) issued: Instant,
    /// Base64 of the DER.
    pub(super) der: String,
    pub(super) revoked: Option<Instant>,
}

/// RFC 3339 in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct Instant(pub(super) UnixMillis);

impl From<Instant> for String {
    fn from(instant: Instant) -> Self {
        instant.0.to_string()
    }
}

impl TryFrom<String> for Instant {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        UnixMillis::parse_rfc3339(&text).map(Self).ok_or("an instant is RFC 3339")
    }
}

impl State {
    pub(super) fn empty() -> Self {
        Self {
            version: VERSION,
            list_number: 0,
            root_list: None,
            issuing_list: None,
            minimums: None,
            minimums_number: 0,
            tokens: BTreeMap::new(),
            members: BTreeMap::new(),
            certificates: BTreeMap::new(),
        }
    }

    pub(super) fn load(path: &Path) -> Result<Self, IdentityError> {
        let state: Self = serde_json::from_slice(&files::read(path)?)
            .map_err(|error| IdentityError::format(path, error))?;
        if state.version != VERSION {
            return Err(IdentityError::format(
                path,
                format!("version {}, {VERSION} is known", state.version),
            ));
        }
        Ok(state)
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let bytes = serde_jcs::to_vec(self).map_err(IdentityError::crypto("writing the authority's book"))?;
        files::replace(path, &bytes)
    }
}
