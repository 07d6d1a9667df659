//! One HTTP request to a peer, at an address that was checked before it is connected to: no redirects, no proxies.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_plane::Refusal;
use control_plane::ids::{ParticipantId, printable};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::http::request::Builder;
use hyper::{HeaderMap, Request, Response, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::{ADDRESS_NOT_USABLE, encoding};
use crate::config::{DspHttp, DspIdentity};
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    NOT_REACHED = "dsp/peer-not-reached", Unavailable,
        "the peer's HTTP address cannot be reached", "無法連接對方的 HTTP 位址", "无法连接对方的 HTTP 地址",
        clause "security model: who is who", next "nothing: the message is sent again; check the address if this lasts";
    BAD_ANSWER = "dsp/bad-answer", Unavailable,
        "the peer's answer is too large, wrongly compressed or no JSON object", "對方的回應過大、壓縮有誤或不是 JSON 物件",
        "对方的回应过大、压缩有误或不是 JSON 对象",
        clause "DSP 2025-1, 1.3", next "nothing: the message is sent again; tell the peer's operator if this lasts";
}

/// A host is reached within this, or not now.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A certificate check and two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses tried of what one name resolves to.
const MAX_RESOLVED: usize = 8;
/// An acknowledgement or an error object, with much room for reasons.
pub const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// What was answered.
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Posts JSON to `peer` and takes at most `max_answer` bytes, compressed or not; over TLS the other end must be exactly that
/// participant.
///
/// # Errors
/// [`NOT_REACHED`], [`BAD_ANSWER`], [`ADDRESS_NOT_USABLE`], or why its certificate was refused.
pub async fn post(
    node: &Node,
    settings: &DspHttp,
    peer: &ParticipantId,
    url: &str,
    body: Vec<u8>,
    max_answer: usize,
) -> Result<Answer, Error> {
    let target = target(settings, url)?;
    let mut request = Request::post(target.path.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::ACCEPT_ENCODING, encoding::GZIP);
    let (stream, shown) = connected(node, settings, Receiver::Member(peer), &target).await?;
    if let Some(shown) = shown {
        let credential = super::proof::credential(node, peer, shown.certificate())?;
        request = request.header(header::AUTHORIZATION, format!("Bearer {credential}"));
    }
    let request = named(request, &target).body(Full::<Bytes>::from(body)).map_err(Error::ours)?;
    let (answer, _driven) = exchange(stream, request).await?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, max_answer).collect().await;
    let body = body.map_err(|error| Refusal::new(&BAD_ANSWER, error.to_string()))?.to_bytes();
    let body = encoding::decoded(&parts.headers, body, max_answer)?;
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// Who must be at the other end of TLS.
pub enum Receiver<'a> {
    /// Exactly this member of our data space.
    Member(&'a ParticipantId),
    /// Whoever has a certificate for the host's name under the roots of this configuration.
    Host(Arc<rustls::ClientConfig>),
}

/// Sends `body` with the method and headers of `request` to `url`, and takes the status: the rest of an answer is nobody's
/// business. Dropped, it closes the connection.
///
/// # Errors
/// [`NOT_REACHED`], [`ADDRESS_NOT_USABLE`], or why a certificate was refused.
pub async fn push<B>(
    node: &Node,
    settings: &DspHttp,
    receiver: Receiver<'_>,
    url: &str,
    request: Builder,
    body: B,
) -> Result<u16, Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let target = target(settings, url)?;
    let (stream, _) = connected(node, settings, receiver, &target).await?;
    let request = named(request.uri(target.path.as_str()), &target).body(body).map_err(Error::ours)?;
    let (answer, _driven) = exchange(stream, request).await?;
    Ok(answer.status().as_u16())
}

fn named(request: Builder, target: &Target) -> Builder {
    request.header(header::HOST, target.authority.as_str()).header(header::USER_AGENT, "fairlead")
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// A connection to the target, and to a member what of ours was shown on it.
async fn connected(
    node: &Node,
    settings: &DspHttp,
    receiver: Receiver<'_>,
    target: &Target,
) -> Result<(Box<dyn Io>, Option<Arc<super::proof::Shown>>), Error> {
    let stream = connect(settings, target).await?;
    let (mut config, name) = match (&settings.identity, receiver) {
        (DspIdentity::Test(_), _) => return Ok((Box::new(stream), None)),
        (DspIdentity::Members(_), Receiver::Member(peer)) => {
            ((*node.identity.client_config(peer)?).clone(), identity::tls::server_name())
        }
        (DspIdentity::Members(_), Receiver::Host(config)) => {
            let name = ServerName::try_from(target.host.clone());
            ((*config).clone(), name.map_err(|_| Refusal::new(&ADDRESS_NOT_USABLE, "no name of a host"))?)
        }
    };
    config.alpn_protocols = vec![super::server::ALPN_HTTP1.to_vec()];
    let shown = super::proof::watch(&mut config);
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(|_| not_reached("the TLS handshake took too long"))?
        .map_err(|error| match crate::transport::tls_refusal(&error) {
            Some(refusal) => refusal,
            None => not_reached(error),
        })?;
    Ok((Box::new(stream), Some(shown)))
}

/// Sends a request; its connection lives as long as the set beside the answer.
async fn exchange<B>(
    stream: Box<dyn Io>,
    request: Request<B>,
) -> Result<(Response<Incoming>, JoinSet<()>), Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(not_reached)?;
    let mut driven = JoinSet::new();
    driven.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a connection to a peer ended");
        }
    });
    Ok((sender.send_request(request).await.map_err(not_reached)?, driven))
}

fn not_reached(cause: impl std::fmt::Display) -> Refusal {
    Refusal::new(&NOT_REACHED, cause.to_string())
}

/// An address that may be called.
struct Target {
    host: String,
    port: u16,
    authority: String,
    path: String,
}

/// Refuses an address that must not be called, as far as its text tells.
///
/// # Errors
/// [`ADDRESS_NOT_USABLE`].
pub fn require_usable(settings: &DspHttp, url: &str) -> Result<(), Refusal> {
    if url.contains('?') {
        return Err(Refusal::new(&ADDRESS_NOT_USABLE, format!("`{}`: a query", shown(url))));
    }
    require_target(settings, url)
}

/// As [`require_usable`], for an address that may have a query.
///
/// # Errors
/// [`ADDRESS_NOT_USABLE`].
pub fn require_target(settings: &DspHttp, url: &str) -> Result<(), Refusal> {
    target(settings, url).map(drop)
}

fn target(settings: &DspHttp, url: &str) -> Result<Target, Refusal> {
    let refuse = |why: &str| Refusal::new(&ADDRESS_NOT_USABLE, format!("`{}`: {why}", shown(url)));
    let uri: Uri = url.parse().map_err(|_| refuse("no URL"))?;
    let authority = uri.authority().ok_or_else(|| refuse("not absolute"))?;
    if authority.as_str().contains('@') || url.contains('#') {
        return Err(refuse("user or fragment"));
    }
    let default = match (uri.scheme_str(), &settings.identity) {
        (Some("https"), DspIdentity::Members(_)) => 443,
        (Some("http"), DspIdentity::Test(_)) if super::is_local_name(authority.host()) => 80,
        (Some("http"), DspIdentity::Test(_)) => return Err(refuse("a test stays on this machine")),
        (_, DspIdentity::Test(_)) => return Err(refuse("a test speaks http")),
        (_, DspIdentity::Members(_)) => return Err(refuse("only https")),
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    // A name is judged by what it resolves to when it is connected to.
    if host.parse().is_ok_and(|address| !may_call(settings, address)) {
        return Err(refuse("not an address to be called"));
    }
    Ok(Target {
        host: host.to_owned(),
        port: authority.port_u16().unwrap_or(default),
        authority: authority.as_str().to_owned(),
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
    })
}

/// An address for the log: a user or a query may be a secret.
pub fn shown(url: &str) -> String {
    let (bare, _) = url.split_once(['?', '#']).unwrap_or((url, ""));
    printable(bare.rsplit_once('@').map_or(bare, |(_, rest)| rest))
}

/// Connects to what the name resolves to now, if that may be called: a name cannot be moved behind the check.
async fn connect(settings: &DspHttp, target: &Target) -> Result<TcpStream, Error> {
    let found =
        tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((target.host.as_str(), target.port)));
    let found: Vec<SocketAddr> = found
        .await
        .map_err(|_| not_reached("the name is not resolved in time"))?
        .map_err(not_reached)?
        .take(MAX_RESOLVED)
        .collect();
    let allowed = found.iter().filter(|found| may_call(settings, found.ip()));
    let mut last =
        Refusal::new(&ADDRESS_NOT_USABLE, format!("`{}` resolves to no address to be called", target.host));
    for address in allowed {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(not_reached)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = not_reached(format!("{address}: {error}")),
            Err(_) => last = not_reached(format!("{address}: no answer")),
        }
    }
    Err(last.into())
}

fn may_call(settings: &DspHttp, address: IpAddr) -> bool {
    match settings.identity {
        DspIdentity::Test(_) => address.is_loopback(),
        DspIdentity::Members(_) => settings.private_addresses || data_plane::is_public(address),
    }
}
