//! One certificate authority: issues certificates and revocation lists from values.

use std::time::Duration;

use control_plane::UnixMillis;
use control_plane::ids::ParticipantId;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, RevokedCertParams,
    SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;

use crate::certificate::hex;
use crate::error::IdentityError;
use crate::keys::ConnectorKey;

/// What a leaf says; the tests of the federation also make leaves that must be refused.
pub(crate) struct Leaf {
    pub(crate) uris: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) not_before: UnixMillis,
    pub(crate) not_after: UnixMillis,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
}

/// An authority's certificate and key.
pub(crate) struct Ca {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: ConnectorKey,
}

impl Ca {
    /// A self-signed root that names the authority.
    pub(crate) fn root(
        authority: &ParticipantId,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Self, IdentityError> {
        let key = ConnectorKey::generate()?;
        let mut params = ca_params("root", from, until, BasicConstraints::Constrained(1))?;
        params.subject_alt_names = vec![SanType::URI(ia5(authority.as_str())?)];
        let certificate =
            params.self_signed(&key.issuing_pair()?).map_err(IdentityError::crypto("issuing a root"))?;
        Ok(Self { der: certificate.der().clone(), key })
    }

    /// An intermediate that may issue leaves only.
    pub(crate) fn intermediate(&self, from: UnixMillis, until: UnixMillis) -> Result<Self, IdentityError> {
        let key = ConnectorKey::generate()?;
        let params = ca_params("issuing authority", from, until, BasicConstraints::Constrained(0))?;
        let certificate = params
            .signed_by(&key.issuing_pair()?, &self.issuer()?)
            .map_err(IdentityError::crypto("issuing an intermediate"))?;
        Ok(Self { der: certificate.der().clone(), key })
    }

    /// A leaf for a public key.
    pub(crate) fn leaf(
        &self,
        leaf: &Leaf,
        public_key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        let serial = serial()?;
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(leaf.not_before);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(leaf.not_after);
        params.distinguished_name = name(&hex(&serial));
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&leaf.usages);
        for uri in &leaf.uris {
            params.subject_alt_names.push(SanType::URI(ia5(uri)?));
        }
        for name in &leaf.names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(ia5(name)?),
            });
        }
        let certificate = params
            .signed_by(public_key, &self.issuer()?)
            .map_err(IdentityError::crypto("issuing a certificate"))?;
        Ok(certificate.der().clone())
    }

    /// A revocation list of this authority's certificates, DER.
    pub(crate) fn list(
        &self,
        number: u64,
        from: UnixMillis,
        next_update: UnixMillis,
        revoked: impl IntoIterator<Item = (Vec<u8>, UnixMillis)>,
    ) -> Result<Vec<u8>, IdentityError> {
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(1970, 1, 1) + since_epoch(from),
            next_update: rcgen::date_time_ymd(1970, 1, 1) + since_epoch(next_update),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .into_iter()
                .map(|(serial, at)| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&serial),
                    revocation_time: rcgen::date_time_ymd(1970, 1, 1) + since_epoch(at),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list =
            params.signed_by(&self.issuer()?).map_err(IdentityError::crypto("issuing a revocation list"))?;
        Ok(list.der().to_vec())
    }

    fn issuer(&self) -> Result<Issuer<'static, rcgen::KeyPair>, IdentityError> {
        Issuer::from_ca_cert_der(&self.der, self.key.issuing_pair()?)
            .map_err(IdentityError::crypto("reading the authority's certificate"))
    }
}

/// 122 random bits; positive and of constant length in DER, so that lists and certificates spell it alike.
fn serial() -> Result<[u8; 16], IdentityError> {
    let mut serial = random::<16>()?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    Ok(serial)
}

pub(crate) fn random<const BYTES: usize>() -> Result<[u8; BYTES], IdentityError> {
    let mut bytes = [0; BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(IdentityError::crypto("taking random bytes"))?;
    Ok(bytes)
}

fn ca_params(
    role: &str,
    from: UnixMillis,
    until: UnixMillis,
    constraint: BasicConstraints,
) -> Result<CertificateParams, IdentityError> {
    let serial = serial()?;
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(from);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(until);
    // Random part: two authorities must never share a name, chains and lists are matched by it.
    params.distinguished_name = name(&format!("{role} {}", hex(&serial)));
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::Ca(constraint);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Fairlead data space");
    name.push(DnType::CommonName, common_name);
    name
}

fn ia5(text: &str) -> Result<Ia5String, IdentityError> {
    Ia5String::try_from(text).map_err(IdentityError::crypto("writing a name"))
}

/// X.509 counts whole seconds, from 1970 to 9999.
fn since_epoch(at: UnixMillis) -> Duration {
    const MAX_SECONDS: u64 = 253_402_300_799;
    Duration::from_secs(u64::try_from(at.0.div_euclid(1000)).unwrap_or(0).min(MAX_SECONDS))
}
