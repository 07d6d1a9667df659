//! JSON Web Signatures (RFC 7515) over RFC 8785 JSON: one algorithm, a closed list of types, strict in every byte.
//!
//! ```text
//! protected header: { alg: "ES256", typ, kid: participant, x5t#S256: thumbprint, iat: seconds, annex?, x5c? }
//! ```
//! `x5c` is carried only by what must be checkable with the roots alone: what the authority signs, bearer tokens and
//! audit exports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control_plane::ids::{ParticipantId, printable};
use control_plane::{Refusal, UnixMillis};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::certificate::ParticipantCertificate;
use crate::digest::{Digest, decode_base64url, encode_base64url};
use crate::error::IdentityError;
use crate::keys::ConnectorKey;
use crate::participant::VerifiedParticipant;
use crate::trust::TrustState;

policy::refusal_codes! {
    MALFORMED_JWS = "identity/malformed-signature", Input,
        "the signed object is not a JWS of the form this data space uses",
        "已簽署的物件並非本資料空間所用的 JWS 格式", "已签署的对象并非本数据空间所用的 JWS 格式",
        clause "RFC 7515 section 7.1", next "sign again with a connector of this data space";
    WRONG_ALGORITHM = "identity/wrong-signature-algorithm", Input,
        "the signature's algorithm is not ES256", "簽署演算法並非 ES256", "签名算法并非 ES256",
        clause "RFC 7515", next "sign with the participant's ECDSA P-256 key";
    WRONG_TYP = "identity/wrong-signature-type", Input,
        "the signature was made for another kind of object", "該簽署是為另一類物件而作", "该签名是为另一类对象而作",
        clause "RFC 7515", next "send the object that belongs to this message";
    NOT_CANONICAL = "identity/payload-not-canonical", Input,
        "the signed JSON is not in its canonical form", "已簽署的 JSON 並非規範形式", "已签署的 JSON 并非规范形式",
        clause "RFC 8785", next "canonicalise the object before signing it";
    SIGNATURE_INVALID = "identity/signature-invalid", Identity,
        "the signature does not fit the object", "簽署與物件不符", "签名与对象不符",
        clause "RFC 7515, 5.2", next "treat the object as forged or damaged; ask its signer for it again";
    SIGNER_UNKNOWN = "identity/signer-unknown", Identity,
        "no certificate with that thumbprint was ever accepted from this signer",
        "從未接受過該簽署者具此指紋的證書", "从未接受过该签名者具此指纹的证书",
        clause "RFC 7515 section 4.1.8", next "connect to the signer once, so that its certificate becomes known";
    SIGNER_OTHER = "identity/signer-mismatch", Identity,
        "the signing certificate belongs to somebody else", "簽署所用證書屬於他人", "签名所用证书属于他人",
        clause "RFC 7515", next "treat the object as forged";
    SIGNER_NOT_VALID_THEN = "identity/signer-not-valid-then", Identity,
        "the signing certificate was not valid when the object was received",
        "收到物件時簽署證書並非有效", "收到对象时签名证书并非有效",
        clause "RFC 7515 section 4.1.8", next "ask the signer to sign again with its current certificate";
    SIGNER_REVOKED = "identity/signer-revoked", Identity,
        "the signing certificate had been revoked when the object was received",
        "收到物件時簽署證書已被撤銷", "收到对象时签名证书已被撤销",
        clause "operator's guide 1: the authority", next "ask the signer to sign again with its current certificate";
    SIGNED_IN_FUTURE = "identity/signed-in-future", Input,
        "the signature's time lies in the future", "簽署時間在未來", "签名时间在未来",
        clause "RFC 7515", next "compare the clocks of both connectors";
    TOO_MANY_SIGNATURES = "identity/too-many-signatures", Limit,
        "more signatures than parties", "簽署數目多於締約方", "签名数目多于缔约方",
        clause "RFC 7515", next "send one signature for each party";
    OBJECT_TOO_LARGE = "identity/signed-object-too-large", Limit,
        "the signed object is larger than anything this data space signs",
        "已簽署物件大於本資料空間所簽署的任何物件", "已签署对象大于本数据空间所签署的任何对象",
        clause "RFC 7515", next "send large content by its digest";
}

/// The largest JWS read: an agreement with its policy is some tens of KiB, content travels by digest.
pub const MAX_JWS_BYTES: usize = 512 * 1024;
/// Parties to one object; an agreement has two.
pub const MAX_SIGNATURES: usize = 8;
/// How far a signer's clock may run ahead of ours.
pub const MAX_CLOCK_AHEAD_MILLIS: i64 = 5 * 60 * 1000;

/// What a signature was made for; the list is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Typ {
    /// A membership statement, by the authority.
    Statement,
    /// The minimum statement sequences, by the authority.
    Sequences,
    /// An agreement.
    Agreement,
    /// A catalogue envelope's header.
    Envelope,
    /// A grant for one transfer or use.
    Grant,
    /// A receipt.
    Receipt,
    /// A notice about an agreement.
    Notice,
    /// The bearer token of one HTTP request.
    Bearer,
    /// What is exported of a ledger for an auditor.
    Audit,
}

impl Typ {
    /// Every type.
    pub const ALL: [Self; 9] = [
        Self::Statement,
        Self::Sequences,
        Self::Agreement,
        Self::Envelope,
        Self::Grant,
        Self::Receipt,
        Self::Notice,
        Self::Bearer,
        Self::Audit,
    ];

    /// The header's `typ`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "fairlead-statement+jws",
            Self::Sequences => "fairlead-sequences+jws",
            Self::Agreement => "fairlead-agreement+jws",
            Self::Envelope => "fairlead-envelope+jws",
            Self::Grant => "fairlead-grant+jws",
            Self::Receipt => "fairlead-receipt+jws",
            Self::Notice => "fairlead-notice+jws",
            Self::Bearer => "fairlead-bearer+jws",
            Self::Audit => "fairlead-audit+jws",
        }
    }

    const fn carries_chain(self) -> bool {
        matches!(self, Self::Statement | Self::Sequences | Self::Bearer | Self::Audit)
    }
}

/// Signs in the name of one certificate.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Arc<ConnectorKey>,
    participant: ParticipantId,
    thumbprint: Digest,
    chain: Vec<CertificateDer<'static>>,
}

impl Signer {
    /// Fails if the key is not the certificate's.
    pub fn new(key: Arc<ConnectorKey>, chain: Vec<CertificateDer<'static>>) -> Result<Self, IdentityError> {
        let leaf = chain.first().map(CertificateDer::as_ref).unwrap_or_default();
        let certificate = ParticipantCertificate::read(leaf)?;
        if certificate.public_key() != key.public_key() {
            return Err(IdentityError::crypto("pairing key and certificate")("the key is another one"));
        }
        Ok(Self {
            key,
            participant: certificate.participant().clone(),
            thumbprint: certificate.thumbprint(),
            chain,
        })
    }

    /// In whose name.
    pub fn participant(&self) -> &ParticipantId {
        &self.participant
    }

    /// With which certificate.
    pub fn thumbprint(&self) -> Digest {
        self.thumbprint
    }

    /// Signs `payload`, which must be RFC 8785 JSON, at `iat`; `annex` is the digest of what accompanies the object.
    /// Gives a compact JWS.
    pub fn sign(
        &self,
        typ: Typ,
        payload: &[u8],
        iat: UnixMillis,
        annex: Option<Digest>,
    ) -> Result<String, IdentityError> {
        refuse_uncanonical(payload)?;
        let header = Header {
            alg: ES256.to_owned(),
            typ: typ.as_str().to_owned(),
            kid: self.participant.as_str().to_owned(),
            x5t: self.thumbprint.to_base64url(),
            iat: iat.0.div_euclid(1000),
            annex,
            x5c: typ.carries_chain().then(|| self.chain.iter().map(|der| STANDARD.encode(der)).collect()),
        };
        let header =
            serde_jcs::to_vec(&header).map_err(IdentityError::crypto("writing a signature header"))?;
        let signed = format!("{}.{}", encode_base64url(&header), encode_base64url(payload));
        let signature = self.key.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", encode_base64url(&signature)))
    }
}

/// Where the certificates of signers come from.
pub trait CertificateResolver {
    /// The certificate of `participant` with that thumbprint, if it was ever accepted from that participant by
    /// `verify_participant` (or is our own).
    fn certificate(
        &self,
        participant: &ParticipantId,
        thumbprint: Digest,
    ) -> Result<Option<KnownCertificate>, Refusal>;
}

/// A certificate that was accepted once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCertificate {
    /// What it says.
    pub certificate: ParticipantCertificate,
    /// When we learnt that it was revoked.
    pub revoked_at: Option<UnixMillis>,
}

/// Certificates remembered in memory, filled from accepted participants.
#[derive(Debug, Default)]
pub struct RememberedCertificates(RwLock<BTreeMap<(ParticipantId, Digest), KnownCertificate>>);

impl RememberedCertificates {
    /// Remembers the certificate of a peer.
    pub fn remember(&self, peer: &VerifiedParticipant) {
        self.remember_own(peer.certificate());
    }

    /// Remembers a certificate of our own.
    pub fn remember_own(&self, certificate: &ParticipantCertificate) {
        let name = (certificate.participant().clone(), certificate.thumbprint());
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known
            .entry(name)
            .or_insert_with(|| KnownCertificate { certificate: certificate.clone(), revoked_at: None });
    }

    /// Marks every remembered certificate that the lists revoke.
    pub fn apply(&self, trust: &TrustState) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for entry in known.values_mut() {
            let listed = trust.revoked_at(&entry.certificate);
            entry.revoked_at = [entry.revoked_at, listed].into_iter().flatten().min();
        }
    }

    /// Marks a certificate as revoked from `at` on; the earliest instant stays.
    pub fn revoke(&self, participant: &ParticipantId, thumbprint: Digest, at: UnixMillis) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get_mut(&(participant.clone(), thumbprint)) {
            entry.revoked_at = Some(entry.revoked_at.map_or(at, |earlier| earlier.min(at)));
        }
    }
}

impl CertificateResolver for RememberedCertificates {
    fn certificate(
        &self,
        participant: &ParticipantId,
        thumbprint: Digest,
    ) -> Result<Option<KnownCertificate>, Refusal> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(known.get(&(participant.clone(), thumbprint)).cloned())
    }
}

/// A signature that was checked. There is no other way to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    signer: ParticipantId,
    thumbprint: Digest,
    payload: Vec<u8>,
    iat: UnixMillis,
    annex: Option<Digest>,
}

impl Verified {
    /// Who signed (`kid`).
    pub fn signer(&self) -> &ParticipantId {
        &self.signer
    }

    /// With which certificate (`x5t#S256`).
    pub fn thumbprint(&self) -> Digest {
        self.thumbprint
    }

    /// The signed RFC 8785 JSON.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// When, as the signer says.
    pub fn iat(&self) -> UnixMillis {
        self.iat
    }

    /// The digest of what accompanies the object.
    pub fn annex(&self) -> Option<Digest> {
        self.annex
    }
}

/// Checks a compact JWS: form, type, certificate, signature. `at` is when the object was recorded by us, for a fresh
/// one the current time: the certificate must have been valid and unrevoked then.
pub fn verify(
    compact: &str,
    expected: Typ,
    certificates: &dyn CertificateResolver,
    at: UnixMillis,
) -> Result<Verified, Refusal> {
    let parsed = Parsed::read(compact, expected)?;
    let known = certificates.certificate(&parsed.signer, parsed.thumbprint)?.ok_or_else(|| {
        Refusal::new(&SIGNER_UNKNOWN, format!("`{}` with {}", parsed.signer, parsed.thumbprint))
    })?;
    if known.revoked_at.is_some_and(|revoked_at| revoked_at <= at) {
        return Err(Refusal::new(&SIGNER_REVOKED, format!("`{}`, received {at}", parsed.signer)));
    }
    parsed.check(&known.certificate, at)
}

/// Joins compact JWSs over one payload into one general JSON document (RFC 7515, 7.2.1), in RFC 8785 form.
pub fn join(compacts: &[String]) -> Result<String, Refusal> {
    let mut payload = None;
    let mut signatures = Vec::new();
    for compact in compacts {
        let [protected, this_payload, signature] = parts(compact)?;
        if *payload.get_or_insert(this_payload) != this_payload {
            return Err(Refusal::new(&SIGNATURE_INVALID, "the parties signed different objects"));
        }
        signatures.push(SignatureJson { protected: protected.to_owned(), signature: signature.to_owned() });
    }
    let document = GeneralJson { payload: payload.unwrap_or_default().to_owned(), signatures };
    refuse_many(document.signatures.len())?;
    serde_jcs::to_string(&document).map_err(|error| malformed(error.to_string()))
}

/// Splits a general JSON document into the compact JWS of each party; verifies nothing.
pub fn split(document: &str) -> Result<Vec<String>, Refusal> {
    refuse_large(document.len())?;
    let read: GeneralJson = serde_json::from_str(document).map_err(|error| malformed(error.to_string()))?;
    refuse_many(read.signatures.len())?;
    let compacts = read
        .signatures
        .iter()
        .map(|one| format!("{}.{}.{}", one.protected, read.payload, one.signature))
        .collect();
    Ok(compacts)
}

/// Checks every signature of a general JSON document; each must hold, and no party may sign twice.
pub fn verify_all(
    document: &str,
    expected: Typ,
    certificates: &dyn CertificateResolver,
    at: UnixMillis,
) -> Result<Vec<Verified>, Refusal> {
    let mut signers = BTreeSet::new();
    let mut all = Vec::new();
    for compact in split(document)? {
        let verified = verify(&compact, expected, certificates, at)?;
        if !signers.insert(verified.signer.clone()) {
            return Err(Refusal::new(&TOO_MANY_SIGNATURES, format!("`{}` signed twice", verified.signer)));
        }
        all.push(verified);
    }
    Ok(all)
}

const ES256: &str = "ES256";
/// 9999-12-31T23:59:59Z: the last second that has an RFC 3339 text.
const MAX_IAT_SECONDS: i64 = 253_402_300_799;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
    #[serde(rename = "x5t#S256")]
    x5t: String,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annex: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x5c: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GeneralJson {
    payload: String,
    signatures: Vec<SignatureJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureJson {
    protected: String,
    signature: String,
}

/// A JWS whose form is right and whose signature was not yet checked.
pub(crate) struct Parsed<'a> {
    signer: ParticipantId,
    thumbprint: Digest,
    pub(crate) iat: UnixMillis,
    annex: Option<Digest>,
    /// The signer's chain, leaf first; only where the type carries it.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    payload: Vec<u8>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parsed<'a> {
    pub(crate) fn read(compact: &'a str, expected: Typ) -> Result<Self, Refusal> {
        let [protected, payload, signature] = parts(compact)?;
        let header_bytes = decode_base64url(protected).ok_or_else(|| malformed("header is not base64url"))?;
        let header: Header =
            serde_json::from_slice(&header_bytes).map_err(|error| malformed(format!("header: {error}")))?;
        if header.alg != ES256 {
            return Err(Refusal::new(&WRONG_ALGORITHM, format!("`{}`", printable(&header.alg))));
        }
        if header.typ != expected.as_str() {
            let detail = format!("`{}` where `{}` belongs", printable(&header.typ), expected.as_str());
            return Err(Refusal::new(&WRONG_TYP, detail));
        }
        if serde_jcs::to_vec(&header).ok().as_ref() != Some(&header_bytes) {
            return Err(Refusal::new(&NOT_CANONICAL, "header"));
        }
        if header.x5c.is_some() != expected.carries_chain() {
            return Err(malformed(
                "`x5c` belongs to what the authority signs, to bearer tokens and to audit exports, and only there",
            ));
        }
        if !(0..=MAX_IAT_SECONDS).contains(&header.iat) {
            return Err(malformed("`iat` is out of range"));
        }
        let chain = header
            .x5c
            .unwrap_or_default()
            .into_iter()
            .map(|text| STANDARD.decode(text).map(CertificateDer::from));
        let payload = decode_base64url(payload).ok_or_else(|| malformed("payload is not base64url"))?;
        refuse_uncanonical(&payload)?;
        Ok(Self {
            signer: ParticipantId::parse(&header.kid)?,
            thumbprint: Digest::from_base64url(&header.x5t)
                .ok_or_else(|| malformed("`x5t#S256` is not a digest"))?,
            iat: UnixMillis(header.iat * 1000),
            annex: header.annex,
            chain: chain.collect::<Result<_, _>>().map_err(|_| malformed("`x5c` is not base64"))?,
            payload,
            signed: compact.rsplit_once('.').map_or(compact, |(signed, _)| signed),
            signature: decode_base64url(signature).ok_or_else(|| malformed("signature is not base64url"))?,
        })
    }

    /// Checks against a certificate that the caller vouches for.
    pub(crate) fn check(
        self,
        certificate: &ParticipantCertificate,
        at: UnixMillis,
    ) -> Result<Verified, Refusal> {
        if certificate.participant() != &self.signer || certificate.thumbprint() != self.thumbprint {
            let detail = format!("`{}` signs as `{}`", certificate.participant(), self.signer);
            return Err(Refusal::new(&SIGNER_OTHER, detail));
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, certificate.public_key())
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| Refusal::new(&SIGNATURE_INVALID, format!("`{}`", self.signer)))?;
        if at < certificate.not_before() || at > certificate.not_after() {
            let detail = format!(
                "`{}` is valid from {} to {}, received {at}",
                self.signer,
                certificate.not_before(),
                certificate.not_after()
            );
            return Err(Refusal::new(&SIGNER_NOT_VALID_THEN, detail));
        }
        if self.iat.millis_since(at) > MAX_CLOCK_AHEAD_MILLIS {
            return Err(Refusal::new(&SIGNED_IN_FUTURE, format!("signed {}, received {at}", self.iat)));
        }
        Ok(Verified {
            signer: self.signer,
            thumbprint: self.thumbprint,
            payload: self.payload,
            iat: self.iat,
            annex: self.annex,
        })
    }
}

fn parts(compact: &str) -> Result<[&str; 3], Refusal> {
    refuse_large(compact.len())?;
    let mut split = compact.split('.');
    match (split.next(), split.next(), split.next(), split.next()) {
        (Some(header), Some(payload), Some(signature), None) => Ok([header, payload, signature]),
        _ => Err(malformed("not three parts separated by dots")),
    }
}

fn refuse_large(bytes: usize) -> Result<(), Refusal> {
    if bytes > MAX_JWS_BYTES {
        return Err(Refusal::new(&OBJECT_TOO_LARGE, format!("{bytes} bytes, at most {MAX_JWS_BYTES}")));
    }
    Ok(())
}

fn refuse_many(signatures: usize) -> Result<(), Refusal> {
    if !(1..=MAX_SIGNATURES).contains(&signatures) {
        return Err(Refusal::new(&TOO_MANY_SIGNATURES, format!("{signatures}, 1 to {MAX_SIGNATURES}")));
    }
    Ok(())
}

fn refuse_uncanonical(payload: &[u8]) -> Result<(), Refusal> {
    refuse_large(payload.len())?;
    let value: serde_json::Value = serde_json::from_slice(payload)
        .map_err(|error| Refusal::new(&NOT_CANONICAL, format!("payload is not JSON: {error}")))?;
    if serde_jcs::to_vec(&value).ok().as_deref() != Some(payload) {
        return Err(Refusal::new(&NOT_CANONICAL, "payload"));
    }
    Ok(())
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(&MALFORMED_JWS, detail)
}
