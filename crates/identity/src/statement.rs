//! The authority's signed words about members: the membership statement and the minimum sequences.

use std::collections::BTreeMap;

use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::IdentityError;
use crate::jws::{Signer, Typ, Verified};
use crate::membership::{
    AddressPrefix, Jurisdiction, LegalName, Membership, PeerAddress, Role, SecurityProfile, SubjectBase,
};

policy::refusal_codes! {
    STATEMENT_MALFORMED = "identity/statement-malformed", Identity,
        "the authority signed it, but it is not a statement of this version",
        "雖由管理機構簽署，但並非此版本的聲明", "虽由管理机构签署，但并非此版本的声明",
        clause "security model: who is who", next "update the connector, or ask the authority for a new statement";
}

/// The format's version, in every statement and list.
const VERSION: u32 = 1;
/// RFC 8785 carries integers exactly up to here (2^53 - 1); one statement a second would take ten million centuries.
pub const MAX_SEQUENCE: u64 = 9_007_199_254_740_991;
/// The certificate in use and, during rotation, its successor.
pub const MAX_CERTIFICATES: usize = 2;
/// A data space of tens of thousands of demoted members needs another mechanism.
pub const MAX_MINIMUMS: usize = 10_000;

/// What the authority attests about one member until an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// About whom.
    pub participant: ParticipantId,
    /// The facts.
    pub membership: Membership,
    /// Thumbprints of the certificates that may use it; two during rotation.
    pub certificates: Vec<Digest>,
    /// Grows with each statement about this participant; a lower one is superseded.
    pub sequence: u64,
    /// When it was made.
    pub issued: UnixMillis,
    /// When it ends.
    pub expires: UnixMillis,
}

impl Statement {
    /// Signs it; the signer must be the authority's.
    pub fn sign(&self, authority: &Signer) -> Result<String, IdentityError> {
        authority.sign(Typ::Statement, &self.to_payload()?, self.issued, None)
    }

    /// The RFC 8785 bytes.
    pub fn to_payload(&self) -> Result<Vec<u8>, IdentityError> {
        let membership = self.membership.clone();
        let json = StatementJson {
            version: VERSION,
            participant: self.participant.as_str().to_owned(),
            legal_name: membership.legal_name,
            jurisdiction: membership.jurisdiction,
            city: membership.city,
            prefixes: membership.prefixes,
            addresses: membership.addresses,
            roles: membership.roles,
            security_profile: membership.security_profile,
            subject_base: membership.subject_base,
            certificates: self.certificates.clone(),
            sequence: self.sequence,
            issued: self.issued.to_string(),
            expires: self.expires.to_string(),
        };
        serde_jcs::to_vec(&json).map_err(IdentityError::crypto("writing a statement"))
    }

    /// Reads the payload of a checked signature; unknown members refuse.
    pub fn read(payload: &[u8]) -> Result<Self, Refusal> {
        let json: StatementJson = serde_json::from_slice(payload).map_err(malformed)?;
        refuse_version(json.version)?;
        let statement = Self {
            participant: ParticipantId::parse(&json.participant)?,
            membership: Membership {
                legal_name: json.legal_name,
                jurisdiction: json.jurisdiction,
                city: json.city,
                prefixes: json.prefixes,
                addresses: json.addresses,
                roles: json.roles,
                security_profile: json.security_profile,
                subject_base: json.subject_base,
            },
            certificates: json.certificates,
            sequence: json.sequence,
            issued: instant(&json.issued)?,
            expires: instant(&json.expires)?,
        };
        statement.membership.check()?;
        if statement.sequence > MAX_SEQUENCE
            || !(1..=MAX_CERTIFICATES).contains(&statement.certificates.len())
        {
            return Err(malformed("sequence or number of certificates is out of range"));
        }
        Ok(statement)
    }
}

/// The lowest sequence at which each member's statement still counts, so that a demotion takes effect at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinimumSequences {
    /// Grows with each list; a lower one never replaces a higher one.
    pub number: u64,
    /// When it was made.
    pub issued: UnixMillis,
    /// Only members with a minimum above zero.
    pub minimums: BTreeMap<ParticipantId, u64>,
}

impl MinimumSequences {
    /// Signs it; the signer must be the authority's.
    pub fn sign(&self, authority: &Signer) -> Result<String, IdentityError> {
        let json = MinimumSequencesJson {
            version: VERSION,
            number: self.number,
            issued: self.issued.to_string(),
            minimums: self
                .minimums
                .iter()
                .map(|(id, sequence)| (id.as_str().to_owned(), *sequence))
                .collect(),
        };
        let payload =
            serde_jcs::to_vec(&json).map_err(IdentityError::crypto("writing the minimum sequences"))?;
        authority.sign(Typ::Sequences, &payload, self.issued, None)
    }

    pub(crate) fn read(verified: &Verified) -> Result<Self, Refusal> {
        let json: MinimumSequencesJson = serde_json::from_slice(verified.payload()).map_err(malformed)?;
        refuse_version(json.version)?;
        if json.number > MAX_SEQUENCE || json.minimums.len() > MAX_MINIMUMS {
            return Err(malformed("number or length of the minimum sequences is out of range"));
        }
        let minimums = json.minimums.iter().map(|(id, sequence)| Ok((ParticipantId::parse(id)?, *sequence)));
        Ok(Self {
            number: json.number,
            issued: instant(&json.issued)?,
            minimums: minimums.collect::<Result<_, Refusal>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StatementJson {
    version: u32,
    participant: String,
    legal_name: LegalName,
    jurisdiction: Jurisdiction,
    city: String,
    prefixes: Vec<AddressPrefix>,
    addresses: Vec<PeerAddress>,
    roles: Vec<Role>,
    security_profile: SecurityProfile,
    subject_base: SubjectBase,
    certificates: Vec<Digest>,
    sequence: u64,
    issued: String,
    expires: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MinimumSequencesJson {
    version: u32,
    number: u64,
    issued: String,
    minimums: BTreeMap<String, u64>,
}

fn refuse_version(version: u32) -> Result<(), Refusal> {
    if version != VERSION {
        return Err(malformed(format!("version {version}, {VERSION} is known")));
    }
    Ok(())
}

fn instant(text: &str) -> Result<UnixMillis, Refusal> {
    UnixMillis::parse_rfc3339(text).ok_or_else(|| malformed("an instant is not RFC 3339"))
}

fn malformed(reason: impl std::fmt::Display) -> Refusal {
    Refusal::new(&STATEMENT_MALFORMED, reason.to_string())
}
