//! Tables among held data for programs of this host: Arrow Flight on a loopback address, by a session's token.
//!
//! The same sessions, checks and reads as the HTTP endpoint beside it; here the connector decodes CSV and Parquet, so
//! that stock clients get record batches. Every byte passes the session, and each batch is decided again before it is
//! handed out; when the session ends, so do its streams, with a status that tells why.

mod service;
mod source;
mod table;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use control_plane::Refusal;
use data_plane::TableFormat;
use futures::FutureExt as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use proto::status::{Audience, to_status};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tower::Service as _;

use crate::data::sessions::Session;
use crate::error::Error;
use crate::node::Node;
use crate::run::CANNOT_LISTEN;
use crate::use_endpoint::{Link, checks, serve};

use service::Tables;

control_plane::refusal_codes! {
    NOT_SUPPORTED = "use/not-over-flight", Input,
        "this call of Arrow Flight is not served here", "此處不提供這項 Arrow Flight 呼叫", "此处不提供这项 Arrow Flight 调用",
        clause "Arrow Flight", next "use ListFlights, GetFlightInfo, GetSchema and DoGet, with the session's token in `authorization`";
    NO_SUCH_TABLE = "use/no-such-table", NotFound,
        "the session has no object of this name", "會話沒有此名稱的物件", "会话没有此名称的对象",
        clause "Arrow Flight", next "ListFlights tells the session's tables; `fairlead session show` all of its objects";
    TOO_MANY_TABLES = "limit/tables-read", Limit,
        "too many tables are read at once", "同時讀取的表格過多", "同时读取的表格过多",
        clause "Arrow Flight", next "let some finish";
}

/// Tables decoded at once by all sessions: each holds a thread, of which the runtime has some hundred.
const MAX_TABLES: usize = 64;
/// Calls at once on one connection.
const MAX_STREAMS: u32 = 32;
/// Bytes of a call's headers; a token is short.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Bytes of a request: a name.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Bytes of a connection that wait to be sent: what a stop can no longer hold back.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// A client speaks first, and at once.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two questions whether an idle client is still there, and how long its answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Listens as `listeners.flight` says, unless it is off; gives the address as bound.
pub async fn start(node: &Arc<Node>, tasks: &mut JoinSet<()>) -> Result<Option<SocketAddr>, Error> {
    let Some(address) = node.config.load().listeners.flight else { return Ok(None) };
    let cannot = |error: std::io::Error| Refusal::new(&CANNOT_LISTEN, format!("{address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(Error::ours)?;
    node.use_flight.set(bound).map_err(|_| Error::ours("Arrow Flight is served twice"))?;
    let places = Arc::new(Semaphore::new(MAX_TABLES));
    let each = move |node, stream, remote| connection(node, stream, remote, places.clone());
    tasks.spawn(serve(node.clone(), listener, each));
    Ok(Some(bound))
}

/// Where tables are read; empty while that is off.
pub fn url(node: &Node) -> String {
    node.use_flight.get().map(|bound| format!("grpc://{bound}")).unwrap_or_default()
}

/// The ticket of an object: its name, which is worth nothing without the session's token. `None` where it is no table.
pub fn ticket(name: &str) -> Option<String> {
    TableFormat::of(name).map(|_| name.to_owned())
}

/// One connection, until it ends, is cut, or we stop.
async fn connection(node: Arc<Node>, stream: TcpStream, remote: SocketAddr, places: Arc<Semaphore>) {
    let Ok(local) = stream.local_addr() else { return };
    let first = tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut [0])).await;
    // A second handle, with which the connection can be reset while HTTP/2 has the first.
    let (Ok(Ok(_)), Ok(()), Ok(handle)) =
        (first, stream.set_nodelay(true), stream.as_fd().try_clone_to_owned())
    else {
        return;
    };
    let link = Link { remote, local, cut: CancellationToken::new() };
    let (stop, cut) = (node.stop.clone(), link.cut.clone());
    let tables = Tables { node: node.clone(), cut: cut.clone(), places };
    let flight = FlightServiceServer::new(tables).max_decoding_message_size(MAX_REQUEST_BYTES);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let judged = judge(&node, &link, &request);
        let mut flight = flight.clone();
        async move {
            match judged {
                Ok(session) => {
                    request.extensions_mut().insert(session);
                    flight.call(request).await
                }
                Err(refusal) => Ok::<_, Infallible>(refused(&refusal).into_http()),
            }
        }
        .boxed()
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = served => {
            if let Err(error) = ended {
                tracing::debug!(error = &error as &dyn std::error::Error, "a connection of Arrow Flight ended");
            }
            return;
        }
        () = cut.cancelled() => {}
        () = stop.cancelled() => {}
    }
    // What lies in buffers was released, but need not arrive: a reset drops it.
    if let Err(error) = rustix::net::sockopt::set_socket_linger(&handle, Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection is closed without a reset");
    }
}

/// The session of a call, by the checks of the HTTP endpoint.
fn judge(node: &Node, link: &Link, request: &Request<Incoming>) -> Result<Arc<Session>, Refusal> {
    checks::require_local(request.headers(), request.uri(), link.local)?;
    checks::session_of_token(node, link, request.headers())
}

/// A refusal as clients show it: their users see the message, and few read the details.
fn refused(refusal: &Refusal) -> Status {
    let code = refusal.code;
    tracing::info!(code = code.code, detail = %refusal.detail, "refused a call of Arrow Flight");
    let typed = to_status(refusal, Audience::Operator);
    let grpc = match code {
        _ if code == &NOT_SUPPORTED => Code::Unimplemented,
        _ if code == &checks::OTHER_USER => Code::PermissionDenied,
        _ => typed.code(),
    };
    let mut message = format!("{}: {}", code.code, code.en);
    if !refusal.detail.is_empty() {
        message.push_str(&format!(" ({})", refusal.detail));
    }
    message.push_str(&format!("; next: {}", code.next));
    Status::with_details(grpc, message, typed.details().to_vec().into())
}
