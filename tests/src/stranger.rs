//! Callers that do not keep to the rules: any certificate or none, any statement, any bytes in any order.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::minting::Minted;
use identity::{CertificateDer, StoredIdentity};
use prost::Message;
use proto::identity::{ExchangeRequest, ExchangeResponse};
use proto::status::{RemoteRefusal, from_status};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::{Code, Status};

/// No answer of ours takes this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A certificate chain with its key.
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// A server that shows them, to whoever connects, and asks for nothing.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 is there")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .expect("the key fits its certificate");
        Arc::new(config)
    }
}

impl From<Minted> for Credentials {
    fn from(minted: Minted) -> Self {
        Self { key: pkcs8(&minted.key), chain: minted.chain }
    }
}

impl From<StoredIdentity> for Credentials {
    fn from(stored: StoredIdentity) -> Self {
        Self { key: pkcs8(&stored.key), chain: stored.chain }
    }
}

fn pkcs8(key: &identity::ConnectorKey) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(key.to_pem().expose().as_bytes()).expect("a key that was written reads")
}

/// An open HTTP/2 connection on which anything may be called.
pub struct Caller {
    requests: SendRequest<Full<Bytes>>,
}

/// What came back from a call.
#[derive(Debug)]
pub struct Answer {
    /// The gRPC status, from headers or trailers.
    pub status: Status,
    /// The messages, without their frames.
    pub messages: Vec<Bytes>,
}

impl Answer {
    /// What the status says in our terms.
    pub fn refusal(&self) -> RemoteRefusal {
        from_status(&self.status)
    }
}

impl Caller {
    /// Connects with TLS: whoever answers is taken, and these credentials are shown, or none.
    ///
    /// In TLS 1.3 this end is done before the other has judged the certificate: a refusal shows with the first call.
    pub async fn connect(address: &str, credentials: Option<&Credentials>) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(Arc::new(config(credentials)));
        let stream = connector.connect(identity::tls::server_name(), socket).await?;
        Self::over(stream).await
    }

    /// Connects to an administration socket.
    pub async fn local(socket: &Path) -> io::Result<Self> {
        Self::over(UnixStream::connect(socket).await?).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<Self> {
        let (requests, connection) = Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { requests })
    }

    /// Sends these bytes as the whole body of a call. An error is the end of the connection, not an answer.
    pub async fn send(&mut self, path: &str, body: Bytes) -> io::Result<Answer> {
        self.send_as(path, body, "application/grpc").await
    }

    /// As [`Caller::send`], with another content type.
    pub async fn send_as(&mut self, path: &str, body: Bytes, content_type: &str) -> io::Result<Answer> {
        let request = Request::post(format!("http://participant.invalid{path}"))
            .header(header::CONTENT_TYPE, content_type)
            .header(header::TE, "trailers")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, self.answer(request));
        answered.await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("{path}: no answer")))?
    }

    async fn answer(&mut self, request: Request<Full<Bytes>>) -> io::Result<Answer> {
        self.requests.ready().await.map_err(io::Error::other)?;
        let response = self.requests.send_request(request).await.map_err(io::Error::other)?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.map_err(io::Error::other)?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let status = status(&parts.headers)
            .or_else(|| status(&trailers))
            .unwrap_or_else(|| Status::unknown(format!("HTTP {} without a gRPC status", parts.status)));
        Ok(Answer { status, messages: unframe(collected.to_bytes()) })
    }

    /// Calls with one message and expects one in answer.
    pub async fn call<A: Message + Default>(
        &mut self,
        path: &str,
        message: &impl Message,
    ) -> Result<A, Status> {
        let body = frame(&message.encode_to_vec());
        let answer = self.send(path, body).await.map_err(|error| Status::unavailable(error.to_string()))?;
        if answer.status.code() != Code::Ok {
            return Err(answer.status);
        }
        let first = answer.messages.first().ok_or_else(|| Status::internal("no message"))?;
        A::decode(first.as_ref()).map_err(|error| Status::internal(error.to_string()))
    }

    /// The exchange of identities, with any statement, as a connector that enforces what ours does.
    pub async fn exchange(&mut self, statement: &str) -> Result<ExchangeResponse, Status> {
        self.exchange_telling(statement, connector::enforceable::told()).await
    }

    /// The exchange of identities, with any statement and any word about what is enforced.
    pub async fn exchange_telling(
        &mut self,
        statement: &str,
        enforces: Vec<String>,
    ) -> Result<ExchangeResponse, Status> {
        let request = ExchangeRequest { statement: statement.to_owned(), enforces, ..Default::default() };
        self.call("/fairlead.identity.v1.IdentityService/Exchange", &request).await
    }
}

/// Gets a path over HTTPS with these credentials and this `Authorization`, or none; gives the status.
///
/// An error is the end of the connection, not an answer.
pub async fn get_over_https(
    address: &str,
    credentials: Option<&Credentials>,
    authorization: Option<&str>,
    path: &str,
) -> io::Result<u16> {
    send_over_https(address, credentials, authorization, "GET", path, None).await.map(|(status, _)| status)
}

/// As [`get_over_https`], with any method and with JSON as body; gives status and answer.
///
/// An error is the end of the connection, not an answer.
pub async fn send_over_https(
    address: &str,
    credentials: Option<&Credentials>,
    authorization: Option<&str>,
    method: &str,
    path: &str,
    body: Option<&serde_json::Value>,
) -> io::Result<(u16, Bytes)> {
    let socket = TcpStream::connect(address).await?;
    let mut config = config(credentials);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TlsConnector::from(Arc::new(config)).connect(identity::tls::server_name(), socket).await?;
    let (mut requests, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, address);
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map(serde_json::Value::to_string).unwrap_or_default();
    let request = request.body(Full::<Bytes>::from(body)).map_err(io::Error::other)?;
    let answered = async {
        let (parts, body) = requests.send_request(request).await.map_err(io::Error::other)?.into_parts();
        Ok((parts.status.as_u16(), body.collect().await.map_err(io::Error::other)?.to_bytes()))
    };
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
    answered.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("{path}: no answer")))?
}

/// A message as gRPC frames it.
pub fn frame(message: &[u8]) -> Bytes {
    framed(0, u32::try_from(message.len()).expect("a message of a test"), message)
}

/// A frame that may lie about its compression and length.
pub fn framed(flag: u8, length: u32, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(flag);
    bytes.put_u32(length);
    bytes.put_slice(message);
    bytes.freeze()
}

fn unframe(mut body: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while body.len() >= 5 {
        let head = body.split_to(5);
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        messages.push(body.split_to(length.min(body.len())));
    }
    messages
}

fn status(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

fn config(credentials: Option<&Credentials>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3 is there")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let mut config = match credentials {
        None => builder.with_no_client_auth(),
        Some(Credentials { chain, key }) => builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .expect("the key fits its certificate"),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Takes whoever answers: what is tested is the other side's judgement.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
