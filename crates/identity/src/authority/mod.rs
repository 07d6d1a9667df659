//! The data space's authority: enrols members, renews and revokes certificates, attests memberships.
//!
//! A directory of files: `root.pem` and `root.key` (may be moved away after `init`), `issuing.pem` and `issuing.key`,
//! `authority.pem` and `authority.key` (the authority's own leaf: its listener's certificate and the signer of
//! statements), and `authority.json`, the book. Every operation takes the lock, reads the book, changes it, and replaces
//! it before it answers; command line and running service may therefore share the directory.

pub(crate) mod ca;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control_plane::ids::{ParticipantId, printable};
use control_plane::{Refusal, UnixMillis};
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, PublicKeyData};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};

use crate::authority::ca::{Ca, Leaf, random};
use crate::authority::state::{
    CertificateRecord, Instant, MemberRecord, State, StoredList, StoredMinimums, StoredStatement, TokenRecord,
};
use crate::certificate::ParticipantCertificate;
use crate::digest::{Digest, encode_base64url};
use crate::error::IdentityError;
use crate::jws::Signer;
use crate::keys::ConnectorKey;
use crate::membership::{Membership, PeerAddress, is_host_name, normalised_participant};
use crate::secret::Secret;
use crate::statement::{MAX_CERTIFICATES, MinimumSequences, Statement};
use crate::tls::{Clock, TlsIdentity};
use crate::token::EnrolmentToken;
use crate::trust::{
    AuthorityCertificate, CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED, OTHER_AUTHORITY, TrustBundle, TrustState,
};
use crate::{files, pem};

policy::refusal_codes! {
    TOKEN_UNKNOWN = "identity/token-unknown", Identity,
        "no enrolment token has this secret", "沒有註冊權杖具此密文", "没有注册令牌具此密文",
        clause "operator's guide 1: the authority", next "ask the authority for a token";
    TOKEN_SPENT = "identity/token-spent", Identity,
        "the enrolment token was used already", "註冊權杖已被使用", "注册令牌已被使用",
        clause "operator's guide 1: the authority", next "if that was not you, tell the authority; else ask for a new token";
    TOKEN_EXPIRED = "identity/token-expired", Identity,
        "the enrolment token has expired", "註冊權杖已過期", "注册令牌已过期",
        clause "operator's guide 1: the authority", next "ask the authority for a new token";
    MALFORMED_REQUEST = "identity/malformed-certificate-request", Input,
        "the certificate request does not prove possession of an ECDSA P-256 key",
        "證書申請未能證明持有 ECDSA P-256 密鑰", "证书申请未能证明持有 ECDSA P-256 密钥",
        clause "RFC 2986 section 4.2", next "make the request with the connector";
    MALFORMED_NAME = "identity/malformed-certificate-name", Input,
        "a certificate name is neither a DNS name nor an address", "證書名稱既非 DNS 名稱亦非位址",
        "证书名称既非 DNS 名称亦非地址",
        clause "RFC 5280 section 4.2; security model: who is who", next "name the host as peers dial it, in lower case, without port";
    RESERVED_PARTICIPANT = "identity/reserved-participant", Input,
        "this URI is the authority's own", "此 URI 屬管理機構所有", "此 URI 属管理机构所有",
        clause "RFC 3986 section 4.3", next "choose the institution's own URI";
    SUBJECT_BASE_TAKEN = "identity/subject-base-taken", Input,
        "the subject base lies within another member's, or the reverse", "主體基址與另一成員的互相包含",
        "主体基址与另一成员的互相包含",
        clause "operator's guide 1: the authority, subject base", next "choose a base of the institution's own";
    MEMBER_UNKNOWN = "identity/member-unknown", NotFound,
        "there is no such active member", "沒有此有效成員", "没有此有效成员",
        clause "security model: who is who", next "check the URI; enrol the member first";
    CERTIFICATE_UNKNOWN = "identity/certificate-unknown", NotFound,
        "this authority issued no such certificate", "本管理機構未簽發過此證書", "本管理机构未签发过此证书",
        clause "RFC 5280 section 4.2; security model: who is who", next "check the serial number";
}

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;
/// Foundations: 90 days, renewed at two thirds.
pub const CERTIFICATE_MILLIS: i64 = 90 * DAY_MILLIS;
/// Foundations: 7 days; issued anew after half of it.
pub const STATEMENT_MILLIS: i64 = 7 * DAY_MILLIS;
/// Members fetch hourly; a day without the authority, plus the members' grace, stops nobody.
pub const LIST_MILLIS: i64 = DAY_MILLIS;
/// A list is made anew at least this often, and at once after a revocation.
pub const LIST_INTERVAL_MILLIS: i64 = 60 * 60 * 1000;
/// The root's list covers the intermediate only; long, because the root key may lie in a safe.
pub const ROOT_LIST_MILLIS: i64 = 180 * DAY_MILLIS;
/// With the root key at hand, its list is made anew this often.
const ROOT_LIST_INTERVAL_MILLIS: i64 = DAY_MILLIS;
/// A token that ended is remembered this long, so that its late user learns why it fails.
const TOKEN_KEPT_MILLIS: i64 = 30 * DAY_MILLIS;
/// Members' clocks may run behind the authority's by this much.
const BACKDATED_MILLIS: i64 = 5 * 60 * 1000;
const ROOT_MILLIS: i64 = 20 * 365 * DAY_MILLIS;
const ISSUING_MILLIS: i64 = 5 * 365 * DAY_MILLIS;
/// A request with a P-256 key takes about 200 bytes.
const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// Names in one certificate: a host, its alias, its addresses.
const MAX_NAMES: usize = 16;

const BOOK: &str = "authority.json";
const LOCK: &str = "authority.lock";

/// An authority's directory, opened.
pub struct Authority {
    dir: PathBuf,
    id: ParticipantId,
    root: CertificateDer<'static>,
    issuing: Ca,
    own_key: Arc<ConnectorKey>,
}

/// What a token is made for; all of it is the authority's word, nothing is taken from the newcomer.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The participant's URI; normalised before it is fixed.
    pub participant: String,
    /// DNS names and addresses for its certificate.
    pub names: Vec<String>,
    /// What its statement will say.
    pub membership: Membership,
    /// Where the authority listens for the enrolment.
    pub address: PeerAddress,
    /// Until when the token may be used.
    pub expires: UnixMillis,
}

/// The answer to an enrolment or a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Leaf first, without root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The membership statement that names the new certificate, compact JWS.
    pub statement: String,
    /// The data space's roots.
    pub roots: Vec<CertificateDer<'static>>,
}

/// What every member needs to judge its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists {
    /// A revocation list for each of the authority's certificates, DER.
    pub revocation_lists: Vec<Vec<u8>>,
    /// Compact JWS.
    pub minimum_sequences: String,
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// One certificate, by its serial number in lower-case hexadecimal.
    Certificate(String),
    /// A member: all its certificates and its statements.
    Participant(ParticipantId),
}

/// A member as the authority's operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub participant: ParticipantId,
    /// What is attested.
    pub membership: Membership,
    /// Whether it was not revoked as a whole.
    pub active: bool,
    /// Of the newest statement.
    pub sequence: u64,
    /// Its certificates that are neither revoked nor replaced in the statement, newest first.
    pub certificates: Vec<ParticipantCertificate>,
}

impl Authority {
    /// Founds a data space in `dir`, named `id`; fails if the directory holds an authority already.
    /// `names` are the DNS names and addresses of the authority's own listener.
    pub fn init(dir: &Path, id: &str, names: &[String], now: UnixMillis) -> Result<Self, IdentityError> {
        let id = normalised_participant(id)?;
        check_names(names)?;
        files::create_dir(dir)?;
        let _lock = files::lock(&dir.join(LOCK))?;
        if dir.join(BOOK).try_exists().map_err(IdentityError::io("look for", dir))? {
            return Err(IdentityError::AuthorityExists(dir.to_owned()));
        }
        let from = now.plus_millis(-BACKDATED_MILLIS);
        let root = Ca::root(&id, from, now.plus_millis(ROOT_MILLIS))?;
        let issuing = root.intermediate(from, now.plus_millis(ISSUING_MILLIS))?;
        let own_key = ConnectorKey::generate()?;
        root.key.save(&dir.join("root.key"))?;
        files::replace(&dir.join("root.pem"), pem::encode("CERTIFICATE", &root.der).as_bytes())?;
        issuing.key.save(&dir.join("issuing.key"))?;
        files::replace(&dir.join("issuing.pem"), pem::encode("CERTIFICATE", &issuing.der).as_bytes())?;
        own_key.save(&dir.join("authority.key"))?;
        let authority =
            Self { dir: dir.to_owned(), id, root: root.der.clone(), issuing, own_key: Arc::new(own_key) };
        authority.issue_own(names, now)?;
        let mut state = State::empty();
        authority.refresh_lists(&mut state, true, now)?;
        // Last: a directory without the book is not an authority, and init may run again.
        state.save(&dir.join(BOOK))?;
        Ok(authority)
    }

    /// Opens a directory that `init` made; the root key may be absent.
    pub fn open(dir: &Path) -> Result<Self, IdentityError> {
        let _lock = files::lock(&dir.join(LOCK))?;
        State::load(&dir.join(BOOK))?;
        let root = one_certificate(&dir.join("root.pem"))?;
        Ok(Self {
            dir: dir.to_owned(),
            id: TrustBundle::from_der(std::slice::from_ref(&root))?.authority().clone(),
            root,
            issuing: Ca {
                der: one_certificate(&dir.join("issuing.pem"))?,
                key: ConnectorKey::load(&dir.join("issuing.key"))?,
            },
            own_key: Arc::new(ConnectorKey::load(&dir.join("authority.key"))?),
        })
    }

    /// The authority's own URI, as it stands in the root.
    pub fn id(&self) -> &ParticipantId {
        &self.id
    }

    /// Whom members trust.
    pub fn trust_bundle(&self) -> Result<TrustBundle, IdentityError> {
        Ok(TrustBundle::from_der(std::slice::from_ref(&self.root))?)
    }

    /// Makes a one-time token. Only the digest of its secret is kept.
    pub fn create_token(
        &self,
        request: TokenRequest,
        now: UnixMillis,
    ) -> Result<EnrolmentToken, IdentityError> {
        let participant = normalised_participant(&request.participant)?;
        if participant == self.id {
            return Err(Refusal::new(&RESERVED_PARTICIPANT, participant.to_string()).into());
        }
        check_names(&request.names)?;
        request.membership.check()?;
        if request.expires <= now {
            return Err(Refusal::new(&TOKEN_EXPIRED, format!("at {}", request.expires)).into());
        }
        let secret = Secret::new(encode_base64url(&random::<32>()?));
        self.change(|state| {
            state.tokens.retain(|_, token| token.expires.0.plus_millis(TOKEN_KEPT_MILLIS) > now);
            refuse_overlap(state, &participant, &request.membership, now)?;
            let record = TokenRecord {
                participant: participant.as_str().to_owned(),
                names: request.names.clone(),
                membership: request.membership.clone(),
                expires: Instant(request.expires),
                spent_on: None,
            };
            state.tokens.insert(Digest::of(secret.expose().as_bytes()).to_string(), record);
            Ok(())
        })?;
        let root = Digest::of(&self.root);
        Ok(EnrolmentToken::new(request.address, root, secret, request.expires, participant, request.names))
    }

    /// Spends a token. The same secret with the same key again gets the same certificate, because the answer may have
    /// been lost; with another key it is refused.
    pub fn enrol(&self, csr_der: &[u8], secret: &str, now: UnixMillis) -> Result<Enrolled, IdentityError> {
        let request = read_request(csr_der)?;
        self.change(|state| {
            let name = Digest::of(secret.as_bytes()).to_string();
            let token = state.tokens.get(&name).cloned().ok_or_else(|| Refusal::new(&TOKEN_UNKNOWN, ""))?;
            if token.expires.0 <= now {
                return Err(Refusal::new(&TOKEN_EXPIRED, format!("at {}", token.expires.0)).into());
            }
            let participant = ParticipantId::parse(&token.participant)?;
            if let Some(serial) = &token.spent_on {
                let issued = certificate_of(state, serial)?;
                if issued.public_key() != request.public_key.der_bytes() {
                    return Err(Refusal::new(&TOKEN_SPENT, format!("by `{participant}`")).into());
                }
                return self.answer(state, &participant, &issued, now);
            }
            refuse_overlap(state, &participant, &token.membership, now)?;
            let issued = self.issue(state, &participant, &token.names, &request, now)?;
            let member = state.members.get(&token.participant);
            let (sequence, minimum_sequence) =
                member.map_or((0, 0), |member| (member.sequence, member.minimum_sequence));
            let member = MemberRecord {
                names: token.names.clone(),
                membership: token.membership.clone(),
                active: true,
                sequence,
                minimum_sequence,
                statement: None,
            };
            state.members.insert(token.participant.clone(), member);
            if let Some(token) = state.tokens.get_mut(&name) {
                token.spent_on = Some(issued.serial().to_owned());
            }
            self.answer(state, &participant, &issued, now)
        })
    }

    /// Issues a successor for the certificate that the caller is connected with.
    pub fn renew(&self, live_der: &[u8], csr_der: &[u8], now: UnixMillis) -> Result<Enrolled, IdentityError> {
        let request = read_request(csr_der)?;
        let live = ParticipantCertificate::read(live_der)?;
        self.change(|state| {
            let record = state.certificates.get(live.serial());
            let record = record.ok_or_else(|| Refusal::new(&CERTIFICATE_UNKNOWN, live.serial()))?;
            if record.der != STANDARD.encode(live_der) {
                return Err(Refusal::new(&OTHER_AUTHORITY, live.thumbprint().to_string()).into());
            }
            if let Some(at) = record.revoked {
                return Err(Refusal::new(&CERTIFICATE_REVOKED, format!("at {}", at.0)).into());
            }
            if now > live.not_after() {
                return Err(Refusal::new(&CERTIFICATE_EXPIRED, format!("at {}", live.not_after())).into());
            }
            let names = active_member(state, live.participant())?.names.clone();
            let issued = self.issue(state, live.participant(), &names, &request, now)?;
            if let Some(member) = state.members.get_mut(live.participant().as_str()) {
                member.statement = None;
            }
            self.answer(state, live.participant(), &issued, now)
        })
    }

    /// Revokes at once: the next lists carry it, and a whole member's statements stop to count.
    /// Revoking twice changes nothing. Gives the serial numbers newly revoked.
    pub fn revoke(&self, what: &Revocation, now: UnixMillis) -> Result<Vec<String>, IdentityError> {
        self.change(|state| {
            let serials: Vec<String> = match what {
                Revocation::Certificate(serial) => {
                    if !state.certificates.contains_key(serial) {
                        return Err(Refusal::new(&CERTIFICATE_UNKNOWN, printable(serial)).into());
                    }
                    vec![serial.clone()]
                }
                Revocation::Participant(participant) => {
                    let member = state
                        .members
                        .get_mut(participant.as_str())
                        .ok_or_else(|| Refusal::new(&MEMBER_UNKNOWN, participant.to_string()))?;
                    member.active = false;
                    member.statement = None;
                    member.minimum_sequence = member.sequence + 1;
                    let all = state.certificates.iter();
                    all.filter(|(_, record)| record.participant == participant.as_str())
                        .map(|(serial, _)| serial.clone())
                        .collect()
                }
            };
            let mut newly = Vec::new();
            for serial in serials {
                let Some(record) = state.certificates.get_mut(&serial) else { continue };
                if record.revoked.is_none() {
                    record.revoked = Some(Instant(now));
                    if let Some(member) = state.members.get_mut(&record.participant) {
                        member.statement = None;
                    }
                    newly.push(serial);
                }
            }
            self.refresh_lists(state, true, now)?;
            Ok(newly)
        })
    }

    /// The current statement about a member, issued anew when it is half over or what it says has changed.
    pub fn statement(&self, participant: &ParticipantId, now: UnixMillis) -> Result<String, IdentityError> {
        self.change(|state| self.current_statement(state, participant, now))
    }

    /// Changes what is attested about a member. Statements of before stop to count at once, so a demotion does too.
    pub fn update_member(
        &self,
        participant: &ParticipantId,
        membership: Membership,
        now: UnixMillis,
    ) -> Result<String, IdentityError> {
        membership.check()?;
        self.change(|state| {
            active_member(state, participant)?;
            refuse_overlap(state, participant, &membership, now)?;
            if let Some(member) = state.members.get_mut(participant.as_str()) {
                member.membership = membership.clone();
                member.statement = None;
                member.minimum_sequence = member.sequence + 1;
            }
            let statement = self.current_statement(state, participant, now)?;
            self.refresh_lists(state, true, now)?;
            Ok(statement)
        })
    }

    /// The lists in force, made anew when due.
    pub fn lists(&self, now: UnixMillis) -> Result<Lists, IdentityError> {
        self.change(|state| self.refresh_lists(state, false, now))
    }

    /// All members, for the operator.
    pub fn members(&self) -> Result<Vec<Member>, IdentityError> {
        let _lock = files::lock(&self.dir.join(LOCK))?;
        let state = State::load(&self.dir.join(BOOK))?;
        let members = state.members.iter().map(|(participant, member)| {
            let participant = ParticipantId::parse(participant)?;
            Ok(Member {
                certificates: live_certificates(&state, &participant, None)?,
                membership: member.membership.clone(),
                active: member.active,
                sequence: member.sequence,
                participant,
            })
        });
        members.collect()
    }

    /// The authority's own side of TLS, with its lists of `now`; to be made anew (or reloaded with [`Self::lists`]) after
    /// a revocation. Its leaf is renewed here when due.
    pub fn tls_identity(&self, clock: Clock, now: UnixMillis) -> Result<TlsIdentity, IdentityError> {
        let lists = self.change(|state| {
            self.signer(now)?;
            self.refresh_lists(state, false, now)
        })?;
        let trust = TrustState::new(self.trust_bundle()?, std::slice::from_ref(&self.issuing.der)).updated(
            &lists.revocation_lists,
            Some(&lists.minimum_sequences),
            now,
        )?;
        let key = ConnectorKey::from_pkcs8(self.own_key.pkcs8().to_vec())?;
        TlsIdentity::new(key, self.own_chain()?, trust, clock)
    }

    fn change<T>(
        &self,
        step: impl FnOnce(&mut State) -> Result<T, IdentityError>,
    ) -> Result<T, IdentityError> {
        let _lock = files::lock(&self.dir.join(LOCK))?;
        let book = self.dir.join(BOOK);
        let mut state = State::load(&book)?;
        let answer = step(&mut state)?;
        state.save(&book)?;
        Ok(answer)
    }

    /// Certificate and statement, and, in the book, the statement's sequence.
    fn answer(
        &self,
        state: &mut State,
        participant: &ParticipantId,
        issued: &ParticipantCertificate,
        now: UnixMillis,
    ) -> Result<Enrolled, IdentityError> {
        Ok(Enrolled {
            chain: vec![issued.der().clone(), self.issuing.der.clone()],
            statement: self.current_statement(state, participant, now)?,
            roots: vec![self.root.clone()],
        })
    }

    fn issue(
        &self,
        state: &mut State,
        participant: &ParticipantId,
        names: &[String],
        request: &CertificateSigningRequestParams,
        now: UnixMillis,
    ) -> Result<ParticipantCertificate, IdentityError> {
        let der = self.issuing.leaf(
            &Leaf {
                uris: vec![participant.as_str().to_owned()],
                names: names.to_vec(),
                not_before: now.plus_millis(-BACKDATED_MILLIS),
                not_after: self.issuing_end()?.min(now.plus_millis(CERTIFICATE_MILLIS)),
                usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            },
            &request.public_key,
        )?;
        // Also refuses a key of another curve that claimed a P-256 signature.
        let issued = ParticipantCertificate::read(&der)?;
        let record = CertificateRecord {
            participant: participant.as_str().to_owned(),
            issued: Instant(now),
            der: STANDARD.encode(&der),
            revoked: None,
        };
        state.certificates.insert(issued.serial().to_owned(), record);
        Ok(issued)
    }

    fn issuing_end(&self) -> Result<UnixMillis, IdentityError> {
        Ok(AuthorityCertificate::read(&self.issuing.der)?.not_after)
    }

    /// Issues the authority's own leaf under its lasting key; one file, so that it never parts from the key.
    fn issue_own(&self, names: &[String], now: UnixMillis) -> Result<(), IdentityError> {
        let leaf = Leaf {
            uris: vec![self.id.as_str().to_owned()],
            names: names.to_vec(),
            not_before: now.plus_millis(-BACKDATED_MILLIS),
            not_after: self.issuing_end()?.min(now.plus_millis(CERTIFICATE_MILLIS)),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        let der = self.issuing.leaf(&leaf, &self.own_key.issuing_pair()?)?;
        files::replace(&self.dir.join("authority.pem"), pem::encode("CERTIFICATE", &der).as_bytes())
    }

    fn own_chain(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        Ok(vec![one_certificate(&self.dir.join("authority.pem"))?, self.issuing.der.clone()])
    }

    /// The signer of statements; renews its certificate at two thirds. The caller holds the lock.
    fn signer(&self, now: UnixMillis) -> Result<Signer, IdentityError> {
        let chain = self.own_chain()?;
        let leaf =
            ParticipantCertificate::read(chain.first().map(CertificateDer::as_ref).unwrap_or_default())?;
        if now >= leaf.renewal_due() {
            self.issue_own(&leaf_names(&leaf)?, now)?;
        }
        Signer::new(Arc::clone(&self.own_key), self.own_chain()?)
    }

    fn current_statement(
        &self,
        state: &mut State,
        participant: &ParticipantId,
        now: UnixMillis,
    ) -> Result<String, IdentityError> {
        let member = active_member(state, participant)?.clone();
        if let Some(statement) = &member.statement
            && now < statement.issued.0.plus_millis(STATEMENT_MILLIS / 2)
        {
            return Ok(statement.jws.clone());
        }
        let certificates = live_certificates(state, participant, Some(now))?;
        if certificates.is_empty() {
            return Err(Refusal::new(
                &MEMBER_UNKNOWN,
                format!("`{participant}` has no certificate in force"),
            )
            .into());
        }
        let statement = Statement {
            participant: participant.clone(),
            membership: member.membership,
            certificates: certificates.iter().map(ParticipantCertificate::thumbprint).collect(),
            sequence: member.sequence + 1,
            issued: now,
            expires: now.plus_millis(STATEMENT_MILLIS),
        };
        let jws = statement.sign(&self.signer(now)?)?;
        if let Some(member) = state.members.get_mut(participant.as_str()) {
            member.sequence = statement.sequence;
            member.statement = Some(StoredStatement { issued: Instant(now), jws: jws.clone() });
        }
        Ok(jws)
    }

    fn refresh_lists(
        &self,
        state: &mut State,
        changed: bool,
        now: UnixMillis,
    ) -> Result<Lists, IdentityError> {
        let is_due = |issued: Option<Instant>, interval: i64| {
            issued.is_none_or(|issued| now >= issued.0.plus_millis(interval))
        };
        let root_list = self.refresh_root_list(state, now)?;
        let issuing_list = match &state.issuing_list {
            Some(list) if !changed && !is_due(Some(list.issued), LIST_INTERVAL_MILLIS) => list.clone(),
            Some(_) | None => {
                let mut revoked = Vec::new();
                for record in state.certificates.values() {
                    if let Some(at) = record.revoked {
                        let der = STANDARD
                            .decode(&record.der)
                            .map_err(IdentityError::crypto("reading the book"))?;
                        revoked.push((crate::certificate::parse(&der)?.raw_serial().to_vec(), at.0));
                    }
                }
                state.list_number += 1;
                let next_update = now.plus_millis(LIST_MILLIS);
                let der = self.issuing.list(state.list_number, now, next_update, revoked)?;
                let list = stored(&der, now, next_update);
                state.issuing_list = Some(list.clone());
                list
            }
        };
        let minimums = match &state.minimums {
            Some(minimums) if !changed && !is_due(Some(minimums.issued), DAY_MILLIS) => minimums.jws.clone(),
            Some(_) | None => {
                state.minimums_number += 1;
                let mut minimums = std::collections::BTreeMap::new();
                for (participant, member) in &state.members {
                    if member.minimum_sequence > 0 {
                        minimums.insert(ParticipantId::parse(participant)?, member.minimum_sequence);
                    }
                }
                let list = MinimumSequences { number: state.minimums_number, issued: now, minimums };
                let jws = list.sign(&self.signer(now)?)?;
                state.minimums = Some(StoredMinimums { issued: Instant(now), jws: jws.clone() });
                jws
            }
        };
        let decode =
            |list: &StoredList| STANDARD.decode(&list.der).map_err(IdentityError::crypto("reading the book"));
        Ok(Lists {
            revocation_lists: vec![decode(&root_list)?, decode(&issuing_list)?],
            minimum_sequences: minimums,
        })
    }

    /// Without the root key the last list is served until it ends.
    fn refresh_root_list(&self, state: &mut State, now: UnixMillis) -> Result<StoredList, IdentityError> {
        let key_path = self.dir.join("root.key");
        let key_is_here = key_path.try_exists().map_err(IdentityError::io("look for", &key_path))?;
        if let Some(list) = &state.root_list {
            let is_due = now >= list.issued.0.plus_millis(ROOT_LIST_INTERVAL_MILLIS);
            if !is_due || (!key_is_here && now < list.next_update.0) {
                return Ok(list.clone());
            }
        }
        if !key_is_here {
            return Err(IdentityError::RootOffline(key_path));
        }
        let root = Ca { der: self.root.clone(), key: ConnectorKey::load(&key_path)? };
        state.list_number += 1;
        let next_update = now.plus_millis(ROOT_LIST_MILLIS);
        let list = stored(&root.list(state.list_number, now, next_update, [])?, now, next_update);
        state.root_list = Some(list.clone());
        Ok(list)
    }

    #[cfg(any(test, feature = "minting"))]
    pub(crate) fn issuing(&self) -> &Ca {
        &self.issuing
    }

    #[cfg(any(test, feature = "minting"))]
    pub(crate) fn own_signer(&self, now: UnixMillis) -> Result<Signer, IdentityError> {
        let _lock = files::lock(&self.dir.join(LOCK))?;
        self.signer(now)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Authority({} in {})", self.id, self.dir.display())
    }
}

fn stored(der: &[u8], issued: UnixMillis, next_update: UnixMillis) -> StoredList {
    StoredList { issued: Instant(issued), next_update: Instant(next_update), der: STANDARD.encode(der) }
}

fn one_certificate(path: &Path) -> Result<CertificateDer<'static>, IdentityError> {
    let all =
        pem::certificates(&files::read_text(path)?).map_err(|reason| IdentityError::format(path, reason))?;
    match <[CertificateDer<'static>; 1]>::try_from(all) {
        Ok([one]) => Ok(one),
        Err(all) => Err(IdentityError::format(path, format!("{} certificates, one belongs here", all.len()))),
    }
}

/// Takes only key and proof of possession; whatever names the request asks for are ignored.
fn read_request(csr_der: &[u8]) -> Result<CertificateSigningRequestParams, Refusal> {
    if csr_der.len() > MAX_REQUEST_BYTES {
        return Err(Refusal::new(&MALFORMED_REQUEST, format!("{} bytes", csr_der.len())));
    }
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
        .map_err(|error| Refusal::new(&MALFORMED_REQUEST, error.to_string()))?;
    if request.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
        return Err(Refusal::new(&MALFORMED_REQUEST, "another algorithm"));
    }
    Ok(request)
}

fn check_names(names: &[String]) -> Result<(), Refusal> {
    if names.len() > MAX_NAMES {
        return Err(Refusal::new(&MALFORMED_NAME, format!("{} names, at most {MAX_NAMES}", names.len())));
    }
    match names.iter().find(|name| name.parse::<std::net::IpAddr>().is_err() && !is_host_name(name)) {
        Some(bad) => Err(Refusal::new(&MALFORMED_NAME, format!("`{}`", printable(bad)))),
        None => Ok(()),
    }
}

/// Foundations 14: the subject bases of members, and of those invited, are disjoint.
fn refuse_overlap(
    state: &State,
    participant: &ParticipantId,
    membership: &Membership,
    now: UnixMillis,
) -> Result<(), Refusal> {
    let members = state.members.iter().filter(|(_, member)| member.active);
    let members = members.map(|(owner, member)| (owner, &member.membership));
    let invited = state.tokens.values().filter(|token| token.spent_on.is_none() && token.expires.0 > now);
    let invited = invited.map(|token| (&token.participant, &token.membership));
    for (owner, theirs) in members.chain(invited) {
        if owner != participant.as_str() && theirs.subject_base.overlaps(&membership.subject_base) {
            let detail = format!("`{}` of `{owner}`", theirs.subject_base);
            return Err(Refusal::new(&SUBJECT_BASE_TAKEN, detail));
        }
    }
    Ok(())
}

fn active_member<'a>(state: &'a State, participant: &ParticipantId) -> Result<&'a MemberRecord, Refusal> {
    let member = state.members.get(participant.as_str()).filter(|member| member.active);
    member.ok_or_else(|| Refusal::new(&MEMBER_UNKNOWN, participant.to_string()))
}

fn certificate_of(state: &State, serial: &str) -> Result<ParticipantCertificate, IdentityError> {
    let record = state.certificates.get(serial).ok_or_else(|| Refusal::new(&CERTIFICATE_UNKNOWN, serial))?;
    let der = STANDARD.decode(&record.der).map_err(IdentityError::crypto("reading the book"))?;
    Ok(ParticipantCertificate::read(&der)?)
}

/// A member's unrevoked (and, at `now`, unexpired) certificates, newest first, as many as a statement names.
fn live_certificates(
    state: &State,
    participant: &ParticipantId,
    now: Option<UnixMillis>,
) -> Result<Vec<ParticipantCertificate>, IdentityError> {
    let mut live = Vec::new();
    for (serial, record) in &state.certificates {
        if record.participant == participant.as_str() && record.revoked.is_none() {
            let certificate = certificate_of(state, serial)?;
            if now.is_none_or(|now| now <= certificate.not_after()) {
                live.push((record.issued, certificate));
            }
        }
    }
    live.sort_by(|(one, _), (other, _)| other.cmp(one));
    Ok(live.into_iter().take(MAX_CERTIFICATES).map(|(_, certificate)| certificate).collect())
}

/// The DNS names and addresses of a leaf, for its successor.
fn leaf_names(leaf: &ParticipantCertificate) -> Result<Vec<String>, Refusal> {
    use x509_parser::extensions::GeneralName;
    let parsed = crate::certificate::parse(leaf.der())?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(|four| std::net::IpAddr::from(four).to_string())
            .or_else(|_| {
                <[u8; 16]>::try_from(*bytes).map(|sixteen| std::net::IpAddr::from(sixteen).to_string())
            })
            .ok(),
        _ => None,
    });
    Ok(names.collect())
}
