//! Where pushed data arrives: a web server that takes objects as fast as a test lets it, with the answers it is told.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex};

use rustls::ServerConfig;

use crate::outsider::{head, over_tls};
use crate::stranger::Credentials;
use crate::wait::until;

/// Bytes read at once, so that the gate is looked at often enough.
const PIECE: usize = 64 * 1024;

/// One request: as much of it as came.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    /// Method and path.
    pub request: String,
    /// The header lines in lower case.
    pub headers: Vec<String>,
    /// What the sender promised.
    pub length: usize,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the connection ended, or the whole body came.
    pub ended: bool,
}

impl Arrived {
    /// Whether the whole body came.
    pub fn is_whole(&self) -> bool {
        self.body.len() == self.length
    }

    /// The value of a header, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// The receiver.
pub struct Receiver {
    scheme: &'static str,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many bytes of a body are read; `None` for all.
    open_to: Option<usize>,
    /// Statuses of the next answers; then 200.
    refusals: VecDeque<u16>,
    arrived: Vec<Arrived>,
}

impl Receiver {
    /// Listens and takes everything.
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
        let shared = Arc::<Shared>::default();
        let theirs = shared.clone();
        // Ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), shared, tls) = (stream, theirs.clone(), tls.clone()) else { return };
                // A sender that goes away is the test's business.
                std::thread::spawn(move || {
                    drop(match tls {
                        Some(tls) => over_tls(stream, tls).and_then(|stream| take(stream, &shared)),
                        None => take(stream, &shared),
                    });
                });
            }
        });
        Self { scheme, address, shared }
    }

    /// Where data may be sent.
    pub fn url(&self) -> String {
        format!("{}://{}/in", self.scheme, self.address)
    }

    /// The same by the name `localhost`.
    pub fn url_by_name(&self) -> String {
        format!("{}://localhost:{}/in", self.scheme, self.address.port())
    }

    /// Answers the next requests with these statuses.
    pub fn refuses(&self, statuses: &[u16]) {
        self.shared.state.lock().expect("no reader panics").refusals.extend(statuses);
    }

    /// Reads no more than so many bytes of a body, or all with `None`.
    pub fn open_to(&self, bytes: Option<usize>) {
        self.shared.state.lock().expect("no reader panics").open_to = bytes;
        self.shared.changed.notify_all();
    }

    /// Everything that came, in the order of the first bytes.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.shared.state.lock().expect("no reader panics").arrived.clone()
    }

    /// Waits until what arrived is as wanted.
    #[track_caller]
    pub fn awaits(&self, what: &str, which: impl Fn(&[Arrived]) -> bool) -> Vec<Arrived> {
        until(&format!("the receiver has {what}"), || Some(self.arrived()).filter(|all| which(all)))
    }
}

fn take(stream: impl Read + Write, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    // A sender that does not like our certificate says nothing at all.
    if reader.fill_buf()?.is_empty() {
        return Ok(());
    }
    let (first, headers) = head(&mut reader);
    let request = first.rsplit_once(' ').map_or(first.clone(), |(request, _)| request.to_owned());
    let mut arrived = Arrived { request, headers, ..Arrived::default() };
    arrived.length = arrived.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let (length, place, refusal) = {
        let mut state = shared.state.lock().expect("no reader panics");
        let length = arrived.length;
        state.arrived.push(arrived);
        (length, state.arrived.len() - 1, state.refusals.pop_front())
    };
    let (mut read, mut piece) = (0, vec![0; PIECE]);
    while read < length {
        let closed = |state: &mut State| state.open_to.is_some_and(|open_to| open_to <= read);
        let state = shared.state.lock().expect("no reader panics");
        drop(shared.changed.wait_while(state, closed).expect("no reader panics"));
        let got = reader.read(&mut piece).unwrap_or(0);
        if got == 0 {
            break;
        }
        shared.state.lock().expect("no reader panics").arrived[place].body.extend_from_slice(&piece[..got]);
        read += got;
    }
    shared.state.lock().expect("no reader panics").arrived[place].ended = true;
    let stream = reader.get_mut();
    write!(
        stream,
        "HTTP/1.1 {} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        refusal.unwrap_or(200)
    )?;
    stream.flush()
}
