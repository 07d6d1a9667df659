//! What a connector keeps of its own identity between runs: one file, replaced whole, so that key, certificate,
//! statement and lists always belong together.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control_plane::UnixMillis;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::IdentityError;
use crate::keys::ConnectorKey;
use crate::participant::KnownSequences;
use crate::tls::{Clock, TlsIdentity};
use crate::trust::{TrustBundle, TrustState};
use crate::{files, pem};

/// The file's version.
const VERSION: u32 = 1;

/// A connector's identity as it lies on disk, mode 0600.
#[derive(Debug)]
pub struct StoredIdentity {
    /// The key in use.
    pub key: ConnectorKey,
    /// Its chain, leaf first, without root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The data space's roots.
    pub bundle: TrustBundle,
    /// Our current membership statement, compact JWS.
    pub statement: String,
    /// The newest revocation lists, DER.
    pub lists: Vec<Vec<u8>>,
    /// The newest minimum sequences, compact JWS.
    pub minimum_sequences: Option<String>,
}

impl StoredIdentity {
    /// Reads the file; `None` if there is none yet. Fails if others may read it.
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        if !path.try_exists().map_err(IdentityError::io("look for", path))? {
            return Ok(None);
        }
        files::refuse_exposed(path)?;
        let bytes = Zeroizing::new(files::read(path)?);
        let json: IdentityJson =
            serde_json::from_slice(&bytes).map_err(|error| IdentityError::format(path, error))?;
        if json.version != VERSION {
            return Err(IdentityError::format(path, format!("version {}, {VERSION} is known", json.version)));
        }
        let key_text = Zeroizing::new(json.key);
        let key = PrivatePkcs8KeyDer::from_pem_slice(key_text.as_bytes())
            .map_err(|error| IdentityError::format(path, error))?;
        let lists = json.lists.iter().map(|text| STANDARD.decode(text)).collect::<Result<_, _>>();
        Ok(Some(Self {
            key: ConnectorKey::from_pkcs8(key.secret_pkcs8_der().to_vec())?,
            chain: pem::certificates(&json.chain).map_err(|reason| IdentityError::format(path, reason))?,
            bundle: TrustBundle::from_pem(&json.roots)?,
            statement: json.statement,
            lists: lists.map_err(|error| IdentityError::format(path, error))?,
            minimum_sequences: json.minimum_sequences,
        }))
    }

    /// Replaces the file, durable when it returns.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let json = IdentityJson {
            version: VERSION,
            key: self.key.to_pem().expose().clone(),
            chain: self.chain.iter().map(|der| pem::encode("CERTIFICATE", der)).collect(),
            roots: self.bundle.to_pem(),
            statement: self.statement.clone(),
            lists: self.lists.iter().map(|der| STANDARD.encode(der)).collect(),
            minimum_sequences: self.minimum_sequences.clone(),
        };
        let bytes =
            Zeroizing::new(serde_jcs::to_vec(&json).map_err(IdentityError::crypto("writing the identity"))?);
        zeroize::Zeroize::zeroize(&mut { json.key });
        files::replace(path, &bytes)
    }

    /// The live identity. Lists that no longer verify fail; lists that are merely old are taken, and then refuse peers.
    pub fn open(
        self,
        known: Arc<KnownSequences>,
        clock: Clock,
        now: UnixMillis,
    ) -> Result<TlsIdentity, IdentityError> {
        let trust =
            TrustState::new(self.bundle, self.chain.get(1..).unwrap_or_default()).with_known_sequences(known);
        let trust = if self.lists.is_empty() {
            trust
        } else {
            let trust = trust.updated(&self.lists, None, now)?;
            match trust.updated(&[], self.minimum_sequences.as_deref(), now) {
                Ok(with_minimums) => with_minimums,
                // Their signer's certificate or list ran out while we were down: without fresh lists no peer is accepted
                // anyway, and fresh minimums arrive with them.
                Err(refusal) => {
                    tracing::warn!(code = refusal.code.code, "kept minimum sequences do not verify any more");
                    trust
                }
            }
        };
        TlsIdentity::new(self.key, self.chain, trust, clock)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IdentityJson {
    version: u32,
    key: String,
    chain: String,
    roots: String,
    statement: String,
    lists: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minimum_sequences: Option<String>,
}
