//! HttpData-PUSH: where a consumer wants its data sent, and the one request that sends an object there.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use control_plane::Refusal;
use control_plane::ids::{ParticipantId, printable};
use control_plane::transfer::{DataAddress, TransferRequest};
use data_plane::{Egress, ManifestObject};
use dsp::HTTP_PUSH;
use dsp::transfer::{AUTH_TYPE, AUTHORIZATION, HTTP_ENDPOINT};
use futures::{Stream, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{AUTHORIZATION as AUTHORIZATION_HEADER, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::client::{self, Receiver};
use crate::config::DspHttp;
use crate::data::provider::data_error;
use crate::error::Error;
use crate::node::Node;
use crate::telemetry::metrics;

control_plane::refusal_codes! {
    ADDRESS_MISSING = "dsp/push-address-missing", Input,
        "a push needs the address to send the data to", "推送須附上接收資料的位址", "推送须附上接收数据的地址",
        clause "DSP 2025-1, 1.5: dataAddress", next "send `dataAddress` with the request, or ask for HttpData-PULL";
    ADDRESS_WITHOUT_PUSH = "dsp/address-without-push", Input,
        "only a request for a push brings an address", "只有推送請求才附上位址", "只有推送请求才附上地址",
        clause "DSP 2025-1, 1.5: dataAddress", next "leave `dataAddress` out, or ask for HttpData-PUSH";
    ADDRESS_NOT_UNDERSTOOD = "dsp/push-address-not-understood", Input,
        "this connector cannot send to such an address", "此連接器無法向此類位址傳送", "此连接器无法向此类地址发送",
        clause "DSP 2025-1, 1.4: dataAddress", next "give the endpoint type of HTTP, `authType` bearer or basic, `method` POST or PUT";
    NO_ROOTS = "dsp/push-roots-unreadable", State,
        "the roots that the receiver would be known by cannot be read", "無法讀取用以識別接收方的根憑證",
        "无法读取用以识别接收方的根证书",
        clause "settings: peers.push_roots", next "name a readable PEM file of CA certificates under `push_roots` of the peer";
    REFUSED = "dsp/push-refused", Policy,
        "the receiver refuses the data", "接收方拒絕接收資料", "接收方拒绝接收数据",
        clause "RFC 9110, 15.5", next "ask the consumer; it may request the transfer anew with another `dataAddress`";
    NOT_TAKEN = "dsp/push-not-taken", Unavailable,
        "the receiver has not taken the data", "接收方未能接收資料", "接收方未能接收数据",
        clause "RFC 9110, 15.6", next "nothing: the object is sent again; tell the consumer if this lasts";
}

/// How a pushed object is sent, unless the address says otherwise.
const METHOD: &str = "method";
/// A receiver that takes nothing for this long, or does not answer, is taken for gone and sent to again.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// An address that may be sent to, as far as its text tells.
pub struct Destination {
    url: Zeroizing<String>,
    method: Method,
    authorization: Option<HeaderValue>,
}

impl Destination {
    /// Reads what a consumer asks to send to. Where its name leads is checked when it is connected to.
    ///
    /// # Errors
    /// [`ADDRESS_NOT_UNDERSTOOD`] or [`super::ADDRESS_NOT_USABLE`].
    pub fn read(settings: &DspHttp, address: &DataAddress) -> Result<Self, Refusal> {
        let refuse = |why: String| Refusal::new(&ADDRESS_NOT_UNDERSTOOD, why);
        if address.endpoint_type() != HTTP_ENDPOINT {
            return Err(refuse(format!("endpoint type `{}`", printable(address.endpoint_type()))));
        }
        client::require_target(settings, address.endpoint())?;
        let property = |name: &str| address.properties().get(name).map(String::as_str);
        let method = match property(METHOD).map(str::to_ascii_uppercase).as_deref() {
            None | Some("POST") => Method::POST,
            Some("PUT") => Method::PUT,
            Some(other) => return Err(refuse(format!("method `{}`", printable(other)))),
        };
        let scheme = match property(AUTH_TYPE).map(str::to_ascii_lowercase).as_deref() {
            None | Some("bearer") => "Bearer",
            Some("basic") => "Basic",
            Some(other) => return Err(refuse(format!("`authType` `{}`", printable(other)))),
        };
        let authorization = match property(AUTHORIZATION) {
            None => None,
            Some(secret) => {
                let named =
                    secret.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
                        && secret.get(scheme.len()..).is_some_and(|rest| rest.starts_with(' '));
                let text = if named { secret.to_owned() } else { format!("{scheme} {secret}") };
                let mut value = HeaderValue::from_str(&Zeroizing::new(text))
                    .map_err(|_| refuse("`authorization` is no header value".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { url: Zeroizing::new(address.endpoint().to_owned()), method, authorization })
    }

    /// Where object `index` of `objects` goes: a single one to the address itself, each of several below it.
    fn url(&self, index: u32, objects: usize) -> Zeroizing<String> {
        if objects == 1 {
            return self.url.clone();
        }
        let (path, query) = self.url.split_at(self.url.find('?').unwrap_or(self.url.len()));
        Zeroizing::new(format!("{}/{index}{query}", path.trim_end_matches('/')))
    }
}

/// Refuses a request whose address does not fit its format, or must not be sent to.
///
/// # Errors
/// [`ADDRESS_MISSING`], [`ADDRESS_WITHOUT_PUSH`], [`super::NOT_SPOKEN`], or what [`Destination::read`] refuses.
pub fn require_fit(node: &Node, request: &TransferRequest) -> Result<(), Refusal> {
    match (&request.data_address, request.format == HTTP_PUSH) {
        (None, false) => Ok(()),
        (None, true) => Err(Refusal::new(&ADDRESS_MISSING, "")),
        (Some(_), false) => {
            Err(Refusal::new(&ADDRESS_WITHOUT_PUSH, format!("`{}`", printable(&request.format))))
        }
        (Some(address), true) => {
            let config = node.config.load();
            let settings = config.dsp_http.as_ref().ok_or_else(|| Refusal::new(&super::NOT_SPOKEN, ""))?;
            Destination::read(settings, address).map(drop)
        }
    }
}

/// One object of a push.
pub struct Object<'a> {
    /// Its place in the manifest.
    pub index: u32,
    /// How many the manifest has.
    pub of: usize,
    /// What the manifest says about it.
    pub described: &'a ManifestObject,
}

/// Sends an object from its first byte; the receiver has taken it when this returns.
///
/// # Errors
/// [`REFUSED`] for what the receiver will never take, [`NOT_TAKEN`] for what it may take later, why it cannot be reached,
/// or why bytes must not flow any more.
pub async fn send(
    node: &Node,
    settings: &DspHttp,
    peer: &ParticipantId,
    destination: &Destination,
    object: Object<'_>,
    egress: Egress,
) -> Result<(), Error> {
    let url = destination.url(object.index, object.of);
    let media_type = object.described.media_type().and_then(|text| HeaderValue::from_str(text).ok());
    let media_type = media_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let checksum = STANDARD.encode(object.described.checksum().as_bytes());
    let mut request = Request::builder()
        .method(destination.method.clone())
        .header(CONTENT_TYPE, media_type)
        .header(CONTENT_LENGTH, object.described.size())
        // RFC 9530: the receiver can compare.
        .header("content-digest", format!("sha-256=:{checksum}:"));
    if let Some(authorization) = &destination.authorization {
        request = request.header(AUTHORIZATION_HEADER, authorization);
    }
    let sent = Arc::new(Sent::default());
    sent.ended.store(object.described.size() == 0, Ordering::SeqCst);
    let mut watch = egress.watch();
    let body = StreamBody::new(frames(egress, sent.clone())).boxed_unsync();
    let roots = receiver_roots(node, peer).await?;
    let receiver = match roots {
        Some(config) => Receiver::Host(config),
        None => Receiver::Member(peer),
    };
    let answered = tokio::select! {
        biased;
        reason = watch.stopped() => return Err(reason.into()),
        answered = client::push(node, settings, receiver, &url, request, body) => answered,
        () = sent.silence() => Err(Refusal::new(&NOT_TAKEN, "the receiver is silent").into()),
    };
    // A body that ended early ends the request, too: the reason is with the body.
    if let Some(reason) = sent.stopped() {
        return Err(reason.into());
    }
    match answered? {
        200..=299 if sent.ended.load(Ordering::SeqCst) => Ok(()),
        status @ (200..=299) => {
            Err(Refusal::new(&NOT_TAKEN, format!("HTTP {status} before the last byte")).into())
        }
        status @ (408 | 425 | 429 | 500..) => Err(Refusal::new(&NOT_TAKEN, format!("HTTP {status}")).into()),
        status => Err(Refusal::new(&REFUSED, format!("HTTP {status}")).into()),
    }
}

/// What is known of a request under way.
#[derive(Default)]
struct Sent {
    chunks: AtomicU64,
    ended: AtomicBool,
    refusal: Mutex<Option<Refusal>>,
}

impl Sent {
    /// Ends when no chunk was asked for in the longest silence.
    async fn silence(&self) {
        loop {
            let before = self.chunks.load(Ordering::SeqCst);
            tokio::time::sleep(LONGEST_SILENCE).await;
            if self.chunks.load(Ordering::SeqCst) == before {
                return;
            }
        }
    }

    fn stopped(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The chunks of an object as frames, each released by its own decision.
fn frames(egress: Egress, sent: Arc<Sent>) -> impl Stream<Item = Result<Frame<Bytes>, Refusal>> + Send {
    stream::unfold((egress, sent), |(mut egress, sent)| async move {
        match egress.next().await? {
            Ok(chunk) => {
                metrics::bytes_sent(chunk.data.len() as u64);
                sent.chunks.fetch_add(1, Ordering::SeqCst);
                sent.ended.fetch_or(chunk.last, Ordering::SeqCst);
                Some((Ok(Frame::data(chunk.data)), (egress, sent)))
            }
            Err(error) => {
                let refusal = data_error(error).into_refusal();
                *sent.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.clone());
                Some((Err(refusal), (egress, sent)))
            }
        }
    })
}

/// What the settings say about the receivers of a peer; without it a receiver is the peer itself, with its certificate.
async fn receiver_roots(
    node: &Node,
    peer: &ParticipantId,
) -> Result<Option<Arc<rustls::ClientConfig>>, Error> {
    let config = node.config.load_full();
    match config.peer(peer).and_then(|peer| peer.push_roots.as_deref()) {
        Some(file) => {
            Ok(Some(host_config(file, &tokio::fs::read(file).await.map_err(|error| no_roots(file, error))?)?))
        }
        None => Ok(None),
    }
}

fn no_roots(file: &Path, cause: impl std::fmt::Display) -> Refusal {
    Refusal::new(&NO_ROOTS, format!("`{}`: {cause}", file.display()))
}

fn host_config(file: &Path, pem: &[u8]) -> Result<Arc<rustls::ClientConfig>, Refusal> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| no_roots(file, error))?;
        roots.add(certificate).map_err(|error| no_roots(file, error))?;
    }
    if roots.is_empty() {
        return Err(no_roots(file, "no certificate"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| no_roots(file, error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use control_plane::Code;

    use super::super::ADDRESS_NOT_USABLE;
    use super::*;
    use crate::config::{DspIdentity, Proof, TestIdentity};

    fn settings(identity: DspIdentity) -> DspHttp {
        let listen = "127.0.0.1:0".parse().unwrap();
        DspHttp { listen, base_url: None, name_base: None, identity, private_addresses: false }
    }

    fn members(private_addresses: bool) -> DspHttp {
        DspHttp { private_addresses, ..settings(DspIdentity::Members(Proof::MutualTls)) }
    }

    fn test() -> DspHttp {
        let participant = ParticipantId::parse("https://outsider.example/id").unwrap();
        settings(DspIdentity::Test(TestIdentity { participant, name: None }))
    }

    fn read(settings: &DspHttp, endpoint: &str, properties: &[(&str, &str)]) -> Result<Destination, Refusal> {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Destination::read(settings, &DataAddress::new(HTTP_ENDPOINT, endpoint, properties).unwrap())
    }

    #[track_caller]
    fn check(settings: &DspHttp, endpoint: &str, refused: Option<&'static Code>) {
        assert_eq!(read(settings, endpoint, &[]).err().map(|refusal| refusal.code), refused, "{endpoint}");
    }

    #[test]
    fn addresses_that_may_be_sent_to() {
        let (members, private, test) = (members(false), members(true), test());
        let no = Some(&ADDRESS_NOT_USABLE);
        for (settings, endpoint, refused) in [
            (&members, "https://in.example/x?signature=1", None),
            (&members, "https://192.0.2.0/", no),
            (&members, "https://8.8.8.8/x", None),
            (&members, "http://in.example/x", no),
            (&members, "https://u:p@in.example/x", no),
            (&members, "https://in.example/x#y", no),
            (&members, "/x", no),
            (&members, "ftp://in.example/x", no),
            (&members, "https://127.0.0.1/x", no),
            (&members, "https://10.1.2.3/x", no),
            (&members, "https://169.254.169.254/latest/meta-data", no),
            (&members, "https://[::1]/x", no),
            (&members, "https://[fe80::1]/x", no),
            (&members, "https://[fd00::1]/x", no),
            (&members, "https://[::ffff:10.0.0.1]/x", no),
            (&private, "https://10.1.2.3/x", None),
            (&test, "http://127.0.0.1:1/x", None),
            (&test, "http://192.0.2.1/x", no),
            (&test, "https://127.0.0.1/x", no),
        ] {
            check(settings, endpoint, refused);
        }
    }

    #[test]
    fn what_an_address_says_about_the_request() {
        let settings = members(false);
        let endpoint = "https://in.example/x";
        for (properties, expected) in [
            (&[][..], Some((Method::POST, None))),
            (&[("authorization", "t")], Some((Method::POST, Some("Bearer t")))),
            (
                &[("authorization", "bearer t"), ("authType", "Bearer")],
                Some((Method::POST, Some("bearer t"))),
            ),
            (&[("authorization", "t"), ("authType", "basic")], Some((Method::POST, Some("Basic t")))),
            (&[("method", "put"), ("other", "x")], Some((Method::PUT, None))),
            (&[("method", "DELETE")], None),
            (&[("authType", "digest")], None),
            (&[("authorization", "a\r\nb: c")], None),
        ] {
            let read = read(&settings, endpoint, properties);
            let got = read.map(|read| {
                let shown = read.authorization.map(|value| {
                    assert!(value.is_sensitive());
                    value.to_str().unwrap().to_owned()
                });
                (read.method, shown)
            });
            let got = got.map_err(|refusal| refusal.code);
            let expected = expected.map(|(method, shown)| (method, shown.map(str::to_owned)));
            assert_eq!(got, expected.ok_or(&ADDRESS_NOT_UNDERSTOOD), "{properties:?}");
        }
        let other = DataAddress::new("AmazonS3", endpoint, []).unwrap();
        assert_eq!(Destination::read(&settings, &other).err().unwrap().code, &ADDRESS_NOT_UNDERSTOOD);
    }

    #[test]
    fn refusals_show_no_secret() {
        let members = members(false);
        for endpoint in
            ["http://in.example/x?s3cret", "https://u:s3cret@in.example/x", "https://10.0.0.1/?s3cret#s3cret"]
        {
            let refusal = read(&members, endpoint, &[]).err().unwrap();
            assert!(!refusal.detail.contains("s3cret"), "{}", refusal.detail);
        }
    }

    #[test]
    fn objects_lie_below_the_address() {
        for (endpoint, index, of, expected) in [
            ("https://in.example/x", 0, 1, "https://in.example/x"),
            ("https://in.example/x/", 0, 2, "https://in.example/x/0"),
            ("https://in.example/x?s=/", 1, 2, "https://in.example/x/1?s=/"),
            ("https://in.example", 7, 9, "https://in.example/7"),
        ] {
            let read = read(&members(false), endpoint, &[]).unwrap();
            assert_eq!(read.url(index, of).as_str(), expected);
        }
    }
}
