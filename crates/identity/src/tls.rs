//! Our side of every connection: certificate, key and trust as one value that is swapped whole.
//!
//! TLS 1.3 only, X25519MLKEM768 preferred, client certificate mandatory, no resumption at all: a resumed session would
//! skip the check of certificates and lists, and a full handshake costs less than a millisecond.
//! A swap changes the next handshake; open connections are to be judged anew with `VerifiedParticipant::recheck`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ProtocolVersion, ServerConfig,
    SignatureScheme,
};

use crate::certificate::ParticipantCertificate;
use crate::digest::Digest;
use crate::error::IdentityError;
use crate::jws::Signer;
use crate::keys::ConnectorKey;
use crate::participant::{VerifiedParticipant, verify_participant};
use crate::tls_error::OTHER_PARTICIPANT;
use crate::token::EnrolmentToken;
use crate::trust::{OTHER_AUTHORITY, TrustBundle, TrustState, ours, unix_millis, unix_time};

/// Where handshakes take the time from.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// The protocol inside: HTTP/2, for gRPC (RFC 7301).
const ALPN_HTTP2: &[u8] = b"h2";

/// Live certificate, key and trust of one participant. Shared by everything that connects, accepts or signs.
pub struct TlsIdentity {
    live: ArcSwap<Live>,
    /// One change at a time; readers never wait.
    changing: Mutex<()>,
    clock: Clock,
}

impl TlsIdentity {
    /// Takes a key, its chain (leaf first, without root) and whom to trust.
    pub fn new(
        key: ConnectorKey,
        chain: Vec<CertificateDer<'static>>,
        trust: TrustState,
        clock: Clock,
    ) -> Result<Self, IdentityError> {
        let live = Live::new(Arc::new(key), chain, Arc::new(trust), &clock, 0)?;
        Ok(Self { live: ArcSwap::from_pointee(live), changing: Mutex::new(()), clock })
    }

    /// Settings for accepting peers, to be asked for at every accept: a certificate is demanded and verified.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.live.load().server)
    }

    /// As [`Self::server_config`], but a peer may come without a certificate: it is to show a bearer token then.
    pub fn token_server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.live.load().token_server)
    }

    /// Settings for the authority's listener: as [`Self::server_config`], but a newcomer may come without a certificate,
    /// and the root is sent along, because a newcomer knows only its digest.
    pub fn enrolment_server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let live = self.live.load();
        let mut chain = live.chain.clone();
        chain.extend(live.trust.bundle().roots().cloned());
        let verifier =
            PeerVerifier { trust: Arc::clone(&live.trust), expected: None, certificate_optional: true };
        server(chain, &live.key, verifier, &self.clock).map(Arc::new)
    }

    /// Settings for dialling `expected`: the handshake fails unless the other end is exactly that participant.
    pub fn client_config(&self, expected: &ParticipantId) -> Result<Arc<ClientConfig>, IdentityError> {
        let live = self.live.load();
        let verifier = PeerVerifier {
            trust: Arc::clone(&live.trust),
            expected: Some(expected.clone()),
            certificate_optional: false,
        };
        client(Arc::new(verifier), Some((&live.chain, &live.key)), &self.clock)
    }

    /// Settings for dialling the authority. Its revocation is not looked up, because the lists are what one goes there
    /// for; whatever it answers is signed and checked by itself.
    pub fn authority_client_config(&self) -> Result<Arc<ClientConfig>, IdentityError> {
        let live = self.live.load();
        let verifier = AuthorityVerifier { anchor: Anchor::Bundle(live.trust.bundle().clone()) };
        client(Arc::new(verifier), Some((&live.chain, &live.key)), &self.clock)
    }

    /// Decides who the peer of a live connection is.
    pub fn verify_participant(
        &self,
        chain: &[CertificateDer<'_>],
        statement_jws: &str,
        now: UnixMillis,
    ) -> Result<VerifiedParticipant, Refusal> {
        verify_participant(chain, statement_jws, &self.trust(), now)
    }

    /// Swaps key and certificate, e.g. after a renewal.
    pub fn reload_certificate(
        &self,
        key: ConnectorKey,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<(), IdentityError> {
        self.change(|live| {
            Live::new(Arc::new(key), chain, Arc::clone(&live.trust), &self.clock, live.generation + 1)
        })
    }

    /// Takes newer lists and minimum sequences; older ones change nothing, a forged one refuses the whole.
    /// Afterwards every open connection should be judged anew.
    pub fn reload_lists(
        &self,
        lists: &[Vec<u8>],
        minimum_sequences: Option<&str>,
        now: UnixMillis,
    ) -> Result<(), IdentityError> {
        self.change(|live| {
            let trust = live.trust.updated(lists, minimum_sequences, now)?;
            Live::new(
                Arc::clone(&live.key),
                live.chain.clone(),
                Arc::new(trust),
                &self.clock,
                live.generation + 1,
            )
        })
    }

    /// Whom we trust at the moment.
    pub fn trust(&self) -> Arc<TrustState> {
        Arc::clone(&self.live.load().trust)
    }

    /// Signs objects with the certificate in use.
    pub fn signer(&self) -> Signer {
        self.live.load().signer.clone()
    }

    /// The certificate in use.
    pub fn certificate(&self) -> ParticipantCertificate {
        self.live.load().certificate.clone()
    }

    /// The chain in use, leaf first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.live.load().chain.clone()
    }

    /// Grows with each swap: a connection made under a lower one was judged under older material.
    pub fn generation(&self) -> u64 {
        self.live.load().generation
    }

    fn change(&self, make: impl FnOnce(&Live) -> Result<Live, IdentityError>) -> Result<(), IdentityError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = make(&self.live.load())?;
        self.live.store(Arc::new(next));
        Ok(())
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TlsIdentity({}, generation {})", self.certificate().participant(), self.generation())
    }
}

/// Settings for the first call of all, with the token alone: the chain must end at the root whose digest it carries.
pub fn enrolment_client_config(
    token: &EnrolmentToken,
    clock: &Clock,
) -> Result<Arc<ClientConfig>, IdentityError> {
    client(Arc::new(AuthorityVerifier { anchor: Anchor::Digest(token.root()) }), None, clock)
}

/// The name to give rustls when dialling: never sent and never compared, the certificate's URI is what counts.
pub fn server_name() -> ServerName<'static> {
    const NAME: &str = "participant.invalid";
    match ServerName::try_from(NAME) {
        Ok(name) => name,
        Err(_) => ServerName::IpAddress(std::net::Ipv6Addr::UNSPECIFIED.into()),
    }
}

/// The cryptography of every connection: TLS 1.3 suites, hybrid post-quantum group first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1];
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
}

struct Live {
    key: Arc<ConnectorKey>,
    chain: Vec<CertificateDer<'static>>,
    certificate: ParticipantCertificate,
    signer: Signer,
    trust: Arc<TrustState>,
    server: Arc<ServerConfig>,
    token_server: Arc<ServerConfig>,
    generation: u64,
}

impl Live {
    fn new(
        key: Arc<ConnectorKey>,
        chain: Vec<CertificateDer<'static>>,
        trust: Arc<TrustState>,
        clock: &Clock,
        generation: u64,
    ) -> Result<Self, IdentityError> {
        let signer = Signer::new(Arc::clone(&key), chain.clone())?;
        let leaf = chain.first().map(CertificateDer::as_ref).unwrap_or_default();
        let accepting = |certificate_optional| {
            let verifier = PeerVerifier { trust: Arc::clone(&trust), expected: None, certificate_optional };
            server(chain.clone(), &key, verifier, clock).map(Arc::new)
        };
        let (demanding, token_server) = (accepting(false)?, accepting(true)?);
        Ok(Self {
            certificate: ParticipantCertificate::read(leaf)?,
            key,
            chain,
            signer,
            trust,
            server: demanding,
            token_server,
            generation,
        })
    }
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: &ConnectorKey,
    verifier: PeerVerifier,
    clock: &Clock,
) -> Result<ServerConfig, IdentityError> {
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(TlsClock(Arc::clone(clock))))
        .with_protocol_versions(&[&TLS13])
        .map_err(IdentityError::crypto("preparing TLS"))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key.tls_key()?))));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    Ok(config)
}

fn client(
    verifier: Arc<dyn ServerCertVerifier>,
    ours: Option<(&Vec<CertificateDer<'static>>, &Arc<ConnectorKey>)>,
    clock: &Clock,
) -> Result<Arc<ClientConfig>, IdentityError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(TlsClock(Arc::clone(clock))))
        .with_protocol_versions(&[&TLS13])
        .map_err(IdentityError::crypto("preparing TLS"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match ours {
        Some((chain, key)) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
            CertifiedKey::new(chain.clone(), key.tls_key()?),
        ))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    Ok(Arc::new(config))
}

struct TlsClock(Clock);

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time((self.0)()))
    }
}

impl fmt::Debug for TlsClock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TlsClock")
    }
}

/// One rule for both directions: a chain of this data space whose leaf names one participant.
#[derive(Debug)]
struct PeerVerifier {
    trust: Arc<TrustState>,
    expected: Option<ParticipantId>,
    certificate_optional: bool,
}

impl PeerVerifier {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let checked = self.trust.check_chain(&chain, unix_millis(now))?;
        refuse_other(self.expected.as_ref(), checked.certificate.participant())
    }
}

fn refuse_other(expected: Option<&ParticipantId>, found: &ParticipantId) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != found => Err(ours(Refusal::new(
            &OTHER_PARTICIPANT,
            format!("`{expected}` was dialled, `{found}` answered"),
        ))),
        _ => Ok(()),
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.certificate_optional
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// Verifies the authority's own listener, by roots that are known or by the digest of one.
#[derive(Debug)]
struct AuthorityVerifier {
    anchor: Anchor,
}

#[derive(Debug)]
enum Anchor {
    Bundle(TrustBundle),
    Digest(Digest),
}

impl ServerCertVerifier for AuthorityVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let bundle = match &self.anchor {
            Anchor::Bundle(bundle) => bundle.clone(),
            Anchor::Digest(digest) => {
                let root = intermediates.iter().find(|der| Digest::of(der) == *digest).ok_or_else(|| {
                    ours(Refusal::new(&OTHER_AUTHORITY, "the token's root is not in the presented chain"))
                })?;
                TrustBundle::from_der(std::slice::from_ref(root)).map_err(ours)?
            }
        };
        let store = bundle.store().map_err(ours)?;
        let algorithms = provider().signature_verification_algorithms;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &store, intermediates, now, algorithms.all)?;
        let certificate = ParticipantCertificate::read(end_entity).map_err(ours)?;
        refuse_other(Some(bundle.authority()), certificate.participant())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

fn only_tls13() -> Error {
    Error::General(format!("{:?} is not spoken", ProtocolVersion::TLSv1_2))
}

fn tls13_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
}

/// Our certificates are P-256; nothing else is worth offering.
fn schemes() -> Vec<SignatureScheme> {
    vec![SignatureScheme::ECDSA_NISTP256_SHA256]
}
