//! Whom we trust: the data space's roots, a revocation list for every authority of a chain, and the verdict on a chain.
//!
//! Chains are built by webpki alone. What it lacks stands here: a chain in exact order, a list for *each* issuer, the
//! grace after a list's `nextUpdate` (webpki knows only "enforce to the second" or "ignore"), and the roots' own dates.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, OtherError, RootCertStore};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificate::{ParticipantCertificate, hex, millis, p256_point, parse, participant_of};
use crate::digest::Digest;
use crate::jws::{MAX_CLOCK_AHEAD_MILLIS, Parsed, SIGNER_OTHER, Typ, Verified};
use crate::participant::KnownSequences;
use crate::statement::MinimumSequences;
use crate::tls_error::refusal_of;
use crate::{pem, tls};

policy::refusal_codes! {
    NO_CERTIFICATE = "identity/no-certificate", Identity,
        "the peer presented no certificate", "對方未出示證書", "对方未出示证书",
        clause "RFC 5280 section 4.2; security model: who is who", next "connect with the certificate that the authority issued";
    CERTIFICATE_EXPIRED = "identity/certificate-expired", Identity,
        "the certificate has expired", "證書已過期", "证书已过期",
        clause "RFC 5280, 4.1.2.5", next "renew the certificate with the authority";
    CERTIFICATE_NOT_YET_VALID = "identity/certificate-not-yet-valid", Identity,
        "the certificate is not valid yet", "證書尚未生效", "证书尚未生效",
        clause "RFC 5280, 4.1.2.5", next "compare the clocks of both sides and the authority";
    CERTIFICATE_REVOKED = "identity/certificate-revoked", Identity,
        "the certificate was revoked by the authority", "證書已被管理機構撤銷", "证书已被管理机构撤销",
        clause "RFC 5280, 5", next "ask the authority why, and enrol again";
    OTHER_AUTHORITY = "identity/other-authority", Identity,
        "the certificate was not issued by this data space's authority",
        "證書並非由本資料空間的管理機構簽發", "证书并非由本数据空间的管理机构签发",
        clause "RFC 5280 section 4.2; security model: who is who", next "enrol with this data space's authority; send the whole chain, leaf first";
    REVOCATION_LIST_MISSING = "identity/revocation-list-missing", Identity,
        "there is no revocation list of one of the chain's issuers", "欠缺證書鏈中某簽發者的撤銷清單",
        "缺少证书链中某签发者的撤销清单",
        clause "RFC 5280 section 5", next "fetch the lists from the authority";
    REVOCATION_LIST_STALE = "identity/revocation-list-stale", Identity,
        "the newest revocation list is past its next update and the grace after it",
        "最新的撤銷清單已逾更新期及其後的寬限期", "最新的撤销清单已逾更新期及其后的宽限期",
        clause "RFC 5280 section 5", next "restore the connection to the authority and fetch its lists";
    MALFORMED_REVOCATION_LIST = "identity/malformed-revocation-list", Input,
        "the revocation list cannot be read", "無法讀取撤銷清單", "无法读取撤销清单",
        clause "RFC 5280, 5.1", next "fetch the list from the authority";
    FOREIGN_REVOCATION_LIST = "identity/foreign-revocation-list", Identity,
        "the revocation list was not signed by an authority of this data space",
        "撤銷清單並非由本資料空間的管理機構簽署", "撤销清单并非由本数据空间的管理机构签署",
        clause "RFC 5280, 6.3.3", next "fetch the list from the authority";
    MALFORMED_TRUST_BUNDLE = "identity/malformed-trust-bundle", Input,
        "the trust bundle is not a set of roots of one data space", "信任憑證組並非同一資料空間的根證書",
        "信任凭证组并非同一数据空间的根证书",
        clause "RFC 5280 section 4.2; security model: who is who", next "take the roots from the authority that issued the enrolment token";
}

/// How long past `nextUpdate` a list still counts: an authority may be down for a night without stopping the members.
pub const REVOCATION_GRACE_MILLIS: i64 = 12 * 60 * 60 * 1000;
/// Leaf, issuing authority, one cross-signed step, root.
pub const MAX_CHAIN_CERTIFICATES: usize = 4;
/// Old and new root, and room for one more rotation.
pub const MAX_ROOTS: usize = 4;
/// One list for each authority in use.
pub const MAX_LISTS: usize = 16;
/// Fifty thousand revoked certificates.
pub const MAX_LIST_BYTES: usize = 2 * 1024 * 1024;

/// The roots of one data space. Each root names the authority, which alone speaks for the data space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    roots: Vec<AuthorityCertificate>,
    authority: ParticipantId,
}

impl TrustBundle {
    /// Reads PEM.
    pub fn from_pem(text: &str) -> Result<Self, Refusal> {
        Self::from_der(
            &pem::certificates(text).map_err(|reason| Refusal::new(&MALFORMED_TRUST_BUNDLE, reason))?,
        )
    }

    /// Takes self-signed P-256 roots that name one authority by URI.
    pub fn from_der(roots: &[CertificateDer<'_>]) -> Result<Self, Refusal> {
        let refuse = |reason: String| Refusal::new(&MALFORMED_TRUST_BUNDLE, reason);
        if !(1..=MAX_ROOTS).contains(&roots.len()) {
            return Err(refuse(format!("{} roots, 1 to {MAX_ROOTS}", roots.len())));
        }
        let mut read = Vec::new();
        let mut authority: Option<ParticipantId> = None;
        for der in roots {
            let root = AuthorityCertificate::read(der).map_err(|refusal| refuse(refusal.to_string()))?;
            let named = participant_of(&parse(der)?).map_err(|refusal| refuse(refusal.to_string()))?;
            if !root.is_signed_by(&root) {
                return Err(refuse("a root is not signed by itself".to_owned()));
            }
            if authority.get_or_insert_with(|| named.clone()) != &named {
                return Err(refuse("the roots name different authorities".to_owned()));
            }
            read.push(root);
        }
        let authority = authority.ok_or_else(|| refuse("no root".to_owned()))?;
        Ok(Self { roots: read, authority })
    }

    /// The roots as PEM.
    pub fn to_pem(&self) -> String {
        self.roots.iter().map(|root| pem::encode("CERTIFICATE", &root.der)).collect()
    }

    /// The roots, DER.
    pub fn roots(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.roots.iter().map(|root| &root.der)
    }

    /// Who signs statements and lists.
    pub fn authority(&self) -> &ParticipantId {
        &self.authority
    }

    /// Whether one of the roots has this SHA-256 digest.
    pub fn has_root(&self, digest: Digest) -> bool {
        self.roots.iter().any(|root| Digest::of(&root.der) == digest)
    }

    /// Checks a signed object that carries its signer's chain, with these roots and nothing else: for whoever is handed
    /// a file and reaches neither signer nor authority. Judged at the signature's own time; whether the certificate was
    /// revoked is not known here.
    pub fn verify_offline(&self, compact: &str, typ: Typ) -> Result<Verified, Refusal> {
        let parsed = Parsed::read(compact, typ)?;
        let at = parsed.iat;
        let chain = parsed.chain.clone();
        let (leaf, intermediates) = chain
            .split_first()
            .ok_or_else(|| Refusal::new(&NO_CERTIFICATE, "the signature carries no chain"))?;
        if chain.len() > MAX_CHAIN_CERTIFICATES {
            return Err(Refusal::new(&OTHER_AUTHORITY, format!("a chain of {} certificates", chain.len())));
        }
        let chains = WebPkiClientVerifier::builder_with_provider(self.store()?, tls::provider())
            .build()
            .map_err(|error| Refusal::new(&MALFORMED_TRUST_BUNDLE, error.to_string()))?;
        chains.verify_client_cert(leaf, intermediates, unix_time(at)).map_err(|error| refusal_of(&error))?;
        parsed.check(&ParticipantCertificate::read(leaf)?, at)
    }

    pub(crate) fn store(&self) -> Result<Arc<RootCertStore>, Refusal> {
        let mut store = RootCertStore::empty();
        for root in self.roots() {
            store
                .add(root.clone())
                .map_err(|error| Refusal::new(&MALFORMED_TRUST_BUNDLE, error.to_string()))?;
        }
        Ok(Arc::new(store))
    }
}

/// A certificate revocation list as it was read; whether it counts is decided by [`TrustState::updated`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    der: Vec<u8>,
    issuer: Vec<u8>,
    number: u64,
    this_update: UnixMillis,
    next_update: UnixMillis,
    revoked: BTreeMap<String, UnixMillis>,
    tbs: Vec<u8>,
    signature: Vec<u8>,
}

impl RevocationList {
    /// Reads DER; verifies nothing.
    pub fn read(der: &[u8]) -> Result<Self, Refusal> {
        let refuse = |reason: &str| Refusal::new(&MALFORMED_REVOCATION_LIST, reason);
        if der.len() > MAX_LIST_BYTES {
            return Err(refuse("too large"));
        }
        let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
            return Err(refuse("not a revocation list in DER"));
        };
        let number = list.crl_number().and_then(|number| number.to_string().parse().ok());
        let next_update = list.next_update().ok_or_else(|| refuse("no nextUpdate"))?;
        Ok(Self {
            der: der.to_vec(),
            issuer: list.issuer().as_raw().to_vec(),
            number: number.ok_or_else(|| refuse("no number of at most 64 bits"))?,
            this_update: millis(list.last_update().timestamp()),
            next_update: millis(next_update.timestamp()),
            revoked: list
                .iter_revoked_certificates()
                .map(|entry| (hex(entry.raw_serial()), millis(entry.revocation_date.timestamp())))
                .collect(),
            tbs: list.tbs_cert_list.as_ref().to_vec(),
            signature: list.signature_value.data.to_vec(),
        })
    }

    /// Its DER bytes, to pass on.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its number; the authority numbers the lists of all its certificates in one row.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it was made.
    pub fn this_update(&self) -> UnixMillis {
        self.this_update
    }

    /// When the next one is due.
    pub fn next_update(&self) -> UnixMillis {
        self.next_update
    }

    /// When the certificate with this serial number (lower-case hexadecimal) was revoked.
    pub fn revoked_at(&self, serial: &str) -> Option<UnixMillis> {
        self.revoked.get(serial).copied()
    }
}

/// Everything that decides whether a chain and a statement count. Immutable: news make a new value.
#[derive(Clone, Debug)]
pub struct TrustState {
    bundle: TrustBundle,
    intermediates: Vec<AuthorityCertificate>,
    /// By the issuer's name, because webpki takes the first list of a name.
    lists: BTreeMap<Vec<u8>, RevocationList>,
    minimums: Option<(MinimumSequences, String)>,
    known: Arc<KnownSequences>,
    grace_millis: i64,
    chains: Option<Arc<dyn ClientCertVerifier>>,
}

impl TrustState {
    /// Trusts the bundle. Until lists come through [`Self::updated`], every chain is refused.
    /// `issuing` are the authority's intermediates, as they stand in our own chain.
    pub fn new(bundle: TrustBundle, issuing: &[CertificateDer<'_>]) -> Self {
        let mut state = Self {
            bundle,
            intermediates: Vec::new(),
            lists: BTreeMap::new(),
            minimums: None,
            known: Arc::default(),
            grace_millis: REVOCATION_GRACE_MILLIS,
            chains: None,
        };
        state.learn(issuing);
        state
    }

    /// The same with another grace after `nextUpdate`, in milliseconds; a negative one counts as none.
    #[must_use]
    pub fn with_grace(mut self, grace_millis: i64) -> Self {
        self.grace_millis = grace_millis.max(0);
        self
    }

    /// The same with statement sequences that were seen before, e.g. before a restart.
    #[must_use]
    pub fn with_known_sequences(mut self, known: Arc<KnownSequences>) -> Self {
        self.known = known;
        self
    }

    /// Takes news from the authority or a peer. A newer list or newer minimums replace the older, older ones change
    /// nothing, a forged one refuses the whole.
    pub fn updated(
        &self,
        lists: &[Vec<u8>],
        minimum_sequences: Option<&str>,
        now: UnixMillis,
    ) -> Result<Self, Refusal> {
        let mut state = self.clone();
        if let Some(jws) = minimum_sequences {
            state.learn(&Parsed::read(jws, Typ::Sequences)?.chain);
        }
        for der in lists {
            let list = RevocationList::read(der)?;
            let issuer =
                state.issuer(&list.issuer).filter(|issuer| issuer.has_signed(&list.tbs, &list.signature));
            if issuer.is_none() {
                return Err(Refusal::new(&FOREIGN_REVOCATION_LIST, format!("number {}", list.number)));
            }
            if list.this_update.millis_since(now) > MAX_CLOCK_AHEAD_MILLIS {
                let detail = format!("made at {}, in the future", list.this_update);
                return Err(Refusal::new(&MALFORMED_REVOCATION_LIST, detail));
            }
            if state.lists.get(&list.issuer).is_none_or(|held| held.number < list.number) {
                state.lists.insert(list.issuer.clone(), list);
            }
        }
        if state.lists.len() > MAX_LISTS {
            return Err(Refusal::new(&FOREIGN_REVOCATION_LIST, format!("more than {MAX_LISTS} issuers")));
        }
        let ders = state.lists.values().map(|list| CertificateRevocationListDer::from(list.der.clone()));
        let built = WebPkiClientVerifier::builder_with_provider(state.bundle.store()?, tls::provider())
            .with_crls(ders)
            .build()
            .map_err(|error| Refusal::new(&MALFORMED_REVOCATION_LIST, error.to_string()))?;
        state.chains = Some(built);
        if let Some(jws) = minimum_sequences {
            let minimums = MinimumSequences::read(&state.verify_authority(jws, Typ::Sequences, now)?)?;
            if state.minimums.as_ref().is_none_or(|(held, _)| held.number < minimums.number) {
                state.minimums = Some((minimums, jws.to_owned()));
            }
        }
        Ok(state)
    }

    /// Decides on a presented chain, leaf first, and reads its leaf.
    pub fn verify_chain(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixMillis,
    ) -> Result<ParticipantCertificate, Refusal> {
        Ok(self.check_chain(chain, now).map_err(|error| refusal_of(&error))?.certificate)
    }

    /// Checks what the authority signed, with the chain that it carries.
    pub fn verify_authority(&self, compact: &str, typ: Typ, now: UnixMillis) -> Result<Verified, Refusal> {
        let parsed = Parsed::read(compact, typ)?;
        let certificate = self.verify_chain(&parsed.chain, now)?;
        if certificate.participant() != self.bundle.authority() {
            let detail = format!("`{}` is not the authority", certificate.participant());
            return Err(Refusal::new(&SIGNER_OTHER, detail));
        }
        parsed.check(&certificate, now)
    }

    /// The roots.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// The lists in force, to keep and to pass on.
    pub fn lists(&self) -> impl Iterator<Item = &RevocationList> {
        self.lists.values()
    }

    /// The highest number among the lists, zero without any.
    pub fn newest_list_number(&self) -> u64 {
        self.lists.values().map(RevocationList::number).max().unwrap_or(0)
    }

    /// The signed minimum sequences in force, to keep and to pass on.
    pub fn minimum_sequences(&self) -> Option<&str> {
        self.minimums.as_ref().map(|(_, jws)| jws.as_str())
    }

    /// The lowest statement sequence that counts for `participant`.
    pub fn minimum_sequence(&self, participant: &ParticipantId) -> u64 {
        let attested =
            self.minimums.as_ref().and_then(|(minimums, _)| minimums.minimums.get(participant).copied());
        attested.unwrap_or(0).max(self.known.highest(participant))
    }

    /// Statement sequences seen.
    pub fn known_sequences(&self) -> &Arc<KnownSequences> {
        &self.known
    }

    /// When the lists say that this certificate was revoked.
    pub fn revoked_at(&self, certificate: &ParticipantCertificate) -> Option<UnixMillis> {
        self.lists.get(certificate.issuer())?.revoked_at(certificate.serial())
    }

    /// The verdict as TLS wants it. Our own reasons travel inside `CertificateError::Other`.
    pub(crate) fn check_chain(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixMillis,
    ) -> Result<CheckedChain, rustls::Error> {
        let (leaf, intermediates) =
            chain.split_first().ok_or_else(|| ours(Refusal::new(&NO_CERTIFICATE, "")))?;
        let valid_until = self.check_issuers(chain, now).map_err(ours)?;
        let chains = self.chains.as_ref().ok_or_else(|| ours(Refusal::new(&REVOCATION_LIST_MISSING, "")))?;
        chains.verify_client_cert(leaf, intermediates, unix_time(now))?;
        let certificate = ParticipantCertificate::read(leaf).map_err(ours)?;
        Ok(CheckedChain { valid_until: valid_until.min(certificate.not_after()), certificate })
    }

    /// The chain is in exact order and ends at a root of ours; each issuer has a list that is fresh enough.
    /// Gives the instant until which all of that holds.
    fn check_issuers(&self, chain: &[CertificateDer<'_>], now: UnixMillis) -> Result<UnixMillis, Refusal> {
        if chain.len() > MAX_CHAIN_CERTIFICATES {
            return Err(Refusal::new(&OTHER_AUTHORITY, format!("a chain of {} certificates", chain.len())));
        }
        let mut valid_until = UnixMillis(i64::MAX);
        let mut expected_subject: Option<Vec<u8>> = None;
        for der in chain {
            let certificate = parse(der)?;
            if expected_subject.is_some_and(|subject| subject != certificate.subject().as_raw()) {
                return Err(Refusal::new(&OTHER_AUTHORITY, "the chain is not in order"));
            }
            valid_until = valid_until.min(millis(certificate.validity().not_after.timestamp()));
            expected_subject = Some(certificate.issuer().as_raw().to_vec());
        }
        let last_issuer = expected_subject.unwrap_or_default();
        let root = self.bundle.roots.iter().find(|root| root.subject == last_issuer).ok_or_else(|| {
            Refusal::new(&OTHER_AUTHORITY, "the chain does not end at a root of this data space")
        })?;
        if now < root.not_before || now > root.not_after {
            let detail = format!("the root is valid from {} to {}", root.not_before, root.not_after);
            return Err(Refusal::new(&CERTIFICATE_EXPIRED, detail));
        }
        valid_until = valid_until.min(root.not_after);
        for der in chain {
            let certificate = parse(der)?;
            let list = self.lists.get(certificate.issuer().as_raw()).ok_or_else(|| {
                Refusal::new(&REVOCATION_LIST_MISSING, format!("issuer {}", certificate.issuer()))
            })?;
            let counts_until = list.next_update.plus_millis(self.grace_millis);
            if now > counts_until {
                let detail = format!("number {}, counted until {counts_until}", list.number);
                return Err(Refusal::new(&REVOCATION_LIST_STALE, detail));
            }
            valid_until = valid_until.min(counts_until);
        }
        Ok(valid_until)
    }

    /// Until when every revocation list at hand counts, the settings' grace included; `None` while there is no list.
    pub fn lists_count_until(&self) -> Option<UnixMillis> {
        self.lists.values().map(|list| list.next_update.plus_millis(self.grace_millis)).min()
    }

    fn issuer(&self, subject: &[u8]) -> Option<&AuthorityCertificate> {
        self.bundle.roots.iter().chain(&self.intermediates).find(|authority| authority.subject == subject)
    }

    /// Keeps intermediates that a root signed, only to check the signature of their lists on arrival;
    /// in a chain webpki judges them anew.
    fn learn(&mut self, certificates: &[CertificateDer<'_>]) {
        for der in certificates.iter().take(MAX_CHAIN_CERTIFICATES) {
            let Ok(authority) = AuthorityCertificate::read(der) else { continue };
            let is_ours = self.bundle.roots.iter().any(|root| authority.is_signed_by(root));
            let is_new = self.issuer(&authority.subject).is_none();
            if is_ours && is_new && self.intermediates.len() < MAX_LISTS {
                self.intermediates.push(authority);
            }
        }
    }
}

/// A chain that holds.
#[derive(Debug)]
pub(crate) struct CheckedChain {
    pub(crate) certificate: ParticipantCertificate,
    /// The earliest end among its certificates, its root and its issuers' lists with their grace.
    pub(crate) valid_until: UnixMillis,
}

/// A certificate that may sign certificates and lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthorityCertificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) subject: Vec<u8>,
    issuer: Vec<u8>,
    point: Vec<u8>,
    pub(crate) not_before: UnixMillis,
    pub(crate) not_after: UnixMillis,
    tbs: Vec<u8>,
    signature: Vec<u8>,
}

impl AuthorityCertificate {
    pub(crate) fn read(der: &[u8]) -> Result<Self, Refusal> {
        let certificate = parse(der)?;
        if !certificate.is_ca() {
            return Err(Refusal::new(&OTHER_AUTHORITY, "the certificate is not an authority's"));
        }
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            point: p256_point(&certificate)?,
            not_before: millis(certificate.validity().not_before.timestamp()),
            not_after: millis(certificate.validity().not_after.timestamp()),
            tbs: certificate.tbs_certificate.as_ref().to_vec(),
            signature: certificate.signature_value.data.to_vec(),
        })
    }

    fn is_signed_by(&self, issuer: &Self) -> bool {
        self.issuer == issuer.subject && issuer.has_signed(&self.tbs, &self.signature)
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point).verify(message, signature).is_ok()
    }
}

pub(crate) fn ours(refusal: Refusal) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

pub(crate) fn unix_time(now: UnixMillis) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(now.0).unwrap_or(0)))
}

pub(crate) fn unix_millis(time: UnixTime) -> UnixMillis {
    UnixMillis(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000))
}
