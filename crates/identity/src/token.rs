//! The enrolment token: one text that lets one institution enrol once under one name.

use std::fmt;

use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, decode_base64url, encode_base64url};
use crate::error::IdentityError;
use crate::membership::PeerAddress;
use crate::secret::Secret;
use crate::trust::{OTHER_AUTHORITY, TrustBundle};

policy::refusal_codes! {
    MALFORMED_TOKEN = "identity/malformed-token", Input,
        "the enrolment token is incomplete or of another version", "註冊權杖不完整或屬於其他版本",
        "注册令牌不完整或属于其他版本",
        clause "operator's guide 1: the authority", next "paste the whole token, or ask the authority for a new one";
}

/// The version stands in front, so that a wrong text is recognised before it is decoded.
const PREFIX: &str = "fairlead-enrol-1.";
/// Room for names and addresses; a token is pasted by people.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What the authority hands to a newcomer over a channel of its choice. It holds a secret: no Debug of that part.
pub struct EnrolmentToken {
    address: PeerAddress,
    root: Digest,
    secret: Secret<String>,
    expires: UnixMillis,
    participant: ParticipantId,
    names: Vec<String>,
}

impl EnrolmentToken {
    pub(crate) fn new(
        address: PeerAddress,
        root: Digest,
        secret: Secret<String>,
        expires: UnixMillis,
        participant: ParticipantId,
        names: Vec<String>,
    ) -> Self {
        Self { address, root, secret, expires, participant, names }
    }

    /// Reads the text.
    pub fn decode(text: &str) -> Result<Self, Refusal> {
        let refuse = |reason: &str| Refusal::new(&MALFORMED_TOKEN, reason);
        if text.len() > MAX_TOKEN_BYTES {
            return Err(refuse("too long"));
        }
        let body =
            text.trim().strip_prefix(PREFIX).ok_or_else(|| refuse("does not begin with fairlead-enrol-1"))?;
        let bytes = Secret::new(decode_base64url(body).ok_or_else(|| refuse("not base64url"))?);
        // The parser's message could quote the secret.
        let json: TokenJson =
            serde_json::from_slice(bytes.expose()).map_err(|_| refuse("not a token inside"))?;
        Ok(Self {
            address: json.address,
            root: json.root,
            secret: Secret::new(json.secret),
            expires: UnixMillis::parse_rfc3339(&json.expires).ok_or_else(|| refuse("no expiry"))?,
            participant: ParticipantId::parse(&json.participant)?,
            names: json.names,
        })
    }

    /// The text to hand over; it contains the secret.
    pub fn encode(&self) -> Result<Secret<String>, IdentityError> {
        let json = TokenJson {
            address: self.address.clone(),
            root: self.root,
            secret: self.secret.expose().clone(),
            expires: self.expires.to_string(),
            participant: self.participant.as_str().to_owned(),
            names: self.names.clone(),
        };
        let bytes = Secret::new(serde_jcs::to_vec(&json).map_err(IdentityError::crypto("writing a token"))?);
        Ok(Secret::new(format!("{PREFIX}{}", encode_base64url(bytes.expose()))))
    }

    /// Where the authority listens for enrolments.
    pub fn address(&self) -> &PeerAddress {
        &self.address
    }

    /// SHA-256 of the root, DER: whom the newcomer trusts.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The one-time secret, for `EnrolRequest`.
    pub fn secret(&self) -> &Secret<String> {
        &self.secret
    }

    /// Until when it may be used.
    pub fn expires(&self) -> UnixMillis {
        self.expires
    }

    /// Under which name it enrols.
    pub fn participant(&self) -> &ParticipantId {
        &self.participant
    }

    /// The DNS names and addresses that the certificate will carry.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Takes the roots of an enrolment's answer if the token's root is among them.
    pub fn accept_roots(
        &self,
        roots: &[rustls::pki_types::CertificateDer<'_>],
    ) -> Result<TrustBundle, Refusal> {
        let bundle = TrustBundle::from_der(roots)?;
        if !bundle.has_root(self.root) {
            return Err(Refusal::new(&OTHER_AUTHORITY, format!("the token's root {} is missing", self.root)));
        }
        Ok(bundle)
    }
}

impl fmt::Debug for EnrolmentToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "EnrolmentToken({} at {}, expires {})", self.participant, self.address, self.expires)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenJson {
    address: PeerAddress,
    root: Digest,
    secret: String,
    expires: String,
    participant: String,
    names: Vec<String>,
}
