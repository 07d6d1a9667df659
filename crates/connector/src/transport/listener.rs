//! The peers' listener: TCP over IPv6, TLS with a mandatory client certificate, gRPC on top.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Connections, PeerStream};

/// Handshakes under way at once: each costs about a millisecond of one core and some 50 KiB.
const MAX_HANDSHAKES: usize = 256;

/// Accepted streams that wait for the server to take them.
const ACCEPTED_QUEUE: usize = 64;

/// rustls reads 4 KiB at a time; larger reads from the socket save system calls on streams.
pub const READ_BUFFER_BYTES: usize = 128 * 1024;

/// Bounds of accepting, from the settings.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// Connections open at once.
    pub connections: usize,
    /// A handshake that takes longer is a stranger holding a place.
    pub handshake: Duration,
    /// A connection whose participant is not verified by then is closed; `None` where strangers are served.
    pub exchange: Option<Duration>,
}

/// A server-side stream of a peer.
pub type Accepted = PeerStream<TlsStream<BufReader<TcpStream>>>;

/// Who tells why a handshake failed: the reason is for our log, the peer only sees the TLS alert.
pub type OnRefused = Arc<dyn Fn(SocketAddr, &io::Error) + Send + Sync>;

/// Binds `address`; an IPv6 wildcard takes IPv4 too, as the operating system is set.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Accepts until `stop`; `config` is asked for at each connection, so that a reload takes effect at once.
pub fn accept(
    listener: TcpListener,
    config: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
    connections: Arc<Connections>,
    limits: AcceptLimits,
    on_refused: OnRefused,
    stop: CancellationToken,
) -> mpsc::Receiver<io::Result<Accepted>> {
    let (accepted, streams) = mpsc::channel(ACCEPTED_QUEUE);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (socket, remote) = tokio::select! {
                () = stop.cancelled() => return,
                next = listener.accept() => match next {
                    Ok(next) => next,
                    Err(error) => {
                        // Out of file descriptors, typically: wait for some to be closed, keep the listener.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            if connections.open().len() >= limits.connections {
                let full = io::Error::new(io::ErrorKind::QuotaExceeded, "limits.connections are open");
                on_refused(remote, &full);
                continue;
            }
            let acceptor = TlsAcceptor::from(config());
            let (accepted, connections, on_refused) =
                (accepted.clone(), connections.clone(), on_refused.clone());
            tokio::spawn(async move {
                match handshake(acceptor, socket, remote, &connections, limits).await {
                    Ok(stream) => drop(accepted.send(Ok(stream)).await),
                    Err(error) => on_refused(remote, &error),
                }
                drop(place);
            });
        }
    });
    streams
}

async fn handshake(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    remote: SocketAddr,
    connections: &Connections,
    limits: AcceptLimits,
) -> io::Result<Accepted> {
    socket.set_nodelay(true)?;
    let socket = BufReader::with_capacity(READ_BUFFER_BYTES, socket);
    let stream = tokio::time::timeout(limits.handshake, acceptor.accept(socket))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long"))??;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let connection = Connection::new(remote, chain);
    connection.bind(stream.get_ref().1);
    connections.register(&connection);
    if let Some(longest) = limits.exchange {
        tokio::spawn(close_unless_verified(Arc::downgrade(&connection), longest));
    }
    Ok(PeerStream::new(stream, connection))
}

/// A handshake alone earns no place for longer.
async fn close_unless_verified(connection: Weak<Connection>, longest: Duration) {
    tokio::time::sleep(longest).await;
    if let Some(connection) = connection.upgrade().filter(|connection| connection.participant().is_none()) {
        tracing::warn!(remote = %connection.remote, "closed a connection on which no identities were exchanged");
        connection.close();
    }
}
