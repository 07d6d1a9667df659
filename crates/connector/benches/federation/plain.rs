//! The baseline of a read through a use session: the same bytes from a plain file, over the same HTTP.
//!
//! As with the connector, the server is a process of its own. It reads as much at once as the connector does, away from
//! the tasks that serve, and gives it to the same HTTP library as a stream of the same pieces; what it does not do is
//! everything that enforcement is: sealed segments, decisions, the session's token and user.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::reader::Place;

/// What the use endpoint reads at once.
const READ_BYTES: usize = 1024 * 1024;

/// The serving process.
pub struct Server {
    place: Place,
    _process: Child,
}

impl Server {
    /// Starts this program once more to serve `file`.
    pub async fn start(file: &Path) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("serve-plain")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = process.stdout.take().context("the server's output")?;
        let address =
            tokio::io::BufReader::new(out).lines().next_line().await?.context("the server's address")?;
        let place = Place { address, path: "/".to_owned(), token: String::new() };
        Ok(Self { place, _process: process })
    }

    /// Where the file is read.
    pub const fn place(&self) -> &Place {
        &self.place
    }
}

/// The serving process's work: whoever connects and asks gets the whole file.
pub async fn serve(file: &Path) -> anyhow::Result<()> {
    let file = Arc::new(File::open(file)?);
    let size = file.metadata()?.len();
    let listener = TcpListener::bind("[::1]:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        let (socket, _) = listener.accept().await?;
        let file = file.clone();
        let service = service_fn(move |_| {
            let begin = (file.clone(), 0_u64);
            let pieces = stream::try_unfold(begin, move |(file, offset)| async move {
                let bytes = piece(file.clone(), offset, size).await?;
                let next = offset + bytes.len() as u64;
                Ok::<_, std::io::Error>((!bytes.is_empty()).then_some((bytes, (file, next))))
            });
            let mut response = hyper::Response::new(Body::from_stream(pieces));
            response.headers_mut().insert(hyper::header::CONTENT_LENGTH, size.into());
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn piece(file: Arc<File>, offset: u64, size: u64) -> std::io::Result<Bytes> {
    let left = usize::try_from(size - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
    let read = move || {
        let mut piece = vec![0; left];
        file.read_exact_at(&mut piece, offset)?;
        Ok(Bytes::from(piece))
    };
    tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
}
