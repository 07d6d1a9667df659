//! Dialling peers: only configured or stated addresses, one TLS connection each, identities exchanged before use.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use control_plane::Refusal;
use control_plane::ids::ParticipantId;
use hyper_util::rt::TokioIo;
use identity::VerifiedParticipant;
use proto::identity::identity_service_client::IdentityServiceClient;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::connection::{Connection, PeerStream};
use super::listener::READ_BUFFER_BYTES;
use crate::error::Error;
use crate::node::Node;
use crate::{peers, restored};

control_plane::refusal_codes! {
    UNREACHABLE = "peer/unreachable", Unavailable,
        "the peer cannot be reached at any of its addresses", "無法透過任何位址連接對方", "无法通过任何地址连接对方",
        clause "security model: who is who", next "`fairlead doctor peer ADDRESS` shows which step fails";
    NO_ADDRESS = "peer/no-address", NotFound,
        "no address of this participant is configured or stated", "沒有設定或聲明此參與者的位址",
        "没有配置或声明该参与者的地址",
        clause "security model: who is who", next "add the participant under [[peers]] in the settings";
    REFUSED_BY_PEER = "peer/refused-us", Identity,
        "the peer refused our identity", "對方拒絕了我方的身分", "对方拒绝了我方的身份",
        clause "proto/fairlead/identity: Exchange", next "ask the peer's operator for the reason in its log; `fairlead doctor self` checks our side";
}

/// A peer that does not accept a connection in this time is tried at its next address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// TLS and the exchange of identities together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer to a control call that is awaited.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection whose other end is gone is noticed after twice this time.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Frames of data connections: large frames cost less on downloads (docs/benchmarks.md).
const DATA_FRAME_BYTES: u32 = 1024 * 1024;
/// Windows of data connections: what 40 ms of distance need at several hundred MiB/s.
const DATA_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Addresses tried of what one name resolves to.
const MAX_RESOLVED: usize = 8;

/// What a connection is for; control calls do not share one with streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Short calls.
    Control,
    /// Streams of bytes.
    Data,
}

/// A dialled connection on which both sides know each other.
pub struct Link {
    /// Calls go here.
    pub channel: Channel,
    /// Who answers.
    pub peer: Arc<VerifiedParticipant>,
    /// The TLS connection below.
    pub connection: Arc<Connection>,
}

impl Link {
    /// Closes the connection.
    pub fn close(&self) {
        self.connection.close();
    }
}

type Slot = Arc<tokio::sync::Mutex<Dialled>>;

/// What the last dialling of one connection led to.
#[derive(Default)]
struct Dialled {
    link: Option<Arc<Link>>,
    failed: Option<(Instant, Refusal)>,
}

/// After a failed dialling, everybody who waits for the same connection is told so at once for this long: a peer
/// that does not answer must not hold up a queue of callers one timeout each.
const FAILURE_HOLDS: Duration = Duration::from_millis(500);

/// Connections for streams to one peer: streams of one connection share a lock and a TLS state, a few connections
/// use the cores better (docs/benchmarks.md).
const DATA_CONNECTIONS: usize = 2;

/// Connections that we dialled: for each peer one for control and a few for data.
#[derive(Default)]
pub struct Links {
    slots: Mutex<HashMap<(ParticipantId, usize), Slot>>,
    next_data: AtomicUsize,
}

impl Links {
    /// The control connection to `participant`, dialled if there is none.
    pub async fn control(&self, node: &Arc<Node>, participant: &ParticipantId) -> Result<Arc<Link>, Error> {
        self.link(node, participant, 0, Purpose::Control).await
    }

    /// One of the data connections to `participant`, dialled if there is none.
    pub async fn data(&self, node: &Arc<Node>, participant: &ParticipantId) -> Result<Arc<Link>, Error> {
        let turn = self.next_data.fetch_add(1, Ordering::Relaxed) % DATA_CONNECTIONS;
        self.link(node, participant, turn + 1, Purpose::Data).await
    }

    async fn link(
        &self,
        node: &Arc<Node>,
        participant: &ParticipantId,
        number: usize,
        purpose: Purpose,
    ) -> Result<Arc<Link>, Error> {
        node.require_not_suspended(participant)?;
        let slot = self.slots().entry((participant.clone(), number)).or_default().clone();
        let mut current = slot.lock().await;
        if let Some(link) = &current.link
            && !link.connection.closed().is_cancelled()
            && link.peer.valid_until() > node.now()
        {
            return Ok(link.clone());
        }
        if let Some((at, refusal)) = &current.failed
            && at.elapsed() < FAILURE_HOLDS
        {
            return Err(refusal.clone().into());
        }
        match dial(node, participant, purpose).await {
            Ok(link) => {
                let link = Arc::new(link);
                *current = Dialled { link: Some(link.clone()), failed: None };
                Ok(link)
            }
            Err(error) => {
                let refusal = error.into_refusal();
                *current = Dialled { link: None, failed: Some((Instant::now(), refusal.clone())) };
                Err(refusal.into())
            }
        }
    }

    /// Forgets a connection that failed, so that the next call dials anew.
    pub fn failed(&self, link: &Link) {
        link.close();
    }

    /// Closes every connection that we dialled to `participant`.
    pub async fn close_of(&self, participant: &ParticipantId) {
        let of_peer =
            |(key, slot): (&(ParticipantId, usize), &Slot)| (key.0 == *participant).then(|| slot.clone());
        let slots: Vec<Slot> = self.slots().iter().filter_map(of_peer).collect();
        for slot in slots {
            if let Some(link) = slot.lock().await.link.take() {
                link.close();
            }
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<(ParticipantId, usize), Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dials `participant` at its addresses in order and exchanges identities.
pub async fn dial(node: &Arc<Node>, participant: &ParticipantId, purpose: Purpose) -> Result<Link, Error> {
    let addresses = peers::addresses(node, participant).await?;
    if addresses.is_empty() {
        return Err(Refusal::new(&NO_ADDRESS, participant.as_str()).into());
    }
    let mut causes = Vec::new();
    for address in &addresses {
        match dial_at(node, participant, address, purpose).await {
            Ok(link) => return Ok(link),
            // An identity problem does not go away at another address of the same participant.
            Err(Error::Refused(refusal)) if refusal.code.fault == control_plane::Fault::Identity => {
                return Err(refusal.into());
            }
            Err(error) => causes.push(format!("{address}: {error}")),
        }
    }
    Err(Refusal::new(&UNREACHABLE, format!("`{participant}`: {}", causes.join("; "))).into())
}

async fn dial_at(
    node: &Arc<Node>,
    participant: &ParticipantId,
    address: &str,
    purpose: Purpose,
) -> Result<Link, Error> {
    let (socket, remote) = connect(address).await.map_err(Error::ours)?;
    let config = node.identity.client_config(participant)?;
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(socket, config))
        .await
        .map_err(|_| Error::ours("the TLS handshake took too long"))?
        .map_err(|error| tls_refusal(participant, &error))?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let connection = Connection::new(remote, chain.iter().map(|der| der.clone().into_owned()).collect());
    connection.bind(stream.get_ref().1);
    let channel = channel(PeerStream::new(stream, connection.clone()), purpose).await?;
    let peer = tokio::time::timeout(HANDSHAKE_TIMEOUT, exchange(node, &channel, &connection))
        .await
        .map_err(|_| Error::ours("the exchange of identities took too long"))??;
    node.connections.register(&connection);
    Ok(Link { channel, peer: Arc::new(peer), connection })
}

/// Resolves and connects; each resolved address is tried in the resolver's order.
pub async fn connect(address: &str) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name resolves to no address");
    for remote in tokio::net::lookup_host(address).await?.take(MAX_RESOLVED) {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(remote)).await {
            Ok(Ok(socket)) => {
                socket.set_nodelay(true)?;
                return Ok((socket, remote));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(last)
}

/// A TLS stream that we dialled.
pub type DialledStream = TlsStream<BufReader<TcpStream>>;

/// TLS as a client, with our certificate.
pub async fn handshake(socket: TcpStream, config: Arc<rustls::ClientConfig>) -> io::Result<DialledStream> {
    let socket = BufReader::with_capacity(READ_BUFFER_BYTES, socket);
    TlsConnector::from(config).connect(identity::tls::server_name(), socket).await
}

/// A gRPC channel over exactly this stream: when it ends, so does the channel, and the next one is dialled and
/// verified anew.
pub async fn channel(stream: PeerStream<DialledStream>, purpose: Purpose) -> Result<Channel, Error> {
    let mut endpoint = Endpoint::from_static("http://participant.invalid")
        .http2_adaptive_window(false)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    endpoint = match purpose {
        Purpose::Control => endpoint.timeout(CALL_TIMEOUT),
        Purpose::Data => endpoint
            .max_frame_size(DATA_FRAME_BYTES)
            .initial_stream_window_size(DATA_WINDOW_BYTES)
            .initial_connection_window_size(DATA_WINDOW_BYTES),
    };
    let once = Mutex::new(Some(stream));
    let connector = tower::service_fn(move |_| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(
            stream
                .map(TokioIo::new)
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "this connection has ended")),
        )
    });
    endpoint.connect_with_connector(connector).await.map_err(Error::ours)
}

/// The largest HTTP/2 frame that data connections take.
pub const fn data_frame_bytes() -> u32 {
    DATA_FRAME_BYTES
}

/// Both sides' statements: ours is told, theirs is verified against the certificate of this very connection.
async fn exchange(
    node: &Arc<Node>,
    channel: &Channel,
    connection: &Arc<Connection>,
) -> Result<VerifiedParticipant, Error> {
    let request = peers::exchange_request(node).await?;
    let answer = IdentityServiceClient::new(channel.clone()).exchange(request).await.map_err(|status| {
        let told = proto::status::from_status(&status);
        match told.fault {
            // A peer that has suspended us knows us, and says so.
            control_plane::Fault::Policy => Error::Refused(Refusal::new(&REFUSED_BY_PEER, told.text)),
            control_plane::Fault::Identity => {
                // Our statement may have been replaced: fetching the newest is what helps.
                node.refresh_lists.notify_one();
                Error::Refused(Refusal::new(&REFUSED_BY_PEER, told.text))
            }
            _ => match connection.refused() {
                Some(refusal) => refusal.into(),
                None => Error::ours(format!("{}: {}", status.code(), root_cause(&status))),
            },
        }
    })?;
    let answer = answer.into_inner();
    let peer = node.identity.verify_participant(&connection.chain, &answer.statement, node.now())?;
    peers::remember(node, &peer, answer.revocation_list_number).await?;
    peers::remember_enforces(node, peer.id(), answer.enforces).await?;
    restored::peer_reached(node, peer.id(), answer.your_ledger_size_seen).await?;
    connection.verified(peer.clone());
    Ok(peer)
}

/// Why TLS failed, with the reason that this side knows.
fn tls_refusal(participant: &ParticipantId, error: &io::Error) -> Error {
    match super::tls_refusal(error) {
        Some(Refusal { code, detail }) => Refusal::new(code, format!("`{participant}`: {detail}")).into(),
        None => Error::ours(error),
    }
}

/// The innermost cause of an error: what the operating system or TLS said.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
