//! Held data for programs of this host: read-only HTTP on a loopback address, by session and token.
//!
//! `GET /sessions/ID/objects/PATH` with ranges, as curl, pandas and DuckDB ask. Every byte passes the session, which
//! decides again; when it ends, the connection is cut, and the next request tells why.

mod answer;
pub(crate) mod checks;
mod owner;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use control_plane::Refusal;
use futures::FutureExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::node::Node;
use crate::run::CANNOT_LISTEN;

pub use answer::{CODES as ANSWER_CODES, TOO_MANY_READERS, object_url};
pub use checks::CODES as CHECK_CODES;

/// Connections at once: some parallel readers for each of a few sessions.
const MAX_CONNECTIONS: usize = 256;
/// Headers of a request are small and come at once; the wait for a next request on a kept connection, too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// A pause after a failed accept, so that a process out of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The two ends of one accepted connection, and how it is cut.
#[derive(Clone)]
pub struct Link {
    /// The program's end.
    pub remote: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
    /// Cuts it, whatever is still to be sent.
    pub cut: CancellationToken,
}

/// Listens as `listeners.use` says, unless it is off; gives the address as bound.
pub async fn start(node: &Arc<Node>, tasks: &mut JoinSet<()>) -> Result<Option<SocketAddr>, Error> {
    let Some(address) = node.config.load().listeners.use_endpoint else { return Ok(None) };
    let cannot = |error: std::io::Error| Refusal::new(&CANNOT_LISTEN, format!("{address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(Error::ours)?;
    node.use_endpoint.set(bound).map_err(|_| Error::ours("the use endpoint is served twice"))?;
    tasks.spawn(serve(node.clone(), listener, connection));
    Ok(Some(bound))
}

/// Accepts until the node stops, and hands each connection on.
pub(crate) async fn serve<C, F>(node: Arc<Node>, listener: TcpListener, connection: C)
where
    C: Fn(Arc<Node>, TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = node.stop.cancelled() => return,
            (place, accepted) = accepted => match accepted {
                Ok((stream, remote)) => {
                    let served = connection(node.clone(), stream, remote);
                    tokio::spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "an endpoint for programs of this host cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// One connection, until it ends, is cut, or we stop.
async fn connection(node: Arc<Node>, stream: TcpStream, remote: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    let link = Link { remote, local, cut: CancellationToken::new() };
    let (stop, cut) = (node.stop.clone(), link.cut.clone());
    let service = service_fn(move |request| {
        let (node, link) = (node.clone(), link.clone());
        // Boxed, so that the connection can be taken apart when it is cut.
        async move { Ok::<_, Infallible>(answer::to(&node, &link, request).await) }.boxed()
    });
    let mut served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = &mut served => {
            if let Err(error) = ended {
                tracing::debug!(error = &error as &dyn std::error::Error, "a connection of the use endpoint ended");
            }
            return;
        }
        () = cut.cancelled() => {}
        () = stop.cancelled() => {}
    }
    // What lies in buffers was released, but need not arrive: a reset drops it.
    let stream = served.into_parts().io.into_inner();
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection is closed without a reset");
    }
}
