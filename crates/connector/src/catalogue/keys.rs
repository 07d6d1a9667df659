//! Who signed an envelope: our key behind the catalogue's signer, the data space's trust behind its verifier.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalogue::envelope::{Envelope, EnvelopeSigner, EnvelopeVerifier, JWS_TYPE, VerifiedSignature};
use catalogue::scope::SubjectBase;
use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use identity::{
    CertificateDer, CertificateResolver, Digest, KnownCertificate, ParticipantCertificate, Signer, Statement,
    TlsIdentity, TrustState, Typ, jws,
};

use crate::error::Error;
use crate::node::Node;
use crate::peers;

control_plane::refusal_codes! {
    PUBLISHER_UNKNOWN = "catalogue/publisher-unknown", Identity,
        "no membership statement of the envelope's publisher was ever seen here",
        "本方從未見過此信封發布者的成員聲明", "本方从未见过此信封发布者的成员声明",
        clause "operator's guide 1: the authority, subject base", next "connect to the publisher once, or add it under [[peers]]";
    PUBLISHER_NOT_CURRENT = "catalogue/publisher-not-current", Identity,
        "the newest statement known of the envelope's publisher has ended or was superseded",
        "本方所知此信封發布者的最新聲明已失效或已被取代", "本方所知此信封发布者的最新声明已失效或已被取代",
        clause "security model: who is who", next "connect to the publisher, so that its current statement is seen";
    UNSIGNED_ENVELOPE = "catalogue/no-certificate", Identity,
        "the envelope carries no certificate of its signer", "信封未附簽署者的證書", "信封未附签署者的证书",
        clause "catalogue: envelope", next "fetch the envelope again from another replica";
}

/// A renewal swaps key and chain together; reading them may fall between twice, hardly more often.
const MAX_READS: usize = 8;

/// Signs envelopes with the certificate in use.
pub(super) struct OwnSigner {
    signer: Signer,
    chain: Vec<Vec<u8>>,
}

impl OwnSigner {
    /// Key and chain that belong together.
    pub(super) fn of(identity: &TlsIdentity) -> Result<Self, Error> {
        for _ in 0..MAX_READS {
            let (signer, chain) = (identity.signer(), identity.chain());
            if chain.first().is_some_and(|leaf| Digest::of(leaf) == signer.thumbprint()) {
                return Ok(Self { signer, chain: chain.iter().map(|der| der.to_vec()).collect() });
            }
        }
        Err(Error::ours("our certificate is being changed all the time"))
    }
}

impl EnvelopeSigner for OwnSigner {
    fn sign(&self, typ: &str, payload: &[u8], issued: UnixMillis) -> Result<(String, Vec<Vec<u8>>), Refusal> {
        debug_assert_eq!(typ, JWS_TYPE, "envelopes are all that this signs");
        let jws = self.signer.sign(Typ::Envelope, payload, issued, None).map_err(Error::from)?;
        Ok((jws, self.chain.clone()))
    }
}

/// Checks envelopes against the trust of one moment and the statements of their publishers.
pub(super) struct Members {
    trust: Arc<TrustState>,
    bases: BTreeMap<ParticipantId, Result<SubjectBase, Refusal>>,
    now: UnixMillis,
}

impl Members {
    /// With the statements of `publishers` as they are known.
    pub(super) async fn load(
        node: &Arc<Node>,
        publishers: impl IntoIterator<Item = ParticipantId>,
        now: UnixMillis,
    ) -> Result<Self, Error> {
        let mut statements = Vec::new();
        for publisher in publishers {
            let statement = if publisher == node.us {
                Some(node.statement.load().statement.clone())
            } else {
                peers::latest_statement(node, &publisher).await?
            };
            statements.push((publisher, statement));
        }
        Ok(Self::of(node.identity.trust(), statements, now))
    }

    /// With these statements.
    pub(super) fn of(
        trust: Arc<TrustState>,
        statements: impl IntoIterator<Item = (ParticipantId, Option<Statement>)>,
        now: UnixMillis,
    ) -> Self {
        let base = |(publisher, statement): (ParticipantId, Option<Statement>)| {
            let base = subject_base(&publisher, statement.as_ref(), trust.minimum_sequence(&publisher), now);
            (publisher, base)
        };
        let bases = statements.into_iter().map(base).collect();
        Self { trust, bases, now }
    }

    /// Whether the publisher's envelopes can be checked at all.
    pub(super) fn require(&self, publisher: &ParticipantId) -> Result<&SubjectBase, Refusal> {
        match self.bases.get(publisher) {
            Some(Ok(base)) => Ok(base),
            Some(Err(refusal)) => Err(refusal.clone()),
            None => Err(Refusal::new(&PUBLISHER_UNKNOWN, publisher.as_str())),
        }
    }
}

impl EnvelopeVerifier for Members {
    fn verify(&self, jws: &str, certificates: &[Vec<u8>]) -> Result<VerifiedSignature, Refusal> {
        let leaf = certificates.first().ok_or_else(|| Refusal::new(&UNSIGNED_ENVELOPE, ""))?;
        let certificate = ParticipantCertificate::read(leaf)?;
        // An envelope outlives its certificate: an expired chain is judged at its last moment, a revoked one never.
        let at = self.now.min(certificate.not_after());
        let chain: Vec<CertificateDer<'_>> =
            certificates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        self.trust.verify_chain(&chain, at)?;
        let verified = jws::verify(jws, Typ::Envelope, &OneCertificate(&certificate), at)?;
        Ok(VerifiedSignature {
            payload: verified.payload().to_vec(),
            subject_base: self.require(verified.signer())?.clone(),
            signer: verified.signer().clone(),
            certificate_not_before: certificate.not_before(),
            certificate_not_after: certificate.not_after(),
        })
    }
}

/// The participants of the certificates that came with `envelopes`; unreadable ones are refused when verified.
pub(super) fn signers(envelopes: &[Envelope]) -> Vec<ParticipantId> {
    let leaves = envelopes.iter().filter_map(|envelope| envelope.certificates.first());
    let mut signers: Vec<ParticipantId> = leaves
        .filter_map(|der| ParticipantCertificate::read(der).ok())
        .map(|certificate| certificate.participant().clone())
        .collect();
    signers.sort_unstable();
    signers.dedup();
    signers
}

/// The chain was verified by its own; this only hands its leaf to the signature check.
struct OneCertificate<'a>(&'a ParticipantCertificate);

impl CertificateResolver for OneCertificate<'_> {
    fn certificate(
        &self,
        participant: &ParticipantId,
        thumbprint: Digest,
    ) -> Result<Option<KnownCertificate>, Refusal> {
        let is_it = self.0.participant() == participant && self.0.thumbprint() == thumbprint;
        Ok(is_it.then(|| KnownCertificate { certificate: self.0.clone(), revoked_at: None }))
    }
}

fn subject_base(
    publisher: &ParticipantId,
    statement: Option<&Statement>,
    minimum_sequence: u64,
    now: UnixMillis,
) -> Result<SubjectBase, Refusal> {
    let statement = statement.ok_or_else(|| Refusal::new(&PUBLISHER_UNKNOWN, publisher.as_str()))?;
    if now >= statement.expires || statement.sequence < minimum_sequence {
        let detail = format!(
            "`{publisher}`: sequence {}, at least {minimum_sequence}; until {}",
            statement.sequence, statement.expires
        );
        return Err(Refusal::new(&PUBLISHER_NOT_CURRENT, detail));
    }
    SubjectBase::parse(statement.membership.subject_base.as_str())
}
