//! What we prove to a peer that we call over HTTP.

use std::sync::{Arc, OnceLock};

use control_plane::ids::ParticipantId;
use identity::{Digest, bearer};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};

use crate::config::Proof;
use crate::error::Error;
use crate::fresh;
use crate::node::Node;

/// The credential of one request to `peer` on a connection on which `certificate` was shown.
pub fn credential(node: &Node, peer: &ParticipantId, certificate: Option<Digest>) -> Result<String, Error> {
    let statement = node.statement.load();
    match node.config.load().http_proof(peer) {
        Some(Proof::Bearer) => {
            let id = fresh::urn();
            let claims =
                bearer::Claims { statement: &statement.jws, audience: peer, bound_to: certificate, id: &id };
            Ok(bearer::issue(&node.identity.signer(), claims, node.now())?)
        }
        Some(Proof::MutualTls) | None => Ok(statement.jws.clone()),
    }
}

/// Notes which certificate a handshake with `config` shows: whether the other end asks for one is only known then.
pub fn watch(config: &mut ClientConfig) -> Arc<Shown> {
    let shown = Arc::new(Shown { inner: config.client_auth_cert_resolver.clone(), leaf: OnceLock::new() });
    config.client_auth_cert_resolver = shown.clone();
    shown
}

/// The certificate that one handshake showed.
#[derive(Debug)]
pub struct Shown {
    inner: Arc<dyn ResolvesClientCert>,
    leaf: OnceLock<Digest>,
}

impl Shown {
    /// Its thumbprint, if the other end asked for it.
    pub fn certificate(&self) -> Option<Digest> {
        self.leaf.get().copied()
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.inner.resolve(hints, schemes)?;
        if let Some(leaf) = key.cert.first() {
            self.leaf.get_or_init(|| Digest::of(leaf));
        }
        Some(key)
    }

    fn has_certs(&self) -> bool {
        self.inner.has_certs()
    }
}
