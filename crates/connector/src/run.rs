//! Runs one participant: opens what it is made of, starts its services and tasks, drains and ends.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use control_plane::pids::Role;
use control_plane::{Refusal, UnixMillis};
use identity::{KnownSequences, RememberedCertificates, StoredIdentity};
use policy::Profiles;
use proto::catalogue::replication_service_server::ReplicationServiceServer;
use proto::data::data_service_server::DataServiceServer;
use proto::dsp::catalog_service_server::CatalogServiceServer;
use proto::dsp::negotiation_consumer_service_server::NegotiationConsumerServiceServer;
use proto::dsp::negotiation_provider_service_server::NegotiationProviderServiceServer;
use proto::dsp::transfer_consumer_service_server::TransferConsumerServiceServer;
use proto::dsp::transfer_provider_service_server::TransferProviderServiceServer;
use proto::dsp::version_service_server::VersionServiceServer;
use proto::identity::identity_service_server::IdentityServiceServer;
use proto::lease::lease_service_server::LeaseServiceServer;
use proto::notice::notice_service_server::NoticeServiceServer;
use store::{Options, Store, StoreError};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::catalogue::{Catalogue, service as catalogue_service};
use crate::clock::Clock;
use crate::config::Config;
use crate::data::{Data, provider};
use crate::driver::outbox;
use crate::error::Error;
use crate::grpc::dsp::{As, Versions};
use crate::grpc::identity::Exchange;
use crate::grpc::lease::Leases;
use crate::grpc::notice::Notices;
use crate::node::Node;
use crate::policies::Policies;
use crate::telemetry::Logs;
use crate::telemetry::metrics;
use crate::transport::dialer::{Links, data_frame_bytes};
use crate::transport::{Connections, listener};
use crate::{admin, catalogue, data, peers, recovery, restored, standing, telemetry, trust, upkeep};

control_plane::refusal_codes! {
    NOT_ENROLLED = "identity/not-enrolled", State,
        "this connector has no identity yet", "此連接器尚未取得身分", "此连接器尚未取得身份",
        clause "operator's guide 2: a connector", next "ask the authority for a token, then `fairlead enrol --config FILE --token-file FILE`";
    OTHER_IDENTITY = "identity/other-participant-stored", State,
        "the stored identity is another participant's than the settings name",
        "已儲存的身分與設定所列參與者不同", "已存储的身份与配置所列参与者不同",
        clause "operator's guide 2: a connector", next "use the data directory of this participant, or correct `participant` in the settings";
    IN_USE = "store/in-use", Unavailable,
        "another process works in this data directory", "另一程序正在使用此資料目錄", "另一进程正在使用此数据目录",
        clause "operator's guide 2: a connector", next "stop the other process, or name another directory under `data` in the settings";
    CANNOT_LISTEN = "connector/cannot-listen", Unavailable,
        "an address cannot be listened on", "無法在位址上監聽", "无法在地址上监听",
        clause "operator's guide 2: a connector", next "free the port or change it under [listeners]";
}

/// The identity's name in the data directory.
pub const IDENTITY_FILE: &str = "keys/identity.json";

/// A running participant.
pub struct Running {
    /// What its services share.
    pub node: Arc<Node>,
    /// Where peers connect, as bound.
    pub peers: SocketAddr,
    /// Health and metrics, as bound.
    pub health: SocketAddr,
    tasks: JoinSet<()>,
}

/// Opens the state and the identity, and starts every service.
pub async fn start(config: Config, settings: Option<PathBuf>, logs: Option<Logs>) -> Result<Running, Error> {
    let store = open_store(&config.data).await?;
    recovery::sweep(&config.data).map_err(Error::ours)?;
    let node = open_node(config, settings, logs, store).await?;
    // Before anybody can ask for anything.
    restored::close_held(&node).await?;
    let mut tasks = JoinSet::new();

    let config = node.config.load_full();
    let peers = listen(config.listeners.peers).await?;
    let peers_address = peers.local_addr().map_err(Error::ours)?;
    serve_peers(&node, peers, &mut tasks);
    admin::sockets::serve(&node, &mut tasks)?;
    crate::http::server::start(&node, &mut tasks).await?;
    let uses = crate::use_endpoint::start(&node, &mut tasks).await?;
    let flight = crate::use_flight::start(&node, &mut tasks).await?;
    let health = telemetry::serve(&node, config.listeners.health, &mut tasks).await?;

    data::sessions::end_orphans(&node).await?;
    tasks.spawn(outbox::run(node.clone()));
    tasks.spawn(upkeep::run(node.clone()));
    tasks.spawn(catalogue::replication::run(node.clone()));
    tasks.spawn(trust::run(node.clone()));
    tasks.spawn(data::duties::run(node.clone()));
    tasks.spawn(data::lease_renewal::run(node.clone()));
    data::onward::serve::begin(&node);
    tasks.spawn(data::onward::follow::run(node.clone()));
    tasks.spawn(standing::run(node.clone()));
    data::pull::resume_all(&node).await?;
    data::push::resume_all(&node).await?;
    node.bound.store(Some(Arc::new((peers_address, health))));
    tracing::info!(participant = %node.us, peers = %peers_address, health = %health, uses = ?uses, flight = ?flight, "ready");
    Ok(Running { node, peers: peers_address, health, tasks })
}

/// How long a start waits for the process before it to let go of the data directory: a supervisor that restarts at
/// once meets the last moments of the old process.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Between two looks at the lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);

async fn open_store(data: &Path) -> Result<Store, Error> {
    let deadline = tokio::time::Instant::now() + LOCK_WAIT;
    loop {
        match Store::open(data, Options::default()) {
            Err(StoreError::Locked(_)) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(LOCK_RETRY).await;
            }
            Err(StoreError::Locked(path)) => {
                return Err(Refusal::new(&IN_USE, path.display().to_string()).into());
            }
            opened => return Ok(opened?),
        }
    }
}

impl Running {
    /// Waits for SIGTERM or SIGINT, reloading on SIGHUP, then drains.
    pub async fn until_stopped(mut self) -> Result<(), Error> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup()).map_err(Error::ours)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::ours)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::ours)?;
        loop {
            tokio::select! {
                _ = hangup.recv() => reload(&self.node).await,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = self.node.stop.cancelled() => break,
            }
        }
        self.drain().await
    }

    /// Lets running calls end for as long as the settings allow, then closes the store.
    pub async fn drain(&mut self) -> Result<(), Error> {
        let allowed = self.node.config.load().limits.drain;
        tracing::info!(?allowed, "draining");
        self.node.stop.cancel();
        let ended = async {
            while self.tasks.join_next().await.is_some() {}
            self.node.data.sessions_ended().await;
        };
        if tokio::time::timeout(allowed, ended).await.is_err() {
            tracing::warn!("some calls did not end in time; their processes go on at the next start");
            self.tasks.abort_all();
        }
        for connection in self.node.connections.open() {
            connection.close();
        }
        let store = self.node.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await.map_err(Error::ours)??;
        admin::sockets::remove(&self.node);
        tracing::info!("stopped");
        Ok(())
    }
}

/// Reads settings, certificate and lists again; what cannot change while running is named in the log.
pub async fn reload(node: &Arc<Node>) {
    if let Some(path) = &node.settings {
        match Config::load(path) {
            Ok(mut changed) => {
                let before = node.config.load_full();
                for path in before.needs_restart(&changed) {
                    tracing::warn!(setting = path, "takes effect at the next start");
                }
                if let Some(logs) = &node.logs {
                    logs.set_level(changed.logging.level);
                }
                // Who callers are must not change under a listener.
                changed.dsp_http = before.dsp_http.clone();
                node.config.store(Arc::new(changed));
            }
            Err(problems) => tracing::error!(%problems, "settings not reloaded: the old ones stay"),
        }
    }
    if let Err(error) = trust::reload(node).await {
        tracing::error!(%error, "certificate and lists not reloaded: the old ones stay");
    }
    tracing::info!("reloaded");
}

async fn open_node(
    config: Config,
    settings: Option<PathBuf>,
    logs: Option<Logs>,
    store: Store,
) -> Result<Arc<Node>, Error> {
    let file = config.data.join(IDENTITY_FILE);
    let stored = StoredIdentity::load(&file)?
        .ok_or_else(|| Refusal::new(&NOT_ENROLLED, file.display().to_string()))?;
    let (recorded, certificates, sequences, suspended) = store
        .read(|store| {
            Ok::<_, Error>((
                trust::last_recorded(store)?,
                peers::load_certificates(store)?,
                trust::known_sequences(store)?,
                peers::suspended_peers(store)?,
            ))
        })
        .await?;
    let clock = Arc::new(Clock::start(recorded));
    let now = clock.now();
    let statement = trust::own_statement(stored.statement.clone())?;
    let identity = {
        let clock = clock.clone();
        let known = Arc::new(KnownSequences::load(sequences));
        trust::open_identity(stored, &config, known, Arc::new(move || clock.now()), now)?
    };
    if *identity.certificate().participant() != config.participant {
        let stored = identity.certificate().participant().to_string();
        return Err(Refusal::new(
            &OTHER_IDENTITY,
            format!("stored `{stored}`, settings `{}`", config.participant),
        )
        .into());
    }
    let remembered = RememberedCertificates::default();
    remembered.remember_own(&identity.certificate());
    for certificate in &certificates {
        remembered.remember_own(certificate);
    }
    remembered.apply(&identity.trust());
    let policies = Arc::new(Policies::new(Profiles::shipped()));
    let catalogue = Catalogue::open(&store, policies.clone()).await?;
    let data = Data::open(&config, &store).await?;
    Ok(Arc::new(Node {
        us: config.participant.clone(),
        config: ArcSwap::from_pointee(config),
        settings,
        store,
        identity,
        statement: ArcSwap::from_pointee(statement),
        certificates: remembered,
        policies,
        clock,
        links: Links::default(),
        connections: Arc::new(Connections::default()),
        catalogue,
        data,
        suspended: ArcSwap::from_pointee(suspended),
        logs,
        spent_tokens: identity::bearer::SpentTokens::default(),
        refresh_lists: tokio::sync::Notify::new(),
        bound: arc_swap::ArcSwapOption::empty(),
        use_endpoint: std::sync::OnceLock::new(),
        use_flight: std::sync::OnceLock::new(),
        dsp_root: std::sync::OnceLock::new(),
        stop: CancellationToken::new(),
    }))
}

async fn listen(address: SocketAddr) -> Result<tokio::net::TcpListener, Error> {
    listener::bind(address)
        .await
        .map_err(|error| Refusal::new(&CANNOT_LISTEN, format!("{address}: {error}")).into())
}

fn serve_peers(node: &Arc<Node>, socket: tokio::net::TcpListener, tasks: &mut JoinSet<()>) {
    let limits = node.config.load().limits;
    let for_config = node.clone();
    let on_refused = Arc::new(|remote: SocketAddr, error: &std::io::Error| {
        let refusal = crate::transport::tls_refusal(error);
        let code = refusal.as_ref().map_or("identity/handshake-failed", |refusal| refusal.code.code);
        let detail = refusal.map_or_else(|| error.to_string(), |refusal| refusal.detail);
        tracing::warn!(%remote, code, detail, "refused a TLS handshake");
        metrics::refused(code);
    });
    let accepted = listener::accept(
        socket,
        move || for_config.identity.server_config(),
        node.connections.clone(),
        listener::AcceptLimits {
            connections: limits.connections as usize,
            handshake: limits.handshake,
            exchange: Some(limits.handshake),
        },
        on_refused,
        node.stop.clone(),
    );
    let limit = limits.message_bytes as usize;
    macro_rules! limited {
        ($server:ident($service:expr)) => {
            $server::new($service).max_decoding_message_size(limit).max_encoding_message_size(limit)
        };
    }
    let router = Server::builder()
        .max_frame_size(Some(data_frame_bytes()))
        .max_concurrent_streams(Some(MAX_STREAMS_PER_CONNECTION))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(limited!(VersionServiceServer(Versions)))
        .add_service(limited!(IdentityServiceServer(Exchange(node.clone()))))
        .add_service(limited!(NegotiationProviderServiceServer(As(node.clone(), Role::Provider))))
        .add_service(limited!(NegotiationConsumerServiceServer(As(node.clone(), Role::Consumer))))
        .add_service(limited!(TransferProviderServiceServer(As(node.clone(), Role::Provider))))
        .add_service(limited!(TransferConsumerServiceServer(As(node.clone(), Role::Consumer))))
        .add_service(limited!(NoticeServiceServer(Notices(node.clone()))))
        .add_service(limited!(CatalogServiceServer(catalogue_service::Catalog(node.clone()))))
        .add_service(limited!(ReplicationServiceServer(catalogue_service::Replication(node.clone()))))
        .add_service(limited!(DataServiceServer(provider::DataPlane(node.clone()))))
        .add_service(limited!(LeaseServiceServer(Leases(node.clone()))));
    let stop = node.stop.clone();
    tasks.spawn(async move {
        let served =
            router.serve_with_incoming_shutdown(ReceiverStream::new(accepted), stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "the peers' listener ended");
        }
    });
}

/// Calls at once on one connection: a busy peer has its messages and a few streams under way.
const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// Connections whose other end is gone are noticed after this time.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Why the node is not ready to serve, if it is not.
pub fn not_ready_because(node: &Node) -> Vec<String> {
    let now: UnixMillis = node.now();
    let mut reasons = Vec::new();
    if let Err(refusal) = node.clock.trusted_now() {
        reasons.push(refusal.to_string());
    }
    if node.identity.certificate().not_after() <= now {
        reasons.push("the certificate has expired".to_owned());
    }
    if node.statement.load().statement.expires <= now {
        reasons.push("the membership statement has expired".to_owned());
    }
    if node.identity.trust().lists_count_until().is_none_or(|until| until < now) {
        reasons.push("the revocation lists are too old: every peer is refused".to_owned());
    }
    if node.stop.is_cancelled() {
        reasons.push("stopping".to_owned());
    }
    reasons
}
