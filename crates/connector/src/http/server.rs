//! The listener of the Dataspace Protocol over HTTP: bounded requests in, the drivers' answers out.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use control_plane::ids::{CallbackAddress, ConsumerPid, ProviderPid};
use control_plane::negotiation::{Message as NegotiationMessage, OfferOpening, RequestOpening};
use control_plane::pids::{PID_MISMATCH, Role};
use control_plane::transfer::Message as TransferMessage;
use control_plane::{Refusal, negotiation, transfer};
use dsp::Speaking;
use dsp::error::{Area, Told};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::server::Connected as _;
use tracing::Instrument as _;

use super::route::{Route, TOKEN};
use super::{catalogue, client, data, encoding, identity, range};
use crate::caller::Caller;
use crate::config::{DspHttp, DspIdentity, Proof};
use crate::driver::{negotiations, transfers};
use crate::error::Error;
use crate::node::Node;
use crate::run::CANNOT_LISTEN;
use crate::telemetry::{RequestId, metrics};
use crate::transport::{Connection, listener};

control_plane::refusal_codes! {
    NO_SUCH_PATH = "dsp/no-such-path", NotFound,
        "the Dataspace Protocol has nothing at this path", "資料空間協定在此路徑沒有任何內容", "数据空间协议在此路径没有任何内容",
        clause "DSP 2025-1, HTTPS binding", next "read the version document for the base path";
    FILTER = "dsp/filter-not-supported", Input,
        "the catalogue takes no filter", "目錄不支援篩選條件", "目录不支持筛选条件",
        clause "DSP 2025-1, 1.7", next "ask without `filter` and search what you get";
    BODY_TOO_LARGE = "limit/message-bytes", Limit,
        "the message is larger than this connector takes, or came too slowly",
        "訊息超過此連接器所接受的大小或傳送過慢", "消息超过此连接器所接受的大小或传送过慢",
        clause "limits.message_bytes", next "send a smaller message";
}

/// The protocol inside TLS (RFC 7301).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// Headers of a request are small and come at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A message of a few MiB over a slow line.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A pause after a failed accept, so that a process out of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens as `[dsp_http]` says, if it is there.
pub async fn start(node: &Arc<Node>, tasks: &mut JoinSet<()>) -> Result<(), Error> {
    let config = node.config.load_full();
    let Some(settings) = &config.dsp_http else { return Ok(()) };
    let socket = listener::bind(settings.listen)
        .await
        .map_err(|error| Refusal::new(&CANNOT_LISTEN, format!("{}: {error}", settings.listen)))?;
    let bound = socket.local_addr().map_err(Error::ours)?;
    let root = settings.base_url.clone().unwrap_or_else(|| format!("http://{bound}"));
    let mode = match settings.identity {
        DspIdentity::Members(Proof::MutualTls) => "mutual-tls",
        DspIdentity::Members(Proof::Bearer) => "bearer",
        DspIdentity::Test(_) => "test",
    };
    tracing::info!(base_url = %root, listen = %bound, identity = mode, "serving the Dataspace Protocol over HTTP");
    node.dsp_root.set(root).map_err(|_| Error::ours("the Dataspace Protocol is served twice"))?;
    let node = node.clone();
    match settings.identity {
        DspIdentity::Test(_) => {
            let places = config.limits.connections as usize;
            tasks.spawn(serve_plainly(node, socket, places));
        }
        DspIdentity::Members(_) => {
            let limits = config.limits;
            let limits = listener::AcceptLimits {
                connections: limits.connections as usize,
                handshake: limits.handshake,
                // Each request brings its credential; the wait for a request's head is bounded.
                exchange: None,
            };
            tasks.spawn(serve_members(node, socket, limits));
        }
    }
    Ok(())
}

/// Everybody on this machine, one by one up to the limit; for tests.
async fn serve_plainly(node: Arc<Node>, socket: TcpListener, places: usize) {
    let places = Arc::new(Semaphore::new(places));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (place, socket.accept().await)
        };
        tokio::select! {
            () = node.stop.cancelled() => return,
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let node = node.clone();
                    tokio::spawn(async move {
                        serve(node, stream, None).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the HTTP listener cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Members of our data space, each with its certificate; without one only where tokens are taken.
async fn serve_members(node: Arc<Node>, socket: TcpListener, limits: listener::AcceptLimits) {
    let for_config = node.clone();
    let config = move || {
        let identity = &for_config.identity;
        let tokens = for_config.config.load().takes_bearer_tokens();
        let config = if tokens { identity.token_server_config() } else { identity.server_config() };
        let mut config = (*config).clone();
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        Arc::new(config)
    };
    let on_refused = Arc::new(|remote: SocketAddr, error: &io::Error| {
        let refusal = crate::transport::tls_refusal(error);
        let code = refusal.as_ref().map_or("identity/handshake-failed", |refusal| refusal.code.code);
        let detail = refusal.map_or_else(|| error.to_string(), |refusal| refusal.detail);
        tracing::warn!(%remote, code, detail, "refused a TLS handshake");
        metrics::refused(code);
    });
    let stop = node.stop.clone();
    let mut accepted =
        listener::accept(socket, config, node.connections.clone(), limits, on_refused, stop.clone());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            next = accepted.recv() => match next {
                Some(Ok(stream)) => {
                    let connection = stream.connect_info();
                    tokio::spawn(serve(node.clone(), stream, Some(connection)));
                }
                Some(Err(_)) => {}
                None => return,
            },
        }
    }
}

/// One connection, until it ends or we do; a request under way is answered first.
async fn serve<S>(node: Arc<Node>, stream: S, connection: Option<Arc<Connection>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = node.stop.clone();
    let service = service_fn(move |request| {
        let (node, connection) = (node.clone(), connection.clone());
        async move { Ok::<_, Infallible>(answer(&node, connection.as_ref(), request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "an HTTP connection ended");
    }
}

/// What a refused request told, for the error object.
struct No {
    error: Error,
    told: Told,
}

impl<E: Into<Error>> From<E> for No {
    fn from(error: E) -> Self {
        Self { error: error.into(), told: Told::default() }
    }
}

async fn answer(
    node: &Arc<Node>,
    connection: Option<&Arc<Connection>>,
    request: Request<Incoming>,
) -> Response {
    let config = node.config.load_full();
    let Some(settings) = &config.dsp_http else {
        return refused(Area::Catalog, Refusal::new(&super::NOT_SPOKEN, "").into());
    };
    let root = settings.base_url.as_deref().unwrap_or_default();
    let root = root.parse::<hyper::Uri>().map_or_else(|_| String::new(), |uri| uri.path().to_owned());
    let Some(route) = Route::of(request.method(), request.uri(), root.trim_end_matches('/')) else {
        return refused(Area::Catalog, Refusal::new(&NO_SUCH_PATH, request.uri().path()).into());
    };
    let area = route.area();
    match routed(node, settings, connection, route, request).await {
        Ok(response) => response,
        Err(no) => refused(area, no),
    }
}

async fn routed(
    node: &Arc<Node>,
    settings: &DspHttp,
    connection: Option<&Arc<Connection>>,
    route: Route,
    request: Request<Incoming>,
) -> Result<Response, No> {
    match &route {
        Route::Version => return Ok(json(StatusCode::OK, &dsp::version::write(node.us.as_str()))),
        // The credential of the transfer says who reads.
        Route::Data(pid, index) => return Ok(data::pull(node, pid, *index, request.headers()).await?),
        Route::Catalog { .. }
        | Route::Dataset(_)
        | Route::Negotiation(_)
        | Route::NegotiationMessage(..)
        | Route::Transfer(_)
        | Route::TransferMessage(..) => {}
    }
    let caller = identity::caller(node, settings, connection, request.headers()).await?;
    let gzip = encoding::accepts_gzip(request.headers());
    match route {
        Route::Version | Route::Data(..) => Err(Refusal::new(&NO_SUCH_PATH, "").into()),
        Route::Catalog { token } => {
            let asked = body(node, request).await?;
            let page = catalogue::page(node, &caller, &asked, &token)?;
            let mut response = shown(&page.catalog, gzip)?;
            if let Some(next) = page.next {
                let token = utf8_percent_encode(&next, NON_ALPHANUMERIC);
                let link = format!("<{}/catalog/request?{TOKEN}={token}>; rel=\"next\"", super::base(node)?);
                response.headers_mut().insert(header::LINK, link.parse().map_err(Error::ours)?);
            }
            Ok(response)
        }
        Route::Dataset(id) => Ok(shown(&catalogue::dataset(node, &caller, &id)?, gzip)?),
        Route::Negotiation(pid) => {
            let found = negotiation_of(node, &caller, &pid).await?;
            Ok(json(StatusCode::OK, &negotiation_answer(&negotiations::Answer::of(&found))))
        }
        Route::Transfer(pid) => {
            let found = transfer_of(node, &caller, &pid).await?;
            Ok(json(StatusCode::OK, &transfer_answer(&transfers::Answer::of(&found))))
        }
        Route::NegotiationMessage(kind, pid) => {
            let value = body(node, request).await?;
            let told = Told::by(&value);
            let taken = take_negotiation(node, settings, &caller, kind, pid, &value).await;
            taken.map_err(|error| No { error, told })
        }
        Route::TransferMessage(kind, pid) => {
            let value = body(node, request).await?;
            let told = Told::by(&value);
            let taken = take_transfer(node, settings, &caller, kind, pid, &value).await;
            taken.map_err(|error| No { error, told })
        }
    }
}

async fn take_negotiation(
    node: &Arc<Node>,
    settings: &DspHttp,
    caller: &Caller,
    kind: dsp::negotiation::Kind,
    pid: Option<String>,
    value: &Value,
) -> Result<Response, Error> {
    // Which role a message is for is known from the process, and from the path where it opens one.
    let role = match (&pid, kind) {
        (Some(pid), _) => negotiation_of(node, caller, pid).await?.role(),
        (None, dsp::negotiation::Kind::Offer) => Role::Consumer,
        (None, _) => Role::Provider,
    };
    let names = super::names(node, caller.id())?;
    let message = dsp::negotiation::read(kind, value, Speaking { names: &names, role }, &*node.policies)?;
    let ours = match role {
        Role::Provider => message.provider_pid().map(ProviderPid::as_str),
        Role::Consumer => message.consumer_pid().map(ConsumerPid::as_str),
    };
    require_same_pid(pid.as_deref(), ours)?;
    if let Some(callback) = callback(&message) {
        client::require_usable(settings, callback.as_str())?;
    }
    let (name, opens) = (message.kind(), message.opens());
    let span = RequestId::carried_or_fresh(Some(message.id().as_str())).span("negotiation");
    let answered = async {
        let answer = negotiations::receive(node, caller, role, message).await?;
        metrics::negotiation_step(role.as_str(), answer.state.as_str());
        tracing::info!(peer = %caller.id(), received = name.as_str(), state = %answer.state, %role, "negotiation");
        Ok::<_, Error>(answer)
    };
    let answer = answered.instrument(span).await?;
    Ok(json(created(opens), &negotiation_answer(&answer)))
}

async fn take_transfer(
    node: &Arc<Node>,
    settings: &DspHttp,
    caller: &Caller,
    kind: dsp::transfer::Kind,
    pid: Option<String>,
    value: &Value,
) -> Result<Response, Error> {
    let role = match &pid {
        Some(pid) => transfer_of(node, caller, pid).await?.role(),
        None => Role::Provider,
    };
    let names = super::names(node, caller.id())?;
    let message = dsp::transfer::read(kind, value, Speaking { names: &names, role })?;
    let ours = match role {
        Role::Provider => message.provider_pid().map(ProviderPid::as_str),
        Role::Consumer => Some(message.consumer_pid().as_str()),
    };
    require_same_pid(pid.as_deref(), ours)?;
    if let TransferMessage::Request(request) = &message {
        client::require_usable(settings, request.callback.as_str())?;
    }
    let (name, opens) = (message.kind(), pid.is_none());
    let span = RequestId::carried_or_fresh(Some(message.id().as_str())).span("transfer");
    let answered = async {
        let answer = transfers::receive(node, caller, role, message).await?;
        metrics::transfer_step(role.as_str(), answer.state.as_str());
        tracing::info!(peer = %caller.id(), received = name.as_str(), state = %answer.state, %role, "transfer");
        Ok::<_, Error>(answer)
    };
    let answer = answered.instrument(span).await?;
    Ok(json(created(opens), &transfer_answer(&answer)))
}

/// The pid of a path is the receiver's; the body must name the same, and none where there is none.
fn require_same_pid(path: Option<&str>, message: Option<&str>) -> Result<(), Refusal> {
    if path == message {
        return Ok(());
    }
    let shown = |pid: Option<&str>| pid.map_or_else(|| "none".to_owned(), control_plane::ids::printable);
    Err(Refusal::new(&PID_MISMATCH, format!("path {}, message {}", shown(path), shown(message))))
}

const fn callback(message: &NegotiationMessage) -> Option<&CallbackAddress> {
    match message {
        NegotiationMessage::Request(request) => match &request.opening {
            RequestOpening::Opens(callback) => Some(callback),
            RequestOpening::Counters(_) => None,
        },
        NegotiationMessage::Offer(offer) => match &offer.opening {
            OfferOpening::Opens(callback) => Some(callback),
            OfferOpening::Counters(_) => None,
        },
        NegotiationMessage::Agreement(_)
        | NegotiationMessage::Verification(_)
        | NegotiationMessage::Event(_)
        | NegotiationMessage::Termination(_) => None,
    }
}

/// The caller's negotiation under our name of it; another's does not exist.
async fn negotiation_of(
    node: &Arc<Node>,
    caller: &Caller,
    pid: &str,
) -> Result<negotiation::Negotiation, Error> {
    let unknown = || Error::from(Refusal::new(&negotiation::UNKNOWN_PROCESS, format!("`{pid}`")));
    let found = negotiations::get(node, pid).await.map_err(|_| unknown())?;
    if found.counterparty() == caller.id() { Ok(found) } else { Err(unknown()) }
}

/// The caller's transfer under our name of it; another's does not exist.
async fn transfer_of(
    node: &Arc<Node>,
    caller: &Caller,
    pid: &str,
) -> Result<transfer::TransferProcess, Error> {
    let unknown = || Error::from(Refusal::new(&transfer::UNKNOWN_PROCESS, format!("`{pid}`")));
    let found = transfers::get(node, pid).await.map_err(|_| unknown())?;
    if found.counterparty() == caller.id() { Ok(found) } else { Err(unknown()) }
}

fn negotiation_answer(answer: &negotiations::Answer) -> Value {
    dsp::negotiation::write_process(named(&answer.provider_pid), named(&answer.consumer_pid), answer.state)
}

fn transfer_answer(answer: &transfers::Answer) -> Value {
    dsp::transfer::write_process(named(&answer.provider_pid), named(&answer.consumer_pid), answer.state)
}

/// A process whose peer has not told its name yet still needs two names in the document.
fn named(pid: &str) -> &str {
    if pid.is_empty() { dsp::error::NO_PID } else { pid }
}

const fn created(opens: bool) -> StatusCode {
    if opens { StatusCode::CREATED } else { StatusCode::OK }
}

async fn body(node: &Node, request: Request<Incoming>) -> Result<Value, Error> {
    let limit = node.config.load().limits.message_bytes as usize;
    let too_large = |why: String| Refusal::new(&BODY_TOO_LARGE, why);
    let read = Limited::new(request.into_body(), limit).collect();
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(|_| too_large("too slow".into()))?;
    let bytes = read.map_err(|error| too_large(error.to_string()))?.to_bytes();
    Ok(dsp::parse(&bytes)?)
}

fn refused(area: Area, no: No) -> Response {
    let refusal = no.error.into_refusal();
    tracing::info!(code = refusal.code.code, detail = %refusal.detail, "refused an HTTP request");
    metrics::refused(refusal.code.code);
    let status = match dsp::error::status(&refusal) {
        // The sender cannot mend this by waiting.
        _ if refusal.code == &BODY_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        _ if refusal.code == &range::BAD_RANGE => StatusCode::RANGE_NOT_SATISFIABLE,
        status => StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    };
    json(status, &dsp::error::write(area, &refusal, &no.told))
}

/// A document of the catalogue, compressed for those who take it so.
fn shown(document: &Value, gzip: bool) -> Result<Response, Error> {
    let mut response = json(StatusCode::OK, document);
    let told = response.headers_mut();
    told.insert(header::VARY, header::HeaderValue::from_static("accept-encoding"));
    if gzip {
        told.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static(encoding::GZIP));
        let body = encoding::compressed(document.to_string().as_bytes()).map_err(Error::ours)?;
        *response.body_mut() = Body::from(body);
    }
    Ok(response)
}

fn json(status: StatusCode, document: &Value) -> Response {
    let mut response = Response::new(Body::from(document.to_string()));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
