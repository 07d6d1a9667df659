//! The signed statement about an exported file.

use control_plane::ids::{AgreementId, ParticipantId};
use control_plane::{Refusal, UnixMillis};
use identity::{Digest, Signer, TrustBundle, Typ};
use ledger::{Hash, TreeHead};
use serde::{Deserialize, Serialize};

use super::{Format, MALFORMED_EXPORT, Scope};
use crate::error::Error;

const VERSION: u32 = 1;

/// What the exporter says about its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Whose ledger it is.
    pub participant: ParticipantId,
    /// The form of the file.
    pub format: Format,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many records it has.
    pub records: u64,
    /// The ledger that each record's path leads to.
    pub head: TreeHead,
    /// What was asked for.
    pub scope: Scope,
    /// When it was made.
    pub exported: UnixMillis,
}

/// The payload that is signed (RFC 8785); integers that may pass 2^53 are strings.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StatementJson {
    version: u32,
    participant: String,
    format: Format,
    digest: Digest,
    records: String,
    ledger_size: String,
    ledger_root: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agreement: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    exported: String,
}

impl Statement {
    /// Signs it: a compact JWS that carries the signer's chain.
    pub fn sign(&self, signer: &Signer) -> Result<String, Error> {
        let json = StatementJson {
            version: VERSION,
            participant: self.participant.to_string(),
            format: self.format,
            digest: self.digest,
            records: self.records.to_string(),
            ledger_size: self.head.size.to_string(),
            ledger_root: self.head.root.to_string(),
            peer: self.scope.peer.as_ref().map(ToString::to_string),
            agreement: self.scope.agreement.as_ref().map(ToString::to_string),
            from: self.scope.from.map(|at| at.to_string()),
            until: self.scope.until.map(|at| at.to_string()),
            exported: self.exported.to_string(),
        };
        let payload = serde_jcs::to_vec(&json).map_err(Error::ours)?;
        Ok(signer.sign(Typ::Audit, &payload, self.exported, None)?)
    }

    /// Reads a signed statement whose signature leads to one of `roots`, by the participant that it names.
    pub fn read(compact: &str, roots: &TrustBundle) -> Result<Self, Refusal> {
        let verified = roots.verify_offline(compact.trim(), Typ::Audit)?;
        let json: StatementJson = serde_json::from_slice(verified.payload()).map_err(malformed)?;
        let instant = |text: &str| {
            UnixMillis::parse_rfc3339(text).ok_or_else(|| malformed(format!("`{text}` is no instant")))
        };
        if json.version != VERSION {
            return Err(malformed(format!("version {}", json.version)));
        }
        if json.participant != verified.signer().as_str() {
            return Err(malformed(format!("signed by `{}` for another participant", verified.signer())));
        }
        Ok(Self {
            participant: verified.signer().clone(),
            format: json.format,
            digest: json.digest,
            records: json.records.parse().map_err(malformed)?,
            head: TreeHead {
                size: json.ledger_size.parse().map_err(malformed)?,
                root: Hash::parse(&json.ledger_root).map_err(malformed)?,
            },
            scope: Scope {
                peer: json.peer.as_deref().map(ParticipantId::parse).transpose()?,
                agreement: json.agreement.as_deref().map(AgreementId::parse).transpose()?,
                from: json.from.as_deref().map(instant).transpose()?,
                until: json.until.as_deref().map(instant).transpose()?,
            },
            exported: instant(&json.exported)?,
        })
    }
}

fn malformed(cause: impl std::fmt::Display) -> Refusal {
    Refusal::new(&MALFORMED_EXPORT, cause.to_string())
}
