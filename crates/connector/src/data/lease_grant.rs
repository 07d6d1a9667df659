//! The signed answer to a key lease: both sides keep it, and neither can say later that it was otherwise.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control_plane::agreement::Agreement;
use control_plane::{Refusal, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::error::Error;

control_plane::refusal_codes! {
    OTHER_GRANT = "use/lease-grant-mismatch", Input,
        "the provider's grant is not the answer to this request on this connection",
        "提供方的授權並非對此連線上此請求的回覆", "提供方的授权并非对此连接上此请求的答复",
        clause "security model: what a lease holds", next "ask again; if it repeats, tell the provider";
}

/// The version that is written and read.
const VERSION: u32 = 1;
/// Random bytes of a request.
pub const NONCE_BYTES: usize = 32;

/// What a lease grants; the payload of a `fairlead-grant+jws`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseGrant {
    version: u32,
    kind: String,
    /// The agreement.
    pub agreement: String,
    /// Its hash.
    pub agreement_hash: String,
    /// Who grants.
    pub assigner: String,
    /// To whom.
    pub assignee: String,
    /// RFC 9266 binding of the connection, base64url.
    pub channel: String,
    /// The request's nonce, base64url.
    pub nonce: String,
    /// By the provider's clock.
    pub leased_at: String,
    /// By the provider's clock; the end of use without another lease.
    pub valid_until: String,
    /// Index of each object and the epoch to wrap it with.
    pub objects: Vec<GrantedObject>,
    /// The sessions that may use them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<String>,
    /// The transfer that brings them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<String>,
    /// Uses that the provider has counted, these included.
    pub uses: String,
}

/// One object of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantedObject {
    /// Index in the manifest.
    pub object: u32,
    /// The epoch to wrap with from now on, as a decimal number.
    pub epoch: String,
}

/// What ties an answer to its question.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The request's nonce.
    pub nonce: &'a [u8; NONCE_BYTES],
    /// The connection's binding.
    pub channel: &'a [u8; 32],
}

impl LeaseGrant {
    /// A grant of nothing yet under this agreement.
    pub fn new(agreement: &Agreement, asking: Asking<'_>, leased_at: UnixMillis, until: UnixMillis) -> Self {
        Self {
            version: VERSION,
            kind: "key-lease".to_owned(),
            agreement: agreement.id().to_string(),
            agreement_hash: agreement.hash().to_string(),
            assigner: agreement.assigner().to_string(),
            assignee: agreement.assignee().to_string(),
            channel: URL_SAFE_NO_PAD.encode(asking.channel),
            nonce: URL_SAFE_NO_PAD.encode(asking.nonce),
            leased_at: leased_at.to_string(),
            valid_until: until.to_string(),
            objects: Vec::new(),
            sessions: Vec::new(),
            transfer: None,
            uses: "0".to_owned(),
        }
    }

    /// The RFC 8785 bytes that are signed.
    pub fn payload(&self) -> Result<Vec<u8>, Error> {
        serde_jcs::to_vec(self).map_err(Error::ours)
    }

    /// Reads a signed payload, and how long it grants use, in milliseconds; refused unless it answers `asking` under
    /// `agreement`.
    pub fn answering(
        payload: &[u8],
        agreement: &Agreement,
        asking: Asking<'_>,
    ) -> Result<(Self, i64), Refusal> {
        let refuse = |what: &str| Refusal::new(&OTHER_GRANT, what);
        let grant: Self = serde_json::from_slice(payload).map_err(|error| refuse(&error.to_string()))?;
        let instant = |text: &str| UnixMillis::parse_rfc3339(text).ok_or_else(|| refuse("instant"));
        let (leased_at, until) = (instant(&grant.leased_at)?, instant(&grant.valid_until)?);
        let due = Self::new(agreement, asking, leased_at, until);
        let told = Self {
            objects: Vec::new(),
            sessions: Vec::new(),
            transfer: None,
            uses: due.uses.clone(),
            ..grant.clone()
        };
        if told != due {
            return Err(refuse("agreement, parties, nonce or connection"));
        }
        Ok((grant, until.millis_since(leased_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_is_frozen_and_answers_one_question() {
        let text = r#"{"@context":"http://www.w3.org/ns/odrl.jsonld","@type":"Agreement","@id":"urn:a","assigner":"https://p.example/id","assignee":"https://c.example/id","target":"https://p.example/id/d","timestamp":"2026-11-25T08:00:00Z","permission":[{"action":"read"}]}"#;
        let policy = policy::Policy::from_json(text, &policy::Profiles::shipped()).unwrap();
        let agreement = Agreement::parse(policy.canonical_text()).unwrap();
        let (nonce, channel) = ([1; 32], [2; 32]);
        let asking = Asking { nonce: &nonce, channel: &channel };
        let mut grant = LeaseGrant::new(&agreement, asking, UnixMillis(0), UnixMillis(5000));
        grant.objects.push(GrantedObject { object: 0, epoch: "2".into() });
        grant.sessions.push("urn:s".into());
        let payload = grant.payload().unwrap();
        let hash = agreement.hash().to_string();
        assert_eq!(
            String::from_utf8(payload.clone()).unwrap(),
            format!(
                r#"{{"agreement":"urn:a","agreementHash":"{hash}","assignee":"https://c.example/id","assigner":"https://p.example/id","channel":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","kind":"key-lease","leasedAt":"1970-01-01T00:00:00.000Z","nonce":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE","objects":[{{"epoch":"2","object":0}}],"sessions":["urn:s"],"uses":"0","validUntil":"1970-01-01T00:00:05.000Z","version":1}}"#
            )
        );
        assert_eq!(LeaseGrant::answering(&payload, &agreement, asking).unwrap(), (grant, 5000));
        for other in [Asking { nonce: &channel, ..asking }, Asking { channel: &nonce, ..asking }] {
            let refused = LeaseGrant::answering(&payload, &agreement, other).unwrap_err();
            assert_eq!(refused.code, &OTHER_GRANT);
        }
        let late = String::from_utf8(payload).unwrap().replace("\"version\":1", "\"version\":2");
        assert!(LeaseGrant::answering(late.as_bytes(), &agreement, asking).is_err());
    }
}
