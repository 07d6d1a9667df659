//! What the connector writes to disk: processes, agreements and outgoing messages as versioned RFC 8785 JSON.
//!
//! Reading parses every identifier, text and signature again and checks that they belong together; whatever does
//! not is an error, never a guess. Instants are RFC 3339 texts. The domain types themselves know nothing of it.

mod agreement;
mod negotiation;
mod transfer;

pub use agreement::{decode_agreement, encode_agreement};
pub use negotiation::{
    decode_negotiation, decode_negotiation_message, encode_negotiation, encode_negotiation_message,
};
pub use transfer::{decode_transfer, decode_transfer_message, encode_transfer, encode_transfer_message};

use policy::refusal::Refusal;
use policy::time::UnixMillis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cause::Cause;
use crate::digest::Digest;
use crate::ids::{CallbackAddress, ConsumerPid, MessageId, ParticipantId, ProviderPid};
use crate::pids::{Pids, Role};

/// The version that is written; a reader refuses every other.
pub const VERSION: u32 = 1;

/// Why stored bytes cannot be read, or a value cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The bytes are not the JSON of this kind.
    #[error("stored {kind} is not readable")]
    Json {
        /// What was read or written.
        kind: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Another kind or a version this program does not know.
    #[error("stored {kind} is `{found_kind}` version {found_version}, expected version {VERSION}")]
    Version {
        /// What was to be read.
        kind: &'static str,
        /// What it says it is.
        found_kind: String,
        /// Its version.
        found_version: u64,
    },
    /// A part does not parse or does not belong.
    #[error("stored value is inconsistent")]
    Refused(#[from] Refusal),
    /// The parts do not belong together.
    #[error("stored {kind} is inconsistent: {why}")]
    Inconsistent {
        /// What was read.
        kind: &'static str,
        /// What does not fit.
        why: &'static str,
    },
}

type Result<T> = std::result::Result<T, DurableError>;

#[derive(Serialize)]
struct Written<'a, T> {
    kind: &'static str,
    version: u32,
    body: &'a T,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    kind: String,
    version: u64,
    body: Value,
}

fn write<T: Serialize>(kind: &'static str, body: &T) -> Result<Vec<u8>> {
    serde_jcs::to_vec(&Written { kind, version: VERSION, body })
        .map_err(|source| DurableError::Json { kind, source })
}

fn read<T: DeserializeOwned>(kind: &'static str, bytes: &[u8]) -> Result<T> {
    let json = |source| DurableError::Json { kind, source };
    let read: Read = serde_json::from_slice(bytes).map_err(json)?;
    if read.kind != kind || read.version != u64::from(VERSION) {
        return Err(DurableError::Version { kind, found_kind: read.kind, found_version: read.version });
    }
    serde_json::from_value(read.body).map_err(json)
}

fn require(kind: &'static str, holds: bool, why: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(DurableError::Inconsistent { kind, why }) }
}

fn known<T>(kind: &'static str, value: Option<T>, why: &'static str) -> Result<T> {
    value.ok_or(DurableError::Inconsistent { kind, why })
}

fn instant_to_text(at: UnixMillis) -> Result<String> {
    let text = at.to_string();
    require("instant", UnixMillis::parse_rfc3339(&text) == Some(at), "an instant is out of range")?;
    Ok(text)
}

fn instant(text: &str) -> Result<UnixMillis> {
    known("instant", UnixMillis::parse_rfc3339(text), "an instant is not RFC 3339")
}

fn role(text: &str) -> Result<Role> {
    known("role", Role::parse(text), "a role is neither consumer nor provider")
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCause {
    code: String,
    reasons: Vec<String>,
}

impl From<&Cause> for StoredCause {
    fn from(cause: &Cause) -> Self {
        Self { code: cause.code().to_owned(), reasons: cause.reasons().to_vec() }
    }
}

impl StoredCause {
    fn restore(&self) -> Result<Cause> {
        let cause = Cause::new(&self.code, self.reasons.iter().map(String::as_str));
        let unchanged = cause.code() == self.code && cause.reasons() == self.reasons;
        require("cause", unchanged, "a text is longer or dirtier than any that is written")?;
        Ok(cause)
    }
}

/// Parties and names of a process.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredParties {
    role: String,
    us: String,
    counterparty: String,
    our_pid: String,
    their_pid: Option<String>,
}

impl StoredParties {
    fn of(us: &ParticipantId, counterparty: &ParticipantId, pids: &Pids) -> Self {
        Self {
            role: pids.role().as_str().to_owned(),
            us: us.as_str().to_owned(),
            counterparty: counterparty.as_str().to_owned(),
            our_pid: pids.ours().to_owned(),
            their_pid: pids.theirs().map(str::to_owned),
        }
    }

    fn restore(&self, kind: &'static str) -> Result<(ParticipantId, ParticipantId, Pids)> {
        let theirs = self.their_pid.as_deref();
        let pids = match role(&self.role)? {
            Role::Consumer => Pids::Consumer {
                ours: ConsumerPid::parse(&self.our_pid)?,
                theirs: theirs.map(ProviderPid::parse).transpose()?,
            },
            Role::Provider => Pids::Provider {
                ours: ProviderPid::parse(&self.our_pid)?,
                theirs: theirs.map(ConsumerPid::parse).transpose()?,
            },
        };
        require(kind, self.us != self.counterparty, "both parties are the same")?;
        Ok((ParticipantId::parse(&self.us)?, ParticipantId::parse(&self.counterparty)?, pids))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTransition {
    to: String,
    by: String,
    message: String,
    at: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAccepted {
    id: String,
    body: String,
}

impl StoredAccepted {
    fn restore(&self, kind: &'static str) -> Result<(MessageId, Digest)> {
        let body = known(kind, Digest::parse(&self.body), "a body digest is malformed")?;
        Ok((MessageId::parse(&self.id)?, body))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSent {
    id: String,
    settled: bool,
}

fn text(id: &(impl ToString + ?Sized)) -> String {
    id.to_string()
}

fn callback(stored: Option<&String>) -> Result<Option<CallbackAddress>> {
    Ok(stored.map(|address| CallbackAddress::parse(address)).transpose()?)
}

fn message_id(stored: Option<&String>) -> Result<Option<MessageId>> {
    Ok(stored.map(|id| MessageId::parse(id)).transpose()?)
}
