//! The participant's key: ECDSA P-256, for TLS handshakes and for every signed object.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::error::IdentityError;
use crate::secret::Secret;
use crate::{files, pem};

/// An ECDSA P-256 key pair. Its private half leaves only into a file of mode 0600.
pub struct ConnectorKey {
    pkcs8: Secret<Vec<u8>>,
    pair: EcdsaKeyPair,
}

impl ConnectorKey {
    /// A fresh key.
    pub fn generate() -> Result<Self, IdentityError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(IdentityError::crypto("key generation"))?;
        Self::from_pkcs8(pkcs8.as_ref().to_vec())
    }

    /// Reads a PKCS #8 key in DER; another algorithm or curve fails.
    pub fn from_pkcs8(der: Vec<u8>) -> Result<Self, IdentityError> {
        let pkcs8 = Secret::new(der);
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose())
            .map_err(IdentityError::crypto("reading an ECDSA P-256 key"))?;
        Ok(Self { pkcs8, pair })
    }

    /// Reads a PEM file; fails if group or others may read it.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        files::refuse_exposed(path)?;
        let text = Zeroizing::new(files::read(path)?);
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|error| IdentityError::format(path, error))?;
        Self::from_pkcs8(der.secret_pkcs8_der().to_vec())
    }

    /// Writes a PEM file of mode 0600, durable when it returns.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        files::replace(path, self.to_pem().expose().as_bytes())
    }

    /// PKCS #8 as PEM.
    pub fn to_pem(&self) -> Secret<String> {
        Secret::new(pem::encode("PRIVATE KEY", self.pkcs8.expose()))
    }

    /// The public key as an uncompressed point (SEC 1, 2.3.3).
    pub fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// A PKCS #10 request: only the key and the proof that we hold it; the authority knows the names.
    pub fn csr(&self) -> Result<Vec<u8>, IdentityError> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params
            .serialize_request(&self.issuing_pair()?)
            .map_err(IdentityError::crypto("writing a request"))?;
        Ok(request.der().to_vec())
    }

    /// ECDSA over SHA-256 as `r || s`, 64 bytes (RFC 7518, 3.4).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IdentityError> {
        let signature =
            self.pair.sign(&SystemRandom::new(), message).map_err(IdentityError::crypto("signing"))?;
        Ok(signature.as_ref().to_vec())
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        self.pkcs8.expose()
    }

    pub(crate) fn issuing_pair(&self) -> Result<rcgen::KeyPair, IdentityError> {
        let der = PrivatePkcs8KeyDer::from(self.pkcs8.expose().as_slice());
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(IdentityError::crypto("reading an ECDSA P-256 key"))
    }

    pub(crate) fn tls_key(&self) -> Result<Arc<dyn rustls::sign::SigningKey>, IdentityError> {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.pkcs8.expose().as_slice()));
        rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der)
            .map_err(IdentityError::crypto("loading the TLS key"))
    }
}

impl fmt::Debug for ConnectorKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ConnectorKey(private)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn saved_protected_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let key = ConnectorKey::generate().unwrap();
        key.save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ConnectorKey::load(&path).unwrap().public_key(), key.public_key());
        assert!(!format!("{key:?}").contains("BEGIN"));

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(ConnectorKey::load(&path), Err(IdentityError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn another_curve_is_not_a_connector_key() {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(ConnectorKey::from_pkcs8(other.serialize_der()).is_err());
    }
}
