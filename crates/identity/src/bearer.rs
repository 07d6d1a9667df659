//! The bearer token of one HTTP request: a member tells one receiver, for a few minutes, who it is.
//!
//! ```text
//! payload: { iss, aud, iat, exp, jti, statement, cnf?: { x5t#S256 } }   (RFC 7519, RFC 8705)
//! ```
//! The header carries the signer's chain and the payload its membership statement, so that a member is known from its
//! first request on. `cnf` binds the token to the client certificate of the TLS connection that it is sent on; a token
//! without one belongs to a connection without a client certificate and is taken once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use control_plane::ids::{ParticipantId, printable};
use control_plane::{Refusal, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::IdentityError;
use crate::jws::{Parsed, Signer, Typ};
use crate::participant::{VerifiedParticipant, verify_participant};
use crate::trust::TrustState;

policy::refusal_codes! {
    BEARER_MALFORMED = "identity/bearer-malformed", Identity,
        "the bearer token is not one of this data space", "持有者權杖並非本資料空間所用的格式",
        "持有者令牌并非本数据空间所用的格式",
        clause "RFC 7519; RFC 8705", next "send a fresh token, made by a connector of this data space";
    BEARER_FOR_ANOTHER = "identity/bearer-for-another", Identity,
        "the bearer token was made for another receiver", "持有者權杖是為另一接收者而作", "持有者令牌是为另一接收者而作",
        clause "RFC 7519, 4.1.3", next "make a token whose audience is the receiver's participant";
    BEARER_EXPIRED = "identity/bearer-expired", Identity,
        "the bearer token has expired", "持有者權杖已過期", "持有者令牌已过期",
        clause "RFC 7519, 4.1.4", next "send a fresh token; compare the clocks of both connectors if this recurs";
    BEARER_TOO_LONG = "identity/bearer-too-long-lived", Identity,
        "the bearer token is meant to live longer than five minutes, or not at all",
        "持有者權杖的有效期超過五分鐘或為零", "持有者令牌的有效期超过五分钟或为零",
        clause "RFC 7519, 4.1.4", next "make a token of at most five minutes for each request";
    BEARER_OF_ANOTHER_CONNECTION = "identity/bearer-of-another-connection", Identity,
        "the bearer token does not belong to the client certificate of this connection",
        "持有者權杖與此連線的用戶端證書不符", "持有者令牌与此连接的客户端证书不符",
        clause "RFC 8705, 3", next "treat the token as stolen, unless something in between ends TLS";
    BEARER_SPENT = "identity/bearer-spent", Identity,
        "the bearer token, which is bound to no certificate, was shown before",
        "未綁定證書的持有者權杖已被出示過", "未绑定证书的持有者令牌已被出示过",
        clause "RFC 7519, 4.1.7", next "make a fresh token for each request, or show a client certificate";
    TOO_MANY_BEARERS = "identity/too-many-bearer-tokens", Limit,
        "a member showed too many bearer tokens without a client certificate within their lifetime",
        "某成員在有效期內出示過多未附用戶端證書的持有者權杖", "某成员在有效期内出示过多未附客户端证书的持有者令牌",
        clause "RFC 7519, 4.1.7", next "wait some minutes, or show a client certificate";
}

/// A token is made for the request that carries it; this covers a slow line and clocks that differ.
pub const MAX_LIFETIME_MILLIS: i64 = 5 * 60 * 1000;
/// Several times what a chain and a statement take; it travels in one HTTP header.
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// A fresh id is a UUID; others' may be longer.
const MAX_ID_BYTES: usize = 128;
/// Fifty requests a second over a token's lifetime and the clock's advance, some 2 MiB of each member.
pub const MAX_SPENT_PER_MEMBER: usize = 16 * 1024;

/// What a token is made of, apart from its signer.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// Our current membership statement.
    pub statement: &'a str,
    /// For whom.
    pub audience: &'a ParticipantId,
    /// Thumbprint of the certificate that we showed on the connection, if one was asked for.
    pub bound_to: Option<Digest>,
    /// Fresh.
    pub id: &'a str,
}

/// Signs a token that lives [`MAX_LIFETIME_MILLIS`] from `now` on.
pub fn issue(signer: &Signer, claims: Claims<'_>, now: UnixMillis) -> Result<String, IdentityError> {
    let iat = now.0.div_euclid(1000);
    let json = ClaimsJson {
        iss: signer.participant().as_str().to_owned(),
        aud: claims.audience.as_str().to_owned(),
        iat,
        exp: iat.saturating_add(MAX_LIFETIME_MILLIS / 1000),
        jti: claims.id.to_owned(),
        statement: claims.statement.to_owned(),
        cnf: claims.bound_to.map(|thumbprint| Confirmation { x5t: thumbprint.to_base64url() }),
    };
    let payload = serde_jcs::to_vec(&json).map_err(IdentityError::crypto("writing a bearer token"))?;
    signer.sign(Typ::Bearer, &payload, now, None)
}

/// Where a token was shown.
#[derive(Clone, Copy, Debug)]
pub struct Receiver<'a> {
    /// Who we are.
    pub us: &'a ParticipantId,
    /// Thumbprint of the client certificate of the connection, if it has one.
    pub certificate: Option<Digest>,
}

/// Who showed a token that was checked. There is no other way to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    participant: VerifiedParticipant,
    id: String,
    expires: UnixMillis,
    bound: bool,
}

impl Bearer {
    /// The member.
    pub fn participant(&self) -> &VerifiedParticipant {
        &self.participant
    }

    /// The token's end.
    pub fn expires(&self) -> UnixMillis {
        self.expires
    }

    #[cfg(test)]
    pub(crate) fn renamed(&self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self.clone() }
    }
}

/// Checks a token: signature, signer's chain and statement, receiver, time and connection. What is bound to no
/// certificate must also be spent ([`SpentTokens::spend`]).
pub fn verify(
    token: &str,
    receiver: Receiver<'_>,
    trust: &TrustState,
    now: UnixMillis,
) -> Result<Bearer, Refusal> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(malformed(format!("{} bytes, at most {MAX_TOKEN_BYTES}", token.len())));
    }
    let parsed = Parsed::read(token, Typ::Bearer)?;
    let chain = parsed.chain.clone();
    let verified = parsed.check(&trust.verify_chain(&chain, now)?, now)?;
    let claims: ClaimsJson = serde_json::from_slice(verified.payload()).map_err(malformed)?;
    if claims.iss != verified.signer().as_str() || claims.iat.saturating_mul(1000) != verified.iat().0 {
        return Err(malformed("`iss` and `iat` are not those of the signature"));
    }
    if claims.jti.is_empty() || claims.jti.len() > MAX_ID_BYTES {
        return Err(malformed("`jti` is empty or too long"));
    }
    if claims.aud != receiver.us.as_str() {
        return Err(Refusal::new(&BEARER_FOR_ANOTHER, format!("for `{}`", printable(&claims.aud))));
    }
    let expires = UnixMillis(claims.exp.saturating_mul(1000));
    if !(1..=MAX_LIFETIME_MILLIS).contains(&expires.millis_since(verified.iat())) {
        return Err(Refusal::new(&BEARER_TOO_LONG, format!("from {} to {}", claims.iat, claims.exp)));
    }
    if now >= expires {
        return Err(Refusal::new(&BEARER_EXPIRED, format!("at {expires}, here it is {now}")));
    }
    let bound_to = match &claims.cnf {
        Some(bound) => {
            Some(Digest::from_base64url(&bound.x5t).ok_or_else(|| malformed("`cnf` holds no thumbprint"))?)
        }
        None => None,
    };
    if bound_to != receiver.certificate {
        let shown = |thumbprint: Option<Digest>| thumbprint.map_or("none".to_owned(), |it| it.to_string());
        let detail = format!("bound to {}, shown with {}", shown(bound_to), shown(receiver.certificate));
        return Err(Refusal::new(&BEARER_OF_ANOTHER_CONNECTION, detail));
    }
    let participant = verify_participant(&chain, &claims.statement, trust, now)?;
    Ok(Bearer { participant, id: claims.jti, expires, bound: bound_to.is_some() })
}

/// The ids of the unbound tokens that were shown and have not expired.
#[derive(Debug, Default)]
pub struct SpentTokens(Mutex<BTreeMap<ParticipantId, BTreeMap<String, UnixMillis>>>);

impl SpentTokens {
    /// Takes a token; one that is bound to no certificate is taken once.
    pub fn spend(&self, token: &Bearer, now: UnixMillis) -> Result<(), Refusal> {
        if token.bound {
            return Ok(());
        }
        let of = token.participant.id();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = all.entry(of.clone()).or_default();
        if spent.contains_key(&token.id) {
            return Err(Refusal::new(&BEARER_SPENT, format!("`{}` of `{of}`", printable(&token.id))));
        }
        if spent.len() >= MAX_SPENT_PER_MEMBER {
            spent.retain(|_, expires| *expires > now);
        }
        if spent.len() >= MAX_SPENT_PER_MEMBER {
            return Err(Refusal::new(&TOO_MANY_BEARERS, format!("`{of}`, {MAX_SPENT_PER_MEMBER}")));
        }
        spent.insert(token.id.clone(), token.expires);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimsJson {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    jti: String,
    statement: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    x5t: String,
}

fn malformed(cause: impl std::fmt::Display) -> Refusal {
    Refusal::new(&BEARER_MALFORMED, cause.to_string())
}
