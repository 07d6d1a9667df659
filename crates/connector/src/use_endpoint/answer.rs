//! Requests to sessions and their objects, and what is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use control_plane::{Fault, Refusal};
use data_plane::ObjectRecord;
use futures::stream;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::{Link, checks};
use crate::data::sessions::{NO_SUCH_SESSION, Session};
use crate::error::Error;
use crate::http::range::{BAD_RANGE, Range};
use crate::node::Node;

control_plane::refusal_codes! {
    NO_SUCH_RESOURCE = "use/no-such-resource", NotFound,
        "the use endpoint has sessions and their objects, and nothing else", "使用端點只有會話及其物件", "使用端点只有会话及其对象",
        clause "use endpoint", next "GET /sessions/ID, or /sessions/ID/objects/PATH";
    READ_ONLY = "use/read-only", Input,
        "the use endpoint only reads", "使用端點僅供讀取", "使用端点仅供读取",
        clause "use endpoint", next "use GET or HEAD";
    TOO_MANY_READERS = "limit/readers-of-session", Limit,
        "too many programs read in this session", "讀取此會話的程式過多", "读取此会话的程序过多",
        clause "use endpoint", next "let some finish";
}

/// Bytes of one read: a decision window.
const READ_BYTES: usize = 1024 * 1024;
/// The age at which a decision covers no more bytes, as everywhere on the data plane.
const WINDOW: Duration = Duration::from_millis(data_plane::WINDOW_MILLIS.unsigned_abs());

/// The answer to one request.
pub async fn to(node: &Arc<Node>, link: &Link, request: Request<Incoming>) -> Response {
    let head_only = request.method() == Method::HEAD;
    match answer(node, link, &request).await {
        Ok(response) if head_only => response.map(|_| Body::empty()),
        Ok(response) => response,
        Err(refusal) => {
            tracing::info!(code = refusal.code.code, detail = %refusal.detail, "refused a request to the use endpoint");
            refused(&refusal)
        }
    }
}

async fn answer(node: &Arc<Node>, link: &Link, request: &Request<Incoming>) -> Result<Response, Refusal> {
    checks::require_local(request.headers(), request.uri(), link.local)?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::new(&READ_ONLY, request.method().to_string()));
    }
    let nothing = || Refusal::new(&NO_SUCH_RESOURCE, control_plane::ids::printable(request.uri().path()));
    let path = request.uri().path().strip_prefix("/sessions/").ok_or_else(nothing)?;
    let (id, object) = match path.split_once('/') {
        None => (path, None),
        Some((id, rest)) => (id, Some(rest.strip_prefix("objects/").ok_or_else(nothing)?)),
    };
    let id = percent_decode_str(id).decode_utf8().map_err(|_| nothing())?;
    let session = checks::session(node, link, &id, request.headers())?;
    match object {
        None => Ok(json(StatusCode::OK, &described(node, &session))),
        Some(name) => {
            let name = percent_decode_str(name).decode_utf8().map_err(|_| nothing())?;
            let record = session.objects().iter().find(|object| object.name() == name);
            let record = record.ok_or_else(nothing)?.clone();
            let reads = *request.method() == Method::GET;
            send(node, link, session, &record, request.headers(), reads).await
        }
    }
}

/// A session as JSON.
fn described(node: &Node, session: &Session) -> serde_json::Value {
    let objects: Vec<_> = session
        .objects()
        .iter()
        .map(|object| {
            serde_json::json!({
                "path": object.name(), "bytes": object.size(), "digest": object.checksum().to_string(),
                "url": object_url(node, session.id(), object.name()),
            })
        })
        .collect();
    serde_json::json!({
        "session": session.id(),
        "agreement": session.request().agreement.as_str(),
        "validUntil": session.valid_until().map(|until| until.to_string()),
        "renewWithinSeconds": session.life_left().as_secs(),
        "objects": objects,
    })
}

/// Where an object is read; empty while nothing is served.
pub fn object_url(node: &Node, session: &str, name: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    /// All but what a path may hold unescaped (RFC 3986, 3.3); slashes stay parts of the object's path.
    const ESCAPED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
    let Some(bound) = node.use_endpoint.get() else { return String::new() };
    let (session, name) = (utf8_percent_encode(session, ESCAPED), utf8_percent_encode(name, ESCAPED));
    format!("http://{bound}/sessions/{session}/objects/{name}")
}

async fn send(
    node: &Arc<Node>,
    link: &Link,
    session: Arc<Session>,
    record: &ObjectRecord,
    headers: &HeaderMap,
    reads: bool,
) -> Result<Response, Refusal> {
    let tag = format!("\"{}\"", record.checksum());
    let same = |name| {
        let given = headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        given.map(|given| given.split(',').any(|one| one.trim() == tag || one.trim() == "*"))
    };
    if same(header::IF_NONE_MATCH) == Some(true) {
        return Ok(with_tag(empty(StatusCode::NOT_MODIFIED), &tag));
    }
    // A range of another version than the program has is answered whole (RFC 9110, 13.1.5).
    let whole = HeaderMap::new();
    let range = if same(header::IF_RANGE) == Some(false) { &whole } else { headers };
    let range = Range::asked(range, record.size())?;
    // A refusal is an answer of its own, not a body that is cut.
    if reads {
        session.open_object(node, record.name()).await?;
    }
    let reader = session.reader().ok_or_else(|| Refusal::new(&TOO_MANY_READERS, session.id()))?;
    let piece = Piece {
        node: node.clone(),
        session: session.clone(),
        name: record.name().into(),
        offset: range.first,
        end: range.first.saturating_add(range.length),
    };
    let body =
        Sending { ahead: piece.read_ahead(), _cut: Cut::when_stopped(link, &session), _reader: reader };
    let mut response =
        with_tag(Response::new(Body::from_stream(stream::try_unfold(body, Sending::next))), &tag);
    let told = response.headers_mut();
    told.insert(header::CONTENT_LENGTH, HeaderValue::from(range.length));
    if range.partial {
        if let Ok(value) = range.told(record.size()).parse() {
            told.insert(header::CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn with_tag(mut response: Response, tag: &str) -> Response {
    let told = response.headers_mut();
    told.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    told.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // A cache would be a copy outside of every session.
    told.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = tag.parse() {
        told.insert(header::ETAG, value);
    }
    response
}

/// A body under way, with the piece that is read while the one before it is sent. Dropping it ends the reading.
struct Sending {
    /// `None` after the last one.
    ahead: Option<ReadAhead>,
    _cut: Cut,
    _reader: OwnedSemaphorePermit,
}

impl Sending {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Refusal> {
        let Some(ahead) = self.ahead.take() else { return Ok(None) };
        let (read, piece) = ahead.await.map_err(|error| Error::ours(error).into_refusal())?;
        let ReadPiece { bytes, decided } = read?;
        // What waited for a slow program is released under a decision that is as fresh as any.
        if decided.elapsed() < WINDOW {
            piece.session.require_permitted(&piece.node)?;
        } else {
            piece.session.decide_again(&piece.node).await?;
        }
        if !bytes.is_empty() {
            self.ahead = piece.after(bytes.len()).read_ahead();
        }
        Ok((!bytes.is_empty()).then_some((bytes, self)))
    }
}

type ReadAhead = AbortOnDropHandle<(Result<ReadPiece, Refusal>, Piece)>;

/// What comes next of an object.
struct Piece {
    node: Arc<Node>,
    session: Arc<Session>,
    name: Arc<str>,
    offset: u64,
    end: u64,
}

struct ReadPiece {
    bytes: Bytes,
    decided: Instant,
}

impl Piece {
    /// Begins to read it; `None` behind the end.
    fn read_ahead(self) -> Option<ReadAhead> {
        let left = self.end.saturating_sub(self.offset);
        let limit = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
        let read = async move {
            let decided = Instant::now();
            let bytes = self.session.read(&self.node, &self.name, self.offset, limit).await;
            (bytes.map(|bytes| ReadPiece { bytes, decided }), self)
        };
        (left > 0).then(|| AbortOnDropHandle::new(tokio::spawn(read)))
    }

    /// The one after it, of which so many bytes came.
    fn after(self, read: usize) -> Self {
        Self { offset: self.offset.saturating_add(read as u64), ..self }
    }
}

/// Cuts the connection when the session is stopped while a body is on its way: what was read need not be sent.
struct Cut(JoinHandle<()>);

impl Cut {
    fn when_stopped(link: &Link, session: &Session) -> Self {
        let (mut stop, cut) = (session.stop_signal(), link.cut.clone());
        Self(tokio::spawn(async move {
            stop.stopped().await;
            cut.cancel();
        }))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    let told = response.headers_mut();
    told.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    told.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused(refusal: &Refusal) -> Response {
    let code = refusal.code;
    let status = match code.fault {
        _ if code == &checks::BAD_TOKEN => StatusCode::UNAUTHORIZED,
        _ if code == &checks::OTHER_HOST => StatusCode::MISDIRECTED_REQUEST,
        _ if code == &READ_ONLY => StatusCode::METHOD_NOT_ALLOWED,
        _ if code == &BAD_RANGE => StatusCode::RANGE_NOT_SATISFIABLE,
        _ if code == &NO_SUCH_SESSION || code == &NO_SUCH_RESOURCE => StatusCode::NOT_FOUND,
        // Another object is not paid for; the session goes on.
        _ if code == &policy::COUNT_SPENT => StatusCode::FORBIDDEN,
        Fault::Input => StatusCode::BAD_REQUEST,
        Fault::Identity => StatusCode::FORBIDDEN,
        Fault::Limit => StatusCode::TOO_MANY_REQUESTS,
        // The session was there, and is over.
        Fault::Policy | Fault::State | Fault::NotFound if code != &checks::FROM_A_PAGE => StatusCode::GONE,
        Fault::Policy | Fault::State | Fault::NotFound => StatusCode::FORBIDDEN,
        Fault::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Fault::Ours => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let body = serde_json::json!({ "code": code.code, "text": code.en, "detail": refusal.detail, "next": code.next });
    let mut response = json(status, &body);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
