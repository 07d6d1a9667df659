//! A peer that speaks only the Dataspace Protocol over plain HTTP: what it posts, and what it is posted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::connector::{Connector, shared_file};
use crate::data::Dataset;
use crate::schemas;
use crate::space::Space;
use crate::stranger::Credentials;
use crate::wait::until;

/// The one participant that everybody on the test listener is.
pub const OUTSIDER: &str = "https://outsider.example/id";
/// Whose listener it is.
pub const US: &str = "https://hong-kong.example/id";

/// A running connector with the test listener; gives its base address.
pub fn with_test_listener(space: &mut Space, steps: &str) -> String {
    let connector = space.enrol("hong-kong");
    connector.settings.more = format!(
        "[negotiation]\nsteps = \"{steps}\"\n[dsp_http]\nlisten = \"127.0.0.1:0\"\nname_base = \"{US}/\"\n\
         identity = {{ mode = \"test\", participant = \"{OUTSIDER}\", name = \"OUTSIDER\" }}\n"
    );
    connector.start();
    base(connector)
}

/// The base address of a running connector with the test listener.
pub fn base(connector: &mut Connector) -> String {
    let listening = connector.process().logged("serving the Dataspace Protocol over HTTP");
    format!("{}/dsp/2025-1", listening["base_url"].as_str().expect("its root"))
}

/// Publishes `name` with these bytes, to be used by anybody for anything.
pub fn publish(connector: &Connector, name: &str, content: &[u8]) {
    std::fs::write(connector.sources().join(name), content).expect("a source is written");
    connector.publish(&free(name), &shared_file(name));
}

/// A dataset that anybody may use for anything.
pub fn free(name: &str) -> Dataset {
    Dataset { action: "odrl:use", constraints: Vec::new(), ..Dataset::research(name) }
}

/// The offer of our catalogue as a message carries it.
#[track_caller]
pub fn offered(base: &str, name: &str) -> Value {
    let dataset = get(&format!("{base}/catalog/datasets/{name}"), "");
    assert_eq!(dataset.status, 200, "{dataset:?}");
    let mut offer = dataset.json()["hasPolicy"][0].clone();
    offer["target"] = json!(name);
    offer
}

/// The context of every message.
const CONTEXT: &str = "https://w3id.org/dspace/2025/1/context.jsonld";

/// Below this path every answer is small on the wire and [`BOMB_BYTES`] long when unpacked.
pub const BOMB: &str = "/bomb";
/// More than a connector of the tests takes as one message.
const BOMB_BYTES: usize = 32 * 1024 * 1024;

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// The header lines in lower case.
    pub headers: Vec<String>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, unpacked if it is compressed.
    #[track_caller]
    pub fn json(&self) -> Value {
        let mut text = String::new();
        let read = if self.is_gzip() {
            GzDecoder::new(self.body.as_slice()).read_to_string(&mut text)
        } else {
            self.body.as_slice().read_to_string(&mut text)
        };
        read.expect("the body is text");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Answer {
    /// Whether the body is compressed.
    pub fn is_gzip(&self) -> bool {
        self.headers.iter().any(|line| line == "content-encoding: gzip")
    }
}

/// The peer: a server that takes everything, and a client.
pub struct Outsider {
    scheme: &'static str,
    address: SocketAddr,
    heard: Heard,
}

/// Paths and messages, each with what is wrong with it.
type Heard = Arc<Mutex<Vec<(String, Value, Result<(), String>)>>>;

impl Outsider {
    /// Listens; every message is acknowledged, an opening one under the pid `urn:uuid:outsider`.
    pub fn listen() -> Self {
        Self::listen_as(None)
    }

    /// Listens over TLS as the holder of these credentials.
    pub fn listen_over_tls(credentials: &Credentials) -> Self {
        Self::listen_as(Some(credentials.server_config()))
    }

    fn listen_as(tls: Option<Arc<ServerConfig>>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound address");
        let heard = Heard::default();
        let theirs = heard.clone();
        // Ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), heard, tls) = (stream, theirs.clone(), tls.clone()) else { return };
                std::thread::spawn(move || {
                    drop(match tls {
                        Some(tls) => over_tls(stream, tls).and_then(|stream| acknowledge(stream, &heard)),
                        None => acknowledge(stream, &heard),
                    });
                });
            }
        });
        Self { scheme, address, heard }
    }

    /// Where it is called back.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Waits for a message on a path that ends like this; gives the whole path and the message.
    #[track_caller]
    pub fn hears(&self, path: &str) -> (String, Value) {
        until(&format!("the outsider is told `{path}`"), || {
            let heard = self.heard.lock().expect("no listener panics").clone();
            valid(&heard);
            heard
                .into_iter()
                .find(|(known, ..)| known.ends_with(path))
                .map(|(path, message, _)| (path, message))
        })
    }

    /// Negotiates for a dataset of the connector at `base` to the end; gives the agreement's id.
    #[track_caller]
    pub fn agrees(&self, base: &str, name: &str) -> String {
        let consumer_pid = format!("n-{name}");
        let opening = message(
            "ContractRequestMessage",
            json!({"consumerPid": consumer_pid, "offer": offered(base, name), "callbackAddress": self.url()}),
        );
        let opened = post(&format!("{base}/negotiations/request"), &opening);
        assert_eq!(opened.status, 201, "{opened:?}");
        let provider_pid = opened.json()["providerPid"].clone();
        let (_, agreed) = self.hears(&format!("{consumer_pid}/agreement"));
        let pids = json!({"providerPid": provider_pid, "consumerPid": consumer_pid});
        let verified = message("ContractAgreementVerificationMessage", pids);
        let provider_pid = provider_pid.as_str().expect("a pid");
        let path = format!("{base}/negotiations/{provider_pid}/agreement/verification");
        assert_eq!(post(&path, &verified).status, 200);
        self.hears(&format!("{consumer_pid}/events"));
        agreed["agreement"]["@id"].as_str().expect("the agreement's id").to_owned()
    }

    /// Forgets what was heard.
    pub fn forget(&self) {
        let mut heard = self.heard.lock().expect("no listener panics");
        valid(&heard);
        heard.clear();
    }
}

/// Whatever was heard keeps to the protocol's schemas, also what no test waited for.
impl Drop for Outsider {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            valid(&self.heard.lock().expect("no listener panics"));
        }
    }
}

fn valid(heard: &[(String, Value, Result<(), String>)]) {
    for (path, message, checked) in heard {
        assert!(checked.is_ok(), "{path}: {checked:?}: {message}");
    }
}

/// A message of this type with these members.
pub fn message(kind: &str, members: Value) -> Value {
    let mut message = members;
    message["@context"] = json!([CONTEXT]);
    message["@type"] = json!(kind);
    message
}

/// Posts JSON.
#[track_caller]
pub fn post(url: &str, body: &Value) -> Answer {
    post_with(url, "", body)
}

/// Posts JSON with further header lines, each with its end.
#[track_caller]
pub fn post_with(url: &str, headers: &str, body: &Value) -> Answer {
    send("POST", url, &format!("content-type: application/json\r\n{headers}"), &body.to_string())
}

/// Gets with further header lines, each with its end.
#[track_caller]
pub fn get(url: &str, headers: &str) -> Answer {
    send("GET", url, headers, "")
}

#[track_caller]
fn send(method: &str, url: &str, headers: &str, body: &str) -> Answer {
    let (authority, path) = parts(url);
    let mut stream = TcpStream::connect(authority).expect("the connector listens");
    ask(&mut stream, method, url, &format!("connection: close\r\n{headers}"), body);
    let mut reader = BufReader::new(stream);
    let (status, headers) = answered(&mut reader);
    let mut body = Vec::new();
    // A pull that is stopped midway ends the connection: what came is what counts.
    drop(reader.read_to_end(&mut body));
    checked(method, path, Answer { status, headers, body })
}

/// A connection that is kept for one request after the other.
pub struct Kept(BufReader<TcpStream>);

impl Kept {
    /// Connects to the listener of this URL.
    #[track_caller]
    pub fn to(url: &str) -> Self {
        let stream = TcpStream::connect(parts(url).0).expect("the connector listens");
        stream.set_nodelay(true).expect("a socket");
        Self(BufReader::new(stream))
    }

    /// Posts JSON.
    #[track_caller]
    pub fn post(&mut self, url: &str, body: &Value) -> Answer {
        self.send("POST", url, "content-type: application/json\r\n", &body.to_string())
    }

    /// Gets.
    #[track_caller]
    pub fn get(&mut self, url: &str) -> Answer {
        self.send("GET", url, "", "")
    }

    #[track_caller]
    fn send(&mut self, method: &str, url: &str, headers: &str, body: &str) -> Answer {
        ask(self.0.get_mut(), method, url, headers, body);
        let (status, headers) = answered(&mut self.0);
        let length = headers.iter().find_map(|line| line.strip_prefix("content-length: "));
        let mut body =
            vec![0; length.and_then(|length| length.parse().ok()).expect("the length of an answer")];
        self.0.read_exact(&mut body).expect("the whole answer");
        checked(method, parts(url).1, Answer { status, headers, body })
    }
}

/// Authority and path, without the slash between them.
#[track_caller]
fn parts(url: &str) -> (&str, &str) {
    url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a plain URL with a path")
}

#[track_caller]
fn ask(stream: &mut TcpStream, method: &str, url: &str, headers: &str, body: &str) {
    let ((authority, path), length) = (parts(url), body.len());
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {authority}\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("the request is sent");
}

#[track_caller]
fn answered(reader: &mut BufReader<TcpStream>) -> (u16, Vec<String>) {
    let (first, headers) = head(reader);
    (first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), headers)
}

/// Whatever is told in the protocol keeps to its schemas.
#[track_caller]
fn checked(method: &str, path: &str, answer: Answer) -> Answer {
    let is_json = answer.headers.iter().any(|line| line == "content-type: application/json");
    if is_json && !path.starts_with("data/") {
        let told = answer.json();
        schemas::check(&told).unwrap_or_else(|why| panic!("{method} {path}: {why}: {told}"));
    }
    answer
}

pub(crate) fn head(reader: &mut impl BufRead) -> (String, Vec<String>) {
    let mut first = String::new();
    reader.read_line(&mut first).expect("a first line");
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header line");
        match line.trim_end() {
            "" => return (first, headers),
            line => headers.push(line.to_ascii_lowercase()),
        }
    }
}

/// The server's end of TLS on a connection.
pub(crate) fn over_tls(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
) -> std::io::Result<StreamOwned<ServerConnection, TcpStream>> {
    Ok(StreamOwned::new(ServerConnection::new(tls).map_err(std::io::Error::other)?, stream))
}

fn acknowledge(stream: impl Read + Write, heard: &Heard) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (first, headers) = head(&mut reader);
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let message: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let pid = |member: &str| message.get(member).cloned().unwrap_or_else(|| json!("urn:uuid:outsider"));
    let answer = json!({"providerPid": pid("providerPid"), "consumerPid": pid("consumerPid")});
    let answer = if message["@type"] == "CatalogRequestMessage" { catalog(&path) } else { answer };
    let link = link(&path, &headers);
    let taken = headers.iter().any(|line| line == "accept-encoding: gzip");
    let packed = match path.as_str() {
        _ if !taken => None,
        path if path.starts_with(BOMB) => Some(gzip(&vec![b' '; BOMB_BYTES])?),
        path if path.ends_with("page=3") => Some(gzip(answer.to_string().as_bytes())?),
        _ => None,
    };
    let encoding = if packed.is_some() { "content-encoding: gzip\r\n" } else { "" };
    let body = packed.unwrap_or_else(|| answer.to_string().into_bytes());
    let checked = schemas::check(&message);
    heard.lock().expect("no listener panics").push((path, message, checked));
    let length = body.len();
    let stream = reader.get_mut();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n{encoding}{link}\r\n"
    )?;
    stream.write_all(&body)?;
    stream.flush()
}

fn gzip(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

/// One dataset a page: two that can be understood, and one that cannot. The last page is compressed.
fn catalog(path: &str) -> Value {
    let (name, operand) = match path.split_once("page=") {
        None => ("D1", "purpose"),
        Some((_, "2")) => ("D2", "phaseOfTheMoon"),
        Some(_) => ("D3", "purpose"),
    };
    let constraint = json!([{"leftOperand": operand, "operator": "eq", "rightOperand": "https://w3id.org/dpv#AcademicResearch"}]);
    let offer = json!({"@id": format!("offer{name}"), "@type": "Offer",
        "permission": [{"action": "use", "constraint": constraint}]});
    let service = json!({"@id": "urn:s", "@type": "DataService", "endpointURL": "http://127.0.0.1"});
    let distribution =
        json!([{"@type": "Distribution", "format": "HttpData-PULL", "accessService": service}]);
    let dataset =
        json!({"@id": name, "@type": "Dataset", "hasPolicy": [offer], "distribution": distribution});
    message("Catalog", json!({"@id": "urn:c", "participantId": "OUTSIDER", "dataset": [dataset]}))
}

/// The way to the next page, as long as there is one.
fn link(path: &str, headers: &[String]) -> String {
    let host = headers.iter().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let next = match path.split_once("?page=") {
        None if path.ends_with("catalog/request") => "2",
        Some((_, "2")) => "3",
        None | Some(_) => return String::new(),
    };
    format!("link: <http://{host}/catalog/request?page={next}>; rel=\"next\"\r\n")
}
