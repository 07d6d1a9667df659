//! Finds out what is wrong, here or on the way to a peer, step by step; changes nothing.
//!
//! Towards a peer nothing is sent but what any connection begins with: TLS, `GetVersions` and `Exchange`; the last
//! only to a participant whose certificate was verified.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use control_plane::ids::ParticipantId;
use control_plane::{Code, Refusal, UnixMillis};
use identity::{CertificateDer, ParticipantCertificate, TlsIdentity, VerifiedParticipant};
use proto::admin::DoctorCheck;
use proto::dsp::GetVersionsRequest;
use proto::dsp::version_service_client::VersionServiceClient;
use proto::identity::ExchangeResponse;
use proto::identity::identity_service_client::IdentityServiceClient;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{ServerName, UnixTime};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::authority::client::AuthorityClient;
use crate::config::{Address, Config};
use crate::error::Error;
use crate::grpc::dsp::PROTOCOL_VERSION;
use crate::node::Node;
use crate::peers;
use crate::transport::dialer::{self, DialledStream, NO_ADDRESS, Purpose, REFUSED_BY_PEER};
use crate::transport::{Connection, PeerStream, tls_refusal};

control_plane::refusal_codes! {
    NO_SUCH_NAME = "doctor/name-not-resolved", Unavailable,
        "the name does not resolve", "無法解析此名稱", "无法解析此名称",
        clause "security model: who is who", next "check the address and this host's resolver";
    NO_CONNECTION = "doctor/no-connection", Unavailable,
        "nothing answers there", "該處無回應", "该处无响应",
        clause "security model: who is who", next "check that the peer runs, its port, and the firewalls between";
    NO_IPV6 = "doctor/no-ipv6-address", Unavailable,
        "the peer has no IPv6 address", "對方沒有 IPv6 位址", "对方没有 IPv6 地址",
        clause "operator's guide 2: a connector", next "ask the peer's operator for an AAAA record; IPv4 works in the meantime";
    CLOCKS_DIFFER = "doctor/clocks-differ", Unavailable,
        "the clocks of both connectors differ", "雙方連接器的時鐘不一致", "双方连接器的时钟不一致",
        clause "security model: what decides", next "synchronise both clocks, e.g. with chrony";
    OTHER_VERSION = "doctor/other-protocol-version", Input,
        "the peer speaks no protocol version of ours", "對方不支援本方的協定版本", "对方不支持本方的协议版本",
        clause "DSP 2025-1, 4.3", next "update the older of both connectors";
    LISTS_BEHIND = "doctor/revocation-list-behind", Unavailable,
        "one side holds an older revocation list", "其中一方持有較舊的撤銷清單", "其中一方持有较旧的吊销列表",
        clause "RFC 5280 section 5", next "it catches up at its next fetch; `fairlead reload` fetches at once";
    LEDGER_SHORTER = "doctor/ledger-shorter-than-seen", Ours,
        "the peer saw more of our ledger than there is", "對方所見的本方帳冊比現存的更長", "对方所见的本方账册比现存的更长",
        clause "security model: honest limits, deletion destroys keys", next "find out which backup was restored here; what came after it is lost";
    ENDS_SOON = "doctor/ends-soon", State,
        "it ends soon and was not renewed", "即將到期而尚未更新", "即将到期而尚未更新",
        clause "RFC 5280 section 4.2; security model: who is who", next "check the connection to the authority: `fairlead doctor self`";
    SETTINGS_BROKEN = "doctor/settings-broken", Input,
        "the settings file cannot be used as it is", "設定檔目前無法使用", "配置文件目前无法使用",
        clause "settings", next "run `fairlead config check FILE` and correct every line named";
    DISK_SHORT = "doctor/disk-short", Limit,
        "little room is left in the data directory", "資料目錄剩餘空間不足", "数据目录剩余空间不足",
        clause "fail closed: a log that cannot be written", next "make room, or move the data directory to a larger disk";
    STUCK_OUTBOX = "doctor/messages-waiting", Unavailable,
        "messages wait for delivery", "有訊息等待傳送", "有消息等待发送",
        clause "outbox", next "run `fairlead doctor peer` against the peers that do not answer";
}

/// The longest wait for one step.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses tried of what one name resolves to.
const MAX_RESOLVED: usize = 8;
/// Clocks that differ by less need no attention.
const CLOCKS_AGREE_MS: i64 = 2_000;
/// Beyond this, each side takes what the other signs for a thing of the future (`identity::jws`).
const CLOCKS_PART_MS: i64 = 5 * 60 * 1000;
/// A certificate or statement that ends within this time should have been renewed long before.
const ENDS_SOON_MS: i64 = 24 * 60 * 60 * 1000;
/// Room for the database to go on: its log may grow by some hundred MiB between two checkpoints.
const DISK_LOW_BYTES: u64 = 1024 * 1024 * 1024;

/// The steps of [`peer`] behind the address, in order.
const PEER_STEPS: [&str; 12] = [
    "resolution",
    "ipv6",
    "tcp",
    "tls",
    "certificate",
    "version",
    "exchange",
    "statement",
    "clock",
    "revocation list",
    "ledger",
    "rules here",
];

/// Checks this connector: settings, disk, state, certificate, statement, lists, clock, authority.
pub async fn this_connector(node: &Arc<Node>) -> Vec<DoctorCheck> {
    let mut checks = Vec::new();
    let now = node.now();
    checks.push(settings(node));
    checks.push(disk(node));
    match node.store.read(|store| Ok::<_, Error>((store.ledger_head()?, store.outbox_len()?))).await {
        Ok((head, waiting)) => {
            checks.push(ok("state", format!("ledger of {} records", head.size)));
            checks.push(if waiting == 0 {
                ok("outbox", "nothing waits")
            } else {
                warning("outbox", format!("{waiting} messages wait"), &STUCK_OUTBOX)
            });
        }
        Err(error) => checks.push(failed("state", error)),
    }
    checks.push(match node.clock.trusted_now() {
        Ok(now) => ok("clock", now.to_string()),
        Err(refusal) => failed("clock", refusal),
    });
    let classes = crate::enforceable::classes(node.policies.profiles());
    let classes: Vec<_> = classes.iter().map(ToString::to_string).collect();
    checks.push(ok("policy classes held", classes.join(", ")));
    checks.push(own_certificate(&node.identity, now));
    checks.push(own_statement(node, now));
    checks.push(own_lists(&node.identity, now));
    checks.push(match node.bound.load_full() {
        Some(bound) => ok("listeners", format!("peers {}, health {}", bound.0, bound.1)),
        None => skipped("listeners"),
    });
    let suspended = node.suspended.load();
    if !suspended.is_empty() {
        let names: Vec<_> = suspended.iter().map(ToString::to_string).collect();
        checks.push(warning(
            "peers",
            format!("suspended here: {}", names.join(" ")),
            &crate::node::PEER_SUSPENDED,
        ));
    }
    checks.push(authority(node).await);
    checks
}

/// A dry run against a peer: a configured participant, or `host:port`, whose participant is then learnt from its
/// certificate.
pub async fn peer(node: &Arc<Node>, address: &str) -> Vec<DoctorCheck> {
    let mut checks = Vec::new();
    if let Err(stopped) = peer_steps(node, address, &mut checks).await {
        checks.push(stopped);
    }
    for step in PEER_STEPS {
        if !checks.iter().any(|check| check.name == step) {
            checks.push(skipped(step));
        }
    }
    checks
}

/// Each step pushes what it found; the one that stops the run is the error.
async fn peer_steps(node: &Arc<Node>, text: &str, checks: &mut Vec<DoctorCheck>) -> Result<(), DoctorCheck> {
    let target = Target::find(node, text).await?;
    checks.push(ok("address", target.to_string()));
    let socket = reach(&target.addresses, checks).await?;
    let (stream, connection) = shake_hands(node, socket, checks).await?;
    let participant = certificate(node, &connection, target.expected.as_ref(), checks)?;
    let channel =
        within(dialer::channel(PeerStream::new(stream, connection.clone()), Purpose::Control)).await;
    let channel =
        channel.map_err(|error| failed("version", Refusal::new(&NO_CONNECTION, error.to_string())))?;
    let outcome = talk(node, &channel, &connection, checks).await;
    connection.close();
    checks.push(rules_here(node, &participant));
    outcome
}

/// Where to dial, and who should answer.
struct Target {
    expected: Option<ParticipantId>,
    addresses: Vec<String>,
}

impl Target {
    async fn find(node: &Arc<Node>, text: &str) -> Result<Self, DoctorCheck> {
        if let Ok(participant) = ParticipantId::parse(text) {
            let addresses =
                peers::addresses(node, &participant).await.map_err(|error| failed("address", error))?;
            if addresses.is_empty() {
                return Err(failed("address", Refusal::new(&NO_ADDRESS, participant.to_string())));
            }
            return Ok(Self { expected: Some(participant), addresses });
        }
        let address = Address::parse(text).map_err(|cause| {
            let refusal =
                Refusal::new(&NO_SUCH_NAME, format!("`{}` {cause}", control_plane::ids::printable(text)));
            failed("address", refusal)
        })?;
        let config = node.config.load();
        let configured = config.peers.iter().find(|peer| peer.addresses.contains(&address));
        Ok(Self {
            expected: configured.map(|peer| peer.participant.clone()),
            addresses: vec![address.to_string()],
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.expected {
            Some(participant) => write!(out, "{} of {participant}", self.addresses.join(" ")),
            None => write!(out, "{}; who answers is learnt from the certificate", self.addresses.join(" ")),
        }
    }
}

/// Resolves every address and connects to the first that answers.
async fn reach(
    addresses: &[String],
    checks: &mut Vec<DoctorCheck>,
) -> Result<(TcpStream, SocketAddr), DoctorCheck> {
    let mut resolved = Vec::new();
    let mut causes = Vec::new();
    for address in addresses {
        match within(tokio::net::lookup_host(address)).await {
            Ok(found) => resolved.extend(found.take(MAX_RESOLVED)),
            Err(error) => causes.push(format!("{address}: {error}")),
        }
    }
    if resolved.is_empty() {
        return Err(failed("resolution", Refusal::new(&NO_SUCH_NAME, causes.join("; "))));
    }
    let list = |found: &[SocketAddr]| found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    checks.push(if causes.is_empty() {
        ok("resolution", list(&resolved))
    } else {
        warning("resolution", format!("{}; {}", list(&resolved), causes.join("; ")), &NO_SUCH_NAME)
    });
    let six: Vec<SocketAddr> = resolved.iter().copied().filter(SocketAddr::is_ipv6).collect();
    checks.push(if six.is_empty() { warning("ipv6", "IPv4 only", &NO_IPV6) } else { ok("ipv6", list(&six)) });
    let mut causes = Vec::new();
    for remote in resolved {
        let started = Instant::now();
        match within(TcpStream::connect(remote)).await {
            Ok(socket) => {
                let found = format!("{remote} in {} ms", started.elapsed().as_millis());
                checks.push(if causes.is_empty() {
                    ok("tcp", found)
                } else {
                    warning("tcp", format!("{found}; {}", causes.join("; ")), &NO_CONNECTION)
                });
                return Ok((socket, remote));
            }
            Err(error) => causes.push(format!("{remote}: {error}")),
        }
    }
    Err(failed("tcp", Refusal::new(&NO_CONNECTION, causes.join("; "))))
}

/// TLS as for any peer, but a certificate that will be refused is looked at first.
async fn shake_hands(
    node: &Arc<Node>,
    (socket, remote): (TcpStream, SocketAddr),
    checks: &mut Vec<DoctorCheck>,
) -> Result<(DialledStream, Arc<Connection>), DoctorCheck> {
    let (config, seen) = diagnosis_config(&node.identity, &node.us).map_err(|error| failed("tls", error))?;
    let started = Instant::now();
    let stream = within(dialer::handshake(socket, config)).await.map_err(|error| {
        let broke = || Refusal::new(&NO_CONNECTION, error.to_string());
        failed("tls", tls_refusal(&error).unwrap_or_else(broke))
    })?;
    let session = &stream.get_ref().1;
    let group = session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
    let suite = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    let names =
        [Some("TLS 1.3".to_owned()), group, suite].into_iter().flatten().collect::<Vec<_>>().join(", ");
    checks.push(ok("tls", format!("{names}, {} ms", started.elapsed().as_millis())));
    let chain = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((stream, Connection::new(remote, chain)))
}

/// The verdict that every connection to this peer gets, with what the certificate says.
fn certificate(
    node: &Arc<Node>,
    connection: &Connection,
    expected: Option<&ParticipantId>,
    checks: &mut Vec<DoctorCheck>,
) -> Result<ParticipantId, DoctorCheck> {
    let der = connection.chain.first().map(CertificateDer::as_ref).unwrap_or_default();
    let leaf = ParticipantCertificate::read(der).map_err(|refusal| failed("certificate", refusal))?;
    let found = format!("{}, {} to {}", leaf.participant(), leaf.not_before(), leaf.not_after());
    let with_facts = |refusal: Refusal| {
        let mut check = failed("certificate", refusal);
        check.found = format!("{found}: {}", check.found);
        check
    };
    node.identity.trust().verify_chain(&connection.chain, node.now()).map_err(with_facts)?;
    if let Some(expected) = expected.filter(|expected| *expected != leaf.participant()) {
        let detail = format!("`{expected}` was dialled");
        return Err(with_facts(Refusal::new(&identity::tls_error::OTHER_PARTICIPANT, detail)));
    }
    checks.push(if leaf.not_after().millis_since(node.now()) < ENDS_SOON_MS {
        warning("certificate", found, &ENDS_SOON)
    } else {
        ok("certificate", found)
    });
    Ok(leaf.participant().clone())
}

/// What is said on the connection.
async fn talk(
    node: &Arc<Node>,
    channel: &Channel,
    connection: &Connection,
    checks: &mut Vec<DoctorCheck>,
) -> Result<(), DoctorCheck> {
    let versions =
        within(VersionServiceClient::new(channel.clone()).get_versions(GetVersionsRequest {})).await;
    let versions =
        versions.map_err(|cause| call_failed("version", connection, &cause))?.into_inner().protocol_versions;
    let listed: Vec<_> = versions.iter().map(|one| format!("{} over {}", one.version, one.binding)).collect();
    let listed = listed.join(", ");
    if !versions.iter().any(|one| one.version == PROTOCOL_VERSION && one.binding == "GRPC") {
        return Err(failed("version", Refusal::new(&OTHER_VERSION, format!("it speaks {listed}"))));
    }
    checks.push(ok("version", listed));

    let request = peers::exchange_request(node).await.map_err(|error| failed("exchange", error))?;
    let ours = request.clone();
    let (asked, started) = (node.now(), Instant::now());
    let answer = within(IdentityServiceClient::new(channel.clone()).exchange(request)).await;
    let answer = answer.map_err(|cause| call_failed("exchange", connection, &cause))?.into_inner();
    let took = started.elapsed();
    checks.push(ok("exchange", format!("answered in {} ms", took.as_millis())));

    let verified = node.identity.verify_participant(&connection.chain, &answer.statement, node.now());
    checks.push(match &verified {
        Ok(peer) => statement(peer, node.now()),
        Err(refusal) => failed("statement", refusal.clone()),
    });
    // Half of the call passed before the peer read its clock.
    let middle = i64::try_from(took.as_millis() / 2).unwrap_or(0);
    checks.push(clock(&answer, asked.plus_millis(middle)));
    checks.push(lists(ours.revocation_list_number, answer.revocation_list_number));
    let size = ours.ledger_head.map_or(0, |head| head.size);
    checks.push(ledger(size, answer.your_ledger_size_seen));
    Ok(())
}

fn statement(peer: &VerifiedParticipant, now: UnixMillis) -> DoctorCheck {
    let statement = peer.statement();
    let membership = &statement.membership;
    let roles: Vec<_> = membership.roles.iter().map(ToString::to_string).collect();
    let found = format!(
        "{}, {} ({}), profile {}, {}, number {}, until {}",
        membership.legal_name.en,
        membership.jurisdiction,
        membership.city,
        membership.security_profile.as_str(),
        roles.join(" and "),
        statement.sequence,
        statement.expires
    );
    if statement.expires.millis_since(now) < ENDS_SOON_MS {
        return warning("statement", found, &ENDS_SOON);
    }
    ok("statement", found)
}

fn clock(answer: &ExchangeResponse, expected: UnixMillis) -> DoctorCheck {
    let Some(theirs) = UnixMillis::parse_rfc3339(&answer.wall_clock) else {
        return warning("clock", "the peer tells no time", &CLOCKS_DIFFER);
    };
    let ahead = theirs.millis_since(expected);
    let found = format!("{ahead} ms ahead of ours");
    match ahead.unsigned_abs() {
        apart if apart > CLOCKS_PART_MS.unsigned_abs() => {
            failed("clock", Refusal::new(&CLOCKS_DIFFER, found))
        }
        apart if apart > CLOCKS_AGREE_MS.unsigned_abs() => warning("clock", found, &CLOCKS_DIFFER),
        _ => ok("clock", found),
    }
}

fn lists(ours: u64, theirs: u64) -> DoctorCheck {
    let found = format!("number {theirs} there, {ours} here");
    if ours == theirs {
        ok("revocation list", found)
    } else {
        warning("revocation list", found, &LISTS_BEHIND)
    }
}

fn ledger(ours: u64, seen: u64) -> DoctorCheck {
    let found = format!("{ours} records here, {seen} seen by the peer");
    if seen > ours { warning("ledger", found, &LEDGER_SHORTER) } else { ok("ledger", found) }
}

/// What this connector would refuse of the peer by its own rules.
fn rules_here(node: &Arc<Node>, participant: &ParticipantId) -> DoctorCheck {
    if let Err(refusal) = node.require_not_suspended(participant) {
        return warning("rules here", format!("everything of `{participant}` is refused"), refusal.code);
    }
    let config = node.config.load();
    let peer = config.peer(participant);
    let catalogue = match peer {
        Some(peer) if peer.replicate => "catalogue logs are exchanged",
        Some(_) => "catalogue logs are not exchanged (peers.replicate)",
        None => "not configured: catalogue logs are not exchanged",
    };
    ok("rules here", format!("nothing is refused beforehand; {catalogue}"))
}

fn settings(node: &Arc<Node>) -> DoctorCheck {
    let Some(path) = &node.settings else { return skipped("settings") };
    match Config::load(path) {
        Err(problems) => failed("settings", Refusal::new(&SETTINGS_BROKEN, problems.to_string())),
        Ok(read) => {
            let waiting = node.config.load().needs_restart(&read);
            if waiting.is_empty() {
                ok("settings", path.display().to_string())
            } else {
                let mut check = ok("settings", format!("{}: {} differ", path.display(), waiting.join(", ")));
                (check.verdict, check.next) =
                    ("warning".to_owned(), "they take effect at the next start".to_owned());
                check
            }
        }
    }
}

fn disk(node: &Arc<Node>) -> DoctorCheck {
    let data = node.config.load().data.clone();
    match rustix::fs::statvfs(&data) {
        Err(error) => failed("disk", Error::ours(format!("{}: {error}", data.display()))),
        Ok(room) => {
            let free = room.f_bavail.saturating_mul(room.f_frsize);
            let found = format!("{}: {} MiB free", data.display(), free / (1024 * 1024));
            if free < DISK_LOW_BYTES { warning("disk", found, &DISK_SHORT) } else { ok("disk", found) }
        }
    }
}

fn own_certificate(identity: &TlsIdentity, now: UnixMillis) -> DoctorCheck {
    let certificate = identity.certificate();
    let found = format!("{}, until {}", certificate.participant(), certificate.not_after());
    match identity.trust().verify_chain(&identity.chain(), now) {
        Err(refusal) => failed("certificate", refusal),
        Ok(_) if certificate.not_after().millis_since(now) < ENDS_SOON_MS => {
            warning("certificate", found, &ENDS_SOON)
        }
        Ok(_) => ok("certificate", found),
    }
}

/// Our own statement, judged as a peer would.
fn own_statement(node: &Arc<Node>, now: UnixMillis) -> DoctorCheck {
    let jws = node.statement.load().jws.clone();
    match node.identity.verify_participant(&node.identity.chain(), &jws, now) {
        Ok(ourselves) => statement(&ourselves, now),
        Err(refusal) => failed("statement", refusal),
    }
}

fn own_lists(identity: &TlsIdentity, now: UnixMillis) -> DoctorCheck {
    let trust = identity.trust();
    let Some(next) = trust.lists().map(identity::RevocationList::next_update).min() else {
        return failed("revocation list", Refusal::new(&identity::trust::REVOCATION_LIST_MISSING, ""));
    };
    let found = format!("number {}, next update due {next}", trust.newest_list_number());
    if next <= now {
        warning("revocation list", found, &identity::trust::REVOCATION_LIST_STALE)
    } else {
        ok("revocation list", found)
    }
}

async fn authority(node: &Arc<Node>) -> DoctorCheck {
    let address = node.config.load().authority.address.to_string();
    let started = Instant::now();
    let asked = within(async {
        let mut authority = AuthorityClient::connect(&node.identity, &address).await?;
        authority.lists().await
    });
    match asked.await {
        Ok(_) => ok("authority", format!("{address} answered in {} ms", started.elapsed().as_millis())),
        Err(error) => failed("authority", error),
    }
}

/// TLS settings with our certificate that take whatever certificate the other end shows, and keep it: what is wrong
/// with it is then said in full. Nothing of ours is sent before it was verified.
pub(crate) fn diagnosis_config(
    identity: &TlsIdentity,
    us: &ParticipantId,
) -> Result<(Arc<ClientConfig>, Seen), Error> {
    let mut config = ClientConfig::clone(&*identity.client_config(us)?);
    let seen = Seen::default();
    let verifier = Arc::new(Looker { seen: seen.clone(), provider: config.crypto_provider().clone() });
    config.dangerous().set_certificate_verifier(verifier);
    Ok((Arc::new(config), seen))
}

/// The chain that the other end showed, leaf first.
pub type Seen = Arc<Mutex<Vec<CertificateDer<'static>>>>;

#[derive(Debug)]
struct Looker {
    seen: Seen,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|der| der.clone().into_owned());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A step that may not hang.
async fn within<T, E: Late>(step: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    tokio::time::timeout(STEP_TIMEOUT, step).await.unwrap_or_else(|_| Err(E::late()))
}

/// How a failure of this type says that nothing came in time.
trait Late {
    fn late() -> Self;
}

impl Late for io::Error {
    fn late() -> Self {
        Self::new(io::ErrorKind::TimedOut, "no answer in time")
    }
}

impl Late for Status {
    fn late() -> Self {
        Self::deadline_exceeded("no answer in time")
    }
}

impl Late for Error {
    fn late() -> Self {
        Self::ours("no answer in time")
    }
}

/// In TLS 1.3 our end is done before the peer has judged our certificate: its no comes with the first call.
fn call_failed(step: &str, connection: &Connection, status: &Status) -> DoctorCheck {
    if let Some(refusal) = connection.refused() {
        return failed(step, refusal);
    }
    let code = match status.code() {
        tonic::Code::Unauthenticated => &REFUSED_BY_PEER,
        tonic::Code::Unimplemented => &OTHER_VERSION,
        _ => &NO_CONNECTION,
    };
    failed(step, Refusal::new(code, dialer::root_cause(status)))
}

fn ok(name: &str, found: impl Into<String>) -> DoctorCheck {
    DoctorCheck { name: name.into(), verdict: "ok".into(), found: found.into(), ..Default::default() }
}

fn skipped(name: &str) -> DoctorCheck {
    DoctorCheck { name: name.into(), verdict: "skipped".into(), ..Default::default() }
}

fn warning(name: &str, found: impl Into<String>, code: &'static Code) -> DoctorCheck {
    DoctorCheck {
        name: name.into(),
        verdict: "warning".into(),
        found: found.into(),
        code: code.code.into(),
        next: code.next.into(),
    }
}

fn failed(name: &str, error: impl Into<Error>) -> DoctorCheck {
    let Refusal { code, detail } = error.into().into_refusal();
    let found = if detail.is_empty() { code.en.to_owned() } else { format!("{}: {detail}", code.en) };
    DoctorCheck {
        name: name.into(),
        verdict: "failed".into(),
        found,
        code: code.code.into(),
        next: code.next.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_both_ways() {
        let now = UnixMillis(1_800_000_000_000);
        let check = |told: String, verdict: &str| {
            let answer = ExchangeResponse { wall_clock: told, ..Default::default() };
            assert_eq!(clock(&answer, now).verdict, verdict, "{}", answer.wall_clock);
        };
        for (ahead, verdict) in [
            (0, "ok"),
            (CLOCKS_AGREE_MS, "ok"),
            (-CLOCKS_AGREE_MS, "ok"),
            (CLOCKS_AGREE_MS + 1, "warning"),
            (-CLOCKS_AGREE_MS - 1, "warning"),
            (CLOCKS_PART_MS + 1, "failed"),
            (-CLOCKS_PART_MS - 1, "failed"),
        ] {
            check(now.plus_millis(ahead).to_string(), verdict);
        }
        check(String::new(), "warning");
    }

    #[test]
    fn lists_and_ledgers() {
        assert_eq!(lists(4, 4).verdict, "ok");
        assert_eq!((lists(4, 5).verdict, lists(5, 4).verdict), ("warning".to_owned(), "warning".to_owned()));
        assert_eq!(ledger(10, 10).verdict, "ok");
        assert_eq!(ledger(10, 11).code, LEDGER_SHORTER.code);
    }

    #[test]
    fn a_failed_check_says_what_code_and_next() {
        let check = failed("tcp", Refusal::new(&NO_CONNECTION, "[::1]:1: refused"));
        assert_eq!((check.verdict.as_str(), check.code.as_str()), ("failed", NO_CONNECTION.code));
        assert!(check.found.contains("[::1]:1") && !check.next.is_empty());
        let connection = Connection::new("[::1]:1".parse().unwrap(), Vec::new());
        for (status, code) in [
            (Status::unauthenticated("refused"), &REFUSED_BY_PEER),
            (Status::unimplemented("no such service"), &OTHER_VERSION),
            (Status::late(), &NO_CONNECTION),
        ] {
            assert_eq!(call_failed("exchange", &connection, &status).code, code.code);
        }
    }

    #[tokio::test]
    async fn reaching_tells_resolution_ipv6_and_tcp_apart() {
        let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = {
            let gone = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
            gone.local_addr().unwrap()
        };
        let mut checks = Vec::new();
        let reached = reach(&[closed.to_string(), open.to_string()], &mut checks).await.unwrap();
        assert_eq!(reached.1, open);
        let seen: Vec<_> = checks.iter().map(|check| (check.name.as_str(), check.verdict.as_str())).collect();
        assert_eq!(seen, [("resolution", "ok"), ("ipv6", "ok"), ("tcp", "warning")]);

        let mut checks = Vec::new();
        let stopped = reach(&[closed.to_string()], &mut checks).await.unwrap_err();
        assert_eq!((stopped.name.as_str(), stopped.code.as_str()), ("tcp", NO_CONNECTION.code));

        let stopped = reach(&["nowhere.invalid:1".to_owned()], &mut Vec::new()).await.unwrap_err();
        assert_eq!((stopped.name.as_str(), stopped.code.as_str()), ("resolution", NO_SUCH_NAME.code));
    }
}
