//! HTTP(S) sources: configured hosts only, at addresses checked before connecting, without redirects or proxies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use policy::refusal::Refusal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::read_ahead::{Gather, changed};
use super::unreadable;
use crate::digest::{ObjectDigests, ObjectHasher};
use crate::error::DataError;
use crate::manifest::{CHUNK_BYTES, MANIFEST_TOO_LARGE, MAX_MANIFEST_BYTES};

policy::refusal_codes! {
    HOST_NOT_ALLOWED = "source/host-not-allowed", Policy,
        "the source's host and port are not configured", "來源的主機與連接埠未經設定", "来源的主机与端口未经配置",
        clause "security model: who is who", next "add the host to the HTTP sources in the configuration";
    ADDRESS_NOT_ALLOWED = "source/address-not-allowed", Policy,
        "the host resolves only to addresses that are not public and not configured",
        "該主機只解析到非公開且未經設定的位址", "该主机只解析到非公开且未经配置的地址",
        clause "security model: who is who", next "if the address is meant, list it at the host in the configuration";
    MALFORMED_URL = "source/malformed-url", Input,
        "the source is not an absolute http or https URL without user and fragment",
        "來源不是絕對的 http 或 https URL，或含有使用者名稱或片段", "来源不是绝对的 http 或 https URL，或含有用户名或片段",
        clause "security model: who is who", next "write it as https://host[:port]/path";
    ANSWER_NOT_USABLE = "source/answer-not-usable", Unavailable,
        "the source answered with something other than the resource", "來源所回應的並非該資源", "来源所回应的并非该资源",
        clause "security model: who is who", next "check that the URL answers 200 itself: redirects and encodings are not followed";
    BAD_ROOTS = "source/malformed-certificates", Input,
        "the certificate authorities for HTTPS sources cannot be read", "無法讀取 HTTPS 來源的憑證機構", "无法读取 HTTPS 来源的证书机构",
        clause "security model: who is who", next "give them as PEM certificates";
}

/// A host is reached within this, or not now.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A source that is silent for longer is given up: the pull can resume.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// What the hashes of one object may take of a manifest.
const MAX_BYTES: u64 = (MAX_MANIFEST_BYTES as u64 / 43) * CHUNK_BYTES as u64;

/// A host from which sources may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHost {
    /// DNS name or address, as it stands in the URL (an IPv6 address without brackets).
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether `http` without TLS is allowed.
    pub plain: bool,
    /// Addresses that may be connected to although they are not public.
    pub addresses: Vec<IpAddr>,
}

pub(super) struct HttpClient {
    hosts: Vec<HttpHost>,
    tls: Arc<rustls::ClientConfig>,
}

/// A response body, read in exact pieces.
pub(crate) struct Body {
    incoming: Incoming,
    left: Bytes,
}

impl HttpClient {
    pub(super) fn new(hosts: &[HttpHost], roots_pem: &[u8]) -> Result<Self, DataError> {
        let bad = |error: &dyn std::fmt::Display| Refusal::new(&BAD_ROOTS, error.to_string());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(roots_pem) {
            let certificate = certificate.map_err(|error| bad(&error))?;
            roots.add(certificate).map_err(|error| bad(&error))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| bad(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { hosts: hosts.to_vec(), tls: Arc::new(tls) })
    }

    /// Reads the whole resource once; also its strong entity tag, if it has one.
    pub(super) async fn digest(&self, url: &str) -> Result<(ObjectDigests, Option<String>), DataError> {
        let (headers, mut body) = self.get(url, |_| {}, StatusCode::OK).await?;
        let mut hasher = ObjectHasher::new();
        let mut total = 0_u64;
        while let Some(piece) = body.piece().await? {
            total = total.saturating_add(piece.len() as u64);
            if total > MAX_BYTES {
                return Err(
                    Refusal::new(&MANIFEST_TOO_LARGE, format!("`{url}`: over {MAX_BYTES} bytes")).into()
                );
            }
            hasher.update(&piece);
        }
        Ok((hasher.finish(), strong_etag(&headers)))
    }

    /// The rest of the resource from `offset`, if it still is the one that was published.
    pub(super) async fn fetch(
        &self,
        url: &str,
        etag: Option<&str>,
        offset: u64,
        size: u64,
    ) -> Result<Body, DataError> {
        let tag = etag.map(HeaderValue::from_str).transpose().map_err(|_| changed())?;
        let range = HeaderValue::from_str(&format!("bytes={offset}-"))
            .map_err(|_| DataError::Crypto("write a range"))?;
        let ask = |headers: &mut HeaderMap| {
            if let Some(tag) = &tag {
                headers.insert(header::IF_MATCH, tag.clone());
            }
            if offset > 0 {
                headers.insert(header::RANGE, range.clone());
            }
        };
        let expected = if offset > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let (headers, body) = self.get(url, ask, expected).await?;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if offset > 0 {
            let due = format!("bytes {offset}-{}/{size}", size.saturating_sub(1));
            if text(header::CONTENT_RANGE) != Some(due.as_str()) {
                return Err(changed());
            }
        }
        let length = size.saturating_sub(offset).to_string();
        if text(header::CONTENT_LENGTH).is_some_and(|stated| stated != length)
            || etag.is_some_and(|etag| strong_etag(&headers).as_deref() != Some(etag))
        {
            return Err(changed());
        }
        Ok(body)
    }

    async fn get(
        &self,
        url: &str,
        ask: impl FnOnce(&mut HeaderMap),
        expected: StatusCode,
    ) -> Result<(HeaderMap, Body), DataError> {
        let target = self.target(url)?;
        let mut request = Request::get(target.path.as_str())
            .header(header::HOST, target.authority.as_str())
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::CONNECTION, "close")
            .header(header::USER_AGENT, "fairlead")
            .body(Empty::<Bytes>::new())
            .map_err(|error| Refusal::new(&MALFORMED_URL, error.to_string()))?;
        ask(request.headers_mut());
        let stream = self.connect(&target).await?;
        let response = if target.tls {
            let name = ServerName::try_from(target.host.host.clone())
                .map_err(|error| Refusal::new(&MALFORMED_URL, error.to_string()))?;
            let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
            let stream = timed(CONNECT_TIMEOUT, url, handshake).await?;
            send(stream, request, url).await?
        } else {
            send(stream, request, url).await?
        };
        let (parts, incoming) = response.into_parts();
        if parts.status == StatusCode::PRECONDITION_FAILED
            || parts.status == StatusCode::RANGE_NOT_SATISFIABLE
            || (expected == StatusCode::PARTIAL_CONTENT && parts.status == StatusCode::OK)
        {
            return Err(changed());
        }
        let encoded = parts.headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity");
        if parts.status != expected || encoded {
            let what = format!("`{url}`: status {}, encoded: {encoded}", parts.status);
            return Err(Refusal::new(&ANSWER_NOT_USABLE, what).into());
        }
        Ok((parts.headers, Body { incoming, left: Bytes::new() }))
    }

    fn target(&self, url: &str) -> Result<Target<'_>, DataError> {
        let malformed = || Refusal::new(&MALFORMED_URL, control_plane::ids::printable(url));
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(malformed().into()),
        };
        let authority = uri.authority().ok_or_else(malformed)?;
        if authority.as_str().contains('@') || url.contains('#') {
            return Err(malformed().into());
        }
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = self
            .hosts
            .iter()
            .find(|host| host.host.eq_ignore_ascii_case(name) && host.port == port && (tls || host.plain))
            .ok_or_else(|| Refusal::new(&HOST_NOT_ALLOWED, format!("{name} port {port}, TLS: {tls}")))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Target { host, tls, authority: authority.as_str().to_owned(), path })
    }

    async fn connect(&self, target: &Target<'_>) -> Result<TcpStream, DataError> {
        let host = &target.host;
        let found: Vec<SocketAddr> = match host.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, host.port)],
            Err(_) => {
                let look_up = tokio::net::lookup_host((host.host.as_str(), host.port));
                timed(CONNECT_TIMEOUT, &host.host, look_up).await?.collect()
            }
        };
        let mut last = DataError::from(Refusal::new(&ADDRESS_NOT_ALLOWED, host.host.clone()));
        for address in found.into_iter().filter(|found| may_connect(host, found.ip())) {
            match timed(CONNECT_TIMEOUT, &host.host, TcpStream::connect(address)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

struct Target<'a> {
    host: &'a HttpHost,
    tls: bool,
    authority: String,
    path: String,
}

impl Body {
    /// Exactly `length` bytes; a body that ends before is a changed source.
    pub(super) async fn read(&mut self, length: usize) -> Result<Bytes, DataError> {
        let mut gather = Gather::new(length);
        while !gather.take(&mut self.left, length) {
            self.left = self.piece().await?.ok_or_else(changed)?;
        }
        Ok(gather.done())
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, DataError> {
        loop {
            let frame = tokio::time::timeout(SILENCE_TIMEOUT, self.incoming.frame())
                .await
                .map_err(|_| unreadable("the source fell silent"))?;
            match frame.transpose().map_err(|error| unreadable(format_args!("body: {error}")))? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

async fn send<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
    url: &str,
) -> Result<http::Response<Incoming>, DataError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| unreadable(format_args!("`{url}`: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Ends with the body: the connection carries this one response.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to a source ended");
        }
    });
    let response = tokio::time::timeout(SILENCE_TIMEOUT, sender.send_request(request))
        .await
        .map_err(|_| unreadable(format_args!("`{url}` does not answer")))?;
    response.map_err(failed)
}

async fn timed<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = std::io::Result<T>>,
) -> Result<T, DataError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|error| unreadable(format_args!("`{what}`: {error}"))),
        Err(_) => Err(unreadable(format_args!("`{what}` does not answer"))),
    }
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(header::ETAG)?.to_str().ok()?;
    tag.starts_with('"').then(|| tag.to_owned())
}

fn may_connect(host: &HttpHost, address: IpAddr) -> bool {
    host.addresses.contains(&address) || is_public(address)
}

/// Whether an address is one of the global unicast internet. Forms that carry another address are not: what they
/// lead to depends on the network.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !special
}

/// RFC 4291 global unicast is `2000::/3`; within it Teredo and other special purposes (`2001::/23`), documentation
/// (`2001:db8::/32`, `3fff::/20`) and 6to4 (`2002::/16`) are not. NAT64, mapped, ULA and link-local lie outside.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let unicast = first & 0xe000 == 0x2000;
    let special = (first == 0x2001 && (second < 0x0200 || second == 0x0db8))
        || first == 0x2002
        || (first == 0x3fff && second < 0x1000);
    unicast && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses() {
        for (address, public) in [
            ("1.1.1.1", true),
            ("147.8.2.58", true),
            ("2400:3200::1", true),
            ("2001:200::1", true),
            ("2001:da8::1", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:1.1.1.1", false),
            ("::ffff:127.0.0.1", false),
            ("64:ff9b::a00:1", false),
            ("64:ff9b:1::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("2002:a00:1::1", false),
            ("3fff::1", false),
            ("fc00::1", false),
            ("fd12::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn targets() {
        let host = |host: &str, port, plain| HttpHost { host: host.into(), port, plain, addresses: vec![] };
        let client =
            HttpClient::new(&[host("data.example", 443, false), host("::1", 8080, true)], b"").unwrap();
        for (url, code) in [
            ("https://data.example/a?b", None),
            ("https://DATA.example:443/a", None),
            ("http://[::1]:8080/", None),
            ("https://data.example:444/a", Some(&HOST_NOT_ALLOWED)),
            ("http://data.example:443/a", Some(&HOST_NOT_ALLOWED)),
            ("https://data.example.evil/a", Some(&HOST_NOT_ALLOWED)),
            ("https://data.example@evil/a", Some(&MALFORMED_URL)),
            ("https://evil#@data.example/a", Some(&MALFORMED_URL)),
            ("ftp://data.example/a", Some(&MALFORMED_URL)),
            ("file:///etc/passwd", Some(&MALFORMED_URL)),
            ("/a", Some(&MALFORMED_URL)),
            ("", Some(&MALFORMED_URL)),
        ] {
            let refusal = client.target(url).err().map(|error| error.into_refusal().code);
            assert_eq!(refusal, code, "{url}");
        }
    }

    #[test]
    fn damaged_roots_are_refused() {
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = HttpClient::new(&[], pem).err().unwrap();
        assert_eq!(error.into_refusal().code, &BAD_ROOTS);
    }
}
