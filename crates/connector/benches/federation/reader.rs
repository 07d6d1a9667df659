//! A program that reads over HTTP as fast as it can, drops what it reads, and knows when the last byte came.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// What the reader takes from its socket at once.
const BLOCK_BYTES: usize = 256 * 1024;
/// An answer's head is far smaller.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Something to be read.
#[derive(Clone)]
pub struct Place {
    /// Where the server listens.
    pub address: String,
    /// Below it.
    pub path: String,
    /// Of the use session.
    pub token: String,
}

impl Place {
    /// The first object of a session that was just opened.
    pub fn of(session: &proto::admin::Session) -> anyhow::Result<Self> {
        let object = session.objects.first().context("a session has an object")?;
        let rest = object.url.strip_prefix("http://").context("the use endpoint speaks HTTP")?;
        let (address, path) = rest.split_once('/').context("a URL has a path")?;
        Ok(Self { address: address.to_owned(), path: format!("/{path}"), token: session.token.clone() })
    }

    /// Reads everything once; gives the time from asking to the last byte.
    pub async fn drop_all(&self, size: u64) -> anyhow::Result<Duration> {
        let mut connection = Connection::open(self).await?;
        let began = Instant::now();
        let read = connection.ask(self, |_| {}).await?;
        let took = began.elapsed();
        ensure!(read == Answer::Whole(size), "{read:?} instead of {size} bytes");
        Ok(took)
    }

    /// Reads again and again until no more comes; gives when the last byte came, and tells the bytes read meanwhile.
    pub async fn read_until_silent(&self, progress: watch::Sender<u64>) -> anyhow::Result<Instant> {
        let mut last = Instant::now();
        let mut connection = Connection::open(self).await?;
        loop {
            let answer = connection
                .ask(self, |read| {
                    last = Instant::now();
                    progress.send_modify(|bytes| *bytes += read as u64);
                })
                .await?;
            if !matches!(answer, Answer::Whole(_)) {
                return Ok(last);
            }
        }
    }
}

/// How an answer ended.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// With as many bytes as it had promised.
    Whole(u64),
    /// In its midst, or before it began.
    Cut,
    /// By a status other than 200.
    Refused,
}

struct Connection {
    stream: TcpStream,
    block: Vec<u8>,
}

impl Connection {
    async fn open(place: &Place) -> anyhow::Result<Self> {
        Ok(Self { stream: TcpStream::connect(&place.address).await?, block: vec![0; BLOCK_BYTES] })
    }

    /// One request, and its answer to the end; `came` hears how many bytes of the body each read brought.
    async fn ask(&mut self, place: &Place, mut came: impl FnMut(usize)) -> anyhow::Result<Answer> {
        let Place { address, path, token } = place;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
        if self.stream.write_all(request.as_bytes()).await.is_err() {
            return Ok(Answer::Cut);
        }
        let mut filled = 0;
        let body = loop {
            ensure!(filled < MAX_HEAD_BYTES, "an answer without the end of its head");
            let room = self.block.get_mut(filled..).unwrap_or_default();
            match self.stream.read(room).await {
                Ok(0) | Err(_) => return Ok(Answer::Cut),
                Ok(read) => filled += read,
            }
            let so_far = self.block.get(..filled).unwrap_or_default();
            if let Some(end) = so_far.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = std::str::from_utf8(self.block.get(..body).unwrap_or_default())?.to_ascii_lowercase();
        if !head.starts_with("http/1.1 200 ") {
            return Ok(Answer::Refused);
        }
        let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length:")) else {
            bail!("an answer without its length");
        };
        let length: u64 = length.trim().parse()?;
        let mut received = (filled - body) as u64;
        if received > 0 {
            came(filled - body);
        }
        while received < length {
            match self.stream.read(&mut self.block).await {
                Ok(0) | Err(_) => return Ok(Answer::Cut),
                Ok(read) => {
                    received += read as u64;
                    came(read);
                }
            }
        }
        Ok(Answer::Whole(received))
    }
}
