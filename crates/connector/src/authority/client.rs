//! What a connector asks of the authority: enrolment once, then statement, lists and renewal.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control_plane::ids::ParticipantId;
use control_plane::{Refusal, UnixMillis};
use identity::authority::{Lists, TOKEN_EXPIRED};
use identity::trust::OTHER_AUTHORITY;
use identity::{
    CertificateDer, ConnectorKey, EnrolmentToken, KnownSequences, ParticipantCertificate, StoredIdentity,
    TlsIdentity, TrustBundle,
};
use proto::authority::enrolment_service_client::EnrolmentServiceClient;
use proto::authority::membership_service_client::MembershipServiceClient;
use proto::authority::{EnrolRequest, EnrolResponse, GetListsRequest, GetStatementRequest, RenewRequest};
use tonic::Status;
use tonic::transport::Channel;

use super::{MAX_ANSWER_BYTES, MAX_REQUEST_BYTES};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Error;
use crate::run::IDENTITY_FILE;
use crate::transport::dialer::{self, Purpose};
use crate::transport::{Connection, PeerStream, tls_refusal};
use crate::trust;

control_plane::refusal_codes! {
    ALREADY_ENROLLED = "identity/already-enrolled", State,
        "this data directory holds an identity already", "此資料目錄已有身分", "此数据目录已有身份",
        clause "operator's guide 1: the authority", next "keep it; for another participant choose another data directory";
    TOKEN_OF_SOMEBODY_ELSE = "identity/token-of-somebody-else", Identity,
        "the enrolment token is for another participant than the settings name",
        "註冊權杖屬於另一參與者，與設定不符", "注册令牌属于另一参与者，与配置不符",
        clause "operator's guide 1: the authority", next "use this participant's token, or correct `participant` in the settings";
    UNREACHABLE = "authority/unreachable", Unavailable,
        "the authority cannot be reached", "無法連接管理機構", "无法连接管理机构",
        clause "operator's guide 2: a connector", next "check the address under [authority], then the authority's process and the network";
    REFUSED = "authority/refused", Identity,
        "the authority refused", "管理機構拒絕了請求", "管理机构拒绝了请求",
        clause "operator's guide 1: the authority", next "ask the authority's operator; the reason stands in its log";
    ANSWER_UNUSABLE = "authority/answer-unusable", Unavailable,
        "the authority's answer cannot be used", "管理機構的回覆無法使用", "管理机构的答复无法使用",
        clause "security model: who is who", next "tell the authority's operator; what was there before stays in use";
}

/// The key of an enrolment under way: with the same key a lost answer can be asked for again.
const ENROLMENT_KEY: &str = "keys/enrolment.key";

/// TLS with the authority.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What an enrolment gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Who we are.
    pub participant: ParticipantId,
    /// End of the certificate.
    pub certificate_expires: UnixMillis,
    /// End of the first membership statement.
    pub statement_expires: UnixMillis,
}

/// What a renewal gave; not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Leaf first, without root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The membership statement that names the new certificate, compact JWS.
    pub statement: String,
}

/// A member's connection to the authority.
pub struct AuthorityClient {
    service: MembershipServiceClient<Channel>,
    connection: Arc<Connection>,
}

/// Makes the key here, has it certified, fetches the first lists and keeps all of it as one file.
///
/// Nothing is kept but the key until everything was verified, so a failed enrolment may be repeated with the same
/// token.
pub async fn enrol(config: &Config, token: &str) -> Result<Enrolled, Error> {
    let token = EnrolmentToken::decode(token)?;
    let clock = Arc::new(Clock::start(None));
    let now = clock.now();
    if *token.participant() != config.participant {
        let detail = format!("token for `{}`, settings name `{}`", token.participant(), config.participant);
        return Err(Refusal::new(&TOKEN_OF_SOMEBODY_ELSE, detail).into());
    }
    if token.expires() <= now {
        return Err(Refusal::new(&TOKEN_EXPIRED, format!("at {}", token.expires())).into());
    }
    let file = config.data.join(IDENTITY_FILE);
    if StoredIdentity::load(&file)?.is_some() {
        return Err(Refusal::new(&ALREADY_ENROLLED, file.display().to_string()).into());
    }
    private_folder(&file)?;
    let pending = config.data.join(ENROLMENT_KEY);
    let key = pending_key(&pending)?;

    let ticking = clock.clone();
    let ticking: identity::Clock = Arc::new(move || ticking.now());
    let tls = identity::tls::enrolment_client_config(&token, &ticking)?;
    let (channel, connection) = dial(&token.address().to_string(), tls).await?;
    let request = EnrolRequest { secret: token.secret().expose().clone(), csr_der: key.csr()?.into() };
    let answer = EnrolmentServiceClient::new(channel)
        .max_decoding_message_size(MAX_ANSWER_BYTES)
        .max_encoding_message_size(MAX_REQUEST_BYTES)
        .enrol(request)
        .await
        .map_err(|status| refused(&connection, &status))?
        .into_inner();
    connection.close();

    let (issued, roots) = read_issued(answer);
    let bundle = trusted_roots(config, &token, &roots)?;
    let leaf = issued.leaf(&config.participant)?;
    let stored = |key| StoredIdentity {
        key,
        chain: issued.chain.clone(),
        bundle: bundle.clone(),
        statement: issued.statement.clone(),
        lists: Vec::new(),
        minimum_sequences: None,
    };
    let live = trust::open_identity(stored(key), config, Arc::new(KnownSequences::default()), ticking, now)?;
    let mut authority = AuthorityClient::connect(&live, &config.authority.address.to_string()).await?;
    let lists = authority.lists().await?;
    live.reload_lists(&lists.revocation_lists, Some(&lists.minimum_sequences), now)?;
    let ourselves = live.verify_participant(&issued.chain, &issued.statement, now)?;

    let kept = StoredIdentity {
        lists: lists.revocation_lists,
        minimum_sequences: Some(lists.minimum_sequences),
        ..stored(ConnectorKey::load(&pending)?)
    };
    kept.save(&file)?;
    std::fs::remove_file(&pending).map_err(Error::ours)?;
    Ok(Enrolled {
        participant: leaf.participant().clone(),
        certificate_expires: leaf.not_after(),
        statement_expires: ourselves.statement().expires,
    })
}

/// A fresh key that is kept before it is used, or the one that an interrupted step left.
pub(crate) fn pending_key(path: &Path) -> Result<ConnectorKey, Error> {
    if !path.try_exists().map_err(Error::ours)? {
        ConnectorKey::generate()?.save(path)?;
    }
    Ok(ConnectorKey::load(path)?)
}

impl AuthorityClient {
    /// Connects with our certificate.
    pub async fn connect(identity: &TlsIdentity, address: &str) -> Result<Self, Error> {
        let (channel, connection) = dial(address, identity.authority_client_config()?).await?;
        let service = MembershipServiceClient::new(channel)
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(MAX_REQUEST_BYTES);
        Ok(Self { service, connection })
    }

    /// Our current membership statement, compact JWS; not verified yet.
    pub async fn statement(&mut self) -> Result<String, Error> {
        let answer = self
            .service
            .get_statement(GetStatementRequest {})
            .await
            .map_err(|status| refused(&self.connection, &status))?;
        Ok(answer.into_inner().statement)
    }

    /// The lists in force; not verified yet.
    pub async fn lists(&mut self) -> Result<Lists, Error> {
        let answer = self
            .service
            .get_lists(GetListsRequest {})
            .await
            .map_err(|status| refused(&self.connection, &status))?;
        let answer = answer.into_inner();
        let revocation_lists = answer.revocation_lists.iter().map(|der| der.to_vec()).collect();
        Ok(Lists { revocation_lists, minimum_sequences: answer.minimum_sequences })
    }

    /// Has another key certified in our name.
    pub async fn renew(&mut self, key: &ConnectorKey) -> Result<Issued, Error> {
        let request = RenewRequest { csr_der: key.csr()?.into() };
        let answer =
            self.service.renew(request).await.map_err(|status| refused(&self.connection, &status))?;
        Ok(read_issued(answer.into_inner()).0)
    }
}

impl Drop for AuthorityClient {
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl Issued {
    /// The new leaf, which must be `participant`'s.
    pub fn leaf(&self, participant: &ParticipantId) -> Result<ParticipantCertificate, Refusal> {
        let der = self.chain.first().map(CertificateDer::as_ref).unwrap_or_default();
        let leaf = ParticipantCertificate::read(der)?;
        if leaf.participant() != participant {
            return Err(Refusal::new(&ANSWER_UNUSABLE, format!("a certificate of `{}`", leaf.participant())));
        }
        Ok(leaf)
    }
}

async fn dial(address: &str, config: Arc<rustls::ClientConfig>) -> Result<(Channel, Arc<Connection>), Error> {
    let unreachable = |cause: String| Error::from(Refusal::new(&UNREACHABLE, format!("{address}: {cause}")));
    let (socket, remote) = dialer::connect(address).await.map_err(|error| unreachable(error.to_string()))?;
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, dialer::handshake(socket, config))
        .await
        .map_err(|_| unreachable("the TLS handshake took too long".to_owned()))?
        .map_err(|error| match tls_refusal(&error) {
            Some(Refusal { code, detail }) => {
                Refusal::new(code, format!("authority at {address}: {detail}")).into()
            }
            None => unreachable(error.to_string()),
        })?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let connection = Connection::new(remote, chain.iter().map(|der| der.clone().into_owned()).collect());
    let stream = PeerStream::new(stream, connection.clone());
    let channel =
        dialer::channel(stream, Purpose::Control).await.map_err(|error| unreachable(error.to_string()))?;
    Ok((channel, connection))
}

/// The authority's no, or a connection that broke.
fn refused(connection: &Connection, status: &Status) -> Error {
    let told = proto::status::from_status(status);
    if let Some(refusal) = connection.refused() {
        return Refusal::new(&REFUSED, format!("our certificate: {}", refusal.detail)).into();
    }
    if told.is_retryable() {
        let cause = dialer::root_cause(status);
        return Refusal::new(&UNREACHABLE, format!("{}: {cause}", status.code())).into();
    }
    let code = if told.code.is_empty() { String::new() } else { format!(" [{}]", told.code) };
    Refusal::new(&REFUSED, format!("{}{code}", told.text)).into()
}

fn read_issued(answer: EnrolResponse) -> (Issued, Vec<CertificateDer<'static>>) {
    let certificates = |ders: Vec<bytes::Bytes>| {
        ders.iter().map(|der| CertificateDer::from(der.to_vec())).collect::<Vec<_>>()
    };
    (Issued { chain: certificates(answer.chain), statement: answer.statement }, certificates(answer.roots))
}

/// The roots that the settings name, or those that the authority sent; the token's root is among them in both cases.
fn trusted_roots(
    config: &Config,
    token: &EnrolmentToken,
    sent: &[CertificateDer<'static>],
) -> Result<TrustBundle, Error> {
    let Some(path) = &config.authority.roots else { return Ok(token.accept_roots(sent)?) };
    let bundle = trust::configured_roots(path)?;
    if !bundle.has_root(token.root()) {
        let detail = format!("the token's root {} is not in {}", token.root(), path.display());
        return Err(Refusal::new(&OTHER_AUTHORITY, detail).into());
    }
    Ok(bundle)
}

/// The folder of `file`, 0700: it will hold a key.
fn private_folder(file: &Path) -> Result<(), Error> {
    let Some(folder) = file.parent() else { return Ok(()) };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Error::ours(format!("cannot create `{}`: {error}", folder.display())))
}
