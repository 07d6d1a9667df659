//! The service over real sockets: who is enrolled, who is served, and how soon the command line's changes count.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use control_plane::UnixMillis;
use identity::authority::TokenRequest;
use identity::membership::{Jurisdiction, LegalName, Membership, PeerAddress, SecurityProfile, SubjectBase};
use identity::{
    Authority, ConnectorKey, EnrolmentToken, KnownSequences, Revocation, StoredIdentity, TlsIdentity,
};
use proto::authority::enrolment_service_client::EnrolmentServiceClient;
use proto::authority::membership_service_client::MembershipServiceClient;
use proto::authority::{EnrolRequest, GetListsRequest};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::client::{self, AuthorityClient};
use super::server::AuthorityServer;
use super::{DataSpace, MAX_REQUEST_BYTES};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Error;
use crate::run::IDENTITY_FILE;
use crate::transport::dialer::{self, Purpose};
use crate::transport::{Connection, PeerStream};
use crate::trust;

const HONG_KONG: &str = "https://hong-kong.example/id";
const MACAO: &str = "https://macao.example/id";
const HOUR: i64 = 60 * 60 * 1000;

fn now() -> UnixMillis {
    Clock::start(None).now()
}

fn code(error: Error) -> &'static str {
    error.into_refusal().code.code
}

/// An authority that serves, and the folder that the command line would work on.
struct Space {
    dir: tempfile::TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<Result<(), Error>>,
}

impl Space {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("authority");
        Authority::init(&folder, "https://authority.example/id", &["localhost".to_owned()], now()).unwrap();
        let server = AuthorityServer::bind(&folder, "[::1]:0".parse().unwrap()).await.unwrap();
        let (address, stop) = (server.address(), CancellationToken::new());
        let served = tokio::spawn(server.run(stop.clone()));
        Self { dir, address, stop, served }
    }

    /// The directory as another process opens it.
    fn desk(&self) -> Authority {
        Authority::open(&self.dir.path().join("authority")).unwrap()
    }

    fn token(&self, participant: &str) -> EnrolmentToken {
        let request = TokenRequest {
            participant: participant.to_owned(),
            names: vec!["localhost".to_owned()],
            membership: Membership {
                legal_name: LegalName { en: "Example".to_owned(), zh_hant: None, zh_hans: None },
                jurisdiction: Jurisdiction::parse("HK").unwrap(),
                city: "Hong Kong".to_owned(),
                prefixes: Vec::new(),
                addresses: Vec::new(),
                roles: Vec::new(),
                security_profile: SecurityProfile::Base,
                subject_base: SubjectBase::parse(&format!("{participant}/")).unwrap(),
            },
            address: PeerAddress::parse(&self.address.to_string()).unwrap(),
            expires: now().plus_millis(HOUR),
        };
        self.desk().create_token(request, now()).unwrap()
    }

    fn config(&self, participant: &str, data: &str) -> Config {
        let file = self.dir.path().join(format!("{data}.toml"));
        let text = format!(
            "participant = \"{participant}\"\ndata = \"{data}\"\n[authority]\naddress = \"{}\"\n",
            self.address
        );
        std::fs::write(&file, text).unwrap();
        Config::load_with(&file, []).unwrap()
    }

    async fn enrolled(&self, participant: &str, data: &str) -> (Config, TlsIdentity) {
        let config = self.config(participant, data);
        client::enrol(&config, self.token(participant).encode().unwrap().expose()).await.unwrap();
        let live = live(&config);
        (config, live)
    }

    async fn member(&self, live: &TlsIdentity) -> AuthorityClient {
        AuthorityClient::connect(live, &self.address.to_string()).await.unwrap()
    }

    async fn stopped(self) {
        self.stop.cancel();
        self.served.await.unwrap().unwrap();
    }
}

fn live(config: &Config) -> TlsIdentity {
    let stored = StoredIdentity::load(&config.data.join(IDENTITY_FILE)).unwrap().unwrap();
    trust::open_identity(stored, config, Arc::new(KnownSequences::default()), Arc::new(now), now()).unwrap()
}

fn keys_left(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join("keys")).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "key"))
        .collect()
}

#[tokio::test]
async fn a_token_enrols_one_participant_once() {
    let space = Space::start().await;
    let token = space.token(HONG_KONG);
    let text = token.encode().unwrap();

    let other = space.config(MACAO, "macao");
    let refused = client::enrol(&other, text.expose()).await.unwrap_err();
    assert_eq!(code(refused), client::TOKEN_OF_SOMEBODY_ELSE.code);
    assert!(!other.data.exists(), "nothing was written");

    let config = space.config(HONG_KONG, "hong-kong");
    let enrolled = client::enrol(&config, text.expose()).await.unwrap();
    assert_eq!(enrolled.participant.as_str(), HONG_KONG);
    assert!(enrolled.certificate_expires > enrolled.statement_expires && enrolled.statement_expires > now());
    assert_eq!(keys_left(&config.data), Vec::<PathBuf>::new(), "the key lies in the identity file alone");

    let again = client::enrol(&config, text.expose()).await.unwrap_err();
    assert_eq!(code(again), client::ALREADY_ENROLLED.code);
    let elsewhere = space.config(HONG_KONG, "copy");
    let spent = client::enrol(&elsewhere, text.expose()).await.unwrap_err().into_refusal();
    assert_eq!(spent.code, &client::REFUSED);
    assert!(spent.detail.contains("identity/token-spent"), "{spent}");
    assert!(!elsewhere.data.join(IDENTITY_FILE).exists());
    space.stopped().await;
}

#[tokio::test]
async fn an_interrupted_enrolment_goes_on_with_the_same_key() {
    let space = Space::start().await;
    let config = space.config(HONG_KONG, "hong-kong");
    let token = space.token(HONG_KONG);
    // The answer was lost: the token is spent on a key that is on our disk, and nothing else is.
    std::fs::create_dir_all(config.data.join("keys")).unwrap();
    let key = client::pending_key(&config.data.join("keys/enrolment.key")).unwrap();
    space.desk().enrol(&key.csr().unwrap(), token.secret().expose(), now()).unwrap();

    client::enrol(&config, token.encode().unwrap().expose()).await.unwrap();
    assert_eq!(live(&config).certificate().public_key(), key.public_key());
    space.stopped().await;
}

#[tokio::test]
async fn members_renew_and_changes_of_the_command_line_count_at_once() {
    let space = Space::start().await;
    let (config, live) = space.enrolled(HONG_KONG, "hong-kong").await;
    let mut member = space.member(&live).await;
    let sequence = |jws: String| trust::own_statement(jws).unwrap().statement.sequence;
    let first = sequence(member.statement().await.unwrap());

    let desk = space.desk();
    let found = desk.members().unwrap().remove(0);
    let changed = Membership { city: "Kowloon".to_owned(), ..found.membership };
    desk.update_member(&found.participant, changed, now()).unwrap();
    let statement = member.statement().await.unwrap();
    assert_eq!(sequence(statement.clone()), first + 1);
    let lists = member.lists().await.unwrap();
    live.reload_lists(&lists.revocation_lists, Some(&lists.minimum_sequences), now()).unwrap();
    let stored = StoredIdentity::load(&config.data.join(IDENTITY_FILE)).unwrap().unwrap();
    let old = live.verify_participant(&live.chain(), &stored.statement, now()).unwrap_err();
    assert_eq!(old.code, &identity::participant::STATEMENT_SUPERSEDED);

    let key = ConnectorKey::generate().unwrap();
    let issued = member.renew(&key).await.unwrap();
    let leaf = issued.leaf(&config.participant).unwrap();
    assert_eq!(leaf.public_key(), key.public_key());
    live.verify_participant(&issued.chain, &issued.statement, now()).unwrap();

    // On the connection that is open, and on a new one.
    desk.revoke(&Revocation::Participant(config.participant.clone()), now()).unwrap();
    let revoked = member.lists().await.unwrap_err();
    assert_eq!(code(revoked), client::REFUSED.code);
    let mut member = space.member(&live).await;
    assert_eq!(code(member.statement().await.unwrap_err()), client::REFUSED.code);
    space.stopped().await;
}

#[tokio::test]
async fn strangers_get_nothing_but_a_no() {
    let space = Space::start().await;
    let token = space.token(HONG_KONG);
    let config = identity::tls::enrolment_client_config(&token, &(Arc::new(now) as identity::Clock)).unwrap();
    let (socket, remote) = dialer::connect(&space.address.to_string()).await.unwrap();
    let stream = dialer::handshake(socket, config).await.unwrap();
    let stream = PeerStream::new(stream, Connection::new(remote, Vec::new()));
    let channel = dialer::channel(stream, Purpose::Control).await.unwrap();

    let lists =
        MembershipServiceClient::new(channel.clone()).get_lists(GetListsRequest {}).await.unwrap_err();
    assert_eq!(
        (lists.code(), lists.message(), lists.details()),
        (Code::Unauthenticated, "refused", [].as_slice())
    );

    let mut enrolment = EnrolmentServiceClient::new(channel);
    let mut ask = async |secret: String, csr: Vec<u8>| {
        let request = EnrolRequest { secret, csr_der: csr.into() };
        enrolment.enrol(request).await.unwrap_err().code()
    };
    let csr = ConnectorKey::generate().unwrap().csr().unwrap();
    assert_eq!(ask("guessed".to_owned(), csr.clone()).await, Code::Unauthenticated);
    assert_eq!(ask(token.secret().expose().clone(), b"no request".to_vec()).await, Code::InvalidArgument);
    assert_eq!(ask("x".repeat(MAX_REQUEST_BYTES), csr).await, Code::OutOfRange);
    assert!(space.desk().members().unwrap().is_empty(), "nobody was enrolled");
    space.stopped().await;
}

#[test]
fn data_space_format_is_frozen() {
    let dir = tempfile::tempdir().unwrap();
    DataSpace::save(dir.path(), "大灣區資料空間").unwrap();
    let text = std::fs::read_to_string(dir.path().join(super::DATA_SPACE_FILE)).unwrap();
    assert_eq!(text, r#"{"name":"大灣區資料空間","version":1}"#);
    assert!(serde_json::from_str::<DataSpace>(r#"{"name":"a","version":1,"more":1}"#).is_err());
}
