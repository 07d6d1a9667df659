//! One HTTP request to a peer, at an address that was checked before it is connected to: no redirects, no proxies.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use control_plane::Refusal;
use control_plane::ids::{ParticipantId, printable};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{ADDRESS_NOT_USABLE, encoding};
use crate::config::{DspHttp, DspIdentity};
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    NOT_REACHED = "dsp/peer-not-reached", Unavailable,
        "the peer's HTTP address cannot be reached", "無法連接對方的 HTTP 位址", "无法连接对方的 HTTP 地址",
        clause "foundations: dialling", next "nothing: the message is sent again; check the address if this lasts";
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
        .header(header::HOST, target.authority.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::ACCEPT_ENCODING, encoding::GZIP)
        .header(header::USER_AGENT, "fairlead");
    let stream = connect(settings, &target).await?;
    match &settings.identity {
        DspIdentity::Test(_) => {
            let request = request.body(Full::from(body)).map_err(Error::ours)?;
            exchange(stream, request, max_answer).await
        }
        DspIdentity::Members(_) => {
            let mut config = (*node.identity.client_config(peer)?).clone();
            config.alpn_protocols = vec![super::server::ALPN_HTTP1.to_vec()];
            let shown = super::proof::watch(&mut config);
            let handshake =
                TlsConnector::from(std::sync::Arc::new(config)).connect(identity::tls::server_name(), stream);
            let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
                .await
                .map_err(|_| not_reached("the TLS handshake took too long"))?
                .map_err(|error| match crate::transport::tls_refusal(&error) {
                    Some(refusal) => refusal,
                    None => not_reached(error),
                })?;
            let credential = super::proof::credential(node, peer, shown.certificate())?;
            request = request.header(header::AUTHORIZATION, format!("Bearer {credential}"));
            let request = request.body(Full::from(body)).map_err(Error::ours)?;
            exchange(stream, request, max_answer).await
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, max_answer: usize) -> Result<Answer, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(not_reached)?;
    let driven = tokio::spawn(connection);
    let answered = async {
        let (parts, body) = sender.send_request(request).await.map_err(not_reached)?.into_parts();
        let body = Limited::new(body, max_answer).collect().await;
        let body = body.map_err(|error| Refusal::new(&BAD_ANSWER, error.to_string()))?.to_bytes();
        let body = encoding::decoded(&parts.headers, body, max_answer)?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
    .await;
    driven.abort();
    answered
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
        return Err(Refusal::new(&ADDRESS_NOT_USABLE, format!("`{}`: a query", printable(url))));
    }
    target(settings, url).map(drop)
}

fn target(settings: &DspHttp, url: &str) -> Result<Target, Refusal> {
    let refuse = |why: &str| Refusal::new(&ADDRESS_NOT_USABLE, format!("`{}`: {why}", printable(url)));
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
    Ok(Target {
        host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: authority.port_u16().unwrap_or(default),
        authority: authority.as_str().to_owned(),
        path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
    })
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
