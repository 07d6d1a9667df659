//! Reads a participant's certificate: exactly one URI name says who it is.

use control_plane::ids::{ParticipantId, printable};
use control_plane::{Refusal, UnixMillis};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::digest::Digest;

policy::refusal_codes! {
    MALFORMED_CERTIFICATE = "identity/malformed-certificate", Identity,
        "the certificate cannot be read", "無法讀取證書", "无法读取证书",
        clause "RFC 5280, 4.1", next "send the chain that the authority issued, leaf first, in DER";
    NO_PARTICIPANT_URI = "identity/no-participant-uri", Identity,
        "the certificate names no participant: it has no URI among its subject alternative names",
        "證書未指明參與者：主體別名中沒有 URI", "证书未指明参与者：主体备用名称中没有 URI",
        clause "RFC 5280 section 4.2; security model: who is who", next "enrol with the data space's authority and use the certificate it issues";
    TWO_PARTICIPANT_URIS = "identity/two-participant-uris", Identity,
        "the certificate names more than one participant", "證書指明了多於一個參與者", "证书指明了多于一个参与者",
        clause "RFC 5280 section 4.2; security model: who is who", next "use one certificate for each participant";
    MALFORMED_PARTICIPANT_URI = "identity/malformed-participant-uri", Identity,
        "the certificate's URI is not a participant", "證書中的 URI 並非參與者", "证书中的 URI 并非参与者",
        clause "RFC 3986 section 4.3", next "enrol under an absolute https or did URI without fragment";
    WRONG_KEY_USAGE = "identity/wrong-key-usage", Identity,
        "the certificate is not issued for both server and client authentication",
        "證書並非同時用於伺服器及用戶端驗證", "证书并非同时用于服务器及客户端验证",
        clause "RFC 5280 section 4.2; security model: who is who", next "use the certificate that the authority issued for the connector";
    UNSUPPORTED_KEY = "identity/unsupported-key", Identity,
        "the certificate's key is not ECDSA P-256", "證書的密鑰並非 ECDSA P-256", "证书的密钥并非 ECDSA P-256",
        clause "RFC 5280 section 4.2; security model: who is who", next "enrol with an ECDSA P-256 key";
}

/// What a participant's certificate says. Reading it verifies nothing: that is `TrustState::verify_chain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantCertificate {
    der: CertificateDer<'static>,
    participant: ParticipantId,
    thumbprint: Digest,
    serial: String,
    issuer: Vec<u8>,
    not_before: UnixMillis,
    not_after: UnixMillis,
    public_key: Vec<u8>,
}

impl ParticipantCertificate {
    /// Reads a leaf: one participant URI, both key purposes, a P-256 key.
    pub fn read(der: &[u8]) -> Result<Self, Refusal> {
        let certificate = parse(der)?;
        let participant = participant_of(&certificate)?;
        let usage = certificate
            .extended_key_usage()
            .map_err(|error| Refusal::new(&MALFORMED_CERTIFICATE, error.to_string()))?;
        if !usage.is_some_and(|usage| usage.value.server_auth && usage.value.client_auth) {
            return Err(Refusal::new(&WRONG_KEY_USAGE, participant.to_string()));
        }
        Ok(Self {
            public_key: p256_point(&certificate)?,
            thumbprint: Digest::of(der),
            serial: hex(certificate.raw_serial()),
            issuer: certificate.issuer().as_raw().to_vec(),
            not_before: millis(certificate.validity().not_before.timestamp()),
            not_after: millis(certificate.validity().not_after.timestamp()),
            der: CertificateDer::from(der.to_vec()),
            participant,
        })
    }

    /// Who it names.
    pub fn participant(&self) -> &ParticipantId {
        &self.participant
    }

    /// SHA-256 of its DER bytes.
    pub fn thumbprint(&self) -> Digest {
        self.thumbprint
    }

    /// Its serial number, lower-case hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Its issuer's distinguished name, DER.
    pub fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// First instant of its validity.
    pub fn not_before(&self) -> UnixMillis {
        self.not_before
    }

    /// Last second of its validity.
    pub fn not_after(&self) -> UnixMillis {
        self.not_after
    }

    /// When it should be renewed: after two thirds of its life.
    pub fn renewal_due(&self) -> UnixMillis {
        self.not_before.plus_millis(self.not_after.millis_since(self.not_before) / 3 * 2)
    }

    /// Its key as an uncompressed P-256 point.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// Its DER bytes.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Refusal::new(&MALFORMED_CERTIFICATE, "bytes after the certificate")),
        Err(error) => Err(Refusal::new(&MALFORMED_CERTIFICATE, error.to_string())),
    }
}

/// The one URI among the subject alternative names.
pub(crate) fn participant_of(certificate: &X509Certificate<'_>) -> Result<ParticipantId, Refusal> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| Refusal::new(&MALFORMED_CERTIFICATE, error.to_string()))?;
    let mut uris = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::Invalid(..) => {
                return Err(Refusal::new(
                    &MALFORMED_PARTICIPANT_URI,
                    "a subject alternative name is not ASCII",
                ));
            }
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::DNSName(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    match uris.as_slice() {
        [] => Err(Refusal::new(&NO_PARTICIPANT_URI, certificate.subject().to_string())),
        [uri] => ParticipantId::parse(uri)
            .map_err(|_| Refusal::new(&MALFORMED_PARTICIPANT_URI, format!("`{}`", printable(uri)))),
        [first, second, ..] => Err(Refusal::new(
            &TWO_PARTICIPANT_URIS,
            format!("`{}` and `{}`", printable(first), printable(second)),
        )),
    }
}

/// The key as an uncompressed point of P-256.
pub(crate) fn p256_point(certificate: &X509Certificate<'_>) -> Result<Vec<u8>, Refusal> {
    /// `04 || x || y` (SEC 1, 2.3.3).
    const POINT_BYTES: usize = 65;
    let key = certificate.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let point: &[u8] = &key.subject_public_key.data;
    let is_p256 = key.algorithm.algorithm == x509_parser::oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve.is_some_and(|curve| curve == x509_parser::oid_registry::OID_EC_P256)
        && point.len() == POINT_BYTES
        && point.first() == Some(&4);
    if !is_p256 {
        return Err(Refusal::new(&UNSUPPORTED_KEY, key.algorithm.algorithm.to_string()));
    }
    Ok(point.to_vec())
}

pub(crate) fn millis(seconds: i64) -> UnixMillis {
    UnixMillis(seconds.saturating_mul(1000))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
